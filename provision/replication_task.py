"""Table mappings and settings of the DMS task, as documents, and what is wrong with such a document.

    table_patterns("public.%,sales.order")          what TABLES says
    table_mappings(patterns, tables).document       {"rules": [selections, excludes, object mappings]}
    task_settings(lob_max_size_kb=64)               {"TargetMetadata": {...}, "ErrorBehavior": {...}, ...}

Everything here is pure: the tables of the catalog are passed in. The API takes both documents as opaque
texts, and what is wrong in one shows up minutes later in a failed task, or never, as rows that are not there;
so what leaves here has passed mapping_faults or task_setting_faults, which take anybody's document.
Source: https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Tasks.CustomizingTasks.TableMapping.html,
https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Tasks.CustomizingTasks.TaskSettings.html,
https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Target.Kinesis.html
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from provision.engine import ProvisionError

Document = dict[str, Any]
Table = tuple[str, str, bool]  # schema, table, whether it has a primary key

NAME_BYTES = 63  # longest identifier of PostgreSQL: NAMEDATALEN - 1
DMS_TABLES = "awsdms_%"  # awsdms_ddl_audit, awsdms_heartbeat: DMS makes them in the source
MAPPINGS_BYTES = 2_000_000  # "up to 2 MB", documented; larger ones fail at creation or modification
LOB_KB = 700  # the message takes 1 MiB (documented), and escapes, other columns and the envelope need room
# How names can be neither escaped nor selected: only [_] is documented as an escape.
UNMAPPABLE = frozenset("%[]")

# --------------------------------------------------------------------------------------------------------
# Errors and value types
# --------------------------------------------------------------------------------------------------------


class TaskDocumentError(ProvisionError):
    """A document can't be made or would not do what it says; faults holds one line for each reason."""

    def __init__(self, subject: str, faults: Sequence[str]) -> None:
        super().__init__("\n  ".join([f"{subject}:", *faults]))
        self.faults = tuple(faults)


@dataclass(frozen=True, order=True)
class TablePattern:
    """An entry of TABLES. % stands for any text; every other character, _ too, stands for itself."""

    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def is_exact(self) -> bool:
        return "%" not in self.schema + self.table

    def matches(self, schema: str, table: str) -> bool:
        return like(escaped(self.schema), schema) and like(escaped(self.table), table)


@dataclass(frozen=True)
class TableMappings:
    """The document, and what a person should know about it."""

    document: Document
    not_expanded: tuple[TablePattern, ...]  # no catalog: their tables have no object mapping yet
    matches_nothing: tuple[TablePattern, ...]  # by the catalog; always empty without one
    not_mapped: tuple[tuple[str, str], ...]  # a name with % [ ] can't stand in an object mapping


@dataclass(frozen=True)
class Number:
    """Bounds of a numeric setting, both included."""

    least: int
    most: int
    reason: str = ""


# --------------------------------------------------------------------------------------------------------
# Table mappings
# --------------------------------------------------------------------------------------------------------


def table_patterns(text: str) -> list[TablePattern]:
    """The patterns of TABLES, in its order: public.%, sales.order, public."we.ird" (all literal in quotes).

    Raises TaskDocumentError, with every fault of the text and what to write instead.
    """
    patterns: list[TablePattern] = []
    faults: list[str] = []
    for entry in split_unquoted(text, ","):
        try:
            pattern = table_pattern(entry)
            if pattern in patterns:
                raise ValueError(f"{entry} is there twice: leave one out")
            patterns.append(pattern)
        except ValueError as fault:
            faults.append(str(fault))
    if faults:
        raise TaskDocumentError("TABLES", faults)
    return patterns


def table_mappings(
    patterns: Sequence[TablePattern],
    tables: Iterable[Table] | None = None,
    heartbeat_schema: str | None = None,
) -> TableMappings:
    """The mappings for these patterns; tables are all of the catalog, None means the catalog is out of reach.

    Without a catalog only exact patterns get an object mapping, as if with a primary key. Where there is a
    live document, pass what mapped_tables says of it instead of None, so that nothing is taken out of it.
    Raises TaskDocumentError when DMS would not take the document.
    """
    catalog = exact_tables(patterns) if tables is None else list(tables)
    found = selected_tables(patterns, catalog)
    document = mappings_document(patterns, found, heartbeat_schema)
    if faults := mapping_faults(document):
        raise TaskDocumentError("table mappings", faults)
    return TableMappings(
        document,
        not_expanded=tuple(one for one in patterns if tables is None and not one.is_exact),
        matches_nothing=tuple(
            one for one in patterns if tables is not None and not any(one.matches(s, t) for s, t, _ in found)
        ),
        not_mapped=tuple(table[:2] for table in found if not is_mappable(table)),
    )


