"""Whatever a record holds: the handler does not raise, loses nothing, and shows nothing of it."""

from __future__ import annotations

import base64
import json
import random
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import pytest
from events import MemoryS3, compact, envelope, event, metadata, pretty
from hypothesis import given, settings
from hypothesis import strategies as st

import lambda_function

SETTINGS = lambda_function.Settings(s3_bucket="landing")


def land(payloads: list[bytes], first: int = 1, **changes: str) -> tuple[MemoryS3, str]:
    """What the payloads become in an S3 that never fails, and what was logged."""
    client, log = MemoryS3(), StringIO()
    with redirect_stderr(log):
        lambda_function.land(
            event(*payloads, first=first),
            lambda_function.Settings(s3_bucket="landing", **changes),
            lambda _: client,
            lambda: 120,
        )
    return client, log.getvalue()


def assert_exact(client: MemoryS3, payloads: list[bytes]) -> None:
    """Each record is in one place, the quarantined ones byte for byte."""
    folders = {folder: client.rows(f"{folder}/") for folder in ("changes", "control", "quarantine")}
    found = sorted(int(row["cdc_sequence_number"]) for rows in folders.values() for row in rows)
    assert found == list(range(1, len(payloads) + 1))
    for row in folders["quarantine"]:
        assert base64.b64decode(row["cdc_payload"]) == payloads[int(row["cdc_sequence_number"]) - 1]
    for row in folders["changes"]:
        sent = json.loads(payloads[int(row["cdc_sequence_number"]) - 1])
        assert {name: row[name] for name in row if name not in lambda_function.RESERVED_COLUMNS} == sent[
            "data"
        ]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
rows = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12), json_values, max_size=5
)
names = st.none() | st.text(max_size=70).filter(lambda name: name.isprintable()) | st.just("awsdms_status")
metadata_changes = st.fixed_dictionaries(
    {},
    optional={
        "record_type": st.sampled_from(["data", "control", "other", None, 1]),
        "operation": st.text(max_size=5) | st.none(),
        "schema_name": names,
        "table_name": names,
        "timestamp": st.sampled_from(["2026-03-01T09:00:00Z", "2026-02-30T09:00:00Z", "now", None, 5]),
        "commit_timestamp": st.sampled_from(["2026-03-01T09:00:00.5Z", "0000-00-00T00:00:00Z", None, []]),
        "stream_position": st.text(max_size=20) | st.none(),
        "transaction_id": st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.none(),
    },
)
envelopes = st.builds(
    lambda data, before, changes: envelope(compact(data), before=before, **changes),
    rows | json_values,
    st.none() | rows,
    metadata_changes,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good envelope with some of its bytes cut, doubled or changed."""
    body = bytearray(draw(envelopes))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"}", b"\\u", b"\n"])
        )
    return bytes(body)


jsonish = st.text(st.sampled_from('{}[]",:\\ \n\t01e+-.utnrf\u00e9\U0001f600'), max_size=60).map(str.encode)
payload_strategy = st.one_of(
    st.binary(max_size=80), jsonish, envelopes, envelopes.map(lambda e: e + b"\n"), mutated()
)


@given(st.lists(payload_strategy, min_size=1, max_size=8))
@settings(max_examples=160, deadline=None)
def test_promise_1_whatever_a_payload_holds_it_lands_once(payloads: list[bytes]) -> None:
    client, _ = land(payloads)

    assert_exact(client, payloads)


@given(st.lists(payload_strategy | rows.map(lambda row: envelope(row)), min_size=2, max_size=10))
@settings(max_examples=120, deadline=None)
def test_promise_2_neighbours_do_not_change_what_becomes_of_a_record(payloads: list[bytes]) -> None:
    """Records are read many at a time, in several ways; each way has to give the same."""
    together, _ = land(payloads)
    alone: dict[str, list[dict[str, Any]]] = {}
    for i, payload in enumerate(payloads):
        client, _ = land([payload], first=1 + i)
        for folder in ("changes", "control", "quarantine"):
            alone.setdefault(folder, []).extend(client.rows(f"{folder}/"))
    for folder, expected in alone.items():
        found = sorted(together.rows(f"{folder}/"), key=lambda row: row["cdc_sequence_number"])
        assert found == expected


@given(st.lists(rows, min_size=1, max_size=6), st.data())
@settings(max_examples=160, deadline=None)
def test_promise_3_values_of_any_shape_come_back(data: list[dict[str, Any]], draw: st.DataObject) -> None:
    data = [row for row in data if not lambda_function.RESERVED_COLUMNS & row.keys()] or [{}]
    write = draw.draw(st.sampled_from([lambda payload: payload, pretty]))
    payloads = [write(envelope(row)) for row in data]
    client, _ = land(payloads)

    assert_exact(client, payloads)
    assert client.rows("quarantine/") == []


number_text = st.from_regex(r"-?(0|[1-9][0-9]{0,50})(\.[0-9]{1,50})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
string_text = st.from_regex(
    r'"([ !#-\[\]-~é€\U0001f600]|\\["\\/bfnrt]|\\u00[0-9a-f]{2}|\\ud83d\\ude0[0-9])*"', fullmatch=True
)


@given(st.lists(number_text | string_text, min_size=1, max_size=8))
@settings(max_examples=160, deadline=None)
def test_promise_3_bytes_of_awkward_values_are_those_of_dms(values: list[str]) -> None:
    import gzip

    columns = ",".join(f'"c{i}":{value}' for i, value in enumerate(values)).encode()
    client, _ = land([envelope(b"{" + columns + b"}")])

    [body] = client.bodies.values()
    assert gzip.decompress(body).endswith(b'"cdc_before":null,' + columns + b"}\n")


@given(st.randoms(use_true_random=False), st.sampled_from(["quarantine", "stop"]))
@settings(max_examples=150, deadline=None)
def test_promise_6_nothing_of_a_row_is_logged_or_named(rng: random.Random, on_poison: str) -> None:
    canary = "c4n4ry"
    row = {canary: canary, "iban": f"{canary}-{rng.random()}", "n": [canary]}
    keys = metadata(partition_key_value=canary, operation=canary, stream_position=canary)
    good = compact({"data": row, "before-image": row, "metadata": keys})
    cut = rng.randrange(1, len(good))
    spoiled = [
        good[:cut],
        good[cut:],
        good.replace(b"2026", canary.encode()),
        good.replace(b'"data",', b'"%s",' % canary.encode()),
        good.replace(b'"insert"', b'{"%s":1}' % canary.encode()),
        compact({"data": canary, "metadata": keys}),
        compact({"data": row | {"cdc_lsn": canary}, "metadata": keys}),
        compact(canary),
    ]
    client, log = land([good, *rng.sample(spoiled, 3), good], on_poison=on_poison)

    assert canary not in log
    assert not [key for key in client.bodies if canary in key]


@pytest.mark.parametrize("wrong", ["eventSource", "eventID", "kinesis", "sequenceNumber", "data"])
def test_promise_6_nothing_of_a_row_is_in_the_error_of_a_broken_event(wrong: str) -> None:
    canary = "c4n4ry"
    broken = event(envelope({"name": canary}))
    record = broken["Records"][0]
    (record if wrong in record else record["kinesis"])[wrong] = {canary: canary}
    with pytest.raises(lambda_function.EventError) as raised:
        lambda_function.land(broken, SETTINGS, lambda _: MemoryS3(), lambda: 120)

    assert canary not in str(raised.value)
    assert raised.value.__suppress_context__
