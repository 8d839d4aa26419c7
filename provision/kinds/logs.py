"""CloudWatch Logs: log groups, and the metrics that filters make of their lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provision.aws import TAG, Account
from provision.engine import Kind, Live, Spec
from provision.kinds.documents import as_declared, there

ABSENT = {"ResourceNotFoundException"}
FILTER_KEYS = ("filterPattern", "metricTransformations")


@dataclass
class LogGroup(Kind):
    """A log group: logGroupName, retentionInDays.

    Attributes: name, arn (without ":*"). AWS makes the groups of a function and of a replication instance by
    itself, untagged and kept for ever, when these log before we come. Their names follow from names of ours,
    so an untagged group is taken over; one that has the tag of another pipeline is not ours.
    """

    account: Account
    label = "log group"
    immutable = frozenset({"logGroupName"})

    def find(self, spec: Spec) -> Live | None:
        name = spec["logGroupName"]
        found = log_group(self.account, name)
        if found is None:
            return None
        values = {"logGroupName": name, "retentionInDays": found.get("retentionInDays")}
        arn = arn_of(found)
        return Live(values, {"name": name, "arn": arn}, is_ours(self.account, name, arn))

    def create(self, spec: Spec) -> Live:
        name = spec["logGroupName"]
        self.account.find(
            "logs",
            "create_log_group",
            f"log group {name}",
            {"ResourceAlreadyExistsException"},  # made by AWS since we looked
            logGroupName=name,
            tags=self.account.tags,
        )
        return self.made_so(spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        return self.made_so(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["logGroupName"]
        self.account.find("logs", "delete_log_group", f"log group {name}", ABSENT, logGroupName=name)

    def made_so(self, spec: Spec) -> Live:
        name = spec["logGroupName"]
        arn = there(self, self.account, spec).attributes["arn"]
        if not self.account.is_ours(tags_of(self.account, name, arn)):
            self.call("tag_resource", name, resourceArn=arn, tags=self.account.tags)
        days = spec["retentionInDays"]
        self.call("put_retention_policy", name, logGroupName=name, retentionInDays=days)
        return there(self, self.account, spec)

    def call(self, operation: str, name: str, **parameters: Any) -> Any:
        return self.account.call("logs", operation, f"log group {name}", **parameters)


@dataclass
class MetricFilter(Kind):
    """A metric of log lines: logGroupName, filterName, filterPattern, metricTransformations.

    Attributes: name. A filter has no tags: it is ours as its log group is.
    """

    account: Account
    label = "metric filter"
    immutable = frozenset({"logGroupName", "filterName"})

    def find(self, spec: Spec) -> Live | None:
        group, name = spec["logGroupName"], spec["filterName"]
        owner = log_group(self.account, group)
        if owner is None:
            return None
        filters = self.account.pages(
            "logs",
            "describe_metric_filters",
            f"metric filter {name}",
            "metricFilters",
            logGroupName=group,
            filterNamePrefix=name,
        )
        found = next((one for one in filters if one["filterName"] == name), None)
        if found is None:
            return None
        values = {"logGroupName": group, "filterName": name}
        values |= {key: as_declared(spec.get(key), found.get(key)) for key in FILTER_KEYS}
        return Live(values, {"name": name}, is_ours(self.account, group, arn_of(owner)))

    def create(self, spec: Spec) -> Live:
        """PutMetricFilter makes a filter, or replaces it as a whole."""
        name = spec["filterName"]
        self.account.call("logs", "put_metric_filter", f"metric filter {name}", **spec)
        return there(self, self.account, spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        return self.create(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["filterName"]
        self.account.find(
            "logs",
            "delete_metric_filter",
            f"metric filter {name}",
            ABSENT,
            logGroupName=spec["logGroupName"],
            filterName=name,
        )


def log_group(account: Account, name: str) -> Any:
    """AWS's description of the group of exactly this name, None if there is none."""
    groups = account.pages(
        "logs", "describe_log_groups", f"log group {name}", "logGroups", logGroupNamePrefix=name
    )
    return next((group for group in groups if group["logGroupName"] == name), None)


def arn_of(group: Any) -> str:
    """The ARN as tags and policies want it: "arn" ends in ":*", and "logGroupArn" came in 2023 only."""
    return str(group["arn"]).removesuffix(":*")


def tags_of(account: Account, name: str, arn: str) -> dict[str, str]:
    return dict(account.call("logs", "list_tags_for_resource", f"log group {name}", resourceArn=arn)["tags"])


def is_ours(account: Account, name: str, arn: str) -> bool:
    return tags_of(account, name, arn).get(TAG, account.pipeline) == account.pipeline
