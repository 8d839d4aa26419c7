"""What local_run.proof compares: rows that landed in S3, rows of the source, in forms that are equal.

    read_landing(s3, "landing", "raw/")       LandedRow("public.client", {"id": 8, ...}, "insert", ...), ...
    read_source({"dsn": server.dsn})          {"public.client": SourceTable({"id": "integer"}, ("id",), ...)}

Values are rendered here once more, on purpose: by what PostgreSQL prints and by what DMS is known to write of
it, and by none of the code under proof.
"""

from __future__ import annotations

import gzip
import math
import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import msgspec
import psycopg2  # type: ignore[import-untyped]

FETCH_ROWS = 10_000
DIGITS_OF_NUMERIC = 38  # with more, DMS writes a numeric as a string (inferred)
# As the Lambda writes them; the landing zone is its contract with whoever reads it.
CHANGES, CONTROL, QUARANTINE = "changes/", "control/", "quarantine/"
OUR_COLUMNS = (
    "cdc_operation",
    "cdc_committed_at",
    "cdc_published_at",
    "cdc_transaction_id",
    "cdc_transaction_record_id",
    "cdc_stream_position",
    "cdc_lsn",
    "cdc_shard_id",
    "cdc_sequence_number",
    "cdc_before",
)
Key = tuple[Any, ...]
Values = dict[str, Any]
Form = Callable[[Any], Any]


class LandedRow(msgspec.Struct, gc=False):
    """A row in changes/."""

    table: str  # "public.client"
    values: Values
    operation: str
    committed_at: str | None
    published_at: str
    transaction_id: int | None
    record_id: int | None
    position: str | None
    lsn: int | None
    shard_id: str
    sequence_number: str
    before: Values | None


@dataclass(frozen=True)
class SourceTable:
    """A table of the source, its rows in their comparable form; those of one without a key are not read."""

    types: Mapping[str, str]  # {"id": "integer", "note": "text"}, as format_type has them
    primary_key: tuple[str, ...]
    rows: Mapping[Key, tuple[Any, ...]] = field(default_factory=dict)


# ----------------------------------------------------------------------------------------------------------
# Comparable forms of values
# ----------------------------------------------------------------------------------------------------------


def comparable(kind: str, forms: Mapping[str, Form]) -> Form:
    """Reads a value of the type; None is None, and what can't be such a value stays as it is."""
    name, _, modifiers = kind.partition("(")
    form = forms.get(name.partition(" ")[0], as_it_is)
    if name == "numeric" and int(modifiers.rstrip(")").partition(",")[0] or 0) > DIGITS_OF_NUMERIC:
        form = Decimal

    def read(value: Any) -> Any:
        try:
            return None if value is None else form(value)
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError):
            return value

    return read


def as_it_is(value: Any) -> Any:
    return value


def finite(value: Any) -> float | None:
    """NaN and the infinities are null on the wire, and numbers pass through a double (both inferred)."""
    number = float(value)
    return number if math.isfinite(number) else None


def single(value: Any) -> float | None:
    """DMS writes nine digits of a real: equal are those of one single-precision number."""
    number = finite(value)
    return None if number is None else float(struct.unpack("f", struct.pack("f", number))[0])


def whole(value: Any) -> int:
    if value != int(value):
        raise ValueError
    return int(value)


def instant(text: str) -> str:
    """2026-03-01T09:00:00.250000Z as 2026-03-01T09:00:00.25"""
    text = text.removesuffix("Z")
    return text.rstrip("0").rstrip(".") if "." in text else text


NUMBERS: dict[str, Form] = {"numeric": finite, "double": finite, "real": single}
OF_SOURCE: dict[str, Form] = NUMBERS | {
    "smallint": int,
    "integer": int,
    "bigint": int,
    "boolean": lambda text: text == "true",
    "timestamp": lambda text: text.removesuffix("+00").replace(" ", "T"),
    "bytea": lambda text: text.removeprefix("\\x").upper(),
}
OF_LANDING: dict[str, Form] = NUMBERS | {
    "smallint": whole,
    "integer": whole,
    "bigint": whole,
    "boolean": lambda value: {"t": True, "true": True, "f": False, "false": False}[str(value).lower()],
    "timestamp": instant,
    "bytea": lambda text: text.removeprefix("0x").upper(),
}

