"""Reads one shard, hands its records to the function, and gives up what may be tried no longer."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from local_run.event_source_mapping.batches import (
    Origin,
    Piece,
    Policy,
    Record,
    StreamRecord,
    Verdict,
    course,
    cut,
    event_record,
    is_full,
    read_answer,
    split_aged,
)
from local_run.event_source_mapping.configuration import Deployed, EventSourceMapping, MappingError
from local_run.event_source_mapping.status import Counters, iso_text, note, now, write_json
from local_run.runtime import ExecutionEnvironment, Outcome

RECORDS_A_READ = 10_000  # documented: GetRecords gives no more
LOST_ITERATOR = {"ExpiredIteratorException", "InvalidArgumentException"}
GET_RECORDS = "before-parse.kinesis.GetRecords"
AGED, EXHAUSTED = "RecordAgeExceeded", "RetryAttemptsExhausted"  # observed; documented

# ----------------------------------------------------------------------------------------------------------
# Value types
# ----------------------------------------------------------------------------------------------------------


class GetRecordsAnswer(msgspec.Struct, frozen=True):
    records: list[StreamRecord] = msgspec.field(name="Records")
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)
    behind_ms: int = msgspec.field(name="MillisBehindLatest", default=0)


@dataclass(frozen=True)
class Setup:
    """What AWS says of the mapping and its function just now, and where the function's code is."""

    mapping: EventSourceMapping
    deployed: Deployed
    code: Path
    runtime: Path


class Checkpoints:
    """How far each shard is read, in a file: {"shardId-0": {"after": "4967...", "is_finished": false}}."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.shards: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def after(self, shard_id: str) -> str | None:
        """The sequence number of the last acknowledged record; None when none is."""
        found: str | None = self.shards.get(shard_id, {}).get("after")
        return found

    def is_finished(self, shard_id: str) -> bool:
        return bool(self.shards.get(shard_id, {}).get("is_finished"))

    def save(self, shard_id: str, **changes: Any) -> None:
        with self.lock:
            self.shards = {**self.shards, shard_id: {**self.shards.get(shard_id, {}), **changes}}
            write_json(self.path, self.shards)


@dataclass
class Desk:
    """What all shards of a mapping work with; the main thread replaces setup when AWS says otherwise."""

    setup: Setup
    kinesis: Any
    s3: Any
    checkpoints: Checkpoints
    counters: Counters
    second: float  # of the mapping's own clock
    logs: Path
    stop: threading.Event
    changed: threading.Event  # a shard has ended or failed


def kinesis_client(session: Any, **options: Any) -> Any:
    """A client whose GetRecords answers {"Body": the JSON as it came}: botocore's reading of it is slow."""
    client = session.client("kinesis", **options)
    client.meta.events.register(GET_RECORDS, keep_body)
    return client


def keep_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] == 200:
        customized_response_dict["Body"] = response_dict["body"]
        response_dict["body"] = b"{}"


decode_answer = msgspec.json.Decoder(GetRecordsAnswer).decode

# ----------------------------------------------------------------------------------------------------------
# Reading a shard
# ----------------------------------------------------------------------------------------------------------


