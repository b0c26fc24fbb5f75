"""The processes of one training: alone, or those that torchrun started, each with its device.

Every process draws its own share of the micro-batches of an update; gradients are averaged by
DistributedDataParallel. Decisions that depend on a clock are the first process's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch import distributed as dist

from config.errors import PrereadError

PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """One process among those of the training."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """The process that writes files and reports."""
        return self.rank == 0

    def share_of(self, micro_batches: int) -> range:
        """Which micro-batches of an update this process computes.

        Raises
        ------
        PrereadError
            They cannot be shared out evenly.
        """
        if micro_batches % self.count:
            raise PrereadError(
                f"{micro_batches} micro-batches cannot be shared out among {self.count} processes",
                where="micro_batches",
                remedy="Set it to a multiple of the number of processes, and the batch accordingly.",
            )
        return range(self.rank, micro_batches, self.count)

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module with averaged gradients; itself when alone."""
        if self.count == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=devices)

    def agreed(self, values: Tensor) -> Tensor:
        """The first process's numbers, in every process."""
        if self.count > 1:
            values = values.to(self.device)
            dist.broadcast(values, 0)
        return values

    def decided(self, answer: bool) -> bool:
        """The first process's answer, in every process."""
        return bool(self.agreed(torch.tensor([float(answer)])).item()) if self.count > 1 else answer

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes."""
        if self.count > 1:
            dist.all_reduce(values)
            values = values / self.count
        return values

    def wait(self) -> None:
        """Until every process has come here."""
        if self.count > 1:
            dist.barrier()


def alone(device: torch.device | None = None) -> Processes:
    """One process, on the GPU where there is one."""
    found = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Processes(0, 1, device or found)


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone; left again at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield alone()
        return
    has_gpu = torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if has_gpu else "cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    # The others wait while the first prepares or judges: longer than the half hour that is usual.
    dist.init_process_group("nccl" if has_gpu else "gloo", timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
