"""What the views of lake_tools have to show, in plain Python; and histories of a table as they land.

    landed = play(steps)           what DMS, Kinesis and the handler make of them
    current(landed.rows, landed.drops, KEY, LOBS) == landed.truth

The model replays rows one after the other, so it shares no idea with the SQL.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

LandedRow = dict[str, Any]
Key = tuple[Any, ...]
UNKNOWN = object()
OURS = ("operation", "committed_at", "published_at", "transaction_id", "transaction_record_id")
OURS += ("stream_position", "lsn", "shard_id", "sequence_number", "before")

# --------------------------------------------------------------------------------------------------------
# The contract
# --------------------------------------------------------------------------------------------------------


def history(rows: Iterable[LandedRow]) -> list[LandedRow]:
    """One per Kinesis record."""
    return [*{(row["cdc_shard_id"], row["cdc_sequence_number"]): row for row in rows}.values()]


def generations(rows: Iterable[LandedRow], drops: Collection[str]) -> list[list[LandedRow]]:
    """By load generation, at least one; a drop after the last row makes one that is empty."""
    marks: list[tuple[datetime, int, LandedRow | None]] = [(instant(drop), 0, None) for drop in drops]
    marks += [(instant(row["cdc_published_at"]), 2 - is_load(row), row) for row in rows]
    found: list[list[LandedRow]] = [[]]
    for _, _, row in sorted(marks, key=lambda mark: mark[:2]):
        if row is None:
            found.append([])
            continue
        if is_load(row) and not all(map(is_load, found[-1])):
            found.append([])
        found[-1].append(row)
    return found


def is_load(row: LandedRow) -> bool:
    return row["cdc_operation"] == "load"


def changes(rows: Iterable[LandedRow], drops: Collection[str], key: Sequence[str]) -> list[LandedRow]:
    """Without what DMS has sent again."""
    found: dict[Any, LandedRow] = {}
    for number, generation in enumerate(generations(history(rows), drops)):
        for row in sorted(generation, key=published_order):
            found.setdefault(identity(row, number, key), row)
    return [*found.values()]


def published_order(row: LandedRow) -> tuple[datetime, str]:
    return instant(row["cdc_published_at"]), row["cdc_sequence_number"]


def identity(row: LandedRow, generation: int, key: Sequence[str]) -> tuple[Any, ...]:
    of_key = tuple(row[name] for name in key)
    if is_load(row):
        return ("load", generation, of_key) if key else unique(row)
    if row["cdc_transaction_id"] is None or row["cdc_transaction_record_id"] is None:
        return unique(row)
    place = (row["cdc_transaction_id"], row["cdc_transaction_record_id"], row["cdc_stream_position"])
    return ("change", *place, of_key)


def unique(row: LandedRow) -> tuple[Any, ...]:
    return "record", row["cdc_shard_id"], row["cdc_sequence_number"]


def instant(text: str) -> datetime:
    """The texts themselves do not sort: with and without a fraction."""
    return datetime.fromisoformat(text)


def at_of(row: LandedRow) -> datetime:
    return instant(row["cdc_committed_at"] or row["cdc_published_at"])


def in_order(row: LandedRow) -> tuple[Any, ...]:
    place = (row["cdc_lsn"] or 0, row["cdc_transaction_record_id"] or 0, row["cdc_sequence_number"])
    return (not is_load(row), at_of(row), *place)


def current(
    rows: Iterable[LandedRow],
    drops: Collection[str],
    key: Sequence[str],
    lobs: Collection[str],
    as_of: str | None = None,
) -> dict[Key, dict[str, Any]]:
    """The table's rows by key; a LOB that nothing tells is None."""
    if as_of is not None:
        rows = [row for row in rows if at_of(row) <= instant(as_of)]
        drops = [drop for drop in drops if instant(drop) <= instant(as_of)]
    state: dict[Key, dict[str, Any]] = {}
    for row in sorted(generations(history(rows), drops)[-1], key=in_order):
        replay(row, state, key, lobs)
    return {
        at: {name: None if value is UNKNOWN else value for name, value in values.items()}
        for at, values in state.items()
    }


def replay(
    row: LandedRow, state: dict[Key, dict[str, Any]], key: Sequence[str], lobs: Collection[str]
) -> None:
    values = {name: value for name, value in row.items() if not name.startswith("cdc_")}
    at = tuple(values[name] for name in key)
    if row["cdc_operation"] == "delete":
        state.pop(at, None)
        return
    if row["cdc_operation"] == "update":
        formers = [state.pop(at, {})]
        if row["cdc_before"]:
            left = tuple((values | row["cdc_before"])[name] for name in key)
            formers.append(state.pop(left, {}))
        for lob in lobs:
            if values[lob] is None:
                known = [former[lob] for former in formers if former.get(lob, UNKNOWN) is not UNKNOWN]
                values[lob] = known[0] if known else UNKNOWN
    state[at] = values


# --------------------------------------------------------------------------------------------------------
# Histories
# --------------------------------------------------------------------------------------------------------


