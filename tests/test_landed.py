"""What has landed and what has not: objects of the real handler, on an emulated S3 and Kinesis."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3
import pytest
from events import FIRST_SEQUENCE, envelope, event, record
from moto.kinesis.models import kinesis_backends
from moto.s3.models import s3_backends

import lambda_function
from local_run.aws import emulated_aws
from provision.aws import Account, AwsError
from provision.engine import ProvisionError
from provision.landed import (
    LandedKey,
    ObjectCount,
    TableLanded,
    Undelivered,
    given_up,
    landed_keys,
    starting_point,
    tables_landed,
    undelivered,
)
from provision.status_set_aside import quarantined

REGION, ACCOUNT_ID = "eu-west-1", "123456789012"
STREAM, BUCKET, FAILED = "lending", "lending-rows", "lending-failed"
SHARD_0, SHARD_1, SHARD_2 = (f"shardId-00000000000{n}" for n in range(3))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY_SECONDS = 86400
PREFIXES = ("", "raw/lending/")

# --------------------------------------------------------------------------------------------------------
# A lake and a stream
# --------------------------------------------------------------------------------------------------------


@dataclass
class Wire:
    """Sees each call go out, and refuses those of refusals: {"ListShards": [code, ...]}, each used once."""

    calls: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    edits: dict[str, Callable[[Any], None]] = field(default_factory=dict)

    def sent(self, params: Any, model: Any, **_: Any) -> None:
        self.calls.append(model.name)
        self.requests.append(dict(params))

    def refuse(self, model: Any, **_: Any) -> Any:
        if act := self.before.get(model.name):
            act()
        if not self.refusals.get(model.name):
            return None
        error = {"Code": self.refusals[model.name].pop(0), "Message": "no"}
        return Refused(), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}

    def answered(self, parsed: Any, model: Any, **_: Any) -> None:
        if "Error" not in parsed and (edit := self.edits.get(model.name)):
            edit(parsed)


class Refused:
    status_code = 400


@dataclass
class Chain:
    """The emulated account with the pipeline's buckets and stream, and what the tests do to it."""

    account: Account
    wire: Wire
    slept: list[float] = field(default_factory=list)

    @property
    def s3(self) -> Any:
        return self.account.client("s3")

    @property
    def kinesis(self) -> Any:
        return self.account.client("kinesis")

    def make_stream(self, shards: int = 1) -> None:
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=shards)
        self.wait_until_active()

    def wait_until_active(self) -> None:
        while self.summary()["StreamStatus"] != "ACTIVE":
            pass

    def summary(self) -> Any:
        return self.kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]

    def land(self, kinesis_event: Any, prefix: str = "") -> list[str]:
        """The keys that the real handler writes for the event."""
        settings = lambda_function.Settings(s3_bucket=BUCKET, s3_prefix=prefix, log_level="ERROR")
        _, landed = lambda_function.land(kinesis_event, settings, lambda _: self.s3, lambda: 60.0)
        return [one.key for one in landed]

    def put(self, *payloads: bytes, shard: int = 0) -> None:
        """Puts the records on the open shard of that number, in order of hash keys."""
        shards = [one for one in self.shards() if "EndingSequenceNumber" not in one["SequenceNumberRange"]]
        shards.sort(key=lambda one: int(one["HashKeyRange"]["StartingHashKey"]))
        start = shards[shard]["HashKeyRange"]["StartingHashKey"]
        records = [{"Data": one, "PartitionKey": "k", "ExplicitHashKey": start} for one in payloads]
        assert self.kinesis.put_records(StreamName=STREAM, Records=records).get("FailedRecordCount", 0) == 0

    def shards(self) -> Any:
        return self.kinesis.list_shards(StreamName=STREAM)["Shards"]

    def poll(self, *shard_ids: str, prefix: str = "", only: slice = slice(None)) -> None:
        """Lands the records of the shards as Lambda's poller gives them to the function."""
        for shard_id in shard_ids:
            place = {"StreamName": STREAM, "ShardId": shard_id, "ShardIteratorType": "TRIM_HORIZON"}
            iterator = self.kinesis.get_shard_iterator(**place)["ShardIterator"]
            found = self.kinesis.get_records(ShardIterator=iterator)["Records"][only]
            self.land({"Records": [delivered(one, shard_id) for one in found]}, prefix)

    def redrive(self, shard_id: str, only: slice, written: datetime) -> None:
        """Lands the records of the shard under the keys of lake.py failed redrive."""
        self.poll(shard_id, prefix="redriven-before/", only=only)
        for found in self.s3.list_objects_v2(Bucket=BUCKET, Prefix="redriven-before/")["Contents"]:
            source = {"Bucket": BUCKET, "Key": found["Key"]}
            key = (
                found["Key"].removeprefix("redriven-before/").removesuffix(".jsonl.gz") + ".redrive.jsonl.gz"
            )
            self.s3.copy_object(Bucket=BUCKET, Key=key, CopySource=source)
            self.s3.delete_object(**source)
            written_at(key, written)

    def sequence_numbers(self, shard_id: str) -> list[str]:
        shard = kinesis_backends[ACCOUNT_ID][REGION].streams[STREAM].shards[shard_id]
        return [str(number).zfill(56) for number in shard.records]

    def age_records(self, shard_id: str, age: timedelta) -> None:
        """The records of the shard arrived so long ago."""
        for one in kinesis_backends[ACCOUNT_ID][REGION].streams[STREAM].shards[shard_id].records.values():
            one.created_at -= age.total_seconds()

    def undelivered(self, prefix: str = "") -> list[Undelivered]:
        return undelivered(self.account, STREAM, BUCKET, prefix, datetime.now(UTC))

    def starting_point(self, prefix: str = "", record_age_seconds: int = DAY_SECONDS) -> datetime | None:
        return starting_point(self.account, STREAM, BUCKET, prefix, NOON, record_age_seconds)

    def modified(self, key: str) -> datetime:
        modified: datetime = self.s3.head_object(Bucket=BUCKET, Key=key)["LastModified"]
        return modified


