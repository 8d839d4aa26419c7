"""Buckets, streams, roles, secrets, logs, alarms, rules and topics, through observe, plan, execute, destroy.

Against the emulated AWS of local_run. What is rare in AWS is added by hooks on the client (Wire): refusals, a
busy stream, a subscription that waits for its confirmation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ParamValidationError
from kinds_support import (
    ACCOUNT_ID,
    PASSWORD,
    REGION,
    Interrupted,
    Wire,
    account,
    actions,
    allow,
    apply,
    aws,
    forget_all,
    silent,
    trust,
    wire,
    wire_and_clients,
)
from moto import mock_aws

from local_run.aws import EmulatedAws
from provision.aws import Account, AwsError, Refusal, iam_action
from provision.engine import (
    UNKNOWN,
    Action,
    Live,
    Ref,
    RefusedError,
    Resource,
    destroy,
    execute,
    observe,
    plan,
)
from provision.kinds.cloudwatch import Alarm, Dashboard
from provision.kinds.documents import canonical_policy, policy_as_declared
from provision.kinds.events import Rule
from provision.kinds.iam import Role, trusted_services
from provision.kinds.kinesis import Stream, shard_steps
from provision.kinds.logs import LogGroup, MetricFilter
from provision.kinds.s3 import Bucket, tls_only
from provision.kinds.secretsmanager import Secret
from provision.kinds.sns import Topic, alarm_policy

__all__ = ["account", "aws", "wire", "wire_and_clients"]  # fixtures

# --------------------------------------------------------------------------------------------------------
# A chain of each kind
# --------------------------------------------------------------------------------------------------------

TOPIC_ARN = f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:lending-alarms"
BUCKET = {
    "Bucket": "lending-rows",
    "PublicAccessBlock": {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    },
    "Ownership": "BucketOwnerEnforced",
    "Versioning": "Enabled",
    "Encryption": {"SSEAlgorithm": "AES256"},
    "Lifecycle": [
        {
            "ID": "old-versions",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        },
        {
            "ID": "delete-markers",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
        },
        {
            "ID": "aborted-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        },
    ],
    "Policy": tls_only("arn:aws:s3:::lending-rows"),
}
STREAM = {
    "StreamName": "lending-stream",
    "StreamMode": "PROVISIONED",
    "ShardCount": 2,
    "RetentionPeriodHours": 168,
    "KeyId": "alias/aws/kinesis",
}
ROLE = {
    "RoleName": "lending-lambda",
    "Path": "/",
    "Description": "what the function may do",
    "MaxSessionDuration": 3600,
    "AssumeRolePolicyDocument": trust("lambda.amazonaws.com"),
    "Policies": {
        "read": allow(["kinesis:GetRecords", "kinesis:ListShards"], Ref("stream", "arn")),
        "write": allow("s3:PutObject", "arn:aws:s3:::lending-rows/changes/*"),
    },
    "ManagedPolicies": [f"arn:aws:iam::{ACCOUNT_ID}:policy/audit"],
}
SECRET = {
    "Name": "lending-login",
    "Description": "how DMS logs in",
    "SecretString": {"username": "dms", "password": PASSWORD, "host": "db.example.org", "port": 5432},
    "IsCurrent": True,
}
LOG_GROUP = {"logGroupName": "/aws/lambda/lending", "retentionInDays": 30}
METRIC_FILTER = {
    "logGroupName": "/aws/lambda/lending",
    "filterName": "lending-quarantined",
    "filterPattern": "{ $.quarantined > 0 }",
    "metricTransformations": [
        {
            "metricName": "Quarantined",
            "metricNamespace": "lending",
            "metricValue": "$.quarantined",
            "defaultValue": 0,
        }
    ],
}
TOPIC = {
    "Name": "lending-alarms",
    "Policy": alarm_policy(TOPIC_ARN, ACCOUNT_ID),
    "Endpoint": "ops@example.org",
}
ALARM = {
    "AlarmName": "lending-errors",
    "AlarmDescription": "the function fails",
    "ActionsEnabled": True,
    "Namespace": "AWS/Lambda",
    "MetricName": "Errors",
    "Dimensions": [
        {"Name": "FunctionName", "Value": "lending"},
        {"Name": "Resource", "Value": "lending:live"},
    ],
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 5,
    "DatapointsToAlarm": 3,
    "Threshold": 1,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "TreatMissingData": "notBreaching",
    "AlarmActions": [Ref("topic", "arn")],
    "OKActions": [Ref("topic", "arn")],
}
MATH_ALARM = {
    "AlarmName": "lending-age",
    "Metrics": [
        {"Id": "age", "Expression": "newest / 1000", "Label": "seconds behind", "ReturnData": True},
        {
            "Id": "newest",
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/Lambda",
                    "MetricName": "IteratorAge",
                    "Dimensions": [{"Name": "FunctionName", "Value": "lending"}],
                },
                "Period": 60,
                "Stat": "Maximum",
            },
            "ReturnData": False,
        },
    ],
    "EvaluationPeriods": 5,
    "Threshold": 65,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "missing",
}
DASHBOARD = {
    "DashboardName": "lending",
    "DashboardBody": {"widgets": [{"type": "text", "x": 0, "y": 0, "properties": {"markdown": "# lending"}}]},
}
RULE = {
    "Name": "lending-task-state",
    "Description": "the task stopped or failed",
    "EventPattern": {"source": ["aws.dms"], "detail-type": ["DMS Replication Task State Change"]},
    "State": "ENABLED",
    "Targets": [{"Id": "topic", "Arn": Ref("topic", "arn")}],
}
KINDS = {
    "bucket": (Bucket, BUCKET, ()),
    "stream": (Stream, STREAM, ()),
    "role": (Role, ROLE, ("stream",)),
    "secret": (Secret, SECRET, ()),
    "log-group": (LogGroup, LOG_GROUP, ()),
    "filter": (MetricFilter, METRIC_FILTER, ("log-group",)),
    "topic": (Topic, TOPIC, ()),
    "alarm": (Alarm, ALARM, ("topic",)),
    "math-alarm": (Alarm, MATH_ALARM, ()),
    "dashboard": (Dashboard, DASHBOARD, ()),
    "rule": (Rule, RULE, ("topic",)),
}


def chain_of(account: Account, name: str, **changed: Any) -> list[Resource]:
    """The resource, after those that it refers to."""
    kind, spec, above = KINDS[name]
    needed = [Resource(one, KINDS[one][0](account), KINDS[one][1]) for one in above]
    return [*needed, Resource(name, kind(account), {**spec, **changed})]


def prepare(account: Account) -> None:
    """What the chain relies on and does not make."""
    iam = account.client("iam")
    document = json.dumps(allow("logs:PutLogEvents", "*"))
    for name in ("audit", "further"):
        iam.create_policy(PolicyName=name, PolicyDocument=document)


def empty(account: Account, wire: Wire) -> None:
    """The account as at the beginning of a test."""
    forget_all(wire)
    prepare(account)
    wire.forget()


@pytest.fixture
def made(account: Account, wire: Wire) -> Callable[..., list[Resource]]:
    """made("stream"): its chain, applied; what came until then is forgotten."""

    def make(name: str, **changed: Any) -> list[Resource]:
        prepare(account)
        chain = chain_of(account, name, **changed)
        apply(chain)
        wire.forget()
        return chain

    return make


# --------------------------------------------------------------------------------------------------------
# All kinds
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_account_gets_the_object_and_a_second_plan_keeps_it(account: Account, name: str) -> None:
    prepare(account)
    chain = chain_of(account, name)

    steps, now = apply(chain)

    assert [step.action for step in steps] == [Action.CREATE] * len(chain)
    assert now == observe(chain)
    assert now[name].is_ours
    assert actions(chain) == [Action.KEEP] * len(chain)


@pytest.mark.parametrize("name", KINDS)
def test_what_was_deleted_by_hand_is_made_again(account: Account, made: Any, name: str) -> None:
    chain = made(name)
    resource = chain[-1]
    resource.kind.delete(observe(chain)[name], KINDS[name][1])

    steps, _ = apply(chain)

    assert steps[-1].action is Action.CREATE
    assert actions(chain)[-1] is Action.KEEP


@pytest.mark.parametrize("name", KINDS)
def test_destroy_leaves_nothing_but_what_is_retained_and_deleting_twice_is_no_fault(
    account: Account, made: Any, name: str
) -> None:
    chain = made(name)
    before = observe(chain)

    destroy(chain, before, silent)
    destroy(chain, before, silent)

    expected = Action.KEEP if chain[-1].kind.is_retained else Action.CREATE
    assert actions(chain) == [expected] * len(chain)
    assert (name == "bucket") == chain[-1].kind.is_retained


CHANGED: dict[str, dict[str, Any]] = {
    "bucket": {"Versioning": "Suspended", "Policy": {"Version": "2012-10-17", "Statement": []}},
    "stream": {"RetentionPeriodHours": 24, "ShardCount": 4},
    "role": {"MaxSessionDuration": 7200, "Policies": {"more": allow("s3:GetObject", "*")}},
    "secret": {"SecretString": {"password": "another"}},
    "log-group": {"retentionInDays": 7},
    "filter": {"filterPattern": "another"},
    "topic": {"Endpoint": "others@example.org"},
    "alarm": {"Threshold": 2},
    "math-alarm": {"Threshold": 2},
    "dashboard": {"DashboardBody": {"widgets": []}},
    "rule": {"State": "DISABLED", "Targets": []},
}


@pytest.mark.parametrize("name", KINDS)
def test_an_object_that_is_not_ours_is_reported_and_never_written_to(
    account: Account, wire: Wire, name: str
) -> None:
    prepare(account)
    apply(chain_of(replace(account, pipeline="another"), name))
    chain = chain_of(account, name, **CHANGED[name])
    wire.forget()

    steps, now = apply(chain)
    destroy(chain, now, silent)

    assert [step.action for step in steps] == [Action.FOREIGN] * len(chain)
    assert {change.path.partition(".")[0] for change in steps[-1].changes} == {
        "IsCurrent" if key == "SecretString" else key for key in CHANGED[name]
    }
    assert wire.writes == []


@pytest.mark.parametrize("name", KINDS)
def test_an_apply_interrupted_after_any_write_is_finished_by_the_next(
    account: Account, wire: Wire, name: str
) -> None:
    prepare(account)
    wire.forget()
    chain = chain_of(account, name)
    _, uninterrupted = apply(chain)
    writes = len(wire.writes)

    for last in range(1, writes + 1):
        empty(account, wire)
        wire.interrupt_after = last
        with pytest.raises(Interrupted):
            apply(chain)
        wire.forget()
        apply(chain)
        assert actions(chain) == [Action.KEEP] * len(chain), f"interrupted after write {last}"
        assert [live.values for live in observe(chain).values()] == [
            live.values for live in uninterrupted.values()
        ]


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_permission_is_named_with_what_it_is_for(account: Account, wire: Wire, name: str) -> None:
    """At every call of an apply and of a destroy."""
    prepare(account)
    wire.forget()
    chain = chain_of(account, name)
    apply(chain)
    destroy(chain, observe(chain), silent)
    resource_name = KINDS[name][1]["filterName" if name == "filter" else next(iter(KINDS[name][1]))]
    operations = {
        (call.service, call.operation) for call in wire.calls if resource_name in str(call.parameters)
    }

    for service, operation in operations - {("secretsmanager", "GetSecretValue")}:
        empty(account, wire)
        wire.refusals[f"{service}.{operation}"] = [("AccessDenied", "not authorized")] * 50
        with pytest.raises(AwsError) as caught:
            apply(chain)
            destroy(chain, observe(chain), silent)
        client = account.client(service)
        method = next(py for py, api in client.meta.method_to_api_mapping.items() if api == operation)
        assert f"{iam_action(client, method)} on " in str(caught.value)
        assert f" {resource_name} is not allowed" in str(caught.value)
        assert PASSWORD not in str(caught.value)


# --------------------------------------------------------------------------------------------------------
# Drift: whatever is changed by hand is found and put right
# --------------------------------------------------------------------------------------------------------


def resolved(account: Account, spec: dict[str, Any]) -> dict[str, Any]:
    return {key: [TOPIC_ARN] if key.endswith("Actions") else value for key, value in spec.items()}


def alarm_with(key: str, value: Any) -> Callable[[Account], Any]:
    return lambda account: account.client("cloudwatch").put_metric_alarm(
        **{**resolved(account, ALARM), key: value}
    )


def s3(operation: str, **parameters: Any) -> Callable[[Account], Any]:
    return lambda account: getattr(account.client("s3"), operation)(Bucket="lending-rows", **parameters)


def kinesis(operation: str, **parameters: Any) -> Callable[[Account], Any]:
    return lambda account: getattr(account.client("kinesis"), operation)(
        StreamName="lending-stream", **parameters
    )


def iam(operation: str, **parameters: Any) -> Callable[[Account], Any]:
    return lambda account: getattr(account.client("iam"), operation)(RoleName="lending-lambda", **parameters)


def call(service: str, operation: str, **parameters: Any) -> Callable[[Account], Any]:
    return lambda account: getattr(account.client(service), operation)(**parameters)


def to_on_demand(account: Account) -> None:
    account.client("kinesis").update_stream_mode(
        StreamARN=f"arn:aws:kinesis:{REGION}:{ACCOUNT_ID}:stream/lending-stream",
        StreamModeDetails={"StreamMode": "ON_DEMAND"},
    )


def unsubscribe_all(account: Account) -> None:
    sns = account.client("sns")
    for one in sns.list_subscriptions_by_topic(TopicArn=TOPIC_ARN)["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])


OPEN = {
    "BlockPublicAcls": False,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
WITH_KMS = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}
FURTHER_RULE = {
    "ID": "further",
    "Status": "Enabled",
    "Filter": {"Prefix": "changes/"},
    "Expiration": {"Days": 1},
}
DRIFTS: list[tuple[str, str, Callable[[Account], Any]]] = [
    ("bucket", "PublicAccessBlock", s3("delete_public_access_block")),
    ("bucket", "PublicAccessBlock", s3("put_public_access_block", PublicAccessBlockConfiguration=OPEN)),
    ("bucket", "Ownership", s3("delete_bucket_ownership_controls")),
    ("bucket", "Versioning", s3("put_bucket_versioning", VersioningConfiguration={"Status": "Suspended"})),
    ("bucket", "Encryption", s3("put_bucket_encryption", ServerSideEncryptionConfiguration=WITH_KMS)),
    ("bucket", "Lifecycle", s3("delete_bucket_lifecycle")),
    (
        "bucket",
        "Lifecycle",
        s3(
            "put_bucket_lifecycle_configuration",
            LifecycleConfiguration={"Rules": [*BUCKET["Lifecycle"], FURTHER_RULE]},
        ),
    ),
    ("bucket", "Policy", s3("delete_bucket_policy")),
    (
        "bucket",
        "Policy",
        s3("put_bucket_policy", Policy=json.dumps({**BUCKET["Policy"], "Statement": []})),
    ),
    ("stream", "StreamMode", to_on_demand),
    (
        "stream",
        "ShardCount",
        kinesis("update_shard_count", TargetShardCount=4, ScalingType="UNIFORM_SCALING"),
    ),
    (
        "stream",
        "ShardCount",
        kinesis("update_shard_count", TargetShardCount=1, ScalingType="UNIFORM_SCALING"),
    ),
    (
        "stream",
        "RetentionPeriodHours",
        kinesis("decrease_stream_retention_period", RetentionPeriodHours=24),
    ),
    (
        "stream",
        "RetentionPeriodHours",
        kinesis("increase_stream_retention_period", RetentionPeriodHours=8760),
    ),
    (
        "stream",
        "KeyId",
        kinesis("stop_stream_encryption", EncryptionType="KMS", KeyId="alias/aws/kinesis"),
    ),
    ("stream", "KeyId", kinesis("start_stream_encryption", EncryptionType="KMS", KeyId="alias/other")),
    (
        "role",
        "AssumeRolePolicyDocument",
        iam("update_assume_role_policy", PolicyDocument=json.dumps(trust("ec2.amazonaws.com"))),
    ),
    ("role", "Policies", iam("delete_role_policy", PolicyName="write")),
    (
        "role",
        "Policies",
        iam("put_role_policy", PolicyName="write", PolicyDocument=json.dumps(allow("s3:*", "*"))),
    ),
    (
        "role",
        "ManagedPolicies",
        iam("detach_role_policy", PolicyArn=f"arn:aws:iam::{ACCOUNT_ID}:policy/audit"),
    ),
    (
        "role",
        "ManagedPolicies",
        iam("attach_role_policy", PolicyArn=f"arn:aws:iam::{ACCOUNT_ID}:policy/further"),
    ),
    ("role", "Description", iam("update_role", Description="another", MaxSessionDuration=3600)),
    (
        "role",
        "MaxSessionDuration",
        iam("update_role", Description=ROLE["Description"], MaxSessionDuration=7200),
    ),
    (
        "secret",
        "IsCurrent",
        call("secretsmanager", "put_secret_value", SecretId="lending-login", SecretString="{}"),
    ),
    (
        "secret",
        "Description",
        call("secretsmanager", "update_secret", SecretId="lending-login", Description="another"),
    ),
    (
        "log-group",
        "retentionInDays",
        call("logs", "put_retention_policy", logGroupName="/aws/lambda/lending", retentionInDays=1),
    ),
    (
        "log-group",
        "retentionInDays",
        call("logs", "delete_retention_policy", logGroupName="/aws/lambda/lending"),
    ),
    (
        "filter",
        "filterPattern",
        call("logs", "put_metric_filter", **{**METRIC_FILTER, "filterPattern": "another"}),
    ),
    (
        "filter",
        "metricTransformations",
        call(
            "logs",
            "put_metric_filter",
            **{
                **METRIC_FILTER,
                "metricTransformations": [{**METRIC_FILTER["metricTransformations"][0], "metricValue": "1"}],
            },
        ),
    ),
    (
        "topic",
        "Policy",
        call(
            "sns",
            "set_topic_attributes",
            TopicArn=TOPIC_ARN,
            AttributeName="Policy",
            AttributeValue=json.dumps({"Version": "2012-10-17", "Statement": []}),
        ),
    ),
    ("topic", "Endpoint", unsubscribe_all),
    ("alarm", "AlarmDescription", alarm_with("AlarmDescription", "another")),
    ("alarm", "ActionsEnabled", alarm_with("ActionsEnabled", False)),
    ("alarm", "Namespace", alarm_with("Namespace", "another")),
    ("alarm", "MetricName", alarm_with("MetricName", "Throttles")),
    ("alarm", "Dimensions", alarm_with("Dimensions", ALARM["Dimensions"][:1])),
    ("alarm", "Statistic", alarm_with("Statistic", "Average")),
    ("alarm", "Period", alarm_with("Period", 300)),
    ("alarm", "EvaluationPeriods", alarm_with("EvaluationPeriods", 6)),
    ("alarm", "DatapointsToAlarm", alarm_with("DatapointsToAlarm", 1)),
    ("alarm", "Threshold", alarm_with("Threshold", 99)),
    ("alarm", "ComparisonOperator", alarm_with("ComparisonOperator", "LessThanThreshold")),
    ("alarm", "TreatMissingData", alarm_with("TreatMissingData", "ignore")),
    ("alarm", "AlarmActions", alarm_with("AlarmActions", [])),
    ("alarm", "OKActions", alarm_with("OKActions", [])),
    (
        "math-alarm",
        "Metrics",
        call(
            "cloudwatch",
            "put_metric_alarm",
            **{
                **MATH_ALARM,
                "Metrics": [{**MATH_ALARM["Metrics"][0], "Expression": "newest"}, MATH_ALARM["Metrics"][1]],
            },
        ),
    ),
    (
        "dashboard",
        "DashboardBody",
        call("cloudwatch", "put_dashboard", DashboardName="lending", DashboardBody='{"widgets":[]}'),
    ),
    (
        "rule",
        "EventPattern",
        call(
            "events",
            "put_rule",
            **{
                **{key: value for key, value in RULE.items() if key != "Targets"},
                "EventPattern": '{"source": ["aws.s3"]}',
            },
        ),
    ),
    ("rule", "State", call("events", "disable_rule", Name="lending-task-state")),
    (
        "rule",
        "Description",
        call(
            "events",
            "put_rule",
            Name="lending-task-state",
            EventPattern=json.dumps(RULE["EventPattern"]),
            State="ENABLED",
        ),
    ),
    ("rule", "Targets", call("events", "remove_targets", Rule="lending-task-state", Ids=["topic"])),
    (
        "rule",
        "Targets",
        call(
            "events", "put_targets", Rule="lending-task-state", Targets=[{"Id": "further", "Arn": TOPIC_ARN}]
        ),
    ),
]


@pytest.mark.parametrize(
    ("name", "key", "drift"), DRIFTS, ids=[f"{name}-{key}-{n}" for n, (name, key, _) in enumerate(DRIFTS)]
)
def test_what_was_changed_by_hand_is_shown_and_put_right(
    account: Account, made: Any, name: str, key: str, drift: Any
) -> None:
    chain = made(name)
    drift(account)

    steps, _ = apply(chain)

    assert steps[-1].action is Action.UPDATE
    assert {change.path.partition(".")[0] for change in steps[-1].changes} == {key}
    assert actions(chain) == [Action.KEEP] * len(chain)
    assert observe(chain)[name].is_ours


def test_every_key_that_can_change_is_drifted_above() -> None:
    names = {"Bucket", "StreamName", "RoleName", "Path", "Name", "SecretString", "logGroupName", "filterName"}
    names |= {"AlarmName", "DashboardName"}
    covered = {(name, key) for name, key, _ in DRIFTS} | {("math-alarm", key) for key in ALARM}
    missing = {
        (name, key) for name, (_, spec, _) in KINDS.items() for key in spec if key not in names
    } - covered
    assert missing == set()


def test_a_role_of_another_path_is_replaced(account: Account, made: Any) -> None:
    chain = made("role", Path="/other/")

    steps, now = apply(chain_of(account, "role"))

    assert steps[-1].action is Action.REPLACE
    assert now["role"].attributes["arn"] == f"arn:aws:iam::{ACCOUNT_ID}:role/lending-lambda"
    assert actions(chain_of(account, "role")) == [Action.KEEP, Action.KEEP]
    assert actions(chain) == [Action.KEEP, Action.REPLACE]


@pytest.mark.parametrize(
    ("name", "key"), [("bucket", "Bucket"), ("stream", "StreamName"), ("secret", "Name")]
)
def test_what_holds_rows_or_records_is_never_replaced(account: Account, name: str, key: str) -> None:
    """AWS finds these by the very key that can't change; so this is a statement on the declaration."""
    chain = chain_of(account, name)
    found = Live({**KINDS[name][1], key: "another"}, {})

    with pytest.raises(RefusedError, match=name):
        execute(chain, plan(chain, {name: found}), {name: found}, silent)


