"""The process of one run of the command line: python -m sap_vision_assets.defs.run_worker '<json>'."""

import json
import os
import signal
import sys
import threading
import time
from typing import Any

import dagster as dg


def main(request: dict[str, Any]) -> int:
    """Executes `job` for `partition` under `run_id` on the instance of DAGSTER_HOME; 0 when it succeeded."""
    from sap_vision_assets.definitions import defs  # noqa: PLC0415

    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def(request["job"]).execute_in_process(
            instance=instance,
            partition_key=request["partition"],
            run_config=request["run_config"],
            run_id=request["run_id"],
            tags=request["tags"],
            raise_on_error=False,
        )
    return 0 if result.success else 1


def end_with_parent() -> None:
    """Interrupts this process when its parent is gone: a killed command leaves no training behind."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(json.loads(sys.argv[1])))
