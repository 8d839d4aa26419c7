"""The chain, declared: every object from the bucket to the task's start, in the order in which it is made.

    PostgreSQL (RDS) -> DMS: source endpoint -> task -> target endpoint -> stream
                     -> event source mapping -> function -> bucket (batches given up: failed bucket)

declare() is pure: settings and surroundings in, resources out. Keys of a spec are AWS's own parameter names;
a Ref stands for what AWS makes up (an ARN with a random id, a host). Names are {PIPELINE_NAME}-{part}.
Settings of DMS: https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Source.PostgreSQL.html and
CHAP_Target.Kinesis.html there; task documents are made in replication_task.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provision.aws import TAG, Account
from provision.engine import Ref, Resource
from provision.kinds import (
    cloudwatch,
    dms,
    ec2,
    events,
    iam,
    kinesis,
    lambda_,
    logs,
    rds,
    s3,
    secretsmanager,
    sns,
)
from provision.replication_task import TableMappings, mapped_tables, table_mappings, task_settings
from provision.settings import Settings
from provision.surroundings import RECORD_AGE_SECONDS, Surroundings

RETENTION_HOURS = 168  # costs the same a shard-hour from the second day to the seventh
LOG_DAYS = 30
OLD_VERSION_DAYS = 30
RUNTIME, ARCHITECTURE = "python3.13", "arm64"
TASK_RUN = "task run"
ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True)
class Declaration:
    """What the parts of the chain are made of.

    everything: also what these settings do not ask for, so that destroy finds what earlier ones did.
    """

    settings: Settings
    around: Surroundings
    account: Account
    code: Callable[[], bytes]  # the function's zip, when it has to be made
    everything: bool = False

    def name(self, part: str) -> str:
        return self.account.name(part)

    @property
    def makes_database(self) -> bool:
        return self.settings.create_rds or self.everything

    @property
    def bucket_arn(self) -> str:
        return f"arn:{self.account.partition}:s3:::{self.settings.s3_bucket}"

    @property
    def failed_bucket(self) -> str:
        return f"{self.account.pipeline}-failed-{self.account.account_id}"

    @property
    def failed_bucket_arn(self) -> str:
        return f"arn:{self.account.partition}:s3:::{self.failed_bucket}"

    @property
    def stream_arn(self) -> str:
        return self.account.arn("kinesis", f"stream/{self.name('stream')}")

    @property
    def host(self) -> Any:
        return Ref("database", "host") if self.settings.create_rds else self.settings.pghost

    @property
    def database_instance(self) -> str | None:
        """The RDS instance, for metrics; None: PGHOST is none."""
        if self.settings.create_rds:
            return self.name("database")
        if self.around.source:
            return str(self.around.source.attributes["name"])
        return self.name("database") if self.everything else None


def declare(
    settings: Settings,
    around: Surroundings,
    account: Account,
    code: Callable[[], bytes],
    everything: bool = False,
) -> list[Resource]:
    """The chain in the order in which it is made."""
    given = Declaration(settings, around, account, code, everything)
    return [
        *buckets(given),
        *stream(given),
        *network(given),
        *database(given),
        *function(given),
        *replication(given),
        *watch(given),
        *start(given),
    ]


# --------------------------------------------------------------------------------------------------------
# Buckets and stream
# --------------------------------------------------------------------------------------------------------


def buckets(given: Declaration) -> Iterator[Resource]:
    account = given.account
    bucket = closed_bucket(given.settings.s3_bucket, given.bucket_arn)
    yield Resource("bucket", s3.Bucket(account), bucket)
    failed = closed_bucket(given.failed_bucket, given.failed_bucket_arn)
    failed["Notification"] = {"EventBridgeConfiguration": {}}
    failed["Policy"]["Statement"].append(operators_only(given.failed_bucket_arn, account))
    yield Resource("failed bucket", s3.Bucket(account), failed)


def closed_bucket(name: str, arn: str) -> dict[str, Any]:
    blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return {
        "Bucket": name,
        "PublicAccessBlock": dict.fromkeys(blocks, True),
        "Ownership": "BucketOwnerEnforced",
        "Versioning": "Enabled",
        "Encryption": {"SSEAlgorithm": "AES256"},
        "Lifecycle": [
            lifecycle("old-versions", NoncurrentVersionExpiration={"NoncurrentDays": OLD_VERSION_DAYS}),
            lifecycle("aborted-uploads", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7}),
        ],
        "Policy": s3.tls_only(arn),
    }


def lifecycle(name: str, **action: Any) -> dict[str, Any]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": ""}, **action}


def operators_only(bucket_arn: str, account: Account) -> dict[str, Any]:
    """Whole batches of raw rows are for those who repair: roles and users with the tag of the pipeline."""
    return {
        "Sid": "OnlyForOperators",
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:GetObjectVersion"],
        "Resource": f"{bucket_arn}/*",
        "Condition": {"StringNotEquals": {f"aws:PrincipalTag/{TAG}": account.pipeline}},
    }


def stream(given: Declaration) -> Iterator[Resource]:
    shards = given.settings.stream_shards
    spec: dict[str, Any] = {
        "StreamName": given.name("stream"),
        "StreamMode": "ON_DEMAND" if shards is None else "PROVISIONED",
        "RetentionPeriodHours": RETENTION_HOURS,
        "KeyId": "alias/aws/kinesis",
    }
    if shards is not None:
        spec["ShardCount"] = shards
    yield Resource("stream", kinesis.Stream(given.account), spec)


# --------------------------------------------------------------------------------------------------------
# Network and database
# --------------------------------------------------------------------------------------------------------


def network(given: Declaration) -> Iterator[Resource]:
    """The security group of DMS, and ways to AWS's services where its subnets have none."""
    account, around, port = given.account, given.around, given.settings.pgport
    # A database outside RDS may be anywhere: then its own firewall is what keeps DMS to it.
    reach = around.vpc_cidrs if given.makes_database or around.source else (ANYWHERE,)
    group = {
        "GroupName": given.name("replication"),
        "VpcId": around.vpc_id,
        "Description": f"DMS of pipeline {account.pipeline}",
        "IpPermissions": [],
        "IpPermissionsEgress": [open_to(port, reach), open_to(443, (ANYWHERE,))],
    }
    yield Resource("replication group", ec2.SecurityGroup(account), group)
    services = around.ways.endpoints_to_declare(given.settings.vpc_endpoints) if around.ways else []
    if any(ec2.SERVICES[service] == "Interface" for service in services) or given.everything:
        yield Resource("endpoint group", ec2.SecurityGroup(account), endpoint_group(given))
    for service in services:
        spec = vpc_endpoint(given, service)
        yield Resource(f"endpoint {service}", ec2.VpcEndpoint(account), spec)