# --------------------------------------------------------------------------------------------------------
# Requests
# --------------------------------------------------------------------------------------------------------


def test_a_value_outside_an_enum_is_refused_by_the_check_of_these_tests(account: Account) -> None:
    with pytest.raises(ParamValidationError, match="StreamMode: 'SERVERLESS' is none of"):
        account.client("kinesis").create_stream(
            StreamName="s", StreamModeDetails={"StreamMode": "SERVERLESS"}
        )


# --------------------------------------------------------------------------------------------------------
# Buckets
# --------------------------------------------------------------------------------------------------------


def test_the_name_of_another_accounts_bucket_is_refused_with_what_to_do(account: Account, wire: Wire) -> None:
    wire.refusals["s3.HeadBucket"] = [("403", "Forbidden")]
    with pytest.raises(AwsError, match=r"bucket lending-rows is another account's.*choose another name"):
        observe(chain_of(account, "bucket"))
    assert wire.calls[-1].parameters == {"Bucket": "lending-rows", "ExpectedBucketOwner": ACCOUNT_ID}


def test_a_bucket_that_another_account_makes_first_is_refused_too(account: Account, wire: Wire) -> None:
    wire.refusals["s3.CreateBucket"] = [("BucketAlreadyExists", "not available")]
    with pytest.raises(AwsError, match="choose another name"):
        apply(chain_of(account, "bucket"))


