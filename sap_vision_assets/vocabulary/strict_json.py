"""JSON from outside: UTF-8 alone, no key twice, no NaN, bounded nesting."""

import json
import math
import re
from collections import Counter
from enum import StrEnum
from typing import Any, NoReturn

from pydantic_core import from_json

from sap_vision_assets.errors import InputError

_SURROGATE = re.compile(r"\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL)
"""An escape in JSON: one of a surrogate, or any other, so that an escaped backslash is not taken for one."""


class JsonFault(StrEnum):
    """The ways in which bytes are no JSON that can be trusted."""

    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"
    DUPLICATE_KEY = "duplicate_key"
    NOT_FINITE = "not_finite"


class StrictJsonError(InputError):
    """The bytes cannot be used; `fault` is enumerated, the message names value, place and fix."""

    def __init__(self, fault: JsonFault, detail: str) -> None:
        self.fault = fault
        super().__init__(detail)


def parse_json(content: bytes) -> Any:
    """Like json.loads, but strict. Raises StrictJsonError. A caller bounds the size of `content`."""
    try:
        # A byte order mark is harmless. json.loads(bytes) would let encoded surrogates through.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StrictJsonError(
            JsonFault.NOT_UTF8, f"byte {error.start}: {error.reason}; save it as UTF-8"
        ) from error
    _check_form(text)
    try:
        return json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_not_finite, parse_float=_finite_float
        )
    except StrictJsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise StrictJsonError(JsonFault.NOT_JSON, str(error)) from error


def _check_form(text: str) -> None:
    """Raises StrictJsonError unless `text` is JSON of at most 200 levels.

    Rust's parser stops there; Python's would go as deep as its caller's stack allows, or overflow it.
    """
    try:
        from_json(text)
    except ValueError as error:
        if "recursion limit" in str(error):
            detail = f"{error}; flatten it"
            raise StrictJsonError(JsonFault.TOO_DEEP, detail) from error
        # Half a pair of surrogates gets the same message as a malformed escape: look again without them.
        without = _SURROGATE.sub(lambda match: "x" if match.group()[1] == "u" else match.group(), text)
        if "hex escape" not in str(error) or without == text:
            raise StrictJsonError(JsonFault.NOT_JSON, str(error)) from error
        _check_form(without)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise StrictJsonError(
            JsonFault.DUPLICATE_KEY, f"key {key[:80]!r} stands there twice; which is meant?"
        )
    return found


def _not_finite(constant: str) -> NoReturn:
    raise StrictJsonError(JsonFault.NOT_FINITE, f"{constant} is no coordinate and no JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _not_finite(text[:40])
    return value
