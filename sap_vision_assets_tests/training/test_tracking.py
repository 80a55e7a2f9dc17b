import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb

from sap_vision_assets.training.recipes import tiny
from sap_vision_assets.training.tracking import RunLog

SECRET = "abcdef0123456789abcdef0123456789abcdef01"


def write_run(out: Path, tracker: str, *, first_step: int = 0) -> None:
    log = RunLog(out, replace(tiny(), tracker=tracker), first_step=first_step, report=lambda _: None)  # type: ignore[arg-type]
    for step in range(first_step + 1, first_step + 4):
        log.write(step, {"loss": 1.0 / step})
    log.close()


def logged_steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


def refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


@pytest.mark.parametrize("grad_norm", [float("inf"), float("nan"), 2.0])
def test_what_is_not_finite_is_left_out(grad_norm: float, tmp_path: Path) -> None:
    reported: list[dict[str, Any]] = []
    log = RunLog(tmp_path, tiny(), first_step=0, report=reported.append)
    log.write(1, {"loss": 1.0, "grad_norm": grad_norm})
    log.close()
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    expected = {"step": 1, "loss": 1.0} | ({"grad_norm": 2.0} if grad_norm == 2.0 else {})
    assert json.loads(line, parse_constant=refuse) == expected
    assert reported == [expected]


def test_lines_after_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    write_run(tmp_path, "none")
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')  # killed in the middle of a line
    write_run(tmp_path, "none", first_step=2)
    assert logged_steps(tmp_path) == [1, 2, 3, 4, 5]


def test_the_start_is_noted_once_and_stays_when_the_training_goes_on(tmp_path: Path) -> None:
    note = {"step": 0, "initial_weights": "minilm", "new_classes": {}}
    for _ in range(2):  # the first is killed before its first checkpoint
        log = RunLog(tmp_path, tiny(), first_step=0, report=lambda _: None)
        log.note_start("minilm", {})
        log.write(1, {"loss": 1.0})
        log.close()
    write_run(tmp_path, "none", first_step=1)
    assert logged_steps(tmp_path) == [0, 1, 2, 3, 4]
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0]) == note


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_run(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (step, pytest.approx(1 / step)) for step in (1, 2, 3)
    ]
    assert logged_steps(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("mode", ["unreachable", "bad key", "offline"])
def test_training_completes_whatever_weights_and_biases_does(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sap_vision_assets.training.tracking.WANDB_START_S", 2)
    monkeypatch.setenv("WANDB_API_KEY", SECRET if mode != "bad key" else "bad")
    # Port 9 answers nobody.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_MODE", "offline" if mode == "offline" else "online")
    with caplog.at_level(logging.WARNING):
        write_run(tmp_path, "wandb")
    wandb.teardown()  # it reads the environment once a process
    assert logged_steps(tmp_path) == [1, 2, 3]
    assert ("Weights & Biases failed" in caplog.text) == (mode != "offline")
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in written
    assert SECRET not in caplog.text
    if mode == "offline":
        assert list(tmp_path.glob("wandb/offline-run-*"))
