"""Which columns of Parquet hold the values of a table's columns, for as long as there are files of it.

    schemas/public/client/parquet.json
    [{"source": "amount", "name": "amount", "kind": {"kind": "decimal", "precision": 12, "scale": 2}},
     {"source": "amount", "name": "amount_v2", "kind": {"kind": "decimal", "precision": 14, "scale": 4}}]

A file keeps the types that it was written with, so a column that is altered can leave files of two types.
Readers put these together where one type is a wider one of the same sort (smallint, integer, bigint; real,
double precision): then the column stays, with the wider type. For any other type it gets a further column,
and the views take the value from whichever has it. Nothing is ever taken from this list.
Source: https://docs.aws.amazon.com/athena/latest/ug/updates-changing-column-type.html (compatible types).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from lake_tools.bucket import SCHEMAS, Lake
from lake_tools.dialects import Athena, ValueType, value_type
from lake_tools.schemas import TableSchema
from lake_tools.settings import LakeError
from lambda_function import RESERVED_COLUMNS, escape

LIST = "parquet.json"  # not beside the Parquet: who reads that folder whole would stumble over it
OWN = "cdc__"  # what columns of the queries' own begin with, and no others
WIDENING: Final = (("int2", "int4", "int8"), ("float4", "float8"))
STORED_AS_TEXT = ("uuid", "time", "timetz")  # Hive has no types for them


@dataclass(frozen=True)
class StoredColumn:
    source: str  # the table's column, as PostgreSQL has it
    name: str  # the column of Parquet; its small letters are what Athena calls it
    kind: ValueType


# --------------------------------------------------------------------------------------------------------
# The list
# --------------------------------------------------------------------------------------------------------


def extended(stored: Sequence[StoredColumn], schema: TableSchema) -> tuple[StoredColumn, ...]:
    """The list with a column for each of the schema's, wherever none takes its type yet."""
    columns = list(stored)
    for column in schema.columns:
        kind = stored_kind(value_type(column))
        for place, one in enumerate(columns):
            if one.source == column.name and (wider := wider_kind(one.kind, kind)) is not None:
                columns[place] = replace(one, kind=wider)
                break
        else:
            columns.append(StoredColumn(column.name, new_name(column.name, columns), kind))
    return tuple(columns)


def taking(stored: Iterable[StoredColumn], source: str, kind: ValueType) -> StoredColumn:
    """The column that takes values of this type."""
    return next(
        one for one in stored if one.source == source and wider_kind(one.kind, stored_kind(kind)) == one.kind
    )


def stored_kind(kind: ValueType) -> ValueType:
    """The type in Parquet; that of instants is in UTC, as DMS writes all of them."""
    if kind.kind in STORED_AS_TEXT:
        return ValueType("text")
    return ValueType("timestamptz") if kind.kind == "timestamp" else kind


def wider_kind(one: ValueType, other: ValueType) -> ValueType | None:
    """The type that all readers take both for; None where there is none."""
    for sort in WIDENING:
        if one.kind in sort and other.kind in sort:
            return max(one, other, key=lambda kind: sort.index(kind.kind))
    return one if one == other else None


def new_name(source: str, columns: Iterable[StoredColumn]) -> str:
    """PostgreSQL's name; with Athena's characters where it takes no others, and unlike all the others."""
    taken = {one.casefold() for one in RESERVED_COLUMNS} | {one.name.casefold() for one in columns}
    plain = Athena().column_name(source)
    base = source if source.lower() == plain else plain
    base = "_" + base if base.casefold().startswith(OWN) else base
    name, version = base, 2
    while name.casefold() in taken:
        name, version = f"{base}_v{version}", version + 1
    return name


# --------------------------------------------------------------------------------------------------------
# In S3
# --------------------------------------------------------------------------------------------------------


def list_key(schema: str, table: str) -> str:
    return f"{SCHEMAS}{escape(schema)}/{escape(table)}/{LIST}"


def read_columns(lake: Lake, schema: TableSchema) -> tuple[StoredColumn, ...]:
    """The list; empty while nothing of the table was compacted. Raises LakeError."""
    key = list_key(schema.schema, schema.table)
    return decoded(lake, key, lake.get(key))


def settle_columns(lake: Lake, schema: TableSchema) -> tuple[StoredColumn, ...]:
    """The list, with the schema's columns in it. Raises LakeError."""
    key, settled = list_key(schema.schema, schema.table), tuple[StoredColumn, ...]()

    def with_columns(body: bytes | None) -> bytes | None:
        nonlocal settled
        stored = decoded(lake, key, body)
        settled = extended(stored, schema)
        is_settled = settled == stored and body is not None
        return None if is_settled else msgspec.json.format(msgspec.json.encode(settled), indent=1)

    lake.replace(key, with_columns)
    return settled


def decoded(lake: Lake, key: str, body: bytes | None) -> tuple[StoredColumn, ...]:
    try:
        return msgspec.json.decode(body, type=tuple[StoredColumn, ...]) if body is not None else ()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LakeError(
            f"{lake.uri(key)} is no list of columns: bring an older version of the object back"
        ) from error
