"""CPU time of candidates: each in a process of its own, as on Lambda, and all of them asked in turn."""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import peers

WARM_UP_CALLS = 2


@dataclass(frozen=True)
class Work:
    """A candidate and the JSON text of the event that it gets; endpoint is that of an S3, None for a sink."""

    candidate: str
    event_text: str
    endpoint: str | None = None


@dataclass(frozen=True)
class Times:
    """CPU microseconds a record, one figure a round; a round of one work is next to that of the others."""

    handler: list[float]  # the candidate itself
    event: list[float]  # what Lambda's runtime spends on json.loads before it calls

    @property
    def median(self) -> float:
        return statistics.median(self.handler)


def ratio(numerator: Times, denominator: Times) -> float:
    """The median of the ratios within each round: what the machine does meanwhile meets both."""
    return statistics.median(n / d for n, d in zip(numerator.handler, denominator.handler, strict=True))


def measure(works: Mapping[str, Work], rounds: int) -> dict[str, Times]:
    """The times of each work, which are done in turn, rounds times."""
    context = get_context("spawn")
    processes, connections = [], {}
    for name, work in works.items():
        connections[name], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs, work), daemon=True))
        processes[-1].start()
    try:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for number in range(rounds + WARM_UP_CALLS):
            for name, connection in connections.items():
                connection.send(f"round={number}/")
                times = connection.recv()
                if number >= WARM_UP_CALLS:
                    found[name].append(times)
    finally:
        for process in processes:
            process.terminate()
    return {
        name: Times([ours for ours, _ in times], [loads for _, loads in times])
        for name, times in found.items()
    }


def serve(connection: Connection, work: Work) -> None:
    """Does the work once for each prefix that it receives, and answers with the two times."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (the handler's log; it belongs to the whole process)
    run = peers.CANDIDATES[work.candidate]
    client = s3_client(work.endpoint) if work.endpoint else None
    small_event = json.loads(work.event_text)
    small_event["Records"] = small_event["Records"][:1]
    run(small_event, client or peers.Sink(), "imports/")
    del small_event
    while prefix := connection.recv():
        started = time.process_time()
        event: Any = json.loads(work.event_text)
        parsed = time.process_time()
        gc.collect()
        begun = time.process_time()
        run(event, client or peers.Sink(), prefix)
        ended = time.process_time()
        records = len(event["Records"]) / 1e6
        del event
        connection.send(((ended - begun) / records, (parsed - started) / records))


def s3_client(endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
    )
