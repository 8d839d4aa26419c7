"""Runs what was set aside through the handler's own code, into objects of their own.

    changes/public/client/cdc_date=2026-03-01/cdc_hour=09/shardId-000000000000-{first}.redrive.jsonl.gz

Promise: an object that is there is never written over; a record is marked as landed, and a batch removed from
the failed bucket, only after each of its rows is in S3. Killed at any moment and run again, it ends the same;
run twice, the second run changes nothing. A record may come to stand in two objects, under one identity
(cdc_shard_id, cdc_sequence_number), as after a batch that was delivered again: readers keep one.
What is masked lands masked; who does not know the masks is refused.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lake_tools.bucket import QUARANTINE, Lake, LakeObject, code_of
from lake_tools.schemas import require_masks
from lake_tools.set_aside import (
    REDRIVEN,
    RESTRICTED,
    Batch,
    PoisonObject,
    QuarantinedRecord,
    lines_of,
    sequence_number,
)
from lake_tools.settings import LakeError
from lambda_function import (
    CONFLICT_ROUNDS,
    EventError,
    LandingObject,
    Settings,
    event_records,
    gzipped,
    landing_objects,
    masking_of,
    read_batch,
    why_failed,
)

THREADS = 8  # each holds a batch of 6 MB and what is made of it
SUFFIX = ".jsonl.gz"
NOT_BASE64 = "the data is not base64"  # the handler's reason: then the payload is the text that was there
GZIP = "application/gzip"

SetAside = TypeVar("SetAside")

# ----------------------------------------------------------------------------------------------------------
# Entry points
# ----------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of what was set aside; of a dry run, what would."""

    sources: int = 0  # objects of quarantine/, or batches
    landed: Counter[str] = field(default_factory=Counter)  # records by folder: "changes/public/client/"
    new_objects: int = 0
    poison: Counter[str] = field(default_factory=Counter)  # records that can't be read, by reason
    faults: dict[str, str] = field(default_factory=dict)  # by key, why a batch can't be redriven

    def add(self, other: Outcome) -> None:
        self.sources += other.sources
        self.landed += other.landed
        self.new_objects += other.new_objects
        self.poison += other.poison
        self.faults |= other.faults

    @property
    def is_whole(self) -> bool:
        """Nothing is left for another time."""
        return not self.poison and not self.faults


def redrive_quarantine(lake: Lake, objects: Sequence[PoisonObject], is_dry: bool) -> Outcome:
    """Lands what can be read now; the rest stays where it is. Raises LakeError when a write fails."""
    return redrive_all(
        lake, "records that could not be read", objects, lambda one: redrive_poison(lake, one, is_dry)
    )


def redrive_batches(lake: Lake, failed: Lake, batches: Sequence[Batch], is_dry: bool) -> Outcome:
    """Lands the batches; what can't be read goes to quarantine/, as if the function had been given them."""
    return redrive_all(
        lake, "batches given up", batches, lambda one: redrive_batch(lake, failed, one, is_dry)
    )


def redrive_all(
    lake: Lake, what: str, sources: Sequence[SetAside], redrive: Callable[[SetAside], Outcome]
) -> Outcome:
    """All of them, several at a time. After a failure no other is begun.

    Raises LakeError, before anything is written, where values would land that are to be masked.
    """
    if sources:
        refuse_raw_rows(lake)
    total = Outcome()
    pool = ThreadPoolExecutor(THREADS)
    try:
        with lake.progress.of(f"redriving {what}", len(sources)) as advance:
            for future in as_completed([pool.submit(redrive, source) for source in sources]):
                total.add(future.result())
                advance(1)
    finally:
        pool.shutdown(cancel_futures=True)
    return total


def refuse_raw_rows(lake: Lake) -> None:
    """Raises LakeError for settings without masks that the schemas, or the quarantine, tell of."""
    require_masks(lake)
    if not lake.settings.masks and lake.objects(RESTRICTED):
        raise LakeError(
            f"{lake.uri(RESTRICTED)} has records, so columns are masked, and MASKED_COLUMNS is not set: "
            "set it, and MASK_SECRET or MASK_SECRET_ARN, as for setup_dms.py; "
            f"where nothing is masked any more, move them to {QUARANTINE}"
        )


def redrive_poison(lake: Lake, poison: PoisonObject, is_dry: bool) -> Outcome:
    records = poison.read()
    waiting = [event_record(one) for number, one in records.items() if number not in poison.landed]
    landing, reasons = run_handler(waiting, lake)
    rows = [one for one in landing if not one.key.startswith(QUARANTINE)]
    outcome = Outcome(1, count_by_folder(rows), 0, reasons)
    if not is_dry:
        landed, outcome.new_objects = land(lake, rows)
        mark(lake, poison.found, records, {**poison.landed, **landed})
    return outcome


def redrive_batch(lake: Lake, failed: Lake, batch: Batch, is_dry: bool) -> Outcome:
    try:
        landing, reasons = run_handler(event_records(batch.event), lake)
    except EventError as error:
        return Outcome(1, faults={batch.found.key: str(error)})
    rows = [one for one in landing if not one.key.startswith(QUARANTINE)]
    outcome = Outcome(1, count_by_folder(rows), 0, reasons)
    if not is_dry:
        _, outcome.new_objects = land(lake, landing)
        remove(failed, batch)
    return outcome


# ----------------------------------------------------------------------------------------------------------
# Through the handler
# ----------------------------------------------------------------------------------------------------------


