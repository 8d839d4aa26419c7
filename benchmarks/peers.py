"""What is measured: this handler, what one would write instead, and the floor.

All take an event and a client with put_object; the peers write the same rows as the handler, to objects of
the same tables and hours. Each loads its libraries when it is called: memory is measured with and without.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

BUCKET = "bench"
# Of each table of the typical events: two columns are hashed, one is null.
MASKED_COLUMNS = (
    "public.client.name=sha256,public.client.email=sha256,public.client.country=null,"
    "public.loan.client_id=sha256,public.loan.principal=sha256,public.loan.status=null,"
    "public.payment.loan_id=sha256,public.payment.amount=sha256,public.payment.received_at=null,"
    "public.ledger_entry.account=sha256,public.ledger_entry.note=sha256,public.ledger_entry.amount=null"
)
MASKED_ELSEWHERE = "public.person.name=sha256,public.person.email=sha256,public.person.country=null"
MASK_SECRET = "the key of this benchmark"
Candidate = Callable[[Any, Any, str], None]  # event, client, prefix of the keys


class Sink:
    """An S3 client whose PUTs cost nothing; objects holds what was put, by key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, *, Key: str, Body: bytes, **_: Any) -> None:
        self.objects[Key] = Body


def handler(event: Any, client: Any, prefix: str, *, masked_columns: str = "") -> None:
    """This handler, from the event to the last PUT."""
    import lambda_function

    settings = lambda_function.Settings(
        s3_bucket=BUCKET, s3_prefix=prefix, masked_columns=masked_columns, mask_secret=MASK_SECRET
    )
    lambda_function.land(event, settings, lambda _: client, lambda: 120.0)


def handler_before_puts(event: Any, client: Any, prefix: str) -> None:
    """As far as the gzipped bodies, made in a thread of their own as an upload makes them."""
    import lambda_function

    settings = lambda_function.Settings(s3_bucket=BUCKET)
    batch = lambda_function.read_batch(lambda_function.event_records(event), settings)
    landing_objects = lambda_function.landing_objects(batch, prefix)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: [lambda_function.gzipped(each.json_lines) for each in landing_objects]).result()


def handler_before_compression(event: Any, client: Any, prefix: str) -> None:
    """As far as the rows of each object, in one piece."""
    import lambda_function

    settings = lambda_function.Settings(s3_bucket=BUCKET)
    batch = lambda_function.read_batch(lambda_function.event_records(event), settings)
    for group in batch.groups.values():
        b"".join(group.json_lines)


def floor(event: Any, client: Any, prefix: str) -> None:
    """The least that a handler with these types can do: base64, metadata checked and typed, one join."""
    import msgspec

    from lambda_function import KinesisRecord, envelope_decoder

    records, joined = event["Records"], bytearray()
    decode_envelope = envelope_decoder("before-image")
    for start in range(
        0, len(records), 64
    ):  # faster than all at once: a chunk stays in the processor's cache
        chunk = msgspec.convert(records[start : start + 64], list[KinesisRecord])
        payloads = [record.kinesis.payload for record in chunk]
        for payload in payloads:
            decode_envelope(payload)
        joined += b"".join(payloads)


def put_per_record(event: Any, client: Any, prefix: str) -> None:
    """A: json, and an object for each record, as tutorials do it."""
    for record in event["Records"]:
        envelope = json.loads(base64.b64decode(record["kinesis"]["data"]))
        row = row_of(envelope, record["eventID"], record["kinesis"]["sequenceNumber"])
        key = f"{prefix}{folder_of(envelope)}{record['kinesis']['sequenceNumber']}.json"
        client.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(row).encode())


def powertools(
    event: Any, client: Any, prefix: str, *, level: int = 9, separators: tuple[str, str] | None = None
) -> None:
    """B: Powertools for AWS Lambda with json, and a gzipped object for each table and hour.

    Without level and separators it does what gzip.compress and json.dumps do by themselves.
    Source: https://docs.aws.amazon.com/powertools/python/latest/utilities/batch/#processing-messages-from-kinesis
    """
    import gzip

    from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
    from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import KinesisStreamRecord

    lines: dict[str, list[str]] = defaultdict(list)

    def record_handler(record: KinesisStreamRecord) -> None:
        envelope = record.kinesis.data_as_json()
        row = row_of(envelope, record.event_id, record.kinesis.sequence_number)
        lines[folder_of(envelope)].append(json.dumps(row, separators=separators))

    processor = BatchProcessor(event_type=EventType.KinesisDataStreams)
    process_partial_response(event=event, record_handler=record_handler, processor=processor)
    name = f"{event['Records'][0]['eventID'].replace(':', '-')}.jsonl.gz"
    for folder, texts in lines.items():
        body = gzip.compress(("\n".join(texts) + "\n").encode(), compresslevel=level)
        client.put_object(Bucket=BUCKET, Key=f"{prefix}{folder}{name}", Body=body)


def row_of(envelope: Any, event_id: str, sequence_number: str) -> dict[str, Any]:
    """The handler's row, with the columns that it adds."""
    metadata = envelope["metadata"]
    position = metadata.get("stream-position")
    return {
        "cdc_operation": metadata["operation"],
        "cdc_committed_at": metadata.get("commit-timestamp"),
        "cdc_published_at": metadata["timestamp"],
        "cdc_transaction_id": metadata.get("transaction-id"),
        "cdc_transaction_record_id": metadata.get("transaction-record-id"),
        "cdc_stream_position": position,
        "cdc_lsn": int(position[:8] + position[9:17], 16) if position else None,
        "cdc_shard_id": event_id.split(":")[0],
        "cdc_sequence_number": sequence_number.zfill(56),
        "cdc_before": envelope.get("before-image"),
        **envelope["data"],
    }


def folder_of(envelope: Any) -> str:
    metadata = envelope["metadata"]
    hour = metadata.get("commit-timestamp") or metadata["timestamp"]
    schema, table = metadata["schema-name"], metadata["table-name"]
    return f"changes/{schema}/{table}/cdc_date={hour[:10]}/cdc_hour={hour[11:13]}/"


CANDIDATES: dict[str, Candidate] = {
    "A": put_per_record,
    "B": powertools,
    "B compact": partial(powertools, separators=(",", ":")),
    "B1": partial(powertools, level=1),
    "handler": handler,
    "masked": partial(handler, masked_columns=MASKED_COLUMNS),
    "masked elsewhere": partial(handler, masked_columns=MASKED_ELSEWHERE),
    "before puts": handler_before_puts,
    "before compression": handler_before_compression,
    "floor": floor,
}