def open_to(port: int, cidrs: tuple[str, ...]) -> dict[str, Any]:
    ranges = [{"CidrIp": cidr} for cidr in cidrs]
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": ranges}


def endpoint_group(given: Declaration) -> dict[str, Any]:
    """Open to all of the VPC: with private DNS, everything in it reaches the service through our endpoint."""
    return {
        "GroupName": given.name("endpoints"),
        "VpcId": given.around.vpc_id,
        "Description": f"VPC endpoints of pipeline {given.account.pipeline}",
        "IpPermissions": [open_to(443, given.around.vpc_cidrs)],
        "IpPermissionsEgress": [],
    }


def vpc_endpoint(given: Declaration, service: str) -> dict[str, Any]:
    """Without a policy of its own: others in the VPC come to use it too."""
    ways = given.around.ways
    assert ways is not None  # a service is only declared where the ways are known
    spec = {
        "ServiceName": ec2.service_name(given.account, service),
        "VpcId": ways.vpc_id,
        "VpcEndpointType": ec2.SERVICES[service],
    }
    if ec2.SERVICES[service] == "Gateway":
        return spec | {"RouteTableIds": list(ways.route_table_ids)}
    return spec | {
        "SubnetIds": list(ways.endpoint_subnet_ids),
        "SecurityGroupIds": [Ref("endpoint group", "id")],
        "PrivateDnsEnabled": True,
    }


