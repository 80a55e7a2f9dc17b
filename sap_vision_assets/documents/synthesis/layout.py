"""Prints a document's content: chooses a skeleton and a style of the split, and sets the page so that all of it fits."""

import random
from dataclasses import dataclass

from PIL import Image

from sap_vision_assets.documents.synthesis.typesetting import (
    EMPTY,
    Bar,
    Block,
    PrintedWord,
    beside,
    flow,
    framed,
    line_width,
    paint,
    runs,
    stack,
)
from sap_vision_assets.documents.synthesis.content import DocumentContent, Paragraph
from sap_vision_assets.documents.synthesis.keyvalues import header_block, totals_block
from sap_vision_assets.documents.synthesis.letterheads import footer_block, letterhead_block, parties_block
from sap_vision_assets.documents.synthesis.marks import barcode, signature, stamp
from sap_vision_assets.documents.synthesis.skeletons import Skeleton, choose_skeleton
from sap_vision_assets.documents.synthesis.styles import WHITE, Style, choose_style
from sap_vision_assets.documents.synthesis.tables import table_block

A4_INCHES = (8.27, 11.69)
LETTER_INCHES = (8.5, 11.0)
PAGE_WORD = {"de": "Seite", "fr": "Page", "es": "Página", "it": "Pagina", "nl": "Pagina", "pl": "Strona"}
STAMP_COLORS = ((150, 30, 40), (30, 50, 140), (25, 100, 60), (70, 40, 120))
INKS = ((20, 30, 90), (15, 15, 20), (30, 30, 60))


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
    """The paper and what is decided before anything is measured."""

    width: float
    height: float
    margin_x: float
    margin_y: float
    side_share: float
    """Width of the left one of two columns, as a share of the text width."""
    numbered: bool
    fold_marks: bool
    body_first: bool
    seed: int

    @property
    def text_width(self) -> float:
        return self.width - 2 * self.margin_x


