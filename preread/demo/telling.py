"""The end of a demo: fetch what stands in the archive, compare it with the truth, print table and lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from config.identity import RESEARCH_SENTENCE
from preread.commands.options import print_json_line
from preread.demo.archives import Archive, keep_sent_bytes, result_path, study_folder
from preread.demo.found import FoundStudy
from preread.demo.masks import Masks, segments_of
from preread.demo.node import DemoNode
from preread.demo.outcomes import Ended
from preread.demo.progress import STATES, say
from preread.demo.truth_table import Truth, Verdict, judge
from preread.demo.watch import Watched
from preread.web.words import plain


@dataclass(frozen=True)
class Told:
    """One study at the end: how it ended, its files, its truth."""

    watched: Watched
    description: str
    entries: Sequence[Ended]
    paths: dict[str, str]
    verdict: Verdict | None


def tell(
    watched: Sequence[Watched],
    studies: Sequence[FoundStudy],
    truths: dict[str, Truth],
    archive: Archive,
    node: DemoNode,
    out: Path,
    console: Console,
) -> list[Told]:
    """Fetch what stands in the archive and compare it with the truth."""
    told = []
    database = node.open_database()
    try:
        for one, study in zip(watched, studies, strict=True):
            entries = one.entries or []
            results = [result for entry in entries for result in entry.results]
            paths: dict[str, str] = {}
            segments: list[Masks] = []
            if results:
                folder = study_folder(out, one.study_uid)
                for problem in archive.fetch(one.study_uid, results, folder):
                    say(console, problem)
                keep_sent_bytes(database, node.settings.spool_folder, results, folder)
                paths = {result.sop_uid: str(result_path(folder, result).resolve()) for result in results}
                segments.extend(
                    segments_of(result_path(folder, result) for result in results if result.kind == "SEG")
                )
            truth = truths.get(one.study_uid)
            verdict = _verdict(truth, entries, segments) if truth is not None else None
            told.append(Told(one, truth.name if truth else study.title, entries, paths, verdict))
    finally:
        database.close()
    return told


def _verdict(truth: Truth, entries: Sequence[Ended], segments: Sequence[Masks]) -> Verdict:
    first = entries[0]
    said = (first.findings or {}).get("class")
    return judge(truth, segments, outcome=first.outcome, reason=first.reason, class_name=said)


def print_table(told: Sequence[Told], console: Console) -> None:
    """The truth table; without known truth, what was found."""
    has_truth = any(one.verdict is not None for one in told)
    title = "What was there and what was found" if has_truth else "What was found"
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in ("study", "model", "outcome", "finding"):
        table.add_column(name, overflow="fold")
    if has_truth:
        table.add_column("truth")
        table.add_column("Dice", justify="right")
    table.add_column("seconds", justify="right")
    for one in told:
        for entry in one.entries:
            seconds = _seconds(one.watched, entry)
            cells = [one.description, entry.model or "–", STATES[entry.outcome], _finding(entry)]
            if has_truth:
                verdict = one.verdict
                cells.append(f"{'✓' if verdict.is_right else '✗'} {verdict.words}" if verdict else "–")
                dice = verdict.dice if verdict else None
                cells.append("–" if dice is None else f"{dice:.2f}")
            cells.append("–" if seconds is None else f"{seconds:.1f}")
            table.add_row(*(escape(plain(cell)) for cell in cells))
    console.print(table)
    say(console, "seconds: from the last acknowledged image to the results in the archive, or to the refusal")
    say(console, RESEARCH_SENTENCE)


def _finding(entry: Ended) -> str:
    """The headline of what was found, or the code of why not; the sentence was said when the study ended."""
    if entry.outcome == "failed":
        return entry.message
    return entry.reason or entry.message


def print_lines(told: Sequence[Told], *, are_kept: bool) -> None:
    """One JSON line for each (study, model); without `--out` the files are gone, so paths are null."""
    for one in told:
        for entry in one.entries:
            paths = one.paths if are_kept else {}
            print_json_line(entry.line(paths=paths, seconds=_seconds(one.watched, entry)))


def _seconds(watched: Watched, entry: Ended) -> float | None:
    acknowledged_at = watched.sending.last_acknowledged_at if watched.sending else None
    if entry.ended_at is None or acknowledged_at is None:
        return None
    return entry.ended_at - acknowledged_at
