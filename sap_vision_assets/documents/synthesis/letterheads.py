"""Letterhead, parties and footer: who writes to whom."""

from collections.abc import Sequence

from sap_vision_assets.documents.synthesis.content import Line, Party
from sap_vision_assets.documents.synthesis.faces import font
from sap_vision_assets.documents.synthesis.logos import logo
from sap_vision_assets.documents.synthesis.styles import WHITE, Color, Style
from sap_vision_assets.documents.synthesis.typesetting import (
    EMPTY,
    Bar,
    Block,
    beside,
    extent,
    flow,
    framed,
    in_a_row,
    line_width,
    runs,
    stack,
)


def _name(party: Party, style: Style, width: float, align: str, color: Color) -> Block:
    """The sender's first line as a logotype."""
    if not party.lines:
        return EMPTY
    face = font(
        style.logo_family.heavy if style.logotype > 1 else style.family.bold, style.size * style.logotype
    )
    words = runs(party.lines[0], face, color)
    natural = line_width(words)
    if natural > width and natural < 1.6 * width:
        words = runs(party.lines[0], font(face.file, face.size * max(0.62, 0.99 * width / natural)), color)
    return flow(words, width, align=align, leading=1.15)


def _contact(lines: Sequence[Line], style: Style, width: float, align: str, color: Color) -> Block:
    face = style.body(share=style.contact_share)
    return stack(
        (flow(runs(line, face, color), width, align=align, leading=style.leading) for line in lines),
        width=width,
    )


def _emblem(style: Style, share: float, color: Color, ground: Color = WHITE) -> Block:
    return logo(style.logo_seed, share * style.size, color, ground) if style.has_logo else EMPTY


def _named(party: Party, style: Style, width: float, color: Color, ground: Color = WHITE) -> Block:
    """Emblem and name side by side, no wider than they need."""
    emblem = _emblem(style, 1.9 * style.logotype, color, ground)
    space = 0.6 * style.size if emblem.width else 0.0
    room = width - emblem.width - space
    name = _name(party, style, room, "left", color)
    return beside([(emblem, 0), (name, emblem.width + space)], width=width, align="middle")


def letterhead_block(party: Party, form: str, style: Style, width: float, corner: Block) -> Block:
    """The sender across the page's head; `corner` (a title, or EMPTY) takes a free side, if any."""
    rest = party.lines[1:]
    gap = 0.35 * style.size
    if form in ("logo_left_address_right", "logo_right_address_left"):
        mirrored = form == "logo_right_address_left"
        side = 0.36 * width
        contact = _contact(rest, style, side, "left" if mirrored else "right", style.ink)
        contact = stack([contact, corner], gap=gap, width=side)
        named = _named(party, style, 0.58 * width, style.accent)
        if mirrored:
            face_width = min(0.58 * width, max(extent(named), 0.2 * width))
            return beside([(contact, 0), (named, width - face_width)], width=width)
        return beside([(named, 0), (contact, width - side)], width=width)
    if form in ("stacked_left", "stacked_right", "stacked_center"):
        return _stacked(party, form.removeprefix("stacked_"), style, width, corner)
    if form == "banner":
        return _banner(party, style, width, corner)
    if form == "one_line":
        return _one_line(party, style, width, corner)
    named = _named(party, style, 0.6 * width if corner.height else width, style.accent)
    top = beside([(named, 0), (corner, width - corner.width)], width=width, align="bottom")
    rule = Block(width, 2 * style.rule + 2)
    rule.rule(0, 1, width, style.accent, 2 * style.rule)
    return stack([top, rule, _contact(rest, style, width, "left", style.ink)], gap=gap, width=width)


def _stacked(party: Party, align: str, style: Style, width: float, corner: Block) -> Block:
    side = 0.6 * width if corner.height and align != "center" else width
    parts = [
        _emblem(style, 1.6 * style.logotype + 1.2, style.accent),
        _name(party, style, side, align, style.accent),
        _contact(party.lines[1:], style, side, align, style.ink),
    ]
    whole = stack(parts, gap=0.3 * style.size, align=align, width=side)
    if align == "center":
        return stack([whole, corner], gap=style.size, align="center", width=width)
    if align == "right":
        return beside([(corner, 0), (whole, width - side)], width=width)
    return beside([(whole, 0), (corner, width - corner.width)], width=width)


def _banner(party: Party, style: Style, width: float, corner: Block) -> Block:
    """White on the accent colour, from margin to margin; the address stands below or at its right."""
    pad = 0.8 * style.size
    named = _named(party, style, 0.52 * width, WHITE, style.dark)
    contact = _contact(party.lines[1:], style, 0.4 * width - pad, "right", WHITE)
    inner = beside([(named, pad), (contact, 0.6 * width)], width=width, align="middle")
    banner = Block(width, inner.height + 2 * pad, [(0, 0, Bar(width, inner.height + 2 * pad, style.dark))])
    banner.put(inner, 0, pad)
    return stack([banner, corner], gap=style.size, align="right", width=width)


