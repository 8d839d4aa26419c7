"""What the function has landed in the bucket, and what of the stream it has not. Reads only.

    {prefix}changes/{schema}/{table}/cdc_date=2026-03-01/cdc_hour=09/{shard_id}-{first_sequence_number}.jsonl.gz
    {prefix}control/cdc_date=2026-03-01/...    {prefix}quarantine/cdc_date=2026-03-01/...
    {prefix}quarantine/restricted/cdc_date=2026-03-01/...    the quarantine, while columns are masked

and what `lake.py failed redrive` has landed since, under such keys that end in .redrive.jsonl.gz.

`lambda_function` makes these keys and the rows in the objects; its docstring is the contract. Every reader
here takes a missing bucket for one that holds nothing, and passes over a key that is not of that form.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain, islice, takewhile
from typing import Any
from urllib.parse import unquote

from provision.aws import DENIED, TAG, Account, AwsError, Refusal, aws_error, iam_action
from provision.engine import ProvisionError

COUNTED_OBJECTS = 5000  # five pages of a listing: a count that gets there says "at least"
MARGIN = timedelta(minutes=15)  # clocks that differ, and the records of one batch
CLOCKS_DIFFER = timedelta(minutes=1)  # S3's from Kinesis's, and S3 cuts off fractions of a second
INVOCATION = timedelta(
    minutes=15
)  # Lambda's longest timeout: objects of one invocation are not further apart
ONE_DAY = timedelta(days=1)
LONG_AGO = datetime(1970, 1, 2, tzinfo=UTC)
SEQUENCE_DIGITS = 56
TIP_PAGES = 20  # so many pages at the tip, each with records: the shard is still written to
READ_PAUSE_SECONDS = 0.25  # a shard takes five reads a second, of all its readers; the function takes one
# Source: https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
THROTTLED = {"ProvisionedThroughputExceededException", "LimitExceededException"}
THROTTLED_ATTEMPTS = 20

# Beside changes/: where in the bucket, and as which folder it counts.
SET_ASIDE = (("control/", "control"), ("quarantine/", "quarantine"), ("quarantine/restricted/", "quarantine"))

DAY_FOLDER = re.compile(r"/cdc_date=([0-9]{4}-[0-9]{2}-[0-9]{2})/\Z").search
OBJECT_NAME = re.compile(r"([^/]+)-([0-9]{56})(\.redrive)?\.jsonl\.gz").fullmatch

# ----------------------------------------------------------------------------------------------------------
# Value types
# ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ObjectCount:
    """How many objects, their bytes, when the newest was written; is_at_least: the count was broken off."""

    objects: int = 0
    size_bytes: int = 0
    newest: datetime | None = None
    is_at_least: bool = False

    def __str__(self) -> str:
        """at least 5000 objects"""
        noun = "object" if self.objects == 1 else "objects"
        return f"{'at least ' if self.is_at_least else ''}{self.objects} {noun}"


@dataclass(frozen=True)
class TableLanded:
    """A table that has rows in changes/, and what its newest day holds."""

    schema: str
    table: str
    day: date
    count: ObjectCount


@dataclass(frozen=True)
class Place:
    """A folder of folders of dates: a table's, or control/ or quarantine/, without schema and table."""

    path: str
    folder: str  # changes, control or quarantine
    schema: str = ""
    table: str = ""


@dataclass(frozen=True)
class LandedKey:
    """An object that the function wrote; schema and table are empty outside changes."""

    folder: str  # changes, control or quarantine
    schema: str
    table: str
    shard_id: str
    first_sequence_number: str  # 56 digits, so that the texts compare as the numbers do
    key: str
    last_modified: datetime
    size: int
    is_redriven: bool = False  # written later, by lake.py: it tells nothing of how far the function is


@dataclass(frozen=True)
class Undelivered:
    """A shard whose last record has not landed."""

    shard_id: str
    sequence_number: str  # 56 digits
    reason: str


