"""What a batch is, what a function's answer means, and what becomes of records that failed. No I/O.

Rules of AWS carry their evidence. Sources, of
https://docs.aws.amazon.com/lambda/latest/dg/: with-kinesis.html (polling, batching),
services-kinesis-batchfailurereporting.html (answers), kinesis-on-failure-destination.html (errors).
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from local_run.runtime import PAYLOAD_BYTES

EVENT_START, EVENT_END = b'{"Records":[', b"]}"
LONGEST_PAUSE = 60  # of the mapping's seconds, between two retries
TAIL_CHARACTERS = 1368  # base64 of the last 1,026 bytes: an envelope ends with its metadata
COMMITTED_AT = b'"commit-timestamp"'
OF_DMS_ITSELF = re.compile(rb'"schema-name":\s*""|"table-name":\s*"awsdms_')

# ----------------------------------------------------------------------------------------------------------
# Value types
# ----------------------------------------------------------------------------------------------------------


class StreamRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as GetRecords gives it; its payload stays in the base64 in which the event has it too."""

    payload: str = msgspec.field(name="Data")
    partition_key: str = msgspec.field(name="PartitionKey")
    sequence_number: str = msgspec.field(name="SequenceNumber")
    arrived_at: float = msgspec.field(name="ApproximateArrivalTimestamp")


class Kinesis(msgspec.Struct, frozen=True, gc=False):
    kinesisSchemaVersion: str
    partitionKey: str
    sequenceNumber: str
    data: str
    approximateArrivalTimestamp: float


class EventRecord(msgspec.Struct, frozen=True, gc=False):
    """Documented: a record of the event, these keys."""

    kinesis: Kinesis
    eventSource: str
    eventVersion: str
    eventID: str
    eventName: str
    invokeIdentityArn: str
    awsRegion: str
    eventSourceARN: str


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record on its way to the function; times are seconds since 1970-01-01 UTC."""

    sequence_number: str
    arrived_at: float
    json: bytes  # as it stands in the event
    committed_at: float | None = None  # of a change of a user's table


@dataclass(frozen=True)
class Origin:
    """What records of a shard have in common."""

    stream_arn: str
    shard_id: str
    role_arn: str
    region: str


@dataclass(frozen=True)
class Policy:
    """The mapping's configuration, as far as it decides about batches; -1 means without limit."""

    batch_size: int = 100
    window_seconds: int = 0
    bisects: bool = False
    reports_failures: bool = False
    max_retries: int = -1
    max_age_seconds: int = -1


@dataclass(frozen=True)
class Piece:
    """Records that are delivered together: a batch, or what is left of one."""

    records: Sequence[Record]
    retries: int = 0  # that count to MaximumRetryAttempts
    invocations: int = 0

    @property
    def event(self) -> bytes:
        return EVENT_START + b",".join([record.json for record in self.records]) + EVENT_END


@dataclass(frozen=True)
class Verdict:
    """What an invocation says of a piece: so many records from its start on are done."""

    done: int
    is_failure: bool = False  # all of it failed: an error, a timeout, an answer that reports it


@dataclass(frozen=True)
class Course:
    """What follows: the first `done` records are acknowledged, then come the pieces, in this order."""

    done: int
    pieces: tuple[Piece, ...] = ()
    gives_up: bool = False  # on the first of the pieces
    pause: int = 0  # of the mapping's seconds, before the first of the pieces


# ----------------------------------------------------------------------------------------------------------
# Records and batches
# ----------------------------------------------------------------------------------------------------------

encode = msgspec.json.Encoder().encode


def event_record(record: StreamRecord, origin: Origin) -> Record:
    kinesis = Kinesis("1.0", record.partition_key, record.sequence_number, record.payload, record.arrived_at)
    event_id = f"{origin.shard_id}:{record.sequence_number}"
    name, role = "aws:kinesis:record", origin.role_arn
    full = EventRecord(kinesis, "aws:kinesis", "1.0", event_id, name, role, origin.region, origin.stream_arn)
    return Record(record.sequence_number, record.arrived_at, encode(full), committed_at(record.payload))


