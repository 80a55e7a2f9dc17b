import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, LayoutLMv3Config, LayoutLMv3Model

from sap_vision_assets.encoder import MultiTaskLayoutLMv3
from sap_vision_assets.errors import CheckpointError, InputError
from sap_vision_assets.shards import Tokenizer, load_tokenizer
from sap_vision_assets.training import ArchitectureConfig, folders
from sap_vision_assets.training.checkpoint import write_model
from sap_vision_assets.training.initialization import Start, encoder_config, start_model
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


def extended(
    tmp_path: Path,
    *,
    doc_types: Sequence[str] = ("PACKING_LIST",),
    po_subtypes: Sequence[str] = ("ZNB",),
    fields: Sequence[str] = ("pallets", "cartons"),
) -> Vocabulary:
    file = tmp_path / "extension.json"
    names = {"doc_types": doc_types, "po_subtypes": po_subtypes, "fields": fields}
    terms = {
        kind: [{"name": name, "sap": "EKKO-ZZ", "meaning": "Made up."} for name in names[kind]]
        for kind in names
    }
    file.write_text(json.dumps({"version": 1, **terms}))
    return load_vocabulary(file)


def begin(
    tmp_path: Path, checkpoint: Path, tokenizer: Tokenizer, vocabulary: Vocabulary, **changes: object
) -> Start:
    job = make_job(
        tmp_path, tmp_path / "out", initial_checkpoint=checkpoint, **{"architecture": None, **changes}
    )
    return start_model(job, tokenizer=tokenizer, vocabulary=vocabulary)


def start(
    tmp_path: Path, checkpoint: Path, tokenizer: Tokenizer, vocabulary: Vocabulary, **changes: object
) -> MultiTaskLayoutLMv3:
    return begin(tmp_path, checkpoint, tokenizer, vocabulary, **changes).model


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
    found = begin(tmp_path, general, tokenizer, vocabulary)
    assert found.new_classes == {
        "doc_type": ["PACKING_LIST"],
        "po_subtype": ["ZNB"],
        "token label": ["B-pallets", "I-pallets", "B-cartons", "I-cartons"],
    }
    assert found.describe() == (
        f"starts from {general}; new in its heads: 1 doc_type (PACKING_LIST); 1 po_subtype (ZNB); "
        "4 token label (B-pallets, I-pallets, B-cartons, I-cartons)"
    )
    started = found.model
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
    gone = (
        "which has no doc_type 'PACKING_LIST', po_subtype 'ZNB', token label 'B-pallets', token label "
        "'I-pallets', token label 'B-cartons', token label 'I-cartons' (6 removed or renamed)"
    )
    with pytest.raises(CheckpointError, match=re.escape(gone)) as caught:
        start(tmp_path, checkpoint, tokenizer, load_vocabulary())
    assert vocabulary.digest in str(caught.value)
    assert load_vocabulary().digest in str(caught.value)
    # Renamed is removed, whatever is new beside it.
    renamed = extended(tmp_path, fields=("pallets", "boxes", "crates"))
    with pytest.raises(CheckpointError, match="no token label 'B-cartons', token label 'I-cartons' \\(2 "):
        start(tmp_path, checkpoint, tokenizer, renamed)
    assert start(tmp_path, checkpoint, tokenizer, extended(tmp_path))


