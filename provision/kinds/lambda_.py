"""Lambda: the function, its alias, and the event source mapping that feeds it.

    Function - Alias (live -> a published version) - EventSourceMapping (on the alias)

The code is put there once, with the function; from then on it is deploy.sh's to change, which publishes it
as a version and moves the alias, forward or back. So neither the code nor the version is part of a plan. The
configuration is. A published version keeps the one that it was published with, so the alias has it in its
spec too, and gets a new version of the same code when it is behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.aws import Account, AwsError, Refusal
from provision.engine import Kind, Live, Spec, differences
from provision.kinds.documents import there

ABSENT = {"ResourceNotFoundException"}
ALIAS = "live"  # deploy.sh moves it
# Keys that UpdateFunctionConfiguration sets.
CONFIGURATION = (
    *("Runtime", "Handler", "Role", "MemorySize", "Timeout", "Environment", "LoggingConfig", "Description"),
    *("EphemeralStorage", "TracingConfig"),
)
READY_SECONDS = 300
MAPPING_SECONDS = 600  # a change of a mapping takes a minute or so
# A role is not known everywhere at once: "The role defined for the function cannot be assumed by Lambda.",
# "Cannot access stream ... ensure the role can perform ...", "The provided execution role does not have ..."
NOT_ASSUMABLE = "cannot be assumed by Lambda"
ROLE_ATTEMPTS = 30  # of five seconds each
IN_USE_ATTEMPTS = 30
SETTLED = {"Enabled", "Disabled"}


def environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """Environment as a spec has it: a variable that only AWS has shows up as one of others, and goes."""
    return {"Variables": dict(variables), "others": []}


@dataclass
class LambdaKind(Kind):
    """What is of one function: it is ours as the function is, which alone has our tag."""

    account: Account

    def call(self, operation: str, spec: Spec, **parameters: Any) -> Any:
        return self.account.call("lambda", operation, self.subject(spec), **parameters)

    def subject(self, spec: Spec) -> str:
        return f"function {function_name(spec)}"

    def function(self, spec: Spec) -> Any | None:
        """Configuration and Tags of the function."""
        name = function_name(spec)
        return self.account.find("lambda", "get_function", self.subject(spec), ABSENT, FunctionName=name)

    def is_ours(self, function: Mapping[str, Any] | None) -> bool:
        return function is None or self.account.is_ours(function.get("Tags") or {})

    def settled(self, spec: Spec) -> Any:
        """The function's configuration, once it takes a change; None when there is no function."""
        seen: list[Any] = []

        def is_settled() -> bool:
            found = self.function(spec)
            seen[:] = [found and found["Configuration"]]
            return not is_busy(seen[0] or {})

        what = f"function {function_name(spec)} getting ready"
        self.account.wait(what, READY_SECONDS, is_settled)
        return seen[0]

    def usable(self, spec: Spec) -> Any:
        """As settled. Raises AwsError when there is no function, or AWS could not make or change it."""
        configuration = self.settled(spec)
        if configuration is None:
            raise AwsError(f"function {function_name(spec)} is gone: run the command again")
        for key in ("State", "LastUpdateStatus"):
            if configuration.get(key) == "Failed":
                reason = configuration.get(f"{key}Reason", "no reason given")
                raise AwsError(f"function {function_name(spec)}: AWS could not make it so: {reason}")
        return configuration

    def once_role_is_known(self, text: str, attempt: Callable[[], Any]) -> Any:
        return self.account.retry({"InvalidParameterValueException"}, text, ROLE_ATTEMPTS, attempt)


def function_name(spec: Spec) -> str:
    """lending: of lending, lending:live, or an ARN of either."""
    name = str(spec["FunctionName"]).rpartition(":function:")[2]
    return name.partition(":")[0]


def is_busy(configuration: Mapping[str, Any]) -> bool:
    """States are absent in answers of emulations that know none."""
    return configuration.get("State") == "Pending" or configuration.get("LastUpdateStatus") == "InProgress"


