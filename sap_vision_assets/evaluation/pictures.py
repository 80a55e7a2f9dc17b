"""Pictures of a report: confusion matrices, and pages with what was found, wrong and missed on them."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sap_vision_assets.evaluation.entities import Entity, overlaps
from sap_vision_assets.evaluation.metrics import ClassificationScores
from sap_vision_assets.evaluation.outcomes import DocumentOutcome

INK, MUTED = "#1c2733", "#7a8794"
CORRECT, WRONG, MISSED = (26, 127, 75), (200, 38, 44), (214, 116, 0)
PAGE_WIDTH_PX = 1400
PAGE_HEIGHT_MAX_PX = 2240
"""Of a narrow receipt, which is then less wide: its tags would vanish beside its print."""
TAG_FONT_PX = 13
ITEM = "item."
"""Short for "lineItem." where space is scarce."""
MARGIN_PX = 60
"""White that stays around the words where the page is cut to them."""
THUMBNAIL_BYTES_MAX = 70_000
"""Dagster's event log wants metadata under about 100 kB, and base64 adds a third."""

Box = tuple[int, int, int, int]


class _Mark(NamedTuple):
    boxes: list[Box]
    """px, one a printed line."""
    text: str
    """"" where another mark tells it."""
    colour: tuple[int, int, int]


