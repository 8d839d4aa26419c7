"""The columns of a table in the lake: published from the source's catalog, or derived from control records.

    schemas/public/client.json
    {"schema": "public", "table": "client", "primary_key": ["id"], "source": "catalog",
     "published_at": "2026-03-01T09:16:10Z",
     "columns": [{"name": "id", "postgresql_type": "bigint", "dms_type": "INT64", ...}, ...]}

What the catalog said stands until the catalog says otherwise: what is derived never takes its place.
It is of what lands: with the masks of MASKED_COLUMNS, which readers of a published schema need not be told.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from lake_tools.bucket import CONTROL, SCHEMAS, Lake, LakeObject, code_of, dotted, find_table
from lake_tools.settings import LakeError, NoDatabaseError, NoSchemaError
from lake_tools.text import aligned
from lambda_function import Masks, escape
from provision.database import COLUMNS, DETAILS, RELATIONS, Column, DatabaseError, Relation, reading
from provision.dms_types import Rendering, dms_type, is_carried
from provision.replication_task import TablePattern

RENDERING = Rendering(map_boolean_as_boolean=True)  # as setup_dms.py makes the source endpoint


@dataclass(frozen=True)
class LakeColumn:
    name: str
    postgresql_type: str | None  # below all domains, "numeric(12,2)"; None: from a control record
    dms_type: str  # "STRING", "INT64", ...
    nullable: bool
    is_lob: bool
    length: int | None = None  # of a STRING that has one: DMS cuts there
    mask: Literal["sha256", "null"] | None = None  # sha256: the lake has a text, whatever the type


@dataclass(frozen=True)
class TableSchema:
    schema: str
    table: str
    columns: tuple[LakeColumn, ...]  # in the order of the table, those that DMS sends
    primary_key: tuple[str, ...]  # in the order of its index; empty: there is none
    source: Literal["catalog", "control"]
    published_at: str  # "2026-03-01T09:16:10Z"; of a derived one, when DMS wrote the control record
    dropped: tuple[str, ...] = ()  # columns that a mask keeps from the lake; they are not among columns

    def __str__(self) -> str:
        return dotted((self.schema, self.table))

    @property
    def key(self) -> str:
        """Of its object."""
        return schema_key(self.schema, self.table)

    @property
    def masks(self) -> dict[str, str]:
        """{"email": "sha256", "name": "drop"}, as MASKED_COLUMNS has them."""
        kept = {one.name: str(one.mask) for one in self.columns if one.mask}
        return kept | dict.fromkeys(self.dropped, "drop")

    def masked(self, masks: Mapping[str, str]) -> TableSchema:
        """Of what lands of the table under these masks. A key that they hide tells rows apart no more."""
        actions = {one.name: masks.get(one.name) for one in self.columns}
        is_key = all(actions.get(name) in (None, "sha256") for name in self.primary_key)
        kept = [one for one in self.columns if actions[one.name] != "drop"]
        return replace(
            self,
            columns=tuple(masked_column(one, actions[one.name]) for one in kept),
            primary_key=self.primary_key if is_key else (),
            dropped=tuple(name for name, action in actions.items() if action == "drop"),
        )


def masked_column(column: LakeColumn, action: str | None) -> LakeColumn:
    if action == "null":
        return replace(column, mask="null", nullable=True)
    return replace(column, mask="sha256") if action == "sha256" else column


class BadSchemaError(LakeError):
    """An object in schemas/ that is no schema."""


# --------------------------------------------------------------------------------------------------------
# Entry points
# --------------------------------------------------------------------------------------------------------


def read_schema(lake: Lake, schema: str, table: str) -> TableSchema:
    """As the catalog had it; where nobody has published that, as the table's last control record has it.

    Raises NoSchemaError, with the command that publishes it.
    """
    for found in read_schemas(lake, [(schema, table)]):
        return found
    name = dotted((schema, table))
    raise NoSchemaError(f"there is no schema of {name} yet: python lake.py schema {name} publish")


def read_schemas(
    lake: Lake, tables: Iterable[tuple[str, str]], on_fault: Callable[[LakeError], None] | None = None
) -> list[TableSchema]:
    """As read_schema has them, sorted; those without any are not among them.

    on_fault is told of an object in schemas/ that is no schema, which then counts as if it were not there;
    None: that raises LakeError.
    """
    names, found = sorted(tables), dict[tuple[str, str], TableSchema]()
    for name in names:
        try:
            if (one := read_published(lake, *name)) is not None:
                found[name] = one
        except BadSchemaError as error:
            if on_fault is None:
                raise
            on_fault(error)
    untold = [name for name in names if name not in found or found[name].source == "control"]
    derived = derive_if_open(lake, untold, {name: one.masks for name, one in found.items()})
    found |= {(one.schema, one.table): one for one in derived}
    return [found[name] for name in names if name in found]


def read_published(lake: Lake, schema: str, table: str) -> TableSchema | None:
    """What is in schemas/. Raises BadSchemaError for what is no schema."""
    body = lake.get(key := schema_key(schema, table))
    if body is None:
        return None
    try:
        return msgspec.json.decode(body, type=TableSchema)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        command = f"python lake.py schema {dotted((schema, table))} publish"
        raise BadSchemaError(f"{lake.uri(key)} is no schema: write it anew: {command}") from error


def publish(lake: Lake, table: str | None = None) -> list[TableSchema]:
    """Writes the schema of the table, None: of each of TABLES, as the source's catalog has it now.

    Raises NoTableError for a table that is not among them; when the database can't be read, NoDatabaseError
    for missing settings or provision's DatabaseError.
    """
    settings = lake.settings
    catalog = read_catalog(lake.connect_parameters(), settings.table_patterns)
    if table is not None:
        known = [(one.schema, one.table) for one in catalog]
        why_not = f"TABLES={settings.tables} selects none of that name in database {settings.pgdatabase!r}"
        wanted = find_table(table, known, why_not)
        catalog = [one for one in catalog if (one.schema, one.table) == wanted]
    published = [one.masked(settings.masks.get((one.schema, one.table), {})) for one in catalog]
    for one in published:
        write(lake, one)
    return published


def publish_derived(lake: Lake, tables: Iterable[tuple[str, str]]) -> list[TableSchema]:
    """Writes what control records say, but for tables whose schema is the catalog's; all that stands then."""
    schemas = read_schemas(lake, tables, warn)
    for one in schemas:
        if one.source == "control":
            write(lake, one)
    return schemas


