"""Header data and totals: the same captions and values in the forms in which documents show them."""

from collections.abc import Sequence

from sap_vision_assets.documents.synthesis.content import KeyValue
from sap_vision_assets.documents.synthesis.styles import WHITE, Style
from sap_vision_assets.documents.synthesis.typesetting import (
    EMPTY,
    Bar,
    Block,
    Run,
    beside,
    flow,
    in_a_row,
    line_width,
    longest_word,
    recolored,
    runs,
    stack,
)


def header_block(pairs: Sequence[KeyValue], form: str, style: Style, width: float) -> Block:
    """The document's numbers and dates, `width` wide at most."""
    if not pairs:
        return EMPTY
    if form in ("inline", "sentence"):
        parts = [[*_caption(pair, style), *_value(pair, style)] for pair in pairs]
        if form == "sentence":
            return in_a_row(parts, width, space=1.6 * style.size, leading=style.leading, color=style.faint)
        return stack((flow(part, width, leading=style.leading) for part in parts), gap=0.15 * style.size)
    if form in ("aligned", "aligned_right", "captions_right", "underlined"):
        return aligned(pairs, style, width, form=form)
    if form in ("grid", "two_columns"):
        return (_grid if form == "grid" else _two_columns)(pairs, style, width)
    return _cells(pairs, style, width, boxed=form != "above", captions_filled=form == "table_row")


def _caption(pair: KeyValue, style: Style, *, colon: bool = True, share: float = 1.0) -> list[Run]:
    color = style.ink if style.bold_captions else style.faint if share < 1 else style.ink
    return runs(style.caption(pair.caption, colon=colon), style.caption_font(share), color)


def _value(pair: KeyValue, style: Style) -> list[Run]:
    return runs(pair.value, style.body(bold=style.bold_values), style.ink)


def aligned(pairs: Sequence[KeyValue], style: Style, width: float, *, form: str = "aligned") -> Block:
    """Captions in one column, values in the next, on rules when `form` is "underlined"."""
    captions = [_caption(pair, style) for pair in pairs]
    values = [_value(pair, style) for pair in pairs]
    space = 0.9 * style.size
    widest_value = max(line_width(value) for value in values)
    widest = min(max(line_width(caption) for caption in captions), 0.62 * width)
    if widest + space + widest_value > width:
        longest = max(longest_word(value) for value in values)
        widest = max(min(widest, width - space - longest, 0.5 * width), 0.3 * width)
    room = width - widest - space
    room = min(room, widest_value * (1.25 if form == "underlined" else 1.0))
    whole = widest + space + room
    rows = []
    for caption, value in zip(captions, values, strict=True):
        left = flow(
            caption, widest, leading=style.leading, align="right" if form == "captions_right" else "left"
        )
        cell = flow(value, room, leading=style.leading, align="right" if form == "aligned_right" else "left")
        row = beside([(left, 0), (cell, widest + space)], width=whole)
        if form == "underlined":
            row.rule(widest + 0.5 * space, row.height, whole - widest - 0.5 * space, style.faint, 1)
            row.height += 0.25 * style.size
        rows.append(row)
    return stack(rows, gap=0.12 * style.size, width=whole)


def _two_columns(pairs: Sequence[KeyValue], style: Style, width: float) -> Block:
    if width < 30 * style.size:
        return aligned(pairs, style, width)
    half = (len(pairs) + 1) // 2
    column = (width - 2 * style.size) / 2
    columns = [(aligned(pairs[:half], style, column), 0.0)]
    if pairs[half:]:
        columns.append((aligned(pairs[half:], style, column), column + 2 * style.size))
    return beside(columns, width=width)


