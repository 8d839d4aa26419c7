"""How a row's JSON becomes typed values in SQL: for DuckDB on a laptop, and for Athena.

    DuckDB().value('"id_text"', ValueType("int8"))     TRY_CAST("id_text" AS BIGINT)

Numbers are taken from the JSON text as DMS wrote them: a JSON reader would make doubles of those that have a
point or an exponent. A text that is no value of its type becomes NULL here; lake_tools.views keeps it in
cdc_rescued.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lake_tools.schemas import LakeColumn

Kind = Literal[
    "int2",
    "int4",
    "int8",
    "uint8",
    "float4",
    "float8",
    "decimal",
    "bool",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "uuid",
    "bytea",
    "text",
]
LINES, ROW = "cdc__lines", "cdc__row"
DIGITS = 38  # both engines keep so many in a decimal; DMS writes a longer numeric as a string
UNBOUNDED = (38, 15)  # of numeric without precision: DMS writes NUMERIC(28,6), 22 digits before the point
MONEY = (38, 4)  # documented: NUMERIC(38,4)
EXACT_DIGITS = 15  # decimal digits that a double always keeps
# The object after "cdc_before" in a row; a key in quotes, then a colon, can't be within a string of JSON.
BEFORE = r'"cdc_before":(\{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\})'


@dataclass(frozen=True)
class ValueType:
    kind: Kind
    precision: int = 0
    scale: int = 0

    @property
    def is_read_from_text(self) -> bool:
        """Whether a double could lose digits of it."""
        return self.kind == "int8" or (self.kind == "decimal" and self.precision > EXACT_DIGITS)


POSTGRESQL: dict[str, Kind] = {
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "oid": "int8",
    "real": "float4",
    "double precision": "float8",
    "boolean": "bool",
    "date": "date",
    "time without time zone": "time",
    "time with time zone": "timetz",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "uuid": "uuid",
    "bytea": "bytea",
}
# Where PostgreSQL's type is not known, or is one of the user's. TIME64 is of time and of timetz: text.
DMS: dict[str, Kind] = {
    "INT8": "int2",
    "INT16": "int2",
    "INT32": "int4",
    "INT64": "int8",
    "FLOAT": "float4",
    "DOUBLE": "float8",
    "BOOL": "bool",
    "DATE32": "date",
    "TIMESTAMP": "timestamp",
    "BINARY": "bytea",
}


def value_type(column: LakeColumn) -> ValueType:
    """What the column's values are read as; json, arrays, intervals and all that is not listed: text."""
    declared = column.postgresql_type or ""
    if column.dms_type == "DECIMAL" or declared.startswith("numeric"):
        return decimal_type(declared)
    name = re.sub(r"\(\d+\)", "", declared)
    return ValueType(POSTGRESQL.get(name) or DMS.get(column.dms_type, "text"))


def decimal_type(declared: str) -> ValueType:
    """That of numeric(12,2), numeric, money or of a type that is not known."""
    if declared == "money":
        return ValueType("decimal", *MONEY)
    if declared.endswith("[]"):
        return ValueType("text")
    found = re.fullmatch(r"numeric\((\d+),(-?\d+)\)", declared)
    if not found:
        return ValueType("decimal", *UNBOUNDED)
    precision, scale = int(found[1]), int(found[2])
    digits = max(precision, scale, precision - scale)  # numeric(2,5) is 0.000xx, numeric(2,-3) is xx000
    return ValueType("decimal", digits, max(scale, 0)) if digits <= DIGITS else ValueType("text")


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """As an identifier, in quotes always: any word can become reserved."""
    return '"' + name.replace('"', '""') + '"'


class Dialect(ABC):
    """SQL expressions of an engine; a text is NULL where DMS wrote null or nothing."""

    name: str
    types: ClassVar[dict[str, str]]  # of the kinds, but for decimals

    @abstractmethod
    def column_name(self, name: str) -> str:
        """What the engine lets a column be called."""

    @abstractmethod
    def documents(self, source: str, members: Sequence[str]) -> str:
        """A relation for what follows, of one that holds the rows as text; members are those asked for."""

    @abstractmethod
    def text(self, member: str) -> str:
        """The text of a member of the row, as the engine's JSON reader gives it."""

    @abstractmethod
    def path_text(self, *members: str) -> str:
        """The text of a member of a member of the row."""

    @abstractmethod
    def exact_text(self, member: str, kind: ValueType) -> str:
        """The same of a number that a double could change."""

    @abstractmethod
    def before(self) -> str:
        """The before image, as it was written."""

    @abstractmethod
    def before_text(self, member: str) -> str:
        """The text of a member of the column cdc_before."""

    @abstractmethod
    def value(self, text: str, kind: ValueType) -> str:
        """The value of the text; NULL where it is none of the type."""

    def cast(self, text: str, kind: ValueType) -> str:
        """The value of a text that the handler has checked."""
        return self.value(text, kind)

    @abstractmethod
    def json_string(self, text: str) -> str:
        """The text in JSON's quotes."""

    @abstractmethod
    def instant(self, iso: str) -> str:
        """Of 2026-03-01T09:16:10.480010Z."""

    @property
    def partitions(self) -> tuple[str, ...]:
        """Columns that the source has besides the rows, and by which it reads less."""
        return ()

    def number_text(self, document: str, member: str) -> str:
        """The number as DMS wrote it, of the first member of that name; empty where there is none."""
        key = re.escape(json.dumps(member, ensure_ascii=False)).replace("/", "\\/")
        pattern = r"[{,\s]" + key + r"\s*:\s*(-?[0-9][0-9.eE+-]*)"
        return f"regexp_extract({document}, {literal(pattern)}, 1)"


