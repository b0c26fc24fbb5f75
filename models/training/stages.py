"""Work in stages, each kept in a folder that is named by the hash of what it was made from.

A stage whose inputs are unchanged is found again and not repeated; a change of an input gives another key, so
that only this stage and those that take its output are done anew. A stage that was interrupted finds its own
half-done folder. Nothing is deleted: going back to earlier settings finds the earlier work.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.package import canonical_json
from models.training.processes import Processes, alone

STAGE_NAME = "stage.json"
KEY_CHARACTERS = 12  # of 64: enough to tell the stages of one folder apart


@dataclass(frozen=True)
class Telling:
    """How far the work is: which stage, what it does now, and the share done where it is known."""

    stage: str
    words: str
    share: float | None = None


Tell = Callable[[Telling], None]


class Unfinished(Exception):  # an outcome: the time that was given is over
    """A stage stopped before its end, at a point from which it goes on when called again."""


@dataclass(frozen=True)
class Work:
    """The folder in which stages are kept.

    Of several processes the first does the stages and the others wait, but for those done together.
    """

    folder: Path
    tell: Tell
    fresh: bool = False  # begin unfinished stages anew
    processes: Processes = field(default_factory=alone)

    def stage(
        self,
        name: str,
        inputs: Mapping[str, Any],
        make: Callable[[Path], None],
        *,
        is_whole: Callable[[Path], bool] = lambda _: True,
        together: bool = False,
    ) -> Path:
        """The folder of a stage, made now unless it was made before from the same inputs.

        Parameters
        ----------
        name : "split" or "train/fold-0"
        inputs : everything the output depends on, as JSON values
        make : fills the folder; finds there what an interrupted call left
        is_whole : whether what was made before is still there
        together : every process calls `make`, not only the first

        Raises
        ------
        Unfinished
            From `make`; the folder stays for the next call.
        """
        key = key_of({"stage": name, **inputs})
        folder = self.folder / f"{name}-{key[:KEY_CHARACTERS]}"
        record = folder / STAGE_NAME
        is_first = self.processes.is_first
        if self.processes.decided(record.is_file() and is_whole(folder)):
            self.tell(Telling(name, "done before", 1.0))
            return folder
        if is_first and self.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        if is_first:
            folder.mkdir(parents=True, exist_ok=True)
        self.processes.wait()
        self.tell(Telling(name, "begun"))
        began = time.monotonic()
        if is_first or together:
            make(folder)
        if is_first:
            self._record(record, name, key, inputs, began)
        self.processes.wait()
        self.tell(Telling(name, f"done in {time.monotonic() - began:.0f} s", 1.0))
        return folder

    def _record(self, record: Path, name: str, key: str, inputs: Mapping[str, Any], began: float) -> None:
        seconds = round(time.monotonic() - began, 1)
        content = {"stage": name, "key": key, "seconds": seconds, "inputs": inputs}
        partial = record.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.rename(record)


def key_of(inputs: Mapping[str, Any]) -> str:
    """sha256 of JSON values, however they are ordered."""
    return hashlib.sha256(canonical_json(inputs)).hexdigest()