def test_a_bucket_that_is_busy_is_waited_for(account: Account, wire: Wire) -> None:
    for operation in ("s3.CreateBucket", "s3.PutBucketPolicy"):
        wire.refusals[operation] = [("OperationAborted", "A conflicting conditional operation")] * 3
    apply(chain_of(account, "bucket"))
    assert actions(chain_of(account, "bucket")) == [Action.KEEP]


@pytest.mark.parametrize(
    ("region", "location"), [("eu-west-1", "eu-west-1"), ("us-east-1", None)], ids=["named", "not-named"]
)
def test_a_bucket_is_made_in_the_region_of_the_account(
    aws: EmulatedAws, region: str, location: str | None
) -> None:
    with mock_aws():
        account = Account(
            boto3.Session(region_name=region), "lending", poll_seconds=0, sleep=lambda seconds: None
        )
        _, now = apply(chain_of(account, "bucket"))
        answer = account.client("s3").get_bucket_location(Bucket="lending-rows")
    assert answer["LocationConstraint"] == location
    assert now["bucket"].attributes == {
        "name": "lending-rows",
        "arn": "arn:aws:s3:::lending-rows",
        "region": region,
    }


@pytest.mark.parametrize("name", ["bucket", "stream"])
def test_tags_that_the_creating_call_drops_are_added(account: Account, wire: Wire, name: str) -> None:
    wire.drops_tags = True
    _, now = apply(chain_of(account, name))
    assert now[name].is_ours


