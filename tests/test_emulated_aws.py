"""Our model of AWS, through boto3 and through the AWS CLI: each rule as a client meets it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from local_run import aws as model
from local_run.aws import EmulatedAws, emulated_aws

REGION = "eu-west-1"
ACCOUNT = "123456789012"
STREAM_ARN = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/orders"
MAPPINGS = json.dumps(
    {
        "rules": [
            {
                "rule-type": "selection",
                "rule-id": "1",
                "rule-name": "all",
                "object-locator": {"schema-name": "public", "table-name": "%"},
                "rule-action": "include",
            },
            {
                "rule-type": "selection",
                "rule-id": "2",
                "rule-name": "not-dms",
                "object-locator": {"schema-name": "public", "table-name": "awsdms_%"},
                "rule-action": "exclude",
            },
        ]
    }
)


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatedAws]:
    with emulated_aws() as running:
        URL[:] = [running.url]
        yield running


@pytest.fixture
def aws(server: EmulatedAws) -> EmulatedAws:
    server.reset()
    return server


URL: list[str] = []  # of the server


@cache
def client(service: str) -> Any:
    """Made once: a client costs more time than most tests."""
    session = boto3.session.Session(aws_access_key_id="x", aws_secret_access_key="y", region_name=REGION)
    return session.client(service, endpoint_url=URL[0])


@contextmanager
def refused(code: str, text: str = "") -> Iterator[None]:
    with pytest.raises(ClientError) as caught:
        yield
    error = caught.value.response["Error"]
    assert error["Code"] == code, error
    assert text in error["Message"], error


def role(name: str, principal: str, *actions: str, resource: str = "*") -> str:
    """The ARN of a new role that the principal may assume and that may do the actions."""
    trust = {"Effect": "Allow", "Principal": {"Service": principal}, "Action": "sts:AssumeRole"}
    arn: str = client("iam").create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )["Role"]["Arn"]
    if actions:
        allow = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
        document = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        client("iam").put_role_policy(RoleName=name, PolicyName="does", PolicyDocument=document)
    return arn


def vpc_role() -> None:
    role("dms-vpc-role", "dms.amazonaws.com")
    client("iam").attach_role_policy(
        RoleName="dms-vpc-role", PolicyArn="arn:aws:iam::aws:policy/service-role/AmazonDMSVPCManagementRole"
    )


def subnets() -> list[str]:
    """Three of the default VPC, in three availability zones."""
    return [subnet["SubnetId"] for subnet in client("ec2").describe_subnets()["Subnets"]]


def subnet_group(name: str = "cdc") -> Any:
    return client("dms").create_replication_subnet_group(
        ReplicationSubnetGroupIdentifier=name, ReplicationSubnetGroupDescription="d", SubnetIds=subnets()
    )["ReplicationSubnetGroup"]


def instance(name: str = "cdc", **more: Any) -> str:
    arn: str = client("dms").create_replication_instance(
        ReplicationInstanceIdentifier=name,
        ReplicationInstanceClass="dms.t3.medium",
        ReplicationSubnetGroupIdentifier="cdc",
        **more,
    )["ReplicationInstance"]["ReplicationInstanceArn"]
    return arn


def by_arn(kind: str, arn: str) -> list[dict[str, str | list[str]]]:
    return [{"Name": f"{kind}-arn", "Values": [arn]}]


def instance_states(arn: str, times: int) -> list[str]:
    return [instance_shape(arn)["ReplicationInstanceStatus"] for _ in range(times)]


def instance_shape(arn: str) -> Any:
    filters = by_arn("replication-instance", arn)
    return client("dms").describe_replication_instances(Filters=filters)["ReplicationInstances"][0]


def task_shape(arn: str) -> Any:
    filters = by_arn("replication-task", arn)
    return client("dms").describe_replication_tasks(Filters=filters)["ReplicationTasks"][0]


def task_states(arn: str, times: int) -> list[str]:
    return [task_shape(arn)["Status"] for _ in range(times)]


def stream(name: str = "orders", shards: int = 1) -> Any:
    """An ACTIVE stream."""
    kinesis = client("kinesis")
    kinesis.create_stream(StreamName=name, ShardCount=shards)
    while stream_state(name) != "ACTIVE":
        pass
    return kinesis


def stream_state(name: str = "orders") -> str:
    state: str = client("kinesis").describe_stream_summary(StreamName=name)["StreamDescriptionSummary"][
        "StreamStatus"
    ]
    return state


def source(name: str = "pg", **more: Any) -> str:
    arn: str = client("dms").create_endpoint(
        EndpointIdentifier=name,
        EndpointType="source",
        EngineName="postgres",
        **{
            "ServerName": "db",
            "Port": 5432,
            "Username": "u",
            "Password": "p",
            "DatabaseName": "shop",
            **more,
        },
    )["Endpoint"]["EndpointArn"]
    return arn


def target(role_arn: str, name: str = "stream") -> str:
    settings = {"StreamArn": STREAM_ARN, "ServiceAccessRoleArn": role_arn, "IncludeNullAndEmpty": True}
    arn: str = client("dms").create_endpoint(
        EndpointIdentifier=name, EndpointType="target", EngineName="kinesis", KinesisSettings=settings
    )["Endpoint"]["EndpointArn"]
    return arn


class Chain:
    """Everything up to a task that is ready to start."""

    def __init__(self, **task: Any) -> None:
        vpc_role()
        subnet_group()
        stream()
        self.role = role("to-stream", "dms.amazonaws.com", "kinesis:*")
        self.instance = instance()
        instance_states(self.instance, 2)
        self.source, self.target = source(), target(self.role)
        self.tested()
        self.task: str = self.new_task(**task)
        assert task_states(self.task, 2) == ["creating", "ready"]

    def new_task(self, **more: Any) -> str:
        arn: str = client("dms").create_replication_task(
            **{
                "ReplicationTaskIdentifier": "Orders",
                "SourceEndpointArn": self.source,
                "TargetEndpointArn": self.target,
                "ReplicationInstanceArn": self.instance,
                "MigrationType": "full-load-and-cdc",
                "TableMappings": MAPPINGS,
                **more,
            }
        )["ReplicationTask"]["ReplicationTaskArn"]
        return arn

    def tested(self) -> None:
        for endpoint in (self.source, self.target):
            client("dms").test_connection(ReplicationInstanceArn=self.instance, EndpointArn=endpoint)
            while self.connection(endpoint)["Status"] == "testing":
                pass

    def connection(self, endpoint: str) -> Any:
        filters = by_arn("endpoint", endpoint) + by_arn("replication-instance", self.instance)
        return client("dms").describe_connections(Filters=filters)["Connections"][0]

    def start(self, kind: str = "start-replication") -> None:
        client("dms").start_replication_task(ReplicationTaskArn=self.task, StartReplicationTaskType=kind)

    def run(self) -> None:
        self.start()
        assert task_states(self.task, 2) == ["starting", "running"]

    def stop(self) -> None:
        client("dms").stop_replication_task(ReplicationTaskArn=self.task)
        assert task_states(self.task, 2) == ["stopping", "stopped"]


# The model itself


ADDED = """
dms.AddTagsToResource dms.DeleteConnection dms.DescribeAccountAttributes dms.DescribeEvents
dms.DescribeOrderableReplicationInstances dms.DescribeTableStatistics dms.ModifyEndpoint
dms.ModifyReplicationSubnetGroup dms.ModifyReplicationTask dms.ReloadTables dms.RemoveTagsFromResource
iam.SimulatePrincipalPolicy rds.DescribeDBEngineVersions
""".split()  # noqa: SIM905 - a list of 13 lines says no more

REPLACED = """
dms.CreateEndpoint dms.CreateReplicationInstance dms.CreateReplicationSubnetGroup dms.CreateReplicationTask
dms.DeleteEndpoint dms.DeleteReplicationInstance dms.DeleteReplicationSubnetGroup dms.DeleteReplicationTask
dms.DescribeConnections dms.DescribeEndpoints dms.DescribeReplicationInstances
dms.DescribeReplicationSubnetGroups dms.DescribeReplicationTasks dms.ListTagsForResource
dms.ModifyReplicationInstance dms.StartReplicationTask dms.StopReplicationTask dms.TestConnection
ec2.CreateVpcEndpoint ec2.DeleteSecurityGroup ec2.DescribeVpcEndpointServices ec2.DescribeVpcEndpoints
ec2.ModifyVpcEndpoint
kinesis.CreateStream kinesis.DecreaseStreamRetentionPeriod kinesis.DeleteStream
kinesis.DeregisterStreamConsumer kinesis.DescribeStream kinesis.DescribeStreamSummary kinesis.GetRecords
kinesis.GetShardIterator kinesis.IncreaseStreamRetentionPeriod kinesis.ListShards kinesis.MergeShards
kinesis.PutRecord kinesis.PutRecords kinesis.SplitShard kinesis.StartStreamEncryption
kinesis.StopStreamEncryption kinesis.UpdateShardCount kinesis.UpdateStreamMode
lambda.CreateEventSourceMapping lambda.CreateFunction lambda.DeleteEventSourceMapping
lambda.GetEventSourceMapping lambda.GetFunction lambda.GetFunctionConfiguration lambda.Invoke
lambda.ListEventSourceMappings lambda.PublishVersion lambda.UpdateEventSourceMapping
lambda.UpdateFunctionCode lambda.UpdateFunctionConfiguration
logs.DeleteLogGroup logs.DeleteMetricFilter logs.PutMetricFilter
moto.awslambda.models.EventSourceMapping.get_configuration
moto.awslambda.models.LambdaBackend.create_event_source_mapping moto.awslambda.models.LambdaFunction.__init__
moto.awslambda.models.LambdaFunction.get_configuration
moto.awslambda.models.LambdaFunction.update_configuration
moto.awslambda.models.LambdaFunction.update_function_code
moto.awslambda.models.LambdaStorage.publish_version
moto.cloudwatch.models.CloudWatchBackend.delete_alarms
moto.cloudwatch.models.CloudWatchBackend.delete_dashboards
moto.cloudwatch.models.CloudWatchBackend.get_metric_data
moto.cloudwatch.models.CloudWatchBackend.put_metric_alarm
moto.cloudwatch.responses.CloudWatchResponse.put_dashboard
moto.dms.models.DatabaseMigrationServiceBackend.iter_tagged_resources
moto.dms.models.DatabaseMigrationServiceBackend.tag_resource
moto.dms.models.DatabaseMigrationServiceBackend.untag_resource
moto.ec2.models.amis.AmiBackend._load_amis moto.ec2.models.vpcs.VPCBackend.create_default_vpc
moto.ec2.models.vpcs.VPCBackend.delete_vpc_endpoints moto.ec2.models.vpcs.VPCEndPoint.__init__
moto.iam.models.IAMBackend._init_aws_policies
moto.kinesis.models.KinesisBackend._send_stream_metrics
moto.kinesis.models.Shard.to_json moto.kinesis.models.Stream.get_shard_for_key
moto.kinesis.models.Stream.init_shards moto.kinesis.models.Stream.merge_shards
moto.kinesis.models.Stream.put_record moto.kinesis.models.Stream.split_shard
moto.kinesis.models.Stream.to_json_summary moto.kinesis.models.Stream.update_shard_count
moto.rds.models.DBInstance.db_parameter_group_status_list moto.rds.models.DBInstance.endpoint
moto.logs.metric_filters.MetricFilters.add_filter moto.logs.utils.UnsupportedFilterPattern.matches
moto.rds.models.MasterUserSecret._generate_secret_string moto.rds.models.RDSBackend.modify_db_subnet_group
moto.s3.models.FakeBucket.__init__ moto.s3.models.FakeBucket.get_permission
moto.s3.models.S3Backend.delete_bucket_encryption
moto.s3.responses.S3Response._bucket_response_put moto.s3.responses.S3Response.get_bucket_notification
moto.s3.responses.S3Response.put_object
rds.CreateDBInstance rds.CreateDBParameterGroup rds.CreateDBSubnetGroup rds.DeleteDBInstance
rds.DeleteDBParameterGroup rds.DeleteDBSubnetGroup rds.DescribeDBInstances rds.DescribeDBParameters
rds.DescribeOrderableDBInstanceOptions rds.ModifyDBInstance rds.ModifyDBParameterGroup rds.ModifyDBSubnetGroup
rds.RebootDBInstance
secretsmanager.CreateSecret
""".split()  # noqa: SIM905


def test_operations_added_to_moto_and_replaced_in_it() -> None:
    """An operation that moves from the first list to the second is one that moto has gained: compare."""
    model.install_model()
    model.install_model()
    assert sorted(name for name, how in model.INSTALLED.items() if how == "added") == sorted(ADDED)
    assert sorted(name for name, how in model.INSTALLED.items() if how == "replaced") == sorted(REPLACED)


def test_every_operation_of_the_model_has_rules_with_evidence() -> None:
    assert {rule.operation for rule in model.RULES} == {"*", *ADDED, *REPLACED}
    assert {rule.evidence for rule in model.RULES} == {"documented", "observed", "inferred"}
    assert all(rule.rule for rule in model.RULES)


@pytest.mark.parametrize(
    ("service", "call", "named"),
    [
        ("dms", "describe_replication_configs", "dms.DescribeReplicationConfigs"),
        ("rds", "describe_certificates", "rds.DescribeCertificates"),
        ("ec2", "describe_trunk_interface_associations", "ec2.DescribeTrunkInterfaceAssociations"),
        ("lambda", "get_account_settings", "lambda GET /2016-08-19/account-settings"),
        ("cloudwatch", "describe_anomaly_detectors", "monitoring.DescribeAnomalyDetectors"),
        ("kinesis", "describe_account_settings", "kinesis.DescribeAccountSettings"),
    ],
)
def test_a_missing_operation_is_one_clear_error(
    aws: EmulatedAws, service: str, call: str, named: str
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(client(service), call)()
    answer = caught.value.response
    assert answer["Error"]["Code"] == "NotImplemented"
    assert answer["Error"]["Message"].startswith(f"{named} is not there in the emulated AWS")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0


def test_there_is_one_emulated_aws_in_a_process(aws: EmulatedAws) -> None:
    with pytest.raises(RuntimeError, match="one emulated AWS at a time"), emulated_aws():
        pass


def test_reset_leaves_an_empty_aws(aws: EmulatedAws) -> None:
    client("kinesis").create_stream(StreamName="orders", ShardCount=1)
    source()
    aws.role_lag = 7
    aws.reset(transitions=0)
    assert client("kinesis").list_streams()["StreamNames"] == []
    assert client("dms").describe_endpoints()["Endpoints"] == []
    assert (aws.role_lag, aws.transitions) == (0, 0)
    client("kinesis").create_stream(StreamName="orders", ShardCount=1)
    assert stream_state() == "ACTIVE"


def test_the_model_holds_in_mock_aws_too(aws: EmulatedAws) -> None:
    model.install_model()
    with mock_aws():
        kinesis = boto3.client("kinesis")
        kinesis.create_stream(StreamName="orders", ShardCount=1)
        states = [
            kinesis.describe_stream_summary(StreamName="orders")["StreamDescriptionSummary"]["StreamStatus"]
            for _ in range(2)
        ]
        with refused("ResourceNotFoundFault"):
            boto3.client("dms").describe_endpoints(Filters=[{"Name": "endpoint-id", "Values": ["absent"]}])
    assert states == ["CREATING", "ACTIVE"]


def test_values_outside_the_service_model_are_refused(aws: EmulatedAws) -> None:
    with refused("InvalidParameterValueException", "enum value set: [source, target]"):
        client("dms").create_endpoint(EndpointIdentifier="e", EndpointType="both", EngineName="postgres")
    with refused("ValidationException", "'limit' failed to satisfy constraint: Member must have value less"):
        client("kinesis").get_records(ShardIterator="x", Limit=10001)


# DMS


def test_subnet_group_needs_the_vpc_role(aws: EmulatedAws) -> None:
    text = f"The IAM Role arn:aws:iam::{ACCOUNT}:role/dms-vpc-role is not configured properly"
    with refused("AccessDeniedFault", text):
        subnet_group()
    role("dms-vpc-role", "dms.amazonaws.com")
    with refused("AccessDeniedFault", text):
        subnet_group()


def test_a_new_role_is_refused_as_often_as_the_test_says(aws: EmulatedAws) -> None:
    vpc_role()
    aws.role_lag = 2
    for _ in range(2):
        with refused("AccessDeniedFault", "is not configured properly"):
            subnet_group()
    assert subnet_group()["SubnetGroupStatus"] == "Complete"


def test_subnet_group_is_made_of_real_subnets(aws: EmulatedAws) -> None:
    vpc_role()
    group = subnet_group("CDC")
    assert group["ReplicationSubnetGroupIdentifier"] == "cdc"
    assert [subnet["SubnetIdentifier"] for subnet in group["Subnets"]] == subnets()
    assert [zone["SubnetAvailabilityZone"]["Name"] for zone in group["Subnets"]] == [
        REGION + z for z in "abc"
    ]
    with refused("ResourceAlreadyExistsFault"):
        subnet_group("cdc")


def test_subnet_group_covers_two_zones(aws: EmulatedAws) -> None:
    vpc_role()
    subnet_group()
    dms, one = client("dms"), subnets()[:1]
    with refused("ReplicationSubnetGroupDoesNotCoverEnoughAZs", "at least 2 availability zones"):
        dms.create_replication_subnet_group(
            ReplicationSubnetGroupIdentifier="g", ReplicationSubnetGroupDescription="d", SubnetIds=one
        )
    with refused("ReplicationSubnetGroupDoesNotCoverEnoughAZs"):
        dms.modify_replication_subnet_group(ReplicationSubnetGroupIdentifier="cdc", SubnetIds=one)
    with refused("InvalidSubnet", "subnet-0 does not exist"):
        dms.modify_replication_subnet_group(ReplicationSubnetGroupIdentifier="cdc", SubnetIds=["subnet-0"])
    changed = dms.modify_replication_subnet_group(
        ReplicationSubnetGroupIdentifier="CDC", SubnetIds=subnets()[:2]
    )
    assert len(changed["ReplicationSubnetGroup"]["Subnets"]) == 2


def test_subnet_group_in_use_stays(aws: EmulatedAws) -> None:
    vpc_role()
    subnet_group()
    arn = instance()
    instance_states(arn, 2)
    dms = client("dms")
    with refused("InvalidResourceStateFault"):
        dms.delete_replication_subnet_group(ReplicationSubnetGroupIdentifier="cdc")
    dms.delete_replication_instance(ReplicationInstanceArn=arn)
    assert instance_states(arn, 1) == ["deleting"]
    assert dms.describe_replication_instances()["ReplicationInstances"] == []
    dms.delete_replication_subnet_group(ReplicationSubnetGroupIdentifier="cdc")
    with refused("ResourceNotFoundFault"):
        dms.delete_replication_subnet_group(ReplicationSubnetGroupIdentifier="cdc")


@pytest.mark.parametrize(
    ("call", "known"),
    [
        ("describe_replication_subnet_groups", "replication-subnet-group-id"),
        ("describe_replication_instances", "replication-instance-id"),
        ("describe_endpoints", "endpoint-id"),
        ("describe_replication_tasks", "replication-task-id"),
        ("describe_connections", "endpoint-arn"),
    ],
)
def test_a_filter_that_matches_nothing_is_a_fault(aws: EmulatedAws, call: str, known: str) -> None:
    describe = getattr(client("dms"), call)
    with refused("ResourceNotFoundFault"):
        describe(Filters=[{"Name": known, "Values": ["absent"]}])
    with refused("InvalidParameterValueException", "The filter nonsense is not valid"):
        describe(Filters=[{"Name": "nonsense", "Values": ["x"]}])
    with refused("InvalidParameterValueException", "MaxRecords must be between 20 and 100"):
        describe(MaxRecords=19)


def test_replication_instance_comes_to_life_by_describes(aws: EmulatedAws) -> None:
    vpc_role()
    subnet_group()
    aws.transitions = 2
    arn = instance("My-Instance")
    assert arn.startswith(f"arn:aws:dms:{REGION}:{ACCOUNT}:rep:") and "instance" not in arn.lower()
    assert instance_states(arn, 4) == ["creating", "creating", "available", "available"]
    shape = instance_shape(arn)
    assert shape["ReplicationInstanceIdentifier"] == "my-instance"
    assert (shape["EngineVersion"], shape["PubliclyAccessible"], shape["AllocatedStorage"]) == (
        "3.5.4",
        True,
        50,
    )
    with refused("ResourceAlreadyExistsFault"):
        instance("MY-INSTANCE")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"EngineVersion": "9.9.9"}, "InvalidParameterValueException"),
        ({"ReplicationInstanceClass": "dms.t2.nano"}, "InvalidParameterValueException"),
        ({"AllocatedStorage": 1}, "InvalidParameterValueException"),
        ({"VpcSecurityGroupIds": ["sg-0"]}, "InvalidParameterValueException"),
        ({"ReplicationInstanceIdentifier": "two--hyphens"}, "InvalidParameterValueException"),
        ({"ReplicationSubnetGroupIdentifier": "absent"}, "ResourceNotFoundFault"),
        ({"ResourceIdentifier": "x" * 32}, "InvalidParameterValueException"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_replication_instance_must_be_orderable(aws: EmulatedAws, wrong: dict[str, Any], code: str) -> None:
    vpc_role()
    subnet_group()
    good = {
        "ReplicationInstanceIdentifier": "cdc",
        "ReplicationInstanceClass": "dms.t3.medium",
        "ReplicationSubnetGroupIdentifier": "cdc",
    }
    with refused(code):
        client("dms").create_replication_instance(**{**good, **wrong})
    assert client("dms").describe_replication_instances()["ReplicationInstances"] == []


def test_orderable_instances_come_in_pages_with_betas(aws: EmulatedAws) -> None:
    pages = (
        client("dms")
        .get_paginator("describe_orderable_replication_instances")
        .paginate(PaginationConfig={"PageSize": 20})
    )
    rows = [row for page in pages for row in page["OrderableReplicationInstances"]]
    assert len(rows) == 54
    assert {row["EngineVersion"]: row["ReleaseStatus"] for row in rows} == {
        "3.5.2": "prod",
        "3.5.3": "prod",
        "3.5.4": "prod",
        "3.6.0": "prod",
        "3.6.1": "prod",
        "3.6.2": "beta",
    }


def test_modified_instance_changes_now_or_waits(aws: EmulatedAws) -> None:
    vpc_role()
    subnet_group()
    arn = instance()
    modify = partial(client("dms").modify_replication_instance, ReplicationInstanceArn=arn)
    with refused("InvalidResourceStateFault", "creating"):
        modify(AllocatedStorage=100)
    instance_states(arn, 2)

    modify(ReplicationInstanceClass="dms.r6i.large", PreferredMaintenanceWindow="mon:01:00-mon:02:00")
    shape = instance_shape(arn)
    assert shape["ReplicationInstanceStatus"] == "available"
    assert shape["ReplicationInstanceClass"] == "dms.t3.medium"
    assert shape["PendingModifiedValues"] == {"ReplicationInstanceClass": "dms.r6i.large"}
    assert shape["PreferredMaintenanceWindow"] == "mon:01:00-mon:02:00"

    modify(AllocatedStorage=100, ApplyImmediately=True)
    assert instance_states(arn, 2) == ["modifying", "available"]
    shape = instance_shape(arn)
    assert (shape["AllocatedStorage"], shape["ReplicationInstanceClass"]) == (100, "dms.r6i.large")
    assert shape["PendingModifiedValues"] == {}

    with refused("InvalidParameterCombinationException", "AllowMajorVersionUpgrade"):
        modify(EngineVersion="3.6.1", ApplyImmediately=True)
    with refused("InvalidParameterCombinationException", "downgrade"):
        modify(EngineVersion="3.5.2", ApplyImmediately=True)
    modify(EngineVersion="3.6.1", AllowMajorVersionUpgrade=True, ApplyImmediately=True)


def test_endpoint_is_active_at_once_and_shows_no_password(aws: EmulatedAws) -> None:
    arn = source("PG-Source", PostgreSQLSettings={"HeartbeatEnable": True, "Password": "p"})
    shape = client("dms").describe_endpoints(Filters=by_arn("endpoint", arn))["Endpoints"][0]
    assert (shape["EndpointIdentifier"], shape["Status"], shape["SslMode"]) == ("pg-source", "active", "none")
    assert shape["PostgreSQLSettings"] == {"HeartbeatEnable": True}
    assert "Password" not in shape
    with refused("ResourceAlreadyExistsFault"):
        source("pg-source")


def test_kinesis_endpoint_comes_back_with_defaults(aws: EmulatedAws) -> None:
    arn = target(role("to-stream", "dms.amazonaws.com"))
    settings = client("dms").describe_endpoints(Filters=by_arn("endpoint", arn))["Endpoints"][0][
        "KinesisSettings"
    ]
    assert settings["IncludeNullAndEmpty"] is True
    assert settings["MessageFormat"] == "json"
    assert settings["NoHexPrefix"] is False


def test_endpoint_roles_must_trust_the_right_principal(aws: EmulatedAws) -> None:
    regional = role("regional", f"dms.{REGION}.amazonaws.com")
    plain = role("plain", "dms.amazonaws.com")
    secret = client("secretsmanager").create_secret(Name="cdc/dms", SecretString="{}")["ARN"]

    def from_secret(role_arn: str, **more: Any) -> None:
        settings = {"SecretsManagerAccessRoleArn": role_arn, "SecretsManagerSecretId": secret, **more}
        client("dms").create_endpoint(
            EndpointIdentifier="pg", EndpointType="source", EngineName="postgres", PostgreSQLSettings=settings
        )

    with refused("AccessDeniedFault", "role/plain is not configured properly"):
        from_secret(plain)
    with refused("AccessDeniedFault", "role/regional is not configured properly"):
        target(regional)
    with refused("AccessDeniedFault", "Unable to find Secrets Manager secret absent"):
        from_secret(regional, SecretsManagerSecretId="absent")
    with refused("InvalidParameterCombinationException", "exclusive"):
        from_secret(regional, ServerName="db")
    from_secret(regional)


def test_other_engines_are_refused_as_not_modelled(aws: EmulatedAws) -> None:
    for engine, kind in [("mysql", "source"), ("postgres", "target"), ("kinesis", "source")]:
        with refused("InvalidParameterValueException", f"{engine} as {kind} is not modelled here"):
            client("dms").create_endpoint(EndpointIdentifier="e", EndpointType=kind, EngineName=engine)
    with refused("InvalidParameterCombinationException", "ServerName or SecretsManagerSecretId"):
        client("dms").create_endpoint(EndpointIdentifier="e", EndpointType="source", EngineName="postgres")


def test_connection_is_tested_as_often_as_one_likes(aws: EmulatedAws) -> None:
    chain = Chain()
    aws.connection_failures["pg"] = "password authentication failed"
    test = partial(
        client("dms").test_connection, ReplicationInstanceArn=chain.instance, EndpointArn=chain.source
    )
    assert test()["Connection"]["Status"] == "testing"
    assert chain.connection(chain.source)["Status"] == "testing"
    failed = chain.connection(chain.source)
    assert (failed["Status"], failed["LastFailureMessage"]) == ("failed", "password authentication failed")
    aws.connection_failures.clear()
    test()
    assert [chain.connection(chain.source)["Status"] for _ in range(2)] == ["testing", "successful"]
    assert chain.connection(chain.target)["EndpointIdentifier"] == "stream"  # filters are ANDed

    client("dms").delete_connection(ReplicationInstanceArn=chain.instance, EndpointArn=chain.source)
    assert chain.connection(chain.source)["Status"] == "deleting"
    with refused("ResourceNotFoundFault"):
        chain.connection(chain.source)
    with refused("ResourceNotFoundFault"):
        client("dms").delete_connection(ReplicationInstanceArn=chain.instance, EndpointArn=chain.source)


def test_connection_to_kinesis_needs_the_stream_and_the_rights(aws: EmulatedAws) -> None:
    chain = Chain()
    blind = role("blind", "dms.amazonaws.com", "kinesis:DescribeStream", "kinesis:PutRecord")
    endpoint = target(blind, "blind")
    client("dms").test_connection(ReplicationInstanceArn=chain.instance, EndpointArn=endpoint)
    chain.connection(endpoint)
    assert chain.connection(endpoint)["LastFailureMessage"] == (
        f"Test Endpoint failed: {blind} may not kinesis:PutRecords {STREAM_ARN}."
    )


def test_modified_endpoint_is_merged_and_tested_anew(aws: EmulatedAws) -> None:
    chain = Chain()
    modify = partial(client("dms").modify_endpoint, EndpointArn=chain.target)
    changed = modify(KinesisSettings={"MessageFormat": "json-unformatted"})["Endpoint"]["KinesisSettings"]
    assert (changed["MessageFormat"], changed["StreamArn"]) == ("json-unformatted", STREAM_ARN)
    assert [chain.connection(chain.target)["Status"] for _ in range(2)] == ["testing", "successful"]
    with refused("AccessDeniedFault"):
        modify(KinesisSettings={"ServiceAccessRoleArn": "arn:aws:iam::123456789012:role/absent"})
    exact = modify(
        KinesisSettings={"StreamArn": STREAM_ARN, "ServiceAccessRoleArn": chain.role}, ExactSettings=True
    )
    assert exact["Endpoint"]["KinesisSettings"] == {
        "StreamArn": STREAM_ARN,
        "ServiceAccessRoleArn": chain.role,
    }
    chain.tested()
    chain.run()
    with refused("InvalidResourceStateFault", "running replication task"):
        modify(KinesisSettings={"MessageFormat": "json"})


def test_endpoint_and_instance_in_use_stay(aws: EmulatedAws) -> None:
    chain, dms = Chain(), client("dms")
    with refused("InvalidResourceStateFault", "one or more replication tasks"):
        dms.delete_endpoint(EndpointArn=chain.source)
    with refused("InvalidResourceStateFault", "one or more replication tasks"):
        dms.delete_replication_instance(ReplicationInstanceArn=chain.instance)
    dms.delete_replication_task(ReplicationTaskArn=chain.task)
    quick = {"WaiterConfig": {"Delay": 0, "MaxAttempts": 5}}
    dms.get_waiter("replication_task_deleted").wait(Filters=by_arn("replication-task", chain.task), **quick)
    dms.delete_endpoint(EndpointArn=chain.source)
    with refused("InvalidResourceStateFault", "being deleted"):
        dms.delete_endpoint(EndpointArn=chain.source)
    dms.get_waiter("endpoint_deleted").wait(Filters=by_arn("endpoint", chain.source), **quick)
    with refused("ResourceNotFoundFault"):
        chain.connection(chain.source)
    dms.delete_replication_instance(ReplicationInstanceArn=chain.instance)
    filters = by_arn("replication-instance", chain.instance)
    dms.get_waiter("replication_instance_deleted").wait(Filters=filters, **quick)


def test_task_settings_come_back_enlarged(aws: EmulatedAws) -> None:
    chain = Chain(ReplicationTaskSettings=json.dumps({"TargetMetadata": {"LobMaxSize": 600}}))
    shape = task_shape(chain.task)
    settings = json.loads(shape["ReplicationTaskSettings"])
    assert settings["TargetMetadata"]["LobMaxSize"] == 600
    assert settings["TargetMetadata"]["SupportLobs"] is True
    assert sum(len(section) for section in settings.values() if section) > 80
    assert shape["ReplicationTaskIdentifier"] == "orders"
    assert shape["TableMappings"] == MAPPINGS
    filters = by_arn("replication-task", chain.task)
    brief = client("dms").describe_replication_tasks(Filters=filters, WithoutSettings=True)[
        "ReplicationTasks"
    ][0]
    assert "ReplicationTaskSettings" not in brief
    with refused("ResourceAlreadyExistsFault"):
        chain.new_task()


def mapping(**changes: Any) -> str:
    """Valid table mappings but for the changes of their first rule."""
    rules = json.loads(MAPPINGS)["rules"]
    rules[0].update(changes)
    return json.dumps({"rules": rules})


WRONG_DOCUMENTS = [
    ({"TableMappings": "{"}, "Invalid table mappings JSON"),
    ({"TableMappings": mapping(**{"rule-id": "2"})}, "must be unique"),
    ({"TableMappings": mapping(**{"rule-action": "exclude"})}, "at least one selection rule"),
    ({"TableMappings": mapping(**{"rule-type": "wish"})}, "rule"),
    ({"TableMappings": mapping(**{"object-locator": {}})}, "no object-locator"),
    (
        {
            "TableMappings": json.dumps(
                {
                    "rules": [
                        *json.loads(MAPPINGS)["rules"],
                        {
                            "rule-type": "object-mapping",
                            "rule-id": "9",
                            "rule-name": "9",
                            "rule-action": "map-statement-to-document",
                            "object-locator": {"schema-name": "a", "table-name": "b"},
                        },
                    ]
                }
            )
        },
        "rule-action map-statement-to-document",
    ),
    ({"ReplicationTaskSettings": "{"}, "Invalid task settings JSON"),
    ({"ReplicationTaskSettings": '{"NoSuch": {}}'}, "unknown NoSuch"),
    ({"ReplicationTaskSettings": '{"TargetMetadata": {"NoSuch": 1}}'}, "unknown TargetMetadata.NoSuch"),
    (
        {"ReplicationTaskSettings": '{"Logging": {"CloudWatchLogGroup": "x"}}'},
        "CloudWatchLogGroup or CloudWatchLogStream cannot be set on create",
    ),
    ({"MigrationType": "cdc-only"}, "enum value set"),
]


def test_task_documents_are_validated(aws: EmulatedAws, subtests: pytest.Subtests) -> None:
    chain = Chain()
    for wrong, text in WRONG_DOCUMENTS:
        with subtests.test(text), refused("InvalidParameterValueException", text):
            chain.new_task(ReplicationTaskIdentifier="other", **wrong)


def test_task_needs_what_it_names(aws: EmulatedAws) -> None:
    chain = Chain()
    create = partial(chain.new_task, ReplicationTaskIdentifier="other")
    for key in ("SourceEndpointArn", "TargetEndpointArn", "ReplicationInstanceArn"):
        with refused("ResourceNotFoundFault"):
            create(**{key: "arn:aws:dms:eu-west-1:123456789012:endpoint:X"})
    with refused("InvalidParameterValueException", "SourceEndpointArn is not a source endpoint"):
        create(SourceEndpointArn=chain.target)
    with refused("InvalidParameterCombinationException", "exclusive"):
        create(CdcStartTime=1, CdcStartPosition="0/1")


def test_task_starts_stops_and_resumes(aws: EmulatedAws) -> None:
    chain, dms = Chain(), client("dms")
    with refused(
        "InvalidParameterCombinationException",
        "RESUME_PROCESSING, valid only for tasks running for the second",
    ):
        chain.start("resume-processing")
    with refused("InvalidResourceStateFault", "not running"):
        dms.stop_replication_task(ReplicationTaskArn=chain.task)
    chain.run()
    with refused("InvalidResourceStateFault", "Replication Task cannot be started, invalid state"):
        chain.start("resume-processing")
    for refuse in (dms.delete_replication_task, dms.modify_replication_task):
        with refused("InvalidResourceStateFault", "running"):
            refuse(ReplicationTaskArn=chain.task)
    chain.stop()
    assert task_shape(chain.task)["StopReason"] == "Stop Reason NORMAL"
    with refused(
        "InvalidParameterCombinationException",
        "START_REPLICATION, valid only for tasks running for the first",
    ):
        chain.start("start-replication")
    chain.start("resume-processing")
    assert task_states(chain.task, 2) == ["starting", "running"]
    chain.stop()
    chain.start("reload-target")
    assert task_shape(chain.task)["Status"] == "starting"


def test_task_starts_only_over_tested_connections(aws: EmulatedAws) -> None:
    chain = Chain()
    client("dms").test_connection(ReplicationInstanceArn=chain.instance, EndpointArn=chain.source)
    with refused(
        "InvalidResourceStateFault", "Test connection for replication instance and endpoint should be"
    ):
        chain.start()
    chain.tested()
    chain.run()


def test_cdc_task_cannot_reload(aws: EmulatedAws) -> None:
    chain = Chain(MigrationType="cdc", CdcStartPosition="0/1")
    assert task_shape(chain.task)["CdcStartPosition"] == "0/1"
    chain.run()
    chain.stop()
    with refused("InvalidParameterCombinationException", "reload-target is not valid"):
        chain.start("reload-target")
    chain.start("start-replication")


def test_failed_task_tells_why_and_can_be_resumed(aws: EmulatedAws) -> None:
    chain = Chain()
    chain.run()
    aws.fail_task("orders", "replication slot does not exist")
    shape = task_shape(chain.task)
    assert (shape["Status"], shape["LastFailureMessage"]) == ("failed", "replication slot does not exist")
    assert shape["StopReason"].startswith("Stop Reason FATAL_ERROR")
    chain.start("resume-processing")


def test_task_is_modified_while_it_rests(aws: EmulatedAws) -> None:
    chain = Chain()
    modify = partial(client("dms").modify_replication_task, ReplicationTaskArn=chain.task)
    modify(MigrationType="cdc", ReplicationTaskSettings='{"TargetMetadata": {"LobMaxSize": 64}}')
    assert task_states(chain.task, 2) == ["modifying", "ready"]
    shape = task_shape(chain.task)
    assert shape["MigrationType"] == "cdc"
    assert json.loads(shape["ReplicationTaskSettings"])["TargetMetadata"]["LobMaxSize"] == 64
    chain.run()
    chain.stop()
    with refused("InvalidParameterCombinationException", "migration type"):
        modify(MigrationType="full-load-and-cdc")
    with refused("InvalidParameterValueException", "Invalid table mappings JSON"):
        modify(TableMappings="[]")
    modify(TableMappings=mapping(**{"rule-name": "renamed"}))
    assert task_states(chain.task, 2) == ["modifying", "stopped"]


def test_logging_task_shows_where_it_logs(aws: EmulatedAws) -> None:
    chain = Chain(ReplicationTaskSettings='{"Logging": {"EnableLogging": true}}')
    chain.run()
    logging = json.loads(task_shape(chain.task)["ReplicationTaskSettings"])["Logging"]
    assert logging["CloudWatchLogGroup"] == "dms-tasks-cdc"
    assert logging["CloudWatchLogStream"].startswith("dms-task-")


def test_table_statistics_follow_the_selection_rules(aws: EmulatedAws) -> None:
    aws.tables = [("public", "orders"), ("public", "awsdms_status"), ("sales", "order"), ("public", "items")]
    aws.suspended = {("public", "items")}
    aws.statistics = {("public", "orders"): {"Inserts": 5}}
    chain = Chain()
    statistics = partial(client("dms").describe_table_statistics, ReplicationTaskArn=chain.task)
    assert statistics()["TableStatistics"] == []
    chain.run()
    rows = statistics()["TableStatistics"]
    assert [(row["TableName"], row["TableState"], row["Inserts"]) for row in rows] == [
        ("orders", "Table completed", 5),
        ("items", "Table error", 0),
    ]
    stats = task_shape(chain.task)["ReplicationTaskStats"]
    assert (stats["TablesLoaded"], stats["TablesErrored"], stats["FullLoadProgressPercent"]) == (1, 1, 50)
    only = statistics(Filters=[{"Name": "table-state", "Values": ["Table error"]}])["TableStatistics"]
    assert [row["TableName"] for row in only] == ["items"]
    with refused("InvalidParameterValueException", "filter"):
        statistics(Filters=[{"Name": "nonsense", "Values": ["x"]}])


def test_tables_are_reloaded_while_the_task_runs(aws: EmulatedAws) -> None:
    aws.tables = [("public", f"t{number}") for number in range(12)]
    chain = Chain()

    def reload(*names: str) -> None:
        tables = [{"SchemaName": "public", "TableName": name} for name in names]
        client("dms").reload_tables(ReplicationTaskArn=chain.task, TablesToReload=tables)

    def state() -> Any:
        filters = [{"Name": "table-name", "Values": ["t1"]}]
        rows = client("dms").describe_table_statistics(ReplicationTaskArn=chain.task, Filters=filters)
        return rows["TableStatistics"][0]["TableState"]

    with refused("InvalidResourceStateFault", "running state"):
        reload("t1")
    chain.run()
    with refused("InvalidParameterValueException", "Up to 10 tables"):
        reload(*(f"t{number}" for number in range(11)))
    with refused("ResourceNotFoundFault"):
        reload("absent")
    reload("t1")
    assert [state() for _ in range(3)] == [
        "Table is being reloaded",
        "Table is being reloaded",
        "Table completed",
    ]


def test_tags_are_on_arns(aws: EmulatedAws) -> None:
    vpc_role()
    subnet_group()
    dms, arn = client("dms"), f"arn:aws:dms:{REGION}:{ACCOUNT}:subgrp:cdc"
    dms.add_tags_to_resource(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    dms.remove_tags_from_resource(ResourceArn=arn, TagKeys=["a"])
    tags = [{"Key": "b", "Value": "2", "ResourceArn": arn}]
    assert dms.list_tags_for_resource(ResourceArn=arn)["TagList"] == tags
    assert dms.list_tags_for_resource(ResourceArnList=[arn])["TagList"] == tags
    with refused("ResourceNotFoundFault"):
        dms.list_tags_for_resource(ResourceArn=arn + "x")
    across = client("resourcegroupstaggingapi")
    across.tag_resources(ResourceARNList=[arn], Tags={"c": "3"})
    across.untag_resources(ResourceARNList=[arn], TagKeys=["c"])
    assert dms.list_tags_for_resource(ResourceArn=arn)["TagList"] == tags
    found = across.get_resources(TagFilters=[{"Key": "b", "Values": ["2"]}])
    assert [each["ResourceARN"] for each in found["ResourceTagMappingList"]] == [arn]


def test_account_attributes_and_events(aws: EmulatedAws) -> None:
    vpc_role()
    subnet_group()
    instance()
    quotas = client("dms").describe_account_attributes()["AccountQuotas"]
    assert {"AccountQuotaName": "ReplicationInstances", "Used": 1, "Max": 60} in quotas
    events = client("dms").describe_events(SourceIdentifier="cdc")["Events"]
    assert [event["EventCategories"] for event in events] == [["creation"]]


# Kinesis


def test_stream_takes_its_time_and_keeps_its_tags(aws: EmulatedAws) -> None:
    kinesis = client("kinesis")
    kinesis.create_stream(StreamName="orders", ShardCount=2, Tags={"a": "1"}, MaxRecordSizeInKiB=2048)
    with refused("ResourceNotFoundException"):
        kinesis.put_record(StreamName="orders", Data=b"x", PartitionKey="k")
    with refused("ResourceInUseException", "not ACTIVE"):
        kinesis.delete_stream(StreamName="orders")
    assert [stream_state() for _ in range(2)] == ["CREATING", "ACTIVE"]
    assert kinesis.list_tags_for_stream(StreamName="orders")["Tags"] == [{"Key": "a", "Value": "1"}]
    summary = kinesis.describe_stream_summary(StreamName="orders")["StreamDescriptionSummary"]
    assert (summary["MaxRecordSizeInKiB"], summary["OpenShardCount"]) == (2048, 2)
    with refused("ResourceInUseException", "already exists"):
        kinesis.create_stream(StreamName="orders", ShardCount=1)
    with refused("ValidationException", "ShardCount"):
        kinesis.create_stream(StreamName="other")


def test_deleted_stream_goes_and_its_name_is_free_after_that(aws: EmulatedAws) -> None:
    kinesis = stream()
    kinesis.delete_stream(StreamARN=STREAM_ARN)
    with refused("ResourceInUseException"):
        kinesis.create_stream(StreamName="orders", ShardCount=1)
    assert kinesis.describe_stream(StreamName="orders")["StreamDescription"]["StreamStatus"] == "DELETING"
    with refused("ResourceNotFoundException"):
        stream_state()
    stream()


def test_stream_with_consumers_stays_unless_forced(aws: EmulatedAws) -> None:
    kinesis = stream()
    for name in ("one", "two"):
        kinesis.register_stream_consumer(StreamARN=STREAM_ARN, ConsumerName=name)
    with refused("ResourceInUseException", "consumers"):
        kinesis.delete_stream(StreamName="orders")
    kinesis.deregister_stream_consumer(StreamARN=STREAM_ARN, ConsumerName="one")
    left = kinesis.list_stream_consumers(StreamARN=STREAM_ARN)["Consumers"]
    assert [consumer["ConsumerName"] for consumer in left] == ["two"]
    kinesis.delete_stream(StreamName="orders", EnforceConsumerDeletion=True)


def test_retention_changes_only_to_another_value(aws: EmulatedAws) -> None:
    kinesis = stream()
    kinesis.increase_stream_retention_period(StreamName="orders", RetentionPeriodHours=168)
    assert [stream_state() for _ in range(2)] == ["UPDATING", "ACTIVE"]
    for change in (kinesis.increase_stream_retention_period, kinesis.decrease_stream_retention_period):
        with refused("InvalidArgumentException"):
            change(StreamName="orders", RetentionPeriodHours=168)
    kinesis.decrease_stream_retention_period(StreamName="orders", RetentionPeriodHours=24)
    assert [stream_state() for _ in range(2)] == ["UPDATING", "ACTIVE"]


def test_stream_is_busy_while_it_changes(aws: EmulatedAws) -> None:
    kinesis = stream()
    kinesis.start_stream_encryption(StreamName="orders", EncryptionType="KMS", KeyId="alias/aws/kinesis")
    with refused("ResourceInUseException", "UPDATING"):
        kinesis.update_shard_count(StreamName="orders", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    kinesis.put_record(StreamName="orders", Data=b"x", PartitionKey="k")
    assert [stream_state() for _ in range(2)] == ["UPDATING", "ACTIVE"]
    kinesis.stop_stream_encryption(StreamName="orders", EncryptionType="KMS", KeyId="alias/aws/kinesis")
    assert [stream_state() for _ in range(2)] == ["UPDATING", "ACTIVE"]
    kinesis.update_stream_mode(StreamARN=STREAM_ARN, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    assert [stream_state() for _ in range(2)] == ["UPDATING", "ACTIVE"]
    with refused("ValidationException", "On-Demand"):
        kinesis.update_shard_count(StreamName="orders", TargetShardCount=2, ScalingType="UNIFORM_SCALING")


def read(shard_id: str, kind: str = "TRIM_HORIZON", **more: Any) -> Any:
    kinesis = client("kinesis")
    start = kinesis.get_shard_iterator(StreamARN=STREAM_ARN, ShardId=shard_id, ShardIteratorType=kind, **more)
    return kinesis.get_records(ShardIterator=start["ShardIterator"])


def test_a_closed_shard_takes_nothing_more_and_ends_with_its_children(aws: EmulatedAws) -> None:
    kinesis = stream()
    first, second, third = (f"shardId-00000000000{number}" for number in range(3))
    for number in range(5):
        kinesis.put_record(StreamName="orders", Data=b"%d" % number, PartitionKey=str(number))
    before = read(first)
    assert len(before["Records"]) == 5 and before["NextShardIterator"]

    answer = kinesis.update_shard_count(
        StreamARN=STREAM_ARN, TargetShardCount=2, ScalingType="UNIFORM_SCALING"
    )
    assert (answer["StreamName"], answer["CurrentShardCount"], answer["TargetShardCount"]) == ("orders", 1, 2)
    assert [stream_state() for _ in range(2)] == ["UPDATING", "ACTIVE"]
    for number in range(5, 10):
        kinesis.put_record(StreamName="orders", Data=b"%d" % number, PartitionKey=str(number))

    whole = read(first)
    assert [record["Data"] for record in whole["Records"]] == [b"0", b"1", b"2", b"3", b"4"]
    assert "NextShardIterator" not in whole
    assert [(child["ShardId"], child["ParentShards"]) for child in whole["ChildShards"]] == [
        (second, [first]),
        (third, [first]),
    ]
    tail = kinesis.get_records(ShardIterator=before["NextShardIterator"])
    assert tail["Records"] == [] and "NextShardIterator" not in tail and len(tail["ChildShards"]) == 2
    children = [record for shard in (second, third) for record in read(shard)["Records"]]
    assert sorted(record["Data"] for record in children) == [b"5", b"6", b"7", b"8", b"9"]
    assert min(int(r["SequenceNumber"]) for r in children) > max(
        int(r["SequenceNumber"]) for r in whole["Records"]
    )
    assert {len(record["SequenceNumber"]) for record in children} == {56}
    shards = {shard["ShardId"]: shard for shard in kinesis.list_shards(StreamName="orders")["Shards"]}
    assert "EndingSequenceNumber" in shards[first]["SequenceNumberRange"]
    assert "EndingSequenceNumber" not in shards[second]["SequenceNumberRange"]
    assert shards[third]["ParentShardId"] == first
    assert shards[third]["HashKeyRange"]["EndingHashKey"] == str(2**128 - 1)


def test_merged_shards_end_in_their_common_child(aws: EmulatedAws) -> None:
    kinesis = stream(shards=4)
    first, second, third, _, child = (f"shardId-00000000000{number}" for number in range(5))
    with refused("InvalidArgumentException", "not adjacent"):
        kinesis.merge_shards(StreamName="orders", ShardToMerge=first, AdjacentShardToMerge=third)
    kinesis.merge_shards(StreamName="orders", ShardToMerge=second, AdjacentShardToMerge=first)
    stream_state(), stream_state()
    for parent in (first, second):
        end = read(parent)
        assert [shard["ShardId"] for shard in end["ChildShards"]] == [child]
        assert end["ChildShards"][0]["ParentShards"] == [second, first]
    summary = kinesis.describe_stream_summary(StreamName="orders")["StreamDescriptionSummary"]
    assert summary["OpenShardCount"] == 3
    with refused("InvalidArgumentException", "already been merged or split"):
        kinesis.split_shard(StreamName="orders", ShardToSplit=first, NewStartingHashKey="5")
    with refused("InvalidArgumentException", "already been merged or split"):
        kinesis.merge_shards(StreamName="orders", ShardToMerge=first, AdjacentShardToMerge=second)
    with refused("InvalidArgumentException", "not within"):
        kinesis.split_shard(StreamName="orders", ShardToSplit=third, NewStartingHashKey="5")
    latest = kinesis.list_shards(StreamName="orders", ShardFilter={"Type": "AT_LATEST"})["Shards"]
    assert [shard["ShardId"][-1] for shard in latest] == ["2", "3", "4"]


def test_shard_count_at_most_doubles_or_halves(aws: EmulatedAws) -> None:
    kinesis = stream(shards=2)
    change = partial(kinesis.update_shard_count, StreamName="orders", ScalingType="UNIFORM_SCALING")
    with refused("LimitExceededException", "Current open shard count: 2 Target shard count: 5"):
        change(TargetShardCount=5)
    for count in (4, 3, 2):
        change(TargetShardCount=count)
        assert [stream_state() for _ in range(2)] == ["UPDATING", "ACTIVE"]
        opened = kinesis.list_shards(StreamName="orders", ShardFilter={"Type": "AT_LATEST"})["Shards"]
        assert len(opened) == count
        ranges = sorted(
            (int(s["HashKeyRange"]["StartingHashKey"]), int(s["HashKeyRange"]["EndingHashKey"]))
            for s in opened
        )
        assert ranges[0][0] == 0 and ranges[-1][1] == 2**128 - 1
        assert all(low[1] + 1 == high[0] for low, high in pairwise(ranges))
    change(TargetShardCount=1)
    stream_state(), stream_state()
    pages = kinesis.get_paginator("list_shards").paginate(
        StreamName="orders", PaginationConfig={"PageSize": 2}
    )
    listed = [shard["ShardId"] for page in pages for shard in page["Shards"]]
    assert listed == sorted(listed) and len(set(listed)) == len(listed) > 4


def test_shard_iterators_start_where_they_say(aws: EmulatedAws) -> None:
    kinesis = stream()
    shard = "shardId-000000000000"
    put = [
        kinesis.put_record(StreamName="orders", Data=b"%d" % number, PartitionKey="k")["SequenceNumber"]
        for number in range(3)
    ]

    def records(kind: str, **more: Any) -> list[bytes]:
        return [record["Data"] for record in read(shard, kind, **more)["Records"]]

    assert records("TRIM_HORIZON") == [b"0", b"1", b"2"]
    assert records("LATEST") == []
    assert records("AT_SEQUENCE_NUMBER", StartingSequenceNumber=put[1]) == [b"1", b"2"]
    assert records("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=put[1]) == [b"2"]
    assert records("AT_TIMESTAMP", Timestamp=1) == [b"0", b"1", b"2"]
    assert records("AT_TIMESTAMP", Timestamp=4102444800) == []
    with refused("InvalidArgumentException", "StartingSequenceNumber"):
        read(shard, "AT_SEQUENCE_NUMBER")
    with refused("ResourceNotFoundException", "does not exist"):
        read("shardId-000000000009")
    with refused("InvalidArgumentException", "ShardIterator"):
        kinesis.get_records(ShardIterator="nonsense")


def test_reading_goes_on_from_the_next_iterator(aws: EmulatedAws) -> None:
    kinesis = stream()
    records = [{"Data": b"x" * 900_000, "PartitionKey": "k"}] * 5
    for _ in range(3):
        kinesis.put_records(StreamName="orders", Records=records)
    page = read("shardId-000000000000")
    assert len(page["Records"]) == 11  # 10 MiB
    rest = kinesis.get_records(ShardIterator=page["NextShardIterator"], Limit=3)
    last = kinesis.get_records(ShardIterator=rest["NextShardIterator"])
    assert (len(rest["Records"]), len(last["Records"])) == (3, 1)


# Resharding under fire: writers that never pause, and a reader that follows as Lambda's poller does


class Writer(threading.Thread):
    """Puts numbers of its own under four keys until it is told to stop, and keeps what was acknowledged."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.ended = number, threading.Event()
        self.calls = 0
        self.acknowledged: list[tuple[str, int, str, int]] = []  # shard, sequence number, key, number

    def run(self) -> None:
        while not self.ended.is_set():
            numbers = range(self.calls * 20, self.calls * 20 + 20)
            keys = [f"{self.number}-{number % 4}" for number in numbers]
            records = [
                {"Data": b"%d" % number, "PartitionKey": key}
                for number, key in zip(numbers, keys, strict=True)
            ]
            answer = client("kinesis").put_records(StreamName="orders", Records=records)["Records"]
            self.acknowledged += [
                (each["ShardId"], int(each["SequenceNumber"]), key, number)
                for each, key, number in zip(answer, keys, numbers, strict=True)
            ]
            self.calls += 1