class DuckDB(Dialect):
    name = "duckdb"
    types: ClassVar[dict[str, str]] = {
        "int2": "SMALLINT",
        "int4": "INTEGER",
        "int8": "BIGINT",
        "uint8": "UBIGINT",
        "float4": "FLOAT",
        "float8": "DOUBLE",
        "bool": "BOOLEAN",
        "date": "DATE",
        "time": "TIME",
        "timetz": "TIMETZ",
        "timestamp": "TIMESTAMP",
        "timestamptz": "TIMESTAMPTZ",
        "uuid": "UUID",
    }

    def __init__(self) -> None:
        self.apart: set[str] = set()  # members that differ only by case from others: a struct can't have both

    def column_name(self, name: str) -> str:
        return name

    def documents(self, source: str, members: Sequence[str]) -> str:
        counts = Counter(member.casefold() for member in members)
        self.apart = {member for member in members if counts[member.casefold()] > 1}
        structure = {member: "VARCHAR" for member in members if member not in self.apart}
        read = literal(json.dumps(structure, ensure_ascii=False))
        return f"(SELECT json, from_json(json, {read}) AS {ROW} FROM {source}) AS {LINES}"

    def text(self, member: str) -> str:
        return member_text("json", member) if member in self.apart else f"{ROW}.{quoted(member)}"

    def path_text(self, *members: str) -> str:
        return member_text("json", *members)

    def exact_text(self, member: str, kind: ValueType) -> str:
        text = self.text(member)
        cut = f"regexp_replace(json, {literal(BEFORE)}, '\"cdc_before\":null')"
        document = f"CASE WHEN {ROW}.cdc_before IS NULL THEN json ELSE {cut} END"
        exact = self.exact(text, document, member)
        if kind.kind == "int8":  # without point and exponent it was no double
            return f"CASE WHEN contains({text}, '.') OR contains({text}, 'e') THEN {exact} ELSE {text} END"
        return exact

    def exact(self, text: str, document: str, member: str) -> str:
        return f"COALESCE(NULLIF({self.number_text(document, member)}, ''), {text})"

    def before(self) -> str:
        return (
            f"CASE WHEN {ROW}.cdc_before IS NOT NULL"
            f" THEN COALESCE(NULLIF(regexp_extract(json, {literal(BEFORE)}, 1), ''), {ROW}.cdc_before) END"
        )

    def cast(self, text: str, kind: ValueType) -> str:
        return f"TRY_CAST({text} AS {self.types[kind.kind]})"

    def before_text(self, member: str) -> str:
        return self.exact(member_text("cdc_before", member), "cdc_before", member)

    def value(self, text: str, kind: ValueType) -> str:
        if kind.kind == "text":
            return text
        if kind.kind == "bytea":
            digits = f"CASE WHEN starts_with({text}, '0x') THEN substr({text}, 3) ELSE {text} END"
            return f"TRY(unhex({digits}))"
        if kind.kind == "decimal":
            return self.decimal(text, kind)
        read = f"TRY_CAST({text} AS {self.types[kind.kind]})"
        if kind.kind in ("int2", "int4", "int8"):
            is_rounded = f"contains({text}, '.') AND TRY_CAST({text} AS DOUBLE) <> CAST({read} AS DOUBLE)"
            return f"CASE WHEN {is_rounded} THEN NULL ELSE {read} END"
        if kind.kind in ("date", "timestamp", "timestamptz"):
            # DMS's 0044-03-15T12:00:00Z BC is DuckDB's 0044-03-15 (BC)T12:00:00Z.
            era = f"regexp_replace({text}, '^([0-9]+-[0-9]+-[0-9]+)(.*) BC$', '\\1 (BC)\\2')"
            return read.replace(text, f"CASE WHEN ends_with({text}, ' BC') THEN {era} ELSE {text} END")
        return read

    def decimal(self, text: str, kind: ValueType) -> str:
        """NULL too for a text with more digits than the type has: a cast would round it."""
        read = f"TRY_CAST({text} AS DECIMAL({kind.precision},{kind.scale}))"
        is_short = f"length(rtrim(split_part({text}, '.', 2), '0')) <= {kind.scale}"
        is_same = f"TRY_CAST({text} AS DOUBLE) = CAST({read} AS DOUBLE)"
        return (
            f"CASE WHEN NOT contains({text}, '.') THEN {read}"
            f" WHEN contains({text}, 'e') THEN CASE WHEN {is_same} THEN {read} END"
            f" WHEN {is_short} THEN {read} END"
        )

    def json_string(self, text: str) -> str:
        return f"CAST(to_json({text}) AS VARCHAR)"

    def instant(self, iso: str) -> str:
        return f"TIMESTAMPTZ {literal(iso)}"


