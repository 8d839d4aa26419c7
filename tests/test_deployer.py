"""What the deployer is allowed: no less than all commands call, and no more; and the check of it.

Against the emulated AWS of local_run, in this process. The roles of the chain itself are listed here too.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import pytest
from chain_support import (
    ACCOUNT_ID,
    REGION,
    VARIANTS,
    Call,
    Wire,
    World,
    apply,
    code,
    destroy_all,
    emulated,
    new_world,
    seen,
)

from provision.aws import Account, iam_action
from provision.declaration import ACCOUNT_ROLES
from provision.deployer import check_deployer, policies
from provision.engine import resolve
from provision.finding import Finding, Level
from provision.kinds.iam import Role
from provision.landed import undelivered
from provision.pipeline import Pipeline
from provision.settings import Settings
from provision.status import read_status
from provision.verbs import chain_now, reload, resume, stop

ROOT = Path(__file__).parent.parent
ARN = f"{REGION}:{ACCOUNT_ID}"

Wired = tuple[Any, dict[str, Any], Wire]

# --------------------------------------------------------------------------------------------------------
# Everything that the commands ask of AWS
# --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wired() -> Iterator[Wired]:
    """A session with its clients, made once: they cost more time than most tests."""
    with emulated() as (session, wire, _):
        yield session, {}, wire


@pytest.fixture
def world(wired: Wired, request: pytest.FixtureRequest) -> World:
    """An account with no chain; with a database in RDS unless parametrized with another variant."""
    return new_world(*wired, getattr(request, "param", "existing"))


@contextmanager
def by_hand(world: World) -> Iterator[Callable[[str], Any]]:
    """Clients for what somebody else does: it is not among the calls that are seen."""
    count = len(world.wire.calls)
    yield world.client
    del world.wire.calls[count:]


def use_everything(world: World) -> list[Call]:
    """The calls of every command, on a chain that is changed in every way, and twice made and destroyed."""
    check_deployer(world.account, world.settings)
    apply(world)
    drift(world)
    apply(world)
    changed = world.with_settings(
        stream_shards=None,
        tables="public.loan,public.late",
        alarm_email="night@example.org",
        log_level="ERROR",
        masked_columns="public.loan.note=sha256",
        mask_secret="correct-horse-battery-staple",
    )
    world.aws.tables.append(("public", "late"))
    apply(changed)
    change_password(changed)
    run_verbs(changed)
    lose_mapping(changed)
    apply(changed)
    destroy_all(changed)
    apply(world)
    destroy_all(world)
    return list(world.wire.calls)


@dataclass(frozen=True)
class Asked:
    """A world, and all that every command asked of AWS there."""

    world: World
    calls: list[Call]
    foreign_groups: frozenset[str]  # security groups of somebody else


@pytest.fixture(scope="module")
def asked(wired: Wired) -> list[Asked]:
    """For a database in RDS, one that is made, and one elsewhere."""
    found = []
    for variant in VARIANTS:
        world = new_world(*wired, variant)
        calls = use_everything(world)
        groups = world.client("ec2").describe_security_groups()["SecurityGroups"]
        found.append(Asked(world, calls, frozenset(group["GroupId"] for group in groups)))
    return found


def change_password(world: World) -> None:
    """Another password: the secret is written anew."""
    apply(world.with_settings(pgpassword="another-horse-battery"))
    apply(world)


def run_verbs(world: World) -> None:
    pipeline = Pipeline(world.settings, world.account, code)
    stop(pipeline)
    resume(pipeline)
    reload(pipeline, [("public", "loan")])
    read_status(world.account, world.settings, chain_now(pipeline), datetime.now(UTC))
    with by_hand(world) as client:
        land_one_record(client)
    bucket = world.settings.s3_bucket
    undelivered(world.account, "lending-stream", bucket, world.settings.s3_prefix, datetime.now(UTC))


def land_one_record(client: Callable[[str], Any]) -> None:
    put = client("kinesis").put_record(StreamName="lending-stream", Data=b"{}", PartitionKey="1")
    shard, number = put["ShardId"], put["SequenceNumber"].zfill(56)
    now = datetime.now(UTC)
    row = {"cdc_arrived_at": now.isoformat(), "cdc_sequence_number": number}
    key = f"quarantine/cdc_date={now:%Y-%m-%d}/{shard}-{number}.jsonl.gz"
    body = gzip.compress(json.dumps(row, separators=(",", ":")).encode() + b"\n")  # as the function does
    client("s3").put_object(Bucket="lending-rows", Key=key, Body=body)


def lose_mapping(world: World) -> None:
    with by_hand(world) as client:
        found = client("lambda").list_event_source_mappings()["EventSourceMappings"]
        client("lambda").delete_event_source_mapping(UUID=found[0]["UUID"])


def drift(world: World) -> None:
    """Somebody else has changed what can be changed of each sort of object."""
    with by_hand(world) as client:
        drift_of_function(client)
        drift_of_network(client)
        drift_of_roles(client)
        drift_of_replication(client)
        if world.settings.create_rds:
            drift_of_database(client)


def drift_of_function(client: Callable[[str], Any]) -> None:
    functions, streams, logs = client("lambda"), client("kinesis"), client("logs")
    functions.update_function_configuration(FunctionName="lending-lambda", MemorySize=1024)
    mapping = functions.list_event_source_mappings()["EventSourceMappings"][0]
    while functions.get_event_source_mapping(UUID=mapping["UUID"])["State"] != "Enabled":
        pass
    functions.update_event_source_mapping(UUID=mapping["UUID"], BatchSize=7)
    stream = {"StreamName": "lending-stream"}
    streams.increase_stream_retention_period(**stream, RetentionPeriodHours=200)
    while streams.describe_stream_summary(**stream)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        pass
    streams.update_shard_count(**stream, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    group = f"arn:aws:logs:{ARN}:log-group:/aws/lambda/lending-lambda"
    logs.untag_resource(resourceArn=group, tagKeys=["pipeline"])
    logs.put_retention_policy(logGroupName="/aws/lambda/lending-lambda", retentionInDays=1)
    topic = f"arn:aws:sns:{ARN}:lending-alarms"
    policy = {"Version": "2012-10-17", "Statement": []}
    client("sns").set_topic_attributes(
        TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy)
    )
    target = {"Id": "another", "Arn": topic}
    client("events").put_targets(Rule="lending-given-up", Targets=[target])
    client("s3").delete_bucket_policy(Bucket="lending-rows")


def drift_of_network(client: Callable[[str], Any]) -> None:
    ec2 = client("ec2")
    groups = ec2.describe_security_groups()["SecurityGroups"]
    ours = next(one for one in groups if one["GroupName"] == "lending-replication")
    endpoints = next(one for one in groups if one["GroupName"] == "lending-endpoints")
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    ec2.authorize_security_group_ingress(GroupId=endpoints["GroupId"], IpPermissions=[rule])
    ec2.authorize_security_group_egress(GroupId=endpoints["GroupId"], IpPermissions=[rule])
    found = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    interface = next(one for one in found if one["VpcEndpointType"] == "Interface")
    ec2.modify_vpc_endpoint(VpcEndpointId=interface["VpcEndpointId"], AddSecurityGroupIds=[ours["GroupId"]])


def drift_of_roles(client: Callable[[str], Any]) -> None:
    iam = client("iam")
    trusted = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [trusted]})
    iam.update_assume_role_policy(RoleName="lending-function", PolicyDocument=trust)
    iam.update_role(RoleName="lending-target", Description="another")
    policy = "arn:aws:iam::aws:policy/service-role/AmazonDMSCloudWatchLogsRole"
    iam.attach_role_policy(RoleName="lending-target", PolicyArn=policy)
    iam.delete_role_policy(RoleName="lending-source", PolicyName="lending-source")
    client("secretsmanager").update_secret(SecretId="lending-login", Description="another")


def drift_of_replication(client: Callable[[str], Any]) -> None:
    dms = client("dms")
    group = dms.describe_replication_subnet_groups()["ReplicationSubnetGroups"][0]
    dms.modify_replication_subnet_group(
        ReplicationSubnetGroupIdentifier="lending-replication",
        SubnetIds=[one["SubnetIdentifier"] for one in group["Subnets"]],
        ReplicationSubnetGroupDescription="another",
    )
    instance = dms.describe_replication_instances()["ReplicationInstances"][0]["ReplicationInstanceArn"]
    dms.modify_replication_instance(
        ReplicationInstanceArn=instance, AutoMinorVersionUpgrade=False, ApplyImmediately=True
    )
    task = dms.describe_replication_tasks()["ReplicationTasks"][0]["ReplicationTaskArn"]
    dms.stop_replication_task(ReplicationTaskArn=task)
    dms.get_waiter("replication_task_stopped").wait(
        Filters=[{"Name": "replication-task-arn", "Values": [task]}], WaiterConfig={"Delay": 0}
    )
    for one in dms.describe_endpoints()["Endpoints"]:
        if one["EngineName"] == "kinesis":
            settings = {"StreamArn": one["KinesisSettings"]["StreamArn"], "NoHexPrefix": False}
            dms.modify_endpoint(
                EndpointArn=one["EndpointArn"], EngineName="kinesis", KinesisSettings=settings
            )


def drift_of_database(client: Callable[[str], Any]) -> None:
    rds = client("rds")
    found = rds.describe_db_instances(DBInstanceIdentifier="lending-database")["DBInstances"][0]
    subnets = [one["SubnetIdentifier"] for one in found["DBSubnetGroup"]["Subnets"]]
    rds.modify_db_subnet_group(
        DBSubnetGroupName="lending-database", DBSubnetGroupDescription="another", SubnetIds=subnets
    )
    rds.modify_db_instance(
        DBInstanceIdentifier="lending-database", BackupRetentionPeriod=1, ApplyImmediately=True
    )
    parameter = {
        "ParameterName": "rds.logical_replication",
        "ParameterValue": "0",
        "ApplyMethod": "pending-reboot",
    }
    rds.modify_db_parameter_group(
        DBParameterGroupName=found["DBParameterGroups"][0]["DBParameterGroupName"], Parameters=[parameter]
    )


# --------------------------------------------------------------------------------------------------------
# The policies
# --------------------------------------------------------------------------------------------------------


def statements(account: Account, settings: Settings) -> list[dict[str, Any]]:
    documents = policies(account, settings).values()
    return [statement for document in documents for statement in document["Statement"]]


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def actions_of(found: list[dict[str, Any]]) -> set[str]:
    return {action for statement in found for action in listed(statement["Action"])}


def action_of(world: World, call: Call) -> str:
    client = world.client(call.service)
    methods = {api: method for method, api in client.meta.method_to_api_mapping.items()}
    return iam_action(client, methods[call.operation])


NEEDS_NO_PERMISSION = {"sts:GetCallerIdentity"}  # Source: API_GetCallerIdentity

WITH_TAGS = "documented: for the tags that come with the creation"
DEPLOY = "deploy.sh calls it"
EXTRA = {
    "cloudwatch:TagResource": WITH_TAGS,
    "dms:AddTagsToResource": WITH_TAGS,
    "ec2:CreateTags": WITH_TAGS,
    "events:TagResource": WITH_TAGS,
    "iam:TagRole": WITH_TAGS,
    "kinesis:AddTagsToStream": WITH_TAGS,
    "lambda:TagResource": WITH_TAGS,
    "rds:AddTagsToResource": WITH_TAGS,
    "s3:TagResource": WITH_TAGS,
    "secretsmanager:TagResource": WITH_TAGS,
    "sns:TagResource": WITH_TAGS,
    "s3:PutObject": "for lake.py: apply publishes the schemas of a database that it can read",
    "lambda:ListAliases": DEPLOY,
    "lambda:ListVersionsByFunction": DEPLOY,
    "lambda:UpdateFunctionCode": DEPLOY,
    "ec2:DescribeAvailabilityZones": "documented: among the permissions needed to use DMS",
    "ec2:DescribeInternetGateways": "documented: among the permissions needed to use DMS",
    "ec2:DescribeNetworkInterfaces": "asked only to say who still uses a security group",
    "iam:CreateServiceLinkedRole": "documented: for the first RDS instance of an account",
    "iam:PassRole": "documented: for the roles that the function and the endpoints get, and DMS by itself",
    "rds:CreateDBSnapshot": "documented: for the final snapshot of an instance",
    "route53:AssociateVPCWithHostedZone": "the reference: CreateVpcEndpoint depends on it",
}


def test_the_policies_allow_what_the_commands_call(asked: list[Asked]) -> None:
    for one in asked:
        allowed = actions_of(statements(one.world.account, one.world.settings))
        called = {action_of(one.world, call) for call in one.calls}
        assert called - allowed == NEEDS_NO_PERMISSION


def test_the_policies_allow_nothing_that_is_not_needed(asked: list[Asked]) -> None:
    called = {action_of(one.world, call) for one in asked for call in one.calls}
    allowed = {
        action for one in asked for action in actions_of(statements(one.world.account, one.world.settings))
    }
    assert allowed - called == set(EXTRA) - {"dms:AddTagsToResource"}  # that one is called for tables too


def test_every_call_is_allowed_on_the_resource_it_names(asked: list[Asked]) -> None:
    """Also the tag that it brings, and the tag that the object has, where the policies ask for one."""
    refused = []
    for one in asked:
        found = statements(one.world.account, one.world.settings)
        for call in one.calls:
            for action, arn in [*arns_in(call, action_of(one.world, call)), *roles_passed(call)]:
                if not any(is_allowed(statement, action, arn, call, one) for statement in found):
                    refused.append((action, arn))
    assert refused == []


def is_allowed(statement: dict[str, Any], action: str, arn: str, call: Call, asked: Asked) -> bool:
    if action not in listed(statement["Action"]):
        return False
    if not any(fnmatchcase(arn, pattern) for pattern in listed(statement["Resource"])):
        return False
    keys = {key for tests in statement.get("Condition", {}).values() for key in tests}
    if "aws:RequestTag/pipeline" in keys and not brings_tag(call):
        return False
    is_foreign = arn.rpartition("/")[2] in asked.foreign_groups
    return not ("aws:ResourceTag/pipeline" in keys and is_foreign)


def brings_tag(call: Call) -> bool:
    text = json.dumps(call.parameters, default=str)
    return '{"Key": "pipeline", "Value": "lending"}' in text or '{"pipeline": "lending"}' in text


def in_region(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{ARN}:{resource}"


# By service: the parameters that name an object, and its ARN. A parameter that has an ARN is taken as it is.
NAMED: dict[str, dict[str, Callable[[str], str]]] = {
    "cloudwatch": {
        "AlarmName": lambda name: in_region("cloudwatch", f"alarm:{name}"),
        "AlarmNames": lambda name: in_region("cloudwatch", f"alarm:{name}"),
        "DashboardName": lambda name: f"arn:aws:cloudwatch::{ACCOUNT_ID}:dashboard/{name}",
        "DashboardNames": lambda name: f"arn:aws:cloudwatch::{ACCOUNT_ID}:dashboard/{name}",
    },
    "dms": {},
    "ec2": {
        "GroupId": lambda name: in_region("ec2", f"security-group/{name}"),
        "VpcEndpointId": lambda name: in_region("ec2", f"vpc-endpoint/{name}"),
        "VpcEndpointIds": lambda name: in_region("ec2", f"vpc-endpoint/{name}"),
        "SubnetIds": lambda name: in_region("ec2", f"subnet/{name}"),
        "RouteTableIds": lambda name: in_region("ec2", f"route-table/{name}"),
        "VpcId": lambda name: in_region("ec2", f"vpc/{name}"),
    },
    "events": {
        "Name": lambda name: in_region("events", f"rule/{name}"),
        "Rule": lambda name: in_region("events", f"rule/{name}"),
    },
    "iam": {"RoleName": lambda name: f"arn:aws:iam::{ACCOUNT_ID}:role/{name}"},
    "kinesis": {"StreamName": lambda name: in_region("kinesis", f"stream/{name}")},
    "lambda": {"FunctionName": lambda name: in_region("lambda", f"function:{name}")},
    "logs": {"logGroupName": lambda name: in_region("logs", f"log-group:{name}:*")},
    "rds": {
        "DBInstanceIdentifier": lambda name: in_region("rds", f"db:{name}"),
        "DBParameterGroupName": lambda name: in_region("rds", f"pg:{name}"),
        "DBSubnetGroupName": lambda name: in_region("rds", f"subgrp:{name}"),
    },
    "s3": {"Bucket": lambda name: f"arn:aws:s3:::{name}"},
    "secretsmanager": {
        "Name": lambda name: in_region("secretsmanager", f"secret:{name}-AbCdEf"),
        "SecretId": lambda name: in_region("secretsmanager", f"secret:{name}-AbCdEf"),
    },
    "sns": {"Name": lambda name: in_region("sns", name)},
    "sts": {},
}
# A mapping has an id; the function and the stream it is of are not what these calls are judged by.
OF_MAPPINGS = {"CreateEventSourceMapping", "ListEventSourceMappings", "UpdateEventSourceMapping"}
# Parameters that refer to something else than what the call is about.
OTHERS = {"PolicyArn", "PolicySourceArn", "SubscriptionArn", "TemplateArn"}


def arns_in(call: Call, action: str) -> Iterator[tuple[str, str]]:
    """("kinesis:CreateStream", "arn:aws:kinesis:eu-west-1:123456789012:stream/lending-stream")"""
    parameters = call.parameters
    if call.operation in OF_MAPPINGS:
        return
    if call.operation == "GetObject":
        yield action, f"arn:aws:s3:::{parameters['Bucket']}/{parameters['Key']}"
        return
    if final := parameters.get("FinalDBSnapshotIdentifier"):
        yield "rds:CreateDBSnapshot", in_region("rds", f"snapshot:{final}")
    for key, value in parameters.items():
        if re.search(r"(Arn|ARN|resourceArn|ResourceName)\Z", key) and key not in OTHERS:
            yield action, str(value)
        elif key in NAMED[call.service]:
            for name in listed(value):
                yield action, name if name.startswith("arn:") else NAMED[call.service][key](name)


def roles_passed(call: Call) -> Iterator[tuple[str, str]]:
    settings = call.parameters.get("KinesisSettings", {}) | call.parameters.get("PostgreSQLSettings", {})
    for key, value in {**call.parameters, **settings}.items():
        if key in ("Role", "ServiceAccessRoleArn", "SecretsManagerAccessRoleArn"):
            yield "iam:PassRole", str(value)


SHIPPED = {  # subcommands of "aws lambda" in deploy.sh, and what each asks for
    "create-alias": "CreateAlias",
    "delete-function": "DeleteFunction",
    "get-function-configuration": "GetFunctionConfiguration",
    "list-aliases": "ListAliases",
    "list-versions-by-function": "ListVersionsByFunction",
    "update-alias": "UpdateAlias",
    "update-function-code": "UpdateFunctionCode",
    "wait function-active-v2": "GetFunction",
    "wait function-updated-v2": "GetFunction",
    "wait published-version-active": "GetFunctionConfiguration",
}


def test_the_policies_allow_what_deploy_sh_calls(world: World) -> None:
    script = (ROOT / "deploy.sh").read_text(encoding="utf-8")
    assert set(re.findall(r'\bask "[^"]*" ((?:wait )?[a-z0-9-]+)', script)) == set(SHIPPED)
    for name in ("lending-lambda", "lending-lambda:live"):
        arn = in_region("lambda", f"function:{name}")
        allowed = {
            action
            for statement in statements(world.account, world.settings)
            if any(fnmatchcase(arn, pattern) for pattern in listed(statement["Resource"]))
            for action in listed(statement["Action"])
        }
        assert {f"lambda:{action}" for action in SHIPPED.values()} <= allowed


# No resource-level permissions, or reads of objects whose names nobody knows beforehand.
ON_EVERYTHING = {
    *("cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData"),
    *("dms:CreateEndpoint", "dms:CreateReplicationInstance", "dms:CreateReplicationSubnetGroup"),
    *("dms:DescribeAccountAttributes", "dms:DescribeConnections", "dms:DescribeEndpoints"),
    *("dms:DescribeOrderableReplicationInstances", "dms:DescribeReplicationInstances"),
    *("dms:DescribeReplicationSubnetGroups", "dms:DescribeReplicationTasks"),
    "dms:ModifyReplicationSubnetGroup",
    *("ec2:DescribeAvailabilityZones", "ec2:DescribeInternetGateways", "ec2:DescribeNetworkInterfaces"),
    *("ec2:DescribeRouteTables", "ec2:DescribeSecurityGroupRules", "ec2:DescribeSecurityGroups"),
    *("ec2:DescribeSubnets", "ec2:DescribeVpcAttribute", "ec2:DescribeVpcEndpoints", "ec2:DescribeVpcs"),
    *("kinesis:UpdateShardCount", "kinesis:UpdateStreamMode"),
    *("lambda:CreateEventSourceMapping", "lambda:ListEventSourceMappings"),
    "logs:DescribeLogGroups",
    *("rds:DescribeDBEngineVersions", "rds:DescribeDBInstances", "rds:DescribeDBParameterGroups"),
    *("rds:DescribeDBParameters", "rds:DescribeDBSubnetGroups"),
    "route53:AssociateVPCWithHostedZone",
    "sns:Unsubscribe",
}


def test_only_what_has_no_arn_is_allowed_on_everything(asked: list[Asked]) -> None:
    for one in asked:
        found = statements(one.world.account, one.world.settings)
        assert actions_of([each for each in found if each["Resource"] == "*"]) == ON_EVERYTHING


def test_what_is_made_of_dms_under_any_name_has_to_have_our_tag(world: World) -> None:
    found = statements(world.account, world.settings)
    for statement in (one for one in found if "dms:CreateEndpoint" in one["Action"]):
        assert statement["Condition"] == {"StringEquals": {"aws:RequestTag/pipeline": "lending"}}
    for statement in (one for one in found if "dms:DeleteEndpoint" in one["Action"]):
        assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/pipeline": "lending"}}


def test_roles_are_passed_to_the_services_that_use_them_and_no_others(world: World) -> None:
    found = [
        (listed(one["Resource"]), one["Condition"])
        for one in statements(world.account, world.settings)
        if "iam:PassRole" in one["Action"]
    ]
    role = f"arn:aws:iam::{ACCOUNT_ID}:role"
    assert found == [
        ([f"{role}/lending-function"], {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}),
        (
            [
                f"{role}/lending-source",
                f"{role}/lending-target",
                f"{role}/dms-vpc-role",
                f"{role}/dms-cloudwatch-logs-role",
            ],
            {"StringEquals": {"iam:PassedToService": ["dms.amazonaws.com", "dms.eu-west-1.amazonaws.com"]}},
        ),
    ]


def test_the_two_roles_of_the_account_get_their_own_policies_and_no_others(world: World) -> None:
    shared = [f"arn:aws:iam::{ACCOUNT_ID}:role/{name}" for name in ACCOUNT_ROLES]
    on_shared = [
        one for one in statements(world.account, world.settings) if set(shared) & set(listed(one["Resource"]))
    ]
    assert actions_of(on_shared) == {
        *("iam:AttachRolePolicy", "iam:CreateRole", "iam:GetRole", "iam:ListAttachedRolePolicies"),
        *("iam:PassRole", "iam:TagRole"),
    }
    (attach,) = [one for one in on_shared if "iam:AttachRolePolicy" in one["Action"]]
    policy = "arn:aws:iam::aws:policy/service-role"
    assert attach["Condition"] == {
        "ArnEquals": {
            "iam:PolicyARN": [
                f"{policy}/AmazonDMSVPCManagementRole",
                f"{policy}/AmazonDMSCloudWatchLogsRole",
            ]
        }
    }


@pytest.mark.parametrize("world", ["existing", "elsewhere"], indirect=True)
def test_without_create_rds_nothing_of_rds_is_changed(world: World) -> None:
    found = actions_of(statements(world.account, world.settings))
    assert {action for action in found if action.startswith("rds:") and ":Describe" not in action} == {
        "rds:ListTagsForResource"
    }
    assert "iam:CreateServiceLinkedRole" not in found


def test_somebody_elses_security_group_is_changed_only_where_the_database_has_one(asked: list[Asked]) -> None:
    sids = [[one["Sid"] for one in statements(each.world.account, each.world.settings)] for each in asked]
    assert ["RuleOfTheDatabase" in one for one in sids] == [True, False, False]


MANAGED_POLICY = 6144  # characters but for white space; source: IAM quotas
LONGEST = {
    "S3_BUCKET": "b" * 63,
    "S3_PREFIX": "p" * 399 + "/",
    "PIPELINE_NAME": "l" * 30,
    "SUBNET_IDS": ",".join(f"subnet-{number:017x}" for number in range(6)),
    "CREATE_RDS": "true",
    "PGDATABASE": "lending",
    "PGUSER": "dms",
    "PGPASSWORD": "correct-horse-battery",
}


def test_the_policies_fit_managed_policies_with_the_longest_names() -> None:
    account = Account(boto3.Session(region_name="us-gov-west-1"), LONGEST["PIPELINE_NAME"])
    account.__dict__["account_id"] = ACCOUNT_ID
    found = policies(account, Settings.from_mapping(LONGEST))
    sizes = [len(json.dumps(document, separators=(",", ":"))) for document in found.values()]
    assert len(sizes) == 4
    assert max(sizes) <= MANAGED_POLICY
    assert max(map(len, found)) <= 128


def test_the_policies_are_documents_as_iam_takes_them(world: World) -> None:
    documents = policies(world.account, world.settings)
    assert list(documents) == [
        "lending-deployer-network",
        "lending-deployer-database",
        "lending-deployer-replication",
        "lending-deployer-landing",
    ]
    sids = []
    for document in documents.values():
        assert document.keys() == {"Version", "Statement"}
        assert document["Version"] == "2012-10-17"
        for statement in document["Statement"]:
            assert {"Sid", "Effect", "Action", "Resource"} <= statement.keys()
            assert statement.keys() <= {"Sid", "Effect", "Action", "Resource", "Condition"}
            assert re.fullmatch("[A-Za-z0-9]+", statement["Sid"])
            assert statement["Effect"] == "Allow"
            assert all(
                re.fullmatch("[a-z0-9]+:[A-Z][A-Za-z0-9]+", one) for one in listed(statement["Action"])
            )
            assert all(one == "*" or one.startswith("arn:aws:") for one in listed(statement["Resource"]))
            sids.append(statement["Sid"])
    assert len(set(sids)) == len(sids)


# --------------------------------------------------------------------------------------------------------
# The roles of the chain itself
# --------------------------------------------------------------------------------------------------------

ROLES: dict[str, dict[str, Any]] = {
    "function role": {
        "Policies": {
            "lending-function": [
                (
                    ["s3:GetObject", "s3:PutObject"],
                    [
                        "arn:aws:s3:::lending-rows/changes/*",
                        "arn:aws:s3:::lending-rows/control/*",
                        "arn:aws:s3:::lending-rows/quarantine/*",
                    ],
                ),
                (["s3:PutObject"], ["arn:aws:s3:::lending-failed-123456789012/*"]),
                (["s3:ListBucket"], ["arn:aws:s3:::lending-failed-123456789012"]),
                (
                    [
                        "kinesis:DescribeStream",
                        "kinesis:DescribeStreamSummary",
                        "kinesis:GetRecords",
                        "kinesis:GetShardIterator",
                        "kinesis:ListShards",
                    ],
                    ["arn:aws:kinesis:eu-west-1:123456789012:stream/lending-stream"],
                ),
                (["kinesis:ListStreams"], ["*"]),
                (
                    ["logs:CreateLogStream", "logs:PutLogEvents"],
                    ["arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/lending-lambda:*"],
                ),
            ]
        },
        "ManagedPolicies": [],
        "trusts": "lambda.amazonaws.com",
        "if": {},
    },
    "secret role": {
        "Policies": {
            "lending-source": [
                (
                    ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
                    ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:lending-login-??????"],
                )
            ]
        },
        "ManagedPolicies": [],
        "trusts": "dms.eu-west-1.amazonaws.com",
        "if": {
            "StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnLike": {"aws:SourceArn": "arn:aws:dms:eu-west-1:123456789012:*"},
        },
    },
    "stream role": {
        "Policies": {
            "lending-target": [
                (
                    ["kinesis:DescribeStream", "kinesis:PutRecord", "kinesis:PutRecords"],
                    ["arn:aws:kinesis:eu-west-1:123456789012:stream/lending-stream"],
                )
            ]
        },
        "ManagedPolicies": [],
        "trusts": "dms.amazonaws.com",
        "if": {
            "StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnLike": {"aws:SourceArn": "arn:aws:dms:eu-west-1:123456789012:*"},
        },
    },
    "dms-vpc-role": {
        "Policies": {},
        "ManagedPolicies": ["arn:aws:iam::aws:policy/service-role/AmazonDMSVPCManagementRole"],
        "trusts": "dms.amazonaws.com",
        "if": {
            "StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnLike": {"aws:SourceArn": "arn:aws:dms:*:123456789012:*"},
        },
    },
    "dms-cloudwatch-logs-role": {
        "Policies": {},
        "ManagedPolicies": ["arn:aws:iam::aws:policy/service-role/AmazonDMSCloudWatchLogsRole"],
        "trusts": "dms.amazonaws.com",
        "if": {},
    },
}


@pytest.mark.parametrize("world", VARIANTS, indirect=True)
def test_the_roles_of_the_chain_allow_and_trust_exactly_this(world: World) -> None:
    """kinesis:ListStreams alone is on everything: it has no ARN, and Lambda asks for it."""
    apply(world)
    chain, observed = seen(world)
    found = {}
    for resource in chain:
        if isinstance(resource.kind, Role):
            found[resource.name] = shown(resolve(resource.spec, observed))
    assert found == ROLES


def shown(spec: dict[str, Any]) -> dict[str, Any]:
    (trust,) = spec["AssumeRolePolicyDocument"]["Statement"]
    assert (trust["Effect"], trust["Action"]) == ("Allow", "sts:AssumeRole")
    for document in spec.get("Policies", {}).values():
        assert all(one["Effect"] == "Allow" for one in document["Statement"])
    return {
        "Policies": {
            name: [
                (listed(one["Action"]), without_random_ids(listed(one["Resource"])))
                for one in document["Statement"]
            ]
            for name, document in spec.get("Policies", {}).items()
        },
        "ManagedPolicies": spec["ManagedPolicies"],
        "trusts": trust["Principal"]["Service"],
        "if": trust.get("Condition", {}),
    }


def without_random_ids(arns: list[str]) -> list[str]:
    return [re.sub(r"(:secret:[a-z-]+)-[A-Za-z0-9]{6}\Z", r"\1-??????", arn) for arn in arns]


def test_the_roles_of_the_account_are_those_of_the_chain(world: World) -> None:
    chain, _ = seen(world)
    shared = [one for one in chain if isinstance(one.kind, Role) and one.kind.shared]
    assert {
        one.spec["RoleName"]: one.spec["ManagedPolicies"][0].rpartition("/")[2] for one in shared
    } == ACCOUNT_ROLES


# --------------------------------------------------------------------------------------------------------
# The check
# --------------------------------------------------------------------------------------------------------

CALLER = f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/deployer/someone"
HOW = "python setup_dms.py plan --show deployer prints the policies to attach"


class Answered:
    status_code = 200


@contextmanager
def answering(world: World, service: str, operation: str, answer: dict[str, Any]) -> Iterator[None]:
    """AWS answers the operation with just this."""
    meta = world.client(service).meta
    events, name = meta.events, f"before-call.{meta.service_model.service_id.hyphenize()}.{operation}"
    handler = lambda **_: (Answered(), answer | {"ResponseMetadata": {"HTTPStatusCode": 200}})  # noqa: E731
    events.register_last(name, handler)
    try:
        yield
    finally:
        events.unregister(name, handler)


def called_by(world: World, arn: str) -> Any:
    return answering(world, "sts", "GetCallerIdentity", {"Account": ACCOUNT_ID, "Arn": arn, "UserId": "U"})


def refusing(world: World, operation: str, code: str, message: str = "no") -> None:
    world.wire.refuse = lambda call: (code, message) if call.name == operation else None


def check(world: World, name: str = "") -> list[Finding]:
    return [one for one in check_deployer(world.account, world.settings) if name in ("", one.check)]


def make_deployer(world: World, documents: dict[str, Any], path: str = "/") -> None:
    trusted = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT_ID}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [trusted]})
    iam = world.client("iam")
    iam.create_role(RoleName="deployer", Path=path, AssumeRolePolicyDocument=trust)
    for name, document in documents.items():
        iam.put_role_policy(RoleName="deployer", PolicyName=name, PolicyDocument=json.dumps(document))


@pytest.mark.parametrize("world", ["elsewhere"], indirect=True)
def test_check_of_an_account_that_is_ready(world: World) -> None:
    make_deployer(world, policies(world.account, world.settings))
    with called_by(world, CALLER):
        found = check(world)
    assert [(one.check, one.level.value, one.subject) for one in found] == [
        ("credentials", "ok", CALLER),
        ("permissions", "ok", f"arn:aws:iam::{ACCOUNT_ID}:role/deployer"),
        ("bucket", "ok", "bucket lending-rows"),
        ("bucket", "ok", "bucket lending-failed-123456789012"),
        ("dms-vpc-role", "ok", "role dms-vpc-role"),
        ("dms-cloudwatch-logs-role", "ok", "role dms-cloudwatch-logs-role"),
        ("subnets", "ok", found[6].subject),
        ("ways-out", "warning", found[6].subject),
        ("dms-quotas", "ok", "DMS"),
        ("dms-engine", "ok", "dms.t3.medium"),
    ]
    assert found[0].found == "account 123456789012 in eu-west-1"
    assert found[-1].found == "DMS 3.6.1 is the newest that it is offered with"


@pytest.mark.parametrize("world", VARIANTS, indirect=True)
def test_check_changes_nothing_and_what_apply_makes_passes_it(world: World) -> None:
    apply(world)
    world.wire.forget()
    found = [one for one in check(world) if one.check != "dms-engine"]  # depends on RDS's default version
    assert [one for one in found if one.level is not Level.OK] == []
    assert [call.name for call in world.wire.writes] == ["iam.SimulatePrincipalPolicy"] * len(
        statements(world.account, world.settings)
    )


def test_check_each_action_that_is_denied_is_a_blocker(world: World) -> None:
    documents = policies(world.account, world.settings)
    (stream,) = [one for one in documents["lending-deployer-landing"]["Statement"] if one["Sid"] == "Stream"]
    stream["Action"].remove("kinesis:CreateStream")
    make_deployer(world, documents)
    with called_by(world, CALLER):
        (found,) = check(world, "permissions")
    assert found == Finding(
        "permissions",
        Level.BLOCKER,
        "kinesis:CreateStream",
        "arn:aws:iam::123456789012:role/deployer may not do it on "
        "arn:aws:kinesis:eu-west-1:123456789012:stream/lending-stream",
        "apply, or another command, would end at it",
        HOW,
    )


def test_check_a_role_that_is_allowed_nothing_hears_of_every_action(world: World) -> None:
    make_deployer(world, {})
    with called_by(world, CALLER):
        found = check(world, "permissions")
    assert {one.level for one in found} == {Level.BLOCKER}
    assert {one.subject for one in found} == actions_of(statements(world.account, world.settings))


def test_check_permissions_of_a_role_with_a_path(world: World) -> None:
    """As roles of IAM Identity Center have, and the ARN of their sessions does not show."""
    make_deployer(world, policies(world.account, world.settings), path="/aws-reserved/")
    with called_by(world, CALLER):
        (found,) = check(world, "permissions")
    assert (found.level, found.subject) == (
        Level.OK,
        f"arn:aws:iam::{ACCOUNT_ID}:role/aws-reserved/deployer",
    )


def test_check_conditions_are_met_in_what_is_simulated(world: World) -> None:
    check(world, "permissions")
    (passed,) = [
        call.parameters
        for call in world.wire.calls
        if call.operation == "SimulatePrincipalPolicy" and "function" in call.parameters["ResourceArns"][0]
        if call.parameters["ActionNames"] == ["iam:PassRole"]
    ]
    assert passed["ContextEntries"] == [
        {
            "ContextKeyName": "iam:PassedToService",
            "ContextKeyValues": ["lambda.amazonaws.com"],
            "ContextKeyType": "string",
        }
    ]


RESULT = {
    "EvalActionName": "s3:CreateBucket",
    "EvalResourceName": "arn:aws:s3:::lending-rows",
    "EvalDecision": "implicitDeny",
}
VERDICTS = [
    (RESULT, Level.BLOCKER),
    (RESULT | {"MissingContextValues": ["aws:PrincipalTag/team"]}, Level.WARNING),
    (RESULT | {"MissingContextValues": ["aws:RequestTag/pipeline"]}, Level.BLOCKER),
    (
        RESULT
        | {
            "EvalDecision": "allowed",
            "ResourceSpecificResults": [
                {"EvalResourceName": "arn:aws:s3:::a", "EvalResourceDecision": "allowed"},
                {"EvalResourceName": "arn:aws:s3:::lending-rows", "EvalResourceDecision": "explicitDeny"},
            ],
        },
        Level.BLOCKER,
    ),
]


@pytest.mark.parametrize(
    ("result", "level"), VERDICTS, ids=["denied", "depends", "depends on ours", "by resource"]
)
def test_check_verdicts_of_iam(world: World, result: dict[str, Any], level: Level) -> None:
    """One that depends on conditions of the caller's own policies is a warning."""
    answer = {"EvaluationResults": [result], "IsTruncated": False}
    with answering(world, "iam", "SimulatePrincipalPolicy", answer):
        (found,) = check(world, "permissions")
    assert (found.level, found.subject) == (level, "s3:CreateBucket")
    assert "arn:aws:s3:::lending-rows" in found.found
    assert "arn:aws:s3:::a" not in found.found.split(", ")


