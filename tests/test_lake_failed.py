"""lake.py failed: what was set aside is listed without its content, and lands as if it never had been.

The bug of these tests is a wrong BEFORE_IMAGE_FIELD: rows with a before image are quarantined until then.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import BUCKET, shared_session
from events import FIRST_SEQUENCE, SHARD, STREAM_ARN, envelope, event, record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lambda_function
from lake_tools import failed, redrive
from lake_tools.bucket import Lake
from lake_tools.set_aside import read_quarantine
from lake_tools.settings import LakeError, LakeSettings
from local_run.event_source_mapping.batches import Origin, Piece, StreamRecord, event_record
from local_run.event_source_mapping.shards import failed_key, invocation_record
from local_run.runtime import Outcome
from provision.aws import Account
from provision.status_set_aside import quarantined

FAILED = "lending-failed-123456789012"
ARRIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)  # the day of the records of tests/events.py
EXAMPLES = int(os.environ.get("REDRIVE_EXAMPLES", "10"))
BUG = "old-row"  # a BEFORE_IMAGE_FIELD that the task does not write
UNKNOWN_KEY = "the envelope has an unknown key: is BEFORE_IMAGE_FIELD the FieldName of the task?"
SECRET = "Geheimrat"
Rows = dict[str, tuple[str, bytes]]


BROKEN_GZIP = lambda_function.gzipped([b"{}\n"])[:10] + b"\xff" * 20  # zlib's own error


@pytest.fixture
def lake(s3: Any, tmp_path: Path) -> Lake:
    """The lake of a pipeline with both buckets, read by someone whose BEFORE_IMAGE_FIELD is right."""
    s3.create_bucket(Bucket=FAILED, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for bucket in (BUCKET, FAILED):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return lake_of(tmp_path / "cache")


def lake_of(cache: Path, **changes: Any) -> Lake:
    given = LakeSettings(s3_bucket=BUCKET, pipeline_name="lending")
    return Lake(replace(given, **changes), session(), cache)


@lru_cache
def session() -> Any:
    """Made once: what it reads of AWS's services costs more time than most tests."""
    return shared_session()


