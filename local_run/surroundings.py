"""What a run is made in: its settings, the environment of its parts, and the folder of its files.

No part of a run talks to AWS: whatever AWS_* says in the environment or .env, each part gets the emulated
AWS, credentials that are none, and no profile. Only S3 and Kinesis may be served by other emulators of this
machine or network (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_KINESIS).
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
import secrets
import shlex
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from provision.engine import ProvisionError
from provision.settings import Settings, dotenv, read_settings

# What counts here as it does for the chain on AWS; the other settings are about AWS, or forced.
COUNTED = (
    *("S3_BUCKET", "S3_PREFIX", "ON_POISON", "BEFORE_IMAGE_FIELD", "MASKED_COLUMNS", "MASK_SECRET"),
    *("LOG_LEVEL", "PIPELINE_NAME", "TABLES"),
    *("STREAM_SHARDS", "BATCH_WINDOW_SECONDS", "LOB_MAX_SIZE_KB", "HEARTBEAT_SCHEMA", "CAPTURE_DDLS"),
)
DEFAULTS = {"PIPELINE_NAME": "lending", "S3_BUCKET": "lending-local", "BATCH_WINDOW_SECONDS": "1"}
DEMO_TABLES = "public.%"  # those of .env are in another database
ELSEWHERE = {"AWS_ENDPOINT_URL_KINESIS": "kinesis", "AWS_ENDPOINT_URL_S3": "s3"}
SECRET_BYTES = 16
NO_PROXY = "127.0.0.1,localhost"  # a proxy of the environment would be asked for the loopback
CONNECT_SECONDS = 10
MARKER = ".local-run"  # in a folder whose files are a run's
# What it says; that of a mirror lists its files.
MARKED = {"--folder": "The files of python -m local_run; the next run replaces them.\n", "--output": ""}
RUN_FILES = ("cache", "replication", "event_source_mapping", "status", "logs", "postgres", "environment")


class LocalRunError(ProvisionError):
    """The chain can't be run here, or one of its parts has failed."""


# ----------------------------------------------------------------------------------------------------------
# Settings
# ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Database:
    """The source, as libpq's variables name it."""

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)
    sslmode: str = "disable"

    @property
    def variables(self) -> dict[str, str]:
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGDATABASE": self.name,
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGSSLMODE": self.sslmode,
        }

    @property
    def connect_parameters(self) -> dict[str, Any]:
        """libpq's, as psycopg2 takes them; not for printing."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.name,
            "user": self.user,
            "password": self.password,
            "sslmode": self.sslmode,
            "connect_timeout": CONNECT_SECONDS,
        }

    @property
    def address(self) -> str:
        """127.0.0.1:5432/lending"""
        return f"{self.host}:{self.port}/{self.name}"


def chosen_settings(
    dotenv_file: Path,
    environment: Mapping[str, str],
    tables: str | None,
    masked_columns: str | None = None,
) -> dict[str, str]:
    """The settings of COUNTED that are set, by name. tables, masked_columns: in place of what they say.

    For masks there is a key, made up where none is set. Raises SettingsError, with all faults, where the
    chain on AWS would.
    """
    merged = {**dotenv(dotenv_file), **environment}
    found = {key: value for key in COUNTED if (value := merged.get(key)) is not None}
    chosen = found | {key: value for key, value in DEFAULTS.items() if not found.get(key)}
    if tables is not None:
        chosen["TABLES"] = tables
    if masked_columns is not None:
        chosen["MASKED_COLUMNS"] = masked_columns
    if chosen.get("MASKED_COLUMNS"):
        key = chosen.get("MASK_SECRET") or secrets.token_hex(SECRET_BYTES)
        chosen |= {"MASK_SECRET": key, "MASK_SECRET_ARN": ""}  # a secret of .env is in another AWS
    placeholder = Database("127.0.0.1", 5432, "database", "user", "unused")
    read_settings(dotenv_file, {**chosen, **placeholder.variables, **FORCED})
    return chosen


FORCED = {
    "CREATE_RDS": "false",
    "VPC_ENDPOINTS": "auto",
    "SUBNET_IDS": "",
    "DMS_INSTANCE_CLASS": "",
    "RDS_INSTANCE_CLASS": "",
    "ALARM_EMAIL": "",
}


def database_of_url(url: str) -> Database:
    """What libpq connects to by it; TLS if the server has it. Raises LocalRunError when it can't."""
    import psycopg2  # type: ignore[import-untyped]

    try:
        parameters = psycopg2.extensions.parse_dsn(url)
    except psycopg2.Error:  # its words quote the password
        raise LocalRunError(
            "--database-url is no address of a database: write postgresql://user@host:5432/database"
        ) from None
    try:
        connection = psycopg2.connect(**{"connect_timeout": CONNECT_SECONDS, **parameters})
    except psycopg2.Error as error:
        raise LocalRunError(f"cannot connect to the database of --database-url: {error}".strip()) from None
    with_tls, found = connection.info.ssl_in_use, connection.info
    try:
        if found.host.startswith("/"):
            raise LocalRunError(
                f"--database-url leads to the socket in {found.host}; DMS connects by TCP: name the host"
            )
        return Database(
            found.host,
            found.port,
            found.dbname,
            found.user,
            found.password or "unused",
            "require" if with_tls else "disable",
        )
    finally:
        connection.close()


