"""A training that is asked to end, or whose starter is killed, at moments that hurt (FAULTS 50, 51)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from sap_vision_assets.training import checkpoint, folders, launch, loop, validation, worker
from sap_vision_assets.training.config import TrainingJob
from sap_vision_assets.training.launcher import TrainingStoppedError
from sap_vision_assets.training.run import Run
from sap_vision_assets.training.supervision import LOCK_FILE, STOPPED_STATUS
from sap_vision_assets_tests.training.making import KilledError, losses, make_job, train_here
from sap_vision_assets_tests.training.test_checkpoints import tree
from sap_vision_assets_tests.training.test_launcher import ENV, family

NEVER: dict[str, Any] = {"max_steps": 100_000, "eval_every_steps": 100_000, "save_every_steps": 100_000}
"""What is saved is saved on request."""
CHANGES: dict[str, Any] = {"max_steps": 12, "eval_every_steps": 4, "save_every_steps": 100}
Stop = Callable[[], None]


@pytest.fixture(autouse=True)
def _sigterm_as_in_the_foreground() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def end_of_worker(job: TrainingJob, tmp_path: Path, patch: pytest.MonkeyPatch) -> int:
    """Exit status of the rank's program, run in this process."""
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job.to_json()))
    patch.setattr(sys, "argv", ["worker", str(file)])
    try:
        worker.main()
    except SystemExit as error:
        return int(str(error.code))
    return 0


def in_first_step(patch: pytest.MonkeyPatch) -> None:
    step = loop._step

    def stopped(run: Run, *rest: Any) -> Any:
        if run.state.step == 0:
            sigterm()
        return step(run, *rest)

    patch.setattr(loop, "_step", stopped)


def in_evaluation(patch: pytest.MonkeyPatch) -> None:
    validate = validation.validate

    def stopped(*arguments: Any, **options: Any) -> Any:
        sigterm()
        return validate(*arguments, **options)

    patch.setattr(loop, "validate", stopped)


def in_save(patch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """In the step after the next one, and once more while what that leads to is written."""
    step, write = loop._step, checkpoint.write_optimizer
    steps = 0

    def stopped(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 2:
            sigterm()
        return step(*arguments)

    def interrupted(*arguments: Any) -> None:
        then()
        write(*arguments)

    patch.setattr(loop, "_step", stopped)
    patch.setattr(checkpoint, "write_optimizer", interrupted)


def test_sigterm_in_the_first_step_in_an_evaluation_and_twice_in_a_save(
    short_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULT 51. The twin is the training that nobody stops, and the last start of the stopped one."""
    unbroken, job = (make_job(short_shards, tmp_path / name, **CHANGES) for name in ("unbroken", "out"))
    assert end_of_worker(unbroken, tmp_path, monkeypatch) == 0

    with monkeypatch.context() as patch:
        in_first_step(patch)
        assert end_of_worker(job, tmp_path, patch) == STOPPED_STATUS
    assert folders.newest(job.out) == job.out / "checkpoint-1"

    with monkeypatch.context() as patch:
        in_evaluation(patch)
        assert end_of_worker(job, tmp_path, patch) == STOPPED_STATUS
    # It is heeded in the step after: the evaluation of step 4 is whole.
    assert folders.newest(job.out) == job.out / "checkpoint-5"

    with monkeypatch.context() as patch:
        in_save(patch, sigterm)
        assert end_of_worker(job, tmp_path, patch) == STOPPED_STATUS
    assert folders.newest(job.out) == job.out / "checkpoint-7"
    before = tree(job.out / "checkpoint-7")

    def kill() -> None:
        raise KilledError

    # The grace was over: SIGKILL while it is written.
    with monkeypatch.context() as patch:
        in_save(patch, kill)
        with pytest.raises(KilledError):
            end_of_worker(job, tmp_path, patch)
    assert (job.out / ".checkpoint-9.new" / "model.safetensors").is_file()
    assert folders.newest(job.out) == job.out / "checkpoint-7"
    assert tree(job.out / "checkpoint-7") == before

    assert end_of_worker(job, tmp_path, monkeypatch) == 0
    assert folders.finished_summary(job.out)["resumed_from"] == 7  # type: ignore[index]
    assert losses(job.out) == losses(unbroken.out)
    expected, found = (load_file(one.out / "final" / "model.safetensors") for one in (unbroken, job))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_sigterm_reaches_loader_workers_too_and_a_checkpoint_is_saved(
    short_shards: Path, tmp_path: Path
) -> None:
    """FAULT 50: torchrun sends SIGTERM to a rank's whole session. Twins without workers: test_launcher."""
    job = make_job(short_shards, tmp_path / "out", loader_workers=2, **NEVER)
    stop = threading.Event()

    def request(line: str) -> None:
        if line.startswith("step 5/"):
            assert len(family()) == 4  # torchrun, the rank, and who reads its batches
            stop.set()

    with pytest.raises(TrainingStoppedError, match=r"goes on from .*checkpoint-"):
        launch(job, env=ENV, stop_event=stop, on_line=request)
    assert not family()
    (saved,) = job.out.glob("checkpoint-*")
    assert folders.verify(saved)["progress"]["step"] == len(losses(job.out))


def test_kill_9_of_the_starter_costs_no_step(short_shards: Path, tmp_path: Path) -> None:
    """It is what Dagster's step process is to a training. Then nobody reads the output any more."""
    job = make_job(short_shards, tmp_path / "out", loader_workers=1, **NEVER)
    (tmp_path / "job.json").write_text(json.dumps(job.to_json()))
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from sap_vision_assets.training import TrainingJob, launch\n"
        "launch(TrainingJob.read(Path(sys.argv[1])))\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "job.json")], env={**os.environ, **ENV}
    )
    log = job.out / "log.jsonl"
    while not log.exists() or log.read_text().count("\n") < 5:
        assert starter.poll() is None
        time.sleep(0.1)
    descendants = family()
    assert len(descendants) == 3  # torchrun, the rank, and who reads its batches
    starter.kill()
    starter.wait()
    _, alive = psutil.wait_procs(descendants, timeout=60)
    assert not alive
    assert folders.newest(job.out) == job.out / f"checkpoint-{len(losses(job.out))}"


@pytest.mark.parametrize("late", ["checkpoint-4", "final"])
def test_a_start_waits_for_the_one_before(
    late: str, short_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts again at once meets the ranks of the killed start, which still save, or even finish."""
    job = make_job(short_shards, tmp_path / "out", **CHANGES)
    train_here(job, stop_after=3 if late == "checkpoint-4" else None)
    (job.out / late).rename(tmp_path / late)
    before = tree(tmp_path / late)
    # flock's child shares the lock, as a rank's readers do.
    holder = subprocess.Popen(["flock", str(job.out / LOCK_FILE), "sleep", "600"])
    while not psutil.Process(holder.pid).children():
        time.sleep(0.01)

    def publish_and_end() -> None:
        time.sleep(1)
        (tmp_path / late).rename(job.out / late)
        family = psutil.Process(holder.pid).children()
        holder.kill()
        for child in family:
            child.kill()

    saving = threading.Thread(target=publish_and_end)
    saving.start()
    assert end_of_worker(job, tmp_path, monkeypatch) == 0
    saving.join()
    holder.wait()
    summary = folders.finished_summary(job.out)
    assert summary is not None
    assert summary["resumed_from"] == (4 if late == "checkpoint-4" else None)
    assert tree(job.out / late) == before
