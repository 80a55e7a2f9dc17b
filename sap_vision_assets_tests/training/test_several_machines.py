"""Two machines of one rank each: network namespaces with names and addresses of their own, and a cable.

They share a directory as two machines share a network file system. The joining one has the lower address and
the name that sorts first: left to itself, torchrun would give it rank 0.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from dagster_pipes import encode_param
from safetensors.torch import load_file

from sap_vision_assets.encoder import load_encoder
from sap_vision_assets.training import TrainingJob, launch
from sap_vision_assets.training.failures import FAILURES_ENV
from sap_vision_assets_tests.training.making import losses, make_job

ENDPOINT = "10.77.31.2:29400"
CHANGES: dict[str, Any] = {
    **{"max_steps": 120, "batch_size": 2, "save_every_steps": 40, "eval_every_steps": 120},
    **{"collective_timeout_s": 120, "shutdown_grace_s": 30},
}
START_S = 400.0
"""Longest wait for a line of the training: four processes import torch, on whatever else the machine does."""
BOUND_S = 150.0
"""Longest wait for an end that a fault brings about: seen 10 to 45 s, on a busy machine."""
pytestmark = pytest.mark.timeout(1800)
CONTEXT = {
    **{"asset_keys": ["general/checkpoint"], "code_version_by_asset_key": None, "run_id": "run"},
    **{"provenance_by_asset_key": None, "partition_key": None, "partition_key_range": None},
    **{"partition_time_window": None, "job_name": None, "retry_number": 0, "extras": {}},
}


@dataclass(kw_only=True)
class Machine:
    namespace: str
    host: str
    interface: str
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self, module: str, *arguments: str) -> None:
        in_shell = f'hostname {self.host}; exec "$@"'
        command = ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "sh", "-c", in_shell, "sh"]
        command += [sys.executable, "-m", module, *arguments]
        environment = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": self.interface, **self.environment}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
            )

    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + START_S
        while text not in self.text():
            assert self.process is not None
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def end(self, timeout_s: float = START_S) -> int:
        """The exit status; nothing of the machine runs any more."""
        assert self.process is not None
        status = self.process.wait(timeout_s)
        assert not self.family(), self.text()
        return status

    def all(self) -> list[psutil.Process]:
        pids = subprocess.check_output(["ip", "netns", "pids", self.namespace], text=True).split()
        return [psutil.Process(int(pid)) for pid in pids if psutil.pid_exists(int(pid))]

    def family(self) -> list[psutil.Process]:
        """torchrun and its ranks."""
        return [process for process in self.all() if FAILURES_ENV in process.environ()]

    def torchrun(self) -> psutil.Process:
        return next(one for one in self.family() if "sap_vision_assets.training.agent" in one.cmdline())

    def rank(self) -> psutil.Process:
        return next(one for one in self.family() if "RANK" in one.environ())

    def crash(self) -> None:
        """As when its power fails: everything at once. The network remains, as a kernel that resets."""
        for process in self.all():
            process.kill()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """The launching one and the joining one."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare"))):
        pytest.skip("needs root, ip and unshare, to make network namespaces")
    mark = f"sv{os.getpid()}"
    made = [
        Machine(namespace=f"{mark}{name}", host=host, interface=f"v{name}", log=tmp_path / f"{host}.log")
        for name, host in (("l", "zeta"), ("j", "alpha"))
    ]
    try:
        try:
            for machine in made:
                ip("netns", "add", machine.namespace)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"may not make network namespaces: {error.stderr.decode().strip()}")
        first, second = made
        ends = (first.interface, "netns", first.namespace, "type", "veth", "peer", "name", second.interface)
        ip("link", "add", *ends, "netns", second.namespace)
        for machine, address in ((first, "10.77.31.2"), (second, "10.77.31.1")):
            ip("-n", machine.namespace, "addr", "add", f"{address}/24", "dev", machine.interface)
            for interface in ("lo", machine.interface):
                ip("-n", machine.namespace, "link", "set", interface, "up")
        yield first, second
    finally:
        for machine in made:
            for process in machine.all():
                process.kill()
            if machine.process is not None:
                machine.process.wait()
            subprocess.run(["ip", "netns", "del", machine.namespace], check=False, capture_output=True)


