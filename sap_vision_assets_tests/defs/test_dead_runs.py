"""Runs whose process is gone."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import EngineEventData

from sap_vision_assets.defs.dead_runs import HOST_TAG, fail_dead_runs


@dg.job
def nothing() -> None:
    pass


@pytest.fixture
def ended() -> int:
    """Number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def alive() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n")


def started(instance: dg.DagsterInstance, pid: int, host: str | None) -> str:
    run = instance.create_run_for_job(nothing, tags={} if host is None else {HOST_TAG: host})
    instance.handle_new_event(_started_event(run.run_id))
    instance.report_engine_event("Started", run, EngineEventData.in_process(pid))
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED  # type: ignore[union-attr]
    return run.run_id


def _started_event(run_id: str) -> dg.EventLogEntry:
    import time

    return dg.EventLogEntry(
        error_info=None,
        level="debug",
        user_message="",
        run_id=run_id,
        timestamp=time.time(),
        job_name="nothing",
        dagster_event=dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="nothing"),
    )


@pytest.mark.parametrize(
    ("host", "launched_here", "expected"),
    [
        (socket.gethostname(), False, dg.DagsterRunStatus.FAILURE),
        ("another-machine", True, dg.DagsterRunStatus.STARTED),
        (None, True, dg.DagsterRunStatus.FAILURE),
        (None, False, dg.DagsterRunStatus.STARTED),
    ],
)
def test_a_run_without_its_process_is_ended_where_that_can_be_known(
    ended: int, host: str | None, launched_here: bool, expected: dg.DagsterRunStatus
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run_id = started(instance, ended, host)
        gone = fail_dead_runs(instance, launched_here=launched_here)
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.status == expected
        assert gone == ([run_id] if expected == dg.DagsterRunStatus.FAILURE else [])


def test_a_run_that_was_being_cancelled_is_cancelled(ended: int) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run_id = started(instance, ended, socket.gethostname())
        instance.report_run_canceling(instance.get_run_by_id(run_id))  # type: ignore[arg-type]
        assert fail_dead_runs(instance, launched_here=False) == [run_id]
        assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.CANCELED  # type: ignore[union-attr]


def test_a_run_whose_process_lives_goes_on(alive: int) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        started(instance, alive, socket.gethostname())
        assert fail_dead_runs(instance, launched_here=True) == []
