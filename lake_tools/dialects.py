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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lake_tools.schemas import LakeColumn

Kind = Literal[
    "int2",
    "int4",
    "int8",
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
LINES, LINE, ROW = "cdc__lines", "cdc__line", "cdc__row"
RESCUED = "cdc_rescued"
DIGITS = 38  # both engines keep so many in a decimal; DMS writes a longer numeric as a string
UNBOUNDED = (38, 15)  # of numeric without precision: DMS writes NUMERIC(28,6), 22 digits before the point
MONEY = (38, 4)  # documented: NUMERIC(38,4)
EXACT_DIGITS = 15  # decimal digits that a double always keeps
A_DOUBLE = "-?[0-9]+(\\.[0-9]+)?(e[+-]?[0-9]+)?"  # as DuckDB writes it
JSON_VALUE = r'(?:"(?:[^"\\]|\\.)*"|[^,"{}\[\]]+)'  # a string, or what stands without quotes
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
        if self.kind == "decimal":
            return self.precision > EXACT_DIGITS
        return self.kind in ("int8", "float8", "text")


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
    """What the column's values are read as; json, arrays, intervals, hashes and what is not listed: text."""
    if column.mask == "sha256":
        return ValueType("text")
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
    def documents(self, source: str, members: Sequence[str], checked: Mapping[str, ValueType]) -> str:
        """A relation for what follows, of one that holds the rows as text; members are those asked for.

        checked: types of members that the handler has made, or looked at: cast() takes what text() gives.
        """

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
    def json_value(self, member: str) -> str:
        """The JSON of a member of the row, digit for digit."""

    @abstractmethod
    def before(self) -> str:
        """The before image, as it was written."""

    @abstractmethod
    def text_in(self, column: str, member: str) -> str:
        """The text of a member of the JSON object in the column, digit for digit."""

    @abstractmethod
    def without_members(self, column: str, names: str) -> str:
        """The JSON object in the column without members; names: SQL of a regular expression of theirs.

        A member that is an object or an array stays: DMS has none.
        """

    @abstractmethod
    def stored_type(self, kind: ValueType) -> str:
        """Of a column of Parquet, one of those that parquet_columns.stored_kind gives."""

    @abstractmethod
    def restored(self, column: str, kind: ValueType) -> str:
        """The value of a column of Parquet that holds such values."""

    @abstractmethod
    def stored_text(self, column: str, kind: ValueType) -> str:
        """What DMS would write for the value of a column of Parquet of this kind."""

    def unknown(self, members: Sequence[str]) -> str | None:
        """True where the row has other members than these; None: the engine is not asked."""
        return None

    @abstractmethod
    def value(self, text: str, kind: ValueType) -> str:
        """The value of the text; NULL where it is none of the type."""

    def cast(self, text: str, kind: ValueType) -> str:
        """The value of a text that the handler has checked."""
        return self.value(text, kind)

    def boolean(self, text: str) -> str:
        """Of what DMS writes: a column that holds numbers by now has 1 and 0."""
        return f"CASE WHEN {text} IN ('true', 't') THEN TRUE WHEN {text} IN ('false', 'f') THEN FALSE END"

    def is_plain(self, text: str) -> str:
        """Whether a number begins as JSON has it: a text column that was one can hold 007 by now."""
        return f"({text} >= '1' OR {text} = '0' OR starts_with({text}, '0.') OR starts_with({text}, '-'))"

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

    @property
    @abstractmethod
    def document(self) -> tuple[str, ...]:
        """Columns of documents() that hold the row itself."""

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

    document = (LINE, ROW)

    def __init__(self) -> None:
        self.apart: set[str] = set()  # members that differ only by case from others: a struct can't have both

    def column_name(self, name: str) -> str:
        return name

    def documents(self, source: str, members: Sequence[str], checked: Mapping[str, ValueType]) -> str:
        counts = Counter(member.casefold() for member in members)
        self.apart = {member for member in members if counts[member.casefold()] > 1}
        structure = dict.fromkeys((member for member in members if member not in self.apart), "VARCHAR")
        structure |= {member: self.types[kind.kind] for member, kind in checked.items()}
        read = literal(json.dumps(structure, ensure_ascii=False))
        return f"(SELECT json AS {LINE}, from_json(json, {read}) AS {ROW} FROM {source}) AS {LINES}"

    def text(self, member: str) -> str:
        return member_text(LINE, member) if member in self.apart else f"{ROW}.{quoted(member)}"

    def path_text(self, *members: str) -> str:
        return member_text("json", *members)

    def exact_text(self, member: str, kind: ValueType) -> str:
        text = self.text(member)
        exact = self.exact(text, self.own_members, member)
        if kind.kind == "int8":  # without point and exponent it was no double
            return f"CASE WHEN contains({text}, '.') OR contains({text}, 'e') THEN {exact} ELSE {text} END"
        if kind.kind == "float8":
            return f"CASE WHEN length({text}) > {EXACT_DIGITS} THEN {exact} ELSE {text} END"
        if kind.kind == "text":  # that was a number before the column was altered
            is_double = f"{text} < ':' AND regexp_full_match({text}, '{A_DOUBLE}')"
            return f"CASE WHEN {is_double} THEN {exact} ELSE {text} END"
        return exact

    @property
    def own_members(self) -> str:
        """The row without what is in its before image."""
        cut = f"regexp_replace({LINE}, {literal(BEFORE)}, '\"cdc_before\":null')"
        return f"CASE WHEN {ROW}.cdc_before IS NULL THEN {LINE} ELSE {cut} END"

    def json_value(self, member: str) -> str:
        pointer = literal(pointer_to(member))
        exact = self.exact(member_text(LINE, member), self.own_members, member)
        is_string = f"json_type({LINE}, {pointer}) = 'VARCHAR'"
        return f"CASE WHEN {is_string} THEN CAST(json_extract({LINE}, {pointer}) AS VARCHAR) ELSE {exact} END"

    def exact(self, text: str, document: str, member: str) -> str:
        return f"COALESCE(NULLIF({self.number_text(document, member)}, ''), {text})"

    def before(self) -> str:
        """Mostly the JSON reader writes it as it was: that is found out faster than where it ends."""
        read = f"{ROW}.cdc_before"
        written = f"COALESCE(NULLIF(regexp_extract({LINE}, {literal(BEFORE)}, 1), ''), {read})"
        is_same = f"contains({LINE}, '\"cdc_before\":' || {read})"
        return f"CASE WHEN {read} IS NOT NULL THEN CASE WHEN {is_same} THEN {read} ELSE {written} END END"

    def cast(self, text: str, kind: ValueType) -> str:
        return f"TRY_CAST({text} AS {self.types[kind.kind]})"

    def text_in(self, column: str, member: str) -> str:
        return self.exact(member_text(column, member), column, member)

    def without_members(self, column: str, names: str) -> str:
        others = f"regexp_replace({column}, ',(?:' || {names} || '):{JSON_VALUE}', '', 'g')"
        return f"regexp_replace({others}, '^[{{](?:' || {names} || '):{JSON_VALUE},?', '{{')"

    def unknown(self, members: Sequence[str]) -> str:
        """Mostly the members are these, in this order: that is found out fastest."""
        names = f"[{', '.join(map(literal, members))}]"
        is_other = f"NOT list_has_all({names}, json_keys({LINE}))"
        return f"CASE WHEN json_keys({LINE}) <> {names} THEN {is_other} END"  # AND would do both for all rows

    def stored_type(self, kind: ValueType) -> str:
        if kind.kind == "decimal":
            return f"DECIMAL({kind.precision},{kind.scale})"
        return {"text": "VARCHAR", "bytea": "BLOB"}.get(kind.kind) or self.types[kind.kind]

    def restored(self, column: str, kind: ValueType) -> str:
        if kind.kind == "timestamp":
            return f"{column} AT TIME ZONE 'UTC'"
        return f"CAST({column} AS {self.stored_type(kind)})"

    def stored_text(self, column: str, kind: ValueType) -> str:
        text = f"CAST({column} AS VARCHAR)"
        if kind.kind == "timestamptz":
            at = f"({column} AT TIME ZONE 'UTC')"
            rest = f"replace(strftime({at}, '-%m-%dT%H:%M:%S.%fZ'), '.000000', '')"
            former = f"printf('%04d', 1 - year({at})) || {rest} || ' BC'"
            return f"CASE WHEN year({at}) > 0 THEN strftime({at}, '%Y') || {rest} ELSE {former} END"
        if kind.kind == "date":
            return f"replace({text}, ' (BC)', ' BC')"
        if kind.kind == "bytea":
            return f"hex({column})"
        if kind.kind == "float4":
            return f"format('{{:.9g}}', {column})"
        if kind.kind == "float8":
            return f"regexp_replace({text}, '\\.0$', '')"
        if kind.kind == "decimal" and kind.scale:
            whole = f"regexp_replace({text}, '^(-?)\\.', '\\1' || '0.')"  # DuckDB writes .5
            return f"rtrim(rtrim({whole}, '0'), '.')"
        return text

    def value(self, text: str, kind: ValueType) -> str:
        if kind.kind == "text":
            return text
        if kind.kind == "bytea":
            digits = f"CASE WHEN starts_with({text}, '0x') THEN substr({text}, 3) ELSE {text} END"
            return f"CASE WHEN length({text}) % 2 = 0 THEN TRY(unhex({digits})) END"
        if kind.kind == "decimal":
            return self.decimal(text, kind)
        if kind.kind in ("float4", "float8"):
            return self.floating(text, kind)
        if kind.kind in ODD_MOMENT:
            return self.moment(text, kind)
        if kind.kind == "bool":
            return self.boolean(text)
        read = f"TRY_CAST({text} AS {self.types[kind.kind]})"
        if kind.kind in ("int2", "int4", "int8"):
            is_whole = f"NOT contains({text}, '.') OR TRY_CAST({text} AS DOUBLE) = CAST({read} AS DOUBLE)"
            return f"CASE WHEN {self.is_plain(text)} AND ({is_whole}) THEN {read} END"
        return read

    def moment(self, text: str, kind: ValueType) -> str:
        """NULL too for a text of which a cast drops a part, and for infinity, which only DuckDB can store."""
        # DMS's 0044-03-15T12:00:00Z BC is DuckDB's 0044-03-15 (BC)T12:00:00Z.
        era = f"regexp_replace({text}, '^([0-9]+-[0-9]+-[0-9]+)(.*) BC$', '\\1 (BC)\\2')"
        whole = f"CASE WHEN ends_with({text}, ' BC') THEN {era} ELSE {text} END"
        is_naive = kind.kind == "timestamp"
        read = f"TRY_CAST({whole} AS {self.types['timestamptz' if is_naive else kind.kind]})"
        read += " AT TIME ZONE 'UTC'" if is_naive else ""
        usual, odd = ODD_MOMENT[kind.kind]
        is_odd = f"length({text}) NOT IN ({usual}) AND regexp_matches({text}, '{odd}')"
        return f"CASE WHEN {is_odd} THEN NULL ELSE {read} END"

    def floating(self, text: str, kind: ValueType) -> str:
        """NULL too for a number that it can't hold: the digits are to be those that it is written with."""
        read = f"TRY_CAST({text} AS {self.types[kind.kind]})"
        shortest, widened = f"CAST({read} AS VARCHAR)", f"CAST(CAST({read} AS DOUBLE) AS VARCHAR)"
        if kind.kind == "float4":
            kept, forms = 6, [f"format('{{:.9g}}', {read})", shortest, widened]
        else:
            kept, forms = EXACT_DIGITS, [shortest, f"format('{{:.17g}}', {read})"]
        is_short = f"length({text}) <= {kept} AND NOT contains({text}, 'e')"
        is_number = f"isfinite({read}) OR NOT regexp_matches({text}, '[0-9]')"
        is_same = f"({is_number}) AND {significant(text)} IN ({', '.join(map(significant, forms))})"
        return (  # mostly it is the first of the forms, letter for letter
            f"CASE WHEN NOT {self.is_plain(text)} THEN NULL WHEN {is_short} THEN {read}"
            f" WHEN {text} = {forms[0]} THEN {read} WHEN {is_same} THEN {read} END"
        )

    def decimal(self, text: str, kind: ValueType) -> str:
        """NULL too for a text with more digits than the type has: a cast would round it."""
        read = f"TRY_CAST({text} AS DECIMAL({kind.precision},{kind.scale}))"
        digits = f"length(rtrim(split_part({text}, '.', 2), '0'))"
        mantissa, exponent = (f"split_part(lower({text}), 'e', {part})" for part in (1, 2))
        moved = f"length(rtrim(split_part({mantissa}, '.', 2), '0')) - TRY_CAST({exponent} AS INTEGER)"
        return (
            f"CASE WHEN NOT {self.is_plain(text)} THEN NULL"
            f" WHEN contains(lower({text}), 'e') THEN CASE WHEN {moved} <= {kind.scale} THEN {read} END"
            f" WHEN NOT contains({text}, '.') OR {digits} <= {kind.scale} THEN {read} END"
        )

    def json_string(self, text: str) -> str:
        return f"CAST(to_json({text}) AS VARCHAR)"

    def instant(self, iso: str) -> str:
        return f"TIMESTAMPTZ {literal(iso)}"


# What moments are as long as that DMS writes, and what others hold if a cast changes them.
NANOSECONDS = r"\.[0-9]{6}[0-9]*[1-9]"
ODD_MOMENT = {
    "date": ("10", "(?i)inf|[T ].*[1-9]"),
    "time": ("8, 15", NANOSECONDS),
    "timetz": ("11, 18", NANOSECONDS),
    "timestamp": ("20, 27", f"(?i)inf|{NANOSECONDS}"),
    "timestamptz": ("20, 27", f"(?i)inf|{NANOSECONDS}"),
}


def significant(text: str) -> str:
    """The digits of a number that are no zeros at its ends."""
    return f"trim(regexp_replace({text}, '[eE].*$|[^0-9]', '', 'g'), '0')"


def member_text(document: str, *members: str) -> str:
    return f"json_extract_string({document}, {literal(pointer_to(*members))})"


def pointer_to(*members: str) -> str:
    """A JSON pointer: /cdc_envelope/metadata"""
    return "".join("/" + member.replace("~", "~0").replace("/", "~1") for member in members)


class Athena(Dialect):
    """Trino's functions, and only types that a view can have: Athena keeps them as Hive's (observed).

    So instants are timestamps in UTC, and times and UUIDs stay text. json_extract_scalar gives a number as it
    was written (Trino's JsonExtract takes the parser's text); of a JSON SerDe nobody says that.
    """

    name = "athena"
    document = (LINE,)
    has_parquet = False  # whose times it reads to the millisecond: then ours of the lines are no finer
    types: ClassVar[dict[str, str]] = {
        "int2": "SMALLINT",
        "int4": "INTEGER",
        "int8": "BIGINT",
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

    def documents(self, source: str, members: Sequence[str], checked: Mapping[str, ValueType]) -> str:
        return f"(SELECT line AS {LINE}, {', '.join(self.partitions)} FROM {source}) AS {LINES}"

    def text(self, member: str) -> str:
        return scalar(LINE, member)

    def path_text(self, *members: str) -> str:
        return scalar("line", *members)

    def exact_text(self, member: str, kind: ValueType) -> str:
        return self.text(member)

    def before(self) -> str:
        return f"NULLIF(regexp_extract({LINE}, {literal(BEFORE)}, 1), '')"

    def json_value(self, member: str) -> str:
        found = f"json_format(json_extract({LINE}, {literal(path_to(member))}))"
        return f"CASE WHEN substr({found}, 1, 1) = '\"' THEN {found} ELSE {scalar(LINE, member)} END"

    def text_in(self, column: str, member: str) -> str:
        return scalar(column, member)

    def without_members(self, column: str, names: str) -> str:
        others = f"regexp_replace({column}, ',(?:' || {names} || '):{JSON_VALUE}', '')"
        return f"regexp_replace({others}, '^[{{](?:' || {names} || '):{JSON_VALUE},?', '{{')"

    def stored_type(self, kind: ValueType) -> str:
        """In Hive's words, for CREATE EXTERNAL TABLE."""
        if kind.kind == "decimal":
            return f"decimal({kind.precision},{kind.scale})"
        return HIVE[kind.kind]

    def cast(self, text: str, kind: ValueType) -> str:
        value = self.value(text, kind)
        is_finer = self.has_parquet and kind.kind == "timestamptz"
        return f"date_trunc('millisecond', {value})" if is_finer else value

    def restored(self, column: str, kind: ValueType) -> str:
        return f"CAST({column} AS TIMESTAMP(6))" if kind.kind in ("timestamp", "timestamptz") else column

    def stored_text(self, column: str, kind: ValueType) -> str:
        if kind.kind == "timestamptz":
            return f"replace(CAST({column} AS VARCHAR), ' ', 'T') || 'Z'"
        if kind.kind == "bytea":
            return f"to_hex({column})"
        return f"CAST({column} AS VARCHAR)"

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
            is_whole = f"strpos({text}, '.') = 0 OR TRY_CAST({text} AS DOUBLE) = CAST({read} AS DOUBLE)"
            return f"CASE WHEN {self.is_plain(text)} AND ({is_whole}) THEN {read} END"
        if kind.kind == "bool":
            return self.boolean(text)
        if kind.kind == "date":
            text = f"replace({text}, 'T00:00:00Z', '')"
        if kind.kind in ("timestamp", "timestamptz"):
            text = f"replace(replace({text}, 'T', ' '), 'Z', '')"
        return f"TRY_CAST({text} AS {self.types[kind.kind]})"

    def decimal(self, text: str, kind: ValueType) -> str:
        """As DuckDB's."""
        read = f"TRY_CAST({text} AS DECIMAL({kind.precision},{kind.scale}))"
        mantissa, exponent = (f"split_part(lower({text}), 'e', {part})" for part in (1, 2))
        digits, moved = (
            f"length(regexp_replace(split_part({number}, '.', 2), '0+$', ''))" for number in (text, mantissa)
        )
        return (
            f"CASE WHEN NOT {self.is_plain(text)} THEN NULL WHEN strpos(lower({text}), 'e') > 0"
            f" THEN CASE WHEN {moved} - TRY_CAST({exponent} AS INTEGER) <= {kind.scale} THEN {read} END"
            f" WHEN strpos({text}, '.') = 0 OR {digits} <= {kind.scale} THEN {read} END"
        )

    def json_string(self, text: str) -> str:
        return f"json_format(CAST({text} AS JSON))"

    def instant(self, iso: str) -> str:
        return f"TIMESTAMP {literal(iso.replace('T', ' ').removesuffix('Z'))}"


HIVE = {
    "int2": "smallint",
    "int4": "int",
    "int8": "bigint",
    "float4": "float",
    "float8": "double",
    "bool": "boolean",
    "date": "date",
    "timestamptz": "timestamp",
    "bytea": "binary",
    "text": "string",
}


def scalar(document: str, *members: str) -> str:
    return f"json_extract_scalar({document}, {literal(path_to(*members))})"


def path_to(*members: str) -> str:
    """A JSON path: $["cdc_envelope"]["metadata"]"""
    return "$" + "".join("[" + json.dumps(member, ensure_ascii=False) + "]" for member in members)
