"""Password hashes, session cookies, form tokens and the brake on guessing."""

import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import LoginSettings
from preread.web.passwords import password_hash, password_matches
from preread.web.sessions import (
    FAILURE_SECONDS,
    FAILURES_PER_ADDRESS,
    FAILURES_PER_USER,
    Brake,
    Sessions,
    signing_key,
)

HASH = password_hash("correct horse")


class Clock:
    """Seconds that stand still."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sessions_of(clock, *, key=b"k" * 32, logins=(("ada", HASH),), minutes=60.0) -> Sessions:
    known = [LoginSettings(user=user, password_hash=hashed) for user, hashed in logins]
    return Sessions(key, known, minutes=minutes, clock=clock)


def test_a_password_fits_its_hash_and_no_other() -> None:
    assert password_matches("correct horse", HASH)
    assert not password_matches("Correct horse", HASH)
    assert not password_matches("", HASH)


def test_the_same_password_makes_another_hash_each_time() -> None:
    assert password_hash("correct horse") != HASH


@given(st.text(max_size=80))
@settings(deadline=None)
def test_a_text_that_is_no_hash_fits_nothing(text: str) -> None:
    assert not password_matches("correct horse", text)


@pytest.mark.parametrize(
    "hashed",
    [
        HASH.replace("$15$", "$60$"),  # would ask for 2^60 rounds
        HASH.replace("$15$", "$0$"),
        HASH.replace("$8$", "$0$"),
        HASH.replace("$1$", "$999$"),
        HASH.rsplit("$", 1)[0] + "$",
        HASH.replace("scrypt", "md5"),
    ],
    ids=["far too many rounds", "no rounds", "no blocks", "too wide", "no hash", "another kind"],
)
def test_a_hash_that_asks_for_too_much_or_nothing_fits_nothing(hashed: str) -> None:
    assert not password_matches("correct horse", hashed)


def test_a_session_comes_back_from_its_cookie(clock) -> None:
    sessions = sessions_of(clock)
    session = sessions.start("ada")
    found = sessions.read(sessions.cookie(session))
    assert found is not None
    assert (found.id, found.user) == (session.id, "ada")


def test_a_cookie_of_another_key_is_no_session(clock) -> None:
    other = sessions_of(clock, key=b"x" * 32)
    assert sessions_of(clock).read(other.cookie(other.start("ada"))) is None


_SESSIONS = sessions_of(Clock())


@given(st.integers(min_value=0), st.characters(codec="ascii"))
@settings(deadline=None)
def test_a_cookie_that_was_changed_anywhere_is_no_session(place: int, letter: str) -> None:
    sessions = _SESSIONS
    cookie = sessions.cookie(sessions.start("ada"))
    at = place % len(cookie)
    changed = cookie[:at] + letter + cookie[at + 1 :]
    if changed != cookie:
        found = sessions.read(changed)
        # Base64 has bits it does not use in its last letter: such a change changes nothing.
        assert found is None or found.user == "ada"
        assert found is None or at == len(cookie) - 1


@pytest.mark.parametrize("cookie", [None, "", "x", "x.y", "W10.abc", "." * 9])
def test_what_is_no_cookie_is_no_session(clock, cookie) -> None:
    assert sessions_of(clock).read(cookie) is None


def test_a_session_ends_after_its_minutes_without_use(clock) -> None:
    sessions = sessions_of(clock, minutes=10)
    cookie = sessions.cookie(sessions.start("ada"))
    clock.now += 599
    assert sessions.read(cookie) is not None
    clock.now += 2
    assert sessions.read(cookie) is None


def test_use_prolongs_a_session(clock) -> None:
    sessions = sessions_of(clock, minutes=10)
    first = sessions.read(sessions.cookie(sessions.start("ada")))
    assert first is not None
    clock.now += 500
    assert sessions.is_due(first)
    again = sessions.cookie(first)
    clock.now += 500
    assert sessions.read(again) is not None


def test_logging_out_ends_copies_of_the_cookie_too(clock) -> None:
    sessions = sessions_of(clock)
    session = sessions.start("ada")
    cookie = sessions.cookie(session)
    sessions.end(session)
    assert sessions.read(cookie) is None


def test_another_password_ends_the_sessions_of_its_user(clock) -> None:
    before = sessions_of(clock)
    cookie = before.cookie(before.start("ada"))
    after = sessions_of(clock, logins=(("ada", password_hash("another one")),))
    assert after.read(cookie) is None


def test_a_user_who_was_removed_has_no_session(clock) -> None:
    before = sessions_of(clock)
    cookie = before.cookie(before.start("ada"))
    assert sessions_of(clock, logins=(("bob", HASH),)).read(cookie) is None


def test_a_form_token_belongs_to_one_session(clock) -> None:
    sessions = sessions_of(clock)
    mine, other = sessions.start(), sessions.start()
    assert sessions.token_matches(mine, sessions.token(mine))
    for wrong in (sessions.token(other), "", None, 7, "é"):
        assert not sessions.token_matches(mine, wrong)
    assert not sessions.token_matches(None, sessions.token(mine))


def test_only_a_known_user_with_the_right_password_fits(clock) -> None:
    sessions = sessions_of(clock)
    assert sessions.password_fits("ada", "correct horse")
    assert not sessions.password_fits("ada", "wrong")
    assert not sessions.password_fits("eve", "correct horse")


def test_one_user_is_braked_after_some_failures_and_others_are_not(clock) -> None:
    brake = Brake(clock=clock)
    for _ in range(FAILURES_PER_USER):
        assert brake.wait_seconds("10.0.0.1", "ada") == 0
        brake.failed("10.0.0.1", "ada")
    assert brake.wait_seconds("10.0.0.1", "ada") == FAILURE_SECONDS
    assert brake.wait_seconds("10.0.0.1", "bob") == 0
    assert brake.wait_seconds("10.0.0.2", "ada") == 0  # nobody can lock ada out from elsewhere
    clock.now += FAILURE_SECONDS + 1
    assert brake.wait_seconds("10.0.0.1", "ada") == 0


def test_an_address_that_tries_many_names_is_braked(clock) -> None:
    brake = Brake(clock=clock)
    for number in range(FAILURES_PER_ADDRESS):
        brake.failed("10.0.0.1", f"user{number}")
    assert brake.wait_seconds("10.0.0.1", "ada") > 0


def test_a_login_that_fits_forgets_the_failures(clock) -> None:
    brake = Brake(clock=clock)
    for _ in range(FAILURES_PER_USER - 1):
        brake.failed("10.0.0.1", "ada")
    brake.succeeded("10.0.0.1", "ada")
    brake.failed("10.0.0.1", "ada")
    assert brake.wait_seconds("10.0.0.1", "ada") == 0


def test_the_key_is_made_once_and_read_by_its_owner_only(tmp_path) -> None:
    key = signing_key(tmp_path / "state")
    assert signing_key(tmp_path / "state") == key
    assert stat.S_IMODE((tmp_path / "state" / "web.key").stat().st_mode) == 0o600


def test_a_key_that_was_cut_is_refused(tmp_path) -> None:
    (tmp_path / "web.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="not a key"):
        signing_key(tmp_path)
