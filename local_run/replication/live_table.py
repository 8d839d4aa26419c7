"""A table of the task: as DMS knows it, how its rows come through the log, how far it is.

DMS learns a table's columns when the task starts, and from captured DDL; what is altered unseen is another
table than the one that it goes on to read. What it then sends is not known, so such a table is suspended
here; but a new column is passed over (that much is known: it is not sent).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from local_run.replication import pgoutput
from local_run.replication.envelopes import TableMessages
from local_run.replication.position import TableProgress
from local_run.replication.tables import SourceTable

ColumnTypes = Mapping[str, tuple[int, int]]  # of a column: OID of its type, modifier


@dataclass
class LiveTable:
    table: SourceTable
    types: ColumnTypes
    messages: TableMessages
    progress: TableProgress
    places: list[int | None] | None = None  # of the known columns in a row of the log; None: the same

    @property
    def name(self) -> tuple[str, str]:
        return self.table.schema, self.table.name

    def follow(self, shape: pgoutput.Relation) -> None:
        """From here on rows come in this shape; a column that is not in it (yet) is NULL."""
        found = {column.name: place for place, column in enumerate(shape.columns)}
        places = [found.get(column.name) for column in self.table.columns]
        self.places = None if places == list(range(len(shape.columns))) else places

    def arranged(self, values: pgoutput.Values | None) -> pgoutput.Values | None:
        """A row of the log in the order of the columns that DMS knows."""
        if values is None or self.places is None:
            return values
        return [None if place is None else values[place] for place in self.places]

    def is_behind(self, shape: pgoutput.Relation) -> bool:
        """Whether the table has been altered since DMS learnt it."""
        return bool(self.fault(shape)) or len(shape.columns) > len(self.table.columns)

    def fault(self, shape: pgoutput.Relation, *, is_former: bool = False) -> str:
        """What of an alteration can't be passed over; empty when all of it can.

        is_former: the shape is older than what DMS knows, and a column may be missing that came later.
        """
        found = {column.name: (column.type_oid, column.modifier) for column in shape.columns}
        for column in self.table.columns:
            if column.name not in found:
                if is_former:
                    continue
                return f"column {column.name!r} is gone"
            if found[column.name] != self.types[column.name]:
                return f"column {column.name!r} has another type"
        key = {column.name for column in shape.columns if column.is_key}
        if self.table.primary_key and shape.replica_identity == "d" and key != set(self.table.primary_key):
            return "the primary key was redefined"  # later changes are not replicated (documented)
        return ""


def kind_of_alter(former: SourceTable, latter: SourceTable) -> str:
    """The operation of the control record that tells of it."""
    before, after = {one.name for one in former.columns}, {one.name for one in latter.columns}
    if before == after:
        return "column-type-change"
    if before < after:
        return "add-column"
    return "drop-column" if after < before else "change-columns"
