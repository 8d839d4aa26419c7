"""The screen of a status: its problems first, then each part from the database to the bucket. Pure.

    as_text(status)      ASCII, at most 100 columns
    as_dict(status)      all of it, every table, for json.dumps

A figure that CloudWatch does not have, or that the caller may not read, is "-".
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

from provision.database import Slot
from provision.landed import TableLanded
from provision.status import Status, Task
from provision.status_problems import SETUP, few, is_well, plural, problems, size_text, span

WIDTH, LABEL_WIDTH, NUMBER_WIDTH, NAME_WIDTH = 100, 10, 4, 12
TABLES_SHOWN = 15
CAPTION = "Of each table: the rows that DMS loaded, the changes that it read since, its newest day in S3"
COLUMNS = ("TABLE", "state", "loaded", "inserts", "updates", "deletes", "last in S3", "day", "objects")


def as_dict(status: Status) -> dict[str, Any]:
    """The status as JSON has it: times in ISO 8601, a part that may not be read {"not_allowed": action}."""
    parts = asdict(status)
    parts |= {name: {"not_allowed": action} for name, action in parts.pop("not_allowed").items()}
    found = {"is_well": is_well(status), "problems": [asdict(one) for one in problems(status)], **parts}
    plain: dict[str, Any] = json.loads(json.dumps(found, default=in_iso_8601))
    return plain


def in_iso_8601(moment: date) -> str:
    return moment.astimezone(UTC).isoformat() if isinstance(moment, datetime) else moment.isoformat()


def as_text(status: Status, width: int = WIDTH) -> str:
    """The screen, with its last line's end."""
    if not status.exists:
        return f"nothing of pipeline {status.pipeline!r} in {status.region}: {SETUP} apply\n"
    lines = [*headline_and_problems(status, width), ""]
    for label, texts in sections(status).items():
        for text in texts:
            lines += wrapped(text, width, label, LABEL_WIDTH)
            label = ""
    lines += table_lines(status, width)
    return "".join(f"{line[:width].rstrip()}\n" for line in lines)


def as_ascii(line: str) -> str:
    """Others' texts may have line ends and letters of any script."""
    text = re.sub(r"[\x00-\x1f\x7f]", " ", line)
    return text.encode("ascii", "backslashreplace").decode()


