"""What the source database would do to the rows in S3: findings of ok, warning or blocker, each with its fix.

    found = check_database({"host": "shop.abc.eu-west-1.rds.amazonaws.com", "dbname": "shop"}, ["public.%"])
    print(render_text(found))

    Finding(check="primary-key", level="blocker", subject="public.log", found="no primary key; ...",
            meaning="DMS ignores its updates and deletes", fix='ALTER TABLE "public"."log" ADD ...;')

Reads only: every statement is a read-only transaction of its own with a time limit, so that the check neither
waits on the application nor holds a lock or a snapshot. Values are looked at, never shown: how long they are,
and whether there is a NaN, an infinity, a number too long. Query texts of other sessions are not read. Small
tables are read whole, of large ones a sample, and a finding says which. What could not be seen is a warning.

A blocker: the task would not start, or rows, columns or changes would be missing or cut in S3. A warning:
values arrive changed in form, it can go wrong later, or nobody could look. Names of checks follow DMS's
premigration assessment where it has the check (its postgres-check-dbversion is dbversion here).
Source: https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Source.PostgreSQL.html,
https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Tasks.AssessmentReport.PG.html
"""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

import psycopg2  # type: ignore[import-untyped]
from psycopg2 import sql

from provision.engine import ProvisionError

# Oldest DMS engine that reads each major version of PostgreSQL. Source: CHAP_Source.PostgreSQL.html, 2026-11.
OLDEST_ENGINE = {13: "3.4.3", 14: "3.4.7", 15: "3.5.1", 16: "3.5.3", 17: "3.6.1"}
SENDER_TIMEOUT_MS = (10_000, 300_000)  # 1 to 9,999 fails; a dead connection should not hold its slot for long
SLOT_WAIT_SECONDS = 60  # ExecuteTimeout of the endpoint: as long as DMS waits for its slot
PASSING_SECONDS = 5  # a younger transaction will be over before anything is applied
ROWS_PER_SHARD_SECOND = 1000  # Kinesis takes as many records a second and shard
RECORD_BYTES = 1 << 20  # of a Kinesis record, the largest that DMS writes
ENVELOPE_BYTES = 2048  # metadata around the row, generously
LOB_CEILING_KB = 700  # a longer value leaves too little of the record for the rest and for JSON's escapes
UNBOUNDED_VARCHAR_BYTES = 8000
EXACT_INTEGER = 2**53  # DMS writes numbers as doubles
EXACT_DIGITS = 15  # significant decimal digits that a double always keeps
LARGE_INTEGER_DIGITS = 18  # UseLargeIntegerValue keeps that many
WHOLE_TABLE_BYTES = 64 << 20  # a smaller table is read whole
SAMPLE_BYTES = 16 << 20
CONNECT_SECONDS, CATALOG_SECONDS, PROBE_SECONDS, LOCK_SECONDS = 10, 15, 5, 2
ALL_PROBES_SECONDS = 60

STATIC_SETTINGS = {"wal_level", "max_replication_slots", "max_wal_senders", "max_worker_processes"}
SETTINGS = (
    *sorted(STATIC_SETTINGS),
    "autovacuum_max_workers",
    "idle_in_transaction_session_timeout",
    "logical_decoding_work_mem",
    "max_logical_replication_workers",
    "max_parallel_workers",
    "max_slot_wal_keep_size",
    "server_encoding",
    "ssl",
    "statement_timeout",
    "wal_sender_timeout",
)
# DMS's LOB types. Source: data types in CHAP_Source.PostgreSQL.html; arrays and composites are NCLOB too.
NCLOB = {"text", "citext", "json", "jsonb", "hstore"}
LOBS = NCLOB | {"bytea", "xml", "tsvector", "tsquery", "path", "polygon"}
POSTGIS = {"geometry", "geography", "raster", "box2d", "box3d"}

# --------------------------------------------------------------------------------------------------------
# Errors, value types
# --------------------------------------------------------------------------------------------------------


class DatabaseError(ProvisionError):
    """The source database could not be reached or read: where, as whom, what was found, what to do."""


class Level(StrEnum):
    BLOCKER = "blocker"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True)
class Finding:
    check: str
    level: Level
    subject: str  # server, role, table, table.column
    found: str
    meaning: str = ""  # for the rows in S3
    fix: str = ""  # SQL or a command; empty where there is nothing to do


@dataclass(frozen=True)
class Wanted:
    """What the chain will ask of the database."""

    tables: tuple[str, ...]  # "public.%", "sales.order"
    dms_engine_version: str | None = None
    lob_max_size_kb: int = 32
    reserved_columns: frozenset[str] = frozenset()
    dms_user: str = ""  # empty: DMS connects as whoever checks
    heartbeat_schema: str = ""  # empty: no heartbeat
    has_large_integers: bool = True  # UseLargeIntegerValue
    requires_tls: bool = True  # SslMode of the endpoint


@dataclass(frozen=True)
class Role:
    name: str
    exists: bool = True
    is_superuser: bool = False
    can_replicate: bool = False
    is_rds_replication: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)  # of ALTER ROLE ... SET


@dataclass(frozen=True)
class Transaction:
    pid: int
    user: str
    database: str
    state: str
    seconds: float | None  # None: hidden from whoever checks


@dataclass(frozen=True)
class Prepared:
    gid: str
    owner: str
    database: str
    seconds: float


@dataclass(frozen=True)
class Slot:
    name: str
    is_active: bool
    retained_bytes: int | None
    wal_status: str


@dataclass(frozen=True)
class Relation:
    oid: int
    schema: str
    name: str
    kind: str  # pg_class.relkind

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}"


@dataclass(frozen=True)
class Column:
    name: str
    type: str  # as declared: "numeric(12,2)", "shop.price"
    base: str  # pg_type.typname below all domains
    kind: str = "b"  # pg_type.typtype of base: b, c (composite), e (enum), r (range), m (multirange)
    is_array: bool = False
    modifier: int = -1  # pg_attribute.atttypmod
    average_bytes: int | None = None  # pg_stats: as stored, compressed

    @property
    def is_lob(self) -> bool:
        return self.is_array or self.kind == "c" or self.base in LOBS

    @property
    def lob_factor(self) -> int:
        """Bytes that DMS counts for each byte: two a character of an NCLOB."""
        return 2 if self.is_array or self.kind == "c" or self.base in NCLOB else 1

    @property
    def precision_and_scale(self) -> tuple[int, int] | None:
        if self.base != "numeric" or self.modifier < 4:
            return None
        packed = self.modifier - 4
        return packed >> 16 & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024

    @property
    def length(self) -> int | None:
        return self.modifier - 4 if self.modifier >= 4 else None


@dataclass(frozen=True)
class Probe:
    """What was seen of a table's values."""

    percent: float = 0.0  # of its pages that were read
    why_not: str = ""
    rows: int = 0  # that were read
    octets: Mapping[str, int] = field(default_factory=dict)  # longest value of a column
    marks: frozenset[tuple[str, str]] = frozenset()  # (column, "nan" | "infinite" | "unfit" | ...)
    row_bytes: int = 0  # of the longest

    @property
    def is_whole(self) -> bool:
        return self.percent >= 100

    @property
    def scope(self) -> str:
        if self.is_whole:
            return "all rows"
        return f"a sample of {self.percent:.2g}% of the pages" if self.percent else ""


@dataclass(frozen=True)
class Table:
    relation: Relation
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()
    key_name: str = ""
    is_key_deferrable: bool = False
    unique_columns: tuple[str, ...] = ()  # that could become the primary key
    identity: str = "d"  # pg_class.relreplident
    identity_columns: tuple[str, ...] = ()
    is_unlogged: bool = False
    parents: tuple[int, ...] = ()  # partitioned or inherited from
    estimated_rows: int | None = None  # None: never analyzed
    total_bytes: int = 0
    rewrites: int = 0  # updates and deletes since the statistics began
    can_select: bool = True  # the DMS user
    can_use_schema: bool = True
    sees_all_rows: bool = True  # no row security in its way
    probe: Probe = Probe()

    @property
    def rows_where(self) -> str:
        return f"SELECT {listed(self.key) or 'ctid'} FROM {self.relation.sql} WHERE"

    def alter(self, column: Column) -> str:
        return f"ALTER TABLE {self.relation.sql} ALTER COLUMN {identifier(column.name)} TYPE"


@dataclass(frozen=True)
class DatabaseFacts:
    """What was read. unseen: which part could not be, and why."""

    user: str
    database: str
    version_num: int
    version: str
    settings: Mapping[str, str]
    role: Role
    is_replica: bool = False
    is_rds: bool = False
    instance: str = ""  # RDS's name for it, from the host's
    force_ssl: str = ""  # rds.force_ssl; empty where there is none
    logical_replication: str = ""  # rds.logical_replication
    is_tls: bool = False
    slots: tuple[Slot, ...] = ()
    senders: int = 0
    transactions: tuple[Transaction, ...] = ()
    prepared: tuple[Prepared, ...] = ()
    wal_bytes_per_second: float | None = None
    relations: tuple[Relation, ...] = ()  # all of the database but those of the system
    tables: tuple[Table, ...] = ()  # that the patterns match
    artifacts: tuple[str, ...] = ()  # what DMS leaves: awsdms_ddl_audit, awsdms_intercept_ddl
    schemas: Mapping[str, bool] = field(default_factory=dict)  # name: whether the DMS user may create in it
    unseen: Mapping[str, str] = field(default_factory=dict)

    def number(self, setting: str) -> int:
        return int(self.settings.get(setting) or 0)


