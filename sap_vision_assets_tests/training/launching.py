"""`launch` as a process: python -m sap_vision_assets_tests.training.launching JOB.json. SIGTERM stops it."""

import json
import signal
import sys
import threading
from pathlib import Path

from sap_vision_assets.errors import SapVisionError
from sap_vision_assets.training import TrainingJob, launch


def main() -> None:
    """The last line is the summary as JSON, or the error."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    job = TrainingJob.read(Path(sys.argv[1]))
    try:
        summary = launch(job, on_line=lambda line: print(line, flush=True), stop_event=stop)
    except SapVisionError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
