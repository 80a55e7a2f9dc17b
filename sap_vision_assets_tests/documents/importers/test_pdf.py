"""Pages of PDFs: the words' boxes against the ink of the picture, and PDFs that cannot be read."""

import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from sap_vision_assets.documents.importers.pdf import PdfError, PdfFault, PdfPage, read_pdf_pages
from sap_vision_assets.documents.reasons import DocumentError, RejectReason
from sap_vision_assets.errors import InputError
from sap_vision_assets_tests.documents.importers.pdfs import write_heavy_pdf, write_pdf

LINE = (150, 300, "EIGHT WORDS OF CAPITAL LETTERS UPON ONE LINE")
WORDS = LINE[2].split()
PRECISION_PX = 1.5
"""Anti-aliasing spreads ink over the next pixel; the worst that was measured is 1.2."""


def _read(*files: Path, tmp: Path, cpu_seconds: int = 60) -> list[PdfPage | InputError]:
    scratch = tmp / "scratch"
    scratch.mkdir(exist_ok=True)
    return list(read_pdf_pages(files, scratch, cpu_seconds=cpu_seconds))


def _page(file: Path, tmp: Path) -> PdfPage:
    (page,) = _read(file, tmp=tmp)
    assert isinstance(page, PdfPage), page
    return page


def _assert_boxes_are_the_ink(page: PdfPage) -> None:
    with Image.open(page.image) as picture:
        assert picture.size == (page.width, page.height)
        ink = ImageOps.invert(picture.convert("L")).point(lambda value: 255 * (value > 40)).getbbox()
    boxes = [word.ink for word in page.words]
    union = (*(min(box[i] for box in boxes) for i in (0, 1)), *(max(box[i] for box in boxes) for i in (2, 3)))
    assert ink is not None
    assert union == pytest.approx(ink, abs=PRECISION_PX)


def test_boxes_are_the_ink_and_text_is_upright(tmp_path: Path) -> None:
    """Text is upright in the file, so the page is turned back; reportlab swaps a turned page's sides."""
    crops = {"whole": None, "cropped": (100.0, 200.0, 600.0, 600.0)}
    cases = [(rotation, crop) for rotation in (0, 90, 180, 270) for crop in crops]
    files = [
        write_pdf(tmp_path / f"{rotation}{crop}.pdf", [LINE], rotation=rotation, crop=crops[crop])
        for rotation, crop in cases
    ]
    for (rotation, crop), page in zip(cases, _read(*files, tmp=tmp_path), strict=True):
        assert isinstance(page, PdfPage)
        assert [word.text for word in page.words] == WORDS, (rotation, crop)
        whole = (1400, 1082) if rotation in (90, 270) else (1082, 1400)
        assert (page.width, page.height) == (whole if crop == "whole" else (1400, 1120))
        assert page.counters == ({"pages_turned_upright": 1} if rotation else {})
        _assert_boxes_are_the_ink(page)


def test_place_by_hand(tmp_path: Path) -> None:
    """1000 x 500 points are 1400 x 700 pixels; Helvetica's H is 718 high and 722 wide, and 77 to its ink."""
    texts = [(100, 200, "HHHHH"), (0, 400, "x" * 20)]
    page = _page(write_pdf(tmp_path / "a.pdf", texts, size=(1000, 500), font=("Helvetica", 50)), tmp_path)
    word = page.words[0]
    left, top, right, bottom = word.ink
    assert left == pytest.approx(1.4 * (100 + 0.077 * 50), abs=1)
    assert right == pytest.approx(1.4 * (100 + (5 * 0.722 - 0.077) * 50), abs=1)
    assert (top, bottom) == pytest.approx((1.4 * (200 - 0.718 * 50), 1.4 * 200), abs=1)
    assert page.words[1].text == "x" * 20


@pytest.mark.parametrize("rotation", [0, 90])
def test_page_whose_text_lies_on_its_side_is_turned(tmp_path: Path, rotation: int) -> None:
    """The file's own rotation, which programs use for landscape, leaves nothing to turn."""

    def sideways(canvas: Canvas) -> None:
        canvas.translate(300, 100)
        canvas.rotate(90)
        canvas.drawString(0, 0, LINE[2])
        canvas.rotate(-90)
        canvas.drawString(-200, 0, "UPRIGHT")

    size = (612.0, 792.0) if rotation == 0 else (792.0, 612.0)  # reportlab swaps a turned page's sides.
    page = _page(write_pdf(tmp_path / "a.pdf", size=size, draw=sideways, rotation=rotation), tmp_path)
    assert (page.width, page.height) == (1400, 1082)
    assert [word.text for word in page.words] == ["UPRIGHT", *WORDS], "it comes where it stands: above"
    assert page.counters == ({} if rotation else {"pages_turned_upright": 1})
    _assert_boxes_are_the_ink(page)


