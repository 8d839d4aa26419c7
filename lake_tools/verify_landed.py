"""What landed of one table as the other arm of the comparison: the rows that a snapshot of PostgreSQL shows.

    landed = Landed(lake, table)
    landed.refresh(source.snapshot)     True: something is new; reads it
    landed.show(later.snapshot)         the same objects, as of another snapshot
    landed.sum, .sums(8), .hashes(8, {17}), .rows(8, {17}, None)    as those of verify_source.Source

Which changes a snapshot shows is told by the ids of their transactions. Commit times and LSNs do not tell: a
transaction that has just written its commit into the log is on its way to S3 before other sessions see it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from lake_tools.bucket import Lake, LakeObject
from lake_tools.dialects import RESCUED, DuckDB, literal
from lake_tools.settings import LakeError
from lake_tools.tables import Listed, open_table
from lake_tools.verify_source import HASH_BITS, Snapshot, SourceTable, Sum, joined
from lake_tools.views import Relations, Shape, ShownColumn

MEMORY = "1GB"  # DuckDB's; what does not fit goes to its cache
FETCH_ROWS = 2000
ADVICE = "is there room where --cache is?"
SHOWN = Relations(history="shown")
# Where the last load generation begins; NULL: there is only one.
GENERATION = """
SELECT greatest((SELECT max(dropped_at) FROM drops), min(cdc_published_at)) FROM shown
WHERE cdc_operation = 'load' AND cdc_published_at > (
    SELECT max(cdc_published_at) FROM shown WHERE cdc_operation <> 'load'
        AND cdc_published_at < (SELECT max(cdc_published_at) FROM shown WHERE cdc_operation = 'load'))"""
JOIN_LAST_CHANGE = "LEFT JOIN history AS change USING (cdc_shard_id, cdc_sequence_number)"
LAST_CHANGES = """
SELECT cdc_shard_id, max(cdc_sequence_number), arg_max({shows}, cdc_sequence_number)
FROM history WHERE cdc_operation <> 'load' GROUP BY cdc_shard_id"""


class LandedRow(NamedTuple):
    key_hash: str
    row_hash: int
    texts: tuple[str | None, ...]
    left_out: tuple[str, ...]  # large columns that its last change, an update, came without
    committed_us: int | None  # since 1970, of its last change; None: it was loaded


class Landed:
    """Rows that landed, in a DuckDB of their own until close()."""

    def __init__(self, lake: Lake, table: SourceTable) -> None:
        self.lake, self.table = lake, table
        self.stack = ExitStack()
        self.shape = Shape(table.schema, DuckDB())
        self.listed: Listed | None = None
        self.connection: Any = None
        self.sum = Sum(0, 0)
        self.last_loaded: int | None = None  # in microseconds since 1970
        self.was_loaded = False  # more of a load has come since the first time
        self.last_changes: dict[str, tuple[str, bool]] = {}
        self.is_behind = False  # what came last is still of the time before the snapshot
        self.came_at: float | None = None  # time.monotonic(), when something came after the first time

    def __enter__(self) -> Landed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """What has been read is let go; it is read again when it is asked for."""
        self.connection = None
        self.stack.close()

    @property
    def row_count(self) -> int:
        return self.sum.rows

    @property
    def open_bytes(self) -> int:
        """Of objects, as they are in S3, whose rows are held."""
        return sum(one.size for one in self.objects) if self.connection is not None else 0

    @property
    def objects(self) -> list[LakeObject]:
        """What has landed of the table, and its Parquet."""
        return [*self.listed.landed, *self.listed.compacted] if self.listed else []

    # Reading ---------------------------------------------------------------------------------------------

    def refresh(self, snapshot: Snapshot) -> bool:
        """Whether objects have come or changed since the last time; reads them if so. Raises LakeError."""
        listed = Listed.of(self.lake, self.table.schema)
        if listed == self.listed:
            return False
        is_first = self.listed is None
        has_rows = self.listed is None or listed[:2] != self.listed[:2]
        self.listed = listed
        self.close()
        self.open()
        if has_rows:
            self.note_arrivals(snapshot, is_first)
        self.show(snapshot)
        return True

    def open(self) -> None:
        """Reads the objects, as they were listed last."""
        opened = open_table(self.lake, self.table.schema, self.listed, memory_limit=MEMORY)
        self.connection = self.stack.enter_context(opened)

    def note_arrivals(self, snapshot: Snapshot, is_first: bool) -> None:
        query = "SELECT epoch_us(max(cdc_published_at)) FROM history WHERE cdc_operation = 'load'"
        ((last_loaded,),) = self.execute(query).fetchall()
        found = self.execute(LAST_CHANGES.format(shows=snapshot.shows)).fetchall()
        last_changes = {shard: (sequence, shows) for shard, sequence, shows in found}
        if not is_first:
            self.was_loaded = self.was_loaded or last_loaded != self.last_loaded
            came = [last for shard, last in last_changes.items() if last != self.last_changes.get(shard)]
            self.is_behind = any(shows for _, shows in came)
            self.came_at = time.monotonic()
        self.last_loaded, self.last_changes = last_loaded, last_changes

    def show(self, snapshot: Snapshot) -> None:
        """Makes the rows those that the snapshot shows. Raises LakeError."""
        if self.connection is None:
            self.open()
        self.execute(f"CREATE OR REPLACE VIEW shown AS SELECT * FROM history WHERE {snapshot.shows}")
        rows = self.hashed_rows() if self.table.key else self.hashed_changes()
        self.execute(f"CREATE OR REPLACE TABLE landed_rows AS {rows}")
        query = "SELECT count(*), coalesce(sum(row_hash), 0) FROM landed_rows"
        ((count, hashes),) = self.execute(query).fetchall()
        self.sum = Sum(count, int(hashes) % (1 << HASH_BITS))

    # The rows --------------------------------------------------------------------------------------------

    def sums(self, bits: int) -> dict[int, Sum]:
        """By range; one without rows is not there."""
        query = f"SELECT {of_range(bits)} AS range, count(*), sum(row_hash) FROM landed_rows GROUP BY range"
        found = self.execute(query).fetchall()
        return {number: Sum(rows, int(hashes) % (1 << HASH_BITS)) for number, rows, hashes in found}

    def hashes(self, bits: int, ranges: Collection[int]) -> Generator[tuple[str, int], None, None]:
        """Hashes of keys and rows in these ranges, in the order of the former."""
        where = f"{of_range(bits)} IN ({', '.join(map(str, ranges))})"
        yield from self.stream("key_hash, row_hash", where)

    def rows(
        self, bits: int, ranges: Collection[int], keys: Collection[str] | None
    ) -> Generator[LandedRow, None, None]:
        """The rows with these hashes of keys, None: with any."""
        where = f"{of_range(bits)} IN ({', '.join(map(str, ranges))})"
        if keys is not None:
            where = f"key_hash IN ({', '.join(map(literal, keys))})"
        names = [f"text_{place}" for place in range(len(self.shape.columns))]
        columns = f"key_hash, row_hash, [{', '.join(names)}], left_out, committed_us"
        for key_hash, row_hash, texts, left_out, committed_us in self.stream(columns, where):
            yield LandedRow(key_hash, row_hash, tuple(texts), tuple(left_out), committed_us)

    def count_until(self, committed_us: int) -> int:
        """How many rows were last changed then or before; loaded ones are."""
        query = f"SELECT count(*) FROM landed_rows WHERE coalesce(committed_us, 0) <= {committed_us}"
        ((count,),) = self.execute(query).fetchall()
        return int(count)

    def execute(self, query: str) -> Any:
        """Raises LakeError."""
        with self.attempt():
            return self.connection.execute(query)

    def stream(self, columns: str, where: str) -> Iterator[Any]:
        result = self.execute(f"SELECT {columns} FROM landed_rows WHERE {where} ORDER BY key_hash")
        with self.attempt():
            while portion := result.fetchmany(FETCH_ROWS):
                yield from portion

    @contextmanager
    def attempt(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            # from None: DuckDB's own text may quote values
            found = f"DuckDB: {type(error).__name__}"
            raise LakeError(f"could not compare what landed of {self.table}: {found}: {ADVICE}") from None

    # SQL -------------------------------------------------------------------------------------------------

    def hashed_rows(self) -> str:
        """The current state, each row with its hashes and the texts of its columns."""
        places = {column.source: place for place, column in enumerate(self.shape.columns)}
        key = [form.landed.format(f"text_{places[name]}") for name, form in self.table.key_forms]
        return f"""
