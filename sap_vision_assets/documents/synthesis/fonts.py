"""Typefaces of the printed pages, each from a locked package, and which split may use which.

A family belongs to one split, so that no page of val or test is set in a typeface that training has seen. Vera
and DejaVu Sans are one design and stay together. Sizes are in pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

from PIL import ImageFont

SIZE_STEP = 0.25
"""Font sizes are multiples of this many pixels, so that the caches hit."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Files of one typeface: (package, path inside it) for each weight."""

    name: str
    kind: str
    """"sans", "serif" or "mono"."""
    regular: tuple[str, str]
    bold: tuple[str, str]
    italic: tuple[str, str]
    heavy: tuple[str, str]
    """For logotypes."""


def _family(name: str, kind: str, package: str, folder: str, files: Sequence[str]) -> Family:
    """`files`: regular, bold, italic, heavy."""
    regular, bold, italic, heavy = ((package, f"{folder}{file}") for file in files)
    return Family(name=name, kind=kind, regular=regular, bold=bold, italic=italic, heavy=heavy)


_MATPLOTLIB = ("matplotlib", "mpl-data/fonts/ttf/")
_WEIGHTS = ("Regular", "Bold", "Italic", "Black")


def _packaged(name: str, kind: str, package: str, stem: str, weights: Sequence[str] = _WEIGHTS) -> Family:
    suffix = "otf" if stem == "HankenGrotesk" else "ttf"
    return _family(name, kind, package, "files/", [f"{stem}-{weight}.{suffix}" for weight in weights])


FAMILIES: dict[str, tuple[Family, ...]] = {
    "train": (
        _packaged("Roboto", "sans", "font_roboto", "Roboto"),
        _packaged("Lato", "sans", "font_lato", "Lato"),
        _packaged(
            "Source Sans", "sans", "font_source_sans_pro", "SourceSansPro", ("Regular", "Bold", "It", "Black")
        ),
        _family(
            "Vera", "sans", "reportlab", "fonts/", ("Vera.ttf", "VeraBd.ttf", "VeraIt.ttf", "VeraBd.ttf")
        ),
        _family(
            "DejaVu Sans",
            "sans",
            *_MATPLOTLIB,
            ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSans-Bold.ttf"),
        ),
        _family(
            "STIX",
            "serif",
            *_MATPLOTLIB,
            ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBol.ttf"),
        ),
        _family(
            "DejaVu Serif",
            "serif",
            *_MATPLOTLIB,
            ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-Italic.ttf", "DejaVuSerif-Bold.ttf"),
        ),
        _family(
            "DejaVu Sans Mono",
            "mono",
            *_MATPLOTLIB,
            (
                "DejaVuSansMono.ttf",
                "DejaVuSansMono-Bold.ttf",
                "DejaVuSansMono-Oblique.ttf",
                "DejaVuSansMono-Bold.ttf",
            ),
        ),
    ),
    "val": (
        _packaged(
            "Hanken Grotesk",
            "sans",
            "font_hanken_grotesk",
            "HankenGrotesk",
            ("Regular", "Bold", "Italic", "Bold"),
        ),
        _packaged("Caladea", "serif", "font_caladea", "Caladea", ("Regular", "Bold", "Italic", "Bold")),
    ),
    "test": (
        _packaged("Manrope", "sans", "font_manrope", "Manrope", ("Regular", "Bold", "Regular", "ExtraBold")),
        _packaged(
            "Source Serif",
            "serif",
            "font_source_serif_pro",
            "SourceSerifPro",
            ("Regular", "Bold", "It", "Black"),
        ),
    ),
}


class Font:
    """One file at one size; measures words and remembers what it measured."""

    def __init__(self, file: tuple[str, str], size: float) -> None:
        self.file = file
        self.size = size
        self.freetype = ImageFont.truetype(
            str(resources.files(file[0]).joinpath(file[1])), size, layout_engine=ImageFont.Layout.BASIC
        )
        self._lengths: dict[str, float] = {}
        self.space = max(self.freetype.getlength(" "), 0.2 * size)

    def length(self, word: str) -> float:
        """Advance width in pixels."""
        length = self._lengths.get(word)
        if length is None:
            length = self._lengths[word] = self.freetype.getlength(word)
        return length


@lru_cache(maxsize=512)
def _font(file: tuple[str, str], steps: int) -> Font:
    return Font(file, steps * SIZE_STEP)


def font(file: tuple[str, str], size: float) -> Font:
    """The file's font at about `size` pixels."""
    return _font(file, max(16, round(size / SIZE_STEP)))


@cache
def _has_glyph(file: tuple[str, str], character: str) -> bool:
    freetype = font(file, 16).freetype
    missing = freetype.getmask("\uffff")
    mask = freetype.getmask(character)
    return bool(mask.size != missing.size or bytes(mask) != bytes(missing))


def covers(family: Family, characters: Iterable[str]) -> bool:
    """Whether all weights have a glyph for each of `characters`; a page must not show empty boxes."""
    files = {family.regular, family.bold, family.italic, family.heavy}
    return all(_has_glyph(file, character) for character in characters for file in files)
