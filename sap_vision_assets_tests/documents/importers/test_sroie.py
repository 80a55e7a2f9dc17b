"""Receipts of SROIE: by hand, and the sample where it is at hand."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sap_vision_assets.documents import DatasetConfig, validate
from sap_vision_assets.documents.importers import ImportReport, import_sroie
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
SAMPLE = Path(__file__).parents[3].parent / "shared" / "data" / "sroie"
LINES = [
    (100, 10, 300, 30, "ACME STORE SDN BHD"),
    (100, 40, 300, 60, "NO 1, JALAN X,"),
    (100, 70, 300, 90, "50000 KL"),
    (100, 100, 300, 120, "DATE: 12-01-19"),
    (10, 130, 100, 150, "APPLES"),
    (300, 130, 380, 150, "9.00"),
    (10, 160, 100, 180, "SUBTOTAL"),
    (300, 160, 380, 180, "9.00"),
    (10, 190, 100, 210, "TOTAL"),
    (300, 192, 380, 212, "RM 9.00"),
    (10, 220, 100, 240, "CASH"),
    (300, 220, 380, 240, "9.00"),
    (10, 250, 100, 270, "   "),
]
KEYS = {
    "company": "Acme Store Sdn. Bhd.",
    "address": "NO 1, JALAN X, 50000 KL",
    "date": "12-01-19",
    "total": "9.00",
}


def _source(
    path: Path, *, keys: dict[str, str] = KEYS, lines: list[tuple[object, ...]] = LINES, n: int = 1
) -> Path:
    for name in ("img", "box", "key"):
        (path / name).mkdir(parents=True, exist_ok=True)
    for index in range(n):
        Image.new("L", (400, 800), 255 - index).save(path / "img" / f"{index:03}.jpg")
        own = [
            *lines,
            *((10, 300 + 20 * k, 200, 315 + 20 * k, f"item{index}x{k}") for k in range(20 * (n > 1))),
        ]
        rows = [f"{x1},{y1},{x2},{y1},{x2},{y2},{x1},{y2},{text}" for x1, y1, x2, y2, text in own]
        (path / "box" / f"{index:03}.csv").write_text("\r\n".join(rows))
        (path / "key" / f"{index:03}.json").write_text(json.dumps(keys))
    return path


def _only(report: ImportReport) -> dict[str, object]:
    (file,) = report.folder.glob("*/annotations/*.json")
    return json.loads(file.read_text())


def _labelled(record: dict[str, object]) -> dict[str, list[int]]:
    """Indices of the words of each field."""
    found: dict[str, list[int]] = {}
    for index, label in enumerate(record["token_labels"]):
        if label:
            found.setdefault(VOCABULARY.labels[label][2:], []).append(index)
    return found


def test_receipt_by_hand(tmp_path: Path) -> None:
    report = import_sroie(_source(tmp_path / "src"), tmp_path / "out")
    assert report.problems == ()
    assert report.counters["lines_without_text_dropped"] == 1
    assert report.entities == {"documentDate": 1, "grossAmount": 1, "senderName": 1, "senderAddress": 1}
    record = _only(report)
    assert record["doc_type"] == "OTHER"
    assert record["words"][:4] == ["ACME", "STORE", "SDN", "BHD"]
    labelled = _labelled(record)
    assert labelled["senderName"] == [0, 1, 2, 3]
    assert [record["words"][i] for i in labelled["senderAddress"]] == [
        "NO",
        "1,",
        "JALAN",
        "X,",
        "50000",
        "KL",
    ]
    assert [record["words"][i] for i in labelled["documentDate"]] == ["12-01-19"]
    (total,) = labelled["grossAmount"]
    assert record["words"][total - 2 : total + 1] == ["TOTAL", "RM", "9.00"], "not the item, subtotal or cash"
    # The line is 100..300 of 400 x 10..30 of 800 pixels.
    assert record["boxes"][0][0] == 250
    assert record["boxes"][3][2] == 750
    assert {(box[1], box[3]) for box in record["boxes"][:4]} == {(12, 38)}
    gaps = [right[0] - left[2] for left, right in zip(record["boxes"][:3], record["boxes"][1:4], strict=True)]
    assert all(5 < gap < 40 for gap in gaps)


def test_what_is_not_found_is_listed_and_the_page_is_kept(tmp_path: Path) -> None:
    keys = {"company": "ANOTHER SHOP", "address": "", "date": "12-01-20", "total": "99.99"}
    report = import_sroie(_source(tmp_path / "src", keys=keys), tmp_path / "out")
    assert report.num_documents == 1
    assert sorted(problem.kind for problem in report.problems) == [
        "absent:senderAddress",
        "not_projected:documentDate",
        "not_projected:grossAmount",
        "not_projected:senderName",
    ]
    assert set(_only(report)["token_labels"]) == {0}
    assert "'ANOTHER SHOP' is not among the words" in report.render()
    written = json.loads((report.folder / "import_report.json").read_text())
    assert len(written["problems"]) == 4


def test_near_misses_are_taken_and_listed(tmp_path: Path) -> None:
    keys = KEYS | {"company": "ACNE STORE SDN BHD", "date": "01-19"}
    report = import_sroie(_source(tmp_path / "src", keys=keys), tmp_path / "out")
    assert sorted(problem.kind for problem in report.problems) == [
        "approximate:senderName",
        "wider:documentDate",
    ]
    assert _labelled(_only(report))["senderName"] == [0, 1, 2, 3]


@pytest.mark.parametrize("row", ["1,2,3,broken", "a,b,c,d,e,f,g,h,text"])
def test_line_that_cannot_be_read_is_listed(tmp_path: Path, row: str) -> None:
    source = _source(tmp_path / "src")
    box = source / "box" / "000.csv"
    box.write_text(f"{row}\n{box.read_text()}")
    report = import_sroie(source, tmp_path / "out")
    assert [(p.kind, row in p.detail) for p in report.problems] == [("line_not_readable", True)]
    assert len(_labelled(_only(report))) == 4


def test_receipt_that_cannot_be_read_is_listed(tmp_path: Path) -> None:
    source = _source(tmp_path / "src", n=4)
    (source / "key" / "001.json").write_text("{")
    (source / "box" / "002.csv").unlink()
    (source / "key" / "003.json").write_text("[]")
    report = import_sroie(source, tmp_path / "out")
    assert report.num_documents == 1
    assert [(p.document, p.kind) for p in report.problems] == [
        ("002", "unpaired"),
        ("001", "skipped"),
        ("003", "skipped"),
    ]


@pytest.mark.parametrize(
    ("place", "content", "said"),
    [
        ("box/001.csv", f"1{'0' * 400},1,9,1,9,9,1,9,cafe\n".encode(), "OverflowError"),
        ("box/001.csv", b"1,1,9,1,9,9,1,9,caf\xe9\n", "UnicodeDecodeError"),
        ("box/001.csv", b"", "annotation_empty"),
        ("key/001.json", b'{"company": null}', "AttributeError"),
        ("key/001.json", b"[" * 100_000, "recursion limit"),
        ("img/001.jpg", None, "image_not_a_file"),
        ("key/001.json", None, "annotation_not_a_file"),
    ],
)
def test_one_bad_receipt_is_skipped_and_the_rest_goes_on(
    tmp_path: Path, place: str, content: bytes | None, said: str
) -> None:
    """Without content the file is a FIFO, at which a reader would wait for ever."""
    source = _source(tmp_path / "src", n=2)
    twin = import_sroie(source, tmp_path / "twin")
    assert (twin.num_documents, twin.problems) == (2, ())
    (source / place).unlink()
    if content is None:
        os.mkfifo(source / place)
    else:
        (source / place).write_bytes(content)
    report = import_sroie(source, tmp_path / "out")
    ((document, kind, detail),) = ((p.document, p.kind, p.detail) for p in report.problems)
    assert (document, kind) == ("001", "skipped")
    assert said in detail
    assert report.counters == {"lines_without_text_dropped": 1, "pages_with_a_near_duplicate": 0}
    assert [file.stem for file in report.folder.glob("*/annotations/*")] == ["000"]


def test_suffix_in_capitals_is_taken_and_what_has_no_partner_is_listed(tmp_path: Path) -> None:
    source = _source(tmp_path / "src", n=4)
    (source / "img" / "000.jpg").rename(source / "img" / "000.JPG")
    (source / "img" / "001.jpg").unlink()
    (source / "box" / "002.csv").rename(source / "box" / "002.txt")
    shutil.copy(source / "key" / "003.json", source / "key" / "003.JSON")
    report = import_sroie(source, tmp_path / "out")
    assert sorted(file.name for file in report.folder.glob("*/images/*")) == ["000.jpg", "003.jpg"]
    assert [(p.document, p.kind, p.detail) for p in report.problems] == [
        ("002.txt", "unexpected_file", "box/002.txt: is no *.csv; not read"),
        ("003.json", "unexpected_file", "key/003.json: a second 003.json; not read"),
        ("001", "unpaired", "box/001.csv, key/001.json: not read, img/001.jpg is not there"),
        ("002", "unpaired", "img/002.jpg, key/002.json: not read, box/002.csv is not there"),
    ]


def test_source_without_a_receipt_writes_nothing(tmp_path: Path) -> None:
    source = _source(tmp_path / "src")
    (source / "img" / "000.jpg").unlink()
    with pytest.raises(InputError, match=r"has no document that can be imported: 000: unpaired"):
        import_sroie(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    import_sroie(_source(tmp_path / "src"), tmp_path / "out")


def test_near_duplicates_share_a_split_and_sizes_are_kept(tmp_path: Path) -> None:
    source = _source(tmp_path / "src", n=20)
    (source / "box" / "013.csv").write_text((source / "box" / "004.csv").read_text())
    report = import_sroie(source, tmp_path / "out")
    assert report.documents == {"train": 14, "val": 2, "test": 4}
    assert report.counters["pages_with_a_near_duplicate"] == 2
    split = {file.stem: file.parts[-3] for file in report.folder.glob("*/annotations/*.json")}
    assert split["004"] == split["013"]
    again = import_sroie(source, tmp_path / "again")
    assert {file.stem: file.parts[-3] for file in again.folder.glob("*/annotations/*.json")} == split


def test_import_never_writes_over_a_domain(tmp_path: Path) -> None:
    source = _source(tmp_path / "src")
    import_sroie(source, tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        import_sroie(source, tmp_path / "out")
    with pytest.raises(InputError, match="must be of a-z"):
        import_sroie(source, tmp_path / "out", domain="../x")
    with pytest.raises(InputError, match="doc_type 'RECEIPT'"):
        import_sroie(source, tmp_path / "out", domain="x", doc_type="RECEIPT")
    with pytest.raises(InputError, match="shares"):
        import_sroie(source, tmp_path / "out", domain="x", test_share=0.7, val_share=0.3)
    with pytest.raises(InputError, match="img: is no folder"):
        import_sroie(tmp_path, tmp_path / "out", domain="x")


def test_sample_imports_and_validates(tmp_path: Path) -> None:
    if not SAMPLE.is_dir():
        pytest.skip(f"{SAMPLE} is not there")
    report = import_sroie(SAMPLE, tmp_path / "out")
    assert report.documents == {"train": 210, "val": 30, "test": 60}
    assert report.entities == {
        "documentDate": 298,
        "grossAmount": 300,
        "senderName": 299,
        "senderAddress": 297,
    }
    validated = validate(tmp_path / "out" / "receipts" / "test", VOCABULARY, DatasetConfig(workers=1))
    assert (validated.num_documents, validated.num_rejected) == (60, 0)
    assert validated.splits[0].rejections == ()
