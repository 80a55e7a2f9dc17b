import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sap_vision_assets.encoder import MultiTaskOutput, load_encoder
from sap_vision_assets.errors import TrainingError
from sap_vision_assets.training import folders, loop
from sap_vision_assets.training.batches import document_names
from sap_vision_assets.training.config import ArchitectureConfig, TrainingJob
from sap_vision_assets.training.distributed import World
from sap_vision_assets.training.run import Run
from sap_vision_assets_tests.training.making import (
    KilledError,
    losses,
    make_job,
    make_shards,
    train_here,
)

DROPOUT = ArchitectureConfig(
    hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, patch_size=56, dropout=0.1
)


def weights(out: Path, name: str = "final") -> dict[str, Tensor]:
    return load_file(out / name / "model.safetensors")


def assert_equal_to_the_bit(first: Path, second: Path, name: str = "final") -> None:
    expected = weights(first, name)
    assert expected.keys() == weights(second, name).keys()
    for key, tensor in weights(second, name).items():
        assert torch.equal(tensor, expected[key]), key


def test_tiny_learns_twelve_documents_by_heart(short_shards: Path, tmp_path: Path) -> None:
    job = make_job(
        short_shards,
        tmp_path / "out",
        max_steps=60,
        batch_size=12,
        learning_rate=1e-2,
        warmup_steps=5,
        eval_every_steps=60,
        save_every_steps=60,
    )
    summary = train_here(job)
    assert summary is not None
    assert summary["best_score"] > 0.95
    assert summary["train_loss"] < 0.3
    assert losses(job.out)[0] > 8


def test_summary_and_files(short_shards: Path, tmp_path: Path) -> None:
    job = make_job(short_shards, tmp_path / "out", max_steps=6, save_every_steps=2, eval_every_steps=3)
    summary = train_here(job)
    assert summary is not None
    assert (summary["steps"], summary["epochs"], summary["num_processes"]) == (6, 2.0, 1)
    assert (summary["precision"], summary["resumed_from"]) == ("fp32", None)
    assert summary["best_step"] in (3, 6)
    assert summary["train_loss"] == losses(job.out)[-1]
    assert summary["checkpoint_bytes"] == (job.out / "best" / "model.safetensors").stat().st_size
    assert summary["num_parameters"] * 4 == pytest.approx(summary["checkpoint_bytes"], rel=0.02)
    # Two numbered ones are kept; nothing hidden is left.
    assert sorted(path.name for path in job.out.iterdir()) == [
        *("best", "checkpoint-4", "checkpoint-6", "final", "log.jsonl")
    ]
    assert {path.name for path in (job.out / "best").iterdir()} == {
        *("model.safetensors", "config.json", "optimizer.pt", "scheduler.pt", "training_state.json"),
        *("tokenizer.json", "tokenizer_config.json", "vocabulary.json"),
    }
    loaded = load_encoder(str(job.out / "final")).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights(job.out).items())
    state = json.loads((job.out / "checkpoint-4" / "training_state.json").read_text())
    assert state["sampler"] == {"seed": 0, "epoch": 1, "batch": 1}


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 4), (2, 8), (5, 4)])
def test_accumulation_gives_the_whole_batchs_gradient(
    batch_size: int, accumulation: int, shards: Path, tmp_path: Path
) -> None:
    def gradients(batch_size: int, accumulation: int, name: str) -> tuple[Tensor, dict[str, Tensor]]:
        job = make_job(
            shards, tmp_path / name, batch_size=batch_size, gradient_accumulation_steps=accumulation
        )
        run = _run(job)
        shares_M3 = loop._accumulate_gradients(run, next(loop._read(run)))
        assert len(shares_M3) == accumulation
        named = run.raw_model.named_parameters()
        return shares_M3.sum(dim=0), {name: parameter.grad for name, parameter in named}

    total = batch_size * accumulation
    expected_loss, expected = gradients(total, 1, "whole")
    loss, gradient = gradients(batch_size, accumulation, "parts")
    # Worst seen: 2e-7 of the loss, 7e-6 of a parameter's gradient; a key bias's is 0 but for rounding.
    assert loss.tolist() == pytest.approx(expected_loss.tolist(), rel=2e-6)
    for name, exact in expected.items():
        assert (gradient[name] - exact).norm() <= 1e-4 * exact.norm().clamp(min=1e-3), name


