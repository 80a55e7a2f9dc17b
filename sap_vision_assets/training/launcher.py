"""A training from start to end on the node where it was asked for. No torch in this process."""

import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sap_vision_assets.errors import InputError, SapVisionError, TrainingError
from sap_vision_assets.training import failures, folders, nodes
from sap_vision_assets.training.config import TrainingConfig, TrainingJob
from sap_vision_assets.training.processes import Ending, run_torchrun
from sap_vision_assets.training.supervision import sole_writer

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""glibc: what a step frees waits for the next one. Given back to the kernel, it costs 6 % of a step on a CPU
to have the same pages again (docs/performance.md). What stands in the environment already counts more."""
_SECRET_MARKS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_MIN_SECRET_CHARS = 8
_TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LINES_KEPT = 20


class TrainingStoppedError(TrainingError):
    """The training was asked to end, and did; it is not started again by itself."""


class Console:
    """Lines of output on their way to whoever listens, without the secrets in the environment."""

    def __init__(self, environment: Mapping[str, str], on_line: Callable[[str], None] | None) -> None:
        self.redact = _redactor(environment)
        self._on_line = on_line
        self._last_lines: deque[str] = deque(maxlen=_LINES_KEPT)

    def take(self, line: str) -> None:
        self._last_lines.append(self.redact(line))
        if self._on_line is not None:
            self._on_line(self._last_lines[-1])

    def add_last_lines(self, error: Exception) -> None:
        error.add_note("last lines of output:\n" + "\n".join(self._last_lines))


def launch(
    job: TrainingJob,
    *,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    stop_event: threading.Event | None = None,
) -> dict[str, Any]:
    """Trains in subprocesses under torchrun and returns the summary; at once when `job.out` is finished.

    With several nodes this is the launching one, which has rank 0; on each other one `join` must be called.
    `env` is added to this process's environment. `on_line` gets each line of output, without the secrets in
    the environment. When `stop_event` is set, or on any exception here, KeyboardInterrupt included, the ranks
    save a checkpoint within the config's shutdown_grace_s and are killed after it; none is left when this
    returns.

    Raises TrainingError naming the rank that failed and its cause, after the config's max_restarts, and
    TrainingStoppedError. What is wrong with the input comes as its own InputError, CheckpointError,
    ArtifactError or VocabularyMismatchError, without a restart.
    """
    summary = folders.finished_summary(job.out)
    if summary is not None:
        return summary
    _require_writable(job.out)
    environment = make_environment(env, job.config)
    console = Console(environment, on_line)
    should_stop = stop_event.is_set if stop_event is not None else lambda: False
    with ExitStack() as stack:
        # A second one here would call the other nodes away from the first.
        stack.enter_context(sole_writer(job.out, nodes.LAUNCH_LOCK))
        stack.callback(nodes.withdraw, job.out)
        # Not torchrun's own --max-restarts: its ranks meet in a store that still has the dead ones' addresses
        # (pytorch/pytorch#135712), and it starts again whatever the reason was.
        for restarts_left in range(job.config.max_restarts, -1, -1):
            try:
                return _run_once(job, environment, console, should_stop, restarts_left)
            except TrainingStoppedError:
                raise
            except TrainingError as error:
                console.add_last_lines(error)
                if restarts_left == 0:
                    raise
                console.take(f"{error}; starts again, {restarts_left} restarts are left")
    raise AssertionError("the last round returns or raises")


def _run_once(
    job: TrainingJob,
    environment: Mapping[str, str],
    console: Console,
    should_stop: Callable[[], bool],
    restarts_left: int,
) -> dict[str, Any]:
    if job.config.num_nodes == 1:
        meeting, arguments = None, ["--standalone"]
    else:
        meeting = nodes.announce(job, restarts_left=restarts_left)
        arguments = nodes.torchrun_arguments(meeting, is_launching=True)
        console.take(
            f"waits at {meeting.endpoint} for {job.config.num_nodes - 1} more machines; "
            f"there: sap-vision join {meeting.job.out}"
        )
    ending = run_torchrun(job, arguments, environment=environment, take=console.take, should_stop=should_stop)
    summary = folders.finished_summary(job.out)
    if summary is not None and ending.status == 0:
        return summary
    if meeting is not None and ending.causes and all(failure.is_consequence for failure in ending.causes):
        others, silent = nodes.wait_for_reports(meeting)
        raise as_error(ending.with_failures(others), job.out, console.redact, silent=silent)
    raise as_error(ending, job.out, console.redact)


def as_error(
    ending: Ending, out: Path, redact: Callable[[str], str], *, silent: Sequence[str] = ()
) -> SapVisionError:
    """Of the rank that failed first, or TrainingStoppedError. `silent`: nodes that ended without a word."""
    if ending.causes:
        return failures.as_error(ending.causes, redact, silent=silent)
    if not ending.is_by_request:
        return TrainingError(f"torchrun ended with status {ending.status} and named no rank")
    newest = folders.newest(out)
    where = f"goes on from {newest}" if newest else "begins anew: no checkpoint had been saved"
    return TrainingStoppedError(f"the training was stopped; started again with the same directory it {where}")


def _require_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give another directory") from error


def make_environment(extra: Mapping[str, str] | None, config: TrainingConfig) -> dict[str, str]:
    """This process's, with `extra`, for torchrun of one node."""
    environment = {
        name: value
        for name, value in {**os.environ, **(extra or {})}.items()
        if name not in _TORCHRUN_VARIABLES and not name.startswith("TORCHELASTIC_")
    }
    # Ranks that each take all cores spend their time waiting for one another.
    share = max(1, len(os.sched_getaffinity(0)) // config.num_processes)
    environment.setdefault("OMP_NUM_THREADS", str(share))
    environment = {**ALLOCATOR, **environment}
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def _redactor(environment: Mapping[str, str]) -> Callable[[str], str]:
    """Blots out the values of variables that look like secrets by their names."""
    secrets = [
        value
        for name, value in environment.items()
        if len(value) >= _MIN_SECRET_CHARS and any(mark in name.upper() for mark in _SECRET_MARKS)
    ]

    def redact(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    return redact
