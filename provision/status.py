"""The chain as it is now, on one screen: what is wrong first, then from the database to the bucket.

    status = read_status(account, settings, chain, now)      reads only; a part that may not be read is Denied
    print(as_text(status))                                   ASCII, at most 100 columns
    json.dumps(as_dict(status))                              all of it, every table
    is_well(status)                                          for the exit code

Looked at are the objects that records pass through, their alarms and their metrics. Roles, network, logs,
the settings of buckets and the dashboard are not: `plan` compares those. CloudWatch is a minute or more late.
Calls of AWS: about 35, one more for each schema in the bucket, and four or more for each table.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from provision.aws import DENIED, Account, Refusal
from provision.chain import LIMITS, TASK_RUN
from provision.database import DatabaseError, Slot, drop_slot_sql, slots_of
from provision.engine import UNKNOWN, Change, Kind, Live, Observed, Resource, differences, refs_in, resolve
from provision.kinds import dms, kinesis, lambda_
from provision.kinds.documents import as_declared
from provision.landed import ObjectCount, TableLanded, given_up, quarantined, tables_landed
from provision.settings import Settings
from provision.surroundings import connect_parameters

WIDTH = 100
TABLES_SHOWN, NAMES_SHOWN = 15, 5
PATH = (
    *("bucket", "failed bucket", "stream", "database", "function", "alias", "mapping"),
    *("replication instance", "source endpoint", "source connection", "target endpoint"),
    *("target connection", "task", "alarm topic", TASK_RUN, "table loads"),
)
# What is there though there is no chain: TableLoads is never absent, and destroy keeps buckets.
NO_SIGN = {"bucket", "failed bucket", "table loads"}
# Differences that have a problem of their own.
TOLD = {(TASK_RUN, "Status"), ("mapping", "Enabled")}
ALARM = "alarm "
ALARMS_A_CALL = 100
NO_OBJECTS = ObjectCount()
SLOT_PLUGINS = ("test_decoding", "pglogical")  # those that DMS makes
HOUR, SILENCE = timedelta(hours=1), timedelta(minutes=10)
SETUP = "python setup_dms.py"
# What PostgreSQL, and DMS after it, say of a slot whose log is gone.
LOST_SLOT = re.compile(
    r"slot\b[^.;:]{0,80}(does not exist|(is|was|been) (lost|invalidated)|no longer)"
    r"|no longer get changes from replication slot|WAL segment \S+ has already been removed",
    re.I,
)
BROKEN_TABLE = re.compile("error|suspend|cancel|not exist", re.I)

# --------------------------------------------------------------------------------------------------------
# Value types
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Denied:
    """In place of a part that the caller may not read: the action that is missing."""

    not_allowed: str

    def __str__(self) -> str:
        return f"not allowed: {self.not_allowed}"


@dataclass(frozen=True)
class Problem:
    about: str  # "task-failed"; that of an alarm: the alarm's part, "slot-lag"
    what: str
    meaning: str  # for the rows
    next: str  # the command to run


@dataclass(frozen=True)
class Database:
    """slots: the logical ones that look like DMS's; empty where the database can't be reached."""

    where: str
    unreachable: str = ""
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
class Alarms:
    """Names by state; of those that are not there, nothing."""

    ok: tuple[str, ...] = ()
    alarm: tuple[str, ...] = ()
    insufficient_data: tuple[str, ...] = ()


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
class Drift:
    """Of the objects on the path: those that are not there, and the keys that are not as declared."""

    missing: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()  # "stream (RetentionPeriodHours)"
    unseen: tuple[str, ...] = ()  # "task: not allowed: dms:ListTagsForResource"


@dataclass(frozen=True)
class Status:
    """None: that part is not there. thresholds: those of the alarms, by their parts."""

    pipeline: str
    region: str
    read_at: datetime
    bucket: str
    failed_bucket: str
    prefix: str = ""
    database_instance: str = ""
    exists: bool = False  # there is something of the pipeline, buckets aside
    problems: tuple[Problem, ...] = ()
    database: Database | Denied | None = None
    instance: Instance | Denied | None = None
    task: Task | Denied | None = None
    tables: tuple[TableCounts, ...] | Denied = ()
    stream: Stream | Denied | None = None
    function: Function | Denied | None = None
    mapping: EventSourceMapping | Denied | None = None
    landed: tuple[TableLanded, ...] | Denied = ()
    quarantined: ObjectCount | Denied = NO_OBJECTS
    given_up: ObjectCount | Denied = NO_OBJECTS
    alarms: Alarms | Denied = Alarms()
    figures: Figures | Denied = Figures()
    drift: Drift = Drift()
    unconfirmed_email: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)


def is_well(status: Status) -> bool:
    """There is a chain, all of it may be read, and nothing is wrong with it.

    A database that can't be reached from here is no fault: CloudWatch tells of its slots.
    """
    parts = (getattr(status, one.name) for one in fields(status))
    is_seen = not status.drift.unseen and not any(isinstance(part, Denied) for part in parts)
    return status.exists and is_seen and not status.problems


def as_dict(status: Status) -> dict[str, Any]:
    """The status as JSON has it: times in ISO 8601, a part that may not be read {"not_allowed": action}."""
    plain: dict[str, Any] = as_json(asdict(status))
    return {"is_well": is_well(status), **plain}


def as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else value


# --------------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------------

T = TypeVar("T")
Specs = Mapping[str, Any]  # of the chain, Refs resolved, by name


def read_status(account: Account, settings: Settings, chain: Sequence[Resource], now: datetime) -> Status:
    """The status at now, which is aware. Raises AwsError for anything but a missing permission."""
    once = Once.of(account)
    look = look_along(once, chain)
    specs = {name: resolve(look.chain[name].spec, look.observed) for name in look.names}
    status = Status(
        account.pipeline,
        account.region,
        now,
        settings.s3_bucket,
        str(specs["failed bucket"]["Bucket"]),
        settings.s3_prefix,
        database_instance(specs),
        not look.is_empty,
    )
    if look.is_empty:
        return status
    status = replace(
        status,
        **parts_along(once, settings, specs, now),
        **parts_in_buckets(account, status),
        drift=drift(look, specs),
        unconfirmed_email=unconfirmed_email(look),
        thresholds=thresholds(specs),
    )
    return replace(status, problems=tuple(problems(status)))


def parts_along(once: Account, settings: Settings, specs: Specs, now: datetime) -> dict[str, Any]:
    return {
        "database": part(lambda: read_database(once, settings)),
        "instance": part(lambda: read_instance(once, specs)),
        "task": part(lambda: read_task(once, specs)),
        "tables": part(lambda: read_tables(once, specs)),
        "stream": part(lambda: read_stream(once, specs)),
        "function": part(lambda: read_function(once, specs)),
        "mapping": part(lambda: read_mapping(once, specs)),
        "alarms": part(lambda: alarm_states(once, specs)),
        "figures": part(lambda: read_figures(once, specs, now)),
    }


def parts_in_buckets(account: Account, status: Status) -> dict[str, Any]:
    """By the account itself: long listings are broken off, which Once would read to their ends."""
    bucket, prefix, now = status.bucket, status.prefix, status.read_at
    return {
        "landed": part(lambda: tuple(tables_landed(account, bucket, prefix, now))),
        "quarantined": part(lambda: quarantined(account, bucket, prefix, now)),
        "given_up": part(lambda: given_up(account, status.failed_bucket)),
    }


def part(read: Callable[[], T]) -> T | Denied:
    """What is read, or the action that the caller lacks."""
    try:
        return read()
    except Refusal as error:
        if error.code not in DENIED:
            raise
        return denied(error)


def denied(error: Refusal) -> Denied:
    return Denied(str(error).partition(" on ")[0])


@dataclass
class Once(Account):
    """An account that asks AWS each question once, so that the screen shows one moment, in few calls."""

    answers: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, account: Account) -> Once:
        once = cls(**{one.name: getattr(account, one.name) for one in fields(Account)})
        vars(once)["account_id"] = account.account_id  # as cached_property keeps it
        return once

    def call(self, service: str, operation: str, subject: str, **parameters: Any) -> Any:
        ask = super().call
        return self.asked(
            service, operation, parameters, lambda: ask(service, operation, subject, **parameters)
        )

    def pages(self, service: str, operation: str, subject: str, key: str, **parameters: Any) -> Iterator[Any]:
        ask = super().pages

        def every_page() -> list[Any]:
            return list(ask(service, operation, subject, key, **parameters))

        return iter(self.asked(service, operation, {**parameters, "": key}, every_page))

    def asked(self, service: str, operation: str, parameters: Any, ask: Callable[[], Any]) -> Any:
        """The answer, or the refusal that came instead."""
        question = f"{service} {operation} {sorted(parameters.items())}"
        if question not in self.answers:
            try:
                self.answers[question] = ask()
            except Refusal as error:
                self.answers[question] = error
        answer = self.answers[question]
        if isinstance(answer, Refusal):
            raise answer
        return answer


# --------------------------------------------------------------------------------------------------------
# The objects on the path, and where they are not as declared
# --------------------------------------------------------------------------------------------------------


@dataclass
class Look:
    chain: dict[str, Resource]
    observed: Observed
    denied: dict[str, Denied] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """What is looked at: the path and its alarms."""
        return [name for name, one in self.chain.items() if name in PATH or "AlarmName" in one.spec]

    @property
    def is_empty(self) -> bool:
        return not self.denied and not any(
            live for name, live in self.observed.items() if name not in NO_SIGN
        )


def look_along(account: Account, chain: Sequence[Resource]) -> Look:
    """What there is on the path, and of its alarms; a Ref to anything else stays UNKNOWN."""
    look = Look({one.name: one for one in chain}, {one.name: None for one in chain})
    for name in PATH:
        if name in look.chain:
            look_at(account, look, name)
    try:
        found = live_alarms(account, look)
    except Refusal as error:
        if error.code not in DENIED:
            raise
        alarms = (name for name, one in look.chain.items() if "AlarmName" in one.spec)
        look.denied |= dict.fromkeys(alarms, denied(error))
    else:
        look.observed |= found
    return look


def look_at(account: Account, look: Look, name: str) -> None:
    resource = look.chain[name]
    for ref in refs_in(resource.spec):
        if ref.resource in look.denied:  # it would be looked for by what is not known
            look.denied[name] = look.denied[ref.resource]
            return
    spec = resolve(resource.spec, look.observed)
    try:
        if name in ("bucket", "failed bucket"):
            look.observed[name] = live_bucket(account, spec)
        else:
            look.observed[name] = kind_with(resource.kind, account).find(spec)
    except Refusal as error:
        if error.code not in DENIED:
            raise
        look.denied[name] = denied(error)


def kind_with(kind: Kind, account: Account) -> Kind:
    asking: Any = copy(kind)
    asking.account = account
    return asking  # type: ignore[no-any-return]


def live_bucket(account: Account, spec: Mapping[str, Any]) -> Live | None:
    """Whether it is there, in one call: its settings are eight, and plan compares them."""
    name = spec["Bucket"]
    found = account.find("s3", "head_bucket", f"bucket {name}", {"404", "NoSuchBucket"}, Bucket=name)
    return None if found is None else Live(spec, {})


def live_alarms(account: Account, look: Look) -> Observed:
    """All of them by one call where their own kind takes two each; their tags are not read."""
    specs = {
        name: resolve(one.spec, look.observed) for name, one in look.chain.items() if "AlarmName" in one.spec
    }
    found = described_alarms(account, specs)
    observed: Observed = {}
    for name, spec in specs.items():
        if alarm := found.get(spec["AlarmName"]):
            observed[name] = Live({key: as_declared(spec[key], alarm.get(key)) for key in spec}, {})
    return observed


def described_alarms(account: Account, specs: Mapping[str, Any]) -> dict[str, Any]:
    names = sorted(spec["AlarmName"] for spec in specs.values() if "AlarmName" in spec)
    found: dict[str, Any] = {}
    for start in range(0, len(names), ALARMS_A_CALL):
        some = names[start : start + ALARMS_A_CALL]
        asked = {"AlarmNames": some, "AlarmTypes": ["MetricAlarm"], "MaxRecords": ALARMS_A_CALL}
        answer = account.call("cloudwatch", "describe_alarms", "the alarms", **asked)
        found |= {alarm["AlarmName"]: alarm for alarm in answer["MetricAlarms"]}
    return found


def drift(look: Look, specs: Mapping[str, Any]) -> Drift:
    missing, differing = [], []
    for name in look.names:
        if name in look.denied:
            continue
        live = look.observed[name]
        if live is None:
            missing.append(name)
        elif not live.is_ours:
            differing.append(f"{name} (it has not our tag)")
        elif keys := changed_keys(look.chain[name].kind, specs[name], live, name):
            differing.append(f"{name} ({', '.join(keys)})")
    unseen = tuple(f"{name}: {refused}" for name, refused in look.denied.items())
    return Drift(tuple(missing), tuple(differing), unseen)


def changed_keys(kind: Kind, spec: Mapping[str, Any], live: Live, name: str) -> list[str]:
    """The first keys that differ, as far as that can be known from here."""
    compared = {key: value for key, value in spec.items() if key not in kind.write_only}
    found = [change for change in differences(compared, live.values) if is_known(change)]
    keys = dict.fromkeys(change.path.partition(".")[0] for change in found)
    return [key for key in keys if (name, key) not in TOLD][:NAMES_SHOWN]


def is_known(change: Change) -> bool:
    """Whether the wanted value says all: roles and network are not looked at."""
    return repr(UNKNOWN) not in repr(change.new)


def unconfirmed_email(look: Look) -> str:
    live = look.observed.get("alarm topic")
    if live is None or live.attributes["is_confirmed"]:
        return ""
    return str(look.chain["alarm topic"].spec.get("Endpoint", ""))


# --------------------------------------------------------------------------------------------------------
# The parts
# --------------------------------------------------------------------------------------------------------


def read_database(account: Account, settings: Settings) -> Database:
    parameters = connect_parameters(account, settings)
    where = f"{settings.pgdatabase} on {parameters['host']}:{settings.pgport}"
    if not parameters["host"]:  # libpq would take that for the machine's own
        return Database(settings.pgdatabase, "the database is not there yet")
    try:
        slots = slots_of(parameters)
    except DatabaseError as error:
        return Database(where, str(error))
    return Database(where, "", tuple(slot for slot in slots if slot.plugin in SLOT_PLUGINS))


def database_instance(specs: Specs) -> str:
    """The RDS instance, as the alarms have it; empty: it is none."""
    dimensions = specs.get("alarm slot-lag", {}).get("Dimensions", [])
    return str(dimensions[0]["Value"]) if dimensions else ""


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
    counts = (stats.get(f"Tables{state}", 0) for state in ("Loaded", "Loading", "Queued", "Errored"))
    return Task(
        dms.state_of(found),
        dms.reason_of(found),
        found.get("StopReason") or "",
        found.get("ReplicationTaskStartDate"),
        stats.get("FullLoadProgressPercent"),
        *counts,
    )


def read_tables(account: Account, specs: Specs) -> tuple[TableCounts, ...]:
    """Broken ones first, then by name; none of a task that never ran."""
    kind, spec = dms.Task(account), specs["task"]
    task = kind.one(spec)
    if task is None:
        return ()
    found = account.pages(
        "dms",
        "describe_table_statistics",
        kind.subject(spec),
        "TableStatistics",
        ReplicationTaskArn=task["ReplicationTaskArn"],
    )
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
    asked = {"FunctionName": name, "Qualifier": alias}
    found = account.find(
        "lambda",
        "get_function_configuration",
        f"alias {alias} of function {name}",
        lambda_.ABSENT,
        **asked,
    )
    return Function(name, found["Version"], found["CodeSha256"]) if found else None


def read_mapping(account: Account, specs: Specs) -> EventSourceMapping | None:
    spec = specs["mapping"]
    if not isinstance(spec["FunctionName"], str) or not isinstance(spec["EventSourceArn"], str):
        return None
    found = lambda_.EventSourceMapping(account).one(spec)
    return EventSourceMapping(found["State"], found.get("LastProcessingResult") or "") if found else None


def alarm_states(account: Account, specs: Specs) -> Alarms:
    chosen = {name: spec for name, spec in specs.items() if "AlarmName" in spec}
    found = described_alarms(account, chosen).values()
    ok, alarm, rest = (
        tuple(sorted(one["AlarmName"] for one in found if one["StateValue"] == state))
        for state in ("OK", "ALARM", "INSUFFICIENT_DATA")
    )
    return Alarms(ok, alarm, rest)


def thresholds(specs: Specs) -> dict[str, float]:
    """{"iterator-age": 305000.0}"""
    found = {part: limit[3] for part, limit in LIMITS.items()}
    for name, spec in specs.items():
        if "AlarmName" in spec:
            found[name.removeprefix(ALARM)] = spec["Threshold"]
    return found


# A figure: the alarm that has its namespace and dimensions, the metric, the statistic.
METRICS = {
    "slot_lag_bytes": ("slot-lag", "OldestReplicationSlotLag", "Maximum"),
    "database_free_bytes": ("database-storage", "FreeStorageSpace", "Minimum"),
    "replication_free_bytes": ("replication-storage", "FreeStorageSpace", "Minimum"),
    "source_latency_seconds": ("source-latency", "CDCLatencySource", "Maximum"),
    "target_latency_seconds": ("target-latency", "CDCLatencyTarget", "Maximum"),
    "records": ("no-records", "IncomingRecords", "Sum"),
    "iterator_age_ms": ("iterator-age", "IteratorAge", "Maximum"),
    "invocations": ("errors", "Invocations", "Sum"),
    "errors": ("errors", "Errors", "Sum"),
    "throttles": ("throttles", "Throttles", "Sum"),
    "duration_ms": ("errors", "Duration", "Sum"),
    "duration_longest_ms": ("errors", "Duration", "Maximum"),
}
LATEST = {"slot_lag_bytes", "database_free_bytes", "replication_free_bytes", "iterator_age_ms"} | {
    f"{end}_latency_seconds" for end in ("source", "target")
}
Points = list[tuple[datetime, float]]


def read_figures(account: Account, specs: Specs, now: datetime) -> Figures:
    """All from one call, of the minutes of the last hour."""
    queries = [
        query
        for key, (alarm, metric, statistic) in METRICS.items()
        if (query := metric_query(key, specs.get(ALARM + alarm, {}), metric, statistic))
    ]
    end = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    results = account.pages(
        "cloudwatch",
        "get_metric_data",
        "the metrics",
        "MetricDataResults",
        MetricDataQueries=queries,
        StartTime=end - HOUR,
        EndTime=end,
    )
    points: dict[str, Points] = {query["Id"]: [] for query in queries}
    for result in results:
        points[result["Id"]] += zip(result["Timestamps"], result["Values"], strict=True)
    return figures(points, now)


def metric_query(key: str, alarm: Mapping[str, Any], metric: str, statistic: str) -> dict[str, Any] | None:
    """None where the alarm is not declared, or what it is of is not there."""
    dimensions = alarm.get("Dimensions", [])
    if not alarm or any(not isinstance(one["Value"], str) for one in dimensions):
        return None
    named = {"Namespace": alarm["Namespace"], "MetricName": metric, "Dimensions": dimensions}
    return {"Id": key, "MetricStat": {"Metric": named, "Period": 60, "Stat": statistic}}


def figures(points: Mapping[str, Points], now: datetime) -> Figures:
    """Latest values, sums and maxima; records_10_minutes is 0 where only earlier minutes have records."""
    found: dict[str, float | None] = {}
    for key, some in points.items():
        values = [value for _, value in sorted(some)]
        combined = values[-1:] if key in LATEST else [max(values)] if "longest" in key and values else values
        found[key] = sum(combined) if values else None
    spent, calls = found.pop("duration_ms", None), found.get("invocations")
    found["duration_average_ms"] = spent / calls if spent is not None and calls else None
    if records := points.get("records"):
        found["records_10_minutes"] = sum(value for at, value in records if at > now - SILENCE)
    return Figures(**found)


# --------------------------------------------------------------------------------------------------------
# What is wrong
# --------------------------------------------------------------------------------------------------------


def problems(status: Status) -> Iterator[Problem]:
    """The worst first: rows lost, the chain at a stand, tables left out, rows late, what watches it."""
    told: set[str] = set()
    for find in (
        *(slot_problems, task_problems, instance_problems, storage_problems, table_problems),
        *(mapping_problems, given_up_problems, delay_problems, quarantine_problems),
    ):
        for problem in find(status):
            told.add(problem.about)
            yield problem
    yield from alarm_problems(status, told)
    yield from drift_problems(status)


def slots_seen(status: Status) -> tuple[Slot, ...]:
    return status.database.slots if isinstance(status.database, Database) else ()


def task_of(status: Status) -> Task | None:
    return status.task if isinstance(status.task, Task) else None


def figures_of(status: Status) -> Figures:
    return status.figures if isinstance(status.figures, Figures) else Figures()


def slot_is_lost(status: Status) -> bool:
    """By the slots, or by the task's own words; not while one is read."""
    task, slots = task_of(status), slots_seen(status)
    if any(slot.is_active for slot in slots):
        return False
    said_so = task is not None and task.has_failed and bool(LOST_SLOT.search(task.reason))
    return said_so or any(slot.wal_status == "lost" for slot in slots)


