"""A plan for people, for machines, and the documents that it would send. Pure.

+ stream                  lending-stream
~ event source mapping    lending:live
      MaximumBatchingWindowInSeconds: 5 -> 60
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from provision import estimate
from provision.engine import UNKNOWN, Action, Change, Observed, ProvisionError, Resource, Step, resolve

MARKS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.REPLACE: "-/+",
    Action.KEEP: "=",
    Action.FOREIGN: "?",
    Action.REFUSE: "!",
}
SECRETS = {"password", "MasterUserPassword"}  # keys of specs whose values are shown to nobody
HIDDEN = "********"
WIDTH = 100
VALUE_WIDTH = 60  # a longer value is cut: --show prints it whole


@dataclass(frozen=True)
class Plan:
    """What an apply would do, and what a person should know before it."""

    pipeline: str
    region: str
    account_id: str
    steps: Sequence[Step]
    observed: Observed
    notes: Sequence[str]
    cost: estimate.Estimate

    @property
    def has_work(self) -> bool:
        return any(step.is_work for step in self.steps)

    @property
    def refused(self) -> list[Step]:
        return [step for step in self.steps if step.action is Action.REFUSE]


def name_of(resource: Resource, observed: Observed) -> str:
    """What AWS calls it: the first value of a spec is the name."""
    return shown(resolve(next(iter(resource.spec.values())), observed))


# --------------------------------------------------------------------------------------------------------
# For people
# --------------------------------------------------------------------------------------------------------


def as_text(made: Plan, *, is_estimated: bool) -> str:
    """All that is not kept, with its differences; counts; notes; the estimate, whole or as a line."""
    shown_steps = [step for step in made.steps if is_shown(step)]
    lines = [f"Pipeline {made.pipeline}, account {made.account_id}, {made.region}", ""]
    width = max((len(step.resource.name) for step in shown_steps), default=0)
    for step in shown_steps:
        name = name_of(step.resource, made.observed)
        lines.append(f"  {MARKS[step.action]:3} {step.resource.name:{width}}  {name}{remark(step)}".rstrip())
        if step.action is not Action.CREATE:
            lines += [f"          {change_text(change, step.resource)}" for change in step.changes]
    if shown_steps:
        lines.append("")
    lines += [counts_text(made), ""]
    for note in made.notes:
        lines += textwrap.wrap(f"* {note}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    lines += [""] if made.notes else []
    cost = estimate.as_text(made.cost) if is_estimated else f"{estimate.in_a_line(made.cost)}\n"
    return "\n".join(lines) + "\n" + cost


def is_shown(step: Step) -> bool:
    """Another's object is shown when it differs, or when a rule of ours is put on it."""
    return step.action is not Action.KEEP and not (step.action is Action.FOREIGN and not step.changes)


def remark(step: Step) -> str:
    if step.action is Action.REFUSE:
        return f"  (refused: {step.reason})"
    if step.action is Action.FOREIGN:
        return "  (not of this pipeline: it is used as it is; these differences stay)"
    if step.is_work and step.resource.name == "database rule" and is_foreign(step):
        return "  (the one change to an object that is not of this pipeline; destroy takes it back)"
    if step.action in (Action.UPDATE, Action.REPLACE) and step.resource.pauses:
        return "  (stops the task, and resumes it where it was)"
    if any(change.path == "ParameterApplyStatus" for change in step.changes):
        return "  (reboots the database)"
    return ""


def is_foreign(step: Step) -> bool:
    """The group of a database that was there is given by its id; ours is a Ref."""
    return isinstance(step.resource.spec["GroupId"], str)


