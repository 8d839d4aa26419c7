"""Hours of a table: what has landed in each, and what its Parquet is made of.

hours = list_hours(lake, schema)
find_inputs(lake, schema, hours, {})
[hour for hour in hours if hour.is_stale]
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lake_tools.bucket import CHANGES, PARQUET, Lake, LakeObject
from lake_tools.parquet import Input, digest_of, folder_of, input_of, parquet_key, read_inputs
from lake_tools.schemas import TableSchema
from lake_tools.tables import connected, reading
from lake_tools.views import table_folder

DIGEST = "landed-sha256"  # in the object's metadata, which takes 2 KB: the inputs themselves are in the file
HEAD_THREADS = 16
Digests = MutableMapping[str, str]  # what is known of Parquet objects, by ETag


@dataclass
class Hour:
    folder: str  # public/client/cdc_date=2026-03-01/cdc_hour=09
    ends: datetime
    landed: list[LakeObject] = field(default_factory=list)
    compacted: LakeObject | None = None
    inputs: set[Input] = field(default_factory=set)  # of the Parquet

    @property
    def key(self) -> str:
        """Of its Parquet."""
        return parquet_key(self.folder)

    @property
    def given(self) -> set[Input]:
        return {input_of(one) for one in self.landed}

    @property
    def is_stale(self) -> bool:
        """Whether something has landed that is not in the Parquet."""
        return self.compacted is None or not self.given <= self.inputs


def list_hours(lake: Lake, schema: TableSchema) -> list[Hour]:
    """Those that have objects in changes/."""
    objects: dict[str, list[LakeObject]] = defaultdict(list)
    for one in lake.line_objects(table_folder(schema)):
        objects[folder_of(one.key, CHANGES)].append(one)
    return [Hour(folder, ends, landed) for folder, landed in objects.items() if (ends := end_of(folder))]


def end_of(folder: str) -> datetime | None:
    """When the hour is over; None for a folder of somebody else."""
    found = re.search(r"/cdc_date=([0-9]{4}-[0-9]{2}-[0-9]{2})/cdc_hour=([0-9]{2})$", folder)
    try:
        begins = datetime.fromisoformat(f"{found[1]}T{found[2]}:00:00+00:00") if found else None
    except ValueError:
        return None
    return begins and begins + timedelta(hours=1)


def find_inputs(lake: Lake, schema: TableSchema, hours: Iterable[Hour], digests: Digests) -> None:
    """Fills in what the Parquet of the hours is made of. Raises LakeError.

    digests: takes what was asked of S3 for the next time.
    """
    compacted = {one.key: one for one in lake.objects(table_folder(schema, PARQUET))}
    made = [hour for hour in hours if hour.key in compacted]
    for hour in made:
        hour.compacted = compacted[hour.key]
    unknown = [hour for hour in made if compacted[hour.key].etag not in digests]
    with ThreadPoolExecutor(HEAD_THREADS) as pool:
        for hour, found in zip(unknown, pool.map(lambda hour: lake.head(hour.key), unknown), strict=True):
            hour.compacted = found and found[0]
            if found is not None:
                digests[found[0].etag] = found[1].get(DIGEST, "")
    read_inputs_of(lake, [hour for hour in made if not is_told(hour, digests)])


def find_again(lake: Lake, hour: Hour) -> None:
    """As the hour is now. Raises LakeError."""
    hour.landed = lake.line_objects(f"{CHANGES}{hour.folder}/")
    hour.compacted, hour.inputs = None, set()
    if (found := lake.head(hour.key)) is not None:
        hour.compacted = found[0]
        read_inputs_of(lake, [hour])


def is_told(hour: Hour, digests: Digests) -> bool:
    """Mostly the digest tells that the Parquet is made of just what is there: then it need not be read."""
    if hour.compacted is not None and digests[hour.compacted.etag] == digest_of(hour.given):
        hour.inputs = hour.given
        return True
    return hour.compacted is None


def read_inputs_of(lake: Lake, hours: Sequence[Hour]) -> None:
    if not hours:
        return
    paths = lake.fetch([hour.compacted for hour in hours if hour.compacted])
    with connected(lake.cache, None) as connection, reading(f"the inputs of {hours[0].key} and others"):
        for hour, inputs in zip(hours, read_inputs(connection, paths), strict=True):
            hour.inputs = inputs
