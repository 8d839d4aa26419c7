"""The mapping and the function as AWS describes them; what is not imitated is refused by name."""

from __future__ import annotations

import shutil
import tempfile
import urllib.request
import zipfile
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from local_run.event_source_mapping.batches import Policy
from local_run.runtime import Function
from provision.engine import ProvisionError

ALIAS = "live"
DOWNLOAD_SECONDS = 30
BUCKET_ARN = ":s3:::"
# What a mapping has beside the settings that are imitated: names, states, and settings without an effect on
# what is delivered.
ABOUT = frozenset(
    {
        *("UUID", "EventSourceArn", "EventSourceMappingArn", "FunctionArn", "LastModified"),
        *("LastProcessingResult", "State", "StateTransitionReason", "MetricsConfig", "FilterCriteriaError"),
    }
)
IMITATED = frozenset(
    {
        *("BatchSize", "MaximumBatchingWindowInSeconds", "BisectBatchOnFunctionError", "DestinationConfig"),
        *("FunctionResponseTypes", "MaximumRetryAttempts", "MaximumRecordAgeInSeconds"),
        *("StartingPosition", "StartingPositionTimestamp"),
    }
)
SINGLE = {"ParallelizationFactor": 1, "TumblingWindowInSeconds": 0}  # imitated with this value only
STARTS = ("TRIM_HORIZON", "AT_TIMESTAMP")
FUNCTION_PARTS = ("Layers", "FileSystemConfigs", "ImageConfigResponse")  # of its process, and not here


class MappingError(ProvisionError):
    """The mapping or its function has a setting that this stand-in does not imitate, or can't be run."""


@dataclass(frozen=True)
class EventSourceMapping:
    """A mapping on a stream."""

    uuid: str
    state: str
    stream_arn: str
    policy: Policy
    starts_at: datetime | None = None  # None: with the oldest record
    bucket: str = ""  # the on-failure destination


@dataclass(frozen=True)
class Deployed:
    """A version of the function, as the alias has it now."""

    function: Function
    role_arn: str
    timeout_seconds: int
    code_sha256: str


def read_mapping(found: Mapping[str, Any]) -> EventSourceMapping:
    """The mapping of an answer of ListEventSourceMappings. Raises MappingError."""
    uuid = found["UUID"]
    for key, value in found.items():
        if key in ABOUT | IMITATED or value in (None, "", [], {}, {"Filters": []}):
            continue
        if key not in SINGLE or value != SINGLE[key]:
            raise refused(uuid, key, value)
    if found.get("StartingPosition") not in STARTS:
        raise refused(uuid, "StartingPosition", found.get("StartingPosition"))
    if "/consumer/" in found["EventSourceArn"] or ":kinesis:" not in found["EventSourceArn"]:
        raise refused(uuid, "EventSourceArn", found["EventSourceArn"])
    return EventSourceMapping(
        uuid,
        found["State"],
        found["EventSourceArn"],
        Policy(
            batch_size=found["BatchSize"],
            window_seconds=found.get("MaximumBatchingWindowInSeconds", 0),
            bisects=found.get("BisectBatchOnFunctionError", False),
            reports_failures="ReportBatchItemFailures" in found.get("FunctionResponseTypes", []),
            max_retries=found.get("MaximumRetryAttempts", -1),
            max_age_seconds=found.get("MaximumRecordAgeInSeconds", -1),
        ),
        found.get("StartingPositionTimestamp"),
        read_destination(uuid, found.get("DestinationConfig") or {}),
    )


def read_destination(uuid: str, found: Mapping[str, Any]) -> str:
    """The bucket that takes what is given up; "" when nobody does."""
    arn = str((found.get("OnFailure") or {}).get("Destination") or "")
    if found.get("OnSuccess") or (arn and BUCKET_ARN not in arn):
        raise refused(uuid, "DestinationConfig", found)
    return arn.partition(BUCKET_ARN)[2]


def refused(uuid: str, key: str, value: object) -> MappingError:
    return MappingError(
        f"event source mapping {uuid}: {key}={value!r} is not imitated on this machine; try it on AWS"
    )


def read_function(found: Mapping[str, Any], alias: str) -> Deployed:
    """The alias's version in an answer of GetFunctionConfiguration. Raises MappingError."""
    name = found["FunctionName"]
    for key in FUNCTION_PARTS:
        if found.get(key):
            raise MappingError(f"function {name}: {key} is not imitated on this machine")
    runtime = found.get("Runtime", "")
    if found.get("PackageType", "Zip") != "Zip" or not runtime.startswith("python"):
        raise MappingError(f"function {name}: expected a zip for Python, found Runtime {runtime!r}")
    function = Function(
        handler=found["Handler"],
        variables=dict(found.get("Environment", {}).get("Variables", {})),
        arn=f"{found['FunctionArn'].partition(':function:')[0]}:function:{name}:{alias}",
        name=name,
        version=found["Version"],
        memory_mb=found["MemorySize"],
        region=found["FunctionArn"].split(":")[3],
        log_group=found.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{name}",
        runtime=runtime,
    )
    return Deployed(function, found["Role"], found["Timeout"], found["CodeSha256"])


def check_alias(client: Any, name: str) -> None:
    """Raises MappingError for an alias that shares its calls among two versions."""
    alias = client.get_alias(FunctionName=name, Name=ALIAS)
    if alias.get("RoutingConfig", {}).get("AdditionalVersionWeights"):
        raise MappingError(f"alias {ALIAS} of function {name}: RoutingConfig is not imitated on this machine")


def unpack_code(client: Any, name: str, deployed: Deployed, folder: Path) -> Path:
    """The folder below `folder` that holds the version's code; downloaded once for a zip."""
    target = folder / b64decode(deployed.code_sha256).hex()[:16]
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    found = client.get_function(FunctionName=name, Qualifier=deployed.function.version)
    location = found["Code"]["Location"]
    with urllib.request.urlopen(location, timeout=DOWNLOAD_SECONDS) as answer:
        content = answer.read()
    unpacked = Path(tempfile.mkdtemp(dir=folder))
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            archive.extractall(unpacked)
    except zipfile.BadZipFile as error:
        shutil.rmtree(unpacked)
        raise MappingError(f"function {name}: its code, of {len(content)} bytes, is no zip") from error
    unpacked.rename(target)
    return target
