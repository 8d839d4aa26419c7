"""The source database as the stand-in uses it: slot, publications, snapshots, loads, the stream of changes.

DMS reads through test_decoding, which needs no publication; pgoutput needs some, and these are made as it
would see the tables: without a primary key a table publishes its inserts alone, for DMS ignores the rest
(documented), and its users' updates must go on working. TRUNCATE is not published: DMS does not capture it.
"""

from __future__ import annotations

import re
import select
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import psycopg2  # type: ignore[import-untyped]
from psycopg2 import extras, sql

from local_run.replication import pgoutput
from local_run.replication.position import Progress, Snapshot, lsn_number
from local_run.replication.tables import SourceTable
from local_run.replication.values import SESSION
from local_run.replication.values import session as session_options

DROP_ATTEMPTS = 10
# Limits that its role or its database may have set would end a long load.
WITHOUT_LIMITS = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
NULL = rb"\N"
# An encoding in which anything goes: asked for UTF-8, the server would refuse a value that is not.
UNCHECKED = "SQL_ASCII"
WITH_KEY, WITHOUT_KEY = "all", "inserts"
PUBLISHED = {WITH_KEY: "insert, update, delete", WITHOUT_KEY: "insert"}

DDL = "captured DDL"
DROP_CAPTURE_DDL = """
DROP EVENT TRIGGER IF EXISTS awsdms_intercept_ddl;
DROP FUNCTION IF EXISTS public.awsdms_intercept_ddl();
DROP TABLE IF EXISTS public.awsdms_ddl_audit
"""
NAMES = r"""
SELECT c.oid::bigint, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.relname NOT LIKE 'awsdms\_%'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
CREATE_HEARTBEAT = "CREATE TABLE {0} (hb_key bigint PRIMARY KEY, hb_last_heartbeat_at timestamp)"
HEARTBEAT = """
INSERT INTO {0} VALUES (1, localtimestamp)
ON CONFLICT (hb_key) DO UPDATE SET hb_last_heartbeat_at = excluded.hb_last_heartbeat_at
"""
CAPTURE_DDL = """
CREATE TABLE IF NOT EXISTS public.awsdms_ddl_audit (
  c_key bigserial PRIMARY KEY, c_time timestamp, c_user varchar(64), c_tag varchar(24), c_ddlqry text
);
CREATE OR REPLACE FUNCTION public.awsdms_intercept_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.awsdms_ddl_audit (c_time, c_user, c_tag, c_ddlqry)
  VALUES (localtimestamp, current_user, tg_tag, current_query());
  DELETE FROM public.awsdms_ddl_audit;
