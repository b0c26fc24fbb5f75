"""The doctor: one check after the other of what a node needs, each with its remedy when it fails.

The command line prints all of them; the page *Node* shows the quick ones. A check never raises and never
waits without a bound.
"""

import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import PrereadError
from config.settings import PeerSettings, Settings
from db.engine import Database
from db.workers import list_workers
from preread.check_result import CheckResult, in_words
from preread.doctor_ways_in import check_ways_in

if TYPE_CHECKING:
    from models.sorting.package import SorterPackage

CONNECT_SECONDS = 3.0
WORKER_SECONDS_MAX = 60.0
CLOCK_SECONDS_MAX = 2.0
RELEASED_IN = 2026  # a clock before this year was never set


def check_all(settings: Settings, *, deep: bool = True) -> Iterator[CheckResult]:
    """Every check, yielded as it is done.

    Parameters
    ----------
    deep : also run each model on its golden case and look for a GPU, which loads torch (seconds)
    """
    yield check_state_folder(settings)
    yield check_disk(settings)
    yield from check_database(settings)
    yield from check_workers(settings)
    yield from check_ways_in(settings)
    yield check_page(settings)
    yield from check_peers(settings)
    yield check_clock()
    if deep:
        yield from check_packages(settings)


def check_state_folder(settings: Settings) -> CheckResult:
    """The spool can be written, synced and read by this user, and by nobody else."""
    folder = settings.spool_folder
    name = "spool"
    probe = folder / f"doctor-{os.getpid()}"
    try:
        settings.state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True)
        with probe.open("xb") as file:
            file.write(b"preread")
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        return CheckResult(
            name,
            False,
            f"{folder}: {error.strerror}",
            f"Give the user {os.getuid()} write access there, or set state_folder.",
        )
    if settings.state_folder.stat().st_mode & 0o007:
        return CheckResult(
            name,
            False,
            f"{settings.state_folder} is open to every user of this machine; it holds patients' images",
            f"chmod o-rwx {settings.state_folder}",
        )
    return CheckResult(name, True, f"{folder} can be written and synced")


def check_disk(settings: Settings) -> CheckResult:
    """Free space above the reserve, use below the mark of retention."""
    place = _existing(settings.state_folder)
    usage = shutil.disk_usage(place)
    free_gib, used_percent = usage.free / 2**30, 100 * (1 - usage.free / usage.total)
    detail = f"{free_gib:.1f} GiB free, {used_percent:.0f} % used"
    if free_gib < settings.listener.reserve_gib:
        reserve = f"below the reserve of {settings.listener.reserve_gib:g} GiB: images are refused (0xA700)"
        return CheckResult(
            "disk",
            False,
            f"{detail}, {reserve}",
            "Free space, or lower listener.reserve_gib or retention.days.",
        )
    if used_percent > settings.retention.disk_percent_max:
        return CheckResult(
            "disk",
            False,
            f"{detail}, above retention.disk_percent_max: finished studies are dropped early",
            "Free space on this disk, or put state_folder on a larger one.",
        )
    return CheckResult("disk", True, detail)


def check_database(settings: Settings) -> Iterator[CheckResult]:
    """The database answers, has our schema, and its clock agrees with ours."""
    start = "Start `preread serve`; it brings the tables up to date."
    if not _has_database(settings):
        yield CheckResult("database", False, "there is none yet", start)
        return
    try:
        with closing(Database.open(settings.database_url)) as database:
            began = time.monotonic()
            is_current = database.schema_is_current()
            offset_seconds = abs(database.now() - time.time())
            took_ms = 1000 * (time.monotonic() - began)
    except PrereadError as error:
        yield CheckResult("database", False, in_words(error), error.remedy)
        return
    schema = "schema is current" if is_current else "schema is of another version"
    detail = f"{database.dialect} answers in {took_ms:.0f} ms, {schema}"
    yield CheckResult("database", is_current, detail, None if is_current else start)
    agrees = offset_seconds < CLOCK_SECONDS_MAX
    detail = f"differs by {offset_seconds:.1f} s from this machine's"
    yield CheckResult(
        "database clock", agrees, detail, None if agrees else "Set both machines by the same time server."
    )


def check_workers(settings: Settings) -> Iterator[CheckResult]:
    """A worker was seen within the last minute; nothing is said where the database cannot be asked."""
    if not _has_database(settings):
        return
    try:
        with closing(Database.open(settings.database_url)) as database:
            if not database.schema_is_current():
                return
            workers = list_workers(database, seen_within_seconds=WORKER_SECONDS_MAX)
    except PrereadError:
        return
    if workers:
        alive = ", ".join(f"{worker.name} on {worker.device}" for worker in workers)
        yield CheckResult("worker", True, alive)
    else:
        detail = f"no worker was seen in the last {WORKER_SECONDS_MAX:.0f} s"
        yield CheckResult("worker", False, detail, "Start `preread serve` or `preread worker`.")


