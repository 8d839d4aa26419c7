"""The settings of the chain: read from a mapping, or from the environment and .env, all faults at once.

The first eight are the Lambda's own; they reach it through its environment, but for MASK_SECRET, which goes
to Secrets Manager. lambda_function.py imports nothing of ours and reads them by itself: a test keeps both to
the same keys, defaults and rules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

from provision.engine import ProvisionError
from provision.masks import MOST_BYTES, SHORTEST_SECRET, Masks, needs_secret, read_masks
from provision.replication_task import LOB_KB, TablePattern, TaskDocumentError, table_patterns

LAMBDA_KEYS = (
    *("S3_BUCKET", "S3_PREFIX", "ON_POISON", "BEFORE_IMAGE_FIELD"),
    *("MASKED_COLUMNS", "MASK_SECRET", "MASK_SECRET_ARN", "LOG_LEVEL"),
)
OF_MASKS = {"MASKED_COLUMNS", "MASK_SECRET", "MASK_SECRET_ARN"}
NAME_LENGTH = 30  # "-failed-123456789012" still fits a bucket's name, other suffixes those of roles
WINDOW_SECONDS = 300  # most that an event source mapping waits for
SHARDS = 500  # a first quota of AWS's that an account has raised before it needs more
# Master user names that RDS for PostgreSQL takes for itself.
RDS_USERS = {"admin", "rdsadmin", "rds_superuser", "rdsrepladmin", "rds_replication", "rds_iam"}


class SettingsError(ProvisionError):
    """Settings are missing or wrong: every one of them, each with what to write."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n  ".join(["settings:", *self.faults]))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Each field is the setting of its name in capitals; README's table explains them."""

    s3_bucket: str
    s3_prefix: str = ""
    on_poison: str = "quarantine"
    before_image_field: str = "before-image"
    masked_columns: str = ""
    mask_secret: str = field(default="", repr=False)
    mask_secret_arn: str = ""
    log_level: str = "INFO"
    pipeline_name: str
    pghost: str = ""
    pgport: int = 5432
    pgdatabase: str
    pguser: str
    pgpassword: str = field(repr=False)
    pgsslmode: str = "require"
    create_rds: bool = False
    tables: str = "public.%"
    subnet_ids: tuple[str, ...] = ()
    vpc_endpoints: str = "auto"
    stream_shards: int | None = 1  # None: on-demand
    batch_window_seconds: int = 5
    lob_max_size_kb: int = 64
    heartbeat_schema: str = "awsdms"  # empty: no heartbeat
    capture_ddls: bool = False
    dms_instance_class: str = "dms.t3.medium"
    rds_instance_class: str = "db.t4g.medium"
    alarm_email: str = ""

    @property
    def table_patterns(self) -> list[TablePattern]:
        return table_patterns(self.tables)

    @property
    def connect_parameters(self) -> dict[str, Any]:
        """libpq's, as psycopg2 takes them; not for printing."""
        return {
            "host": self.pghost,
            "port": self.pgport,
            "dbname": self.pgdatabase,
            "user": self.pguser,
            "password": self.pgpassword,
            "sslmode": self.pgsslmode,
        }

    @property
    def function_environment(self) -> dict[str, str]:
        """What the settings alone tell the function; the ARN of the masks' key is the chain's to add."""
        keys = [key for key in LAMBDA_KEYS if key not in OF_MASKS or (key == "MASKED_COLUMNS" and self.masks)]
        return {key: str(getattr(self, key.lower())) for key in keys}

    @property
    def masks(self) -> Masks:
        return read_masks(self.masked_columns)

    @property
    def has_mask_key(self) -> bool:
        """Whether a mask takes a key: then MASK_SECRET or MASK_SECRET_ARN is set."""
        return needs_secret(self.masks)

    @classmethod
    def keys(cls) -> list[str]:
        return [one.name.upper() for one in fields(cls)]

    @classmethod
    def from_mapping(cls, values: Mapping[str, str], other_faults: Iterable[str] = ()) -> Settings:
        """S3_BUCKET, PIPELINE_NAME, ...; empty means the default. Raises SettingsError with all faults."""
        return cls(**read_values([one.name for one in fields(cls)], values, other_faults, wanted))