END $$;
CREATE EVENT TRIGGER awsdms_intercept_ddl ON ddl_command_end EXECUTE FUNCTION public.awsdms_intercept_ddl()
"""

Row = list[bytes | None]


class Source:
    """The database of one task. All of it raises psycopg2.Error."""

    def __init__(self, parameters: Mapping[str, Any], publications: str) -> None:
        self.parameters = {"connect_timeout": 10, **parameters}
        self.publications = {kind: f"{publications}_{kind}" for kind in PUBLISHED}

    @property
    def address(self) -> str:
        return "{host}:{port}/{dbname}".format(**self.parameters)

    def connect(self, **more: Any) -> Any:
        options = f"{more.pop('options', SESSION)} {WITHOUT_LIMITS}"
        return psycopg2.connect(**{**self.parameters, **more}, options=options)

    def replication_connection(self, server_encoding: str = "") -> Any:
        # The server would end a connection that does not answer during a long load.
        options = f"{session_options(server_encoding)} -c wal_sender_timeout=0"
        return self.connect(connection_factory=extras.LogicalReplicationConnection, options=options)

    @contextmanager
    def session(self) -> Iterator[Any]:
        """A cursor that commits by itself."""
        with closing(self.connect()) as connection:
            connection.autocommit = True
            yield connection.cursor()

    # ------------------------------------------------------------------------------------------------------
    # Publications and slot
    # ------------------------------------------------------------------------------------------------------

    def publish(self, tables: Iterable[SourceTable]) -> None:
        """Publishes these tables and no others."""
        wanted: dict[str, set[tuple[str, str]]] = {WITH_KEY: set(), WITHOUT_KEY: set()}
        with self.session() as cursor:
            for table in tables:
                if kind := publication_of(cursor, table):
                    wanted[kind].add((table.schema, table.name))
            for kind, publication in self.publications.items():
                self.publish_as(cursor, kind, publication, wanted[kind])

    def publish_as(self, cursor: Any, kind: str, publication: str, wanted: set[tuple[str, str]]) -> None:
        name = sql.Identifier(publication)
        cursor.execute("SELECT FROM pg_publication WHERE pubname = %s", (publication,))
        if not cursor.rowcount:
            cursor.execute(
                sql.SQL("CREATE PUBLICATION {} WITH (publish = {})").format(
                    name, sql.Literal(PUBLISHED[kind])
                )
            )
        cursor.execute(
            "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s", (publication,)
        )
        found = set(cursor.fetchall())
        for verb, tables in (("DROP", found - wanted), ("ADD", wanted - found)):
            if tables:
                listed = sql.SQL(", ").join(sql.Identifier(*table) for table in sorted(tables))
                cursor.execute(sql.SQL(f"ALTER PUBLICATION {{}} {verb} TABLE ONLY {{}}").format(name, listed))

    def create_slot(self, name: str) -> tuple[Any, str, int]:
        """A connection to keep while the snapshot is in use, the snapshot's name, where the log begins."""
        connection = self.replication_connection()
        cursor = connection.cursor()
        cursor.execute(f'CREATE_REPLICATION_SLOT "{name}" LOGICAL pgoutput EXPORT_SNAPSHOT')
        _, position, snapshot, _ = cursor.fetchone()
        return connection, snapshot, lsn_number(position)

    def drop_slot(self, name: str) -> None:
        """Drops the slot, if it is there; a reader that was killed may hold it for a moment."""
        named = "FROM pg_replication_slots WHERE slot_name = %s"
        with self.session() as cursor:
            for attempt in range(DROP_ATTEMPTS):
                cursor.execute(f"SELECT pg_terminate_backend(active_pid, 1000) {named}", (name,))
                try:
                    cursor.execute(f"SELECT pg_drop_replication_slot(slot_name) {named}", (name,))
                    return
                except psycopg2.errors.ObjectInUse:
                    if attempt == DROP_ATTEMPTS - 1:
                        raise

    def has_slot(self, name: str) -> bool:
        """Whether it is there with all of the log behind it."""
        with self.session() as cursor:
            cursor.execute(
                "SELECT wal_status IS DISTINCT FROM 'lost' FROM pg_replication_slots WHERE slot_name = %s",
                (name,),
            )
            return bool(cursor.rowcount and cursor.fetchone()[0])

    def slot_name(self, task_id: str) -> str:
        """As captured from real databases: 16 characters (inferred: of the task's id), OID, a UUID."""
        with self.session() as cursor:
            cursor.execute("SELECT oid FROM pg_database WHERE datname = current_database()")
            oid = cursor.fetchone()[0]
        return f"{task_id[:16].lower()}_{oid:08}_{uuid.uuid4()}".replace("-", "_")

    def remove(self, progress: Progress) -> None:
        """Takes away what was made in the database for the task; of others' it touches nothing."""
        self.drop_slot(progress.slot)
        with self.session() as cursor:
            for made in progress.made:
                if made == DDL:
                    cursor.execute(DROP_CAPTURE_DDL)
                else:
                    heartbeat = sql.Identifier(made, "awsdms_heartbeat")
                    cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(heartbeat))
            for publication in self.publications.values():
                cursor.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(publication)))

    # ------------------------------------------------------------------------------------------------------
    # What DMS has in the database
    # ------------------------------------------------------------------------------------------------------

    def capture_ddl(self) -> list[str]:
        """Makes the event trigger and its table, under DMS's names (documented), if they are not there.

        For superusers alone. Gives what was made, for remove; so does beat.
        """
        with self.session() as cursor:
            cursor.execute("SELECT FROM pg_event_trigger WHERE evtname = 'awsdms_intercept_ddl'")
            if cursor.rowcount:
                return []
            cursor.execute(CAPTURE_DDL)
        return [DDL]

    def beat(self, schema: str) -> list[str]:
        """Writes the heartbeat: a change that moves the slot on in a database without any (documented)."""
        table = sql.Identifier(schema, "awsdms_heartbeat")
        with self.session() as cursor:
            cursor.execute(
                "SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL,"
                " EXISTS (SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'awsdms_heartbeat')",
                (schema, schema),
            )
            has_schema, has_table = cursor.fetchone()
            if not has_schema:
                print(f"no heartbeat: there is no schema {schema!r}", file=sys.stderr, flush=True)
                return []
            if not has_table:
                cursor.execute(sql.SQL(CREATE_HEARTBEAT).format(table))
            cursor.execute(sql.SQL(HEARTBEAT).format(table))
        return [] if has_table else [schema]

    def names(self) -> dict[int, tuple[str, str]]:
        """Schema and name of every table by its OID; DMS's own are not among them."""
        with self.session() as cursor:
            cursor.execute(NAMES)
            return {oid: (schema, name) for oid, schema, name in cursor.fetchall()}

    # ------------------------------------------------------------------------------------------------------
    # Loading
    # ------------------------------------------------------------------------------------------------------

    def load_exported(self, table: SourceTable, snapshot: str, take: Callable[[Row], None]) -> None:
        """Gives take every row of the table as the exported snapshot has it."""
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            copy(cursor, table, take)

    def load_now(
        self, table: SourceTable, take: Callable[[Row], None], is_late_enough: Callable[[Snapshot], bool]
    ) -> Snapshot:
        """Gives take every row as a snapshot of now has it; the snapshot says what it has seen."""
        with closing(self.connect()) as connection:
            while True:
                cursor = connection.cursor()
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                snapshot = current_snapshot(cursor)
                if is_late_enough(snapshot):
                    break
                connection.rollback()
            copy(cursor, table, take)
        return snapshot

    # ------------------------------------------------------------------------------------------------------
    # The stream of changes
    # ------------------------------------------------------------------------------------------------------

    @contextmanager
    def stream(self, slot: str, position: int) -> Iterator[Stream]:
        """The changes of transactions that were committed from position on."""
        with self.session() as cursor:
            encoding = cursor.connection.info.parameter_status("server_encoding")
        with closing(self.replication_connection(encoding)) as connection:
            names = ", ".join(f'"{name}"' for name in self.publications.values())
            cursor = connection.cursor()
            cursor.start_replication(
                slot_name=slot,
                decode=False,
                start_lsn=position,
                options={**pgoutput.OPTIONS, "publication_names": names},
            )
            yield Stream(cursor)


