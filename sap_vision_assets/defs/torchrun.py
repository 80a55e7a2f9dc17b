"""A training under torchrun, seen live in Dagster through Pipes.

Dagster's own subprocess client interrupts its direct child alone, and torchrun starts its ranks in sessions
of their own: they would outlive a cancelled run and keep the GPU. The launcher ends every descendant in its
`finally`, also when Dagster interrupts this process (DagsterExecutionInterruptedError is a BaseException).
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from sap_vision_assets.defs.dead_runs import HOST_TAG
from sap_vision_assets.defs.partitions import preview_apis

if TYPE_CHECKING:
    from sap_vision_assets.training.config import TrainingJob
    from sap_vision_assets.training.console import TrainingBar

_POLL_S = 0.5
_VALIDATION = "val_"


def run_training(
    context: dg.AssetExecutionContext, job: "TrainingJob", *, progress_interval_s: float
) -> dict[str, Any]:
    """What the launcher returns; meanwhile rank 0's messages become observations of the checkpoint asset.

    Where `sap-vision run` was given on a terminal, they also move a progress bar there.
    """
    from sap_vision_assets.training.launcher import launch  # noqa: PLC0415

    with ExitStack() as stack:
        with preview_apis():
            session = stack.enter_context(
                dg.open_pipes_session(
                    context=context.op_execution_context,
                    context_injector=dg.PipesTempFileContextInjector(),
                    message_reader=dg.PipesTempFileMessageReader(),
                )
            )
        bar = stack.enter_context(bar_of(context))
        stack.enter_context(_forwarded(session, Progress(context, progress_interval_s, bar)))
        return launch(job, env=session.get_bootstrap_env_vars(), on_line=print)


@contextmanager
def bar_of(context: dg.AssetExecutionContext) -> Iterator["TrainingBar | None"]:
    """The progress bar on the terminal of the person who gave the command; None where there is none.

    During a step Dagster turns this process's own output into a file for the UI, of which `tail` shows the
    lines, so the terminal is looked for where it is left alone: at the command, the parent of a run that the
    command line started. A run of the UI has nobody's terminal.
    """
    terminal = _terminal_of_command() if HOST_TAG in context.run.tags else None
    if terminal is None:
        yield None
        return
    from sap_vision_assets.training.console import TrainingBar  # noqa: PLC0415

    bar = TrainingBar(terminal)
    try:
        yield bar
    finally:
        bar.close()
        os.close(terminal)


def _terminal_of_command() -> int | None:
    output = Path(f"/proc/{os.getppid()}/fd/1")
    try:
        # Opening a pipe could block.
        if not output.is_char_device() or os.environ.get("TERM") in ("dumb", "unknown"):
            return None
        # Without O_NOCTTY it could become this session's own, whose Ctrl-C it would then get.
        descriptor = os.open(output, os.O_WRONLY | os.O_NOCTTY)
    except OSError:  # the command has gone, or is another user's
        return None
    if os.isatty(descriptor):
        return descriptor
    os.close(descriptor)
    return None


class Progress:
    """Turns rank 0's messages into the event log: not each one, since each is a row that stays."""

    def __init__(
        self, context: dg.AssetExecutionContext, interval_s: float, bar: "TrainingBar | None" = None
    ) -> None:
        """`bar` shows every message's step."""
        self._context = context
        self._interval_s = interval_s
        self._bar = bar
        self._last = float("-inf")
        self._waiting: Mapping[str, Any] | None = None

    def take(self, message: Mapping[str, Any]) -> None:
        """Reports `message` when the interval has passed since the last one, or when it is a score on val.

        Else it is kept, and reported at the end unless a newer one takes its place.
        """
        if self._bar is not None:
            self._bar.show(message["step"], message["max_steps"])
        is_score = any(name.startswith(_VALIDATION) for name in message)
        if is_score:
            self.flush()
        self._waiting = message
        if is_score or time.monotonic() - self._last >= self._interval_s:
            self.flush()

    def flush(self) -> None:
        """Reports the newest message if it was not."""
        if self._waiting is None:
            return
        message, self._waiting, self._last = self._waiting, None, time.monotonic()
        numbers = {name: value for name, value in message.items() if _is_number(value)}
        self._context.log.info("  ".join(f"{name} {_shown(value)}" for name, value in numbers.items()))
        self._context.log_event(
            dg.AssetObservation(
                self._context.asset_key,
                partition=self._context.partition_key if self._context.has_partition_key else None,
                # Integers as well: Dagster plots a name only while its type stays the same.
                metadata={name: float(value) for name, value in numbers.items()},
            )
        )


@contextmanager
def _forwarded(session: dg.PipesSession, progress: Progress) -> Iterator[None]:
    done = threading.Event()

    def forward() -> None:
        num_seen = 0
        while True:
            ended = done.wait(_POLL_S)
            messages = session.get_custom_messages()
            for message in messages[num_seen:]:
                progress.take(message)
            num_seen = len(messages)
            if ended:
                return

    thread = threading.Thread(target=forward, name="training-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=10)
        progress.flush()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
