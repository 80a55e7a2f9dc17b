"""The whole graph of one domain without the UI, on the instance that the UI shows: one run per partition."""

import contextlib
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
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from sap_vision_assets.defs.dataset import existing_folder
from sap_vision_assets.defs.dead_runs import HOST_TAG, fail_dead_runs, free_pool_slots
from sap_vision_assets.defs.home import home, prepare_home
from sap_vision_assets.defs.jobs import MODEL_JOBS, prepare_split
from sap_vision_assets.defs.options import check_options
from sap_vision_assets.defs.partitions import (
    GENERAL,
    SPLITS,
    register_domains,
    require_domain_name,
    split_key,
)
from sap_vision_assets.defs.publishing import STATUS
from sap_vision_assets.defs.resources import (
    SETTINGS_FILE,
    Settings,
    load_settings,
    remember_data_root,
    remember_tokenizer,
)
from sap_vision_assets.defs.scopes import CHECKPOINT, GENERAL_SCOPE, scope_of
from sap_vision_assets.defs.training import require_tokens
from sap_vision_assets.errors import SapVisionError

_INTERRUPTED = "DagsterExecutionInterruptedError"
_POLL_S = 0.5
CANCEL_WAIT_S = 120
"""Seconds that a cancelled run gets to end by itself: a training saves a checkpoint first (60 s at most)."""
IDLE_CANCEL_WAIT_S = 5
"""The same while no step runs: Dagster's executor does not heed an interrupt while it waits for a pool."""
_WORKER = "sap_vision_assets.defs.run_worker"
Print = Callable[[str], None]


class RunFailedError(SapVisionError):
    """A run ended without success; the message names the asset or check."""


def run_graph(
    domain: str,
    *,
    data_root: Path | None,
    tokenizer: str | None = None,
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
    show: Print,
) -> None:
    """Prepares the domain's three splits, then trains, judges and promotes its model; blocks meanwhile.

    `data_root` and `tokenizer` become those of the installation: the UI's sensor would else prepare the
    splits anew with the ones that it knows. `settings` and `training` are launchpad values: of the resource,
    and of the checkpoint. `show` gets lines for a person as things happen. Raises InputError before any run
    when a split's folder is missing, `training` is no config of this domain's model, or MiniLM's weights
    would meet other tokens, RunFailedError when a run fails, KeyboardInterrupt when it was interrupted; its
    run is then cancelled and its processes are gone.
    """
    require_domain_name(domain)
    scope, partition = scope_of(domain)
    config = check_options(training, scope.recipe, starts_anew=scope is GENERAL_SCOPE)
    prepare_home()
    # transformers would draw bars between the lines.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    known = Settings(**{**load_settings().model_dump(), **settings})
    known.vocabulary()
    if data_root is not None:
        known = known.model_copy(update={"data_root": str(data_root)})
    if tokenizer is not None:
        known = known.model_copy(update={"tokenizer": tokenizer})
    require_tokens(config, known)
    for split in SPLITS:
        existing_folder(known, domain, split)
    if data_root is not None and remember_data_root(data_root):
        show(f"data root: {data_root}, from now on (data_root in {home() / SETTINGS_FILE})")
    if tokenizer is not None and remember_tokenizer(tokenizer):
        show(f"tokenizer: {tokenizer}, from now on (tokenizer in {home() / SETTINGS_FILE})")
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
    # Dagster would greet with advice: to use a command that is not installed, and on the checkout's
    # dagster.yaml, which is linked into its home, when it starts beside that file.
    quiet = ["-W", "ignore:Function `dev_command` is superseded:FutureWarning"]
    command = [sys.executable, *quiet, "-m", "dagster", "dev", "-m", "sap_vision_assets.definitions"]
    with _interruptible():
        # `dagster dev` ends its children on SIGINT alone: whatever ends this process reaches it as one.
        server = subprocess.Popen(
            [*command, "-h", host, "-p", str(port)], start_new_session=True, cwd=os.environ["DAGSTER_HOME"]
        )
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
        why = f"The process of this run ended with status {status}."
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message=why)
        else:
            instance.report_run_failed(run, why)
        run = instance.get_run_by_id(run_id)
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
    try:
        while worker.poll() is None and not _is_being_cancelled(instance, run_id):
            progress.update()
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_canceling(run)
    finally:
        _end(worker, progress)
    return worker.returncode


def _end(worker: "subprocess.Popen[bytes]", progress: "_Progress") -> None:
    """Interrupts the worker where it still runs; kills it and its descendants when its time is over, or when
    this process is interrupted once more."""
    try:
        if worker.poll() is None:
            worker.send_signal(signal.SIGINT)
            started = time.monotonic()
            while worker.poll() is None:
                progress.update()
                waited = time.monotonic() - started
                if waited > (CANCEL_WAIT_S if progress.running else IDLE_CANCEL_WAIT_S):
                    break
                time.sleep(_POLL_S)
    finally:
        if worker.poll() is None:
            family = psutil.Process(worker.pid).children(recursive=True)
            worker.kill()
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            worker.wait()


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


_STEP_ENDS = (dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE)


class _Progress:
    """A run's events as lines for a person, while it lasts; and the list of what failed."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str, show: Print) -> None:
        self.failures: list[str] = []
        self.running: set[str] = set()
        """Steps that have begun and not ended."""
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
            # What a step logs below a warning is for the UI: its outcome is shown here. So is, by
            # STEP_SKIPPED, what Dagster says at length of each step that did not run.
            is_shown = int(entry.level) >= logging.WARNING and "Not executing." not in entry.user_message
            if entry.step_key and is_shown:
                self._show(f"  {name}: {entry.user_message}")
            return
        if event.event_type == dg.DagsterEventType.STEP_START:
            self._started[name] = entry.timestamp
            self.running.add(name)
        elif event.event_type in _STEP_ENDS:
            self.running.discard(name)
        if event.event_type == dg.DagsterEventType.ENGINE_EVENT:
            pool = event.engine_event_data.metadata.get("pool")
            if pool is not None and event.message and event.message.startswith("Step blocked"):
                self._show(f"  {name}: waits for another run to leave the pool {pool.value!r}")
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
