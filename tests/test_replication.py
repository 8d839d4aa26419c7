"""The stand-in for the DMS task, on a real PostgreSQL: load, changes, order, what DMS can't do."""

from __future__ import annotations

import itertools
import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from conftest import BUCKET
from histories import HistoryTable, history, run_history
from replication_support import Database, Stream, land, played, task_configuration

from local_run.postgres import Server, start_postgres
from local_run.proof import prove
from local_run.replication.pgoutput import Begin
from local_run.replication.position import Snapshot
from local_run.replication.source import CAPTURE_DDL, Source
from local_run.replication.task import TaskError, has_seen
from local_run.workload import by_table


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgres(settings={"max_replication_slots": "50", "max_wal_senders": "50"}) as running:
        yield running


# ----------------------------------------------------------------------------------------------------------
# Load and changes
# ----------------------------------------------------------------------------------------------------------


def test_a_load_and_the_changes_since_have_neither_gap_nor_overlap(
    database: Database, tmp_path: Path
) -> None:
    """A writer commits while the load runs: every row comes once, in the load or as a change."""
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, note text)")
    database.sql("INSERT INTO entry SELECT id, repeat('x', 50) FROM generate_series(1, 3000) AS id")
    stream, ended = Stream(), threading.Event()
    written: list[int] = []

    def write() -> None:
        with_own = psycopg2.connect(**database.parameters)
        with_own.autocommit = True
        cursor = with_own.cursor()
        for number in itertools.count(100_000):
            cursor.execute("INSERT INTO entry VALUES (%s, 'late')", (number,))
            written.append(number)
            if ended.is_set():
                break
        with_own.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with played(task_configuration(database.parameters), tmp_path, stream) as task:
            task.wait_until_running()
            before = len(written)
            task.wait(lambda: len(written) > before + 200, "changes after the load")
            ended.set()
            writer.join()
            task.catch_up()
    finally:
        ended.set()
        writer.join()
    loaded = [row["id"] for row in stream.rows_of("public.entry", "load")]
    inserted = [row["id"] for row in stream.rows_of("public.entry", "insert")]
    assert len(loaded) >= 3000
    assert inserted
    assert sorted(loaded + inserted) == [*range(1, 3001), *written]


def test_a_task_that_was_stopped_goes_on_where_it_was(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY)")
    stream, given = Stream(), task_configuration(database.parameters)
    for first in (1, 101, 201):
        with played(given, tmp_path, stream) as task:
            database.sql(f"INSERT INTO entry SELECT generate_series({first}, {first + 49})")
            task.catch_up()
        database.sql(f"INSERT INTO entry SELECT generate_series({first + 50}, {first + 99})")
    with played(given, tmp_path, stream) as task:
        task.catch_up()
    assert sorted(row["id"] for row in stream.rows_of("public.entry")) == [*range(1, 301)]


