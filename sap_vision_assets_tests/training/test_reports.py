"""What a person or Dagster sees of a training while it runs."""

import json
import os
import pty
from pathlib import Path

import pytest
from dagster_pipes import encode_param

from sap_vision_assets.training import worker
from sap_vision_assets.training.console import TrainingBar, describe
from sap_vision_assets_tests.training.making import make_job

STEP = {
    **{"step": 10, "loss": 1.5, "doc_type_loss": 0.5, "po_subtype_loss": 0.25, "token_loss": 0.75},
    **{"learning_rate": 1e-3, "grad_norm": 2.0, "documents_per_s": 12.34, "tokens_per_s": 1234.5},
}


def test_lines_for_a_person() -> None:
    assert describe(STEP, 20) == (
        "step 10/20  loss 1.5000 (doc_type 0.500, po_subtype 0.250, token 0.750)  "
        "lr 1.00e-03  grad 2.00  12.3 documents/s  1234 tokens/s"
    )
    overflowed = {name: value for name, value in STEP.items() if name != "grad_norm"}
    assert "lr 1.00e-03  grad overflow  12.3 documents/s" in describe(overflowed, 20)
    score = {
        "step": 20,
        "val_score": 0.75,
        "val_doc_type_accuracy": 1.0,
        "val_field_f1": 0.5,
        "is_best": True,
    }
    assert describe(score, 20) == (
        "step 20/20  validation score 0.7500 (doc_type_accuracy 1.000, field_f1 0.500)  best so far"
    )
    assert describe({**score, "val_loss": 1.25, "is_best": False}, 20) == (
        "step 20/20  validation score 0.7500 (doc_type_accuracy 1.000, field_f1 0.500)  loss 1.2500"
    )


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_terminal_that_goes_away_costs_no_training(is_gone: bool) -> None:
    ours, theirs = pty.openpty()
    bar = TrainingBar(theirs)
    bar.show(1, 4)
    assert "1/4" in _read_until("1/4", ours)
    if is_gone:
        os.close(ours)
        with pytest.raises(OSError, match="Input/output error"):
            os.write(theirs, b"anybody?")
    bar.show(2, 4)
    bar.close()
    os.close(theirs)
    if not is_gone:
        assert "2/4" in _read_until("2/4", ours)
        os.close(ours)


def _read_until(wanted: str, terminal: int) -> str:
    """What the terminal shows: a write may take several reads."""
    shown = ""
    while wanted not in shown:
        shown += os.read(terminal, 4096).decode()
    return shown


def test_pipes_gets_progress_every_few_seconds_and_every_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = {
        **{"asset_keys": ["general/checkpoint"], "code_version_by_asset_key": None, "run_id": "run"},
        **{"provenance_by_asset_key": None, "partition_key": None, "partition_key_range": None},
        **{"partition_time_window": None, "job_name": None, "retry_number": 0, "extras": {}},
    }
    (tmp_path / "context").write_text(json.dumps(context))
    monkeypatch.setenv("DAGSTER_PIPES_CONTEXT", encode_param({"path": str(tmp_path / "context")}))
    monkeypatch.setenv("DAGSTER_PIPES_MESSAGES", encode_param({"path": str(tmp_path / "messages")}))
    now = 100.0
    monkeypatch.setattr("sap_vision_assets.training.worker.time.monotonic", lambda: now)
    job = make_job(tmp_path, tmp_path / "out", max_steps=50)
    with worker._reports(job) as report:
        for step in range(1, 13):
            report({**STEP, "step": step})
            now += 1
        report({"step": 12, "val_score": 0.5, "is_best": False})
        report({**STEP, "step": 50})
    messages = map(json.loads, (tmp_path / "messages").read_text().splitlines())
    sent = [
        message["params"]["payload"] for message in messages if message["method"] == "report_custom_message"
    ]
    assert [payload["step"] for payload in sent] == [1, 6, 11, 12, 50]
    assert sent[0] == {**STEP, "step": 1, "max_steps": 50}
    assert sent[3]["val_score"] == 0.5


def test_without_dagster_only_the_output_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DAGSTER_PIPES_CONTEXT", raising=False)
    with worker._reports(make_job(tmp_path, tmp_path / "out")) as report:
        report(STEP)
    assert capsys.readouterr().out.startswith("step 10/20  loss 1.5000")