def delivered(kinesis_record: Any, shard_id: str) -> Any:
    one = record(kinesis_record["Data"], kinesis_record["SequenceNumber"], shard_id)
    arrived_at = kinesis_record["ApproximateArrivalTimestamp"].timestamp()
    return {**one, "kinesis": {**one["kinesis"], "approximateArrivalTimestamp": arrived_at}}


def stored(bucket: str, key: str, modified: datetime = NOON, body: bytes = b"") -> None:
    """Puts an object that S3 says was written then."""
    s3_backends[ACCOUNT_ID]["aws"].put_object(bucket, key, body).last_modified = modified.replace(tzinfo=None)


def written_at(key: str, modified: datetime) -> None:
    found = s3_backends[ACCOUNT_ID]["aws"].get_object(BUCKET, key)
    assert found is not None
    found.last_modified = modified.replace(tzinfo=None)


def at(time: str, day: str = "2026-03-01", **changes: Any) -> bytes:
    """An insert that was committed and published at that time of the day."""
    moment = f"{day}T{time}Z"
    return envelope(timestamp=moment, commit_timestamp=moment, **changes)


def just_now(age: timedelta = timedelta(0), **changes: Any) -> bytes:
    moment = f"{datetime.now(UTC) - age:%Y-%m-%dT%H:%M:%S.%fZ}"
    return envelope(**{"timestamp": moment, "commit_timestamp": moment, **changes})


def control(time: str, day: str = "2026-03-01") -> bytes:
    return envelope(
        b"null",
        timestamp=f"{day}T{time}Z",
        record_type="control",
        operation="create-table",
        commit_timestamp=None,
    )


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Any, Wire, dict[str, Any]]]:
    """Made once: a server and clients cost more time than most tests."""
    wire = Wire()
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    session.events.register("provide-client-params", wire.sent)
    session.events.register("before-call", wire.refuse)
    session.events.register("after-call", wire.answered)
    with emulated_aws() as aws:
        services = ("s3", "kinesis")
        yield aws, wire, {service: session.client(service, endpoint_url=aws.url) for service in services}


@pytest.fixture
def chain(running: tuple[Any, Wire, dict[str, Any]]) -> Chain:
    aws, wire, clients = running
    aws.reset()
    wire.__dict__.update(Wire().__dict__)
    for bucket in (BUCKET, FAILED):
        clients["s3"].create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    slept: list[float] = []
    session = boto3.Session(region_name=REGION)
    return Chain(Account(session, "lending", 0, slept.append, clients=dict(clients)), wire, slept)


# --------------------------------------------------------------------------------------------------------
# Keys
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
def test_keys_are_read_as_the_function_writes_them(chain: Chain, prefix: str) -> None:
    first = FIRST_SEQUENCE
    keys = chain.land(
        event(at("09:16:10"), control("09:17:00"), b"no envelope", first=first, shard=SHARD_1), prefix
    )

    found = list(landed_keys(chain.account, BUCKET, prefix, date(2026, 3, 1), date(2026, 3, 1)))

    sizes = {key: chain.s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] for key in keys}
    table, controls, poison = keys
    assert sorted(found, key=lambda one: one.first_sequence_number) == [
        LandedKey(
            "changes", "public", "client", SHARD_1, str(first), table, chain.modified(table), sizes[table]
        ),
        LandedKey(
            "control", "", "", SHARD_1, str(first + 1), controls, chain.modified(controls), sizes[controls]
        ),
        LandedKey(
            "quarantine", "", "", SHARD_1, str(first + 2), poison, chain.modified(poison), sizes[poison]
        ),
    ]


def restricted(chain: Chain, key: str) -> str:
    """Moves a quarantined object to where the function writes it while columns are masked."""
    target = key.replace("quarantine/", "quarantine/restricted/")
    chain.s3.copy_object(Bucket=BUCKET, Key=target, CopySource={"Bucket": BUCKET, "Key": key})
    chain.s3.delete_object(Bucket=BUCKET, Key=key)
    return target