def database(given: Declaration) -> Iterator[Resource]:
    """The RDS instance that is made here; or the one that is there, which only gets a rule."""
    account, settings = given.account, given.settings
    if given.makes_database:
        yield from new_database(given)
    if given.around.source or given.everything:
        yield Resource("database rule", ec2.IngressRule(account), database_rule(given))
    secret = {
        "Name": given.name("source"),
        "Description": f"The user that DMS reads {settings.pgdatabase} as",
        "SecretString": {
            "username": settings.pguser,
            "password": settings.pgpassword,
            "host": given.host,
            "port": settings.pgport,
        },
        "IsCurrent": True,
    }
    yield Resource("secret", secretsmanager.Secret(account), secret)


def database_rule(given: Declaration) -> dict[str, Any]:
    source = given.around.source
    groups = source.attributes["security_group_ids"] if source else [""]  # the one that is there has a tag
    return {
        "GroupId": groups[0],
        "ReferencedGroupId": Ref("replication group", "id"),
        "IpProtocol": "tcp",
        "FromPort": given.settings.pgport,
        "ToPort": given.settings.pgport,
        "Description": f"DMS of pipeline {given.account.pipeline}",
    }


def new_database(given: Declaration) -> Iterator[Resource]:
    account, name, port = given.account, given.name("database"), given.settings.pgport
    from_dms = [{"GroupId": Ref("replication group", "id")}]
    group = {
        "GroupName": name,
        "VpcId": given.around.vpc_id,
        "Description": f"Database of pipeline {account.pipeline}",
        "IpPermissions": [
            {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "UserIdGroupPairs": from_dms}
        ],
        "IpPermissionsEgress": [],
    }
    yield Resource("database group", ec2.SecurityGroup(account), group)
    subnets = {
        "DBSubnetGroupName": name,
        "DBSubnetGroupDescription": f"Database of pipeline {account.pipeline}",
        "SubnetIds": list(given.around.subnet_ids),
    }
    yield Resource("database subnets", rds.SubnetGroup(account), subnets)
    family = given.around.rds_version[1]
    parameters = {
        "DBParameterGroupName": given.name(family),
        "DBParameterGroupFamily": family,
        "Description": f"Database of pipeline {account.pipeline}",
        "Parameters": {"rds.logical_replication": "1", "rds.force_ssl": "1"},
    }
    yield Resource("database parameters", rds.ParameterGroup(account), parameters)
    yield Resource("database", rds.Instance(account), database_instance(given))


def database_instance(given: Declaration) -> dict[str, Any]:
    settings = given.settings
    return {
        "DBInstanceIdentifier": given.name("database"),
        "Engine": "postgres",
        "EngineVersion": given.around.rds_version[0],
        "DBInstanceClass": settings.rds_instance_class,
        "AllocatedStorage": 20,
        "MaxAllocatedStorage": 1000,  # it grows by itself
        "StorageType": "gp3",
        "StorageEncrypted": True,
        "DBName": settings.pgdatabase,
        "MasterUsername": settings.pguser,
        "MasterUserPassword": settings.pgpassword,
        "Port": settings.pgport,
        "DBSubnetGroupName": Ref("database subnets", "name"),
        "DBParameterGroupName": Ref("database parameters", "name"),
        "VpcSecurityGroupIds": [Ref("database group", "id")],
        "PubliclyAccessible": False,
        "BackupRetentionPeriod": 7,
        "DeletionProtection": True,
        "AutoMinorVersionUpgrade": True,
        "CopyTagsToSnapshot": True,
        "ParameterApplyStatus": "in-sync",
    }


# --------------------------------------------------------------------------------------------------------
# Function
# --------------------------------------------------------------------------------------------------------


