"""What is taken in, and what is repaired by a stated rule and counted."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sap_vision_assets.documents import load_page
from sap_vision_assets.documents.annotation import BOX_MAX, Box, parse_annotation
from sap_vision_assets.documents.config import DatasetConfig
from sap_vision_assets.documents.page import turn_box
from sap_vision_assets_tests.documents.folders import (
    HEIGHT,
    VOCABULARY,
    WIDTH,
    SplitFolder,
    annotation,
    encoded,
    page,
    png,
)

SENDER = VOCABULARY.begin_id("senderName")
NUMBER = VOCABULARY.begin_id("documentNumber")


@pytest.fixture
def folder(tmp_path: Path) -> SplitFolder:
    return SplitFolder(tmp_path / "general" / "train")


def _pixels(data: bytes) -> np.ndarray:
    image = load_page(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_document_is_what_the_files_say(folder: SplitFolder) -> None:
    folder.add("doc")
    document = folder.read()[0]["doc"]
    assert (document.document_id, document.doc_type, document.po_subtype) == ("doc", "INVOICE", None)
    assert document.words == ("Invoice", "4711", "ACME", "GmbH")
    assert document.boxes[0] == (100, 50, 200, 70)
    assert document.labels == (0, NUMBER, SENDER, SENDER + 1)
    assert (document.width, document.height) == (WIDTH, HEIGHT)
    assert document.image_bytes == folder.image("doc.png").read_bytes()
    assert folder.counters() == {}


def test_page_hash_is_of_pixels_and_size_whatever_the_format(folder: SplitFolder) -> None:
    folder.add("grey_png", image=encoded(page("L")))
    folder.add("rgb_tiff", image=encoded(page("RGB"), "TIFF", compression="tiff_lzw"))
    folder.add("palette", image=encoded(page("L").quantize(4)))
    folder.add("other", image=encoded(Image.new("RGB", (WIDTH, HEIGHT))))
    hashes = {name: document.page_sha256 for name, document in folder.read()[0].items()}
    assert hashes["grey_png"] == hashes["rgb_tiff"] == hashes["palette"] != hashes["other"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_plain_modes_keep_their_file(folder: SplitFolder, mode: str) -> None:
    folder.add("doc", image=encoded(page(mode)))
    assert folder.read()[0]["doc"].image_bytes == folder.image("doc.png").read_bytes()
    assert folder.counters() == {}


def _ramp16() -> np.ndarray:
    return np.linspace(0, 65535, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(folder: SplitFolder, kind: str) -> None:
    ramp = _ramp16()
    folder.add("doc", image=encoded(Image.fromarray(ramp), kind))
    stored = folder.read()[0]["doc"].image_bytes
    expected = np.round(ramp / 257).astype(np.uint8)
    for channel in range(3):
        np.testing.assert_array_equal(_pixels(stored)[..., channel], expected)
    assert folder.counters() == {"pages_converted": 1}


def test_16_bit_tiff_with_white_as_zero_is_not_inverted_by_accident() -> None:
    ramp = _ramp16()
    normal = encoded(Image.fromarray(ramp), "TIFF", tiffinfo={262: 1})
    inverted = bytearray(normal)
    # The directory entry of tag 262 (photometric interpretation), type SHORT, count 1.
    position = normal.index(bytes.fromhex("0601030001000000")) + 8
    inverted[position] = 0
    np.testing.assert_array_equal(_pixels(bytes(inverted)), 255 - _pixels(normal))


def test_transparent_shade_of_16_bit_grey_becomes_white() -> None:
    ramp = np.full((HEIGHT, WIDTH), 1000, np.uint16)
    ramp[0, 0] = 50_000
    data = encoded(Image.fromarray(ramp), transparency=1000)
    assert _pixels(data)[1, 1].tolist() == [255, 255, 255]
    assert _pixels(data)[0, 0].tolist() == [195, 195, 195]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_white(folder: SplitFolder, mode: str) -> None:
    image = Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 51))
    folder.add("doc", image=encoded(image.convert(mode)))
    pixels = _pixels(folder.read()[0]["doc"].image_bytes)
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[0, 1].tolist() == [204, 204, 204]
    assert pixels[1, 1].tolist() == [255, 255, 255]
    assert folder.counters() == {"pages_converted": 1}


def test_transparent_palette_entry_is_white(folder: SplitFolder) -> None:
    image = Image.new("P", (WIDTH, HEIGHT), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((0, 0), 1)
    folder.add("doc", image=encoded(image, transparency=0))
    pixels = _pixels(folder.read()[0]["doc"].image_bytes)
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[5, 5].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(folder: SplitFolder, kind: str) -> None:
    folder.add("doc", image=encoded(Image.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0)), kind))
    pixel = _pixels(folder.read()[0]["doc"].image_bytes)[40, 30]
    assert pixel[0] > 200
    assert pixel[1] < 60
    assert pixel[2] < 60
    assert folder.counters() == {"pages_converted": 1}


def _turned(orientation: int, kind: str) -> bytes:
    """A file whose pixels are stored so that this orientation makes `page()` of them."""
    undo = {
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(page("L").transpose(undo), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_exif_turns_the_page_upright(folder: SplitFolder, orientation: int, kind: str) -> None:
    folder.add("doc", image=_turned(orientation, kind))
    document = folder.read()[0]["doc"]
    assert (document.width, document.height) == (WIDTH, HEIGHT)
    assert document.boxes[0] == (100, 50, 200, 70), "declared upright: the boxes are upright already"
    # JPEG's worst case measured is 6 of 255.
    difference = _pixels(document.image_bytes).astype(int) - np.asarray(page("RGB")).astype(int)
    assert np.abs(difference).max() <= (12 if kind == "JPEG" else 0)
    assert folder.counters() == {"pages_turned": 1, "pages_converted": 1}


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_of_the_stored_frame_turn_with_the_page(folder: SplitFolder, orientation: int) -> None:
    # The dark rectangle of page(), x 5..20 and y 5..20 pixels of 60 x 80, seen in the upright page.
    upright = (83, 62, 350, 262)
    inverse = {5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    stored = turn_box(upright, inverse)
    assert stored != upright
    folder.add(
        "doc",
        image=_turned(orientation, "PNG"),
        width=HEIGHT,
        height=WIDTH,
        words=["rectangle"],
        boxes=[stored],
        token_labels=[0],
    )
    document = folder.read()[0]["doc"]
    assert document.boxes == (upright,)
    pixels = _pixels(document.image_bytes)
    x1, y1, x2, y2 = (round(v * s / 1000) for v, s in zip(upright, (WIDTH, HEIGHT) * 2, strict=True))
    assert pixels[y1:y2, x1:x2].max() < 100
    assert pixels[y2 + 1 :].min() == 255


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 5), (8, 8), (WIDTH, HEIGHT)])
@pytest.mark.parametrize("interlaced", [False, True])
def test_png_of_any_size_has_all_its_rows(
    folder: SplitFolder, size: tuple[int, int], interlaced: bool
) -> None:
    image = png(*size, interlaced=interlaced)
    folder.add("doc", image=image, width=size[0], height=size[1])
    assert _pixels(folder.read()[0]["doc"].image_bytes).min() == 255


@pytest.mark.parametrize(
    "compression", ["raw", "group4", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"]
)
def test_tiff_of_every_usual_compression(folder: SplitFolder, compression: str) -> None:
    mode = "1" if compression == "group4" else "L"
    folder.add("doc", image=encoded(page(mode), "TIFF", compression=compression))
    pixels = _pixels(folder.read()[0]["doc"].image_bytes)
    assert pixels[10, 10, 0] < 60
    assert pixels[60, 40, 0] > 240


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"comment": b"\xff\xda\xff\xd9"}, {"exif": b"Exif\0\0"}]
)
def test_jpeg_with_odd_segments(folder: SplitFolder, options: dict[str, object]) -> None:
    folder.add("doc", image=encoded(page(), "JPEG", **options))
    assert set(folder.read()[0]) == {"doc"}


def test_upright_tag_and_odd_tags_change_nothing(folder: SplitFolder) -> None:
    exif = Image.Exif()
    for value in (1, 0, 77):
        exif[0x0112] = value
        folder.add(f"doc{value}", image=encoded(page(), exif=exif))
    accepted, rejections = folder.read()
    assert len(accepted) == 3
    assert rejections == []


@given(
    box=st.tuples(*[st.integers(0, BOX_MAX)] * 4).map(
        lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
    ),
    orientation=st.integers(1, 8),
)
def test_turning_there_and_back_is_nothing(box: Box, orientation: int) -> None:
    back = {6: 8, 8: 6}.get(orientation, orientation)
    x1, y1, x2, y2 = turned = turn_box(box, orientation)
    assert 0 <= x1 <= x2 <= BOX_MAX
    assert 0 <= y1 <= y2 <= BOX_MAX
    assert turn_box(turned, back) == box


def test_zero_area_boxes_are_allowed_and_counted(folder: SplitFolder) -> None:
    folder.add("doc", boxes=[[0, 0, 0, 10], [1000, 1000, 1000, 1000], [5, 5, 9, 5], [1, 1, 2, 2]])
    assert folder.counters() == {"zero_area_boxes": 3}


@pytest.mark.parametrize(
    ("given", "expected", "count"),
    [
        ([SENDER + 1, SENDER + 1, 0, 0], [SENDER, SENDER + 1, 0, 0], 1),
        ([SENDER, NUMBER + 1, NUMBER + 1, 0], [SENDER, NUMBER, NUMBER + 1, 0], 1),
        ([SENDER, 0, SENDER + 1, 180], [SENDER, 0, SENDER, 179], 2),
        ([SENDER, SENDER + 1, SENDER, SENDER + 1], [SENDER, SENDER + 1, SENDER, SENDER + 1], 0),
    ],
)
def test_inside_without_begin_becomes_begin(
    folder: SplitFolder, given: list[int], expected: list[int], count: int
) -> None:
    folder.add("doc", token_labels=given)
    assert list(folder.read()[0]["doc"].labels) == expected
    assert folder.counters() == ({"repaired_labels": count} if count else {})


def test_purchase_order_without_subtype_is_counted_and_stays_unlabelled(folder: SplitFolder) -> None:
    folder.add("doc", doc_type="PURCHASE_ORDER")
    assert folder.read()[0]["doc"].po_subtype is None
    assert folder.counters() == {"unlabelled_po_subtypes": 1}
    folder.change(po_subtype="STANDARD")
    assert folder.read()[0]["doc"].po_subtype == "STANDARD"
    assert folder.counters() == {}


def test_same_bytes_of_one_id_are_kept_once_and_counted(folder: SplitFolder) -> None:
    folder.add("doc")
    shutil.copy(folder.annotation("doc.json"), folder.annotation("doc.JSON"))
    accepted, rejections = folder.read()
    assert set(accepted) == {"doc"}
    assert rejections == []
    assert folder.counters() == {"duplicates_dropped": 1}


def test_one_name_in_two_unicode_forms_is_one_id(folder: SplitFolder) -> None:
    folder.add("Stück", image_path="page.png")
    folder.image("page.png").write_bytes(encoded(page()))
    folder.annotation("Stück.json").rename(folder.annotation("Stu\u0308ck.json"))
    assert set(folder.read()[0]) == {"St\u00fcck"}
    shutil.copy(folder.annotation("Stu\u0308ck.json"), folder.annotation("St\u00fcck.json"))
    assert folder.counters() == {"duplicates_dropped": 1}


def test_link_inside_of_the_folder_is_followed(folder: SplitFolder) -> None:
    folder.add("doc")
    folder.image("doc.png").rename(folder.image("scan.png"))
    folder.image("doc.png").symlink_to("scan.png")
    assert set(folder.read()[0]) == {"doc"}


def test_split_folder_may_be_a_link(folder: SplitFolder, tmp_path: Path) -> None:
    folder.add("doc")
    (tmp_path / "linked").symlink_to(folder.path)
    folder.path = tmp_path / "linked"
    assert set(folder.read()[0]) == {"doc"}


WORDS = {
    "in\x00voice": ("invoice", {"words_cleaned": 1}),
    "in\tvoice": ("in voice", {"words_cleaned": 1}),
    " invoice\n": ("invoice", {"words_cleaned": 1}),
    "x" * 10_000: ("x" * 2000, {"words_cut": 1}),
    "\x00" * 19_999 + "xy": ("x", {"words_cut": 1}),
    "": (None, {"blank_words_dropped": 1}),
    " \u00a0\n": (None, {"blank_words_dropped": 1}),
    "\x00\x1f": (None, {"blank_words_dropped": 1}),
    "\u200b\ufeff": (None, {"blank_words_dropped": 1}),
    "übereinkunft": ("übereinkunft", {}),
    "0000000000000000": ("0000000000000000", {}),
    "שלום": ("שלום", {}),
    "👩‍👩‍👧": ("👩‍👩‍👧", {}),
    "New York": ("New York", {}),
}


@pytest.mark.parametrize("word", WORDS)
def test_words_are_cleaned_by_the_stated_rule(folder: SplitFolder, word: str) -> None:
    expected, counters = WORDS[word]
    folder.add("doc", words=["Invoice", word, "ACME", "GmbH"])
    document = folder.read()[0]["doc"]
    if expected is None:
        assert document.words == ("Invoice", "ACME", "GmbH")
        assert document.boxes == ((100, 50, 200, 70), (100, 100, 180, 120), (190, 100, 260, 120))
        assert document.labels == (0, SENDER, SENDER + 1)
    else:
        assert document.words == ("Invoice", expected, "ACME", "GmbH")
        assert document.labels == (0, NUMBER, SENDER, SENDER + 1)
    assert folder.counters() == counters


def test_dropped_begin_word_hands_its_entity_to_the_next(folder: SplitFolder) -> None:
    folder.add("doc", words=["Invoice", "4711", " ", "GmbH"])
    assert folder.read()[0]["doc"].labels == (0, NUMBER, SENDER)
    assert folder.counters() == {"blank_words_dropped": 1, "repaired_labels": 1}


def test_page_without_words_is_a_document(folder: SplitFolder) -> None:
    folder.add("doc", words=[], boxes=[], token_labels=[])
    document = folder.read()[0]["doc"]
    assert (document.words, document.boxes, document.labels) == ((), (), ())
    assert folder.counters() == {"documents_without_words": 1}


def test_page_of_5000_words_is_a_document(folder: SplitFolder) -> None:
    folder.add("doc", words=["a"] * 5000, boxes=[[0, 0, 1, 1]] * 5000, token_labels=[0] * 5000)
    assert len(folder.read()[0]["doc"].words) == 5000


def test_byte_order_mark_is_harmless(folder: SplitFolder) -> None:
    folder.add("doc")
    content = folder.annotation("doc.json").read_bytes()
    folder.annotation("doc.json").write_bytes(b"\xef\xbb\xbf" + content)
    assert set(folder.read()[0]) == {"doc"}


@settings(max_examples=200)
@given(words=st.lists(st.text(max_size=8), max_size=6), data=st.data())
def test_any_text_gives_aligned_words_that_can_be_written(words: list[str], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, 180), min_size=len(words), max_size=len(words)))
    boxes = [[index, index, index + 1, index + 2] for index in range(len(words))]
    content = json.dumps(annotation(words=words, boxes=boxes, token_labels=labels)).encode()
    parsed, counters = parse_annotation(content, vocabulary=VOCABULARY, config=DatasetConfig())
    assert len(parsed.words) == len(parsed.boxes) == len(parsed.labels)
    assert len(parsed.words) + counters["blank_words_dropped"] == len(words)
    assert all(word == word.strip() != "" for word in parsed.words)
    previous = 0
    for label in parsed.labels:
        assert label % 2 or label == 0 or previous in (label, label - 1), "every I- follows its own"
        previous = label
