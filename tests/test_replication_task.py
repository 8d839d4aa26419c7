"""The documents that DMS gets for TABLES, and what we refuse to send it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.replication_task import (
    TableMappings,
    TablePattern,
    TaskDocumentError,
    added_tables,
    identity,
    is_selected,
    like,
    mapped_tables,
    mapping_faults,
    nearest_tables,
    table_mappings,
    table_patterns,
    task_setting_faults,
    task_settings,
)

CLIENT, LOAN, LOG = ("public", "client", True), ("public", "loan", True), ("public", "log", False)


def mappings(text: str, *tables: tuple[str, str, bool]) -> TableMappings:
    return table_mappings(table_patterns(text), tables)


def rule_ids(document: dict[str, Any]) -> dict[tuple[str, str, str], str]:
    """What each rule is about -> its id."""
    return {
        (rule["rule-action"], rule["object-locator"]["schema-name"], rule["object-locator"]["table-name"]): (
            rule["rule-id"]
        )
        for rule in document["rules"]
    }


# --------------------------------------------------------------------------------------------------------
# TABLES
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("public.%", ("public", "%")),
        ("tenant_%.%", ("tenant_%", "%")),
        (" sales . order ", ("sales", "order")),
        ('public."we.ird"', ("public", "we.ird")),
        ('public."a,b"', ("public", "a,b")),
        ('public."say ""hi"""', ("public", 'say "hi"')),
        ('"Sales"."Order Line"', ("Sales", "Order Line")),
        ("public.größe", ("public", "größe")),
        ("public.a$1", ("public", "a$1")),
    ],
)
def test_pattern_is_read(text: str, pattern: tuple[str, str]) -> None:
    assert table_patterns(text) == [TablePattern(*pattern)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "an entry is empty: write public.% for a whole schema, and no comma at the end"),
        ("client", "client names no schema: did you mean public.client?"),
        ("public.*", "public.*: did you mean public.%? The wildcard is %"),
        (
            "bank.public.client",
            "bank.public.client has 3 parts: did you mean public.client? PGDATABASE says which database, and "
            'a dot in a name goes in quotes: bank."public.client"',
        ),
        (
            "public.Client",
            'public.Client: case counts: did you mean public.client, or "Client" in double quotes?',
        ),
        (
            "public.order line",
            'public.order line: did you mean "order line"? Such a name goes in double quotes',
        ),
        ("public.", "public. has an empty name: write schema.table, or schema.% for all its tables"),
        ('public."a', 'public."a has a quote without its partner; a quote in a name is written twice'),
        (
            'public."a%b"',
            'public."a%b" has % in a name, which DMS reads as a wildcard and has no escape for: rename the '
            "table, or select it by a pattern such as public.%",
        ),
        (
            "public.awsdms_heartbeat",
            "public.awsdms_heartbeat is a table that DMS makes for itself and is always excluded: "
            "leave it out",
        ),
        (
            "pg_catalog.%",
            "pg_catalog.% is in a schema of PostgreSQL's own, which DMS does not replicate: leave it out",
        ),
        (
            f"public.{'a' * 64}",
            f"public.{'a' * 64}: {'a' * 64} is longer than the 63 bytes PostgreSQL keeps of a name",
        ),
        ('public.loan,public."loan"', 'public."loan" is there twice: leave one out'),
    ],
)
def test_pattern_bad(text: str, fault: str) -> None:
    with pytest.raises(TaskDocumentError) as raised:
        table_patterns(text)

    assert raised.value.faults == (fault,)


def test_patterns_bad_are_told_all_at_once() -> None:
    with pytest.raises(TaskDocumentError) as raised:
        table_patterns("client,public.%,sales.*,")

    assert str(raised.value) == (
        "TABLES:\n"
        "  client names no schema: did you mean public.client?\n"
        "  sales.*: did you mean sales.%? The wildcard is %\n"
        "  an entry is empty: write public.% for a whole schema, and no comma at the end"
    )


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("%", "", True),
        ("a%", "abc", True),
        ("a_c", "abc", True),
        ("a_c", "ac", False),
        ("a[_]c", "a_c", True),
        ("a[_]c", "abc", False),
        ("[a-d]x", "cx", True),
        ("[ad]x", "cx", False),
        ("[^]x", "^x", True),
        ("a.c", "abc", False),
        ("Client", "client", False),
        ("a%", "a\nb", True),
    ],
)
def test_wildcards_are_those_of_dms(pattern: str, name: str, is_match: bool) -> None:
    assert like(pattern, name) is is_match


