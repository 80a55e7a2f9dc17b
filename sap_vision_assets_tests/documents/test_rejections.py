"""Every reason to reject a document, with a real file that has the fault, and its twin that has not."""

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sap_vision_assets.documents import RejectReason, reading
from sap_vision_assets.documents.reasons import described
from sap_vision_assets_tests.documents.folders import HEIGHT, WIDTH, SplitFolder, encoded, page, png

Spoil = Callable[[SplitFolder], None]
PNG = encoded(page())
JPEG = encoded(page(), "JPEG")


def _annotation_bytes(content: bytes) -> Spoil:
    return lambda folder: _write(folder.annotation("doc.json"), content)


def _image_bytes(content: bytes) -> Spoil:
    return lambda folder: _write(folder.image("doc.png"), content)


def _change(**changes: object) -> Spoil:
    return lambda folder: folder.change(**changes)


def _replace_text(old: str, new: str) -> Spoil:
    def spoil(folder: SplitFolder) -> None:
        file = folder.annotation("doc.json")
        text = file.read_text()
        assert old in text
        _write(file, text.replace(old, new, 1).encode())

    return spoil


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def _instead(place: str, make: Callable[[Path], None]) -> Spoil:
    def spoil(folder: SplitFolder) -> None:
        file = folder.path / place
        file.unlink()
        make(file)

    return spoil


def _link_outside(file: Path) -> None:
    outside = file.parents[2] / f"outside{file.suffix}"
    outside.write_bytes(PNG if file.suffix == ".png" else b"{}")
    file.symlink_to(outside)


def _conflicting_twin(folder: SplitFolder) -> None:
    record = json.loads(folder.annotation("doc.json").read_text())
    folder.annotation("doc.JSON").write_text(json.dumps(record | {"doc_type": "OTHER"}))


def _without_palette() -> bytes:
    data = encoded(page("P"))
    start = data.index(b"PLTE") - 4
    return data[:start] + data[start + 12 + int.from_bytes(data[start : start + 4], "big") :]


def _apng() -> bytes:
    return encoded(page(), save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))])


def _tiff_of_two_pages() -> bytes:
    return encoded(page(), "TIFF", save_all=True, append_images=[page()])


