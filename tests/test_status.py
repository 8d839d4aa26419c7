"""The screen of the chain: what is read of it, what is told as wrong, and with which command.

One chain is applied to the emulated AWS for all tests; a Wire edits or refuses AWS's answers where a test
needs what the emulation does not come to by itself, and is emptied after each. Clocks are those of NOW.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from local_run.aws import EmulatedAws, emulated_aws
from local_run.postgres import start_postgres
from provision.aws import Account, Refusal
from provision.chain import declare
from provision.database import Slot
from provision.engine import Resource, execute, observe, plan
from provision.landed import ObjectCount, TableLanded
from provision.settings import Settings
from provision.status import (
    Database,
    EventSourceMapping,
    Figures,
    Function,
    Instance,
    Status,
    Stream,
    TableCounts,
    Task,
    read_status,
)
from provision.status_problems import is_well, problems
from provision.status_text import as_dict, as_text
from provision.surroundings import look_around

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 3, 1, 9, 30, 20, tzinfo=UTC)
PASSWORD = "secret-pw-1"
DMS_SLOT = "n3rgndrqsklllt57_00016401_4f1a504a_1680_4658_b934_28f8aba5cda0"
MB, GB = 10**6, 10**9
SETUP = "python setup_dms.py"

# --------------------------------------------------------------------------------------------------------
# The chain, and the wire to it
# --------------------------------------------------------------------------------------------------------


@dataclass
class Wire:
    """refused: operations that AWS denies; failing: that it fails; edits: of its answers, by operation."""

    calls: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    edits: dict[str, Callable[[Any], None]] = field(default_factory=dict)

    def sent(self, model: Any, **_: Any) -> Any:
        self.calls.append(model.name)
        if model.name in self.refused | self.failing:
            code = "AccessDeniedException" if model.name in self.refused else "ServiceUnavailable"
            return Answered(), {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {}}
        return None

    def answered(self, parsed: Any, model: Any, **_: Any) -> None:
        if "Error" not in parsed and model.name in self.edits:
            self.edits[model.name](parsed)

    def forget(self) -> None:
        self.__dict__.update(Wire().__dict__)


class Answered:
    status_code = 400


class Session(boto3.Session):
    """Of the emulated AWS, whatever the environment says."""

    def __init__(self, url: str, wire: Wire) -> None:
        super().__init__("test", "test", region_name="eu-west-1")
        self.url, self.wire = url, wire

    def client(self, *arguments: Any, **options: Any) -> Any:
        client = super().client(*arguments, **options, endpoint_url=self.url)
        client.meta.events.register("before-call", self.wire.sent)
        client.meta.events.register("after-call", self.wire.answered)
        return client


@dataclass
class Applied:
    aws: EmulatedAws
    wire: Wire
    account: Account
    settings: Settings  # of a database that is not reached
    chain: list[Resource]

    def read(self, now: datetime = NOW, previous: Status | None = None, **changed: Any) -> Status:
        self.wire.calls.clear()
        return read_status(self.account, replace(self.settings, **changed), self.chain, now, previous)

    def put(self, name: str, values: dict[str, float], now: datetime = NOW, **dimensions: str) -> None:
        """A metric a minute before now."""
        namespace, _, _ = name.rpartition(".")
        for metric, value in values.items():
            named = [{"Name": key, "Value": text} for key, text in dimensions.items()]
            one = {"MetricName": metric, "Dimensions": named, "Value": value}
            one["Timestamp"] = now - timedelta(minutes=1)
            self.account.client("cloudwatch").put_metric_data(Namespace=namespace or name, MetricData=[one])

    def put_object(self, bucket: str, key: str) -> None:
        self.account.client("s3").put_object(Bucket=bucket, Key=key, Body=b"rows")


def zipped() -> bytes:
    """The same bytes on any day."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            zipfile.ZipInfo("lambda_function.py"), "def lambda_handler(event, context): return {}"
        )
    return buffer.getvalue()


@pytest.fixture(scope="module")
def applied() -> Iterator[Applied]:
    with emulated_aws() as aws:
        wire = Wire()
        session = Session(aws.url, wire)
        account = Account(session, "lending", poll_seconds=0, sleep=lambda seconds: None)
        subnets = [one["SubnetId"] for one in session.client("ec2").describe_subnets()["Subnets"]]
        settings = Settings.from_mapping(
            {
                "S3_BUCKET": "lending-rows",
                "PIPELINE_NAME": "lending",
                "CREATE_RDS": "true",
                "SUBNET_IDS": ",".join(subnets),
                "PGDATABASE": "lending",
                "PGUSER": "dms",
                "PGPASSWORD": PASSWORD,
                "TABLES": "public.loan,public.client",
                "ALARM_EMAIL": "ops@example.org",
            }
        )
        aws.tables = [("public", "client"), ("public", "loan")]
        unreached = replace(settings, create_rds=False, pghost="127.0.0.1", pgport=1)
        chain = applied_chain(account, settings)
        made = Applied(aws, wire, account, unreached, chain)
        put_metrics(made)
        set_alarms(made, "OK")
        yield made


