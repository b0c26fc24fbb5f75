"""Named points at which a crash test ends the process as SIGKILL would.

Set PREREAD_KILL_POINT to a name ("K3") or to a name and a count ("K3:5", the fifth time). Without the
variable a point costs one comparison. The points are listed in docs/decisions/0003-kill-points.md.
"""

import os
import sys

_ARMED, _, _count = os.environ.get("PREREAD_KILL_POINT", "").partition(":")
_left = [int(_count or 1)]


def reached(point: str) -> None:
    """End the process at once, without clean-up, if `point` is the armed one."""
    if point != _ARMED:
        return
    _left[0] -= 1
    if _left[0] <= 0:
        sys.stderr.flush()
        os._exit(137)


def armed(point: str) -> bool:
    """Whether `point` is the armed one, so that a write can be split where it is to be torn."""
    return point == _ARMED
