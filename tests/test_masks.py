"""Masked columns: what is in S3 instead of them, and that they are nowhere else."""

from __future__ import annotations

import base64
import hmac
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import BUCKET
from events import FIRST_SEQUENCE, MemoryS3, compact, envelope, event, metadata, objects, pretty, rows
from hypothesis import given, settings
from hypothesis import strategies as st

import lambda_function
from lambda_function import (
    Masking,
    SecretError,
    Settings,
    SettingsError,
    land,
    masking_of,
    read_batch,
    read_masks,
)

Handle = Callable[..., Any]
ROOT = Path(__file__).parent.parent
SECRET = "correct-horse-battery-staple"
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:lending-mask-AbCdEf"
MASKS = "public.client.email=sha256,public.client.iban=null,public.client.name=drop"
MASKED = {"MASKED_COLUMNS": MASKS, "MASK_SECRET": SECRET}
FOLDER = "changes/public/client/cdc_date=2026-03-01/cdc_hour=09/"
RESTRICTED = "quarantine/restricted/cdc_date=2026-03-01/"
# printf %s ada@example.com | openssl dgst -sha256 -hmac correct-horse-battery-staple
ADA = "a2430707085d4a6b7d68d6db12378a6c76a34880fb2b020e4557ec3796ee80b8"
EMAIL, IBAN, NAME = "ada@example.com", "EE382200221020145685", "Ada Lovelace"
CLIENT = {"id": 7, "email": EMAIL, "iban": IBAN, "name": NAME, "city": "Tartu"}


@pytest.fixture(autouse=True)
def no_secret_is_kept() -> Iterator[None]:
    lambda_function.read_secret.cache_clear()
    yield
    lambda_function.read_secret.cache_clear()


def hashed(text: str) -> str:
    return hmac.new(SECRET.encode(), text.encode(), "sha256").hexdigest()


def columns(row: dict[str, Any]) -> dict[str, Any]:
    """The table's columns of a row."""
    return {name: value for name, value in row.items() if not name.startswith("cdc_")}


def reasons(s3: Any) -> list[str]:
    return [row["cdc_reason"] for row in rows(s3, BUCKET, "quarantine/")]