def slot_problems(status: Status) -> Iterator[Problem]:
    slots, task = slots_seen(status), task_of(status)
    if slot_is_lost(status):
        said = f": {task.reason}" if task and task.has_failed else ""
        lost = next((f" {slot.name}" for slot in slots if slot.wal_status == "lost"), "")
        yield Problem(
            "slot-lost",
            f"the replication slot{lost} is lost{said}",
            "changes since the last checkpoint can't be read any more: only a new load makes the rows whole",
            f"{SETUP} reload --all",
        )
    is_running = task is not None and task.status == "running"
    is_read = any(slot.is_active for slot in slots)
    for slot in slots:
        if slot.wal_status == "unreserved":
            yield unreserved_slot(slot, is_running)
        if not slot.is_active and is_running:
            yield left_over_slot(slot) if is_read else unread_slot(slot)


def unreserved_slot(slot: Slot, is_running: bool) -> Problem:
    return Problem(
        "slot-unreserved",
        f"slot {slot.name} is about to be lost: the log that it needs is beyond max_slot_wal_keep_size",
        "unless it is read before the next checkpoint, changes are lost and all has to be loaded anew",
        f"{SETUP} status --watch" if is_running else f"{SETUP} resume",
    )


def unread_slot(slot: Slot) -> Problem:
    return Problem(
        "slot-inactive",
        f"the task runs, and nobody reads slot {slot.name}",
        f"no change leaves the database, which retains {size_text(slot.retained_bytes)} for it and more",
        f"{SETUP} stop, then {SETUP} resume",
    )


