"""A table that is altered while the chain runs: files before and after, together, show what the lines show.

Each change is a list of phases: the columns of the schema, and what lands while it is so, an hour each.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import sqlglot
from conftest import BUCKET, shared_session
from events import record
from parquet_support import Landing, column, unions
from postgresql_types import start_complete_postgres
from replication_support import Database, Stream, played, task_configuration

import lambda_function
from lake_tools import schemas
from lake_tools.bucket import Lake
from lake_tools.dialects import Athena
from lake_tools.parquet_columns import StoredColumn, read_columns
from lake_tools.schemas import LakeColumn
from lake_tools.settings import LakeSettings
from lake_tools.sql import parquet_table
from lake_tools.verify import verify
from lake_tools.views import Shape
from local_run.postgres import Server

NAIVE, ZONED = "timestamp without time zone", "timestamp with time zone"
DMS = {
    "smallint": "INT16",
    "integer": "INT32",
    "bigint": "INT64",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "boolean": "BOOL",
    "date": "DATE32",
    NAIVE: "TIMESTAMP",
    ZONED: "TIMESTAMP",
    "bytea": "BINARY",
}


@dataclass(frozen=True)
class Phase:
    columns: dict[str, str]  # {"id": "integer"}; the first is the key
    rows: list[str]  # inserts, one an object
    updates: tuple[str, ...] = ()
    key: tuple[str, ...] = ()

    @property
    def lake_columns(self) -> list[LakeColumn]:
        return [
            column(
                name, declared, "DECIMAL" if declared.startswith("numeric") else DMS.get(declared, "STRING")
            )
            for name, declared in self.columns.items()
        ]


@dataclass(frozen=True)
class Change:
    name: str
    phases: list[Phase]
    current: list[tuple[str | None, ...]]  # the columns at last, and cdc_rescued
    stored: list[str]  # the columns of Parquet after all of them
    # Where Parquet of a former type can't tell what DMS had written.
    otherwise: dict[str | None, str | None] | None = None


def retyped(name: str, before: str, after: str, old: str, new: str, shown: list[Any], **more: Any) -> Change:
    """A column x that gets another type; then a row comes with a value of it."""
    phases = [
        Phase({"id": "integer", "x": before}, [f'"id":1,"x":{old}', '"id":2,"x":null']),
        Phase({"id": "integer", "x": after}, [f'"id":3,"x":{new}']),
    ]
    rows = [("1", *shown[0]), ("2", None, None), ("3", *shown[1])]
    return Change(name, phases, rows, more.pop("stored", ["id", "x", "x_v2"]), **more)


CHANGES = [
    Change(
        "a column is added",
        [
            Phase({"id": "integer"}, ['"id":1', '"id":2']),
            Phase({"id": "integer", "x": "text"}, ['"id":3,"x":"c"'], ('"id":2,"x":"b"',)),
        ],
        [("1", None, None), ("3", "c", None), ("2", "b", None)],
        ["id", "x"],
    ),
    Change(
        "a column is dropped",
        [
            Phase({"id": "integer", "x": "numeric(12,2)", "y": "text"}, ['"id":1,"x":5.5,"y":"a"', '"id":2']),
            Phase({"id": "integer", "y": "text"}, ['"id":3,"y":"c"'], ('"id":2,"y":"b"',)),
        ],
        [("1", "a", '{"x":5.5}'), ("3", "c", None), ("2", "b", None)],
        ["id", "x", "y"],
    ),
    Change(
        "a column is renamed",
        [
            Phase({"id": "integer", "x": "text"}, ['"id":1,"x":"a"', '"id":2,"x":"b"']),
            Phase({"id": "integer", "y": "text"}, ['"id":3,"y":"c"'], ('"id":2,"y":"b"',)),
        ],
        [("1", None, '{"x":"a"}'), ("3", "c", None), ("2", "b", None)],
        ["id", "x", "y"],
    ),
    retyped(
        "smallint to bigint",
        "smallint",
        "bigint",
        "-5",
        "9007199254740993",
        [("-5", None), ("9007199254740993", None)],
        stored=["id", "x"],
    ),
    retyped(
        "integer to smallint",
        "integer",
        "smallint",
        "40000",
        "5",
        [(None, '{"x":40000}'), ("5", None)],
        stored=["id", "x"],
    ),
    retyped(
        "real to double precision",
        "real",
        "double precision",
        "2.20000005",
        "0.30000000000000004",
        [("2.20000005", None), ("0.30000000000000004", None)],
        stored=["id", "x"],
        otherwise={"2.20000005": "2.200000047683716"},  # as PostgreSQL has it, too
    ),
    retyped(
        "numeric to a finer one",
        "numeric(12,2)",
        "numeric(14,4)",
        "46.5",
        "46.5755",
        [("46.5000", None), ("46.5755", None)],
    ),
    retyped(
        "numeric to a coarser one",
        "numeric(14,4)",
        "numeric(12,2)",
        "46.5755",
        "46.57",
        [(None, '{"x":46.5755}'), ("46.57", None)],
    ),
    retyped(
        "numeric below one to text", "numeric(2,2)", "text", "0.25", '"a"', [("0.25", None), ("a", None)]
    ),
    retyped(
        "numeric to double precision",
        "numeric(38,10)",
        "double precision",
        "12345678901234567890.12",
        "0.5",
        [(None, '{"x":12345678901234567890.12}'), ("0.5", None)],
    ),
    retyped(
        "double precision to integer", "double precision", "integer", "5", "7", [("5", None), ("7", None)]
    ),
    retyped(
        "double precision to numeric",
        "double precision",
        "numeric(12,2)",
        "0.125",
        "7",
        [(None, '{"x":0.125}'), ("7.00", None)],
    ),
    retyped("integer to text", "integer", "text", "5", '"five"', [("5", None), ("five", None)]),
    retyped("real to text", "real", "text", "2.20000005", '"five"', [("2.20000005", None), ("five", None)]),
    retyped("text to integer", "text", "integer", '"7"', "8", [("7", None), ("8", None)]),
    retyped(
        "text that is no number to integer",
        "text",
        "integer",
        '"a, \\"b\\""',
        "8",
        [(None, '{"x":"a, \\"b\\""}'), ("8", None)],
    ),
    retyped("boolean to text", "boolean", "text", "true", '"five"', [("true", None), ("five", None)]),
    retyped("boolean to integer", "boolean", "integer", "false", "1", [(None, '{"x":false}'), ("1", None)]),
    retyped(
        "timestamp to timestamptz",
        NAIVE,
        ZONED,
        '"2026-03-01T09:16:10.480010Z"',
        '"2026-03-01T10:00:00Z"',
        [("2026-03-01 09:16:10.48001+00", None), ("2026-03-01 10:00:00+00", None)],
        stored=["id", "x"],
    ),
    retyped(
        "date to timestamptz",
        "date",
        ZONED,
        '"0044-03-15 BC"',
        '"2026-03-01T10:00:00Z"',
        [("0044-03-15 (BC) 00:00:00+00", None), ("2026-03-01 10:00:00+00", None)],
    ),
    retyped(
        "timestamp to date",
        NAIVE,
        "date",
        '"0044-03-15T12:00:00.500000Z BC"',
        '"2026-03-01"',
        [(None, '{"x":"0044-03-15T12:00:00.500000Z BC"}'), ("2026-03-01", None)],
    ),
    retyped(
        "timestamptz to text",
        ZONED,
        "text",
        '"2026-03-01T09:16:10Z"',
        '"now"',
        [("2026-03-01T09:16:10Z", None), ("now", None)],
    ),
    retyped("bytea to text", "bytea", "text", '"80057D"', '"a"', [("80057D", None), ("a", None)]),
    retyped(
        "uuid to text",
        "uuid",
        "text",
        '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"',
        '"a"',
        [("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", None), ("a", None)],
        stored=["id", "x"],
    ),
    Change(
        "a type is changed and changed back",
        [
            Phase({"id": "integer", "x": "integer"}, ['"id":1,"x":5']),
            Phase({"id": "integer", "x": "text"}, ['"id":2,"x":"6"', '"id":3,"x":"a"']),
            Phase({"id": "integer", "x": "integer"}, ['"id":4,"x":7']),
        ],
        [("1", "5", None), ("2", "6", None), ("3", None, '{"x":"a"}'), ("4", "7", None)],
        ["id", "x", "x_v2"],
    ),
    Change(
        "real becomes double precision and real again",
        [
            Phase({"id": "integer", "x": "real"}, ['"id":1,"x":2.20000005']),
            Phase({"id": "integer", "x": "double precision"}, ['"id":2,"x":0.30000000000000004']),
            Phase({"id": "integer", "x": "real"}, ['"id":3,"x":1.10000002']),
        ],
        [("1", "2.2", None), ("2", None, '{"x":0.30000000000000004}'), ("3", "1.1", None)],
        ["id", "x"],
    ),
    Change(
        "a column is dropped and added again with another type",
        [
            Phase({"id": "integer", "x": "integer"}, ['"id":1,"x":5']),
            Phase({"id": "integer"}, ['"id":2']),
            Phase({"id": "integer", "x": "date"}, ['"id":3,"x":"2026-03-01"']),
        ],
        [("1", None, '{"x":5}'), ("2", None, None), ("3", "2026-03-01", None)],
        ["id", "x", "x_v2"],
    ),
    Change(
        "the primary key is changed",
        [
            Phase({"id": "integer", "area": "text"}, ['"id":1,"area":"a"', '"id":2,"area":"b"']),
            Phase({"id": "integer", "area": "text"}, ['"id":1,"area":"b"'], key=("area", "id")),
        ],
        [("1", "a", None), ("2", "b", None), ("1", "b", None)],
        ["id", "area"],
    ),
    Change(
        "the key's column is renamed",
        [
            Phase({"id": "integer", "x": "text"}, ['"id":1,"x":"a"']),
            Phase({"key": "integer", "x": "text"}, ['"key":2,"x":"b"']),
        ],
        [(None, "a", '{"id":1}'), ("2", "b", None)],
        ["id", "x", "key"],
    ),
    Change(
        "the key's column is retyped",
        [
            Phase({"id": "integer", "x": "text"}, ['"id":1,"x":"a"', '"id":2,"x":"b"']),
            Phase({"id": "text", "x": "text"}, ['"id":"c","x":"c"'], ('"id":"2","x":"B"',)),
        ],
        [("1", "a", None), ("c", "c", None), ("2", "B", None)],
        ["id", "x", "id_v2"],
    ),
    Change(
        "a column comes that differs by case alone",
        [
            Phase({"id": "integer", "x": "integer"}, ['"id":1,"x":5']),
            Phase({"id": "integer", "x": "integer", "X": "text"}, ['"id":2,"x":6,"X":"a"']),
        ],
        [("1", "5", None, None), ("2", "6", "a", None)],
        ["id", "x", "X_v2"],
    ),
    Change(
        "columns have names that Athena does not take",
        [
            Phase({"id": "integer", "a.b": "integer", "Õie": "text"}, ['"id":1,"a.b":5,"Õie":"a"']),
            Phase(
                {"id": "integer", "a.b": "integer", "Õie": "text", "a b": "text", "cdc_lsn_": "text"},
                ['"id":2,"a.b":6,"Õie":"b","a b":"c","cdc_lsn_":"d"'],
            ),
        ],
        [("1", "5", "a", None, None, None), ("2", "6", "b", "c", "d", None)],
        ["id", "a_b", "_ie", "a_b_v2", "cdc_lsn_"],
    ),
]


@pytest.fixture
def landing(s3: Any, tmp_path: Path) -> Landing:
    lake = Lake(LakeSettings(s3_bucket=BUCKET), shared_session(), tmp_path / "cache")
    return Landing(lake, s3)


def publish(landing: Landing, phase: Phase) -> None:
    columns = phase.lake_columns
    landing.publish(columns, phase.key or [columns[0].name])


def land(landing: Landing, phases: list[Phase]) -> None:
    for hour, phase in enumerate(phases):
        for operation, rows in (("insert", phase.rows), ("update", phase.updates)):
            for row in rows:
                landing.land(hour, row, operation=operation)


def views(landing: Landing) -> list[list[tuple[Any, ...]]]:
    return [
        [(*values, json.loads(rescued) if rescued else None) for *values, rescued in rows]
        for rows in landing.shown_by("history", "changes", "current")
    ]


def as_parquet_has_it(expected: list[list[tuple[Any, ...]]], change: Change) -> list[list[tuple[Any, ...]]]:
    def former(value: Any) -> Any:
        return (change.otherwise or {}).get(value, value) if isinstance(value, str) else value

    return [[tuple(map(former, row)) for row in rows] for rows in expected]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_files_before_and_after_a_change_show_what_the_lines_show(landing: Landing, change: Change) -> None:
    land(landing, change.phases)
    publish(landing, change.phases[-1])
    names = [*change.phases[-1].columns, "cdc_rescued"]
    names = ["X_2" if name == "X" else name for name in names]  # DuckDB takes them for one name
    assert landing.shown("current", names) == change.current
    expected = views(landing)

    for hour, phase in enumerate(change.phases):
        publish(landing, phase)
        landing.compact(before=hour + 1)
        publish(landing, change.phases[-1])
        assert views(landing) == as_parquet_has_it(expected, change)
    check_files(landing, change)
    landing.compact(rebuild=True)
    assert views(landing) == expected


@pytest.mark.parametrize(
    "change", CHANGES if "SOAK" in os.environ else CHANGES[::2], ids=lambda change: change.name
)
def test_what_was_compacted_before_the_change_was_published_is_healed(
    landing: Landing, change: Change
) -> None:
    land(landing, change.phases)
    publish(landing, change.phases[-1])
    expected = views(landing)

    publish(landing, change.phases[0])
    landing.compact()
    publish(landing, change.phases[-1])

    assert views(landing) == as_parquet_has_it(expected, change)


def check_files(landing: Landing, change: Change) -> None:
    """That all who read Parquet can put them together."""
    stored = read_columns(landing.lake, landing.schema)
    files = [landing.file(hour) for hour in range(len(change.phases))]
    assert [one.name for one in stored] == change.stored
    found = unions(files, stored)
    assert found["pyarrow"] == found["duckdb"]
    assert found["polars"] == found["duckdb"]
    check_for_athena(files, stored)
    (parsed,) = sqlglot.parse(Shape(landing.schema, Athena()).compacted("t", stored), dialect="athena")
    assert isinstance(parsed, sqlglot.exp.Select)


# Athena ---------------------------------------------------------------------------------------------------

# What a column may be declared as besides its own type: documented of tables with partitions; that projected
# ones count as such is inferred.
# Source: https://docs.aws.amazon.com/athena/latest/ug/updates-changing-column-type.html
READ_AS = {"smallint": {"int", "bigint"}, "int": {"bigint"}, "float": {"double"}}
HIVE = {
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float": "float",
    "double": "double",
    "bool": "boolean",
    "date32[day]": "date",
    "timestamp[us, tz=UTC]": "timestamp",
    "binary": "binary",
    "string": "string",
}


def check_for_athena(files: list[Path], stored: tuple[StoredColumn, ...]) -> None:
    """Columns are found by name, in whatever case; one that a file lacks is NULL (documented)."""
    text = parquet_table("t", "s3://landing/parquet/", stored, ["cdc_date"], {})
    names = re.findall(r"`([^`]+)` [a-z]+(?:\([0-9,]+\))?", text.partition("PARTITIONED")[0])
    declared = dict(re.findall(r"`([^`]+)` ([a-z]+(?:\([0-9,]+\))?)", text.partition("PARTITIONED")[0]))
    assert len(names) == len(declared)
    assert [name for name in names if not re.fullmatch("[a-z0-9_]+", name)] == []
    for path in files:
        fields = [(field.name.lower(), hive(field.type)) for field in pyarrow.parquet.read_schema(path)]
        assert len(fields) == len(dict(fields))
        for name, kind in fields:
            assert declared[name] in {kind, *READ_AS.get(kind, ())}, f"{name} is {kind} in {path.name}"


def hive(kind: pyarrow.DataType) -> str:
    if pyarrow.types.is_decimal128(kind):
        return f"decimal({kind.precision},{kind.scale})"
    return HIVE[str(kind)]


# The chain, altered while it runs -------------------------------------------------------------------------

CLIENT = """
CREATE TABLE t
    (id int PRIMARY KEY, name text, area int, score int, amount numeric(12,2), born date, note text);
