"""lake.py show: rows of a table, now.

    python lake.py show client --where "name LIKE 'L%'" --limit 5
    python lake.py show client --view history --format json

Values are those of PostgreSQL as DMS has written them, digit for digit: DuckDB prints them, so that no double
and no Python type comes between.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lake_tools.bucket import Lake
from lake_tools.dialects import RESCUED, UNBOUNDED, DuckDB, literal
from lake_tools.schemas import read_schema
from lake_tools.settings import LakeError
from lake_tools.sql import add_view_arguments, check_moment
from lake_tools.tables import open_table
from lake_tools.text import aligned, printable
from lake_tools.views import CDC_COLUMNS, Shape, ShownColumn

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LIMIT = 100
FETCH_ROWS = 1000
MOST_CHARACTERS = 60  # of a value in a table
STREAM_ORDER = ("cdc_published_at", "cdc_sequence_number", "cdc_shard_id")
SHOWN_OF_CHANGES = ("cdc_operation", "cdc_committed_at")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="TABLE", help="public.client, or client where one schema has it")
    add_view_arguments(parser)
    parser.add_argument("--where", metavar="SQL", help='a condition in DuckDB\'s SQL: "amount > 100"')
    parser.add_argument(
        "--limit", type=row_count, default=LIMIT, metavar="N", help=f"rows at most (default: {LIMIT}); 0: all"
    )
    parser.add_argument("--format", choices=[*WRITERS], default="table", help="(default: table)")
    parser.add_argument("--all", action="store_true", help="with all of the cdc_ columns")


def row_count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows")
    return int(text)


def run(options: argparse.Namespace, lake: Lake) -> int:
    check_moment(options.view, options.at)
    schema = read_schema(lake, *lake.table(options.table))
    shape = Shape(schema, DuckDB())
    is_state = options.view in ("current", "as-of")
    if is_state:
        _ = shape.key
    with open_table(lake, schema) as connection:
        name = f"as_of({DuckDB().instant(options.at)})" if options.at else options.view
        ours = [] if is_state else [*SHOWN_OF_CHANGES]
        if options.all:
            ours = [*CDC_COLUMNS, RESCUED]
        order = [column.sql for column in shape.key] if is_state else STREAM_ORDER
        rows = Rows(connection, shape, name, ours, ", ".join(order))
        rows.gather(options.where)
        WRITERS[options.format](rows, options.limit)
        tell(rows, options.limit)
    return 0


class Rows:
    """The rows that are asked for: a state in the order of its key, changes in that of the stream."""

    def __init__(
        self, connection: DuckDBPyConnection, shape: Shape, relation: str, ours: Sequence[str], order: str
    ) -> None:
        self.connection = connection
        self.names = [*ours, *(column.name for column in shape.columns)]
        self.texts = [*(f"CAST({name} AS VARCHAR)" for name in ours), *map(as_text, shape.columns)]
        self.members = [*map(our_member, ours), *map(as_member, shape.columns)]
        self.table = str(shape.schema)
        self.relation = relation
        self.order = order
        self.condition: str | None = None

    def gather(self, condition: str | None) -> None:
        """Finds the rows once. Raises LakeError."""
        self.condition = condition
        where = f"WHERE ({condition}\n)" if condition else ""
        with self.attempt():
            self.connection.execute(f"CREATE TABLE shown AS SELECT * FROM {self.relation} {where}")

    def read(self, columns: Sequence[str], limit: int) -> Iterator[tuple[Any, ...]]:
        """Raises LakeError."""
        most = f"LIMIT {limit}" if limit else ""
        query = f"SELECT {', '.join(columns)} FROM shown ORDER BY {self.order} {most}"
        with self.attempt():
            answer = self.connection.execute(query)
            while rows := answer.fetchmany(FETCH_ROWS):
                yield from rows

    def count(self, condition: str = "TRUE") -> int:
        """Raises LakeError."""
        with self.attempt():
            ((count,),) = self.connection.execute(f"SELECT count(*) FROM shown WHERE {condition}").fetchall()
        return int(count)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Makes LakeErrors of DuckDB's; its own text only where it is of the condition, not of rows."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            is_of_text = isinstance(
                error, duckdb.ParserException | duckdb.BinderException | duckdb.CatalogException
            )
            if self.condition and is_of_text:
                reason = str(error).partition("\n")[0]
                raise LakeError(f"DuckDB does not take this --where: {reason}") from error
            asked = " with this --where" if self.condition else ""
            raise LakeError(
                f"cannot show {self.table}{asked}: DuckDB: {type(error).__name__}: "
                "--debug shows its own text, which may quote rows"
            ) from error


def as_text(column: ShownColumn) -> str:
    """As PostgreSQL would have it; of numeric without precision, no more digits than there are."""
    if column.kind.kind == "bytea":
        return f"'\\x' || lower(hex({column.sql}))"
    if column.kind.kind == "decimal" and (column.kind.precision, column.kind.scale) == UNBOUNDED:
        return f"regexp_replace(CAST({column.sql} AS VARCHAR), '\\.?0+$', '')"
    return f"CAST({column.sql} AS VARCHAR)"


def as_member(column: ShownColumn) -> str:
    """Numbers and booleans as such, digit for digit; the rest in quotes."""
    is_bare = column.kind.kind in ("int2", "int4", "int8", "float4", "float8", "decimal", "bool")
    return member(column.name, as_text(column), is_bare)


def our_member(name: str) -> str:
    is_bare = name in ("cdc_transaction_id", "cdc_transaction_record_id", "cdc_lsn", "cdc_before", RESCUED)
    return member(name, f"CAST({name} AS VARCHAR)", is_bare)


def member(name: str, text: str, is_bare: bool) -> str:
    value = text if is_bare else f"CAST(to_json({text}) AS VARCHAR)"
    return f"{literal(json.dumps(name, ensure_ascii=False) + ':')} || COALESCE({value}, 'null')"


# --------------------------------------------------------------------------------------------------------
# Forms
# --------------------------------------------------------------------------------------------------------


def write_table(rows: Rows, limit: int) -> None:
    """Columns aligned; long values are cut, line breaks shown as blanks, other control characters escaped."""
    found = [[cell(value) for value in row] for row in rows.read(rows.texts, limit)]
    names = [printable(name) for name in rows.names]
    for line in aligned([names, *found]):
        print(line)


def cell(value: str | None) -> str:
    if value is None:
        return "NULL"
    text = printable(" ".join(value.splitlines()))
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def write_json(rows: Rows, limit: int) -> None:
    """One object a line."""
    columns = ["'{' || " + " || ',' || ".join(rows.members) + " || '}'"]
    for (line,) in rows.read(columns, limit):
        print(line)


def write_csv(rows: Rows, limit: int) -> None:
    """With names in the first line; NULL is empty, an empty text is empty in quotes."""
    print(",".join(map(csv_field, rows.names)))
    for row in rows.read(rows.texts, limit):
        print(",".join(map(csv_field, row)))


def csv_field(value: str | None) -> str:
    if value is None:
        return ""
    return '"' + value.replace('"', '""') + '"' if re.search('[",\\r\\n]|^$', value) else value


WRITERS = {"table": write_table, "json": write_json, "csv": write_csv}


def tell(rows: Rows, limit: int) -> None:
    """What the rows on stdout do not show, on stderr."""
    count = rows.count()
    if limit and count > limit:
        print(f"{limit} of {count} rows: --limit 0 shows all", file=sys.stderr)
    if rescued := rows.count(f"{RESCUED} IS NOT NULL"):
        print(
            f"{rescued} rows have values that are not of their column's type: see {RESCUED}, --all",
            file=sys.stderr,
        )
