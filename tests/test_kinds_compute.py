"""DMS and Lambda: subnet group to running task, function to event source mapping.

Through observe, plan, execute, destroy, against our model of AWS (local_run.aws): its states take time, and
it refuses what AWS refuses. Every request is checked against botocore's model of the service.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kinds_support import (
    ACCOUNT_ID,
    REGION,
    Interrupted,
    Wire,
    account,
    actions,
    allow,
    apply,
    aws,
    silent,
    trust,
    wire,
    wire_and_clients,
)

from local_run import aws as model
from provision.aws import Account, AwsError, iam_action
from provision.engine import Action, Ref, RefusedError, Resource, destroy, execute, observe, plan, resolve
from provision.kinds.dms import (
    Connection,
    Endpoint,
    ReplicationInstance,
    SubnetGroup,
    Task,
    TaskRun,
    by_rule_id,
    likely_cause,
)
from provision.kinds.lambda_ import Alias, EventSourceMapping, Function, configuration, environment

__all__ = ["account", "aws", "wire", "wire_and_clients"]  # fixtures

STREAM_ARN = f"arn:aws:kinesis:{REGION}:{ACCOUNT_ID}:stream/lending-stream"
FAILED_BUCKET = "arn:aws:s3:::lending-failed"

# --------------------------------------------------------------------------------------------------------
# What the chains rely on, and the chains
# --------------------------------------------------------------------------------------------------------


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT_ID}:role/{name}"


def make_role(account: Account, name: str, service: str, *statements: tuple[Any, Any]) -> None:
    iam = account.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust(service)))
    for number, (action, resource) in enumerate(statements):
        document = json.dumps(allow(action, resource))
        iam.put_role_policy(RoleName=name, PolicyName=f"p{number}", PolicyDocument=document)


def prepare(account: Account) -> dict[str, Any]:
    """Roles, network, stream and secret; what of them AWS names itself."""
    make_role(account, "dms-vpc-role", "dms.amazonaws.com", ("ec2:*", "*"))
    reads = ["kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:DescribeStream"]
    reads += ["kinesis:DescribeStreamSummary", "kinesis:ListShards"]
    writes = ["kinesis:DescribeStream", "kinesis:PutRecord", "kinesis:PutRecords"]
    make_role(account, "lending-target", "dms.amazonaws.com", (writes, STREAM_ARN))
    make_role(account, "lending-secret", f"dms.{REGION}.amazonaws.com")
    for name in ("lending-lambda", "lending-other"):
        make_role(
            account,
            name,
            "lambda.amazonaws.com",
            (reads, STREAM_ARN),
            ("kinesis:ListStreams", "*"),
            ("s3:PutObject", f"{FAILED_BUCKET}/*"),
        )
    account.client("kinesis").create_stream(StreamName="lending-stream", ShardCount=1, Tags={})
    account.client("kinesis").describe_stream_summary(StreamName="lending-stream")
    secret = account.client("secretsmanager").create_secret(Name="lending-login", SecretString="{}")
    return {"secret": secret["ARN"], **network(account)}


def network(account: Account) -> dict[str, Any]:
    ec2 = account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.1.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")
        for n, zone in enumerate("abc")
    ]
    groups = [
        ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        for name in ("dms", "other")
    ]
    return {"subnets": [one["Subnet"]["SubnetId"] for one in subnets], "groups": groups}


def selection(number: int, table: str, action: str = "include") -> dict[str, Any]:
    return {
        "rule-type": "selection",
        "rule-id": str(number),
        "rule-name": f"{action}-{table}",
        "object-locator": {"schema-name": "public", "table-name": table},
        "rule-action": action,
    }


MAPPINGS = {"rules": [selection(1, "loan"), selection(2, "awsdms_%", "exclude")]}
MORE_MAPPINGS = {"rules": [*MAPPINGS["rules"], selection(3, "payment")]}
SETTINGS = {
    "TargetMetadata": {"SupportLobs": True, "LobMaxSize": 64},
    "Logging": {
        "EnableLogging": True,
        "LogComponents": [{"Id": "TARGET_APPLY", "Severity": "LOGGER_SEVERITY_DEFAULT"}],
    },
    "ControlTablesSettings": {"StatusTableEnabled": True, "SuspendedTablesTableEnabled": True},
    "BeforeImageSettings": {"EnableBeforeImage": True, "FieldName": "before-image", "ColumnFilter": "all"},
}


def specs(world: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of the chain, in its order. Upper case in an identifier is what DMS makes lower case."""
    return {
        "group": {
            "ReplicationSubnetGroupIdentifier": "Lending-DMS",
            "ReplicationSubnetGroupDescription": "where DMS runs",
            "SubnetIds": list(reversed(world["subnets"][:2])),
        },
        "instance": {
            "ReplicationInstanceIdentifier": "Lending",
            "ReplicationInstanceClass": "dms.t3.medium",
            "ReplicationSubnetGroupIdentifier": Ref("group", "name"),
            "VpcSecurityGroupIds": world["groups"][:1],
            "AllocatedStorage": 50,
            "MultiAZ": False,
            "PubliclyAccessible": False,
            "AutoMinorVersionUpgrade": False,
            "PreferredMaintenanceWindow": "sun:04:00-sun:05:00",
        },
        "source": {
            "EndpointIdentifier": "Lending-Source",
            "EndpointType": "source",
            "EngineName": "postgres",
            "DatabaseName": "lending",
            "SslMode": "require",
            "PostgreSQLSettings": {
                "SecretsManagerAccessRoleArn": role_arn("lending-secret"),
                "SecretsManagerSecretId": world["secret"],
                "PluginName": "test-decoding",
                "HeartbeatEnable": True,
                "HeartbeatFrequency": 5,
                "MapBooleanAsBoolean": True,
            },
        },
        "target": {
            "EndpointIdentifier": "lending-target",
            "EndpointType": "target",
            "EngineName": "kinesis",
            "KinesisSettings": {
                "StreamArn": STREAM_ARN,
                "MessageFormat": "json-unformatted",
                "ServiceAccessRoleArn": role_arn("lending-target"),
                "IncludeTransactionDetails": True,
                "IncludeNullAndEmpty": True,
            },
        },
        **{f"{end}-connection": connection_spec(end) for end in ("source", "target")},
        "task": {
            "ReplicationTaskIdentifier": "Lending",
            "SourceEndpointArn": Ref("source", "arn"),
            "TargetEndpointArn": Ref("target", "arn"),
            "ReplicationInstanceArn": Ref("instance", "arn"),
            "MigrationType": "full-load-and-cdc",
            "TableMappings": by_rule_id(MAPPINGS),
            "ReplicationTaskSettings": SETTINGS,
        },
        "run": {
            "ReplicationTaskIdentifier": "Lending",
            "ReplicationTaskArn": Ref("task", "arn"),
            "Status": "running",
        },
        "function": FUNCTION,
        "alias": {"FunctionName": "lending", "Name": "live", "Configuration": configuration(FUNCTION)},
        "mapping": MAPPING,
    }


