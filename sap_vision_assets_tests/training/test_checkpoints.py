"""What is on disk: finished, unfinished, truncated, foreign and hostile checkpoints."""

import errno
import hashlib
import json
import logging
import os
import pickle
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sap_vision_assets.errors import CheckpointError
from sap_vision_assets.training import folders, launch
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.training.making import KilledError, losses, make_job, make_shards, train_here

CHANGES: dict[str, Any] = {"max_steps": 4, "save_every_steps": 1, "eval_every_steps": 4}


@pytest.fixture(scope="module")
def finished(short_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoint-3, checkpoint-4, best, final."""
    job = make_job(short_shards, tmp_path_factory.mktemp("finished") / "out", **CHANGES)
    train_here(job)
    return job.out


@pytest.fixture
def interrupted(finished: Path, tmp_path: Path) -> Path:
    """The same, killed after checkpoint-4 was written."""
    out = tmp_path / "out"
    shutil.copytree(finished, out, ignore=shutil.ignore_patterns("final"))
    return out


def tree(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def reseal(directory: Path) -> None:
    """Makes the listing fit the files again, as someone who means harm would."""
    state = json.loads((directory / "training_state.json").read_text())
    for name in state["files"]:
        content = (directory / name).read_bytes()
        state["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (directory / "training_state.json").write_text(json.dumps(state))


@pytest.mark.parametrize("is_finished", [True, False])
def test_unfinished_checkpoint_is_skipped_with_a_warning(
    is_finished: bool, interrupted: Path, short_shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULT 52."""
    if not is_finished:
        (interrupted / "checkpoint-4" / "training_state.json").unlink()
    before = tree(interrupted / "checkpoint-3")
    with caplog.at_level(logging.WARNING):
        summary = train_here(make_job(short_shards, interrupted, **CHANGES))
    assert summary is not None
    assert summary["resumed_from"] == (4 if is_finished else 3)
    assert ("checkpoint-4: has no training_state.json" in caplog.text) != is_finished
    assert tree(interrupted / "checkpoint-3") == before
    assert folders.verify(interrupted / "checkpoint-4")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "config.json", "training_state.json"]
)
def test_truncated_file_is_named_and_nothing_is_touched(
    name: str, interrupted: Path, short_shards: Path
) -> None:
    """FAULT 53."""
    file = interrupted / "checkpoint-4" / name
    file.write_bytes(file.read_bytes()[:-100])
    before = tree(interrupted)
    with pytest.raises(CheckpointError, match=f"checkpoint-4/{name}"):
        train_here(make_job(short_shards, interrupted, **CHANGES))
    assert tree(interrupted) == before


def test_flipped_byte_is_named(interrupted: Path, short_shards: Path) -> None:
    file = interrupted / "checkpoint-4" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: its bytes have changed"):
        train_here(make_job(short_shards, interrupted, **CHANGES))


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt"])
def test_pickle_that_would_run_code_is_refused(
    name: str, interrupted: Path, short_shards: Path, tmp_path: Path
) -> None:
    """FAULT 54; sharded optimizers: test_sharded."""
    marker = tmp_path / "payload_ran"
    checkpoint = interrupted / "checkpoint-4"
    torch.save({"state": _Payload(marker)}, checkpoint / name)
    reseal(checkpoint)
    before = tree(interrupted)
    with pytest.raises(CheckpointError, match=rf"{name}: holds more than tensors and numbers"):
        train_here(make_job(short_shards, interrupted, **CHANGES))
    assert not marker.exists()
    assert tree(interrupted) == before
    # The twin: the payload does run where pickles are trusted.
    torch.load(checkpoint / name, weights_only=False)
    assert marker.exists()


