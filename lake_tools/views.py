"""The SQL that makes tables of what landed: history, changes, the current state, the state as of a time.

    shape = Shape(schema, DuckDB())
    shape.landed("read_ndjson_objects('output/changes/public/client/**/*.jsonl.gz')")    SELECT ...
    shape.compacted("read_parquet([...])", read_columns(lake, schema))                   SELECT ...
    shape.current(Relations())                                                           WITH ... SELECT ...

landed    A row per line: our ten columns, the table's, cdc_rescued. A record may be there more than once.
compacted The same of Parquet.
history   One row per Kinesis record.
changes   One row per change: of what DMS has sent again, the first.
current   One row per key: what the changes of the last load generation leave. They are taken in the order
          cdc_committed_at, cdc_lsn, cdc_transaction_record_id, cdc_sequence_number, loads first.

cdc_rescued is a JSON object of the values that have no column: that are not of its type (it has changed since
the schema was published, say), or that the schema does not know. It is NULL where there are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from lake_tools.bucket import CHANGES
from lake_tools.dialects import RESCUED, Dialect, ValueType, literal, quoted, value_type
from lake_tools.parquet_columns import OWN, STORED_AS_TEXT, StoredColumn, stored_kind, wider_kind
from lake_tools.schemas import TableSchema
from lake_tools.settings import LakeError
from lambda_function import RESERVED_COLUMNS, Row, escape

CDC_COLUMNS = Row.__struct_fields__
CDC_KINDS = {
    "cdc_committed_at": ValueType("timestamptz"),
    "cdc_published_at": ValueType("timestamptz"),
    "cdc_transaction_id": ValueType("int8"),
    "cdc_transaction_record_id": ValueType("int8"),
    "cdc_lsn": ValueType("int8"),
}
BARE = ("int2", "int4", "int8", "float4", "float8", "decimal", "bool")  # in JSON without quotes
NO_TEXT = "CAST(NULL AS VARCHAR)"
UNKNOWN = "cdc: a member that the schema does not know"
LINE = 100
# The contract's order, without NULLs; sequence numbers go on counting over shards.
ORDER = {
    f"{OWN}rank": "CASE WHEN cdc_operation = 'load' THEN 0 ELSE 1 END",
    f"{OWN}at": "COALESCE(cdc_committed_at, cdc_published_at)",
    f"{OWN}lsn": "COALESCE(cdc_lsn, 0)",
    f"{OWN}record": "COALESCE(cdc_transaction_record_id, 0)",
    f"{OWN}sequence": "cdc_sequence_number",
    f"{OWN}shard": "cdc_shard_id",
}
ROW_NAME = "cdc_sequence_number || cdc_shard_id"  # unambiguous: the numbers are of 56 digits


class NoKeyError(LakeError):
    """A table without a primary key has no current state."""


@dataclass(frozen=True)
class Relations:
    """What the relations are called, as SQL has it."""

    landed: str = "landed"
    drops: str = "drops"
    history: str = "history"


class ShownColumn(NamedTuple):
    """A column of the table, in the views."""

    source: str  # as PostgreSQL has it
    name: str  # in the views
    kind: ValueType
    is_lob: bool

    @property
    def sql(self) -> str:
        return quoted(self.name)


def shown_columns(schema: TableSchema, dialect: Dialect) -> tuple[ShownColumn, ...]:
    """The table's columns under names that differ by more than case, from each other and from ours."""
    taken = {name.casefold() for name in RESERVED_COLUMNS}
    shown = []
    for column in schema.columns:
        name = dialect.column_name(column.name)
        base = "_" + name if name.casefold().startswith(OWN) else name
        name, number = base, 2
        while name.casefold() in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name.casefold())
        shown.append(ShownColumn(column.name, name, value_type(column), column.is_lob))
    return tuple(shown)


def parquet_types(stored: Sequence[StoredColumn]) -> dict[str, ValueType]:
    """Name and type of each column of Parquet: ours, these, cdc_rescued."""
    text = ValueType("text")
    ours = {name: CDC_KINDS.get(name, text) for name in CDC_COLUMNS}
    return ours | {one.name: one.kind for one in stored} | {RESCUED: text}