@pytest.mark.parametrize(
    "caller", [f"arn:aws:iam::{ACCOUNT_ID}:root", f"arn:aws:sts::{ACCOUNT_ID}:federated-user/x"]
)
def test_check_who_can_not_be_simulated_is_told(world: World, caller: str) -> None:
    with called_by(world, caller):
        (found,) = check(world, "permissions")
    assert (found.level, found.subject) == (Level.WARNING, caller)
    assert found.meaning.startswith("could not look")


DENIED = [
    ("iam.SimulatePrincipalPolicy", "AccessDenied", "permissions", "iam:SimulatePrincipalPolicy"),
    ("iam.GetRole", "AccessDenied", "dms-vpc-role", "iam:GetRole"),
    ("s3.GetBucketTagging", "AccessDenied", "bucket", "s3:GetBucketTagging"),
    ("ec2.DescribeSubnets", "UnauthorizedOperation", "subnets", "ec2:DescribeSubnets"),
    ("ec2.DescribeRouteTables", "UnauthorizedOperation", "subnets", "ec2:DescribeRouteTables"),
    ("rds.DescribeDBInstances", "AccessDenied", "subnets", "rds:DescribeDBInstances"),
    ("dms.DescribeAccountAttributes", "AccessDeniedException", "dms-quotas", "dms:DescribeAccountAttributes"),
    (
        "dms.DescribeOrderableReplicationInstances",
        "AccessDeniedException",
        "dms-engine",
        "dms:DescribeOrderableReplicationInstances",
    ),
]