def configured(wanted: Spec, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a function or version under the spec's keys."""
    values = {key: configuration.get(key) for key in wanted}
    declared = wanted.get("Environment")
    variables = configuration.get("Environment", {}).get("Variables", {})
    if isinstance(declared, Mapping):
        others = sorted(set(variables) - set(declared["Variables"]))
        values["Environment"] = {"Variables": variables, "others": others}
    return values


def as_sent(wanted: Spec) -> dict[str, Any]:
    """The spec's configuration as the API takes it."""
    parameters = {key: wanted[key] for key in CONFIGURATION if key in wanted}
    if "Environment" in parameters:
        parameters["Environment"] = {"Variables": parameters["Environment"]["Variables"]}
    return parameters


# --------------------------------------------------------------------------------------------------------
# Function, alias
# --------------------------------------------------------------------------------------------------------


@dataclass
class Function(LambdaKind):
    """FunctionName, Architectures, Runtime, Handler, Role, MemorySize, Timeout, Environment (environment() of
    the variables), LoggingConfig, Description, EphemeralStorage, TracingConfig.

    Attributes: name, arn, code_sha256 (of $LATEST). code is the zip, or gives it, or is its path; it is asked
    for when the function is made. Architectures goes with the code: UpdateFunctionCode alone changes it.
    """

    code: bytes | Path | Callable[[], bytes]
    label = "function"
    immutable = frozenset({"FunctionName"})
    write_only = frozenset({"Architectures"})

    def find(self, spec: Spec) -> Live | None:
        found = self.function(spec)
        if found is None:
            return None
        configuration = found["Configuration"]
        attributes = {
            "name": spec["FunctionName"],
            "arn": configuration["FunctionArn"],
            "code_sha256": configuration["CodeSha256"],
        }
        values = configured(spec, configuration)
        return Live(values, attributes, self.is_ours(found))

    def create(self, spec: Spec) -> Live:
        parameters = {"FunctionName": spec["FunctionName"], **as_sent(spec)}
        if "Architectures" in spec:
            parameters["Architectures"] = spec["Architectures"]
        parameters |= {"Code": {"ZipFile": self.zip()}, "Tags": self.account.tags}
        self.once_role_is_known(NOT_ASSUMABLE, lambda: self.call("create_function", spec, **parameters))
        there(self, self.account, spec)
        self.usable(spec)
        return there(self, self.account, spec)

    def zip(self) -> bytes:
        if isinstance(self.code, Path):
            try:
                return self.code.read_bytes()
            except OSError as error:
                raise AwsError(
                    f"cannot read {self.code}: {error}; ./deploy.sh --build-only makes it"
                ) from error
        return self.code if isinstance(self.code, bytes) else self.code()

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        self.settled(spec)  # a deploy may be going on
        parameters = {key: value for key, value in as_sent(spec).items() if key in changed}
        name = spec["FunctionName"]
        self.once_role_is_known(
            NOT_ASSUMABLE,
            lambda: self.call("update_function_configuration", spec, FunctionName=name, **parameters),
        )
        self.usable(spec)
        return there(self, self.account, spec)

    def delete(self, live: Live, spec: Spec) -> None:
        """With all its versions and aliases."""
        if self.settled(spec) is None:
            return
        name, subject = spec["FunctionName"], self.subject(spec)
        self.account.find("lambda", "delete_function", subject, ABSENT, FunctionName=name)
        self.account.wait(f"deleting {subject}", READY_SECONDS, lambda: self.function(spec) is None)


@dataclass
class Alias(LambdaKind):
    """FunctionName, Name, Configuration (what its version has to be configured like: configuration() of the
    function's spec).

    Attributes: name, arn (ends in function:NAME:ALIAS), version. It starts at a version published of the
    function as it is then. A version that is configured otherwise is replaced by one published of $LATEST, if
    that has the same code; after a rollback it has not, and a deploy has to come first.
    """

    label = "alias"
    immutable = frozenset({"FunctionName", "Name"})

    def subject(self, spec: Spec) -> str:
        return f"alias {spec['Name']} of function {function_name(spec)}"

    def find(self, spec: Spec) -> Live | None:
        function = self.function(spec)
        if function is None:
            return None
        found = self.account.find("lambda", "get_alias", self.subject(spec), ABSENT, **self.key(spec))
        is_ours = self.is_ours(function)
        if found is None and is_ours:
            return None
        arn = f"{function['Configuration']['FunctionArn']}:{spec['Name']}"
        values: dict[str, Any] = {"FunctionName": spec["FunctionName"]}
        if found is not None:
            values["Name"] = spec["Name"]
            values["Configuration"] = configured(spec.get("Configuration", {}), self.version(spec))
        version = found["FunctionVersion"] if found else None
        return Live(values, {"name": spec["Name"], "arn": arn, "version": version}, is_ours)

    def version(self, spec: Spec) -> Any:
        """The configuration of the version that the alias points to."""
        name, alias = function_name(spec), spec["Name"]
        return self.call("get_function_configuration", spec, FunctionName=name, Qualifier=alias)

    def create(self, spec: Spec) -> Live:
        version = self.published(spec)
        self.call("create_alias", spec, **self.key(spec), FunctionVersion=version)
        return there(self, self.account, spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        latest, version = self.usable(spec), self.version(spec)
        if latest["CodeSha256"] != version["CodeSha256"]:
            raise AwsError(
                f"{self.subject(spec)} points to version {version['Version']}, whose code is not the one "
                "uploaded last (a rollback?), and is configured otherwise: ./deploy.sh publishes both anew"
            )
        self.call("update_alias", spec, **self.key(spec), FunctionVersion=self.published(spec))
        return there(self, self.account, spec)

    def published(self, spec: Spec) -> str:
        """The version; AWS publishes no second one of a function that has not changed since."""
        self.usable(spec)
        answer = self.call("publish_version", spec, FunctionName=function_name(spec))
        return str(answer["Version"])

    def delete(self, live: Live, spec: Spec) -> None:
        self.account.find("lambda", "delete_alias", self.subject(spec), ABSENT, **self.key(spec))

    def key(self, spec: Spec) -> dict[str, str]:
        return {"FunctionName": function_name(spec), "Name": spec["Name"]}


def configuration(spec: Spec) -> dict[str, Any]:
    """The part of a Function's spec that its versions keep."""
    return {key: spec[key] for key in CONFIGURATION if key in spec}


# --------------------------------------------------------------------------------------------------------
# Event source mapping
# --------------------------------------------------------------------------------------------------------


@dataclass
class EventSourceMapping(LambdaKind):
    """FunctionName (NAME:ALIAS or the ARN of the alias), EventSourceArn, Enabled, BatchSize,
    MaximumBatchingWindowInSeconds, ParallelizationFactor, BisectBatchOnFunctionError,
    MaximumRecordAgeInSeconds, MaximumRetryAttempts, TumblingWindowInSeconds, FunctionResponseTypes,
    DestinationConfig, and for its creation StartingPosition, StartingPositionTimestamp.

    Attributes: uuid, state, arn. It is found by alias and stream. One that is still being made or changed has
    no values but those two, so that an interrupted run is finished by the next one; one that is being deleted
    is absent.
    """

    label = "event source mapping"
    immutable = frozenset({"FunctionName", "EventSourceArn"})
    write_only = frozenset({"StartingPosition", "StartingPositionTimestamp"})

    def subject(self, spec: Spec) -> str:
        return f"event source mapping of {qualified_name(spec)}"

    def find(self, spec: Spec) -> Live | None:
        if not isinstance(spec["FunctionName"], str) or not isinstance(spec["EventSourceArn"], str):
            return None
        found = self.one(spec)
        is_ours = self.is_ours(self.function(spec))
        if is_ours and (found is None or found["State"] == "Deleting"):
            return None
        values = {key: spec[key] for key in self.immutable}
        if found is not None and found["State"] in SETTLED:
            values |= {key: found.get(key) for key in spec if key not in self.immutable}
            values["Enabled"] = found["State"] == "Enabled"
        found = found or {}
        attributes = {
            "uuid": found.get("UUID"),
            "state": found.get("State"),
            "arn": found.get("EventSourceMappingArn"),
        }
        return Live(values, attributes, is_ours)

    def one(self, spec: Spec) -> Any | None:
        """By the stream alone, then by the alias: what else a function's name finds is not documented."""
        found = self.account.pages(
            "lambda",
            "list_event_source_mappings",
            self.subject(spec),
            "EventSourceMappings",
            EventSourceArn=spec["EventSourceArn"],
        )
        wanted = f":function:{qualified_name(spec)}"
        same = [one for one in found if one["FunctionArn"].endswith(wanted)]
        return min(same, key=lambda one: one["State"] == "Deleting", default=None)

    def create(self, spec: Spec) -> Live:
        self.wait_until_gone(spec)
        try:
            self.once_role_is_known(
                "role",
                lambda: self.call("create_event_source_mapping", spec, **spec, Tags=self.account.tags),
            )
        except Refusal as error:
            if error.code != "ResourceConflictException":  # there is one of this alias and stream: it is it
                raise
        return self.made_so(spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        return self.made_so(spec)

    def made_so(self, spec: Spec) -> Live:
        now = self.at_rest(spec)
        compared = {key: value for key, value in spec.items() if key not in self.write_only}
        wanted = {change.path.partition(".")[0] for change in differences(compared, now.values)}
        if wanted:
            parameters = {key: spec[key] for key in wanted}
            self.once_free(spec, "update_event_source_mapping", UUID=now.attributes["uuid"], **parameters)
            now = self.at_rest(spec)
        return now

    def at_rest(self, spec: Spec) -> Live:
        there(self, self.account, spec)
        self.account.wait(f"{self.subject(spec)} coming to rest", MAPPING_SECONDS, lambda: self.rests(spec))
        return there(self, self.account, spec)

    def rests(self, spec: Spec) -> bool:
        found = self.one(spec)
        return found is None or found["State"] in SETTLED

    def once_free(self, spec: Spec, operation: str, **parameters: Any) -> Any:
        """While AWS changes a mapping it refuses further changes: "... because it is in use"."""

        def attempt() -> Any:
            return self.once_role_is_known("role", lambda: self.call(operation, spec, **parameters))

        return self.account.retry({"ResourceInUseException"}, "in use", IN_USE_ATTEMPTS, attempt)

    def delete(self, live: Live, spec: Spec) -> None:
        """Returns when it is gone: until then it goes on calling the function."""
        self.account.wait(
            f"{self.subject(spec)} coming to rest",
            MAPPING_SECONDS,
            lambda: self.rests(spec) or self.is_leaving(spec),
        )
        found = self.one(spec)
        if found is not None and found["State"] != "Deleting":
            try:
                self.once_free(spec, "delete_event_source_mapping", UUID=found["UUID"])
            except Refusal as error:
                if error.code not in ABSENT:
                    raise
        self.wait_until_gone(spec)

    def is_leaving(self, spec: Spec) -> bool:
        found = self.one(spec)
        return found is not None and found["State"] == "Deleting"

    def wait_until_gone(self, spec: Spec) -> None:
        """Returns at once where none is being deleted."""
        self.account.wait(
            f"deleting the {self.subject(spec)}", MAPPING_SECONDS, lambda: not self.is_leaving(spec)
        )


def qualified_name(spec: Spec) -> str:
    """lending:live"""
    return str(spec["FunctionName"]).rpartition(":function:")[2]
