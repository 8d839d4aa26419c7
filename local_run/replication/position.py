"""How far the stand-in is: what survives a kill, in one small file that is replaced as a whole.

Saved only after Kinesis has taken what it speaks of; so a kill at any moment makes some changes come again,
as they do from DMS, and loses none. Not synced to the disk: a process is killed here, not the machine.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import msgspec

from local_run.whole_file import write_whole

Name = tuple[str, str]  # schema, table


class Snapshot(msgspec.Struct, frozen=True):
    """Which transactions a load has seen: pg_current_snapshot(), and where the log stood right after it."""

    xmin: int
    xmax: int
    running: frozenset[int]  # of xmin..xmax, those that it has not seen
    log_end: int  # a transaction that committed behind it was not seen

    def has_seen(self, xid: int) -> bool:
        """Whether a transaction that committed before log_end shows in the load; xid is of 32 bits."""
        whole = xid | (self.xmax & ~0xFFFFFFFF)
        if whole - self.xmax > 1 << 31:
            whole -= 1 << 32
        return whole < self.xmin or (whole < self.xmax and whole not in self.running)


class TableProgress(msgspec.Struct):
    """One table of the task, by what DescribeTableStatistics calls its columns."""

    schema: str
    name: str
    state: str = "Before load"
    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    ddls: int = 0
    loaded_rows: int = 0
    snapshot: Snapshot | None = None  # None: the slot's own, or not loaded
    suspended: str = ""  # why
    is_left: bool = False  # not to be loaded, until a reload is asked for
    run: int = 0  # the last one that it was part of

    @property
    def is_loaded(self) -> bool:
        return self.state == "Table completed"


class Progress(msgspec.Struct):
    """Of one task: its run, its slot, the end of the last transaction that is on the stream."""

    task_arn: str = ""
    database: str = ""  # host:port/name
    publications: str = ""  # what their names begin with
    made: list[str] = []  # in the database, besides slot and publications: see Source.remove
    run: int = 0
    announced_run: int = 0  # of which the control records of a start are on the stream
    slot: str = ""
    position: int = 0
    previous: tuple[int, int] | None = None  # transaction id, record id: of the record before
    reloaded: int = 0  # number of the last order to reload that was carried out
    tables: list[TableProgress] = []

    def keep(self, names: set[Name]) -> None:
        """Forgets the other tables: they are not the task's any more."""
        self.tables = [table for table in self.tables if (table.schema, table.name) in names]

    def table(self, schema: str, name: str) -> TableProgress:
        """The progress of a table, from now on one of the task's."""
        for table in self.tables:
            if (table.schema, table.name) == (schema, name):
                return table
        self.tables.append(TableProgress(schema, name))
        return self.tables[-1]


class RecentTransactions:
    """Transactions that have just been sent: a snapshot for a load must have seen every one of them.

    PostgreSQL sends a transaction once its commit is in the log, an instant before snapshots see it.
    """

    def __init__(self) -> None:
        self.xids: deque[int] = deque(maxlen=10_000)

    def add(self, xid: int) -> None:
        self.xids.append(xid)

    def are_seen_by(self, snapshot: Snapshot) -> bool:
        return all(snapshot.has_seen(xid) for xid in self.xids)


def load(path: Path) -> Progress:
    """What the file holds, or the beginning."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Progress)
    except FileNotFoundError:
        return Progress()


def save(path: Path, progress: Progress) -> None:
    write_whole(path, msgspec.json.encode(progress))


def lsn_text(position: int) -> str:
    """0/16B3748: as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)