# --------------------------------------------------------------------------------------------------------
# Entry points: check_database, findings, render_text, grants_sql
# --------------------------------------------------------------------------------------------------------


def check_database(
    connect_parameters: Mapping[str, Any],
    table_patterns: Sequence[str] | str,
    dms_engine_version: str | None = None,
    *,
    lob_max_size_kb: int = 32,
    reserved_columns: Collection[str] = (),
    dms_user: str = "",
    heartbeat_schema: str = "",
    has_large_integers: bool = True,
    requires_tls: bool = True,
) -> list[Finding]:
    """Findings on the database, blockers first.

    connect_parameters: libpq's, as psycopg2.connect takes them. table_patterns: ["public.%", "sales.order"],
    or the setting TABLES as it is. dms_user: whose rights count; empty means the one who connects.
    Raises DatabaseError when it can't be reached or shows nothing of itself.
    """
    patterns = table_patterns.split(",") if isinstance(table_patterns, str) else table_patterns
    wanted = Wanted(
        tuple(pattern.strip() for pattern in patterns if pattern.strip()),
        dms_engine_version,
        lob_max_size_kb,
        frozenset(reserved_columns),
        dms_user,
        heartbeat_schema,
        has_large_integers,
        requires_tls,
    )
    return findings(read_facts(connect_parameters, wanted), wanted)


def findings(facts: DatabaseFacts, wanted: Wanted) -> list[Finding]:
    """Pure. Blockers first, then warnings, then what is well; within them in the order of the checks."""
    found = [finding for check in CHECKS for finding in check(facts, wanted)]
    order = list(Level)
    return sorted(found, key=lambda finding: order.index(finding.level))


def is_blocked(found: Iterable[Finding]) -> bool:
    return any(finding.level is Level.BLOCKER for finding in found)


def to_dicts(found: Iterable[Finding]) -> list[dict[str, str]]:
    return [asdict(finding) | {"level": finding.level.value} for finding in found]


def render_text(found: Sequence[Finding], width: int = 100, limit: int = 8) -> str:
    """For people: by level and check; what it means once, then at most limit subjects with their fixes."""
    lines = [", ".join(count(sum(f.level is level for f in found), NOUNS[level]) for level in Level)]
    for level in Level:
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in found:
            if finding.level is level:
                groups.setdefault((finding.check, finding.meaning), []).append(finding)
        if groups:
            lines += ["", level.value.upper()]
        for (check, meaning), members in groups.items():
            render = render_well if level is Level.OK else render_group
            lines += render(check, meaning, members, width, limit)
    return "\n".join(lines) + "\n"


def render_well(check: str, meaning: str, members: Sequence[Finding], width: int, limit: int) -> list[str]:
    lines = []
    for finding in members:
        subject = "" if finding.subject in ("server", "database") else f" {finding.subject}:"
        lines += textwrap.wrap(f"{check}:{subject} {finding.found}", width, subsequent_indent="  ")
    return lines


def render_group(check: str, meaning: str, members: Sequence[Finding], width: int, limit: int) -> list[str]:
    lines = textwrap.wrap(f"{check}: {meaning}" if meaning else check, width, subsequent_indent="  ")
    fixes = {finding.fix for finding in members}
    for finding in members[:limit]:
        line = f"{finding.subject}: {finding.found}"
        lines += textwrap.wrap(line, width, initial_indent="  - ", subsequent_indent="    ")
        if finding.fix and len(fixes) > 1:
            lines += [f"      {line}" for line in finding.fix.splitlines()]  # not wrapped: it is to be copied
    if len(members) > limit:
        lines.append(f"  - and {len(members) - limit} more: --json lists them all")
    if len(fixes) == 1 and members[0].fix:
        lines += [f"      {line}" for line in members[0].fix.splitlines()]
    return lines


