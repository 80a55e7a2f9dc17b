"""An installation in a temporary home, with documents and a tiny promoted model: used as a user uses it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SETTINGS = {"floors": {"doc_type_accuracy": None, "field_f1": None}, "workers": 1}
"""The tiny recipe learns nothing, so the floors are switched off."""
NUM_DOCUMENTS = {"train": 16, "val": 8, "test": 8}
SEED = 1
START_S = 240
"""The UI answers after 20 s on two busy cores."""


@dataclass
class Installation:
    home: Path
    done: list[list[str]] = field(default_factory=list)
    """Commands that have run, without "sap-vision"."""
    has_served: bool = False
    """Whether the UI has answered."""

    def environment(self) -> dict[str, str]:
        """Of this process, for the home, and without settings of the person who runs the tests."""
        ours = ("SAP_VISION_", "DAGSTER_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        # Trackers and schedules have no business here; a thread a process is enough for tiny models.
        return {**kept, "SAP_VISION_HOME": str(self.home), "OMP_NUM_THREADS": "1"}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """One sap-vision command, with the home as working directory."""
        self.done.append(list(arguments))
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.home,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def ui(self) -> Iterator[str]:
        """`sap-vision ui` on a free port, from its first answer on; all of its processes end with it."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with (self.home / "ui.log").open("w+") as log:
            command = [*COMMAND, "ui", "--port", str(port)]
            server = subprocess.Popen(
                command, cwd=self.home, env=self.environment(), stdout=log, stderr=log, start_new_session=True
            )
            try:
                _wait_for(server, url, self.home / "ui.log")
                self.has_served = True
                yield url
            finally:
                family = psutil.Process(server.pid).children(recursive=True)
                server.terminate()
                # `dagster dev` waits 60 s each for a webserver and a daemon that do not end at once.
                _, alive = psutil.wait_procs(family, timeout=15)
                for process in alive:
                    process.kill()
                server.wait(timeout=60)


COMMAND = [sys.executable, "-m", "sap_vision_assets.cli"]


def make_installation(home: Path) -> Installation:
    """Documents of the domain general, and everything that `sap-vision run --recipe tiny` makes of them."""
    (home / "settings.json").write_text(json.dumps(SETTINGS))
    installation = Installation(home)
    for split, count in NUM_DOCUMENTS.items():
        made = installation.run(
            *("synth", "--out", "data", "--split", split, "--num-samples", str(count), "--seed", str(SEED))
        )
        assert made.returncode == 0, made.stderr
    made = installation.run("run", "--data", "data", "--recipe", "tiny")
    assert made.returncode == 0, made.stdout + made.stderr
    return installation


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=30) as answer:
                assert "dagster_version" in json.loads(answer.read())
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
