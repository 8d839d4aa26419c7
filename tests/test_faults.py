"""One request of a batch goes wrong: what the handler answers, what is in S3 then, and after redelivery.

The requests of the handler's own client are caught where they would reach the network; moto is S3.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from conftest import BUCKET
from events import Context, envelope, event, objects
from moto.core.models import botocore_stubber

import lambda_function

Handle = Callable[..., Any]
Fault = Callable[["Wire", AWSPreparedRequest], AWSResponse | None]

ATTEMPT_SECONDS = 12  # what the handler gives a request when the context has 120 s
DEADLINE_SECONDS = 10.0
CANARY = "canary-5e7a"  # is in every row, and must not be anywhere else
TABLES = 5
FIRST = 49661234567890123456789012345678901234567890123456000010


def key_of(n: int) -> str:
    """The key of table n in batch(), of 1 to TABLES."""
    folder = f"changes/public/t{n}/cdc_date=2026-03-01/cdc_hour=09"
    return f"{folder}/shardId-000000000000-{FIRST + n - 1}.jsonl.gz"


def batch(tables: int = TABLES) -> dict[str, Any]:
    """Two records of each table, in turns: ids 1, 2, 3, ... one object for each table."""
    numbers = [*range(1, tables + 1)] * 2
    rows = [envelope({"id": i, "name": CANARY}, table_name=f"t{n}") for i, n in enumerate(numbers, 1)]
    return event(*rows, first=FIRST)


EXACT = {
    key_of(1): [1, 6],
    key_of(2): [2, 7],
    key_of(3): [3, 8],
    key_of(4): [4, 9],
    key_of(5): [5, 10],
}


def landed(s3: Any) -> dict[str, list[int]]:
    """The ids in each object."""
    return {
        key: [json.loads(line)["id"] for line in body.splitlines()]
        for key, body in objects(s3, BUCKET).items()
    }


# ----------------------------------------------------------------------------------------------------------
# The wire between the handler's client and S3
# ----------------------------------------------------------------------------------------------------------


class Wire:
    """Passes requests of the handler on to moto; for some keys something else happens."""

    def __init__(self, s3: Any) -> None:
        self.s3 = s3
        self.faults: dict[tuple[str, str], Fault] = {}  # by method and key
        self.transient = False  # a fault happens to the first request of its key only
        self.begun = Counter[tuple[str, str]]()
        self.ended = Counter[tuple[str, str]]()
        self.changed = threading.Condition()

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        call = str(request.method), re.sub(r"%3D", "=", request.url.partition(".amazonaws.com/")[2])
        with self.changed:
            self.begun[call] += 1
            self.changed.notify_all()
            fault = self.faults.get(call)
            if self.transient:
                self.faults.pop(call, None)
        try:
            answer = fault(self, request) if fault else None
            return answer or self.deliver(request)
        finally:
            with self.changed:
                self.ended[call] += 1

    def deliver(self, request: AWSPreparedRequest) -> AWSResponse:
        return botocore_stubber("before-send.s3", request)

    def wait_for_puts(self, puts: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.puts() >= puts, DEADLINE_SECONDS)

    def puts(self) -> int:
        return sum(times for (method, _), times in self.begun.items() if method == "PUT")


class Raw(io.BytesIO):
    """A body as urllib3 gives it to botocore."""

    def stream(self) -> Iterator[bytes]:
        yield self.getvalue()


class BrokenRaw(Raw):
    def read(self, *_: Any) -> bytes:
        raise urllib3.exceptions.ProtocolError("Connection broken")


def answers(status: int, code: str) -> Fault:
    def fault(_: Wire, request: AWSPreparedRequest) -> AWSResponse:
        body = f"<Error><Code>{code}</Code><Message>Said by S3.</Message></Error>".encode()
        return AWSResponse(request.url, status, {"Content-Type": "application/xml"}, Raw(body))

    return fault


def times_out_before(_: Wire, request: AWSPreparedRequest) -> AWSResponse:
    raise ReadTimeoutError(endpoint_url=request.url)


def times_out_after(wire: Wire, request: AWSPreparedRequest) -> AWSResponse:
    wire.deliver(request)
    raise ReadTimeoutError(endpoint_url=request.url)


def is_reset(_: Wire, request: AWSPreparedRequest) -> AWSResponse:
    raise ConnectionClosedError(endpoint_url=request.url)


def is_overtaken(wire: Wire, request: AWSPreparedRequest) -> None:
    """Somebody else has just written the key, so that S3 itself answers 412."""
    n = int(re.findall(r"/t(\d+)/", request.url)[0])
    other = b"\x1f\x8b\x08\x00" + (1000 + wire.puts()).to_bytes(4, "little") + b"\x00\x03"
    wire.s3.put_object(Bucket=BUCKET, Key=key_of(n), Body=other)


def vanishes(wire: Wire, request: AWSPreparedRequest) -> None:
    """Somebody deletes the object when it is looked at, or when it is to be rewritten."""
    if request.method == "GET" or "If-Match" in request.headers:
        wire.s3.delete_object(Bucket=BUCKET, Key=key_of(4))


def breaks_off(_: Wire, request: AWSPreparedRequest) -> AWSResponse:
    headers = {"Content-Length": "4", "ETag": '"0"'}
    return AWSResponse(request.url, 206, headers, BrokenRaw(b"1234"))


def ends_early(_: Wire, request: AWSPreparedRequest) -> AWSResponse:
    return AWSResponse(request.url, 206, {"Content-Length": "4", "ETag": '"0"'}, Raw(b"1"))


@pytest.fixture
def wire(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """The wire of the client that handle() uses; botocore does not sleep before it sends again."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    events = lambda_function.s3_client(ATTEMPT_SECONDS).meta.events
    events.unregister("before-send", botocore_stubber)
    wire = Wire(s3)
    events.register("before-send.s3", wire)
    return wire


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Promise 1: no PUT outlives its invocation."""
    before = threading.enumerate()
    yield
    assert threading.enumerate() == before


@pytest.fixture(autouse=True)
def no_row_content_is_shown(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Promise 6: neither in what is printed nor in a library's log."""
    yield
    printed = capfd.readouterr()
    assert CANARY not in printed.out + printed.err + caplog.text