def _grid(pairs: Sequence[KeyValue], style: Style, width: float) -> Block:
    """A bordered table of two or four columns: caption, value, caption, value."""
    pad = max(2.0, style.padding * style.size)
    per_row = 2 if width > 36 * style.size and len(pairs) > 3 else 1
    column = width / per_row
    caption_width = min(
        0.55 * column,
        max(line_width(_caption(pair, style, colon=False)) for pair in pairs) + 2 * pad,
    )
    whole = Block(width, 0)
    for start in range(0, len(pairs), per_row):
        cells = []
        for pair in pairs[start : start + per_row]:
            cells.append(
                flow(_caption(pair, style, colon=False), caption_width - 2 * pad, leading=style.leading)
            )
            cells.append(flow(_value(pair, style), column - caption_width - 2 * pad, leading=style.leading))
        height = max(cell.height for cell in cells) + pad
        for number, cell in enumerate(cells):
            x = (number // 2) * column + (caption_width if number % 2 else 0)
            cell_width = column - caption_width if number % 2 else caption_width
            fill = None if number % 2 else style.tint
            whole.marks.append(
                (x, whole.height, Bar(cell_width + 1, height + 1, fill, style.faint, style.rule))
            )
            whole.put(cell, x + pad, whole.height + pad / 2)
        whole.height += height
    whole.height += style.rule
    return whole


def _cells(
    pairs: Sequence[KeyValue], style: Style, width: float, *, boxed: bool, captions_filled: bool
) -> Block:
    """Captions above their values, as many side by side as have room."""
    pad = max(2.0, style.padding * style.size)
    needs = [
        max(
            line_width(_caption(pair, style, colon=False, share=style.small)), line_width(_value(pair, style))
        )
        + 2 * pad
        + 0.6 * style.size
        for pair in pairs
    ]
    per_row = max(1, min(len(pairs), int(width / max(*needs, 1.0)), 6))
    rows = -(-len(pairs) // per_row)
    per_row = -(-len(pairs) // rows)
    whole = Block(width, 0)
    for start in range(0, len(pairs), per_row):
        group = pairs[start : start + per_row]
        # The table form reads row by row: all captions, then all values. Cells read caption, value.
        block = (_filled_row if captions_filled else _cell_row)(
            group, style, width, width / per_row, pad, boxed=boxed
        )
        whole.put(block, 0, whole.height)
        whole.height += block.height + (0 if boxed else 0.3 * style.size)
    return whole


def _cell_row(
    pairs: Sequence[KeyValue], style: Style, width: float, column: float, pad: float, *, boxed: bool
) -> Block:
    inset = pad if boxed else 0.0
    cells = [
        stack(
            [
                flow(
                    _caption(pair, style, colon=False, share=style.small),
                    column - 2 * pad,
                    leading=style.leading,
                ),
                flow(_value(pair, style), column - 2 * pad, leading=style.leading),
            ],
            width=column - 2 * pad,
        )
        for pair in pairs
    ]
    row = Block(width, max(cell.height for cell in cells) + (pad if boxed else 0))
    for number, cell in enumerate(cells):
        if boxed:
            row.marks.append(
                (number * column, 0, Bar(column + 1, row.height + 1, None, style.faint, style.rule))
            )
        row.put(cell, number * column + inset, pad / 2 if boxed else 0)
    return row


def _filled_row(
    pairs: Sequence[KeyValue], style: Style, width: float, column: float, pad: float, *, boxed: bool
) -> Block:
    captions = [
        flow(
            runs(style.caption(pair.caption, colon=False), style.caption_font(style.small), style.ink),
            column - 2 * pad,
            leading=style.leading,
            align="center",
        )
        for pair in pairs
    ]
    values = [
        flow(_value(pair, style), column - 2 * pad, leading=style.leading, align="center") for pair in pairs
    ]
    top = max(cell.height for cell in captions) + pad
    row = Block(width, top + max(cell.height for cell in values) + pad)
    for number, caption in enumerate(captions):
        if boxed:
            row.marks.append(
                (number * column, 0, Bar(column + 1, top + 1, style.tint, style.faint, style.rule))
            )
        row.put(caption, number * column + pad, pad / 2)
    for number, value in enumerate(values):
        if boxed:
            outline = Bar(column + 1, row.height - top + 1, None, style.faint, style.rule)
            row.marks.append((number * column, top, outline))
        row.put(value, number * column + pad, top + pad / 2)
    return row


def totals_block(pairs: Sequence[KeyValue], form: str, style: Style, width: float) -> Block:
    """Sums below the table, at the right of `width`; "across" shows them side by side."""
    if not pairs:
        return EMPTY
    if form == "across" and 2 <= len(pairs) <= 5:
        return _cells(pairs, style, width, boxed=True, captions_filled=True)
    pad = max(2.0, style.padding * style.size)
    captions = [_total_runs(pair, style, last=pair is pairs[-1])[0] for pair in pairs]
    values = [_total_runs(pair, style, last=pair is pairs[-1])[1] for pair in pairs]
    natural = max(map(line_width, captions)) + max(map(line_width, values)) + 3.5 * style.size
    narrow = min(width, max(natural, 0.36 * width))
    block = Block(width, 0)
    x = width - narrow
    value_width = max(map(line_width, values)) + 1
    for number, (caption, value) in enumerate(zip(captions, values, strict=True)):
        last = number == len(pairs) - 1
        left = flow(
            caption, max(narrow - value_width - style.size - 2 * pad, 4 * style.size), leading=style.leading
        )
        right = flow(value, min(value_width, narrow - 4 * style.size), leading=style.leading, align="right")
        height = max(left.height, right.height) + (0.5 if form in ("boxed", "filled_last") else 0.25) * pad
        if form == "boxed":
            outline = Bar(narrow, height + 1, style.tint if last else None, style.faint, style.rule)
            block.marks.append((x, block.height, outline))
        elif form == "filled_last" and last:
            block.marks.append((x, block.height, Bar(narrow, height, style.dark)))
            left, right = (recolored(part, WHITE) for part in (left, right))
        elif form == "ruled" and (last or number == 0):
            block.rule(x, block.height, narrow, style.ink, style.rule)
        inner = (height - max(left.height, right.height)) / 2
        block.put(left, x + pad, block.height + inner)
        block.put(right, x + narrow - pad - right.width, block.height + inner)
        if form == "leaders":
            start = x + pad + line_width(caption) + 0.5 * style.size
            end = x + narrow - pad - line_width(value) - 0.5 * style.size
            if end > start and left.height <= 1.5 * style.size * style.leading:
                block.rule(start, block.height + 0.85 * height, end - start, style.faint, 1, dash=2)
        block.height += height
    if form == "ruled":
        block.rule(x, block.height + 1, narrow, style.ink, style.rule)
        block.rule(x, block.height + 2 + 2 * style.rule, narrow, style.ink, style.rule)
        block.height += 3 + 3 * style.rule
    return block


def _total_runs(pair: KeyValue, style: Style, *, last: bool) -> tuple[list[Run], list[Run]]:
    face = style.body(bold=last and style.bold_last_total)
    return runs(style.caption(pair.caption), face, style.ink), runs(pair.value, face, style.ink)
