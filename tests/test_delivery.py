"""What the promises say of delivery, held against thousands of bad days.

The number of schedules: DELIVERY_SCHEDULES=100000. A failure shows the schedule, which
delivery_model.deliver(Schedule(...)) repeats, and the DELIVERY_SEED with which the whole run repeats itself.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from random import SystemRandom
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from conftest import BUCKET
from delivery_model import Bucket, Client, Run, Schedule, Violation, deliver
from hypothesis import Phase, given, note, seed, settings
from hypothesis import strategies as st

import lambda_function
from lambda_function import LandedObject, LandingObject, UploadError, Uploads, gzipped

SCHEDULES = int(os.environ.get("DELIVERY_SCHEDULES") or 500)
SEED = int(os.environ.get("DELIVERY_SEED") or SystemRandom().randrange(2**32))
MUTANT_SCHEDULES = 1000  # several times as many as the slowest mutant needs


def schedules(rereads: int = 0) -> st.SearchStrategy[Schedule]:
    """Evenly spread schedules; drawn as bytes, as hypothesis draws most integers small."""

    def schedule(drawn: bytes) -> Schedule:
        return Schedule(
            seed=int.from_bytes(drawn[3:], "big"),
            records=1 + drawn[0] * 40 // 256,
            troubled=drawn[1] * 9 // 256,
            rereads=min(rereads, 1 + drawn[2] * rereads // 256),
        )

    return st.binary(min_size=7, max_size=7).map(schedule)


def at_most(schedules: int) -> settings:
    return settings(
        max_examples=schedules,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )


# ----------------------------------------------------------------------------------------------------------
# The promises
# ----------------------------------------------------------------------------------------------------------


@seed(SEED)
@at_most(SCHEDULES)
@given(schedules())
def test_delivery_lands_each_record_once_however_batches_are_cut_and_requests_fail(
    schedule: Schedule,
) -> None:
    """Promises 1, 2, 3, 4 and 5, as long as nothing acknowledged is read again."""
    note(f"DELIVERY_SEED={SEED} repeats this run")

    deliver(schedule)


@seed(SEED)
@at_most(SCHEDULES // 3)
@given(schedules(rereads=3))
def test_delivery_loses_nothing_when_acknowledged_records_are_read_again(schedule: Schedule) -> None:
    """Promises 1 to 5; a record may be in several objects, and is the same in each."""
    note(f"DELIVERY_SEED={SEED} repeats this run")

    deliver(schedule)


# ----------------------------------------------------------------------------------------------------------
# The model itself: it meets what it is for, it answers as S3, and it finds what is wrong
# ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [deliver(schedule) for schedule in sample(300)]


def sample(count: int, rereads: int = 0) -> Iterator[Schedule]:
    return (Schedule(i, records=1 + i % 40, troubled=i % 9, rereads=rereads) for i in range(count))


@pytest.mark.parametrize(
    "event",
    [
        "If-None-Match *: applied, answer true",
        "If-None-Match *: applied, answer timeout",
        "If-None-Match *: none, answer 500",
        "If-None-Match *: none, answer 403",
        "If-None-Match *: none, answer 409",
        "If-None-Match *: limbo, answer timeout",
        "If-None-Match *: PreconditionFailed",
        "If-None-Match *: lands late: written",
        "If-None-Match *: lands late: PreconditionFailed",
        '": applied, answer true',
        '": applied, answer timeout',
        '": limbo, answer timeout',
        '": PreconditionFailed',
        '": lands late: written',
        '": lands late: PreconditionFailed',
        "the function failed",
        "the result is lost",
        "ON_POISON=stop",
        "quarantine/",
        "control/",
        "shardId-000000000002",
    ],
)
def test_model_meets_each_kind_of_event_often(runs: list[Run], event: str) -> None:
    assert sum(event in run.course() for run in runs) >= 15


def test_model_that_reads_again_leaves_records_in_several_objects() -> None:
    several = 0
    for schedule in sample(60, rereads=2):
        several += max(Counter(deliver(schedule).identities()).values()) > 1

    assert several >= 8


def test_model_repeats_a_schedule_exactly() -> None:
    first, again = deliver(Schedule(32, troubled=8)), deliver(Schedule(32, troubled=8))

    assert first.course() == again.course()
    assert first.bucket.objects == again.bucket.objects


@pytest.mark.parametrize(
    ("found", "condition", "answer"),
    [
        pytest.param(None, {}, "written", id="new_always"),
        pytest.param(None, {"IfNoneMatch": "*"}, "written", id="new_if_none"),
        pytest.param(None, {"IfMatch": '"0"'}, "NoSuchKey", id="new_if_match"),
        pytest.param(b"old", {}, "written", id="old_always"),
        pytest.param(b"old", {"IfNoneMatch": "*"}, "PreconditionFailed", id="old_if_none"),
        pytest.param(b"old", {"IfMatch": '"0"'}, "PreconditionFailed", id="old_if_other"),
        pytest.param(b"old", {"IfMatch": '"149603e6c03516362a8da23f624db945"'}, "written", id="old_if_match"),
    ],
)
def test_model_of_s3_answers_as_moto(
    s3: Any, found: bytes | None, condition: dict[str, str], answer: str
) -> None:
    for client in (s3, Client(Bucket(), seed="", fault_percent=0, uploads=1)):
        address = {"Bucket": BUCKET, "Key": "key"}
        if found is not None:
            client.put_object(**address, Body=found, ContentType="application/gzip")
        try:
            client.put_object(**address, Body=b"0123456789", ContentType="application/gzip", **condition)
        except ClientError as error:
            assert error.response["Error"]["Code"] == answer
        else:
            got = client.get_object(**address, Range="bytes=4-7")
            assert (answer, got["Body"].read()) == ("written", b"4567")
            assert got["ETag"] == '"781e5e245d69b566979b86e28d23f2c7"'


class SameContentIsDone(Uploads):
    """Takes an object of the same rows for its own; generations are not counted."""

    def put(self, landing_object: LandingObject) -> LandedObject:
        address = {"Bucket": self.bucket, "Key": landing_object.key}
        condition = {"IfNoneMatch": "*"}
        for _ in range(5):
            try:
                self.client.put_object(
                    **address, Body=gzipped(landing_object.json_lines), ContentType="", **condition
                )
                return LandedObject(landing_object.key, landing_object.rows, 0, 0)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (404, 409, 412):
                    raise UploadError from error
            except BotoCoreError as error:
                raise UploadError from error
            try:
                found = self.client.get_object(**address)
            except (ClientError, BotoCoreError) as error:
                raise UploadError from error
            if found["Body"].read() == gzipped(landing_object.json_lines):
                return LandedObject(landing_object.key, landing_object.rows, 0, 0)
            condition = {"IfMatch": found["ETag"]}
        raise UploadError


class NoGeneration(Uploads):
    """Rewrites with If-Match, but the same rows give the same ETag again."""

    def next_generation(self, address: dict[str, str]) -> tuple[int, dict[str, str]]:
        return 0, super().next_generation(address)[1]


class NoIfMatch(Uploads):
    """Rewrites whatever stands there now."""

    def next_generation(self, address: dict[str, str]) -> tuple[int, dict[str, str]]:
        return super().next_generation(address)[0], {}


class NoIfNoneMatch(Uploads):
    """Writes without a condition."""

    def put(self, landing_object: LandingObject) -> LandedObject:
        address = {"Bucket": self.bucket, "Key": landing_object.key}
        try:
            self.client.put_object(**address, Body=gzipped(landing_object.json_lines), ContentType="")
        except (ClientError, BotoCoreError) as error:
            raise UploadError from error
        return LandedObject(landing_object.key, landing_object.rows, 0, 0)


class HidesFailure(Uploads):
    """Answers success although a PUT failed."""

    def put(self, landing_object: LandingObject) -> LandedObject:
        try:
            return super().put(landing_object)
        except UploadError:
            return LandedObject(landing_object.key, landing_object.rows, 0, 0)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (SameContentIsDone, {"missing at the end", "twice at the end"}),
        (NoGeneration, {"missing at the end", "twice at the end"}),
        (NoIfMatch, {"missing at the end", "twice at the end"}),
        (NoIfNoneMatch, {"missing at the end", "twice at the end"}),
        (HidesFailure, {"acknowledged, but missing", "acknowledged, and in 2 objects"}),
    ],
)
def test_model_finds_what_a_broken_upload_does(
    monkeypatch: pytest.MonkeyPatch, broken: type[Uploads], found: set[str]
) -> None:
    """Each variant breaks promise 1 or 2, and nothing else in the handler is changed."""
    monkeypatch.setattr(lambda_function, "Uploads", broken)

    assert first_violation() in found


def test_model_finds_what_keys_named_after_the_batch_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 2 rests on keys that carry the first record of their own group."""
    landing_objects = lambda_function.landing_objects

    def named_after_batch(batch: lambda_function.Batch, prefix: str) -> Iterator[LandingObject]:
        first = min(group.first_sequence_number for group in batch.groups.values()) if batch.groups else ""
        for group in batch.groups.values():
            group.first_sequence_number = first
        return landing_objects(batch, prefix)

    monkeypatch.setattr(lambda_function, "landing_objects", named_after_batch)

    assert first_violation() in {"acknowledged, and in 2 objects", "twice at the end"}


def first_violation() -> str:
    """What the model finds first, without the record or key that it found it in."""
    for schedule in sample(MUTANT_SCHEDULES):
        try:
            deliver(schedule)
        except Violation as violation:
            return str(violation).partition(":")[0]
    return ""