def function(given: Declaration) -> Iterator[Resource]:
    account, name = given.account, given.name("lambda")
    group = {"logGroupName": f"/aws/lambda/{name}", "retentionInDays": LOG_DAYS}
    yield Resource("function log", logs.LogGroup(account), group)
    yield Resource("function role", iam.Role(account), function_role(given))
    spec = {
        "FunctionName": name,
        "Description": f"Lands the changes of pipeline {account.pipeline} in {given.settings.s3_bucket}",
        "Runtime": RUNTIME,
        "Architectures": [ARCHITECTURE],
        "Handler": "lambda_function.lambda_handler",
        "Role": Ref("function role", "arn"),
        "MemorySize": 512,
        "Timeout": 120,
        "Environment": lambda_.environment(given.settings.function_environment),
    }
    yield Resource("function", lambda_.Function(account, given.code), spec)
    alias = {"Name": lambda_.ALIAS, "FunctionName": name, "Configuration": lambda_.configuration(spec)}
    yield Resource("alias", lambda_.Alias(account), alias)
    yield Resource("mapping", lambda_.EventSourceMapping(account), mapping(given))


def mapping(given: Declaration) -> dict[str, Any]:
    """Scaling is by shards: with a factor above 1 an object would no longer be a run of one shard."""
    begin: dict[str, Any] = {"StartingPosition": "TRIM_HORIZON"}
    if given.around.starts_at is not None:
        begin = {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": given.around.starts_at}
    return {
        "FunctionName": f"{given.name('lambda')}:{lambda_.ALIAS}",
        "EventSourceArn": Ref("stream", "arn"),
        "Enabled": True,
        "BatchSize": 10_000,
        "MaximumBatchingWindowInSeconds": given.settings.batch_window_seconds,
        "ParallelizationFactor": 1,
        "BisectBatchOnFunctionError": True,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "MaximumRecordAgeInSeconds": RECORD_AGE_SECONDS,
        "MaximumRetryAttempts": -1,  # until that age
        "DestinationConfig": {"OnFailure": {"Destination": given.failed_bucket_arn}},
        **begin,
    }


def function_role(given: Declaration) -> dict[str, Any]:
    folders = ("changes", "control", "quarantine")
    objects = [f"{given.bucket_arn}/{given.settings.s3_prefix}{folder}/*" for folder in folders]
    log_group = given.account.arn("logs", f"log-group:/aws/lambda/{given.name('lambda')}")
    reads = ("DescribeStream", "DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards")
    policy = statements(
        allow(["s3:GetObject", "s3:PutObject"], objects),
        allow("s3:PutObject", f"{given.failed_bucket_arn}/*"),
        allow("s3:ListBucket", given.failed_bucket_arn),  # Lambda looks whether it can deliver there
        allow([f"kinesis:{read}" for read in reads], given.stream_arn),
        allow("kinesis:ListStreams", "*"),  # AWS has no ARN for it, and asks for it when a mapping is made
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], f"{log_group}:*"),
    )
    same_account = {"StringEquals": {"aws:SourceAccount": given.account.account_id}}
    return role(given, "function", trust("lambda.amazonaws.com", same_account), policy)


# --------------------------------------------------------------------------------------------------------
# Roles
# --------------------------------------------------------------------------------------------------------


def role(
    given: Declaration, part: str, trusted: Mapping[str, Any], policy: Mapping[str, Any]
) -> dict[str, Any]:
    name = given.name(part)
    return {
        "RoleName": name,
        "Path": "/",
        "Description": f"Pipeline {given.account.pipeline}",
        "AssumeRolePolicyDocument": trusted,
        "Policies": {name: policy},
        "ManagedPolicies": [],
    }


def statements(*those: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(those)}


def allow(actions: str | list[str], resources: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def trust(service: str, condition: Mapping[str, Any]) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sts:AssumeRole",
        "Condition": condition,
    }
    return statements(statement)


def of_our_dms(given: Declaration, region: str) -> dict[str, Any]:
    """The condition that keeps DMS from using a role for somebody else (the confused deputy).

    Source: https://docs.aws.amazon.com/dms/latest/userguide/cross-service-confused-deputy-prevention.html
    """
    account = given.account
    return {
        "StringEquals": {"aws:SourceAccount": account.account_id},
        "ArnLike": {"aws:SourceArn": f"arn:{account.partition}:dms:{region}:{account.account_id}:*"},
    }