def test_a_load_that_was_cut_short_is_made_again_and_its_changes_come_once(
    database: Database, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    database.sql("INSERT INTO a SELECT generate_series(1, 10); INSERT INTO b SELECT generate_series(1, 10)")
    stream, given = Stream(), task_configuration(database.parameters)
    is_cut = threading.Event()

    def left(records: list[dict[str, Any]]) -> set[int]:
        """Nothing of the second table's load is taken."""
        if any(b'"load"' in one["Data"] and b'"table-name":"b"' in one["Data"] for one in records):
            is_cut.set()
            return set(range(len(records)))
        return set()

    stream.left = left
    with played(given, tmp_path, stream) as task:
        task.wait(is_cut.is_set, "the load of b")
    database.sql("INSERT INTO a VALUES (11); INSERT INTO b VALUES (11)")
    stream.left = lambda records: set()
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO a VALUES (12); INSERT INTO b VALUES (12)")
        task.catch_up()
    assert stream.operations_of("public.a")[1:] == ["load"] * 10 + ["insert"] * 2
    assert stream.operations_of("public.b") == ["create-table", "create-table"] + ["load"] * 11 + ["insert"]


TABLES = [
    HistoryTable("public.account", "id", {"name": "varchar(80)", "owed": "numeric(12,2)", "note": "text"}),
    HistoryTable("public.entry", "id", {"paid_on": "date", "seen": "timestamptz", "big": "bigint"}),
]
SCHEMA = """
CREATE TABLE account (id int PRIMARY KEY, name varchar(80), owed numeric(12,2), note text);
CREATE TABLE entry (id int PRIMARY KEY, paid_on date, seen timestamptz, big bigint);
ALTER TABLE account ALTER note SET STORAGE EXTERNAL;
"""


@pytest.mark.parametrize("reading", ["change-first", "commit-first"])
@pytest.mark.parametrize("seed", range(4))
def test_random_histories_replay_to_the_state_of_the_source(
    database: Database, tmp_path: Path, s3: Any, reading: str, seed: int
) -> None:
    """Also with requests that are taken in part, a stop in the middle, and tables loaded anew meanwhile."""
    database.sql(SCHEMA)
    source = random.Random(seed)
    transactions = history(TABLES, source)
    stream = Stream()
    stream.left = lambda records: {place for place in range(len(records)) if source.random() < 0.1}
    first = run_history(database.parameters, transactions, 20)
    given = task_configuration(database.parameters)
    loaded = {table.name: count(database, table.name) for table in TABLES}
    ledgers = []
    for part in range(3):
        with played(given, tmp_path, stream, reading=reading) as task:
            task.wait_until_running()
            ledgers.append(run_history(database.parameters, transactions, 60))
            if part == 1 and seed % 2:
                task.reload("public", "account")
                ledgers.append(run_history(database.parameters, transactions, 20))
            task.catch_up()
    committed = sum((ledger.committed for ledger in ledgers), first.committed - first.committed)
    land(stream, s3)
    is_loaded_once = None if seed % 2 else loaded
    found = prove(s3, BUCKET, "", database.parameters, committed=by_table(committed), loaded=is_loaded_once)
    assert found.faults == []
    assert committed.total() > 200


def count(database: Database, table: str) -> int:
    return int(database.sql(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_records_of_one_key_keep_their_order_when_a_request_is_taken_in_part(
    database: Database, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, version int)")
    stream, source = Stream(), random.Random(7)
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        stream.left = lambda records: {place for place in range(len(records)) if source.random() < 0.3}
        database.sql("INSERT INTO entry SELECT id, 0 FROM generate_series(1, 20) AS id")
        for version in range(1, 11):
            database.sql("UPDATE entry SET version = %s", (version,))
        task.catch_up()
    versions: dict[int, list[int]] = {}
    for row in stream.rows_of("public.entry"):
        versions.setdefault(row["id"], []).append(row["version"])
    assert versions == {key: [*range(11)] for key in range(1, 21)}


def test_a_long_transaction_and_one_that_was_rolled_back(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, version int); INSERT INTO entry VALUES (1, 0)")
    stream = Stream()
    late = psycopg2.connect(**database.parameters)
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        cursor = late.cursor()
        cursor.execute("INSERT INTO entry VALUES (2, 0)")
        database.sql("UPDATE entry SET version = 1 WHERE id = 1")
        database.sql("BEGIN; INSERT INTO entry VALUES (3, 0); ROLLBACK")
        cursor.execute("SAVEPOINT s; UPDATE entry SET version = 9 WHERE id = 1; ROLLBACK TO s")
        cursor.execute("UPDATE entry SET version = 2 WHERE id = 1")
        late.commit()
        task.catch_up()
    late.close()
    assert stream.rows_of("public.entry", "insert", "update") == [
        {"id": 1, "version": 1},
        {"id": 2, "version": 0},
        {"id": 1, "version": 2},
    ]
    ids = [one["metadata"]["transaction-record-id"] for one in stream.envelopes_of("public.entry")[-3:]]
    assert ids == [1, 1, 2]


def test_a_reload_has_what_was_committed_before_it_and_the_changes_after(
    database: Database, tmp_path: Path, s3: Any
) -> None:
    """Writers go on meanwhile; a key that vanished before is not in the new generation."""
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, version int)")
    database.sql("INSERT INTO entry SELECT id, 0 FROM generate_series(1, 500) AS id")
    stream = Stream()
    given = task_configuration(
        database.parameters, settings={"FullLoadSettings.TargetTablePrepMode": "DROP_AND_CREATE"}
    )
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("DELETE FROM entry WHERE id <= 100")
        for _ in range(3):
            database.sql("UPDATE entry SET version = version + 1")
            task.reload("public", "entry")
        database.sql("UPDATE entry SET version = version + 1 WHERE id = 101")
        task.catch_up()
    land(stream, s3)
    assert stream.operations_of("public.entry").count("drop-table") == 4
    assert prove(s3, BUCKET, "", database.parameters).faults == []
    assert stream.operations_of("public.entry")[-1] == "update"


# ----------------------------------------------------------------------------------------------------------
# What is said at a start, and of DMS's own tables
# ----------------------------------------------------------------------------------------------------------


def test_a_start_says_its_control_records_in_their_order(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY); INSERT INTO entry VALUES (1)")
    stream = Stream()
    given = task_configuration(
        database.parameters, settings={"FullLoadSettings.TargetTablePrepMode": "DROP_AND_CREATE"}
    )
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        task.wait(lambda: "update" in stream.operations_of(".awsdms_status"), "the status row")
    said = [(one["metadata"]["operation"], one["metadata"]["table-name"]) for one in stream.envelopes]
    assert said == [
        ("create-table", "awsdms_apply_exceptions"),
        ("create-table", "awsdms_status"),
        ("create-table", "awsdms_suspended_tables"),
        ("delete", "awsdms_suspended_tables"),
        ("drop-table", "entry"),
        ("create-table", "entry"),
        ("load", "entry"),
        ("update", "awsdms_status"),
    ]


def test_the_position_moves_on_in_a_database_whose_tables_do_not_change(
    database: Database, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY); CREATE SCHEMA other")
    with played(task_configuration(database.parameters), tmp_path, Stream()) as task:
        task.wait_until_running()
        database.sql("CREATE TABLE other.noise (id int); INSERT INTO other.noise VALUES (1), (2)")
        task.catch_up()


def test_the_heartbeat_is_written_to_its_schema(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY); CREATE SCHEMA awsdms")
    given = task_configuration(database.parameters, heartbeat_schema="awsdms")
    with played(given, tmp_path, Stream()) as task:
        task.catch_up()
        task.wait(
            lambda: database.sql("SELECT to_regclass('awsdms.awsdms_heartbeat')").fetchone()[0] is not None,
            "the heartbeat",
        )
    assert count(database, "awsdms.awsdms_heartbeat") == 1


def test_a_heartbeat_without_its_schema_is_said_and_harms_nothing(
    database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY)")
    stream = Stream()
    with played(
        task_configuration(database.parameters, heartbeat_schema="nowhere"), tmp_path, stream
    ) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (1)")
        task.catch_up()
        task.wait(lambda: task.task.next_heartbeat > 0, "the heartbeat")
    assert stream.rows_of("public.entry") == [{"id": 1}]
    assert "no heartbeat: there is no schema 'nowhere'" in capfd.readouterr().err


# ----------------------------------------------------------------------------------------------------------
# What DMS does not capture
# ----------------------------------------------------------------------------------------------------------


def test_a_table_without_primary_key_gives_its_inserts_and_no_lobs(
    database: Database, tmp_path: Path
) -> None:
    """And its users go on updating it."""
    database.sql("CREATE TABLE entry (id int, note text); INSERT INTO entry VALUES (1, 'a')")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (2, 'b'); UPDATE entry SET id = 3; DELETE FROM entry")
        task.catch_up()
    assert stream.rows_of("public.entry") == [{"id": 1}, {"id": 2}]


def test_a_truncate_is_not_on_the_stream(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY)")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (1); TRUNCATE entry; INSERT INTO entry VALUES (2)")
        task.catch_up()
    assert stream.operations_of("public.entry") == ["create-table", "insert", "insert"]


def test_partitions_come_under_their_own_names(database: Database, tmp_path: Path) -> None:
    database.sql("""
        CREATE TABLE entry (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE entry_low PARTITION OF entry FOR VALUES FROM (0) TO (10);
        CREATE TABLE entry_high PARTITION OF entry FOR VALUES FROM (10) TO (20);
        INSERT INTO entry VALUES (1)""")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (2), (11); UPDATE entry SET id = 12 WHERE id = 2")
        task.catch_up()
    assert stream.operations_of("public.entry_low") == ["create-table", "load", "insert", "delete"]
    assert stream.operations_of("public.entry_high") == ["create-table", "insert", "insert"]
    assert stream.operations_of("public.entry") == []


@pytest.mark.parametrize(
    ("identity", "deleted"),
    [("DEFAULT", {"id": 2, "note": None}), ("FULL", {"id": 2, "note": "b"})],
)
def test_a_delete_has_what_the_replica_identity_keeps(
    database: Database, tmp_path: Path, identity: str, deleted: dict[str, Any]
) -> None:
    database.sql(
        f"CREATE TABLE entry (id int PRIMARY KEY, note text); ALTER TABLE entry REPLICA IDENTITY {identity}"
    )
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql(
            "INSERT INTO entry VALUES (1, 'a'); UPDATE entry SET id = 2, note = 'b'; DELETE FROM entry"
        )
        task.catch_up()
    assert stream.rows_of("public.entry", "delete") == [deleted]
    images = [one.get("before-image") for one in stream.envelopes_of("public.entry")]
    assert images == [None, None, {"id": 1}, None]


def test_a_table_without_replica_identity_gives_its_inserts_alone(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY); ALTER TABLE entry REPLICA IDENTITY NOTHING")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (1); UPDATE entry SET id = 2; DELETE FROM entry")
        task.catch_up()
    assert stream.operations_of("public.entry") == ["create-table", "insert"]


