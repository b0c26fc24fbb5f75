"""PURE tokens of peers that send by HTTP, and the hashes of them that stand in the settings.

sha256$<digest, hex>. A token is made by us with 256 random bits, so a plain digest is as good as a slow one:
there is nothing to guess. Passwords, which people choose, are another matter (preread.web.passwords).
"""

import hashlib
import hmac
import re
import secrets

_RANDOM_BYTES = 32
_HASH = re.compile(r"sha256\$[0-9a-f]{64}")


def new_token() -> str:
    """A token for one peer; 43 characters that need no quoting in a header or a file."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


def token_hash(token: str) -> str:
    """The text that stands in `peers[].token_hash`."""
    return f"sha256${hashlib.sha256(token.encode()).hexdigest()}"


def is_token_hash(text: str) -> bool:
    """Whether `text` has the form of `token_hash`."""
    return _HASH.fullmatch(text) is not None


def token_matches(token: str, hashed: str) -> bool:
    """Whether `hashed` was made of `token`; takes the same time for every wrong one."""
    return hmac.compare_digest(token_hash(token).encode(), hashed.encode())