def left_over_slot(slot: Slot) -> Problem:
    """Not of this chain for certain: it is for a person to know."""
    return Problem(
        "slot-left-over",
        f"slot {slot.name} is read by nobody, and another one is: another task's, or left over",
        f"no row is missing; the database retains {size_text(slot.retained_bytes)} for it, and more",
        f"if no task needs it: {drop_slot_sql(slot.name)}",
    )


def task_problems(status: Status) -> Iterator[Problem]:
    task = task_of(status)
    if task is None or slot_is_lost(status):
        return
    why = "" if task.reason == "no reason given" else f": {task.reason}"
    if task.has_failed:
        yield resting("task-failed", f"the task failed{why}", status)
    elif task.status == "stopped":
        yield resting("task-stopped", f"the task is stopped{why}", status)
    elif task.status == "ready":
        meaning = "no row is loaded, and no slot keeps the changes"
        yield Problem("task-not-started", "the task was never started", meaning, f"{SETUP} apply")


def resting(about: str, what: str, status: Status) -> Problem:
    """A task can't be resumed without its slot."""
    database = status.database
    if isinstance(database, Database) and not database.unreachable and not database.slots:
        meaning = "no change leaves the database, and no slot keeps them: all has to be loaded anew"
        return Problem(about, what, meaning, f"{SETUP} reload --all")
    return Problem(about, what, f"no change leaves the database; {retained(status)}", f"{SETUP} resume")


