"""Tokens of peers: only their hashes stand in the settings, and the settings refuse what would be unsafe."""

import pytest
from pydantic import ValidationError

from config.identity import UPLOAD_AE
from config.settings import Settings
from config.tokens import is_token_hash, new_token, token_hash, token_matches

HASH = token_hash("a token")


def test_a_token_fits_its_own_hash_and_no_other() -> None:
    token, other = new_token(), new_token()
    assert token_matches(token, token_hash(token))
    assert not token_matches(other, token_hash(token))
    assert not token_matches("", token_hash(token))


def test_a_hash_tells_nothing_of_its_token_but_that_it_is_one() -> None:
    assert is_token_hash(HASH)
    assert "a token" not in HASH
    for text in ("a token", "sha256$", HASH + "0", HASH.upper(), "md5$" + "0" * 64):
        assert not is_token_hash(text)


def peers(*hashes: str | None) -> list[dict]:
    return [
        {"name": f"peer{n}", "ae_title": f"PEER{n}", "addresses": ["127.0.0.1"], "token_hash": hashed}
        for n, hashed in enumerate(hashes)
    ]


@pytest.mark.parametrize(
    ("tree", "word"),
    [
        ({"peers": peers("a token")}, "preread config token"),
        ({"peers": peers(HASH, HASH)}, "same token_hash"),
        ({"stow": {"port": 8043, "host": "0.0.0.0"}}, "in the clear"),
        ({"stow": {"certificate": "server.pem"}}, "belong together"),
        (
            {"web": {"upload": True}, "peers": [{"name": "x", "ae_title": UPLOAD_AE, "host": "127.0.0.1"}]},
            UPLOAD_AE,
        ),
    ],
)
def test_settings_that_would_be_unsafe_are_refused_with_their_remedy(tree: dict, word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        Settings.model_validate(tree)


def test_stow_is_off_and_the_page_takes_no_uploads_unless_asked_for() -> None:
    settings = Settings()
    assert settings.stow.port is None
    assert not settings.web.upload