@pytest.mark.parametrize("prefix", PREFIXES)
def test_keys_of_the_restricted_quarantine_are_read_too(chain: Chain, prefix: str) -> None:
    (key,) = chain.land(event(b"no envelope", first=FIRST_SEQUENCE), prefix)
    key = restricted(chain, key)

    (found,) = landed_keys(chain.account, BUCKET, prefix, date(2026, 3, 1), date(2026, 3, 1))

    assert (found.key, found.folder) == (key, "quarantine")
    assert found.first_sequence_number == str(FIRST_SEQUENCE)


def test_keys_of_other_days_and_of_other_writers_are_passed_over(chain: Chain) -> None:
    chain.land(event(at("23:59:59", "2026-02-27"), at("00:00:00", "2026-03-02")))
    inside = chain.land(event(at("00:00:00", "2026-02-28"), at("23:59:59"), first=FIRST_SEQUENCE + 9))
    folder = "changes/public/client/cdc_date=2026-03-01/"
    for key in (f"{folder}cdc_hour=09/notes.txt", f"{folder}cdc_hour=09/", "changes/public/x", "control/x"):
        stored(BUCKET, key)

    found = landed_keys(chain.account, BUCKET, "", date(2026, 2, 28), date(2026, 3, 1))

    assert [one.key for one in found] == inside


# --------------------------------------------------------------------------------------------------------
# What has landed
# --------------------------------------------------------------------------------------------------------

ODD_NAMES = [("Größe", "a/b c"), ("public", "client"), ("s.x", "..50%_off"), ("s.x", "cdc_date=1")]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_tables_landed_gives_every_table_with_its_newest_day(chain: Chain, prefix: str) -> None:
    old = [at("22:00:00", "2026-02-28", schema_name=s, table_name=t) for s, t in ODD_NAMES]
    new = [at(hour, schema_name=s, table_name=t) for s, t in ODD_NAMES for hour in ("08:00:00", "09:00:00")]
    chain.land(event(*old), prefix)
    keys = chain.land(event(*new, control("10:00:00"), first=FIRST_SEQUENCE + 100), prefix)
    chain.land(event(at("11:00:00", table_name="elsewhere")), "other/")
    for number, key in enumerate(keys):
        written_at(key, NOON + timedelta(minutes=number))

    found = tables_landed(chain.account, BUCKET, prefix, NOON)

    sizes = [chain.s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] for key in keys]
    assert sorted(found, key=lambda one: (one.schema, one.table)) == sorted(
        (
            TableLanded(
                schema,
                table,
                date(2026, 3, 1),
                ObjectCount(2, sizes[2 * n] + sizes[2 * n + 1], NOON + timedelta(minutes=2 * n + 1)),
            )
            for n, (schema, table) in enumerate(ODD_NAMES)
        ),
        key=lambda one: (one.schema, one.table),
    )


def test_tables_landed_sees_a_late_object_of_an_earlier_hour(chain: Chain) -> None:
    early, late = chain.land(event(at("08:00:00"), at("09:00:00")))
    written_at(late, NOON)
    written_at(early, NOON + timedelta(minutes=5))

    assert tables_landed(chain.account, BUCKET, "", NOON)[0].count.newest == NOON + timedelta(minutes=5)


def test_tables_landed_costs_few_listings_however_many_objects_there_are(chain: Chain) -> None:
    for number in range(12_000):
        hour = number % 9
        stored(BUCKET, f"changes/public/client/cdc_date=2026-03-01/cdc_hour=0{hour}/{number:06}.jsonl.gz")
    newest = "changes/public/client/cdc_date=2026-03-01/cdc_hour=09/1.jsonl.gz"
    stored(BUCKET, newest, NOON + timedelta(hours=1), b"four")
    chain.wire.calls.clear()

    (found,) = tables_landed(chain.account, BUCKET, "", NOON)

    assert found.count == ObjectCount(5000, 4, NOON + timedelta(hours=1), is_at_least=True)
    assert str(found.count) == "at least 5000 objects"
    assert chain.wire.calls == ["ListObjectsV2"] * (2 + 4 + 5 - 1)


def test_tables_landed_takes_a_day_of_a_wrong_clock_for_the_newest_only_if_there_is_no_other(
    chain: Chain,
) -> None:
    chain.land(
        event(at("09:00:00"), at("09:00:00", "2090-01-01"), at("09:00:00", "2090-01-01", table_name="t"))
    )

    found = tables_landed(chain.account, BUCKET, "", NOON)

    assert [(one.table, one.day) for one in found] == [
        ("client", date(2026, 3, 1)),
        ("t", date(2090, 1, 1)),
    ]


def test_tables_landed_counts_tomorrow_for_a_clock_that_is_ahead(chain: Chain) -> None:
    chain.land(event(at("09:00:00"), at("00:01:00", "2026-03-02")))
    assert tables_landed(chain.account, BUCKET, "", NOON)[0].day == date(2026, 3, 2)


def test_tables_landed_is_empty_where_nothing_is(chain: Chain) -> None:
    stored(BUCKET, "changes/public/no-table.txt")
    stored(BUCKET, "changes/public/no_day/notes.txt")
    stored(BUCKET, "changes/public/no_date/cdc_date=2026-02-30/cdc_hour=09/1.jsonl.gz")
    assert tables_landed(chain.account, BUCKET, "", NOON) == []