def committed_at(payload: str) -> float | None:
    """The envelope's commit-timestamp; None of loaded rows, control records and DMS's own tables.

    It is searched for in the last kilobyte, not parsed: the poller has to be cheap.
    """
    try:
        tail = a2b_base64(payload[-TAIL_CHARACTERS:])
        place = tail.rindex(COMMITTED_AT)
        names = tail[max(tail.rfind(b'"schema-name"', 0, place), 0) : place]
        if OF_DMS_ITSELF.search(names):
            return None
        text = tail[place + len(COMMITTED_AT) :].split(b'"', 2)[1]
        return datetime.fromisoformat(text.decode()).timestamp()
    except (ValueError, IndexError):
        return None


def cut(records: Sequence[Record], batch_size: int) -> int:
    """How many records, from the first on, make the next batch: one at least.

    Documented: BatchSize, or 6 MB of event, whichever comes first.
    """
    size = len(EVENT_START) + len(EVENT_END)
    for count, record in enumerate(records[:batch_size]):
        size += len(record.json) + (count > 0)
        if size > PAYLOAD_BYTES:
            return max(count, 1)
    return min(len(records), batch_size)


def is_full(records: Sequence[Record], batch_size: int) -> bool:
    """No further record goes into the batch that begins with the first."""
    return len(records) >= batch_size or cut(records, batch_size) < len(records)


def split_aged(piece: Piece, now: float, max_age_seconds: int) -> tuple[Piece | None, Piece | None]:
    """(what is too old to be delivered, the rest). Documented: Lambda sends no record above that age.

    Inferred: a piece loses its aged records from the start on; behind a young one all are taken as young.
    """
    if max_age_seconds < 0:
        return None, piece
    oldest = now - max_age_seconds
    young = (i for i, record in enumerate(piece.records) if record.arrived_at >= oldest)
    start = next(young, len(piece.records))
    aged = replace(piece, records=piece.records[:start]) if start else None
    rest = replace(piece, records=piece.records[start:]) if start < len(piece.records) else None
    return aged, rest


# ----------------------------------------------------------------------------------------------------------
# Answers
# ----------------------------------------------------------------------------------------------------------


def read_answer(answer: Any, records: Sequence[Record], reports_failures: bool) -> Verdict:
    """What a handler's return value means.

    Documented: without ReportBatchItemFailures it is ignored; a null or empty answer, a null or empty list is
    success; an identifier that is "" or null, or under another key, is failure of all; of several
    identifiers the lowest sequence number counts.
    Observed: an identifier that is not of the batch is failure of all.
    Inferred: so is an answer that is no object, and a list that is none.
    """
    success, failure = Verdict(len(records)), Verdict(0, is_failure=True)
    if not reports_failures or not answer:
        return success
    if not isinstance(answer, dict):
        return failure
    failures = answer.get("batchItemFailures")
    if failures is None or failures == []:
        return success
    if not isinstance(failures, list):
        return failure
    places = {record.sequence_number: place for place, record in enumerate(records)}
    found = []
    for each in failures:
        identifier = each.get("itemIdentifier") if isinstance(each, dict) else None
        if not isinstance(identifier, str) or identifier not in places:
            return failure
        found.append(places[identifier])
    return Verdict(min(found))


# ----------------------------------------------------------------------------------------------------------
# Retries
# ----------------------------------------------------------------------------------------------------------


def course(piece: Piece, verdict: Verdict, policy: Policy) -> Course:
    """What follows from the verdict on the piece.

    Documented: a failed batch is split in two when BisectBatchOnFunctionError is on, an answer that names a
    record splits it there; splits do not count to MaximumRetryAttempts.
    Inferred: an answer that names the first record splits nothing, so it counts, and so does every answer
    when BisectBatchOnFunctionError is off; a split part is delivered without a pause, a retry after a pause
    that doubles from one second to a minute.
    """
    if verdict.done == len(piece.records):
        return Course(verdict.done)
    rest = Piece(piece.records[verdict.done :], piece.retries, piece.invocations + 1)
    if verdict.is_failure and policy.bisects and len(rest.records) > 1:
        middle = len(rest.records) // 2
        halves = (
            replace(rest, records=rest.records[:middle]),
            replace(rest, records=rest.records[middle:]),
        )
        return Course(0, halves)
    if verdict.done and policy.bisects:
        return Course(verdict.done, (rest,))
    if 0 <= policy.max_retries <= rest.retries:
        return Course(verdict.done, (rest,), gives_up=True)
    pause = min(2**rest.retries, LONGEST_PAUSE)
    return Course(verdict.done, (replace(rest, retries=rest.retries + 1),), pause=pause)