def require_masks(lake: Lake, on_fault: Callable[[LakeError], None] | None = None) -> None:
    """Raises LakeError if MASKED_COLUMNS lacks masks that schemas/ has: they would be lost.

    on_fault is told of an object that is no schema; None: that raises LakeError.
    """
    for one in published_schemas(lake, on_fault):
        known = lake.settings.masks.get((one.schema, one.table), {})
        if unknown := [name for name in one.masks if name not in known]:
            raise LakeError(
                f"{lake.uri(one.key)} says that {', '.join(unknown)} of {one} "
                f"{'is' if len(unknown) == 1 else 'are'} masked, and MASKED_COLUMNS does not: set it, and "
                "MASK_SECRET or MASK_SECRET_ARN, as for setup_dms.py; "
                "where masks were taken away, setup_dms.py apply writes the schemas anew"
            )


def published_schemas(
    lake: Lake, on_fault: Callable[[LakeError], None] | None = None
) -> Iterator[TableSchema]:
    """What is in schemas/; on_fault as above."""
    for table in lake.published():
        try:
            one = read_published(lake, *table)
        except BadSchemaError as error:
            if on_fault is None:
                raise
            on_fault(error)
        else:
            if one is not None:
                yield one


def write(lake: Lake, one: TableSchema) -> None:
    lake.put(one.key, (json.dumps(asdict(one), indent=2, ensure_ascii=False) + "\n").encode())


def schema_key(schema: str, table: str) -> str:
    return f"{SCHEMAS}{escape(schema)}/{escape(table)}.json"


# --------------------------------------------------------------------------------------------------------
# From the catalog
# --------------------------------------------------------------------------------------------------------


def read_catalog(
    connect_parameters: Mapping[str, Any], patterns: Sequence[TablePattern]
) -> list[TableSchema]:
    """The schemas of the tables that DMS replicates of these, sorted. Raises DatabaseError."""
    with reading(connect_parameters) as reader:
        relations = [Relation(*row) for row in reader.rows(RELATIONS)]
        chosen = [
            one for one in relations if one.kind == "r" and not one.is_of_dms and one.is_selected(patterns)
        ]
        oids = {"oids": [one.oid for one in chosen]}
        columns: dict[int, list[Column]] = {}
        for oid, *values in reader.rows(COLUMNS, oids):
            columns.setdefault(oid, []).append(Column(*values))
        details = {oid: rest for oid, *rest in reader.rows(DETAILS, oids)}
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = [
        of_catalog(one, columns.get(one.oid, ()), details[one.oid], at)
        for one in chosen
        if one.oid in details
    ]
    return sorted(found, key=lambda one: (one.schema, one.table))


