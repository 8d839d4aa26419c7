"""What PostgreSQL's output plugin pgoutput says, in protocol version 1: bytes in, messages out.

    read(payload)   Begin | Commit | Relation | Insert | Update | Delete | None

Version 1 sends whole transactions, in the order of their commits, values as text. None is a message that
says nothing of rows: the origin, a type's name, TRUNCATE (not published here; DMS does not capture it).
Source: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from local_run.replication.envelopes import UNCHANGED, Value

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
OPTIONS = {"proto_version": "1"}
READ_BEGIN = struct.Struct("!xQQI").unpack
READ_COMMIT = struct.Struct("!xBQQQ").unpack
READ_SIZE = struct.Struct("!I").unpack_from
READ_COUNT = struct.Struct("!H").unpack_from
READ_COLUMN = struct.Struct("!Ii").unpack_from
TEXT, NULL, UNCHANGED_TOAST = b"tnu"
KEY, OLD, NEW = b"KON"

Values = Sequence[Value]


class Begin(NamedTuple):
    commit_lsn: int  # where the transaction's commit stands
    committed_at: str  # 2026-03-01T09:16:10.480010Z
    xid: int  # of 32 bits


class Commit(NamedTuple):
    commit_lsn: int
    end_lsn: int  # where the next transaction may begin to be sent again


class RelationColumn(NamedTuple):
    name: str
    type_oid: int
    modifier: int
    is_key: bool  # of the replica identity


class Relation(NamedTuple):
    """A table as it is from here on; sent before its first change, and after it was altered."""

    oid: int
    schema: str
    name: str
    replica_identity: str  # d, i, f, n
    columns: tuple[RelationColumn, ...]


class Insert(NamedTuple):
    oid: int
    new: Values


class Update(NamedTuple):
    """old: the key before, if it has changed; the whole row under REPLICA IDENTITY FULL; else None."""

    oid: int
    new: Values
    old: Values | None


class Delete(NamedTuple):
    """old: the key, other columns None; the whole row under REPLICA IDENTITY FULL."""

    oid: int
    old: Values


Told = Begin | Commit | Relation | Insert | Update | Delete


def read(payload: bytes) -> Told | None:
    """The message. Raises ValueError for a kind that version 1 does not have."""
    kind = payload[:1]
    if kind == b"I":
        return Insert(oid_of(payload), values_at(payload, 6)[0])
    if kind == b"U":
        return read_update(payload)
    if kind == b"D":
        return Delete(oid_of(payload), values_at(payload, 6)[0])
    if kind == b"B":
        commit_lsn, microseconds, xid = READ_BEGIN(payload)
        return Begin(commit_lsn, timestamp(microseconds), xid)
    if kind == b"C":
        _, commit_lsn, end_lsn, _ = READ_COMMIT(payload)
        return Commit(commit_lsn, end_lsn)
    if kind == b"R":
        return read_relation(payload)
    if kind in (b"O", b"Y", b"T", b"M"):
        return None
    raise ValueError(f"pgoutput sent a message of kind {kind!r}, which its protocol version 1 does not have")


def timestamp(microseconds: int) -> str:
    """A time of the log, in microseconds since 2000, as DMS writes times."""
    return f"{EPOCH + timedelta(microseconds=microseconds):%Y-%m-%dT%H:%M:%S.%fZ}"


def oid_of(payload: bytes) -> int:
    return int(READ_SIZE(payload, 1)[0])


def read_update(payload: bytes) -> Update:
    old, at = None, 5
    if payload[at] in (KEY, OLD):
        old, at = values_at(payload, at + 1)
    return Update(oid_of(payload), values_at(payload, at + 1)[0], old)


def values_at(payload: bytes, at: int) -> tuple[list[Value], int]:
    """The values of a row whose column count stands at this place, and where the row ends."""
    values: list[Value] = []
    (count,) = READ_COUNT(payload, at)
    at += 2
    for _ in range(count):
        kind = payload[at]
        at += 1
        if kind == TEXT:
            (size,) = READ_SIZE(payload, at)
            at += 4
            values.append(payload[at : at + size])
            at += size
        else:
            values.append(None if kind == NULL else UNCHANGED)
    return values, at


def read_relation(payload: bytes) -> Relation:
    schema, at = name_at(payload, 5)
    name, at = name_at(payload, at)
    identity = chr(payload[at])
    (count,) = READ_COUNT(payload, at + 1)
    columns, at = [], at + 3
    for _ in range(count):
        is_key = bool(payload[at] & 1)
        column, at = name_at(payload, at + 1)
        type_oid, modifier = READ_COLUMN(payload, at)
        columns.append(RelationColumn(column, type_oid, modifier, is_key))
        at += 8
    return Relation(oid_of(payload), schema, name, identity, tuple(columns))


def name_at(payload: bytes, at: int) -> tuple[str, int]:
    """The name that begins at this place, and where what follows begins."""
    end = payload.index(b"\0", at)
    return payload[at:end].decode(errors="surrogateescape"), end + 1
