"""SNS topics that tell a person."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from provision.aws import Account
from provision.engine import Kind, Live, Spec
from provision.kinds.documents import policy_as_declared, tags_in, there

ABSENT = {"NotFound", "ResourceNotFound"}
PENDING = "PendingConfirmation"


@dataclass
class Topic(Kind):
    """A topic: Name, Policy (document), Endpoint (the e-mail address that is told).

    Attributes: name, arn, is_confirmed (False until the person has followed the link in AWS's mail, or if
    there is no such subscription). Subscriptions added by hand stay. When Endpoint changes, the address that
    the plan shows as the old one is unsubscribed, if it was ever confirmed: AWS forgets unconfirmed ones.
    """

    account: Account
    label = "topic"
    immutable = frozenset({"Name"})

    def find(self, spec: Spec) -> Live | None:
        arn = self.arn(spec)
        found = self.account.find(
            "sns", "get_topic_attributes", f"topic {spec['Name']}", ABSENT, TopicArn=arn
        )
        if found is None:
            return None
        policy = json.loads(found["Attributes"].get("Policy") or "null")
        addresses = self.addresses(spec)
        wanted = spec.get("Endpoint")
        values = {
            "Name": spec["Name"],
            "Policy": policy_as_declared(spec.get("Policy"), policy),
            "Endpoint": wanted if wanted in addresses else next(iter(addresses), None),
        }
        is_confirmed = addresses.get(wanted, PENDING) != PENDING
        tags = self.call("list_tags_for_resource", spec, ResourceArn=arn)["Tags"]
        is_ours = self.account.is_ours(tags_in(tags))
        return Live(values, {"name": spec["Name"], "arn": arn, "is_confirmed": is_confirmed}, is_ours)

    def create(self, spec: Spec) -> Live:
        attributes = {"Policy": json.dumps(spec["Policy"])} if "Policy" in spec else {}
        self.call("create_topic", spec, Name=spec["Name"], Attributes=attributes, Tags=self.account.tag_list)
        return self.subscribed(spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        arn = self.arn(spec)
        if "Policy" in changed:
            policy = json.dumps(spec["Policy"])
            self.call(
                "set_topic_attributes", spec, TopicArn=arn, AttributeName="Policy", AttributeValue=policy
            )
        if "Endpoint" in changed:  # before the new one comes: then an interruption leaves a difference
            self.unsubscribe(spec, live.values["Endpoint"])
        return self.subscribed(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        """The subscriptions go first, or stay as orphans."""
        if self.find(spec) is None:
            return
        for address in self.addresses(spec):
            self.unsubscribe(spec, address)
        self.account.find("sns", "delete_topic", f"topic {spec['Name']}", ABSENT, TopicArn=self.arn(spec))

    def subscribed(self, spec: Spec) -> Live:
        arn, wanted = self.arn(spec), spec.get("Endpoint")
        if wanted is not None and wanted not in self.addresses(spec):
            self.call("subscribe", spec, TopicArn=arn, Protocol="email", Endpoint=wanted)
        return there(self, self.account, spec)

    def unsubscribe(self, spec: Spec, address: str | None) -> None:
        subscription = self.addresses(spec).get(address, PENDING)
        if subscription != PENDING:  # an unconfirmed subscription has no ARN to name
            self.account.find(
                "sns", "unsubscribe", f"topic {spec['Name']}", ABSENT, SubscriptionArn=subscription
            )

    def addresses(self, spec: Spec) -> dict[str | None, str]:
        """{"ops@example.org": ARN of the subscription, or PendingConfirmation}"""
        subscriptions = self.account.pages(
            "sns",
            "list_subscriptions_by_topic",
            f"topic {spec['Name']}",
            "Subscriptions",
            TopicArn=self.arn(spec),
        )
        return {
            one["Endpoint"]: one["SubscriptionArn"]
            for one in subscriptions
            if one["Protocol"] == "email" and one["SubscriptionArn"] != "Deleted"
        }

    def arn(self, spec: Spec) -> str:
        return self.account.arn("sns", spec["Name"])

    def call(self, operation: str, spec: Spec, **parameters: Any) -> Any:
        return self.account.call("sns", operation, f"topic {spec['Name']}", **parameters)


def alarm_policy(topic_arn: str, account_id: str) -> dict[str, Any]:
    """Lets this account's alarms, and event rules, publish to the topic.

    Rules bring no role of their own, and "you can't use Condition blocks in Amazon SNS topic policies for
    EventBridge": with one, nothing would arrive and nobody would say so. Who may add rules decides, then.
    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    """
    publish = {"Effect": "Allow", "Action": "sns:Publish", "Resource": topic_arn}
    alarms = {"Sid": "Alarms", **publish, "Principal": {"Service": "cloudwatch.amazonaws.com"}}
    alarms["Condition"] = {"StringEquals": {"aws:SourceAccount": account_id}}
    rules = {"Sid": "Rules", **publish, "Principal": {"Service": "events.amazonaws.com"}}
    return {"Version": "2012-10-17", "Statement": [alarms, rules]}