# --------------------------------------------------------------------------------------------------------
# The settings
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "masks"),
    [
        ("", {}),
        ("  ", {}),
        (
            "public.client.email=sha256,public.client.iban=null,public.loan.note=drop",
            {
                ("public", "client"): {"email": "sha256", "iban": "null"},
                ("public", "loan"): {"note": "drop"},
            },
        ),
        (
            ' public . client . email = sha256 , sales."Order"."e.mail"=null ',
            {("public", "client"): {"email": "sha256"}, ("sales", "Order"): {"e.mail": "null"}},
        ),
        ('"a,b"."c=d"."e ""f"""=drop', {("a,b", "c=d"): {'e "f"': "drop"}}),
        ("öffentlich.küche.näme$1=null", {("öffentlich", "küche"): {"näme$1": "null"}}),
        ('public."100%".x=drop', {("public", "100%"): {"x": "drop"}}),
    ],
    ids=["empty", "blank", "several", "blanks-and-quotes", "signs-in-quotes", "letters", "percent"],
)
def test_masks_are_read_by_table_and_column(text: str, masks: Any) -> None:
    assert read_masks(text) == masks


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "public.client.email",
            "public.client.email: write schema.table.column=action, the action one of sha256, null, drop",
        ),
        ("public.client.email=md5", "public.client.email=md5: write schema.table.column=action"),
        ("public.client.email=sha256=null", "write schema.table.column=action"),
        ("public.client.email=sha256,", ": write schema.table.column=action"),
        ("client.email=null", "client.email=null has 2 names before the =: write schema.table.column"),
        ("x.public.client.email=null", "has 4 names before the ="),
        ("public..email=null", "public..email=null has an empty name"),
        ('public."".email=null', "has an empty name"),
        ("public.Client.email=null", 'did you mean "Client"? Such a name goes in double quotes'),
        ("public.client.%=null", 'did you mean "%"? Such a name goes in double quotes'),
        ("public.client.*=null", 'did you mean "*"?'),
        ("public.client.e-mail=null", 'did you mean "e-mail"?'),
        ('public.client.e"mail"=null', '"""'),
        ('public.client.e"m"ail=null', "Such a name goes in double quotes"),
        (f"public.client.{'x' * 64}=null", "is longer than the 63 bytes PostgreSQL keeps of a name"),
        ('public.client.a=null,public.client."a"=drop', 'public.client."a"=drop: the column is there twice'),
    ],
)
def test_masks_that_cannot_be_read_are_refused_with_what_to_write(text: str, fault: str) -> None:
    with pytest.raises(ValueError) as raised:
        read_masks(text)

    assert fault in str(raised.value)


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        (
            {"MASKED_COLUMNS": "public.client.email=sha256"},
            "MASKED_COLUMNS has sha256, which takes a key: set MASK_SECRET or MASK_SECRET_ARN",
        ),
        (
            MASKED | {"MASK_SECRET_ARN": ARN},
            "MASK_SECRET and MASK_SECRET_ARN are both set: set one",
        ),
        (
            MASKED | {"MASK_SECRET": "fifteen letters"},
            "MASK_SECRET is shorter than 16 characters: it could be guessed",
        ),
        (
            {"MASKED_COLUMNS": MASKS, "MASK_SECRET_ARN": "lending-mask"},
            "MASK_SECRET_ARN='lending-mask' is no ARN of a secret: copy it whole, "
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mask-AbCdEf",
        ),
    ],
    ids=["no-key", "two-keys", "short", "no-arn"],
)
def test_a_key_that_does_not_fit_is_refused(values: dict[str, str], faults: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_mapping(values)

    assert str(raised.value) == f"settings: {faults}"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"MASKED_COLUMNS": "public.client.email=null,public.client.name=drop"},
        MASKED,
        {"MASKED_COLUMNS": MASKS, "MASK_SECRET_ARN": ARN},
    ],
    ids=["no-masks", "no-sha256", "key", "arn"],
)
def test_a_key_is_only_needed_for_sha256(values: dict[str, str]) -> None:
    assert Settings.from_mapping(values).masked_columns == values.get("MASKED_COLUMNS", "")


def test_promise_7_the_key_is_in_no_text_of_the_settings() -> None:
    with_key, too_short = Settings.from_mapping(MASKED), MASKED | {"MASK_SECRET": "k3y", "ON_POISON": "x"}
    with pytest.raises(SettingsError) as raised:
        Settings.from_mapping(too_short)

    assert SECRET not in f"{with_key} {with_key!r} {with_key.__rich_repr__()} {masking_of(with_key)!r}"
    assert "k3y" not in str(raised.value)


# --------------------------------------------------------------------------------------------------------
# Rows of a masked table
# --------------------------------------------------------------------------------------------------------


def test_row_has_a_hash_a_null_and_no_dropped_column(s3: Any, handle: Handle) -> None:
    handle(event(envelope(CLIENT)), **MASKED)

    [(key, body)] = objects(s3, BUCKET).items()
    assert key.startswith(FOLDER)
    assert body.endswith(
        b',"cdc_before":null,"id":7,"email":"' + ADA.encode() + b'","iban":null,"city":"Tartu"}\n'
    )


def test_before_image_is_masked_as_the_row_is(s3: Any, handle: Handle) -> None:
    handle(event(envelope(CLIENT | {"email": "a@b.c"}, before=CLIENT, operation="update")), **MASKED)

    [row] = rows(s3, BUCKET)
    assert row["cdc_before"] == {"id": 7, "email": ADA, "iban": None, "city": "Tartu"}
    assert columns(row) == {"id": 7, "email": hashed("a@b.c"), "iban": None, "city": "Tartu"}