def applied_chain(account: Account, settings: Settings) -> list[Resource]:
    """Its tables are seen: else the task would not be started on a database that was just made."""
    catalog = (("public", "client", True), ("public", "loan", True))
    for _ in range(4):
        around = replace(look_around(account, settings), catalog=catalog, unseen="")
        chain = declare(settings, around, account, zipped)
        observed = observe(chain)
        steps = plan(chain, observed)
        if not any(step.is_work for step in steps):
            return chain
        execute(chain, steps, observed, lambda *_: None)
    raise AssertionError("the chain is not made by four runs")


def put_metrics(made: Applied) -> None:
    (task,) = made.account.client("dms").describe_replication_tasks()["ReplicationTasks"]
    replication = {"ReplicationInstanceIdentifier": "lending-replication"}
    task_names = {**replication, "ReplicationTaskIdentifier": task["ReplicationTaskArn"].rpartition(":")[2]}
    instance = {"DBInstanceIdentifier": "lending-database"}
    made.put("AWS/RDS", {"OldestReplicationSlotLag": 1.5 * MB, "FreeStorageSpace": 15 * GB}, **instance)
    made.put("AWS/DMS", {"FreeStorageSpace": 48 * GB}, **replication)
    made.put("AWS/DMS", {"CDCLatencySource": 2, "CDCLatencyTarget": 3}, **task_names)
    long_ago = NOW - timedelta(minutes=30)
    made.put("AWS/Kinesis", {"IncomingRecords": 1000}, long_ago, StreamName="lending-stream")
    made.put("AWS/Kinesis", {"IncomingRecords": 200}, StreamName="lending-stream")
    calls = {"Invocations": 4, "Errors": 0, "Throttles": 0, "IteratorAge": 1500}
    made.put("AWS/Lambda", calls, FunctionName="lending-lambda")
    made.put("AWS/Lambda", {"Duration": 180}, FunctionName="lending-lambda")
    made.put("AWS/Lambda", {"Duration": 220}, long_ago, FunctionName="lending-lambda")


def set_alarms(made: Applied, state: str, *parts: str) -> None:
    cloudwatch = made.account.client("cloudwatch")
    names = [f"lending-{part}" for part in parts] or [
        one["AlarmName"] for one in cloudwatch.describe_alarms()["MetricAlarms"]
    ]
    for name in names:
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")


@pytest.fixture
def chain(applied: Applied) -> Iterator[Applied]:
    """The chain, well, with one object of loan, and the clocks of NOW."""
    row = "changes/public/loan/cdc_date=2026-03-01/cdc_hour=09/shardId-000000000000-" + "0" * 56 + ".jsonl.gz"
    applied.put_object("lending-rows", row)
    applied.aws.statistics[("public", "loan")] = {
        "FullLoadRows": 1200,
        "Inserts": 30,
        "Updates": 4,
        "Deletes": 1,
    }
    applied.wire.edits["DescribeReplicationTasks"] = task_edit()
    applied.wire.edits["ListObjectsV2"] = written_at(NOW - timedelta(seconds=40))
    yield applied
    applied.wire.forget()
    applied.aws.suspended.clear()
    applied.aws.statistics.clear()
    client = applied.account.client("s3")
    for bucket in ("lending-rows", "lending-failed-123456789012"):
        for one in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            client.delete_object(Bucket=bucket, Key=one["Key"])
    set_alarms(applied, "OK")


def task_edit(**changed: Any) -> Callable[[Any], None]:
    def edit(answer: Any) -> None:
        for task in answer["ReplicationTasks"]:
            task |= {"ReplicationTaskStartDate": NOW - timedelta(hours=3), **changed}

    return edit


def written_at(moment: datetime) -> Callable[[Any], None]:
    def edit(answer: Any) -> None:
        for one in answer.get("Contents", []):
            one["LastModified"] = moment

    return edit


def resume(chain: Applied) -> None:
    """The task runs again, as other tests expect it; each describe of the emulated AWS brings it further."""
    dms = chain.account.client("dms")
    (task,) = dms.describe_replication_tasks()["ReplicationTasks"]
    how = {"StartReplicationTaskType": "resume-processing"}
    dms.start_replication_task(ReplicationTaskArn=task["ReplicationTaskArn"], **how)
    states = [dms.describe_replication_tasks()["ReplicationTasks"][0]["Status"] for _ in range(5)]
    assert states[-1] == "running"


def abouts(status: Status) -> list[str]:
    return [problem.about for problem in problems(status)]


