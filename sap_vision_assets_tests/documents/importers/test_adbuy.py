"""Ad-buy forms: by hand, and the sample where it is at hand."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from sap_vision_assets.documents import DatasetConfig, validate
from sap_vision_assets.documents.importers import ImportReport, import_adbuy
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.documents.importers.pdfs import Text, write_heavy_pdf, write_pdf

VOCABULARY = load_vocabulary()
SAMPLE = Path(__file__).parents[3].parent / "shared" / "data" / "adbuy"
COLUMNS = ("id", "contract_num", "advertiser", "gross_amount", "flight_from", "flight_to")
ORDER: list[Text] = [
    (250, 40, "ORDER"),
    (50, 80, "Order / Rev:"),
    (150, 80, "4711"),
    (300, 80, "Alt Order #:"),
    (400, 80, "04711"),
    (50, 100, "Flight Dates:"),
    (150, 100, "02/07/20 - 02/13/20"),
    (50, 120, "Product:"),
    (150, 120, "Tom Steyer for Mayor"),
    (50, 140, "Advertiser:"),
    (150, 140, "Tom Steyer"),
    (150, 151.5, "for Mayor"),
    (300, 140, "Market:"),
    (400, 140, "Flint"),
    (50, 200, "Month"),
    (150, 200, "Gross Amount"),
    (250, 200, "Net Amount"),
    (50, 220, "Feb 2020"),
    (150, 220, "$1,500.00"),
    (250, 220, "$1,275.00"),
    (50, 240, "Totals"),
    (150, 240, "$1,500.00"),
    (250, 240, "$1,275.00"),
    (50, 300, "Line"),
    (100, 300, "Start"),
    (160, 300, "End"),
    (400, 300, "Amount"),
    (50, 320, "1"),
    (100, 320, "02/07/20"),
    (160, 320, "02/13/20"),
    (400, 320, "$1,500.00"),
]
VALUES = {
    "contract_num": "4711",
    "advertiser": "TOM STEYER FOR MAYOR",
    "gross_amount": "1500.00",
    "flight_from": "2/7/2020",
    "flight_to": "02/13/20",
}
INVOICE: list[Text] = [
    (250, 40, "INVOICE"),
    (50, 80, "Invoice Period"),
    (150, 80, "02/07/20-02/13/20"),
    (50, 100, "Order Flight"),
    (150, 100, "02/07/20-02/13/20"),
    (50, 120, "Invoice #"),
    (150, 120, "4711"),
    (50, 140, "Advertiser"),
    (150, 140, "Tom Steyer for Mayor"),
    (300, 200, "Gross Total"),
    (400, 200, "$1,500.00"),
    (300, 220, "Net Total"),
    (400, 220, "$1,500.00"),
]


def _source(
    path: Path,
    texts: list[Text] = ORDER,
    *,
    values: dict[str, str] = VALUES,
    on_page_1: dict[str, str] | None = None,
    n: int = 1,
) -> Path:
    """n documents of the same values, each with lines of its own, enough not to be near duplicates."""
    path.mkdir(parents=True, exist_ok=True)
    for index in range(n):
        own = [(50.0, 400 + 12 * k, f"item{index}x{k} spot{index}x{k}") for k in range(20 * (n > 1))]
        write_pdf(path / f"doc{index}.pdf", [*texts, *own])
    names = [f"doc{index}" for index in range(n)]
    _write_table(path / "labels.csv", [[name, *(values[key] for key in COLUMNS[1:])] for name in names])
    flags = [(on_page_1 or {}).get(key, "1") for key in COLUMNS[1:]]
    _write_table(path / "on_page1.csv", [[name, *flags] for name in names])
    return path


def _write_table(file: Path, rows: list[list[str]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])


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


def _line(record: dict[str, object], index: int) -> float:
    """Points from the page's top to the baseline, to 5 points."""
    return 5 * round(record["boxes"][index][3] / 1000 * 792 / 5)


