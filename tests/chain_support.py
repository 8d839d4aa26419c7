"""What tests of the whole chain share: an emulated AWS in this process, the wire to it, apply and destroy.

The wire sees every request of every client: it notes it, checks it against the service's model as AWS does
and botocore does not (enums, patterns, greatest lengths), and may refuse it, or end the program before or
after it. The database itself can't be reached, as from a laptop.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any

import boto3
import psycopg2
import pytest
from botocore import UNSIGNED
from botocore.useragent import UserAgentString
from moto import mock_aws
from moto.core import responses
from moto.core.utils import method_names_from_class

from local_run.aws import CURRENT, EmulatedAws, install_model
from provision import verbs
from provision.aws import Account
from provision.demolition import SlotsLeft, end, plan_destroy
from provision.engine import Observed, Resource, Step, observe, plan
from provision.pipeline import Pipeline
from provision.plan_text import Plan
from provision.replication_task import Table
from provision.settings import Settings
from provision.surroundings import look_around

REGION, ACCOUNT_ID = "eu-west-1", "123456789012"
PASSWORD = "correct-horse-battery"
READS = ("Describe", "Get", "List", "Head")
VARIANTS = ("existing", "created", "elsewhere")

# --------------------------------------------------------------------------------------------------------
# The wire
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    service: str
    operation: str
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        """dms.CreateEndpoint"""
        return f"{self.service}.{self.operation}"

    @property
    def is_write(self) -> bool:
        return not self.operation.startswith(READS)


class Killed(BaseException):
    """As SIGKILL would end the program: nothing on the way catches it."""


def nothing(call: Call) -> None:
    """The wire's normal course."""


@dataclass
class Wire:
    """calls and faults grow; a test sets what is asked before, answered instead, or done after a call."""

    calls: list[Call] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # requests outside the service's model
    before: Callable[[Call], None] = nothing
    refuse: Callable[[Call], tuple[str, str] | None] = nothing  # code and message
    after: Callable[[Call], None] = nothing

    def sent(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        call = Call(model.service_model.service_name, model.name, dict(params))
        self.faults += [f"{call.name}{fault}" for fault in model_faults(params, model.input_shape, "")]
        self.calls.append(call)
        self.before(call)

    def asked(self, model: Any, **_: Any) -> Any:
        refusal = self.refuse(self.calls[-1])
        if refusal is None:
            return None
        error = {"Code": refusal[0], "Message": refusal[1]}
        return Answered(), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}

    def answered(self, parsed: dict[str, Any], **_: Any) -> None:
        call = self.calls[-1]
        if "Error" in parsed:
            return
        self.after(call)

    def release(self) -> None:
        """Goes on as normal; what was seen stays."""
        self.before, self.refuse, self.after = nothing, nothing, nothing

    def forget(self) -> None:
        self.calls.clear()
        self.faults.clear()
        self.release()

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.is_write]

    def names(self) -> list[str]:
        return [call.name for call in self.calls]


class Answered:
    status_code = 400


# Patterns of botocore's models that AWS itself does not hold to: the path of the parameter, and why.
WRONG_PATTERNS: dict[str, str] = {}


