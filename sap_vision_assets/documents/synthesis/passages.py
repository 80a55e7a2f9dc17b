"""Running text: introduction and closing paragraphs, and signatures below them."""

import random
from collections.abc import Sequence

from sap_vision_assets.documents.synthesis.content import Paragraph
from sap_vision_assets.documents.synthesis.marks import signature
from sap_vision_assets.documents.synthesis.styles import Color, Style
from sap_vision_assets.documents.synthesis.typesetting import EMPTY, Block, beside, flow, framed, runs, stack

INKS: tuple[Color, ...] = ((20, 30, 90), (15, 15, 20), (30, 30, 60), (20, 40, 140))


def paragraph_block(paragraph: Paragraph, style: Style, width: float, share: float = 1.0) -> Block:
    """Heading, and the text broken into lines; `share` is of the body's size."""
    heading = EMPTY
    if paragraph.heading:
        words = runs(paragraph.heading, style.body(bold=True, share=share), style.ink)
        heading = flow(words, width, leading=style.leading)
    words = runs(paragraph.text, style.body(share=share), style.ink)
    return stack([heading, flow(words, width, leading=style.leading, justified=style.justified)], width=width)


def closing_block(paragraphs: Sequence[Paragraph], form: str, style: Style, width: float) -> Block:
    """Terms, clauses and notes."""
    if not paragraphs:
        return EMPTY
    gap = 0.5 * style.size
    if form == "two_columns" and len(paragraphs) > 1:
        return _two_columns(paragraphs, style, width, gap)
    if form == "framed":
        pad = 0.6 * style.size
        inner = [paragraph_block(paragraph, style, width - 2 * pad) for paragraph in paragraphs]
        return framed(stack(inner, gap=gap), padding=pad, outline=style.faint, thickness=style.rule)
    share = 0.88 if form == "small_print" else 1.0
    return stack(
        (paragraph_block(paragraph, style, width, share) for paragraph in paragraphs), gap=gap, width=width
    )


def _two_columns(paragraphs: Sequence[Paragraph], style: Style, width: float, gap: float) -> Block:
    space = 2 * style.size
    column = (width - space) / 2
    right = [paragraph_block(paragraph, style, column, 0.95) for paragraph in paragraphs]
    half = sum(block.height for block in right) / 2
    left: list[Block] = []
    while len(right) > 1 and sum(block.height for block in left) + right[0].height / 2 < half:
        left.append(right.pop(0))
    columns = [(stack(part, gap=gap, width=column), x) for part, x in ((left, 0.0), (right, column + space))]
    return beside(columns, width=width)


def signature_block(names: Sequence[str], style: Style, width: float, seed: int) -> Block:
    """Signatures above their names, side by side."""
    if not names:
        return EMPTY
    rng = random.Random(seed)
    ink = rng.choice(INKS)
    at_right = len(names) == 1 and rng.random() < 0.3
    column = min(0.4 * width, width / len(names) - style.size)
    cells = []
    for name in names:
        written = signature(rng.getrandbits(32), 0.8 * column, 3.4 * style.size, ink)
        line = Block(column, style.rule)
        line.rule(0, 0, column, style.faint, style.rule)
        printed = flow(runs(name, style.body(share=0.95), style.ink), column, leading=style.leading)
        cells.append(stack([written, line, printed], width=column))
    step = width / len(cells)
    start = width - column if at_right else 0.0
    return beside([(cell, start + number * step) for number, cell in enumerate(cells)], width=width)