SELECT md5({joined(key)}) AS key_hash, {self.row_hash()} AS row_hash, *
FROM (
    SELECT {self.texts()}epoch_us(row.cdc_committed_at) AS committed_us, {self.left_out()} AS left_out
    FROM ({self.shape.current(SHOWN)}) AS row
    {JOIN_LAST_CHANGE if self.shape.lobs else ""}
)"""

    def hashed_changes(self) -> str:
        """Of a table without primary key: the hash of each row of the last load generation."""
        is_row = f"cdc_operation <> 'delete' AND cdc_published_at >= coalesce(({GENERATION}), '-infinity')"
        return f"""
SELECT {self.row_hash()} AS row_hash
FROM (SELECT {self.texts()}1 FROM ({self.shape.changes(SHOWN)}) AS row WHERE {is_row})"""

    def texts(self) -> str:
        """The columns text_0, text_1, ..., each with its comma."""
        return "".join(
            f"{self.text(column)} AS text_{place}, " for place, column in enumerate(self.shape.columns)
        )

    def row_hash(self) -> str:
        row = [form.landed.format(f"text_{place}") for place, form in enumerate(self.table.forms)]
        return first_bits(f"md5({joined(row)})")

    def left_out(self) -> str:
        """An update that has no value in a large column says nothing of it."""
        if not self.shape.lobs:
            return "[]::VARCHAR[]"
        names = [
            f"CASE WHEN change.{column.sql} IS NULL THEN {literal(column.source)} END"
            for column in self.shape.lobs
        ]
        listed = f"list_filter([{', '.join(names)}], lambda name: name IS NOT NULL)"
        return f"CASE WHEN change.cdc_operation = 'update' THEN {listed} ELSE [] END"

    def text(self, column: ShownColumn) -> str:
        """What the view shows; where the text is no value of the type, that text."""
        value = f"row.{column.sql}"
        if column.kind.kind == "text":
            return value
        shown = f"hex({value})" if column.kind.kind == "bytea" else f"CAST({value} AS VARCHAR)"
        rescued = self.shape.dialect.text_in(f"row.{RESCUED}", column.source)
        return f"CASE WHEN {value} IS NULL AND row.{RESCUED} IS NOT NULL THEN {rescued} ELSE {shown} END"


def first_bits(md5: str) -> str:
    return f"CAST('0x' || substr({md5}, 1, {HASH_BITS // 4}) AS UBIGINT)"


def of_range(bits: int) -> str:
    return f"(CAST('0x' || substr(key_hash, 1, 8) AS UBIGINT) >> {32 - bits})"
