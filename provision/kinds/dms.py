"""DMS: subnet group, replication instance, endpoints, connections, and the replication task with its course.

    SubnetGroup - ReplicationInstance - Endpoint (source, target) - Connection (of each) - Task - TaskRun

Objects are found by their identifiers: an ARN of DMS holds a random id. DMS makes identifiers lower case, and
so do we before we ask for them.
Source: https://docs.aws.amazon.com/dms/latest/APIReference/Welcome.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from provision.aws import Account, AwsError, Refusal
from provision.engine import Kind, Live, Spec, differences
from provision.kinds.documents import tags_in, there

T = TypeVar("T")
ABSENT = {"ResourceNotFoundFault"}  # also what a filter without a match is answered with
INSTANCE_SECONDS = 3600  # 5 to 15 minutes are usual
TASK_SECONDS = 1800  # a stop waits for the changes that are on their way to the target
CONNECTION_SECONDS = 600
ROLE_ATTEMPTS = 24  # a new role is not known everywhere at once: two minutes
ROLE_FAULT = "is not configured properly"  # "The IAM Role arn:aws:iam::...:role/dms-vpc-role is not ..."

UNFINISHED = {"creating", "modifying"}
BROKEN = {"failed", "incompatible-network", "incompatible-credentials"}  # of an instance
AT_REST = {"ready", "stopped", "failed"}  # states in which a task can be changed, started and deleted
# Keys whose values AWS may spell otherwise than its own API takes them: SOURCE, test_decoding.
ENUMS = {"EndpointType", "EngineName", "MessageFormat", "PluginName", "SslMode"}
# DMS adds where it logs to the settings that it shows, and refuses settings that have these keys.
READ_ONLY_LOGGING = {"CloudWatchLogGroup", "CloudWatchLogStream"}

# What DMS says when it can't connect, in lower case, and what most often is the matter.
CAUSES = (
    (("no encryption", "ssl off", "ssl error"), "the database takes only TLS: SslMode has to be require"),
    (
        ("secret",),
        "the subnets need a way to Secrets Manager, the secret its keys username, password, host, port, and "
        "its role has to trust dms.REGION.amazonaws.com",
    ),
    (("translate host name", "name or service"), "the host in the secret is misspelt, or unknown in the VPC"),
    (
        ("timeout", "timed out", "could not connect to server", "connection refused"),
        "the database's security group has to let the replication instance in on its port, and the subnets "
        "need a way to it",
    ),
    (("password authentication", "authentication failed"), "user or password in the secret are wrong"),
    (("pg_hba",), "pg_hba.conf does not let this user in from the replication instance"),
    (("does not exist",), "what the message names has to be made first, or is misspelt"),
    (("not authorized", "access denied", "accessdenied"), "the endpoint's role lacks the permission"),
)

# --------------------------------------------------------------------------------------------------------
# What the kinds share
# --------------------------------------------------------------------------------------------------------


@dataclass
class DmsKind(Kind):
    """An object of DMS that is found by its identifier, in a spec of the keys of its Create call.

    One that is still being made or changed has no values but the immutable ones, so that a run that was
    interrupted then is finished by the next one; one that is being deleted is absent.
    """

    account: Account
    identifier = ""  # the spec's key
    describe = ""  # the operation,
    list_key = ""  # where its answer has the objects,
    filter_name = ""  # by which it finds one

    def call(self, operation: str, spec: Spec, **parameters: Any) -> Any:
        return self.account.call("dms", operation, self.subject(spec), **parameters)

    def subject(self, spec: Spec) -> str:
        return f"{self.label} {self.name(spec)}"

    def name(self, spec: Spec) -> str:
        return str(spec[self.identifier]).lower()

    def one(self, spec: Spec) -> Any | None:
        """The object in AWS's shape."""
        found = self.matching(self.describe, self.list_key, {self.filter_name: self.name(spec)}, spec)
        return found[0] if found else None

    def matching(self, operation: str, key: str, filters: Mapping[str, str], spec: Spec) -> list[Any]:
        asked = [{"Name": name, "Values": [value]} for name, value in filters.items()]
        try:
            pages = self.account.pages("dms", operation, self.subject(spec), key, Filters=asked)
            return list(pages)
        except Refusal as error:
            if error.code in ABSENT:
                return []
            raise

    def is_ours(self, arn: str, spec: Spec) -> bool:
        """What is gone since it was found is nobody's."""
        subject = self.subject(spec)
        tags = self.account.find("dms", "list_tags_for_resource", subject, ABSENT, ResourceArn=arn)
        return tags is None or self.account.is_ours(tags_in(tags["TagList"]))

    def made(self, operation: str, spec: Spec, parameters: Mapping[str, Any]) -> None:
        """Created, with our tag, once what was there of that name is gone and its roles can be used."""
        self.wait_until_gone(spec)
        tagged = {**parameters, self.identifier: self.name(spec), "Tags": self.account.tag_list}
        self.once_roles_are_known(lambda: self.call(operation, spec, **tagged))

    def once_roles_are_known(self, attempt: Callable[[], Any]) -> None:
        """DMS refuses a role for some time after it was made, and for ever if it does not trust DMS."""
        try:
            self.account.retry({"AccessDeniedFault"}, ROLE_FAULT, ROLE_ATTEMPTS, attempt)
        except Refusal as error:
            if ROLE_FAULT not in error.message:
                raise
            raise AwsError(
                f"DMS cannot take a role: {error.message} It has to exist, to have its policy, and to trust "
                "dms.amazonaws.com (a role that reads a secret: dms.REGION.amazonaws.com)"
            ) from error

    def remove(self, operation: str, spec: Spec, **parameters: Any) -> None:
        """Returns when it is gone."""
        if self.find(spec) is not None:
            self.account.find("dms", operation, self.subject(spec), ABSENT, **parameters)
        self.wait_until_gone(spec)

    def wait_until_gone(self, spec: Spec) -> None:
        """Returns at once where none of that name is being deleted."""

        def is_gone() -> bool:
            found = self.one(spec)
            return found is None or state_of(found) not in ("deleting", "deleted")

        self.account.wait(f"deleting {self.subject(spec)}", INSTANCE_SECONDS, is_gone)

    def wait_until_left(
        self, operation: str, key: str, filters: Mapping[str, str], spec: Spec, uses: Callable[[Any], bool]
    ) -> None:
        """Returns once nothing that uses it is on its way out: as long as that lasts, it can't be deleted."""

        def is_left() -> bool:
            users = self.matching(operation, key, filters, spec)
            return not any(uses(one) and state_of(one) == "deleting" for one in users)

        self.account.wait(f"deleting what uses {self.subject(spec)}", INSTANCE_SECONDS, is_left)

    def still_wanted(self, live: Live, spec: Spec) -> frozenset[str]:
        """The keys that differ, once what was going on is over."""
        compared = {key: value for key, value in spec.items() if key not in self.write_only}
        return frozenset(change.path.partition(".")[0] for change in differences(compared, live.values))


