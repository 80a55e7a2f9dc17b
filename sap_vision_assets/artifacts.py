"""Where artefacts live: written once, named by what made them, visible by one atomic rename.

    <root>/<asset>/<partition...>/<digest>/...files      data; a draft or an orphan without manifest.json
    <root>/<asset>/<partition...>/<digest>/manifest.json what made it, and size and SHA-256 of every file
    <root>/<asset>/<partition...>/current.json           names the digest that readers get

Nothing else in the package joins these paths. The root is a local directory or any fsspec URL; drafts are
always local, and an object store gets the files first and the manifest last.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from upath import UPath

from sap_vision_assets.errors import ArtifactError, InputError

JsonObject = dict[str, Any]
_logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
CURRENT = "current.json"
RESUMABLE = ".resumable"
DIGEST_CHARS = 20
"""Hex digits of the digest in a directory's name; the manifest has all 64."""
_DIGEST_NAME = re.compile(f"[0-9a-f]{{{DIGEST_CHARS}}}")


@dataclass(frozen=True, kw_only=True)
class ArtifactSpec:
    """Everything that makes an artefact what it is; two equal specs are one artefact."""

    asset: str
    """Asset key with "/" between its parts, such as "general/checkpoint"."""
    partition: str = ""
    """Dagster's partition key, such as "general|train" or "receipts"; empty for an unpartitioned asset."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Digest of each input, by a name that says which it is."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """JSON values. No paths, clocks or secrets: they would make equal artefacts differ."""
    code_version: str = ""

    @property
    def label(self) -> str:
        """What a person calls it: "general/checkpoint", "tokenized_shards general|train"."""
        return f"{self.asset} {self.partition}".rstrip()

    @property
    def digest(self) -> str:
        return hashlib.sha256(canonical_json(asdict(self))).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A published artefact, its files on this machine."""

    spec: ArtifactSpec
    digest: str
    path: Path
    files: Mapping[str, Mapping[str, Any]]
    """By path relative to `path`: {"size": bytes, "sha256": hex}."""
    summary: JsonObject
    """What the station said of it: counts, metrics, decisions. JSON values."""
    created_at: str
    """UTC, ISO 8601."""
    reused: bool = False
    """True when `produce` found it made already and did nothing."""

    def verify(self) -> None:
        """Raises ArtifactError naming the first file that is missing, cut or changed."""
        for name, record in self.files.items():
            file = self.path / name
            if not file.is_file():
                raise ArtifactError(
                    f"{file}: is missing; delete {self.path} and materialise {self.spec.asset} again"
                )
            size = file.stat().st_size
            if size != record["size"] or _sha256(file) != record["sha256"]:
                raise ArtifactError(
                    f"{file}: {size} bytes are not the {record['size']} that the manifest promises, or a "
                    f"byte has changed; delete {self.path} and materialise {self.spec.asset} again"
                )


