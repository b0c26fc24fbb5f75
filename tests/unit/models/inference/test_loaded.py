"""Networks stay loaded as long as they fit; all cores compute."""

import subprocess
import sys

from models.inference.loaded import Loaded


def test_the_one_longest_unused_makes_room_by_bytes():
    made = []

    def make(name, size):
        def run():
            made.append(name)
            return size

        return run

    loaded = Loaded[int](100, lambda size: size)
    for name, size in (("a", 40), ("b", 40), ("a", 40), ("c", 50)):
        assert loaded.get(name, make(name, size)) == size
    assert made == ["a", "b", "c"]
    loaded.get("a", make("a", 40))
    assert made == ["a", "b", "c"]
    loaded.get("b", make("b", 40))
    assert made == ["a", "b", "c", "b"]


def test_one_that_is_larger_than_the_limit_is_kept_until_the_next():
    loaded, made = Loaded[int](10, lambda size: size), []
    for _ in range(2):
        loaded.get("large", lambda: made.append(1) or 1000)
    assert len(made) == 1
    loaded.get("small", lambda: 1)
    loaded.get("large", lambda: made.append(1) or 1000)
    assert len(made) == 2


def test_threads_are_the_cores_of_the_process_and_no_two_operations_run_beside_each_other():
    program = (
        "import os, torch; from models.inference.threads import set_threads\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); set_threads(None)\n"
        "print(torch.get_num_threads(), torch.get_num_interop_threads())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.stdout.split() == ["1", "1"], run.stderr