def retained(status: Status) -> str:
    """ "the slot retains 1.2 GB and grows", of the database or else of CloudWatch."""
    of_slots = [slot.retained_bytes for slot in slots_seen(status) if slot.retained_bytes is not None]
    lag = figures_of(status).slot_lag_bytes
    if of_slots:
        return f"the slot retains {size_text(max(of_slots))} and grows"
    if lag is not None:
        return f"the slot retains {size_text(lag)} (CloudWatch) and grows"
    return "the slot retains all since then, and grows"


def storage_problems(status: Status) -> Iterator[Problem]:
    seen, least = figures_of(status), status.thresholds
    free = seen.database_free_bytes
    if free is not None and free < least["database-storage"]:
        instance = f"--db-instance-identifier {status.database_instance}"
        yield Problem(
            "database-storage",
            f"{size_text(free)} of storage left on the database",
            "at none the database stops writing; a slot that is not read is what grows",
            f"aws rds modify-db-instance {instance} --allocated-storage <GB> --apply-immediately",
        )
    free = seen.replication_free_bytes
    if free is not None and free < least["replication-storage"]:
        arn = status.instance.arn if isinstance(status.instance, Instance) else "<ARN>"
        yield Problem(
            "replication-storage",
            f"{size_text(free)} of storage left on the replication instance",
            "at none DMS stops; its logs, and changes that wait for the target, are what grows",
            f"aws dms describe-replication-instance-task-logs --replication-instance-arn {arn}",
        )