class Reader(threading.Thread):
    """Reads each shard to its end, and a child when all its parents have ended, until nothing more comes."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = True
        self.read: list[tuple[str, int, str, int]] = []
        self.ended: dict[str, list[str]] = {}  # {a shard: its children}

    def run(self) -> None:
        iterators = {"shardId-000000000000": start_of("shardId-000000000000")}
        quiet = False
        while not quiet:
            quiet = not self.writing  # asked before the reading: what is put later is no matter
            for shard, iterator in list(iterators.items()):
                answer = client("kinesis").get_records(ShardIterator=iterator, Limit=50)
                self.take(shard, answer["Records"])
                quiet = quiet and not answer["Records"] and "NextShardIterator" in answer
                iterators[shard] = answer.get("NextShardIterator", "")
                if not iterators[shard]:
                    del iterators[shard]
                    self.end(shard, answer["ChildShards"], iterators)

    def take(self, shard: str, records: list[dict[str, Any]]) -> None:
        self.read += [(shard, int(r["SequenceNumber"]), r["PartitionKey"], int(r["Data"])) for r in records]

    def end(self, shard: str, children: list[dict[str, Any]], iterators: dict[str, str]) -> None:
        self.ended[shard] = [child["ShardId"] for child in children]
        for child in children:
            if set(child["ParentShards"]) <= set(self.ended):
                iterators[child["ShardId"]] = start_of(child["ShardId"])


def start_of(shard: str) -> str:
    start: str = client("kinesis").get_shard_iterator(
        StreamARN=STREAM_ARN, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return start


def reshard_often(writers: list[Writer]) -> None:
    """1 shard, 2 by count, 3 by a split, 2 by a merge, 1 by count; all writers go on all the while."""
    kinesis, middle = client("kinesis"), str(2**126)
    count = partial(kinesis.update_shard_count, StreamName="orders", ScalingType="UNIFORM_SCALING")
    upper, lower = "shardId-000000000002", "shardId-000000000004"
    for change in (
        partial(count, TargetShardCount=2),
        partial(
            kinesis.split_shard,
            StreamName="orders",
            ShardToSplit="shardId-000000000001",
            NewStartingHashKey=middle,
        ),
        partial(kinesis.merge_shards, StreamName="orders", ShardToMerge=lower, AdjacentShardToMerge=upper),
        partial(count, TargetShardCount=1),
    ):
        change()
        wanted, deadline = [writer.calls + 5 for writer in writers], time.monotonic() + 30
        while stream_state() != "ACTIVE" or [writer.calls for writer in writers] < wanted:
            assert time.monotonic() < deadline and all(writer.is_alive() for writer in writers)


@pytest.fixture
def resharded(aws: EmulatedAws) -> tuple[list[tuple[str, int, str, int]], Reader]:
    """What four writers had acknowledged while the stream was resharded, and what a reader got meanwhile."""
    stream()
    writers, reader = [Writer(number) for number in range(4)], Reader()
    for thread in (*writers, reader):
        thread.start()
    try:
        reshard_often(writers)
    finally:
        for writer in writers:
            writer.ended.set()
        for writer in writers:
            writer.join()
        reader.writing = False
        reader.join()
    return [record for writer in writers for record in writer.acknowledged], reader


def test_resharding_under_concurrent_puts_loses_and_doubles_nothing(
    resharded: tuple[list[tuple[str, int, str, int]], Reader],
) -> None:
    acknowledged, reader = resharded
    assert len(acknowledged) > 1000
    assert sorted(reader.read) == sorted(acknowledged)
    by_key: dict[str, list[int]] = {}
    for _, _, key, number in reader.read:  # parents were read before children
        by_key.setdefault(key, []).append(number)
    assert all(numbers == sorted(numbers) for numbers in by_key.values())

    zero, one, two, three, four, five, six = (f"shardId-00000000000{number}" for number in range(7))
    assert reader.ended == {
        zero: [one, two],
        one: [three, four],
        two: [five],
        four: [five],
        three: [six],
        five: [six],
    }
    shards = {
        shard["ShardId"]: shard for shard in client("kinesis").list_shards(StreamName="orders")["Shards"]
    }
    placed: dict[str, list[int]] = {shard: [] for shard in shards}
    for shard, sequence, key, _ in acknowledged:
        placed[shard].append(sequence)
        ends = shards[shard]["HashKeyRange"]
        hashed = int(hashlib.md5(key.encode()).hexdigest(), 16)
        assert int(ends["StartingHashKey"]) <= hashed <= int(ends["EndingHashKey"])
    for parent, children in reader.ended.items():
        end = int(shards[parent]["SequenceNumberRange"]["EndingSequenceNumber"])
        assert max(placed[parent]) < end
        for child in children:
            start = int(shards[child]["SequenceNumberRange"]["StartingSequenceNumber"])
            assert end < start < min(placed[child])


def test_records_that_outlived_their_retention_are_gone(aws: EmulatedAws) -> None:
    kinesis = stream()
    put_three()
    before = read("shardId-000000000000")
    shard = model.backend_of("kinesis", ACCOUNT, REGION).streams["orders"].shards["shardId-000000000000"]
    for record in list(shard.records.values())[:2]:
        record.created_at -= 25 * 3600
    kinesis.put_record(StreamName="orders", Data=b"new", PartitionKey="k")
    assert landed() == [b"2", b"new"]
    after = kinesis.get_records(ShardIterator=before["NextShardIterator"])
    assert [record["Data"] for record in after["Records"]] == [b"new"]


def test_a_put_that_is_refused_takes_none_of_its_records(aws: EmulatedAws) -> None:
    kinesis = stream()
    good = {"Data": b"1", "PartitionKey": "a"}
    for bad in (str(2**128), "x"):
        with pytest.raises(ClientError):
            kinesis.put_records(StreamName="orders", Records=[good, {**good, "ExplicitHashKey": bad}])
    with refused("InvalidArgumentException", "10 MB"):
        kinesis.put_records(StreamName="orders", Records=[{**good, "Data": b"x" * 1_000_000}] * 11)
    assert landed() == []


def test_short_ways_of_records_answer_as_the_whole_ones(
    aws: EmulatedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinesis = stream(shards=2)

    def both_ways(ask: Callable[[], Any]) -> list[Any]:
        answers = [ask()]
        with monkeypatch.context() as patched:
            patched.setattr(model, "QUICK", {})
            answers.append(ask())
        for answer in answers:
            del answer["ResponseMetadata"]
        return answers

    records = [{"Data": bytes([number]) * 3, "PartitionKey": f"\u00e9{number}"} for number in range(4)]
    records.append({"Data": b"", "PartitionKey": "k", "ExplicitHashKey": str(2**128 - 1)})
    quick, whole = both_ways(lambda: kinesis.put_records(StreamName="orders", Records=records))
    assert quick["FailedRecordCount"] == whole["FailedRecordCount"] == 0
    placed = [[record["ShardId"] for record in answer["Records"]] for answer in (quick, whole)]
    assert placed[0] == placed[1]
    for shard in ("shardId-000000000000", "shardId-000000000001"):
        quick, whole = both_ways(lambda: kinesis.get_records(ShardIterator=start_of(shard), Limit=3))  # noqa: B023
        assert quick == whole and quick["Records"]
    kinesis.update_shard_count(StreamName="orders", TargetShardCount=1, ScalingType="UNIFORM_SCALING")
    quick, whole = both_ways(lambda: kinesis.get_records(ShardIterator=start_of("shardId-000000000000")))
    assert quick == whole and quick["ChildShards"]


def test_records_have_a_largest_size(aws: EmulatedAws) -> None:
    kinesis = stream()
    kinesis.put_record(StreamName="orders", Data=b"x" * (1024 * 1024 - 1), PartitionKey="k")
    with refused("ValidationException", "less than or equal to 1048576"):
        kinesis.put_record(StreamName="orders", Data=b"x" * (1024 * 1024), PartitionKey="k")
    with refused("ValidationException", "'records.2.member.data'"):
        small, large = ({"Data": b"x" * size, "PartitionKey": "k"} for size in (1, 1024 * 1024))
        kinesis.put_records(StreamName="orders", Records=[small, large])
    with refused("ValidationException", "less than or equal to 500"):
        kinesis.put_records(StreamName="orders", Records=[{"Data": b"x", "PartitionKey": "k"}] * 501)


# Lambda


def zipped(text: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("lambda_function.py"), text)
    return buffer.getvalue()


def function(**more: Any) -> Any:
    """A new function `cdc`; its role reads the stream and writes to S3."""
    if "Role" not in more:
        more["Role"] = role("runs-cdc", "lambda.amazonaws.com", "kinesis:*", "s3:PutObject")
    return client("lambda").create_function(
        **{
            "FunctionName": "cdc",
            "Runtime": "python3.13",
            "Handler": "lambda_function.lambda_handler",
            "Code": {"ZipFile": zipped()},
            **more,
        }
    )


def active_function(**more: Any) -> Any:
    function(**more)
    for _ in range(2):
        configuration = client("lambda").get_function_configuration(FunctionName="cdc")
    assert configuration["State"] == "Active"
    return client("lambda")


def with_alias() -> Any:
    functions = active_function()
    functions.publish_version(FunctionName="cdc")
    functions.create_alias(FunctionName="cdc", Name="live", FunctionVersion="1")
    stream()
    return functions


def map_stream(**more: Any) -> Any:
    return client("lambda").create_event_source_mapping(
        **{
            "EventSourceArn": STREAM_ARN,
            "FunctionName": "cdc:live",
            "StartingPosition": "TRIM_HORIZON",
            **more,
        }
    )


def mapping_states(uuid: str, times: int) -> list[str]:
    get = client("lambda").get_event_source_mapping
    return [get(UUID=uuid)["State"] for _ in range(times)]


def test_function_role_must_be_assumable_by_lambda(aws: EmulatedAws) -> None:
    text = "The role defined for the function cannot be assumed by Lambda."
    with refused("InvalidParameterValueException", text):
        function(Role=role("wrong", "dms.amazonaws.com"))
    aws.role_lag = 1
    right = role("right", "lambda.amazonaws.com")
    with refused("InvalidParameterValueException", text):
        function(Role=right)
    function(Role=right)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"Runtime": "python9.9"},
            "'runtime' failed to satisfy constraint: Member must satisfy enum value set",
        ),
        ({"MemorySize": 99999}, "'memorySize' failed to satisfy constraint"),
        ({"Architectures": ["mips"]}, "'architectures.1.member' failed to satisfy constraint"),
    ],
    ids=["runtime", "memory", "architecture"],
)
def test_function_settings_stay_within_bounds(aws: EmulatedAws, wrong: dict[str, Any], text: str) -> None:
    with refused("InvalidParameterValueException", text):
        function(**wrong)


def test_function_of_a_zip_needs_runtime_and_handler(aws: EmulatedAws) -> None:
    arn = role("runs", "lambda.amazonaws.com")
    with refused("InvalidParameterValueException", "Runtime and Handler are mandatory"):
        client("lambda").create_function(FunctionName="cdc", Role=arn, Code={"ZipFile": zipped()})


def test_function_is_pending_then_active(aws: EmulatedAws) -> None:
    assert function()["State"] == "Pending"
    functions = client("lambda")
    for change in (
        partial(functions.update_function_configuration, Timeout=60),
        partial(functions.update_function_code, ZipFile=zipped()),
        functions.publish_version,
    ):
        with refused("ResourceConflictException", "currently in the following state: Pending"):
            change(FunctionName="cdc")
    states = [functions.get_function(FunctionName="cdc")["Configuration"]["State"] for _ in range(2)]
    assert states == ["Pending", "Active"]


def test_function_update_is_in_progress_then_successful(aws: EmulatedAws) -> None:
    functions = active_function()
    updated = functions.update_function_configuration(FunctionName="cdc", Timeout=60)
    assert (updated["Timeout"], updated["LastUpdateStatus"]) == (60, "InProgress")
    with refused("ResourceConflictException", "An update is in progress for resource"):
        functions.update_function_code(FunctionName="cdc", ZipFile=zipped())
    get = functions.get_function_configuration
    assert [get(FunctionName="cdc")["LastUpdateStatus"] for _ in range(2)] == ["InProgress", "Successful"]


def test_function_keeps_what_moto_forgets(aws: EmulatedAws) -> None:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"
    functions = active_function(
        LoggingConfig={"LogFormat": "JSON", "LogGroup": "/cdc"}, DeadLetterConfig={"TargetArn": queue}
    )
    shape = functions.get_function_configuration(FunctionName="cdc")
    assert shape["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "INFO",
        "LogGroup": "/cdc",
    }
    assert shape["DeadLetterConfig"] == {"TargetArn": queue}
    updated = functions.update_function_configuration(
        FunctionName="cdc",
        LoggingConfig={"LogFormat": "Text"},
        TracingConfig={"Mode": "Active"},
        EphemeralStorage={"Size": 1024},
    )
    assert updated["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/cdc"}
    assert updated["TracingConfig"] == {"Mode": "Active"}
    assert updated["EphemeralStorage"] == {"Size": 1024}


def settle(get: Callable[[], Any]) -> None:
    for _ in range(2):
        get()


def test_an_unchanged_function_is_not_published_again(aws: EmulatedAws) -> None:
    functions = active_function()
    publish = partial(functions.publish_version, FunctionName="cdc")
    again = partial(functions.get_function_configuration, FunctionName="cdc")
    assert [publish()["Version"] for _ in range(2)] == ["1", "1"]
    functions.update_function_configuration(FunctionName="cdc", Timeout=3)
    settle(again)
    assert publish()["Version"] == "1"
    assert (
        functions.update_function_code(FunctionName="cdc", ZipFile=zipped(), Publish=True)["Version"] == "1"
    )
    settle(again)
    changed = functions.update_function_code(FunctionName="cdc", ZipFile=zipped("new"), Publish=True)
    assert changed["Version"] == "2"
    assert functions.get_function(FunctionName="cdc", Qualifier="1")["Configuration"]["Version"] == "1"


def test_function_code_can_be_downloaded(aws: EmulatedAws) -> None:
    functions = with_alias()
    functions.update_function_code(FunctionName="cdc", ZipFile=zipped("new"))
    for qualifier, text in [("$LATEST", "new"), ("live", "")]:
        answer = functions.get_function(FunctionName="cdc", Qualifier=qualifier)
        with urllib.request.urlopen(answer["Code"]["Location"]) as download:
            code = download.read()
        assert code == zipped(text)
        digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
        assert digest == answer["Configuration"]["CodeSha256"]


def test_invoke_runs_nothing_unless_a_hook_answers(aws: EmulatedAws) -> None:
    functions = with_alias()
    with refused("NotImplemented"):
        functions.invoke(FunctionName="cdc")
    assert functions.invoke(FunctionName="cdc", InvocationType="DryRun")["StatusCode"] == 204
    asked: list[tuple[str, bytes]] = []

    def answer(arn: str, payload: bytes) -> bytes:
        asked.append((arn, payload))
        client("kinesis").list_shards(StreamName="orders")  # code may call AWS
        return b'{"batchItemFailures": []}'

    aws.invoke = answer
    result = functions.invoke(FunctionName="cdc", Qualifier="live", Payload=b'{"Records": []}')
    assert result["Payload"].read() == b'{"batchItemFailures": []}'
    assert asked == [(f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:cdc:live", b'{"Records": []}')]
    with refused("ResourceNotFoundException"):
        functions.invoke(FunctionName="absent")


def test_mapping_on_an_alias_is_reported_on_the_alias(aws: EmulatedAws) -> None:
    functions = with_alias()
    created = map_stream(BatchSize=10000, FunctionResponseTypes=["ReportBatchItemFailures"])
    live = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:cdc:live"
    assert (created["FunctionArn"], created["State"]) == (live, "Creating")
    assert created["MaximumRetryAttempts"] == -1 and created["ParallelizationFactor"] == 1
    assert mapping_states(created["UUID"], 2) == ["Creating", "Enabled"]

    def listed(**chosen: str) -> list[str]:
        found = functions.list_event_source_mappings(**chosen)["EventSourceMappings"]
        return [each["FunctionArn"] for each in found]

    assert (
        listed(FunctionName="cdc") == listed(FunctionName="cdc:live") == listed(FunctionName=live) == [live]
    )
    assert listed(EventSourceArn=STREAM_ARN) == listed() == [live]
    assert listed(FunctionName="cdc:other") == listed(EventSourceArn=STREAM_ARN + "x") == []
    assert listed(FunctionName="cdc", EventSourceArn=STREAM_ARN) == [live]


def test_one_mapping_a_stream_and_function(aws: EmulatedAws) -> None:
    with_alias()
    uuid = map_stream()["UUID"]
    with refused(
        "ResourceConflictException",
        f'The event source arn (" {STREAM_ARN} ") and function (" cdc:live ") provided mapping already'
        f" exists. Please update or delete the existing mapping with UUID {uuid}",
    ):
        map_stream()
    map_stream(FunctionName="cdc")  # another one: not on the alias


WRONG_MAPPINGS: list[tuple[dict[str, Any], str]] = [
    ({"ParallelizationFactor": 11}, "'parallelizationFactor' failed"),
    ({"BatchSize": 10001}, "'batchSize' failed"),
    ({"MaximumBatchingWindowInSeconds": 301}, "'maximumBatchingWindowInSeconds' failed"),
    ({"MaximumRecordAgeInSeconds": 604801}, "'maximumRecordAgeInSeconds' failed"),
    ({"StartingPosition": "FIRST"}, "'startingPosition' failed"),
    ({"StartingPosition": ""}, "tartingPosition"),
    ({"StartingPosition": "AT_TIMESTAMP"}, "StartingPositionTimestamp goes with AT_TIMESTAMP"),
    ({"StartingPositionTimestamp": 1}, "StartingPositionTimestamp goes with AT_TIMESTAMP"),
    ({"EventSourceArn": STREAM_ARN + "x"}, "Stream not found"),
    ({"EventSourceArn": STREAM_ARN + "/consumer/c:1"}, "not modelled here"),
]


def test_mapping_settings_stay_within_bounds(aws: EmulatedAws, subtests: pytest.Subtests) -> None:
    with_alias()
    for wrong, text in WRONG_MAPPINGS:
        with subtests.test(text), refused("InvalidParameterValueException", text):
            map_stream(**wrong)


def test_mapping_needs_a_starting_position(aws: EmulatedAws) -> None:
    with_alias()
    with refused("InvalidParameterValueException", "StartingPosition is needed"):
        client("lambda").create_event_source_mapping(EventSourceArn=STREAM_ARN, FunctionName="cdc")
    with refused("ResourceNotFoundException"):
        map_stream(FunctionName="cdc:absent")
    created = map_stream(StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=1750000000)
    assert created["StartingPositionTimestamp"].timestamp() == 1750000000


def test_mapping_needs_a_role_that_reads_the_stream(aws: EmulatedAws) -> None:
    with_alias()
    client("iam").delete_role_policy(RoleName="runs-cdc", PolicyName="does")
    with refused(
        "InvalidParameterValueException", f"Cannot access stream {STREAM_ARN}. Please ensure the role can"
    ):
        map_stream()
    client("iam").attach_role_policy(
        RoleName="runs-cdc", PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaKinesisExecutionRole"
    )
    failed = {"OnFailure": {"Destination": "arn:aws:s3:::failed"}}
    with refused("InvalidParameterValueException", "PutObject on S3"):
        map_stream(DestinationConfig=failed)
    map_stream()


def test_mapping_gives_batches_up_to_s3(aws: EmulatedAws) -> None:
    with_alias()
    failed = {"OnFailure": {"Destination": "arn:aws:s3:::failed"}}
    assert map_stream(DestinationConfig=failed)["DestinationConfig"] == failed


def test_mapping_is_in_use_while_it_changes(aws: EmulatedAws) -> None:
    functions = with_alias()
    uuid = map_stream()["UUID"]
    for change in (functions.update_event_source_mapping, functions.delete_event_source_mapping):
        with refused("ResourceInUseException", "the event source mapping because it is in use"):
            change(UUID=uuid)
    mapping_states(uuid, 2)
    assert functions.update_event_source_mapping(UUID=uuid, BatchSize=5)["State"] == "Updating"
    assert mapping_states(uuid, 2) == ["Updating", "Enabled"]
    assert functions.update_event_source_mapping(UUID=uuid, Enabled=False)["State"] == "Disabling"
    assert mapping_states(uuid, 2) == ["Disabling", "Disabled"]
    assert functions.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"
    assert mapping_states(uuid, 1) == ["Deleting"]
    with refused("ResourceNotFoundException"):
        mapping_states(uuid, 1)
    assert functions.list_event_source_mappings()["EventSourceMappings"] == []


def test_putting_records_calls_no_function(aws: EmulatedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    with_alias()
    uuid = map_stream()["UUID"]
    called: list[str] = []
    aws.invoke = lambda arn, payload: called.append(arn) or b""  # type: ignore[func-returns-value]
    client("kinesis").put_record(StreamName="orders", Data=b"x", PartitionKey="k")
    client("lambda").delete_function(FunctionName="cdc")
    client("kinesis").put_records(StreamName="orders", Records=[{"Data": b"x", "PartitionKey": "k"}])
    assert (called, mapping_states(uuid, 1)) == ([], ["Creating"])


# RDS


def database(name: str = "shop", **more: Any) -> Any:
    return client("rds").create_db_instance(
        **{
            "DBInstanceIdentifier": name,
            "DBInstanceClass": "db.t4g.medium",
            "Engine": "postgres",
            "EngineVersion": "16.8",
            "AllocatedStorage": 20,
            "MasterUsername": "owner",
            "MasterUserPassword": "secret-password",
            **more,
        }
    )["DBInstance"]


def database_shape(name: str = "shop") -> Any:
    return client("rds").describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]


def database_states(times: int) -> list[str]:
    return [database_shape()["DBInstanceStatus"] for _ in range(times)]


def parameter_group(family: str = "postgres16") -> None:
    client("rds").create_db_parameter_group(
        DBParameterGroupName="cdc", DBParameterGroupFamily=family, Description="logical replication"
    )


def logical_replication(method: str = "pending-reboot", name: str = "rds.logical_replication") -> None:
    parameter = {"ParameterName": name, "ParameterValue": "1", "ApplyMethod": method}
    client("rds").modify_db_parameter_group(DBParameterGroupName="cdc", Parameters=[parameter])


def test_database_has_no_endpoint_until_it_is_available(aws: EmulatedAws) -> None:
    assert database()["DBInstanceStatus"] == "creating"
    assert "Endpoint" not in database_shape()
    with refused("InvalidDBInstanceState"):
        client("rds").modify_db_instance(DBInstanceIdentifier="shop", AllocatedStorage=30)
    shape = database_shape()
    assert (shape["DBInstanceStatus"], shape["Endpoint"]["Port"]) == ("available", 5432)


@pytest.mark.parametrize(
    "wrong", [{"Engine": "mysql"}, {"EngineVersion": "16.999"}, {"DBInstanceClass": "db.t1.nano"}], ids=str
)
def test_database_must_be_orderable(aws: EmulatedAws, wrong: dict[str, str]) -> None:
    with refused("InvalidParameterCombination", "RDS does not support creating a DB instance with"):
        database(**wrong)


def test_what_can_be_ordered_is_listed(aws: EmulatedAws) -> None:
    rds = client("rds")
    versions = rds.describe_db_engine_versions(Engine="postgres", EngineVersion="17")["DBEngineVersions"]
    assert [(each["EngineVersion"], each["DBParameterGroupFamily"]) for each in versions] == [
        ("17.2", "postgres17"),
        ("17.4", "postgres17"),
    ]
    default = rds.describe_db_engine_versions(Engine="postgres", DefaultOnly=True)["DBEngineVersions"]
    assert [each["EngineVersion"] for each in default] == ["18.1"]
    options = rds.describe_orderable_db_instance_options(Engine="postgres", EngineVersion="16.8")
    assert len(options["OrderableDBInstanceOptions"]) == 5


def test_default_version_is_that_of_the_engine_or_of_the_major_version(aws: EmulatedAws) -> None:
    def default(**chosen: str) -> list[str]:
        answer = client("rds").describe_db_engine_versions(Engine="postgres", DefaultOnly=True, **chosen)
        return [each["EngineVersion"] for each in answer["DBEngineVersions"]]

    assert default() == ["18.1"]
    assert default(EngineVersion="16") == ["16.8"]
    assert default(EngineVersion="9") == []


def test_database_without_a_network_is_in_the_default_vpc_and_has_a_host_name(aws: EmulatedAws) -> None:
    database()
    database_states(2)
    shape, ec2 = database_shape(), client("ec2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])
    name, unique, rest = shape["Endpoint"]["Address"].split(".", 2)
    assert (name, unique.isalnum(), rest) == ("shop", True, f"{REGION}.rds.amazonaws.com")
    assert shape["Endpoint"]["Port"] == 5432
    assert shape["DBSubnetGroup"]["DBSubnetGroupName"] == "default"
    assert shape["DBSubnetGroup"]["VpcId"] == vpc
    assert sorted(one["SubnetIdentifier"] for one in shape["DBSubnetGroup"]["Subnets"]) == sorted(subnets())
    assert shape["VpcSecurityGroups"] == [
        {"VpcSecurityGroupId": groups["SecurityGroups"][0]["GroupId"], "Status": "active"}
    ]


def test_another_port_restarts_the_database_at_once(aws: EmulatedAws) -> None:
    database()
    database_states(2)
    client("rds").modify_db_instance(DBInstanceIdentifier="shop", DBPortNumber=5433)
    assert database_states(2) == ["modifying", "available"]
    assert database_shape()["Endpoint"]["Port"] == 5433


def test_deleted_database_leaves_its_final_snapshot(aws: EmulatedAws) -> None:
    rds = client("rds")
    database()
    database_states(2)
    with refused("InvalidParameterCombination", "FinalDBSnapshotIdentifier is required"):
        rds.delete_db_instance(DBInstanceIdentifier="shop")
    rds.delete_db_instance(
        DBInstanceIdentifier="shop", FinalDBSnapshotIdentifier="shop-final", DeleteAutomatedBackups=True
    )
    assert database_states(1) == ["deleting"]
    with refused("DBInstanceNotFound"):
        database_shape()
    assert [one["DBSnapshotIdentifier"] for one in rds.describe_db_snapshots()["DBSnapshots"]] == [
        "shop-final"
    ]


def test_static_parameters_wait_for_a_reboot(aws: EmulatedAws) -> None:
    rds = client("rds")
    parameter_group()
    with refused("InvalidParameterCombination", "cannot use immediate apply method for static parameter"):
        logical_replication("immediate")
    with refused("InvalidParameterValue", "Could not find parameter with name: no.such"):
        logical_replication(name="no.such")
    with refused("InvalidParameterValue", "ParameterGroupFamily postgres99 is not valid"):
        parameter_group("postgres99")
    database(DBParameterGroupName="cdc")
    database_states(2)

    def applied() -> Any:
        return database_shape()["DBParameterGroups"][0]["ParameterApplyStatus"]

    assert applied() == "in-sync"
    logical_replication()
    assert applied() == "pending-reboot"
    assert (
        rds.reboot_db_instance(DBInstanceIdentifier="shop")["DBInstance"]["DBInstanceStatus"] == "rebooting"
    )
    assert database_states(2) == ["rebooting", "available"]
    assert applied() == "in-sync"
    rows = rds.describe_db_parameters(DBParameterGroupName="cdc", Source="user")["Parameters"]
    assert [(row["ParameterName"], row["ParameterValue"], row["ApplyType"]) for row in rows] == [
        ("rds.logical_replication", "1", "static")
    ]
    assert len(rds.describe_db_parameters(DBParameterGroupName="cdc")["Parameters"]) == 14


def test_another_parameter_group_waits_for_a_reboot(aws: EmulatedAws) -> None:
    database()
    database_states(2)
    parameter_group()
    client("rds").modify_db_instance(
        DBInstanceIdentifier="shop", DBParameterGroupName="cdc", ApplyImmediately=True
    )
    assert database_states(2) == ["modifying", "available"]
    assert database_shape()["DBParameterGroups"] == [
        {"DBParameterGroupName": "cdc", "ParameterApplyStatus": "pending-reboot"}
    ]


def test_default_parameter_group_stays_as_it_is(aws: EmulatedAws) -> None:
    parameter = {"ParameterName": "rds.force_ssl", "ParameterValue": "0", "ApplyMethod": "immediate"}
    with refused("InvalidDBParameterGroupState"):
        client("rds").modify_db_parameter_group(
            DBParameterGroupName="default.postgres16", Parameters=[parameter]
        )


def test_parameter_group_in_use_stays(aws: EmulatedAws) -> None:
    parameter_group("postgres17")
    with refused("InvalidParameterCombination", "DBParameterGroupFamily postgres17 cannot be used"):
        database(DBParameterGroupName="cdc")
    database(DBParameterGroupName="cdc", EngineVersion="17.4")
    rds = client("rds")
    with refused("InvalidDBParameterGroupState", "still members of this parameter group cdc"):
        rds.delete_db_parameter_group(DBParameterGroupName="cdc")
    database_states(2)
    rds.delete_db_instance(DBInstanceIdentifier="shop", SkipFinalSnapshot=True)
    assert database_states(1) == ["deleting"]
    with refused("DBInstanceNotFound"):
        database_shape()
    rds.delete_db_parameter_group(DBParameterGroupName="cdc")
    with refused("DBParameterGroupNotFound"):
        rds.delete_db_parameter_group(DBParameterGroupName="cdc")


def test_database_changes_now_or_waits(aws: EmulatedAws) -> None:
    database()
    database_states(2)
    modify = partial(client("rds").modify_db_instance, DBInstanceIdentifier="shop")
    modify(AllocatedStorage=40, BackupRetentionPeriod=7)
    shape = database_shape()
    assert (shape["AllocatedStorage"], shape["BackupRetentionPeriod"]) == (20, 7)
    assert shape["PendingModifiedValues"] == {"AllocatedStorage": 40}
    modify(AllocatedStorage=40, ApplyImmediately=True)
    assert database_states(2) == ["modifying", "available"]
    shape = database_shape()
    assert (shape["AllocatedStorage"], shape.get("PendingModifiedValues", {})) == (40, {})


def test_protected_database_stays(aws: EmulatedAws) -> None:
    database(DeletionProtection=True)
    database_states(2)
    rds = client("rds")
    with refused("InvalidParameterCombination", "protected"):
        rds.delete_db_instance(DBInstanceIdentifier="shop", SkipFinalSnapshot=True)
    rds.modify_db_instance(DBInstanceIdentifier="shop", DeletionProtection=False)
    with refused("InvalidParameterCombination", "FinalDBSnapshotIdentifier is required"):
        rds.delete_db_instance(DBInstanceIdentifier="shop")
    rds.delete_db_instance(DBInstanceIdentifier="shop", FinalDBSnapshotIdentifier="last")
    assert [each["DBSnapshotIdentifier"] for each in rds.describe_db_snapshots()["DBSnapshots"]][-1] == "last"


def test_managed_secret_has_the_chosen_name(aws: EmulatedAws) -> None:
    rds = client("rds")
    created = rds.create_db_instance(
        DBInstanceIdentifier="shop",
        DBInstanceClass="db.t4g.medium",
        Engine="postgres",
        AllocatedStorage=20,
        MasterUsername="owner",
        ManageMasterUserPassword=True,
    )["DBInstance"]
    secret = client("secretsmanager").get_secret_value(SecretId=created["MasterUserSecret"]["SecretArn"])
    assert json.loads(secret["SecretString"])["username"] == "owner"
    assert created["EngineVersion"] == "18.1"


def test_db_subnet_group_covers_two_zones_and_stays_while_in_use(aws: EmulatedAws) -> None:
    rds = client("rds")
    create = partial(rds.create_db_subnet_group, DBSubnetGroupName="cdc", DBSubnetGroupDescription="d")
    with refused("DBSubnetGroupDoesNotCoverEnoughAZs", "at least 2 AZs"):
        create(SubnetIds=subnets()[:1])
    create(SubnetIds=subnets())
    with refused("DBSubnetGroupAlreadyExists"):
        create(SubnetIds=subnets())
    with refused("DBSubnetGroupDoesNotCoverEnoughAZs"):
        rds.modify_db_subnet_group(DBSubnetGroupName="cdc", SubnetIds=subnets()[:1])
    rds.modify_db_subnet_group(DBSubnetGroupName="cdc", SubnetIds=subnets()[1:])
    (group,) = rds.describe_db_subnet_groups(DBSubnetGroupName="cdc")["DBSubnetGroups"]
    assert [one["SubnetIdentifier"] for one in group["Subnets"]] == subnets()[1:]
    database(DBSubnetGroupName="cdc")
    with refused("InvalidDBSubnetGroupStateFault"):
        rds.delete_db_subnet_group(DBSubnetGroupName="cdc")


# S3, EC2, IAM, Secrets Manager, CloudWatch, Logs, and what moto does well enough


def test_one_of_several_conditional_writes_wins_and_the_policy_stays(aws: EmulatedAws) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="landing", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="landing", VersioningConfiguration={"Status": "Enabled"})
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": "arn:aws:s3:::landing/*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    s3.put_bucket_policy(Bucket="landing", Policy=policy)

    def put(number: int) -> int:
        try:
            s3.put_object(Bucket="landing", Key=f"{number // 8}", Body=b"x", IfNoneMatch="*")
        except ClientError as refusal:
            assert refusal.response["Error"]["Code"] == "PreconditionFailed"
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(put, range(80))) == 10
    assert len(s3.list_object_versions(Bucket="landing")["Versions"]) == 10
    assert json.loads(s3.get_bucket_policy(Bucket="landing")["Policy"]) == json.loads(policy)


def test_conditional_write_needs_the_version_it_names(aws: EmulatedAws) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="landing", CreateBucketConfiguration={"LocationConstraint": REGION})
    first = s3.put_object(Bucket="landing", Key="a", Body=b"1")["ETag"]
    s3.put_object(Bucket="landing", Key="a", Body=b"2", IfMatch=first)
    with refused("PreconditionFailed"):
        s3.put_object(Bucket="landing", Key="a", Body=b"3", IfMatch=first)
    assert s3.get_object(Bucket="landing", Key="a")["Body"].read() == b"2"


def test_tls_only_bucket_can_be_used(aws: EmulatedAws) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="landing", CreateBucketConfiguration={"LocationConstraint": REGION})
    only_tls = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::landing", "arn:aws:s3:::landing/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    no_delete = {**only_tls, "Action": "s3:DeleteObject"}
    del no_delete["Condition"]
    document = {"Version": "2012-10-17", "Statement": [only_tls, no_delete]}
    s3.put_bucket_policy(Bucket="landing", Policy=json.dumps(document))
    s3.put_object(Bucket="landing", Key="a", Body=b"x")
    assert s3.get_object(Bucket="landing", Key="a")["Body"].read() == b"x"
    with refused("403"):
        s3.delete_object(Bucket="landing", Key="a")
    assert json.loads(s3.get_bucket_policy(Bucket="landing")["Policy"]) == document


def test_bucket_is_encrypted_from_the_start(aws: EmulatedAws) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="landing", CreateBucketConfiguration={"LocationConstraint": REGION})

    def algorithm() -> Any:
        rules = s3.get_bucket_encryption(Bucket="landing")["ServerSideEncryptionConfiguration"]["Rules"]
        return rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"]

    assert algorithm() == "AES256"
    s3.delete_bucket_encryption(Bucket="landing")
    assert algorithm() == "AES256"
    assert s3.put_object(Bucket="landing", Key="a", Body=b"x")["ServerSideEncryption"] == "AES256"


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"])
def test_bucket_keeps_the_tags_it_is_made_with_and_tells_its_region(aws: EmulatedAws, region: str) -> None:
    s3 = boto3.client("s3", region_name=region, endpoint_url=aws.url)
    place = {} if region == "us-east-1" else {"LocationConstraint": region}
    tags = [{"Key": "pipeline", "Value": "shop"}, {"Key": "team", "Value": "data"}]
    s3.create_bucket(Bucket="landing", CreateBucketConfiguration={**place, "Tags": tags})
    assert s3.get_bucket_tagging(Bucket="landing")["TagSet"] == tags
    assert client("s3").head_bucket(Bucket="landing")["BucketRegion"] == region


def test_bucket_shows_that_its_events_go_to_eventbridge(aws: EmulatedAws) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="landing", CreateBucketConfiguration={"LocationConstraint": REGION})

    def shown() -> dict[str, Any]:
        answer = s3.get_bucket_notification_configuration(Bucket="landing")
        return {key: value for key, value in answer.items() if key != "ResponseMetadata"}

    assert shown() == {}
    wanted: dict[str, Any] = {"EventBridgeConfiguration": {}}
    s3.put_bucket_notification_configuration(Bucket="landing", NotificationConfiguration=wanted)
    assert shown() == wanted


def test_objects_are_listed_by_folders(aws: EmulatedAws) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="landing", CreateBucketConfiguration={"LocationConstraint": REGION})
    for key in ("changes/public/loan/1", "changes/public/member/1", "changes/public/member/2", "changes/x"):
        s3.put_object(Bucket="landing", Key=key, Body=b"")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket="landing", Prefix="changes/public/", Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    folders = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])]
    assert folders == ["changes/public/loan/", "changes/public/member/"]
    top = s3.list_objects_v2(Bucket="landing", Prefix="changes/", Delimiter="/")
    assert [one["Key"] for one in top["Contents"]] == ["changes/x"]
    assert [one["Prefix"] for one in top["CommonPrefixes"]] == ["changes/public/"]


def test_account_has_a_default_vpc_with_a_way_out_and_a_subnet_in_each_zone(aws: EmulatedAws) -> None:
    ec2 = client("ec2")
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    assert vpc["IsDefault"] is True
    zones = [one["AvailabilityZone"] for one in ec2.describe_subnets()["Subnets"]]
    assert sorted(zones) == ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
    (gateway,) = ec2.describe_internet_gateways()["InternetGateways"]
    (table,) = ec2.describe_route_tables()["RouteTables"]
    assert gateway["Attachments"][0]["VpcId"] == vpc["VpcId"]
    assert [(one["DestinationCidrBlock"], one["GatewayId"]) for one in table["Routes"]] == [
        ("172.31.0.0/16", "local"),
        ("0.0.0.0/0", gateway["InternetGatewayId"]),
    ]


def test_images_are_there_when_somebody_asks_after_a_reset_too(aws: EmulatedAws) -> None:
    """Of moto; they are what made a reset slow."""
    for _ in range(2):
        images = client("ec2").describe_images(Owners=["amazon"])["Images"]
        snapshots = client("ec2").describe_snapshots()["Snapshots"]
        assert len(images) == len(snapshots) > 1000
        aws.reset()


def security_group(name: str) -> str:
    vpc = client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    group: str = client("ec2").create_security_group(GroupName=name, Description="d", VpcId=vpc)["GroupId"]
    return group


def test_security_group_in_use_stays(aws: EmulatedAws) -> None:
    ec2, dms_group, db_group = client("ec2"), security_group("dms"), security_group("db")
    rule = {
        "IpProtocol": "tcp",
        "FromPort": 5432,
        "ToPort": 5432,
        "UserIdGroupPairs": [{"GroupId": dms_group}],
    }
    ec2.authorize_security_group_ingress(GroupId=db_group, IpPermissions=[rule])
    with refused("DependencyViolation", f"resource {dms_group} has a dependent object"):
        ec2.delete_security_group(GroupId=dms_group)
    ec2.revoke_security_group_ingress(GroupId=db_group, IpPermissions=[rule])
    vpc_role()
    subnet_group()
    instance(VpcSecurityGroupIds=[dms_group])
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=dms_group)
    ec2.delete_security_group(GroupId=db_group)


def test_rules_of_a_security_group_have_ids_and_tags(aws: EmulatedAws) -> None:
    ec2, group, other = client("ec2"), security_group("db"), security_group("dms")
    pair = {"GroupId": other, "Description": "DMS reads"}
    rule = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [pair]}
    tags = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "pipeline", "Value": "shop"}]}]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule], TagSpecifications=tags)

    def found(name: str, value: str) -> list[Any]:
        filters = [{"Name": name, "Values": [value]}]
        rules = ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
        return [each for each in rules if not each["IsEgress"]]

    (ours,) = found("tag:pipeline", "shop")
    assert found("group-id", group) == [ours]
    assert found("tag:pipeline", "another") == found("group-id", other) == []
    assert (ours["GroupId"], ours["ReferencedGroupInfo"]["GroupId"], ours["FromPort"]) == (group, other, 5432)
    ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[ours["SecurityGroupRuleId"]])
    assert found("group-id", group) == []


def vpc_endpoint(service: str, **more: Any) -> str:
    vpc = client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    made = client("ec2").create_vpc_endpoint(
        **{"VpcId": vpc, "ServiceName": f"com.amazonaws.{REGION}.{service}", **more}
    )
    endpoint_id: str = made["VpcEndpoint"]["VpcEndpointId"]
    return endpoint_id


def vpc_endpoint_shape(endpoint_id: str) -> Any:
    return client("ec2").describe_vpc_endpoints(VpcEndpointIds=[endpoint_id])["VpcEndpoints"][0]


def test_vpc_endpoint_comes_and_goes_and_lets_go_of_its_security_group(aws: EmulatedAws) -> None:
    ec2, group = client("ec2"), security_group("endpoints")
    made = vpc_endpoint("logs", VpcEndpointType="Interface", SubnetIds=subnets(), SecurityGroupIds=[group])
    assert [vpc_endpoint_shape(made)["State"] for _ in range(2)] == ["pending", "available"]
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=group)
    assert ec2.delete_vpc_endpoints(VpcEndpointIds=[made])["Unsuccessful"] == []
    assert vpc_endpoint_shape(made)["State"] == "deleting"
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=group)
    assert (vpc_endpoint_shape(made)["State"], vpc_endpoint_shape(made)["Groups"]) == ("deleted", [])
    ec2.delete_security_group(GroupId=group)


def test_vpc_endpoint_is_found_and_modified(aws: EmulatedAws) -> None:
    ec2, group = client("ec2"), security_group("endpoints")
    interface = vpc_endpoint(
        "logs", VpcEndpointType="Interface", SubnetIds=subnets()[:1], PrivateDnsEnabled=False
    )
    gateway = vpc_endpoint("s3")
    vpc = vpc_endpoint_shape(interface)["VpcId"]

    def found(**wanted: str) -> list[str]:
        filters = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in wanted.items()]
        return [one["VpcEndpointId"] for one in ec2.describe_vpc_endpoints(Filters=filters)["VpcEndpoints"]]

    assert found(vpc_id=vpc) == [interface, gateway]
    assert found(vpc_id=vpc, service_name=f"com.amazonaws.{REGION}.s3") == [gateway]
    assert found(vpc_id="vpc-0123456789abcdef0") == []
    kinds = [vpc_endpoint_shape(one)["VpcEndpointType"] for one in (interface, gateway)]
    private = [vpc_endpoint_shape(one)["PrivateDnsEnabled"] for one in (interface, gateway)]
    assert (kinds, private) == (["Interface", "Gateway"], [False, False])
    ec2.modify_vpc_endpoint(
        VpcEndpointId=interface,
        PrivateDnsEnabled=True,
        AddSubnetIds=subnets()[1:2],
        RemoveSubnetIds=subnets()[:1],
        AddSecurityGroupIds=[group],
    )
    changed = vpc_endpoint_shape(interface)
    assert (changed["PrivateDnsEnabled"], changed["SubnetIds"]) == (True, subnets()[1:2])
    assert [one["GroupId"] for one in changed["Groups"]] == [group]


def test_private_dns_of_an_endpoint_needs_that_of_the_vpc(aws: EmulatedAws) -> None:
    vpc = client("ec2").create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    ask = {"VpcId": vpc, "VpcEndpointType": "Interface"}
    with refused("InvalidParameter", "requires both enableDnsSupport and enableDnsHostnames"):
        vpc_endpoint("logs", **ask, PrivateDnsEnabled=True)
    made = vpc_endpoint("logs", **ask, PrivateDnsEnabled=False)
    with refused("InvalidParameter"):
        client("ec2").modify_vpc_endpoint(VpcEndpointId=made, PrivateDnsEnabled=True)
    assert vpc_endpoint_shape(made)["PrivateDnsEnabled"] is False


def test_vpc_endpoint_services_can_be_filtered(aws: EmulatedAws) -> None:
    name = f"com.amazonaws.{REGION}.kinesis-streams"
    filters = [
        {"Name": "service-name", "Values": [name]},
        {"Name": "service-type", "Values": ["Interface"]},
    ]
    found = client("ec2").describe_vpc_endpoint_services(Filters=filters)
    assert found["ServiceNames"] == [name]
    assert (
        client("ec2").describe_vpc_endpoint_services(ServiceNames=[name])["ServiceDetails"][0]["ServiceName"]
        == name
    )


def test_managed_policies_exist(aws: EmulatedAws) -> None:
    vpc_role()
    role("dms-cloudwatch-logs-role", "dms.amazonaws.com")
    arn = "arn:aws:iam::aws:policy/service-role/AmazonDMSCloudWatchLogsRole"
    client("iam").attach_role_policy(RoleName="dms-cloudwatch-logs-role", PolicyArn=arn)
    attached = client("iam").list_attached_role_policies(RoleName="dms-cloudwatch-logs-role")
    assert [policy["PolicyArn"] for policy in attached["AttachedPolicies"]] == [arn]


def test_policies_of_a_role_are_simulated(aws: EmulatedAws) -> None:
    arn = role("reader", "lambda.amazonaws.com", "s3:Get*", resource="arn:aws:s3:::landing/*")

    def decisions(source_arn: str) -> list[str]:
        answer = client("iam").simulate_principal_policy(
            PolicySourceArn=source_arn,
            ActionNames=["s3:GetObject", "s3:PutObject"],
            ResourceArns=["arn:aws:s3:::landing/a"],
        )
        return [result["EvalDecision"] for result in answer["EvaluationResults"]]

    assert decisions(arn) == ["allowed", "implicitDeny"]
    assert decisions(f"arn:aws:iam::{ACCOUNT}:user/deployer") == ["allowed", "allowed"]


def test_secret_scheduled_for_deletion_blocks_its_name(aws: EmulatedAws) -> None:
    secrets = client("secretsmanager")
    secrets.create_secret(Name="cdc/dms", SecretString="{}")
    with refused("ResourceExistsException"):
        secrets.create_secret(Name="cdc/dms", SecretString="{}")
    secrets.delete_secret(SecretId="cdc/dms")
    with refused("InvalidRequestException", "already scheduled for deletion"):
        secrets.create_secret(Name="cdc/dms", SecretString="{}")


TAGS = [{"Key": "pipeline", "Value": "shop"}]


def test_dashboard_keeps_the_tags_it_is_made_with(aws: EmulatedAws) -> None:
    watch = client("cloudwatch")
    put = partial(watch.put_dashboard, DashboardName="cdc", DashboardBody="{}")
    put(Tags=TAGS)
    arn = watch.get_dashboard(DashboardName="cdc")["DashboardArn"]
    assert arn == f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/cdc"
    put(Tags=[{"Key": "late", "Value": "ignored"}])
    assert watch.list_tags_for_resource(ResourceARN=arn)["Tags"] == TAGS
    watch.delete_dashboards(DashboardNames=["cdc"])
    put()
    assert watch.list_tags_for_resource(ResourceARN=arn)["Tags"] == []


def alarm(**more: Any) -> None:
    client("cloudwatch").put_metric_alarm(
        **{
            "AlarmName": "late",
            "Namespace": "AWS/Lambda",
            "MetricName": "IteratorAge",
            "Statistic": "Maximum",
            "Period": 60,
            "EvaluationPeriods": 5,
            "Threshold": 60000.0,
            "ComparisonOperator": "GreaterThanThreshold",
            **more,
        }
    )


def test_alarm_keeps_its_state_and_tags_over_an_update(aws: EmulatedAws) -> None:
    watch = client("cloudwatch")

    def shape() -> Any:
        return watch.describe_alarms(AlarmNames=["late"], AlarmTypes=["MetricAlarm"])["MetricAlarms"][0]

    def tags() -> Any:
        return watch.list_tags_for_resource(ResourceARN=shape()["AlarmArn"])["Tags"]

    alarm(Tags=TAGS)
    assert (shape()["StateValue"], tags()) == ("INSUFFICIENT_DATA", TAGS)
    watch.set_alarm_state(AlarmName="late", StateValue="ALARM", StateReason="1 datapoint was greater")
    alarm(Threshold=1.0, Tags=[{"Key": "late", "Value": "ignored"}])
    assert (shape()["StateValue"], shape()["StateReason"]) == ("ALARM", "1 datapoint was greater")
    assert (shape()["Threshold"], tags()) == (1.0, TAGS)
    assert [one["AlarmName"] for one in watch.describe_alarms(StateValue="ALARM")["MetricAlarms"]] == ["late"]
    watch.delete_alarms(AlarmNames=["late"])
    alarm()
    assert tags() == []


NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def metric(namespace: str, name: str, stat: str, **dimensions: str) -> dict[str, Any]:
    pairs = [{"Name": key, "Value": value} for key, value in dimensions.items()]
    return {
        "Metric": {"Namespace": namespace, "MetricName": name, "Dimensions": pairs},
        "Period": 60,
        "Stat": stat,
    }


def metric_values(*stats: dict[str, Any], **more: Any) -> list[list[float]]:
    queries = [{"Id": f"m{number}", "MetricStat": stat} for number, stat in enumerate(stats)]
    answer = client("cloudwatch").get_metric_data(
        MetricDataQueries=queries, StartTime=NOON, EndTime=NOON + timedelta(minutes=10), **more
    )
    return [result["Values"] for result in answer["MetricDataResults"]]


@pytest.mark.parametrize(
    ("namespace", "name", "dimensions"),
    [
        ("AWS/Kinesis", "IncomingRecords", {"StreamName": "orders"}),
        ("AWS/Lambda", "IteratorAge", {"FunctionName": "cdc", "Resource": "cdc:live"}),
        (
            "AWS/DMS",
            "CDCLatencySource",
            {"ReplicationInstanceIdentifier": "a", "ReplicationTaskIdentifier": "b"},
        ),
        ("AWS/RDS", "OldestReplicationSlotLag", {"DBInstanceIdentifier": "shop"}),
    ],
)
def test_metrics_are_read_by_name_and_all_dimensions(
    aws: EmulatedAws, namespace: str, name: str, dimensions: dict[str, str]
) -> None:
    pairs = [{"Name": key, "Value": value} for key, value in reversed(dimensions.items())]
    for seconds, value in ((5, 1.0), (59, 3.0), (61, 7.0), (-1, 100.0)):
        datum = {"MetricName": name, "Dimensions": pairs, "Value": value}
        at = NOON + timedelta(seconds=seconds)
        client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[{**datum, "Timestamp": at}])

    ask = partial(metric, namespace, name)

    assert metric_values(
        *(ask(stat, **dimensions) for stat in ("Sum", "Average", "Maximum", "Minimum", "SampleCount", "p50"))
    ) == [[7.0, 4.0], [7.0, 2.0], [7.0, 3.0], [7.0, 1.0], [1.0, 2.0], [7.0, 1.0]]
    assert metric_values(ask("Sum", **dimensions), ScanBy="TimestampAscending") == [[4.0, 7.0]]
    others = {**dimensions, next(iter(dimensions)): "another"}
    assert metric_values(ask("Sum"), ask("Sum", **others), metric("AWS/X", name, "Sum")) == [[], [], []]


def test_metric_values_stand_at_the_start_of_their_period(aws: EmulatedAws) -> None:
    datum = {"MetricName": "Quarantined", "Value": 1.0, "Timestamp": NOON + timedelta(seconds=75)}
    client("cloudwatch").put_metric_data(Namespace="cdc", MetricData=[datum])
    (result,) = client("cloudwatch").get_metric_data(
        MetricDataQueries=[{"Id": "m", "MetricStat": metric("cdc", "Quarantined", "Sum")}],
        StartTime=NOON + timedelta(seconds=7),
        EndTime=NOON + timedelta(minutes=5),
    )["MetricDataResults"]
    assert result["Timestamps"] == [NOON + timedelta(seconds=60)]


def test_metrics_that_are_not_modelled_are_refused_by_name(aws: EmulatedAws) -> None:
    ask = partial(client("cloudwatch").get_metric_data, StartTime=NOON, EndTime=NOON + timedelta(minutes=1))
    with refused("NotImplemented", "monitoring.GetMetricData has no Expression in the emulated AWS"):
        ask(MetricDataQueries=[{"Id": "e", "Expression": "SEARCH('x', 'Sum')"}])
    with refused("ValidationError", "EndTime must be greater"):
        ask(MetricDataQueries=[{"Id": "m", "MetricStat": metric("a", "b", "Sum")}], EndTime=NOON)


def test_metric_filter_is_replaced_in_place_and_goes_with_its_group(aws: EmulatedAws) -> None:
    logs = client("logs")

    def put(name: str, pattern: str = "ERROR", group: str = "/aws/lambda/cdc") -> None:
        transformation = {"metricName": "Quarantined", "metricNamespace": "cdc", "metricValue": "1"}
        logs.put_metric_filter(
            logGroupName=group,
            filterName=name,
            filterPattern=pattern,
            metricTransformations=[transformation],
        )

    def shown(**more: str) -> list[tuple[str, str]]:
        found = logs.describe_metric_filters(logGroupName="/aws/lambda/cdc", **more)["metricFilters"]
        return [(one["filterName"], one["filterPattern"]) for one in found]

    with refused("ResourceNotFoundException", "log group"):
        put("quarantined")
    for group in ("/aws/lambda/cdc", "/aws/lambda/other"):
        logs.create_log_group(logGroupName=group)
        put("quarantined", "ERROR", group)
    put("quarantined", "{ $.quarantined > 0 }")
    put("errors")
    assert shown(filterNamePrefix="quar") == [("quarantined", "{ $.quarantined > 0 }")]
    assert sorted(shown()) == [("errors", "ERROR"), ("quarantined", "{ $.quarantined > 0 }")]
    other = logs.describe_metric_filters(logGroupName="/aws/lambda/other")["metricFilters"]
    assert [one["filterPattern"] for one in other] == ["ERROR"]
    logs.delete_metric_filter(logGroupName="/aws/lambda/cdc", filterName="errors")
    with refused("ResourceNotFoundException", "metric filter"):
        logs.delete_metric_filter(logGroupName="/aws/lambda/cdc", filterName="errors")
    logs.delete_log_group(logGroupName="/aws/lambda/cdc")
    logs.create_log_group(logGroupName="/aws/lambda/cdc")
    assert shown() == []


def test_log_lines_are_filtered_by_words_or_by_a_field(aws: EmulatedAws, subtests: pytest.Subtests) -> None:
    logs = client("logs")
    logs.create_log_group(logGroupName="/aws/lambda/cdc")
    logs.create_log_stream(logGroupName="/aws/lambda/cdc", logStreamName="a")
    lines = [
        '{"records": 9, "quarantined": 3}',
        '{"records": 9, "quarantined": 0}',
        '{"reason": "no-key", "at": {"shard": "shardId-1"}}',
        "ERROR of the runtime",
    ]
    start = int(time.time() * 1000)
    events = [{"timestamp": start + number, "message": line} for number, line in enumerate(lines)]
    logs.put_log_events(logGroupName="/aws/lambda/cdc", logStreamName="a", logEvents=events)

    def found(**asked: Any) -> list[int]:
        answer = logs.filter_log_events(logGroupName="/aws/lambda/cdc", **asked)
        return [lines.index(event["message"]) for event in answer["events"]]

    for pattern, expected in (
        ("", [0, 1, 2, 3]),
        ("ERROR", [3]),
        ("{ $.quarantined > 0 }", [0]),
        ("{$.quarantined=0}", [1]),
        ("{ $.quarantined != 0 }", [0]),
        ("{ $.quarantined <= 3 }", [0, 1]),
        ("{ $.reason = * }", [2]),
        ('{ $.reason = "no-*" }', [2]),
        ('{ $.at.shard = "shardId-1" }', [2]),
        ("{ $.at.shard.none = 1 }", []),
    ):
        with subtests.test(pattern):
            assert found(filterPattern=pattern) == expected
    assert found(startTime=start + 2) == [2, 3]
    with refused("NotImplemented", "logs.FilterLogEvents has no filter pattern '?ERROR ?START'"):
        found(filterPattern="?ERROR ?START")
    with refused("ResourceNotFoundException"):
        logs.filter_log_events(logGroupName="/aws/lambda/absent")


def test_function_configuration_is_that_of_an_alias(aws: EmulatedAws) -> None:
    functions = with_alias()
    settle(lambda: functions.get_function_configuration(FunctionName="cdc"))
    functions.update_function_configuration(FunctionName="cdc", MemorySize=1024)
    shown = functions.get_function_configuration(FunctionName="cdc", Qualifier="live")
    latest = functions.get_function_configuration(FunctionName="cdc")
    assert (shown["Version"], shown["MemorySize"]) == ("1", 128)
    assert (latest["Version"], latest["MemorySize"]) == ("$LATEST", 1024)


def test_what_moto_does_well_enough(aws: EmulatedAws) -> None:
    """Calls of the chain that need no model of ours; a failure here asks for one."""
    events, watch, logs, sns = (client(name) for name in ("events", "cloudwatch", "logs", "sns"))
    topic = sns.create_topic(Name="alarms", Tags=[{"Key": "a", "Value": "b"}])["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ops@example.com")
    assert len(sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]) == 1
    events.put_rule(Name="task", EventPattern=json.dumps({"source": ["aws.dms"]}), State="ENABLED")
    events.put_targets(Rule="task", Targets=[{"Id": "topic", "Arn": topic}])
    assert events.list_targets_by_rule(Rule="task")["Targets"] == [{"Id": "topic", "Arn": topic}]
    assert [rule["Name"] for rule in events.list_rules()["Rules"]] == ["task"]
    watch.put_dashboard(DashboardName="cdc", DashboardBody=json.dumps({"widgets": []}))
    assert json.loads(watch.get_dashboard(DashboardName="cdc")["DashboardBody"]) == {"widgets": []}
    watch.put_metric_alarm(
        AlarmName="late",
        Namespace="AWS/Lambda",
        MetricName="IteratorAge",
        Dimensions=[{"Name": "FunctionName", "Value": "cdc"}],
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=5,
        Threshold=60000.0,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
        AlarmActions=[topic],
    )
    alarm = watch.describe_alarms(AlarmNames=["late"])["MetricAlarms"][0]
    assert (alarm["Threshold"], alarm["AlarmActions"]) == (60000.0, [topic])
    logs.create_log_group(logGroupName="/aws/lambda/cdc", tags={"a": "b"})
    logs.put_retention_policy(logGroupName="/aws/lambda/cdc", retentionInDays=30)
    transformation = {"metricName": "Quarantined", "metricNamespace": "cdc", "metricValue": "1"}
    logs.put_metric_filter(
        logGroupName="/aws/lambda/cdc",
        filterName="quarantined",
        filterPattern='{ $.event = "quarantined" }',
        metricTransformations=[transformation],
    )
    assert logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 30
    assert logs.describe_metric_filters()["metricFilters"][0]["metricTransformations"] == [transformation]


# The private channel


def ask(path: str, body: Any = None, **named: str) -> Any:
    """The answer of the private channel, with a body to a POST; raises HTTPError for a refusal."""
    url = f"{URL[0]}/_emulated-aws/{path}?{urlencode(named)}"
    with urllib.request.urlopen(url, None if body is None else json.dumps(body).encode()) as answer:
        return json.load(answer)


@contextmanager
def not_taken(status: int, text: str) -> Iterator[None]:
    with pytest.raises(HTTPError) as caught:
        yield
    with caught.value as answer:
        assert (answer.code, json.load(answer)["message"][: len(text)]) == (status, text)


def table(name: str, state: str = "Table completed", **counts: int) -> dict[str, Any]:
    return {"SchemaName": "public", "TableName": name, "TableState": state, **counts}


class StandIn:
    """The part of DMS, played for the task of a chain."""

    def __init__(self, chain: Chain) -> None:
        self.arn = chain.task

    def orders(self) -> Any:
        return ask("task", arn=self.arn)

    def report(self, **said: Any) -> Any:
        return ask("task", {"run": self.orders()["run"], **said}, arn=self.arn)

    def rows(self) -> list[tuple[str, str, int]]:
        found = client("dms").describe_table_statistics(ReplicationTaskArn=self.arn)["TableStatistics"]
        return [(row["TableName"], row["TableState"], row["Inserts"]) for row in found]


def test_attached_task_runs_and_stops_only_as_reported(aws: EmulatedAws) -> None:
    chain, dms = Chain(), client("dms")
    stand_in = StandIn(chain)
    assert stand_in.orders() == {
        "status": "ready",
        "run": 0,
        "start_type": None,
        "start_position": None,
        "reloads": [],
    }
    chain.start()
    assert task_states(chain.task, 3) == ["starting", "starting", "starting"]
    with refused("InvalidResourceStateFault", "not running"):
        dms.stop_replication_task(ReplicationTaskArn=chain.task)
    orders = stand_in.orders()
    assert (orders["run"], orders["start_type"]) == (1, "start-replication")
    assert stand_in.report(status="running")["status"] == "running"
    assert task_states(chain.task, 2) == ["running", "running"]
    dms.stop_replication_task(ReplicationTaskArn=chain.task)
    assert task_states(chain.task, 2) == ["stopping", "stopping"]
    assert stand_in.report(status="running")["status"] == "stopping"
    assert stand_in.report(status="stopped")["status"] == "stopped"
    assert task_shape(chain.task)["StopReason"] == "Stop Reason NORMAL"
    assert stand_in.report(status="running")["status"] == "stopped"

    dms.start_replication_task(
        ReplicationTaskArn=chain.task,
        StartReplicationTaskType="resume-processing",
        CdcStartPosition="0/16B3748",
    )
    orders = stand_in.orders()
    assert (orders["run"], orders["start_type"]) == (2, "resume-processing")
    assert orders["start_position"] == "0/16B3748"
    assert ask("task", {"run": 1, "status": "failed"}, arn=chain.task)["status"] == "starting"


def test_stand_in_that_attaches_late_takes_over_a_starting_task(aws: EmulatedAws) -> None:
    chain = Chain()
    chain.start()
    stand_in = StandIn(chain)
    assert stand_in.orders()["status"] == "starting"
    assert task_states(chain.task, 3) == ["starting", "starting", "starting"]
    stand_in.report(status="running")
    assert task_states(chain.task, 1) == ["running"]


def test_task_without_a_stand_in_moves_by_describes_though_another_has_one(aws: EmulatedAws) -> None:
    chain = Chain()
    other = chain.new_task(ReplicationTaskIdentifier="other")
    task_states(other, 2)
    StandIn(chain).orders()
    client("dms").start_replication_task(
        ReplicationTaskArn=other, StartReplicationTaskType="start-replication"
    )
    assert task_states(other, 2) == ["starting", "running"]


@pytest.mark.parametrize("state", ["starting", "running", "stopping"])
def test_reported_failure_is_the_tasks(aws: EmulatedAws, state: str) -> None:
    chain = Chain()
    stand_in = StandIn(chain)
    stand_in.orders()
    chain.start()
    if state != "starting":
        stand_in.report(status="running")
    if state == "stopping":
        client("dms").stop_replication_task(ReplicationTaskArn=chain.task)
    stand_in.report(status="failed", message="replication slot does not exist")
    shape = task_shape(chain.task)
    assert (shape["Status"], shape["LastFailureMessage"]) == ("failed", "replication slot does not exist")
    assert shape["StopReason"] == "Stop Reason FATAL_ERROR Error Level FATAL"
    chain.start("resume-processing")
    assert stand_in.orders()["run"] == 2


def test_table_statistics_are_those_reported(aws: EmulatedAws) -> None:
    aws.tables = [("public", "of-a-test")]
    chain = Chain()
    stand_in = StandIn(chain)
    stand_in.orders()
    chain.start()
    assert stand_in.rows() == []
    tables = [
        table("orders", Inserts=5, FullLoadRows=7),
        table("items", "Full load"),
        table("a", "Table error"),
    ]
    stand_in.report(status="running", tables=tables)
    assert stand_in.rows() == [
        ("orders", "Table completed", 5),
        ("items", "Full load", 0),
        ("a", "Table error", 0),
    ]
    stats = task_shape(chain.task)["ReplicationTaskStats"]
    assert (stats["TablesLoaded"], stats["TablesLoading"], stats["TablesErrored"]) == (1, 1, 1)
    aws.suspended = {("public", "orders")}
    assert stand_in.rows()[0] == ("orders", "Table error", 5)
    with not_taken(400, "A row of table statistics has ['Rows', 'SchemaName', 'TableName', 'TableState']"):
        stand_in.report(tables=[table("orders", Rows=5)])


def test_reload_is_an_order_until_it_is_reported_done(aws: EmulatedAws) -> None:
    chain = Chain()
    stand_in = StandIn(chain)
    stand_in.orders()
    chain.start()
    both = [table("orders"), table("items")]
    stand_in.report(status="running", tables=both)

    def reload(*names: str) -> None:
        tables = [{"SchemaName": "public", "TableName": name} for name in names]
        client("dms").reload_tables(ReplicationTaskArn=chain.task, TablesToReload=tables)

    with refused("ResourceNotFoundFault", "Table public.absent"):
        reload("absent")
    reload("items")
    reload("orders", "items")
    assert stand_in.orders()["reloads"] == [
        {"number": 1, "schema": "public", "table": "items"},
        {"number": 2, "schema": "public", "table": "orders"},
        {"number": 3, "schema": "public", "table": "items"},
    ]
    for _ in range(3):
        assert [state for _, state, _ in stand_in.rows()] == ["Table is being reloaded"] * 2
    answer = stand_in.report(status="running", tables=both, reloaded=2)
    assert answer["reloads"] == [{"number": 3, "schema": "public", "table": "items"}]
    assert [state for _, state, _ in stand_in.rows()] == ["Table completed", "Table is being reloaded"]
    client("dms").stop_replication_task(ReplicationTaskArn=chain.task)
    stand_in.report(status="stopped")
    chain.start("resume-processing")
    assert len(stand_in.orders()["reloads"]) == 1
    stand_in.report(status="running")
    client("dms").stop_replication_task(ReplicationTaskArn=chain.task)
    stand_in.report(status="stopped")
    chain.start("reload-target")
    assert stand_in.orders()["reloads"] == []
    assert [state for _, state, _ in stand_in.rows()] == ["Before load"] * 2
    stand_in.report(status="running", tables=both)
    reload("items")
    assert stand_in.orders()["reloads"] == [{"number": 4, "schema": "public", "table": "items"}]


def test_mapping_shows_what_its_poller_reports(aws: EmulatedAws) -> None:
    functions = with_alias()
    uuid = map_stream()["UUID"]
    shown = partial(functions.get_event_source_mapping, UUID=uuid)
    assert shown()["LastProcessingResult"] == "No records processed"
    ask("mapping", {"LastProcessingResult": "PROBLEM: Function call failed"}, uuid=uuid)
    assert shown()["LastProcessingResult"] == "PROBLEM: Function call failed"
    (listed,) = functions.list_event_source_mappings()["EventSourceMappings"]
    assert listed["LastProcessingResult"] == "PROBLEM: Function call failed"


def test_private_channel_refuses_what_it_does_not_know(aws: EmulatedAws) -> None:
    chain = Chain()
    with not_taken(404, "There is no replication task 'x'."):
        ask("task", arn="x")
    with not_taken(404, "There is no event source mapping 'x'."):
        ask("mapping", {"LastProcessingResult": "OK"}, uuid="x")
    with not_taken(404, "'GET wish' is none of the private channel"):
        ask("wish")
    with not_taken(404, "There is no code of a function at 'a/b/c/1.zip'."):
        ask("code/a/b/c/1.zip")
    with not_taken(400, "The body of POST task is not a JSON object"):
        ask("task", [1], arn=chain.task)
    with not_taken(400, "A task is not reported 'tired'"):
        ask("task", {"run": 0, "status": "tired"}, arn=chain.task)
    for wrong in ({"get_records": {}}, {"put_records": 7}, {"put_records": {"every": 0}}):
        with not_taken(400, 'Faults are {} or {"put_records": {"every": 7, "code"'):
            ask("faults", wrong)


def test_figures_of_stand_ins_are_metrics(aws: EmulatedAws) -> None:
    with_alias()
    uuid = map_stream()["UUID"]
    figures = {"Invocations": 3, "Errors": 0, "IteratorAge": 120.0, "Duration": [80.0, 90.0, 130.0]}
    ask("mapping", {"metrics": figures | {"Throttles": None}}, uuid=uuid)
    with not_taken(400, "The metric 'Errors' is a number or several, not 'none'"):
        ask("mapping", {"metrics": {"Errors": "none"}}, uuid=uuid)
    for dimensions in ({"FunctionName": "cdc"}, {"FunctionName": "cdc", "Resource": "cdc:live"}):
        of_function = partial(metric, "AWS/Lambda", **dimensions)
        assert values_of_now(
            of_function("Invocations", "Sum"),
            of_function("Errors", "Sum"),
            of_function("Throttles", "Sum"),
            of_function("IteratorAge", "Maximum"),
            of_function("Duration", "Sum"),
            of_function("Duration", "Maximum"),
        ) == [3, 0, 120, 300, 130]


def test_metrics_of_a_stream_count_what_it_took(aws: EmulatedAws) -> None:
    stream()
    stream("others")
    aws.put_failures = lambda records: {0}
    for _ in range(3):
        put_three()
    client("kinesis").put_record(StreamName="others", Data=b"four", PartitionKey="k")
    ask_of = partial(metric, "AWS/Kinesis", stat="Sum")
    totals = [
        sum(values_of_now(ask_of(name, StreamName=name_of_stream)))
        for name_of_stream in ("orders", "others")
        for name in ("IncomingRecords", "IncomingBytes")
    ]
    assert totals == [6, 12, 1, 5]


def test_latencies_of_a_task_are_metrics_of_its_resource_id(aws: EmulatedAws) -> None:
    chain = Chain()
    stand_in = StandIn(chain)
    stand_in.report(metrics={"CDCLatencySource": 1, "CDCLatencyTarget": 2.5})
    ask_of = partial(
        metric,
        "AWS/DMS",
        stat="Maximum",
        ReplicationInstanceIdentifier="cdc",
        ReplicationTaskIdentifier=chain.task.rpartition(":")[2],
    )
    assert values_of_now(ask_of("CDCLatencySource"), ask_of("CDCLatencyTarget")) == [1, 2.5]


def values_of_now(*stats: dict[str, Any]) -> list[float]:
    """The one value of each, of this minute or the one that has just ended."""
    queries = [{"Id": f"m{number}", "MetricStat": stat} for number, stat in enumerate(stats)]
    end = datetime.now(UTC) + timedelta(minutes=1)
    answer = client("cloudwatch").get_metric_data(
        MetricDataQueries=queries, StartTime=end - timedelta(minutes=3), EndTime=end
    )
    return [value for result in answer["MetricDataResults"] for value in result["Values"]]


def put_three() -> Any:
    records = [{"Data": b"%d" % number, "PartitionKey": str(number)} for number in range(3)]
    return client("kinesis").put_records(StreamName="orders", Records=records)


def landed() -> list[bytes]:
    return [record["Data"] for record in read("shardId-000000000000")["Records"]]


def test_records_fail_one_by_one_as_a_test_says(aws: EmulatedAws) -> None:
    stream()
    aws.put_failures = lambda records: {0: "InternalFailure", 1: "ProvisionedThroughputExceededException"}
    answer = put_three()
    assert answer["FailedRecordCount"] == 2
    assert answer["Records"][:2] == [
        {"ErrorCode": "InternalFailure", "ErrorMessage": "Internal service failure."},
        {
            "ErrorCode": "ProvisionedThroughputExceededException",
            "ErrorMessage": "Rate exceeded for shard shardId-000000000000 in stream orders under account"
            f" {ACCOUNT}.",
        },
    ]
    assert answer["Records"][2]["ShardId"] == "shardId-000000000000"
    assert landed() == [b"2"]
    aws.put_failures = lambda records: {
        place for place, record in enumerate(records) if record["PartitionKey"] != "1"
    }
    assert [record.get("ErrorCode", "") for record in put_three()["Records"]] == [
        "ProvisionedThroughputExceededException",
        "",
        "ProvisionedThroughputExceededException",
    ]
    assert landed() == [b"2", b"1"]


def test_whole_put_is_refused_as_a_test_says(aws: EmulatedAws) -> None:
    stream()
    aws.put_failures = lambda records: "ProvisionedThroughputExceededException"
    with refused("ProvisionedThroughputExceededException", "stream orders under account"):
        put_three()
    aws.put_failures = None
    assert put_three()["FailedRecordCount"] == 0
    assert len(landed()) == 3


def test_every_nth_record_fails_over_calls(aws: EmulatedAws) -> None:
    stream()
    ask("faults", {"put_records": {"every": 4, "code": "InternalFailure"}})
    codes = [record.get("ErrorCode", "") for _ in range(3) for record in put_three()["Records"]]
    assert codes == ["", "", "", "InternalFailure", "", "", "", "InternalFailure", ""]
    ask("faults", {})
    assert put_three()["FailedRecordCount"] == 0
    ask("faults", {"put_records": {"every": 1}})
    assert put_three()["FailedRecordCount"] == 3
    aws.reset()
    stream()
    assert put_three()["FailedRecordCount"] == 0


# Services that are served elsewhere


@pytest.fixture
def without_data(aws: EmulatedAws) -> Iterator[EmulatedAws]:
    """Kinesis and S3 are served elsewhere."""
    aws.elsewhere = frozenset({"kinesis", "s3"})
    aws.reset()
    yield aws
    aws.elsewhere = frozenset()


def test_services_that_are_elsewhere_are_not_there(without_data: EmulatedAws) -> None:
    hint = "kinesis is served elsewhere, set AWS_ENDPOINT_URL_KINESIS"
    with refused("NotImplemented", hint):
        client("kinesis").create_stream(StreamName="orders", ShardCount=1)
    with refused("NotImplemented", "s3 is served elsewhere, set AWS_ENDPOINT_URL_S3"):
        client("s3").list_buckets()


def test_streams_and_buckets_elsewhere_are_taken_to_exist(without_data: EmulatedAws) -> None:
    vpc_role()
    subnet_group()
    reader = role("to-stream", "dms.amazonaws.com", "kinesis:*")
    machine = instance()
    instance_states(machine, 2)
    endpoint, blind = target(reader), target(role("blind", "dms.amazonaws.com"), "blind")
    for arn, states in ((endpoint, ["testing", "successful"]), (blind, ["testing", "failed"])):
        client("dms").test_connection(ReplicationInstanceArn=machine, EndpointArn=arn)
        filters = by_arn("endpoint", arn)
        found = [client("dms").describe_connections(Filters=filters)["Connections"][0] for _ in range(2)]
        assert [each["Status"] for each in found] == states
    active_function()
    failed = {"OnFailure": {"Destination": "arn:aws:s3:::failed"}}
    uuid = map_stream(FunctionName="cdc", DestinationConfig=failed)["UUID"]
    assert mapping_states(uuid, 2) == ["Creating", "Enabled"]
    with refused("ResourceConflictException", "already exists"):
        map_stream(FunctionName="cdc")


def test_code_of_a_bucket_elsewhere_is_refused_by_name(without_data: EmulatedAws) -> None:
    code = {"S3Bucket": "code", "S3Key": "cdc.zip"}
    with refused("NotImplemented", "code from S3 while AWS_ENDPOINT_URL_S3 serves it"):
        function(Role=role("reads", "lambda.amazonaws.com"), Code=code)
    functions = active_function()
    with refused("NotImplemented", "use ZipFile"):
        functions.update_function_code(FunctionName="cdc", **code)


# As a server


@pytest.fixture
def echo() -> Iterator[tuple[Any, http.client.HTTPConnection]]:
    """The HTTP server over an application that gives back what it was sent, and a connection to it."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X-Method", environ["REQUEST_METHOD"])])
        return [environ["wsgi.input"].read()]

    server = model.server_class()("127.0.0.1", 0, application, model.handler_class())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.connect()
    yield server, connection
    connection.close()
    server.shutdown()
    thread.join()
    server.end_connections()


