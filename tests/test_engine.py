"""Plans and their execution, on a kind of object that lives in a dict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from provision.engine import (
    UNKNOWN,
    Action,
    Kind,
    Live,
    Ref,
    RefusedError,
    Resource,
    Spec,
    Text,
    destroy,
    differences,
    execute,
    observe,
    plan,
)


@dataclass
class World:
    """Objects by name, and the calls that changed them, of which one, fails_at, is interrupted."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    fails_at: int = -1

    def write(self, call: str) -> None:
        if len(self.calls) == self.fails_at:
            raise InterruptedError(call)
        self.calls.append(call)


@dataclass
class Thing(Kind):
    world: World
    label = "thing"
    immutable = frozenset({"Place"})
    write_only = frozenset({"Secret"})

    def find(self, spec: Spec) -> Live | None:
        values = self.world.objects.get(spec["Name"])
        if values is None:
            return None
        return Live(values, {"id": f"id-of-{spec['Name']}"}, not values.get("Foreign"))

    def create(self, spec: Spec) -> Live:
        self.world.write(f"create {spec['Name']}")
        self.world.objects[spec["Name"]] = {key: spec[key] for key in spec if key != "Secret"}
        return self.found(spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        self.world.write(f"update {spec['Name']} {'+'.join(sorted(changed))}")
        self.world.objects[spec["Name"]] |= {key: spec[key] for key in changed}
        return self.found(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        self.world.write(f"delete {spec['Name']}")
        self.world.objects.pop(spec["Name"], None)

    def pause(self, live: Live, spec: Spec) -> None:
        self.world.write(f"pause {spec['Name']}")
        self.world.objects[spec["Name"]]["State"] = "stopped"

    def found(self, spec: Spec) -> Live:
        live = self.find(spec)
        assert live is not None
        return live


class Retained(Thing):
    is_retained = True
    why_not_replaced = "rows would be lost"


def chain_in(world: World) -> list[Resource]:
    thing = Thing(world)
    return [
        Resource("bucket", Retained(world), {"Name": "bucket", "Place": "here", "Rules": [1, 2]}),
        Resource("role", thing, {"Name": "role", "Policy": {"Allow": Text("{}/*", (Ref("bucket", "id"),))}}),
        Resource(
            "task",
            thing,
            {"Name": "task", "Role": Ref("role", "id"), "Secret": "s", "Place": "a"},
            pauses="run",
        ),
        Resource("run", thing, {"Name": "run", "Task": Ref("task", "id"), "State": "running"}),
    ]


def silent(event: str, step: Any, seconds: float) -> None:
    pass


def apply(world: World) -> None:
    chain = chain_in(world)
    observed = observe(chain)
    execute(chain, plan(chain, observed), observed, silent)


def actions(world: World) -> list[str]:
    chain = chain_in(world)
    return [str(step.action) for step in plan(chain, observe(chain))]


def test_empty_world_is_created_in_order_and_then_kept() -> None:
    world = World()
    assert actions(world) == ["create"] * 4

    apply(world)

    assert world.calls == ["create bucket", "create role", "create task", "create run"]
    assert world.objects["role"]["Policy"] == {"Allow": "id-of-bucket/*"}
    assert actions(world) == ["keep"] * 4


def test_drift_is_corrected_key_by_key_and_what_others_added_is_left() -> None:
    world = World()
    apply(world)
    world.objects["role"]["Policy"] = {"Allow": "everything", "Added": "by hand"}
    chain = chain_in(world)
    [step] = [step for step in plan(chain, observe(chain)) if step.is_work]

    assert (step.resource.name, step.action) == ("role", Action.UPDATE)
    assert [(change.path, change.old, change.new) for change in step.changes] == [
        ("Policy.Allow", "everything", "id-of-bucket/*")
    ]


def test_update_pauses_what_depends_on_it_and_the_next_plan_lets_it_run_again() -> None:
    world = World()
    apply(world)
    world.calls.clear()
    world.objects["task"]["Role"] = "another"

    apply(world)

    assert world.calls == ["pause run", "update task Role"]
    assert actions(world) == ["keep", "keep", "keep", "update"]


def test_change_of_an_immutable_key_replaces_or_is_refused() -> None:
    world = World()
    apply(world)
    world.calls.clear()
    world.objects["task"]["Place"] = "b"
    assert actions(world) == ["keep", "keep", "replace", "keep"]
    apply(world)
    assert world.calls == ["pause run", "delete task", "create task"]

    world.objects["bucket"]["Place"] = "there"
    world.calls.clear()
    with pytest.raises(RefusedError, match="bucket: rows would be lost"):
        apply(world)
    assert world.calls == []


def test_foreign_object_is_reported_and_never_touched() -> None:
    world = World({"role": {"Name": "role", "Policy": {"Allow": "x"}, "Foreign": True}})
    assert actions(world)[1] == "foreign"

    apply(world)
    chain = chain_in(world)
    destroy(chain, observe(chain), silent)

    assert not [call for call in world.calls if "role" in call]


def test_write_only_key_is_no_part_of_a_diff() -> None:
    world = World()
    apply(world)

    assert "Secret" not in world.objects["task"]
    assert actions(world)[2] == "keep"


@pytest.mark.parametrize("fails_at", range(4))
def test_interrupted_run_is_repaired_by_the_next(fails_at: int) -> None:
    world = World(fails_at=fails_at)
    with pytest.raises(InterruptedError):
        apply(world)
    world.fails_at = -1
    apply(world)

    assert actions(world) == ["keep"] * 4
    assert len(world.calls) == 4


def test_destroy_goes_backwards_and_keeps_what_is_retained() -> None:
    world = World()
    apply(world)
    world.calls.clear()
    chain = chain_in(world)
    destroy(chain, observe(chain), silent)

    assert world.calls == ["delete run", "delete task", "delete role"]
    assert list(world.objects) == ["bucket"]


def test_ref_to_what_is_not_there_yet_is_unknown_and_a_change() -> None:
    world = World()
    apply(world)
    del world.objects["bucket"]
    chain = chain_in(world)
    step = plan(chain, observe(chain))[1]

    assert [(change.path, change.new) for change in step.changes] == [("Policy.Allow", UNKNOWN)]
    assert repr(UNKNOWN) == "(known after apply)"


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("task", "role"), "task refers to role, which is not above it"),
        (("bucket", "bucket"), "bucket is in the chain twice"),
    ],
)
def test_chain_out_of_order_is_refused(names: tuple[str, str], fault: str) -> None:
    by_name = {resource.name: resource for resource in chain_in(World())}
    with pytest.raises(ValueError, match=fault):
        observe([by_name[name] for name in names])


@pytest.mark.parametrize(
    ("wanted", "found", "paths"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}}, ["a.b"]),
        ({"a": {"b": 1}}, {}, ["a"]),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a"]),
        ({"a": None}, {}, []),
        ({"a": UNKNOWN}, {"a": UNKNOWN}, ["a"]),
    ],
)
def test_differences_name_the_keys_that_are_not_as_wanted(wanted: Any, found: Any, paths: list[str]) -> None:
    assert [change.path for change in differences(wanted, found)] == paths
