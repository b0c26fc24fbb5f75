"""A service says once that it is ready: to its supervisor by a pipe, to systemd by a datagram."""

import json
import os
import socket
from pathlib import Path

import pytest

from preread.readiness import READY_DESCRIPTOR, announce, notify


def test_ready_reaches_the_supervisor_with_ports_and_closes_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    monkeypatch.setenv(READY_DESCRIPTOR, str(write_end))
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    announce({"web": 8042})
    with os.fdopen(read_end) as pipe:
        assert json.loads(pipe.read()) == {"web": 8042}
    assert READY_DESCRIPTOR not in os.environ


def test_ready_reaches_systemd_as_a_datagram(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        announce({})
        assert systemd.recv(100) == b"READY=1"


def test_an_abstract_address_of_systemd_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0preread-test-{os.getpid()}")
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@preread-test-{os.getpid()}")
        assert notify("STOPPING=1")
        assert systemd.recv(100) == b"STOPPING=1"


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
