"""RDS: parameter group, subnet group, instance; and the instance of somebody else that is only read.

Identifiers are lower case, as RDS makes them so.
Source: https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/Welcome.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from provision.aws import Account, AwsError, Refusal
from provision.engine import UNKNOWN, Kind, Live, RefusedError, Spec
from provision.kinds.documents import as_declared, tags_in, there
from provision.kinds.ec2 import check_zones

NO_INSTANCE = {"DBInstanceNotFound", "DBInstanceNotFoundFault"}
NO_PARAMETER_GROUP = {"DBParameterGroupNotFound", "DBParameterGroupNotFoundFault"}
NO_SUBNET_GROUP = {"DBSubnetGroupNotFoundFault", "DBSubnetGroupNotFound"}
INSTANCE_SECONDS = 3600
BEGIN_SECONDS = 120
PARAMETERS_A_CALL = 20  # Source: API_ModifyDBParameterGroup
LOGICAL_REPLICATION = "rds.logical_replication"
STATUS = "ParameterApplyStatus"
IN_SYNC, PENDING_REBOOT = "in-sync", "pending-reboot"


def utc_now() -> datetime:
    return datetime.now(UTC)


class RdsKind(Kind):
    """What the objects of RDS have in common."""

    account: Account

    def call(self, operation: str, name: str, **parameters: Any) -> Any:
        return self.account.call("rds", operation, f"{self.label} {name}", **parameters)

    def quietly(self, operation: str, name: str, absent: set[str], **parameters: Any) -> Any:
        return self.account.find("rds", operation, f"{self.label} {name}", absent, **parameters)

    def is_ours(self, name: str, arn: str) -> bool:
        tags = self.call("list_tags_for_resource", name, ResourceName=arn)["TagList"]
        return self.account.is_ours(tags_in(tags))

    def wait_until_unused(self, name: str, uses: Callable[[Any], bool]) -> None:
        """A group is in use until the instance that is being deleted is gone, after an interruption too."""

        def is_unused() -> bool:
            instances = self.account.pages(
                "rds", "describe_db_instances", f"{self.label} {name}", "DBInstances"
            )
            return not any(one["DBInstanceStatus"] == "deleting" and uses(one) for one in instances)

        self.account.wait(f"{self.label} {name} getting out of use", INSTANCE_SECONDS, is_unused)


# --------------------------------------------------------------------------------------------------------
# Groups
# --------------------------------------------------------------------------------------------------------


@dataclass
class ParameterGroup(RdsKind):
    """A parameter group: DBParameterGroupName, DBParameterGroupFamily (postgres16), Description,
    Parameters {"rds.logical_replication": "1", ...}, all texts.

    Attributes: name, arn, family. A parameter that the spec does not have is left alone. A dynamic parameter
    is applied at once, a static one by the next reboot of the instance, which Instance sees to.
    """

    account: Account
    label = "parameter group"
    immutable = frozenset({"DBParameterGroupName", "DBParameterGroupFamily"})
    write_only = frozenset({"Description"})  # AWS can't change it, and a text is worth no replacement
    why_not_replaced = "the instance runs with it: a group of another family needs another name"

    def find(self, spec: Spec) -> Live | None:
        name = spec["DBParameterGroupName"]
        found = self.quietly(
            "describe_db_parameter_groups", name, NO_PARAMETER_GROUP, DBParameterGroupName=name
        )
        if not found or not found["DBParameterGroups"]:
            return None
        group = found["DBParameterGroups"][0]
        arn, family = group["DBParameterGroupArn"], group["DBParameterGroupFamily"]
        user_set = parameters_of(self.account, name, Source="user")
        values = {
            "DBParameterGroupName": name,
            "DBParameterGroupFamily": family,
            "Parameters": {key: one.get("ParameterValue") for key, one in user_set.items()},
        }
        return Live(values, {"name": name, "arn": arn, "family": family}, self.is_ours(name, arn))

    def create(self, spec: Spec) -> Live:
        named = {key: spec[key] for key in ("DBParameterGroupName", "DBParameterGroupFamily", "Description")}
        name = spec["DBParameterGroupName"]
        self.call("create_db_parameter_group", name, **named, Tags=self.account.tag_list)
        return self.update(there(self, self.account, spec), spec, frozenset(spec))

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        name, now = spec["DBParameterGroupName"], live.values["Parameters"]
        wanted = {key: value for key, value in spec.get("Parameters", {}).items() if now.get(key) != value}
        known = parameters_of(self.account, name) if wanted else {}
        entries = [
            {
                "ParameterName": key,
                "ParameterValue": value,
                "ApplyMethod": "immediate" if is_dynamic(known.get(key, {})) else PENDING_REBOOT,
            }
            for key, value in wanted.items()
        ]
        for some in batches(entries):
            self.call("modify_db_parameter_group", name, DBParameterGroupName=name, Parameters=some)
        return there(self, self.account, spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["DBParameterGroupName"]
        self.wait_until_unused(name, lambda instance: parameter_group_of(instance)[0] == name)
        self.quietly("delete_db_parameter_group", name, NO_PARAMETER_GROUP, DBParameterGroupName=name)


def batches(entries: list[dict[str, str]]) -> list[list[dict[str, str]]]:
    """As many of them as one call takes."""
    starts = range(0, len(entries), PARAMETERS_A_CALL)
    return [entries[start : start + PARAMETERS_A_CALL] for start in starts]


def parameters_of(account: Account, name: str, **chosen: str) -> dict[str, Any]:
    """AWS's descriptions of the group's parameters by their names, hundreds unless chosen by Source."""
    parameters = account.pages(
        "rds",
        "describe_db_parameters",
        f"parameter group {name}",
        "Parameters",
        DBParameterGroupName=name,
        **chosen,
    )
    return {one["ParameterName"]: one for one in parameters}


def is_dynamic(parameter: Any) -> bool:
    return bool(parameter.get("ApplyType") == "dynamic")


def parameter_group_of(instance: Any) -> tuple[str, str]:
    """("lending-postgres16", "in-sync")"""
    groups = instance.get("DBParameterGroups", [])
    group = groups[0] if groups else {}
    return group.get("DBParameterGroupName", ""), group.get(STATUS, IN_SYNC)


@dataclass
class SubnetGroup(RdsKind):
    """A subnet group: DBSubnetGroupName, DBSubnetGroupDescription, SubnetIds (in two zones at least).

    Attributes: name, arn, vpc_id.
    """

    account: Account
    label = "DB subnet group"
    immutable = frozenset({"DBSubnetGroupName"})

    def find(self, spec: Spec) -> Live | None:
        name = spec["DBSubnetGroupName"]
        found = self.quietly("describe_db_subnet_groups", name, NO_SUBNET_GROUP, DBSubnetGroupName=name)
        if not found or not found["DBSubnetGroups"]:
            return None
        group = found["DBSubnetGroups"][0]
        values = {
            "DBSubnetGroupName": name,
            "DBSubnetGroupDescription": group.get("DBSubnetGroupDescription"),
            "SubnetIds": as_declared(spec.get("SubnetIds"), subnet_ids_of(group)),
        }
        arn = group["DBSubnetGroupArn"]
        return Live(values, {"name": name, "arn": arn, "vpc_id": group["VpcId"]}, self.is_ours(name, arn))

    def create(self, spec: Spec) -> Live:
        check_zones(self.account, spec["SubnetIds"])
        self.call("create_db_subnet_group", spec["DBSubnetGroupName"], **spec, Tags=self.account.tag_list)
        return there(self, self.account, spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        """ModifyDBSubnetGroup replaces all subnets."""
        check_zones(self.account, spec["SubnetIds"])
        self.call("modify_db_subnet_group", spec["DBSubnetGroupName"], **spec)
        return there(self, self.account, spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["DBSubnetGroupName"]
        self.wait_until_unused(
            name, lambda instance: instance.get("DBSubnetGroup", {}).get("DBSubnetGroupName") == name
        )
        self.quietly("delete_db_subnet_group", name, NO_SUBNET_GROUP, DBSubnetGroupName=name)


def subnet_ids_of(group: Any) -> list[str]:
    return sorted(
        subnet["SubnetIdentifier"]
        for subnet in group.get("Subnets", [])
        if subnet.get("SubnetStatus", "Active") == "Active"
    )


# --------------------------------------------------------------------------------------------------------
# The instance of ours
# --------------------------------------------------------------------------------------------------------

# States in which the database serves and the instance takes a change; the others pass, or are BROKEN.
# Source: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html
# storage-full is among the first: its storage can be raised, and that is the way out.
USABLE = {"available", "backing-up", "storage-full", "storage-optimization", "storage-config-upgrade"}
BROKEN = {
    "failed",
    "restore-error",
    "stopped",
    "insufficient-capacity",
    "inaccessible-encryption-credentials",
    "inaccessible-encryption-credentials-recoverable",
    "incompatible-create",
    "incompatible-network",
    "incompatible-option-group",
    "incompatible-parameters",
    "incompatible-restore",
}
# No final snapshot can be made in these. Source: API_DeleteDBInstance, FinalDBSnapshotIdentifier
BEYOND_SNAPSHOT = {"failed", "incompatible-restore", "incompatible-network", "incompatible-create"}
# Where DescribeDBInstances shows a parameter of CreateDBInstance under another name.
SHOWN_AS = {
    "EnableIAMDatabaseAuthentication": "IAMDatabaseAuthenticationEnabled",
    "EnablePerformanceInsights": "PerformanceInsightsEnabled",
    "EnableCloudwatchLogsExports": "EnabledCloudwatchLogsExports",
}
# Where PendingModifiedValues does.
PENDING_AS = {"EnableIAMDatabaseAuthentication": "IAMDatabaseAuthenticationEnabled"}
INSTANCE_FIXED = frozenset(
    {
        *("DBInstanceIdentifier", "Engine", "DBName", "MasterUsername", "AvailabilityZone"),
        *("StorageEncrypted", "KmsKeyId", "DBSubnetGroupName"),
    }
)


@dataclass
class Instance(RdsKind):
    """A PostgreSQL instance of ours: the parameters of CreateDBInstance, and ParameterApplyStatus: "in-sync",
    which declares that it shall be rebooted when its parameters wait for that.

    Attributes: name, arn, status, host, port, vpc_id, subnet_ids, security_group_ids, engine_version,
    parameter_group, master_secret_arn (None without ManageMasterUserPassword); host and port are UNKNOWN
    until it is made. MasterUserPassword is written once and never compared. What is equal in effect is no
    difference: storage that has grown, a newer minor version than declared, any minor one of EngineVersion
    "16". Without EngineVersion AWS's default one of the parameter group's family is made, and what is there
    is kept. A change is made at once, whatever the maintenance window; so is one that waits for the window.

    Destroy makes a final snapshot (it bills until somebody deletes it), except of a broken instance.
    """

    account: Account
    now: Callable[[], datetime] = utc_now
    label = "DB instance"
    immutable = INSTANCE_FIXED
    write_only = frozenset({"MasterUserPassword"})
    why_not_replaced = "a new instance would be an empty database"

    def find(self, spec: Spec) -> Live | None:
        instance = self.described(spec)
        if instance is None or instance["DBInstanceStatus"] == "deleting":
            return None
        status = instance["DBInstanceStatus"]
        if status == "creating":  # shown in part; so a run that was interrupted then is finished by the next
            values = {key: spec[key] for key in self.immutable if key in spec}
        else:
            values = values_of(instance, spec)
        attributes = {
            **instance_attributes(instance),
            "master_secret_arn": instance.get("MasterUserSecret", {}).get("SecretArn"),
        }
        return Live(values, attributes, self.account.is_ours(tags_in(instance.get("TagList", []))))

    def create(self, spec: Spec) -> Live:
        self.wait_until_gone(spec)
        parameters = {key: value for key, value in spec.items() if key != STATUS}
        if "EngineVersion" not in spec and "DBParameterGroupName" in spec:
            family = self.family(spec["DBParameterGroupName"])
            parameters["EngineVersion"] = engine_version(self.account, family.removeprefix("postgres"))[0]
        self.call(
            "create_db_instance", spec["DBInstanceIdentifier"], **parameters, Tags=self.account.tag_list
        )
        there(self, self.account, spec)
        return self.made_so(spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        return self.made_so(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["DBInstanceIdentifier"]
        instance = self.described(spec)
        if instance is None:
            return
        if instance["DBInstanceStatus"] not in BROKEN | {"deleting"}:
            instance = self.settled(spec)
        if instance["DBInstanceStatus"] != "deleting":
            if instance.get("DeletionProtection"):
                self.unprotect(spec)
            self.delete_call(name, instance["DBInstanceStatus"])
        self.wait_until_gone(spec)

    def delete_call(self, name: str, status: str) -> None:
        final = f"{name}-final-{self.now():%Y%m%d-%H%M%S-%f}"
        snapshot: dict[str, Any] = {"FinalDBSnapshotIdentifier": final}
        if status in BEYOND_SNAPSHOT:
            snapshot = {"SkipFinalSnapshot": True}
        self.quietly(
            "delete_db_instance",
            name,
            NO_INSTANCE,
            DBInstanceIdentifier=name,
            DeleteAutomatedBackups=True,
            **snapshot,
        )

    def unprotect(self, spec: Spec) -> None:
        name = spec["DBInstanceIdentifier"]
        self.modify(name, {"DeletionProtection": False})

        def is_unprotected() -> bool:
            now = self.described(spec) or {"DBInstanceStatus": "available"}  # deleted by somebody else
            return not now.get("DeletionProtection") and now["DBInstanceStatus"] in USABLE | BROKEN

        self.account.wait(f"unprotecting {self.label} {name}", INSTANCE_SECONDS, is_unprotected)

    def made_so(self, spec: Spec) -> Live:
        """What differs is changed, all in one call; then comes the reboot, when parameters wait for it."""
        name, instance = spec["DBInstanceIdentifier"], self.settled(spec)
        if wrong := self.wrong(instance, spec):
            self.check_upgrade(instance, wrong)
            self.modify(name, modifications(wrong, instance))
            what = f"AWS beginning to change {self.label} {name}"
            self.account.wait(what, BEGIN_SECONDS, lambda: self.has_begun(spec))
            instance = self.settled(spec)
        if spec.get(STATUS) == IN_SYNC and parameter_group_of(instance)[1] == PENDING_REBOOT:
            self.call("reboot_db_instance", name, DBInstanceIdentifier=name)
            self.settled(spec, but_not=PENDING_REBOOT)
        return there(self, self.account, spec)

    def wrong(self, instance: Any, spec: Spec) -> dict[str, Any]:
        """What of the spec that can be changed is not so."""
        found, left_alone = values_of(instance, spec), self.immutable | self.write_only | {STATUS}
        return {
            key: value for key, value in spec.items() if key not in left_alone and found.get(key) != value
        }

    def has_begun(self, spec: Spec) -> bool:
        """AWS may still show "available" and the former values when it has taken a change."""
        instance = self.described(spec)
        if instance is None or instance["DBInstanceStatus"] not in USABLE:
            return True
        return not self.wrong(instance, spec)

    def check_upgrade(self, instance: Any, wrong: Mapping[str, Any]) -> None:
        wanted, now = wrong.get("EngineVersion"), instance["EngineVersion"]
        if wanted is not None and numbers(wanted)[0] != numbers(now)[0]:
            raise RefusedError(
                f"{self.label} {instance['DBInstanceIdentifier']} runs PostgreSQL {now}; a change to {wanted}"
                " is a major upgrade, which takes replication slots away and with them changes that are not"
                " read yet: stop the chain, upgrade by hand, then start it with a new full load"
            )

    def settled(self, spec: Spec, but_not: str = "") -> Any:
        """AWS's description, once nothing is under way any more. Raises AwsError if that can't end well."""
        name = spec["DBInstanceIdentifier"]
        seen: list[Any] = []

        def is_settled() -> bool:
            instance = self.described(spec)
            status = instance["DBInstanceStatus"] if instance else "gone"
            if status in BROKEN | {"gone", "deleting"}:
                raise AwsError(f"{self.label} {name} is {status}: {WAY_ON.get(status, LOOK)}")
            seen[:] = [instance]
            return status in USABLE and parameter_group_of(instance)[1] not in ("applying", but_not)

        self.account.wait(f"{self.label} {name}", INSTANCE_SECONDS, is_settled)
        return seen[0]

    def modify(self, name: str, parameters: Mapping[str, Any]) -> None:
        self.call("modify_db_instance", name, DBInstanceIdentifier=name, ApplyImmediately=True, **parameters)

    def wait_until_gone(self, spec: Spec) -> None:
        """Returns at once where no instance of that name is being deleted."""

        def is_gone() -> bool:
            instance = self.described(spec)
            return instance is None or instance["DBInstanceStatus"] != "deleting"

        what = f"deleting {self.label} {spec['DBInstanceIdentifier']}"
        self.account.wait(what, INSTANCE_SECONDS, is_gone)

    def described(self, spec: Spec) -> Any:
        name = spec["DBInstanceIdentifier"]
        return describe_instance(self.account, name)

    def family(self, group: str) -> str:
        found = self.call("describe_db_parameter_groups", group, DBParameterGroupName=group)
        return str(found["DBParameterGroups"][0]["DBParameterGroupFamily"])


LOOK = "look at it in the RDS console, then run the command again"
WAY_ON = {
    "stopped": "start it (aws rds start-db-instance), then run the command again",
    "gone": "run the command again",
    "deleting": "run the command again",
}


def describe_instance(account: Account, name: str) -> Any:
    found = account.find(
        "rds", "describe_db_instances", f"DB instance {name}", NO_INSTANCE, DBInstanceIdentifier=name
    )
    return found["DBInstances"][0] if found and found["DBInstances"] else None


def instance_attributes(instance: Any) -> dict[str, Any]:
    """What Refs can ask of an instance, ours or not."""
    endpoint, subnets = instance.get("Endpoint", {}), instance.get("DBSubnetGroup", {})
    return {
        "name": instance["DBInstanceIdentifier"],
        "arn": instance["DBInstanceArn"],
        "status": instance["DBInstanceStatus"],
        "host": endpoint.get("Address", UNKNOWN),
        "port": endpoint.get("Port", UNKNOWN),
        "vpc_id": subnets.get("VpcId", UNKNOWN),
        "subnet_ids": subnet_ids_of(subnets),
        "security_group_ids": security_group_ids_of(instance),
        "engine_version": instance.get("EngineVersion"),
        "parameter_group": parameter_group_of(instance)[0],
    }


def security_group_ids_of(instance: Any) -> list[str]:
    return sorted(group["VpcSecurityGroupId"] for group in instance.get("VpcSecurityGroups", []))


def values_of(instance: Any, spec: Spec) -> dict[str, Any]:
    """The spec's keys as they are; where a change waits for the window that would undo one, what waits."""
    pending = instance.get("PendingModifiedValues", {})
    values = {}
    for key, wanted in spec.items():
        found = same_in_effect(key, wanted, shown(instance, key))
        if found == wanted and PENDING_AS.get(key, key) in pending:
            found = same_in_effect(key, wanted, pending[PENDING_AS.get(key, key)])
        values[key] = found
    return values


