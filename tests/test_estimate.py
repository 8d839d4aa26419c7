"""What the chain is said to cost, and how that follows from the prices and the traffic."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.estimate import (
    CLASSES,
    LARGE,
    MEDIUM,
    PRESETS,
    PRICES,
    SMALL,
    Chain,
    Estimate,
    Workload,
    as_dict,
    as_text,
    batch_records,
    estimate,
    shards_needed,
)

QUIET = Workload(changes_per_second=0, tables=1)

GOLDEN_SMALL = """\
Estimate for 1 changes a second, 10 tables, rows of 300 bytes; 1 shard, window 5 s, us-east-1

dms.t3.medium              730  instance-hour     53.29
shard hour                 730  shard-hour        10.95
put units                 2.67  million of 25 KB   0.04
retention to 7 days        730  shard-hour        14.60
kms requests              1.75  ten thousand       0.05
lambda requests           0.44  million            0.09
lambda time          15,517.14  GB-second, arm64   0.21
s3 puts               2,097.68  thousand          10.49
s3 storage                0.49  GB-month           0.01
logs                      0.94  GB ingested        0.47
alarms                      13  alarm metric       1.30
custom metrics               1  metric            ~0.30
dashboards                   1  dashboard          3.00
secrets                      1  secret             0.40
a month                                           95.19

Stream     25.59 a month; as on-demand it would be 29.58.
Shards     1 needed for the mean rate.
Objects    68,965 a day.
Full load  1,000,000 rows in 17 minutes, bound by the records a second of the shards;
           1,968 objects, 0.02 once.

changes/s  shards  objects a day  S3 PUTs a month  all a month
        1       1         68,965            10.49        95.19
       10       1        170,071            25.87       111.18
      100       1        173,895            26.45       115.86
    1,000       2        346,902            52.76       209.37

window  objects a day  S3 PUTs a month
   1 s         83,588            12.71
   5 s         68,965            10.49
  60 s         15,585             2.37
 300 s          4,311             0.66

* no data transfer is billed within a region and zone; DMS in another zone than the database pays
* S3 storage is a month's rows and the load, kept a month; it grows by this every month you keep

