"""How much memory a prediction needs and how much there is: decided before anything is allocated."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil
import torch

from config.errors import PrereadError


class TooLarge(PrereadError):
    """A volume that would not fit into memory; `need` and `have` in bytes."""

    def __init__(self, need: int, have: int) -> None:
        self.need, self.have = need, have
        super().__init__(
            f"the volume needs {need / 2**20:.0f} MiB, {have / 2**20:.0f} MiB are free",
            remedy="Give the worker more memory, or run fewer at a time.",
        )


def free_bytes(device: torch.device) -> int:
    """Bytes a prediction may take: the smallest of machine, control group and process limit, or the GPU's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [int(psutil.virtual_memory().available)]
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space - int(psutil.Process().memory_info().vms))
    allocations = resource.getrlimit(resource.RLIMIT_DATA)[0]  # what the worker limits
    if allocations != resource.RLIM_INFINITY:
        limits.append(allocations - int(psutil.Process().memory_info().data))
    group, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if group.is_file() and used.is_file() and (text := group.read_text().strip()) != "max":
        limits.append(int(text) - int(used.read_text()))
    return max(0, min(limits))
