"""Checks of the selected tables and columns: which are there, what of them would not arrive as it is in S3.

Pure, as those of the server in provision.preflight: (what was read, what is wanted) -> findings, each with
what it means for the rows and the SQL or the setting that ends it.
Source: https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Source.PostgreSQL.html,
https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Target.Kinesis.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from provision.database import (
    EXACT_DIGITS,
    LARGE_INTEGER_DIGITS,
    Column,
    DatabaseFacts,
    Relation,
    Table,
    identifier,
    listed,
    literal,
)
from provision.estimate import SHARD_RECORDS, counted, duration
from provision.finding import Finding, Level, Wanted, size
from provision.replication_task import LOB_KB, TablePattern, nearest_tables

RECORD_BYTES = 1 << 20  # of a Kinesis record, the largest that DMS writes
METADATA_BYTES = 2048  # around the row in its envelope, generously
ROW_BYTES = int(RECORD_BYTES * 0.7)  # from here on escapes may make a record too large
UNBOUNDED_VARCHAR_BYTES = 8000
RANGE_CHARACTERS = 255  # STRING(255)
MOST_PRECISION = 38  # of a number; documented

# --------------------------------------------------------------------------------------------------------
# Which tables the patterns select
# --------------------------------------------------------------------------------------------------------


def check_selection(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if not wanted.patterns:
        found, meaning = "names no table", "no row arrives"
        yield Finding("selection", Level.BLOCKER, "TABLES", found, meaning, "TABLES: public.%")
    for pattern in wanted.patterns:
        matched = [
            one for one in facts.relations if not one.is_of_dms and pattern.matches(one.schema, one.name)
        ]
        if matched and not any(relation.is_table for relation in matched):
            found = f"matches {kind_name(matched[0])} {matched[0]}, no table"
            meaning = "DMS replicates tables only: none of its rows arrives"
            yield Finding("selection", Level.BLOCKER, str(pattern), found, meaning)
        elif not matched:
            yield unmatched(pattern, facts)
    if facts.tables:
        yield selection_summary(facts, wanted)


def unmatched(pattern: TablePattern, facts: DatabaseFacts) -> Finding:
    level = Level.WARNING if facts.tables else Level.BLOCKER
    found, fix = "matches no table", "SELECT schemaname, tablename FROM pg_tables;"
    if near := nearest(pattern, facts.relations):
        found, fix = f"{found}; nearest: {', '.join(near)}", f"TABLES: {near[0]}"
    return Finding("selection", level, str(pattern), found, "none of its rows arrives", fix)


def nearest(pattern: TablePattern, relations: Iterable[Relation]) -> list[str]:
    """What the pattern may have meant, tables and whole schemas, as TABLES spells them."""
    tables = {(one.schema, one.name, False) for one in relations if one.is_table}
    tables |= {(schema, "%", False) for schema, _, _ in tables}
    spellings = {f"{schema}.{table}": f"{spelled(schema)}.{spelled(table)}" for schema, table, _ in tables}
    return [spellings[name] for name in nearest_tables(pattern, sorted(tables))]


def spelled(name: str) -> str:
    is_plain = re.fullmatch(r"[\w$%]+", name) and name == name.lower()
    return name if is_plain else identifier(name)


def kind_name(relation: Relation) -> str:
    return {"v": "view", "m": "materialized view", "f": "foreign table"}.get(relation.kind, "relation")


def selection_summary(facts: DatabaseFacts, wanted: Wanted) -> Finding:
    stored = [table for table in facts.tables if table.relation.kind == "r"]  # not those of partitions twice
    rows = sum(table.estimated_rows or 0 for table in stored)
    unknown = sum(table.estimated_rows is None for table in stored)
    total = sum(table.total_bytes for table in facts.tables)
    own = sum(relation.is_of_dms for relation in facts.relations)
    parts = [f"{counted(len(facts.tables), 'table')}, about {counted(rows, 'row')}, {size(total)}"]
    parts += [f"{unknown} never analyzed and not counted"] * bool(unknown)
    parts += [f"the first load takes {duration(rows / SHARD_RECORDS)} or more on one shard"]
    parts += [f"{counted(own, 'table')} of DMS's own left out (awsdms_)"] * bool(own)
    return Finding("selection", Level.OK, ", ".join(map(str, wanted.patterns)), "; ".join(parts))


def check_views(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    meaning = "DMS replicates tables only: none of its rows arrives; select the tables below it"
    named = [pattern for pattern in wanted.patterns if pattern.is_exact]  # check_selection speaks of these
    for relation in facts.relations:
        is_chosen = relation.is_selected(wanted.patterns) and not relation.is_selected(named)
        if relation.kind in "vmf" and is_chosen:
            yield Finding("view", Level.WARNING, str(relation), f"a {kind_name(relation)}", meaning)


def check_similar_names(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    meaning = (
        "names that differ only by case: DMS documents no support, and readers that fold case mix them up"
    )
    for first, *others in fold([str(table.relation) for table in facts.tables]):
        fix = f"ALTER TABLE ... RENAME, or TABLES without one of {', '.join([first, *others])}"
        yield Finding("similar-names", Level.WARNING, first, f"beside {', '.join(others)}", meaning, fix)


def fold(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that differ only by case."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.casefold(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


# --------------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------------


def check_tables(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    """What each table's own checks and those of its columns find; a table without a finding is ok."""
    for table in facts.tables:
        found = [finding for check in TABLE_CHECKS for finding in check(table, facts, wanted)]
        for column in table.columns:
            found += [finding for check in COLUMN_CHECKS for finding in check(table, column, wanted)]
        yield from found
        if not found and "columns" not in facts.unseen:
            yield Finding("table", Level.OK, str(table.relation), summary(table))


