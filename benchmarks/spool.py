"""What durability costs: one instance into the spool, synced, against a file of its own, synced or not.

All kinds run alternately in one process, in an order that is shuffled each round; what is printed are medians
and their ratios to the spool, with the least and the greatest round. `scripts/bench spool [--rounds 7]`.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from db.spool import SpoolWriter

SIZES = {"small, 8 KiB": (8 << 10, 200), "CT, 512 KiB": (512 << 10, 60)}  # bytes, instances of a round


def file_each(folder: Path, payload: bytes, count: int, *, synced: bool) -> None:
    """A new file for each instance; synced: the file and its folder."""
    parent = os.open(folder, os.O_RDONLY)
    for number in range(count):
        fd = os.open(folder / f"{number}", os.O_CREAT | os.O_WRONLY)
        os.write(fd, payload)
        if synced:
            os.fsync(fd)
            os.fsync(parent)
        os.close(fd)
    os.close(parent)


def spool_each(writer: SpoolWriter, payload: bytes, count: int) -> None:
    """Append and commit each instance alone: the worst case of a group commit."""
    for _ in range(count):
        writer.append(b"{}", [payload], len(payload))
        writer.commit()


def timed(work: Callable[[], None], count: int) -> float:
    """Milliseconds for one instance."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) / count * 1000


def measure(size: int, count: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds for one instance, by kind, one figure a round."""
    payload = random.Random(1).randbytes(size)
    found: dict[str, list[float]] = {"spool, synced": [], "file, synced": [], "file, not synced": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with SpoolWriter(folder, store="instances", ahead=2) as writer:
            for turn in range(rounds):
                for kind in random.Random(turn).sample(list(found), len(found)):
                    own = folder / f"{turn}-{kind.replace(', ', '-').replace(' ', '-')}"
                    own.mkdir()
                    works: dict[str, Callable[[], None]] = {
                        "spool, synced": lambda: spool_each(writer, payload, count),
                        "file, synced": lambda own=own: file_each(own, payload, count, synced=True),
                        "file, not synced": lambda own=own: file_each(own, payload, count, synced=False),
                    }
                    found[kind].append(timed(works[kind], count))
    return found


def main() -> None:
    """Print medians, their spread, and ratios to the spool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for name, (size, count) in SIZES.items():
        found = measure(size, count, rounds)
        reference = statistics.median(found["spool, synced"])
        for kind, figures in found.items():
            median = statistics.median(figures)
            spread = f"[{min(figures):.3f} to {max(figures):.3f}]"
            print(f"{name:14} {kind:18} {median:8.3f} ms {spread:22} {median / reference:6.2f} x the spool")


if __name__ == "__main__":
    main()