def failure(handle: Handle, wire: Wire, delivered: Any, context: Context | None = None) -> str:
    """The text of the UploadError that handle raises, once it is clear that all has ended by then."""
    threads = threading.enumerate()
    with pytest.raises(lambda_function.UploadError) as raised:
        handle(delivered, context)
    assert threading.enumerate() == threads
    assert wire.begun == wire.ended
    chain = "".join(traceback.format_exception(raised.value)) + repr(raised.value)
    cause = raised.value.__cause__
    assert CANARY not in chain + repr(cause) + str(getattr(cause, "response", ""))
    return str(raised.value)


# ----------------------------------------------------------------------------------------------------------
# The n-th object
# ----------------------------------------------------------------------------------------------------------

GONE_WRONG = {
    "500": (answers(500, "InternalError"), "InternalError (HTTP 500)"),
    "503": (answers(503, "SlowDown"), "SlowDown (HTTP 503)"),
    "403": (
        answers(403, "AccessDenied"),
        "AccessDenied (HTTP 403): allow s3:PutObject and s3:GetObject on this key, "
        "and the use of the bucket's KMS key",
    ),
    "409": (answers(409, "ConditionalRequestConflict"), "others keep writing it too"),
    "412": (is_overtaken, "others keep writing it too"),
    "timeout_before_the_write": (times_out_before, "ReadTimeoutError"),
    "timeout_after_the_write": (times_out_after, "ReadTimeoutError"),
    "reset": (is_reset, "ConnectionClosedError"),
}
NTH = pytest.mark.parametrize("n", [1, 2, 3, 4, 5])


@NTH
@pytest.mark.parametrize("kind", [kind for kind in GONE_WRONG if kind != "403"])
def test_fault_that_passes_is_not_noticed(s3: Any, handle: Handle, wire: Wire, n: int, kind: str) -> None:
    """Promises 1 and 2: the batch lands within the invocation, each record once."""
    wire.faults["PUT", key_of(n)], wire.transient = GONE_WRONG[kind][0], True

    assert handle(batch()) == {"batchItemFailures": []}

    assert wire.begun["PUT", key_of(n)] == 2 + (kind == "timeout_after_the_write")
    assert landed(s3) == EXACT
    assert handle(batch()) == {"batchItemFailures": []}
    assert landed(s3) == EXACT


