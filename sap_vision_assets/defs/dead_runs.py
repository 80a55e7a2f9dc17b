"""Runs whose process is gone: Dagster's run monitoring does not ask after processes of its default launcher.

Without this a run that was killed, or whose machine went down, is "started" for ever and keeps its pool slot.
"""

import socket

import dagster as dg
import psutil

HOST_TAG = "sap_vision/host"
"""On runs of the command line: process numbers mean nothing on another machine."""

_WITH_A_PROCESS = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def fail_dead_runs(instance: dg.DagsterInstance, *, launched_here: bool) -> list[str]:
    """Ends runs whose process is gone, as failed, or as cancelled where somebody had asked for that; frees
    their pool slots, and returns their ids.

    `launched_here`: whether runs without a host of their own, those that Dagster launched, belong to this
    machine. Launchers that watch their workers themselves (Kubernetes, Docker) are left to do so.
    """
    ended = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_WITH_A_PROCESS)):
        run = record.dagster_run
        host = run.tags.get(HOST_TAG)
        is_ours = host == socket.gethostname() if host else launched_here and _launches_processes(instance)
        if is_ours and _is_dead(instance, run.run_id, started=record.start_time):
            why = "The process of this run is gone (killed, or the machine went down)."
            if run.status == dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, message=why)
            else:
                instance.report_run_failed(run, why)
            free_pool_slots(instance, run.run_id)
            ended.append(run.run_id)
    return ended


def free_pool_slots(instance: dg.DagsterInstance, run_id: str) -> None:
    """Gives back what an ended run still holds; a daemon does it too, a minute later, where one runs."""
    if instance.event_log_storage.supports_global_concurrency_limits:
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def _launches_processes(instance: dg.DagsterInstance) -> bool:
    return not instance.run_launcher.supports_check_run_worker_health


def _is_dead(instance: dg.DagsterInstance, run_id: str, started: float | None) -> bool:
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        pid = None if event is None else event.engine_event_data.metadata.get("pid")
        if pid is None:
            continue
        # The first process named is the one that executes the run; later ones are those of its steps.
        try:
            process = psutil.Process(int(str(pid.value)))
            reused = started is not None and process.create_time() > started + 1
            return reused or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
    return False