def test_an_unlogged_table_is_loaded_and_gives_no_changes(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE UNLOGGED TABLE entry (id int PRIMARY KEY); INSERT INTO entry VALUES (1)")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (2)")
        task.catch_up()
    assert stream.operations_of("public.entry") == ["create-table", "load"]


# ----------------------------------------------------------------------------------------------------------
# Tables that change, rows that can't be carried
# ----------------------------------------------------------------------------------------------------------

SUSPENDING = {
    "a dropped column": ("ALTER TABLE entry DROP note", "column 'note' is gone"),
    "a renamed column": ("ALTER TABLE entry RENAME note TO remark", "column 'note' is gone"),
    "another type": ("ALTER TABLE entry ALTER note TYPE varchar(5)", "column 'note' has another type"),
    "another key": (
        "ALTER TABLE entry DROP CONSTRAINT entry_pkey, ADD PRIMARY KEY (id, other)",
        "the primary key was redefined",
    ),
}


@pytest.mark.parametrize(("alter", "reason"), SUSPENDING.values(), ids=SUSPENDING)
def test_a_table_altered_unseen_is_suspended_and_the_others_go_on(
    database: Database, tmp_path: Path, alter: str, reason: str
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, note text, other int DEFAULT 1)")
    database.sql("CREATE TABLE another (id int PRIMARY KEY)")
    stream, given = Stream(), task_configuration(database.parameters)
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (1)")
        database.sql(alter)
        database.sql("INSERT INTO entry (id) VALUES (2); INSERT INTO another VALUES (1)")
        task.catch_up()
        suspended = task.task.progress.table("public", "entry")
        assert suspended.suspended.startswith(reason)
        assert suspended.state == "Table error"
    assert [row["id"] for row in stream.rows_of("public.entry")] == [1]
    assert stream.rows_of("public.another") == [{"id": 1}]
    (told,) = stream.rows_of(".awsdms_suspended_tables", "insert")
    assert (told["table_owner"], told["table_name"]) == ("public", "entry")


