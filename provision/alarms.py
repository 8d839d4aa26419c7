"""What watches the chain, declared: alarms on metrics, event rules, the topic that mails, a dashboard.

Metrics: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics.html, and of DMS CHAP_Monitoring, of
Kinesis monitoring-with-cloudwatch, of RDS rds-metrics, of S3 metrics-dimensions in the user guides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provision.declaration import Declaration
from provision.engine import Ref, Resource
from provision.kinds import cloudwatch, events, logs, sns


def watch(given: Declaration) -> Iterator[Resource]:
    account, name = given.account, given.name
    quarantined = {
        "filterName": "quarantined",
        "logGroupName": f"/aws/lambda/{name('lambda')}",
        "filterPattern": '{ $.message = "record quarantined" }',
        "metricTransformations": [
            {"metricName": "Quarantined", "metricNamespace": name("pipeline"), "metricValue": "1"}
        ],
    }
    yield Resource("quarantine filter", logs.MetricFilter(account), quarantined)
    if given.settings.alarm_email or given.everything:
        yield Resource("alarm topic", sns.Topic(account), topic(given))
        yield from rules(given)
    for part, spec in alarm_specs(given):
        if part not in SILENCE:
            yield Resource(f"alarm {part}", cloudwatch.Alarm(account), spec)
    body = {"widgets": list(widgets(given))}
    dashboard = {"DashboardName": account.pipeline, "DashboardBody": body}
    yield Resource("dashboard", cloudwatch.Dashboard(account), dashboard)


def silence(given: Declaration) -> Iterator[Resource]:
    """The alarms that ring when nothing happens: DMS writes a status record a minute once its task runs."""
    for part, spec in alarm_specs(given):
        if part in SILENCE:
            yield Resource(f"alarm {part}", cloudwatch.Alarm(given.account), spec)


def topic(given: Declaration) -> dict[str, Any]:
    account, name = given.account, given.name("alarms")
    spec = {"Name": name, "Policy": sns.alarm_policy(account.arn("sns", name), account.account_id)}
    return spec | ({"Endpoint": given.settings.alarm_email} if given.settings.alarm_email else {})


def rules(given: Declaration) -> Iterator[Resource]:
    """What CloudWatch has no metric for: the task's state, and a batch given up, at once."""
    target = [{"Id": "topic", "Arn": Ref("alarm topic", "arn")}]
    task_state = {
        "source": ["aws.dms"],
        "detail-type": ["DMS Replication Task State Change"],
        "resources": [Ref("task", "arn")],
        "detail": {"eventType": ["REPLICATION_TASK_STOPPED", "REPLICATION_TASK_FAILED"]},
    }
    given_up = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [given.failed_bucket]}},
    }
    for part, pattern, description in (
        ("task-state", task_state, "The replication task stopped or failed"),
        ("given-up", given_up, "Lambda gave up a batch"),
    ):
        spec = {
            "Name": given.name(part),
            "Description": description,
            "EventPattern": pattern,
            "State": "ENABLED",
            "Targets": target,
        }
        yield Resource(f"rule {part}", events.Rule(given.account), spec)


@dataclass(frozen=True)
class Metric:
    """What an alarm and a widget show: namespace, name, dimensions, statistic."""

    namespace: str
    name: str
    dimensions: Mapping[str, Any]
    statistic: str = "Maximum"


def metrics(given: Declaration) -> dict[str, Metric]:
    """By the alarm's name, in the order of the chain."""
    instance = {"DBInstanceIdentifier": given.database_instance}
    replication = {"ReplicationInstanceIdentifier": given.name("replication")}
    task = replication | {"ReplicationTaskIdentifier": Ref("task", "resource_id")}
    stream, lambda_function = {"StreamName": given.name("stream")}, {"FunctionName": given.name("lambda")}
    failed = {"BucketName": given.failed_bucket, "StorageType": "AllStorageTypes"}
    found = {
        "slot-lag": Metric("AWS/RDS", "OldestReplicationSlotLag", instance),
        "database-storage": Metric("AWS/RDS", "FreeStorageSpace", instance, "Minimum"),
        "source-latency": Metric("AWS/DMS", "CDCLatencySource", task),
        "target-latency": Metric("AWS/DMS", "CDCLatencyTarget", task),
        "replication-storage": Metric("AWS/DMS", "FreeStorageSpace", replication, "Minimum"),
        "no-records": Metric("AWS/Kinesis", "IncomingRecords", stream, "Sum"),
        "no-invocations": Metric("AWS/Lambda", "Invocations", lambda_function, "Sum"),
        "iterator-age": Metric("AWS/Lambda", "IteratorAge", lambda_function),
        "errors": Metric("AWS/Lambda", "Errors", lambda_function, "Sum"),
        "throttles": Metric("AWS/Lambda", "Throttles", lambda_function, "Sum"),
        "quarantined": Metric(given.name("pipeline"), "Quarantined", {}, "Sum"),
        "delivery-failures": Metric("AWS/Lambda", "DestinationDeliveryFailures", lambda_function, "Sum"),
        "given-up": Metric("AWS/S3", "NumberOfObjects", failed, "Average"),  # the one that S3 has
    }
    if given.database_instance is None:
        del found["slot-lag"], found["database-storage"]
    return found


