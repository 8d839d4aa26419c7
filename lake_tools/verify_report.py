"""What verify has found, as values, as text and as a dated document.

report.verdict            "identical", "different", "unknown"
report.exit_code          0, 1, 2
report.text()             a line for each table, then the faults
report.as_dict()          for --json; keys and values of rows are in it only where they were asked for
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lake_tools.text import plural

Verdict = Literal["identical", "different", "unknown"]
Kind = Literal["missing", "extra", "different"]
EXIT_CODES: Mapping[Verdict, int] = {"identical": 0, "different": 1, "unknown": 2}
EXAMPLES = 20  # rows of a table that are shown with their values
VALUE_CHARACTERS = 60  # of a value in text; in JSON it is whole
WORDS: Mapping[Kind, str] = {"missing": "missing in S3", "extra": "only in S3", "different": "different"}


@dataclass(frozen=True)
class Example:
    """A row that is not the same, where values were asked for: column: (in PostgreSQL, in S3)."""

    kind: Kind
    key: Mapping[str, str | None]
    values: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)

    def text(self) -> str:
        key = ", ".join(f"{name}={short(value)}" for name, value in self.key.items())
        values = [
            f"{name} {short(source)} in S3 {short(landed)}" for name, (source, landed) in self.values.items()
        ]
        return f"{self.kind}: {key}" + "".join(f"; {one}" for one in values)


@dataclass
class TableReport:
    """source_rows and landed_rows: None where they could not be read."""

    table: str
    source_rows: int | None = None
    landed_rows: int | None = None
    faults: Counter[Kind] = field(default_factory=Counter)
    columns: Counter[str] = field(default_factory=Counter)  # in how many different rows
    why_unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: int = 0  # values that DMS may have left out of an update: not compared
    unsure: int = 0  # masked values that DMS may have rounded or cut: not compared
    examples: list[Example] = field(default_factory=list)
    snapshot: str = ""  # that it was compared as of, in the words of txid_current_snapshot()

    @property
    def verdict(self) -> Verdict:
        if self.faults.total():
            return "different"
        return "unknown" if self.why_unknown else "identical"

    def take_back(self, why: str) -> None:
        """What seemed different could not be told."""
        self.faults.clear()
        self.columns.clear()
        self.examples.clear()
        self.notes.clear()
        self.why_unknown.append(why)

    @property
    def says(self) -> str:
        """different: 1 missing in S3, 2 different (amount 2, note 1)"""
        parts = [f"{self.faults[kind]:,} {word}" for kind, word in WORDS.items() if self.faults[kind]]
        text = self.verdict + (": " + ", ".join(parts) if parts else "")
        if self.columns:
            text += " (" + ", ".join(f"{name} {count:,}" for name, count in self.columns.most_common()) + ")"
        return text if parts or not self.why_unknown else f"{text}: {'; '.join(self.why_unknown)}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "verdict": self.verdict,
            "source_rows": self.source_rows,
            "s3_rows": self.landed_rows,
            **{kind: self.faults[kind] for kind in ("missing", "extra", "different")},
            "different_columns": dict(self.columns),
            "left_out_values": self.left_out,
            "unsure_values": self.unsure,
            "why_unknown": self.why_unknown,
            "notes": self.notes,
            "snapshot": self.snapshot,
            "examples": [
                {
                    "kind": one.kind,
                    "key": dict(one.key),
                    "values": {
                        name: {"source": source, "s3": landed}
                        for name, (source, landed) in one.values.items()
                    },
                }
                for one in self.examples
            ],
        }


@dataclass
class Report:
    source: str  # "database 'shop' on db.example.com:5432"
    lake: str  # "s3://landing/raw/"
    verified_at: datetime  # when the snapshot was taken
    tables: list[TableReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        verdicts = {one.verdict for one in self.tables}
        if "different" in verdicts:
            return "different"
        return "unknown" if "unknown" in verdicts or not verdicts else "identical"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "verified_at": self.verified_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "seconds": round(self.seconds, 1),
            "source": self.source,
            "lake": self.lake,
            "notes": self.notes,
            "tables": [one.as_dict() for one in self.tables],
        }

    def text(self) -> str:
        """A line for each table, examples and notes below it; last the verdict."""
        rows = [("table", "PostgreSQL", "S3", ""), *map(table_row, self.tables)]
        widths = [max(len(row[place]) for row in rows) for place in range(3)]
        lines = []
        for row, table in zip(rows, [None, *self.tables], strict=True):
            name, source, landed, says = row
            cells = f"{name:<{widths[0]}}  {source:>{widths[1]}}  {landed:>{widths[2]}}  {says}"
            lines.append(cells.rstrip())
            lines += [f"  {line}" for line in below(table)] if table else []
        return "\n".join([*lines, *self.notes, self.summary()])

    def summary(self) -> str:
        counts = Counter(one.verdict for one in self.tables)
        at = self.verified_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        if self.verdict == "identical":
            return f"identical: what PostgreSQL held at {at} is in {self.lake}"
        words: dict[Verdict, str] = {
            "different": "different",
            "unknown": "not to be told",
            "identical": "identical",
        }
        parts = ", ".join(f"{counts[one]} {word}" for one, word in words.items() if counts[one])
        return f"{self.verdict}: of {plural(len(self.tables), 'table')} at {at}, {parts or 'none to compare'}"


def table_row(one: TableReport) -> tuple[str, str, str, str]:
    counts = ("-" if rows is None else f"{rows:,}" for rows in (one.source_rows, one.landed_rows))
    return (one.table, *counts, one.says)  # type: ignore[return-value]


def below(one: TableReport) -> Iterator[str]:
    yield from (example.text() for example in one.examples)
    if (more := one.faults.total() - len(one.examples)) and one.examples:
        yield f"and {plural(more, 'row')} more"
    if one.verdict == "different":
        yield from one.why_unknown
    if one.left_out:
        yield f"{plural(one.left_out, 'value')} of large columns that updates may not carry: not compared"
    if one.unsure:
        yield f"{plural(one.unsure, 'masked value')} that DMS may round or cut: not compared"
    yield from one.notes


def short(value: str | None) -> str:
    if value is None:
        return "NULL"
    return repr(value if len(value) <= VALUE_CHARACTERS else value[:VALUE_CHARACTERS] + "...")
