"""torchrun, with two habits added: it ends with its parent, and it writes down which rank failed and why."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from sap_vision_assets.training.supervision import end_with_parent

FAILURES_ENV = "SAP_VISION_FAILURES_FILE"
"""Names the file that gets the failures, a JSON list of {"rank", "exitcode", "error", "traceback"}."""


def main() -> None:
    """Takes torchrun's arguments."""
    # SIGTERM, not SIGKILL: the ranks save a checkpoint when whoever started the training is gone.
    end_with_parent(signal.SIGTERM)
    try:
        torchrun.run(torchrun.parse_args(sys.argv[1:]))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        failures = [_describe(rank, failure) for rank, failure in error.failures.items()]
        Path(os.environ[FAILURES_ENV]).write_text(json.dumps(failures))
        sys.exit(1)
    except SignalException as error:
        sys.exit(128 + error.sigval)


def _describe(rank: int, failure: ProcessFailure) -> dict[str, Any]:
    message: Any = failure.message
    structured = isinstance(message, dict)
    return {
        "rank": rank,
        "exitcode": failure.exitcode,
        "error": message["message"] if structured else None,
        "traceback": message.get("extraInfo", {}).get("py_callstack", "") if structured else "",
    }


if __name__ == "__main__":
    main()