def connection_spec(end: str) -> dict[str, Any]:
    return {
        "EndpointIdentifier": f"Lending-{end}",
        "EndpointArn": Ref(end, "arn"),
        "ReplicationInstanceArn": Ref("instance", "arn"),
        "Status": "successful",
    }


FUNCTION = {
    "FunctionName": "lending",
    "Architectures": ["arm64"],
    "Runtime": "python3.13",
    "Handler": "lambda_function.lambda_handler",
    "Role": role_arn("lending-lambda"),
    "MemorySize": 512,
    "Timeout": 120,
    "Description": "lands changes",
    "Environment": environment({"S3_BUCKET": "lending-rows", "ON_POISON": "quarantine"}),
    "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/lending"},
    "EphemeralStorage": {"Size": 512},
    "TracingConfig": {"Mode": "PassThrough"},
}
MAPPING = {
    "FunctionName": Ref("alias", "arn"),
    "EventSourceArn": STREAM_ARN,
    "Enabled": True,
    "BatchSize": 10000,
    "MaximumBatchingWindowInSeconds": 5,
    "ParallelizationFactor": 1,
    "BisectBatchOnFunctionError": True,
    "MaximumRecordAgeInSeconds": 518400,
    "MaximumRetryAttempts": 100,
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "DestinationConfig": {"OnFailure": {"Destination": FAILED_BUCKET}},
    "StartingPosition": "TRIM_HORIZON",
}


