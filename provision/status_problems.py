"""What is wrong with a status, what it means for the rows, and the command that helps. Pure.

    problems(status)       the worst first
    is_well(status)        for the exit code

provision.status reads it, provision.status_text shows it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from provision.alarms import LIMITS
from provision.database import Slot, drop_slot_sql
from provision.kinds.dms import BROKEN
from provision.status import SILENCE, Status, Task

NAMES_SHOWN = 5
SETUP = "python setup_dms.py"
RELOAD_ALL = f"{SETUP} reload --all"
SET_ASIDE = "python lake.py failed list"
READ_LOGS = "aws logs filter-log-events --log-group-name"
DATABASE_FREE_BYTES, REPLICATION_FREE_BYTES = LIMITS["database-storage"][3], LIMITS["replication-storage"][3]
# What PostgreSQL, and DMS after it, say of a slot whose log is gone.
LOST_SLOT = re.compile(
    r"slot\b[^.;:]{0,80}(does not exist|(is|was|been) (lost|invalidated)|no longer)"
    r"|no longer get changes from replication slot|WAL segment \S+ has already been removed",
    re.I,
)


@dataclass(frozen=True)
class Problem:
    about: str  # "task-failed"; that of an alarm: the alarm's part, "slot-lag"
    what: str
    meaning: str  # for the rows
    next: str  # the command to run


def problems(status: Status) -> list[Problem]:
    """The worst first: rows lost, the chain at a stand, tables left out, rows late, what watches it."""
    found = [
        *slot_problems(status),
        *task_problems(status),
        *capacity_problems(status),
        *table_problems(status),
        *mapping_problems(status),
        *set_aside_problems(status),
        *delay_problems(status),
    ]
    told = {problem.about for problem in found}
    alarms = [problem for problem in alarm_problems(status) if problem.about not in told]
    return [*found, *alarms, *drift_problems(status)]


def is_well(status: Status) -> bool:
    """There is a chain, all of it may be read, and nothing is wrong with it.

    A database that can't be reached from here is no fault: CloudWatch tells of its slots.
    """
    is_seen = not status.not_allowed and not status.unseen
    return status.exists and is_seen and not problems(status)


def slots_of(status: Status) -> tuple[Slot, ...]:
    return status.database.slots if status.database else ()


def slot_is_lost(status: Status) -> bool:
    """By the slots, or by the task's own words; not while one is read."""
    task, slots = status.task, slots_of(status)
    if any(slot.is_active for slot in slots):
        return False
    said_so = task is not None and task.has_failed and bool(LOST_SLOT.search(task.reason))
    return said_so or (bool(slots) and all(slot.wal_status == "lost" for slot in slots))


def slot_problems(status: Status) -> Iterator[Problem]:
    slots, task = slots_of(status), status.task
    if slot_is_lost(status):
        said = f": {task.reason}" if task and task.has_failed else ""
        lost = next((f" {slot.name}" for slot in slots if slot.wal_status == "lost"), "")
        meaning = "changes since the last checkpoint can't be read any more: only a new load makes rows whole"
        yield Problem("slot-lost", f"the replication slot{lost} is lost{said}", meaning, RELOAD_ALL)
    is_running = task is not None and task.is_running
    for slot in slots:
        if slot.wal_status == "unreserved":
            what = f"slot {slot.name} is about to be lost: the log it needs is beyond max_slot_wal_keep_size"
            meaning = (
                "unless it is read before the next checkpoint, changes are lost: all is to be loaded anew"
            )
            command = f"{SETUP} status --watch" if is_running else f"{SETUP} resume"
            yield Problem("slot-unreserved", what, meaning, command)
        if is_running and not slot.is_active:
            yield unread_slot(slot, any(other.is_active for other in slots))


def unread_slot(slot: Slot, another_is_read: bool) -> Problem:
    """One beside that of the task is not of this chain for certain: it is for a person to know."""
    retains = f"the log kept for it grows, {size_text(slot.retained_bytes)} so far"
    if slot.wal_status == "lost":
        retains = "it is lost, and keeps no log any more"
    if another_is_read:
        what = f"slot {slot.name} is read by nobody, and another one is: another task's, or left over"
        command = f"if no task needs it: {drop_slot_sql(slot.name)}"
        return Problem("slot-left-over", what, f"no row is missing; {retains}", command)
    what, command = f"the task runs, and nobody reads slot {slot.name}", f"{SETUP} stop, then {SETUP} resume"
    return Problem("slot-inactive", what, f"no change leaves the database; {retains}", command)


