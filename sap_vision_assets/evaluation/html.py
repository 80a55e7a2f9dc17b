"""report.html: one page that stands alone, made from report.json and the pictures."""

import base64
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from sap_vision_assets.evaluation.pictures import jpeg

UNDEFINED = "n/a"
PAGE_WIDTH_PX = 1280
"""Width of the example pages inside report.html; the PNGs beside it are larger."""
NARROW = 1.6
"""Height to width, above A4's 1.41: a receipt as wide as the text would fill several screens."""


def render_html(
    report: Mapping[str, Any], pictures: Mapping[str, Path], pages: Mapping[str, Image.Image]
) -> str:
    """The page. `pictures` are the confusion matrices by name, `pages` the example pages by document id.

    Words of documents are untrusted: the template engine escapes everything that it prints.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, count=count, bar=bar)
    template = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        report=report,
        summary=report["summary"],
        pictures={name: _data_uri("image/png", file.read_bytes()) for name, file in pictures.items()},
        narrow={name for name, page in pages.items() if page.height > NARROW * page.width},
        pages={name: _data_uri("image/jpeg", _encode_page(page)) for name, page in pages.items()},
    )


def percent(value: float | None, digits: int = 1) -> str:
    """0.9731 as "97.3 %"; only 1 itself is printed as 100 %."""
    if value is None:
        return UNDEFINED
    shown = f"{100 * value:.{digits}f}"
    if value < 1 and float(shown) == 100:
        shown = f"> {100 - 10**-digits:.{digits}f}"
    return f"{shown} %"


def count(value: int) -> str:
    """12345 as "12,345"."""
    return f"{value:,}"


def bar(value: float | None) -> str:
    """CSS width of a bar."""
    return f"{100 * (value or 0):.1f}%"


def _encode_page(page: Image.Image) -> bytes:
    small = page.copy()
    small.thumbnail((PAGE_WIDTH_PX, 3 * PAGE_WIDTH_PX), Image.Resampling.LANCZOS)
    return jpeg(small, 82)


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