def instance_problems(status: Status) -> Iterator[Problem]:
    if isinstance(status.instance, Instance) and status.instance.status in dms.BROKEN | {"storage-full"}:
        yield Problem(
            "instance-broken",
            f"the replication instance is {status.instance.status}",
            "no change leaves the database, whose slot grows",
            f"aws dms describe-events --source-type replication-instance "
            f"--source-identifier {status.pipeline}-replication --duration 1440",
        )


def table_problems(status: Status) -> Iterator[Problem]:
    tables = status.tables if not isinstance(status.tables, Denied) else ()
    gone = [table.name for table in tables if table.is_broken and "not exist" in table.state]
    broken = [table.name for table in tables if table.is_broken and table.name not in gone]
    if broken:
        names = " ".join(shlex.quote(name) for name in broken[:NAMES_SHOWN])
        yield Problem(
            "tables-broken",
            f"{plural(len(broken), 'table')} suspended or in error: {few(broken)}",
            "their changes do not reach the stream; the other tables go on",
            reload_command(status, names),
        )
    if gone:
        yield Problem(
            "tables-gone",
            f"{plural(len(gone), 'table')} that DMS does not find in the database: {few(gone)}",
            "what has landed of them stays; nothing is added",
            f"{SETUP} plan",
        )


def reload_command(status: Status, names: str) -> str:
    """AWS reloads tables of a running task only."""
    task = task_of(status)
    if slot_is_lost(status):
        return f"{SETUP} reload --all"
    is_running = task is None or task.status == "running"
    return f"{SETUP} reload {names}" if is_running else f"{SETUP} resume, then {SETUP} reload {names}"


