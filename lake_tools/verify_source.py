"""PostgreSQL as one arm of the comparison: one snapshot, and hashes that the server makes of its rows.

    with open_source(lake.connect_parameters()) as source:
        source.snapshot                        Snapshot(xmin=812, xmax=815, running=frozenset({812}), ...)
        table = source.tables(64)[0]           SourceTable(...)
        source.sums(table, 8)                  {0: Sum(3904, 1520...), ..., 255: ...} of ranges of key hashes
        source.hashes(table, 8, {17})          ("a81f...", 1520...), ... of those ranges, in order
        source.rows(table, 8, {17}, None)      ("a81f...", 1520..., ("7", "Ada", None)), ...

A key's hash is the MD5 of its key columns; a row's is 64 bits of that of all that DMS sends of it. Both are
of the texts that verify_values describes; verify_landed makes them too. A range is the first bits of a key's.
All is read in one read-only transaction, which holds back vacuum for as long as it lasts, as pg_dump does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg2  # type: ignore[import-untyped]

from lake_tools.schemas import TableSchema, of_catalog
from lake_tools.settings import LakeError
from lake_tools.verify_values import OUTPUT_STYLES, Form, form_of
from provision.database import (
    COLUMNS,
    DETAILS,
    RELATIONS,
    Column,
    Relation,
    connect,
    describe,
    identifier,
    refusal,
)

FETCH_HASHES, FETCH_ROWS = 5000, 200  # a row can have some large texts
LOCK_SECONDS = 5
HASH_BITS = 64
XIDS = 1 << 32  # transaction-id is an xid (observed in captures); that it is the lower half of one: inferred
# A transaction that committed so long before a snapshot shows in it, whatever its id is by now.
SURELY_SEEN = timedelta(days=1)
UNLOGGED = "SELECT oid::bigint FROM pg_catalog.pg_class WHERE relkind = 'r' AND relpersistence = 'u'"
SNAPSHOT = "SELECT txid_current_snapshot()::text, clock_timestamp(), current_setting('server_encoding')"


class SourceError(LakeError):
    """The source could not be read: which table, why, what to do; never the server's text."""