@pytest.fixture
def call(lake: Lake, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs lake.py failed ...: call("list", "--json") gives exit code, stdout and stderr."""

    def run(*arguments: str, of: Lake = lake) -> Any:
        capsys.readouterr()
        code = run_failed(of, *arguments)
        shown = capsys.readouterr()
        return SimpleNamespace(code=code, out=shown.out, err=shown.err)

    return run


def run_failed(lake: Lake, *arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="lake.py failed")
    failed.add_arguments(parser)
    return failed.run(parser.parse_args(arguments), lake)


def deliver(s3: Any, records: list[Any], prefix: str = "", before_image_field: str = "before-image") -> None:
    """What the function does when it is given the records."""
    given = lambda_function.Settings(
        s3_bucket=BUCKET, s3_prefix=prefix, before_image_field=before_image_field, log_level="ERROR"
    )
    lambda_function.land({"Records": records}, given, lambda _: s3, lambda: 600.0)


def give_up(s3: Any, records: list[Any], mapping: str = "11111111") -> str:
    """What the event source mapping writes of records that it gives up; the object's key."""
    origin = Origin(STREAM_ARN, SHARD, "arn:aws:iam::123456789012:role/lending-lambda", "eu-west-1")
    piece = Piece([event_record(stream_record(one["kinesis"]), origin) for one in records], invocations=3)
    function = SimpleNamespace(
        version="7", arn="arn:aws:lambda:eu-west-1:123456789012:function:lending-lambda"
    )
    setup: Any = SimpleNamespace(
        mapping=SimpleNamespace(uuid=mapping, stream_arn=STREAM_ARN),
        deployed=SimpleNamespace(function=function),
    )
    outcome = Outcome("error", {"errorType": "UploadError"})
    body = invocation_record(piece, setup, SHARD, "RetryAttemptsExhausted", outcome)
    key = failed_key(mapping, SHARD, ARRIVED)
    s3.put_object(Bucket=FAILED, Key=key, Body=body)
    return key


def stream_record(kinesis: dict[str, Any]) -> StreamRecord:
    arrived_at = kinesis["approximateArrivalTimestamp"]
    return StreamRecord(kinesis["data"], kinesis["partitionKey"], kinesis["sequenceNumber"], arrived_at)


def update(n: int, table: str = "client", **columns: Any) -> bytes:
    """An update with a before image: what the bug can't read."""
    names: dict[str, Any] = {"operation": "update", "table_name": table, "transaction_record_id": n}
    return envelope({"id": n, **columns}, before={"id": n}, **names)


def bodies(s3: Any, bucket: str = BUCKET) -> dict[str, tuple[str, bytes]]:
    """ETag and body of each object that is there."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    answers = {key: s3.get_object(Bucket=bucket, Key=key) for key in keys}
    return {key: (answer["ETag"], answer["Body"].read()) for key, answer in answers.items()}


def rows_of(s3: Any, prefix: str = "", folders: tuple[str, ...] = ("changes/", "control/")) -> Rows:
    """Folder and line of each record. Fails where one has two contents, or is in two folders."""
    rows: Rows = {}
    for key, (_, body) in bodies(s3).items():
        if not key.startswith(tuple(prefix + folder for folder in folders)):
            continue
        for line in gzip.decompress(body).splitlines():
            number = json.loads(line)["cdc_sequence_number"]
            found = (key.removeprefix(prefix).rpartition("/")[0], line)
            assert rows.setdefault(number, found) == found
    return rows


# ----------------------------------------------------------------------------------------------------------
# Redrive of quarantined records
# ----------------------------------------------------------------------------------------------------------


def mixed_records() -> Any:
    """A control record, rows of two tables and two hours with and without before images, and true poison."""
    control = envelope({}, record_type="control", operation="create-table")
    late = envelope({"id": 8}, before={"id": 1}, operation="update", commit_timestamp="2026-03-01T10:00:00Z")
    payloads = (
        control,
        envelope(),
        update(2),
        update(3, "loan"),
        b"{",
        late,
        update(4, name='\u00f6\u2028 "x"'),
    )
    return event(*payloads)["Records"]


@pytest.mark.parametrize("prefix", ["", "raw/lending/"])
def test_redriven_quarantine_equals_a_run_without_the_bug(
    s3: Any, lake: Lake, prefix: str, tmp_path: Path
) -> None:
    deliver(s3, mixed_records(), prefix, before_image_field=BUG)
    deliver(s3, mixed_records(), "without-bug/")

    assert run_failed(lake_of(tmp_path / "other", s3_prefix=prefix), "redrive", "--kind", "poison") == 1

    rows = rows_of(s3, prefix)
    assert rows == rows_of(s3, "without-bug/")
    assert len(rows) == 6  # all but the true poison


def test_redriven_rows_are_in_objects_of_their_own(s3: Any, lake: Lake) -> None:
    deliver(s3, event(envelope(), update(2), update(3))["Records"], before_image_field=BUG)
    before = bodies(s3)

    run_failed(lake, "redrive")

    folder = "changes/public/client/cdc_date=2026-03-01/cdc_hour=09/"
    quarantine = f"quarantine/cdc_date=2026-03-01/{SHARD}-{FIRST_SEQUENCE + 1}.jsonl.gz"
    etag = before[quarantine][0].strip('"')
    after = bodies(s3)
    assert {key: after[key] for key in before} == before
    assert after.keys() - before.keys() == {
        f"{folder}{SHARD}-{FIRST_SEQUENCE + 1}.redrive.jsonl.gz",
        f"redriven/{quarantine}/{etag}.2-of-2.jsonl.gz",
    }


def test_second_redrive_changes_nothing(s3: Any, lake: Lake, call: Callable[..., Any]) -> None:
    deliver(s3, mixed_records(), before_image_field=BUG)
    give_up(s3, event(update(9), first=FIRST_SEQUENCE + 90)["Records"])
    call("redrive")
    before = versions(s3)

    again = call("redrive")

    assert versions(s3) == before
    assert again.out.splitlines() == [
        "batch: nothing to redrive",
        "poison: 1 object, 0 records landed, in 0 new objects",
        "          1  stays: the payload is not JSON",
    ]


def versions(s3: Any) -> list[Any]:
    """Every version that was ever written, and every delete marker."""
    found = []
    for bucket in (BUCKET, FAILED):
        answer = s3.list_object_versions(Bucket=bucket)
        for part in ("Versions", "DeleteMarkers"):
            found += [(bucket, part, one["Key"], one["VersionId"]) for one in answer.get(part, [])]
    return found


def test_record_that_is_still_poison_stays_and_the_others_are_marked(s3: Any, lake: Lake, call: Any) -> None:
    deliver(s3, mixed_records(), before_image_field=BUG)

    first = call("redrive", "--json")

    listed = json.loads(call("list", "--json").out)["poison"]
    assert first.code == 1
    assert json.loads(first.out)["poison"] == {
        "sources": 1,
        "landed": {"changes/public/client/": 3, "changes/public/loan/": 1},
        "new_objects": 3,
        "unreadable": {"the payload is not JSON": 1},
        "faults": {},
    }
    assert listed["records"] == 1
    assert [line["reason"] for line in listed["reasons"]] == ["the payload is not JSON"]
    (poison,) = read_quarantine(lake).objects
    assert set(poison.landed.values()) < set(bodies(s3))  # a mark says where each record is


def test_quarantine_is_done_when_the_last_of_its_records_has_landed(
    s3: Any, lake: Lake, tmp_path: Path
) -> None:
    """Two bugs, corrected one after the other: what landed before is not run again."""
    other = envelope({"id": 1}, operation="update").replace(b'{"data"', b'{"before":{"id":7},"data"')
    deliver(s3, event(update(2), other)["Records"], before_image_field=BUG)

    codes = [
        run_failed(lake_of(tmp_path / name, before_image_field=name), "redrive")
        for name in ("before-image", "before", BUG)
    ]

    assert codes == [1, 0, 0]
    assert len(rows_of(s3)) == 2
    assert read_quarantine(lake).objects == []
    assert len([key for key in bodies(s3) if ".redrive." in key]) == 2


def test_each_kind_of_poison_is_the_same_poison_when_it_is_redriven(s3: Any, lake: Lake) -> None:
    """The event is made again as it was, be its data base64 or not."""
    poison = json.loads(Path("test-input/poison.json").read_text())["Records"]
    deliver(s3, poison)
    reasons = Counter(
        one.row.cdc_reason for found in read_quarantine(lake).objects for one in found.waiting()
    )
    before = versions(s3)

    outcome = redrive.redrive_quarantine(lake, read_quarantine(lake).objects, is_dry=False)

    assert outcome.poison == reasons
    assert reasons.total() == 15
    assert reasons[redrive.NOT_BASE64] == 1
    assert versions(s3) == before


def test_dry_run_tells_what_would_land_and_writes_nothing(s3: Any, lake: Lake, call: Any) -> None:
    deliver(s3, mixed_records(), before_image_field=BUG)
    give_up(s3, event(update(9), b"{", first=FIRST_SEQUENCE + 90)["Records"])
    before = versions(s3)

    found = call("redrive", "--dry-run")

    assert versions(s3) == before
    assert found.code == 1
    assert found.out.splitlines() == [
        "batch: 1 batch, 1 record would land",
        "          1  changes/public/client/",
        "          1  goes to quarantine/: the payload is not JSON",
        "poison: 1 object, 4 records would land",
        "          3  changes/public/client/",
        "          1  changes/public/loan/",
        "          1  stays: the payload is not JSON",
        "a dry run: nothing was written",
    ]


def test_objects_that_begin_alike_lose_no_row(s3: Any, lake: Lake) -> None:
    """Two cuts of a replay, with a record in both: where a key is taken, what is new gets another."""
    records = event(update(0, "loan"), update(1), update(2), update(3))["Records"]
    deliver(s3, records, "expected/")

    deliver(s3, records[0:3], before_image_field=BUG)
    assert run_failed(lake, "redrive") == 0  # client: 1, 2
    deliver(s3, records[1:4], before_image_field=BUG)
    assert run_failed(lake, "redrive") == 0  # client: 1, 2, 3

    assert rows_of(s3) == rows_of(s3, "expected/")
    names = [key.rpartition("/")[2] for key in bodies(s3) if key.startswith("changes/public/client/")]
    assert names == [f"{SHARD}-{FIRST_SEQUENCE + n}.redrive.jsonl.gz" for n in (1, 3)]


def test_object_that_was_quarantined_again_is_redriven_again_and_lands_nothing_twice(
    s3: Any, lake: Lake, call: Any
) -> None:
    records = event(update(1), update(2))["Records"]
    deliver(s3, records, before_image_field=BUG)
    call("redrive")
    rows = rows_of(s3)
    account = Account(session(), "lending")
    assert quarantined(account, BUCKET, "", ARRIVED).objects == 0

    deliver(s3, records, before_image_field=BUG)  # Lambda delivers the batch again, to the same bug

    assert quarantined(account, BUCKET, "", ARRIVED).objects == 1
    assert call("list").out.startswith("poison: 0 records in 1 object of ")
    assert call("redrive").code == 0
    assert quarantined(account, BUCKET, "", ARRIVED).objects == 0
    assert rows_of(s3) == rows
    assert len([key for key in bodies(s3) if ".redrive." in key]) == 1


def test_status_counts_what_waits_and_passes_over_what_was_redriven(s3: Any, lake: Lake) -> None:
    deliver(s3, event(update(1))["Records"], "raw/", before_image_field=BUG)
    deliver(s3, event(update(2), b"{", first=FIRST_SEQUENCE + 9)["Records"], "raw/", before_image_field=BUG)
    account = Account(session(), "lending")
    assert quarantined(account, BUCKET, "raw/", ARRIVED).objects == 2

    run_failed(lake_of(lake.cache / "raw", s3_prefix="raw/"), "redrive")

    assert quarantined(account, BUCKET, "raw/", ARRIVED).objects == 1


DELIVERIES = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "deliver", "deliver", "replay", "redrive"]),
        st.integers(1, 8),
        st.booleans(),  # with the bug
    ),
    max_size=12,
)
KINDS = st.lists(st.sampled_from(["update", "update", "insert", "loan", "poison"]), min_size=1, max_size=12)
numbers = count()


@given(kinds=KINDS, steps=DELIVERIES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_redrive_after_replays_loses_nothing(
    s3: Any, lake: Lake, tmp_path: Path, kinds: list[str], steps: list[tuple[str, int, bool]]
) -> None:
    """Whatever was delivered with the bug or without, again from anywhere, redriven with it or without."""
    name = f"run-{next(numbers)}/"
    payloads = {"insert": lambda n: envelope({"id": n}), "poison": lambda n: b"{", "update": update}
    makers: dict[str, Callable[[int], bytes]] = {**payloads, "loan": lambda n: update(n, "loan")}
    records = event(*(makers[kind](n) for n, kind in enumerate(kinds)))["Records"]
    lakes = {
        bug: lake_of(tmp_path / "shared", s3_prefix=name, before_image_field=BUG if bug else "before-image")
        for bug in (False, True)
    }
    done = 0
    for step, size, bug in [*steps, ("deliver", len(records), True), ("redrive", 0, False)]:
        if step == "deliver" and done < len(records):
            field_name = BUG if bug else "before-image"
            deliver(s3, records[done : done + size], name, field_name)
            done += size
        elif step == "replay":
            done = max(0, min(done, len(records)) - size)
        elif step == "redrive":
            run_failed(lakes[bug], "redrive", "--kind", "poison")
    while done < len(records):
        deliver(s3, records[done : done + 3], name, BUG)
        done += 3
    run_failed(lakes[False], "redrive", "--kind", "poison")

    expected = f"expected-{name}"
    deliver(s3, records, expected)
    assert rows_of(s3, name) == rows_of(s3, expected)
    waiting = {
        one.row.cdc_sequence_number
        for each in read_quarantine(lakes[False]).objects
        for one in each.waiting()
    }
    assert len(waiting) == kinds.count("poison")


# ----------------------------------------------------------------------------------------------------------
# Batches that were given up
# ----------------------------------------------------------------------------------------------------------


def test_batch_that_was_given_up_lands_as_if_it_never_had_been(s3: Any, lake: Lake, call: Any) -> None:
    records = mixed_records()
    deliver(s3, records[:2])
    give_up(s3, records[2:5])
    deliver(s3, records[5:])
    deliver(s3, records, "expected/")

    found = call("redrive", "--kind", "batch")

    everything = ("changes/", "control/", "quarantine/")
    assert found.code == 1  # one of its records is poison, and now in quarantine/
    assert rows_of(s3, folders=everything) == rows_of(s3, "expected/", everything)
    assert bodies(s3, FAILED) == {}
    assert "poison: 1 record in 1 object" in call("list").out


def test_batch_is_removed_only_in_a_new_version(s3: Any, lake: Lake) -> None:
    key = give_up(s3, event(envelope())["Records"])

    run_failed(lake, "redrive")

    assert [(part, name) for bucket, part, name, _ in versions(s3) if bucket == FAILED] == [
        ("Versions", key),
        ("DeleteMarkers", key),
    ]


def test_batch_that_landed_in_part_before_lands_no_row_in_another_form(s3: Any, lake: Lake) -> None:
    records = event(envelope(), update(2), update(3, "loan"))["Records"]
    deliver(s3, records[:2])
    give_up(s3, records)
    deliver(s3, records, "expected/")

    assert run_failed(lake, "redrive") == 0

    assert rows_of(s3) == rows_of(s3, "expected/")


BAD_DOCUMENTS = {
    "no JSON": (b"{", "expected an invocation record of Lambda, found no JSON object"),
    "no object": (b"[]", "expected an invocation record of Lambda, found no JSON object"),
    "no payload": (b"{}", "expected the event under payload, found none: Lambda gives it to S3 only"),
    "no JSON in it": (b'{"payload":"{"}', "expected the event under payload, found no JSON"),
    "no event": (
        b'{"payload":"{}"}',
        "expected the event of a Kinesis event source mapping, found no Records in it",
    ),
}


@pytest.mark.parametrize(("body", "reason"), BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS)
def test_batch_without_an_event_stays_and_says_why(
    s3: Any, lake: Lake, call: Any, body: bytes, reason: str
) -> None:
    s3.put_object(Bucket=FAILED, Key="aws/lambda/1/odd", Body=body)
    give_up(s3, event(envelope())["Records"])

    found = call("redrive", "--kind", "batch")

    assert found.code == 1
    assert found.out.splitlines() == [
        "batch: 2 batches, 1 record landed, in 1 new object",
        "          1  changes/public/client/",
        f"  stays: aws/lambda/1/odd: {reason}",
    ]
    assert list(bodies(s3, FAILED)) == ["aws/lambda/1/odd"]


def test_batch_with_records_that_are_not_of_kinesis_stays(s3: Any, lake: Lake, call: Any) -> None:
    body = json.dumps({"payload": json.dumps({"Records": [{"body": SECRET}]})})
    s3.put_object(Bucket=FAILED, Key="aws/lambda/1/odd", Body=body)

    found = call("redrive")

    assert found.code == 1
    assert "stays: aws/lambda/1/odd: Records[0] is no Kinesis record" in found.out
    assert SECRET not in found.out


def test_event_that_is_no_text_is_read_too(s3: Any, lake: Lake) -> None:
    """AWS documents the event itself under payload; what was seen is its text."""
    s3.put_object(Bucket=FAILED, Key="aws/lambda/1/2", Body=json.dumps({"payload": event(envelope())}))

    assert run_failed(lake, "redrive") == 0

    assert len(rows_of(s3)) == 1


# ----------------------------------------------------------------------------------------------------------
# Killed, twice at once, refused
# ----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


class MortalS3:
    """A client that dies with a write, before or after S3 has it, and then does nothing any more."""

    WRITES = ("put_object", "delete_object")

    def __init__(self, client: Any, fatal_write: int, is_written: bool) -> None:
        self.client = client
        self.writes_left = fatal_write
        self.is_written = is_written
        self.is_dead = False
        self.lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            with self.lock:
                if self.is_dead:
                    raise Killed
                if name in self.WRITES:
                    self.writes_left -= 1
                self.is_dead = self.writes_left == 0
                if not self.is_dead or self.is_written:
                    answer = getattr(self.client, name)(**arguments)
                if self.is_dead:
                    raise Killed
                return answer

        return call if name in (*self.WRITES, "get_object") else getattr(self.client, name)


@pytest.mark.parametrize("is_written", [False, True], ids=["before it is written", "after it is written"])
def test_redrive_that_is_killed_at_any_write_ends_the_same(
    s3: Any, lake: Lake, tmp_path: Path, is_written: bool
) -> None:
    """Both kinds, several objects; a write more at each turn until one comes through."""

    def set_the_stage() -> None:
        for bucket in (BUCKET, FAILED):
            for key in bodies(s3, bucket):
                s3.delete_object(Bucket=bucket, Key=key)
        deliver(s3, mixed_records(), before_image_field=BUG)
        deliver(s3, event(update(20), update(21, "loan"), first=FIRST_SEQUENCE + 20)["Records"], "", BUG)
        give_up(s3, event(update(40), b"{", update(42, "loan"), first=FIRST_SEQUENCE + 40)["Records"])
        give_up(s3, event(envelope(), first=FIRST_SEQUENCE + 60)["Records"])

    set_the_stage()
    run_failed(lake, "redrive")
    expected = bodies(s3)
    writes = len(expected) - len(
        [key for key in expected if key.startswith("quarantine/") and "redrive" not in key]
    )
    assert bodies(s3, FAILED) == {}

    for fatal_write in range(1, 100):
        set_the_stage()
        mortal = lake_of(tmp_path / f"killed-{fatal_write}")
        client, mortal.s3 = mortal.s3, MortalS3(mortal.s3, fatal_write, is_written)
        try:
            run_failed(mortal, "redrive")
        except Killed:
            mortal.s3 = client
            run_failed(mortal, "redrive")
        else:
            break
        assert bodies(s3) == expected, fatal_write
        assert bodies(s3, FAILED) == {}, fatal_write
    assert fatal_write > writes > 10


def test_two_redrives_at_once_end_as_one_does(s3: Any, lake: Lake, tmp_path: Path) -> None:
    for n in range(10):
        deliver(s3, event(update(n), update(n, "loan"), first=FIRST_SEQUENCE + 10 * n)["Records"], "", BUG)
        give_up(s3, event(update(n), first=FIRST_SEQUENCE + 1000 + n)["Records"])
        deliver(
            s3, event(update(n), update(n, "loan"), first=FIRST_SEQUENCE + 10 * n)["Records"], "expected/"
        )
        deliver(s3, event(update(n), first=FIRST_SEQUENCE + 1000 + n)["Records"], "expected/")
    lakes = [lake_of(tmp_path / f"{n}") for n in range(2)]
    codes: list[int] = []
    threads = [threading.Thread(target=lambda one=one: codes.append(run_until_done(one))) for one in lakes]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert codes == [0, 0]
    assert rows_of(s3) == rows_of(s3, "expected/")
    assert read_quarantine(lake).objects == []


def run_until_done(lake: Lake) -> int:
    """A batch that the other one has removed since it was listed ends a redrive: it is to be run again."""
    for _ in range(20):
        with suppress(LakeError):
            return run_failed(lake, "redrive")
    raise AssertionError("no end")


def refuse(
    lake: Lake, operation: str, code: str = "AccessDenied", bucket: str = BUCKET, times: int = 10**9
) -> None:
    """So often, from now on, this operation on this bucket is refused."""
    status = {"AccessDenied": 403, "ConditionalRequestConflict": 409}[code]
    left = iter(range(times))

    def answer(params: dict[str, Any], **_: Any) -> None:
        if params["Bucket"] == bucket and next(left, None) is not None:
            raise ClientError(
                {"Error": {"Code": code, "Message": SECRET}, "ResponseMetadata": {"HTTPStatusCode": status}},
                operation,
            )

    lake.s3.meta.events.register(f"provide-client-params.s3.{operation}", answer)


def test_write_that_is_refused_ends_the_redrive_with_advice(s3: Any, lake: Lake) -> None:
    deliver(s3, event(update(1))["Records"], before_image_field=BUG)
    refuse(lake, "PutObject")

    with pytest.raises(LakeError) as error:
        run_failed(lake, "redrive")

    assert "cannot write s3://landing/changes/public/client/" in str(error.value)
    assert "allow s3:PutObject on this key" in str(error.value)
    assert SECRET not in str(error.value)


def test_write_that_meets_another_one_is_tried_again(s3: Any, lake: Lake, tmp_path: Path) -> None:
    deliver(s3, event(update(1))["Records"], before_image_field=BUG)
    refuse(lake, "PutObject", "ConditionalRequestConflict", times=4)
    assert run_failed(lake, "redrive") == 0

    deliver(s3, event(update(2), first=FIRST_SEQUENCE + 9)["Records"], before_image_field=BUG)
    busy = lake_of(tmp_path / "busy")
    refuse(busy, "PutObject", "ConditionalRequestConflict")
    with pytest.raises(LakeError, match="ConditionalRequestConflict"):
        run_failed(busy, "redrive")


def test_batch_that_may_not_be_removed_has_landed_all_the_same(s3: Any, lake: Lake, tmp_path: Path) -> None:
    key = give_up(s3, event(envelope())["Records"])
    refuse(lake, "DeleteObject", bucket=FAILED)

    with pytest.raises(LakeError) as error:
        run_failed(lake, "redrive")

    assert str(error.value) == (
        f"the batch has landed, but cannot delete s3://{FAILED}/{key}: "
        "AccessDenied: allow s3:DeleteObject on it; run this again"
    )
    assert len(rows_of(s3)) == 1
    assert run_failed(lake_of(tmp_path / "allowed"), "redrive") == 0
    assert (len(bodies(s3)), bodies(s3, FAILED)) == (1, {})


def test_batch_that_may_not_be_read_names_the_tag(s3: Any, lake: Lake) -> None:
    give_up(s3, event(envelope())["Records"])
    refuse(lake, "GetObject", bucket=FAILED)

    with pytest.raises(LakeError) as error:
        run_failed(lake, "list")

    assert str(error.value).endswith(
        "its policy also asks for a tag of you: aws iam tag-role --role-name ROLE "
        "--tags Key=pipeline,Value=lending; --kind poison does without it"
    )


@pytest.mark.parametrize("body", [b"theirs", BROKEN_GZIP], ids=["no-gzip", "broken-gzip"])
def test_object_of_somebody_else_under_a_key_of_ours_is_named_and_kept(
    s3: Any, lake: Lake, body: bytes
) -> None:
    deliver(s3, event(update(1))["Records"], before_image_field=BUG)
    folder = "changes/public/client/cdc_date=2026-03-01/cdc_hour=09/"
    key = f"{folder}{SHARD}-{FIRST_SEQUENCE}.redrive.jsonl.gz"
    s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    with pytest.raises(LakeError, match="an object that is not of this pipeline has this key: move it away"):
        run_failed(lake, "redrive")

    assert bodies(s3)[key][1] == body


@pytest.mark.parametrize(
    "body", [b"no gzip", lambda_function.gzipped([b"{}\n"]), lambda_function.gzipped([b'{"cdc_reason":1}\n'])]
)
def test_object_of_somebody_else_in_quarantine_is_named(s3: Any, lake: Lake, body: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key="quarantine/cdc_date=2026-03-01/notes", Body=body)

    with pytest.raises(LakeError) as error:
        run_failed(lake, "list")

    assert str(error.value) == (
        "cannot read quarantine/cdc_date=2026-03-01/notes as quarantined records: "
        "if something else wrote it, move it out of quarantine/"
    )


@pytest.mark.parametrize("body", [b"no gzip", lambda_function.gzipped([b"{}\n"])], ids=["gzip", "row"])
def test_mark_that_is_damaged_is_named(s3: Any, lake: Lake, body: bytes) -> None:
    quarantined = f"quarantine/cdc_date=2026-03-01/{SHARD}-1.jsonl.gz"
    s3.put_object(Bucket=BUCKET, Key=quarantined, Body=lambda_function.gzipped([]))
    mark = f"redriven/{quarantined}/abc.1-of-2.jsonl.gz"
    s3.put_object(Bucket=BUCKET, Key=mark, Body=body)

    with pytest.raises(LakeError, match=f"^cannot read s3://{BUCKET}/{mark}, a mark of what was redriven"):
        run_failed(lake, "list")


def test_batches_are_left_out_where_there_can_be_none(s3: Any, lake: Lake, call: Any, tmp_path: Path) -> None:
    nameless = lake_of(tmp_path / "nameless", pipeline_name="")
    other = lake_of(tmp_path / "other", pipeline_name="others")

    assert call("list", of=nameless).err == (
        "batches that Lambda gave up: not looked for, PIPELINE_NAME is not set\n"
    )
    assert call("list", of=other).err == (
        "batches that Lambda gave up: there is no bucket others-failed-123456789012\n"
    )
    with pytest.raises(LakeError, match="PIPELINE_NAME is not set"):
        run_failed(nameless, "list", "--kind", "batch")
    with pytest.raises(LakeError, match="NoSuchBucket"):
        run_failed(other, "list", "--kind", "batch")
    assert run_failed(nameless, "list", "--kind", "poison") == 0


@pytest.mark.parametrize("arguments", [[], ["list", "--kind", "other"], ["show", "--limit", "0"], ["undo"]])
def test_wrong_usage_ends_with_2(lake: Lake, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_failed(lake, *arguments)


# ----------------------------------------------------------------------------------------------------------
# What is shown
# ----------------------------------------------------------------------------------------------------------


def set_secrets_aside(s3: Any) -> None:
    """Records with a secret in a value, in a name where no name can be, and in the partition key."""
    odd = json.dumps(
        {"metadata": {"table-name": SECRET * 10, "timestamp": "", "record-type": "data", "operation": ""}}
    )
    records = [
        *event(update(1, name=SECRET), SECRET.encode(), odd.encode(), f'{{"{SECRET}":1}}'.encode())[
            "Records"
        ],
        record(b"{", FIRST_SEQUENCE + 8),
    ]
    records[4]["kinesis"]["data"] = SECRET + "!"
    for one in records:
        one["kinesis"]["partitionKey"] = f"public.client.{SECRET}"
    deliver(s3, records, before_image_field=BUG)
    more = event(update(2, name=SECRET), SECRET.encode(), first=FIRST_SEQUENCE + 20)["Records"]
    give_up(s3, more)
    s3.put_object(Bucket=FAILED, Key="aws/lambda/1/odd", Body=json.dumps({"payload": SECRET}))


SILENT = [
    *(["list"], ["list", "--json"], ["show"], ["show", "--json"], ["show", "--limit", "1"]),
    *(["redrive", "--dry-run"], ["redrive", "--dry-run", "--json"], ["redrive"], ["redrive", "--json"]),
]


@pytest.mark.parametrize("arguments", SILENT, ids=" ".join)
def test_nothing_prints_what_a_record_holds_unasked(
    s3: Any, lake: Lake, call: Any, arguments: list[str]
) -> None:
    """Promise 6."""
    set_secrets_aside(s3)

    found = call(*arguments)

    encoded = {b64encode(bytes(skip) + SECRET.encode()).decode()[4:-4] for skip in range(3)}
    assert found.out
    for text in {SECRET, *encoded}:
        assert text not in found.out + found.err


def test_show_payload_prints_it_on_request(s3: Any, lake: Lake, call: Any) -> None:
    set_secrets_aside(s3)

    lines = [json.loads(line) for line in call("show", "--json", "--show-payload").out.splitlines()]

    assert [line.get("payload") for line in lines if line["kind"] == "poison"] == [
        update(1, name=SECRET).decode(),
        SECRET,
        lines[2]["payload"],
        f'{{"{SECRET}":1}}',
        f"{SECRET}!",
    ]
    assert [line.get("payloads") for line in lines if line["kind"] == "batch"] == [
        None,
        [update(2, name=SECRET).decode(), SECRET],
    ]


def test_payload_of_bytes_and_of_control_characters_does_not_reach_the_terminal(
    s3: Any, lake: Lake, call: Any
) -> None:
    deliver(s3, event(b"\xff\x00", b"\x1b[2J")["Records"])

    found = call("show", "--show-payload", "--kind", "poison").out

    payloads = [line.split(maxsplit=1)[1] for line in found.splitlines() if line.startswith("  payload")]
    assert payloads == ["base64:/wA=", '"\\u001b[2J"']


def test_list_and_show_read_like_this(s3: Any, lake: Lake, call: Any) -> None:
    deliver(s3, mixed_records(), before_image_field=BUG)
    deliver(s3, event(update(7), first=FIRST_SEQUENCE + 7)["Records"], before_image_field=BUG)
    key = give_up(s3, event(update(9), b"{", first=FIRST_SEQUENCE + 90)["Records"])
    document = json.loads(s3.get_object(Bucket=FAILED, Key=key)["Body"].read())
    given_up_at = document["timestamp"].partition(".")[0].removesuffix("Z") + "Z"

    shown = call("show", "--kind", "poison", "--limit", "1")

    assert call("list").out == (
        "poison: 6 records in 2 objects of s3://landing/quarantine/\n"
        "  records  first arrived         last arrived          table          reason\n"
        f"        4  2026-03-01T09:16:10Z  2026-03-01T09:16:10Z  public.client  {UNKNOWN_KEY}\n"
        f"        1  2026-03-01T09:16:10Z  2026-03-01T09:16:10Z  public.loan    {UNKNOWN_KEY}\n"
        "        1  2026-03-01T09:16:10Z  2026-03-01T09:16:10Z  -              the payload is not JSON\n"
        f"batch: 1 batch given up in s3://{FAILED}/\n"
        "  batches  records  first given up        last given up         shard                 reason\n"
        f"        1        2  {given_up_at}  {given_up_at}  {SHARD}  RetryAttemptsExhausted\n"
    )
    assert shown.out == (
        f"poison: {UNKNOWN_KEY}\n"
        "  table                 public.client\n"
        "  arrived at            2026-03-01T09:16:10.250000Z\n"
        f"  shard id              {SHARD}\n"
        f"  sequence number       {FIRST_SEQUENCE + 2}\n"
        f"  size bytes            {len(update(2))}\n"
        f"  object                quarantine/cdc_date=2026-03-01/{SHARD}-{FIRST_SEQUENCE + 2}.jsonl.gz\n"
    )
    assert shown.err == "records that are not shown: 5; --limit 6 shows them\n"


def test_list_of_nothing_says_so(s3: Any, lake: Lake, call: Any) -> None:
    assert call("list").out == (
        f"poison: no record waits in s3://landing/quarantine/\nbatch: no batch given up in s3://{FAILED}/\n"
    )
    assert call("redrive").out == "batch: nothing to redrive\npoison: nothing to redrive\n"


def test_record_in_two_objects_is_listed_once(s3: Any, lake: Lake, call: Any) -> None:
    records = event(b"{", b"{")["Records"]
    deliver(s3, records)
    deliver(s3, records[1:])

    assert json.loads(call("list", "--json").out)["poison"]["records"] == 2
