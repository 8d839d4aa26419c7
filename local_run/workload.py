"""Changes on the lending demo schema, as a lending business makes them, and a ledger of what was committed.

    $ python -m local_run.workload --rate 200 --seconds 20 --folder .local-run   # the database by libpq's PG*
    4,003 changes in 20.0 s (200/s), 1,049 transactions, 23 rolled back, 76.5 microseconds of CPU a change

    ledger = run({"dsn": server.dsn}, rate=None, transactions=100, seed=7)       # as fast as it can
    ledger.as_dict()        {"public.client": {"insert": 900, "update": 606, "delete": 31}, ...}

Counted is what the server answered: rows of statements whose transaction was committed. An update of no row
counts nothing, a changed key is one update. A commit whose answer was lost is in doubt until the server,
asked for the state of that transaction, has settled it. With one seed, one database and one rate, it makes
the same transactions in the same order.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2  # type: ignore[import-untyped]

from local_run.whole_file import write_whole
from provision.engine import ProvisionError

RECONNECT_SECONDS = 60.0  # a killed server recovers in less
RETRY_SECONDS = 0.1
STATUS_SECONDS = 0.2
NAP_SECONDS = 0.05  # how soon a signal or the parent's end is noticed
MANY = 20_000  # the newest keys of a table, which are changed; of a younger database, all
NEWEST_CLIENTS = 50  # every other one of them has no loan yet
CHANGES_A_SECOND_OF_SINGLE_ROWS = 1000  # above this rate, statements take more rows instead of coming faster
ROWS_AT_ANY_RATE = 100  # rows of a statement, about, when it shall go as fast as it can
NOT_GIVEN_OUT = "22023"  # invalid_parameter_value: a transaction number that "is in the future"
OPERATIONS = ("insert", "update", "delete")
Changes = Counter[tuple[str, str]]  # {("public.payment", "insert"): 3}

# ----------------------------------------------------------------------------------------------------------
# Errors, value types
# ----------------------------------------------------------------------------------------------------------


class WorkloadError(ProvisionError):
    """The database can't be reached, or refuses a statement."""


@dataclass(frozen=True)
class Statement:
    """A statement that changes rows of one table, or, without a table, one that changes none."""

    sql: str
    parameters: tuple[Any, ...] = ()
    table: str = ""
    operation: str = ""


SAVEPOINT = Statement("SAVEPOINT before")
ROLL_BACK_TO_SAVEPOINT = Statement("ROLLBACK TO SAVEPOINT before")


@dataclass(frozen=True)
class Transaction:
    """Statements; the first ones, then what another session commits meanwhile, then the late ones."""

    statements: Sequence[Statement]
    is_committed: bool = True
    meanwhile: Sequence[Transaction] = ()
    late: Sequence[Statement] = ()


@dataclass
class Ledger:
    """Changes by table and operation; in_doubt are those of a commit whose answer was lost, till settled."""

    committed: Changes = field(default_factory=Counter)
    in_doubt: Changes = field(default_factory=Counter)
    transactions: int = 0
    rolled_back: int = 0
    reconnects: int = 0

    @property
    def changes(self) -> int:
        return self.committed.total()

    def as_dict(self) -> dict[str, dict[str, int]]:
        return by_table(self.committed)


def by_table(changes: Changes) -> dict[str, dict[str, int]]:
    """{"public.client": {"insert": 3, "update": 0, "delete": 0}}"""
    tables = sorted({table for table, _ in changes})
    return {table: {operation: changes[table, operation] for operation in OPERATIONS} for table in tables}


# ----------------------------------------------------------------------------------------------------------
# Entry point: run
# ----------------------------------------------------------------------------------------------------------


