"""Tables: column widths that keep amounts on one line, wrapped descriptions, and the rules around the cells."""

from collections.abc import Sequence
from dataclasses import dataclass

from sap_vision_assets.documents.synthesis.content import Table
from sap_vision_assets.documents.synthesis.styles import WHITE, Style
from sap_vision_assets.documents.synthesis.typesetting import (
    EMPTY,
    Bar,
    Block,
    Run,
    flow,
    line_width,
    longest_word,
    runs,
    stack,
)

LEAST_SHARE = 0.55
"""Of the body's size: smaller type is no table that anybody prints."""


@dataclass(slots=True)
class _Cells:
    """A table's words, before they are broken into lines."""

    captions: list[list[Run]]
    rows: list[list[list[list[Run]]]]
    """Row, column, line, word."""


def table_block(table: Table, form: str, style: Style, width: float, filling: float = 0.0) -> Block:
    """The table over the whole `width`, set smaller until its columns have room.

    `filling` pixels of empty rows follow the last row of the boxed forms, as preprinted pages have them.
    """
    if not table.columns:
        return EMPTY
    share = 1.0
    while True:
        cells = _cells(table, form, style, share)
        pad = max(2.0, 0.8 * style.padding * style.size)
        widths = _column_widths(table, cells, width, pad, share)
        if widths is not None:
            return _draw(table, cells, form, style, widths, pad, filling)
        share *= 0.94


def _cells(table: Table, form: str, style: Style, share: float) -> _Cells:
    filled = form in ("filled_header", "zebra")
    face = style.body(bold=True, share=share * (0.9 if style.small < 0.82 else 1.0))
    color = WHITE if filled else style.ink
    return _Cells(
        captions=[runs(style.caption(column.caption, colon=False), face, color) for column in table.columns],
        rows=[
            [[runs(line, style.body(share=share), style.ink) for line in cell] for cell in row]
            for row in table.rows
        ],
    )


def _column_widths(table: Table, cells: _Cells, width: float, pad: float, share: float) -> list[float] | None:
    """None when the columns cannot get what they need at this size."""
    needs: list[float] = []
    wishes: list[float] = []
    for number, column in enumerate(table.columns):
        lines = [line for row in cells.rows for line in row[number]]
        longest = max([longest_word(line) for line in lines] + [longest_word(cells.captions[number])])
        natural = max([line_width(line) for line in lines] + [line_width(cells.captions[number])])
        widest_line = max([line_width(line) for line in lines], default=0.0)
        # Amounts and short codes stay on one line while the type is large enough.
        keep = widest_line if column.align != "left" or widest_line < 0.14 * width else 0.0
        needs.append(max(longest, keep if share > 0.8 else 0.0) + 2 * pad)
        wishes.append(natural + 2 * pad)
    missing = width - sum(needs)
    if missing < 0:
        # Below this size a word is set smaller on its own.
        return None if share > LEAST_SHARE else [width * need / sum(needs) for need in needs]
    extra = [max(0.0, wish - need) for wish, need in zip(wishes, needs, strict=True)]
    if sum(extra) >= missing:
        return [need + missing * part / sum(extra) for need, part in zip(needs, extra, strict=True)]
    rest = width - sum(needs) - sum(extra)
    weights = [column.weight for column in table.columns]
    return [
        need + part + rest * weight / sum(weights)
        for need, part, weight in zip(needs, extra, weights, strict=True)
    ]


def _row(cells: Sequence[Block], widths: Sequence[float], pad: float, gap: float) -> Block:
    row = Block(sum(widths), max((cell.height for cell in cells), default=0.0) + 2 * gap)
    x = 0.0
    for cell, width in zip(cells, widths, strict=True):
        row.put(cell, x + pad, gap)
        x += width
    return row


def _draw(
    table: Table, cells: _Cells, form: str, style: Style, widths: list[float], pad: float, filling: float
) -> Block:
    whole = Block(sum(widths), 0)
    gap = (0.45 if form in ("boxed", "zebra", "filled_header") else 0.3) * pad + 1
    thick = style.rule * (2 if form == "ruled" else 1)
    header = _row(
        [
            flow(caption, width - 2 * pad, align=column.align, leading=style.leading)
            for caption, width, column in zip(cells.captions, widths, table.columns, strict=True)
        ],
        widths,
        pad,
        gap,
    )
    if form in ("filled_header", "zebra"):
        whole.marks.append((0, 0, Bar(whole.width, header.height, style.dark)))
    elif form == "boxed":
        whole.marks.append((0, 0, Bar(whole.width, header.height, style.tint)))
    edges = [0.0]
    if form in ("ruled", "double_rules"):
        whole.rule(0, 0, whole.width, style.ink, thick)
    whole.put(header, 0, 0)
    whole.height = header.height
    edges.append(whole.height)
    for number, row in enumerate(cells.rows):
        blocks = [
            stack(
                [flow(line, width - 2 * pad, align=column.align, leading=style.leading) for line in cell],
                width=width - 2 * pad,
            )
            for cell, width, column in zip(row, widths, table.columns, strict=True)
        ]
        block = _row(blocks, widths, pad, gap)
        if form == "zebra" and number % 2:
            whole.marks.append((0, whole.height, Bar(whole.width, block.height, style.tint)))
        whole.put(block, 0, whole.height)
        whole.height += block.height
        edges.append(whole.height)
    if form in ("boxed", "vertical_rules") and filling:
        whole.height += filling
        edges.append(whole.height)
    _rules(whole, form, style, widths, edges, thick)
    whole.height += 2 * style.rule
    return whole


def _rules(
    whole: Block, form: str, style: Style, widths: Sequence[float], edges: Sequence[float], thick: float
) -> None:
    if form in ("ruled", "underlined", "double_rules", "vertical_rules"):
        whole.rule(0, edges[1] - 1, whole.width, style.ink, thick)
    if form == "double_rules":
        whole.rule(0, edges[1] + 1 + thick, whole.width, style.ink, thick)
    if form in ("ruled", "double_rules"):
        whole.rule(0, edges[-1], whole.width, style.ink, thick)
    if form in ("row_rules", "filled_header", "boxed"):
        for edge in edges[1:]:
            whole.rule(0, edge - 1, whole.width, style.faint, style.rule, dash=0)
    if form in ("boxed", "vertical_rules"):
        whole.marks.append((0, 0, Bar(whole.width, edges[-1] + 1, None, style.faint, style.rule)))
        x = 0.0
        for width in widths[:-1]:
            x += width
            whole.rule(x, 0, edges[-1], style.faint, style.rule, upright=True)
