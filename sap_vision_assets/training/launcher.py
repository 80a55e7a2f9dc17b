"""Starts torchrun, watches it, and leaves no process behind. No torch in this process."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from sap_vision_assets import errors
from sap_vision_assets.errors import InputError, SapVisionError, TrainingError
from sap_vision_assets.training import folders
from sap_vision_assets.training.config import TrainingConfig, TrainingJob
from sap_vision_assets.training.supervision import LOST_PEER_STATUS, PARENT_ENV, STOPPED_STATUS

FAILURES_ENV = "SAP_VISION_FAILURES_FILE"
WORKER_MODULE = "sap_vision_assets.training.worker"
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""glibc: what a step frees waits for the next one. Given back to the kernel, it costs 6 % of a step on a CPU
to have the same pages again (docs/performance.md). What stands in the environment already counts more."""
KILL_WAIT_S = 10.0
"""Seconds that the kernel gets to take killed processes away."""
ASK_AGAIN_S = 5.0
"""Seconds between SIGTERM to torchrun and to its ranks themselves, where they still run."""
TORCHRUN_MARGIN_S = 15.0
"""torchrun gives its ranks `shutdown_grace_s`; itself it gets this much more."""
_SECRET_MARKS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_MIN_SECRET_CHARS = 8
_TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LINES_KEPT = 20


class TrainingStoppedError(TrainingError):
    """The training was asked to end, and did; it is not started again by itself."""


def launch(
    job: TrainingJob,
    *,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    stop_event: threading.Event | None = None,
) -> dict[str, Any]:
    """Trains in subprocesses under torchrun and returns the summary; at once when `job.out` is finished.

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
    environment = _environment(env, job.config)
    redact = _redactor(environment)
    last_lines: deque[str] = deque(maxlen=_LINES_KEPT)

    def take(line: str) -> None:
        last_lines.append(redact(line))
        if on_line is not None:
            on_line(last_lines[-1])

    # Not torchrun's own --max-restarts: its ranks meet in a store that still has the dead ones' addresses
    # (pytorch/pytorch#135712), and it starts again whatever the reason was.
    for restarts_left in range(job.config.max_restarts, -1, -1):
        try:
            return _run_once(job, environment, redact, take, stop_event)
        except TrainingStoppedError:
            raise
        except TrainingError as error:
            error.add_note("last lines of output:\n" + "\n".join(last_lines))
            if restarts_left == 0:
                raise
            take(f"{error}; starts again, {restarts_left} restarts are left")
    raise AssertionError("the last round returns or raises")


def _run_once(
    job: TrainingJob,
    environment: Mapping[str, str],
    redact: Callable[[str], str],
    take: Callable[[str], None],
    stop_event: threading.Event | None,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="sap_vision_training_") as scratch:
        failures_file = Path(scratch) / "failures.json"
        process = _start(job, Path(scratch), {**environment, FAILURES_ENV: str(failures_file)})
        grace_s = job.config.shutdown_grace_s + TORCHRUN_MARGIN_S
        was_stopped = False
        try:
            was_stopped = _follow(process, take, stop_event, grace_s)
        finally:
            # Also after a normal end: no helper process of a rank outlives it.
            end_family(process, mark=str(failures_file), grace_s=grace_s)
        failures = json.loads(failures_file.read_text()) if failures_file.exists() else []
    summary = folders.finished_summary(job.out)
    if summary is not None and process.returncode == 0:
        return summary
    # SIGTERM ends a rank that has not come as far as to take it for a request.
    by_request = (STOPPED_STATUS, LOST_PEER_STATUS, *([-signal.SIGTERM] if was_stopped else []))
    causes = [one for one in failures if one["exitcode"] not in by_request]
    if causes:
        raise _cause(causes, redact)
    if was_stopped or failures or process.returncode == 128 + signal.SIGTERM:
        raise _stopped(job.out)
    raise TrainingError(f"torchrun ended with status {process.returncode} and named no rank")


def end_family(process: "subprocess.Popen[str]", *, mark: str, grace_s: float) -> None:
    """SIGTERM to `process`, and after `grace_s` SIGKILL to it and all its descendants that are left.

    `mark` is the value of FAILURES_ENV that they were started with: it finds those too whose parent is gone.
    Raises TrainingError when the kernel does not take one away. A second interrupt skips the grace.
    """
    try:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            _wait_until_gone(process, mark, grace_s)
    finally:
        for member in _family(process, mark):
            # It may end by itself just now.
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        _wait_until_gone(process, mark, KILL_WAIT_S)
    left = [member.pid for member in _family(process, mark)]
    if left:
        raise TrainingError(f"processes {left} survived SIGKILL; see to the machine")
    process.wait()  # it has ended: this only counts it


def _require_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give another directory") from error


def _start(job: TrainingJob, scratch: Path, environment: dict[str, str]) -> "subprocess.Popen[str]":
    job_file = scratch / "job.json"
    job_file.write_text(json.dumps(job.to_json()))
    command = [
        *(sys.executable, "-m", "sap_vision_assets.training.agent", "--standalone"),
        f"--nproc-per-node={job.config.num_processes}",
        "--max-restarts=0",
        f"--shutdown-timeout={int(job.config.shutdown_grace_s)}",
        f"--log-dir={scratch / 'torchrun'}",
        *("-m", WORKER_MODULE, str(job_file)),
    ]
    # A session of its own: Ctrl-C reaches this process alone, which then ends the others in order.
    return subprocess.Popen(
        command,
        env={**environment, PARENT_ENV: str(os.getpid())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _follow(
    process: "subprocess.Popen[str]",
    take: Callable[[str], None],
    stop_event: threading.Event | None,
    grace_s: float,
) -> bool:
    """Passes lines on until the process ends, which SIGTERM makes it do within `grace_s` of `stop_event`.

    Returns whether it was stopped.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    stream = process.stdout
    assert stream is not None

    def read() -> None:
        with stream:
            for line in stream:
                lines.put(line.rstrip("\n"))

    # A thread, for the pipe stays open as long as any grandchild lives.
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    deadline = ask_again = None
    while process.poll() is None and (deadline is None or time.monotonic() < deadline):
        if deadline is None and stop_event is not None and stop_event.is_set():
            deadline, ask_again = time.monotonic() + grace_s, time.monotonic() + ASK_AGAIN_S
            process.terminate()
        elif ask_again is not None and time.monotonic() > ask_again:
            ask_again += ASK_AGAIN_S
            _ask_ranks(process)
        _drain(lines, take, timeout_s=0.2)
    reader.join(timeout=2)
    _drain(lines, take, timeout_s=0)
    return deadline is not None


