"""What did not land: records in quarantine/, and batches that Lambda gave up, in a bucket of theirs.

    quarantine/cdc_date=2026-03-01/shardId-000000000000-{first sequence}.jsonl.gz
    quarantine/restricted/cdc_date=2026-03-01/...      while columns are masked; not for everybody to read
    {"cdc_reason": "...", "cdc_shard_id": "...", "cdc_sequence_number": "...", "cdc_payload": "base64", ...}

    s3://{PIPELINE_NAME}-failed-{account}/aws/lambda/{mapping}/{shard}/2026/03/01/...
    {"requestContext": {"condition": "RetryAttemptsExhausted", ...}, "KinesisBatchInfo": {...},
     "payload": "{\\"Records\\":[...]}"}

What of quarantine/ has landed since is told by marks of redrive.py, beside the folder, never in it:

    redriven/quarantine/cdc_date=2026-03-01/{name of the object}/{its ETag}.2-of-3.jsonl.gz
    {"cdc_shard_id": "...", "cdc_sequence_number": "...", "cdc_landed_in": "changes/public/client/..."}

A mark is of one version of an object: the function may write the object again, with other records in it.
This only reads.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from lake_tools.bucket import QUARANTINE, Lake, LakeObject
from lake_tools.settings import LakeError
from lambda_function import NAME_BYTES, EventError, Metadata, QuarantineRow, event_records

RESTRICTED = f"{QUARANTINE}restricted/"
REDRIVEN = "redriven/"
GIVEN_UP = "aws/lambda/"  # documented: how the keys begin that AWS chooses
MARK = re.compile(
    r"redriven/(?P<key>.+)/(?P<etag>[^/]+)\.(?P<landed>[0-9]+)-of-(?P<records>[0-9]+)\.jsonl\.gz"
)
SEQUENCE_NUMBER = re.compile(rb'"cdc_sequence_number":"([0-9]+)"')

decode_row = msgspec.json.Decoder(QuarantineRow).decode

# ----------------------------------------------------------------------------------------------------------
# Value types
# ----------------------------------------------------------------------------------------------------------


class MarkRow(msgspec.Struct):
    cdc_sequence_number: str
    cdc_landed_in: str


decode_mark = msgspec.json.Decoder(MarkRow).decode


class QuarantinedRecord:
    """A row of quarantine/. Raises ValueError when it is none that the handler writes."""

    def __init__(self, row: QuarantineRow) -> None:
        self.row = row
        self.payload = b64decode(row.cdc_payload, validate=True)
        self.arrived_at = datetime.fromisoformat(row.cdc_arrived_at)

    @property
    def table(self) -> str:
        """ "public.client" where the payload still says so, else ""; names that are in every object's key."""
        try:
            envelope = msgspec.json.decode(self.payload, type=dict[str, msgspec.Raw])
            metadata = msgspec.json.decode(envelope["metadata"], type=Metadata)
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, RecursionError):
            return ""
        names = [name for name in (metadata.schema_name, metadata.table_name) if name]
        is_name = all(len(name.encode()) <= NAME_BYTES for name in names)
        return ".".join(names) if is_name else ""


@dataclass(frozen=True)
class PoisonObject:
    """An object of quarantine/ without a mark that says of all its records that they have landed."""

    found: LakeObject
    path: Path  # its copy on this machine
    landed: Mapping[str, str]  # by sequence number, where a redrive put the record

    def read(self) -> dict[str, QuarantinedRecord]:
        """All its records, by sequence number, in stream order. Raises LakeError."""
        try:
            rows = [decode_row(line) for line in lines_of(self.path.read_bytes())]
            return {row.cdc_sequence_number: QuarantinedRecord(row) for row in rows}
        except (msgspec.DecodeError, ValueError, OSError, EOFError, zlib.error):
            raise LakeError(
                f"cannot read {self.found.key} as quarantined records: "
                f"if something else wrote it, move it out of {QUARANTINE}"
            ) from None  # their texts may quote it

    def waiting(self) -> list[QuarantinedRecord]:
        """Those that no redrive has landed."""
        return [record for number, record in self.read().items() if number not in self.landed]


@dataclass(frozen=True)
class Batch:
    """A batch that Lambda gave up, as its invocation record describes it; fault: why it can't be redriven."""

    found: LakeObject
    path: Path
    given_up_at: str = ""
    condition: str = ""
    invocations: int = 0
    shard_id: str = ""
    first_sequence_number: str = ""
    last_sequence_number: str = ""
    records: int = 0
    fault: str | None = None

    @property
    def event(self) -> Any:
        """The event that the function was given. Raises EventError, with words of ours."""
        return event_of(document_of(self.path))


