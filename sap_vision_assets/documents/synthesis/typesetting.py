"""Blocks: measured pieces of a page that are stacked, set side by side, and painted at last.

A block knows its size before anything is drawn, so a page that does not fit can be set smaller. Marks
stand in reading order; all lengths are in pixels, origin at the block's top left.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image, ImageDraw

from sap_vision_assets.documents.synthesis.content import Line, Text
from sap_vision_assets.documents.synthesis.faces import Font, font
from sap_vision_assets.documents.synthesis.styles import Color
from sap_vision_assets.vocabulary import OUTSIDE

BASELINE = 0.36
"""Baseline below a line's middle, as a share of the font size: digits stand centred."""


@dataclass(frozen=True, slots=True)
class Run:
    """One word as it will be printed."""

    text: str
    label: str
    font: Font
    color: Color


@dataclass(frozen=True, slots=True)
class Placed:
    """A word at its baseline's left end."""

    run: Run


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled or outlined rectangle, or a rule when one side is thin."""

    width: float
    height: float
    fill: Color | None
    outline: Color | None = None
    thickness: float = 1.0
    dash: float = 0.0
    """Length of dashes and of the blanks between them; 0 is a solid rule."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Anything else: paints itself on the page at (x, y)."""

    paint: Callable[[Image.Image, float, float], None]


Mark = Placed | Bar | Drawing


@dataclass(slots=True)
class Block:
    width: float
    height: float
    marks: list[tuple[float, float, Mark]] = field(default_factory=list)

    def put(self, block: "Block", x: float, y: float) -> None:
        """Adds another block's marks at (x, y); the size stays as it is."""
        self.marks.extend((x + left, y + top, mark) for left, top, mark in block.marks)

    def rule(
        self,
        x: float,
        y: float,
        length: float,
        color: Color,
        thickness: float,
        *,
        upright: bool = False,
        dash: float = 0,
    ) -> None:
        width, height = (thickness, length) if upright else (length, thickness)
        self.marks.append((x, y, Bar(width, height, color, dash=dash)))


EMPTY = Block(0, 0)


def labelled_words(line: Line) -> list[tuple[str, str]]:
    """Words of a line with their labels; a Text that continues an entity goes on with I-."""
    words = []
    for text in line:
        for position, word in enumerate(text.text.split()):
            if text.field is None:
                words.append((word, OUTSIDE))
            else:
                words.append((word, ("I-" if position or text.continues else "B-") + text.field))
    return words


def runs(line: Line | str, face: Font, color: Color) -> list[Run]:
    """The line's words in one font and colour."""
    texts = (Text(text=line),) if isinstance(line, str) else line
    return [Run(word, label, face, color) for word, label in labelled_words(texts)]


def resized(words: Sequence[Run], share: float) -> list[Run]:
    return [
        Run(word.text, word.label, font(word.font.file, word.font.size * share), word.color) for word in words
    ]


def line_width(words: Sequence[Run]) -> float:
    """Width of the words on one line, blanks included."""
    if not words:
        return 0.0
    return sum(word.font.length(word.text) for word in words) + sum(word.font.space for word in words[1:])


def longest_word(words: Iterable[Run]) -> float:
    return max((word.font.length(word.text) for word in words), default=0.0)


def flow(
    words: Sequence[Run], width: float, *, align: str = "left", leading: float = 1.2, justified: bool = False
) -> Block:
    """The words broken into lines of at most `width`; set smaller when a single word is wider than that."""
    if not words:
        return Block(width, 0)
    longest = longest_word(words)
    while longest > width + 0.01 and words[0].font.size > 4.5:
        words = resized(words, max(0.6, min(0.97, width / longest)))
        longest = longest_word(words)
    lines: list[list[Run]] = [[]]
    used = 0.0
    for word in words:
        length = word.font.length(word.text)
        if lines[-1] and used + word.font.space + length > width + 0.01:
            lines.append([])
            used = 0.0
        used += length + (word.font.space if lines[-1] else 0.0)
        lines[-1].append(word)
    block = Block(width, 0)
    for number, line in enumerate(lines):
        size = max(word.font.size for word in line)
        height = size * leading
        slack = width - line_width(line)
        stretch = slack / (len(line) - 1) if justified and len(line) > 1 and number < len(lines) - 1 else 0.0
        x = {"left": 0.0, "center": slack / 2, "right": slack}[align] if not stretch else 0.0
        for word in line:
            block.marks.append((x, block.height + height / 2 + size * BASELINE, Placed(word)))
            x += word.font.length(word.text) + word.font.space + stretch
        block.height += height
    return block


