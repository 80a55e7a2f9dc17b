"""How the machines of one training find each other: files in its directory, on a file system that they share.

<out>/.nodes/job.json           what is trained, where they meet, what they must have in common; while it is
<out>/.nodes/<meeting>/<node>   one a node that came: null, and its failures once it has failed

No torch here. A meeting is torchrun's c10d rendezvous. It gives ranks in the order of the nodes' addresses as
text, which each node states itself: the launching one the true one, where rank 0 will listen, the others one
that sorts behind every true one. So rank 0 is where the progress is shown and the log is kept.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sap_vision_assets.errors import InputError
from sap_vision_assets.training import failures
from sap_vision_assets.training.config import TrainingJob
from sap_vision_assets.training.failures import Failure
from sap_vision_assets.versions import code_version
from sap_vision_assets.vocabulary import load_vocabulary

FOLDER = ".nodes"
LAUNCH_LOCK = ".launch.lock"
STATIONS = ("training", "encoder", "shards", "vocabulary")
"""Whose code a training runs."""
POLL_S = 1.0
REPORT_WAIT_S = 15.0
"""Seconds that other nodes get to say why they ended."""
MAX_READ_S = 60
"""Seconds that torchrun waits for an answer of the launching node's; it asks several times before it ends."""
_JOB_FILE = "job.json"
_AFTER_ALL_ADDRESSES = "~"


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """One attempt to train on several machines, as the launching node announces it."""

    rendezvous_id: str
    """Of this attempt alone: neither two trainings nor two attempts ever meet."""
    endpoint: str
    """host:port of the launching node."""
    host: str
    """The launching node's name."""
    restarts_left: int
    versions: dict[str, str]
    vocabulary_digest: str
    job: TrainingJob
    """Its paths are absolute, and must be the same on all machines."""

    @property
    def folder(self) -> Path:
        return self.job.out / FOLDER / self.rendezvous_id

    def new_report(self) -> Path:
        """A file for what this node will say; it is there from now on, to be missed when nothing follows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        failures.write(file, None)
        return file

    def reports(self) -> dict[Path, list[Failure] | None]:
        """By file, what each node that came has said so far."""
        files = sorted(file for file in self.folder.glob("*") if not file.name.startswith("."))
        return {file: failures.read(file) for file in files}


def announce(job: TrainingJob, *, restarts_left: int) -> Meeting:
    """Tells the other nodes where to come, in place of what was told before."""
    absolute: dict[str, Any] = {
        name: value.absolute() for name, value in vars(job).items() if isinstance(value, Path)
    }
    job = replace(job, **absolute)
    digest = hashlib.sha256(json.dumps(job.to_json(), sort_keys=True).encode()).hexdigest()
    meeting = Meeting(
        rendezvous_id=f"{digest[:12]}-{uuid.uuid4().hex[:12]}",
        endpoint=job.config.rendezvous_endpoint or f"{socket.getfqdn()}:{_free_port()}",
        host=socket.gethostname(),
        restarts_left=restarts_left,
        versions=versions(),
        vocabulary_digest=load_vocabulary(job.vocabulary_extension).digest,
        job=job,
    )
    meeting.folder.mkdir(parents=True)
    file = job.out / FOLDER / _JOB_FILE
    new = file.with_suffix(".new")
    new.write_text(json.dumps({**asdict(meeting), "job": job.to_json()}, indent=1))
    os.replace(new, file)  # noqa: PTH105  both names are this module's
    return meeting


def withdraw(out: Path) -> None:
    """Nobody needs to come any more."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def newest_announcement(candidates: Iterable[Path]) -> Path | None:
    """Of these directories, the one with the latest announcement."""
    found = {}
    for out in candidates:
        with contextlib.suppress(FileNotFoundError):
            found[out] = (out / FOLDER / _JOB_FILE).stat().st_mtime
    return max(found, key=found.__getitem__, default=None)


def announced(out: Path) -> Meeting | None:
    """The meeting that a launching node has announced in `out`, if there is one now.

    Raises InputError when it cannot be understood, as that of another release may be.
    """
    file = out / FOLDER / _JOB_FILE
    try:
        record = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); start the launching node again") from error
    _require_same_versions(file, record)
    return Meeting(**{**record, "job": TrainingJob.from_json(file, record["job"])})


def require_member(meeting: Meeting, out: Path) -> None:
    """Raises InputError when this machine, which sees the directory as `out`, cannot take part."""
    job = meeting.job
    if not (job.out.is_dir() and out.samefile(job.out)):
        raise InputError(
            f"{out} is {job.out} on {meeting.host}; mount the shared file system at the same path everywhere"
        )
    digest = load_vocabulary(job.vocabulary_extension).digest
    if digest != meeting.vocabulary_digest:
        raise InputError(
            f"vocabulary {job.vocabulary_extension or 'of the package'}: its digest is {digest} here and "
            f"{meeting.vocabulary_digest} on {meeting.host}; let both read the same file"
        )
    others = [file.name for file, report in meeting.reports().items() if report is None]
    if len(others) >= job.config.num_nodes - 1:
        raise InputError(
            f"{job.out}: num_nodes={job.config.num_nodes}, and {', '.join(others)} came to {meeting.host} "
            f"before; raise num_nodes, or remove from {meeting.folder} the file of a machine that is gone"
        )


def torchrun_arguments(meeting: Meeting, *, is_launching: bool) -> list[str]:
    """What makes torchrun of this node meet the others'."""
    config = meeting.job.config
    timeout_s = max(1, int(config.collective_timeout_s))
    conf = f"is_host={int(is_launching)},join_timeout={timeout_s},read_timeout={min(timeout_s, MAX_READ_S)}"
    host = meeting.endpoint.rpartition(":")[0].strip("[]")
    # Random: two containers may have one name and one process id.
    hidden = f"{_AFTER_ALL_ADDRESSES}{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    return [
        f"--nnodes={config.num_nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-id={meeting.rendezvous_id}",
        f"--rdzv-endpoint={meeting.endpoint}",
        f"--rdzv-conf={conf}",
        f"--local-addr={host if is_launching else hidden}",
    ]


def wait_for_reports(meeting: Meeting) -> tuple[list[Failure], list[str]]:
    """What the other nodes say, and the names of those that say nothing within REPORT_WAIT_S."""
    deadline = time.monotonic() + REPORT_WAIT_S
    while True:
        reports = meeting.reports()
        silent = [file.name.rpartition("-")[0] for file, report in reports.items() if report is None]
        if not silent or time.monotonic() > deadline:
            return [failure for report in reports.values() for failure in report or ()], silent
        time.sleep(POLL_S)


def versions() -> dict[str, str]:
    """What all machines of a training must have in common."""
    return {
        "code": code_version(*STATIONS),
        "torch": version("torch"),
        "python": ".".join(map(str, sys.version_info[:2])),
    }


def _require_same_versions(file: Path, record: dict[str, Any]) -> None:
    here, there = versions(), record.get("versions", {})
    differences = [
        f"{name} {value} here, {there.get(name)} there"
        for name, value in here.items()
        if there.get(name) != value
    ]
    if differences:
        raise InputError(
            f"{file}: was written by {record.get('host')} with other versions: {'; '.join(differences)}; "
            "install the same release on all machines"
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port
