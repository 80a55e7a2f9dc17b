import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, LayoutLMv3Config, LayoutLMv3Model

from sap_vision_assets.encoder import MultiTaskLayoutLMv3
from sap_vision_assets.errors import CheckpointError, InputError
from sap_vision_assets.shards import Tokenizer, load_tokenizer
from sap_vision_assets.training import ArchitectureConfig, folders
from sap_vision_assets.training.checkpoint import write_model
from sap_vision_assets.training.initialization import encoder_config, make_model
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary
from sap_vision_assets_tests.training.making import make_job

SIZES = ArchitectureConfig(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64, patch_size=56)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("builtin")


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> MultiTaskLayoutLMv3:
    torch.manual_seed(7)
    return MultiTaskLayoutLMv3(encoder_config(SIZES, tokenizer, load_vocabulary()))


@pytest.fixture(scope="module")
def general(
    model: MultiTaskLayoutLMv3, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return published(tmp_path_factory.mktemp("general"), model, tokenizer, load_vocabulary())


def published(out: Path, model: MultiTaskLayoutLMv3, tokenizer: Tokenizer, vocabulary: Vocabulary) -> Path:
    """`model` as the best/ of a training."""

    def write(directory: Path) -> None:
        write_model(
            directory, model.state_dict(), config=model.config, tokenizer=tokenizer, vocabulary=vocabulary
        )

    return folders.publish(out, "best", write, {})


def extended(tmp_path: Path) -> Vocabulary:
    term = {"sap": "EKKO-ZZ", "meaning": "Made up."}
    file = tmp_path / "extension.json"
    content = {
        "version": 1,
        "doc_types": [{"name": "PACKING_LIST", **term}],
        "po_subtypes": [{"name": "ZNB", **term}],
        "fields": [{"name": "pallets", **term}, {"name": "cartons", **term}],
    }
    file.write_text(json.dumps(content))
    return load_vocabulary(file)


def start(
    tmp_path: Path, checkpoint: Path, tokenizer: Tokenizer, vocabulary: Vocabulary, **changes: object
) -> MultiTaskLayoutLMv3:
    job = make_job(
        tmp_path, tmp_path / "out", initial_checkpoint=checkpoint, **{"architecture": None, **changes}
    )
    return make_model(job, tokenizer=tokenizer, vocabulary=vocabulary)


def test_fine_tuning_starts_from_the_checkpoints_weights(
    general: Path, model: MultiTaskLayoutLMv3, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    started = start(tmp_path, general, tokenizer, load_vocabulary())
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in started.state_dict().items())


def test_heads_grow_with_the_vocabulary(
    general: Path, model: MultiTaskLayoutLMv3, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    vocabulary = extended(tmp_path)
    started = start(tmp_path, general, tokenizer, vocabulary)
    assert started.config.vocabulary_digest == vocabulary.digest
    heads = {
        "doc_type_head.out_proj": (15, 16),
        "po_subtype_head.out_proj": (35, 36),
        "token_head": (181, 185),
    }
    old, new = model.state_dict(), started.state_dict()
    for head, (rows_before, rows) in heads.items():
        weight = new[f"{head}.weight"]
        assert len(weight) == len(new[f"{head}.bias"]) == rows
        assert torch.equal(weight[:rows_before], old[f"{head}.weight"])
        # New rows are fresh: neither zeros nor copies.
        assert weight[rows_before:].abs().min() > 0
        assert weight[rows_before:].std() < 0.1
    grown = {f"{head}.{kind}" for head in heads for kind in ("weight", "bias")}
    assert all(torch.equal(tensor, old[name]) for name, tensor in new.items() if name not in grown)


def test_checkpoint_of_another_vocabulary_is_refused(
    model: MultiTaskLayoutLMv3, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    vocabulary = extended(tmp_path)
    config = encoder_config(SIZES, tokenizer, vocabulary)

    checkpoint = published(tmp_path, MultiTaskLayoutLMv3(config), tokenizer, vocabulary)
    with pytest.raises(
        CheckpointError, match="doc_type 15 is 'PACKING_LIST' there and nothing here"
    ) as caught:
        start(tmp_path, checkpoint, tokenizer, load_vocabulary())
    assert vocabulary.digest in str(caught.value)
    assert load_vocabulary().digest in str(caught.value)


def test_checkpoint_of_another_architecture_is_refused(
    general: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    wider = ArchitectureConfig(hidden_size=64, num_layers=1, num_heads=2, intermediate_size=64, patch_size=56)
    with pytest.raises(CheckpointError, match="hidden_size 32 there, 64 in the config"):
        start(tmp_path, general, tokenizer, load_vocabulary(), architecture=wider)
    assert start(tmp_path, general, tokenizer, load_vocabulary(), architecture=SIZES)


def test_checkpoint_of_another_tokenizer_is_refused(
    general: Path, model: MultiTaskLayoutLMv3, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    foreign = MultiTaskLayoutLMv3(encoder_config(SIZES, tokenizer, load_vocabulary()))
    foreign.config.tokenizer_digest = "f" * 64

    checkpoint = published(tmp_path, foreign, tokenizer, load_vocabulary())
    with pytest.raises(CheckpointError, match=f"tokenizer {'f' * 64}"):
        start(tmp_path, checkpoint, tokenizer, load_vocabulary())


def test_directory_that_is_no_checkpoint_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no training_state\.json"):
        start(tmp_path, tmp_path / "nowhere", tokenizer, load_vocabulary())


def test_published_weights_go_into_the_trunk(tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = encoder_config(SIZES, tokenizer, load_vocabulary())
    names = set(LayoutLMv3Config().to_dict()) - {"transformers_version", "architectures", "model_type"}
    published = LayoutLMv3Model(
        LayoutLMv3Config(**{name: value for name, value in config.to_dict().items() if name in names})
    )
    published.save_pretrained(tmp_path / "published")
    job = make_job(
        tmp_path, tmp_path / "out", architecture=SIZES, initial_weights=str(tmp_path / "published")
    )
    model = make_model(job, tokenizer=tokenizer, vocabulary=load_vocabulary())
    weights = published.state_dict()
    started = model.layoutlmv3.state_dict()
    assert weights.keys() == started.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in started.items())
    assert model.token_head.weight.std() > 0


def test_published_weights_that_are_not_there_or_not_layoutlmv3(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    other = tmp_path / "bert"
    BertModel(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(other)
    for name, message in (
        (str(tmp_path / "nowhere"), "is no directory here"),
        ("nobody/layoutlmv3-nowhere", "hf download nobody/layoutlmv3-nowhere"),
        (str(other), "is not LayoutLMv3|cannot be loaded"),
    ):
        job = make_job(tmp_path, tmp_path / "out", architecture=SIZES, initial_weights=name)
        with pytest.raises(InputError, match=message):
            make_model(job, tokenizer=tokenizer, vocabulary=load_vocabulary())
