"""Where rubber stamps go: on white paper, and nowhere when a page is full.

The words of a stamp are words of the page (label "O", last in reading order), since OCR reads a stamp
that covers nothing.
"""

import random

from PIL import Image

from sap_vision_assets.documents.synthesis.faces import FontFile, font
from sap_vision_assets.documents.synthesis.marks import signature, stamp
from sap_vision_assets.documents.synthesis.styles import Color
from sap_vision_assets.documents.synthesis.typesetting import PrintedWord, paint

COLORS: tuple[Color, ...] = ((150, 30, 40), (30, 50, 140), (25, 100, 60), (70, 40, 120))
PENS: tuple[Color, ...] = ((30, 60, 170), (170, 30, 40), (40, 40, 50), (30, 110, 70))
SIZES = (1.7, 1.3, 1.0)
"""Shares of the body size, tried in turn."""
ATTEMPTS = 30


def place_stamp(
    text: str, image: Image.Image, rng: random.Random, file: FontFile, body_size: float
) -> list[PrintedWord]:
    """Stamps `text` on a white part of the page; returns its words, none when there is no room."""
    color = rng.choice(COLORS)
    inked = _ink(image)
    for share in SIZES:
        picture, printed = stamp(text, rng, font(file, body_size * share), color)
        for _ in range(ATTEMPTS):
            left = round(rng.uniform(0.05, 0.95) * (image.width - picture.width))
            top = round(rng.uniform(0.04, 0.92) * (image.height - picture.height))
            if left < 0 or top < 0:
                break
            area = (left, top, left + picture.width, top + picture.height)
            if inked.crop(area).getbbox() is None:
                image.paste(picture, (left, top), picture)
                return [_moved(word, left, top) for word in printed]
    return []


def place_initials(image: Image.Image, rng: random.Random, body_size: float) -> None:
    """A clerk's initials in pen on a white part of the page; OCR reads no words in them."""
    width, height = rng.uniform(5, 9) * body_size, rng.uniform(2.5, 4) * body_size
    pen = signature(rng.getrandbits(32), width, height, rng.choice(PENS))
    inked = _ink(image)
    for _ in range(ATTEMPTS):
        left = round(rng.uniform(0.05, 0.95) * (image.width - width))
        top = round(rng.uniform(0.04, 0.92) * (image.height - height))
        if inked.crop((left, top, round(left + width), round(top + height))).getbbox() is None:
            paint(pen, image, left, top)
            return


def _ink(image: Image.Image) -> Image.Image:
    """White where the page is not."""
    return image.convert("L").point([255 if value < 250 else 0 for value in range(256)])


def _moved(word: PrintedWord, x: float, y: float) -> PrintedWord:
    left, top, right, bottom = word.box_px
    return PrintedWord(word.text, word.label, (left + x, top + y, right + x, bottom + y))