def of_catalog(
    relation: Relation, columns: Iterable[Column], details: Sequence[list[str]], at: str
) -> TableSchema:
    """Without the columns that DMS does not send: generated ones, and LOBs where there is no primary key."""
    key, nullable, generated = details
    sent = [
        one for one in columns if is_carried(one) and one.name not in generated and (key or not one.is_lob)
    ]
    return TableSchema(
        relation.schema,
        relation.name,
        tuple(lake_column(one, one.name in nullable) for one in sent),
        tuple(key),
        "catalog",
        at,
    )


def lake_column(column: Column, nullable: bool) -> LakeColumn:
    kind, length = dms_type(column, RENDERING)
    return LakeColumn(column.name, column.base_type, kind, nullable, column.is_lob, length)


# --------------------------------------------------------------------------------------------------------
# From control records
# --------------------------------------------------------------------------------------------------------


class DefinedColumn(msgspec.Struct):
    type: str
    length: int | None = None
    nullable: bool = True


class Definition(msgspec.Struct, rename="kebab"):
    """table-def of a control record."""

    columns: dict[str, DefinedColumn]
    primary_key: list[str] = []


class ControlDetails(msgspec.Struct, rename="kebab"):
    table_def: Definition


class Metadata(msgspec.Struct, rename="kebab"):
    timestamp: str
    schema_name: str
    table_name: str


class Envelope(msgspec.Struct):
    control: ControlDetails
    metadata: Metadata


class ControlRow(msgspec.Struct):
    cdc_sequence_number: str
    cdc_envelope: msgspec.Raw


decode_rows = msgspec.json.Decoder(ControlRow).decode_lines


def derive(
    lake: Lake, tables: Iterable[tuple[str, str]], published: Masks | None = None
) -> list[TableSchema]:
    """What the last control record with a definition says of each table; nothing where there is none.

    published: masks of schemas that were; those of the settings come before them. The days are read from the
    last one on, until all are found.
    """
    masks = lake.settings.masks
    wanted, found = set(tables), dict[tuple[str, str], TableSchema]()
    days: dict[str, list[LakeObject]] = {}
    for one in lake.objects(CONTROL) if wanted else ():
        days.setdefault(one.key.rpartition("/")[0], []).append(one)
    for day in sorted(days, reverse=True):
        if wanted <= found.keys():
            break
        latest = {
            (envelope.metadata.schema_name, envelope.metadata.table_name): envelope
            for envelope in definitions(lake, days[day])
        }
        found = {table: of_control(latest[table]) for table in wanted & latest.keys()} | found
    return [
        found[table].masked((published or {}).get(table, {}) | masks.get(table, {}))
        for table in sorted(found)
    ]


def derive_if_open(lake: Lake, tables: Iterable[tuple[str, str]], published: Masks) -> list[TableSchema]:
    """As derive() has them; nothing where control/ is closed to the reader."""
    try:
        return derive(lake, tables, published)
    except LakeError as error:
        if code_of(error) != "AccessDenied":
            raise
        return []


def definitions(lake: Lake, objects: Sequence[LakeObject]) -> list[Envelope]:
    """The envelopes with a table-def, in the order in which DMS wrote them."""
    found = [
        (envelope.metadata.timestamp, row.cdc_sequence_number, envelope)
        for one, path in zip(objects, lake.fetch(objects), strict=True)
        for row in control_rows(lake, one, path)
        if (envelope := defining(row.cdc_envelope)) is not None
    ]
    return [envelope for *_, envelope in sorted(found, key=lambda one: one[:2])]


def control_rows(lake: Lake, one: LakeObject, path: Path) -> list[ControlRow]:
    try:
        return decode_rows(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, msgspec.DecodeError) as error:
        raise LakeError(
            f"cannot read {lake.uri(one.key)}: it is no object of control records, or its copy is damaged: "
            f"remove {path} and run it again"
        ) from error


def defining(envelope: msgspec.Raw) -> Envelope | None:
    """None for one without a definition, and for one of a form that is not known."""
    if b'"table-def"' not in bytes(envelope):
        return None
    try:
        return msgspec.json.decode(envelope, type=Envelope)
    except msgspec.ValidationError:
        return None


def of_control(envelope: Envelope) -> TableSchema:
    definition, metadata = envelope.control.table_def, envelope.metadata
    columns = tuple(
        LakeColumn(name, None, one.type, one.nullable, is_lob(one), one.length)
        for name, one in definition.columns.items()
    )
    key = tuple(definition.primary_key)
    return TableSchema(metadata.schema_name, metadata.table_name, columns, key, "control", metadata.timestamp)


