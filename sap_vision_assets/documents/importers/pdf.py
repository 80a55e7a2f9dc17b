"""The first page of a PDF: its picture, and the words of its text layer where the picture has them."""

import ctypes
import math
import multiprocessing
import re
import signal
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

import pypdfium2
from pypdfium2 import raw

from sap_vision_assets.documents.config import DatasetConfig
from sap_vision_assets.documents.files import IMAGE_REASONS, read_file
from sap_vision_assets.documents.importers.text_layer import (
    Glyph,
    PlacedWord,
    Rectangle,
    drop_drawn_twice,
    place_words,
)
from sap_vision_assets.documents.parallel import map_in_order
from sap_vision_assets.documents.reasons import DocumentError, described, printable
from sap_vision_assets.errors import InputError

LONG_SIDE_PX = 1400
"""Longer side of the picture: 127 dpi of a US Letter page, on which a person can read all print."""
MAX_CHARACTERS = 100_000
"""A page of 10,000 words, the most that a dataset takes, has no more."""
MIN_CHARACTERS = 20
"""A page with fewer is a scan without OCR, at most with a stamp or a page number in its text layer."""
_FINE = 64
"""Parts of a pixel that places are measured in."""
_HYPHEN = 2
"""What PDFium calls a hyphen at a line's end."""
_UNKNOWN = "\ufffd"
_SOFT_HYPHEN = "\u00ad"


class PdfFault(StrEnum):
    """Why a PDF has no page to be had."""

    LOCKED = "pdf_locked"
    """It asks for a password, or is encrypted in a way that PDFium does not know."""
    DAMAGED = "pdf_damaged"
    WITHOUT_TEXT = "pdf_without_text"
    TOO_LONG = "pdf_too_long"
    CRASHED = "pdf_reader_crashed"
    """The process that read it died or ran out of time, twice."""
    UNEXPECTED = "pdf_unexpected"
    """Reading it raised something that no rule foresees."""


class PdfError(InputError):
    """One PDF cannot be used."""

    def __init__(self, fault: PdfFault, detail: str) -> None:
        self.fault = fault
        self.detail = detail
        super().__init__(f"{fault}: {printable(detail)}")

    def __reduce__(self) -> tuple[type["PdfError"], tuple[PdfFault, str]]:
        return PdfError, (self.fault, self.detail)


@dataclass(frozen=True, kw_only=True)
class PdfPage:
    """The first page of a PDF, upright."""

    image: Path
    width: int
    height: int
    """Pixels of the image."""
    words: list[PlacedWord]
    counters: Counter[str] = field(default_factory=Counter)


def read_pdf_pages(
    files: Sequence[Path], scratch: Path, *, apart: re.Pattern[str] | None = None, cpu_seconds: int = 60
) -> Iterator[PdfPage | InputError]:
    """The first page of each file, in order; its picture is written into `scratch`.

    What `apart` matches inside of a word becomes a word of its own. Each file is read in another process: a
    PDF at which PDFium dies, or works for more than `cpu_seconds`, becomes a PdfError like any other fault.
    """
    read = partial(_read, scratch=scratch, apart=apart, cpu_seconds=cpu_seconds)
    workers = max(2, DatasetConfig().num_workers(len(files)))  # One worker would be this process.
    return map_in_order(read, list(enumerate(files)), workers=workers, on_crash=_crashed)


def _read(
    item: tuple[int, Path], *, scratch: Path, apart: re.Pattern[str] | None, cpu_seconds: int
) -> PdfPage | InputError:
    number, file = item
    with _at_most(cpu_seconds):
        try:
            return _read_page(file, scratch / f"{number}.png", apart)
        except (DocumentError, PdfError) as error:
            return error
        except Exception as error:  # noqa: BLE001 (one PDF must not end the import; it is listed)
            return PdfError(PdfFault.UNEXPECTED, f"{file.name}: {described(error)}")


@contextmanager
def _at_most(cpu_seconds: int) -> Iterator[None]:
    """Ends this process when the block takes longer, also inside of PDFium, where no Python runs."""
    if multiprocessing.current_process().daemon:  # It has no workers: this is the caller's own process.
        yield
        return
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _crashed(item: tuple[int, Path]) -> PdfPage | InputError:
    return PdfError(
        PdfFault.CRASHED, f"{item[1].name}: the process that read it died, twice; print it to a new PDF"
    )


