"""Lambda's Runtime API on the loopback, and a process of AWS's own runtime client that is served by it.

    with ExecutionEnvironment(code, handler, {"S3_BUCKET": "landing"}, runtime) as environment:
        outcome = environment.invoke(event, timeout_seconds=120)

Like Lambda, it gives the process Lambda's variables, one event at a time and a deadline with each, and kills
it at the deadline. Unlike Lambda, it does not freeze the process between two events, does not limit its
memory and does not start another one when it has ended: that takes a new ExecutionEnvironment.
Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Literal

PAYLOAD_BYTES = 6 * 1024 * 1024  # of an event or an answer
INIT_SECONDS = 10.0  # until the process has to ask for its first event
POLL_SECONDS = 0.02  # how soon the API notices that it shall stop
API = "/2018-06-01/runtime"
FUNCTION_ARN = "arn:aws:lambda:eu-west-1:123456789012:function:lending"
RUNTIME_MODULES = (
    *("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py"),
    *("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3"),
)


@dataclass(frozen=True)
class Invocation:
    body: bytes
    deadline: float  # seconds since 1970-01-01 UTC
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class Outcome:
    """How an invocation ended.

    response    payload is what the handler returned
    error       payload is {"errorMessage": ..., "errorType": ..., "stackTrace": [...], "requestId": ...}
    init error  the same, because the handler could not be loaded
    exit        the process has ended without an answer, with exit_code
    timeout     the process was killed at the deadline
    """

    kind: Literal["response", "error", "init error", "exit", "timeout"]
    payload: Any = None
    exit_code: int | None = None
    seconds: float = 0.0


class RuntimeApi(ThreadingHTTPServer):
    """The API that one process asks: it takes from invocations, and outcomes says what became of them."""

    daemon_threads = False  # so that server_close waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RuntimeApiRequest)
        self.address = f"127.0.0.1:{self.server_port}"
        self.invocations: Queue[Invocation | None] = Queue()  # None ends the process's waiting
        self.outcomes: Queue[Outcome] = Queue()
        self.waiting = threading.Event()  # the process has asked for an event, or has ended
        self.request_id: str | None = None
        self.thread = threading.Thread(target=self.serve_forever, args=[POLL_SECONDS])

    def __enter__(self) -> RuntimeApi:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self.invocations.put(None)
        self.shutdown()
        self.thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a process may be killed in mid-sentence
            super().handle_error(request, client_address)


class RuntimeApiRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RuntimeApi

    def do_GET(self) -> None:
        if self.path != f"{API}/invocation/next":
            return self.answer(404, b'{"errorType":"NotFound"}')
        self.server.waiting.set()
        invocation = self.server.invocations.get()
        if invocation is None:
            self.close_connection = True
            return None
        self.server.waiting.clear()
        self.server.request_id = invocation.request_id
        return self.answer(
            200,
            invocation.body,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
                "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
            },
        )

    def do_POST(self) -> None:
        kinds: dict[str, Literal["response", "error", "init error"]] = {
            f"{API}/init/error": "init error",
            f"{API}/invocation/{self.server.request_id}/response": "response",
            f"{API}/invocation/{self.server.request_id}/error": "error",
        }
        body = self.read_body()
        if self.path not in kinds:
            return self.answer(400, b'{"errorType":"InvalidRequestID"}')
        if len(body) > PAYLOAD_BYTES:
            return self.answer(413, b'{"errorType":"RequestEntityTooLarge"}')
        self.server.outcomes.put(Outcome(kinds[self.path], json.loads(body)))
        return self.answer(202, b'{"status":"OK"}')

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def read(self, size: int) -> bytes:
        found = self.rfile.read(size)
        if len(found) < size:
            raise ConnectionError("the process has gone")
        return found

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class ExecutionEnvironment:
    """A process that runs the handler in the folder code, with the function's own variables.

    It imports from that folder, from runtime (see link_runtime) and from the standard library, nothing else.
    """

    def __init__(self, code: Path, handler: str, variables: Mapping[str, str], runtime: Path) -> None:
        self.api = RuntimeApi()
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 (close does it)
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-m", "awslambdaric", handler],
            cwd=code,
            env={**lambda_variables(code, handler, runtime, self.api.address), **variables},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()
        self.api.start()

    def __enter__(self) -> ExecutionEnvironment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch(self) -> None:
        self.api.outcomes.put(Outcome("exit", exit_code=self.process.wait()))
        self.api.waiting.set()

    def invoke(self, event: Any, timeout_seconds: float) -> Outcome:
        """What became of the event. Raises ValueError when it is larger than Lambda takes."""
        body = json.dumps(event).encode()
        if len(body) > PAYLOAD_BYTES:
            raise ValueError(f"the event has {len(body)} bytes, Lambda takes {PAYLOAD_BYTES}")
        if not self.api.waiting.wait(INIT_SECONDS):
            timeout_seconds = 0
        elif self.process.returncode is None:
            self.api.invocations.put(Invocation(body, time.time() + timeout_seconds))
        started = time.monotonic()
        try:
            outcome = self.api.outcomes.get(timeout=timeout_seconds)
        except Empty:
            self.api.request_id = None  # an answer would come too late
            self.process.kill()
            outcome = Outcome("timeout")
        if outcome.kind == "exit":
            self.api.outcomes.put(outcome)  # no later event will fare better
        return replace(outcome, seconds=time.monotonic() - started)

    @property
    def log(self) -> str:
        """All that the process has printed."""
        return os.pread(self.output.fileno(), os.fstat(self.output.fileno()).st_size, 0).decode()

    def close(self) -> None:
        self.process.kill()
        self.watcher.join()
        self.api.stop()
        self.output.close()


def lambda_variables(code: Path, handler: str, runtime: Path, api_address: str) -> dict[str, str]:
    """The environment variables that Lambda itself sets.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    return {
        "_HANDLER": handler,
        "AWS_LAMBDA_RUNTIME_API": api_address,
        "LAMBDA_TASK_ROOT": str(code),
        "LAMBDA_RUNTIME_DIR": str(runtime),
        "PYTHONPATH": f"{code}{os.pathsep}{runtime}",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_NAME": "lending",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/lending",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/03/01/[$LATEST]0123456789abcdef0123456789abcdef",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_SESSION_TOKEN": "test",
    }


def link_runtime(folder: Path) -> Path:
    """The folder, with links to what Lambda's Python has beside the standard library, and to no more."""
    for name in RUNTIME_MODULES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{name} is not installed: pip install -r requirements.txt")
        origin = Path(spec.origin)
        installed = origin.parent if spec.submodule_search_locations else origin
        (folder / installed.name).symlink_to(installed)
    return folder