def test_a_suspended_table_comes_back_with_a_stop_a_resume_and_a_reload(
    database: Database, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, note text)")
    stream, given = Stream(), task_configuration(database.parameters)
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("ALTER TABLE entry RENAME note TO remark; INSERT INTO entry VALUES (1, 'a')")
        task.catch_up()
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (2, 'b')")
        task.catch_up()
        assert stream.rows_of("public.entry") == []
        task.reload("public", "entry")
        database.sql("INSERT INTO entry VALUES (3, 'c')")
        task.catch_up()
    assert [row["remark"] for row in stream.rows_of("public.entry")] == ["a", "b", "c"]


def test_a_new_column_comes_after_a_stop_and_a_resume(database: Database, tmp_path: Path) -> None:
    """What was written before in a log that DMS reads later has no such column yet: NULL."""
    database.sql("CREATE TABLE entry (id int PRIMARY KEY)")
    stream, given = Stream(), task_configuration(database.parameters)
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("ALTER TABLE entry ADD note text; INSERT INTO entry VALUES (1, 'unseen')")
        task.catch_up()
    database.sql(
        "INSERT INTO entry VALUES (2, 'b'); ALTER TABLE entry ADD other int; INSERT INTO entry VALUES (3)"
    )
    with played(given, tmp_path, stream) as task:
        task.catch_up()
    assert stream.rows_of("public.entry") == [
        {"id": 1},
        {"id": 2, "note": "b", "other": None},
        {"id": 3, "note": None, "other": None},
    ]


