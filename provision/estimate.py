"""What the chain costs a month, the shards it needs, the time of its full load, the objects it makes.

    estimate(Workload(changes_per_second=10, tables=20), Chain(shards=1))  ->  Estimate
    as_text(estimate)  a table for people          as_dict(estimate)  the same for machines

Pure arithmetic over the price table below: list prices in USD, on demand, without free tiers, discounts or
taxes. It knows neither your account nor your peaks: changes are taken to come evenly, over all tables and
shards. Even is the dearest case for objects, and the cheapest for shards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

# --------------------------------------------------------------------------------------------------------
# Prices
# --------------------------------------------------------------------------------------------------------

PRICES_AS_OF = "2026-11-23"  # when the table was put together, not when AWS last said so
REGIONS = ("us-east-1", "eu-west-1")

# Where a price is from. None could be compared with AWS's own price list on that day.
RECORDED = "as AWS's price list answered infracost's tests, recorded 2021-2025, read 2026-11-23"
PUBLISHED = "recalled, and the same in public price tables read 2026-11-23"
DISPUTED = "recalled, not checked; public price tables read 2026-11-23 differ by up to a quarter"
RECALLED = "recalled, not checked"


@dataclass(frozen=True)
class Price:
    us_east_1: float
    eu_west_1: float
    unit: str
    source: str  # of the price in us-east-1
    eu_source: str = RECALLED

    def usd(self, region: str) -> float:
        return self.eu_west_1 if region == "eu-west-1" else self.us_east_1

    def source_in(self, region: str) -> str:
        return self.eu_source if region == "eu-west-1" else self.source


PRICES: Mapping[str, Price] = {
    "shard hour": Price(0.015, 0.017, "shard-hour", RECORDED),
    "retention to 7 days": Price(0.020, 0.023, "shard-hour", PUBLISHED),
    "put units": Price(0.014, 0.0165, "million of 25 KB", RECORDED),
    "on-demand stream": Price(0.040, 0.044, "stream-hour", RECORDED),
    "on-demand in": Price(0.080, 0.088, "GB", RECORDED),
    "on-demand out": Price(0.040, 0.044, "GB", RECORDED),
    "on-demand retention": Price(0.100, 0.110, "GB-month past 24 hours", RECORDED),
    "lambda time": Price(0.0000133334, 0.0000133334, "GB-second, arm64", RECORDED),
    "lambda requests": Price(0.20, 0.20, "million", RECORDED),
    "s3 puts": Price(0.005, 0.005, "thousand", RECORDED, PUBLISHED),
    "s3 storage": Price(0.023, 0.023, "GB-month", RECORDED, PUBLISHED),
    "alarms": Price(0.10, 0.10, "alarm metric", RECORDED),
    "custom metrics": Price(0.30, 0.30, "metric", RECALLED),
    "dashboards": Price(3.00, 3.00, "dashboard", RECORDED),
    "logs": Price(0.50, 0.57, "GB ingested", RECORDED),
    "secrets": Price(0.40, 0.40, "secret", RECORDED),
    "kms requests": Price(0.03, 0.03, "ten thousand", RECORDED),
    "interface endpoints": Price(0.010, 0.011, "hour in a zone", RECORDED),
    "endpoint traffic": Price(0.010, 0.010, "GB", RECORDED),
    "rds storage": Price(0.115, 0.127, "GB-month, gp3", RECORDED, PUBLISHED),
}

# An hour of an instance in one zone; the storage that DMS takes by default (50 GB) comes with it.
CLASSES: Mapping[str, tuple[float, float, str]] = {
    "dms.t3.micro": (0.018, 0.020, PUBLISHED),
    "dms.t3.small": (0.036, 0.040, PUBLISHED),
    "dms.t3.medium": (0.073, 0.080, PUBLISHED),
    "dms.t3.large": (0.146, 0.160, PUBLISHED),
    "dms.c5.large": (0.154, 0.172, PUBLISHED),
    "dms.c5.xlarge": (0.308, 0.344, PUBLISHED),
    "dms.c6i.large": (0.154, 0.172, DISPUTED),
    "dms.c6i.xlarge": (0.308, 0.344, DISPUTED),
    "dms.r5.large": (0.232, 0.259, DISPUTED),
    "dms.r5.xlarge": (0.464, 0.518, DISPUTED),
    "dms.r6i.large": (0.232, 0.259, DISPUTED),
    "dms.r6i.xlarge": (0.464, 0.518, DISPUTED),
    "db.t4g.micro": (0.016, 0.017, PUBLISHED),
    "db.t4g.small": (0.032, 0.035, PUBLISHED),
    "db.t4g.medium": (0.065, 0.070, PUBLISHED),
    "db.t4g.large": (0.129, 0.141, PUBLISHED),
    "db.m6g.large": (0.159, 0.177, PUBLISHED),
    "db.m6g.xlarge": (0.318, 0.354, PUBLISHED),
    "db.r6g.large": (0.225, 0.250, DISPUTED),
    "db.r6g.xlarge": (0.450, 0.500, DISPUTED),
}

# --------------------------------------------------------------------------------------------------------
# What the sums rest on, and what they are about
# --------------------------------------------------------------------------------------------------------

HOURS_A_MONTH = 730
SECONDS_A_MONTH = HOURS_A_MONTH * 3600
DAY_SECONDS = 86_400
GB = 1e9

SHARD_RECORDS, SHARD_BYTES = 1_000, 1_000_000  # what a shard takes a second (documented, as 1 MB)
SHARD_SHARE = 0.8  # of that to plan with: keys never spread evenly
ON_DEMAND_SHARDS = 4  # an on-demand stream starts with these (documented)
PUT_UNIT_BYTES = 25 * 1024  # documented
ENVELOPE_BYTES = 440  # counted in the observed shape of a CDC envelope, before-image and all metadata
STATUS_RECORDS_A_SECOND = 1 / 60  # a row of awsdms_status a minute (observed), to control/

EVENT_BYTES = 6 * 1024 * 1024  # of an invocation's event at most (documented)
FRAME_BYTES = 557  # of a record in the event beside its payload, which base64 makes a third longer (measured)
BATCH_RECORDS = 10_000  # of the event source mapping
POLL_SECONDS = 1.0  # Lambda polls a shard once a second (documented)

LAMBDA_GB = 0.5
VCPU_SHARE = 512 / 1769  # a whole vCPU comes with 1,769 MB (documented)
INVOCATION_SECONDS = 0.010  # before and after the records; assumed
RECORD_SECONDS = 6.3e-6  # of a whole vCPU, the runtime's own parsing included (measured on x86)
PUT_SECONDS = 1.85e-3  # of a whole vCPU (measured: 1.3-2.4 ms)
PUT_WAIT_SECONDS = 0.030  # for S3, up to 16 PUTs at a time; assumed
UPLOAD_THREADS = 16
LOG_BYTES = 1_000  # of an invocation: our line and three of Lambda's
DMS_LOG_GB = 0.5  # a month; assumed

ROW_BYTES = 380  # our columns in front of the table's
STORED_SHARE = 0.2  # of a row after gzip; 0.1 in the benchmarks, whose vocabulary is small
KMS_REQUESTS = 2 * 12 * HOURS_A_MONTH  # a shard: producer and consumer, every five minutes; assumed

LOAD_TABLES = 8  # MaxFullLoadSubTasks
DMS_LOAD_ROWS = 10_000  # a second out of a replication instance; assumed, no figure of AWS's was found


@dataclass(frozen=True)
class Workload:
    changes_per_second: float  # inserts, updates, deletes; the month's mean
    tables: int  # that change all the time
    average_row_bytes: int = 300  # of the row's columns as JSON
    rows_to_load: int | None = 0  # rows in the tables now; None: not seen


@dataclass(frozen=True)
class Chain:
    shards: int | None = 1  # None: on-demand
    window_seconds: float = 5
    dms_class: str = "dms.t3.medium"
    rds_class: str | None = None  # None: the database is there already
    rds_storage_gb: int = 20
    vpc_endpoints: int = 0  # interface endpoints made for DMS
    availability_zones: int = 2
    retention_hours: int = 168
    alarms: int = 13
    secrets: int = 1
    region: str = "us-east-1"


@dataclass(frozen=True)
class Line:
    part: str
    quantity: float
    unit: str
    usd: float | None  # None: the table has no such price
    source: str


@dataclass(frozen=True)
class Traffic:
    """What a workload makes of a chain, a second."""

    records: float
    invocations: float
    objects: float
    gb_seconds: float
    stream_bytes: float
    stored_bytes: float


@dataclass(frozen=True)
class Load:
    seconds: float
    bound_by: str  # what makes it last as long as it does
    objects: int
    usd: float


@dataclass(frozen=True)
class Growth:
    changes_per_second: float
    shards: int
    usd: float
    s3_puts_usd: float
    objects_a_day: int


@dataclass(frozen=True)
class Window:
    seconds: float  # BATCH_WINDOW_SECONDS
    objects_a_day: int
    s3_puts_usd: float


@dataclass(frozen=True)
class Estimate:
    workload: Workload
    chain: Chain
    lines: tuple[Line, ...]
    monthly_usd: float
    is_complete: bool  # False: a price was missing, the sum is too low
    shards_needed: int
    objects_a_day: int
    load: Load
    stream_usd: float  # in the mode of the chain
    other_mode_usd: float  # the same stream in the other mode: on-demand, or with the shards it needs
    growth: tuple[Growth, ...]
    windows: tuple[Window, ...]
    notes: tuple[str, ...]


# The three sizes of the README.
SMALL = (
    Workload(changes_per_second=1, tables=10, rows_to_load=1_000_000),
    Chain(shards=1, window_seconds=5, dms_class="dms.t3.medium"),
)
MEDIUM = (
    Workload(changes_per_second=50, tables=40, rows_to_load=20_000_000),
    Chain(shards=1, window_seconds=5, dms_class="dms.c5.large", vpc_endpoints=3),
)
LARGE = (
    Workload(changes_per_second=2_000, tables=60, rows_to_load=500_000_000),
    Chain(shards=4, window_seconds=60, dms_class="dms.r5.xlarge", vpc_endpoints=3, availability_zones=3),
)
PRESETS: Mapping[str, tuple[Workload, Chain]] = {"small": SMALL, "medium": MEDIUM, "large": LARGE}
GROWTH_STEPS = (1, 10, 100, 1_000)
WINDOWS = (1, 5, 60, 300)

# --------------------------------------------------------------------------------------------------------
# The estimate
# --------------------------------------------------------------------------------------------------------


def estimate(workload: Workload, chain: Chain) -> Estimate:
    """The month of a running chain, and its full load once. The same arguments give the same estimate."""
    traffic = traffic_of(workload, chain)
    lines = monthly_lines(workload, chain, traffic)
    needed = shards_needed(workload)
    other = replace(chain, shards=needed if chain.shards is None else None)
    return Estimate(
        workload=workload,
        chain=chain,
        lines=tuple(lines),
        monthly_usd=total(lines),
        is_complete=all(line.usd is not None for line in lines),
        shards_needed=needed,
        objects_a_day=round(traffic.objects * DAY_SECONDS),
        load=full_load(workload, chain),
        stream_usd=total(stream_lines(chain, traffic)),
        other_mode_usd=total(stream_lines(other, traffic_of(workload, other))),
        growth=tuple(growth_step(workload, chain, rate) for rate in GROWTH_STEPS),
        windows=tuple(with_window(workload, chain, seconds) for seconds in WINDOWS),
        notes=tuple(notes_on(workload, chain, lines)),
    )


def shards_needed(workload: Workload) -> int:
    """Shards for the mean rate; peaks wait in the replication slot until they are over."""
    records = workload.changes_per_second / (SHARD_RECORDS * SHARD_SHARE)
    size = workload.changes_per_second * envelope_bytes(workload) / (SHARD_BYTES * SHARD_SHARE)
    return max(1, math.ceil(max(records, size)))


def traffic_of(workload: Workload, chain: Chain) -> Traffic:
    """Invocations and objects a second.

    A shard's batch begins with a record and ends with the window (inferred), or when it is full. A batch of n
    records of T tables makes T * (1 - (1 - 1/T) ** n) objects. The status rows of DMS add a record a minute,
    and an object under control/ each.
    """
    shards = shard_count(workload, chain)
    rate = workload.changes_per_second / shards
    window = max(chain.window_seconds, POLL_SECONDS)
    arriving = rate + STATUS_RECORDS_A_SECOND / shards
    records = min(1 + arriving * window, batch_records(workload))
    invocations = arriving / records * shards
    changes = records * rate / arriving
    objects = invocations * distinct_tables(workload.tables, changes) + STATUS_RECORDS_A_SECOND
    seconds = invocation_seconds(records, objects / invocations)
    return Traffic(
        records=workload.changes_per_second + STATUS_RECORDS_A_SECOND,
        invocations=invocations,
        objects=objects,
        gb_seconds=invocations * seconds * LAMBDA_GB,
        stream_bytes=workload.changes_per_second * envelope_bytes(workload),
        stored_bytes=workload.changes_per_second * stored_row_bytes(workload),
    )


def full_load(workload: Workload, chain: Chain) -> Load:
    """How long the first load takes and what it adds to the bill of its month.

    Shards are full then, and so are batches: an object for each of the tables that load together.
    """
    rows, shards = workload.rows_to_load or 0, shard_count(workload, chain)
    seconds, bound_by = max(
        (rows / (SHARD_RECORDS * shards), "records a second of the shards"),
        (rows * envelope_bytes(workload) / (SHARD_BYTES * shards), "bytes a second of the shards"),
        (rows / DMS_LOAD_ROWS, "rows a second of DMS (assumed)"),
    )
    batch, tables = batch_records(workload), max(1, min(LOAD_TABLES, workload.tables))
    invocations = math.ceil(rows / batch)
    objects = invocations * tables
    gb_seconds = invocations * invocation_seconds(batch, tables) * LAMBDA_GB
    lines = [
        priced("s3 puts", objects / 1_000, chain),
        priced("lambda time", gb_seconds, chain),
        priced("put units", rows * put_units(workload) / 1e6, chain),
    ]
    return Load(seconds, bound_by, objects, total(lines))


def monthly_lines(workload: Workload, chain: Chain, traffic: Traffic) -> list[Line]:
    """A line for everything that bills, in the order of the chain."""
    streamed_gb = traffic.stream_bytes * SECONDS_A_MONTH / GB
    stored_gb = (
        traffic.stored_bytes * SECONDS_A_MONTH + (workload.rows_to_load or 0) * stored_row_bytes(workload)
    ) / GB
    invocations = traffic.invocations * SECONDS_A_MONTH
    shards = shard_count(workload, chain)
    zones = chain.vpc_endpoints * chain.availability_zones
    lines = []
    if chain.rds_class is not None:
        lines.append(instance(chain.rds_class, chain))
        lines.append(priced("rds storage", chain.rds_storage_gb, chain))
    lines.append(instance(chain.dms_class, chain))
    if zones:
        lines.append(priced("interface endpoints", zones * HOURS_A_MONTH, chain))
        lines.append(priced("endpoint traffic", streamed_gb, chain))
    return [
        *lines,
        *stream_lines(chain, traffic),
        priced("kms requests", KMS_REQUESTS * shards / 10_000, chain),
        priced("lambda requests", invocations / 1e6, chain),
        priced("lambda time", traffic.gb_seconds * SECONDS_A_MONTH, chain),
        put_line(traffic, chain),
        priced("s3 storage", stored_gb, chain),
        priced("logs", invocations * LOG_BYTES / GB + DMS_LOG_GB, chain),
        priced("alarms", chain.alarms, chain),
        priced("custom metrics", 1, chain),
        priced("dashboards", 1, chain),
        priced("secrets", chain.secrets, chain),
    ]


def stream_lines(chain: Chain, traffic: Traffic) -> list[Line]:
    if chain.shards is not None:
        units = traffic.records * max(1, math.ceil(traffic.stream_bytes / traffic.records / PUT_UNIT_BYTES))
        lines = [
            priced("shard hour", chain.shards * HOURS_A_MONTH, chain),
            priced("put units", units * SECONDS_A_MONTH / 1e6, chain),
        ]
        if chain.retention_hours > 24:
            lines.append(priced("retention to 7 days", chain.shards * HOURS_A_MONTH, chain))
        return lines
    # Each record counts as a whole number of KB.
    gb_a_day = (
        traffic.records * math.ceil(traffic.stream_bytes / traffic.records / 1024) * 1024 * DAY_SECONDS / GB
    )
    return [
        priced("on-demand stream", HOURS_A_MONTH, chain),
        priced("on-demand in", gb_a_day * HOURS_A_MONTH / 24, chain),
        priced("on-demand out", gb_a_day * HOURS_A_MONTH / 24, chain),
        priced("on-demand retention", gb_a_day * max(0, chain.retention_hours - 24) / 24, chain),
    ]


def growth_step(workload: Workload, chain: Chain, changes_per_second: float) -> Growth:
    """The same chain with so many changes, and as many shards as they need if that is more."""
    grown = replace(workload, changes_per_second=changes_per_second)
    shards = None if chain.shards is None else max(chain.shards, shards_needed(grown))
    larger = replace(chain, shards=shards)
    traffic = traffic_of(grown, larger)
    return Growth(
        changes_per_second,
        shard_count(grown, larger),
        total(monthly_lines(grown, larger, traffic)),
        total([put_line(traffic, larger)]),
        round(traffic.objects * DAY_SECONDS),
    )


def with_window(workload: Workload, chain: Chain, seconds: float) -> Window:
    """The same chain with another window: fewer objects, which come later."""
    traffic = traffic_of(workload, replace(chain, window_seconds=seconds))
    return Window(seconds, round(traffic.objects * DAY_SECONDS), total([put_line(traffic, chain)]))


def put_line(traffic: Traffic, chain: Chain) -> Line:
    return priced("s3 puts", traffic.objects * SECONDS_A_MONTH / 1_000, chain)


def notes_on(workload: Workload, chain: Chain, lines: Sequence[Line]) -> list[str]:
    notes = []
    if chain.shards is not None and (needed := shards_needed(workload)) > chain.shards:
        notes.append(f"STREAM_SHARDS={chain.shards} is too few for these changes: set it to {needed}")
    if chain.region not in REGIONS:
        notes.append(f"no prices of {chain.region}: those of us-east-1 are taken")
    if chain.retention_hours > 168:
        notes.append("retention past 7 days bills by the GB as well, which the sum is without")
    notes += [f"no price of {line.part}: the sum is without it" for line in lines if line.usd is None]
    notes.append(
        "no data transfer is billed within a region and zone; DMS in another zone than the database pays"
    )
    notes.append(
        "S3 storage is a month's rows and the load, kept a month; it grows by this every month you keep"
    )
    return notes


# --------------------------------------------------------------------------------------------------------
# Small sums
# --------------------------------------------------------------------------------------------------------


def shard_count(workload: Workload, chain: Chain) -> int:
    return chain.shards or max(ON_DEMAND_SHARDS, shards_needed(workload))


def envelope_bytes(workload: Workload) -> int:
    return workload.average_row_bytes + ENVELOPE_BYTES


def put_units(workload: Workload) -> int:
    return math.ceil(envelope_bytes(workload) / PUT_UNIT_BYTES)


def stored_row_bytes(workload: Workload) -> float:
    return (workload.average_row_bytes + ROW_BYTES) * STORED_SHARE


def batch_records(workload: Workload) -> int:
    """Records that fit an invocation: 10,000 of them hardly ever do."""
    return min(BATCH_RECORDS, int(EVENT_BYTES / (FRAME_BYTES + envelope_bytes(workload) * 4 / 3)))


def distinct_tables(tables: int, records: float) -> float:
    """How many of them turn up among so many records."""
    some = max(1, tables)
    return float(some * (1 - (1 - 1 / some) ** records))


def invocation_seconds(records: float, objects: float) -> float:
    cpu = (records * RECORD_SECONDS + objects * PUT_SECONDS) / VCPU_SHARE
    return INVOCATION_SECONDS + cpu + math.ceil(objects / UPLOAD_THREADS) * PUT_WAIT_SECONDS


def priced(part: str, quantity: float, chain: Chain) -> Line:
    price = PRICES[part]
    return Line(part, quantity, price.unit, quantity * price.usd(chain.region), price.source_in(chain.region))


def instance(name: str, chain: Chain) -> Line:
    if name not in CLASSES:
        return Line(name, HOURS_A_MONTH, "instance-hour", None, "not in the table")
    us_east_1, eu_west_1, source = CLASSES[name]
    price = Price(us_east_1, eu_west_1, "instance-hour", source)
    usd = HOURS_A_MONTH * price.usd(chain.region)
    return Line(name, HOURS_A_MONTH, price.unit, usd, price.source_in(chain.region))


def total(lines: Sequence[Line]) -> float:
    return sum(line.usd or 0.0 for line in lines)


# --------------------------------------------------------------------------------------------------------
# For people and machines
# --------------------------------------------------------------------------------------------------------


def as_dict(made: Estimate) -> dict[str, Any]:
    """The estimate as JSON takes it; numbers to four digits after the point."""
    document = {"prices_as_of": PRICES_AS_OF, "checked_against_your_account": False, **asdict(made)}
    rounded: dict[str, Any] = to_four_digits(document)
    return rounded


def to_four_digits(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: to_four_digits(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_four_digits(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def as_text(made: Estimate) -> str:
    """The estimate for a terminal: lines and sum, stream, load, how it grows, caveats."""
    rest = "" if made.is_complete else " and more"
    lines = [*map(line_cells, made.lines), ("a month", "", "", f"{made.monthly_usd:,.2f}{rest}")]
    parts = [
        [f"Estimate for {in_words(made.workload, made.chain)}"],
        aligned(lines, "<><>"),
        [*stream_words(made), *load_words(made)],
        aligned(growth_cells(made.growth), ">>>>>"),
        aligned(window_cells(made.windows), ">>>"),
        [f"* {note}" for note in made.notes],
        [
            f"USD, list prices as of {PRICES_AS_OF}, not checked against your account; ~ one recalled, or of",
            "which sources differ. No free tiers or discounts. Changes are taken to come evenly.",
        ],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def in_a_line(made: Estimate) -> str:
    """About 174 USD a month at 10 changes a second (list prices as of 2026-11-23)."""
    rate = f"{made.workload.changes_per_second:,g} changes a second"
    return f"About {made.monthly_usd:,.0f} USD a month at {rate} (list prices as of {PRICES_AS_OF})."


def in_words(workload: Workload, chain: Chain) -> str:
    shards = "an on-demand stream" if chain.shards is None else counted(chain.shards, "shard")
    return (
        f"{workload.changes_per_second:,g} changes a second, {counted(workload.tables, 'table')}, rows of "
        f"{workload.average_row_bytes:,} bytes; {shards}, window {chain.window_seconds:g} s, {chain.region}"
    )


def line_cells(line: Line) -> tuple[str, str, str, str]:
    is_sure = line.source in (RECORDED, PUBLISHED)
    usd = "unknown" if line.usd is None else f"{'' if is_sure else '~'}{line.usd:,.2f}"
    return line.part, f"{line.quantity:,.2f}".removesuffix(".00"), line.unit, usd


def stream_words(made: Estimate) -> list[str]:
    other = "on-demand" if made.chain.shards is not None else counted(made.shards_needed, "shard")
    return [
        f"Stream     {made.stream_usd:,.2f} a month; as {other} it would be {made.other_mode_usd:,.2f}.",
        f"Shards     {made.shards_needed} needed for the mean rate.",
        f"Objects    {made.objects_a_day:,} a day.",
    ]


def load_words(made: Estimate) -> list[str]:
    if made.workload.rows_to_load is None:
        a_million = full_load(replace(made.workload, rows_to_load=1_000_000), made.chain)
        return [f"Full load  tables not seen; {duration(a_million.seconds)} for each million rows in them."]
    if not made.workload.rows_to_load:
        return ["Full load  nothing to load."]
    rows, load = counted(made.workload.rows_to_load, "row"), made.load
    return [
        f"Full load  {rows} in {duration(load.seconds)}, bound by the {load.bound_by};",
        f"           {load.objects:,} objects, {load.usd:,.2f} once.",
    ]


def growth_cells(growth: Sequence[Growth]) -> list[tuple[str, ...]]:
    header = ("changes/s", "shards", "objects a day", "S3 PUTs a month", "all a month")
    return [header, *(growth_row(step) for step in growth)]


def growth_row(step: Growth) -> tuple[str, ...]:
    amounts = (f"{step.s3_puts_usd:,.2f}", f"{step.usd:,.2f}")
    return (f"{step.changes_per_second:,g}", str(step.shards), f"{step.objects_a_day:,}", *amounts)


def window_cells(windows: Sequence[Window]) -> list[tuple[str, ...]]:
    rows = [(f"{one.seconds:g} s", f"{one.objects_a_day:,}", f"{one.s3_puts_usd:,.2f}") for one in windows]
    return [("window", "objects a day", "S3 PUTs a month"), *rows]


def aligned(rows: Sequence[tuple[str, ...]], sides: str) -> list[str]:
    """Lines of columns; sides has < or > for each."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    lines = (zip(row, sides, widths, strict=True) for row in rows)
    return ["  ".join(f"{text:{side}{width}}" for text, side, width in line).rstrip() for line in lines]


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 172_800 else f"{seconds / DAY_SECONDS:.1f} days"