@dataclass(frozen=True)
class LastRecord:
    """The last record of a shard; is_last is false while more came in as fast as they were read."""

    shard_id: str
    sequence_number: str  # 56 digits
    arrived_at: datetime
    days: frozenset[date]  # its object is under one of these
    is_last: bool

    def may_be_in(self, key: LandedKey) -> bool:
        """It is in no object that begins behind it or was written before it arrived."""
        return (
            key.shard_id == self.shard_id
            and key.first_sequence_number <= self.sequence_number
            and key.last_modified >= self.arrived_at - CLOCKS_DIFFER
        )


# ----------------------------------------------------------------------------------------------------------
# What has landed
# ----------------------------------------------------------------------------------------------------------


def tables_landed(account: Account, bucket: str, prefix: str, now: datetime) -> list[TableLanded]:
    """Every table in changes/, by its newest day, in order of keys.

    A table costs four listings, and five pages more at most where its newest day has many objects: the newest
    hour is counted first, so that count.newest holds even when the count says "at least". A day later
    than tomorrow, of a clock that was wrong, is not the newest unless there is no other.
    """
    tables = (
        table_landed(account, bucket, place, now.date() + ONE_DAY)
        for place in table_places(account, bucket, prefix)
    )
    return [table for table in tables if table]


def table_landed(account: Account, bucket: str, place: Place, tomorrow: date) -> TableLanded | None:
    """None for a table without a day."""
    days = sorted((day, path) for path in folders(account, bucket, place.path) if (day := day_of(path)))
    if not days:
        return None
    day, day_folder = max((day for day in days if day[0] <= tomorrow), default=days[-1])
    newest_hour = max(folders(account, bucket, day_folder), default=day_folder)
    earlier = takewhile(
        lambda found: found["Key"] < newest_hour, listing(account, bucket, "Contents", Prefix=day_folder)
    )
    count = counted(chain(listing(account, bucket, "Contents", Prefix=newest_hour), earlier))
    return TableLanded(place.schema, place.table, day, count)


def day_of(path: str) -> date | None:
    """None for a folder that is not of a date."""
    try:
        return date.fromisoformat(match[1]) if (match := DAY_FOLDER(path)) else None
    except ValueError:
        return None


def given_up(account: Account, failed_bucket: str) -> ObjectCount:
    """Batches that the event source mapping gave up; newest is that of the counted ones, in order of keys."""
    return counted(listing(account, failed_bucket, "Contents"))


def counted(objects: Iterable[Any]) -> ObjectCount:
    """The count of S3's objects; no more than COUNTED_OBJECTS and one are looked at."""
    found = list(islice(objects, COUNTED_OBJECTS + 1))
    known = found[:COUNTED_OBJECTS]
    return ObjectCount(
        len(known),
        sum(one["Size"] for one in known),
        max((one["LastModified"] for one in known), default=None),
        len(found) > COUNTED_OBJECTS,
    )


# ----------------------------------------------------------------------------------------------------------
# Where to start again, and what is left on the stream
# ----------------------------------------------------------------------------------------------------------


def starting_point(
    account: Account, stream: str, bucket: str, prefix: str, now: datetime, record_age_seconds: int
) -> datetime | None:
    """Where a new event source mapping starts so that nothing is left out; None means TRIM_HORIZON.

    It is 15 minutes before the earliest of its shards' ends. A shard's end is when the last record of its
    newest object was published: arrival is later, so this errs towards reading again. Not when the object was
    written: a function that lags an hour writes an hour-old record now, and that hour would be left out.

    A shard, open or closed, of which nothing has landed since a day before the record age ends where an
    unread record of it may be at the earliest, so that the answer is no later than now - record_age_seconds;
    older records would be given up untried. There is no exception: a shard without any record counts so too.
    None: no shard of the stream has landed anything. Objects of a deleted stream of that name do not count.

    record_age_seconds: the mapping's MaximumRecordAgeInSeconds; where that is -1, the stream's retention.
    Not covered: a batch that landed in part, its mapping deleted before it was retried, whose records were
    published more than 15 minutes apart; a mapping that failed so is to start at the record age.
    """
    if record_age_seconds <= 0:
        raise ValueError(f"record_age_seconds={record_age_seconds}: for no limit, give the retention")
    age = timedelta(seconds=record_age_seconds)
    shards = shards_of(account, stream)
    newest = newest_keys(keys_since(account, bucket, prefix, now, age), shards)
    if not newest:
        return None
    ends = [*shard_ends(account, bucket, newest, now).values()]
    if len(newest) < len(shards):
        ends.append(now - age + MARGIN)
    return min(ends) - MARGIN


