"""The state of a folder: it moves with every name and byte, and reads nothing twice that did not change."""

import json
import os
import time
from pathlib import Path

import pytest

from sap_vision_assets.documents import observe, observe_folder
from sap_vision_assets_tests.documents.folders import SplitFolder


@pytest.fixture
def folder(tmp_path: Path) -> SplitFolder:
    made = SplitFolder(tmp_path / "general" / "train")
    made.add("a")
    made.add("b")
    return made


def _age(folder: SplitFolder, seconds: float = 60) -> None:
    for file in folder.path.glob("*/*"):
        then = time.time() - seconds
        os.utime(file, (then, then))


def test_counts_and_a_digest_that_is_the_same_for_equal_folders(folder: SplitFolder, tmp_path: Path) -> None:
    state = observe_folder(folder.path)
    assert (state.num_annotations, state.num_images) == (2, 2)
    copy = SplitFolder(tmp_path / "elsewhere")
    copy.add("b")
    copy.add("a")
    assert observe_folder(copy.path) == state


def test_missing_and_empty_folder_are_one_state(tmp_path: Path) -> None:
    missing = observe_folder(tmp_path / "receipts" / "val")
    assert (missing.num_annotations, missing.num_images) == (0, 0)
    assert observe_folder(SplitFolder(tmp_path / "empty").path) == missing


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("change", ["label byte", "image byte", "new", "gone", "renamed", "stray"])
def test_every_change_moves_the_digest(
    folder: SplitFolder, tmp_path: Path, change: str, cached: bool
) -> None:
    cache = tmp_path / "cache.json" if cached else None
    _age(folder)
    before = observe_folder(folder.path, cache)
    if change == "label byte":
        file = folder.annotation("a.json")
        file.write_bytes(file.read_bytes().replace(b"4711", b"4712"))
    elif change == "image byte":
        file = folder.image("a.png")
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
    elif change == "new":
        folder.add("c")
    elif change == "gone":
        folder.image("a.png").unlink()
    elif change == "renamed":
        folder.image("a.png").rename(folder.image("z.png"))
    else:
        folder.annotation("notes.txt").write_text("x")
    after = observe_folder(folder.path, cache)
    assert after.digest != before.digest
    assert after == observe_folder(folder.path), "the cache changes nothing"


def test_unchanged_files_are_not_read_again(
    folder: SplitFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "state" / "cache.json"
    _age(folder)
    read: list[str] = []
    real = observe._hash
    monkeypatch.setattr(observe, "_hash", lambda file: read.append(file.name) or real(file))
    first = observe_folder(folder.path, cache)
    assert sorted(read) == ["a.json", "a.png", "b.json", "b.png"]
    assert observe_folder(folder.path, cache) == first
    assert len(read) == 4
    folder.image("b.png").write_bytes(b"other")
    observe_folder(folder.path, cache)
    assert read[4:] == ["b.png"]
    assert list(cache.parent.iterdir()) == [cache]


def test_file_that_was_written_just_now_is_not_cached(folder: SplitFolder, tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    observe_folder(folder.path, cache)
    assert not cache.exists()
    _age(folder)
    observe_folder(folder.path, cache)
    assert len(json.loads(cache.read_text())["files"]) == 4


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"version": 1}', '{"version": 1, "files": {"a": 3}}', '"x"']
)
def test_damaged_cache_is_made_again(folder: SplitFolder, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "cache.json"
    cache.write_text(content)
    _age(folder)
    assert observe_folder(folder.path, cache) == observe_folder(folder.path)
    assert json.loads(cache.read_text())["version"] == 1


def test_nothing_odd_is_opened(folder: SplitFolder, tmp_path: Path) -> None:
    os.mkfifo(folder.image("fifo.png"))
    folder.image("zero.png").symlink_to("/dev/zero")
    folder.image("loop.png").symlink_to("loop.png")
    folder.image("gone.png").symlink_to("nothing")
    (tmp_path / "secret").write_text("secret")
    folder.image("out.png").symlink_to(tmp_path / "secret")
    folder.image("folder.png").mkdir()
    started = time.monotonic()
    state = observe_folder(folder.path)
    assert time.monotonic() - started < 5
    assert state.num_images == 8
    (tmp_path / "secret").write_text("other!")
    assert observe_folder(folder.path) == state


def test_sparse_giant_is_told_by_its_size(folder: SplitFolder) -> None:
    giant = folder.annotation("giant.json")
    giant.touch()
    os.truncate(giant, observe.MAX_HASHED_BYTES + 1)
    started = time.monotonic()
    state = observe_folder(folder.path)
    assert time.monotonic() - started < 1
    os.truncate(giant, observe.MAX_HASHED_BYTES + 2)
    assert observe_folder(folder.path).digest != state.digest