INSERT INTO t SELECT n, 'name ' || n, n, n, n + 0.5, '2000-01-01', 'note' FROM generate_series(1, 9) AS n
"""
ALTERS = [
    ("ADD COLUMN city text", "INSERT INTO t (id, name, area, city) VALUES (10, 'Ada', 0, 'Oslo')"),
    ("ALTER score TYPE bigint", "UPDATE t SET score = 9007199254740993 WHERE id = 1"),
    ("ALTER amount TYPE numeric(14,4)", "UPDATE t SET amount = -0.0001 WHERE id = 2"),
    ("ALTER area TYPE varchar(10)", "UPDATE t SET area = '30' WHERE id = 3"),
    ("ALTER born TYPE timestamptz USING born AT TIME ZONE 'UTC'", "UPDATE t SET born = now() WHERE id = 4"),
    ("DROP COLUMN note", "DELETE FROM t WHERE id = 5"),
    ("RENAME COLUMN name TO full_name", "UPDATE t SET full_name = full_name"),  # so that DMS sends it
    ("DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (area, id)", "UPDATE t SET area = '60' WHERE id = 6"),
    ("ALTER area TYPE int USING area::int", "UPDATE t SET area = 70 WHERE id = 7"),
    ("ADD COLUMN note bytea", "UPDATE t SET note = '\\x00ff' WHERE id = 8"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_complete_postgres() as running:
        yield running


@pytest.mark.parametrize("is_late", [False, True], ids=["published first", "published late"])
def test_a_table_that_is_altered_while_it_is_compacted_is_identical(
    database: Database, s3: Any, tmp_path: Path, is_late: bool
) -> None:
    """What landed is removed once it is compacted: all that there is is Parquet of former types."""
    parameters = database.parameters
    source = {f"pg{name}": parameters[name] for name in ("host", "port", "user")}
    source |= {"pgdatabase": parameters["dbname"], "pgpassword": "unused", "pgsslmode": "disable"}
    lake = Lake(LakeSettings(s3_bucket=BUCKET, **source), shared_session(), tmp_path / "cache")
    landing, stream, done = Landing(lake, s3), Stream(), 0
    database.sql(CLIENT)
    schemas.publish(lake)
    configuration = task_configuration(parameters, postgresql={"CaptureDdls": True})
    with played(configuration, tmp_path / "task", stream) as task:
        task.wait_until_running()
        for alter, change in [("", "UPDATE t SET note = 'first' WHERE id = 9"), *ALTERS]:
            if alter:
                database.sql(f"ALTER TABLE t {alter}")
            database.sql(change)
            task.catch_up()
            if "PRIMARY KEY" in alter:  # nothing tells what the rows of before have for the new key
                task.reload("public", "t")
            done = land_since(stream, done, s3)
            if not is_late:
                schemas.publish(lake)
            landing.compact(before=None)
            for one in lake.objects("changes/"):
                s3.delete_object(Bucket=BUCKET, Key=one.key)

    schemas.publish(lake)
    (report,) = verify(lake, ["public.t"], 0).tables

    assert (report.verdict, report.faults.total()) == ("identical", 0)


def land_since(stream: Stream, done: int, s3: Any) -> int:
    """Lands what has come to the stream; how long that is now."""
    records = [
        record(payload, 10**55 + done + place) for place, (_, payload) in enumerate(stream.records[done:])
    ]
    settings = lambda_function.Settings(s3_bucket=BUCKET, log_level="ERROR")
    lambda_function.land({"Records": records}, settings, lambda _: s3, lambda: 600.0)
    return done + len(records)
