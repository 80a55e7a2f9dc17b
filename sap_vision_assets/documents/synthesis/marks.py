"""Marks that are drawn, not set: rubber stamps, signatures and barcodes."""

import math
import random
from itertools import pairwise

from barcode.codex import Code128
from PIL import Image, ImageDraw

from sap_vision_assets.documents.synthesis.content import Text
from sap_vision_assets.documents.synthesis.faces import Font
from sap_vision_assets.documents.synthesis.styles import Color, Style
from sap_vision_assets.documents.synthesis.typesetting import (
    BASELINE,
    Block,
    Drawing,
    PrintedWord,
    flow,
    runs,
    stack,
)
from sap_vision_assets.vocabulary import OUTSIDE

SUPERSAMPLING = 3


def stamp(text: str, rng: random.Random, face: Font, color: Color) -> tuple[Image.Image, list[PrintedWord]]:
    """A rubber stamp, an RGBA picture turned by some degrees; its words, relative to its top left corner."""
    lines = _stamp_lines(text.split(), rng)
    size = face.size
    height = round(len(lines) * 1.3 * size + 1.0 * size)
    width = round(
        max(sum(map(face.length, line)) + (len(line) - 1) * face.space for line in lines) + 1.6 * size
    )
    tile = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(tile)
    thickness = max(1, round(size / 9))
    draw.rounded_rectangle(
        (0, 0, width - 1, height - 1), rng.choice((0, size / 2)), outline=255, width=thickness
    )
    boxes = []
    for number, line in enumerate(lines):
        x = (width - sum(map(face.length, line)) - (len(line) - 1) * face.space) / 2
        baseline = round(0.5 * size + (number + 0.5) * 1.3 * size + BASELINE * size)
        for word in line:
            boxes.append((word, face.draw(draw, x, baseline, word, 255)))
            x += face.length(word) + face.space
    angle = rng.choice((-1, 1)) * rng.uniform(0.5, 9)
    turned = tile.rotate(angle, expand=True, resample=Image.Resampling.BILINEAR)
    opacity = rng.uniform(0.6, 0.9)
    picture = Image.new("RGBA", turned.size, (*color, 0))
    picture.putalpha(turned.point([round(value * opacity) for value in range(256)]))
    words = []
    for word, box in boxes:
        corners = [(box[i], box[j]) for i in (0, 2) for j in (1, 3)]
        points = [_turn(px, py, tile.size, turned.size, angle) for px, py in corners]
        xs, ys = zip(*points, strict=True)
        words.append(PrintedWord(word, OUTSIDE, (min(xs), min(ys), max(xs), max(ys))))
    return picture, words


def _stamp_lines(words: list[str], rng: random.Random) -> list[list[str]]:
    if len(words) > 2 and rng.random() < 0.8:
        return [words[:1], words[1:]]
    return [words]


def _turn(
    x: float, y: float, before: tuple[int, int], after: tuple[int, int], degrees: float
) -> tuple[float, float]:
    """Where a point goes when PIL rotates a picture counter-clockwise about its centre and lets it grow."""
    angle = math.radians(degrees)
    dx, dy = x - before[0] / 2, y - before[1] / 2
    return (
        after[0] / 2 + dx * math.cos(angle) + dy * math.sin(angle),
        after[1] / 2 - dx * math.sin(angle) + dy * math.cos(angle),
    )


def signature(seed: int, width: float, height: float, color: Color) -> Block:
    """A pen's stroke that looks written; the same seed writes the same name at every size."""
    rng = random.Random(seed)
    points = _pen_path(rng, width, height)
    weight = height * rng.uniform(0.016, 0.026)

    def paint(image: Image.Image, x: float, y: float) -> None:
        scale = SUPERSAMPLING
        tile = Image.new("L", (round(width * scale), round(height * scale)), 0)
        draw = ImageDraw.Draw(tile)
        for (x1, y1), (x2, y2) in pairwise(points):
            # A nib is broad on the way down and thin on the way up.
            down = (y2 - y1) / (math.hypot(x2 - x1, y2 - y1) + 1e-6)
            pen = weight * scale * (1.5 + 0.7 * down)
            draw.line((x1 * scale, y1 * scale, x2 * scale, y2 * scale), fill=235, width=max(1, round(pen)))
        small = tile.resize((round(width), round(height)), Image.Resampling.BOX)
        image.paste(Image.new("RGB", small.size, color), (round(x), round(y)), small)

    return Block(width, height, [(0, 0, Drawing(paint))])


