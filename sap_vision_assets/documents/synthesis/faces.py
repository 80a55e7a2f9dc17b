"""Typefaces at a size: measured without hinting, so that text keeps its proportions at every resolution, and
drawn glyph by glyph from a cache.

`ImageDraw.text` renders every word anew, 80 us each; a page takes 20 ms that way and 4 ms from cached glyphs.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

from PIL import Image, ImageChops, ImageDraw, ImageFont

from sap_vision_assets.documents.synthesis.dot_matrix import dots

SIZE_STEP = 0.25
"""Font sizes are multiples of this many pixels, so that the caches hit."""
LEAST_INK = 24
"""Of 255: paler pixels at a glyph's edge are no part of its box."""
_MEASURED_AT = 1000

_SUBSTITUTES = {
    "–": "-", "—": "-", "‐": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "•": "*", "…": ".",
    "ł": "l", "Ł": "L", "×": "x", "‑": "-",
}  # fmt: skip
"""What a typewriter strikes instead."""
_OVERSTRUCK = {"€": ("C", "="), "£": ("L", "-"), "§": ("S", "o")}
_TYPEWRITER_CODES = {
    "ß": "\u00bc", "æ": "\u00bd", "œ": "\u00be", "ø": "\u00bf", "Æ": "\u00c0", "Œ": "\u00c1", "Ø": "\u00c2",
    "°": "\u00ba", "¡": "\u00b1", "¿": "\u00b2", "·": ".",
}  # fmt: skip
_TYPEWRITER_ACCENTS = {
    "\u0300": "\u00b5", "\u0301": "\u00b6", "\u0302": "^", "\u0303": "~", "\u0308": "\u00c4",
    "\u030a": "\u00ba", "\u0327": "\u00bb", "\u030c": "\u2219",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FontFile:
    """One weight of a typeface."""

    package: str
    path: str
    kind: str = "outline"
    """"outline"; "typewriter" (TeX's encoding, accents struck over); "dots" (dot_matrix.py, no file)."""
    double_strike: bool = False
    """Bold by printing twice, for faces that have no bold file."""


@dataclass(frozen=True, slots=True)
class Glyph:
    mask: Image.Image
    left: int
    """From the pen to the mask's left edge."""
    top: int
    """From the baseline to the mask's top edge; negative is above."""


class Font:
    """A font file at one size in pixels. Widths are fractions of pixels; glyphs stand at half pixels."""

    def __init__(self, file: FontFile, size: float) -> None:
        self.file = file
        self.size = size
        self._glyphs: dict[tuple[str, int], Glyph] = {}
        self._advances: dict[str, float] = {}
        self._lengths: dict[str, float] = {}
        self.space = max(self.length(" "), 0.26 * size)

    def length(self, word: str) -> float:
        """Advance width in pixels."""
        length = self._lengths.get(word)
        if length is None:
            length = self._lengths[word] = sum(map(self._advance, word))
        return length

    def _advance(self, character: str) -> float:
        advance = self._advances.get(character)
        if advance is None:
            advance = self._advances[character] = _advance(self.file, character) * self.size
        return advance

    def draw(
        self, draw: ImageDraw.ImageDraw, x: float, baseline: int, word: str, color: int | tuple[int, int, int]
    ) -> tuple[int, int, int, int]:
        """Prints the word from the pen position on; returns left, top, right, bottom of its ink."""
        left, top, right, bottom = 1 << 30, 1 << 30, -(1 << 30), -(1 << 30)
        for character in word:
            halves = round(2 * x)
            glyph = self._glyphs.get((character, halves & 1))
            if glyph is None:
                glyph = self._glyphs[character, halves & 1] = _tight(
                    self._render(character, (halves & 1) / 2)
                )
            width, height = glyph.mask.size
            if width:
                at_x, at_y = (halves >> 1) + glyph.left, baseline + glyph.top
                draw.bitmap((at_x, at_y), glyph.mask, color)
                left, top = min(left, at_x), min(top, at_y)
                right, bottom = max(right, at_x + width), max(bottom, at_y + height)
            x += self._advance(character)
        return left, top, right, bottom

    def _render(self, character: str, start: float) -> Glyph:
        parts = _parts(self.file, character)
        if self.file.kind == "dots":
            glyphs = [_dot_matrix(part, self.size, start) for part, _ in parts]
        else:
            freetype = _freetype(self.file, self.size)
            glyphs = [_outline(freetype, part, start, raised * self.size) for part, raised in parts]
        if self.file.double_strike:
            shift = max(1, round(0.05 * self.size))
            glyphs += [Glyph(glyph.mask, glyph.left + shift, glyph.top) for glyph in glyphs]
        return glyphs[0] if len(glyphs) == 1 else _struck_over(glyphs)


@lru_cache(maxsize=512)
def _font(file: FontFile, steps: int) -> Font:
    return Font(file, steps * SIZE_STEP)


def font(file: FontFile, size: float) -> Font:
    """The file's font at about `size` pixels."""
    return _font(file, max(16, round(size / SIZE_STEP)))


@lru_cache(maxsize=1024)
def _freetype(file: FontFile, size: float) -> ImageFont.FreeTypeFont:
    path = str(resources.files(file.package).joinpath(file.path))
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _advance(file: FontFile, character: str) -> float:
    """As a share of the size."""
    if file.kind == "dots":
        return 0.6
    base = _parts(file, character)[0][0]
    return _freetype(file, _MEASURED_AT).getlength(base) / _MEASURED_AT


def _parts(file: FontFile, character: str) -> list[tuple[str, float]]:
    """Glyphs that are struck over each other, each with how far it is raised, as a share of the size."""
    if file.kind != "typewriter":
        return [(character, 0.0)]
    if character in _OVERSTRUCK:
        return [(part, 0.0) for part in _OVERSTRUCK[character]]
    character = _SUBSTITUTES.get(character, character)
    if character in _TYPEWRITER_CODES:
        return [(_TYPEWRITER_CODES[character], 0.0)]
    base, *marks = list(unicodedata.normalize("NFD", character))
    known = [mark for mark in marks if mark in _TYPEWRITER_ACCENTS]
    raised = 0.19 if base.isupper() else 0.0
    letter = "\u00b3" if base == "i" and known else base
    return [(letter, 0.0), *((_TYPEWRITER_ACCENTS[m], 0.0 if m == "\u0327" else raised) for m in known)]


def _outline(freetype: ImageFont.FreeTypeFont, character: str, start: float, raised: float) -> Glyph:
    mask, (left, top) = freetype.getmask2(character, "L", anchor="ls", start=(start, 0))
    return Glyph(Image.frombytes("L", mask.size, bytes(mask)), int(left), int(top) - round(raised))


def _dot_matrix(character: str, size: float, start: float) -> Glyph:
    """Round dots of a print head; capitals are seven dots and 0.7 of the size high."""
    pitch = size / 10
    oversampling = 4
    above = 4
    width, height = round(7 * pitch) + 2, round((above + 10) * pitch) + 2
    tile = Image.new("L", (width * oversampling, height * oversampling), 0)
    draw = ImageDraw.Draw(tile)
    radius = 0.56 * pitch * oversampling
    for row, column in dots(character) or ():
        x = ((column + 0.5) * pitch + start) * oversampling
        y = (row + above + 0.5) * pitch * oversampling
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=235)
    return Glyph(tile.resize((width, height), Image.Resampling.BOX), 0, -round((above + 7) * pitch))