def shown(instance: Any, key: str) -> Any:
    """What AWS shows of the parameter of CreateDBInstance."""
    if key == STATUS:
        status = instance["DBInstanceStatus"]
        return parameter_group_of(instance)[1] if status in USABLE - {"storage-full"} else status
    if key == "DBParameterGroupName":
        return parameter_group_of(instance)[0]
    if key == "DBSubnetGroupName":
        return instance.get("DBSubnetGroup", {}).get("DBSubnetGroupName")
    if key == "VpcSecurityGroupIds":
        return security_group_ids_of(instance)
    if key == "Port":
        return instance.get("Endpoint", {}).get("Port")
    if key == "ManageMasterUserPassword":
        return "MasterUserSecret" in instance
    return instance.get(SHOWN_AS.get(key, key), [] if key == "EnableCloudwatchLogsExports" else None)


def same_in_effect(key: str, wanted: Any, found: Any) -> Any:
    """wanted, where what was found serves as well or can't be taken back; else found."""
    if wanted is UNKNOWN or found is None:
        return found
    if key == "AllocatedStorage":  # it grows by itself, and never shrinks
        return wanted if found >= wanted else found
    if key == "EngineVersion":
        is_same_major = numbers(found)[0] == numbers(wanted)[0]
        return wanted if is_same_major and numbers(found) >= numbers(wanted) else found
    if key == "VpcSecurityGroupIds":  # others let others in
        return wanted if set(wanted) <= set(found) else found
    if key.startswith("Preferred"):  # windows: AWS writes the days in lower case
        return wanted if found.lower() == wanted.lower() else found
    if key == "KmsKeyId":
        return wanted if str(found).endswith((f":{wanted}", f":key/{wanted}")) else found
    return as_declared(wanted, found)