@pytest.mark.parametrize("task", ["doc_type", "po_subtype", "token"])
def test_a_task_of_weight_0_teaches_nothing(task: str, shards: Path, tmp_path: Path) -> None:
    def head_gradient(name: str, **changes: float) -> Tensor:
        run = _run(make_job(shards, tmp_path / name, **changes))
        loop._accumulate_gradients(run, next(loop._read(run)))
        gradients = [
            parameter.grad.flatten()
            for name, parameter in run.raw_model.named_parameters()
            if name.startswith(f"{task}_head.") and parameter.grad is not None
        ]
        return torch.cat(gradients)

    with_it = head_gradient("one")
    assert with_it.norm() > 0
    # Heads share nothing with each other, so that a head's gradient goes with its own weight alone.
    torch.testing.assert_close(head_gradient("half", **{f"{task}_loss_weight": 0.5}), 0.5 * with_it)
    assert head_gradient("none", **{f"{task}_loss_weight": 0.0}).norm() == 0


def test_one_batch_of_32_trains_as_eight_of_4(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "shards", num_documents=23, words_per_index=2)  # 32 windows of 11 to 64
    changes = {"max_steps": 12, "eval_every_steps": 12}
    whole = make_job(shards, tmp_path / "whole", batch_size=32, **changes)
    parts = make_job(shards, tmp_path / "parts", batch_size=4, gradient_accumulation_steps=8, **changes)
    for job, sizes in ((whole, [32]), (parts, [4] * 8)):
        sampler = _run(job).sampler
        for step in range(12):
            micros = sampler.micro_batches(step, rank=0, world_size=1)
            assert [len(micro.windows) for micro in micros] == sizes
            assert sorted(window for micro in micros for window in micro.windows) == list(range(32))
        assert train_here(job) is not None
    # Worst seen of three seeds: 1.3e-7 of a loss, 2e-6 of a weight's norm.
    assert losses(parts.out) == pytest.approx(losses(whole.out), rel=2e-6)
    for name, tensor in weights(whole.out).items():
        # These add the same to every score of a softmax: what moves them is rounding alone.
        if not name.endswith(("weigh.bias", "key.bias")):
            difference = (weights(parts.out)[name] - tensor).norm()
            assert difference <= 2e-5 * tensor.norm().clamp(min=1e-3), name