def account_wide_role(given: Declaration, name: str, policy: str) -> Resource:
    """One of the two roles that DMS looks for under a name of its own, in all regions of the account."""
    partition = given.account.partition
    principal = "dms.amazonaws.com.cn" if partition == "aws-cn" else "dms.amazonaws.com"
    spec = {
        "RoleName": name,
        "AssumeRolePolicyDocument": trust(principal, of_our_dms(given, "*")),
        "ManagedPolicies": [f"arn:{partition}:iam::aws:policy/service-role/{policy}"],
    }
    return Resource(name, iam.Role(given.account, shared=True), spec)


# --------------------------------------------------------------------------------------------------------
# DMS
# --------------------------------------------------------------------------------------------------------


def replication(given: Declaration) -> Iterator[Resource]:
    account = given.account
    yield account_wide_role(given, "dms-vpc-role", "AmazonDMSVPCManagementRole")
    yield account_wide_role(given, "dms-cloudwatch-logs-role", "AmazonDMSCloudWatchLogsRole")
    yield Resource("secret role", iam.Role(account), secret_role(given))
    yield Resource("stream role", iam.Role(account), stream_role(given))
    subnets = {
        "ReplicationSubnetGroupIdentifier": given.name("replication"),
        "ReplicationSubnetGroupDescription": f"Pipeline {account.pipeline}",
        "SubnetIds": list(given.around.subnet_ids),
    }
    yield Resource("replication subnets", dms.SubnetGroup(account), subnets)
    # DMS makes the group by itself, kept for ever: it is named after the replication instance.
    group = {"logGroupName": f"dms-tasks-{given.name('replication')}", "retentionInDays": LOG_DAYS}
    yield Resource("task log", logs.LogGroup(account), group)
    instance = replication_instance(given)
    yield Resource("replication instance", dms.ReplicationInstance(account), instance, pauses=TASK_RUN)
    yield Resource("source endpoint", dms.Endpoint(account), source_endpoint(given), pauses=TASK_RUN)
    yield Resource("source connection", dms.Connection(account), connection(given, "source"))
    yield Resource("target endpoint", dms.Endpoint(account), target_endpoint(given), pauses=TASK_RUN)
    yield Resource("target connection", dms.Connection(account), connection(given, "target"))
    yield Resource("task", dms.Task(account), task(given), pauses=TASK_RUN)


