"""What the replication stand-in puts on the stream: all of it, in the order of each key."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from local_run.replication.envelopes import Message
from local_run.replication.stream_writer import REQUEST_BYTES, StreamError, StreamWriter, requests_for


def message(key: str, size: int = 10) -> Message:
    return Message(key, b"x" * (size - len(key)))


@given(st.lists(st.sampled_from("abcdefghij"), max_size=60))
def test_a_request_holds_a_key_once_and_follows_the_keys_former_record(keys: list[str]) -> None:
    messages = [Message(key, str(place).encode()) for place, key in enumerate(keys)]
    requests = [request.messages for request in requests_for(messages, keeps_order=True)]
    for request in requests:
        assert len({one.partition_key for one in request}) == len(request)
    sent = [one for request in requests for one in request]
    for key in set(keys):
        assert [one for one in sent if one.partition_key == key] == [
            one for one in messages if one.partition_key == key
        ]
    assert len(requests) == max((keys.count(key) for key in keys), default=0)


def test_a_request_holds_at_most_500_records() -> None:
    messages = [message(f"key {number}") for number in range(1201)]
    assert [len(one.messages) for one in requests_for(messages, keeps_order=True)] == [500, 500, 201]
    assert [len(one.messages) for one in requests_for(messages, keeps_order=False)] == [500, 500, 201]


def test_a_request_holds_at_most_5_mib_with_its_keys() -> None:
    messages = [message(f"key {number}", 1_000_000) for number in range(12)]
    requests = requests_for(messages, keeps_order=True)
    assert [len(one.messages) for one in requests] == [5, 5, 2]
    assert REQUEST_BYTES == 5_242_880


class Client:
    """put_records as answers say, one after the other: an exception, or the places that are not taken."""

    def __init__(self, *answers: Exception | list[int]) -> None:
        self.answers = iter(itertools.chain(answers, itertools.repeat([])))
        self.requests: list[list[str]] = []

    def describe_stream_summary(self, StreamARN: str) -> dict[str, Any]:
        return {"StreamDescriptionSummary": {"MaxRecordSizeInKiB": 1024}}

    def put_records(self, StreamARN: str, Records: list[dict[str, Any]]) -> dict[str, Any]:
        self.requests.append([one["PartitionKey"] for one in Records])
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        records = [{"ErrorCode": "InternalFailure"} if n in answer else {} for n in range(len(Records))]
        return {"FailedRecordCount": len(answer), "Records": records}


def error(code: str, status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutRecords")


def put(client: Client, keys: str) -> tuple[StreamWriter, list[float]]:
    pauses: list[float] = []
    writer = StreamWriter(client, "arn", pauses.append)
    for key in keys:
        writer.add(message(key))
    writer.put()
    return writer, pauses


def test_what_was_not_taken_is_put_again_before_the_keys_next_record() -> None:
    client = Client([0, 2], [1])
    writer, pauses = put(client, "abca")
    assert client.requests == [["a", "b", "c"], ["a", "c"], ["c"], ["a"]]
    assert (writer.records, len(pauses)) == (4, 2)


@pytest.mark.parametrize(
    "passing",
    [
        error("ProvisionedThroughputExceededException"),
        error("ThrottlingException"),
        error("InternalFailure", 500),
        error("anything", 503),
        EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
    ],
    ids=lambda one: type(one).__name__ if not isinstance(one, ClientError) else one.response["Error"]["Code"],
)
def test_a_request_that_was_refused_for_now_is_made_again(passing: Exception) -> None:
    client = Client(passing, passing, passing)
    writer, pauses = put(client, "ab")
    assert client.requests == [["a", "b"]] * 4
    assert writer.records == 2
    assert all(later > 0.9 * earlier for earlier, later in itertools.pairwise(pauses))


@pytest.mark.parametrize(
    "code", ["ResourceNotFoundException", "AccessDeniedException", "ValidationException"]
)
def test_a_refusal_for_good_names_the_stream_and_the_code(code: str) -> None:
    with pytest.raises(StreamError, match=f"cannot write to the stream arn: {code}"):
        put(Client(error(code)), "a")


def test_a_record_is_measured_with_its_key() -> None:
    writer = StreamWriter(Client(), "arn", lambda seconds: None)
    assert writer.fits(Message("key", b"x" * (1024 * 1024 - 3)))
    assert not writer.fits(Message("key", b"x" * (1024 * 1024 - 2)))


def test_a_stream_that_is_not_there_is_named() -> None:
    class Absent(Client):
        def describe_stream_summary(self, StreamARN: str) -> dict[str, Any]:
            raise error("ResourceNotFoundException")

    with pytest.raises(StreamError, match="cannot read the stream arn: ResourceNotFoundException"):
        StreamWriter(Absent(), "arn", lambda seconds: None)
