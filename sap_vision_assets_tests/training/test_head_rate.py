"""Heads that learn faster than the trunk: the same in every way to train."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sap_vision_assets.errors import InputError
from sap_vision_assets.training import TrainingJob, launch
from sap_vision_assets.training.optim import make_scheduler
from sap_vision_assets_tests.training.making import losses, make_job, train_here
from sap_vision_assets_tests.training.test_launcher import ENV
from sap_vision_assets_tests.training.test_optim import make_named_optimizer

HEADS = ("doc_type_head.", "po_subtype_head.", "token_head.")
CHANGES: dict[str, Any] = {"max_steps": 4, "save_every_steps": 2, "eval_every_steps": 4}


def weights(job: TrainingJob, name: str = "final") -> dict[str, Tensor]:
    return load_file(job.out / name / "model.safetensors")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_heads_alone_have_the_rate_all_the_way(optimizer: str) -> None:
    _, made, group_of = make_named_optimizer(
        optimizer=optimizer, learning_rate=1e-3, head_rate_factor=5.0, position_bias_rate_factor=1.0
    )
    scheduler = make_scheduler(made, warmup_steps=0, max_steps=4)
    for rate in (1e-3, 0.75e-3, 0.5e-3):
        for name, group in group_of.items():
            assert group["lr"] == pytest.approx(5 * rate if name.startswith(HEADS) else rate), name
        # The rate that is logged is the trunk's.
        assert scheduler.get_last_lr()[0] == pytest.approx(rate)
        made.step()
        scheduler.step()


def test_a_first_step_moves_heads_by_as_many_times_as_much(short_shards: Path, tmp_path: Path) -> None:
    def moved(name: str, factor: float) -> dict[str, Tensor]:
        """AdamW's first update of a weight is its rate, whatever the gradient, if it does not decay."""
        before: dict[str, Tensor] = {}
        changes = {"warmup_steps": 0, "weight_decay": 0.0, "save_every_steps": 1, "max_steps": 2}
        job = make_job(short_shards, tmp_path / name, head_rate_factor=factor, **changes)
        train_here(
            job,
            change=lambda run: before.update({k: v.clone() for k, v in run.raw_model.state_dict().items()}),
        )
        return {key: tensor - before[key] for key, tensor in weights(job, "checkpoint-1").items()}

    once, thrice = moved("once", 1.0), moved("thrice", 3.0)
    for name, step in once.items():
        torch.testing.assert_close(
            thrice[name], step * (3 if name.startswith(HEADS) else 1), rtol=1e-3, atol=1e-6
        )
    assert once["token_head.weight"].abs().median() == pytest.approx(3e-3, rel=1e-2)


@pytest.fixture(scope="module", params=["adamw", "muon"])
def one_process(
    request: pytest.FixtureRequest, shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainingJob:
    out = tmp_path_factory.mktemp("heads") / "out"
    job = make_job(shards, out, optimizer=request.param, head_rate_factor=3.0, **CHANGES)
    train_here(job)
    return job


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_lose_alike_and_go_on_from_one_process(
    strategy: str, one_process: TrainingJob, tmp_path: Path
) -> None:
    config = replace(one_process.config, batch_size=2, num_processes=2, strategy=strategy)  # type: ignore[arg-type]
    whole, resumed = (
        replace(one_process, out=tmp_path / name, config=config) for name in ("whole", "resumed")
    )
    launch(whole, env=ENV)
    shutil.copytree(one_process.out / "checkpoint-2", resumed.out / "checkpoint-2")
    assert launch(resumed, env=ENV)["resumed_from"] == 2
    for job, expected in ((whole, losses(one_process.out)), (resumed, losses(one_process.out)[2:])):
        # Worst seen: 3e-7.
        assert losses(job.out) == pytest.approx(expected, rel=1e-5)


def test_factor_of_0_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="head_rate_factor=0 must be positive"):
        make_job(tmp_path, tmp_path, head_rate_factor=0)
