import json
from dataclasses import replace
from pathlib import Path

import pytest

from sap_vision_assets.errors import InputError
from sap_vision_assets.shards import load_tokenizer
from sap_vision_assets.training import RECIPES, ArchitectureConfig, TrainingConfig, TrainingJob
from sap_vision_assets.training.initialization import encoder_config
from sap_vision_assets.training.recipes import base, base_finetune, tiny
from sap_vision_assets.vocabulary import load_vocabulary


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_survives_json_and_fits_the_encoder(name: str) -> None:
    config = RECIPES[name]()
    assert TrainingConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    if config.architecture is not None:
        encoder = encoder_config(config.architecture, load_tokenizer("builtin"), load_vocabulary())
        assert encoder.max_tokens == 512


def test_base_is_layoutlmv3_base_with_the_stated_schedule() -> None:
    config = base()
    assert (config.batch_size, config.gradient_accumulation_steps, config.global_batch_size) == (4, 8, 32)
    assert (config.learning_rate, config.warmup_steps, config.max_steps) == (5e-5, 1000, 50_000)
    assert (config.weight_decay, config.max_grad_norm, config.precision) == (0.01, 1.0, "fp16")
    assert config.architecture == ArchitectureConfig()
    encoder = encoder_config(ArchitectureConfig(), load_tokenizer("builtin"), load_vocabulary())
    assert (encoder.hidden_size, encoder.coordinate_size, encoder.shape_size) == (768, 128, 128)
    assert encoder.max_position_embeddings == 514
    assert (base_finetune().learning_rate, base_finetune().max_steps) == (2e-5, 10_000)
    assert base_finetune().architecture is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_steps": 20}, "warmup_steps=20 must be less than max_steps=20"),
        ({"batch_size": 0}, "batch_size=0 must be positive"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 must be positive"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must not be negative"),
        ({"token_loss_weight": -1.0}, "token_loss_weight=-1.0 must not be negative"),
        (
            {"doc_type_loss_weight": 0.0, "po_subtype_loss_weight": 0.0, "token_loss_weight": 0.0},
            "all three loss weights are 0",
        ),
        ({"precision": "fp8"}, "precision='fp8' is unknown"),
        ({"tracker": "mlflow"}, "tracker='mlflow' is unknown"),
        ({"adam_beta2": 1.0}, "adam_beta2=1.0"),
        ({"word_masking": 1.0}, "word_masking=1.0 must be in 0..1, without 1"),
        ({"layout_jitter": -0.1}, "layout_jitter=-0.1 must be in 0..1, without 1"),
        ({"initial_weights": ""}, "initial_weights is empty; say 'none'"),
        ({"num_nodes": 0}, "num_nodes=0 must be positive"),
        ({"rendezvous_endpoint": "node1"}, "rendezvous_endpoint='node1' is no host:port"),
        ({"rendezvous_endpoint": "node1:65536"}, "is no host:port, such as node1:29400"),
        ({"rendezvous_endpoint": "fd00::1:29400"}, "is no host:port"),
        ({"rendezvous_endpoint": "a,is_host=1:29400"}, "is no host:port"),
    ],
)
def test_fields_that_disagree_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(tiny(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "endpoint", ["node1:29400", "node-1.rack_2.lan:1", "10.0.0.1:65535", "[fd00::1]:29400"]
)
def test_endpoint_can_be(endpoint: str) -> None:
    assert replace(tiny(), rendezvous_endpoint=endpoint).rendezvous_endpoint == endpoint


def test_global_batch_counts_machines() -> None:
    config = replace(tiny(), batch_size=4, gradient_accumulation_steps=3, num_processes=2, num_nodes=5)
    assert config.global_batch_size == 120


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "must be a multiple of num_heads=3"),
        ({"hidden_size": 33, "num_heads": 3}, "must be even"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"num_layers": 0}, "num_layers=0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, float], message: str) -> None:
    sizes = {"hidden_size": 32, "num_heads": 4, **changes}
    with pytest.raises(InputError, match=message):
        ArchitectureConfig(**sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("hidden_size", [32, 64, 192, 256, 384, 768])
def test_box_embeddings_fill_a_hidden_state(hidden_size: int) -> None:
    sizes = ArchitectureConfig(hidden_size=hidden_size, num_heads=2)
    assert 4 * sizes.coordinate_size + 2 * sizes.shape_size == hidden_size
    assert sizes.shape_size > 0


def test_job_survives_json(tmp_path: Path) -> None:
    job = TrainingJob(
        train_shards=tmp_path / "train", val_shards=tmp_path / "val", out=tmp_path / "out", config=tiny()
    )
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job.to_json()))
    assert TrainingJob.read(file) == job


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": {"max_steps": 1}}', '{"config": 3}'])
def test_file_that_is_no_job_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"job\.json: is not a training job"):
        TrainingJob.read(file)


def test_unknown_field_is_refused() -> None:
    with pytest.raises(InputError, match="learning_rat"):
        TrainingConfig.from_json({**tiny().to_json(), "learning_rat": 1.0})


def test_job_without_sizes_or_with_two_origins_is_refused(tmp_path: Path) -> None:
    paths = {"train_shards": tmp_path, "val_shards": tmp_path, "out": tmp_path}
    with pytest.raises(InputError, match="as in the initial checkpoint, but none is given"):
        TrainingJob(**paths, config=replace(tiny(), architecture=None))
    with pytest.raises(InputError, match="choose one"):
        TrainingJob(**paths, config=replace(tiny(), initial_weights="x"), initial_checkpoint=tmp_path)


def test_job_file_that_cannot_be_understood_says_so_once(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    job = TrainingJob(train_shards=tmp_path, val_shards=tmp_path, out=tmp_path, config=tiny())
    record = job.to_json()
    file.write_text(json.dumps(record))
    assert TrainingJob.read(file) == job
    record["config"]["batch_size"] = 0
    file.write_text(json.dumps(record))
    with pytest.raises(InputError) as caught:
        TrainingJob.read(file)
    assert str(caught.value) == f"{file}: is not a training job: batch_size=0 must be positive"
    file.write_text("{")
    with pytest.raises(InputError, match="is not a training job: Expecting property name"):
        TrainingJob.read(file)
