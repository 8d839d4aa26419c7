"""What each kind of record becomes in S3: what DMS is known to send, and what nobody can read."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import BUCKET
from events import (
    ARRIVED_AT,
    FIRST_SEQUENCE,
    compact,
    envelope,
    event,
    metadata,
    objects,
    pretty,
    record,
    rows,
)

import lambda_function

Handle = Callable[..., Any]
SEQUENCE = "49661234567890123456789012345678901234567890123456000002"
FOLDER = "changes/public/client/cdc_date=2026-03-01/cdc_hour=09/"
OUR_COLUMNS = (
    b'{"cdc_operation":"insert","cdc_committed_at":"2026-03-01T09:16:10.480010Z",'
    b'"cdc_published_at":"2026-03-01T09:16:10.500120Z","cdc_transaction_id":5120,"cdc_transaction_record_id":1,'
    b'"cdc_stream_position":"00000001/3A0041B8.3.00000001/3A0041B8","cdc_lsn":5268062648,'
    b'"cdc_shard_id":"shardId-000000000000",'
    b'"cdc_sequence_number":"49661234567890123456789012345678901234567890123456000002","cdc_before":null'
)


def landed(s3: Any, folder: str = "changes/") -> dict[str, bytes]:
    return {key: body for key, body in objects(s3, BUCKET).items() if key.startswith(folder)}


def reasons(s3: Any) -> list[str]:
    return [row["cdc_reason"] for row in rows(s3, BUCKET, "quarantine/")]


# --------------------------------------------------------------------------------------------------------
# Rows
# --------------------------------------------------------------------------------------------------------


def test_row_is_our_columns_then_the_tables_and_lies_under_its_first_record(s3: Any, handle: Handle) -> None:
    answer = handle(event(envelope({"id": 8, "name": "Lin"})))

    assert answer == {"batchItemFailures": []}
    assert landed(s3, "") == {
        f"{FOLDER}shardId-000000000000-{SEQUENCE}.jsonl.gz": OUR_COLUMNS + b',"id":8,"name":"Lin"}\n'
    }


def test_key_starts_with_the_prefix(s3: Any, handle: Handle) -> None:
    handle(event(envelope(), b"poison", envelope(record_type="control")), S3_PREFIX="raw/lending/")

    folders = sorted({key.split("/cdc_date")[0] for key in objects(s3, BUCKET)})
    assert folders == ["raw/lending/changes/public/client", "raw/lending/control", "raw/lending/quarantine"]


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda unformatted: unformatted, id="unformatted"),
        pytest.param(lambda unformatted: unformatted + b"\n", id="unformatted-newline"),
        pytest.param(pretty, id="pretty"),
        pytest.param(lambda unformatted: pretty(unformatted) + b"\n", id="pretty-newline"),
        pytest.param(lambda unformatted: pretty(unformatted).replace(b"\n", b"\r\n"), id="pretty-crlf"),
        pytest.param(lambda unformatted: unformatted.replace(b",", b"\r,"), id="lone-carriage-returns"),
        pytest.param(lambda unformatted: unformatted.replace(b'"name":', b'\n"name":'), id="one-line-break"),
    ],
)
def test_message_format_makes_no_difference(s3: Any, handle: Handle, write: Callable[[bytes], bytes]) -> None:
    text = 'tab \t newline \n brace }{ quote " }{"cdc_ Ünïcode'
    payloads = [envelope({"id": i, "name": text, "empty": ""}, before={"id": i + 1}) for i in (1, 2, 3)]
    handle(event(*map(write, payloads)))

    [body] = landed(s3).values()
    found = [json.loads(line) for line in body.split(b"\n")[:-1]]
    assert [(row["id"], row["name"], row["cdc_before"]) for row in found] == [
        (1, text, {"id": 2}),
        (2, text, {"id": 3}),
        (3, text, {"id": 4}),
    ]
    assert b"\r" not in body


@pytest.mark.parametrize("write", [lambda payload: payload, pretty], ids=["unformatted", "pretty"])
def test_string_that_looks_like_the_seam_of_two_rows_stays_one_value(
    s3: Any, handle: Handle, write: Callable[[bytes], bytes]
) -> None:
    handle(event(*(write(envelope({"a": "}{", "b": '}{"cdc_'})) for _ in range(2))))

    assert [(row["a"], row["b"]) for row in rows(s3, BUCKET)] == [("}{", '}{"cdc_')] * 2


@pytest.mark.parametrize(
    "data",
    [b"{}", b"{ }", b"{\n}", b"{\n\t}"],
)
def test_record_without_columns_is_a_row_of_our_columns(s3: Any, handle: Handle, data: bytes) -> None:
    handle(event(envelope(data), envelope({"id": 1})))

    [body] = landed(s3).values()
    first, second, end = body.split(b"\n")
    assert first == OUR_COLUMNS + b"}"
    assert second.endswith(b',"id":1}')
    assert end == b""


def test_load_has_no_transaction_and_goes_by_its_publication(s3: Any, handle: Handle) -> None:
    load = metadata(operation="load", timestamp="2026-03-01T08:59:59.999999Z")
    load = {key: load[key] for key in list(load)[:6]}
    handle(event(compact({"data": {"id": 1}, "metadata": load})))

    [key] = landed(s3)
    [row] = rows(s3, BUCKET)
    assert "/cdc_hour=08/" in key
    assert row == {
        "cdc_operation": "load",
        "cdc_committed_at": None,
        "cdc_published_at": "2026-03-01T08:59:59.999999Z",
        "cdc_transaction_id": None,
        "cdc_transaction_record_id": None,
        "cdc_stream_position": None,
        "cdc_lsn": None,
        "cdc_shard_id": "shardId-000000000000",
        "cdc_sequence_number": SEQUENCE,
        "cdc_before": None,
        "id": 1,
    }


def test_null_and_absent_columns_stay_null_and_absent(s3: Any, handle: Handle) -> None:
    handle(event(envelope({"id": 1, "name": None}), envelope({"id": 2})))

    first, second = rows(s3, BUCKET)
    assert first["name"] is None
    assert "name" not in second


def test_delete_carries_its_key_only(s3: Any, handle: Handle) -> None:
    handle(event(envelope({"id": 12}, operation="delete")))

    [row] = rows(s3, BUCKET)
    assert (row["cdc_operation"], row["id"], list(row)[10:]) == ("delete", 12, ["id"])


@pytest.mark.parametrize("operation", ["load", "insert", "update", "delete", "read", "überholt", ""])
def test_operation_is_passed_on_as_it_is(s3: Any, handle: Handle, operation: str) -> None:
    handle(event(envelope(operation=operation)))

    assert [row["cdc_operation"] for row in rows(s3, BUCKET, "changes/")] == [operation]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (b"", None),
        (b'"before-image":{},', {}),
        (b'"before-image":{"id":7},', {"id": 7}),
        (b'"before-image":null,', None),
    ],
    ids=["absent", "empty", "key", "null"],
)
def test_before_image_is_a_column(s3: Any, handle: Handle, before: bytes, expected: Any) -> None:
    handle(event(envelope().replace(b'"metadata"', before + b'"metadata"')))

    assert [row["cdc_before"] for row in rows(s3, BUCKET, "changes/")] == [expected]


def test_before_image_has_the_name_of_the_setting(s3: Any, handle: Handle) -> None:
    payload = envelope(before={"id": 7})
    handle(event(payload.replace(b"before-image", b"vorher")), BEFORE_IMAGE_FIELD="vorher")

    assert [row["cdc_before"] for row in rows(s3, BUCKET, "changes/")] == [{"id": 7}]


def test_before_image_under_another_name_than_the_setting_is_not_lost(s3: Any, handle: Handle) -> None:
    handle(event(envelope(before={"id": 7})), BEFORE_IMAGE_FIELD="vorher")

    assert reasons(s3) == [
        "the envelope has an unknown key: is BEFORE_IMAGE_FIELD the FieldName of the task?"
    ]


@pytest.mark.parametrize(
    ("stream_position", "lsn"),
    [
        ("00000002/7C007178.3.00000002/7C007178", 0x27C007178),
        ("0000003B/E8007C98.2.0000003B/E8007D28", 0x3BE8007C98),
        ("00000000/00000001.1.00000000/00000001", 1),
        ("FFFFFFFF/FFFFFFFF.1.FFFFFFFF/FFFFFFFF", 2**64 - 1),
        ("not a position", None),
        ("+0000002/7C007178.3.00000002/7C007178", None),
        ("0000_002/7C007178.3.00000002/7C007178", None),
        ("\u06600000002/7C007178.3.00000002/7C007178", None),
        ("00000002/7C0071é.33.00000002/7C007178", None),
        ("0/7C007178.3.0/7C007178", None),
        ("0000000Z/7C007178.3.00000002/7C007178", None),
        ("", None),
        (None, None),
    ],
)
def test_lsn_is_the_first_of_the_stream_position(
    s3: Any, handle: Handle, stream_position: str | None, lsn: int | None
) -> None:
    handle(event(envelope(stream_position=stream_position)))

    [row] = rows(s3, BUCKET, "changes/")
    assert (row["cdc_stream_position"], row["cdc_lsn"]) == (stream_position, lsn)


@pytest.mark.parametrize(
    "committed_at",
    [
        "2026-03-01T09:16:10Z",
        "2026-03-01T09:16:10.480010Z",
        "2026-03-01T09:16:10.480010123Z",
        "2026-03-01T09:59:59.1Z",
    ],
)
def test_timestamp_keeps_its_digits(s3: Any, handle: Handle, committed_at: str) -> None:
    handle(event(envelope(commit_timestamp=committed_at, timestamp=committed_at)))

    [row] = rows(s3, BUCKET, FOLDER)
    assert (row["cdc_committed_at"], row["cdc_published_at"]) == (committed_at, committed_at)


@pytest.mark.parametrize(
    "value",
    [
        "1234567890123456789012345678901234567890",
        "-0.00000000000000000000000000000000000001",
        "1e+15",
        "1E-400",
        "1e999",
        "-0",
        "46.570000",
        "9.2233720368547758e+18",
        '"\\u00e9\\u0000\\ud83d\\ude00"',
        '"\\/ \\b\\f\\n\\r\\t \\\\n"',
        '"line\\nline"',
        '"Олена Коваль \U0001f600\x7f\u2028"',
        '"{\\"lang\\": \\"et\\"}"',
        "[1, 2.50]",
        '{"nested": {"deep":  true}}',
        "true",
    ],
)
def test_promise_3_value_is_the_bytes_that_dms_wrote(s3: Any, handle: Handle, value: str) -> None:
    handle(event(envelope(f'{{"id":1,"value":{value}}}'.encode())))

    assert list(landed(s3).values()) == [OUR_COLUMNS + f',"id":1,"value":{value}}}\n'.encode()]


# --------------------------------------------------------------------------------------------------------
# Where rows go
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("loan", "loan"),
        ("Loan_2-b", "Loan_2-b"),
        ("a.b", "a.b"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("../../etc", "%2E%2E%2F..%2Fetc"),
        (".hidden.", "%2Ehidden%2E"),
        ("a/b", "a%2Fb"),
        ("cdc_date=2026-01-01", "cdc_date%3D2026-01-01"),
        ("two words", "two%20words"),
        ("quo\"te's", "quo%22te%27s"),
        ("100%", "100%25"),
        ("tilde~", "tilde%7E"),
        ("a\nb", "a%0Ab"),
        ("клиент", "%D0%BA%D0%BB%D0%B8%D0%B5%D0%BD%D1%82"),
        ("x" * 63, "x" * 63),
        ("€" * 21, "%E2%82%AC" * 21),
    ],
)
def test_name_stays_in_a_folder_of_its_own(s3: Any, handle: Handle, name: str, folder: str) -> None:
    handle(event(envelope(table_name=name), envelope(schema_name=name)))

    assert [key.rsplit("/", 3)[0] for key in landed(s3)] == sorted(
        [f"changes/public/{folder}", f"changes/{folder}/client"]
    )


def test_batch_spans_tables_hours_and_shards_and_each_object_keeps_stream_order(
    s3: Any, handle: Handle
) -> None:
    shards = ("shardId-000000000000", "shardId-000000000007")
    hours = ("2026-03-01T09:59:59.999999Z", "2026-03-01T10:00:00Z", "2026-12-31T23:59:59Z")
    records = [
        record(
            envelope({"id": i}, table_name=("client", "loan")[i % 2], commit_timestamp=hours[i % 3]),
            100 + i,
            shards[i % 5 == 0],
        )
        for i in range(60)
    ]
    handle({"Records": records})

    found = landed(s3)
    assert len(found) == 12
    for key, body in found.items():
        lines = [json.loads(line) for line in body.splitlines()]
        _, schema, table, day, hour, name = key.split("/")
        ids = [line["id"] for line in lines]
        assert ids == sorted(ids)
        assert {(line["cdc_shard_id"], line["cdc_committed_at"][:13]) for line in lines} == {
            (name[:20], f"{day.removeprefix('cdc_date=')}T{hour.removeprefix('cdc_hour=')}")
        }
        assert (schema, {i % 2 for i in ids}) == ("public", {("client", "loan").index(table)})
        assert name == f"{lines[0]['cdc_shard_id']}-{lines[0]['cdc_sequence_number']}.jsonl.gz"
        assert lines[0]["cdc_sequence_number"] == f"{100 + ids[0]:056d}"
    assert sorted(row["id"] for row in rows(s3, BUCKET)) == list(range(60))


def test_same_batch_gives_the_same_bytes(s3: Any, handle: Handle) -> None:
    batch = event(*(envelope({"id": i}) for i in range(5)))
    handle(batch)
    [first] = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    body = s3.get_object(Bucket=BUCKET, Key=first["Key"])["Body"].read()
    s3.delete_object(Bucket=BUCKET, Key=first["Key"])
    handle(batch)

    assert s3.get_object(Bucket=BUCKET, Key=first["Key"])["Body"].read() == body
    assert body[4:8] == b"\0\0\0\0"  # gzip's time


# --------------------------------------------------------------------------------------------------------
# Control records and DMS's own tables
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    ["create-table", "drop-table", "rename-table", "add-column", "column-type-change", "unheard-of"],
)
@pytest.mark.parametrize(
    "control",
    [b"", b'"control":{},', b'"control":{"table-def":{"columns":{"id":{"type":"INT32","nullable":false}}}},'],
    ids=["no-control", "empty", "table-def"],
)
def test_control_record_is_kept_as_it_is(s3: Any, handle: Handle, operation: str, control: bytes) -> None:
    keys = metadata(record_type="control", operation=operation, partition_key_type="task-id")
    keys = {key: keys[key] for key in list(keys)[:6]}
    payload = b"{" + control + b'"metadata":' + compact(keys) + b"}"
    handle(event(payload))

    assert landed(s3, "") == {
        f"control/cdc_date=2026-03-01/shardId-000000000000-{SEQUENCE}.jsonl.gz": (
            b'{"cdc_shard_id":"shardId-000000000000","cdc_sequence_number":"%s","cdc_envelope":%s}\n'
            % (SEQUENCE.encode(), payload)
        )
    }


def test_pretty_control_record_becomes_one_line(s3: Any, handle: Handle) -> None:
    payload = envelope({"id": 1}, record_type="control", operation="create-table")
    handle(event(pretty(payload), payload))

    [body] = landed(s3, "control/").values()
    assert [json.loads(line)["cdc_envelope"] for line in body.splitlines()] == [json.loads(payload)] * 2


@pytest.mark.parametrize(
    ("schema", "table"),
    [("", "awsdms_status"), ("", "awsdms_suspended_tables"), ("public", "awsdms_ddl_audit")],
)
def test_rows_of_dmss_own_tables_go_to_control(s3: Any, handle: Handle, schema: str, table: str) -> None:
    handle(event(envelope(schema_name=schema, table_name=table, commit_timestamp=None, stream_position=None)))

    [row] = rows(s3, BUCKET, "control/cdc_date=2026-03-01/")
    assert row["cdc_envelope"]["metadata"]["table-name"] == table
    assert landed(s3) == {}


# --------------------------------------------------------------------------------------------------------
# Poison
# --------------------------------------------------------------------------------------------------------

KPL = b"\xf3\x89\x9a\xc2\x0a\x05table\x1a\x04\x08\x00\x1a\x00" + b"0123456789abcdef"
POISON = {
    "empty": (b"", "the payload is not JSON"),
    "not-utf8": (envelope(b'{"name":"\xc3\x28"}'), "the payload is not UTF-8"),
    "not-utf8-in-a-key": (envelope(b'{"\xff":1}'), "the payload is not UTF-8"),
    "not-json": (b"{'data': 1}", "the payload is not JSON"),
    "cut-off": (envelope()[:-1], "the payload is not JSON"),
    "two-envelopes": (envelope() + envelope(), "the payload is not JSON"),
    "two-lines": (envelope() + b"\n" + envelope() + b"\n", "the payload is not JSON"),
    "nan": (envelope(b'{"x":NaN}'), "the payload is not JSON"),
    "leading-zero": (envelope(b'{"x":01}'), "the payload is not JSON"),
    "raw-newline-in-a-string": (envelope(b'{"x":"a\nb"}'), "the payload is not JSON"),
    "byte-order-mark": (b"\xef\xbb\xbf" + envelope(), "the payload is not JSON"),
    "lone-surrogate": (envelope(b'{"x":"\\ud83d"}'), "the payload is not JSON"),
    "deep": (b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "the payload is JSON nested too deep"),
    "list": (b"[1,2]", "the payload is JSON, but not an object"),
    "number": (b"42", "the payload is JSON, but not an object"),
    "null": (b"null", "the payload is JSON, but not an object"),
    "no-metadata": (b'{"data":{"id":1}}', "the envelope has no metadata object"),
    "metadata-null": (b'{"data":{"id":1},"metadata":null}', "the envelope has no metadata object"),
    "data-list": (envelope(b"[1]"), "data is missing or not an object"),
    "data-text": (envelope(b'"id"'), "data is missing or not an object"),
    "data-null": (envelope(b"null"), "data is missing or not an object"),
    "no-data": (compact({"metadata": metadata()}), "data is missing or not an object"),
    "before-image-text": (envelope(before="id"), "the before image is not an object"),
    "record-type-unknown": (
        envelope(record_type="heartbeat"),
        "the record-type in metadata is neither data nor control",
    ),
    "record-type-list": (
        envelope(record_type=["data"]),
        "the record-type in metadata is neither data nor control",
    ),
    "no-record-type": (
        envelope(record_type=None),
        "the record-type in metadata is neither data nor control",
    ),
    "no-operation": (envelope(operation=None), "a key in metadata is missing or of the wrong type"),
    "no-timestamp": (envelope(timestamp=None), "a key in metadata is missing or of the wrong type"),
    "transaction-id-text": (
        envelope(transaction_id="x"),
        "a key in metadata is missing or of the wrong type",
    ),
    "no-table": (envelope(table_name=None), "schema-name or table-name is missing or empty"),
    "no-schema": (envelope(schema_name=None), "schema-name or table-name is missing or empty"),
    "empty-table": (envelope(table_name=""), "schema-name or table-name is missing or empty"),
    "empty-schema": (envelope(schema_name=""), "schema-name or table-name is missing or empty"),
    "long-name": (envelope(table_name="x" * 64), "schema-name or table-name is longer than 63 bytes"),
    "long-name-in-bytes": (
        envelope(schema_name="я" * 32),
        "schema-name or table-name is longer than 63 bytes",
    ),
    "kpl": (KPL, "the payload is an aggregate of the Kinesis Producer Library, not one envelope"),
    "gzip": (gzip.compress(envelope()), "the payload is gzipped, not JSON"),
    "no-such-day": (
        envelope(commit_timestamp="2026-02-30T09:00:00Z"),
        "a timestamp in metadata is malformed",
    ),
    "no-such-day-six-digits": (
        envelope(timestamp="2026-02-30T09:00:00.000000Z"),
        "a timestamp in metadata is malformed",
    ),
    "no-such-day-control": (
        envelope(record_type="control", commit_timestamp="2026-02-30T09:00:00Z"),
        "a timestamp in metadata is malformed",
    ),
} | {
    f"timestamp-{text}": (envelope(commit_timestamp=text), "a timestamp in metadata is malformed")
    for text in (
        "",
        "yesterday",
        "2026-03-01",
        "2026-03-01 09:16:10Z",
        "2026-03-01T09:16:10",
        "2026-03-01T09:16:10+02:00",
        "2026-03-01T24:00:00Z",
        "2026-13-01T09:16:10Z",
        "2026-03-01T09:16:60Z",
        "2026-03-01T09:16:10.Z",
        "2026-03-01T09:16:10.1234567890Z",
        "2026-03-01T09:16:10Z\n",
        "٢٠٢٦-03-01T09:16:10Z",
    )
}


@pytest.mark.parametrize(("payload", "reason"), POISON.values(), ids=POISON.keys())
def test_promise_5_poison_record_is_quarantined_with_its_bytes_and_blocks_nobody(
    s3: Any, handle: Handle, payload: bytes, reason: str
) -> None:
    answer = handle(event(envelope({"id": 1}), payload, envelope({"id": 3})))

    assert answer == {"batchItemFailures": []}
    assert [row["id"] for row in rows(s3, BUCKET, "changes/")] == [1, 3]
    [row] = rows(s3, BUCKET, "quarantine/cdc_date=2026-03-01/shardId-000000000000-")
    assert row == {
        "cdc_reason": reason,
        "cdc_stream_arn": "arn:aws:kinesis:eu-west-1:123456789012:stream/lending",
        "cdc_shard_id": "shardId-000000000000",
        "cdc_sequence_number": str(FIRST_SEQUENCE + 1),
        "cdc_partition_key": "public.client",
        "cdc_arrived_at": "2026-03-01T09:16:10.250000Z",
        "cdc_payload": base64.b64encode(payload).decode(),
    }


@pytest.mark.parametrize("text", ["*", "YWJ", "YW Jj", "YWJj\n", "é", "\ud800", '{"data":{}}'])
def test_data_that_is_not_base64_is_quarantined_as_it_is(s3: Any, handle: Handle, text: str) -> None:
    batch = event(envelope({"id": 1}), b"", envelope({"id": 3}))
    batch["Records"][1]["kinesis"]["data"] = text
    handle(batch)

    assert [row["id"] for row in rows(s3, BUCKET, "changes/")] == [1, 3]
    [row] = rows(s3, BUCKET, "quarantine/")
    assert row["cdc_reason"] == "the data is not base64"
    assert base64.b64decode(row["cdc_payload"]).decode("utf-8", "surrogatepass") == text


def test_partition_key_that_is_no_unicode_does_not_block(s3: Any, handle: Handle) -> None:
    batch = event(b"poison", envelope({"id": 2}))
    for found in batch["Records"]:
        found["kinesis"]["partitionKey"] = "key \ud800"
    handle(batch)

    assert [row["id"] for row in rows(s3, BUCKET, "changes/")] == [2]
    assert [row["cdc_partition_key"] for row in rows(s3, BUCKET, "quarantine/")] == ["key ?"]


@pytest.mark.parametrize("column", sorted(lambda_function.RESERVED_COLUMNS))
@pytest.mark.parametrize("write", [str, lambda name: "\\u0063" + name[1:]], ids=["plain", "escaped"])
def test_table_with_a_column_of_ours_is_quarantined(
    s3: Any, handle: Handle, column: str, write: Callable[[str], str]
) -> None:
    handle(event(envelope(f'{{"id":1,"{write(column)}":2}}'.encode())))

    assert reasons(s3) == [f"the table has a column with a reserved name: {column}"]
    assert landed(s3) == {}


@pytest.mark.parametrize(
    "data",
    [
        {"id": 1, "note": '"cdc_lsn":'},
        {"id": 1, "cdc_lsn2": 3, "CDC_LSN": 4},
        {"id": 1, "note": {"cdc_lsn": 5}},
    ],
    ids=["value", "another-name", "nested"],
)
def test_name_of_ours_elsewhere_is_no_collision(s3: Any, handle: Handle, data: dict[str, Any]) -> None:
    handle(event(envelope(data)))

    [row] = rows(s3, BUCKET, "changes/")
    assert {name: row[name] for name in data} == data


def test_reserved_columns_are_the_thirteen_of_the_contract() -> None:
    assert sorted(lambda_function.RESERVED_COLUMNS) == [
        "cdc_before",
        "cdc_committed_at",
        "cdc_date",
        "cdc_hour",
        "cdc_lsn",
        "cdc_operation",
        "cdc_published_at",
        "cdc_rescued",
        "cdc_sequence_number",
        "cdc_shard_id",
        "cdc_stream_position",
        "cdc_transaction_id",
        "cdc_transaction_record_id",
    ]


@pytest.mark.parametrize("space", [b"", b" "], ids=["plain", "spaced"])
def test_promise_5_nesting_at_the_edge_of_the_stack_never_raises(
    s3: Any, handle: Handle, space: bytes
) -> None:
    depths = range(900, 1010)
    payloads = [
        envelope(b"{" + space + b'"\\u0061":' + b"[" * depth + b"]" * depth + b"}") for depth in depths
    ]
    handle(event(*payloads))

    lines = [line for body in objects(s3, BUCKET).values() for line in body.splitlines()]
    assert len(lines) == len(payloads)
    assert set(reasons(s3)) <= {"the payload is JSON nested too deep"}


CONTROL_WITH_OUR_NAME = envelope({"cdc_lsn": 1}, record_type="control")
OWN_WITH_OUR_NAME = envelope({"cdc_lsn": 1}, table_name="awsdms_status")


@pytest.mark.parametrize(
    "neighbours",
    [[], [compact({"metadata": metadata(record_type="control")})], [envelope()], [envelope(b"{}")]],
)
@pytest.mark.parametrize("payload", [CONTROL_WITH_OUR_NAME, OWN_WITH_OUR_NAME], ids=["control", "own"])
def test_name_of_ours_matters_in_tables_of_the_user_only(
    s3: Any, handle: Handle, payload: bytes, neighbours: list[bytes]
) -> None:
    handle(event(payload, *neighbours))

    assert payload.decode() in "".join(body.decode() for body in landed(s3, "control/").values())
    assert reasons(s3) == []


@pytest.mark.parametrize("at", [0, 1, 4])
def test_promise_5_stop_writes_what_is_before_the_poison_record_and_reports_it(
    s3: Any, handle: Handle, at: int
) -> None:
    payloads = [envelope({"id": i}) for i in range(5)]
    payloads[at] = b"poison"
    payloads.append(b"a second one")
    answer = handle(event(*payloads), ON_POISON="stop")

    assert answer == {"batchItemFailures": [{"itemIdentifier": str(FIRST_SEQUENCE + at)}]}
    assert [row["id"] for row in rows(s3, BUCKET)] == list(range(at))


# --------------------------------------------------------------------------------------------------------
# The event, the log
# --------------------------------------------------------------------------------------------------------


def with_arrival(seconds: float) -> dict[str, Any]:
    found = record(b"poison")
    found["kinesis"]["approximateArrivalTimestamp"] = seconds
    return found


SQS_RECORD = {"messageId": "1", "body": "{}", "eventSource": "aws:sqs"}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"Records": []},
        {"Records": None},
        {"Records": {"0": {}}},
        {"key1": "value1", "key2": "value2", "key3": "value3"},
        [],
        None,
        "text",
        {"Records": [SQS_RECORD]},
        {"Records": [record(envelope()), SQS_RECORD]},
        {"Records": [record(envelope()) | {"eventSource": "aws:dynamodb"}]},
        {"Records": [record(envelope()) | {"kinesis": {}}]},
        {"Records": [record(envelope()) | {"kinesis": None}]},
        {"Records": [None]},
        {"Records": [record(envelope(), "a/../../../../out")]},
        {"Records": [record(envelope(), "1", "shard\ud800")]},
        {"Records": [with_arrival(1e300)]},
        {"Records": [with_arrival(-1.0)]},
        {"Records": [with_arrival(float("nan"))]},
        {"Records": [record(envelope())] * 100 + [7]},
    ],
)
def test_event_that_is_not_of_kinesis_is_refused_and_nothing_is_written(
    s3: Any, handle: Handle, wrong: Any
) -> None:
    with pytest.raises(lambda_function.EventError, match="expected"):
        handle(wrong)

    assert objects(s3, BUCKET) == {}


def test_log_is_one_line_of_json_an_invocation(
    s3: Any, handle: Handle, capsys: pytest.CaptureFixture[str]
) -> None:
    handle(event(envelope(), envelope(record_type="control"), envelope(table_name="loan")))

    out, err = capsys.readouterr()
    line = json.loads(err)
    assert out == ""
    assert line.pop("seconds") >= 0
    assert line.pop("lag_seconds") > 0
    assert line.pop("bytes") == sum(found["Size"] for found in s3.list_objects_v2(Bucket=BUCKET)["Contents"])
    assert line == {
        "level": "INFO",
        "message": "batch landed",
        "shard_id": "shardId-000000000000",
        "records": 3,
        "rows": 2,
        "control": 1,
        "quarantined": 0,
        "stopped_at": None,
        "objects": 3,
        "rewritten": 0,
    }


@pytest.mark.parametrize(
    ("on_poison", "message"),
    [("quarantine", "record quarantined"), ("stop", "stopped at a poison record")],
)
def test_log_has_a_line_for_a_poison_record(
    handle: Handle, capsys: pytest.CaptureFixture[str], on_poison: str, message: str
) -> None:
    handle(event(b"poison"), LOG_LEVEL="WARNING", ON_POISON=on_poison)

    assert json.loads(capsys.readouterr().err) == {
        "level": "WARNING",
        "message": message,
        "shard_id": "shardId-000000000000",
        "sequence_number": str(FIRST_SEQUENCE),
        "reason": "the payload is not JSON",
    }


def test_log_level_silences_lines_below_it(handle: Handle, capsys: pytest.CaptureFixture[str]) -> None:
    handle(event(envelope(), b"poison"), LOG_LEVEL="ERROR")

    assert capsys.readouterr() == ("", "")


def test_delivery_again_is_counted_as_rewritten(
    s3: Any, handle: Handle, capsys: pytest.CaptureFixture[str]
) -> None:
    handle(event(envelope()))
    handle(event(envelope(), envelope()))

    assert [json.loads(line)["rewritten"] for line in capsys.readouterr().err.splitlines()] == [0, 1]
    assert len(rows(s3, BUCKET)) == 2


def test_arrival_time_names_the_day_of_a_quarantined_record(s3: Any, handle: Handle) -> None:
    batch = event(b"poison")
    batch["Records"][0]["kinesis"]["approximateArrivalTimestamp"] = ARRIVED_AT + 86_400
    handle(batch)

    assert [key.split("/")[1] for key in objects(s3, BUCKET)] == ["cdc_date=2026-03-02"]
