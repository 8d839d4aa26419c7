"""The emulated AWS of this project: moto, made stricter where AWS is stricter, on one loopback port.

    with emulated_aws() as aws:                      # in a test: empty on entry, on a free port
        client = boto3.client("dms", endpoint_url=aws.url)
        aws.connection_failures["pg-source"] = "password authentication failed"

    $ python -m local_run.aws --port 5555   # serves any client; --rules prints RULES

moto answers most calls. What it lacks, or lets pass though AWS refuses it, is here: our model, not AWS.
Each rule carries its evidence (RULES): `documented` in AWS's API reference, user guides or service models;
`observed` in errors that people report from AWS; `inferred` where we had neither and chose the stricter way.

Nothing depends on time: what takes time stays in its passing state for `transitions` describes of it. Only
records go with time, after their stream's retention.
No code runs here: put_records calls no function; Invoke is answered only by a hook (`EmulatedAws.invoke`).
Whoever plays DMS or Lambda's poller takes orders and reports under PRIVATE_PATH (private_answer), where no
client of AWS looks.
An operation that neither moto nor we have is answered NotImplemented (501, which clients do not retry).

It is one long file (a hundred operations, a screen or less each) because it is one thing: all that we claim
about AWS, to be questioned rule by rule and dropped as moto learns. Nobody reads it through: the parts that a
user sees come first, then how rules hook into moto, then DMS, Kinesis, Lambda, RDS, small ones, the server.
"""

from __future__ import annotations

import argparse
import base64
import bisect
import contextlib
import copy
import fnmatch
import functools
import importlib
import io
import itertools
import json
import math
import os
import random
import re
import signal
import socket
import string
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import parse_qs
from xml.etree import ElementTree

import msgspec
from moto.core.base_backend import BackendDict
from moto.core.exceptions import ServiceException
from moto.core.model_instances import reset_model_data
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import determine_request_protocol
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import camelcase_to_underscores, get_service_model

AMAZON_JSON = "application/x-amz-json-1.1"
PRIVATE_PATH = "/_emulated-aws/"  # what passes inside AWS: no client of AWS asks for it
CODE_PATH = PRIVATE_PATH + "code/"  # where GetFunction's Code.Location points
HOST = "127.0.0.1"
ACCOUNT_ID, REGION = "123456789012", "eu-west-1"  # whose default VPC the command prints
ACTION = "emulated_aws.action"  # in the WSGI environment

# (service: module in moto, class of its responses); boto3's spelling of the service.
RESPONSES = {
    "dms": ("moto.dms.responses", "DatabaseMigrationServiceResponse"),
    "kinesis": ("moto.kinesis.responses", "KinesisResponse"),
    "lambda": ("moto.awslambda.responses", "LambdaResponse"),
    "rds": ("moto.rds.responses", "RDSResponse"),
    "ec2": ("moto.ec2.responses", "EC2Response"),
    "iam": ("moto.iam.responses", "IamResponse"),
    "secretsmanager": ("moto.secretsmanager.responses", "SecretsManagerResponse"),
    "logs": ("moto.logs.responses", "LogsResponse"),
}

# What a value outside the service model's enum or bounds is called.
MALFORMED = {
    "dms": "InvalidParameterValueException",
    "lambda": "InvalidParameterValueException",
    "rds": "InvalidParameterValue",
    "ec2": "InvalidParameterValue",
}

# DMS answers with these though its service model does not list them; moto warns of any such code.
UNLISTED_CODES = ("InvalidParameterValueException", "InvalidParameterCombinationException")

DMS_DEFAULT_VERSION = "3.5.4"
# AWS's list changes with time and region: this one only has what a chooser must cope with.
DMS_VERSIONS = dict.fromkeys(("3.5.2", "3.5.3", "3.5.4", "3.6.0", "3.6.1"), "prod") | {"3.6.2": "beta"}
DMS_CLASSES = (
    *("dms.t3.micro", "dms.t3.small", "dms.t3.medium", "dms.t3.large"),
    *("dms.c5.large", "dms.c6i.large", "dms.r5.large", "dms.r6i.large", "dms.r6i.xlarge"),
)
DMS_STORAGE_GB = (5, 6144)

# DescribeReplicationTasks returns the given settings merged into all of AWS's; these are the documented ones.
TASK_SETTINGS: dict[str, Any] = json.loads("""
{
  "TargetMetadata": {"TargetSchema": "", "SupportLobs": true, "FullLobMode": false, "LobChunkSize": 64,
    "LimitedSizeLobMode": true, "LobMaxSize": 32, "InlineLobMaxSize": 0, "LoadMaxFileSize": 0,
    "ParallelLoadThreads": 0, "ParallelLoadBufferSize": 0, "ParallelLoadQueuesPerThread": 0,
    "ParallelApplyThreads": 0, "ParallelApplyBufferSize": 0, "ParallelApplyQueuesPerThread": 0,
    "BatchApplyEnabled": false, "TaskRecoveryTableEnabled": false},
  "FullLoadSettings": {"TargetTablePrepMode": "DROP_AND_CREATE", "CreatePkAfterFullLoad": false,
    "StopTaskCachedChangesApplied": false, "StopTaskCachedChangesNotApplied": false,
    "MaxFullLoadSubTasks": 8, "TransactionConsistencyTimeout": 600, "CommitRate": 10000},
  "Logging": {"EnableLogging": false, "EnableLogContext": false, "LogComponents": [
    {"Id": "SOURCE_UNLOAD", "Severity": "LOGGER_SEVERITY_DEFAULT"},
    {"Id": "TARGET_LOAD", "Severity": "LOGGER_SEVERITY_DEFAULT"},
    {"Id": "SOURCE_CAPTURE", "Severity": "LOGGER_SEVERITY_DEFAULT"},
    {"Id": "TARGET_APPLY", "Severity": "LOGGER_SEVERITY_DEFAULT"},
    {"Id": "TASK_MANAGER", "Severity": "LOGGER_SEVERITY_DEFAULT"}]},
  "ControlTablesSettings": {"ControlSchema": "", "HistoryTimeslotInMinutes": 5,
    "HistoryTableEnabled": false, "SuspendedTablesTableEnabled": false, "StatusTableEnabled": false,
    "FullLoadExceptionTableEnabled": false},
  "StreamBufferSettings": {"StreamBufferCount": 3, "StreamBufferSizeInMB": 8,
    "CtrlStreamBufferSizeInMB": 5},
  "ChangeProcessingDdlHandlingPolicy": {"HandleSourceTableDropped": true,
    "HandleSourceTableTruncated": true, "HandleSourceTableAltered": true},
  "ErrorBehavior": {"DataErrorPolicy": "LOG_ERROR", "EventErrorPolicy": "IGNORE",
    "DataTruncationErrorPolicy": "LOG_ERROR", "DataErrorEscalationPolicy": "SUSPEND_TABLE",
    "DataErrorEscalationCount": 0, "TableErrorPolicy": "SUSPEND_TABLE",
    "TableErrorEscalationPolicy": "STOP_TASK", "TableErrorEscalationCount": 0,
    "RecoverableErrorCount": -1, "RecoverableErrorInterval": 5, "RecoverableErrorThrottling": true,
    "RecoverableErrorThrottlingMax": 1800, "RecoverableErrorStopRetryAfterThrottlingMax": true,
    "ApplyErrorDeletePolicy": "IGNORE_RECORD", "ApplyErrorInsertPolicy": "LOG_ERROR",
    "ApplyErrorUpdatePolicy": "LOG_ERROR", "ApplyErrorEscalationPolicy": "LOG_ERROR",
    "ApplyErrorEscalationCount": 0, "ApplyErrorFailOnTruncationDdl": false,
    "FullLoadIgnoreConflicts": true, "FailOnTransactionConsistencyBreached": false,
    "FailOnNoTablesCaptured": true},
  "ChangeProcessingTuning": {"BatchApplyPreserveTransaction": true, "BatchApplyTimeoutMin": 1,
    "BatchApplyTimeoutMax": 30, "BatchApplyMemoryLimit": 500, "BatchSplitSize": 0,
    "MinTransactionSize": 1000, "CommitTimeout": 1, "MemoryLimitTotal": 1024, "MemoryKeepTime": 60,
    "StatementCacheSize": 50},
  "ValidationSettings": {"EnableValidation": false, "ValidationMode": "ROW_LEVEL", "ThreadCount": 5,
    "FailureMaxCount": 10000, "TableFailureMaxCount": 1000, "HandleCollationDiff": false,
    "ValidationOnly": false, "RecordFailureDelayLimitInMinutes": 0, "SkipLobColumns": false,
    "ValidationPartialLobSize": 0, "ValidationQueryCdcDelaySeconds": 0, "PartitionSize": 10000},
  "PostProcessingRules": null, "CharacterSetSettings": null, "LoopbackPreventionSettings": null,
  "BeforeImageSettings": null, "FailTaskWhenCleanTaskResourceFailed": false, "TTSettings": null
}
""")
KINESIS_ENDPOINT_SETTINGS: dict[str, Any] = {"MessageFormat": "json"} | dict.fromkeys(
    (
        *("IncludeTransactionDetails", "IncludePartitionValue", "PartitionIncludeSchemaTable", "NoHexPrefix"),
        *("IncludeTableAlterOperations", "IncludeControlDetails", "IncludeNullAndEmpty"),
    ),
    False,
)
ENGINES = {"postgres": "PostgreSQL", "kinesis": "Amazon Kinesis"}  # others are not modelled

RDS_VERSIONS = ("13.20", "14.17", "15.12", "16.3", "16.8", "17.2", "17.4", "18.1")
RDS_CLASSES = ("db.t4g.micro", "db.t4g.medium", "db.m6g.large", "db.m7g.large", "db.r6g.large")
# name: (ApplyType, default); the parameters of PostgreSQL that logical replication is about.
RDS_PARAMETERS = {
    "rds.logical_replication": ("static", "0"),
    "rds.force_ssl": ("dynamic", "1"),
    "max_replication_slots": ("static", "20"),
    "max_wal_senders": ("static", "35"),
    "max_logical_replication_workers": ("static", "4"),
    "max_worker_processes": ("static", "8"),
    "max_slot_wal_keep_size": ("dynamic", "-1"),
    "wal_sender_timeout": ("dynamic", "30000"),
    "wal_keep_size": ("dynamic", "2048"),
    "logical_decoding_work_mem": ("dynamic", "65536"),
    "idle_in_transaction_session_timeout": ("dynamic", "86400000"),
    "statement_timeout": ("dynamic", "0"),
    "log_min_duration_statement": ("dynamic", "-1"),
    "shared_preload_libraries": ("static", "pg_stat_statements"),
}

MANAGED_POLICIES = (  # the AWS managed policies that exist; all of moto's cost a second at every reset
    "AmazonDMSVPCManagementRole",
    "AmazonDMSCloudWatchLogsRole",
    "AWSLambdaBasicExecutionRole",
    "AWSLambdaKinesisExecutionRole",
)

STREAM_READS = ("GetRecords", "GetShardIterator", "DescribeStream", "ListShards", "ListStreams")
FIRST_SEQUENCE = int("49" + "5903" + "0" * 50)  # 56 digits, as AWS's
HASH_KEYS = 2**128
PUT_RECORDS_BYTES = GET_RECORDS_BYTES = 10 * 1024 * 1024
RETENTION_CHECK_SECONDS = 60
NO_RECORDS_PROCESSED = "No records processed"
THROTTLED = "ProvisionedThroughputExceededException"
# {service: the variable by which its clients find another emulator}
SERVED_ELSEWHERE = {"kinesis": "AWS_ENDPOINT_URL_KINESIS", "s3": "AWS_ENDPOINT_URL_S3"}


# ----------------------------------------------------------------------------------------------------
# What a user sees
# ----------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """One claim about AWS: the operation (or moto's method) it is about, the claim, how we know."""

    operation: str
    rule: str
    evidence: Literal["documented", "observed", "inferred"]


# Of the records of a PutRecords (by the service model's names): the places of those that the shard throttles,
# {place: error code}, or the error code of the whole call.
PutFailures = Callable[[list[dict[str, Any]]], "set[int] | dict[int, str] | str"]


@dataclass
class EmulatedAws:
    """A running emulated AWS, and what a test may set in it; None or empty means AWS's normal course."""

    url: str = ""
    transitions: int = 1  # describes of an object that still show its passing state
    role_lag: int = 0  # how often a new role is refused as not yet assumable (IAM is eventually consistent)
    tables: list[tuple[str, str]] = field(default_factory=list)  # (schema, table) of the source database
    suspended: set[tuple[str, str]] = field(default_factory=set)  # tables in error
    statistics: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # counters of a table
    connection_failures: dict[str, str] = field(default_factory=dict)  # endpoint identifier: AWS's message
    invoke: Callable[[str, bytes], bytes] | None = None  # answers Invoke: (qualified function ARN, payload)
    put_failures: PutFailures | None = None  # which records of a PutRecords are not taken
    elsewhere: frozenset[str] = frozenset()  # services of SERVED_ELSEWHERE that another emulator serves
    assumed: dict[str, int] = field(default_factory=dict)  # role id: times it was refused so far

    def reset(self, transitions: int = 1) -> None:
        """Empties it, hooks included, as a start would; the URL and clients of it stay good."""
        with LOCK:
            BackendDict.reset()
            reset_model_data()
        for name, value in vars(EmulatedAws(self.url, transitions, elsewhere=self.elsewhere)).items():
            setattr(self, name, value)

    def fail_task(self, identifier: str, message: str) -> None:
        """The DMS task has stopped with a fatal error, as a lost replication slot makes it."""
        for backend in all_backends("dms"):
            for task in dms_of(backend).tasks.values():
                if task.shape["ReplicationTaskIdentifier"] == identifier:
                    fail(task, message)


@dataclass
class EveryRecord:
    """Fails each record whose number, counted over all calls, `every` divides."""

    every: int
    code: str = THROTTLED
    seen: int = 0

    def __call__(self, records: list[dict[str, Any]]) -> dict[int, str]:
        first, self.seen = self.seen + 1, self.seen + len(records)
        return {place: self.code for place in range(len(records)) if (first + place) % self.every == 0}


@contextlib.contextmanager
def emulated_aws(
    port: int = 0, transitions: int = 1, elsewhere: frozenset[str] = frozenset()
) -> Iterator[EmulatedAws]:
    """Serves an empty AWS on the loopback interface until the block ends, but for services served elsewhere.

    Raises RuntimeError when one already runs in this process: moto's stores are global.
    """
    if CURRENT[0].url:
        raise RuntimeError(
            f"one emulated AWS at a time in a process (moto's stores are global): {CURRENT[0].url}"
        )
    install_model()
    server = server_class()(HOST, port, Application(), handler_class())
    CURRENT[0] = EmulatedAws(url=f"http://{HOST}:{server.server_port}", elsewhere=elsewhere)
    CURRENT[0].reset(transitions)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield CURRENT[0]
    finally:
        server.shutdown()
        thread.join()
        server.end_connections()
        CURRENT[0] = EmulatedAws()


def main(arguments: list[str] | None = None) -> int:
    options = command_line().parse_args(arguments)
    if options.rules:
        for rule in RULES:
            print(f"{rule.evidence:10}  {rule.operation:45}  {rule.rule}")
        return 0
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with emulated_aws(options.port, options.transitions, options.elsewhere) as aws:
            print(
                f"# emulated AWS at {aws.url}, until Ctrl-C; in another terminal:\n"
                f"export AWS_ENDPOINT_URL={aws.url} AWS_ACCESS_KEY_ID={ACCOUNT_ID}"
                f" AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION={REGION}\n"
                f"export SUBNET_IDS={','.join(default_subnet_ids(ACCOUNT_ID, REGION))}",
                flush=True,
            )
            while not stop.wait(timeout=1 if options.parent else None):
                if os.getppid() != options.parent:
                    break
    except (OSError, SystemExit) as fault:  # werkzeug prints why and exits when the port is taken
        print(f"error: cannot serve on {HOST}:{options.port}: {fault}; try --port 0", file=sys.stderr)
        return 1
    return 0


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local_run.aws", description="Serves an emulated AWS.")
    parser.add_argument("--port", type=int, default=5555, help="0 = a free one (default: %(default)s)")
    parser.add_argument("--transitions", type=int, default=1, help="describes that show a passing state")
    parser.add_argument(
        "--elsewhere",
        type=services_elsewhere,
        default=frozenset(),
        metavar="SERVICES",
        help=f"of {','.join(SERVED_ELSEWHERE)}: those that another emulator serves",
    )
    parser.add_argument("--parent", type=int, metavar="PID", help="ends when this is no longer its parent")
    parser.add_argument(
        "--rules", action="store_true", help="print what the model claims about AWS, and exit"
    )
    return parser


def services_elsewhere(text: str) -> frozenset[str]:
    """The services of a list like kinesis,s3; raises ArgumentTypeError for any other."""
    services = frozenset(text.split(","))
    if unknown := sorted(services - set(SERVED_ELSEWHERE)):
        raise argparse.ArgumentTypeError(
            f"{', '.join(map(repr, unknown))} cannot be served elsewhere: {', '.join(SERVED_ELSEWHERE)} can"
        )
    return services


def default_subnet_ids(account: str, region: str) -> list[str]:
    """Of the default VPC, one in each availability zone, in the order of the zones."""
    with LOCK:
        backend = backend_of("ec2", account, region)
        return [subnet.id for subnet in default_subnets(backend)]


def install_model() -> None:
    """moto answers as our model says, in its server and in mock_aws; calling it again changes nothing."""
    from moto.core import errors

    if INSTALLED:
        return
    errors.COMMON_ERROR_CODES = [*errors.COMMON_ERROR_CODES, *UNLISTED_CODES]
    for name, answer in ANSWERS.items():
        service, operation = name.split(".")
        module, class_name = RESPONSES[service]
        responses = getattr(importlib.import_module(module), class_name)
        method = camelcase_to_underscores(operation)
        original = getattr(responses, method, None)
        INSTALLED[name] = "replaced" if original else "added"
        setattr(responses, method, response_method(service, operation, answer, original))
    for name, patch in PATCHES.items():
        module, class_name, method = name.rsplit(".", 2)
        target = getattr(importlib.import_module(module), class_name)
        original = target.__dict__[method]
        INSTALLED[name] = "replaced"
        setattr(target, method, patched_method(patch, original))


# ----------------------------------------------------------------------------------------------------
# How a rule hooks into moto
# ----------------------------------------------------------------------------------------------------

CURRENT: list[EmulatedAws] = [EmulatedAws()]
INSTALLED: dict[str, str] = {}  # operation or patched method: added | replaced
ANSWERS: dict[str, Callable[[Call], Any]] = {}
PATCHES: dict[str, Callable[..., Any]] = {}
RULES: list[Rule] = [
    Rule("*", "an operation that is not there is NotImplemented, 501: ours, AWS has them all", "inferred"),
    Rule("*", "values outside the service model's enums and bounds are refused", "documented"),
    Rule("*", "metrics of a function: by FunctionName, and by FunctionName and Resource", "documented"),
    Rule("*", "metrics of a DMS task: by instance, and by the last part of the task's ARN", "observed"),
    Rule("*", "streams and buckets that are served elsewhere exist: nobody here can look", "inferred"),
]
LOCK = threading.RLock()  # the server is threaded, moto's stores are not
GONE = "gone"


class Fault(ServiceException):
    """An error as AWS words it: code, message."""


class NotModelledError(NotImplementedError):
    """Of an operation that is there: what of it is not."""


@dataclass
class Call:
    """One request to an operation of ours."""

    service: str
    operation: str
    request: dict[str, Any]  # by the service model's names
    response: Any  # moto's, for what it knows of the request
    moto: Callable[[], Any]  # moto's own answer

    @property
    def account(self) -> str:
        return str(self.response.current_account)

    @property
    def region(self) -> str:
        return str(self.response.region)

    def backend(self, service: str = "") -> Any:
        return backend_of(service or self.service, self.account, self.region)

    def arn(self, resource: str) -> str:
        return f"arn:{self.response.partition}:{self.service}:{self.region}:{self.account}:{resource}"


@dataclass
class Life:
    """The state of something that takes time: `state` for some describes, then `coming`."""

    state: str
    coming: str = ""
    polls: int = 0
    held: bool = False  # describes bring nothing: somebody reports what has come
    then: Callable[[], None] | None = None
    shape: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)  # what AWS knows and does not show

    def go(self, state: str, coming: str, then: Callable[[], None] | None = None) -> None:
        self.state, self.coming, self.then = state, coming, then
        self.polls, self.held = CURRENT[0].transitions, False

    def settle(self, state: str) -> None:
        self.state, self.coming, self.then = state, "", None

    def arrive(self) -> None:
        """What was coming has come."""
        then = self.then
        self.settle(self.coming)
        if then:
            then()

    def poll(self) -> str:
        """The state that this describe shows."""
        if self.coming and self.polls:
            self.polls -= 1
        elif self.coming and not self.held:
            self.arrive()
        return self.state


