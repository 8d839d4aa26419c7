"""lake_tools.parquet: what DMS's values are in Parquet, and what becomes of one that is not of its type.

PARQUET_HISTORIES=1000 makes that many random tables.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import BUCKET, shared_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parquet_support import Landing, column, read_by_all, stored_types

from lake_tools.bucket import Lake
from lake_tools.dialects import literal
from lake_tools.settings import LakeSettings

HISTORIES = int(os.environ.get("PARQUET_HISTORIES", "4"))
ID = column("id", "integer", "INT32")
NAIVE, ZONED = "timestamp without time zone", "timestamp with time zone"
DIGITS_38 = "12345678901234567890123456789012345678"
LONG = "x" * 1_000_000


@pytest.fixture
def landing(s3: Any, tmp_path: Path) -> Landing:
    lake = Lake(LakeSettings(s3_bucket=BUCKET), shared_session(), tmp_path / "cache")
    return Landing(lake, s3)


@dataclass(frozen=True)
class Kind:
    """A type of PostgreSQL and of Parquet; accepted: JSON, and the value; refused: what it does not take."""

    declared: str
    dms: str
    stored: str
    accepted: dict[str, str | None]
    refused: list[str] = field(default_factory=list)


TEXT_BY_NOW = ['"007"', '"+49"', '" 5"', '"0x10"', '".5"']  # a cast takes them, and drops a part
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
        ["32768", "-32769", "5.5", "1.55e1", "1e400", *TEXT_BY_NOW, *NOT_NUMBERS],
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
        ["1e39", "1e-50", "16777217", "0.30000000000000004", "1e400", *TEXT_BY_NOW, '"abc"', '""', "true"],
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
        ["46.575", "1e-5", "4.6575e1", "12345678901", "1e+15", '"Infinity"', *TEXT_BY_NOW, *NOT_NUMBERS],
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
        [
            "1e-11",
            "1.5e-11",
            "1.2345678901234567891e+8",
            "0.00000000012",
            "1234567890123456789012345678.12345678919",
        ],
    ),
    Kind(
        "numeric",
        "DECIMAL",
        "decimal128(38, 15)",
        {
            "0.611111": "0.611111000000000",
            "12345678901234567890123.5": "12345678901234567890123.500000000000000",
        },
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
            "null": None,
        },
        ['"maybe"', '""', "1", "0", '"1"', "2", "0.5", "[]"],
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
            '"2026-03-01T00:00:00Z"': "2026-03-01",  # it was an instant
            '"5874897-12-31"': "5874897-12-31",
            "null": None,
        },
        [
            '"2018-02-30"',
            '"2018-13-01"',
            '"2018-01-02T10:00:00Z"',
            '"infinity"',
            '"tomorrow"',
            '""',
            "20180102",
        ],
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


@pytest.mark.parametrize(
    ("declared", "text", "shown"),
    [
        ("uuid", "A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("uuid", "nobody", None),
        ("time without time zone", "08:30:00.500000", "08:30:00.5"),
        ("time without time zone", "08:30:00.123456789", None),
        ("time with time zone", "08:30:00+02", "08:30:00+02"),
        ("time with time zone", "25:00:00+02", None),
    ],
)
def test_uuids_and_times_are_text_in_parquet_and_themselves_in_the_views(
    landing: Landing, declared: str, text: str, shown: str | None
) -> None:
    landing.publish([ID, column("x", declared)])
    landing.land(9, f'"id":1,"x":"{text}"')

    landing.compact()

    assert stored_types(landing.file(9))["x"] == "string"
    assert [row["x"] for row in read_by_all(landing.file(9))] == [text]
    rescued = None if shown else f'{{"x":"{text}"}}'
    assert landing.shown(columns=["x", "cdc_rescued"]) == [(shown, rescued)]


def test_an_odd_value_costs_only_its_column_in_its_row(landing: Landing) -> None:
    landing.publish(
        [ID, column("amount", "numeric(12,2)", "DECIMAL"), column("paid_on", "date"), column("note", "text")]
    )
    landing.land(
        9,
        '"id":1,"amount":1.5,"paid_on":"2026-03-01","note":"a"',
        '"id":2,"amount":46.575,"paid_on":"2026-03-02","note":"b"',
        '"id":3,"amount":"many","paid_on":"soon","note":"c"',
        '"id":4,"paid_on":null,"note":"d"',
    )

    outcome = landing.compact()

    assert outcome.rescued == {"amount": 2, "paid_on": 1}
    assert outcome.unknown == []
    assert landing.shown(columns=["id", "amount", "paid_on", "note", "cdc_rescued"]) == [
        ("1", "1.50", "2026-03-01", "a", None),
        ("2", None, "2026-03-02", "b", '{"amount":46.575}'),
        ("3", None, None, "c", '{"amount":"many","paid_on":"soon"}'),
        ("4", None, None, "d", None),
    ]


UNKNOWN = '"x":5.50,"note":"a, \\"x\\":7","at":"2026-03-01T09:16:10.480010Z"'
LATER = [
    ID,
    column("x", "numeric(12,4)", "DECIMAL"),
    column("note", "text"),
    column("at", ZONED, "TIMESTAMP"),
]
HEALED = [("1", "5.5000", 'a, "x":7', "2026-03-01 09:16:10.48001+00", None), ("2", None, None, None, None)]


@pytest.mark.parametrize("has_schema", [True, False])
def test_columns_that_the_schema_does_not_know_are_rescued_until_it_does(
    landing: Landing, has_schema: bool
) -> None:
    if has_schema:
        landing.publish([ID])
    landing.land(9, f'"id":1,{UNKNOWN}', '"id":2')

    outcome = landing.compact()

    rescued = UNKNOWN if has_schema else f'"id":1,{UNKNOWN}'
    assert outcome.has_schema == has_schema
    assert outcome.unknown == (["at", "note", "x"] if has_schema else ["at", "id", "note", "x"])
    rows = read_by_all(landing.file(9))
    assert [json.loads(row["cdc_rescued"]) for row in rows if row["cdc_rescued"]][:1] == [
        json.loads("{" + rescued + "}")
    ]
    landing.publish(LATER)
    columns = ["id", "x", "note", "at", "cdc_rescued"]
    assert landing.shown(columns=columns) == HEALED
    assert "x" not in stored_types(landing.file(9))

    outcome = landing.compact(rebuild=True)

    assert (outcome.rescued, outcome.unknown) == ({}, [])
    assert landing.shown(columns=columns) == HEALED
    assert {row["cdc_rescued"] for row in read_by_all(landing.file(9))} == {None}
    assert [str(row["x"]) for row in read_by_all(landing.file(9))] == ["5.5000", "None"]


@pytest.mark.parametrize(
    ("known", "rescued"),
    [
        (["x"], '{"at":"2026-03-01T09:16:10.480010Z","note":"a, \\"x\\":7"}'),
        (["note"], '{"at":"2026-03-01T09:16:10.480010Z","x":5.50}'),
        (["at", "x"], '{"note":"a, \\"x\\":7"}'),
        (["at", "note"], '{"x":5.50}'),
    ],
    ids=lambda one: "+".join(one) if isinstance(one, list) else "",
)
def test_what_the_schema_still_does_not_know_stays_rescued(
    landing: Landing, known: list[str], rescued: str
) -> None:
    landing.publish([ID])
    landing.land(9, f'"id":1,{UNKNOWN}')
    landing.compact()

    landing.publish([ID, *(one for one in LATER if one.name in known)])

    assert landing.shown(columns=["cdc_rescued"]) == [(rescued,)]


def test_a_value_that_dms_never_nests_is_kept_as_json_with_numbers_as_doubles(landing: Landing) -> None:
    landing.publish([ID, column("x", "integer", "INT32"), column("note", "text")])
    landing.land(9, '"id":1,"x":{"a": [1, 2.50]},"note":[1,  2],"more":{"b":{}}')

    landing.compact()

    assert landing.shown(columns=["x", "note", "cdc_rescued"]) == [
        (None, "[1,2]", '{"x":{"a":[1,2.5]},"more":{"b":{}}}')
    ]


@pytest.mark.parametrize(
    "name",
    ["json", "line", "number", "shard", "first_row", "rowid", "history", "moment", "value", "cdc_x"],
)
def test_a_column_may_have_any_name(landing: Landing, name: str) -> None:
    landing.publish([ID, column(name, "text", is_lob=True)])
    landing.land(9, f'"id":1,"{name}":"a"')
    landing.land(9, f'"id":1,"{name}":null', operation="update")
    landing.land_again()

    for _ in range(2):
        assert landing.shown("current", ["id", name, "cdc_rescued"]) == [("1", "a", None)]
        assert landing.shown("history", ["id", name]) == [("1", "a"), ("1", None)]
        landing.compact()


# Any table ------------------------------------------------------------------------------------------------

# Of each type values as DMS writes them, and a few that it would write of another.
VALUES = {
    "smallint": ["0", "-32768", "32767", "40000", "1.5", '"abc"'],
    "bigint": ["9223372036854775807", "1e+15", "-1", "0.5", '""'],
    "real": ["2.20000005", "-0.5", "3.40282347e+38", "0.1234567890123", '"x"'],
    "double precision": ["0.30000000000000004", "5", "1e-05", "1e400", "true"],
    "numeric(12,2)": ["46.5", "-0.01", "5", "46.575", '"a,b"', "1e-5"],
    "numeric(38,10)": [f"{DIGITS_38[:28]}.1234567891", "1e-10", '"7.25"', "1e-11"],
    "boolean": ["true", "false", '"t"', '"f"', '"maybe"', "7"],
    "date": ['"2018-01-02"', '"0044-03-15 BC"', '"9999-12-31"', '"2018-02-30"', '"2018-01-02T10:00:00Z"'],
    NAIVE: ['"2010-11-01T00:02:00Z"', '"4713-01-01T00:00:00Z BC"', '"2010-11-01"', '"x\\"},{"', "5"],
    ZONED: ['"2010-11-01T00:02:00.480010Z"', '"10000-01-01T00:00:00Z"', '"infinity"'],
    "bytea": ['"80057D"', '"0x"', '""', '"808"', "true"],
    "uuid": ['"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"', '"no, one"'],
    "time without time zone": ['"08:30:00.5"', '"x"'],
    "text": ['""', '"a\\u0000b"', '"{\\"x\\":1,"', '"\\\\"', '"Õ, \\"é\\":2"', "5.50", "true"],
}
NAMES = ["x", "X", "é", 'a "b"', "a.b", "c,d", "note"]
DMS = {kind.declared: kind.dms for kind in KINDS} | {"uuid": "STRING", "time without time zone": "TIME64"}
EVERY_VALUE = [one for texts in VALUES.values() for one in texts]
# In Parquet these are texts, so a number that is none of them is rescued as one.
QUOTED = ("uuid", "time without time zone")


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str], list[list[str]]]:
    """The columns; those that are known at first; the rows of three hours, with others too."""
    columns = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*VALUES]), max_size=5))
    known = {name: kind for name, kind in columns.items() if draw(st.booleans())}
    hours = []
    for hour in range(3):
        rows = []
        for place in range(draw(st.integers(1, 3))):
            names = draw(st.lists(st.sampled_from(NAMES), unique=True))
            members = {name: draw(values_of(columns.get(name, "text"))) for name in names}
            members |= {"id": str(10 * hour + place)}
            rows.append(",".join(f"{json.dumps(name)}:{text}" for name, text in members.items()))
        hours.append(rows)
    return columns, known, hours


def values_of(kind: str) -> st.SearchStrategy[str]:
    odd = [one for one in EVERY_VALUE if one[0] == '"' or kind not in QUOTED]
    return st.one_of(st.just("null"), *[st.sampled_from(VALUES[kind])] * 3, st.sampled_from(odd))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=HISTORIES)
@given(table=tables())
def test_views_show_the_same_of_lines_and_of_parquet(landing: Landing, table: Any) -> None:
    columns, known, hours = (
        [ID, *(column(name, kind, DMS[kind]) for name, kind in part.items())]
        if isinstance(part, dict)
        else part
        for part in table
    )
    landing.clear()
    for hour, rows in enumerate(hours):
        landing.land(hour, *rows)
    landing.publish(known)
    shown_at_first = comparable(landing)
    landing.publish(columns)
    shown = comparable(landing)

    landing.publish(known)
    landing.compact(before=2)
    assert comparable(landing) == shown_at_first
    landing.publish(columns)
    assert comparable(landing) == shown
    landing.compact()
    assert comparable(landing) == shown
    landing.compact(rebuild=True)
    assert comparable(landing) == shown


def comparable(landing: Landing) -> list[tuple[Any, ...]]:
    """The rows of the history; cdc_rescued taken apart, with numbers as they are written."""
    return [
        (*values, json.loads(rescued, parse_float=str, parse_int=str) if rescued else None)
        for *values, rescued in landing.shown()
    ]