def _pen_path(rng: random.Random, width: float, height: float) -> list[tuple[float, float]]:
    """One or two capitals, each followed by small letters that run out flat, on a rising line.

    Letters are turns of a cycloid: the pen circles while it moves on, so strokes loop as in handwriting.
    """
    slant, rise = rng.uniform(-0.1, 0.6), rng.uniform(-0.05, 0.18)
    path: list[tuple[float, float]] = []
    x = 0.08
    for word in range(rng.choice((1, 1, 2, 2, 3))):
        # Tallness, loop (negative turns the other way) and advance of each letter, the capital first.
        letters = [
            (
                rng.uniform(0.4, 0.78),
                rng.choice((-1, 1, 1)) * rng.uniform(0.01, 0.075),
                rng.uniform(0.04, 0.1),
            )
        ]
        for number in range(rng.randint(2, 7)):
            tall = rng.random() < 0.25
            size = (rng.uniform(0.3, 0.6) if tall else rng.uniform(0.06, 0.2)) * (1 - 0.1 * number)
            letters.append(
                (size, rng.choice((-1, 1, 1)) * rng.uniform(0.004, 0.026), rng.uniform(0.025, 0.065))
            )
        for tallness, loop, advance in letters:
            below = rng.uniform(0.05, 0.2) if rng.random() < 0.12 else 0.0
            for step in range(16):
                phase = 2 * math.pi * step / 16
                px = x + advance * step / 16 - loop * math.sin(phase)
                py = 0.66 - tallness * (1 - math.cos(phase)) / 2 + (0.02 + below) * math.sin(phase + word)
                path.append((px, py))
            x += advance
        x += rng.uniform(0.0, 0.03)
    path.append((x + rng.uniform(0.03, 0.2), 0.66 + rng.uniform(-0.2, 0.1)))
    if rng.random() < 0.3:
        path += [(x + 0.1, 0.8), (rng.uniform(0.08, 0.3), 0.86), (x + rng.uniform(0.05, 0.15), 0.79)]
    placed = [(px + slant * 0.14 * (0.66 - py), py - rise * (px - 0.3)) for px, py in _smooth(path, 3)]
    left, right = min(px for px, _ in placed), max(px for px, _ in placed)
    top, bottom = min(py for _, py in placed), max(py for _, py in placed)
    wide, high = min(1.0, 0.94 / (right - left)), min(1.0, 0.92 / (bottom - top))
    return [
        ((0.03 + (px - left) * wide) * width, (max(0.04, 0.96 - (bottom - py) * high)) * height)
        for px, py in placed
    ]


def _smooth(anchors: list[tuple[float, float]], steps: int) -> list[tuple[float, float]]:
    """Catmull-Rom spline through the anchors."""
    padded = [anchors[0], *anchors, anchors[-1]]
    path = []
    for before, here, there, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for step in range(steps):
            t = step / steps
            path.append(tuple(_spline(*axis, t) for axis in zip(before, here, there, after, strict=True)))
    return [(x, y) for x, y in path]


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t * t * t
    )


def barcode(text: Text, style: Style, width: float, height: float) -> Block:
    """Code 128 bars, `width` wide at most where that is at all legible, with the text below them."""
    modules = Code128(text.text.encode("ascii", "ignore").decode() or "0").build()[0]
    module = max(1, int(width / len(modules)))
    bars = float(len(modules) * module)
    printed = flow(runs((text,), style.body(share=0.9), style.ink), bars, align="center", leading=1.3)

    def paint(image: Image.Image, x: float, y: float) -> None:
        row = Image.new("L", (len(modules), 1))
        row.putdata([0 if bit == "1" else 255 for bit in modules])
        tile = row.resize((round(bars), round(height)), Image.Resampling.NEAREST)
        image.paste(tile.convert("RGB"), (round(x), round(y)))

    return stack([Block(bars, height, [(0, 0, Drawing(paint))]), printed], width=bars)
