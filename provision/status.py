"""The chain as it is now: what is read of it, from the database to the bucket. Reads only.

    status = read_status(account, settings, chain, now)
    status_problems.problems(status)        what is wrong with it, and which command helps
    status_text.as_text(status)             one screen; as_dict is the same for machines

Looked at are the objects that records pass through, their alarms and their metrics. Roles, network, logs,
the settings of buckets and the dashboard are not: `plan` compares those. CloudWatch is a minute or more late.
Calls of AWS: about 50, one more for each schema in the bucket, and four or more for each table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from provision.alarms import LIMITS
from provision.aws import DENIED, Account, Refusal
from provision.database import DatabaseError, Slot, is_dms_slot, slots_of
from provision.declaration import TASK_RUN
from provision.engine import UNKNOWN, Action, Live, Observed, Resource, Spec, plan_step, refs_in, resolve
from provision.kinds import dms, kinesis, lambda_
from provision.kinds.documents import as_declared
from provision.landed import ObjectCount, TableLanded, given_up, tables_landed
from provision.settings import Settings
from provision.status_set_aside import quarantined
from provision.surroundings import connect_parameters

PATH = {
    *("bucket", "failed bucket", "stream", "database", "function", "alias", "mapping"),
    *("replication instance", "source endpoint", "source connection", "target endpoint"),
    *("target connection", "task", "alarm topic", TASK_RUN, "table loads"),
}
# What is there though there is no chain: TableLoads is never absent, and destroy keeps buckets.
NO_SIGN = {"bucket", "failed bucket", "table loads"}
# Differences that have a problem of their own.
TOLD = {(TASK_RUN, "Status"), ("mapping", "Enabled")}
KEYS_NAMED = 5  # of an object that is not as declared
NO_OBJECTS = ObjectCount()
BROKEN_TABLE = re.compile("error|suspend|cancel|not exist", re.I)
HOUR, SILENCE, ASK_AGAIN = timedelta(hours=1), timedelta(minutes=10), timedelta(minutes=1)

# --------------------------------------------------------------------------------------------------------
# Value types
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Database:
    """slots: the logical ones that look like DMS's; empty where the database can't be reached."""

    where: str
    asked_at: datetime
    unreachable: str = ""  # why
    slots: tuple[Slot, ...] = ()


@dataclass(frozen=True)
class Instance:
    status: str
    arn: str
    size: str  # dms.t3.medium
    engine_version: str


@dataclass(frozen=True)
class Task:
    """reason: AWS's own words of a failure or stop, which stay when the task runs again."""

    status: str
    reason: str
    stop_reason: str
    started_at: datetime | None
    full_load_percent: int | None
    tables_loaded: int
    tables_loading: int
    tables_queued: int
    tables_errored: int

    @property
    def is_running(self) -> bool:
        return self.status == "running"

    @property
    def has_failed(self) -> bool:
        return self.status in ("failed", "failed-move")


@dataclass(frozen=True)
class TableCounts:
    """What DMS has done of a table since the task's last start from anew."""

    schema: str
    table: str
    state: str
    loaded: int
    inserts: int
    updates: int
    deletes: int

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def is_broken(self) -> bool:
        return bool(BROKEN_TABLE.search(self.state))


@dataclass(frozen=True)
class Stream:
    name: str
    status: str
    mode: str
    shards: int


@dataclass(frozen=True)
class Function:
    """What the alias points to; code_sha256 in base64, as AWS gives it."""

    name: str
    version: str
    code_sha256: str


@dataclass(frozen=True)
class EventSourceMapping:
    state: str
    last_result: str


@dataclass(frozen=True)
class Figures:
    """Of CloudWatch, the last hour's; None: it has no value."""

    slot_lag_bytes: float | None = None
    database_free_bytes: float | None = None
    replication_free_bytes: float | None = None
    source_latency_seconds: float | None = None
    target_latency_seconds: float | None = None
    records: float | None = None
    records_10_minutes: float | None = None
    iterator_age_ms: float | None = None
    invocations: float | None = None
    errors: float | None = None
    throttles: float | None = None
    duration_average_ms: float | None = None
    duration_longest_ms: float | None = None