def numbers(version: str) -> tuple[int, ...]:
    """(16, 3), of "16.3"; "16.3-R2" is the same PostgreSQL."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("-")[0]))


def modifications(wrong: Mapping[str, Any], instance: Any) -> dict[str, Any]:
    """The parameters of ModifyDBInstance, where two have other names than in CreateDBInstance."""
    parameters = dict(wrong)
    if "VpcSecurityGroupIds" in parameters:
        groups = {*parameters["VpcSecurityGroupIds"], *security_group_ids_of(instance)}
        parameters["VpcSecurityGroupIds"] = sorted(groups)
    if "Port" in parameters:
        parameters["DBPortNumber"] = parameters.pop("Port")
    if "EnableCloudwatchLogsExports" in parameters:
        wanted = set(parameters.pop("EnableCloudwatchLogsExports"))
        there_are = set(shown(instance, "EnableCloudwatchLogsExports"))
        parameters["CloudwatchLogsExportConfiguration"] = {
            "EnableLogTypes": sorted(wanted - there_are),
            "DisableLogTypes": sorted(there_are - wanted),
        }
    return parameters


def engine_version(account: Account, wanted: str = "") -> tuple[str, str]:
    """("16.8", "postgres16"): a version of PostgreSQL and the family of its parameter groups.

    It is AWS's default one; of a major version, when that is wanted ("16"); or just the one wanted ("16.3").
    Raises AwsError when RDS has none.
    """
    chosen = {"EngineVersion": wanted} if wanted else {}
    for default_only in (True, False):
        versions = account.pages(
            "rds",
            "describe_db_engine_versions",
            f"PostgreSQL {wanted}".strip(),
            "DBEngineVersions",
            Engine="postgres",
            DefaultOnly=default_only,
            **chosen,
        )
        usable = [one for one in versions if one.get("Status", "available") == "available"]
        if usable:
            newest = max(usable, key=lambda one: numbers(one["EngineVersion"]))
            return str(newest["EngineVersion"]), str(newest["DBParameterGroupFamily"])
    raise AwsError(f"RDS in {account.region} has no PostgreSQL {wanted}: choose another version")


def family_of(version: str) -> str:
    """postgres16, of 16.3"""
    return f"postgres{numbers(version)[0]}"


def made_family(account: Account) -> str:
    """The family of the parameter group that was made for our instance; empty where there is none."""
    groups = account.pages(
        "rds", "describe_db_parameter_groups", f"parameter groups of {account.pipeline}", "DBParameterGroups"
    )
    families = [
        str(group["DBParameterGroupFamily"])
        for group in groups
        if group["DBParameterGroupName"] == account.name(group["DBParameterGroupFamily"])
    ]
    return max(families, default="")


# --------------------------------------------------------------------------------------------------------
# The instance of somebody else
# --------------------------------------------------------------------------------------------------------

INSTEAD = "set SUBNET_IDS to subnets from which the database can be reached, and it is not looked up in RDS"


@dataclass
class ExistingInstance(RdsKind):
    """The RDS instance that PGHOST names: Address. It is never ours and never changed.

    Attributes: name, arn, status, host, port, vpc_id, subnet_ids, security_group_ids, engine_version,
    parameter_group, logical_replication ("on", "pending-reboot" or "off").

    Raises AwsError for a host that is no instance of RDS for PostgreSQL that DMS can read changes from, with
    what to set instead.
    """

    account: Account
    label = "DB instance"

    def find(self, spec: Spec) -> Live | None:
        address = spec["Address"]
        instance = describe_instance(self.account, instance_name(address, self.account.region))
        check_source(instance, address, self.account.region)
        attributes = instance_attributes(instance)
        attributes["logical_replication"] = self.logical_replication(instance)
        return Live({"Address": address}, attributes, is_ours=False)

    def logical_replication(self, instance: Any) -> str:
        """AWS does not say which parameter waits for a reboot: pending-reboot may be another one's."""
        group, status = parameter_group_of(instance)
        try:
            value = parameters_of(self.account, group).get(LOGICAL_REPLICATION, {}).get("ParameterValue")
        except Refusal as error:
            if error.code not in NO_PARAMETER_GROUP:
                raise
            value = None
        if value != "1":
            return "off"
        return PENDING_REBOOT if status == PENDING_REBOOT else "on"


