"""Companies that exist nowhere: names, addresses, tax numbers, banks.

Company stems and street names are dealt out to the splits by a hash, so that no vendor, receiver or street of
val or test is ever seen in training. Everything else (towns, legal forms, number formats) is shared.
"""

import json
import random
import zlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

_SPLIT_OF_BUCKET = ("train",) * 8 + ("val", "test")
_ACCENTS = str.maketrans("äöüßéèêçñáíóúàô", "aouseeecnaiouao")


@dataclass(frozen=True, kw_only=True)
class Address:
    street: str
    town: str
    """Postal code and town in the country's order."""
    city: str
    country_code: str
    country: str
    """As printed; empty in domestic mail."""

    def lines(self) -> tuple[str, ...]:
        return tuple(part for part in (self.street, self.town, self.country) if part)


@dataclass(frozen=True, kw_only=True)
class Company:
    stem: str
    name: str
    address: Address
    phone: str
    fax: str
    email: str
    web: str
    vat_id: str
    tax_number: str
    register: str
    bank_name: str
    bank_account: str
    bank_code: str
    initials: str
    person: str
    industry: str


@cache
def pools() -> dict[str, Any]:
    """The word pools of companies.json."""
    text = resources.files(__package__).joinpath("companies.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def split_of(word: str) -> str:
    """The one split that may use this stem or street name."""
    return _SPLIT_OF_BUCKET[zlib.crc32(word.encode()) % len(_SPLIT_OF_BUCKET)]


@cache
def _words_of_split(kind: str, split: str) -> tuple[str, ...]:
    return tuple(word for word in _candidates(kind) if split_of(word) == split)


def _candidates(kind: str) -> list[str]:
    if kind == "stems":
        made = [a + b for a in pools()["stem_heads"] for b in pools()["stem_tails"]]
        return sorted({*made, *pools()["surnames"]})
    street = pools()["streets"][kind]
    return sorted(street["form"].format(a=a, b=b) for a in street["a"] for b in street["b"])


def make_person(rng: random.Random) -> str:
    return f"{rng.choice(pools()['first_names'])} {rng.choice(pools()['surnames'])}"


def make_address(rng: random.Random, *, split: str, country: str, foreign: str = "") -> Address:
    """`foreign` is the country's name to print, empty for domestic mail."""
    data = pools()["countries"][country]
    family = data["street_family"]
    street = rng.choice(_words_of_split(family, split))
    number = str(rng.randint(1, 240)) + (rng.choice("abc") if rng.random() < 0.08 else "")
    line = data["street_form"].format(street=street, number=number)
    if rng.random() < 0.15:
        line += ", " + rng.choice(data["extras"]).format(n=rng.randint(1, 30))
    # Where readers know a state by its postal codes, a city comes with its state and its codes.
    city, *more = rng.choice(data["cities"])
    state = more[0] if more else ""
    postcode = more[1] if len(more) > 1 else data["postcode"]
    code = fill_pattern(rng, postcode)
    town = data["town_form"].format(code=code, city=city, state=state)
    return Address(street=line, town=town.strip(), city=city, country_code=country, country=foreign)


def make_company(
    rng: random.Random, *, split: str, country: str, industry: str, foreign: str = "", stem: str = ""
) -> Company:
    """A company of `industry` in `country`; `stem` makes it a sister of another one."""
    data = pools()["countries"][country]
    stem = stem or rng.choice(_words_of_split("stems", split))
    words = pools()["industry_words"][industry][data["word_language"]]
    shape = rng.choice(pools()["name_shapes"])
    legal = rng.choice(data["legal_forms"])
    name = " ".join(
        shape.format(stem=stem, word=rng.choice(words), legal=legal, letter=rng.choice("ABDEGKMRST")).split()
    )
    domain = (
        stem.lower().translate(_ACCENTS)
        + rng.choice(("", "-" + rng.choice(("group", "tec", "online", "ag"))))
        + data["tld"]
    )
    phone = _phone(rng, data)
    return Company(
        stem=stem,
        name=name,
        address=make_address(rng, split=split, country=country, foreign=foreign),
        phone=phone,
        fax=phone[:-2] + f"{rng.randint(10, 99)}",
        email=rng.choice(pools()["mailboxes"]) + "@" + domain,
        web="www." + domain,
        vat_id=fill_pattern(rng, rng.choice(data["vat"])),
        tax_number=fill_pattern(rng, rng.choice(data["tax_number"])),
        register=fill_pattern(rng, rng.choice(data["register"])),
        bank_name=rng.choice(data["banks"]),
        bank_account=_bank_account(rng, data, country),
        bank_code=fill_pattern(rng, rng.choice(data["bank_code"])),
        initials=_initials(stem, split),
        person=make_person(rng),
        industry=industry,
    )


def _initials(stem: str, split: str) -> str:
    """Two letters of the stem and as many more as make the code belong to the split, as the stem does."""
    start = (stem[:1] + stem[len(stem) // 2 : len(stem) // 2 + 1]).lower().translate(_ACCENTS).upper()
    letters = ("", *"GMKSTCAHBDEFILNOPRUVWXYZ")
    codes = (start + third + fourth for fourth in letters for third in letters[1:])
    return str(next(code for code in codes if split_of(code) == split))


def _random_char(rng: random.Random, character: str) -> str:
    """A digit for "#", one that is not 0 for "%", a capital letter for "@"; anything else stays."""
    match character:
        case "#":
            return rng.choice("0123456789")
        case "%":
            return rng.choice("123456789")
        case "@":
            return rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ")
        case _:
            return character


def fill_pattern(rng: random.Random, pattern: str) -> str:
    return "".join(_random_char(rng, c) for c in pattern)


def _phone(rng: random.Random, data: dict[str, Any]) -> str:
    return fill_pattern(rng, rng.choice(data["phone"]))


def _bank_account(rng: random.Random, data: dict[str, Any], country: str) -> str:
    pattern = data["bban"]
    if not data["iban"]:
        return fill_pattern(rng, pattern)
    iban = make_iban(country, fill_pattern(rng, pattern))
    if rng.random() < 0.7:
        return " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))
    return iban


def make_iban(country: str, bban: str) -> str:
    """`bban` with country code and ISO 7064 check digits before it."""
    digits = "".join(str(int(c, 36)) for c in bban + country + "00")
    return f"{country}{98 - int(digits) % 97:02d}{bban}"