def test_order_by_hand(tmp_path: Path) -> None:
    report = import_adbuy(_source(tmp_path / "src"), tmp_path / "out")
    assert report.problems == ()
    assert report.documents == {"train": 1, "val": 0, "test": 0}
    record = _only(report)
    assert record["doc_type"] == "CONTRACT"
    assert (record["width"], record["height"]) == (1082, 1400)
    assert record["words"][:7] == ["ORDER", "Order", "/", "Rev:", "4711", "Alt", "Order"]
    labelled = _labelled(record)
    words = {field: [record["words"][i] for i in indices] for field, indices in labelled.items()}
    assert words == {
        "contractNumber": ["4711"],
        "receiverName": ["Tom", "Steyer", "for", "Mayor"],
        "grossAmount": ["$1,500.00"],
        "validFrom": ["02/07/20"],
        "validTo": ["02/13/20"],
    }
    lines = {field: _line(record, indices[0]) for field, indices in labelled.items()}
    assert lines == {
        "contractNumber": 80,
        "receiverName": 140,  # not the product
        "grossAmount": 240,  # of the totals, not of the month or the item
        "validFrom": 100,  # not the item's
        "validTo": 100,
    }
    assert report.counters["one_of_several_places:grossAmount"] == 1
    assert report.counters["one_of_several_places:receiverName"] == 1
    assert report.counters["first_of_equal_places:grossAmount"] == 0
    # In Helvetica of 10 points a digit is 5.56 wide and 7 high; the ink of a 1 ends at 3.59.
    x1, y1, x2, y2 = record["boxes"][labelled["contractNumber"][0]]
    assert (x1, x2) == pytest.approx((150 / 0.612, (150 + 3 * 5.56 + 3.59) / 0.612), abs=2)
    assert (y1, y2) == pytest.approx((73 / 0.792, 80 / 0.792), abs=2)


def test_invoice_by_hand(tmp_path: Path) -> None:
    """Both periods are right: the flight's is taken. Dates without spaces between them get words each."""
    report = import_adbuy(_source(tmp_path / "src", INVOICE), tmp_path / "out")
    record = _only(report)
    assert record["doc_type"] == "INVOICE"
    assert record["words"][3:6] == ["02/07/20", "-", "02/13/20"]
    lines = {field: _line(record, indices[0]) for field, indices in _labelled(record).items()}
    assert lines == {
        "contractNumber": 120,
        "receiverName": 140,
        "grossAmount": 200,
        "validFrom": 100,
        "validTo": 100,
    }


def test_credit_memo_is_told_by_its_title(tmp_path: Path) -> None:
    texts = [(200.0, 40.0, "Credit Memo-Adjustment"), *INVOICE[1:]]
    assert (
        _only(import_adbuy(_source(tmp_path / "src", texts), tmp_path / "out"))["doc_type"] == "CREDIT_MEMO"
    )


def test_what_is_not_labelled_is_listed_or_counted(tmp_path: Path) -> None:
    values = VALUES | {"contract_num": "", "advertiser": "Somebody Else", "flight_to": "02/14/20"}
    source = _source(tmp_path / "src", values=values, on_page_1={"gross_amount": "0"})
    report = import_adbuy(source, tmp_path / "out")
    assert [(p.kind, p.detail) for p in report.problems] == [
        ("absent:contractNumber", "the source has no contract_num"),
        ("not_projected:receiverName", "'Somebody Else' is not among the words as this field"),
        ("not_projected:validTo", "'02/14/20' is not among the words as this field"),
    ]
    assert report.counters["not_on_page_1:grossAmount"] == 1
    assert set(_labelled(_only(report))) == {"validFrom"}