# --------------------------------------------------------------------------------------------------------
# Read from AWS
# --------------------------------------------------------------------------------------------------------


def test_screen_of_a_chain_that_is_well(chain: Applied) -> None:
    status = chain.read()

    assert as_text(status) == (GOLDEN / "status.txt").read_text()
    assert is_well(status)


def test_screen_of_a_chain_with_a_lost_slot_and_more(chain: Applied) -> None:
    lost = 'Last Error: ERROR: replication slot "kz7_16408" does not exist'
    chain.wire.edits["DescribeReplicationTasks"] = task_edit(
        Status="failed",
        LastFailureMessage=lost,
        StopReason="Stop Reason FATAL_ERROR Error Level FATAL",
    )
    chain.aws.suspended.add(("public", "client"))
    chain.put_object("lending-rows", "quarantine/cdc_date=2026-03-01/shardId-000000000000-1.jsonl.gz")
    chain.put_object("lending-failed-123456789012", "aws/lambda/1")
    set_alarms(chain, "ALARM", "quarantined", "errors", "slot-lag")
    chain.wire.refused = {"ListEventSourceMappings"}

    status = chain.read()

    assert as_text(status) == (GOLDEN / "status-broken.txt").read_text()
    assert not is_well(status)


def test_status_takes_fewer_than_sixty_calls(chain: Applied) -> None:
    chain.read()

    assert len(chain.wire.calls) < 60
    assert chain.wire.calls.count("GetMetricData") == 1


def test_status_only_reads(chain: Applied) -> None:
    chain.read()

    assert [
        call for call in chain.wire.calls if not call.startswith(("Get", "List", "Describe", "Head"))
    ] == []


def test_task_that_fails_is_told_with_the_words_of_aws(chain: Applied) -> None:
    chain.aws.fail_task("lending-task", "Replication slot kz7 does not exist")

    (problem, *_) = problems(chain.read())

    resume(chain)
    assert problem.about == "slot-lost"
    assert "Replication slot kz7 does not exist" in problem.what
    assert problem.next == f"{SETUP} reload --all"


@pytest.mark.parametrize(
    ("operation", "action", "shown"),
    [
        ("DescribeReplicationTasks", "dms:DescribeReplicationTasks", "task not allowed"),
        ("DescribeReplicationInstances", "dms:DescribeReplicationInstances", "instance not allowed"),
        ("DescribeTableStatistics", "dms:DescribeTableStatistics", "tables of DMS not allowed"),
        ("DescribeStreamSummary", "kinesis:DescribeStreamSummary", "STREAM    not allowed"),
        ("GetFunctionConfiguration", "lambda:GetFunctionConfiguration", "FUNCTION  not allowed"),
        ("ListEventSourceMappings", "lambda:ListEventSourceMappings", "mapping not allowed"),
        ("DescribeAlarms", "cloudwatch:DescribeAlarms", "ALARMS    not allowed"),
        ("GetMetricData", "cloudwatch:GetMetricData", "metrics not allowed"),
        ("ListObjectsV2", "s3:ListBucket", "quarantined in 7 days: not allowed"),
        ("ListTagsForResource", "dms:ListTagsForResource", "UNSEEN"),
    ],
    ids=lambda value: value if ":" in value else "",
)
def test_part_that_may_not_be_read_names_its_action(
    chain: Applied, operation: str, action: str, shown: str
) -> None:
    chain.wire.refused = {operation}

    status = chain.read()

    text = as_text(status)
    assert f"not allowed: {action}" in text
    assert shown in text
    assert "lending-stream" in text or operation == "DescribeStreamSummary"  # the rest still shows
    assert not is_well(status)
    assert "missing" not in abouts(status)  # what can't be seen is not said to be missing


def test_database_of_rds_may_be_denied(chain: Applied) -> None:
    chain.wire.refused = {"DescribeDBInstances"}

    text = as_text(chain.read(create_rds=True))

    assert "DATABASE  not allowed: rds:DescribeDBInstances" in text
    assert "CloudWatch: oldest slot retains 1.5 MB of log, free storage 15.0 GB" in text


def test_other_errors_of_aws_propagate(chain: Applied) -> None:
    chain.wire.failing = {"DescribeTableStatistics"}

    with pytest.raises(Refusal, match="dms:DescribeTableStatistics"):
        chain.read()


def of_another(applied: Applied, pipeline: str) -> Applied:
    """Declared, and not applied."""
    account = Account(applied.account.session, pipeline, 0, lambda seconds: None)
    settings = replace(
        applied.settings, pipeline_name=pipeline, s3_bucket=f"{pipeline}-rows", pghost="db.example.org"
    )
    declared = declare(settings, look_around(account, settings, for_destroy=True), account, zipped)
    unreached = replace(settings, pghost="127.0.0.1")
    return replace(applied, account=account, settings=unreached, chain=declared)


