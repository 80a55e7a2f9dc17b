"""Why ranks ended: what torchrun of each node writes down, and the one error that is made of it. No torch."""

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sap_vision_assets import errors
from sap_vision_assets.errors import LostRanksError, SapVisionError, TrainingError

FAILURES_ENV = "SAP_VISION_FAILURES_FILE"
"""Names the file that torchrun writes its failures to; its value also tells the processes of one torchrun."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How one rank ended, or torchrun itself."""

    rank: int | None
    """None: torchrun."""
    host: str | None
    """None: there is one machine alone."""
    exitcode: int
    """Negative: the signal that ended it."""
    error: str | None = None
    """"Type: message" of the exception; None when there was none."""
    traceback: str = ""

    @property
    def is_consequence(self) -> bool:
        """Whether the cause is to be looked for at other ranks."""
        return self.error is not None and self.error.startswith(f"{LostRanksError.__name__}: ")


def write(file: Path, failures: Sequence[Failure] | None) -> None:
    """At once or not at all, for other machines read it. None: no failure so far."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(json.dumps(None if failures is None else [asdict(failure) for failure in failures]))
    os.replace(new, file)  # noqa: PTH105  both names are this module's


def read(file: Path) -> list[Failure] | None:
    """What `write` wrote; None also where there is no file."""
    try:
        records = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    return None if records is None else [Failure(**record) for record in records]


def as_error(
    failures: Sequence[Failure], redact: Callable[[str], str], *, silent: Sequence[str] = ()
) -> SapVisionError:
    """The first cause's error, as the type it had where that is one of the caller's to handle.

    `failures` has one at least. What ranks say that only lost others counts when nothing else is known; then
    the machines that are `silent` are named.
    """
    first = min(failures, key=lambda failure: (failure.is_consequence, failure.error is None))
    who = "torchrun" if first.rank is None else f"rank {first.rank}"
    where = who if first.host is None else f"{who} on {first.host}"
    if first.error is None:
        code = first.exitcode
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return TrainingError(
            f"{where} was ended by {name} (out of memory, or someone ended it); "
            "start again with the same directory to go on from the newest checkpoint"
        )
    kind, _, text = first.error.partition(": ")
    own = getattr(errors, kind, TrainingError)
    detail = text if own is not TrainingError or kind == "TrainingError" else first.error
    if first.is_consequence and silent:
        detail += f". No word from {', '.join(silent)}: killed, or cut off"
    error: SapVisionError = own(redact(f"{where}: {detail}"))
    error.add_note(redact(first.traceback))
    return error