# --------------------------------------------------------------------------------------------------------
# Value types
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """Which transactions show: those below xmin, and those below xmax that were not running."""

    xmin: int
    xmax: int
    running: frozenset[int]
    taken_at: datetime  # by the server's clock, which commit times are of too

    @classmethod
    def of(cls, text: str, taken_at: datetime) -> Snapshot:
        """Of "812:815:812,813"."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, filter(None, running.split(",")))), taken_at)

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.running)))}"

    @property
    def shows(self) -> str:
        """SQL for DuckDB: whether a landed change is of a transaction that shows; NULL never comes out.

        An id is below xmax if it is so on the circle of 32 bits. Without one, the commit time has to do. What
        was loaded shows: who loads meanwhile is found out by other means.
        """
        running = ", ".join(str(xid % XIDS) for xid in sorted(self.running)) or "-1"
        is_old = f"coalesce(cdc_committed_at < {instant(self.taken_at - SURELY_SEEN)}, false)"
        xid = f"(cdc_transaction_id % {XIDS})"
        is_seen = f"({xid} + {XIDS - self.xmax % XIDS}) % {XIDS} >= {XIDS // 2} AND {xid} NOT IN ({running})"
        by_time = f"coalesce(cdc_committed_at <= {instant(self.taken_at)}, true)"
        return f"(cdc_operation = 'load' OR {is_old} OR coalesce({is_seen}, {by_time}))"


def instant(at: datetime) -> str:
    return f"TIMESTAMPTZ '{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"


@dataclass(frozen=True)
class SourceTable:
    """A table as DMS sends it; key columns are among columns."""

    schema: TableSchema
    relation: Relation
    columns: tuple[Column, ...]
    forms: tuple[Form, ...]
    is_unlogged: bool = False  # its changes are in no log
    hash_text: Callable[[str], str] | None = None  # that of masks: the server must not hash what they hide

    @classmethod
    def of(
        cls,
        schema: TableSchema,
        relation: Relation,
        columns: Sequence[Column],
        lob_max_size_kb: int,
        is_unlogged: bool,
    ) -> SourceTable:
        names = {one.name for one in schema.columns}
        sent = tuple(one for one in columns if one.name in names)
        forms = tuple(form_of(one, lob_max_size_kb) for one in sent)
        return cls(schema, relation, sent, forms, is_unlogged)

    def __str__(self) -> str:
        return str(self.schema)

    @property
    def key(self) -> tuple[str, ...]:
        return self.schema.primary_key

    @property
    def key_forms(self) -> list[tuple[str, Form]]:
        forms = dict(zip([one.name for one in self.columns], self.forms, strict=True))
        return [(name, forms[name]) for name in self.key]


class Sum(NamedTuple):
    """Of a range: how many rows, and the sum of their hashes modulo 2**64."""

    rows: int
    hashes: int


def joined(texts: Sequence[str]) -> str:
    """SQL, for both engines: one text of several, that no other texts give. | ends a text or is doubled."""
    return " || ".join(f"coalesce(replace({text}, '|', '||') || '|.', '|-')" for text in texts) or "''"


# --------------------------------------------------------------------------------------------------------
# Entry point
# --------------------------------------------------------------------------------------------------------


@contextmanager
def open_source(
    connect_parameters: Mapping[str, Any], make: Callable[[Any, str], Source] | None = None
) -> Iterator[Source]:
    """A source in a snapshot of its own, which make makes of a connection and what that is called.

    Raises DatabaseError, SourceError.
    """
    options = f"{OUTPUT_STYLES} -c client_encoding=UTF8 -c search_path=pg_catalog -c row_security=off"
    options += (
        f" -c lock_timeout={LOCK_SECONDS}s -c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
    )
    more = {"options": options, "application_name": "lake verify"}
    connection = connect({**connect_parameters, **more})
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        yield (make or Source)(connection, describe(connect_parameters))
    finally:
        connection.close()


class Source:
    """Reads what one snapshot shows. Every read raises SourceError."""

    def __init__(self, connection: Any, where: str) -> None:
        self.connection, self.where = connection, where
        ((text, taken_at, encoding),) = self.read(SNAPSHOT)
        self.snapshot = Snapshot.of(text, taken_at)
        self.encoding: str = encoding

    def tables(self, lob_max_size_kb: int) -> list[SourceTable]:
        """All that DMS could replicate: ordinary tables and partitions."""
        relations = [Relation(*row) for row in self.read(RELATIONS)]
        chosen = [one for one in relations if one.kind == "r" and not one.is_of_dms]
        oids = {"oids": [one.oid for one in chosen]}
        columns: dict[int, list[Column]] = {}
        for oid, *values in self.read(COLUMNS, oids):
            columns.setdefault(oid, []).append(Column(*values))
        details = {oid: rest for oid, *rest in self.read(DETAILS, oids)}
        unlogged = {oid for (oid,) in self.read(UNLOGGED)}
        at = self.snapshot.taken_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return [
            SourceTable.of(
                of_catalog(one, found := columns.get(one.oid, []), details[one.oid], at),
                one,
                found,
                lob_max_size_kb,
                one.oid in unlogged,
            )
            for one in chosen
            if one.oid in details
        ]

    def sum(self, table: SourceTable) -> Sum:
        """Of all its rows: equal sums are the same rows, in whatever order, each as often."""
        query = f"SELECT count(*), coalesce(sum({self.row_hash(table)}), 0) FROM ONLY {table.relation.sql}"
        ((rows, hashes),) = self.read(query, of=table)
        return Sum(rows, int(hashes) % (1 << HASH_BITS))

    def sums(self, table: SourceTable, bits: int) -> dict[int, Sum]:
        """By range; one without rows is not there."""
        ranged = f"SELECT {self.range(table, bits)} AS range, {self.row_hash(table)} AS hash"
        query = f"SELECT range, count(*), sum(hash) FROM ({ranged} FROM ONLY {table.relation.sql}) AS hashed"
        found = self.read(f"{query} GROUP BY range", of=table)
        return {number: Sum(rows, int(hashes) % (1 << HASH_BITS)) for number, rows, hashes in found}

    def hashes(
        self, table: SourceTable, bits: int, ranges: Collection[int]
    ) -> Generator[tuple[str, int], None, None]:
        """Hashes of keys and rows in these ranges, in the order of the former."""
        where = f"{self.range(table, bits)} = ANY ('{{{','.join(map(str, ranges))}}}')"
        for key, row in self.stream(table, self.row_hash(table), where, FETCH_HASHES):
            yield key, row % (1 << HASH_BITS)

    def rows(
        self, table: SourceTable, bits: int, ranges: Collection[int], keys: Collection[str] | None
    ) -> Generator[tuple[str, int, tuple[str | None, ...]], None, None]:
        """The rows with these hashes of keys, None: with any, as the output functions write them."""
        names = [identifier(one.name) for one in table.columns]
        shown = [form.shown.format(name) for name, form in zip(names, table.forms, strict=True)]
        where = f"{self.range(table, bits)} = ANY ('{{{','.join(map(str, ranges))}}}')"
        if keys is not None:
            where = f"{self.key_hash(table)} = ANY ('{{{','.join(keys)}}}')"
        columns = ", ".join([self.row_hash(table), *shown])
        for key, row, *texts in self.stream(table, columns, where, FETCH_ROWS):
            yield key, row % (1 << HASH_BITS), tuple(texts)

    # SQL -------------------------------------------------------------------------------------------------

    def md5(self, texts: Sequence[str]) -> str:
        text = joined(texts)
        # Of the text's UTF-8, as DuckDB has it.
        return f"md5({text})" if self.encoding == "UTF8" else f"md5(convert_to({text}, 'UTF8'))"

    def key_hash(self, table: SourceTable) -> str:
        return self.md5([form.source.format(identifier(name)) for name, form in table.key_forms])

    def range(self, table: SourceTable, bits: int) -> str:
        return f"(('x' || substr({self.key_hash(table)}, 1, 8))::bit(32)::bigint >> {32 - bits})"

    def row_hash(self, table: SourceTable) -> str:
        columns = zip(table.columns, table.forms, strict=True)
        texts = [form.source.format(identifier(one.name)) for one, form in columns]
        return f"('x' || substr({self.md5(texts)}, 1, {HASH_BITS // 4}))::bit({HASH_BITS})::bigint"

    # Reading ---------------------------------------------------------------------------------------------

    def read(
        self, query: str, parameters: Mapping[str, Any] | None = None, of: SourceTable | None = None
    ) -> list[Any]:
        with self.attempt(of), self.connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return list(cursor.fetchall())

    def stream(self, table: SourceTable, columns: str, where: str, portion: int) -> Iterator[Any]:
        """Rows with their key's hash first, and in the order of it, a portion at a time."""
        columns = f'{self.key_hash(table)} COLLATE "C", {columns}'
        query = f"SELECT {columns} FROM ONLY {table.relation.sql} WHERE {where} ORDER BY 1"
        yield from self.scan(table, query, portion)

    def scan(self, table: SourceTable, query: str, portion: int) -> Generator[Any, None, None]:
        """The rows of the query, a portion at a time."""
        with self.attempt(table), self.connection.cursor(name="verify") as cursor:
            cursor.itersize = portion
            cursor.execute(query)
            yield from cursor

    @contextmanager
    def attempt(self, of: SourceTable | None) -> Iterator[None]:
        """Makes SourceErrors of psycopg2's, after which the snapshot can still be read."""
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SAVEPOINT attempt")
            yield
            with self.connection.cursor() as cursor:
                cursor.execute("RELEASE SAVEPOINT attempt")
        except psycopg2.Error as error:
            if not self.connection.closed:
                with self.connection.cursor() as cursor:
                    cursor.execute("ROLLBACK TO SAVEPOINT attempt")
            what = f"{of} of {self.where}" if of else f"the catalog of {self.where}"
            advice = "GRANT SELECT on it" if error.pgcode == "42501" else "verify again"
            # from None: the server's own text may quote values
            raise SourceError(f"could not read {what}: {refusal(error)}: {advice}") from None
