"""The workload: its ledger holds exactly what was committed, whatever becomes of the server or an answer."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from histories import HistoryTable, history, run_history

from local_run.postgres import Server, fill, start_postgres
from local_run.workload import (
    Ledger,
    Session,
    Statement,
    Transaction,
    WorkloadError,
    run,
)

HERE = Path(__file__).parent.parent
LENDING = HERE / "test-input" / "lending.sql"
# Counts, inside the transaction that makes it, every change of every table.
AUDIT = """
CREATE SCHEMA audit;
CREATE TABLE audit.change (table_name text, operation text, old_row jsonb, new_row jsonb);
CREATE FUNCTION audit.write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.change
    VALUES (TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, lower(TG_OP), to_jsonb(OLD), to_jsonb(NEW));
    RETURN NULL;
END $$;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW '
            'EXECUTE FUNCTION audit.write()', name);
    END LOOP;
END $$;
"""
HISTORY = """
CREATE TABLE account (
    id integer PRIMARY KEY, balance numeric(12, 2), is_open boolean, note text, opened_on date
);
CREATE TABLE letter (number integer PRIMARY KEY, body json, sent_at timestamptz, sender varchar(40));
"""
HISTORY_TABLES = [
    HistoryTable(
        "public.account",
        "id",
        {"balance": "numeric(12,2)", "is_open": "boolean", "note": "text", "opened_on": "date"},
    ),
    HistoryTable(
        "public.letter", "number", {"body": "json", "sent_at": "timestamptz", "sender": "varchar(40)"}
    ),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgres() as running:
        fill(running, LENDING)
        yield running


@pytest.fixture
def dsn(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A lending database of the test's own."""
    with copy_of_lending(server, f"test_{abs(hash(request.node.name))}") as dsn:
        yield dsn


@contextmanager
def copy_of_lending(server: Server, name: str) -> Iterator[str]:
    ask(server.dsn, f"CREATE DATABASE {name} TEMPLATE lending")
    yield f"{server.dsn} dbname={name}"
    ask(server.dsn, f"DROP DATABASE {name} WITH (FORCE)")


def ask(dsn: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []


def audited(dsn: str) -> dict[str, dict[str, int]]:
    """What the triggers counted, in the words of the ledger."""
    counts = Counter(ask(dsn, "SELECT table_name, operation FROM audit.change"))
    return {
        table: {operation: counts[table, operation] for operation in ("insert", "update", "delete")}
        for table in sorted({table for table, _ in counts})
    }


def wait_until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.02)


# The ledger ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [None, 1_000_000], ids=["max", "paced"])
def test_the_ledger_counts_what_triggers_count(dsn: str, rate: float | None) -> None:
    ask(dsn, AUDIT)

    ledger = run({"dsn": dsn}, rate=rate, transactions=150, seed=11)

    assert ledger.as_dict() == audited(dsn)
    assert ledger.transactions == 150
    assert ledger.rolled_back > 0
    assert min(ledger.as_dict()["public.payment"].values()) > 0


def test_the_lending_business_makes_every_kind_of_change(dsn: str) -> None:
    ask(dsn, AUDIT)

    ledger = run({"dsn": dsn}, rate=1_000, transactions=600, seed=1)

    kinds = {(table, kind) for table, counts in ledger.as_dict().items() for kind in counts if counts[kind]}
    assert kinds == {
        (f"public.{table}", kind)
        for table in ("client", "loan", "payment")
        for kind in ("insert", "update", "delete")
    }
    key_changes = "SELECT count(*) FROM audit.change WHERE old_row->'id' <> new_row->'id' AND table_name = %s"
    assert ask(dsn, key_changes, "public.payment") > [(0,)]
    assert ask(dsn, key_changes, "public.client") > [(0,)]


def test_one_seed_makes_the_same_rows_and_another_makes_others(server: Server) -> None:
    def content(name: str, seed: int) -> tuple[Any, dict[str, dict[str, int]]]:
        with copy_of_lending(server, name) as dsn:
            ledger = run({"dsn": dsn}, rate=1_000, transactions=200, seed=seed)
            tables = ("client", "loan", "payment")
            sums = [ask(dsn, f"SELECT md5(string_agg({t}::text, '' ORDER BY id)) FROM {t}") for t in tables]
            return sums, ledger.as_dict()

    assert content("first", 5) == content("second", 5)
    assert content("third", 6) != content("fourth", 5)


def test_a_transaction_that_was_rolled_back_is_not_in_the_ledger(dsn: str) -> None:
    insert = Statement("INSERT INTO client VALUES (%s, 'a', 'b')", (9001,), "public.client", "insert")
    nothing = Statement("DELETE FROM client WHERE id = -1", (), "public.client", "delete")
    ledger = Ledger()
    with closing(Session({"dsn": dsn}, ledger)) as session:
        session.perform(Transaction([insert], is_committed=False))
        session.perform(Transaction([insert, nothing]))

    assert ledger.as_dict() == {"public.client": {"insert": 1, "update": 0, "delete": 0}}
    assert (ledger.transactions, ledger.rolled_back) == (2, 1)


