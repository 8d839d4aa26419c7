"""S3 buckets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from provision.aws import Account, AwsError, Refusal
from provision.engine import Kind, Live, Spec
from provision.kinds.documents import as_declared, policy_as_declared, tags_in, there

ABSENT = {"404", "NoSuchBucket"}
# "A conflicting conditional operation is currently in progress against this resource. Please try again.":
# while the name of a deleted bucket gets free, and while a setting is still on its way.
BUSY = {"OperationAborted"}
BUSY_ATTEMPTS = 24


@dataclass(frozen=True)
class Setting:
    """One of a bucket's settings: the call that reads it, the code for unset, the call that sets it."""

    get: str
    unset: str
    read: Callable[[Any], Any]
    put: str
    write: Callable[[Any], dict[str, Any]]


# In the order in which a new bucket gets them: closed first.
SETTINGS = {
    "PublicAccessBlock": Setting(
        "get_public_access_block",
        "NoSuchPublicAccessBlockConfiguration",
        lambda answer: answer["PublicAccessBlockConfiguration"],
        "put_public_access_block",
        lambda value: {"PublicAccessBlockConfiguration": value},
    ),
    "Ownership": Setting(
        "get_bucket_ownership_controls",
        "OwnershipControlsNotFoundError",
        lambda answer: answer["OwnershipControls"]["Rules"][0]["ObjectOwnership"],
        "put_bucket_ownership_controls",
        lambda value: {"OwnershipControls": {"Rules": [{"ObjectOwnership": value}]}},
    ),
    "Versioning": Setting(
        "get_bucket_versioning",
        "",
        lambda answer: answer.get("Status"),
        "put_bucket_versioning",
        lambda value: {"VersioningConfiguration": {"Status": value}},
    ),
    "Encryption": Setting(
        "get_bucket_encryption",
        "ServerSideEncryptionConfigurationNotFoundError",
        lambda answer: answer["ServerSideEncryptionConfiguration"]["Rules"][0].get(
            "ApplyServerSideEncryptionByDefault"
        ),
        "put_bucket_encryption",
        lambda value: {
            "ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": value}]}
        },
    ),
    "Lifecycle": Setting(
        "get_bucket_lifecycle_configuration",
        "NoSuchLifecycleConfiguration",
        lambda answer: answer.get("Rules", []),
        "put_bucket_lifecycle_configuration",
        lambda value: {"LifecycleConfiguration": {"Rules": value}},
    ),
    "Notification": Setting(
        "get_bucket_notification_configuration",
        "",
        lambda answer: {key: value for key, value in answer.items() if key != "ResponseMetadata"},
        "put_bucket_notification_configuration",
        lambda value: {"NotificationConfiguration": value},
    ),
    "Policy": Setting(
        "get_bucket_policy",
        "NoSuchBucketPolicy",
        lambda answer: json.loads(answer["Policy"]),
        "put_bucket_policy",
        lambda value: {"Policy": json.dumps(value)},
    ),
}