def task_problems(status: Status) -> Iterator[Problem]:
    task = status.task
    if task is None or slot_is_lost(status):
        return
    if task.has_failed:
        yield resting_task("task-failed", "the task failed", task, status)
    elif task.status == "stopped":
        yield resting_task("task-stopped", "the task is stopped", task, status)
    elif task.status == "ready":
        meaning = "no row is loaded, and no slot keeps the changes"
        yield Problem("task-not-started", "the task was never started", meaning, f"{SETUP} apply")


def resting_task(about: str, what: str, task: Task, status: Status) -> Problem:
    """A task can't be resumed without its slot."""
    why = "" if task.reason == "no reason given" else f": {task.reason}"
    if status.database and not status.database.unreachable and not status.database.slots:
        meaning = "no change leaves the database, and no slot keeps them: all has to be loaded anew"
        return Problem(about, what + why, meaning, RELOAD_ALL)
    meaning = f"no change leaves the database; the slot retains {retained(status)}"
    return Problem(about, what + why, meaning, f"{SETUP} resume")


def retained(status: Status) -> str:
    """ "1.2 GB and grows", of the database or else of CloudWatch."""
    of_slots = [slot.retained_bytes for slot in slots_of(status) if slot.retained_bytes is not None]
    if of_slots:
        return f"{size_text(max(of_slots))} and grows"
    if status.figures.slot_lag_bytes is not None:
        return f"{size_text(status.figures.slot_lag_bytes)} (CloudWatch) and grows"
    return "all since then, and grows"


def capacity_problems(status: Status) -> Iterator[Problem]:
    instance, figures = status.instance, status.figures
    if instance and instance.status in BROKEN | {"storage-full"}:
        what = f"the replication instance is {instance.status}"
        meaning = "no change leaves the database, whose slot grows"
        source = f"--source-type replication-instance --source-identifier {status.pipeline}-replication"
        yield Problem("instance-broken", what, meaning, f"aws dms describe-events {source} --duration 1440")
    free = figures.database_free_bytes
    if free is not None and free < DATABASE_FREE_BYTES:
        what = f"{size_text(free)} of storage left on the database"
        meaning = "at none the database stops writing; a slot that is not read is what grows"
        command = f"aws rds modify-db-instance --db-instance-identifier {status.database_instance}"
        more = "--allocated-storage <GB> --apply-immediately"
        yield Problem("database-storage", what, meaning, f"{command} {more}")
    free = figures.replication_free_bytes
    if free is not None and free < REPLICATION_FREE_BYTES:
        what = f"{size_text(free)} of storage left on the replication instance"
        meaning = "at none DMS stops; its logs, and changes that wait for the target, are what grows"
        command = "aws dms describe-replication-instance-task-logs --replication-instance-arn"
        yield Problem(
            "replication-storage", what, meaning, f"{command} {instance.arn if instance else '<ARN>'}"
        )


def table_problems(status: Status) -> Iterator[Problem]:
    gone = [table.name for table in status.tables if "not exist" in table.state]
    broken = [table.name for table in status.tables if table.is_broken and table.name not in gone]
    if broken:
        what = f"{plural(len(broken), 'table')} suspended or in error: {few(broken)}"
        meaning = "their changes do not reach the stream; the other tables go on"
        yield Problem("tables-broken", what, meaning, reload_command(status, broken))
    if gone:
        what = f"{plural(len(gone), 'table')} that DMS does not find in the database: {few(gone)}"
        meaning = "what has landed of them stays; nothing is added"
        yield Problem("tables-gone", what, meaning, f"{SETUP} plan")


def reload_command(status: Status, tables: Sequence[str]) -> str:
    """AWS reloads tables of a running task only."""
    if slot_is_lost(status):
        return RELOAD_ALL
    reload = f"{SETUP} reload {' '.join(shlex.quote(name) for name in tables[:NAMES_SHOWN])}"
    is_at_rest = status.task is not None and not status.task.is_running
    return f"{SETUP} resume, then {reload}" if is_at_rest else reload


