"""Who preread is in DICOM objects, on the network and on every page.

Result UIDs are made from a digest, so that a repeat makes the same object. Without a root of its own a site
uses the UUID arc 2.25 (PS3.5 B.2) in a decimal block that is ours by a fixed prefix: 39 digits in all, the
first ten always the same, 29 digits of digest (96 bits). A registered root can be set instead.
"""

import hashlib
from importlib.metadata import PackageNotFoundError, version

_UUID_ARC_PREFIX = "2.25.1707365910"
_UUID_ARC_DIGITS = 39
_DIGEST_DIGITS_MIN = 20
UID_LENGTH_MAX = 64

PRODUCT = "preread"
MANUFACTURER = "preread"
IMPLEMENTATION_UID = _UUID_ARC_PREFIX + "0" * (_UUID_ARC_DIGITS - 11) + "1"
UPLOAD_AE = "UPLOAD"  # stands for the page where an image has its sender's AE title
RESEARCH_SENTENCE = "Research use. Not verified by a physician."

try:
    VERSION = version("preread")
except PackageNotFoundError:  # running from a checkout that was never installed
    VERSION = "0.0.0"

IMPLEMENTATION_VERSION = f"PREREAD_{VERSION}"[:16]


def own_uid(canonical: bytes, *, root: str | None = None) -> str:
    """A UID under our root, the same for the same bytes.

    Parameters
    ----------
    canonical : what the UID stands for, in a canonical encoding
    root : a registered root of the site; None takes the shared block of the UUID arc

    Returns
    -------
    at most 64 characters (PS3.5 section 9)
    """
    digits = str(int.from_bytes(hashlib.sha256(canonical).digest(), "big"))
    if root is None:
        return _UUID_ARC_PREFIX + digits[-(_UUID_ARC_DIGITS - 10) :].zfill(_UUID_ARC_DIGITS - 10)
    room = UID_LENGTH_MAX - len(root) - 1
    if room < _DIGEST_DIGITS_MIN:
        raise ValueError(f"uid_root {root} leaves {room} digits; {_DIGEST_DIGITS_MIN} are needed")
    # A component may not begin with 0 (PS3.5 section 9.1), so a leading 1 is fixed.
    return f"{root}.1{digits[-(room - 1) :].zfill(room - 1)}"


def is_own_uid(uid: str, *, root: str | None = None) -> bool:
    """Whether `uid` was made by a preread: under the shared block, or under the site's root."""
    if uid.startswith(_UUID_ARC_PREFIX) and len(uid) == len("2.25.") + _UUID_ARC_DIGITS:
        return True
    return root is not None and uid.startswith(root + ".1") and len(uid) == UID_LENGTH_MAX
