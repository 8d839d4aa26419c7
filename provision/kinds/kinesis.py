"""Kinesis data streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provision.aws import Account, AwsError
from provision.engine import Kind, Live, Spec
from provision.kinds.documents import there

ABSENT = {"ResourceNotFoundException"}
STREAM_SECONDS = 1800  # a change of the shard count takes minutes, and longer the more shards there are


@dataclass
class Stream(Kind):
    """A stream: StreamName, StreamMode (PROVISIONED or ON_DEMAND), ShardCount (only when PROVISIONED),
    RetentionPeriodHours, KeyId (alias/aws/kinesis).

    Attributes: name, arn, created_at, status. A stream that is still being made has no values yet, so that a
    run that was interrupted then is finished by the next one; a stream that is being deleted is absent.
    """

    account: Account
    label = "stream"
    immutable = frozenset({"StreamName"})
    why_not_replaced = "a new stream would lose the records that are not read yet"

    def find(self, spec: Spec) -> Live | None:
        name = spec["StreamName"]
        summary = self.summary(name)
        if summary is None or summary["StreamStatus"] == "DELETING":
            return None
        values = {"StreamName": name}
        if summary["StreamStatus"] != "CREATING":
            values |= {
                "StreamMode": mode_of(summary),
                "ShardCount": summary["OpenShardCount"],
                "RetentionPeriodHours": summary["RetentionPeriodHours"],
                "KeyId": key_of(summary, spec),
            }
        attributes = {
            "name": name,
            "arn": summary["StreamARN"],
            "created_at": summary["StreamCreationTimestamp"],
            "status": summary["StreamStatus"],
        }
        return Live(values, attributes, self.account.is_ours(self.tags(name)))

    def create(self, spec: Spec) -> Live:
        name = spec["StreamName"]
        self.wait_until_gone(name)
        shards = {"ShardCount": spec["ShardCount"]} if spec["StreamMode"] == "PROVISIONED" else {}
        # The tag comes with the stream, so that a stream is ours from its first moment on: one that was left
        # untagged by an interruption would be taken for somebody else's, and never be finished.
        mode = {"StreamMode": spec["StreamMode"]}
        self.call("create_stream", name, StreamModeDetails=mode, Tags=self.account.tags, **shards)
        there(self, self.account, spec)
        self.wait_until_active(name)
        if not self.account.is_ours(self.tags(name)):  # an emulated AWS that drops Tags, as moto 5.2 does
            self.call("add_tags_to_stream", name, Tags=self.account.tags)
        return self.made_so(name, spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        return self.made_so(spec["StreamName"], spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["StreamName"]
        summary = self.summary(name)
        if summary is None:
            return
        if summary["StreamStatus"] != "DELETING":
            self.wait_until_active(name)  # only an ACTIVE stream can be deleted
            self.account.find(
                "kinesis",
                "delete_stream",
                f"stream {name}",
                ABSENT,
                StreamName=name,
                EnforceConsumerDeletion=True,
            )
        self.wait_until_gone(name)

    def made_so(self, name: str, spec: Spec) -> Live:
        """Each setting brought to its wanted value; a stream takes one change at a time."""
        self.set_mode(name, spec)
        self.set_shards(name, spec)
        self.set_retention(name, spec)
        self.set_key(name, spec)
        return there(self, self.account, spec)

    def set_mode(self, name: str, spec: Spec) -> None:
        summary = self.wait_until_active(name)
        if mode_of(summary) != spec["StreamMode"]:
            mode = {"StreamMode": spec["StreamMode"]}
            subject = f"stream {name}"
            self.account.call(
                "kinesis",
                "update_stream_mode",
                subject,
                StreamARN=summary["StreamARN"],
                StreamModeDetails=mode,
            )

    def set_shards(self, name: str, spec: Spec) -> None:
        if "ShardCount" not in spec or spec["StreamMode"] != "PROVISIONED":
            return
        for count in shard_steps(self.wait_until_active(name)["OpenShardCount"], spec["ShardCount"]):
            self.call("update_shard_count", name, TargetShardCount=count, ScalingType="UNIFORM_SCALING")
            self.wait_until_active(name)

    def set_retention(self, name: str, spec: Spec) -> None:
        """Raised by one call and lowered by another; either refuses the value that the stream has."""
        now = self.wait_until_active(name)["RetentionPeriodHours"]
        wanted = spec.get("RetentionPeriodHours", now)
        if wanted != now:
            verb = "increase" if wanted > now else "decrease"
            self.call(f"{verb}_stream_retention_period", name, RetentionPeriodHours=wanted)

    def set_key(self, name: str, spec: Spec) -> None:
        summary = self.wait_until_active(name)
        if "KeyId" in spec and key_of(summary, spec) != spec["KeyId"]:
            self.call("start_stream_encryption", name, EncryptionType="KMS", KeyId=spec["KeyId"])
            self.wait_until_active(name)

    def wait_until_active(self, name: str) -> Any:
        """The summary of the stream once it takes a change."""
        seen: list[Any] = []

        def is_active() -> bool:
            summary = self.summary(name)
            if summary is None or summary["StreamStatus"] == "DELETING":
                raise AwsError(f"stream {name} was deleted while it was changed: run the command again")
            seen[:] = [summary]
            return bool(summary["StreamStatus"] == "ACTIVE")

        self.account.wait(f"stream {name} getting ACTIVE", STREAM_SECONDS, is_active)
        return seen[0]

    def wait_until_gone(self, name: str) -> None:
        """Returns at once where no stream of that name is being deleted."""

        def is_gone() -> bool:
            summary = self.summary(name)
            return summary is None or summary["StreamStatus"] != "DELETING"

        self.account.wait(f"deleting stream {name}", STREAM_SECONDS, is_gone)

    def summary(self, name: str) -> Any:
        found = self.account.find(
            "kinesis", "describe_stream_summary", f"stream {name}", ABSENT, StreamName=name
        )
        return None if found is None else found["StreamDescriptionSummary"]

    def tags(self, name: str) -> dict[str, str]:
        tags: dict[str, str] = {}
        start: dict[str, str] = {}
        while True:  # botocore has no paginator for this call
            page = self.call("list_tags_for_stream", name, **start)
            tags |= {tag["Key"]: tag["Value"] for tag in page["Tags"]}
            if not page["HasMoreTags"]:
                return tags
            start = {"ExclusiveStartTagKey": page["Tags"][-1]["Key"]}

    def call(self, operation: str, name: str, **parameters: Any) -> Any:
        return self.account.call("kinesis", operation, f"stream {name}", StreamName=name, **parameters)


def mode_of(summary: Any) -> str:
    """A stream older than the on-demand mode (2021) has no StreamModeDetails."""
    return str(summary.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED"))


def key_of(summary: Any, spec: Spec) -> str | None:
    """The spec's own name for the stream's key, where AWS gives the ARN of that alias or key."""
    key, wanted = summary.get("KeyId"), spec.get("KeyId")
    if summary.get("EncryptionType", "NONE") == "NONE" or key is None:
        return None
    return str(wanted if key.endswith((f":{wanted}", f":key/{wanted}")) else key)


def shard_steps(count: int, wanted: int) -> list[int]:
    """[2, 4, 5] for 1 to 5: one call at most doubles the count, and at most halves it.

    Source: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_UpdateShardCount.html (ten a day)
    """
    steps = []
    while count != wanted:
        count = min(wanted, 2 * count) if wanted > count else max(wanted, -(-count // 2))
        steps.append(count)
    return steps
