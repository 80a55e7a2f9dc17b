"""Font families of the printed pages, each from a locked package, and which split may use which.

A family belongs to one split, so no page of val or test is set in a typeface that training has seen. Vera and
DejaVu Sans are one design and stay together.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sap_vision_assets.documents.synthesis.faces import FontFile, has_glyph


@dataclass(frozen=True, kw_only=True)
class Family:
    """Weights of one typeface."""

    name: str
    kind: str
    """"sans", "serif" or "mono"."""
    regular: FontFile
    bold: FontFile
    italic: FontFile
    heavy: FontFile
    """For logotypes."""


def _family(name: str, kind: str, package: str, pattern: str, weights: str) -> Family:
    """`pattern` has "*" for the words of `weights`: regular, bold, italic, heavy; "-" is nothing."""
    files = [
        FontFile(package, pattern.replace("*", "" if weight == "-" else weight)) for weight in weights.split()
    ]
    return Family(name=name, kind=kind, regular=files[0], bold=files[1], italic=files[2], heavy=files[3])


def _struck(name: str, package: str, path: str, kind: str) -> Family:
    regular, bold = (FontFile(package, path, kind, double) for double in (False, True))
    return Family(name=name, kind="mono", regular=regular, bold=bold, italic=regular, heavy=bold)


_MPL = "mpl-data/fonts/ttf/"
FAMILIES: dict[str, tuple[Family, ...]] = {
    "train": (
        _family("Roboto", "sans", "font_roboto", "files/Roboto-*.ttf", "Regular Bold Italic Black"),
        _family("Lato", "sans", "font_lato", "files/Lato-*.ttf", "Regular Bold Italic Black"),
        _family(
            "Source Sans",
            "sans",
            "font_source_sans_pro",
            "files/SourceSansPro-*.ttf",
            "Regular Bold It Black",
        ),
        _family("Vera", "sans", "reportlab", "fonts/Vera*.ttf", "- Bd It Bd"),
        _family("DejaVu Sans", "sans", "matplotlib", f"{_MPL}DejaVuSans*.ttf", "- -Bold -Oblique -Bold"),
        _family("STIX", "serif", "matplotlib", f"{_MPL}STIXGeneral*.ttf", "- Bol Italic Bol"),
        _family("DejaVu Serif", "serif", "matplotlib", f"{_MPL}DejaVuSerif*.ttf", "- -Bold -Italic -Bold"),
        _family(
            "DejaVu Sans Mono", "mono", "matplotlib", f"{_MPL}DejaVuSansMono*.ttf", "- -Bold -Oblique -Bold"
        ),
    ),
    "val": (
        _family(
            "Hanken", "sans", "font_hanken_grotesk", "files/HankenGrotesk-*.otf", "Regular Bold Italic Bold"
        ),
        _family("Caladea", "serif", "font_caladea", "files/Caladea-*.ttf", "Regular Bold Italic Bold"),
        _struck("Computer Modern Typewriter", "matplotlib", f"{_MPL}cmtt10.ttf", "typewriter"),
    ),
    "test": (
        _family("Manrope", "sans", "font_manrope", "files/Manrope-*.ttf", "Regular Bold Regular ExtraBold"),
        _family(
            "Source Serif",
            "serif",
            "font_source_serif_pro",
            "files/SourceSerifPro-*.otf",
            "Regular Bold It Black",
        ),
        _struck("Nine-pin", "", "", "dots"),
    ),
}


def covers(family: Family, characters: Iterable[str]) -> bool:
    """Whether all weights have a glyph for each of `characters`; a page must not show empty boxes."""
    files = {family.regular, family.bold, family.italic, family.heavy}
    return all(has_glyph(file, character) for character in characters for file in files)
