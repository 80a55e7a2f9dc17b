"""Processes and devices: the only file that knows of process groups and of wrapped models."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from sap_vision_assets.encoder.attention import EncoderLayer
from sap_vision_assets.errors import InputError
from sap_vision_assets.training.config import TrainingConfig

LOST_PEER_SIGNS = (
    *("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo"),
    "Application timeout caused pair closure",
)


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among the others of one training. One process alone needs no process group."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, in place on this one; every rank must call it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, by rank, on every rank. Small Python objects only."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Returns when all ranks have come here."""
        if self.size > 1:
            dist.barrier()


def start(config: TrainingConfig) -> World:
    """Joins the process group that torchrun's environment describes; without one, a world of this process.

    Raises InputError when there are fewer GPUs than processes.
    """
    rank, size, local_rank = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"{config.num_processes} processes for {torch.cuda.device_count()} GPUs; lower num_processes"
            )
        torch.cuda.set_device(device)
    if size > 1 or config.strategy == "fsdp":
        # gloo beside nccl: weights that wait on the CPU are exchanged there.
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=config.collective_timeout_s))
    return World(rank=rank, size=size, device=device)


def stop(world: World) -> None:
    """Leaves the process group after the last exchange, where that can be done; else `leave` must follow."""
    if dist.is_initialized() and world.device.type == "cuda":
        dist.destroy_process_group()


def wrap(model: nn.Module, world: World, config: TrainingConfig) -> nn.Module:
    """The model as the loop calls it, on the rank's device: a step's last backward averages the gradients.

    With fsdp it is `model` itself, whose parameters are DTensors from now on.
    """
    if config.strategy == "fsdp":
        return _shard(model, world, cpu_offload=config.cpu_offload)
    model.to(world.device)
    if world.size == 1:
        return model
    device_ids = [world.device.index] if world.device.type == "cuda" else None
    # Each step's gradients live in the all-reduce buckets: no second copy of them.
    return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)


def _shard(model: nn.Module, world: World, *, cpu_offload: bool) -> nn.Module:
    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = CPUOffloadPolicy(pin_memory=world.device.type == "cuda") if cpu_offload else OffloadPolicy()
    # The root's parameters too go back to their shards after a forward: after a validation, which has no
    # backward, the optimizer and the checkpoint would else meet other tensors than in training.
    for module in [*(part for part in model.modules() if isinstance(part, EncoderLayer)), model]:
        fully_shard(module, mesh=mesh, reshard_after_forward=True, offload_policy=policy)
    return model


@contextmanager
def accumulate_only(model: nn.Module) -> Iterator[None]:
    """Inside, backward adds up this rank's gradients and does not average them over the ranks."""
    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    elif isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)
    else:
        yield


def is_sharded(model: nn.Module) -> bool:
    """Whether each rank holds a part of the weights only."""
    return isinstance(model, FSDPModule)


def full_weights(model: nn.Module, world: World) -> dict[str, Tensor]:
    """The whole state dict on the CPU, on rank 0, and nothing elsewhere. Every rank must call it."""
    if is_sharded(model):
        return get_model_state_dict(  # type: ignore[return-value]  # a model's values are tensors
            model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
        )
    return (
        {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()} if world.is_main else {}
    )


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be sharded. Every rank must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole `tensor`, equal on every rank, on the device of `other`; sharded as it if it has its shape."""
    if not isinstance(other, DTensor) or tensor.shape != other.shape:
        return tensor.to(other.device)
    parts = distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)
    placed = torch.empty_like(other)
    assert isinstance(placed, DTensor)
    # `parts` is on the mesh's device, while shards that are offloaded are on the CPU.
    placed.to_local().copy_(parts.to_local())
    return placed


def leave(status: int) -> NoReturn:
    """Ends the process with `status` at once, without destroying anything.

    A gloo process group that is destroyed holds the interpreter's lock and waits for its thread, which may
    just want that lock to let go of a tensor. On a busy machine ranks hung there for ever (torch 2.13).
    """
    with suppress(BrokenPipeError):  # whoever read it may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def is_lost_peer(error: BaseException) -> bool:
    """Whether a rank failed only because another one did: their connection broke during an exchange."""
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in LOST_PEER_SIGNS)
