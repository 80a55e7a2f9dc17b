import math
import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from seqeval.scheme import IOB2, Entities
from torch import Tensor, nn
from torch.nn import functional

from sap_vision_assets.encoder import MultiTaskOutput
from sap_vision_assets.shards import Shards, open_shards
from sap_vision_assets.training.distributed import World
from sap_vision_assets.training.validation import ValidationScore, entity_spans, validate
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.training.making import make_shards

B0, I0, B1, I1 = 1, 2, 3, 4
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        ([], set()),
        ([0, 0], set()),
        ([B0], {(0, 0, 0)}),
        ([B0, I0, I0, 0], {(0, 2, 0)}),
        ([0, B0, B0, I0], {(1, 1, 0), (2, 3, 0)}),
        ([B0, I1], {(0, 0, 0)}),
        ([I0, I0], set()),
        ([B0, 0, I0], {(0, 0, 0)}),
        ([B1, I1, B0], {(0, 1, 1), (2, 2, 0)}),
    ],
)
def test_spans_by_hand(labels: list[int], spans: set[tuple[int, int, int]]) -> None:
    assert entity_spans(labels) == spans


def test_spans_as_seqeval_finds_them_strictly() -> None:
    generator = random.Random(0)
    names = ["O", "B-a", "I-a", "B-b", "I-b"]
    for _ in range(300):
        labels = generator.choices(range(5), k=12)
        (entities,) = Entities([[names[label] for label in labels]], IOB2).entities
        expected = {(entity.start, entity.end - 1, "ab".index(entity.tag)) for entity in entities}
        assert entity_spans(labels) == expected


def test_score_is_the_mean_of_its_parts(shards: Path) -> None:
    opened = open_shards(shards, load_vocabulary())
    score = validate(
        _Oracle(opened, wrong_po_subtype=True),
        opened,
        World(rank=0, size=1, device=CPU),
        pad_id=1,
        batch_size=5,
        autocast=nullcontext,
    )
    assert (score.doc_type_accuracy, score.po_subtype_accuracy, score.field_f1) == (1.0, 0.0, 1.0)
    assert score.score == pytest.approx(2 / 3)
    # Logits are 1 for what it answers and 0 for the others, and every subtype is wrong.
    expected = (math.log(math.e + 14) - 1, math.log(math.e + 34), math.log(math.e + 180) - 1)
    assert (score.doc_type_loss, score.po_subtype_loss, score.token_loss) == pytest.approx(expected, rel=1e-6)
    assert score.loss == pytest.approx(sum(expected), rel=1e-6)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_loss_is_the_same_to_the_bit_however_many_ranks_there_are(num_ranks: int, shards: Path) -> None:
    opened = open_shards(shards, load_vocabulary())
    sent: list[Any] = []

    class Rank(World):
        """Sees what it and the ranks before it sent: the last one knows all."""

        def gather(self, value: Any) -> list[Any]:
            sent.append(value)
            return list(sent)

    def find(world: World) -> ValidationScore:
        oracle = _Oracle(opened, sureness_by_document=0.1)
        return validate(oracle, opened, world, pad_id=1, batch_size=5, autocast=nullcontext)

    scores = [find(Rank(rank=rank, size=num_ranks, device=CPU)) for rank in range(num_ranks)]
    assert scores[-1] == find(World(rank=0, size=1, device=CPU))
    assert scores[0].loss != scores[-1].loss


def test_loss_that_is_not_finite_is_none(shards: Path) -> None:
    opened = open_shards(shards, load_vocabulary())
    world = World(rank=0, size=1, device=CPU)
    oracle = _Oracle(opened, sureness_by_document=math.inf)
    score = validate(oracle, opened, world, pad_id=1, batch_size=5, autocast=nullcontext)
    assert (score.loss, score.doc_type_loss, score.token_loss) == (None, None, None)


def test_part_without_anything_to_score_is_left_out(tmp_path: Path) -> None:
    opened = open_shards(make_shards(tmp_path / "shards", num_documents=1), load_vocabulary())
    world = World(rank=0, size=1, device=CPU)
    score = validate(_Oracle(opened), opened, world, pad_id=1, batch_size=5, autocast=nullcontext)
    assert score.po_subtype_accuracy is None
    assert score.score == 1.0
    assert score.po_subtype_loss is None
    assert score.loss == pytest.approx(math.log(math.e + 14) - 1 + math.log(math.e + 180) - 1, rel=1e-6)


class _Oracle(nn.Module):
    """Answers what the shards hold; it knows a window by its tokens."""

    def __init__(
        self, shards: Shards, *, wrong_po_subtype: bool = False, sureness_by_document: float = 0.0
    ) -> None:
        super().__init__()
        self._shards, self._shift = shards, int(wrong_po_subtype)
        self._sureness = sureness_by_document
        self._windows = {
            shards.window(index).input_ids.tobytes(): index for index in range(shards.num_windows)
        }
        assert len(self._windows) == shards.num_windows

    def forward(self, input_ids: Tensor, _boxes: Tensor, mask: Tensor, _pixels: Tensor) -> MultiTaskOutput:
        token_labels = torch.zeros_like(input_ids)
        documents = []
        for row, size in enumerate(mask.sum(dim=1).tolist()):
            window = self._shards.window(self._windows[input_ids[row, :size].int().numpy().tobytes()])
            documents.append(window.document)
            token_labels[row, :size] = torch.from_numpy(window.labels.astype("int64")).clamp(min=0)
        doc_types = torch.from_numpy(self._shards.doc_types[documents].astype("int64"))
        po_subtypes = torch.from_numpy(self._shards.po_subtypes[documents].astype("int64")).clamp(min=0)
        factor_B1 = 1.0 + self._sureness * torch.tensor(documents)[:, None]
        return MultiTaskOutput(
            doc_type_logits_BC=functional.one_hot(doc_types, 15) * factor_B1,
            po_subtype_logits_BC=functional.one_hot((po_subtypes + self._shift) % 35, 35) * factor_B1,
            token_logits_BTC=functional.one_hot(token_labels, 181) * factor_B1[..., None],
        )