def test_nothing_of_the_pipeline_is_one_line(applied: Applied) -> None:
    status = of_another(applied, "other").read()

    assert as_text(status) == f"nothing of pipeline 'other' in eu-west-1: {SETUP} apply\n"
    assert not is_well(status)
    assert as_dict(status)["exists"] is False


def test_bucket_that_destroy_kept_is_nothing_of_the_pipeline(applied: Applied) -> None:
    kept = of_another(applied, "kept")
    where = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
    kept.account.client("s3").create_bucket(Bucket="kept-rows", **where)

    assert not kept.read().exists


def test_chain_that_is_half_made_says_what_is_not_there(applied: Applied) -> None:
    half = of_another(applied, "half")
    observed = observe(half.chain)
    execute(half.chain, plan(half.chain, observed)[:3], observed, lambda *_: None)

    status = half.read()

    (problem,) = problems(status)
    assert (problem.about, problem.next) == ("missing", f"{SETUP} plan")
    assert problem.what.startswith("not there: function, alias, mapping, replication instance, ")
    assert status.stream == Stream("half-stream", "ACTIVE", "PROVISIONED", 1)
    text = as_text(status)
    for line in (
        "DMS       instance not there",
        "task not there",
        "FUNCTION  not there",
        "mapping not there",
    ):
        assert line in text


def test_object_that_is_gone_or_changed_leads_to_plan(chain: Applied) -> None:
    stream = next(one for one in chain.chain if one.name == "stream")
    alarm = next(one for one in chain.chain if one.name == "alarm errors")
    other = {
        "stream": replace(stream, spec={**stream.spec, "RetentionPeriodHours": 24}),
        "alarm errors": replace(alarm, spec={**alarm.spec, "AlarmName": "lending-gone"}),
    }
    declared = replace(chain, chain=[other.get(one.name, one) for one in chain.chain])

    status = declared.read()

    assert status.missing == ("alarm errors",)
    assert status.differing == ("stream (RetentionPeriodHours)",)
    assert [(one.about, one.next) for one in problems(status)] == [
        ("missing", f"{SETUP} plan"),
        ("differing", f"{SETUP} plan"),
    ]


def test_mail_that_is_not_confirmed_is_told(chain: Applied) -> None:
    def unconfirm(answer: Any) -> None:
        for one in answer["Subscriptions"]:
            one["SubscriptionArn"] = "PendingConfirmation"

    chain.wire.edits["ListSubscriptionsByTopic"] = unconfirm

    (problem,) = problems(chain.read())

    assert problem.about == "email-unconfirmed"
    assert "ops@example.org" in problem.what


def test_mapping_that_is_disabled_is_told_once(chain: Applied) -> None:
    def disable(answer: Any) -> None:
        for one in answer["EventSourceMappings"]:
            one["State"] = "Disabled"

    chain.wire.edits["ListEventSourceMappings"] = disable

    (problem,) = problems(chain.read())

    assert (problem.about, problem.next) == ("mapping-disabled", f"{SETUP} apply")


def test_silence_of_ten_minutes_is_told_though_there_were_records_before(chain: Applied) -> None:
    later = NOW + timedelta(minutes=20)

    status = chain.read(later)

    assert status.figures == replace(
        Figures(
            1.5 * MB,
            15 * GB,
            48 * GB,
            2,
            3,
            1200,
            0,
            1500,
            4,
            0,
            0,
        ),
        duration_average_ms=100,
        duration_longest_ms=220,
    )
    assert abouts(status) == ["no-records"]


def test_alarm_is_told_with_its_meaning(chain: Applied) -> None:
    set_alarms(chain, "ALARM", "throttles")

    (problem,) = problems(chain.read())

    assert (problem.about, problem.what) == ("throttles", "alarm lending-throttles is in ALARM")
    assert "raise the concurrency quota" in problem.meaning
    assert problem.next == "aws cloudwatch describe-alarm-history --alarm-name lending-throttles"


def test_alarm_of_a_function_that_is_not_called_is_told(chain: Applied) -> None:
    set_alarms(chain, "ALARM", "no-invocations")

    (problem,) = problems(chain.read())

    assert (problem.about, problem.what) == (
        "no-invocations",
        "alarm lending-no-invocations is in ALARM",
    )
    assert problem.meaning == "the function is not called: is its event source mapping well?"
    assert problem.next == "aws cloudwatch describe-alarm-history --alarm-name lending-no-invocations"


