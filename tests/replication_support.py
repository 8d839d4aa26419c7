"""A task that is played on a real PostgreSQL, with a stream in memory; its records landed by the handler."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg2
from events import record

import lambda_function
from local_run.aws import merged_settings
from local_run.postgres import Server
from local_run.replication import position
from local_run.replication.configuration import Configuration, configuration
from local_run.replication.control import Orders
from local_run.replication.source import Source
from local_run.replication.stream_writer import StreamWriter
from local_run.replication.task import Ended, Task, TaskError
from provision.replication_task import table_mappings, table_patterns, task_settings

STREAM_ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/lending-stream"
TASK_ARN = "arn:aws:dms:eu-west-1:123456789012:task:3XC7QVO3RSPBANZXOPWAZQ5PN6"
DEADLINE_SECONDS = 30.0
numbers = itertools.count(1)
ALL_ON = dict.fromkeys(
    (
        *("IncludeTransactionDetails", "IncludePartitionValue", "PartitionIncludeSchemaTable"),
        *("IncludeTableAlterOperations", "IncludeControlDetails", "IncludeNullAndEmpty"),
        *("NoHexPrefix", "UseLargeIntegerValue"),
    ),
    True,
)


class Stream:
    """Kinesis' client, of a stream with one shard; left(records) says which of a request are not taken."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes]] = []  # partition key, payload
        self.requests: list[int] = []  # how many records each had
        self.left: Callable[[list[dict[str, Any]]], set[int]] = lambda records: set()

    def describe_stream_summary(self, StreamARN: str) -> dict[str, Any]:
        assert StreamARN == STREAM_ARN
        return {"StreamDescriptionSummary": {}}

    def put_records(self, StreamARN: str, Records: list[dict[str, Any]]) -> dict[str, Any]:
        assert StreamARN == STREAM_ARN
        assert 0 < len(Records) <= 500
        left = self.left(Records)
        taken = [one for place, one in enumerate(Records) if place not in left]
        self.records += [(one["PartitionKey"], one["Data"]) for one in taken]
        self.requests.append(len(Records))
        refused = {"ErrorCode": "ProvisionedThroughputExceededException"}
        answers = [refused if place in left else {} for place in range(len(Records))]
        return {"FailedRecordCount": len(left), "Records": answers}

    @property
    def envelopes(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for _, payload in self.records]

    def envelopes_of(self, table: str) -> list[dict[str, Any]]:
        """Those of a table "public.t", in the order of the stream."""
        return [
            one
            for one in self.envelopes
            if f"{one['metadata']['schema-name']}.{one['metadata']['table-name']}" == table
        ]

    def rows_of(self, table: str, *operations: str) -> list[dict[str, Any]]:
        """data of the table's records, of these operations."""
        return [
            one["data"]
            for one in self.envelopes_of(table)
            if one["metadata"]["record-type"] == "data"
            and (not operations or one["metadata"]["operation"] in operations)
        ]

    def operations_of(self, table: str) -> list[str]:
        return [one["metadata"]["operation"] for one in self.envelopes_of(table)]


class Database:
    """An empty database; sql() runs statements, each of them committed."""

    def __init__(self, server: Server, options: str = "") -> None:
        self.name = f"source_{next(numbers)}"
        self.parameters = {"host": "127.0.0.1", "port": server.port, "user": "postgres", "dbname": self.name}
        self.connection = psycopg2.connect(server.dsn)
        self.connection.autocommit = True
        self.connection.cursor().execute(f"CREATE DATABASE {self.name} TEMPLATE template0 {options}")
        self.connection.close()
        self.connection = psycopg2.connect(**self.parameters)
        self.connection.autocommit = True

    def sql(self, statements: str, parameters: tuple[Any, ...] | None = None) -> Any:
        cursor = self.connection.cursor()
        cursor.execute(statements, parameters)
        return cursor

    def close(self) -> None:
        slots = self.sql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
        for (slot,) in slots.fetchall():
            Source(self.parameters, "").drop_slot(slot)
        self.connection.close()


