"""The artefact store: nothing half made is ever seen, whoever is killed and however many write."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from sap_vision_assets import artifacts
from sap_vision_assets.artifacts import (
    CURRENT,
    DIGEST_CHARS,
    MANIFEST,
    RESUMABLE,
    ArtifactSpec,
    ArtifactStore,
    canonical_json,
)
from sap_vision_assets.errors import ArtifactError, InputError

ASSET, PARTITION = "validated_dataset", "general|train"


def spec(version: int = 1, **changes: Any) -> ArtifactSpec:
    return ArtifactSpec(
        **({"asset": ASSET, "partition": PARTITION, "config": {"version": version}} | changes)
    )


def write(text: str) -> Any:
    def make(directory: Path) -> dict[str, Any]:
        (directory / "part").mkdir(exist_ok=True)
        (directory / "part" / "data.bin").write_text(text)
        return {"text": text}

    return make


def never(directory: Path) -> dict[str, Any]:
    pytest.fail(f"{directory} was made again")


def broken(directory: Path) -> dict[str, Any]:
    raise RuntimeError(f"no {directory}")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def test_made_once_then_found(store: ArtifactStore) -> None:
    first = store.produce(spec(), write("one"))
    assert (first.reused, first.summary, (first.path / "part" / "data.bin").read_text()) == (
        False,
        {"text": "one"},
        "one",
    )
    before = snapshot(first.path)
    second = store.produce(spec(), never)
    assert second.reused
    assert second.path == first.path
    assert snapshot(first.path) == before
    assert store.require(ASSET, PARTITION).digest == first.digest == spec().digest


@pytest.mark.parametrize(
    "change", [{"inputs": {"a": "x"}}, {"code_version": "2"}, {"config": {}}, {"asset": "b"}]
)
def test_digest_is_of_everything_that_made_it(change: dict[str, Any]) -> None:
    assert spec().digest == spec().digest != spec(**change).digest


def test_nothing_made_is_said(store: ArtifactStore) -> None:
    assert store.current(ASSET, PARTITION) is None
    assert store.versions(ASSET, PARTITION) == []
    assert store.sweep(ASSET, PARTITION) == []
    with pytest.raises(ArtifactError, match="not made yet"):
        store.require(ASSET, PARTITION)


def test_failure_leaves_the_former_version_byte_for_byte(store: ArtifactStore) -> None:
    old = store.produce(spec(1), write("old"))
    before = snapshot(old.path)

    def fail(directory: Path) -> dict[str, Any]:
        (directory / "half.bin").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.produce(spec(2), fail)
    assert snapshot(old.path) == before
    assert store.require(ASSET, PARTITION).digest == old.digest
    assert store.find(ASSET, PARTITION, spec(2).digest) is None
    assert not (old.path.parent / spec(2).digest[:DIGEST_CHARS]).exists()
    assert store.produce(spec(2), write("new")).summary == {"text": "new"}


def test_summary_that_is_no_json_publishes_nothing(store: ArtifactStore) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        store.produce(spec(), lambda _: {"loss": float("nan")})
    assert store.current(ASSET, PARTITION) is None
    assert not list(store.root.glob("**/*.tmp"))


_KILLED = """
import os, signal, sys
from pathlib import Path
from sap_vision_assets import artifacts
from sap_vision_assets.artifacts import ArtifactSpec, ArtifactStore
root, moment = sys.argv[1:]
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def make(directory):
    (directory / "part").mkdir(exist_ok=True)
    (directory / "part" / "data.bin").write_text("one")
    if moment == "data":
        kill()
    if moment == "manifest":
        artifacts._write_atomically = kill
    if moment == "pointer":
        ArtifactStore._point_to = kill
    return {"text": "one"}
