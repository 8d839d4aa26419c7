"""IAM roles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provision.aws import Account, Refusal
from provision.engine import Kind, Live, Spec
from provision.kinds.documents import as_declared, canonical_policy, policy_as_declared, tags_in, there

ABSENT = {"NoSuchEntity"}
SETTINGS = ("Description", "MaxSessionDuration")  # what UpdateRole sets


@dataclass
class Role(Kind):
    """A role: RoleName, Path, AssumeRolePolicyDocument, Policies {name: document}, ManagedPolicies [ARNs],
    Description, MaxSessionDuration.

    Attributes: name, arn, id. Inline policies of names that the spec does not have are left alone (delete
    removes them); the managed policies are those of the spec and no others.

    shared: one role for the whole account, under a name that AWS prescribes, which other pipelines and people
    use too. It is made when there is none, and finished when a run of ours stopped half-way (it has our tag
    but not yet its policies); else it is not ours: what it lacks is reported, nothing is changed or deleted.
    """

    account: Account
    shared: bool = False
    label = "role"
    immutable = frozenset({"RoleName", "Path"})

    def __post_init__(self) -> None:
        self.is_retained = self.shared

    def find(self, spec: Spec) -> Live | None:
        name = spec["RoleName"]
        found = self.account.find("iam", "get_role", f"role {name}", ABSENT, RoleName=name)
        if found is None:
            return None
        role, attached = found["Role"], self.attached(name)
        values = {
            "RoleName": name,
            "Path": role["Path"],
            "AssumeRolePolicyDocument": self.trust(spec, role["AssumeRolePolicyDocument"]),
            "Policies": self.inline(name, spec),
            "ManagedPolicies": self.managed(spec, attached),
            **{key: role.get(key) for key in SETTINGS},
        }
        attributes = {"name": name, "arn": role["Arn"], "id": role["RoleId"]}
        is_ours = self.account.is_ours(tags_in(role.get("Tags", [])))
        if self.shared:
            is_ours = is_ours and bool(missing(spec, attached))
        return Live(values, attributes, is_ours)

    def create(self, spec: Spec) -> Live:
        name = spec["RoleName"]
        self.call(
            "create_role",
            name,
            Path=spec.get("Path", "/"),
            AssumeRolePolicyDocument=json.dumps(spec["AssumeRolePolicyDocument"]),
            Tags=self.account.tag_list,
            **{key: spec[key] for key in SETTINGS if key in spec},
        )
        there(self, self.account, spec)
        self.put_policies(spec, set(spec.get("Policies", {})))
        self.attach(spec)
        return there(self, self.account, spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        name = spec["RoleName"]
        if self.shared:
            self.attach(spec)
            return there(self, self.account, spec)
        if "AssumeRolePolicyDocument" in changed:
            document = json.dumps(spec["AssumeRolePolicyDocument"])
            self.call("update_assume_role_policy", name, PolicyDocument=document)
        if changed & set(SETTINGS):
            self.call("update_role", name, **{key: spec[key] for key in SETTINGS if key in spec})
        now = live.values["Policies"]
        self.put_policies(
            spec, {one for one, document in spec.get("Policies", {}).items() if now.get(one) != document}
        )
        self.attach(spec)
        if "ManagedPolicies" in changed:
            self.detach(name, self.attached(name) - set(spec["ManagedPolicies"]))
        return there(self, self.account, spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["RoleName"]
        if self.find(spec) is None:
            return
        self.detach(name, self.attached(name))
        for policy in list(self.pages("list_role_policies", name, "PolicyNames")):
            self.account.find(
                "iam", "delete_role_policy", f"role {name}", ABSENT, RoleName=name, PolicyName=policy
            )
        self.account.find("iam", "delete_role", f"role {name}", ABSENT, RoleName=name)

    def trust(self, spec: Spec, found: Mapping[str, Any]) -> Any:
        """A shared role is judged by whom it lets in; its conditions are its owner's affair."""
        wanted = spec.get("AssumeRolePolicyDocument")
        if (
            self.shared
            and isinstance(wanted, Mapping)
            and trusted_services(wanted) <= trusted_services(found)
        ):
            return wanted
        return policy_as_declared(wanted, found)

    def inline(self, name: str, spec: Spec) -> dict[str, Any]:
        """The role's own policies, of those names that the spec has."""
        policies = {}
        for policy, wanted in spec.get("Policies", {}).items():
            found = self.account.find(
                "iam", "get_role_policy", f"role {name}", ABSENT, RoleName=name, PolicyName=policy
            )
            if found is not None:
                policies[policy] = policy_as_declared(wanted, found["PolicyDocument"])
        return policies

    def managed(self, spec: Spec, attached: set[str]) -> list[str]:
        wanted = spec.get("ManagedPolicies", [])
        if self.shared and not missing(spec, attached):
            return list(wanted)
        return list(as_declared(wanted, sorted(attached)))

    def attached(self, name: str) -> set[str]:
        return {
            one["PolicyArn"] for one in self.pages("list_attached_role_policies", name, "AttachedPolicies")
        }

    def put_policies(self, spec: Spec, names: set[str]) -> None:
        for name in sorted(names):
            self.once_known(
                "put_role_policy",
                spec["RoleName"],
                PolicyName=name,
                PolicyDocument=json.dumps(spec["Policies"][name]),
            )

    def attach(self, spec: Spec) -> None:
        for arn in missing(spec, self.attached(spec["RoleName"])):
            self.once_known("attach_role_policy", spec["RoleName"], PolicyArn=arn)

    def detach(self, name: str, arns: set[str]) -> None:
        for arn in sorted(arns):
            self.account.find(
                "iam", "detach_role_policy", f"role {name}", ABSENT, RoleName=name, PolicyArn=arn
            )

    def once_known(self, operation: str, name: str, **parameters: Any) -> None:
        """A role just made is not known everywhere at once: "The role with name ... cannot be found".

        Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html (eventual consistency)
        """
        self.account.retry(ABSENT, "role with name", 12, lambda: self.call(operation, name, **parameters))

    def call(self, operation: str, name: str, **parameters: Any) -> Any:
        return self.account.call("iam", operation, f"role {name}", RoleName=name, **parameters)

    def pages(self, operation: str, name: str, key: str) -> list[Any]:
        try:
            return list(self.account.pages("iam", operation, f"role {name}", key, RoleName=name))
        except Refusal as error:
            if error.code in ABSENT:  # deleted by somebody else since it was found
                return []
            raise


def missing(spec: Spec, attached: set[str]) -> list[str]:
    return [arn for arn in spec.get("ManagedPolicies", []) if arn not in attached]


def trusted_services(trust: Mapping[str, Any]) -> set[str]:
    """{"dms.amazonaws.com"}: the services that a trust policy lets take the role."""
    return {
        service
        for statement in canonical_policy(trust)["Statement"]
        if statement.get("Effect") == "Allow" and "sts:AssumeRole" in statement.get("Action", ())
        for service in statement.get("Principal", {}).get("Service", ())
    }
