"""Is what was committed in PostgreSQL what is in S3?

    verdict = prove(s3, "landing", "raw/", {"dsn": server.dsn}, committed=ledger.as_dict())
    print(verdict.text())     # or json.dumps(verdict.as_dict()); verdict.is_exact decides the exit code

Two proofs, each on its own:
counts   The distinct changes that landed, by table and operation, are those of the ledger; loaded rows too.
state    The landed rows, replayed in the contract's order, give the rows that the source has now.

A record that landed twice under one (cdc_shard_id, cdc_sequence_number) was delivered again by Kinesis; a
change that landed under two such names was sent again by DMS. Both are counted, neither is a fault. Keys and
values of rows are never shown. The source has to rest, and everything to have landed, before it is asked:
that is the caller's to see to. What DMS loses (of a text longer than LobMaxSize, say) is not forgiven here:
it is a difference. IncludeNullAndEmpty is needed, as setup_dms.py sets it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from local_run.evidence import (
    OF_LANDING,
    Key,
    LandedRow,
    SourceTable,
    Values,
    comparable,
    count_quarantined,
    instant,
    read_drops,
    read_landing,
    read_source,
)

CHANGE_OPERATIONS = ("insert", "update", "delete")
LOB_TYPES = {"text", "json", "jsonb", "bytea", "xml"}  # and arrays: an update may come without their values

# ----------------------------------------------------------------------------------------------------------
# Value types
# ----------------------------------------------------------------------------------------------------------


@dataclass
class TableVerdict:
    """Counts of one table, by operation; of which rows, can't be said of changes and is not said of rows."""

    landed: dict[str, int]  # distinct ones; of loads, those of every generation
    dms_resends: dict[str, int]
    kinesis_redeliveries: int
    generations: int
    lost: dict[str, int] = field(default_factory=dict)
    extra: dict[str, int] = field(default_factory=dict)
    missing_rows: int = 0
    extra_rows: int = 0
    different_rows: int = 0

    @property
    def faults(self) -> list[str]:
        """["update lost: 2", "rows missing: 1"]"""
        counts = {f"{operation} lost": count for operation, count in self.lost.items()}
        counts |= {f"{operation} too many": count for operation, count in self.extra.items()}
        rows = {"missing": self.missing_rows, "extra": self.extra_rows, "different": self.different_rows}
        counts |= {f"rows {word}": count for word, count in rows.items() if count}
        return [f"{what}: {count}" for what, count in counts.items()]


@dataclass
class Verdict:
    """given_up: records that Lambda did not try again. suspended: tables that DMS left, and why.

    not_told: tables whose rows could not be compared, and why.
    """

    tables: dict[str, TableVerdict]
    quarantined: int = 0
    given_up: int = 0
    suspended: Mapping[str, str] = field(default_factory=dict)
    not_told: Mapping[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """["public.client: update lost: 2", "quarantined records: 1"]"""
        found = [f"{name}: {fault}" for name, table in self.tables.items() for fault in table.faults]
        found += [f"{name}: suspended: {reason}" for name, reason in self.suspended.items()]
        found += [f"{name}: not compared: {reason}" for name, reason in self.not_told.items()]
        counts = {
            "quarantined records": self.quarantined,
            "records given up, now in the failed bucket": self.given_up,
        }
        return found + [f"{what}: {count:,}" for what, count in counts.items() if count]

    @property
    def is_exact(self) -> bool:
        return not self.faults

    @property
    def lost(self) -> int:
        """Changes and loaded rows; or rows of a state, where nobody has counted changes."""
        return sum(max(sum(table.lost.values()), table.missing_rows) for table in self.tables.values())

    @property
    def kinesis_redeliveries(self) -> int:
        return sum(table.kinesis_redeliveries for table in self.tables.values())

    @property
    def dms_resends(self) -> dict[str, int]:
        """By operation, of all tables."""
        return dict(total(table.dms_resends for table in self.tables.values()))

    @property
    def duplicates(self) -> str:
        """2 by Kinesis; sent again by DMS: 1 load, 1 insert"""
        resends = ", ".join(f"{count} {name}" for name, count in self.dms_resends.items()) or "none"
        return f"{self.kinesis_redeliveries} by Kinesis; sent again by DMS: {resends}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "is_exact": self.is_exact,
            "faults": self.faults,
            "lost": self.lost,
            "quarantined": self.quarantined,
            "given_up": self.given_up,
            "suspended": dict(self.suspended),
            "kinesis_redeliveries": self.kinesis_redeliveries,
            "dms_resends": self.dms_resends,
            "tables": {name: asdict(table) for name, table in self.tables.items()},
        }

    def text(self) -> str:
        """A line for each fault, or one that all is there; then what landed, and what more than once."""
        landed = total(table.landed for table in self.tables.values())
        loads = landed.pop("load", 0)
        reloaded = ", ".join(name for name, table in self.tables.items() if table.generations > 1)
        lines = [f"not exact: {fault}" for fault in self.faults] or ["exact: what was committed is in S3"]
        lines.append(f"landed: {landed.total()} changes, {loads} loaded rows")
        lines.append(f"more than once: {self.duplicates}")
        return "\n".join(lines + [f"loaded again, so judged by state: {reloaded}"] * (reloaded != ""))


