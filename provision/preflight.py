"""What the source database would do to the rows in S3: findings of ok, warning or blocker, each with its fix.

    parameters = {"host": "shop.abc.eu-west-1.rds.amazonaws.com", "dbname": "shop", "user": "dms", ...}
    found = check_database(parameters, table_patterns("public.%"), "3.5.4")
    print(render_text(found))

What is read, and how little that disturbs, is provision.database's; the checks here and those of tables and
columns (provision.preflight_tables) are pure. Small tables are read whole, of large ones a sample, and a
finding says which. What could not be seen is a warning. Names of checks follow DMS's premigration assessment
where it has the check (its postgres-check-dbversion is dbversion here).
Source: https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Source.PostgreSQL.html,
https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Tasks.AssessmentReport.PG.html
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from provision.database import DatabaseFacts, Role, Slot, drop_slot_sql, identifier, literal, read_facts
from provision.estimate import counted, duration
from provision.finding import Finding, Level, Wanted, size
from provision.kinds.dms import version_key
from provision.masks import Masks
from provision.preflight_masks import check_masks
from provision.preflight_tables import check_selection, check_similar_names, check_tables, check_views
from provision.replication_task import TablePattern

# Oldest DMS engine that reads each major version of PostgreSQL. Source: CHAP_Source.PostgreSQL.html, 2026-11.
OLDEST_ENGINE = {13: "3.4.3", 14: "3.4.7", 15: "3.5.1", 16: "3.5.3", 17: "3.6.1"}
SENDER_TIMEOUT_MS = (10_000, 300_000)  # 1 to 9,999 fails; a dead connection should not hold its slot for long
SLOT_WAIT_SECONDS = 60  # ExecuteTimeout of the endpoint: as long as DMS waits for its slot
PASSING_SECONDS = 5  # a younger transaction will be over before anything is applied
STATIC_SETTINGS = {"wal_level", "max_replication_slots", "max_wal_senders", "max_worker_processes"}

# --------------------------------------------------------------------------------------------------------
# Entry points
# --------------------------------------------------------------------------------------------------------


def check_database(
    connect_parameters: Mapping[str, Any],
    patterns: Sequence[TablePattern],
    dms_engine_version: str | None = None,
    *,
    lob_max_size_kb: int = 32,
    reserved_columns: Collection[str] = (),
    dms_user: str = "",
    heartbeat_schema: str = "",
    has_large_integers: bool = True,
    requires_tls: bool = True,
    capture_ddls: bool = False,
    masks: Masks | None = None,
) -> list[Finding]:
    """Findings on the database, blockers first.

    connect_parameters: libpq's, as psycopg2.connect takes them. patterns: those of TABLES, of table_patterns.
    dms_user: whose rights count; empty means the one who connects.
    Raises DatabaseError when the database can't be reached or shows nothing of itself.
    """
    wanted = Wanted(
        patterns=tuple(patterns),
        dms_engine_version=dms_engine_version,
        lob_max_size_kb=lob_max_size_kb,
        reserved_columns=frozenset(reserved_columns),
        dms_user=dms_user,
        heartbeat_schema=heartbeat_schema,
        has_large_integers=has_large_integers,
        requires_tls=requires_tls,
        capture_ddls=capture_ddls,
        masks=masks or {},
    )
    facts = read_facts(
        connect_parameters,
        wanted.patterns,
        dms_user=dms_user,
        heartbeat_schema=heartbeat_schema,
        lob_max_size_kb=lob_max_size_kb,
    )
    return findings(facts, wanted)


def findings(facts: DatabaseFacts, wanted: Wanted) -> list[Finding]:
    """Pure. Blockers first, then warnings, then what is well; within them in the order of the checks."""
    found = [finding for check in CHECKS for finding in check(facts, wanted)]
    order = list(Level)
    return sorted(found, key=lambda finding: order.index(finding.level))


def is_blocked(found: Iterable[Finding]) -> bool:
    return any(finding.level is Level.BLOCKER for finding in found)


def to_dicts(found: Iterable[Finding]) -> list[dict[str, str]]:
    return [asdict(finding) | {"level": finding.level.value} for finding in found]


def grants_sql(
    user: str,
    schemas: Iterable[str],
    tables: Iterable[tuple[str, str]],
    *,
    database: str = "",
    heartbeat_schema: str = "",
    is_rds: bool = True,
) -> list[str]:
    """Statements that make a DMS user with the least it needs; the password is left to whoever runs them."""
    role = identifier(user)
    options = "LOGIN" if is_rds else "LOGIN REPLICATION"
    statements = [f"CREATE ROLE {role} WITH {options} PASSWORD '<password>';"]
    if is_rds:
        statements.append(f"GRANT rds_replication TO {role};")
    if database:
        statements.append(f"GRANT CONNECT ON DATABASE {identifier(database)} TO {role};")
    statements += [f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {role};" for schema in schemas]
    statements += [
        f"GRANT SELECT ON {identifier(schema)}.{identifier(name)} TO {role};" for schema, name in tables
    ]
    if heartbeat_schema:
        home = identifier(heartbeat_schema)
        statements.append(f"CREATE SCHEMA IF NOT EXISTS {home};")
        statements.append(f"GRANT USAGE, CREATE ON SCHEMA {home} TO {role};")
    return statements


# --------------------------------------------------------------------------------------------------------
# The report for people
# --------------------------------------------------------------------------------------------------------


def render_text(found: Sequence[Finding], width: int = 100, limit: int = 8) -> str:
    """By level and check; what it means once, then at most limit subjects with their fixes."""
    lines = [tally(found)]
    for level in Level:
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in found:
            if finding.level is level:
                groups.setdefault((finding.check, finding.meaning), []).append(finding)
        if groups:
            lines += ["", level.value.upper()]
        for members in groups.values():
            lines += render_well(members, width) if level is Level.OK else render_group(members, width, limit)
    return "\n".join(lines) + "\n"


def tally(found: Sequence[Finding]) -> str:
    blockers, warnings, well = (sum(finding.level is level for finding in found) for level in Level)
    return f"{counted(blockers, 'blocker')}, {counted(warnings, 'warning')}, {counted(well, 'check')} ok"


def render_well(members: Sequence[Finding], width: int) -> list[str]:
    lines = []
    for finding in members:
        subject = "" if finding.subject in ("server", "database") else f" {finding.subject}:"
        lines += textwrap.wrap(f"{finding.check}:{subject} {finding.found}", width, subsequent_indent="  ")
    return lines


def render_group(members: Sequence[Finding], width: int, limit: int) -> list[str]:
    """Findings of one check and one meaning. A fix that all have in common comes once, at the end."""
    first, fixes = members[0], {finding.fix for finding in members}
    heading = f"{first.check}: {first.meaning}" if first.meaning else first.check
    lines = textwrap.wrap(heading, width, subsequent_indent="  ")
    for finding in members[:limit]:
        line = f"{finding.subject}: {finding.found}"
        lines += textwrap.wrap(line, width, initial_indent="  - ", subsequent_indent="    ")
        if len(fixes) > 1:
            lines += render_fix(finding)
    if len(members) > limit:
        lines.append(f"  - and {len(members) - limit} more: --json lists them all")
    return lines + (render_fix(first) if len(fixes) == 1 else [])


def render_fix(finding: Finding) -> list[str]:
    """Not wrapped: it is to be copied."""
    return [f"      {line}" for line in finding.fix.splitlines()]


# --------------------------------------------------------------------------------------------------------
# Checks of the server, pure. Each yields its findings; "ok" says what was seen
# --------------------------------------------------------------------------------------------------------


def check_unseen(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    for part, why in facts.unseen.items():
        yield Finding(
            part,
            Level.WARNING,
            "server",
            f"not looked at: {why}",
            "could not be checked: nobody knows whether it is well",
            f"GRANT pg_monitor TO {identifier(facts.user)};  -- or check as another user",
        )


def check_version(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    engine, oldest = wanted.dms_engine_version, OLDEST_ENGINE.get(facts.version_num // 10_000)
    found = f"PostgreSQL {facts.version}" + (f", DMS {engine}" if engine else "")
    if oldest is None:
        meaning = (
            "DMS does not document this major version of PostgreSQL: its first load and changes are a trial"
        )
        fix = f"documented: {', '.join(map(str, OLDEST_ENGINE))}; try with one table first"
        yield Finding("dbversion", Level.WARNING, "server", found, meaning, fix)
    elif engine and version_key(engine) < version_key(oldest):
        meaning = (
            "this engine of DMS does not read this version of PostgreSQL: the task fails, no row arrives"
        )
        fix = f"a replication instance with engine {oldest} or newer"
        yield Finding("dbversion", Level.BLOCKER, "server", found, meaning, fix)
    else:
        yield Finding("dbversion", Level.OK, "server", found + ("" if engine else f": DMS {oldest} or newer"))


def check_primary(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if facts.is_replica:
        meaning = "DMS makes no replication slot on a replica: no change after the first load arrives"
        fix = "PGHOST: the primary; SELECT sender_host FROM pg_stat_wal_receiver names it"
        yield Finding("replica", Level.BLOCKER, "server", "in recovery, a read replica", meaning, fix)
    else:
        yield Finding("replica", Level.OK, "server", "a primary")


def check_wal_level(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    level = facts.settings.get("wal_level", "")
    if level == "logical":
        yield Finding("wal-level", Level.OK, "server", "wal_level=logical")
        return
    meaning = "changes can't be decoded: the task fails, no change arrives"
    if facts.logical_replication in ("on", "1"):
        found = f"wal_level={level} though rds.logical_replication is on: it waits for a reboot"
        yield Finding("wal-level", Level.BLOCKER, "server", found, meaning, reboot(facts))
    else:
        fix = setting_fix(facts, "wal_level", "logical")
        yield Finding("wal-level", Level.BLOCKER, "server", f"wal_level={level}", meaning, fix)


def reboot(facts: DatabaseFacts) -> str:
    return f"aws rds reboot-db-instance --db-instance-identifier {facts.instance or '<instance>'}"


def setting_fix(facts: DatabaseFacts, name: str, value: str) -> str:
    """How a setting of the server is changed, on RDS or elsewhere."""
    is_static = name in STATIC_SETTINGS
    if not facts.is_rds:
        effect = "-- then restart the server" if is_static else "SELECT pg_reload_conf();"
        return f"ALTER SYSTEM SET {name} = {literal(value)};\n{effect}"
    if name == "wal_level":
        name, value = "rds.logical_replication", "1"
    method = "pending-reboot" if is_static else "immediate"
    change = f"ParameterName={name},ParameterValue={value},ApplyMethod={method}"
    command = f"aws rds modify-db-parameter-group --db-parameter-group-name <group> --parameters {change}"
    return f"{command}\n{reboot(facts)}" if is_static else command


def check_slots(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if "replication-slots" in facts.unseen:
        return
    limit = facts.number("max_replication_slots")
    yield room(facts, "replication-slots", "max_replication_slots", limit, len(facts.slots))
    for slot in facts.slots:
        if slot.wal_status in ("unreserved", "lost"):
            yield lost(facts, slot)
        elif not slot.is_active:
            yield leftover(slot)


def leftover(slot: Slot) -> Finding:
    kept = "an unknown amount" if slot.retained_bytes is None else size(slot.retained_bytes)
    found = f"nobody reads it; it keeps {kept} of WAL (wal_status {slot.wal_status or 'unknown'})"
    if slot.safe_wal_size is not None:
        found += f"; lost after {size(slot.safe_wal_size)} more (max_slot_wal_keep_size)"
    meaning = (
        "an unread slot keeps WAL until the disk is full and the database stops; if it belongs to a stopped "
        "task, dropping it loses the changes since then: resume the task instead"
    )
    return Finding(
        "inactive-slot", Level.WARNING, f"slot {slot.name}", found, meaning, drop_slot_sql(slot.name)
    )


def lost(facts: DatabaseFacts, slot: Slot) -> Finding:
    subject = f"slot {slot.name}"
    if slot.wal_status == "lost":
        found = "its WAL has been removed (wal_status lost)"
        meaning = "a task of DMS that reads it can't go on, changes are missing: its tables have to load anew"
        return Finding("lost-slot", Level.WARNING, subject, found, meaning, drop_slot_sql(slot.name))
    found = "it lags by more than max_slot_wal_keep_size (wal_status unreserved)"
    meaning = "the next checkpoint removes its WAL: a task of DMS that reads it loses changes"
    fix = setting_fix(facts, "max_slot_wal_keep_size", "-1")
    return Finding("lost-slot", Level.WARNING, subject, found, meaning, fix)


def check_senders(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if "maxwalsenders" not in facts.unseen:
        yield room(facts, "maxwalsenders", "max_wal_senders", facts.number("max_wal_senders"), facts.senders)


def room(facts: DatabaseFacts, check: str, setting: str, limit: int, used: int) -> Finding:
    found = f"{used} of {limit} used ({setting})"
    if limit - used >= 2:
        return Finding(check, Level.OK, "server", found)
    fix = setting_fix(facts, setting, str(max(10, limit + 4)))
    if limit - used == 1:
        meaning = "the last one: a task that is made anew while the old one ends finds none"
        return Finding(check, Level.WARNING, "server", found, meaning, fix)
    return Finding(check, Level.BLOCKER, "server", found, "none is free: the task can't read changes", fix)


def check_sender_timeout(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    value, (least, most) = facts.number("wal_sender_timeout"), SENDER_TIMEOUT_MS
    found = f"wal_sender_timeout={value} ms"
    fix = setting_fix(facts, "wal_sender_timeout", "60000")
    if 0 < value < least:
        meaning = f"below {least} ms the server cuts DMS off and the task fails"
        yield Finding("wal-sender-timeout", Level.BLOCKER, "server", found, meaning, fix)
    elif value >= most:
        meaning = "a dead connection of DMS keeps its slot that long: a resumed task finds it in use"
        yield Finding("wal-sender-timeout", Level.WARNING, "server", found, meaning, fix)
    else:
        yield Finding("wal-sender-timeout", Level.OK, "server", found)


def check_slot_wal(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    limit = facts.number("max_slot_wal_keep_size")  # MB
    rate = facts.wal_bytes_per_second
    pace = f"; the server writes {size(rate)} of WAL a second on average" if rate else ""
    if limit < 0:
        found = f"max_slot_wal_keep_size=-1, no limit{pace}"
        yield Finding("max-slot-wal-keep-size", Level.OK, "server", found)
        return
    lasts = f", so that it lasts {duration((limit << 20) / rate)}" if rate else ""
    meaning = "a task that rests or lags by more loses its slot and the changes since: all tables load anew"
    found = f"max_slot_wal_keep_size={limit} MB{pace}{lasts}"
    fix = setting_fix(facts, "max_slot_wal_keep_size", "-1")
    yield Finding("max-slot-wal-keep-size", Level.WARNING, "server", found, meaning, fix)


def check_workers(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    parts = ("max_logical_replication_workers", "autovacuum_max_workers", "max_parallel_workers")
    limit, asked = facts.number("max_worker_processes"), sum(map(facts.number, parts))
    found = f"max_worker_processes={limit}, {' + '.join(parts)} = {asked}"
    if limit >= asked:
        yield Finding("worker-processes", Level.OK, "server", found)
        return
    meaning = "DMS documents that it wants at least the sum (PostgreSQL's own defaults do not have it)"
    fix = setting_fix(facts, "max_worker_processes", str(asked))
    yield Finding("worker-processes", Level.WARNING, "server", found, meaning, fix)


TIMEOUTS = {
    "statement_timeout": "the load's SELECT of a large table is cancelled: the table is suspended, rows miss",
    "idle_in_transaction_session_timeout": ("the load's transaction can be ended while it rests: rows miss"),
    "idle_session_timeout": "a connection of DMS that rests can be ended: the task stops (inferred)",
}


def check_timeouts(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    for name, meaning in TIMEOUTS.items():
        value = facts.role.settings.get(name) or facts.settings.get(name, "0")
        check = name.replace("_", "-")
        if re.match(r"0\D*\Z", value):
            yield Finding(check, Level.OK, "server", f"{name}=0")
        else:
            found = f"{name}={value} for {facts.role.name}"
            fix = f"ALTER ROLE {identifier(facts.role.name)} SET {name} = 0;"
            yield Finding(check, Level.WARNING, "server", found, meaning, fix)


def check_decoding_memory(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    kb = facts.number("logical_decoding_work_mem")
    found = f"logical_decoding_work_mem={kb} kB; transactions with more changes than that are decoded on disk"
    yield Finding("logical-decoding-work-mem", Level.OK, "server", found)


def check_encoding(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    encoding = facts.settings.get("server_encoding", "")
    if encoding == "UTF8":
        yield Finding("encoding", Level.OK, "database", "UTF8")
        return
    meaning = (
        "texts are converted on the way; bytes that are not text in this encoding fail or arrive changed"
    )
    fix = "-- a database made anew with ENCODING 'UTF8'; for SQL_ASCII look for bytes above 127 first"
    yield Finding("encoding", Level.WARNING, "database", encoding, meaning, fix)


def check_tls(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    forced = f", rds.force_ssl={facts.force_ssl}" if facts.force_ssl else ""
    if "tls" in facts.unseen:
        return
    if facts.is_tls:
        yield Finding("tls", Level.OK, "server", f"this connection is encrypted{forced}")
    elif facts.settings.get("ssl") == "on":
        meaning = (
            "DMS asks for TLS and will get it; this check's own connection sends its password as it is set"
        )
        yield Finding("tls", Level.WARNING, "server", f"not encrypted{forced}", meaning, "PGSSLMODE=require")
    elif wanted.requires_tls:
        meaning = (
            "DMS asks for TLS (SslMode=require) and the server has none: it can't connect, no row arrives"
        )
        yield Finding("tls", Level.BLOCKER, "server", "ssl=off", meaning, setting_fix(facts, "ssl", "on"))
    else:
        yield Finding("tls", Level.OK, "server", "ssl=off")


def check_transactions(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if "long-running-transactions" in facts.unseen:
        return
    meaning = "DMS's slot can't begin before it ends: the start of the task fails or waits"
    open_ones = [t for t in facts.transactions if t.seconds is None or t.seconds >= PASSING_SECONDS]
    for one in open_ones:
        age = "of unknown age" if one.seconds is None else f"open for {duration(one.seconds)}"
        is_old = one.seconds is not None and one.seconds >= SLOT_WAIT_SECONDS
        found = f"a writing transaction of {one.user} in {one.database}, {one.state or 'state hidden'}, {age}"
        level = Level.BLOCKER if is_old else Level.WARNING
        fix = f"SELECT pg_terminate_backend({one.pid});"
        yield Finding("long-running-transactions", level, f"pid {one.pid}", found, meaning, fix)
    if not open_ones:
        found = f"none older than {PASSING_SECONDS} s that writes"
        yield Finding("long-running-transactions", Level.OK, "server", found)


def check_prepared(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    meaning = "it stays until somebody ends it, over restarts too; DMS's slot can't begin before"
    for one in facts.prepared:
        found = f"prepared by {one.owner} in {one.database}, {duration(one.seconds)} ago"
        gid = literal(one.gid)
        fix = f"ROLLBACK PREPARED {gid};  -- or COMMIT PREPARED {gid}, in database {one.database}"
        subject = f"transaction {one.gid}"
        yield Finding("prepared-transactions", Level.BLOCKER, subject, found, meaning, fix)
    if not facts.prepared and "prepared-transactions" not in facts.unseen:
        yield Finding("prepared-transactions", Level.OK, "server", "none")


def check_publications(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if "publications" not in facts.unseen:
        names = ", ".join(facts.publications) or "none"
        found = f"{names}; DMS needs none: it reads through test_decoding or pglogical"
        yield Finding("publications", Level.OK, "database", found)


def check_artifacts(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if facts.artifacts:
        meaning = (
            "left by a DMS task, or in use by one: the trigger writes each DDL into awsdms_ddl_audit, and "
            "DDL fails for users who may not write there"
        )
        drops = [drop_artifact(name) for name in facts.artifacts]
        fix = "\n".join(["-- if no task of DMS uses this database", *drops])
        yield Finding("ddl-artifacts", Level.WARNING, "database", ", ".join(facts.artifacts), meaning, fix)


def drop_artifact(name: str) -> str:
    kind, _, rest = name.partition(" ")
    if kind == "trigger":
        return f"DROP EVENT TRIGGER {identifier(rest)};"
    schema, _, own = rest.partition(".")
    name = f"{identifier(schema)}.{identifier(own)}"
    return f"DROP FUNCTION {name}();" if kind == "function" else f"DROP TABLE {name};"


# --------------------------------------------------------------------------------------------------------
# Checks of the DMS user, pure
# --------------------------------------------------------------------------------------------------------


def check_role(facts: DatabaseFacts, wanted: Wanted) -> Iterator[Finding]:
    if "privileges" in facts.unseen:
        return
    if not facts.role.exists:
        yield absent_role(facts, wanted)
        return
    yield from check_access(facts)
    yield from check_replication_right(facts)
    if wanted.capture_ddls:
        yield check_capture_right(facts)
    if wanted.heartbeat_schema and "heartbeat" not in facts.unseen:
        yield check_heartbeat(facts, wanted.heartbeat_schema)


def absent_role(facts: DatabaseFacts, wanted: Wanted) -> Finding:
    chosen = [(table.relation.schema, table.relation.name) for table in facts.tables]
    statements = grants_sql(
        facts.role.name,
        sorted({schema for schema, _ in chosen}),
        chosen,
        database=facts.database,
        heartbeat_schema=wanted.heartbeat_schema,
        is_rds=facts.is_rds,
    )
    found, meaning = "there is no such role", "DMS can't connect: no row arrives"
    return Finding("privileges", Level.BLOCKER, subject_of(facts.role), found, meaning, "\n".join(statements))


def subject_of(role: Role) -> str:
    return f"role {role.name}"


def check_access(facts: DatabaseFacts) -> Iterator[Finding]:
    role, meaning = identifier(facts.role.name), "DMS can't connect: no row arrives"
    if not facts.role.can_login:
        fix = f"ALTER ROLE {role} WITH LOGIN;"
        yield Finding("privileges", Level.BLOCKER, subject_of(facts.role), "may not log in", meaning, fix)
    if not facts.role.can_connect:
        found = f"may not connect to database {facts.database}"
        fix = f"GRANT CONNECT ON DATABASE {identifier(facts.database)} TO {role};"
        yield Finding("privileges", Level.BLOCKER, subject_of(facts.role), found, meaning, fix)


def check_replication_right(facts: DatabaseFacts) -> Iterator[Finding]:
    role = facts.role
    if role.is_superuser or role.is_rds_replication or (role.can_replicate and not facts.is_rds):
        yield Finding("privileges", Level.OK, subject_of(role), "may replicate")
        return
    meaning, name = "DMS can't make its replication slot: no change arrives", identifier(role.name)
    fix = f"GRANT rds_replication TO {name};" if facts.is_rds else f"ALTER ROLE {name} WITH REPLICATION;"
    yield Finding("privileges", Level.BLOCKER, subject_of(role), "may not replicate", meaning, fix)


def check_capture_right(facts: DatabaseFacts) -> Finding:
    """CaptureDdls has DMS make an event trigger, which is for superusers alone."""
    role = facts.role
    if role.is_superuser or role.is_rds_superuser:
        return Finding(
            "capture-ddls", Level.OK, subject_of(role), "may make the event trigger of CaptureDdls"
        )
    name = identifier(role.name)
    fix = f"GRANT rds_superuser TO {name};" if facts.is_rds else f"ALTER ROLE {name} WITH SUPERUSER;"
    found = "neither superuser nor in rds_superuser: may not make an event trigger"
    meaning = "DMS can't make what captures DDL (CaptureDdls): the task fails, no row arrives"
    fix += "  -- or CaptureDdls=false at the source endpoint"
    return Finding("capture-ddls", Level.BLOCKER, subject_of(role), found, meaning, fix)


def check_heartbeat(facts: DatabaseFacts, schema: str) -> Finding:
    may_create = facts.schemas.get(schema)
    if may_create:
        return Finding("heartbeat", Level.OK, subject_of(facts.role), f"may create in schema {schema}")
    found = f"there is no schema {schema}" if may_create is None else f"may not create in schema {schema}"
    meaning = (
        "no heartbeat: while the selected tables rest, the slot keeps all WAL of the busy rest of the server"
    )
    home, role = identifier(schema), identifier(facts.role.name)
    statements = [f"CREATE SCHEMA {home};"] if may_create is None else []
    statements.append(f"GRANT USAGE, CREATE ON SCHEMA {home} TO {role};")
    return Finding("heartbeat", Level.WARNING, subject_of(facts.role), found, meaning, "\n".join(statements))


CHECKS: tuple[Callable[[DatabaseFacts, Wanted], Iterator[Finding]], ...] = (
    check_version,
    check_primary,
    check_wal_level,
    check_slots,
    check_senders,
    check_sender_timeout,
    check_slot_wal,
    check_workers,
    check_timeouts,
    check_decoding_memory,
    check_encoding,
    check_tls,
    check_transactions,
    check_prepared,
    check_publications,
    check_artifacts,
    check_role,
    check_selection,
    check_views,
    check_similar_names,
    check_masks,
    check_tables,
    check_unseen,
)
