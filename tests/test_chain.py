"""The whole chain: applied, taken apart by hand, changed behind our back, interrupted, denied, destroyed.

Against the emulated AWS of local_run, in this process. SOAK=1 adds the runs that interrupt each write alone.
"""

from __future__ import annotations

import ast
import gc
import importlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from chain_support import (
    ACCOUNT_ID,
    REGION,
    VARIANTS,
    Applied,
    Call,
    Killed,
    Wire,
    World,
    apply,
    destroy_all,
    emulated,
    inventory,
    killed,
    model_faults,
    new_session,
    new_world,
    no_report,
    planned,
    resource_named,
    seen,
    state_of,
)
from moto.core.botocore_stubber import BotocoreStubber, MockRawResponse
from moto.core.utils import camelcase_to_underscores

from local_run.aws import INSTALLED, emulated_aws
from provision import verbs
from provision.aws import AwsError, iam_action
from provision.demolition import SlotsLeft
from provision.engine import (
    Action,
    Live,
    Observed,
    RefusedError,
    Resource,
    Step,
    execute,
    plan_step,
    resolve,
)
from provision.kinds import lambda_
from provision.verbs import secret_notes

needs_soak = pytest.mark.skipif("SOAK" not in os.environ, reason="make soak runs it")

# --------------------------------------------------------------------------------------------------------
# The account
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """An applied chain, and what there was then."""

    variant: str
    world: World
    done: Applied
    objects: dict[str, list[str]]

    def live(self, name: str) -> tuple[Resource, Live, Any]:
        """The resource, what there is of it, its spec."""
        resource, live = resource_named(self.done.chain, name), self.done.observed[name]
        assert live is not None
        return resource, live, resolve(resource.spec, self.done.observed)


@dataclass
class Connection:
    """Made once: clients cost more time than most tests. standing is a chain that tests leave as it was."""

    mock: Any
    session: Any
    wire: Wire
    clients: dict[str, Any] = field(default_factory=dict)
    standing: dict[str, Standing] = field(default_factory=dict)

    def world(self, variant: str) -> World:
        self.standing.clear()  # there is one account in this process
        return new_world(self.session, self.clients, self.wire, variant)


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    with emulated() as (session, wire, mock):
        gc.collect()
        gc.freeze()  # moto and botocore are large, and stay
        yield Connection(mock, session, wire)
        gc.unfreeze()


@pytest.fixture
def world(connection: Connection, request: pytest.FixtureRequest) -> World:
    """An account with no chain; parametrized indirectly by a variant, else with a database in RDS."""
    return connection.world(getattr(request, "param", "existing"))


@pytest.fixture
def standing(connection: Connection) -> Callable[[str], Standing]:
    """An applied chain; a test that leaves it whole says so with kept(), and the next one gets it."""

    def get(variant: str = "existing") -> Standing:
        found = connection.standing.pop(variant, None)
        if found is None:
            world = connection.world(variant)
            found = Standing(variant, world, apply(world), objects(world))
        found.world.told.clear()
        found.world.wire.forget()
        return found

    return get


@pytest.fixture
def kept(connection: Connection) -> Callable[[Standing, Applied], None]:
    """The chain is as it was, but for what AWS makes up: asserted, and noted for the next test."""

    def note(before: Standing, done: Applied) -> None:
        assert state_of(done.observed) == state_of(before.done.observed)
        assert objects(before.world) == before.objects
        connection.standing[before.variant] = replace(before, done=done)

    return note


def work(steps: list[Step]) -> list[str]:
    """["create stream", "update mapping: BatchSize"]"""
    return [
        " ".join([step.action, step.resource.name])
        + (": " + ", ".join(sorted({change.path for change in step.changes})) if step.changes else "")
        for step in steps
        if step.is_work or step.action is Action.REFUSE
    ]


# --------------------------------------------------------------------------------------------------------
# Apply, and apply again
# --------------------------------------------------------------------------------------------------------

LOUD = (
    *("slot-lag", "database-storage", "source-latency", "target-latency", "replication-storage"),
    *("iterator-age", "errors", "throttles", "quarantined", "delivery-failures", "given-up"),
)
SILENCE = ("no-records", "no-invocations")  # they ring when nothing happens
ALARMS = (*LOUD, *SILENCE)
OF_RDS = ("alarm slot-lag", "alarm database-storage")
BEFORE_DATABASE = (
    *("bucket", "failed bucket", "stream", "replication group", "endpoint group"),
    *("endpoint kinesis-streams", "endpoint secretsmanager", "endpoint logs", "endpoint s3"),
)
DATABASE = {
    "existing": ("database rule",),
    "created": ("database group", "database subnets", "database parameters", "database", "database rule"),
    "elsewhere": (),
}
AFTER_DATABASE = (
    *("secret", "function log", "function role", "function", "alias", "mapping"),
    *("dms-vpc-role", "dms-cloudwatch-logs-role", "secret role", "stream role", "replication subnets"),
    *("task log", "replication instance", "source endpoint", "source connection", "target endpoint"),
    *("target connection", "task", "quarantine filter", "alarm topic", "rule task-state", "rule given-up"),
    *(f"alarm {part}" for part in LOUD),
    *("dashboard", "task run", "table loads"),
    *(f"alarm {part}" for part in SILENCE),
)
CHAIN = {variant: [*BEFORE_DATABASE, *DATABASE[variant], *AFTER_DATABASE] for variant in VARIANTS}
CHAIN["elsewhere"] = [name for name in CHAIN["elsewhere"] if name not in OF_RDS]

# What the account has besides, before and after.
NETWORK = {
    "existing": {
        "groups": ["database", "default"],
        "rules of groups": ["sgr-ID", "sgr-ID"],
        "databases": ["orders"],
        "DB subnet groups": ["theirs"],
    },
    "created": {"groups": ["default"], "rules of groups": ["sgr-ID"]},
    "elsewhere": {"groups": ["default"], "rules of groups": ["sgr-ID"]},
}
MADE = {
    "buckets": ["lending-failed-123456789012", "lending-rows"],
    "streams": ["lending-stream"],
    "functions": ["lending-lambda"],
    "mappings": ["arn:aws:lambda:eu-west-1:123456789012:function:lending-lambda:live"],
    "log groups": ["/aws/lambda/lending-lambda", "dms-tasks-lending-replication"],
    "metric filters": ["quarantined"],
    "alarms": sorted(f"lending-{part}" for part in ALARMS),
    "dashboards": ["lending"],
    "rules": ["lending-given-up", "lending-task-state"],
    "topics": ["arn:aws:sns:eu-west-1:123456789012:lending-alarms"],
    "subscriptions": ["ops@example.org"],
    "roles": [
        *("dms-cloudwatch-logs-role", "dms-vpc-role"),
        *("lending-function", "lending-source", "lending-target"),
    ],
    "DMS subnet groups": ["lending-replication"],
    "replication instances": ["lending-replication"],
    "DMS endpoints": ["lending-source", "lending-target"],
    "connections": ["lending-source", "lending-target"],
    "tasks": ["lending-task"],
    "VPC endpoints": [
        f"com.amazonaws.eu-west-1.{service}"
        for service in ("kinesis-streams", "logs", "s3", "secretsmanager")
    ],
    "secrets": ["lending-login"],
}
MADE_BY = {
    "existing": MADE
    | {
        "groups": ["database", "default", "lending-endpoints", "lending-replication"],
        "rules of groups": ["sgr-ID"] * 6,
        "databases": ["orders"],
        "DB subnet groups": ["theirs"],
    },
    "created": MADE
    | {
        "groups": ["default", "lending-database", "lending-endpoints", "lending-replication"],
        "rules of groups": ["sgr-ID"] * 5,
        "databases": ["lending-database"],
        "DB subnet groups": ["lending-database"],
        "DB parameter groups": ["lending-postgres17"],
    },
    "elsewhere": MADE
    | {
        "groups": ["default", "lending-endpoints", "lending-replication"],
        "rules of groups": ["sgr-ID"] * 4,
        "alarms": [
            name for name in MADE["alarms"] if name not in ("lending-slot-lag", "lending-database-storage")
        ],
    },
}
KEPT = {
    "buckets": ["lending-failed-123456789012", "lending-rows"],
    "roles": ["dms-cloudwatch-logs-role", "dms-vpc-role"],
    "secrets": ["lending-login (scheduled for deletion)"],
}
LEFT = {
    "existing": NETWORK["existing"] | KEPT,
    "created": NETWORK["created"] | KEPT | {"snapshots": ["lending-database-final-TIME"]},
    "elsewhere": NETWORK["elsewhere"] | KEPT,
}


def objects(world: World) -> dict[str, list[str]]:
    """The account's, without what RDS makes by itself."""
    found = inventory(world)
    found.pop("automated backups", None)
    for sort, own in (("snapshots", "rds:"), ("DB parameter groups", "default.")):
        names = [name for name in found.pop(sort, []) if not name.startswith(own)]
        found |= {sort: names} if names else {}
    return found


@pytest.mark.parametrize("world", VARIANTS, indirect=True)
def test_apply_on_an_empty_account_makes_the_chain_and_then_finds_nothing_to_do(
    world: World, request: pytest.FixtureRequest
) -> None:
    variant = request.node.callspec.params["world"]
    assert objects(world) == NETWORK[variant]
    done = apply(world)
    assert [resource.name for resource in done.chain] == CHAIN[variant]
    assert {step.action for step in done.steps} <= {Action.CREATE, Action.KEEP}
    assert objects(world) == MADE_BY[variant]
    assert world.wire.faults == []
    again = apply(world)
    assert work(again.steps) == []
    assert {step.resource.name for step in again.steps if step.action is Action.FOREIGN} == {
        *("dms-vpc-role", "dms-cloudwatch-logs-role")
    }
    assert not any(step.changes for step in again.steps)


ASK_FOR_SLOTS = (
    "SELECT slot_name, active, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS kept_bytes"
    " FROM pg_replication_slots WHERE database = 'lending';",
    "SELECT pg_drop_replication_slot('<slot_name>');",
)


@pytest.mark.parametrize("world", VARIANTS, indirect=True)
def test_destroy_leaves_rows_shared_roles_and_what_can_be_restored(
    world: World, request: pytest.FixtureRequest
) -> None:
    apply(world)
    slots = destroy_all(world)
    assert objects(world) == LEFT[request.node.callspec.params["world"]]
    assert world.wire.faults == []
    # A slot goes with the database; one that could not be asked for it may have it still.
    is_gone = request.node.callspec.params["world"] == "created"
    assert slots == SlotsLeft(unseen_sql=() if is_gone else ASK_FOR_SLOTS)
    destroy_all(world)
    assert objects(world) == LEFT[request.node.callspec.params["world"]]


