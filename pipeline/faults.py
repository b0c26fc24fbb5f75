"""What may be said of an exception that is our own fault: its kind and where it was raised, never its text.

The text of an exception may quote a value, and a value may be a patient's (law 7).
"""

import traceback
from pathlib import Path


def kind_and_place(error: BaseException) -> str:
    """Such as `ValueError at pixels.py:120`, of the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}"


def path_of(error: BaseException) -> list[str]:
    """Every frame from the outermost on, as `file.py:line function`, for the log."""
    return [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