@pytest.mark.parametrize(("name", "call"), [("bucket", "PutBucketTagging"), ("stream", "AddTagsToStream")])
def test_tags_that_the_creating_call_keeps_are_not_added_again(
    account: Account, wire: Wire, name: str, call: str
) -> None:
    apply(chain_of(account, name))
    assert call not in wire.writes


# --------------------------------------------------------------------------------------------------------
# Streams
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "wanted", "steps"),
    [
        (1, 1, []),
        (1, 2, [2]),
        (1, 5, [2, 4, 5]),
        (8, 1, [4, 2, 1]),
        (5, 2, [3, 2]),
        (3, 7, [6, 7]),
    ],
)
def test_the_shard_count_is_at_most_doubled_or_halved_by_a_call(
    count: int, wanted: int, steps: list[int]
) -> None:
    assert shard_steps(count, wanted) == steps


def test_an_on_demand_stream_is_made_without_a_shard_count(account: Account, wire: Wire) -> None:
    spec = {key: value for key, value in STREAM.items() if key != "ShardCount"} | {"StreamMode": "ON_DEMAND"}
    chain = [Resource("stream", Stream(account), spec)]

    apply(chain)

    created = next(call for call in wire.calls if call.operation == "CreateStream")
    assert "ShardCount" not in created.parameters
    assert actions(chain) == [Action.KEEP]