# --------------------------------------------------------------------------------------------------------
# Table mappings
# --------------------------------------------------------------------------------------------------------

GOLDEN = """\
{"rule-type": "selection", "rule-id": "406749830", "rule-name": "include406749830", \
"object-locator": {"schema-name": "public", "table-name": "%"}, "rule-action": "include"}
{"rule-type": "selection", "rule-id": "443803512", "rule-name": "include443803512", \
"object-locator": {"schema-name": "sales", "table-name": "user[_]order"}, "rule-action": "include"}
{"rule-type": "selection", "rule-id": "694889135", "rule-name": "exclude694889135", \
"object-locator": {"schema-name": "dms", "table-name": "awsdms_%"}, "rule-action": "exclude"}
{"rule-type": "selection", "rule-id": "210191344", "rule-name": "exclude210191344", \
"object-locator": {"schema-name": "public", "table-name": "awsdms_%"}, "rule-action": "exclude"}
{"rule-type": "selection", "rule-id": "197431858", "rule-name": "exclude197431858", \
"object-locator": {"schema-name": "sales", "table-name": "awsdms_%"}, "rule-action": "exclude"}
{"rule-type": "object-mapping", "rule-id": "994127655", "rule-name": "map994127655", \
"rule-action": "map-record-to-record", "object-locator": {"schema-name": "public", "table-name": "client"}, \
"mapping-parameters": {"partition-key-type": "primary-key"}}
{"rule-type": "object-mapping", "rule-id": "110028669", "rule-name": "map110028669", \
"rule-action": "map-record-to-record", "object-locator": {"schema-name": "public", "table-name": "log"}, \
"mapping-parameters": {"partition-key-type": "schema-table"}}
{"rule-type": "object-mapping", "rule-id": "508447311", "rule-name": "map508447311", \
"rule-action": "map-record-to-record", \
"object-locator": {"schema-name": "sales", "table-name": "user_order"}, \
"mapping-parameters": {"partition-key-type": "primary-key"}}
"""


def test_mappings_are_includes_excludes_and_a_mapping_for_each_table() -> None:
    patterns = table_patterns("sales.user_order,public.%")
    catalog = [
        LOG,
        ("public", "awsdms_ddl_audit", True),
        CLIENT,
        ("sales", "user_order", True),
        ("sales", "userXorder", True),
        ("hr", "salary", True),
    ]

    made = table_mappings(patterns, catalog, heartbeat_schema="dms")

    assert list(made.document) == ["rules"]
    assert "".join(f"{json.dumps(rule)}\n" for rule in made.document["rules"]) == GOLDEN
    assert (made.not_expanded, made.matches_nothing, made.not_mapped) == ((), (), ())


def test_mappings_without_a_catalog_map_exact_names_and_say_what_is_left() -> None:
    made = table_mappings(table_patterns("public.%,sales.order"))

    assert mapped_tables(made.document) == [("sales", "order", True)]
    assert made.not_expanded == (TablePattern("public", "%"),)
    assert made.matches_nothing == ()


def test_mappings_say_which_pattern_matches_nothing_and_what_it_may_have_meant() -> None:
    made = mappings("public.client,public.laon,hr.%", CLIENT, LOAN)

    assert made.matches_nothing == (TablePattern("public", "laon"), TablePattern("hr", "%"))
    assert nearest_tables(TablePattern("public", "laon"), [CLIENT, LOAN]) == ["public.loan"]


def test_mappings_leave_a_name_with_wildcards_unmapped_and_say_so() -> None:
    made = mappings("public.%", CLIENT, ("public", "100%", True), ("public", "a[1]", True))

    assert mapped_tables(made.document) == [CLIENT]
    assert made.not_mapped == (("public", "100%"), ("public", "a[1]"))
    assert is_selected(made.document, "public", "100%")