@NTH
@pytest.mark.parametrize("kind", GONE_WRONG)
def test_fault_that_stays_fails_the_batch_until_it_is_delivered_again(
    s3: Any, handle: Handle, wire: Wire, n: int, kind: str
) -> None:
    """Promises 1, 2 and 6: nothing is acknowledged, and a redelivery makes it exact."""
    wire.faults["PUT", key_of(n)], reason = GONE_WRONG[kind]

    assert failure(handle, wire, batch()) == f"cannot write s3://landing/{key_of(n)}: {reason}"

    wire.faults.clear()
    assert handle(batch()) == {"batchItemFailures": []}
    assert landed(s3) == EXACT


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(answers(500, "InternalError"), "InternalError (HTTP 500)", id="500"),
        pytest.param(GONE_WRONG["403"][0], GONE_WRONG["403"][1], id="403"),
        pytest.param(times_out_before, "ReadTimeoutError", id="timeout"),
        pytest.param(breaks_off, "ResponseStreamingError", id="body_breaks_off"),
        pytest.param(ends_early, "IncompleteReadError", id="body_ends_early"),
    ],
)
def test_fault_of_the_look_at_an_old_object_fails_the_batch(
    s3: Any, handle: Handle, wire: Wire, fault: Fault, reason: str
) -> None:
    handle(batch())
    wire.faults["GET", key_of(2)] = fault

    assert failure(handle, wire, batch()) == f"cannot write s3://landing/{key_of(2)}: {reason}"

    wire.faults.clear()
    handle(batch())
    assert landed(s3) == EXACT


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_old_object_that_vanishes_before_its_rewrite_is_written_anew(
    s3: Any, handle: Handle, wire: Wire, method: str
) -> None:
    handle(batch())
    wire.faults[method, key_of(4)] = vanishes

    assert handle(batch()) == {"batchItemFailures": []}

    assert landed(s3) == EXACT


@pytest.mark.parametrize(("kind", "rounds"), [("409", 5), ("412", 5)])
def test_conflict_without_end_is_given_up(handle: Handle, wire: Wire, kind: str, rounds: int) -> None:
    wire.faults["PUT", key_of(1)] = GONE_WRONG[kind][0]

    failure(handle, wire, batch())

    assert wire.begun["PUT", key_of(1)] == rounds


@pytest.mark.parametrize("foreign", [b"", b"x", b"1234"])
def test_foreign_object_too_short_to_be_ours_is_left_and_named(
    s3: Any, handle: Handle, wire: Wire, foreign: bytes
) -> None:
    s3.put_object(Bucket=BUCKET, Key=key_of(3), Body=foreign)

    message = failure(handle, wire, batch())

    assert message.startswith(f"cannot write s3://landing/{key_of(3)}: InvalidRange (HTTP 416)")
    assert wire.begun["PUT", key_of(3)] == 1
    assert s3.get_object(Bucket=BUCKET, Key=key_of(3))["Body"].read() == foreign


# ----------------------------------------------------------------------------------------------------------
# Time, interruption, cancellation
# ----------------------------------------------------------------------------------------------------------


def test_too_little_time_fails_before_any_put(handle: Handle, wire: Wire) -> None:
    lambda_function.s3_client(2).meta.events.register("before-send.s3", wire)

    message = failure(handle, wire, batch(), Context(5))

    advice = "5.0 s are left and it may take 10: a longer timeout or more memory helps"
    assert message == f"cannot write s3://landing/{key_of(1)}: {advice}"
    assert wire.puts() == 0


def test_time_that_runs_out_between_objects_fails_once_the_started_uploads_have_ended(
    s3: Any, handle: Handle, wire: Wire
) -> None:
    """Promise 1."""

    class RunsOut(Context):
        def get_remaining_time_in_millis(self) -> int:
            return 120_000 if sum(wire.ended.values()) < 10 else 20_000

    message = failure(handle, wire, batch(tables=60), RunsOut())

    assert message.endswith("20.0 s are left and it may take 40: a longer timeout or more memory helps")
    assert 10 <= wire.puts() < 60
    handle(batch(tables=60))
    ids = sorted(i for found in landed(s3).values() for i in found)
    assert ids == [*range(1, 121)]


