"""The report of a folder, a domain or a data root."""

from pathlib import Path

import pytest

from sap_vision_assets import cli
from sap_vision_assets.documents import DatasetConfig, validate
from sap_vision_assets.errors import InputError
from sap_vision_assets_tests.documents.folders import VOCABULARY, SplitFolder, encoded, page

ONE_WORKER = DatasetConfig(workers=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    train = SplitFolder(tmp_path / "general" / "train")
    train.add("good")
    train.add("bad", boxes=[[0, 0, 2000, 1]] * 4)
    train.add("worse", doc_type="NOTHING")
    train.image("lonely.png").write_bytes(encoded(page()))
    SplitFolder(tmp_path / "general" / "val").add("good", token_labels=[2, 0, 0, 0])
    SplitFolder(tmp_path / "receipts" / "test").add("bad", boxes=[[0, 0, 2000, 1]] * 4)
    return tmp_path


def test_data_root(root: Path) -> None:
    report = validate(root, VOCABULARY, ONE_WORKER)
    assert [(s.name, s.num_documents, s.num_rejected) for s in report.splits] == [
        ("general/train", 1, 2),
        ("general/val", 1, 0),
        ("receipts/test", 0, 1),
    ]
    assert (report.num_documents, report.num_rejected) == (2, 3)
    assert report.folder_problems == {}


def test_domain_and_split(root: Path) -> None:
    assert [split.name for split in validate(root / "general", VOCABULARY, ONE_WORKER).splits] == [
        "train",
        "val",
    ]
    report = validate(root / "general" / "train", VOCABULARY, ONE_WORKER)
    assert [split.name for split in report.splits] == ["."]
    assert report.num_rejected == 2


def test_render_has_reasons_first_and_then_each_file(root: Path) -> None:
    text = validate(root, VOCABULARY, ONE_WORKER).render()
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0].endswith(": 2 documents accepted, 3 rejected")
    assert "general/train 1 2" in lines
    assert lines.index("box_out_of_range 2") < lines.index("unknown_doc_type 1")
    assert "repaired_labels 1" in lines
    bad = next(
        line for line in lines if line.startswith("general/train/annotations/bad.json box_out_of_range")
    )
    assert "box 0 [0, 0, 2000, 1] exceeds 0..1000; divide by the page size" in bad
    assert any(line.startswith("receipts/test/annotations/bad.json") for line in lines)
    assert any(line.startswith("general/train/images/lonely.png image_without_annotation") for line in lines)
    assert max(map(len, text.splitlines())) < 500


def test_clean_folder_renders_no_files(tmp_path: Path) -> None:
    SplitFolder(tmp_path / "train").add("good")
    report = validate(tmp_path / "train", VOCABULARY, ONE_WORKER)
    assert report.num_rejected == 0
    assert "annotations" not in report.render()


def test_misspelt_split_is_named(root: Path) -> None:
    SplitFolder(root / "general" / "trian").add("good")
    (root / "empty").mkdir()
    (root / ".cache").mkdir()
    report = validate(root, VOCABULARY, ONE_WORKER)
    assert list(report.folder_problems) == ["empty", "general/trian"]
    assert "empty: has no split (train, val, test)" in report.render()
    assert "general/trian: is no split" in report.render()


def test_misspelt_folder_of_a_split_is_named(root: Path) -> None:
    folder = SplitFolder(root / "general" / "test")
    folder.add("good")
    assert validate(root, VOCABULARY, ONE_WORKER).folder_problems == {}
    (folder.path / "annotations").rename(folder.path / "annotation")
    assert list(validate(root, VOCABULARY, ONE_WORKER).folder_problems) == [
        "general/test/annotation",
        "general/test",
    ]
    for path, name in ((root / "general", "test"), (folder.path, ".")):
        text = validate(path, VOCABULARY, ONE_WORKER).render()
        assert f"{name}: has no annotations/, so no document\n" in text
        assert "annotation: is neither annotations/ nor images/; nothing reads it" in text


@pytest.mark.parametrize("name", ["Receipts", "re ceipts", "a|b"])
def test_folder_that_is_no_domain_to_the_graph_is_named(root: Path, name: str) -> None:
    (root / "receipts").rename(root / name)
    for path in (root, root / name):
        report = validate(path, VOCABULARY, ONE_WORKER)
        assert list(report.folder_problems) == [name]
        assert f"{name}: is no name of a domain: must be of a-z, 0-9" in report.render()
    assert validate(root / "general", VOCABULARY, ONE_WORKER).folder_problems == {}


def test_no_document_at_all_is_said(tmp_path: Path) -> None:
    folder = SplitFolder(tmp_path / "general" / "train")
    report = validate(tmp_path, VOCABULARY, ONE_WORKER)
    assert report.num_documents == 0
    assert "no document: annotations are <domain>/<split>/annotations/*.json" in report.render()
    folder.add("good")
    assert "no document" not in validate(tmp_path, VOCABULARY, ONE_WORKER).render()


def test_command_fails_for_whatever_the_graph_would_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = SplitFolder(tmp_path / "general" / "train")
    assert cli.main(["validate", str(tmp_path)]) == 1, "no document"
    folder.add("good")
    assert cli.main(["validate", str(tmp_path)]) == 0
    (tmp_path / "general").rename(tmp_path / "General")
    assert cli.main(["validate", str(tmp_path)]) == 1
    assert "General: is no name of a domain" in capsys.readouterr().out


def test_one_long_name_does_not_widen_every_row(tmp_path: Path) -> None:
    folder = SplitFolder(tmp_path / "train")
    for name in ("short", "x" * 180):
        folder.add(name, doc_type="NOTHING")
    lines = validate(folder.path, VOCABULARY, ONE_WORKER).render().splitlines()
    (short,) = (line for line in lines if line.startswith("annotations/short.json"))
    (long,) = (line for line in lines if line.startswith("annotations/xxx"))
    assert short.index("unknown_doc_type") == 62
    assert f"{'x' * 180}.json  unknown_doc_type  doc_type 'NOTHING'" in long


def test_wrong_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        validate(tmp_path / "nothing", VOCABULARY)
    with pytest.raises(InputError, match="has no annotations/"):
        validate(tmp_path, VOCABULARY)