@pytest.mark.parametrize(
    ("schema", "table", "is_there"),
    [
        ("public", "client", True),
        ("public", "awsdms_heartbeat", False),
        ("sales", "order_line", True),
        ("sales", "orderXline", False),
        ("hr", "client", False),
    ],
)
def test_selection_is_what_tables_says(schema: str, table: str, is_there: bool) -> None:
    document = mappings("public.%,sales.order_line").document

    assert is_selected(document, schema, table) is is_there


def test_mappings_do_not_depend_on_the_order_of_tables() -> None:
    assert mappings("public.%,sales.%", CLIENT, LOAN) == TableMappings(
        mappings("sales.%,public.%", LOAN, CLIENT).document, (), (TablePattern("sales", "%"),), ()
    )


def test_mapped_tables_of_the_live_document_stand_in_for_the_catalog() -> None:
    live = mappings("public.%", CLIENT, LOG).document

    made = table_mappings(table_patterns("public.%"), mapped_tables(live))

    assert made.document == live


def test_added_tables_are_those_that_were_not_mapped() -> None:
    old = mappings("public.%", CLIENT, LOG).document
    new = mappings("public.%,sales.order", CLIENT, LOAN, LOG, ("sales", "order", True)).document

    assert added_tables(old, new) == [("public", "loan"), ("sales", "order")]
    assert added_tables(new, old) == []
    assert added_tables(old, mappings("public.%", CLIENT, ("public", "log", True)).document) == []


def test_mappings_bad_without_a_pattern() -> None:
    with pytest.raises(TaskDocumentError, match="table mappings hold no rules"):
        table_mappings([])


def test_mappings_bad_beyond_two_megabytes() -> None:
    tables = [("public", f"t{number:060}", True) for number in range(8_000)]

    with pytest.raises(TaskDocumentError) as raised:
        table_mappings(table_patterns("public.%"), tables)

    assert raised.value.faults == (
        "2,352,342 bytes of mappings, DMS takes 2,000,000: spread the tables over two tasks",
    )


def test_rule_id_that_is_taken_gives_the_next_one() -> None:
    assert identity("map", "public", "client", {"994127655"})["rule-id"] == "994127656"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda name: len(name.encode()) <= 63 and not name.startswith(("pg_", "awsdms_")) and name == name.strip()
)
SCHEMAS = st.sampled_from(["public", "sales", "tenant_1", "We.ird", "größe"])
CATALOGS = st.lists(
    st.tuples(SCHEMAS, NAMES, st.booleans()), max_size=12, unique_by=lambda table: (table[0], table[1])
)
PATTERNS = st.lists(
    st.builds(
        TablePattern, SCHEMAS | st.just("%"), NAMES.filter(lambda n: not set("%[]") & set(n)) | st.just("%")
    ),
    min_size=1,
    max_size=4,
    unique=True,
)


@given(PATTERNS, st.none() | CATALOGS, st.none() | SCHEMAS)
def test_mappings_of_any_tables_pass_the_validator(
    patterns: list[TablePattern], catalog: list[tuple[str, str, bool]] | None, heartbeat_schema: str | None
) -> None:
    made = table_mappings(patterns, catalog, heartbeat_schema)

    assert mapping_faults(json.loads(json.dumps(made.document)), task_settings()) == []
    assert all(is_selected(made.document, schema, table) for schema, table, _ in mapped_tables(made.document))


@given(PATTERNS, CATALOGS)
def test_every_selected_table_is_mapped_or_named(
    patterns: list[TablePattern], catalog: list[tuple[str, str, bool]]
) -> None:
    made = table_mappings(patterns, catalog)

    named = {(schema, table) for schema, table, _ in mapped_tables(made.document)} | set(made.not_mapped)
    assert named == {(s, t) for s, t, _ in catalog if is_selected(made.document, s, t)}


@given(PATTERNS, CATALOGS, st.tuples(SCHEMAS, NAMES, st.booleans()))
def test_rule_ids_stay_when_a_table_is_added(
    patterns: list[TablePattern], catalog: list[tuple[str, str, bool]], table: tuple[str, str, bool]
) -> None:
    before = table_mappings(patterns, catalog).document
    rest = [known for known in catalog if known[:2] != table[:2]]

    after = table_mappings(patterns, [*rest, table]).document

    ids = rule_ids(after)
    assert all(ids[about] == number for about, number in rule_ids(before).items())