def grants_sql(
    user: str,
    schemas: Iterable[str],
    tables: Iterable[tuple[str, str]],
    *,
    database: str = "",
    heartbeat_schema: str = "",
    is_rds: bool = True,
) -> list[str]:
    """Statements that make a DMS user with the least it needs; the password is left to whoever runs them."""
    role = identifier(user)
    options = "LOGIN" if is_rds else "LOGIN REPLICATION"
    statements = [f"CREATE ROLE {role} WITH {options} PASSWORD '<password>';"]
    if is_rds:
        statements.append(f"GRANT rds_replication TO {role};")
    if database:
        statements.append(f"GRANT CONNECT ON DATABASE {identifier(database)} TO {role};")
    statements += [f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {role};" for schema in schemas]
    statements += [
        f"GRANT SELECT ON {identifier(schema)}.{identifier(name)} TO {role};" for schema, name in tables
    ]
    if heartbeat_schema:
        home = identifier(heartbeat_schema)
        statements.append(f"CREATE SCHEMA IF NOT EXISTS {home};")
        statements.append(f"GRANT USAGE, CREATE ON SCHEMA {home} TO {role};")
    return statements


def identifier(name: str) -> str:
    """Quoted for SQL, without asking a connection as psycopg2.sql does: findings are pure."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if "\\" not in text else "E'" + escaped.replace("\\", "\\\\") + "'"


NOUNS = {Level.BLOCKER: "blocker", Level.WARNING: "warning", Level.OK: "check ok|checks ok"}


def count(number: int, noun: str) -> str:
    """1 row, 2 rows; "check ok|checks ok" where an s is not enough."""
    one, _, many = noun.partition("|")
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TB"


def duration(seconds: float) -> str:
    for limit, unit in ((60, "s"), (60, "min"), (48, "h")):
        if seconds < limit:
            return f"{seconds:.0f} {unit}"
        seconds /= limit if unit != "h" else 24
    return f"{seconds:.0f} days"


# --------------------------------------------------------------------------------------------------------
# The checks, pure. Each yields its findings; "ok" says what was seen
# --------------------------------------------------------------------------------------------------------


def check_unseen(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    for part, why in facts.unseen.items():
        yield Finding(
            part,
            Level.WARNING,
            "server",
            f"not looked at: {why}",
            "could not be checked: nobody knows whether it is well",
            f"GRANT pg_monitor TO {identifier(facts.user)};  -- or check as another user",
        )


def check_version(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    major, engine = facts.version_num // 10_000, wanted.dms_engine_version
    oldest = OLDEST_ENGINE.get(major)
    found = f"PostgreSQL {facts.version}" + (f", DMS {engine}" if engine else "")
    if oldest is None:
        meaning = (
            "DMS does not document this major version of PostgreSQL: its first load and changes are a trial"
        )
        fix = f"documented: {', '.join(map(str, OLDEST_ENGINE))}; try with one table first"
        yield Finding("dbversion", Level.WARNING, "server", found, meaning, fix)
    elif engine and version_key(engine) < version_key(oldest):
        meaning = (
            "this engine of DMS does not read this version of PostgreSQL: the task fails, no row arrives"
        )
        fix = f"a replication instance with engine {oldest} or newer"
        yield Finding("dbversion", Level.BLOCKER, "server", found, meaning, fix)
    else:
        yield Finding("dbversion", Level.OK, "server", found + ("" if engine else f": DMS {oldest} or newer"))


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def check_primary(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if facts.is_replica:
        meaning = "DMS makes no replication slot on a replica: no change after the first load arrives"
        fix = "PGHOST: the primary; SELECT sender_host FROM pg_stat_wal_receiver names it"
        yield Finding("replica", Level.BLOCKER, "server", "in recovery, a read replica", meaning, fix)
    else:
        yield Finding("replica", Level.OK, "server", "a primary")


def check_wal_level(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    level = facts.settings.get("wal_level", "")
    if level == "logical":
        yield Finding("wal-level", Level.OK, "server", "wal_level=logical")
        return
    meaning = "changes can't be decoded: the task fails, no change arrives"
    if facts.logical_replication in ("on", "1"):
        found = f"wal_level={level} though rds.logical_replication is on: it waits for a reboot"
        yield Finding("wal-level", Level.BLOCKER, "server", found, meaning, reboot(facts))
    else:
        fix = setting_fix(facts, "wal_level", "logical")
        yield Finding("wal-level", Level.BLOCKER, "server", f"wal_level={level}", meaning, fix)


def reboot(facts: DatabaseFacts) -> str:
    return f"aws rds reboot-db-instance --db-instance-identifier {facts.instance or '<instance>'}"


def setting_fix(facts: DatabaseFacts, name: str, value: str) -> str:
    """How a setting of the server is changed, on RDS or elsewhere."""
    is_static = name in STATIC_SETTINGS
    if not facts.is_rds:
        effect = "-- then restart the server" if is_static else "SELECT pg_reload_conf();"
        return f"ALTER SYSTEM SET {name} = {literal(value)};\n{effect}"
    if name == "wal_level":
        name, value = "rds.logical_replication", "1"
    method = "pending-reboot" if is_static else "immediate"
    change = f"ParameterName={name},ParameterValue={value},ApplyMethod={method}"
    command = f"aws rds modify-db-parameter-group --db-parameter-group-name <group> --parameters {change}"
    return f"{command}\n{reboot(facts)}" if is_static else command


def check_slots(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if "replication-slots" in facts.unseen:
        return
    limit = facts.number("max_replication_slots")
    yield room(facts, "replication-slots", "max_replication_slots", limit, len(facts.slots))
    for slot in facts.slots:
        if not slot.is_active:
            yield leftover(slot)


def leftover(slot: Slot) -> Finding:
    kept = "an unknown amount" if slot.retained_bytes is None else size(slot.retained_bytes)
    found = f"nobody reads it; it keeps {kept} of WAL (wal_status {slot.wal_status or 'unknown'})"
    meaning = (
        "an unread slot keeps WAL until the disk is full and the database stops; if it belongs to a stopped "
        "task, dropping it loses the changes since then: resume the task instead"
    )
    fix = f"SELECT pg_drop_replication_slot({literal(slot.name)});"
    return Finding("inactive-slot", Level.WARNING, f"slot {slot.name}", found, meaning, fix)


def check_senders(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if "maxwalsenders" not in facts.unseen:
        yield room(facts, "maxwalsenders", "max_wal_senders", facts.number("max_wal_senders"), facts.senders)


def room(facts: DatabaseFacts, check: str, setting: str, limit: int, used: int) -> Finding:
    found = f"{used} of {limit} used ({setting})"
    if limit - used >= 2:
        return Finding(check, Level.OK, "server", found)
    fix = setting_fix(facts, setting, str(max(10, limit + 4)))
    if limit - used == 1:
        meaning = "the last one: a task that is made anew while the old one ends finds none"
        return Finding(check, Level.WARNING, "server", found, meaning, fix)
    return Finding(check, Level.BLOCKER, "server", found, "none is free: the task can't read changes", fix)


def check_sender_timeout(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    value, (least, most) = facts.number("wal_sender_timeout"), SENDER_TIMEOUT_MS
    found = f"wal_sender_timeout={value} ms"
    fix = setting_fix(facts, "wal_sender_timeout", "60000")
    if 0 < value < least:
        meaning = f"below {least} ms the server cuts DMS off and the task fails"
        yield Finding("wal-sender-timeout", Level.BLOCKER, "server", found, meaning, fix)
    elif value >= most:
        meaning = "a dead connection of DMS keeps its slot that long: a resumed task finds it in use"
        yield Finding("wal-sender-timeout", Level.WARNING, "server", found, meaning, fix)
    else:
        yield Finding("wal-sender-timeout", Level.OK, "server", found)


def check_slot_wal(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    limit = facts.number("max_slot_wal_keep_size")  # MB
    rate = facts.wal_bytes_per_second
    pace = f"; the server writes {size(rate)} of WAL a second on average" if rate else ""
    if limit < 0:
        found = f"max_slot_wal_keep_size=-1, no limit{pace}"
        yield Finding("max-slot-wal-keep-size", Level.OK, "server", found)
        return
    lasts = f", so that it lasts {duration((limit << 20) / rate)}" if rate else ""
    meaning = "a task that rests or lags by more loses its slot and the changes since: all tables load anew"
    found = f"max_slot_wal_keep_size={limit} MB{pace}{lasts}"
    fix = setting_fix(facts, "max_slot_wal_keep_size", "-1")
    yield Finding("max-slot-wal-keep-size", Level.WARNING, "server", found, meaning, fix)


def check_workers(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    parts = ("max_logical_replication_workers", "autovacuum_max_workers", "max_parallel_workers")
    limit, asked = facts.number("max_worker_processes"), sum(map(facts.number, parts))
    found = f"max_worker_processes={limit}, {' + '.join(parts)} = {asked}"
    if limit >= asked:
        yield Finding("worker-processes", Level.OK, "server", found)
        return
    meaning = "DMS documents that it wants at least the sum (PostgreSQL's own defaults do not have it)"
    fix = setting_fix(facts, "max_worker_processes", str(asked))
    yield Finding("worker-processes", Level.WARNING, "server", found, meaning, fix)


def check_timeouts(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    for name, meaning in (
        (
            "statement_timeout",
            "the load's SELECT of a large table is cancelled: the table is suspended, rows miss",
        ),
        (
            "idle_in_transaction_session_timeout",
            "the load's transaction can be ended while it rests: rows miss",
        ),
    ):
        value = facts.role.settings.get(name) or facts.settings.get(name, "0")
        check = name.replace("_", "-")
        if re.match(r"0\D*\Z", value):
            yield Finding(check, Level.OK, "server", f"{name}=0")
        else:
            fix = f"ALTER ROLE {identifier(facts.role.name)} SET {name} = 0;"
            yield Finding(
                check, Level.WARNING, "server", f"{name}={value} for {facts.role.name}", meaning, fix
            )


def check_decoding_memory(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    kb = facts.number("logical_decoding_work_mem")
    found = f"logical_decoding_work_mem={kb} kB; transactions with more changes than that are decoded on disk"
    yield Finding("logical-decoding-work-mem", Level.OK, "server", found)


def check_encoding(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    encoding = facts.settings.get("server_encoding", "")
    if encoding == "UTF8":
        yield Finding("encoding", Level.OK, "database", "UTF8")
        return
    meaning = (
        "texts are converted on the way; bytes that are not text in this encoding fail or arrive changed"
    )
    fix = "-- a database made anew with ENCODING 'UTF8'; for SQL_ASCII look for bytes above 127 first"
    yield Finding("encoding", Level.WARNING, "database", encoding, meaning, fix)


def check_tls(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    forced = f", rds.force_ssl={facts.force_ssl}" if facts.force_ssl else ""
    if "tls" in facts.unseen:
        return
    if facts.is_tls:
        yield Finding("tls", Level.OK, "server", f"this connection is encrypted{forced}")
    elif facts.settings.get("ssl") == "on":
        meaning = (
            "DMS asks for TLS and will get it; this check's own connection sends its password as it is set"
        )
        yield Finding("tls", Level.WARNING, "server", f"not encrypted{forced}", meaning, "PGSSLMODE=require")
    else:
        meaning = (
            "DMS asks for TLS (SslMode=require) and the server has none: it can't connect, no row arrives"
        )
        level = Level.BLOCKER if wanted.requires_tls else Level.OK
        fix = setting_fix(facts, "ssl", "on") if wanted.requires_tls else ""
        yield Finding("tls", level, "server", "ssl=off", meaning if fix else "", fix)


def check_transactions(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if "long-running-transactions" in facts.unseen:
        return
    meaning = "DMS's slot can't begin before it ends: the start of the task fails or waits"
    open_ones = [t for t in facts.transactions if t.seconds is None or t.seconds >= PASSING_SECONDS]
    for one in open_ones:
        age = "of unknown age" if one.seconds is None else f"open for {duration(one.seconds)}"
        is_old = one.seconds is not None and one.seconds >= SLOT_WAIT_SECONDS
        found = f"a writing transaction of {one.user} in {one.database}, {one.state or 'state hidden'}, {age}"
        level = Level.BLOCKER if is_old else Level.WARNING
        fix = f"SELECT pg_terminate_backend({one.pid});"
        yield Finding("long-running-transactions", level, f"pid {one.pid}", found, meaning, fix)
    if not open_ones:
        found = f"none older than {PASSING_SECONDS} s that writes"
        yield Finding("long-running-transactions", Level.OK, "server", found)


def check_prepared(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    meaning = "it stays until somebody ends it, over restarts too; DMS's slot can't begin before"
    for one in facts.prepared:
        found = f"prepared by {one.owner} in {one.database}, {duration(one.seconds)} ago"
        gid = literal(one.gid)
        fix = f"ROLLBACK PREPARED {gid};  -- or COMMIT PREPARED {gid}, in database {one.database}"
        subject = f"transaction {one.gid}"
        yield Finding("prepared-transactions", Level.BLOCKER, subject, found, meaning, fix)
    if not facts.prepared and "prepared-transactions" not in facts.unseen:
        yield Finding("prepared-transactions", Level.OK, "server", "none")


def check_artifacts(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if facts.artifacts:
        meaning = (
            "left by a DMS task, or in use by one: the trigger writes each DDL into awsdms_ddl_audit, and "
            "DDL fails for users who may not write there"
        )
        fix = "-- if no task of DMS uses this database\n" + "\n".join(
            drop_artifact(name) for name in facts.artifacts
        )
        yield Finding("ddl-artifacts", Level.WARNING, "database", ", ".join(facts.artifacts), meaning, fix)


def drop_artifact(name: str) -> str:
    kind, _, rest = name.partition(" ")
    if kind == "trigger":
        return f"DROP EVENT TRIGGER {identifier(rest)};"
    schema, _, own = rest.partition(".")
    name = f"{identifier(schema)}.{identifier(own)}"
    return f"DROP FUNCTION {name}();" if kind == "function" else f"DROP TABLE {name};"


def check_role(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    role, subject = facts.role, f"role {facts.role.name}"
    if "privileges" in facts.unseen:
        return
    if not role.exists:
        chosen = [(t.relation.schema, t.relation.name) for t in facts.tables]
        statements = grants_sql(
            role.name,
            sorted({schema for schema, _ in chosen}),
            chosen,
            database=facts.database,
            heartbeat_schema=wanted.heartbeat_schema,
            is_rds=facts.is_rds,
        )
        meaning = "DMS can't connect: no row arrives"
        yield Finding(
            "privileges", Level.BLOCKER, subject, "there is no such role", meaning, "\n".join(statements)
        )
        return
    if role.is_superuser or role.is_rds_replication or (role.can_replicate and not facts.is_rds):
        yield Finding("privileges", Level.OK, subject, "may replicate")
    else:
        meaning = "DMS can't make its replication slot: no change arrives"
        name = identifier(role.name)
        fix = f"GRANT rds_replication TO {name};" if facts.is_rds else f"ALTER ROLE {name} WITH REPLICATION;"
        yield Finding("privileges", Level.BLOCKER, subject, "may not replicate", meaning, fix)
    yield from check_heartbeat(facts, wanted)


def check_heartbeat(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    home, may_create = wanted.heartbeat_schema, facts.schemas.get(wanted.heartbeat_schema)
    if not home or may_create:
        return
    found = f"there is no schema {home}" if may_create is None else f"may not create in schema {home}"
    meaning = (
        "no heartbeat: while the selected tables rest, the slot keeps all WAL of the busy rest of the server"
    )
    statements = [f"CREATE SCHEMA {identifier(home)};"] if may_create is None else []
    statements.append(f"GRANT USAGE, CREATE ON SCHEMA {identifier(home)} TO {identifier(facts.role.name)};")
    subject = f"role {facts.role.name}"
    yield Finding("heartbeat", Level.WARNING, subject, found, meaning, "\n".join(statements))


# Which tables the patterns match --------------------------------------------------------------------------


def check_selection(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    own = [relation for relation in facts.relations if not relation.name.startswith("awsdms_")]
    nothing = "none of its rows arrives"
    if not wanted.tables:
        fix = "TABLES: public.%"
        yield Finding("selection", Level.BLOCKER, "TABLES", "names no table", "no row arrives", fix)
    for pattern in wanted.tables:
        matched = [relation for relation in own if matches(pattern, relation)]
        if any(relation.kind in "rp" for relation in matched):
            continue
        level = Level.WARNING if facts.tables else Level.BLOCKER
        if matched:
            found = f"matches {kind_name(matched[0].kind)} {matched[0]}, no table"
            yield Finding(
                "selection", Level.BLOCKER, pattern, found, f"DMS replicates tables only: {nothing}"
            )
            continue
        near = nearest(pattern, own)
        found = "matches no table" if split_pattern(pattern) else "is not of the form schema.table"
        fix = f"TABLES: {near}" if near else "SELECT schemaname, tablename FROM pg_tables;"
        yield Finding(
            "selection", level, pattern, found + (f"; nearest: {near}" if near else ""), nothing, fix
        )
    if facts.tables:
        yield selection_summary(facts, wanted)


def selection_summary(facts: DatabaseFacts, wanted: Wanted) -> Finding:
    stored = [
        table for table in facts.tables if table.relation.kind == "r"
    ]  # partitions count, not their parent
    rows = sum(table.estimated_rows or 0 for table in stored)
    unknown = sum(table.estimated_rows is None for table in stored)
    total = sum(table.total_bytes for table in facts.tables)
    own = sum(relation.name.startswith("awsdms_") for relation in facts.relations)
    parts = [f"{count(len(facts.tables), 'table')}, about {count(rows, 'row')}, {size(total)}"]
    parts += [f"{unknown} never analyzed and not counted"] * bool(unknown)
    parts += [f"the first load takes {duration(rows / ROWS_PER_SHARD_SECOND)} or more on one shard"]
    parts += [f"{count(own, 'table')} of DMS's own left out (awsdms_)"] * bool(own)
    return Finding("selection", Level.OK, ", ".join(wanted.tables), "; ".join(parts))


def split_pattern(pattern: str) -> tuple[str, str] | None:
    schema, _, name = pattern.partition(".")
    return (schema, name) if schema and name else None


def matches(pattern: str, relation: Relation) -> bool:
    """% is any text, as in LIKE; all else, _ included, is itself. Case counts, as it does in DMS."""
    parts = split_pattern(pattern)
    if parts is None:
        return False
    return all(
        re.fullmatch(".*".join(map(re.escape, part.split("%"))), name, re.DOTALL) is not None
        for part, name in zip(parts, (relation.schema, relation.name), strict=True)
    )


def nearest(pattern: str, relations: Iterable[Relation]) -> str:
    tables = [relation for relation in relations if relation.kind in "rp"]
    names = sorted({str(table) for table in tables} | {f"{table.schema}.%" for table in tables})
    folded = {name.casefold(): name for name in names}
    close = get_close_matches(pattern.casefold(), folded, 1, 0.6)
    return folded[close[0]] if close else ""


def kind_name(kind: str) -> str:
    return {"v": "view", "m": "materialized view", "f": "foreign table"}.get(kind, "relation")


def check_views(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    for relation in facts.relations:
        named = str(relation) in wanted.tables  # check_selection speaks of it
        if relation.kind in "vmf" and not named and any(matches(p, relation) for p in wanted.tables):
            meaning = "DMS replicates tables only: none of its rows arrives; select the tables below it"
            yield Finding("view", Level.WARNING, str(relation), f"a {kind_name(relation.kind)}", meaning)


def check_similar_names(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    meaning = (
        "names that differ only by case: DMS documents no support, and readers that fold case mix them up"
    )
    for names in fold([str(table.relation) for table in facts.tables]):
        fix = f"ALTER TABLE ... RENAME, or TABLES without one of {', '.join(names)}"
        yield Finding(
            "similar-names", Level.WARNING, names[0], f"beside {', '.join(names[1:])}", meaning, fix
        )


def fold(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that differ only by case."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.casefold(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


# Tables -----------------------------------------------------------------------------------------------------


def check_tables(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    for table in facts.tables:
        found = [finding for check in TABLE_CHECKS for finding in check(table, facts, wanted)]
        found += [
            finding for c in table.columns for check in COLUMN_CHECKS for finding in check(table, c, wanted)
        ]
        yield from found
        if not found and "columns" not in facts.unseen:
            key = f"primary key ({', '.join(table.key)})"
            rows = (
                "rows unknown"
                if table.estimated_rows is None
                else f"about {count(table.estimated_rows, 'row')}"
            )
            seen = f"values looked at: {table.probe.scope}" if table.probe.scope else "no values to look at"
            summary = f"{key}, {rows}, {size(table.total_bytes)}, {seen}"
            yield Finding("table", Level.OK, str(table.relation), summary)


def check_key(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    subject, name = str(table.relation), table.relation.sql
    if table.key and not table.is_key_deferrable:
        return
    if table.key:
        found, own = "its primary key is deferrable", identifier(table.key_name)
        fix = f"ALTER TABLE {name} DROP CONSTRAINT {own}, ADD PRIMARY KEY ({listed(table.key)});"
    elif table.unique_columns:
        found = "no primary key"
        fix = f"ALTER TABLE {name} ADD PRIMARY KEY ({listed(table.unique_columns)});"
    else:
        found = "no primary key"
        fix = f"ALTER TABLE {name} ADD COLUMN row_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;"
    meaning = "DMS ignores its updates and deletes; only loads and inserts arrive"
    if table.identity == "f":
        meaning = "DMS documents that it ignores its updates and deletes, though its replica identity is full"
    found += f"; {count(table.rewrites, 'update and delete|updates and deletes')} since its statistics began"
    level = Level.BLOCKER if table.rewrites else Level.WARNING
    yield Finding("primary-key", level, subject, found, meaning, fix)
    if lobs := [column.name for column in table.columns if column.is_lob]:
        meaning = "DMS leaves its LOB columns out, from the load and from changes, without a word"
        level = Level.BLOCKER
        if table.unique_columns:
            meaning = "DMS documents that a unique key will do for LOBs; others saw the columns left out"
            level = Level.WARNING
        found = f"no primary key and {count(len(lobs), 'LOB column')}: {', '.join(lobs)}"
        yield Finding("lob-without-primary-key", level, subject, found, meaning, fix)


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(identifier, names))


def check_identity(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    subject, fix = str(table.relation), f"ALTER TABLE {table.relation.sql} REPLICA IDENTITY DEFAULT;"
    if not table.key:
        return
    if table.identity == "n":
        meaning = "the WAL holds no old key: deletes and changed keys can't be told to a row"
        yield Finding("replica-identity", Level.BLOCKER, subject, "replica identity nothing", meaning, fix)
    elif table.identity == "i" and set(table.identity_columns) != set(table.key):
        meaning = "deletes carry the columns of that index instead of the primary key"
        found = f"replica identity is an index on {', '.join(table.identity_columns) or '(dropped)'}"
        yield Finding("replica-identity", Level.WARNING, subject, found, meaning, fix)


def check_persistence(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if table.is_unlogged:
        meaning = "it writes no WAL: the load arrives, no change does"
        fix = f"ALTER TABLE {table.relation.sql} SET LOGGED;"
        yield Finding("unlogged", Level.BLOCKER, str(table.relation), "an unlogged table", meaning, fix)


def check_partitions(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    children = [other for other in facts.tables if table.relation.oid in other.parents]
    names = ", ".join(str(other.relation) for other in children[:3]) + (", ..." if len(children) > 3 else "")
    subject = str(table.relation)
    if table.relation.kind == "p" and not children:
        meaning = "changes come under the names of the partitions, which are not selected: none arrives"
        parent = literal(table.relation.sql)
        fix = f"SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = {parent}::regclass;"
        found = "partitioned, and no partition is selected"
        yield Finding("partitions", Level.BLOCKER, subject, found, meaning, fix)
    elif table.relation.kind == "p":
        meaning = "a row can arrive twice: in the folder of the partitioned table and in its partition's"
        fix = f"TABLES with the partitions alone; an exclude rule for {subject} in the task's table mappings"
        yield Finding(
            "partitions", Level.WARNING, subject, f"partitioned, selected with {names}", meaning, fix
        )
    elif children:
        meaning = "the load of the parent holds the rows of its children too: they arrive under both names"
        fix = f"SELECT * FROM ONLY {table.relation.sql};  -- the rows that are its own"
        yield Finding("inheritance", Level.WARNING, subject, f"inherited by {names}", meaning, fix)


def check_privileges(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    role, relation = identifier(facts.role.name), table.relation
    if not facts.role.exists or "privileges" in facts.unseen:
        return
    if not table.can_use_schema:
        fix = f"GRANT USAGE ON SCHEMA {identifier(relation.schema)} TO {role};"
        found, meaning = (
            f"{facts.role.name} has no USAGE on the schema",
            "DMS can't see the table: no row arrives",
        )
        yield Finding("privileges", Level.BLOCKER, str(relation), found, meaning, fix)
    if not table.can_select:
        found, meaning = (
            f"{facts.role.name} has no SELECT",
            "DMS can't load the table: its rows do not arrive",
        )
        fix = f"GRANT SELECT ON {relation.sql} TO {role};"
        yield Finding("privileges", Level.BLOCKER, str(relation), found, meaning, fix)
    if not table.sees_all_rows:
        found = f"row security applies to {facts.role.name}"
        meaning = "the load brings only the rows that its policies show, changes come for all"
        fix = f"CREATE POLICY all_rows_for_dms ON {relation.sql} FOR SELECT TO {role} USING (true);"
        yield Finding("row-security", Level.BLOCKER, str(relation), found, meaning, fix)


def check_table_name(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    relation = table.relation
    for kind, name in (("schema", relation.schema), ("table", relation.name)):
        if odd := oddness(name):
            meaning = (
                "selection rules are case-sensitive, readers may fold case, and its folder in S3 spells all "
                "but A-Z a-z 0-9 _ - and inner dots in percent"
            )
            fix = f"ALTER TABLE {relation.sql} RENAME TO ...;  -- only if readers can't quote names"
            yield Finding("odd-names", Level.WARNING, str(relation), f"{kind} name with {odd}", meaning, fix)


def oddness(name: str) -> str:
    if re.search(r"[^A-Za-z0-9_]", name):
        return "characters other than letters, digits and _"
    return "upper case" if name != name.lower() else "a digit in front" if name[:1].isdigit() else ""


def check_column_names(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    names, subject = [column.name for column in table.columns], str(table.relation)
    for name in names:
        if name in wanted.reserved_columns:
            meaning = "the Lambda adds a column of this name: it quarantines every record of the table"
            rename = f"RENAME COLUMN {identifier(name)} TO {identifier(name + '_')}"
            fix = f"ALTER TABLE {table.relation.sql} {rename};"
            yield Finding("reserved-columns", Level.BLOCKER, f"{subject}.{name}", "reserved", meaning, fix)
        if re.search(r"[^A-Za-z0-9_]", name):
            meaning, found = "readers have to quote the column", f"name with {oddness(name)}"
            yield Finding("odd-names", Level.WARNING, f"{subject}.{name}", found, meaning)
    for group in fold(names):
        meaning = "columns that differ only by case: readers that fold case see one of them"
        fix = f"ALTER TABLE {table.relation.sql} RENAME COLUMN {identifier(group[-1])} TO ...;"
        yield Finding("similar-names", Level.WARNING, f"{subject}.{group[0]}", ", ".join(group), meaning, fix)


def check_row_size(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    longest = table.probe.row_bytes + ENVELOPE_BYTES
    if longest < RECORD_BYTES * 0.7:
        return
    found = f"about {size(longest)} as JSON, before its escapes, LOBs cut at LobMaxSize ({table.probe.scope})"
    meaning = (
        f"a Kinesis record takes {size(RECORD_BYTES)}: DMS can't write a larger row and suspends the table"
    )
    columns = " + ".join(f"coalesce(octet_length({identifier(c.name)}::text), 0)" for c in table.columns)
    fix = f"{table.rows_where} {columns} > {int(RECORD_BYTES * 0.7)};"
    level = Level.BLOCKER if longest > RECORD_BYTES else Level.WARNING
    yield Finding("row-size", level, str(table.relation), found, meaning, fix)


def check_probe(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if table.probe.why_not:
        widths = [f"{c.name} {c.average_bytes}" for c in table.columns if c.is_lob and c.average_bytes]
        found = f"values not looked at: {table.probe.why_not}"
        found += f"; average bytes stored, of pg_stats: {', '.join(widths)}" if widths else ""
        meaning = "whether values are too long, infinite or rounded on the way is unknown"
        fix = f"GRANT SELECT ON {table.relation.sql} TO {identifier(facts.user)};"
        fix = fix if "permission" in table.probe.why_not else ""
        yield Finding("values", Level.WARNING, str(table.relation), found, meaning, fix)


# Columns ----------------------------------------------------------------------------------------------------


def check_lob(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    if not column.is_lob:
        return
    subject, name = f"{table.relation}.{column.name}", table.relation.sql
    if column.name in table.key:
        meaning = "DMS does not migrate a table whose primary key is a LOB"
        fix = f"{table.alter(column)} varchar(255);"
        yield Finding(
            "lob-primary-key", Level.BLOCKER, subject, f"{column.type} in the primary key", meaning, fix
        )
    longest, limit = table.probe.octets.get(column.name, 0), wanted.lob_max_size_kb * 1024
    counted = longest * column.lob_factor
    needed_kb = -(-counted * 5 // 4 // 1024)
    rule = ", two bytes a character as DMS counts," if column.lob_factor == 2 else ""
    found = f"{column.type}, longest {size(longest)}{rule} of {table.probe.scope}"
    found += f"; LobMaxSize {wanted.lob_max_size_kb} KB"
    if counted > limit:
        meaning = "longer values are cut at LobMaxSize, or stop the task (FailTasksOnLobTruncation)"
        fix = f"LobMaxSize of the task: {needed_kb} or more"
        if needed_kb > LOB_CEILING_KB:
            most = LOB_CEILING_KB * 1024 // column.lob_factor
            fix = "-- too long for a record of Kinesis: shorten it, or leave the column out\n"
            fix += f"{table.rows_where} octet_length({identifier(column.name)}::text) > {most};"
        yield Finding("lob-size", Level.BLOCKER, subject, found, meaning, fix)
    elif table.probe.scope and not table.probe.is_whole and counted * 2 > limit:
        meaning = "a longer one than in the sample would be cut, or stop the task"
        fix = f"SELECT max(octet_length({identifier(column.name)}::text)) FROM {name};"
        yield Finding("lob-size", Level.WARNING, subject, found, meaning, fix)


def check_varchar(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    longest = table.probe.octets.get(column.name, 0)
    if column.base != "varchar" or column.is_array or column.length is not None:
        return
    if longest > UNBOUNDED_VARCHAR_BYTES:
        found = f"varchar without a length, longest {size(longest)} of {table.probe.scope}"
        meaning = f"DMS cuts it at {UNBOUNDED_VARCHAR_BYTES:,} bytes, without a word"
        fix = "unboundedVarcharMaxSize in the source endpoint's extra connection attributes, or\n"
        fix += f"{table.alter(column)} text;  -- then a LOB"
        yield Finding(
            "varchar-unbounded", Level.BLOCKER, f"{table.relation}.{column.name}", found, meaning, fix
        )
    elif table.probe.scope and not table.probe.is_whole:
        found = f"varchar without a length, longest {size(longest)} of {table.probe.scope}"
        meaning = f"DMS would cut a value longer than {UNBOUNDED_VARCHAR_BYTES:,} bytes, without a word"
        fix = f"SELECT max(octet_length({identifier(column.name)})) FROM {table.relation.sql};"
        yield Finding(
            "varchar-unbounded", Level.WARNING, f"{table.relation}.{column.name}", found, meaning, fix
        )


def check_numeric(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    if column.base != "numeric" or column.is_array:
        return
    subject, marks = f"{table.relation}.{column.name}", marks_of(table, column)
    alter = table.alter(column)
    if column.precision_and_scale is None:
        found = "numeric without a precision"
        found += "; values with more digits than that exist" if "unfit" in marks else unproven(table)
        meaning = "DMS writes it as NUMERIC(28,6): further decimals are rounded away"
        yield Finding(
            "numeric-unbounded", Level.WARNING, subject, found, meaning, f"{alter} numeric(28,6);  -- or so"
        )
    elif column.precision_and_scale[0] > 38:
        meaning = "DMS writes a precision above 38 as text: a string in the row, not a number"
        yield Finding(
            "numeric-precision", Level.WARNING, subject, column.type, meaning, f"{alter} numeric(38,10);"
        )
    elif "unfit" in marks:
        meaning = (
            f"numbers pass through doubles (inferred): beyond {EXACT_DIGITS} significant digits they round"
        )
        found = f"{column.type}; values with more than {EXACT_DIGITS} digits exist"
        yield Finding(
            "numeric-digits", Level.WARNING, subject, found, meaning, f"{alter} text USING ...;  -- exact"
        )


def marks_of(table: Table, column: Column) -> set[str]:
    return {mark for name, mark in table.probe.marks if name == column.name}


def unproven(table: Table) -> str:
    return f"; {table.probe.scope} would fit" if table.probe.scope else ""


def check_bigint(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    subject, marks = f"{table.relation}.{column.name}", marks_of(table, column)
    if column.base != "int8" or column.is_array:
        return
    if "beyond-18-digits" in marks and wanted.has_large_integers:
        meaning = (
            f"UseLargeIntegerValue keeps {LARGE_INTEGER_DIGITS} digits (documented): longer ones may round"
        )
        found = f"values of more than {LARGE_INTEGER_DIGITS} digits exist"
        fix = f"{table.alter(column)} varchar(20);"
        yield Finding("bigint", Level.WARNING, subject, found, meaning, fix)
    elif "unfit" in marks and not wanted.has_large_integers:
        meaning = (
            "DMS writes numbers as doubles: ids beyond 2^53 are rounded, and different rows get the same id"
        )
        fix = "UseLargeIntegerValue on the Kinesis endpoint (DMS 3.5.4 or newer)"
        yield Finding("bigint", Level.BLOCKER, subject, "values beyond 2^53 exist", meaning, fix)


def check_special_values(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    subject, marks, name = f"{table.relation}.{column.name}", marks_of(table, column), identifier(column.name)
    fix = f"SELECT count(*) FROM {table.relation.sql} WHERE "
    if "infinite" in marks:
        meaning = "an infinite date or time arrives as 9999-12-31 23:59:59 or 4713-01-01 BC"
        fix += f"NOT isfinite({name});"
        yield Finding(
            "infinity", Level.WARNING, subject, f"{column.type}, infinite values exist", meaning, fix
        )
    if "nan" in marks:
        meaning = "JSON has no NaN and no infinity: such a value arrives as null (inferred)"
        fix += f"{name}::text IN ('NaN', 'Infinity', '-Infinity');"
        yield Finding("nan", Level.WARNING, subject, f"{column.type}, NaN or infinity exists", meaning, fix)


def check_type(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    """Types whose values always change in form, whatever they are."""
    kind = "array" if column.is_array else "enum" if column.kind == "e" else column.base
    if kind == "bpchar" and (column.length or 2) <= 1:
        return
    if note := TYPE_NOTES.get("geometry" if kind in POSTGIS else kind):
        check, level, meaning, target = note
        name = identifier(column.name)
        instead = target.replace("$name", name).replace("$length", str(column.length))
        fix = f"{table.alter(column)} {instead};" if target else ""
        yield Finding(check, level, f"{table.relation}.{column.name}", column.type, meaning, fix)


LARGE_OBJECT = (
    "large-object",
    Level.WARNING,
    "the number arrives, the large object behind it does not",
    "bytea USING lo_get($name)",
)
# type: check, level, what it means, the type to use instead (or nothing)
TYPE_NOTES = {
    "bpchar": ("char-blanks", Level.WARNING, "its trailing blanks are cut", "varchar($length)"),
    "timestamp": (
        "timestamp-without-zone",
        Level.WARNING,
        "it arrives with a Z though it has no zone: readers take local times for UTC",
        "timestamptz USING $name AT TIME ZONE 'UTC'",
    ),
    "timetz": ("timetz", Level.WARNING, "its offset may be lost", ""),
    "money": ("money", Level.WARNING, "it arrives as a number: the currency is lost", "numeric(19,2)"),
    "interval": ("interval", Level.WARNING, "it arrives as text: 1 day 04:00:00", ""),
    "enum": ("enum", Level.WARNING, "it arrives as the text of its label", ""),
    "hstore": (
        "hstore",
        Level.WARNING,
        "documented as text; others saw that it does not arrive",
        "jsonb USING hstore_to_jsonb($name)",
    ),
    "geometry": (
        "postgis-data-type",
        Level.BLOCKER,
        "DMS migrates PostGIS to PostGIS only: the column does not arrive",
        "text USING ST_AsGeoJSON($name)",
    ),
    "oid": LARGE_OBJECT,
}

TableCheck = Callable[[Table, DatabaseFacts, Wanted], Iterator[Finding]]
ColumnCheck = Callable[[Table, Column, Wanted], Iterator[Finding]]
TABLE_CHECKS: tuple[TableCheck, ...] = (
    check_key,
    check_identity,
    check_persistence,
    check_partitions,
    check_privileges,
    check_table_name,
    check_column_names,
    check_row_size,
    check_probe,
)
COLUMN_CHECKS: tuple[ColumnCheck, ...] = (
    check_lob,
    check_varchar,
    check_numeric,
    check_bigint,
    check_special_values,
    check_type,
)
CHECKS: tuple[Callable[[DatabaseFacts, Wanted], Iterator[Finding]], ...] = (
    check_version,
    check_primary,
    check_wal_level,
    check_slots,
    check_senders,
    check_sender_timeout,
    check_slot_wal,
    check_workers,
    check_timeouts,
    check_decoding_memory,
    check_encoding,
    check_tls,
    check_transactions,
    check_prepared,
    check_artifacts,
    check_role,
    check_selection,
    check_views,
    check_similar_names,
    check_tables,
    check_unseen,
)

# --------------------------------------------------------------------------------------------------------
# Reading the facts
# --------------------------------------------------------------------------------------------------------


def read_facts(connect_parameters: Mapping[str, Any], wanted: Wanted) -> DatabaseFacts:
    """Raises DatabaseError when the database can't be reached, or hides even its version or tables."""
    connection = connect(connect_parameters)
    try:
        reader = Reader(connection, describe(connect_parameters))
        facts = read_server(reader, str(connect_parameters.get("host") or ""), wanted)
        relations = [Relation(*row) for row in reader.rows(RELATIONS)]
        tables = read_tables(reader, relations, facts.role, wanted)
        return replace(facts, relations=tuple(relations), tables=tuple(tables), unseen=reader.unseen)
    finally:
        connection.close()


class Reader:
    """Runs queries, each a read-only transaction of its own, and keeps note of those that were refused."""

    def __init__(self, connection: Any, where: str) -> None:
        self.connection, self.where = connection, where
        self.unseen: dict[str, str] = {}
        self.deadline = time.monotonic() + ALL_PROBES_SECONDS
        connection.set_session(readonly=True, autocommit=True)
        # No name of theirs passes for one of the system's, and no policy hides rows from us without an error.
        self.rows("SET search_path = pg_catalog")
        self.rows("SET row_security = off")
        self.rows(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        self.limit(CATALOG_SECONDS)

    def limit(self, seconds: int) -> None:
        self.rows(f"SET statement_timeout = '{seconds}s'")

    def rows(self, query: Any, parameters: Mapping[str, Any] | None = None, part: str = "") -> list[Any]:
        """The rows; none if refused, which is noted under part. Without a part, raises DatabaseError."""
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(query, parameters)
                return list(cursor.fetchall()) if cursor.description else []
        except psycopg2.Error as error:
            why = refusal(error)
            if part and not self.connection.closed:
                self.unseen[part] = why
                return []
            # from None: the server's own text may quote values.
            raise DatabaseError(f"could not read the catalog of {self.where}: {why}: check again") from None

    def one(self, query: Any, parameters: Mapping[str, Any] | None = None, part: str = "") -> tuple[Any, ...]:
        rows = self.rows(query, parameters, part)
        return tuple(rows[0]) if rows else ()


REFUSALS = {
    "42501": "permission denied",
    "57014": "it took too long",
    "55P03": "another session has it locked",
    "42P01": "it is not there any more",
    "57P01": "the server ended the connection",
}


def refusal(error: psycopg2.Error) -> str:
    """Why, in words of ours: the server's may quote values."""
    if error.pgcode is None:
        return "the connection broke"
    return REFUSALS.get(error.pgcode, f"SQLSTATE {error.pgcode}")


def read_server(reader: Reader, host: str, wanted: Wanted) -> DatabaseFacts:
    user, database, version_num, version, is_replica, is_rds, force_ssl, replication = reader.one(SERVER)
    role = read_role(reader, wanted.dms_user or user)
    schemas = reader.rows(SCHEMA, {"role": role.name, "schema": wanted.heartbeat_schema}, "heartbeat")
    rate = reader.one(WAL_RATE, part="wal-rate") if version_num >= 140_000 else ()
    return DatabaseFacts(
        user,
        database,
        version_num,
        version.partition(" ")[0],
        dict(reader.rows(SETTING_VALUES, {"names": list(SETTINGS)})),
        role,
        is_replica,
        is_rds,
        host.partition(".")[0] if ".rds." in host else "",
        force_ssl or "",
        replication or "",
        is_tls=any(row[0] for row in reader.rows(TLS, part="tls")),
        slots=tuple(
            Slot(*row)
            for row in reader.rows(REPLICA_SLOTS if is_replica else SLOTS, part="replication-slots")
        ),
        senders=sum(row[0] for row in reader.rows(SENDERS, part="maxwalsenders")),
        transactions=tuple(
            Transaction(*row) for row in reader.rows(TRANSACTIONS, part="long-running-transactions")
        ),
        prepared=tuple(Prepared(*row) for row in reader.rows(PREPARED, part="prepared-transactions")),
        wal_bytes_per_second=rate[0] if rate else None,
        artifacts=tuple(row[0] for row in reader.rows(ARTIFACTS, part="ddl-artifacts")),
        schemas=dict(schemas),
    )


def read_role(reader: Reader, name: str) -> Role:
    row = reader.one(ROLE, {"role": name}, "privileges")
    if not row:
        return Role(name, exists=False)
    settings = dict(
        entry.split("=", 1) for (entry,) in reader.rows(ROLE_SETTINGS, {"role": name}, "role-settings")
    )
    is_superuser, can_replicate, is_rds_replication = row
    return Role(name, True, is_superuser, can_replicate, is_rds_replication, settings)


def read_tables(reader: Reader, relations: Iterable[Relation], role: Role, wanted: Wanted) -> Iterator[Table]:
    chosen = {
        relation.oid: relation
        for relation in relations
        if relation.kind in "rp"
        and not relation.name.startswith("awsdms_")
        and any(matches(pattern, relation) for pattern in wanted.tables)
    }
    oids = {"oids": list(chosen)}
    columns: dict[int, list[Column]] = {}
    for oid, *values in reader.rows(COLUMNS, oids, "columns"):
        columns.setdefault(oid, []).append(Column(*values))
    privileges = {
        oid: seen for oid, *seen in reader.rows(PRIVILEGES, oids | {"role": role.name}, "privileges")
    }
    rows = reader.rows(TABLES, oids)
    reader.limit(PROBE_SECONDS)
    for row in rows:
        table = read_table(chosen[row[0]], row, tuple(columns.get(row[0], ())))
        if can := privileges.get(row[0]):
            table = replace(table, can_use_schema=can[0], can_select=can[1], sees_all_rows=can[2])
        yield probed(reader, table, wanted)


def read_table(relation: Relation, row: Sequence[Any], columns: tuple[Column, ...]) -> Table:
    _, identity, is_unlogged, estimated_rows, pages, rewrites, parents, key, *rest = row
    key_name, is_key_deferrable, unique_columns, identity_columns = rest
    return Table(
        relation,
        columns,
        tuple(key),
        key_name,
        is_key_deferrable,
        tuple(unique_columns),
        identity,
        tuple(identity_columns),
        is_unlogged,
        tuple(parents),
        estimated_rows,
        pages * 8192,
        rewrites,
    )


def probed(reader: Reader, table: Table, wanted: Wanted) -> Table:
    """The table with its size and what was seen of its values."""
    if table.relation.kind == "p":
        return table  # its rows are those of its partitions
    if time.monotonic() > reader.deadline:
        return replace(table, probe=Probe(why_not=f"the other tables took {ALL_PROBES_SECONDS} s"))
    part = f"values of {table.relation}"
    if sizes := reader.one(SIZE, {"oid": table.relation.oid}, part):
        total, heap_bytes, stored_bytes = sizes
        table = replace(table, total_bytes=total)
        percent = 100.0 if stored_bytes <= WHOLE_TABLE_BYTES else min(100.0, 100 * SAMPLE_BYTES / heap_bytes)
        table = replace(table, probe=probe(reader, table, percent, wanted))
    if why := reader.unseen.pop(part, ""):
        return replace(table, probe=Probe(why_not=why))
    if table.probe.is_whole or table.estimated_rows is None:
        return replace(table, estimated_rows=round(table.probe.rows * 100 / table.probe.percent))
    return table


def probe(reader: Reader, table: Table, percent: float, wanted: Wanted) -> Probe:
    """What the table's values are like, or those of so many percent of its pages."""
    source = sql.SQL("FROM ONLY {}").format(sql.Identifier(table.relation.schema, table.relation.name))
    if percent < 100:
        source += sql.SQL(" TABLESAMPLE SYSTEM ({})").format(sql.Literal(percent))
    asked = [(("rows", ""), sql.SQL("count(*)")), (("row", ""), row_length(table, wanted))]
    asked += [(key, expression) for column in table.columns for key, expression in questions(column)]
    answers: dict[tuple[str, str], Any] = {}
    for start in range(0, len(asked), SELECT_LIST):
        chunk = asked[start : start + SELECT_LIST]
        query = sql.SQL("SELECT {} {}").format(sql.SQL(", ").join([e for _, e in chunk]), source)
        row = reader.one(query, part=f"values of {table.relation}")
        answers |= zip([key for key, _ in chunk], row, strict=False)
    return Probe(
        percent,
        rows=int(answers.get(("rows", "")) or 0),
        octets={name: octets for (kind, name), octets in answers.items() if kind == "octets" and octets},
        marks=frozenset((name, kind) for (kind, name), answer in answers.items() if name and answer is True),
        row_bytes=int(answers.get(("row", "")) or 0),
    )


def questions(column: Column) -> Iterator[tuple[tuple[str, str], Any]]:
    """What is asked of a column's values: ((mark or "octets", name), aggregate)."""
    name, base = sql.Identifier(column.name), "" if column.is_array else column.base
    if column.is_lob or (base == "varchar" and column.length is None):
        yield ("octets", column.name), sql.SQL("max({})").format(octets(column))
    conditions: dict[str, str] = {}
    special = "{c}::text IN ('NaN', 'Infinity', '-Infinity')"
    if base in ("numeric", "float4", "float8"):
        conditions["nan"] = special
    if base == "numeric" and column.precision_and_scale is None:
        conditions["unfit"] = f"NOT {special} AND (scale({{c}}) > 6 OR abs({{c}}) >= 1e22)"
    elif base == "numeric" and column.precision_and_scale and column.precision_and_scale[0] > EXACT_DIGITS:
        power = EXACT_DIGITS - column.precision_and_scale[1]
        conditions["unfit"] = f"NOT {special} AND abs({{c}}) >= 1e{power}"
    if base == "int8":
        conditions["unfit"] = f"{{c}} NOT BETWEEN -{EXACT_INTEGER} AND {EXACT_INTEGER}"
        most = 10**LARGE_INTEGER_DIGITS - 1
        conditions["beyond-18-digits"] = f"{{c}} NOT BETWEEN -{most} AND {most}"
    if base in ("date", "timestamp", "timestamptz"):
        conditions["infinite"] = "NOT isfinite({c})"
    for mark, condition in conditions.items():
        yield (mark, column.name), sql.SQL(f"bool_or({condition})").format(c=name)


def octets(column: Column) -> Any:
    """Without a cast the length of a bytea costs no read of it."""
    text = "octet_length({})" if column.base == "bytea" else "octet_length({}::text)"
    return sql.SQL(text).format(sql.Identifier(column.name))


def row_length(table: Table, wanted: Wanted) -> Any:
    """The longest row as JSON, about: names and values, LOBs as DMS cuts them, a bytea in hex."""
    terms = [sql.Literal(sum(len(column.name.encode()) + 6 for column in table.columns))]
    for column in table.columns:
        length = octets(column)
        if column.is_lob:
            length = sql.SQL("least({}, {})").format(length, sql.Literal(wanted.lob_max_size_kb * 1024))
        factor = 2 if column.base == "bytea" else 1
        terms.append(sql.SQL("coalesce({}::bigint * {}, 4)").format(length, sql.Literal(factor)))
    return sql.SQL("max({})").format(sql.SQL(" + ").join(terms))


# The connection ---------------------------------------------------------------------------------------------

# What libpq says, what that means, what to do.
CONNECT_FAULTS = (
    (r"no password supplied", "the server asks for a password", "set PGPASSWORD"),
    (r"authentication failed", "the password or the user is wrong", "correct PGUSER and PGPASSWORD"),
    (r'role ".*" does not exist', "there is no such user", "correct PGUSER"),
    (r'database ".*" does not exist', "there is no such database", "correct PGDATABASE"),
    (r"no encryption|SSL off|SSL connection is required", "it takes only TLS", "set PGSSLMODE=require"),
    (r"does not support SSL", "it offers no TLS, though PGSSLMODE asks for it", "turn ssl on at the server"),
    (r"certificate", "its certificate could not be verified", "set PGSSLROOTCERT to the bundle of RDS's CAs"),
    (r"no pg_hba.conf entry", "its pg_hba.conf does not let this address in", "add an entry, and reload"),
    (r"could not translate host name", "there is no such host", "correct PGHOST"),
    (
        r"timeout expired|timed out|[Nn]o route to host|[Uu]nreachable",
        f"no answer in {CONNECT_SECONDS} s",
        "let this address in (security group, firewall); a private RDS instance answers only inside its VPC",
    ),
    (r"Connection refused", "nothing listens there", "correct PGHOST and PGPORT, or start the server"),
    (
        r"too many clients|connection slots",
        "all its connections are taken",
        "end some, or raise max_connections",
    ),
    (r"starting up|shutting down|recovery", "it starts or stops just now", "try again in a minute"),
    (
        r"permission denied for database",
        "the user may not connect to it",
        "GRANT CONNECT ON DATABASE ... TO ...",
    ),
)


def connect(parameters: Mapping[str, Any]) -> Any:
    given = {"connect_timeout": CONNECT_SECONDS, "application_name": "setup_dms check", **parameters}
    where = describe(parameters)
    if re.search(r"[=:]", str(parameters.get("dbname") or "")):
        # libpq would read it as a whole connection string, password and all
        raise DatabaseError("could not connect: PGDATABASE holds a connection string: give the name alone")
    try:
        return psycopg2.connect(**given)
    except psycopg2.OperationalError as error:
        # from None: a traceback would show libpq's text, which can quote what it was given
        raise DatabaseError(connect_fault(where, str(error), str(parameters.get("password") or ""))) from None
    except psycopg2.Error:
        fault = "the connection's settings are not well formed: correct PGHOST, PGPORT, ..."
        raise DatabaseError(f"could not connect to {where}: {fault}") from None


def connect_fault(where: str, text: str, password: str) -> str:
    for pattern, found, advice in CONNECT_FAULTS:
        if re.search(pattern, text):
            return f"could not connect to {where}: {found}: {advice}"
    line = " ".join(text.split())
    if password:
        line = line.replace(password, "***")
    return f"could not connect to {where}: {line[:300]}"


def describe(parameters: Mapping[str, Any]) -> str:
    """ "database 'shop' on db.example.com:5432 as 'dms'": what errors call the source."""
    host, port = parameters.get("host") or "the local socket", parameters.get("port") or 5432
    database, user = parameters.get("dbname") or "(default)", parameters.get("user") or "(default)"
    return f"database {database!r} on {host}:{port} as {user!r}"


# The queries ------------------------------------------------------------------------------------------------

SELECT_LIST = 1000  # PostgreSQL takes 1,664 entries

SERVER = """
SELECT current_user, current_database(), current_setting('server_version_num')::int,
       current_setting('server_version'), pg_is_in_recovery(),
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_superuser'),
       current_setting('rds.force_ssl', true), current_setting('rds.logical_replication', true)
"""
# reset_val: what a session begins with, not what this one has set for itself
SETTING_VALUES = "SELECT name, coalesce(reset_val, setting) FROM pg_settings WHERE name = ANY(%(names)s)"
TLS = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
SLOTS = """
SELECT slot_name, active, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, wal_status
FROM pg_replication_slots ORDER BY slot_name
"""
REPLICA_SLOTS = (
    "SELECT slot_name, active, NULL::bigint, wal_status FROM pg_replication_slots ORDER BY slot_name"
)
SENDERS = "SELECT count(*) FROM pg_stat_replication"
# Who writes holds a lock on its own transaction id, which all may see; the times of other users' sessions are
# for pg_read_all_stats. Transactions of all databases count: a slot waits for all of them.
TRANSACTIONS = """
SELECT pid, coalesce(usename, '(unknown)'), coalesce(datname, '(none)'), coalesce(state, ''),
       extract(epoch FROM clock_timestamp() - xact_start)::float8
FROM pg_stat_activity
WHERE pid <> pg_backend_pid()
  AND pid IN (SELECT pid FROM pg_locks
              WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted)
ORDER BY xact_start, pid
"""
PREPARED = """
SELECT gid, owner, database, extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts ORDER BY prepared
"""
WAL_RATE = """
SELECT (wal_bytes / nullif(extract(epoch FROM clock_timestamp() - stats_reset), 0))::float8 FROM pg_stat_wal
"""
ARTIFACTS = """
SELECT 'trigger ' || evtname FROM pg_event_trigger WHERE evtname = 'awsdms_intercept_ddl'
UNION ALL
SELECT 'function ' || nspname || '.' || proname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
WHERE proname = 'awsdms_intercept_ddl'
UNION ALL
SELECT 'table ' || nspname || '.' || relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
WHERE relname = 'awsdms_ddl_audit' AND relkind = 'r'
"""
ROLE = """
SELECT r.rolsuper, r.rolreplication,
       coalesce((SELECT pg_has_role(r.oid, x.oid, 'MEMBER')
                 FROM pg_roles x WHERE x.rolname = 'rds_replication'), false)
FROM pg_roles r WHERE r.rolname = %(role)s
"""
ROLE_SETTINGS = """
SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
WHERE r.rolname = %(role)s
  AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY s.setdatabase
"""
SCHEMA = """
SELECT n.nspname, has_schema_privilege(r.oid, n.oid, 'CREATE')
FROM pg_namespace n, pg_roles r WHERE n.nspname = %(schema)s AND r.rolname = %(role)s
"""
RELATIONS = r"""
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
  AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
  AND NOT (c.relkind IN ('v', 'm') AND EXISTS (  -- an extension's, as pg_stat_statements
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
ORDER BY n.nspname, c.relname
"""
TABLES = """
SELECT c.oid::bigint, c.relreplident, c.relpersistence = 'u',
       CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END, c.relpages,
       coalesce(s.n_tup_upd + s.n_tup_del, 0),
       ARRAY(SELECT inhparent::bigint FROM pg_inherits WHERE inhrelid = c.oid),
       ARRAY(SELECT a.attname::text FROM unnest(k.indkey::int2[]) WITH ORDINALITY AS i (attnum, place)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.attnum ORDER BY i.place),
       coalesce(x.relname, ''), coalesce(NOT k.indimmediate, false),
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum = ANY (
               (SELECT u.indkey FROM pg_index u
                WHERE u.indrelid = c.oid AND u.indisunique AND u.indimmediate AND u.indisvalid
                  AND u.indpred IS NULL AND u.indexprs IS NULL AND u.indnatts = u.indnkeyatts
                  AND NOT EXISTS (SELECT FROM pg_attribute n WHERE n.attrelid = c.oid
                                  AND n.attnum = ANY (u.indkey::int2[]) AND NOT n.attnotnull)
                ORDER BY u.indnatts, u.indexrelid LIMIT 1)::int2[])),
       ARRAY(SELECT a.attname::text FROM pg_index u JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE u.indrelid = c.oid AND u.indisreplident AND a.attnum = ANY (u.indkey::int2[]))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
LEFT JOIN pg_index k ON k.indrelid = c.oid AND k.indisprimary
LEFT JOIN pg_class x ON x.oid = k.indexrelid
WHERE c.oid = ANY (%(oids)s::bigint[]::oid[])
ORDER BY n.nspname, c.relname
"""
COLUMNS = """
WITH RECURSIVE below (attrelid, attnum, type_oid, modifier) AS (
  SELECT attrelid, attnum, atttypid, atttypmod FROM pg_attribute
  WHERE attrelid = ANY (%(oids)s::bigint[]::oid[]) AND attnum > 0 AND NOT attisdropped
  UNION ALL
  SELECT b.attrelid, b.attnum, d.typbasetype, d.typtypmod
  FROM below b JOIN pg_type d ON d.oid = b.type_oid WHERE d.typtype = 'd'
)
SELECT a.attrelid::bigint, a.attname, format_type(a.atttypid, a.atttypmod), t.typname, t.typtype,
       t.typcategory = 'A', b.modifier, s.avg_width
FROM below b
JOIN pg_type t ON t.oid = b.type_oid AND t.typtype <> 'd'
JOIN pg_attribute a ON a.attrelid = b.attrelid AND a.attnum = b.attnum
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
                    AND NOT s.inherited
ORDER BY a.attrelid, a.attnum
"""
PRIVILEGES = """
SELECT c.oid::bigint, has_schema_privilege(r.oid, n.oid, 'USAGE'),
       has_table_privilege(r.oid, c.oid, 'SELECT'),
       NOT c.relrowsecurity OR r.rolbypassrls OR r.rolsuper
       OR (NOT c.relforcerowsecurity AND pg_has_role(r.oid, c.relowner, 'USAGE'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_roles r
WHERE c.oid = ANY (%(oids)s::bigint[]::oid[]) AND r.rolname = %(role)s
"""
SIZE = """
SELECT pg_total_relation_size(%(oid)s::bigint::oid), pg_relation_size(%(oid)s::bigint::oid),
       pg_table_size(%(oid)s::bigint::oid)
"""