def documented(rule: str) -> tuple[str, Any]:
    return rule, "documented"


def observed(rule: str) -> tuple[str, Any]:
    return rule, "observed"


def inferred(rule: str) -> tuple[str, Any]:
    return rule, "inferred"


def answers(name: str, *rules: tuple[str, Any]) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Registers the answer to `service.Operation`: a dict by the service model, None, moto's own,
    or a function that gives one, to be called without the lock."""
    RULES.extend(Rule(name, *rule) for rule in rules)

    def register(answer: Callable[[Call], Any]) -> Callable[[Call], Any]:
        ANSWERS[name] = answer
        return answer

    return register


def patches(name: str, *rules: tuple[str, Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a stand-in for `module.Class.method` of moto; its first argument is moto's own."""
    RULES.extend(Rule(name, *rule) for rule in rules)

    def register(patch: Callable[..., Any]) -> Callable[..., Any]:
        PATCHES[name] = patch
        return patch

    return register


def response_method(
    service: str, operation: str, answer: Callable[[Call], Any], original: Any
) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        request = parsed_request(self, service, operation)
        with LOCK:
            moto = functools.partial(original, self) if original else unanswered
            result = answer(Call(service, operation, request, self, moto))
        if callable(result):
            result = result()
        if result is None:
            return EmptyResult()
        return ActionResult(result) if isinstance(result, dict) else result

    return method


def unanswered() -> Any:
    raise NotImplementedError


def patched_method(patch: Callable[..., Any], original: Any) -> Any:
    if isinstance(original, property):
        return property(lambda self: patch(original.fget, self))

    @functools.wraps(original)
    def method(*arguments: Any, **named: Any) -> Any:
        return patch(original, *arguments, **named)

    return method


def parsed_request(response: Any, service: str, operation: str) -> dict[str, Any]:
    """The request by its service model; raises a Fault for a value outside the model."""
    service_model = get_service_model(service)
    model = service_model.operation_model(operation)
    response._get_action()  # sets uri_match, where REST puts parameters
    request = response.normalized_request
    parser = PROTOCOL_PARSERS[determine_request_protocol(service_model, request.content_type)](model)
    parsed: dict[str, Any] = parser.parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": request.data,
            "url_path": request.path,
            "url_params": response.uri_match,
        }
    )
    faults = list(constraint_faults(model.input_shape, parsed, "")) if model.input_shape else []
    if faults:
        count = f"{len(faults)} validation error{'s' if len(faults) > 1 else ''} detected: "
        raise Fault(MALFORMED.get(service, "ValidationException"), count + "; ".join(faults))
    return parsed


def constraint_faults(shape: Any, value: Any, path: str) -> Iterator[str]:
    """What AWS's front refuses; patterns are left out (their syntax is not Python's)."""
    failed = f"at '{path}' failed to satisfy constraint: Member must"
    if shape.type_name == "structure":
        for name in shape.required_members:
            if value.get(name) is None:
                yield (
                    f"Value null at '{path}{name[0].lower()}{name[1:]}' failed to satisfy constraint:"
                    " Member must not be null"
                )
        for name, member in shape.members.items():
            if value.get(name) is not None:
                dot = "." if member.type_name == "structure" else ""
                yield from constraint_faults(member, value[name], f"{path}{name[0].lower()}{name[1:]}{dot}")
    elif shape.type_name == "list":
        for index, element in enumerate(value, 1):
            yield from constraint_faults(shape.member, element, f"{path}.{index}.member")
    if getattr(shape, "enum", None) and value not in shape.enum:
        yield f"Value '{value}' {failed} satisfy enum value set: [{', '.join(shape.enum)}]"
    if isinstance(value, bool) or not isinstance(value, (int, float, str, bytes, list)):
        return
    measured: float = value if isinstance(value, (int, float)) else len(value)
    kind = "value" if isinstance(value, (int, float)) else "length"
    if "min" in shape.metadata and measured < shape.metadata["min"]:
        yield f"Value {failed} have {kind} greater than or equal to {shape.metadata['min']}"
    if "max" in shape.metadata and measured > shape.metadata["max"]:
        yield f"Value {failed} have {kind} less than or equal to {shape.metadata['max']}"


def backend_of(service: str, account: str, region: str) -> Any:
    from moto.backends import get_backend

    return get_backend({"lambda": "awslambda"}.get(service, service))[account][  # type: ignore[call-overload]
        "aws" if service == "iam" else region
    ]


def all_backends(service: str) -> Iterator[Any]:
    from moto.backends import get_backend

    for account in get_backend(service).values():  # type: ignore[call-overload]
        yield from account.values()


def role_of(account: str, role_arn: str) -> Any:
    """moto's role, or None."""
    roles = backend_of("iam", account, "").roles.values()
    return next((role for role in roles if role.arn == role_arn), None)


def assumable(account: str, role_arn: str, principal: str) -> bool:
    """Whether the role exists, trusts the service, and IAM has had its time (EmulatedAws.role_lag)."""
    role = role_of(account, role_arn)
    if role is None:
        return False
    trusted: list[str] = []
    for statement in statements(role.assume_role_policy_document):
        if statement.get("Effect") == "Allow" and "sts:AssumeRole" in listed(statement.get("Action")):
            named = statement.get("Principal", {})
            trusted += listed(named.get("Service") if isinstance(named, dict) else named)
    if principal not in trusted:
        return False
    aws = CURRENT[0]
    aws.assumed[role.id] = aws.assumed.get(role.id, 0) + 1
    return aws.assumed[role.id] > aws.role_lag


def role_allows(account: str, role_arn: str, action: str, resource: str) -> bool:
    """Whether the role's policies allow it; Conditions are taken as met, NotAction and NotResource as not."""
    role = role_of(account, role_arn)
    if role is None:
        return False
    documents = [*role.policies.values()]
    for policy in role.managed_policies.values():
        documents += [version.document for version in policy.versions if version.is_default]
    allowed = False
    for statement in [found for document in documents for found in statements(document)]:
        actions = [text.lower() for text in listed(statement.get("Action"))]
        if not any(fnmatch.fnmatchcase(action.lower(), pattern) for pattern in actions):
            continue
        if not any(fnmatch.fnmatchcase(resource, pattern) for pattern in listed(statement.get("Resource"))):
            continue
        if statement.get("Effect") == "Deny" and "Condition" not in statement:
            return False
        allowed = allowed or statement.get("Effect") == "Allow"
    return allowed


def statements(document: Any) -> list[dict[str, Any]]:
    parsed = json.loads(document) if isinstance(document, str) else document
    found = parsed.get("Statement", [])
    return found if isinstance(found, list) else [found]


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [] if value is None else [value]


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)  # moto's serializers take naive UTC


# ----------------------------------------------------------------------------------------------------
# DMS: all of it ours, kept on moto's backend so that its reset and its regions apply
# ----------------------------------------------------------------------------------------------------


@dataclass
class Dms:
    """What one account has in one region, by ARN (connections by instance and endpoint)."""

    groups: dict[str, Life] = field(default_factory=dict)
    instances: dict[str, Life] = field(default_factory=dict)
    endpoints: dict[str, Life] = field(default_factory=dict)
    tasks: dict[str, Life] = field(default_factory=dict)
    connections: dict[tuple[str, str], Life] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)


def dms_of(backend: Any) -> Dms:
    model: Dms = backend.__dict__.setdefault("emulated", Dms())
    return model


def not_found(what: str) -> Fault:
    return Fault("ResourceNotFoundFault", f"{what} not found.")


def known(store: dict[Any, Life], key: Any, what: str) -> Life:
    if key not in store:
        raise not_found(f"{what} {key}")
    return store[key]


def invalid(message: str) -> Fault:
    return Fault("InvalidParameterValueException", message)


def clash(message: str) -> Fault:
    return Fault("InvalidParameterCombinationException", message)


def wrong_state(message: str) -> Fault:
    return Fault("InvalidResourceStateFault", message)


def identifier(text: str, most: int = 255) -> str:
    """Lower-cased, as AWS stores it."""
    if not re.fullmatch(r"[A-Za-z](?:-?[A-Za-z0-9])*", text) or len(text) > most:
        raise invalid(f"The identifier {text!r} is not valid.")
    return text.lower()


def new_arn(call: Call, kind: str) -> str:
    """With a random id: nobody can build a DMS ARN from a name."""
    alphabet = string.ascii_uppercase + string.digits
    name = call.request.get("ResourceIdentifier") or "".join(random.choices(alphabet, k=26))
    if len(name) > 31:
        raise invalid("ResourceIdentifier can have up to 31 characters.")
    return call.arn(f"{kind}:{name}")


def refuse_duplicate(store: dict[Any, Life], key: str, name: str) -> None:
    if any(life.shape[key] == name for life in store.values()):
        raise Fault("ResourceAlreadyExistsFault", f"The resource {name} already exists.")


def tag(call: Call, arn: str) -> None:
    dms_of(call.backend()).tags[arn] = {each["Key"]: each["Value"] for each in call.request.get("Tags") or []}


def shown(life: Life, status: str) -> dict[str, Any]:
    return {**life.shape, status: life.state} if status else dict(life.shape)