def test_json_has_every_part(chain: Applied) -> None:
    chain.wire.refused = {"GetMetricData"}
    chain.aws.suspended.add(("public", "client"))

    found = json.loads(json.dumps(as_dict(chain.read())))

    assert found["is_well"] is False and found["exists"] is True
    assert (found["pipeline"], found["region"]) == ("lending", "eu-west-1")
    assert found["read_at"] == "2026-03-01T09:30:20+00:00"
    assert found["figures"] == {"not_allowed": "cloudwatch:GetMetricData"}
    assert found["task"]["status"] == "running"
    assert found["task"]["started_at"] == "2026-03-01T06:30:20+00:00"
    assert [one["table"] for one in found["tables"]] == ["client", "loan"]
    assert found["landed"][0]["day"] == "2026-03-01"
    assert found["problems"][0] == {
        "about": "tables-broken",
        "what": "1 table suspended or in error: public.client",
        "meaning": "their changes do not reach the stream; the other tables go on",
        "next": f"{SETUP} reload public.client",
    }
    assert found["mapping"]["state"] == "Enabled"


def test_no_secret_is_shown(chain: Applied) -> None:
    status = chain.read()

    assert PASSWORD not in as_text(status) + json.dumps(as_dict(status)) + repr(status)


def test_database_that_is_not_made_yet_is_told(applied: Applied) -> None:
    half = of_another(applied, "begun")
    observed = observe(half.chain)
    execute(half.chain, plan(half.chain, observed)[:3], observed, lambda *_: None)

    found = half.read(create_rds=True).database

    assert found == Database("lending", NOW, "database begun-database is not there, or has no address yet")


def test_database_that_was_not_reached_is_asked_once_a_minute(chain: Applied) -> None:
    first = chain.read()
    with start_postgres(password=PASSWORD) as server:
        reached = {"pghost": "127.0.0.1", "pgport": server.port, "pgdatabase": "postgres"}
        reached |= {"pguser": "postgres", "pgsslmode": "disable"}

        soon = chain.read(NOW + timedelta(seconds=59), first, **reached)
        late = chain.read(NOW + timedelta(seconds=60), soon, **reached)
        again = chain.read(NOW + timedelta(seconds=61), late, **reached)

    assert isinstance(first.database, Database) and first.database.unreachable
    assert soon.database == first.database
    assert late.database == Database(f"postgres on 127.0.0.1:{server.port}", NOW + timedelta(seconds=60))
    assert again.database == replace(late.database, asked_at=NOW + timedelta(seconds=61))


def execute_sql(dsn: str, *lines: str) -> None:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for line in lines:
            cursor.execute(line)
    connection.close()


def new_slot(name: str, plugin: str = "test_decoding") -> str:
    return f"SELECT pg_create_logical_replication_slot('{name}', '{plugin}')"


def test_slot_of_a_real_database_is_seen(chain: Applied) -> None:
    """Those of other tools, and of another database whatever their names, are not looked at."""
    with start_postgres(password=PASSWORD) as server:
        theirs = [new_slot("kz7"), new_slot("theirs", "pgoutput"), new_slot(f"{DMS_SLOT[:-1]}_")]
        theirs.append("SELECT pg_create_physical_replication_slot('standby', true)")
        execute_sql(server.dsn, new_slot(DMS_SLOT), *theirs, "CREATE DATABASE other")
        execute_sql(
            make_dsn(server.dsn, dbname="other"),
            new_slot(DMS_SLOT.replace("n3rg", "q8xk")),
        )
        reached = {"pghost": "127.0.0.1", "pgport": server.port, "pgdatabase": "postgres"}

        status = chain.read(**reached, pguser="postgres", pgsslmode="disable")

    assert isinstance(status.database, Database)
    assert [slot.name for slot in status.database.slots] == [DMS_SLOT]
    text = " ".join(as_text(status).split())
    assert f"slot {DMS_SLOT} (test_decoding): inactive, retains" in text
    assert "of log (reserved, no limit)" in text
    assert not any(name in text for name in ("kz7", "theirs", "standby", "q8xk"))
    assert [(one.about, one.next) for one in problems(status)] == [
        ("slot-inactive", f"{SETUP} stop, then {SETUP} resume")
    ]


# --------------------------------------------------------------------------------------------------------
# What is wrong
# --------------------------------------------------------------------------------------------------------

ARN = "arn:aws:dms:eu-west-1:123456789012:rep:ABC"
RUNNING = Task("running", "no reason given", "", NOW - timedelta(hours=3), 100, 1, 0, 0, 0)
FAILED = replace(RUNNING, status="failed", reason="the target is gone", stop_reason="FATAL_ERROR")
STOPPED = replace(RUNNING, status="stopped", reason="STOPPED_BY_USER", stop_reason="STOPPED_BY_USER")
SLOT = Slot(DMS_SLOT, "test_decoding", "lending", True, 7, 12 * MB, "reserved", None)
UNREAD = replace(SLOT, is_active=False, active_pid=None)
OLD_SLOT = DMS_SLOT.replace("n3rg", "q8xk")
LOAN = TableCounts("public", "loan", "Table completed", 1, 2, 3, 4)
WELL = Status(
    "lending",
    "eu-west-1",
    NOW,
    "lending-rows",
    "lending-failed-123456789012",
    "raw/",
    "lending-database",
    True,
    database=Database("lending on db.example.org:5432", NOW, "", (SLOT,)),
    instance=Instance("available", ARN, "dms.t3.medium", "3.6.1"),
    task=RUNNING,
    tables=(LOAN,),
    stream=Stream("lending-stream", "ACTIVE", "PROVISIONED", 1),
    function=Function("lending-lambda", "1", "abc"),
    mapping=EventSourceMapping("Enabled", "OK"),
    figures=Figures(database_free_bytes=15 * GB, replication_free_bytes=48 * GB, records_10_minutes=10),
)


