import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sap_vision_assets.encoder import EncoderConfig, MultiTaskLayoutLMv3
from sap_vision_assets.errors import ArtifactError, CheckpointError, VocabularyMismatchError
from sap_vision_assets.evaluation.gates import Floors, evaluate_gates, may_promote
from sap_vision_assets.evaluation.html import percent, render_html
from sap_vision_assets.evaluation.report import (
    EvaluationConfig,
    evaluate,
    evaluate_runner,
    report_pictures,
    thumbnails,
)
from sap_vision_assets.evaluation.thresholds import ThresholdConfig
from sap_vision_assets.shards import open_shards
from sap_vision_assets_tests.evaluation.helpers import VOCABULARY, label
from sap_vision_assets_tests.evaluation.pages import KnowingRunner, Page, build

CONFIG = EvaluationConfig(num_examples=4, thresholds=ThresholdConfig(min_answers=4), device="cpu")
ODD_ID = "tést #09"
EVIL = "<script>alert(1)</script>"


def invoice(document_id: str, sender: str = "Muster GmbH") -> Page:
    return Page(
        document_id=document_id,
        lines=(((sender, "senderName"),), (("No.", None), (f"47{document_id[-2:]}", "documentNumber"))),
    )


def order(document_id: str) -> Page:
    return Page(
        document_id=document_id,
        doc_type="PURCHASE_ORDER",
        po_subtype="BLANKET",
        lines=((("Order", None), (f"45{document_id[-2:]}", "documentNumber")),),
    )


@dataclass(frozen=True)
class Split:
    dataset: Path
    shards: Path


@pytest.fixture(scope="module")
def test_split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    pages = [*(invoice(f"test_{index:02}") for index in range(7)), invoice("test_07", f"{EVIL} AG")]
    pages += [order("test_08"), order(ODD_ID)]
    return Split(*build(tmp_path_factory.mktemp("test"), pages))


@pytest.fixture(scope="module")
def val_split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return Split(*build(tmp_path_factory.mktemp("val"), [invoice(f"val_{index:02}") for index in range(5)]))


def run(out: Path, test: Split, val: Split, **errors: Any) -> dict[str, Any]:
    out.mkdir()
    shards = [open_shards(split.shards, VOCABULARY) for split in (test, val)]
    return evaluate_runner(
        KnowingRunner(*shards, **errors),
        test=shards[0],
        val=shards[1],
        test_dataset=test.dataset,
        out=out,
        vocabulary=VOCABULARY,
        config=CONFIG,
        checkpoint_digest="c" * 64,
    )


def miss_the_evil_name(document: str, word: int, truth: int) -> tuple[int, float]:
    """test_07: the first word of its senderName is called taxId; all else is right."""
    return (label("B-taxId"), 0.97) if document == "test_07" and word == 0 else (truth, 0.9)


