"""The built zip under AWS's own runtime client, as Lambda runs it; S3 is moto's, or one that fails."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from events import FIRST_SEQUENCE, envelope, event, rows

from local_run.runtime import (
    FUNCTION_ARN,
    PAYLOAD_BYTES,
    ExecutionEnvironment,
    Function,
    Invocation,
    RuntimeApi,
    link_runtime,
)

ROOT = Path(__file__).parents[1]
HANDLER = "lambda_function.lambda_handler"
BUCKET = "landing"
KEY = (
    "changes/public/client/cdc_date=2026-03-01/cdc_hour=09/"
    "shardId-000000000000-49661234567890123456789012345678901234567890123456000002.jsonl.gz"
)
FULL_SECONDS = 120  # the function's timeout as README has it
SHORT_SECONDS = 17  # the handler wants 10 s left before its first PUT; loading boto3 takes part of the rest

PROBE = """
import sys
import threading

import lambda_function


def handler(event, context):
    if event != "report":
        return lambda_function.lambda_handler(event, context)
    return {
        "threads": threading.active_count(),
        "clients": lambda_function.s3_client.cache_info().misses,
        "files": [sys.modules[name].__file__ for name in ("lambda_function", "msgspec", "isal", "boto3")],
    }
"""

Start = Callable[..., ExecutionEnvironment]


@pytest.fixture(scope="module")
def lambda_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    for name in ("deploy.sh", "lambda_function.py", "requirements-lambda.txt"):
        shutil.copy(ROOT / name, tree)
    command = [str(tree / "deploy.sh"), "--build-only", "--arch", "local"]
    subprocess.run(command, env={**os.environ, "PYTHON": sys.executable}, check=True)
    return tree / "build/lambda.zip"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_runtime(tmp_path_factory.mktemp("runtime"))


@pytest.fixture
def code(lambda_zip: Path, tmp_path: Path) -> Path:
    """The zip, unpacked, and a probe beside it."""
    folder = tmp_path.resolve() / "task"
    with zipfile.ZipFile(lambda_zip) as archive:
        archive.extractall(folder)
    (folder / "probe.py").write_text(PROBE)
    return folder


@pytest.fixture
def s3(moto_url: str) -> Iterator[Any]:
    """A client of moto's S3 with the empty bucket BUCKET."""
    urllib.request.urlopen(f"{moto_url}/moto-api/reset", data=b"").close()
    client = boto3.client("s3", endpoint_url=moto_url)
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield client
    client.close()


@pytest.fixture
def start(code: Path, runtime: Path, moto_url: str) -> Start:
    """Starts the handler: start(ON_POISON="stop"), or another one of the same folder."""

    def started(handler: str = HANDLER, **variables: str) -> ExecutionEnvironment:
        own = {"S3_BUCKET": BUCKET, "AWS_ENDPOINT_URL_S3": moto_url, **variables}
        return ExecutionEnvironment(code, Function(handler, own), runtime)

    return started


def test_zip_runs_from_its_own_modules(code: Path, runtime: Path, s3: Any, start: Start) -> None:
    with start("probe.handler") as environment:
        environment.invoke(event(envelope()), timeout_seconds=FULL_SECONDS)
        report = environment.invoke("report", timeout_seconds=FULL_SECONDS)
    assert report.payload["files"] == [
        f"{code}/lambda_function.py",
        f"{code}/msgspec/__init__.py",
        f"{code}/isal/__init__.py",
        f"{runtime}/boto3/__init__.py",
    ]


def test_batch_lands_and_is_acknowledged(s3: Any, start: Start) -> None:
    batch = event(envelope({"id": 7, "name": "Ada"}), envelope({"id": 8, "name": "Lin"}))
    with start() as environment:
        outcome = environment.invoke(batch, timeout_seconds=FULL_SECONDS)
    assert (outcome.kind, outcome.payload) == ("response", {"batchItemFailures": []})
    assert [(row["id"], row["name"]) for row in rows(s3, BUCKET)] == [(7, "Ada"), (8, "Lin")]


def test_stop_at_a_poison_record_is_a_partial_batch_response(s3: Any, start: Start) -> None:
    batch = event(envelope({"id": 7}), b"not an envelope", envelope({"id": 9}))
    with start(ON_POISON="stop") as environment:
        outcome = environment.invoke(batch, timeout_seconds=FULL_SECONDS)
    stopped_at = "49661234567890123456789012345678901234567890123456000003"
    assert outcome.kind == "response"
    assert outcome.payload == {"batchItemFailures": [{"itemIdentifier": stopped_at}]}
    assert [row["id"] for row in rows(s3, BUCKET)] == [7]