def is_lob(column: DefinedColumn) -> bool:
    """Observed: LOBs are strings without a length. That no other string is without one is inferred."""
    return column.type == "BINARY" or (column.type == "STRING" and column.length is None)


# --------------------------------------------------------------------------------------------------------
# lake.py schema [TABLE] [publish]
# --------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", nargs="?", metavar="TABLE", help="public.client (default: all)")
    parser.add_argument(
        "publish", nargs="?", choices=["publish"], metavar="publish", help="write it from the database first"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def run(options: argparse.Namespace, lake: Lake) -> int:
    """Shows the schema of one table, or which tables have one; publishes first, if asked to."""
    table, is_publishing = words_of(options.table, options.publish)
    if is_publishing:
        shown = publish_or_derive(lake, table)
    else:
        shown = read_schemas(lake, lake.known_tables, warn) if table is None else [schema_of(lake, table)]
    if options.json:
        print(json.dumps([asdict(one) for one in shown], indent=2, ensure_ascii=False))
    elif table is None:
        missing = (
            [] if is_publishing else sorted({*lake.known_tables} - {(one.schema, one.table) for one in shown})
        )
        print("\n".join(overview(lake, shown, missing)))
    else:
        print("\n".join(columns_text(shown[0])))
    return 0


def words_of(table: str | None, word: str | None) -> tuple[str | None, bool]:
    """The table, and whether to publish: "publish" alone is of all tables."""
    return (None, True) if table == "publish" and word is None else (table, word is not None)


def publish_or_derive(lake: Lake, table: str | None) -> list[TableSchema]:
    """Raises NoSchemaError when neither database nor control records tell anything.

    LakeError where a mask would be forgotten by someone whose settings do not know of it.
    """
    require_masks(lake, warn)
    try:
        return publish(lake, table)
    except (DatabaseError, NoDatabaseError) as error:
        schemas = publish_derived(lake, lake.known_tables if table is None else [lake.table(table)])
        if not schemas:
            where = f"and in {lake.uri(CONTROL)} there is no table definition either"
            raise NoSchemaError(f"{error}; {where}") from error
        print(f"not read from the catalog: {error}", file=sys.stderr)
        print("what it said before stands; the rest is from control records", file=sys.stderr)
        return schemas


def warn(fault: LakeError) -> None:
    print(fault, file=sys.stderr)


def schema_of(lake: Lake, name: str) -> TableSchema:
    """The table's; says so on stderr when DMS has seen other columns since it was published."""
    found = read_schema(lake, *lake.table(name))
    name_of = (found.schema, found.table)
    for seen in derive_if_open(lake, [name_of], {name_of: found.masks}) if found.source == "catalog" else ():
        others = {one.name for one in seen.columns} ^ {one.name for one in found.columns}
        if others and seen.published_at > found.published_at:
            print(
                f"since then DMS has seen the table change: {', '.join(sorted(others))}: "
                f"python lake.py schema {found} publish",
                file=sys.stderr,
            )
    return found


def overview(lake: Lake, shown: Sequence[TableSchema], missing: Sequence[tuple[str, str]]) -> Iterator[str]:
    """A line a table."""
    if not shown and not missing:
        yield f"no table in {lake.uri()} yet"
        return
    rows = [("TABLE", "COLUMNS", "PRIMARY KEY", "FROM", "PUBLISHED")]
    rows += [
        (str(one), str(len(one.columns)), ", ".join(one.primary_key) or "none", one.source, one.published_at)
        for one in shown
    ]
    yield from aligned(rows + [(dotted(name), "-", "-", "-", "-") for name in missing])
    if missing:
        yield "no schema yet: python lake.py schema publish"


def columns_text(schema: TableSchema) -> Iterator[str]:
    key = f"primary key {', '.join(schema.primary_key)}" if schema.primary_key else "no primary key"
    origin = "catalog" if schema.source == "catalog" else "control records"
    yield f"{schema}: {key}; from the {origin}, {schema.published_at}"
    rows = [("COLUMN", "POSTGRESQL", "DMS", "NULL", "MASK")]
    for one in schema.columns:
        length = f"({one.length})" if one.length is not None else ""
        lob = ", a LOB" if one.is_lob else ""
        nullable = "yes" if one.nullable else "no"
        kind = f"{one.dms_type}{length}{lob}"
        rows.append((one.name, one.postgresql_type or "-", kind, nullable, one.mask or ""))
    is_masked = any(one.mask for one in schema.columns)
    yield from aligned(rows if is_masked else [row[:-1] for row in rows])
    if schema.dropped:
        yield f"masked, and not in the lake: {', '.join(schema.dropped)}"
