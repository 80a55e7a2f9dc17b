"""The tiny recipe's losses, step by step: a change that is not meant to move numbers does not move these.

When one is meant to: `python -m sap_vision_assets_tests.training.test_golden` writes them anew.
"""

import json
import tempfile
from pathlib import Path

import pytest
import torch

from sap_vision_assets_tests.training.making import losses, make_job, make_shards, train_here

GOLDEN = Path(__file__).with_name("golden_losses.json")


def tiny_losses(directory: Path) -> list[float]:
    job = make_job(make_shards(directory / "shards"), directory / "out")
    train_here(job)
    return losses(job.out)


def test_tiny_recipe_repeats_its_losses(tmp_path: Path) -> None:
    expected = json.loads(GOLDEN.read_text())
    assert len(expected) == 20
    assert expected[-1] < expected[0]
    # On the machine that wrote them they are equal to the bit; processors differ in the order of their sums.
    assert tiny_losses(tmp_path) == pytest.approx(expected, rel=1e-4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(json.dumps(tiny_losses(Path(scratch)), indent=1) + "\n")
