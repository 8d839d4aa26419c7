"""Models of S3 and of a Kinesis event source mapping that drive the handler through bad days.

A Schedule is a course of events: what is on the shards, how batches are cut, which requests fail and how,
when a PUT that its sender gave up at last reaches S3. All of it follows from the numbers in it, whatever the
handler's threads do: a fault depends on the invocation, the key and how often this key was asked for, and
a request that gives bad news waits until all uploads of its invocation have begun.

    deliver(Schedule(seed=5))               model 1: reads on from the checkpoint, as AWS documents it
    deliver(Schedule(seed=5, rereads=2))    model 2: also reads again what was acknowledged

Not modelled: two invocations of one shard at the same time; a batch of the past in another cut after which
the mapping reads on far behind it.
Source: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html (retries),
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html (412, 404, 409)
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from operator import itemgetter
from random import Random
from typing import Any, NoReturn

from botocore.exceptions import ClientError, ReadTimeoutError
from events import envelope, record

import lambda_function

SHARDS = ("shardId-000000000000", "shardId-000000000001", "shardId-000000000002")
TABLES = (
    ("public", "client", "changes/public/client/"),
    ("public", "order line", "changes/public/order%20line/"),
    ("sales", "client", "changes/sales/client/"),
)
HOURS = (
    ("2026-03-01T23", "cdc_date=2026-03-01/", "cdc_hour=23/"),
    ("2026-03-02T00", "cdc_date=2026-03-02/", "cdc_hour=00/"),
    ("2026-03-02T01", "cdc_date=2026-03-02/", "cdc_hour=01/"),
)
FIRST_SEQUENCE = 49661234567890123456789012345678901234567890123456000002
QUARANTINE = "quarantine/cdc_date=2026-03-01/"  # the day on which the records of tests/events.py arrived
SENDS = 3  # of one request, as botocore sends it again after a timeout or an HTTP 5xx
MAX_INVOCATIONS = 300  # more than any schedule needs
GATE_SECONDS = 10.0


@dataclass(frozen=True)
class Schedule:
    """All that happens in one run."""

    seed: int
    records: int = 40  # on all shards together
    troubled: int = 8  # invocations that may meet faults; the rest meet none, so that a run ends
    rereads: int = 0  # how often acknowledged records are delivered again: model 2


# ----------------------------------------------------------------------------------------------------------
# What is on the shards
# ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A record of a shard and what must become of it."""

    shard_id: str
    sequence_number: int
    folder: str  # where it must land
    landed: dict[str, Any]  # what its row must show
    event_record: dict[str, Any]

    @property
    def poison(self) -> bool:
        return self.folder == QUARANTINE

    @property
    def identity(self) -> tuple[str, int]:
        return self.shard_id, self.sequence_number


class Violation(AssertionError):
    """The bucket or the handler's answer is not what was promised, perhaps for one record."""

    def __init__(self, text: str, about: Sent | None = None) -> None:
        super().__init__(f"{text}: {about.shard_id} {about.sequence_number}" if about else text)
        self.about = about