@given(PATTERNS)
def test_patterns_survive_being_written(patterns: list[TablePattern]) -> None:
    def part(name: str) -> str:
        return name if name == "%" else '"' + name.replace('"', '""') + '"'

    text = ", ".join(f"{part(pattern.schema)}.{part(pattern.table)}" for pattern in patterns)

    assert table_patterns(text) == patterns


# --------------------------------------------------------------------------------------------------------
# Task settings
# --------------------------------------------------------------------------------------------------------


def test_settings_are_what_the_chain_rests_on() -> None:
    assert task_settings(lob_max_size_kb=200, before_image_field="old", load_threads=4, apply_threads=16) == {
        "TargetMetadata": {
            "SupportLobs": True,
            "FullLobMode": False,
            "LimitedSizeLobMode": True,
            "LobMaxSize": 200,
            "InlineLobMaxSize": 0,
            "BatchApplyEnabled": False,
            "ParallelLoadThreads": 4,
            "ParallelLoadBufferSize": 50,
            "ParallelLoadQueuesPerThread": 5,
            "ParallelApplyThreads": 16,
            "ParallelApplyBufferSize": 100,
            "ParallelApplyQueuesPerThread": 5,
        },
        "FullLoadSettings": {
            "TargetTablePrepMode": "DO_NOTHING",
            "MaxFullLoadSubTasks": 8,
            "TransactionConsistencyTimeout": 600,
            "StopTaskCachedChangesApplied": False,
            "StopTaskCachedChangesNotApplied": False,
        },
        "Logging": {"EnableLogging": True},
        "ControlTablesSettings": {
            "ControlSchema": "",
            "StatusTableEnabled": True,
            "SuspendedTablesTableEnabled": True,
            "HistoryTableEnabled": False,
            "FullLoadExceptionTableEnabled": False,
        },
        "ChangeProcessingTuning": {
            "CommitTimeout": 1,
            "MinTransactionSize": 1000,
            "MemoryLimitTotal": 1024,
            "MemoryKeepTime": 60,
        },
        "ChangeProcessingDdlHandlingPolicy": {
            "HandleSourceTableDropped": True,
            "HandleSourceTableTruncated": True,
            "HandleSourceTableAltered": True,
        },
        "ErrorBehavior": {
            "DataErrorPolicy": "SUSPEND_TABLE",
            "DataTruncationErrorPolicy": "SUSPEND_TABLE",
            "DataErrorEscalationPolicy": "SUSPEND_TABLE",
            "TableErrorPolicy": "SUSPEND_TABLE",
            "TableErrorEscalationPolicy": "STOP_TASK",
            "ApplyErrorDeletePolicy": "SUSPEND_TABLE",
            "ApplyErrorInsertPolicy": "SUSPEND_TABLE",
            "ApplyErrorUpdatePolicy": "SUSPEND_TABLE",
            "ApplyErrorEscalationPolicy": "SUSPEND_TABLE",
            "RecoverableErrorCount": -1,
            "RecoverableErrorInterval": 5,
            "RecoverableErrorThrottling": True,
            "RecoverableErrorThrottlingMax": 1800,
            "FailOnNoTablesCaptured": True,
            "FailOnTransactionConsistencyBreached": True,
        },
        "ValidationSettings": {"EnableValidation": False},
        "BeforeImageSettings": {"EnableBeforeImage": True, "FieldName": "old", "ColumnFilter": "pk-only"},
    }


def test_settings_bad_are_told_all_at_once() -> None:
    with pytest.raises(TaskDocumentError) as raised:
        task_settings(lob_max_size_kb=900, before_image_field="", load_threads=33, apply_threads=-1)

    assert raised.value.faults == (
        "TargetMetadata.LobMaxSize is 900: write 700 or less; a message takes 1 MiB, with escapes, other "
        "columns and envelope",
        "TargetMetadata.ParallelLoadThreads is 33: write 32 or less",
        "TargetMetadata.ParallelApplyThreads is -1: write 0 or more",
        'BeforeImageSettings.FieldName is missing: write "before-image", or your BEFORE_IMAGE_FIELD',
    )


