"""EventBridge rules."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from provision.aws import Account, AwsError
from provision.engine import Kind, Live, Spec
from provision.kinds.documents import as_declared, tags_in, there

ABSENT = {"ResourceNotFoundException"}
RULE_KEYS = ("Description", "State")


@dataclass
class Rule(Kind):
    """A rule on the default event bus: Name, EventPattern (document), State (ENABLED), Description,
    Targets [{Id, Arn, ...}].

    Attributes: name, arn. The targets are those of the spec and no others. PutRule replaces all of a rule but
    its targets and tags.
    """

    account: Account
    label = "event rule"
    immutable = frozenset({"Name"})

    def find(self, spec: Spec) -> Live | None:
        name = spec["Name"]
        found = self.account.find("events", "describe_rule", f"event rule {name}", ABSENT, Name=name)
        if found is None:
            return None
        pattern = json.loads(found["EventPattern"]) if found.get("EventPattern") else None
        values = {
            "Name": name,
            "EventPattern": as_declared(spec.get("EventPattern"), pattern),
            "Targets": as_declared(spec.get("Targets"), self.targets(name)),
            **{key: found.get(key) for key in RULE_KEYS},
        }
        tags = self.call("list_tags_for_resource", name, ResourceARN=found["Arn"])["Tags"]
        is_ours = self.account.is_ours(tags_in(tags))
        return Live(values, {"name": name, "arn": found["Arn"]}, is_ours)

    def create(self, spec: Spec) -> Live:
        self.put_rule(spec, Tags=self.account.tag_list)
        return self.with_targets(spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        if changed - {"Targets"}:
            self.put_rule(spec)
        return self.with_targets(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["Name"]
        if self.find(spec) is None:
            return
        self.remove(name, {target["Id"] for target in self.targets(name)})
        self.account.find("events", "delete_rule", f"event rule {name}", ABSENT, Name=name)

    def put_rule(self, spec: Spec, **tags: Any) -> None:
        pattern = json.dumps(spec["EventPattern"])
        described = {key: spec[key] for key in RULE_KEYS if key in spec}
        self.call("put_rule", spec["Name"], Name=spec["Name"], EventPattern=pattern, **described, **tags)

    def with_targets(self, spec: Spec) -> Live:
        name, wanted = spec["Name"], spec.get("Targets", [])
        self.remove(name, {one["Id"] for one in self.targets(name)} - {one["Id"] for one in wanted})
        if wanted:
            self.check(name, self.call("put_targets", name, Rule=name, Targets=wanted))
        return there(self, self.account, spec)

    def remove(self, name: str, ids: set[str]) -> None:
        if ids:
            self.check(name, self.call("remove_targets", name, Rule=name, Ids=sorted(ids)))

    def check(self, name: str, answer: Any) -> None:
        """Raises AwsError when AWS took the call but not all of its entries."""
        if failed := answer.get("FailedEntries"):
            reasons = "; ".join(f"{one['TargetId']}: {one['ErrorMessage']}" for one in failed)
            raise AwsError(f"the targets of event rule {name} were not taken: {reasons}")

    def targets(self, name: str) -> list[Any]:
        pages = self.account.pages(
            "events", "list_targets_by_rule", f"event rule {name}", "Targets", Rule=name
        )
        return list(pages)

    def call(self, operation: str, name: str, **parameters: Any) -> Any:
        return self.account.call("events", operation, f"event rule {name}", **parameters)