def test_apply_after_destroy_makes_the_chain_again(world: World) -> None:
    apply(world)
    before = objects(world)
    destroy_all(world)
    apply(world)
    assert objects(world) == before


def test_the_chain_is_applied_and_destroyed_through_the_server_too(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.mock.stop(remove_data=False)
    connection.standing.clear()
    wire = Wire()
    session = new_session(wire)
    try:
        with emulated_aws() as aws:
            monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
            world = new_world(session, {}, wire)
            apply(world)
            assert work(planned(world)) == []
            assert objects(world) == MADE_BY["existing"]
            destroy_all(world)
            assert objects(world) == LEFT["existing"]
    finally:
        connection.mock.start(reset=False)


# --------------------------------------------------------------------------------------------------------
# Deleted by hand
# --------------------------------------------------------------------------------------------------------

HAS_GROUP = "can't be deleted: it is still used by"
HAS_USERS = "InvalidResourceStateFault"
# AWS refuses to delete these while the chain uses them.
NOT_DELETABLE = {
    "replication group": HAS_GROUP,
    "endpoint group": HAS_GROUP,
    "database group": HAS_GROUP,
    "replication subnets": f"{HAS_USERS}: .* is in use by a replication instance",
    "replication instance": f"{HAS_USERS}: .* has one or more replication tasks",
    "source endpoint": f"{HAS_USERS}: .* is part of one or more replication tasks",
    "target endpoint": f"{HAS_USERS}: .* is part of one or more replication tasks",
    "task": f"{HAS_USERS}: .* cannot be deleted while it is running",
    "database subnets": "InvalidDBSubnetGroupStateFault",
    "database parameters": "InvalidDBParameterGroupState",
}
# What apply does; of the others, it creates just what was deleted. A ref to what is not there is not known
# until it is made again, so what has such a ref is written too.
REPAIRS = {
    "stream": ["create stream", "create mapping", "update target endpoint: KinesisSettings.StreamArn"],
    "secret": [
        "create secret",
        "update secret role: Policies.lending-source.Statement",
        "update source endpoint: PostgreSQLSettings.SecretsManagerSecretId",
    ],
    "function log": ["create function log", "create quarantine filter"],
    "function role": [
        *("create function role", "update function: Role"),
        "update alias: Configuration.Role",
    ],
    "function": ["create function", "create alias"],
    "secret role": [
        "create secret role",
        "update source endpoint: PostgreSQLSettings.SecretsManagerAccessRoleArn",
    ],
    "stream role": [
        "create stream role",
        "update target endpoint: KinesisSettings.ServiceAccessRoleArn",
    ],
    "alarm topic": [
        *("create alarm topic", "update rule task-state: Targets", "update rule given-up: Targets"),
        *(f"update alarm {part}: AlarmActions, OKActions" for part in ALARMS),
    ],
    "database": ["create database", "update secret: IsCurrent"],
    "task run": ["update task run: Status"],
    "table loads": [],  # tags of the task; when nothing waits there are none
}


OF_ALARMS = tuple(f"alarm {part}" for part in ALARMS)


@pytest.mark.parametrize(
    ("variant", "name"),
    [("existing", name) for name in CHAIN["existing"] if name not in OF_ALARMS]
    + [("created", name) for name in DATABASE["created"]],
)
def test_what_is_deleted_by_hand_is_made_again(
    standing: Callable[[str], Standing],
    kept: Callable[[Standing, Applied], None],
    variant: str,
    name: str,
) -> None:
    before = standing(variant)
    resource, live, spec = before.live(name)
    if name in NOT_DELETABLE:
        with pytest.raises(AwsError, match=NOT_DELETABLE[name]):
            resource.kind.delete(live, spec)
        return kept(before, before.done)
    resource.kind.delete(live, spec)
    done = apply(before.world)
    assert work(done.steps) == REPAIRS.get(name, [f"create {name}"])
    if name == "database":
        before.objects["snapshots"] = ["lending-database-final-TIME"]
    kept(before, done)


def test_alarms_that_are_deleted_by_hand_are_made_again(
    standing: Callable[[str], Standing], kept: Callable[[Standing, Applied], None]
) -> None:
    before = standing("existing")
    for name in OF_ALARMS:
        resource, live, spec = before.live(name)
        resource.kind.delete(live, spec)
    done = apply(before.world)
    assert work(done.steps) == [f"create {name}" for name in OF_ALARMS]
    kept(before, done)


def test_a_task_that_was_stopped_and_deleted_by_hand_is_made_and_started_again(
    standing: Callable[[str], Standing], kept: Callable[[Standing, Applied], None]
) -> None:
    before = standing("existing")
    run, live, spec = before.live("task run")
    run.kind.pause(live, spec)
    task, live, spec = before.live("task")
    task.kind.delete(live, spec)
    done = apply(before.world)
    assert [step.split(":")[0] for step in work(done.steps)] == [
        *("create task", "update rule task-state"),
        *(
            "update alarm source-latency",
            "update alarm target-latency",
            "update dashboard",
            "create task run",
        ),
    ]
    kept(before, done)


# --------------------------------------------------------------------------------------------------------
# Changed behind our back
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fixed:
    """Why a key can't drift."""

    why: str


BY_HAND = {"Sid": "ByHand", "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteBucket"}
OTHER_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
DENY_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}
ALL_OUT = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.9.0.0/16"}]}
FOUND_BY = Fixed("it is found by this")


def bucket_policy(spec: Any) -> Any:
    """A statement that was added by hand."""
    resource = f"arn:aws:s3:::{spec['Bucket']}"
    return {**spec["Policy"], "Statement": [*spec["Policy"]["Statement"], {**BY_HAND, "Resource": resource}]}