def test_a_deadlock_is_a_rollback_and_a_refused_statement_an_error_without_values(dsn: str) -> None:
    deadlock = Statement("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
    refused = Statement("INSERT INTO client VALUES (1, 'secret', 'secret')", (), "public.client", "insert")
    ledger = Ledger()
    with closing(Session({"dsn": dsn}, ledger)) as session:
        session.perform(Transaction([deadlock]))
        assert (ledger.rolled_back, ledger.reconnects) == (1, 0)
        with pytest.raises(WorkloadError) as caught:
            session.perform(Transaction([refused]))

    assert str(caught.value) == (
        "the workload's transaction was refused by PostgreSQL: UniqueViolation 23505; "
        "its schema has to be that of test-input/lending.sql"
    )
    assert ledger.changes == 0


# Outages -------------------------------------------------------------------------------------------------


def test_a_killed_server_leaves_the_ledger_exact() -> None:
    with start_postgres() as server:
        dsn = f"{server.dsn} dbname={fill(server, LENDING)}"
        ask(dsn, AUDIT)
        ledgers: list[Ledger] = []
        stop = threading.Event()
        thread = threading.Thread(
            target=lambda: ledgers.append(
                run({"dsn": dsn}, rate=None, seed=2, report=note, is_stopping=stop.is_set)
            )
        )
        seen = Ledger()

        def note(ledger: Ledger, state: str) -> None:
            nonlocal seen
            seen = ledger

        thread.start()
        try:
            for kills in range(1, 4):
                wait_until(lambda before=seen.transactions: seen.transactions > before + 20)
                kill(server)
                wait_until(lambda: start_again(server))
                wait_until(lambda kills=kills: seen.reconnects >= kills)
        finally:
            stop.set()
            thread.join(30)

        assert ledgers[0].as_dict() == audited(dsn)
        assert ledgers[0].reconnects >= 3
        assert not ledgers[0].in_doubt


def kill(server: Server) -> None:
    assert server.process is not None
    processes = psutil.Process(server.process.pid)
    for process in [processes, *processes.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.stop()


def start_again(server: Server) -> bool:
    with suppress(Exception):
        server.start()
        return True
    return False


@contextmanager
def proxy(server: Server, *, is_delivered: bool) -> Iterator[str]:
    """A DSN of a way to the server that breaks at the first COMMIT, which is delivered or not."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        is_broken = False
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                upstream = socket.create_connection(("127.0.0.1", server.port))
                back = threading.Thread(target=pump, args=(upstream, client))
                back.start()
                with client, upstream:
                    while piece := client.recv(65536):
                        if not is_broken and b"COMMIT" in piece:
                            is_broken = True
                            client.shutdown(socket.SHUT_RDWR)
                            if is_delivered:
                                upstream.sendall(piece)
                                back.join()  # it ends with the answer, which it can't deliver
                            break
                        upstream.sendall(piece)
                    with suppress(OSError):
                        upstream.shutdown(socket.SHUT_RDWR)
                    back.join()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"host=127.0.0.1 port={listener.getsockname()[1]} user=postgres"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)


@pytest.mark.parametrize("is_delivered", [True, False], ids=["committed", "never_arrived"])
def test_a_commit_whose_answer_is_lost_is_settled_by_the_server(
    server: Server, dsn: str, is_delivered: bool
) -> None:
    insert = Statement("INSERT INTO client VALUES (%s, 'a', 'b')", (9001,), "public.client", "insert")
    other = Statement("INSERT INTO client VALUES (%s, 'a', 'b')", (9002,), "public.client", "insert")
    ledger = Ledger()
    with proxy(server, is_delivered=is_delivered) as way:
        session = Session({"dsn": f"{way} dbname={dsn.rpartition('=')[2]}"}, ledger)
        session.perform(Transaction([insert]))
        session.perform(Transaction([other]))
        session.close()

    rows = ask(dsn, "SELECT id FROM client WHERE id > 9000 ORDER BY id")
    assert rows == ([(9001,), (9002,)] if is_delivered else [(9002,)])
    assert ledger.as_dict() == {"public.client": {"insert": len(rows), "update": 0, "delete": 0}}
    assert ledger.reconnects == 1
    assert not ledger.in_doubt


def test_a_number_that_the_server_has_not_given_out_was_not_committed(dsn: str) -> None:
    with closing(Session({"dsn": dsn}, Ledger())) as session:
        committed = session.ask("SELECT txid_current()")
        assert session.reconnect(committed) is True
        assert session.reconnect(committed + 1000) is False
        assert session.reconnect(None) is False


def test_a_transaction_still_in_progress_is_waited_for(dsn: str) -> None:
    waits: list[bool] = []
    answers: list[bool] = []
    with (
        closing(Session({"dsn": dsn}, Ledger())) as slow,
        closing(Session({"dsn": dsn}, Ledger(), on_wait=lambda: waits.append(True))) as asking,
    ):
        number = slow.ask("BEGIN; SELECT txid_current()")
        thread = threading.Thread(target=lambda: answers.append(asking.reconnect(number)))
        thread.start()
        wait_until(lambda: bool(waits))
        slow.ask("COMMIT; SELECT 1")
        thread.join(20)

    assert answers == [True]


def test_a_session_that_was_terminated_is_made_anew(dsn: str) -> None:
    insert = Statement("INSERT INTO client VALUES (9001, 'a', 'b')", (), "public.client", "insert")
    terminate = Statement("SELECT pg_terminate_backend(pg_backend_pid())")
    ledger = Ledger()
    with closing(Session({"dsn": dsn}, ledger)) as session:
        session.perform(Transaction([insert, terminate]))
        session.perform(Transaction([insert]))

    assert ledger.as_dict() == {"public.client": {"insert": 1, "update": 0, "delete": 0}}
    assert (ledger.reconnects, ledger.rolled_back) == (1, 1)


# Pace ----------------------------------------------------------------------------------------------------


def test_changes_come_evenly_at_the_rate_asked_for(dsn: str) -> None:
    times: list[tuple[float, int]] = []
    ledger = run(
        {"dsn": dsn},
        rate=400,
        seconds=2,
        report=lambda ledger, state: times.append((time.monotonic(), ledger.changes)),
    )

    assert 700 < ledger.changes < 900
    middle = times[0][0] + 1
    assert 300 < max(changes for at, changes in times if at < middle) < 500


# Histories -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_ledger_of_a_history_counts_what_triggers_count(server: Server, seed: int) -> None:
    with copy_of_lending(server, f"history_{seed}") as dsn:
        ask(dsn, HISTORY + AUDIT)

        ledger = run_history({"dsn": dsn}, history(HISTORY_TABLES, random.Random(seed)), 60)

        assert ledger.as_dict() == audited(dsn)
        assert ledger.rolled_back > 0
        moved = "SELECT count(*) FROM audit.change WHERE old_row->'id' <> new_row->'id'"
        assert ask(dsn, moved) > [(0,)]


def test_histories_hold_long_transactions_savepoints_and_toasted_text() -> None:
    transactions = [*islice(history(HISTORY_TABLES, random.Random(0)), 200)]

    statements = [s for t in transactions for s in [*t.statements, *t.late]]
    assert any(transaction.meanwhile and transaction.late for transaction in transactions)
    assert any(statement.sql.startswith("ROLLBACK TO") for statement in statements)
    assert any(isinstance(v, str) and len(v) > 8000 for s in statements for v in s.parameters)
    assert any(None in statement.parameters for statement in statements)


# Command line --------------------------------------------------------------------------------------------


def start(dsn: str, *arguments: str) -> subprocess.Popen[str]:
    parts = dict(part.split("=") for part in dsn.split())
    environment = {"PATH": os.environ["PATH"], "PGHOST": parts["host"], "PGPORT": parts["port"]}
    environment |= {"PGUSER": parts["user"], "PGDATABASE": parts["dbname"]}
    return subprocess.Popen(
        [sys.executable, "-m", "local_run.workload", *arguments],
        cwd=HERE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_program_keeps_its_ledger_in_a_file_and_ends_on_sigterm(dsn: str, tmp_path: Path) -> None:
    ask(dsn, AUDIT)
    status_file = tmp_path / "status" / "workload.json"
    process = start(dsn.replace("dbname=postgres ", ""), "--rate", "300", "--folder", str(tmp_path))
    wait_until(lambda: status_file.exists() and json.loads(status_file.read_text())["changes"] > 20)
    assert json.loads(status_file.read_text())["state"] == "running"

    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=20)

    status = json.loads(status_file.read_text())
    assert (process.returncode, errors) == (0, "")
    assert (status["state"], status["pid"], status["in_doubt"]) == ("done", process.pid, {})
    assert status["committed"] == audited(dsn)
    assert status["changes"] == sum(sum(counts.values()) for counts in status["committed"].values())
    assert status["cpu_seconds"] > 0
    assert output.endswith("microseconds of CPU a change\n")
    assert os.listdir(status_file.parent) == ["workload.json"]


def test_the_program_ends_without_its_parent(dsn: str) -> None:
    process = start(dsn.replace("dbname=postgres ", ""), "--parent", "1")

    output, _ = process.communicate(timeout=20)

    assert process.returncode == 0
    assert output.startswith("0 changes")


@pytest.mark.parametrize(
    ("arguments", "database", "code", "error"),
    [
        (["--rate", "fast"], "postgres", 2, "'fast' is no rate: write a number above 0, or max"),
        (["--rate", "0"], "postgres", 2, "'0' is no rate: write a number above 0, or max"),
        (
            [],
            "nowhere",
            1,
            "error: cannot connect to PostgreSQL for the workload: OperationalError; check PGHOST",
        ),
        (
            [],
            "postgres",
            1,
            "error: cannot read the tables of test-input/lending.sql: UndefinedTable; fill the",
        ),
    ],
    ids=["word", "zero", "unreachable", "unfilled"],
)
def test_the_program_says_what_it_lacks(
    server: Server, arguments: list[str], database: str, code: int, error: str
) -> None:
    process = start(server.dsn.replace("dbname=postgres", f"dbname={database}"), *arguments)

    _, errors = process.communicate(timeout=20)

    assert process.returncode == code
    assert error in errors.splitlines()[-1]
