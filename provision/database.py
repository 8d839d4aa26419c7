"""The source database: what is read of its catalog and its values, and how one of its slots is dropped.

    parameters = {"host": "shop.abc.eu-west-1.rds.amazonaws.com", "dbname": "shop", "user": "dms", ...}
    catalog_tables(parameters)              [("public", "client", True), ...]   with a primary key or without
    table_sizes(parameters, patterns)       [TableSize("public", "client", 1_250_000, 220_200_960), ...]
    slots_of(parameters)                    [Slot("kz7...", "test_decoding", "shop", False, ...)]
    drop_slot(parameters, "kz7...")         its WAL is let go
    read_facts(parameters, patterns)        DatabaseFacts, all that provision.preflight judges

Every statement is a transaction of its own with a time limit, read-only but for drop_slot's: it neither waits
on the application nor holds a lock or a snapshot. Of values it is read how long they are and whether there
is a NaN, an infinity, a number too long; never what they are. Query texts of other sessions are not read.
What is wrong with what was read is said elsewhere: provision.preflight.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import psycopg2  # type: ignore[import-untyped]
from psycopg2 import sql

from provision.engine import ProvisionError
from provision.replication_task import DMS_TABLES, TablePattern, like

CONNECT_SECONDS, CATALOG_SECONDS, PROBE_SECONDS, LOCK_SECONDS = 10, 10, 5, 2
ALL_PROBES_SECONDS = 60
WHOLE_TABLE_BYTES = 64 << 20  # a smaller table is read whole
SAMPLE_BYTES = 16 << 20
SELECT_LIST = 1000  # PostgreSQL takes 1,664 entries
PAGE_BYTES = 8192

EXACT_INTEGER = 2**53  # DMS writes numbers as doubles
EXACT_DIGITS = 15  # significant decimal digits that a double always keeps
LARGE_INTEGER_DIGITS = 18  # UseLargeIntegerValue keeps that many
UNBOUNDED_DECIMALS, UNBOUNDED_DIGITS = 6, 22  # of NUMERIC(28,6), after and before the point
# DMS's LOB types. Source: data types in CHAP_Source.PostgreSQL.html; arrays and composites are NCLOB too.
NCLOB = {"text", "citext", "json", "jsonb", "hstore"}
LOBS = NCLOB | {"bytea", "xml", "tsvector", "tsquery", "path", "polygon"}

SETTINGS = (
    "autovacuum_max_workers",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "logical_decoding_work_mem",
    "max_logical_replication_workers",
    "max_parallel_workers",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "max_wal_senders",
    "max_worker_processes",
    "server_encoding",
    "ssl",
    "statement_timeout",
    "wal_level",
    "wal_sender_timeout",
)
# As captured from real databases: 16 characters, the database's OID, a UUID. That the 16 are the beginning of
# the task's resource id is inferred.
DMS_SLOT = re.compile(r"([a-z0-9]{16})_[0-9]{8,10}(_[0-9a-f]+){5}")

# --------------------------------------------------------------------------------------------------------
# Errors, value types
# --------------------------------------------------------------------------------------------------------


class DatabaseError(ProvisionError):
    """The source database could not be reached or read: where, as whom, what was found, what to do."""


class TableSize(NamedTuple):
    schema: str
    table: str
    estimated_rows: int | None  # None: never analyzed
    total_bytes: int  # with its indexes and TOAST


@dataclass(frozen=True)
class Role:
    name: str
    exists: bool = True
    is_superuser: bool = False
    can_replicate: bool = False
    is_rds_replication: bool = False
    is_rds_superuser: bool = False
    can_login: bool = True
    can_connect: bool = True  # to this database
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
    """A replication slot, as pg_replication_slots shows it."""

    name: str
    plugin: str = ""  # "test_decoding", "pglogical"; empty: a physical one
    database: str = ""
    is_active: bool = False
    active_pid: int | None = None
    retained_bytes: int | None = None  # of WAL; None: nothing reserved, or on a replica
    wal_status: str = ""  # reserved, extended, unreserved, lost
    safe_wal_size: int | None = None  # bytes until it is lost; None: there is no limit


@dataclass(frozen=True)
class Relation:
    oid: int
    schema: str
    name: str
    kind: str  # pg_class.relkind: r, p (partitioned), v, m, f
    has_primary_key: bool = False  # one that is not deferrable: a deferrable one is no replica identity

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    @property
    def is_table(self) -> bool:
        """Whether DMS could replicate it: a table, of which partitioned ones lead to their partitions."""
        return self.kind in "rp" and not self.is_of_dms

    @property
    def is_of_dms(self) -> bool:
        return like(DMS_TABLES, self.name)

    def is_selected(self, patterns: Iterable[TablePattern]) -> bool:
        return any(pattern.matches(self.schema, self.name) for pattern in patterns)


@dataclass(frozen=True)
class Column:
    name: str
    type: str  # as declared: "numeric(12,2)", "shop.price"
    base: str  # pg_type.typname below all domains
    kind: str = "b"  # pg_type.typtype of base: b, c (composite), e (enum), r (range), m (multirange)
    is_array: bool = False
    modifier: int = -1  # pg_attribute.atttypmod
    average_bytes: int | None = None  # pg_stats: as stored, compressed
    base_type: str = field(default="", compare=False)  # type below all domains: "numeric(12,2)"

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
class Reference:
    """A foreign key."""

    schema: str
    table: str
    columns: tuple[str, ...]
    target: tuple[str, str]  # schema and table
    target_columns: tuple[str, ...]


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
    slots: tuple[Slot, ...] = ()  # of all databases, physical ones too: they share max_replication_slots
    senders: int = 0
    transactions: tuple[Transaction, ...] = ()
    prepared: tuple[Prepared, ...] = ()
    wal_bytes_per_second: float | None = None
    relations: tuple[Relation, ...] = ()  # all of the database but those of the system
    tables: tuple[Table, ...] = ()  # that the patterns match
    references: tuple[Reference, ...] = ()  # of and to any table
    publications: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()  # what DMS leaves: awsdms_ddl_audit, awsdms_intercept_ddl
    schemas: Mapping[str, bool] = field(default_factory=dict)  # name: whether the DMS user may create in it
    unseen: Mapping[str, str] = field(default_factory=dict)

    def number(self, setting: str) -> int:
        return int(self.settings.get(setting) or 0)


def identifier(name: str) -> str:
    """Quoted for SQL, without asking a connection as psycopg2.sql does: fixes are made of plain values."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(identifier, names))


def literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if "\\" not in text else "E'" + escaped.replace("\\", "\\\\") + "'"


# --------------------------------------------------------------------------------------------------------
# Entry points. connect_parameters are libpq's, as psycopg2.connect takes them; all raise DatabaseError
# --------------------------------------------------------------------------------------------------------


def catalog_tables(connect_parameters: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """(schema, table, has_primary_key) of every ordinary table of the database, as table_mappings takes them.

    Partitions are among them, partitioned tables are not: DMS replicates each partition under its own name.
    """
    with reading(connect_parameters) as reader:
        return [
            (one.schema, one.name, one.has_primary_key) for one in read_relations(reader) if one.kind == "r"
        ]


def table_sizes(connect_parameters: Mapping[str, Any], patterns: Sequence[TablePattern]) -> list[TableSize]:
    """Rows, as last estimated, and bytes of the ordinary tables that the patterns select; reads no row."""
    with reading(connect_parameters) as reader:
        chosen = [one for one in read_relations(reader) if one.kind == "r" and one.is_selected(patterns)]
        oids = [one.oid for one in chosen if not one.is_of_dms]
        return [TableSize(*row) for row in reader.rows(TABLE_SIZES, {"oids": oids})]


def slots_of(connect_parameters: Mapping[str, Any]) -> list[Slot]:
    """The logical slots of this database, by name."""
    with reading(connect_parameters) as reader:
        return logical_slots(reader)


def drop_slot(connect_parameters: Mapping[str, Any], name: str) -> None:
    """Drops a logical slot of this database: changes that were not read through it can't be read any more.

    Raises DatabaseError for a slot that is in use, or is not there.
    """
    with reading(connect_parameters) as reader:
        attempt = f"could not drop replication slot {name!r} of {reader.where}"
        slot = next((slot for slot in logical_slots(reader) if slot.name == name), None)
        if slot is None:
            fault = "it is not there, or is another database's: nothing to do, or correct PGDATABASE"
            raise DatabaseError(f"{attempt}: {fault}")
        if slot.is_active:
            fix = f"stop the DMS task, or SELECT pg_terminate_backend({slot.active_pid}); then try again"
            raise DatabaseError(f"{attempt}: pid {slot.active_pid} reads it: {fix}")
        reader.connection.set_session(readonly=False)
        try:
            with reader.connection.cursor() as cursor:
                cursor.execute("SELECT pg_drop_replication_slot(%(name)s)", {"name": name})
        except psycopg2.Error as error:
            # Somebody else may have begun to read it, or dropped it, since it was looked at.
            fix = f"with the task stopped, as a user who may replicate: {drop_slot_sql(name)}"
            raise DatabaseError(f"{attempt}: {refusal(error)}: {fix}") from None


def is_dms_slot(slot: Slot, database: str) -> bool:
    """Whether it is one of this database with a name as DMS makes them."""
    return slot.database == database and DMS_SLOT.fullmatch(slot.name) is not None


def drop_slot_sql(name: str) -> str:
    """The statement with which a person drops the slot."""
    return f"SELECT pg_drop_replication_slot({literal(name)});"


def read_facts(
    connect_parameters: Mapping[str, Any],
    patterns: Sequence[TablePattern],
    *,
    dms_user: str = "",
    heartbeat_schema: str = "",
    lob_max_size_kb: int = 32,
) -> DatabaseFacts:
    """All that the preflight judges. dms_user: whose rights are read; empty means the one who connects.

    What is refused is noted in unseen; raises when even the version or the list of tables is.
    """
    with reading(connect_parameters) as reader:
        facts = read_server(reader, connect_parameters, dms_user, heartbeat_schema)
        relations = read_relations(reader)
        chosen = [one for one in relations if one.is_table and one.is_selected(patterns)]
        tables = tuple(read_tables(reader, chosen, facts.role.name))
        references = tuple(read_references(reader))
        reader.limit(PROBE_SECONDS)
        deadline = time.monotonic() + ALL_PROBES_SECONDS
        probed_tables = tuple(probed(reader, table, lob_max_size_kb, deadline) for table in tables)
        facts = replace(facts, relations=tuple(relations), tables=probed_tables, references=references)
        return replace(facts, unseen=reader.unseen)


# --------------------------------------------------------------------------------------------------------
# Reading the server, the tables, and what their values are like
# --------------------------------------------------------------------------------------------------------


def read_server(
    reader: Reader, connect_parameters: Mapping[str, Any], dms_user: str, heartbeat_schema: str
) -> DatabaseFacts:
    server = reader.one(SERVER)
    user, database, version_num, version, is_replica, is_rds, force_ssl, logical_replication = server
    role = read_role(reader, dms_user or user)
    host = str(connect_parameters.get("host") or "")
    facts = DatabaseFacts(
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
        logical_replication or "",
        schemas=dict(reader.rows(SCHEMA, {"role": role.name, "schema": heartbeat_schema}, "heartbeat")),
    )
    return replace(facts, **read_activity(reader, facts))


def read_activity(reader: Reader, facts: DatabaseFacts) -> dict[str, Any]:
    """The facts of pg_stat_* and of what others left; each refused part is named as its check is."""
    transactions = reader.rows(TRANSACTIONS, part="long-running-transactions")
    rate = reader.one(WAL_RATE, part="wal-rate") if facts.version_num >= 140_000 else ()
    return {
        "is_tls": any(row[0] for row in reader.rows(TLS, part="tls")),
        "slots": tuple(Slot(*row) for row in reader.rows(SLOTS, part="replication-slots")),
        "senders": sum(row[0] for row in reader.rows(SENDERS, part="maxwalsenders")),
        "transactions": tuple(Transaction(*row) for row in transactions),
        "prepared": tuple(Prepared(*row) for row in reader.rows(PREPARED, part="prepared-transactions")),
        "wal_bytes_per_second": rate[0] if rate else None,
        "publications": tuple(row[0] for row in reader.rows(PUBLICATIONS, part="publications")),
        "artifacts": tuple(row[0] for row in reader.rows(ARTIFACTS, part="ddl-artifacts")),
    }


def logical_slots(reader: Reader) -> list[Slot]:
    slots = [Slot(*row) for row in reader.rows(SLOTS)]
    ((database,),) = reader.rows("SELECT current_database()")
    return [slot for slot in slots if slot.plugin and slot.database == database]


def read_role(reader: Reader, name: str) -> Role:
    row = reader.one(ROLE, {"role": name}, "privileges")
    if not row:
        return Role(name, exists=False)
    is_superuser, can_replicate, is_rds_replication, is_rds_superuser, can_login, can_connect = row
    settings = reader.rows(ROLE_SETTINGS, {"role": name}, "role-settings")
    return Role(
        name,
        True,
        is_superuser,
        can_replicate,
        is_rds_replication,
        is_rds_superuser,
        can_login,
        can_connect,
        dict(entry.split("=", 1) for (entry,) in settings),
    )


def read_relations(reader: Reader) -> list[Relation]:
    return [Relation(*row) for row in reader.rows(RELATIONS)]


def read_references(reader: Reader) -> Iterator[Reference]:
    for schema, table, columns, *target, target_columns in reader.rows(REFERENCES, part="foreign-keys"):
        yield Reference(schema, table, tuple(columns), (target[0], target[1]), tuple(target_columns))


def read_tables(reader: Reader, chosen: Iterable[Relation], role: str) -> Iterator[Table]:
    """The tables with their columns and the role's rights, their values not looked at yet."""
    relations = {relation.oid: relation for relation in chosen}
    oids = {"oids": list(relations)}
    columns: dict[int, list[Column]] = {}
    for oid, *values in reader.rows(COLUMNS, oids, "columns"):
        columns.setdefault(oid, []).append(Column(*values))
    rights = {oid: seen for oid, *seen in reader.rows(PRIVILEGES, oids | {"role": role}, "privileges")}
    for row in reader.rows(TABLES, oids):
        table = read_table(relations[row[0]], row, tuple(columns.get(row[0], ())))
        if can := rights.get(row[0]):
            table = replace(table, can_use_schema=can[0], can_select=can[1], sees_all_rows=can[2])
        yield table


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
        pages * PAGE_BYTES,
        rewrites,
    )