def test_missing_bucket_is_reported_as_aws_reports_errors(s3: Any, start: Start) -> None:
    with start(S3_BUCKET="absent") as environment:
        outcome = environment.invoke(event(envelope()), timeout_seconds=FULL_SECONDS)
    assert outcome.kind == "error"
    assert outcome.payload.keys() == {"errorMessage", "errorType", "requestId", "stackTrace"}
    assert outcome.payload["errorType"] == "UploadError"
    assert outcome.payload["errorMessage"].startswith(f"cannot write s3://absent/{KEY}: NoSuchBucket")
    assert "lambda_function.py" in outcome.payload["stackTrace"][0]


def test_event_of_another_source_is_an_event_error(code: Path, start: Start) -> None:
    with start() as environment:
        outcome = environment.invoke({"Records": [{"eventSource": "aws:s3"}]}, timeout_seconds=FULL_SECONDS)
    assert (outcome.kind, outcome.payload["errorType"]) == ("error", "EventError")
    assert outcome.payload["errorMessage"].startswith("Records[0] is no Kinesis record")
    assert outcome.payload["stackTrace"]
    assert all(f'File "{code}/lambda_function.py"' in frame for frame in outcome.payload["stackTrace"])


@pytest.mark.parametrize("package", ["msgspec", "isal"])
def test_zip_without_a_package_is_an_init_error(package: str, code: Path, start: Start) -> None:
    shutil.rmtree(code / package)
    with start() as environment:
        outcome = environment.invoke(event(envelope()), timeout_seconds=10)
        after = [environment.invoke(event(envelope()), timeout_seconds=10) for _ in range(2)]
    assert (outcome.kind, outcome.payload["errorType"]) == ("init error", "Runtime.ImportModuleError")
    assert outcome.payload["errorMessage"] == (
        f"Unable to import module 'lambda_function': No module named '{package}'"
    )
    assert [(later.kind, later.exit_code) for later in after] == [("exit", 1), ("exit", 1)]


def test_largest_event_lands(s3: Any, start: Start) -> None:
    payload = envelope({"id": 7, "note": "x" * 40_000})
    count = PAYLOAD_BYTES // len(json.dumps(event(payload)["Records"][0]) + ", ")
    batch = event(*[payload] * count)
    assert PAYLOAD_BYTES * 0.99 < len(json.dumps(batch)) <= PAYLOAD_BYTES
    with start() as environment:
        outcome = environment.invoke(batch, timeout_seconds=FULL_SECONDS)
    assert (outcome.kind, outcome.payload) == ("response", {"batchItemFailures": []})
    landed = [int(row["cdc_sequence_number"]) for row in rows(s3, BUCKET)]
    assert landed == list(range(FIRST_SEQUENCE, FIRST_SEQUENCE + count))


def test_second_invocation_reuses_the_client(s3: Any, start: Start) -> None:
    with start("probe.handler") as environment:
        outcomes = [
            environment.invoke(event(envelope(), first=first), timeout_seconds=FULL_SECONDS)
            for first in (FIRST_SEQUENCE, FIRST_SEQUENCE + 1)
        ]
        report = environment.invoke("report", timeout_seconds=FULL_SECONDS)
    assert [outcome.kind for outcome in outcomes] == ["response", "response"]
    assert len(rows(s3, BUCKET)) == 2
    assert report.payload["clients"] == 1


def test_silent_s3_is_an_error_in_time_and_leaves_no_thread(start: Start) -> None:
    batch = event(*[envelope(table_name=name) for name in ("client", "book", "loan", "shelf")])
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, and nobody takes them
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with start("probe.handler", AWS_ENDPOINT_URL_S3=url) as environment:
            outcome = environment.invoke(batch, timeout_seconds=SHORT_SECONDS)
            report = environment.invoke("report", timeout_seconds=10)
    assert (outcome.kind, outcome.payload["errorType"]) == ("error", "UploadError")
    assert outcome.payload["errorMessage"].startswith(f"cannot write s3://{BUCKET}/changes/public/")
    assert report.payload["threads"] == 1


def test_s3_that_never_finishes_its_answer_ends_the_process(start: Start) -> None:
    with dripping_server() as url, start(AWS_ENDPOINT_URL_S3=url) as environment:
        outcome = environment.invoke(event(envelope()), timeout_seconds=SHORT_SECONDS)
        log = environment.log.splitlines()
    assert (outcome.kind, outcome.exit_code) == ("exit", 1)
    assert outcome.seconds < SHORT_SECONDS
    assert json.loads(log[-1])["level"] == "ERROR"
    assert f"s3://{BUCKET}" in json.loads(log[-1])["message"]


@contextmanager
def dripping_server() -> Iterator[str]:
    """Begins every answer and sends a byte of it now and then, so that no timeout of a socket is reached."""
    stopped = threading.Event()

    class Drip(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            try:
                while not stopped.wait(0.2):
                    self.request.sendall(b".")
            except ConnectionError:
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drip) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            stopped.set()
            server.shutdown()
            thread.join()


