"""Finding a value among words."""

import pytest

from sap_vision_assets.documents.importers.projection import Match, PageText, squeeze

WORDS = ["ACME", "SDN", "BHD", "(12-A)", "DATE:12/01/19", "1,912.01", "acme", "sdn.bhd", "12/01/19"]


def _find(value: str, *, max_errors: int = 0, taken: tuple[int, ...] = ()) -> Match | None:
    free = [index not in taken for index in range(len(WORDS))]
    return PageText(WORDS).find(value, free=free, max_errors=max_errors)


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("Acme Sdn. Bhd.", 0, 2),
        ("SDN BHD", 1, 2),
        ("12/01/19", 8, 8),  # Stands inside of word 4, too, but whole words go first.
        ("date: 12", 4, 4),
        ("1912.01", 5, 5),
        ("BHD 12A", 2, 3),
    ],
)
def test_first_place_is_found_whatever_the_punctuation(value: str, first: int, last: int) -> None:
    assert _find(value) == Match(first=first, last=last, num_errors=0)


def test_taken_words_are_left_alone() -> None:
    assert _find("acme sdn bhd", taken=(1,)) == Match(first=6, last=7, num_errors=0)
    assert _find("acme sdn bhd", taken=(1, 6)) is None


def test_every_place_is_found_and_those_inside_of_words_only_where_there_is_no_other() -> None:
    free = [True] * len(WORDS)
    found = PageText(WORDS).find_all("sdn bhd", free=free)
    assert len(found) == 2
    assert found[0] == Match(first=1, last=2, num_errors=0)
    whole = PageText(["a12b", "12", "c12", "12"]).find_all("12", free=[True] * 4)
    assert whole == [Match(first=1, last=1, num_errors=0), Match(first=3, last=3, num_errors=0)]
    inside = PageText(["a12b", "c12"]).find_all("12", free=[True, True])
    assert inside == [Match(first=0, last=0, num_errors=0), Match(first=1, last=1, num_errors=0)]
    assert PageText(["a12b", "c12"]).find_all("12", free=[False, True]) == inside[1:]
    assert PageText(["a"]).find_all("...", free=[True]) == []


def test_errors_are_counted_and_bounded() -> None:
    assert _find("ACNE SDN BHD 12", max_errors=1) == Match(first=0, last=3, num_errors=1)
    assert _find("ACNE SDM BHD 12", max_errors=1) is None
    assert _find("ACNE SDM BHD 12", max_errors=2) == Match(first=0, last=3, num_errors=2)
    assert _find("ACNE SDN BHD 12") is None


def test_nothing_to_look_for_is_not_found() -> None:
    assert _find("...") is None
    assert PageText([]).find("x", free=[], max_errors=1) is None


def test_squeeze_keeps_letters_and_digits_of_any_script() -> None:
    assert squeeze("Größe 12.3 – ÄÖ") == "größe123äö"
