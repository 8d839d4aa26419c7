"""How much of quarantine/ still waits: what lake.py failed redrive has landed since is told by its marks.

    quarantine/cdc_date=2026-03-01/shardId-000000000000-{first sequence}.jsonl.gz
    redriven/quarantine/cdc_date=2026-03-01/{name of the object}/{its ETag}.3-of-3.jsonl.gz

`lake_tools.redrive` makes the marks; its docstring is the contract. An object without a mark for all of its
records, in the version that is there now, waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from provision.aws import Account
from provision.landed import ONE_DAY, ObjectCount, counted, listing

WHOLE = re.compile(r"redriven/(quarantine/.+)/([^/]+)\.([0-9]+)-of-\3\.jsonl\.gz").fullmatch


def quarantined(account: Account, bucket: str, prefix: str, now: datetime, days: int = 7) -> ObjectCount:
    """Objects that wait, of the last days dates, today's included; the newest date is counted first."""
    dates = [now.date() + ONE_DAY - ONE_DAY * n for n in range(days + 1)]  # tomorrow: a clock that is ahead
    folders = [f"quarantine/cdc_date={day}/" for day in dates]
    return counted(one for folder in folders for one in waiting(account, bucket, prefix, folder))


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
