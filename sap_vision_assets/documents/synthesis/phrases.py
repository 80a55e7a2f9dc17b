"""The wordings of one language: phrases_<language>.json, letters_<language>.json, orders_<language>.json."""

import json
from functools import cache
from importlib import resources
from typing import Any

LANGUAGES = ("en", "de", "fr", "es")


@cache
def phrases(language: str) -> dict[str, Any]:
    """Titles, captions, party captions, terms and standard sentences."""
    return _load(f"phrases_{language}.json")


@cache
def letters(language: str) -> dict[str, Any]:
    """Articles of contracts, and free-text pages."""
    return _load(f"letters_{language}.json")


@cache
def orders(language: str) -> dict[str, Any]:
    """What each purchase order subtype says, by subtype."""
    return _load(f"orders_{language}.json")


def _load(name: str) -> dict[str, Any]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data
