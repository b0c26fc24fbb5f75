"""The live table of the demo on standard error: what each study is doing, as the rows say."""

import time
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from db.views import StudyView
from preread.demo.outcomes import Ended
from preread.web.words import plain

STATES = {"delivered": "delivered", "not_analysed": "not analysed", "failed": "failed"}


@dataclass
class Row:
    """One study on its way; written by sender and watcher, each its own fields."""

    description: str
    total: int
    sent: int = 0
    state: str = "waiting"
    is_ended: bool = False
    began_at: float | None = None  # monotonic
    ended_at: float | None = None


@dataclass
class Progress:
    """Rows in the order of sending; shows itself while used as a context manager.

    On a terminal the table changes in place; elsewhere each change of a state is one line.
    """

    console: Console
    rows: dict[str, Row] = field(default_factory=dict)

    def __enter__(self) -> "Progress":
        self._live = Live(
            get_renderable=self._table,
            console=self.console,
            refresh_per_second=4,
            transient=False,
            auto_refresh=self.console.is_terminal,
        )
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def say(self, text: str) -> None:
        """One line above the table."""
        say(self.console, text)

    def add(self, study_uid: str, description: str, total: int) -> None:
        """A study that will be sent."""
        self.rows[study_uid] = Row(description, total)

    def sending(self, study_uid: str, sent: int) -> None:
        """So many of its objects are sent."""
        row = self.rows[study_uid]
        row.began_at = row.began_at or time.monotonic()
        row.sent = sent
        self._state(row, "sending")

    def seen(self, study_uid: str, view: StudyView | None) -> None:
        """What the rows say about it now."""
        if view is not None and not self.rows[study_uid].is_ended:
            self._state(self.rows[study_uid], state_words(view))

    def ended(self, study_uid: str, entries: list[Ended]) -> None:
        """How it ended."""
        row = self.rows[study_uid]
        row.is_ended, row.ended_at = True, time.monotonic()
        self._state(row, "; ".join(dict.fromkeys(_ending_words(entry) for entry in entries)))

    def _state(self, row: Row, state: str) -> None:
        if row.state == state:
            return
        row.state = state
        if not self.console.is_terminal and state != "sending":
            self.say(f"{row.description}: {state}")

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("study", overflow="ellipsis", no_wrap=True, max_width=36)
        table.add_column("sent", justify="right")
        table.add_column("state")
        table.add_column("s", justify="right")
        for row in self.rows.values():
            end = row.ended_at or time.monotonic()
            seconds = f"{end - row.began_at:.0f}" if row.began_at else ""
            sent = f"{row.sent}/{row.total}"
            table.add_row(escape(plain(row.description)), sent, escape(row.state), seconds)
        done = sum(row.is_ended for row in self.rows.values())
        return Group(table, f"{done} of {len(self.rows)} studies done")


def say(console: Console, text: str) -> None:
    """One line as it is: what a peer or a file name holds is never formatting, nor moves the cursor."""
    console.print(plain(text), markup=False, highlight=False, soft_wrap=True)


def state_words(view: StudyView) -> str:
    """State of a study in the words of the page."""
    study = view.study
    if study.state == "receiving":
        return "received, waiting for more images"
    if study.state == "done" and study.outcome is not None:
        return STATES[study.outcome]
    jobs = [job for job in view.jobs if job.revision == study.revision]
    running = next((job for job in jobs if job.state == "running"), None)
    if running is not None:
        what = running.stage or "running"
        return f"{what} ({running.model})" if running.model else f"choosing series: {what}"
    deliveries = [delivery for delivery in view.deliveries if delivery.job_id in {job.id for job in jobs}]
    if deliveries and not any(job.state == "queued" for job in jobs):
        delivered = sum(delivery.state == "delivered" for delivery in deliveries)
        return f"delivering {delivered}/{len(deliveries)}"
    return "queued"


def _ending_words(entry: Ended) -> str:
    return f"{STATES[entry.outcome]}: {entry.message}" if entry.message else STATES[entry.outcome]