@dataclass
class Bucket(Kind):
    """A bucket: Bucket, PublicAccessBlock {flags}, Ownership (BucketOwnerEnforced), Versioning (Enabled),
    Encryption {SSEAlgorithm}, Lifecycle [rules, each with its ID], Notification ({"EventBridgeConfiguration":
    {}}), Policy (document).

    Attributes: name, arn, region. Destroy keeps it: it holds the rows. Policy and Lifecycle are replaced as a
    whole, so all of it is only ever written to a bucket that has our tag; another one is read and reported.
    """

    account: Account
    label = "bucket"
    immutable = frozenset({"Bucket"})
    is_retained = True
    why_not_replaced = "a bucket is never replaced: it holds the rows"

    def find(self, spec: Spec) -> Live | None:
        name = spec["Bucket"]
        head = self.head(name)
        if head is None:
            return None
        region = head.get("BucketRegion", self.account.region)
        if region != self.account.region:
            raise AwsError(
                f"bucket {name} is in {region}, the chain in {self.account.region}: choose another name or "
                f"AWS_DEFAULT_REGION={region}; each chain of an account needs its own PIPELINE_NAME"
            )
        values = {"Bucket": name} | {key: self.read(name, key, spec) for key in SETTINGS if key in spec}
        attributes = {
            "name": name,
            "arn": f"arn:{self.account.partition}:s3:::{name}",
            "region": region,
        }
        return Live(values, attributes, self.account.is_ours(self.tags(name)))

    def create(self, spec: Spec) -> Live:
        name = spec["Bucket"]
        # The tag comes with the bucket, so that it is ours from its first moment on; see kinesis.Stream.
        configuration: dict[str, Any] = {"Tags": self.account.tag_list}
        if self.account.region != "us-east-1":  # the one region that is not to be named
            configuration["LocationConstraint"] = self.account.region
        self.account.retry(BUSY, "", BUSY_ATTEMPTS, lambda: self.make(name, configuration))
        there(self, self.account, spec)
        if not self.account.is_ours(self.tags(name)):  # an emulated AWS that drops Tags, as moto 5.2 does
            tagging = {"TagSet": self.account.tag_list}
            self.account.call("s3", "put_bucket_tagging", f"bucket {name}", Bucket=name, Tagging=tagging)
        return self.made_so(spec, frozenset(spec))

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        return self.made_so(spec, changed)

    def delete(self, live: Live, spec: Spec) -> None:
        """Only an empty bucket can be deleted; nothing here empties one."""
        name = spec["Bucket"]
        self.account.find("s3", "delete_bucket", f"bucket {name}", ABSENT, Bucket=name)

    def made_so(self, spec: Spec, keys: frozenset[str]) -> Live:
        name = spec["Bucket"]
        for key in SETTINGS:
            if key in keys:
                self.put(name, key, spec[key])
        return there(self, self.account, spec)

    def put(self, name: str, key: str, value: Any) -> None:
        setting = SETTINGS[key]
        self.account.retry(
            BUSY,
            "",
            BUSY_ATTEMPTS,
            lambda: self.account.call(
                "s3", setting.put, f"bucket {name}", Bucket=name, **setting.write(value)
            ),
        )

    def make(self, name: str, configuration: dict[str, Any]) -> None:
        try:
            self.account.call(
                "s3",
                "create_bucket",
                f"bucket {name}",
                Bucket=name,
                CreateBucketConfiguration=configuration,
                ObjectOwnership="BucketOwnerEnforced",
            )
        except Refusal as error:
            if error.code == "BucketAlreadyExists":
                raise AwsError(taken(name)) from error
            if error.code != "BucketAlreadyOwnedByYou":  # AWS made it, and its answer was lost
                raise

    def head(self, name: str) -> Any:
        """What AWS says of the bucket, None if there is none. Raises AwsError if it is another account's."""
        owner = self.account.account_id  # else a name that somebody took before us would get our rows
        try:
            return self.account.find(
                "s3", "head_bucket", f"bucket {name}", ABSENT, Bucket=name, ExpectedBucketOwner=owner
            )
        except Refusal as error:
            if error.code == "403":  # HeadBucket's answer has no body, so no reason either
                raise AwsError(taken(name)) from error
            raise

    def read(self, name: str, key: str, spec: Spec) -> Any:
        """The live value under the spec's key; None while unset."""
        setting = SETTINGS[key]
        answer = self.account.find("s3", setting.get, f"bucket {name}", {setting.unset}, Bucket=name)
        if answer is None:
            return None
        same = policy_as_declared if key == "Policy" else as_declared
        return same(spec[key], setting.read(answer))

    def tags(self, name: str) -> dict[str, str]:
        found = self.account.find("s3", "get_bucket_tagging", f"bucket {name}", {"NoSuchTagSet"}, Bucket=name)
        return {} if found is None else tags_in(found["TagSet"])


def taken(name: str) -> str:
    return (
        f"bucket {name} is another account's (names are global), or s3:ListBucket on it is not allowed: "
        "choose another name, or let your role or user do it"
    )


def tls_only(bucket_arn: str) -> dict[str, Any]:
    """The bucket policy that refuses every request that does not come over TLS.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "OnlyOverTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [bucket_arn, f"{bucket_arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }
