"""Resources, the plan that makes them real, and its execution. Knows no AWS service.

A chain is a list of Resource in creation order. Each names its Kind (how one sort of object is found, made,
changed, deleted) and its spec (what it shall be, in the keys of that service's API). A Ref in a spec stands
for an attribute of a resource further up. There is no state file: names are deterministic, and what exists
is the state.

    observed = observe(chain)              reads only
    steps = plan(chain, observed)          pure
    execute(chain, steps, observed, report)      writes; run again, it does what is left
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Spec = Mapping[str, Any]

# --------------------------------------------------------------------------------------------------------
# Errors, value types
# --------------------------------------------------------------------------------------------------------


class ProvisionError(Exception):
    """Why the chain could not be read or made: what was attempted, on what, what was found, what to do.

    ProvisionError
      SettingsError   settings are missing or wrong: all of them are named
      AwsError        AWS refused a call, or an object did not get ready in time
      RefusedError    a change that would lose changes or rows is not made
    """


class RefusedError(ProvisionError):
    pass


@dataclass(frozen=True)
class Ref:
    """An attribute of a resource further up the list."""

    resource: str
    attribute: str


@dataclass(frozen=True)
class Text:
    """A text with Refs in it: Text("{}:*", (Ref("log-group", "arn"),))."""

    template: str
    refs: tuple[Ref, ...]


class Unknown:
    """What a Ref is worth before its resource exists."""

    def __repr__(self) -> str:
        return "(known after apply)"


UNKNOWN = Unknown()


@dataclass(frozen=True)
class Live:
    """What find() saw: values under the spec's own keys, attributes for Refs, whether the object is ours."""

    values: Spec
    attributes: Mapping[str, Any]
    is_ours: bool = True


class Kind:
    """How one sort of object is found, created, updated and deleted.

    find only reads; None means absent; a missing permission raises. create and update return when the object
    can be used; delete returns when it is gone, and is content with one that is gone already. All get a spec
    with its Refs resolved; for find a Ref to an absent resource is UNKNOWN, so find goes by names.
    A diff compares the spec's keys with find's values: mappings key by key (what only AWS has is left alone),
    anything else as a whole. JSON texts are given as documents, on both sides.
    """

    label = ""  # "stream", as the plan shows it
    immutable: frozenset[str] = frozenset()  # a change of these keys takes a replacement
    write_only: frozenset[str] = frozenset()  # AWS never returns these keys: no part of a diff
    is_retained = False  # destroy keeps it
    why_not_replaced = ""  # if set, a replacement is refused, and this says why

    def find(self, spec: Spec) -> Live | None:
        raise NotImplementedError

    def create(self, spec: Spec) -> Live:
        raise NotImplementedError

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        raise NotImplementedError

    def delete(self, live: Live, spec: Spec) -> None:
        raise NotImplementedError

    def pause(self, live: Live, spec: Spec) -> None:
        """Brings to rest what runs; the next plan shows that it has to run again."""
        raise NotImplementedError


@dataclass(frozen=True)
class Resource:
    name: str  # unique in the chain
    kind: Kind
    spec: Spec
    pauses: str = ""  # a resource further down that has to rest while this one is updated


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    KEEP = "keep"
    FOREIGN = "foreign"  # not ours: differences are reported, nothing is done
    REFUSE = "refuse"
    DELETE = "delete"  # of destroy; no plan has it


@dataclass(frozen=True)
class Change:
    path: str  # "RetentionPeriodHours", "Policy.Statement.0.Action"
    old: Any
    new: Any


@dataclass(frozen=True)
class Step:
    action: Action
    resource: Resource
    changes: tuple[Change, ...] = ()
    reason: str = ""

    @property
    def is_work(self) -> bool:
        return self.action in (Action.CREATE, Action.UPDATE, Action.REPLACE)


Observed = dict[str, Live | None]
Report = Callable[[str, Step, float], None]  # ("begin" | "done", step, seconds)

# --------------------------------------------------------------------------------------------------------
# Observe, plan, execute, destroy
# --------------------------------------------------------------------------------------------------------


def observe(chain: Sequence[Resource]) -> Observed:
    """What there is of each resource. Raises AwsError where AWS refuses to say."""
    check_order(chain)
    observed: Observed = {}
    for resource in chain:
        observed[resource.name] = resource.kind.find(resolve(resource.spec, observed))
    return observed


def plan(chain: Sequence[Resource], observed: Observed) -> list[Step]:
    """What has to be done to make the chain real, in its order."""
    return [plan_step(resource, observed) for resource in chain]


