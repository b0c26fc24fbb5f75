"""The throw-away process that turns one checkpoint into plain numbers: `python -m` with two paths.

It limits itself before it looks: no network (a network namespace of its own where the kernel allows that),
no new processes and no writing but to the output (an audit hook), memory, time and file size. The pickle's
names are checked, then torch reads with `weights_only`. What leaves is a safetensors file with one flat set
of tensors and, on standard output, a line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, Final

from models.adapters.checkpoint_scan import check_checkpoint
from models.adapters.refusal import EXPORT_WEIGHTS, ImportRefusal

MEMORY_BYTES: Final = 8 << 30
CPU_SECONDS: Final = 600
OUTPUT_BYTES: Final = 4 << 30
TENSORS_MAX: Final = 20_000
# Where trainers put the weights, in the order in which they are looked for.
WEIGHT_KEYS: Final = ("network_weights", "state_dict", "model_state_dict", "model", "net", "network")
SIDE_KEYS: Final = ("trainer_name", "inference_allowed_mirroring_axes", "current_epoch")
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_FORBIDDEN: Final = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.remove", "os.rename",
    "os.rmdir", "os.symlink", "os.link", "os.kill", "os.putenv", "subprocess.", "pty.", "socket.", "shutil.",
    "ftplib.", "urllib.", "webbrowser.", "ctypes.dlopen",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Convert; the exit code says only whether it was done, the line of JSON says what."""
    checkpoint, output = Path(arguments[0]), Path(arguments[1])
    where = arguments[2]
    _limit()
    try:
        check_checkpoint(checkpoint, where)
        answer = _convert(checkpoint, output, where)
    except ImportRefusal as refusal:
        answer = {"refused": refusal.what, "remedy": refusal.remedy}
    sys.stdout.write(json.dumps(answer))
    return 1 if "refused" in answer else 0


def _limit() -> None:
    # A user namespace of its own lets an ordinary process give up the network. Some kernels forbid it: the
    # audit hook below then stands alone.
    ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    for limit, value in (
        (resource.RLIMIT_DATA, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, OUTPUT_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def _forbid(output: Path) -> None:
    """From here on this process can only read files and write its output. A hook cannot be taken off."""
    target = str(output)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            raise RuntimeError(f"{event} is not for this process")
        if event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and any(letter in mode for letter in "wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            )
            if writes and str(path) != target:
                raise RuntimeError(f"writing {str(path)[:80]} is not for this process")

    sys.addaudithook(hook)


def _convert(checkpoint: Path, output: Path, where: str) -> dict[str, Any]:
    import numpy as np
    import torch
    from safetensors.torch import save_file

    kinds = (np.bool_, np.int32, np.int64, np.float16, np.float32, np.float64)
    rebuild: Any = np.float64(0).__reduce__()[0]  # the function that pickles of single numbers call
    torch.serialization.add_safe_globals([np.dtype, rebuild, *{type(np.dtype(kind)) for kind in kinds}])
    _forbid(output)
    try:
        values = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 whatever a foreign file makes of the reader is one answer
        return {
            "refused": f"torch does not read it as plain weights: {str(error).splitlines()[0][:200]}",
            "remedy": EXPORT_WEIGHTS,
        }
    state = state_of(values, where)
    tensors: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise ImportRefusal(
                f"{str(name)[:80]!r} among its weights is no dense tensor", where=where, remedy=EXPORT_WEIGHTS
            )
        if value.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64):
            raise ImportRefusal(f"{name[:80]!r} is {value.dtype}", where=where, remedy=EXPORT_WEIGHTS)
        kept = value.detach().float() if value.dtype == torch.float64 else value.detach()
        # A view into a large storage would carry the whole storage along.
        tensors[name] = kept.clone().contiguous()
    save_file(tensors, output)
    return {"side": side_of(values), "tensors": len(tensors)}


def state_of(values: Any, where: str) -> dict[Any, Any]:
    """The flat dictionary of tensors in what was read."""
    if isinstance(values, dict):
        for key in WEIGHT_KEYS:
            if isinstance(values.get(key), dict):
                values = values[key]
                break
        if values and len(values) <= TENSORS_MAX:
            return dict(values)
    raise ImportRefusal(
        "no flat set of named tensors in it",
        where=where,
        remedy="It needs model.state_dict(). " + EXPORT_WEIGHTS,
    )


def side_of(values: Any) -> dict[str, Any]:
    """Short plain values beside the weights that adapters ask for."""
    if not isinstance(values, dict):
        return {}
    side: dict[str, Any] = {}
    given = values.get("init_args")
    if isinstance(given, dict):
        side["configuration"] = str(given.get("configuration"))[:100]
        side["fold"] = str(given.get("fold"))[:20]
    for key in SIDE_KEYS:
        value = values.get(key)
        if isinstance(value, tuple | list) and len(value) <= 3 and all(type(one) is int for one in value):
            side[key] = list(value)
        elif isinstance(value, str | int | None):
            side[key] = value[:100] if isinstance(value, str) else value
    return side


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