def undelivered(account: Account, stream: str, bucket: str, prefix: str, now: datetime) -> list[Undelivered]:
    """The shards, open or closed, whose last record has not landed; empty means that the stream is drained.

    A shard is read from 15 minutes before the end of what landed of it, else from its oldest record, to its
    tip. A shard without a record is drained. One that is written to as fast as it is read is not.
    A record that was given up has not landed: it is in the failed bucket until lake.py failed redrive.
    """
    summary = stream_call(account, "describe_stream_summary", stream, StreamName=stream)
    retention = timedelta(hours=summary["StreamDescriptionSummary"]["RetentionPeriodHours"])
    shards = shards_of(account, stream)
    newest = newest_keys(keys_since(account, bucket, prefix, now, retention), shards)
    ends = shard_ends(account, bucket, newest, now)
    records = [last_record(account, stream, shard_id, ends.get(shard_id)) for shard_id in sorted(shards)]
    left = [record for record in records if record]
    candidates = objects_of(account, bucket, prefix, [record for record in left if record.is_last])
    return [
        Undelivered(record.shard_id, record.sequence_number, why_undelivered(record))
        for record in left
        if not record.is_last
        or not any(holds(account, bucket, key, record) for key in candidates[record.shard_id])
    ]


def why_undelivered(record: LastRecord) -> str:
    arrived_at = f"{record.arrived_at:%Y-%m-%dT%H:%M:%SZ}"
    if not record.is_last:
        return f"records still come in, at {arrived_at} the last"
    return f"its last record, which arrived at {arrived_at}, has not landed"


def newest_keys(keys: Iterable[LandedKey], shards: Mapping[str, str]) -> dict[str, LandedKey]:
    """The object of each shard that begins last; one key a shard is kept.

    One that begins before its shard does is of a deleted stream of the same name.
    """
    newest: dict[str, LandedKey] = {}
    for key in keys:
        shard_id = key.shard_id
        is_of_shard = shard_id in shards and key.first_sequence_number >= shards[shard_id]
        if is_of_shard and not key.is_redriven:
            newest[shard_id] = max(newest.get(shard_id, key), key, key=first_sequence_number)
    return newest


def shard_ends(
    account: Account, bucket: str, newest: Mapping[str, LandedKey], now: datetime
) -> dict[str, datetime]:
    """When the last record of each object was published; now, where DMS's clock is ahead."""
    return {shard_id: min(published_at(account, bucket, key), now) for shard_id, key in newest.items()}


def objects_of(
    account: Account, bucket: str, prefix: str, records: list[LastRecord]
) -> dict[str, list[LandedKey]]:
    """The objects that may hold the last record of each shard, the likeliest first.

    A batch is contiguous, so whatever begins between the first record of an object and its last one was
    written by the same invocation: what is older than that cannot hold the last record. What was redriven
    can, whenever that was.
    """
    found: dict[str, list[LandedKey]] = {record.shard_id: [] for record in records}
    for day in sorted({day for record in records for day in record.days}):
        for key in landed_keys(account, bucket, prefix, day, day):
            if any(record.may_be_in(key) for record in records):
                found[key.shard_id].append(key)
    for shard_id, keys in found.items():
        keys.sort(key=first_sequence_number, reverse=True)
        newest = next((key.last_modified for key in keys if not key.is_redriven), LONG_AGO)
        found[shard_id] = [key for key in keys if key.is_redriven or key.last_modified >= newest - INVOCATION]
    return found