def plan_step(resource: Resource, observed: Observed) -> Step:
    kind, live = resource.kind, observed[resource.name]
    spec = resolve(resource.spec, observed)
    if live is None:
        return Step(Action.CREATE, resource)
    compared = {key: value for key, value in spec.items() if key not in kind.write_only}
    changes = tuple(differences(compared, live.values))
    if not live.is_ours:
        return Step(Action.FOREIGN, resource, changes)
    if not changes:
        return Step(Action.KEEP, resource)
    if not any(change.path.partition(".")[0] in kind.immutable for change in changes):
        return Step(Action.UPDATE, resource, changes)
    if kind.why_not_replaced:
        return Step(Action.REFUSE, resource, changes, kind.why_not_replaced)
    return Step(Action.REPLACE, resource, changes)


def execute(chain: Sequence[Resource], steps: Sequence[Step], observed: Observed, report: Report) -> Observed:
    """Does the work of the steps, one after the other, and returns what there is then.

    Raises RefusedError before anything is done when a step is refused, and what a kind raises when one fails;
    what was done until then stays, and the next run goes on from there. What had to rest for an update stays
    at rest: plan again.
    """
    refuse(steps)
    by_name = {resource.name: resource for resource in chain}
    now = dict(observed)
    for step in steps:
        if not step.is_work:
            continue
        with reported(report, step):
            if step.action is not Action.CREATE and step.resource.pauses:
                pause(by_name[step.resource.pauses], now)
            now[step.resource.name] = do(step, now)
    return now


def refuse(steps: Sequence[Step]) -> None:
    """Raises RefusedError when a step is refused."""
    if refused := [step for step in steps if step.action is Action.REFUSE]:
        raise RefusedError("; ".join(f"{step.resource.name}: {step.reason}" for step in refused))


@contextmanager
def reported(report: Report, step: Step) -> Iterator[None]:
    """Tells when the step begins, and when it is done: not when it fails."""
    started = time.monotonic()
    report("begin", step, 0.0)
    yield
    report("done", step, time.monotonic() - started)


def pause(resource: Resource, observed: Observed) -> None:
    if live := observed[resource.name]:
        spec = resolve(resource.spec, observed)
        resource.kind.pause(live, spec)
        observed[resource.name] = resource.kind.find(spec)


def do(step: Step, observed: Observed) -> Live:
    kind, live = step.resource.kind, observed[step.resource.name]
    spec = resolve(step.resource.spec, observed)
    if live is None:
        return kind.create(spec)
    if step.action is Action.REPLACE:
        kind.delete(live, spec)
        return kind.create(spec)
    return kind.update(live, spec, frozenset(change.path.partition(".")[0] for change in step.changes))


def destroy(chain: Sequence[Resource], observed: Observed, report: Report) -> None:
    """Deletes what is ours and not retained, in reverse order."""
    for resource in reversed(chain):
        live = observed[resource.name]
        if live is None or not live.is_ours or resource.kind.is_retained:
            continue
        with reported(report, Step(Action.DELETE, resource)):
            resource.kind.delete(live, resolve(resource.spec, observed))


# --------------------------------------------------------------------------------------------------------
# Refs and differences
# --------------------------------------------------------------------------------------------------------


def check_order(chain: Sequence[Resource]) -> None:
    """Raises ValueError when a name comes twice or a Ref points down the list."""
    seen: set[str] = set()
    for resource in chain:
        for ref in refs_in(resource.spec):
            if ref.resource not in seen:
                raise ValueError(f"{resource.name} refers to {ref.resource}, which is not above it")
        if resource.name in seen:
            raise ValueError(f"{resource.name} is in the chain twice")
        seen.add(resource.name)


def refs_in(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, Text):
        yield from value.refs
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from refs_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from refs_in(inner)


def resolve(value: Any, observed: Observed) -> Any:
    """The value with its Refs replaced by what is known, else by UNKNOWN."""
    if isinstance(value, Ref):
        live = observed[value.resource]
        return UNKNOWN if live is None else live.attributes[value.attribute]
    if isinstance(value, Text):
        parts = [resolve(ref, observed) for ref in value.refs]
        return UNKNOWN if any(part is UNKNOWN for part in parts) else value.template.format(*parts)
    if isinstance(value, Mapping):
        return {key: resolve(inner, observed) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(inner, observed) for inner in value]
    return value


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[Change]:
    """Where found is not as wanted; keys that only found has are left alone; lists count as a whole."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            yield from differences(value, found.get(key), f"{path}.{key}" if path else str(key))
    elif wanted is UNKNOWN or wanted != found:
        yield Change(path, found, wanted)