@given(st.integers(1, 700), st.integers(0, 32), st.integers(0, 32))
def test_settings_within_bounds_pass_the_validator(kilobytes: int, load: int, apply: int) -> None:
    made = task_settings(lob_max_size_kb=kilobytes, load_threads=load, apply_threads=apply)

    assert task_setting_faults(json.loads(json.dumps(made))) == []


# As the API returns what was sent to it with little more than {}: every section, in AWS's spelling.
ENLARGED: dict[str, Any] = {
    "TargetMetadata": {
        "TargetSchema": "",
        "LobChunkSize": 0,
        "LoadMaxFileSize": 0,
        "TaskRecoveryTableEnabled": False,
        "BatchApplyEnabled": False,
    },
    "FullLoadSettings": {"CreatePkAfterFullLoad": False, "CommitRate": 10000},
    "TTSettings": {"EnableTT": False, "TTS3Settings": None, "TTRecordSettings": None},
    "Logging": {"EnableLogging": True, "EnableLogContext": False, "LogComponents": []},
    "ControlTablesSettings": {"HistoryTimeslotInMinutes": 5, "historyTimeslotInMinutes": 5},
    "StreamBufferSettings": {
        "StreamBufferCount": 3,
        "StreamBufferSizeInMB": 8,
        "CtrlStreamBufferSizeInMB": 5,
    },
    "ChangeProcessingTuning": {"RecoveryTimeout": -1, "BatchSplitSize": 0, "StatementCacheSize": 50},
    "ErrorBehavior": {
        "EventErrorPolicy": None,
        "FullLoadIgnoreConflicts": True,
        "ApplyErrorEscalationCount": 0,
    },
    "ValidationSettings": {"EnableValidation": False, "ThreadCount": 5, "ValidationMode": "ROW_LEVEL"},
    "BeforeImageSettings": None,
    "CharacterSetSettings": None,
    "LoopbackPreventionSettings": None,
    "PostProcessingRules": None,
    "FailTaskWhenCleanTaskResourceFailed": False,
}


def test_settings_as_aws_returns_them_have_no_faults() -> None:
    assert task_setting_faults(ENLARGED) == []


