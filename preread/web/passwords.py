"""PURE hashes of passwords: scrypt with its cost in the text, so that the cost can rise without a new format.

scrypt$<log2 n>$<r>$<p>$<salt, base64>$<digest, base64>
"""

import base64
import binascii
import hashlib
import hmac
import secrets

_LOG2_N = 15  # 32 MiB and about 80 ms on one core: dear for a guesser, cheap for a login
_R = 8
_P = 1
_SALT_BYTES = 16
_DIGEST_BYTES = 32
_LOG2_N_MAX = 20  # a hash from a settings file may cost a gigabyte at most
_MEMORY_MARGIN = 2


def password_hash(password: str) -> str:
    """The text that stands in `web.logins[].password_hash`; another one at each call (random salt)."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = _scrypt(password, salt, log2_n=_LOG2_N, r=_R, p=_P, length=_DIGEST_BYTES)
    return f"scrypt${_LOG2_N}${_R}${_P}${_text(salt)}${_text(digest)}"


def password_matches(password: str, hashed: str) -> bool:
    """Whether `password` made `hashed`; False also for a text that is no such hash."""
    parts = hashed.split("$")
    if len(parts) != 6 or parts[0] != "scrypt":
        return False
    try:
        log2_n, r, p = int(parts[1]), int(parts[2]), int(parts[3])
        salt = base64.b64decode(parts[4], validate=True)
        expected = base64.b64decode(parts[5], validate=True)
    except (ValueError, binascii.Error):
        return False
    if not (1 <= log2_n <= _LOG2_N_MAX and 1 <= r <= 32 and 1 <= p <= 16 and expected and salt):
        return False
    found = _scrypt(password, salt, log2_n=log2_n, r=r, p=p, length=len(expected))
    return hmac.compare_digest(found, expected)


def _scrypt(password: str, salt: bytes, *, log2_n: int, r: int, p: int, length: int) -> bytes:
    n = 1 << log2_n
    return hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=n,
        r=r,
        p=p,
        maxmem=_MEMORY_MARGIN * 128 * n * r * p + (1 << 20),
        dklen=length,
    )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