def probed(reader: Reader, table: Table, lob_max_size_kb: int, deadline: float) -> Table:
    """The table with its size and what was seen of its values."""
    if table.relation.kind == "p":
        return table  # its rows are those of its partitions
    if time.monotonic() > deadline:
        return replace(table, probe=Probe(why_not=f"the other tables took {ALL_PROBES_SECONDS} s"))
    part = f"values of {table.relation}"
    sizes = reader.one(SIZE, {"oid": table.relation.oid}, part)
    if sizes and sizes[0] is None:
        return replace(table, probe=Probe(why_not=REFUSALS["42P01"]))
    if sizes:
        total, heap_bytes, stored_bytes = sizes
        table = replace(table, total_bytes=total)
        percent = 100.0 if stored_bytes <= WHOLE_TABLE_BYTES else min(100.0, 100 * SAMPLE_BYTES / heap_bytes)
        table = replace(table, probe=probe(reader, table, percent, lob_max_size_kb))
    if why := reader.unseen.pop(part, ""):
        return replace(table, probe=Probe(why_not=why))
    if table.probe.is_whole or table.estimated_rows is None:
        return replace(table, estimated_rows=round(table.probe.rows * 100 / table.probe.percent))
    return table


def probe(reader: Reader, table: Table, percent: float, lob_max_size_kb: int) -> Probe:
    """What the table's values are like, or those of so many percent of its pages."""
    source = sql.SQL("FROM ONLY {}").format(sql.Identifier(table.relation.schema, table.relation.name))
    if percent < 100:
        source += sql.SQL(" TABLESAMPLE SYSTEM ({})").format(sql.Literal(percent))
    asked = [(("rows", ""), sql.SQL("count(*)")), (("row", ""), row_length(table, lob_max_size_kb))]
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
    is_unbounded = column.base == "varchar" and column.length is None
    if column.is_lob or column.kind in ("r", "m") or (is_unbounded and not column.is_array):
        yield ("octets", column.name), sql.SQL("max({})").format(octets(column))
    for mark, condition in ({} if column.is_array else conditions(column)).items():
        expression = sql.SQL(f"bool_or({condition})").format(c=sql.Identifier(column.name))
        yield (mark, column.name), expression


