"""CloudWatch: alarms and dashboards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from provision.aws import Account
from provision.engine import Kind, Live, Spec
from provision.kinds.documents import as_declared, tags_in, there

ABSENT = {"ResourceNotFound", "DashboardNotFoundError"}


@dataclass
class Alarm(Kind):
    """An alarm on a metric or on an expression of several: AlarmName and any other key of PutMetricAlarm.

    Attributes: name, arn. PutMetricAlarm replaces all of an alarm, so the spec is all of it.
    """

    account: Account
    label = "alarm"
    immutable = frozenset({"AlarmName"})

    def find(self, spec: Spec) -> Live | None:
        name = spec["AlarmName"]
        answer = self.account.call(
            "cloudwatch", "describe_alarms", f"alarm {name}", AlarmNames=[name], AlarmTypes=["MetricAlarm"]
        )
        if not answer["MetricAlarms"]:
            return None
        found = answer["MetricAlarms"][0]
        values = {key: as_declared(spec[key], found.get(key)) for key in spec}
        arn = found["AlarmArn"]
        return Live(values, {"name": name, "arn": arn}, is_ours(self.account, f"alarm {name}", arn))

    def create(self, spec: Spec) -> Live:
        return self.put(spec, Tags=self.account.tag_list)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        return self.put(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["AlarmName"]
        self.account.find("cloudwatch", "delete_alarms", f"alarm {name}", ABSENT, AlarmNames=[name])

    def put(self, spec: Spec, **tags: Any) -> Live:
        """PutMetricAlarm takes tags for a new alarm only, and passes over them for another."""
        name = spec["AlarmName"]
        self.account.call("cloudwatch", "put_metric_alarm", f"alarm {name}", **spec, **tags)
        return there(self, self.account, spec)


@dataclass
class Dashboard(Kind):
    """A dashboard: DashboardName, DashboardBody (document). Attributes: name, arn.

    Widgets edited by hand are drift. A dashboard without our tag is somebody's work, and stays.
    """

    account: Account
    label = "dashboard"
    immutable = frozenset({"DashboardName"})

    def find(self, spec: Spec) -> Live | None:
        name = spec["DashboardName"]
        found = self.account.find(
            "cloudwatch", "get_dashboard", f"dashboard {name}", ABSENT, DashboardName=name
        )
        if found is None:
            return None
        values = {"DashboardName": name, "DashboardBody": as_document(found["DashboardBody"])}
        arn = found["DashboardArn"]
        return Live(values, {"name": name, "arn": arn}, is_ours(self.account, f"dashboard {name}", arn))

    def create(self, spec: Spec) -> Live:
        return self.put(spec, Tags=self.account.tag_list)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        return self.put(spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["DashboardName"]
        self.account.find(
            "cloudwatch", "delete_dashboards", f"dashboard {name}", ABSENT, DashboardNames=[name]
        )

    def put(self, spec: Spec, **tags: Any) -> Live:
        name = spec["DashboardName"]
        body = json.dumps(spec["DashboardBody"])
        self.account.call(
            "cloudwatch", "put_dashboard", f"dashboard {name}", DashboardName=name, DashboardBody=body, **tags
        )
        return there(self, self.account, spec)


def as_document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def is_ours(account: Account, subject: str, arn: str) -> bool:
    tags = account.call("cloudwatch", "list_tags_for_resource", subject, ResourceARN=arn)["Tags"]
    return account.is_ours(tags_in(tags))
