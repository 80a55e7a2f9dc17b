"""The page as the model sees it: the whole page, squeezed into a small square."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from sap_vision_assets.documents import load_page
from sap_vision_assets.documents.page import quiet


def page_thumbnail(image_bytes: bytes, size: int) -> NDArray[np.uint8]:
    """RGB pixels [size, size, 3] of the whole page; width and height are scaled each to its own side.

    The bytes are those that a dataset keeps, or that `load_page` has accepted: their limits are not checked
    again. Raises OSError or DocumentError when they cannot be decoded.
    """
    # Threads wait for each other in quiet(): no more stands here than what may warn of odd metadata.
    with quiet():
        image: Image.Image = Image.open(io.BytesIO(image_bytes))
        is_plain = _is_plain(image)
        if image.format == "TIFF":
            image.load()
    if is_plain:
        # The decoder itself halves a large JPEG, up to three times: A4 of 300 dpi takes 12 ms, in full 88 ms.
        # Twice the final size is left to the filter: mean difference to a full decoding 0.4 of 255.
        image.draft(image.mode, (2 * size, 2 * size))
    else:
        image = load_page(image_bytes)
    # An "L" page is resized before it becomes RGB: a third of the work.
    small = image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0).convert("RGB")
    return np.asarray(small)


def _is_plain(image: Image.Image) -> bool:
    """True when the pixels as stored are the page: upright, 8-bit, nothing transparent."""
    is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    return image.mode in ("L", "RGB") and "transparency" not in image.info and is_upright