def conditions(column: Column) -> dict[str, str]:
    """Under which condition, {c} being the column, a value gets which mark."""
    special = "{c}::text IN ('NaN', 'Infinity', '-Infinity')"
    match column.base:
        case "float4" | "float8":
            return {"nan": special}
        case "numeric":
            unfit = unfit_numeric(column.precision_and_scale)
            return {"nan": special} | ({"unfit": f"NOT {special} AND ({unfit})"} if unfit else {})
        case "int8":
            most = 10**LARGE_INTEGER_DIGITS - 1
            return {
                "unfit": f"{{c}} NOT BETWEEN -{EXACT_INTEGER} AND {EXACT_INTEGER}",
                "beyond-18-digits": f"{{c}} NOT BETWEEN -{most} AND {most}",
            }
        case "date" | "timestamp" | "timestamptz":
            far = "isfinite({c}) AND extract(year FROM {c}) NOT BETWEEN 1 AND 9999"
            return {"infinite": "NOT isfinite({c})", "far": far}
    return {}


def unfit_numeric(precision_and_scale: tuple[int, int] | None) -> str:
    """The condition of a number that DMS rounds; empty where there is none."""
    if precision_and_scale is None:
        return f"scale({{c}}) > {UNBOUNDED_DECIMALS} OR abs({{c}}) >= 1e{UNBOUNDED_DIGITS}"
    precision, scale = precision_and_scale
    return f"abs({{c}}) >= 1e{EXACT_DIGITS - scale}" if precision > EXACT_DIGITS else ""