def seen(*slots: Slot) -> Database:
    return replace(WELL.database, slots=slots)


def table(name: str, state: str) -> TableCounts:
    return replace(LOAN, table=name, state=state)


RESUME, RELOAD_ALL = f"{SETUP} resume", f"{SETUP} reload --all"
UNSEEN = Database("lending", NOW, "no way")
FAULTS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "a failed task": (
        {"task": FAILED, "database": seen(UNREAD)},
        "task-failed",
        "no change leaves the database; the slot retains 12.0 MB and grows",
        RESUME,
    ),
    "a failed task, its slot by CloudWatch": (
        {"task": FAILED, "database": UNSEEN, "figures": replace(WELL.figures, slot_lag_bytes=2.5 * GB)},
        "task-failed",
        "no change leaves the database; the slot retains 2.5 GB (CloudWatch) and grows",
        RESUME,
    ),
    "a failed task, its slot in its words": (
        {
            "task": replace(FAILED, reason=f'can no longer get changes from replication slot "{DMS_SLOT}"'),
            "database": UNSEEN,
        },
        "slot-lost",
        "changes since the last checkpoint can't be read any more: only a new load makes rows whole",
        RELOAD_ALL,
    ),
    "a failed task without a slot": (
        {"task": FAILED, "database": seen()},
        "task-failed",
        "no change leaves the database, and no slot keeps them: all has to be loaded anew",
        RELOAD_ALL,
    ),
    "a stopped task": (
        {"task": STOPPED, "database": UNSEEN},
        "task-stopped",
        "no change leaves the database; the slot retains all since then, and grows",
        RESUME,
    ),
    "a task that was never started": (
        {"task": replace(RUNNING, status="ready", started_at=None), "database": seen()},
        "task-not-started",
        "no row is loaded, and no slot keeps the changes",
        f"{SETUP} apply",
    ),
    "a lost slot": (
        {"task": STOPPED, "database": seen(replace(UNREAD, wal_status="lost"))},
        "slot-lost",
        "changes since the last checkpoint can't be read any more: only a new load makes rows whole",
        RELOAD_ALL,
    ),
    "several slots, all of them lost": (
        {
            "task": STOPPED,
            "database": seen(
                replace(UNREAD, wal_status="lost"), replace(UNREAD, name=OLD_SLOT, wal_status="lost")
            ),
        },
        "slot-lost",
        "changes since the last checkpoint can't be read any more: only a new load makes rows whole",
        RELOAD_ALL,
    ),
    "a lost slot beside an intact one": (
        {"task": STOPPED, "database": seen(replace(UNREAD, name=OLD_SLOT, wal_status="lost"), UNREAD)},
        "task-stopped",
        "no change leaves the database; the slot retains 12.0 MB and grows",
        RESUME,
    ),
    "a lost slot beside an intact one, by the words of the task": (
        {
            "task": replace(FAILED, reason=f'replication slot "{DMS_SLOT}" does not exist'),
            "database": seen(replace(UNREAD, name=OLD_SLOT, wal_status="lost"), UNREAD),
        },
        "slot-lost",
        "changes since the last checkpoint can't be read any more: only a new load makes rows whole",
        RELOAD_ALL,
    ),
    "a slot about to be lost": (
        {"database": seen(replace(SLOT, wal_status="unreserved"))},
        "slot-unreserved",
        "unless it is read before the next checkpoint, changes are lost: all is to be loaded anew",
        f"{SETUP} status --watch",
    ),
    "a slot that nobody reads": (
        {"database": seen(UNREAD)},
        "slot-inactive",
        "no change leaves the database; the log kept for it grows, 12.0 MB so far",
        f"{SETUP} stop, then {SETUP} resume",
    ),
    "a slot that was left over": (
        {"database": seen(SLOT, replace(UNREAD, name=OLD_SLOT))},
        "slot-left-over",
        "no row is missing; the log kept for it grows, 12.0 MB so far",
        "if no task needs it: SELECT pg_drop_replication_slot('q8xkndrqsklllt57_00016401"
        "_4f1a504a_1680_4658_b934_28f8aba5cda0');",
    ),
    "a database without storage": (
        {"figures": replace(WELL.figures, database_free_bytes=2 * GB - 1)},
        "database-storage",
        "at none the database stops writing; a slot that is not read is what grows",
        "aws rds modify-db-instance --db-instance-identifier lending-database --allocated-storage <GB> "
        "--apply-immediately",
    ),
    "a replication instance without storage": (
        {"figures": replace(WELL.figures, replication_free_bytes=1 * GB)},
        "replication-storage",
        "at none DMS stops; its logs, and changes that wait for the target, are what grows",
        f"aws dms describe-replication-instance-task-logs --replication-instance-arn {ARN}",
    ),
    "a replication instance that is full": (
        {"instance": replace(WELL.instance, status="storage-full")},
        "instance-broken",
        "no change leaves the database, whose slot grows",
        "aws dms describe-events --source-type replication-instance "
        "--source-identifier lending-replication --duration 1440",
    ),
    "tables in error": (
        {"tables": (table("loan", "Table error"), table("a b", "Table cancelled"), LOAN)},
        "tables-broken",
        "their changes do not reach the stream; the other tables go on",
        f"{SETUP} reload public.loan 'public.a b'",
    ),
    "a table that is gone": (
        {"tables": (table("loan", "Table does not exist"),)},
        "tables-gone",
        "what has landed of them stays; nothing is added",
        f"{SETUP} plan",
    ),
    "a disabled mapping": (
        {"mapping": EventSourceMapping("Disabled", "")},
        "mapping-disabled",
        "records wait on the stream, at most for its retention of seven days, and do not land",
        f"{SETUP} apply",
    ),
    "a mapping with a problem": (
        {"mapping": EventSourceMapping("Enabled", "PROBLEM: Function call failed")},
        "mapping-problem",
        "records wait on the stream and do not land; Lambda tries again until they are six days old",
        "aws logs filter-log-events --log-group-name /aws/lambda/lending-lambda",
    ),
    "a batch that was given up": (
        {"given_up": ObjectCount(1, 10, NOW)},
        "given-up",
        "their rows are in none of the tables, only in these objects",
        "python lake.py failed list --kind batch",
    ),
    "quarantined records": (
        {"quarantined": ObjectCount(5000, 10, NOW, True)},
        "quarantined",
        "these records are in none of the tables, only in quarantine/, with the reason",
        "python lake.py failed list --kind poison",
    ),
    "no record": (
        {"figures": replace(WELL.figures, records_10_minutes=None)},
        "no-records",
        "even without changes DMS writes one a minute: the chain stands still",
        "aws logs filter-log-events --log-group-name dms-tasks-lending-replication",
    ),
    "a function that is behind": (
        {"figures": replace(WELL.figures, iterator_age_ms=400_000)},
        "iterator-age",
        "rows land late; none is lost before seven days",
        f"set STREAM_SHARDS higher, then {SETUP} apply",
    ),
    "an alarm": (
        {"alarms": {"lending-delivery-failures": "ALARM", "lending-errors": "OK"}},
        "delivery-failures",
        "a given-up batch could not even be stored: rows are lost",
        "aws cloudwatch describe-alarm-history --alarm-name lending-delivery-failures",
    ),
    "a function that is not called": (
        {"alarms": {"lending-no-invocations": "ALARM", "lending-no-records": "OK"}},
        "no-invocations",
        "the function is not called: is its event source mapping well?",
        "aws cloudwatch describe-alarm-history --alarm-name lending-no-invocations",
    ),
    "an object that is missing": (
        {"missing": ("mapping",)},
        "missing",
        "the chain is not whole: apply goes on where it ended",
        f"{SETUP} plan",
    ),
    "an object that differs": (
        {"differing": ("stream (ShardCount)",)},
        "differing",
        "somebody changed it, or the settings",
        f"{SETUP} plan",
    ),
}