# By the kind's label: for each key that can be changed another value, or how it is got from the spec, or why
# there is none; None: see BY_HANDS.
DRIFTS: Mapping[str, Mapping[str, Any]] = {
    "bucket": {
        "Encryption": {"SSEAlgorithm": "aws:kms"},
        "Lifecycle": lambda spec: spec["Lifecycle"][:1],
        "Notification": {},
        "Ownership": "BucketOwnerPreferred",
        "Policy": bucket_policy,
        "PublicAccessBlock": lambda spec: {**spec["PublicAccessBlock"], "BlockPublicAcls": False},
        "Versioning": "Suspended",
    },
    "stream": {
        "KeyId": "alias/ours",
        "RetentionPeriodHours": 24,
        "ShardCount": 2,
        "StreamMode": "ON_DEMAND",
    },
    "security group": {"IpPermissions": [ALL_OUT], "IpPermissionsEgress": [ALL_OUT]},
    "VPC endpoint": {
        "PrivateDnsEnabled": False,
        "SecurityGroupIds": None,
        "SubnetIds": lambda spec: spec["SubnetIds"][:-1],
        "RouteTableIds": [],
    },
    "rule on the database's security group": {},
    "secret": {"Description": "by hand", "IsCurrent": None},
    "log group": {"retentionInDays": 7},
    "role": {
        "AssumeRolePolicyDocument": OTHER_TRUST,
        "Description": "by hand",
        "ManagedPolicies": ["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"],
        "Policies": lambda spec: dict.fromkeys(spec["Policies"], DENY_ALL),
    },
    "function": {
        "Description": "by hand",
        "Environment": lambda_.environment({"S3_BUCKET": "other", "BY_HAND": "1"}),
        "Handler": "other.lambda_handler",
        "MemorySize": 1024,
        "Role": None,
        "Runtime": "python3.12",
        "Timeout": 60,
    },
    "alias": {"Configuration": None},
    "event source mapping": {
        "BatchSize": 100,
        "BisectBatchOnFunctionError": False,
        "DestinationConfig": None,
        "Enabled": False,
        "FunctionResponseTypes": [],
        "MaximumBatchingWindowInSeconds": 60,
        "MaximumRecordAgeInSeconds": 3600,
        "MaximumRetryAttempts": 3,
        "ParallelizationFactor": 2,
    },
    "DMS subnet group": {
        "ReplicationSubnetGroupDescription": "by hand",
        "SubnetIds": lambda spec: spec["SubnetIds"][:-1],
    },
    "replication instance": {
        "AllocatedStorage": 100,
        "AutoMinorVersionUpgrade": False,
        "MultiAZ": True,
        "ReplicationInstanceClass": "dms.t3.large",
        "VpcSecurityGroupIds": None,
    },
    "DMS endpoint": {
        "PostgreSQLSettings": lambda spec: {**spec["PostgreSQLSettings"], "ExecuteTimeout": 10},
        "SslMode": "none",
        "KinesisSettings": lambda spec: {**spec["KinesisSettings"], "IncludeNullAndEmpty": False},
    },
    "connection": {
        "EndpointArn": FOUND_BY,
        "EndpointIdentifier": FOUND_BY,
        "ReplicationInstanceArn": FOUND_BY,
        "Status": None,
    },
    "replication task": {
        "ReplicationTaskSettings": lambda spec: {
            **spec["ReplicationTaskSettings"],
            "ErrorBehavior": {**spec["ReplicationTaskSettings"]["ErrorBehavior"], "RecoverableErrorCount": 7},
        },
        "TableMappings": lambda spec: {
            **spec["TableMappings"],
            "rules": dict(list(spec["TableMappings"]["rules"].items())[:-1]),
        },
    },
    "metric filter": {
        "filterPattern": "{ $.message = * }",
        "metricTransformations": [
            {"metricName": "ByHand", "metricNamespace": "lending-pipeline", "metricValue": "1"}
        ],
    },
    "topic": {
        "Endpoint": "others@example.org",
        "Policy": lambda spec: {**spec["Policy"], "Statement": []},
    },
    "event rule": {
        "Description": "by hand",
        "EventPattern": {"source": ["aws.ec2"]},
        "State": "DISABLED",
        "Targets": [{"Id": "by-hand", "Arn": f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:other"}],
    },
    "alarm": {
        "AlarmActions": [f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:other"],
        "AlarmDescription": "by hand",
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "Dimensions": [{"Name": "ByHand", "Value": "yes"}],
        "EvaluationPeriods": 11,
        "MetricName": "ByHand",
        "Namespace": "ByHand",
        "OKActions": [f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:other"],
        "Period": 120,
        "Statistic": "SampleCount",
        "Threshold": 17.0,
        "TreatMissingData": "ignore",
    },
    "dashboard": {"DashboardBody": {"widgets": []}},
    "run of the task": {
        "ReplicationTaskArn": FOUND_BY,
        "ReplicationTaskIdentifier": FOUND_BY,
        "Status": None,
    },
    "loads of new tables": {"ReplicationTaskIdentifier": FOUND_BY, "Waiting": None},
    "DB subnet group": {
        "DBSubnetGroupDescription": "by hand",
        "SubnetIds": lambda spec: spec["SubnetIds"][:-1],
    },
    "parameter group": {"Parameters": {"rds.logical_replication": "0", "rds.force_ssl": "0"}},
    "DB instance": {
        "AllocatedStorage": Fixed("storage never shrinks, and what has grown serves"),
        "AutoMinorVersionUpgrade": False,
        "BackupRetentionPeriod": 1,
        "CopyTagsToSnapshot": False,
        "DBInstanceClass": "db.t4g.micro",
        "DBParameterGroupName": None,
        "DeletionProtection": False,
        "EngineVersion": Fixed("AWS takes no older version, and a newer one serves"),
        "MaxAllocatedStorage": 500,
        "ParameterApplyStatus": None,
        "Port": 6543,
        "PubliclyAccessible": True,
        "StorageType": "gp2",
        "VpcSecurityGroupIds": None,
    },
}


def update(before: Standing, name: str, **values: Any) -> None:
    """As somebody would who uses AWS's API with care."""
    resource, _, spec = before.live(name)
    live = resource.kind.find(spec)
    assert live is not None
    resource.kind.update(live, {**spec, **values}, frozenset(values))


def take_another_group(before: Standing, name: str) -> None:
    _, _, spec = before.live(name)
    key = next(key for key in ("SecurityGroupIds", "VpcSecurityGroupIds") if key in spec)
    update(before, name, **{key: [default_group(before.world)]})


def groups_of_database(world: World) -> list[str]:
    found = world.client("rds").describe_db_instances(DBInstanceIdentifier="lending-database")
    return sorted(group["VpcSecurityGroupId"] for group in found["DBInstances"][0]["VpcSecurityGroups"])


def give_groups_to_database(world: World, group_ids: list[str]) -> None:
    world.client("rds").modify_db_instance(
        DBInstanceIdentifier="lending-database", VpcSecurityGroupIds=group_ids, ApplyImmediately=True
    )
    while groups_of_database(world) != sorted(group_ids):
        continue


def default_group(world: World) -> str:
    found = world.client("ec2").describe_security_groups(GroupNames=["default"])
    return str(found["SecurityGroups"][0]["GroupId"])


def take_our_group_away(before: Standing, name: str) -> None:
    give_groups_to_database(before.world, [default_group(before.world)])


def change_the_password(before: Standing, name: str) -> None:
    other = json.dumps({"username": "dms", "password": "by-hand"})
    before.world.client("secretsmanager").put_secret_value(SecretId="lending-login", SecretString=other)


def take_another_role(before: Standing, name: str) -> None:
    _, _, spec = before.live("function role")
    trust = json.dumps(spec["AssumeRolePolicyDocument"])
    role = before.world.client("iam").create_role(RoleName="other", AssumeRolePolicyDocument=trust)["Role"]
    update(before, name, Role=role["Arn"])
    before.world.client("iam").delete_role(RoleName="other")


def forget_the_destination(before: Standing, name: str) -> None:
    _, live, _ = before.live(name)
    client = before.world.client("lambda")
    client.update_event_source_mapping(UUID=live.attributes["uuid"], DestinationConfig={"OnFailure": {}})


def publish_another_configuration(before: Standing, name: str) -> None:
    _, _, spec = before.live("alias")
    update(before, "function", MemorySize=1024)
    update(before, "alias", Configuration={**spec["Configuration"], "MemorySize": 1024})
    update(before, "function", MemorySize=512)


def fail_the_test(before: Standing, name: str) -> None:
    _, _, spec = before.live(name)
    before.world.aws.connection_failures = {spec["EndpointIdentifier"]: "password authentication failed"}
    client, ends = before.world.client("dms"), ("EndpointArn", "ReplicationInstanceArn")
    client.test_connection(**{key: spec[key] for key in ends})
    chosen = [{"Name": "endpoint-arn", "Values": [spec["EndpointArn"]]}]
    while client.describe_connections(Filters=chosen)["Connections"][0]["Status"] == "testing":
        continue
    before.world.aws.connection_failures = {}


def stop_the_task(before: Standing, name: str) -> None:
    resource, live, spec = before.live("task run")
    resource.kind.pause(live, spec)


def note_a_load(before: Standing, name: str) -> None:
    _, live, spec = before.live("task")
    rule = next(iter(spec["TableMappings"]["rules"].values()))
    mapped = [one for one in spec["TableMappings"]["rules"].values() if one["rule-type"] == "object-mapping"]
    tag = {"Key": "pipeline-load-0", "Value": str((mapped or [rule])[0]["rule-id"])}
    before.world.client("dms").add_tags_to_resource(ResourceArn=live.attributes["arn"], Tags=[tag])


def take_another_parameter_group(before: Standing, name: str) -> None:
    client = before.world.client("rds")
    group = {"DBParameterGroupName": "other", "DBParameterGroupFamily": "postgres17", "Description": "other"}
    client.create_db_parameter_group(**group)
    before.objects["DB parameter groups"] = ["lending-postgres17", "other"]
    update(before, name, DBParameterGroupName="other")


def change_a_static_parameter(before: Standing, name: str) -> None:
    for value in ("0", "1"):
        parameter = {
            "ParameterName": "rds.logical_replication",
            "ParameterValue": value,
            "ApplyMethod": "pending-reboot",
        }
        before.world.client("rds").modify_db_parameter_group(
            DBParameterGroupName="lending-postgres17", Parameters=[parameter]
        )


BY_HANDS: Mapping[tuple[str, str], Callable[[Standing, str], None]] = {
    ("VPC endpoint", "SecurityGroupIds"): take_another_group,
    ("secret", "IsCurrent"): change_the_password,
    ("function", "Role"): take_another_role,
    ("event source mapping", "DestinationConfig"): forget_the_destination,
    ("alias", "Configuration"): publish_another_configuration,
    ("replication instance", "VpcSecurityGroupIds"): take_another_group,
    ("connection", "Status"): fail_the_test,
    ("run of the task", "Status"): stop_the_task,
    ("loads of new tables", "Waiting"): note_a_load,
    ("DB instance", "VpcSecurityGroupIds"): take_our_group_away,
    ("DB instance", "DBParameterGroupName"): take_another_parameter_group,
    ("DB instance", "ParameterApplyStatus"): change_a_static_parameter,
}
ONLY_AT_REST = ("replication instance", "source endpoint", "target endpoint", "task")
SHARED = ("dms-vpc-role", "dms-cloudwatch-logs-role")


def step_of(before: Standing, name: str) -> tuple[Step, Observed]:
    resource, _, spec = before.live(name)
    observed = {**before.done.observed, name: resource.kind.find(spec)}
    return plan_step(resource, observed), observed


@pytest.mark.parametrize(
    ("variant", "name"),
    [("created", name) for name in DATABASE["created"]]
    + [("existing", name) for name in CHAIN["existing"] if name not in SHARED],
)
def test_what_is_changed_by_hand_is_seen_and_corrected(
    connection: Connection,
    standing: Callable[[str], Standing],
    kept: Callable[[Standing, Applied], None],
    variant: str,
    name: str,
) -> None:
    before = standing(variant)
    resource, _, spec = before.live(name)
    if name in ONLY_AT_REST:
        stop_the_task(before, name)
    for key in sorted(set(spec) - resource.kind.immutable - resource.kind.write_only):
        drift = DRIFTS[resource.kind.label][key]
        if isinstance(drift, Fixed):
            continue
        if drift is None:
            BY_HANDS[resource.kind.label, key](before, name)
        else:
            update(before, name, **{key: drift(spec) if callable(drift) else drift})
        step, observed = step_of(before, name)
        assert step.action is Action.UPDATE
        assert key in {change.path.partition(".")[0] for change in step.changes}
        execute(before.done.chain, [step], observed, no_report)
        assert step_of(before, name)[0].action is Action.KEEP, key
    if name in ONLY_AT_REST or name == "task run":
        kept(before, apply(before.world))
    else:
        _, observed = step_of(before, name)
        connection.standing[variant] = replace(before, done=replace(before.done, observed=observed))


@pytest.mark.parametrize("variant", ["existing"])
def test_after_these_corrections_all_is_as_it_was(
    standing: Callable[[str], Standing], kept: Callable[[Standing, Applied], None], variant: str
) -> None:
    before = standing(variant)
    kept(before, apply(before.world))


@pytest.mark.parametrize("name", SHARED)
def test_a_role_of_the_whole_account_that_was_changed_is_reported_and_left(
    standing: Callable[[str], Standing], name: str
) -> None:
    before = standing("existing")
    before.world.client("iam").update_assume_role_policy(
        RoleName=name, PolicyDocument=json.dumps(OTHER_TRUST)
    )
    before.world.wire.forget()
    done = apply(before.world)
    step = next(step for step in done.steps if step.resource.name == name)
    assert (step.action, {change.path for change in step.changes}) == (
        Action.FOREIGN,
        {"AssumeRolePolicyDocument.Statement"},
    )
    assert before.world.wire.writes == []


# --------------------------------------------------------------------------------------------------------
# Interrupted
# --------------------------------------------------------------------------------------------------------

PREFIXES = (1, 2, 9, 20, 44, 58, 74)  # writes after which a chain that is half made is destroyed


def end_of(world: World) -> tuple[dict[str, Any], dict[str, list[str]]]:
    return state_of(seen(world)[1]), objects(world)


def interrupted(world: World, run: Callable[[], Any], kill: str) -> list[str]:
    """Runs, killed before its second write or after its first, again and again until it ends by itself.

    A write that the last run was killed at too is one that each run repeats: the next one is the end, then.
    Returns the names of the writes at which it was killed.
    """
    killed_at: list[Call] = []
    done = spared = 0  # writes of this run; writes that each run repeats

    def before(call: Call) -> None:
        nonlocal done
        if call.is_write:
            done += 1
            if kill == "before" and done == spared + 2:
                stop(call)

    def after(call: Call) -> None:
        if kill == "after" and call.is_write and done == spared + 1:
            stop(call)

    def stop(call: Call) -> None:
        nonlocal spared
        spared = spared + 1 if call in killed_at[-1:] else 0
        killed_at.append(call)
        raise Killed(call.name)

    for _ in range(300):
        done = 0
        world.wire.before, world.wire.after = before, after
        try:
            run()
            return [call.name for call in killed_at]
        except Killed:
            continue
        finally:
            world.wire.release()
    raise AssertionError(f"it never ends: {[call.name for call in killed_at[-10:]]}")


OTHER_SETTINGS: Mapping[str, Any] = {
    "s3_prefix": "raw/",
    "stream_shards": 3,
    "batch_window_seconds": 60,
    "lob_max_size_kb": 32,
    "heartbeat_schema": "",
    "capture_ddls": True,
    "dms_instance_class": "dms.t3.large",
    "pgport": 6543,
    "pgpassword": "other-horse-battery",
    "alarm_email": "others@example.org",
}


@pytest.mark.parametrize("kill", ["after", pytest.param("before", marks=needs_soak)])
def test_a_change_interrupted_at_every_write_ends_as_one_that_was_not(world: World, kill: str) -> None:
    apply(world)
    changed = world.with_settings(**OTHER_SETTINGS)
    world.wire.forget()
    interrupted(changed, lambda: apply(changed), kill)
    assert work(planned(changed)) == []
    assert {**objects(changed), "subscriptions": []} == {**MADE_BY["existing"], "subscriptions": []}


def test_an_address_that_is_replaced_gets_no_mail_though_the_run_was_interrupted(
    standing: Callable[[str], Standing],
) -> None:
    world = standing("existing").world.with_settings(alarm_email="others@example.org")
    with killed(world, after=1):
        apply(world)
    apply(world)
    assert objects(world)["subscriptions"] == ["others@example.org"]


@pytest.mark.parametrize(
    ("variant", "kill"),
    [("created", "after"), ("existing", "before")],
)
def test_apply_interrupted_at_every_write_ends_as_one_that_was_not(
    connection: Connection, variant: str, kill: str
) -> None:
    world = connection.world(variant)
    apply(world)
    wanted, writes = end_of(world), len(world.wire.writes)
    world = connection.world(variant)
    killed_at = interrupted(world, lambda: apply(world), kill)
    assert len(killed_at) >= writes - 6  # a first write of a run is not killed before
    assert end_of(world) == wanted
    assert work(planned(world)) == []


@pytest.mark.parametrize(
    ("variant", "kill"), [("created", "after"), pytest.param("existing", "before", marks=needs_soak)]
)
def test_destroy_interrupted_at_every_write_ends_as_one_that_was_not(
    connection: Connection, variant: str, kill: str
) -> None:
    world = connection.world(variant)
    apply(world)
    interrupted(world, lambda: destroy_all(world), kill)
    assert objects(world) == LEFT[variant]


@pytest.mark.parametrize("number", PREFIXES)
def test_a_chain_that_is_half_made_can_be_destroyed(world: World, number: int) -> None:
    with killed(world, after=number) as writes:
        apply(world)
    assert len(writes) == number
    destroy_all(world)
    left = objects(world)
    assert {sort: left[sort] for sort in NETWORK["existing"]} == NETWORK["existing"]
    for sort, names in left.items():
        assert set(names) <= set(LEFT["existing"].get(sort, ())), sort


def write_numbers(run: str) -> list[int]:
    """One a write of the longest run; only where they are used, as that takes a run to know."""
    return list(range(1, {"apply": 90, "destroy": 60}[run])) if "SOAK" in os.environ else [1]


@needs_soak
@pytest.mark.parametrize("kill", ["before", "after"])
@pytest.mark.parametrize("number", write_numbers("apply"))
@pytest.mark.parametrize("variant", VARIANTS)
def test_apply_interrupted_at_one_write_ends_as_one_that_was_not(
    connection: Connection, variant: str, number: int, kill: str
) -> None:
    if variant not in ENDS:
        world = connection.world(variant)
        apply(world)
        ENDS[variant] = end_of(world), len(world.wire.writes)
    wanted, writes = ENDS[variant]
    if number > writes:
        pytest.skip(f"apply makes {writes} writes")
    world = connection.world(variant)
    with killed(world, **{kill: number}):
        apply(world)
    apply(world)
    assert end_of(world) == wanted


ENDS: dict[str, Any] = {}


@needs_soak
@pytest.mark.parametrize("kill", ["before", "after"])
@pytest.mark.parametrize("number", write_numbers("destroy"))
@pytest.mark.parametrize("variant", VARIANTS)
def test_destroy_interrupted_at_one_write_ends_as_one_that_was_not(
    connection: Connection, variant: str, number: int, kill: str
) -> None:
    world = connection.world(variant)
    apply(world)
    with killed(world, **{kill: number}) as writes:
        destroy_all(world)
    if len(writes) < number - 1:
        pytest.skip(f"destroy makes {len(writes)} writes")
    destroy_all(world)
    assert objects(world) == LEFT[variant]


# --------------------------------------------------------------------------------------------------------
# Not allowed, not yet, not now
# --------------------------------------------------------------------------------------------------------

DENIALS = {
    "dms": "AccessDeniedFault",
    "ec2": "UnauthorizedOperation",
    "s3": "AccessDenied",
    "iam": "AccessDenied",
    "rds": "AccessDenied",
    "sts": "AccessDenied",
    "cloudwatch": "AccessDenied",
    "sns": "AuthorizationError",
}
NOT_AN_ERROR = {"secretsmanager.GetSecretValue"}  # the secret is then written once only
OTHER_WORDS = {
    "s3.HeadBucket": "bucket lending-[a-z0-9-]+ is another account's .*, or s3:ListBucket on it is not"
}
SUBJECT = (
    r"(the caller|PostgreSQL \d+|.*\b(lending|orders|dms-vpc-role|dms-cloudwatch-logs-role|quarantined)\b.*"
    r"|.*(subnet|vpc|sg)-[0-9a-f]+.*|loads of new tables|VPC endpoint com\.amazonaws\..*"
    r"|the database's security group \(gone\)"
    r")"
)


@dataclass
class Denier:
    """Refuses each operation the first time that it is called."""

    seen: set[str] = field(default_factory=set)
    pending: list[Call] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    tolerated: set[str] = field(default_factory=set)

    def refuse(self, call: Call) -> tuple[str, str] | None:
        if call.name in self.seen:
            return None
        self.seen.add(call.name)
        self.pending.append(call)
        code = "403" if call.name == "s3.HeadBucket" else DENIALS.get(call.service, "AccessDeniedException")
        return code, "User: arn:aws:iam::123456789012:user/lin is not authorized"

    def run(self, world: World, work: Callable[[World], Any]) -> None:
        while True:
            world.wire.refuse = self.refuse
            try:
                work(world)
                error = None
            except AwsError as raised:
                error = raised
            world.wire.release()
            if error is not None:
                self.texts[self.pending.pop().name] = str(error)
            self.tolerated |= {call.name for call in self.pending}
            self.pending.clear()
            if error is None:
                return


def action_of(world: World, name: str) -> str:
    service, operation = name.split(".")
    client = world.client(service)
    methods = {api: method for method, api in client.meta.method_to_api_mapping.items()}
    return iam_action(client, methods[operation])


def test_a_call_that_is_not_allowed_is_named_with_its_object_and_the_next_run_goes_on(
    connection: Connection,
) -> None:
    denier = Denier()
    world = connection.world("created")
    apply(world)
    wanted = end_of(world)
    world = connection.world("created")
    denier.run(world, apply)
    assert end_of(world) == wanted
    denier.run(world, destroy_all)
    assert objects(world) == LEFT["created"]
    assert denier.tolerated == NOT_AN_ERROR
    assert len(denier.texts) > 100
    for name, text in denier.texts.items():
        words = f"{action_of(world, name)} on {SUBJECT} is not allowed: let your role or user do it \\(User: "
        assert re.match(OTHER_WORDS.get(name, words), text), (name, text)
        assert not re.search("Traceback|botocore|Error\\(|\\n", text), text


def test_a_refusal_names_its_object_though_the_database_is_gone(world: World) -> None:
    apply(world)
    rule = resource_named(seen(world)[0], "database rule")
    world.wire.refuse = lambda call: (
        ("UnauthorizedOperation", "no") if call.operation == "DescribeSecurityGroupRules" else None
    )
    with pytest.raises(AwsError, match=r"^ec2:DescribeSecurityGroupRules on .*[^ ] is not allowed"):
        rule.kind.find({**rule.spec, "GroupId": "", "ReferencedGroupId": "sg-0123456789abcdef0"})


def test_a_role_that_is_not_known_everywhere_yet_is_waited_for(world: World) -> None:
    world.aws.role_lag = 2
    apply(world)
    assert objects(world) == MADE_BY["existing"]
    told = "\n".join(world.told)
    assert "dms-vpc-role is not configured properly" in told
    assert "cannot be assumed by Lambda" in told
    assert {line.rpartition("; ")[2] for line in world.told} == {"that passes: trying again"}


@pytest.mark.parametrize(
    ("name", "values", "operation", "code", "message"),
    [
        (
            "mapping",
            {"BatchSize": 100},
            "lambda.UpdateEventSourceMapping",
            "ResourceInUseException",
            "Cannot update the event source mapping because it is in use.",
        ),
        (
            "bucket",
            {"Versioning": "Suspended"},
            "s3.PutBucketVersioning",
            "OperationAborted",
            "A conflicting conditional operation is currently in progress against this resource.",
        ),
    ],
    ids=["mapping in use", "bucket busy"],
)
def test_a_refusal_that_passes_is_told_and_tried_again(
    standing: Callable[[str], Standing],
    kept: Callable[[Standing, Applied], None],
    name: str,
    values: dict[str, Any],
    operation: str,
    code: str,
    message: str,
) -> None:
    before = standing("existing")
    update(before, name, **values)
    refusals = [(code, message)] * 3
    before.world.wire.refuse = lambda call: refusals.pop() if call.name == operation and refusals else None
    done = apply(before.world)
    assert [line.partition(" failed, ")[2] for line in before.world.told] == [
        f"{code}: {message}; that passes: trying again"
    ] * 3
    before.world.wire.release()
    kept(before, done)


def test_calls_that_aws_throttles_are_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tenth; botocore's own retries, without their pauses."""
    pauses: list[float] = []
    sent, answer = [0], BotocoreStubber.__call__

    def throttle(self: BotocoreStubber, event_name: str, request: Any, **named: Any) -> Any:
        service = str(urlsplit(request.url).hostname).removesuffix(".amazonaws.com").split(".")
        sent[0] += 1
        if sent[0] % 10 or "monitoring" in service:  # CloudWatch's answers would have to be CBOR
            return answer(self, event_name, request, **named)
        is_json = not {"s3", "ec2", "iam", "rds", "sns", "sts"} & set(service)
        return AWSResponse(
            request.url, 400, {}, MockRawResponse(THROTTLED_JSON if is_json else THROTTLED_XML)
        )

    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=pauses.append, time=time.time))
    monkeypatch.setattr(BotocoreStubber, "__call__", throttle)
    apply(world)
    monkeypatch.setattr(BotocoreStubber, "__call__", answer)
    assert len(pauses) > 20
    assert objects(world) == MADE_BY["existing"]


THROTTLED_JSON = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
THROTTLED_XML = b"""<Response>
<Errors><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></Errors>
<Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error><Code>Throttling</Code>
</Response>"""


# --------------------------------------------------------------------------------------------------------
# Destroyed in another state than it was made in
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "changed"),
    [
        ("existing", {"alarm_email": ""}),
        ("existing", {"vpc_endpoints": "none"}),
        ("existing", {"heartbeat_schema": "", "stream_shards": None}),
        pytest.param("created", {"create_rds": False, "pghost": "db.example.org"}),
        ("existing", {"create_rds": True, "subnet_ids": ()}),
        ("elsewhere", {"pghost": "other.c1abcdefghij.eu-west-1.rds.amazonaws.com", "subnet_ids": ()}),
    ],
    ids=["no mail", "no endpoints", "other stream", "database was made", "database was there", "no subnets"],
)
def test_destroy_finds_what_earlier_settings_made(
    connection: Connection, variant: str, changed: dict[str, Any]
) -> None:
    world = connection.world(variant)
    apply(world)
    destroy_all(world.with_settings(**changed))
    assert objects(world) == LEFT[variant]