@pytest.fixture(scope="module")
def one_machine(short_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """The same training by two ranks of one machine, unbroken."""
    job = make_job(short_shards, tmp_path_factory.mktemp("one") / "out", num_processes=2, **CHANGES)
    launch(job, env={"OMP_NUM_THREADS": "1"})
    return job


def job_of(one_machine: TrainingJob, out: Path, **changes: Any) -> TrainingJob:
    config = replace(
        one_machine.config, num_processes=1, num_nodes=2, rendezvous_endpoint=ENDPOINT, **changes
    )
    return replace(one_machine, out=out, config=config)


def start(machines: tuple[Machine, Machine], job: TrainingJob, tmp_path: Path) -> None:
    launching, joining = machines
    (tmp_path / "job.json").write_text(json.dumps(job.to_json()))
    joining.start("sap_vision_assets.cli", "join", str(job.out), "--wait-s", "60")
    launching.start("sap_vision_assets_tests.training.launching", str(tmp_path / "job.json"))


def assert_as_on_one_machine(job: TrainingJob, one_machine: TrainingJob) -> None:
    # Seen: equal to the bit, for two numbers have one sum; the libraries do not promise it.
    assert losses(job.out) == pytest.approx(losses(one_machine.out), rel=1e-5)
    loaded = load_encoder(str(job.out / "final")).state_dict()
    expected = load_file(one_machine.out / "final" / "model.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-4, atol=1e-6)
    names = {path.name for path in job.out.iterdir()}
    assert names == {"best", "checkpoint-80", "checkpoint-120", "final", "log.jsonl"}


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_two_machines_train_as_one_and_report_where_it_was_asked_for(
    machines: tuple[Machine, Machine], one_machine: TrainingJob, tmp_path: Path
) -> None:
    launching, joining = machines
    (tmp_path / "context").write_text(json.dumps(CONTEXT))
    for name in ("context", "messages"):
        variable = f"DAGSTER_PIPES_{name.upper()}"
        launching.environment[variable] = encode_param({"path": str(tmp_path / name)})
    job = job_of(one_machine, tmp_path / "out")
    start(machines, job, tmp_path)
    assert (launching.end(), joining.end()) == (0, 0), launching.text() + joining.text()
    assert_as_on_one_machine(job, one_machine)
    summary = json.loads(launching.text().splitlines()[-1])
    assert (summary["num_nodes"], summary["num_processes"]) == (2, 1)
    state = json.loads((job.out / "final" / "training_state.json").read_text())
    assert (state["world_size"], state["global_batch_size"]) == (2, 4)
    # Rank 0's: none of it is seen on the other machine.
    assert "step 120/120  loss" in launching.text()
    assert "step " not in joining.text()
    messages = [json.loads(line) for line in (tmp_path / "messages").read_text().splitlines()]
    payloads = [one["params"]["payload"] for one in messages if one["method"] == "report_custom_message"]
    assert payloads[-1]["step"] == 120


def test_machine_that_dies_ends_the_other_and_one_alone_goes_on(
    machines: tuple[Machine, Machine], one_machine: TrainingJob, tmp_path: Path
) -> None:
    launching, joining = machines
    job = job_of(one_machine, tmp_path / "out")
    start(machines, job, tmp_path)
    launching.wait_for("step 45/")
    saved = files(job.out / "checkpoint-40")
    joining.crash()
    assert launching.end(BOUND_S) == 1
    assert "LostRanksError: rank 0 on zeta: lost the other ranks: " in launching.text()
    assert "10.77.31.1" in launching.text()
    assert "No word from alpha: killed, or cut off" in launching.text()
    # As far as it came; nothing else.
    assert files(job.out / "checkpoint-40") == saved
    visible = {path.name for path in job.out.iterdir() if not path.name.startswith(".")}
    assert visible - {"checkpoint-80"} == {"checkpoint-40", "log.jsonl"}
    config = replace(job.config, num_processes=2, num_nodes=1)
    alone = replace(job, config=config)
    assert launch(alone, env={"OMP_NUM_THREADS": "1"})["resumed_from"] in (40, 80)
    assert_as_on_one_machine(job, one_machine)


def test_stopped_then_gone_on_with_and_joined_again_after_a_failure(
    machines: tuple[Machine, Machine], one_machine: TrainingJob, tmp_path: Path
) -> None:
    launching, joining = machines
    job = job_of(one_machine, tmp_path / "out", max_restarts=1)
    start(machines, job, tmp_path)
    launching.wait_for("step 10/")
    assert launching.process is not None
    launching.process.send_signal(signal.SIGTERM)
    assert (launching.end(), joining.end()) == (1, 1)
    (saved,) = (path for path in job.out.iterdir() if path.name.startswith("checkpoint-"))
    assert "TrainingStoppedError: the training was stopped" in launching.text()
    assert f"goes on from {saved}" in launching.text()
    assert "the training was stopped" in joining.text()

    start(machines, job, tmp_path)
    launching.wait_for("step 60/")
    # The launching node starts again, and so does this one by itself.
    joining.rank().kill()
    assert (launching.end(), joining.end()) == (0, 0), launching.text() + joining.text()
    assert "rank 1 on alpha was ended by SIGKILL" in launching.text()
    assert "starts again, 1 restarts are left" in launching.text()
    assert "joins again" in joining.text()
    assert_as_on_one_machine(job, one_machine)


def test_launching_torchrun_that_is_killed_ends_the_other_machine(
    machines: tuple[Machine, Machine], one_machine: TrainingJob, tmp_path: Path
) -> None:
    launching, joining = machines
    start(machines, job_of(one_machine, tmp_path / "out"), tmp_path)
    launching.wait_for("step 10/")
    launching.torchrun().kill()
    assert (launching.end(BOUND_S), joining.end(BOUND_S)) == (1, 1)
    assert "TrainingError: torchrun ended with status -9" in launching.text()
    assert joining.text().splitlines()[-1].startswith("sap-vision: ")


def test_exception_on_the_other_machine_is_told_where_it_was_asked_for(
    machines: tuple[Machine, Machine], one_machine: TrainingJob, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('RANK') == '1':\n"
        "    from sap_vision_assets.training import loop\n"
        "    def fail(run, log):\n"
        "        raise ZeroDivisionError('no documents')\n"
        "    loop._evaluate = fail\n"
    )
    launching, joining = machines
    joining.environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    start(machines, job_of(one_machine, tmp_path / "out", max_steps=6, eval_every_steps=3), tmp_path)
    assert (launching.end(), joining.end()) == (1, 1)
    assert "TrainingError: rank 1 on alpha: ZeroDivisionError: no documents" in launching.text()


def test_cut_cable_ends_both_machines_within_the_time_out(
    machines: tuple[Machine, Machine], one_machine: TrainingJob, tmp_path: Path
) -> None:
    launching, joining = machines
    job = job_of(one_machine, tmp_path / "out", collective_timeout_s=30)
    start(machines, job, tmp_path)
    launching.wait_for("step 45/")
    ip("-n", joining.namespace, "link", "set", joining.interface, "down")
    assert (launching.end(BOUND_S), joining.end(BOUND_S)) == (1, 1)
    assert "at collective_timeout_s=30, and at GLOO_SOCKET_IFNAME" in launching.text()
