"""What all parts of the chain are declared from: settings, surroundings, account; the names that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from provision.aws import Account
from provision.engine import Ref
from provision.settings import Settings
from provision.surroundings import Surroundings

TASK_RUN = "task run"
# The roles that DMS looks for under names of its own, and AWS's policies that they need.
ACCOUNT_ROLES = {
    "dms-vpc-role": "AmazonDMSVPCManagementRole",
    "dms-cloudwatch-logs-role": "AmazonDMSCloudWatchLogsRole",
}


def managed_policy_arn(account: Account, name: str) -> str:
    return f"arn:{account.partition}:iam::aws:policy/service-role/{name}"


def failed_bucket(account: Account) -> str:
    """lending-failed-123456789012: the bucket that takes the batches that Lambda gives up."""
    return f"{account.pipeline}-failed-{account.account_id}"


@dataclass(frozen=True)
class Declaration:
    """What the parts of the chain are made of.

    everything: also what these settings do not ask for, so that destroy finds what earlier ones did.
    """

    settings: Settings
    around: Surroundings
    account: Account
    code: Callable[[], bytes]  # the function's zip, when it has to be made
    everything: bool = False

    def name(self, part: str) -> str:
        return self.account.name(part)

    @property
    def makes_database(self) -> bool:
        return self.settings.create_rds or self.everything

    @property
    def bucket_arn(self) -> str:
        return f"arn:{self.account.partition}:s3:::{self.settings.s3_bucket}"

    @property
    def failed_bucket(self) -> str:
        return failed_bucket(self.account)

    @property
    def failed_bucket_arn(self) -> str:
        return f"arn:{self.account.partition}:s3:::{self.failed_bucket}"

    @property
    def stream_arn(self) -> str:
        return self.account.arn("kinesis", f"stream/{self.name('stream')}")

    @property
    def host(self) -> Any:
        return Ref("database", "host") if self.settings.create_rds else self.settings.pghost

    @property
    def database_instance(self) -> str | None:
        """The RDS instance, for metrics; None: PGHOST is none."""
        if self.settings.create_rds:
            return self.name("database")
        if self.around.source:
            return str(self.around.source.attributes["name"])
        return self.name("database") if self.everything else None