def _read_page(file: Path, image: Path, apart: re.Pattern[str] | None) -> PdfPage:
    limit = DatasetConfig().max_image_bytes
    content = read_file(file.parent.resolve(), file, limit=limit, reasons=IMAGE_REASONS)
    with _open(file.name, content) as document:
        try:
            page = document[0]
            layer = page.get_textpage()
        except pypdfium2.PdfiumError as error:
            raise PdfError(
                PdfFault.DAMAGED, f"{file.name}: page 1 cannot be read ({error}); print it to a new PDF"
            ) from error
        if layer.count_chars() > MAX_CHARACTERS:
            raise PdfError(
                PdfFault.TOO_LONG,
                f"{file.name}: page 1 has {layer.count_chars()} characters, more than {MAX_CHARACTERS}; "
                "check that it is a page of a document",
            )
        reader = _PageReader(page, layer)
        bitmap = page.render(scale=LONG_SIDE_PX / max(page.get_size()), rotation=90 * reader.page_turns)
        glyphs = reader.glyphs(bitmap.width, bitmap.height)
        num_known = sum(glyph.text != _UNKNOWN for glyph in glyphs)
        if num_known < MIN_CHARACTERS:
            raise PdfError(
                PdfFault.WITHOUT_TEXT,
                f"{file.name}: page 1 has {num_known} known characters in its text layer, fewer than "
                f"{MIN_CHARACTERS}; run OCR over it",
            )
        words = place_words(glyphs, apart=apart)
        bitmap.to_pil().convert("RGB").save(image)
        counters = reader.counters + Counter(pages_after_the_first_left_out=len(document) - 1)
        return PdfPage(image=image, width=bitmap.width, height=bitmap.height, words=words, counters=counters)


def _open(name: str, content: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
            raise PdfError(
                PdfFault.LOCKED, f"{name}: is encrypted; save a copy without a password"
            ) from error
        raise PdfError(
            PdfFault.DAMAGED, f"{name}: is no PDF, or a damaged one ({error}); fetch it again"
        ) from error


class _PageReader:
    """Characters of the text layer in pixels of the picture, whatever the page's boxes and rotation."""

    def __init__(self, page: pypdfium2.PdfPage, layer: pypdfium2.PdfTextPage) -> None:
        self._page, self._layer = page, layer
        self._turns = [self._turns_of(index) for index in range(layer.count_chars())]
        drawn = Counter(turns for turns in self._turns if turns is not None)
        self.page_turns = -max(drawn, key=drawn.__getitem__, default=0) % 4
        """Quarter turns, clockwise, after which most of the text is upright."""
        self.counters = Counter(pages_turned_upright=int(self.page_turns != 0))

    def glyphs(self, width: int, height: int) -> list[Glyph]:
        """The visible characters, on the picture of the page turned by `page_turns`."""
        # The whole picture is the whole page, as in rendering; PDFium gives integers, so of a finer grid.
        fine = (0, 0, width * _FINE, height * _FINE, self.page_turns)
        places = pypdfium2.PdfPosConv(self._page, fine)
        glyphs, follows_space = [], True
        for index, turns in enumerate(self._turns):
            text = "" if turns is None else self._text(index)
            if turns is None:
                follows_space = True
            elif text:
                self.counters["characters_without_text"] += text == _UNKNOWN
                cell, ink = _pixels(places, self._cell(index)), _pixels(places, self._ink(index))
                if ink[0] == ink[2] or ink[1] == ink[3]:  # The font gives no outline.
                    ink = cell
                if ink[0] < width and ink[1] < height and ink[2] > 0 and ink[3] > 0:
                    glyphs.append(Glyph(text, ink, cell, (turns + self.page_turns) % 4, follows_space))
                    follows_space = False
                else:
                    self.counters["characters_off_the_page_dropped"] += 1
        kept = drop_drawn_twice(glyphs)
        self.counters["characters_drawn_twice_dropped"] += len(glyphs) - len(kept)
        return kept

    def _turns_of(self, index: int) -> int | None:
        """Quarter turns, clockwise, of the character on the page as it is shown; None where it is a space."""
        is_generated = raw.FPDFText_IsGenerated(self._layer, index)
        if is_generated or chr(raw.FPDFText_GetUnicode(self._layer, index)).isspace():
            return None
        angle = math.degrees(raw.FPDFText_GetCharAngle(self._layer, index))  # Clockwise.
        return round((angle + int(self._page.get_rotation())) / 90) % 4

    def _text(self, index: int) -> str:
        """The character, or the letters that a ligature stands for; _UNKNOWN where the font does not say."""
        code = raw.FPDFText_GetUnicode(self._layer, index)
        char = chr(code)
        if (code == _HYPHEN and raw.FPDFText_IsHyphen(self._layer, index)) or char == _SOFT_HYPHEN:
            return "-"
        if "\ufb00" <= char <= "\ufb06":
            return unicodedata.normalize("NFKC", char)
        category = unicodedata.category(char)
        if category == "Cf":  # Such as a zero-width space: nothing is drawn.
            return ""
        return _UNKNOWN if category.startswith("C") else char

    def _ink(self, index: int) -> Rectangle:
        left, right, bottom, top = (ctypes.c_double() for _ in range(4))
        raw.FPDFText_GetCharBox(self._layer, index, left, right, bottom, top)
        return left.value, bottom.value, right.value, top.value

    def _cell(self, index: int) -> Rectangle:
        box = raw.FS_RECTF()
        raw.FPDFText_GetLooseCharBox(self._layer, index, box)
        return box.left, box.bottom, box.right, box.top


def _pixels(places: pypdfium2.PdfPosConv, box: Rectangle) -> Rectangle:
    left, bottom, right, top = box
    (x1, y1), (x2, y2) = places.to_bitmap(left, bottom), places.to_bitmap(right, top)
    return min(x1, x2) / _FINE, min(y1, y2) / _FINE, max(x1, x2) / _FINE, max(y1, y2) / _FINE