def _drain(lines: "queue.SimpleQueue[str]", take: Callable[[str], None], *, timeout_s: float) -> None:
    try:
        take(lines.get(timeout=timeout_s) if timeout_s else lines.get_nowait())
        while True:
            take(lines.get_nowait())
    except queue.Empty:
        return


def _stopped(out: Path) -> TrainingStoppedError:
    newest = folders.newest(out)
    where = f"goes on from {newest}" if newest else "begins anew: no checkpoint had been saved"
    return TrainingStoppedError(f"the training was stopped; started again with the same directory it {where}")


def _cause(failures: list[dict[str, Any]], redact: Callable[[str], str]) -> SapVisionError:
    """The failing rank's error, as the type it had where that is one of the caller's to handle."""
    failure = next((failure for failure in failures if failure["error"]), failures[0])
    if failure["error"] is None:
        code = failure["exitcode"]
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return TrainingError(
            f"rank {failure['rank']} was ended by {name} (out of memory, or someone ended it); "
            "start again with the same directory to go on from the newest checkpoint"
        )
    kind, _, text = failure["error"].partition(": ")
    own = getattr(errors, kind, TrainingError)
    detail = text if own is not TrainingError or kind == "TrainingError" else failure["error"]
    error: SapVisionError = own(redact(f"rank {failure['rank']}: {detail}"))
    error.add_note(redact(failure["traceback"]))
    return error


def _environment(extra: Mapping[str, str] | None, config: TrainingConfig) -> dict[str, str]:
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


def _family(process: "subprocess.Popen[str]", mark: str) -> list[psutil.Process]:
    """`process` and its descendants, as far as they run; a zombie has ended, it only was not counted yet."""
    process.poll()
    members = []
    for member in psutil.process_iter():
        try:
            if member.environ().get(FAILURES_ENV) == mark and member.status() != psutil.STATUS_ZOMBIE:
                members.append(member)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return members


def _wait_until_gone(process: "subprocess.Popen[str]", mark: str, timeout_s: float) -> None:
    deadline, ask_again = time.monotonic() + timeout_s, time.monotonic() + ASK_AGAIN_S
    while _family(process, mark) and time.monotonic() < deadline:
        time.sleep(0.1)
        if time.monotonic() > ask_again:
            ask_again += ASK_AGAIN_S
            _ask_ranks(process)


def _ask_ranks(process: "subprocess.Popen[str]") -> None:
    """SIGTERM to the ranks of torchrun, which has had one: it raises an exception wherever it stands, and
    where that is swallowed the signal is lost. A rank takes it for the same request as often as it comes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if WORKER_MODULE in child.cmdline():
                    child.terminate()