def is_rds_host(address: str) -> bool:
    return ".rds.amazonaws.com" in address.lower()


def instance_name(address: str, region: str) -> str:
    """lending-db, of lending-db.c1abcdefghij.eu-west-1.rds.amazonaws.com"""
    host = address.lower().rstrip(".")
    parts = re.fullmatch(r"(.+)\.([^.]+)\.([^.]+)\.rds\.amazonaws\.com(\.cn)?", host)
    if parts is None:
        raise AwsError(f"PGHOST {address} is no host name of RDS: give that, or {INSTEAD}")
    name, unique, found_region = parts[1], parts[2], parts[3]
    if found_region != region:
        raise AwsError(f"PGHOST {address} is not in {region}: set AWS_DEFAULT_REGION={found_region}")
    if unique.startswith("proxy-"):
        raise AwsError(
            f"PGHOST {address} is an RDS Proxy, which DMS can't read changes through:"
            " set PGHOST to the host of the instance behind it"
        )
    if unique.startswith("cluster-"):
        raise AwsError(f"PGHOST {address} is a cluster, not an RDS instance: {INSTEAD}")
    return name


def check_source(instance: Any, address: str, region: str) -> None:
    """Raises AwsError unless the instance is the one at that address, and DMS can read changes from it."""
    found = instance.get("Endpoint", {}).get("Address", "") if instance else ""
    if found.lower() != address.lower().rstrip("."):
        raise AwsError(
            f"PGHOST {address} is no RDS instance of this account in {region}:"
            f" use the account that has it, or {INSTEAD}"
        )
    if instance.get("DBClusterIdentifier"):
        cluster = instance["DBClusterIdentifier"]
        raise AwsError(
            f"PGHOST {address} is a member of cluster {cluster}, which changes its roles:"
            f" set PGHOST to the cluster's writer endpoint; then {INSTEAD}"
        )
    if source := instance.get("ReadReplicaSourceDBInstanceIdentifier"):
        raise AwsError(
            f"PGHOST {address} is a read replica, from which DMS reads no changes:"
            f" set PGHOST to its source, {source}"
        )
    if instance["Engine"] != "postgres":
        raise AwsError(f"PGHOST {address} is {instance['Engine']}, not PostgreSQL: set PGHOST to another one")