@dataclass(frozen=True)
class Status:
    """A part that is None is not there, unless not_allowed has it: the action that the caller lacks."""

    pipeline: str
    region: str
    read_at: datetime
    bucket: str
    failed_bucket: str
    prefix: str = ""
    database_instance: str = ""  # of RDS; empty: the database is elsewhere
    exists: bool = False  # there is something of the pipeline, buckets aside
    database: Database | None = None
    instance: Instance | None = None
    task: Task | None = None
    tables: tuple[TableCounts, ...] = ()
    stream: Stream | None = None
    function: Function | None = None
    mapping: EventSourceMapping | None = None
    landed: tuple[TableLanded, ...] = ()
    quarantined: ObjectCount = NO_OBJECTS
    given_up: ObjectCount = NO_OBJECTS
    alarms: Mapping[str, str] = field(default_factory=dict)  # {"lending-errors": "ALARM"}
    figures: Figures = Figures()
    not_allowed: Mapping[str, str] = field(default_factory=dict)  # {"figures": "cloudwatch:GetMetricData"}
    # Of the objects on the path:
    missing: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()  # "stream (RetentionPeriodHours)"
    unseen: Mapping[str, str] = field(default_factory=dict)  # {"task": "dms:ListTagsForResource"}
    unconfirmed_email: str = ""
    iterator_age_limit_ms: float = LIMITS["iterator-age"][3]


# --------------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------------

Specs = Mapping[str, Any]  # by name, Refs resolved; of what is looked at


def read_status(
    account: Account,
    settings: Settings,
    chain: Sequence[Resource],
    now: datetime,
    previous: Status | None = None,
) -> Status:
    """The status at now, which is aware. Raises AwsError for anything but a missing permission.

    previous: the last one, for who reads again and again: a database that can't be reached may take 10 s to
    say so, and is asked once a minute.
    """
    observed, unseen = look_along(account, chain)
    looked_at = [one for one in chain if one.name in PATH or is_alarm(one)]
    specs = {one.name: resolve(one.spec, observed) for one in looked_at}
    failed_bucket, slot_lag = specs["failed bucket"]["Bucket"], specs.get("alarm slot-lag")
    status = Status(
        account.pipeline, account.region, now, settings.s3_bucket, failed_bucket, settings.s3_prefix
    )
    if not unseen and not any(live for name, live in observed.items() if name not in NO_SIGN):
        return status
    seen = [one for one in looked_at if one.name not in unseen]
    return replace(
        status,
        **read_parts(account, settings, specs, now, previous),
        database_instance=slot_lag["Dimensions"][0]["Value"] if slot_lag else "",
        exists=True,
        missing=tuple(one.name for one in seen if observed[one.name] is None),
        differing=tuple(differing(seen, observed)),
        unseen=unseen,
        unconfirmed_email=unconfirmed_email(specs, observed),
        iterator_age_limit_ms=specs["alarm iterator-age"]["Threshold"],
    )


def read_parts(
    account: Account, settings: Settings, specs: Specs, now: datetime, previous: Status | None
) -> dict[str, Any]:
    """The parts that may be read, and of the others not_allowed."""
    bucket, prefix, failed = settings.s3_bucket, settings.s3_prefix, specs["failed bucket"]["Bucket"]
    readers: dict[str, Callable[[], Any]] = {
        "database": lambda: read_database(account, settings, now, previous),
        "instance": lambda: read_instance(account, specs),
        "task": lambda: read_task(account, specs),
        "tables": lambda: read_tables(account, specs),
        "stream": lambda: read_stream(account, specs),
        "function": lambda: read_function(account, specs),
        "mapping": lambda: read_mapping(account, specs),
        "landed": lambda: tuple(tables_landed(account, bucket, prefix, now)),
        "quarantined": lambda: quarantined(account, bucket, prefix, now),
        "given_up": lambda: given_up(account, failed),
        "alarms": lambda: read_alarms(account, specs),
        "figures": lambda: read_figures(account, specs, now),
    }
    parts: dict[str, Any] = {}
    not_allowed: dict[str, str] = {}
    for name, read in readers.items():
        try:
            parts[name] = read()
        except Refusal as error:
            not_allowed[name] = denied_action(error)
    return {**parts, "not_allowed": not_allowed}


def denied_action(error: Refusal) -> str:
    """ "dms:DescribeReplicationTasks"; any other refusal is raised."""
    if error.code not in DENIED:
        raise error
    return str(error).partition(" on ")[0]


# --------------------------------------------------------------------------------------------------------
# The objects on the path, and where they are not as declared
# --------------------------------------------------------------------------------------------------------


def is_alarm(resource: Resource) -> bool:
    return "AlarmName" in resource.spec


def look_along(account: Account, chain: Sequence[Resource]) -> tuple[Observed, dict[str, str]]:
    """What there is on the path, and of its alarms; and by name the actions that are lacking for the others.

    A Ref to anything else stays UNKNOWN.
    """
    observed: Observed = {one.name: None for one in chain}
    unseen: dict[str, str] = {}
    for one in chain:
        if one.name not in PATH:
            continue
        if denied := [unseen[ref.resource] for ref in refs_in(one.spec) if ref.resource in unseen]:
            unseen[one.name] = denied[0]  # it would be looked for by what is not known
            continue
        try:
            observed[one.name] = live_object(account, one, resolve(one.spec, observed))
        except Refusal as error:
            unseen[one.name] = denied_action(error)
    alarms = {one.name: resolve(one.spec, observed) for one in chain if is_alarm(one)}
    try:
        observed |= live_alarms(account, alarms)
    except Refusal as error:
        unseen |= dict.fromkeys(alarms, denied_action(error))
    return observed, unseen


