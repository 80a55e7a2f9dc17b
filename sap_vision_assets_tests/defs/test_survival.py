"""Runs whose training is cancelled, killed or fails: nothing runs on, no slot is held, no step is lost.

Each step of these runs is a process of its own, as those of the UI are.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from sap_vision_assets.artifacts import ArtifactStore
from sap_vision_assets.defs.dead_runs import fail_dead_runs
from sap_vision_assets.defs.home import prepare_home
from sap_vision_assets.defs.partitions import register_domains
from sap_vision_assets.training import folders
from sap_vision_assets_tests.defs.conftest import failure, run
from sap_vision_assets_tests.defs.pages import write_split

CHECKPOINT = "general/checkpoint"
TINY = {"recipe": "tiny", "max_steps": 2, "warmup_steps": 1}
NEVER_SAVED = {"eval_every_steps": 1_000_000, "save_every_steps": 1_000_000}
"""But on request."""
LONG = {"recipe": "tiny", "max_steps": 1_000_000, **NEVER_SAVED}
PROGRAM = """
import json, signal, sys
import dagster as dg
from sap_vision_assets.definitions import defs

def general_model():
    return defs.resolve_job_def("general_model")

def execute():
    # A shell's background commands ignore it, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with dg.DagsterInstance.get() as instance:
        dg.execute_job(
            dg.reconstructable(general_model),
            instance=instance,
            run_config={"ops": {"general__checkpoint": {"config": json.loads(sys.argv[1])}}},
            asset_selection=[dg.AssetKey(["general", "checkpoint"])],
        )

if __name__ == "__main__":
    import run_of_the_ui
    run_of_the_ui.execute()
