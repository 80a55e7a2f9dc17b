"""The whole graph of one domain without the UI, on the instance that the UI shows: one run per partition."""

import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from sap_vision_assets.defs.automation import MODEL_JOBS, prepare_split
from sap_vision_assets.defs.dataset import existing_folder
from sap_vision_assets.defs.dead_runs import HOST_TAG, fail_dead_runs, free_pool_slots
from sap_vision_assets.defs.home import prepare_home
from sap_vision_assets.defs.partitions import (
    GENERAL,
    SPLITS,
    domain_partitions,
    require_domain_name,
    split_key,
)
from sap_vision_assets.defs.publishing import STATUS
from sap_vision_assets.defs.resources import Settings, load_settings
from sap_vision_assets.defs.scopes import CHECKPOINT, scope_of
from sap_vision_assets.errors import SapVisionError

_POLL_S = 0.5
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
    """Prepares the domain's three splits, then trains, judges and promotes its model. Blocks until it is done.

    `settings` and `training` are launchpad values: of the resource, and of the checkpoint. `show` gets lines for a
    person as things happen. Raises InputError before any run when a split's folder is missing, RunFailedError when
    a run fails, KeyboardInterrupt when it was interrupted; its run is then cancelled and its processes are gone.
    """
    prepare_home()
    require_domain_name(domain)
    known = Settings(**{**load_settings().model_dump(), **settings})
    known.vocabulary()
    for split in SPLITS:
        existing_folder(known, domain, split)
    # After the environment is set: the definitions read the home's settings when they load.
    from sap_vision_assets.definitions import defs  # noqa: PLC0415

    scope, partition = scope_of(domain)
    shared = {"resources": {"settings": {"config": dict(settings)}}} if settings else {}
    options = {f"{scope.name}__{CHECKPOINT}": {"config": dict(training)}} if training else {}
    with dg.DagsterInstance.get() as instance:
        for run_id in fail_dead_runs(instance, launched_here=False):
            show(f"run {run_id[:8]} of an earlier process was ended as failed: that process is gone")
        instance.add_dynamic_partitions(domain_partitions.name, list(dict.fromkeys([GENERAL, domain])))
        for split in SPLITS:
            job = defs.resolve_job_def(prepare_split.name)
            _execute(instance, job, split_key(domain, split), shared, show)
        job = defs.resolve_job_def(MODEL_JOBS[scope.name])
        _execute(instance, job, partition or None, {**shared, "ops": options}, show)


def _execute(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    partition: str | None,
    run_config: Mapping[str, Any],
    show: Print,
) -> None:
    run_id = str(uuid.uuid4())
    show(f"{job.name} {partition or ''}".rstrip() + f"  (run {run_id[:8]})")
    # The terminal gets this module's lines; Dagster's own go to the event log, which the UI shows.
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with _progress(instance, run_id, show) as failures:
        try:
            job.execute_in_process(
                instance=instance,
                partition_key=partition,
                run_config={**run_config, **quiet},
                run_id=run_id,
                tags={HOST_TAG: socket.gethostname()},
                raise_on_error=False,
            )
        finally:
            free_pool_slots(instance, run_id)
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status == dg.DagsterRunStatus.CANCELED:
        raise KeyboardInterrupt
    if run is None or run.status != dg.DagsterRunStatus.SUCCESS:
        where = "; ".join(failures) or "see the run's page in the UI"
        raise RunFailedError(
            f"{job.name} {partition or ''}".rstrip() + f" failed (run {run_id[:8]}): {where}"
        )


@contextmanager
def _progress(instance: dg.DagsterInstance, run_id: str, show: Print) -> Iterator[list[str]]:
    """Shows the run's events while it lasts; yields the list of what failed."""
    failures: list[str] = []
    done = threading.Event()
    cursor: str | None = None

    def follow() -> None:
        nonlocal cursor
        while True:
            ended = done.wait(_POLL_S)
            while True:
                page = instance.get_records_for_run(run_id, cursor=cursor, limit=500)
                cursor = page.cursor
                for record in page.records:
                    _show_event(record.event_log_entry, show, failures)
                if not page.has_more:
                    break
            if ended:
                return

    thread = threading.Thread(target=follow, name="run-progress", daemon=True)
    thread.start()
    try:
        yield failures
    finally:
        done.set()
        thread.join(timeout=10)


def _show_event(entry: dg.EventLogEntry, show: Print, failures: list[str]) -> None:
    event = entry.dagster_event
    if event is None:
        if entry.step_key and entry.user_message and not entry.user_message.startswith("[pipes]"):
            show(f"  {_name(entry.step_key)}: {entry.user_message}")
        return
    kind = event.event_type
    if kind == dg.DagsterEventType.ASSET_MATERIALIZATION:
        found = event.step_materialization_data.materialization.metadata.get(STATUS)
        show(f"  {_name(event.step_key)}: {'done' if found is None else found.value}")
    elif kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        evaluation = event.asset_check_evaluation_data
        passed = "passed" if evaluation.passed else f"FAILED ({evaluation.severity.value})"
        name = f"{evaluation.asset_key.to_user_string()}, check {evaluation.check_name}"
        show(f"  {name}: {passed}: {evaluation.description}")
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
            failures.append(f"{name}: {evaluation.description}")
    elif kind == dg.DagsterEventType.STEP_FAILURE and not failures:
        failures.append(f"{_name(event.step_key)}: {_cause(event)}")


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
