"""A foreign checkpoint becomes safetensors in a process that is thrown away; this is the side that trusts
nothing it says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import models
from models.adapters.refusal import EXPORT_WEIGHTS, ImportRefusal

SECONDS_MAX: Final = 900.0
ANSWER_BYTES_MAX: Final = 64 << 10


@dataclass(frozen=True)
class Converted:
    """Where the numbers lie, and the few plain values beside them (names and axes, never trusted further)."""

    path: Path
    side: dict[str, Any]


def convert(checkpoint: Path, output: Path, where: str) -> Converted:
    """Convert one checkpoint.

    Parameters
    ----------
    checkpoint : a file of torch.save
    output : a new safetensors file
    where : how messages call the checkpoint

    Raises
    ------
    ImportRefusal
        It holds, or asks for, anything but named tensors and plain values.
    """
    root = Path(models.__file__).resolve().parents[1]
    command = [sys.executable, "-P", "-m", "models.adapters.conversion_child"]
    # Nothing of this process's environment: it may hold passwords. One thread: nothing is computed.
    environment = {"PATH": os.defpath, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [*command, str(checkpoint.resolve()), str(output.resolve()), where],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ImportRefusal(
                f"was not converted within {SECONDS_MAX:.0f} s", where=where, remedy=EXPORT_WEIGHTS
            ) from error
    answer = _answer(done.stdout)
    if answer is None or done.returncode not in (0, 1):
        raise ImportRefusal(
            f"the process that read it ended with code {done.returncode}: {_last_line(done.stderr)}",
            where=where,
            remedy="It may be damaged, hostile, or too large for the memory. " + EXPORT_WEIGHTS,
        )
    if "refused" in answer:
        raise ImportRefusal(str(answer["refused"]), where=where, remedy=str(answer.get("remedy")))
    return Converted(output, dict(answer["side"]))


def _answer(stdout: bytes) -> dict[str, Any] | None:
    if len(stdout) > ANSWER_BYTES_MAX:
        return None
    try:
        answer = json.loads(stdout)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and ("refused" in answer or "side" in answer) else None


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