def test_destroy_does_not_need_the_database(world: World) -> None:
    apply(world)
    client = world.client("rds")
    client.delete_db_instance(DBInstanceIdentifier="orders", SkipFinalSnapshot=True)
    while client.describe_db_instances()["DBInstances"]:
        continue
    destroy_all(world)
    assert objects(world) == {sort: names for sort, names in LEFT["existing"].items() if sort != "databases"}


@pytest.mark.parametrize("polls", [0, 2], ids=["being deleted", "gone"])
@pytest.mark.parametrize("world", ["created"], indirect=True)
def test_destroy_finds_the_parameters_of_a_database_that_is_gone(world: World, polls: int) -> None:
    apply(world)

    def stop(call: Call) -> None:
        if call.operation == "DeleteDBInstance":
            raise Killed(call.name)

    world.wire.after = stop
    with pytest.raises(Killed):
        destroy_all(world)
    world.wire.release()
    for _ in range(polls):
        world.client("rds").describe_db_instances()
    destroy_all(world.with_settings(create_rds=not polls, pghost="db.example.org"))
    left = objects(world)
    assert {**left, "alarms": []} == {**LEFT["created"], "alarms": []}


def put_record(world: World) -> None:
    client = world.client("kinesis")
    client.put_record(StreamName="lending-stream", Data=b'{"metadata": {}}', PartitionKey="public.loan.1")
    world.wire.forget()