def test_a_bucket_that_is_gone_holds_nothing(chain: Chain) -> None:
    chain.make_stream()
    chain.s3.delete_bucket(Bucket=BUCKET)
    assert tables_landed(chain.account, BUCKET, "", NOON) == []
    assert quarantined(chain.account, BUCKET, "", NOON) == ObjectCount()
    assert given_up(chain.account, "no-such-bucket") == ObjectCount()
    assert chain.starting_point() is None


def test_a_refused_call_names_the_action_and_its_object(chain: Chain) -> None:
    chain.make_stream()
    (key,) = chain.land(event(at("09:16:10")))
    cases: list[tuple[str, str, Callable[[], Any]]] = [
        ("ListObjectsV2", f"s3:ListBucket on bucket {BUCKET}", lambda: tables_landed(*lake)),
        ("ListObjectsV2", f"s3:ListBucket on bucket {BUCKET}", lambda: quarantined(*lake)),
        ("ListObjectsV2", f"s3:ListBucket on bucket {FAILED}", lambda: given_up(chain.account, FAILED)),
        ("ListShards", f"kinesis:ListShards on stream {STREAM}", chain.starting_point),
        ("GetObject", f"s3:GetObject on s3://{BUCKET}/{key}", chain.starting_point),
        ("GetRecords", f"kinesis:GetRecords on stream {STREAM}", chain.undelivered),
    ]
    lake = (chain.account, BUCKET, "", NOON)
    for operation, text, read in cases:
        chain.wire.refusals[operation] = ["AccessDeniedException"]
        with pytest.raises(AwsError, match=f"{text} is not allowed: let your role or user do it"):
            read()


def test_what_only_operators_may_read_is_refused_with_the_tag_to_give(chain: Chain) -> None:
    chain.make_stream()
    (key,) = chain.land(event(b"no envelope"))
    key = restricted(chain, key)
    chain.wire.refusals["GetObject"] = ["AccessDenied"]

    with pytest.raises(AwsError) as raised:
        chain.starting_point()

    assert str(raised.value).startswith(f"s3:GetObject on s3://{BUCKET}/{key} is not allowed")
    assert str(raised.value).endswith(
        "while columns are masked, the bucket's policy asks for the tag pipeline=lending on that role or user"
    )


@pytest.mark.parametrize("prefix", PREFIXES)
def test_quarantined_counts_the_objects_of_the_last_dates(chain: Chain, prefix: str) -> None:
    def poison(day: int, first: int) -> str:
        one = record(b"no envelope", FIRST_SEQUENCE + first)
        arrived_at = datetime(2026, 3, day, 6, tzinfo=UTC)
        one["kinesis"]["approximateArrivalTimestamp"] = arrived_at.timestamp()
        (key,) = chain.land({"Records": [one]}, prefix)
        written_at(key, arrived_at)
        return key

    keys = [poison(day, day) for day in (3, 4, 9, 10)]
    tenth = datetime(2026, 3, 10, 12, tzinfo=UTC)

    found = quarantined(chain.account, BUCKET, prefix, tenth)

    size = sum(chain.s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] for key in keys[1:])
    assert found == ObjectCount(3, size, datetime(2026, 3, 10, 6, tzinfo=UTC))
    assert quarantined(chain.account, BUCKET, prefix, tenth, days=1).objects == 1
    assert quarantined(chain.account, BUCKET, prefix, tenth, days=8).objects == 4


def test_quarantined_counts_the_restricted_ones_but_what_was_redriven(chain: Chain) -> None:
    (open_key,) = chain.land(event(b"no envelope", first=FIRST_SEQUENCE))
    (first,) = chain.land(event(b"no envelope", first=FIRST_SEQUENCE + 1))
    (second,) = chain.land(event(b"no envelope", first=FIRST_SEQUENCE + 2))
    keys = [open_key, restricted(chain, first), restricted(chain, second)]
    assert quarantined(chain.account, BUCKET, "", NOON).objects == 3

    etag = chain.s3.head_object(Bucket=BUCKET, Key=keys[1])["ETag"].strip('"')
    stored(BUCKET, f"redriven/{keys[1]}/{etag}.1-of-1.jsonl.gz")

    assert quarantined(chain.account, BUCKET, "", NOON).objects == 2


def test_quarantined_says_at_least_and_still_knows_the_newest(chain: Chain) -> None:
    for number in range(5001):
        stored(BUCKET, f"quarantine/cdc_date=2026-02-28/{number:06}.jsonl.gz")
    stored(BUCKET, "quarantine/cdc_date=2026-03-01/1.jsonl.gz", NOON + timedelta(hours=1))

    found = quarantined(chain.account, BUCKET, "", NOON)

    assert found == ObjectCount(5000, 0, NOON + timedelta(hours=1), is_at_least=True)