class ArtifactStore:
    """Owns every path below its root. Safe under kill -9 and under several writers of one machine."""

    def __init__(self, root: str | Path, *, work_dir: Path | None = None, keep: int = 3) -> None:
        """`work_dir` holds drafts and downloads when `root` is remote. `keep` published versions stay of each
        asset partition, besides the current one and those that a current artefact goes back to."""
        if keep < 1:
            raise InputError(f"keep={keep}: at least 1 version must stay")
        self.root = UPath(root)
        self.keep = keep
        self._is_local = self.root.protocol in ("", "file", "local")
        if not self._is_local and work_dir is None:
            raise InputError(f"artifact root {root} is remote; set a local work_dir for drafts and downloads")
        self._local_root = (
            Path(self.root.path).absolute() if self._is_local else Path(work_dir or "").absolute()
        )

    def produce(
        self,
        spec: ArtifactSpec,
        make: Callable[[Path], JsonObject],
        *,
        resumable: bool = False,
        say: Callable[[str], object] = _logger.info,
    ) -> Artifact:
        """The artefact of `spec`: the published one, or what `make(directory)` writes, published as current.

        `make` returns the summary. When it raises, nothing becomes visible, the former version stays current,
        and the draft is removed, unless `resumable`: then the next call gets the directory as it was left.
        A second writer of the same artefact tells `say` that it waits, and then finds it made.
        """
        draft = self._local_dir(spec.asset, spec.partition) / spec.digest[:DIGEST_CHARS]
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{draft}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                say(f"{spec.label} is being made by another process: waiting for it")
                lock.acquire()
        except OSError as error:
            raise InputError(
                f"{draft.parent}: cannot be written ({error.strerror}); fix the artifact root"
            ) from error
        try:
            found = self.find(spec.asset, spec.partition, spec.digest)
            if found is not None:
                self._point_to(found)
                return _as_reused(found)
            if draft.exists() and not resumable:
                shutil.rmtree(draft)
            draft.mkdir(exist_ok=True)
            if resumable:
                (draft / RESUMABLE).touch()
            try:
                summary = make(draft)
                artifact = self._publish(spec, draft, summary)
            except BaseException:
                if not resumable:
                    shutil.rmtree(draft, ignore_errors=True)
                raise
            self._point_to(artifact)
        finally:
            lock.release()
        self.sweep(spec.asset, spec.partition)
        return artifact

    def current(self, asset: str, partition: str = "") -> Artifact | None:
        """The artefact that readers of this asset partition get, or None when none was made yet."""
        digest = self._current_digest(asset, partition)
        if digest is None:
            return None
        found = self.find(asset, partition, digest)
        if found is None:
            pointer = self._dir(asset, partition) / CURRENT
            raise ArtifactError(f"{pointer}: names {digest}, which is gone; delete it and materialise again")
        return found

    def require(self, asset: str, partition: str = "") -> Artifact:
        """`current`, verified. Raises ArtifactError that says what to do when it is missing or damaged."""
        found = self.current(asset, partition)
        if found is None:
            label = f"{asset} {partition}".rstrip()
            raise ArtifactError(f"{label}: not made yet below {self.root}; materialise it first")
        found.verify()
        return found

    def find(self, asset: str, partition: str, digest: str) -> Artifact | None:
        """The published artefact of this digest, current or not. Drafts and orphans are never found."""
        source = self._dir(asset, partition) / digest[:DIGEST_CHARS]
        manifest = source / MANIFEST
        if not manifest.exists():
            return None
        record = _read_manifest(manifest)
        path = self._local_dir(asset, partition) / digest[:DIGEST_CHARS]
        if not self._is_local:
            _download(source, path, record["files"])
        return Artifact(
            spec=record["spec"],
            path=path,
            **{key: record[key] for key in ("digest", "files", "summary", "created_at")},
        )

    def versions(self, asset: str, partition: str = "") -> list[str]:
        """Published directory names (short digests), oldest first."""
        folder = self._dir(asset, partition)
        if not folder.exists():
            return []
        made = [
            (str(_read_manifest(entry / MANIFEST)["created_at"]), entry.name)
            for entry in folder.iterdir()
            if entry.is_dir() and (entry / MANIFEST).exists()
        ]
        return [name for _, name in sorted(made)]

    def drafts(self, asset: str, partition: str = "") -> list[Path]:
        """Folders of what is not published yet: being made, or left by who made it."""
        source, local = self._dir(asset, partition), self._local_dir(asset, partition)
        entries = sorted(local.iterdir()) if local.exists() else []
        return [
            entry
            for entry in entries
            if _DIGEST_NAME.fullmatch(entry.name) and not (source / entry.name / MANIFEST).exists()
        ]

    def sweep(self, asset: str, partition: str = "", *, resumable_days: float = 14) -> list[str]:
        """Removes versions beyond `keep` and drafts that nobody writes; returns the names of what went.

        Drafts of resumable artefacts stay for `resumable_days` after their last change. Where a manifest or
        pointer, of whichever asset, cannot be read, what is in use is not known: nothing goes.
        """
        source, local = self._dir(asset, partition), self._local_dir(asset, partition)
        try:
            used = self._digests_in_use()
            self.versions(asset, partition)
        except ArtifactError as error:
            _logger.warning(f"nothing is swept: {error}")
            return []
        gone = []
        for name in self.versions(asset, partition)[: -self.keep]:
            with _lock_if_free(local / name) as is_mine:
                # A writer that finds this version made points to it under the same lock: so look again.
                needed = used | {self._current_digest(asset, partition) or ""}
                if is_mine and not any(digest.startswith(name) for digest in needed):
                    # The manifest goes first: a half-removed version is an orphan, never a damaged artefact.
                    (source / name / MANIFEST).unlink(missing_ok=True)
                    _remove_tree(source / name)
                    gone.append(name)
        for draft in [entry for entry in local.iterdir() if entry.is_dir()] if local.exists() else []:
            if not _DIGEST_NAME.fullmatch(draft.name):
                continue
            with _lock_if_free(draft) as is_mine:
                if is_mine and self._is_orphan(source, draft, resumable_days):
                    shutil.rmtree(draft, ignore_errors=True)
                    gone.append(draft.name)
        return sorted(set(gone))

    def _is_orphan(self, source: UPath, draft: Path, resumable_days: float) -> bool:
        if (source / draft.name / MANIFEST).exists():
            return False
        marker = draft / RESUMABLE
        return not marker.exists() or time.time() - draft.stat().st_mtime >= resumable_days * 86400

    def _current_digest(self, asset: str, partition: str) -> str | None:
        pointer = self._dir(asset, partition) / CURRENT
        return _read_pointer(pointer) if pointer.exists() else None

    def _digests_in_use(self) -> set[str]:
        """Of the current artefacts, and of all that they were made from, however many steps back."""
        manifests = map(_read_manifest, self.root.glob(f"**/{MANIFEST}"))
        inputs = {record["digest"]: record["spec"].inputs.values() for record in manifests}
        waiting = [_read_pointer(pointer) for pointer in self.root.glob(f"**/{CURRENT}")]
        used: set[str] = set()
        while waiting:
            digest = waiting.pop()
            if digest not in used:
                used.add(digest)
                waiting += inputs.get(digest, ())
        return used

    def _publish(self, spec: ArtifactSpec, draft: Path, summary: JsonObject) -> Artifact:
        for leftover in draft.glob(f"{MANIFEST}.*.tmp"):  # Of a writer that was killed at this point.
            leftover.unlink()
        files = {
            file.relative_to(draft).as_posix(): {
                "size": file.stat().st_size,
                "sha256": _sha256(file, sync=True),
            }
            for file in sorted(_files(draft))
            if file != draft / RESUMABLE
        }
        created_at = datetime.now(UTC).isoformat()
        record = {
            "spec": asdict(spec),
            "digest": spec.digest,
            "files": files,
            "summary": summary,
            "created_at": created_at,
        }
        if self._is_local:
            _write_atomically(draft / MANIFEST, record)
        else:
            target = self._dir(spec.asset, spec.partition) / draft.name
            for name in files:
                _upload(draft / name, target / name)
            (target / MANIFEST).write_text(json.dumps(record, indent=1, allow_nan=False))
        # Last: a sweep between here and the manifest would take a finished training for an orphan.
        (draft / RESUMABLE).unlink(missing_ok=True)
        return Artifact(
            spec=spec, digest=spec.digest, path=draft, files=files, summary=summary, created_at=created_at
        )

    def _point_to(self, artifact: Artifact) -> None:
        folder = self._dir(artifact.spec.asset, artifact.spec.partition)
        if self._is_local:
            _write_atomically(Path(folder.path) / CURRENT, {"digest": artifact.digest})
        else:
            (folder / CURRENT).write_text(json.dumps({"digest": artifact.digest}))

    def _dir(self, asset: str, partition: str) -> UPath:
        return self.root.joinpath(*_parts(asset, partition))

    def _local_dir(self, asset: str, partition: str) -> Path:
        return self._local_root.joinpath(*_parts(asset, partition))