def test_destroy_deletes_nothing_while_the_last_record_has_not_landed(
    standing: Callable[[str], Standing], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = standing("existing")
    monkeypatch.setattr("provision.demolition.DRAIN_SECONDS", -1)
    put_record(before.world)
    with pytest.raises(
        AwsError, match=r"^the last records of shardId-0{12} \(.*\) have not landed in lending-rows:"
    ):
        destroy_all(before.world)
    assert [call.operation for call in before.world.wire.writes] == ["StopReplicationTask"]
    assert len(before.world.told) == 1
    assert objects(before.world) == before.objects


def test_destroy_does_not_wait_for_a_stream_that_is_not_ours(
    standing: Callable[[str], Standing], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = standing("existing")
    monkeypatch.setattr("provision.demolition.DRAIN_SECONDS", -1)
    client = before.world.client("kinesis")
    client.remove_tags_from_stream(StreamName="lending-stream", TagKeys=["pipeline"])
    put_record(before.world)
    destroy_all(before.world)
    assert objects(before.world) == LEFT["existing"] | {"streams": ["lending-stream"]}


# --------------------------------------------------------------------------------------------------------
# Not ours
# --------------------------------------------------------------------------------------------------------


def disown(standing: Standing) -> None:
    """Takes our tag from every object; log groups get another pipeline's, as they count as ours without."""
    world, live = standing.world, standing.done.observed
    client, key = world.client, "pipeline"

    def arn(name: str) -> str:
        found = live[name]
        assert found is not None
        return str(found.attributes["arn"])

    for name in ("lending-rows", "lending-failed-123456789012"):
        client("s3").delete_bucket_tagging(Bucket=name)
    client("kinesis").remove_tags_from_stream(StreamName="lending-stream", TagKeys=[key])
    client("lambda").untag_resource(Resource=arn("function"), TagKeys=[key])
    for name in ("lending-function", "lending-source", "lending-target"):
        client("iam").untag_role(RoleName=name, TagKeys=[key])
    client("secretsmanager").untag_resource(SecretId="lending-login", TagKeys=[key])
    for name in ("function log", "task log"):
        client("logs").tag_resource(resourceArn=arn(name), tags={key: "other"})
    for name in ("rule task-state", "rule given-up"):
        client("events").untag_resource(ResourceARN=arn(name), TagKeys=[key])
    client("sns").untag_resource(ResourceArn=arn("alarm topic"), TagKeys=[key])
    for name in (*(f"alarm {part}" for part in ALARMS), "dashboard"):
        client("cloudwatch").untag_resource(ResourceARN=arn(name), TagKeys=[key])
    for name in ("replication subnets", "replication instance", "source endpoint", "target endpoint", "task"):
        client("dms").remove_tags_from_resource(ResourceArn=arn(name), TagKeys=[key])
    names = [name for name in live if name.startswith(("endpoint ", "replication group", "database "))]
    ids = [found.attributes["id"] for name in names if (found := live[name]) and "id" in found.attributes]
    client("ec2").delete_tags(Resources=ids, Tags=[{"Key": key}])
    for name in ("database", "database subnets", "database parameters"):
        if name in live:
            client("rds").remove_tags_from_resource(ResourceName=arn(name), TagKeys=[key])


@pytest.mark.parametrize("variant", ["existing", "created"])
def test_objects_of_our_names_that_are_not_ours_are_reported_and_left(
    standing: Callable[[str], Standing], variant: str
) -> None:
    before = standing(variant)
    disown(before)
    world = before.world.with_settings(batch_window_seconds=60, s3_prefix="other/", log_level="ERROR")
    was = end_of(world)
    world.wire.forget()
    steps = planned(world)
    assert {step.action for step in steps} == {Action.FOREIGN}
    changed = {
        step.resource.name: sorted({one.path for one in step.changes}) for step in steps if step.changes
    }
    assert changed == {
        "function role": ["Policies.lending-function.Statement"],
        "function": [
            *("Environment.Variables.LOG_LEVEL", "Environment.Variables.S3_PREFIX"),
        ],
        "alias": [
            *(
                "Configuration.Environment.Variables.LOG_LEVEL",
                "Configuration.Environment.Variables.S3_PREFIX",
            ),
        ],
        "mapping": ["MaximumBatchingWindowInSeconds"],
        "alarm iterator-age": ["Threshold"],
    }
    apply(world)
    destroy_all(world)
    assert world.wire.writes == []
    assert end_of(world) == was


# --------------------------------------------------------------------------------------------------------
# What can't be changed
# --------------------------------------------------------------------------------------------------------

NAME = "another name is another object"
REFUSED = "refused"
REPLACED = "replaced"

# By the kind's label, for each of its immutable keys in the chain: what another value comes to, and that.
IMMUTABLE: Mapping[str, Mapping[str, Any]] = {
    "bucket": {"Bucket": NAME},
    "stream": {"StreamName": NAME},
    "security group": {"GroupName": NAME, "VpcId": (REFUSED, "vpc-0123456789abcdef0")},
    "VPC endpoint": {"ServiceName": NAME, "VpcEndpointType": NAME, "VpcId": NAME},
    "rule on the database's security group": {
        "FromPort": (REPLACED, 6543),
        "GroupId": (REPLACED, None),  # a group of the database that has moved
        "IpProtocol": (REPLACED, "udp"),
        "ReferencedGroupId": NAME,
        "ToPort": (REPLACED, 6543),
    },
    "secret": {"Name": NAME},
    "log group": {"logGroupName": NAME},
    "role": {"RoleName": NAME, "Path": (REPLACED, "/others/")},
    "function": {"FunctionName": NAME},
    "alias": {"FunctionName": NAME, "Name": NAME},
    "event source mapping": {"EventSourceArn": NAME, "FunctionName": NAME},
    "DMS subnet group": {"ReplicationSubnetGroupIdentifier": NAME},
    "replication instance": {
        "PubliclyAccessible": (REFUSED, True),
        "ReplicationInstanceIdentifier": NAME,
        "ReplicationSubnetGroupIdentifier": (REFUSED, "other"),
    },
    "DMS endpoint": {
        "DatabaseName": (REFUSED, "other"),
        "EndpointIdentifier": NAME,
        "EndpointType": (REFUSED, "other"),
        "EngineName": (REFUSED, "other"),
    },
    "replication task": {
        "MigrationType": (REFUSED, "cdc"),
        "ReplicationInstanceArn": (REFUSED, "arn:other"),
        "ReplicationTaskIdentifier": NAME,
        "SourceEndpointArn": (REFUSED, "arn:other"),
        "TargetEndpointArn": (REFUSED, "arn:other"),
    },
    "metric filter": {"filterName": NAME, "logGroupName": NAME},
    "topic": {"Name": NAME},
    "event rule": {"Name": NAME},
    "alarm": {"AlarmName": NAME},
    "dashboard": {"DashboardName": NAME},
    "connection": {},
    "run of the task": {},
    "loads of new tables": {},
    "DB subnet group": {"DBSubnetGroupName": NAME},
    "parameter group": {"DBParameterGroupName": NAME, "DBParameterGroupFamily": (REFUSED, "postgres12")},
    "DB instance": {
        "DBInstanceIdentifier": NAME,
        "DBName": (REFUSED, "other"),
        "DBSubnetGroupName": (REFUSED, "other"),
        "Engine": (REFUSED, "mysql"),
        "MasterUsername": (REFUSED, "other"),
        "StorageEncrypted": (REFUSED, False),
    },
}
REASONS = {
    "security group": "what uses the security group stays in its VPC: destroy with the former subnets first",
    "replication instance": "the task and its position in the database's log live on it",
    "DMS endpoint": "the task would lose its position in the database's log",
    "replication task": "a new task starts at the end of the log: changes since then would be lost",
    "parameter group": "the instance runs with it: a group of another family needs another name",
    "DB instance": "a new instance would be an empty database",
}


@pytest.mark.parametrize(
    ("variant", "name"),
    [("created", name) for name in DATABASE["created"]]
    + [("existing", name) for name in CHAIN["existing"] if not name.startswith("alarm ")]
    + [("existing", "alarm errors")],
)
def test_a_key_that_can_not_be_changed_is_refused_with_the_reason_or_replaced(
    connection: Connection, standing: Callable[[str], Standing], variant: str, name: str
) -> None:
    before = standing(variant)
    resource, _, spec = before.live(name)
    declared = IMMUTABLE[resource.kind.label]
    assert sorted(set(spec) & resource.kind.immutable) == sorted(key for key in declared if key in spec)
    for key, outcome in declared.items():
        if key not in spec or outcome == NAME:
            continue
        wanted = replace(resource, spec={**spec, key: outcome[1]})
        found = resource.kind.find(wanted.spec)
        step = plan_step(wanted, {**before.done.observed, name: found})
        assert step.action is {REFUSED: Action.REFUSE, REPLACED: Action.REPLACE}[outcome[0]], key
        assert key in {change.path for change in step.changes}
        if outcome[0] == REFUSED:
            assert step.reason == REASONS[resource.kind.label]
            before.world.wire.forget()
            with pytest.raises(RefusedError, match=f"^{name}: {re.escape(step.reason)}$"):
                execute(before.done.chain, [step], before.done.observed, no_report)
            assert before.world.wire.writes == []
    connection.standing[variant] = before


def test_a_rule_that_was_changed_by_hand_is_replaced(
    standing: Callable[[str], Standing], kept: Callable[[Standing, Applied], None]
) -> None:
    """AWS lets a rule be modified in place: its tag stays, and so it is still ours."""
    before = standing("existing")
    _, live, spec = before.live("database rule")
    rule = {
        "IpProtocol": "tcp",
        "FromPort": 6543,
        "ToPort": 6543,
        "ReferencedGroupId": spec["ReferencedGroupId"],
    }
    before.world.client("ec2").modify_security_group_rules(
        GroupId=spec["GroupId"],
        SecurityGroupRules=[{"SecurityGroupRuleId": live.attributes["id"], "SecurityGroupRule": rule}],
    )
    done = apply(before.world)
    assert [(step.action, step.resource.name) for step in done.work] == [(Action.REPLACE, "database rule")]
    kept(before, done)


def test_a_role_at_another_path_is_replaced(
    standing: Callable[[str], Standing], kept: Callable[[Standing, Applied], None]
) -> None:
    """A path is part of the ARN, so what has the role is changed too."""
    before = standing("existing")
    resource, live, spec = before.live("function role")
    resource.kind.delete(live, spec)
    resource.kind.create({**spec, "Path": "/others/"})
    done = apply(before.world)
    assert [(step.action, step.resource.name) for step in done.work] == [
        (Action.REPLACE, "function role"),
        (Action.UPDATE, "function"),
        (Action.UPDATE, "alias"),
    ]
    kept(before, done)


# --------------------------------------------------------------------------------------------------------
# A new table
# --------------------------------------------------------------------------------------------------------

LOAN, BOOK = ("public", "loan"), ("public", "book")


def with_tables(world: World, *tables: tuple[str, str]) -> World:
    """The database can be reached, and has these tables."""
    world.aws.tables = list(tables)
    world.wire.forget()
    return replace(world, catalog=tuple((schema, table, True) for schema, table in tables))


def reloaded(world: World) -> list[tuple[str, str]]:
    return [
        (table["SchemaName"], table["TableName"])
        for call in world.wire.calls
        if call.operation == "ReloadTables"
        for table in call.parameters["TablesToReload"]
    ]


def load_tags(world: World) -> list[str]:
    client = world.client("dms")
    arn = client.describe_replication_tasks()["ReplicationTasks"][0]["ReplicationTaskArn"]
    tags = client.list_tags_for_resource(ResourceArn=arn)["TagList"]
    return [tag["Key"] for tag in tags if tag["Key"].startswith("pipeline-load")]


def test_a_new_table_is_added_to_the_task_and_loaded_alone(world: World) -> None:
    apply(with_tables(world, LOAN))
    larger = with_tables(world, LOAN, BOOK)
    assert [
        line for line in work(planned(larger)) if not line.startswith("update task: TableMappings.rules.")
    ] == []
    done = apply(larger)
    assert [step.resource.name for step in done.work] == ["task"]
    assert [call.operation for call in larger.wire.writes] == [
        *("StopReplicationTask", "AddTagsToResource", "ModifyReplicationTask", "StartReplicationTask"),
        *("ReloadTables", "RemoveTagsFromResource"),
    ]
    starts = [call for call in larger.wire.writes if call.operation == "StartReplicationTask"]
    assert [call.parameters["StartReplicationTaskType"] for call in starts] == ["resume-processing"]
    assert reloaded(larger) == [BOOK]
    assert load_tags(larger) == []


@pytest.mark.parametrize(
    "operation",
    ["StopReplicationTask", "AddTagsToResource", "ModifyReplicationTask", "StartReplicationTask"],
)
def test_a_new_table_is_loaded_though_the_run_was_interrupted(world: World, operation: str) -> None:
    apply(with_tables(world, LOAN))
    larger = with_tables(world, LOAN, BOOK)

    def stop(call: Call) -> None:
        if call.operation == operation:
            raise Killed(call.name)

    larger.wire.after = stop
    with pytest.raises(Killed):
        apply(larger)
    larger.wire.release()
    apply(larger)
    assert reloaded(larger) == [BOOK]
    assert load_tags(larger) == []
    assert work(planned(larger)) == []


def test_a_catalog_that_is_reached_later_loads_no_table_again(world: World) -> None:
    everywhere = world.with_settings(tables="public.%")
    everywhere.aws.tables = [LOAN, BOOK]
    apply(everywhere)
    everywhere.aws.statistics = {table: {"FullLoadRows": 17} for table in (LOAN, BOOK)}
    seeing = with_tables(everywhere, LOAN, BOOK)
    done = apply(seeing)
    assert [step.resource.name for step in done.work] == ["task"]
    assert reloaded(seeing) == []
    assert load_tags(seeing) == []


# --------------------------------------------------------------------------------------------------------
# What others add, a new login, a new database
# --------------------------------------------------------------------------------------------------------


def ranges_in(world: World, group_id: str) -> list[str]:
    """The address ranges that a group lets in."""
    found = world.client("ec2").describe_security_groups(GroupIds=[group_id])["SecurityGroups"][0]
    return sorted(one["CidrIp"] for rule in found["IpPermissions"] for one in rule["IpRanges"])


@pytest.mark.parametrize("variant", ["created", "existing"])
def test_a_rule_that_somebody_adds_to_the_database_group_stays(
    standing: Callable[[str], Standing], variant: str
) -> None:
    before = standing(variant)
    _, live, _ = before.live("database rule")
    group_id, client = live.attributes["group_id"], before.world.client("ec2")
    theirs = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "10.9.0.0/16"}]}
    client.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[theirs])
    before.world.wire.forget()
    assert work(apply(before.world).steps) == []
    assert before.world.wire.writes == []
    if variant == "created":  # our own rules of the same group are put right
        update(before, "database group", IpPermissionsEgress=[ALL_OUT])
        assert work(apply(before.world).steps) == ["update database group: IpPermissionsEgress"]
    resource, live, spec = before.live("database rule")
    resource.kind.delete(live, spec)
    assert work(apply(before.world).steps) == ["create database rule"]
    assert ranges_in(before.world, group_id) == ["10.9.0.0/16"]


