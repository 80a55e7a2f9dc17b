"""Prints a document's content in a skeleton and a style of the split, set so that all of it fits."""

import random
from dataclasses import dataclass, replace

from PIL import Image

from sap_vision_assets.documents.synthesis.content import DocumentContent
from sap_vision_assets.documents.synthesis.keyvalues import header_block, totals_block
from sap_vision_assets.documents.synthesis.letterheads import footer_block, letterhead_block, parties_block
from sap_vision_assets.documents.synthesis.marks import barcode
from sap_vision_assets.documents.synthesis.passages import closing_block, paragraph_block, signature_block
from sap_vision_assets.documents.synthesis.skeletons import Skeleton, choose_skeleton
from sap_vision_assets.documents.synthesis.slips import SHARE as SLIP_SHARE
from sap_vision_assets.documents.synthesis.slips import (
    choose_slip_skeleton,
    may_be_slip,
    slip_paper,
    slip_table,
)
from sap_vision_assets.documents.synthesis.stamps import place_initials, place_stamp
from sap_vision_assets.documents.synthesis.styles import WHITE, Style, choose_style
from sap_vision_assets.documents.synthesis.tables import table_block
from sap_vision_assets.documents.synthesis.typesetting import (
    EMPTY,
    Bar,
    Block,
    beside,
    flow,
    paint,
    recolored,
    runs,
    stack,
)
from sap_vision_assets.errors import InputError

A4_INCHES = (8.27, 11.69)
LETTER_INCHES = (8.5, 11.0)
LEAST_POINTS = 4.0
CORNER_AT_LEFT = ("logo_right_address_left", "stacked_right")
LANDSCAPE_SHARE = 0.06
"""Of the pages with wide tables."""
INITIALS_SHARE = 0.05
PAGE_WORD = {"de": "Seite", "fr": "Page", "es": "Página", "it": "Pagina", "nl": "Pagina"}
PAGE_FORMS = ("{word} 1 / 1", "{word} 1", "1", "- 1 -", "{word}: 1/1")


@dataclass(frozen=True, kw_only=True)
class Page:
    """A printed page. Boxes are left, top, right, bottom in pixels of `image`."""

    image: Image.Image
    words: list[str]
    boxes_px: list[tuple[float, float, float, float]]
    labels: list[str]
    """"O", "B-<field>" or "I-<field>" for each word."""
    skeleton: Skeleton
    style: Style


@dataclass(frozen=True, kw_only=True)
class _Sheet:
    """The paper, and what is decided before anything is measured. Lengths in pixels."""

    width: float
    height: float
    margin_x: float
    margin_y: float
    side_share: float
    """Width of the left one of two columns, as a share of the text width."""
    page_number: str
    """Empty for none."""
    page_number_align: str
    fold_marks: bool
    slip: bool = False
    slack_share: float
    """Share of the free height that the skeleton's anchor takes."""
    seed: int

    @property
    def text_width(self) -> float:
        return self.width - 2 * self.margin_x


def lay_out(content: DocumentContent, *, rng: random.Random, split: str, dpi: int) -> Page:
    """The content as a page of `split`'s skeletons and typefaces: RGB, undamaged, boxes tight around the ink.

    Raises InputError when the content is too long for one page in type of LEAST_POINTS.
    """
    slip = may_be_slip(content) and rng.random() < SLIP_SHARE
    skeleton = choose_slip_skeleton(rng, split) if slip else choose_skeleton(rng, split)
    style = choose_style(rng, split, characters=_characters(content), px_per_pt=dpi / 72)
    sheet = _choose_slip(rng, dpi) if slip else _choose_sheet(content, rng, dpi)
    body, footer, style = _fit(content, skeleton, style, sheet)
    if style.size < LEAST_POINTS * dpi / 72:
        raise InputError(
            f"{content.doc_type} {content.title!r} is too long for one page: "
            f"it would need type of {style.size * 72 / dpi:.1f} points; give it fewer rows or paragraphs"
        )
    if slip:
        height = body.height + footer.height + 2 * sheet.margin_y + 3 * style.size
        sheet = replace(sheet, height=min(sheet.height, height))
    image = Image.new("RGB", (round(sheet.width), round(sheet.height)), WHITE)
    words = paint(body, image, sheet.margin_x, sheet.margin_y)
    words += paint(footer, image, sheet.margin_x, sheet.height - sheet.margin_y - footer.height)
    if sheet.fold_marks:
        _fold_marks(image, sheet)
    for text in content.stamps:
        words += place_stamp(text, image, rng, style.logo_family.bold, style.size)
    if rng.random() < INITIALS_SHARE:
        place_initials(image, rng, style.size)
    return Page(
        image=image,
        words=[word.text for word in words],
        boxes_px=[word.box_px for word in words],
        labels=[word.label for word in words],
        skeleton=skeleton,
        style=style,
    )


