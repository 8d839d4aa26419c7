"""What is read of the source database, and the one thing that is written: a slot is dropped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from psycopg2.extras import LogicalReplicationConnection

from local_run.postgres import Server, start_postgres
from provision import database
from provision.database import (
    DatabaseError,
    Slot,
    catalog_tables,
    connect_fault,
    drop_slot,
    drop_slot_sql,
    identifier,
    literal,
    slots_of,
    table_sizes,
)
from provision.replication_task import table_mappings, table_patterns

CANARY = "canary-7f3a"  # a password, and in query texts; never in what is said


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgres(settings={"autovacuum": "off"}, password=CANARY) as server:
        yield server


def parameters(server: Server, **more: Any) -> dict[str, Any]:
    given = {"host": "127.0.0.1", "port": server.port, "user": "postgres", "dbname": "postgres"}
    return given | {"password": CANARY} | more


def run(server: Server, statements: str, **more: Any) -> list[Any]:
    connection = psycopg2.connect(**parameters(server, **more))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statements)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


@pytest.fixture
def fresh(server: Server) -> Iterator[dict[str, Any]]:
    """An empty database of the server: its parameters."""
    name = "fresh"
    run(server, f"CREATE DATABASE {name}")
    yield parameters(server, dbname=name)
    for (slot,) in run(server, f"SELECT slot_name FROM pg_replication_slots WHERE database = '{name}'"):
        run(server, f"SELECT pg_drop_replication_slot('{slot}')")
    run(server, f"DROP DATABASE {name} WITH (FORCE)")


def execute(connect_parameters: dict[str, Any], statements: str) -> None:
    connection = psycopg2.connect(**connect_parameters)
    connection.autocommit = True
    connection.cursor().execute(statements)
    connection.close()


# --------------------------------------------------------------------------------------------------------
# The tables of the catalog
# --------------------------------------------------------------------------------------------------------

SHOP = """
    CREATE TABLE client (id int PRIMARY KEY);
    CREATE TABLE log (note text);
    CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
    CREATE TABLE code (a int, b int, PRIMARY KEY (b, a));
    CREATE TABLE visit (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE visit_2025 PARTITION OF visit FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE visit_2026 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
        PARTITION BY LIST (id);
    CREATE TABLE visit_2026_rest PARTITION OF visit_2026 DEFAULT;
    CREATE SCHEMA "Sales";
    CREATE TABLE "Sales"."Order" (id int PRIMARY KEY);
    CREATE VIEW every_client AS SELECT * FROM client;
    CREATE MATERIALIZED VIEW old_client AS SELECT * FROM client;
    CREATE FOREIGN DATA WRAPPER far;
    CREATE SERVER away FOREIGN DATA WRAPPER far;
    CREATE FOREIGN TABLE abroad (id int) SERVER away;
    CREATE SEQUENCE counter;
    CREATE TYPE pair AS (a int, b int);
    CREATE TEMP TABLE mine (id int PRIMARY KEY);
"""


def test_catalog_has_tables_and_partitions_and_nothing_else(fresh: dict[str, Any]) -> None:
    execute(fresh, SHOP)
    assert catalog_tables(fresh) == [
        ("Sales", "Order", True),
        ("public", "client", True),
        ("public", "code", True),
        ("public", "late", False),
        ("public", "log", False),
        ("public", "visit_2025", True),
        ("public", "visit_2026_rest", True),
    ]


def test_catalog_is_what_table_mappings_take(fresh: dict[str, Any]) -> None:
    execute(fresh, SHOP)
    made = table_mappings(table_patterns('"Sales"."Order",public.visit'), catalog_tables(fresh))
    assert [str(pattern) for pattern in made.matches_nothing] == ["public.visit"]
    assert [
        rule["object-locator"]["table-name"]
        for rule in made.document["rules"]
        if rule["rule-type"] == "object-mapping"
    ] == ["Order"]


def test_sizes_are_those_of_the_selected_tables(fresh: dict[str, Any]) -> None:
    execute(
        fresh,
        """CREATE TABLE counted (id int PRIMARY KEY, note text);
        INSERT INTO counted SELECT n, repeat('x', 100) FROM generate_series(1, 1000) n;
        ANALYZE counted;
        CREATE TABLE never_analyzed AS SELECT 1 AS id;
        CREATE TABLE empty (id int PRIMARY KEY);
        CREATE TABLE awsdms_ddl_audit (id int);
        CREATE SCHEMA other; CREATE TABLE other.t (id int)""",
    )
    sizes = table_sizes(fresh, table_patterns("public.%"))
    assert [(size.schema, size.table, size.estimated_rows) for size in sizes] == [
        ("public", "counted", 1000),
        ("public", "empty", 0),
        ("public", "never_analyzed", None),
    ]
    counted, empty, never_analyzed = (size.total_bytes for size in sizes)
    assert counted > 150_000 and never_analyzed == empty == 8192  # a page of the heap, one of the index


# --------------------------------------------------------------------------------------------------------
# Slots
# --------------------------------------------------------------------------------------------------------


def make_slot(connect_parameters: dict[str, Any], name: str) -> None:
    execute(connect_parameters, f"SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')")


def test_slots_are_the_logical_ones_of_the_database(server: Server, fresh: dict[str, Any]) -> None:
    make_slot(fresh, "mine")
    make_slot(parameters(server), "of_another_database")
    execute(fresh, "SELECT pg_create_physical_replication_slot('physical')")

    (slot,) = slots_of(fresh)

    run(server, "SELECT pg_drop_replication_slot(s) FROM unnest('{of_another_database,physical}'::name[]) s")
    assert (slot.name, slot.plugin, slot.database) == ("mine", "test_decoding", "fresh")
    assert (slot.is_active, slot.active_pid) == (False, None)
    assert slot.retained_bytes is not None and slot.retained_bytes >= 0
    assert (slot.wal_status, slot.safe_wal_size) == ("reserved", None)


def test_slot_that_nobody_reads_is_dropped(fresh: dict[str, Any]) -> None:
    make_slot(fresh, "mine")
    make_slot(fresh, "yours")

    drop_slot(fresh, "mine")

    assert [slot.name for slot in slots_of(fresh)] == ["yours"]


def test_slot_in_use_is_left_alone(fresh: dict[str, Any]) -> None:
    make_slot(fresh, "busy")
    reader = psycopg2.connect(connection_factory=LogicalReplicationConnection, **fresh)
    reader.cursor().start_replication("busy", decode=True)
    slot = wait_until_active(fresh)

    with pytest.raises(DatabaseError) as error:
        drop_slot(fresh, "busy")

    reader.close()
    assert slot.active_pid is not None
    assert str(error.value).endswith(
        f"pid {slot.active_pid} reads it: stop the DMS task, "
        f"or SELECT pg_terminate_backend({slot.active_pid}); then try again"
    )
    assert "could not drop replication slot 'busy' of database 'fresh'" in str(error.value)
    wait_until_active(fresh, False)
    drop_slot(fresh, "busy")
    assert slots_of(fresh) == []


def wait_until_active(connect_parameters: dict[str, Any], is_active: bool = True) -> Slot:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        (slot,) = slots_of(connect_parameters)
        if slot.is_active is is_active:
            return slot
    raise AssertionError(f"no slot with is_active={is_active} after ten seconds")


def test_slot_that_is_not_there_is_an_error(server: Server, fresh: dict[str, Any]) -> None:
    make_slot(parameters(server), "elsewhere")
    for name in ("elsewhere", "nowhere"):
        with pytest.raises(DatabaseError, match=f"{name!r} of .*: it is not there, or is another database's"):
            drop_slot(fresh, name)
    drop_slot(parameters(server), "elsewhere")


def test_user_without_the_right_is_told_the_statement(server: Server, fresh: dict[str, Any]) -> None:
    make_slot(fresh, "mine")
    run(server, f"CREATE ROLE guest LOGIN PASSWORD '{CANARY}'")
    with pytest.raises(DatabaseError) as error:
        drop_slot(fresh | {"user": "guest"}, "mine")
    run(server, "DROP ROLE guest")
    assert str(error.value).endswith(
        "permission denied: with the task stopped, as a user who may replicate: "
        "SELECT pg_drop_replication_slot('mine');"
    )
    assert CANARY not in str(error.value)


def test_statement_for_a_person_drops_the_slot(fresh: dict[str, Any]) -> None:
    make_slot(fresh, "mine")
    execute(fresh, drop_slot_sql("mine"))
    assert slots_of(fresh) == []
    assert drop_slot_sql("o'hara") == "SELECT pg_drop_replication_slot('o''hara');"


def test_lookers_say_who_they_are_and_write_nothing(server: Server) -> None:
    with database.reading(parameters(server)) as reader:
        assert reader.one("SHOW application_name") == ("setup_dms",)
        assert reader.one("SHOW transaction_read_only") == ("on",)
        assert reader.one("SHOW statement_timeout") == ("10s",)


# --------------------------------------------------------------------------------------------------------
# The reader
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ['a"b', "a'b", "a\\b", "Ab c", "select", "ü", "a;--", "$$", "%s", "{0}"])
def test_names_are_quoted_as_postgresql_does(server: Server, name: str) -> None:
    connection = psycopg2.connect(**parameters(server))
    cursor = connection.cursor()
    cursor.execute(
        "SELECT 'a' AS " + identifier(name).replace("%", "%%") + ", " + literal(name).replace("%", "%%"), ()
    )
    assert cursor.description[0].name == name
    assert cursor.fetchone()[1] == name
    connection.close()


def test_statements_can_write_nothing(server: Server) -> None:
    connection = psycopg2.connect(**parameters(server))
    reader = database.Reader(connection, "it")
    assert reader.rows("CREATE TABLE never (id int)", part="write") == []
    assert reader.unseen == {"write": "SQLSTATE 25006"}  # read_only_sql_transaction
    with pytest.raises(DatabaseError, match="could not read the catalog of it: SQLSTATE 22012: check again"):
        reader.rows("SELECT 1/0")
    connection.close()


def test_connection_that_breaks_is_an_error_and_not_a_finding(server: Server) -> None:
    connection = psycopg2.connect(**parameters(server))
    reader = database.Reader(connection, "it")
    run(server, f"SELECT pg_terminate_backend({connection.get_backend_pid()})")
    with pytest.raises(
        DatabaseError, match=r"could not read the catalog of it: the (connection broke|server ended)"
    ):
        reader.rows("SELECT 1", part="anything")


# --------------------------------------------------------------------------------------------------------
# No connection
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"password": "wrong"}, "the password or the user is wrong: correct PGUSER and PGPASSWORD"),
        ({"password": None}, "the server asks for a password: set PGPASSWORD"),
        ({"dbname": "nope"}, "there is no such database: correct PGDATABASE"),
        ({"port": 1}, "nothing listens there: correct PGHOST and PGPORT, or start the server"),
        ({"host": "no-such-host.invalid"}, "there is no such host: correct PGHOST"),
        ({"sslmode": "require"}, "it offers no TLS, though PGSSLMODE asks for it: turn ssl on at the server"),
        ({"nonsense": CANARY}, "the connection's settings are not well formed: correct PGHOST, PGPORT, ..."),
    ],
    ids=["password", "no-password", "database", "port", "host", "tls", "options"],
)
def test_failed_connection_is_one_line_with_the_way_out(
    server: Server, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    for key in [key for key in os.environ if key.startswith("PG")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    given = parameters(server) | changes
    with pytest.raises(DatabaseError) as error:
        slots_of({key: value for key, value in given.items() if value is not None})

    where = f"database '{given['dbname']}' on {given['host']}:{given['port']} as 'postgres'"
    assert str(error.value) == f"could not connect to {where}: {message}"
    assert CANARY not in repr(error.value) and error.value.__suppress_context__


def test_connection_string_in_place_of_a_name_is_not_repeated() -> None:
    with pytest.raises(DatabaseError) as error:
        slots_of({"dbname": f"postgres://me:{CANARY}@db/shop"})
    assert CANARY not in str(error.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            'no pg_hba.conf entry for host "10.0.0.1", user "me", database "shop", no encryption',
            "it takes only TLS",
        ),
        (
            'no pg_hba.conf entry for host "10.0.0.1", user "me", database "shop", SSL encryption',
            "its pg_hba.conf",
        ),
        ("timeout expired", "no answer in 10 s"),
        ("SSL error: certificate verify failed", "its certificate could not be verified"),
        ("FATAL: sorry, too many clients already", "all its connections are taken"),
    ],
)
def test_words_of_libpq_are_understood(text: str, found: str) -> None:
    assert connect_fault("it", f"connection to server failed: FATAL:  {text}\n", "").startswith(
        f"could not connect to it: {found}"
    )


def test_unknown_words_of_libpq_come_in_one_line_without_the_password() -> None:
    assert connect_fault("it", f"strange\n\tthing with {CANARY}\n", CANARY) == (
        "could not connect to it: strange thing with ***"
    )
