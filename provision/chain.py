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
from typing import Any

from provision.alarms import silence, watch
from provision.aws import TAG, Account
from provision.declaration import ACCOUNT_ROLES, TASK_RUN, Declaration, managed_policy_arn
from provision.engine import Ref, Resource
from provision.kinds import dms, ec2, iam, kinesis, lambda_, logs, rds, s3, secretsmanager
from provision.replication_task import TableMappings, mapped_tables, table_mappings, task_settings
from provision.settings import Settings
from provision.surroundings import RECORD_AGE_SECONDS, Surroundings

RETENTION_HOURS = 168  # costs the same a shard-hour from the second day to the seventh
LOG_DAYS = 30
OLD_VERSION_DAYS = 30
OLD_BATCH_DAYS = 1  # a given-up batch that was deleted still counts for its alarm until then
RAW_DAYS = 30  # how long what may hold values of masked columns is kept; a redrive has to come before
OLD_RAW_DAYS = 1
RUNTIME, ARCHITECTURE = "python3.13", "arm64"
ANYWHERE = "0.0.0.0/0"
DMS = "dms.amazonaws.com"


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
    """While columns are masked, what may hold their values is for operators, and expires."""
    account, is_masked = given.account, bool(given.settings.masks)
    bucket = closed_bucket(given.settings.s3_bucket, given.bucket_arn, OLD_VERSION_DAYS)
    failed = closed_bucket(given.failed_bucket, given.failed_bucket_arn, OLD_BATCH_DAYS)
    failed["Notification"] = {"EventBridgeConfiguration": {}}
    failed["Policy"]["Statement"].append(operators_only([f"{given.failed_bucket_arn}/*"], account))
    if is_masked:
        raw = [f"{given.settings.s3_prefix}{folder}/" for folder in ("quarantine/restricted", "control")]
        objects = [f"{given.bucket_arn}/{folder}*" for folder in raw]
        bucket["Policy"]["Statement"].append(operators_only(objects, account))
        bucket["Lifecycle"] += [raw_lifecycle(name, at) for name, at in zip(RAW_RULES, raw, strict=True)]
        failed["Lifecycle"].append(lifecycle("given-up", Expiration={"Days": RAW_DAYS}))
    yield Resource("bucket", s3.Bucket(account), bucket)
    yield Resource("failed bucket", s3.Bucket(account), failed)


def closed_bucket(name: str, arn: str, old_version_days: int) -> dict[str, Any]:
    blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return {
        "Bucket": name,
        "PublicAccessBlock": dict.fromkeys(blocks, True),
        "Ownership": "BucketOwnerEnforced",
        "Versioning": "Enabled",
        "Encryption": {"SSEAlgorithm": "AES256"},
        "Lifecycle": [
            lifecycle("old-versions", NoncurrentVersionExpiration={"NoncurrentDays": old_version_days}),
            lifecycle("delete-markers", Expiration={"ExpiredObjectDeleteMarker": True}),
            lifecycle("aborted-uploads", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7}),
        ],
        "Policy": s3.tls_only(arn),
    }


def lifecycle(name: str, prefix: str = "", **action: Any) -> dict[str, Any]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, **action}


RAW_RULES = ("restricted-quarantine", "control")


def raw_lifecycle(name: str, prefix: str) -> dict[str, Any]:
    """Of two rules that expire the same version, S3 goes by the shorter one (documented).

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-conflicts.html
    """
    old = {"NoncurrentDays": OLD_RAW_DAYS}
    return lifecycle(name, prefix, Expiration={"Days": RAW_DAYS}, NoncurrentVersionExpiration=old)


