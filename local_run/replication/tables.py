"""The source's tables, as the stand-in for the DMS task sees them.

    read_tables(connection, is_selected)    [SourceTable(16391, "public", "client", (Column("id", ...), ...))]

A table is what logical decoding calls one: an ordinary table or a partition, each under its own name. Which
of them the task selects is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from provision.database import COLUMNS, DETAILS, RELATIONS, Column, Relation


@dataclass(frozen=True)
class SourceTable:
    """A table; schema "" is that of DMS's own tables."""

    oid: int
    schema: str
    name: str
    columns: tuple[Column, ...]  # in the order of the table, without those left out
    nullable: frozenset[str]
    primary_key: tuple[str, ...]  # in the index's order; empty: there is none, or one that is deferrable
    left_out: tuple[str, ...] = ()  # generated columns, which the log does not carry

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def is_of_dms(self) -> bool:
        return not self.schema

    @property
    def why_not_migrated(self) -> str:
        """Why DMS would not migrate the table; empty when it would.

        Documented: a primary key of LOB type is not supported, for PostgreSQL that is text, bytea, json, ...
        """
        key_lobs = [one.name for one in self.columns if one.name in self.primary_key and one.is_lob]
        return f"primary key column {key_lobs[0]!r} is a LOB for DMS" if key_lobs else ""


def read_tables(connection: Any, is_selected: Callable[[str, str], bool]) -> list[SourceTable]:
    """The tables for which is_selected(schema, name), sorted by these, as the connection's snapshot has them.

    DMS's own tables in the source (awsdms_...), partitioned parents, views, foreign and temporary tables are
    never among them. The connection is psycopg2's. Raises psycopg2.Error.
    """
    found = [Relation(*row) for row in fetched(connection, RELATIONS)]
    chosen = [one for one in found if one.kind == "r" and not one.is_of_dms]
    chosen = sorted(
        (one for one in chosen if is_selected(one.schema, one.name)), key=lambda one: (one.schema, one.name)
    )
    oids = {"oids": [one.oid for one in chosen]}
    columns: dict[int, list[Column]] = {}
    for oid, *values in fetched(connection, COLUMNS, oids):
        columns.setdefault(oid, []).append(Column(*values))
    details = {oid: rest for oid, *rest in fetched(connection, DETAILS, oids)}
    return [
        source_table(one, columns.get(one.oid, ()), *details[one.oid])
        for one in chosen
        if one.oid in details  # else it was dropped meanwhile
    ]


def source_table(
    relation: Relation,
    columns: Iterable[Column],
    key: list[str],
    nullable: list[str],
    generated: list[str],
) -> SourceTable:
    return SourceTable(
        relation.oid,
        relation.schema,
        relation.name,
        tuple(column for column in columns if column.name not in generated),
        frozenset(nullable),
        tuple(key),
        tuple(generated),
    )


def fetched(connection: Any, query: str, parameters: dict[str, Any] | None = None) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return list(cursor.fetchall())