def first_sequence_number(key: LandedKey) -> str:
    return key.first_sequence_number


# ----------------------------------------------------------------------------------------------------------
# Reading the bucket
# ----------------------------------------------------------------------------------------------------------


def keys_since(
    account: Account, bucket: str, prefix: str, now: datetime, age: timedelta
) -> Iterator[LandedKey]:
    """The objects that records of that age can be in: a day more at both ends."""
    return landed_keys(account, bucket, prefix, (now - age - ONE_DAY).date(), (now + ONE_DAY).date())


def landed_keys(
    account: Account, bucket: str, prefix: str, first_day: date, last_day: date
) -> Iterator[LandedKey]:
    """Every object in changes/, control/ and quarantine/ of the days, both included."""
    for path, folder in SET_ASIDE:
        yield from keys_in(account, bucket, Place(f"{prefix}{path}", folder), first_day, last_day)
    for place in table_places(account, bucket, prefix):
        yield from keys_in(account, bucket, place, first_day, last_day)


def keys_in(
    account: Account, bucket: str, place: Place, first_day: date, last_day: date
) -> Iterator[LandedKey]:
    base = f"{place.path}cdc_date="
    for found in listing(account, bucket, "Contents", Prefix=base, StartAfter=f"{base}{first_day}"):
        key = found["Key"]
        if key >= f"{base}{last_day + ONE_DAY}":
            return
        if name := OBJECT_NAME(key.rpartition("/")[2]):
            yield LandedKey(
                place.folder,
                place.schema,
                place.table,
                unquote(name[1]),
                name[2],
                key,
                found["LastModified"],
                found["Size"],
                bool(name[3]),
            )


def table_places(account: Account, bucket: str, prefix: str) -> Iterator[Place]:
    """Place("changes/public/%C3%B6re/", "changes", "public", "öre") and so on, in order of paths."""
    for schema_folder in folders(account, bucket, f"{prefix}changes/"):
        for path in folders(account, bucket, schema_folder):
            schema, table = path.split("/")[-3:-1]
            yield Place(path, "changes", unquote(schema), unquote(table))


def folders(account: Account, bucket: str, folder: str) -> Iterator[str]:
    """The folders right inside the folder."""
    for found in listing(account, bucket, "CommonPrefixes", Prefix=folder, Delimiter="/"):
        yield found["Prefix"]


def listing(account: Account, bucket: str, part: str, **parameters: str) -> Iterator[Any]:
    """Contents or CommonPrefixes, in order of keys; none when there is no bucket."""
    try:
        yield from account.pages(
            "s3", "list_objects_v2", f"bucket {bucket}", part, Bucket=bucket, **parameters
        )
    except Refusal as error:
        if error.code != "NoSuchBucket":
            raise


def published_at(account: Account, bucket: str, key: LandedKey) -> datetime:
    """When the last record of the object was published; of a quarantined one, which has no time, arrived."""
    last_line = json_lines(account, bucket, key).rstrip(b"\n").rpartition(b"\n")[2]
    try:
        # int() refuses numbers of more than 4300 digits, and PostgreSQL has them
        row = json.loads(last_line, parse_int=str, parse_float=str)
        if key.folder == "changes":
            text = row["cdc_published_at"]
        elif key.folder == "control":
            text = row["cdc_envelope"]["metadata"]["timestamp"]
        else:
            text = row["cdc_arrived_at"]
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise not_ours(bucket, key) from None  # their texts may quote the row


def holds(account: Account, bucket: str, key: LandedKey, record: LastRecord) -> bool:
    """Whether the record has a line in the object; a text in a row has its quotes escaped: it can't match."""
    column = f'"cdc_sequence_number":"{record.sequence_number}"'
    return column.encode() in json_lines(account, bucket, key)