def test_masked_key_joins_its_row_with_its_before_image_and_its_delete(s3: Any, handle: Handle) -> None:
    handle(
        event(
            envelope({"id": 7}, operation="load"),
            envelope({"id": 8}, before={"id": 7}, operation="update"),
            envelope({"id": 8}, operation="delete"),
        ),
        MASKED_COLUMNS="public.client.id=sha256",
        MASK_SECRET=SECRET,
    )

    load, update, delete = rows(s3, BUCKET)
    assert load["id"] == update["cdc_before"]["id"] == hashed("7")
    assert update["id"] == delete["id"] == hashed("8")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"ada@example.com"', "ada@example.com"),
        ('""', ""),
        ('"Zoë \\u00e9\\ud83d\\ude00 \\"\\\\\\/\\n"', 'Zoë é😀 "\\/\n'),
        ('"42.0"', "42.0"),
        ('"null"', "null"),
        ("true", "true"),
        ("false", "false"),
        ("42", "42"),
        ("42.0", "42"),
        ("4.2e1", "42"),
        ("4.2E+1", "42"),
        ("420e-1", "42"),
        ("-42.50", "-42.5"),
        ("100", "100"),
        ("1e+15", "1000000000000000"),
        ("1.5e-7", "0.00000015"),
        ("0.0", "0"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("-0e7", "0"),
        ("0e999999999", "0"),
        ("1234567890123456789012345678901234567890.10", "1234567890123456789012345678901234567890.1"),
    ],
)
def test_hash_is_that_of_the_values_plain_text(value: str, text: str) -> None:
    found, _ = landed([envelope(b'{"id":7,"email":' + value.encode() + b"}")])

    [row] = found.rows("changes/")
    assert row["email"] == hashed(text)


def test_null_stays_null_and_an_absent_column_absent(s3: Any, handle: Handle) -> None:
    nulls = {"id": 1, "email": None, "iban": None, "name": None}
    handle(event(envelope(nulls), envelope({"id": 2}, before={"id": 3})), **MASKED)

    first, second = rows(s3, BUCKET)
    assert columns(first) == {"id": 1, "email": None, "iban": None}
    assert (columns(second), second["cdc_before"]) == ({"id": 2}, {"id": 3})


def test_promise_3_other_values_stay_byte_for_byte_and_in_their_order(s3: Any, handle: Handle) -> None:
    awkward = (
        b'"n":1234567890123456789012345678901234567890.10,"e":1e+15,"t":"\\u00e9\\/ }{\\"","o":{"a":[1, 2]}'
    )
    handle(
        event(envelope(b'{"z":-0.0,"email":"x",' + awkward + b',"a":tru0}'.replace(b"0}", b"e}"))), **MASKED
    )

    [body] = objects(s3, BUCKET).values()
    expected = b'"z":-0.0,"email":"' + hashed("x").encode() + b'",' + awkward + b',"a":true}\n'
    assert body.endswith(b'"cdc_before":null,' + expected)


@pytest.mark.parametrize("write", [lambda payload: payload, pretty], ids=["unformatted", "pretty"])
def test_message_format_makes_no_difference(s3: Any, handle: Handle, write: Callable[[bytes], bytes]) -> None:
    handle(event(*(write(envelope(CLIENT, before=CLIENT)) for _ in range(3))), **MASKED)

    [body] = objects(s3, BUCKET).values()
    assert body.count(b"\n") == 3
    assert body.count(b',"id":7,"email":"' + ADA.encode() + b'","iban":null,"city":"Tartu"}\n') == 3


@pytest.mark.parametrize(
    "data",
    [
        b'{"id":7,"em\\u0061il":"ada@example.com"}',
        b'{"id":7,"email":"first@example.com","email":"ada@example.com"}',
        b'{"id":7,"em\\u0061il":"first@example.com","email":"ada@example.com"}',
        b'{ "id" : 7 , "email" :\t"ada@example.com" }',
        b'{"id":7,\r\n"email":\r\n"ada@example.com"\r\n}',
    ],
    ids=["escaped-name", "twice", "twice-and-escaped", "spaced", "line-breaks"],
)
def test_promise_7_however_its_name_is_spelled_a_column_is_masked(
    s3: Any, handle: Handle, data: bytes
) -> None:
    before = envelope(data).replace(b'"metadata"', b'"before-image":' + data + b',"metadata"')
    handle(event(before), **MASKED)

    [body] = objects(s3, BUCKET).values()
    assert b"@" not in body
    row = json.loads(body)
    assert (row["cdc_before"], columns(row)) == ({"id": 7, "email": ADA}, {"id": 7, "email": ADA})