def model_faults(value: Any, shape: Any, path: str) -> Iterator[str]:
    """What AWS refuses of a request and botocore lets through."""
    if shape is None:
        return
    limits = shape.metadata
    if shape.type_name == "structure":
        for name, inner in value.items():
            if name in shape.members:
                yield from model_faults(inner, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for inner in value:
            yield from model_faults(inner, shape.member, f"{path}[]")
    elif shape.type_name == "map":
        for name, inner in value.items():
            yield from model_faults(name, shape.key, f"{path}.key")
            yield from model_faults(inner, shape.value, f"{path}.value")
    elif shape.type_name == "string":
        if shape.enum and value not in shape.enum:
            yield f"{path}: {value!r} is none of {shape.enum}"
        if "pattern" in limits and path not in WRONG_PATTERNS and not matches(limits["pattern"], value):
            yield f"{path}: {value!r} does not match {limits['pattern']}"
    if shape.type_name in ("string", "list", "map", "blob") and hasattr(value, "__len__"):
        if "max" in limits and len(value) > limits["max"]:
            yield f"{path}: {len(value)} is longer than {limits['max']}"
        if len(value) < limits.get("min", 0):
            yield f"{path}: {len(value)} is shorter than {limits['min']}"
    is_number = shape.type_name in ("integer", "long", "float", "double")
    if is_number and not limits.get("min", value) <= value <= limits.get("max", value):
        yield f"{path}: {value} is not from {limits.get('min')} to {limits.get('max')}"


def matches(pattern: str, value: str) -> bool:
    """A pattern of a service model, written for Java, is of the whole text."""
    try:
        return re.fullmatch(in_python(pattern), value) is not None
    except re.error as error:
        raise ValueError(f"{pattern}: {error}") from error


CLASSES = {
    r"\p{L}": "A-Za-z",
    r"\p{Z}": " ",
    r"\p{N}": "0-9",
    r"\p{Alpha}": "A-Za-z",
    r"\p{Punct}": r"!-/:-@\[-`{-~",
    r"\p{Print}": r" -~",
    r"\p{Graph}": r"!-~",
    r"\p{ASCII}": r"\x00-\x7f",
}


def in_python(pattern: str) -> str:
    """With Java's and PCRE's spellings as Python has them; our texts are ASCII."""
    for java, python in CLASSES.items():
        pattern = pattern.replace(java, python)
    pattern = re.sub(r"\\x\{([0-9A-Fa-f]+)\}", lambda found: f"\\U{int(found[1], 16):08x}", pattern)
    return re.sub(r"\\u\{?([0-9A-Fa-f]{4})\}?", r"\\u\1", pattern)


# --------------------------------------------------------------------------------------------------------
# The world: an account with a network and, perhaps, a database
# --------------------------------------------------------------------------------------------------------


@dataclass
class World:
    account: Account
    aws: EmulatedAws
    wire: Wire
    settings: Settings
    told: list[str] = field(default_factory=list)
    catalog: tuple[Table, ...] | None = None  # None: the database can't be reached
    starts_at: datetime | None = None  # what has landed says so

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.settings, self.account, code)

    def client(self, service: str) -> Any:
        return self.account.client(service)

    def with_settings(self, **changed: Any) -> World:
        return replace(self, settings=replace(self.settings, **changed))


def new_world(session: Any, clients: dict[str, Any], wire: Wire, variant: str = "existing") -> World:
    """An empty account but for what the variant needs: subnets, and for "existing" an RDS instance.

    The database that "created" makes has a table as soon as it is looked at: the task can start at once.
    """
    CURRENT[0].reset()
    aws = CURRENT[0]
    aws.tables = [("public", "loan")]
    told: list[str] = []
    account = Account(
        session, "lending", poll_seconds=0, sleep=lambda seconds: None, tell=told.append, clients=clients
    )
    wire.forget()
    settings = settings_of(variant, account)
    wire.forget()
    catalog = (("public", "loan", True),) if variant == "created" else None
    return World(account, aws, wire, settings, told, catalog)


def settings_of(variant: str, account: Account, **more: str) -> Settings:
    subnets = [one["SubnetId"] for one in account.client("ec2").describe_subnets()["Subnets"]]
    chosen = {
        "existing": lambda: {"PGHOST": existing_database(account, subnets)},
        "created": lambda: {"CREATE_RDS": "true", "SUBNET_IDS": ",".join(subnets)},
        "elsewhere": lambda: {"PGHOST": "db.example.org", "SUBNET_IDS": ",".join(subnets)},
    }
    values = {
        "S3_BUCKET": "lending-rows",
        "PIPELINE_NAME": "lending",
        "PGDATABASE": "lending",
        "PGUSER": "dms",
        "PGPASSWORD": PASSWORD,
        "TABLES": "public.loan,public.%",
        "ALARM_EMAIL": "ops@example.org",
    }
    return Settings.from_mapping({**values, **chosen[variant](), **more})


def existing_database(account: Account, subnets: list[str]) -> str:
    """The host of an RDS instance that somebody else has made."""
    ec2, rds = account.client("ec2"), account.client("rds")
    vpc_id = ec2.describe_subnets(SubnetIds=subnets[:1])["Subnets"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="database", Description="theirs", VpcId=vpc_id)["GroupId"]
    rds.create_db_subnet_group(
        DBSubnetGroupName="theirs", DBSubnetGroupDescription="theirs", SubnetIds=subnets
    )
    rds.create_db_instance(
        DBInstanceIdentifier="orders",
        Engine="postgres",
        DBInstanceClass="db.t4g.medium",
        AllocatedStorage=20,
        MasterUsername="dba",
        MasterUserPassword=PASSWORD,
        DBSubnetGroupName="theirs",
        VpcSecurityGroupIds=[group],
    )
    while True:
        found = rds.describe_db_instances(DBInstanceIdentifier="orders")["DBInstances"][0]
        if found["DBInstanceStatus"] == "available":
            return str(found["Endpoint"]["Address"])


def code() -> bytes:
    """A zip that Lambda takes."""
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as file:
        file.writestr(zipfile.ZipInfo("lambda_function.py"), "def lambda_handler(event, context): return {}")
    return stored.getvalue()