def _choose_sheet(content: DocumentContent, rng: random.Random, dpi: int) -> _Sheet:
    letter = content.language in ("en", "es") and rng.random() < 0.5
    width, height = (inches * dpi for inches in (LETTER_INCHES if letter else A4_INCHES))
    widest = max((len(table.columns) for table in content.tables), default=0)
    if widest >= 7 and rng.random() < LANDSCAPE_SHARE:
        width, height = height, width
    word = PAGE_WORD.get(content.language, "Page")
    return _Sheet(
        width=width,
        height=height,
        margin_x=rng.uniform(0.055, 0.11) * width,
        margin_y=rng.uniform(0.035, 0.065) * height,
        side_share=rng.uniform(0.48, 0.58),
        page_number=rng.choice(PAGE_FORMS).format(word=word) if rng.random() < 0.4 else "",
        page_number_align=rng.choice(("left", "center", "right")),
        fold_marks=not letter and rng.random() < 0.15,
        slack_share=rng.uniform(0.5, 1.0),
        seed=rng.getrandbits(32),
    )


def _choose_slip(rng: random.Random, dpi: int) -> _Sheet:
    width, height = slip_paper(rng, dpi)
    return _Sheet(
        width=width,
        height=height,
        margin_x=rng.uniform(0.04, 0.08) * width,
        margin_y=rng.uniform(0.04, 0.1) * width,
        side_share=0.5,
        page_number="",
        page_number_align="center",
        fold_marks=False,
        slip=True,
        slack_share=0.0,
        seed=rng.getrandbits(32),
    )


def _characters(content: DocumentContent) -> frozenset[str]:
    """Every character that the page may print; `repr` holds them all, and more."""
    return frozenset(repr(content)) - {" ", "\n"}


def _fit(
    content: DocumentContent, skeleton: Skeleton, style: Style, sheet: _Sheet
) -> tuple[Block, Block, Style]:
    """Body and footer, set as large as the page allows; never larger than the style says."""
    scale = 1.0
    while True:
        shrunk = style.shrunk(scale)
        footer = _footer(content, skeleton, shrunk, sheet)
        body = _body(content, skeleton, shrunk, sheet)
        slack = sheet.height - 2 * sheet.margin_y - footer.height - 1.5 * shrunk.size - body.height
        if slack >= 0 or scale < 0.3:
            break
        # Height falls with more than the first power of the scale, since lines also break later.
        scale *= min(0.97, max(0.75, (1 + slack / body.height) ** 0.7))
    slack = slack * sheet.slack_share - 2 * shrunk.gap * shrunk.size
    if skeleton.anchor != "none" and slack > 4 * shrunk.size:
        body = _body(content, skeleton, shrunk, sheet, slack=slack)
    return body, footer, shrunk


def _title(content: DocumentContent, skeleton: Skeleton, style: Style, width: float) -> Block:
    text = content.title.upper() if style.title_upper else content.title
    align = {"center": "center", "right": "right", "corner": "right"}.get(skeleton.title, "left")
    if skeleton.title == "corner" and skeleton.letterhead in CORNER_AT_LEFT:
        align = "left"
    pad = 0.6 * style.size if skeleton.title == "bar" else 0.0
    face = style.body(bold=True, share=style.title)
    block = flow(runs(text, face, style.accent), width - 2 * pad, align=align, leading=1.2)
    if skeleton.title == "bar" and block.height:
        box = Block(width, block.height + 0.4 * style.size)
        box.marks.append((0, 0, Bar(width, box.height, style.dark)))
        box.put(recolored(block, WHITE), pad, 0.2 * style.size)
        block = box
    subtitle = flow(
        runs(content.subtitle, style.body(), style.ink), width, align=align, leading=style.leading
    )
    return stack([block, subtitle], gap=0.2 * style.size, width=width)


