"""A part of the chain: a process with a log and a status file, that ends with the process that started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

WAIT_SECONDS = 0.1
ROOT = Path(__file__).parent.parent
LAST_WORDS = 600  # characters
COUNTS = (  # of the status files: they only grow, and begin anew with a new process
    *("records", "changes", "loaded", "invocations", "errors", "rows", "objects", "given_up"),
    "function_cpu_seconds",
)
# Waits for the end of its standard input, a pipe, then ends the group of $1.
WATCH = (
    'read -r _; kill -TERM "-$1" 2>/dev/null; n=0; '
    'while kill -0 "-$1" 2>/dev/null; do n=$((n+1)); [ $n -eq 100 ] && kill -KILL "-$1"; sleep 0.1; done'
)


@dataclass
class Part:
    """name: of its log, and of its status file if it has one. What it counts is summed over its restarts."""

    name: str
    command: list[str]
    folder: Path  # of the run
    environment: Mapping[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    watch: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    is_wanted: bool = False  # started, and not asked to end
    seen: dict[str, Any] = field(default_factory=dict)  # the last status of this process
    former: dict[str, float] = field(default_factory=dict)  # what ended processes have counted
    cpu_seen: float = 0.0
    cpu_former: float = 0.0

    @property
    def log(self) -> Path:
        return self.folder / "logs" / f"{self.name}.log"

    def start(self) -> None:
        """Starts it, in a session of its own: Ctrl-C is for this process, which stops the parts in turn."""
        self.settle()
        path = os.pathsep.join(filter(None, [str(ROOT), self.environment.get("PYTHONPATH")]))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**self.environment, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.watch = subprocess.Popen(
            ["/bin/sh", "-c", WATCH, "watch", str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.is_wanted = True

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def has_ended_unasked(self) -> bool:
        return self.is_wanted and self.process is not None and self.process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        return self.process.poll() if self.process else None

    def stop(self, seconds: Callable[[], float]) -> bool:
        """Ends it in order, or by force after that time, which may become less. False: it took force."""
        self.is_wanted = False
        if self.process is None:
            return True
        self.look()
        self.process.terminate()
        asked = time.monotonic()
        while self.finish(WAIT_SECONDS) is None:
            if time.monotonic() > asked + seconds():
                self.kill()
                return False
        self.look()
        return True

    def kill(self) -> None:
        """Ends it as a crash would: nothing is told to it."""
        self.is_wanted = False
        self.dismiss_watch()
        if self.process is not None:
            self.look()
            self.process.kill()
            self.process.wait()

    def dismiss_watch(self) -> None:
        if self.watch is not None:
            self.watch.kill()
            self.watch.communicate()
            self.watch = None

    def finish(self, seconds: float) -> int | None:
        """The exit code, when it ends by itself within that time; else None."""
        if self.process is None:
            return None
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self.is_wanted = False
        self.dismiss_watch()
        return code

    # What it tells of itself ------------------------------------------------------------------------------

    def look(self) -> dict[str, Any]:
        """Its status, as it wrote it last; empty while this process has not written any."""
        if self.process is None:
            return {}
        with suppress(OSError, ValueError):
            status = json.loads((self.folder / "status" / f"{self.name}.json").read_bytes())
            if status.get("pid") == self.process.pid:
                self.keep_counts(status)
                self.seen = status
        self.cpu_seen = max(
            self.cpu_seen, cpu_seconds(self.process.pid), float(self.seen.get("cpu_seconds") or 0)
        )
        return self.seen

    def keep_counts(self, status: Mapping[str, Any]) -> None:
        """A count that has gone down has begun anew: what it was before stays counted."""
        for key in COUNTS:
            if number(status.get(key)) < (before := number(self.seen.get(key))):
                self.former[key] = self.former.get(key, 0) + before

    def total(self, key: str) -> float:
        """A count of its status, over all of its processes."""
        return self.former.get(key, 0) + number(self.seen.get(key))

    @property
    def cpu_seconds(self) -> float:
        return self.cpu_former + self.cpu_seen

    def settle(self) -> None:
        """Adds what the ended process has counted to the former ones'."""
        self.dismiss_watch()
        self.keep_counts({})
        self.cpu_former += self.cpu_seen
        self.seen, self.cpu_seen = {}, 0.0

    def last_words(self) -> str:
        """Why it ended, in a line: its last error, or else its last line."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        _, is_error, words = f"\n{text}".rpartition("\nerror:")
        if not is_error:
            words = (text.strip().splitlines() or ["it said nothing"])[-1]
        return " ".join(words.split())[:LAST_WORDS]


def python_part(name: str, folder: Path, environment: Mapping[str, str], *arguments: str) -> Part:
    """The part that is the module local_run.{name}; it ends with this process by itself, too."""
    command = [sys.executable, "-m", f"local_run.{name}", *arguments, "--parent", str(os.getpid())]
    return Part(name, command, folder, environment)


def number(value: Any) -> float:
    return value if isinstance(value, (int, float)) else 0


def cpu_seconds(pid: int) -> float:
    """Of the process alone; 0 when it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def tree_cpu_seconds(pid: int) -> float:
    """Of the process, of those below it, and, where the system counts them, of those that have ended."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        below = process.children(recursive=True)
    except psutil.Error:
        return 0.0
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + ended) + sum(cpu_seconds(child.pid) for child in below)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and what it has started."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
