"""What did not become rows, records that could not be read and batches that Lambda gave up; and its way back.

    python lake.py failed list                 how many, why, since when
    python lake.py failed show                 one by one; --show-payload: with what is in them
    python lake.py failed redrive --dry-run    what would land now, and what would not
    python lake.py failed redrive              lands it

Only show --show-payload prints what a record holds. A partition key counts as that: DMS makes it of the key.
"""

from __future__ import annotations

import argparse
import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from lake_tools.bucket import QUARANTINE, Lake, code_of
from lake_tools.redrive import Outcome, redrive_batches, redrive_quarantine
from lake_tools.set_aside import (
    RESTRICTED,
    Batch,
    Quarantine,
    failed_lake,
    read_batches,
    read_quarantine,
)
from lake_tools.settings import LakeError
from lake_tools.text import plural, printable
from lambda_function import event_records

KINDS = ("poison", "batch")
LIMIT = 20
NOTHING_WRITTEN = "a dry run: nothing was written"
UNREADABLE = "no invocation record with an event"

# ----------------------------------------------------------------------------------------------------------
# Command
# ----------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|show|redrive", required=True)
    add_action(actions, "list", "how many, why, since when")
    one = add_action(actions, "show", "one by one")
    one.add_argument(
        "--limit", type=at_least_one, default=LIMIT, metavar="N", help=f"of each kind (default: {LIMIT})"
    )
    one.add_argument("--show-payload", action="store_true", help="with what is in them: rows of your tables")
    one = add_action(actions, "redrive", "lands what can be read now; 1 when something stays")
    one.add_argument("--dry-run", action="store_true", help="says what would land, and writes nothing")