def test_given_up_counts_the_batches_in_the_failed_bucket(chain: Chain) -> None:
    assert given_up(chain.account, FAILED) == ObjectCount()
    for minutes in (0, 7, 3):
        key = f"aws/lambda/uuid/{SHARD_0}/2026/03/01/{minutes}"
        stored(FAILED, key, NOON + timedelta(minutes=minutes), b"12")
    assert given_up(chain.account, FAILED) == ObjectCount(3, 6, NOON + timedelta(minutes=7))


@pytest.mark.parametrize(("objects", "text"), [(5000, "5000 objects"), (5001, "at least 5000 objects")])
def test_given_up_stops_counting(chain: Chain, objects: int, text: str) -> None:
    for number in range(objects):
        stored(FAILED, f"{number:06}")
    assert str(given_up(chain.account, FAILED)) == text


def test_one_object_is_said_in_the_singular() -> None:
    assert str(ObjectCount(1)) == "1 object"


# --------------------------------------------------------------------------------------------------------
# Where to start again
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
def test_starting_point_is_fifteen_minutes_before_the_last_landed_record(chain: Chain, prefix: str) -> None:
    chain.make_stream()
    chain.land(event(at("09:00:00"), at("09:16:10.500120")), prefix)
    assert chain.starting_point(prefix) == datetime(2026, 3, 1, 9, 1, 10, 500120, UTC)


def test_starting_point_is_publication_not_commit_nor_landing(chain: Chain) -> None:
    chain.make_stream()
    times = {"timestamp": "2026-03-01T09:20:00Z", "commit_timestamp": "2026-03-01T08:00:00Z"}
    (key,) = chain.land(event(envelope(**times)))
    written_at(key, NOON)
    assert chain.starting_point() == datetime(2026, 3, 1, 9, 5, tzinfo=UTC)


def test_starting_point_is_that_of_the_shard_that_lags(chain: Chain) -> None:
    chain.make_stream(shards=3)
    for shard, time in ((SHARD_0, "11:59:00"), (SHARD_1, "08:30:00"), (SHARD_2, "11:58:00")):
        chain.land(event(at("07:00:00"), at(time), shard=shard))
    assert chain.starting_point() == datetime(2026, 3, 1, 8, 15, tzinfo=UTC)


def test_starting_point_takes_the_newest_object_of_a_shard_by_sequence_number(chain: Chain) -> None:
    chain.make_stream()
    chain.land(event(at("11:00:00", table_name="z"), first=FIRST_SEQUENCE))
    chain.land(event(at("11:30:00", table_name="a"), first=FIRST_SEQUENCE + 1))
    chain.land(event(at("11:10:00", schema_name="b/c"), first=FIRST_SEQUENCE + 2))
    assert chain.starting_point() == datetime(2026, 3, 1, 10, 55, tzinfo=UTC)


def test_starting_point_reads_a_shard_that_has_control_records_only(chain: Chain) -> None:
    chain.make_stream()
    chain.land(event(control("10:00:00.123456789")))
    assert chain.starting_point() == datetime(2026, 3, 1, 9, 45, 0, 123456, UTC)


def test_starting_point_passes_over_what_was_redriven(chain: Chain) -> None:
    """It says nothing of how far the function is, and is not even read."""
    chain.make_stream()
    chain.land(event(at("09:16:10")))
    start = chain.starting_point()

    folder = "changes/public/client/cdc_date=2026-03-01/cdc_hour=11/"
    stored(BUCKET, f"{folder}{SHARD_0}-{FIRST_SEQUENCE + 99}.redrive.jsonl.gz")

    assert start is not None
    assert chain.starting_point() == start


def test_starting_point_reads_a_shard_that_has_quarantined_records_only(chain: Chain) -> None:
    chain.make_stream()
    chain.land(event(b"no envelope"))
    assert chain.starting_point() == datetime(2026, 3, 1, 9, 1, 10, 250000, UTC)


def test_starting_point_reads_a_row_with_a_number_of_any_length(chain: Chain) -> None:
    chain.make_stream()
    chain.land(event(at("10:00:00", data=b'{"id":' + b"7" * 5000 + b"}")))
    assert chain.starting_point() == datetime(2026, 3, 1, 9, 45, tzinfo=UTC)


def test_starting_point_of_a_stream_of_which_nothing_has_landed_is_none(chain: Chain) -> None:
    chain.make_stream(shards=2)
    assert chain.starting_point() is None


def test_starting_point_does_not_count_what_a_deleted_stream_of_that_name_has_landed(chain: Chain) -> None:
    chain.make_stream()
    begins = int(chain.shards()[0]["SequenceNumberRange"]["StartingSequenceNumber"])
    chain.land(event(at("09:00:00"), first=begins - 1))
    chain.land(event(at("09:00:00"), shard="shardId-000000000042"))
    assert chain.starting_point() is None
    chain.land(event(at("10:00:00"), first=begins))
    assert chain.starting_point() == datetime(2026, 3, 1, 9, 45, tzinfo=UTC)


def test_starting_point_goes_back_by_the_record_age_for_a_shard_that_has_landed_nothing(chain: Chain) -> None:
    chain.make_stream(shards=2)
    chain.land(event(at("11:59:00")))
    assert chain.starting_point(record_age_seconds=6 * 3600) == datetime(2026, 3, 1, 6, tzinfo=UTC)