def live_object(account: Account, resource: Resource, spec: Spec) -> Live | None:
    """Of a bucket only whether it is there, in one call: its settings are eight, and plan compares them."""
    if resource.name not in ("bucket", "failed bucket"):
        return resource.kind.find(spec)
    name = spec["Bucket"]
    found = account.find("s3", "head_bucket", f"bucket {name}", {"404", "NoSuchBucket"}, Bucket=name)
    return None if found is None else Live(spec, {})


def live_alarms(account: Account, specs: Specs) -> Observed:
    """All of them by one call where their own kind takes two each; their tags are not read."""
    found = describe_alarms(account, specs)
    return {
        name: Live({key: as_declared(spec[key], found[spec["AlarmName"]].get(key)) for key in spec}, {})
        for name, spec in specs.items()
        if spec["AlarmName"] in found
    }


def describe_alarms(account: Account, specs: Specs) -> dict[str, Any]:
    """By name; one answer holds 50, and a chain has fewer."""
    names = [spec["AlarmName"] for spec in specs.values() if "AlarmName" in spec]
    asked = {"AlarmNames": names, "AlarmTypes": ["MetricAlarm"]}
    found = account.call("cloudwatch", "describe_alarms", "the alarms", **asked)["MetricAlarms"]
    return {alarm["AlarmName"]: alarm for alarm in found}


def differing(seen: Sequence[Resource], observed: Observed) -> Iterator[str]:
    """As far as it can be known from here: a value that hangs on a role or the network is not compared."""
    for one in seen:
        step = plan_step(one, observed)
        known = [change for change in step.changes if repr(UNKNOWN) not in repr(change.new)]
        keys = dict.fromkeys(change.path.partition(".")[0] for change in known)
        told_here = [key for key in keys if (one.name, key) not in TOLD][:KEYS_NAMED]
        if step.action is Action.FOREIGN:
            yield f"{one.name} (it has not our tag)"
        elif told_here:
            yield f"{one.name} ({', '.join(told_here)})"


def unconfirmed_email(specs: Specs, observed: Observed) -> str:
    live = observed.get("alarm topic")
    if live is None or live.attributes["is_confirmed"]:
        return ""
    return str(specs["alarm topic"].get("Endpoint", ""))


# --------------------------------------------------------------------------------------------------------
# The parts
# --------------------------------------------------------------------------------------------------------


def read_database(account: Account, settings: Settings, now: datetime, previous: Status | None) -> Database:
    last = previous.database if previous else None
    if last and last.unreachable and now - last.asked_at < ASK_AGAIN:
        return last
    where = settings.pgdatabase
    try:
        parameters = connect_parameters(account, settings)
        where = f"{settings.pgdatabase} on {parameters['host']}:{settings.pgport}"
        slots = slots_of(parameters)
    except DatabaseError as error:
        return Database(where, now, str(error))
    ours = tuple(slot for slot in slots if is_dms_slot(slot, settings.pgdatabase))
    return Database(where, now, "", ours)


def read_instance(account: Account, specs: Specs) -> Instance | None:
    found = dms.ReplicationInstance(account).one(specs["replication instance"])
    if found is None:
        return None
    size, version = found.get("ReplicationInstanceClass", ""), found.get("EngineVersion") or ""
    return Instance(dms.state_of(found), found["ReplicationInstanceArn"], size, version)


def read_task(account: Account, specs: Specs) -> Task | None:
    found = dms.Task(account).one(specs["task"])
    if found is None:
        return None
    stats = found.get("ReplicationTaskStats") or {}
    return Task(
        dms.state_of(found),
        dms.reason_of(found),
        found.get("StopReason") or "",
        found.get("ReplicationTaskStartDate"),
        stats.get("FullLoadProgressPercent"),
        *(stats.get(f"Tables{state}", 0) for state in ("Loaded", "Loading", "Queued", "Errored")),
    )


def read_tables(account: Account, specs: Specs) -> tuple[TableCounts, ...]:
    """Broken ones first, then by name; none of a task that never ran."""
    kind, spec = dms.Task(account), specs["task"]
    task = kind.one(spec)
    if task is None:
        return ()
    asked = {"ReplicationTaskArn": task["ReplicationTaskArn"]}
    found = account.pages("dms", "describe_table_statistics", kind.subject(spec), "TableStatistics", **asked)
    tables = [
        TableCounts(
            one["SchemaName"],
            one["TableName"],
            one.get("TableState", ""),
            *(one.get(key) or 0 for key in ("FullLoadRows", "Inserts", "Updates", "Deletes")),
        )
        for one in found
    ]
    return tuple(sorted(tables, key=lambda one: (not one.is_broken, one.name)))


