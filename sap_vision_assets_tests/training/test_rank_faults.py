"""What goes wrong on one of two ranks: all of them end before it does harm (FAULTS 48, 57, 58)."""

import json
import math
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sap_vision_assets.errors import TrainingError
from sap_vision_assets.shards import open_shards
from sap_vision_assets.training import TrainingJob, folders, launch
from sap_vision_assets.training.batches import LengthGroupedSampler, document_names
from sap_vision_assets.training.launcher import TrainingStoppedError
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.training.making import losses, make_job
from sap_vision_assets_tests.training.test_launcher import ENV, family

CHANGES: dict[str, Any] = {
    **{"num_processes": 2, "batch_size": 2, "max_steps": 5, "warmup_steps": 1},
    **{"save_every_steps": 1, "eval_every_steps": 5, "keep_checkpoints": 10},
}


def faulty(directory: Path, program: str, *, rank: int = 1) -> dict[str, str]:
    """An environment in which `program` runs first in that rank: Python imports sitecustomize by itself."""
    lines = "".join(f"    {line}\n" for line in program.splitlines())
    (directory / "sitecustomize.py").write_text(f"import os\nif os.environ.get('RANK') == '{rank}':\n{lines}")
    return {**ENV, "PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """The twin: two ranks without a fault, and each of their checkpoints."""
    job = make_job(shards, tmp_path_factory.mktemp("whole") / "out", **CHANGES)
    launch(job, env=ENV)
    return job


def test_nan_on_one_rank_stops_all_before_the_update_and_names_its_batch(
    whole: TrainingJob, tmp_path: Path
) -> None:
    """FAULT 57; and, since it is there again after the restart, 48: restarts come to an end."""
    poisoned = (
        "from dataclasses import replace\n"
        "from sap_vision_assets.training import loop\n"
        "accumulate, loss = loop._accumulate_gradients, loop.multitask_loss\n"
        "def nan(output, **targets):\n"
        "    logits = output.token_logits_BTC * float('nan')\n"
        "    return loss(replace(output, token_logits_BTC=logits), **targets)\n"
        "def poisoned(run, micro_batches):\n"
        "    loop.multitask_loss = nan if run.state.step == 3 else loss\n"
        "    return accumulate(run, micro_batches)\n"
        "loop._accumulate_gradients = poisoned\n"
    )
    job = replace(whole, out=tmp_path / "out", config=replace(whole.config, max_restarts=1))
    lines: list[str] = []
    with pytest.raises(TrainingError, match="step 4: the loss is not finite, first on rank 1") as caught:
        launch(job, env=faulty(tmp_path, poisoned), on_line=lines.append)
    assert not family()
    opened = open_shards(job.train_shards, load_vocabulary())
    plan = LengthGroupedSampler(opened.window_lengths, global_batch_size=4, batch_size=2, seed=0)
    (micro,) = plan.micro_batches(3, rank=1, world_size=2)
    assert f"with documents {document_names(opened, micro.windows)}; nothing was updated" in str(caught.value)
    (restarted_at,) = (at for at, line in enumerate(lines) if "; starts again, 1 restarts are left" in line)
    for start in (lines[:restarted_at], lines[restarted_at + 1 :]):
        # Both ranks say so.
        assert sum("TrainingError: step 4: the loss is not finite" in line for line in start) == 2
    assert [line for line in lines if line.startswith("goes on")] == ["goes on from step 3"]
    # Neither went on: three steps are logged and saved, to the byte as without the fault.
    assert losses(job.out) == losses(whole.out)[:3]
    assert folders.newest(job.out) == job.out / "checkpoint-3"
    assert not list(job.out.glob(".*.new"))
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt"):
        expected = (whole.out / "checkpoint-3" / name).read_bytes()
        assert (job.out / "checkpoint-3" / name).read_bytes() == expected


OVERFLOW = {
    # Before the ranks' gradients come together, as in a real overflow.
    "ddp": (
        "        handle = run.raw_model.token_head.weight.register_hook(lambda grad: grad * float('inf'))\n"
        "        shares = accumulate(run, micro_batches)\n"
        "        handle.remove()\n"
        "        return shares\n"
    ),
    # In the shard that this rank alone holds.
    "fsdp": (
        "        shares = accumulate(run, micro_batches)\n"
        "        run.raw_model.token_head.weight.grad.to_local().fill_(float('inf'))\n"
        "        return shares\n"
    ),
}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_fp16_overflow_on_one_rank_skips_the_step_on_all(strategy: str, shards: Path, tmp_path: Path) -> None:
    """FAULT 58. The twins are the steps beside it."""
    overflow = (
        "from sap_vision_assets.training import loop\n"
        "accumulate = loop._accumulate_gradients\n"
        "def overflow(run, micro_batches):\n"
        "    if run.state.step == 2:\n"
        f"{OVERFLOW[strategy]}"
        "    return accumulate(run, micro_batches)\n"
        "loop._accumulate_gradients = overflow\n"
    )
    job = make_job(shards, tmp_path / "out", **{**CHANGES, "precision": "fp16", "strategy": strategy})
    summary = launch(job, env=faulty(tmp_path, overflow))
    # The first step finds the scale that it starts with too large, by itself; the third was made to.
    assert summary["skipped_steps"] == 2
    records = [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]
    rates = {record["step"]: record["learning_rate"] for record in records if "loss" in record}
    assert rates[1] == rates[2] != rates[3] == rates[4] != rates[5]
    states = {step: folders.verify(job.out / f"checkpoint-{step}") for step in (1, 2, 3, 4)}
    scales = {step: state["scaler"]["scale"] for step, state in states.items()}
    assert scales[3] == scales[2] / 2
    assert scales[1] == scales[2]
    assert scales[3] == scales[4]
    # With fsdp these are the shards of both ranks: nowhere was a weight moved.
    weights = {step: (job.out / f"checkpoint-{step}" / "model.safetensors").read_bytes() for step in states}
    assert weights[3] == weights[2]
    assert weights[2] != weights[1]
    assert weights[4] != weights[3]
    assert all(math.isfinite(loss) for loss in losses(job.out))


def test_a_rank_that_waits_for_another_one_ends_at_once(shards: Path, tmp_path: Path) -> None:
    """Before all have come together there is nothing to save: SIGTERM need not be heeded, it ends a rank."""
    late = "import time, sys\nif 'sap_vision_assets.training.worker' in sys.orig_argv:\n    time.sleep(600)\n"
    environment = faulty(tmp_path, late)
    with (tmp_path / "sitecustomize.py").open("a") as stream:
        stream.write(
            "if os.environ.get('RANK') == '0':\n"
            "    from pathlib import Path\n"
            "    from sap_vision_assets.training import distributed\n"
            "    start = distributed.start\n"
            "    def joining(config):\n"
            f"        Path({str(tmp_path / 'joining')!r}).touch()\n"
            "        return start(config)\n"
            "    distributed.start = joining\n"
        )
    stop = threading.Event()

    def request() -> None:
        while not (tmp_path / "joining").exists():
            threading.Event().wait(0.1)
        threading.Event().wait(1)
        stop.set()

    asking = threading.Thread(target=request)
    asking.start()
    job = make_job(shards, tmp_path / "out", **{**CHANGES, "shutdown_grace_s": 5})
    lines: list[str] = []
    with pytest.raises(TrainingStoppedError, match="begins anew: no checkpoint had been saved"):
        launch(job, env=environment, stop_event=stop, on_line=lines.append)
    asking.join()
    assert not family()
    # What torchrun says of a rank that does not end by itself in time.
    assert not [line for line in lines if "forcefully exiting" in line]
