"""The whole chain on this machine, handled as one on AWS: resharded, throttled, stopped, reloaded."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest

ROOT = Path(__file__).parent.parent
SECONDS = 60.0


class Chain:
    """python -m local_run --forever, and the environment that it offers to other terminals."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "local_run", "--forever", "--format", "json", "--rate", "150"]
        self.process = subprocess.Popen(
            [*command, "--poll-seconds", "0.1", "--folder", str(folder), *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.wait(lambda: self.status("workload").get("changes", 0) > 50, "the first changes")

    def wait(self, is_so: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not is_so():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, f"not within {SECONDS:.0f} s: {what}"
            time.sleep(0.05)

    def status(self, part: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / "status" / f"{part}.json").read_bytes()))
        except (OSError, ValueError):
            return {}

    def wait_for_rows(self, more: int = 200) -> None:
        """Until so many further rows have landed."""
        landed = self.status("event_source_mapping").get("rows", 0)
        self.wait(lambda: self.status("event_source_mapping").get("rows", 0) > landed + more, "more rows")

    @property
    def environment(self) -> dict[str, str]:
        lines = (self.folder / "environment").read_text().splitlines()
        words = [word for line in lines for word in shlex.split(line, comments=True)]
        return dict(word.split("=", 1) for word in words if "=" in word)

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.environment["AWS_ENDPOINT_URL"])

    def setup_dms(self, *words: str) -> str:
        """What the verb prints."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "setup_dms.py"), *words],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def sql(self, statements: str) -> None:
        keys = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password"}
        found = {name: self.environment[key] for key, name in keys.items()}
        with closing(psycopg2.connect(**found, dbname=self.environment["PGDATABASE"])) as connection:
            connection.autocommit = True
            connection.cursor().execute(statements)

    def fault(self, faults: dict[str, Any]) -> None:
        url = f"{self.environment['AWS_ENDPOINT_URL']}/_emulated-aws/faults"
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(faults).encode()), timeout=10).close()

    def end(self) -> dict[str, Any]:
        """The summary, of a run that ends well."""
        self.process.send_signal(signal.SIGTERM)
        told, complaints = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, complaints + told
        return dict(json.loads(told))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Chain]]:
    chains: list[Chain] = []

    def started(*options: str) -> Chain:
        chains.append(Chain(tmp_path / "run", *options))
        return chains[-1]

    yield started
    for chain in chains:
        chain.process.kill()
        chain.process.communicate()


def test_a_stream_that_is_split_and_merged_and_throttled_loses_nothing(start: Callable[..., Chain]) -> None:
    """Closed shards end, their children follow them; some records of each request are refused meanwhile."""
    chain = start()
    kinesis = chain.client("kinesis")

    def settled() -> bool:
        summary = kinesis.describe_stream_summary(StreamName="lending-stream")["StreamDescriptionSummary"]
        return bool(summary["StreamStatus"] == "ACTIVE")

    kinesis.split_shard(
        StreamName="lending-stream", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127)
    )
    chain.wait(settled, "the split")
    chain.wait_for_rows()
    chain.fault({"put_records": {"every": 7, "code": "ProvisionedThroughputExceededException"}})
    chain.wait_for_rows()
    kinesis.merge_shards(
        StreamName="lending-stream",
        ShardToMerge="shardId-000000000001",
        AdjacentShardToMerge="shardId-000000000002",
    )
    chain.wait(settled, "the merge")
    chain.wait_for_rows()
    chain.fault({})

    summary = chain.end()
    assert summary["is_exact"] is True
    logs = [path.read_text().splitlines() for path in (chain.folder / "logs").glob("function-*.log")]
    shards = {line["shard_id"] for log in logs for line in map(json.loads, log) if line.get("rows")}
    assert shards == {f"shardId-00000000000{number}" for number in range(4)}


def test_a_task_that_is_stopped_resumed_and_reloaded_loses_nothing(start: Callable[..., Chain]) -> None:
    """Through setup_dms.py, as on AWS; while it rests, changes go on, and a new table waits for apply."""
    chain = start()
    assert "public.payment" in chain.setup_dms("status")
    chain.setup_dms("stop", "--yes")
    landed, committed = (chain.status(part) for part in ("event_source_mapping", "workload"))
    chain.sql("CREATE TABLE visit (id int PRIMARY KEY); INSERT INTO visit SELECT generate_series(1, 10)")
    chain.wait(lambda: chain.status("workload")["changes"] > committed["changes"] + 200, "changes")
    assert chain.status("event_source_mapping")["rows"] - landed["rows"] < 100
    chain.setup_dms("resume", "--yes")
    chain.wait_for_rows()

    chain.setup_dms("apply", "--yes")
    chain.sql("INSERT INTO visit VALUES (11)")
    chain.setup_dms("reload", "public.client", "--yes")
    chain.wait_for_rows()

    summary = chain.end()
    assert summary["is_exact"] is True
    tables = summary["verdict"]["tables"]
    assert sum(tables["public.visit"]["landed"].values()) == 11
    assert tables["public.client"]["generations"] == 2


@pytest.mark.skipif(not os.environ.get("SOAK"), reason="make soak runs it")
def test_a_task_started_anew_loads_all_tables_with_a_new_slot(start: Callable[..., Chain]) -> None:
    chain = start()
    chain.setup_dms("reload", "--all", "--yes")
    chain.wait_for_rows(7000)
    summary = chain.end()
    assert summary["is_exact"] is True
    assert [one["generations"] for one in summary["verdict"]["tables"].values()] == [2, 2, 2]
