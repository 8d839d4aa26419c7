"""One run of the DMS task: full load from a snapshot, then changes, in the order of their commits, for ever.

    slot + exported snapshot -> load of every table -> changes since the slot -> messages -> stream

No gap and no overlap between load and changes: the slot begins where its snapshot ends. A table that is
loaded later (a reload, a load that was cut short) is read in a snapshot of its own, and of its changes come
those whose transactions that snapshot has not seen. The position is saved only when the stream has taken all
before it. A table that can't go on is suspended, as DMS does it, and says why; the others go on.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psycopg2  # type: ignore[import-untyped]

from local_run.replication import pgoutput, position
from local_run.replication.configuration import Configuration
from local_run.replication.control import Orders
from local_run.replication.envelopes import Message, OwnMessages, TableMessages, Transaction
from local_run.replication.live_table import LiveTable, kind_of_alter
from local_run.replication.position import Progress, RecentTransactions, Snapshot, TableProgress
from local_run.replication.source import Row, Source, Stream
from local_run.replication.stream_writer import StreamWriter
from local_run.replication.tables import SourceTable, read_tables
from local_run.replication.values import LobTruncated, ValueFault

IDLE_SECONDS = 0.1
LOOK_SECONDS = 0.25  # for orders, while changes come without a pause
STATUS_SECONDS = 60.0  # a row of awsdms_status a minute (observed)
CATALOG_SECONDS = 5.0
# Of a value that is none of the type; their own texts hold it.
UNFIT = (ValueError, ArithmeticError, struct.error)
Reading = Literal["change-first", "commit-first"]


ANEW = "stop and resume the task, then reload the table"


class TaskError(Exception):
    """The task has failed, as DMS's tasks do: what is to be done is a person's."""


class Ended(Exception):
    """The task is to stop, or this process is."""


@dataclass
class OpenTransaction:
    begin: pgoutput.Begin
    transaction: Transaction
    records: int = 0  # sent of it


@dataclass
class Task:
    """A task that runs; all of its state that outlives it is in progress, which is saved to state_file."""

    configuration: Configuration
    source: Source
    writer: StreamWriter
    state_file: Path
    progress: Progress
    orders: Callable[[], Orders]
    is_ending: Callable[[], bool]
    reading: Reading = "change-first"
    state: str = "waiting"
    tables: dict[tuple[str, str], LiveTable] = field(default_factory=dict)
    shapes: dict[int, tuple[pgoutput.Relation, int]] = field(default_factory=dict)  # as last told, and where
    relations: dict[int, LiveTable | None] = field(default_factory=dict)  # None: its changes are not sent
    sent_to: int = 0  # end of the last transaction that the writer has
    open: OpenTransaction | None = None
    recent: RecentTransactions = field(default_factory=RecentTransactions)
    known_at: int = 0  # where the log stood when the tables' columns were read
    next_look: float = 0.0  # of the monotonic clock, as the others
    next_status: float = 0.0
    next_heartbeat: float = 0.0
    next_catalog: float = 0.0
    met: set[tuple[str, str]] = field(default_factory=set)  # new tables that were told of
    own_rows: int = 0  # of DMS's own tables, which it counts in place of transactions
    changes: int = 0
    loaded: int = 0

    def __post_init__(self) -> None:
        host = str(self.configuration.database["host"])
        self.own = OwnMessages(self.configuration.messages, self.configuration.rendering, server_name=host)

    # ------------------------------------------------------------------------------------------------------
    # Entry point
    # ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Runs until it is stopped (Ended), fails (TaskError), or its database goes away (psycopg2.Error)."""
        self.state = "loading"
        self.read_tables()
        self.source.publish(live.table for live in self.tables.values())
        self.announce()
        for live in self.tables.values():
            if live.table.why_not_migrated and not live.progress.suspended:
                self.suspend(live, live.table.why_not_migrated)
        if not self.progress.slot:
            self.begin()
        elif not self.source.has_slot(self.progress.slot):
            raise TaskError(
                f"replication slot {self.progress.slot} is gone, or its log is: changes are lost; "
                "python setup_dms.py reload --all begins anew"
            )
        for live in self.unloaded():
            self.load_again(live)
        self.state = "running"
        with self.source.stream(self.progress.slot, self.progress.position) as stream:
            self.follow(stream)

    def announce(self) -> None:
        """What DMS says at every start of a task, of its own tables and of those that it has (observed)."""
        if self.progress.announced_run == self.progress.run:
            return
        given = self.configuration
        self.writer.add(self.own.create_exceptions(now()))
        if given.has_status:
            self.writer.add(self.own.create_status(now()))
        if given.has_suspended_tables:
            self.writer.add(self.own.create_suspended_tables(now()))
            self.writer.add(self.own.clear_suspended_tables(now()))
        for live in self.tables.values():
            if live.progress.is_loaded:
                self.writer.add(live.messages.create_table(now()))
        self.writer.put()
        self.progress.announced_run = self.progress.run
        self.save()

    def begin(self) -> None:
        """Makes the slot and loads every table from its snapshot."""
        name = self.source.slot_name(self.configuration.messages.task_id)
        connection, snapshot, start = self.source.create_slot(name)
        try:
            self.progress.slot, self.progress.position = name, start
            self.save()
            for live in self.unloaded():
                self.load(live, lambda table, take: self.source.load_exported(table, snapshot, take))
        finally:
            connection.close()

    def unloaded(self) -> list[LiveTable]:
        return [
            live
            for live in self.tables.values()
            if not (live.progress.is_loaded or live.progress.is_left or live.progress.suspended)
        ]

    # ------------------------------------------------------------------------------------------------------
    # Tables
    # ------------------------------------------------------------------------------------------------------

    def read_tables(self) -> None:
        """Learns the tables and their columns. Raises TaskError when there are none."""
        with self.source.session() as cursor:
            cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
            self.known_at = position.lsn_number(cursor.fetchone()[0])
            found = read_tables(cursor.connection, self.configuration.selects)
            self.progress.keep({(table.schema, table.name) for table in found})
            self.tables = {(one.schema, one.name): self.live_table(cursor, one) for one in found}
        if not self.tables:  # FailOnNoTablesCaptured
            raise TaskError("no table was found that the selection rules include")
        if self.configuration.captures_ddl:
            self.progress.made += self.source.capture_ddl()

    def live_table(self, cursor: Any, table: SourceTable) -> LiveTable:
        given = self.configuration
        load_key, change_key, key_name = given.partition_keys(
            table.schema, table.name, bool(table.primary_key)
        )
        messages = TableMessages(
            table,
            given.messages,
            given.rendering,
            load_key=load_key,
            change_key=change_key,
            key_name=key_name,
        )
        cursor.execute(
            "SELECT attname, atttypid::bigint, atttypmod FROM pg_attribute"
            " WHERE attrelid = %s AND attnum > 0",
            (table.oid,),
        )
        types = {name: (oid, modifier) for name, oid, modifier in cursor.fetchall()}
        progress = self.progress.table(table.schema, table.name)
        # Whether DMS loads a table that it meets at a resume is not documented: apply asks for it.
        is_new = bool(self.progress.slot) and progress.run == 0
        progress.is_left = progress.is_left or is_new or not given.loads
        progress.run = self.progress.run
        if table.left_out:
            say(f"{table.schema}.{table.name}: generated columns are left out: {', '.join(table.left_out)}")
        return LiveTable(table, types, messages, progress)

    def suspend(self, live: LiveTable, reason: str) -> None:
        """Takes the table out, as SUSPEND_TABLE does, and says so."""
        say(f"table {live.table.schema}.{live.table.name} is suspended: {reason}")
        live.progress.suspended, live.progress.state = reason, "Table error"
        if self.configuration.has_suspended_tables:
            self.own_rows += 1
            self.writer.add(self.own.suspended_table_row(*live.name, reason, now(), number=self.own_rows))

    # ------------------------------------------------------------------------------------------------------
    # Loads
    # ------------------------------------------------------------------------------------------------------

    def load_again(self, live: LiveTable) -> None:
        """Loads a table by itself; its changes go on from there."""

        def is_late_enough(snapshot: Snapshot) -> bool:
            self.check_end()
            return self.recent.are_seen_by(snapshot)

        live.progress.snapshot = None
        self.load(live, lambda table, take: self.source.load_now(table, take, is_late_enough))

    def load(
        self, live: LiveTable, read: Callable[[SourceTable, Callable[[Row], None]], Snapshot | None]
    ) -> None:
        """Sends the table's control records, then its rows, and saves that they are there."""
        if self.configuration.drops_tables:
            self.writer.add(live.messages.drop_table(now()))
        self.writer.add(live.messages.create_table(now()))
        self.writer.put()  # before the rows: they may go to other shards
        live.progress.loaded_rows = 0

        def take(row: Row) -> None:
            message = live.messages.load(row, now())
            self.check_size(message)
            self.writer.add(message)
            live.progress.loaded_rows += 1
            self.loaded += 1
            if self.writer.is_full:
                self.writer.put(keeps_order=False)
                self.check_end()

        try:
            live.progress.snapshot = read(live.table, take)
            live.progress.state = "Table completed"
        except ValueFault as fault:
            self.refuse(live, fault)
        except (psycopg2.errors.UndefinedColumn, psycopg2.errors.UndefinedTable):
            self.suspend(live, f"it is not what DMS knows any more: {ANEW}")
        except UNFIT:
            self.suspend(live, f"a value does not fit its column's type: {ANEW}")
        self.writer.put(keeps_order=False)
        self.save()

    def refuse(self, live: LiveTable, fault: ValueFault) -> None:
        """Raises TaskError, or suspends the table, as the endpoint asks for such a value."""
        if isinstance(fault, LobTruncated):
            raise TaskError(f"table {live.table.schema}.{live.table.name}: {fault}")
        self.suspend(live, str(fault))

    def reload(self, order: Orders.Reload) -> None:
        """Loads a table anew, between two transactions; what was suspended is not any more."""
        live = self.tables.get((order.schema, order.table))
        if live is not None:
            live.progress.suspended, live.progress.state = "", "Table is being reloaded"
            live.progress.is_left = False
            self.load_again(live)
            if live.table.oid in self.shapes:  # it is not told again
                self.take_shape(*self.shapes[live.table.oid])
        self.progress.reloaded = order.number
        self.save()

    # ------------------------------------------------------------------------------------------------------
    # Changes
    # ------------------------------------------------------------------------------------------------------

    def follow(self, stream: Stream) -> None:
        while True:
            told = stream.read()
            if told is not None:
                lsn, payload = told
                self.take(pgoutput.read(payload), lsn)
                if self.writer.is_full:
                    self.flush(stream)
                if self.open is None and time.monotonic() >= self.next_look:
                    self.between_transactions(stream)
                continue
            if (seconds := self.writer.linger_left) > 0:
                stream.wait(seconds)
                continue
            if self.open is None:
                self.between_transactions(stream)
            else:
                self.flush(stream)
            stream.wait(IDLE_SECONDS)

    def between_transactions(self, stream: Stream) -> None:
        """Orders, DMS's own rows, the heartbeat; a log without changes of ours is behind us too."""
        self.flush(stream)
        self.next_look = time.monotonic() + LOOK_SECONDS
        self.check_end()
        if stream.log_end > self.progress.position:
            self.sent_to = stream.log_end
        for order in self.orders().reloads:
            if order.number > self.progress.reloaded:
                self.reload(order)
        self.keep_alive()
        self.flush(stream)

    def take(self, told: pgoutput.Told | None, lsn: int) -> None:
        if isinstance(told, pgoutput.Insert | pgoutput.Update | pgoutput.Delete):
            self.take_change(told, lsn)
        elif isinstance(told, pgoutput.Begin):
            transaction = Transaction(told.xid, told.committed_at)
            self.open = OpenTransaction(told, transaction)
        elif isinstance(told, pgoutput.Commit):
            assert self.open is not None
            self.recent.add(self.open.begin.xid)
            self.open, self.sent_to = None, told.end_lsn
        elif told is not None and self.open is not None:
            self.take_shape(told, self.open.begin.commit_lsn)

    def take_change(self, change: pgoutput.Insert | pgoutput.Update | pgoutput.Delete, lsn: int) -> None:
        live, at = self.relations.get(change.oid), self.open
        if live is None or at is None or has_seen(live.progress.snapshot, at.begin):
            return None
        operation, new, old = parts(change)
        try:
            message = live.messages.change(
                operation,
                live.arranged(new),
                live.arranged(old),
                transaction=at.transaction,
                record_id=at.records + 1,
                previous=self.progress.previous,
                position=self.stream_position(lsn, at),
                published_at=now(),
            )
            self.check_size(message)
        except ValueFault as fault:
            self.relations[change.oid] = None
            return self.refuse(live, fault)
        except UNFIT:
            self.relations[change.oid] = None
            return self.suspend(live, f"a value does not fit its column's type: {ANEW}")
        if message is not None:
            at.records += 1
            self.progress.previous = (at.transaction.id, at.records)
            self.writer.add(message)
            self.count(live.progress, operation)
        return None

    def check_size(self, message: Message | None) -> None:
        """Raises ValueFault for a record that the stream would not take."""
        if message is not None and not self.writer.fits(message):
            size, most = len(message.payload), self.writer.record_bytes
            raise ValueFault("*", f"the record has {size:,} bytes, the stream takes {most:,}")

    def stream_position(self, lsn: int, at: OpenTransaction) -> str:
        """LSN.n.LSN: which of the two is the change's and which the commit's is not known; n is inferred."""
        first, second = lsn, at.begin.commit_lsn
        if self.reading == "commit-first":
            first, second = second, first
        return f"{wide(first)}.{at.records + 1}.{wide(second)}"

    def count(self, progress: TableProgress, operation: str) -> None:
        self.changes += 1
        if operation == "insert":
            progress.inserts += 1
        elif operation == "update":
            progress.updates += 1
        else:
            progress.deletes += 1

    # ------------------------------------------------------------------------------------------------------
    # Tables that change
    # ------------------------------------------------------------------------------------------------------

    def take_shape(self, shape: pgoutput.Relation, lsn: int) -> None:
        """Learns how a table's rows come from here on; lsn: where the log tells of it."""
        self.shapes[shape.oid] = shape, lsn
        self.relations[shape.oid] = None
        live = self.tables.get((shape.schema, shape.name))
        if live is None or live.progress.suspended:
            return
        is_former = lsn < self.known_at
        if not is_former and self.configuration.captures_ddl and live.is_behind(shape):
            live = self.learn(live)
            is_former = True  # what was learnt may be of a later ALTER yet
        if fault := live.fault(shape, is_former=is_former):
            return self.suspend(live, f"{fault}: {ANEW}")
        live.follow(shape)
        self.relations[shape.oid] = live

    def learn(self, live: LiveTable) -> LiveTable:
        """The table with its columns of now; an ALTER event tells of it, as it is asked for."""
        with self.source.session() as cursor:
            tables = read_tables(cursor.connection, lambda *name: name == live.name)
            if not tables:
                return live
            learnt = self.live_table(cursor, tables[0])
        self.tables[live.name] = learnt
        if self.configuration.alters:
            self.writer.add(learnt.messages.alter(kind_of_alter(live.table, learnt.table), now()))
            learnt.progress.ddls += 1
        return learnt

    # ------------------------------------------------------------------------------------------------------
    # Output
    # ------------------------------------------------------------------------------------------------------

    def flush(self, stream: Stream) -> None:
        """Puts what was sent, then saves how far that is."""
        self.writer.put()
        if self.sent_to > self.progress.position:
            self.progress.position = self.sent_to
            self.save()
            stream.confirm(self.progress.position)

    def save(self) -> None:
        position.save(self.state_file, self.progress)

    def keep_alive(self) -> None:
        """DMS's row of status and its heartbeat, each at its time."""
        if self.configuration.has_status and time.monotonic() >= self.next_status:
            self.next_status = time.monotonic() + STATUS_SECONDS
            self.own_rows += 1
            where = position.lsn_text(self.progress.position)
            self.writer.add(
                self.own.status_row("CHANGE PROCESSING", now(), position=where, number=self.own_rows)
            )
        if self.configuration.heartbeat_schema and time.monotonic() >= self.next_heartbeat:
            self.next_heartbeat = time.monotonic() + 60.0 * self.configuration.heartbeat_minutes
            self.progress.made += self.source.beat(self.configuration.heartbeat_schema)
        if time.monotonic() >= self.next_catalog:
            self.next_catalog = time.monotonic() + CATALOG_SECONDS
            self.look_at_catalog()

    def look_at_catalog(self) -> None:
        """Suspends tables that are no longer what was read: the log does not tell of it. Names new ones."""
        names = self.source.names()
        for live in self.tables.values():
            found = names.get(live.table.oid)
            if found != live.name and not live.progress.suspended:
                reason = "it is called otherwise now" if found else "it was dropped"
                self.relations[live.table.oid] = None
                self.suspend(live, f"{reason}: {ANEW}")
        for name in names.values():
            if name not in self.tables and name not in self.met and self.configuration.selects(*name):
                self.met.add(name)
                say(f"table {'.'.join(name)} is new: python setup_dms.py apply takes it in")

    def check_end(self) -> None:
        if self.is_ending() or self.orders().status in ("stopping", "stopped", "deleting"):
            raise Ended


# ----------------------------------------------------------------------------------------------------------
# Changes, as DMS sees them
# ----------------------------------------------------------------------------------------------------------


def parts(
    change: pgoutput.Insert | pgoutput.Update | pgoutput.Delete,
) -> tuple[Literal["insert", "update", "delete"], pgoutput.Values | None, pgoutput.Values | None]:
    if isinstance(change, pgoutput.Insert):
        return "insert", change.new, None
    if isinstance(change, pgoutput.Update):
        return "update", change.new, change.old
    return "delete", None, change.old


def has_seen(snapshot: Snapshot | None, begin: pgoutput.Begin) -> bool:
    """Whether the table's load shows this transaction already."""
    return snapshot is not None and begin.commit_lsn < snapshot.log_end and snapshot.has_seen(begin.xid)


def wide(lsn: int) -> str:
    """00000001/3A0041B8: as DMS writes it (observed)."""
    return f"{lsn >> 32:08X}/{lsn & 0xFFFFFFFF:08X}"


def now() -> str:
    """2026-03-01T09:16:10.500120Z: as DMS writes times (observed)."""
    return datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
