"""Is what PostgreSQL holds what landed? Compares the source itself with S3, while both may be written to.

    report = verify(lake, ["public.client"], deadline_seconds=60)
    report.verdict      "identical", "different", "unknown"

One snapshot of PostgreSQL is compared with the rows in S3 that it shows: counts and sums of hashes first,
then the hashes of rows, then their values. What is not the same may still be on its way, so it is looked at
again whenever something has landed, until the deadline. What remains is looked at in a second snapshot: a row
that PostgreSQL has not changed meanwhile, and that is not the same either time, is a difference. A database
that rests is waited for no longer than that.

Masked columns are compared masked (verify_masked); the key of the hashes never goes to the server.

Not seen: what DMS does not carry (generated columns, PostGIS), and what it rounds or cuts (docs/types.md).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lake_tools.bucket import Lake, dotted, find_table
from lake_tools.progress import Progress
from lake_tools.set_aside import read_quarantine
from lake_tools.settings import LakeError
from lake_tools.text import plural
from lake_tools.verify_compare import TableCheck
from lake_tools.verify_landed import Landed
from lake_tools.verify_masked import HashingSource, mask_notes, masked_table
from lake_tools.verify_report import Report, TableReport
from lake_tools.verify_source import Source, SourceTable, open_source

DEADLINE_SECONDS = 60.0
LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.2, 5.0  # between two listings of the same folder
OPEN_BYTES = 64 << 20  # of gzipped objects whose rows are held between looks at several tables
QUIET_SHARE = 3  # nothing new in the last third of the time: no more is on its way
GONE = "nothing of it is in the database: dropped, renamed, or of another database"
UNLOGGED = "an unlogged table: no change of it is in the log that DMS reads"
LOADING = "it is being loaded: verify again when status shows it completed"
BEHIND = "S3 is not yet where the database was: give it a longer --deadline"
QUARANTINED = "in quarantine, {}, may be what is not there: python lake.py failed list"
NONE_SELECTED = "TABLES={} selects no table of the database or of S3: correct it, or name tables"
NOT_LANDING = "nothing of it has landed since: python setup_dms.py status says whether the chain runs"
NOTHING_LANDED = "nothing of it has landed: python setup_dms.py status says whether the task loads it"
STANDS_STILL = (
    "nothing of it landed while verify waited: python setup_dms.py status says whether the chain runs"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="public.client (default: all of TABLES)")
    parser.add_argument("--values", action="store_true", help="show keys and values of rows that differ")
    parser.add_argument("--json", action="store_true", help="write the report as JSON")
    parser.add_argument(
        "--deadline",
        type=seconds,
        default=DEADLINE_SECONDS,
        metavar="SECONDS",
        help=f"how long a row has to differ to count (default: {DEADLINE_SECONDS:.0f})",
    )


def seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


def run(options: argparse.Namespace, lake: Lake) -> int:
    """0: identical, 1: different, 2: it could not be told."""
    report = verify(lake, options.tables, options.deadline, shows_values=options.values)
    print(json.dumps(report.as_dict(), indent=2, ensure_ascii=False) if options.json else report.text())
    return report.exit_code


# --------------------------------------------------------------------------------------------------------
# The comparison
# --------------------------------------------------------------------------------------------------------


def verify(
    lake: Lake,
    names: Sequence[str] = (),
    deadline_seconds: float = DEADLINE_SECONDS,
    *,
    shows_values: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> Report:
    """names: as on the command line; none: all that TABLES selects. Raises LakeError, DatabaseError."""
    parameters = lake.connect_parameters()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lake-verify-") as folder, ExitStack() as stack:
        with open_source(parameters, hashing(lake, Path(folder) / "first")) as source:
            report = Report(source.where, lake.uri(), source.snapshot.taken_at)
            checks = make_checks(lake, source, names, report, Path(folder), shows_values)
            for check in checks:
                stack.enter_context(check.landed)
            left = compare(checks, source, lake.progress)
            left = wait_for(left, source, deadline_seconds, lake.progress, pause)
            left = [check for check in left if is_kept(check, source, left)]
        if left:
            quiet_since = time.monotonic() - deadline_seconds / QUIET_SHARE
            with open_source(parameters, hashing(lake, Path(folder) / "later")) as later:
                judge(left, later, quiet_since, lake.progress)
        report.notes += closing_notes(lake, report)
    report.seconds = time.monotonic() - began
    return report


def hashing(lake: Lake, folder: Path) -> Callable[[Any, str], Source]:
    folder.mkdir()
    return lambda connection, where: HashingSource(connection, where, folder, lake.cache)


def make_checks(
    lake: Lake, source: Source, names: Sequence[str], report: Report, folder: Path, shows_values: bool
) -> list[TableCheck]:
    """One for each table that is in the database; what is not is told in the report, all in one order."""
    in_source = {
        (one.schema.schema, one.schema.table): one for one in source.tables(lake.settings.lob_max_size_kb)
    }
    landed = lake.tables()
    checks = []
    wanted = chosen(lake, in_source, landed, names)
    for place, name in enumerate(wanted):
        if (table := in_source.get(name)) is None:
            report.tables.append(TableReport(dotted(name), why_unknown=[GONE]))
            continue
        try:
            table = masked_table(lake, table)
        except LakeError as error:
            report.tables.append(TableReport(dotted(name), why_unknown=[str(error)]))
            continue
        check = TableCheck(table, Landed(lake, table), folder / str(place), shows_values=shows_values)
        check.report.notes += [*standing_notes(table), *mask_notes(table, lake.settings)]
        report.tables.append(check.report)
        checks.append(check)
    return checks


def standing_notes(table: SourceTable) -> Iterator[str]:
    """What keeps DMS from replicating the table, whatever is in it."""
    if table.is_unlogged:
        yield UNLOGGED
    large = [one.name for one in table.columns if one.is_lob and one.name in table.key]
    if large:
        yield f"a large column, {', '.join(large)}, is in its primary key: DMS suspends such a table"


def closing_notes(lake: Lake, report: Report) -> Iterator[str]:
    """What concerns all the tables: that there are none, or what else may be the cause."""
    if not report.tables:
        yield NONE_SELECTED.format(lake.settings.tables)
    if report.verdict == "different":
        try:
            waiting = sum(len(one.waiting()) for one in read_quarantine(lake).objects)
        except LakeError as error:  # the tables have been compared, whatever is there
            yield QUARANTINED.format(f"of which this could not be read: {error}")
        else:
            if waiting:
                yield QUARANTINED.format(plural(waiting, "record"))


def chosen(
    lake: Lake,
    in_source: Iterable[tuple[str, str]],
    landed: Iterable[tuple[str, str]],
    names: Sequence[str],
) -> list[tuple[str, str]]:
    """Schema and table of the names; without names, of all that TABLES selects here or there."""
    known = sorted({*in_source, *landed})
    if names:
        return list(
            dict.fromkeys(find_table(name, known, "neither in the database nor in S3") for name in names)
        )
    patterns = lake.settings.table_patterns
    return [one for one in known if any(pattern.matches(*one) for pattern in patterns)]


def compare(checks: Sequence[TableCheck], source: Source, progress: Progress) -> list[TableCheck]:
    """Those that are not identical yet; not those that can't be read."""
    left = []
    with progress.of("comparing tables", len(checks)) as advance:
        for check in checks:
            left += [check] * is_open(check, source, checks)
            advance(1)
    return left