@pytest.mark.parametrize(
    ("section", "settings", "fault"),
    [
        ("TargetMetaData", {}, "TargetMetaData is no section of task settings: write TargetMetadata"),
        ("TargetMetadata", [], "TargetMetadata is not an object: write {...}"),
        (
            "ErrorBehavior",
            {"DataErrorPolcy": "STOP_TASK"},
            "ErrorBehavior.DataErrorPolcy is unknown to DMS: write DataErrorPolicy",
        ),
        (
            "TargetMetadata",
            {"FullLobMode": True},
            "TargetMetadata.FullLobMode is True: a Kinesis target has no full LOB mode: write false",
        ),
        (
            "TargetMetadata",
            {"SupportLobs": False},
            "TargetMetadata.SupportLobs is False: text, json, arrays and bytea would be left out: write true",
        ),
        (
            "TargetMetadata",
            {"SupportLobs": True},
            "TargetMetadata.SupportLobs needs a mode: write LimitedSizeLobMode true and a LobMaxSize",
        ),
        (
            "TargetMetadata",
            {"LimitedSizeLobMode": True},
            "TargetMetadata.LobMaxSize is missing: write the longest value in KB, else 32 KB is kept of each",
        ),
        (
            "TargetMetadata",
            {"LobMaxSize": 1024},
            "TargetMetadata.LobMaxSize is 1024: write 700 or less; a message takes 1 MiB, with escapes, "
            "other columns and envelope",
        ),
        (
            "TargetMetadata",
            {"InlineLobMaxSize": 16},
            "TargetMetadata.InlineLobMaxSize makes DMS use full LOB mode above it: write 0",
        ),
        (
            "TargetMetadata",
            {"BatchApplyEnabled": True},
            "TargetMetadata.BatchApplyEnabled is True: it may lose changes on a Kinesis target: write false",
        ),
        (
            "TargetMetadata",
            {"BatchApplyEnabled": "false"},
            "TargetMetadata.BatchApplyEnabled is 'false': write true or false, without quotes",
        ),
        (
            "TargetMetadata",
            {"ParallelLoadThreads": "8"},
            "TargetMetadata.ParallelLoadThreads is '8': write a whole number, without quotes",
        ),
        (
            "TargetMetadata",
            {"ParallelApplyThreads": 64},
            "TargetMetadata.ParallelApplyThreads is 64: write 32 or less",
        ),
        (
            "TargetMetadata",
            {"ParallelLoadBufferSize": 1001},
            "TargetMetadata.ParallelLoadBufferSize is 1001: write 1000 or less",
        ),
        (
            "TargetMetadata",
            {"ParallelApplyQueuesPerThread": 513},
            "TargetMetadata.ParallelApplyQueuesPerThread is 513: write 512 or less",
        ),
        (
            "TargetMetadata",
            {"ParallelLoadThreads": 8, "ParallelLoadQueuesPerThread": 1},
            "TargetMetadata.ParallelLoadQueuesPerThread is 1: write 5 or more",
        ),
        (
            "FullLoadSettings",
            {"MaxFullLoadSubTasks": 50},
            "FullLoadSettings.MaxFullLoadSubTasks is 50: write 49 or less",
        ),
        (
            "FullLoadSettings",
            {"TargetTablePrepMode": "DO_NOTHNG"},
            "FullLoadSettings.TargetTablePrepMode is 'DO_NOTHNG': write DO_NOTHING",
        ),
        (
            "FullLoadSettings",
            {"StopTaskCachedChangesApplied": True},
            "FullLoadSettings.StopTaskCachedChangesApplied is True: the task would end with the load: "
            "write false",
        ),
        (
            "Logging",
            {"CloudWatchLogGroup": None},
            "Logging.CloudWatchLogGroup is AWS's to set, and refused on create: take it out",
        ),
        (
            "ErrorBehavior",
            {"DataErrorPolicy": "LOG_ERROR"},
            "ErrorBehavior.DataErrorPolicy is 'LOG_ERROR': rows would be lost unseen: write SUSPEND_TABLE",
        ),
        (
            "ErrorBehavior",
            {"ApplyErrorDeletePolicy": "IGNORE_RECORD"},
            "ErrorBehavior.ApplyErrorDeletePolicy is 'IGNORE_RECORD': rows would be lost unseen: "
            "write SUSPEND_TABLE",
        ),
        (
            "ErrorBehavior",
            {"TableErrorPolicy": "LOG_ERROR"},
            "ErrorBehavior.TableErrorPolicy is 'LOG_ERROR': write SUSPEND_TABLE or STOP_TASK",
        ),
        (
            "ValidationSettings",
            {"EnableValidation": True},
            "ValidationSettings.EnableValidation is True: DMS can't read a Kinesis target back: write false",
        ),
        (
            "BeforeImageSettings",
            {"EnableBeforeImage": True, "ColumnFilter": "pk-only"},
            'BeforeImageSettings.FieldName is missing: write "before-image", or your BEFORE_IMAGE_FIELD',
        ),
        (
            "BeforeImageSettings",
            {"ColumnFilter": "pk_only"},
            "BeforeImageSettings.ColumnFilter is 'pk_only': write pk-only",
        ),
    ],
)
def test_setting_bad(section: str, settings: Any, fault: str) -> None:
    assert task_setting_faults({section: settings}) == [fault]


def test_settings_bad_that_are_no_object() -> None:
    assert task_setting_faults("{}") == [
        "task settings are not an object: write {...} with sections such as TargetMetadata"
    ]


# --------------------------------------------------------------------------------------------------------
# Mappings that we refuse
# --------------------------------------------------------------------------------------------------------