class ColumnSources:
    """Where Parquet has a column's values, as SQL: the value, the text that was rescued, that of formers."""

    def __init__(self, column: ShownColumn, stored: Sequence[StoredColumn], dialect: Dialect) -> None:
        kind = stored_kind(column.kind)
        columns = [one for one in stored if one.source == column.source]
        # What is only a text in Parquet, a UUID say, is read as any other text is.
        is_text = column.kind.kind in STORED_AS_TEXT
        own = [one for one in columns if wider_kind(one.kind, kind) == kind and not is_text]
        self.formers = [one for one in columns if one not in own]
        self.value = dialect.restored(quoted(own[0].name), column.kind) if own else "NULL"
        self.rescued = f"CASE WHEN {RESCUED} IS NOT NULL THEN {dialect.text_in(RESCUED, column.source)} END"
        self.former = first([dialect.stored_text(quoted(one.name), one.kind) for one in self.formers])


class Formers(NamedTuple):
    """Columns of Parquet that one of the table was, and when their value has none, as SQL."""

    columns: list[StoredColumn]
    is_lost: str


class Shape:
    """The SQL of one table in one engine's dialect."""

    def __init__(
        self,
        schema: TableSchema,
        dialect: Dialect,
        columns: Sequence[ShownColumn] | None = None,
        extra: Sequence[str] | None = None,
    ) -> None:
        """columns: None = those of the schema, as the views show them.

        extra: members of the lines that have no column, for cdc_rescued; the query fails at others, with
        UNKNOWN in its error. None: all such members are passed over.
        """
        self.schema = schema
        self.dialect = dialect
        self.columns = tuple(shown_columns(schema, dialect) if columns is None else columns)
        self.lobs = tuple(column for column in self.columns if column.is_lob)
        self.extra = extra

    def with_extra(self, extra: Sequence[str]) -> Shape:
        return Shape(self.schema, self.dialect, self.columns, extra)

    @cached_property
    def key(self) -> tuple[ShownColumn, ...]:
        """The primary key. Raises NoKeyError."""
        by_name = {column.source: column for column in self.columns}
        if not self.schema.primary_key:
            raise NoKeyError(
                f"{self.schema} has no primary key, so it can't be said which row a change is of: "
                "there is its history only: --view history"
            )
        return tuple(by_name[name] for name in self.schema.primary_key)

    @property
    def all_columns(self) -> list[str]:
        """As SQL has them, in the order of the views."""
        own = [column.sql for column in self.columns]
        return [*CDC_COLUMNS, *own, RESCUED, *self.dialect.partitions]

    # A row a line ----------------------------------------------------------------------------------------

    def landed(self, source: str) -> str:
        """The rows of a relation that holds the lines."""
        dialect = self.dialect
        documents = dialect.documents(source, self.members, CDC_KINDS)
        typed = [f"{dialect.value(text, column.kind)} AS {column.sql}" for text, column in self.texts()]
        texts = [*dialect.document, *self.cdc_values(), *self.text_values(), *dialect.partitions]
        return f"""\
SELECT {listed([*CDC_COLUMNS, *(column.sql for column in self.columns)])},
    {listed([f"{self.rescued()} AS {RESCUED}", *dialect.partitions])}
FROM (
    SELECT {listed(["*", *typed])}
    FROM (
        SELECT {listed(texts)}
        FROM {documents}
    ) AS {OWN}texts
) AS {OWN}typed"""

    @property
    def members(self) -> list[str]:
        """Of a line, those that are asked for."""
        return [*CDC_COLUMNS, *(column.source for column in self.columns), *(self.extra or ())]

    @property
    def known_members(self) -> list[str]:
        """Of a line, those that are no surprise: what is masked away now may be in what landed before."""
        return [*self.members, *self.schema.dropped]

    def texts(self) -> list[tuple[str, ShownColumn]]:
        return [(f"{OWN}text_{place}", column) for place, column in enumerate(self.columns)]

    def cdc_values(self) -> list[str]:
        values = {name: self.dialect.text(name) for name in CDC_COLUMNS}
        values |= {name: self.dialect.cast(values[name], kind) for name, kind in CDC_KINDS.items()}
        values["cdc_before"] = self.dialect.before()
        return [f"{value} AS {name}" for name, value in values.items()]

    def text_values(self) -> list[str]:
        read, exact = self.dialect.text, self.dialect.exact_text
        return [
            f"{exact(name, kind) if kind.is_read_from_text else read(name)} AS {text}"
            for text, (name, _, kind, _) in self.texts()
        ]

    def rescued(self) -> str:
        """The members that gave no value, as a JSON object."""
        lost = {
            column.source: f"{text} IS NOT NULL AND {column.sql} IS NULL"
            for text, column in self.texts()
            if column.kind.kind != "text"
        }
        lost |= {name: f"{self.dialect.text(name)} IS NOT NULL" for name in self.extra or ()}
        cases = []
        if self.extra is not None and (unknown := self.dialect.unknown(self.known_members)):
            cases.append(f"WHEN {unknown} THEN error({literal(UNKNOWN)})")
        if lost:
            members = {
                member_name(name) + self.dialect.json_value(name): is_lost for name, is_lost in lost.items()
            }
            cases.append(f"WHEN {either(lost.values())}\n    THEN {json_object(members)}")
        return f"CASE {' '.join(cases)} ELSE {NO_TEXT} END" if cases else NO_TEXT

    # A row of Parquet ------------------------------------------------------------------------------------

    def compacted(self, source: str, stored: Sequence[StoredColumn]) -> str:
        """The rows of a relation that holds Parquet: all of these columns, ours and cdc_rescued.

        A column's value is that of its own type; else what can be read from cdc_rescued, or from the column
        as it was of another type.
        """
        dialect = self.dialect
        sources = [ColumnSources(column, stored, dialect) for column in self.columns]
        lost = self.lost(sources, stored)
        found = [f"{json_of(one, dialect)} AS {OWN}json_{place}" for place, one in enumerate(lost.values())]
        found += [
            text
            for place, one in enumerate(sources)
            for text in (
                f"{one.value} AS {OWN}value_{place}",
                f"{one.rescued} AS {OWN}in_{place}",
                f"{one.former} AS {OWN}former_{place}",
            )
        ]
        ours = [
            f"{dialect.restored(name, CDC_KINDS[name])} AS {name}" if name in CDC_KINDS else name
            for name in CDC_COLUMNS
        ]
        typed = [
            f"COALESCE({OWN}value_{place}, {dialect.value(either_text(place), column.kind)}) AS {column.sql}"
            for place, column in enumerate(self.columns)
        ]
        return f"""\
SELECT {listed([*CDC_COLUMNS, *(column.sql for column in self.columns)])},
    {listed([f"{self.still_rescued(lost)} AS {RESCUED}", *dialect.partitions])}
FROM (
    SELECT {listed(["*", *typed])}
    FROM (
        SELECT {listed([*ours, f"{RESCUED} AS {OWN}rescued", *found, *dialect.partitions])}
        FROM {source}
    ) AS {OWN}stored
) AS {OWN}typed"""

    def lost(self, sources: Sequence[ColumnSources], stored: Sequence[StoredColumn]) -> dict[str, Formers]:
        """By member, the columns of Parquet whose values may have none in the views, and when that is."""
        lost = {
            column.source: Formers(one.formers, f"{column.sql} IS NULL")
            for column, one in zip(self.columns, sources, strict=True)
            if one.formers and column.kind.kind != "text"
        }
        known = {column.source for column in self.columns} | {*self.schema.dropped}
        for one in stored:
            if one.source not in known:  # it was dropped
                lost.setdefault(one.source, Formers([], "TRUE")).columns.append(one)
        return lost

    def still_rescued(self, lost: Mapping[str, Formers]) -> str:
        """What was rescued and has no column by now; and former values that have none."""
        dialect = self.dialect
        healed = {
            column.source: f"{OWN}in_{place} IS NOT NULL AND {column.sql} IS NOT NULL"
            for place, column in enumerate(self.columns)
        }
        kept = f"{OWN}rescued"
        healed |= dict.fromkeys(self.schema.dropped, "TRUE")  # what is masked by now is not shown
        if healed:
            names = [f"CASE WHEN {one} THEN {member_pattern(name)} END" for name, one in healed.items()]
            rest = dialect.without_members(kept, f"concat_ws('|', {listed(names)})")
            is_less = f"{kept} IS NOT NULL AND ({either(healed.values())})"
            kept = f"CASE WHEN {is_less} THEN NULLIF({rest}, '{{}}') ELSE {kept} END"
        if not lost:
            return kept
        texts = [f"{OWN}json_{place}" for place in range(len(lost))]
        is_lost = [
            f"{text} IS NOT NULL AND {one.is_lost}" for text, one in zip(texts, lost.values(), strict=True)
        ]
        members = [member_name(name) + text for name, text in zip(lost, texts, strict=True)]
        added = json_object(dict(zip(members, is_lost, strict=True)))
        both = f"regexp_replace({kept}, '[}}]$', ',') || substr({added}, 2)"
        return f"CASE WHEN {either(is_lost)} THEN COALESCE({both}, {added}) ELSE {kept} END"

    def drops(self, source: str) -> str:
        """When the table was dropped for a load, from a relation that holds the lines of control/."""
        path = self.dialect.path_text
        wanted = {
            "operation": "drop-table",
            "schema-name": self.schema.schema,
            "table-name": self.schema.table,
        }
        found = [
            f"{path('cdc_envelope', 'metadata', name)} = {literal(text)}" for name, text in wanted.items()
        ]
        at = self.dialect.cast(path("cdc_envelope", "metadata", "timestamp"), ValueType("timestamptz"))
        return f"SELECT {at} AS dropped_at\nFROM {source}\nWHERE {' AND '.join(found)}"

    # Views on rows ---------------------------------------------------------------------------------------

    def history(self, relations: Relations) -> str:
        """One row per Kinesis record, whatever was delivered again."""
        return f"""\
SELECT {listed(self.all_columns)}
FROM (
    SELECT *, row_number() OVER (
        PARTITION BY {listed([*self.dialect.partitions, "cdc_shard_id", "cdc_sequence_number"])}
        ORDER BY cdc_published_at
    ) AS {OWN}copy
    FROM {relations.landed}
) AS {OWN}copies
WHERE {OWN}copy = 1"""

    def changes(self, relations: Relations) -> str:
        """Of the rows that are one change, or of one generation the loads of one key, the first."""
        key = [column.sql for column in self.key] if self.schema.primary_key else []
        is_known = "cdc_transaction_id IS NOT NULL AND cdc_transaction_record_id IS NOT NULL"
        has_identity = (
            f"CASE WHEN cdc_operation = 'load' THEN {'TRUE' if key else 'FALSE'} ELSE {is_known} END"
        )
        same = ["cdc_transaction_id", "cdc_transaction_record_id", "cdc_stream_position", *key]
        return f"""\
WITH {OWN}marks AS (
    SELECT cdc_published_at AS {OWN}at, CASE WHEN cdc_operation = 'load' THEN 1 ELSE 2 END AS {OWN}mark,
        cdc_shard_id AS {OWN}shard, cdc_sequence_number AS {OWN}sequence
    FROM {relations.history}
    UNION ALL
    SELECT dropped_at, 0, NULL, NULL FROM {relations.drops}
), {OWN}generations AS (
    SELECT *, sum(CASE WHEN {OWN}mark = 1 THEN 0 ELSE 1 END) OVER (
        ORDER BY {OWN}at, {OWN}mark ROWS UNBOUNDED PRECEDING
    ) AS {OWN}generation
    FROM {OWN}marks
)
SELECT {listed(self.all_columns)}
FROM (
    SELECT {OWN}history.*, row_number() OVER (
        PARTITION BY {OWN}generation, {", ".join(same)},
            CASE WHEN {has_identity} THEN NULL ELSE cdc_shard_id || cdc_sequence_number END
        ORDER BY cdc_published_at, cdc_sequence_number, cdc_shard_id
    ) AS {OWN}copy
    FROM {relations.history} AS {OWN}history
    LEFT JOIN {OWN}generations
        ON {OWN}mark = 1 AND {OWN}shard = cdc_shard_id AND {OWN}sequence = cdc_sequence_number
) AS {OWN}copies
WHERE {OWN}copy = 1"""

    def current(self, relations: Relations, as_of: str | None = None) -> str:
        """A row per key; as_of: by what was committed, loads published, at or before this SQL expression."""
        if not self.lobs:
            steps = [*self.last_generation(relations, as_of), self.events(), self.newest()]
        else:
            steps = [
                *self.last_generation(relations, as_of),
                self.events(),
                self.lives(),
                self.links(),
                self.walk(),
                self.found_lobs(),
            ]
        return (
            ("WITH RECURSIVE " if self.lobs else "WITH ")
            + ", ".join(steps)
            + "\n"
            + self.current_rows(relations)
        )

    def last_generation(self, relations: Relations, as_of: str | None) -> list[str]:
        """The rows of the last load generation.

        It begins at the last drop-table, or at the first load after the last change that a load came after.
        """
        upto = dropped = ""
        if as_of is not None:
            upto = f"\n    WHERE COALESCE(cdc_committed_at, cdc_published_at) <= {as_of}"
            dropped = f" WHERE dropped_at <= {as_of}"
        columns = [*CDC_COLUMNS, *(column.sql for column in self.key), *self.known_lobs()]
        order = [f"{value} AS {name}" for name, value in ORDER.items()]
        return [
            f"""{OWN}rows AS (
    SELECT {listed(columns)}
    FROM {relations.history}{upto}
)""",
            f"""{OWN}last_change AS (
    SELECT max(cdc_published_at) AS {OWN}at FROM {OWN}rows
    WHERE cdc_operation <> 'load'
        AND cdc_published_at < (SELECT max(cdc_published_at) FROM {OWN}rows WHERE cdc_operation = 'load')
)""",
            f"""{OWN}starts AS (
    SELECT max(dropped_at) AS {OWN}at FROM {relations.drops}{dropped}
    UNION ALL
    SELECT min(cdc_published_at) FROM {OWN}rows
    WHERE cdc_operation = 'load' AND cdc_published_at > (SELECT {OWN}at FROM {OWN}last_change)
)""",
            f"""{OWN}generation AS (
    SELECT *, {listed(order)}
    FROM {OWN}rows
    CROSS JOIN (SELECT max({OWN}at) AS {OWN}start FROM {OWN}starts) AS {OWN}last_start
    WHERE {OWN}start IS NULL OR cdc_published_at >= {OWN}start
)""",
        ]

    def known_lobs(self) -> list[str]:
        """For each LOB, the name of the row if that knows it: in an update, NULL can be "not changed"."""
        return [
            f"""CASE WHEN cdc_operation = 'delete' THEN NULL
            WHEN cdc_operation <> 'update' OR {self.is_value(column)} THEN {ROW_NAME} END AS {lob}"""
            for column, lob in zip(self.lobs, self.lob_names, strict=True)
        ]

    def is_value(self, column: ShownColumn) -> str:
        if column.kind.kind == "text":
            return f"{column.sql} IS NOT NULL"
        return f"{column.sql} IS NOT NULL OR strpos({RESCUED}, {member_name(column.source, '')}) > 0"

    @property
    def lob_names(self) -> list[str]:
        return [f"{OWN}lob_{place}" for place in range(len(self.lobs))]

    @property
    def key_names(self) -> list[str]:
        return [f"{OWN}key_{place}" for place in range(len(self.key))]

    def events(self) -> str:
        """What happens to each key, by its rows and by changes of a key, which leave the former one."""
        olds = [f"{OWN}old_{place}" for place in range(len(self.key))]
        befores = [
            self.dialect.value(self.dialect.text_in("cdc_before", one.source), one.kind) for one in self.key
        ]
        former = [
            f"COALESCE({before}, {column.sql}) AS {old}"
            for before, column, old in zip(befores, self.key, olds, strict=True)
        ]
        has_left = " OR ".join(f"{old} <> {column.sql}" for old, column in zip(olds, self.key, strict=True))
        own = [f"{column.sql} AS {key}" for column, key in zip(self.key, self.key_names, strict=True)]
        return f"""{OWN}moves AS (
    SELECT *, {listed(former)}
    FROM {OWN}generation
), {OWN}events AS (
    SELECT {listed([*own, *ORDER, *self.lob_names])},
        CASE WHEN cdc_operation = 'delete' THEN 'gone' WHEN cdc_operation <> 'update' THEN 'new'
            WHEN {has_left} THEN 'arrival' ELSE 'update' END AS {OWN}event
    FROM {OWN}moves
    UNION ALL
    SELECT {listed([*olds, *ORDER, *("NULL" for _ in self.lobs)])}, 'gone'
    FROM {OWN}moves
    WHERE cdc_operation = 'update' AND ({has_left})
)"""

    def newest(self) -> str:
        """The last event of each key."""
        return f"""{OWN}newest AS (
    SELECT * FROM (
        SELECT *, row_number() OVER (
            PARTITION BY {listed(self.key_names)} ORDER BY {listed(f"{name} DESC" for name in ORDER)}
        ) AS {OWN}age
        FROM {OWN}events
    ) AS {OWN}aged
    WHERE {OWN}age = 1
)"""

    def lives(self) -> str:
        """The events of each key in lives: one begins with each event that is no plain update.

        Of a life it is said which row knew a LOB last, and whether there was a row at all.
        """
        in_order = f"PARTITION BY {listed(self.key_names)} ORDER BY {listed(ORDER)}"
        lobs = [
            f"max_by({lob}, {OWN}place) FILTER (WHERE {lob} IS NOT NULL) AS {lob}" for lob in self.lob_names
        ]
        return f"""{OWN}numbered AS (
    SELECT *, row_number() OVER ({in_order}) AS {OWN}place,
        sum(CASE WHEN {OWN}event = 'update' THEN 0 ELSE 1 END) OVER (
            {in_order} ROWS UNBOUNDED PRECEDING
        ) AS {OWN}life,
        count(*) OVER (PARTITION BY {listed(self.key_names)}) AS {OWN}last_place
    FROM {OWN}events
), {OWN}newest AS (
    SELECT * FROM {OWN}numbered WHERE {OWN}place = {OWN}last_place
), {OWN}lives AS (
    SELECT {listed(self.key_names)}, {OWN}life,
        max(CASE WHEN {OWN}event <> 'gone' THEN 1 ELSE 0 END) AS {OWN}is_there,
        {listed(lobs)}
    FROM {OWN}numbered
    GROUP BY {listed(self.key_names)}, {OWN}life
)"""

    @property
    def from_names(self) -> list[str]:
        return [f"{OWN}from_{place}" for place in range(len(self.key))]

    def links(self) -> str:
        """For each life that a change of key begins: the lives that can know its LOBs.

        It is the one that the row had under its former key. A row that comes to a key finds it free; or it
        finds itself, when a load has seen it there already or the change was sent again: then that life is
        asked first.
        """
        keys, froms = self.key_names, self.from_names
        arrived = [f"arrival.{name}" for name in [*keys, f"{OWN}life"]]
        columns = [*keys, f"{OWN}life", *froms, f"{OWN}from_life", f"{OWN}branch"]
        return f"""{OWN}links ({listed(columns)}) AS (
    SELECT {listed(arrived)}, {listed(f"parting.{key}" for key in keys)}, parting.{OWN}life - 1, '1'
    FROM {OWN}numbered AS arrival
    JOIN {OWN}numbered AS parting
        ON parting.{OWN}sequence = arrival.{OWN}sequence AND parting.{OWN}shard = arrival.{OWN}shard
    JOIN {OWN}lives AS life
        ON {equal("life", keys, "parting", keys)} AND life.{OWN}life = parting.{OWN}life - 1
    WHERE arrival.{OWN}event = 'arrival' AND parting.{OWN}event = 'gone' AND life.{OWN}is_there = 1
    UNION ALL
    SELECT {listed(arrived)}, {listed(arrived)} - 1, '0'
    FROM {OWN}numbered AS arrival
    JOIN {OWN}lives AS life
        ON {equal("life", keys, "arrival", keys)} AND life.{OWN}life = arrival.{OWN}life - 1
    WHERE arrival.{OWN}event = 'arrival' AND life.{OWN}is_there = 1
)"""

    def walk(self) -> str:
        """From the life of each row that is there now, back over links, until the LOBs are known."""
        keys, froms, lobs = self.key_names, self.from_names, self.lob_names
        found = [f"COALESCE(walk.{lob}, life.{lob})" for lob in lobs]
        return f"""{OWN}walk ({listed([*keys, *froms, f"{OWN}from_life", f"{OWN}path", *lobs])}) AS (
    SELECT {listed(f"newest.{key}" for key in [*keys, *keys])}, newest.{OWN}life, CAST('' AS VARCHAR),
        {listed(f"life.{lob}" for lob in lobs)}
    FROM {OWN}newest AS newest
    JOIN {OWN}lives AS life ON {equal("life", keys, "newest", keys)} AND life.{OWN}life = newest.{OWN}life
    WHERE newest.{OWN}event IN ('update', 'arrival')
    UNION ALL
    SELECT {listed(f"walk.{key}" for key in keys)}, {listed(f"link.{key}" for key in froms)},
        link.{OWN}from_life, walk.{OWN}path || link.{OWN}branch, {listed(found)}
    FROM {OWN}walk AS walk
    JOIN {OWN}links AS link ON {equal("link", keys, "walk", froms)} AND link.{OWN}life = walk.{OWN}from_life
    JOIN {OWN}lives AS life
        ON {equal("life", keys, "link", froms)} AND life.{OWN}life = link.{OWN}from_life
    WHERE {" OR ".join(f"walk.{lob} IS NULL" for lob in lobs)}
)"""

    def found_lobs(self) -> str:
        """For each key, which row knows its LOBs."""
        keys, lobs = self.key_names, self.lob_names
        is_known = [f"FILTER (WHERE {lob} IS NOT NULL)" for lob in lobs]
        chosen = [
            f"min_by({lob}, {OWN}path) {known} AS {lob}" for lob, known in zip(lobs, is_known, strict=True)
        ]
        return f"""{OWN}found AS (
    SELECT {listed(keys)}, {listed(chosen)}
    FROM {OWN}walk
    GROUP BY {listed(keys)}
)"""

    def current_rows(self, relations: Relations) -> str:
        """The row of each newest event, with its LOBs from the rows that know them."""
        columns = {column: f"history.{column}" for column in self.all_columns}
        joins = []
        for place, (column, lob) in enumerate(zip(self.lobs, self.lob_names, strict=True)):
            columns[column.sql] = f"COALESCE(history.{column.sql}, lob_{place}.{column.sql}) AS {column.sql}"
            joins.append(f"""
LEFT JOIN {relations.history} AS lob_{place}
    ON lob_{place}.cdc_sequence_number || lob_{place}.cdc_shard_id = found.{lob}""")
        if joins:
            found = equal("found", self.key_names, "newest", self.key_names)
            joins.insert(0, f"\nLEFT JOIN {OWN}found AS found ON {found}")
        return f"""SELECT {listed(columns.values())}
FROM {OWN}newest AS newest
JOIN {relations.history} AS history
    ON history.cdc_sequence_number = newest.{OWN}sequence AND history.cdc_shard_id = newest.{OWN}shard\
{"".join(joins)}
WHERE newest.{OWN}event <> 'gone'"""