@pytest.fixture(scope="module")
def written(
    test_split: Split, val_split: Split, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """10 documents, one of the wrong type, with 20 - 2 entities: 17 right, 1 missed, 1 spurious."""
    out = tmp_path_factory.mktemp("report") / "out"
    summary = run(
        out,
        test_split,
        val_split,
        err_word=miss_the_evil_name,
        err_doc_type=lambda document, truth: (3, 0.8) if document == ODD_ID else (truth, 0.9),
    )
    return out, summary


def test_summary_has_the_right_numbers(written: tuple[Path, dict[str, Any]]) -> None:
    _, summary = written
    assert summary["num_documents"] == 10
    assert summary["num_entities"] == 18
    assert summary["doc_type_accuracy"] == 0.9
    assert summary["po_subtype_accuracy"] == 1.0
    assert summary["num_po_subtype_documents"] == 2
    # "I-senderName" of the evil name is left without its B-: decoding calls that word something else, so the
    # prediction has one wrong entity or two, never senderName.
    assert summary["field_recall"] == pytest.approx(17 / 18)
    # Of 8 invoices all are right, of 2 orders one; nothing else was taken for either.
    assert summary["doc_type_recall_macro"] == pytest.approx((1 + 0.5) / 2)
    assert summary["doc_type_recall_weighted"] == pytest.approx((8 * 1 + 2 * 0.5) / 10)
    assert summary["doc_type_precision_weighted"] == 1.0
    # senderName is found 7 times of 8, documentNumber 10 of 10.
    assert summary["field_recall_weighted"] == pytest.approx(17 / 18)
    assert summary["field_recall_macro"] == pytest.approx((7 / 8 + 1) / 2)
    assert summary["doc_type_accuracy_interval"][0] < 0.9 < summary["doc_type_accuracy_interval"][1]
    assert summary["vocabulary_digest"] == VOCABULARY.digest
    assert summary["checkpoint_digest"] == "c" * 64
    assert re.fullmatch("[0-9a-f]{64}", summary["test_digest"])


def test_report_json_agrees_with_the_summary(written: tuple[Path, dict[str, Any]]) -> None:
    out, summary = written
    report = json.loads((out / "report.json").read_text())
    assert report["schema_version"] == 1
    assert report["summary"] == summary
    by_name = {row["name"]: row for row in report["fields"]["per_field"]}
    assert by_name["documentNumber"]["f1"] == 1.0
    assert by_name["senderName"]["recall"] == 7 / 8
    assert by_name["plant"] == {
        "name": "plant",
        "precision": None,
        "recall": None,
        "f1": None,
        "support": 0,
        "num_predicted": 0,
        "num_correct": 0,
    }
    assert report["analysis"]["doc_type_confusions"] == [
        {"truth": "PURCHASE_ORDER", "predicted": "GOODS_RECEIPT", "count": 1, "share": 0.5}
    ]
    worst = report["analysis"]["worst_documents"]
    assert {row["document_id"] for row in worst} == {"test_07", ODD_ID}
    assert report["examples"][0]["document_id"] == "test_07"
    assert len(report["examples"]) == 4
    assert {"kind": "missed", "field": "senderName", "words": f"{EVIL} AG", "confidence": None} in report[
        "examples"
    ][0]["errors"]


def test_html_shows_the_numbers_and_escapes_words(written: tuple[Path, dict[str, Any]]) -> None:
    out, summary = written
    html = (out / "report.html").read_text()
    assert "90.0 %" in html
    assert percent(summary["field_f1"]) in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html
    # One page that stands alone: nothing is fetched, and every picture is inside.
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', html)
    assert len(sources) == 2 + 4
    assert all(source.startswith("data:image/") for source in sources)
    assert summary["test_digest"] in html


def test_pictures_are_readable_and_not_blank(written: tuple[Path, dict[str, Any]]) -> None:
    out, _ = written
    pictures = report_pictures(out)
    assert list(pictures)[:2] == ["doc_type_confusion", "po_subtype_confusion"]
    assert len(pictures) == 6
    assert any(re.fullmatch(r"page_t_st__09_[0-9a-f]{6}", name) for name in pictures), list(pictures)
    small = thumbnails(out)
    assert small.keys() == pictures.keys()
    for name, file in pictures.items():
        assert len(small[name]) < 70_000
        with Image.open(file) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20


def test_thresholds_come_from_val_alone(
    written: tuple[Path, dict[str, Any]], test_split: Split, val_split: Split, tmp_path: Path
) -> None:
    out, _ = written
    # The model is far worse on other test data: the thresholds stay, byte for byte.
    run(
        tmp_path / "worse",
        test_split,
        val_split,
        err_word=lambda document, _word, truth: (0, 0.99) if document.startswith("test") else (truth, 0.9),
        err_doc_type=lambda document, truth: (5, 0.99) if document.startswith("test") else (truth, 0.9),
    )
    expected = (out / "thresholds.json").read_bytes()
    assert (tmp_path / "worse" / "thresholds.json").read_bytes() == expected
    # The twin: errors on val move them.
    run(
        tmp_path / "val",
        test_split,
        val_split,
        err_word=lambda document, _word, truth: (truth, 0.7) if document.startswith("val") else (truth, 0.9),
    )
    assert (tmp_path / "val" / "thresholds.json").read_bytes() != expected
    record = json.loads(expected)
    assert record["vocabulary_digest"] == VOCABULARY.digest
    assert record["doc_type"]["threshold"] == pytest.approx(0.9, abs=1e-5)


def test_same_inputs_give_the_same_bytes(
    written: tuple[Path, dict[str, Any]], test_split: Split, val_split: Split, tmp_path: Path
) -> None:
    out, _ = written
    run(
        tmp_path / "again",
        test_split,
        val_split,
        err_word=miss_the_evil_name,
        err_doc_type=lambda document, truth: (3, 0.8) if document == ODD_ID else (truth, 0.9),
    )
    files = sorted(file.relative_to(out) for file in out.rglob("*") if file.is_file())
    assert len(files) == 3 + 6 + 6
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (out / file).read_bytes(), file


def test_test_digest_follows_the_test_data(
    written: tuple[Path, dict[str, Any]], val_split: Split, tmp_path: Path
) -> None:
    _, summary = written
    pages = [invoice(f"test_{index:02}") for index in range(8)] + [order("test_08"), order(ODD_ID)]
    other = Split(*build(tmp_path / "other", pages))
    assert run(tmp_path / "out", other, val_split)["test_digest"] != summary["test_digest"]


def test_a_test_split_without_anything_to_score(val_split: Split, tmp_path: Path) -> None:
    bare = Split(*build(tmp_path / "bare", [Page(document_id="blank_00"), Page(document_id="blank_01")]))
    summary = run(tmp_path / "out", bare, val_split)
    assert summary["field_f1"] is None
    assert summary["po_subtype_accuracy"] is None
    html = (tmp_path / "out" / "report.html").read_text()
    assert "undefined, n=0" in html
    assert "No test document has words." in html
    assert not may_promote(evaluate_gates(summary, Floors(), None))


def test_empty_splits_are_undefined(test_split: Split, tmp_path: Path) -> None:
    empty = Split(*build(tmp_path / "empty", []))
    summary = run(tmp_path / "no_val", test_split, empty)
    assert summary["doc_type_accuracy"] == 1.0
    thresholds = json.loads((tmp_path / "no_val" / "thresholds.json").read_text())
    assert (thresholds["doc_type"]["threshold"], thresholds["doc_type"]["source"]) == (None, "too_few")
    summary = run(tmp_path / "no_test", empty, test_split)
    assert (summary["num_documents"], summary["doc_type_accuracy"]) == (0, None)
    assert not may_promote(evaluate_gates(summary, Floors(), None))


def test_dataset_and_shards_must_belong_together(test_split: Split, val_split: Split, tmp_path: Path) -> None:
    mixed = Split(val_split.dataset, test_split.shards)
    with pytest.raises(ArtifactError, match="holds 5 documents, the test shards 10"):
        run(tmp_path / "out", mixed, val_split)


def save_checkpoint(directory: Path, split: Split, **changed: Any) -> Path:
    info = open_shards(split.shards, VOCABULARY).info
    sizes = {
        "vocab_size": int(info["vocab_size"]),
        "hidden_size": 24,
        "coordinate_size": 4,
        "shape_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 514,
        "patch_size": 56,
        "vocabulary_digest": VOCABULARY.digest,
        "tokenizer_digest": info["tokenizer_digest"],
    }
    MultiTaskLayoutLMv3(EncoderConfig(**{**sizes, **changed})).save_pretrained(directory)
    return directory


def test_a_checkpoint_is_evaluated(test_split: Split, val_split: Split, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", test_split)
    (tmp_path / "out").mkdir()
    summary = evaluate(
        checkpoint,
        test_shards=test_split.shards,
        test_dataset=test_split.dataset,
        val_shards=val_split.shards,
        out=tmp_path / "out",
        vocabulary=VOCABULARY,
        config=CONFIG,
    )
    # A model that has learned nothing: scored all the same, and not promoted.
    assert 0 <= summary["doc_type_accuracy"] <= 1
    assert summary["field_f1"] < 0.5
    assert re.fullmatch("[0-9a-f]{64}", summary["checkpoint_digest"])
    assert not may_promote(evaluate_gates(summary, Floors(), None))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"vocabulary_digest": "f" * 64}, VocabularyMismatchError),
        ({"tokenizer_digest": "f" * 64}, CheckpointError),
    ],
)
def test_a_checkpoint_of_another_vocabulary_or_tokenizer_is_refused(
    changed: dict[str, str], error: type[Exception], test_split: Split, val_split: Split, tmp_path: Path
) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", test_split, **changed)
    (tmp_path / "out").mkdir()
    with pytest.raises(error, match="f" * 64):
        evaluate(
            checkpoint,
            test_shards=test_split.shards,
            test_dataset=test_split.dataset,
            val_shards=val_split.shards,
            out=tmp_path / "out",
            vocabulary=VOCABULARY,
            config=CONFIG,
        )
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("height_px", "is_narrow"), [(150, False), (400, True)])
def test_only_a_narrow_page_is_shown_small_first(
    height_px: int, is_narrow: bool, written: tuple[Path, dict[str, Any]]
) -> None:
    report = json.loads((written[0] / "report.json").read_text())
    page = Image.new("RGB", (100, height_px), "white")
    pages = {example["document_id"]: page for example in report["examples"]}
    html = render_html(report, report_pictures(written[0]), pages)
    assert html.count('<input type="checkbox"') == (len(pages) if is_narrow else 0)
    assert html.count('<img class="narrow"') == (len(pages) if is_narrow else 0)
    assert ("A click shows a narrow page" in html) == is_narrow


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.0, "100.0 %"), (0.99999, "> 99.9 %"), (0.9731, "97.3 %"), (0.0, "0.0 %"), (None, "n/a")],
)
def test_percent(value: float | None, shown: str) -> None:
    assert percent(value) == shown
