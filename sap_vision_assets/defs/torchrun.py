"""A training under torchrun, seen live in Dagster through Pipes.

Dagster's own subprocess client interrupts its direct child alone, and torchrun starts its ranks in sessions
of their own: they would outlive a cancelled run and keep the GPU. The launcher ends every descendant in its
`finally`, also when Dagster interrupts this process (DagsterExecutionInterruptedError is a BaseException).
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

from sap_vision_assets.defs.partitions import preview_apis

if TYPE_CHECKING:
    from sap_vision_assets.training.config import TrainingJob

_POLL_S = 0.5
_VALIDATION = "val_"


def run_training(
    context: dg.AssetExecutionContext, job: "TrainingJob", *, progress_interval_s: float
) -> dict[str, Any]:
    """What the launcher returns; meanwhile rank 0's messages become observations of the checkpoint asset."""
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
        stack.enter_context(_forwarded(session, Progress(context, progress_interval_s)))
        return launch(job, env=session.get_bootstrap_env_vars(), on_line=print)


class Progress:
    """Turns rank 0's messages into the event log: not each one, since each is a row that stays."""

    def __init__(self, context: dg.AssetExecutionContext, interval_s: float) -> None:
        self._context = context
        self._interval_s = interval_s
        self._last = float("-inf")
        self._waiting: Mapping[str, Any] | None = None

    def take(self, message: Mapping[str, Any]) -> None:
        """Reports `message` when the interval has passed since the last one, or when it is a score on val.

        Else it is kept, and reported at the end unless a newer one takes its place.
        """
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