def test_process_is_killed_at_the_deadline(tmp_path: Path, runtime: Path) -> None:
    (tmp_path / "idle.py").write_text(
        "import threading\n\ndef handler(event, context): threading.Event().wait()\n"
    )
    with ExecutionEnvironment(tmp_path, Function("idle.handler", {}), runtime) as environment:
        outcome = environment.invoke({}, timeout_seconds=1)
        assert outcome.kind == "timeout"
        assert 1 <= outcome.seconds < 5
        assert environment.process.wait(10) == -9


LEAK = """
import os, subprocess, threading, time

def handler(event, context):
    if event == "leak":
        threading.Thread(target=tick, daemon=True).start()
        subprocess.Popen(["sleep", "600"])
    if event == "large":
        return "x" * 6 * 1024 * 1024
    print(event, flush=True)
    return os.path.getsize("ticks") if os.path.exists("ticks") else 0

def tick():
    while True:
        with open("ticks", "a") as ticks:
            ticks.write("x")
        time.sleep(0.001)
"""


@pytest.fixture
def leak(tmp_path: Path, runtime: Path) -> Iterator[ExecutionEnvironment]:
    (tmp_path / "leak.py").write_text(LEAK)
    with ExecutionEnvironment(tmp_path, Function("leak.handler", {}), runtime, tmp_path / "log") as found:
        yield found


def test_environment_is_frozen_until_the_next_event(tmp_path: Path, leak: ExecutionEnvironment) -> None:
    leak.invoke("leak", timeout_seconds=10)
    function, deadline = psutil.Process(leak.process.pid), time.monotonic() + 10
    while function.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
    before = ticks(tmp_path)
    subprocess.run([sys.executable, "-c", "import json"], check=True)  # time for a thread to tick in
    assert ticks(tmp_path) == before
    assert leak.invoke("report", timeout_seconds=10).payload >= before


def ticks(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("ticks"))


def test_environment_ends_with_what_it_has_started(leak: ExecutionEnvironment) -> None:
    leak.invoke("leak", timeout_seconds=10)
    [sleeper] = psutil.Process(leak.process.pid).children()
    leak.close()
    assert leak.has_ended
    psutil.wait_procs([sleeper], timeout=10)
    assert not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE


def test_what_is_printed_goes_to_the_log_and_is_read_line_by_line(
    tmp_path: Path, runtime: Path, leak: ExecutionEnvironment
) -> None:
    leak.invoke("first", timeout_seconds=10)
    assert "first" in leak.new_lines()
    leak.invoke("second", timeout_seconds=10)
    assert [line for line in leak.new_lines() if line in ("first", "second")] == ["second"]
    leak.close()
    with ExecutionEnvironment(tmp_path, Function("leak.handler", {}), runtime, tmp_path / "log") as other:
        other.invoke("third", timeout_seconds=10)
        assert "first" not in other.log
        assert "third" in other.log
    log = (tmp_path / "log").read_text().splitlines()
    assert [line for line in log if line in ("first", "second", "third")] == ["first", "second", "third"]


def test_answer_over_the_limit_of_lambda_is_an_error(leak: ExecutionEnvironment) -> None:
    outcome = leak.invoke("large", timeout_seconds=10)
    assert (outcome.kind, outcome.payload["errorType"]) == ("error", "Function.ResponseSizeTooLarge")


def test_event_over_the_limit_of_lambda_is_refused(code: Path, start: Start) -> None:
    with start() as environment, pytest.raises(ValueError, match="the event has 6291457 bytes"):
        environment.invoke("x" * (PAYLOAD_BYTES - 1), timeout_seconds=1)


def test_runtime_api_takes_chunked_answers_of_the_current_invocation_only() -> None:
    with RuntimeApi() as api, closing(http.client.HTTPConnection(api.address, timeout=10)) as connection:
        api.invocations.put(Invocation(b'{"Records":[]}', deadline=1772356570.25, request_id="current"))
        api.request_id = "current"
        connection.request("GET", "/2018-06-01/runtime/invocation/next")
        given = connection.getresponse()
        assert (given.status, given.read()) == (200, b'{"Records":[]}')
        assert given.headers["Lambda-Runtime-Aws-Request-Id"] == "current"
        assert given.headers["Lambda-Runtime-Deadline-Ms"] == "1772356570250"
        assert given.headers["Lambda-Runtime-Invoked-Function-Arn"] == FUNCTION_ARN

        for request_id, status in (("another", 400), ("current", 202)):
            chunks = iter([b'{"batchItem', b'Failures":[]}'])
            connection.request("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", chunks)
            taken = connection.getresponse()
            taken.read()
            assert (request_id, taken.status) == (request_id, status)
    assert api.outcomes.get_nowait().payload == {"batchItemFailures": []}
    assert api.outcomes.empty()