def mappings_document(
    patterns: Sequence[TablePattern], tables: Sequence[Table], heartbeat_schema: str | None
) -> Document:
    """Includes, excludes, object mappings, each sorted: the order of TABLES makes no difference."""
    included = {(escaped(pattern.schema), escaped(pattern.table)) for pattern in patterns}
    # Not escaped: the _ of awsdms_% stands for any character, which excludes too much rather than too little.
    excluded = {(schema, DMS_TABLES) for schema, _ in included}
    if heartbeat_schema is not None:
        excluded.add((escaped(heartbeat_schema), DMS_TABLES))
    taken: set[str] = set()
    rules = [selection("include", *locator, taken) for locator in sorted(included)]
    rules += [selection("exclude", *locator, taken) for locator in sorted(excluded)]
    rules += [object_mapping(table, taken) for table in tables if is_mappable(table)]
    return {"rules": rules}


def mapped_tables(document: Mapping[str, Any]) -> list[Table]:
    """The tables that have an object mapping, and whether it counts on a primary key; sorted."""
    return sorted(
        (
            rule["object-locator"]["schema-name"],
            rule["object-locator"]["table-name"],
            partition_key(rule) == "primary-key",
        )
        for rule in document["rules"]
        if rule["rule-type"] == "object-mapping"
    )