@pytest.mark.parametrize(
    ("schema", "table", "data"),
    [
        ("public", "Client", CLIENT),
        ("Public", "client", CLIENT),
        ("public", "loan", CLIENT),
        ("public", "client", {"Email": EMAIL, "e-mail": EMAIL, "email ": EMAIL}),
    ],
    ids=["table", "schema", "another-table", "column"],
)
def test_names_compare_exactly(s3: Any, handle: Handle, schema: str, table: str, data: Any) -> None:
    handle(event(envelope(data, schema_name=schema, table_name=table)), **MASKED)

    [row] = rows(s3, BUCKET, "changes/")
    assert columns(row) == data


def test_quoted_names_mask_what_they_name(s3: Any, handle: Handle) -> None:
    handle(
        event(envelope({"id": 1, "e.mail": EMAIL}, schema_name="sales", table_name="Order")),
        MASKED_COLUMNS='sales."Order"."e.mail"=sha256',
        MASK_SECRET=SECRET,
    )

    assert [columns(row) for row in rows(s3, BUCKET)] == [{"id": 1, "e.mail": ADA}]


def test_rows_of_other_tables_are_those_of_a_handler_without_masks(s3: Any, handle: Handle) -> None:
    others = [
        envelope(b'{"id": 1.50,"email":"\\u0061"}', before={"id": 0}, table_name="loan"),
        envelope({"id": 2, "name": NAME}, table_name="payment", operation="delete"),
        envelope(record_type="control", operation="create-table"),
    ]
    mixed = [payload for other in others for payload in (envelope(CLIENT), other)] * 30
    handle(event(*mixed))
    plain = objects(s3, BUCKET)
    handle(event(*mixed), **MASKED)

    masked = objects(s3, BUCKET)
    changed = {key for key in plain if plain[key] != masked[key]}
    assert masked.keys() == plain.keys()
    assert [key.startswith(FOLDER) for key in changed] == [True]


# --------------------------------------------------------------------------------------------------------
# What can't be masked, and what can't be read
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (envelope(b'"ada@example.com"'), "data is missing or not an object"),
        (envelope(b'["ada@example.com"]'), "data is missing or not an object"),
        (envelope(b"null"), "data is missing or not an object"),
        (compact({"metadata": metadata()}), "data is missing or not an object"),
        (
            envelope(b'{"\\ud800":1,"email":"ada@example.com"}'),
            "the payload is not JSON",
        ),
        (envelope(CLIENT, before=EMAIL), "the before image is not an object"),
        (envelope(CLIENT, before=[EMAIL]), "the before image is not an object"),
        (
            envelope({"email": {"to": EMAIL}}),
            "a masked column holds an object or an array, which can't be hashed",
        ),
        (envelope({"email": [EMAIL]}), "a masked column holds an object or an array, which can't be hashed"),
        (envelope(b'{"email":"\\ud800"}'), "the payload is not JSON"),
        (envelope(b'{"email":1e131073}'), "a masked column holds a number that is too long"),
        (envelope(b'{"email":1e-131073}'), "a masked column holds a number that is too long"),
        (envelope(b'{"email":1e99999999999999999999}'), "a masked column holds a number that is too long"),
    ],
    ids=[
        *("string", "array", "null", "no-data", "bad-name", "before-string", "before-array", "object-value"),
        *("array-value", "half-a-surrogate", "large", "small", "beyond-decimal"),
    ],
)
def test_promise_7_a_row_that_cannot_be_masked_is_in_no_row(
    s3: Any, handle: Handle, payload: bytes, reason: str
) -> None:
    good = envelope(CLIENT)
    handle(event(good, payload, good), **MASKED)

    assert [columns(row)["email"] for row in rows(s3, BUCKET, "changes/")] == [ADA, ADA]
    [row] = rows(s3, BUCKET, RESTRICTED)
    assert row["cdc_reason"] == reason
    assert base64.b64decode(row["cdc_payload"]) == payload


