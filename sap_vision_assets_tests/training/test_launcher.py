"""Two ranks under torchrun: equal to one, killed, stopped, failing; nothing is left running."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from sap_vision_assets.errors import InputError, TrainingError
from sap_vision_assets.training import TrainingJob, launch
from sap_vision_assets.training.failures import FAILURES_ENV
from sap_vision_assets_tests.training.making import losses, make_job, train_here

ENV = {"OMP_NUM_THREADS": "1", "SOME_API_KEY": "f00dfeed-not-for-logs"}
CHANGES: dict[str, Any] = {"max_steps": 60, "batch_size": 2, "save_every_steps": 25, "eval_every_steps": 60}


@pytest.fixture(autouse=True)
def _sigterm_as_in_the_foreground() -> Iterator[None]:
    """A shell's background commands ignore SIGINT, Dagster then ignores SIGTERM, and children inherit that:
    one that comes before torchrun has set its handler would reach the ranks ASK_AGAIN_S later."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def family() -> list[psutil.Process]:
    """What any training of this test process started and has not ended."""
    return [child for child in psutil.Process().children(recursive=True) if FAILURES_ENV in child.environ()]


def rank_process(rank: int) -> psutil.Process:
    return next(process for process in family() if process.environ().get("RANK") == str(rank))