def added_tables(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The tables to load once the new mappings are in place; sorted.

    Those with an object mapping in new and none in old, whether or not a wildcard of old selected them: DMS
    may have seen changes of such a table, but has not loaded it. A document made without a catalog lacks the
    mappings of its wildcards, so that all their tables count as added. To load ten at a time (documented as
    the most) is the caller's job.
    """
    before = {(schema, table) for schema, table, _ in mapped_tables(old)}
    return [(schema, table) for schema, table, _ in mapped_tables(new) if (schema, table) not in before]


def is_selected(document: Mapping[str, Any], schema: str, table: str) -> bool:
    """Whether a task with these mappings replicates the table; an exclude beats any include (documented)."""
    actions = {
        rule["rule-action"]
        for rule in document["rules"]
        if rule["rule-type"] == "selection" and locates(rule, schema, table)
    }
    return bool(actions & {"include", "explicit"}) and "exclude" not in actions


def nearest_tables(pattern: TablePattern, tables: Iterable[Table]) -> list[str]:
    """Names of the catalog that a pattern which matches nothing may have meant; best first, at most three."""
    names = {f"{schema}.{table}".casefold(): f"{schema}.{table}" for schema, table, _ in tables}
    return [names[near] for near in difflib.get_close_matches(str(pattern).casefold(), names, cutoff=0.8)]


def selection(action: str, schema: str, table: str, taken: set[str]) -> Document:
    locator = {"schema-name": schema, "table-name": table}
    return {
        "rule-type": "selection",
        **identity(action, schema, table, taken),
        "object-locator": locator,
        "rule-action": action,
    }


def object_mapping(table: Table, taken: set[str]) -> Document:
    """The rule that says by what a table's records are spread over the shards.

    By primary key, so that a hot table uses all shards while each key keeps its order. Without one there is
    nothing to tell rows apart by: the whole table goes to one shard. The name is not escaped: DMS asks for
    the "exact schema and table" (an error message of engine 3.5), and read as a pattern it matches itself.
    """
    schema, name, has_primary_key = table
    return {
        "rule-type": "object-mapping",
        **identity("map", schema, name, taken),
        "rule-action": "map-record-to-record",
        "object-locator": {"schema-name": schema, "table-name": name},
        "mapping-parameters": {"partition-key-type": "primary-key" if has_primary_key else "schema-table"},
    }


def identity(purpose: str, schema: str, table: str, taken: set[str]) -> Document:
    """rule-id and rule-name, made of what the rule is about, so that another table changes no other rule.

    "A unique numeric value", documented; nine digits are what AWS's console and its examples use (542485267).
    Two names fall on one number once in 2,000 documents of 1,000 tables: then the later one takes the next.
    """
    digest = hashlib.sha256("\0".join((purpose, schema, table)).encode()).digest()
    offset = int.from_bytes(digest[:8], "big") % 900_000_000
    while (number := str(100_000_000 + offset)) in taken:
        offset = (offset + 1) % 900_000_000
    taken.add(number)
    return {"rule-id": number, "rule-name": f"{purpose}{number}"}


def exact_tables(patterns: Iterable[TablePattern]) -> list[Table]:
    return sorted({(pattern.schema, pattern.table, True) for pattern in patterns if pattern.is_exact})


def selected_tables(patterns: Sequence[TablePattern], tables: Iterable[Table]) -> list[Table]:
    """The tables of the catalog that the patterns select, DMS's own left out; sorted."""
    return sorted(
        {
            (schema, table, has_key)
            for schema, table, has_key in tables
            if not like(DMS_TABLES, table) and any(pattern.matches(schema, table) for pattern in patterns)
        }
    )


def is_mappable(table: Table) -> bool:
    return not UNMAPPABLE & set(table[0] + table[1])


def table_pattern(entry: str) -> TablePattern:
    """Raises ValueError with what to write instead."""
    if not entry:
        raise ValueError("an entry is empty: write public.% for a whole schema, and no comma at the end")
    if entry.count('"') % 2:
        raise ValueError(f"{entry} has a quote without its partner; a quote in a name is written twice")
    parts = split_unquoted(entry, ".")
    if len(parts) == 1:
        raise ValueError(f"{entry} names no schema: did you mean public.{entry}?")
    if len(parts) > 2:
        raise ValueError(
            f"{entry} has {len(parts)} parts: did you mean {parts[-2]}.{parts[-1]}? PGDATABASE says which "
            f'database, and a dot in a name goes in quotes: {parts[0]}."{".".join(parts[1:])}"'
        )
    schema, table = (name_part(part, entry) for part in parts)
    if schema == "information_schema" or schema.startswith("pg_"):
        raise ValueError(
            f"{entry} is in a schema of PostgreSQL's own, which DMS does not replicate: leave it out"
        )
    if like(DMS_TABLES, table):
        raise ValueError(f"{entry} is a table that DMS makes for itself and is always excluded: leave it out")
    return TablePattern(schema, table)


def name_part(part: str, entry: str) -> str:
    """A schema or table as PostgreSQL has it, % being the only wildcard. Raises ValueError."""
    is_quoted = len(part) > 1 and part[0] == part[-1] == '"' and '"' not in part[1:-1].replace('""', "")
    name = part[1:-1].replace('""', '"') if is_quoted else part
    if not name:
        raise ValueError(f"{entry} has an empty name: write schema.table, or schema.% for all its tables")
    if len(name.encode()) > NAME_BYTES:
        raise ValueError(f"{entry}: {name} is longer than the {NAME_BYTES} bytes PostgreSQL keeps of a name")
    if is_quoted and (wild := sorted(UNMAPPABLE & set(name))):
        raise ValueError(
            f"{entry} has {' '.join(wild)} in a name, which DMS reads as a wildcard and has no escape for: "
            "rename the table, or select it by a pattern such as public.%"
        )
    if not is_quoted and "*" in name:
        raise ValueError(f"{entry}: did you mean {entry.replace('*', '%')}? The wildcard is %")
    if not is_quoted and not re.fullmatch(r"[\w$%]+", name):
        quoted = '"' + name.replace('"', '""') + '"'
        raise ValueError(f"{entry}: did you mean {quoted}? Such a name goes in double quotes")
    if not is_quoted and name != name.lower():
        raise ValueError(f'{entry}: case counts: did you mean {entry.lower()}, or "{name}" in double quotes?')
    return name


def split_unquoted(text: str, separator: str) -> list[str]:
    parts, is_quoted = [""], False
    for character in text:
        is_quoted ^= character == '"'
        if character == separator and not is_quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def escaped(name: str) -> str:
    """The name as DMS's wildcards take it: [_] is a literal underscore (documented), % stays a wildcard."""
    return name.replace("_", "[_]")


@lru_cache(maxsize=4096)
def wildcard(pattern: str) -> re.Pattern[str]:
    """DMS's wildcards: % any text, _ one character, [ab] and [a-d] one of these. Case counts."""
    regex = ""
    for piece in re.findall(r"\[[^\]]+\]|.", pattern, re.DOTALL):
        if len(piece) > 1:
            regex += "[" + re.sub(r"([\\^\[])", r"\\\1", piece[1:-1]) + "]"
        else:
            regex += {"%": ".*", "_": "."}.get(piece, re.escape(piece))
    return re.compile(regex, re.DOTALL)


def like(pattern: str, name: str) -> bool:
    return wildcard(pattern).fullmatch(name) is not None


def locates(rule: Mapping[str, Any], schema: str, table: str) -> bool:
    locator = rule["object-locator"]
    if rule["rule-action"] == "explicit":
        return (locator["schema-name"], locator["table-name"]) == (schema, table)
    return like(locator["schema-name"], schema) and like(locator["table-name"], table)


def partition_key(rule: Mapping[str, Any]) -> Any:
    return section_of(rule, "mapping-parameters").get("partition-key-type")


# --------------------------------------------------------------------------------------------------------
# Task settings
# --------------------------------------------------------------------------------------------------------


def task_settings(
    *,
    lob_max_size_kb: int = 64,
    before_image_field: str = "before-image",
    load_threads: int = 8,
    apply_threads: int = 8,
) -> Document:
    """The settings that are ours to make; AWS fills in the rest and returns all of them.

    lob_max_size_kb: of the longest text, json, jsonb, xml, bytea or array value, text counted at two bytes a
    character (documented); what is longer fails the task (FailTasksOnLobTruncation of the source endpoint).
    before_image_field: the Lambda's BEFORE_IMAGE_FIELD. Raises TaskDocumentError if a value is out of bounds.
    """
    document: Document = {
        "TargetMetadata": target_metadata(lob_max_size_kb, load_threads, apply_threads),
        "FullLoadSettings": FULL_LOAD,
        # Without LogComponents: the default severity is wanted, and AWS returns the whole list in any case.
        "Logging": {"EnableLogging": True},
        "ControlTablesSettings": CONTROL_TABLES,
        "ChangeProcessingTuning": CHANGE_PROCESSING,
        "ChangeProcessingDdlHandlingPolicy": DDL_HANDLING,
        "ErrorBehavior": ERROR_BEHAVIOR,
        # A Kinesis target can't be read back by DMS: lake.py verify compares with the source instead.
        "ValidationSettings": {"EnableValidation": False},
        # The old value of a changed key is seen nowhere else (observed), and with REPLICA IDENTITY DEFAULT
        # there is no more than the key. The rule add-before-image-columns must not be used too (documented).
        "BeforeImageSettings": {
            "EnableBeforeImage": True,
            "FieldName": before_image_field,
            "ColumnFilter": "pk-only",
        },
    }
    if faults := task_setting_faults(document):
        raise TaskDocumentError("task settings", faults)
    return copy.deepcopy(document)  # the parts below are shared by all documents


def target_metadata(lob_max_size_kb: int, load_threads: int, apply_threads: int) -> Document:
    return {
        # Limited LOB mode is the only one for a Kinesis target (documented). Without LOB support text, json,
        # jsonb, arrays and bytea would be left out of every row.
        "SupportLobs": True,
        "FullLobMode": False,
        "LimitedSizeLobMode": True,
        "LobMaxSize": lob_max_size_kb,
        "InlineLobMaxSize": 0,  # above it DMS would go on in full LOB mode (documented)
        "BatchApplyEnabled": False,  # "might result in loss of data" on Kinesis (documented)
        # Rows of a load need no order. 5 queues are the least for a Kinesis target, 50 records a buffer its
        # default (both documented).
        "ParallelLoadThreads": load_threads,
        "ParallelLoadBufferSize": 50,
        "ParallelLoadQueuesPerThread": 5,
        # With apply threads the partition key is the primary key, for a table without object mapping too
        # (documented): no table is bound to one shard. That a key stays with one thread is inferred.
        "ParallelApplyThreads": apply_threads,
        "ParallelApplyBufferSize": 100,
        "ParallelApplyQueuesPerThread": 5,
    }


FULL_LOAD = {
    # A stream has nothing to drop: DROP_AND_CREATE only adds a drop-table record a table (observed).
    "TargetTablePrepMode": "DO_NOTHING",
    "MaxFullLoadSubTasks": 8,  # tables loaded at a time; more only fill shards that are full already
    "TransactionConsistencyTimeout": 600,
    # Either would end the task with the load, and the changes with it.
    "StopTaskCachedChangesApplied": False,
    "StopTaskCachedChangesNotApplied": False,
}

CONTROL_TABLES = {
    "ControlSchema": "",  # rows then come with an empty schema name (observed): the Lambda's control/
    # A row a minute (observed): the sign of life of the whole chain.
    "StatusTableEnabled": True,
    # CloudWatch has no metric for a suspended table.
    "SuspendedTablesTableEnabled": True,
    "HistoryTableEnabled": False,
    # It would hold the statement that failed, row values and all.
    "FullLoadExceptionTableEnabled": False,
}

# Defaults, written down: they decide latency (seconds) and when changes spill to disk (MB, seconds).
CHANGE_PROCESSING = {
    "CommitTimeout": 1,
    "MinTransactionSize": 1000,
    "MemoryLimitTotal": 1024,
    "MemoryKeepTime": 60,
}

DDL_HANDLING = {
    "HandleSourceTableDropped": True,
    "HandleSourceTableTruncated": True,  # without effect: DMS captures no TRUNCATE here (documented)
    "HandleSourceTableAltered": True,
}

# What can't be replicated suspends its table, which shows; DMS's defaults log it and lose the row.
ERROR_BEHAVIOR = {
    "DataErrorPolicy": "SUSPEND_TABLE",
    "DataTruncationErrorPolicy": "SUSPEND_TABLE",
    "DataErrorEscalationPolicy": "SUSPEND_TABLE",
    "TableErrorPolicy": "SUSPEND_TABLE",
    "TableErrorEscalationPolicy": "STOP_TASK",
    # A stream has no conflicting rows: whatever raises these is a fault of another sort.
    "ApplyErrorDeletePolicy": "SUSPEND_TABLE",
    "ApplyErrorInsertPolicy": "SUSPEND_TABLE",
    "ApplyErrorUpdatePolicy": "SUSPEND_TABLE",
    "ApplyErrorEscalationPolicy": "SUSPEND_TABLE",
    "RecoverableErrorCount": -1,  # as often as DMS sees fit, with growing pauses; 0 would be never
    "RecoverableErrorInterval": 5,
    "RecoverableErrorThrottling": True,
    "RecoverableErrorThrottlingMax": 1800,
    "FailOnNoTablesCaptured": True,  # else a mistyped pattern is a running task that replicates nothing
    "FailOnTransactionConsistencyBreached": True,  # documented for Oracle sources; harmless
}

# --------------------------------------------------------------------------------------------------------
# What DMS would reject or do silently wrong: table mappings
# --------------------------------------------------------------------------------------------------------

ACTIONS = {
    "selection": ("include", "exclude", "explicit"),
    "object-mapping": ("map-record-to-record",),
    "table-settings": (),
    "transformation": (
        "rename",
        "remove-column",
        "include-column",
        "add-column",
        "change-data-type",
        "define-primary-key",
        "convert-lowercase",
        "convert-uppercase",
        "add-prefix",
        "remove-prefix",
        "replace-prefix",
        "add-suffix",
        "remove-suffix",
        "replace-suffix",
        "add-before-image-columns",
        "data-masking-digits-mask",
        "data-masking-digits-randomize",
        "data-masking-hash-mask",
    ),
}
PARTITION_KEYS = ("primary-key", "schema-table", "attribute-name", "constant", "transaction-id")


def mapping_faults(document: Any, settings: Mapping[str, Any] | None = None) -> list[str]:
    """Why DMS would reject the mappings or replicate something else than they seem to say; one line each.

    With the task settings at hand, a before image asked for twice is found as well.
    """
    rules = document.get("rules") if isinstance(document, Mapping) else None
    if not isinstance(rules, list) or not rules:
        return ['table mappings hold no rules: write {"rules": [...]} with at least one include']
    faults = [
        f'{key!r} beside "rules" means nothing to DMS: take it out' for key in document if key != "rules"
    ]
    own_faults = [f for position, rule in enumerate(rules, 1) for f in rule_faults(rule, f"rule {position}")]
    if (size := len(json.dumps(document, separators=(",", ":")).encode())) > MAPPINGS_BYTES:
        faults.append(
            f"{size:,} bytes of mappings, DMS takes {MAPPINGS_BYTES:,}: spread the tables over two tasks"
        )
    if own_faults:  # what rules say together can't be judged before each makes sense
        return faults + own_faults
    for key in ("rule-id", "rule-name"):
        faults += repeated(key, [rule[key] for rule in rules])
    faults += selection_faults(rules)
    faults += object_mapping_faults(rules)
    return faults + list(before_image_faults(rules, settings or {}))


def rule_faults(rule: Any, where: str) -> Iterator[str]:
    """Faults of one rule by itself; one without any has all that the other checks read."""
    if not isinstance(rule, Mapping):
        yield f"{where} is not an object: write {{...}} with rule-type, rule-id, rule-name, object-locator"
        return
    kind, action = rule.get("rule-type"), rule.get("rule-action")
    if not isinstance(kind, str) or kind not in ACTIONS:
        yield f"{where}: rule-type {kind!r} is unknown: write {nearest(kind, ACTIONS)}"
    elif kind == "object-mapping" and action == "map-record-to-document":
        yield f"{where}: map-record-to-document nests the columns under _doc: write map-record-to-record"
    elif ACTIONS[kind] and action not in ACTIONS[kind]:
        yield f"{where}: rule-action {action!r} of {kind} is unknown: write {nearest(action, ACTIONS[kind])}"
    number, name = rule.get("rule-id"), rule.get("rule-name")
    if not isinstance(number, str) or not re.fullmatch("[0-9]+", number):
        yield f'{where}: rule-id {number!r} is not a number in quotes: write "{digits(number)}"'
    if not isinstance(name, str) or not name:
        yield f'{where} has no rule-name: write "{digits(number)}"'
    yield from locator_faults(rule, where)


def locator_faults(rule: Mapping[str, Any], where: str) -> Iterator[str]:
    locator = rule.get("object-locator")
    if not isinstance(locator, Mapping):
        yield f'{where} has no object-locator: write {{"schema-name": "public", "table-name": "%"}}'
        return
    # A transformation may be about a whole schema.
    for key in ("schema-name", "table-name")[: 1 if rule.get("rule-type") == "transformation" else 2]:
        if not isinstance(locator.get(key), str) or not locator[key]:
            yield f"{where}: object-locator has no {key}: write a name, or % for all"
        elif rule.get("rule-type") == "object-mapping" and UNMAPPABLE & set(locator[key]):
            yield f"{where}: no wildcard like {locator[key]!r} in an object-mapping: write a rule per table"
        elif rule.get("rule-action") == "explicit" and UNMAPPABLE & set(locator[key]):
            yield f"{where}: explicit takes no wildcard, found {locator[key]!r}: write include"


def repeated(key: str, values: Sequence[str]) -> list[str]:
    counts = Counter(values)
    return [
        f"{key} {value!r} is used {n} times: give each rule its own" for value, n in counts.items() if n > 1
    ]


def selection_faults(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    includes = [
        rule["object-locator"] for rule in rules if rule.get("rule-action") in ("include", "explicit")
    ]
    excludes = [rule["object-locator"] for rule in rules if rule.get("rule-action") == "exclude"]
    if not includes:
        yield "no rule includes a table: write a selection rule with rule-action include"
    for locator in includes:
        schema, table = locator["schema-name"], locator["table-name"]
        for own in ("awsdms_ddl_audit", "awsdms_heartbeat"):
            if like(table, own) and not any(takes_in(exclude, schema, escaped(own)) for exclude in excludes):
                yield f"{schema}.{table} replicates DMS's own {own}: exclude {DMS_TABLES} in {schema}"
                break
        if any(takes_in(exclude, schema, table) for exclude in excludes):
            yield f"{schema}.{table} is included and excluded, so nothing is left: take one of the two out"


def takes_in(locator: Mapping[str, Any], schema: str, table: str) -> bool:
    """Whether the locator matches all that these wildcard texts match."""
    return covers(locator["schema-name"], schema) and covers(locator["table-name"], table)


def covers(wide: str, narrow: str) -> bool:
    plain = narrow.replace("[_]", "_")
    is_exact = not set("%[]") & set(plain) and (plain != narrow or "_" not in narrow)
    return wide in ("%", narrow) or (is_exact and like(wide, plain))


def object_mapping_faults(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    counts: Counter[str] = Counter()
    selections = {"rules": [rule for rule in rules if rule["rule-type"] == "selection"]}
    for rule in rules:
        if rule["rule-type"] != "object-mapping":
            continue
        schema, table = rule["object-locator"]["schema-name"], rule["object-locator"]["table-name"]
        counts[name := f"{schema}.{table}"] += 1
        if not is_selected(selections, schema, table):
            yield f"{name} has an object-mapping but no selection: include the table, or take the rule out"
        key = partition_key(rule)
        if key is not None and key not in PARTITION_KEYS:
            yield f"{name}: partition-key-type {key!r} is unknown: write {nearest(key, PARTITION_KEYS)}"
        elif key == "transaction-id":
            yield f"{name}: transaction-id spreads the changes of one key over shards: write primary-key"
        elif key == "attribute-name" and not rule["mapping-parameters"].get("partition-key-name"):
            yield f"{name}: attribute-name needs a partition-key-name: write the column, or primary-key"
    yield from (f"{name} has {n} object-mappings: keep one" for name, n in counts.items() if n > 1)


def before_image_faults(rules: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Iterator[str]:
    if section_of(settings, "BeforeImageSettings").get("EnableBeforeImage") is not True:
        return
    for rule in rules:
        if rule.get("rule-action") == "add-before-image-columns":
            yield f"{rule['rule-name']}: the task settings ask for a before image already: take this rule out"


# --------------------------------------------------------------------------------------------------------
# What DMS would reject or do silently wrong: task settings
# --------------------------------------------------------------------------------------------------------

RECORD_POLICIES = ("IGNORE_RECORD", "LOG_ERROR", "SUSPEND_TABLE", "STOP_TASK")
UPSERT_POLICIES = (*RECORD_POLICIES, "UPDATE_RECORD", "INSERT_RECORD")
ESCALATIONS = ("LOG_ERROR", "SUSPEND_TABLE", "STOP_TASK")

VALIDATION_DETAILS = (
    "FailureMaxCount",
    "HandleCollationDiff",
    "MaxKeyColumnSize",
    "PartitionSize",
    "RecordFailureDelayInMinutes",
    "RecordFailureDelayLimitInMinutes",
    "RecordSuspendDelayInMinutes",
    "SkipLobColumns",
    "TableFailureMaxCount",
    "ThreadCount",
    "ValidationMode",
    "ValidationOnly",
    "ValidationPartialLobSize",
    "ValidationQueryCdcDelaySeconds",
    "ValidationS3Mask",
    "ValidationS3Time",
)

# Name -> bool, int, str, the words it takes, or its bounds; a value under None is not looked at.
SETTINGS: dict[str, dict[str, Any]] = {
    "TargetMetadata": {
        "TargetSchema": str,
        "SupportLobs": bool,
        "FullLobMode": bool,
        "LobChunkSize": int,
        "LimitedSizeLobMode": bool,
        "LobMaxSize": Number(1, LOB_KB, "a message takes 1 MiB, with escapes, other columns and envelope"),
        "InlineLobMaxSize": int,
        "LoadMaxFileSize": int,
        "BatchApplyEnabled": bool,
        "TaskRecoveryTableEnabled": bool,
        "ParallelLoadThreads": Number(0, 32),
        "ParallelLoadBufferSize": Number(0, 1000),
        "ParallelLoadQueuesPerThread": Number(0, 512),
        "ParallelApplyThreads": Number(0, 32),
        "ParallelApplyBufferSize": Number(0, 1000),
        "ParallelApplyQueuesPerThread": Number(0, 512),
    },
    "FullLoadSettings": {
        "TargetTablePrepMode": ("DO_NOTHING", "DROP_AND_CREATE", "TRUNCATE_BEFORE_LOAD"),
        "CreatePkAfterFullLoad": bool,
        "StopTaskCachedChangesApplied": bool,
        "StopTaskCachedChangesNotApplied": bool,
        "MaxFullLoadSubTasks": Number(1, 49),
        "TransactionConsistencyTimeout": int,
        "CommitRate": Number(1, 50_000),
    },
    "Logging": {
        "EnableLogging": bool,
        "EnableLogContext": bool,
        "LogComponents": None,
        "CloudWatchLogGroup": None,
        "CloudWatchLogStream": None,
    },
    "ControlTablesSettings": {
        "ControlSchema": str,
        "HistoryTimeslotInMinutes": int,
        "historyTimeslotInMinutes": int,  # AWS returns both spellings
        "HistoryTableEnabled": bool,
        "SuspendedTablesTableEnabled": bool,
        "StatusTableEnabled": bool,
        "FullLoadExceptionTableEnabled": bool,
    },
    "StreamBufferSettings": {
        "StreamBufferCount": int,
        "StreamBufferSizeInMB": int,
        "CtrlStreamBufferSizeInMB": int,
    },
    "ChangeProcessingTuning": {
        "StatementCacheSize": int,
        "CommitTimeout": int,
        "RecoveryTimeout": int,
        "BatchApplyPreserveTransaction": bool,
        "BatchApplyTimeoutMin": int,
        "BatchApplyTimeoutMax": int,
        "BatchApplyMemoryLimit": int,
        "BatchSplitSize": int,
        "MinTransactionSize": int,
        "MemoryLimitTotal": int,
        "MemoryKeepTime": int,
    },
    "ChangeProcessingDdlHandlingPolicy": {
        "HandleSourceTableDropped": bool,
        "HandleSourceTableTruncated": bool,
        "HandleSourceTableAltered": bool,
    },
    "ErrorBehavior": {
        "DataErrorPolicy": RECORD_POLICIES,
        "DataTruncationErrorPolicy": RECORD_POLICIES,
        "DataMaskingErrorPolicy": RECORD_POLICIES,
        "DataErrorEscalationPolicy": ESCALATIONS,
        "DataErrorEscalationCount": int,
        "EventErrorPolicy": None,
        "TableErrorPolicy": ("SUSPEND_TABLE", "STOP_TASK"),
        "TableErrorEscalationPolicy": ("STOP_TASK",),
        "TableErrorEscalationCount": int,
        "RecoverableErrorCount": int,
        "RecoverableErrorInterval": int,
        "RecoverableErrorThrottling": bool,
        "RecoverableErrorThrottlingMax": int,
        "RecoverableErrorStopRetryAfterThrottlingMax": bool,
        "ApplyErrorDeletePolicy": RECORD_POLICIES,
        "ApplyErrorInsertPolicy": UPSERT_POLICIES,
        "ApplyErrorUpdatePolicy": UPSERT_POLICIES,
        "ApplyErrorEscalationPolicy": ESCALATIONS,
        "ApplyErrorEscalationCount": int,
        "ApplyErrorFailOnTruncationDdl": bool,
        "FailOnNoTablesCaptured": bool,
        "FailOnTransactionConsistencyBreached": bool,
        "FullLoadIgnoreConflicts": bool,
    },
    "ValidationSettings": {
        "EnableValidation": bool,
        **dict.fromkeys(VALIDATION_DETAILS),
    },
    "BeforeImageSettings": {
        "EnableBeforeImage": bool,
        "FieldName": str,
        "ColumnFilter": ("pk-only", "non-lob", "all"),
    },
    "TTSettings": {
        "EnableTT": bool,
        "TTS3Settings": None,
        "TTRecordSettings": None,
        "FailTaskOnTTFailure": bool,
    },
}
# Of these DMS knows more names than we have a use for.
UNCHECKED = (
    "CharacterSetSettings",
    "LoopbackPreventionSettings",
    "PostProcessingRules",
    "ResyncSettings",
    "FailTaskWhenCleanTaskResourceFailed",
)

# What DMS takes, and what then goes wrong with the rows: setting, the wrong value, what to know and write.
HARMFUL = {
    ("TargetMetadata.FullLobMode", True): "a Kinesis target has no full LOB mode: write false",
    ("TargetMetadata.SupportLobs", False): "text, json, arrays and bytea would be left out: write true",
    ("TargetMetadata.BatchApplyEnabled", True): "it may lose changes on a Kinesis target: write false",
    ("ValidationSettings.EnableValidation", True): "DMS can't read a Kinesis target back: write false",
    ("FullLoadSettings.StopTaskCachedChangesApplied", True): "the task would end with the load: write false",
    (
        "FullLoadSettings.StopTaskCachedChangesNotApplied",
        True,
    ): "the task would end with the load: write false",
}
LOSSY_POLICIES = ("LOG_ERROR", "IGNORE_RECORD")


def task_setting_faults(document: Any) -> list[str]:
    """Why DMS would reject the settings, or lose or leave out rows with them; one line each."""
    if not isinstance(document, Mapping):
        return ["task settings are not an object: write {...} with sections such as TargetMetadata"]
    faults: list[str] = []
    for section, settings in document.items():
        if section not in SETTINGS and section not in UNCHECKED:
            faults.append(
                f"{section} is no section of task settings: write {nearest(section, (*SETTINGS, *UNCHECKED))}"
            )
        elif section in SETTINGS and settings is not None:  # AWS returns null for a section that was not set
            faults += section_faults(section, settings)
    return faults + lob_faults(document) + parallel_faults(document) + image_setting_faults(document)


def section_faults(section: str, settings: Any) -> Iterator[str]:
    if not isinstance(settings, Mapping):
        yield f"{section} is not an object: write {{...}}"
        return
    for name, value in settings.items():
        path = f"{section}.{name}"
        if name not in SETTINGS[section]:
            yield f"{path} is unknown to DMS: write {nearest(name, SETTINGS[section])}"
        elif name.startswith("CloudWatchLog"):
            yield f"{path} is AWS's to set, and refused on create: take it out"
        elif fault := value_fault(value, SETTINGS[section][name]):
            yield f"{path} is {value!r}: {fault}"
        elif isinstance(value, bool) and (harm := HARMFUL.get((path, value))):
            yield f"{path} is {value!r}: {harm}"
        elif section == "ErrorBehavior" and value in LOSSY_POLICIES:
            yield f"{path} is {value!r}: rows would be lost unseen: write SUSPEND_TABLE"


def value_fault(value: Any, expected: Any) -> str:
    """What to write instead, or an empty text."""
    if isinstance(expected, tuple):
        return "" if value in expected else f"write {nearest(value, expected)}"
    if expected is bool:
        return "" if isinstance(value, bool) else "write true or false, without quotes"
    if expected is str:
        return "" if isinstance(value, str) else "write a text"
    if expected is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int):
        return "write a whole number, without quotes"
    if expected is int or expected.least <= value <= expected.most:
        return ""
    bound = f"{expected.least} or more" if value < expected.least else f"{expected.most} or less"
    return f"write {bound}" + (expected.reason and f"; {expected.reason}")


def lob_faults(document: Mapping[str, Any]) -> list[str]:
    target = section_of(document, "TargetMetadata")
    faults = []
    if target.get("SupportLobs") is True and target.get("LimitedSizeLobMode") is not True:
        faults.append(
            "TargetMetadata.SupportLobs needs a mode: write LimitedSizeLobMode true and a LobMaxSize"
        )
    if target.get("LimitedSizeLobMode") is True and "LobMaxSize" not in target:
        faults.append(
            "TargetMetadata.LobMaxSize is missing: write the longest value in KB, else 32 KB is kept of each"
        )
    if isinstance(inline := target.get("InlineLobMaxSize"), int) and inline > 0:
        faults.append("TargetMetadata.InlineLobMaxSize makes DMS use full LOB mode above it: write 0")
    return faults


def parallel_faults(document: Mapping[str, Any]) -> list[str]:
    """Kinesis targets take 5 to 512 load queues and 1 to 512 apply queues a thread (documented)."""
    target = section_of(document, "TargetMetadata")
    faults = []
    for what, least in (("Load", 5), ("Apply", 1)):
        threads, queues = (
            target.get(f"Parallel{what}Threads"),
            target.get(f"Parallel{what}QueuesPerThread", least),
        )
        if isinstance(threads, int) and isinstance(queues, int) and threads > 1 and queues < least:
            faults.append(f"TargetMetadata.Parallel{what}QueuesPerThread is {queues}: write {least} or more")
    return faults


def image_setting_faults(document: Mapping[str, Any]) -> list[str]:
    image = section_of(document, "BeforeImageSettings")
    if image.get("EnableBeforeImage") is True and not image.get("FieldName"):
        return ['BeforeImageSettings.FieldName is missing: write "before-image", or your BEFORE_IMAGE_FIELD']
    return []


def section_of(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    settings = document.get(name)
    return settings if isinstance(settings, Mapping) else {}


def nearest(word: Any, known: Iterable[str]) -> str:
    """The known word that was meant, else all of them."""
    words = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(str(word).lower(), words, n=1)
    return words[close[0]] if close else " or ".join(words.values())


def digits(value: Any) -> str:
    """A rule-id to propose: the digits of what was there, else an example."""
    return "".join(re.findall("[0-9]", str(value))) or "1"
