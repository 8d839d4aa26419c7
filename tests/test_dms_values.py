"""What DMS makes of values and tables: every type, as PostgreSQL writes it and as a message must hold it.

Expectations are those of README's "What DMS itself loses" and of public captures; where neither says it,
the test's name does: inferred.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgresql_types import ALL_TYPES, ALL_TYPES_SCHEMA, start_complete_postgres
from psycopg2 import sql

from local_run.postgres import Server
from local_run.replication.tables import SourceTable, read_tables
from local_run.replication.values import SESSION, ValueFault, renderer, session
from provision.database import Column
from provision.dms_types import Rendering, dms_type

TYPE_IDS = [f"{position} {one[0]} {one[1]}"[:40] for position, one in enumerate(ALL_TYPES)]

# --------------------------------------------------------------------------------------------------------
# Values, as a real PostgreSQL writes them
# --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_complete_postgres() as running:
        yield running


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[Any]:
    connection = psycopg2.connect(server.dsn, options=SESSION)
    connection.autocommit = True
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def every_type(connection: Any) -> SourceTable:
    """A table with a column c0, c1, ... for each of ALL_TYPES, and one row."""
    columns = ", ".join(f"c{position} {one[0]}" for position, one in enumerate(ALL_TYPES))
    values = ", ".join(one[1] for one in ALL_TYPES)
    run(
        connection,
        f"{ALL_TYPES_SCHEMA}"
        f"CREATE TABLE every_type (id int PRIMARY KEY, {columns});"
        f"INSERT INTO every_type VALUES (1, {values})",
    )
    (table,) = read_tables(connection, lambda schema, name: name == "every_type")
    return table


@pytest.fixture(scope="module")
def texts(connection: Any, every_type: SourceTable) -> list[bytes]:
    """The row, as COPY writes it."""
    return copied(connection, "every_type")[0][1:]


@pytest.mark.parametrize("number", range(len(ALL_TYPES)), ids=TYPE_IDS)
def test_a_value_arrives_as_documented(every_type: SourceTable, texts: list[bytes], number: int) -> None:
    _, _, loaded, changed, _ = ALL_TYPES[number]
    column = every_type.columns[number + 1]

    written = [renderer(column, Rendering(), is_load=is_load)(texts[number]) for is_load in (True, False)]

    assert [one.decode() for one in written] == [loaded, changed or loaded]
    json.loads(written[0])


def test_output_functions_write_what_copy_writes(connection: Any, texts: list[bytes]) -> None:
    """format('%s') calls the output function, as pgoutput does."""
    names = ", ".join(f"format('%s', c{number})" for number in range(len(ALL_TYPES)))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {names} FROM every_type")
        assert [one.encode() for one in cursor.fetchone()] == texts


@pytest.mark.parametrize("number", range(len(ALL_TYPES)), ids=TYPE_IDS)
def test_a_column_has_its_type_in_table_definitions(every_type: SourceTable, number: int) -> None:
    expected = ALL_TYPES[number][4]
    if expected is not None:
        assert dms_type(every_type.columns[number + 1], Rendering()) == expected


def test_bytes_that_are_not_utf8_are_a_fault_that_names_the_column_only(server: Server) -> None:
    column, text = stored(server, "SQL_ASCII", r"E'caf\xe9'")
    assert text == b"caf\xe9"

    for one in (column, Column("secret", "varchar(80)", "varchar", modifier=84)):
        with pytest.raises(ValueFault, match=r"column 'secret': its bytes are not UTF-8") as fault:
            renderer(one, Rendering(), is_load=True)(text)
        assert "caf" not in str(fault.value)
        assert fault.value.__cause__ is None and fault.value.__suppress_context__


def test_a_database_in_another_encoding_gives_utf8(server: Server) -> None:
    column, text = stored(server, "LATIN1", r"E'caf\xe9'")
    assert renderer(column, Rendering(), is_load=True)(text) == '"café"'.encode()


def stored(server: Server, encoding: str, value: str) -> tuple[Column, bytes]:
    """The column and the value as COPY writes it, of a database in this encoding."""
    admin = psycopg2.connect(server.dsn)
    admin.autocommit = True
    run(admin, f"CREATE DATABASE of_{encoding} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    admin.close()
    connection = psycopg2.connect(server.dsn, dbname=f"of_{encoding}".lower(), options=session(encoding))
    try:
        run(connection, "CREATE TABLE t (id int PRIMARY KEY, secret text); SET client_encoding = SQL_ASCII")
        run(connection, f"INSERT INTO t VALUES (1, {value})")
        run(connection, f"SET client_encoding = {'SQL_ASCII' if encoding == 'SQL_ASCII' else 'UTF8'}")
        (table,) = read_tables(connection, lambda schema, name: True)
        return table.columns[1], copied(connection, "t")[0][1]
    finally:
        connection.close()


# --------------------------------------------------------------------------------------------------------
# Values under other settings
# --------------------------------------------------------------------------------------------------------

BIGINT = Column("n", "bigint", "int8")
TEXT = Column("t", "text", "text")
XML = Column("x", "xml", "xml")
BYTEA = Column("b", "bytea", "bytea")
BOOLEAN = Column("f", "boolean", "bool")
ONE_KB = Rendering(lob_max_size_kb=1)


def rendered(column: Column, text: str | bytes, rendering: Rendering, is_load: bool = False) -> str:
    value = text.encode() if isinstance(text, str) else text
    return renderer(column, rendering, is_load=is_load)(value).decode()


@pytest.mark.parametrize(
    ("text", "plain", "large"),
    [
        ("999999999999999", "999999999999999", "999999999999999"),
        ("-999999999999999", "-999999999999999", "-999999999999999"),
        ("1000000000000000", "1e+15", "1000000000000000"),
        ("-1000000000000000", "-1e+15", "-1000000000000000"),
        ("9007199254740993", "9007199254740992", "9007199254740993"),
        ("900719925474099301", "9.0071992547409933e+17", "900719925474099301"),
        ("-900719925474099301", "-9.0071992547409933e+17", "-900719925474099301"),
        ("9223372036854775807", "9.2233720368547758e+18", "9.2233720368547758e+18"),
        ("-9223372036854775808", "-9.2233720368547758e+18", "-9.2233720368547758e+18"),
    ],
)
def test_an_integer_is_a_double_beyond_15_digits_or_18(text: str, plain: str, large: str) -> None:
    assert rendered(BIGINT, text, Rendering()) == plain
    assert rendered(BIGINT, text, Rendering(use_large_integer_value=True)) == large


@pytest.mark.parametrize("is_load", [True, False])
def test_a_boolean_is_one_with_map_boolean_as_boolean(is_load: bool) -> None:
    rendering = Rendering(map_boolean_as_boolean=True)
    assert [rendered(BOOLEAN, text, rendering, is_load) for text in "tf"] == ["true", "false"]
    assert dms_type(BOOLEAN, rendering) == ("BOOL", None)


def test_char_keeps_its_blanks_without_trim_space_in_char() -> None:
    column = Column("c", "character(5)", "bpchar", modifier=9)
    assert rendered(column, "B    ", Rendering(trim_space_in_char=False)) == '"B    "'


def test_bytes_have_no_prefix_with_no_hex_prefix() -> None:
    assert rendered(BYTEA, r"\x80057d", Rendering(no_hex_prefix=True)) == '"80057D"'


def test_an_unbounded_varchar_is_cut_at_8000_bytes_but_not_within_a_character() -> None:
    column = Column("v", "character varying", "varchar")
    assert rendered(column, "a" * 8001, Rendering()) == '"' + "a" * 8000 + '"'
    assert rendered(column, "ab" + "€" * 3000, Rendering()) == '"ab' + "€" * 2666 + '"'
    assert rendered(column, "a" * 8001, Rendering(unbounded_varchar_bytes=9000)) == '"' + "a" * 8001 + '"'
    assert dms_type(column, Rendering(unbounded_varchar_bytes=9000)) == ("STRING", 9000)


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        (TEXT, "a" * 512, "a" * 512),
        (TEXT, "a" * 513, "a" * 512),
        (TEXT, "ö" * 512, "ö" * 512),
        (TEXT, "ö" * 513, "ö" * 512),
        (TEXT, "😀" * 513, "😀" * 512),
        (XML, "a" * 1024, "a" * 1024),
        (XML, "a" * 1025, "a" * 1024),
        (XML, "a" + "ö" * 512, "a" + "ö" * 511),
        (BYTEA, r"\x" + "ab" * 1024, "0x" + "AB" * 1024),
        (BYTEA, r"\x" + "ab" * 1025, "0x" + "AB" * 1024),
    ],
    ids=[
        "nclob",
        "nclob+1",
        "2-byte",
        "2-byte+1",
        "4-byte+1",
        "clob",
        "clob+1",
        "clob-2-byte",
        "blob",
        "blob+1",
    ],
)
def test_a_lob_is_cut_at_lob_max_size(column: Column, text: str, expected: str) -> None:
    assert rendered(column, text, ONE_KB) == f'"{expected}"'


@pytest.mark.parametrize("column", [TEXT, XML, BYTEA])
def test_a_lob_too_long_is_a_fault_with_fail_on_lob_truncation(column: Column) -> None:
    rendering = Rendering(lob_max_size_kb=1, fail_on_lob_truncation=True)
    fits = r"\x" + "ab" * 511
    assert rendered(column, fits[: 512 if column is TEXT else None], rendering)

    with pytest.raises(ValueFault, match="a value is longer than LobMaxSize, 1 KB") as fault:
        rendered(column, r"\x" + "ab" * 1025, rendering)
    assert "abab" not in str(fault.value)


def test_a_range_is_cut_at_255_characters_inferred() -> None:
    column = Column("r", "textrange", "textrange", "r")
    assert rendered(column, "[" + "a" * 300 + ",b)", Rendering()) == '"[' + "a" * 254 + '"'


def test_a_multirange_is_text_inferred() -> None:
    column = Column("m", "int4multirange", "int4multirange", "m")
    assert rendered(column, "{[1,5),[7,9)}", Rendering()) == '"{[1,5),[7,9)}"'
    assert dms_type(column, Rendering()) == ("STRING", None)


def test_an_unbounded_numeric_is_cut_not_rounded_inferred() -> None:
    column = Column("n", "numeric", "numeric")
    assert rendered(column, "0.9999999", Rendering()) == "0.999999"
    assert rendered(column, "-0.0000001", Rendering()) == "0"


@pytest.mark.parametrize(("base", "limit"), [("citext", 512), ("hstore", 512), ("xml", 1024)])
def test_a_text_type_that_not_every_server_has_is_a_lob(base: str, limit: int) -> None:
    column = Column("e", base, base)
    assert rendered(column, "a" * (limit + 1), ONE_KB) == '"' + "a" * limit + '"'
    assert dms_type(column, ONE_KB) == ("STRING", None)


def test_an_enum_called_like_a_type_is_an_enum() -> None:
    assert rendered(Column("e", "money", "money", "e"), "dear", Rendering()) == '"dear"'


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_is_read_back(text: str) -> None:
    assert json.loads(rendered(TEXT, text, Rendering())) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_double_is_read_back(value: float) -> None:
    column = Column("d", "double precision", "float8")
    assert json.loads(rendered(column, repr(value), Rendering())) == value


# --------------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------------

SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE shop.order_line (
    note text, line int, "Order Id" bigint NOT NULL, gone int, amount numeric(12,2) NOT NULL,
    doubled numeric GENERATED ALWAYS AS (amount * 2) STORED, PRIMARY KEY ("Order Id", line));
ALTER TABLE shop.order_line DROP COLUMN gone;
CREATE TABLE shop.late (id int PRIMARY KEY DEFERRABLE, name text);
CREATE TABLE shop.covered (id int, name text, PRIMARY KEY (id) INCLUDE (name));
CREATE TABLE shop.by_text (code text PRIMARY KEY);
CREATE TABLE shop.empty ();
CREATE TABLE shop.event (at date NOT NULL, id int) PARTITION BY RANGE (at);
CREATE TABLE shop.event_2026 PARTITION OF shop.event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE shop.awsdms_ddl_audit (c_key int PRIMARY KEY);
CREATE TABLE shop.unwanted (id int PRIMARY KEY);
CREATE VIEW shop.lines AS SELECT * FROM shop.order_line;
CREATE MATERIALIZED VIEW shop.totals AS SELECT 1 AS one;
CREATE TEMPORARY TABLE scratch (id int);
"""


