"""What is in a split's folder, as one digest: cheap enough to ask every minute."""

import hashlib
import json
import os
import stat
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sap_vision_assets.documents.files import ANNOTATIONS, IMAGES, is_annotation_name, list_names

MAX_HASHED_BYTES = 2**30
"""A larger file is over every sensible limit and is told by its size: reading it would outlast a tick."""
_SETTLED_SECONDS = 2.0
"""A file changed more recently than this may change again within one tick of the file system's clock."""
_CACHE_VERSION = 1

_Cache = dict[str, list[Any]]


@dataclass(frozen=True)
class FolderState:
    """Two folders with equal names and bytes have equal states."""

    digest: str
    num_annotations: int
    num_images: int


def observe_folder(folder: Path, cache: Path | None = None) -> FolderState:
    """The state of <data root>/<domain>/<split>; a folder that does not exist is an empty one.

    `cache` is a JSON file of this function's own, which spares reading a file again whose size, time and
    inode have not changed. Nothing is opened but regular files inside the folder. Raises InputError when the
    folder cannot be listed.
    """
    tree = folder.resolve()
    known = _read_cache(cache)
    seen: _Cache = {}
    digest = hashlib.sha256()
    counts = {ANNOTATIONS: 0, IMAGES: 0}
    for place in (ANNOTATIONS, IMAGES):
        for name in list_names(folder / place):
            key = f"{place}/{name}"
            identity = _identify(tree, tree / place / name, key, known, seen)
            if identity is None:
                continue
            counts[place] += place == IMAGES or is_annotation_name(name)
            digest.update(os.fsencode(key) + b"\0" + os.fsencode(identity) + b"\n")
    if cache is not None and seen != known:
        _write_cache(cache, seen)
    return FolderState(
        digest=digest.hexdigest(), num_annotations=counts[ANNOTATIONS], num_images=counts[IMAGES]
    )


def _identify(tree: Path, file: Path, key: str, known: _Cache, seen: _Cache) -> str | None:
    """What stands for the file's bytes in the folder's digest; None when it went away meanwhile."""
    try:
        real = Path(os.path.realpath(file, strict=True))
        status = real.lstat()
        unread = _why_unread(tree, real, status)
        if unread is not None:
            return unread
        stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
        cached = known.get(key)
        found = str(cached[3]) if cached is not None and cached[:3] == stamp else _hash(real)
    except FileNotFoundError:
        return "broken link" if file.is_symlink() else None
    except OSError as error:
        return f"unreadable {error.errno}"
    if time.time() - status.st_mtime > _SETTLED_SECONDS:
        seen[key] = [*stamp, found]
    return found


def _why_unread(tree: Path, real: Path, status: os.stat_result) -> str | None:
    """What tells a file apart that must not be opened; None for one that may."""
    if not real.is_relative_to(tree):
        return f"link {real}"
    if not stat.S_ISREG(status.st_mode):
        return f"type {stat.S_IFMT(status.st_mode):o}"
    return f"size {status.st_size}" if status.st_size > MAX_HASHED_BYTES else None


def _hash(file: Path) -> str:
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_cache(cache: Path | None) -> _Cache:
    """The cached digests; nothing where the file is missing or not ours: then all is read again."""
    try:
        record = json.loads(cache.read_bytes()) if cache is not None else {}
        entries = record["files"] if record.get("version") == _CACHE_VERSION else {}
    except (OSError, ValueError, AttributeError, KeyError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {
        key: entry
        for key, entry in entries.items()
        if isinstance(entry, list) and len(entry) == 4 and isinstance(entry[3], str)
    }


def _write_cache(cache: Path, entries: _Cache) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_name(f"{cache.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(json.dumps({"version": _CACHE_VERSION, "files": entries}))
        temporary.replace(cache)
    finally:
        temporary.unlink(missing_ok=True)
