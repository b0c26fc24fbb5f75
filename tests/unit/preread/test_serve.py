"""The supervisor keeps services alive, says so, and stops them in order."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from preread.owned import house
from preread.serve import BACK_OFF_SECONDS_MAX, Service, Supervisor, back_off_seconds, ending

# A service of the tests: `service.py NAME BEHAVIOUR FOLDER`. It says what it does in FOLDER/log.
SERVICE = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from preread.readiness import announce, end_with_supervisor

    name, behaviour, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])

    def say(text):
        with (folder / "log").open("a") as log:
            log.write(f"{name} {text}\\n")

    def stop(*_):
        say("stopped")
        sys.exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else stop)
    supervisor = os.getppid()
    end_with_supervisor()
    say(f"started {os.environ.get('PREREAD_TEST__PORT', '-')}")
    if behaviour == "broken":
        sys.exit(3)
    starts = (folder / "log").read_text().count(f"{name} started")
    announce({name: 40000 + starts})
    if behaviour == "crashes once":
        if starts == 1:
            sys.exit(7)
        os.kill(supervisor, signal.SIGTERM)
    while True:
        signal.pause()
    """
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "log").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(house()))
    return tmp_path


def stop_self(_: Mapping[str, int]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def supervisor(
    folder: Path, *behaviours: tuple[str, str], notes: list[str], when_ready: object = stop_self
) -> Supervisor:
    services = [
        Service(name, (name, behaviour, str(folder)), 2.0, "PREREAD_TEST__PORT")
        for name, behaviour in behaviours
    ]
    command = (sys.executable, str(folder / "service.py"))
    return Supervisor(services, command=command, note=notes.append, on_ready=when_ready)  # type: ignore[arg-type]


def said(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


def test_services_stop_in_the_order_in_which_they_were_named(folder: Path) -> None:
    ports: dict[str, int] = {}

    def when_ready(found: Mapping[str, int]) -> None:
        ports.update(found)
        stop_self(found)

    runs = supervisor(folder, ("listener", "well"), ("web", "well"), notes=[], when_ready=when_ready)
    assert runs.run() == 0
    assert said(folder)[-2:] == ["listener stopped", "web stopped"]
    assert ports == {"listener": 40001, "web": 40001}


def test_a_crashed_service_is_started_again_on_its_port_and_noted(folder: Path) -> None:
    notes: list[str] = []
    runs = supervisor(folder, ("listener", "crashes once"), notes=notes, when_ready=lambda ports: None)
    assert runs.run() == 0
    assert notes == ["listener ended with exit code 7; started again in 1 s"]
    assert said(folder) == ["listener started -", "listener started 40001", "listener stopped"]


def test_a_service_that_never_was_ready_fails_the_start_and_stops_the_rest(folder: Path) -> None:
    runs = supervisor(
        folder, ("listener", "well"), ("web", "broken"), notes=[], when_ready=lambda ports: None
    )
    assert runs.run() == 1
    assert "web started -" in said(folder)
    assert not any(line.startswith("web stopped") for line in said(folder))


def test_a_service_that_does_not_stop_in_its_time_is_killed(folder: Path) -> None:
    runs = supervisor(folder, ("listener", "stubborn"), notes=[])
    assert runs.run() == 0
    assert said(folder) == ["listener started -"]


def test_no_service_outlives_a_killed_supervisor(folder: Path) -> None:
    program = textwrap.dedent(
        f"""
        import sys
        from config.logs import configure
        from preread.serve import Service, Supervisor
        configure(level="error")
        service = Service("web", ("web", "well", {str(folder)!r}), 2.0)
        Supervisor([service], command=(sys.executable, {str(folder / "service.py")!r}), note=print,
                   on_ready=lambda ports: print("ready", flush=True)).run()
        """
    )
    # The service inherits standard error: the end of file comes when the last of both has ended.
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=house()
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.stderr.read()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    assert said(folder)[-1] == "web stopped"


def test_the_wait_before_a_restart_doubles_up_to_a_minute() -> None:
    assert [back_off_seconds(n) for n in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert back_off_seconds(1000) == BACK_OFF_SECONDS_MAX == 60.0


def test_an_ending_names_the_signal_or_the_exit_code() -> None:
    assert ending(-9) == "was ended by SIGKILL"
    assert ending(3) == "ended with exit code 3"