def test_a_group_that_somebody_adds_to_the_made_database_stays(standing: Callable[[str], Standing]) -> None:
    before = standing("created")
    world = before.world
    _, live, _ = before.live("database group")
    ours, theirs = live.attributes["id"], default_group(world)
    give_groups_to_database(world, [theirs, ours])
    world.wire.forget()
    assert work(apply(world).steps) == []
    assert world.wire.writes == []
    give_groups_to_database(world, [theirs])
    assert work(apply(world).steps) == ["update database: VpcSecurityGroupIds"]
    assert groups_of_database(world) == sorted([ours, theirs])


@pytest.mark.parametrize("is_back", [False, True], ids=["to a made one", "back"])
def test_the_rule_goes_with_a_database_that_moves(world: World, is_back: bool) -> None:
    subnets = world.client("ec2").describe_subnets()["Subnets"]
    moved = replace(
        world.with_settings(
            create_rds=True, pghost="", subnet_ids=tuple(subnet["SubnetId"] for subnet in subnets)
        ),
        catalog=(("public", "loan", True),),
    )
    apply(world)
    assert "replace database rule: GroupId" in work(planned(moved))
    apply(moved)
    assert work(planned(moved)) == []
    last = moved
    if is_back:
        apply(world)
        last = world
    destroy_all(last)
    left = objects(world)
    assert {sort: left[sort] for sort in NETWORK["existing"]} == NETWORK["existing"]


def test_a_password_that_changed_is_tried_once_at_the_source(standing: Callable[[str], Standing]) -> None:
    before = standing("existing")
    world = before.world.with_settings(pgpassword="other-horse-battery")
    reported: list[tuple[str, str, str]] = []
    done = apply(world, lambda event, step, _: reported.append((event, step.action, step.resource.name)))
    assert work(done.steps) == ["update secret: IsCurrent"]
    assert [call.name for call in world.wire.writes] == [
        "secretsmanager.PutSecretValue",
        "dms.TestConnection",
    ]
    _, _, spec = before.live("source connection")
    assert world.wire.writes[1].parameters == {
        "EndpointArn": spec["EndpointArn"],
        "ReplicationInstanceArn": spec["ReplicationInstanceArn"],
    }
    assert reported == [
        ("begin", "update", "secret"),
        ("done", "update", "secret"),
        ("begin", "update", "source connection"),
        ("done", "update", "source connection"),
    ]
    assert secret_of(done.observed).attributes["others"] == {}
    assert work(apply(world).steps) == []


def secret_of(observed: Observed) -> Live:
    found = observed["secret"]
    assert found is not None
    return found