"""


@dataclass(kw_only=True)
class Started:
    """A run of the UI, in the middle of its training."""

    worker: "subprocess.Popen[bytes]"
    """The process that executes the run."""
    family: list[psutil.Process]
    """Below it: its step, torchrun, the rank."""
    output: str
    """So far."""

    @property
    def step(self) -> psutil.Process:
        """The process of the step: torchrun's parent."""
        (torchrun,) = (one for one in self.family if "sap_vision_assets.training.agent" in one.cmdline())
        parent = torchrun.parent()
        assert parent is not None
        assert parent.pid != self.worker.pid
        return parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a training set and a checkpoint of two steps."""
    home = tmp_path_factory.mktemp("home")
    for split, count in (("train", 6), ("val", 3)):
        write_split(home / "data", "general", split, count)
    programs = tmp_path_factory.mktemp("programs")
    (programs / "run_of_the_ui.py").write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAP_VISION_HOME", str(home))
        patch.setenv("DAGSTER_HOME", str(home))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(programs), os.environ.get("PYTHONPATH", "")]))
        for name in ("SAP_VISION_DATA", "SAP_VISION_VOCABULARY"):
            patch.delenv(name, raising=False)
        prepare_home()
        with dg.DagsterInstance.get() as instance:
            register_domains(instance, ["general"])
            for split in ("train", "val"):
                assert run(instance, "prepare_split", f"general|{split}").success
            assert run(instance, "general_model", assets=["general/training_set"]).success
            assert train(instance).success
        yield home


@pytest.fixture
def instance(installed: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as found:
        yield found


def train(instance: dg.DagsterInstance, **changes: Any) -> dg.ExecuteInProcessResult:
    options = {"general__checkpoint": {"config": {**TINY, **changes}}}
    return run(instance, "general_model", assets=[CHECKPOINT], ops=options)


def start(folder: Path, name: str) -> Started:
    """Starts a run and returns once its training has taken a few steps in this start."""
    log = folder / name
    with log.open("w") as stream:
        worker = subprocess.Popen(
            [sys.executable, "-m", "run_of_the_ui", json.dumps(LONG)],
            stdout=stream,
            stderr=stream,
        )
    wait_for(lambda: log.read_text().count("  loss ") >= 3, worker, log)
    family = psutil.Process(worker.pid).children(recursive=True)
    assert any("sap_vision_assets.training.worker" in one.cmdline() for one in family)
    return Started(worker=worker, family=family, output=log.read_text())


def wait_for(condition: Callable[[], bool], worker: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert worker.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def assert_all_gone(started: Started) -> None:
    """But for zombies, which have ended: nobody asks after the children of a process that was killed."""
    psutil.wait_procs(started.family, timeout=120)
    assert not [one for one in started.family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def saved_step(home: Path) -> int:
    """Of the one training that is not done: its newest checkpoint is as far as its log is."""
    (log,) = (
        log
        for log in home.glob(f"artifacts/{CHECKPOINT}/*/log.jsonl")
        if not (log.parent / "manifest.json").exists()
    )
    records = [json.loads(line) for line in log.read_text().splitlines()]
    newest = folders.newest(log.parent)
    assert newest == log.parent / f"checkpoint-{records[-1]['step']}"
    assert folders.verify(newest)
    return int(records[-1]["step"])


def last_status(instance: dg.DagsterInstance) -> dg.DagsterRunStatus:
    return instance.get_runs(limit=1)[0].status


def claimed(instance: dg.DagsterInstance) -> int:
    return len(instance.event_log_storage.get_concurrency_info("gpu").claimed_slots)


def artefacts(home: Path) -> dict[str, bytes]:
    """Every published version of the checkpoint, and which is current."""
    folder = home / "artifacts" / CHECKPOINT
    published = [manifest.parent for manifest in folder.glob("*/manifest.json")]
    files = [folder / "current.json", *(file for one in published for file in one.rglob("*"))]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def test_cancelled_and_killed_runs_leave_no_process_and_no_slot_and_the_next_goes_on(
    installed: Path, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    before = artefacts(installed)

    # Terminated in the UI: Dagster records that, and interrupts the run's process.
    started = start(tmp_path, "cancelled")
    assert claimed(instance) == 1
    instance.report_run_canceling(instance.get_runs(limit=1)[0])
    started.worker.send_signal(signal.SIGINT)
    started.worker.wait(timeout=120)
    assert_all_gone(started)
    assert last_status(instance) == dg.DagsterRunStatus.CANCELED
    assert claimed(instance) == 0
    step = saved_step(installed)

    # kill -9 of the step's process, whose run outlives it.
    started = start(tmp_path, "step")
    assert f"goes on from step {step}\n" in started.output
    assert claimed(instance) == 1
    started.step.kill()
    started.worker.wait(timeout=120)
    assert_all_gone(started)
    assert last_status(instance) == dg.DagsterRunStatus.FAILURE
    assert claimed(instance) == 0
    step, step_before = saved_step(installed), step
    assert step > step_before

    # kill -9 of the process that executes the run.
    started = start(tmp_path, "run")
    assert f"goes on from step {step}\n" in started.output
    started.worker.kill()
    started.worker.wait()
    assert_all_gone(started)
    assert saved_step(installed) > step
    assert claimed(instance) == 1
    assert len(fail_dead_runs(instance, launched_here=True)) == 1
    assert last_status(instance) == dg.DagsterRunStatus.FAILURE
    assert claimed(instance) == 0

    assert artefacts(installed) == before


def test_the_asset_fails_when_the_restarts_are_used_up(
    installed: Path, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULT 48. The twin is the same training without the fault, which goes on."""
    before = artefacts(installed)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "if 'RANK' in os.environ:\n"
        "    from sap_vision_assets.training import loop\n"
        "    loop._evaluate = lambda run, log: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    changes = {"max_steps": 4, "eval_every_steps": 2, "save_every_steps": 1, "max_restarts": 1}
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
        failed = train(instance, **changes)
    assert not failed.success
    assert "rank 0 was ended by SIGKILL" in failure(failed, "general__checkpoint")
    assert artefacts(installed) == before
    assert claimed(instance) == 0

    assert train(instance, **changes).success
    current = ArtifactStore(installed / "artifacts").require(CHECKPOINT)
    assert (current.summary["resumed_from"], current.summary["steps"]) == (1, 4)
    assert artefacts(installed).items() > {k: v for k, v in before.items() if "current.json" not in k}.items()
