"""Tables: column widths that keep amounts on one line, wrapped descriptions, rules around the cells."""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
FILLED = ("filled_header", "zebra")
RULED_OFF = ("ruled", "double_rules")
UPRIGHT = ("boxed", "vertical_rules")


@dataclass(slots=True)
class _Cells:
    """A table's words at one size, before they are broken into lines."""

    captions: list[list[Run]]
    rows: list[list[list[list[Run]]]]
    """Row, column, line, word."""


@dataclass(slots=True)
class _Grid:
    """Where a table's columns and rows lie, and how it looks."""

    form: str
    style: Style
    aligns: list[str]
    widths: list[float]
    pad: float
    """Left and right of a cell's text."""
    edges: list[float] = field(default_factory=lambda: [0.0])
    """Upper edge of the header, then the lower edge of every row."""

    @property
    def gap(self) -> float:
        """Above and below a cell's text."""
        return (0.45 if self.form in ("boxed", *FILLED) else 0.3) * self.pad + 1

    def row(self, cells: Sequence[Sequence[Sequence[Run]]]) -> Block:
        """One row: column, line, word."""
        leading = self.style.leading
        row = Block(sum(self.widths), 0)
        x = 0.0
        for lines, width, align in zip(cells, self.widths, self.aligns, strict=True):
            room = width - 2 * self.pad
            cell = stack((flow(line, room, align=align, leading=leading) for line in lines), width=room)
            row.put(cell, x + self.pad, self.gap)
            row.height = max(row.height, cell.height + 2 * self.gap)
            x += width
        return row


def table_block(table: Table, form: str, style: Style, width: float, filling: float = 0.0) -> Block:
    """The table over the whole `width`, set smaller until its columns have room.

    `filling` pixels of empty rows follow the last row where rules are upright, as on preprinted paper.
    """
    if not table.columns:
        return EMPTY
    pad = max(2.0, 0.8 * style.padding * style.size)
    share = 1.0
    while True:
        cells = _cells(table, form, style, share)
        widths = _column_widths(table, cells, width, pad, share)
        if widths is not None:
            aligns = [column.align for column in table.columns]
            return _draw(cells, _Grid(form, style, aligns, widths, pad), filling)
        share *= 0.94


def _cells(table: Table, form: str, style: Style, share: float) -> _Cells:
    head = style.body(bold=True, share=share * (0.9 if style.small < 0.82 else 1.0))
    body = style.body(share=share)
    color = WHITE if form in FILLED else style.ink
    return _Cells(
        captions=[runs(style.caption(column.caption, colon=False), head, color) for column in table.columns],
        rows=[[[runs(line, body, style.ink) for line in cell] for cell in row] for row in table.rows],
    )


def _column_widths(table: Table, cells: _Cells, width: float, pad: float, share: float) -> list[float] | None:
    """None when the columns cannot get what they need at this size."""
    needs: list[float] = []
    extras: list[float] = []
    for number, column in enumerate(table.columns):
        lines = [cells.captions[number], *(line for row in cells.rows for line in row[number])]
        widest = max(map(line_width, lines))
        # Amounts and short codes stay on one line while the type is large enough; captions may break.
        keep = max(map(line_width, lines[1:]), default=0.0)
        breaks = share <= 0.8 or (column.align == "left" and keep >= 0.14 * width)
        need = max(0.0 if breaks else keep, *map(longest_word, lines))
        needs.append(need + 2 * pad)
        extras.append(max(0.0, widest - need))
    spare = width - sum(needs)
    if spare < 0:
        # Below this size a word is set smaller on its own.
        return None if share > LEAST_SHARE else [width * need / sum(needs) for need in needs]
    if sum(extras) >= spare:
        return [need + spare * extra / sum(extras) for need, extra in zip(needs, extras, strict=True)]
    weights = [column.weight for column in table.columns]
    rest = (spare - sum(extras)) / sum(weights)
    return [need + extra + rest * weight for need, extra, weight in zip(needs, extras, weights, strict=True)]


def _draw(cells: _Cells, grid: _Grid, filling: float) -> Block:
    whole = Block(sum(grid.widths), 0)
    header = grid.row([[caption] for caption in cells.captions])
    if grid.form in FILLED or grid.form == "boxed":
        fill = grid.style.dark if grid.form in FILLED else grid.style.tint
        whole.marks.append((0, 0, Bar(whole.width, header.height, fill)))
    whole.put(header, 0, 0)
    whole.height = header.height
    grid.edges.append(whole.height)
    for number, row in enumerate(cells.rows):
        block = grid.row(row)
        if grid.form == "zebra" and number % 2:
            whole.marks.append((0, whole.height, Bar(whole.width, block.height, grid.style.tint)))
        whole.put(block, 0, whole.height)
        whole.height += block.height
        grid.edges.append(whole.height)
    if grid.form in UPRIGHT and filling:
        whole.height += filling
        grid.edges.append(whole.height)
    _rules(whole, grid)
    whole.height += 2 * grid.style.rule
    return whole


def _rules(whole: Block, grid: _Grid) -> None:
    form, style, edges = grid.form, grid.style, grid.edges
    thick = style.rule * (2 if form == "ruled" else 1)
    if form in ("underlined", "vertical_rules", *RULED_OFF):
        whole.rule(0, edges[1] - 1, whole.width, style.ink, thick)
    if form == "double_rules":
        whole.rule(0, edges[1] + 1 + thick, whole.width, style.ink, thick)
    if form in RULED_OFF:
        whole.rule(0, 0, whole.width, style.ink, thick)
        whole.rule(0, edges[-1], whole.width, style.ink, thick)
    if form in ("row_rules", "filled_header", "boxed"):
        for edge in edges[1:]:
            whole.rule(0, edge - 1, whole.width, style.faint, style.rule)
    if form in UPRIGHT:
        whole.marks.append((0, 0, Bar(whole.width, edges[-1] + 1, None, style.faint, style.rule)))
        x = 0.0
        for width in grid.widths[:-1]:
            x += width
            whole.rule(x, 0, edges[-1], style.faint, style.rule, upright=True)
