"""The character set of a nine-pin printer: five columns of seven dots, accents above, cedillas below."""

import unicodedata
from functools import cache

_COLUMNS = [
    "0000000000",
    "00005f0000",
    "0007000700",
    "147f147f14",
    "242a7f2a12",
    "2313086462",
    "3649562050",
    "0005030000",
    "001c224100",
    "0041221c00",
    "14083e0814",
    "08083e0808",
    "0050300000",
    "0808080808",
    "0060600000",
    "2010080402",
    "3e5149453e",
    "00427f4000",
    "4261514946",
    "2141454b31",
    "1814127f10",
    "2745454539",
    "3c4a494930",
    "0171090503",
    "3649494936",
    "064949291e",
    "0036360000",
    "0056360000",
    "0814224100",
    "1414141414",
    "0041221408",
    "0201510906",
    "324979413e",
    "7e1111117e",
    "7f49494936",
    "3e41414122",
    "7f4141221c",
    "7f49494941",
    "7f09090901",
    "3e4149497a",
    "7f0808087f",
    "00417f4100",
    "2040413f01",
    "7f08142241",
    "7f40404040",
    "7f020c027f",
    "7f0408107f",
    "3e4141413e",
    "7f09090906",
    "3e4151215e",
    "7f09192946",
    "4649494931",
    "01017f0101",
    "3f4040403f",
    "1f2040201f",
    "3f4038403f",
    "6314081463",
    "0708700807",
    "6151494543",
    "007f414100",
    "0204081020",
    "0041417f00",
    "0402010204",
    "4040404040",
    "0001020400",
    "2054545478",
    "7f48444438",
    "3844444420",
    "384444487f",
    "3854545418",
    "087e090102",
    "0c5252523e",
    "7f08040478",
    "00447d4000",
    "2040443d00",
    "7f10284400",
    "00417f4000",
    "7c04180478",
    "7c08040478",
    "3844444438",
    "7c14141408",
    "081414187c",
    "7c08040408",
    "4854545420",
    "043f444020",
    "3c4040207c",
    "1c2040201c",
    "3c4030403c",
    "4428102844",
    "0c5050503c",
    "4464544c44",
    "0008364100",
    "00007f0000",
    "0041360800",
    "1008081008",
]
"""From the blank to the tilde; two hexadecimal digits a column, the lowest bit is the top dot."""
_OTHERS = {
    "ß": "7e01495620", "€": "3e55554122", "£": "487e494920", "§": "2a55555522", "°": "0205020000",
    "æ": "2474385458", "Æ": "7e097f4941", "ø": "3864544c38", "Ø": "7e7159473f", "œ": "3844385418",
    "ł": "10487f4200", "Ł": "107f484040", "¡": "00007d0000", "¿": "3048450020", "·": "0000080000",
    "×": "2214081422", "²": "0009150a00", "³": "0011150a00", "½": "0f083468a0", "ı": "00447c4000",
}  # fmt: skip
_DESCENDERS = {
    "p": (0x1FC, 0x44, 0x44, 0x44, 0x38), "q": (0x38, 0x44, 0x44, 0x44, 0x1FC),
    "g": (0x38, 0x144, 0x144, 0x144, 0xFC), "y": (0x3C, 0x140, 0x140, 0x140, 0xFC),
}  # fmt: skip
_SAME = {
    "–": "-", "—": "-", "‐": "-", "‑": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "•": "*",
    "…": ".", "«": '"', "»": '"', "´": "'", "º": "°", "ª": "a",
}  # fmt: skip
_ACCENTS = {
    "\u0300": ((0, 1), (1, 2)), "\u0301": ((0, 3), (1, 2)), "\u0302": ((0, 2), (1, 1), (1, 3)),
    "\u0303": ((0, 1), (0, 2), (1, 3)), "\u0308": ((0, 1), (0, 3)), "\u030a": ((0, 2), (1, 1), (1, 3)),
    "\u030c": ((0, 1), (0, 3), (1, 2)), "\u0327": ((7, 2), (8, 1)), "\u0328": ((7, 3), (8, 4)),
    "\u0304": ((0, 1), (0, 2), (0, 3)), "\u0306": ((0, 1), (0, 3), (1, 2)), "\u0307": ((0, 2),),
    "\u030b": ((0, 2), (0, 4), (1, 1), (1, 3)),
}  # fmt: skip
"""Rows and columns of the dots that a combining mark adds above a small letter, or below any."""


@cache
def dots(character: str) -> tuple[tuple[int, int], ...] | None:
    """Rows and columns of the dots; row 0 is the top of capitals and 6 their foot.

    None when the printer has no such character.
    """
    character = _SAME.get(character, character)
    if character in _OTHERS:
        return tuple(sorted(_of(_OTHERS[character])))
    base, *marks = list(unicodedata.normalize("NFD", character))
    code = ord(base) - ord(" ")
    if not 0 <= code < len(_COLUMNS) or any(mark not in _ACCENTS for mark in marks):
        return None
    ink = (
        _ink(_DESCENDERS[base])
        if base in _DESCENDERS
        else _of(_OTHERS["ı"] if base == "i" and marks else _COLUMNS[code])
    )
    for mark in marks:
        raised = 3 if base.isupper() and _ACCENTS[mark][0][0] < 7 else 0
        ink |= {(row - raised, column) for row, column in _ACCENTS[mark]}
    return tuple(sorted(ink))


def _of(columns: str) -> set[tuple[int, int]]:
    return _ink(tuple(bytes.fromhex(columns)))


def _ink(columns: tuple[int, ...]) -> set[tuple[int, int]]:
    return {(row, column) for column, bits in enumerate(columns) for row in range(9) if bits >> row & 1}