def add_action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    # lake.py's own options may stand behind the action too: SUPPRESS keeps what stood before it.
    one: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    one.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    one.add_argument("--cache", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    one.add_argument(
        "--kind", choices=KINDS, help="records that could not be read, or batches (default: both)"
    )
    one.add_argument("--json", action="store_true", help="for machines; of show, JSON Lines")
    return one


def at_least_one(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def run(options: argparse.Namespace, lake: Lake) -> int:
    """Exit code: of redrive 1 when something stays. Raises LakeError."""
    found = look(lake, options.kind)
    if options.action == "list":
        show_list(found, options.json)
    elif options.action == "show":
        show_each(found, options)
    else:
        return redrive(found, options)
    return 0


@dataclass(frozen=True)
class SetAside:
    """What is in the two places; None: it was not looked for."""

    lake: Lake
    quarantine: Quarantine | None = None
    failed: Lake | None = None
    batches: list[Batch] = field(default_factory=list)


def look(lake: Lake, kind: str | None) -> SetAside:
    """All that is set aside. Without kind, batches that nobody can look for are left out, which is said."""
    quarantine = quarantine_of(lake) if kind != "batch" else None
    if kind == "poison":
        return SetAside(lake, quarantine)
    if kind is None and not lake.settings.pipeline_name:
        note("batches that Lambda gave up: not looked for, PIPELINE_NAME is not set")
        return SetAside(lake, quarantine)
    failed = failed_lake(lake)
    try:
        return SetAside(lake, quarantine, failed, list(read_batches(failed)))
    except LakeError as error:
        if code_of(error) == "AccessDenied":
            advice = f"its policy also asks for a tag of you: {tag_command(lake)}"
            raise LakeError(f"{error}; {advice}; --kind poison does without it") from error
        if kind == "batch" or code_of(error) != "NoSuchBucket":
            raise
        note(f"batches that Lambda gave up: there is no bucket {failed.settings.s3_bucket}")
        return SetAside(lake, quarantine)


def quarantine_of(lake: Lake) -> Quarantine:
    """Raises LakeError."""
    try:
        return read_quarantine(lake)
    except LakeError as error:
        if code_of(error) != "AccessDenied":
            raise
        advice = (
            f"while columns are masked, the bucket's policy also asks for a tag of you: {tag_command(lake)}"
        )
        raise LakeError(f"{error}; {advice}") from error


def tag_command(lake: Lake) -> str:
    name = lake.settings.pipeline_name or "PIPELINE_NAME"
    return f"aws iam tag-role --role-name ROLE --tags Key=pipeline,Value={name}"


def note(text: str) -> None:
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


# ----------------------------------------------------------------------------------------------------------
# list
# ----------------------------------------------------------------------------------------------------------


@dataclass
class Line:
    """What is set aside for one reason, of one table or shard."""

    reason: str
    place: str  # of records: the table, where it can still be read; of batches: the shard
    sources: int = 0
    records: int = 0
    first_at: str = ""  # arrived, or given up
    last_at: str = ""

    def add(self, sources: int, records: int, at: str) -> None:
        self.sources += sources
        self.records += records
        self.first_at = min(self.first_at, at) if self.first_at else at
        self.last_at = max(self.last_at, at)


def show_list(found: SetAside, as_json: bool) -> None:
    poison = quarantine_lines(found.quarantine) if found.quarantine else []
    batches = batch_lines(found.batches)
    if as_json:
        print_json(list_document(found, poison, batches))
        return
    if found.quarantine:
        print(quarantine_title(found, poison))
        print_table(
            ("records", "first arrived", "last arrived", "table", "reason"), map(poison_cells, poison)
        )
    if found.failed:
        print(batch_title(found))
        print_table(
            ("batches", "records", "first given up", "last given up", "shard", "reason"),
            map(batch_cells, batches),
        )


def list_document(found: SetAside, poison: list[Line], batches: list[Line]) -> dict[str, Any]:
    """{"poison": {"records": 3, ...}, "batch": {...}}; a kind that was not looked for is left out."""
    document: dict[str, Any] = {}
    if found.quarantine:
        document["poison"] = {
            "place": found.lake.uri(QUARANTINE),
            "records": sum(line.records for line in poison),
            "objects": len(found.quarantine.objects),
            "redriven_objects": found.quarantine.redriven_objects,
            "reasons": [line_document(line, "table", "arrived") for line in poison],
        }
    if found.failed:
        document["batch"] = {
            "place": found.failed.uri(),
            "records": sum(line.records for line in batches),
            "batches": len(found.batches),
            "reasons": [
                {"batches": line.sources} | line_document(line, "shard", "given_up") for line in batches
            ],
        }
    return document


def line_document(line: Line, place: str, verb: str) -> dict[str, Any]:
    return {
        "reason": line.reason,
        place: line.place or None,
        "records": line.records,
        f"first_{verb}_at": line.first_at,
        f"last_{verb}_at": line.last_at,
    }


def quarantine_lines(quarantine: Quarantine) -> list[Line]:
    """The most records first. A record that stands in two objects counts once."""
    lines: dict[tuple[str, str], Line] = {}
    seen: set[tuple[str, str]] = set()
    for record in (record for one in quarantine.objects for record in one.waiting()):
        row = record.row
        identity = (row.cdc_shard_id, row.cdc_sequence_number)
        if identity not in seen:
            seen.add(identity)
            key = (row.cdc_reason, record.table)
            lines.setdefault(key, Line(*key)).add(0, 1, row.cdc_arrived_at)
    return sorted(lines.values(), key=lambda line: -line.records)


def batch_lines(batches: Iterable[Batch]) -> list[Line]:
    lines: dict[tuple[str, str], Line] = {}
    for batch in batches:
        key = (UNREADABLE if batch.fault else batch.condition, batch.shard_id)
        at = batch.given_up_at or f"{batch.found.last_modified:%Y-%m-%dT%H:%M:%SZ}"
        lines.setdefault(key, Line(*key)).add(1, batch.records, at)
    return sorted(lines.values(), key=lambda line: -line.records)


def quarantine_title(found: SetAside, lines: list[Line]) -> str:
    assert found.quarantine
    place, records = found.lake.uri(QUARANTINE), sum(line.records for line in lines)
    landed = found.quarantine.redriven_objects
    since = f"; {plural(landed, 'object')} redriven" if landed else ""
    if not found.quarantine.objects:
        return f"poison: no record waits in {place}{since}"
    objects = plural(len(found.quarantine.objects), "object")
    return f"poison: {plural(records, 'record')} in {objects} of {place}{since}"


def batch_title(found: SetAside) -> str:
    assert found.failed
    count = plural(len(found.batches), "batch") if found.batches else "no batch"
    return f"batch: {count} given up in {found.failed.uri()}"


def poison_cells(line: Line) -> tuple[str, ...]:
    at = (to_seconds(line.first_at), to_seconds(line.last_at))
    return f"{line.records:,}", *at, printable(line.place) or "-", printable(line.reason)


def batch_cells(line: Line) -> tuple[str, ...]:
    at = (to_seconds(line.first_at), to_seconds(line.last_at))
    place = printable(line.place) or "-"
    return f"{line.sources:,}", f"{line.records:,}", *at, place, printable(line.reason)


def print_table(titles: Sequence[str], rows: Iterable[tuple[str, ...]]) -> None:
    """Nothing when there is no row; columns of numbers come first and are aligned to the right."""
    cells = [tuple(titles), *rows]
    if len(cells) == 1:
        return
    widths = [max(len(row[i]) for row in cells) for i in range(len(titles))]
    numbers = sum(title in ("records", "batches") for title in titles)
    for row in cells:
        right = [cell.rjust(width) for cell, width in zip(row[:numbers], widths, strict=False)]
        left = [cell.ljust(width) for cell, width in zip(row[numbers:], widths[numbers:], strict=True)]
        print("  " + "  ".join(right + left).rstrip())


def to_seconds(time_text: str) -> str:
    """2026-03-01T09:16:10Z of 2026-03-01T09:16:10.250000Z"""
    return printable(time_text.partition(".")[0].removesuffix("Z") + "Z" if time_text else "-")


# ----------------------------------------------------------------------------------------------------------
# show
# ----------------------------------------------------------------------------------------------------------


def show_each(found: SetAside, options: argparse.Namespace) -> None:
    poison: Iterable[dict[str, Any]] = ()
    if found.quarantine:
        poison = poison_documents(found.quarantine, options.show_payload)
    batches = (batch_document(batch, options.show_payload) for batch in found.batches)
    for documents, kind in ((poison, "records"), (batches, "batches")):
        remaining = iter(documents)
        for document in islice(remaining, options.limit):
            if options.json:
                print(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
            else:
                print_document(document)
        if more := sum(1 for _ in remaining):
            note(f"{kind} that are not shown: {more:,}; --limit {options.limit + more} shows them")


def poison_documents(quarantine: Quarantine, with_payload: bool) -> Iterator[dict[str, Any]]:
    for one in quarantine.objects:
        for record in one.waiting():
            row = record.row
            document = {
                "kind": "poison",
                "reason": row.cdc_reason,
                "table": record.table or None,
                "arrived_at": row.cdc_arrived_at,
                "shard_id": row.cdc_shard_id,
                "sequence_number": row.cdc_sequence_number,
                "size_bytes": len(record.payload),
                "object": one.found.key,
            }
            yield document | ({"payload": as_text(record.payload)} if with_payload else {})


def batch_document(batch: Batch, with_payload: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "kind": "batch",
        "reason": batch.fault or batch.condition,
        "given_up_at": batch.given_up_at or None,
        "shard_id": batch.shard_id or None,
        "first_sequence_number": batch.first_sequence_number or None,
        "last_sequence_number": batch.last_sequence_number or None,
        "records": batch.records,
        "invocations": batch.invocations,
        "object": batch.found.key,
    }
    if with_payload and not batch.fault:
        document["payloads"] = [event_payload(record) for record in event_records(batch.event)]
    return document


def event_payload(record: Any) -> str:
    try:
        return as_text(b64decode(record["kinesis"]["data"], validate=True))
    except (ValueError, LookupError, TypeError):
        return json.dumps(record)


def as_text(payload: bytes) -> str:
    """The payload, where it is text; else base64:..."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return f"base64:{b64encode(payload).decode()}"


def print_document(document: dict[str, Any]) -> None:
    """A block of lines, such as "  shard_id         shardId-000000000000"."""
    print(f"{document['kind']}: {printable(document['reason'])}")
    payloads = document.get("payloads", [document["payload"]] if "payload" in document else [])
    for name, value in document.items():
        if name not in ("kind", "reason", "payload", "payloads") and value is not None:
            print(f"  {name.replace('_', ' '):22}{printable(str(value))}")
    for payload in payloads:
        print(f"  {'payload':22}{printable(payload)}")


# ----------------------------------------------------------------------------------------------------------
# redrive
# ----------------------------------------------------------------------------------------------------------


def redrive(found: SetAside, options: argparse.Namespace) -> int:
    """Both kinds as they were found: what a batch brings to quarantine/ is for the next time."""
    outcomes: dict[str, Outcome] = {}
    if found.failed:
        outcomes["batch"] = redrive_batches(found.lake, found.failed, found.batches, options.dry_run)
    if found.quarantine:
        outcomes["poison"] = redrive_quarantine(found.lake, found.quarantine.objects, options.dry_run)
    if options.json:
        print_json(
            {"dry_run": options.dry_run, **{kind: outcome_document(one) for kind, one in outcomes.items()}}
        )
    else:
        for kind, outcome in outcomes.items():
            print_outcome(
                kind, outcome, options.dry_run, RESTRICTED if found.lake.settings.masks else QUARANTINE
            )
        if options.dry_run:
            print(NOTHING_WRITTEN)
    return 0 if all(outcome.is_whole for outcome in outcomes.values()) else 1


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    return {
        "sources": outcome.sources,
        "landed": dict(sorted(outcome.landed.items())),
        "new_objects": outcome.new_objects,
        "unreadable": dict(sorted(outcome.poison.items())),
        "faults": dict(sorted(outcome.faults.items())),
    }


def print_outcome(kind: str, outcome: Outcome, is_dry: bool, quarantine: str) -> None:
    """batch: 1 batch, 5 records landed, in 3 new objects, and where; what did not, and why."""
    if not outcome.sources:
        print(f"{kind}: nothing to redrive")
        return
    records = sum(outcome.landed.values())
    source = "batch" if kind == "batch" else "object"
    verb = "would land" if is_dry else "landed"
    objects = "" if is_dry else f", in {plural(outcome.new_objects, 'new object')}"
    print(f"{kind}: {plural(outcome.sources, source)}, {plural(records, 'record')} {verb}{objects}")
    for folder, count in sorted(outcome.landed.items()):
        print(f"  {count:>9,}  {folder}")
    stays = f"goes to {quarantine}" if kind == "batch" else "stays"
    for reason, count in sorted(outcome.poison.items(), key=lambda one: (-one[1], one[0])):
        print(f"  {count:>9,}  {stays}: {printable(reason)}")
    for key, fault in sorted(outcome.faults.items()):
        print(f"  stays: {printable(key)}: {fault}")
