"""A training's part on a node where it was not asked for. No torch in this process."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from sap_vision_assets.errors import InputError, SapVisionError, TrainingError
from sap_vision_assets.training import failures, nodes
from sap_vision_assets.training.failures import Failure
from sap_vision_assets.training.launcher import Console, TrainingStoppedError, as_error, make_environment
from sap_vision_assets.training.nodes import Meeting
from sap_vision_assets.training.processes import run_torchrun

Stop = Callable[[], bool]


def join(
    candidates: Callable[[], Iterable[Path]],
    *,
    wait_s: float,
    on_line: Callable[[str], None] | None = None,
    stop_event: threading.Event | None = None,
) -> None:
    """Takes part in the training that is announced in one of the `candidates`; returns after its success.

    Waits up to `wait_s` for it, and again where the launching node starts it anew after a failure. `on_line`,
    `stop_event` and exceptions are as those of `launch`: to stop one node is to stop them all. Raises
    InputError when none is announced, or when this machine's code, vocabulary or paths are not the launching
    node's.
    """
    should_stop = stop_event.is_set if stop_event is not None else lambda: False
    out, meeting = _wait(candidates, wait_s, should_stop)
    while True:
        nodes.require_member(meeting, out)
        console = Console(make_environment(None, meeting.job.config), on_line)
        console.take(f"joins {meeting.host} at {meeting.endpoint} to train {meeting.job.out}")
        error = _take_part(meeting, console, should_stop)
        if error is None:
            return
        next_one = _next(meeting, error, wait_s, should_stop)
        if next_one is None:
            console.add_last_lines(error)
            raise error
        console.take(f"{error}; joins again")
        meeting = next_one


def _take_part(meeting: Meeting, console: Console, should_stop: Stop) -> SapVisionError | None:
    """Trains as this node, until the launching node announces another meeting; returns why it failed."""
    is_over = _IsOver(meeting)
    report = meeting.new_report()
    ending = run_torchrun(
        meeting.job,
        nodes.torchrun_arguments(meeting, is_launching=False),
        environment=make_environment(None, meeting.job.config),
        take=console.take,
        should_stop=lambda: should_stop() or is_over(),
    )
    if ending.status == 0:
        return None
    said = ending.failures
    if not said and not ending.is_by_request:
        said = [Failure(rank=None, host=socket.gethostname(), exitcode=ending.status)]
    # A launching node that has ended takes all reports away.
    with contextlib.suppress(FileNotFoundError):
        failures.write(report, said)
    return as_error(replace(ending, failures=said), meeting.job.out, console.redact)


def _next(meeting: Meeting, error: SapVisionError, wait_s: float, should_stop: Stop) -> Meeting | None:
    """The meeting that the launching node announces after this one has failed; None when there is none."""
    deadline = time.monotonic() + wait_s
    is_final = not isinstance(error, TrainingError) or isinstance(error, TrainingStoppedError)
    may_follow = meeting.restarts_left > 0 and not is_final
    while True:
        now = nodes.announced(meeting.job.out)
        if now is None or now.rendezvous_id != meeting.rendezvous_id:
            return now
        if not may_follow or should_stop() or time.monotonic() > deadline:
            return None
        time.sleep(nodes.POLL_S)


class _IsOver:
    """Whether the launching node has announced another meeting in place of this one."""

    def __init__(self, meeting: Meeting) -> None:
        self._meeting = meeting
        self._asked_at = float("-inf")
        self._answer = False

    def __call__(self) -> bool:
        if not self._answer and time.monotonic() - self._asked_at > nodes.POLL_S:
            self._asked_at = time.monotonic()
            now = nodes.announced(self._meeting.job.out)
            self._answer = now is not None and now.rendezvous_id != self._meeting.rendezvous_id
        return self._answer


def _wait(candidates: Callable[[], Iterable[Path]], wait_s: float, should_stop: Stop) -> tuple[Path, Meeting]:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        out = nodes.newest_announcement(candidates())
        meeting = None if out is None else nodes.announced(out)
        if out is not None and meeting is not None:
            return out, meeting
        if should_stop():
            raise TrainingStoppedError("stopped while it waited for the launching node")
        time.sleep(nodes.POLL_S)
    looked = ", ".join(map(str, candidates())) or "no training is under way"
    raise InputError(
        f"no training of several machines was announced within {wait_s:g} s ({looked}); "
        "start it on the first machine with num_nodes above 1, on a file system that both share"
    )
