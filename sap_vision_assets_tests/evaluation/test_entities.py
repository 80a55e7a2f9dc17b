import itertools

import numpy as np
import pytest

from sap_vision_assets.evaluation.entities import Entity, decode, entities_of, is_valid

# Two fields: 1 = B-a, 2 = I-a, 3 = B-b, 4 = I-b.


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([], []),
        ([0, 0], []),
        ([1], [(0, 0, 1)]),
        ([1, 2, 2, 0, 3], [(0, 0, 3), (1, 4, 5)]),
        ([1, 1, 2], [(0, 0, 1), (0, 1, 3)]),
        # I- without its B- belongs to nothing, at the start, after O, and after another field.
        ([2, 2, 0, 4, 1, 4], [(0, 4, 5)]),
        ([3, 4, 2, 2, 4], [(1, 0, 2)]),
    ],
)
def test_entities_are_strict_iob2(labels: list[int], expected: list[tuple[int, int, int]]) -> None:
    assert entities_of(labels) == [Entity(*entity) for entity in expected]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([], True), ([0, 1, 2, 2], True), ([2], False), ([1, 4], False), ([0, 2], False), ([1, 2, 0, 2], False)],
)
def test_is_valid(labels: list[int], expected: bool) -> None:
    assert is_valid(np.array(labels, np.int64)) is expected


def test_decode_finds_the_best_of_all_valid_sequences() -> None:
    rng = np.random.default_rng(0)
    num_repaired = 0
    for _ in range(200):
        num_words = int(rng.integers(1, 5))
        log_probs = np.log(rng.dirichlet(np.full(5, 0.3), size=num_words) + 1e-9).astype(np.float32)
        candidates = [
            (float(sum(log_probs[word, label] for word, label in enumerate(sequence))), sequence)
            for sequence in itertools.product(range(5), repeat=num_words)
            if is_valid(np.array(sequence))
        ]
        best, _ = max(candidates)
        decoded = decode(log_probs)
        assert is_valid(decoded)
        assert float(log_probs[np.arange(num_words), decoded].sum()) == pytest.approx(best, abs=1e-5)
        num_repaired += not is_valid(log_probs.argmax(axis=1))
    # The greedy sequence must have been invalid often, or nothing was tested.
    assert num_repaired > 50


def test_decode_begins_an_entity_rather_than_dropping_it() -> None:
    # Greedy is [I-a, I-a]; beginning it with B-a costs less than calling both words O.
    probabilities = np.array([[0.1, 0.3, 0.5, 0.05, 0.05], [0.1, 0.1, 0.7, 0.05, 0.05]])
    assert decode(np.log(probabilities)).tolist() == [1, 2]


def test_decode_of_no_words() -> None:
    assert decode(np.zeros((0, 5), np.float32)).tolist() == []