def test_ligatures_and_hyphens_become_plain_and_what_the_font_does_not_say_is_counted(tmp_path: Path) -> None:
    with resources.as_file(resources.files("reportlab").joinpath("fonts", "Vera.ttf")) as font:
        pdfmetrics.registerFont(TTFont("Vera", str(font)))
    texts = [(50, 50, "\ufb01nance e\ufb00ect re\u00adport caf\u00e9 \u2019quoted\u2019 twenty\ufffd")]
    page = _page(write_pdf(tmp_path / "a.pdf", texts, font=("Vera", 12)), tmp_path)
    shown = [word.text for word in page.words]
    assert shown[0] == "finance"
    assert shown[1:] == ["e\ufffdect", "re-port", "caf\u00e9", "\u2019quoted\u2019", "twenty\ufffd"]
    assert page.counters == {"characters_without_text": 2}, "Vera has neither of them"


def test_text_that_is_drawn_twice_is_there_once(tmp_path: Path) -> None:
    """PDFium itself drops a text that is the same from end to end."""
    texts = [(50, 50, "($4,125.00"), (54.5, 50, "$4,125.00) TOTAL"), (50, 80, "http://illicit.example")]
    page = _page(write_pdf(tmp_path / "a.pdf", texts), tmp_path)
    assert [word.text for word in page.words] == ["($4,125.00)", "TOTAL", "http://illicit.example"]
    assert page.counters == {"characters_drawn_twice_dropped": 9}


def test_what_is_off_the_page_is_dropped(tmp_path: Path) -> None:
    texts = [LINE, (20, 300, "LEFT"), (150, 900, "BELOW")]
    page = _page(write_pdf(tmp_path / "a.pdf", texts, crop=(100, 0, 612, 792)), tmp_path)
    assert [word.text for word in page.words] == WORDS
    assert page.counters["characters_off_the_page_dropped"] == 9


def test_only_the_first_page_is_read(tmp_path: Path) -> None:
    page = _page(write_pdf(tmp_path / "a.pdf", [LINE], num_pages=3), tmp_path)
    assert len(page.words) == len(WORDS)
    assert page.counters == {"pages_after_the_first_left_out": 2}


def _truncate(file: Path) -> None:
    file.write_bytes(write_pdf(file, [LINE]).read_bytes()[:400])


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "encrypted": (lambda file: write_pdf(file, [LINE], password="secret"), PdfFault.LOCKED),
    "truncated": (_truncate, PdfFault.DAMAGED),
    "header alone": (lambda file: file.write_bytes(b"%PDF-1.7 and no more"), PdfFault.DAMAGED),
    "no PDF": (lambda file: file.write_text("no PDF"), PdfFault.DAMAGED),
    "blank": (write_pdf, PdfFault.WITHOUT_TEXT),
    "stamp alone": (lambda file: write_pdf(file, [(50, 50, "Page 1 of 3")]), PdfFault.WITHOUT_TEXT),
    "too long": (lambda file: write_heavy_pdf(file, depth=12), PdfFault.TOO_LONG),
    "empty": (lambda file: file.write_bytes(b""), RejectReason.IMAGE_EMPTY),
    "FIFO": (os.mkfifo, RejectReason.IMAGE_NOT_A_FILE),
    "link": (lambda file: file.symlink_to("/etc/passwd"), RejectReason.IMAGE_OUTSIDE_FOLDER),
}
"""What is wrong, by name: how it comes about, and the reason that is given."""


def test_pdf_that_cannot_be_used_says_why_in_one_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.pdf" for name in FAULTS]
    for file, (spoil, _) in zip(files, FAULTS.values(), strict=True):
        spoil(file)
    *errors, page = _read(*files, write_pdf(tmp_path / "good.pdf", [LINE]), tmp=tmp_path)
    assert isinstance(page, PdfPage)
    for (name, (_, reason)), error in zip(FAULTS.items(), errors, strict=True):
        assert isinstance(error, PdfError | DocumentError), name
        assert str(error).startswith(f"{reason}: "), name
        assert f"{name}.pdf" in str(error)
        assert "\n" not in str(error)


def test_pdf_that_keeps_pdfium_busy_for_ever_is_given_up(tmp_path: Path) -> None:
    """The twin is the same PDF, with 2 ** 3 pieces of text, not 2 ** 25."""
    files = [
        write_heavy_pdf(tmp_path / "heavy.pdf", depth=25),
        write_heavy_pdf(tmp_path / "light.pdf", depth=3),
        write_pdf(tmp_path / "good.pdf", [LINE]),
    ]
    error, light, good = _read(*files, tmp=tmp_path, cpu_seconds=2)
    assert isinstance(error, PdfError)
    assert error.fault is PdfFault.CRASHED
    assert "heavy.pdf: the process that read it died" in str(error)
    assert isinstance(light, PdfPage)
    assert [word.text for word in light.words] == ["Twenty", "characters", "and", "more"]
    assert isinstance(good, PdfPage)