def test_a_stream_gets_on_demand_and_back_without_being_replaced(account: Account, made: Any) -> None:
    provisioned = made("stream")
    arn = observe(provisioned)["stream"].attributes["created_at"]
    spec = {key: value for key, value in STREAM.items() if key != "ShardCount"} | {"StreamMode": "ON_DEMAND"}
    on_demand = [Resource("stream", Stream(account), spec)]

    apply(on_demand)
    assert actions(on_demand) == [Action.KEEP]
    apply(provisioned)

    assert actions(provisioned) == [Action.KEEP]
    assert observe(provisioned)["stream"].attributes["created_at"] == arn


def test_a_stream_takes_one_change_at_a_time_and_is_active_in_the_end(
    aws: EmulatedAws, account: Account, wire: Wire
) -> None:
    """A change while it is busy would be refused, and be made again: one write more."""
    aws.transitions = 3

    _, now = apply(chain_of(account, "stream"))

    assert now["stream"].attributes["status"] == "ACTIVE"
    assert wire.writes == ["CreateStream", "IncreaseStreamRetentionPeriod", "StartStreamEncryption"]
    wire.forget()
    apply(chain_of(account, "stream", ShardCount=8))
    assert wire.writes == ["UpdateShardCount"] * 2  # 4, 8


def test_a_stream_still_being_made_is_finished(aws: EmulatedAws, account: Account) -> None:
    aws.transitions = 4
    account.client("kinesis").create_stream(StreamName="lending-stream", ShardCount=2, Tags=account.tags)
    chain = chain_of(account, "stream")

    steps, now = apply(chain)

    assert [step.action for step in steps] == [Action.UPDATE]
    assert now["stream"].attributes["status"] == "ACTIVE"
    assert actions(chain) == [Action.KEEP]


def test_a_stream_being_deleted_is_absent_and_waited_for(
    aws: EmulatedAws, account: Account, made: Any
) -> None:
    chain = made("stream")
    aws.transitions = 3
    account.client("kinesis").delete_stream(StreamName="lending-stream")

    steps, _ = apply(chain)

    assert [step.action for step in steps] == [Action.CREATE]
    assert actions(chain) == [Action.KEEP]


def test_the_tag_of_a_stream_is_found_on_a_further_page(account: Account, wire: Wire, made: Any) -> None:
    chain = made("stream")

    def without_ours(parsed: Any) -> None:
        if "ExclusiveStartTagKey" not in wire.calls[-1].parameters:
            parsed.update(Tags=[{"Key": "cost-centre", "Value": "7"}], HasMoreTags=True)

    wire.edits["ListTagsForStream"] = without_ours
    assert actions(chain) == [Action.KEEP]


@pytest.mark.parametrize(
    "key", ["arn:aws:kms:eu-west-1:123456789012:alias/aws/kinesis", "alias/aws/kinesis"], ids=["arn", "alias"]
)
def test_a_key_named_by_its_arn_is_no_difference(account: Account, wire: Wire, made: Any, key: str) -> None:
    chain = made("stream")
    wire.edits["DescribeStreamSummary"] = lambda parsed: parsed["StreamDescriptionSummary"].update(KeyId=key)
    assert actions(chain) == [Action.KEEP]