def lay_out(content: DocumentContent, *, rng: random.Random, split: str, dpi: int) -> Page:
    """The content as a page of `split`'s skeletons and typefaces: RGB, undamaged, boxes tight around the ink."""
    skeleton = choose_skeleton(rng, split)
    style = choose_style(rng, split, characters=_characters(content), px_per_pt=dpi / 72)
    sheet = _choose_sheet(content, rng, dpi)
    body, footer, style = _fit(content, skeleton, style, sheet)
    image = Image.new("RGB", (round(sheet.width), round(sheet.height)), WHITE)
    words = paint(body, image, sheet.margin_x, sheet.margin_y)
    words += paint(footer, image, sheet.margin_x, sheet.height - sheet.margin_y - footer.height)
    if sheet.fold_marks:
        _fold_marks(image, sheet)
    for text in content.stamps:
        words += _place_stamp(text, image, words, rng, style)
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
    return _Sheet(
        width=width,
        height=height,
        margin_x=rng.uniform(0.055, 0.11) * width,
        margin_y=rng.uniform(0.035, 0.065) * height,
        side_share=rng.uniform(0.48, 0.58),
        numbered=rng.random() < 0.4,
        fold_marks=not letter and rng.random() < 0.15,
        body_first=rng.random() < 0.5,
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
        room = sheet.height - 2 * sheet.margin_y - footer.height - 1.5 * shrunk.size
        if body.height <= room or scale < 0.3:
            return body, footer, shrunk
        # Height falls with more than the first power of the scale, since lines also break later.
        scale *= min(0.97, max(0.75, (room / body.height) ** 0.7))


def _title(content: DocumentContent, skeleton: Skeleton, style: Style, width: float) -> Block:
    text = content.title.upper() if style.title_upper else content.title
    align = {"center": "center", "right": "right", "corner": "right"}.get(skeleton.title, "left")
    bar = skeleton.title == "bar"
    color = WHITE if bar and sum(style.accent) < 400 else style.accent
    face = style.body(bold=True, share=style.title)
    inner = width - (1.2 * style.size if bar else 0)
    parts = [flow(runs(text, face, color), inner, align=align, leading=1.2)] if text else []
    if bar and parts:
        fill = style.accent if sum(style.accent) < 400 else style.tint
        box = Block(width, parts[0].height + 0.4 * style.size)
        box.marks.append((0, 0, Bar(width, box.height, fill)))
        box.put(parts[0], 0.6 * style.size, 0.2 * style.size)
        parts = [box]
    if content.subtitle:
        parts.append(
            flow(runs(content.subtitle, style.body(), style.ink), width, align=align, leading=style.leading)
        )
    return stack(parts, gap=0.2 * style.size, width=width)


def _body(content: DocumentContent, skeleton: Skeleton, style: Style, sheet: _Sheet) -> Block:
    width = sheet.text_width
    gap = style.gap * style.size
    corner = EMPTY
    if skeleton.title == "corner":
        corner = _title(content, skeleton, style, 0.36 * width)
    parts = [letterhead_block(content.sender, skeleton.letterhead, style, width, corner)]
    if skeleton.title in ("left", "center", "right", "bar"):
        parts.append(_title(content, skeleton, style, width))
    parts += _address_area(content, skeleton, style, sheet)
    parts += [_paragraph(paragraph, style, width) for paragraph in content.introduction]
    parts += [table_block(table, skeleton.table, style, width) for table in content.tables]
    parts.append(totals_block(content.totals, skeleton.totals, style, width))
    parts.append(_closing(content, skeleton, style, width))
    parts.append(_signatures(content, style, sheet))
    return stack(parts, gap=gap, width=width)


def _address_area(content: DocumentContent, skeleton: Skeleton, style: Style, sheet: _Sheet) -> list[Block]:
    """Parties and header data, and the barcode with them."""
    width = sheet.text_width
    above = skeleton.title == "above_header"
    bars = EMPTY
    if content.barcode is not None:
        bars = barcode(content.barcode, style, 0.34 * width, 3.2 * style.size)

    def header(room: float) -> Block:
        block = header_block(content.header, skeleton.header, style, room)
        title = _title(content, skeleton, style, room) if above else EMPTY
        return stack([title, block], gap=0.5 * style.size, width=room)

    if skeleton.parties in ("beside_header", "header_first"):
        space = 2.0 * style.size
        left = sheet.side_share * width
        right = width - left - space
        if skeleton.parties == "header_first":
            blocks = [
                (stack([header(left), bars], gap=style.size), 0.0),
                (parties_block(content.parties, skeleton.parties, style, right), left + space),
            ]
        else:
            blocks = [
                (parties_block(content.parties, skeleton.parties, style, left), 0.0),
                (stack([header(right), bars], gap=style.size), left + space),
            ]
        return [beside(blocks, width=width)]
    return [parties_block(content.parties, skeleton.parties, style, width), header(width), bars]


def _paragraph(paragraph: Paragraph, style: Style, width: float, share: float = 1.0) -> Block:
    heading = EMPTY
    if paragraph.heading:
        words = runs(paragraph.heading, style.body(bold=True, share=share), style.ink)
        heading = flow(words, width, leading=style.leading)
    words = runs(paragraph.text, style.body(share=share), style.ink)
    return stack([heading, flow(words, width, leading=style.leading, justified=style.justified)], width=width)


def _closing(content: DocumentContent, skeleton: Skeleton, style: Style, width: float) -> Block:
    if not content.closing:
        return EMPTY
    gap = 0.5 * style.size
    if skeleton.closing == "two_columns" and len(content.closing) > 1:
        space = 2 * style.size
        column = (width - space) / 2
        blocks = [_paragraph(paragraph, style, column, 0.95) for paragraph in content.closing]
        half = sum(block.height for block in blocks) / 2
        left: list[Block] = []
        while blocks and sum(block.height for block in left) + blocks[0].height / 2 < half:
            left.append(blocks.pop(0))
        columns = [
            (stack(left, gap=gap, width=column), 0.0),
            (stack(blocks, gap=gap, width=column), column + space),
        ]
        return beside(columns, width=width)
    if skeleton.closing == "framed":
        pad = 0.6 * style.size
        inner = [_paragraph(paragraph, style, width - 2 * pad) for paragraph in content.closing]
        return framed(stack(inner, gap=gap), padding=pad, outline=style.faint, thickness=style.rule)
    share = 0.88 if skeleton.closing == "small_print" else 1.0
    return stack(
        (_paragraph(paragraph, style, width, share) for paragraph in content.closing), gap=gap, width=width
    )


def _signatures(content: DocumentContent, style: Style, sheet: _Sheet) -> Block:
    if not content.signatories:
        return EMPTY
    width = sheet.text_width
    column = min(0.4 * width, width / len(content.signatories) - style.size)
    rng = random.Random(sheet.seed)
    cells = []
    for name in content.signatories:
        written = signature(rng.getrandbits(32), 0.75 * column, 3.4 * style.size, rng.choice(INKS))
        line = Block(column, style.rule)
        line.rule(0, 0, column, style.faint, style.rule)
        printed = flow(runs(name, style.body(share=0.95), style.ink), column, leading=style.leading)
        cells.append(stack([written, line, printed], width=column))
    step = width / len(cells)
    return beside([(cell, number * step) for number, cell in enumerate(cells)], width=width)


def _footer(content: DocumentContent, skeleton: Skeleton, style: Style, sheet: _Sheet) -> Block:
    parts = [footer_block(content.footer, skeleton.footer, style, sheet.text_width)]
    if sheet.numbered:
        words = runs(
            f"{PAGE_WORD.get(content.language, 'Page')} 1 / 1", style.body(share=style.small), style.ink
        )
        parts.append(
            flow(words, sheet.text_width, align=random.Random(sheet.seed).choice(("left", "center", "right")))
        )
    return stack(parts, gap=0.4 * style.size, width=sheet.text_width)


def _fold_marks(image: Image.Image, sheet: _Sheet) -> None:
    """DIN 5008: at 105 and 210 mm, and the punching mark in the middle."""
    for millimetres in (105, 148.5, 210):
        y = round(millimetres / 297 * sheet.height)
        image.paste((120, 120, 120), (round(0.012 * sheet.width), y, round(0.03 * sheet.width), y + 1))


def _place_stamp(
    text: str, image: Image.Image, words: list[PrintedWord], rng: random.Random, style: Style
) -> list[PrintedWord]:
    """Stamps where the page is white, and nowhere when it is full; a stamp's words are words of the page."""
    color = rng.choice(STAMP_COLORS)
    for share in (1.7, 1.3, 1.0):
        picture, printed = stamp(text, rng, style.body(bold=True, share=share), color)
        for _ in range(40):
            x = rng.uniform(0.05, 0.95) * (image.width - picture.width)
            y = rng.uniform(0.05, 0.92) * (image.height - picture.height)
            box = (x - 3, y - 3, x + picture.width + 3, y + picture.height + 3)
            if x > 0 and not any(_overlap(box, word.box_px) for word in words):
                left, top = round(x), round(y)
                image.paste(picture, (left, top), picture)
                return [
                    PrintedWord(
                        word.text,
                        word.label,
                        (
                            word.box_px[0] + left,
                            word.box_px[1] + top,
                            word.box_px[2] + left,
                            word.box_px[3] + top,
                        ),
                    )
                    for word in printed
                ]
    return []


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


__all__ = ["Page", "lay_out", "line_width"]