def task_configuration(database: dict[str, Any], **changes: Any) -> Configuration:
    """As setup_dms.py makes it. changes: tables, kinesis, postgresql, settings; or of the configuration."""
    settings = merged_settings(json.dumps(task_settings()), "create")
    for path, value in changes.pop("settings", {}).items():
        section, name = path.split(".")
        settings[section][name] = value
    postgresql = {"FailTasksOnLobTruncation": True, "MapBooleanAsBoolean": True, "CaptureDdls": False}
    kinesis = {"StreamArn": STREAM_ARN, "MessageFormat": "json-unformatted", **ALL_ON}
    with psycopg2.connect(**database) as connection, connection.cursor() as cursor:
        cursor.execute(CATALOG)
        catalog = cursor.fetchall()
    connection.close()
    mappings = table_mappings(table_patterns(changes.pop("tables", "public.%")), catalog).document
    made = configuration(
        {"ReplicationTaskArn": TASK_ARN, "MigrationType": "full-load-and-cdc"},
        {"PostgreSQLSettings": postgresql | changes.pop("postgresql", {})},
        {"KinesisSettings": kinesis | changes.pop("kinesis", {})},
        settings,
        mappings,
        database,
    )
    return replace(made, **changes)


CATALOG = """
SELECT n.nspname, c.relname, EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""


@dataclass
class Played:
    """A task that runs in a thread."""

    task: Task
    stream: Stream
    thread: threading.Thread
    ended: threading.Event
    orders: Orders = field(default_factory=lambda: Orders("running", 1))
    error: Exception | None = None

    def wait(self, is_reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_reached():
            if self.error is not None:
                raise self.error
            assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS:.0f} s: {what}"
            assert self.thread.is_alive() or self.error, f"the task has ended before: {what}"
            time.sleep(0.005)

    def wait_until_running(self) -> None:
        self.wait(lambda: self.task.state == "running", "the load")

    def catch_up(self) -> None:
        """Returns when all that was committed is on the stream."""
        self.wait_until_running()
        with self.task.source.session() as cursor:
            cursor.execute("SELECT pg_current_wal_lsn()::text")
            end = position.lsn_number(cursor.fetchone()[0])
        self.wait(lambda: self.task.progress.position >= end, "the end of the log")

    def reload(self, schema: str, table: str) -> None:
        number = self.task.progress.reloaded + 1
        self.orders = Orders("running", 1, None, (Orders.Reload(number, schema, table),))
        self.wait(lambda: self.task.progress.reloaded == number, "the reload")
        self.orders = Orders("running", 1)


@contextmanager
def played(given: Configuration, folder: Path, stream: Stream, **more: Any) -> Iterator[Played]:
    """A task that goes on from what folder holds, until the end of the block."""
    ended = threading.Event()

    def pause(seconds: float) -> None:
        if ended.wait(min(seconds, 0.01)):
            raise Ended

    folder.mkdir(exist_ok=True)
    state_file = folder / "state.json"
    progress = position.load(state_file)
    progress.run = 1
    task = Task(
        configuration=given,
        source=Source(given.database, "local_run_lending"),
        writer=StreamWriter(stream, given.stream_arn, pause),
        state_file=state_file,
        progress=progress,
        orders=lambda: running.orders,
        is_ending=ended.is_set,
        **more,
    )

    def work() -> None:
        try:
            task.run()
        except Ended:
            pass
        except Exception as error:
            running.error = error

    running = Played(task, stream, threading.Thread(target=work), ended)
    running.thread.start()
    try:
        yield running
    finally:
        ended.set()
        running.thread.join()
    if running.error is not None and not isinstance(running.error, TaskError):
        raise running.error


def land(stream: Stream, s3: Any) -> None:
    """What is on the stream, landed by the handler in one batch."""
    records = [record(payload, 10**55 + place) for place, (_, payload) in enumerate(stream.records)]
    settings = lambda_function.Settings(s3_bucket="landing", log_level="ERROR")
    lambda_function.land({"Records": records}, settings, lambda _: s3, lambda: 600.0)
