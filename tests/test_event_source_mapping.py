"""Lambda's poller on this machine: its rules as tables, then a stream, a mapping and functions in zips."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from events import envelope, pretty

from local_run.aws import EmulatedAws, emulated_aws
from local_run.event_source_mapping.__main__ import clients, main
from local_run.event_source_mapping.batches import (
    Course,
    Origin,
    Piece,
    Policy,
    Record,
    StreamRecord,
    Verdict,
    committed_at,
    course,
    cut,
    event_record,
    is_full,
    read_answer,
    split_aged,
)
from local_run.event_source_mapping.configuration import MappingError, read_function, read_mapping
from local_run.event_source_mapping.mapping import Poller, readable_shards
from local_run.event_source_mapping.shards import Checkpoints
from local_run.event_source_mapping.status import Counters, tell_aws
from local_run.runtime import link_runtime

ROOT = Path(__file__).parents[1]
DEADLINE_SECONDS = 60
SECOND = 0.02  # of the mappings here
STREAM_ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/lending-stream"
FAILED_BUCKET = "lending-failed"

# ----------------------------------------------------------------------------------------------------------
# A stream, a mapping, and functions
# ----------------------------------------------------------------------------------------------------------

# Notes what it got, then does what the payloads say.
FUNCTION = """
import base64, json, os, sys, threading, time

def lambda_handler(event, context):
    records = event["Records"]
    payloads = [base64.b64decode(record["kinesis"]["data"]).decode() for record in records]
    shard = records[0]["eventID"].partition(":")[0]
    note({"payloads": payloads, "shard": shard, "pid": os.getpid(), "arn": context.invoked_function_arn,
          "version": context.function_version, "memory": context.memory_limit_in_mb,
          "left": context.get_remaining_time_in_millis(), "own": os.environ.get("OWN"),
          "endpoint": os.environ.get("AWS_ENDPOINT_URL"), "region": os.environ["AWS_REGION"]})
    if "raise" in payloads:
        raise ValueError("as the payload says")
    if "slow" in payloads:
        threading.Event().wait()
    if "exit" in payloads:
        os._exit(3)
    if "once" in payloads and not os.path.exists(os.environ["TRACE"] + ".once"):
        open(os.environ["TRACE"] + ".once", "w").close()
        raise ValueError("once")
    if "leak" in payloads:
        threading.Thread(target=tick, daemon=True).start()
    if "poison" in payloads:
        failed = records[payloads.index("poison")]["kinesis"]["sequenceNumber"]
        return {"batchItemFailures": [{"itemIdentifier": failed}]}
    landed = {"message": "batch landed", "rows": len(records), "objects": 1, "bytes": 10}
    print(json.dumps(landed), flush=True)
    return {"batchItemFailures": []}

def note(document):
    with open(os.environ["TRACE"], "a") as trace:
        trace.write(json.dumps(document) + "\\n")

def tick():
    while True:
        with open(os.environ["TRACE"] + ".ticks", "a") as ticks:
            ticks.write("x")
        time.sleep(0.001)