def read_values(
    names: Iterable[str],
    values: Mapping[str, str],
    other_faults: Iterable[str],
    wanted: Callable[[Mapping[str, Any]], Mapping[str, str]],
) -> dict[str, Any]:
    """The settings of these names that are set. Raises SettingsError with all faults.

    wanted: {"S3_BUCKET": "the bucket that takes the rows"}, what has to be set, given what is.
    """
    read: dict[str, Any] = {}
    faults = list(other_faults)
    for name in names:
        key = name.upper()
        text = values.get(key) or ("" if key in values and key in MAY_BE_EMPTY else None)
        if text is None:
            continue
        try:
            read[name] = READERS.get(key, str)(text)
        except ValueError as fault:
            faults.append(f"{key}={text!r} {fault}")
    faults += value_faults(read)
    faults += [
        f"{key} is not set: {meaning}" for key, meaning in wanted(read).items() if not read.get(key.lower())
    ]
    if faults:
        raise SettingsError(faults)
    return read


# --------------------------------------------------------------------------------------------------------
# Values
# --------------------------------------------------------------------------------------------------------


def number(least: int, most: int, why: str) -> Any:
    def read(text: str) -> int:
        if not re.fullmatch("[0-9]+", text) or not least <= int(text) <= most:
            raise ValueError(f"is not a number from {least:,} to {most:,}{why}")
        return int(text)

    return read


def truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("is unknown: write true or false")
    return text.lower() == "true"


def shards(text: str) -> int | None:
    if text.lower() == "on-demand":
        return None
    if not re.fullmatch("[0-9]+", text) or not 1 <= int(text) <= SHARDS:
        raise ValueError(f"is unknown: write a number from 1 to {SHARDS}, or on-demand")
    return int(text)


def subnets(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch("subnet-[0-9a-f]+", one) for one in found) or len(set(found)) != len(found):
        raise ValueError("is no list of subnets: write subnet-0a1b...,subnet-0c2d..., each once")
    return found


def patterns(text: str) -> str:
    try:
        table_patterns(text)
    except TaskDocumentError as error:
        raise ValueError("is wrong: " + "; ".join(error.faults)) from error
    return text


def masks(text: str) -> str:
    try:
        read_masks(text)
    except ValueError as fault:
        raise ValueError(f"is wrong: {fault}") from fault
    if len(text.encode()) > MOST_BYTES:
        raise ValueError(
            f"is longer than {MOST_BYTES:,} bytes, and Lambda takes 4 KB of variables in all: name fewer"
            " columns, and take tables that nobody reads out of TABLES"
        )
    return text