# ----------------------------------------------------------------------------------------------------------
# The environment of the parts
# ----------------------------------------------------------------------------------------------------------


def emulator_addresses(dotenv_file: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """AWS_ENDPOINT_URL_S3 and _KINESIS, where set. Raises LocalRunError when one leads out of here."""
    merged = {**dotenv(dotenv_file), **environment}
    found = {key: value for key in ELSEWHERE if (value := merged.get(key))}
    for key, url in found.items():
        if reason := reason_against(url):
            raise LocalRunError(
                f"{key}={url!r} {reason}: a local run only talks to this machine and its network;"
                " name an emulator there, or unset it"
            )
    return found


def reason_against(url: str) -> str | None:
    """Why no part of a run may call this address; None when it may."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("http", "https") or not host:
        return "is no address of an emulator (http://127.0.0.1:4566)"
    if re.search(r"(^|\.)(amazonaws\.com(\.[a-z]+)?|aws|api\.aws)$", host):
        return "is AWS"
    try:
        addresses = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return "has a host that can't be found"
    if any(not (one := ipaddress.ip_address(text)).is_private and not one.is_loopback for text in addresses):
        return "is on the internet"
    return None


def part_environment(
    environment: Mapping[str, str],
    settings: Mapping[str, str],
    database: Database,
    emulated_aws: Mapping[str, str],
    emulators: Mapping[str, str],
) -> dict[str, str]:
    """What every part of the run gets.

    environment: of whoever runs this, of which nothing that names a database, a setting or AWS is passed on.
    emulated_aws: the variables that the emulated AWS prints. emulators: see emulator_addresses.
    """
    passed = {
        key: value
        for key, value in environment.items()
        if not key.startswith(("AWS_", "PG")) and key not in Settings.keys()  # noqa: SIM118 (no mapping)
    }
    no_proxy = ",".join(filter(None, [passed.get("NO_PROXY") or passed.get("no_proxy"), NO_PROXY]))
    return {
        **passed,
        **settings,
        **{key: value for key, value in FORCED.items() if value},
        **database.variables,
        **emulated_aws,
        **emulators,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "PYTHONUNBUFFERED": "1",
    }


def write_environment(folder: Path, environment: Mapping[str, str]) -> Path:
    """A file for a shell to read (`.`): the settings, the database and the AWS of the parts.

    Only its owner can read it: it may hold the password of a database, and the key of masked columns.
    """
    keys = {*Settings.keys(), *(key for key in environment if key.startswith(("AWS_", "PG")))}
    lines = [f"export {key}={shlex.quote(environment[key])}" for key in sorted(keys & environment.keys())]
    file = folder / "environment"
    file.touch(mode=0o600)
    file.write_text("\n".join(["unset AWS_PROFILE AWS_SESSION_TOKEN", *lines, ""]), encoding="utf-8")
    return file


# ----------------------------------------------------------------------------------------------------------
# The folder
# ----------------------------------------------------------------------------------------------------------


@contextmanager
def claimed_folder(folder: Path, option: str = "--folder") -> Iterator[Path]:
    """The folder that the option names, for this run alone, with what a former run has left in it.

    Raises LocalRunError when it holds files that are not a run's, or another run uses it.
    """
    folder = folder.absolute()
    marker = mark(folder, MARKED[option])
    with marker.open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LocalRunError(f"another run uses {folder}: end it, or name another {option}") from error
        yield folder


def empty_run(folder: Path) -> None:
    """Removes what a former run has left, and nothing else."""
    try:
        for name in RUN_FILES:
            if (folder / name).is_file():
                (folder / name).unlink()
            elif (folder / name).exists():
                shutil.rmtree(folder / name)
        for name in ("status", "logs"):
            (folder / name).mkdir()
    except OSError as error:
        raise LocalRunError(f"cannot empty {folder}: {error}; name another --folder") from error


def mark(folder: Path, text: str) -> Path:
    """The marker of the folder; both are made if missing. Raises LocalRunError when it holds other files."""
    marker = folder / MARKER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not marker.exists():
            if any(folder.iterdir()):
                raise LocalRunError(f"{folder} holds other files: name a folder that is empty or not there")
            marker.write_text(text)
    except OSError as error:
        raise LocalRunError(f"cannot write to {folder}: {error.strerror}; name another folder") from error
    return marker
