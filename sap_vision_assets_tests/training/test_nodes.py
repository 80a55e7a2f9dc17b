"""What a machine refuses before it takes part in a training. Two that do train: test_several_machines.py."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sap_vision_assets import cli
from sap_vision_assets.errors import InputError, LostRanksError, TrainingError
from sap_vision_assets.training import TrainingJob, folders, joining, launch, nodes
from sap_vision_assets.training.failures import Failure, as_error, read, write
from sap_vision_assets.training.joining import join
from sap_vision_assets.training.launcher import TrainingStoppedError
from sap_vision_assets.training.processes import Ending
from sap_vision_assets.training.supervision import sole_writer
from sap_vision_assets_tests.training.making import make_job


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    out = tmp_path / "out"
    out.mkdir()
    return make_job(tmp_path / "shards", out, num_nodes=2)


@pytest.fixture
def endings(monkeypatch: pytest.MonkeyPatch) -> list[Ending]:
    """What torchrun of this machine is to end with, in turn; the last one stays out when it trained."""
    waiting: list[Ending] = []

    def run(job: TrainingJob, arguments: list[str], **_: Any) -> Ending:
        return waiting.pop(0)

    monkeypatch.setattr(joining, "run_torchrun", run)
    monkeypatch.setattr(nodes, "POLL_S", 0.01)
    return waiting


def ending(*failures: Failure, status: int = 1) -> Ending:
    return Ending(status=status, was_stopped=False, failures=list(failures))


def lost(rank: int | None, host: str) -> Failure:
    return Failure(rank=rank, host=host, exitcode=1, error="LostRanksError: lost the other ranks")


def rewrite(job: TrainingJob, change: Callable[[dict[str, Any]], Any]) -> None:
    file = job.out / ".nodes" / "job.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def test_what_is_announced_is_understood_and_taken_away(job: TrainingJob) -> None:
    first = nodes.announce(job, restarts_left=1)
    assert nodes.announced(job.out) == first
    assert first.job == job
    host, _, port = first.endpoint.rpartition(":")
    assert host
    assert int(port) > 0
    second = nodes.announce(job, restarts_left=0)
    assert nodes.announced(job.out) == second
    assert second.rendezvous_id != first.rendezvous_id
    nodes.withdraw(job.out)
    assert nodes.announced(job.out) is None
    assert list(job.out.iterdir()) == []


def test_paths_are_those_of_the_launching_machine(
    job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = make_job(Path("shards"), Path("out"), num_nodes=2)
    assert nodes.announce(relative, restarts_left=0).job == job


def test_only_the_launching_machine_can_get_rank_0(job: TrainingJob) -> None:
    config = {"num_nodes": 2, "rendezvous_endpoint": "[fd00::1]:29400", "collective_timeout_s": 90.5}
    meeting = nodes.announce(make_job(job.train_shards, job.out, **config), restarts_left=0)
    launching, joining_one = (
        nodes.torchrun_arguments(meeting, is_launching=is_launching) for is_launching in (True, False)
    )
    assert launching == [
        "--nnodes=2",
        "--rdzv-backend=c10d",
        f"--rdzv-id={meeting.rendezvous_id}",
        "--rdzv-endpoint=[fd00::1]:29400",
        "--rdzv-conf=is_host=1,join_timeout=90,read_timeout=60",
        "--local-addr=fd00::1",
    ]
    assert joining_one[:4] == launching[:4]
    assert joining_one[4] == "--rdzv-conf=is_host=0,join_timeout=90,read_timeout=60"
    name = joining_one[5].removeprefix("--local-addr=")
    # Behind every name and address that there can be: torchrun sorts them as text.
    assert name > max("zzz", "ZZZ", "fd00::1", "10.0.0.1", "node_9")
    assert nodes.torchrun_arguments(meeting, is_launching=False)[5] != joining_one[5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict, None),
        (
            lambda record: record["versions"].update(code="0123456789abcdef"),
            "other versions: code [0-9a-f]{16} here, 0123456789abcdef there; install the same release",
        ),
        (lambda record: record["versions"].update(torch="2.12.0"), r"torch 2\.13\.0\S* here, 2\.12\.0 there"),
        (lambda record: record.pop("versions"), "with other versions: code"),
        (lambda record: record.update(vocabulary_digest="feed"), "its digest is [0-9a-f]+ here and feed on"),
        (lambda record: record["job"]["config"].update(num_gpus=4), "num_gpus"),
        (
            lambda record: record["job"].update(out="/elsewhere"),
            "mount the shared file system at the same path",
        ),
    ],
    ids=["the same", "code", "torch", "none", "vocabulary", "config", "path"],
)
def test_machine_that_differs_is_refused(
    change: Callable[[dict[str, Any]], Any],
    message: str | None,
    job: TrainingJob,
    endings: list[Ending],
    capsys: pytest.CaptureFixture[str],
) -> None:
    nodes.announce(job, restarts_left=0)
    rewrite(job, change)
    endings.append(ending(status=0))
    if message is None:
        assert cli.main(["join", str(job.out)]) == 0
        assert not endings
        return
    with pytest.raises(InputError, match=message):
        join(lambda: [job.out], wait_s=5)
    assert cli.main(["join", str(job.out)]) == 1
    assert capsys.readouterr().err.startswith("sap-vision: ")
    assert len(endings) == 1  # It was not started.


def test_half_an_announcement_is_refused(job: TrainingJob) -> None:
    nodes.announce(job, restarts_left=0)
    file = job.out / ".nodes" / "job.json"
    file.write_text(file.read_text()[:-10])
    with pytest.raises(InputError, match=r"job\.json: cannot be read"):
        nodes.announced(job.out)


def test_one_machine_too_many_is_refused(job: TrainingJob, endings: list[Ending]) -> None:
    meeting = nodes.announce(job, restarts_left=0)
    meeting.new_report()
    with pytest.raises(InputError, match=r"num_nodes=2, and .* came to .* before; raise num_nodes"):
        join(lambda: [job.out], wait_s=5)


def test_waiting_ends(job: TrainingJob, tmp_path: Path, endings: list[Ending]) -> None:
    with pytest.raises(InputError, match=rf"announced within 0\.05 s \({job.out}\); start it on the first"):
        join(lambda: [job.out], wait_s=0.05)
    stop = threading.Event()
    stop.set()
    with pytest.raises(TrainingStoppedError, match="stopped while it waited"):
        join(lambda: [], wait_s=60, stop_event=stop)


def test_newest_of_several_announcements_counts(job: TrainingJob, tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("a", "b", "c")]
    for age, out in enumerate(others[:2]):
        nodes.announce(make_job(job.train_shards, out, num_nodes=2), restarts_left=0)
        os.utime(out / ".nodes" / "job.json", (1000 - age, 1000 - age))
    assert nodes.newest_announcement(others) == others[0]
    assert nodes.newest_announcement(others[2:]) is None


def test_finished_training_needs_nobody(
    job: TrainingJob, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "finished_summary", lambda _: {"steps": 1})
    assert cli.main(["join", str(job.out)]) == 0
    assert "has ended already" in capsys.readouterr().out


def test_joins_again_where_the_launching_machine_starts_again(
    job: TrainingJob, endings: list[Ending]
) -> None:
    nodes.announce(job, restarts_left=1)
    endings += [ending(lost(1, "b")), ending(status=0)]
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)

    again = threading.Timer(0.2, lambda: nodes.announce(job, restarts_left=0))
    again.start()
    join(lambda: [job.out], wait_s=20, on_line=take)
    again.join()
    assert [line.partition(" ")[0] for line in lines] == ["joins", "rank", "joins"]
    assert not endings


@pytest.mark.parametrize("restarts_left", [0, 1])
def test_gives_up_where_it_does_not(restarts_left: int, job: TrainingJob, endings: list[Ending]) -> None:
    meeting = nodes.announce(job, restarts_left=restarts_left)
    endings.append(ending(status=-9))
    gone = threading.Timer(0.2, lambda: nodes.withdraw(job.out))
    if restarts_left:
        gone.start()
    with pytest.raises(TrainingError, match=r"torchrun on \S+ was ended by SIGKILL"):
        join(lambda: [job.out], wait_s=60)
    if restarts_left:
        gone.join()
        return
    # The launching machine is told.
    ((failure,),) = [report for report in meeting.reports().values() if report is not None]
    assert (failure.rank, failure.exitcode) == (None, -9)


def test_second_launch_is_refused_and_calls_nobody_away(job: TrainingJob) -> None:
    meeting = nodes.announce(job, restarts_left=0)
    with (
        sole_writer(job.out, nodes.LAUNCH_LOCK),
        pytest.raises(InputError, match="another training is writing here"),
    ):
        launch(job)
    assert nodes.announced(job.out) == meeting


def test_reports_are_waited_for(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "POLL_S", 0.01)
    monkeypatch.setattr(nodes, "REPORT_WAIT_S", 0.2)
    meeting = nodes.announce(job, restarts_left=0)
    report = meeting.new_report()
    host = report.name.rpartition("-")[0]
    assert nodes.wait_for_reports(meeting) == ([], [host])
    cause = Failure(rank=1, host=host, exitcode=1, error="InputError: no such file", traceback="line 3")
    monkeypatch.setattr(nodes, "REPORT_WAIT_S", 60)
    late = threading.Timer(0.2, lambda: write(report, [cause]))
    late.start()
    started = time.monotonic()
    assert nodes.wait_for_reports(meeting) == ([cause], [])
    assert time.monotonic() - started < 30
    late.join()
    assert read(report) == [cause]


def test_cause_on_another_machine_comes_before_its_consequence() -> None:
    killed = Failure(rank=1, host="b", exitcode=-9)
    told = as_error([lost(0, "a"), killed], str)
    assert str(told).startswith("rank 1 on b was ended by SIGKILL")
    assert type(told) is TrainingError
    nothing_known = as_error([lost(0, "a")], str, silent=["b", "c"])
    assert isinstance(nothing_known, LostRanksError)
    assert str(nothing_known) == ("rank 0 on a: lost the other ranks. No word from b, c: killed, or cut off")
    typed = as_error([lost(0, "a"), Failure(rank=1, host="b", exitcode=1, error="InputError: x")], str)
    assert isinstance(typed, InputError)
