"""Processes and devices: the only file that knows of process groups and of wrapped models."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sap_vision_assets.errors import InputError
from sap_vision_assets.training.config import Strategy

LOST_PEER_SIGNS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo")


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


def start(timeout_s: float) -> World:
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
            raise InputError(f"{size} processes for {torch.cuda.device_count()} GPUs; lower num_processes")
        torch.cuda.set_device(device)
    if size > 1:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=timeout_s))
    return World(rank=rank, size=size, device=device)


def stop(world: World) -> None:
    """Leaves the process group after the last exchange, where that can be done; else `leave` must follow."""
    if world.size > 1 and dist.get_backend() == "nccl":
        dist.destroy_process_group()


def wrap(model: nn.Module, world: World, strategy: Strategy) -> nn.Module:
    """The model as the loop calls it: a step's last backward averages the gradients over the ranks."""
    if world.size == 1:
        return model
    assert strategy == "ddp"
    device_ids = [world.device.index] if world.device.type == "cuda" else None
    # Each step's gradients live in the all-reduce buckets: no second copy of them.
    return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)


def accumulate_only(model: nn.Module) -> AbstractContextManager[None]:
    """Inside, backward adds up this rank's gradients and does not average them over the ranks."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def leave(status: int) -> NoReturn:
    """Ends the process with `status` at once, without destroying anything.

    A gloo process group that is destroyed holds the interpreter's lock and waits for its thread, which may
    just want that lock to let go of a tensor. On a busy machine ranks hung there for ever (torch 2.13).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def is_lost_peer(error: BaseException) -> bool:
    """Whether a rank failed only because another one did: their connection broke during an exchange."""
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in LOST_PEER_SIGNS)
