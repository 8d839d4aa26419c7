"""Reading and verifying a lake of a million rows, on this machine: python -m benchmarks.lake.

Writes LAKE.md beside this file. The objects are those that the handler writes, in an S3 inside this process;
each figure stands beside a plain DuckDB query over the same files, which is right for neither purpose.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.chain import Bar
from benchmarks.report import machine

FOLDER = Path(__file__).parent
ROWS, KEYS = 1_000_000, 200_000  # changes of account, and its keys
OBJECT_ROWS = 10_000
PACKAGES = ("duckdb", "moto", "psycopg2-binary")
TABLES = """
CREATE TABLE loan (id bigint PRIMARY KEY, client_id int, amount numeric(12,2), rate double precision,
  status varchar(20), note text, is_open boolean, created_at timestamptz, due date, ref uuid);
CREATE TABLE account (id bigint PRIMARY KEY, client_id int, amount numeric(12,2), status varchar(20));
"""
LOANS = """
INSERT INTO loan SELECT i, i %% 1000, i / 100.0, i / 7.0::float8, 'status ' || i %% 5,
  CASE WHEN i %% 3 = 0 THEN 'note of ' || i END, i %% 2 = 0,
  timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second', date '2026-01-01' + (i %% 365)::int,
  md5(i::text)::uuid FROM generate_series(1, %s) AS i
"""
READ_LOANS = """
SELECT id, client_id, amount::float8 AS amount, rate, status, note, is_open,
  to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS created_at, due::text, ref::text