def test_starting_point_looks_at_a_day_more_than_the_record_age(chain: Chain) -> None:
    chain.make_stream()
    chain.land(event(at("10:00:00", "2026-02-27")))
    assert chain.starting_point() == datetime(2026, 2, 27, 9, 45, tzinfo=UTC)
    assert chain.starting_point(record_age_seconds=3600) is None


def test_starting_point_looks_at_tomorrow_for_a_clock_that_is_ahead(chain: Chain) -> None:
    chain.make_stream()
    chain.land(event(envelope(timestamp="2026-03-01T11:55:00Z", commit_timestamp="2026-03-02T00:01:00Z")))
    assert chain.starting_point() == datetime(2026, 3, 1, 11, 40, tzinfo=UTC)


def test_starting_point_of_a_shard_that_is_long_quiet_goes_back_by_the_record_age(chain: Chain) -> None:
    chain.make_stream(shards=2)
    chain.land(event(at("10:00:00", "2026-02-20"), shard=SHARD_1))
    chain.land(event(at("11:59:00")))
    assert chain.starting_point() == datetime(2026, 2, 28, 12, tzinfo=UTC)


def test_starting_point_counts_a_closed_shard(chain: Chain) -> None:
    chain.make_stream()
    chain.kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    for shard, time in ((SHARD_0, "08:00:00"), (SHARD_1, "11:00:00"), (SHARD_2, "11:00:00")):
        chain.land(event(at(time), shard=shard))
    assert chain.starting_point() == datetime(2026, 3, 1, 7, 45, tzinfo=UTC)


def test_starting_point_is_never_in_the_future(chain: Chain) -> None:
    chain.make_stream()
    chain.land(event(at("13:00:00")))
    assert chain.starting_point() == datetime(2026, 3, 1, 11, 45, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [-1, 0])
def test_starting_point_needs_an_age(chain: Chain, seconds: int) -> None:
    with pytest.raises(ValueError, match=f"record_age_seconds={seconds}: for no limit, give the retention"):
        chain.starting_point(record_age_seconds=seconds)


@pytest.mark.parametrize(
    "body",
    [
        b"secret",
        gzip.compress(b"secret"),
        gzip.compress(b'{"id":"secret"}\n'),
        gzip.compress(b'{"cdc_published_at":"secret"}\n'),
        gzip.compress(b'["secret"]\n'),
        gzip.compress(b'{"secret":7}')[:-9],
        gzip.compress(b""),
    ],
    ids=["no gzip", "no JSON", "no time", "a malformed time", "no object", "cut off", "empty"],
)
def test_an_object_of_another_writer_is_named_without_its_content(chain: Chain, body: bytes) -> None:
    chain.make_stream()
    (key,) = chain.land(event(at("09:16:10")))
    stored(BUCKET, key, body=body)
    with pytest.raises(ProvisionError) as raised:
        chain.starting_point()
    assert str(raised.value) == (
        f"cannot read s3://{BUCKET}/{key} as rows of the pipeline: "
        "if something else wrote it, move it out of changes/"
    )


def test_shards_are_listed_to_the_last_page_without_the_name(chain: Chain) -> None:
    chain.make_stream(shards=3)
    for shard in (SHARD_0, SHARD_1, SHARD_2):
        chain.land(event(at("11:00:00"), shard=shard))
    chain.land(event(at("08:00:00"), first=FIRST_SEQUENCE + 5, shard=SHARD_2))
    first_page = chain.kinesis.list_shards(StreamName=STREAM, MaxResults=1)
    pages = iter([first_page])

    def cut(answer: Any) -> None:
        answer.update({"NextToken": None, **next(pages, {})})

    chain.wire.edits["ListShards"] = cut
    chain.wire.requests.clear()

    assert chain.starting_point() == datetime(2026, 3, 1, 7, 45, tzinfo=UTC)
    assert chain.wire.requests[:2] == [{"StreamName": STREAM}, {"NextToken": first_page["NextToken"]}]


# --------------------------------------------------------------------------------------------------------
# What is left on the stream
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
def test_undelivered_names_a_shard_until_its_last_record_has_landed(chain: Chain, prefix: str) -> None:
    chain.make_stream(shards=2)
    chain.put(just_now(), just_now(), shard=0)
    chain.put(just_now(), just_now(), just_now(table_name="a/b"), shard=1)
    last = [chain.sequence_numbers(shard)[-1] for shard in (SHARD_0, SHARD_1)]

    found = chain.undelivered(prefix)
    assert [(one.shard_id, one.sequence_number) for one in found] == [(SHARD_0, last[0]), (SHARD_1, last[1])]
    assert found[0].reason.startswith("its last record, which arrived at 20")
    assert found[0].reason.endswith("Z, has not landed")

    chain.poll(SHARD_0, prefix=prefix)
    chain.poll(SHARD_1, prefix=prefix, only=slice(0, 2))
    assert [(one.shard_id, one.sequence_number) for one in chain.undelivered(prefix)] == [(SHARD_1, last[1])]

    chain.poll(SHARD_1, prefix=prefix, only=slice(2, 3))
    assert chain.undelivered(prefix) == []

    chain.put(just_now(), shard=0)
    assert [one.shard_id for one in chain.undelivered(prefix)] == [SHARD_0]


