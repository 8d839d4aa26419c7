"""The account that the chain is made in: calls with errors that say what to do, and waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from provision.engine import ProvisionError

DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "AccessDeniedFault",
    "AuthorizationError",
    "UnauthorizedOperation",
    "403",
}
EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "RequestExpired",
    "UnrecognizedClientException",
}
# Actions that IAM names otherwise than the API its operations; source: the service authorization reference.
ACTIONS = {
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:PutBucketNotificationConfiguration": "s3:PutBucketNotification",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
}
PREFIXES = {"monitoring": "cloudwatch"}  # services whose actions have another prefix than their signatures
TAG = "pipeline"  # on every object of ours; its value is PIPELINE_NAME


class AwsError(ProvisionError):
    """AWS refused a call, could not be reached, or an object was not ready in time."""


class Refusal(AwsError):
    """AWS answered a call with an error; code is AWS's own."""

    def __init__(self, text: str, code: str, message: str) -> None:
        super().__init__(text)
        self.code = code
        self.message = message


def silent(text: str) -> None:
    """Tells nobody."""


@dataclass
class Account:
    """An AWS account and region, as boto3 finds them, and the pipeline that is made in it.

    tell gets a line for every refusal that is only waited out.
    """

    session: Any
    pipeline: str
    poll_seconds: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    tell: Callable[[str], None] = silent
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        if service not in self.clients:
            config = Config(retries={"mode": "standard", "total_max_attempts": 5})
            try:
                self.clients[service] = self.session.client(service, region_name=self.region, config=config)
            except BotoCoreError as error:
                raise AwsError(
                    f"cannot reach {service}: {error}; configure AWS as for the AWS CLI"
                ) from error
        return self.clients[service]

    def call(self, service: str, operation: str, subject: str, **parameters: Any) -> Any:
        """AWS's answer; subject is the object as the user knows it. Raises Refusal, or another AwsError."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client(service)
        action = iam_action(client, operation)
        try:
            return getattr(client, operation)(**parameters)
        except (ClientError, BotoCoreError) as error:
            raise aws_error(error, action, subject) from error

    def find(
        self, service: str, operation: str, subject: str, absent: Collection[str], **parameters: Any
    ) -> Any:
        """As call, but None where AWS answers with one of the codes that mean: there is none."""
        try:
            return self.call(service, operation, subject, **parameters)
        except Refusal as error:
            if error.code in absent:
                return None
            raise

    def pages(self, service: str, operation: str, subject: str, key: str, **parameters: Any) -> Iterator[Any]:
        """Every item under key of all pages of the answer."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client(service)
        action = iam_action(client, operation)
        try:
            for page in client.get_paginator(operation).paginate(**parameters):
                yield from page.get(key, [])
        except (ClientError, BotoCoreError) as error:
            raise aws_error(error, action, subject) from error

    def wait(self, what: str, seconds: float, is_done: Callable[[], bool]) -> None:
        """Returns once is_done. Raises AwsError when that takes longer; is_done may raise on its own."""
        deadline, pause = time.monotonic() + seconds, 0.5
        while not is_done():
            if time.monotonic() > deadline:
                raise AwsError(f"{what} took longer than {seconds:.0f} s: run the command again to go on")
            self.sleep(min(pause, self.poll_seconds))
            pause *= 2

    def retry(self, codes: Collection[str], text: str, attempts: int, attempt: Callable[[], Any]) -> Any:
        """The attempt's answer; it is tried again while AWS refuses it with this code and message."""
        for _ in range(attempts - 1):
            try:
                return attempt()
            except Refusal as error:
                if error.code not in codes or text not in error.message:
                    raise
                self.tell(f"{error}; that passes: trying again")
            self.sleep(self.poll_seconds)
        return attempt()

    @cached_property
    def account_id(self) -> str:
        return str(self.call("sts", "get_caller_identity", "the caller")["Account"])

    @property
    def region(self) -> str:
        if not self.session.region_name:
            raise AwsError("no AWS region: set AWS_DEFAULT_REGION")
        return str(self.session.region_name)

    @cached_property
    def partition(self) -> str:
        return str(self.session.get_partition_for_region(self.region))

    def arn(self, service: str, resource: str) -> str:
        """arn:aws:kinesis:eu-west-1:123456789012:stream/lending"""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account_id}:{resource}"

    def name(self, part: str) -> str:
        """lending-stream: what the object of that part of the chain is called."""
        return f"{self.pipeline}-{part}"

    def is_ours(self, tags: dict[str, str]) -> bool:
        return tags.get(TAG) == self.pipeline

    @property
    def tags(self) -> dict[str, str]:
        return {TAG: self.pipeline}

    @property
    def tag_list(self) -> list[dict[str, str]]:
        return [{"Key": TAG, "Value": self.pipeline}]


def iam_action(client: Any, operation: str) -> str:
    """kinesis:CreateStream, as a policy names it."""
    name = client.meta.method_to_api_mapping[operation]
    service = client.meta.service_model.signing_name
    action = f"{PREFIXES.get(service, service)}:{name}"
    return ACTIONS.get(action, action)


def aws_error(error: Any, action: str, subject: str) -> AwsError:
    """What a failed call is to the user; AWS's own words are kept."""
    if not hasattr(error, "operation_name"):
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            return AwsError("no AWS credentials: configure them as for the AWS CLI")
        return AwsError(f"cannot call {action} on {subject}: {error}")
    code, message = error.response["Error"].get("Code", "?"), error.response["Error"].get("Message", "")
    if code in DENIED:
        text = f"{action} on {subject} is not allowed: let your role or user do it ({message})"
    elif code in EXPIRED:
        text = f"the AWS credentials are not valid (any more), {code}: renew them"
    else:
        text = f"{action} on {subject} failed, {code}: {message}"
    return Refusal(text, code, message)
