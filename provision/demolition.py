"""destroy: what it deletes and keeps, draining the stream, and the replication slot that DMS may leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from provision import engine
from provision.aws import AwsError
from provision.chain import MASK_SECRET
from provision.database import DatabaseError, Slot, drop_slot, drop_slot_sql, is_dms_slot, slots_of
from provision.declaration import TASK_RUN
from provision.engine import Observed, Report, Resource
from provision.kinds import dms
from provision.landed import undelivered
from provision.pipeline import Pipeline
from provision.plan_text import name_of
from provision.surroundings import connect_parameters, look_around

DRAIN_SECONDS = 3600


# --------------------------------------------------------------------------------------------------------
# What goes and what stays
# --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Demolition:
    """What destroy deletes and keeps, in the order of the chain."""

    chain: Sequence[Resource]
    observed: Observed
    deleted: Sequence[Resource]
    kept: Sequence[tuple[Resource, str]]  # and why

    @property
    def has_task(self) -> bool:
        return self.observed.get("task") is not None

    @property
    def was_there(self) -> bool:
        """Something of the pipeline is or was there: its bucket for batches given up is kept."""
        failed = self.observed["failed bucket"]
        return bool(self.deleted) or (failed is not None and failed.is_ours)


def plan_destroy(pipeline: Pipeline) -> Demolition:
    around = look_around(pipeline.account, pipeline.settings, for_destroy=True)
    chain = pipeline.chain(around, everything=True)
    observed = engine.observe(chain)
    deleted, kept = [], []
    for resource in chain:
        live = observed[resource.name]
        if live is None or isinstance(resource.kind, dms.TaskRun | dms.TableLoads | dms.Connection):
            continue
        if resource.kind.is_retained:
            kept.append((resource, why_kept(resource)))
        elif not live.is_ours:
            kept.append((resource, "not of this pipeline"))
        else:
            deleted.append(resource)
    return Demolition(chain, observed, deleted, kept)


def why_kept(resource: Resource) -> str:
    if resource.kind.label == "bucket":
        return "rows"
    return "shared by all of DMS in the account"


def as_text(pipeline: Pipeline, demolition: Demolition, *, is_drained: bool) -> str:
    """What destroy will do, for people."""
    account, observed = pipeline.account, demolition.observed
    lines = [f"Destroy pipeline {account.pipeline}, account {account.account_id}, {account.region}", ""]
    rows = [("-", one, "") for one in reversed(demolition.deleted)]
    rows += [("=", one, f"  (kept: {why})") for one, why in demolition.kept]
    width = max((len(one.name) for _, one, _ in rows), default=0)
    lines += [f"  {mark} {one.name:{width}}  {name_of(one, observed)}{remark}" for mark, one, remark in rows]
    if not demolition.deleted:
        return "\n".join([*lines, "", "Nothing to delete.", ""])
    lines += ["", f"{len(demolition.deleted)} to delete, {len(demolition.kept)} kept.", ""]
    lines += [f"* {note}" for note in destroy_notes(pipeline, demolition, is_drained)]
    return "\n".join([*lines, ""])


def destroy_notes(pipeline: Pipeline, demolition: Demolition, is_drained: bool) -> Iterator[str]:
    deleted = {resource.name for resource in demolition.deleted}
    if "task" in deleted:
        yield "the task stops first: changes committed from then on are in no row"
    if "stream" in deleted and is_drained:
        yield "then the stream drains: nothing is deleted until the last record of each shard has landed"
    if "stream" in deleted and not is_drained:
        yield "--no-drain: records that have not landed yet are lost with the stream, and so are their rows"
    if "database" in deleted:
        yield (
            "the database goes with all its data and its automated backups; AWS makes a final snapshot, which"
            " bills while it is kept"
        )
    elif "task" in deleted:
        yield "the replication slot that DMS leaves in the database is dropped"
    if any(name.startswith("endpoint ") for name in deleted):
        yield "the VPC endpoints go: what else in the VPC uses them, another pipeline too, needs a way out"
    yield "buckets are kept with all that is in them; empty and delete them by hand"
    if "secret" in deleted:
        yield "AWS keeps the secret for 7 days before it is gone; apply takes it back"
    if MASK_SECRET in deleted:
        yield "the key of masked columns goes like that too: without MASK_SECRET no value gets its hash again"


def end(
    pipeline: Pipeline,
    demolition: Demolition,
    *,
    is_drained: bool,
    report: Report,
    tell: Callable[[str], None],
) -> SlotsLeft:
    """Stops the task, drains the stream, deletes all but what is kept; says what became of the slot.

    The slot goes right after the task: an interruption later on can't leave it behind.
    """
    before = dms_slots(pipeline)
    part = [resource.name for resource in demolition.chain].index
    chain, observed = list(demolition.chain), demolition.observed
    engine.destroy([chain[part(TASK_RUN)]], observed, report)
    if is_drained:
        drain(pipeline, demolition, tell)
    engine.destroy(chain[part("task") :], observed, report)
    slots = drop_slots(pipeline, demolition, before)
    engine.destroy(chain[: part("task")], observed, report)
    return slots


def drain(pipeline: Pipeline, demolition: Demolition, tell: Callable[[str], None]) -> None:
    """Returns once the last record of each shard has landed. Raises AwsError when it does not."""
    stream = demolition.observed.get("stream")
    if stream is None or not stream.is_ours:
        return
    account, settings = pipeline.account, pipeline.settings
    deadline, said = time.monotonic() + DRAIN_SECONDS, ""
    while left := undelivered(
        account, account.name("stream"), settings.s3_bucket, settings.s3_prefix, datetime.now(UTC)
    ):
        text = "; ".join(sorted(f"{one.shard_id} ({one.reason})" for one in left))
        if text != said:
            tell(f"waiting for the last records of {text} to land")
            said = text
        if demolition.observed.get("mapping") is None or time.monotonic() > deadline:
            raise AwsError(
                f"the last records of {text} have not landed in {settings.s3_bucket}: is the function well "
                "(python setup_dms.py status)? Nothing but the task's stop was done; destroy --no-drain "
                "deletes the stream with what is left on it"
            )
        account.sleep(account.poll_seconds)


# --------------------------------------------------------------------------------------------------------
# The slot that DMS leaves
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlotsLeft:
    """What became of the replication slot of our task."""

    dropped: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # of DMS by their names, unused, not known to be ours
    unseen_sql: tuple[str, ...] = ()  # the database could not be asked: what a person runs
    failures: tuple[str, ...] = ()  # why one could not be dropped
    was_seen: bool = False  # ours was among them: the others are not

    @property
    def are_settled(self) -> bool:
        return not (self.unseen_sql or self.failures) and (self.was_seen or not self.others)

    def lines(self) -> Iterator[str]:
        for name in self.dropped:
            yield f"Dropped replication slot {name}, which DMS had left."
        yield from self.failures
        if self.others:
            yield "Replication slots of DMS that nobody reads; if they are no other task's, drop them:"
            yield from (f"    {drop_slot_sql(name)}" for name in self.others)
        if self.unseen_sql:
            yield "The database could not be asked for a slot that DMS may have left; one that stays fills"
            yield "its disk. Run there, and drop what nobody reads:"
            yield from (f"    {line}" for line in self.unseen_sql)


def dms_slots(pipeline: Pipeline) -> list[Slot] | None:
    """Logical slots of the form that DMS gives them; None when the database can't be asked."""
    try:
        slots = slots_of(connect_parameters(pipeline.account, pipeline.settings))
        return [slot for slot in slots if is_dms_slot(slot, pipeline.settings.pgdatabase)]
    except DatabaseError:
        return None