def test_undelivered_is_empty_for_a_stream_without_records(chain: Chain) -> None:
    chain.make_stream(shards=2)
    assert chain.undelivered() == []


def test_undelivered_names_a_record_when_there_is_no_bucket(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now())
    chain.s3.delete_bucket(Bucket=BUCKET)
    assert [one.shard_id for one in chain.undelivered()] == [SHARD_0]


@pytest.mark.parametrize(
    "payload",
    [
        envelope(b"null", record_type="control", timestamp="2026-03-01T09:16:10Z", commit_timestamp=None),
        b"no envelope",
        b"\xff\xfe",
        b'{"metadata":{"timestamp":7}}',
        b'{"metadata":null}',
        envelope(timestamp="2026-13-99T09:16:10Z", commit_timestamp=None),
    ],
    ids=["control", "no JSON", "no UTF-8", "a time of the wrong type", "no metadata", "a malformed time"],
)
def test_undelivered_finds_a_last_record_in_control_and_in_quarantine(chain: Chain, payload: bytes) -> None:
    chain.make_stream()
    chain.put(just_now(), payload)
    assert len(chain.undelivered()) == 1
    chain.poll(SHARD_0)
    assert chain.undelivered() == []


def test_undelivered_finds_a_last_record_in_the_restricted_quarantine(chain: Chain) -> None:
    chain.make_stream()
    chain.put(b"no envelope")
    chain.poll(SHARD_0)
    for found in chain.s3.list_objects_v2(Bucket=BUCKET, Prefix="quarantine/")["Contents"]:
        restricted(chain, found["Key"])
    assert chain.undelivered() == []


def test_undelivered_finds_the_last_record_in_an_object_that_is_not_the_newest(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now(), just_now(table_name="other"), just_now())
    chain.poll(SHARD_0)
    assert chain.undelivered() == []


def test_undelivered_finds_the_last_record_in_an_object_that_began_hours_before(chain: Chain) -> None:
    """A function that caught up: one batch holds records that arrived hours apart."""
    chain.make_stream()
    commit = {"commit_timestamp": "2026-03-01T09:00:00Z"}
    chain.put(just_now(timedelta(hours=5), **commit))
    chain.age_records(SHARD_0, timedelta(hours=5))
    chain.put(just_now(table_name="other"), just_now(**commit))
    chain.poll(SHARD_0)
    assert chain.undelivered() == []


def test_undelivered_finds_the_last_record_where_a_redrive_has_landed_it(chain: Chain) -> None:
    """Its batch was given up: it is in an object of lake.py's."""
    chain.make_stream()
    chain.put(just_now(), just_now(table_name="other"), just_now())
    chain.poll(SHARD_0, only=slice(0, 2))
    assert len(chain.undelivered()) == 1

    chain.redrive(SHARD_0, slice(2, 3), datetime.now(UTC) + timedelta(days=2))

    assert chain.undelivered() == []


def test_undelivered_finds_the_last_record_beside_what_was_redriven_later(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now(), just_now(table_name="other"), just_now())
    chain.poll(SHARD_0)

    chain.redrive(SHARD_0, slice(1, 2), datetime.now(UTC) + timedelta(days=2))

    assert chain.undelivered() == []


def test_undelivered_finds_a_record_whose_commit_is_older_than_the_retention(chain: Chain) -> None:
    """A task that was stopped for days publishes what was committed then."""
    chain.make_stream()
    chain.put(just_now(commit_timestamp="2026-03-01T09:00:00Z"))
    assert len(chain.undelivered()) == 1
    chain.poll(SHARD_0)
    assert chain.undelivered() == []


def test_undelivered_reads_a_quiet_shard_from_where_it_ended(chain: Chain) -> None:
    chain.make_stream()
    chain.kinesis.increase_stream_retention_period(StreamName=STREAM, RetentionPeriodHours=168)
    chain.put(just_now(timedelta(days=6)))
    chain.age_records(SHARD_0, timedelta(days=6))
    chain.poll(SHARD_0)
    chain.wire.requests.clear()

    assert chain.undelivered() == []

    (start,) = [one for one in chain.wire.requests if "ShardIteratorType" in one]
    since = datetime.now(UTC) - start["Timestamp"]
    assert start["ShardIteratorType"] == "AT_TIMESTAMP"
    assert timedelta(days=6, minutes=15) <= since < timedelta(days=6, minutes=16)


def test_undelivered_reads_a_shard_of_which_nothing_has_landed_from_its_oldest_record(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now(timedelta(hours=20)))
    chain.age_records(SHARD_0, timedelta(hours=20))

    assert [one.shard_id for one in chain.undelivered()] == [SHARD_0]

    (start,) = [one for one in chain.wire.requests if "ShardIteratorType" in one]
    assert start["ShardIteratorType"] == "TRIM_HORIZON"


