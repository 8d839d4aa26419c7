"""Puts messages on the stream: every one, and those of one partition key in their order.

PutRecords takes some records of a request and leaves others, so that a later record of a key could come
before an earlier one that was left. So a request holds one record of a key, and the key's next record waits
until that one was taken. Keys have no order among each other, and rows of a load need none.
What was sent and not answered is sent again: then a record is there twice, as DMS's may be.
Source: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Any

from local_run.replication.envelopes import Message

REQUEST_RECORDS, REQUEST_BYTES = 500, 5 * 1024 * 1024  # documented, partition keys counted
WAITING_RECORDS, WAITING_BYTES = 2000, 8 * 1024 * 1024
LINGER_SECONDS = 0.02  # what comes together goes together; how long DMS waits is not documented
LONGEST_PAUSE_SECONDS = 2.0
# What passes by itself: DMS goes on trying (RecoverableErrorCount -1).
PASSING = (
    *("ProvisionedThroughputExceededException", "InternalFailure", "ServiceUnavailable", "Throttling"),
    *("ThrottlingException", "LimitExceededException", "RequestTimeout", "KMSThrottlingException"),
)


class StreamError(Exception):
    """The stream does not take records, and will not by itself: says why."""


class StreamWriter:
    """Collects messages for one stream, and puts them when it is told to.

    pause(seconds) waits, and raises when the task is to end meanwhile.
    """

    def __init__(self, client: Any, stream_arn: str, pause: Callable[[float], None]) -> None:
        self.client = client
        self.stream_arn = stream_arn
        self.pause = pause
        self.records = 0  # that were taken
        self.record_bytes = self.most_record_bytes()
        self.waiting: list[Message] = []
        self.waiting_bytes = 0
        self.waiting_since = 0.0  # of the monotonic clock

    def most_record_bytes(self) -> int:
        """Of one record with its partition key, as the stream is set."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self.client.describe_stream_summary(StreamARN=self.stream_arn)
        except (BotoCoreError, ClientError) as error:
            raise StreamError(f"cannot read the stream {self.stream_arn}: {code_of(error)}") from error
        return int(answer["StreamDescriptionSummary"].get("MaxRecordSizeInKiB", 1024)) * 1024

    def fits(self, message: Message) -> bool:
        return size_of(message) <= self.record_bytes

    def add(self, message: Message) -> None:
        if not self.waiting:
            self.waiting_since = time.monotonic()
        self.waiting.append(message)
        self.waiting_bytes += len(message.payload)

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= WAITING_RECORDS or self.waiting_bytes >= WAITING_BYTES

    @property
    def linger_left(self) -> float:
        """Seconds until what waits should go, 0 when nothing does."""
        return max(0.0, self.waiting_since + LINGER_SECONDS - time.monotonic()) if self.waiting else 0.0

    def put(self, *, keeps_order: bool = True) -> None:
        """Returns when the stream has taken all that waits. Raises StreamError."""
        for request in requests_for(self.waiting, keeps_order=keeps_order):
            self.put_request(
                [{"Data": one.payload, "PartitionKey": one.partition_key} for one in request.messages]
            )
        self.waiting, self.waiting_bytes = [], 0

    def put_request(self, records: list[dict[str, Any]]) -> None:
        seconds = 0.05
        while records := self.left_by(records):
            self.pause(seconds * random.uniform(0.5, 1.0))
            seconds = min(2 * seconds, LONGEST_PAUSE_SECONDS)

    def left_by(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The records that the stream has not taken, in their order. Raises StreamError."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self.client.put_records(StreamARN=self.stream_arn, Records=records)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if code_of(error) in PASSING or status >= 500:
                return records
            raise StreamError(f"cannot write to the stream {self.stream_arn}: {code_of(error)}") from error
        except BotoCoreError:  # no connection, no answer
            return records
        left: list[dict[str, Any]] = []
        if answer.get("FailedRecordCount"):
            told = zip(records, answer["Records"], strict=True)
            left = [record for record, answered in told if answered.get("ErrorCode")]
        self.records += len(records) - len(left)
        return left


def code_of(error: Exception) -> str:
    """The error's code; the library's own text stays out, for it may quote what was sent."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", type(error).__name__))


def size_of(message: Message) -> int:
    return len(message.payload) + len(message.partition_key.encode())


class Request:
    """Records for one call, up to what PutRecords takes."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.room = REQUEST_BYTES

    def has_room_for(self, size: int) -> bool:
        return not self.messages or (len(self.messages) < REQUEST_RECORDS and size <= self.room)

    def add(self, message: Message, size: int) -> None:
        self.messages.append(message)
        self.room -= size


def requests_for(messages: Iterable[Message], *, keeps_order: bool) -> list[Request]:
    """As few as will do: in order, no key is twice in one, and each record is behind its key's former one."""
    requests: list[Request] = []
    earliest: dict[str, int] = {}  # of a key: the request that its next record may be in
    first = 0  # with room
    for message in messages:
        size = size_of(message)
        place = max(first, earliest.get(message.partition_key, 0)) if keeps_order else first
        while place < len(requests) and not requests[place].has_room_for(size):
            place += 1
        if place == len(requests):
            requests.append(Request())
        requests[place].add(message, size)
        earliest[message.partition_key] = place + 1
        while first < len(requests) and len(requests[first].messages) == REQUEST_RECORDS:
            first += 1
    return requests
