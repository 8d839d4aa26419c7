"""A Lambda function in a process of its own: AWS's runtime client, served by a Runtime API on the loopback.

    function = Function("lambda_function.lambda_handler", {"S3_BUCKET": "landing"})
    with ExecutionEnvironment(code, function, link_runtime(folder)) as environment:
        outcome = environment.invoke(event, timeout_seconds=120)

As in Lambda, the process has Lambda's variables, gets one event at a time and a deadline with each, is killed
at the deadline, and is frozen from its next request for an event until there is one: a thread that outlived
its invocation goes on in the next. An environment whose process has ended takes no more events; Lambda makes
a new one, and so does who uses this. Memory is not limited, and a program that the function started itself is
not frozen with it.

Nothing of an environment outlives the process that made it, however that one ends: the function's process is
in the process group of a shell that holds the reading end of a pipe, and kills the group when it closes.
Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Literal

PAYLOAD_BYTES = 6 * 1024 * 1024  # of an event or an answer
INIT_SECONDS = 10.0  # until the process has to ask for its first event
POLL_SECONDS = 0.02  # how soon the API notices that it shall stop
API = "/2018-06-01/runtime"
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
ENDPOINTS = "AWS_ENDPOINT_URL"  # what the variables that name an emulated AWS begin with
FUNCTION_ARN = "arn:aws:lambda:eu-west-1:123456789012:function:lending"
RUNTIME_MODULES = (
    *("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py"),
    *("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3"),
)
# Leads the environment's process group, which gets SIGHUP when it is orphaned while a process is stopped.
WATCH = "trap '' HUP; read -r _; kill -KILL 0"

# ----------------------------------------------------------------------------------------------------------
# Value types
# ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """What a function's process is told of itself; the timeout goes with each event."""

    handler: str
    variables: Mapping[str, str]  # the function's own, over Lambda's
    arn: str = FUNCTION_ARN  # as it is invoked, with the alias
    name: str = "lending"
    version: str = "$LATEST"
    memory_mb: int = 512
    region: str = "eu-west-1"
    log_group: str = "/aws/lambda/lending"
    runtime: str = "python3.13"


@dataclass(frozen=True)
class Invocation:
    body: bytes
    deadline: float  # seconds since 1970-01-01 UTC
    function_arn: str = FUNCTION_ARN
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
    request_id: str = ""


# ----------------------------------------------------------------------------------------------------------
# Runtime API
# ----------------------------------------------------------------------------------------------------------


