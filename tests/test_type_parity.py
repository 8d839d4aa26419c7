"""Every type that DMS documents, before and after the seam of load and changes: on the wire and in S3.

What it shows is the table in docs/types.md, which GOLDEN=1 writes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from conftest import BUCKET, shared_session
from parquet_support import read_by_all, stored_types
from postgresql_types import ALL_TYPES, ALL_TYPES_SCHEMA, IN_PARQUET, start_complete_postgres
from replication_support import Database, Stream, land, played, task_configuration

from lake_tools.bucket import Lake
from lake_tools.compact import compact
from lake_tools.dialects import literal
from lake_tools.schemas import publish
from lake_tools.settings import LakeSettings

DOCUMENT = Path(__file__).parent.parent / "docs" / "types.md"
HEAD = """\
# What a value of PostgreSQL is in S3

DMS makes JSON of a row; the Lambda passes it on byte for byte; `lake.py compact` makes Parquet of it, with
the types of the published schema. A test writes this table (`tests/test_type_parity.py`): each value goes
through the replication stand-in and the handler twice, in the load of its table and as a change after it.
Both come out alike, with the settings that `setup_dms.py` declares. DuckDB, pyarrow and polars read the same
values from the Parquet: here as DuckDB writes them, bytes in hexadecimal. A string is what the JSON holds.

The rules are those of DMS as far as they are known. D: AWS documents it. O: seen in captures of real
streams. I: inferred, where neither says; check it in your account before you rely on it. Of DMS's own names
of types, DECIMAL, BINARY and TIME64 are inferred, and of lengths that of uuid.

Not run, and so not in the table: PostGIS (geometry, geography, raster, box2d, box3d). DMS carries it to
PostGIS only (D); the stand-in leaves such columns out (I). Nor are large objects migrated (D): of an oid it
is the number that comes (I).