def mapping_problems(status: Status) -> Iterator[Problem]:
    mapping = status.mapping
    if not isinstance(mapping, EventSourceMapping):
        return
    if mapping.state in ("Disabled", "Disabling"):
        yield Problem(
            "mapping-disabled",
            f"the event source mapping is {mapping.state}",
            "records wait on the stream, at most for its retention of seven days, and do not land",
            f"{SETUP} apply",
        )
    elif mapping.last_result.startswith("PROBLEM"):
        yield Problem(
            "mapping-problem",
            f"the event source mapping has a {mapping.last_result}",
            "records wait on the stream and do not land; Lambda tries again until they are six days old",
            f"aws logs filter-log-events --log-group-name /aws/lambda/{status.pipeline}-lambda",
        )


def given_up_problems(status: Status) -> Iterator[Problem]:
    if isinstance(status.given_up, ObjectCount) and status.given_up.objects:
        yield Problem(
            "given-up",
            f"Lambda gave up {'at least ' if status.given_up.is_at_least else ''}"
            f"{plural(status.given_up.objects, 'batch', 'batches')}",
            "their rows are in none of the tables, only in the failed bucket",
            f"aws s3 ls --recursive s3://{status.failed_bucket}",
        )


def delay_problems(status: Status) -> Iterator[Problem]:
    seen, task = figures_of(status), task_of(status)
    started = task.started_at if task and task.status == "running" else None
    is_silent = isinstance(status.figures, Figures) and not seen.records_10_minutes
    if is_silent and started and status.read_at - started > SILENCE:
        yield Problem(
            "no-records",
            "no record for 10 minutes, though the task runs",
            "even without changes DMS writes one a minute: the chain stands still",
            f"aws logs filter-log-events --log-group-name dms-tasks-{status.pipeline}-replication",
        )
    if seen.iterator_age_ms is not None and seen.iterator_age_ms > status.thresholds["iterator-age"]:
        yield Problem(
            "iterator-age",
            f"the function is {span(seen.iterator_age_ms / 1000)} behind the stream",
            "rows land late; none is lost before seven days",
            f"set STREAM_SHARDS higher, then {SETUP} apply",
        )


def quarantine_problems(status: Status) -> Iterator[Problem]:
    if isinstance(status.quarantined, ObjectCount) and status.quarantined.objects:
        yield Problem(
            "quarantined",
            f"{status.quarantined} of records that can't be read, in the last 7 days",
            "these records are in none of the tables, only in quarantine/, with the reason",
            f"aws s3 ls --recursive s3://{status.bucket}/{status.prefix}quarantine/",
        )


def alarm_problems(status: Status, told: set[str]) -> Iterator[Problem]:
    """Of alarms that tell what no problem before them did."""
    names = status.alarms.alarm if isinstance(status.alarms, Alarms) else ()
    for about, limit in LIMITS.items():
        name = f"{status.pipeline}-{about}"
        if name in names and about not in told:
            command = f"aws cloudwatch describe-alarm-history --alarm-name {name}"
            yield Problem(about, f"alarm {name} is in ALARM", limit[4], command)


def drift_problems(status: Status) -> Iterator[Problem]:
    missing, differing = status.drift.missing, status.drift.differing
    if missing:
        what = f"not there: {few(missing)}"
        yield Problem(
            "missing", what, "the chain is not whole: apply goes on where it ended", f"{SETUP} plan"
        )
    if differing:
        what = f"not as declared: {few(differing)}"
        yield Problem("differing", what, "somebody changed it, or the settings", f"{SETUP} plan")
    if status.unconfirmed_email:
        yield Problem(
            "email-unconfirmed",
            f"{status.unconfirmed_email} has not confirmed the subscription to the alarms",
            "alarms reach nobody there",
            "follow the link in AWS's mail; after three days it is dead, then: " + f"{SETUP} apply",
        )


def few(names: Sequence[str]) -> str:
    """ "a, b, c, d, e and 2 more" """
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


