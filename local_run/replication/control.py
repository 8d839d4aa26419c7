"""What passes between the DMS service and its replication instance: orders to the task, reports from it.

No client of AWS sees this; the emulated AWS has it beside its API (see local_run/aws.py). A thread looks for
orders and hands in reports, so that a task that is busy can be told to stop.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from local_run.whole_file import write_whole

ORDER_SECONDS = 0.25  # how soon an order is seen
STATUS_SECONDS = 0.2
REQUEST_SECONDS = 10.0


class Orders(msgspec.Struct, frozen=True):
    """What AWS wants of the task."""

    class Reload(msgspec.Struct, frozen=True):
        number: int
        schema: str
        table: str

    status: str
    run: int
    start_type: str | None = None
    reloads: tuple[Reload, ...] = ()


class Control:
    """Of one task; report() says what to tell AWS, status() what to tell who watches this process."""

    def __init__(
        self,
        url: str,
        task_arn: str,
        status_file: Path,
        report: Callable[[], dict[str, Any]],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self.address = f"{url.rstrip('/')}/_emulated-aws/task?arn={quote(task_arn, safe='')}"
        self.status_file = status_file
        self.report = report
        self.status = status
        self.orders = Orders("ready", 0)
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self) -> Control:
        self.exchange()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        self.write_status()

    def work(self) -> None:
        next_orders = 0.0
        while not self.ended.wait(STATUS_SECONDS):
            self.write_status()
            if time.monotonic() >= next_orders:
                self.exchange()
                next_orders = time.monotonic() + ORDER_SECONDS

    def exchange(self) -> None:
        """Hands in the report and takes the orders; an AWS that does not answer is asked again later."""
        with self.lock:
            try:
                self.send(self.report())
                self.orders = msgspec.json.decode(self.request(None), type=Orders)
            except (urllib.error.URLError, OSError):
                return

    def send(self, report: dict[str, Any]) -> None:
        if report["status"] != "ready":  # else there is nothing to say yet
            self.request(msgspec.json.encode(report))

    def request(self, body: bytes | None) -> bytes:
        request = urllib.request.Request(self.address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
            return bytes(answer.read())

    def write_status(self) -> None:
        status = {"pid": os.getpid(), "cpu_seconds": time.process_time(), **self.status()}
        with contextlib.suppress(OSError):  # a full disk; orders go on to be read
            write_whole(self.status_file, msgspec.json.encode(status))