def zipped(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("lambda_function.py", text)
    return buffer.getvalue()


KINDS: dict[str, Callable[[Account], Any]] = {
    "group": SubnetGroup,
    "instance": ReplicationInstance,
    "source": Endpoint,
    "target": Endpoint,
    "source-connection": Connection,
    "target-connection": Connection,
    "task": Task,
    "run": TaskRun,
    "function": lambda account: Function(account, zipped("first")),
    "alias": Alias,
    "mapping": EventSourceMapping,
}
PAUSES = dict.fromkeys(("source", "target", "task"), "run")
DMS = [name for name in KINDS if name not in ("function", "alias", "mapping")]
LAMBDA = ["function", "alias", "mapping"]
CHAINS = {"dms": DMS, "lambda": LAMBDA}


@pytest.fixture
def world(aws: model.EmulatedAws, account: Account, wire: Wire) -> dict[str, Any]:
    made = prepare(account)
    wire.forget()
    return made


def chain_of(
    account: Account, world: dict[str, Any], names: list[str], **changed: dict[str, Any]
) -> list[Resource]:
    """chain_of(account, world, DMS, instance={"MultiAZ": True})"""
    every = specs(world)
    for name, keys in changed.items():
        every[name] = {**every[name], **keys}
    return [
        Resource(name, KINDS[name](account), every[name], PAUSES.get(name, "") if "run" in names else "")
        for name in names
    ]


def keeps(chain: list[Resource]) -> bool:
    return set(actions(chain)) == {Action.KEEP}


def values_of(chain: list[Resource]) -> list[Any]:
    """What there is, without the ARNs, which hold random ids."""
    return [
        {key: value for key, value in live.values.items() if not key.endswith("Arn")}
        for live in observe(chain).values()
        if live
    ]


# --------------------------------------------------------------------------------------------------------
# Whole chains
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", CHAINS.values(), ids=CHAINS)
def test_an_empty_account_gets_the_chain_and_a_second_plan_keeps_it(
    account: Account, world: Any, wire: Wire, names: list[str]
) -> None:
    chain = chain_of(account, world, names)

    steps, now = apply(chain)
    wire.forget()

    assert [step.action for step in steps] == [Action.CREATE] * len(chain)
    assert keeps(chain)
    assert all(live and live.is_ours for live in now.values())
    apply(chain)
    assert wire.writes == []


@pytest.mark.parametrize("names", CHAINS.values(), ids=CHAINS)
def test_states_that_last_are_waited_for(
    aws: model.EmulatedAws, account: Account, world: Any, names: list[str]
) -> None:
    """And roles that AWS does not know everywhere yet."""
    aws.transitions, aws.role_lag = 4, 3
    chain = chain_of(account, world, names)

    apply(chain)
    assert keeps(chain)
    destroy(chain, observe(chain), silent)

    assert actions(chain) == [Action.CREATE] * len(chain)


@pytest.mark.parametrize("names", CHAINS.values(), ids=CHAINS)
def test_destroy_leaves_nothing_and_deleting_twice_is_no_fault(
    account: Account, world: Any, names: list[str]
) -> None:
    chain = chain_of(account, world, names)
    apply(chain)
    before = observe(chain)

    destroy(chain, before, silent)
    for resource in reversed(chain):
        if resource.name != "run":
            assert resource.kind.find(resolve(resource.spec, before)) is None
    destroy(chain, before, silent)

    assert actions(chain) == [Action.CREATE] * len(chain)


@pytest.mark.parametrize("names", CHAINS.values(), ids=CHAINS)
def test_an_apply_interrupted_after_any_write_is_finished_by_the_next(
    aws: model.EmulatedAws, account: Account, world: Any, wire: Wire, names: list[str]
) -> None:
    chain = chain_of(account, world, names)
    apply(chain)
    writes, uninterrupted = list(wire.writes), [set(values) for values in values_of(chain)]

    for last in range(1, len(writes) + 1):
        aws.reset()
        chain = chain_of(account, prepare(account), names)
        wire.forget()
        wire.interrupt_after = last
        with pytest.raises(Interrupted):
            apply(chain)
        wire.forget()
        apply(chain)
        assert keeps(chain), f"interrupted after {writes[last - 1]}"
        assert [set(values) for values in values_of(chain)] == uninterrupted


@pytest.mark.parametrize("then", ["destroy", "apply"])
@pytest.mark.parametrize("names", CHAINS.values(), ids=CHAINS)
def test_a_destroy_interrupted_after_any_write_is_finished_or_undone_by_the_next_command(
    aws: model.EmulatedAws, account: Account, world: Any, wire: Wire, names: list[str], then: str
) -> None:
    chain = chain_of(account, world, names)
    apply(chain)
    wire.forget()
    destroy(chain, observe(chain), silent)

    for last in range(1, len(wire.writes) + 1):
        aws.reset()
        chain = chain_of(account, prepare(account), names)
        apply(chain)
        aws.transitions = 3  # so that what was on its way out still is
        wire.forget()
        wire.interrupt_after = last
        with pytest.raises(Interrupted):
            destroy(chain, observe(chain), silent)
        wire.forget()
        if then == "apply":
            apply(chain)
            assert keeps(chain)
        else:
            destroy(chain, observe(chain), silent)
            assert actions(chain) == [Action.CREATE] * len(chain)


@pytest.mark.parametrize("names", CHAINS.values(), ids=CHAINS)
def test_objects_that_are_not_ours_are_reported_and_never_written_to(
    account: Account, world: Any, wire: Wire, names: list[str]
) -> None:
    apply(chain_of(replace(account, pipeline="another"), world, names))
    chain = chain_of(account, world, names, task={"TableMappings": by_rule_id(MORE_MAPPINGS)})
    wire.forget()

    steps, now = apply(chain)
    destroy(chain, now, silent)

    assert [step.action for step in steps] == [Action.FOREIGN] * len(chain)
    assert wire.writes == []


@pytest.mark.parametrize("names", CHAINS.values(), ids=CHAINS)
def test_what_stands_on_foreign_objects_is_not_made(
    account: Account, world: Any, wire: Wire, names: list[str]
) -> None:
    """A task of somebody else that never ran is not started, and no mapping put on a foreign function."""
    ends = [name for name in names if name not in ("run", "source-connection", "alias", "mapping")]
    apply(chain_of(replace(account, pipeline="another"), world, ends))
    wire.forget()

    steps, _ = apply(chain_of(account, world, names))

    assert {step.action for step in steps} == {Action.FOREIGN}
    assert wire.writes == []


@pytest.mark.parametrize("names", CHAINS.values(), ids=CHAINS)
def test_a_missing_permission_is_named_with_what_it_is_for(
    aws: model.EmulatedAws, account: Account, world: Any, wire: Wire, names: list[str]
) -> None:
    """At every call of an apply and of a destroy."""
    chain = chain_of(account, world, names)
    apply(chain)
    destroy(chain, observe(chain), silent)
    operations = {(call.service, call.operation) for call in wire.calls}

    for service, operation in operations - {("sts", "GetCallerIdentity")}:  # that one needs no permission
        aws.reset()
        chain = chain_of(account, prepare(account), names)
        wire.refusals[f"{service}.{operation}"] = [("AccessDeniedException", "not authorized")] * 50
        with pytest.raises(AwsError) as caught:
            apply(chain)
            destroy(chain, observe(chain), silent)
        wire.refusals.clear()
        client = account.client(service)
        method = next(py for py, api in client.meta.method_to_api_mapping.items() if api == operation)
        assert f"{iam_action(client, method)} on " in str(caught.value)
        assert " lending" in str(caught.value)
        assert "is not allowed" in str(caught.value)


# --------------------------------------------------------------------------------------------------------
# Drift
# --------------------------------------------------------------------------------------------------------

Drift = Callable[[Account, Any, Any], Any]  # (account, world, the live object)


def group(**changed: Any) -> Drift:
    def drift(account: Account, world: Any, live: Any) -> None:
        found = {"SubnetIds": world["subnets"][:2]} | {
            key: value(world) if callable(value) else value for key, value in changed.items()
        }
        account.client("dms").modify_replication_subnet_group(
            ReplicationSubnetGroupIdentifier="lending-dms", **found
        )

    return drift


def instance(**changed: Any) -> Drift:
    def drift(account: Account, world: Any, live: Any) -> None:
        given = {key: value(world) if callable(value) else value for key, value in changed.items()}
        account.client("dms").modify_replication_instance(
            ReplicationInstanceArn=live.attributes["arn"], ApplyImmediately=True, **given
        )
        for _ in range(3):
            account.client("dms").describe_replication_instances()

    return drift


def endpoint(**changed: Any) -> Drift:
    return lambda account, world, live: account.client("dms").modify_endpoint(
        EndpointArn=live.attributes["arn"], **changed
    )


def task(**changed: Any) -> Drift:
    def drift(account: Account, world: Any, live: Any) -> None:
        texts = {key: json.dumps(value) for key, value in changed.items()}
        account.client("dms").modify_replication_task(ReplicationTaskArn=live.attributes["arn"], **texts)
        for _ in range(3):
            account.client("dms").describe_replication_tasks()

    return drift


def function(**changed: Any) -> Drift:
    def drift(account: Account, world: Any, live: Any) -> None:
        account.client("lambda").update_function_configuration(FunctionName="lending", **changed)

    return drift


def mapping(**changed: Any) -> Drift:
    def drift(account: Account, world: Any, live: Any) -> None:
        client = account.client("lambda")
        client.update_event_source_mapping(UUID=live.attributes["uuid"], **changed)
        for _ in range(3):
            client.get_event_source_mapping(UUID=live.attributes["uuid"])

    return drift


QUIET = {
    "EnableLogging": True,
    "LogComponents": [{"Id": "TARGET_APPLY", "Severity": "LOGGER_SEVERITY_ERROR"}],
}
ANOTHER_LOAN = {**selection(1, "loan"), "object-locator": {"schema-name": "public", "table-name": "loans"}}
DRIFTS: list[tuple[str, str, Drift]] = [
    ("group", "SubnetIds", group(SubnetIds=lambda world: world["subnets"])),
    ("group", "ReplicationSubnetGroupDescription", group(ReplicationSubnetGroupDescription="other")),
    ("instance", "ReplicationInstanceClass", instance(ReplicationInstanceClass="dms.t3.large")),
    ("instance", "AllocatedStorage", instance(AllocatedStorage=100)),
    ("instance", "MultiAZ", instance(MultiAZ=True)),
    ("instance", "VpcSecurityGroupIds", instance(VpcSecurityGroupIds=lambda world: world["groups"])),
    ("instance", "AutoMinorVersionUpgrade", instance(AutoMinorVersionUpgrade=True)),
    ("instance", "PreferredMaintenanceWindow", instance(PreferredMaintenanceWindow="mon:04:00-mon:05:00")),
    ("source", "SslMode", endpoint(SslMode="none")),
    (
        "source",
        "PostgreSQLSettings.HeartbeatEnable",
        endpoint(PostgreSQLSettings={"HeartbeatEnable": False}),
    ),
    ("source", "PostgreSQLSettings.PluginName", endpoint(PostgreSQLSettings={"PluginName": "pglogical"})),
    ("target", "KinesisSettings.MessageFormat", endpoint(KinesisSettings={"MessageFormat": "json"})),
    (
        "target",
        "KinesisSettings.IncludeNullAndEmpty",
        endpoint(KinesisSettings={"IncludeNullAndEmpty": False}),
    ),
    ("task", "TableMappings.rules.2", task(TableMappings={"rules": MAPPINGS["rules"][:1]})),
    ("task", "TableMappings.other-rules", task(TableMappings=MORE_MAPPINGS)),
    (
        "task",
        "TableMappings.rules.1.object-locator.table-name",
        task(TableMappings={"rules": [ANOTHER_LOAN, MAPPINGS["rules"][1]]}),
    ),
    (
        "task",
        "ReplicationTaskSettings.TargetMetadata.SupportLobs",
        task(
            ReplicationTaskSettings={**SETTINGS, "TargetMetadata": {"SupportLobs": False, "LobMaxSize": 64}}
        ),
    ),
    (
        "task",
        "ReplicationTaskSettings.Logging.LogComponents",
        task(ReplicationTaskSettings={**SETTINGS, "Logging": QUIET}),
    ),
    ("function", "Runtime", function(Runtime="python3.12")),
    ("function", "Handler", function(Handler="other.handler")),
    ("function", "Role", function(Role=role_arn("lending-other"))),
    ("function", "MemorySize", function(MemorySize=128)),
    ("function", "Timeout", function(Timeout=3)),
    ("function", "Description", function(Description="other")),
    (
        "function",
        "Environment.Variables.ON_POISON",
        function(Environment={"Variables": {"S3_BUCKET": "lending-rows", "ON_POISON": "stop"}}),
    ),
    (
        "function",
        "Environment.others",
        function(
            Environment={"Variables": {"S3_BUCKET": "lending-rows", "ON_POISON": "quarantine", "MORE": "1"}}
        ),
    ),
    (
        "function",
        "LoggingConfig.LogFormat",
        function(LoggingConfig={"LogFormat": "JSON", "LogGroup": "/aws/lambda/lending"}),
    ),
    ("function", "EphemeralStorage.Size", function(EphemeralStorage={"Size": 1024})),
    ("function", "TracingConfig.Mode", function(TracingConfig={"Mode": "Active"})),
    ("mapping", "Enabled", mapping(Enabled=False)),
    ("mapping", "BatchSize", mapping(BatchSize=100)),
    ("mapping", "MaximumBatchingWindowInSeconds", mapping(MaximumBatchingWindowInSeconds=60)),
    ("mapping", "ParallelizationFactor", mapping(ParallelizationFactor=10)),
    ("mapping", "BisectBatchOnFunctionError", mapping(BisectBatchOnFunctionError=False)),
    ("mapping", "MaximumRecordAgeInSeconds", mapping(MaximumRecordAgeInSeconds=3600)),
    ("mapping", "MaximumRetryAttempts", mapping(MaximumRetryAttempts=1)),
    ("mapping", "FunctionResponseTypes", mapping(FunctionResponseTypes=[])),
    (
        "mapping",
        "DestinationConfig.OnFailure.Destination",
        mapping(DestinationConfig={"OnFailure": {}}),
    ),
]


@pytest.mark.parametrize(
    ("name", "path", "drift"), DRIFTS, ids=[f"{name}-{path}" for name, path, _ in DRIFTS]
)
def test_what_was_changed_by_hand_is_shown_and_put_right(
    account: Account, world: Any, name: str, path: str, drift: Drift
) -> None:
    """The task does not run here: what has to rest for a change has a test of its own."""
    names = LAMBDA if name in LAMBDA else [one for one in DMS if one != "run"]
    chain = chain_of(account, world, names)
    _, now = apply(chain)
    drift(account, world, now[name])

    observed = observe(chain)
    step = next(step for step in plan(chain, observed) if step.resource.name == name)
    apply(chain)

    assert step.action is Action.UPDATE
    assert [change.path for change in step.changes] == [path]
    assert keeps(chain)


IMMUTABLE: list[tuple[str, dict[str, Any], str]] = [
    ("instance", {"PubliclyAccessible": True}, "position"),
    ("instance", {"KmsKeyId": "alias/mine"}, "position"),
    ("source", {"EngineName": "aurora-postgresql"}, "position"),
    ("source", {"DatabaseName": "other"}, "position"),
    ("task", {"MigrationType": "cdc"}, "changes since then would be lost"),
    ("task", {"SourceEndpointArn": "arn:of:another"}, "changes since then would be lost"),
    ("task", {"ReplicationInstanceArn": "arn:of:another"}, "changes since then would be lost"),
]


@pytest.mark.parametrize(("name", "changed", "reason"), IMMUTABLE, ids=[str(one[:2]) for one in IMMUTABLE])
def test_a_change_that_takes_a_new_object_is_refused(
    account: Account, world: Any, wire: Wire, name: str, changed: dict[str, Any], reason: str
) -> None:
    apply(chain_of(account, world, DMS))
    wire.forget()

    with pytest.raises(RefusedError, match=f"{name}: .*{reason}"):
        apply(chain_of(account, world, DMS, **{name: changed}))

    assert wire.writes == []


# --------------------------------------------------------------------------------------------------------
# DMS
# --------------------------------------------------------------------------------------------------------


def sent(wire: Wire, operation: str) -> list[dict[str, Any]]:
    return [call.parameters for call in wire.calls if call.operation == operation]


def describe_task(account: Account) -> Any:
    return account.client("dms").describe_replication_tasks()["ReplicationTasks"][0]


def test_identifiers_are_lower_case_as_dms_makes_them(account: Account, world: Any, wire: Wire) -> None:
    apply(chain_of(account, world, DMS))

    group, created = (sent(wire, f"CreateReplication{what}")[0] for what in ("SubnetGroup", "Instance"))
    assert group["ReplicationSubnetGroupIdentifier"] == "lending-dms"
    assert created["ReplicationInstanceIdentifier"] == "lending"
    assert created["ReplicationSubnetGroupIdentifier"] == "lending-dms"
    assert [one["EndpointIdentifier"] for one in sent(wire, "CreateEndpoint")] == [
        "lending-source",
        "lending-target",
    ]


def test_an_endpoint_that_aws_spells_otherwise_is_kept(account: Account, world: Any, wire: Wire) -> None:
    def respell(answer: Any) -> None:
        for one in answer["Endpoints"]:
            one["EndpointType"] = one["EndpointType"].upper()
            if "PostgreSQLSettings" in one:
                one["PostgreSQLSettings"]["PluginName"] = "test_decoding"

    chain = chain_of(account, world, DMS)
    apply(chain)
    wire.edits["DescribeEndpoints"] = respell

    assert keeps(chain)


@pytest.mark.parametrize("name", ["group", "source"])
def test_a_role_that_is_not_known_yet_is_waited_for(
    aws: model.EmulatedAws, account: Account, world: Any, wire: Wire, name: str
) -> None:
    operation = {"group": "CreateReplicationSubnetGroup", "source": "CreateEndpoint"}[name]
    why = "The IAM Role arn:aws:iam::123456789012:role/dms-vpc-role is not configured properly."
    wire.refusals[f"dms.{operation}"] = [("AccessDeniedFault", why)] * 3
    chain = chain_of(account, world, [name])

    apply(chain)

    assert keeps(chain)
    assert len(sent(wire, operation)) == 4


def test_a_role_that_does_not_trust_dms_is_named(account: Account, world: Any) -> None:
    account.client("iam").delete_role_policy(RoleName="dms-vpc-role", PolicyName="p0")

    with pytest.raises(AwsError, match=r"role/dms-vpc-role is not configured properly\. It has to exist"):
        apply(chain_of(account, world, ["group"]))


def test_another_refusal_of_access_is_not_tried_again(account: Account, world: Any, wire: Wire) -> None:
    wire.refusals["dms.CreateEndpoint"] = [("AccessDeniedFault", "no iam:PassRole on role/x")] * 2

    with pytest.raises(AwsError, match=r"dms:CreateEndpoint on .* is not allowed"):
        apply(chain_of(account, world, ["source"]))

    assert len(sent(wire, "CreateEndpoint")) == 1


def test_an_instance_gets_the_newest_engine_that_is_no_beta_and_keeps_it(
    account: Account, world: Any, wire: Wire
) -> None:
    chain = chain_of(account, world, ["group", "instance"])

    _, now = apply(chain)

    assert now["instance"] is not None
    assert now["instance"].attributes["engine_version"] == "3.6.1"
    assert keeps(chain)


def test_an_instance_is_upgraded_and_never_taken_back(account: Account, world: Any) -> None:
    names = ["group", "instance"]
    apply(chain_of(account, world, names, instance={"EngineVersion": "3.5.4"}))

    newer, older = (
        chain_of(account, world, names, instance={"EngineVersion": version}) for version in ("3.6.1", "3.5.3")
    )
    assert keeps(older)
    _, now = apply(newer)

    assert now["instance"] is not None
    assert now["instance"].attributes["engine_version"] == "3.6.1"
    assert keeps(newer) and keeps(older)


def test_an_instance_class_that_aws_does_not_offer_is_named(account: Account, world: Any) -> None:
    chain = chain_of(account, world, ["group", "instance"], instance={"ReplicationInstanceClass": "dms.x9"})

    with pytest.raises(AwsError, match=r"DMS offers no dms\.x9 in eu-west-1"):
        apply(chain)


def test_a_broken_instance_is_not_waited_for(account: Account, world: Any, wire: Wire) -> None:
    def break_it(answer: Any) -> None:
        answer["ReplicationInstances"][0]["ReplicationInstanceStatus"] = "incompatible-network"

    chain = chain_of(account, world, ["group", "instance"])
    apply(chain)
    wire.edits["DescribeReplicationInstances"] = break_it

    with pytest.raises(AwsError, match="replication instance lending is incompatible-network"):
        apply(chain)


REFUSED = 'FATAL: no pg_hba.conf entry for host "10.1.0.9", user "dms", database "lending", no encryption'


def test_a_connection_that_fails_says_why_in_aws_words_and_is_tested_again(
    aws: model.EmulatedAws, account: Account, world: Any, wire: Wire
) -> None:
    aws.connection_failures["lending-source"] = REFUSED
    chain = chain_of(account, world, DMS)

    with pytest.raises(AwsError) as caught:
        apply(chain)
    assert f"endpoint lending-source; AWS says: {REFUSED}; likely: " in str(caught.value)
    assert "SslMode has to be require" in str(caught.value)

    steps = plan(chain, observe(chain))
    aws.connection_failures.clear()
    apply(chain)

    failed = next(step for step in steps if step.resource.name == "source-connection")
    assert [(change.path, change.old) for change in failed.changes] == [("Status", f"failed: {REFUSED}")]
    assert keeps(chain)


@pytest.mark.parametrize(
    ("failure", "part"),
    [
        ("could not connect to server: Connection timed out", "security group"),
        ('password authentication failed for user "dms"', "user or password"),
        ("Unable to retrieve the secret: timed out", "Secrets Manager"),
        ('could not translate host name "db" to address', "host in the secret"),
        ("not authorized to perform: kinesis:DescribeStream", "role lacks the permission"),
        ('database "lendin" does not exist', "misspelt"),
        ("something else", "none known"),
    ],
)
def test_the_likely_cause_of_a_failed_connection(failure: str, part: str) -> None:
    assert part in likely_cause(failure)


def test_a_new_table_shows_only_its_rules_and_leaves_the_task_to_be_resumed(
    account: Account, world: Any, wire: Wire
) -> None:
    """Never loaded anew: the tables that are there would land a second time."""
    apply(chain_of(account, world, DMS))
    chain = chain_of(account, world, DMS, task={"TableMappings": by_rule_id(MORE_MAPPINGS)})
    wire.forget()

    steps, _ = apply(chain)

    changed = [(one.resource.name, one.action, one.changes) for one in steps if one.is_work]
    assert [(name, action) for name, action, _ in changed] == [("task", Action.UPDATE)]
    assert [(one.path, one.old) for one in changed[0][2]] == [("TableMappings.rules.3", None)]
    assert wire.writes == ["StopReplicationTask", "ModifyReplicationTask"]
    assert json.loads(sent(wire, "ModifyReplicationTask")[0]["TableMappings"]) == MORE_MAPPINGS

    wire.forget()
    steps, _ = apply(chain)

    assert [one.resource.name for one in steps if one.is_work] == ["run"]
    assert [one["StartReplicationTaskType"] for one in sent(wire, "StartReplicationTask")] == [
        "resume-processing"
    ]
    assert keeps(chain)


def test_an_endpoint_is_changed_while_the_task_rests(account: Account, world: Any, wire: Wire) -> None:
    apply(chain_of(account, world, DMS))
    chain = chain_of(account, world, DMS, source={"SslMode": "none"})
    wire.forget()

    apply(chain)
    assert wire.writes == ["StopReplicationTask", "ModifyEndpoint"]
    apply(chain)

    assert keeps(chain)


def test_a_task_that_runs_is_not_changed_behind_its_back(account: Account, world: Any, wire: Wire) -> None:
    apply(chain_of(account, world, DMS))
    chain = chain_of(account, world, DMS, task={"TableMappings": by_rule_id(MORE_MAPPINGS)})
    wire.forget()

    with pytest.raises(AwsError, match="replication task lending is running: stop it first"):
        apply([replace(resource, pauses="") for resource in chain])

    assert wire.writes == []


def test_a_task_is_resumed_once_aws_has_tested_the_changed_endpoint(
    account: Account, world: Any, wire: Wire
) -> None:
    _, now = apply(chain_of(account, world, DMS))
    chain = chain_of(account, world, DMS, source={"SslMode": "none"})
    assert now["run"] is not None
    chain[-1].kind.pause(now["run"], chain[-1].spec)

    apply(chain)

    assert keeps(chain)


def test_a_task_is_started_once_and_resumed_ever_after(account: Account, world: Any, wire: Wire) -> None:
    chain = chain_of(account, world, DMS)
    _, now = apply(chain)
    run = chain[-1]
    for _ in range(2):
        assert now["run"] is not None
        run.kind.pause(now["run"], run.spec)
        assert describe_task(account)["Status"] == "stopped"
        run.kind.pause(now["run"], run.spec)
        _, now = apply(chain)

    assert [one["StartReplicationTaskType"] for one in sent(wire, "StartReplicationTask")] == [
        "start-replication",
        "resume-processing",
        "resume-processing",
    ]


def test_a_failed_task_shows_aws_words_and_is_resumed(
    aws: model.EmulatedAws, account: Account, world: Any, wire: Wire
) -> None:
    chain = chain_of(account, world, DMS)
    apply(chain)
    aws.fail_task("lending", "replication slot does not exist")
    wire.forget()

    steps, _ = apply(chain)

    assert [(one.path, one.old, one.new) for one in steps[-1].changes] == [
        ("Status", "failed: replication slot does not exist", "running")
    ]
    assert [one["StartReplicationTaskType"] for one in sent(wire, "StartReplicationTask")] == [
        "resume-processing"
    ]
    assert keeps(chain)


def test_a_task_that_does_not_stay_running_says_why(
    aws: model.EmulatedAws, account: Account, world: Any, wire: Wire
) -> None:
    def fail(answer: Any) -> None:
        aws.fail_task("lending", "No tables were found")

    wire.edits["StartReplicationTask"] = fail

    with pytest.raises(
        AwsError, match="task lending does not stay running, it is failed: No tables were found"
    ):
        apply(chain_of(account, world, DMS))


def test_settings_that_dms_adds_are_neither_drift_nor_sent(account: Account, world: Any, wire: Wire) -> None:
    """AWS returns some hundred and fifty settings for the few that were given, and where it logs."""
    chain = chain_of(account, world, DMS)
    apply(chain)
    assert "CloudWatchLogGroup" in describe_task(account)["ReplicationTaskSettings"]
    assert keeps(chain)

    logging = {**SETTINGS["Logging"], "CloudWatchLogGroup": "dms-tasks-lending"}
    apply(chain_of(account, world, DMS, task={"ReplicationTaskSettings": {**SETTINGS, "Logging": logging}}))
    apply(chain_of(account, world, DMS, task={"ReplicationTaskSettings": {**SETTINGS, "X": None}}))

    texts = sent(wire, "CreateReplicationTask") + sent(wire, "ModifyReplicationTask")
    assert all("CloudWatchLog" not in str(one.get("ReplicationTaskSettings")) for one in texts)


# --------------------------------------------------------------------------------------------------------
# Lambda
# --------------------------------------------------------------------------------------------------------


def deploy(account: Account, code: bytes) -> str:
    """As deploy.sh does it; the version."""
    client = account.client("lambda")
    for _ in range(2):
        client.get_function(FunctionName="lending")
    version = client.update_function_code(
        FunctionName="lending", ZipFile=code, Architectures=["x86_64"], Publish=True
    )["Version"]
    for _ in range(2):
        client.get_function(FunctionName="lending")
    point(account, version)
    return str(version)


def point(account: Account, version: str) -> None:
    account.client("lambda").update_alias(FunctionName="lending", Name="live", FunctionVersion=version)


def live(account: Account) -> Any:
    return account.client("lambda").get_function_configuration(FunctionName="lending", Qualifier="live")


def test_the_code_is_asked_for_when_the_function_is_made(
    account: Account, world: Any, tmp_path: Path, wire: Wire
) -> None:
    built = tmp_path / "lambda.zip"
    spec = specs(world)["function"]
    missing = Function(account, built)
    with pytest.raises(AwsError, match=r"cannot read .*lambda.zip.*deploy.sh --build-only"):
        missing.create(spec)

    built.write_bytes(zipped("from a file"))
    missing.create(spec)

    def never() -> bytes:
        raise AssertionError

    assert keeps([Resource("function", Function(account, never), spec)])
    assert sent(wire, "CreateFunction")[-1]["Code"] == {"ZipFile": zipped("from a file")}


def test_a_deploy_and_a_rollback_leave_nothing_to_do(account: Account, world: Any) -> None:
    chain = chain_of(account, world, LAMBDA)
    _, now = apply(chain)
    assert now["alias"] is not None
    assert now["alias"].attributes["version"] == "1"

    assert deploy(account, zipped("second")) == "2"
    assert keeps(chain)

    point(account, "1")
    assert keeps(chain)


def test_a_changed_configuration_is_published_with_the_code_that_is_live(
    account: Account, world: Any
) -> None:
    """A version keeps its configuration: changing the function alone would change nothing that runs."""
    apply(chain_of(account, world, LAMBDA))
    before = live(account)
    changed = {**FUNCTION, "Timeout": 60, "Environment": environment({"S3_BUCKET": "another"})}
    chain = chain_of(
        account, world, LAMBDA, function=changed, alias={"Configuration": configuration(changed)}
    )

    steps, _ = apply(chain)

    now = live(account)
    assert [step.resource.name for step in steps if step.is_work] == ["function", "alias"]
    assert (now["Version"], now["Timeout"]) == ("2", 60)
    assert now["Environment"]["Variables"] == {"S3_BUCKET": "another"}
    assert now["CodeSha256"] == before["CodeSha256"]
    assert keeps(chain)


def test_a_changed_configuration_does_not_undo_a_rollback(account: Account, world: Any) -> None:
    apply(chain_of(account, world, LAMBDA))
    deploy(account, zipped("second"))
    point(account, "1")
    changed = {**FUNCTION, "Timeout": 60}
    chain = chain_of(
        account, world, LAMBDA, function=changed, alias={"Configuration": configuration(changed)}
    )

    with pytest.raises(AwsError, match="points to version 1, whose code is not the one uploaded last"):
        apply(chain)

    assert live(account)["Version"] == "1"
    deploy(account, zipped("third"))
    assert keeps(chain)


def test_a_role_that_lambda_cannot_assume_yet_is_waited_for(account: Account, world: Any, wire: Wire) -> None:
    why = "The role defined for the function cannot be assumed by Lambda."
    wire.refusals["lambda.CreateFunction"] = [("InvalidParameterValueException", why)] * 3
    cannot = "Cannot access stream x. Please ensure the role can perform the GetRecords, ..."
    wire.refusals["lambda.CreateEventSourceMapping"] = [("InvalidParameterValueException", cannot)] * 3
    chain = chain_of(account, world, LAMBDA)

    apply(chain)

    assert keeps(chain)
    assert len(sent(wire, "CreateFunction")) == 4


def test_a_function_that_aws_cannot_make_says_why(account: Account, world: Any, wire: Wire) -> None:
    def fail(answer: Any) -> None:
        answer["Configuration"] |= {"State": "Failed", "StateReason": "the key of its variables is gone"}

    wire.edits["GetFunction"] = fail

    with pytest.raises(AwsError, match=r"function lending: .* so: the key of its variables is gone"):
        apply(chain_of(account, world, LAMBDA))


def test_an_alias_on_a_version_configured_otherwise_is_moved(account: Account, world: Any) -> None:
    chain = chain_of(account, world, LAMBDA)
    apply(chain)
    function(MemorySize=128)(account, world, None)
    client = account.client("lambda")
    for _ in range(2):
        client.get_function(FunctionName="lending")
    point(account, client.publish_version(FunctionName="lending")["Version"])

    steps, _ = apply(chain)

    assert [(one.path, one.old, one.new) for one in steps[1].changes] == [
        ("Configuration.MemorySize", 128, 512)
    ]
    assert live(account)["MemorySize"] == 512
    assert keeps(chain)


def test_an_alias_deleted_by_hand_comes_back_with_its_mapping(account: Account, world: Any) -> None:
    chain = chain_of(account, world, LAMBDA)
    apply(chain)
    account.client("lambda").delete_alias(FunctionName="lending", Name="live")

    steps, _ = apply(chain)

    assert [step.action for step in steps] == [Action.KEEP, Action.CREATE, Action.CREATE]
    assert keeps(chain)


def test_another_invalid_parameter_is_not_tried_again(account: Account, world: Any, wire: Wire) -> None:
    wire.refusals["lambda.CreateFunction"] = [("InvalidParameterValueException", "Unzipped size ...")] * 2

    with pytest.raises(AwsError, match="Unzipped size"):
        apply(chain_of(account, world, LAMBDA))

    assert len(sent(wire, "CreateFunction")) == 1


def test_a_mapping_is_not_mistaken_for_that_of_another_alias(account: Account, world: Any) -> None:
    apply(chain_of(account, world, ["function", "alias"], alias={"Name": "test"}))
    client = account.client("lambda")
    for _ in range(2):
        client.get_function(FunctionName="lending")
    client.create_event_source_mapping(
        FunctionName="lending:test", EventSourceArn=STREAM_ARN, StartingPosition="LATEST", Enabled=False
    )
    chain = chain_of(account, world, LAMBDA)

    steps, _ = apply(chain)

    assert steps[-1].action is Action.CREATE
    assert keeps(chain)
    found = client.list_event_source_mappings(EventSourceArn=STREAM_ARN)["EventSourceMappings"]
    assert sorted(one["FunctionArn"].rpartition(":")[2] for one in found) == ["live", "test"]


def test_a_mapping_that_was_there_already_becomes_the_wanted_one(
    account: Account, world: Any, wire: Wire
) -> None:
    """Made by hand or by another run since the plan was made."""
    chain = chain_of(account, world, LAMBDA)
    apply(chain[:2])
    observed = observe(chain)
    steps = plan(chain, observed)
    made = account.client("lambda").create_event_source_mapping(
        FunctionName="lending:live", EventSourceArn=STREAM_ARN, StartingPosition="LATEST", BatchSize=7
    )

    now = execute(chain, steps, observed, silent)

    assert steps[-1].action is Action.CREATE
    assert now["mapping"] is not None
    assert now["mapping"].attributes["uuid"] == made["UUID"]
    assert keeps(chain)


def test_a_mapping_in_use_is_changed_once_it_is_free(account: Account, world: Any, wire: Wire) -> None:
    apply(chain_of(account, world, LAMBDA))
    why = "Cannot update the event source mapping because it is in use."
    wire.refusals["lambda.UpdateEventSourceMapping"] = [("ResourceInUseException", why)] * 2
    chain = chain_of(account, world, LAMBDA, mapping={"BatchSize": 500})

    apply(chain)

    assert keeps(chain)


def test_a_starting_position_is_only_for_a_new_mapping(account: Account, world: Any, wire: Wire) -> None:
    apply(chain_of(account, world, LAMBDA))
    when = {
        "StartingPosition": "AT_TIMESTAMP",
        "StartingPositionTimestamp": datetime(2026, 11, 23, 6, tzinfo=UTC),
    }
    chain = chain_of(account, world, LAMBDA, mapping=when)
    assert keeps(chain)

    mapping = chain[-1]
    found = observe(chain)
    assert found["mapping"] is not None
    mapping.kind.delete(found["mapping"], resolve(mapping.spec, found))
    wire.forget()
    apply(chain)

    created = sent(wire, "CreateEventSourceMapping")[0]
    assert {key: created[key] for key in when} == when
    assert keeps(chain)
