"""What is measured by benchmarks.compaction: our compaction, what one would write instead, and their input.

All read the landing objects of one hour, gzipped JSON Lines, and write one Parquet file, sorted, in zstd.
Each loads its libraries when it is called; MODULES names them, to be imported before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from benchmarks.events import World, compact
from benchmarks.peers import BUCKET

OBJECT_ROWS, SHARDS = 10_000, 4
POOL = 100_000  # different rows: a row group of Parquet has each of them once or twice
FOLDER = "public/loan/cdc_date=2026-03-01/cdc_hour=09"
HOUR_US = 3_600_000_000
ENDS = datetime(2026, 3, 1, 10, tzinfo=UTC)
OPERATIONS = ("insert",) * 9 + ("update",) * 9 + ("delete",) * 2
COLUMNS = {  # PostgreSQL's types, and DMS's
    "id": ("bigint", "INT64"),
    "client_id": ("integer", "INT32"),
    "principal": ("numeric(12,2)", "DECIMAL"),
    "annual_rate": ("double precision", "DOUBLE"),
    "status": ("character varying(20)", "STRING"),
    "note": ("character varying(200)", "STRING"),
    "is_open": ("boolean", "BOOL"),
    "created_at": ("timestamp with time zone", "TIMESTAMP"),
    "due": ("date", "DATE32"),
    "ref": ("uuid", "STRING"),
}
DUCKDB_TYPES = {
    "cdc_operation": "VARCHAR",
    "cdc_committed_at": "TIMESTAMPTZ",
    "cdc_published_at": "TIMESTAMPTZ",
    "cdc_transaction_id": "BIGINT",
    "cdc_transaction_record_id": "BIGINT",
    "cdc_stream_position": "VARCHAR",
    "cdc_lsn": "BIGINT",
    "cdc_shard_id": "VARCHAR",
    "cdc_sequence_number": "VARCHAR",
    "cdc_before": "JSON",
    "id": "BIGINT",
    "client_id": "INTEGER",
    "principal": "DECIMAL(12,2)",
    "annual_rate": "DOUBLE",
    "status": "VARCHAR",
    "note": "VARCHAR",
    "is_open": "BOOLEAN",
    "created_at": "TIMESTAMPTZ",
    "due": "DATE",
    "ref": "VARCHAR",
}
ORDER = ["cdc_committed_at", "cdc_lsn", "cdc_transaction_record_id", "cdc_sequence_number"]


class Hour(NamedTuple):
    """Landing objects of one table and hour."""

    cache: Path  # lake.py's, with a copy of each
    columns: int  # that the table has, of COLUMNS
    objects: Sequence[Any]  # LakeObjects

    @property
    def files(self) -> list[str]:
        lake = lake_of(self.cache)
        return [str(lake.copy_of(one.key, one.etag)) for one in self.objects]

    @property
    def gzipped_bytes(self) -> int:
        return sum(one.size for one in self.objects)

    @property
    def duckdb_types(self) -> dict[str, str]:
        unused = [*COLUMNS][self.columns :]
        return {name: declared for name, declared in DUCKDB_TYPES.items() if name not in unused}


Candidate = Callable[[Hour, Path], None]


# ----------------------------------------------------------------------------------------------------------
# The hour
# ----------------------------------------------------------------------------------------------------------


def land_hour(cache: Path, rows: int, columns: int = len(COLUMNS)) -> Hour:
    """The hour of so many changes, as the handler writes them; the same in every run."""
    from lake_tools.bucket import LakeObject
    from lambda_function import gzipped

    lake, objects = lake_of(cache), []
    for shard, first, lines in bodies(rows, columns):
        key = f"changes/{FOLDER}/{shard}-{sequence_number(first)}.jsonl.gz"
        body = gzipped(lines)
        objects.append(LakeObject(key, f"{first:032x}", len(body), ENDS))
        path = lake.copy_of(key, objects[-1].etag)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return Hour(cache, columns, sorted(objects))  # as S3 lists them: one shard after the other


def bodies(rows: int, columns: int) -> Iterator[tuple[str, int, list[bytes]]]:
    """The shard of each object, the number of its first change, and its lines."""
    tails = row_tails(min(POOL, rows), columns)
    for begin in range(0, rows, OBJECT_ROWS * SHARDS):
        for shard in range(SHARDS):
            numbers = range(begin + shard, min(begin + OBJECT_ROWS * SHARDS, rows), SHARDS)
            shard_id = f"shardId-{shard:012}"
            yield shard_id, numbers[0], [line(number, shard_id, rows, tails) for number in numbers]


def line(number: int, shard_id: str, rows: int, tails: Sequence[tuple[str, bytes]]) -> bytes:
    """A row: our columns by the handler's own type, the table's spliced behind them, as it does."""
    import msgspec

    from lambda_function import Row

    operation, tail = tails[number * 7_919 % len(tails)]
    committed, lsn = number * HOUR_US // rows, 0x1_3A00_41B8 + number * 296
    position = f"{lsn >> 32:08X}/{lsn & 0xFFFFFFFF:08X}"
    row = Row(
        operation,
        moment(committed),
        moment(min(committed + 9_000 + number * 31 % 31_000, HOUR_US - 1)),
        5_120 + number // 3,
        1 + number % 3,
        f"{position}.{1 + number % 9}.{position}",
        lsn,
        shard_id,
        sequence_number(number),
        msgspec.Raw(tail),
    )
    return msgspec.json.encode(row) + b"\n"


def row_tails(count: int, columns: int) -> list[tuple[str, bytes]]:
    """Operations, and what their rows end with: the before image, and the columns of the table."""
    world = World()
    return [row_tail(world, world.random.choice(OPERATIONS), columns) for _ in range(count)]


def row_tail(world: World, operation: str, columns: int) -> tuple[str, bytes]:
    row = world.loan() | {
        "note": world.sentence(6) if world.random.random() < 0.7 else None,
        "is_open": world.random.random() < 0.6,
        "created_at": world.moment(),
        "due": world.moment()[:10],
        "ref": str(UUID(int=world.random.getrandbits(128))),
    }
    row = {name: row[name] for name in [*COLUMNS][:columns]}
    if operation == "delete":
        row = {name: row[name] if name == "id" else None for name in row}
    before = compact({"id": row["id"]}) if operation == "update" else b"null"
    return operation, before + b"," + compact(row)[1:-1]


def moment(microseconds: int) -> str:
    """Of the hour."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"2026-03-01T09:{seconds // 60:02}:{seconds % 60:02}.{rest:06}Z"


def sequence_number(number: int) -> str:
    return f"{49661234567890123456789012345678901234567890123456000002 + number * 131_071:056}"


# ----------------------------------------------------------------------------------------------------------
# The candidates
# ----------------------------------------------------------------------------------------------------------


def ours(hour: Hour, path: Path) -> None:
    """All that lake.py compact does for an hour, but for S3: the objects are in the cache."""
    from lake_tools.compact import write_hour
    from lake_tools.hours import Hour as LandedHour
    from lake_tools.parquet_columns import extended

    schema = loan_schema(hour.columns)
    landed = LandedHour(FOLDER, ENDS, list(hour.objects))
    lake = lake_of(hour.cache)
    lake.forget = lambda *_: None  # the next round takes the copies again
    write_hour(lake, schema, extended((), schema), landed, path.parent).path.replace(path)


def lake_of(cache: Path) -> Any:
    """A lake whose S3 is never asked."""
    from boto3 import Session

    from lake_tools.bucket import Lake
    from lake_tools.settings import LakeSettings

    session = Session(aws_access_key_id="bench", aws_secret_access_key="bench", region_name="us-east-1")
    return Lake(LakeSettings(s3_bucket=BUCKET), session, cache)


def loan_schema(count: int) -> Any:
    from lake_tools.schemas import LakeColumn, TableSchema

    columns = [LakeColumn(name, *types, name != "id", False) for name, types in COLUMNS.items()]
    return TableSchema("public", "loan", tuple(columns[:count]), ("id",), "catalog", "2026-03-01T00:00:00Z")


def duckdb_copy(hour: Hour, path: Path, *, is_typed: bool = False) -> None:
    """DuckDB's COPY of its read_json, which finds out the types unless they are given."""
    import duckdb

    options = "format = 'newline_delimited', hive_partitioning = false"
    if is_typed:
        options += f", columns = {hour.duckdb_types}"
    duckdb.connect().execute(
        f"COPY (SELECT * FROM read_json({hour.files}, {options}) ORDER BY {', '.join(ORDER)}) "
        f"TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
    )


def pandas_files(hour: Hour, path: Path) -> None:
    """pandas.read_json of each object, then pyarrow; texts stay texts, or sequence numbers were doubles."""
    import pandas

    frames = [pandas.read_json(file, lines=True, dtype=False) for file in hour.files]
    frame = pandas.concat(frames, ignore_index=True).sort_values(ORDER)
    frame.to_parquet(path, compression="zstd", index=False)


def awswrangler(hour: Hour, path: Path) -> None:
    """The same by AWS SDK for pandas, from and to an S3 on this machine, whose own CPU is not in it."""
    import awswrangler as wr

    frame = wr.s3.read_json(f"s3://{BUCKET}/changes/{FOLDER}/", lines=True, dtype=False).sort_values(ORDER)
    wr.s3.to_parquet(frame, path=f"s3://{BUCKET}/{path.name}", compression="zstd")


MODULES = {
    "ours": ("boto3", "duckdb", "lake_tools.compact"),
    "duckdb": ("boto3", "duckdb", "lake_tools.bucket"),
    "typed": ("boto3", "duckdb", "lake_tools.bucket"),
    "pandas": ("boto3", "pandas", "pyarrow.parquet", "lake_tools.bucket"),
    "awswrangler": ("awswrangler",),
}
CANDIDATES: dict[str, Candidate] = {
    "ours": ours,
    "duckdb": duckdb_copy,
    "typed": partial(duckdb_copy, is_typed=True),
    "pandas": pandas_files,
    "awswrangler": awswrangler,
}
