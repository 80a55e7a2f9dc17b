"""A training that ends before its last step, because the score on val rises no more."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sap_vision_assets.errors import InputError
from sap_vision_assets.training import TrainingJob, folders, launch, loop
from sap_vision_assets.training.validation import ValidationScore, validate
from sap_vision_assets_tests.training.making import KilledError, losses, make_job, train_here
from sap_vision_assets_tests.training.test_launcher import ENV

CHANGES: dict[str, Any] = {"max_steps": 12, "eval_every_steps": 2, "log_every_steps": 4}
SCORES = (0.5, 0.6, 0.6, 0.55, 0.7, 0.1)
"""At steps 2, 4, 6, 8, 10 and 12."""


@pytest.fixture
def give_scores(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], None]:
    """Lets the next evaluations find these scores."""

    def give(values: Sequence[float]) -> None:
        left = iter(values)

        def scripted(*arguments: Any, **options: Any) -> ValidationScore:
            parts = validate(*arguments, **options)
            return ValidationScore(**{**vars(parts), "score": next(left)})

        monkeypatch.setattr(loop, "validate", scripted)

    return give


@pytest.mark.parametrize(
    ("patience", "expected"),
    # An equal score is no better one. After the last step it is no early stop.
    [(0, (12, 10, False)), (1, (6, 4, True)), (2, (8, 4, True)), (3, (12, 10, False))],
)
def test_it_ends_when_as_many_scores_were_no_better(
    patience: int,
    expected: tuple[int, int, bool],
    short_shards: Path,
    tmp_path: Path,
    give_scores: Callable[[Sequence[float]], None],
) -> None:
    give_scores(SCORES)
    job = make_job(short_shards, tmp_path / "out", early_stopping_patience=patience, **CHANGES)
    summary = train_here(job)
    assert summary is not None
    assert (summary["steps"], summary["best_step"], summary["stopped_early"]) == expected
    assert folders.finished_summary(job.out) == summary
    steps, best_step, _ = expected
    for name, step in (("best", best_step), ("final", steps)):
        assert folders.verify(job.out / name)["progress"]["step"] == step
    records = [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == steps
    assert "val_score" in records[-1]
    assert summary["train_loss"] == pytest.approx(sum(losses(job.out)[-2:]) / 2)


@pytest.mark.parametrize("crash_after", [4, 6, 8])
def test_killed_and_started_again_it_ends_at_the_same_step(
    crash_after: int,
    short_shards: Path,
    tmp_path: Path,
    give_scores: Callable[[Sequence[float]], None],
) -> None:
    def job(name: str) -> TrainingJob:
        changes = {**CHANGES, "early_stopping_patience": 2, "save_every_steps": 3, "log_every_steps": 1}
        return make_job(short_shards, tmp_path / name, **changes)

    give_scores(SCORES)
    train_here(job("unbroken"))
    give_scores(SCORES)
    with pytest.raises(KilledError):
        train_here(job("out"), crash_after=crash_after)
    resumed_from = (crash_after - 1) // 3 * 3
    give_scores(SCORES[resumed_from // 2 :])
    summary = train_here(job("out"))
    assert summary is not None
    assert (summary["resumed_from"], summary["steps"]) == (resumed_from, 8)
    assert losses(tmp_path / "out") == losses(tmp_path / "unbroken")
    for name in ("best", "final"):
        expected = load_file(tmp_path / "unbroken" / name / "model.safetensors")
        found = load_file(tmp_path / "out" / name / "model.safetensors")
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_killed_before_final_was_written_it_takes_no_further_step(
    short_shards: Path, tmp_path: Path, give_scores: Callable[[Sequence[float]], None]
) -> None:
    give_scores(SCORES)
    job = make_job(
        short_shards, tmp_path / "out", early_stopping_patience=2, **{**CHANGES, "save_every_steps": 8}
    )
    expected = train_here(job)
    assert expected is not None
    shutil.rmtree(job.out / "final")
    give_scores([])
    assert train_here(job) == {**expected, "resumed_from": 8}


def test_two_ranks_stop_together(short_shards: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    job = make_job(
        short_shards,
        tmp_path / "out",
        early_stopping_patience=2,
        learning_rate=1e-12,  # too low to change any answer: the first score stays the best
        num_processes=2,
        **{**CHANGES, "batch_size": 2},
    )
    summary = launch(job, env=ENV, on_line=lines.append)
    assert (summary["steps"], summary["best_step"], summary["stopped_early"]) == (6, 2, True)
    assert any(line.startswith("stopped early: best score") for line in lines)


def test_negative_patience_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="early_stopping_patience=-1 must not be negative"):
        make_job(tmp_path, tmp_path, early_stopping_patience=-1)