def wrapped(text: str, width: int, label: str, indent: int) -> list[str]:
    return textwrap.wrap(
        as_ascii(" ".join(text.split())),
        width,
        initial_indent=label.ljust(indent),
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def headline_and_problems(status: Status, width: int) -> Iterator[str]:
    found = problems(status)
    verdict = "all is well" if is_well(status) else "no problem in what may be seen"
    if found:
        verdict = plural(len(found), "problem") + (", the worst first" if found[1:] else "")
    read_at = status.read_at.astimezone(UTC)
    where = f"{status.pipeline} in {status.region}"
    yield from wrapped(f"{where}, {read_at:%Y-%m-%d %H:%M:%S} UTC: {verdict}", width, "", 0)
    for number, problem in enumerate(found, 1):
        yield from wrapped(problem.what, width, f"{number}.", NUMBER_WIDTH)
        yield from wrapped(problem.meaning, width, "", NUMBER_WIDTH)
        yield from wrapped(f"next: {problem.next}", width, "", NUMBER_WIDTH)


# --------------------------------------------------------------------------------------------------------
# The parts
# --------------------------------------------------------------------------------------------------------


def sections(status: Status) -> dict[str, Iterator[str]]:
    return {
        "DATABASE": database_texts(status),
        "DMS": dms_texts(status),
        "STREAM": stream_texts(status),
        "FUNCTION": function_texts(status),
        "S3": bucket_texts(status),
        "ALARMS": alarm_texts(status),
        "UNSEEN": unseen_texts(status),
    }


def absent(status: Status, part: str) -> str:
    action = status.not_allowed.get(part) or status.unseen.get(part)
    return f"not allowed: {action}" if action else "not there"


def database_texts(status: Status) -> Iterator[str]:
    found, figures = status.database, status.figures
    free = f"free storage {size_text(figures.database_free_bytes)}"
    if found and not found.unreachable:
        yield found.where
        yield from [slot_text(slot) for slot in found.slots] or ["no logical slot of DMS"]
    else:
        private = "can't be reached from this machine, as is usual for a private one"
        yield f"{private}: {found.unreachable}" if found else absent(status, "database")
        free = f"CloudWatch: oldest slot retains {size_text(figures.slot_lag_bytes)} of log, {free}"
    if status.database_instance:
        yield free


def slot_text(slot: Slot) -> str:
    state = "active" if slot.is_active else "inactive"
    limit = "no limit" if slot.safe_wal_size is None else f"lost after {size_text(slot.safe_wal_size)} more"
    retained = f"retains {size_text(slot.retained_bytes)} of log ({slot.wal_status or '-'}, {limit})"
    return f"slot {slot.name} ({slot.plugin}): {state}, {retained}"


def dms_texts(status: Status) -> Iterator[str]:
    if found := status.instance:
        kind = f"{found.size}, engine {found.engine_version or '-'}"
        free = size_text(status.figures.replication_free_bytes)
        yield f"instance {found.status} ({kind}), free storage {free}"
    else:
        yield f"instance {absent(status, 'instance')}"
    if task := status.task:
        yield f"task {task.status}{course_text(status, task)}"
        percent = "-" if task.full_load_percent is None else f"{task.full_load_percent} %"
        loaded, loading = plural(task.tables_loaded, "table"), task.tables_loading
        rest = f"{task.tables_queued} queued, {task.tables_errored} in error"
        yield f"full load {percent}: {loaded} loaded, {loading} loading, {rest}"
    else:
        yield f"task {absent(status, 'task')}"


def course_text(status: Status, task: Task) -> str:
    """The latency of a task that does not run is an old one."""
    if not task.is_running:
        return f" ({task.stop_reason})" if task.stop_reason else ""
    since = f" for {span(seconds_since(status, task.started_at))}" if task.started_at else ""
    source, target = status.figures.source_latency_seconds, status.figures.target_latency_seconds
    return f"{since}; latency {span(source)} in reading the database, {span(target)} in writing to the stream"


def stream_texts(status: Status) -> Iterator[str]:
    found, figures = status.stream, status.figures
    if found is None:
        yield absent(status, "stream")
        return
    yield f"{found.name} {found.status}, {plural(found.shards, 'shard')} ({found.mode})"
    age_ms, hour = figures.iterator_age_ms, count(figures.records)
    behind = span(None if age_ms is None else age_ms / 1000)
    recent = f"{count(figures.records_10_minutes)} in the last 10 min"
    yield f"records: {hour} in the last hour, {recent}; the function is {behind} behind"


def function_texts(status: Status) -> Iterator[str]:
    figures, mapping = status.figures, status.mapping
    if found := status.function:
        yield f"{found.name} version {found.version}, SHA-256 of its zip {found.code_sha256[:12]}..."
        yield (
            f"last hour: {count(figures.invocations)} invocations, {count(figures.errors)} errors, "
            f"{count(figures.throttles)} throttles; {count(figures.duration_average_ms)} ms on average, "
            f"{count(figures.duration_longest_ms)} ms at most"
        )
    else:
        yield absent(status, "function")
    if mapping:
        yield f"event source mapping {mapping.state}, last result: {mapping.last_result or '-'}"
    else:
        yield f"event source mapping {absent(status, 'mapping')}"


def bucket_texts(status: Status) -> Iterator[str]:
    where = f"s3://{status.bucket}/{status.prefix}"
    if "landed" in status.not_allowed:
        yield f"{where}: {absent(status, 'landed')}"
    else:
        newest = max((one.count.newest for one in status.landed if one.count.newest), default=None)
        today = [one.count for one in status.landed if one.day == status.read_at.date()]
        at_least = "at least " if any(one.is_at_least for one in today) else ""
        objects = f"{at_least}{plural(sum(one.objects for one in today), 'object')} of today"
        yield f"{where}: {plural(len(status.landed), 'table')}, {objects}, the last {ago(status, newest)}"
    quarantined, given_up = (
        absent(status, part) if part in status.not_allowed else str(getattr(status, part))
        for part in ("quarantined", "given_up")
    )
    yield f"quarantined in 7 days: {quarantined}; given up by Lambda: {given_up}"


def alarm_texts(status: Status) -> Iterator[str]:
    if "alarms" in status.not_allowed:
        yield absent(status, "alarms")
        return
    states = list(status.alarms.values())
    yield ", ".join(f"{states.count(state)} {state}" for state in ("OK", "ALARM", "INSUFFICIENT_DATA"))
    if raised := [name for name, state in status.alarms.items() if state == "ALARM"]:
        yield f"in ALARM: {', '.join(raised)}"


def unseen_texts(status: Status) -> Iterator[str]:
    for part, label in (("figures", "metrics"), ("tables", "tables of DMS")):
        if part in status.not_allowed:
            yield f"{label} {absent(status, part)}"
    for action in dict.fromkeys(status.unseen.values()):
        names = few([name for name, lacking in status.unseen.items() if lacking == action])
        yield f"not compared with the settings: {names} (not allowed: {action})"


# --------------------------------------------------------------------------------------------------------
# The tables
# --------------------------------------------------------------------------------------------------------


def table_lines(status: Status, width: int) -> Iterator[str]:
    """One line a table of DMS or of the bucket; broken ones first."""
    rows = list(table_rows(status))
    if not rows:
        return
    yield from ["", *wrapped(CAPTION, width, "", 0), *aligned([COLUMNS, *rows[:TABLES_SHOWN]], width)]
    if len(rows) > TABLES_SHOWN:
        yield f"and {len(rows) - TABLES_SHOWN} more: see --json"


def aligned(rows: list[tuple[str, ...]], width: int) -> Iterator[str]:
    """Texts to the left, numbers to the right; names are cut to what is left of the width."""
    name_width, *widths = (max(len(row[column]) for row in rows) for column in range(len(COLUMNS)))
    name_width = max(NAME_WIDTH, min(name_width, width - sum(widths) - 2 * len(widths)))
    for name, state, *rest in rows:
        short = name if len(name) <= name_width else f"{name[: name_width - 2]}.."
        cells = [short.ljust(name_width), state.ljust(widths[0])]
        yield "  ".join([*cells, *(cell.rjust(size) for cell, size in zip(rest, widths[1:], strict=True))])


def table_rows(status: Status) -> Iterator[tuple[str, ...]]:
    landed = {(one.schema, one.table): one for one in status.landed}
    for one in status.tables:
        state = one.state.removeprefix("Table ").removeprefix("is ").lower()
        counts = (short_count(number) for number in (one.loaded, one.inserts, one.updates, one.deletes))
        objects = landed_cells(status, landed.pop((one.schema, one.table), None))
        yield (as_ascii(one.name), as_ascii(state), *counts, *objects)
    for rest in landed.values():
        yield (as_ascii(f"{rest.schema}.{rest.table}"), *"-----", *landed_cells(status, rest))


def landed_cells(status: Status, found: TableLanded | None) -> tuple[str, str, str]:
    if found is None:
        return "-", "-", "-"
    more = "+" if found.count.is_at_least else ""
    return ago(status, found.count.newest), f"{found.day}", f"{count(found.count.objects)}{more}"


def ago(status: Status, moment: datetime | None) -> str:
    return "-" if moment is None else f"{span(seconds_since(status, moment))} ago"


def seconds_since(status: Status, moment: datetime) -> float:
    return (status.read_at - moment).total_seconds()


def count(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def short_count(number: int) -> str:
    """ "1,234" or, from ten millions on, "1,234 M": columns are narrow."""
    return count(number) if number < 10**7 else f"{number // 10**6:,} M"