SOUND: dict[str, Any] = table_mappings(table_patterns("public.%"), [CLIENT]).document
RENAME = {
    "rule-type": "transformation",
    "rule-id": "1",
    "rule-name": "1",
    "rule-target": "schema",
    "object-locator": {"schema-name": "public"},
    "rule-action": "rename",
    "value": "bank",
}
LOB_RULE = {
    "rule-type": "table-settings",
    "rule-id": "2",
    "rule-name": "2",
    "object-locator": {"schema-name": "public", "table-name": "client"},
    "lob-settings": {"mode": "limited", "bulk-max-size": "16"},
}


def changed(rule: int, **keys: Any) -> dict[str, Any]:
    """SOUND with other values in a rule: 0 includes public.%, 1 excludes awsdms_%, 2 maps client."""
    document = copy.deepcopy(SOUND)
    for key, value in keys.items():
        document["rules"][rule][key.replace("_", "-")] = value
    return document


def extended(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [*copy.deepcopy(SOUND["rules"]), *rules]}


def located(schema: str, table: str) -> dict[str, str]:
    return {"schema-name": schema, "table-name": table}


def test_mappings_with_rules_of_other_sorts_have_no_faults() -> None:
    assert mapping_faults(extended(RENAME, LOB_RULE)) == []


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        pytest.param(
            [],
            'table mappings hold no rules: write {"rules": [...]} with at least one include',
            id="no object",
        ),
        pytest.param(
            {"rules": []},
            'table mappings hold no rules: write {"rules": [...]} with at least one include',
            id="no rules",
        ),
        pytest.param(
            {**SOUND, "TableMappings": []},
            "'TableMappings' beside \"rules\" means nothing to DMS: take it out",
            id="another key",
        ),
        pytest.param(
            {"rules": [*SOUND["rules"], "include"]},
            "rule 4 is not an object: write {...} with rule-type, rule-id, rule-name, object-locator",
            id="no rule",
        ),
        pytest.param(
            changed(0, rule_type="select"),
            "rule 1: rule-type 'select' is unknown: write selection",
            id="rule-type",
        ),
        pytest.param(
            changed(0, rule_action="includes"),
            "rule 1: rule-action 'includes' of selection is unknown: write include",
            id="action of a selection",
        ),
        pytest.param(
            extended({**RENAME, "rule-action": "renam"}),
            "rule 4: rule-action 'renam' of transformation is unknown: write rename",
            id="action of a transformation",
        ),
        pytest.param(
            changed(2, rule_action="map-statement-to-document"),
            "rule 3: rule-action 'map-statement-to-document' of object-mapping is unknown: write "
            "map-record-to-record",
            id="map-statement-to-document",
        ),
        pytest.param(
            changed(2, rule_action="map-record-to-document"),
            "rule 3: map-record-to-document nests the columns under _doc: write map-record-to-record",
            id="map-record-to-document",
        ),
        pytest.param(
            changed(0, rule_id="include-7"),
            "rule 1: rule-id 'include-7' is not a number in quotes: write \"7\"",
            id="rule-id",
        ),
        pytest.param(
            changed(0, rule_id=7),
            'rule 1: rule-id 7 is not a number in quotes: write "7"',
            id="rule-id without quotes",
        ),
        pytest.param(
            changed(0, rule_name=""),
            'rule 1 has no rule-name: write "406749830"',
            id="rule-name",
        ),
        pytest.param(
            changed(0, object_locator=None),
            'rule 1 has no object-locator: write {"schema-name": "public", "table-name": "%"}',
            id="object-locator",
        ),
        pytest.param(
            changed(0, object_locator={"schema-name": "public"}),
            "rule 1: object-locator has no table-name: write a name, or % for all",
            id="table-name",
        ),
        pytest.param(
            changed(2, object_locator=located("public", "%")),
            "rule 3: no wildcard like '%' in an object-mapping: write a rule per table",
            id="wildcard in an object-mapping",
        ),
        pytest.param(
            changed(0, rule_action="explicit"),
            "rule 1: explicit takes no wildcard, found '%': write include",
            id="explicit wildcard",
        ),
        pytest.param(
            changed(2, rule_id=SOUND["rules"][0]["rule-id"]),
            "rule-id '406749830' is used 2 times: give each rule its own",
            id="rule-id twice",
        ),
        pytest.param(
            changed(2, rule_name="include406749830"),
            "rule-name 'include406749830' is used 2 times: give each rule its own",
            id="rule-name twice",
        ),
        pytest.param(
            {"rules": SOUND["rules"][1:2]},
            "no rule includes a table: write a selection rule with rule-action include",
            id="no include",
        ),
        pytest.param(
            {"rules": [SOUND["rules"][0], SOUND["rules"][2]]},
            "public.% replicates DMS's own awsdms_ddl_audit: exclude awsdms_% in public",
            id="DMS's own tables",
        ),
        pytest.param(
            changed(1, object_locator=located("pub", "awsdms_%")),
            "public.% replicates DMS's own awsdms_ddl_audit: exclude awsdms_% in public",
            id="DMS's own tables excluded elsewhere",
        ),
        pytest.param(
            changed(2, object_locator=located("sales", "order")),
            "sales.order has an object-mapping but no selection: include the table, or take the rule out",
            id="object-mapping without selection",
        ),
        pytest.param(
            extended({**SOUND["rules"][2], "rule-id": "1", "rule-name": "1"}),
            "public.client has 2 object-mappings: keep one",
            id="two object-mappings",
        ),
        pytest.param(
            changed(2, mapping_parameters={"partition-key-type": "primarykey"}),
            "public.client: partition-key-type 'primarykey' is unknown: write primary-key",
            id="partition key",
        ),
        pytest.param(
            changed(2, mapping_parameters={"partition-key-type": "transaction-id"}),
            "public.client: transaction-id spreads the changes of one key over shards: write primary-key",
            id="partition by transaction",
        ),
        pytest.param(
            changed(2, mapping_parameters={"partition-key-type": "attribute-name"}),
            "public.client: attribute-name needs a partition-key-name: write the column, or primary-key",
            id="partition by no attribute",
        ),
        pytest.param(
            extended({**RENAME, "rule-action": "add-before-image-columns"}),
            "1: the task settings ask for a before image already: take this rule out",
            id="two before images",
        ),
    ],
)
def test_mapping_bad(document: Any, fault: str) -> None:
    assert mapping_faults(document, task_settings()) == [fault]


