"""The fine parameters of a page: typefaces, sizes, spacing, colours, the form of captions."""

import random
from dataclasses import dataclass, replace

from sap_vision_assets.documents.synthesis.faces import Font, font
from sap_vision_assets.documents.synthesis.fonts import FAMILIES, Family, covers

Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)
ACCENTS: tuple[Color, ...] = (
    (0, 51, 102),
    (0, 82, 136),
    (20, 90, 50),
    (120, 20, 30),
    (60, 60, 60),
    (190, 80, 0),
    (0, 110, 120),
    (75, 30, 95),
    (150, 0, 60),
    (35, 45, 70),
    (0, 120, 70),
    (200, 30, 30),
)


@dataclass(frozen=True, kw_only=True)
class Style:
    """Lengths are in pixels and already shrunk by `scale`."""

    family: Family
    caption_family: Family
    logo_family: Family
    size: float
    """Of body text."""
    small: float
    """Of captions above values, footers and small print, as a share of `size`."""
    title: float
    """As a share of `size`."""
    leading: float
    gap: float
    """Between blocks, as a multiple of `size`."""
    padding: float
    """In table cells, as a multiple of `size`."""
    ink: Color
    faint: Color
    """Of rules and captions."""
    accent: Color
    tint: Color
    """Of filled cells behind dark text."""
    rule: float
    colon: str
    caption_case: str
    """"as_is" or "upper"."""
    bold_captions: bool
    bold_values: bool
    bold_last_total: bool
    title_upper: bool
    justified: bool
    logo_seed: int
    has_logo: bool
    logotype: float
    """Size of the sender's name, as a share of `size`."""
    contact_share: float
    """Size of the letterhead's lines, as a share of `size`."""

    @property
    def dark(self) -> Color:
        """Of filled cells behind white text."""
        red, green, blue = (round(0.8 * value) for value in self.accent)
        return self.accent if sum(self.accent) < 380 else (red, green, blue)

    def body(self, *, bold: bool = False, share: float = 1.0, italic: bool = False) -> Font:
        file = self.family.bold if bold else self.family.italic if italic else self.family.regular
        return font(file, self.size * share)

    def caption_font(self, share: float = 1.0) -> Font:
        file = self.caption_family.bold if self.bold_captions else self.caption_family.regular
        return font(file, self.size * share)

    def caption(self, text: str, *, colon: bool = True) -> str:
        """The caption as this page prints captions."""
        text = text.strip().rstrip(":").rstrip()
        if self.caption_case == "upper":
            text = text.upper()
        return text + self.colon if colon and text else text

    def shrunk(self, scale: float) -> "Style":
        """The same look at `scale` times the size."""
        return replace(self, size=self.size * scale, gap=self.gap * min(1.0, scale + 0.05))


def _tint(accent: Color, share: float) -> Color:
    red, green, blue = (round(255 - (255 - value) * share) for value in accent)
    return red, green, blue


def choose_style(rng: random.Random, split: str, *, characters: frozenset[str], px_per_pt: float) -> Style:
    families = [family for family in FAMILIES[split] if covers(family, characters)] or [FAMILIES[split][0]]
    kind = rng.choices(("sans", "serif", "mono"), (0.66, 0.22, 0.12))[0]
    family = rng.choice([candidate for candidate in families if candidate.kind == kind] or families)
    proportional = [candidate for candidate in families if candidate.kind != "mono"] or families
    accent = rng.choice(ACCENTS) if rng.random() < 0.65 else (0, 0, 0)
    plain = accent == (0, 0, 0)
    shade = rng.choice((0, 0, 20, 35, 50))
    grey = rng.choice((70, 100, 130, 160))
    points = rng.triangular(7.6, 11.8, 9.2) * (
        0.92 if family.kind == "mono" or "DejaVu" in family.name else 1.0
    )
    return Style(
        family=family,
        caption_family=rng.choice(proportional) if rng.random() < 0.12 else family,
        logo_family=rng.choice(proportional),
        size=points * px_per_pt,
        small=rng.uniform(0.76, 0.88) if family.kind != "mono" else rng.uniform(0.86, 1.0),
        title=rng.uniform(1.35, 2.3),
        leading=rng.uniform(1.14, 1.36),
        gap=rng.uniform(0.9, 1.9),
        padding=rng.uniform(0.22, 0.6),
        ink=(shade, shade, shade),
        faint=(grey, grey, grey) if plain or rng.random() < 0.6 else _tint(accent, 0.7),
        accent=accent if not plain else (0, 0, 0),
        tint=_tint((90, 90, 90), rng.uniform(0.1, 0.25)) if plain else _tint(accent, rng.uniform(0.08, 0.2)),
        rule=float(max(1, round(rng.choice((0.5, 0.75, 1.0)) * px_per_pt))),
        colon=rng.choice((":", ":", "", " :")),
        caption_case="upper" if rng.random() < 0.2 else "as_is",
        bold_captions=rng.random() < 0.4,
        bold_values=rng.random() < 0.15,
        bold_last_total=rng.random() < 0.8,
        title_upper=rng.random() < 0.4,
        justified=rng.random() < 0.15 and family.kind != "mono",
        logo_seed=rng.getrandbits(32),
        has_logo=rng.random() < 0.65,
        logotype=rng.uniform(1.25, 2.4) if rng.random() < 0.75 else 1.0,
        contact_share=rng.uniform(0.8, 1.0),
    )
