"""The training loss: cross-entropy of each head, each over what it has to score.

Shapes: B batch, T tokens, C classes.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from sap_vision_assets.encoder.model import MultiTaskOutput

IGNORED = -100
"""A target that is not scored: a later piece of a word, a page without a subtype."""


@dataclass(frozen=True)
class LossCounts:
    """How many targets are scored, or the sum of their weights; one float tensor without dimensions each."""

    doc_type: Tensor
    po_subtype: Tensor
    token: Tensor

    def stack(self) -> Tensor:
        """[3], in the order of the fields; what ranks add up and micro-batches accumulate."""
        return torch.stack([self.doc_type, self.po_subtype, self.token])

    @staticmethod
    def unstack(counts_3: Tensor) -> "LossCounts":
        return LossCounts(doc_type=counts_3[0], po_subtype=counts_3[1], token=counts_3[2])


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What each head's mean cross-entropy counts in the total."""

    doc_type: float = 1.0
    po_subtype: float = 1.0
    token: float = 1.0


EQUAL_WEIGHTS = LossWeights()


@dataclass(frozen=True)
class MultiTaskLoss:
    """Mean cross-entropy of each head, in nats, and their weighted sum."""

    total: Tensor
    doc_type: Tensor
    po_subtype: Tensor
    token: Tensor


def count_targets(
    doc_type_B: Tensor,
    po_subtype_B: Tensor,
    token_labels_BT: Tensor,
    token_label_weights_C: Tensor | None = None,
) -> LossCounts:
    """Targets of a batch that are not ignored; each token counts its label's weight where there are any."""
    counts = LossCounts(
        *((target != IGNORED).sum().float() for target in (doc_type_B, po_subtype_B, token_labels_BT))
    )
    if token_label_weights_C is None:
        return counts
    scored = token_labels_BT[token_labels_BT != IGNORED]
    return replace(counts, token=token_label_weights_C[scored].sum())


def multitask_loss(
    output: MultiTaskOutput,
    *,
    token_labels_BT: Tensor,
    doc_type_B: Tensor,
    po_subtype_B: Tensor,
    counts: LossCounts | None = None,
    weights: LossWeights = EQUAL_WEIGHTS,
    token_label_weights_C: Tensor | None = None,
) -> MultiTaskLoss:
    """Loss of one batch; targets are class ids (int64) or IGNORED. A head with nothing to score gives 0.

    `counts` are those of the whole accumulated batch when this one is a part of it, so that the parts' losses
    add up to the loss of the whole; by default the batch's own. With `token_label_weights_C` the tokens' mean
    is the one weighted by each label's.
    """
    counts = counts or count_targets(doc_type_B, po_subtype_B, token_labels_BT, token_label_weights_C)
    doc_type = _cross_entropy(output.doc_type_logits_BC, doc_type_B, counts.doc_type)
    po_subtype = _cross_entropy(output.po_subtype_logits_BC, po_subtype_B, counts.po_subtype)
    token = _cross_entropy(output.token_logits_BTC, token_labels_BT, counts.token, token_label_weights_C)
    total = weights.doc_type * doc_type + weights.po_subtype * po_subtype + weights.token * token
    return MultiTaskLoss(total=total, doc_type=doc_type, po_subtype=po_subtype, token=token)


def _cross_entropy(logits: Tensor, target: Tensor, count: Tensor, weights_C: Tensor | None = None) -> Tensor:
    total = functional.cross_entropy(
        logits.float().flatten(0, -2), target.flatten(), weights_C, ignore_index=IGNORED, reduction="sum"
    )
    # Not a minimum of 1: the weights of a few frequent labels add up to less.
    return total / torch.where(count > 0, count, 1.0)