SILENCE = ("no-records", "no-invocations")
GB = 10**9
# Seconds a period, periods in a row, comparison, threshold, what it means and what to do.
LIMITS: Mapping[str, tuple[int, int, str, float, str]] = {
    "slot-lag": (
        300,
        3,
        ">",
        10 * GB,
        "the database keeps more than 10 GB of log for a slot: is the task up?",
    ),
    "database-storage": (300, 3, "<", 2 * GB, "less than 2 GB left: the database stops writing at none"),
    "source-latency": (60, 5, ">", 300, "DMS reads changes more than 5 minutes late"),
    "target-latency": (60, 5, ">", 300, "changes reach the stream more than 5 minutes late"),
    "replication-storage": (300, 3, "<", 5 * GB, "less than 5 GB left on the replication instance"),
    "no-records": (600, 1, "<", 1, "no record in 10 minutes, not even DMS's own: the chain stands still"),
    "no-invocations": (600, 1, "<", 1, "the function is not called: is its event source mapping well?"),
    "iterator-age": (60, 3, ">", 300_000, "rows land more than 5 minutes late, the window not counted"),
    "errors": (300, 1, ">", 0, "the function failed; Lambda delivers the batch again"),
    "throttles": (300, 1, ">", 0, "Lambda had no room for the function: raise the concurrency quota"),
    "quarantined": (300, 1, ">", 0, "records can't be read: python lake.py failed list"),
    "delivery-failures": (300, 1, ">", 0, "a given-up batch could not even be stored: rows are lost"),
    "given-up": (86_400, 1, ">", 0, "batches were given up: python lake.py failed list"),
}
COMPARISONS = {">": "GreaterThanThreshold", "<": "LessThanThreshold"}


def alarm_specs(given: Declaration) -> Iterator[tuple[str, dict[str, Any]]]:
    actions = [Ref("alarm topic", "arn")] if given.settings.alarm_email else []
    for part, metric in metrics(given).items():
        period, periods, comparison, threshold, meaning = LIMITS[part]
        if part == "iterator-age":  # a record waits in a window before it is read
            threshold += 1000 * given.settings.batch_window_seconds
        yield (
            part,
            {
                "AlarmName": given.name(part),
                "AlarmDescription": f"{meaning} (python setup_dms.py status)",
                "Namespace": metric.namespace,
                "MetricName": metric.name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions.items()],
                "Statistic": metric.statistic,
                "Period": period,
                "EvaluationPeriods": periods,
                "ComparisonOperator": COMPARISONS[comparison],
                "Threshold": float(threshold),
                "TreatMissingData": "breaching" if part in SILENCE else "notBreaching",
                "AlarmActions": actions,
                "OKActions": actions,
            },
        )


def widgets(given: Declaration) -> Iterator[dict[str, Any]]:
    """The alarms, then a graph of each metric, three a row, from the database to the bucket."""
    arns = [given.account.arn("cloudwatch", f"alarm:{given.name(part)}") for part in metrics(given)]
    yield widget("alarm", 0, 0, 24, {"title": "Alarms", "alarms": arns})
    for position, (part, metric) in enumerate(metrics(given).items()):
        dimensions = [each for pair in metric.dimensions.items() for each in pair]
        properties = {
            "title": part,
            "region": given.account.region,
            "metrics": [[metric.namespace, metric.name, *dimensions]],
            "stat": metric.statistic,
            "period": LIMITS[part][0],
        }
        yield widget("metric", 8 * (position % 3), 3 + 5 * (position // 3), 8, properties)


def widget(kind: str, x: int, y: int, width: int, properties: dict[str, Any]) -> dict[str, Any]:
    height = 3 if kind == "alarm" else 5
    return {"type": kind, "x": x, "y": y, "width": width, "height": height, "properties": properties}
