"""A pipeline as a verb works on it: its settings, its account, the code of its function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from provision import engine
from provision.aws import Account
from provision.chain import declare
from provision.engine import ProvisionError, Resource
from provision.kinds import dms
from provision.settings import Settings
from provision.surroundings import Surroundings


@dataclass(frozen=True)
class Pipeline:
    settings: Settings
    account: Account
    code: Callable[[], bytes]  # gives the function's zip

    def chain(self, around: Surroundings, everything: bool = False) -> list[Resource]:
        return declare(self.settings, around, self.account, self.code, everything)

    def task(self) -> tuple[dms.Task, dict[str, Any], engine.Live]:
        """The task as it is. Raises ProvisionError when there is none."""
        kind = dms.Task(self.account)
        spec = {kind.identifier: self.account.name("task")}
        live = kind.find(spec)
        if live is None or not live.is_ours:
            raise ProvisionError(
                f"there is no replication task {spec[kind.identifier]!r} of this pipeline in "
                f"{self.account.region}: python setup_dms.py apply makes it"
            )
        return kind, spec, live
