"""Settings come from one file and the environment, and every error can be acted on."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.loading import SettingsError, check, load_settings, render_default, settings_file
from config.settings import Settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREREAD_CONFIG", raising=False)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_default_file_loads_and_equals_the_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, render_default())
    assert check(file) == []
    assert load_settings(file) == Settings()


def test_an_error_names_file_line_setting_reason_and_remedy(tmp_path: Path) -> None:
    file = written(
        tmp_path, "peers:\n  - name: a\n    ae_title: A\n  - name: b\n    ae_title: NINETEEN_CHARACTERS\n"
    )
    [problem] = check(file)
    assert str(problem) == (
        f"{file} line 5: peers[1].ae_title: "
        "ae_title is 19 characters; DICOM allows 16 (PS3.5 6.2). Shorten it."
    )


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, "listener:\n  prt: 1\n  port: 99999999\nnode:\n  ae_title: ''\n")
    assert {(p.setting, p.where) for p in check(file)} == {
        ("listener.prt", f"{file} line 2"),
        ("listener.port", f"{file} line 3"),
        ("node.ae_title", f"{file} line 5"),
    }


def test_an_unknown_setting_proposes_the_nearest_name(tmp_path: Path) -> None:
    [problem] = check(written(tmp_path, "listener:\n  quiet_second: 3\n"))
    assert "Did you mean 'quiet_seconds'?" in problem.reason


def test_a_setting_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    [problem] = check(written(tmp_path, "node:\n  ae_title: A\n  ae_title: B\n"))
    assert problem.where.endswith("line 3")
    assert "first on line 2" in problem.reason


@pytest.mark.parametrize("text", ["node: [", "- a\n- b\n", "\x00", "just text"])
def test_a_file_that_is_not_a_mapping_is_an_error_not_a_crash(tmp_path: Path, text: str) -> None:
    assert check(written(tmp_path, text))


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, "# nothing\n")) == Settings()


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, "listener:\n  port: 104\n  quiet_seconds: 7\n")
    monkeypatch.setenv("PREREAD_LISTENER__PORT", "11200")
    settings = load_settings(file)
    assert (settings.listener.port, settings.listener.quiet_seconds) == (11200, 7.0)


def test_overrides_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREREAD_LISTENER__PORT", "11200")
    assert load_settings(overrides={"listener": {"port": 11300}}).listener.port == 11300


def test_an_error_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREREAD_LISTENER__PORT", "many")
    with pytest.raises(SettingsError, match="environment PREREAD_LISTENER__PORT"):
        load_settings()


def test_variables_that_are_not_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREREAD_KILL_POINT", "K99")
    assert load_settings() == Settings()


def test_a_missing_named_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="config init"):
        settings_file(tmp_path / "absent.yaml")


def test_a_page_beyond_loopback_needs_a_login(tmp_path: Path) -> None:
    [problem] = check(written(tmp_path, "web:\n  host: 0.0.0.0\n"))
    assert "Add web.logins" in problem.reason


def test_a_destination_must_be_a_peer_that_can_be_reached(tmp_path: Path) -> None:
    [unknown] = check(written(tmp_path, "results:\n  send_to: [pacs]\n"))
    assert "no peer is called 'pacs'" in unknown.reason
    [unreachable] = check(written(tmp_path, "results:\n  send_to: [a]\npeers:\n  - {name: a, ae_title: A}\n"))
    assert "has no host and port" in unreachable.reason


def test_results_go_to_the_sender_unless_it_names_others() -> None:
    def names(**sender: object) -> list[str]:
        settings = load_settings(
            overrides={
                "peers": [
                    {"name": "ct", "ae_title": "CT", "host": "127.0.0.1", "port": 104, **sender},
                    {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 105},
                ]
            }
        )
        return [peer.name for peer in settings.destinations_of("CT")]

    assert names() == ["ct"]
    assert names(send_to=["pacs"]) == ["pacs"]
    assert names(send_to=[]) == []


@given(st.text(max_size=200))
def test_any_text_is_loaded_or_refused_with_reasons(text: str) -> None:
    file = Path("any.yaml")
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    for problem in check(file):
        assert problem.reason
