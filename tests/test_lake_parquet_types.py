"""lake_tools.parquet: what a value that DMS wrote is in Parquet, and what becomes of one that is not of its type.

PARQUET_HISTORIES=1000 makes that many random tables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest
from conftest import BUCKET
from parquet_support import Landing, column, read_by_all, stored_types

from lake_tools.bucket import Lake
from lake_tools.dialects import literal
from lake_tools.settings import LakeSettings

ID = column("id", "integer", "INT32")
NAIVE, ZONED = "timestamp without time zone", "timestamp with time zone"
DIGITS_38 = "12345678901234567890123456789012345678"
LONG = "x" * 1_000_000


@pytest.fixture
def landing(s3: Any, tmp_path: Path) -> Landing:
    lake = Lake(LakeSettings(s3_bucket=BUCKET), boto3.Session(), tmp_path / "cache")
    return Landing(lake, s3)


@dataclass(frozen=True)
class Kind:
    """A type of PostgreSQL and of Parquet; accepted: DMS's JSON, and the value; refused: what it does not take."""

    declared: str
    dms: str
    stored: str
    accepted: dict[str, str | None]
    refused: list[str] = field(default_factory=list)


NOT_NUMBERS = ['"abc"', '""', "true", '{"a":1}', "[1,2]", '"NaN "']
INSTANTS: dict[str, str | None] = {
    '"2010-11-01T00:02:00Z"': "2010-11-01 00:02:00+00",
    '"2010-11-01T00:02:00.100000Z"': "2010-11-01 00:02:00.1+00",
    '"2010-11-01T00:02:00.123456Z"': "2010-11-01 00:02:00.123456+00",
    '"2010-11-01T00:02:00.123456000Z"': "2010-11-01 00:02:00.123456+00",
    '"1969-12-31T23:59:59.999999Z"': "1969-12-31 23:59:59.999999+00",
    '"9999-12-31T23:59:59Z"': "9999-12-31 23:59:59+00",  # infinity
    '"4713-01-01T00:00:00Z BC"': "4713-01-01 (BC) 00:00:00+00",  # -infinity
    '"0044-03-15T12:00:00.500000Z BC"': "0044-03-15 (BC) 12:00:00.5+00",
    '"0001-01-01T00:00:00Z"': "0001-01-01 00:00:00+00",
    '"10000-01-01T00:00:00Z"': "10000-01-01 00:00:00+00",
    '"2010-11-01"': "2010-11-01 00:00:00+00",  # it was a date
    '"2010-11-01T00:02:00+02:00"': "2010-10-31 22:02:00+00",
    "null": None,
}
NO_INSTANTS = [
    '"2010-11-01T00:02:00.123456789Z"',
    '"2010-02-30T00:00:00Z"',
    '"2010-11-01T25:00:00Z"',
    '"2010-11-01T00:00:60Z"',
    '"294276-12-31T23:59:59.999999Z"',
    '"infinity"',
    '"-infinity"',
    '"now"',
    '""',
    "1288569600",
]
KINDS = [
    Kind(
        "smallint",
        "INT16",
        "int16",
        {"5": "5", "-0": "0", "5.0": "5", '"5"': "5", "1e3": "1000", "-32768": "-32768", "null": None},
        ["32768", "-32769", "5.5", "1.55e1", "9223372036854775808", "1e400", *NOT_NUMBERS],
    ),
    Kind(
        "integer",
        "INT32",
        "int32",
        {"2147483647": "2147483647", "-2147483648": "-2147483648", "1.5E+1": "15"},
        ["2147483648", "0.1", *NOT_NUMBERS],
    ),
    Kind(
        "bigint",
        "INT64",
        "int64",
        {
            "9223372036854775807": "9223372036854775807",
            "-9223372036854775808": "-9223372036854775808",
            "9007199254740993": "9007199254740993",
            "9.2233720368547758e+18": "9223372036854775800",
            "1e+15": "1000000000000000",
        },
        ["9223372036854775808", "9.3e+18", "1.5", *NOT_NUMBERS],
    ),
    Kind(
        "real",
        "FLOAT",
        "float",
        {
            "2.20000005": "2.2",
            "2.2": "2.2",
            "3.40282347e+38": "3.4028235e+38",
            "1e-45": "1e-45",
            "16777216": "16777216.0",
            "-0": "0.0",
            "-0.0": "-0.0",
            '"NaN"': "nan",
            "null": None,
        },
        ["1e39", "1e-50", "16777217", "0.30000000000000004", "1e400", '"abc"', '""', "true"],
    ),
    Kind(
        "double precision",
        "DOUBLE",
        "double",
        {
            "0.30000000000000004": "0.30000000000000004",
            "20.199999999999999": "20.2",
            "5": "5.0",
            "1e-05": "1e-05",
            "1.7976931348623157e+308": "1.7976931348623157e+308",
            '"-Infinity"': "-inf",
        },
        ["1e400", "9007199254740993", "12345678901234567890.12", "0.30000000000000004441", '"abc"', "false"],
    ),
    Kind(
        "numeric(12,2)",
        "DECIMAL",
        "decimal128(12, 2)",
        {
            "46.5": "46.50",
            "46.570": "46.57",
            '"46.5"': "46.50",
            "-0": "0.00",
            "1e-2": "0.01",
            "4.65e+1": "46.50",
            "9999999999.99": "9999999999.99",
            "-9999999999.99": "-9999999999.99",
            "null": None,
        },
        ["46.575", "1e-5", "4.6575e1", "12345678901", "1e+15", '"NaN"', '"Infinity"', '"abc"', '""', "true"],
    ),
    Kind(
        "numeric(38,0)",
        "DECIMAL",
        "decimal128(38, 0)",
        {
            DIGITS_38: DIGITS_38,
            f'"-{DIGITS_38}"': f"-{DIGITS_38}",
            "99999999999999999999999999999999999999": "99999999999999999999999999999999999999",
            "1.2345678901234567e+30": "1234567890123456700000000000000",
        },
        ["100000000000000000000000000000000000000", "1e38", "1.5", "1e-5"],
    ),
    Kind(
        "numeric(38,10)",
        "DECIMAL",
        "decimal128(38, 10)",
        {
            "1234567890123456789012345678.1234567891": "1234567890123456789012345678.1234567891",
            "1e-5": "0.0000100000",
            "1e-10": "0.0000000001",
            "1.2345678901234567891e+9": "1234567890.1234567891",
        },
        ["1e-11", "1.5e-11", "1.2345678901234567891e+8", "0.00000000012", "1234567890123456789012345678.12345678919"],
    ),
    Kind(
        "numeric",
        "DECIMAL",
        "decimal128(38, 15)",
        {"0.611111": "0.611111000000000", "12345678901234567890123.5": "12345678901234567890123.500000000000000"},
        ["123456789012345678901234.5", "1e-16", "1.1234567890123456"],
    ),
    Kind("numeric(39,1)", "STRING", "string", {f'"{DIGITS_38}9.5"': f"{DIGITS_38}9.5"}),
    Kind("numeric(2,5)", "DECIMAL", "decimal128(5, 5)", {"0.00012": ".00012"}, ["1e-5", "0.000001"]),
    Kind("money", "DECIMAL", "decimal128(38, 4)", {"-1234.5": "-1234.5000"}, ["0.00001"]),
    Kind(
        "boolean",
        "BOOL",
        "bool",
        {
            "true": "true",
            "false": "false",
            '"t"': "true",
            '"f"': "false",
            '"true"': "true",
            '"false"': "false",
            '"1"': "true",
            "0": "false",
            "null": None,
        },
        ['"maybe"', '""', "2", "0.5", "[]"],
    ),
    Kind(
        "date",
        "DATE32",
        "date32[day]",
        {
            '"2018-01-02"': "2018-01-02",
            '"9999-12-31"': "9999-12-31",  # infinity
            '"4713-01-01 BC"': "4713-01-01 (BC)",  # -infinity
            '"0044-03-15 BC"': "0044-03-15 (BC)",
            '"0001-01-01"': "0001-01-01",
            '"5874897-12-31"': "5874897-12-31",
            "null": None,
        },
        ['"2018-02-30"', '"2018-13-01"', '"2018-01-02T10:00:00Z"', '"infinity"', '"tomorrow"', '""', "20180102"],
    ),
    Kind(NAIVE, "TIMESTAMP", "timestamp[us, tz=UTC]", INSTANTS, NO_INSTANTS),
    Kind(ZONED, "TIMESTAMP", "timestamp[us, tz=UTC]", INSTANTS, NO_INSTANTS),
    Kind(
        "bytea",
        "BINARY",
        "binary",
        {
            '"80057D"': "\\x80\\x05}",
            '"80057d"': "\\x80\\x05}",
            '"0x80057D"': "\\x80\\x05}",
            '""': "",
            '"0x"': "",
            "null": None,
        },
        ['"808"', '"0x808"', '"ZZ"', '"0X80"', '"\\\\x80"', "true"],
    ),
    Kind(
        "text",
        "STRING",
        "string",
        {
            '""': "",
            '" x "': " x ",
            '"a\\u0000b"': "a\x00b",
            '"Олена \\"x\\" \\\\ \\/\\n\\t\\u0001\x7f"': 'Олена "x" \\ /\n\t\x01\x7f',
            '"\\ud83d\\ude00"': "😀",
            '"null"': "null",
            f'"{LONG}"': LONG,
            "5.50": "5.50",  # it was a number
            "1E-5": "1E-5",
            f"{DIGITS_38}.1234567890": f"{DIGITS_38}.1234567890",
            '"5.50"': "5.50",
            "true": "true",
            "null": None,
        },
    ),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.declared)
def test_values_in_parquet_are_what_dms_wrote_or_in_cdc_rescued(landing: Landing, kind: Kind) -> None:
    texts = [*kind.accepted, *kind.refused]
    landing.publish([ID, column("x", kind.declared, kind.dms)])
    landing.land(9, *(f'"id":{place},"x":{text}' for place, text in enumerate(texts)))
    shown = landing.shown()

    outcome = landing.compact()

    assert stored_types(landing.file(9))["x"] == kind.stored
    assert values_in(landing.file(9), texts) == [
        *((text, value, None) for text, value in kind.accepted.items()),
        *((text, None, f'{{"x":{text}}}') for text in kind.refused),
    ]
    assert outcome.rescued == ({"x": len(kind.refused)} if kind.refused else {})
    read_by_all(landing.file(9))
    assert landing.shown() == shown


def values_in(path: Path, texts: list[str]) -> list[tuple[str, str | None, str | None]]:
    """For each of the texts, x as DuckDB writes it, and cdc_rescued."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        query = f"SELECT CAST(x AS VARCHAR), cdc_rescued FROM {literal(str(path))} ORDER BY id"
        found = connection.execute(query).fetchall()
    return [(text, *row) for text, row in zip(texts, found, strict=True)]