def test_weights_are_never_read_from_a_pickle(finished: Path, short_shards: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    shutil.copytree(finished / "best", foreign)
    marker = tmp_path / "payload_ran"
    (foreign / "model.safetensors").write_bytes(pickle.dumps(_Payload(marker)))
    reseal(foreign)
    job = make_job(short_shards, tmp_path / "out", architecture=None, initial_checkpoint=foreign)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
        train_here(job)
    assert not marker.exists()


def test_newest_is_by_step_not_by_time(interrupted: Path) -> None:
    """FAULT 63."""
    # The clock went back: the later checkpoint looks an hour older.
    os.utime(interrupted / "checkpoint-4", (1e9, 1e9))
    assert folders.newest(interrupted) == interrupted / "checkpoint-4"
    (interrupted / "checkpoint-3").rename(interrupted / "checkpoint-10")
    assert folders.newest(interrupted) == interrupted / "checkpoint-10"


@pytest.mark.parametrize("hours", [0, -1])
def test_clock_that_goes_back_changes_no_number(
    hours: int, short_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULT 63: an hour, between two starts: what the first wrote is of the future then. 0 is the twin."""
    changes = {**CHANGES, "tracker": "tensorboard"}
    unbroken, job = (make_job(short_shards, tmp_path / name, **changes) for name in ("unbroken", "out"))
    train_here(unbroken)
    with pytest.raises(KilledError):
        train_here(job, crash_after=3)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600 * hours)
    for path in job.out.rglob("*"):
        os.utime(path, (now() - 3600 * hours, now() - 3600 * hours))
    with pytest.raises(KilledError):
        train_here(job, crash_after=4)
    summary = train_here(job)
    assert summary is not None
    assert summary["resumed_from"] == 3
    assert 0 < summary["seconds"] < 3600
    assert losses(job.out) == losses(unbroken.out)
    for name in ("best", "final"):
        found, expected = ((one.out / name / "model.safetensors").read_bytes() for one in (job, unbroken))
        assert found == expected


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"learning_rate": 1e-4}, "learning_rate: 0.003 there, 0.0001 now"),
        ({"max_steps": 5}, "max_steps: 4 there, 5 now"),
        ({"num_processes": 1, "batch_size": 8}, "global_batch_size: 4 there, 8 now"),
        ({"precision": "bf16"}, "precision: fp32 there, bf16 now"),
    ],
)
def test_checkpoint_of_another_training_is_refused_with_the_difference(
    changes: dict[str, Any], difference: str, interrupted: Path, short_shards: Path
) -> None:
    with pytest.raises(CheckpointError, match=difference):
        train_here(make_job(short_shards, interrupted, **{**CHANGES, **changes}))


def test_checkpoint_of_other_data_is_refused(interrupted: Path, tmp_path: Path) -> None:
    other = make_shards(tmp_path / "other", words_per_index=1, seed=1)
    with pytest.raises(CheckpointError, match="train_shards: "):
        train_here(make_job(other, interrupted, **CHANGES))


def test_a_grown_vocabulary_is_a_start_and_no_resumption(interrupted: Path, tmp_path: Path) -> None:
    """What fine-tuning from this checkpoint would take, its continuation does not."""
    extension = tmp_path / "extension.json"
    term = {"name": "pallets", "sap": "-", "meaning": "Made up."}
    extension.write_text(json.dumps({"version": 1, "fields": [term]}))
    vocabulary = load_vocabulary(extension)
    grown = make_shards(tmp_path / "grown", words_per_index=1, vocabulary=vocabulary)
    job = replace(make_job(grown, interrupted, **CHANGES), vocabulary_extension=extension)
    before = tree(interrupted)
    with pytest.raises(CheckpointError, match=f"vocabulary_digest: .* there, {vocabulary.digest} now"):
        train_here(job)
    assert tree(interrupted) == before
    start = make_job(grown, tmp_path / "new", initial_checkpoint=interrupted / "checkpoint-4", **CHANGES)
    assert train_here(replace(start, vocabulary_extension=extension))
    first = json.loads((tmp_path / "new" / "log.jsonl").read_text().splitlines()[0])
    assert first == {
        "step": 0,
        "initial_weights": str(interrupted / "checkpoint-4"),
        "new_classes": {"token label": ["B-pallets", "I-pallets"]},
    }


def test_digest_of_initial_weights_is_of_their_content(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "best", tmp_path / "moved")
    digest = folders.weights_digest(finished / "best")
    assert folders.weights_digest(tmp_path / "moved") == digest
    (tmp_path / "moved" / "labels.txt").write_text("no part of it")
    assert folders.weights_digest(tmp_path / "moved") == digest
    with (tmp_path / "moved" / "model.safetensors").open("ab") as stream:
        stream.write(b"x")
    assert folders.weights_digest(tmp_path / "moved") != digest


def test_same_samples_in_smaller_batches_go_on(finished: Path, interrupted: Path, short_shards: Path) -> None:
    shutil.rmtree(interrupted / "checkpoint-4")
    changes = {**CHANGES, "batch_size": 2, "gradient_accumulation_steps": 2}
    summary = train_here(make_job(short_shards, interrupted, **changes))
    assert summary is not None
    assert summary["resumed_from"] == 3
    # Worst seen: 1e-7.
    assert losses(interrupted) == pytest.approx(losses(finished), rel=1e-6)


def test_finished_training_returns_its_summary_at_once(finished: Path, short_shards: Path) -> None:
    before = tree(finished)
    summary = launch(make_job(short_shards, finished, **CHANGES))
    assert summary == json.loads((finished / "final" / "training_state.json").read_text())["summary"]
    assert tree(finished) == before


def test_publish_replaces_whole_directories(tmp_path: Path) -> None:
    def write(text: str) -> Callable[[Path], None]:
        return lambda directory: (directory / "weights").write_text(text) and None  # type: ignore[return-value]

    folders.publish(tmp_path, "best", write("old"), {"step": 1})
    folders.publish(tmp_path, "best", write("new"), {"step": 2})
    assert (tmp_path / "best" / "weights").read_text() == "new"
    assert folders.verify(tmp_path / "best")["step"] == 2

    def fail(directory: Path) -> None:
        (directory / "weights").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        folders.publish(tmp_path, "best", fail, {"step": 3})
    assert folders.verify(tmp_path / "best")["step"] == 2
    folders.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_best_killed_between_its_two_renames_comes_back(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "best", tmp_path / ".best.old")
    folders.sweep(tmp_path)
    assert folders.verify(tmp_path / "best")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_missing_best_is_named(interrupted: Path, short_shards: Path) -> None:
    shutil.rmtree(interrupted / "best")
    with pytest.raises(CheckpointError, match=r"best: is missing, but .*checkpoint-4 says"):
        train_here(make_job(short_shards, interrupted, **CHANGES))


def test_full_disk_leaves_the_checkpoint_before(
    interrupted: Path, short_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = tree(interrupted)
    with monkeypatch.context() as patch:
        patch.setattr("sap_vision_assets.training.checkpoint.write_optimizer", full_disk)
        with pytest.raises(OSError, match="No space left"):
            train_here(make_job(short_shards, interrupted, **CHANGES))
    assert folders.finished_summary(interrupted) is None
    folders.sweep(interrupted)
    assert tree(interrupted) == before
    assert train_here(make_job(short_shards, interrupted, **CHANGES)) is not None