def random_shards(random: Random, records: int) -> list[list[Sent]]:
    """One to three shards with the records spread over them; the same sequence numbers on each."""
    shards: list[list[Sent]] = [[] for _ in range(random.choice((1, 1, 2, 3)))]
    tables = TABLES[: random.randint(1, len(TABLES))]
    clean = random.random() < 0.4
    for i in range(records):
        n = random.randrange(len(shards))
        hour = HOURS[min(2, max(0, i * 3 // records + random.choice((0, 0, 0, 0, 1, -1))))]
        kind = "row" if clean else random.choice(("row",) * 8 + ("control", "own", "poison", "poison"))
        sequence_number = FIRST_SEQUENCE + 7 * len(shards[n])
        shards[n].append(make_record(random, kind, SHARDS[n], sequence_number, hour, tables))
    return [shard for shard in shards if shard]


def make_record(
    random: Random,
    kind: str,
    shard_id: str,
    sequence_number: int,
    hour: tuple[str, str, str],
    tables: tuple[tuple[str, str, str], ...],
) -> Sent:
    """A record of the kind: row, control, own (a row of DMS's own tables) or poison."""
    schema, table, folder = random.choice(tables)
    columns = {"id": sequence_number % 10**6, "shard": shard_id}
    names: dict[str, Any] = {"commit_timestamp": f"{hour[0]}:30:00Z", "schema_name": schema}
    row = envelope(columns, table_name=table, **names)
    if kind == "row":
        place, payload, landed = folder + hour[1] + hour[2], row, columns
    elif kind == "poison":
        payload = random.choice((b"{", row[:-1], b'{"metadata":7}', envelope({"cdc_lsn": 1}, **names)))
        place, landed = QUARANTINE, {"cdc_payload": base64.b64encode(payload).decode()}
    else:
        own = {"table_name": "awsdms_status"} if kind == "own" else {"record_type": "control"}
        payload = envelope(columns, **names, **own)
        place, landed = "control/" + hour[1], {"cdc_envelope": json.loads(payload)}
    event_record = record(payload, sequence_number, shard_id)
    return Sent(shard_id, sequence_number, place, landed, event_record)


# ----------------------------------------------------------------------------------------------------------
# S3
# ----------------------------------------------------------------------------------------------------------


@dataclass
class Put:
    key: str
    body: bytes
    if_none_match: str | None
    if_match: str | None
    lands_in: int | None = None  # requests for the same key from now; None is last of all


@dataclass
class Bucket:
    """Objects by key, and the PUTs that are still on their way."""

    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)  # body, ETag
    limbo: list[Put] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    trace: list[tuple[str, str, Put | None]] = field(default_factory=list)  # key, what happened, to what

    def apply(self, put: Put) -> None:
        """Writes if the condition holds. Raises the ClientError that S3 answers with."""
        etag = self.objects[put.key][1] if put.key in self.objects else None
        if put.if_match is not None and etag is None:
            raise client_error("NoSuchKey", 404, "PutObject")
        if (put.if_none_match and etag is not None) or (put.if_match is not None and put.if_match != etag):
            raise client_error("PreconditionFailed", 412, "PutObject")
        self.objects[put.key] = put.body, f'"{hashlib.md5(put.body, usedforsecurity=False).hexdigest()}"'

    def land_due(self, key: str) -> None:
        """Counts a request for the key: the PUTs in limbo that waited for it take their effect first."""
        for put in [put for put in self.limbo if put.key == key and put.lands_in is not None]:
            assert put.lands_in is not None
            put.lands_in -= 1
            if put.lands_in == 0:
                self.land(put)

    def land_all(self, random: Random) -> None:
        self.limbo.sort(key=lambda put: put.key)
        random.shuffle(self.limbo)
        for put in list(self.limbo):
            self.land(put)

    def land(self, put: Put) -> None:
        self.limbo.remove(put)
        try:
            self.apply(put)
        except ClientError as refused:
            result = refused.response["Error"]["Code"]
        else:
            result = "written"
        self.trace.append((put.key, f"lands late: {result}", put))


@dataclass
class Client:
    """The S3 client of one invocation: as botocore's, it sends a request up to three times."""

    bucket: Bucket
    seed: str  # of this invocation's faults
    fault_percent: int
    uploads: int  # as many keys will be written
    begun: set[str] = field(default_factory=set)
    requests: Counter[str] = field(default_factory=Counter)  # by key
    running: int = 0
    gate: threading.Condition = field(default_factory=threading.Condition)

    def put_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes,
        ContentType: str,
        IfNoneMatch: str | None = None,
        IfMatch: str | None = None,
    ) -> None:
        with self.request(Key):
            for send in range(SENDS):
                fault = self.next_fault(Key)
                last = send + 1 == SENDS or (fault is not None and fault.random() < 0.5)
                if self.send_put(Put(Key, Body, IfNoneMatch, IfMatch), fault, last):
                    return

    def send_put(self, put: Put, fault: Random | None, last: bool) -> bool:
        """True when S3 said yes; False when the client sends again. Raises what else the client raises."""
        effect = fault.choice(("none", "applied", "limbo", "limbo")) if fault else "applied"
        answer = fault.choice(("timeout", "timeout", "500", "403", "409")) if fault else "true"
        if effect != "none" and answer in ("403", "409"):
            answer = "timeout"
        result = effect
        with self.bucket.lock:
            self.bucket.land_due(put.key)
            if effect == "limbo":
                assert fault is not None
                put.lands_in = fault.choice((1, 1, 2, 2, 3, None, None, None))
                self.bucket.limbo.append(put)
            elif effect == "applied":
                try:
                    self.bucket.apply(put)
                except ClientError as refused:
                    result = refused.response["Error"]["Code"]
                    if answer == "true":
                        answer = result
            self.bucket.trace.append((put.key, f"{result}, answer {answer}", put))
        if answer == "true":
            return True
        if answer in ("timeout", "500") and not last:
            return False
        self.raise_answer(answer, "PutObject")

    def get_object(self, *, Bucket: str, Key: str, Range: str = "") -> dict[str, Any]:
        with self.request(Key):
            fault = self.next_fault(Key)
            with self.bucket.lock:
                self.bucket.land_due(Key)
                found = self.bucket.objects.get(Key)
            if fault:
                self.raise_answer(fault.choice(("timeout", "500", "403")), "GetObject")
            self.wait_for_all()
            if found is None:
                raise client_error("NoSuchKey", 404, "GetObject")
            body, etag = found
            first, last = Range.removeprefix("bytes=").split("-") if Range else ("0", "-1")
            return {"Body": BytesIO(body[int(first) : int(last) + 1 or None]), "ETag": etag}

    @contextmanager
    def request(self, key: str) -> Iterator[None]:
        with self.gate:
            self.begun.add(key)
            self.running += 1
            if len(self.begun) == self.uploads:
                self.gate.notify_all()
        try:
            yield
        finally:
            with self.gate:
                self.running -= 1

    def next_fault(self, key: str) -> Random | None:
        """Where the fault of this request is drawn from; None for none."""
        if not self.fault_percent:
            return None
        self.requests[key] += 1  # one upload, and so one thread, a key
        random = Random(zlib.crc32(f"{self.seed} {key} {self.requests[key]}".encode()))
        return random if random.randrange(100) < self.fault_percent else None

    def raise_answer(self, answer: str, operation: str) -> NoReturn:
        self.wait_for_all()
        if answer == "timeout":
            raise ReadTimeoutError(endpoint_url="https://landing.s3.amazonaws.com")
        code, status = {
            "500": ("InternalError", 500),
            "403": ("AccessDenied", 403),
            "409": ("ConditionalRequestConflict", 409),
            "NoSuchKey": ("NoSuchKey", 404),
            "PreconditionFailed": ("PreconditionFailed", 412),
        }[answer]
        raise client_error(code, status, operation)

    def wait_for_all(self) -> None:
        """Returns once every upload has begun: a failure cancels no upload that another run would see."""
        with self.gate:
            if not self.gate.wait_for(lambda: len(self.begun) >= self.uploads, GATE_SECONDS):
                raise Violation(f"{len(self.begun)} uploads began, expected {self.uploads}")


def client_error(code: str, status: int, operation: str) -> ClientError:
    error = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(error, operation)


def described(put: Put) -> str:
    condition = f"If-Match {put.if_match}" if put.if_match else f"If-None-Match {put.if_none_match}"
    generation = int.from_bytes(put.body[4:8], "little")
    return f"PUT of {len(decoded(put.body))} rows, generation {generation}, {condition}"


@lru_cache(maxsize=256)
def decoded(body: bytes) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress(body).splitlines()]


