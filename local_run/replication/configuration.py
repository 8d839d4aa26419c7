"""The task as it was made: endpoints, settings, table mappings, read back through boto3.

Nothing is configured twice: what setup_dms.py made is what is played here. A setting that changes what is on
the stream, and is not played, is refused by its name; one that only says how DMS works is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from local_run.replication.envelopes import MessageSettings
from provision.dms_types import Rendering
from provision.engine import ProvisionError
from provision.replication_task import is_selected, like, mapping_faults, partition_key

ANY = object()
# What is played of a setting that changes what is on the stream; ANY: all of its values.
TASK_SETTINGS: dict[str, Any] = {
    "TargetMetadata.TargetSchema": ("",),
    "TargetMetadata.SupportLobs": (True,),
    "TargetMetadata.FullLobMode": (False,),
    "TargetMetadata.LimitedSizeLobMode": (True,),
    "TargetMetadata.InlineLobMaxSize": (0,),
    "TargetMetadata.BatchApplyEnabled": (False,),
    "TargetMetadata.TaskRecoveryTableEnabled": (False,),
    "FullLoadSettings.TargetTablePrepMode": ("DO_NOTHING", "DROP_AND_CREATE"),
    "FullLoadSettings.StopTaskCachedChangesApplied": (False,),
    "FullLoadSettings.StopTaskCachedChangesNotApplied": (False,),
    "ControlTablesSettings.ControlSchema": ("",),
    "ControlTablesSettings.HistoryTableEnabled": (False,),
    "ControlTablesSettings.FullLoadExceptionTableEnabled": (False,),
    "ErrorBehavior.DataErrorPolicy": ("SUSPEND_TABLE",),
    "ErrorBehavior.DataTruncationErrorPolicy": ("SUSPEND_TABLE",),
    "ErrorBehavior.TableErrorPolicy": ("SUSPEND_TABLE",),
    "ErrorBehavior.RecoverableErrorCount": (-1,),
    "ValidationSettings.EnableValidation": (False,),
    "ValidationSettings.ValidationOnly": (False,),
    "BeforeImageSettings.EnableBeforeImage": ANY,
    "BeforeImageSettings.FieldName": ANY,
    "BeforeImageSettings.ColumnFilter": ANY,
    "PostProcessingRules": (None,),
    "CharacterSetSettings": (None,),
    "LoopbackPreventionSettings": (None,),
    "ResyncSettings": (None,),
    "TTSettings.EnableTT": (False,),
    "TTSettings": (None,),
    "BeforeImageSettings": (None,),
}
# Settings that say how, not what: buffers, threads, logs, what an apply to a database does; and LobMaxSize,
# ParallelApplyThreads and the control tables, which are read below.
PASSED_OVER = (
    *("Logging.*", "StreamBufferSettings.*", "ChangeProcessingTuning.*", "ErrorBehavior.*"),
    *("ChangeProcessingDdlHandlingPolicy.*", "ValidationSettings.*", "FailTaskWhenCleanTaskResourceFailed"),
    *("FullLoadSettings.CreatePkAfterFullLoad", "FullLoadSettings.MaxFullLoadSubTasks"),
    *("FullLoadSettings.TransactionConsistencyTimeout", "FullLoadSettings.CommitRate"),
    *("TargetMetadata.LobChunkSize", "TargetMetadata.LobMaxSize", "TargetMetadata.LoadMaxFileSize"),
    *("TargetMetadata.Parallel*", "ControlTablesSettings.?istoryTimeslotInMinutes"),
    *("ControlTablesSettings.StatusTableEnabled", "ControlTablesSettings.SuspendedTablesTableEnabled"),
    *("TTSettings.TT*Settings", "TTSettings.FailTaskOnTTFailure"),
)
SOURCE_SETTINGS: dict[str, Any] = {
    "SecretsManagerAccessRoleArn": ANY,
    "SecretsManagerSecretId": ANY,
    "PluginName": ANY,  # read through pgoutput whatever it says: the rows are the same
    "CaptureDdls": ANY,
    "DdlArtifactsSchema": ("public",),
    "HeartbeatEnable": ANY,
    "HeartbeatSchema": ANY,
    "HeartbeatFrequency": ANY,
    "FailTasksOnLobTruncation": ANY,
    "MapBooleanAsBoolean": ANY,
    "TrimSpaceInChar": ANY,
    "ExecuteTimeout": ANY,
    "MaxFileSize": ANY,
    "DatabaseName": ANY,
}
TARGET_SETTINGS: dict[str, Any] = dict.fromkeys(
    (
        *("StreamArn", "ServiceAccessRoleArn", "MessageFormat", "IncludeTransactionDetails"),
        *("IncludePartitionValue", "PartitionIncludeSchemaTable", "IncludeTableAlterOperations"),
        *("IncludeControlDetails", "IncludeNullAndEmpty", "NoHexPrefix", "UseLargeIntegerValue"),
    ),
    ANY,
)
RULES = {"selection": ("include", "exclude", "explicit"), "object-mapping": ("map-record-to-record",)}


class NotPlayedError(ProvisionError):
    """The task asks for what is not played here: all of it, by name."""


@dataclass(frozen=True)
class Configuration:
    """One task; secrets are not shown."""

    task_arn: str
    stream_arn: str
    database: dict[str, Any]  # as psycopg2.connect takes it
    mappings: dict[str, Any]
    messages: MessageSettings
    rendering: Rendering
    loads: bool  # a full load comes first
    drops_tables: bool  # TargetTablePrepMode: says so before a load
    change_key: str  # partition-key-type of changes where no object mapping says it
    has_status: bool
    has_suspended_tables: bool
    captures_ddl: bool
    alters: bool  # ALTER TABLE is told, if it is captured
    heartbeat_schema: str  # empty: no heartbeat
    heartbeat_minutes: int

    def __repr__(self) -> str:
        return f"Configuration({self.task_arn!r})"

    def selects(self, schema: str, table: str) -> bool:
        return is_selected(self.mappings, schema, table)

    def partition_keys(self, schema: str, table: str, has_key: bool) -> tuple[str, str, str]:
        """partition-key-type of a table's loads and of its changes, and partition-key-name.

        By object mapping (documented); else loads by primary key (observed), changes by table (observed)
        or, with ParallelApplyThreads, by primary key (documented). Without a key, by table (observed).
        """
        for rule in self.mappings["rules"]:
            locator = rule["object-locator"]
            is_here = like(locator["schema-name"], schema) and like(locator["table-name"], table)
            if rule["rule-type"] == "object-mapping" and is_here and (asked := partition_key(rule)):
                return asked, asked, rule["mapping-parameters"].get("partition-key-name", "")
        return ("primary-key", self.change_key, "") if has_key else ("schema-table", "schema-table", "")


def read_configuration(session: Any, task_name: str) -> Configuration:
    """What the task with this identifier is to do. Raises NotPlayedError."""
    dms = session.client("dms")
    found = dms.describe_replication_tasks(
        Filters=[{"Name": "replication-task-id", "Values": [task_name]}], WithoutSettings=False
    )["ReplicationTasks"][0]
    source = endpoint(dms, found["SourceEndpointArn"])
    target = endpoint(dms, found["TargetEndpointArn"])
    settings = json.loads(found["ReplicationTaskSettings"])
    mappings = json.loads(found["TableMappings"])
    faults = [
        *task_faults(found),
        *setting_faults(settings),
        *endpoint_faults(source, "PostgreSQLSettings", SOURCE_SETTINGS),
        *endpoint_faults(target, "KinesisSettings", TARGET_SETTINGS),
        *rule_faults(mappings),
    ]
    if faults:
        raise NotPlayedError("\n  ".join([f"task {task_name} asks for what is not played here:", *faults]))
    return configuration(found, source, target, settings, mappings, secret_of(session, source))


def endpoint(dms: Any, arn: str) -> dict[str, Any]:
    answer = dms.describe_endpoints(Filters=[{"Name": "endpoint-arn", "Values": [arn]}])
    return dict(answer["Endpoints"][0])


def secret_of(session: Any, source: Mapping[str, Any]) -> dict[str, Any]:
    """How to connect as the user that DMS reads the source as."""
    name = source["PostgreSQLSettings"]["SecretsManagerSecretId"]
    answer = session.client("secretsmanager").get_secret_value(SecretId=name)
    secret = json.loads(answer["SecretString"])
    return {
        "host": secret["host"],
        "port": int(secret["port"]),
        "user": secret["username"],
        "password": secret["password"],
        "dbname": source["DatabaseName"],
        "sslmode": "disable" if source["SslMode"] == "none" else "require",
    }


def configuration(
    task: Mapping[str, Any],
    source: Mapping[str, Any],
    target: Mapping[str, Any],
    settings: Mapping[str, Any],
    mappings: dict[str, Any],
    database: dict[str, Any],
) -> Configuration:
    postgresql, kinesis = source["PostgreSQLSettings"], target["KinesisSettings"]
    metadata, control = settings["TargetMetadata"], settings["ControlTablesSettings"]
    arn = str(task["ReplicationTaskArn"])
    return Configuration(
        task_arn=arn,
        stream_arn=kinesis["StreamArn"],
        database=database,
        mappings=mappings,
        messages=message_settings(kinesis, settings, arn.rsplit(":", 1)[1]),
        rendering=Rendering(
            lob_max_size_kb=metadata["LobMaxSize"],
            fail_on_lob_truncation=postgresql.get("FailTasksOnLobTruncation", False),
            no_hex_prefix=kinesis.get("NoHexPrefix", False),
            map_boolean_as_boolean=postgresql.get("MapBooleanAsBoolean", False),
            use_large_integer_value=kinesis.get("UseLargeIntegerValue", False),
            trim_space_in_char=postgresql.get("TrimSpaceInChar", True),
        ),
        loads=task["MigrationType"] == "full-load-and-cdc",
        drops_tables=settings["FullLoadSettings"]["TargetTablePrepMode"] == "DROP_AND_CREATE",
        change_key="primary-key" if metadata["ParallelApplyThreads"] > 0 else "schema-table",
        has_status=control["StatusTableEnabled"],
        has_suspended_tables=control["SuspendedTablesTableEnabled"],
        captures_ddl=postgresql.get("CaptureDdls", True),
        alters=kinesis.get("IncludeTableAlterOperations", False),
        heartbeat_schema=postgresql.get("HeartbeatSchema", "public")
        if postgresql.get("HeartbeatEnable")
        else "",
        heartbeat_minutes=postgresql.get("HeartbeatFrequency", 5),
    )


def message_settings(
    kinesis: Mapping[str, Any], settings: Mapping[str, Any], task_id: str
) -> MessageSettings:
    image = settings.get("BeforeImageSettings") or {}
    return MessageSettings(
        message_format=kinesis.get("MessageFormat", "json"),
        include_transaction_details=kinesis.get("IncludeTransactionDetails", False),
        include_partition_value=kinesis.get("IncludePartitionValue", False),
        partition_include_schema_table=kinesis.get("PartitionIncludeSchemaTable", False),
        include_table_alter_operations=kinesis.get("IncludeTableAlterOperations", False),
        include_control_details=kinesis.get("IncludeControlDetails", False),
        include_null_and_empty=kinesis.get("IncludeNullAndEmpty", False),
        before_image_field=image["FieldName"] if image.get("EnableBeforeImage") else None,
        before_image_filter=image.get("ColumnFilter", "pk-only"),
        task_id=task_id,
    )


# ----------------------------------------------------------------------------------------------------------
# What is not played
# ----------------------------------------------------------------------------------------------------------


def task_faults(task: Mapping[str, Any]) -> Iterator[str]:
    kind = task["MigrationType"]
    if kind not in ("full-load-and-cdc", "cdc"):
        yield f"MigrationType {kind!r}: make it full-load-and-cdc or cdc"
    for key in ("CdcStartPosition", "CdcStartTime", "CdcStopPosition", "TaskData"):
        if task.get(key):
            yield f"{key}: leave it out"


def setting_faults(settings: Mapping[str, Any]) -> Iterator[str]:
    """Of the merged settings that DescribeReplicationTasks gives."""
    for section, values in settings.items():
        inner = values if isinstance(values, Mapping) else {"": values}
        for name, value in inner.items():
            path = f"{section}.{name}".rstrip(".")
            played = TASK_SETTINGS.get(path)
            if played is None and not any(fnmatch(path, one) for one in PASSED_OVER):
                yield f"{path} = {value!r}: leave it out"
            elif played is not None and played is not ANY and value not in played:
                yield f"{path} = {value!r}: make it {' or '.join(map(repr, played))}"


def endpoint_faults(endpoint: Mapping[str, Any], section: str, played: Mapping[str, Any]) -> Iterator[str]:
    if endpoint.get("ExtraConnectionAttributes"):
        yield f"{endpoint['EndpointIdentifier']}: ExtraConnectionAttributes: leave them out"
    settings = endpoint.get(section)
    if not settings:
        yield f"{endpoint['EndpointIdentifier']}: an endpoint without {section}: only PostgreSQL to Kinesis"
        return
    if section == "PostgreSQLSettings" and not settings.get("SecretsManagerSecretId"):
        yield f"{endpoint['EndpointIdentifier']}: a login that is not in Secrets Manager: put it there"
    for name, value in settings.items():
        values = played.get(name)
        if values is None or (values is not ANY and value not in values):
            yield f"{endpoint['EndpointIdentifier']}: {section}.{name} = {value!r}: leave it out"


def rule_faults(mappings: Mapping[str, Any]) -> list[str]:
    faults = mapping_faults(mappings)
    if faults:
        return faults
    return [
        f"rule {rule['rule-name']}: {kind} {rule.get('rule-action', '')}: leave it out"
        for rule in mappings["rules"]
        if (kind := rule["rule-type"]) not in RULES
        or rule["rule-action"] not in RULES[kind]
        or rule.get("filters")
        or set(rule.get("mapping-parameters", {})) - {"partition-key-type", "partition-key-name"}
        or (partition_key(rule) == "constant" and not rule["mapping-parameters"].get("partition-key-name"))
    ]