def test_value_without_a_caption_is_taken_only_where_it_stands_once(tmp_path: Path) -> None:
    texts = [(50.0, 50.0, "Some page of a form, 9.00 it says"), (50.0, 90.0, "4711 and 9.00 again")]
    values = VALUES | {"gross_amount": "9.00"}
    report = import_adbuy(_source(tmp_path / "src", texts, values=values), tmp_path / "out")
    assert [p.kind for p in report.problems if p.kind.startswith("ambiguous")] == ["ambiguous:grossAmount"]
    assert set(_labelled(_only(report))) == {"contractNumber"}
    assert report.counters["without_caption:contractNumber"] == 1


def test_near_misses_are_taken_and_listed(tmp_path: Path) -> None:
    values = VALUES | {"advertiser": "Tom Steier for Mayor", "contract_num": "471"}
    report = import_adbuy(_source(tmp_path / "src", values=values), tmp_path / "out")
    assert [(p.kind, p.detail) for p in report.problems] == [
        ("wider:contractNumber", "'471' stands inside of '4711', all of it labelled"),
        (
            "approximate:receiverName",
            "'Tom Steier for Mayor' taken for 'Tom Steyer for Mayor', 1 characters differ",
        ),
    ]


@pytest.mark.parametrize(
    ("label", "printed", "is_found"),
    [
        ("$1,500", "1,500.00", True),
        ("($76.50)", "($76.50)", True),
        ("($76.50)", "$76.50", False),
        ("1500", "$15.00", False),
        ("no amount", "$15.00", False),
    ],
)
def test_amounts_are_compared_as_numbers(tmp_path: Path, label: str, printed: str, is_found: bool) -> None:
    texts = [*INVOICE[:9], (300.0, 200.0, "Gross Total"), (400.0, 200.0, printed)]
    report = import_adbuy(
        _source(tmp_path / "src", texts, values=VALUES | {"gross_amount": label}), tmp_path / "out"
    )
    assert ("grossAmount" in _labelled(_only(report))) == is_found


@pytest.mark.parametrize(
    ("label", "printed", "is_found"),
    [("Feb07/20", "Feb07/20", True), ("02/07/20", "2/7/2020", True), ("13/40/20", "13/40/20", False)],
)
def test_dates_are_compared_as_days(tmp_path: Path, label: str, printed: str, is_found: bool) -> None:
    texts = [*INVOICE[:3], (50.0, 100.0, "Flight:"), (150.0, 100.0, f"{printed} - 02/13/20"), *INVOICE[5:]]
    report = import_adbuy(
        _source(tmp_path / "src", texts, values=VALUES | {"flight_from": label}), tmp_path / "out"
    )
    assert ("validFrom" in _labelled(_only(report))) == is_found