def change_text(change: Change, resource: Resource) -> str:
    """StreamMode: "PROVISIONED" -> "ON_DEMAND"; a rule of table mappings in words."""
    rule = change.new if isinstance(change.new, Mapping) else change.old
    if change.path.startswith("TableMappings.rules.") and isinstance(rule, Mapping) and "rule-type" in rule:
        verb = "add" if change.old is None else "change"
        return f"{verb} {rule_text(rule)}"
    if change.path == "IsCurrent":  # of a secret, whose value nobody is shown
        is_login = isinstance(resource.spec["SecretString"], Mapping)
        return f"its value{': user, password, host or port' if is_login else ''}"
    if change.path == "TableMappings.other-rules":
        return "; ".join(f"remove {rule_text(rule)}" for rule in change.old)
    return f"{change.path}: {shown(change.old)} -> {shown(change.new)}"


def rule_text(rule: Mapping[str, Any]) -> str:
    """mapping of public.loan by primary-key"""
    locator = rule["object-locator"]
    table = f"{locator['schema-name']}.{locator['table-name']}"
    if rule["rule-type"] == "object-mapping":
        return f"mapping of {table} by {rule['mapping-parameters']['partition-key-type']}"
    return f"{rule['rule-action']} of {table}"


def shown(value: Any) -> str:
    text = str(value) if isinstance(value, str) or value is UNKNOWN else json.dumps(value, default=repr)
    return text if len(text) <= VALUE_WIDTH else f"{text[: VALUE_WIDTH - 3]}..."


def counts_text(made: Plan) -> str:
    count = {action: sum(step.action is action for step in made.steps) for action in Action}
    if not made.has_work and not made.refused:
        return f"Nothing to do: {count[Action.KEEP]} objects are as declared."
    parts = [
        f"{count[Action.CREATE]} to create",
        f"{count[Action.UPDATE]} to change",
        f"{count[Action.REPLACE]} to replace",
        f"{count[Action.KEEP]} as declared",
    ]
    if made.refused:
        parts.append(f"{len(made.refused)} refused")
    return f"Plan: {', '.join(parts)}."


# --------------------------------------------------------------------------------------------------------
# For machines, and the documents
# --------------------------------------------------------------------------------------------------------


def as_dict(made: Plan) -> dict[str, Any]:
    return {
        "pipeline": made.pipeline,
        "account": made.account_id,
        "region": made.region,
        "has_work": made.has_work,
        "steps": [step_as_dict(step, made.observed) for step in made.steps],
        "notes": list(made.notes),
        "estimate": estimate.as_dict(made.cost),
    }


def step_as_dict(step: Step, observed: Observed) -> dict[str, Any]:
    return {
        "action": step.action.value,
        "resource": step.resource.name,
        "kind": step.resource.kind.label,
        "name": name_of(step.resource, observed),
        "changes": [
            {"path": change.path, "old": plain(change.old), "new": plain(change.new)}
            for change in step.changes
        ],
        "stops_task": step.action in (Action.UPDATE, Action.REPLACE) and bool(step.resource.pauses),
        "reason": step.reason,
    }


def document_of(made: Plan, name: str) -> dict[str, Any]:
    """What would be sent for the resource of that name; secrets hidden.

    Raises ProvisionError for a name that there is not, with the nearest.
    """
    by_name = {step.resource.name: step.resource for step in made.steps}
    if name not in by_name:
        near = get_close_matches(name, by_name, 1)
        advice = f"did you mean {near[0]!r}?" if near else "they are"
        raise ProvisionError(
            f"no part of the chain is called {name!r}: {advice} ({', '.join(by_name)}, deployer)"
        )
    document: dict[str, Any] = plain(resolve(by_name[name].spec, made.observed))
    return document


def plain(value: Any) -> Any:
    """As JSON takes it: what is not known says so, secrets are hidden, times are text."""
    if isinstance(value, Mapping) and "other-rules" in value:  # see dms.by_rule_id
        value = {"rules": list(value["rules"].values())}
    if isinstance(value, Mapping):
        return {key: HIDDEN if is_hidden(key, inner) else plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def is_hidden(key: str, value: Any) -> bool:
    """Of a secret that is a document only the password is."""
    return key in SECRETS or (key == "SecretString" and not isinstance(value, Mapping))