def test_rows_of_the_heads_follow_their_names(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A term that is put before older ones of an extension moves their ids."""
    before = extended(tmp_path)
    torch.manual_seed(11)
    old = MultiTaskLayoutLMv3(encoder_config(SIZES, tokenizer, before))
    checkpoint = published(tmp_path, old, tokenizer, before)
    after = extended(tmp_path, doc_types=("WAYBILL", "PACKING_LIST"), fields=("cartons", "crates", "pallets"))
    found = begin(tmp_path, checkpoint, tokenizer, after)
    assert found.new_classes == {"doc_type": ["WAYBILL"], "token label": ["B-crates", "I-crates"]}
    weights, grown = old.state_dict(), found.model.state_dict()
    # O and 90 fields keep their rows; behind them were pallets, cartons, and are cartons, crates, pallets.
    places = [*range(181), 185, 186, 181, 182]
    assert [after.labels[row] for row in places] == list(before.labels)
    for kind in ("weight", "bias"):
        assert torch.equal(grown[f"token_head.{kind}"][places], weights[f"token_head.{kind}"])
        doc_type = f"doc_type_head.out_proj.{kind}"
        assert torch.equal(grown[doc_type][[*range(15), 16]], weights[doc_type])
        po_subtype = f"po_subtype_head.out_proj.{kind}"
        assert torch.equal(grown[po_subtype], weights[po_subtype])
    new = grown["token_head.weight"][183:185]
    assert not any(torch.equal(row, other) for row in new for other in weights["token_head.weight"])


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
    with pytest.raises(CheckpointError, match=f"tokenizer {'f' * 64}.*--tokenizer {checkpoint}"):
        start(tmp_path, checkpoint, tokenizer, load_vocabulary())


def test_error_names_the_word_of_the_tokenizer_that_is_wanted(general: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='set "tokenizer": "builtin" in settings'):
        start(tmp_path, general, load_tokenizer("minilm"), load_vocabulary())


def test_initial_weights_may_be_a_checkpoints_directory(
    general: Path, model: MultiTaskLayoutLMv3, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for architecture in (None, SIZES):
        job = make_job(tmp_path, tmp_path / "out", architecture=architecture, initial_weights=str(general))
        found = start_model(job, tokenizer=tokenizer, vocabulary=extended(tmp_path))
        assert found.weights == str(general)
        assert found.new_classes["doc_type"] == ["PACKING_LIST"]
        assert torch.equal(found.model.token_head.weight[:181], model.token_head.weight)
    whole = make_job(tmp_path, tmp_path / "out", initial_weights=str(general.parent))
    with pytest.raises(InputError, match=f"holds a whole training; give {general}"):
        start_model(whole, tokenizer=tokenizer, vocabulary=load_vocabulary())


def test_none_is_random_weights(tokenizer: Tokenizer, tmp_path: Path) -> None:
    job = make_job(tmp_path, tmp_path / "out", architecture=SIZES, seed=5)
    found, other = (
        start_model(
            replace(job, config=replace(job.config, seed=seed)),
            tokenizer=tokenizer,
            vocabulary=load_vocabulary(),
        )
        for seed in (5, 6)
    )
    assert (found.weights, found.describe()) == ("none", "starts from random weights")
    again = start_model(job, tokenizer=tokenizer, vocabulary=load_vocabulary()).model
    assert torch.equal(found.model.token_head.weight, again.token_head.weight)
    assert not torch.equal(found.model.token_head.weight, other.model.token_head.weight)


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
    model = start_model(job, tokenizer=tokenizer, vocabulary=load_vocabulary()).model
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
            start_model(job, tokenizer=tokenizer, vocabulary=load_vocabulary())


def test_published_weights_of_other_tokens_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A directory that has its tokenizer is compared by digest, one without by the number of tokens."""
    config = encoder_config(SIZES, tokenizer, load_vocabulary())
    names = set(LayoutLMv3Config().to_dict()) - {"transformers_version", "architectures", "model_type"}
    sizes = {name: value for name, value in config.to_dict().items() if name in names}
    LayoutLMv3Model(LayoutLMv3Config(**sizes)).save_pretrained(tmp_path / "fits")
    LayoutLMv3Model(LayoutLMv3Config(**{**sizes, "vocab_size": 99})).save_pretrained(tmp_path / "small")

    def begin_with(directory: Path) -> Start:
        job = make_job(tmp_path, tmp_path / "out", architecture=SIZES, initial_weights=str(directory))
        return start_model(job, tokenizer=tokenizer, vocabulary=load_vocabulary())

    with pytest.raises(InputError, match="knows 99 tokens, the shards' tokenizer 10240; set tokenizer in"):
        begin_with(tmp_path / "small")
    tokenizer.save(tmp_path / "fits")
    assert begin_with(tmp_path / "fits")
    load_tokenizer("minilm").save(tmp_path / "fits")
    with pytest.raises(CheckpointError, match=r'fits.: knows the tokens of .* set "tokenizer": "minilm"'):
        begin_with(tmp_path / "fits")
