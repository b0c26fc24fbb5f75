"""Named guards that an attack test switches off, to see that the attack succeeds without them.

Set PREREAD_GUARDS_OFF to names of `Guard`, separated by commas; never on a node that receives anything. A
guard asks `is_on` where it would act, not before, so that a node at peace does not pay for the question. What
each guard holds off is listed in docs/decisions/0008-guards-off.md.
"""

import os
from typing import Literal, get_args

from config.errors import PrereadError

VARIABLE = "PREREAD_GUARDS_OFF"

Guard = Literal[
    "address-cap",
    "ae-cap",
    "back-pressure",
    "command-cap",
    "connection-rate",
    "dataset-walk",
    "eviction",
    "fragment-mean",
    "hang-up",
    "identity",
    "instance-cap",
    "nesting",
    "pdu-cap",
    "request-cap",
    "request-deadline",
    "reserved-places",
    "stall-deadline",
    "stream-to-disk",
    "uid-syntax",
    "unusual-bytes",
]

_OFF = frozenset(name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip())


def is_on(guard: Guard) -> bool:
    """Whether the guard does its work: always, but in a test of what happens when it does not."""
    return guard not in _OFF


def switched_off() -> tuple[str, ...]:
    """The guards that are off, for a warning at the start.

    Raises
    ------
    PrereadError
        A name that no guard has.
    """
    unknown = sorted(_OFF.difference(get_args(Guard)))
    if unknown:
        raise PrereadError(
            f"no guard is called {unknown[0]}",
            where=f"environment {VARIABLE}",
            remedy="Unset it: it belongs to tests alone.",
        )
    return tuple(sorted(_OFF))