def test_a_password_that_the_database_refuses_ends_the_apply(standing: Callable[[str], Standing]) -> None:
    before = standing("existing")
    world = before.world.with_settings(pgpassword="wrong-horse-battery")
    world.aws.connection_failures = {"lending-source": "password authentication failed"}
    with pytest.raises(AwsError, match="cannot connect through endpoint lending-source; AWS says: password"):
        apply(world)
    assert work(planned(world)) == ["update source connection: Status"]
    world.aws.connection_failures = {}
    apply(world)
    assert work(planned(world)) == []


@pytest.mark.parametrize("world", ["elsewhere"], indirect=True)
def test_a_server_or_user_that_is_another_one_is_named_and_a_password_is_not(world: World) -> None:
    apply(world)
    changed = world.with_settings(pghost="other.example.org", pgport=6543, pgpassword="other-horse-battery")
    observed = seen(changed)[1]
    assert secret_of(observed).attributes["others"] == {
        "host": ("db.example.org", "other.example.org"),
        "port": (5432, 6543),
    }
    assert list(secret_notes(observed)) == [
        "DMS will log in with another host: 'db.example.org' -> 'other.example.org'",
        "DMS will log in with another port: 5432 -> 6543",
        "the task keeps its position, which is one in the log of the former server: go on only if it is the"
        " same server under another name; else destroy first",
    ]
    assert secret_of(seen(world.with_settings(pguser="dms2"))[1]).attributes["others"] == {
        "username": ("dms", "dms2")
    }


def test_what_tells_of_silence_is_made_after_the_task_has_started(world: World) -> None:
    apply(world)
    started = [call.operation for call in world.wire.writes].index("StartReplicationTask")
    alarms = [
        (call.parameters["AlarmName"].removeprefix("lending-"), position > started)
        for position, call in enumerate(world.wire.writes)
        if call.operation == "PutMetricAlarm"
    ]
    assert alarms == [*((part, False) for part in LOUD), *((part, True) for part in SILENCE)]


UNTIL_READ = [f"create alarm {part}" for part in SILENCE]


@pytest.mark.parametrize("world", ["created"], indirect=True)
@pytest.mark.parametrize("start", ["seen", "resumed"])
def test_a_task_of_a_made_database_waits_until_its_tables_are_seen_or_somebody_starts_it(
    world: World, start: str
) -> None:
    made = replace(world, catalog=None)
    done = apply(made)
    without = ("task run", "table loads", *(f"alarm {part}" for part in SILENCE))
    assert [resource.name for resource in done.chain] == [
        name for name in CHAIN["created"] if name not in without
    ]
    assert "dms.StartReplicationTask" not in world.wire.names()
    assert work(planned(made)) == []
    assert objects(made)["alarms"] == sorted(f"lending-{part}" for part in LOUD)
    if start == "resumed":
        assert verbs.resume(made.pipeline) == "running"
        assert work(planned(made)) == UNTIL_READ
    else:
        made = with_tables(made, LOAN)
        assert work(planned(made)) == ["create task run", *UNTIL_READ]
    apply(made)
    assert work(planned(made)) == []
    assert objects(made) == MADE_BY["created"]


