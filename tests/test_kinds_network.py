"""Security groups, the rule on the database's group, VPC endpoints, RDS: observe, plan, execute, destroy.

Against the emulated AWS of local_run (states that take time, groups in use, pending reboots), and once more
against plain moto, in a process of its own, as the model can't be taken out of moto again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from kinds_support import (
    PASSWORD,
    PLAIN_MOTO,
    REGION,
    Interrupted,
    Wire,
    account,
    actions,
    apply,
    aws,
    forget_all,
    needs_model,
    silent,
    wire,
    wire_and_clients,
)

from local_run.aws import EmulatedAws
from provision.aws import Account, AwsError, iam_action
from provision.engine import (
    UNKNOWN,
    Action,
    Ref,
    RefusedError,
    Resource,
    destroy,
    execute,
    observe,
    plan,
)
from provision.kinds import ec2, rds

__all__ = ["account", "aws", "wire", "wire_and_clients"]  # fixtures

# --------------------------------------------------------------------------------------------------------
# The account, with a network and a database's security group that are not ours
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    vpc_id: str
    subnet_ids: list[str]  # of eu-west-1a, b, c
    database_group_id: str
    route_table_id: str


def network_of(account: Account) -> Network:
    client = account.client("ec2")
    vpc_id = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    client.modify_vpc_attribute(VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    subnets = [
        client.create_subnet(VpcId=vpc_id, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")
        for n, zone in enumerate("abc")
    ]
    group = client.create_security_group(GroupName="database", Description="theirs", VpcId=vpc_id)
    client.authorize_security_group_ingress(
        GroupId=group["GroupId"], IpPermissions=[tcp(5432, "10.9.0.0/16")]
    )
    tables = client.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["RouteTables"]
    subnet_ids = [subnet["Subnet"]["SubnetId"] for subnet in subnets]
    return Network(vpc_id, subnet_ids, group["GroupId"], tables[0]["RouteTableId"])


@pytest.fixture
def network(account: Account, wire: Wire) -> Network:
    network = network_of(account)
    wire.forget()
    return network


def empty(account: Account, wire: Wire) -> Network:
    """The account as at the beginning of a test."""
    forget_all(wire)
    network = network_of(account)
    wire.forget()
    return network


# --------------------------------------------------------------------------------------------------------
# A chain of each kind
# --------------------------------------------------------------------------------------------------------


def tcp(port: int, *ranges: str) -> dict[str, Any]:
    rule = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
    return {**rule, "IpRanges": [{"CidrIp": one} for one in ranges]}


def tcp_from(port: int, group: Any) -> dict[str, Any]:
    rule = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
    return {**rule, "UserIdGroupPairs": [{"GroupId": group, "Description": "from DMS"}]}


def kinds(network: Network) -> dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]]:
    """{name: (kind, spec, what is above it)}"""
    return {
        "group": (
            ec2.SecurityGroup,
            {
                "GroupName": "lending-dms",
                "VpcId": network.vpc_id,
                "Description": "what DMS may reach",
                "IpPermissions": [],
                "IpPermissionsEgress": [tcp(443, "0.0.0.0/0"), tcp(5432, "10.0.0.0/16", "10.1.0.0/16")],
            },
            (),
        ),
        "endpoint-group": (
            ec2.SecurityGroup,
            {
                "GroupName": "lending-endpoints",
                "VpcId": network.vpc_id,
                "Description": "who may reach the VPC endpoints",
                "IpPermissions": [tcp_from(443, Ref("group", "id"))],
                "IpPermissionsEgress": [],
            },
            ("group",),
        ),
        "rule": (
            ec2.IngressRule,
            {
                "GroupId": network.database_group_id,
                "ReferencedGroupId": Ref("group", "id"),
                "IpProtocol": "tcp",
                "FromPort": 5432,
                "ToPort": 5432,
                "Description": "lending: DMS reads changes",
            },
            ("group",),
        ),
        "interface": (
            ec2.VpcEndpoint,
            {
                "VpcEndpointType": "Interface",
                "ServiceName": f"com.amazonaws.{REGION}.kinesis-streams",
                "VpcId": network.vpc_id,
                "SubnetIds": network.subnet_ids[:2],
                "SecurityGroupIds": [Ref("endpoint-group", "id")],
                "PrivateDnsEnabled": True,
            },
            ("group", "endpoint-group"),
        ),
        "gateway": (
            ec2.VpcEndpoint,
            {
                "VpcEndpointType": "Gateway",
                "ServiceName": f"com.amazonaws.{REGION}.s3",
                "VpcId": network.vpc_id,
                "RouteTableIds": [network.route_table_id],
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": "*"}
                    ],
                },
            },
            (),
        ),
        "parameters": (
            rds.ParameterGroup,
            {
                "DBParameterGroupName": "lending-postgres16",
                "DBParameterGroupFamily": "postgres16",
                "Description": "changes can be read",
                "Parameters": {"rds.logical_replication": "1", "wal_sender_timeout": "60000"},
            },
            (),
        ),
        "subnets": (
            rds.SubnetGroup,
            {
                "DBSubnetGroupName": "lending",
                "DBSubnetGroupDescription": "where the database is",
                "SubnetIds": network.subnet_ids[:2],
            },
            (),
        ),
        "instance": (
            rds.Instance,
            {
                "DBInstanceIdentifier": "lending",
                "Engine": "postgres",
                "EngineVersion": "16",
                "DBInstanceClass": "db.t4g.medium",
                "DBName": "lending",
                "MasterUsername": "lending",
                "MasterUserPassword": PASSWORD,
                "AllocatedStorage": 20,
                "MaxAllocatedStorage": 100,
                "StorageType": "gp3",
                "StorageEncrypted": True,
                "PubliclyAccessible": False,
                "MultiAZ": False,
                "Port": 5432,
                "BackupRetentionPeriod": 7,
                "PreferredMaintenanceWindow": "Sun:03:00-Sun:04:00",
                "AutoMinorVersionUpgrade": True,
                "CopyTagsToSnapshot": True,
                "DeletionProtection": True,
                "EnableCloudwatchLogsExports": ["postgresql"],
                "DBSubnetGroupName": Ref("subnets", "name"),
                "DBParameterGroupName": Ref("parameters", "name"),
                "VpcSecurityGroupIds": [Ref("group", "id")],
                "ParameterApplyStatus": "in-sync",
            },
            ("group", "parameters", "subnets"),
        ),
    }


NAMES = ["group", "endpoint-group", "rule", "interface", "gateway", "parameters", "subnets", "instance"]


def chain_of(account: Account, network: Network, name: str, **changed: Any) -> list[Resource]:
    """The resource, after those that it refers to."""
    declared = kinds(network)
    kind, spec, above = declared[name]
    needed = [Resource(one, declared[one][0](account), declared[one][1]) for one in above]
    return [*needed, Resource(name, kind(account), {**spec, **changed})]


@pytest.fixture
def made(account: Account, network: Network, wire: Wire) -> Callable[..., list[Resource]]:
    """made("instance"): its chain, applied; what came until then is forgotten."""

    def make(name: str, **changed: Any) -> list[Resource]:
        chain = chain_of(account, network, name, **changed)
        apply(chain)
        wire.forget()
        return chain

    return make


def without_ids(values: Any) -> str:
    """As text; the emulated AWS gives new ids in each run."""
    return re.sub(r"\b(sg|sgr|vpc|vpce|subnet|rtb)-[0-9a-f]+", r"\1-", str(values))


# --------------------------------------------------------------------------------------------------------
# All kinds
# --------------------------------------------------------------------------------------------------------


def test_every_kind_is_in_the_tests_of_all_kinds(network: Network) -> None:
    assert list(kinds(network)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_account_gets_the_object_and_a_second_plan_keeps_it(
    account: Account, network: Network, name: str
) -> None:
    chain = chain_of(account, network, name)

    steps, now = apply(chain)

    assert [step.action for step in steps] == [Action.CREATE] * len(chain)
    assert now == observe(chain)
    assert now[name].is_ours
    assert actions(chain) == [Action.KEEP] * len(chain)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_deleted_by_hand_is_made_again(account: Account, made: Any, name: str) -> None:
    chain = made(name)
    observed = observe(chain)
    chain[-1].kind.delete(observed[name], chain[-1].spec)

    steps, _ = apply(chain)

    assert steps[-1].action is Action.CREATE
    assert actions(chain)[-1] is Action.KEEP


@pytest.mark.parametrize("name", NAMES)
def test_destroy_leaves_nothing_and_deleting_twice_is_no_fault(
    account: Account, made: Any, name: str
) -> None:
    chain = made(name)
    before = observe(chain)

    destroy(chain, before, silent)
    destroy(chain, before, silent)

    assert actions(chain) == [Action.CREATE] * len(chain)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "rule"])
def test_an_object_that_is_not_ours_is_reported_and_never_written_to(
    account: Account, network: Network, wire: Wire, name: str
) -> None:
    apply(chain_of(replace(account, pipeline="another"), network, name))
    chain = chain_of(account, network, name, **CHANGED[name](network))
    wire.forget()

    steps, now = apply(chain)
    destroy(chain, now, silent)

    assert [step.action for step in steps] == [Action.FOREIGN] * len(chain)
    assert {change.path.partition(".")[0] for change in steps[-1].changes} == set(CHANGED[name](network))
    assert wire.writes == []


CHANGED: dict[str, Callable[[Network], dict[str, Any]]] = {
    "group": lambda network: {"IpPermissionsEgress": []},
    "endpoint-group": lambda network: {"IpPermissions": [tcp(443, "10.0.0.0/8")]},
    "interface": lambda network: {"SubnetIds": network.subnet_ids[1:], "PrivateDnsEnabled": False},
    "gateway": lambda network: {"PolicyDocument": {"Version": "2012-10-17", "Statement": []}},
    "parameters": lambda network: {"Parameters": {"wal_sender_timeout": "30000"}},
    "subnets": lambda network: {"SubnetIds": network.subnet_ids},
    "instance": lambda network: {"BackupRetentionPeriod": 1, "DBInstanceClass": "db.m7g.large"},
}


@pytest.mark.parametrize("name", NAMES)
def test_an_apply_interrupted_after_any_write_is_finished_by_the_next(
    account: Account, network: Network, wire: Wire, name: str
) -> None:
    chain = chain_of(account, network, name)
    _, uninterrupted = apply(chain)
    writes = len(wire.writes)

    for last in range(1, writes + 1):
        chain = chain_of(account, empty(account, wire), name)
        wire.interrupt_after = last
        with pytest.raises(Interrupted):
            apply(chain)
        wire.forget()
        apply(chain)
        assert actions(chain) == [Action.KEEP] * len(chain), f"interrupted after write {last}"
        for key, live in observe(chain).items():
            assert without_ids(live.values) == without_ids(uninterrupted[key].values)


@pytest.mark.parametrize("name", NAMES)
def test_a_destroy_interrupted_after_any_write_is_finished_by_the_next(
    account: Account, network: Network, wire: Wire, name: str
) -> None:
    chain = chain_of(account, network, name)
    apply(chain)
    wire.forget()
    destroy(chain, observe(chain), silent)
    writes = len(wire.writes)

    for last in range(1, writes + 1):
        chain = chain_of(account, empty(account, wire), name)
        apply(chain)
        wire.forget()
        wire.interrupt_after = last
        with pytest.raises(Interrupted):
            destroy(chain, observe(chain), silent)
        wire.forget()
        destroy(chain, observe(chain), silent)
        assert actions(chain) == [Action.CREATE] * len(chain), f"interrupted after write {last}"


SUBJECT = re.compile(
    r" on (security group lending-|the database's security group sg-|VPC endpoint com\.amazonaws\.|VPC vpc-"
    r"|subnets subnet-|parameter group lending|DB subnet group lending|DB instance lending)"
    r"\S* ?\S* is not allowed"
)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_permission_is_named_with_what_it_is_for(
    account: Account, network: Network, wire: Wire, name: str
) -> None:
    """At every call of an apply and of a destroy."""
    chain = chain_of(account, network, name)
    apply(chain)
    destroy(chain, observe(chain), silent)
    operations = {(call.service, call.operation) for call in wire.calls}

    for service, operation in operations:
        chain = chain_of(account, empty(account, wire), name)
        code = "UnauthorizedOperation" if service == "ec2" else "AccessDenied"
        wire.refusals[f"{service}.{operation}"] = [(code, "not authorized")] * 50
        with pytest.raises(AwsError) as caught:
            apply(chain)
            destroy(chain, observe(chain), silent)
        client = account.client(service)
        method = next(py for py, api in client.meta.method_to_api_mapping.items() if api == operation)
        assert f"{iam_action(client, method)} on " in str(caught.value)
        assert SUBJECT.search(str(caught.value)), str(caught.value)
        assert PASSWORD not in str(caught.value)


# --------------------------------------------------------------------------------------------------------
# Drift: whatever is changed by hand is found and put right
# --------------------------------------------------------------------------------------------------------


def on_group(operation: str, *rules: dict[str, Any], group: str = "group") -> Callable[..., Any]:
    def drift(account: Account, network: Network, live: Any) -> None:
        parameters = {"GroupId": live[group].attributes["id"], "IpPermissions": list(rules)}
        getattr(account.client("ec2"), operation)(**parameters)

    return drift


def on_endpoint(parameters: Callable[[Network, str], dict[str, Any]]) -> Callable[..., Any]:
    def drift(account: Account, network: Network, live: Any) -> None:
        endpoint_id = live["interface" if "interface" in live else "gateway"].attributes["id"]
        given = parameters(network, live.get("group") and live["group"].attributes["id"])
        account.client("ec2").modify_vpc_endpoint(VpcEndpointId=endpoint_id, **given)

    return drift


def on_instance(**parameters: Any) -> Callable[..., Any]:
    def drift(account: Account, network: Network, live: Any) -> None:
        given = {key: value(network) if callable(value) else value for key, value in parameters.items()}
        account.client("rds").modify_db_instance(
            DBInstanceIdentifier="lending", ApplyImmediately=True, **given
        )
        wait_for_instance(account)

    return drift


def wait_for_instance(account: Account) -> None:
    def is_available() -> bool:
        return describe(account)["DBInstanceStatus"] == "available"

    account.wait("the instance", 10, is_available)


def describe(account: Account) -> Any:
    return account.client("rds").describe_db_instances(DBInstanceIdentifier="lending")["DBInstances"][0]


def another_parameter_group(account: Account, network: Network, live: Any) -> None:
    account.client("rds").create_db_parameter_group(
        DBParameterGroupName="by-hand", DBParameterGroupFamily="postgres16", Description="by hand"
    )
    on_instance(DBParameterGroupName="by-hand")(account, network, live)


def reset_parameters(account: Account, network: Network, live: Any) -> None:
    account.client("rds").modify_db_parameter_group(
        DBParameterGroupName="lending-postgres16",
        Parameters=[
            {"ParameterName": "wal_sender_timeout", "ParameterValue": "1", "ApplyMethod": "immediate"}
        ],
    )


def other_subnets(account: Account, network: Network, live: Any) -> None:
    account.client("rds").modify_db_subnet_group(
        DBSubnetGroupName="lending",
        DBSubnetGroupDescription="where the database is",
        SubnetIds=network.subnet_ids[1:],
    )


def no_log_exports(account: Account, network: Network, live: Any) -> None:
    on_instance(CloudwatchLogsExportConfiguration={"DisableLogTypes": ["postgresql"]})(account, network, live)


OPEN = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
DRIFTS: list[tuple[str, str, Any]] = [
    ("group", "IpPermissions", on_group("authorize_security_group_ingress", tcp(22, "0.0.0.0/0"))),
    ("group", "IpPermissionsEgress", on_group("authorize_security_group_egress", OPEN)),
    ("group", "IpPermissionsEgress", on_group("revoke_security_group_egress", tcp(443, "0.0.0.0/0"))),
    ("group", "IpPermissionsEgress", on_group("revoke_security_group_egress", tcp(5432, "10.1.0.0/16"))),
    (
        "endpoint-group",
        "IpPermissions",
        on_group("authorize_security_group_ingress", tcp(443, "10.0.0.0/8"), group="endpoint-group"),
    ),
    ("interface", "SubnetIds", on_endpoint(lambda net, group: {"RemoveSubnetIds": net.subnet_ids[:1]})),
    ("interface", "SubnetIds", on_endpoint(lambda net, group: {"AddSubnetIds": net.subnet_ids[2:]})),
    ("interface", "SecurityGroupIds", on_endpoint(lambda net, group: {"AddSecurityGroupIds": [group]})),
    ("interface", "PrivateDnsEnabled", on_endpoint(lambda net, group: {"PrivateDnsEnabled": False})),
    (
        "gateway",
        "RouteTableIds",
        on_endpoint(lambda net, group: {"RemoveRouteTableIds": [net.route_table_id]}),
    ),
    ("gateway", "PolicyDocument", on_endpoint(lambda net, group: {"PolicyDocument": '{"Statement": []}'})),
    ("parameters", "Parameters", reset_parameters),
    ("subnets", "SubnetIds", other_subnets),
    (
        "subnets",
        "DBSubnetGroupDescription",
        lambda account, network, live: account.client("rds").modify_db_subnet_group(
            DBSubnetGroupName="lending", DBSubnetGroupDescription="?", SubnetIds=network.subnet_ids[:2]
        ),
    ),
    ("instance", "DBInstanceClass", on_instance(DBInstanceClass="db.m7g.large")),
    ("instance", "MaxAllocatedStorage", on_instance(MaxAllocatedStorage=200)),
    ("instance", "StorageType", on_instance(StorageType="gp2")),
    ("instance", "PubliclyAccessible", on_instance(PubliclyAccessible=True)),
    ("instance", "MultiAZ", on_instance(MultiAZ=True)),
    ("instance", "Port", on_instance(DBPortNumber=5433)),
    ("instance", "BackupRetentionPeriod", on_instance(BackupRetentionPeriod=1)),
    ("instance", "PreferredMaintenanceWindow", on_instance(PreferredMaintenanceWindow="mon:03:00-mon:04:00")),
    ("instance", "AutoMinorVersionUpgrade", on_instance(AutoMinorVersionUpgrade=False)),
    ("instance", "CopyTagsToSnapshot", on_instance(CopyTagsToSnapshot=False)),
    ("instance", "DeletionProtection", on_instance(DeletionProtection=False)),
    ("instance", "EnableCloudwatchLogsExports", no_log_exports),
    (
        "instance",
        "VpcSecurityGroupIds",
        on_instance(VpcSecurityGroupIds=lambda network: [network.database_group_id]),
    ),
    ("instance", "DBParameterGroupName", another_parameter_group),
]


NOT_IN_MOTO = {  # these calls of moto do not change that, or lose the object
    ("interface", "PrivateDnsEnabled"),
    ("subnets", "SubnetIds"),
    ("subnets", "DBSubnetGroupDescription"),
    ("instance", "Port"),
}


@pytest.mark.parametrize(
    ("name", "key", "drift"),
    [
        pytest.param(*one, id=f"{one[0]}-{one[1]}-{n}", marks=[needs_model] * (one[:2] in NOT_IN_MOTO))
        for n, one in enumerate(DRIFTS)
    ],
)
def test_what_was_changed_by_hand_is_shown_and_put_right(
    account: Account, network: Network, made: Any, name: str, key: str, drift: Any
) -> None:
    chain = made(name)
    drift(account, network, observe(chain))

    steps, _ = apply(chain)

    assert steps[-1].action is Action.UPDATE
    assert {change.path.partition(".")[0] for change in steps[-1].changes} - {"ParameterApplyStatus"} == {key}
    assert actions(chain) == [Action.KEEP] * len(chain)
    assert observe(chain)[name].is_ours


def test_every_key_that_can_change_is_drifted_above(network: Network) -> None:
    left_alone = {"AllocatedStorage", "EngineVersion", "ParameterApplyStatus"}  # in tests of their own
    drifted = {(name, key) for name, key, _ in DRIFTS}
    missing = {
        (name, key)
        for name, (kind, spec, _) in kinds(network).items()
        for key in spec
        if key not in kind.immutable | kind.write_only | left_alone
    } - drifted
    assert missing == {("endpoint-group", "IpPermissionsEgress")}


@pytest.mark.parametrize(
    ("name", "key", "other", "reason"),
    [
        (
            "parameters",
            "DBParameterGroupFamily",
            "postgres17",
            "a group of another family needs another name",
        ),
        ("instance", "StorageEncrypted", False, "a new instance would be an empty database"),
        ("instance", "DBName", "another", "a new instance would be an empty database"),
    ],
)
def test_what_can_not_be_changed_is_refused_with_the_reason(
    account: Account, network: Network, wire: Wire, made: Any, name: str, key: str, other: Any, reason: str
) -> None:
    made(name)
    chain = chain_of(account, network, name, **{key: other})

    with pytest.raises(RefusedError, match=reason):
        apply(chain)

    assert wire.writes == []


def test_a_value_outside_an_enum_is_refused_by_the_check_of_these_tests(
    account: Account, network: Network
) -> None:
    chain = chain_of(account, network, "gateway", VpcEndpointType="Both")
    with pytest.raises(AwsError, match="VpcEndpointType: 'Both' is none of"):
        apply(chain)


# --------------------------------------------------------------------------------------------------------
# Security groups
# --------------------------------------------------------------------------------------------------------


def test_rules_are_the_same_however_they_are_grouped() -> None:
    together = [{**tcp(443, "10.0.0.0/8", "10.9.0.0/16"), "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}]
    apart = [
        tcp(443, "10.9.0.0/16"),
        {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
        tcp(443, "10.0.0.0/8"),
    ]
    assert ec2.rule_keys(together) == ec2.rule_keys(apart)
    assert ec2.rule_keys([{**OPEN, "FromPort": -1, "ToPort": -1}]) == ec2.rule_keys([OPEN])
    assert ec2.rule_keys([tcp(443, "10.0.0.0/8")]) != ec2.rule_keys([tcp(80, "10.0.0.0/8")])


def test_a_group_of_ours_in_another_vpc_is_not_left_behind(
    account: Account, network: Network, made: Any
) -> None:
    made("group")
    other = network_of(account)

    with pytest.raises(RefusedError, match="destroy with the former subnets first"):
        apply(chain_of(account, other, "group"))


def test_a_deletion_is_tried_again_while_an_interface_of_dms_lingers(
    account: Account, wire: Wire, made: Any
) -> None:
    chain, told = made("group"), list[str]()
    account.tell = told.append
    wire.refusals["ec2.DeleteSecurityGroup"] = [("DependencyViolation", "has a dependent object")] * 2

    destroy(chain, observe(chain), silent)

    failed = "ec2:DeleteSecurityGroup on security group lending-dms failed, DependencyViolation:"
    assert told == [f"{failed} has a dependent object; that passes: trying again"] * 2
    assert actions(chain) == [Action.CREATE]


def test_a_group_that_stays_in_use_is_an_error_that_names_the_user(
    account: Account, network: Network, wire: Wire, made: Any
) -> None:
    chain = made("group")
    group_id = observe(chain)["group"].attributes["id"]
    account.client("ec2").authorize_security_group_ingress(
        GroupId=network.database_group_id, IpPermissions=[tcp_from(5432, group_id)]
    )
    wire.refusals["ec2.DeleteSecurityGroup"] = [("DependencyViolation", "has a dependent object")] * 1000

    with pytest.raises(AwsError, match="still used by a rule of security group database; remove that"):
        destroy(chain, observe(chain), silent)


# --------------------------------------------------------------------------------------------------------
# The rule on the database's group
# --------------------------------------------------------------------------------------------------------


def theirs(account: Account, network: Network) -> Any:
    groups = account.client("ec2").describe_security_groups(GroupIds=[network.database_group_id])
    return groups["SecurityGroups"][0]


def test_of_the_databases_group_only_the_one_rule_is_ever_touched(
    account: Account, network: Network, wire: Wire
) -> None:
    before = theirs(account, network)
    chain = chain_of(account, network, "rule")
    wire.forget()

    apply(chain)
    between = theirs(account, network)
    destroy(chain, observe(chain), silent)

    assert ec2.rule_keys(before["IpPermissions"]) < ec2.rule_keys(between["IpPermissions"])
    assert between.get("Tags", []) == before.get("Tags", [])
    assert theirs(account, network) == before
    on_theirs = [
        one for one in wire.calls if one.is_write and network.database_group_id in str(one.parameters)
    ]
    assert [one.operation for one in on_theirs] == [
        "AuthorizeSecurityGroupIngress",
        "RevokeSecurityGroupIngress",
    ]
    assert list(on_theirs[1].parameters) == ["GroupId", "SecurityGroupRuleIds"]


def by_hand(account: Account, network: Network, group_id: str) -> None:
    pair = {"GroupId": group_id}
    rule = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [pair]}
    account.client("ec2").authorize_security_group_ingress(
        GroupId=network.database_group_id, IpPermissions=[rule]
    )


def test_the_same_rule_made_by_hand_serves_and_stays(
    account: Account, network: Network, wire: Wire, made: Any
) -> None:
    group = made("group")
    by_hand(account, network, observe(group)["group"].attributes["id"])
    chain = chain_of(account, network, "rule")
    wire.forget()

    steps, now = apply(chain)
    destroy(chain[1:], {"rule": now["rule"]}, silent)

    assert [step.action for step in steps] == [Action.KEEP, Action.FOREIGN]
    assert steps[1].changes == ()
    assert wire.writes == []


def test_a_rule_made_by_hand_at_the_same_time_is_no_fault(
    account: Account, network: Network, made: Any
) -> None:
    group = made("group")
    chain = chain_of(account, network, "rule")
    observed = observe(chain)
    by_hand(account, network, observe(group)["group"].attributes["id"])

    now = execute(chain, plan(chain, observed), observed, silent)

    assert not now["rule"].is_ours


def test_the_rule_follows_the_database_to_another_port_and_group(
    account: Account, network: Network, made: Any
) -> None:
    made("rule")
    assert len(ec2.rule_keys(theirs(account, network)["IpPermissions"])) == 2
    client = account.client("ec2")
    moved = client.create_security_group(GroupName="moved", Description="theirs", VpcId=network.vpc_id)
    other_port = chain_of(account, network, "rule", FromPort=5433, ToPort=5433)
    other_group = chain_of(account, network, "rule", GroupId=moved["GroupId"])

    assert apply(other_port)[0][-1].action is Action.REPLACE
    assert apply(other_group)[0][-1].action is Action.REPLACE

    assert actions(other_group) == [Action.KEEP, Action.KEEP]
    assert ec2.rule_keys(theirs(account, network)["IpPermissions"]) == {
        ("tcp", 5432, 5432, "CidrIp", "10.9.0.0/16")
    }


# --------------------------------------------------------------------------------------------------------
# VPC endpoints
# --------------------------------------------------------------------------------------------------------


def showing(key: str, shown: list[dict[str, Any]]) -> Callable[[Any], None]:
    """An edit of a describe: the next of `shown` over each object, until they are used up."""

    def edit(parsed: Any) -> None:
        if shown:
            over = shown.pop(0)
            for one in parsed[key]:
                one.update(over)

    return edit


@needs_model
def test_an_endpoint_still_being_made_is_waited_for(
    aws: EmulatedAws, account: Account, network: Network, wire: Wire
) -> None:
    chain = chain_of(account, network, "interface")
    apply(chain[:-1])
    wire.forget()
    aws.transitions, wire.interrupt_after = 5, 1
    with pytest.raises(Interrupted):
        apply(chain)
    wire.forget()

    steps, now = apply(chain)

    assert steps[-1].action is Action.UPDATE
    assert (now["interface"].attributes["state"], wire.writes) == ("available", [])


def test_an_endpoint_that_failed_is_an_error_with_awss_reason(
    account: Account, wire: Wire, made: Any
) -> None:
    chain = made("gateway")
    failed = {"State": "failed", "LastError": {"Code": "X", "Message": "no address is free"}}
    wire.edits["DescribeVpcEndpoints"] = showing("VpcEndpoints", [failed] * 9)

    with pytest.raises(AwsError, match=r"is failed \(no address is free\): delete vpce-"):
        apply(chain)


def test_an_endpoint_that_aws_does_not_delete_is_an_error(account: Account, wire: Wire, made: Any) -> None:
    chain = made("gateway")
    refused = {"ResourceId": "vpce-1", "Error": {"Code": "OperationNotPermitted", "Message": "managed"}}
    wire.edits["DeleteVpcEndpoints"] = lambda parsed: parsed.update(Unsuccessful=[refused])

    with pytest.raises(AwsError, match=r"DeleteVpcEndpoints .* OperationNotPermitted: managed"):
        destroy(chain, observe(chain), silent)


@needs_model
def test_a_deletion_of_an_endpoint_is_waited_for(aws: EmulatedAws, account: Account, made: Any) -> None:
    chain = made("interface")
    before = observe(chain)
    aws.transitions = 3

    chain[-1].kind.delete(before["interface"], chain[-1].spec)

    shown = account.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    assert [one["State"] for one in shown] == ["deleted"]


def test_a_vpc_without_private_dns_is_said_before_an_endpoint_is_made(
    account: Account, network: Network, wire: Wire
) -> None:
    account.client("ec2").modify_vpc_attribute(VpcId=network.vpc_id, EnableDnsHostnames={"Value": False})

    with pytest.raises(AwsError, match="--enable-dns-hostnames; or set VPC_ENDPOINTS=none"):
        apply(chain_of(account, network, "interface"))

    assert "CreateVpcEndpoint" not in wire.writes


def test_anothers_gateway_of_other_route_tables_is_not_in_the_way(
    account: Account, network: Network, made: Any
) -> None:
    client = account.client("ec2")
    other = client.create_route_table(VpcId=network.vpc_id)["RouteTable"]["RouteTableId"]
    apply(chain_of(replace(account, pipeline="another"), network, "gateway", RouteTableIds=[other]))

    steps, now = apply(chain_of(account, network, "gateway"))

    assert [step.action for step in steps] == [Action.CREATE]
    assert now["gateway"].is_ours


# --------------------------------------------------------------------------------------------------------
# Ways out
# --------------------------------------------------------------------------------------------------------


def table(table_id: str, *subnet_ids: str, main: bool = False, **target: str) -> dict[str, Any]:
    routes = [{"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local", "State": "active"}]
    if target:
        routes.append({"DestinationCidrBlock": "0.0.0.0/0", "State": "active", **target})
    associations = [{"Main": False, "SubnetId": one} for one in subnet_ids] + [{"Main": True}] * main
    return {"RouteTableId": table_id, "Associations": associations, "Routes": routes}


def endpoint(service: str, **more: Any) -> dict[str, Any]:
    kind = {"VpcEndpointType": ec2.SERVICES[service], "PrivateDnsEnabled": True, "State": "available"}
    return {"ServiceName": f"com.amazonaws.{REGION}.{service}", **kind, **more}


SUBNETS = [
    {"SubnetId": "subnet-1", "VpcId": "vpc-1", "AvailabilityZone": "eu-west-1a"},
    {"SubnetId": "subnet-2", "VpcId": "vpc-1", "AvailabilityZone": "eu-west-1b"},
    {"SubnetId": "subnet-3", "VpcId": "vpc-1", "AvailabilityZone": "eu-west-1a"},
]
ALL = ["kinesis-streams", "secretsmanager", "logs", "s3"]
OURS = {"Tags": [{"Key": "pipeline", "Value": "lending"}]}


@pytest.mark.parametrize(
    ("tables", "ways"),
    [
        ([table("rtb-1", main=True)], ["none"] * 3),
        ([], ["none"] * 3),
        ([table("rtb-1", main=True, NatGatewayId="nat-1")], ["NAT gateway"] * 3),
        ([table("rtb-1", main=True, GatewayId="igw-1")], ["internet gateway"] * 3),
        ([table("rtb-1", main=True, TransitGatewayId="tgw-1")], ["transit gateway"] * 3),
        ([table("rtb-1", main=True, GatewayId="vgw-1")], ["VPN gateway"] * 3),
        ([table("rtb-1", main=True, NatGatewayId="nat-1", State="blackhole")], ["none"] * 3),
        (
            [table("rtb-1", main=True), table("rtb-2", "subnet-2", NatGatewayId="nat-1")],
            ["none", "NAT gateway", "none"],
        ),
    ],
    ids=["no-default", "no-table", "nat", "internet", "transit", "vpn", "blackhole", "own-table"],
)
def test_the_default_route_of_each_subnet_is_found(account: Account, tables: Any, ways: list[str]) -> None:
    found = ec2.ways_of(account, SUBNETS, tables, [], private_dns=True)

    assert list(found.default_routes.values()) == ways
    assert found.endpoint_subnet_ids == ("subnet-1", "subnet-2")


@pytest.mark.parametrize(
    ("target", "endpoints", "choice", "declared"),
    [
        ({}, [], "auto", ALL),
        ({}, [], "none", []),
        ({"NatGatewayId": "nat-1"}, [], "auto", []),
        ({"NatGatewayId": "nat-1"}, [], "create", ALL),
        ({"GatewayId": "igw-1"}, [], "auto", ALL),
        ({}, [endpoint("logs")], "auto", ["kinesis-streams", "secretsmanager", "s3"]),
        ({}, [endpoint("logs", PrivateDnsEnabled=False)], "auto", ALL),
        ({}, [endpoint("logs", State="deleted")], "auto", ALL),
        ({}, [endpoint("s3", RouteTableIds=["rtb-1"])], "auto", ALL[:3]),
        ({}, [endpoint("s3", RouteTableIds=["rtb-9"])], "auto", ALL),
        ({}, [endpoint("logs", **OURS)], "auto", ALL),
        ({}, [endpoint("logs", **OURS)], "none", ["logs"]),
        ({"NatGatewayId": "nat-1"}, [endpoint("logs", **OURS)], "auto", ["logs"]),
    ],
    ids=[
        *("closed", "closed-none", "nat", "nat-create", "internet-gateway-is-none", "others-logs"),
        *("without-dns", "deleted", "others-s3", "s3-elsewhere", "ours", "ours-none", "ours-with-nat"),
    ],
)
def test_the_endpoints_to_declare_are_those_that_the_subnets_lack(
    account: Account, target: Any, endpoints: Any, choice: str, declared: list[str]
) -> None:
    tables = [table("rtb-1", main=True, **target)]

    found = ec2.ways_of(account, SUBNETS, tables, endpoints, private_dns=True)

    assert found.endpoints_to_declare(choice) == declared


def test_the_ways_are_read_from_aws_and_nothing_is_written(
    account: Account, network: Network, wire: Wire, made: Any
) -> None:
    made("interface")
    client = account.client("ec2")
    gateway = client.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    client.attach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc_id)
    open_table = client.create_route_table(VpcId=network.vpc_id)["RouteTable"]["RouteTableId"]
    client.create_route(RouteTableId=open_table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    client.associate_route_table(RouteTableId=open_table, SubnetId=network.subnet_ids[1])
    wire.forget()

    ways = ec2.missing_routes(account, network.subnet_ids[:2])

    assert ways == ec2.Ways(
        vpc_id=network.vpc_id,
        default_routes={network.subnet_ids[0]: "none", network.subnet_ids[1]: "internet gateway"},
        endpoint_subnet_ids=tuple(sorted(network.subnet_ids[:2])),
        route_table_ids=tuple(sorted([network.route_table_id, open_table])),
        our_endpoints=frozenset({"kinesis-streams"}),
        other_endpoints=frozenset(),
        has_private_dns=True,
    )
    assert wire.writes == []


def test_subnets_of_two_vpcs_are_refused(account: Account, network: Network) -> None:
    other = network_of(account)
    with pytest.raises(AwsError, match=r"SUBNET_IDS .* must be subnets of one VPC; found 2 in"):
        ec2.missing_routes(account, [network.subnet_ids[0], other.subnet_ids[0]])


# --------------------------------------------------------------------------------------------------------
# RDS: groups
# --------------------------------------------------------------------------------------------------------


def test_subnets_of_one_zone_are_refused_before_any_call_that_writes(
    account: Account, network: Network, wire: Wire
) -> None:
    with pytest.raises(AwsError, match="are all in eu-west-1a: a subnet group needs subnets in two"):
        apply(chain_of(account, network, "subnets", SubnetIds=network.subnet_ids[:1]))

    assert wire.writes == []


@needs_model
def test_a_static_parameter_waits_for_the_reboot_and_a_dynamic_one_does_not(
    account: Account, network: Network, wire: Wire
) -> None:
    apply(chain_of(account, network, "parameters"))

    sent = next(call.parameters for call in wire.calls if call.operation == "ModifyDBParameterGroup")
    assert {one["ParameterName"]: one["ApplyMethod"] for one in sent["Parameters"]} == {
        "rds.logical_replication": "pending-reboot",
        "wal_sender_timeout": "immediate",
    }


def test_parameters_go_out_twenty_at_a_time() -> None:
    many = [{"ParameterName": f"p{n}"} for n in range(45)]

    assert [len(some) for some in rds.batches(many)] == [20, 20, 5]
    assert rds.batches([]) == []


# --------------------------------------------------------------------------------------------------------
# RDS: the instance of ours
# --------------------------------------------------------------------------------------------------------


def changed_keys(chain: list[Resource]) -> set[str]:
    return {change.path for change in plan(chain, observe(chain))[-1].changes}


def test_the_master_password_is_in_no_plan_and_not_compared(
    account: Account, network: Network, made: Any
) -> None:
    made("instance")
    chain = chain_of(account, network, "instance", MasterUserPassword="another")
    assert PASSWORD not in str(observe(chain))
    assert actions(chain)[-1] is Action.KEEP


def test_attributes_are_what_the_rest_of_the_chain_needs(
    account: Account, network: Network, made: Any
) -> None:
    chain = made("instance")
    now = observe(chain)
    found = now["instance"].attributes
    assert found["host"].endswith(f".{REGION}.rds.amazonaws.com")
    assert (found["port"], found["vpc_id"], found["status"]) == (5432, network.vpc_id, "available")
    assert found["subnet_ids"] == sorted(network.subnet_ids[:2])
    assert found["security_group_ids"] == [now["group"].attributes["id"]]
    assert found["parameter_group"] == "lending-postgres16"


def test_an_instance_can_keep_its_master_password_in_a_secret_of_awss(
    account: Account, network: Network
) -> None:
    chain = chain_of(account, network, "instance", ManageMasterUserPassword=True)
    spec = {key: value for key, value in chain[-1].spec.items() if key != "MasterUserPassword"}
    chain[-1] = replace(chain[-1], spec=spec)

    _, now = apply(chain)

    assert ":secret:" in now["instance"].attributes["master_secret_arn"]
    assert actions(chain)[-1] is Action.KEEP


@needs_model
def test_an_instance_whose_parameters_wait_for_a_reboot_is_rebooted_once(
    account: Account, wire: Wire, made: Any
) -> None:
    chain = made("instance")
    account.client("rds").modify_db_parameter_group(
        DBParameterGroupName="lending-postgres16",
        Parameters=[
            {"ParameterName": "max_wal_senders", "ParameterValue": "9", "ApplyMethod": "pending-reboot"}
        ],
    )
    assert changed_keys(chain) == {"ParameterApplyStatus"}
    wire.forget()

    apply(chain)

    assert wire.writes == ["RebootDBInstance"]
    assert actions(chain)[-1] is Action.KEEP


@needs_model
def test_a_change_that_waits_for_the_maintenance_window_is_shown_and_undone(
    account: Account, made: Any
) -> None:
    chain = made("instance")
    account.client("rds").modify_db_instance(
        DBInstanceIdentifier="lending", MultiAZ=True, ApplyImmediately=False
    )
    assert changed_keys(chain) == {"MultiAZ"}

    apply(chain)

    assert actions(chain)[-1] is Action.KEEP
    assert describe(account)["MultiAZ"] is False


@needs_model
def test_without_a_version_awss_default_one_of_the_family_is_made_and_then_kept(
    account: Account, network: Network, wire: Wire
) -> None:
    chain = chain_of(account, network, "instance")
    spec = {key: value for key, value in chain[-1].spec.items() if key != "EngineVersion"}
    chain[-1] = replace(chain[-1], spec=spec)

    apply(chain)

    assert describe(account)["EngineVersion"] == "16.8"
    assert actions(chain)[-1] is Action.KEEP
    assert rds.engine_version(account) == ("18.1", "postgres18")
    assert rds.engine_version(account, "17") == ("17.4", "postgres17")
    assert rds.family_of("16.8-R2") == "postgres16"
    with pytest.raises(AwsError, match="has no PostgreSQL 9"):
        rds.engine_version(account, "9")


@pytest.mark.parametrize(
    ("key", "wanted", "found", "is_same"),
    [
        ("EngineVersion", "16", "16.8", True),
        ("EngineVersion", "16.3", "16.8", True),
        ("EngineVersion", "16.10", "16.8", False),
        ("EngineVersion", "17", "16.8", False),
        ("AllocatedStorage", 20, 35, True),
        ("AllocatedStorage", 50, 35, False),
        ("PreferredBackupWindow", "01:00-02:00", "01:00-02:00", True),
        ("VpcSecurityGroupIds", ["sg-1"], ["sg-1"], True),
        ("VpcSecurityGroupIds", ["sg-1"], ["sg-0", "sg-1"], True),
        ("VpcSecurityGroupIds", ["sg-1", "sg-2"], ["sg-0", "sg-1"], False),
        ("VpcSecurityGroupIds", [UNKNOWN], ["sg-0"], False),
        ("KmsKeyId", "alias/aws/rds", "arn:aws:kms:eu-west-1:1:alias/aws/rds", True),
        ("KmsKeyId", "1-2", "arn:aws:kms:eu-west-1:1:key/1-2", True),
        ("KmsKeyId", "1-2", "arn:aws:kms:eu-west-1:1:key/1-3", False),
    ],
)
def test_what_is_equal_in_effect_is_no_difference(key: str, wanted: Any, found: Any, is_same: bool) -> None:
    assert (rds.same_in_effect(key, wanted, found) == wanted) is is_same


def groups_of(account: Account) -> set[str]:
    return {group["VpcSecurityGroupId"] for group in describe(account)["VpcSecurityGroups"]}


def test_a_security_group_that_somebody_added_is_no_difference_and_stays(
    account: Account, network: Network, wire: Wire, made: Any
) -> None:
    chain = made("instance")
    live = observe(chain)["group"]
    assert live is not None
    both = {live.attributes["id"], network.database_group_id}
    on_instance(VpcSecurityGroupIds=sorted(both))(account, network, live)
    wire.forget()
    assert actions(chain) == [Action.KEEP] * len(chain)
    assert wire.writes == []

    apply(chain_of(account, network, "instance", BackupRetentionPeriod=3))

    assert describe(account)["BackupRetentionPeriod"] == 3
    assert groups_of(account) == both


def test_a_security_group_that_is_put_back_takes_the_place_of_no_other(
    account: Account, network: Network, made: Any
) -> None:
    chain = made("instance")
    live = observe(chain)["group"]
    assert live is not None
    on_instance(VpcSecurityGroupIds=[network.database_group_id])(account, network, live)
    assert changed_keys(chain) == {"VpcSecurityGroupIds"}

    apply(chain)

    assert groups_of(account) == {live.attributes["id"], network.database_group_id}
    assert actions(chain) == [Action.KEEP] * len(chain)


def test_a_major_upgrade_is_refused_with_what_it_would_lose(
    account: Account, network: Network, wire: Wire, made: Any
) -> None:
    made("instance", EngineVersion="16.8")
    chain = chain_of(account, network, "instance", EngineVersion="17.4")

    with pytest.raises(RefusedError, match="a major upgrade, which takes replication slots away"):
        apply(chain)

    assert wire.writes == []


def test_a_minor_upgrade_is_made(account: Account, network: Network, made: Any) -> None:
    made("instance", EngineVersion="16.3")
    chain = chain_of(account, network, "instance", EngineVersion="16.8")
    assert changed_keys(chain) == {"EngineVersion"}

    apply(chain)

    assert describe(account)["EngineVersion"] == "16.8"


def test_destroy_unprotects_the_instance_and_leaves_a_snapshot_named_after_the_time(
    account: Account, wire: Wire, made: Any
) -> None:
    chain = made("instance")
    noon = datetime(2026, 11, 23, 12, 5, 9, tzinfo=UTC)
    chain[-1] = replace(chain[-1], kind=rds.Instance(account, lambda: noon))

    destroy(chain[-1:], {**observe(chain)}, silent)

    assert wire.writes == ["ModifyDBInstance", "DeleteDBInstance"]
    modified, deleted = (call.parameters for call in wire.calls if call.is_write)
    assert modified["DeletionProtection"] is False
    assert deleted == {
        "DBInstanceIdentifier": "lending",
        "FinalDBSnapshotIdentifier": "lending-final-20261123-120509-000000",
        "DeleteAutomatedBackups": True,
    }


def test_a_failed_instance_is_deleted_without_a_snapshot(account: Account, wire: Wire, made: Any) -> None:
    chain = made("instance", DeletionProtection=False)
    before = observe(chain)
    wire.edits["DescribeDBInstances"] = showing("DBInstances", [{"DBInstanceStatus": "failed"}])

    chain[-1].kind.delete(before["instance"], chain[-1].spec)

    deleted = next(call.parameters for call in wire.calls if call.operation == "DeleteDBInstance")
    assert deleted["SkipFinalSnapshot"] is True
    assert "FinalDBSnapshotIdentifier" not in deleted


@pytest.mark.parametrize(
    ("status", "advice"),
    [("stopped", "start-db-instance"), ("incompatible-parameters", "look at it in the RDS console")],
)
def test_an_instance_that_can_not_be_changed_is_an_error_with_what_to_do(
    account: Account, wire: Wire, made: Any, status: str, advice: str
) -> None:
    chain = made("instance")
    wire.edits["DescribeDBInstances"] = showing("DBInstances", [{"DBInstanceStatus": status}] * 9)

    with pytest.raises(AwsError, match=f"DB instance lending is {status}: .*{advice}"):
        apply(chain)


def test_what_is_unknown_of_an_instance_being_made_is_unknown(
    account: Account, wire: Wire, made: Any
) -> None:
    chain = made("instance")
    creating = {"DBInstanceStatus": "creating", "Endpoint": {}}
    wire.edits["DescribeDBInstances"] = showing("DBInstances", [creating])

    live = observe(chain)["instance"]

    assert live.attributes["host"] is UNKNOWN
    assert plan(chain, {**observe(chain), "instance": live})[-1].action is Action.UPDATE


# --------------------------------------------------------------------------------------------------------
# RDS: the instance of somebody else
# --------------------------------------------------------------------------------------------------------

HOST = f"lending.aaaaaaaaaa.{REGION}.rds.amazonaws.com"


def existing(account: Account, address: str = HOST) -> list[Resource]:
    return [Resource("database", rds.ExistingInstance(account), {"Address": address})]


def test_an_existing_instance_is_found_by_its_host_and_never_written_to(
    account: Account, network: Network, wire: Wire, made: Any
) -> None:
    made("instance")
    chain = existing(account, HOST.upper() + ".")

    steps, now = apply(chain)
    destroy(chain, now, silent)

    assert [(step.action, step.changes) for step in steps] == [(Action.FOREIGN, ())]
    found = now["database"].attributes
    assert (found["host"], found["port"], found["vpc_id"]) == (HOST, 5432, network.vpc_id)
    assert found["subnet_ids"] == sorted(network.subnet_ids[:2])
    assert len(found["security_group_ids"]) == 1
    assert (found["parameter_group"], found["logical_replication"]) == ("lending-postgres16", "on")
    assert wire.writes == []


@pytest.mark.parametrize(
    ("value", "status", "said"),
    [("1", "in-sync", "on"), ("1", "pending-reboot", "pending-reboot"), ("0", "in-sync", "off")],
)
def test_whether_changes_can_be_read_from_it_is_said(
    account: Account, wire: Wire, made: Any, value: str, status: str, said: str
) -> None:
    made("instance")
    group = {"DBParameterGroupName": "lending-postgres16", "ParameterApplyStatus": status}
    parameter = {"ParameterName": "rds.logical_replication", "ParameterValue": value}
    wire.edits["DescribeDBInstances"] = showing("DBInstances", [{"DBParameterGroups": [group]}])
    wire.edits["DescribeDBParameters"] = lambda parsed: parsed.update(Parameters=[parameter])

    assert observe(existing(account))["database"].attributes["logical_replication"] == said


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("db.example.org", "is no host name of RDS: .*set SUBNET_IDS"),
        ("10.0.0.7", "is no host name of RDS: .*set SUBNET_IDS"),
        ("db.abc.us-east-1.rds.amazonaws.com", "set AWS_DEFAULT_REGION=us-east-1"),
        (f"db.proxy-abc.{REGION}.rds.amazonaws.com", "is an RDS Proxy.*the instance behind it"),
        (f"ro.endpoint.proxy-abc.{REGION}.rds.amazonaws.com", "is an RDS Proxy"),
        (f"db.cluster-abc.{REGION}.rds.amazonaws.com", "is a cluster.*set SUBNET_IDS"),
        (f"db.cluster-ro-abc.{REGION}.rds.amazonaws.com", "is a cluster.*set SUBNET_IDS"),
        (f"absent.abc.{REGION}.rds.amazonaws.com", "is no RDS instance of this account in eu-west-1"),
        (f"lending.other.{REGION}.rds.amazonaws.com", "is no RDS instance of this account in eu-west-1"),
    ],
)
def test_a_host_that_is_no_instance_of_ours_to_read_is_an_error_with_what_to_set(
    account: Account, made: Any, address: str, message: str
) -> None:
    made("instance")
    with pytest.raises(AwsError, match=message):
        observe(existing(account, address))


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        ({"DBClusterIdentifier": "aurora"}, "a member of cluster aurora.*writer endpoint.*set SUBNET_IDS"),
        ({"ReadReplicaSourceDBInstanceIdentifier": "main"}, "a read replica.*set PGHOST to its source, main"),
        ({"Engine": "mysql"}, "is mysql, not PostgreSQL"),
    ],
)
def test_an_instance_that_dms_can_not_read_from_is_an_error_with_what_to_set(
    account: Account, wire: Wire, made: Any, shown: Any, message: str
) -> None:
    made("instance")
    wire.edits["DescribeDBInstances"] = showing("DBInstances", [shown])
    with pytest.raises(AwsError, match=message):
        observe(existing(account))


# --------------------------------------------------------------------------------------------------------
# Plain moto
# --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(PLAIN_MOTO, reason="this is that run")
def test_what_holds_for_all_kinds_holds_against_plain_moto() -> None:
    """Most tests of all kinds, and those of drift."""
    chosen = "empty_account or destroy_leaves or not_ours or apply_interrupted or put_right"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen, __file__]
    run = subprocess.run(
        command,
        env={**os.environ, "PLAIN_MOTO": "1", "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout[-5000:]
