"""The doctor says who can send to this node, by which port, and until when its certificates are good."""

import socket
from pathlib import Path
from typing import Any

import pytest
from listener_process import free_port
from tls_files import Authority

from config.settings import Settings
from preread.check_result import CheckResult
from preread.doctor_ways_in import check_certificate, check_ways_in

AWAY = [{"name": "pacs", "ae_title": "PACS", "host": "10.1.2.3"}]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.made(tmp_path)


def results(**tree: Any) -> dict[str, CheckResult]:
    listener = {"port": free_port(), **tree.pop("listener", {})}
    settings = Settings.model_validate({"listener": listener, **tree})
    return {result.name: result for result in check_ways_in(settings)}


def test_port_that_answers_is_the_listener_and_a_free_one_is_not() -> None:
    port = free_port()
    assert "nothing listens" in results(listener={"port": port})["listener"].detail
    with socket.create_server(("127.0.0.1", port)):
        assert results(listener={"port": port})["listener"].ok


def test_port_that_cannot_be_bound_says_why() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody answers
        result = results(listener={"port": taken.getsockname()[1]})["listener"]
    assert not result.ok
    assert "cannot be used" in result.detail


@pytest.mark.parametrize(("branch", "name"), [("tls", "TLS"), ("stow", "STOW-RS")])
def test_other_ports_are_looked_at_where_they_are_on(authority: Authority, branch: str, name: str) -> None:
    files = authority.settings() if branch == "tls" else {}
    port = free_port()
    silent = results(**{branch: {"port": port, "host": "127.0.0.1", **files}})[name]
    assert not silent.ok
    assert silent.remedy == "Start `preread serve`."
    with socket.create_server(("127.0.0.1", port)):
        assert results(**{branch: {"port": port, "host": "127.0.0.1", **files}})[name].ok
    assert name not in results()


def test_plain_dicom_is_said_where_it_is_on() -> None:
    said = results(listener={"host": "0.0.0.0", "plain": True}, peers=AWAY)["plain DICOM"]
    assert said.ok
    assert "in the clear" in said.detail
    assert "off" in results()["plain DICOM"].detail


def test_peers_elsewhere_that_no_port_is_open_for_are_named_with_both_ways_out(authority: Authority) -> None:
    shut = results(peers=AWAY)["plain DICOM"]
    assert not shut.ok
    assert "pacs cannot send" in shut.detail
    assert shut.remedy is not None
    assert "tls.port" in shut.remedy
    assert "listener.plain" in shut.remedy
    assert results(peers=AWAY, tls={"port": free_port(), **authority.settings()})["plain DICOM"].ok
    here = [{"name": "pacs", "ae_title": "PACS", "addresses": ["127.0.0.0/8"]}]
    assert results(peers=here)["plain DICOM"].ok


def test_certificate_is_named_with_its_end_and_what_peers_bind_to(authority: Authority) -> None:
    made = authority.certify("node", days=100)
    said = check_certificate("tls", made.certificate, made.private_key)
    assert said.ok, said
    assert "node, sha256:" in said.detail


def test_certificate_that_ends_soon_is_to_be_renewed(authority: Authority) -> None:
    made = authority.certify("node", days=3)
    said = check_certificate("tls", made.certificate, made.private_key)
    assert not said.ok
    assert "read again at once" in (said.remedy or "")


@pytest.mark.parametrize("lost", ["certificate", "private_key"])
def test_files_that_cannot_be_read_are_named(authority: Authority, lost: str) -> None:
    made = authority.certify("node", days=100)
    getattr(made, lost).unlink()
    said = check_certificate("stow", made.certificate, made.private_key)
    assert not said.ok
    assert "no such file" in said.detail
    assert "stow.certificate" in (said.remedy or "")


def test_key_of_another_certificate_is_found(authority: Authority) -> None:
    tls = {**authority.settings(), "private_key": str(authority.own.private_key), "port": free_port()}
    said = results(tls=tls)["certificate of tls"]
    assert not said.ok
    assert "key values mismatch" in said.detail
    assert "goes on with the former ones" in (said.remedy or "")


def test_trusted_certificate_that_ends_soon_is_named(authority: Authority) -> None:
    said = results(tls={**authority.settings(), "port": free_port()})["trusted certificate"]
    assert not said.ok
    assert "authority in" in said.detail