def test_with_captured_ddl_an_alter_is_told_and_followed(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, note text)")
    stream, given = Stream(), task_configuration(database.parameters, postgresql={"CaptureDdls": True})
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        for statement in (
            *("ALTER TABLE entry ADD other int", "INSERT INTO entry VALUES (1, 'a', 2)"),
            *("ALTER TABLE entry DROP note", "INSERT INTO entry VALUES (2, 3)"),
            *("ALTER TABLE entry ALTER other TYPE bigint", "INSERT INTO entry VALUES (3, 4)"),
        ):
            database.sql(statement)
            task.catch_up()
    assert stream.operations_of("public.entry") == [
        *("create-table", "add-column", "insert", "drop-column", "insert", "column-type-change", "insert")
    ]
    assert stream.rows_of("public.entry") == [
        {"id": 1, "note": "a", "other": 2},
        {"id": 2, "other": 3},
        {"id": 3, "other": 4},
    ]
    assert count(database, "public.awsdms_ddl_audit") == 0


def test_rows_of_a_former_type_suspend_their_table_and_are_not_quoted(
    database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They were written before the ALTER, and are read after it."""
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, note text); INSERT INTO entry VALUES (1, 'a')")
    stream, given = Stream(), task_configuration(database.parameters)
    with played(given, tmp_path, stream) as task:
        task.catch_up()
    database.sql("UPDATE entry SET note = 'top secret'")
    database.sql("ALTER TABLE entry ALTER note TYPE double precision USING 0")
    with played(given, tmp_path, stream) as task:
        task.catch_up()
        reason = task.task.progress.table("public", "entry").suspended
    assert reason.startswith("column 'note' has another type: stop and resume the task, then reload")
    assert "top secret" not in capfd.readouterr().err
    assert stream.rows_of("public.entry", "update") == []


def test_a_value_that_does_not_fit_suspends_its_table_and_is_not_quoted(
    database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, d float8); CREATE TABLE well (id int PRIMARY KEY)")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        change = task.task.tables["public", "entry"].messages.change

        def unfit(*arguments: Any, **named: Any) -> Any:
            float("top secret")
            return change(*arguments, **named)

        task.task.tables["public", "entry"].messages.change = unfit  # type: ignore[method-assign]
        database.sql("INSERT INTO entry VALUES (1, 2); INSERT INTO well VALUES (1)")
        task.catch_up()
        reason = task.task.progress.table("public", "entry").suspended
    assert reason.startswith("a value does not fit its column's type")
    assert "top secret" not in capfd.readouterr().err
    assert stream.rows_of("public.well") == [{"id": 1}]


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ("ALTER TABLE entry RENAME TO other", "it is called otherwise now"),
        ("DROP TABLE entry", "it was dropped"),
        ("DROP TABLE entry; CREATE TABLE entry (id int PRIMARY KEY)", "it was dropped"),
    ],
)
def test_a_table_that_is_gone_under_its_name_is_suspended(
    database: Database, tmp_path: Path, statements: str, reason: str
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY)")
    with played(task_configuration(database.parameters), tmp_path, Stream()) as task:
        task.catch_up()
        database.sql(statements)
        task.task.next_catalog = 0.0
        task.wait(lambda: task.task.progress.table("public", "entry").suspended, "the suspension")
        assert task.task.progress.table("public", "entry").suspended.startswith(reason)


def test_a_new_table_is_named_with_what_takes_it_in(
    database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY)")
    with played(task_configuration(database.parameters), tmp_path, Stream()) as task:
        task.catch_up()
        database.sql("CREATE TABLE visit (id int PRIMARY KEY)")
        task.task.next_catalog = 0.0
        task.wait(lambda: ("public", "visit") in task.task.met, "the new table")
    assert "table public.visit is new: python setup_dms.py apply takes it in" in capfd.readouterr().err


def test_a_reload_of_a_table_altered_meanwhile_suspends_it_alone(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, note text); CREATE TABLE well (id int PRIMARY KEY)")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("ALTER TABLE entry DROP note")
        task.reload("public", "entry")
        database.sql("INSERT INTO well VALUES (1)")
        task.catch_up()
        reason = task.task.progress.table("public", "entry").suspended
    assert reason.startswith("it is not what DMS knows any more")
    assert stream.rows_of("public.well") == [{"id": 1}]


def test_a_reload_waits_for_a_snapshot_that_has_seen_what_was_sent(
    database: Database, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY); INSERT INTO entry VALUES (1)")
    stream, asked = Stream(), []

    def are_seen_by(snapshot: Any) -> bool:
        asked.append(snapshot)
        return len(asked) > 2

    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.catch_up()
        task.task.recent.are_seen_by = are_seen_by  # type: ignore[method-assign]
        task.reload("public", "entry")
    assert len(asked) == 3
    assert stream.operations_of("public.entry").count("load") == 2


def test_a_load_leaves_out_the_changes_that_its_snapshot_has_seen() -> None:
    snapshot = Snapshot(100, 105, frozenset({101}), log_end=1000)
    seen = [
        has_seen(snapshot, Begin(lsn, "", xid)) for xid, lsn in ((99, 10), (101, 10), (104, 10), (104, 1000))
    ]
    assert seen == [True, False, True, False]
    assert not has_seen(None, Begin(10, "", 99))


def test_a_table_that_others_inherit_from_is_loaded_without_their_rows(
    database: Database, tmp_path: Path
) -> None:
    database.sql(
        "CREATE TABLE entry (id int PRIMARY KEY); CREATE TABLE late (PRIMARY KEY (id)) INHERITS (entry)"
    )
    database.sql("INSERT INTO entry VALUES (1); INSERT INTO late VALUES (2)")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (3); INSERT INTO late VALUES (4)")
        task.catch_up()
    assert [row["id"] for row in stream.rows_of("public.entry")] == [1, 3]
    assert [row["id"] for row in stream.rows_of("public.late")] == [2, 4]


def test_what_was_made_in_the_database_goes_and_what_was_there_stays(
    database: Database, tmp_path: Path
) -> None:
    """Both of an event trigger of captured DDL: ours, and one that a real task has made."""
    database.sql("CREATE TABLE entry (id int PRIMARY KEY); CREATE SCHEMA awsdms")
    given = task_configuration(
        database.parameters, postgresql={"CaptureDdls": True}, heartbeat_schema="awsdms"
    )
    found = "SELECT (SELECT count(*) FROM pg_event_trigger), (SELECT count(*) FROM pg_publication),"
    found += " (SELECT count(*) FROM pg_tables WHERE tablename LIKE 'awsdms%')"

    def run(folder: Path) -> Any:
        with played(given, folder, Stream()) as task:
            task.catch_up()
            task.wait(lambda: task.task.next_heartbeat > 0, "the heartbeat")
        task.task.source.remove(task.task.progress)
        return database.sql(found).fetchone()

    assert run(tmp_path / "first") == (0, 0, 0)
    database.sql(CAPTURE_DDL)
    assert run(tmp_path / "second") == (1, 0, 1)
    database.sql("DROP EVENT TRIGGER awsdms_intercept_ddl")


def test_a_limit_of_the_role_does_not_end_a_load(database: Database, tmp_path: Path) -> None:
    database.sql(
        "CREATE TABLE entry (id int PRIMARY KEY); INSERT INTO entry SELECT generate_series(1, 20000)"
    )
    database.sql(f"ALTER DATABASE {database.name} SET statement_timeout = '20ms'")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
    assert len(stream.rows_of("public.entry", "load")) == 20_000


def test_a_row_too_long_for_the_stream_suspends_its_table_in_the_load_too(
    database: Database, tmp_path: Path
) -> None:
    database.sql(
        "CREATE TABLE entry (id int PRIMARY KEY, a text, b text); CREATE TABLE well (id int PRIMARY KEY)"
    )
    database.sql("INSERT INTO entry VALUES (1, repeat('x', 600000), repeat('y', 600000))")
    database.sql("INSERT INTO well VALUES (1)")
    stream = Stream()
    given = task_configuration(database.parameters, settings={"TargetMetadata.LobMaxSize": 2000})
    with played(given, tmp_path, stream) as task:
        task.catch_up()
        assert task.task.progress.table("public", "entry").suspended.startswith(
            "column '*': the record has 1,2"
        )
    assert stream.rows_of("public.well") == [{"id": 1}]


def test_malformed_utf8_suspends_its_table_and_no_other(server: Server, tmp_path: Path) -> None:
    database = Database(server, "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    for table in ("loaded", "changed", "well"):
        database.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, note text)")
    database.sql(r"INSERT INTO loaded VALUES (1, E'\xc3\x28')")
    stream, given = Stream(), task_configuration(database.parameters)
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        database.sql(r"INSERT INTO changed VALUES (1, E'\xff'); INSERT INTO well VALUES (1, 'ok')")
        task.catch_up()
        reasons = {table.name: table.suspended for table in task.task.progress.tables}
    assert reasons == {
        "changed": "column 'note': its bytes are not UTF-8, which JSON is: correct the value at the source",
        "loaded": "column 'note': its bytes are not UTF-8, which JSON is: correct the value at the source",
        "well": "",
    }
    assert stream.rows_of("public.well") == [{"id": 1, "note": "ok"}]
    database.close()


def test_values_that_json_has_no_word_for_come_alike_in_load_and_change(
    database: Database, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, d float8, n numeric, a int[])")
    stream = Stream()
    rows = "SELECT id, 'NaN'::float8, 'NaN'::numeric, ARRAY[1, NULL, 3] FROM generate_series(%s, %s) AS id"
    database.sql(f"INSERT INTO entry {rows}", (1, 1))
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql(f"INSERT INTO entry {rows}", (2, 2))
        database.sql("INSERT INTO entry VALUES (3, 'Infinity', NULL, '{}')")
        task.catch_up()
    assert stream.rows_of("public.entry") == [
        {"id": 1, "d": None, "n": None, "a": "{1,NULL,3}"},
        {"id": 2, "d": None, "n": None, "a": "{1,NULL,3}"},
        {"id": 3, "d": None, "n": None, "a": "{}"},
    ]


def test_a_table_whose_key_is_a_lob_for_dms_is_suspended(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id text PRIMARY KEY); INSERT INTO entry VALUES ('a')")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.catch_up()
        reason = task.task.progress.table("public", "entry").suspended
    assert reason == "primary key column 'id' is a LOB for DMS"
    assert stream.operations_of("public.entry") == []


def test_tables_of_1600_columns_and_of_none(database: Database, tmp_path: Path) -> None:
    columns = ", ".join(f"c{number} int" for number in range(2, 1601))
    database.sql(f"CREATE TABLE wide (c1 int PRIMARY KEY, {columns}); CREATE TABLE bare ()")
    database.sql("INSERT INTO wide (c1, c1600) VALUES (1, 7); INSERT INTO bare DEFAULT VALUES")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO wide (c1, c1600) VALUES (2, 8); INSERT INTO bare DEFAULT VALUES")
        task.catch_up()
    wide = stream.rows_of("public.wide")
    assert [(len(row), row["c1"], row["c2"], row["c1600"]) for row in wide] == [
        (1600, 1, None, 7),
        (1600, 2, None, 8),
    ]
    assert stream.rows_of("public.bare") == [{}, {}]


def test_quoted_and_mixed_case_names_stay_as_they_are(database: Database, tmp_path: Path) -> None:
    database.sql('CREATE SCHEMA "My Schema"')
    database.sql('CREATE TABLE "My Schema"."Ta.b\'le" ("I d" int PRIMARY KEY, "select" text)')
    stream = Stream()
    given = task_configuration(database.parameters, tables='"My Schema".%')
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        database.sql('INSERT INTO "My Schema"."Ta.b\'le" VALUES (1, \'a\')')
        task.catch_up()
    assert stream.rows_of("My Schema.Ta.b'le") == [{"I d": 1, "select": "a"}]


def test_a_generated_column_is_left_out_of_load_and_changes_and_that_is_said(
    database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (2 * id) STORED)")
    database.sql("INSERT INTO entry VALUES (1)")
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (2)")
        task.catch_up()
    assert stream.rows_of("public.entry") == [{"id": 1}, {"id": 2}]
    assert "public.entry: generated columns are left out: twice" in capfd.readouterr().err


def test_a_record_that_the_stream_can_not_take_suspends_its_table(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, a text, b text)")
    stream = Stream()
    given = task_configuration(database.parameters, settings={"TargetMetadata.LobMaxSize": 2000})
    with played(given, tmp_path, stream) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (1, repeat('x', 600000), repeat('y', 600000))")
        database.sql("INSERT INTO entry VALUES (2)")
        task.catch_up()
        reason = task.task.progress.table("public", "entry").suspended
    assert re.fullmatch(r"column '\*': the record has 1,200,\d{3} bytes, the stream takes 1,048,576", reason)
    assert stream.rows_of("public.entry") == []


def test_a_value_longer_than_lob_max_size_fails_the_task_as_the_endpoint_asks(
    database: Database, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY, note text)")
    with played(task_configuration(database.parameters), tmp_path, Stream()) as task:
        task.wait_until_running()
        database.sql("INSERT INTO entry VALUES (1, repeat('x', 40000))")
        with pytest.raises(
            TaskError, match=r"table public.entry: column 'note': .* longer than LobMaxSize, 64 KB"
        ):
            task.catch_up()


def test_a_selection_without_a_table_fails_the_task(database: Database, tmp_path: Path) -> None:
    with (
        played(task_configuration(database.parameters), tmp_path, Stream()) as task,
        pytest.raises(TaskError, match="no table was found that the selection rules include"),
    ):
        task.wait_until_running()


def test_a_slot_that_is_gone_fails_the_task(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE entry (id int PRIMARY KEY)")
    given = task_configuration(database.parameters)
    with played(given, tmp_path, Stream()) as task:
        task.catch_up()
        slot = task.task.progress.slot
    Source(database.parameters, "").drop_slot(slot)
    with (
        played(given, tmp_path, Stream()) as task,
        pytest.raises(TaskError, match=f"replication slot {slot} is gone"),
    ):
        task.wait_until_running()
