import random
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from seqeval.scheme import IOB2, Entities
from torch import Tensor, nn
from torch.nn import functional

from sap_vision_assets.encoder import MultiTaskOutput
from sap_vision_assets.shards import Shards, open_shards
from sap_vision_assets.training.distributed import World
from sap_vision_assets.training.validation import entity_spans, validate
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.training.making import make_shards

B0, I0, B1, I1 = 1, 2, 3, 4


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
        World(rank=0, size=1, device=torch.device("cpu")),
        pad_id=1,
        batch_size=5,
        autocast=nullcontext,
    )
    assert (score.doc_type_accuracy, score.po_subtype_accuracy, score.field_f1) == (1.0, 0.0, 1.0)
    assert score.score == pytest.approx(2 / 3)


def test_part_without_anything_to_score_is_left_out(tmp_path: Path) -> None:
    opened = open_shards(make_shards(tmp_path / "shards", num_documents=1), load_vocabulary())
    world = World(rank=0, size=1, device=torch.device("cpu"))
    score = validate(_Oracle(opened), opened, world, pad_id=1, batch_size=5, autocast=nullcontext)
    assert score.po_subtype_accuracy is None
    assert score.score == 1.0


class _Oracle(nn.Module):
    """Answers what the shards hold; it knows a window by its tokens."""

    def __init__(self, shards: Shards, *, wrong_po_subtype: bool = False) -> None:
        super().__init__()
        self._shards, self._shift = shards, int(wrong_po_subtype)
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
        return MultiTaskOutput(
            doc_type_logits_BC=functional.one_hot(doc_types, 15).float(),
            po_subtype_logits_BC=functional.one_hot((po_subtypes + self._shift) % 35, 35).float(),
            token_logits_BTC=functional.one_hot(token_labels, 181).float(),
        )