def state_of(found: Mapping[str, Any]) -> str:
    for key in ("ReplicationInstanceStatus", "SubnetGroupStatus", "Status"):
        if key in found:
            return str(found[key]).lower()
    return ""


def same_name(wanted: Any, found: str | None) -> Any:
    """wanted, where found is what DMS makes of it."""
    return wanted if isinstance(wanted, str) and wanted.lower() == found else found


def only(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in keys}


# --------------------------------------------------------------------------------------------------------
# Subnet group, replication instance
# --------------------------------------------------------------------------------------------------------


@dataclass
class SubnetGroup(DmsKind):
    """ReplicationSubnetGroupIdentifier, ReplicationSubnetGroupDescription, SubnetIds (two zones or more).

    Attributes: name, arn, vpc_id.
    """

    label = "DMS subnet group"
    immutable = frozenset({"ReplicationSubnetGroupIdentifier"})
    identifier = "ReplicationSubnetGroupIdentifier"
    describe = "describe_replication_subnet_groups"
    list_key = "ReplicationSubnetGroups"
    filter_name = "replication-subnet-group-id"

    def find(self, spec: Spec) -> Live | None:
        found = self.one(spec)
        if found is None or state_of(found) == "deleting":
            return None
        subnets = [subnet["SubnetIdentifier"] for subnet in found["Subnets"]]
        values = {
            self.identifier: spec[self.identifier],
            "ReplicationSubnetGroupDescription": found.get("ReplicationSubnetGroupDescription"),
            "SubnetIds": same_members(spec.get("SubnetIds"), subnets),
        }
        name = self.name(spec)
        arn = self.account.arn("dms", f"subgrp:{name}")  # the only ARN of DMS that is made of a name
        return Live(values, {"name": name, "arn": arn, "vpc_id": found.get("VpcId")}, self.is_ours(arn, spec))

    def create(self, spec: Spec) -> Live:
        self.made("create_replication_subnet_group", spec, spec)
        return there(self, self.account, spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        self.call("modify_replication_subnet_group", spec, **{**spec, self.identifier: self.name(spec)})
        return there(self, self.account, spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = self.name(spec)

        def is_in_it(instance: Any) -> bool:
            group = instance.get("ReplicationSubnetGroup", {})
            return bool(group.get("ReplicationSubnetGroupIdentifier") == name)

        self.wait_until_left(ReplicationInstance.describe, ReplicationInstance.list_key, {}, spec, is_in_it)
        self.remove("delete_replication_subnet_group", spec, ReplicationSubnetGroupIdentifier=name)


def same_members(wanted: Any, found: Iterable[str]) -> Any:
    """wanted, where found has the same members in another order."""
    members = sorted(found)
    return wanted if isinstance(wanted, list) and sorted(map(str, wanted)) == members else members


@dataclass
class ReplicationInstance(DmsKind):
    """ReplicationInstanceIdentifier, ReplicationInstanceClass, ReplicationSubnetGroupIdentifier, MultiAZ,
    VpcSecurityGroupIds, AllocatedStorage, PubliclyAccessible, AutoMinorVersionUpgrade, EngineVersion,
    PreferredMaintenanceWindow and the other parameters of CreateReplicationInstance.

    Attributes: name, arn, status, engine_version, pending (what AWS keeps for the maintenance window).
    Without EngineVersion it gets the newest that AWS offers for its class, and keeps it. With one it is only
    upgraded: AWS takes no older version, so that a newer one than wanted counts as wanted.
    """

    label = "replication instance"
    immutable = frozenset(
        {
            "ReplicationInstanceIdentifier",
            "ReplicationSubnetGroupIdentifier",
            "PubliclyAccessible",
            "AvailabilityZone",
            "DnsNameServers",
            "KmsKeyId",
        }
    )
    why_not_replaced = "the task and its position in the database's log live on it"
    identifier = "ReplicationInstanceIdentifier"
    describe = "describe_replication_instances"
    list_key = "ReplicationInstances"
    filter_name = "replication-instance-id"

    def find(self, spec: Spec) -> Live | None:
        found = self.one(spec)
        if found is None or state_of(found) in ("deleting", "deleted"):
            return None
        group = "ReplicationSubnetGroupIdentifier"
        groups = [one["VpcSecurityGroupId"] for one in found.get("VpcSecurityGroups", [])]
        values = {
            **{key: found.get(key) for key in spec},
            self.identifier: spec[self.identifier],
            group: same_name(spec.get(group), found.get("ReplicationSubnetGroup", {}).get(group)),
            "VpcSecurityGroupIds": same_members(spec.get("VpcSecurityGroupIds"), groups),
            "EngineVersion": newer(spec.get("EngineVersion"), found.get("EngineVersion")),
        }
        if state_of(found) in UNFINISHED | BROKEN:
            values = only(spec, self.immutable)
        arn = found["ReplicationInstanceArn"]
        attributes = {
            "name": self.name(spec),
            "arn": arn,
            "status": state_of(found),
            "engine_version": found.get("EngineVersion"),
            "pending": found.get("PendingModifiedValues") or {},
        }
        return Live(values, attributes, self.is_ours(arn, spec))

    def create(self, spec: Spec) -> Live:
        group = "ReplicationSubnetGroupIdentifier"
        parameters = {"EngineVersion": spec.get("EngineVersion") or self.newest_version(spec), **spec}
        if group in spec:
            parameters[group] = spec[group].lower()
        self.made("create_replication_instance", spec, parameters)
        there(self, self.account, spec)
        return self.available(spec)

    def newest_version(self, spec: Spec) -> str:
        """Of those that AWS offers now, betas left out: lists in documents are soon out of date."""
        offers = self.account.pages(
            "dms",
            "describe_orderable_replication_instances",
            self.subject(spec),
            "OrderableReplicationInstances",
        )
        wanted = spec["ReplicationInstanceClass"]
        versions = [
            offer["EngineVersion"]
            for offer in offers
            if offer["ReplicationInstanceClass"] == wanted and offer.get("ReleaseStatus") != "beta"
        ]
        if not versions:
            raise AwsError(f"DMS offers no {wanted} in {self.account.region}: choose another class")
        return str(max(versions, key=version_key))

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        now = self.available(spec)
        wanted = self.still_wanted(now, spec)
        if wanted:
            parameters = {key: spec[key] for key in wanted}
            if "EngineVersion" in wanted:
                parameters["AllowMajorVersionUpgrade"] = True
            self.call(
                "modify_replication_instance",
                spec,
                ReplicationInstanceArn=now.attributes["arn"],
                ApplyImmediately=True,
                **parameters,
            )
        return self.available(spec, but_for_pending=False)

    def available(self, spec: Spec, but_for_pending: bool = True) -> Live:
        """Once it can be used; with what was asked for at once no longer pending: for some seconds AWS may
        still show it as available. An instance whose storage is full can be changed: that is its cure."""
        seen: list[Live] = []

        def is_available() -> bool:
            live = self.find(spec)
            status = live.attributes["status"] if live else "gone"
            if live is None or status in BROKEN:
                raise AwsError(f"{self.subject(spec)} is {status}: see its events in the console of DMS")
            seen[:] = [live]
            is_pending = bool(live.attributes["pending"]) and not but_for_pending
            return status in ("available", "storage-full") and not is_pending

        self.account.wait(f"{self.subject(spec)} getting available", INSTANCE_SECONDS, is_available)
        return seen[0]

    def delete(self, live: Live, spec: Spec) -> None:
        arn = live.attributes["arn"]
        self.wait_until_left(
            Task.describe, Task.list_key, {"replication-instance-arn": arn}, spec, lambda task: True
        )
        self.account.wait(f"{self.subject(spec)} coming to rest", INSTANCE_SECONDS, lambda: self.rests(spec))
        self.remove("delete_replication_instance", spec, ReplicationInstanceArn=arn)

    def rests(self, spec: Spec) -> bool:
        found = self.one(spec)
        return found is None or state_of(found) not in UNFINISHED


def newer(wanted: Any, found: str | None) -> Any:
    """wanted, where found is that version or a newer one."""
    if isinstance(wanted, str) and found and version_key(found) >= version_key(wanted):
        return wanted
    return found


def version_key(version: str) -> list[int]:
    """[3, 5, 4], of 3.5.4"""
    return [int(part) for part in re.findall(r"\d+", version)]


# --------------------------------------------------------------------------------------------------------
# Endpoints, connections
# --------------------------------------------------------------------------------------------------------


@dataclass
class Endpoint(DmsKind):
    """EndpointIdentifier, EndpointType, EngineName, SslMode, DatabaseName, PostgreSQLSettings or
    KinesisSettings (documents, compared key by key) and the other parameters of CreateEndpoint.

    Attributes: name, arn. It can't be changed while a task that uses it runs; once it is changed, AWS tests
    its connections anew.
    """

    label = "DMS endpoint"
    # AWS can change DatabaseName; but another database has another log.
    immutable = frozenset({"EndpointIdentifier", "EndpointType", "EngineName", "KmsKeyId", "DatabaseName"})
    write_only = frozenset({"Password"})
    why_not_replaced = "the task would lose its position in the database's log"
    identifier = "EndpointIdentifier"
    describe = "describe_endpoints"
    list_key = "Endpoints"
    filter_name = "endpoint-id"

    def find(self, spec: Spec) -> Live | None:
        found = self.one(spec)
        if found is None or state_of(found) == "deleting":
            return None
        values = {key: as_spelled(key, wanted, found.get(key)) for key, wanted in spec.items()}
        values[self.identifier] = spec[self.identifier]
        arn = found["EndpointArn"]
        return Live(values, {"name": self.name(spec), "arn": arn}, self.is_ours(arn, spec))

    def create(self, spec: Spec) -> Live:
        self.made("create_endpoint", spec, spec)
        return there(self, self.account, spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        """Settings are merged into those that are there: those that only AWS has stay."""
        parameters = {key: spec[key] for key in changed | {"EngineName"}}
        arn = live.attributes["arn"]
        self.once_roles_are_known(lambda: self.call("modify_endpoint", spec, EndpointArn=arn, **parameters))
        what = f"AWS's own test of {self.subject(spec)}"
        self.account.wait(what, CONNECTION_SECONDS, lambda: not self.is_tested(arn, spec))
        return there(self, self.account, spec)

    def is_tested(self, arn: str, spec: Spec) -> bool:
        """Right now; meanwhile AWS starts no task. What came of it, the connection shows."""
        found = self.matching("describe_connections", "Connections", {"endpoint-arn": arn}, spec)
        return any(state_of(one) == "testing" for one in found)

    def delete(self, live: Live, spec: Spec) -> None:
        arn = live.attributes["arn"]
        self.wait_until_left(Task.describe, Task.list_key, {"endpoint-arn": arn}, spec, lambda task: True)
        self.remove("delete_endpoint", spec, EndpointArn=arn)


def as_spelled(key: str, wanted: Any, found: Any) -> Any:
    """found, with the values of enums as wanted spells them."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return {name: as_spelled(name, wanted.get(name), value) for name, value in found.items()}
    if key in ENUMS and isinstance(wanted, str) and isinstance(found, str):
        return wanted if found.lower().replace("_", "-") == wanted.lower() else found
    return found


@dataclass
class Connection(DmsKind):
    """That an instance reaches an endpoint: EndpointIdentifier, EndpointArn, ReplicationInstanceArn, Status
    (successful).

    Attributes: status, failure (AWS's own words). It is ours as the endpoint is. One that failed is tested
    again by the next run. It shows as absent until it was tested.
    """

    label = "connection"
    identifier = "EndpointIdentifier"

    def subject(self, spec: Spec) -> str:
        return f"connection of endpoint {self.name(spec)}"

    def find(self, spec: Spec) -> Live | None:
        if not isinstance(spec["EndpointArn"], str) or not isinstance(spec["ReplicationInstanceArn"], str):
            return None
        found = self.latest(spec)
        is_ours = self.is_ours(spec["EndpointArn"], spec)
        if is_ours and (found is None or state_of(found) == "deleting"):
            return None
        status, failure = (state_of(found), failure_of(found)) if found else ("untested", "")
        shown = f"{status}: {failure}" if status == "failed" else status
        return Live({**spec, "Status": shown}, {"status": status, "failure": failure}, is_ours)

    def latest(self, spec: Spec) -> Any | None:
        filters = {
            "endpoint-arn": spec["EndpointArn"],
            "replication-instance-arn": spec["ReplicationInstanceArn"],
        }
        found = self.matching("describe_connections", "Connections", filters, spec)
        return found[0] if found else None

    def create(self, spec: Spec) -> Live:
        if self.status(spec) == "deleting":
            self.account.wait("the last test to go", CONNECTION_SECONDS, lambda: self.status(spec) == "")
        if self.status(spec) != "testing":
            self.call("test_connection", spec, **self.ends(spec))
        self.account.wait(
            f"the test of the {self.subject(spec)}", CONNECTION_SECONDS, lambda: self.is_successful(spec)
        )
        return there(self, self.account, spec)

    def is_successful(self, spec: Spec) -> bool:
        found = self.latest(spec) or {}
        if state_of(found) == "failed":
            failure = failure_of(found)
            raise AwsError(
                f"DMS cannot connect through endpoint {self.name(spec)}; AWS says: {failure}; "
                f"likely: {likely_cause(failure)}; then run the command again"
            )
        return state_of(found) == "successful"

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        """The failure goes first, or the wait for the new test might see it."""
        if self.status(spec) == "failed":
            self.forget(spec)
        return self.create(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        self.forget(spec)

    def forget(self, spec: Spec) -> None:
        """AWS may refuse that while a task uses the connection; it is replaced by the next test, then, and
        goes with its endpoint."""
        gone = ABSENT | {"InvalidResourceStateFault"}
        was_taken = self.account.find("dms", "delete_connection", self.subject(spec), gone, **self.ends(spec))
        if was_taken is not None:
            self.account.wait("the last test to go", CONNECTION_SECONDS, lambda: self.status(spec) == "")

    def status(self, spec: Spec) -> str:
        found = self.latest(spec)
        return state_of(found) if found else ""

    def ends(self, spec: Spec) -> dict[str, str]:
        return {key: spec[key] for key in ("ReplicationInstanceArn", "EndpointArn")}


def failure_of(found: Mapping[str, Any]) -> str:
    return str(found.get("LastFailureMessage") or "no reason given")


def likely_cause(failure: str) -> str:
    """What to look at first; the message itself is AWS's, and says more to who can read it."""
    text = failure.lower()
    for signs, cause in CAUSES:
        if any(sign in text for sign in signs):
            return cause
    return "none known; see the task log and the events of DMS"


# --------------------------------------------------------------------------------------------------------
# The task, and its course
# --------------------------------------------------------------------------------------------------------


@dataclass
class Task(DmsKind):
    """ReplicationTaskIdentifier, SourceEndpointArn, TargetEndpointArn, ReplicationInstanceArn,
    MigrationType, TableMappings (by_rule_id of the document), ReplicationTaskSettings (document; compared by
    the keys that it has, its LogComponents by their Id).

    Attributes: name, arn, resource_id (its name in metrics and logs), status, table_mappings (the document as
    AWS has it, for mapped_tables and added_tables). It can only be changed while it does not run.
    """

    label = "replication task"
    immutable = frozenset(
        {
            "ReplicationTaskIdentifier",
            "SourceEndpointArn",
            "TargetEndpointArn",
            "ReplicationInstanceArn",
            "MigrationType",
        }
    )
    write_only = frozenset({"CdcStartPosition", "CdcStartTime"})  # AWS shows how far it got instead
    why_not_replaced = "a new task starts at the end of the log: changes since then would be lost"
    identifier = "ReplicationTaskIdentifier"
    describe = "describe_replication_tasks"
    list_key = "ReplicationTasks"
    filter_name = "replication-task-id"

    def find(self, spec: Spec) -> Live | None:
        found = self.one(spec)
        if found is None or state_of(found) == "deleting":
            return None
        mappings = json.loads(found["TableMappings"])
        settings = json.loads(found.get("ReplicationTaskSettings") or "{}")
        values = {
            **{key: found.get(key) for key in spec},
            self.identifier: spec[self.identifier],
            "TableMappings": rules_as_declared(spec.get("TableMappings"), mappings),
            "ReplicationTaskSettings": settings_as_declared(spec.get("ReplicationTaskSettings"), settings),
        }
        if state_of(found) in UNFINISHED:
            values = only(spec, self.immutable)
        arn = found["ReplicationTaskArn"]
        attributes = {
            "name": self.name(spec),
            "arn": arn,
            "resource_id": arn.rpartition(":")[2],
            "status": state_of(found),
            "table_mappings": mappings,
        }
        return Live(values, attributes, self.is_ours(arn, spec))

    def create(self, spec: Spec) -> Live:
        self.made("create_replication_task", spec, as_texts(spec))
        there(self, self.account, spec)
        return self.at_rest(spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        now = self.at_rest(spec)
        if wanted := self.still_wanted(now, spec):
            if "TableMappings" in wanted:
                TableLoads(self.account).note(now, spec)
            parameters = as_texts({key: spec[key] for key in wanted})
            self.call("modify_replication_task", spec, ReplicationTaskArn=now.attributes["arn"], **parameters)
        return self.at_rest(spec)

    def at_rest(self, spec: Spec) -> Live:
        """Once it takes a change. Raises AwsError when it runs: pausing it is not decided here."""
        status = self.settled(spec)
        if status not in AT_REST:
            raise AwsError(f"{self.subject(spec)} is {status}: stop it first")
        return there(self, self.account, spec)

    def settled(self, spec: Spec) -> str:
        """Its state, once that is no passing one; "gone" when there is none."""
        seen: list[str] = []

        def is_settled() -> bool:
            found = self.one(spec)
            seen[:] = [state_of(found) if found else "gone"]
            return seen[0] in AT_REST | {"running", "gone", "failed-move"}

        self.account.wait(f"{self.subject(spec)} coming to rest", TASK_SECONDS, is_settled)
        return seen[0]

    def reload(self, spec: Spec, arn: str, tables: Sequence[tuple[str, str]]) -> None:
        """Asks for a new load of these tables, at most TABLES_A_RELOAD of them; the task has to run."""
        named = [{"SchemaName": schema, "TableName": table} for schema, table in tables]
        self.call("reload_tables", spec, ReplicationTaskArn=arn, TablesToReload=named)

    def delete(self, live: Live, spec: Spec) -> None:
        if self.find(spec) is not None:
            self.settled(spec)  # one that is being made or changed can't be deleted yet
        self.remove("delete_replication_task", spec, ReplicationTaskArn=live.attributes["arn"])


def by_rule_id(document: Mapping[str, Any]) -> dict[str, Any]:
    """The table mappings as a spec has them, so that a plan shows the rules that change and no others:
    {"rules": {rule-id: rule}, "other-rules": []}. Rules that only AWS has show up as other-rules."""
    return {"rules": {str(rule["rule-id"]): rule for rule in document["rules"]}, "other-rules": []}


def rules_as_declared(wanted: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    keyed = by_rule_id(document)
    declared = wanted["rules"] if isinstance(wanted, Mapping) else {}
    keyed["other-rules"] = [rule for name, rule in keyed["rules"].items() if name not in declared]
    return keyed


def settings_as_declared(wanted: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with no log components but those that wanted names: AWS adds those of its own."""
    shown = dict(settings)
    logging = shown.get("Logging")
    declared = (wanted or {}).get("Logging", {}).get("LogComponents")
    if declared and isinstance(logging, Mapping) and logging.get("LogComponents"):
        found = {component["Id"]: component for component in logging["LogComponents"]}
        kept = [found[component["Id"]] for component in declared if component["Id"] in found]
        shown["Logging"] = {**logging, "LogComponents": kept}
    return shown


def as_texts(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with its documents as the JSON texts that DMS takes."""
    parameters = dict(spec)
    if "TableMappings" in spec:
        document = {"rules": list(spec["TableMappings"]["rules"].values())}
        parameters["TableMappings"] = json.dumps(document)
    if "ReplicationTaskSettings" in spec:
        settings = dict(spec["ReplicationTaskSettings"])
        if "Logging" in settings:
            logging = settings["Logging"].items()
            settings["Logging"] = {key: value for key, value in logging if key not in READ_ONLY_LOGGING}
        parameters["ReplicationTaskSettings"] = json.dumps(settings)
    return parameters


@dataclass
class TaskRun(DmsKind):
    """That the task runs: ReplicationTaskIdentifier, ReplicationTaskArn, Status (running).

    Attributes: arn, status, stop_reason, failure (AWS's own words). It starts a task that never ran, and
    resumes any other where it stopped; it loads no table anew. It shows as absent until the task ran.
    Resumed, a task that failed goes on from its last checkpoint; if its slot is lost it fails again.
    """

    label = "run of the task"
    identifier = Task.identifier
    describe = Task.describe
    list_key = Task.list_key
    filter_name = Task.filter_name

    def subject(self, spec: Spec) -> str:
        return f"replication task {self.name(spec)}"

    def find(self, spec: Spec) -> Live | None:
        found = self.one(spec)
        if found is None or state_of(found) == "deleting":
            return None
        status, arn = state_of(found), found["ReplicationTaskArn"]
        is_ours = self.is_ours(arn, spec)
        if is_ours and (status == "creating" or never_ran(found)):
            return None
        attributes = {
            "arn": arn,
            "status": status,
            "stop_reason": found.get("StopReason") or "",
            "failure": found.get("LastFailureMessage") or "",
        }
        shown = f"failed: {reason_of(found)}" if status == "failed" else status
        return Live({**spec, "ReplicationTaskArn": arn, "Status": shown}, attributes, is_ours)

    def create(self, spec: Spec) -> Live:
        return self.running(spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        return self.running(spec)

    def running(self, spec: Spec) -> Live:
        """A start is asked for only of a task at rest: one that starts on its own is waited for."""
        if Task(self.account).settled(spec) != "running":
            how = "start-replication" if never_ran(self.one(spec) or {}) else "resume-processing"
            arn = spec["ReplicationTaskArn"]
            self.call("start_replication_task", spec, ReplicationTaskArn=arn, StartReplicationTaskType=how)
        self.account.wait(f"the start of the {self.subject(spec)}", TASK_SECONDS, lambda: self.runs(spec))
        return there(self, self.account, spec)

    def runs(self, spec: Spec) -> bool:
        found = self.one(spec) or {"Status": "gone"}
        status = state_of(found)
        if status in AT_REST | {"gone"}:
            raise AwsError(f"{self.subject(spec)} does not stay running, it is {status}: {reason_of(found)}")
        return status == "running"

    def pause(self, live: Live, spec: Spec) -> None:
        """Stops the task, and returns when it rests: the slot keeps what is committed from now on."""
        task = Task(self.account)
        if task.settled(spec) != "running":
            return
        arn = live.attributes["arn"]
        # AWS refuses that for a task that has stopped meanwhile.
        self.account.find(
            "dms",
            "stop_replication_task",
            self.subject(spec),
            ABSENT | {"InvalidResourceStateFault"},
            ReplicationTaskArn=arn,
        )
        self.account.wait(
            f"stopping the {self.subject(spec)}",
            TASK_SECONDS,
            lambda: task.settled(spec) in AT_REST | {"gone"},
        )

    def delete(self, live: Live, spec: Spec) -> None:
        self.pause(live, spec)


# On a task: the rule-ids of the tables that were added to its mappings and are not loaded yet, 25 a tag.
LOAD_TAG = "pipeline-load"
RULES_A_TAG = 25  # "The value ... up to 256 Unicode characters", nine digits and a comma each
TABLES_A_RELOAD = 10  # documented


@dataclass
class TableLoads(DmsKind):
    """That no table waits to be loaded: ReplicationTaskIdentifier, ReplicationTaskArn, Waiting ([]).

    The first start of a task loads all of its tables, a resume loads none. So tables that are added to the
    mappings of a task that ran are noted in tags of the task before it is changed, and loaded by ReloadTables
    once it runs again; an interruption in between forgets none. Attributes: none.
    Whether DMS loads an added table by itself is not documented: one that shows a load is not loaded again.
    """

    label = "loads of new tables"
    write_only = frozenset({"ReplicationTaskArn"})
    identifier = Task.identifier
    describe = Task.describe
    list_key = Task.list_key
    filter_name = Task.filter_name
    is_retained = True

    def find(self, spec: Spec) -> Live | None:
        """Never absent: before there is a task, nothing waits."""
        found = self.one(spec)
        arn = found["ReplicationTaskArn"] if found else ""
        waiting = (
            [f"{schema}.{table}" for schema, table in self.waiting(arn, found).values()] if found else []
        )
        return Live({**spec, "Waiting": waiting}, {}, found is None or self.is_ours(arn, spec))

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        """AWS takes a reload only while the task runs."""
        arn = spec["ReplicationTaskArn"]
        TaskRun(self.account).running(spec)
        waiting = self.waiting(arn, self.one(spec))
        loaded = self.loaded(arn, spec)
        missing = {rule: table for rule, table in waiting.items() if table not in loaded}
        for rules in chunks(sorted(missing), TABLES_A_RELOAD):
            Task(self.account).reload(spec, arn, [missing[rule] for rule in rules])
            self.keep(arn, set(waiting) - set(rules), spec)
            waiting = {rule: table for rule, table in waiting.items() if rule not in rules}
        self.keep(arn, set(), spec)
        return there(self, self.account, spec)

    def delete(self, live: Live, spec: Spec) -> None:
        """Its tags go with the task."""

    def note(self, task: Live, spec: Spec) -> None:
        """Writes down which tables the wanted mappings add that were not loaded, if the task has run."""
        arn, live_rules = task.attributes["arn"], by_rule_id(task.attributes["table_mappings"])["rules"]
        found = self.one(spec)
        if found is None or never_ran(found):
            return
        loaded, waiting = self.loaded(arn, spec), self.waiting(arn, found)
        added = {
            rule: located(one) for rule, one in spec["TableMappings"]["rules"].items() if is_mapping(one)
        }
        new = {rule for rule, table in added.items() if rule not in live_rules and table not in loaded}
        if new - set(waiting):
            self.keep(arn, new | set(waiting), spec)

    def waiting(self, arn: str, found: Mapping[str, Any] | None) -> dict[str, tuple[str, str]]:
        """{rule-id: (schema, table)}: noted, and still in the mappings that the task has."""
        rules = by_rule_id(json.loads(found["TableMappings"]))["rules"] if found else {}
        noted = {rule for value in self.noted(arn).values() for rule in value.split(",")}
        return {rule: located(rules[rule]) for rule in sorted(noted & set(rules))}

    def noted(self, arn: str) -> dict[str, str]:
        tags = self.account.find("dms", "list_tags_for_resource", self.label, ABSENT, ResourceArn=arn)
        found = tags_in(tags["TagList"]) if tags else {}
        return {key: value for key, value in found.items() if key.startswith(LOAD_TAG)}

    def keep(self, arn: str, rules: set[str], spec: Spec) -> None:
        """The tags say these rules and no others."""
        wanted = {
            f"{LOAD_TAG}-{position}": ",".join(some)
            for position, some in enumerate(chunks(sorted(rules), RULES_A_TAG))
        }
        now = self.noted(arn)
        if wanted:
            tags = [{"Key": key, "Value": value} for key, value in wanted.items()]
            self.call("add_tags_to_resource", spec, ResourceArn=arn, Tags=tags)
        if surplus := sorted(set(now) - set(wanted)):
            self.call("remove_tags_from_resource", spec, ResourceArn=arn, TagKeys=surplus)

    def loaded(self, arn: str, spec: Spec) -> set[tuple[str, str]]:
        """Tables of which DMS shows that they were loaded, or are being loaded."""
        found = self.account.pages(
            "dms",
            "describe_table_statistics",
            self.subject(spec),
            "TableStatistics",
            ReplicationTaskArn=arn,
        )
        return {(one["SchemaName"], one["TableName"]) for one in found if shows_a_load(one)}


def shows_a_load(statistics: Mapping[str, Any]) -> bool:
    return bool(
        statistics.get("FullLoadRows")
        or statistics.get("FullLoadStartTime")
        or statistics.get("FullLoadEndTime")
        or statistics.get("TableState") in ("Full load", "Table is being reloaded")
    )


def is_mapping(rule: Mapping[str, Any]) -> bool:
    return bool(rule["rule-type"] == "object-mapping")


def located(rule: Mapping[str, Any]) -> tuple[str, str]:
    return rule["object-locator"]["schema-name"], rule["object-locator"]["table-name"]


def chunks(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def never_ran(found: Mapping[str, Any]) -> bool:
    """A task that has run is never ready again, not even once it was modified.

    Source: https://github.com/hashicorp/terraform/pull/12406
    """
    is_new = state_of(found) == "modifying" and found.get("ReplicationTaskStartDate") is None
    return state_of(found) == "ready" or is_new


def reason_of(found: Mapping[str, Any]) -> str:
    return str(found.get("LastFailureMessage") or found.get("StopReason") or "no reason given")