def member_name(name: str, end: str = " || ") -> str:
    """SQL of the text that a member of a JSON object begins with."""
    return literal(json.dumps(name, ensure_ascii=False) + ":") + end


def member_pattern(name: str) -> str:
    """SQL of a regular expression of the name in its quotes."""
    return literal(re.escape(json.dumps(name, ensure_ascii=False)))


def first(values: Sequence[str]) -> str:
    """SQL of the first that is no NULL."""
    return f"COALESCE({', '.join(values)})" if len(values) > 1 else [*values, NO_TEXT][0]


def json_of(formers: Formers, dialect: Dialect) -> str:
    """SQL of the value's JSON: in quotes, if it is no number."""
    found = []
    for one in formers.columns:
        text = dialect.stored_text(quoted(one.name), one.kind)
        string = dialect.json_string(text)
        if one.kind.kind in ("float4", "float8"):  # NaN is no number in JSON
            found.append(f"CASE WHEN {text} < ':' THEN {text} ELSE {string} END")
        else:
            found.append(text if one.kind.kind in BARE else string)
    return first(found)


def json_object(members: Mapping[str, str]) -> str:
    """SQL of a JSON object; members: the SQL of each, and when it is there."""
    cases = [f"CASE WHEN {is_there} THEN {member} END" for member, is_there in members.items()]
    return f"'{{' || concat_ws(',', {listed(cases)}) || '}}'"


def either(conditions: Iterable[str]) -> str:
    return " OR ".join(f"({one})" for one in conditions)


def either_text(place: int) -> str:
    return f"COALESCE({OWN}in_{place}, {OWN}former_{place})"


def listed(parts: Iterable[str]) -> str:
    """With commas, and line breaks where lines get long."""
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > LINE:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + part
    return ",\n        ".join(lines)


def table_folder(schema: TableSchema, folder: str = CHANGES) -> str:
    """changes/public/client/"""
    return f"{folder}{escape(schema.schema)}/{escape(schema.table)}/"


def equal(left: str, left_columns: Iterable[str], right: str, right_columns: Iterable[str]) -> str:
    pairs = zip(left_columns, right_columns, strict=True)
    return " AND ".join(f"{left}.{one} = {right}.{other}" for one, other in pairs)
