"""Reading in several processes: order, bounded hand-out, threads, and readers that die."""

import os
import threading
from pathlib import Path

import pytest

from sap_vision_assets.documents import DatasetConfig, RejectReason, config, reading
from sap_vision_assets.documents.document import Outcome
from sap_vision_assets.documents.parallel import map_in_order
from sap_vision_assets_tests.documents.folders import SplitFolder

_READ_ONE = reading._read_one


def square_or_die(number: int) -> int:
    if number == 13:
        os._exit(1)
    return number * number


def read_or_die(tree: Path, vocabulary: object, settings: DatasetConfig, entry: object) -> Outcome:
    if entry.document_id == "doc07":  # type: ignore[attr-defined]  # reading's own private type
        os._exit(1)
    return _READ_ONE(tree, vocabulary, settings, entry)  # type: ignore[arg-type]  # handed on as they came


def square(number: int) -> int:
    return number * number


def test_results_come_in_order_from_several_processes() -> None:
    results = list(map_in_order(square, range(50), workers=2, on_crash=square))
    assert results == [number * number for number in range(50)]


def test_item_that_kills_its_process_is_named_and_the_rest_goes_on() -> None:
    results = list(map_in_order(square_or_die, range(40), workers=2, on_crash=lambda number: -number))
    assert results == [-13 if number == 13 else number * number for number in range(40)]


def test_works_from_a_thread() -> None:
    results: list[int] = []
    thread = threading.Thread(
        target=lambda: results.extend(map_in_order(square, range(9), workers=2, on_crash=square))
    )
    thread.start()
    thread.join(60)
    assert results == [number * number for number in range(9)]


def test_document_that_kills_its_reader_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "MIN_DOCUMENTS_PER_WORKER", 1)
    folder = SplitFolder(tmp_path / "train")
    for number in range(10):
        folder.add(f"doc{number:02}")
    accepted, rejections = folder.read(workers=2)
    assert len(accepted) == 10
    assert rejections == []
    monkeypatch.setattr(reading, "_read_one", read_or_die)
    after, rejections = folder.read(workers=2)
    assert after == {name: document for name, document in accepted.items() if name != "doc07"}
    assert [(r.document_id, r.reason) for r in rejections] == [("doc07", RejectReason.READER_CRASHED)]
