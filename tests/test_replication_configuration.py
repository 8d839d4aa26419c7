"""What of a task's settings is played, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local_run.aws import TASK_SETTINGS
from local_run.replication import pgoutput
from local_run.replication.configuration import (
    SOURCE_SETTINGS,
    TARGET_SETTINGS,
    endpoint_faults,
    rule_faults,
    setting_faults,
    task_faults,
)
from local_run.replication.position import Progress, RecentTransactions, Snapshot, lsn_number, lsn_text
from provision.replication_task import table_mappings, table_patterns, task_settings

MERGED = {
    section: {**values, **task_settings().get(section, {})} if isinstance(values, dict) else values
    for section, values in (TASK_SETTINGS | {"BeforeImageSettings": {}}).items()
}


def test_the_settings_that_the_chain_declares_are_played() -> None:
    assert list(setting_faults(MERGED)) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("TargetMetadata.FullLobMode", True, "TargetMetadata.FullLobMode = True: make it False"),
        ("TargetMetadata.BatchApplyEnabled", True, "TargetMetadata.BatchApplyEnabled = True: make it False"),
        ("TargetMetadata.SupportLobs", False, "TargetMetadata.SupportLobs = False: make it True"),
        ("TargetMetadata.TargetSchema", "x", "TargetMetadata.TargetSchema = 'x': make it ''"),
        (
            "FullLoadSettings.TargetTablePrepMode",
            "TRUNCATE_BEFORE_LOAD",
            "FullLoadSettings.TargetTablePrepMode = 'TRUNCATE_BEFORE_LOAD': "
            "make it 'DO_NOTHING' or 'DROP_AND_CREATE'",
        ),
        (
            "FullLoadSettings.StopTaskCachedChangesApplied",
            True,
            "FullLoadSettings.StopTaskCachedChangesApplied = True: make it False",
        ),
        (
            "ControlTablesSettings.HistoryTableEnabled",
            True,
            "ControlTablesSettings.HistoryTableEnabled = True: make it False",
        ),
        (
            "ErrorBehavior.DataErrorPolicy",
            "LOG_ERROR",
            "ErrorBehavior.DataErrorPolicy = 'LOG_ERROR': make it 'SUSPEND_TABLE'",
        ),
        (
            "ValidationSettings.EnableValidation",
            True,
            "ValidationSettings.EnableValidation = True: make it False",
        ),
        ("TargetMetadata.New", 1, "TargetMetadata.New = 1: leave it out"),
        ("NewSettings.Word", "x", "NewSettings.Word = 'x': leave it out"),
    ],
)
def test_a_setting_that_is_not_played_is_refused_by_name(path: str, value: Any, fault: str) -> None:
    section, name = path.split(".")
    settings = {**MERGED, section: {**MERGED.get(section, {}), name: value}}
    assert list(setting_faults(settings)) == [fault]


def test_a_section_of_its_own_is_refused_by_name() -> None:
    faults = setting_faults({**MERGED, "PostProcessingRules": {"rules": []}})
    assert list(faults) == ["PostProcessingRules.rules = []: leave it out"]


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ({"ExtraConnectionAttributes": "a=b"}, "source: ExtraConnectionAttributes: leave them out"),
        (
            {"PostgreSQLSettings": {"SecretsManagerSecretId": "x", "AfterConnectScript": "SELECT"}},
            "source: PostgreSQLSettings.AfterConnectScript = 'SELECT': leave it out",
        ),
        (
            {"PostgreSQLSettings": {"PluginName": "pglogical"}},
            "source: a login that is not in Secrets Manager: put it there",
        ),
        (
            {"PostgreSQLSettings": {}},
            "source: an endpoint without PostgreSQLSettings: only PostgreSQL to Kinesis",
        ),
    ],
)
def test_a_source_endpoint_that_is_not_played_is_refused_by_name(endpoint: Any, fault: str) -> None:
    whole = {
        "EndpointIdentifier": "source",
        "PostgreSQLSettings": {"SecretsManagerSecretId": "lending-login"},
        **endpoint,
    }
    assert list(endpoint_faults(whole, "PostgreSQLSettings", SOURCE_SETTINGS)) == [fault]


def test_a_target_setting_that_is_not_known_is_refused_by_name() -> None:
    whole = {"EndpointIdentifier": "target", "KinesisSettings": {"StreamArn": "arn", "Compression": "gzip"}}
    assert list(endpoint_faults(whole, "KinesisSettings", TARGET_SETTINGS)) == [
        "target: KinesisSettings.Compression = 'gzip': leave it out"
    ]


def test_rules_that_are_not_played_are_refused_by_name() -> None:
    document = table_mappings(table_patterns("public.client"), None).document
    assert rule_faults(document) == []
    changed = json.loads(json.dumps(document))
    changed["rules"][0]["filters"] = [{"filter-type": "source"}]
    changed["rules"].append(
        {
            "rule-type": "transformation",
            "rule-id": "1",
            "rule-name": "upper",
            "rule-action": "convert-uppercase",
            "object-locator": {"schema-name": "public", "table-name": "%"},
        }
    )
    name = changed["rules"][0]["rule-name"]
    assert rule_faults(changed) == [
        f"rule {name}: selection include: leave it out",
        "rule upper: transformation convert-uppercase: leave it out",
    ]


@pytest.mark.parametrize(
    ("task", "faults"),
    [
        ({"MigrationType": "full-load-and-cdc"}, []),
        ({"MigrationType": "cdc"}, []),
        ({"MigrationType": "full-load"}, ["MigrationType 'full-load': make it full-load-and-cdc or cdc"]),
        ({"MigrationType": "cdc", "CdcStartPosition": "0/1"}, ["CdcStartPosition: leave it out"]),
    ],
)
def test_a_task_that_is_not_played_is_refused_by_name(task: Any, faults: list[str]) -> None:
    assert list(task_faults(task)) == faults


def test_a_partition_key_of_a_column_takes_its_name_and_a_constant_needs_one() -> None:
    document = table_mappings(table_patterns("public.client"), None).document
    rule = next(one for one in document["rules"] if one["rule-type"] == "object-mapping")
    rule["mapping-parameters"] = {"partition-key-type": "attribute-name", "partition-key-name": "email"}
    assert rule_faults(document) == []
    rule["mapping-parameters"] = {"partition-key-type": "constant"}
    assert rule_faults(document) == [
        f"rule {rule['rule-name']}: object-mapping map-record-to-record: leave it out"
    ]


# ----------------------------------------------------------------------------------------------------------
# Snapshots and positions
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xid", "is_seen"),
    [(99, True), (100, False), (101, True), (102, False), (104, True), (105, False), (4_000_000_000, True)],
)
def test_a_snapshot_has_seen_what_was_committed_when_it_was_taken(xid: int, is_seen: bool) -> None:
    assert Snapshot(100, 105, frozenset({100, 102}), 0).has_seen(xid) is is_seen


@pytest.mark.parametrize(("xid", "is_seen"), [(2**32 - 1, True), (3, False), (4, True), (5, False)])
def test_a_snapshot_sees_through_the_end_of_an_epoch(xid: int, is_seen: bool) -> None:
    """Transaction ids of the log have 32 bits, those of a snapshot 64."""
    epoch = 3 * 2**32
    assert Snapshot(epoch - 10, epoch + 5, frozenset({epoch + 3}), 0).has_seen(xid) is is_seen


def test_a_snapshot_that_lacks_what_was_just_sent_is_too_early() -> None:
    recent = RecentTransactions()
    recent.add(100)
    recent.add(105)
    assert not recent.are_seen_by(Snapshot(100, 105, frozenset(), 0))
    assert not recent.are_seen_by(Snapshot(100, 106, frozenset({100}), 0))
    assert recent.are_seen_by(Snapshot(106, 106, frozenset(), 0))


def test_tables_that_are_not_the_tasks_any_more_are_forgotten() -> None:
    progress = Progress()
    progress.table("public", "a").loaded_rows = 5
    progress.table("public", "b")
    progress.keep({("public", "a"), ("public", "c")})
    assert [(table.name, table.loaded_rows) for table in progress.tables] == [("a", 5)]


def test_positions_are_written_as_postgresql_does() -> None:
    assert lsn_text(0x1_0000_00FF) == "1/FF"
    assert lsn_number("1/FF") == 0x1_0000_00FF


def test_a_message_that_version_1_does_not_have_is_refused() -> None:
    with pytest.raises(
        ValueError, match="a message of kind b'S', which its protocol version 1 does not have"
    ):
        pgoutput.read(b"S\x00")