def test_promise_7_nesting_too_deep_to_be_taken_apart_is_in_no_row(s3: Any, handle: Handle) -> None:
    """The stack has another depth where the envelope is decoded than where the row is taken apart."""
    deep = [b'{"email":"ada@example.com","x":' + b"[" * n + b"]" * n + b"}" for n in range(800, 1100)]
    handle(event(*map(envelope, deep)), **MASKED)

    landed = rows(s3, BUCKET, "changes/")
    assert {row["email"] for row in landed} == {ADA}
    assert len(landed) + len(reasons(s3)) == 300
    assert set(reasons(s3)) <= {"the payload is JSON nested too deep"}


def test_masked_null_and_dropped_columns_may_hold_anything(s3: Any, handle: Handle) -> None:
    handle(event(envelope({"id": 7, "iban": {"x": [IBAN]}, "name": [NAME]})), **MASKED)

    assert [columns(row) for row in rows(s3, BUCKET)] == [{"id": 7, "iban": None}]


@pytest.mark.parametrize(
    "poison",
    [b"{", envelope(b"[]", table_name="loan"), envelope({"cdc_lsn": 1}, table_name="loan")],
    ids=["not-json", "data-of-another-table", "reserved-name-of-another-table"],
)
def test_while_masks_are_set_whatever_is_set_aside_is_restricted(
    s3: Any, handle: Handle, poison: bytes
) -> None:
    handle(event(poison), **MASKED)

    [key] = objects(s3, BUCKET)
    assert key == f"{RESTRICTED}shardId-000000000000-{FIRST_SEQUENCE}.jsonl.gz"


def test_without_masks_nothing_is_restricted(s3: Any, handle: Handle) -> None:
    handle(event(b"{"), MASKED_COLUMNS=" ")

    assert [key.split("shardId")[0] for key in objects(s3, BUCKET)] == ["quarantine/cdc_date=2026-03-01/"]


def test_promise_7_stop_waits_for_a_row_that_cannot_be_masked(s3: Any, handle: Handle) -> None:
    answer = handle(event(envelope(CLIENT), envelope([EMAIL]), envelope(CLIENT)), ON_POISON="stop", **MASKED)

    assert answer == {"batchItemFailures": [{"itemIdentifier": str(FIRST_SEQUENCE + 1)}]}
    assert [columns(row)["email"] for row in rows(s3, BUCKET)] == [ADA]


def test_reserved_name_of_a_masked_table_is_still_refused(s3: Any, handle: Handle) -> None:
    handle(event(envelope(b'{"email":"x","cdc\\u005flsn":1}')), **MASKED)

    assert reasons(s3) == ["the table has a column with a reserved name: cdc_lsn"]


# --------------------------------------------------------------------------------------------------------
# Nowhere else
# --------------------------------------------------------------------------------------------------------

RAW = "c4n4ry"
RAW_VALUES = [RAW, f"ü{RAW}€", f'"{RAW}\\', f"{RAW}\n", int("7" + "31337" * 3), 31337.31337]


def kinds_of(value: Any) -> list[bytes]:
    """A masked value in every kind of record, good and bad; "table" is a name that masks do not know."""
    row = {"id": 7, "email": value, "iban": value, "name": value}
    odd = {"id": 7, "email": value, "iban": [value, {"x": value}], "name": {"y": [value]}}
    good = [
        envelope(row, operation="load", commit_timestamp=None),
        envelope(row),
        envelope(row, before=row, operation="update"),
        envelope(odd, before={"id": 6, "email": value}, operation="update"),
        envelope({"email": value}, operation="delete"),
        pretty(envelope(row, before=row)),
    ]
    text = compact(value)
    bad = [
        envelope(value),
        envelope(row, before=[value]),
        envelope({"email": [value]}),
        envelope({"email": {"x": value}}),
        envelope(row)[:-3],
        envelope(row, timestamp="now"),
        envelope(row | {"cdc_lsn": value}),
        envelope(row).replace(b'"metadata"', b'"old":' + text + b',"metadata"'),
        envelope(b'{"email":%s,"\\udfff":1}' % text),
    ]
    return [*good, *bad]


