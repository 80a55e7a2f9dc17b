"""Checkpoint directories on disk: each becomes visible by one rename and lists its own files. No torch here.

<out>/checkpoint-N/  best/  final/      finished: training_state.json is there, and was written last
<out>/.checkpoint-N.new/                being written, or left by a killed process
<out>/.best.old/                        the former best/, between two renames
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sap_vision_assets.errors import CheckpointError

STATE_FILE = "training_state.json"
BEST = "best"
FINAL = "final"
FORMAT_VERSION = 1

_NUMBERED = re.compile(r"checkpoint-(\d+)")
_logger = logging.getLogger(__name__)


def publish(out: Path, name: str, write: Callable[[Path], None], state: dict[str, Any]) -> Path:
    """Writes `out`/`name`: what `write(directory)` makes, then `state` with all files' sizes and digests.

    A reader sees the former directory or the whole new one; a process killed in between leaves a hidden
    directory that `sweep` takes away.
    """
    new, old, target = draft(out, name), out / f".{name}.old", out / name
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    write(new)
    files = {file.relative_to(new).as_posix(): file for file in sorted(new.rglob("*")) if file.is_file()}
    listing = {
        key: {"size": file.stat().st_size, "sha256": _sha256(file, sync=True)} for key, file in files.items()
    }
    record = {"format_version": FORMAT_VERSION, **state, "files": listing}
    with (new / STATE_FILE).open("w") as stream:
        json.dump(record, stream, indent=1, allow_nan=False)
        stream.flush()
        os.fsync(stream.fileno())
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    new.rename(target)
    _sync_directory(out)
    shutil.rmtree(old, ignore_errors=True)
    return target


def draft(out: Path, name: str) -> Path:
    """Where `publish` has `write` make `out`/`name`."""
    return out / f".{name}.new"


def sweep(out: Path) -> None:
    """Takes away what killed processes left half-written, and brings back a best/ that was being replaced."""
    for old in out.glob(".*.old"):
        target = out / old.name.removeprefix(".").removesuffix(".old")
        if not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    for pattern in (".*.new", ".*.gone"):
        for rest in out.glob(pattern):
            shutil.rmtree(rest, ignore_errors=True)


def prune(out: Path, keep: int) -> None:
    """Removes all but the `keep` newest finished checkpoint-N; newest by step, for clocks go back."""
    for _, directory in _numbered(out)[keep:]:
        gone = out / f".{directory.name}.gone"
        directory.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def newest(out: Path) -> Path | None:
    """The finished checkpoint-N of the highest step, or None. Warns of unfinished ones, which it skips."""
    for _, directory in _numbered(out):
        if (directory / STATE_FILE).is_file():
            return directory
        _logger.warning("%s: has no %s, so it was never finished; skipped", directory, STATE_FILE)
    return None


def read_state(directory: Path) -> dict[str, Any]:
    """What training_state.json says. Raises CheckpointError when it is missing or unreadable."""
    file = directory / STATE_FILE
    try:
        record = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{directory}: has no {STATE_FILE}, so it is no finished checkpoint; give another directory"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error}); remove {directory} to use an earlier one"
        ) from error
    version = record.get("format_version") if isinstance(record, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: format_version {version}, this release reads {FORMAT_VERSION}; train again"
        )
    return dict(record)


def verify(directory: Path) -> dict[str, Any]:
    """`read_state`, after every file was found whole. Raises CheckpointError naming the first that is not."""
    state = read_state(directory)
    for name, record in state["files"].items():
        file = directory / name
        size = file.stat().st_size if file.is_file() else None
        if size != record["size"]:
            found = "is missing" if size is None else f"is truncated: {size} of {record['size']} bytes"
            raise CheckpointError(f"{file}: {found}; remove {directory} to go on from an earlier checkpoint")
        if _sha256(file) != record["sha256"]:
            raise CheckpointError(
                f"{file}: its bytes have changed since it was written; "
                f"remove {directory} to go on from an earlier checkpoint"
            )
    return state


def weights_digest(directory: Path) -> str:
    """SHA-256 of what a training that starts from `directory` takes from it: config and weights."""
    names = ("config.json", "model.safetensors", "pytorch_model.bin")
    files = {name: _sha256(directory / name) for name in names if (directory / name).is_file()}
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def finished_summary(out: Path) -> dict[str, Any] | None:
    """The summary of a training that has ended in `out`, or None while it has not."""
    if not (out / FINAL / STATE_FILE).is_file():
        return None
    return dict(read_state(out / FINAL)["summary"])


def _numbered(out: Path) -> list[tuple[int, Path]]:
    found = ((_NUMBERED.fullmatch(path.name), path) for path in out.glob("checkpoint-*") if path.is_dir())
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def _sha256(file: Path, *, sync: bool = False) -> str:
    with file.open("rb") as stream:
        if sync:
            os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
