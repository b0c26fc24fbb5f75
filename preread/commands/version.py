"""`preread version`: which preread this is."""

import sys
from pathlib import Path

from config.identity import IMPLEMENTATION_UID, RESEARCH_SENTENCE, VERSION
from preread.commands.options import Json, print_json


def version(as_json: Json = False) -> None:
    """Print the version, where it is installed and under which UID it writes objects."""
    place = Path(__file__).resolve().parent.parent.parent
    python = ".".join(str(part) for part in sys.version_info[:3])
    if as_json:
        print_json(
            {"version": VERSION, "folder": place, "python": python, "implementation_uid": IMPLEMENTATION_UID}
        )
        return
    sys.stdout.write(f"preread {VERSION} (Python {python}, {place})\n{RESEARCH_SENTENCE}\n")