def check_page(settings: Settings) -> CheckResult:
    """The page answers on its port."""
    host = "127.0.0.1" if settings.web.host == "0.0.0.0" else settings.web.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.web.port}/healthz"
    if settings.web.port == 0:
        return CheckResult(
            "page", False, "web.port is 0: another port at each start", "Set a port, e.g. 8042."
        )
    # No proxy of the environment may stand between us and ourselves.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=CONNECT_SECONDS) as answer:
            return CheckResult("page", True, f"{url} answers {answer.status}")
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        return CheckResult("page", False, f"{url}: {reason}", "Start `preread serve`, or see its log.")


def check_peers(settings: Settings) -> Iterator[CheckResult]:
    """C-ECHO to each peer that has an address."""
    if not settings.peers:
        yield CheckResult(
            "peers",
            False,
            "no peer is configured: nobody may send and results stay here",
            "Add your PACS under peers in the settings (`preread config init` shows an example).",
        )
    for peer in settings.peers:
        yield check_peer(settings, peer)


def check_peer(settings: Settings, peer: PeerSettings) -> CheckResult:
    """C-ECHO to one peer; one without host and port only sends to us."""
    from pipeline.outbound.delivery import echo

    name = f"peer {peer.name}"
    if peer.host is None or peer.port is None:
        detail = f"{peer.ae_title} only sends to us: no host and port"
        return CheckResult(name, True, detail)
    place = f"{peer.ae_title} at {peer.host}:{peer.port}"
    try:
        answer = echo(settings, peer)
    except PrereadError as error:
        return CheckResult(name, False, f"{place}: {in_words(error)}", error.remedy)
    return CheckResult(name, True, f"{place}: {answer}")


def check_clock() -> CheckResult:
    """The clock was set: times of studies and results depend on it."""
    now = datetime.now(UTC)
    if now.year < RELEASED_IN:
        return CheckResult("clock", False, f"says {now:%Y-%m-%d}", "Set the clock, for example by chrony.")
    return CheckResult("clock", True, f"{now:%Y-%m-%d %H:%M:%S} UTC")


def check_packages(settings: Settings) -> Iterator[CheckResult]:
    """Each package is unchanged, and this machine computes its golden case; then where they run."""
    from models.predictor import Predictor
    from pipeline.packages import offer_of

    used: list[str] = []
    offer = offer_of(settings)
    for folder, error in offer.refused:
        enabled = settings.packages.enabled
        if enabled is not None and error.where not in enabled and folder not in enabled:
            continue  # the site does not want it
        yield CheckResult(f"package {folder}", False, in_words(error), error.remedy)
    if not offer.runs:
        yield CheckResult(
            "packages", False, "no package runs here", "Install preread again, or see `preread models list`."
        )
    for package in offer.runs:
        name = f"package {package.manifest.id}"
        try:
            predictor = Predictor(package, device=settings.worker.device, threads=settings.worker.threads)
            golden = predictor.verify_golden()
        except PrereadError as error:
            yield CheckResult(name, False, in_words(error), error.remedy)
            continue
        used.append(str(predictor.device))
        detail = f"{package.manifest.version} on {predictor.device}: golden case {golden.message}"
        remedy = (
            None if golden.passed else "This machine computes otherwise: it must not run here. Reinstall."
        )
        yield CheckResult(name, golden.passed, detail, remedy)
    if offer.sorter is not None:
        yield _check_sorter(offer.sorter)
    yield check_device(settings, used)


def _check_sorter(package: "SorterPackage") -> CheckResult:
    from models.sorting.sorter import Sorter

    name = f"package {package.manifest.id}"
    try:
        golden = Sorter(package).verify_golden()
    except PrereadError as error:
        return CheckResult(name, False, in_words(error), error.remedy)
    remedy = None if golden.passed else "This machine computes otherwise: it must not run here. Reinstall."
    return CheckResult(
        name, golden.passed, f"{package.manifest.version} on cpu: golden case {golden.message}", remedy
    )


def check_device(settings: Settings, used: Iterable[str]) -> CheckResult:
    """The models run on a GPU where there is one.

    Parameters
    ----------
    used : devices the packages were loaded on
    """
    devices = sorted(set(used))
    if Path("/dev/nvidia0").exists() and devices == ["cpu"] and settings.worker.device == "auto":
        return CheckResult(
            "device",
            False,
            "a GPU is there, and the models run on the CPU",
            "Check driver and torch: `python -c 'import torch; print(torch.cuda.is_available())'`.",
        )
    threads = settings.worker.threads or os.cpu_count()
    shown = ", ".join(f"CPU, {threads} threads" if device == "cpu" else device for device in devices)
    return CheckResult("device", True, f"models run on {shown or 'nothing: no package'}")


def _has_database(settings: Settings) -> bool:
    # Opening SQLite would make an empty file.
    return settings.database.url is not None or (settings.state_folder / "preread.db").exists()


def _existing(path: Path) -> Path:
    return next(candidate for candidate in (path.absolute(), *path.absolute().parents) if candidate.exists())
