"""Seconds from the last needed image, or the last statement, to the job that a worker claims.

The real listener in a process of its own on SQLite; a claimer that does what a worker does between jobs. Each
round sends a study of two series and its procedure step (MPPS), and measures
- `series, image last`: the step was completed before; the last image of the first series is acknowledged, a
  worker claims the early plan (and then, without the time of reading headers, the analysis it leads to);
- `series, step last`: all images of the series are here; the N-SET that completes the step is answered;
- `study`: the last image of all is acknowledged; a worker claims the plan of the whole study, which comes
  `SETTLE_SECONDS` after the last image on purpose.
`scripts/bench whole [--rounds 20] [--images 24]`.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from db.engine import Database
from db.jobs import claim_next, finish_plan
from db.records import Claim
from db.results import commit_analysis
from db.starting_early import finish_early_plan
from listener.completeness import SETTLE_SECONDS
from listener.contexts import MPPS
from tests.dicom_peer import CT, Peer, associate_request, ct_dataset, new_uid
from tests.listener_process import ListenerProcess

PEERS = (
    {"name": "ct", "ae_title": "SCANNER", "addresses": ["127.0.0.0/8"], "notices_about": "any"},
    {"name": "pacs", "ae_title": "PACS", "addresses": ["127.0.0.0/8"]},
)
CLAIM_SECONDS_MAX = 60.0
PIXEL_BYTES = 512 * 512 * 2
Figures = dict[str, list[float]]


def claimed(db: Database) -> tuple[Claim, float]:
    """The next job as a worker gets it, and when; jobs of the queue are ended by the caller."""
    ends_at = time.monotonic() + CLAIM_SECONDS_MAX
    while time.monotonic() < ends_at:
        claim = claim_next(db, worker="bench", lease_seconds=600.0)
        if claim is not None:
            return claim, time.monotonic()
        db.wait_for("jobs", 2.0)
    raise TimeoutError("no job came")


def step_of(study: str, series: dict[str, list[str]], status: str, *, is_new: bool) -> Dataset:
    """A procedure step (PS3.4 F.7.2) that made these series."""
    step, scheduled = Dataset(), Dataset()
    step.PerformedProcedureStepStatus = status
    if is_new:
        scheduled.StudyInstanceUID = study
        step.ScheduledStepAttributesSequence = [scheduled]
    step.PerformedSeriesSequence = []
    for series_uid, uids in series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedImageSequence = series_uid, []
        for uid in uids:
            image = Dataset()
            image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CT, uid
            item.ReferencedImageSequence.append(image)
        step.PerformedSeriesSequence.append(item)
    return step


@contextmanager
def scanner_at(port: int) -> Iterator[Association]:
    """An association that states steps."""
    ae = AE(ae_title="SCANNER")
    ae.add_requested_context(MPPS)
    association = ae.associate("127.0.0.1", port, ae_title="PREREAD")
    try:
        yield association
    finally:
        association.release()


def send(port: int, study: str, series: str, uids: list[str]) -> float:
    """Send images of a series; when the last one was acknowledged."""
    encoded = [ct_dataset(uid, study=study, series=series, pixels=bytes(PIXEL_BYTES)) for uid in uids]
    with Peer(port).associate(associate_request(calling="PACS")) as peer:
        for uid, content in zip(uids, encoded, strict=True):
            assert peer.store(uid, content) == 0
        return time.monotonic()


def end_early_plan(db: Database, claim: Claim, series: str) -> float:
    """Have it lead to an analysis; seconds until that is claimed, and ended."""
    began_at = time.monotonic()
    assert finish_early_plan(db, claim, [("bench", series)])
    analysis, at = claimed(db)
    commit_analysis(
        db,
        analysis,
        outcome="analysed",
        reason_code=None,
        sentence=None,
        findings={},
        results=(),
        deliveries=(),
    )
    return at - began_at


def measure(node: ListenerProcess, db: Database, images: int, *, step_first: bool) -> Figures:
    """One study; figures by name."""
    study, first, second, step = (new_uid() for _ in range(4))
    series = {uid: [new_uid() for _ in range(images)] for uid in (first, second)}
    with scanner_at(node.port) as scanner:
        begun = step_of(study, {}, "IN PROGRESS", is_new=True)
        status, _ = scanner.send_n_create(begun, MPPS, step)
        assert status.Status == 0
        if not step_first:
            send(node.port, study, first, series[first])
        status, _ = scanner.send_n_set(step_of(study, series, "COMPLETED", is_new=False), MPPS, step)
        stated_at = time.monotonic()
        assert status.Status == 0
    needed_at = send(node.port, study, first, series[first]) if step_first else stated_at
    early, at = claimed(db)
    assert "early" in early.parameters
    name = "series, image last" if step_first else "series, step last"
    figures = {name: [at - needed_at], "early plan to its analysis": [end_early_plan(db, early, first)]}
    needed_at = send(node.port, study, second, series[second])
    plan, at = claimed(db)
    while "early" in plan.parameters:  # of the second series
        finish_early_plan(db, plan, ())
        plan, at = claimed(db)
    figures["study"] = [at - needed_at]
    finish_plan(db, plan, selections=[], analyse=[("bench", {"series": [first]})])
    return figures


def main() -> None:
    """Measure and print medians with the least and the greatest."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--images", type=int, default=24, help="of each series, 0.5 MB each")
    options = parser.parse_args()
    figures: Figures = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        listener = {"quiet_seconds": 600}
        with (
            ListenerProcess(Path(folder), peers=PEERS, listener=listener) as node,
            closing(node.open_database()) as db,
        ):
            db.subscribe("jobs")
            measure(node, db, 2, step_first=True)  # the recorder's process starts meanwhile; not counted
            for number in range(2 * options.rounds):
                found = measure(node, db, options.images, step_first=number % 2 == 0)
                for name, seconds in found.items():
                    figures[name] += seconds
    print(f"{2 * options.rounds} studies of 2 x {options.images} images; seconds")
    print(f"{'':28}{'median':>8}{'least':>8}{'most':>8}")
    for name, seconds in figures.items():
        row = (statistics.median(seconds), min(seconds), max(seconds))
        print(f"{name:28}" + "".join(f"{value:8.3f}" for value in row))
    print(f"A study settles for {SETTLE_SECONDS:g} s; a series whose step names it does not.")


if __name__ == "__main__":
    main()