def _tiff(*entries: tuple[int, int, int, int]) -> bytes:
    """A little TIFF file of these (tag, type, count, value), without pixels."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


_TIFF_BASICS = ((256, 4, 1, WIDTH), (257, 4, 1, HEIGHT), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1))


def _oriented(orientation: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(page(size=size), "JPEG", exif=exif)


BOXES = [[100, 50, 200, 70], [220, 50, 300, 70], [100, 100, 180, 120]]

FAULTS: dict[str, tuple[RejectReason, Spoil]] = {
    "1 truncated PNG": (RejectReason.IMAGE_TRUNCATED, _image_bytes(PNG[:-60])),
    "1 PNG without its end": (RejectReason.IMAGE_TRUNCATED, _image_bytes(PNG[:-12])),
    "1 PNG cut in the header": (RejectReason.IMAGE_TRUNCATED, _image_bytes(PNG[:20])),
    "1 truncated JPEG": (RejectReason.IMAGE_TRUNCATED, _image_bytes(JPEG[:-100])),
    "1 JPEG with a tail of zeros": (RejectReason.IMAGE_TRUNCATED, _image_bytes(JPEG[:-100] + bytes(100))),
    "1 truncated TIFF": (
        RejectReason.IMAGE_TRUNCATED,
        _image_bytes(_tiff(*_TIFF_BASICS, (273, 4, 1, 8), (277, 3, 1, 1), (279, 4, 1, WIDTH * HEIGHT))),
    ),
    "1 damaged PNG": (RejectReason.IMAGE_DAMAGED, _image_bytes(PNG.replace(b"IDAT", b"IDAT\xff", 1))),
    "1 PNG of half its rows": (RejectReason.IMAGE_TRUNCATED, _image_bytes(png(WIDTH, HEIGHT, num_rows=40))),
    "1 truncated JPEG with a whole thumbnail": (
        RejectReason.IMAGE_TRUNCATED,
        _image_bytes(
            JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(JPEG) + 2) + JPEG + JPEG[2:-100] + bytes(100)
        ),
    ),
    "1 interlaced PNG that ends early": (
        RejectReason.IMAGE_TRUNCATED,
        _image_bytes(png(WIDTH, HEIGHT, interlaced=True, num_rows=100)),
    ),
    "5 PNG without its palette": (RejectReason.IMAGE_DAMAGED, _image_bytes(_without_palette())),
    "PNG of a colour type that there is not": (
        RejectReason.IMAGE_DAMAGED,
        _image_bytes(PNG[:25] + b"\x05" + PNG[26:]),
    ),
    "2 image of zero bytes": (RejectReason.IMAGE_EMPTY, _image_bytes(b"")),
    "3 HTML named .png": (RejectReason.IMAGE_FORMAT, _image_bytes(b"<!DOCTYPE html><html></html>")),
    "3 FITS named .png": (RejectReason.IMAGE_FORMAT, _image_bytes(b"SIMPLE  =                    T")),
    "3 BMP named .png": (RejectReason.IMAGE_FORMAT, _image_bytes(encoded(page(), "BMP"))),
    "4 floating point TIFF": (RejectReason.IMAGE_MODE, _image_bytes(encoded(page("F"), "TIFF"))),
    "4 32-bit TIFF": (RejectReason.IMAGE_MODE, _image_bytes(encoded(page("I"), "TIFF"))),
    "6 GIF": (RejectReason.IMAGE_FORMAT, _image_bytes(encoded(page("P"), "GIF"))),
    "6 animated PNG": (RejectReason.IMAGE_MULTIPLE_PAGES, _image_bytes(_apng())),
    "6 TIFF of two pages": (RejectReason.IMAGE_MULTIPLE_PAGES, _image_bytes(_tiff_of_two_pages())),
    "6 MPO of two pictures": (
        RejectReason.IMAGE_MULTIPLE_PAGES,
        _image_bytes(encoded(page(), "MPO", save_all=True, append_images=[page()])),
    ),
    "7 page upside down": (RejectReason.IMAGE_ORIENTATION, _image_bytes(_oriented(3))),
    "7 mirrored page": (RejectReason.IMAGE_ORIENTATION, _image_bytes(_oriented(2))),
    "9 100 megapixels": (RejectReason.IMAGE_TOO_MANY_PIXELS, _image_bytes(png(100_000, 1_000))),
    "10 PNG text bomb": (RejectReason.IMAGE_BOMB, _image_bytes(png(WIDTH, HEIGHT, text=bytes(8 << 20)))),
    "10 JPEG of 1,000 scans": (
        RejectReason.IMAGE_BOMB,
        _image_bytes(JPEG[:-2] + b"\xff\xda\x00\x02" * 1000 + b"\xff\xd9"),
    ),
    "10 TIFF of a million strips": (
        RejectReason.IMAGE_BOMB,
        _image_bytes(_tiff(*_TIFF_BASICS, (273, 4, 1_000_000, 8), (279, 4, 1_000_000, 8))),
    ),
    "10 TIFF of giant tiles": (
        RejectReason.IMAGE_BOMB,
        _image_bytes(
            _tiff(*_TIFF_BASICS, (322, 4, 1, 65536), (323, 4, 1, 65536), (324, 4, 1, 8), (325, 4, 1, 8))
        ),
    ),
    "11 other width": (RejectReason.IMAGE_SIZE_MISMATCH, _change(width=WIDTH + 1)),
    "11 other image": (RejectReason.IMAGE_SIZE_MISMATCH, _image_bytes(encoded(page(size=(HEIGHT, WIDTH))))),
    "12 annotation of zero bytes": (RejectReason.ANNOTATION_EMPTY, _annotation_bytes(b"")),
    "13 half a JSON": (RejectReason.ANNOTATION_NOT_JSON, _annotation_bytes(b'{"image_path": "doc.p')),
    "13 two JSONs": (RejectReason.ANNOTATION_NOT_JSON, _annotation_bytes(b"{}{}")),
    "13 blanks": (RejectReason.ANNOTATION_NOT_JSON, _annotation_bytes(b"  \n")),
    "13 bad UTF-8": (RejectReason.ANNOTATION_NOT_UTF8, _annotation_bytes(b'{"image_path": "\xff"}')),
    "13 UTF-16": (RejectReason.ANNOTATION_NOT_UTF8, _annotation_bytes('{"a": 1}'.encode("utf-16"))),
    "13 encoded surrogate": (RejectReason.ANNOTATION_NOT_UTF8, _annotation_bytes(b'{"a": "\xed\xa0\x80"}')),
    "13 lone surrogate in a word": (
        RejectReason.ANNOTATION_LONE_SURROGATE,
        _replace_text('"Invoice"', '"\\ud83d"'),
    ),
    "13 surrogates the wrong way round": (
        RejectReason.ANNOTATION_LONE_SURROGATE,
        _replace_text('"Invoice"', '"\\ude00\\ud83d"'),
    ),
    "13 lone surrogate in image_path": (
        RejectReason.ANNOTATION_LONE_SURROGATE,
        _replace_text('"doc.png"', '"\\udc80.png"'),
    ),
    "13 malformed escape": (RejectReason.ANNOTATION_NOT_JSON, _replace_text('"Invoice"', '"\\u12"')),
    "13 number of 5,000 digits": (
        RejectReason.ANNOTATION_NOT_JSON,
        _replace_text("[100, 50", f"[{'1' * 5000}, 50"),
    ),
    "14 annotation over the limit": (
        RejectReason.ANNOTATION_TOO_LARGE,
        lambda folder: os.truncate(folder.annotation("doc.json"), 500_000_000),
    ),
    "14 nested 100,000 deep": (RejectReason.ANNOTATION_TOO_DEEP, _annotation_bytes(b"[" * 100_000)),
    "14 objects nested 100,000 deep": (
        RejectReason.ANNOTATION_TOO_DEEP,
        _annotation_bytes(b'{"a":' * 100_000),
    ),
    "14 nested 300 deep in a key": (
        RejectReason.ANNOTATION_TOO_DEEP,
        _replace_text("[0, 1,", f"[{'[' * 300}{']' * 300}, 1,"),
    ),
    "14 deep behind a lone surrogate": (
        RejectReason.ANNOTATION_TOO_DEEP,
        _annotation_bytes(b'["\\ud800", ' + b"[" * 100_000),
    ),
    "13 half a JSON behind a lone surrogate": (
        RejectReason.ANNOTATION_NOT_JSON,
        _annotation_bytes(b'["\\ud800", '),
    ),
    "15 duplicate key": (
        RejectReason.ANNOTATION_DUPLICATE_KEY,
        _replace_text('"doc_type"', '"doc_type": "OTHER", "doc_type"'),
    ),
    "16 NaN in a box": (RejectReason.ANNOTATION_NOT_FINITE, _replace_text("[100, 50", "[NaN, 50")),
    "16 -Infinity in a box": (
        RejectReason.ANNOTATION_NOT_FINITE,
        _replace_text("[100, 50", "[-Infinity, 50"),
    ),
    "16 1e999 in a box": (RejectReason.ANNOTATION_NOT_FINITE, _replace_text("[100, 50", "[1e999, 50")),
    "17 x2 < x1": (RejectReason.BOX_INVERTED, _replace_text("[100, 50, 200", "[200, 50, 100")),
    "17 y2 < y1": (RejectReason.BOX_INVERTED, _replace_text("50, 200, 70", "70, 200, 50")),
    "18 coordinate -1": (RejectReason.BOX_OUT_OF_RANGE, _replace_text("[100, 50", "[-1, 50")),
    "18 coordinate 1001": (RejectReason.BOX_OUT_OF_RANGE, _replace_text("50, 200, 70", "50, 1001, 70")),
    "18 coordinate of 4,000 digits": (
        RejectReason.BOX_OUT_OF_RANGE,
        _replace_text("50, 200, 70", f"50, {'9' * 4000}, 70"),
    ),
    "20 a box too few": (RejectReason.LENGTHS_DIFFER, _change(boxes=BOXES)),
    "20 a label too many": (RejectReason.LENGTHS_DIFFER, _change(token_labels=[0] * 5)),
    "21 label -1": (RejectReason.LABEL_OUT_OF_RANGE, _change(token_labels=[0, 1, -1, 0])),
    "21 label 181": (RejectReason.LABEL_OUT_OF_RANGE, _change(token_labels=[0, 1, 181, 0])),
    "23 unknown doc_type": (RejectReason.UNKNOWN_DOC_TYPE, _change(doc_type="invoice")),
    "24 po_subtype on an INVOICE": (RejectReason.PO_SUBTYPE_NOT_ALLOWED, _change(po_subtype="STANDARD")),
    "24 unknown po_subtype": (
        RejectReason.UNKNOWN_PO_SUBTYPE,
        _change(doc_type="PURCHASE_ORDER", po_subtype="ORDINARY"),
    ),
    "25 two contents of one id": (RejectReason.DUPLICATE_ID, _conflicting_twin),
    "27 ../../etc/passwd": (RejectReason.IMAGE_PATH_UNSAFE, _change(image_path="../../etc/passwd")),
    "27 absolute": (RejectReason.IMAGE_PATH_UNSAFE, _change(image_path="/etc/passwd")),
    "27 file://": (RejectReason.IMAGE_PATH_UNSAFE, _change(image_path="file:///etc/passwd")),
    "27 NUL": (RejectReason.IMAGE_PATH_UNSAFE, _change(image_path="doc.png\0.txt")),
    "27 backslashes": (RejectReason.IMAGE_PATH_UNSAFE, _change(image_path="..\\doc.png")),
    "27 a folder": (RejectReason.IMAGE_PATH_UNSAFE, _change(image_path="images/doc.png")),
    "27 two dots": (RejectReason.IMAGE_PATH_UNSAFE, _change(image_path="..")),
    "27 nothing": (RejectReason.IMAGE_PATH_UNSAFE, _change(image_path="")),
    "27 too long": (RejectReason.IMAGE_PATH_UNSAFE, _change(image_path="x" * 256)),
    "28 image is a link out": (
        RejectReason.IMAGE_OUTSIDE_FOLDER,
        _instead("images/doc.png", _link_outside),
    ),
    "28 annotation is a link out": (
        RejectReason.ANNOTATION_OUTSIDE_FOLDER,
        _instead("annotations/doc.json", _link_outside),
    ),
    "29 image is a FIFO": (RejectReason.IMAGE_NOT_A_FILE, _instead("images/doc.png", os.mkfifo)),
    "29 image is /dev/zero": (
        RejectReason.IMAGE_OUTSIDE_FOLDER,
        _instead("images/doc.png", lambda file: file.symlink_to("/dev/zero")),
    ),
    "29 image is a folder": (RejectReason.IMAGE_NOT_A_FILE, _instead("images/doc.png", Path.mkdir)),
    "29 annotation is a FIFO": (
        RejectReason.ANNOTATION_NOT_A_FILE,
        _instead("annotations/doc.json", os.mkfifo),
    ),
    "29 annotation is a folder": (
        RejectReason.ANNOTATION_NOT_A_FILE,
        _instead("annotations/doc.json", Path.mkdir),
    ),
    "34 too many words": (
        RejectReason.TOO_MANY_WORDS,
        _change(words=["a"] * 10_001, boxes=[[0, 0, 1, 1]] * 10_001, token_labels=[0] * 10_001),
    ),
    "image is missing": (RejectReason.IMAGE_MISSING, lambda folder: folder.image("doc.png").unlink()),
    "image links to itself": (
        RejectReason.IMAGE_UNREADABLE,
        _instead("images/doc.png", lambda file: file.symlink_to(file)),
    ),
    "annotation links to nothing": (
        RejectReason.ANNOTATION_UNREADABLE,
        _instead("annotations/doc.json", lambda file: file.symlink_to(file.with_name("gone"))),
    ),
    "image file over the limit": (
        RejectReason.IMAGE_FILE_TOO_LARGE,
        lambda folder: os.truncate(folder.image("doc.png"), 500_000_000),
    ),
    "a key is missing": (RejectReason.ANNOTATION_SCHEMA, _change(width=...)),
    "a key is unknown": (RejectReason.ANNOTATION_SCHEMA, _change(po_subtpye="STANDARD")),
    "a list instead of an object": (RejectReason.ANNOTATION_SCHEMA, _annotation_bytes(b"[]")),
    "a word is a number": (RejectReason.ANNOTATION_SCHEMA, _change(words=["Invoice", 4711, "ACME", "GmbH"])),
    "a coordinate is a fraction": (RejectReason.ANNOTATION_SCHEMA, _replace_text("[100, 50", "[100.5, 50")),
    "a coordinate is true": (RejectReason.ANNOTATION_SCHEMA, _replace_text("[100, 50", "[true, 50")),
    "a box of three": (RejectReason.ANNOTATION_SCHEMA, _replace_text("[100, 50, ", "[100, ")),
    "a width of zero": (RejectReason.ANNOTATION_SCHEMA, _change(width=0)),
    "null for words": (RejectReason.ANNOTATION_SCHEMA, _change(words=None)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_rejected_with_its_reason_and_the_rest_goes_on(fault: str, tmp_path: Path) -> None:
    reason, spoil = FAULTS[fault]
    folder = SplitFolder(tmp_path / "general" / "train")
    folder.add("bystander")
    folder.add("doc")
    accepted, rejections = folder.read()
    assert set(accepted) == {"bystander", "doc"}, "the twin without the fault is accepted"
    assert rejections == []
    spoil(folder)
    after, rejections = folder.read()
    assert after == {"bystander": accepted["bystander"]}
    assert {rejection.reason for rejection in rejections} == {reason}
    assert {rejection.document_id for rejection in rejections} == {"doc"}
    assert all(rejection.file.startswith("annotations/doc.") for rejection in rejections)
    assert all(rejection.detail.isprintable() and len(rejection.detail) > 10 for rejection in rejections)


def test_both_files_of_a_conflicting_id_are_listed(tmp_path: Path) -> None:
    folder = SplitFolder(tmp_path / "train")
    folder.add("doc")
    _conflicting_twin(folder)
    _, rejections = folder.read()
    assert [rejection.file for rejection in rejections] == ["annotations/doc.JSON", "annotations/doc.json"]


@pytest.mark.parametrize("name", [b"doc\xff.json", b"doc\n.json", b"x" * 210 + b".json"])
def test_annotation_name_that_is_no_id(name: bytes, tmp_path: Path) -> None:
    folder = SplitFolder(tmp_path / "train")
    folder.add("doc")
    assert set(folder.read()[0]) == {"doc"}
    try:
        folder.annotation("doc.json").rename(folder.annotation(os.fsdecode(name)))
    except OSError as error:
        pytest.skip(f"this file system does not take the name: {error}")
    accepted, rejections = folder.read()
    assert accepted == {}
    lost = [rejection for rejection in rejections if not rejection.reason.is_notice]
    assert [rejection.reason for rejection in lost] == [RejectReason.FILE_NAME]
    assert all(text.isprintable() for text in (lost[0].file, lost[0].detail))
    lost[0].file.encode()


@pytest.mark.parametrize("fault", FAULTS)
def test_details_are_the_same_in_each_run(fault: str, tmp_path: Path) -> None:
    _, spoil = FAULTS[fault]
    folder = SplitFolder(tmp_path / "general" / "train")
    folder.add("doc")
    spoil(folder)
    assert not any(re.search(r"0x[0-9a-f]{6,}", rejection.detail) for rejection in folder.read()[1])


def test_addresses_of_objects_stay_out_of_descriptions() -> None:
    error = ValueError(f"cannot use {object()!r}, a plain object")
    assert "0x" in str(error)
    assert described(error) == "ValueError: cannot use <object object>, a plain object"


def test_unexpected_exception_is_a_rejection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SplitFolder(tmp_path / "train")
    folder.add("doc")
    folder.add("other")
    assert set(folder.read()[0]) == {"doc", "other"}
    real = reading.decode_page

    def failing(data: bytes, config: object) -> object:
        if data == b"boom":
            raise MemoryError("no room")
        return real(data, config)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(reading, "decode_page", failing)
    folder.image("doc.png").write_bytes(b"boom")
    accepted, rejections = folder.read()
    assert set(accepted) == {"other"}
    assert [(r.reason, r.detail) for r in rejections] == [
        (RejectReason.UNEXPECTED_ERROR, "MemoryError: no room")
    ]


def test_image_without_annotation_and_stray_file_are_listed_and_are_no_documents(tmp_path: Path) -> None:
    folder = SplitFolder(tmp_path / "train")
    folder.add("doc")
    folder.image("lonely.png").write_bytes(PNG)
    folder.annotation("notes.txt").write_text("to do")
    accepted, notices = folder.read()
    assert set(accepted) == {"doc"}
    assert [(n.file, n.reason, n.document_id) for n in notices] == [
        ("images/lonely.png", RejectReason.IMAGE_WITHOUT_ANNOTATION, None),
        ("annotations/notes.txt", RejectReason.UNEXPECTED_FILE, None),
    ]
    assert all(notice.reason.is_notice for notice in notices)


def test_image_that_nobody_names_is_listed_though_an_annotation_has_its_name(tmp_path: Path) -> None:
    folder = SplitFolder(tmp_path / "train")
    folder.add("foo", image_path="bar.png")
    folder.image("foo.png").rename(folder.image("bar.png"))
    assert folder.read()[1] == [], "the twin without the stray image"
    folder.image("foo.png").write_bytes(PNG)
    accepted, notices = folder.read()
    assert set(accepted) == {"foo"}
    assert [(n.file, n.reason) for n in notices] == [
        ("images/foo.png", RejectReason.IMAGE_WITHOUT_ANNOTATION)
    ]
    folder.annotation("foo.json").write_text("{")
    assert [n.file for n in folder.read()[1]] == ["annotations/foo.json", "images/bar.png"]


def test_every_reason_has_a_test() -> None:
    elsewhere = {
        RejectReason.FILE_NAME,
        RejectReason.UNEXPECTED_ERROR,
        RejectReason.READER_CRASHED,  # test_parallel.py
        RejectReason.IMAGE_WITHOUT_ANNOTATION,
        RejectReason.UNEXPECTED_FILE,
    }
    assert {reason for reason, _ in FAULTS.values()} | elsewhere == set(RejectReason)
