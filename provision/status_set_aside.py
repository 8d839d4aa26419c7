"""How much of quarantine/ still waits: what lake.py failed redrive has landed since is told by its marks.

    quarantine/cdc_date=2026-03-01/shardId-000000000000-{first sequence}.jsonl.gz
    redriven/quarantine/cdc_date=2026-03-01/{name of the object}/{its ETag}.3-of-3.jsonl.gz
    quarantine/restricted/cdc_date=..., redriven/quarantine/restricted/...: the same, while columns are masked

`lake_tools.redrive` makes the marks; its docstring is the contract. An object without a mark for all of its
records, in the version that is there now, waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from provision.aws import Account
from provision.landed import ONE_DAY, ObjectCount, counted, listing

QUARANTINES = ("quarantine/", "quarantine/restricted/")
WHOLE = re.compile(r"redriven/(quarantine/.+)/([^/]+)\.([0-9]+)-of-\3\.jsonl\.gz").fullmatch


def quarantined(account: Account, bucket: str, prefix: str, now: datetime, days: int = 7) -> ObjectCount:
    """Objects that wait, of the last days dates, today's included; the newest date is counted first."""
    dates = [now.date() + ONE_DAY - ONE_DAY * n for n in range(days + 1)]  # tomorrow: a clock that is ahead
    paths = [f"{prefix}{path}" for path in QUARANTINES]
    found = {folder for path in paths for folder in dated(account, bucket, path, dates[-1])}
    folders = [f"{path}cdc_date={day}/" for day in dates for path in QUARANTINES]
    chosen = [folder for folder in folders if f"{prefix}{folder}" in found]
    return counted(one for folder in chosen for one in waiting(account, bucket, prefix, folder))


def dated(account: Account, bucket: str, path: str, first_day: date) -> Iterator[str]:
    """The folders of dates in the path, from the first day on."""
    start = f"{path}cdc_date={first_day}"
    for found in listing(account, bucket, "CommonPrefixes", Prefix=path, Delimiter="/", StartAfter=start):
        yield found["Prefix"]


def waiting(account: Account, bucket: str, prefix: str, folder: str) -> Iterator[Any]:
    """Those of one date; the marks are asked for only where there are objects."""
    landed: set[tuple[str, str]] | None = None
    for one in listing(account, bucket, "Contents", Prefix=f"{prefix}{folder}"):
        if landed is None:
            landed = landed_whole(account, bucket, prefix, folder)
        if (one["Key"].removeprefix(prefix), one["ETag"].strip('"')) not in landed:
            yield one


def landed_whole(account: Account, bucket: str, prefix: str, folder: str) -> set[tuple[str, str]]:
    """Key and ETag of each object of which all records have landed."""
    marks = listing(account, bucket, "Contents", Prefix=f"{prefix}redriven/{folder}")
    matches = (WHOLE(mark["Key"].removeprefix(prefix)) for mark in marks)
    return {(match[1], match[2]) for match in matches if match}