# ----------------------------------------------------------------------------------------------------------
# The event source mapping, and the promises
# ----------------------------------------------------------------------------------------------------------


@dataclass
class Reader:
    """How far a shard is read."""

    records: list[Sent]
    checkpoint: int = 0  # index of the first record that is not acknowledged
    ends: list[int] = field(default_factory=list)  # where earlier batches ended
    acknowledged: list[tuple[int, int]] = field(default_factory=list)

    def cut(self, random: Random) -> int:
        """The end of the next batch: anywhere behind the checkpoint, often where one has ended before."""
        earlier = [end for end in self.ends if end > self.checkpoint]
        unread = len(self.records) - self.checkpoint
        if earlier and random.random() < 0.6:
            return random.choice(earlier)
        if random.random() < 0.2:
            return len(self.records)
        return self.checkpoint + 1 + min(random.randrange(unread), random.randrange(unread))

    def acknowledge(self, end: int) -> None:
        if end > self.checkpoint:
            self.acknowledged.append((self.checkpoint, end))
        self.checkpoint = end

    def read_again_from(self, index: int) -> None:
        self.checkpoint = index
        self.acknowledged = [piece for piece in self.acknowledged if piece[1] <= index]


@dataclass
class Run:
    """A schedule under way."""

    schedule: Schedule
    random: Random
    readers: list[Reader]
    bucket: Bucket = field(default_factory=Bucket)
    on_poison: str = "quarantine"
    patience: int = 0  # how many stops the operator sees until quarantine is asked for
    troubled: int = 0
    rereads: int = 0
    invocations: int = 0

    def step(self) -> None:
        """One delivery of one batch."""
        if self.rereads and (not self.unread() or self.random.random() < 0.2):
            self.rereads -= 1
            self.read_again(self.random.choice(self.readers))
        elif unread := self.unread():
            reader = self.random.choice(unread)
            end = reader.cut(self.random)
            reader.ends.append(end)
            acknowledged = self.invoke(reader, reader.checkpoint, end)
            if acknowledged is not None:
                reader.acknowledge(acknowledged)
                self.assert_landed(reader)

    def read_again(self, reader: Reader) -> None:
        """An acknowledged batch comes once more, just as it was, or all is read again from somewhere on."""
        if reader.acknowledged and self.random.random() < 0.5:
            start, end = self.random.choice(reader.acknowledged)
            self.note("an acknowledged batch is delivered again")
            read_to = self.invoke(reader, start, end)
            if read_to != end:
                reader.read_again_from(start if read_to is None else read_to)
        else:
            reader.read_again_from(self.random.randint(0, reader.checkpoint))
            self.note(f"{reader.records[0].shard_id} is read again from record {reader.checkpoint}")

    def unread(self) -> list[Reader]:
        return [reader for reader in self.readers if reader.checkpoint < len(reader.records)]

    def invoke(self, reader: Reader, start: int, end: int) -> int | None:
        """Where the shard is to be read on: behind the batch, at a poison record; None after an error."""
        self.invocations += 1
        if self.invocations > MAX_INVOCATIONS:
            raise Violation(f"not all is acknowledged after {MAX_INVOCATIONS} invocations")
        batch = reader.records[start:end]
        stop = self.on_poison == "stop"
        readable = next((i for i, sent in enumerate(batch) if sent.poison and stop), len(batch))
        troubled = self.troubled > 0 and self.random.random() < 0.9
        self.troubled -= troubled
        client = Client(
            self.bucket,
            seed=f"{self.schedule.seed} {self.invocations}",
            fault_percent=self.random.choice((10, 30, 30, 60)) if troubled else 0,
            uploads=len({sent.folder for sent in batch[:readable]}),
        )
        result_lost = troubled and self.random.random() < 0.3
        must_succeed = not client.fault_percent and not self.bucket.limbo
        where = f"{batch[0].shard_id} from record {start} to before {end}"
        self.note(f"invocation {self.invocations}: {where}, ON_POISON={self.on_poison}")
        traced = len(self.bucket.trace)
        stopped_at = self.call_handler(client, batch)
        self.bucket.trace[traced:] = sorted(self.bucket.trace[traced:], key=itemgetter(0))
        if client.running:
            raise Violation(f"{client.running} requests outlived their invocation")
        if stopped_at == "failed" and must_succeed:
            raise Violation("the handler failed, and nothing else did")
        if stopped_at == "failed" or result_lost:
            self.note("  the function failed" if stopped_at == "failed" else "  the result is lost")
            return None
        expected = str(batch[readable].sequence_number) if readable < len(batch) else None
        if stopped_at != expected:
            raise Violation(f"stopped at {stopped_at}, expected {expected}")
        self.decide(stopped=stopped_at is not None)
        return start + readable

    def call_handler(self, client: Client, batch: list[Sent]) -> str | None:
        """Where the handler says that it stopped; "failed" when it raised what it may raise."""
        settings = lambda_function.Settings("landing", on_poison=self.on_poison, log_level="ERROR")
        event = {"Records": [sent.event_record for sent in batch]}
        try:
            read, _ = lambda_function.land(event, settings, lambda _: client, lambda: 120)
        except lambda_function.UploadError:
            return "failed"
        except Violation:
            raise
        except Exception as error:
            raise Violation("the handler raised something else than UploadError") from error
        return read.stopped_at

    def decide(self, stopped: bool) -> None:
        """The operator lets a stop be retried once or twice, then switches over, and some day back."""
        self.patience -= stopped
        if stopped and self.patience == 0:
            self.on_poison = "quarantine"
        elif self.on_poison == "quarantine" and self.random.random() < 0.1:
            self.on_poison, self.patience = "stop", self.random.randint(1, 3)

    def assert_landed(self, reader: Reader) -> None:
        """What was acknowledged is in the bucket now, and in model 1 no more than once."""
        found = Counter(self.identities())
        for sent in reader.records[: reader.checkpoint]:
            if not found[sent.identity]:
                raise Violation("acknowledged, but missing", sent)
            if found[sent.identity] > 1 and not self.schedule.rereads:
                raise Violation(f"acknowledged, and in {found[sent.identity]} objects", sent)

    def identities(self) -> Iterator[tuple[str, int]]:
        for body, _ in self.bucket.objects.values():
            for row in decoded(body):
                yield row["cdc_shard_id"], int(row["cdc_sequence_number"])

    def assert_exact(self) -> None:
        """Each row is its record's, in its folder and in order; no record is missing, none is twice."""
        sent = {record.identity: record for reader in self.readers for record in reader.records}
        found = Counter(self.identities())
        for key, (body, _) in self.bucket.objects.items():
            rows = decoded(body)
            sequence_numbers = [int(row["cdc_sequence_number"]) for row in rows]
            if sequence_numbers != sorted(sequence_numbers):
                raise Violation(f"out of stream order: {key}")
            for row, sequence_number in zip(rows, sequence_numbers, strict=True):
                record = sent[row["cdc_shard_id"], sequence_number]
                if key.rpartition("/")[0] + "/" != record.folder:
                    raise Violation(f"in {key}, expected {record.folder}", record)
                if {name: row.get(name) for name in record.landed} != record.landed:
                    raise Violation("not what was sent", record)
        for identity, record in sent.items():
            if not found[identity]:
                raise Violation("missing at the end", record)
            if found[identity] > 1 and not self.schedule.rereads:
                raise Violation("twice at the end", record)

    def note(self, text: str) -> None:
        self.bucket.trace.append(("", text, None))

    def course(self, about: Sent | None = None) -> str:
        """What happened, in words; to the objects of one record's folder and shard."""
        return "\n".join(
            f"    {key}: {described(put)}: {text}" if put else text
            for key, text, put in self.bucket.trace
            if not (put and about) or key.startswith(f"{about.folder}{about.shard_id}")
        )


def deliver(schedule: Schedule) -> Run:
    """Lets the schedule happen and checks every promise on the way. Raises Violation."""
    random = Random(schedule.seed)
    readers = [Reader(records) for records in random_shards(random, schedule.records)]
    run = Run(schedule, random, readers, troubled=schedule.troubled, rereads=schedule.rereads)
    if random.random() < 0.4:
        run.on_poison, run.patience = "stop", random.randint(1, 3)
    try:
        while run.unread() or run.rereads:
            run.step()
        run.bucket.land_all(random)
        run.assert_exact()
    except Violation as violation:
        raise Violation(f"{violation}\n{schedule}\n{run.course(violation.about)}") from violation.__cause__
    return run