def secret_role(given: Declaration) -> dict[str, Any]:
    account = given.account
    policy = statements(
        allow(["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], Ref("secret", "arn"))
    )
    # DMS reads secrets under the name of its region, and takes no role that trusts it without.
    trusted = trust(f"dms.{account.region}.amazonaws.com", of_our_dms(given, account.region))
    return role(given, "source", trusted, policy)


def stream_role(given: Declaration) -> dict[str, Any]:
    actions = [f"kinesis:{action}" for action in ("DescribeStream", "PutRecord", "PutRecords")]
    trusted = trust("dms.amazonaws.com", of_our_dms(given, given.account.region))
    return role(given, "target", trusted, statements(allow(actions, given.stream_arn)))


def replication_instance(given: Declaration) -> dict[str, Any]:
    return {
        "ReplicationInstanceIdentifier": given.name("replication"),
        "ReplicationInstanceClass": given.settings.dms_instance_class,
        "AllocatedStorage": 50,  # GB, for logs and for changes that do not fit memory
        "ReplicationSubnetGroupIdentifier": Ref("replication subnets", "name"),
        "VpcSecurityGroupIds": [Ref("replication group", "id")],
        "MultiAZ": False,
        "PubliclyAccessible": False,  # AWS's default is true
        "AutoMinorVersionUpgrade": True,
    }


def source_endpoint(given: Declaration) -> dict[str, Any]:
    settings = given.settings
    postgresql = {
        "SecretsManagerAccessRoleArn": Ref("secret role", "arn"),
        "SecretsManagerSecretId": Ref("secret", "arn"),
        "PluginName": "test-decoding",  # no restart for a preloaded library; REPLICA IDENTITY FULL works
        "CaptureDdls": settings.capture_ddls,
        "HeartbeatEnable": bool(settings.heartbeat_schema),
        "FailTasksOnLobTruncation": True,
        "MapBooleanAsBoolean": True,
        "ExecuteTimeout": 60,  # seconds, for the slot too, which waits for transactions to end
    }
    if settings.heartbeat_schema:
        # An idle database in a busy instance would hold back the log of all.
        postgresql |= {"HeartbeatFrequency": 5, "HeartbeatSchema": settings.heartbeat_schema}
    return {
        "EndpointIdentifier": given.name("source"),
        "EndpointType": "source",
        "EngineName": "postgres",
        "DatabaseName": settings.pgdatabase,
        "SslMode": "none" if settings.pgsslmode == "disable" else "require",
        "PostgreSQLSettings": postgresql,
    }


def target_endpoint(given: Declaration) -> dict[str, Any]:
    return {
        "EndpointIdentifier": given.name("target"),
        "EndpointType": "target",
        "EngineName": "kinesis",
        "KinesisSettings": {
            "StreamArn": Ref("stream", "arn"),
            "ServiceAccessRoleArn": Ref("stream role", "arn"),
            "MessageFormat": "json-unformatted",
            "IncludeTransactionDetails": True,  # transaction, commit time, position: the order of changes
            "IncludePartitionValue": True,
            "PartitionIncludeSchemaTable": True,  # else the keys 1 of all tables share a shard
            "IncludeTableAlterOperations": True,
            "IncludeControlDetails": True,  # only they tell types and primary keys
            "IncludeNullAndEmpty": True,  # else NULL can't be told from absent
            "NoHexPrefix": True,
            "UseLargeIntegerValue": True,  # else integers pass through a double
        },
    }


def connection(given: Declaration, end: str) -> dict[str, Any]:
    return {
        "EndpointIdentifier": given.name(end),
        "EndpointArn": Ref(f"{end} endpoint", "arn"),
        "ReplicationInstanceArn": Ref("replication instance", "arn"),
        "Status": "successful",
    }


def task(given: Declaration) -> dict[str, Any]:
    settings = given.settings
    return {
        "ReplicationTaskIdentifier": given.name("task"),
        "SourceEndpointArn": Ref("source endpoint", "arn"),
        "TargetEndpointArn": Ref("target endpoint", "arn"),
        "ReplicationInstanceArn": Ref("replication instance", "arn"),
        "MigrationType": "full-load-and-cdc",
        "TableMappings": dms.by_rule_id(mappings(settings, given.around).document),
        "ReplicationTaskSettings": task_settings(
            lob_max_size_kb=settings.lob_max_size_kb, before_image_field=settings.before_image_field
        ),
    }


def mappings(settings: Settings, around: Surroundings) -> TableMappings:
    """Of the catalog; without one, of what the task has already: what only the catalog could tell stays."""
    tables = around.catalog
    if tables is None and around.live_mappings is not None:
        known = set(mapped_tables(around.live_mappings))
        exact = {(one.schema, one.table) for one in settings.table_patterns if one.is_exact}
        added = exact - {(schema, table) for schema, table, _ in known}
        tables = tuple(sorted(known | {(schema, table, True) for schema, table in added}))
    heartbeat = settings.heartbeat_schema or None
    return table_mappings(settings.table_patterns, tables, heartbeat)


# --------------------------------------------------------------------------------------------------------
# Alarms and dashboard
# --------------------------------------------------------------------------------------------------------


def watch(given: Declaration) -> Iterator[Resource]:
    account, name = given.account, given.name
    quarantined = {
        "filterName": "quarantined",
        "logGroupName": f"/aws/lambda/{name('lambda')}",
        "filterPattern": '{ $.message = "record quarantined" }',
        "metricTransformations": [
            {"metricName": "Quarantined", "metricNamespace": name("pipeline"), "metricValue": "1"}
        ],
    }
    yield Resource("quarantine filter", logs.MetricFilter(account), quarantined)
    if given.settings.alarm_email or given.everything:
        yield Resource("alarm topic", sns.Topic(account), topic(given))
        yield from rules(given)
    alarms = list(alarm_specs(given))
    for part, spec in alarms:
        yield Resource(f"alarm {part}", cloudwatch.Alarm(account), spec)
    body = {"widgets": list(widgets(given, [f"alarm {part}" for part, _ in alarms]))}
    dashboard = {"DashboardName": account.pipeline, "DashboardBody": body}
    yield Resource("dashboard", cloudwatch.Dashboard(account), dashboard)


def topic(given: Declaration) -> dict[str, Any]:
    account, name = given.account, given.name("alarms")
    spec = {"Name": name, "Policy": sns.alarm_policy(account.arn("sns", name), account.account_id)}
    return spec | ({"Endpoint": given.settings.alarm_email} if given.settings.alarm_email else {})


def rules(given: Declaration) -> Iterator[Resource]:
    """What CloudWatch has no metric for: the task's state, and a batch given up, at once."""
    target = [{"Id": "topic", "Arn": Ref("alarm topic", "arn")}]
    task_state = {
        "source": ["aws.dms"],
        "detail-type": ["DMS Replication Task State Change"],
        "resources": [Ref("task", "arn")],
        "detail": {"eventType": ["REPLICATION_TASK_STOPPED", "REPLICATION_TASK_FAILED"]},
    }
    given_up = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [given.failed_bucket]}},
    }
    for part, pattern, description in (
        ("task-state", task_state, "The replication task stopped or failed"),
        ("given-up", given_up, "Lambda gave up a batch"),
    ):
        spec = {
            "Name": given.name(part),
            "Description": description,
            "EventPattern": pattern,
            "State": "ENABLED",
            "Targets": target,
        }
        yield Resource(f"rule {part}", events.Rule(given.account), spec)