# --------------------------------------------------------------------------------------------------------
# Apply, destroy
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Applied:
    """The steps of the plan that was applied, and what there is then."""

    chain: list[Resource]
    observed: Observed
    steps: list[Step]

    @property
    def work(self) -> list[Step]:
        return [step for step in self.steps if step.is_work]


def no_report(event: str, step: Step, seconds: float) -> None:
    """Nobody watches."""


def seen(world: World) -> tuple[list[Resource], Observed]:
    """The chain and what there is of it."""
    around = look_around(world.account, world.settings)
    if world.catalog is not None:
        around = replace(around, catalog=world.catalog, unseen="")
    if world.starts_at is not None:
        around = replace(around, starts_at=world.starts_at)
    chain = world.pipeline.chain(around)
    return chain, observe(chain)


def planned(world: World) -> list[Step]:
    return plan(*seen(world))


def apply(world: World, report: Callable[[str, Step, float], None] = no_report) -> Applied:
    """The verb, with a plan that has no notes and no estimate: they would ask the database."""
    chain, observed = seen(world)
    steps = [step for step in plan(chain, observed) if verbs.is_visible(step)]
    no_estimate: Any = None
    made = Plan(world.account.pipeline, REGION, ACCOUNT_ID, steps, observed, (), no_estimate)
    return Applied(chain, verbs.apply(world.pipeline, made, chain, report), steps)


def destroy_all(world: World) -> SlotsLeft:
    """The verb; draining the stream."""
    pipeline = world.pipeline
    return end(pipeline, plan_destroy(pipeline), is_drained=True, report=no_report, tell=world.told.append)


@contextmanager
def killed(world: World, *, before: int = 0, after: int = 0) -> Iterator[list[str]]:
    """Ends the program before, or after, its write of this number; the names of its writes."""
    writes: list[str] = []

    def count(call: Call) -> None:
        if call.is_write:
            if before and len(writes) + 1 == before:
                raise Killed(call.name)
            writes.append(call.name)

    def stop(call: Call) -> None:
        if call.is_write and after and len(writes) == after:
            raise Killed(call.name)

    world.wire.before, world.wire.after = count, stop
    try:
        with suppress(Killed):
            yield writes
    finally:
        world.wire.release()


# --------------------------------------------------------------------------------------------------------
# What an account has
# --------------------------------------------------------------------------------------------------------