"""


def zipped(source: str = FUNCTION) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("lambda_function.py", source)
    return content.getvalue()


def allowing(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})


@pytest.fixture(scope="module")
def aws() -> Iterator[EmulatedAws]:
    with emulated_aws(transitions=0) as found:
        yield found


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_runtime(tmp_path_factory.mktemp("runtime").resolve())


class Chain:
    """A stream, a function with an alias, a mapping, and the poller as often as it is started."""

    def __init__(self, aws: EmulatedAws, folder: Path, runtime: Path) -> None:
        self.aws, self.folder, self.runtime = aws, folder, runtime
        self.trace_file = folder / "trace"
        self.clients = clients()
        self.lambda_ = self.clients["lambda"]
        self.iam = boto3.client("iam")
        self.kinesis = boto3.client("kinesis")
        self.s3 = self.clients["s3"]
        self.uuid = ""

    def close(self) -> None:
        for client in (*self.clients.values(), self.iam, self.kinesis):
            client.close()

    def make(self, shards: int = 1, timeout: int = 20, **mapping: Any) -> None:
        self.kinesis.create_stream(StreamName="lending-stream", ShardCount=shards)
        self.kinesis.describe_stream(StreamName="lending-stream")
        self.s3.create_bucket(
            Bucket=FAILED_BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        self.lambda_.create_function(
            FunctionName="lending-lambda",
            Runtime="python3.13",
            Role=self.make_role(),
            Handler="lambda_function.lambda_handler",
            Code={"ZipFile": zipped()},
            Timeout=timeout,
            MemorySize=256,
            Environment={"Variables": {"TRACE": str(self.trace_file), "OWN": "variable"}},
        )
        self.settle_function()
        version = self.lambda_.publish_version(FunctionName="lending-lambda")["Version"]
        self.lambda_.create_alias(FunctionName="lending-lambda", Name="live", FunctionVersion=version)
        self.map(**mapping)

    def make_role(self) -> str:
        trust = {"Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        name = {"RoleName": "lending-lambda"}
        role = self.iam.create_role(**name, AssumeRolePolicyDocument=allowing(trust))["Role"]
        does = allowing({"Action": ["kinesis:*", "s3:*"], "Resource": "*"})
        self.iam.put_role_policy(**name, PolicyName="does", PolicyDocument=does)
        arn: str = role["Arn"]
        return arn

    def map(self, **mapping: Any) -> None:
        given = {"StartingPosition": "TRIM_HORIZON", "EventSourceArn": STREAM_ARN, "BatchSize": 100} | mapping
        made = self.lambda_.create_event_source_mapping(FunctionName="lending-lambda:live", **given)
        self.uuid = made["UUID"]

    def settle_function(self) -> None:
        self.lambda_.get_function_configuration(FunctionName="lending-lambda")

    def put(self, *payloads: str | bytes, key: str = "key") -> None:
        records = [
            {"Data": text if isinstance(text, bytes) else text.encode(), "PartitionKey": key}
            for text in payloads
        ]
        for start in range(0, len(records), 500):
            self.kinesis.put_records(StreamName="lending-stream", Records=records[start : start + 500])

    @contextmanager
    def polling(self, second: float = SECOND) -> Iterator[Poller]:
        """The poller in a thread of this process; what it raises is raised at the end."""
        poller = Poller("lending-lambda", self.folder, second, self.clients)
        failures: list[Exception] = []

        def run() -> None:
            try:
                poller.run(self.runtime, None)
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield poller
        finally:
            poller.is_ending = True
            thread.join(DEADLINE_SECONDS)
        if failures:
            raise failures[0]

    @property
    def trace(self) -> list[dict[str, Any]]:
        text = self.trace_file.read_text() if self.trace_file.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    @property
    def invocations(self) -> list[list[str]]:
        return [each["payloads"] for each in self.trace]

    @property
    def status(self) -> dict[str, Any]:
        file = self.folder / "status/event_source_mapping.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    @property
    def checkpoint(self) -> dict[str, Any]:
        file = self.folder / f"event_source_mapping/{self.uuid}.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def given_up(self) -> list[dict[str, Any]]:
        found = self.s3.list_objects_v2(Bucket=FAILED_BUCKET).get("Contents", [])
        return [
            json.loads(self.s3.get_object(Bucket=FAILED_BUCKET, Key=each["Key"])["Body"].read())
            for each in found
        ]


def wait(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


@pytest.fixture
def chain(
    aws: EmulatedAws, tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Chain]:
    aws.reset(transitions=0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    found = Chain(aws, tmp_path.resolve(), runtime)
    yield found
    found.close()


# ----------------------------------------------------------------------------------------------------------
# Records and batches
# ----------------------------------------------------------------------------------------------------------


def records(count: int, size: int = 10, arrived_at: float = 0.0) -> list[Record]:
    return [Record(f"49{number:03}", arrived_at, b"r" * size) for number in range(count)]


def test_record_stands_in_the_event_as_aws_puts_it() -> None:
    payload = envelope()
    found = StreamRecord(base64.b64encode(payload).decode(), 'a "key" é', "4967", 1772356570.25)
    origin = Origin(
        STREAM_ARN, "shardId-000000000006", "arn:aws:iam::123456789012:role/lending-lambda", "eu-west-1"
    )
    record = event_record(found, origin)
    assert json.loads(record.json) == {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": 'a "key" é',
            "sequenceNumber": "4967",
            "data": base64.b64encode(payload).decode(),
            "approximateArrivalTimestamp": 1772356570.25,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": "shardId-000000000006:4967",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/lending-lambda",
        "awsRegion": "eu-west-1",
        "eventSourceARN": STREAM_ARN,
    }
    assert json.loads(Piece([record, record]).event) == {"Records": [json.loads(record.json)] * 2}
    assert (record.sequence_number, record.arrived_at) == ("4967", 1772356570.25)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (envelope(), 1772356570.48001),
        (pretty(envelope()), 1772356570.48001),
        (envelope({"note": "x" * 5000}), 1772356570.48001),
        (envelope({"note": '"commit-timestamp": "2001-01-01T00:00:00Z"'}), 1772356570.48001),
        (envelope(commit_timestamp=None), None),
        (envelope(schema_name="", table_name="awsdms_status"), None),
        (envelope(table_name="awsdms_heartbeat"), None),
        (envelope(commit_timestamp="yesterday"), None),
        (b"not an envelope", None),
        (b"", None),
    ],
    ids=[
        *("unformatted", "pretty", "long row", "row that says it too"),
        *("load", "DMS's table", "DMS's heartbeat", "no time", "no envelope", "empty"),
    ],
)
def test_commit_time_is_found_in_the_last_bytes(payload: bytes, expected: float | None) -> None:
    assert committed_at(base64.b64encode(payload).decode()) == expected


@pytest.mark.parametrize(
    ("sizes", "batch_size", "count", "full"),
    [
        ([10], 100, 1, False),
        ([10] * 100, 100, 100, True),
        ([10] * 101, 100, 100, True),
        ([1_000_000] * 6, 100, 6, False),
        ([1_000_000] * 7, 100, 6, True),
        ([3_145_721, 3_145_720], 100, 2, False),  # 6,291,456 bytes with brackets and comma
        ([3_145_721, 3_145_721], 100, 1, True),
        ([7_000_000], 100, 1, False),
        ([7_000_000, 10], 100, 1, True),
    ],
    ids=[
        *("one", "batch size", "above batch size", "below 6 MB", "above 6 MB", "6 MB", "a byte more"),
        *("one too large", "one too large and another"),
    ],
)
def test_batch_ends_at_its_size_or_at_six_megabytes(
    sizes: list[int], batch_size: int, count: int, full: bool
) -> None:
    waiting = [Record(str(i), 0.0, b"r" * size) for i, size in enumerate(sizes)]
    assert cut(waiting, batch_size) == count
    assert is_full(waiting, batch_size) == full


@pytest.mark.parametrize(
    ("arrivals", "max_age", "aged", "rest"),
    [
        ([0, 50, 100], -1, [], [0, 50, 100]),
        ([0, 50, 100], 60, [0], [50, 100]),
        ([0, 50, 100], 50, [0], [50, 100]),
        ([0, 1, 2], 60, [0, 1, 2], []),
        ([90, 0, 100], 60, [], [90, 0, 100]),
    ],
    ids=["no limit", "some", "just young enough", "all", "behind a young one"],
)
def test_aged_records_are_split_off(
    arrivals: list[float], max_age: int, aged: list[float], rest: list[float]
) -> None:
    piece = Piece([Record(str(at), at, b"{}") for at in arrivals], retries=3, invocations=4)
    parts = split_aged(piece, 100, max_age)
    assert [[r.arrived_at for r in part.records] if part else [] for part in parts] == [aged, rest]
    assert {(part.retries, part.invocations) for part in parts if part} == {(3, 4)}


# ----------------------------------------------------------------------------------------------------------
# Answers
# ----------------------------------------------------------------------------------------------------------

ALL, NONE = Verdict(4), Verdict(0, is_failure=True)


def failures(*identifiers: Any) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in identifiers]}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, ALL),
        ({}, ALL),
        ("", ALL),
        ({"batchItemFailures": []}, ALL),
        ({"batchItemFailures": None}, ALL),
        ({"statusCode": 200}, ALL),
        (failures("49002"), Verdict(2)),
        (failures("49000"), Verdict(0)),
        (failures("49003", "49001", "49002"), Verdict(1)),
        (failures(""), NONE),
        (failures(None), NONE),
        (failures(49002), NONE),
        (failures("shardId-000000000000:49002"), NONE),
        (failures("49002", "5"), NONE),
        ({"batchItemFailures": [{"ItemIdentifier": "49002"}]}, NONE),
        ({"batchItemFailures": ["49002"]}, NONE),
        ({"batchItemFailures": {"itemIdentifier": "49002"}}, NONE),
        ("4 records", NONE),
        ([failures("49002")], NONE),
    ],
    ids=[
        *(
            "null",
            "empty object",
            "empty text",
            "empty list",
            "null list",
            "another object",
            "one",
            "the first",
        ),
        *("several", "empty identifier", "null identifier", "number", "event id", "not of the batch"),
        *("bad key", "no object in the list", "no list", "text", "list"),
    ],
)
def test_answer_is_read_as_aws_reads_it(answer: Any, expected: Verdict) -> None:
    assert read_answer(answer, records(4), reports_failures=True) == expected


@pytest.mark.parametrize("answer", [failures("49002"), failures(""), "4 records"])
def test_answer_is_ignored_unless_failures_are_reported(answer: Any) -> None:
    assert read_answer(answer, records(4), reports_failures=False) == ALL


# ----------------------------------------------------------------------------------------------------------
# Retries
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "retries", "verdict", "policy", "expected"),
    [
        (4, 0, ALL, Policy(), ("done 4", [], 0)),
        (4, 0, NONE, Policy(), ("done 0", [("0123", 1)], 1)),
        (4, 1, NONE, Policy(), ("done 0", [("0123", 2)], 2)),
        (4, 5, NONE, Policy(), ("done 0", [("0123", 6)], 32)),
        (4, 6, NONE, Policy(), ("done 0", [("0123", 7)], 60)),
        (4, 2, NONE, Policy(max_retries=3), ("done 0", [("0123", 3)], 4)),
        (4, 3, NONE, Policy(max_retries=3), ("gives up", [("0123", 3)], 0)),
        (4, 0, NONE, Policy(max_retries=0), ("gives up", [("0123", 0)], 0)),
        (4, 0, NONE, Policy(bisects=True), ("done 0", [("01", 0), ("23", 0)], 0)),
        (3, 2, NONE, Policy(bisects=True, max_retries=2), ("done 0", [("0", 2), ("12", 2)], 0)),
        (1, 0, NONE, Policy(bisects=True), ("done 0", [("0", 1)], 1)),
        (1, 0, NONE, Policy(bisects=True, max_retries=0), ("gives up", [("0", 0)], 0)),
        (4, 0, Verdict(2), Policy(), ("done 2", [("23", 1)], 1)),
        (4, 0, Verdict(2), Policy(max_retries=0), ("gives up", [("23", 0)], 0)),
        (4, 0, Verdict(2), Policy(bisects=True, max_retries=0), ("done 2", [("23", 0)], 0)),
        (4, 1, Verdict(0), Policy(bisects=True), ("done 0", [("0123", 2)], 2)),
        (4, 1, Verdict(0), Policy(bisects=True, max_retries=1), ("gives up", [("0123", 1)], 0)),
    ],
    ids=[
        *(
            "success",
            "failure",
            "second",
            "sixth",
            "seventh",
            "last retry",
            "no retry left",
            "no retry at all",
        ),
        *("bisected", "a split counts not", "one record", "one record and no retry", "from the third on"),
        *("the rest given up", "split at the third", "the first record", "the first record given up"),
    ],
)
def test_course_after_an_invocation(
    count: int, retries: int, verdict: Verdict, policy: Policy, expected: tuple[str, list[Any], int]
) -> None:
    found: Course = course(Piece(records(count), retries, invocations=retries), verdict, policy)
    pieces = [("".join(r.sequence_number[-1] for r in p.records), p.retries) for p in found.pieces]
    assert ("gives up" if found.gives_up else f"done {found.done}", pieces, found.pause) == expected
    assert {piece.invocations for piece in found.pieces} <= {retries + 1}


def test_partial_answer_acknowledges_what_comes_before_what_is_given_up() -> None:
    found = course(Piece(records(4)), Verdict(3), Policy(max_retries=0))
    assert (found.done, found.gives_up, len(found.pieces[0].records)) == (3, True, 1)


# ----------------------------------------------------------------------------------------------------------
# Configuration, shards, figures
# ----------------------------------------------------------------------------------------------------------

MAPPING = {
    "UUID": "2bd6",
    "State": "Enabled",
    "StartingPosition": "TRIM_HORIZON",
    "EventSourceArn": STREAM_ARN,
    "FunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:lending-lambda:live",
    "BatchSize": 10_000,
    "MaximumBatchingWindowInSeconds": 5,
    "ParallelizationFactor": 1,
    "TumblingWindowInSeconds": 0,
    "BisectBatchOnFunctionError": True,
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "MaximumRecordAgeInSeconds": 3600,
    "MaximumRetryAttempts": -1,
    "DestinationConfig": {"OnFailure": {"Destination": f"arn:aws:s3:::{FAILED_BUCKET}"}},
}


def test_mapping_is_read_as_it_is_configured() -> None:
    found = read_mapping(MAPPING)
    assert (found.uuid, found.state, found.stream_arn) == ("2bd6", "Enabled", STREAM_ARN)
    assert (found.starts_at, found.bucket) == (None, FAILED_BUCKET)
    assert found.policy == Policy(10_000, 5, True, True, -1, 3600)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("StartingPosition", "LATEST"),
        ("ParallelizationFactor", 2),
        ("TumblingWindowInSeconds", 60),
        ("FilterCriteria", {"Filters": [{"Pattern": "{}"}]}),
        ("DestinationConfig", {"OnFailure": {"Destination": "arn:aws:sqs:eu-west-1:123456789012:failed"}}),
        ("EventSourceArn", f"{STREAM_ARN}/consumer/fast:1"),
        ("EventSourceArn", "arn:aws:sqs:eu-west-1:123456789012:queue"),
        ("SettingOfTomorrow", True),
    ],
)
def test_setting_that_is_not_imitated_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(MappingError, match=f"event source mapping 2bd6: {key}=.* is not imitated"):
        read_mapping({**MAPPING, key: value})


FUNCTION_CONFIGURATION = {
    "FunctionName": "lending-lambda",
    "FunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:lending-lambda:3",
    "Runtime": "python3.13",
    "Handler": "lambda_function.lambda_handler",
    "Role": "arn:aws:iam::123456789012:role/lending-lambda",
    "MemorySize": 512,
    "Timeout": 120,
    "Version": "3",
    "CodeSha256": "c2hh",
}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("Layers", [{"Arn": "arn:aws:lambda:eu-west-1:123456789012:layer:more:1"}], "Layers is not imitated"),
        ("PackageType", "Image", "expected a zip for Python"),
        ("Runtime", "nodejs22.x", "expected a zip for Python, found Runtime 'nodejs22.x'"),
    ],
)
def test_function_that_cannot_run_here_is_refused(key: str, value: Any, reason: str) -> None:
    with pytest.raises(MappingError, match=f"function lending-lambda: {reason}"):
        read_function({**FUNCTION_CONFIGURATION, key: value}, "live")


def test_function_is_invoked_by_its_alias() -> None:
    found = read_function(FUNCTION_CONFIGURATION, "live")
    assert found.function.arn == "arn:aws:lambda:eu-west-1:123456789012:function:lending-lambda:live"
    assert (found.function.version, found.timeout_seconds) == ("3", 120)


LINEAGE = [
    {"ShardId": "0"},
    {"ShardId": "1"},
    {"ShardId": "2", "ParentShardId": "0"},
    {"ShardId": "3", "ParentShardId": "0"},
    {"ShardId": "4", "ParentShardId": "3", "AdjacentParentShardId": "1"},
    {"ShardId": "5", "ParentShardId": "expired"},
]


@pytest.mark.parametrize(
    ("finished", "expected"),
    [("", "015"), ("0", "1235"), ("03", "125"), ("013", "245"), ("01234", "5")],
)
def test_shards_are_read_once_their_parents_are(finished: str, expected: str, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints.json")
    for shard_id in finished:
        checkpoints.save(shard_id, is_finished=True)
    assert readable_shards(LINEAGE, Checkpoints(tmp_path / "checkpoints.json")) == list(expected)


def test_percentiles_are_right_to_two_percent() -> None:
    counters = Counters()
    counters.count_landed([Record("1", 0, b"", committed_at=-ms / 1000) for ms in range(1, 1001)], now=0)
    shown = counters.shown(now=1)
    assert shown["latency_ms"] == shown["recent_latency_ms"]
    assert shown["latency_ms"]["count"] == 1000
    assert shown["latency_ms"]["p50"] == pytest.approx(500, rel=0.02)
    assert shown["latency_ms"]["p99"] == pytest.approx(990, rel=0.02)
    assert counters.shown(now=6)["recent_latency_ms"] == {"count": 0, "p50": None, "p99": None}


# ----------------------------------------------------------------------------------------------------------
# Delivery
# ----------------------------------------------------------------------------------------------------------


def test_records_are_delivered_in_order_and_acknowledged(chain: Chain) -> None:
    chain.make()
    chain.put("a", "b", "c")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 3)
        wait(lambda: chain.status["is_caught_up"])
        chain.put("d")
        wait(lambda: chain.status["records"] == 4)
    assert chain.invocations == [["a", "b", "c"], ["d"]]
    assert chain.checkpoint["shardId-000000000000"]["after"] == last_sequence_number(chain)
    status = chain.status
    assert (status["invocations"], status["errors"], status["given_up"]) == (2, 0, 0)
    assert (status["rows"], status["objects"], status["bytes"]) == (4, 2, 20)
    assert status["function_pids"] == []


def last_sequence_number(chain: Chain, shard: str = "shardId-000000000000") -> str:
    iterator = chain.kinesis.get_shard_iterator(
        StreamName="lending-stream", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    number: str = chain.kinesis.get_records(ShardIterator=iterator)["Records"][-1]["SequenceNumber"]
    return number


def test_function_is_told_what_lambda_tells_it(chain: Chain) -> None:
    chain.make(timeout=20)
    chain.put("a")
    with chain.polling():
        wait(lambda: chain.trace)
    told = chain.trace[0]
    assert told["arn"] == "arn:aws:lambda:eu-west-1:123456789012:function:lending-lambda:live"
    assert (told["version"], told["memory"], told["own"]) == ("1", "256", "variable")
    assert (told["endpoint"], told["region"]) == (chain.aws.url, "eu-west-1")
    assert 10_000 < told["left"] <= 20_000


def test_batch_waits_for_its_window(chain: Chain) -> None:
    chain.make(MaximumBatchingWindowInSeconds=5)
    with chain.polling(second=0.2) as poller:
        wait(lambda: chain.status.get("is_caught_up"))
        chain.put("a")
        wait(lambda: any(reader.waiting for reader in poller.readers.values()))
        chain.put("b")
        wait(lambda: chain.trace)
    assert chain.invocations == [["a", "b"]]


def test_batch_ends_with_its_size(chain: Chain) -> None:
    chain.make(BatchSize=2, MaximumBatchingWindowInSeconds=300)
    chain.put("a", "b", "c", "d", "e")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 4)
    assert chain.invocations == [["a", "b"], ["c", "d"]]
    assert chain.status["records"] == 4


def test_bisecting_gives_up_one_record_only(chain: Chain) -> None:
    destination = {"OnFailure": {"Destination": f"arn:aws:s3:::{FAILED_BUCKET}"}}
    chain.make(BisectBatchOnFunctionError=True, MaximumRetryAttempts=1, DestinationConfig=destination)
    chain.put("a", "b", "raise", "c")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 3 and chain.status["given_up"] == 1)
    assert chain.invocations == [
        ["a", "b", "raise", "c"],
        ["a", "b"],
        ["raise", "c"],
        ["raise"],
        ["raise"],
        ["c"],
    ]
    [given_up] = chain.given_up()
    assert payloads(given_up) == ["raise"]
    assert given_up["requestContext"]["approximateInvokeCount"] == 4
    assert (chain.status["invocations"], chain.status["errors"]) == (6, 4)


def payloads(invocation_record: dict[str, Any]) -> list[str]:
    event = json.loads(invocation_record["payload"])
    return [base64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]


def test_batch_that_is_given_up_is_whole_in_the_destination(chain: Chain) -> None:
    destination = {"OnFailure": {"Destination": f"arn:aws:s3:::{FAILED_BUCKET}"}}
    chain.make(MaximumRetryAttempts=0, DestinationConfig=destination)
    chain.put("a", "raise", "b")
    with chain.polling():
        wait(lambda: chain.status.get("given_up") == 3)
        chain.put("after")
        wait(lambda: chain.status["records"] == 1)
    [key] = [each["Key"] for each in chain.s3.list_objects_v2(Bucket=FAILED_BUCKET)["Contents"]]
    prefix, _, name = key.rpartition("/")
    day = f"{name[:4]}/{name[5:7]}/{name[8:10]}"
    assert prefix == f"aws/lambda/{chain.uuid}/shardId-000000000000/{day}"
    [found] = chain.given_up()
    assert payloads(found) == ["a", "raise", "b"]
    records = json.loads(found["payload"])["Records"]
    context, batch = found["requestContext"], found["KinesisBatchInfo"]
    assert context["functionArn"].endswith(":function:lending-lambda:live")
    assert (context["condition"], context["approximateInvokeCount"]) == ("RetryAttemptsExhausted", 1)
    assert found["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "1",
        "functionError": "Unhandled",
    }
    assert (batch["shardId"], batch["batchSize"], batch["streamArn"]) == (
        "shardId-000000000000",
        3,
        STREAM_ARN,
    )
    assert batch["startSequenceNumber"] == records[0]["kinesis"]["sequenceNumber"]
    assert batch["endSequenceNumber"] == records[2]["kinesis"]["sequenceNumber"]
    assert found["version"] == "1.0"


def test_destination_that_is_gone_holds_up_nobody(chain: Chain, capfd: pytest.CaptureFixture[str]) -> None:
    destination = {"OnFailure": {"Destination": f"arn:aws:s3:::{FAILED_BUCKET}"}}
    chain.make(MaximumRetryAttempts=0, DestinationConfig=destination)
    chain.s3.delete_bucket(Bucket=FAILED_BUCKET)
    chain.put("raise")
    with chain.polling():
        wait(lambda: chain.status.get("given_up") == 1)
        chain.put("after")
        wait(lambda: chain.status["records"] == 1)
    log = capfd.readouterr().err
    assert f"cannot write s3://{FAILED_BUCKET}/aws/lambda/{chain.uuid}/" in log
    assert "NoSuchBucket" in log


def test_aged_records_are_given_up_untried(chain: Chain) -> None:
    destination = {"OnFailure": {"Destination": f"arn:aws:s3:::{FAILED_BUCKET}"}}
    chain.make(MaximumRecordAgeInSeconds=3600, DestinationConfig=destination)
    chain.put("old", "older", "young")
    chain.clients["kinesis"].meta.events.register("after-call.kinesis.GetRecords", make_older)
    with chain.polling():
        wait(lambda: chain.status.get("records") == 1)
    assert chain.invocations == [["young"]]
    [found] = chain.given_up()
    assert payloads(found) == ["old", "older"]
    assert found["requestContext"]["condition"] == "RecordAgeExceeded"
    assert found["requestContext"]["approximateInvokeCount"] == 0


def make_older(parsed: dict[str, Any], **_: Any) -> None:
    """The records that say that they are old arrived two hours earlier."""
    answer = json.loads(parsed["Body"])
    for record in answer["Records"]:
        if base64.b64decode(record["Data"]).startswith(b"old"):
            record["ApproximateArrivalTimestamp"] -= 7200
    parsed["Body"] = json.dumps(answer).encode()


def test_partial_answer_is_retried_from_the_record_that_it_names(chain: Chain) -> None:
    chain.make(
        FunctionResponseTypes=["ReportBatchItemFailures"],
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=1,
    )
    chain.put("a", "b", "poison", "c")
    with chain.polling():
        wait(lambda: chain.status.get("given_up") == 2)
    assert chain.invocations == [["a", "b", "poison", "c"], ["poison", "c"], ["poison", "c"]]
    assert (chain.status["records"], chain.status["errors"]) == (2, 0)


def test_partial_answer_is_success_where_it_is_not_asked_for(chain: Chain) -> None:
    chain.make()
    chain.put("a", "poison", "b")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 3)
    assert chain.invocations == [["a", "poison", "b"]]


def test_failure_is_retried_until_it_is_none(chain: Chain) -> None:
    chain.make()
    chain.put("a", "once")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 2)
    assert chain.invocations == [["a", "once"]] * 2
    assert len({each["pid"] for each in chain.trace}) == 1  # an error ends no environment


@pytest.mark.parametrize("end", ["slow", "exit"])
def test_environment_that_has_ended_is_replaced(end: str, chain: Chain) -> None:
    chain.make(timeout=1, MaximumRetryAttempts=0)
    chain.put(end)
    with chain.polling():
        wait(lambda: chain.status.get("given_up") == 1)
        chain.put("after")
        wait(lambda: chain.status["records"] == 1)
    assert chain.invocations == [[end], ["after"]]
    assert len({each["pid"] for each in chain.trace}) == 2


def test_environment_killed_between_two_events_costs_no_error(chain: Chain) -> None:
    chain.make()
    chain.put("a")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 1 and chain.status["function_pids"])
        [pid] = chain.status["function_pids"]
        os.kill(pid, signal.SIGKILL)
        wait(lambda: not chain.status["function_pids"])
        chain.put("b")
        wait(lambda: chain.status["records"] == 2)
    assert chain.status["errors"] == 0


def test_environment_is_frozen_between_two_events(chain: Chain) -> None:
    chain.make()
    chain.put("leak")
    ticks = Path(f"{chain.trace_file}.ticks")
    with chain.polling() as poller:
        wait(lambda: chain.status.get("records") == 1 and chain.status["function_pids"])
        function = psutil.Process(chain.status["function_pids"][0])
        wait(lambda: function.status() == psutil.STATUS_STOPPED)
        before = ticks.stat().st_size if ticks.exists() else 0
        [reader] = poller.readers.values()
        for _ in range(5):
            seen = reader.caught_up_at
            wait(lambda seen=seen: reader.caught_up_at != seen)
        assert (ticks.stat().st_size if ticks.exists() else 0) == before
        chain.put("leak")
        wait(lambda: ticks.exists() and ticks.stat().st_size > before)


# ----------------------------------------------------------------------------------------------------------
# Shards and checkpoints
# ----------------------------------------------------------------------------------------------------------


def test_parents_are_read_before_children_after_a_split_and_a_merge(chain: Chain) -> None:
    chain.make(BatchSize=7)
    stream: dict[str, Any] = {"StreamName": "lending-stream"}

    def put(generation: int) -> None:
        for start in range(0, 20, 5):
            for key in "abcdef":
                chain.put(*[f"{key} {generation}{number:02}" for number in range(start, start + 5)], key=key)

    put(1)
    with chain.polling():
        chain.kinesis.split_shard(
            **stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127)
        )
        chain.kinesis.describe_stream(**stream)
        put(2)
        chain.kinesis.merge_shards(
            **stream, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002"
        )
        chain.kinesis.describe_stream(**stream)
        put(3)
        wait(lambda: chain.status.get("records") == 360)
        wait(lambda: chain.status["is_caught_up"])
    delivered = [text for batch in chain.invocations for text in batch]
    for key in "abcdef":
        numbers = [int(text[2:]) for text in delivered if text[0] == key]
        assert numbers == [generation * 100 + n for generation in (1, 2, 3) for n in range(20)]
    assert {each["shard"][-1] for each in chain.trace} == set("0123")
    assert [chain.checkpoint[f"shardId-00000000000{n}"].get("is_finished") for n in range(4)] == [
        *(True, True, True),
        None,
    ]


def test_restart_goes_on_behind_the_last_acknowledged_record(chain: Chain) -> None:
    chain.make(BatchSize=2)
    chain.put("a", "b", "c")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 3)
    chain.put("d")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 1)
    assert [text for batch in chain.invocations for text in batch] == ["a", "b", "c", "d"]


def test_mapping_can_start_at_a_time(chain: Chain) -> None:
    put_at = int(time.time())
    chain.make(StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=put_at + 2)
    chain.put("old")
    wait(lambda: time.time() > put_at + 2)
    chain.put("young")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 1)
    assert chain.invocations == [["young"]]


@pytest.mark.parametrize(
    "code", ["ExpiredIteratorException", "InvalidArgumentException", "ProvisionedThroughputExceededException"]
)
def test_read_that_fails_is_tried_again(code: str, chain: Chain) -> None:
    chain.make()
    chain.put("a")
    refused: list[str] = []

    def refuse(**_: Any) -> Any:
        """Answers two GetRecords with the error."""
        if len(refused) == 2:
            return None
        refused.append(code)
        error = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        return Refusal(), error

    events = chain.clients["kinesis"].meta.events
    with chain.polling():
        wait(lambda: chain.status.get("records") == 1)
        events.register("before-call.kinesis.GetRecords", refuse)
        wait(lambda: len(refused) == 2)
        chain.put("b")
        wait(lambda: chain.status["records"] == 2)
        wait(lambda: chain.status["message"] is None)
    assert chain.invocations == [["a"], ["b"]]


class Refusal:
    status_code = 400


def test_stream_that_cannot_be_read_shows_in_the_status(chain: Chain) -> None:
    chain.make()
    chain.put("a")
    chain.kinesis.delete_stream(StreamName="lending-stream")
    with pytest.raises(chain.kinesis.exceptions.ResourceNotFoundException):
        chain.kinesis.describe_stream(StreamName="lending-stream")
    with chain.polling():
        wait(lambda: "ResourceNotFoundException" in (chain.status.get("message") or ""))


# ----------------------------------------------------------------------------------------------------------
# What AWS is told meanwhile
# ----------------------------------------------------------------------------------------------------------


def test_poller_waits_for_its_mapping(chain: Chain) -> None:
    with chain.polling():
        wait(lambda: chain.status.get("state") == "waiting")
        chain.make()
        chain.put("a")
        wait(lambda: chain.status["records"] == 1)
        assert chain.status["state"] == "polling"


def test_disabled_mapping_delivers_nothing_until_it_is_enabled(chain: Chain) -> None:
    chain.make()
    chain.put("a")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 1)
        chain.lambda_.update_event_source_mapping(UUID=chain.uuid, Enabled=False)
        wait(lambda: chain.status["state"] == "disabled" and not chain.status["function_pids"])
        chain.put("b")
        chain.lambda_.update_event_source_mapping(UUID=chain.uuid, Enabled=True)
        wait(lambda: chain.status["records"] == 2)
    assert chain.invocations == [["a"], ["b"]]


def test_deleted_mapping_is_gone_and_another_begins_anew(chain: Chain) -> None:
    chain.make()
    chain.put("a")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 1)
        chain.lambda_.delete_event_source_mapping(UUID=chain.uuid)
        wait(lambda: chain.status["state"] == "gone")
        chain.map()
        wait(lambda: chain.status["records"] == 2)
    assert chain.invocations == [["a"], ["a"]]


def test_new_version_behind_the_alias_is_run_and_so_are_new_settings(chain: Chain) -> None:
    chain.make()
    chain.put("a")
    with chain.polling():
        wait(lambda: chain.status.get("records") == 1)
        source = FUNCTION.replace('"payloads": payloads', '"payloads": ["changed"]')
        chain.lambda_.update_function_code(FunctionName="lending-lambda", ZipFile=zipped(source))
        chain.settle_function()
        version = chain.lambda_.publish_version(FunctionName="lending-lambda")["Version"]
        chain.lambda_.update_alias(FunctionName="lending-lambda", Name="live", FunctionVersion=version)
        chain.lambda_.update_event_source_mapping(UUID=chain.uuid, BatchSize=1)
        wait(lambda: deliver_one_more(chain)["payloads"] == ["changed"])
    assert chain.trace[-1]["version"] == version


def deliver_one_more(chain: Chain) -> dict[str, Any]:
    """What the function notes of another record."""
    count = len(chain.trace)
    chain.put("more")
    wait(lambda: len(chain.trace) > count)
    return chain.trace[-1]


def test_setting_that_is_not_imitated_ends_the_poller(chain: Chain) -> None:
    chain.make(ParallelizationFactor=2)
    poller = Poller("lending-lambda", chain.folder, SECOND, chain.clients)
    with pytest.raises(MappingError, match="ParallelizationFactor=2 is not imitated"):
        poller.run(chain.runtime, None)


def test_aws_is_told_how_invocations_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    class Channel(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    counters = Counters()
    counters.count_handover("shardId-000000000000", Record("1", arrived_at=10.0, json=b""), now=10.25)
    counters.count_invocation(is_failure=False, seconds=0.1, lines=[])
    counters.count_invocation(is_failure=True, seconds=0.3, lines=[])
    with HTTPServer(("127.0.0.1", 0), Channel) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        tell_aws("2bd6", counters.take_unreported())
        thread.join()
        tell_aws("2bd6", counters.take_unreported())  # nothing new: nobody is asked
    metrics = {"Invocations": 2, "Errors": 1, "Duration": 200.0, "IteratorAge": 250.0}
    document = {"LastProcessingResult": "PROBLEM: Function call failed", "metrics": metrics}
    assert asked == [("/_emulated-aws/mapping?uuid=2bd6", document)]


# ----------------------------------------------------------------------------------------------------------
# Its process
# ----------------------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "local_run.event_source_mapping", "--pipeline", "lending"]


@contextmanager
def poller_process(chain: Chain) -> Iterator[subprocess.Popen[bytes]]:
    command = [*COMMAND, "--folder", str(chain.folder), "--poll-seconds", str(SECOND)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_killed_poller_leaves_no_process_and_loses_nothing(chain: Chain) -> None:
    chain.make(timeout=60)
    chain.put("a")
    with poller_process(chain) as process:
        wait(lambda: chain.status.get("records") == 1 and chain.status["function_pids"])
        family = psutil.Process(process.pid).children(recursive=True)
        function = psutil.Process(chain.status["function_pids"][0])
        wait(lambda: function.status() == psutil.STATUS_STOPPED)
        process.kill()
        wait(lambda: not any(each.is_running() for each in family))
    assert function in family
    chain.put("slow")
    with poller_process(chain) as process:
        wait(lambda: chain.invocations[-1] == ["slow"])
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        wait(lambda: not any(each.is_running() for each in family))
    chain.trace_file.unlink()
    with poller_process(chain):
        wait(lambda: chain.invocations == [["slow"]])


def test_terminated_poller_finishes_the_invocation_in_flight(chain: Chain) -> None:
    chain.make(timeout=3, MaximumRetryAttempts=0)
    chain.put("slow")
    with poller_process(chain) as process:
        wait(lambda: chain.invocations == [["slow"]])
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
    assert not any(each.is_running() for each in family)
    assert chain.status["given_up"] == 1
    assert chain.checkpoint["shardId-000000000000"]["after"] == last_sequence_number(chain)


def test_poller_ends_with_its_parent(chain: Chain) -> None:
    chain.make(timeout=60)
    chain.put("slow")
    script = '"$@" --parent $$ & echo $!; read -r _'
    options = ["--folder", str(chain.folder), "--poll-seconds", str(SECOND)]
    with subprocess.Popen(
        ["/bin/sh", "-c", script, "parent", *COMMAND, *options],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout
        poller = psutil.Process(int(parent.stdout.readline()))
        wait(lambda: chain.invocations == [["slow"]])
        family = [poller, *poller.children(recursive=True)]
        parent.kill()
        wait(lambda: not any(is_alive(each) for each in family))


def is_alive(process: psutil.Process) -> bool:
    """A process whose parent has ended stays as a zombie until somebody takes it over."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_refused_setting_is_one_line_and_exit_1(chain: Chain) -> None:
    chain.make(StartingPosition="LATEST")
    command = [*COMMAND, "--folder", str(chain.folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"error: event source mapping {chain.uuid}: StartingPosition='LATEST' is not imitated on this"
        " machine; try it on AWS\n"
    )


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--pipeline", "lending", "--folder", "x", "--poll-seconds", "0"])
    assert ended.value.code == 2
    assert "--poll-seconds has to be above 0" in capsys.readouterr().err