@dataclass(frozen=True)
class Metric:
    """What an alarm and a widget show: namespace, name, dimensions, statistic."""

    namespace: str
    name: str
    dimensions: Mapping[str, Any]
    statistic: str = "Maximum"


def metrics(given: Declaration) -> dict[str, Metric]:
    """By the alarm's name, in the order of the chain."""
    instance = {"DBInstanceIdentifier": given.database_instance}
    replication = {"ReplicationInstanceIdentifier": given.name("replication")}
    task = replication | {"ReplicationTaskIdentifier": Ref("task", "resource_id")}
    stream, lambda_function = {"StreamName": given.name("stream")}, {"FunctionName": given.name("lambda")}
    failed = {"BucketName": given.failed_bucket, "StorageType": "AllStorageTypes"}
    found = {
        "slot-lag": Metric("AWS/RDS", "OldestReplicationSlotLag", instance),
        "database-storage": Metric("AWS/RDS", "FreeStorageSpace", instance, "Minimum"),
        "source-latency": Metric("AWS/DMS", "CDCLatencySource", task),
        "target-latency": Metric("AWS/DMS", "CDCLatencyTarget", task),
        "replication-storage": Metric("AWS/DMS", "FreeStorageSpace", replication, "Minimum"),
        "no-records": Metric("AWS/Kinesis", "IncomingRecords", stream, "Sum"),
        "iterator-age": Metric("AWS/Lambda", "IteratorAge", lambda_function),
        "errors": Metric("AWS/Lambda", "Errors", lambda_function, "Sum"),
        "throttles": Metric("AWS/Lambda", "Throttles", lambda_function, "Sum"),
        "quarantined": Metric(given.name("pipeline"), "Quarantined", {}, "Sum"),
        "delivery-failures": Metric("AWS/Lambda", "DestinationDeliveryFailures", lambda_function, "Sum"),
        "given-up": Metric("AWS/S3", "NumberOfObjects", failed),
    }
    if given.database_instance is None:
        del found["slot-lag"], found["database-storage"]
    return found


