"""One hour of a table as one Parquet object: how it is written, and which landing objects it is made of.

    parquet/public/client/cdc_date=2026-03-01/cdc_hour=09/changes.parquet
    its key-value metadata: cdc_inputs = [["shardId-000000000000-4966....jsonl.gz", "9a0364b9e99bb480"], ...]

A row per Kinesis record, in the contract's order, so that statistics of row groups tell times and LSNs apart.
The object takes the place of the former one in one step. What it is made of is in it, so whoever reads it
knows which landing objects of its hour to read besides: all that are not named there with the ETag they have.
Encodings are those of Parquet's first version, which every engine reads.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lake_tools.bucket import PARQUET, LakeObject
from lake_tools.dialects import RESCUED, DuckDB, literal, value_type
from lake_tools.parquet_columns import OWN, StoredColumn, taking
from lake_tools.schemas import TableSchema
from lake_tools.views import ORDER, Shape, ShownColumn

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

OBJECT = "changes.parquet"
INPUTS = "cdc_inputs"
ROW_GROUP_ROWS = 122_880  # DuckDB's own
WIDE_BYTES = 1500  # above it, so many rows of this width are too much for the memory that compaction takes
PORTION_BYTES = 32 << 20
SAMPLED_OBJECTS = 4
DICTIONARY_VALUES = 10_000  # more of them in a row group take longer to look up than they spare
ORDER_COLUMNS = (
    *("cdc_operation", "cdc_committed_at", "cdc_published_at", "cdc_lsn", "cdc_transaction_record_id"),
    *("cdc_sequence_number", "cdc_shard_id"),
)


class Input(NamedTuple):
    """A landing object of the hour."""

    name: str  # without its folder
    etag: str


@dataclass
class Written:
    path: Path
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


def copy_hour(
    connection: DuckDBPyConnection, rows: str, inputs: Iterable[Input], path: Path, row_bytes: int
) -> Iterator[str]:
    """The statements that write an hour, to be run one after the other; rows: as rows_query() has them.

    Wide rows are sorted without what makes them wide, and then fetched and written a portion at a time:
    DuckDB holds 122,880 rows whole while it sorts, and as many while it writes.
    """
    if row_bytes <= WIDE_BYTES:
        yield copy_statement(in_order(f"({rows})"), path, inputs)
        return
    portion_rows = max(1, PORTION_BYTES // row_bytes)
    yield f"CREATE OR REPLACE TABLE landed AS SELECT *, row_number() OVER () AS {OWN}place FROM ({rows})"
    yield "SET threads = 1"
    narrow = ", ".join([*ORDER_COLUMNS, f"{OWN}former", f"{OWN}place"])
    in_places = in_order(f"(SELECT {narrow} FROM landed)")
    yield f"CREATE TABLE places AS SELECT {OWN}place AS place, row_number() OVER () AS n FROM ({in_places})"
    ((count,),) = connection.execute("SELECT count(*) FROM places").fetchall()
    portions: list[Path] = []
    for start in range(1, count + 1, portion_rows):
        portions.append(path.with_suffix(f".{len(portions)}"))
        portion = f"n >= {start} AND n < {start + portion_rows}"
        query = (
            f"SELECT landed.* EXCLUDE ({OWN}former, {OWN}place) FROM landed "
            f"JOIN (SELECT * FROM places WHERE {portion}) AS places ON landed.{OWN}place = place ORDER BY n"
        )
        yield copy_statement(query, portions[-1], row_group_rows=portion_rows)
    files = ", ".join(literal(str(portion)) for portion in portions)
    yield copy_statement(f"SELECT * FROM read_parquet([{files}])", path, inputs, portion_rows)


def rows_query(landed: str, former: str | None) -> str:
    """The rows of an hour: landed and former are relations of what the lines and the Parquet so far have."""
    rows = f"SELECT *, 0 AS {OWN}former FROM ({landed})"
    if former is not None:
        rows += f" UNION ALL BY NAME SELECT *, 1 AS {OWN}former FROM {former}"
    return rows


def in_order(rows: str) -> str:
    """The rows of the relation in the contract's order.

    A record that is in both, or in two objects, is taken once: its rows stand together in the order.
    """
    order = ", ".join([*ORDER.values(), f"{OWN}former"])
    place = f"lag(cdc_shard_id) OVER () AS {OWN}shard, lag(cdc_sequence_number) OVER () AS {OWN}sequence"
    return f"""\
SELECT * EXCLUDE ({OWN}former, {OWN}shard, {OWN}sequence)
FROM (SELECT *, {place} FROM (SELECT * FROM {rows} AS {OWN}rows ORDER BY {order}))
WHERE cdc_shard_id IS DISTINCT FROM {OWN}shard OR cdc_sequence_number IS DISTINCT FROM {OWN}sequence"""


def copy_statement(
    query: str, path: Path, inputs: Iterable[Input] | None = None, row_group_rows: int = ROW_GROUP_ROWS
) -> str:
    """A higher level of compression costs a tenth of the time, and spares a thirtieth of the bytes."""
    options = (
        f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {row_group_rows}, "
        f"DICTIONARY_SIZE_LIMIT {DICTIONARY_VALUES}"
    )
    if inputs is not None:
        options += f", KV_METADATA {{{INPUTS}: {literal(json.dumps(sorted(inputs), separators=(',', ':')))}}}"
    return f"COPY ({query}) TO {literal(str(path))} ({options})"


def mean_row_bytes(connection: DuckDBPyConnection, landed: Sequence[Path], former: Sequence[Path]) -> int:
    """How wide rows are, by some of the objects and all of the Parquet. Raises DuckDB's errors."""
    sampled = [size_and_rows(path) for path in landed[:: -(-len(landed) // SAMPLED_OBJECTS)]]
    means = [sum(size for size, _ in sampled) // max(1, sum(rows for _, rows in sampled))]
    for path in former:
        file = literal(str(path))
        ((size, rows),) = connection.execute(
            f"SELECT (SELECT sum(total_uncompressed_size) FROM parquet_metadata({file})), "
            f"(SELECT sum(num_rows) FROM parquet_file_metadata({file}))"
        ).fetchall()
        means.append(int(size or 0) // max(1, rows or 0))
    return max(means)


def size_and_rows(path: Path) -> tuple[int, int]:
    """Of an object's lines; nothing of what is no gzip: DuckDB says so, and its name is told."""
    try:
        lines = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error):
        return 0, 0
    return len(lines), lines.count(b"\n")


def written(connection: DuckDBPyConnection, path: Path) -> Written:
    """What is in the file. Raises DuckDB's errors."""
    file = f"read_parquet({literal(str(path))})"
    found = connection.execute(
        f"SELECT name, count(*) FROM (SELECT unnest(json_keys({RESCUED})) AS name FROM {file} "
        f"WHERE {RESCUED} IS NOT NULL) GROUP BY name"
    ).fetchall()
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {file}").fetchall()
    return Written(path, rows, Counter(dict(found)))