RANDOM = (
    (re.compile(r"\b(vpc|subnet|sg|sgr|rtb|vpce|eni)-[0-9a-f]+"), r"\1-ID"),
    (re.compile(r":(rep|endpoint|task):[A-Za-z0-9]+"), r":\1:ID"),
    (re.compile(r"\b[A-Z0-9]{26}\b"), "ID"),
    (re.compile(r"(:secret:[a-z-]+)-[A-Za-z0-9]{6}"), r"\1-ID"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\bAROA[A-Z0-9]+"), "ROLE-ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[0-9.:+]*"), "TIME"),
    (re.compile(r"-final-\d{8}-\d{6}-\d{6}"), "-final-TIME"),
)


def normalised(value: Any) -> Any:
    """With what AWS makes up, and the time, taken out."""
    text = json.dumps(value, default=str, sort_keys=True)
    for pattern, instead in RANDOM:
        text = pattern.sub(instead, text)
    return json.loads(text)


# An id in the attributes that says how often something was made is no part of the state.
COUNTED = {"version", "resource_id", "id", "pending", "created_at"}


def state_of(observed: Mapping[str, Any]) -> dict[str, Any]:
    """What every find saw."""
    return {
        name: live
        and normalised(
            {
                "values": live.values,
                "attributes": {key: value for key, value in live.attributes.items() if key not in COUNTED},
                "ours": live.is_ours,
            }
        )
        for name, live in observed.items()
    }


def listed(world: World, service: str, operation: str, key: str, name: str, **parameters: Any) -> list[str]:
    """The names of all objects of a sort, asked of AWS without the kinds."""
    client = world.client(service)
    if client.can_paginate(operation):
        pages = list(client.get_paginator(operation).paginate(**parameters))
    else:
        pages = [getattr(client, operation)(**parameters)]
    found = [one for page in pages for one in page.get(key, [])]
    return sorted(one if isinstance(one, str) else str(one[name]) for one in found)


SORTS: Mapping[str, tuple[str, str, str, str]] = {
    "buckets": ("s3", "list_buckets", "Buckets", "Name"),
    "streams": ("kinesis", "list_streams", "StreamNames", ""),
    "functions": ("lambda", "list_functions", "Functions", "FunctionName"),
    "mappings": ("lambda", "list_event_source_mappings", "EventSourceMappings", "FunctionArn"),
    "log groups": ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    "metric filters": ("logs", "describe_metric_filters", "metricFilters", "filterName"),
    "alarms": ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    "dashboards": ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    "rules": ("events", "list_rules", "Rules", "Name"),
    "topics": ("sns", "list_topics", "Topics", "TopicArn"),
    "subscriptions": ("sns", "list_subscriptions", "Subscriptions", "Endpoint"),
    "groups": ("ec2", "describe_security_groups", "SecurityGroups", "GroupName"),
    "rules of groups": (
        "ec2",
        "describe_security_group_rules",
        "SecurityGroupRules",
        "SecurityGroupRuleId",
    ),
    "roles": ("iam", "list_roles", "Roles", "RoleName"),
    "DMS subnet groups": (
        "dms",
        "describe_replication_subnet_groups",
        "ReplicationSubnetGroups",
        "ReplicationSubnetGroupIdentifier",
    ),
    "replication instances": (
        "dms",
        "describe_replication_instances",
        "ReplicationInstances",
        "ReplicationInstanceIdentifier",
    ),
    "DMS endpoints": ("dms", "describe_endpoints", "Endpoints", "EndpointIdentifier"),
    "connections": ("dms", "describe_connections", "Connections", "EndpointIdentifier"),
    "tasks": ("dms", "describe_replication_tasks", "ReplicationTasks", "ReplicationTaskIdentifier"),
    "databases": ("rds", "describe_db_instances", "DBInstances", "DBInstanceIdentifier"),
    "DB subnet groups": ("rds", "describe_db_subnet_groups", "DBSubnetGroups", "DBSubnetGroupName"),
    "DB parameter groups": (
        "rds",
        "describe_db_parameter_groups",
        "DBParameterGroups",
        "DBParameterGroupName",
    ),
    "snapshots": ("rds", "describe_db_snapshots", "DBSnapshots", "DBSnapshotIdentifier"),
    "automated backups": (
        "rds",
        "describe_db_instance_automated_backups",
        "DBInstanceAutomatedBackups",
        "DBInstanceIdentifier",
    ),
}


def inventory(world: World) -> dict[str, list[str]]:
    """Every object of the account by its sort; sorts without one are left out."""
    found = {}
    for sort, (service, operation, key, name) in SORTS.items():
        with suppress(world.client("dms").exceptions.ResourceNotFoundFault):  # DMS's word for none
            found[sort] = normalised(listed(world, service, operation, key, name))
    found["streams"] = [name for name in found["streams"] if not is_leaving(world, name)]
    ec2, secrets = world.client("ec2"), world.client("secretsmanager")
    found["VPC endpoints"] = sorted(
        one["ServiceName"]
        for one in ec2.describe_vpc_endpoints()["VpcEndpoints"]
        if one["State"].lower() != "deleted"
    )
    found["secrets"] = sorted(
        f"{one['Name']}{' (scheduled for deletion)' if 'DeletedDate' in one else ''}"
        for one in secrets.list_secrets(IncludePlannedDeletion=True)["SecretList"]
    )
    return {sort: names for sort, names in found.items() if names}


def is_leaving(world: World, stream: str) -> bool:
    """AWS deletes a stream in its own time, after the call."""
    client = world.client("kinesis")
    try:
        summary = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    except client.exceptions.ResourceNotFoundException:
        return True
    return bool(summary["StreamStatus"] == "DELETING")


def resource_named(chain: Sequence[Resource], name: str) -> Resource:
    return next(one for one in chain if one.name == name)


@contextmanager
def emulated() -> Iterator[tuple[Any, Wire, Any]]:
    """A session, its wire, and the emulated AWS of this process; the database can't be reached."""

    def unreachable(**_: Any) -> Any:
        raise psycopg2.OperationalError("could not translate host name")

    wire, mock = Wire(), mock_aws()
    session = new_session(wire)
    session.events.register("choose-signer", lambda **_: UNSIGNED)  # requests stay in this process
    with pytest.MonkeyPatch.context() as patch:
        # Each costs a tenth of a call.
        patch.setattr(responses, "method_names_from_class", cache(method_names_from_class))
        patch.setattr(UserAgentString, "to_string", lambda self: "tests")
        patch.setattr(psycopg2, "connect", unreachable)
        install_model()
        mock.start()
        yield session, wire, mock
        mock.stop()


def new_session(wire: Wire) -> Any:
    """All of its clients are on the wire."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    session.events.register("provide-client-params", wire.sent)
    session.events.register("before-call", wire.asked)
    session.events.register("after-call", wire.answered)
    return session