@pytest.mark.parametrize(("changed", "about", "meaning", "command"), FAULTS.values(), ids=FAULTS.keys())
def test_problem_has_a_meaning_and_a_command(
    changed: dict[str, Any], about: str, meaning: str, command: str
) -> None:
    (problem,) = problems(replace(WELL, **changed))

    assert (problem.about, problem.meaning, problem.next) == (about, meaning, command)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"database": UNSEEN},
        {"task": replace(RUNNING, status="starting")},
        {"task": replace(RUNNING, reason="an old failure")},  # AWS keeps it when the task runs again
        {"task": replace(RUNNING, started_at=NOW), "figures": Figures()},
        {"database": seen(replace(SLOT, wal_status="extended"))},
        {"mapping": EventSourceMapping("Enabled", "No records processed")},
        {"figures": replace(WELL.figures, database_free_bytes=2 * GB, replication_free_bytes=5 * GB)},
    ],
)
def test_no_problem_is_told_of(changed: dict[str, Any]) -> None:
    status = replace(WELL, **changed)

    assert problems(status) == []
    assert is_well(status)


def test_part_that_may_not_be_read_is_not_well() -> None:
    assert not is_well(replace(WELL, not_allowed={"figures": "cloudwatch:GetMetricData"}))
    assert not is_well(replace(WELL, unseen={"task": "dms:ListTagsForResource"}))


