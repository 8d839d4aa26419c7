"""Kinesis events and DMS envelopes for tests, and a look at what landed."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

SHARD = "shardId-000000000000"
FIRST_SEQUENCE = 49661234567890123456789012345678901234567890123456000002
ARRIVED_AT = 1772356570.25  # 2026-03-01T09:16:10.250Z
STREAM_ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/lending"


def metadata(**changes: Any) -> dict[str, Any]:
    """Metadata of an insert into public.client; names with _ for -; None takes a key out."""
    keys: dict[str, Any] = {
        "timestamp": "2026-03-01T09:16:10.500120Z",
        "record-type": "data",
        "operation": "insert",
        "partition-key-type": "schema-table",
        "schema-name": "public",
        "table-name": "client",
        "transaction-id": 5120,
        "transaction-record-id": 1,
        "commit-timestamp": "2026-03-01T09:16:10.480010Z",
        "stream-position": "00000001/3A0041B8.3.00000001/3A0041B8",
    }
    keys |= {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in keys.items() if value is not None}


def envelope(data: Any = None, *, before: Any = None, **changes: Any) -> bytes:
    """An unformatted envelope; data may be bytes, which are taken as they are."""
    text = data if isinstance(data, bytes) else compact({"id": 7, "name": "Ada"} if data is None else data)
    parts = [b'"data":' + text]
    if before is not None:
        parts.append(b'"before-image":' + compact(before))
    parts.append(b'"metadata":' + compact(metadata(**changes)))
    return b"{" + b",".join(parts) + b"}"


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def pretty(unformatted: bytes) -> bytes:
    """The same envelope as DMS writes it with MessageFormat=json: a tab a level, a tab behind each colon."""
    return json.dumps(
        json.loads(unformatted), ensure_ascii=False, indent="\t", separators=(",", ":\t")
    ).encode()


def record(payload: bytes, sequence_number: int | str = FIRST_SEQUENCE, shard: str = SHARD) -> dict[str, Any]:
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "public.client",
            "sequenceNumber": str(sequence_number),
            "data": base64.b64encode(payload).decode(),
            "approximateArrivalTimestamp": ARRIVED_AT,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard}:{sequence_number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/lending-lambda",
        "awsRegion": "eu-west-1",
        "eventSourceARN": STREAM_ARN,
    }


def event(*payloads: bytes, first: int = FIRST_SEQUENCE, shard: str = SHARD) -> dict[str, Any]:
    return {"Records": [record(payload, first + i, shard) for i, payload in enumerate(payloads)]}


class Context:
    """The part of Lambda's context that the handler reads: a timeout that does not run down."""

    def __init__(self, remaining_seconds: float = 120) -> None:
        self.remaining_seconds = remaining_seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self.remaining_seconds * 1000)


def objects(client: Any, bucket: str) -> dict[str, bytes]:
    """Every current object of the bucket, unzipped, by key."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    return {
        key: gzip.decompress(client.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in sorted(keys)
    }


def rows(client: Any, bucket: str, folder: str = "") -> list[dict[str, Any]]:
    """Every row of the objects whose key starts with folder, in order of keys."""
    return [
        json.loads(line)
        for key, body in objects(client, bucket).items()
        if key.startswith(folder)
        for line in body.decode().splitlines()
    ]


class MemoryS3:
    """As much of an S3 client as a handler needs whose keys are all new."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    def put_object(self, Key: str, Body: bytes, **_: Any) -> None:
        self.bodies[Key] = Body

    def rows(self, folder: str) -> list[dict[str, Any]]:
        bodies = [gzip.decompress(body) for key, body in self.bodies.items() if key.startswith(folder)]
        return [json.loads(line) for body in bodies for line in body.split(b"\n")[:-1]]