# --------------------------------------------------------------------------------------------------------
# Roles and policies
# --------------------------------------------------------------------------------------------------------

SAME = {
    "one-or-list": (allow("s3:GetObject", "*"), allow(["s3:GetObject"], ["*"])),
    "order": (allow(["a:B", "c:D"], "*"), allow(["c:D", "a:B"], "*")),
    "one-statement": (
        {"Statement": {"Effect": "Deny", "Action": "s3:*", "Principal": "*"}},
        {"Statement": [{"Effect": "Deny", "Action": "s3:*", "Principal": {"AWS": "*"}}]},
    ),
    "root": (
        {"Statement": [{"Principal": {"AWS": [ACCOUNT_ID, "arn:aws:iam::210987654321:root"]}}]},
        {"Statement": [{"Principal": {"AWS": [f"arn:aws:iam::{ACCOUNT_ID}:root", "210987654321"]}}]},
    ),
    "truth": (
        {"Statement": [{"Condition": {"Bool": {"aws:SecureTransport": False}}}]},
        {"Statement": [{"Condition": {"Bool": {"aws:SecureTransport": ["false"]}}}]},
    ),
}
OTHER = {
    "action_bad": (allow("s3:GetObject", "*"), allow("s3:PutObject", "*")),
    "resource_bad": (allow("s3:GetObject", "arn:a"), allow("s3:GetObject", ["arn:a", "arn:b"])),
    "condition_bad": (
        {"Statement": [{"Condition": {"Bool": {"aws:SecureTransport": "false"}}}]},
        {"Statement": [{}]},
    ),
    "principal_bad": (trust("dms.amazonaws.com"), trust("lambda.amazonaws.com")),
    "statement_bad": (
        allow("a:B", "*"),
        {"Version": "2012-10-17", "Statement": allow("a:B", "*")["Statement"] * 2},
    ),
}


@pytest.mark.parametrize(("wanted", "found"), SAME.values(), ids=SAME)
def test_policies_that_differ_in_spelling_are_the_same(wanted: Any, found: Any) -> None:
    assert canonical_policy(wanted) == canonical_policy(found)
    assert policy_as_declared(wanted, found) is wanted


@pytest.mark.parametrize(("wanted", "found"), OTHER.values(), ids=OTHER)
def test_policies_that_differ_in_meaning_are_not_the_same(wanted: Any, found: Any) -> None:
    assert policy_as_declared(wanted, found) is found


def test_a_trust_policy_names_the_services_that_it_lets_in() -> None:
    assert trusted_services(trust("dms.amazonaws.com")) == {"dms.amazonaws.com"}
    assert trusted_services(allow("sts:AssumeRole", "*")) == set()
    denied = trust("dms.amazonaws.com")
    denied["Statement"][0]["Effect"] = "Deny"
    assert trusted_services(denied) == set()


def test_a_role_not_known_everywhere_yet_is_tried_again(account: Account, wire: Wire) -> None:
    prepare(account)
    unknown = ("NoSuchEntity", "The role with name lending-lambda cannot be found.")
    wire.refusals["iam.PutRolePolicy"] = [unknown] * 2
    wire.refusals["iam.AttachRolePolicy"] = [unknown] * 2
    apply(chain_of(account, "role"))
    assert actions(chain_of(account, "role")) == [Action.KEEP, Action.KEEP]


def test_a_managed_policy_that_there_is_not_is_no_matter_of_time(account: Account, wire: Wire) -> None:
    with pytest.raises(Refusal, match="AttachRolePolicy on role lending-lambda failed, NoSuchEntity"):
        apply(chain_of(account, "role"))
    assert wire.writes.count("AttachRolePolicy") == 1


def test_a_role_can_be_destroyed_whatever_was_added_to_it(account: Account, made: Any) -> None:
    chain = made("role")
    iam("put_role_policy", PolicyName="by-hand", PolicyDocument=json.dumps(allow("s3:*", "*")))(account)
    iam("attach_role_policy", PolicyArn=f"arn:aws:iam::{ACCOUNT_ID}:policy/further")(account)
    destroy(chain, observe(chain), silent)
    assert observe(chain)["role"] is None


SHARED = {
    "RoleName": "dms-vpc-role",
    "AssumeRolePolicyDocument": trust("dms.amazonaws.com"),
    "ManagedPolicies": [f"arn:aws:iam::{ACCOUNT_ID}:policy/audit"],
}


def shared(account: Account) -> list[Resource]:
    return [Resource("vpc-role", Role(account, shared=True), SHARED)]


def test_a_shared_role_is_made_once_and_then_nobodys(account: Account, wire: Wire) -> None:
    prepare(account)

    steps, now = apply(shared(account))
    wire.forget()

    assert [step.action for step in steps] == [Action.CREATE]
    (step,) = plan(shared(account), observe(shared(account)))
    assert (step.action, step.changes) == (Action.FOREIGN, ())
    destroy(shared(account), now, silent)
    destroy(shared(account), observe(shared(account)), silent)
    assert wire.writes == []


def test_a_shared_role_left_half_made_is_finished_and_not_destroyed(account: Account, wire: Wire) -> None:
    prepare(account)
    wire.forget()
    wire.interrupt_after = 1
    with pytest.raises(Interrupted):
        apply(shared(account))
    wire.forget()

    half_made = observe(shared(account))
    destroy(shared(account), half_made, silent)
    assert wire.writes == []
    steps, _ = apply(shared(account))

    assert [step.action for step in steps] == [Action.UPDATE]
    assert wire.writes == ["AttachRolePolicy"]
    assert actions(shared(account)) == [Action.FOREIGN]


def test_what_a_shared_role_of_others_lacks_is_reported_and_not_added(account: Account, wire: Wire) -> None:
    prepare(account)
    account.client("iam").create_role(
        RoleName="dms-vpc-role", AssumeRolePolicyDocument=json.dumps(trust("ec2.amazonaws.com"))
    )
    wire.forget()

    steps, _ = apply(shared(account))

    assert [step.action for step in steps] == [Action.FOREIGN]
    assert [change.path.partition(".")[0] for change in steps[0].changes] == [
        "AssumeRolePolicyDocument",
        "ManagedPolicies",
    ]
    assert wire.writes == []