class ShardReader(threading.Thread):
    """Reads one shard until its end, or until desk.stop; then failure says why, if it could not go on."""

    def __init__(self, shard_id: str, desk: Desk) -> None:
        super().__init__(name=shard_id, daemon=True)
        self.shard_id = shard_id
        self.desk = desk
        self.read_to = desk.checkpoints.after(shard_id)  # the last record that was read
        self.iterator: str | None = None
        self.waiting: list[Record] = []  # read, and not handed over
        self.waiting_since = 0.0  # on the monotonic clock
        self.has_ended = False  # the shard is closed, and all of it read
        self.is_behind = False
        self.caught_up_at: float | None = None  # of the last read that found nothing, with nothing waiting
        self.troubles = 0  # reads that failed, one after the other
        self.environment: ExecutionEnvironment | None = None
        self.failure: Exception | None = None

    @property
    def policy(self) -> Policy:
        return self.desk.setup.mapping.policy

    def run(self) -> None:
        try:
            while not self.desk.stop.is_set() and not self.desk.checkpoints.is_finished(self.shard_id):
                self.take_turn()
        except Exception as error:
            self.failure = error
        finally:
            self.close_environment()
            self.desk.changed.set()

    def take_turn(self) -> None:
        """Reads once, delivers what is due, waits for the next turn.

        Documented: a shard is read once a second, and without a pause while there is more to read.
        """
        started = time.monotonic()
        self.is_behind = False
        if not self.has_ended and not is_full(self.waiting, self.policy.batch_size):
            self.read(started)
        while self.is_due(started) and not self.desk.stop.is_set():
            self.deliver_batch(started)
        if self.has_ended and not self.waiting and not self.desk.stop.is_set():
            self.desk.checkpoints.save(self.shard_id, is_finished=True)
        elif not self.is_behind:
            self.desk.stop.wait(max(0.0, started + self.desk.second - time.monotonic()))

    def is_due(self, turn: float) -> bool:
        """Documented: BatchSize, 6 MB or the window, whichever comes first; a closed shard has no more."""
        if not self.waiting:
            return False
        window = self.policy.window_seconds * self.desk.second
        is_over = turn - self.waiting_since >= window
        return self.has_ended or is_over or is_full(self.waiting, self.policy.batch_size)

    def read(self, turn: float) -> None:
        asked_at = now()
        try:
            self.iterator = self.iterator or self.ask_iterator()
            room = max(1, self.policy.batch_size - len(self.waiting))
            body = self.desk.kinesis.get_records(
                ShardIterator=self.iterator, Limit=min(room, RECORDS_A_READ)
            )["Body"]
        except (ClientError, BotoCoreError) as error:
            return self.bear(error)
        try:
            answer = decode_answer(body)
        except msgspec.ValidationError as error:
            raise MappingError(
                f"cannot read {self.shard_id}: GetRecords gave what Kinesis does not: {error}"
            ) from error
        if self.troubles:
            self.desk.counters.note_trouble(self.shard_id, None)
        self.troubles = 0
        self.iterator, self.has_ended = answer.next_iterator, answer.next_iterator is None
        self.is_behind = answer.behind_ms > 0 or len(answer.records) >= min(room, RECORDS_A_READ)
        if answer.records:
            self.caught_up_at = None
            self.take(answer.records, turn)
        elif not self.waiting and not self.is_behind:
            self.caught_up_at = asked_at

    def take(self, found: Sequence[StreamRecord], turn: float) -> None:
        mapping, deployed = self.desk.setup.mapping, self.desk.setup.deployed
        region = mapping.stream_arn.split(":")[3]
        origin = Origin(mapping.stream_arn, self.shard_id, deployed.role_arn, region)
        if not self.waiting:
            self.waiting_since = turn
        self.waiting += [event_record(record, origin) for record in found]
        self.read_to = found[-1].sequence_number

    def ask_iterator(self) -> str:
        """An iterator behind the last record that was read; without one, where the mapping starts."""
        mapping = self.desk.setup.mapping
        where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if self.read_to is not None:
            where = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": self.read_to,
            }
        elif mapping.starts_at is not None:
            where = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": mapping.starts_at}
        stream = mapping.stream_arn.rpartition("/")[2]
        answer = self.desk.kinesis.get_shard_iterator(StreamName=stream, ShardId=self.shard_id, **where)
        iterator: str = answer["ShardIterator"]
        return iterator

    def bear(self, error: Exception) -> None:
        """Waits longer from trouble to trouble: a read is tried again as long as the mapping is there."""
        code = code_of(error)
        if code in LOST_ITERATOR:
            self.iterator = None
        self.desk.counters.note_trouble(self.shard_id, f"cannot be read: {code}")
        self.desk.stop.wait(min(2**self.troubles, 10) * self.desk.second)
        self.troubles += 1

    # ------------------------------------------------------------------------------------------------------
    # Delivering a batch
    # ------------------------------------------------------------------------------------------------------

    def deliver_batch(self, turn: float) -> None:
        """Delivers the next batch, until each of its records is acknowledged or given up."""
        count = cut(self.waiting, self.policy.batch_size)
        pieces: list[Piece] = [Piece(self.waiting[:count])]
        self.waiting, self.waiting_since = self.waiting[count:], turn
        while pieces and not self.desk.stop.is_set():
            aged, rest = split_aged(pieces.pop(0), now(), self.policy.max_age_seconds)
            if aged:
                self.give_up(aged, AGED, None)
            if rest:
                pieces[:0] = self.deliver(rest)

    def deliver(self, piece: Piece) -> Sequence[Piece]:
        """What is still to be delivered of the piece after one invocation."""
        outcome, verdict = self.invoke(piece)
        what_follows = course(piece, verdict, self.policy)
        if what_follows.done:
            self.desk.counters.count_landed(piece.records[: what_follows.done], now())
            self.acknowledge(piece.records[: what_follows.done])
        if what_follows.gives_up:
            self.give_up(what_follows.pieces[0], EXHAUSTED, outcome)
            return what_follows.pieces[1:]
        self.desk.stop.wait(what_follows.pause * self.desk.second)
        return what_follows.pieces

    def invoke(self, piece: Piece) -> tuple[Outcome, Verdict]:
        deployed, policy = self.desk.setup.deployed, self.policy
        environment = self.ready_environment()
        self.desk.counters.count_handover(self.shard_id, piece.records[-1], now())
        try:
            outcome = environment.invoke(piece.event, deployed.timeout_seconds)
        except ValueError:
            # Inferred: one record above 6 MB fails as Invoke does with such an event, until it is given up.
            outcome = Outcome("error", {"errorType": "RequestEntityTooLarge"})
        verdict = Verdict(0, is_failure=True)
        if outcome.kind == "response":
            verdict = read_answer(outcome.payload, piece.records, policy.reports_failures)
        is_error = outcome.kind != "response"
        self.desk.counters.count_invocation(
            is_failure=is_error, seconds=outcome.seconds, lines=environment.new_lines()
        )
        if is_error:
            found = outcome.payload.get("errorType") if isinstance(outcome.payload, dict) else None
            first, count = piece.records[0].sequence_number, len(piece.records)
            reason = f"{outcome.kind} {found or outcome.exit_code or ''}".strip()
            note(f"{self.shard_id}: {count} records from {first} on: invocation failed: {reason}")
        if outcome.kind in ("exit", "timeout", "init error"):
            self.close_environment()
        return outcome, verdict

    def ready_environment(self) -> ExecutionEnvironment:
        """The environment of the shard: a new one when it has ended since, or the function was changed."""
        setup = self.desk.setup
        if self.environment and (
            self.environment.has_ended or self.environment.function != setup.deployed.function
        ):
            self.close_environment()
        if self.environment is None:
            log = self.desk.logs / f"function-{self.shard_id}.log"
            self.environment = ExecutionEnvironment(setup.code, setup.deployed.function, setup.runtime, log)
        return self.environment

    def close_environment(self) -> None:
        environment, self.environment = self.environment, None
        if environment is not None:
            environment.close()

    def acknowledge(self, records: Sequence[Record]) -> None:
        self.desk.checkpoints.save(self.shard_id, after=records[-1].sequence_number)

    def give_up(self, piece: Piece, condition: str, outcome: Outcome | None) -> None:
        """Sends the records to the on-failure destination, if there is one, and goes on behind them.

        Inferred: a destination that can't be written is no reason for AWS to wait either.
        """
        setup = self.desk.setup
        if setup.mapping.bucket:
            document = invocation_record(piece, setup, self.shard_id, condition, outcome)
            key = failed_key(setup.mapping.uuid, self.shard_id, datetime.now(UTC))
            try:
                self.desk.s3.put_object(Bucket=setup.mapping.bucket, Key=key, Body=document)
            except (ClientError, BotoCoreError) as error:
                note(f"{self.shard_id}: cannot write s3://{setup.mapping.bucket}/{key}: {code_of(error)}")
        first, count = piece.records[0].sequence_number, len(piece.records)
        note(f"{self.shard_id}: {count} records from {first} on: given up: {condition}")
        self.desk.counters.count_given_up(piece.records)
        self.acknowledge(piece.records)