def test_alarm_of_what_was_told_already_is_not_told_again() -> None:
    alarms = dict.fromkeys(("lending-given-up", "lending-errors", "lending-quarantined"), "ALARM")
    status = replace(
        WELL, alarms=alarms, given_up=ObjectCount(2, 20, NOW), quarantined=ObjectCount(1, 1, NOW)
    )

    assert [problem.about for problem in problems(status)] == ["given-up", "quarantined", "errors"]


@pytest.mark.parametrize(
    ("changed", "command"),
    [
        ({"task": STOPPED}, f"{SETUP} resume, then {SETUP} reload public.loan"),
        ({"task": FAILED, "database": seen(replace(UNREAD, wal_status="lost"))}, RELOAD_ALL),
    ],
    ids=["stopped", "lost"],
)
def test_table_is_reloaded_by_a_task_that_runs(changed: dict[str, Any], command: str) -> None:
    status = replace(WELL, tables=(table("loan", "Table error"),), **changed)

    assert {one.about: one.next for one in problems(status)}["tables-broken"] == command


@pytest.mark.parametrize(
    "reason",
    [
        f'replication slot "{DMS_SLOT}" does not exist',
        f'can no longer get changes from replication slot "{DMS_SLOT}". This slot has been invalidated',
        "requested WAL segment 000000010000000000000003 has already been removed",
        f'cannot read from logical replication slot "{DMS_SLOT}", which was invalidated',
    ],
)
def test_lost_slot_is_known_by_what_aws_says_of_it(reason: str) -> None:
    status = replace(WELL, task=replace(FAILED, reason=reason), database=UNSEEN)

    assert [problem.about for problem in problems(status)] == ["slot-lost"]


@pytest.mark.parametrize(
    "reason",
    [
        f'replication slot "{DMS_SLOT}" is active for PID 7',
        f'reading slot "{DMS_SLOT}": the connection was lost',
        "relation public.loan does not exist",
    ],
)
def test_lost_slot_is_not_read_into_other_failures(reason: str) -> None:
    status = replace(WELL, task=replace(FAILED, reason=reason), database=UNSEEN)

    assert [problem.about for problem in problems(status)] == ["task-failed"]


# --------------------------------------------------------------------------------------------------------
# The screen
# --------------------------------------------------------------------------------------------------------


def many_tables() -> Status:
    names = [f"{'a_rather_long_name_' * 3}{number:02d}" for number in range(40)]
    tables = tuple(
        TableCounts("sales", name, "Table completed", 1_234_567_890, 999_999_999, 88_888_888, 7_777_777)
        for name in names
    )
    landed = tuple(
        TableLanded("sales", name, date(2026, 3, 1), ObjectCount(5000, 1, NOW - timedelta(seconds=20), True))
        for name in names
    )
    return replace(WELL, tables=(table("über", "Table error"), *tables), landed=landed)


def test_screen_shows_fifteen_tables_and_the_number_of_others() -> None:
    lines = as_text(many_tables()).splitlines()

    assert lines[-1] == "and 26 more: see --json"
    assert len([line for line in lines if line.startswith("sales.")]) == 14
    assert lines[-16].startswith(r"public.\xfcber")  # the broken one first
    assert lines[-15] == (
        "sales.a_rather_l..  completed  1,234 M    999 M     88 M  7,777,777    20 s ago  2026-03-01   5,000+"
    )


@pytest.mark.parametrize("width", [60, 80, 100])
def test_screen_keeps_to_its_width_and_to_ascii(width: int) -> None:
    reason = "a\nreason of several lines, für alle\x1b[31m " * 5 + "m" * 150
    failed = replace(FAILED, reason=reason, stop_reason="ö" * 90)
    status = replace(many_tables(), task=failed, missing=("stream",))

    text = as_text(status, width)

    assert text.isascii() and "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-3, "0 s"), (12, "12 s"), (119, "119 s"), (180, "3 min"), (7200, "2 h")]
)
def test_last_object_is_shown_by_its_age(seconds: int, shown: str) -> None:
    newest = NOW - timedelta(seconds=seconds)
    landed = TableLanded("public", "loan", date(2026, 3, 1), ObjectCount(3, 1, newest))

    text = as_text(replace(WELL, landed=(landed,)))

    assert f"lending-rows/raw/: 1 table, 3 objects of today, the last {shown} ago" in text
    assert f"{shown} ago  2026-03-01        3" in text
