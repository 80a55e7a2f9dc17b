"""FSDP2 on two gloo ranks: the same training as on one process, and checkpoints that any world size reads."""

import io
import pickle
import shutil
import signal
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sap_vision_assets.errors import CheckpointError, InputError, TrainingError
from sap_vision_assets.training import TrainingJob, folders, launch
from sap_vision_assets.training.sharded import read, write
from sap_vision_assets_tests.training.making import losses, make_job, train_here
from sap_vision_assets_tests.training.test_checkpoints import reseal
from sap_vision_assets_tests.training.test_launcher import ENV, family, rank_process

CHANGES: dict[str, Any] = {"max_steps": 24, "batch_size": 2, "save_every_steps": 10, "eval_every_steps": 12}
TOLERANCE = 1e-5
"""Relative, of a loss. Worst seen over 24 steps, against one process: 0 with DDP, 5e-8 with FSDP."""


@pytest.fixture(scope="module")
def one_process(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    out = tmp_path_factory.mktemp("one") / "out"
    job = make_job(shards, out, **{**CHANGES, "gradient_accumulation_steps": 2})
    train_here(job)
    return job


@pytest.fixture(scope="module")
def fsdp(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """Two ranks, unbroken; the directory has checkpoint-10 and checkpoint-20."""
    out = tmp_path_factory.mktemp("fsdp") / "out"
    job = make_job(shards, out, num_processes=2, strategy="fsdp", **CHANGES)
    assert launch(job, env=ENV)["num_processes"] == 2
    return job


def weights(job: TrainingJob) -> dict[str, torch.Tensor]:
    return load_file(job.out / "final" / "model.safetensors")


def test_one_process_ddp_and_fsdp_lose_alike(
    one_process: TrainingJob, fsdp: TrainingJob, tmp_path: Path
) -> None:
    ddp = replace(fsdp, out=tmp_path / "out", config=replace(fsdp.config, strategy="ddp"))
    launch(ddp, env=ENV)
    assert len(losses(one_process.out)) == 24
    for job in (ddp, fsdp):
        assert losses(job.out) == pytest.approx(losses(one_process.out), rel=TOLERANCE)
    shapes = {name: tensor.shape for name, tensor in weights(one_process).items()}
    assert {name: tensor.shape for name, tensor in weights(fsdp).items()} == shapes


@pytest.mark.parametrize("changes", [{"cpu_offload": True}, {"gradient_checkpointing": True}], ids=str)
def test_memory_options_change_no_number(changes: dict[str, Any], fsdp: TrainingJob, tmp_path: Path) -> None:
    job = replace(fsdp, out=tmp_path / "out", config=replace(fsdp.config, **changes))
    launch(job, env=ENV)
    assert losses(job.out) == losses(fsdp.out)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_killed_then_equal_to_the_unbroken_run(optimizer: str, fsdp: TrainingJob, tmp_path: Path) -> None:
    config = replace(fsdp.config, optimizer=optimizer)
    unbroken = replace(fsdp, out=tmp_path / "unbroken", config=config)
    launch(unbroken, env=ENV)
    job = replace(unbroken, out=tmp_path / "out")

    def kill_rank_1(line: str) -> None:
        if line.startswith("step 15/"):
            rank_process(1).send_signal(signal.SIGKILL)

    with pytest.raises(TrainingError, match="rank 1 was ended by SIGKILL"):
        launch(job, env=ENV, on_line=kill_rank_1)
    assert not family()
    assert launch(job, env=ENV)["resumed_from"] == 10
    assert losses(job.out) == losses(unbroken.out)
    assert all(torch.equal(weights(job)[name], tensor) for name, tensor in weights(unbroken).items())


def left_at_10(finished: TrainingJob, out: Path) -> None:
    """`out` as if `finished` had been killed after checkpoint-10."""
    shutil.copytree(finished.out, out, ignore=shutil.ignore_patterns("final", "checkpoint-20"))


def test_sharded_checkpoint_goes_on_unsharded(fsdp: TrainingJob, tmp_path: Path) -> None:
    left_at_10(fsdp, tmp_path / "one")
    config = replace(fsdp.config, num_processes=1, strategy="ddp", gradient_accumulation_steps=2)
    one = replace(fsdp, out=tmp_path / "one", config=config)
    summary = train_here(one)
    assert summary is not None
    assert summary["resumed_from"] == 10
    assert losses(one.out) == pytest.approx(losses(fsdp.out), rel=TOLERANCE)


def test_unsharded_checkpoint_goes_on_sharded(
    one_process: TrainingJob, fsdp: TrainingJob, tmp_path: Path
) -> None:
    left_at_10(one_process, tmp_path / "two")
    two = replace(fsdp, out=tmp_path / "two")
    assert launch(two, env=ENV)["resumed_from"] == 10
    assert losses(two.out) == pytest.approx(losses(one_process.out), rel=TOLERANCE)


def test_hostile_listing_of_shards_is_refused_and_does_not_run(fsdp: TrainingJob, tmp_path: Path) -> None:
    """FAULT 54."""
    left_at_10(fsdp, tmp_path / "out")
    mark = tmp_path / "it_ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    listing = tmp_path / "out" / "checkpoint-10" / "optimizer" / ".metadata"
    listing.write_bytes(pickle.dumps(Payload()))
    reseal(tmp_path / "out" / "checkpoint-10")
    config = replace(fsdp.config, num_processes=1, strategy="ddp", gradient_accumulation_steps=2)
    with pytest.raises(CheckpointError, match=r"\.metadata: was not read, and nothing in it ran"):
        train_here(replace(fsdp, out=tmp_path / "out", config=config))
    assert not mark.exists()
    pickle.loads(listing.read_bytes())
    assert mark.exists()  # It was one that runs.


def test_pickle_in_a_shard_is_refused_and_does_not_run(fsdp: TrainingJob, tmp_path: Path) -> None:
    """FAULT 54. The twin is the same shard in the test above it, which is read."""
    left_at_10(fsdp, tmp_path / "out")
    mark = tmp_path / "it_ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    shard = tmp_path / "out" / "checkpoint-10" / "optimizer" / "__0_0.distcp"
    # In place of the first tensor; the older format needs no end at a known place.
    stream = io.BytesIO()
    torch.save(Payload(), stream, _use_new_zipfile_serialization=False)
    shard.write_bytes(stream.getvalue() + shard.read_bytes()[len(stream.getvalue()) :])
    reseal(tmp_path / "out" / "checkpoint-10")
    config = replace(fsdp.config, num_processes=1, strategy="ddp", gradient_accumulation_steps=2)
    with pytest.raises(CheckpointError, match=r"optimizer: cannot be read"):
        train_here(replace(fsdp, out=tmp_path / "out", config=config))
    assert not mark.exists()
    torch.load(shard, weights_only=False)
    assert mark.exists()  # It was one that runs.


def test_shard_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tensors = {"weight.exp_avg": torch.ones(3)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        write(tmp_path / "optimizer", tensors)
        (tmp_path / "full").touch()
        with pytest.raises(TrainingError, match=r"full/optimizer: rank 0 could not write it \(NotADirectory"):
            write(tmp_path / "full" / "optimizer", tensors)
    found = read(tmp_path / "optimizer", {"weight": torch.zeros(3)})
    assert torch.equal(found["weight.exp_avg"], tensors["weight.exp_avg"])


def test_listing_of_another_model_is_refused(fsdp: TrainingJob) -> None:
    with pytest.raises(CheckpointError, match="belongs to no parameter of the model"):
        read(fsdp.out / "checkpoint-10" / "optimizer", {"other": torch.zeros(2)})


def test_checkpoints_list_their_shards(fsdp: TrainingJob) -> None:
    state = folders.verify(fsdp.out / "checkpoint-10")
    names = sorted(name for name in state["files"] if name.startswith("optimizer/"))
    assert names == ["optimizer/.metadata", "optimizer/__0_0.distcp", "optimizer/__1_0.distcp"]
    (fsdp.out / "checkpoint-10" / "optimizer" / "__1_0.distcp").rename(fsdp.out / "aside")
    with pytest.raises(CheckpointError, match=r"__1_0\.distcp: is missing"):
        folders.verify(fsdp.out / "checkpoint-10")
    (fsdp.out / "aside").rename(fsdp.out / "checkpoint-10" / "optimizer" / "__1_0.distcp")


def test_offload_without_fsdp_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cpu_offload=true needs strategy='fsdp', not 'ddp'"):
        make_job(shards, tmp_path, cpu_offload=True)