@pytest.mark.parametrize("on_poison", ["quarantine", "stop"])
@pytest.mark.parametrize("value", RAW_VALUES, ids=["word", "unicode", "quotes", "line", "integer", "decimal"])
def test_promise_7_no_masked_value_is_shown(
    s3: Any, handle: Handle, capfd: pytest.CaptureFixture[str], value: Any, on_poison: str
) -> None:
    good, bad = kinds_of(value)[:6], kinds_of(value)[6:]
    unmasked = envelope(b"[1]", table_name="loan")
    delivered = event(*good, *bad, unmasked, *good)
    for _ in range(2):  # the second time it is delivered again
        handle(delivered, ON_POISON=on_poison, **MASKED)

    found = objects(s3, BUCKET)
    shown = {key: body for key, body in found.items() if "quarantine/restricted/" not in key}
    assert sum(body.count(b"\n") for body in shown.values()) == (12 if on_poison == "quarantine" else 6)
    printed = capfd.readouterr()
    for raw in (RAW, "31337"):
        assert not [key for key in found if raw in key]
        assert not [key for key, body in shown.items() if raw.encode() in body]
        assert raw not in printed.out + printed.err
    assert len(reasons(s3)) == (len(bad) + 1 if on_poison == "quarantine" else 0)


def test_promise_2_a_batch_delivered_again_is_rewritten_masked(s3: Any, handle: Handle) -> None:
    delivered = event(envelope(CLIENT), envelope(CLIENT))
    handle(delivered)
    before = objects(s3, BUCKET)
    handle(delivered, **MASKED)
    after = objects(s3, BUCKET)
    handle(delivered, **MASKED)

    assert after.keys() == before.keys()
    assert EMAIL.encode() not in b"".join(after.values())
    assert objects(s3, BUCKET) == after


def landed(payloads: list[bytes], masked_columns: str = MASKS) -> tuple[MemoryS3, str]:
    """What the payloads become in an S3 that never fails, and what was logged."""
    client, log = MemoryS3(), StringIO()
    given = Settings(s3_bucket="landing", masked_columns=masked_columns, mask_secret=SECRET)
    with redirect_stderr(log):
        land(event(*payloads), given, lambda _: client, lambda: 120)
    return client, log.getvalue()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
table_rows = st.dictionaries(
    st.sampled_from(["email", "iban", "name", "id", "Email", "é", 'a"b'])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(
        lambda name: name not in lambda_function.RESERVED_COLUMNS
    ),
    json_values,
    max_size=6,
)


@given(st.lists(st.tuples(table_rows, st.none() | table_rows, st.booleans()), min_size=1, max_size=5))
@settings(max_examples=120, deadline=None)
def test_promise_3_a_row_without_its_masked_columns_is_that_of_a_handler_without_masks(changes: Any) -> None:
    payloads = [
        (pretty if is_pretty else bytes)(envelope(row, before=before)) for row, before, is_pretty in changes
    ]
    masked, _ = landed(payloads)
    plain, _ = landed(payloads, masked_columns="")

    expected = {row["cdc_sequence_number"]: row for row in plain.rows("changes/")}
    found = {row["cdc_sequence_number"]: row for row in masked.rows("changes/")}
    set_aside = {row["cdc_sequence_number"] for row in masked.rows("quarantine/restricted/")}
    assert found.keys() | set_aside == expected.keys()
    assert not found.keys() & set_aside
    for sequence, row in found.items():
        assert without_masked(row) == without_masked(expected[sequence])
        assert [*without_masked(row)] == [*without_masked(expected[sequence])]
        for seen in (row, row["cdc_before"] or {}):
            assert "name" not in seen
            assert seen.get("iban") is None
            assert seen.get("email") is None or len(seen["email"]) == 64