def test_connection_serves_one_request_after_the_other(
    echo: tuple[Any, http.client.HTTPConnection],
) -> None:
    _, connection = echo
    opened = connection.sock
    for method, body, headers, expected in (
        ("PUT", b"x" * 100_000, {}, b"x" * 100_000),
        ("PUT", iter([b"in ", b"chunks"]), {"Transfer-Encoding": "chunked"}, b"in chunks"),
        ("GET", None, {}, b""),
        ("HEAD", b"not given back", {}, b""),
        ("POST", b"last", {}, b"last"),
    ):
        connection.request(method, "/", body, headers, encode_chunked="Transfer-Encoding" in headers)
        answer = connection.getresponse()
        assert (answer.headers["X-Method"], answer.read()) == (method, expected)
    assert connection.sock is opened is not None


def test_kept_connections_end_with_the_server(echo: tuple[Any, http.client.HTTPConnection]) -> None:
    server, connection = echo
    connection.request("POST", "/", b"1")
    assert connection.getresponse().read() == b"1"
    server.shutdown()
    server.end_connections()
    assert server.connections == {}
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        connection.request("POST", "/", b"2")
        connection.getresponse()


# For the AWS CLI


AWS_CLI = Path(sys.executable).with_name("aws")


def run_cli(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    return subprocess.run(
        [AWS_CLI, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_aws_cli_is_served(aws: EmulatedAws) -> None:
    stream()
    table = run_cli(aws.url, "dms", "describe-orderable-replication-instances", "--max-items", "1")
    assert json.loads(table.stdout)["OrderableReplicationInstances"][0]["EngineVersion"] == "3.5.2"
    missing = run_cli(aws.url, "dms", "describe-replication-configs")
    assert missing.returncode == 255 or missing.returncode == 254
    assert "(NotImplemented)" in missing.stderr and "dms.DescribeReplicationConfigs" in missing.stderr
    summary = run_cli(aws.url, "kinesis", "describe-stream-summary", "--stream-name", "orders")
    assert json.loads(summary.stdout)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"


def test_server_prints_what_to_set_serves_and_stops_on_interrupt(clean_environment: None) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "local_run.aws", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        url = line.split()[4].rstrip(",")
        assert line == f"# emulated AWS at {url}, until Ctrl-C; in another terminal:\n"
        assert server.stdout.readline() == (
            f"export AWS_ENDPOINT_URL={url} AWS_ACCESS_KEY_ID={ACCOUNT}"
            " AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=eu-west-1\n"
        )
        assert url.startswith("http://127.0.0.1:")
        found = run_cli(url, "ec2", "describe-subnets", "--filters", "Name=default-for-az,Values=true")
        by_zone = {one["AvailabilityZone"]: one["SubnetId"] for one in json.loads(found.stdout)["Subnets"]}
        in_order = ",".join(by_zone[f"{REGION}{zone}"] for zone in "abc")
        assert server.stdout.readline() == f"export SUBNET_IDS={in_order}\n"
        identity = run_cli(url, "sts", "get-caller-identity")
        assert json.loads(identity.stdout)["Account"] == ACCOUNT
        server.send_signal(signal.SIGINT)
        rest, errors = server.communicate(timeout=20)
    finally:
        server.kill()
    assert (server.returncode, rest, errors) == (0, "", "")


def test_server_leaves_services_to_others(clean_environment: None) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "local_run.aws", "--port", "0", "--elsewhere", "s3,kinesis"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[4].rstrip(",")
        answer = run_cli(url, "s3api", "list-buckets")
        assert "(NotImplemented)" in answer.stderr and "AWS_ENDPOINT_URL_S3" in answer.stderr
        assert run_cli(url, "sts", "get-caller-identity").returncode == 0
        server.terminate()
        server.communicate(timeout=20)
    finally:
        server.kill()
    assert server.returncode == 0


def test_server_ends_with_its_parent(clean_environment: None) -> None:
    """The parent is a shell, which has put its own process id and the server's into the first two lines."""
    command = f"echo $$; {sys.executable} -m local_run.aws --port 0 --parent $$ & echo $!; read -r _"
    parent = subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    server = psutil.Process([int(parent.stdout.readline()) for _ in range(2)][1])
    try:
        while "SUBNET_IDS" not in (line := parent.stdout.readline()):
            assert line
        parent.kill()
        gone, _ = psutil.wait_procs([server], timeout=20)
        assert gone == [server]
    finally:
        with suppress(psutil.NoSuchProcess):
            server.kill()
        parent.communicate()


def test_only_streams_and_buckets_can_be_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        model.main(["--elsewhere", "kinesis,dms"])
    assert "'dms' cannot be served elsewhere: kinesis, s3 can" in capsys.readouterr().err


def test_server_says_when_its_port_is_taken(aws: EmulatedAws) -> None:
    port = aws.url.rsplit(":", 1)[1]
    second = subprocess.run(
        [sys.executable, "-m", "local_run.aws", "--port", port],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert f"error: cannot serve on 127.0.0.1:{port}" in second.stderr


def test_rules_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert model.main(["--rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(model.RULES)
    assert any(line.startswith("documented  dms.ReloadTables ") for line in lines)
