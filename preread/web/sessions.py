"""Sessions of the page: a signed cookie, a token against forged requests, and a brake on guessing.

The cookie holds an id, the user, when it was last used and a mark of the user's password hash, signed with a
key that lives in the state folder: a restart logs nobody out, a changed password does. Nothing is kept on the
server but the ids that logged out, until they would have ended anyway (a restart forgets those).
"""

import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from itsdangerous import BadSignature, URLSafeSerializer

from config.settings import LoginSettings
from preread.web.passwords import password_hash, password_matches

KEY_BYTES = 32
REFRESH_SECONDS = 60.0
FAILURES_PER_USER = 5
FAILURES_PER_ADDRESS = 20
FAILURE_SECONDS = 300.0
REMEMBERED_MAX = 10_000
SCRYPTS_AT_ONCE = 2  # each takes 32 MiB and a core: a flood of logins must not take the machine


@dataclass(frozen=True)
class Session:
    """Who looks: an id of this browser, and the user when one is logged in."""

    id: str
    user: str | None
    seen_at: float  # epoch seconds


def signing_key(state_folder: Path) -> bytes:
    """The key of this installation, made at the first start, readable by its owner alone."""
    file = state_folder / "web.key"
    try:
        key = file.read_bytes()
    except FileNotFoundError:
        state_folder.mkdir(parents=True, exist_ok=True)
        key = secrets.token_bytes(KEY_BYTES)
        draft = state_folder / f"web.key.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(key)
        try:
            os.link(draft, file)  # the first of two processes that start together wins
        except FileExistsError:
            key = file.read_bytes()
        finally:
            draft.unlink()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{file} is not a key of {KEY_BYTES} bytes; remove it and start the page again")
    return key


class Sessions:
    """Makes, reads and ends sessions. Thread-safe.

    Parameters
    ----------
    key : of `signing_key`
    logins : who may log in; empty means that nobody needs to
    minutes : a session ends after so long without use
    clock : epoch seconds
    """

    def __init__(
        self, key: bytes, logins: Sequence[LoginSettings], *, minutes: float, clock: Callable[[], float]
    ) -> None:
        self._key = key
        self._hashes = {login.user: login.password_hash for login in logins}
        self._seconds = minutes * 60.0
        self._clock = clock
        self._signer = URLSafeSerializer(key, salt="preread session")
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(SCRYPTS_AT_ONCE)
        # Checked for unknown users, so that a guesser cannot tell them by the time of the answer.
        self._nobody = password_hash(secrets.token_hex())

    @property
    def needs_login(self) -> bool:
        """Whether pages are shown to users who logged in only."""
        return bool(self._hashes)

    def start(self, user: str | None = None) -> Session:
        """A new session with a new id, so that an id planted before the login is worth nothing."""
        return Session(secrets.token_urlsafe(18), user, self._clock())

    def cookie(self, session: Session) -> str:
        """The session as the value of a cookie, used now."""
        mark = self._password_mark(session.user)
        return self._text([session.id, session.user, self._clock(), mark])

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None when there is none, or it is forged, too old, ended or outdated."""
        if not cookie:
            return None
        try:
            fields = self._signer.loads(cookie)
        except BadSignature:
            return None
        if not (isinstance(fields, list) and len(fields) == 4):
            return None
        session_id, user, seen_at, mark = fields
        now = self._clock()
        if now - seen_at > self._seconds or session_id in self._ended:
            return None
        if user is not None and (user not in self._hashes or mark != self._password_mark(user)):
            return None
        return Session(session_id, user, seen_at)

    def end(self, session: Session) -> None:
        """Log out: the cookie is refused from now on, also when it was copied."""
        now = self._clock()
        with self._lock:
            for old in [i for i, at in self._ended.items() if now - at > self._seconds]:
                del self._ended[old]
            self._ended[session.id] = now

    def is_due(self, session: Session) -> bool:
        """Whether the cookie should be written anew to say that the session is in use."""
        return self._clock() - session.seen_at > min(REFRESH_SECONDS, self._seconds / 4.0)

    def token(self, session: Session) -> str:
        """What every form of this session carries; another site cannot know it."""
        return hmac.new(self._key, f"form {session.id}".encode(), hashlib.sha256).hexdigest()

    def token_matches(self, session: Session | None, token: object) -> bool:
        """Whether a form came from a page of this session."""
        return (
            session is not None
            and isinstance(token, str)
            and hmac.compare_digest(self.token(session).encode(), token.encode("utf-8", "replace"))
        )

    def password_fits(self, user: str, password: str) -> bool:
        """Whether `user` may log in with `password`; takes as long for a user who does not exist."""
        known = self._hashes.get(user)
        with self._slots:
            fits = password_matches(password, known or self._nobody)
        return fits and known is not None

    def _password_mark(self, user: str | None) -> str | None:
        if user is None or user not in self._hashes:
            return None
        return hmac.new(self._key, f"hash {self._hashes[user]}".encode(), hashlib.sha256).hexdigest()[:16]

    def _text(self, fields: list[str | float | None]) -> str:
        raw = self._signer.dumps(fields)
        return raw.decode() if isinstance(raw, bytes) else raw


class Brake:
    """Refuses logins after too many failures of one user from one address, or of one address. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[tuple[str, str | None], tuple[int, float]] = {}
        self._lock = threading.Lock()

    def wait_seconds(self, address: str, user: str) -> float:
        """How long this login has to wait; 0.0 when it may be tried."""
        now = self._clock()
        with self._lock:
            waits = [
                last + FAILURE_SECONDS - now
                for key, limit in self._limits(address, user)
                for count, last in [self._failures.get(key, (0, 0.0))]
                if count >= limit
            ]
        return max([0.0, *waits])

    def failed(self, address: str, user: str) -> None:
        """Count a failure."""
        now = self._clock()
        with self._lock:
            for key, _ in self._limits(address, user):
                count, last = self._failures.pop(key, (0, now))
                self._failures[key] = (count + 1 if now - last <= FAILURE_SECONDS else 1, now)
            while len(self._failures) > REMEMBERED_MAX:
                del self._failures[next(iter(self._failures))]  # the one that failed longest ago

    def succeeded(self, address: str, user: str) -> None:
        """Forget the failures of this user from this address."""
        with self._lock:
            self._failures.pop((address, user), None)

    @staticmethod
    def _limits(address: str, user: str) -> list[tuple[tuple[str, str | None], int]]:
        return [((address, user), FAILURES_PER_USER), ((address, None), FAILURES_PER_ADDRESS)]