@pytest.mark.parametrize("killed_after", [2, 7])
def test_killed_and_started_again_equals_the_unbroken_run(
    killed_after: int, shards: Path, tmp_path: Path
) -> None:
    # Dropout is on, steps are saved every 3 and scored every 4: the kill falls between them.
    changes: dict[str, Any] = {
        **{"architecture": DROPOUT, "max_steps": 10, "save_every_steps": 3, "eval_every_steps": 4},
        "log_every_steps": 1,
    }
    unbroken, broken = (make_job(shards, tmp_path / name, **changes) for name in ("unbroken", "broken"))
    expected = train_here(unbroken)
    with pytest.raises(KilledError):
        train_here(broken, crash_after=killed_after)
    assert len(losses(broken.out)) == killed_after
    summary = train_here(broken)
    assert expected is not None
    assert summary is not None
    assert summary["resumed_from"] == (killed_after // 3 * 3 or None)
    assert losses(broken.out) == losses(unbroken.out)
    assert_equal_to_the_bit(unbroken.out, broken.out)
    assert_equal_to_the_bit(unbroken.out, broken.out, "best")
    for name in ("steps", "epochs", "train_loss", "best_step", "best_score"):
        assert summary[name] == expected[name]


def test_stop_saves_a_checkpoint_at_the_step_and_goes_on_from_it(shards: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"architecture": DROPOUT, "max_steps": 8, "save_every_steps": 100}
    unbroken, broken = (make_job(shards, tmp_path / name, **changes) for name in ("unbroken", "broken"))
    train_here(unbroken)
    assert train_here(broken, stop_after=3) is None
    # Asked after step 3 was logged, it ends with the step after.
    assert sorted(path.name for path in broken.out.iterdir()) == ["checkpoint-4", "log.jsonl"]
    train_here(broken)
    assert losses(broken.out) == losses(unbroken.out)
    assert_equal_to_the_bit(unbroken.out, broken.out)


def test_loss_that_is_not_finite_stops_before_the_update(shards: Path, tmp_path: Path) -> None:
    job = make_job(shards, tmp_path / "out", gradient_accumulation_steps=2, save_every_steps=1, max_steps=9)
    run = _run(job)
    plan = [run.sampler.micro_batches(step, rank=0, world_size=1) for step in range(4)]
    step = next(index for index in (2, 3) if len(plan[index]) == 2)
    bad_call = sum(len(micros) for micros in plan[:step]) + 2  # the step's second micro-batch
    bad_documents = set(document_names(run.train_shards, plan[step][1].windows))
    forward, calls = run.raw_model.forward, 0

    def poisoned(*inputs: Tensor) -> MultiTaskOutput:
        nonlocal calls
        calls += 1
        output: MultiTaskOutput = forward(*inputs)
        factor = math.nan if calls == bad_call else 1.0
        return MultiTaskOutput(**{**vars(output), "token_logits_BTC": output.token_logits_BTC * factor})

    run.raw_model.forward = poisoned  # type: ignore[method-assign]
    with pytest.raises(
        TrainingError, match=f"step {step + 1}: the loss is not finite, first on rank 0"
    ) as caught:
        loop.train(run, report=lambda _: None, stop_requested=lambda: False)
    assert all(f"'{name}'" in str(caught.value) for name in bad_documents)
    # The weights are those of the step before.
    for name, tensor in weights(job.out, f"checkpoint-{step}").items():
        assert torch.equal(tensor, run.raw_model.state_dict()[name])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_batch_without_anything_to_score_has_loss_0(precision: str, shards: Path, tmp_path: Path) -> None:
    """FAULT 59. The twin is the same batch before its targets are taken away."""
    run = _run(make_job(shards, tmp_path / "out", precision=precision))
    micro_batches = next(loop._read(run))
    run.scaler.load_state_dict({**run.scaler.state_dict(), "scale": 16.0})
    usual = loop._step(run, micro_batches, lambda: False, 0.0)
    assert min(usual.losses) > 0
    assert usual.grad_norm > 0
    for _, batch in micro_batches:
        for target in (batch.token_labels_BT, batch.doc_type_B, batch.po_subtype_B):
            target.fill_(-100)
    result = loop._step(run, micro_batches, lambda: False, 0.0)
    assert result.losses == (0.0, 0.0, 0.0)
    assert result.grad_norm == 0.0
    assert not result.skipped
    assert all(tensor.isfinite().all() for tensor in run.raw_model.state_dict().values())


def test_fp16_overflow_skips_the_update_and_the_schedule(shards: Path, tmp_path: Path) -> None:
    run = _run(make_job(shards, tmp_path / "out", precision="fp16"))
    micro_batches = next(loop._read(run))
    before = {name: tensor.clone() for name, tensor in run.raw_model.state_dict().items()}
    rate = run.scheduler.get_last_lr()
    usual = run.scaler.state_dict()
    run.scaler.load_state_dict({**usual, "scale": 2.0**100})
    overflowed = loop._step(run, micro_batches, lambda: False, 0.0)
    assert overflowed.skipped
    assert run.scaler.get_scale() == 2.0**99
    assert run.scheduler.get_last_lr() == rate
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.raw_model.state_dict().items())
    run.scaler.load_state_dict({**usual, "scale": 16.0})
    fine = loop._step(run, micro_batches, lambda: False, 0.0)
    assert not fine.skipped
    assert run.scheduler.get_last_lr() != rate
    assert not torch.equal(run.raw_model.state_dict()["token_head.bias"], before["token_head.bias"])
    # The same numbers, in half the digits.
    assert fine.losses == pytest.approx(overflowed.losses, rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_on_a_cpu(precision: str, shards: Path, tmp_path: Path) -> None:
    changes = {"max_steps": 3, "learning_rate": 1e-3, "gradient_accumulation_steps": 2}
    exact = make_job(shards, tmp_path / "fp32", **changes)
    half = make_job(shards, tmp_path / "half", precision=precision, **changes)
    train_here(exact)
    summary = train_here(half)
    assert summary is not None
    assert summary["precision"] == precision
    # Worst seen: 1.3e-5 in bf16, 1e-6 in fp16.
    assert losses(half.out) == pytest.approx(losses(exact.out), rel=2e-4)
    assert losses(half.out) != losses(exact.out)
    assert all(tensor.dtype == torch.float32 for tensor in weights(half.out).values())


def test_progress_round_trip(shards: Path, tmp_path: Path) -> None:
    job = make_job(
        shards, tmp_path / "out", max_steps=3, log_every_steps=2, eval_every_steps=2, save_every_steps=3
    )
    train_here(job)
    state = json.loads((job.out / "checkpoint-3" / "training_state.json").read_text())
    run = _run(job)
    assert json.loads(json.dumps(asdict(run.state))) == state["progress"]
    assert run.state.step == 3
    assert run.state.best is not None


def _run(job: TrainingJob) -> Run:
    job.out.mkdir(exist_ok=True)
    return Run(job, World(rank=0, size=1, device=torch.device("cpu")))


def test_out_of_memory_names_what_to_change_in_order(shards: Path, tmp_path: Path) -> None:
    """A limit of the address space, as the kernel would set one, and a batch that cannot fit under it."""
    job = make_job(shards, tmp_path / "out", batch_size=32, eval_every_steps=20)
    (tmp_path / "job.json").write_text(json.dumps(job.to_json()))
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from sap_vision_assets.training.config import TrainingJob\n"
        "from sap_vision_assets.training import loop, worker\n"
        "accumulate = loop._accumulate_gradients\n"
        "def limited(*arguments):\n"
        "    used = 4096 * int(Path('/proc/self/statm').read_text().split()[0])\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), -1))\n"
        "    return accumulate(*arguments)\n"
        "if sys.argv[2] == 'limited':\n"
        "    loop._accumulate_gradients = limited\n"
        "worker.run_job(TrainingJob.read(Path(sys.argv[1])))\n"
    )

    def run(word: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, str(tmp_path / "job.json"), word]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    failed = run("limited")
    assert failed.returncode == 1
    message = failed.stderr.splitlines()[-1]
    assert "TrainingError: step 1: memory ran out on cpu" in message
    remedies = [
        "batch_size=32",
        "gradient_accumulation_steps=1",
        "gradient_checkpointing",
        "max_tokens",
        "fsdp",
    ]
    assert sorted(remedies, key=message.index) == remedies
    assert folders.newest(job.out) is None
    assert run("free").returncode == 0


@pytest.mark.parametrize("message", ["DataLoader worker (pid 7) is killed", "something else"])
def test_lost_loader_is_named_though_the_kernel_tells_of_it_once_more(
    message: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell_again(*_: object) -> None:
        raise RuntimeError("told again")

    def name_documents(*_: object) -> TrainingError:
        os.kill(os.getpid(), signal.SIGCHLD)
        return TrainingError("documents are named")

    run = _run(make_job(shards, tmp_path / "out"))
    monkeypatch.setattr(loop, "_lost_loader", name_documents)
    before = signal.signal(signal.SIGCHLD, tell_again)
    try:
        is_lost = message.startswith("DataLoader")
        expected = (TrainingError, "documents are named") if is_lost else (RuntimeError, "something else")
        with pytest.raises(expected[0], match=expected[1]), loop._explained(run):
            raise RuntimeError(message)
        assert (signal.getsignal(signal.SIGCHLD) is tell_again) == (not is_lost)
    finally:
        signal.signal(signal.SIGCHLD, before)
