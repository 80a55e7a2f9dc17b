"""Boxes of a source in thousandths of its page."""

import math

import pytest

from sap_vision_assets.documents.importers.conversion import Notes, norm_box


def test_box_is_scaled_ordered_and_kept_on_the_page() -> None:
    notes = Notes()
    assert norm_box((50, 100, 100, 120), 500, 1000, notes) == (100, 100, 200, 120)
    assert norm_box((100, 120, 50, 100), 500, 1000, notes) == (100, 100, 200, 120)
    assert notes.counters.total() == 0
    assert norm_box((-5, 100, 510, 120), 500, 1000, notes) == (0, 100, 1000, 120)
    assert notes.counters == {"boxes_moved_to_the_edge": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("corner", range(4))
def test_box_of_no_finite_number_is_refused(corner: int, value: float) -> None:
    box = [10.0, 20.0, 30.0, 40.0]
    box[corner] = value
    with pytest.raises(ValueError, match="must be four finite numbers"):
        norm_box((box[0], box[1], box[2], box[3]), 500, 1000, Notes())
