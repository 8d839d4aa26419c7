"""One table of PostgreSQL against what landed of it: sums of ranges, then hashes of rows, then their values.

    check = TableCheck(table, landed)
    check.is_identical(source)              as of the source's snapshot, with what has landed by now
    check.keep_differences(source)          ... at the deadline: which rows are not the same
    check.judge(later_source)               ... and are not in a later snapshot either: into check.report

Memory does not grow with the table: both ends give their rows in the order of the keys' hashes, and what was
kept is in a file in that order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lake_tools.text import plural
from lake_tools.verify_landed import Landed, LandedRow
from lake_tools.verify_report import EXAMPLES, Example, Kind, TableReport
from lake_tools.verify_source import Source, SourceTable, Sum
from lake_tools.verify_values import UNSURE

ROWS_OF_RANGE = 256
RANGE_BITS = range(4, 17)  # how many there may be
SUSPECTS = 5000  # as many rows are asked for by their keys; with more, whole ranges are read
CHEAP_RANGES = 256  # so few are read even while more may be landing

Texts = tuple[str | None, ...]
Left = TypeVar("Left", bound=tuple[Any, ...])
Right = TypeVar("Right", bound=tuple[Any, ...])
CHANGED = "{} changed again before it could be judged"
NO_KEY = "it has no primary key, so DMS sends no DELETE of it, and S3 has more rows"
NO_KEY_OTHERS = (
    "it has no primary key, so DMS sends no UPDATE or DELETE of it, and S3 has as many rows, but others"
)
NO_KEY_LARGE = "it has no primary key, so DMS sends no large column of it, and it has no other column"
BEFORE_MASK = (
    "values of it landed before they were masked: python setup_dms.py reload loads the table anew, masked"
)
MASKED = "(masked)"
HASH = re.compile("[0-9a-f]{64}")
OF_TRUNCATE = "all that is only in S3 is older than the rest, as after a TRUNCATE, which DMS does not capture"


@dataclass(frozen=True)
class Difference:
    key_hash: str
    kind: Kind
    source_hash: int | None  # None: PostgreSQL has no such row
    source: Texts
    landed: Texts
    columns: tuple[int, ...] = ()  # which are different
    committed_us: int | None = None  # the last change in S3


class TableCheck:
    """One table; the first three are called with one and the same source."""

    def __init__(self, table: SourceTable, landed: Landed, kept: Path, *, shows_values: bool = False) -> None:
        self.table, self.landed, self.kept = table, landed, kept
        self.shows_values = shows_values
        self.report = TableReport(str(table))
        self.bits = 0
        self.source_sums: dict[int, Sum] = {}
        self.source_sum = Sum(0, 0)  # without a key there are no ranges
        self.ranges: set[int] = set()  # in which something is not the same
        self.is_drilled = False  # the ranges have been read row by row
        self.source_has_been_read = False
        self.newest_extra_us = 0  # when the row was last changed, since 1970

    def is_identical(self, source: Source) -> bool:
        """As of the snapshot. Reads rows only once nothing lands any more, or where they are few."""
        is_new = self.landed.refresh(source.snapshot)
        self.report.landed_rows = self.landed.row_count
        if not self.source_has_been_read:
            self.read_source(source)
        if not self.table.key:
            return self.source_sum == self.landed.sum and self.is_told_by_sums
        if is_new:
            self.find_ranges()
            self.is_drilled = False
        if self.ranges and not self.is_drilled and (not is_new or len(self.ranges) <= CHEAP_RANGES):
            self.is_drilled = True
            self.reopen(source)
            if next(self.differences(source), None) is None:
                self.ranges = set()
        return not self.ranges

    def reopen(self, source: Source) -> None:
        if self.landed.connection is None:
            self.landed.show(source.snapshot)

    def read_source(self, source: Source) -> None:
        """Its counts and sums, once: it is the same snapshot always."""
        self.source_has_been_read = True
        self.report.snapshot = str(source.snapshot)
        if not self.table.key:
            self.source_sum = source.sum(self.table)
            self.report.source_rows = self.source_sum.rows
            return
        bits = (self.landed.row_count // ROWS_OF_RANGE).bit_length()
        self.bits = min(max(bits, RANGE_BITS[0]), RANGE_BITS[-1])
        self.source_sums = source.sums(self.table, self.bits)
        self.report.source_rows = sum(one.rows for one in self.source_sums.values())

    @property
    def is_told_by_sums(self) -> bool:
        """Rows without a column that is sent have nothing to be compared by."""
        return bool(self.table.columns) or not self.source_sum.rows

    def find_ranges(self) -> None:
        landed_sums = self.landed.sums(self.bits)
        numbers = {*self.source_sums, *landed_sums}
        self.ranges = {one for one in numbers if self.source_sums.get(one) != landed_sums.get(one)}

    # Differences -----------------------------------------------------------------------------------------

    def differences(self, source: Source) -> Iterator[Difference]:
        """In the order of the keys' hashes; rows whose texts differ but not their values are none."""
        self.report.left_out = self.report.unsure = 0
        keys = self.suspects(source)
        if keys is not None and not keys:
            return
        with (
            closing(source.rows(self.table, self.bits, self.ranges, keys)) as here,
            closing(self.landed.rows(self.bits, self.ranges, keys)) as there,
        ):
            for key_hash, left, right in merged(here, there):
                if (found := self.difference(key_hash, left, right)) is not None:
                    yield found

    def suspects(self, source: Source) -> list[str] | None:
        """Hashes of the keys of rows that have other hashes; None where they are too many."""
        keys: list[str] = []
        with (
            closing(source.hashes(self.table, self.bits, self.ranges)) as here,
            closing(self.landed.hashes(self.bits, self.ranges)) as there,
        ):
            for key_hash, left, right in merged(here, there):
                if left != right:
                    keys.append(key_hash)
                    if len(keys) > SUSPECTS:
                        return None
        return keys

    def difference(
        self, key_hash: str, left: tuple[str, int, Texts] | None, right: LandedRow | None
    ) -> Difference | None:
        if right is None:
            assert left is not None
            return Difference(key_hash, "missing", left[1], left[2], ())
        if left is None:
            return Difference(key_hash, "extra", None, (), right.texts, committed_us=right.committed_us)
        if left[1] == right.row_hash:
            return None
        columns = tuple(self.unequal_columns(left[2], right))
        return Difference(key_hash, "different", left[1], left[2], right.texts, columns) if columns else None

    def unequal_columns(self, source: Texts, landed: LandedRow) -> Iterator[int]:
        """NULL is no fault where an update came without a large value: it may have become NULL, or not."""
        for place, form in enumerate(self.table.forms):
            if form.is_same(source[place], landed.texts[place]):
                self.report.unsure += form.canonical is not None and source[place] == UNSURE
                continue
            if source[place] is None and self.table.columns[place].name in landed.left_out:
                self.report.left_out += 1
                continue
            yield place

    # At the deadline -------------------------------------------------------------------------------------

    def keep_differences(self, source: Source) -> None:
        with self.kept.open("w") as lines:
            if not self.table.key:
                return self.judge_sums()
            self.reopen(source)
            for one in self.differences(source):
                lines.write(json.dumps([one.key_hash, one.source_hash]) + "\n")

    def judge_sums(self) -> None:
        """DMS sends no UPDATE or DELETE of a table without primary key (documented).

        So S3 can have more rows, and others: that tells nothing. It never has fewer.
        """
        surplus = self.landed.row_count - self.source_sum.rows
        if surplus < 0:
            self.report.faults["missing"] = -surplus
        elif surplus:
            self.report.why_unknown.append(NO_KEY)
        else:
            self.report.why_unknown.append(NO_KEY_OTHERS if self.is_told_by_sums else NO_KEY_LARGE)

    def kept_differences(self) -> Generator[tuple[str, int | None], None, None]:
        with self.kept.open() as lines:
            for line in lines:
                key_hash, source_hash = json.loads(line)
                yield key_hash, source_hash

    def judge(self, later: Source) -> None:
        """Counts the rows that were kept and are not the same in the later snapshot either.

        What has landed is as it was: it is not asked for what came since. A row that PostgreSQL has changed
        meanwhile can't be judged.
        """
        if not self.table.key:
            return
        self.landed.show(later.snapshot)
        changed = 0
        with closing(self.kept_differences()) as kept, closing(self.later_differences(later)) as found:
            for _, before, after in merged(kept, found):
                if before is None or after is None:
                    continue
                if before[1] == after[1].source_hash:
                    self.count(after[1])
                else:
                    changed += 1
        if changed:
            self.report.why_unknown.append(CHANGED.format(plural(changed, "row")))
        self.name_truncate()

    def later_differences(self, later: Source) -> Generator[tuple[str, Difference], None, None]:
        for one in self.differences(later):
            yield one.key_hash, one

    def count(self, one: Difference) -> None:
        self.report.faults[one.kind] += 1
        if one.kind == "extra":
            self.newest_extra_us = max(one.committed_us or 0, self.newest_extra_us)
        names = [column.name for column in self.table.columns]
        self.report.columns.update(names[place] for place in one.columns)
        if BEFORE_MASK not in self.report.notes and one.landed and self.has_raw(one.landed):
            self.report.notes.append(BEFORE_MASK)
        if self.shows_values and len(self.report.examples) < EXAMPLES:
            source, landed = (texts and self.shown(texts) for texts in (one.source, one.landed))
            texts = source or landed
            key = {name: texts[names.index(name)] for name in self.table.key}
            values = {names[place]: (source[place], landed[place]) for place in one.columns}
            self.report.examples.append(Example(one.kind, key, values))

    def has_raw(self, landed: Texts) -> bool:
        """Whether a value of a masked column is not what a mask makes."""
        return any(
            column.mask and text is not None and not (column.mask == "sha256" and HASH.fullmatch(text))
            for column, text in zip(self.table.schema.columns, landed, strict=True)
        )

    def shown(self, texts: Texts) -> Texts:
        """Without the values of masked columns: what landed before the mask was set is one."""
        columns = self.table.schema.columns
        return tuple(
            MASKED if column.mask and text is not None else text
            for column, text in zip(columns, texts, strict=True)
        )

    def name_truncate(self) -> None:
        """Whether PostgreSQL has none of the oldest rows, and all of the others."""
        extra, is_empty = self.report.faults["extra"], self.report.source_rows == 0
        if extra <= (not is_empty) or self.report.faults["missing"]:
            return
        if self.landed.count_until(self.newest_extra_us) == extra:
            self.report.notes.append(OF_TRUNCATE)


def merged(left: Iterator[Left], right: Iterator[Right]) -> Iterator[tuple[str, Left | None, Right | None]]:
    """Pairs by their first member, in whose order both come: ("a81f...", left's or None, right's or None)."""
    here, there = next(left, None), next(right, None)
    while here is not None or there is not None:
        key = min(one[0] for one in (here, there) if one is not None)
        from_left = here if here is not None and here[0] == key else None
        from_right = there if there is not None and there[0] == key else None
        yield key, from_left, from_right
        here = next(left, None) if from_left is not None else here
        there = next(right, None) if from_right is not None else there