MAY_BE_EMPTY = {"HEARTBEAT_SCHEMA"}
READERS: Mapping[str, Any] = {
    "PGPORT": number(1, 65535, ""),
    "CREATE_RDS": truth,
    "CAPTURE_DDLS": truth,
    "MASKED_COLUMNS": masks,
    "TABLES": patterns,
    "SUBNET_IDS": subnets,
    "STREAM_SHARDS": shards,
    # "when you set BatchSize to a value greater than 10, you must set [the window] to at least 1"
    "BATCH_WINDOW_SECONDS": number(1, WINDOW_SECONDS, ": seconds that Lambda collects records for"),
    "LOB_MAX_SIZE_KB": number(
        1, LOB_KB, ": a Kinesis record takes 1 MiB, with escapes and the other columns"
    ),
}
# What a value has to look like, and what to write when it does not.
SHAPES = {
    "S3_BUCKET": (
        r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        "is no bucket name: write the name alone, without s3:// and /",
    ),
    "S3_PREFIX": (
        r"(?=.{0,400}\Z)([A-Za-z0-9_=-][A-Za-z0-9_.=-]*/)*",
        "is no prefix: write folders with their slashes, raw/orders/",
    ),
    "ON_POISON": (r"quarantine|stop", "is unknown: write quarantine or stop"),
    "BEFORE_IMAGE_FIELD": (r"(?!(data|metadata|control)\Z).+", "is taken: write the task's FieldName"),
    "MASK_SECRET_ARN": (
        r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+-[A-Za-z0-9]{6}",
        "is no ARN of a secret: copy it whole, "
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mask-AbCdEf",
    ),
    "LOG_LEVEL": (r"INFO|WARNING|ERROR", "is unknown: write INFO, WARNING or ERROR"),
    "PIPELINE_NAME": (
        rf"(?!(sg|sthree|amzn)\b)(?!.*--)(?=.{{1,{NAME_LENGTH}}}\Z)[a-z]([a-z0-9-]*[a-z0-9])?",
        f"is no name: write at most {NAME_LENGTH} of a-z, 0-9 and single -, from a letter on, but no sg-",
    ),
    "PGHOST": (r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?", "is no host: write its name alone, no port"),
    "PGSSLMODE": (
        r"require|disable",
        "is unknown: write require; disable only where the server has no TLS",
    ),
    "VPC_ENDPOINTS": (r"auto|create|none", "is unknown: write auto, create or none"),
    "DMS_INSTANCE_CLASS": (r"dms\.[a-z0-9]+\.[a-z0-9]+", "is no class of DMS: write dms.t3.medium"),
    "RDS_INSTANCE_CLASS": (r"db\.[a-z0-9]+\.[a-z0-9]+", "is no class of RDS: write db.t4g.medium"),
    "ALARM_EMAIL": (r"[^@\s]+@[^@\s]+\.[^@\s]+", "is no address: write one, ops@example.org"),
}


def value_faults(read: Mapping[str, Any]) -> Iterator[str]:
    for key, (shape, advice) in SHAPES.items():
        value = read.get(key.lower())
        if value and not re.fullmatch(shape, value):
            yield f"{key}={value!r} {advice}"
    yield from mask_secret_faults(read)
    if read.get("create_rds"):
        yield from rds_faults(read)


def mask_secret_faults(read: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the key of the hashes; the key itself is never shown."""
    secret, arn = read.get("mask_secret", ""), read.get("mask_secret_arn", "")
    if secret and len(secret) < SHORTEST_SECRET:
        yield f"MASK_SECRET is shorter than {SHORTEST_SECRET} characters: it could be guessed"
    if secret and arn:
        yield "MASK_SECRET and MASK_SECRET_ARN are both set: set one"
    if needs_secret(read_masks(read.get("masked_columns", ""))) and not secret and not arn:
        yield "MASKED_COLUMNS has sha256, which takes a key: set MASK_SECRET or MASK_SECRET_ARN"


def rds_faults(read: Mapping[str, Any]) -> Iterator[str]:
    """What RDS does not take of the database that it makes; a password is never shown."""
    database, user = read.get("pgdatabase", ""), read.get("pguser", "")
    if database and not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,62}", database):
        yield f"PGDATABASE={database!r} is no name that RDS takes: write letters, digits and _"
    if user and (not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,62}", user) or user.lower() in RDS_USERS):
        yield f"PGUSER={user!r} is no name that RDS takes for its master user: write another one, dms"
    password = read.get("pgpassword", "")
    if password and not re.fullmatch(r"[\x21-\x7e]{8,128}", re.sub('[/"@]', "\n", password)):
        yield 'PGPASSWORD: RDS takes 8 to 128 printable characters other than / " @ and blanks'


def wanted(read: Mapping[str, Any]) -> dict[str, str]:
    """What has to be set, and what it means."""
    needed = {
        "S3_BUCKET": "the bucket that takes the rows, a name that nobody in the world has yet",
        "PIPELINE_NAME": "what all of the chain is named after, lending",
        "PGDATABASE": "the database to read",
        "PGUSER": "the user that DMS connects as",
        "PGPASSWORD": "its password",
    }
    if not read.get("create_rds"):
        needed["PGHOST"] = "the host of the RDS instance; or CREATE_RDS=true, to make one"
    if read.get("create_rds"):
        needed["SUBNET_IDS"] = "two subnets or more, in two availability zones, for the database and DMS"
    return needed


# --------------------------------------------------------------------------------------------------------
# .env
# --------------------------------------------------------------------------------------------------------


def read_settings(dotenv_file: Path, environment: MutableMapping[str, str] = os.environ) -> Settings:
    """Settings of the environment and, below it, of .env, whose AWS_* go to the environment, for boto3."""
    return Settings.from_mapping(*merged_values(dotenv_file, environment))


def merged_values(
    dotenv_file: Path, environment: MutableMapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The environment's values and, below them, those of .env; and what is wrong with its lines."""
    faults = []
    merged, known = dict(environment), Settings.keys()
    for key, value in dotenv(dotenv_file).items():
        if key not in known and not key.startswith("AWS_"):
            near = get_close_matches(key, known, 1)
            advice = f"did you mean {near[0]}?" if near else "remove it"
            faults.append(f"{key} in {dotenv_file} is unknown: {advice}")
        elif value is None:
            faults.append(f"{key} in {dotenv_file} has no value: write {key}=... or remove it")
        else:
            merged.setdefault(key, value)
            if key.startswith("AWS_"):
                environment.setdefault(key, value)
    return merged, faults


def dotenv(file: Path) -> dict[str, str | None]:
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{file} can't be read: {type(error).__name__}"]) from error
    unreadable = [binding.original.line for binding in parse_stream(StringIO(text)) if binding.error]
    if unreadable:
        raise SettingsError([f"line {unreadable[0]} of {file} can't be read: write KEY=value"])
    return dotenv_values(stream=StringIO(text))
