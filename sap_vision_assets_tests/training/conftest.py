from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sap_vision_assets_tests.training.making import make_shards


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums of the same numbers come out the same, and the machine's other work is left alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 documents, 34 windows of up to 64 tokens."""
    return make_shards(tmp_path_factory.mktemp("training") / "shards")


@pytest.fixture(scope="session")
def short_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 documents of one short window each: fast."""
    return make_shards(tmp_path_factory.mktemp("training") / "short_shards", words_per_index=1)
