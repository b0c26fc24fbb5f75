"""What was acknowledged survives power cuts, kills and failing disks at any time; nothing else is seen.

Each seed is a history with several of them (`history`), on a disk that tears, reorders and loses what was not
synced (`simulated_disk`). A failure prints the seed; `--seed` repeats it, `--long` runs many more.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from fronts import Front, IntakeAlone, WholeLoop
from history import History, Lost, run_history
from planted_faults import FAULTS

SEEDS, SEEDS_LONG = 800, 60_000
SEEDS_OF_LOOP, SEEDS_OF_LOOP_LONG = 60, 4000
SEEDS_UNTIL_FOUND = 2000
STEPS_MAX = 1000
EVERY_STEP_OF = 7


def seeds(config: pytest.Config, few: int, many: int) -> range:
    """The seeds to run."""
    one = config.getoption("--seed")
    if one is not None:
        return range(one, one + 1)
    return range(many if config.getoption("--long") else few)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("front", "few", "many"),
    [(IntakeAlone, SEEDS, SEEDS_LONG), (WholeLoop, SEEDS_OF_LOOP, SEEDS_OF_LOOP_LONG)],
)
def test_nothing_acknowledged_is_lost_and_nothing_else_is_seen(
    request: pytest.FixtureRequest, front: type[Front], few: int, many: int
) -> None:
    acknowledged = failures = 0
    open_before = _descriptors()
    for seed in seeds(request.config, few, many):
        history = run_history(seed, front=front)
        acknowledged += len(history.acknowledged)
        failures += history.failures
    assert _descriptors() < open_before + 50, "ended processes leave descriptors to the tests"
    if request.config.getoption("--seed") is None:
        assert acknowledged > 10 * few, "most histories must get something acknowledged"
        assert failures > few, "most histories must be cut short"


@pytest.mark.parametrize("cuts_power", [False, True], ids=["killed", "power cut"])
def test_one_history_may_end_at_every_step_of_the_disk(cuts_power: bool) -> None:
    for step in range(1, STEPS_MAX):
        if not run_history(EVERY_STEP_OF, stop_at=step, cuts_power=cuts_power).was_stopped_early:
            break
    else:
        pytest.fail(f"the first process never came to its end within {STEPS_MAX} steps")
    assert step > 100


def test_the_same_seed_makes_the_same_history() -> None:
    def told(history: History) -> tuple[object, ...]:
        return (
            history.acknowledged,
            history.may_be_found,
            history.rows,
            history.disk.steps,
            history.failures,
        )

    assert [told(run_history(seed)) for seed in range(5)] == [told(run_history(seed)) for seed in range(5)]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    with pytest.raises(Lost):
        _run_all(range(SEEDS_UNTIL_FOUND))


def _run_all(seeds: range) -> None:
    for seed in seeds:
        run_history(seed)