def event_record(record: QuarantinedRecord) -> dict[str, Any]:
    """The record of a Kinesis event that it was."""
    row = record.row
    data = row.cdc_payload
    if row.cdc_reason == NOT_BASE64:
        data = record.payload.decode("utf-8", "surrogatepass")
    return {
        "kinesis": {
            "partitionKey": row.cdc_partition_key,
            "sequenceNumber": row.cdc_sequence_number,
            "data": data,
            "approximateArrivalTimestamp": record.arrived_at.timestamp(),
        },
        "eventSource": "aws:kinesis",
        "eventID": f"{row.cdc_shard_id}:{row.cdc_sequence_number}",
        "eventSourceARN": row.cdc_stream_arn,
    }


def run_handler(records: list[Any], lake: Lake) -> tuple[list[LandingObject], Counter[str]]:
    """What the handler would write of the records, and why some of them are to be set aside (again).

    Raises EventError, or PipelineError when the key of the masks can't be read.
    """
    if not records:
        return [], Counter()
    settings = Settings(
        on_poison="quarantine",
        before_image_field=lake.settings.before_image_field,
        masked_columns=lake.settings.masked_columns,
        mask_secret=lake.settings.mask_secret,
        mask_secret_arn=lake.settings.mask_secret_arn,
        log_level="ERROR",
    )
    landing = list(landing_objects(read_batch(records, settings, masking_of(settings)), prefix=""))
    set_aside = [one for one in landing if one.key.startswith(QUARANTINE)]
    return landing, Counter(json.loads(line)["cdc_reason"] for one in set_aside for line in json_lines(one))


def json_lines(landing_object: LandingObject) -> list[bytes]:
    return b"".join(landing_object.json_lines).split(b"\n")[:-1]


def count_by_folder(landing: Iterable[LandingObject]) -> Counter[str]:
    """{"changes/public/client/": 12, "control/": 1}"""
    counts: Counter[str] = Counter()
    for one in landing:
        counts[one.key.partition("cdc_date=")[0]] += one.rows
    return counts


# ----------------------------------------------------------------------------------------------------------
# Writing
# ----------------------------------------------------------------------------------------------------------


def land(lake: Lake, landing: Iterable[LandingObject]) -> tuple[dict[str, str], int]:
    """Where each row is now, by sequence number, and how many objects were written."""
    landed: dict[str, str] = {}
    new_objects = 0
    for landing_object in landing:
        rows = {sequence_number(line): line for line in json_lines(landing_object)}
        while rows:
            key = redrive_key(landing_object.key, next(iter(rows)))
            is_new = put_new(lake, key, rows.values())
            new_objects += is_new
            held = set(rows) if is_new else held_by(lake, key)
            landed |= dict.fromkeys(rows.keys() & held, key)
            rows = {number: line for number, line in rows.items() if number not in held}
    return landed, new_objects


def redrive_key(key: str, first_sequence_number: str) -> str:
    """The object's key where its first row is this one."""
    return f"{key.rpartition('-')[0]}-{first_sequence_number}.redrive{SUFFIX}"


def put_new(lake: Lake, key: str, lines: Iterable[bytes]) -> bool:
    """False where there is an object already. While somebody else is writing it just now: the same again."""
    body = gzipped([line + b"\n" for line in lines])
    for _ in range(CONFLICT_ROUNDS - 1):
        try:
            return lake.put(key, body, GZIP, only_if_new=True)
        except LakeError as error:
            if code_of(error) != "ConditionalRequestConflict":
                raise
    return lake.put(key, body, GZIP, only_if_new=True)


def held_by(lake: Lake, key: str) -> set[str]:
    """The rows of an object that is there. Each holds the row that its key names, so that land() comes to an
    end; one that does not is of somebody else. Raises LakeError.
    """
    body = lake.get(key)
    if body is None:
        raise LakeError(f"cannot write {lake.uri(key)}: it is removed while it is written: run this again")
    try:
        held = {sequence_number(line) for line in lines_of(body)}
    except (OSError, EOFError, zlib.error, LakeError):
        held = set()
    if key.removesuffix(f".redrive{SUFFIX}").rpartition("-")[2] not in held:
        raise LakeError(
            f"cannot write {lake.uri(key)}: an object that is not of this pipeline has this key: move it away"
        )
    return held


def mark(
    lake: Lake, found: LakeObject, records: Mapping[str, QuarantinedRecord], landed: Mapping[str, str]
) -> None:
    """Says which records of this version of the object have landed, and where, unless that was said."""
    numbers = [number for number in records if number in landed]
    if not numbers:
        return
    shard_id = records[numbers[0]].row.cdc_shard_id
    lines = [
        json.dumps(
            {"cdc_shard_id": shard_id, "cdc_sequence_number": number, "cdc_landed_in": landed[number]},
            separators=(",", ":"),
        ).encode()
        for number in numbers
    ]
    key = f"{REDRIVEN}{found.key}/{found.etag}.{len(numbers)}-of-{len(records)}{SUFFIX}"
    put_new(lake, key, lines)


def remove(failed: Lake, batch: Batch) -> None:
    """Takes the batch out of the bucket, whose alarm counts what lies there. Raises LakeError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        failed.s3.delete_object(**failed.address(batch.found.key))
    except (ClientError, BotoCoreError) as error:
        code = getattr(error, "response", {}).get("Error", {}).get("Code")
        reason = "AccessDenied: allow s3:DeleteObject on it" if code == "AccessDenied" else why_failed(error)
        uri = failed.uri(batch.found.key)
        raise LakeError(f"the batch has landed, but cannot delete {uri}: {reason}; run this again") from error