def failed_key(mapping_uuid: str, shard_id: str, time_utc: datetime) -> str:
    """Documented: aws/lambda/{uuid}/{shard}/2026/03/01/2026-03-01T09.16.10-{another uuid}."""
    return f"aws/lambda/{mapping_uuid}/{shard_id}/{time_utc:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"


def invocation_record(
    piece: Piece, setup: Setup, shard_id: str, condition: str, outcome: Outcome | None
) -> bytes:
    """Documented: metadata of the invocation, and, in S3, the event as text under payload.

    Inferred: records that were never tried have no responseContext, an answer no functionError.
    """
    response = None
    if outcome is not None:
        response = {"statusCode": 200, "executedVersion": setup.deployed.function.version}
        if outcome.kind != "response":
            response["functionError"] = "Unhandled"
    document = {
        "requestContext": {
            "requestId": outcome.request_id if outcome else str(uuid.uuid4()),
            "functionArn": setup.deployed.function.arn,
            "condition": condition,
            "approximateInvokeCount": piece.invocations,
        },
        "responseContext": response,
        "version": "1.0",
        "timestamp": iso_text(now()),
        "KinesisBatchInfo": batch_info(piece, setup, shard_id),
        "payload": piece.event.decode(),
    }
    return msgspec.json.encode(document)


def batch_info(piece: Piece, setup: Setup, shard_id: str) -> dict[str, Any]:
    first, last = piece.records[0], piece.records[-1]
    return {
        "shardId": shard_id,
        "startSequenceNumber": first.sequence_number,
        "endSequenceNumber": last.sequence_number,
        "approximateArrivalOfFirstRecord": iso_text(first.arrived_at),
        "approximateArrivalOfLastRecord": iso_text(last.arrived_at),
        "batchSize": len(piece.records),
        "streamArn": setup.mapping.stream_arn,
    }


def code_of(error: Exception) -> str:
    """AWS's code of an error, or what kind of error kept the request from AWS."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__