def summary(table: Table) -> str:
    rows = "rows unknown"
    if table.estimated_rows is not None:
        rows = f"about {counted(table.estimated_rows, 'row')}"
    seen = f"values looked at: {table.probe.scope}" if table.probe.scope else "no values to look at"
    return f"primary key ({', '.join(table.key)}), {rows}, {size(table.total_bytes)}, {seen}"


def check_key(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if table.key and not table.is_key_deferrable:
        return
    subject, fix = str(table.relation), key_fix(table)
    meaning = "DMS ignores its updates and deletes; only loads and inserts arrive"
    if table.identity == "f":
        meaning = "DMS documents that it ignores its updates and deletes, though its replica identity is full"
    found = "its primary key is deferrable" if table.key else "no primary key"
    found += f"; {table.rewrites:,} updates and deletes since its statistics began"
    level = Level.BLOCKER if table.rewrites else Level.WARNING
    yield Finding("primary-key", level, subject, found, meaning, fix)
    if lobs := [column.name for column in table.columns if column.is_lob]:
        meaning = "DMS leaves its LOB columns out, from the load and from changes, without a word"
        level = Level.BLOCKER
        if table.unique_columns:
            meaning = "DMS documents that a unique key will do for LOBs; others saw the columns left out"
            level = Level.WARNING
        found = f"no primary key and {counted(len(lobs), 'LOB column')}: {', '.join(lobs)}"
        yield Finding("lob-without-primary-key", level, subject, found, meaning, fix)


def key_fix(table: Table) -> str:
    name = table.relation.sql
    if table.key:
        constraint = identifier(table.key_name)
        return f"ALTER TABLE {name} DROP CONSTRAINT {constraint}, ADD PRIMARY KEY ({listed(table.key)});"
    if table.unique_columns:
        return f"ALTER TABLE {name} ADD PRIMARY KEY ({listed(table.unique_columns)});"
    return f"ALTER TABLE {name} ADD COLUMN row_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;"


def check_identity(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    subject, fix = str(table.relation), f"ALTER TABLE {table.relation.sql} REPLICA IDENTITY DEFAULT;"
    if not table.key:
        return
    if table.identity == "n":
        meaning = "the WAL holds no old key: deletes and changed keys can't be told to a row"
        yield Finding("replica-identity", Level.BLOCKER, subject, "replica identity nothing", meaning, fix)
    elif table.identity == "i" and set(table.identity_columns) != set(table.key):
        meaning = "deletes carry the columns of that index instead of the primary key"
        found = f"replica identity is an index on {', '.join(table.identity_columns) or '(dropped)'}"
        yield Finding("replica-identity", Level.WARNING, subject, found, meaning, fix)


def check_persistence(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if table.is_unlogged:
        meaning = "it writes no WAL: the load arrives, no change does"
        fix = f"ALTER TABLE {table.relation.sql} SET LOGGED;"
        yield Finding("unlogged", Level.BLOCKER, str(table.relation), "an unlogged table", meaning, fix)


def check_partitions(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    children = [other for other in facts.tables if table.relation.oid in other.parents]
    names = ", ".join(str(other.relation) for other in children[:3]) + (", ..." if len(children) > 3 else "")
    subject = str(table.relation)
    if table.relation.kind == "p" and not children:
        meaning = "changes come under the names of the partitions, which are not selected: none arrives"
        parent = literal(table.relation.sql)
        fix = f"SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = {parent}::regclass;"
        found = "partitioned, and no partition is selected"
        yield Finding("partitions", Level.BLOCKER, subject, found, meaning, fix)
    elif table.relation.kind == "p":
        meaning = "a row can arrive twice: in the folder of the partitioned table and in its partition's"
        fix = f"TABLES with the partitions alone; an exclude rule for {subject} in the task's table mappings"
        found = f"partitioned, selected with {names}"
        yield Finding("partitions", Level.WARNING, subject, found, meaning, fix)
    elif children:
        meaning = "the load of the parent holds the rows of its children too: they arrive under both names"
        fix = f"SELECT * FROM ONLY {table.relation.sql};  -- the rows that are its own"
        yield Finding("inheritance", Level.WARNING, subject, f"inherited by {names}", meaning, fix)


def check_privileges(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    role, relation = identifier(facts.role.name), table.relation
    if not facts.role.exists or "privileges" in facts.unseen:
        return
    if not table.can_use_schema:
        fix = f"GRANT USAGE ON SCHEMA {identifier(relation.schema)} TO {role};"
        found = f"{facts.role.name} has no USAGE on the schema"
        meaning = "DMS can't see the table: no row arrives"
        yield Finding("privileges", Level.BLOCKER, str(relation), found, meaning, fix)
    if not table.can_select:
        found, meaning = f"{facts.role.name} has no SELECT", "DMS can't load the table: no row arrives"
        fix = f"GRANT SELECT ON {relation.sql} TO {role};"
        yield Finding("privileges", Level.BLOCKER, str(relation), found, meaning, fix)
    if not table.sees_all_rows:
        found = f"row security applies to {facts.role.name}"
        meaning = "the load brings only the rows that its policies show, changes come for all"
        fix = f"CREATE POLICY all_rows_for_dms ON {relation.sql} FOR SELECT TO {role} USING (true);"
        yield Finding("row-security", Level.BLOCKER, str(relation), found, meaning, fix)


def check_table_name(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    relation = table.relation
    for kind, name in (("schema", relation.schema), ("table", relation.name)):
        if odd := oddness(name):
            meaning = (
                "selection rules are case-sensitive, readers may fold case, and its folder in S3 spells all "
                "but A-Z a-z 0-9 _ - and inner dots in percent"
            )
            fix = f"ALTER TABLE {relation.sql} RENAME TO ...;  -- only if readers can't quote names"
            yield Finding("odd-names", Level.WARNING, str(relation), f"{kind} name with {odd}", meaning, fix)


def oddness(name: str) -> str:
    if re.search(r"[^A-Za-z0-9_]", name):
        return "characters other than letters, digits and _"
    return "upper case" if name != name.lower() else "a digit in front" if name[:1].isdigit() else ""


def check_column_names(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    names, subject = [column.name for column in table.columns], str(table.relation)
    for name in names:
        if name in wanted.reserved_columns:
            meaning = "the Lambda adds a column of this name: it quarantines every record of the table"
            rename = f"RENAME COLUMN {identifier(name)} TO {identifier(name + '_')}"
            fix = f"ALTER TABLE {table.relation.sql} {rename};"
            yield Finding("reserved-columns", Level.BLOCKER, f"{subject}.{name}", "reserved", meaning, fix)
        if re.search(r"[^A-Za-z0-9_]", name):
            meaning, found = "readers have to quote the column", f"name with {oddness(name)}"
            yield Finding("odd-names", Level.WARNING, f"{subject}.{name}", found, meaning)
    for group in fold(names):
        meaning = "columns that differ only by case: readers that fold case see one of them"
        fix = f"ALTER TABLE {table.relation.sql} RENAME COLUMN {identifier(group[-1])} TO ...;"
        yield Finding("similar-names", Level.WARNING, f"{subject}.{group[0]}", ", ".join(group), meaning, fix)


def check_row_size(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    longest = table.probe.row_bytes + METADATA_BYTES
    if longest < ROW_BYTES:
        return
    found = f"about {size(longest)} as JSON, before its escapes, LOBs cut at LobMaxSize ({table.probe.scope})"
    meaning = (
        f"a Kinesis record takes {size(RECORD_BYTES)}: DMS can't write a larger row and suspends the table"
    )
    columns = " + ".join(f"coalesce(octet_length({identifier(c.name)}::text), 0)" for c in table.columns)
    fix = f"{table.rows_where} {columns} > {ROW_BYTES};"
    level = Level.BLOCKER if longest > RECORD_BYTES else Level.WARNING
    yield Finding("row-size", level, str(table.relation), found, meaning, fix)


def check_probe(table: Table, facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if table.probe.why_not:
        widths = [f"{c.name} {c.average_bytes}" for c in table.columns if c.is_lob and c.average_bytes]
        found = f"values not looked at: {table.probe.why_not}"
        found += f"; average bytes stored, of pg_stats: {', '.join(widths)}" if widths else ""
        meaning = "whether values are too long, infinite or rounded on the way is unknown"
        fix = f"GRANT SELECT ON {table.relation.sql} TO {identifier(facts.user)};"
        fix = fix if "permission" in table.probe.why_not else ""
        yield Finding("values", Level.WARNING, str(table.relation), found, meaning, fix)


# --------------------------------------------------------------------------------------------------------
# Columns: what their values lose
# --------------------------------------------------------------------------------------------------------


def check_lob(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    if not column.is_lob:
        return
    subject = f"{table.relation}.{column.name}"
    if column.name in table.key:
        found = f"{column.type} in the primary key"
        meaning = "DMS does not migrate a table whose primary key is a LOB"
        fix = f"{table.alter(column)} varchar(255);"
        yield Finding("lob-primary-key", Level.BLOCKER, subject, found, meaning, fix)
    longest, limit = table.probe.octets.get(column.name, 0), wanted.lob_max_size_kb * 1024
    lob_bytes = longest * column.lob_factor
    rule = ", two bytes a character as DMS counts," if column.lob_factor == 2 else ""
    found = f"{column.type}, longest {size(longest)}{rule} of {table.probe.scope}"
    found += f"; LobMaxSize {wanted.lob_max_size_kb} KB"
    if lob_bytes > limit:
        meaning = "longer values are cut at LobMaxSize, or stop the task (FailTasksOnLobTruncation)"
        fix = lob_fix(table, column, lob_bytes)
        yield Finding("lob-size", Level.BLOCKER, subject, found, meaning, fix)
    elif table.probe.scope and not table.probe.is_whole and lob_bytes * 2 > limit:
        meaning = "a longer one than in the sample would be cut, or stop the task"
        fix = f"SELECT max(octet_length({identifier(column.name)}::text)) FROM {table.relation.sql};"
        yield Finding("lob-size", Level.WARNING, subject, found, meaning, fix)


def lob_fix(table: Table, column: Column, lob_bytes: int) -> str:
    """A LobMaxSize with a quarter to spare, or what is too long for any."""
    needed_kb = -(-lob_bytes * 5 // 4 // 1024)
    if needed_kb <= LOB_KB:
        return f"LobMaxSize of the task: {needed_kb} or more"
    most = LOB_KB * 1024 // column.lob_factor
    return (
        "-- too long for a record of Kinesis: shorten it, or leave the column out\n"
        f"{table.rows_where} octet_length({identifier(column.name)}::text) > {most};"
    )


def check_varchar(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    if column.base != "varchar" or column.is_array or column.length is not None:
        return
    subject, longest = f"{table.relation}.{column.name}", table.probe.octets.get(column.name, 0)
    found = f"varchar without a length, longest {size(longest)} of {table.probe.scope}"
    if longest > UNBOUNDED_VARCHAR_BYTES:
        meaning = f"DMS cuts it at {UNBOUNDED_VARCHAR_BYTES:,} bytes, without a word"
        fix = "unboundedVarcharMaxSize in the source endpoint's extra connection attributes, or\n"
        fix += f"{table.alter(column)} text;  -- then a LOB"
        yield Finding("varchar-unbounded", Level.BLOCKER, subject, found, meaning, fix)
    elif table.probe.scope and not table.probe.is_whole:
        meaning = f"DMS would cut a value longer than {UNBOUNDED_VARCHAR_BYTES:,} bytes, without a word"
        fix = f"SELECT max(octet_length({identifier(column.name)})) FROM {table.relation.sql};"
        yield Finding("varchar-unbounded", Level.WARNING, subject, found, meaning, fix)


def check_range(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    longest = table.probe.octets.get(column.name, 0)
    if column.kind in ("r", "m") and not column.is_array and longest > RANGE_CHARACTERS:
        found = f"{column.type}, longest {size(longest)} of {table.probe.scope}"
        meaning = f"DMS gives a range {RANGE_CHARACTERS} characters (documented): a longer one is cut"
        name = identifier(column.name)
        fix = f"{table.alter(column)} text USING {name}::text;  -- then a LOB"
        yield Finding("range-size", Level.BLOCKER, f"{table.relation}.{column.name}", found, meaning, fix)


def check_numeric(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    if column.base != "numeric" or column.is_array:
        return
    subject, is_unfit = f"{table.relation}.{column.name}", "unfit" in marks_of(table, column)
    alter = table.alter(column)
    if column.precision_and_scale is None:
        found = "numeric without a precision"
        if is_unfit:
            found += "; values with more digits than that exist"
        elif table.probe.scope:
            found += f"; {table.probe.scope} would fit"
        meaning = "DMS writes it as NUMERIC(28,6): further decimals are rounded away"
        fix = f"{alter} numeric(28,6);  -- or so"
        yield Finding("numeric-unbounded", Level.WARNING, subject, found, meaning, fix)
    elif column.precision_and_scale[0] > MOST_PRECISION:
        meaning = f"DMS writes a precision above {MOST_PRECISION} as text: a string in the row, not a number"
        fix = f"{alter} numeric({MOST_PRECISION},10);"
        yield Finding("numeric-precision", Level.WARNING, subject, column.type, meaning, fix)
    elif is_unfit:
        meaning = (
            f"numbers pass through doubles (inferred): beyond {EXACT_DIGITS} significant digits they round"
        )
        found = f"{column.type}; values with more than {EXACT_DIGITS} digits exist"
        fix = f"{alter} text USING {identifier(column.name)}::text;  -- exact"
        yield Finding("numeric-digits", Level.WARNING, subject, found, meaning, fix)


def marks_of(table: Table, column: Column) -> set[str]:
    return {mark for name, mark in table.probe.marks if name == column.name}


def check_bigint(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    subject, marks = f"{table.relation}.{column.name}", marks_of(table, column)
    if column.base != "int8" or column.is_array:
        return
    if "beyond-18-digits" in marks and wanted.has_large_integers:
        meaning = (
            f"UseLargeIntegerValue keeps {LARGE_INTEGER_DIGITS} digits (documented): longer ones may round"
        )
        found = f"values of more than {LARGE_INTEGER_DIGITS} digits exist"
        fix = f"{table.alter(column)} varchar(20);"
        yield Finding("bigint", Level.WARNING, subject, found, meaning, fix)
    elif "unfit" in marks and not wanted.has_large_integers:
        meaning = (
            "DMS writes numbers as doubles: ids beyond 2^53 are rounded, and different rows get the same id"
        )
        fix = "UseLargeIntegerValue on the Kinesis endpoint (DMS 3.5.4 or newer)"
        yield Finding("bigint", Level.BLOCKER, subject, "values beyond 2^53 exist", meaning, fix)


# mark: check, what was found, what it means, the condition that finds the rows
SPECIAL_VALUES = {
    "infinite": (
        "infinity",
        "infinite values exist",
        "an infinite date or time arrives as 9999-12-31 23:59:59 or 4713-01-01 BC",
        "NOT isfinite($name)",
    ),
    "far": (
        "far-dates",
        "years before 1 or after 9999 exist",
        "such a year has no form that readers agree on: it may arrive changed",
        "isfinite($name) AND extract(year FROM $name) NOT BETWEEN 1 AND 9999",
    ),
    "nan": (
        "nan",
        "NaN or infinity exists",
        "JSON has no NaN and no infinity: such a value arrives as null (inferred)",
        "$name::text IN ('NaN', 'Infinity', '-Infinity')",
    ),
}


def check_special_values(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    subject, marks = f"{table.relation}.{column.name}", marks_of(table, column)
    for mark, (check, seen, meaning, condition) in SPECIAL_VALUES.items():
        if mark in marks:
            where = condition.replace("$name", identifier(column.name))
            fix = f"SELECT count(*) FROM {table.relation.sql} WHERE {where};"
            yield Finding(check, Level.WARNING, subject, f"{column.type}, {seen}", meaning, fix)


class TypeNote(NamedTuple):
    """What becomes of every value of a type."""

    check: str
    meaning: str
    instead: str = ""  # a type that arrives as it is, with $name and $length of the column
    level: Level = Level.WARNING


GEOMETRIC = TypeNote("geometric", "it arrives as text: (1,2)")
JSON = TypeNote("json", "it arrives as a text that holds JSON, not as an object")
POSTGIS = TypeNote(
    "postgis-data-type",
    "DMS migrates PostGIS to PostGIS only: the column does not arrive",
    "text USING ST_AsGeoJSON($name)",
    Level.BLOCKER,
)
POSTGIS_TYPES = ("geometry", "geography", "raster", "box2d", "box3d")
TYPE_NOTES = {
    "array": TypeNote("array", "it arrives as the text of an array: {1,2,3}"),
    "composite": TypeNote("composite", "it arrives as the text of a row: (1,a)"),
    "enum": TypeNote("enum", "it arrives as the text of its label"),
    "range": TypeNote("range", "it arrives as text: [1,5)"),
    "multirange": TypeNote("multirange", "DMS does not document them: whether and how it arrives is unknown"),
    "bpchar": TypeNote("char-blanks", "its trailing blanks are cut", "varchar$length"),
    "bytea": TypeNote("bytea", "it arrives as hexadecimal text: 0x80057D"),
    "float4": TypeNote(
        "real",
        "it arrives with nine digits, 2.2 as 2.20000005: compare it as a real",
        "double precision USING $name::text::double precision",
    ),
    "hstore": TypeNote(
        "hstore",
        "documented as text; others saw that it does not arrive",
        "jsonb USING hstore_to_jsonb($name)",
    ),
    "interval": TypeNote("interval", "it arrives as text: 1 day 04:00:00"),
    "json": JSON,
    "jsonb": JSON,
    "money": TypeNote("money", "it arrives as a number: the currency is lost", "numeric(19,2)"),
    "oid": TypeNote(
        "large-object",
        "the number arrives, the large object behind it does not",
        "bytea USING lo_get($name)",
    ),
    "timestamp": TypeNote(
        "timestamp-without-zone",
        "it arrives with a Z though it has no zone: readers take local times for UTC",
        "timestamptz USING $name AT TIME ZONE 'UTC'",
    ),
    "timetz": TypeNote("timetz", "its offset may be lost"),
    **dict.fromkeys(("point", "line", "lseg", "box", "circle", "path", "polygon"), GEOMETRIC),
    **dict.fromkeys(POSTGIS_TYPES, POSTGIS),
}
TYPE_KINDS = {"c": "composite", "e": "enum", "r": "range", "m": "multirange"}


def check_type(table: Table, column: Column, wanted: Wanted) -> Iterator[Finding]:
    """Types whose values always change in form, whatever they are."""
    if column.base == "bpchar" and not column.is_array and column.length == 1:
        return
    if note := TYPE_NOTES.get(type_kind(column)):
        subject, name = f"{table.relation}.{column.name}", identifier(column.name)
        instead = note.instead.replace("$name", name)
        instead = instead.replace("$length", f"({column.length})" if column.length else "")
        fix = f"{table.alter(column)} {instead};" if note.instead else ""
        yield Finding(note.check, note.level, subject, column.type, note.meaning, fix)


def type_kind(column: Column) -> str:
    """The name under which TYPE_NOTES has it: a user's enum named money is an enum."""
    if column.is_array or column.base in POSTGIS_TYPES:
        return "array" if column.is_array else column.base
    return TYPE_KINDS.get(column.kind, column.base)


TABLE_CHECKS: tuple[Callable[[Table, DatabaseFacts, Wanted], Iterator[Finding]], ...] = (
    check_key,
    check_identity,
    check_persistence,
    check_partitions,
    check_privileges,
    check_table_name,
    check_column_names,
    check_row_size,
    check_probe,
)
COLUMN_CHECKS: tuple[Callable[[Table, Column, Wanted], Iterator[Finding]], ...] = (
    check_lob,
    check_varchar,
    check_range,
    check_numeric,
    check_bigint,
    check_special_values,
    check_type,
)
