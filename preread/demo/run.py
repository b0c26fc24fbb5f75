"""The demo: archive, real services and a sender; studies go in over DICOM, results come back, truth is told.

Everything a person reads goes to standard error; standard output is for `--json` alone.
"""

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from preread.commands.options import EXIT_FAILED, EXIT_OK
from preread.demo.archive import EmbeddedArchive
from preread.demo.archives import SENDER_AE, Archive, Embedded, Real
from preread.demo.found import FoundStudy, Unsendable, find_studies, study_of
from preread.demo.node import DemoNode
from preread.demo.phantom_study import part10
from preread.demo.progress import Progress, say
from preread.demo.sender import Address, send_study
from preread.demo.telling import print_lines, print_table, tell
from preread.demo.truth_table import Truth
from preread.demo.watch import Watched, watch

QUIET_SECONDS = 2.0
STALL_MARGIN_SECONDS = 120.0
LINE_WIDTH = 160  # of the table in a file or a pipe
EMBEDDED_AE = "DEMO_ARCHIVE"


@dataclass(frozen=True)
class Plan:
    """What was asked for on the command line."""

    studies: Path | None
    archive: Address | None
    out: Path | None
    keep: bool
    as_json: bool
    seed: int


def run_demo(plan: Plan) -> int:
    """Run it. Returns 0 when every study has an outcome other than failed."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else LINE_WIDTH)
    with contextlib.ExitStack() as stack:
        # Studies are generated or found while the services start.
        finding = stack.enter_context(ThreadPoolExecutor(1)).submit(_studies, plan)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="preread-demo-")))
        archive = _archive(plan, scratch, stack)
        say(console, "starting the services")
        state = scratch / "node"
        state.mkdir()
        node = stack.enter_context(DemoNode(_settings_tree(archive.address), state))
        say(
            console,
            "making the studies" if plan.studies is None else f"looking for studies in {plan.studies}",
        )
        studies, truths, unsendable = finding.result()
        for item in unsendable:
            say(console, str(item))
        if not studies:
            say(console, f"No DICOM study was found below {plan.studies}.")
            return EXIT_FAILED
        say(console, f"archive {archive.address} · node {node.address()} · page {node.page_url}")
        node.wait_for_models()
        watched = _send_and_watch(studies, archive, node, console)
        told = tell(watched, studies, truths, archive, node, plan.out or scratch / "results", console)
        print_table(told, console)
        if plan.as_json:
            print_lines(told, are_kept=plan.out is not None)
        if plan.out is not None:
            say(console, f"Results are kept in {plan.out}.")
        if plan.keep:
            _stay(node, console)
    return EXIT_FAILED if any(e.outcome == "failed" for one in told for e in one.entries) else EXIT_OK


def _studies(plan: Plan) -> tuple[list[FoundStudy], dict[str, Truth], list[Unsendable]]:
    if plan.studies is not None:
        found, unsendable = find_studies(plan.studies)
        return found, {}, unsendable
    from preread.demo.phantom_dicom import demo_studies

    generated = demo_studies(plan.seed)
    truths = {
        one.study_uid: Truth(one.description, one.labels, one.expected.class_name, one.expected.reason)
        for one in generated
    }
    studies = [study_of((part10(data) for data in one.datasets), name=one.description) for one in generated]
    return studies, truths, []


def _archive(plan: Plan, scratch: Path, stack: contextlib.ExitStack) -> Archive:
    if plan.archive is not None:
        return Real(plan.archive)
    embedded = EmbeddedArchive(scratch / "archive", ae_title=EMBEDDED_AE)
    return Embedded(stack.enter_context(embedded), EMBEDDED_AE)


def _settings_tree(archive: Address) -> dict[str, Any]:
    """Two peers: who sends, as a scanner would, and the archive that gets the results."""
    return {
        "node": {"installation": "preread-demo"},
        "peers": [
            {
                "name": "sender",
                "ae_title": SENDER_AE,
                "addresses": ["127.0.0.1"],
                "send_to": ["archive"],
            },
            {"name": "archive", "ae_title": archive.ae_title, "host": archive.host, "port": archive.port},
        ],
        "listener": {"quiet_seconds": QUIET_SECONDS, "reserve_gib": 0.2},
        "results": {"empty_segmentation": True},  # one object of each kind for every study that was read
        "delivery": {"tries_max": 3, "first_wait_seconds": 1.0},
    }


def _send_and_watch(
    studies: Sequence[FoundStudy], archive: Archive, node: DemoNode, console: Console
) -> list[Watched]:
    watched = [Watched(study.study_uid) for study in studies]
    database = node.open_database()
    failure: list[Exception] = []
    stopping = threading.Event()

    def send_all() -> None:
        try:
            for study, one in zip(studies, watched, strict=True):
                if stopping.is_set():
                    return
                _send_both(study, one, archive, node, progress)
        except Exception as error:  # noqa: BLE001  # raised again in the main thread, which waits for this one
            failure.append(error)

    def check_alive() -> None:
        node.check_alive()
        if failure:
            raise failure[0]

    progress = Progress(console)
    for study in studies:
        progress.add(study.study_uid, study.title, len(study.objects))
    thread = threading.Thread(target=send_all, name="sender")
    with progress:
        thread.start()
        try:
            stall = node.settings.worker.job_seconds_max + STALL_MARGIN_SECONDS
            watch(watched, database, progress, check_alive=check_alive, stall_seconds=stall)
        finally:
            stopping.set()
            thread.join()
            database.close()
    return watched


def _send_both(study: FoundStudy, one: Watched, archive: Archive, node: DemoNode, progress: Progress) -> None:
    """First to the archive, as the scanner's images are there in a hospital, then to the node."""
    stored = send_study(study, archive.address, calling_ae=SENDER_AE)
    for refused in stored.refused:
        progress.say(f"{refused.name}: not stored in the archive: {refused.reason}")
    offered = 0

    def count(_: object) -> None:
        nonlocal offered
        offered += 1
        progress.sending(study.study_uid, offered)

    sending = send_study(study, node.address(), calling_ae=SENDER_AE, on_progress=count)
    for refused in sending.refused:
        progress.say(str(refused))
    one.sending = sending


def _stay(node: DemoNode, console: Console) -> None:
    say(console, f"The page is at {node.page_url} and the services run. Press Ctrl-C to stop them.")
    say(console, f"Other commands reach them by their settings: --config {node.config_file}")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            node.check_alive()
            time.sleep(1.0)
