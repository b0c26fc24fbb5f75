"""One group commit: which files it makes durable, and how far the log is durable then."""

from collections.abc import Sequence
from dataclasses import dataclass

from db.records import Mark
from db.spool_files import SpoolFiles
from db.spool_records import SETTLED_AT
from db.spool_run import SETTLED, OpenSegment


@dataclass(slots=True)
class GroupCommit:
    """What was appended since the commit before.

    `linked` runs and `rolled` log segments get no record any more; `current` goes on being written to.
    """

    linked: Sequence[OpenSegment]
    rolled: Sequence[OpenSegment]
    current: OpenSegment | None
    end: Mark
    under_way: int = 0  # syncs of it that have not ended

    @property
    def fds(self) -> list[int]:
        """The files to sync."""
        segments = [*self.linked, *self.rolled, *([self.current] if self.current else [])]
        return [segment.fd for segment in segments]

    def settle(self, files: SpoolFiles) -> None:
        """All of them are durable: runs need no look at the next start, and full files are closed."""
        for run in self.linked:
            files.write(run.fd, [SETTLED], SETTLED_AT)
        for segment in (*self.linked, *self.rolled):
            files.close(segment.fd)