def stack(
    blocks: Iterable[Block], *, gap: float = 0.0, align: str = "left", width: float | None = None
) -> Block:
    """Blocks below each other; blocks without height take no gap."""
    present = [block for block in blocks if block.height > 0]
    whole = Block(width if width is not None else max((block.width for block in present), default=0.0), 0)
    for number, block in enumerate(present):
        whole.height += gap if number else 0.0
        slack = whole.width - block.width
        whole.put(block, {"left": 0.0, "center": slack / 2, "right": slack}[align], whole.height)
        whole.height += block.height
    return whole


def beside(blocks: Sequence[tuple[Block, float]], *, width: float, align: str = "top") -> Block:
    """Blocks side by side, each at its own x; `align` is "top", "middle" or "bottom"."""
    whole = Block(width, max((block.height for block, _ in blocks), default=0.0))
    for block, x in blocks:
        slack = whole.height - block.height
        whole.put(block, x, {"top": 0.0, "middle": slack / 2, "bottom": slack}[align])
    return whole


def framed(
    block: Block,
    *,
    padding: float,
    outline: Color | None = None,
    fill: Color | None = None,
    thickness: float = 1.0,
) -> Block:
    """The block inside a box that is `padding` wider on each side."""
    whole = Block(block.width + 2 * padding, block.height + 2 * padding)
    whole.marks.append((0, 0, Bar(whole.width, whole.height, fill, outline, thickness)))
    whole.put(block, padding, padding)
    return whole


def in_a_row(
    parts: Sequence[list[Run]],
    width: float,
    *,
    space: float,
    leading: float,
    color: Color,
    align: str = "left",
) -> Block:
    """Short lines joined to long ones, with a thin upright rule between neighbours."""
    rows: list[list[list[Run]]] = [[]]
    used = 0.0
    for part in filter(None, parts):
        length = line_width(part)
        if rows[-1] and used + length > width:
            rows.append([])
            used = 0.0
        rows[-1].append(part)
        used += length + space
    blocks = []
    for row in filter(None, rows):
        natural = min(width, sum(map(line_width, row)) + space * (len(row) - 1))
        x = {"left": 0.0, "center": (width - natural) / 2, "right": width - natural}[align]
        block = Block(width, 0)
        for number, part in enumerate(row):
            piece = flow(part, min(line_width(part) + 1, width), leading=leading)
            if number:
                block.rule(x - space / 2, 0.2 * piece.height, 0.6 * piece.height, color, 1, upright=True)
            block.put(piece, x, 0)
            block.height = max(block.height, piece.height)
            x += line_width(part) + space
        blocks.append(block)
    return stack(blocks, width=width)


def extent(block: Block) -> float:
    """How far to the right the block's words reach."""
    ends = [x + mark.run.font.length(mark.run.text) for x, _, mark in block.marks if isinstance(mark, Placed)]
    return max(ends, default=0.0) + 1


def recolored(block: Block, color: Color) -> Block:
    """The block with all its words in one colour."""
    marks = [
        (x, y, Placed(replace(mark.run, color=color)) if isinstance(mark, Placed) else mark)
        for x, y, mark in block.marks
    ]
    return Block(block.width, block.height, marks)


@dataclass(frozen=True, slots=True)
class PrintedWord:
    text: str
    label: str
    box_px: tuple[float, float, float, float]
    """Left, top, right, bottom of the ink."""


def paint(block: Block, image: Image.Image, x: float, y: float) -> list[PrintedWord]:
    """Draws the block with its top left corner at (x, y); returns its words in reading order."""
    draw = ImageDraw.Draw(image)
    words: list[PrintedWord] = []
    for left, top, mark in block.marks:
        if isinstance(mark, Placed):
            words.append(_paint_word(draw, mark.run, x + left, y + top))
        elif isinstance(mark, Bar):
            _paint_bar(draw, mark, x + left, y + top)
        else:
            mark.paint(image, x + left, y + top)
    return words


def _paint_word(draw: ImageDraw.ImageDraw, run: Run, x: float, baseline: float) -> PrintedWord:
    box = run.font.draw(draw, x, round(baseline), run.text, run.color)
    return PrintedWord(run.text, run.label, box)


def _paint_bar(draw: ImageDraw.ImageDraw, bar: Bar, x: float, y: float) -> None:
    # Not round(): it rounds ties to even, so neighbours that meet at the page's centre would miss each other.
    left, top = int(x + 0.5), int(y + 0.5)
    right, bottom = max(left, int(x + bar.width + 0.5) - 1), max(top, int(y + bar.height + 0.5) - 1)
    if not bar.dash:
        draw.rectangle(
            (left, top, right, bottom), fill=bar.fill, outline=bar.outline, width=max(1, round(bar.thickness))
        )
        return
    step = max(2, round(bar.dash))
    for start in range(left, right, 2 * step):
        draw.rectangle((start, top, min(start + step - 1, right), bottom), fill=bar.fill)