def total(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    return sum(map(Counter, counts), Counter[str]())


# ----------------------------------------------------------------------------------------------------------
# Entry points
# ----------------------------------------------------------------------------------------------------------


def prove(
    s3: Any,
    bucket: str,
    prefix: str,
    connect_parameters: Mapping[str, Any],
    *,
    tables: Collection[str] | None = None,
    committed: Mapping[str, Mapping[str, int]] | None = None,
    loaded: Mapping[str, int] | None = None,
    sent: Mapping[str, Mapping[str, int]] | None = None,
    is_shared: bool = False,
    has_state: bool = True,
) -> Verdict:
    """Reads both ends and judges them; see judge.

    connect_parameters: of psycopg2.connect, to the source. tables: {"public.client", ...}, which the
    replication task selects; None = all of the database. has_state: the rows are compared too; a run leaves
    that to lake.py verify, and the tests hold the stand-ins to both.
    """
    return judge(
        read_landing(s3, bucket, prefix),
        read_drops(s3, bucket, prefix),
        read_source(connect_parameters, tables, has_rows=has_state),
        committed=committed,
        loaded=loaded,
        sent=sent,
        is_shared=is_shared,
        has_state=has_state,
        quarantined=count_quarantined(s3, bucket, prefix),
    )


def judge(
    landing: Iterable[LandedRow],
    drops: Mapping[str, Sequence[str]],
    source: Mapping[str, SourceTable],
    *,
    committed: Mapping[str, Mapping[str, int]] | None = None,
    loaded: Mapping[str, int] | None = None,
    sent: Mapping[str, Mapping[str, int]] | None = None,
    is_shared: bool = False,
    has_state: bool = True,
    quarantined: int = 0,
) -> Verdict:
    """The verdict on every table of the source, and on any other that something landed of.

    drops: when each table was dropped for a load. committed: changes since the snapshot of the load,
    {"public.client": {"insert": 3, ...}}; None: the counts of changes are not judged. loaded: rows that the
    tables had in it; None: nor are those of loads. A table that was loaded again is judged by its state
    and by changes that are too many: what the later load has taken in is no change. sent: what DMS says to
    have sent, {"public.client": {"load": 2, "insert": 3}}: of a table without a primary key, which has no
    state, no less may have landed. is_shared: others have written too, and nobody has counted it: nothing is
    too many.
    """
    rows: dict[str, list[LandedRow]] = defaultdict(list)
    for row in landing:
        rows[row.table].append(row)
    verdicts = {}
    for name in sorted({*source, *rows, *(committed or {}), *(loaded or {})}):
        table = source.get(name) or SourceTable({}, ())
        expected = expected_counts(name, table, committed, loaded)
        least = {} if table.primary_key else (sent or {}).get(name, {})
        generations, verdict = judge_table(
            table, rows[name], sorted(map(instant, drops.get(name, []))), expected, least
        )
        if table.primary_key and has_state:
            compare(replay(generations[-1], table), table, verdict)
        verdicts[name] = replace(verdict, extra={}) if is_shared else verdict
    return Verdict(verdicts, quarantined)


def expected_counts(
    name: str,
    table: SourceTable,
    committed: Mapping[str, Mapping[str, int]] | None,
    loaded: Mapping[str, int] | None,
) -> dict[str, int]:
    """By operation; one that is not there is not judged."""
    expected: dict[str, int] = {}
    if loaded is not None:
        expected["load"] = loaded.get(name, 0)
    if committed is not None:
        expected |= {operation: committed.get(name, {}).get(operation, 0) for operation in CHANGE_OPERATIONS}
        if table.types and not table.primary_key:  # DMS ignores them (documented)
            expected |= {"update": 0, "delete": 0}
    return expected


def judge_table(
    table: SourceTable,
    landed: list[LandedRow],
    drops: list[str],
    expected: Mapping[str, int],
    least: Mapping[str, int],
) -> tuple[list[list[LandedRow]], TableVerdict]:
    """The rows by load generation, and what their counts say."""
    delivered = {(row.shard_id, row.sequence_number): row for row in landed}
    generations = load_generations(delivered.values(), drops)
    distinct, resends = count_distinct(generations, table)
    redeliveries = len(landed) - len(delivered)
    verdict = TableVerdict(dict(distinct), dict(resends), redeliveries, len(generations))
    is_loaded_once = len(generations) == 1
    for operation, count in expected.items():
        found = distinct[operation]
        if found > count and (is_loaded_once or operation != "load"):
            verdict.extra[operation] = found - count
        elif found < count and is_loaded_once:
            verdict.lost[operation] = count - found
    for operation, count in least.items():  # DMS counts what it sends again, too
        found = distinct[operation] + resends[operation]
        if found < count and is_loaded_once and operation not in expected:
            verdict.lost[operation] = count - found
    return generations, verdict


# ----------------------------------------------------------------------------------------------------------
# The contract: generations, identities, order, state
# ----------------------------------------------------------------------------------------------------------


def load_generations(rows: Iterable[LandedRow], drops: list[str]) -> list[list[LandedRow]]:
    """The rows by load generation, at least one; drops are the times of drop-table, in order.

    A generation starts at a drop-table, and at a load row that was published after a change.
    """
    generations: list[list[LandedRow]] = [[]]
    has_changes, next_drop = False, 0
    for row in sorted(rows, key=lambda row: (instant(row.published_at), row.operation != "load")):
        is_load, first_drop = row.operation == "load", next_drop
        while next_drop < len(drops) and drops[next_drop] <= instant(row.published_at):
            next_drop += 1
        if generations[-1] and (next_drop > first_drop or (is_load and has_changes)):
            generations.append([])
            has_changes = False
        generations[-1].append(row)
        has_changes = has_changes or not is_load
    return [*generations, []] if next_drop < len(drops) and generations[-1] else generations


def count_distinct(
    generations: Sequence[Sequence[LandedRow]], table: SourceTable
) -> tuple[Counter[str], Counter[str]]:
    """How many distinct rows there are by operation, and how many DMS has sent again.

    A loaded row is known by its key within a generation, a change by its place in its transaction; one that
    has neither counts as distinct.
    """
    distinct, resends = Counter[str](), Counter[str]()
    seen: set[tuple[Any, ...]] = set()
    key_of = key_reader(table)
    for number, generation in enumerate(generations):
        for row in generation:
            identity: tuple[Any, ...] | None = None
            if row.operation != "load" and row.transaction_id is not None and row.record_id is not None:
                identity = (row.transaction_id, row.record_id, row.position)
            elif row.operation == "load" and table.primary_key:
                identity = (number, "load", key_of(row.values))
            (resends if identity in seen else distinct)[row.operation] += 1
            if identity is not None:
                seen.add(identity)
    return distinct, resends


def in_order(row: LandedRow) -> tuple[Any, ...]:
    """Loads first, then changes as they were committed."""
    at = instant(row.committed_at or row.published_at)
    place = (at, row.lsn or 0, row.record_id or 0, row.sequence_number)
    return (row.operation != "load", *place)


def replay(rows: Iterable[LandedRow], table: SourceTable) -> dict[Key, Values]:
    """The rows of the table as the landed rows of one generation leave them, by key.

    A LOB that is null in an update is Unchanged: DMS may have left it out, or it is NULL.
    """
    state: dict[Key, Values] = {}
    key_of = key_reader(table)
    lobs = [name for name, kind in table.types.items() if kind in LOB_TYPES or kind.endswith("[]")]
    for row in sorted(rows, key=in_order):
        key, values = key_of(row.values), row.values
        if row.operation == "delete":
            state.pop(key, None)
            continue
        if row.operation == "update":
            former = state.pop(key_of({**values, **row.before}), None) if row.before else None
            former = former or state.get(key, {})
            left_out = [name for name in lobs if values.get(name) is None]
            values = {**values, **{name: unchanged(former.get(name)) for name in left_out}}
        state[key] = values
    return state


@dataclass(frozen=True)
class Unchanged:
    """A value that may still be the former one, or NULL."""

    former: Any


def unchanged(former: Any) -> Unchanged:
    return former if isinstance(former, Unchanged) else Unchanged(former)


def compare(state: Mapping[Key, Values], table: SourceTable, verdict: TableVerdict) -> None:
    """Counts the rows that are missing, extra and different."""
    forms = [(name, comparable(kind, OF_LANDING)) for name, kind in table.types.items()]
    for key, expected in table.rows.items():
        if (values := state.get(key)) is None:
            verdict.missing_rows += 1
            continue
        for (name, form), value in zip(forms, expected, strict=True):
            landed = values.get(name)
            if isinstance(landed, Unchanged):
                is_same = value is None or value == form(landed.former)
            else:
                is_same = value == form(landed)
            if not is_same:
                verdict.different_rows += 1
                break
    verdict.extra_rows = len(state.keys() - table.rows.keys())


def key_reader(table: SourceTable) -> Callable[[Values], Key]:
    forms = [(name, comparable(table.types[name], OF_LANDING)) for name in table.primary_key]
    return lambda values: tuple([form(values.get(name)) for name, form in forms])