FROM loan
"""
PLAIN = "SELECT count(*) FROM (SELECT id, max_by(amount, cdc_sequence_number) FROM read_json({}) GROUP BY id)"


@dataclass(frozen=True)
class Results:
    """Seconds; peak is of this process, S3 and source in it, in MB."""

    opened: float
    current: float
    plain: float
    verify: float
    plain_loan: float
    peak_mb: int


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lake", description=__doc__.split("\n")[0])
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    options = parser.parse_args(arguments)
    results = run()
    text = markdown(results)
    print(text)
    (FOLDER / "LAKE.md").write_text(text)
    return 1 if options.strict and not all(bar.is_met for bar in bars(results)) else 0


def run() -> Results:
    import boto3
    import psycopg2
    from moto import mock_aws

    from lake_tools.bucket import Lake
    from lake_tools.schemas import publish, read_schema
    from lake_tools.settings import LakeSettings
    from lake_tools.tables import open_table
    from lake_tools.verify import verify
    from local_run.postgres import start_postgres

    credentials = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    with (
        mock.patch.dict(os.environ, {**credentials, "AWS_DEFAULT_REGION": "us-east-1"}),
        start_postgres() as server,
        mock_aws(),
        tempfile.TemporaryDirectory() as folder,
    ):
        connection = psycopg2.connect(server.dsn)
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        cursor.execute(TABLES)
        cursor.execute(LOANS, (ROWS,))
        cursor.execute("ANALYZE")
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="landing")
        land(s3, "account", account_rows())
        land(s3, "loan", loan_rows(server.dsn))
        address = {"pghost": "127.0.0.1", "pgport": server.port, "pgdatabase": "postgres"}
        login = {"pguser": "postgres", "pgpassword": "local", "pgsslmode": "disable"}
        settings = LakeSettings(s3_bucket="landing", tables="public.%", **address, **login)
        lake = Lake(settings, boto3.Session(), Path(folder) / "cache")
        publish(lake)
        files = {name: lake.fetch(lake.objects(f"changes/public/{name}/")) for name in ("account", "loan")}
        opened, current = time_current(lambda: open_table(lake, read_schema(lake, "public", "account")))
        plain = seconds(lambda: plain_query(files["account"]))
        plain_loan = seconds(lambda: plain_query(files["loan"]))
        started = time.monotonic()
        report = verify(lake, ["public.loan"], 0)
        verified = time.monotonic() - started
        if report.verdict != "identical":
            raise SystemExit(report.text())
        connection.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Results(opened, current, plain, verified, plain_loan, peak)


def time_current(open_it: Callable[[], Any]) -> tuple[float, float]:
    """Seconds to open the table, and to read its current state."""
    started = time.monotonic()
    with open_it() as connection:
        opened = time.monotonic()
        (count,) = connection.execute("SELECT count(amount) FROM current").fetchone()
        if count != KEYS:
            raise SystemExit(f"current has {count:,} rows, not {KEYS:,}")
        return opened - started, time.monotonic() - opened


def plain_query(files: list[Path]) -> None:
    import duckdb

    names = ", ".join(f"'{path}'" for path in files)
    duckdb.connect().execute(PLAIN.format(f"[{names}]")).fetchone()


def seconds(work: Callable[[], None]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


# ----------------------------------------------------------------------------------------------------------
# The lake
# ----------------------------------------------------------------------------------------------------------


def account_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """A million changes: every key inserted once, then changed four times."""
    for number in range(ROWS):
        row = {"id": number % KEYS, "client_id": number % 1000, "amount": number / 100, "status": "open"}
        yield ("insert" if number < KEYS else "update"), row


def loan_rows(dsn: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import psycopg2

    connection = psycopg2.connect(dsn)
    with connection, connection.cursor(name="loans") as cursor:
        cursor.itersize = 20_000
        cursor.execute(READ_LOANS)
        for row in cursor:
            yield "load", dict(zip([column.name for column in cursor.description], row, strict=True))
    connection.close()


def land(s3: Any, table: str, rows: Iterator[tuple[str, dict[str, Any]]]) -> None:
    lines: list[str] = []
    for number, (operation, row) in enumerate(rows, 1):
        lines.append(json.dumps({**ours(number, operation), **row}, separators=(",", ":")))
        if len(lines) == OBJECT_ROWS:
            put(s3, table, number, lines)
            lines = []
    if lines:
        put(s3, table, number, lines)


def put(s3: Any, table: str, number: int, lines: list[str]) -> None:
    hour = f"changes/public/{table}/cdc_date=2026-03-01/cdc_hour=09"
    key = f"{hour}/shardId-000000000000-{number:056}.jsonl.gz"
    s3.put_object(Bucket="landing", Key=key, Body=gzip.compress("\n".join([*lines, ""]).encode(), 1))


def ours(number: int, operation: str) -> dict[str, Any]:
    is_load = operation == "load"
    return {
        "cdc_operation": operation,
        "cdc_committed_at": None if is_load else f"2026-03-01T09:{number // 60_000:02}:10.480010Z",
        "cdc_published_at": "2026-03-01T09:59:10.480010Z",
        "cdc_transaction_id": None if is_load else 700 + number // 100,
        "cdc_transaction_record_id": None if is_load else 1 + number % 100,
        "cdc_stream_position": None if is_load else f"00000000/{number:08X}.1.00000000/{number:08X}",
        "cdc_lsn": None if is_load else number,
        "cdc_shard_id": "shardId-000000000000",
        "cdc_sequence_number": f"{number:056}",
        "cdc_before": None,
    }


# ----------------------------------------------------------------------------------------------------------
# The page
# ----------------------------------------------------------------------------------------------------------


def bars(found: Results) -> list[Bar]:
    current = found.opened + found.current
    return [
        Bar("current state of 1 million changes", "under 5 s", f"{current:.1f} s", current < 5),
        Bar("verify of 1 million rows", "under 30 s", f"{found.verify:.1f} s", found.verify < 30),
    ]


def markdown(found: Results) -> str:
    head = (
        f"Made by `make bench` on {date.today()}: {machine(PACKAGES)}. {ROWS:,} rows in objects of "
        f"{OBJECT_ROWS:,}, already in the cache. Peak memory of the process, the S3 in it too: "
        f"{found.peak_mb:,} MB. A plain DuckDB query reads the same files with read_json and groups them by "
        "id: it knows no deletes, no changed keys, no reloads, no types."
    )
    lines = ["# What reading and verifying costs", "", *textwrap.wrap(head, 110), ""]
    lines += ["| bar | wanted | found |  |", "|---|---|---|---|"]
    for bar in bars(found):
        lines.append(f"| {bar.name} | {bar.wanted} | {bar.found} | bar {'met' if bar.is_met else 'MISSED'} |")
    lines += ["", "| | seconds | a plain DuckDB query | ratio |", "|---|---|---|---|"]
    current = found.opened + found.current
    for name, took, plain in (
        (f"open ({found.opened:.1f}) and read the current state", current, found.plain),
        ("verify, PostgreSQL's part in it", found.verify, found.plain_loan),
    ):
        lines.append(f"| {name} | {took:.1f} | {plain:.1f} | {took / plain:.1f}x |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