def without_masked(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: without_masked(value) if name == "cdc_before" and value else value
        for name, value in row.items()
        if name not in ("email", "iban", "name")
    }


@given(
    st.dictionaries(st.sampled_from(["email", "iban", "name"]), st.text('xyzé\U0001f600"\\\n', max_size=9)),
    st.integers(0, 400),
    st.binary(max_size=3) | st.sampled_from([b'"', b"}", b",", b"\\u0061", b"\n", b"{"]),
)
@settings(max_examples=120, deadline=None)
def test_promise_7_a_damaged_record_shows_nothing(values: dict[str, str], at: int, damage: bytes) -> None:
    marked = {name: f"{RAW}{value}" for name, value in values.items()}
    whole = envelope(marked, before=marked)
    end = whole.index(b'"metadata"')  # a record that names another table is none of a masked one
    payload = whole[: at % end] + damage + whole[at % end :]
    client, log = landed([envelope({"id": 1}), payload])

    for row in client.rows("changes/"):
        assert not shown_in(row) & {"email", "iban", "name"}
    assert not [key for key in client.bodies if RAW in key]
    assert RAW not in log


def shown_in(row: dict[str, Any]) -> set[str]:
    """Names of the members of row and before image that show the mark; damage can make new ones of them."""
    members = [*row.items(), *(row["cdc_before"] or {}).items()]
    return {name for name, value in members if name != "cdc_before" and RAW in f"{value}"}


# --------------------------------------------------------------------------------------------------------
# The key
# --------------------------------------------------------------------------------------------------------


@contextmanager
def secrets_manager(*answers: tuple[int, dict[str, Any]]) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """The address of a Secrets Manager that gives these answers, then the last again; who asked for what."""
    asked: list[tuple[str, Any]] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            access_key = self.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
            asked.append((access_key, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            status, answer = answers[min(len(asked), len(answers)) - 1]
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing: stderr is the handler's."""

    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


BY_ARN = Settings("landing", masked_columns=MASKS, mask_secret_arn=ARN)
DENIED = {"__type": "AccessDeniedException", "message": f"not authorized, {RAW}"}
ABSENT = {"__type": "ResourceNotFoundException", "message": RAW}


def test_key_of_secrets_manager_is_read_once_an_environment(s3: Any, handle: Handle) -> None:
    client = boto3.client("secretsmanager")
    arn = client.create_secret(Name="lending-mask", SecretString=SECRET)["ARN"]
    handle(event(envelope(CLIENT)), MASKED_COLUMNS=MASKS, MASK_SECRET_ARN=arn)
    client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    handle(event(envelope(CLIENT), first=FIRST_SEQUENCE + 9), MASKED_COLUMNS=MASKS, MASK_SECRET_ARN=arn)

    assert [columns(row)["email"] for row in rows(s3, BUCKET)] == [ADA, ADA]


@pytest.mark.parametrize(
    ("status", "answer", "error", "text"),
    [
        (
            400,
            DENIED,
            SecretError,
            f"cannot read the secret {ARN}: AccessDeniedException (HTTP 400): allow "
            "secretsmanager:GetSecretValue on this ARN, and the use of its KMS key",
        ),
        (
            400,
            ABSENT,
            SecretError,
            f"cannot read the secret {ARN}: ResourceNotFoundException (HTTP 400): "
            "correct MASK_SECRET_ARN, or make the secret",
        ),
        (
            200,
            {"SecretString": "fifteen letters"},
            SettingsError,
            f"settings: the secret of MASK_SECRET_ARN='{ARN}' is no text of 16 characters or more: "
            "put one into it",
        ),
        (
            200,
            {"SecretBinary": "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"},
            SettingsError,
            f"settings: the secret of MASK_SECRET_ARN='{ARN}' is no text of 16 characters or more: "
            "put one into it",
        ),
    ],
    ids=["denied", "absent", "short", "binary"],
)
def test_promise_1_without_its_key_a_batch_fails_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, status: int, answer: dict[str, Any], error: type[Exception], text: str
) -> None:
    client = MemoryS3()
    with secrets_manager((status, answer)) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)
        with pytest.raises(error) as raised:
            land(event(envelope(table_name="loan")), BY_ARN, lambda _: client, lambda: 120)

    assert str(raised.value) == text
    assert client.bodies == {}