def draw_confusion(scores: ClassificationScores, title: str, file: Path) -> None:
    """PNG of the confusion matrix: rows are the truth, colours shares of the row, numbers documents.

    Classes that neither occur nor were predicted are left out, and counted in the subtitle.
    """
    confusion = np.array(scores.confusion)
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    # Inches: 35 classes stay legible on a page about 10 inches wide, and few classes are no giants.
    side = max(4.5, min(0.36, 7.2 / max(1, len(shown))) * len(shown) + 2.6)
    figure = Figure(figsize=(side, side), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("predicted", color=MUTED, fontsize=9)
    axes.set_ylabel("truth, with the number of documents", color=MUTED, fontsize=9)
    axes.set_title(_confusion_title(scores, title, len(shown)), loc="left", fontsize=10.5, color=INK)
    if len(shown):
        _draw_cells(axes, confusion[np.ix_(shown, shown)], [scores.per_class[index].name for index in shown])
    else:
        axes.set(xticks=[], yticks=[])
    figure.savefig(file, metadata={"Software": None})


def _draw_cells(axes: Axes, cells: NDArray[np.int64], names: Sequence[str]) -> None:
    support = cells.sum(axis=1)
    share = cells / np.maximum(support, 1)[:, None]
    blues = LinearSegmentedColormap.from_list("report", ["#ffffff", "#bcd7f0", "#2f6fb0", "#0f3d6e"])
    axes.imshow(share, cmap=blues, vmin=0, vmax=1)
    size = 8.5 if len(names) <= 20 else 7
    ticks = range(len(names))
    rows = [f"{name}  {n}" for name, n in zip(names, support, strict=True)]
    axes.set_xticks(ticks, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=size, color=INK)
    axes.set_yticks(ticks, rows, fontsize=size, color=INK)
    for row, column in zip(*np.nonzero(cells), strict=True):
        is_right = row == column
        colour = "white" if share[row, column] > 0.55 else INK if is_right else "#b3261e"
        style: dict[str, Any] = {
            "fontsize": size,
            "color": colour,
            "weight": "normal" if is_right else "bold",
        }
        axes.text(column, row, cells[row, column], ha="center", va="center", **style)
    axes.set_xticks(np.arange(-0.5, len(names)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(names)), minor=True)
    axes.grid(which="minor", color="#e6ebf0", linewidth=0.8)


def _confusion_title(scores: ClassificationScores, title: str, num_shown: int) -> str:
    if scores.accuracy is None:
        return f"{title}\nundefined, n=0"
    absent = len(scores.per_class) - num_shown
    text = f"{title}\naccuracy {100 * scores.accuracy:.1f} % on {scores.num_scored} documents"
    return text + (f", {absent} of {len(scores.per_class)} classes do not occur" if absent else "")


def draw_page(
    page: Image.Image, boxes: Sequence[Box], outcome: DocumentOutcome, field_names: Sequence[str]
) -> Image.Image:
    """The page, RGB, with correct entities green, wrong ones red, missed ones orange, each with its field.

    In a table column of correct entities of one field only the topmost bears the name. What is below the last
    word is cut off.

    `boxes` are the words' boxes, norm1000.
    """
    scale = min(PAGE_WIDTH_PX / page.width, PAGE_HEIGHT_MAX_PX / page.height)
    width, height = max(1, round(page.width * scale)), max(1, round(page.height * scale))
    canvas = page.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    words_px = [
        (x1 * width // 1000, y1 * height // 1000, x2 * width // 1000, y2 * height // 1000)
        for x1, y1, x2, y2 in boxes
    ]
    marks = _marks(outcome, words_px, field_names)
    veil = Image.new("RGBA", canvas.size, (255, 255, 255, 0))
    pen = ImageDraw.Draw(veil)
    for mark in marks:
        for x1, y1, x2, y2 in mark.boxes:
            pen.rectangle(
                (x1 - 3, y1 - 3, x2 + 3, y2 + 3),
                fill=(*mark.colour, 34),
                outline=(*mark.colour, 255),
                width=2,
            )
    _draw_tags(pen, marks, words_px, canvas.size)
    drawn = Image.alpha_composite(canvas.convert("RGBA"), veil).convert("RGB")
    bottom = max((y2 for *_, y2 in words_px), default=height) + MARGIN_PX
    return drawn.crop((0, 0, width, min(height, bottom)))


def _marks(outcome: DocumentOutcome, words_px: Sequence[Box], field_names: Sequence[str]) -> list[_Mark]:
    def name(entity: Entity) -> str:
        return re.sub("^lineItem[.]", ITEM, field_names[entity.field])

    def mark(entity: Entity, text: str, colour: tuple[int, int, int]) -> _Mark:
        return _Mark(_lines(words_px[entity.start : entity.end]), text, colour)

    correct = [mark(found.entity, name(found.entity), CORRECT) for found in outcome.correct]
    missed, spurious, told = [], [], set()
    for entity, _ in outcome.spurious:
        touching = [other for other in outcome.missed if overlaps(entity, other)]
        told.update(touching)
        same_field = any(other.field == entity.field for other in touching)
        reason = (
            ": wrong words" if same_field else f", is {name(touching[0])}" if touching else ": not labelled"
        )
        spurious.append(mark(entity, name(entity) + reason, WRONG))
    for entity in outcome.missed:
        missed.append(mark(entity, "" if entity in told else f"missed: {name(entity)}", MISSED))
    # Errors last: they are drawn over what is correct.
    return [
        *(one._replace(text="") if _is_below_its_like(one, correct) else one for one in correct),
        *missed,
        *spurious,
    ]


def _is_below_its_like(mark: _Mark, marks: Sequence[_Mark]) -> bool:
    """Whether another mark of the same line item field stands above, in the same column of the table."""
    x1, y1, x2, _ = mark.boxes[0]
    return mark.text.startswith(ITEM) and any(
        other.text == mark.text and top < y1 and left < x2 and x1 < right
        for other in marks
        for left, top, right, _ in other.boxes[:1]
    )


def _lines(boxes: Sequence[Box]) -> list[Box]:
    """One box per printed line: words whose middle is within the line's height belong to it."""
    lines: list[Box] = []
    for x1, y1, x2, y2 in boxes:
        if lines and lines[-1][1] <= (y1 + y2) / 2 <= lines[-1][3] and x2 >= lines[-1][0]:
            last = lines[-1]
            lines[-1] = (min(last[0], x1), min(last[1], y1), max(last[2], x2), max(last[3], y2))
        else:
            lines.append((x1, y1, x2, y2))
    return lines


def _draw_tags(
    pen: ImageDraw.ImageDraw, marks: Sequence[_Mark], words_px: Sequence[Box], size: tuple[int, int]
) -> None:
    """Names beside the boxes, each where it hides least, marked words least of all: errors choose first."""
    font = ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf"), TAG_FONT_PX
    )
    words = np.array(words_px, np.int64).reshape(-1, 4)
    marked = np.array([box for mark in marks for box in mark.boxes], np.int64).reshape(-1, 4)
    taken = np.zeros((0, 4), np.int64)
    for mark in (mark for mark in reversed(marks) if mark.text):
        tag_width, tag_height = round(pen.textlength(mark.text, font=font)) + 8, TAG_FONT_PX + 5
        x1, y1, x2, _ = mark.boxes[0]
        bottom = mark.boxes[-1][3]
        corners = [
            (x1 - 3, y1 - 3 - tag_height),
            (x2 + 4, y1 - 1),
            (x1 - 3, bottom + 3),
            (x1 - 4 - tag_width, y1 - 1),
            (x2 + 3 - tag_width, y1 - 3 - tag_height),
            (x1 - 3, y1 - 3 - 2 * tag_height),
            (x2 + 3 - tag_width, y1 - 3 - 2 * tag_height),
        ]
        places = np.array(
            [
                (left, top, left + tag_width, top + tag_height)
                for left, top in (
                    (min(max(0, x), size[0] - tag_width), min(max(0, y), size[1] - tag_height))
                    for x, y in corners
                )
            ]
        )
        cost = 4 * _overlap(places, taken) + _overlap(places, words) + 3 * _overlap(places, marked)
        place = places[int(cost.argmin())]
        taken = np.vstack([taken, place])
        pen.rounded_rectangle(tuple(place.tolist()), radius=3, fill=(*mark.colour, 225))
        pen.text((int(place[0]) + 4, int(place[1]) + 1), mark.text, font=font, fill=(255, 255, 255, 255))


def _overlap(places: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """px² that each place shares with all others together."""
    if not len(others):
        return np.zeros(len(places), np.int64)
    low = np.maximum(places[:, None, :2], others[None, :, :2])
    high = np.minimum(places[:, None, 2:], others[None, :, 2:])
    shared: NDArray[np.int64] = np.clip(high - low, 0, None).prod(axis=-1).sum(axis=1)
    return shared


def thumbnail(file: Path, *, max_bytes: int = THUMBNAIL_BYTES_MAX) -> bytes:
    """A JPEG of the picture below `max_bytes`, as large as that allows."""
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    for side, quality in ((1000, 82), (1000, 70), (800, 70), (640, 65), (480, 60), (320, 50)):
        small = picture.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        encoded = jpeg(small, quality)
        if len(encoded) < max_bytes:
            break
    return encoded


def jpeg(picture: Image.Image, quality: int) -> bytes:
    """The picture as a JPEG file's bytes."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()
