"""A private Postgres: the server of tests and measurements that ask for one."""

import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path

import psycopg
from psycopg import sql

from db.tables import METADATA

_START_SECONDS = 60.0


def postgres_binaries() -> Path | None:
    """The folder of the newest initdb and postgres; None: there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path and shutil.which("postgres"):
        return Path(on_path).resolve().parent
    return None


class PostgresServer:
    """A cluster of our own in a temporary folder, reached by a Unix socket only.

    `is_durable`: commits are synced, as in a hospital; what is measured needs that, tests do not.
    """

    def __init__(self, binaries: Path, folder: Path, *, is_durable: bool = False) -> None:
        # initdb refuses to run as root; the Debian package brings this user along.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder, self._numbers = folder, itertools.count(1)
        if self._user:
            shutil.chown(folder, self._user)
        initdb = [binaries / "initdb", "-D", folder / "cluster", "-U", "preread", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*initdb, "--no-sync"], check=True, capture_output=True, user=self._user, cwd=folder)
        settings: dict[str, object] = {
            "unix_socket_directories": folder,
            "listen_addresses": "",
            "max_connections": 200,
        }
        if not is_durable:  # nothing of a test has to survive a power cut
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                # The signal ends the server also when the test process is killed.
                ["setpriv", "--pdeathsig", "INT", binaries / "postgres", "-D", folder / "cluster", *options],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=folder,
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        ends = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.dsn("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > ends:
                    raise AssertionError((self._folder / "log").read_text()) from None
                time.sleep(0.05)

    def dsn(self, name: str) -> str:
        """libpq's words for a database of the cluster."""
        return f"host={self._folder} user=preread dbname={name}"

    def url(self, name: str) -> str:
        """SQLAlchemy's URL for a database of the cluster."""
        return f"postgresql+psycopg://preread@/{name}?host={self._folder}"

    def create(self) -> str:
        """A new, empty database; returns its name."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def empty(self, name: str) -> None:
        """Delete all rows of a database, quicker than making another one."""
        everything = sql.SQL(", ").join(sql.Identifier(table.name) for table in METADATA.sorted_tables)
        with psycopg.connect(self.dsn(name), options="-c lock_timeout=20s") as connection:
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(everything))

    def stop(self) -> None:
        """Fast shutdown."""
        self._process.send_signal(2)
        self._process.wait(timeout=30)