def read_stream(account: Account, specs: Specs) -> Stream | None:
    name = specs["stream"]["StreamName"]
    found = kinesis.Stream(account).summary(name)
    if found is None:
        return None
    return Stream(name, found["StreamStatus"], kinesis.mode_of(found), found["OpenShardCount"])


def read_function(account: Account, specs: Specs) -> Function | None:
    name, alias = specs["function"]["FunctionName"], specs["alias"]["Name"]
    subject, asked = f"alias {alias} of function {name}", {"FunctionName": name, "Qualifier": alias}
    found = account.find("lambda", "get_function_configuration", subject, lambda_.ABSENT, **asked)
    return Function(name, found["Version"], found["CodeSha256"]) if found else None


def read_mapping(account: Account, specs: Specs) -> EventSourceMapping | None:
    spec = specs["mapping"]
    if UNKNOWN in (spec["FunctionName"], spec["EventSourceArn"]):
        return None
    found = lambda_.EventSourceMapping(account).one(spec)
    return EventSourceMapping(found["State"], found.get("LastProcessingResult") or "") if found else None


def read_alarms(account: Account, specs: Specs) -> dict[str, str]:
    return {name: alarm["StateValue"] for name, alarm in sorted(describe_alarms(account, specs).items())}


# --------------------------------------------------------------------------------------------------------
# The figures
# --------------------------------------------------------------------------------------------------------

Points = Mapping[str, list[tuple[datetime, float]]]


def latest(values: Sequence[float]) -> float:
    return values[-1]


# A figure: the alarm that has its namespace and dimensions, metric, statistic, and what is made of an hour's.
METRICS: Mapping[str, tuple[str, str, str, Callable[[list[float]], float]]] = {
    "slot_lag_bytes": ("slot-lag", "OldestReplicationSlotLag", "Maximum", latest),
    "database_free_bytes": ("database-storage", "FreeStorageSpace", "Minimum", latest),
    "replication_free_bytes": ("replication-storage", "FreeStorageSpace", "Minimum", latest),
    "source_latency_seconds": ("source-latency", "CDCLatencySource", "Maximum", latest),
    "target_latency_seconds": ("target-latency", "CDCLatencyTarget", "Maximum", latest),
    "records": ("no-records", "IncomingRecords", "Sum", sum),
    "iterator_age_ms": ("iterator-age", "IteratorAge", "Maximum", latest),
    "invocations": ("errors", "Invocations", "Sum", sum),
    "errors": ("errors", "Errors", "Sum", sum),
    "throttles": ("throttles", "Throttles", "Sum", sum),
    "duration_ms": ("errors", "Duration", "Sum", sum),
    "duration_longest_ms": ("errors", "Duration", "Maximum", max),
}


def read_figures(account: Account, specs: Specs, now: datetime) -> Figures:
    """All from one call, of the minutes of the last hour."""
    end = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    asked = {"MetricDataQueries": queries(specs), "StartTime": end - HOUR, "EndTime": end}
    points: dict[str, list[tuple[datetime, float]]] = {}
    for one in account.pages("cloudwatch", "get_metric_data", "the metrics", "MetricDataResults", **asked):
        points.setdefault(one["Id"], []).extend(zip(one["Timestamps"], one["Values"], strict=True))
    return figures(points, now)


def queries(specs: Specs) -> list[dict[str, Any]]:
    """None of an alarm that is not declared, or whose object is not there."""
    found = []
    for figure, (alarm, metric, statistic, _) in METRICS.items():
        spec = specs.get(f"alarm {alarm}")
        if spec and all(one["Value"] is not UNKNOWN for one in spec["Dimensions"]):
            named = {key: spec[key] for key in ("Namespace", "Dimensions")} | {"MetricName": metric}
            found.append({"Id": figure, "MetricStat": {"Metric": named, "Period": 60, "Stat": statistic}})
    return found


def figures(points: Points, now: datetime) -> Figures:
    """records_10_minutes is 0 where only earlier minutes have records."""
    found: dict[str, float | None] = {}
    for figure, (*_, combine) in METRICS.items():
        values = [value for _, value in sorted(points.get(figure, []))]
        found[figure] = combine(values) if values else None
    spent, calls = found.pop("duration_ms"), found["invocations"]
    records = points.get("records")
    return Figures(
        **found,
        records_10_minutes=sum(value for at, value in records if at > now - SILENCE) if records else None,
        duration_average_ms=spent / calls if spent is not None and calls else None,
    )
