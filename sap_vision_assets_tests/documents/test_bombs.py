"""Files made to eat memory or time: rejected from what can be seen before they are unpacked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sap_vision_assets.documents import RejectReason
from sap_vision_assets_tests.documents.folders import SplitFolder, png

# Peak memory is a process's own, so each bomb gets a process. Importing and a first document come before.
_MEASURE = """
import json, sys
from pathlib import Path
from sap_vision_assets.documents import DatasetConfig
from sap_vision_assets.documents.reading import read_folder
from sap_vision_assets.vocabulary import load_vocabulary
def peak_kb():
    # Not getrusage: its peak starts with that of the process that started this one.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1])
def read(folder):
    outcomes = read_folder(Path(folder), vocabulary=load_vocabulary(), config=DatasetConfig(workers=1))
    return [str(getattr(outcome, "reason", "accepted")) for outcome in outcomes]
read(sys.argv[1])
before = peak_kb()
print(json.dumps([read(sys.argv[2]), (peak_kb() - before) / 1024]))
"""
BOUND_MB = 48
"""Unpacked, each bomb has 100 MB or more; the worst measured is 3 MB."""


def _measure(tmp_path: Path, folder: SplitFolder) -> tuple[list[str], float]:
    warm = SplitFolder(tmp_path / f"{folder.path.name}_before")
    warm.add("doc")
    command = [sys.executable, "-c", _MEASURE, str(warm.path), str(folder.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    reasons, used_mb = json.loads(done.stdout)
    return reasons, used_mb


def test_page_of_30000_by_30000_and_its_twin(tmp_path: Path) -> None:
    folder = SplitFolder(tmp_path / "bomb")
    folder.add("doc", image=png(30_000, 30_000), width=30_000, height=30_000)
    reasons, used_mb = _measure(tmp_path, folder)
    assert reasons == [RejectReason.IMAGE_TOO_MANY_PIXELS]
    assert used_mb < BOUND_MB
    twin = SplitFolder(tmp_path / "twin")
    twin.add("doc", image=png(8_000, 8_000), width=8_000, height=8_000)
    reasons, used_mb = _measure(tmp_path, twin)
    assert reasons == ["accepted"]
    assert used_mb > BOUND_MB, "a large page that is decoded shows in the measurement"


def test_text_bomb(tmp_path: Path) -> None:
    folder = SplitFolder(tmp_path / "bomb")
    folder.add("doc", image=png(60, 80, text=bytes(200 << 20)))
    reasons, used_mb = _measure(tmp_path, folder)
    assert reasons == [RejectReason.IMAGE_BOMB]
    assert used_mb < BOUND_MB
    folder.add("doc", image=png(60, 80, text=bytes(1000)))
    assert folder.read()[1] == []


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b'[{"a":' * 100_000])
def test_deep_nesting(tmp_path: Path, content: bytes) -> None:
    folder = SplitFolder(tmp_path / "bomb")
    folder.add("doc")
    folder.annotation("doc.json").write_bytes(content)
    reasons, used_mb = _measure(tmp_path, folder)
    assert reasons[0] == RejectReason.ANNOTATION_TOO_DEEP
    assert used_mb < BOUND_MB


def test_annotation_of_500_mb(tmp_path: Path) -> None:
    folder = SplitFolder(tmp_path / "bomb")
    folder.add("doc")
    os.truncate(folder.annotation("doc.json"), 500 * 10**6)
    reasons, used_mb = _measure(tmp_path, folder)
    assert reasons[0] == RejectReason.ANNOTATION_TOO_LARGE
    assert used_mb < BOUND_MB


def test_million_wrong_items_give_one_error(tmp_path: Path) -> None:
    folder = SplitFolder(tmp_path / "bomb")
    folder.add("doc", token_labels=["x"] * 1_000_000)
    accepted, rejections = folder.read()
    assert accepted == {}
    assert [rejection.reason for rejection in rejections] == [RejectReason.ANNOTATION_SCHEMA]
    assert len(rejections[0].detail) < 400