spec = ArtifactSpec(asset="validated_dataset", partition="general|train", config={"version": 1})
ArtifactStore(root).produce(spec, make, resumable=moment.endswith("resumable"))
"""


@pytest.mark.parametrize("moment", ["data", "manifest", "pointer"])
def test_kill_9_at_any_moment(tmp_path: Path, moment: str) -> None:
    store = ArtifactStore(tmp_path / "store")
    old = store.produce(spec(0), write("old"))
    before = snapshot(old.path)
    done = subprocess.run([sys.executable, "-c", _KILLED, str(store.root), moment], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert store.require(ASSET, PARTITION).digest == old.digest
    assert snapshot(old.path) == before
    draft = old.path.parent / spec().digest[:DIGEST_CHARS]
    assert draft.exists()
    assert (store.find(ASSET, PARTITION, spec().digest) is None) == (moment != "pointer")
    if moment != "pointer":
        assert store.sweep(ASSET, PARTITION) == [draft.name]
        assert not draft.exists()
    again = store.produce(spec(), write("one"))
    assert again.reused == (moment == "pointer")
    assert store.require(ASSET, PARTITION).digest == spec().digest
    undisturbed = ArtifactStore(tmp_path / "other").produce(spec(), write("one"))
    assert (again.path / "part" / "data.bin").read_bytes() == (
        undisturbed.path / "part" / "data.bin"
    ).read_bytes()
    assert again.files == undisturbed.files


def _produce_slowly(root: str, version: int, started: Any, text: str) -> None:
    def make(directory: Path) -> dict[str, Any]:
        started.set()
        for number in range(20):
            (directory / f"{number}.txt").write_text(text)
            time.sleep(0.01)
        return {"text": text}

    ArtifactStore(root).produce(spec(version), make)


def test_two_processes_make_the_same_thing_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    processes = [
        context.Process(target=_produce_slowly, args=(str(tmp_path), 1, started, text)) for text in ("a", "b")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    store = ArtifactStore(tmp_path)
    found = store.require(ASSET, PARTITION)
    texts = {(found.path / name).read_text() for name in found.files}
    assert texts == {found.summary["text"]}, "one commit, never mixed"
    assert len(store.versions(ASSET, PARTITION)) == 1


def test_sweep_leaves_a_draft_that_is_being_written(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_produce_slowly, args=(str(tmp_path), 1, started, "a"))
    process.start()
    assert started.wait(60)
    store = ArtifactStore(tmp_path)
    swept: list[str] = []
    while process.is_alive():
        swept += store.sweep(ASSET, PARTITION)
    process.join(60)
    assert process.exitcode == 0
    assert swept == []
    assert store.require(ASSET, PARTITION).summary == {"text": "a"}


def test_many_threads_publish_into_one_partition(store: ArtifactStore) -> None:
    store.keep = 20
    barrier = threading.Barrier(8)

    def run(version: int) -> str:
        barrier.wait()
        return store.produce(spec(version), write(str(version))).summary["text"]

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(run, range(8))) == [str(version) for version in range(8)]
    assert len(store.versions(ASSET, PARTITION)) == 8
    assert store.require(ASSET, PARTITION).summary["text"] in "01234567"
    assert not list(store.root.glob("**/*.tmp"))


def test_flipped_byte_cut_file_and_missing_file_are_named(store: ArtifactStore) -> None:
    made = store.produce(spec(), write("data"))
    file = made.path / "part" / "data.bin"
    made.verify()
    for damage in (lambda: file.write_text("dbta"), lambda: file.write_text("dat"), file.unlink):
        damage()
        with pytest.raises(ArtifactError, match=r"part/data\.bin"):
            store.require(ASSET, PARTITION)
    with pytest.raises(ArtifactError, match="materialise it first"):
        store.require(ASSET, "general|val")


@pytest.mark.parametrize("content", ["", '{"digest": "ab', "{}", "[]"])
@pytest.mark.parametrize("name", ["manifest.json", "current.json"])
def test_damaged_records_are_named_and_stop_no_other_asset(
    store: ArtifactStore, name: str, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = store.produce(spec(), write("data"))
    file = (made.path if name == "manifest.json" else made.path.parent) / name
    file.write_text(content)
    with pytest.raises(ArtifactError, match=rf"{name}: is damaged .*materialise again"):
        store.require(ASSET, PARTITION)
    store.keep = 1
    for version in range(3):
        store.produce(spec(version, asset="other"), write(str(version)))
    # What is in use could not be told, so nothing was swept.
    assert len(store.versions("other", PARTITION)) == 3
    assert f"nothing is swept: {file}" in caplog.text
    (shutil.rmtree if name == "manifest.json" else Path.unlink)(
        file.parent if name == "manifest.json" else file
    )
    store.produce(spec(), write("data"))
    store.sweep("other", PARTITION)
    assert len(store.versions("other", PARTITION)) == 1


def test_a_writer_that_waits_says_so(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_produce_slowly, args=(str(tmp_path), 1, started, "a"))
    process.start()
    assert started.wait(60)
    said: list[str] = []
    found = ArtifactStore(tmp_path).produce(spec(1), write("b"), say=said.append)
    process.join(60)
    assert found.summary == {"text": "a"}
    assert said == [f"{ASSET} {PARTITION} is being made by another process: waiting for it"]
    ArtifactStore(tmp_path).produce(spec(2), write("b"), say=said.append)
    assert len(said) == 1


def test_damaged_version_is_made_again_once_it_is_deleted(store: ArtifactStore) -> None:
    made = store.produce(spec(), write("data"))
    shutil.rmtree(made.path)
    with pytest.raises(ArtifactError, match="which is gone"):
        store.current(ASSET, PARTITION)
    assert not store.produce(spec(), write("data")).reused
    store.require(ASSET, PARTITION)


def test_retention_keeps_the_newest_the_current_and_what_a_current_one_was_made_from(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store", keep=2)
    used = store.produce(spec(0), write("0"))
    between = spec(asset="training_set", partition="", inputs={"dataset": used.digest})
    checkpoint = spec(asset="checkpoint", partition="", inputs={"training set": between.digest})
    for made in (between, checkpoint):
        store.produce(made, write("made from it"))
    # Its own current version moves on; what the checkpoint was made from, and that was made from, stays.
    for version in range(3):
        store.produce(spec(asset="training_set", partition="", config={"version": version}), write("newer"))
    assert store.find("training_set", "", between.digest) is not None
    for version in range(1, 5):
        store.produce(spec(version), write(str(version)))
    kept = [spec(version).digest[:DIGEST_CHARS] for version in (0, 3, 4)]
    assert store.versions(ASSET, PARTITION) == kept
    store.produce(spec(0), never)
    assert store.require(ASSET, PARTITION).summary == {"text": "0"}, "an older version can be current again"
    with pytest.raises(InputError, match="keep=0"):
        ArtifactStore(tmp_path, keep=0)


def test_resumable_draft_survives_failure_sweep_and_a_killed_publication(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(directory: Path) -> dict[str, Any]:
        (directory / "checkpoint-1").write_text("weights")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.produce(spec(), fail, resumable=True)
    draft = Path(str(store.root)) / "validated_dataset/general/train" / spec().digest[:DIGEST_CHARS]
    assert store.drafts(ASSET, PARTITION) == [draft]
    assert store.sweep(ASSET, PARTITION) == []
    (draft / f"{MANIFEST}.123.tmp").write_text("half")

    def no_manifest(target: Path, record: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "_write_atomically", no_manifest)
        with pytest.raises(OSError, match="No space"):
            store.produce(spec(), write("more"), resumable=True)
    assert (draft / RESUMABLE).exists()
    assert store.sweep(ASSET, PARTITION) == []
    made = store.produce(
        spec(), lambda directory: {"resumed": (directory / "checkpoint-1").read_text()}, resumable=True
    )
    assert made.summary == {"resumed": "weights"}
    assert store.drafts(ASSET, PARTITION) == store.drafts("never", "made") == []
    assert sorted(made.files) == ["checkpoint-1", "part/data.bin"]
    assert sorted(file.name for file in made.path.iterdir()) == ["checkpoint-1", MANIFEST, "part"]


def test_old_resumable_draft_is_swept(store: ArtifactStore) -> None:
    with pytest.raises(RuntimeError):
        store.produce(spec(), broken, resumable=True)
    (draft,) = [
        entry
        for entry in (Path(str(store.root)) / "validated_dataset/general/train").iterdir()
        if entry.is_dir()
    ]
    os.utime(draft, (0, 0))
    assert store.sweep(ASSET, PARTITION) == [draft.name]
    assert not draft.exists()


def test_sweep_touches_nothing_but_digests(store: ArtifactStore) -> None:
    store.produce(spec(asset="a", partition="exactly20characters1|train"), write("x"))
    store.produce(spec(asset="a", partition=""), write("y"))
    assert store.sweep("a") == []
    assert store.require("a", "exactly20characters1|train").summary == {"text": "x"}


@pytest.mark.parametrize(
    ("asset", "partition"),
    [
        ("", ""),
        ("a/../b", ""),
        ("a", ".."),
        ("a", "x|"),
        ("a", "x/../../../etc"),
        ("a", "a\\b"),
        ("a", " x"),
        ("/a", ""),
    ],
)
def test_names_cannot_leave_the_root(store: ArtifactStore, asset: str, partition: str) -> None:
    with pytest.raises(InputError, match="not a usable artefact name"):
        store.produce(spec(asset=asset, partition=partition), write("x"))


def test_root_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    started = time.monotonic()
    with pytest.raises(InputError, match="cannot be written"):
        ArtifactStore(tmp_path / "file" / "store").produce(spec(), never)
    assert time.monotonic() - started < 5


def test_remote_store(tmp_path: Path) -> None:
    root = f"memory://artifacts-{tmp_path.name}"
    with pytest.raises(InputError, match="work_dir"):
        ArtifactStore(root)
    writer = ArtifactStore(root, work_dir=tmp_path / "writer", keep=1)
    made = writer.produce(spec(1), write("one"))
    assert made.path.is_relative_to(tmp_path / "writer")
    remote = UPath(root) / "validated_dataset/general/train"
    assert json.loads((remote / CURRENT).read_text()) == {"digest": made.digest}

    reader = ArtifactStore(root, work_dir=tmp_path / "reader")
    found = reader.require(ASSET, PARTITION)
    assert found.path.is_relative_to(tmp_path / "reader")
    assert (found.path / "part" / "data.bin").read_text() == "one"
    assert writer.produce(spec(1), never).reused

    with pytest.raises(RuntimeError):
        writer.produce(spec(2), broken)
    assert reader.require(ASSET, PARTITION).digest == made.digest
    assert writer.versions(ASSET, PARTITION) == [made.digest[:DIGEST_CHARS]]

    writer.produce(spec(3), write("three"))
    assert writer.versions(ASSET, PARTITION) == [spec(3).digest[:DIGEST_CHARS]]
    assert not (remote / made.digest[:DIGEST_CHARS] / "part" / "data.bin").exists()
    assert not made.path.exists(), "the local copy goes with the version"
    assert reader.require(ASSET, PARTITION).summary == {"text": "three"}


def test_remote_upload_that_breaks_is_invisible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(f"memory://broken-{tmp_path.name}", work_dir=tmp_path)
    old = store.produce(spec(1), write("one"))
    real = artifacts._upload

    def cut(source: Path, target: UPath) -> None:
        real(source, target)
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "_upload", cut)
        with pytest.raises(ConnectionError):
            store.produce(spec(2), write("two"))
    assert store.require(ASSET, PARTITION).digest == old.digest
    assert store.find(ASSET, PARTITION, spec(2).digest) is None
    assert store.produce(spec(2), write("two")).summary == {"text": "two"}


def test_canonical_json_has_one_spelling() -> None:
    assert (
        canonical_json({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'.encode() == canonical_json({"a": "ü", "b": 1})
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": float("inf")})
