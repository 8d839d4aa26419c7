"""Checks of MASKED_COLUMNS against the catalog: masks that hide nothing, or more than they should.

Pure, as those of tables in provision.preflight_tables. A mask names one column of one table, as rows come
under its name: nothing that it does not name is masked, a partition of the same table neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from provision.database import DatabaseFacts, Reference, Relation, Table
from provision.dms_types import is_carried
from provision.estimate import counted
from provision.finding import Finding, Level, Wanted
from provision.preflight_tables import kind_name, spelled

NOTHING = "nothing is masked by it: the column that it means lands as it is"


def check_masks(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    """A mask without a finding is counted as well."""
    found = [
        *mask_findings(facts, wanted),
        *(one for table in facts.tables for one in check_relatives(table, facts, wanted)),
        *(one for reference in facts.references for one in check_reference(reference, facts, wanted)),
    ]
    yield from found
    if wanted.masks and not found:
        columns = counted(sum(map(len, wanted.masks.values())), "column")
        text = f"{columns} of {counted(len(wanted.masks), 'table')}"
        yield Finding("masked-columns", Level.OK, "MASKED_COLUMNS", text)


def mask_findings(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    tables = {(one.relation.schema, one.relation.name): one for one in facts.tables}
    for (schema, name), columns in wanted.masks.items():
        table = tables.get((schema, name))
        if table is None:
            yield unselected(schema, name, columns, facts)
        elif table.relation.kind == "p":
            found = "partitioned: its rows come under the names of its partitions"
            fix = f"MASKED_COLUMNS with each partition of {table.relation}, and with each that is made later"
            yield Finding("masked-columns", Level.BLOCKER, str(table.relation), found, NOTHING, fix)
        elif "columns" not in facts.unseen:
            for column, action in columns.items():
                yield from check_mask(table, column, action)


def unselected(schema: str, name: str, columns: dict[str, str], facts: DatabaseFacts) -> Finding:
    """Of a table that is not there, or of which no row comes."""
    column, action = next(iter(columns.items()))
    there = next((one for one in facts.relations if (one.schema, one.name) == (schema, name)), None)
    subject, meaning = f"{schema}.{name}", NOTHING
    if there is not None and there.is_table:
        found, meaning = "TABLES does not select it", "nothing is masked by it, and no row of it arrives"
        fix = f"TABLES: {path(schema, name)}; or MASKED_COLUMNS without it"
    elif there is not None:
        found, fix = f"a {kind_name(there)}, no table", "MASKED_COLUMNS with the tables below it"
    else:
        near = nearest(subject, [str(one) for one in facts.relations if one.is_table])
        found = "no such table" + (f"; nearest: {near}" if near else "")
        fix = next(
            (mask(one, column, action) for one in facts.relations if str(one) == near),
            "SELECT schemaname, tablename FROM pg_tables;",
        )
    return Finding("masked-columns", Level.BLOCKER, subject, found, meaning, fix)


def check_mask(table: Table, name: str, action: str) -> Iterator[Finding]:
    subject = f"{table.relation}.{name}"
    column = next((one for one in table.columns if one.name == name), None)
    if column is None:
        near = nearest(name, [one.name for one in table.columns])
        found = "no such column" + (f"; nearest: {near}" if near else "")
        fix = mask(table.relation, near, action) if near else "MASKED_COLUMNS without it"
        yield Finding("masked-columns", Level.BLOCKER, subject, found, NOTHING, fix)
    elif not is_carried(column):
        found = f"{column.type}, which DMS does not send"
        fix = "MASKED_COLUMNS without it"
        yield Finding("masked-columns", Level.BLOCKER, subject, found, "nothing is masked by it", fix)
    elif column.is_lob and not table.key:
        found = "a LOB of a table without primary key, which DMS does not send"
        meaning = "nothing is masked by it; with a primary key it would be"
        yield Finding("masked-columns", Level.BLOCKER, subject, found, meaning, "MASKED_COLUMNS without it")
    elif name in table.key and action != "sha256":
        found = f"a column of the primary key, masked with {action}"
        meaning = "rows can't be told apart without it: all that share the rest of the key become one"
        fix = mask(table.relation, name, "sha256")
        yield Finding("masked-columns", Level.BLOCKER, subject, found, meaning, fix)


def check_relatives(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    """Partitions of one table, and tables that inherit: rows of one sort, under names of their own."""
    own = masks_of(table.relation, wanted)
    for other in facts.tables:
        if other is table or "p" in (table.relation.kind, other.relation.kind):
            continue
        oid = table.relation.oid
        if not (set(table.parents) & {*other.parents, other.relation.oid} or oid in other.parents):
            continue
        for column, action in masks_of(other.relation, wanted).items():
            if column not in own and any(one.name == column for one in table.columns):
                found = f"not masked, and that of {other.relation} is"
                meaning = (
                    "a mask holds for the name that rows come under: those of this table land as they are"
                )
                fix = mask(table.relation, column, action)
                subject = f"{table.relation}.{column}"
                yield Finding("masked-relatives", Level.WARNING, subject, found, meaning, fix)
                own = {**own, column: action}


def check_reference(reference: Reference, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    """A foreign key of which one side is hashed; of a table that is not selected nothing is joined."""
    relations = {(one.relation.schema, one.relation.name): one.relation for one in facts.tables}
    ends = [relations.get((reference.schema, reference.table)), relations.get(reference.target)]
    if ends[0] is None or ends[1] is None:
        return
    for names in zip(reference.columns, reference.target_columns, strict=True):
        sides = [(end, name) for end, name in zip(ends, names, strict=True) if end is not None]
        hashed = [masks_of(end, wanted).get(name) == "sha256" for end, name in sides]
        if hashed[0] == hashed[1]:
            continue
        (plain, column), (masked, masked_column) = sides if hashed[1] else reversed(sides)
        found = f"not masked with sha256, and {masked}.{masked_column}, which a foreign key ties it to, is"
        meaning = "a hash on one side only: the two tables can't be joined by it in S3"
        subject = f"{plain}.{column}"
        fix = mask(plain, column, "sha256")
        yield Finding("masked-foreign-key", Level.WARNING, subject, found, meaning, fix)


def masks_of(relation: Relation, wanted: Wanted) -> dict[str, str]:
    return wanted.masks.get((relation.schema, relation.name), {})


def nearest(name: str, names: list[str]) -> str:
    """The name that may be meant; empty where there is none."""
    folded = {one.casefold(): one for one in names}
    return next((folded[one] for one in get_close_matches(name.casefold(), folded, 1)), "")


def path(*names: str) -> str:
    """public."Order", as TABLES and MASKED_COLUMNS spell names."""
    return ".".join(map(spelled, names))


def mask(relation: Relation, column: str, action: str) -> str:
    return f"MASKED_COLUMNS: {path(relation.schema, relation.name, column)}={action}"