# --------------------------------------------------------------------------------------------------------
# The screen
# --------------------------------------------------------------------------------------------------------

LABEL = 10  # columns


def as_text(status: Status, width: int = WIDTH) -> str:
    """The screen, with its last line's end."""
    if not status.exists:
        return f"nothing of pipeline {status.pipeline!r} in {status.region}: {SETUP} apply\n"
    lines = [headline(status), *problem_lines(status, width), ""]
    for label, texts in sections(status):
        for position, text in enumerate(texts):
            lines += wrapped(text, width, label if position == 0 else "", LABEL)
    if status.tables or status.landed:
        lines += ["", *table_lines(status, width)]
    return "".join(f"{as_ascii(line)[:width].rstrip()}\n" for line in lines)


def as_ascii(line: str) -> str:
    """Others' texts may have line ends and letters of any script."""
    text = re.sub(r"[\x00-\x1f\x7f]", " ", line)
    return text.encode("ascii", "backslashreplace").decode()


def headline(status: Status) -> str:
    verdict = plural(len(status.problems), "problem")
    if not status.problems:
        verdict = "all is well" if is_well(status) else "no problem in what may be seen"
    read_at = status.read_at.astimezone(UTC)
    return f"{status.pipeline} in {status.region}, {read_at:%Y-%m-%d %H:%M:%S} UTC: {verdict}"


def problem_lines(status: Status, width: int) -> Iterator[str]:
    for number, problem in enumerate(status.problems, 1):
        yield from wrapped(problem.what, width, f"{number}.", 4)
        yield from wrapped(problem.meaning, width, "", 4)
        yield from wrapped(f"next: {problem.next}", width, "", 4)


