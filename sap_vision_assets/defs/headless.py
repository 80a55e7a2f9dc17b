"""The whole graph of one domain without the UI, on the instance that the UI shows: one run per partition."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from sap_vision_assets.defs.dataset import existing_folder
from sap_vision_assets.defs.dead_runs import HOST_TAG, fail_dead_runs, free_pool_slots
from sap_vision_assets.defs.home import prepare_home
from sap_vision_assets.defs.jobs import MODEL_JOBS, prepare_split
from sap_vision_assets.defs.partitions import (
    GENERAL,
    SPLITS,
    register_domains,
    require_domain_name,
    split_key,
)
from sap_vision_assets.defs.publishing import STATUS
from sap_vision_assets.defs.resources import Settings, load_settings
from sap_vision_assets.defs.scopes import CHECKPOINT, scope_of
from sap_vision_assets.errors import SapVisionError

_INTERRUPTED = "DagsterExecutionInterruptedError"
_POLL_S = 0.5
_WORKER = "sap_vision_assets.defs.run_worker"
Print = Callable[[str], None]


class RunFailedError(SapVisionError):
    """A run ended without success; the message names the asset or check."""


def run_graph(
    domain: str,
    *,
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
    show: Print,
) -> None:
    """Prepares the domain's three splits, then trains, judges and promotes its model; blocks meanwhile.

    `settings` and `training` are launchpad values: of the resource, and of the checkpoint. `show` gets lines
    for a person as things happen. Raises InputError before any run when a split's folder is missing,
    RunFailedError when a run fails, KeyboardInterrupt when it was interrupted; its run is then cancelled and
    its processes are gone.
    """
    prepare_home()
    # transformers would draw bars between the lines.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    require_domain_name(domain)
    known = Settings(**{**load_settings().model_dump(), **settings})
    known.vocabulary()
    for split in SPLITS:
        existing_folder(known, domain, split)
    scope, partition = scope_of(domain)
    shared = {"resources": {"settings": {"config": dict(settings)}}} if settings else {}
    options = {f"{scope.name}__{CHECKPOINT}": {"config": dict(training)}} if training else {}
    with dg.DagsterInstance.get() as instance, _interruptible():
        for run_id in fail_dead_runs(instance, launched_here=False):
            show(f"run {run_id[:8]} of an earlier process was ended as failed: that process is gone")
        register_domains(instance, [GENERAL, domain])
        for split in SPLITS:
            _execute(instance, prepare_split.name, split_key(domain, split), shared, show)
        _execute(instance, MODEL_JOBS[scope.name], partition or None, {**shared, "ops": options}, show)


def serve(host: str, port: int) -> int:
    """Serves the UI and runs the daemon until interrupted; returns the exit status."""
    prepare_home()
    command = [sys.executable, "-m", "dagster", "dev", "-m", "sap_vision_assets.definitions"]
    with _interruptible():
        # `dagster dev` ends its children on SIGINT alone: whatever ends this process reaches it as one.
        server = subprocess.Popen([*command, "-h", host, "-p", str(port)], start_new_session=True)
        try:
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGINT)
                server.wait()


def _execute(
    instance: dg.DagsterInstance, job: str, partition: str | None, run_config: Mapping[str, Any], show: Print
) -> None:
    run_id = str(uuid.uuid4())
    title = f"{job} {partition or ''}".rstrip()
    show(f"{title}  (run {run_id[:8]})")
    request = {
        "job": job,
        "partition": partition,
        "run_id": run_id,
        # The terminal gets this module's lines; Dagster's own go to the event log, which the UI shows.
        "run_config": {**run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        "tags": {HOST_TAG: socket.gethostname()},
    }
    progress = _Progress(instance, run_id, show)
    status = _supervise(instance, run_id, [sys.executable, "-m", _WORKER, json.dumps(request)], progress)
    progress.update()
    free_pool_slots(instance, run_id)
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_failed(run, f"The process of this run ended with status {status}.")
    if run is not None and run.status == dg.DagsterRunStatus.CANCELED:
        raise KeyboardInterrupt
    if run is None or run.status != dg.DagsterRunStatus.SUCCESS:
        where = "; ".join(progress.failures) or f"its process ended with status {status}; see the lines above"
        raise RunFailedError(f"{title} failed (run {run_id[:8]}): {where}")


def _supervise(instance: dg.DagsterInstance, run_id: str, command: list[str], progress: "_Progress") -> int:
    """Runs the worker to its end and returns its exit status; Ctrl-C and the UI's button end it.

    The worker has a session of its own, so that Ctrl-C reaches this process alone, which records that
    somebody asked before it passes it on: without that record Dagster takes an interrupt for a crash.
    """
    worker = subprocess.Popen(command, start_new_session=True)
    is_told = False
    try:
        while worker.poll() is None:
            progress.update()
            if not is_told and _is_being_cancelled(instance, run_id):
                worker.send_signal(signal.SIGINT)
                is_told = True
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_canceling(run)
    finally:
        if worker.poll() is None and not is_told:
            worker.send_signal(signal.SIGINT)
        worker.wait()
    return worker.returncode


def _is_being_cancelled(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGINT end this process in order, as KeyboardInterrupt; children start with both in force.

    Shells without job control have what runs in the background ignore SIGINT, and children inherit that.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """A run's events as lines for a person, while it lasts; and the list of what failed."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str, show: Print) -> None:
        self.failures: list[str] = []
        self._instance, self._run_id, self._show = instance, run_id, show
        self._cursor: str | None = None
        self._started: dict[str, float] = {}

    def update(self) -> None:
        """Shows what has happened since the last call."""
        has_more = True
        while has_more:
            page = self._instance.get_records_for_run(self._run_id, cursor=self._cursor, limit=500)
            self._cursor, has_more = page.cursor, page.has_more
            for record in page.records:
                self._take(record.event_log_entry)

    def _take(self, entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        name = _name(entry.step_key)
        if event is None:
            # What a step logs below a warning is for the UI: its outcome is shown here.
            if entry.step_key and int(entry.level) >= logging.WARNING:
                self._show(f"  {name}: {entry.user_message}")
        elif event.event_type == dg.DagsterEventType.STEP_START:
            self._started[name] = entry.timestamp
        elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            status = event.step_materialization_data.materialization.metadata.get(STATUS)
            seconds = entry.timestamp - self._started.get(name, entry.timestamp)
            self._show(f"  {name}: {'done' if status is None else status.value} ({seconds:.1f} s)")
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            self._take_check(event.asset_check_evaluation_data)
        elif event.event_type == dg.DagsterEventType.STEP_SKIPPED:
            self._show(f"  {name}: skipped, since something before it failed")
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE and not self.failures:
            cause = _cause(event)
            self.failures.append(f"{name}: {cause}")
            self._show(f"  {name}: {'interrupted' if _INTERRUPTED in cause else 'FAILED'}")

    def _take_check(self, evaluation: dg.AssetCheckEvaluation) -> None:
        name = f"{evaluation.asset_key.to_user_string()}, check {evaluation.check_name}"
        if evaluation.passed:
            verdict = "passed"
        elif evaluation.severity == dg.AssetCheckSeverity.ERROR:
            verdict = "FAILED"
            self.failures.append(f"{name}: {evaluation.description}")
        else:
            verdict = "warns"
        self._show(f"  {name}: {verdict}: {evaluation.description}")


def _cause(event: dg.DagsterEvent) -> str:
    """The innermost error's message, or what a Failure said."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "unknown" if error is None else error.message.strip()


def _name(step_key: str | None) -> str:
    return (step_key or "").replace("__", "/")