def test_a_key_that_could_not_be_read_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MemoryS3()
    with secrets_manager((400, DENIED), (200, {"SecretString": SECRET})) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)
        with pytest.raises(SecretError):
            land(event(envelope(CLIENT)), BY_ARN, lambda _: client, lambda: 120)
        land(event(envelope(CLIENT)), BY_ARN, lambda _: client, lambda: 120)

    assert asked == [("test", {"SecretId": ARN})] * 2
    assert [columns(row)["email"] for row in client.rows("changes/")] == [ADA]


def test_secrets_manager_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    with pytest.raises(SecretError) as raised:
        masking_of(BY_ARN)

    assert str(raised.value) == (
        f"cannot read the secret {ARN}: EndpointConnectionError: check the network and "
        "AWS_ENDPOINT_URL_SECRETS_MANAGER"
    )


def test_secret_is_not_read_where_nothing_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")
    masking = masking_of(Settings(masked_columns="public.client.name=drop", mask_secret_arn=ARN))

    assert masking is not None
    assert masking.tables == {("public", "client"): {"name": "drop"}}


def test_nothing_masked_is_no_masking() -> None:
    assert masking_of(Settings(mask_secret=SECRET)) is None


@pytest.mark.parametrize(
    "values",
    [{"masked_columns": "email=sha256"}, {"masked_columns": MASKS}],
    ids=["unreadable", "no-key"],
)
def test_masks_that_cannot_be_applied_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        masking_of(Settings(**values))


def test_promise_7_a_batch_is_not_read_without_the_masks_of_its_settings() -> None:
    records = event(envelope(CLIENT))["Records"]
    with pytest.raises(SettingsError, match="MASKED_COLUMNS is set"):
        read_batch(records, Settings(masked_columns=MASKS, mask_secret=SECRET))


@pytest.mark.parametrize("text", ["", "ada@example.com", "Zoë 😀", "x" * 1000])
def test_hash_is_hmac_sha256_in_hexadecimal_digits(text: str) -> None:
    assert Masking({}, SECRET).hash_text(text) == hashed(text)


def test_another_key_gives_another_hash() -> None:
    assert Masking({}, SECRET).hash_text(EMAIL) == ADA
    assert Masking({}, SECRET + "!").hash_text(EMAIL) != ADA


# --------------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------------


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """python lambda_function.py on the sample event."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
    return subprocess.run(
        [sys.executable, str(ROOT / "lambda_function.py")],
        cwd=folder,
        env={**kept, "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def emails_of(folder: Path) -> list[str]:
    """Of the clients of the sample event's first hour; two have the same address, the second none."""
    import gzip

    [path] = folder.glob("output/changes/public/client/cdc_date=2026-03-01/cdc_hour=09/*.jsonl.gz")
    return [json.loads(line)["email"] for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_command_line_masks_with_the_key_of_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"MASKED_COLUMNS=public.client.email=sha256\nMASK_SECRET={SECRET}\n")
    result = run(tmp_path)

    assert (result.returncode, SECRET in result.stdout + result.stderr) == (0, False)
    found = emails_of(tmp_path)
    assert found[0] == hashed("mari@example.com")
    assert found[1] is None
    assert found[2] == found[4] == hashed("siobhan@example.com")


def test_command_line_reads_a_secret_from_aws_though_its_s3_is_embedded(tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "y"}
    with secrets_manager((200, {"SecretString": SECRET})) as (url, asked):
        result = run(
            tmp_path,
            **keys,
            MASKED_COLUMNS="public.client.email=sha256",
            MASK_SECRET_ARN=ARN,
            AWS_ENDPOINT_URL_SECRETS_MANAGER=url,
        )

    assert (result.returncode, asked) == (0, [("mine", {"SecretId": ARN})])
    assert emails_of(tmp_path)[0] == hashed("mari@example.com")