class Watched(Context):
    """A context that knows how often the invocation itself, not its uploads, has looked at the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.looked = threading.Condition()

    def get_remaining_time_in_millis(self) -> int:
        if threading.current_thread() is threading.main_thread():
            with self.looked:
                self.looks += 1
                self.looked.notify_all()
        return super().get_remaining_time_in_millis()

    def wait_for_looks(self, looks: int) -> None:
        with self.looked:
            assert self.looked.wait_for(lambda: self.looks >= looks, DEADLINE_SECONDS)


def test_first_failure_cancels_what_waits_and_waits_for_what_runs(
    s3: Any, handle: Handle, wire: Wire
) -> None:
    """Promise 1: the uploads that run are let go only when the handler has turned to ending them."""
    context = Watched()
    wire.faults = {("PUT", key_of(n)): waits_for_looks(context, 3) for n in range(2, 61)}
    wire.faults["PUT", key_of(1)] = waits_for_looks(context, 2, then=GONE_WRONG["403"][0])

    message = failure(handle, wire, batch(tables=60), context)

    assert message.startswith(f"cannot write s3://landing/{key_of(1)}: AccessDenied (HTTP 403)")
    assert 16 <= wire.puts() <= 17  # the thread that failed may have begun with one more
    assert len(landed(s3)) == wire.puts() - 1


def waits_for_looks(context: Watched, looks: int, then: Fault = lambda *_: None) -> Fault:
    def fault(wire: Wire, request: AWSPreparedRequest) -> AWSResponse | None:
        context.wait_for_looks(looks)
        return then(wire, request)

    return fault


def test_keyboard_interrupt_is_raised_once_the_running_uploads_have_ended(
    s3: Any, handle: Handle, wire: Wire
) -> None:
    """Promise 1."""
    context, interrupted = Watched(), threading.Event()

    def interrupt(*_: Any) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def goes_on_once_interrupted(*_: Any) -> None:
        assert interrupted.wait(DEADLINE_SECONDS)

    def interrupts(wire: Wire, request: AWSPreparedRequest) -> None:
        context.wait_for_looks(2)
        wire.wait_for_puts(TABLES)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        goes_on_once_interrupted()

    wire.faults = {("PUT", key_of(n)): goes_on_once_interrupted for n in range(2, TABLES + 1)}
    wire.faults["PUT", key_of(1)] = interrupts
    threads = threading.enumerate()
    old = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            handle(batch(), context)
    finally:
        signal.signal(signal.SIGINT, old)

    assert threading.enumerate() == threads
    assert wire.begun == wire.ended
    assert landed(s3) == EXACT


CLIENT_KEY = (
    "changes/public/client/cdc_date=2026-03-01/cdc_hour=09/"
    "shardId-000000000000-49661234567890123456789012345678901234567890123456000002.jsonl.gz"
)


def test_upload_that_does_not_end_in_time_ends_the_process() -> None:
    """Promise 1: an upload that can't be stopped must not go on in the next invocation."""
    program = """
import threading, lambda_function
from events import envelope, event

class Client:
    def put_object(self, **_):
        threading.Event().wait()

def seconds_left():  # the upload still had time to begin
    return 1.1 if threading.current_thread() is threading.main_thread() else 120

lambda_function.land(event(envelope()), lambda_function.Settings("landing"), lambda _: Client(), seconds_left)
print("answered")
"""
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent)])
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert json.loads(ended.stderr) == {
        "level": "ERROR",
        "message": f"cannot write s3://landing/{CLIENT_KEY}: it did not end in time: ending the process",
    }


# ----------------------------------------------------------------------------------------------------------
# A PUT of an earlier attempt that arrives late
# ----------------------------------------------------------------------------------------------------------


def cut(start: int, end: int) -> dict[str, Any]:
    """A piece of six records of one table with the ids 1 to 6."""
    rows = [envelope({"id": i, "name": CANARY}, table_name="t1") for i in range(1, 7)]
    return event(*rows[start:end], first=FIRST + start)


def test_late_first_put_cannot_cover_the_object_of_a_later_attempt(
    s3: Any, handle: Handle, wire: Wire
) -> None:
    """Promise 2: six records time out, are bisected and land; then the PUTs of six arrive."""
    late: list[AWSPreparedRequest] = []
    wire.faults["PUT", key_of(1)] = holds_back(late)
    failure(handle, wire, cut(0, 6))
    wire.faults.clear()
    handle(cut(0, 2))
    handle(cut(2, 6))

    assert [request.headers["If-None-Match"] for request in late] == [b"*"] * 3
    assert [wire.deliver(request).status_code for request in late] == [412] * 3
    assert list(landed(s3).values()) == [[1, 2], [3, 4, 5, 6]]


def test_late_rewrite_cannot_bring_back_rows_that_another_object_has(
    s3: Any, handle: Handle, wire: Wire
) -> None:
    """Promise 2: the object under it has been written again meanwhile, with the rows that it had."""
    late: list[AWSPreparedRequest] = []
    handle(cut(0, 2))  # the answer gets lost
    wire.faults["PUT", key_of(1)] = rewrites_are_held_back(late)
    failure(handle, wire, cut(0, 6))
    wire.faults.clear()
    handle(cut(0, 2))
    handle(cut(2, 6))

    assert len(late) == 3
    assert [wire.deliver(request).status_code for request in late] == [412] * 3
    assert list(landed(s3).values()) == [[1, 2], [3, 4, 5, 6]]


def holds_back(late: list[AWSPreparedRequest]) -> Fault:
    def fault(wire: Wire, request: AWSPreparedRequest) -> AWSResponse:
        late.append(request)
        return times_out_before(wire, request)

    return fault


def rewrites_are_held_back(late: list[AWSPreparedRequest]) -> Fault:
    hold = holds_back(late)
    return lambda wire, request: hold(wire, request) if "If-Match" in request.headers else None
