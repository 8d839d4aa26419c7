"""Random histories of any small schema: what a reader of changes has to put into order, and their ledger.

    transactions = history([HistoryTable("public.account", "id", {"note": "text"})], random.Random(seed))
    ledger = run_history({"dsn": server.dsn}, transactions, 50)
    ledger.as_dict()      {"public.account": {"insert": 31, "update": 48, "delete": 12}}

The tables have to be there; names are as SQL reads them, so those without quotes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_run.workload import (
    ROLL_BACK_TO_SAVEPOINT,
    SAVEPOINT,
    Ledger,
    Session,
    Statement,
    Transaction,
)

TOAST_CHARACTERS = 9000  # random hexadecimal digits do not compress below the 2 kB that stay in the row


@dataclass(frozen=True)
class HistoryTable:
    """A table with an integer key; columns are its others: {"note": "text", "paid_on": "date"}."""

    name: str  # "public.account", as SQL reads it and as the ledger calls it
    key: str
    columns: Mapping[str, str]


def history(tables: Sequence[HistoryTable], source: random.Random, keys: int = 8) -> Iterator[Transaction]:
    """Transactions without end, on few keys, so that rows come back, change places and are fought for.

    Inserts, updates, key changes of one row and of several, deletes; rollbacks and savepoints; text that is
    TOASTed, and updates that leave it alone; NULLs; long transactions that touch a row after others have.
    Key 0 is only touched by long transactions: so none waits for another.
    """
    while True:
        transaction = short_transaction(tables, source, keys)
        if source.random() < 0.15:
            table = source.choice(tables)
            early = [upsert(table, source, 0), change(table, source, 0, 0)]
            inner = [short_transaction(tables, source, keys) for _ in range(source.randint(1, 4))]
            transaction = Transaction(early, transaction.is_committed, inner, transaction.statements)
        yield transaction


def short_transaction(tables: Sequence[HistoryTable], source: random.Random, keys: int) -> Transaction:
    statements = [*random_statements(tables, source, keys)]
    if source.random() < 0.2:
        tried = random_statements(tables, source, keys)
        more = random_statements(tables, source, keys)
        statements = [*statements, SAVEPOINT, *tried, ROLL_BACK_TO_SAVEPOINT, *more]
    return Transaction(statements, is_committed=source.random() > 0.1)


def random_statements(
    tables: Sequence[HistoryTable], source: random.Random, keys: int
) -> Iterator[Statement]:
    for _ in range(source.randint(1, 4)):
        table, key = source.choice(tables), source.randint(1, keys)
        last = key + source.choice([0, 0, 2])
        kind = source.choice(["insert", "insert", "update", "update", "key", "keys", "delete"])
        if kind == "insert":
            yield upsert(table, source, key)
        elif kind == "update":
            yield change(table, source, key, last)
        elif kind == "key":
            new = source.choice([1, -1]) * source.randint(1, keys)
            yield rekey(table, str(new), (key, key))
        elif kind == "keys":
            span = source.choice([(key, last), (-last, -key)])
            yield rekey(table, f"-moved.{table.key}", span)
        else:
            sql = f"DELETE FROM {table.name} WHERE {table.key} BETWEEN %s AND %s"
            yield Statement(sql, (key, last), table.name, "delete")


def upsert(table: HistoryTable, source: random.Random, key: int) -> Statement:
    """An insert; of a key that is there, of nothing."""
    values = [random_value(kind, source) for kind in table.columns.values()]
    names = ", ".join([table.key, *table.columns])
    places = ", ".join(["%s"] * (1 + len(values)))
    sql = f"INSERT INTO {table.name} ({names}) VALUES ({places}) ON CONFLICT DO NOTHING"
    return Statement(sql, (key, *values), table.name, "insert")


def change(table: HistoryTable, source: random.Random, first: int, last: int) -> Statement:
    """An update of some columns; of the others, the large ones stay in TOAST."""
    chosen = source.sample([*table.columns], source.randint(1, len(table.columns)))
    assignments = ", ".join(f"{name} = %s" for name in chosen)
    values = [random_value(table.columns[name], source) for name in chosen]
    sql = f"UPDATE {table.name} SET {assignments} WHERE {table.key} BETWEEN %s AND %s"
    return Statement(sql, (*values, first, last), table.name, "update")


def rekey(table: HistoryTable, new: str, span: tuple[int, int]) -> Statement:
    """An update of keys to ones that nobody has; new is SQL on the row moved."""
    sql = (
        f"UPDATE {table.name} AS moved SET {table.key} = {new} WHERE {table.key} BETWEEN %s AND %s"
        f" AND NOT EXISTS (SELECT FROM {table.name} AS taken WHERE taken.{table.key} = {new})"
    )
    return Statement(sql, span, table.name, "update")


def random_value(kind: str, source: random.Random) -> Any:
    """A value of the type, as text; one in six is NULL."""
    if source.random() < 1 / 6:
        return None
    return RANDOM_VALUES[kind.partition("(")[0]](source)


def random_text(source: random.Random) -> str:
    """Empty, short, or too long for the row."""
    if source.random() < 0.4:
        return f"{source.getrandbits(4 * TOAST_CHARACTERS):x}"
    return source.choice(["", "t", "null", 'ä "quoted" \\ \n\t', "{}", str(source.random())])


RANDOM_VALUES: dict[str, Callable[[random.Random], str]] = {
    "smallint": lambda source: str(source.randint(-(2**15), 2**15 - 1)),
    "integer": lambda source: str(source.randint(-(2**31), 2**31 - 1)),
    "bigint": lambda source: str(source.randint(-(2**53), 2**53)),
    "numeric": lambda source: f"{source.randint(-99999, 99999)}.{source.randint(0, 99):02}",
    "boolean": lambda source: source.choice(["true", "false"]),
    "date": lambda source: (
        f"20{source.randint(10, 99)}-{source.randint(1, 12):02}-{source.randint(1, 28):02}"
    ),
    "timestamptz": lambda source: (
        f"2026-03-{source.randint(1, 31):02} 09:00:00.{source.choice(['0', '5', '48001'])}Z"
    ),
    "varchar": lambda source: source.choice(["", "f", "Õie", "it's", str(source.random())]),
    "json": lambda source: json.dumps({"note": random_text(source)}),
    "text": random_text,
}


def run_history(
    connect_parameters: Mapping[str, Any], transactions: Iterator[Transaction], count: int
) -> Ledger:
    """The ledger of so many transactions; those made meanwhile are of a second connection and come on top."""
    ledger = Ledger()
    session, other = Session(connect_parameters, ledger), Session(connect_parameters, ledger)
    try:
        for _, transaction in zip(range(count), transactions, strict=False):
            session.perform(transaction, other)
    finally:
        session.close()
        other.close()
    return ledger
