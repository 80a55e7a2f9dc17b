"""torchrun of one node and its descendants: started, followed, asked to end, and killed where it must be."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from sap_vision_assets.errors import LostRanksError, TrainingError
from sap_vision_assets.training import failures
from sap_vision_assets.training.config import TrainingJob
from sap_vision_assets.training.failures import FAILURES_ENV, Failure
from sap_vision_assets.training.supervision import LOST_PEER_STATUS, PARENT_ENV, STOPPED_STATUS

WORKER_MODULE = "sap_vision_assets.training.worker"
KILL_WAIT_S = 10.0
"""Seconds that the kernel gets to take killed processes away."""
ASK_AGAIN_S = 5.0
"""Seconds between SIGTERM to torchrun and to its ranks themselves, where they still run."""
TORCHRUN_MARGIN_S = 15.0
"""torchrun gives its ranks `shutdown_grace_s`; itself it gets this much more."""
OUTLIVES_RANKS_S = 60.0
"""Seconds that torchrun gets after its ranks: cut off, it waits until the kernel gives its peers up."""
LOOK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How torchrun of one node ended."""

    status: int
    was_stopped: bool
    failures: list[Failure]

    @property
    def causes(self) -> list[Failure]:
        """Failures that nobody asked for."""
        # SIGTERM ends a rank that has not come as far as to take it for a request.
        by_request = (STOPPED_STATUS, LOST_PEER_STATUS, *([-signal.SIGTERM] if self.was_stopped else []))
        return [failure for failure in self.failures if failure.exitcode not in by_request]

    @property
    def is_by_request(self) -> bool:
        """Whether it ended because somebody asked, on this node or another one."""
        asked = self.was_stopped or self.failures or self.status == 128 + signal.SIGTERM
        return bool(asked) and not self.causes

    def with_failures(self, more: Sequence[Failure]) -> "Ending":
        return replace(self, failures=[*self.failures, *more])


def run_torchrun(
    job: TrainingJob,
    arguments: list[str],
    *,
    environment: Mapping[str, str],
    take: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> Ending:
    """Trains as the ranks of this node; `arguments` tell torchrun whom they meet.

    When `should_stop` says so, or on any exception here, the ranks save a checkpoint within the config's
    shutdown_grace_s and are killed after it; none is left when this returns.
    """
    with tempfile.TemporaryDirectory(prefix="sap_vision_torchrun_") as scratch:
        failures_file = Path(scratch) / "failures.json"
        process = _start(job, Path(scratch), arguments, {**environment, FAILURES_ENV: str(failures_file)})
        grace_s = job.config.shutdown_grace_s + TORCHRUN_MARGIN_S
        ranks = _Ranks(process)
        was_stopped = False
        try:
            was_stopped = _follow(process, ranks, take, should_stop, grace_s)
        finally:
            # Also after a normal end: no helper process of a rank outlives it.
            end_family(process, mark=str(failures_file), grace_s=grace_s)
        found = failures.read(failures_file) or ([_stuck()] if ranks.are_outlived else [])
    return Ending(status=process.returncode, was_stopped=was_stopped, failures=found)


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


def _start(
    job: TrainingJob, scratch: Path, arguments: list[str], environment: dict[str, str]
) -> "subprocess.Popen[str]":
    job_file = scratch / "job.json"
    job_file.write_text(json.dumps(job.to_json()))
    command = [
        *(sys.executable, "-m", "sap_vision_assets.training.agent", *arguments),
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


class _Ranks:
    """The ranks of a torchrun, as seen from outside."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._seen_at: float | None = None
        self._looked_at = float("-inf")

    def ask(self) -> None:
        """SIGTERM to each; torchrun has had one: it raises an exception wherever it stands, and where that is
        swallowed the signal is lost. A rank takes it for the same request as often as it comes."""
        for rank in self._now():
            with contextlib.suppress(psutil.NoSuchProcess):
                rank.terminate()

    def look(self) -> None:
        """To be called often, for `are_outlived` to know."""
        if time.monotonic() - self._looked_at >= LOOK_S:
            self._looked_at = time.monotonic()
            if self._now():
                self._seen_at = self._looked_at

    @property
    def are_outlived(self) -> bool:
        """Whether torchrun has stayed too long after the last of them ended."""
        return self._seen_at is not None and self._looked_at - self._seen_at > OUTLIVES_RANKS_S

    def _now(self) -> list[psutil.Process]:
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is none either
                    if WORKER_MODULE in child.cmdline():
                        found.append(child)
        return found


def _stuck() -> Failure:
    return Failure(
        rank=None,
        host=socket.gethostname(),
        exitcode=1,
        error=f"{LostRanksError.__name__}: its ranks ended, and it cannot reach the launching node; "
        "look at the lines before this",
    )


def _follow(
    process: "subprocess.Popen[str]",
    ranks: _Ranks,
    take: Callable[[str], None],
    should_stop: Callable[[], bool],
    grace_s: float,
) -> bool:
    """Passes lines on until the process ends, which SIGTERM makes it do within `grace_s` of `should_stop`.

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
        if deadline is None and should_stop():
            deadline, ask_again = time.monotonic() + grace_s, time.monotonic() + ASK_AGAIN_S
            process.terminate()
        elif ask_again is not None and time.monotonic() > ask_again:
            ask_again += ASK_AGAIN_S
            ranks.ask()
        ranks.look()
        if ranks.are_outlived:
            break
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
            _Ranks(process).ask()