def octets(column: Column) -> Any:
    """Without a cast the length of a bytea costs no read of it."""
    text = "octet_length({})" if column.base == "bytea" else "octet_length({}::text)"
    return sql.SQL(text).format(sql.Identifier(column.name))


def row_length(table: Table, lob_max_size_kb: int) -> Any:
    """The longest row as JSON, about: names and values, LOBs as DMS cuts them, a bytea in hex."""
    terms = [sql.Literal(sum(len(column.name.encode()) + 6 for column in table.columns))]
    for column in table.columns:
        length = octets(column)
        if column.is_lob:
            length = sql.SQL("least({}, {})").format(length, sql.Literal(lob_max_size_kb * 1024))
        factor = 2 if column.base == "bytea" else 1
        terms.append(sql.SQL("coalesce({}::bigint * {}, 4)").format(length, sql.Literal(factor)))
    return sql.SQL("max({})").format(sql.SQL(" + ").join(terms))


# --------------------------------------------------------------------------------------------------------
# The connection
# --------------------------------------------------------------------------------------------------------

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
CONNECTION = {
    "connect_timeout": CONNECT_SECONDS,
    "application_name": "setup_dms",
    # Without these a network that falls silent is waited for longer than any statement may take.
    "keepalives_idle": CONNECT_SECONDS,
    "keepalives_interval": CONNECT_SECONDS,
    "keepalives_count": 1,
    "tcp_user_timeout": 2 * CONNECT_SECONDS * 1000,
}
REFUSALS = {
    "42501": "permission denied",
    "42704": "it is not there any more",
    "42P01": "it is not there any more",
    "55006": "another session reads it",
    "55P03": "another session has it locked",
    "57014": "it took too long",
    "57P01": "the server ended the connection",
}


@contextmanager
def reading(connect_parameters: Mapping[str, Any]) -> Iterator[Reader]:
    connection = connect(connect_parameters)
    try:
        yield Reader(connection, describe(connect_parameters))
    finally:
        connection.close()