def is_open(check: TableCheck, source: Source, checks: Sequence[TableCheck]) -> bool:
    """Whether it is not identical yet; checks: with it, those that are looked at by turns."""
    is_identical = True
    with told(check.report):
        is_identical = check.is_identical(source)
    if is_identical:
        check.landed.close()
    make_room(check, checks)
    return not is_identical


def is_kept(check: TableCheck, source: Source, checks: Sequence[TableCheck]) -> bool:
    """Whether its differences could be read, and are kept."""
    has_failed = True
    with told(check.report):
        check.keep_differences(source)
        has_failed = False
    if has_failed:
        check.landed.close()
    make_room(check, checks)
    return not has_failed


def make_room(check: TableCheck, checks: Sequence[TableCheck]) -> None:
    """Lets what was read of the table go if with that of the others it is too much."""
    if len(checks) > 1 and sum(one.landed.open_bytes for one in checks) > OPEN_BYTES:
        check.landed.close()


def wait_for(
    checks: list[TableCheck],
    source: Source,
    deadline_seconds: float,
    progress: Progress,
    pause: Callable[[float], None],
) -> list[TableCheck]:
    """Those that are not identical at the deadline either; each is looked at again as rows of it land."""
    began, shown = time.monotonic(), 0
    with progress.of("waiting for rows on their way", int(deadline_seconds)) as advance:
        while checks:
            passed = time.monotonic() - began
            advance(int(passed) - shown)
            shown = int(passed)
            checks = [check for check in checks if is_open(check, source, checks)]
            if not checks or passed >= deadline_seconds:
                break
            took = time.monotonic() - began - passed
            pause(min(max(took, LEAST_PAUSE_SECONDS), MOST_PAUSE_SECONDS, deadline_seconds - passed))
    return checks


def judge(checks: Sequence[TableCheck], later: Source, quiet_since: float, progress: Progress) -> None:
    """What is different, by a second snapshot, taken after all that is compared with it has landed."""
    with progress.of("looking again at what differs", len(checks)) as advance:
        for check in checks:
            with told(check.report):
                check.judge(later)
            check.landed.close()
            explain(check, quiet_since)
            advance(1)


def explain(check: TableCheck, quiet_since: float) -> None:
    """Takes faults back that are none yet, and says why; quiet_since: in terms of time.monotonic()."""
    report, landed = check.report, check.landed
    is_landing = landed.came_at is not None and landed.came_at > quiet_since
    if report.faults.total() and (landed.was_loaded or (landed.is_behind and is_landing)):
        report.take_back(LOADING if landed.was_loaded else BEHIND)
    elif report.faults["missing"] and not landed.objects:
        report.notes.append(NOTHING_LANDED)
    elif (report.faults["missing"] or report.faults["different"]) and landed.came_at is None:
        report.notes.append(NOT_LANDING)


@contextmanager
def told(report: TableReport) -> Iterator[None]:
    """A table that can't be read is told as such; the others go on."""
    try:
        yield
    except LakeError as error:
        report.why_unknown.append(str(error))