# ----------------------------------------------------------------------------------------------------------
# Reading both ends
# ----------------------------------------------------------------------------------------------------------

decode_rows = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode_lines


def read_landing(s3: Any, bucket: str, prefix: str) -> Iterator[LandedRow]:
    """Every row in changes/, as often as it is there."""
    for key, body in read_objects(s3, bucket, prefix + CHANGES):
        schema, table = key.removeprefix(prefix + CHANGES).split("/")[:2]
        name = f"{unquote(schema)}.{unquote(table)}"
        for values in decode_rows(body):
            yield LandedRow(name, values, *map(values.pop, OUR_COLUMNS))


def read_drops(s3: Any, bucket: str, prefix: str) -> dict[str, list[str]]:
    """The times of the drop-table control records by table."""
    drops: dict[str, list[str]] = defaultdict(list)
    for _, body in read_objects(s3, bucket, prefix + CONTROL):
        for metadata in [row["cdc_envelope"]["metadata"] for row in decode_rows(body)]:
            if metadata["operation"] == "drop-table":
                name = f"{metadata['schema-name']}.{metadata['table-name']}"
                drops[name].append(metadata["timestamp"])
    return drops


def count_quarantined(s3: Any, bucket: str, prefix: str) -> int:
    return sum(len(decode_rows(body)) for _, body in read_objects(s3, bucket, prefix + QUARANTINE))


def read_objects(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Keys and unzipped bodies of the objects that are there now."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            answer = s3.get_object(Bucket=bucket, Key=found["Key"])
            with answer["Body"] as body:
                yield found["Key"], gzip.decompress(body.read())


CATALOG = r"""
SELECT n.nspname || '.' || c.relname, format('%I.%I', n.nspname, c.relname),
    array_agg(a.attname::text ORDER BY a.attnum), array_agg(quote_ident(a.attname) ORDER BY a.attnum),
    array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum),
    (SELECT array_agg(k.attname::text ORDER BY array_position(i.indkey::smallint[], k.attnum))
     FROM pg_index i JOIN pg_attribute k ON k.attrelid = i.indrelid AND k.attnum = ANY (i.indkey)
     WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND c.relname NOT LIKE 'awsdms\_%' AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
GROUP BY c.oid, n.nspname, c.relname
ORDER BY 1"""
SESSION = (
    "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c bytea_output=hex -c extra_float_digits=1"
)


def read_source(
    connect_parameters: Mapping[str, Any], tables: Collection[str] | None = None, *, has_rows: bool = True
) -> dict[str, SourceTable]:
    """The tables in one snapshot; generated columns and unlogged tables are not replicated, and not read."""
    connection = psycopg2.connect(**{**connect_parameters, "options": SESSION})
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            cursor.execute(CATALOG)
            catalog = cursor.fetchall()
        return {
            name: SourceTable(dict(zip(columns, kinds, strict=True)), tuple(key or ()), rows)
            for name, quoted, columns, quoted_columns, kinds, key in catalog
            if tables is None or name in tables
            for rows in [
                read_rows(connection, quoted, quoted_columns, kinds, [*map(columns.index, key or ())])
                if has_rows
                else {}
            ]
        }
    finally:
        connection.close()


def read_rows(
    connection: Any, table: str, columns: Sequence[str], kinds: Sequence[str], key: Sequence[int]
) -> dict[Key, tuple[Any, ...]]:
    """The rows by key; those of a table without one are not read."""
    rows: dict[Key, tuple[Any, ...]] = {}
    if not key:
        return rows
    forms = [comparable(kind, OF_SOURCE) for kind in kinds]
    with connection.cursor(name="proof") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(f"SELECT {', '.join(f'{column}::text' for column in columns)} FROM {table}")
        for texts in cursor:
            row = tuple([form(text) for form, text in zip(forms, texts, strict=True)])
            rows[tuple([row[index] for index in key])] = row
    return rows
