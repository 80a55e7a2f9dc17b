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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, open_dagster_pipes
from torch.distributed.elastic.multiprocessing.errors import record

from sap_vision_assets.errors import LostRanksError
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


def run_job(
    job: TrainingJob,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    on_joined: Callable[[], object] = lambda: None,
) -> dict[str, Any] | None:
    """Trains as this process's rank; returns the summary, or None when it was stopped, a checkpoint saved.

    `on_joined` is called once all ranks have come together: before that there is nothing to save.
    """
    with ExitStack() as stack:
        if int(os.environ.get("RANK", "0")) == 0:
            # Before the process group: a second training fails here, without having waited for anyone.
            stack.enter_context(sole_writer(job.out, wait_s=job.config.shutdown_grace_s))
            folders.sweep(job.out)
        world = distributed.start(job.config)
        report: Report = lambda _: None  # noqa: E731
        # Nobody reads the directory before rank 0 has swept it.
        world.barrier()
        on_joined()
        summary = folders.finished_summary(job.out)
        if summary is not None:  # by the training that rank 0 waited for
            return summary
        run = Run(job, world)
        if world.is_main:
            report = stack.enter_context(_reports(job))
            if run.start is not None:
                _say(run.start.describe())
            else:
                _say(f"goes on from step {run.resumed_from}")
        summary = train(run, report=report, stop_requested=stop_requested)
        # Not after an error: the other ranks would not answer.
        distributed.stop(world)
        return summary


@record
def main() -> None:
    """Runs the job file named on the command line. Exits with STOPPED_STATUS after SIGTERM."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sap_vision_assets.training.worker JOB.json")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # where the parent ignored it, this process would too
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

    job = TrainingJob.read(Path(sys.argv[1]))
    summary = folders.finished_summary(job.out)
    if summary is None:
        try:
            summary = run_job(
                job,
                stop_requested=stop.is_set,
                # Not before: a rank that waits for the others in C++ would not come to heed it.
                on_joined=lambda: signal.signal(signal.SIGTERM, request_stop),
            )
        except RuntimeError as error:
            if not distributed.is_lost_peer(error):
                raise
            if stop.wait(LOST_PEER_WAIT_S):  # SIGTERM: torchrun has seen the cause
                sys.exit(LOST_PEER_STATUS)
            raise LostRanksError(
                f"lost the other ranks: {error}. One of them has ended, hangs, or cannot be reached; "
                f"look at the lines before this, at collective_timeout_s={job.config.collective_timeout_s:g}"
                + (", and at GLOO_SOCKET_IFNAME" if job.config.num_nodes > 1 else "")
            ) from error
    if summary is None:
        sys.exit(STOPPED_STATUS)
    if os.environ.get("RANK", "0") == "0":
        how = "stopped early" if summary["stopped_early"] else "finished"
        _say(f"{how}: best score {summary['best_score']:.4f} at step {summary['best_step']}")


def _say(line: str) -> None:
    """Prints it. Nobody reads it any more when what started the training was killed: a checkpoint is then
    still to be saved."""
    with suppress(BrokenPipeError):
        print(line, flush=True)


@contextmanager
def _reports(job: TrainingJob) -> Iterator[Report]:
    """Where rank 0's records go: to its output, and to Dagster where it is there."""
    max_steps = job.config.max_steps

    def show(record: dict[str, Any]) -> None:
        _say(describe(record, max_steps))

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