# --------------------------------------------------------------------------------------------------------
# As AWS has it
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bucket", "days"), [("lending-rows", 30), ("lending-failed-123456789012", 1)], ids=["rows", "failed"]
)
def test_old_versions_and_what_marks_them_as_deleted_expire(
    connection: Connection, standing: Callable[[str], Standing], bucket: str, days: int
) -> None:
    before = standing("existing")
    found = before.world.client("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    every = {"Status": "Enabled", "Filter": {"Prefix": ""}}
    assert found == [
        {"ID": "old-versions", **every, "NoncurrentVersionExpiration": {"NoncurrentDays": days}},
        {"ID": "delete-markers", **every, "Expiration": {"ExpiredObjectDeleteMarker": True}},
        {"ID": "aborted-uploads", **every, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    ]
    connection.standing["existing"] = before


def test_alarms_watch_these_metrics(connection: Connection, standing: Callable[[str], Standing]) -> None:
    before = standing("existing")
    pages = before.world.client("cloudwatch").get_paginator("describe_alarms").paginate()
    found = {
        alarm["AlarmName"].removeprefix("lending-"): (
            *(f"{alarm['Namespace']} {alarm['MetricName']}", alarm["Statistic"]),
            *(alarm["ComparisonOperator"], alarm["Threshold"], alarm["TreatMissingData"]),
        )
        for page in pages
        for alarm in page["MetricAlarms"]
    }
    over, under = "GreaterThanThreshold", "LessThanThreshold"
    quiet = "notBreaching"
    assert found == {
        "slot-lag": ("AWS/RDS OldestReplicationSlotLag", "Maximum", over, 10_000_000_000.0, quiet),
        "database-storage": ("AWS/RDS FreeStorageSpace", "Minimum", under, 2_000_000_000.0, quiet),
        "source-latency": ("AWS/DMS CDCLatencySource", "Maximum", over, 300.0, quiet),
        "target-latency": ("AWS/DMS CDCLatencyTarget", "Maximum", over, 300.0, quiet),
        "replication-storage": ("AWS/DMS FreeStorageSpace", "Minimum", under, 5_000_000_000.0, quiet),
        "no-records": ("AWS/Kinesis IncomingRecords", "Sum", under, 1.0, "breaching"),
        "no-invocations": ("AWS/Lambda Invocations", "Sum", under, 1.0, "breaching"),
        "iterator-age": ("AWS/Lambda IteratorAge", "Maximum", over, 305_000.0, quiet),
        "errors": ("AWS/Lambda Errors", "Sum", over, 0.0, quiet),
        "throttles": ("AWS/Lambda Throttles", "Sum", over, 0.0, quiet),
        "quarantined": ("lending-pipeline Quarantined", "Sum", over, 0.0, quiet),
        "delivery-failures": ("AWS/Lambda DestinationDeliveryFailures", "Sum", over, 0.0, quiet),
        "given-up": ("AWS/S3 NumberOfObjects", "Average", over, 0.0, quiet),
    }
    connection.standing["existing"] = before


def test_the_dashboard_names_the_alarms_that_there_are(
    connection: Connection, standing: Callable[[str], Standing]
) -> None:
    before = standing("existing")
    client = before.world.client("cloudwatch")
    body = json.loads(client.get_dashboard(DashboardName="lending")["DashboardBody"])
    alarms = [
        alarm for page in client.get_paginator("describe_alarms").paginate() for alarm in page["MetricAlarms"]
    ]
    assert sorted(body["widgets"][0]["properties"]["alarms"]) == sorted(one["AlarmArn"] for one in alarms)
    connection.standing["existing"] = before


def test_who_takes_a_role_is_held_to_this_account_where_the_service_says_so(
    connection: Connection, standing: Callable[[str], Standing]
) -> None:
    before = standing("existing")
    roles = before.world.client("iam").list_roles()["Roles"]
    trusted = {
        role["RoleName"]: (statement["Principal"]["Service"], statement.get("Condition", {}).get("ArnLike"))
        for role in roles
        for statement in role["AssumeRolePolicyDocument"]["Statement"]
    }
    assert trusted == {
        "dms-vpc-role": ("dms.amazonaws.com", {"aws:SourceArn": "arn:aws:dms:*:123456789012:*"}),
        "dms-cloudwatch-logs-role": ("dms.amazonaws.com", None),
        "lending-function": ("lambda.amazonaws.com", None),
        "lending-source": (
            "dms.eu-west-1.amazonaws.com",
            {"aws:SourceArn": "arn:aws:dms:eu-west-1:123456789012:*"},
        ),
        "lending-target": ("dms.amazonaws.com", {"aws:SourceArn": "arn:aws:dms:eu-west-1:123456789012:*"}),
    }
    connection.standing["existing"] = before


# --------------------------------------------------------------------------------------------------------
# Where a mapping begins
# --------------------------------------------------------------------------------------------------------


def mappings_made(world: World) -> list[Mapping[str, Any]]:
    found = [call.parameters for call in world.wire.calls if call.operation == "CreateEventSourceMapping"]
    return [{key: call[key] for key in call if key.startswith("StartingPosition")} for call in found]


def test_a_mapping_on_a_new_stream_begins_at_its_first_record(world: World) -> None:
    apply(world)
    assert mappings_made(world) == [{"StartingPosition": "TRIM_HORIZON"}]


def test_a_mapping_that_is_made_again_begins_behind_what_has_landed(
    standing: Callable[[str], Standing],
) -> None:
    before = standing("existing")
    resource, live, spec = before.live("mapping")
    resource.kind.delete(live, spec)
    landed_until = datetime(2026, 3, 1, 9, 16, tzinfo=UTC)
    apply(replace(before.world, starts_at=landed_until))
    assert mappings_made(before.world) == [
        {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": landed_until}
    ]


# --------------------------------------------------------------------------------------------------------
# What is asked of AWS, and of moto
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "parameters", "faults"),
    [
        ("kinesis.CreateStream", {"StreamName": "lending-stream", "ShardCount": 1}, []),
        (
            "kinesis.CreateStream",
            {"StreamName": "a stream"},
            [".StreamName: 'a stream' does not match [a-zA-Z0-9_.-]+"],
        ),
        (
            "kinesis.CreateStream",
            {"StreamName": "a" * 129},
            [".StreamName: 129 is longer than 128"],
        ),
        (
            "dms.CreateEndpoint",
            {"KinesisSettings": {"MessageFormat": "xml"}},
            [".KinesisSettings.MessageFormat: 'xml' is none of ['json', 'json-unformatted']"],
        ),
        (
            "lambda.CreateEventSourceMapping",
            {"BatchSize": 10_001, "FunctionResponseTypes": ["All"]},
            [
                ".BatchSize: 10001 is not from 1 to 10000",
                ".FunctionResponseTypes[]: 'All' is none of ['ReportBatchItemFailures']",
            ],
        ),
    ],
    ids=["right", "pattern", "length", "enum", "number and list"],
)
def test_the_wire_sees_what_botocore_lets_through(
    world: World, operation: str, parameters: dict[str, Any], faults: list[str]
) -> None:
    service, name = operation.split(".")
    shape = world.client(service).meta.service_model.operation_model(name).input_shape
    assert list(model_faults(parameters, shape, "")) == faults


FILES = {
    "kinds/cloudwatch": ["cloudwatch"],
    "kinds/dms": ["dms"],
    "kinds/ec2": ["ec2"],
    "kinds/events": ["events"],
    "kinds/iam": ["iam"],
    "kinds/kinesis": ["kinesis"],
    "kinds/lambda_": ["lambda"],
    "kinds/logs": ["logs"],
    "kinds/rds": ["rds"],
    "kinds/s3": ["s3"],
    "kinds/secretsmanager": ["secretsmanager"],
    "kinds/sns": ["sns"],
    "landed": ["kinesis", "s3"],
}
# Operations whose names are put together.
COMPOSED = {
    *("ec2.AuthorizeSecurityGroupIngress", "ec2.AuthorizeSecurityGroupEgress"),
    *("ec2.RevokeSecurityGroupIngress", "ec2.RevokeSecurityGroupEgress"),
    *("kinesis.IncreaseStreamRetentionPeriod", "kinesis.DecreaseStreamRetentionPeriod"),
}


def operations_called() -> set[str]:
    """Every text in one of these files that is the name of one of its service's operations."""
    found = set(COMPOSED)
    for file, services in FILES.items():
        tree = ast.parse((PROVISION / f"{file}.py").read_text())
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        for service in services:
            names = boto3.Session(region_name=REGION).client(service).meta.method_to_api_mapping
            found |= {f"{service}.{names[text]}" for text in texts if text in names}
    return found


def support(operation: str) -> str:
    """What answers it here: moto, or our model, in moto's place or where it has nothing."""
    if operation in INSTALLED:
        return f"model {INSTALLED[operation].replace('replaced', 'replaces').replace('added', 'adds')}"
    service, name = operation.split(".")
    module = importlib.import_module(f"moto.{MOTO_NAMES.get(service, service)}.responses")
    classes = [one for one in vars(module).values() if isinstance(one, type)]
    method = camelcase_to_underscores(name)
    return "moto" if any(hasattr(one, method) for one in classes) else "nothing"


MOTO_NAMES = {"lambda": "awslambda"}
PROVISION = Path(__file__).resolve().parent.parent / "provision"
OPERATIONS: Mapping[str, str] = {
    "cloudwatch.DeleteAlarms": "moto",
    "cloudwatch.DeleteDashboards": "moto",
    "cloudwatch.DescribeAlarms": "moto",
    "cloudwatch.GetDashboard": "moto",
    "cloudwatch.ListTagsForResource": "moto",
    "cloudwatch.PutDashboard": "moto",
    "cloudwatch.PutMetricAlarm": "moto",
    "dms.AddTagsToResource": "model adds",
    "dms.CreateEndpoint": "model replaces",
    "dms.CreateReplicationInstance": "model replaces",
    "dms.CreateReplicationSubnetGroup": "model replaces",
    "dms.CreateReplicationTask": "model replaces",
    "dms.DeleteConnection": "model adds",
    "dms.DeleteEndpoint": "model replaces",
    "dms.DeleteReplicationInstance": "model replaces",
    "dms.DeleteReplicationSubnetGroup": "model replaces",
    "dms.DeleteReplicationTask": "model replaces",
    "dms.DescribeConnections": "model replaces",
    "dms.DescribeEndpoints": "model replaces",
    "dms.DescribeOrderableReplicationInstances": "model adds",
    "dms.DescribeReplicationInstances": "model replaces",
    "dms.DescribeReplicationSubnetGroups": "model replaces",
    "dms.DescribeReplicationTasks": "model replaces",
    "dms.DescribeTableStatistics": "model adds",
    "dms.ListTagsForResource": "model replaces",
    "dms.ModifyEndpoint": "model adds",
    "dms.ModifyReplicationInstance": "model replaces",
    "dms.ModifyReplicationSubnetGroup": "model adds",
    "dms.ModifyReplicationTask": "model adds",
    "dms.ReloadTables": "model adds",
    "dms.RemoveTagsFromResource": "model adds",
    "dms.StartReplicationTask": "model replaces",
    "dms.StopReplicationTask": "model replaces",
    "dms.TestConnection": "model replaces",
    "ec2.AuthorizeSecurityGroupEgress": "moto",
    "ec2.AuthorizeSecurityGroupIngress": "moto",
    "ec2.CreateSecurityGroup": "moto",
    "ec2.CreateVpcEndpoint": "model replaces",
    "ec2.DeleteSecurityGroup": "model replaces",
    "ec2.DeleteVpcEndpoints": "moto",
    "ec2.DescribeNetworkInterfaces": "moto",
    "ec2.DescribeRouteTables": "moto",
    "ec2.DescribeSecurityGroupRules": "moto",
    "ec2.DescribeSecurityGroups": "moto",
    "ec2.DescribeSubnets": "moto",
    "ec2.DescribeVpcAttribute": "moto",
    "ec2.DescribeVpcEndpoints": "model replaces",
    "ec2.DescribeVpcs": "moto",
    "ec2.ModifyVpcEndpoint": "model replaces",
    "ec2.RevokeSecurityGroupEgress": "moto",
    "ec2.RevokeSecurityGroupIngress": "moto",
    "events.DeleteRule": "moto",
    "events.DescribeRule": "moto",
    "events.ListTagsForResource": "moto",
    "events.ListTargetsByRule": "moto",
    "events.PutRule": "moto",
    "events.PutTargets": "moto",
    "events.RemoveTargets": "moto",
    "iam.AttachRolePolicy": "moto",
    "iam.CreateRole": "moto",
    "iam.DeleteRole": "moto",
    "iam.DeleteRolePolicy": "moto",
    "iam.DetachRolePolicy": "moto",
    "iam.GetRole": "moto",
    "iam.GetRolePolicy": "moto",
    "iam.ListAttachedRolePolicies": "moto",
    "iam.ListRolePolicies": "moto",
    "iam.PutRolePolicy": "moto",
    "iam.UpdateAssumeRolePolicy": "moto",
    "iam.UpdateRole": "moto",
    "kinesis.AddTagsToStream": "moto",
    "kinesis.CreateStream": "model replaces",
    "kinesis.DecreaseStreamRetentionPeriod": "model replaces",
    "kinesis.DeleteStream": "model replaces",
    "kinesis.DescribeStreamSummary": "model replaces",
    "kinesis.GetRecords": "model replaces",
    "kinesis.GetShardIterator": "model replaces",
    "kinesis.IncreaseStreamRetentionPeriod": "model replaces",
    "kinesis.ListShards": "model replaces",
    "kinesis.ListTagsForStream": "moto",
    "kinesis.StartStreamEncryption": "model replaces",
    "kinesis.UpdateShardCount": "model replaces",
    "kinesis.UpdateStreamMode": "model replaces",
    "lambda.CreateAlias": "moto",
    "lambda.CreateEventSourceMapping": "model replaces",
    "lambda.CreateFunction": "model replaces",
    "lambda.DeleteAlias": "moto",
    "lambda.DeleteEventSourceMapping": "model replaces",
    "lambda.DeleteFunction": "moto",
    "lambda.GetAlias": "moto",
    "lambda.GetFunction": "model replaces",
    "lambda.GetFunctionConfiguration": "model replaces",
    "lambda.ListEventSourceMappings": "model replaces",
    "lambda.PublishVersion": "model replaces",
    "lambda.UpdateAlias": "moto",
    "lambda.UpdateEventSourceMapping": "model replaces",
    "lambda.UpdateFunctionConfiguration": "model replaces",
    "logs.CreateLogGroup": "moto",
    "logs.DeleteLogGroup": "model replaces",
    "logs.DeleteMetricFilter": "model replaces",
    "logs.DescribeLogGroups": "moto",
    "logs.DescribeMetricFilters": "moto",
    "logs.ListTagsForResource": "moto",
    "logs.PutMetricFilter": "model replaces",
    "logs.PutRetentionPolicy": "moto",
    "logs.TagResource": "moto",
    "rds.CreateDBInstance": "model replaces",
    "rds.CreateDBParameterGroup": "model replaces",
    "rds.CreateDBSubnetGroup": "model replaces",
    "rds.DeleteDBInstance": "model replaces",
    "rds.DeleteDBParameterGroup": "model replaces",
    "rds.DeleteDBSubnetGroup": "model replaces",
    "rds.DescribeDBEngineVersions": "model adds",
    "rds.DescribeDBInstances": "model replaces",
    "rds.DescribeDBParameterGroups": "moto",
    "rds.DescribeDBParameters": "model replaces",
    "rds.DescribeDBSubnetGroups": "moto",
    "rds.ListTagsForResource": "moto",
    "rds.ModifyDBInstance": "model replaces",
    "rds.ModifyDBParameterGroup": "model replaces",
    "rds.ModifyDBSubnetGroup": "model replaces",
    "rds.RebootDBInstance": "model replaces",
    "s3.CreateBucket": "moto",
    "s3.DeleteBucket": "moto",
    "s3.GetBucketEncryption": "moto",
    "s3.GetBucketLifecycleConfiguration": "moto",
    "s3.GetBucketNotificationConfiguration": "moto",
    "s3.GetBucketOwnershipControls": "moto",
    "s3.GetBucketPolicy": "moto",
    "s3.GetBucketTagging": "moto",
    "s3.GetBucketVersioning": "moto",
    "s3.GetObject": "moto",
    "s3.GetPublicAccessBlock": "moto",
    "s3.HeadBucket": "moto",
    "s3.ListObjectsV2": "moto",
    "s3.PutBucketEncryption": "moto",
    "s3.PutBucketLifecycleConfiguration": "moto",
    "s3.PutBucketNotificationConfiguration": "moto",
    "s3.PutBucketOwnershipControls": "moto",
    "s3.PutBucketPolicy": "moto",
    "s3.PutBucketTagging": "moto",
    "s3.PutBucketVersioning": "moto",
    "s3.PutPublicAccessBlock": "moto",
    "secretsmanager.CreateSecret": "model replaces",
    "secretsmanager.DeleteSecret": "moto",
    "secretsmanager.DescribeSecret": "moto",
    "secretsmanager.GetSecretValue": "moto",
    "secretsmanager.PutSecretValue": "moto",
    "secretsmanager.RestoreSecret": "moto",
    "secretsmanager.UpdateSecret": "moto",
    "sns.CreateTopic": "moto",
    "sns.DeleteTopic": "moto",
    "sns.GetTopicAttributes": "moto",
    "sns.ListSubscriptionsByTopic": "moto",
    "sns.ListTagsForResource": "moto",
    "sns.SetTopicAttributes": "moto",
    "sns.Subscribe": "moto",
    "sns.Unsubscribe": "moto",
}


def test_what_answers_each_operation_here_is_known() -> None:
    assert {operation: support(operation) for operation in sorted(operations_called())} == dict(OPERATIONS)