| PostgreSQL | value | in S3 | in Parquet | DMS's type | known |
| --- | --- | --- | --- | --- | --- |
"""
# Under the settings that the chain declares a few values come otherwise than with DMS's defaults.
AS_DECLARED = {
    ("bigint", "1000000000000000"): "1000000000000000",
    ("boolean", "true"): "true",
    ("boolean", "false"): "false",
    ("bytea", "'\\x80057d942e'"): '"80057D942E"',
    ("bytea", "''"): '""',
}
DECLARED_TYPE = {"boolean": ("BOOL", None)}
LOB = "D: a LOB; I: PostgreSQL's text"
# How the form of a type's values is known, and what it loses.
KNOWN = {
    "smallint": "O",
    "integer": "O",
    "bigint": "D, by Terraform: exact up to 18 digits; I: beyond, through a double",
    "numeric(12,2)": "O: a number; I: trailing zeros go (an engine of 2019 kept them), no NaN",
    "numeric(20,4)": "I: rounded to a double",
    "numeric(39,1)": "D: a string; I: its text",
    "numeric": "D: six decimals; I: the rest is cut",
    "real": "O: nine digits",
    "double precision": "O: 5.0 is 5; I: 17 digits at most, no NaN, no infinity",
    "money": "D: a number; I: its form",
    "boolean": "O: true, false; I: that MapBooleanAsBoolean was on there",
    "char(5)": "O: blanks at the end go",
    "varchar(80)": "O",
    "varchar": "O; D: cut at 8,000 bytes",
    "text": "O; D: cut at LobMaxSize, or the task fails",
    "json": "O: a string that holds JSON",
    "jsonb": "O: a string that holds JSON",
    "bytea": "O: hexadecimal; D: without 0x by NoHexPrefix",
    "date": "O; I: infinity, before Christ",
    "timestamp": "O: a Z that it does not have; D: infinity; I: before Christ, after 9999",
    "timestamptz": "O: UTC; I: before Christ, after 9999",
    "interval": "O; its 128: D, captures show 15 to 25",
    "xml": LOB,
    "tsvector": LOB,
    "tsquery": LOB,
    "citext": LOB,
    "hstore": "D: a LOB; O: others found that it does not work; I: PostgreSQL's text",
    **dict.fromkeys(("point", "line", "lseg", "box", "circle", "path", "polygon"), "D"),
}


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with start_complete_postgres() as server:
        made = Database(server)
        yield made
        made.close()


@pytest.fixture
def stream(database: Database, tmp_path: Path, s3: Any) -> Stream:
    """The stream, whose rows are in S3: 1 was loaded, 2 was inserted, and then became 3."""
    columns = ", ".join(f"c{number} {one[0]}" for number, one in enumerate(ALL_TYPES))
    values = ", ".join(one[1] for one in ALL_TYPES)
    database.sql(f"{ALL_TYPES_SCHEMA}; CREATE TABLE every_type (id int PRIMARY KEY, {columns})")
    database.sql(f"INSERT INTO every_type VALUES (1, {values})")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql(f"INSERT INTO every_type VALUES (2, {values})")
        database.sql("UPDATE every_type SET id = 3 WHERE id = 2")
        task.catch_up()
    land(stream, s3)
    return stream


def lines_in(s3: Any) -> list[bytes]:
    lines = []
    for found in s3.list_objects_v2(Bucket=BUCKET, Prefix="changes/public/every_type/")["Contents"]:
        body = s3.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read()
        lines += gzip.decompress(body).splitlines()
    return lines


@pytest.fixture
def parquet(database: Database, stream: Stream, s3: Any, tmp_path: Path) -> list[Path]:
    """Copies of what the rows are compacted to."""
    parameters = database.parameters
    source = {f"pg{name}": parameters[name] for name in ("host", "port", "user")}
    settings = LakeSettings(
        s3_bucket=BUCKET, **source, pgdatabase=parameters["dbname"], pgpassword="unused", pgsslmode="disable"
    )
    lake = Lake(settings, shared_session(), tmp_path / "cache")
    publish(lake)
    options = argparse.Namespace(table="public.every_type", all=True, rebuild=False, older_than=timedelta())
    (outcome,) = compact(lake, options, {})
    assert (outcome.faults, outcome.rows, outcome.rescued) == ([], 3, {})
    objects = lake.objects("parquet/public/every_type/cdc_date=")
    return lake.fetch(objects)


def raw(text: bytes | msgspec.Raw) -> dict[str, bytes]:
    """The members of a JSON object, each as it is written."""
    return {
        name: bytes(value) for name, value in msgspec.json.decode(text, type=dict[str, msgspec.Raw]).items()
    }


def test_every_type_comes_alike_from_load_and_change_on_the_wire_in_s3_and_in_parquet(
    stream: Stream, s3: Any, parquet: list[Path]
) -> None:
    payloads = [payload for _, payload in stream.records if b'"data":{"id"' in payload]
    expected = [AS_DECLARED.get((one[0], one[1]), one[2]) for one in ALL_TYPES]
    names = [f"c{number}" for number in range(len(ALL_TYPES))]

    on_the_wire = [raw(raw(payload)["data"]) for payload in payloads]
    in_s3 = [raw(line) for line in lines_in(s3)]

    assert [row["id"] for row in on_the_wire] == [b"1", b"2", b"3"]
    assert [row["cdc_operation"] for row in in_s3] == [b'"load"', b'"insert"', b'"update"']
    for row in (*on_the_wire, *in_s3):
        assert [row[name].decode() for name in names] == expected

    definition = msgspec.json.decode(stream.records[4][1])["control"]["table-def"]["columns"]
    types = [definition[name] for name in names]
    for one, found in zip(ALL_TYPES, types, strict=True):
        wanted = DECLARED_TYPE.get(one[0], one[4])
        assert wanted is None or (found["type"], found.get("length")) == wanted
    check_document(expected, check_parquet(parquet, names, expected), types)


def check_parquet(files: list[Path], names: list[str], expected: list[str]) -> list[tuple[str, str | None]]:
    """The type and the value of each column; they are the same in all rows, whoever reads them."""
    values = {declared: iter(texts) for declared, (_, texts) in IN_PARQUET.items()}
    wanted = [
        (IN_PARQUET[one[0]][0], next(values[one[0]])) if one[0] in values else ("string", json.loads(text))
        for one, text in zip(ALL_TYPES, expected, strict=True)
    ]
    for path in files:
        read_by_all(path)
        types = stored_types(path)
        for texts in texts_in(path, names):
            assert [*zip((types[name] for name in names), texts, strict=True)] == wanted
    return wanted


def texts_in(path: Path, names: list[str]) -> list[tuple[str | None, ...]]:
    """The rows as DuckDB writes their values."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        types = stored_types(path)
        texts = [f"hex({name})" if types[name] == "binary" else f"CAST({name} AS VARCHAR)" for name in names]
        return connection.execute(f"SELECT {', '.join(texts)} FROM {literal(str(path))}").fetchall()


def check_document(
    expected: list[str], in_parquet: list[tuple[str, str | None]], types: list[dict[str, Any]]
) -> None:
    rows = []
    for (declared, value, *_), text, stored, found in zip(
        ALL_TYPES, expected, in_parquet, types, strict=True
    ):
        kind = found["type"] + (f" {found['length']}" if "length" in found else "")
        shown = value.removesuffix("::bytea")  # how xml is read does not matter to it
        there = stored[0] if stored[0] == "string" else f"{stored[0]}: {stored[1] or 'null'}"
        if stored == ("binary", ""):
            there = "binary: no bytes"
        cells = (code(declared), code(shown), code(text), there, kind, KNOWN.get(declared, "I"))
        rows.append(f"| {' | '.join(cells)} |\n")
    document = HEAD + "".join(rows)
    if os.environ.get("GOLDEN"):
        DOCUMENT.write_text(document)
    assert document == DOCUMENT.read_text()


def code(text: str) -> str:
    """As code in a cell of a table."""
    printable = text.replace("|", "\\|").replace("\x7f", "")
    return f"`{printable}`" if "`" not in printable else f"`` {printable} ``"