@dataclass
class Played:
    """A table (id, name, note) with the key id; note is a LOB.

    Of a stream position it is not certain whose LSN comes first: the commit's, or the record's own, by which
    a long transaction has written before others that were committed earlier.
    """

    has_record_lsns: bool = False
    rows: list[LandedRow] = field(default_factory=list)  # as often as they landed
    drops: list[str] = field(default_factory=list)
    truth: dict[Key, dict[str, Any]] = field(default_factory=dict)  # what the source has now
    stream: list[LandedRow] = field(default_factory=list)  # changes, not yet published
    seconds: int = 0
    sequence: int = 0
    transaction: int = 0

    def now(self) -> str:
        """A later time at each call; its forms are DMS's: no fraction, or one of six digits."""
        self.seconds += 1
        at = datetime(2026, 3, 1, 9) + timedelta(seconds=self.seconds)
        return at.isoformat() + ["", ".500000", ".480010"][self.seconds % 3] + "Z"

    def publish(self, change: LandedRow, at: str | None = None) -> None:
        """The change becomes a Kinesis record, and lands."""
        self.sequence += 1
        shard = f"shardId-{change.get('id', 0) % 2:012}"
        number = f"{self.sequence:056}"
        published = {
            "cdc_published_at": at or self.now(),
            "cdc_shard_id": shard,
            "cdc_sequence_number": number,
        }
        self.rows.append(change | published)

    def publish_all(self) -> None:
        for change in self.stream:
            self.publish(change)
        self.stream.clear()

    def begin(self) -> None:
        self.transaction += 1

    def change(self, operation: str, values: dict[str, Any], before: Any, record: int, at: str) -> None:
        """One of the transaction that was committed at that time."""
        lsn = 5_000_000_000 + 1600 * self.transaction
        if self.has_record_lsns:
            lsn += 16 * record - (8000 if self.transaction % 3 == 0 else 0)
        position = f"{lsn >> 32:08X}/{lsn & 0xFFFFFFFF:08X}"
        details = {
            "operation": operation,
            "committed_at": at,
            "published_at": None,
            "transaction_id": 700 + self.transaction,
            "transaction_record_id": record,
            "stream_position": f"{position}.3.{position}",
            "lsn": lsn,
            "shard_id": None,
            "sequence_number": None,
            "before": before,
        }
        self.stream.append({f"cdc_{name}": details[name] for name in OURS} | deepcopy(values))

    def load(self, rows: Sequence[dict[str, Any]], *, has_control: bool) -> None:
        if has_control:
            self.drops.append(self.now())
        for values in rows:
            details = dict.fromkeys([f"cdc_{name}" for name in OURS], None) | {"cdc_operation": "load"}
            self.publish(details | deepcopy(values))


Step = tuple[str, int, int, bool, bool]  # what, a key, another key, whether the LOB is written, a flag


def play(steps: Sequence[Step], *, has_record_lsns: bool = False) -> Played:
    """What lands of the table when these steps are done to it, as far as each can be.

    hold: changes wait, as they do while a table is loaded, until the next load has passed, which has seen
    them already. resend: DMS sends the last changes again. replay: Kinesis delivers the last records again.
    """
    played = Played(has_record_lsns)
    record, transaction_at = 0, ""
    is_late = False  # changes wait until a load has passed
    for number, (what, key, other, has_note, flag) in enumerate(steps):
        if record == 0 or flag:
            played.begin()
            record, transaction_at = 0, played.now()
        record += 1
        if what in ("insert", "update", "rekey", "delete"):
            alter(
                played, what, (key,), (other,), f"note {number}" if has_note else None, record, transaction_at
            )
            if not is_late:
                played.publish_all()
        elif what == "hold":
            is_late = True
        elif what == "load":
            played.load([*played.truth.values()], has_control=flag)
            played.publish_all()
            is_late = False
        elif what == "resend":
            for row in [row for row in history(played.rows) if not is_load(row)][-key * 2 :]:
                played.publish(row)
        elif what == "replay":
            played.rows += deepcopy(played.rows[-key * 3 :])
    played.publish_all()
    return played


def alter(played: Played, what: str, key: Key, other: Key, note: Any, record: int, at: str) -> None:
    """One statement on the source, and what DMS makes of it; a LOB that is not written is not sent."""
    truth, former = played.truth, played.truth.get(key)
    if what == "insert" and former is None:
        truth[key] = {"id": key[0], "name": f"name {record}", "note": note}
        played.change("insert", truth[key], None, record, at)
    elif what == "delete" and former is not None:
        del truth[key]
        played.change("delete", {"id": key[0], "name": None, "note": None}, None, record, at)
    elif what == "update" and former is not None:
        truth[key] = {**former, "name": f"name {record} {at}", **({"note": note} if note else {})}
        played.change("update", truth[key] | {"note": note}, {}, record, at)
    elif what == "rekey" and former is not None and other not in truth:
        truth[other] = {**truth.pop(key), "id": other[0], **({"note": note} if note else {})}
        played.change("update", truth[other] | {"note": note}, {"id": key[0]}, record, at)
