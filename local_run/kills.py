"""Kills parts of a running machine, as crashes would, and starts them again: nothing may be lost by it."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import psutil  # type: ignore[import-untyped]

from local_run.machine import Machine
from local_run.part import tree_cpu_seconds
from local_run.postgres import PostgresError
from local_run.surroundings import LocalRunError

RESTART_SECONDS = 30.0  # of a killed PostgreSQL, whose processes end first
RETRY_SECONDS = 0.1
Target = Literal["function", "replication", "event_source_mapping", "PostgreSQL"]


class Killer:
    """Kills one part of the machine about every so many seconds, all of them in turn. None: never."""

    def __init__(self, machine: Machine, every_seconds: float | None, seed: int) -> None:
        self.machine = machine
        self.every_seconds = every_seconds
        self.random = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.coming = self.targets()
        self.next_kill = float("inf") if every_seconds is None else time.monotonic() + every_seconds

    def kill_when_due(self) -> None:
        if self.every_seconds is None or time.monotonic() < self.next_kill:
            return
        target = next(self.coming)
        self.kills[target] += self.kill(target)
        self.next_kill = time.monotonic() + self.every_seconds * self.random.uniform(0.5, 1.5)

    def targets(self) -> Iterator[Target]:
        """Round after round, each in another order; a database that is not ours is not killed."""
        every: list[Target] = ["function", "replication", "event_source_mapping"]
        every += ["PostgreSQL"] if self.machine.server else []
        while True:
            self.random.shuffle(every)
            yield from list(every)

    def kill(self, target: Target) -> bool:
        """SIGKILL, and a new start. False: there was nothing to kill."""
        if target == "PostgreSQL":
            return self.kill_postgres()
        if target == "function":
            return self.kill_function()
        self.machine.parts[target].kill()
        self.machine.parts[target].start()
        return True

    def kill_function(self) -> bool:
        """The poller starts another one by itself."""
        part = self.machine.parts["event_source_mapping"]
        named = part.look().get("function_pids") or []
        with suppress(psutil.Error, OSError):
            assert part.process is not None
            below = {child.pid for child in psutil.Process(part.process.pid).children(recursive=True)}
            if found := [pid for pid in named if pid in below]:
                os.kill(self.random.choice(found), signal.SIGKILL)
                return True
        return False

    def kill_postgres(self) -> bool:
        server = self.machine.server
        assert server is not None and server.process is not None
        self.machine.postgres_cpu_former += tree_cpu_seconds(server.process.pid)
        server.process.kill()
        server.process.wait()
        server.stop()
        deadline = time.monotonic() + RESTART_SECONDS
        while True:
            try:
                server.start()
                return True
            except PostgresError as error:  # what is left of it still holds its memory
                if time.monotonic() > deadline:
                    raise LocalRunError(f"killed, PostgreSQL did not start again: {error}") from error
                time.sleep(RETRY_SECONDS)
