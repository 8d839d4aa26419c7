"""One hour of a table as one Parquet object: how it is written, and which landing objects it is made of.

    parquet/public/client/cdc_date=2026-03-01/cdc_hour=09/changes.parquet
    its key-value metadata: cdc_inputs = [["shardId-000000000000-4966....jsonl.gz", "9a0364b9e99bb480"], ...]

A row per Kinesis record, in the contract's order, so that statistics of row groups tell times and LSNs apart.
The object takes the place of the former one in one step. What it is made of is in it, so whoever reads it
knows which landing objects of its hour to read besides: all that are not named there with the ETag they have.
Encodings are those of Parquet's first version, which every engine reads.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lake_tools.bucket import PARQUET, LakeObject
from lake_tools.dialects import RESCUED, DuckDB, literal, value_type
from lake_tools.parquet_columns import StoredColumn, taking
from lake_tools.schemas import TableSchema
from lake_tools.views import ORDER, OWN, Shape, ShownColumn

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

OBJECT = "changes.parquet"
INPUTS = "cdc_inputs"


class Input(NamedTuple):
    """A landing object of the hour."""

    name: str  # without its folder
    etag: str


@dataclass
class Written:
    rows: int
    rescued: Counter[str] = field(default_factory=Counter)  # values in cdc_rescued, by column


# --------------------------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------------------------


def folder_of(key: str, root: str) -> str:
    """public/client/cdc_date=2026-03-01/cdc_hour=09"""
    return key.removeprefix(root).rpartition("/")[0]


def parquet_key(folder: str) -> str:
    return f"{PARQUET}{folder}/{OBJECT}"


def is_compacted(one: LakeObject) -> bool:
    return one.key.endswith(f"/{OBJECT}")


def input_of(one: LakeObject) -> Input:
    return Input(one.key.rpartition("/")[2], one.etag)


def digest_of(inputs: Iterable[Input]) -> str:
    """The same for the same inputs, in whatever order."""
    return hashlib.sha256(json.dumps(sorted(inputs)).encode()).hexdigest()


# --------------------------------------------------------------------------------------------------------
# Reading and writing
# --------------------------------------------------------------------------------------------------------


def read_inputs(connection: DuckDBPyConnection, files: Sequence[Path]) -> list[set[Input]]:
    """What each of the files is made of. Raises DuckDB's errors."""
    if not files:
        return []
    paths = ", ".join(literal(str(path)) for path in files)
    found = connection.execute(
        f"SELECT file_name, CAST(value AS BLOB) FROM parquet_kv_metadata([{paths}]) "
        f"WHERE key = '{INPUTS}'::BLOB"
    ).fetchall()
    by_file = {name: {Input(*one) for one in json.loads(value)} for name, value in found}
    return [by_file.get(str(path), set()) for path in files]


def stored_shape(schema: TableSchema, stored: Sequence[StoredColumn]) -> Shape:
    """The lines as Parquet has them."""
    columns = []
    for column in schema.columns:
        one = taking(stored, column.name, value_type(column))
        columns.append(ShownColumn(one.source, one.name, one.kind, column.is_lob))
    return Shape(schema, DuckDB(), columns)


def hour_query(landed: str, former: str | None) -> str:
    """The rows of an hour: landed and former are relations with what the lines, and Parquet so far, have.

    A record that is in both, or in two objects, is taken once: its rows stand together in the order.
    """
    order = [*ORDER.values(), f"{OWN}former"]
    rows = f"SELECT *, 0 AS {OWN}former FROM ({landed})"
    if former is not None:
        rows += f"\n    UNION ALL BY NAME SELECT *, 1 AS {OWN}former FROM {former}"
    return f"""\
SELECT * EXCLUDE ({OWN}former, {OWN}shard, {OWN}sequence)
FROM (
    SELECT *, lag(cdc_shard_id) OVER () AS {OWN}shard, lag(cdc_sequence_number) OVER () AS {OWN}sequence
    FROM (
        SELECT * FROM ({rows}) ORDER BY {", ".join(order)}
    )
)
WHERE cdc_shard_id IS DISTINCT FROM {OWN}shard OR cdc_sequence_number IS DISTINCT FROM {OWN}sequence"""


def copy_statement(query: str, inputs: Iterable[Input], path: Path) -> str:
    named = literal(json.dumps(sorted(inputs), separators=(",", ":")))
    options = f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, KV_METADATA {{{INPUTS}: {named}}}"
    return f"COPY ({query}) TO {literal(str(path))} ({options})"


def written(connection: DuckDBPyConnection, path: Path) -> Written:
    """What is in the file. Raises DuckDB's errors."""
    file = f"read_parquet({literal(str(path))})"
    found = connection.execute(
        f"SELECT name, count(*) FROM (SELECT unnest(json_keys({RESCUED})) AS name FROM {file} "
        f"WHERE {RESCUED} IS NOT NULL) GROUP BY name"
    ).fetchall()
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {file}").fetchall()
    return Written(rows, Counter(dict(found)))