def canonical_json(value: object) -> bytes:
    """One spelling for equal values: sorted keys, no blanks, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _read_manifest(file: UPath) -> JsonObject:
    """Its record, the spec made an ArtifactSpec. Raises ArtifactError for one that is cut or changed."""
    try:
        record = json.loads(file.read_bytes())
        record["spec"] = ArtifactSpec(**record["spec"])
        for name in ("digest", "files", "summary", "created_at"):
            record[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{file}: is damaged ({type(error).__name__}: {error}); "
            f"delete {file.parent} and materialise again"
        ) from error
    return dict(record)


def _read_pointer(file: UPath) -> str:
    try:
        return str(json.loads(file.read_bytes())["digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{file}: is damaged ({type(error).__name__}: {error}); delete it and materialise again"
        ) from error


def _parts(asset: str, partition: str) -> list[str]:
    parts = [*asset.split("/"), *(partition.split("|") if partition else [])]
    if any(part in ("", ".", "..") or part != part.strip() or {"/", "\\"} & set(part) for part in parts):
        raise InputError(f"asset {asset!r}, partition {partition!r}: not a usable artefact name")
    return parts


@contextmanager
def _lock_if_free(draft: Path) -> Iterator[bool]:
    """Holds the lock of a draft's writer, and yields True; False when a writer has it."""
    draft.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{draft}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _as_reused(artifact: Artifact) -> Artifact:
    return Artifact(**{**vars(artifact), "reused": True})


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())


def _sha256(file: Path, *, sync: bool = False) -> str:
    with file.open("rb") as stream:
        if sync:
            os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_atomically(target: Path, record: object) -> None:
    # Not the process id: two threads of one process may publish into one partition.
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("w") as stream:
            json.dump(record, stream, indent=1, allow_nan=False)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _upload(source: Path, target: UPath) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as stream, target.open("wb") as sink:
        shutil.copyfileobj(stream, sink, 1 << 20)


def _download(source: UPath, target: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    for name, record in files.items():
        local = target / name
        if local.is_file() and local.stat().st_size == record["size"]:
            continue
        local.parent.mkdir(parents=True, exist_ok=True)
        temporary = local.with_name(f"{local.name}.{uuid.uuid4().hex}.tmp")
        with (source / name).open("rb") as stream, temporary.open("wb") as sink:
            shutil.copyfileobj(stream, sink, 1 << 20)
        temporary.replace(local)


def _remove_tree(folder: UPath) -> None:
    for entry in sorted(folder.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        if entry.is_dir():
            entry.rmdir()
        else:
            entry.unlink()
    if folder.exists():
        folder.rmdir()