def mapping_problems(status: Status) -> Iterator[Problem]:
    mapping = status.mapping
    if mapping and mapping.state in ("Disabled", "Disabling"):
        what = f"the event source mapping is {mapping.state}"
        meaning = "records wait on the stream, at most for its retention of seven days, and do not land"
        yield Problem("mapping-disabled", what, meaning, f"{SETUP} apply")
    elif mapping and mapping.last_result.startswith("PROBLEM"):
        what = f"the event source mapping has a {mapping.last_result}"
        meaning = "records wait on the stream and do not land; Lambda tries again until they are six days old"
        logs = f"/aws/lambda/{status.pipeline}-lambda"
        yield Problem("mapping-problem", what, meaning, f"{READ_LOGS} {logs}")


def set_aside_problems(status: Status) -> Iterator[Problem]:
    if status.given_up.objects:
        what = f"Lambda gave up batches: {status.given_up} in the failed bucket"
        meaning = "their rows are in none of the tables, only in these objects"
        yield Problem("given-up", what, meaning, f"{SET_ASIDE} --kind batch")
    if status.quarantined.objects:
        what = f"{status.quarantined} with records that can't be read, in the last 7 days"
        meaning = "these records are in none of the tables, only in quarantine/, with the reason"
        yield Problem("quarantined", what, meaning, f"{SET_ASIDE} --kind poison")


def delay_problems(status: Status) -> Iterator[Problem]:
    figures, task = status.figures, status.task
    started = task.started_at if task and task.is_running else None
    is_silent = "figures" not in status.not_allowed and not figures.records_10_minutes
    if is_silent and started and status.read_at - started > SILENCE:
        meaning = "even without changes DMS writes one a minute: the chain stands still"
        logs = f"dms-tasks-{status.pipeline}-replication"
        what = "no record for 10 minutes, though the task runs"
        yield Problem("no-records", what, meaning, f"{READ_LOGS} {logs}")
    age_ms = figures.iterator_age_ms
    if age_ms is not None and age_ms > status.iterator_age_limit_ms:
        what = f"the function is {span(age_ms / 1000)} behind the stream"
        meaning = "rows land late; none is lost before seven days"
        yield Problem("iterator-age", what, meaning, f"set STREAM_SHARDS higher, then {SETUP} apply")


def alarm_problems(status: Status) -> Iterator[Problem]:
    for about, limit in LIMITS.items():
        name = f"{status.pipeline}-{about}"
        if status.alarms.get(name) == "ALARM":
            command = f"aws cloudwatch describe-alarm-history --alarm-name {name}"
            yield Problem(about, f"alarm {name} is in ALARM", limit[4], command)


def drift_problems(status: Status) -> Iterator[Problem]:
    if missing := status.missing:
        meaning = "the chain is not whole: apply goes on where it ended"
        yield Problem("missing", f"not there: {few(missing)}", meaning, f"{SETUP} plan")
    if differing := status.differing:
        meaning = "somebody changed it, or the settings"
        yield Problem("differing", f"not as declared: {few(differing)}", meaning, f"{SETUP} plan")
    if status.unconfirmed_email:
        what = f"{status.unconfirmed_email} has not confirmed the subscription to the alarms"
        command = f"follow the link in AWS's mail; after three days it is dead, then: {SETUP} apply"
        yield Problem("email-unconfirmed", what, "alarms reach nobody there", command)


# --------------------------------------------------------------------------------------------------------
# Wording
# --------------------------------------------------------------------------------------------------------


def few(names: Sequence[str]) -> str:
    """ "a, b, c, d, e and 2 more" """
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def plural(number: int, noun: str) -> str:
    """ "1 table", "2 tables" """
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def span(seconds: float | None) -> str:
    """ "12 s", "3 min", "5 h", "2 days"; of clocks that differ, "0 s"."""
    if seconds is None:
        return "-"
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def size_text(number: float | None) -> str:
    """ "1.2 MB": decimal, as disks are sold."""
    if number is None:
        return "-"
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if abs(number) >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} B"
