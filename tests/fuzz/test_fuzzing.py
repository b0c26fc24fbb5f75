"""Readers of hostile bytes under a fuzzer that follows their branches; `--long` gives it minutes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, corpus

SECONDS, SECONDS_LONG = 4, 120
MEMORY_MIB, UNIT_SECONDS = 512, 20
# The peak of memory that libFuzzer looks at is inherited from whoever starts a program, and pytest may then
# hold much: the shell in between is small, and forks.
_SMALL_PARENT = ("sh", "-c", '"$@"; exit $?', "sh")
_FOLDERS = (Path(__file__).parents[2], Path(__file__).parents[1], Path(__file__).parent)


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs_do_no_harm(target: str) -> None:
    inputs = list(corpus(target))
    assert inputs
    for data in inputs:
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_any_input_is_an_event_or_a_peer_error(
    tmp_path: Path, request: pytest.FixtureRequest, target: str
) -> None:
    seconds = SECONDS_LONG if request.config.getoption("--long") else SECONDS
    found = tmp_path / "found"
    found.mkdir()
    done = subprocess.run(
        [
            *_SMALL_PARENT,
            *(sys.executable, "-m", "fuzz_run", target),
            *(f"-max_total_time={seconds}", f"-timeout={UNIT_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}"),
            *("-max_len=4096", "-len_control=0", f"-artifact_prefix={tmp_path}/"),
            *(str(found), str(Path(__file__).parent / "corpus" / target)),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, _FOLDERS))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-6000:]