def test_mapping_bad_that_includes_what_it_excludes() -> None:
    document = {"rules": [SOUND["rules"][0], {**SOUND["rules"][1], "object-locator": located("public", "%")}]}

    assert mapping_faults(document) == [
        "public.% is included and excluded, so nothing is left: take one of the two out"
    ]


def test_before_image_rule_alone_has_no_faults() -> None:
    rule = {**RENAME, "rule-action": "add-before-image-columns"}

    assert mapping_faults(extended(rule), {"BeforeImageSettings": {"EnableBeforeImage": False}}) == []


WORDS = st.sampled_from(
    [
        *("rules", "rule-type", "rule-id", "rule-name", "rule-action", "object-locator", "schema-name"),
        *("table-name", "mapping-parameters", "partition-key-type", "selection", "object-mapping"),
        *("transformation", "include", "explicit", "map-record-to-record", "1", "%", "public"),
        *("TargetMetadata", "LobMaxSize", "SupportLobs", "ErrorBehavior", "DataErrorPolicy", "Logging"),
        *("ParallelLoadThreads", "BeforeImageSettings", "EnableBeforeImage", "LogComponents"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=20,
)
RULES = st.lists(
    st.fixed_dictionaries(
        {
            "rule-type": st.sampled_from(["selection", "object-mapping", "table-settings"]) | JSON,
            "rule-id": st.just("1") | JSON,
            "rule-name": st.just("a") | JSON,
            "object-locator": st.just(located("public", "client")) | JSON,
        },
        optional={
            "rule-action": st.sampled_from(["include", "exclude", "map-record-to-record"]) | JSON,
            "mapping-parameters": JSON,
        },
    )
    | JSON,
    max_size=4,
)


@given(JSON | st.builds(lambda rules: {"rules": rules}, RULES), JSON)
def test_no_document_is_too_odd_for_the_validators(document: Any, settings: Any) -> None:
    faults = mapping_faults(document, settings if isinstance(settings, dict) else None)

    assert all(isinstance(fault, str) and fault for fault in [*faults, *task_setting_faults(settings)])