GB = 10**9
# Seconds a period, periods in a row, comparison, threshold, what it means and what to do.
LIMITS: Mapping[str, tuple[int, int, str, float, str]] = {
    "slot-lag": (
        300,
        3,
        ">",
        10 * GB,
        "the database keeps more than 10 GB of log for a slot: is the task up?",
    ),
    "database-storage": (300, 3, "<", 5 * GB, "less than 5 GB left: the database stops writing at none"),
    "source-latency": (60, 5, ">", 300, "DMS reads changes more than 5 minutes late"),
    "target-latency": (60, 5, ">", 300, "changes reach the stream more than 5 minutes late"),
    "replication-storage": (300, 3, "<", 5 * GB, "less than 5 GB left on the replication instance"),
    "no-records": (600, 1, "<", 1, "no record in 10 minutes, not even DMS's own: the chain stands still"),
    "iterator-age": (60, 3, ">", 300_000, "rows land more than 5 minutes late, the window not counted"),
    "errors": (300, 1, ">", 0, "the function failed; Lambda delivers the batch again"),
    "throttles": (300, 1, ">", 0, "Lambda had no room for the function: raise the concurrency quota"),
    "quarantined": (300, 1, ">", 0, "records can't be read: see quarantine/ in the bucket"),
    "delivery-failures": (300, 1, ">", 0, "a given-up batch could not even be stored: rows are lost"),
    "given-up": (86_400, 1, ">", 0, "batches were given up: see the failed bucket"),
}
COMPARISONS = {">": "GreaterThanThreshold", "<": "LessThanThreshold"}


def alarm_specs(given: Declaration) -> Iterator[tuple[str, dict[str, Any]]]:
    actions = [Ref("alarm topic", "arn")] if given.settings.alarm_email else []
    for part, metric in metrics(given).items():
        period, periods, comparison, threshold, meaning = LIMITS[part]
        if part == "iterator-age":  # a record waits in a window before it is read
            threshold += 1000 * given.settings.batch_window_seconds
        yield (
            part,
            {
                "AlarmName": given.name(part),
                "AlarmDescription": f"{meaning} (python setup_dms.py status)",
                "Namespace": metric.namespace,
                "MetricName": metric.name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions.items()],
                "Statistic": metric.statistic,
                "Period": period,
                "EvaluationPeriods": periods,
                "ComparisonOperator": COMPARISONS[comparison],
                "Threshold": float(threshold),
                # Silence is what one of them is about, and says nothing to the others.
                "TreatMissingData": "breaching" if part == "no-records" else "notBreaching",
                "AlarmActions": actions,
                "OKActions": actions,
            },
        )


def widgets(given: Declaration, alarms: list[str]) -> Iterator[dict[str, Any]]:
    """The alarms, then a graph of each metric, three a row, from the database to the bucket."""
    arns = [Ref(alarm, "arn") for alarm in alarms]
    yield widget("alarm", 0, 0, 24, {"title": "Alarms", "alarms": arns})
    for position, (part, metric) in enumerate(metrics(given).items()):
        dimensions = [each for pair in metric.dimensions.items() for each in pair]
        properties = {
            "title": part,
            "region": given.account.region,
            "metrics": [[metric.namespace, metric.name, *dimensions]],
            "stat": metric.statistic,
            "period": LIMITS[part][0],
        }
        yield widget("metric", 8 * (position % 3), 3 + 5 * (position // 3), 8, properties)


def widget(kind: str, x: int, y: int, width: int, properties: dict[str, Any]) -> dict[str, Any]:
    height = 3 if kind == "alarm" else 5
    return {"type": kind, "x": x, "y": y, "width": width, "height": height, "properties": properties}


# --------------------------------------------------------------------------------------------------------
# Start
# --------------------------------------------------------------------------------------------------------


def start(given: Declaration) -> Iterator[Resource]:
    """Last: until here nothing has left the database. A task without a table would fail, so it waits."""
    if not has_tables(given.settings, given.around) and not given.everything:
        return
    run = {
        "ReplicationTaskIdentifier": given.name("task"),
        "ReplicationTaskArn": Ref("task", "arn"),
        "Status": "running",
    }
    yield Resource(TASK_RUN, dms.TaskRun(given.account), run)
    loads = {key: run[key] for key in ("ReplicationTaskIdentifier", "ReplicationTaskArn")}
    yield Resource("table loads", dms.TableLoads(given.account), {**loads, "Waiting": []})


def has_tables(settings: Settings, around: Surroundings) -> bool:
    """False where the database was just made, or its catalog has none that TABLES selects."""
    if around.catalog is None:
        return not around.is_new_database
    return bool(mapped_tables(table_mappings(settings.table_patterns, around.catalog).document))