def test_bad_documents_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    source = _source(tmp_path / "src", n=7)
    twin = import_adbuy(source, tmp_path / "twin")
    assert (twin.num_documents, twin.problems) == (7, ())
    (source / "doc1.pdf").write_bytes((source / "doc1.pdf").read_bytes()[:300])
    write_pdf(source / "doc2.pdf", ORDER, password="secret")
    write_pdf(source / "doc3.pdf")
    write_heavy_pdf(source / "doc4.pdf", depth=25)
    (source / "doc5.pdf").rename(source / "doc5.txt")
    write_pdf(source / "other.pdf", ORDER)
    hostile = "doc\n6"
    (source / "doc6.pdf").rename(source / f"{hostile}.pdf")
    for name in ("labels.csv", "on_page1.csv"):
        (source / name).write_text((source / name).read_text().replace("doc6", f'"{hostile}"'))
    report = import_adbuy(source, tmp_path / "out", cpu_seconds=2)
    assert [file.stem for file in report.folder.glob("*/annotations/*")] == ["doc0"]
    shown = [(p.document, p.kind, p.detail.split(": ")[1]) for p in report.problems if p.kind == "skipped"]
    assert shown == [
        ("doc\\n6", "skipped", "file_name"),
        ("doc1", "skipped", "pdf_damaged"),
        ("doc2", "skipped", "pdf_locked"),
        ("doc3", "skipped", "pdf_without_text"),
        ("doc4", "skipped", "pdf_reader_crashed"),
    ]
    assert [(p.document, p.kind, p.detail) for p in report.problems if p.kind != "skipped"] == [
        ("doc5.txt", "unexpected_file", "./doc5.txt: is no *.pdf; not read"),
        ("doc5", "unpaired", "not read, doc5.pdf is not there"),
        ("other", "unpaired", "not read, its row in labels.csv and its row in on_page1.csv is not there"),
    ]
    assert all("\n" not in p.document + p.detail for p in report.problems)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.csv", None, "cannot be read"),
        ("on_page1.csv", None, "cannot be read"),
        ("labels.csv", b"", "annotation_empty"),
        ("labels.csv", b"id,advertiser\ndoc0,x\n", "line 2: is not id,contract_num,"),
        ("labels.csv", b"%s\ndoc0,1,2,3,4\n" % ",".join(COLUMNS).encode(), "line 2: is not id,contract_num,"),
        (
            "labels.csv",
            b"%s\ndoc0,1,2,3,4,5,6\n" % ",".join(COLUMNS).encode(),
            "line 2: is not id,contract_num",
        ),
        (
            "labels.csv",
            b"%s\na,,,,,\na,,,,,\n" % ",".join(COLUMNS).encode(),
            "line 3: id 'a' has a row already",
        ),
        ("labels.csv", b"caf\xe9\n", "'utf-8' codec"),
        ("labels.csv", b'%s\na,"%s",,,,\n' % (",".join(COLUMNS).encode(), b"x" * 200_000), "field larger"),
        ("labels.csv", b"%s\n" % ",".join(COLUMNS).encode(), "has no document that can be imported"),
    ],
)
def test_table_that_cannot_be_used_ends_the_import_and_nothing_is_written(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    source = _source(tmp_path / "src")
    if content is None:
        (source / name).unlink()
    else:
        (source / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        import_adbuy(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_import_never_writes_over_a_domain_and_is_the_same_each_time(tmp_path: Path) -> None:
    source = _source(tmp_path / "src", n=10)
    shutil.copy(source / "doc3.pdf", source / "doc8.pdf")
    report = import_adbuy(source, tmp_path / "out", test_share=0.3)
    assert report.documents == {"train": 6, "val": 1, "test": 3}
    assert report.counters["pages_with_a_near_duplicate"] == 2
    again = import_adbuy(source, tmp_path / "again", test_share=0.3)
    files = {
        folder: {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (report.folder, again.folder)
    }
    assert files[report.folder] == files[again.folder]
    split = {file.stem: file.parts[-3] for file in report.folder.glob("*/annotations/*.json")}
    assert split["doc3"] == split["doc8"]
    with pytest.raises(InputError, match="exists already"):
        import_adbuy(source, tmp_path / "out")


def test_sample_imports_and_validates(tmp_path: Path) -> None:
    if not SAMPLE.is_dir():
        pytest.skip(f"{SAMPLE} is not there")
    report = import_adbuy(SAMPLE, tmp_path / "out", test_share=0.18)
    assert report.documents == {"train": 123, "val": 17, "test": 31}
    assert report.entities == {
        "contractNumber": 168,
        "validFrom": 162,
        "validTo": 161,
        "grossAmount": 100,
        "receiverName": 170,
    }
    types = {kind: report.counters[f"doc_type:{kind}"] for kind in ("CONTRACT", "INVOICE", "CREDIT_MEMO")}
    assert types == {"CONTRACT": 102, "INVOICE": 68, "CREDIT_MEMO": 1}
    validated = validate(tmp_path / "out" / "adbuys" / "test", VOCABULARY, DatasetConfig(workers=1))
    assert (validated.num_documents, validated.num_rejected) == (31, 0)