@pytest.mark.parametrize(("operation", "error", "name", "action"), DENIED, ids=[one[3] for one in DENIED])
def test_check_where_nobody_may_look_is_a_warning_with_the_action(
    world: World, operation: str, error: str, name: str, action: str
) -> None:
    world.client("s3").create_bucket(
        Bucket="lending-rows", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    refusing(world, operation, error)
    found = [one for one in check(world, name) if "is not allowed" in one.found]
    assert [(one.level, one.fix) for one in found] == [(Level.WARNING, HOW)]
    assert found[0].found.startswith(f"{action} on ")
    assert found[0].meaning.startswith("could not look")


@pytest.mark.parametrize("error", ["ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId"])
def test_check_credentials_that_are_not_valid_are_the_only_finding(world: World, error: str) -> None:
    refusing(world, "sts.GetCallerIdentity", error, "The security token included in the request is expired")
    (found,) = check(world)
    assert (found.check, found.level) == ("credentials", Level.BLOCKER)
    assert found.found == f"the AWS credentials are not valid (any more), {error}: renew them"


def test_check_without_credentials(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    account = Account(boto3.Session(region_name=REGION), "lending")
    (found,) = check_deployer(account, world.settings)
    assert (found.check, found.level) == ("credentials", Level.BLOCKER)
    assert found.found == "no AWS credentials: configure them as for the AWS CLI"


def test_check_without_a_region(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    (found,) = check_deployer(Account(boto3.Session(), "lending"), world.settings)
    assert (found.check, found.level) == ("region", Level.BLOCKER)
    assert "AWS_DEFAULT_REGION=" in found.fix


def test_check_a_bucket_of_another_account(world: World) -> None:
    refusing(world, "s3.HeadBucket", "403", "Forbidden")
    found = check(world, "bucket")
    assert [one.level for one in found] == [Level.BLOCKER] * 2
    assert found[0].found.startswith("bucket lending-rows is another account's (names are global)")


def test_check_a_bucket_of_this_account_without_our_tag(world: World) -> None:
    place = {"LocationConstraint": REGION}
    world.client("s3").create_bucket(Bucket="lending-rows", CreateBucketConfiguration=place)
    found = check(world, "bucket")[0]
    assert (found.level, found.found) == (Level.WARNING, "there, without the tag pipeline=lending")


def make_vpc_role(world: World, service: str, policy: str | None) -> None:
    iam = world.client("iam")
    trusted = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [trusted]})
    iam.create_role(RoleName="dms-vpc-role", AssumeRolePolicyDocument=trust)
    if policy:
        iam.attach_role_policy(RoleName="dms-vpc-role", PolicyArn=policy)


VPC_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonDMSVPCManagementRole"


def test_check_the_accounts_role_as_dms_needs_it(world: World) -> None:
    make_vpc_role(world, "dms.amazonaws.com", VPC_POLICY)
    (found,) = check(world, "dms-vpc-role")
    assert (found.level, found.found) == (Level.OK, "there, as DMS needs it")


def test_check_the_accounts_role_without_its_policy(world: World) -> None:
    make_vpc_role(world, "dms.amazonaws.com", None)
    (found,) = check(world, "dms-vpc-role")
    assert found.level is Level.WARNING
    assert found.fix == f"aws iam attach-role-policy --role-name dms-vpc-role --policy-arn {VPC_POLICY}"


def test_check_the_accounts_role_that_does_not_trust_dms(world: World) -> None:
    make_vpc_role(world, "ec2.amazonaws.com", VPC_POLICY)
    (found,) = check(world, "dms-vpc-role")
    assert (found.level, found.found) == (Level.WARNING, "does not trust dms.amazonaws.com")
    assert found.fix == (
        "aws iam update-assume-role-policy --role-name dms-vpc-role --policy-document "
        """'{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", """
        """"Principal": {"Service": "dms.amazonaws.com"}, "Action": "sts:AssumeRole"}]}'"""
    )


@pytest.mark.parametrize("world", ["elsewhere"], indirect=True)
def test_check_subnets_of_one_zone(world: World) -> None:
    ec2 = world.client("ec2")
    first = ec2.describe_subnets(SubnetIds=[world.settings.subnet_ids[0]])["Subnets"][0]
    second = ec2.create_subnet(
        VpcId=first["VpcId"], CidrBlock="172.31.240.0/24", AvailabilityZone=first["AvailabilityZone"]
    )["Subnet"]
    (found,) = check(world.with_settings(subnet_ids=(first["SubnetId"], second["SubnetId"])), "subnets")
    assert found.level is Level.BLOCKER
    assert "a subnet group needs subnets in two availability zones" in found.found


@pytest.mark.parametrize("world", ["elsewhere"], indirect=True)
def test_check_subnets_that_are_not_there(world: World) -> None:
    (found,) = check(world.with_settings(subnet_ids=("subnet-1", "subnet-2")), "subnets")
    assert found.level is Level.BLOCKER
    assert "InvalidSubnetID.NotFound" in found.found


def test_check_a_host_that_is_no_instance_of_this_account(world: World) -> None:
    host = "other.c1abcdefghij.eu-west-1.rds.amazonaws.com"
    (found,) = check(world.with_settings(pghost=host), "subnets")
    assert found.level is Level.BLOCKER
    assert "is no RDS instance of this account" in found.found


WAYS = {
    "auto": (
        Level.WARNING,
        "; apply makes VPC endpoints for kinesis-streams, secretsmanager, logs, s3",
        "each but that for s3 bills by the hour in each zone, and by the GB",
    ),
    "none": (
        Level.WARNING,
        "; no way to kinesis-streams, secretsmanager, logs, s3, and VPC_ENDPOINTS=none",
        "DMS has no public address: it can't reach the secret or the stream, the connection test fails",
    ),
}


@pytest.mark.parametrize("choice", WAYS)
def test_check_ways_out_of_subnets_with_none(world: World, choice: str) -> None:
    (found,) = check(world.with_settings(vpc_endpoints=choice), "ways-out")
    level, ending, meaning = WAYS[choice]
    assert (found.level, found.meaning) == (level, meaning)
    assert found.found.startswith("default routes subnet-")
    assert found.found.endswith(ending)


def test_check_ways_out_through_a_nat_gateway(world: World) -> None:
    ec2 = world.client("ec2")
    (table,) = ec2.describe_route_tables()["RouteTables"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    gateway = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=address)["NatGateway"]["NatGatewayId"]
    ec2.delete_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
    ec2.create_route(
        RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", NatGatewayId=gateway
    )
    (found,) = check(world, "ways-out")
    assert found.level is Level.OK
    assert found.found.endswith(": NAT gateway; no VPC endpoint has to be made")


def test_check_a_vpc_without_private_dns(world: World) -> None:
    ec2 = world.client("ec2")
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    ec2.modify_vpc_attribute(VpcId=vpc["VpcId"], EnableDnsHostnames={"Value": False})
    (found,) = check(world, "ways-out")
    command = f"aws ec2 modify-vpc-attribute --vpc-id {vpc['VpcId']}"
    assert found.level is Level.BLOCKER
    assert found.fix == f"{command} --enable-dns-support && {command} --enable-dns-hostnames"


def quota(used: int, most: int) -> dict[str, Any]:
    return {"AccountQuotas": [{"AccountQuotaName": "Endpoints", "Used": used, "Max": most}]}


def test_check_quotas_that_leave_no_room(world: World) -> None:
    with answering(world, "dms", "DescribeAccountAttributes", quota(999, 1000)):
        (found,) = check(world, "dms-quotas")
    assert (found.level, found.subject, found.found) == (Level.BLOCKER, "Endpoints", "999 of 1000 used")
    assert found.meaning == "the chain needs 2 more: apply would end there"


def test_check_quotas_count_what_is_there_already_once(world: World) -> None:
    apply(world)
    with answering(world, "dms", "DescribeAccountAttributes", quota(1000, 1000)):
        (found,) = check(world, "dms-quotas")
    assert (found.level, found.found) == (Level.OK, "Endpoints 1000 of 1000 used")


def test_check_an_instance_class_that_dms_does_not_offer(world: World) -> None:
    (found,) = check(world.with_settings(dms_instance_class="dms.x9.large"), "dms-engine")
    assert (found.level, found.found) == (
        Level.BLOCKER,
        "DMS offers no dms.x9.large in eu-west-1: choose another class",
    )


ENGINES = [
    (
        "3.5.2",
        "16.8",
        Level.BLOCKER,
        "DMS 3.5.2 is the newest that it is offered with; PostgreSQL 16 needs 3.5.3 or newer",
    ),
    ("3.6.1", "16.8", Level.OK, "DMS 3.6.1 is the newest that it is offered with; it reads PostgreSQL 16"),
    ("3.6.1", "99.1", Level.WARNING, "DMS 3.6.1 is the newest that it is offered with"),
]


@pytest.mark.parametrize(
    ("engine", "postgresql", "level", "text"), ENGINES, ids=["too old", "reads it", "not confirmed"]
)
@pytest.mark.parametrize("world", ["created"], indirect=True)
def test_check_the_engine_against_the_databases_version(
    world: World, engine: str, postgresql: str, level: Level, text: str
) -> None:
    offer = {"EngineVersion": engine, "ReplicationInstanceClass": "dms.t3.medium"}
    version = {"EngineVersion": postgresql, "DBParameterGroupFamily": "postgres"}
    with (
        answering(
            world,
            "dms",
            "DescribeOrderableReplicationInstances",
            {"OrderableReplicationInstances": [offer]},
        ),
        answering(world, "rds", "DescribeDBEngineVersions", {"DBEngineVersions": [version]}),
    ):
        (found,) = check(world, "dms-engine")
    assert (found.level, found.found) == (level, text)


@pytest.mark.parametrize("world", ["elsewhere"], indirect=True)
def test_check_the_engine_where_only_the_database_knows_its_version(world: World) -> None:
    (found,) = check(world, "dms-engine")
    assert (found.level, found.found) == (Level.OK, "DMS 3.6.1 is the newest that it is offered with")