def described(
    call: Call, key: str, store: dict[Any, Life], status: str, filters: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """One page of what matches all filters; every object in the answer has aged by one describe."""
    asked = call.request.get("Filters") or []
    for each in asked:
        if each["Name"] not in filters:
            raise invalid(f"The filter {each['Name']} is not valid: {', '.join(filters)}.")
    found = [
        (name, life)
        for name, life in store.items()
        if all({str(life.shape.get(k)) for k in filters[f["Name"]]} & set(f["Values"]) for f in asked)
    ]
    for name, life in found:
        if life.poll() == GONE:
            store.pop(name, None)
    alive = [life for _, life in found if life.state != GONE]
    if asked and not alive:
        raise not_found(f"{key} matching the filters")
    return page(call, key, [shown(life, status) for life in alive])


def page(call: Call, key: str, shapes: list[dict[str, Any]]) -> dict[str, Any]:
    size = call.request.get("MaxRecords") or 100
    if not 20 <= size <= 100:
        raise invalid("MaxRecords must be between 20 and 100.")
    start = int(call.request.get("Marker") or 0)
    more = {"Marker": str(start + size)} if start + size < len(shapes) else {}
    return {key: shapes[start : start + size], **more}


def check_vpc_role(call: Call) -> None:
    role_arn = f"arn:{call.response.partition}:iam::{call.account}:role/dms-vpc-role"
    role = role_of(call.account, role_arn)
    attached = role is not None and (role.managed_policies or role.policies)
    if not attached or not assumable(call.account, role_arn, "dms.amazonaws.com"):
        raise Fault("AccessDeniedFault", f"The IAM Role {role_arn} is not configured properly.")


def covered_subnets(call: Call) -> dict[str, Any]:
    """The part of a subnet group's shape that follows from SubnetIds."""
    subnets = []
    for subnet_id in call.request["SubnetIds"]:
        try:
            subnets.append(call.backend("ec2").get_subnet(subnet_id))
        except Exception as error:
            raise Fault("InvalidSubnet", f"The subnet {subnet_id} does not exist.") from error
    if len({subnet.vpc_id for subnet in subnets}) > 1:
        raise Fault("InvalidSubnet", "The subnets are not in the same VPC.")
    if len({subnet.availability_zone for subnet in subnets}) < 2:
        raise Fault(
            "ReplicationSubnetGroupDoesNotCoverEnoughAZs",
            "Replication Subnet Group doesn't meet availability zone coverage requirement. Please add subnets"
            " to cover at least 2 availability zones. Current coverage: 1",
        )
    return {
        "VpcId": subnets[0].vpc_id,
        "Subnets": [
            {
                "SubnetIdentifier": subnet.id,
                "SubnetAvailabilityZone": {"Name": subnet.availability_zone},
                "SubnetStatus": "Active",
            }
            for subnet in subnets
        ],
    }


@answers(
    "dms.CreateReplicationSubnetGroup",
    documented("the subnets exist and cover at least two availability zones"),
    observed("without a usable dms-vpc-role: AccessDeniedFault 'is not configured properly'"),
    inferred("usable = trusts dms.amazonaws.com and has a policy"),
)
def create_subnet_group(call: Call) -> dict[str, Any]:
    check_vpc_role(call)
    groups = dms_of(call.backend()).groups
    name = call.request["ReplicationSubnetGroupIdentifier"].lower()
    refuse_duplicate(groups, "ReplicationSubnetGroupIdentifier", name)
    arn = call.arn(f"subgrp:{name}")
    groups[arn] = Life(
        "Complete",
        shape={
            "ReplicationSubnetGroupIdentifier": name,
            "ReplicationSubnetGroupDescription": call.request["ReplicationSubnetGroupDescription"],
            "SupportedNetworkTypes": ["IPV4"],
            **covered_subnets(call),
        },
    )
    tag(call, arn)
    return {"ReplicationSubnetGroup": shown(groups[arn], "SubnetGroupStatus")}


@answers("dms.ModifyReplicationSubnetGroup", documented("replaces SubnetIds under the same conditions"))
def modify_subnet_group(call: Call) -> dict[str, Any]:
    arn = call.arn("subgrp:" + call.request["ReplicationSubnetGroupIdentifier"].lower())
    group = known(dms_of(call.backend()).groups, arn, "Replication subnet group")
    group.shape |= covered_subnets(call)
    if "ReplicationSubnetGroupDescription" in call.request:
        key = "ReplicationSubnetGroupDescription"
        group.shape[key] = call.request[key]
    return {"ReplicationSubnetGroup": shown(group, "SubnetGroupStatus")}


@answers("dms.DeleteReplicationSubnetGroup", documented("refused while an instance is in it"))
def delete_subnet_group(call: Call) -> None:
    dms = dms_of(call.backend())
    name = call.request["ReplicationSubnetGroupIdentifier"].lower()
    known(dms.groups, call.arn(f"subgrp:{name}"), "Replication subnet group")
    for instance in dms.instances.values():
        if instance.memory["group"] == name:
            raise wrong_state(f"Replication Subnet Group {name} is in use by a replication instance.")
    del dms.groups[call.arn(f"subgrp:{name}")]
    dms.tags.pop(call.arn(f"subgrp:{name}"), None)


@answers(
    "dms.DescribeReplicationSubnetGroups",
    documented("no match of a filter: ResourceNotFoundFault; MaxRecords 20..100, Marker"),
    inferred("an unknown filter name: InvalidParameterValueException"),
)
def describe_subnet_groups(call: Call) -> dict[str, Any]:
    filters = {"replication-subnet-group-id": ("ReplicationSubnetGroupIdentifier",)}
    groups = dms_of(call.backend()).groups
    return described(call, "ReplicationSubnetGroups", groups, "SubnetGroupStatus", filters)


@answers(
    "dms.DescribeOrderableReplicationInstances",
    documented("pages of classes x engine versions, betas marked"),
)
def describe_orderable(call: Call) -> dict[str, Any]:
    orderable = [
        {
            "EngineVersion": version,
            "ReplicationInstanceClass": name,
            "StorageType": "gp2",
            "MinAllocatedStorage": DMS_STORAGE_GB[0],
            "MaxAllocatedStorage": DMS_STORAGE_GB[1],
            "DefaultAllocatedStorage": 50,
            "IncludedAllocatedStorage": 50,
            "AvailabilityZones": [call.region + zone for zone in "abc"],
            "ReleaseStatus": status,
        }
        for name in DMS_CLASSES
        for version, status in DMS_VERSIONS.items()
    ]
    return page(call, "OrderableReplicationInstances", orderable)


def check_orderable(request: dict[str, Any]) -> None:
    wrong = []
    if request.get("ReplicationInstanceClass", DMS_CLASSES[0]) not in DMS_CLASSES:
        wrong.append(f"replication instance class {request['ReplicationInstanceClass']}")
    if request.get("EngineVersion", DMS_DEFAULT_VERSION) not in DMS_VERSIONS:
        wrong.append(f"engine version {request['EngineVersion']}")
    low, high = DMS_STORAGE_GB
    if not low <= request.get("AllocatedStorage", 50) <= high:
        wrong.append(f"allocated storage {request['AllocatedStorage']}")
    if wrong:
        raise invalid(f"Not orderable: {', '.join(wrong)}.")


def security_groups(call: Call) -> list[dict[str, str]]:
    for group_id in call.request.get("VpcSecurityGroupIds", []):
        if call.backend("ec2").get_security_group_from_id(group_id) is None:
            raise invalid(f"The security group {group_id} does not exist.")
    asked = call.request.get("VpcSecurityGroupIds", [])
    return [{"VpcSecurityGroupId": group_id, "Status": "active"} for group_id in asked]


@answers(
    "dms.CreateReplicationInstance",
    documented(
        "lower-cased identifier, creating then available, default engine version, public unless told not"
    ),
    documented("needs the dms-vpc-role; a second one of the name is refused"),
    inferred("class, engine version and storage must be orderable, security groups must exist"),
)
def create_instance(call: Call) -> dict[str, Any]:
    check_vpc_role(call)
    check_orderable(call.request)
    dms = dms_of(call.backend())
    name = identifier(call.request["ReplicationInstanceIdentifier"], 63)
    refuse_duplicate(dms.instances, "ReplicationInstanceIdentifier", name)
    group_name = call.request.get("ReplicationSubnetGroupIdentifier", "default").lower()
    group = known(dms.groups, call.arn(f"subgrp:{group_name}"), "Replication subnet group")
    arn = new_arn(call, "rep")
    public = call.request.get("PubliclyAccessible", True)
    instance = Life("creating", memory={"group": group_name})
    instance.shape = {
        "ReplicationInstanceIdentifier": name,
        "ReplicationInstanceClass": call.request["ReplicationInstanceClass"],
        "AllocatedStorage": call.request.get("AllocatedStorage", 50),
        "InstanceCreateTime": now(),
        "VpcSecurityGroups": security_groups(call),
        "AvailabilityZone": call.request.get("AvailabilityZone", call.region + "a"),
        "ReplicationSubnetGroup": shown(group, "SubnetGroupStatus"),
        "PreferredMaintenanceWindow": call.request.get("PreferredMaintenanceWindow", "sun:06:00-sun:14:00"),
        "PendingModifiedValues": {},
        "MultiAZ": call.request.get("MultiAZ", False),
        "EngineVersion": call.request.get("EngineVersion", DMS_DEFAULT_VERSION),
        "AutoMinorVersionUpgrade": call.request.get("AutoMinorVersionUpgrade", True),
        "KmsKeyId": call.request.get("KmsKeyId", f"arn:aws:kms:{call.region}:{call.account}:key/aws-dms"),
        "ReplicationInstanceArn": arn,
        "PubliclyAccessible": public,
        "NetworkType": call.request.get("NetworkType", "IPV4"),
    }
    instance.go("creating", "available", lambda: instance.shape.update(addresses(public)))
    dms.instances[arn] = instance
    tag(call, arn)
    record_event(dms, name, "creation")
    return {"ReplicationInstance": shown(instance, "ReplicationInstanceStatus")}


def addresses(public: bool) -> dict[str, Any]:
    return {
        "ReplicationInstancePrivateIpAddress": "10.0.0.10",
        "ReplicationInstancePrivateIpAddresses": ["10.0.0.10"],
        "ReplicationInstancePublicIpAddresses": ["203.0.113.10"] if public else [],
    }


def record_event(dms: Dms, name: str, category: str) -> None:
    dms.events.append(
        {
            "SourceIdentifier": name,
            "SourceType": "replication-instance",
            "Message": f"Replication instance {category}",
            "EventCategories": [category],
            "Date": now(),
        }
    )


@answers(
    "dms.DescribeReplicationInstances",
    documented("no match of a filter: ResourceNotFoundFault; MaxRecords 20..100, Marker"),
    inferred("an unknown filter name: InvalidParameterValueException"),
)
def describe_instances(call: Call) -> dict[str, Any]:
    filters = {
        "replication-instance-arn": ("ReplicationInstanceArn",),
        "replication-instance-id": ("ReplicationInstanceIdentifier",),
        "replication-instance-class": ("ReplicationInstanceClass",),
        "engine-version": ("EngineVersion",),
    }
    instances = dms_of(call.backend()).instances
    return described(call, "ReplicationInstances", instances, "ReplicationInstanceStatus", filters)


@answers(
    "dms.ModifyReplicationInstance",
    documented("class, storage, MultiAZ and version wait in PendingModifiedValues unless ApplyImmediately"),
    documented("another 3.x engine version needs AllowMajorVersionUpgrade"),
    inferred("only an available instance; modifying, then available"),
)
def modify_instance(call: Call) -> dict[str, Any]:
    check_orderable(call.request)
    instance = known(
        dms_of(call.backend()).instances, call.request["ReplicationInstanceArn"], "Replication instance"
    )
    if instance.state != "available":
        raise wrong_state(f"Replication instance is {instance.state}, not available.")
    check_upgrade(instance.shape["EngineVersion"], call.request)
    if "VpcSecurityGroupIds" in call.request:
        instance.shape["VpcSecurityGroups"] = security_groups(call)
    for key in ("PreferredMaintenanceWindow", "AutoMinorVersionUpgrade", "NetworkType"):
        if key in call.request:
            instance.shape[key] = call.request[key]
    late = ("ReplicationInstanceClass", "AllocatedStorage", "MultiAZ", "EngineVersion")
    pending = {
        key: call.request[key]
        for key in late
        if call.request.get(key, instance.shape[key]) != instance.shape[key]
    }
    instance.shape["PendingModifiedValues"] = {**instance.shape["PendingModifiedValues"], **pending}
    if call.request.get("ApplyImmediately"):
        instance.go("modifying", "available", lambda: apply_pending(instance))
    return {"ReplicationInstance": shown(instance, "ReplicationInstanceStatus")}


def apply_pending(instance: Life) -> None:
    instance.shape |= instance.shape["PendingModifiedValues"]
    instance.shape["PendingModifiedValues"] = {}


def check_upgrade(current: str, request: dict[str, Any]) -> None:
    wanted = request.get("EngineVersion", current)
    if [int(part) for part in wanted.split(".")] < [int(part) for part in current.split(".")]:
        raise clash(f"Cannot downgrade from {current} to {wanted}.")
    if wanted.split(".")[:2] != current.split(".")[:2] and not request.get("AllowMajorVersionUpgrade"):
        raise clash("The AllowMajorVersionUpgrade flag must be present when upgrading to a new major version")


@answers(
    "dms.DeleteReplicationInstance",
    documented("refused while it has tasks"),
    inferred("deleting, then gone with its connections"),
)
def delete_instance(call: Call) -> dict[str, Any]:
    dms = dms_of(call.backend())
    arn = call.request["ReplicationInstanceArn"]
    instance = known(dms.instances, arn, "Replication instance")
    if any(task.shape["ReplicationInstanceArn"] == arn for task in dms.tasks.values()):
        raise wrong_state("Replication instance has one or more replication tasks.")
    if instance.state not in ("available", "failed"):
        raise wrong_state(f"Replication instance is {instance.state}, it cannot be deleted.")
    instance.go("deleting", GONE, lambda: forget(dms, arn))
    record_event(dms, instance.shape["ReplicationInstanceIdentifier"], "deletion")
    return {"ReplicationInstance": shown(instance, "ReplicationInstanceStatus")}


def forget(dms: Dms, arn: str) -> None:
    dms.tags.pop(arn, None)
    for pair in [pair for pair in dms.connections if arn in pair]:
        del dms.connections[pair]


def check_endpoint(call: Call, shape: dict[str, Any]) -> None:
    """Raises a Fault when AWS would not take the endpoint: engine, secret and roles."""
    engine = shape["EngineName"]
    if engine not in ENGINES or (engine == "kinesis") != (shape["EndpointType"] == "target"):
        raise invalid(
            f"{engine} as {shape['EndpointType']} is not modelled here:"
            " postgres as source and kinesis as target are.",
        )
    settings = shape.get("PostgreSQLSettings") or {}
    secret_role, secret = settings.get("SecretsManagerAccessRoleArn"), settings.get("SecretsManagerSecretId")
    clear = [key for key in ("Username", "ServerName", "Port") if shape.get(key) is not None]
    clear += [key for key in ("Username", "ServerName", "Port") if settings.get(key) is not None]
    if secret and clear:
        raise clash(f"SecretsManagerSecretId and {', '.join(clear)} are exclusive.")
    if secret:
        check_role(call, secret_role or "", f"dms.{call.region}.amazonaws.com")
        if not any(
            secret in (each.arn, each.name) for each in call.backend("secretsmanager").secrets.values()
        ):
            raise Fault("AccessDeniedFault", f"Unable to find Secrets Manager secret {secret}.")
    elif engine == "postgres" and not (shape.get("ServerName") or settings.get("ServerName")):
        raise clash("ServerName or SecretsManagerSecretId is needed.")
    if engine == "kinesis":
        check_role(
            call, (shape.get("KinesisSettings") or {}).get("ServiceAccessRoleArn", ""), "dms.amazonaws.com"
        )


def check_role(call: Call, role_arn: str, principal: str) -> None:
    if not assumable(call.account, role_arn, principal):
        raise Fault("AccessDeniedFault", f"The IAM Role {role_arn} is not configured properly.")


def endpoint_shape(request: dict[str, Any]) -> dict[str, Any]:
    """What AWS shows of a request: never a password."""
    shape = {
        key: value for key, value in request.items() if key not in ("Password", "Tags", "ResourceIdentifier")
    }
    if "PostgreSQLSettings" in shape:
        shape["PostgreSQLSettings"] = {
            k: v for k, v in shape["PostgreSQLSettings"].items() if k != "Password"
        }
    return shape


@answers(
    "dms.CreateEndpoint",
    documented(
        "lower-cased identifier; a second one of the name is refused; active at once; no password is shown"
    ),
    documented("a secret and clear-text values are exclusive"),
    documented(
        "the role for the secret trusts dms.REGION.amazonaws.com, the one for Kinesis dms.amazonaws.com"
    ),
    inferred("a role that does not: AccessDeniedFault; KinesisSettings come back with AWS's defaults"),
    inferred("postgres as source and kinesis as target only; other engines are refused as not modelled"),
)
def create_endpoint(call: Call) -> dict[str, Any]:
    dms = dms_of(call.backend())
    name = identifier(call.request["EndpointIdentifier"])
    refuse_duplicate(dms.endpoints, "EndpointIdentifier", name)
    check_endpoint(call, call.request)
    arn = new_arn(call, "endpoint")
    shape = {"SslMode": "none", **endpoint_shape(call.request)}
    shape |= {
        "EndpointIdentifier": name,
        "EndpointArn": arn,
        "EngineDisplayName": ENGINES[shape["EngineName"]],
    }
    if shape["EngineName"] == "kinesis":
        shape["KinesisSettings"] = {**KINESIS_ENDPOINT_SETTINGS, **shape["KinesisSettings"]}
    dms.endpoints[arn] = Life("active", shape=shape)
    tag(call, arn)
    return {"Endpoint": shown(dms.endpoints[arn], "Status")}


@answers(
    "dms.DescribeEndpoints",
    documented("no match of a filter: ResourceNotFoundFault; MaxRecords 20..100, Marker"),
    inferred("an unknown filter name: InvalidParameterValueException"),
)
def describe_endpoints(call: Call) -> dict[str, Any]:
    filters = {
        "endpoint-arn": ("EndpointArn",),
        "endpoint-type": ("EndpointType",),
        "endpoint-id": ("EndpointIdentifier",),
        "engine-name": ("EngineName",),
    }
    return described(call, "Endpoints", dms_of(call.backend()).endpoints, "Status", filters)


def tasks_on(dms: Dms, endpoint_arn: str) -> list[Life]:
    ends = ("SourceEndpointArn", "TargetEndpointArn")
    return [task for task in dms.tasks.values() if endpoint_arn in (task.shape[end] for end in ends)]


@answers(
    "dms.ModifyEndpoint",
    documented("settings are merged into what is there, or with ExactSettings replace it"),
    documented("refused while a task that uses it runs"),
    observed("AWS itself tests the endpoint's connections anew"),
)
def modify_endpoint(call: Call) -> dict[str, Any]:
    dms = dms_of(call.backend())
    endpoint = known(dms.endpoints, call.request["EndpointArn"], "Endpoint")
    if any(
        task.state not in ("ready", "stopped", "failed")
        for task in tasks_on(dms, call.request["EndpointArn"])
    ):
        raise wrong_state("The endpoint is used by a running replication task; stop the task first.")
    wanted = dict(endpoint.shape)
    for key, value in endpoint_shape(call.request).items():
        if key.endswith("Settings") and key != "ExactSettings" and not call.request.get("ExactSettings"):
            wanted[key] = {**(wanted.get(key) or {}), **value}
        elif key not in ("EndpointArn", "ExactSettings"):
            wanted[key] = value
    wanted["EndpointIdentifier"] = identifier(wanted["EndpointIdentifier"])
    others = {arn: life for arn, life in dms.endpoints.items() if life is not endpoint}
    refuse_duplicate(others, "EndpointIdentifier", wanted["EndpointIdentifier"])
    check_endpoint(call, wanted)
    endpoint.shape = wanted
    for (instance_arn, endpoint_arn), connection in dms.connections.items():
        if endpoint_arn == call.request["EndpointArn"]:
            connection.shape["LastFailureMessage"] = ""
            start_test(call, connection, dms.instances[instance_arn], endpoint)
    return {"Endpoint": shown(endpoint, "Status")}


@answers("dms.DeleteEndpoint", documented("refused while a task uses it"), inferred("deleting, then gone"))
def delete_endpoint(call: Call) -> dict[str, Any]:
    dms = dms_of(call.backend())
    arn = call.request["EndpointArn"]
    endpoint = known(dms.endpoints, arn, "Endpoint")
    if tasks_on(dms, arn):
        raise wrong_state("The endpoint is part of one or more replication tasks.")
    if endpoint.state == "deleting":
        raise wrong_state("The endpoint is being deleted.")
    endpoint.go("deleting", GONE, lambda: forget(dms, arn))
    return {"Endpoint": shown(endpoint, "Status")}


@answers(
    "dms.TestConnection",
    documented("testing, then successful or failed with LastFailureMessage; as often as one likes"),
    inferred("the instance must be available; fails when the stream or the role's rights on it are missing"),
)
def test_connection(call: Call) -> dict[str, Any]:
    dms = dms_of(call.backend())
    instance_arn, endpoint_arn = call.request["ReplicationInstanceArn"], call.request["EndpointArn"]
    instance = known(dms.instances, instance_arn, "Replication instance")
    endpoint = known(dms.endpoints, endpoint_arn, "Endpoint")
    if instance.state != "available":
        raise wrong_state(f"Replication instance is {instance.state}, not available.")
    connection = dms.connections[instance_arn, endpoint_arn] = Life("testing")
    connection.shape = {
        "ReplicationInstanceArn": instance_arn,
        "EndpointArn": endpoint_arn,
        "LastFailureMessage": "",
        "EndpointIdentifier": endpoint.shape["EndpointIdentifier"],
        "ReplicationInstanceIdentifier": instance.shape["ReplicationInstanceIdentifier"],
    }
    start_test(call, connection, instance, endpoint)
    return {"Connection": shown(connection, "Status")}


def start_test(call: Call, connection: Life, instance: Life, endpoint: Life) -> None:
    failure = CURRENT[0].connection_failures.get(endpoint.shape["EndpointIdentifier"], "")
    failure = failure or kinesis_failure(call, endpoint.shape)
    if failure:
        connection.go("testing", "failed", lambda: connection.shape.update(LastFailureMessage=failure))
    else:
        connection.go("testing", "successful")


def kinesis_failure(call: Call, endpoint: dict[str, Any]) -> str:
    if endpoint["EngineName"] != "kinesis":
        return ""
    role, stream_arn = (
        endpoint["KinesisSettings"].get(key, "") for key in ("ServiceAccessRoleArn", "StreamArn")
    )
    if not stream_exists(call, stream_arn):
        return f"Test Endpoint failed: the stream {stream_arn} does not exist."
    for action in ("DescribeStream", "PutRecord", "PutRecords"):
        if not role_allows(call.account, role, f"kinesis:{action}", stream_arn):
            return f"Test Endpoint failed: {role} may not kinesis:{action} {stream_arn}."
    return ""


@answers(
    "dms.DescribeConnections",
    documented("filters are ANDed; no match: ResourceNotFoundFault; MaxRecords 20..100, Marker"),
    inferred("an unknown filter name: InvalidParameterValueException"),
)
def describe_connections(call: Call) -> dict[str, Any]:
    filters = {"endpoint-arn": ("EndpointArn",), "replication-instance-arn": ("ReplicationInstanceArn",)}
    return described(call, "Connections", dms_of(call.backend()).connections, "Status", filters)


@answers("dms.DeleteConnection", documented("deleting, then gone"))
def delete_connection(call: Call) -> dict[str, Any]:
    pair = call.request["ReplicationInstanceArn"], call.request["EndpointArn"]
    connection = known(dms_of(call.backend()).connections, pair, "Connection")
    connection.go("deleting", GONE)
    return {"Connection": shown(connection, "Status")}


def mapping_rules(text: str) -> list[dict[str, Any]]:
    """The rules of a TableMappings document; raises a Fault for one that DMS would not take."""

    def refused(why: str) -> Fault:
        return invalid(f"Invalid table mappings JSON: {why}")

    try:
        rules = json.loads(text)["rules"]
        selections = [rule for rule in rules if rule["rule-type"] == "selection"]
        ids, names = [rule["rule-id"] for rule in rules], [rule["rule-name"] for rule in rules]
    except (ValueError, KeyError, TypeError) as error:
        raise refused(f"not an object with rules of rule-type, rule-id and rule-name ({error})") from error
    if len(set(ids)) < len(ids) or len(set(names)) < len(names):
        raise refused("rule-id and rule-name must be unique")
    if not any(rule.get("rule-action") in ("include", "explicit") for rule in selections):
        raise refused("at least one selection rule must include")
    for rule in rules:
        if rule["rule-type"] not in ("selection", "transformation", "table-settings", "object-mapping"):
            raise refused(f"rule-type {rule['rule-type']}")
        locator = rule.get("object-locator", {})
        if rule["rule-type"] != "transformation" and not {"schema-name", "table-name"} <= set(locator):
            raise refused(f"rule {rule['rule-id']} has no object-locator with schema-name and table-name")
        actions = ("map-record-to-record", "map-record-to-document")
        if rule["rule-type"] == "object-mapping" and rule.get("rule-action") not in actions:
            raise refused(f"rule-action {rule.get('rule-action')} of an object-mapping")
    return list(rules)


def merged_settings(text: str, verb: str) -> dict[str, Any]:
    """Given task settings within AWS's; raises a Fault for what is no settings document."""
    try:
        given = json.loads(text)
        unknown = [key for key in given if key not in TASK_SETTINGS]
        for section, values in given.items():
            if isinstance(values, dict) and isinstance(TASK_SETTINGS.get(section), dict):
                unknown += [f"{section}.{key}" for key in values if key not in TASK_SETTINGS[section]]
    except (ValueError, TypeError, AttributeError) as error:
        raise invalid("Invalid task settings JSON") from error
    if {"Logging.CloudWatchLogGroup", "Logging.CloudWatchLogStream"} & set(unknown):
        raise invalid(f"Task Settings CloudWatchLogGroup or CloudWatchLogStream cannot be set on {verb}.")
    if unknown:
        raise invalid(f"Invalid task settings JSON: unknown {', '.join(unknown)}")
    return merged(TASK_SETTINGS, given)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in over.items():
        inner = both.get(key)
        both[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both


@answers(
    "dms.CreateReplicationTask",
    documented("creating, then ready; ARNs must exist; CdcStartTime and CdcStartPosition are exclusive"),
    documented("mappings: at least one including selection, unique ids, two rule-actions for Kinesis"),
    observed("settings that are no JSON, or name CloudWatchLogGroup: InvalidParameterValueException"),
    observed("settings come back merged with all of AWS's defaults"),
    inferred("unknown settings are refused; the instance must be available"),
)
def create_task(call: Call) -> dict[str, Any]:
    request, dms = call.request, dms_of(call.backend())
    name = identifier(request["ReplicationTaskIdentifier"])
    refuse_duplicate(dms.tasks, "ReplicationTaskIdentifier", name)
    ends = {}
    for end in ("Source", "Target"):
        ends[end] = known(dms.endpoints, request[f"{end}EndpointArn"], "Endpoint")
        if ends[end].shape["EndpointType"] != end.lower():
            raise invalid(f"{end}EndpointArn is not a {end.lower()} endpoint.")
    if known(dms.instances, request["ReplicationInstanceArn"], "Replication instance").state != "available":
        raise wrong_state("Replication instance is not available.")
    if "CdcStartTime" in request and "CdcStartPosition" in request:
        raise clash("CdcStartTime and CdcStartPosition are exclusive.")
    mapping_rules(request["TableMappings"])
    settings = merged_settings(request.get("ReplicationTaskSettings", "{}"), "create")
    arn = new_arn(call, "task")
    kept = (
        *(
            "SourceEndpointArn",
            "TargetEndpointArn",
            "ReplicationInstanceArn",
            "MigrationType",
            "TableMappings",
        ),
        *("CdcStartPosition", "CdcStopPosition", "TaskData"),
    )
    task = dms.tasks[arn] = Life("creating", memory=never_run())
    task.shape = {key: request[key] for key in kept if key in request} | {
        "ReplicationTaskIdentifier": name,
        "ReplicationTaskArn": arn,
        "ReplicationTaskCreationDate": now(),
        "ReplicationTaskSettings": json.dumps(settings),
    }
    task.go("creating", "ready")
    tag(call, arn)
    return {"ReplicationTask": shown(task, "Status")}


@answers(
    "dms.DescribeReplicationTasks",
    documented("no match of a filter: ResourceNotFoundFault; MaxRecords 20..100, Marker; WithoutSettings"),
    inferred("an unknown filter name: InvalidParameterValueException"),
)
def describe_tasks(call: Call) -> dict[str, Any]:
    filters = {
        "replication-task-arn": ("ReplicationTaskArn",),
        "replication-task-id": ("ReplicationTaskIdentifier",),
        "migration-type": ("MigrationType",),
        "endpoint-arn": ("SourceEndpointArn", "TargetEndpointArn"),
        "replication-instance-arn": ("ReplicationInstanceArn",),
    }
    dms = dms_of(call.backend())
    answer = described(call, "ReplicationTasks", dms.tasks, "Status", filters)
    for task in answer["ReplicationTasks"]:
        life = dms.tasks[task["ReplicationTaskArn"]]
        if life.memory["runs"]:
            task["ReplicationTaskStats"] = task_stats(life)
        if call.request.get("WithoutSettings"):
            task.pop("ReplicationTaskSettings")
    return answer


def task_stats(task: Life) -> dict[str, Any]:
    states = [row["TableState"] for row in table_rows(task)]
    done = states.count("Table completed")
    return {
        "FullLoadProgressPercent": 100 * done // len(states) if states else 100,
        "ElapsedTimeMillis": 1000,
        "TablesLoaded": done,
        "TablesLoading": states.count("Full load") + states.count("Table is being reloaded"),
        "TablesQueued": states.count("Before load"),
        "TablesErrored": states.count("Table error"),
        "FreshStartDate": task.memory["started"],
        "StartDate": task.memory["started"],
    }


@answers(
    "dms.StartReplicationTask",
    observed("only when ready, stopped or failed: 'Replication Task cannot be started, invalid state'"),
    observed("both connections must have been tested successfully"),
    documented("the first run only with start-replication"),
    observed("a later run of a loading task with start-replication is refused; resume or reload"),
    documented("reload-target not for a task of type cdc"),
    inferred(
        "start-replication and reload-target count the tables anew and forget reloads that were asked for"
    ),
    inferred("with a stand-in for DMS, running is what it reports, and so is stopped or failed"),
)
def start_task(call: Call) -> dict[str, Any]:
    dms = dms_of(call.backend())
    task = known(dms.tasks, call.request["ReplicationTaskArn"], "Replication task")
    if task.state not in ("ready", "stopped", "failed"):
        raise wrong_state("Replication Task cannot be started, invalid state")
    kind, first = call.request["StartReplicationTaskType"], not task.memory["runs"]
    loads = task.shape["MigrationType"] != "cdc"
    if first != (kind == "start-replication") and (first or loads):
        when = "first" if kind == "start-replication" else "second"
        raise clash(
            f"Start Type : {kind.upper().replace('-', '_')},"
            f" valid only for tasks running for the {when} time",
        )
    if kind == "reload-target" and not loads:
        raise clash("reload-target is not valid for a task of type cdc")
    for end in ("SourceEndpointArn", "TargetEndpointArn"):
        connection = dms.connections.get((task.shape["ReplicationInstanceArn"], task.shape[end]))
        if connection is None or connection.state != "successful":
            raise wrong_state(
                "Test connection for replication instance and endpoint should be successful for starting the"
                " replication task"
            )
    begin_run(dms, task, call)
    return {"ReplicationTask": shown(task, "Status")}


def begin_run(dms: Dms, task: Life, call: Call) -> None:
    kind = call.request["StartReplicationTaskType"]
    if not task.memory["runs"] or kind != "resume-processing":
        task.memory |= {"reloading": {}, "orders": []}
        task.memory["reported"] = [row | UNLOADED for row in task.memory["reported"]]
    task.memory |= {"runs": task.memory["runs"] + 1, "started": now(), "start_type": kind}
    task.memory["position"] = call.request.get("CdcStartPosition")
    task.shape |= {"ReplicationTaskStartDate": now(), "StopReason": "", "LastFailureMessage": ""}
    for key in ("CdcStartPosition", "CdcStopPosition"):
        if key in call.request:
            task.shape[key] = call.request[key]
    settings = json.loads(task.shape["ReplicationTaskSettings"])
    if settings["Logging"]["EnableLogging"]:  # DMS writes where it logs into the settings it shows
        instance = dms.instances[task.shape["ReplicationInstanceArn"]].shape["ReplicationInstanceIdentifier"]
        stream = "dms-task-" + task.shape["ReplicationTaskArn"].rsplit(":", 1)[1]
        settings["Logging"] |= {"CloudWatchLogGroup": f"dms-tasks-{instance}", "CloudWatchLogStream": stream}
        task.shape["ReplicationTaskSettings"] = json.dumps(settings)
    task.go("starting", "running")
    task.held = task.memory["attached"]


@answers(
    "dms.StopReplicationTask",
    documented("only while it runs; stopping, then stopped with a StopReason"),
)
def stop_task(call: Call) -> dict[str, Any]:
    task = known(dms_of(call.backend()).tasks, call.request["ReplicationTaskArn"], "Replication task")
    if task.state != "running":
        raise wrong_state("Replication task is not running")
    task.go("stopping", "stopped", lambda: task.shape.update(StopReason="Stop Reason NORMAL"))
    task.held = task.memory["attached"]
    return {"ReplicationTask": shown(task, "Status")}


@answers(
    "dms.ModifyReplicationTask",
    observed("'Replication Task cannot be modified while it is running state'"),
    documented("only when ready, stopped or failed; modifying, then as before; endpoints can't be changed"),
    observed("settings that are no JSON, or name CloudWatchLogGroup: InvalidParameterValueException"),
    inferred("given settings replace earlier ones within AWS's defaults"),
    inferred("MigrationType only before the first run"),
)
def modify_task(call: Call) -> dict[str, Any]:
    dms, request = dms_of(call.backend()), call.request
    task = known(dms.tasks, request["ReplicationTaskArn"], "Replication task")
    if task.state not in ("ready", "stopped", "failed"):
        raise wrong_state(f"Replication Task cannot be modified while it is {task.state} state")
    if (
        task.memory["runs"]
        and request.get("MigrationType", task.shape["MigrationType"]) != task.shape["MigrationType"]
    ):
        raise clash("The migration type of a task that has run is fixed.")
    plain = ("MigrationType", "CdcStartPosition", "CdcStopPosition")
    wanted: dict[str, Any] = {key: request[key] for key in plain if key in request}
    if "TableMappings" in request:
        mapping_rules(request["TableMappings"])
        wanted["TableMappings"] = request["TableMappings"]
    if "ReplicationTaskSettings" in request:
        wanted["ReplicationTaskSettings"] = json.dumps(
            merged_settings(request["ReplicationTaskSettings"], "modify")
        )
    if "ReplicationTaskIdentifier" in request:
        wanted["ReplicationTaskIdentifier"] = identifier(request["ReplicationTaskIdentifier"])
        others = {arn: life for arn, life in dms.tasks.items() if life is not task}
        refuse_duplicate(others, "ReplicationTaskIdentifier", wanted["ReplicationTaskIdentifier"])
    task.go("modifying", task.state, lambda: task.shape.update(wanted))
    return {"ReplicationTask": shown(task, "Status")}


@answers(
    "dms.DeleteReplicationTask",
    documented("only when it does not run; deleting, then gone"),
)
def delete_task(call: Call) -> dict[str, Any]:
    dms = dms_of(call.backend())
    arn = call.request["ReplicationTaskArn"]
    task = known(dms.tasks, arn, "Replication task")
    if task.state not in ("ready", "stopped", "failed"):
        raise wrong_state(f"Replication Task cannot be deleted while it is {task.state}")
    task.go("deleting", GONE, lambda: forget(dms, arn))
    return {"ReplicationTask": shown(task, "Status")}


@answers(
    "dms.ReloadTables",
    documented("the task must be running; 10 tables at most"),
    inferred("a table that no rule selects: ResourceNotFoundFault"),
    inferred("with a stand-in for DMS: being reloaded from the call on, until it reports it done"),
)
def reload_tables(call: Call) -> dict[str, Any]:
    task = known(dms_of(call.backend()).tasks, call.request["ReplicationTaskArn"], "Replication task")
    if task.state != "running":
        raise wrong_state(f"The task must be in the running state, it is {task.state}")
    asked = [(each["SchemaName"], each["TableName"]) for each in call.request["TablesToReload"]]
    if not 0 < len(asked) <= 10:
        raise invalid("Up to 10 tables can be reloaded at once.")
    for name in asked:
        if name not in known_tables(task):
            raise not_found(f"Table {'.'.join(name)}")
        reload = task.memory["reloading"][name] = Life("Table is being reloaded")
        reload.go("Table is being reloaded", "Table completed")
        if task.memory["attached"]:
            order_reload(task, name)
    return {"ReplicationTaskArn": call.request["ReplicationTaskArn"]}


def selected_tables(task: Life) -> list[tuple[str, str]]:
    """Of EmulatedAws.tables, those that the task's selection rules include."""
    rules = [rule for rule in mapping_rules(task.shape["TableMappings"]) if rule["rule-type"] == "selection"]

    def selects(rule: dict[str, Any], name: tuple[str, str]) -> bool:
        locator = rule["object-locator"]
        patterns = (locator["schema-name"], locator["table-name"])
        return all(
            re.fullmatch(".*".join(map(re.escape, pattern.split("%"))), part)
            for pattern, part in zip(patterns, name, strict=True)
        )

    excluded = [rule for rule in rules if rule["rule-action"] == "exclude"]
    included = [rule for rule in rules if rule["rule-action"] != "exclude"]
    return [
        name
        for name in CURRENT[0].tables
        if any(selects(rule, name) for rule in included) and not any(selects(rule, name) for rule in excluded)
    ]


def known_tables(task: Life) -> list[tuple[str, str]]:
    if task.memory["attached"]:
        return [(row["SchemaName"], row["TableName"]) for row in task.memory["reported"]]
    return selected_tables(task)


def table_rows(task: Life) -> list[dict[str, Any]]:
    if task.memory["attached"]:
        return [row | {"TableState": reported_state(task, row)} for row in task.memory["reported"]]
    rows = []
    for name in selected_tables(task):
        state = "Table completed" if task.state != "starting" else "Before load"
        if name in task.memory["reloading"]:
            state = task.memory["reloading"][name].state
        row: dict[str, Any] = dict.fromkeys(("Inserts", "Deletes", "Updates", "Ddls", "FullLoadRows"), 0)
        row |= {"SchemaName": name[0], "TableName": name[1], "LastUpdateTime": now()}
        row |= {
            "FullLoadReloaded": name in task.memory["reloading"],
            "ValidationState": "Not enabled",
        }
        row["TableState"] = "Table error" if name in CURRENT[0].suspended else state
        rows.append(row | CURRENT[0].statistics.get(name, {}))
    return rows


@answers(
    "dms.DescribeTableStatistics",
    documented("one row a table that the rules select; filters are ANDed"),
    inferred("none before the first run; an unknown filter name: InvalidParameterValueException"),
)
def describe_table_statistics(call: Call) -> dict[str, Any]:
    task = known(dms_of(call.backend()).tasks, call.request["ReplicationTaskArn"], "Replication task")
    names = {"schema-name": "SchemaName", "table-name": "TableName", "table-state": "TableState"}
    rows = table_rows(task) if task.memory["runs"] else []
    for each in call.request.get("Filters") or []:
        if each["Name"] not in names:
            raise invalid(f"The filter {each['Name']} is not valid.")
        rows = [row for row in rows if row[names[each["Name"]]] in each["Values"]]
    for reload in task.memory["reloading"].values():
        reload.poll()
    size = call.request.get("MaxRecords") or 100
    start = int(call.request.get("Marker") or 0)
    more = {"Marker": str(start + size)} if start + size < len(rows) else {}
    return {
        "ReplicationTaskArn": call.request["ReplicationTaskArn"],
        "TableStatistics": rows[start : start + size],
        **more,
    }


# What a stand-in for DMS does with a task (the private channel). Until one attaches, a task comes to its
# states by describes, like everything here.

COUNTS = ("Inserts", "Deletes", "Updates", "Ddls", "FullLoadRows")
UNLOADED = dict.fromkeys(COUNTS, 0) | {"TableState": "Before load"}


def never_run() -> dict[str, Any]:
    """What AWS knows of a new task."""
    return {
        "runs": 0,
        "start_type": None,  # of the last run
        "position": None,  # where that was told to start
        "attached": False,  # whether a stand-in for DMS reports what the task does
        "reloading": {},  # {table: its passing state}
        "orders": [],  # reloads that the stand-in has not reported done
        "ordered": 0,  # the number of the last of them
        "reported": [],  # rows of DescribeTableStatistics
    }


def fail(task: Life, message: str) -> None:
    task.settle("failed")
    task.shape |= {
        "LastFailureMessage": message,
        "StopReason": "Stop Reason FATAL_ERROR Error Level FATAL",
    }


def order_reload(task: Life, name: tuple[str, str]) -> None:
    """The tables are left to the stand-in: nothing but its report ends the reload."""
    number = task.memory["ordered"] = task.memory["ordered"] + 1
    task.memory["orders"] = [*task.memory["orders"], {"number": number, "schema": name[0], "table": name[1]}]


def reported_state(task: Life, row: dict[str, Any]) -> str:
    name = (row["SchemaName"], row["TableName"])
    if name in CURRENT[0].suspended:
        return "Table error"
    is_ordered = any((order["schema"], order["table"]) == name for order in task.memory["orders"])
    return "Table is being reloaded" if is_ordered else str(row["TableState"])


def attached_task(arn: str) -> tuple[Any, Life]:
    """moto's backend and the task, whose starting and stopping are the stand-in's from now on."""
    for backend in all_backends("dms"):
        if task := dms_of(backend).tasks.get(arn):
            task.memory["attached"] = True
            task.held = task.held or task.state in ("starting", "stopping")
            return backend, task
    raise ChannelError("404 Not Found", f"There is no replication task {arn!r}.")


def task_orders(arn: str) -> dict[str, Any]:
    """What the stand-in is to do: {"status", "run", "start_type", "start_position", "reloads"}."""
    _, task = attached_task(arn)
    return {
        "status": task.state,
        "run": task.memory["runs"],
        "start_type": task.memory["start_type"],
        "start_position": task.memory["position"],
        "reloads": task.memory["orders"],
    }


def take_task_report(arn: str, report: dict[str, Any]) -> dict[str, Any]:
    """The orders after the report; one of an older run changes nothing."""
    backend, task = attached_task(arn)
    if report.get("run") != task.memory["runs"]:
        return task_orders(arn)
    rows = [reported_row(task, row) for row in report["tables"]] if "tables" in report else None
    take_status(task, report.get("status", task.state), report.get("message"))
    instance = dms_of(backend).instances[task.shape["ReplicationInstanceArn"]].shape
    dimensions = {"ReplicationInstanceIdentifier": instance["ReplicationInstanceIdentifier"]}
    dimensions["ReplicationTaskIdentifier"] = arn.rpartition(":")[2]
    record_metrics(backend, "AWS/DMS", dimensions, report.get("metrics", {}))
    if rows is not None:
        task.memory["reported"] = rows
    done, left = report.get("reloaded", 0), task.memory["orders"]
    task.memory["orders"] = [order for order in left if order["number"] > done]
    return task_orders(arn)


def reported_row(task: Life, row: dict[str, Any]) -> dict[str, Any]:
    members = get_service_model("dms").shape_for("TableStatistics").members
    plain = {name for name, shape in members.items() if shape.type_name != "timestamp"}
    if not {"SchemaName", "TableName", "TableState"} <= set(row) <= plain:
        raise ChannelError(
            "400 Bad Request",
            f"A row of table statistics has {sorted(row)}: SchemaName, TableName and TableState are needed,"
            f" {sorted(plain)} are known.",
        )
    is_reloaded = (row["SchemaName"], row["TableName"]) in task.memory["reloading"]
    fixed = {"ValidationState": "Not enabled", "FullLoadReloaded": is_reloaded, "LastUpdateTime": now()}
    return UNLOADED | fixed | row


def take_status(task: Life, status: str, message: str | None) -> None:
    """A stand-in runs, has stopped or has failed; it cannot take back a stop that was asked for."""
    if status not in ("running", "stopped", "failed", task.state):
        raise ChannelError(
            "400 Bad Request", f"A task is not reported {status!r}: running, stopped or failed."
        )
    if task.state not in ("starting", "running", "stopping") or status == task.state:
        return
    if status == "failed":
        fail(task, message or "")
    elif status == task.coming:
        task.arrive()
    elif status == "stopped":
        task.settle("stopped")
        task.shape["StopReason"] = message or "Stop Reason NORMAL"


@answers("dms.DescribeAccountAttributes", documented("quotas with their use"))
def describe_account_attributes(call: Call) -> dict[str, Any]:
    dms = dms_of(call.backend())
    used = {
        "ReplicationInstances": (len(dms.instances), 60),
        "Endpoints": (len(dms.endpoints), 1000),
        "ReplicationTasks": (len(dms.tasks), 600),
        "ReplicationSubnetGroups": (len(dms.groups), 60),
        "EndpointConnections": (len(dms.connections), 300),
    }
    quotas = [{"AccountQuotaName": name, "Used": use, "Max": most} for name, (use, most) in used.items()]
    return {"AccountQuotas": quotas, "UniqueAccountIdentifier": f"{call.account}-{call.region}"}


@answers("dms.DescribeEvents", inferred("creation and deletion of instances only"))
def describe_events(call: Call) -> dict[str, Any]:
    wanted = call.request.get("SourceIdentifier")
    events = dms_of(call.backend()).events
    return page(call, "Events", [each for each in events if wanted in (None, each["SourceIdentifier"])])


def tags_of(call: Call, arn: str) -> dict[str, str]:
    tags = dms_of(call.backend()).tags
    if arn not in tags:
        raise not_found(f"Resource {arn}")
    return tags[arn]


@answers(
    "dms.AddTagsToResource", documented("by ARN, subnet groups included; unknown: ResourceNotFoundFault")
)
def add_tags(call: Call) -> None:
    tags_of(call, call.request["ResourceArn"]).update(
        {each["Key"]: each["Value"] for each in call.request["Tags"]}
    )


@answers("dms.RemoveTagsFromResource", documented("by ARN; unknown: ResourceNotFoundFault"))
def remove_tags(call: Call) -> None:
    for key in call.request["TagKeys"]:
        tags_of(call, call.request["ResourceArn"]).pop(key, None)


@answers("dms.ListTagsForResource", documented("of one ARN or of several; unknown: ResourceNotFoundFault"))
def list_tags(call: Call) -> dict[str, Any]:
    arns = call.request.get("ResourceArnList") or [call.request.get("ResourceArn")]
    return {
        "TagList": [
            {"Key": key, "Value": value, "ResourceArn": arn}
            for arn in arns
            for key, value in tags_of(call, arn).items()
        ]
    }


@patches(
    "moto.dms.models.DatabaseMigrationServiceBackend.iter_tagged_resources",
    documented("resourcegroupstaggingapi finds what DMS has, subnet groups included"),
)
def iter_tagged_resources(original: Any, self: Any) -> Iterator[Any]:
    from moto.core.resource_tagging import TaggedResource

    for arn, tags in dms_of(self).tags.items():
        yield TaggedResource(arn=arn, tags=dict(tags), resource_type=f"dms:{arn.split(':')[5]}")


@patches(
    "moto.dms.models.DatabaseMigrationServiceBackend.tag_resource",
    documented("resourcegroupstaggingapi tags what DMS has"),
)
def tag_resource(original: Any, self: Any, arn: str, tags: dict[str, str]) -> None:
    dms_of(self).tags[arn].update(tags)


@patches(
    "moto.dms.models.DatabaseMigrationServiceBackend.untag_resource",
    documented("resourcegroupstaggingapi untags what DMS has"),
)
def untag_resource(original: Any, self: Any, arn: str, tag_keys: list[str]) -> None:
    for key in tag_keys:
        dms_of(self).tags[arn].pop(key, None)


# ----------------------------------------------------------------------------------------------------
# Kinesis: moto's streams and shards; ours are states, resharding and reading
# ----------------------------------------------------------------------------------------------------


def stream_of(call: Call) -> Any:
    """moto's stream of a request; raises ResourceNotFoundException."""
    name, arn = call.request.get("StreamName"), call.request.get("StreamARN")
    if not name and not arn:
        raise Fault("ValidationException", "StreamName or StreamARN is needed.")
    return call.backend().describe_stream(arn, name)


def stream_exists(call: Call, arn: str) -> bool:
    """Whether the stream is here, or may be where streams are served."""
    is_elsewhere = "kinesis" in CURRENT[0].elsewhere
    return is_elsewhere or any(stream.arn == arn for stream in call.backend("kinesis").streams.values())


def stream_life(stream: Any) -> Life:
    life: Life = stream.__dict__.setdefault("life", Life("ACTIVE"))
    return life


def stream_goes(stream: Any, state: str, coming: str, then: Callable[[], None] | None = None) -> None:
    stream_life(stream).go(state, coming, then)
    stream.status = state


def active_stream(call: Call) -> Any:
    stream = stream_of(call)
    if stream.status != "ACTIVE":
        raise Fault(
            "ResourceInUseException",
            f"Stream {stream.stream_name} under account {call.account} not ACTIVE,"
            f" instead in state {stream.status}",
        )
    return stream


def readable_stream(call: Call, arn: str = "") -> Any:
    stream = call.backend().describe_stream(arn, None) if arn else stream_of(call)
    if stream.status == "CREATING":
        raise stream_not_found(call, stream.stream_name)
    return stream


def stream_not_found(call: Call, name: str) -> Fault:
    return Fault("ResourceNotFoundException", f"Stream {name} under account {call.account} not found.")


@answers(
    "kinesis.CreateStream",
    documented("CREATING, then ACTIVE; its Tags and MaxRecordSizeInKiB are kept"),
    documented("a name in use, by a stream in DELETING too: ResourceInUseException"),
    inferred("a provisioned stream needs ShardCount"),
)
def create_stream(call: Call) -> None:
    name = call.request["StreamName"]
    if name in call.backend().streams:
        raise Fault("ResourceInUseException", f"Stream {name} under account {call.account} already exists.")
    mode = call.request.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
    if mode == "PROVISIONED" and not call.request.get("ShardCount"):
        raise Fault("ValidationException", "ShardCount is needed for a stream in PROVISIONED mode.")
    call.moto()
    stream = call.backend().streams[name]
    stream.tags.update(call.request.get("Tags", {}))
    stream.max_record_kib = call.request.get("MaxRecordSizeInKiB", 1024)
    stream_goes(stream, "CREATING", "ACTIVE")


@answers(
    "kinesis.DescribeStream",
    documented("shows the passing states; a deleted stream: ResourceNotFoundException"),
)
@answers("kinesis.DescribeStreamSummary", documented("as DescribeStream, with the number of open shards"))
def poll_stream(call: Call) -> Any:
    stream = stream_of(call)
    stream.status = stream_life(stream).poll()
    if stream.status == GONE:
        call.backend().streams.pop(stream.stream_name, None)
        raise stream_not_found(call, stream.stream_name)
    return call.moto()


@patches(
    "moto.kinesis.models.Stream.to_json_summary",
    documented("OpenShardCount counts open shards; ConsumerCount and MaxRecordSizeInKiB are shown"),
)
def stream_summary(original: Any, self: Any) -> dict[str, Any]:
    answer: dict[str, Any] = original(self)
    answer["StreamDescriptionSummary"] |= {
        "OpenShardCount": sum(shard.is_open for shard in self.shards.values()),
        "ConsumerCount": len(self.consumers),
        "MaxRecordSizeInKiB": getattr(self, "max_record_kib", 1024),
    }
    return answer


@answers(
    "kinesis.DeleteStream",
    documented("an ACTIVE stream; DELETING, then gone; with consumers only if EnforceConsumerDeletion"),
)
def delete_stream(call: Call) -> None:
    stream = active_stream(call)
    if stream.consumers and not call.request.get("EnforceConsumerDeletion"):
        raise Fault(
            "ResourceInUseException",
            f"Stream {stream.stream_name} has consumers registered, EnforceConsumerDeletion is not set.",
        )
    stream_goes(stream, "DELETING", GONE)


@answers(
    "kinesis.DeregisterStreamConsumer", documented("removes the named consumer (moto keeps it, drops others)")
)
def deregister_consumer(call: Call) -> None:
    arn, name = call.request.get("ConsumerARN"), call.request.get("ConsumerName")
    for stream in call.backend().streams.values():
        for consumer in list(stream.consumers):
            if consumer.consumer_arn == arn or (
                consumer.consumer_name == name and stream.arn == call.request.get("StreamARN")
            ):
                stream.consumers.remove(consumer)
                return
    raise Fault("ResourceNotFoundException", f"Consumer {arn or name}, account {call.account} not found.")


def change_retention(call: Call, direction: int, text: str) -> Any:
    stream = active_stream(call)
    if (call.request["RetentionPeriodHours"] - stream.retention_period_hours) * direction <= 0:
        raise Fault(
            "InvalidArgumentException",
            f"Requested retention period ({call.request['RetentionPeriodHours']} hours) for stream"
            f" {stream.stream_name} must be {text} than existing retention period"
            f" ({stream.retention_period_hours} hours).",
        )
    return update_active(call)


@answers(
    "kinesis.IncreaseStreamRetentionPeriod",
    documented("must be more than the current one"),
    inferred("UPDATING, then ACTIVE, as after the other changes of a stream"),
    inferred("the same value is refused with InvalidArgumentException [K]"),
)
def increase_retention(call: Call) -> Any:
    return change_retention(call, 1, "longer")


@answers(
    "kinesis.DecreaseStreamRetentionPeriod",
    documented("must be less than the current one"),
    inferred("UPDATING, then ACTIVE, as after the other changes of a stream"),
    inferred("the same value is refused with InvalidArgumentException [K]"),
)
def decrease_retention(call: Call) -> Any:
    return change_retention(call, -1, "shorter")


@answers("kinesis.StartStreamEncryption", documented("an ACTIVE stream; UPDATING, then ACTIVE"))
@answers("kinesis.StopStreamEncryption", documented("an ACTIVE stream; UPDATING, then ACTIVE"))
@answers("kinesis.UpdateStreamMode", documented("an ACTIVE stream; UPDATING, then ACTIVE"))
def update_active(call: Call) -> Any:
    stream = active_stream(call)
    answer = call.moto()
    stream_goes(stream, "UPDATING", "ACTIVE")
    return answer


def next_sequence(stream: Any) -> int:
    """Grows over the whole stream, so that a child's records come after its parents'."""
    stream.last_sequence = getattr(stream, "last_sequence", FIRST_SEQUENCE) + 1
    return int(stream.last_sequence)


def open_shards(stream: Any) -> list[Any]:
    """By their ranges of hash keys."""
    if not hasattr(stream, "open_shards"):
        opened = (shard for shard in stream.shards.values() if shard.is_open)
        stream.open_shards = sorted(opened, key=lambda shard: shard.starting_hash)
    return list(stream.open_shards)


def begin_shard(stream: Any, shard: Any) -> None:
    """An open shard without records: {sequence number: KeptRecord}, and the numbers in their order."""
    shard.first_sequence, shard.sequences, shard.records = next_sequence(stream), [], {}
    stream.__dict__.pop("open_shards", None)


def open_shard(stream: Any, low: int, high: int, parent: Any = None, adjacent: Any = None) -> None:
    from moto.kinesis.models import Shard

    number = 1 + max(shard._shard_id for shard in stream.shards.values())
    names = (parent.shard_id if parent else None, adjacent.shard_id if adjacent else None)
    shard: Any = Shard(number, low, high, parent=names[0], adjacent_parent=names[1])
    stream.shards[shard.shard_id] = shard
    begin_shard(stream, shard)


def close_shard(stream: Any, shard: Any) -> None:
    shard.is_open = False
    shard.last_sequence = next_sequence(stream)
    stream.__dict__.pop("open_shards", None)


@patches(
    "moto.kinesis.models.Stream.init_shards", documented("sequence numbers grow within a shard, 56 digits")
)
def init_shards(original: Any, self: Any, shard_count: int) -> None:
    original(self, shard_count)
    for shard in self.shards.values():
        begin_shard(self, shard)


@patches(
    "moto.kinesis.models.Shard.to_json",
    documented("a closed shard has an EndingSequenceNumber, an open one none"),
)
def shard_shape(original: Any, self: Any) -> dict[str, Any]:
    shape: dict[str, Any] = original(self)
    shape["SequenceNumberRange"] = {"StartingSequenceNumber": str(self.first_sequence)}
    if not self.is_open:
        shape["SequenceNumberRange"]["EndingSequenceNumber"] = str(self.last_sequence)
    return shape


@patches(
    "moto.kinesis.models.Stream.split_shard",
    documented("the parent is closed and keeps its records; two children take what comes"),
)
def split_shard_in(original: Any, self: Any, shard_to_split: str, new_starting_hash_key: str) -> None:
    shard, middle = self.shards[shard_to_split], int(new_starting_hash_key)
    if not shard.is_open:
        raise Fault("InvalidArgumentException", f"Shard {shard.shard_id} has already been merged or split.")
    if not shard.starting_hash < middle < shard.ending_hash:
        raise Fault(
            "InvalidArgumentException", f"NewStartingHashKey {middle} is not within {shard.shard_id}."
        )
    close_shard(self, shard)
    open_shard(self, shard.starting_hash, middle - 1, parent=shard)
    open_shard(self, middle, shard.ending_hash, parent=shard)


@patches(
    "moto.kinesis.models.Stream.merge_shards",
    documented(
        "both parents are closed and keep their records; one child takes what comes; they must be adjacent"
    ),
)
def merge_shards_in(original: Any, self: Any, shard_to_merge: str, adjacent_shard_to_merge: str) -> None:
    shard, other = self.shards[shard_to_merge], self.shards[adjacent_shard_to_merge]
    if not shard.is_open or not other.is_open:
        raise Fault("InvalidArgumentException", "A shard has already been merged or split.")
    if shard.ending_hash + 1 != other.starting_hash and other.ending_hash + 1 != shard.starting_hash:
        raise Fault(
            "InvalidArgumentException", f"Shards {shard_to_merge} and {adjacent_shard_to_merge} not adjacent."
        )
    low, high = min(shard.starting_hash, other.starting_hash), max(shard.ending_hash, other.ending_hash)
    for closed in (shard, other):
        close_shard(self, closed)
    open_shard(self, low, high, parent=shard, adjacent=other)


@answers("kinesis.SplitShard", documented("an ACTIVE provisioned stream; UPDATING, then ACTIVE"))
@answers("kinesis.MergeShards", documented("an ACTIVE provisioned stream; UPDATING, then ACTIVE"))
def reshard(call: Call) -> Any:
    stream = active_stream(call)
    if stream.stream_mode.get("StreamMode") == "ON_DEMAND":
        raise Fault("ValidationException", f"Stream {stream.stream_name} is in On-Demand mode.")
    return update_active(call)


@answers(
    "kinesis.UpdateShardCount",
    documented("an ACTIVE provisioned stream; UPDATING, then ACTIVE; by splits and merges"),
    documented("not above double and not below half of the open shards"),
    inferred("that is a LimitExceededException; the same count changes nothing"),
)
def update_shard_count(call: Call) -> Any:
    stream = stream_of(call)
    count, target = len(open_shards(stream)), call.request["TargetShardCount"]
    if target > 2 * count or 2 * target < count:
        how = "scale up over double" if target > count else "scale down below half"
        raise Fault(
            "LimitExceededException",
            f"UpdateShardCount cannot {how} your current open shard count. Current open shard count: {count}"
            f" Target shard count: {target}",
        )
    reshard(call)
    return {
        "StreamName": stream.stream_name,
        "CurrentShardCount": count,
        "TargetShardCount": target,
        "StreamARN": stream.arn,
    }


@patches(
    "moto.kinesis.models.Stream.update_shard_count",
    inferred("splits the widest, merges the narrowest neighbours; how AWS chooses is not documented"),
)
def update_shard_count_in(original: Any, self: Any, target_shard_count: int) -> None:
    while len(open_shards(self)) < target_shard_count:
        widest = max(open_shards(self), key=lambda shard: shard.ending_hash - shard.starting_hash)
        self.split_shard(widest.shard_id, str((widest.starting_hash + widest.ending_hash + 1) // 2))
    while len(shards := open_shards(self)) > target_shard_count:
        narrow = min(itertools.pairwise(shards), key=lambda pair: pair[1].ending_hash - pair[0].starting_hash)
        self.merge_shards(narrow[0].shard_id, narrow[1].shard_id)
    self.shard_count = target_shard_count


class GivenRecord(msgspec.Struct):
    """A record as PutRecords has it on the wire, where the data are base64."""

    Data: bytes
    PartitionKey: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    ExplicitHashKey: Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9]\d{0,38})$")] | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.Data) + len(self.PartitionKey.encode())


class KeptRecord(msgspec.Struct):
    """A record of a shard, by moto's names; on the wire by those of GetRecords."""

    sequence_number: str = msgspec.field(name="SequenceNumber")
    created_at: float = msgspec.field(name="ApproximateArrivalTimestamp")  # to the millisecond
    data: bytes = msgspec.field(name="Data")
    partition_key: str = msgspec.field(name="PartitionKey")

    def to_json(self) -> dict[str, Any]:
        """As moto's serializers take it."""
        return {
            "SequenceNumber": self.sequence_number,
            "ApproximateArrivalTimestamp": datetime.fromtimestamp(self.created_at, UTC),
            "Data": self.data,
            "PartitionKey": self.partition_key,
        }


@patches("moto.kinesis.models.Stream.get_shard_for_key", documented("only an open shard takes records"))
def shard_for_key(original: Any, self: Any, partition_key: str, explicit_hash_key: str | None) -> Any:
    import hashlib

    if not 1 <= len(partition_key or "") <= 256:
        raise Fault("ValidationException", "PartitionKey must have between 1 and 256 characters.")
    if explicit_hash_key:
        key = int(explicit_hash_key)
    else:
        key = int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest())
    if not 0 <= key < HASH_KEYS:
        raise Fault("InvalidArgumentException", f"ExplicitHashKey {explicit_hash_key} is not a hash key.")
    shards = open_shards(self)
    return shards[bisect.bisect_right(shards, key, key=lambda shard: shard.starting_hash) - 1]


@patches(
    "moto.kinesis.models.Stream.put_record",
    documented("calls nobody: Lambda polls a stream (moto calls the function within the put)"),
)
def put_record_in(
    original: Any, self: Any, partition_key: str, explicit_hash_key: str, data: str
) -> tuple[str, str]:
    record = GivenRecord(base64.b64decode(data), partition_key, explicit_hash_key)
    shard = self.get_shard_for_key(partition_key, explicit_hash_key)
    return keep_record(self, shard, record, time.time()), shard.shard_id


def keep_record(stream: Any, shard: Any, record: GivenRecord, now_seconds: float) -> str:
    """The sequence number under which the shard has it; what has outlived its retention may go."""
    sequence, arrival = next_sequence(stream), round(now_seconds, 3)
    if shard.sequences:
        arrival = max(arrival, shard.records[shard.sequences[-1]].created_at)
    kept = KeptRecord(str(sequence), arrival, record.Data, record.PartitionKey)
    shard.records[sequence] = kept
    shard.sequences.append(sequence)
    horizon = arrival - stream.retention_period_hours * 3600
    if shard.records[shard.sequences[0]].created_at < horizon - RETENTION_CHECK_SECONDS:
        outlived = arrived_before(shard, horizon)
        for gone in shard.sequences[:outlived]:
            del shard.records[gone]
        del shard.sequences[:outlived]
    return kept.sequence_number


def arrived_before(shard: Any, seconds: float) -> int:
    """How many of the shard's records."""
    return bisect.bisect_left(
        shard.sequences, seconds, key=lambda sequence: float(shard.records[sequence].created_at)
    )


def check_sizes(stream: Any, records: list[GivenRecord]) -> None:
    most = getattr(stream, "max_record_kib", 1024) * 1024
    for index, record in enumerate(records, 1):
        if record.size_bytes > most:
            raise Fault(
                "ValidationException",
                f"1 validation error detected: Value at 'records.{index}.member.data' failed to satisfy"
                f" constraint: Member must have length less than or equal to {most}",
            )
    if sum(record.size_bytes for record in records) > PUT_RECORDS_BYTES:
        raise Fault("InvalidArgumentException", f"Records size exceeds {PUT_RECORDS_BYTES // 2**20} MB limit")


def given_record(request: dict[str, Any]) -> GivenRecord:
    return GivenRecord(request["Data"], request["PartitionKey"], request.get("ExplicitHashKey"))


@answers(
    "kinesis.PutRecord",
    documented("1 MiB at most unless the stream says more"),
    inferred("a stream in CREATING is not found"),
)
def put_record(call: Call) -> Any:
    check_sizes(readable_stream(call), [given_record(call.request)])
    return call.moto()


@answers(
    "kinesis.PutRecords",
    documented("500 records, 10 MiB in all, 1 MiB each unless the stream says more"),
    documented("a record that fails has an ErrorCode and an ErrorMessage; those after it are still taken"),
    inferred("a stream in CREATING is not found"),
)
def put_records(call: Call) -> Any:
    stream, requested = readable_stream(call), call.request["Records"]
    records = [given_record(record) for record in requested]
    check_sizes(stream, records)
    hook = CURRENT[0].put_failures
    failures = hook(requested) if hook else {}
    if isinstance(failures, str):
        raise Fault(failures, f"{failures} for stream {stream.stream_name} under account {call.account}.")
    if isinstance(failures, set):
        failures = dict.fromkeys(failures, THROTTLED)
    return take_records(call.backend(), stream, records, failures)


def take_records(
    backend: Any, stream: Any, records: list[GivenRecord], failures: dict[int, str]
) -> dict[str, Any]:
    """The answer to PutRecords: {place: error code} are not taken."""
    entries, taken_bytes, now_seconds = [], 0, time.time()
    shards = [stream.get_shard_for_key(each.PartitionKey, each.ExplicitHashKey) for each in records]
    for place, (shard, record) in enumerate(zip(shards, records, strict=True)):
        if code := failures.get(place):
            entries.append({"ErrorCode": code, "ErrorMessage": failure_text(code, backend, stream, shard)})
            continue
        sequence = keep_record(stream, shard, record, now_seconds)
        entries.append({"SequenceNumber": sequence, "ShardId": shard.shard_id})
        taken_bytes += record.size_bytes
    taken = len(records) - len(failures)
    backend._send_stream_metrics(stream.stream_name, incoming_bytes=taken_bytes, incoming_records=taken)
    return {"FailedRecordCount": len(failures), "Records": entries}


@patches(
    "moto.kinesis.models.KinesisBackend._send_stream_metrics",
    documented("IncomingRecords and IncomingBytes of a stream come once a minute"),
    inferred("one value, the sum (moto: a value a call, and keeps them all)"),
)
def stream_metrics(
    original: Any, self: Any, stream_name: str, incoming_bytes: int, incoming_records: int
) -> None:
    minute, newest = now().replace(second=0, microsecond=0), self.__dict__.setdefault("newest_metrics", {})
    if stream_name not in newest or newest[stream_name][0].timestamp < minute:
        original(self, stream_name, incoming_bytes, incoming_records)
        newest[stream_name] = backend_of("cloudwatch", self.account_id, self.region_name).metric_data[-2:]
        return
    for datum, value in zip(newest[stream_name], (incoming_bytes, incoming_records), strict=True):
        datum.value += value


def failure_text(code: str, backend: Any, stream: Any, shard: Any) -> str:
    if code != THROTTLED:
        return "Internal service failure."
    where = f"shard {shard.shard_id} in stream {stream.stream_name} under account {backend.account_id}"
    return f"Rate exceeded for {where}."


@answers(
    "kinesis.ListShards",
    documented("ShardFilter AT_LATEST gives the open ones; ExclusiveStartShardId; pages by NextToken"),
)
def list_shards(call: Call) -> dict[str, Any]:
    request = call.request
    if token := request.get("NextToken"):
        request = json.loads(base64.urlsafe_b64decode(token))
    stream = readable_stream(call, request.get("StreamARN", "")) if token else readable_stream(call)
    chosen = request.get("ShardFilter", {})
    after = request.get("ExclusiveStartShardId") or chosen.get("ShardId", "")
    shards = sorted(stream.shards.values(), key=lambda shard: shard.shard_id)
    if chosen.get("Type") == "AT_LATEST":
        shards = [shard for shard in shards if shard.is_open]
    shards = [shard for shard in shards if shard.shard_id > after]
    size = call.request.get("MaxResults", 1000)
    answer: dict[str, Any] = {"Shards": [shard.to_json() for shard in shards[:size]]}
    if len(shards) > size:
        rest = {
            "StreamARN": stream.arn,
            "ShardFilter": chosen,
            "ExclusiveStartShardId": shards[size - 1].shard_id,
        }
        answer["NextToken"] = base64.urlsafe_b64encode(json.dumps(rest).encode()).decode()
    return answer


def iterator(stream: Any, shard: Any, position: int) -> str:
    """Opaque to clients: the records after `position`. Without line breaks, whatever its length."""
    place = (stream.arn, shard.shard_id, str(position))
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


PLACE = msgspec.json.Decoder(tuple[str, str, str])


def place_of(shard_iterator: str) -> tuple[str, str, int]:
    """ARN, shard and position of an iterator; raises a Fault for one that is not ours."""
    try:
        arn, shard_id, position = PLACE.decode(base64.urlsafe_b64decode(shard_iterator))
        return arn, shard_id, int(position)
    except ValueError as error:  # msgspec's are of that kind
        raise Fault("InvalidArgumentException", "Invalid ShardIterator.") from error


@answers(
    "kinesis.GetShardIterator",
    documented("the five types with what each needs; also on a closed shard"),
)
def get_shard_iterator(call: Call) -> dict[str, Any]:
    stream, kind = readable_stream(call), call.request["ShardIteratorType"]
    shard = stream.shards.get(call.request["ShardId"])
    if shard is None:
        raise Fault(
            "ResourceNotFoundException",
            f"Shard {call.request['ShardId']} in stream {stream.stream_name} under account {call.account}"
            " does not exist",
        )
    needed = {"AT_TIMESTAMP": "Timestamp"}.get(kind, "StartingSequenceNumber" if "SEQUENCE" in kind else "")
    if needed and not call.request.get(needed):
        raise Fault("InvalidArgumentException", f"Must either specify {needed} or another ShardIteratorType.")
    position = shard.first_sequence
    if kind == "LATEST":
        position = shard.sequences[-1] if shard.sequences else position
    elif kind == "AT_TIMESTAMP":
        earlier = arrived_before(shard, call.request["Timestamp"].replace(tzinfo=UTC).timestamp())
        position = shard.sequences[earlier - 1] if earlier else position
    elif needed:
        position = int(call.request["StartingSequenceNumber"]) - (kind == "AT_SEQUENCE_NUMBER")
    return {"ShardIterator": iterator(stream, shard, position)}


@answers(
    "kinesis.GetRecords",
    documented("10,000 records and 10 MiB at most"),
    documented("at the end of a closed shard: no NextShardIterator, and its ChildShards"),
    inferred("that comes with the last records, not a call later"),
)
def get_records(call: Call) -> dict[str, Any]:
    arn, shard_id, position = place_of(call.request["ShardIterator"])
    stream = readable_stream(call, arn)
    answer = read_records(stream, stream.shards[shard_id], position, call.request.get("Limit", 10000))
    return answer | {"Records": [record.to_json() for record in answer["Records"]]}


def read_records(stream: Any, shard: Any, position: int, limit: int) -> dict[str, Any]:
    """The answer to GetRecords."""
    start = bisect.bisect_right(shard.sequences, position)
    records = [shard.records[sequence] for sequence in shard.sequences[start : start + limit]]
    ends = itertools.accumulate(len(record.data) for record in records)
    records = records[: max(1, sum(1 for end in ends if end <= GET_RECORDS_BYTES))]
    answer: dict[str, Any] = {"Records": records, "MillisBehindLatest": 0}
    end = start + len(records)
    if records and end < len(shard.sequences):
        tip = shard.records[shard.sequences[-1]].created_at
        answer["MillisBehindLatest"] = round((tip - records[-1].created_at) * 1000)
    if not shard.is_open and end == len(shard.sequences):
        return answer | {"ChildShards": child_shards(stream, shard)}
    last = shard.sequences[end - 1] if records else position
    return answer | {"NextShardIterator": iterator(stream, shard, last)}


def child_shards(stream: Any, parent: Any) -> list[dict[str, Any]]:
    return [
        {
            "ShardId": shard.shard_id,
            "ParentShards": [name for name in (shard.parent, shard.adjacent_parent) if name],
            "HashKeyRange": {
                "StartingHashKey": str(shard.starting_hash),
                "EndingHashKey": str(shard.ending_hash),
            },
        }
        for shard in stream.shards.values()
        if parent.shard_id in (shard.parent, shard.adjacent_parent)
    ]


# ----------------------------------------------------------------------------------------------------
# Lambda: moto's functions and mappings; ours are states, conflicts, aliases and what moto forgets
# ----------------------------------------------------------------------------------------------------


def lambda_role(call: Call, role_arn: str) -> None:
    if not assumable(call.account, role_arn, "lambda.amazonaws.com"):
        raise invalid("The role defined for the function cannot be assumed by Lambda.")


@patches(
    "moto.awslambda.models.LambdaFunction.__init__",
    documented("LoggingConfig and DeadLetterConfig are kept; Pending, then Active"),
)
def new_function(
    original: Any, self: Any, account_id: str, spec: dict[str, Any], region: str, version: Any = 1
) -> None:
    original(self, account_id, spec, region, version)
    self.logging_config = spec.get("LoggingConfig") or {}
    self.dead_letter_config = spec.get("DeadLetterConfig")
    self.life = Life("Active")
    self.life.go("Pending", "Active")


@patches(
    "moto.awslambda.models.LambdaFunction.get_configuration",
    documented("State and LastUpdateStatus as they pass; LoggingConfig with its defaults"),
)
def function_configuration(original: Any, self: Any, on_create: bool = False) -> dict[str, Any]:
    configuration: dict[str, Any] = original(self, on_create)
    logging = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{self.function_name}", **self.logging_config}
    if logging["LogFormat"] == "JSON":
        logging = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", **logging}
    configuration["LoggingConfig"] = logging
    if self.dead_letter_config:
        configuration["DeadLetterConfig"] = self.dead_letter_config
    if self.life.state == "Pending":
        configuration |= {"State": "Pending", "StateReasonCode": "Creating"}
    elif self.life.state == "InProgress":
        configuration |= {"LastUpdateStatus": "InProgress", "LastUpdateStatusReasonCode": "Creating"}
    return configuration


@patches(
    "moto.awslambda.models.LambdaFunction.update_configuration",
    documented(
        "LoggingConfig, TracingConfig, EphemeralStorage, DeadLetterConfig and KMSKeyArn can be changed"
    ),
    documented("what changes nothing makes no new version publishable"),
)
def update_configuration(original: Any, self: Any, config_updates: dict[str, Any]) -> dict[str, Any]:
    before, unpublished = self.get_configuration(), self.code_or_config_updated
    for key, value in config_updates.items():
        if key == "EphemeralStorage":
            self.ephemeral_storage = value["Size"]
        elif key in ("LoggingConfig", "TracingConfig", "DeadLetterConfig", "KMSKeyArn"):
            name = {"KMSKeyArn": "kms_key_arn"}.get(key) or camelcase_to_underscores(key)
            setattr(self, name, value)
    answer: dict[str, Any] = original(self, config_updates)
    self.code_or_config_updated = unpublished or answer != before
    return answer


@patches(
    "moto.awslambda.models.LambdaFunction.update_function_code",
    documented("the same code again makes no new version publishable"),
)
def update_code_in(original: Any, self: Any, updated_spec: dict[str, Any]) -> dict[str, Any]:
    before, unpublished = self.code_sha_256, self.code_or_config_updated
    answer: dict[str, Any] = original(self, updated_spec)
    self.code_or_config_updated = unpublished or self.code_sha_256 != before
    return answer


@patches(
    "moto.awslambda.models.LambdaStorage.publish_version",
    documented("an unchanged function is not published again"),
)
def publish_version_in(original: Any, self: Any, name_or_arn: str, description: str = "") -> Any:
    published = original(self, name_or_arn, description)
    self.get_function_by_name_or_arn_with_qualifier(name_or_arn).code_or_config_updated = False
    return published


@answers(
    "lambda.CreateFunction",
    observed("a role that lambda.amazonaws.com cannot assume (yet): InvalidParameterValueException"),
    observed("a Zip without Runtime and Handler is refused"),
)
def create_function(call: Call) -> Any:
    if call.request.get("PackageType", "Zip") == "Zip" and not {"Runtime", "Handler"} <= set(call.request):
        raise invalid(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages."
        )
    check_code(call.request.get("Code", {}))
    lambda_role(call, call.request["Role"])
    return call.moto()


def check_code(code: dict[str, Any]) -> None:
    if code.get("S3Bucket") and "s3" in CURRENT[0].elsewhere:
        raise NotModelledError(f"code from S3 while {SERVED_ELSEWHERE['s3']} serves it: use ZipFile")


def settled_function(call: Call) -> Any:
    function = call.backend().get_function(call.request["FunctionName"])
    if function.life.state == "Pending":
        reason = "The function is currently in the following state: Pending"
    elif function.life.state == "InProgress":
        reason = f"An update is in progress for resource: {function.function_arn}"
    else:
        return function
    raise Fault("ResourceConflictException", f"The operation cannot be performed at this time. {reason}")


def begin_update(call: Call) -> Any:
    """moto's answer, with the update in progress; a version published by it shares its state."""
    function = settled_function(call)
    function.life = Life("Active")
    function.life.go("InProgress", "Active")
    status, headers, body = call.moto()
    progress = {"LastUpdateStatus": "InProgress", "LastUpdateStatusReasonCode": "Creating"}
    return status, headers, json.dumps(json.loads(body) | progress)


@answers(
    "lambda.UpdateFunctionCode",
    observed("while Pending or InProgress: ResourceConflictException; InProgress, then Successful"),
)
def update_function_code(call: Call) -> Any:
    check_code(call.request)
    if call.request.get("DryRun"):
        return call.moto()
    return begin_update(call)


@answers(
    "lambda.UpdateFunctionConfiguration",
    observed("while Pending or InProgress: ResourceConflictException; InProgress, then Successful"),
)
def update_function_configuration(call: Call) -> Any:
    if "Role" in call.request:
        lambda_role(call, call.request["Role"])
    return begin_update(call)


@answers("lambda.PublishVersion", observed("while Pending or InProgress: ResourceConflictException"))
def publish_version(call: Call) -> Any:
    settled_function(call)
    return call.moto()


@answers("lambda.GetFunctionConfiguration", documented("shows the passing states"))
def get_function_configuration(call: Call) -> Any:
    call.backend().get_function(call.request["FunctionName"], call.request.get("Qualifier")).life.poll()
    return call.moto()


@answers("lambda.GetFunction", documented("shows the passing states; Code.Location can be downloaded"))
def get_function(call: Call) -> Any:
    function = call.backend().get_function(call.request["FunctionName"], call.request.get("Qualifier"))
    function.life.poll()
    answer = json.loads(call.moto())
    host = call.response.headers.get("Host", "")
    if host and not host.endswith("amazonaws.com"):
        path = f"{call.account}/{call.region}/{function.function_name}/{function.version}.zip"
        answer["Code"]["Location"] = f"http://{host}{CODE_PATH}{path}"
    return json.dumps(answer)


def code_of(path: str) -> bytes:
    """The zip behind Code.Location; raises ChannelError when there is none."""
    try:
        account, region, name, version = path.removesuffix(".zip").split("/")
        return bytes(backend_of("lambda", account, region).get_function(name, version).code_bytes)
    except Exception as error:  # moto's own of many kinds
        raise ChannelError("404 Not Found", f"There is no code of a function at {path!r}.") from error


@answers(
    "lambda.Invoke", inferred("no code runs here: a hook answers, or it is NotImplemented; DryRun is 204")
)
def invoke(call: Call) -> Any:
    kind = call.request.get("InvocationType", "RequestResponse")
    arn = qualified_arn(call, call.request["FunctionName"], call.request.get("Qualifier", ""))
    if kind == "DryRun":
        return 204, {"status": "204"}, ""
    hook = CURRENT[0].invoke
    if hook is None:
        raise NotImplementedError
    payload, code = bytes(call.request.get("Payload") or b""), "202" if kind == "Event" else "200"

    def run() -> Any:
        answer = hook(arn, payload)
        return (
            int(code),
            {"status": code, "X-Amz-Executed-Version": "$LATEST"},
            b"" if code == "202" else answer,
        )

    return run  # without the lock: the code may call this very server


def qualified_arn(call: Call, function_name: str, qualifier: str = "") -> str:
    """The function's ARN with its version or alias, which must exist; a name may carry its qualifier."""
    name, _, within = function_name.rsplit(":function:", 1)[-1].partition(":")
    qualifier = qualifier or within
    call.backend().get_function(name, qualifier or None)  # raises ResourceNotFoundException
    return call.arn(f"function:{name}" + (f":{qualifier}" if qualifier else ""))


@patches(
    "moto.awslambda.models.EventSourceMapping.get_configuration",
    documented("states as they pass; what was not given comes back with its default"),
    observed("a mapping on an alias shows the alias's ARN"),
)
def mapping_configuration(original: Any, self: Any) -> dict[str, Any]:
    configuration: dict[str, Any] = original(self)
    if not hasattr(self, "life"):
        return configuration
    defaults: dict[str, Any] = {
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "DestinationConfig": {"OnFailure": {}},
        "LastProcessingResult": getattr(self, "last_result", NO_RECORDS_PROCESSED),
    }
    if self.starting_position_timestamp:
        configuration["StartingPositionTimestamp"] = self.starting_position_timestamp
    state = {"State": self.life.state, "StateTransitionReason": "User action"}
    configuration.pop("Tags", None)  # ListTags has them
    return defaults | configuration | state


def check_mapping(call: Call, arn: str) -> None:
    """Raises a Fault for what AWS checks of a mapping beyond the bounds of the service model."""
    request, stream_arn = call.request, call.request["EventSourceArn"]
    if not request.get("StartingPosition"):
        raise invalid("StartingPosition is needed for a stream.")
    if (request["StartingPosition"] == "AT_TIMESTAMP") != ("StartingPositionTimestamp" in request):
        raise invalid("StartingPositionTimestamp goes with AT_TIMESTAMP.")
    if not stream_exists(call, stream_arn):
        raise invalid(f"Stream not found: {stream_arn}")
    for mapping in call.backend()._event_source_mappings.values():
        if (mapping.event_source_arn, mapping.function_arn) == (stream_arn, arn):
            raise Fault(
                "ResourceConflictException",
                f'The event source arn (" {stream_arn} ") and function (" {arn.split(":function:")[1]} ")'
                " provided mapping already exists. Please update or delete the existing mapping with UUID"
                f" {mapping.uuid}",
            )
    role = call.backend().get_function(request["FunctionName"]).role
    for action in STREAM_READS:
        if not role_allows(
            call.account, role, f"kinesis:{action}", "*" if action == "ListStreams" else stream_arn
        ):
            raise invalid(
                f"Cannot access stream {stream_arn}. Please ensure the role can perform the GetRecords,"
                " GetShardIterator, DescribeStream, ListShards, and ListStreams Actions on your stream in"
                " IAM.",
            )
    check_destination(call, role)


def check_destination(call: Call, role: str) -> None:
    destination = call.request.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", "")
    if destination.startswith(f"arn:{call.response.partition}:s3:::") and not role_allows(
        call.account, role, "s3:PutObject", f"{destination}/aws/lambda/x"
    ):
        raise invalid("The provided execution role does not have permissions to call PutObject on S3")


@patches(
    "moto.awslambda.models.LambdaBackend.create_event_source_mapping",
    documented("a stream does not call its mappings (moto: it calls the function within a put)"),
)
def create_mapping_in(original: Any, self: Any, spec: dict[str, Any]) -> Any:
    from moto.awslambda import models

    if ":kinesis:" not in spec.get("EventSourceArn", ""):
        return original(self, spec)
    function = self.get_function(spec["FunctionName"])
    spec |= {"RegionName": self.region_name, "AccountId": self.account_id}
    new_mapping: Any = models.EventSourceMapping
    mapping = new_mapping(spec | {"FunctionArn": function.function_arn})
    self._event_source_mappings[mapping.uuid] = mapping
    return mapping


def take_mapping_report(uuid: str, report: dict[str, Any]) -> dict[str, Any]:
    """What a stand-in for Lambda's poller says of its work: LastProcessingResult, metrics of the function."""
    for backend in all_backends("lambda"):
        if mapping := backend._event_source_mappings.get(uuid):
            if "LastProcessingResult" in report:
                mapping.last_result = report["LastProcessingResult"]
            name = mapping.function_arn.split(":function:")[1]
            function = {"FunctionName": name.partition(":")[0]}
            for dimensions in (function, function | {"Resource": name}):
                record_metrics(backend, "AWS/Lambda", dimensions, report.get("metrics", {}))
            return {}
    raise ChannelError("404 Not Found", f"There is no event source mapping {uuid!r}.")


@answers(
    "lambda.CreateEventSourceMapping",
    observed(
        "one mapping a stream and function or alias: ResourceConflictException with the UUID in its text"
    ),
    documented(
        "a stream needs StartingPosition, AT_TIMESTAMP its timestamp; Creating, then Enabled or Disabled"
    ),
    observed("the role must be able to read the stream: 'Cannot access stream ...'"),
    inferred("ListStreams counts only on *; an S3 destination needs s3:PutObject"),
    inferred("an enhanced fan-out consumer as source is refused as not modelled"),
)
def create_mapping(call: Call) -> Any:
    source = call.request.get("EventSourceArn", "")
    if ":kinesis:" not in source:
        return call.moto()
    if "/consumer/" in source:
        raise invalid("A consumer (enhanced fan-out) is not modelled here.")
    arn = qualified_arn(call, call.request["FunctionName"])
    check_mapping(call, arn)
    status, headers, body = call.moto()
    mapping = call.backend().get_event_source_mapping(json.loads(body)["UUID"])
    mapping.function_arn = arn
    mapping.life = Life("Enabled")
    mapping.life.go("Creating", "Enabled" if mapping.enabled else "Disabled")
    return status, headers, json.dumps(mapping.get_configuration())


def known_mapping(call: Call) -> Any:
    mapping = call.backend().get_event_source_mapping(call.request["UUID"])
    if mapping is not None and poll_mapping(call, mapping, aged=False):
        return mapping
    raise Fault("ResourceNotFoundException", "The resource you requested does not exist.")


def poll_mapping(call: Call, mapping: Any, aged: bool = True) -> bool:
    """Whether the mapping is still there after this describe."""
    if not hasattr(mapping, "life"):
        return True
    if aged and mapping.life.poll() == GONE:
        call.backend().delete_event_source_mapping(mapping.uuid)
    return bool(mapping.life.state != GONE)


def settled_mapping(call: Call, verb: str) -> Any:
    mapping = known_mapping(call)
    if hasattr(mapping, "life") and mapping.life.state not in ("Enabled", "Disabled"):
        raise Fault("ResourceInUseException", f"Cannot {verb} the event source mapping because it is in use.")
    return mapping


@answers("lambda.GetEventSourceMapping", documented("shows the passing states; a deleted one is not found"))
def get_mapping(call: Call) -> Any:
    mapping = known_mapping(call)
    if not poll_mapping(call, mapping):
        raise Fault("ResourceNotFoundException", "The resource you requested does not exist.")
    return call.moto()


@answers(
    "lambda.ListEventSourceMappings",
    inferred("a function's name finds those on its aliases too, name:alias only its own"),
    documented("EventSourceArn and FunctionName are ANDed; MaxItems, Marker"),
)
def list_mappings(call: Call) -> Any:
    name = call.request.get("FunctionName", "").rsplit(":function:", 1)[-1]
    found = []
    for mapping in list(call.backend()._event_source_mappings.values()):
        target = mapping.function_arn.split(":function:")[1]
        if call.request.get("EventSourceArn") not in (None, mapping.event_source_arn):
            continue
        if name in ("", target, target.partition(":")[0]) and poll_mapping(call, mapping):
            found.append(mapping.get_configuration())
    start, size = int(call.request.get("Marker") or 0), min(call.request.get("MaxItems", 100), 100)
    more = {"NextMarker": str(start + size)} if start + size < len(found) else {}
    return json.dumps({"EventSourceMappings": found[start : start + size], **more})


@answers(
    "lambda.UpdateEventSourceMapping",
    observed("while it changes: ResourceInUseException 'because it is in use'"),
    documented("Updating, Enabling or Disabling, then Enabled or Disabled"),
)
def update_mapping(call: Call) -> Any:
    mapping = settled_mapping(call, "update")
    was, function_name = mapping.enabled, call.request.get("FunctionName")
    arn = qualified_arn(call, function_name) if function_name else mapping.function_arn
    check_destination(call, call.backend().get_function(arn).role)
    status, headers, _ = call.moto()
    mapping.function_arn = arn
    passing = "Updating" if mapping.enabled == was else "Enabling" if mapping.enabled else "Disabling"
    if hasattr(mapping, "life"):
        mapping.life.go(passing, "Enabled" if mapping.enabled else "Disabled")
    return status, headers, json.dumps(mapping.get_configuration())


@answers(
    "lambda.DeleteEventSourceMapping",
    observed("while it changes: ResourceInUseException 'because it is in use'"),
    documented("Deleting, then gone"),
)
def delete_mapping(call: Call) -> Any:
    mapping = settled_mapping(call, "delete")
    if not hasattr(mapping, "life"):
        return call.moto()
    mapping.life.go("Deleting", GONE)
    return 202, {"status": 202}, json.dumps(mapping.get_configuration())


# ----------------------------------------------------------------------------------------------------
# RDS: moto's instances and groups; ours are states, what waits for a reboot, and what is in use
# ----------------------------------------------------------------------------------------------------


def known_database(call: Call) -> Any:
    name = call.request["DBInstanceIdentifier"].lower()
    for database in call.backend().databases.values():
        if database.db_instance_identifier == name:
            return database
    raise Fault("DBInstanceNotFound", f"DBInstance {name} not found.")


def available_database(call: Call) -> Any:
    database = known_database(call)
    if database.status != "available":
        raise Fault(
            "InvalidDBInstanceState",
            f"Instance {database.db_instance_identifier} is {database.status}, not available.",
        )
    return database


def database_goes(database: Any, state: str, coming: str, then: Callable[[], None] | None = None) -> None:
    life: Life = database.__dict__.setdefault("life", Life(state))
    life.go(state, coming, then)
    database.status = state


@answers(
    "rds.CreateDBInstance",
    documented(
        "creating, then available; the subnet group and the parameter group exist and fit the version"
    ),
    inferred("postgres only, of a few versions and classes; others are refused as not modelled"),
    documented("without VpcSecurityGroupIds it has the VPC's default group"),
    inferred("without DBSubnetGroupName it is in the group named default, of the default VPC's subnets"),
)
def create_database(call: Call) -> Any:
    request = call.request
    version, klass = request.get("EngineVersion", RDS_VERSIONS[-1]), request["DBInstanceClass"]
    full = [each for each in RDS_VERSIONS if each == version or each.split(".")[0] == version]
    if request["Engine"] != "postgres" or not full or klass not in RDS_CLASSES:
        raise Fault(
            "InvalidParameterCombination",
            f"RDS does not support creating a DB instance with: Engine={request['Engine']},"
            f" EngineVersion={version}, DBInstanceClass={klass} (of what is modelled here).",
        )
    family = f"postgres{full[-1].split('.')[0]}"
    group = call.backend().db_parameter_groups.get(request.get("DBParameterGroupName", "").lower())
    if group is not None and group.family != family:
        raise Fault(
            "InvalidParameterCombination",
            f"The Parameter Group {group.name} with DBParameterGroupFamily {group.family} cannot be used for"
            f" this instance. Please use a Parameter Group with DBParameterGroupFamily {family}",
        )
    if not request.get("DBSubnetGroupName"):
        call.response.params["DBSubnetGroupName"] = default_subnet_group(call).name
    answer = call.moto()
    database = known_database(call)
    if not database.vpc_security_group_ids:
        groups = call.backend("ec2").groups[database.db_subnet_group.vpc_id].values()
        database.vpc_security_group_ids = [group.id for group in groups if group.name == "default"]
    database.engine_version, database.needs_reboot, database.pending_modified_values = full[-1], False, {}
    database_goes(database, "creating", "available")
    return answer


def default_subnet_group(call: Call) -> Any:
    """RDS makes it when the first instance needs it."""
    backend = call.backend()
    if "default" not in backend.subnet_groups:
        subnets = default_subnets(call.backend("ec2"))
        backend.create_subnet_group("default", "default", subnets, [])
    return backend.subnet_groups["default"]


@patches("moto.rds.models.DBInstance.endpoint", documented("no endpoint while it is being created"))
def database_endpoint(original: Any, self: Any) -> Any:
    return None if self.status == "creating" else original(self)


@patches(
    "moto.rds.models.DBInstance.db_parameter_group_status_list",
    documented("ParameterApplyStatus is pending-reboot until a reboot has applied static parameters"),
)
def parameter_status(original: Any, self: Any) -> list[dict[str, str]]:
    status = "pending-reboot" if getattr(self, "needs_reboot", False) else "in-sync"
    return [
        {"DBParameterGroupName": group.name, "ParameterApplyStatus": status}
        for group in self.db_parameter_groups()
    ]


@answers("rds.DescribeDBInstances", documented("shows the passing states; a deleted one: DBInstanceNotFound"))
def describe_databases(call: Call) -> Any:
    wanted = call.request.get("DBInstanceIdentifier", "").lower()
    for database in list(call.backend().databases.values()):
        if hasattr(database, "life") and wanted in ("", database.db_instance_identifier):
            database.status = database.life.poll()
            if database.status == GONE:
                call.backend().delete_db_instance(database.db_instance_identifier, None, True, True)
    return call.moto()


@answers(
    "rds.ModifyDBInstance",
    documented("class, storage, version and MultiAZ wait in PendingModifiedValues unless ApplyImmediately"),
    documented("another parameter group needs a reboot; another DBPortNumber restarts it at once"),
    inferred("only an available instance; modifying, then available"),
)
def modify_database(call: Call) -> Any:
    database, request = available_database(call), call.request
    late = {
        "DBInstanceClass": database.db_instance_class,
        "AllocatedStorage": database.allocated_storage,
        "EngineVersion": database.engine_version,
        "MultiAZ": database.multi_az,
    }
    pending = {key: request[key] for key, value in late.items() if request.get(key, value) != value}
    if not request.get("ApplyImmediately"):
        for key in pending:
            del call.response.params[key]
        database.pending_modified_values = {**getattr(database, "pending_modified_values", {}), **pending}
    before = database.db_parameter_group_name
    answer = call.moto()
    if database.db_parameter_group_name != before:
        database.needs_reboot = True
    database.port = request.get("DBPortNumber", database.port)
    if request.get("ApplyImmediately"):
        database.pending_modified_values = {}
    if request.get("ApplyImmediately") or "DBPortNumber" in request:
        database_goes(database, "modifying", "available")
    return answer


@answers(
    "rds.RebootDBInstance",
    documented("an available instance; rebooting, then available with static parameters"),
)
def reboot_database(call: Call) -> Any:
    database = available_database(call)
    database_goes(database, "rebooting", "available", lambda: setattr(database, "needs_reboot", False))
    return call.moto()


@answers(
    "rds.DeleteDBInstance",
    documented("refused while protected; a final snapshot unless SkipFinalSnapshot; deleting, then gone"),
)
def delete_database(call: Call) -> Any:
    database = known_database(call)
    if database.deletion_protection:
        raise Fault(
            "InvalidParameterCombination",
            "Cannot delete protected DB Instance, please disable deletion protection and try again.",
        )
    if database.status not in ("available", "failed"):
        raise Fault("InvalidDBInstanceState", f"Instance is {database.status}, it cannot be deleted.")
    snapshot = call.request.get("FinalDBSnapshotIdentifier")
    if bool(snapshot) == bool(call.request.get("SkipFinalSnapshot")):
        raise Fault(
            "InvalidParameterCombination",
            "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.",
        )
    if snapshot:
        call.backend().create_db_snapshot(database.db_instance_identifier, snapshot, snapshot_type="manual")
    database_goes(database, "deleting", GONE)
    return {"DBInstance": database}


@answers("rds.CreateDBParameterGroup", documented("of a family that exists"))
def create_parameter_group(call: Call) -> Any:
    families = {f"postgres{version.split('.')[0]}" for version in RDS_VERSIONS}
    if call.request["DBParameterGroupFamily"] not in families:
        raise Fault(
            "InvalidParameterValue",
            f"ParameterGroupFamily {call.request['DBParameterGroupFamily']} is not valid.",
        )
    return call.moto()


def own_parameter_group(call: Call) -> Any:
    name = call.request["DBParameterGroupName"].lower()
    if name.startswith("default."):
        raise Fault("InvalidDBParameterGroupState", f"The default group {name} cannot be changed or deleted.")
    if name not in call.backend().db_parameter_groups:
        raise Fault("DBParameterGroupNotFound", f"DBParameterGroup {name} not found.")
    return call.backend().db_parameter_groups[name]


def members(call: Call, group: Any) -> list[Any]:
    return [each for each in call.backend().databases.values() if each.db_parameter_group_name == group.name]


@answers(
    "rds.ModifyDBParameterGroup",
    observed("a static parameter with ApplyMethod immediate: InvalidParameterCombination"),
    observed("an unknown parameter: InvalidParameterValue 'Could not find parameter with name'"),
    documented("not a default group; instances in it are pending-reboot"),
)
def modify_parameter_group(call: Call) -> Any:
    group = own_parameter_group(call)
    for parameter in call.request["Parameters"]:
        name = parameter["ParameterName"]
        if name not in RDS_PARAMETERS:
            raise Fault("InvalidParameterValue", f"Could not find parameter with name: {name}")
        if RDS_PARAMETERS[name][0] == "static" and parameter.get("ApplyMethod") != "pending-reboot":
            raise Fault(
                "InvalidParameterCombination", "cannot use immediate apply method for static parameter"
            )
    answer = call.moto()
    if any(parameter["ApplyMethod"] == "pending-reboot" for parameter in call.request["Parameters"]):
        for database in members(call, group):
            database.needs_reboot = True
    return answer


@answers(
    "rds.DescribeDBParameters",
    documented("all parameters with Source, ApplyType and default; Source filters"),
)
def describe_parameters(call: Call) -> dict[str, Any]:
    name = call.request["DBParameterGroupName"].lower()
    group = call.backend().db_parameter_groups.get(name)
    if group is None and not name.startswith("default.postgres"):
        raise Fault("DBParameterGroupNotFound", f"DBParameterGroup {name} not found.")
    rows = []
    for parameter, (apply_type, default) in RDS_PARAMETERS.items():
        given = group.parameters.get(parameter) if group is not None else None
        row: dict[str, Any] = {
            "ParameterName": parameter,
            "ParameterValue": default,
            "Source": "engine-default",
        }
        row |= {"ApplyType": apply_type, "IsModifiable": True, "ApplyMethod": "pending-reboot"}
        rows.append(row | ({**given, "Source": "user"} if given else {}))
    return {"Parameters": [row for row in rows if call.request.get("Source") in (None, row["Source"])]}


@answers("rds.DeleteDBParameterGroup", observed("refused while an instance is a member of it"))
def delete_parameter_group(call: Call) -> Any:
    group = own_parameter_group(call)
    if members(call, group):
        raise Fault(
            "InvalidDBParameterGroupState",
            f"One or more database instances are still members of this parameter group {group.name}, so the"
            " group cannot be deleted",
        )
    return call.moto()


def check_zones(call: Call) -> None:
    zones = {call.backend("ec2").get_subnet(each).availability_zone for each in call.request["SubnetIds"]}
    if len(zones) < 2:
        raise Fault(
            "DBSubnetGroupDoesNotCoverEnoughAZs",
            "The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement. Current AZ"
            f" coverage: {', '.join(zones)}. Add subnets to cover at least 2 AZs.",
        )


@answers(
    "rds.CreateDBSubnetGroup",
    documented("at least two availability zones; a second one of the name is refused"),
)
def create_db_subnet_group(call: Call) -> Any:
    check_zones(call)
    if call.request["DBSubnetGroupName"].lower() in call.backend().subnet_groups:
        raise Fault("DBSubnetGroupAlreadyExists", f"{call.request['DBSubnetGroupName']} already exists.")
    return call.moto()


@answers("rds.ModifyDBSubnetGroup", documented("at least two availability zones"))
def modify_db_subnet_group(call: Call) -> Any:
    check_zones(call)
    return call.moto()


@patches(
    "moto.rds.models.RDSBackend.modify_db_subnet_group",
    documented("the group stays, with the new subnets (moto takes it out of its store)"),
)
def modify_subnet_group_in(original: Any, self: Any, subnet_name: str, *others: Any, **named: Any) -> Any:
    group = original(self, subnet_name, *others, **named)
    self.subnet_groups[subnet_name] = group
    return group


@answers("rds.DeleteDBSubnetGroup", documented("refused while an instance is in it"))
def delete_db_subnet_group(call: Call) -> Any:
    name = call.request["DBSubnetGroupName"].lower()
    for database in call.backend().databases.values():
        group = getattr(database, "db_subnet_group", None)
        if group is not None and group.name == name:
            raise Fault(
                "InvalidDBSubnetGroupStateFault", f"{name} is in use by {database.db_instance_identifier}."
            )
    return call.moto()


@answers(
    "rds.DescribeDBEngineVersions",
    inferred("a few versions of postgres; the last one is the default, of a major version its last one"),
    documented("DefaultOnly: the default version of the engine, or of the engine and major version"),
)
def describe_engine_versions(call: Call) -> dict[str, Any]:
    wanted, engine = call.request.get("EngineVersion", ""), call.request.get("Engine", "postgres")
    versions = [
        version
        for version in RDS_VERSIONS
        if engine == "postgres" and wanted in ("", version, version.split(".")[0])
    ]
    return {
        "DBEngineVersions": [
            {
                "Engine": "postgres",
                "EngineVersion": version,
                "MajorEngineVersion": version.split(".")[0],
                "DBParameterGroupFamily": f"postgres{version.split('.')[0]}",
                "Status": "available",
            }
            for version in (versions[-1:] if call.request.get("DefaultOnly") else versions)
        ]
    }


@answers("rds.DescribeOrderableDBInstanceOptions", inferred("a few classes for each version of postgres"))
def describe_orderable_databases(call: Call) -> dict[str, Any]:
    request = call.request
    return {
        "OrderableDBInstanceOptions": [
            {
                "Engine": "postgres",
                "EngineVersion": version,
                "DBInstanceClass": name,
                "StorageType": "gp3",
                "AvailabilityZones": [{"Name": call.region + zone} for zone in "abc"],
                "Vpc": True,
                "MinStorageSize": 20,
                "MaxStorageSize": 65536,
            }
            for version in RDS_VERSIONS
            for name in RDS_CLASSES
            if request["Engine"] == "postgres"
            and request.get("EngineVersion") in (None, version)
            and request.get("DBInstanceClass") in (None, name)
        ]
    }


@patches(
    "moto.rds.models.MasterUserSecret._generate_secret_string",
    documented("the managed secret has the master's name as chosen"),
)
def master_secret(original: Any, self: Any) -> str:
    return json.dumps({**json.loads(original(self)), "username": self.resource.master_username})


# ----------------------------------------------------------------------------------------------------
# S3, EC2, IAM, Secrets Manager, CloudWatch, CloudWatch Logs
# ----------------------------------------------------------------------------------------------------

SSE_S3 = {
    "Rule": {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
}


@patches(
    "moto.s3.models.FakeBucket.get_permission",
    documented(
        "a statement whose Condition is aws:SecureTransport false does not apply: a client of AWS uses TLS"
    ),
    inferred("callers have every tag: a Deny to principals whose tag is not as wanted does not apply"),
)
def bucket_permission(original: Any, self: Any, action: str, resource: str) -> Any:
    if self.policy is None:
        return original(self, action, resource)
    document = json.loads(self.policy)
    document["Statement"] = [each for each in statements(document) if not spares_callers(each)]
    bucket = copy.copy(self)  # other threads go on seeing the whole policy
    bucket.policy = json.dumps(document).encode()
    return original(bucket, action, resource)


def spares_callers(statement: dict[str, Any]) -> bool:
    """Whether its Condition is one that no caller of the emulated AWS meets."""
    condition = statement.get("Condition", {})
    wanted = condition.get("Bool", {}).get("aws:SecureTransport", "")
    if wanted != "" and str(listed(wanted)[0]).lower() == "false":
        return True
    return any(key.startswith("aws:PrincipalTag/") for key in condition.get("StringNotEquals", {}))


@patches(
    "moto.s3.models.FakeBucket.__init__",
    documented("a bucket is encrypted with SSE-S3 from its creation (since January 2023)"),
)
def new_bucket(original: Any, self: Any, *arguments: Any, **named: Any) -> None:
    original(self, *arguments, **named)
    self.encryption = SSE_S3


@patches(
    "moto.s3.responses.S3Response._bucket_response_put",
    documented("CreateBucket keeps the Tags of its CreateBucketConfiguration"),
)
def put_bucket(original: Any, self: Any, request: Any, bucket_name: str, querystring: dict[str, Any]) -> Any:
    is_new = bucket_name not in self.backend.buckets
    answer = original(self, request, bucket_name, querystring)
    if is_new and not querystring and self.body:
        tags = ElementTree.fromstring(self.body).findall("{*}Tags/{*}Tag")
        given = {tag.findtext("{*}Key", ""): tag.findtext("{*}Value", "") for tag in tags}
        if given:
            self.backend.put_bucket_tagging(bucket_name, given)
    return answer


@patches(
    "moto.s3.responses.S3Response.put_object",
    documented("of conditional writes of one key at the same time, one succeeds: the others get 412"),
)
def put_object(original: Any, self: Any) -> Any:
    with LOCK:  # between moto's look and its put, another thread could put
        return original(self)


@patches(
    "moto.s3.responses.S3Response.get_bucket_notification",
    documented("shows that events go to EventBridge (moto sends them and does not say so)"),
)
def bucket_notifications(original: Any, self: Any) -> Any:
    found = self.backend.get_bucket_notification_configuration(self.bucket_name)
    if not found or found.event_bridge is None:
        return original(self)
    status, headers, body = original(self)
    root = ElementTree.fromstring(body)
    ElementTree.SubElement(root, root.tag.replace("NotificationConfiguration", "EventBridgeConfiguration"))
    return status, headers, ElementTree.tostring(root, encoding="unicode")


@patches("moto.s3.models.S3Backend.delete_bucket_encryption", documented("falls back to SSE-S3"))
def delete_bucket_encryption(original: Any, self: Any, bucket_name: str) -> None:
    self.get_bucket(bucket_name).encryption = SSE_S3


@answers(
    "ec2.DeleteSecurityGroup",
    documented(
        "DependencyViolation while another group's rule or an instance, endpoint or database refers to it"
    ),
)
def delete_security_group(call: Call) -> Any:
    group_id = call.request.get("GroupId", "")
    everyone = [group for groups in call.backend().groups.values() for group in groups.values()]
    used = any(
        rule.source_group.get("GroupId") == group_id
        for group in everyone
        if group.id != group_id
        for rule in [*group.ingress_rules, *group.egress_rules]
    )
    for endpoint in call.backend().vpc_end_points.values():
        if group_id in endpoint.security_group_ids:
            used = True
            if endpoint.state == "deleting":  # who tries again until it is gone need not look at it
                endpoint.state = endpoint.life.poll()
    used = used or any(
        group_id in each.vpc_security_group_ids for each in call.backend("rds").databases.values()
    )
    for instance in dms_of(call.backend("dms")).instances.values():
        used = used or any(
            each["VpcSecurityGroupId"] == group_id for each in instance.shape["VpcSecurityGroups"]
        )
    if used:
        raise Fault("DependencyViolation", f"resource {group_id} has a dependent object")
    return call.moto()


@patches(
    "moto.ec2.models.vpcs.VPCEndPoint.__init__",
    documented("only an interface endpoint can have a private DNS name"),
)
def new_vpc_endpoint(original: Any, self: Any, *arguments: Any, **named: Any) -> None:
    original(self, *arguments, **named)
    if self.vpc_endpoint_type != "Interface":
        self.private_dns_enabled = False


@answers(
    "ec2.CreateVpcEndpoint",
    documented("PrivateDnsEnabled needs enableDnsHostnames and enableDnsSupport of the VPC"),
    documented("a Gateway where no VpcEndpointType is given; states pending and available"),
    inferred("an Interface is pending at first, a Gateway available at once"),
)
def create_vpc_endpoint(call: Call) -> Any:
    kind, vpc_id = call.request.get("VpcEndpointType", "Gateway"), call.request["VpcId"]
    call.response.params["VpcEndpointType"] = kind
    if kind == "Interface" and call.request.get("PrivateDnsEnabled"):
        check_private_dns(call, vpc_id)
    answer = call.moto()
    if kind == "Interface":
        endpoint_goes(list(call.backend().vpc_end_points.values())[-1], "pending", "available")
    return answer


def endpoint_goes(endpoint: Any, state: str, coming: str, then: Callable[[], None] | None = None) -> None:
    life: Life = endpoint.__dict__.setdefault("life", Life(state))
    life.go(state, coming, then)
    endpoint.state = state


@answers("ec2.DescribeVpcEndpoints", documented("shows the passing states; a deleted one is still shown"))
def describe_vpc_endpoints(call: Call) -> Any:
    answer = call.moto()
    for endpoint in answer.result["VpcEndpoints"]:
        if hasattr(endpoint, "life"):
            endpoint.state = endpoint.life.poll()
    return answer


def check_private_dns(call: Call, vpc_id: str) -> None:
    vpc = call.backend().get_vpc(vpc_id)
    if not vpc.enable_dns_support or not vpc.enable_dns_hostnames:
        raise Fault(
            "InvalidParameter",
            "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to"
            f" true for {vpc_id}",
        )


@answers("ec2.ModifyVpcEndpoint", documented("changes PrivateDnsEnabled too, under CreateVpcEndpoint's rule"))
def modify_vpc_endpoint(call: Call) -> Any:
    wanted = call.request.get("PrivateDnsEnabled")
    (endpoint,) = call.backend().describe_vpc_endpoints([call.request["VpcEndpointId"]])
    if wanted:
        check_private_dns(call, endpoint.vpc_id)
    answer = call.moto()
    endpoint.private_dns_enabled = endpoint.private_dns_enabled if wanted is None else wanted
    return answer


@patches(
    "moto.ec2.models.vpcs.VPCBackend.delete_vpc_endpoints",
    documented("deleting, then deleted"),
    inferred("a deleted one is in no security group, one that is being deleted still is"),
)
def delete_vpc_endpoints(original: Any, self: Any, vpce_ids: list[str] | None = None) -> None:
    found = [self.vpc_end_points[each] for each in vpce_ids or [] if each in self.vpc_end_points]
    alive = [endpoint for endpoint in found if endpoint.state not in ("deleting", "deleted")]
    original(self, [endpoint.id for endpoint in alive])
    for endpoint in alive:
        endpoint_goes(endpoint, "deleting", "deleted", endpoint.security_group_ids.clear)


@patches(
    "moto.ec2.models.vpcs.VPCBackend.create_default_vpc",
    documented("the default VPC has an internet gateway, and a route to it in its main table"),
)
def create_default_vpc(original: Any, self: Any) -> Any:
    vpc = original(self)
    gateway = self.create_internet_gateway()
    self.attach_internet_gateway(gateway.id, vpc.id)
    main = self.describe_route_tables(filters={"vpc-id": [vpc.id], "association.main": ["true"]})[0]
    self.create_route(main.id, "0.0.0.0/0", gateway_id=gateway.id)
    return vpc


def default_subnets(backend: Any) -> list[Any]:
    """moto's, one in each availability zone, in the order of the zones."""
    by_zone = {
        zone: subnet
        for zone, subnets in backend.subnets.items()
        for subnet in subnets.values()
        if subnet.vpc_id == backend.default_vpc.id
    }
    return [by_zone[zone] for zone in sorted(by_zone)]


@patches(
    "moto.ec2.models.amis.AmiBackend._load_amis",
    inferred("there are AWS's images: moto's catalogue, loaded when somebody asks (0.2 s a reset else)"),
)
def load_images(original: Any, self: Any) -> None:
    for name in ("amis", "snapshots"):
        setattr(type(self), name, WithImages(name))
    self.__dict__["load_images"] = functools.partial(original, self)


@dataclass
class WithImages:
    """An attribute of moto's EC2 that the catalogue of images adds to: its first reader loads that."""

    name: str

    def __get__(self, backend: Any, owner: Any = None) -> Any:
        if backend is None:
            return self
        with LOCK:
            if load := backend.__dict__.pop("load_images", None):
                load()
            return backend.__dict__[self.name]

    def __set__(self, backend: Any, value: Any) -> None:
        backend.__dict__[self.name] = value


@answers(
    "ec2.DescribeVpcEndpointServices",
    documented("filters service-name and service-type (moto crashes on them)"),
)
def describe_endpoint_services(call: Call) -> dict[str, Any]:
    names = call.request.get("ServiceNames", [])
    found = call.backend().describe_vpc_endpoint_services(names, [], None, None, call.region)[
        "servicesDetails"
    ]
    for each in call.request.get("Filters", []):
        if each["Name"] not in ("service-name", "service-type"):
            raise Fault("InvalidFilter", f"The filter '{each['Name']}' is invalid")
        patterns = each["Values"]
        found = [
            service
            for service in found
            if any(
                fnmatch.fnmatchcase(text, pattern)
                for pattern in patterns
                for text in (
                    [service["ServiceName"]]
                    if each["Name"] == "service-name"
                    else [kind["ServiceType"] for kind in service["ServiceType"]]
                )
            )
        ]
    return {"ServiceNames": [service["ServiceName"] for service in found], "ServiceDetails": found}


@patches(
    "moto.iam.models.IAMBackend._init_aws_policies",
    documented("the AWS managed policies that this chain may attach exist"),
)
def managed_policies(original: Any, self: Any) -> list[Any]:
    from moto.iam.models import AWSManagedPolicy

    return [
        AWSManagedPolicy.from_data(name, self.account_id, self.region_name, policy)
        for name, policy in managed_policy_documents().items()
    ]


@functools.cache
def managed_policy_documents() -> dict[str, Any]:
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    every = json.loads(aws_managed_policies_data)
    return {name: every[name] for name in MANAGED_POLICIES}


@answers(
    "iam.SimulatePrincipalPolicy",
    inferred("a role is judged by its own policies, without Conditions; anyone else is allowed all"),
)
def simulate_policy(call: Call) -> dict[str, Any]:
    source = call.request["PolicySourceArn"]
    results = []
    for action in call.request["ActionNames"]:
        for resource in call.request.get("ResourceArns", ["*"]):
            allowed = ":role/" not in source or role_allows(call.account, source, action, resource)
            decision = "allowed" if allowed else "implicitDeny"
            results.append({"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision})
    return {"EvaluationResults": results, "IsTruncated": False}


@answers("secretsmanager.CreateSecret", observed("of a name scheduled for deletion: InvalidRequestException"))
def create_secret(call: Call) -> Any:
    for secret in call.backend().secrets.values():
        if secret.name == call.request["Name"] and secret.is_deleted():
            raise Fault(
                "InvalidRequestException",
                "You can't create this secret because a secret with this name is already scheduled for"
                " deletion.",
            )
    return call.moto()


@patches(
    "moto.cloudwatch.responses.CloudWatchResponse.put_dashboard",
    documented("Tags are kept of a new dashboard, and ignored of one that is there"),
)
def put_dashboard(original: Any, self: Any) -> Any:
    name, backend = self._get_param("DashboardName"), self.cloudwatch_backend
    is_new = name not in backend.dashboards
    answer = original(self)
    if is_new:
        backend.tagger.tag_resource(backend.dashboards[name].arn, self._get_param("Tags", []))
    return answer


@patches(
    "moto.cloudwatch.models.CloudWatchBackend.delete_dashboards", inferred("a deleted dashboard has no tags")
)
def delete_dashboards(original: Any, self: Any, dashboards: list[str]) -> Any:
    for name in set(dashboards) & set(self.dashboards):
        self.tagger.delete_all_tags_for_resource(self.dashboards[name].arn)
    return original(self, dashboards)


@patches(
    "moto.cloudwatch.models.CloudWatchBackend.put_metric_alarm",
    documented("a new alarm is INSUFFICIENT_DATA; an update leaves the state, and ignores Tags"),
)
def put_metric_alarm(original: Any, self: Any, name: str, *arguments: Any, **named: Any) -> Any:
    before = self.alarms.get(name)
    if before is not None:
        named["tags"] = None
    alarm = original(self, name, *arguments, **named)
    alarm.state_value = "INSUFFICIENT_DATA"
    if before is not None:
        state = {key: value for key, value in vars(before).items() if key.startswith("state_")}
        vars(alarm).update(state, history=before.history)
    return alarm


@patches("moto.cloudwatch.models.CloudWatchBackend.delete_alarms", inferred("a deleted alarm has no tags"))
def delete_alarms(original: Any, self: Any, alarm_names: list[str]) -> None:
    for name in set(alarm_names) & set(self.alarms):
        self.tagger.delete_all_tags_for_resource(self.alarms[name].alarm_arn)
    original(self, alarm_names)


@patches(
    "moto.cloudwatch.models.CloudWatchBackend.get_metric_data",
    documented("each combination of dimensions is a metric of its own, and no dimensions are one too"),
    documented("one value a period, at its start; statistics with percentiles"),
    inferred("expressions are NotImplemented (moto answers most of them with nothing)"),
    inferred("PutMetricData takes namespaces AWS/... here, for tests; AWS keeps them to itself"),
)
def metric_data(
    original: Any,
    self: Any,
    queries: list[dict[str, Any]],
    start_time: datetime,
    end_time: datetime,
    scan_by: str = "TimestampAscending",
) -> list[dict[str, Any]]:
    if any("Expression" in query for query in queries):
        raise NotModelledError("Expression")
    if start_time >= end_time:
        raise Fault("ValidationError", "The parameter EndTime must be greater than StartTime.")
    results = []
    for query in queries:
        periods = values_by_period(self.get_all_metrics(), query["MetricStat"], start_time, end_time)
        times = sorted(periods, reverse=scan_by == "TimestampDescending")
        stat, name = query["MetricStat"]["Stat"], query["MetricStat"]["Metric"]["MetricName"]
        results.append(
            {
                "id": query["Id"],
                "label": query.get("Label") or name,
                "timestamps": times,
                "values": [statistic(stat, periods[time]) for time in times],
                "status_code": "Complete",
            }
        )
    return [result for result, query in zip(results, queries, strict=True) if query.get("ReturnData", True)]


def record_metrics(backend: Any, namespace: str, dimensions: dict[str, str], metrics: dict[str, Any]) -> None:
    """Values of now, as AWS's services put them: {"Errors": 0, "Duration": [87.0, 91.5]}; null is none."""
    found = []
    for name, given in metrics.items():
        values = given if isinstance(given, list) else [] if given is None else [given]
        if not all(isinstance(value, (int, float)) for value in values):
            raise ChannelError(
                "400 Bad Request", f"The metric {name!r} is a number or several, not {given!r}."
            )
        pairs = [{"Name": key, "Value": value} for key, value in dimensions.items()]
        found += [{"MetricName": name, "Dimensions": pairs, "Value": value} for value in values]
    backend_of("cloudwatch", backend.account_id, backend.region_name).put_metric_data(namespace, found)


def values_by_period(
    metrics: list[Any], wanted: dict[str, Any], start_time: datetime, end_time: datetime
) -> dict[datetime, list[float]]:
    """{start of a period: the values in it}, of just this metric."""
    metric, period = wanted["Metric"], int(wanted["Period"])
    dimensions = sorted((each["Name"], each["Value"]) for each in metric.get("Dimensions", []))
    periods: dict[datetime, list[float]] = {}
    for each in metrics:
        found = (each.namespace, each.name, sorted((one.name, one.value) for one in each.dimensions))
        if found != (metric["Namespace"], metric["MetricName"], dimensions):
            continue
        if wanted.get("Unit") not in (None, each.unit) or not start_time <= each.timestamp < end_time:
            continue
        if not hasattr(each, "value"):
            raise NotModelledError("StatisticValues")
        since = each.timestamp - datetime(1970, 1, 1, tzinfo=each.timestamp.tzinfo)
        start = each.timestamp - since % timedelta(seconds=period)
        periods.setdefault(start, []).append(float(each.value))
    return periods


def statistic(name: str, values: list[float]) -> float:
    simple: dict[str, Callable[[list[float]], float]] = {
        "SampleCount": lambda given: float(len(given)),
        "Average": lambda given: sum(given) / len(given),
        "Sum": sum,
        "Minimum": min,
        "Maximum": max,
    }
    if name in simple:
        return simple[name](values)
    if not re.fullmatch(r"p\d{1,3}(\.\d+)?", name):
        raise NotModelledError(f"statistic {name}")
    rank = math.ceil(float(name[1:]) / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def log_group_of(call: Call) -> str:
    name = str(call.request["logGroupName"])
    if name not in call.backend().groups:
        raise Fault("ResourceNotFoundException", "The specified log group does not exist.")
    return name


@answers("logs.PutMetricFilter", documented("of a log group that exists"))
def put_metric_filter(call: Call) -> Any:
    log_group_of(call)
    return call.moto()


@patches(
    "moto.logs.metric_filters.MetricFilters.add_filter",
    documented("'creates or updates': a filter of the same name in the log group is replaced"),
)
def add_metric_filter(
    original: Any, self: Any, filter_name: str, filter_pattern: str, log_group_name: str, *others: Any
) -> None:
    self.delete_filter(filter_name, log_group_name)
    original(self, filter_name, filter_pattern, log_group_name, *others)


@answers("logs.DeleteMetricFilter", documented("one that is not there: ResourceNotFoundException"))
def delete_metric_filter(call: Call) -> Any:
    group, name = log_group_of(call), call.request["filterName"]
    if not any(
        (each["logGroupName"], each["filterName"]) == (group, name)
        for each in call.backend().filters.metric_filters
    ):
        raise Fault("ResourceNotFoundException", "The specified metric filter does not exist.")
    return call.moto()


@answers("logs.DeleteLogGroup", inferred("its metric filters go with it"))
def delete_log_group(call: Call) -> Any:
    group, filters = log_group_of(call), call.backend().filters.metric_filters
    filters[:] = [each for each in filters if each["logGroupName"] != group]
    return call.moto()


JSON_PATTERN = re.compile(r'\{\s*\$((?:\.\w+)+)\s*(=|!=|<=|>=|<|>)\s*("[^"]*"|[-\w.*]+)\s*\}')


@patches(
    "moto.logs.utils.UnsupportedFilterPattern.matches",
    documented("a pattern { $.field > 0 } matches lines that are JSON with such a field"),
    inferred("other patterns that moto cannot read are NotImplemented (moto: they match every line)"),
)
def pattern_matches(original: Any, self: Any, message: str) -> bool:
    if not self.term:
        return True
    pattern = JSON_PATTERN.fullmatch(self.term.strip())
    if not pattern:
        raise NotModelledError(f"filter pattern {self.term!r}")
    try:
        found = json.loads(message)
    except ValueError:
        return False
    for key in pattern[1].split(".")[1:]:
        found = found.get(key) if isinstance(found, dict) else None
    return found is not None and satisfies(
        found, pattern[2], pattern[3].strip('"'), is_text=pattern[3][0] == '"'
    )


def satisfies(found: Any, operator: str, wanted: str, *, is_text: bool) -> bool:
    if operator in ("=", "!="):
        is_number = isinstance(found, (int, float)) and not isinstance(found, bool) and not is_text
        if is_number and re.fullmatch(r"-?\d+(\.\d+)?", wanted):
            is_same = float(found) == float(wanted)
        else:
            is_same = fnmatch.fnmatchcase(str(found), wanted)
        return is_same == (operator == "=")
    if not isinstance(found, (int, float)):
        return False
    limit = float(wanted)
    return {"<": found < limit, "<=": found <= limit, ">": found > limit, ">=": found >= limit}[operator]


# ----------------------------------------------------------------------------------------------------
# The server
# ----------------------------------------------------------------------------------------------------


class Application:
    """moto's WSGI application; before it the private channel and the answers without moto, after it errors
    that a client can read."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.moto: Any = DomainDispatcherApplication(create_backend_app)
        # a fourth of what a PutObject costs: it looks at each folder of moto to tell a service from its host
        vars(self.moto)["get_backend_for_host"] = functools.cache(self.moto.get_backend_for_host)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path, service = environ.get("PATH_INFO", ""), signed_service(environ)
        if path.startswith(PRIVATE_PATH):
            return answer_private(environ, start_response)
        if service in CURRENT[0].elsewhere:
            where = f"is not there: {service} is served elsewhere, set {SERVED_ELSEWHERE[service]};"
            return answer_error(environ, start_response, where)
        if quick := quick_answer(environ):
            kind, length = ("Content-Type", AMAZON_JSON), ("Content-Length", str(len(quick)))
            start_response("200 OK", [kind, length, ("x-amzn-RequestId", str(uuid.uuid4()))])
            return [quick]
        keep_action(environ)
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
            started.append((status, headers))

        try:
            with contextlib.closing(self.moto(environ, start)) as chunks:
                body = b"".join(chunks)
            status, headers = started[-1]
        except NotModelledError as error:
            return answer_error(environ, start_response, f"has no {error}")
        except NotImplementedError:
            return answer_error(environ, start_response, "is not there")
        except Exception as error:
            return answer_error(environ, start_response, f"fails with {error!r}")
        if status.startswith("404") and service == "lambda" and not body.startswith(b"{"):
            return answer_error(
                environ, start_response, "is not there"
            )  # a path that moto's Lambda has no route for
        start_response(status, headers)
        return [body]


# The two calls that carry every record, without moto's dispatch and serialization. They answer only what is
# in order: a request that they do not understand or would refuse goes the whole way, and is refused there.


class PutRecordsRequest(msgspec.Struct):
    Records: Annotated[list[GivenRecord], msgspec.Meta(min_length=1, max_length=500)]
    StreamName: str | None = None
    StreamARN: str | None = None


class GetRecordsRequest(msgspec.Struct):
    ShardIterator: str
    Limit: Annotated[int, msgspec.Meta(ge=1, le=10000)] = 10000


def quick_answer(environ: dict[str, Any]) -> bytes | None:
    """The body of the answer, or None: then moto and our rules answer, to the same request."""
    quick = QUICK.get(environ.get("HTTP_X_AMZ_TARGET", ""))
    scope = re.search(r"Credential=([^/]+)/\d+/([^/]+)/kinesis/", environ.get("HTTP_AUTHORIZATION", ""))
    if not quick or not scope or environ.get("CONTENT_TYPE") != AMAZON_JSON:
        return None
    if "MOTO_ACCOUNT_ID" in os.environ or "HTTP_X_MOTO_ACCOUNT_ID" in environ:
        return None
    from moto.iam.models import get_account_id_from

    body = environ["wsgi.input"].getvalue()
    with LOCK, contextlib.suppress(msgspec.MsgspecError, ServiceException):
        return quick(backend_of("kinesis", get_account_id_from(scope[1]), scope[2]), body)
    return None


def quick_put_records(backend: Any, body: bytes) -> bytes | None:
    request = msgspec.json.decode(body, type=PutRecordsRequest)
    name = request.StreamName or (request.StreamARN or "").rpartition("/")[2]
    stream = backend.streams.get(name)
    if stream is None or stream.status == "CREATING" or request.StreamARN not in (None, stream.arn):
        return None
    if CURRENT[0].put_failures:
        return None
    check_sizes(stream, request.Records)
    return msgspec.json.encode(take_records(backend, stream, request.Records, {}))


def quick_get_records(backend: Any, body: bytes) -> bytes | None:
    request = msgspec.json.decode(body, type=GetRecordsRequest)
    arn, shard_id, position = place_of(request.ShardIterator)
    stream = backend.streams.get(arn.rpartition("/")[2])
    if stream is None or stream.status == "CREATING" or stream.arn != arn or shard_id not in stream.shards:
        return None
    return msgspec.json.encode(read_records(stream, stream.shards[shard_id], position, request.Limit))


QUICK = {
    "Kinesis_20131202.PutRecords": quick_put_records,
    "Kinesis_20131202.GetRecords": quick_get_records,
}


class ChannelError(Exception):
    """An error of the private channel: the HTTP status, why."""


def answer_private(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The code of a function, or JSON of the private channel; {"message": why} for a request it refuses."""
    path, kind = environ["PATH_INFO"], "application/json"
    try:
        if path.startswith(CODE_PATH):
            body, kind = code_of(path.removeprefix(CODE_PATH)), "application/zip"
        else:
            body = json.dumps(private_answer(environ)).encode()
        status = "200 OK"
    except ChannelError as error:
        status, message = error.args
        body = json.dumps({"message": message}).encode()
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def private_answer(environ: dict[str, Any]) -> dict[str, Any]:
    """Raises ChannelError for a path, method or body that is none of the channel's."""
    asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO'].removeprefix(PRIVATE_PATH)}"
    named = {key: values[0] for key, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
    sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    try:
        body = json.loads(sent or b"{}")
        if not isinstance(body, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise ChannelError(
            "400 Bad Request", f"The body of {asked} is not a JSON object: {error}."
        ) from error
    with LOCK:
        match asked:
            case "GET task":
                return task_orders(named.get("arn", ""))
            case "POST task":
                return take_task_report(named.get("arn", ""), body)
            case "POST mapping":
                return take_mapping_report(named.get("uuid", ""), body)
            case "POST faults":
                return take_faults(body)
    raise ChannelError("404 Not Found", f"{asked!r} is none of the private channel of the emulated AWS.")


class PutRecordsFaults(msgspec.Struct, forbid_unknown_fields=True):
    every: Annotated[int, msgspec.Meta(ge=1)]
    code: str = THROTTLED


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    put_records: PutRecordsFaults | None = None


def take_faults(body: dict[str, Any]) -> dict[str, Any]:
    """Sets which records of PutRecords fail, for a test in another process; {} ends it."""
    try:
        wanted = msgspec.convert(body, Faults).put_records
    except msgspec.ValidationError as error:
        form = f'{{}} or {{"put_records": {{"every": 7, "code": "{THROTTLED}"}}}}'
        raise ChannelError("400 Bad Request", f"Faults are {form}: {error}.") from error
    CURRENT[0].put_failures = EveryRecord(wanted.every, wanted.code) if wanted else None
    return {}


def signed_service(environ: dict[str, Any]) -> str:
    """The service in the credential scope, or nothing: Credential=KEY/20260301/eu-west-1/dms/aws4_request."""
    scope = re.search(
        r"Credential=[^/]+/\d+/[^/]*/([^/]+)/aws4_request", environ.get("HTTP_AUTHORIZATION", "")
    )
    return scope[1] if scope else ""


def keep_action(environ: dict[str, Any]) -> None:
    """Notes the Action of a query protocol, which is in the body, for answer_error."""
    if "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", "") and environ.get("CONTENT_LENGTH"):
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = io.BytesIO(body)
        environ[ACTION] = parse_qs(body.decode("utf-8", "replace")).get("Action", [""])[0]


def operation_name(environ: dict[str, Any]) -> str:
    service = signed_service(environ)
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return f"{service}.{target.rsplit('.', 1)[-1]}"
    if environ.get("HTTP_SMITHY_PROTOCOL"):
        return f"{service}.{environ['PATH_INFO'].rsplit('/', 1)[-1]}"
    if action := environ.get(ACTION):
        return f"{service}.{action}"
    return f"{service} {environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}"


def answer_error(environ: dict[str, Any], start_response: Any, why: str) -> list[bytes]:
    """501 NotImplemented in the form that the service's clients parse."""
    from xml.sax.saxutils import escape

    message = (
        f"{operation_name(environ)} {why} in the emulated AWS (python -m local_run.aws --rules says what is)"
    )
    content_type = environ.get("CONTENT_TYPE", "")
    error = f"<Error><Code>NotImplemented</Code><Message>{escape(message)}</Message></Error>"
    if "x-www-form-urlencoded" in content_type and signed_service(environ) == "ec2":
        body, kind = f"<Response><Errors>{error}</Errors></Response>", "text/xml"
    elif "x-www-form-urlencoded" in content_type:
        body, kind = f"<ErrorResponse>{error}</ErrorResponse>", "text/xml"
    elif signed_service(environ) in ("s3", ""):
        body, kind = error, "application/xml"
    else:
        body, kind = json.dumps({"__type": "NotImplemented", "message": message}), "application/json"
    encoded = body.encode()
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(encoded))),
        ("x-amzn-ErrorType", "NotImplemented"),
    ]
    start_response("501 Not Implemented", headers)
    return [encoded]


def server_class() -> Any:
    from werkzeug.serving import ThreadedWSGIServer

    class Server(ThreadedWSGIServer):
        """A thread for each connection, which lasts as long as the client keeps it, but not after this."""

        def __init__(self, *arguments: Any) -> None:
            self.connections: dict[socket.socket, threading.Thread] = {}
            super().__init__(*arguments)

        def process_request(self, request: Any, client_address: Any) -> None:
            served = functools.partial(self.process_request_thread, request, client_address)
            self.connections[request] = threading.Thread(target=served, daemon=True)
            self.connections[request].start()

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                self.connections.pop(request, None)

        def end_connections(self) -> None:
            """No client is answered any more, though it may have kept its connection."""
            for connection, thread in list(self.connections.items()):
                with contextlib.suppress(OSError):  # the client was quicker
                    connection.shutdown(socket.SHUT_RDWR)
                thread.join(timeout=5)

    return Server


def handler_class() -> Any:
    from moto.moto_server.werkzeug_app import MotoRequestHandler

    class Handler(MotoRequestHandler):
        """Answers one request after the other on a connection: a new one costs more than many a call."""

        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body leave together
        disable_nagle_algorithm = True

        def handle_expect_100(self) -> bool:
            super().handle_expect_100()
            self.wfile.flush()
            return True

        def run_wsgi(self) -> None:
            environ = self.environ = self.make_environ()
            length = -1 if environ.get("wsgi.input_terminated") else int(self.headers["Content-Length"] or 0)
            # to its end, whatever the application wants of it: what is left would be the next request
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
            application: Any = self.server.app
            (body,) = application(environ, self.begin_response)
            if "content-length" not in self.sent and self.command != "HEAD":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def begin_response(self, status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
            code, _, reason = status.partition(" ")
            self.send_response(int(code), reason)
            self.sent = {name.lower() for name, _ in headers}
            for name, value in headers:
                self.send_header(name, value)

        def log_request(self, *_: Any) -> None:
            """A line a request would bury what the user's own program prints."""

        def log(self, *_: Any) -> None:
            """As log_request."""

    return Handler


if __name__ == "__main__":
    sys.exit(main())