def test_undelivered_reads_closed_shards_to_their_end(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now(), just_now())
    chain.kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    chain.wait_until_active()
    chain.put(just_now(), shard=1)
    assert [one.shard_id for one in chain.undelivered()] == [SHARD_0, SHARD_2]

    chain.poll(SHARD_0)
    assert [one.shard_id for one in chain.undelivered()] == [SHARD_2]

    chain.poll(SHARD_2)
    assert chain.undelivered() == []


def test_undelivered_reads_on_over_empty_pages_before_the_tip(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now())
    held_back: list[Any] = []

    def hold_back(answer: Any) -> None:
        """The first pages are empty, as AWS's are that span a stretch without records."""
        if len(held_back) < 3:
            held_back.append(answer["Records"])
            answer["Records"], answer["MillisBehindLatest"] = [], 5000
        elif len(held_back) == 3:
            held_back.append(answer["Records"])
            answer["Records"] = held_back[0]

    chain.wire.edits["GetRecords"] = hold_back

    assert [one.sequence_number for one in chain.undelivered()] == chain.sequence_numbers(SHARD_0)


def test_undelivered_names_a_shard_that_is_written_to_as_fast_as_it_is_read(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now())
    chain.poll(SHARD_0)
    chain.wire.before["GetRecords"] = lambda: chain.put(just_now())

    (found,) = chain.undelivered()

    assert found.shard_id == SHARD_0
    assert found.sequence_number == chain.sequence_numbers(SHARD_0)[-1]
    assert found.reason.startswith("records still come in, at 20")
    assert found.reason.endswith("Z the last")


def test_undelivered_leaves_reads_of_the_shard_to_the_function(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now())
    chain.undelivered()
    assert chain.wire.calls.count("GetRecords") == 2
    assert chain.slept == [0.25]


def test_undelivered_waits_out_throttling(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now())
    chain.account.poll_seconds = 5.0
    for operation in ("ListShards", "GetShardIterator", "GetRecords"):
        code = (
            "LimitExceededException"
            if operation == "ListShards"
            else "ProvisionedThroughputExceededException"
        )
        chain.wire.refusals[operation] = [code, code]

    assert [one.shard_id for one in chain.undelivered()] == [SHARD_0]
    assert chain.slept == [5.0] * 6 + [0.25]


def test_undelivered_does_not_wait_out_throttling_for_ever(chain: Chain) -> None:
    chain.make_stream()
    chain.wire.refusals["GetRecords"] = ["ProvisionedThroughputExceededException"] * 20
    with pytest.raises(AwsError, match="kinesis:GetRecords on stream lending failed, Provisioned"):
        chain.undelivered()


@pytest.mark.parametrize("minutes", [(-9, -8, -2, 0, 3), (0, 1, 10, 40, 45)], ids=["arrival", "invocation"])
def test_undelivered_opens_only_objects_that_may_hold_the_last_record(
    chain: Chain, minutes: tuple[int, ...]
) -> None:
    """Not those written before it arrived, nor by an invocation before the newest object's."""
    chain.make_stream()
    chain.put(*(just_now(table_name=f"t{n}") for n in range(6)))
    for n in range(5):
        chain.poll(SHARD_0, only=slice(n, n + 1))
    now = datetime.now(UTC)
    for n, one in enumerate(sorted(landed_keys(chain.account, BUCKET, "", *days(now)), key=begins)):
        written_at(one.key, now + timedelta(minutes=minutes[n]))
    chain.wire.calls.clear()

    assert [one.shard_id for one in chain.undelivered()] == [SHARD_0]
    assert chain.wire.calls.count("GetObject") == 1 + 2  # for the shard's end; then t4 and t3


def test_undelivered_opens_no_object_of_another_shard_or_that_begins_behind_the_record(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now())
    chain.land(event(just_now(), first=FIRST_SEQUENCE))
    chain.land(event(just_now(), first=1, shard="shardId-000000000042"))
    chain.wire.calls.clear()

    assert [one.shard_id for one in chain.undelivered()] == [SHARD_0]
    assert chain.wire.calls.count("GetObject") == 1  # for the shard's end


def days(now: datetime) -> tuple[date, date]:
    return now.date() - timedelta(days=1), now.date() + timedelta(days=1)


def begins(key: LandedKey) -> str:
    return key.first_sequence_number


def test_nothing_is_written(chain: Chain) -> None:
    chain.make_stream()
    chain.put(just_now())
    chain.poll(SHARD_0)
    chain.wire.calls.clear()
    now = datetime.now(UTC)

    tables_landed(chain.account, BUCKET, "", now)
    quarantined(chain.account, BUCKET, "", now)
    given_up(chain.account, FAILED)
    starting_point(chain.account, STREAM, BUCKET, "", now, DAY_SECONDS)
    chain.undelivered()

    assert set(chain.wire.calls) == {
        *("ListObjectsV2", "GetObject"),
        *("DescribeStreamSummary", "ListShards", "GetShardIterator", "GetRecords"),
    }
