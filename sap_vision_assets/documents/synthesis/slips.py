"""Till slips: narrow pages of any length, one column, table rows over two lines."""

import random
from collections.abc import Sequence
from dataclasses import replace

from sap_vision_assets.documents.synthesis.content import DocumentContent, Line, Table
from sap_vision_assets.documents.synthesis.skeletons import Skeleton, choose_skeleton
from sap_vision_assets.documents.synthesis.styles import Style
from sap_vision_assets.documents.synthesis.typesetting import (
    Block,
    Run,
    beside,
    flow,
    line_width,
    runs,
    stack,
)

DOC_TYPES = frozenset({"OTHER", "INVOICE", "GOODS_RECEIPT", "DELIVERY_NOTE", "CREDIT_MEMO"})
SHARE = 0.15
"""Of the documents that a till could print."""
MOST_COLUMNS = 7
MOST_ROWS = 12
PARTIES = "one_column"
LETTERHEADS = frozenset({"stacked_left", "stacked_center", "stacked_right", "name_and_rule", "one_line"})
HEADERS = frozenset({"inline", "aligned", "aligned_right", "captions_right", "above"})
TITLES = frozenset({"left", "center", "bar", "above_header"})


def may_be_slip(content: DocumentContent) -> bool:
    """Whether a till could have printed this."""
    tables = content.tables
    return (
        content.doc_type in DOC_TYPES
        and len(tables) == 1
        and len(tables[0].columns) <= MOST_COLUMNS
        and len(tables[0].rows) <= MOST_ROWS
        and not content.signatories
    )


def _is_narrow(arrangement: tuple[str, str, str, str]) -> bool:
    letterhead, title, parties, header = arrangement
    return letterhead in LETTERHEADS and title in TITLES and parties == PARTIES and header in HEADERS


def choose_slip_skeleton(rng: random.Random, split: str) -> Skeleton:
    """A skeleton of the split whose parts all fit into one narrow column."""
    skeleton = choose_skeleton(rng, split, _is_narrow)
    return replace(
        skeleton,
        totals="plain" if skeleton.totals == "across" else skeleton.totals,
        closing="one_column",
        footer=rng.choice(("centered", "stacked")),
        anchor="none",
    )


def slip_paper(rng: random.Random, dpi: int) -> tuple[float, float]:
    """Width and greatest height in pixels of paper 76 to 105 mm wide."""
    return rng.uniform(76, 105) / 25.4 * dpi, 297 / 25.4 * dpi


def slip_table(table: Table, skeleton: Skeleton, style: Style, width: float) -> Block:
    """Each row: the text cells from the left, and the other cells spread below them; rules are dashes."""
    face = style.body(bold=skeleton.table in ("boxed", "filled_header", "zebra"))
    dash = style.size / 3 if skeleton.table in ("underlined", "row_rules", "ruled") else 0.0
    line = Block(width, style.size * 0.6)
    line.rule(0, 0.3 * style.size, width, style.ink, style.rule, dash=dash)
    captions = [runs(style.caption(column.caption, colon=False), face, style.ink) for column in table.columns]
    rows = [_row(table, row, style, width) for row in table.rows]
    return stack([line, _two_lines(table, captions, style, width), line, *rows, line], width=width)


def _row(table: Table, row: Sequence[Sequence[Line]], style: Style, width: float) -> Block:
    cells = [[run for line in cell for run in runs(line, style.body(), style.ink)] for cell in row]
    return _two_lines(table, cells, style, width)


def _longest_column(table: Table) -> int:
    lengths = [
        sum(len(text.text) for row in table.rows for line in row[number] for text in line)
        for number in range(len(table.columns))
    ]
    return lengths.index(max(lengths))


def _two_lines(table: Table, cells: Sequence[list[Run]], style: Style, width: float) -> Block:
    """Cells up to the longest column, the description, make the first line, the rest the second."""
    split = _longest_column(table) + 1
    first = [run for cell in cells[:split] for run in cell]
    rest = [cell for cell in cells[split:] if cell]
    upper = flow(first, width, leading=style.leading)
    if sum(map(line_width, rest)) + style.size * len(rest) > width:
        return stack([upper, flow([run for cell in rest for run in cell], width, align="right")], width=width)
    indent = 0.12 * width if split else 0.0
    slack = (width - indent - sum(map(line_width, rest))) / max(1, len(rest) - 1)
    x = indent if len(rest) > 1 else width - sum(map(line_width, rest))
    placed = []
    for cell in rest:
        placed.append((flow(cell, line_width(cell) + 0.1, leading=style.leading), x))
        x += line_width(cell) + slack
    return stack([upper, beside(placed, width=width)], width=width)