def wrapped(text: str, width: int, label: str, indent: int) -> list[str]:
    return textwrap.wrap(
        as_ascii(" ".join(text.split())),
        width,
        initial_indent=label.ljust(indent),
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def sections(status: Status) -> Iterator[tuple[str, list[str]]]:
    yield "DATABASE", list(database_texts(status))
    yield "DMS", list(dms_texts(status))
    yield "STREAM", list(stream_texts(status))
    yield "FUNCTION", list(function_texts(status))
    yield "S3", list(bucket_texts(status))
    yield "ALARMS", list(alarm_texts(status))
    if status.drift.unseen:
        yield "UNSEEN", [few(status.drift.unseen)]


def absent_or_denied(part: Any) -> str:
    return str(part) if isinstance(part, Denied) else "not there"


def database_texts(status: Status) -> Iterator[str]:
    found = status.database
    if not isinstance(found, Database):
        yield absent_or_denied(found)
    elif found.unreachable:
        yield f"not seen from here, which is no fault of a private one: {found.unreachable}"
    else:
        yield found.where
        yield from [slot_text(slot) for slot in found.slots] or ["no logical slot of DMS"]
    if not status.database_instance:
        return
    if isinstance(status.figures, Denied):
        yield f"CloudWatch: {status.figures}"
        return
    lag, free = status.figures.slot_lag_bytes, status.figures.database_free_bytes
    if isinstance(found, Database) and not found.unreachable:
        yield f"free storage {size_text(free)}"
    else:
        yield f"CloudWatch: oldest slot retains {size_text(lag)}, free storage {size_text(free)}"


def slot_text(slot: Slot) -> str:
    state = "active" if slot.is_active else "inactive"
    limit = "no limit" if slot.safe_wal_size is None else f"lost in {size_text(slot.safe_wal_size)}"
    wal = f"log {slot.wal_status or '-'}, {limit}"
    return f"slot {slot.name} ({slot.plugin}): {state}, retains {size_text(slot.retained_bytes)}; {wal}"


def dms_texts(status: Status) -> Iterator[str]:
    found = status.instance
    if isinstance(found, Instance):
        free = measured(status, lambda one: f"free storage {size_text(one.replication_free_bytes)}")
        yield f"instance {found.status}, {found.size}, engine {found.engine_version or '-'}, {free}"
    else:
        yield f"instance {absent_or_denied(found)}"
    task = status.task
    if not isinstance(task, Task):
        yield f"task {absent_or_denied(task)}"
        return
    since = ""
    if task.status == "running" and task.started_at:
        since = f" for {span((status.read_at - task.started_at).total_seconds())}"
    stop = f" ({task.stop_reason})" if task.stop_reason and task.status != "running" else ""
    percent = "-" if task.full_load_percent is None else f"{task.full_load_percent} %"
    yield f"task {task.status}{since}{stop}; " + measured(status, latency_text)
    yield (
        f"full load {percent}: tables {task.tables_loaded} loaded, {task.tables_loading} loading, "
        f"{task.tables_queued} queued, {task.tables_errored} in error"
    )


def latency_text(seen: Figures) -> str:
    source, target = span(seen.source_latency_seconds), span(seen.target_latency_seconds)
    return f"latency {source} at the source, {target} at the target"


def stream_texts(status: Status) -> Iterator[str]:
    found = status.stream
    if not isinstance(found, Stream):
        yield absent_or_denied(found)
        return
    yield f"{found.name} {found.status}, {found.mode}, {plural(found.shards, 'shard')}"
    yield measured(
        status,
        lambda one: (
            f"records {count(one.records)} in the last hour, {count(one.records_10_minutes)} in 10 min; "
            f"iterator age {'-' if one.iterator_age_ms is None else span(one.iterator_age_ms / 1000)}"
        ),
    )


def function_texts(status: Status) -> Iterator[str]:
    found, mapping = status.function, status.mapping
    if isinstance(found, Function):
        yield f"{found.name} version {found.version}, code {found.code_sha256[:12]}"
        yield measured(status, calls_text)
    else:
        yield absent_or_denied(found)
    if isinstance(mapping, EventSourceMapping):
        yield f"mapping {mapping.state}, last result: {mapping.last_result or '-'}"
    else:
        yield f"mapping {absent_or_denied(mapping)}"


def calls_text(seen: Figures) -> str:
    average, longest = seen.duration_average_ms, seen.duration_longest_ms
    return (
        f"last hour: {count(seen.invocations)} invocations, {count(seen.errors)} errors, "
        f"{count(seen.throttles)} throttles; {count(average)} ms on average, {count(longest)} at most"
    )


def bucket_texts(status: Status) -> Iterator[str]:
    if isinstance(status.landed, Denied):
        yield f"{status.bucket}/{status.prefix}: {status.landed}"
    else:
        newest = max((one.count.newest for one in status.landed if one.count.newest), default=None)
        today = [one.count for one in status.landed if one.day == status.read_at.date()]
        at_least = "at least " if any(one.is_at_least for one in today) else ""
        objects = f"{at_least}{plural(sum(one.objects for one in today), 'object')} of today"
        tables = plural(len(status.landed), "table")
        yield f"{status.bucket}/{status.prefix}: {tables}, {objects}, the last {ago(status, newest)}"
    held = (("quarantined in 7 days", status.quarantined), ("given up", status.given_up))
    yield "; ".join(f"{label}: {found}" for label, found in held)


def alarm_texts(status: Status) -> Iterator[str]:
    found = status.alarms
    if isinstance(found, Denied):
        yield str(found)
        return
    yield f"{len(found.ok)} OK, {len(found.alarm)} ALARM, {len(found.insufficient_data)} INSUFFICIENT_DATA"
    if found.alarm:
        yield f"ALARM: {', '.join(found.alarm)}"


def measured(status: Status, text: Callable[[Figures], str]) -> str:
    return str(status.figures) if isinstance(status.figures, Denied) else text(status.figures)


# --------------------------------------------------------------------------------------------------------
# Tables, figures
# --------------------------------------------------------------------------------------------------------

COLUMNS = ("TABLE", "state", "loaded", "inserts", "updates", "deletes", "last object", "objects", "of day")


def table_lines(status: Status, width: int) -> Iterator[str]:
    """One line a table of DMS or of the bucket; broken ones first."""
    for label, found in (("tables of DMS", status.tables), ("tables of S3", status.landed)):
        if isinstance(found, Denied):
            yield f"{label}: {found}"
    rows = list(table_rows(status))
    shown = [COLUMNS, *rows[:TABLES_SHOWN]]
    widths = [max(len(row[column]) for row in shown) for column in range(len(COLUMNS))]
    widths[0] = max(12, min(widths[0], width - sum(widths[1:]) - 2 * len(widths[1:])))
    for row in shown if rows else []:
        cells = [shortened(row[0], widths[0]).ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(size) for cell, size in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join(cells)
    if len(rows) > TABLES_SHOWN:
        yield f"and {len(rows) - TABLES_SHOWN} more: --json"


def table_rows(status: Status) -> Iterator[tuple[str, ...]]:
    tables = () if isinstance(status.tables, Denied) else status.tables
    landed = {} if isinstance(status.landed, Denied) else {(t.schema, t.table): t for t in status.landed}
    for one in tables:
        counts = (one.loaded, one.inserts, one.updates, one.deletes)
        state = one.state.removeprefix("Table ").removeprefix("is ").lower()
        objects = landed_cells(status, landed.pop((one.schema, one.table), None))
        yield (as_ascii(one.name), as_ascii(state), *(short_count(number) for number in counts), *objects)
    for rest in landed.values():
        dashes = ("-",) * 5
        yield (as_ascii(f"{rest.schema}.{rest.table}"), *dashes, *landed_cells(status, rest))


def landed_cells(status: Status, found: TableLanded | None) -> tuple[str, str, str]:
    if found is None:
        return "-", "-", "-"
    more = "+" if found.count.is_at_least else ""
    return ago(status, found.count.newest), f"{count(found.count.objects)}{more}", f"{found.day}"


def shortened(name: str, size: int) -> str:
    return name if len(name) <= size else f"{name[: size - 2]}.."


def ago(status: Status, moment: datetime | None) -> str:
    return "-" if moment is None else f"{span((status.read_at - moment).total_seconds())} ago"


def span(seconds: float | None) -> str:
    """ "12 s", "3 min", "5 h", "2 days"; of clocks that differ, "0 s"."""
    if seconds is None:
        return "-"
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def size_text(number: float | None) -> str:
    """ "1.2 MB": decimal, as disks are sold."""
    if number is None:
        return "-"
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if abs(number) >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} B"


def count(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def short_count(number: int) -> str:
    """ "1,234" or, from ten millions on, "1,234 M": columns are narrow."""
    return count(number) if number < 10**7 else f"{number // 10**6:,} M"


def plural(number: int, noun: str, nouns: str = "") -> str:
    """ "1 table", "2 tables" """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