def run(
    connect_parameters: Mapping[str, Any],
    *,
    rate: float | None,
    seconds: float = math.inf,
    transactions: float = math.inf,
    seed: int = 0,
    report: Callable[[Ledger, str], None] = lambda ledger, state: None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Ledger:
    """The ledger after so many seconds or transactions.

    connect_parameters: of psycopg2.connect, to a database with test-input/lending.sql. rate: changes a
    second; None = as many as can be. After an outage the rate is kept to from then on: nothing is made up
    for in a burst. report is told ledger and state after every transaction and while there is nothing to do.
    Raises WorkloadError when the server stays away or refuses a statement.
    """
    ledger = Ledger()
    session = Session(connect_parameters, ledger, partial(report, ledger, "reconnecting"), is_stopping)
    started = time.monotonic()
    schedule = Schedule(rate, started)
    try:
        upcoming = lending_transactions(session, random.Random(seed), rows_of_statement(rate))
        while ledger.transactions < transactions and time.monotonic() - started < seconds:
            if is_stopping():
                break
            if (left := schedule.seconds_left(ledger)) > 0:
                time.sleep(min(left, NAP_SECONDS))
            else:
                session.perform(next(upcoming))
            report(ledger, "running")
        return ledger
    finally:
        session.close()


@dataclass
class Schedule:
    """When the next transaction is due: by what was committed since the start, or since the last outage."""

    rate: float | None
    started: float
    changes: int = 0
    reconnects: int = 0

    def seconds_left(self, ledger: Ledger) -> float:
        if self.rate is None:
            return 0.0
        now = time.monotonic()
        if ledger.reconnects != self.reconnects:
            self.started, self.changes, self.reconnects = now, ledger.changes, ledger.reconnects
        return self.started + (ledger.changes - self.changes) / self.rate - now


def rows_of_statement(rate: float | None) -> int:
    if rate is None:
        return ROWS_AT_ANY_RATE
    return min(ROWS_AT_ANY_RATE, max(1, round(rate / CHANGES_A_SECOND_OF_SINGLE_ROWS)))


# ----------------------------------------------------------------------------------------------------------
# The session: what was committed, whatever becomes of the server
# ----------------------------------------------------------------------------------------------------------


class Session:
    """A connection, opened anew when the server goes away; it writes into the ledger."""

    def __init__(
        self,
        connect_parameters: Mapping[str, Any],
        ledger: Ledger,
        on_wait: Callable[[], None] = lambda: None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.connect_parameters = connect_parameters
        self.ledger = ledger
        self.on_wait = on_wait
        self.is_stopping = is_stopping
        try:
            self.connection = self.connect()
        except psycopg2.Error as error:
            raise WorkloadError(
                f"cannot connect to PostgreSQL for the workload: {type(error).__name__}; "
                "check PGHOST, PGPORT, PGDATABASE, PGUSER and PGPASSWORD"
            ) from error

    def connect(self) -> Any:
        connection = psycopg2.connect(**{"connect_timeout": 5, **self.connect_parameters})
        connection.autocommit = True  # BEGIN and COMMIT are statements here, to know when the latter was sent
        return connection

    def close(self) -> None:
        self.connection.close()

    def ask(self, query: str, *parameters: Any) -> Any:
        """The first value of the answer."""
        with self.connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchone()[0]

    def perform(self, transaction: Transaction, other: Session | None = None) -> None:
        """Runs the transaction; its changes are in the ledger exactly if they are in the database.

        other: the session of what is committed meanwhile.
        """
        number: int | None = None
        try:
            begun = self.ask("BEGIN; SELECT txid_current()")
            changes = self.execute(transaction.statements)
            if other is not None:
                for inner in transaction.meanwhile:
                    other.perform(inner)
            changes += self.execute(transaction.late)
            if transaction.is_committed:
                number, self.ledger.in_doubt = begun, changes
            with self.connection.cursor() as cursor:
                cursor.execute("COMMIT" if transaction.is_committed else "ROLLBACK")
                self.settle(cursor.statusmessage == "COMMIT")
        except psycopg2.Error as error:
            self.recover(error, number)

    def execute(self, statements: Sequence[Statement]) -> Changes:
        """What the statements changed; what was rolled back to a savepoint has not happened."""
        changes, at_savepoint = Changes(), Changes()
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement.sql, statement.parameters or None)
                if statement is SAVEPOINT:
                    at_savepoint = changes.copy()
                elif statement is ROLL_BACK_TO_SAVEPOINT:
                    changes = at_savepoint.copy()
                elif statement.table and cursor.rowcount > 0:
                    changes[statement.table, statement.operation] += cursor.rowcount
        return changes

    def settle(self, is_committed: bool) -> None:
        self.ledger.transactions += 1
        if is_committed:
            self.ledger.committed += self.ledger.in_doubt
        else:
            self.ledger.rolled_back += 1
        self.ledger.in_doubt = Changes()

    def recover(self, error: psycopg2.Error, number: int | None) -> None:
        """Goes on after a lost connection or a conflict; number is of the transaction that is in doubt."""
        if not self.connection.closed:
            if not (error.pgcode or "").startswith("40"):  # a deadlock, or the like: it was rolled back
                raise WorkloadError(
                    f"the workload's transaction was refused by PostgreSQL: {type(error).__name__} "
                    f"{error.pgcode}; its schema has to be that of test-input/lending.sql"
                ) from error
            self.ask("ROLLBACK; SELECT 1")
            return self.settle(False)
        return self.settle(self.reconnect(number))

    def reconnect(self, number: int | None) -> bool:
        """Whether the transaction of that number was committed; without one, it was not.

        The number is asked for before this session does anything else. A server that was killed before it had
        written anything of that transaction may give its number out again: one that it has not given out yet
        was not committed, and one that somebody else got within that moment would be taken for it.
        """
        deadline = time.monotonic() + RECONNECT_SECONDS
        while time.monotonic() < deadline and not (self.is_stopping() and number is None):
            try:
                if self.connection.closed:
                    self.connection = self.connect()
                    self.ledger.reconnects += 1
                state = "aborted" if number is None else self.ask("SELECT txid_status(%s)", number)
                if state in ("committed", "aborted"):
                    return bool(state == "committed")
            except psycopg2.Error as error:
                if error.pgcode == NOT_GIVEN_OUT:
                    return False
                self.connection.close()
            self.on_wait()
            time.sleep(RETRY_SECONDS)
        if number is None and self.is_stopping():
            return False
        raise WorkloadError(
            f"PostgreSQL was lost and not back within {RECONNECT_SECONDS:.0f} s; "
            f"{self.ledger.in_doubt.total()} changes are in doubt: see the server's log"
        )


# ----------------------------------------------------------------------------------------------------------
# The lending business
# ----------------------------------------------------------------------------------------------------------


@dataclass
class Books:
    """The next free keys, as of a sequence: one that a rollback has thrown away is not used again."""

    client: int
    loan: int
    payment: int
    random: random.Random
    rows: int  # of a statement, about

    def take(self, table: str, count: int) -> tuple[int, int]:
        """The first and the last of so many new keys."""
        first: int = getattr(self, table)
        setattr(self, table, first + count)
        return first, first + count - 1

    def some(self, most: int) -> int:
        """A number of rows: 1 to most, and at a high rate a multiple of it."""
        return self.random.randint(1, most) * self.rows

    def span(self, table: str, count: int, newest: int = MANY) -> tuple[int, int]:
        """The first and the last of so many keys in a row, of the newest that were given out."""
        end: int = getattr(self, table)
        low = max(1, end - newest)
        first = self.random.randint(low, max(low, end - count))
        return first, first + count - 1


def lending_transactions(session: Session, source: random.Random, rows: int) -> Iterator[Transaction]:
    """Transactions without end; what they are does not depend on how the earlier ones ended."""
    try:
        keys = {
            table: 1 + session.ask(f"SELECT coalesce(max(id), 0) FROM public.{table}")
            for table in ("client", "loan", "payment")
        }
    except psycopg2.Error as error:
        raise WorkloadError(
            f"cannot read the tables of test-input/lending.sql: {type(error).__name__}; "
            "fill the database with that file"
        ) from error
    books = Books(**keys, random=source, rows=rows)
    events, weights = [*EVENTS], [*EVENTS.values()]
    while True:
        statements = [*source.choices(events, weights)[0](books)]
        fate = source.random()
        if fate < 0.03:  # a part of it is tried and given up
            tried = source.choices(events, weights)[0](books)
            statements = [*statements, SAVEPOINT, *tried, ROLL_BACK_TO_SAVEPOINT, *pay(books)]
        yield Transaction(statements, is_committed=fate < 0.98)


def pay(books: Books) -> Iterator[Statement]:
    first, last = books.take("payment", books.some(8))
    yield Statement(
        "INSERT INTO public.payment SELECT id, paid.loan_id, (500 + id %% 20000) / 100.0,"
        " timestamptz '2026-02-01 09:00:00Z' + id * interval '1.25 seconds'"
        " FROM generate_series(%s, %s) AS id,"
        " LATERAL (SELECT loan.id AS loan_id FROM public.loan WHERE loan.id >= 1 + (id * 7919 + %s) %% %s"
        " ORDER BY loan.id LIMIT 1) AS paid",
        (first, last, books.random.randrange(1000), books.loan - 1),
        "public.payment",
        "insert",
    )


def repay(books: Books) -> Iterator[Statement]:
    yield from pay(books)
    yield update(books, "loan", 1, "amount = amount - 0.01")


def lend(books: Books) -> Iterator[Statement]:
    """New clients, loans for half of them."""
    count = books.some(2)
    first, last = books.take("client", count)
    yield Statement(
        "INSERT INTO public.client SELECT id, 'Klient Õie ' || id, 'client' || id || '@example.org'"
        " FROM generate_series(%s, %s) AS id",
        (first, last),
        "public.client",
        "insert",
    )
    loan, last_loan = books.take("loan", (count + 1) // 2)
    yield Statement(
        "INSERT INTO public.loan"
        " SELECT id, id - %s, 1000 + id %% 9000, date '2026-03-01' + (id %% 60)::integer"
        " FROM generate_series(%s, %s) AS id",
        (loan - first, loan, last_loan),
        "public.loan",
        "insert",
    )


def move(books: Books) -> Iterator[Statement]:
    yield update(books, "client", books.some(1), "email = 'moved-' || id || '@example.org'")


def raise_loans(books: Books) -> Iterator[Statement]:
    yield update(books, "loan", books.some(4), "amount = amount + 10")


def correct(books: Books) -> Iterator[Statement]:
    yield update(
        books, "payment", books.some(3), "amount = amount + 0.5, paid_at = paid_at + interval '1 day'"
    )


def cancel(books: Books) -> Iterator[Statement]:
    first, last = books.span("payment", books.some(3))
    sql = "DELETE FROM public.payment WHERE id BETWEEN %s AND %s"
    yield Statement(sql, (first, last), "public.payment", "delete")


def write_off(books: Books) -> Iterator[Statement]:
    """A loan goes with its payments."""
    loan, _ = books.span("loan", 1)
    yield Statement("DELETE FROM public.payment WHERE loan_id = %s", (loan,), "public.payment", "delete")
    yield Statement("DELETE FROM public.loan WHERE id = %s", (loan,), "public.loan", "delete")


def part(books: Books) -> Iterator[Statement]:
    """Clients without a loan go."""
    yield Statement(
        "DELETE FROM public.client WHERE id BETWEEN %s AND %s"
        " AND NOT EXISTS (SELECT FROM public.loan WHERE client_id = client.id)",
        books.span("client", books.some(4), NEWEST_CLIENTS * books.rows),
        "public.client",
        "delete",
    )


def renumber_payments(books: Books) -> Iterator[Statement]:
    count = books.some(1)
    old, last = books.span("payment", count)
    new, _ = books.take("payment", count)
    yield update_of("payment", (old, last), f"id = id + {new - old}")


def renumber_client(books: Books) -> Iterator[Statement]:
    """A changed key and then an update of the same row; only of a client without a loan."""
    from_key, _ = books.span("client", 1, NEWEST_CLIENTS * books.rows)
    new, _ = books.take("client", 1)
    yield Statement(
        "UPDATE public.client SET id = %s WHERE id = (SELECT id FROM public.client AS free WHERE id >= %s"
        " AND NOT EXISTS (SELECT FROM public.loan WHERE client_id = free.id) ORDER BY id LIMIT 1)",
        (new, from_key),
        "public.client",
        "update",
    )
    yield update_of("client", (new, new), "name = 'New ' || name")


def update(books: Books, table: str, count: int, assignment: str) -> Statement:
    return update_of(table, books.span(table, count), assignment)


def update_of(table: str, span: tuple[int, int], assignment: str) -> Statement:
    sql = f"UPDATE public.{table} SET {assignment} WHERE id BETWEEN %s AND %s"
    return Statement(sql, span, f"public.{table}", "update")


EVENTS: dict[Callable[[Books], Iterator[Statement]], int] = {
    pay: 40,
    repay: 22,
    lend: 10,
    correct: 8,
    move: 6,
    raise_loans: 4,
    cancel: 4,
    renumber_payments: 2,
    renumber_client: 2,
    part: 2,
    write_off: 1,
}

# ----------------------------------------------------------------------------------------------------------
# Command line
# ----------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Whether it shall end, and the status file of the ledger."""

    parent: int | None
    status_file: Path | None
    ledger: Ledger = field(default_factory=Ledger)
    is_told_to_end: bool = False
    written_at: float = -math.inf

    def is_stopping(self) -> bool:
        return self.is_told_to_end or (self.parent is not None and os.getppid() != self.parent)

    def end(self, *_: object) -> None:
        self.is_told_to_end = True

    def report(self, ledger: Ledger, state: str) -> None:
        """Writes the file when its time has come, and at the end."""
        self.ledger = ledger
        now = time.monotonic()
        is_last = state in ("done", "failed")
        if self.status_file is None or (now - self.written_at < STATUS_SECONDS and not is_last):
            return
        self.written_at = now
        status = {
            "pid": os.getpid(),
            "cpu_seconds": round(time.process_time(), 3),
            "state": state,
            "changes": ledger.changes,
            "transactions": ledger.transactions,
            "committed": by_table(ledger.committed),
            "in_doubt": by_table(ledger.in_doubt),
        }
        write_whole(self.status_file, json.dumps(status).encode())


def main(arguments: list[str] | None = None) -> int:
    options = read_options(arguments)
    status_file = options.folder / "status" / "workload.json" if options.folder else None
    if status_file:
        status_file.parent.mkdir(parents=True, exist_ok=True)
    watch = Watch(options.parent, status_file)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, watch.end)
    started, state = time.monotonic(), "failed"
    try:
        run(
            {"dsn": "application_name=workload"},
            rate=options.rate,
            seconds=options.seconds,
            seed=options.seed,
            report=watch.report,
            is_stopping=watch.is_stopping,
        )
        state = "done"
    except WorkloadError as error:
        print(f"error: {error}", file=sys.stderr)
    watch.report(watch.ledger, state)
    print(summary(watch.ledger, time.monotonic() - started))
    return 0 if state == "done" else 1


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local_run.workload",
        description="Makes changes in the database that libpq's PG* variables name, filled with "
        "test-input/lending.sql, until Ctrl-C or SIGTERM.",
    )
    parser.add_argument(
        "--rate", type=read_rate, default=200.0, help="changes a second, or max (default: 200)"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, help="ends after so many")
    parser.add_argument("--seed", type=int, default=0, help="other changes (default: 0)")
    parser.add_argument(
        "--folder", type=Path, help="of the run: the ledger goes to status/workload.json there"
    )
    parser.add_argument("--parent", type=int, metavar="PID", help="ends when this is no longer its parent")
    return parser.parse_args(arguments)


def read_rate(text: str) -> float | None:
    if text == "max":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate: write a number above 0, or max")
    return rate


def summary(ledger: Ledger, seconds: float) -> str:
    microseconds = 1e6 * time.process_time() / max(1, ledger.changes)
    return (
        f"{ledger.changes:,} changes in {seconds:.1f} s ({ledger.changes / seconds:,.0f}/s), "
        f"{ledger.transactions:,} transactions, {ledger.rolled_back:,} rolled back, "
        f"{microseconds:.1f} microseconds of CPU a change"
    )


if __name__ == "__main__":
    sys.exit(main())