def test_a_shared_role_that_lets_more_in_and_has_more_attached_is_as_wanted(account: Account) -> None:
    prepare(account)
    document = trust("dms.amazonaws.com")
    document["Statement"][0]["Principal"]["Service"] = ["dms.amazonaws.com", "dms.eu-west-1.amazonaws.com"]
    document["Statement"][0]["Action"] = ["sts:AssumeRole", "sts:TagSession"]
    client = account.client("iam")
    client.create_role(RoleName="dms-vpc-role", AssumeRolePolicyDocument=json.dumps(document))
    for name in ("audit", "further"):
        client.attach_role_policy(
            RoleName="dms-vpc-role", PolicyArn=f"arn:aws:iam::{ACCOUNT_ID}:policy/{name}"
        )

    (step,) = plan(shared(account), observe(shared(account)))

    assert (step.action, step.changes) == (Action.FOREIGN, ())


# --------------------------------------------------------------------------------------------------------
# Secrets
# --------------------------------------------------------------------------------------------------------


def stored(account: Account) -> Any:
    return json.loads(
        account.client("secretsmanager").get_secret_value(SecretId="lending-login")["SecretString"]
    )


def test_a_changed_password_is_written_and_is_in_no_plan(account: Account, made: Any) -> None:
    made("secret")
    chain = chain_of(account, "secret", SecretString={**SECRET["SecretString"], "password": "changed"})

    steps, _ = apply(chain)

    assert [(change.path, change.old, change.new) for change in steps[0].changes] == [
        ("IsCurrent", False, True)
    ]
    assert stored(account)["password"] == "changed"


@pytest.mark.parametrize("text", ["a key of hashes", '{"a": "document"}', "42"])
def test_a_secret_may_be_a_text_whose_version_tells_a_new_value(account: Account, text: str) -> None:
    chain = chain_of(account, "secret", SecretString=text)

    first = apply(chain)[1]["secret"]

    secrets = account.client("secretsmanager")
    assert secrets.get_secret_value(SecretId="lending-login")["SecretString"] == text
    assert actions(chain) == [Action.KEEP]
    changed = chain_of(account, "secret", SecretString="another key")
    found, former = observe(changed)["secret"], observe(chain)["secret"]
    assert found and former and first
    assert (found.attributes["version"], found.attributes["others"]) == (UNKNOWN, {})
    assert former.attributes["version"] == first.attributes["version"]
    second = apply(changed)[1]["secret"]
    assert secrets.get_secret_value(SecretId="lending-login")["SecretString"] == "another key"
    assert second and second.attributes["version"] not in (UNKNOWN, first.attributes["version"])


def test_a_secret_that_may_not_be_read_is_left_as_it_is(account: Account, wire: Wire, made: Any) -> None:
    made("secret")
    chain = chain_of(account, "secret", SecretString={"password": "changed"})
    wire.refusals["secretsmanager.GetSecretValue"] = [("AccessDeniedException", "not authorized")]

    observed = observe(chain)

    assert observed["secret"].attributes["is_readable"] is False
    assert observed["secret"].attributes["others"] == {}
    assert [step.action for step in plan(chain, observed)] == [Action.KEEP]


def test_a_secret_is_kept_for_seven_days_and_restored(account: Account, made: Any) -> None:
    chain = made("secret")
    secrets = account.client("secretsmanager")
    arn = observe(chain)["secret"].attributes["arn"]
    secrets.put_secret_value(SecretId="lending-login", SecretString='{"password": "old"}')
    destroy(chain, observe(chain), silent)
    assert "DeletedDate" in secrets.describe_secret(SecretId="lending-login")

    steps, now = apply(chain)

    assert [step.action for step in steps] == [Action.CREATE]
    assert now["secret"].attributes["arn"] == arn
    assert stored(account) == SECRET["SecretString"]


def test_a_secret_of_others_that_is_being_deleted_stays_theirs(account: Account, wire: Wire) -> None:
    secrets = account.client("secretsmanager")
    secrets.create_secret(Name="lending-login", SecretString="{}")
    secrets.delete_secret(SecretId="lending-login", RecoveryWindowInDays=7)
    wire.forget()

    steps, _ = apply(chain_of(account, "secret"))

    assert [step.action for step in steps] == [Action.FOREIGN]
    assert wire.writes == []


def test_a_secret_whose_host_is_not_known_yet_is_to_be_written(account: Account, made: Any) -> None:
    made("secret")
    database = Resource("database", Role(account), {"RoleName": "lending-database"})
    secret = chain_of(account, "secret", SecretString={"password": PASSWORD, "host": Ref("database", "host")})

    (_, step) = plan([database, *secret], observe([database, *secret]))

    assert [(change.path, change.old, change.new) for change in step.changes] == [("IsCurrent", False, True)]


def others_of(chain: list[Resource]) -> Any:
    live = observe(chain)[chain[-1].name]
    assert live is not None and live.attributes["is_readable"] is True
    return live.attributes["others"]


def test_what_differs_besides_the_password_is_told_with_both_values(account: Account, made: Any) -> None:
    kept = made("secret")
    text = {**SECRET["SecretString"], "host": "new.example.org", "port": 5433, "password": "changed"}
    chain = chain_of(account, "secret", SecretString=text)

    assert others_of(kept) == {}
    assert others_of(chain) == {"host": ("db.example.org", "new.example.org"), "port": (5432, 5433)}
    assert PASSWORD not in str(observe(chain)) and "changed" not in str(observe(chain))
    apply(chain)
    assert others_of(chain) == {}


def test_a_password_alone_is_no_other_difference(account: Account, made: Any) -> None:
    made("secret")
    chain = chain_of(account, "secret", SecretString={**SECRET["SecretString"], "password": "changed"})
    assert others_of(chain) == {}


