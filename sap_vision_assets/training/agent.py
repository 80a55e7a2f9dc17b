"""torchrun, with two habits added: it ends with its parent, and it writes down which rank failed and why."""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousTimeoutError

from sap_vision_assets.errors import LostRanksError, TrainingError
from sap_vision_assets.training import failures
from sap_vision_assets.training.failures import FAILURES_ENV, Failure
from sap_vision_assets.training.supervision import end_with_parent


def main() -> None:
    """Takes torchrun's arguments."""
    # SIGTERM, not SIGKILL: the ranks save a checkpoint when whoever started the training is gone.
    end_with_parent(signal.SIGTERM)
    arguments = torchrun.parse_args(sys.argv[1:])  # type: ignore[no-untyped-call]
    host = None if arguments.standalone else socket.gethostname()
    try:
        torchrun.run(arguments)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        found = [_describe(rank, host, failure) for rank, failure in error.failures.items()]
        if any(failure.is_consequence for failure in found):
            # Such a rank waited in vain for torchrun to see a cause: what a signal ended, torchrun ended.
            found = [failure for failure in found if failure.exitcode >= 0]
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except (RendezvousError, dist.DistError) as error:
        found = [Failure(rank=None, host=host, exitcode=1, error=_why_not_met(error, arguments))]
    else:
        return
    failures.write(Path(os.environ[FAILURES_ENV]), found)
    sys.exit(1)


def _describe(rank: int, host: str | None, failure: ProcessFailure) -> Failure:
    message: Any = failure.message
    structured = isinstance(message, dict)
    return Failure(
        rank=rank,
        host=host,
        exitcode=failure.exitcode,
        error=message["message"] if structured else None,
        traceback=message.get("extraInfo", {}).get("py_callstack", "") if structured else "",
    )


def _why_not_met(error: BaseException, arguments: argparse.Namespace) -> str:
    """As "Type: message". A node that cannot reach the launching one any more only has a consequence."""
    if isinstance(error, RendezvousTimeoutError):
        return (
            f"{TrainingError.__name__}: {arguments.nnodes} nodes did not come together at "
            f"{arguments.rdzv_endpoint} within collective_timeout_s; "
            "run `sap-vision join` on each machine but the first, and see what it says there"
        )
    cause = error.__cause__ or error
    return f"{LostRanksError.__name__}: {arguments.rdzv_endpoint}: {type(cause).__name__}: {cause}"


if __name__ == "__main__":
    main()