def json_lines(account: Account, bucket: str, key: LandedKey) -> bytes:
    """The object, unzipped. Raises AwsError, or ProvisionError for one that is not gzipped."""
    from botocore.exceptions import BotoCoreError

    subject = f"s3://{bucket}/{key.key}"
    try:
        answer = account.call("s3", "get_object", subject, Bucket=bucket, Key=key.key)
    except Refusal as error:
        if error.code not in DENIED or key.folder == "changes":
            raise
        tag = f"{TAG}={account.pipeline}"
        advice = f"while columns are masked, the bucket's policy asks for the tag {tag} on that role or user"
        raise AwsError(f"{error}; {advice}") from error
    try:
        return gzip.decompress(answer["Body"].read())
    except BotoCoreError as error:
        raise aws_error(error, iam_action(account.client("s3"), "get_object"), subject) from error
    except (OSError, EOFError, zlib.error):
        raise not_ours(bucket, key) from None


def not_ours(bucket: str, key: LandedKey) -> ProvisionError:
    return ProvisionError(
        f"cannot read s3://{bucket}/{key.key} as rows of the pipeline: "
        f"if something else wrote it, move it out of {key.folder}/"
    )


# ----------------------------------------------------------------------------------------------------------
# Reading the stream
# ----------------------------------------------------------------------------------------------------------


def shards_of(account: Account, stream: str) -> dict[str, str]:
    """Every shard that the stream still lists, closed ones too, and the sequence number it begins with."""
    shards: dict[str, str] = {}
    request = {"StreamName": stream}
    while request:  # botocore's paginator sends the name along with the token, which AWS refuses
        page = stream_call(account, "list_shards", stream, **request)
        for shard in page["Shards"]:
            first = shard["SequenceNumberRange"]["StartingSequenceNumber"]
            shards[shard["ShardId"]] = first.zfill(SEQUENCE_DIGITS)
        request = {"NextToken": page["NextToken"]} if page.get("NextToken") else {}
    return shards


def last_record(account: Account, stream: str, shard_id: str, end: datetime | None) -> LastRecord | None:
    """The last record of the shard, read from 15 minutes before end; None when there is none since then."""
    start: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
    if end:
        start = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": end - MARGIN}
    place = {"StreamName": stream, "ShardId": shard_id}
    iterator = stream_call(account, "get_shard_iterator", stream, **place, **start)["ShardIterator"]
    last, tip_pages = None, 0
    while iterator and tip_pages < TIP_PAGES:  # a closed shard ends without an iterator
        page = stream_call(account, "get_records", stream, ShardIterator=iterator)
        last = page["Records"][-1] if page["Records"] else last
        is_tip = not page["MillisBehindLatest"]  # before the tip, pages without records are normal
        if is_tip and not page["Records"]:
            break
        tip_pages += is_tip
        iterator = page.get("NextShardIterator")
        account.sleep(READ_PAUSE_SECONDS)
    if last is None:
        return None
    arrived_at = last["ApproximateArrivalTimestamp"].astimezone(UTC)
    sequence_number = last["SequenceNumber"].zfill(SEQUENCE_DIGITS)
    days = days_of(last["Data"], arrived_at)
    return LastRecord(shard_id, sequence_number, arrived_at, days, not iterator or tip_pages < TIP_PAGES)


def days_of(payload: bytes, arrived_at: datetime) -> frozenset[date]:
    """The dates that the record's object may be under: its own, and where it is quarantined its arrival's."""
    days = {arrived_at.date()}
    try:
        metadata = json.loads(payload, parse_int=str, parse_float=str)["metadata"]
        days.add(date.fromisoformat((metadata.get("commit-timestamp") or metadata["timestamp"])[:10]))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass  # no envelope: the function quarantines it
    return frozenset(days)


def stream_call(account: Account, operation: str, stream: str, **parameters: Any) -> Any:
    """Kinesis's answer; throttling is waited out."""
    return account.retry(
        THROTTLED,
        "",
        THROTTLED_ATTEMPTS,
        lambda: account.call("kinesis", operation, f"stream {stream}", **parameters),
    )