def _struck_over(glyphs: list[Glyph]) -> Glyph:
    left, top = min(glyph.left for glyph in glyphs), min(glyph.top for glyph in glyphs)
    right = max(glyph.left + glyph.mask.width for glyph in glyphs)
    bottom = max(glyph.top + glyph.mask.height for glyph in glyphs)
    whole = Image.new("L", (right - left, bottom - top), 0)
    for glyph in glyphs:
        layer = Image.new("L", whole.size, 0)
        layer.paste(glyph.mask, (glyph.left - left, glyph.top - top))
        whole = ImageChops.lighter(whole, layer)
    return Glyph(whole, left, top)


def _tight(glyph: Glyph) -> Glyph:
    """Without the rows and columns around the ink that nobody sees: empty, or a breath of anti-aliasing."""
    box = glyph.mask.point([0] * LEAST_INK + [255] * (256 - LEAST_INK)).getbbox()
    if box is None:
        return Glyph(Image.new("L", (0, 0)), 0, 0)
    return Glyph(glyph.mask.crop(box), glyph.left + box[0], glyph.top + box[1])


@cache
def has_glyph(file: FontFile, character: str) -> bool:
    """Whether the character prints as itself or as a printer's usual substitute, not as an empty box."""
    if file.kind == "dots":
        return dots(character) is not None
    for part, _ in _parts(file, character):
        mask, missing = (_freetype(file, 16).getmask(text) for text in (part, "\uffff"))
        if mask.getbbox() is None or (mask.size == missing.size and bytes(mask) == bytes(missing)):
            return False
    return True