def member_text(document: str, *members: str) -> str:
    pointer = "".join("/" + member.replace("~", "~0").replace("/", "~1") for member in members)
    return f"json_extract_string({document}, {literal(pointer)})"


class Athena(Dialect):
    """Trino's functions, and only types that a view can have: Athena keeps them as Hive's (observed).

    So instants are timestamps in UTC, and times and UUIDs stay text. json_extract_scalar gives a number as it
    was written (Trino's JsonExtract takes the parser's text); of a JSON SerDe nobody says that.
    """

    name = "athena"
    types: ClassVar[dict[str, str]] = {
        "int2": "SMALLINT",
        "int4": "INTEGER",
        "int8": "BIGINT",
        "uint8": "DECIMAL(20,0)",
        "float4": "REAL",
        "float8": "DOUBLE",
        "bool": "BOOLEAN",
        "date": "DATE",
        "timestamp": "TIMESTAMP(6)",
        "timestamptz": "TIMESTAMP(6)",
    }

    @property
    def partitions(self) -> tuple[str, ...]:
        return "cdc_date", "cdc_hour"

    def column_name(self, name: str) -> str:
        """In small letters, and without special characters, of which Athena takes the underscore alone."""
        return re.sub(r"[^a-z0-9_]", "_", name.lower())

    def documents(self, source: str, members: Sequence[str]) -> str:
        return source

    def text(self, member: str) -> str:
        return scalar("line", member)

    def path_text(self, *members: str) -> str:
        return scalar("line", *members)

    def exact_text(self, member: str, kind: ValueType) -> str:
        return self.text(member)

    def before(self) -> str:
        return f"NULLIF(regexp_extract(line, {literal(BEFORE)}, 1), '')"

    def before_text(self, member: str) -> str:
        return scalar("cdc_before", member)

    def value(self, text: str, kind: ValueType) -> str:
        if kind.kind in ("text", "time", "timetz", "uuid"):
            return text
        if kind.kind == "bytea":
            return (
                f"TRY(from_hex(CASE WHEN starts_with({text}, '0x') THEN substr({text}, 3) ELSE {text} END))"
            )
        if kind.kind == "decimal":
            return self.decimal(text, kind)
        if kind.kind in ("int2", "int4", "int8"):
            read = f"TRY_CAST(TRY_CAST({text} AS DECIMAL(38,0)) AS {self.types[kind.kind]})"
            is_rounded = f"TRY_CAST({text} AS DOUBLE) <> CAST({read} AS DOUBLE)"
            return f"CASE WHEN strpos({text}, '.') > 0 AND {is_rounded} THEN NULL ELSE {read} END"
        if kind.kind in ("timestamp", "timestamptz"):
            text = f"replace(replace({text}, 'T', ' '), 'Z', '')"
        return f"TRY_CAST({text} AS {self.types[kind.kind]})"

    def decimal(self, text: str, kind: ValueType) -> str:
        """As DuckDB's."""
        read = f"TRY_CAST({text} AS DECIMAL({kind.precision},{kind.scale}))"
        is_short = f"length(regexp_replace(split_part({text}, '.', 2), '0+$', '')) <= {kind.scale}"
        is_same = f"TRY_CAST({text} AS DOUBLE) = CAST({read} AS DOUBLE)"
        return (
            f"CASE WHEN strpos({text}, '.') = 0 THEN {read}"
            f" WHEN strpos({text}, 'e') > 0 THEN CASE WHEN {is_same} THEN {read} END"
            f" WHEN {is_short} THEN {read} END"
        )

    def json_string(self, text: str) -> str:
        return f"json_format(CAST({text} AS JSON))"

    def instant(self, iso: str) -> str:
        return f"TIMESTAMP {literal(iso.replace('T', ' ').removesuffix('Z'))}"


def scalar(document: str, *members: str) -> str:
    path = "$" + "".join("[" + json.dumps(member, ensure_ascii=False) + "]" for member in members)
    return f"json_extract_scalar({document}, {literal(path)})"