def operators_only(objects: list[str], account: Account) -> dict[str, Any]:
    """Raw rows are for those who repair: roles and users with the pipeline's tag, as the function's role."""
    return {
        "Sid": "OnlyForOperators",
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:GetObjectVersion"],
        "Resource": objects,
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
    # A database elsewhere may be anywhere: then its own firewall is what keeps DMS to it.
    is_here = given.settings.create_rds or (
        around.source is not None and around.source.attributes["vpc_id"] == around.vpc_id
    )
    reach = around.vpc_cidrs if is_here else (ANYWHERE,)
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
    if given.around.source or given.makes_database:
        yield Resource("database rule", ec2.IngressRule(account), database_rule(given))
    secret = {
        "Name": given.name("login"),  # six characters after the hyphen would look like an ARN's random ones
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
    """Lets DMS in. Other rules of the group, whoever's it is, are nobody's business here."""
    source = given.around.source
    group: Any = Ref("database group", "id")
    if source is not None:
        group = source.attributes["security_group_ids"][0]
    elif not given.settings.create_rds:
        group = ""  # the database is gone: the rule is found by its tag
    return {
        "GroupId": group,
        "ReferencedGroupId": Ref("replication group", "id"),
        "IpProtocol": "tcp",
        "FromPort": given.settings.pgport,
        "ToPort": given.settings.pgport,
        "Description": f"DMS of pipeline {given.account.pipeline}",
    }


def new_database(given: Declaration) -> Iterator[Resource]:
    account, name = given.account, given.name("database")
    # Without rules in: who else may connect is not decided here, and not undone.
    group = {
        "GroupName": name,
        "VpcId": given.around.vpc_id,
        "Description": f"Database of pipeline {account.pipeline}",
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
    if makes_mask_secret(given):
        yield Resource(MASK_SECRET, secretsmanager.Secret(account), mask_secret(given))
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
        "Environment": lambda_.environment(function_environment(given)),
    }
    yield Resource("function", lambda_.Function(account, given.code), spec)
    alias = {"Name": lambda_.ALIAS, "FunctionName": name, "Configuration": lambda_.configuration(spec)}
    yield Resource("alias", lambda_.Alias(account), alias)
    yield Resource("mapping", lambda_.EventSourceMapping(account), mapping(given))


MASK_SECRET = "mask secret"


def makes_mask_secret(given: Declaration) -> bool:
    settings = given.settings
    return given.everything or bool(settings.has_mask_key and settings.mask_secret)


def mask_secret(given: Declaration) -> dict[str, Any]:
    return {
        "Name": given.name("mask"),  # see that of the login
        "Description": f"The key of the hashes in masked columns of pipeline {given.account.pipeline}",
        "SecretString": given.settings.mask_secret,
        "IsCurrent": True,
    }


def mask_secret_arn(given: Declaration) -> Any:
    """Of the secret that holds the key of the hashes; None: no mask takes one."""
    if not given.settings.has_mask_key:
        return None
    return given.settings.mask_secret_arn or Ref(MASK_SECRET, "arn")


def function_environment(given: Declaration) -> dict[str, Any]:
    """The key itself is never in it. MASK_SECRET_VERSION, which the function does not read, changes with the
    key: so a new version of the function takes over, and no environment goes on with the former key.
    """
    variables: dict[str, Any] = dict(given.settings.function_environment)
    if arn := mask_secret_arn(given):
        variables["MASK_SECRET_ARN"] = arn
        if isinstance(arn, Ref):
            variables["MASK_SECRET_VERSION"] = Ref(MASK_SECRET, "version")
    return variables


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
    if arn := mask_secret_arn(given):
        policy["Statement"].append(allow("secretsmanager:GetSecretValue", arn))
    # No condition: that Lambda names a source when it takes an execution role is not documented, and roles
    # can't be passed from another account.
    return role(given, "function", trust("lambda.amazonaws.com"), policy)


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


def trust(service: str, condition: Mapping[str, Any] | None = None) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return statements(statement | ({"Condition": condition} if condition else {}))


def of_our_dms(given: Declaration, region: str) -> dict[str, Any]:
    """The condition that keeps DMS from using a role for somebody else (the confused deputy).

    Source: https://docs.aws.amazon.com/dms/latest/userguide/cross-service-confused-deputy-prevention.html
    """
    account = given.account
    return {
        "StringEquals": {"aws:SourceAccount": account.account_id},
        "ArnLike": {"aws:SourceArn": f"arn:{account.partition}:dms:{region}:{account.account_id}:*"},
    }


def account_wide_role(given: Declaration, name: str, condition: Mapping[str, Any] | None) -> Resource:
    """One of the two roles that DMS looks for under a name of its own, in all regions of the account."""
    spec = {
        "RoleName": name,
        "AssumeRolePolicyDocument": trust(DMS, condition),
        "ManagedPolicies": [managed_policy_arn(given.account, ACCOUNT_ROLES[name])],
    }
    return Resource(name, iam.Role(given.account, shared=True), spec)


# --------------------------------------------------------------------------------------------------------
# DMS
# --------------------------------------------------------------------------------------------------------


def replication(given: Declaration) -> Iterator[Resource]:
    account = given.account
    yield account_wide_role(given, "dms-vpc-role", of_our_dms(given, "*"))
    # With a condition DMS writes no task logs. Source: terraform-aws-modules/terraform-aws-dms, issue 84
    yield account_wide_role(given, "dms-cloudwatch-logs-role", None)
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
    trusted = trust(DMS, of_our_dms(given, given.account.region))
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
# Start
# --------------------------------------------------------------------------------------------------------


def start(given: Declaration) -> Iterator[Resource]:
    """Last: until here nothing has left the database. What tells of silence comes after, or it would ring."""
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
    yield from silence(given)


def has_tables(settings: Settings, around: Surroundings) -> bool:
    """Whether the task has something to start with: without a table it would fail.

    What can't be seen is taken to be there, but for a database that was made here and never read.
    """
    if around.catalog is None:
        return around.has_run or not settings.create_rds
    return bool(mapped_tables(mappings(settings, around).document))