class Reader:
    """Runs queries, each a read-only transaction of its own, and keeps note of those that were refused."""

    def __init__(self, connection: Any, where: str) -> None:
        self.connection, self.where = connection, where
        self.unseen: dict[str, str] = {}
        connection.set_session(readonly=True, autocommit=True)
        # No name of theirs passes for one of the system's, and no policy hides rows from us without an error.
        self.rows("SET search_path = pg_catalog")
        self.rows("SET row_security = off")
        self.rows(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        self.limit(CATALOG_SECONDS)

    def limit(self, seconds: float) -> None:
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


def refusal(error: psycopg2.Error) -> str:
    """Why, in words of ours: the server's may quote values."""
    if error.pgcode is None:
        return "the connection broke"
    return REFUSALS.get(error.pgcode, f"SQLSTATE {error.pgcode}")


def connect(parameters: Mapping[str, Any]) -> Any:
    """A connection of psycopg2. Raises DatabaseError, with the way out and never with the password."""
    where = describe(parameters)
    if re.search(r"[=:]", str(parameters.get("dbname") or "")):
        # libpq would read it as a whole connection string, password and all
        raise DatabaseError("could not connect: PGDATABASE holds a connection string: give the name alone")
    try:
        return psycopg2.connect(**{**CONNECTION, **parameters})
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


# --------------------------------------------------------------------------------------------------------
# The queries
# --------------------------------------------------------------------------------------------------------

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
SELECT slot_name, coalesce(plugin, ''), coalesce(database, ''), active, active_pid,
       CASE WHEN NOT pg_is_in_recovery()
            THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END,
       coalesce(wal_status, ''), safe_wal_size
FROM pg_replication_slots ORDER BY slot_name
"""
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
PUBLICATIONS = "SELECT pubname FROM pg_publication ORDER BY pubname"
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
SELECT r.rolsuper, r.rolreplication, m.is_rds_replication, m.is_rds_superuser, r.rolcanlogin,
       has_database_privilege(r.oid, current_database(), 'CONNECT')
FROM pg_roles r, LATERAL (
  SELECT coalesce(bool_or(x.rolname = 'rds_replication'), false),
         coalesce(bool_or(x.rolname = 'rds_superuser'), false)
  FROM pg_roles x
  WHERE x.rolname IN ('rds_replication', 'rds_superuser') AND pg_has_role(r.oid, x.oid, 'MEMBER')
) AS m (is_rds_replication, is_rds_superuser)
WHERE r.rolname = %(role)s
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
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind,
       EXISTS (SELECT FROM pg_index k
               WHERE k.indrelid = c.oid AND k.indisprimary AND k.indimmediate AND k.indisvalid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
  AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
  AND NOT (c.relkind IN ('v', 'm') AND EXISTS (  -- an extension's, as pg_stat_statements
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
ORDER BY n.nspname, c.relname
"""
TABLES = """
SELECT c.oid::bigint, c.relreplident, c.relpersistence = 'u',
       CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint END, c.relpages,
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
REFERENCES = """
SELECT n.nspname, c.relname,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS i (attnum, place)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = i.attnum ORDER BY i.place),
       tn.nspname, t.relname,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS i (attnum, place)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = i.attnum ORDER BY i.place)
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE k.contype = 'f'
ORDER BY n.nspname, c.relname, k.conname
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
       t.typcategory = 'A', b.modifier, s.avg_width, format_type(b.type_oid, b.modifier)
FROM below b
JOIN pg_type t ON t.oid = b.type_oid AND t.typtype <> 'd'
JOIN pg_attribute a ON a.attrelid = b.attrelid AND a.attnum = b.attnum
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
                    AND NOT s.inherited
ORDER BY a.attrelid, a.attnum
"""
# Primary key, columns that take NULL, generated columns. Before PostgreSQL 18 pgoutput never carries a
# generated column, whatever the publication says; since then a publication can ask for it. They are left out
# in both cases, so that load and changes have the same columns.
DETAILS = """
SELECT c.oid::bigint,
       ARRAY(SELECT a.attname::text FROM pg_index k,
                    unnest(k.indkey::int2[]) WITH ORDINALITY AS i (attnum, place)
             JOIN pg_attribute a ON a.attnum = i.attnum
             WHERE k.indrelid = c.oid AND k.indisprimary AND k.indimmediate AND k.indisvalid
               AND a.attrelid = c.oid AND i.place <= k.indnkeyatts
             ORDER BY i.place),
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attnotnull
             ORDER BY a.attnum),
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''
             ORDER BY a.attnum)
FROM pg_class c
WHERE c.oid = ANY (%(oids)s::bigint[]::oid[])
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
# A heap without a page has no row; else a count of 0 can mean never analyzed (it does before PostgreSQL 14).
TABLE_SIZES = """
SELECT n.nspname, c.relname,
       CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint WHEN pg_relation_size(c.oid) = 0 THEN 0 END,
       coalesce(pg_total_relation_size(c.oid), 0)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%(oids)s::bigint[]::oid[])
ORDER BY n.nspname, c.relname
"""