class RuntimeApi(ThreadingHTTPServer):
    """The API that one process asks: it takes from invocations, and outcomes says what became of them.

    freeze is called whenever the process has begun to wait for an event.
    """

    daemon_threads = False  # so that server_close waits for them

    def __init__(self, freeze: Callable[[], None] = lambda: None) -> None:
        super().__init__(("127.0.0.1", 0), RuntimeApiRequest)
        self.address = f"127.0.0.1:{self.server_port}"
        self.freeze = freeze
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
        self.server.freeze()
        self.server.waiting.set()
        invocation = self.server.invocations.get()
        if invocation is None:
            self.close_connection = True
            return None
        return self.answer(
            200,
            invocation.body,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
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
            # Documented: 413. Inferred: how the invocation ends for its caller.
            too_large = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": f"{len(body)} bytes"}
            self.server.outcomes.put(Outcome("error", too_large))
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


# ----------------------------------------------------------------------------------------------------------
# Execution environment
# ----------------------------------------------------------------------------------------------------------


class ExecutionEnvironment:
    """A process that runs the function in the folder code.

    It imports from that folder, from runtime (see link_runtime) and from the standard library, nothing else.
    log: the file that what it prints is added to; None, a temporary one.
    """

    def __init__(self, code: Path, function: Function, runtime: Path, log: Path | None = None) -> None:
        self.function = function
        self.api = RuntimeApi(self.freeze)
        self.output = log.open("a+b") if log else tempfile.TemporaryFile()  # noqa: SIM115 (close does it)
        self.printed_from = self.read_to = os.fstat(self.output.fileno()).st_size
        self.is_closed = False
        self.watch = subprocess.Popen(
            ["/bin/sh", "-c", WATCH],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-m", "awslambdaric", function.handler],
            cwd=code,
            env={**lambda_variables(code, function, runtime, self.api.address), **function.variables},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            process_group=self.watch.pid,
        )
        self.watcher = threading.Thread(target=self.wait_for_end)
        self.watcher.start()
        self.api.start()

    def __enter__(self) -> ExecutionEnvironment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_ended(self) -> bool:
        return self.process.returncode is not None

    def wait_for_end(self) -> None:
        self.api.outcomes.put(Outcome("exit", exit_code=self.process.wait()))
        self.api.waiting.set()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def invoke(self, event: Any, timeout_seconds: float) -> Outcome:
        """What became of the event, which bytes give as JSON. Raises ValueError when Lambda takes no such."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        if len(body) > PAYLOAD_BYTES:
            raise ValueError(f"the event has {len(body)} bytes, Lambda takes {PAYLOAD_BYTES}")
        invocation = Invocation(body, 0, self.function.arn)
        if not self.api.waiting.wait(INIT_SECONDS):
            timeout_seconds = 0
        elif not self.has_ended:
            self.thaw(replace(invocation, deadline=time.time() + timeout_seconds))
        started = time.monotonic()
        try:
            outcome = self.api.outcomes.get(timeout=timeout_seconds)
        except Empty:
            self.api.request_id = None  # an answer would come too late
            self.process.kill()
            outcome = Outcome("timeout")
        if outcome.kind == "exit":
            self.api.outcomes.put(outcome)  # no later event will fare better
        return replace(outcome, seconds=time.monotonic() - started, request_id=invocation.request_id)

    def thaw(self, invocation: Invocation) -> None:
        self.api.waiting.clear()
        self.api.request_id = invocation.request_id
        self.process.send_signal(signal.SIGCONT)
        self.api.invocations.put(invocation)
        if self.has_ended:
            self.api.waiting.set()

    @property
    def log(self) -> str:
        """All that the process has printed."""
        return self.read_output(self.printed_from)

    def new_lines(self) -> list[str]:
        """What it has printed since the last call, as far as lines are complete."""
        text = self.read_output(self.read_to)
        complete = text[: text.rfind("\n") + 1]
        self.read_to += len(complete.encode())
        return complete.splitlines()

    def read_output(self, start: int) -> str:
        file = self.output.fileno()
        return os.pread(file, os.fstat(file).st_size - start, start).decode(errors="surrogateescape")

    def close(self) -> None:
        """Ends the function's process, and programs that it has left in its process group."""
        if self.is_closed:
            return
        self.is_closed = True
        self.process.kill()
        with contextlib.suppress(OSError):  # somebody else has killed the whole group
            os.killpg(self.watch.pid, signal.SIGKILL)
        self.watch.communicate()
        self.watcher.join()
        self.api.stop()
        self.output.close()


def lambda_variables(code: Path, function: Function, runtime: Path, api_address: str) -> dict[str, str]:
    """The environment variables that Lambda itself sets, and where this machine's AWS is.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    return {
        "_HANDLER": function.handler,
        "AWS_LAMBDA_RUNTIME_API": api_address,
        "LAMBDA_TASK_ROOT": str(code),
        "LAMBDA_RUNTIME_DIR": str(runtime),
        "PYTHONPATH": f"{code}{os.pathsep}{runtime}",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": f"2026/03/01/[{function.version}]0123456789abcdef0123456789abcdef",
        "AWS_REGION": function.region,
        "AWS_DEFAULT_REGION": function.region,
        **{key: os.environ.get(key, "test") for key in CREDENTIALS},
        **{key: value for key, value in os.environ.items() if key.startswith(ENDPOINTS)},
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
