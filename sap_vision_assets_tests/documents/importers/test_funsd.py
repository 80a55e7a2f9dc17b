"""Forms of FUNSD: by hand, and the sample where it is at hand."""

import json
import math
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sap_vision_assets.documents import DatasetConfig, build_dataset, open_dataset, validate
from sap_vision_assets.documents.importers import ImportReport, import_funsd
from sap_vision_assets.errors import ArtifactError, InputError
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.documents.folders import encoded, full_disk, page, png

SAMPLE = Path(__file__).parents[3].parent / "shared" / "data" / "funsd"


def _entity(label: str, *words: tuple[str, list[int]]) -> dict[str, object]:
    return {
        "box": [0, 0, 1, 1],
        "text": " ".join(text for text, _ in words),
        "label": label,
        "words": [{"text": text, "box": box} for text, box in words],
        "linking": [[0, 1]],
        "id": 0,
    }


def _source(path: Path) -> Path:
    (path / "images").mkdir(parents=True)
    (path / "annotations").mkdir()
    Image.new("L", (500, 1000), 255).save(path / "images" / "form.png")
    form = [
        _entity("header", ("ORDER", [50, 100, 100, 120]), ("FORM", [110, 100, 160, 120])),
        _entity("question", ("Name:", [50, 200, 100, 220])),
        _entity(
            "answer",
            ("", [110, 200, 120, 220]),
            ("Jane", [130, 200, 180, 220]),
            ("Doe", [190, 200, 510, 220]),
        ),
        _entity("answer", (" ", [1, 1, 2, 2])),
        _entity("other", ("page", [50, 900, 100, 920]), ("1", [110, 900, 120, 920])),
    ]
    (path / "annotations" / "form.json").write_text(json.dumps({"form": form}))
    return path


def test_form_by_hand(tmp_path: Path) -> None:
    report = import_funsd(_source(tmp_path / "src"), tmp_path / "out")
    assert report.problems == ()
    assert report.counters == {
        "boxes_moved_to_the_edge": 1,
        "entities_without_text_dropped": 1,
        "links_dropped": 4,
        "pages_with_a_near_duplicate": 0,
        "words_without_text_dropped": 2,
    }
    assert report.entities == {"formHeader": 1, "formQuestion": 1, "formAnswer": 1}
    vocabulary = load_vocabulary(tmp_path / "out" / "vocabulary.json")
    assert vocabulary.field_names[-3:] == ("formHeader", "formQuestion", "formAnswer")
    (tmp_path / "dataset").mkdir()
    build_dataset(
        tmp_path / "out" / "forms" / "train",
        tmp_path / "dataset",
        vocabulary=vocabulary,
        config=DatasetConfig(workers=1),
    )
    (document,) = open_dataset(tmp_path / "dataset", vocabulary).iter_documents()
    assert document.doc_type == "OTHER"
    assert document.words == ("ORDER", "FORM", "Name:", "Jane", "Doe", "page", "1")
    assert [vocabulary.labels[label] for label in document.labels] == [
        "B-formHeader",
        "I-formHeader",
        "B-formQuestion",
        "B-formAnswer",
        "I-formAnswer",
        "O",
        "O",
    ]
    assert document.boxes[0] == (100, 100, 200, 120)
    assert document.boxes[4] == (380, 200, 1000, 220)


def test_form_that_cannot_be_read_is_listed(tmp_path: Path) -> None:
    source = _source(tmp_path / "src")
    for name, content in (("half", "{"), ("odd", '{"form": [{"words": []}]}'), ("list", "[]")):
        Image.new("L", (5, 5)).save(source / "images" / f"{name}.png")
        (source / "annotations" / f"{name}.json").write_text(content)
    (source / "annotations" / "blind.json").write_text('{"form": []}')
    report = import_funsd(source, tmp_path / "out")
    assert report.num_documents == 1
    assert [(p.document, p.kind) for p in report.problems] == [
        ("blind", "unpaired"),
        ("half", "skipped"),
        ("list", "skipped"),
        ("odd", "skipped"),
    ]


def _spoiled(source: Path, spoil: Callable[[Path], None]) -> ImportReport:
    """The import of form and of a second form that `spoil` has changed; first without the change."""
    shutil.copy(source / "images" / "form.png", source / "images" / "spoilt.png")
    shutil.copy(source / "annotations" / "form.json", source / "annotations" / "spoilt.json")
    twin = import_funsd(source, source.parent / "twin")
    assert (twin.num_documents, twin.problems) == (2, ())
    spoil(source)
    return import_funsd(source, source.parent / "out")


def _word(**changes: object) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        file = source / "annotations" / "spoilt.json"
        record = json.loads(file.read_text())
        record["form"][0]["words"][0].update(changes)
        file.write_text(json.dumps(record))

    return spoil