USD, list prices as of 2026-11-23, not checked against your account; ~ one recalled, or of
which sources differ. No free tiers or discounts. Changes are taken to come evenly.
"""


def amounts(made: Estimate) -> dict[str, float]:
    return {line.part: round(line.usd or 0.0, 2) for line in made.lines}


# --------------------------------------------------------------------------------------------------------
# The month
# --------------------------------------------------------------------------------------------------------


def test_text_of_the_small_size() -> None:
    assert as_text(estimate(*SMALL)) == GOLDEN_SMALL


@pytest.mark.parametrize(
    ("size", "monthly_usd", "shards", "objects_a_day"),
    [("small", 95.19, 1, 68_965), ("medium", 296.72, 1, 688_690), ("large", 1_035.81, 3, 2_545_756)],
)
def test_sizes_of_the_readme(size: str, monthly_usd: float, shards: int, objects_a_day: int) -> None:
    made = estimate(*PRESETS[size])

    assert (round(made.monthly_usd, 2), made.shards_needed, made.objects_a_day) == (
        monthly_usd,
        shards,
        objects_a_day,
    )


def test_month_without_a_change_is_what_bills_by_the_hour() -> None:
    """730 hours of each; the status rows of DMS make 1,440 objects a day."""
    made = estimate(QUIET, Chain(rds_class="db.t4g.medium", rds_storage_gb=100, vpc_endpoints=2))

    assert amounts(made) == {
        "db.t4g.medium": 47.45,
        "rds storage": 11.50,
        "dms.t3.medium": 53.29,
        "interface endpoints": 29.20,
        "endpoint traffic": 0.0,
        "shard hour": 10.95,
        "put units": 0.0,
        "retention to 7 days": 14.60,
        "kms requests": 0.05,
        "lambda requests": 0.01,
        "lambda time": 0.01,
        "s3 puts": 0.22,
        "s3 storage": 0.0,
        "logs": 0.27,
        "alarms": 1.30,
        "custom metrics": 0.30,
        "dashboards": 3.00,
        "secrets": 0.40,
    }
    assert made.objects_a_day == 1_440


def test_stream_of_the_default_retention_of_aws_bills_no_retention() -> None:
    assert "retention to 7 days" not in amounts(estimate(QUIET, Chain(retention_hours=24)))


def test_stream_by_shards_and_on_demand() -> None:
    """100 changes of 740 bytes a second are 262.8 million units; on demand, 1 KB each, 269 GB."""
    workload = Workload(changes_per_second=100, tables=10)

    provisioned, on_demand = estimate(workload, Chain(shards=1)), estimate(workload, Chain(shards=None))

    assert amounts(provisioned)["put units"] == 3.68
    assert amounts(on_demand) | {"on-demand in": 21.53, "on-demand out": 10.77} == amounts(on_demand)
    assert (amounts(on_demand)["on-demand stream"], amounts(on_demand)["on-demand retention"]) == (
        29.20,
        5.31,
    )
    assert provisioned.other_mode_usd == pytest.approx(on_demand.stream_usd)
    assert on_demand.other_mode_usd == pytest.approx(provisioned.stream_usd)


def test_region_has_prices_of_its_own() -> None:
    ireland = estimate(QUIET, Chain(region="eu-west-1"))

    assert (amounts(ireland)["shard hour"], amounts(ireland)["dms.t3.medium"]) == (12.41, 58.40)


def test_region_without_prices_takes_those_of_virginia_and_says_so() -> None:
    made = estimate(QUIET, Chain(region="sa-east-1"))

    assert amounts(made)["shard hour"] == 10.95
    assert made.notes[0] == "no prices of sa-east-1: those of us-east-1 are taken"


def test_class_without_a_price_is_named_and_left_out_of_the_sum() -> None:
    known, unknown = estimate(QUIET, Chain()), estimate(QUIET, Chain(dms_class="dms.x9.huge"))

    assert not unknown.is_complete
    assert unknown.monthly_usd == pytest.approx(known.monthly_usd - 53.29)
    assert "no price of dms.x9.huge: the sum is without it" in unknown.notes
    assert "dms.x9.huge" in as_text(unknown)
    assert "31.11 and more" in as_text(unknown)


# --------------------------------------------------------------------------------------------------------
# Shards, load, objects
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes_per_second", "row_bytes", "shards"),
    [(0, 300, 1), (800, 300, 1), (801, 300, 2), (1_000, 300, 2), (100, 7_560, 1), (101, 7_560, 2)],
)
def test_shards_take_800_records_and_800_kb_a_second(
    changes_per_second: float, row_bytes: int, shards: int
) -> None:
    assert shards_needed(Workload(changes_per_second, 1, row_bytes)) == shards


def test_too_few_shards_are_noted() -> None:
    made = estimate(Workload(changes_per_second=2_000, tables=1), Chain(shards=1))

    assert made.notes[0] == "STREAM_SHARDS=1 is too few for these changes: set it to 3"


@pytest.mark.parametrize(
    ("rows", "row_bytes", "shards", "seconds", "bound_by"),
    [
        pytest.param(10_000_000, 300, 1, 10_000, "records a second of the shards", id="one shard: 2.8 hours"),
        pytest.param(10_000_000, 300, 4, 2_500, "records a second of the shards", id="four shards"),
        pytest.param(1_000_000, 9_560, 1, 10_000, "bytes a second of the shards", id="wide rows"),
        pytest.param(10_000_000, 300, 100, 1_000, "rows a second of DMS (assumed)", id="DMS"),
    ],
)
def test_load_is_bound_by_the_narrowest_place(
    rows: int, row_bytes: int, shards: int, seconds: float, bound_by: str
) -> None:
    workload = Workload(1, tables=20, average_row_bytes=row_bytes, rows_to_load=rows)

    load = estimate(workload, Chain(shards=shards)).load

    assert (load.seconds, load.bound_by) == (seconds, bound_by)


def test_load_makes_an_object_for_each_of_eight_tables_a_batch() -> None:
    """4,075 records fit an event: 2,454 batches of 10 million rows."""
    load = estimate(Workload(1, tables=20, rows_to_load=10_000_000), Chain()).load

    assert batch_records(Workload(1, 1)) == 4_075
    assert load.objects == 2_454 * 8


def test_batch_holds_ten_thousand_records_at_most() -> None:
    assert batch_records(Workload(1, 1, average_row_bytes=-440)) == 10_000


def test_objects_grow_with_shards_and_tables_and_shrink_with_the_window() -> None:
    busy = Workload(changes_per_second=400, tables=20)

    def objects(workload: Workload, **chain: float | int) -> int:
        return estimate(workload, replace(Chain(), **chain)).objects_a_day  # type: ignore[arg-type]

    assert objects(busy, window_seconds=5) == 346_867  # 20 tables every 5.0025 s, and 1,440 status rows
    assert objects(busy, window_seconds=5, shards=2) == 691_950
    assert objects(busy, window_seconds=1) == 1_725_131
    assert objects(replace(busy, tables=40), window_seconds=5) == 692_295


def test_growth_adds_the_shards_that_the_changes_need() -> None:
    growth = estimate(Workload(changes_per_second=5, tables=10), Chain(shards=1)).growth

    assert [(step.changes_per_second, step.shards, round(step.usd, 2)) for step in growth] == [
        (1, 1, 95.19),
        (10, 1, 111.18),
        (100, 1, 115.86),
        (1_000, 2, 209.36),
    ]


def test_windows_trade_objects_for_delay() -> None:
    windows = estimate(*MEDIUM).windows

    assert [(window.seconds, window.objects_a_day, round(window.s3_puts_usd, 2)) for window in windows] == [
        (1, 2_458_127, 373.84),
        (5, 688_690, 104.74),
        (60, 59_021, 8.98),
        (300, 43_859, 6.67),
    ]


# --------------------------------------------------------------------------------------------------------
# The table, the other forms
# --------------------------------------------------------------------------------------------------------


def test_every_price_says_where_it_is_from() -> None:
    sources = {price.source for price in PRICES.values()} | {source for _, _, source in CLASSES.values()}

    assert sources == {
        "as AWS's price list answered infracost's tests, recorded 2021-2025, read 2026-11-23",
        "recalled, and the same in public price tables read 2026-11-23",
        "recalled, not checked; public price tables read 2026-11-23 differ by up to a quarter",
        "recalled, not checked",
    }


def test_prices_that_are_not_sure_are_marked() -> None:
    text = as_text(estimate(*LARGE))

    assert "~338.72" in text  # dms.r5.xlarge
    assert "~43.80" not in text  # shards


def test_dict_is_json_and_says_what_it_was_not_checked_against() -> None:
    document = json.loads(json.dumps(as_dict(estimate(*SMALL))))

    assert document["prices_as_of"] == "2026-11-23"
    assert document["checked_against_your_account"] is False
    assert document["monthly_usd"] == 95.194
    assert document["lines"][0] == {
        "part": "dms.t3.medium",
        "quantity": 730,
        "unit": "instance-hour",
        "usd": 53.29,
        "source": "recalled, and the same in public price tables read 2026-11-23",
    }


WORKLOADS = st.builds(
    Workload,
    changes_per_second=st.floats(0, 100_000),
    tables=st.integers(0, 5_000),
    average_row_bytes=st.integers(2, 1_000_000),
    rows_to_load=st.integers(0, 10**10),
)
CHAINS = st.builds(
    Chain,
    shards=st.none() | st.integers(1, 500),
    window_seconds=st.integers(0, 300),
    dms_class=st.sampled_from(sorted(CLASSES)),
    rds_class=st.none() | st.sampled_from(sorted(CLASSES)),
    vpc_endpoints=st.integers(0, 6),
    region=st.sampled_from(["us-east-1", "eu-west-1", "mars-1"]),
)


@given(WORKLOADS, CHAINS)
def test_estimate_of_anything_is_the_sum_of_its_lines(workload: Workload, chain: Chain) -> None:
    made = estimate(workload, chain)

    assert all(line.usd is not None and line.usd >= 0 for line in made.lines)
    assert made.monthly_usd == pytest.approx(sum(line.usd or 0.0 for line in made.lines))
    assert as_text(made).count("\n\n") == 6
    json.dumps(as_dict(made), allow_nan=False)


@given(WORKLOADS, CHAINS)
def test_a_longer_window_never_makes_more_objects(workload: Workload, chain: Chain) -> None:
    objects = [window.objects_a_day for window in estimate(workload, chain).windows]

    assert objects == sorted(objects, reverse=True)