@pytest.fixture(scope="module")
def two_ranks(short_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    job = make_job(short_shards, tmp_path_factory.mktemp("two") / "out", num_processes=2, **CHANGES)
    lines: list[str] = []
    summary = launch(job, env=ENV, on_line=lines.append)
    assert (summary["steps"], summary["num_processes"]) == (60, 2)
    assert any(line.startswith("step 60/60  loss") for line in lines)
    assert not family()
    return job


def test_two_ranks_equal_one(two_ranks: TrainingJob, tmp_path: Path) -> None:
    one = replace(
        two_ranks,
        out=tmp_path / "out",
        config=replace(two_ranks.config, num_processes=1, gradient_accumulation_steps=2),
    )
    train_here(one)
    # Seen: equal to the bit, for two numbers have one sum; the libraries do not promise it.
    assert losses(two_ranks.out) == pytest.approx(losses(one.out), rel=1e-5)


def test_interrupted_then_killed_then_equal_to_the_unbroken_run(
    two_ranks: TrainingJob, tmp_path: Path
) -> None:
    job = replace(two_ranks, out=tmp_path / "out")

    def interrupt(line: str) -> None:
        if line.startswith("step 10/"):
            assert len(family()) == 3  # torchrun and its ranks
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(job, env=ENV, on_line=interrupt)
    assert not family()
    # SIGTERM came first, so the steps so far are not lost.
    (saved,) = job.out.glob("checkpoint-1?")
    assert (saved / "training_state.json").exists()

    def kill_rank_1(line: str) -> None:
        if line.startswith("step 30/"):
            rank_process(1).send_signal(signal.SIGKILL)

    with pytest.raises(TrainingError, match="rank 1 was ended by SIGKILL"):
        launch(job, env=ENV, on_line=kill_rank_1)
    assert not family()

    # Killed once more, and this time started again by itself.
    lines: list[str] = []

    def kill_rank_0(line: str) -> None:
        lines.append(line)
        if line.startswith("step 40/") and not any("starts again" in line for line in lines):
            rank_process(0).send_signal(signal.SIGKILL)

    job = replace(job, config=replace(job.config, max_restarts=1))
    assert launch(job, env=ENV, on_line=kill_rank_0)["resumed_from"] == 25
    assert any(line.startswith("rank 0 was ended by SIGKILL") for line in lines)
    assert losses(job.out) == losses(two_ranks.out)
    expected = load_file(two_ranks.out / "final" / "model.safetensors")
    found = load_file(job.out / "final" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("hangs", [True, False])
def test_rank_that_hangs_ends_the_training_after_the_time_out(
    hangs: bool, two_ranks: TrainingJob, tmp_path: Path
) -> None:
    timeout_s = 15
    config = replace(two_ranks.config, collective_timeout_s=timeout_s)
    job = replace(two_ranks, out=tmp_path / "out", config=config)
    saved: dict[Path, bytes] = {}
    hung_at = 0.0

    def stop_rank_1(line: str) -> None:
        nonlocal hung_at
        if line.startswith("step 30/"):
            hung_at = time.monotonic()
            saved.update((file, file.read_bytes()) for file in (job.out / "checkpoint-25").iterdir())
            if hangs:
                rank_process(1).send_signal(signal.SIGSTOP)

    if not hangs:
        assert launch(job, env=ENV, on_line=stop_rank_1)["steps"] == 60
        return
    with pytest.raises(TrainingError) as caught:
        launch(job, env=ENV, on_line=stop_rank_1)
    # The time-out, the wait for a cause, torchrun's 30 s for a rank that does not end: seen 55 s.
    assert time.monotonic() - hung_at < 150
    assert not family()
    assert "rank 0: lost the other ranks: " in str(caught.value)
    # gloo says the second where another exchange, of the same step, has met the time-out before.
    assert re.search(f"Timed out waiting {timeout_s}000ms|Application timeout", str(caught.value))
    assert f"at collective_timeout_s={timeout_s}" in str(caught.value)
    assert saved
    assert {file: file.read_bytes() for file in saved} == saved
    visible = {path.name for path in job.out.iterdir() if not path.name.startswith(".")}
    assert visible == {"checkpoint-25", "log.jsonl"}


def test_exception_on_rank_1_names_rank_1_and_no_secret(short_shards: Path, tmp_path: Path) -> None:
    # Python runs sitecustomize first in every process: here is the fault.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('RANK') == '1':\n"
        "    from sap_vision_assets.training import loop\n"
        "    def fail(run, log):\n"
        "        raise ZeroDivisionError('no documents with ' + os.environ['SOME_API_KEY'])\n"
        "    loop._evaluate = fail\n"
    )
    job = make_job(
        short_shards, tmp_path / "out", num_processes=2, max_steps=6, eval_every_steps=3, warmup_steps=1
    )
    lines: list[str] = []
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with pytest.raises(TrainingError, match="rank 1: ZeroDivisionError: no documents with") as caught:
        launch(job, env={**ENV, "PYTHONPATH": paths}, on_line=lines.append)
    assert not family()
    assert "loop.py" in caught.value.__notes__[0]
    told = "\n".join([*lines, str(caught.value), *caught.value.__notes__])
    assert ENV["SOME_API_KEY"] not in told
    assert "***" in told


def on_rank_1(program: str, folder: Path) -> dict[str, str]:
    """An environment in which rank 1 runs `program` first: Python runs sitecustomize in every process."""
    body = "".join(f"    {line}\n" for line in program.splitlines())
    (folder / "sitecustomize.py").write_text(f"import os\nif os.environ.get('RANK') == '1':\n{body}")
    return {**ENV, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize("differs", [True, False])
def test_rank_that_would_train_something_else_is_refused(
    differs: bool, short_shards: Path, tmp_path: Path
) -> None:
    """Such as on a machine whose hardware computes in bf16, where the others' does not."""
    job = make_job(short_shards, tmp_path / "out", num_processes=2, max_steps=3, warmup_steps=1)
    program = f"from sap_vision_assets.training import run\nif {differs}: run.resolve = lambda *_: 'bf16'"
    env = on_rank_1(program, tmp_path)
    if not differs:
        assert launch(job, env=env)["precision"] == "fp32"
        return
    with pytest.raises(InputError, match=r"rank 1 on \S+ differs from rank 0 on .*: fp32 there, bf16 here"):
        launch(job, env=env)
    assert not [path for path in job.out.iterdir() if not path.name.startswith(".")]


def test_rank_that_sees_an_older_directory_goes_on_where_rank_0_does(
    two_ranks: TrainingJob, tmp_path: Path
) -> None:
    """A network file system may show another machine the directory as it was a minute ago."""
    config = replace(two_ranks.config, collective_timeout_s=60)
    job = replace(two_ranks, out=tmp_path / "out", config=config)
    shutil.copytree(two_ranks.out, job.out, ignore=shutil.ignore_patterns("final", "checkpoint-50"))
    env = on_rank_1(
        "from sap_vision_assets.training import folders\nfolders.newest = lambda _: None", tmp_path
    )
    assert launch(job, env=env)["resumed_from"] == 25
    assert losses(job.out) == losses(two_ranks.out)


def test_stop_before_the_first_step(short_shards: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(TrainingError, match=r"was stopped; .* begins anew: no checkpoint had been saved"):
        launch(make_job(short_shards, tmp_path / "out"), env=ENV, stop_event=stop)
    assert not family()


def test_a_request_that_torchrun_loses_reaches_the_ranks(short_shards: Path, tmp_path: Path) -> None:
    # Python runs sitecustomize first in every process; the agent's handler is the last one to be set.
    (tmp_path / "sitecustomize.py").write_text(
        "import signal, sys\n"
        "if 'sap_vision_assets.training.agent' in sys.orig_argv:\n"
        "    set_handler = signal.signal\n"
        "    def deaf(number, handler):\n"
        "        return set_handler(number, signal.SIG_IGN if number == signal.SIGTERM else handler)\n"
        "    signal.signal = deaf\n"
        "    deaf(signal.SIGTERM, None)\n"
    )
    stop = threading.Event()
    # Saved at nobody's request but this one.
    never = {"eval_every_steps": 100_000, "save_every_steps": 100_000}
    job = make_job(short_shards, tmp_path / "out", max_steps=100_000, **never)

    def request(line: str) -> None:
        if line.startswith("step 5/"):
            stop.set()

    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with pytest.raises(TrainingError, match=r"goes on from .*checkpoint-"):
        launch(job, env={**ENV, "PYTHONPATH": paths}, stop_event=stop, on_line=request)
    assert not family()


def test_directory_that_cannot_be_written_is_refused_at_once(short_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/out: cannot be written"):
        launch(make_job(short_shards, tmp_path / "file" / "out"))
