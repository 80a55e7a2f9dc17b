"""What a word counts in the loss by its label, so that rare fields are not drowned by the frequent ones.

Shapes: C labels.
"""

import numpy as np
from numpy.typing import NDArray

MAX_LABEL_WEIGHT = 10.0
"""Of one word, where the mean is 1. Without it the one word of a label would move the model as far as all
words of another, and its noise with it."""


def rare_label_weights(counts_C: NDArray[np.int64], exponent: float) -> NDArray[np.float32]:
    """Weights proportional to frequency to the power of -exponent, none above MAX_LABEL_WEIGHT.

    Their mean over the words that `counts_C` counts is 1, so that the learning rate keeps its meaning. A
    label that never occurs has weight 1, and no word to use it.
    """
    total, seen_C = counts_C.sum(), counts_C > 0
    raw_C = np.where(seen_C, np.maximum(counts_C, 1) ** -float(exponent), 0.0)
    capped_C = np.zeros(len(counts_C), dtype=bool)
    while True:
        # What the capped ones leave goes to the others, of which some may come to the cap by it.
        rest = total - MAX_LABEL_WEIGHT * counts_C[capped_C].sum()
        share = (raw_C * counts_C)[~capped_C].sum()
        weights_C = np.where(capped_C, MAX_LABEL_WEIGHT, raw_C * (rest / share if share else 1.0))
        above_C = ~capped_C & (weights_C > MAX_LABEL_WEIGHT)
        if not above_C.any():
            return np.where(seen_C, weights_C, 1.0).astype(np.float32)
        capped_C |= above_C