def test_a_host_that_is_not_known_yet_is_no_other_difference(account: Account, made: Any) -> None:
    made("secret")
    database = Resource("database", Role(account), {"RoleName": "lending-database"})
    text = {**SECRET["SecretString"], "host": Ref("database", "host"), "port": 5433}

    assert others_of([database, *chain_of(account, "secret", SecretString=text)]) == {"port": (5432, 5433)}


@pytest.mark.parametrize("text", ["no JSON", '"a text"', "[5432]", "{}", "null"])
def test_a_secret_that_somebody_wrote_another_text_to_is_written_anew(
    account: Account, made: Any, text: str
) -> None:
    chain = made("secret")
    account.client("secretsmanager").put_secret_value(SecretId="lending-login", SecretString=text)

    assert others_of(chain) == {}
    apply(chain)
    assert stored(account) == SECRET["SecretString"]


def test_the_text_of_a_secret_is_in_no_message(account: Account, wire: Wire) -> None:
    wire.refusals["secretsmanager.CreateSecret"] = [("InternalServiceError", "try later")] * 9
    with pytest.raises(AwsError) as caught:
        apply(chain_of(account, "secret"))
    assert PASSWORD not in str(caught.value)


# --------------------------------------------------------------------------------------------------------
# Log groups, rules, topics
# --------------------------------------------------------------------------------------------------------


def test_a_log_group_that_aws_has_made_is_taken_over(account: Account) -> None:
    logs = account.client("logs")
    logs.create_log_group(logGroupName="/aws/lambda/lending")
    chain = chain_of(account, "filter")

    steps, now = apply(chain)

    assert [step.action for step in steps] == [Action.UPDATE, Action.CREATE]
    arn = now["log-group"].attributes["arn"]
    assert arn == f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:/aws/lambda/lending"
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"pipeline": "lending"}
    assert actions(chain) == [Action.KEEP, Action.KEEP]


def test_a_log_group_that_aws_makes_at_the_same_time_is_taken_over(account: Account) -> None:
    chain = chain_of(account, "log-group")
    observed = observe(chain)
    account.client("logs").create_log_group(logGroupName="/aws/lambda/lending")

    execute(chain, plan(chain, observed), observed, silent)

    assert actions(chain) == [Action.KEEP]


def test_a_log_group_whose_name_only_begins_so_is_another(account: Account) -> None:
    account.client("logs").create_log_group(logGroupName="/aws/lambda/lending-test")
    assert observe(chain_of(account, "log-group")) == {"log-group": None}


def test_targets_that_aws_does_not_take_are_an_error(account: Account, wire: Wire) -> None:
    failed = {"TargetId": "topic", "ErrorCode": "x", "ErrorMessage": "no such topic"}
    wire.edits["PutTargets"] = lambda parsed: parsed.update(FailedEntryCount=1, FailedEntries=[failed])
    with pytest.raises(AwsError, match="event rule lending-task-state were not taken: topic: no such topic"):
        apply(chain_of(account, "rule"))


def test_alarms_of_this_account_and_event_rules_publish_to_the_topic(account: Account, made: Any) -> None:
    """Rules without a condition: EventBridge does not support one in the policy of a topic."""
    made("topic")

    found = account.client("sns").get_topic_attributes(TopicArn=TOPIC_ARN)["Attributes"]["Policy"]

    assert json.loads(found) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Alarms",
                "Effect": "Allow",
                "Action": "sns:Publish",
                "Resource": "arn:aws:sns:eu-west-1:123456789012:lending-alarms",
                "Principal": {"Service": "cloudwatch.amazonaws.com"},
                "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}},
            },
            {
                "Sid": "Rules",
                "Effect": "Allow",
                "Action": "sns:Publish",
                "Resource": "arn:aws:sns:eu-west-1:123456789012:lending-alarms",
                "Principal": {"Service": "events.amazonaws.com"},
            },
        ],
    }


def pending(parsed: Any) -> None:
    for one in parsed["Subscriptions"]:
        one["SubscriptionArn"] = "PendingConfirmation"


def test_a_subscription_to_be_confirmed_is_there_and_said_to_be_so(
    account: Account, wire: Wire, made: Any
) -> None:
    chain = made("topic")
    assert observe(chain)["topic"].attributes == {
        "name": "lending-alarms",
        "arn": TOPIC_ARN,
        "is_confirmed": True,
    }

    wire.edits["ListSubscriptionsByTopic"] = pending

    assert observe(chain)["topic"].attributes["is_confirmed"] is False
    assert actions(chain) == [Action.KEEP]
    destroy(chain, observe(chain), silent)
    assert wire.writes == ["DeleteTopic"]


def test_a_subscription_that_was_ended_by_mail_is_made_again(account: Account, wire: Wire, made: Any) -> None:
    """AWS lists it for some days more, as Deleted."""
    chain = made("topic")
    wire.edits["ListSubscriptionsByTopic"] = lambda parsed: parsed["Subscriptions"][0].update(
        SubscriptionArn="Deleted"
    )
    (step,) = plan(chain, observe(chain))
    assert [(change.path, change.old) for change in step.changes] == [("Endpoint", None)]


def test_another_address_takes_the_place_of_the_one_that_the_plan_shows(account: Account, made: Any) -> None:
    made("topic")
    chain = chain_of(account, "topic", Endpoint="night@example.org")

    steps, _ = apply(chain)

    assert [(change.old, change.new) for change in steps[0].changes] == [
        ("ops@example.org", "night@example.org")
    ]
    found = account.client("sns").list_subscriptions_by_topic(TopicArn=TOPIC_ARN)["Subscriptions"]
    assert [one["Endpoint"] for one in found] == ["night@example.org"]


def test_a_subscription_added_by_hand_stays(account: Account, made: Any) -> None:
    chain = made("topic")
    account.client("sns").subscribe(TopicArn=TOPIC_ARN, Protocol="email", Endpoint="by-hand@example.org")
    assert actions(chain) == [Action.KEEP]


def test_destroying_a_topic_unsubscribes(account: Account, wire: Wire, made: Any) -> None:
    chain = made("topic")
    destroy(chain, observe(chain), silent)
    assert wire.writes == ["Unsubscribe", "DeleteTopic"]
