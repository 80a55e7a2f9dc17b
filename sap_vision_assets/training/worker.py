"""One process of a training: `python -m sap_vision_assets.training.worker JOB.json`, alone or under torchrun.

Rank 0 prints, keeps the log and, when Dagster started the training, reports progress through Pipes.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, open_dagster_pipes
from torch.distributed.elastic.multiprocessing.errors import record

from sap_vision_assets.errors import TrainingError
from sap_vision_assets.training import distributed, folders
from sap_vision_assets.training.config import TrainingJob
from sap_vision_assets.training.console import describe
from sap_vision_assets.training.loop import Report, train
from sap_vision_assets.training.run import Run
from sap_vision_assets.training.supervision import (
    LOST_PEER_STATUS,
    STOPPED_STATUS,
    end_with_parent,
    sole_writer,
)

PIPES_INTERVAL_S = 5.0
"""Least time between two progress messages: each becomes a row of Dagster's event log."""
LOST_PEER_WAIT_S = 10.0
"""Seconds that a rank whose neighbour vanished waits for torchrun to see that one first, the cause."""


def run_job(job: TrainingJob, *, stop_requested: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
    """Trains as this process's rank; returns the summary, or None when it was stopped, a checkpoint saved."""
    with ExitStack() as stack:
        if int(os.environ.get("RANK", "0")) == 0:
            # Before the process group: a second training fails here, without having waited for anyone.
            stack.enter_context(sole_writer(job.out))
            folders.sweep(job.out)
        world = distributed.start(job.config)
        report: Report = lambda _: None  # noqa: E731
        # Nobody reads the directory before rank 0 has swept it.
        world.barrier()
        run = Run(job, world)
        if world.is_main:
            report = stack.enter_context(_reports(job))
            if run.start is not None:
                print(run.start.describe(), flush=True)
            else:
                print(f"goes on from step {run.resumed_from}", flush=True)
        summary = train(run, report=report, stop_requested=stop_requested)
        # Not after an error: the other ranks would not answer.
        distributed.stop(world)
        return summary


@record
def main() -> None:
    """Runs the job file named on the command line. Exits with STOPPED_STATUS after SIGTERM."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sap_vision_assets.training.worker JOB.json")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(signal.SIGKILL)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    # [1, 1, D] parameters have more than one stride for the same layout; DDP means well, and is wrong.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    # Said by FSDP2 of logits, which nobody changes in place, and of the loss scaler's flag, each step anew.
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module .* returned a view tensor")
    warnings.filterwarnings("ignore", message="Found a non-scalar tensor with numel=1")
    stop = threading.Event()

    def request_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, request_stop)
    job = TrainingJob.read(Path(sys.argv[1]))
    summary = folders.finished_summary(job.out)
    if summary is None:
        try:
            summary = run_job(job, stop_requested=stop.is_set)
        except RuntimeError as error:
            if not distributed.is_lost_peer(error):
                raise
            if stop.wait(LOST_PEER_WAIT_S):  # SIGTERM: torchrun has seen the cause
                sys.exit(LOST_PEER_STATUS)
            raise TrainingError(
                f"lost the other ranks: {error}. One of them has ended or hangs; "
                "look at the lines before this, and at collective_timeout_s"
            ) from error
    if summary is None:
        sys.exit(STOPPED_STATUS)
    if os.environ.get("RANK", "0") == "0":
        how = "stopped early" if summary["stopped_early"] else "finished"
        print(f"{how}: best score {summary['best_score']:.4f} at step {summary['best_step']}", flush=True)


@contextmanager
def _reports(job: TrainingJob) -> Iterator[Report]:
    """Where rank 0's records go: to its output, and to Dagster where it is there."""
    max_steps = job.config.max_steps

    def show(record: dict[str, Any]) -> None:
        print(describe(record, max_steps), flush=True)

    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ:
        yield show
        return
    with open_dagster_pipes() as pipes:
        last_sent = float("-inf")

        def report(record: dict[str, Any]) -> None:
            nonlocal last_sent
            show(record)
            is_rare = "val_score" in record or record["step"] == max_steps
            if is_rare or time.monotonic() - last_sent >= PIPES_INTERVAL_S:
                last_sent = time.monotonic()
                pipes.report_custom_message({**record, "max_steps": max_steps})

        yield report


def run_and_leave() -> NoReturn:
    """`main`, as a process of its own."""
    status: int | str | None = 1
    try:
        main()
        status = 0
    except SystemExit as error:
        status = error.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
    except BaseException:  # noqa: BLE001  printed as the interpreter would
        traceback.print_exc()
    distributed.leave(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    run_and_leave()