@pytest.fixture(scope="module")
def shop(connection: Any) -> dict[str, SourceTable]:
    run(connection, SCHEMA)
    found = read_tables(connection, lambda schema, name: schema == "shop" and name != "unwanted")
    assert found == sorted(found, key=lambda table: (table.schema, table.name))
    return {table.name: table for table in found}


def test_tables_are_those_selected_that_hold_rows(shop: dict[str, SourceTable]) -> None:
    assert [*shop] == ["by_text", "covered", "empty", "event_2026", "late", "order_line"]


def test_columns_are_in_order_without_dropped_and_generated_ones(shop: dict[str, SourceTable]) -> None:
    table = shop["order_line"]
    assert [column.name for column in table.columns] == ["note", "line", "Order Id", "amount"]
    assert table.left_out == ("doubled",)
    assert table.nullable == {"note", "doubled"}
    assert table.columns[3].precision_and_scale == (12, 2)


def test_the_primary_key_is_in_the_order_of_its_index(shop: dict[str, SourceTable]) -> None:
    assert shop["order_line"].primary_key == ("Order Id", "line")
    assert shop["covered"].primary_key == ("id",)


def test_a_deferrable_primary_key_is_none(shop: dict[str, SourceTable]) -> None:
    assert shop["late"].primary_key == ()
    assert shop["event_2026"].primary_key == ()


def test_a_table_without_columns_is_one(shop: dict[str, SourceTable]) -> None:
    assert shop["empty"].columns == ()


def test_a_key_of_lob_type_is_not_migrated(shop: dict[str, SourceTable]) -> None:
    assert shop["by_text"].why_not_migrated == "primary key column 'code' is a LOB for DMS"
    assert shop["order_line"].why_not_migrated == ""


# --------------------------------------------------------------------------------------------------------


def run(connection: Any, statements: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statements)


def copied(connection: Any, table: str) -> list[list[bytes]]:
    """The rows as COPY writes them, none of their values NULL."""
    rows = io.BytesIO()
    with connection.cursor() as cursor:
        cursor.copy_expert(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table)), rows)
    return [[unescaped(value) for value in line.split(b"\t")] for line in rows.getvalue().splitlines()]


def unescaped(value: bytes) -> bytes:
    plain = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
    first, *rest = value.replace(b"\\\\", b"\\\0").split(b"\\")
    return b"".join(
        [first, *(b"\\" + one[1:] if one[:1] == b"\0" else plain[one[:1]] + one[1:] for one in rest)]
    )