def _body(
    content: DocumentContent, skeleton: Skeleton, style: Style, sheet: _Sheet, *, slack: float = 0.0
) -> Block:
    """All but the footer; `slack` pixels go in above the skeleton's anchor, or into the last table."""
    width = sheet.text_width
    corner = _title(content, skeleton, style, 0.36 * width) if skeleton.title == "corner" else EMPTY
    filler = Block(width, slack)
    filling = slack if skeleton.anchor == "table" else 0.0
    tables = [table_block(table, skeleton.table, style, width) for table in content.tables[:-1]]
    tables += [table_block(table, skeleton.table, style, width, filling) for table in content.tables[-1:]]
    if sheet.slip:
        tables = [slip_table(table, skeleton, style, width) for table in content.tables]
    parts = [letterhead_block(content.sender, skeleton.letterhead, style, width, corner)]
    if skeleton.title in ("left", "center", "right", "bar"):
        parts.append(_title(content, skeleton, style, width))
    parts += _address_area(content, skeleton, style, sheet)
    parts += [paragraph_block(paragraph, style, width) for paragraph in content.introduction]
    parts += tables
    parts += [filler] if skeleton.anchor == "totals" and content.totals else []
    parts += _totals_and_closing(content, skeleton, style, width, filler)
    parts += [filler] if skeleton.anchor == "signatures" else []
    parts.append(signature_block(content.signatories, style, width, sheet.seed))
    return stack(parts, gap=style.gap * style.size, width=width)


def _totals_and_closing(
    content: DocumentContent, skeleton: Skeleton, style: Style, width: float, filler: Block
) -> list[Block]:
    closing = content.closing
    if skeleton.closing == "beside_totals" and content.totals and closing:
        space = 2 * style.size
        right = totals_block(
            content.totals, "plain" if skeleton.totals == "across" else skeleton.totals, style, 0.44 * width
        )
        room = 0.56 * width - space
        beside_count = 1
        while beside_count < len(closing) and (
            closing_block(closing[: beside_count + 1], "one_column", style, room).height < 1.6 * right.height
        ):
            beside_count += 1
        left = closing_block(closing[:beside_count], "one_column", style, room)
        totals = beside([(left, 0), (right, 0.56 * width)], width=width)
        closing = closing[beside_count:]
    else:
        totals = totals_block(content.totals, skeleton.totals, style, width)
    # A letter is one column of plain text.
    plain = not (content.tables or content.totals) and len(closing) < 4
    last = closing_block(closing, "one_column" if plain else skeleton.closing, style, width)
    return [totals, filler, last] if skeleton.anchor == "closing" and totals.height else [totals, last]


def _address_area(content: DocumentContent, skeleton: Skeleton, style: Style, sheet: _Sheet) -> list[Block]:
    """Parties and header data, and the barcode with them."""
    width = sheet.text_width

    def header(room: float) -> Block:
        bars = EMPTY
        if content.barcode is not None:
            bars = barcode(content.barcode, style, min(room, 0.34 * width), 3.2 * style.size)
        block = header_block(content.header, skeleton.header, style, room)
        title = _title(content, skeleton, style, room) if skeleton.title == "above_header" else EMPTY
        return stack([title, block, bars], gap=0.6 * style.size, width=room)

    if skeleton.parties in ("beside_header", "header_first"):
        left = sheet.side_share * width
        x = left + 2.0 * style.size
        if skeleton.parties == "header_first":
            parties = parties_block(content.parties, skeleton.parties, style, width - x)
            return [beside([(header(left), 0.0), (parties, x)], width=width)]
        parties = parties_block(content.parties, skeleton.parties, style, left)
        return [beside([(parties, 0.0), (header(width - x), x)], width=width)]
    return [parties_block(content.parties, skeleton.parties, style, width), header(width)]


def _footer(content: DocumentContent, skeleton: Skeleton, style: Style, sheet: _Sheet) -> Block:
    words = runs(sheet.page_number, style.body(share=style.small), style.ink)
    number = flow(words, sheet.text_width, align=sheet.page_number_align)
    small_print = footer_block(content.footer, skeleton.footer, style, sheet.text_width)
    return stack([small_print, number], gap=0.4 * style.size, width=sheet.text_width)


def _fold_marks(image: Image.Image, sheet: _Sheet) -> None:
    """DIN 5008: at 105 and 210 mm, and the punching mark in the middle."""
    for millimetres in (105, 148.5, 210):
        y = round(millimetres / 297 * sheet.height)
        image.paste((120, 120, 120), (round(0.012 * sheet.width), y, round(0.03 * sheet.width), y + 1))
