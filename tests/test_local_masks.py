"""A masked chain on this machine, from setup_dms.py to the rows; and a person erased by README's commands."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from test_local_chain import ROOT, SECONDS, Chain

MASKS = "public.client.email=sha256,public.client.name=drop,public.loan.amount=null"
KEY = "correct-horse-battery-staple"
HASH_OF_CLIENT_7 = "eab96a4113ddcf75da70240385cf184ac5827fe73c445249bc3c6dc9cc504ce5"


class Run(Chain):
    """A run that goes on until it is ended; ready when the tables are loaded."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "local_run", "--forever", "--format", "json"]
        self.process = subprocess.Popen(
            [*command, "--poll-seconds", "0.1", "--folder", str(folder), *options],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.wait(lambda: self.status("event_source_mapping").get("rows", 0) >= 6500, "the load")

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Unzipped, by key."""
        s3, found = self.client("s3"), {}
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket="lending-local", Prefix=prefix):
            for one in page.get("Contents", []):
                body = s3.get_object(Bucket="lending-local", Key=one["Key"])["Body"].read()
                found[one["Key"]] = gzip.decompress(body) if one["Key"].endswith(".gz") else body
        return found

    def told(self) -> dict[str, Any]:
        """The summary, whatever it says."""
        self.process.send_signal(signal.SIGTERM)
        told, complaints = self.process.communicate(timeout=SECONDS)
        assert told, complaints
        return dict(json.loads(told))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def started(*options: str, **variables: str) -> Run:
        runs.append(Run(tmp_path / "run", *options, **variables))
        return runs[-1]

    yield started
    for run in runs:
        run.process.kill()
        run.process.communicate()


def test_a_masked_chain_shows_its_masked_columns_to_nobody(start: Callable[..., Run]) -> None:
    run = start("--rate", "100", "--masked-columns", MASKS, MASK_SECRET=KEY)
    run.wait_for_rows()
    run.client("kinesis").put_record(
        StreamName="lending-stream", PartitionKey="1", Data=b'{"data":{"email":"client7@example.org"}'
    )
    run.wait(lambda: run.objects("quarantine/"), "the poison record")

    assert "Nothing to do" in run.setup_dms("plan")
    rows = [json.loads(line) for body in run.objects("changes/").values() for line in body.splitlines()]
    clients = [row for row in rows if "email" in row and row["cdc_operation"] != "delete"]
    assert len(clients) > 500
    assert {row["email"] for row in clients if row["id"] == 7 and row["cdc_operation"] == "load"} == {
        HASH_OF_CLIENT_7
    }
    assert not any("name" in row for row in rows)
    assert {row["amount"] for row in rows if "opened_on" in row} == {None}
    assert not any(b"@example.org" in body for body in run.objects("changes/").values())
    assert [key.rpartition("cdc_date=")[0] for key in run.objects("quarantine/")] == [
        "quarantine/restricted/"
    ]

    summary = run.told()
    assert summary["verdict"]["faults"] == ["quarantined records: 1"]
    logs = "".join(file.read_text(errors="replace") for file in (run.folder / "logs").iterdir())
    assert KEY not in logs + json.dumps(summary)
    assert "@example.org" not in logs


# --------------------------------------------------------------------------------------------------------
# Erasing a person
# --------------------------------------------------------------------------------------------------------

RUNBOOK = (ROOT / "README.md").read_text().partition("**Erasing a person.**")[2].partition("\n**")[0]
FIND, REWRITE, PARQUET, PARQUET_ALONE, VERSIONS, LOOK_AGAIN = [
    textwrap.dedent(block) for block in re.findall(r"```bash\n(.*?)```", RUNBOOK, re.DOTALL)
]
PERSON = b"client7@example.org"
HISTORY = (
    "UPDATE loan SET client_id = 8 WHERE client_id = 7",
    "UPDATE client SET name = 'Lin' WHERE id IN (7, 8)",
    "UPDATE client SET id = 7007 WHERE id = 7",
    "DELETE FROM client WHERE id = 7007",
)
LOADED, CHANGED, OF_PERSON = 500, 4, 3  # rows of client; of the person all but the last one, of key 7007


class Shell:
    """A terminal of the run, in a folder with the programs; python and aws are those of the tests."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("lake.py", "lake_tools", "lambda_function.py", "provision"):
            (folder / name).symlink_to(ROOT / name)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        known = {"XDG_CACHE_HOME": str(folder / "cache"), "S3_PREFIX": "", "PATH": path}
        self.environment = {**os.environ, **known, **run.environment}

    def __call__(self, commands: str, **variables: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


def lines_in(run: Run, folder: str) -> list[bytes]:
    return [line for body in run.objects(folder).values() for line in body.splitlines()]


def payloads(run: Run) -> list[bytes]:
    return sorted(b64decode(json.loads(line)["cdc_payload"]) for line in lines_in(run, "quarantine/"))


def versions_with(run: Run, text: bytes) -> list[str]:
    """Keys of which some version, the newest or not, holds the text; of Parquet it is not looked into."""
    s3, found = run.client("s3"), []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket="lending-local"):
        for one in page.get("Versions", []):
            where = {"Bucket": "lending-local", "Key": one["Key"], "VersionId": one["VersionId"]}
            body = s3.get_object(**where)["Body"].read()
            body = gzip.decompress(body) if one["Key"].endswith(".gz") else body
            set_aside = [b64decode(payload) for payload in re.findall(rb'"cdc_payload":"([^"]*)"', body)]
            if one["Key"].endswith("/changes.parquet") or any(text in part for part in (body, *set_aside)):
                found.append(one["Key"])
    return found


def hours_of(run: Run) -> dict[str, bytes]:
    """The Parquet objects; what else is in their folder are the columns' names."""
    found = run.objects("parquet/public/client/")
    return {key: body for key, body in found.items() if key.endswith("/changes.parquet")}


def parquet_of(run: Run) -> dict[str, tuple[set[str], str]]:
    """By key: the e-mail addresses in it, and what it says of its inputs."""
    found = {}
    for key, body in hours_of(run).items():
        file = run.folder / "read.parquet"
        file.write_bytes(body)
        emails = duckdb.execute(f"SELECT DISTINCT email FROM '{file}' WHERE email IS NOT NULL").fetchall()
        metadata = (
            f"SELECT CAST(value AS BLOB) FROM parquet_kv_metadata('{file}') WHERE key = 'cdc_inputs'::BLOB"
        )
        ((inputs,),) = duckdb.execute(metadata).fetchall()
        found[key] = ({email for (email,) in emails}, inputs.decode())
    return found


def test_a_person_is_erased_by_the_commands_of_the_readme(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start("--no-workload")
    shell = Shell(run, tmp_path / "shell")
    for statement in HISTORY:
        run.sql(statement)
    poison = b'{"data":{"email":"client7@example.org"}'
    for data in (poison, b"of nobody"):
        run.client("kinesis").put_record(StreamName="lending-stream", PartitionKey="7", Data=data)
    run.wait(lambda: payloads(run) == [b"of nobody", poison], "the poison records")
    run.wait(lambda: len(lines_in(run, "changes/public/client/")) == LOADED + CHANGED, "the changes")
    shell("python lake.py compact client --all")
    before = parquet_of(run)
    assert any(PERSON.decode() in emails for emails, _ in before.values())
    folders = {key.partition("/")[0] for key in versions_with(run, PERSON)}
    assert folders == {"changes", "parquet", "quarantine"}

    found = [json.loads(line) for line in shell(FIND).splitlines()]
    assert [(row["cdc_operation"], row["email"]) for row in found] == [
        ("load", PERSON.decode()),
        ("update", PERSON.decode()),
    ]
    assert all(row["cdc_shard_id"] and row["cdc_sequence_number"] for row in found)

    shell("mkdir erase")
    for key in before:
        shell(PARQUET_ALONE, key=key)
    alone = parquet_of(run)
    assert {key: inputs for key, (_, inputs) in alone.items()} == {
        key: one for key, (_, one) in before.items()
    }
    assert not any(PERSON.decode() in emails for emails, _ in alone.values())
    assert sum(len(emails) for emails, _ in alone.values()) >= LOADED - 1

    for commands in (REWRITE, PARQUET, VERSIONS):
        shell(commands)
    assert versions_with(run, PERSON) == []
    assert hours_of(run) == {}  # the hour is not over
    assert len(lines_in(run, "changes/public/client/")) == LOADED + CHANGED - OF_PERSON
    assert payloads(run) == [b"of nobody"]
    shell("python lake.py compact client --all")
    assert not any(PERSON.decode() in emails for emails, _ in parquet_of(run).values())

    *rows, table, verdict = shell(LOOK_AGAIN).splitlines()
    assert rows[:-1] == []
    assert table.split() == ["public.client", "499", "499", "identical"]
    assert verdict.startswith("identical")
    assert not (shell.folder / "erase").exists()