def _one_line(party: Party, style: Style, width: float, corner: Block) -> Block:
    """Name, then everything else on as few lines as it takes, with dots between the parts."""
    face = style.body(share=0.9 * style.contact_share)
    named = _named(party, style, 0.6 * width if corner.height else width, style.accent)
    top = beside([(named, 0), (corner, width - corner.width)], width=width, align="middle")
    parts = [runs(line, face, style.ink) for line in party.lines[1:]]
    return stack(
        [top, in_a_row(parts, width, space=1.1 * style.size, leading=style.leading, color=style.faint)],
        gap=0.4 * style.size,
        width=width,
    )


def _party(party: Party, style: Style, width: float, *, captioned: bool = True) -> Block:
    caption = (
        flow(
            runs(style.caption(party.caption), style.caption_font(), style.ink), width, leading=style.leading
        )
        if captioned and party.caption
        else EMPTY
    )
    return stack([caption, _party_lines(party, style, width)], width=width)


def _party_lines(party: Party, style: Style, width: float) -> Block:
    return stack(
        (flow(runs(line, style.body(), style.ink), width, leading=style.leading) for line in party.lines),
        width=width,
    )


def parties_block(parties: Sequence[Party], form: str, style: Style, width: float) -> Block:
    """Receiver, ship-to and the others, beside or below each other as `form` says."""
    if not parties:
        return EMPTY
    if form in ("beside_header", "header_first", "one_column"):
        return stack((_party(party, style, width) for party in parties), gap=0.8 * style.size, width=width)
    if form == "caption_left":
        side = 0.22 * width
        rows = [
            beside(
                [
                    (
                        flow(runs(style.caption(party.caption), style.caption_font(), style.ink), 0.9 * side),
                        0,
                    ),
                    (_party_lines(party, style, width - side), side),
                ],
                width=width,
            )
            for party in parties
        ]
        return stack(rows, gap=0.6 * style.size, width=width)
    per_row = 3 if form == "three_columns" else 2
    rows = [
        _party_row(parties[start : start + per_row], per_row, form, style, width)
        for start in range(0, len(parties), per_row)
    ]
    return stack(rows, gap=0.8 * style.size, width=width)


def _party_row(parties: Sequence[Party], per_row: int, form: str, style: Style, width: float) -> Block:
    space = 1.4 * style.size
    column = (width - space * (per_row - 1)) / per_row
    if form != "boxes":
        cells = [_party(party, style, column) for party in parties]
        return beside([(cell, number * (column + space)) for number, cell in enumerate(cells)], width=width)
    pad = 0.5 * style.size
    inner = [_party_lines(party, style, column - 2 * pad) for party in parties]
    tallest = max(block.height for block in inner)
    row = Block(width, 0)
    for number, (party, block) in enumerate(zip(parties, inner, strict=True)):
        x = number * (column + space)
        head = EMPTY
        if party.caption:
            words = runs(style.caption(party.caption, colon=False), style.caption_font(), style.ink)
            head = flow(words, column - 2 * pad, leading=style.leading)
            row.marks.append((x, 0, Bar(column, head.height + pad, style.tint, style.faint, style.rule)))
            row.put(head, x + pad, pad / 2)
        top = head.height + pad if head.height else 0.0
        row.marks.append((x, top, Bar(column, tallest + pad, None, style.faint, style.rule)))
        row.put(block, x + pad, top + pad / 2)
        row.height = max(row.height, top + tallest + pad)
    return row


def footer_block(columns: Sequence[Sequence[Line]], form: str, style: Style, width: float) -> Block:
    """Small print at the page's foot."""
    filled = [column for column in columns if column]
    if not filled:
        return EMPTY
    face = style.body(share=style.small)
    if form in ("centered", "stacked"):
        parts = [runs(line, face, style.ink) for column in filled for line in column]
        align = "center" if form == "centered" else "left"
        return in_a_row(parts, width, space=style.size, leading=1.2, color=style.faint, align=align)
    pad = 0.5 * style.size if form == "band" else 0.0
    space = style.size
    column_width = (width - 2 * pad - space * (len(filled) - 1)) / len(filled)
    cells = [
        stack(
            (flow(runs(line, face, style.ink), column_width, leading=1.25) for line in column),
            width=column_width,
        )
        for column in filled
    ]
    block = beside(
        [(cell, number * (column_width + space)) for number, cell in enumerate(cells)], width=width - 2 * pad
    )
    if form == "band":
        return framed(block, padding=pad, fill=style.tint)
    if form == "columns_ruled":
        line = Block(width, style.rule)
        line.rule(0, 0, width, style.faint, style.rule)
        return stack([line, block], gap=0.3 * style.size, width=width)
    return block
