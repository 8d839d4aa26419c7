"""EC2: security groups, the one rule on the database's group, VPC endpoints; which ways out subnets have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provision.aws import Account, AwsError, Refusal
from provision.engine import UNKNOWN, Kind, Live, Spec
from provision.kinds.documents import as_declared, policy_as_declared, tags_in, there

ENDPOINT_SECONDS = 900
LINGER_ATTEMPTS = 180  # with 5 s between them: 15 minutes
DIRECTIONS = {"IpPermissions": "ingress", "IpPermissionsEgress": "egress"}
# The services that a replication instance without a way out has to reach, and the sort of their endpoints.
SERVICES = {
    "kinesis-streams": "Interface",
    "secretsmanager": "Interface",
    "logs": "Interface",
    "s3": "Gateway",
}
RuleKey = tuple[Any, ...]  # ("tcp", 443, 443, "CidrIp", "0.0.0.0/0")


# --------------------------------------------------------------------------------------------------------
# Security groups
# --------------------------------------------------------------------------------------------------------


@dataclass
class SecurityGroup(Kind):
    """A security group: GroupName, VpcId, Description, IpPermissions [ingress rules], IpPermissionsEgress.

    Attributes: id, name, vpc_id. A direction that the spec has, has these rules and no others; so the rule
    that AWS gives a new group (out to everywhere) stays only if it is declared. The descriptions of group and
    rules are for people: they are set once and not compared (AWS can't change that of a group).
    Its deletion waits for the network interfaces of DMS, which outlive their instance by minutes.
    """

    account: Account
    label = "security group"
    immutable = frozenset({"GroupName", "VpcId"})
    write_only = frozenset({"Description"})
    why_not_replaced = "what uses the security group stays in its VPC: destroy with the former subnets first"

    def find(self, spec: Spec) -> Live | None:
        """The group of that name in the VPC; else one of ours in another VPC, which would be left behind."""
        name, vpc_id = spec["GroupName"], spec["VpcId"]
        groups = list(self.groups(name, {"group-name": name}))
        here = [group for group in groups if group["VpcId"] == vpc_id]
        ours = [group for group in groups if self.account.is_ours(tags_in(group.get("Tags", [])))]
        found = next(iter([*here, *ours]), None)
        if found is None:
            return None
        values = {"GroupName": name, "VpcId": found["VpcId"]}
        for key in DIRECTIONS:
            wanted = spec.get(key, [])
            same = rule_keys(wanted) == rule_keys(found.get(key, []))
            values[key] = wanted if same else readable(rule_keys(found.get(key, [])))
        attributes = {"id": found["GroupId"], "name": name, "vpc_id": found["VpcId"]}
        return Live(values, attributes, found in ours)

    def create(self, spec: Spec) -> Live:
        tags = [{"ResourceType": "security-group", "Tags": self.account.tag_list}]
        named = {key: spec[key] for key in ("GroupName", "VpcId", "Description")}
        self.call("create_security_group", spec, **named, TagSpecifications=tags)
        return self.with_rules(spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        return self.with_rules(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        group_id, name = live.attributes["id"], spec["GroupName"]
        absent = {"InvalidGroup.NotFound"}

        def attempt() -> None:
            self.account.find(
                "ec2", "delete_security_group", f"security group {name}", absent, GroupId=group_id
            )

        try:
            self.account.retry({"DependencyViolation"}, "", LINGER_ATTEMPTS, attempt)
        except Refusal as error:
            if error.code != "DependencyViolation":
                raise
            users = self.users(group_id, name)
            raise AwsError(
                f"security group {name} ({group_id}) can't be deleted: it is still used by {users};"
                " remove that, or run the command again later"
            ) from error

    def with_rules(self, spec: Spec) -> Live:
        """What is missing is added before what is too much is taken away, so that no connection is cut."""
        found = self.seen(spec)
        for key, direction in DIRECTIONS.items():
            if key not in spec:
                continue
            wanted, there_are = rule_keys(spec[key]), rule_keys(found.get(key, []))
            missing = [one for one in permissions(spec[key]) if rule_keys([one]) - there_are]
            surplus = readable(there_are - wanted)
            if missing:
                self.authorize(spec, direction, GroupId=found["GroupId"], IpPermissions=missing)
            if surplus:
                revoke = f"revoke_security_group_{direction}"
                self.call(revoke, spec, GroupId=found["GroupId"], IpPermissions=surplus)
        return there(self, self.account, spec)

    def authorize(self, spec: Spec, direction: str, **parameters: Any) -> None:
        """A rule added by hand since we looked is no fault; a new group is not known everywhere at once."""
        operation, subject = f"authorize_security_group_{direction}", f"security group {spec['GroupName']}"
        there_already = {"InvalidPermission.Duplicate"}
        self.account.retry(
            {"InvalidGroup.NotFound"},
            "",
            12,
            lambda: self.account.find("ec2", operation, subject, there_already, **parameters),
        )

    def seen(self, spec: Spec) -> Any:
        group_id = there(self, self.account, spec).attributes["id"]
        return next(self.groups(spec["GroupName"], {"group-id": group_id}))

    def users(self, group_id: str, name: str) -> str:
        """What keeps the group from being deleted: "eni-1 (DMSNetworkInterface), a rule of ..."."""
        interfaces = self.account.pages(
            "ec2",
            "describe_network_interfaces",
            f"security group {name}",
            "NetworkInterfaces",
            Filters=filters({"group-id": group_id}),
        )
        users = [f"{one['NetworkInterfaceId']} ({one.get('Description', '')})" for one in interfaces]
        for prefix in ("ip-permission", "egress.ip-permission"):
            referring = self.groups(name, {f"{prefix}.group-id": group_id})
            users += [f"a rule of security group {one['GroupName']}" for one in referring]
        return ", ".join(users) or "something that AWS does not name"

    def groups(self, name: str, wanted: Mapping[str, str]) -> Iterator[Any]:
        subject, chosen = f"security group {name}", filters(wanted)
        return self.account.pages(
            "ec2", "describe_security_groups", subject, "SecurityGroups", Filters=chosen
        )

    def call(self, operation: str, spec: Spec, **parameters: Any) -> Any:
        return self.account.call("ec2", operation, f"security group {spec['GroupName']}", **parameters)


def filters(wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"Name": name, "Values": [value]} for name, value in wanted.items()]


# The lists in a permission, and what names the other side in each of their elements.
SIDES = {
    "IpRanges": "CidrIp",
    "Ipv6Ranges": "CidrIpv6",
    "PrefixListIds": "PrefixListId",
    "UserIdGroupPairs": "GroupId",
}


def permissions(rules: Sequence[Any]) -> list[dict[str, Any]]:
    """One permission for each rule in them, with its description."""
    return [{**ports_of(rule), side: [one]} for rule in rules for side in SIDES for one in rule.get(side, [])]


def ports_of(rule: Any) -> dict[str, Any]:
    """The protocol and ports; all protocols (-1) have no ports, however they are given."""
    keys = ("IpProtocol",) if str(rule["IpProtocol"]) == "-1" else ("IpProtocol", "FromPort", "ToPort")
    return {key: rule[key] for key in keys if key in rule}


def rule_keys(rules: Sequence[Any]) -> set[RuleKey]:
    """The rules as a set, whatever way they are grouped: AWS puts those of the same ports together."""
    return {
        (rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"), SIDES[side], one[SIDES[side]])
        for rule in permissions(rules)
        for side in SIDES
        for one in rule.get(side, [])
    }


def as_permission(key: RuleKey) -> dict[str, Any]:
    protocol, from_port, to_port, kind, other = key
    side = next(side for side, name in SIDES.items() if name == kind)
    ports = {} if from_port is None else {"FromPort": from_port, "ToPort": to_port}
    return {"IpProtocol": protocol, **ports, side: [{kind: other}]}


def readable(keys: set[RuleKey]) -> list[dict[str, Any]]:
    return [as_permission(key) for key in sorted(keys, key=str)]


# --------------------------------------------------------------------------------------------------------
# The one rule on the database's own group
# --------------------------------------------------------------------------------------------------------

RULE_KEYS = ("GroupId", "ReferencedGroupId", "IpProtocol", "FromPort", "ToPort")


@dataclass
class IngressRule(Kind):
    """One rule that lets a group of ours in: GroupId (of the database's group, not ours), ReferencedGroupId
    (our group), IpProtocol (tcp), FromPort, ToPort, Description.

    Attributes: id, group_id. It is the one object of the chain on an object of somebody else: the rule has
    our tag, the group never gets one, and no other rule of it is ever touched. The same rule without our tag
    was made by hand: it serves, and stays. One chain has one rule for a ReferencedGroupId: ours is also found
    on another group, or with other ports, and replaced when the database has moved. Without a GroupId (the
    database is gone) it is found by its tag alone.
    """

    account: Account
    label = "rule on the database's security group"
    immutable = frozenset(RULE_KEYS)
    write_only = frozenset({"Description"})

    def find(self, spec: Spec) -> Live | None:
        if spec["ReferencedGroupId"] is UNKNOWN:
            return None
        wanted, group = {key: spec[key] for key in RULE_KEYS}, spec["GroupId"]
        is_known = isinstance(group, str) and group != ""
        on_group = self.rules(spec, filters({"group-id": group})) if is_known else []
        exact = [rule for rule in on_group if self.values(rule) == wanted]
        tag = self.account.tag_list[0]
        ours = self.rules(spec, filters({f"tag:{tag['Key']}": tag["Value"]}))
        found = next(iter([*exact, *ours]), None)
        if found is None:
            return None
        attributes = {"id": found["SecurityGroupRuleId"], "group_id": found["GroupId"]}
        return Live(self.values(found), attributes, self.account.is_ours(tags_in(found.get("Tags", []))))

    def create(self, spec: Spec) -> Live:
        pair = {"GroupId": spec["ReferencedGroupId"]}
        if "Description" in spec:
            pair["Description"] = spec["Description"]
        permission = {key: spec[key] for key in ("IpProtocol", "FromPort", "ToPort")}
        self.account.find(
            "ec2",
            "authorize_security_group_ingress",
            subject(spec),
            {"InvalidPermission.Duplicate"},  # made by hand since we looked: it serves
            GroupId=spec["GroupId"],
            IpPermissions=[{**permission, "UserIdGroupPairs": [pair]}],
            TagSpecifications=[{"ResourceType": "security-group-rule", "Tags": self.account.tag_list}],
        )
        return there(self, self.account, spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        """There is nothing to update: a rule is its ports and groups."""
        return live

    def delete(self, live: Live, spec: Spec) -> None:
        self.account.find(
            "ec2",
            "revoke_security_group_ingress",
            subject(spec),
            {"InvalidPermission.NotFound", "InvalidSecurityGroupRuleId.NotFound", "InvalidGroup.NotFound"},
            GroupId=live.attributes["group_id"],
            SecurityGroupRuleIds=[live.attributes["id"]],
        )

    def rules(self, spec: Spec, wanted: list[dict[str, Any]]) -> list[Any]:
        """The ingress rules for our group."""
        rules = self.account.pages(
            "ec2", "describe_security_group_rules", subject(spec), "SecurityGroupRules", Filters=wanted
        )
        return [
            rule
            for rule in rules
            if not rule["IsEgress"]
            and rule.get("ReferencedGroupInfo", {}).get("GroupId") == spec["ReferencedGroupId"]
        ]

    def values(self, rule: Any) -> dict[str, Any]:
        keys = ("GroupId", "IpProtocol", "FromPort", "ToPort")
        return {
            **{key: rule[key] for key in keys},
            "ReferencedGroupId": rule["ReferencedGroupInfo"]["GroupId"],
        }


def subject(spec: Spec) -> str:
    group = spec["GroupId"]
    return f"the database's security group {group if group and isinstance(group, str) else '(gone)'}"


# --------------------------------------------------------------------------------------------------------
# VPC endpoints
# --------------------------------------------------------------------------------------------------------

ENDPOINT_LISTS = ("SubnetIds", "SecurityGroupIds", "RouteTableIds")
GONE = {"deleting", "deleted"}
BROKEN = {"failed", "rejected", "expired"}


@dataclass
class VpcEndpoint(Kind):
    """A VPC endpoint: ServiceName, VpcId, VpcEndpointType (Interface or Gateway), PolicyDocument (document);
    of an interface SubnetIds (one in each zone), SecurityGroupIds, PrivateDnsEnabled; of a gateway
    RouteTableIds.

    Attributes: id, state. An endpoint has no name: it is found by its service, VPC and type, ours before
    another's. Another's counts where it is in the way of ours: see is_in_the_way.
    One that is still being made has no values but those; so a run that was interrupted then is finished.
    """

    account: Account
    label = "VPC endpoint"
    immutable = frozenset({"ServiceName", "VpcId", "VpcEndpointType"})

    def find(self, spec: Spec) -> Live | None:
        found = self.endpoint(spec)
        if found is None:
            return None
        state = found["State"].lower()
        values = {key: spec[key] for key in self.immutable}
        if state == "available":
            groups = [group["GroupId"] for group in found.get("Groups", [])]
            values |= {
                "SubnetIds": as_declared(spec.get("SubnetIds"), found.get("SubnetIds", [])),
                "RouteTableIds": as_declared(spec.get("RouteTableIds"), found.get("RouteTableIds", [])),
                "SecurityGroupIds": as_declared(spec.get("SecurityGroupIds"), groups),
                "PrivateDnsEnabled": found.get("PrivateDnsEnabled", False),
                "PolicyDocument": policy_of(found, spec),
            }
        is_ours = self.account.is_ours(tags_in(found.get("Tags", [])))
        return Live(values, {"id": found["VpcEndpointId"], "state": state}, is_ours)

    def create(self, spec: Spec) -> Live:
        if spec.get("PrivateDnsEnabled") and not has_private_dns(self.account, spec["VpcId"]):
            raise AwsError(
                f"VPC {spec['VpcId']} has no private DNS, which its endpoint for {spec['ServiceName']} needs:"
                f" aws ec2 modify-vpc-attribute --vpc-id {spec['VpcId']} --enable-dns-support, and the same"
                " with --enable-dns-hostnames; or set VPC_ENDPOINTS=none"
            )
        self.wait_until_gone(spec)
        tags = [{"ResourceType": "vpc-endpoint", "Tags": self.account.tag_list}]
        self.call("create_vpc_endpoint", spec, **as_text(spec), TagSpecifications=tags)
        return self.available(spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        self.available(spec)
        found = self.endpoint(spec) or {}
        found["SecurityGroupIds"] = [group["GroupId"] for group in found.get("Groups", [])]
        parameters: dict[str, Any] = {}
        for key in ENDPOINT_LISTS:
            if key in spec:
                wanted, there_are = set(spec[key]), set(found.get(key, []))
                parameters[f"Add{key}"] = sorted(wanted - there_are)
                parameters[f"Remove{key}"] = sorted(there_are - wanted)
        if "PrivateDnsEnabled" in spec and found.get("PrivateDnsEnabled", False) != spec["PrivateDnsEnabled"]:
            parameters["PrivateDnsEnabled"] = spec["PrivateDnsEnabled"]
        if "PolicyDocument" in spec and policy_of(found, spec) != spec["PolicyDocument"]:
            parameters["PolicyDocument"] = json.dumps(spec["PolicyDocument"])
        if given := {key: value for key, value in parameters.items() if value != []}:
            self.call("modify_vpc_endpoint", spec, VpcEndpointId=live.attributes["id"], **given)
        return self.available(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        """A refusal comes in the answer, not as an error."""
        endpoint_id = live.attributes["id"]
        if self.endpoint(spec, endpoint_id) is not None:
            answer = self.call("delete_vpc_endpoints", spec, VpcEndpointIds=[endpoint_id])
            failed = [one.get("Error", {}) for one in answer.get("Unsuccessful", [])]
            reasons = [one for one in failed if not str(one.get("Code", "")).endswith(".NotFound")]
            if reasons:
                texts = "; ".join(f"{one.get('Code')}: {one.get('Message')}" for one in reasons)
                name = spec["ServiceName"]
                raise AwsError(f"ec2:DeleteVpcEndpoints on VPC endpoint {name} failed, {texts}")
        self.wait_until_gone(spec)

    def wait_until_gone(self, spec: Spec) -> None:
        """Returns at once where no such endpoint is being deleted; the name in its DNS is free then."""

        def is_gone() -> bool:
            found = self.endpoint(spec, gone={"deleted"})
            return found is None or found["State"].lower() != "deleting"

        self.account.wait(f"deleting VPC endpoint {spec['ServiceName']}", ENDPOINT_SECONDS, is_gone)

    def available(self, spec: Spec) -> Live:
        name = spec["ServiceName"]

        def is_available() -> bool:
            found = self.endpoint(spec) or {"State": "pending"}  # AWS may not show yet what it has made
            if found["State"].lower() in BROKEN:
                reason = found.get("LastError", {}).get("Message") or "no reason given"
                raise AwsError(
                    f"VPC endpoint {name} is {found['State']} ({reason}): delete {found['VpcEndpointId']},"
                    " then run the command again"
                )
            return bool(found["State"].lower() == "available")

        self.account.wait(f"VPC endpoint {name}", ENDPOINT_SECONDS, is_available)
        return there(self, self.account, spec)

    def endpoint(self, spec: Spec, endpoint_id: str = "", gone: set[str] = GONE) -> Any:
        """AWS's description, None if there is none; a deleted endpoint is shown for some time."""
        if spec["VpcId"] is UNKNOWN:
            return None
        endpoints = self.account.pages(
            "ec2",
            "describe_vpc_endpoints",
            f"VPC endpoint {spec['ServiceName']}",
            "VpcEndpoints",
            Filters=filters({"vpc-id": spec["VpcId"], "service-name": spec["ServiceName"]}),
        )
        alive = [
            one
            for one in endpoints
            if one["State"].lower() not in gone
            and one["VpcEndpointType"] == spec["VpcEndpointType"]
            and endpoint_id in ("", one["VpcEndpointId"])
        ]
        ours = [one for one in alive if self.account.is_ours(tags_in(one.get("Tags", [])))]
        others = [one for one in alive if is_in_the_way(one, spec)]
        return next(iter([*ours, *others]), None)

    def call(self, operation: str, spec: Spec, **parameters: Any) -> Any:
        return self.account.call("ec2", operation, f"VPC endpoint {spec['ServiceName']}", **parameters)


def is_in_the_way(endpoint: Any, spec: Spec) -> bool:
    """AWS gives the private DNS name of a service to one interface in a VPC, its route to one gateway in a
    route table: where another's has it, ours can't be made, and the other one serves."""
    if endpoint["VpcEndpointType"] == "Gateway":
        return bool(set(endpoint.get("RouteTableIds", [])) & set(spec.get("RouteTableIds", [])))
    return bool(endpoint.get("PrivateDnsEnabled"))


def policy_of(found: Any, spec: Spec) -> Any:
    document = json.loads(found.get("PolicyDocument") or "null")
    return policy_as_declared(spec.get("PolicyDocument"), document)


def as_text(spec: Spec) -> dict[str, Any]:
    """The spec with its policy as the text that EC2 takes."""
    return {key: json.dumps(value) if key == "PolicyDocument" else value for key, value in spec.items()}


def has_private_dns(account: Account, vpc_id: str) -> bool:
    """Whether names of AWS's services can lead to endpoints in the VPC: that takes both of its settings."""
    for attribute in ("enableDnsSupport", "enableDnsHostnames"):
        answer = account.call(
            "ec2", "describe_vpc_attribute", f"VPC {vpc_id}", VpcId=vpc_id, Attribute=attribute
        )
        if not answer[attribute[0].upper() + attribute[1:]]["Value"]:
            return False
    return True


# --------------------------------------------------------------------------------------------------------
# Ways out of subnets
# --------------------------------------------------------------------------------------------------------

NO_ROUTE, INTERNET_GATEWAY = "none", "internet gateway"
# The member of a route that names its target, and what that is; the first one that is there counts.
TARGETS = {
    "NatGatewayId": "NAT gateway",
    "TransitGatewayId": "transit gateway",
    "CoreNetworkArn": "core network",
    "LocalGatewayId": "local gateway",
    "CarrierGatewayId": "carrier gateway",
    "InstanceId": "instance",
    "NetworkInterfaceId": "network interface",
}


@dataclass(frozen=True)
class Ways:
    """How a replication instance in these subnets reaches AWS's services.

    It has no public address, so a default route to an internet gateway is no way out for it: AWS translates
    public addresses only. Source: https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html
    """

    vpc_id: str
    default_routes: Mapping[str, str]  # {"subnet-1": "NAT gateway", "subnet-2": "none"}
    endpoint_subnet_ids: tuple[str, ...]  # one in each zone: an interface endpoint takes no more
    route_table_ids: tuple[str, ...]  # of the subnets without a way out, but for those of others' gateways
    our_endpoints: frozenset[str]  # {"kinesis-streams"}
    other_endpoints: frozenset[str]  # those that serve all these subnets
    has_private_dns: bool

    @property
    def closed_subnet_ids(self) -> tuple[str, ...]:
        ways = self.default_routes.items()
        return tuple(subnet for subnet, way in ways if way in (NO_ROUTE, INTERNET_GATEWAY))

    def endpoints_to_declare(self, choice: str) -> list[str]:
        """["kinesis-streams", "logs"], in the order of SERVICES, for VPC_ENDPOINTS=auto, create or none.

        auto: those that the subnets need. Others' endpoints are used, not doubled. Ours that are there stay
        declared, whatever is chosen now: else destroy would forget them.
        """
        is_wanted = choice == "create" or (choice == "auto" and bool(self.closed_subnet_ids))
        wanted = set(SERVICES) if is_wanted else set()
        return [one for one in SERVICES if one in (wanted - self.other_endpoints) | self.our_endpoints]


def service_name(account: Account, service: str) -> str:
    """com.amazonaws.eu-west-1.kinesis-streams"""
    return f"com.amazonaws.{account.region}.{service}"


def missing_routes(account: Account, subnet_ids: Sequence[str]) -> Ways:
    """What AWS says of the subnets' routes, and of the endpoints in their VPC. Reads only."""
    subnets = subnets_of(account, subnet_ids)
    vpc_id = subnets[0]["VpcId"]
    in_vpc = filters({"vpc-id": vpc_id})
    tables = account.pages("ec2", "describe_route_tables", f"VPC {vpc_id}", "RouteTables", Filters=in_vpc)
    endpoints = account.pages(
        "ec2", "describe_vpc_endpoints", f"VPC {vpc_id}", "VpcEndpoints", Filters=in_vpc
    )
    private_dns = has_private_dns(account, vpc_id)
    return ways_of(account, subnets, list(tables), list(endpoints), private_dns=private_dns)


def subnets_of(account: Account, subnet_ids: Sequence[str]) -> list[Any]:
    """AWS's description of each, in this order. Raises AwsError unless all are there and of one VPC."""
    named = ", ".join(subnet_ids)
    answer = account.call("ec2", "describe_subnets", f"subnets {named}", SubnetIds=list(subnet_ids))
    by_id = {subnet["SubnetId"]: subnet for subnet in answer["Subnets"]}
    subnets = [by_id[one] for one in subnet_ids if one in by_id]
    vpc_ids = sorted({subnet["VpcId"] for subnet in subnets})
    if len(subnets) < len(subnet_ids) or len(vpc_ids) != 1:
        raise AwsError(f"SUBNET_IDS {named} must be subnets of one VPC; found {len(subnets)} in {vpc_ids}")
    return subnets


def cidrs_of(account: Account, vpc_id: str) -> tuple[str, ...]:
    """("10.0.0.0/16",): the addresses of the VPC."""
    answer = account.call("ec2", "describe_vpcs", f"VPC {vpc_id}", VpcIds=[vpc_id])
    blocks = answer["Vpcs"][0]["CidrBlockAssociationSet"]
    return tuple(sorted(one["CidrBlock"] for one in blocks if one["CidrBlockState"]["State"] == "associated"))


def check_zones(account: Account, subnet_ids: Sequence[str]) -> None:
    """Raises AwsError unless the subnets lie in two availability zones, as subnet groups have to."""
    zones = sorted({subnet["AvailabilityZone"] for subnet in subnets_of(account, subnet_ids)})
    if len(zones) < 2:
        raise AwsError(
            f"the subnets {', '.join(subnet_ids)} are all in {zones[0]}: a subnet group needs subnets in two"
            " availability zones; add one of another zone to SUBNET_IDS"
        )


def ways_of(
    account: Account, subnets: list[Any], tables: list[Any], endpoints: list[Any], *, private_dns: bool
) -> Ways:
    """Of AWS's descriptions; reads nothing."""
    routes = {subnet["SubnetId"]: default_route(table_of(subnet["SubnetId"], tables)) for subnet in subnets}
    closed = [subnet for subnet, way in routes.items() if way in (NO_ROUTE, INTERNET_GATEWAY)]
    closed_tables = {table["RouteTableId"] for one in closed if (table := table_of(one, tables))}
    ours, others, taken = set(), set(), set()
    for endpoint in endpoints:
        service = str(endpoint["ServiceName"]).rpartition(".")[2]
        if endpoint["State"].lower() in GONE | BROKEN or endpoint["VpcEndpointType"] != SERVICES.get(service):
            continue
        if account.is_ours(tags_in(endpoint.get("Tags", []))):
            ours.add(service)
        elif endpoint["VpcEndpointType"] == "Gateway":
            taken |= set(endpoint.get("RouteTableIds", []))
        elif endpoint.get("PrivateDnsEnabled"):
            others.add(service)
    if closed_tables and closed_tables <= taken:
        others.add("s3")
    by_zone = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in reversed(subnets)}
    return Ways(
        subnets[0]["VpcId"],
        routes,
        tuple(sorted(by_zone.values())),
        tuple(sorted(closed_tables - taken)),
        frozenset(ours),
        frozenset(others),
        private_dns,
    )


def table_of(subnet_id: str, tables: Sequence[Any]) -> Any:
    """The route table of the subnet: its own, else the main one of the VPC."""
    for table in tables:
        if any(one.get("SubnetId") == subnet_id for one in table.get("Associations", [])):
            return table
    return next((table for table in tables if any(one.get("Main") for one in table["Associations"])), None)


def default_route(table: Any) -> str:
    """Where it leads: "NAT gateway", "internet gateway" or the like. A blackhole's target is gone: "none"."""
    for route in table["Routes"] if table else []:
        if route.get("DestinationCidrBlock") != "0.0.0.0/0" or route.get("State") == "blackhole":
            continue
        gateway = str(route.get("GatewayId", ""))
        if gateway.startswith("igw-"):
            return INTERNET_GATEWAY
        if gateway:
            return "VPN gateway" if gateway.startswith("vgw-") else gateway
        return next((what for key, what in TARGETS.items() if route.get(key)), NO_ROUTE)
    return NO_ROUTE