class Stream:
    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor

    def read(self) -> tuple[int, bytes] | None:
        """A message and where in the log it stands; None: none has come."""
        try:
            message = self.cursor.read_message()
        except psycopg2.DatabaseError as error:
            if error.pgcode is not None:
                raise
            # A server that was killed has no word of farewell, and psycopg2 no better class for that.
            raise psycopg2.OperationalError("the server has closed the stream") from error
        return None if message is None else (message.data_start, message.payload)

    def wait(self, seconds: float) -> None:
        """Returns when something has come, or after the time."""
        select.select([self.cursor], [], [], max(0.0, seconds))

    @property
    def log_end(self) -> int:
        """How far the server has read the log; between transactions all before it was sent."""
        return int(self.cursor.wal_end)

    def confirm(self, position: int) -> None:
        """Tells the server that it may forget the log before."""
        self.cursor.send_feedback(flush_lsn=position, write_lsn=position, apply_lsn=position, force=True)


def publication_of(cursor: Any, table: SourceTable) -> str:
    """Which publication it belongs to; empty for an unlogged table, of which the log knows nothing."""
    cursor.execute("SELECT relreplident, relpersistence FROM pg_class WHERE oid = %s", (table.oid,))
    identity, persistence = cursor.fetchone() or ("n", "u")
    if persistence == "u":
        return ""
    return WITH_KEY if table.primary_key and identity != "n" else WITHOUT_KEY


def current_snapshot(cursor: Any) -> Snapshot:
    """Of the transaction that the cursor is in."""
    cursor.execute("SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text")
    text, log_end = cursor.fetchone()
    xmin, xmax, running = text.split(":")
    unseen = frozenset(int(xid) for xid in running.split(",") if xid)
    return Snapshot(int(xmin), int(xmax), unseen, lsn_number(log_end))


def copy(cursor: Any, table: SourceTable, take: Callable[[Row], None]) -> None:
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    query = sql.SQL("COPY (SELECT {} FROM ONLY {}) TO STDOUT").format(
        names, sql.Identifier(table.schema, table.name)
    )
    text = query.as_string(cursor).encode()
    if cursor.connection.info.parameter_status("server_encoding") == UNCHECKED:
        cursor.execute("SET LOCAL client_encoding TO SQL_ASCII")
    cursor.copy_expert(text, RowSink(len(table.columns), take))


class RowSink:
    """A file that COPY writes to: the server sends a row at a time, in COPY's text format."""

    def __init__(self, columns: int, take: Callable[[Row], None]) -> None:
        self.columns = columns
        self.take = take

    def write(self, line: bytes) -> None:
        self.take(row_of(line) if self.columns else [])


def row_of(line: bytes) -> Row:
    """The values of a line, each in its type's text form; NULL is None."""
    fields: list[bytes] = line[:-1].split(b"\t")
    if b"\\" not in line:
        return list(fields)
    return [None if field == NULL else unescaped(field) for field in fields]


def unescaped(field: bytes) -> bytes:
    return ESCAPED.sub(lambda found: ESCAPES.get(found[1], found[1]), field) if b"\\" in field else field
