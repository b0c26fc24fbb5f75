"""Each check of the doctor says what is wrong and what to do; none raises."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from config.settings import Settings
from db.engine import Database
from db.records import WorkerRecord
from db.workers import beat
from preread import doctor
from preread.check_result import CheckResult


@pytest.fixture
def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.fixture
def settings(tmp_path: Path, free_port: int) -> Settings:
    return Settings.model_validate(
        {
            "state_folder": tmp_path / "state",
            "listener": {"host": "127.0.0.1", "port": free_port, "reserve_gib": 0},
            "web": {"port": free_port},
            "retention": {"disk_percent_max": 99},
        }
    )


def with_peer(settings: Settings, **peer: object) -> Settings:
    tree = settings.model_dump()
    return Settings.model_validate({**tree, "peers": [{"name": "pacs", "ae_title": "PACS", **peer}]})


@pytest.fixture
def pacs() -> Iterator[int]:
    ae = AE(ae_title="PACS")
    ae.require_called_aet = True
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    yield int(server.server_address[1])
    server.shutdown()


def the(results: Iterator[CheckResult], name: str) -> CheckResult:
    return next(result for result in results if result.name == name)


def test_a_node_that_was_never_started_says_so_and_nothing_raises(settings: Settings) -> None:
    results = list(doctor.check_all(settings, deep=False))
    failed = {result.name for result in results if not result.ok}
    assert {"database", "listener", "page", "peers"} <= failed
    assert all(result.remedy for result in results if not result.ok)
    assert not (settings.state_folder / "preread.db").exists()


def test_the_state_folder_is_made_for_this_user_alone(settings: Settings) -> None:
    assert doctor.check_state_folder(settings).ok
    assert settings.state_folder.stat().st_mode & 0o077 == 0


def test_a_state_folder_open_to_everybody_is_found(settings: Settings) -> None:
    doctor.check_state_folder(settings)
    settings.state_folder.chmod(0o755)
    result = doctor.check_state_folder(settings)
    assert not result.ok
    assert result.remedy == f"chmod o-rwx {settings.state_folder}"


def test_a_state_folder_that_cannot_be_made_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file is in the way")
    result = doctor.check_state_folder(settings)
    assert not result.ok
    assert str(settings.spool_folder) in result.detail


def test_too_little_disk_for_the_reserve_is_found(settings: Settings) -> None:
    tree = settings.model_dump()
    tree["listener"]["reserve_gib"] = 10**9
    result = doctor.check_disk(Settings.model_validate(tree))
    assert not result.ok
    assert "0xA700" in result.detail


def test_a_current_database_is_well_and_its_clock_agrees(settings: Settings) -> None:
    database = Database.open(settings.database_url)
    database.migrate()
    database.close()
    results = {result.name: result.ok for result in doctor.check_database(settings)}
    assert results == {"database": True, "database clock": True}
    assert not the(doctor.check_workers(settings), "worker").ok


def test_a_worker_that_was_seen_is_named_with_its_device(settings: Settings) -> None:
    database = Database.open(settings.database_url)
    database.migrate()
    beat(database, WorkerRecord(name="gpu1", pid=1, host="here", device="cuda:0"))
    database.close()
    result = the(doctor.check_workers(settings), "worker")
    assert result.ok
    assert result.detail == "gpu1 on cuda:0"


def test_a_database_without_tables_names_the_remedy(settings: Settings) -> None:
    Database.open(settings.database_url).close()
    result = the(doctor.check_database(settings), "database")
    assert not result.ok
    assert "preread serve" in (result.remedy or "")


def test_a_database_that_is_away_is_named_without_its_password(settings: Settings, free_port: int) -> None:
    url = f"postgresql://preread:secret@127.0.0.1:{free_port}/preread"
    away = Settings.model_validate({**settings.model_dump(), "database": {"url": url}})
    result = the(doctor.check_database(away), "database")
    assert not result.ok
    assert "secret" not in result.detail


def test_a_peer_that_answers_c_echo_is_well(settings: Settings, pacs: int) -> None:
    [result] = doctor.check_peers(with_peer(settings, host="127.0.0.1", port=pacs))
    assert result.ok
    assert result.name == "peer pacs"


def test_a_peer_under_another_title_is_found_with_a_remedy(settings: Settings, pacs: int) -> None:
    [result] = doctor.check_peers(with_peer(settings, ae_title="OTHER", host="127.0.0.1", port=pacs))
    assert not result.ok
    assert "AE title" in (result.remedy or "")


def test_a_peer_that_only_sends_needs_no_echo(settings: Settings) -> None:
    [result] = doctor.check_peers(with_peer(settings))
    assert result.ok
    assert "only sends to us" in result.detail