@dataclass(frozen=True)
class Quarantine:
    """Of quarantine/: what is still to be redriven, and how many objects a redrive has landed whole."""

    objects: list[PoisonObject]
    redriven_objects: int


# ----------------------------------------------------------------------------------------------------------
# Quarantine
# ----------------------------------------------------------------------------------------------------------


def read_quarantine(lake: Lake) -> Quarantine:
    """Each object without a mark for all of its records, fetched. Raises LakeError."""
    found = lake.objects(QUARANTINE)
    marks: dict[str, list[LakeObject]] = defaultdict(list)
    whole: set[tuple[str, str]] = set()
    for mark in lake.objects(REDRIVEN):
        if match := MARK.fullmatch(mark.key):
            marks[match["key"]].append(mark)
            if match["landed"] == match["records"]:
                whole.add((match["key"], match["etag"]))
    open_objects = [one for one in found if (one.key, one.etag) not in whole]
    paths = lake.fetch(open_objects)
    objects = [
        PoisonObject(one, path, read_marks(lake, marks[one.key]))
        for one, path in zip(open_objects, paths, strict=True)
    ]
    return Quarantine(objects, len(found) - len(open_objects))


def read_marks(lake: Lake, marks: list[LakeObject]) -> dict[str, str]:
    """Where the records that the marks name have landed, by sequence number. Raises LakeError."""
    landed: dict[str, str] = {}
    for one, path in zip(marks, lake.fetch(marks), strict=True) if marks else ():
        try:
            rows = [decode_mark(line) for line in lines_of(path.read_bytes())]
        except (msgspec.DecodeError, ValueError, OSError, EOFError, zlib.error):
            raise LakeError(
                f"cannot read {lake.uri(one.key)}, a mark of what was redriven: it or its copy is damaged: "
                f"remove {path} and run it again; if that does not help, remove the mark and redrive again: "
                "no row comes twice"
            ) from None
        landed |= {row.cdc_sequence_number: row.cdc_landed_in for row in rows}
    return landed


def lines_of(body: bytes) -> list[bytes]:
    return gzip.decompress(body).split(b"\n")[:-1]


def sequence_number(json_line: bytes) -> str:
    """Of a row as the handler writes it: no text before it can hold these quotes, for it has them escaped."""
    match = SEQUENCE_NUMBER.search(json_line)
    if match is None:
        raise LakeError("found a line without cdc_sequence_number: it is no row of this pipeline")
    return match[1].decode()


# ----------------------------------------------------------------------------------------------------------
# Batches that were given up
# ----------------------------------------------------------------------------------------------------------


def failed_lake(lake: Lake) -> Lake:
    """The bucket of the batches given up, read as the lake is. Raises LakeError without PIPELINE_NAME."""
    from provision.aws import Account

    settings = lake.settings
    settings.failed_bucket("")  # says what is missing before AWS is asked who we are
    account = Account(lake.session, settings.pipeline_name)
    bucket = settings.failed_bucket(account.account_id)
    failed = Lake(replace(settings, s3_bucket=bucket, s3_prefix=""), lake.session, lake.cache / "failed")
    failed.s3 = lake.s3  # one client, one pool of connections
    return failed


def read_batches(failed: Lake) -> Iterator[Batch]:
    """The batches in the bucket, in order of their keys. Raises LakeError."""
    found = failed.objects(GIVEN_UP)
    for one, path in zip(found, failed.fetch(found), strict=True):
        yield read_batch_object(one, path)


def read_batch_object(found: LakeObject, path: Path) -> Batch:
    try:
        document = document_of(path)
        records = event_records(event_of(document))
    except EventError as error:
        return Batch(found, path, fault=str(error))
    context, described = part(document, "requestContext"), part(document, "KinesisBatchInfo")
    invocations = context.get("approximateInvokeCount")
    return Batch(
        found,
        path,
        given_up_at=text(document, "timestamp"),
        condition=text(context, "condition") or "no condition given",
        invocations=invocations if isinstance(invocations, int) else 0,
        shard_id=text(described, "shardId"),
        first_sequence_number=text(described, "startSequenceNumber"),
        last_sequence_number=text(described, "endSequenceNumber"),
        records=len(records),
    )


def document_of(path: Path) -> Mapping[str, Any]:
    """The invocation record. Raises EventError."""
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise EventError("expected an invocation record of Lambda, found no JSON object")
    return document


def event_of(document: Mapping[str, Any]) -> Any:
    """What is under payload: documented as the event, seen as its text; both are read. Raises EventError."""
    payload = document.get("payload")
    if payload is None:
        raise EventError("expected the event under payload, found none: Lambda gives it to S3 only")
    if not isinstance(payload, str):
        return payload
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise EventError("expected the event under payload, found no JSON") from None


def part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def text(document: Mapping[str, Any], name: str) -> str:
    return str(document.get(name) or "")
