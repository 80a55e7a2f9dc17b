"""Forms of FUNSD: by hand, and the sample where it is at hand."""

import json
from pathlib import Path

import pytest
from PIL import Image

from sap_vision_assets.documents import DatasetConfig, build_dataset, open_dataset, validate
from sap_vision_assets.documents.importers import import_funsd
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import load_vocabulary

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
        ("blind", "skipped"),
        ("half", "skipped"),
        ("list", "skipped"),
        ("odd", "skipped"),
    ]


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