def is_of_task(slot: Slot, demolition: Demolition) -> bool:
    """Whether it is named after our task."""
    task = demolition.observed.get("task")
    return task is not None and slot.name.startswith(f"{task.attributes['resource_id'][:16].lower()}_")


def drop_slots(pipeline: Pipeline, demolition: Demolition, before: list[Slot] | None) -> SlotsLeft:
    """Drops that of our task if it is there still: as a rule DMS takes its slot with the task.

    before: what was there while the task was. A slot that is not named after the task may be another's, whose
    position would be lost: it is listed, and left alone.
    """
    after = dms_slots(pipeline)
    if after is None:
        is_gone = pipeline.settings.create_rds and demolition.has_task  # the database goes, with the slot
        return SlotsLeft(unseen_sql=() if is_gone else tuple(slot_sql(pipeline)))
    unread = [slot for slot in after if not slot.is_active]
    dropped, failures = [], []
    for slot in unread:
        if is_of_task(slot, demolition):
            try:
                drop_slot(connect_parameters(pipeline.account, pipeline.settings), slot.name)
                dropped.append(slot.name)
            except DatabaseError as error:  # the rest is deleted all the same
                failures.append(str(error))
    return SlotsLeft(
        tuple(dropped),
        tuple(slot.name for slot in unread if not is_of_task(slot, demolition)),
        failures=tuple(failures),
        was_seen=any(is_of_task(slot, demolition) for slot in [*(before or ()), *after]),
    )


def slot_sql(pipeline: Pipeline) -> list[str]:
    """What a person runs where we can't look: first which slots there are, then the statement for one."""
    database = pipeline.settings.pgdatabase.replace("'", "''")
    return [
        "SELECT slot_name, active, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS kept_bytes"
        f" FROM pg_replication_slots WHERE database = '{database}';",
        drop_slot_sql("<slot_name>"),
    ]