def _annotation(content: bytes) -> Callable[[Path], None]:
    return lambda source: (source / "annotations" / "spoilt.json").write_bytes(content) and None


def _image(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        (source / "images" / "spoilt.png").unlink()
        make(source / "images" / "spoilt.png")

    return spoil


def _giant() -> bytes:
    """A PNG that says that it is 2**31 - 1 pixels wide and high."""
    data = png(1, 1)
    header = b"IHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_word(box=[0, 0, math.nan, 5]), "NaN is no coordinate"),
        (_word(box=[0, 0, math.inf, 5]), "Infinity is no coordinate"),
        (_word(box=[0, 0, 10**400, 5]), "OverflowError"),
        (_word(box=[0, 0, 5]), "must be four finite numbers"),
        (_word(box=[0, 0, "5", 5]), "TypeError"),
        (_word(text=None), "AttributeError"),
        (_word(text=5), "AttributeError"),
        (_word(text="\ud800"), "UnicodeEncodeError"),
        (_annotation(b"[" * 100_000), "recursion limit"),
        (_annotation(b'{"form": [], "form": []}'), "key 'form' stands there twice"),
        (
            _image(lambda file: file.write_bytes(_giant())),
            "image_too_many_pixels",
        ),
        (_image(os.mkfifo), "image_not_a_file"),
        (_image(Path.mkdir), "image_not_a_file"),
        (_image(lambda file: file.write_bytes(b"")), "image_empty"),
        (_image(lambda file: file.write_bytes(encoded(page())[:-40])), "image_truncated"),
    ],
)
def test_one_bad_form_is_skipped_and_the_rest_goes_on(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    source = _source(tmp_path / "src")
    report = _spoiled(source, spoil)
    ((document, kind, detail),) = ((p.document, p.kind, p.detail) for p in report.problems)
    assert (document, kind) == ("spoilt", "skipped")
    assert said in detail
    assert detail.isprintable()
    alone = tmp_path / "alone"
    expected = import_funsd(_source(alone / "src"), alone / "out")
    assert report.counters == expected.counters, "nothing of the skipped form is counted"
    assert [file.stem for file in report.folder.glob("*/annotations/*")] == ["form"]


def test_what_has_no_partner_is_listed(tmp_path: Path) -> None:
    source = _source(tmp_path / "src")
    (source / "images" / "form.png").rename(source / "images" / "form.PNG")
    shutil.copy(source / "images" / "form.PNG", source / "images" / "lonely.png")
    (source / "annotations" / "notes.txt").write_text("to do")
    report = import_funsd(source, tmp_path / "out")
    assert report.num_documents == 1
    assert [(p.document, p.kind) for p in report.problems] == [
        ("notes.txt", "unexpected_file"),
        ("lonely", "unpaired"),
    ]
    assert "annotations/lonely.json is not there" in report.problems[1].detail
    assert (report.folder / "train" / "images" / "form.png").is_file()


def test_source_without_a_form_writes_nothing(tmp_path: Path) -> None:
    source = _source(tmp_path / "src")
    (source / "annotations" / "form.json").write_text("{")
    with pytest.raises(InputError, match=r"has no document that can be imported: form: skipped: .*EOF"):
        import_funsd(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_full_disk_fails_and_leaves_no_draft(tmp_path: Path) -> None:
    source = _source(tmp_path / "src")
    with full_disk(300), pytest.raises(ArtifactError, match=r"out/forms: cannot be written .*free space"):
        import_funsd(source, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    import_funsd(source, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["forms", "vocabulary.json"]


def test_output_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ArtifactError, match=r"out/forms: cannot be written"):
        import_funsd(_source(tmp_path / "src"), tmp_path / "out")


def test_another_vocabulary_in_the_data_root_is_refused(tmp_path: Path) -> None:
    source = _source(tmp_path / "src")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "vocabulary.json").write_text('{"version": 1}')
    with pytest.raises(InputError, match="another vocabulary extension"):
        import_funsd(source, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["vocabulary.json"]


def test_sample_imports_and_validates(tmp_path: Path) -> None:
    if not SAMPLE.is_dir():
        pytest.skip(f"{SAMPLE} is not there")
    report = import_funsd(SAMPLE, tmp_path / "out")
    assert report.documents == {"train": 104, "val": 15, "test": 30}
    assert report.counters["words_without_text_dropped"] == 624
    assert report.counters["entities_without_text_dropped"] == 152
    assert report.entities["formHeader"] == 441
    vocabulary = load_vocabulary(tmp_path / "out" / "vocabulary.json")
    validated = validate(tmp_path / "out" / "forms" / "test", vocabulary, DatasetConfig(workers=1))
    assert (validated.num_documents, validated.num_rejected) == (30, 0)
    assert sum(validated.splits[0].counters.values()) == validated.splits[0].counters["zero_area_boxes"]
