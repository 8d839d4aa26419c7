"""lake.py compact: closed hours become Parquet, and what the views show is the same at every moment of it."""

from __future__ import annotations

import gzip
import json
import os
import random
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import lake_model
import msgspec
import pytest
from conftest import BUCKET, shared_session
from test_lake_views import ACCOUNT, WORDS, control, copied, identities, values_of

from lake import main
from lake_tools import bucket, compact, parquet
from lake_tools.bucket import Lake
from lake_tools.compact import Outcome, age
from lake_tools.hours import end_of
from lake_tools.parquet import INPUTS
from lake_tools.schemas import LakeColumn, TableSchema, read_schemas
from lake_tools.settings import LakeError, LakeSettings
from lake_tools.tables import Listed, connected, open_table

HISTORIES = int(os.environ.get("COMPACT_HISTORIES", "12"))
HOUR = "changes/public/account/cdc_date=2026-03-01/cdc_hour=09/"
PARQUET = "parquet/public/account/cdc_date=2026-03-01/cdc_hour=09/changes.parquet"
LATER = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def lake(s3: Any, tmp_path: Path) -> Lake:
    put_schema(s3, ACCOUNT)
    return Lake(LakeSettings(s3_bucket=BUCKET), shared_session(), tmp_path / "cache")


def put_schema(s3: Any, schema: TableSchema) -> None:
    s3.put_object(Bucket=BUCKET, Key=schema.key, Body=msgspec.json.encode(schema))


def put_rows(s3: Any, name: str, rows: list[dict[str, Any]], folder: str = HOUR) -> None:
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows]
    s3.put_object(
        Bucket=BUCKET, Key=f"{folder}{name}.jsonl.gz", Body=gzip.compress("".join(lines).encode(), 1)
    )


def rows_of(first: int, count: int, **values: Any) -> list[dict[str, Any]]:
    """Inserted rows of consecutive numbers, all committed in the hour from 9 on."""
    played = lake_model.Played()
    for number in range(first, first + count):
        played.begin()
        at = f"2026-03-01T09:{number // 60 % 60:02}:{number % 60:02}.480010Z"
        played.change("insert", {"id": number, "name": f"name {number}", "note": None, **values}, None, 1, at)
        played.sequence = number
        played.publish_all()
    return played.rows


def run(lake: Lake, now: datetime = LATER, **options: Any) -> Outcome:
    """Compacts the table."""
    given = {"table": "account", "older_than": age("1h"), "all": False, "rebuild": False}
    (outcome,) = compact.compact(lake, Namespace(**{**given, **options}), {}, now)
    assert outcome.faults == []
    return outcome


def read(s3: Any, query: str, key: str = PARQUET) -> list[Any]:
    """What DuckDB says of the Parquet object, called rows in the query."""
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    path = Path(os.environ["PYTEST_FOLDER"]) / "read.parquet"
    path.write_bytes(body)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection.execute(
        query.replace("ROWS", f"read_parquet('{path}')").replace("FILE", f"'{path}'")
    ).fetchall()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTEST_FOLDER", str(tmp_path))


def shown(lake: Lake, relation: str = "history", columns: str = "*") -> list[Any]:
    with open_table(lake, ACCOUNT) as connection:
        names = [row[0] for row in connection.execute(f"DESCRIBE {relation}").fetchall()]
        texts = ", ".join(f'CAST("{name}" AS VARCHAR)' for name in names) if columns == "*" else columns
        return sorted(connection.execute(f"SELECT {texts} FROM {relation}").fetchall(), key=repr)


def keys(s3: Any, prefix: str = "") -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]


# What is written --------------------------------------------------------------------------------------------


def test_an_hour_becomes_one_object_in_the_contracts_order(lake: Lake, s3: Any) -> None:
    rows = rows_of(1, 50)
    random.Random(1).shuffle(rows)
    put_rows(s3, "a", rows[:20])
    put_rows(s3, "b", rows[20:])

    outcome = run(lake)

    assert (outcome.hours, outcome.rows, outcome.inputs, outcome.rescued) == (1, 50, 2, {})
    assert keys(s3, "parquet/") == [PARQUET]
    assert read(s3, "SELECT id FROM ROWS") == [(number,) for number in range(1, 51)]
    types = dict(row[:2] for row in read(s3, "DESCRIBE SELECT * FROM ROWS"))
    assert types == {
        "cdc_operation": "VARCHAR",
        "cdc_committed_at": "TIMESTAMP WITH TIME ZONE",
        "cdc_published_at": "TIMESTAMP WITH TIME ZONE",
        "cdc_transaction_id": "BIGINT",
        "cdc_transaction_record_id": "BIGINT",
        "cdc_stream_position": "VARCHAR",
        "cdc_lsn": "BIGINT",
        "cdc_shard_id": "VARCHAR",
        "cdc_sequence_number": "VARCHAR",
        "cdc_before": "VARCHAR",
        "id": "INTEGER",
        "name": "VARCHAR",
        "note": "VARCHAR",
        "cdc_rescued": "VARCHAR",
    }


def test_loads_come_first_and_the_rest_by_commit_lsn_and_record(lake: Lake, s3: Any) -> None:
    played = lake_model.Played()
    for number, (lsn, record) in enumerate([(30, 1), (10, 2), (10, 1), (20, 1)]):
        played.change(
            "update", {"id": number, "name": "a", "note": None}, None, record, "2026-03-01T09:10:00Z"
        )
        played.stream[-1]["cdc_lsn"] = lsn
        played.publish_all()
    played.load([{"id": 9, "name": "a", "note": None}], has_control=False)
    put_rows(s3, "a", played.rows)

    run(lake)

    assert read(s3, "SELECT id FROM ROWS") == [(9,), (2,), (1,), (3,), (0,)]


def test_the_object_names_its_inputs(lake: Lake, s3: Any) -> None:
    put_rows(s3, "a", rows_of(1, 2))
    put_rows(s3, "b", rows_of(3, 2))

    run(lake)

    ((inputs,),) = read(s3, f"SELECT value FROM parquet_kv_metadata(FILE) WHERE key = '{INPUTS}'::BLOB")
    etags = {one["Key"]: one["ETag"].strip('"') for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert json.loads(inputs) == [[f"{name}.jsonl.gz", etags[f"{HOUR}{name}.jsonl.gz"]] for name in "ab"]


def test_row_groups_tell_times_and_lsns_apart_for_engines_that_prune(lake: Lake, s3: Any) -> None:
    """More rows than a row group takes, from several objects and by several threads: still in order."""
    template = rows_of(1, 1)[0]
    for number in range(3):
        rows = []
        for place in range(100_000):
            identity = place * 3 + number
            at = f"2026-03-01T09:{identity // 6000:02}:{identity // 100 % 60:02}.480010Z"
            row = {"id": identity, "cdc_committed_at": at, "cdc_lsn": identity}
            rows.append(template | row | {"cdc_sequence_number": f"{identity:056}"})
        put_rows(s3, f"object {number}", rows)

    run(lake)

    for column in ("cdc_committed_at", "cdc_lsn"):
        groups = read(
            s3,
            "SELECT stats_min_value, stats_max_value FROM parquet_metadata(FILE) "
            f"WHERE path_in_schema = '{column}' ORDER BY row_group_id",
        )
        bounds = [int(one) if column == "cdc_lsn" else one for group in groups for one in group]
        assert len(groups) == 3
        assert bounds == sorted(bounds)
    assert read(s3, "SELECT count(*), count(DISTINCT id) FROM ROWS") == [(300_000, 300_000)]
    ((is_sorted,),) = read(
        s3, "SELECT bool_and(id = n) FROM (SELECT id, row_number() OVER () - 1 AS n FROM ROWS)"
    )
    assert is_sorted


def test_a_record_that_was_delivered_again_is_one_row(lake: Lake, s3: Any) -> None:
    put_rows(s3, "a", rows_of(1, 5))
    put_rows(s3, "b", rows_of(3, 5))

    assert run(lake).rows == 7

    assert read(s3, "SELECT id FROM ROWS") == [(number,) for number in range(1, 8)]


def test_numbers_keep_all_their_digits(lake: Lake, s3: Any) -> None:
    columns = (LakeColumn("amount", "numeric(38,10)", "DECIMAL", True, False),)
    put_schema(s3, replace(ACCOUNT, columns=ACCOUNT.columns + columns))
    line = json.dumps(rows_of(1, 1)[0], separators=(",", ":"))[:-1]
    body = gzip.compress(f'{line},"amount":1234567890123456789012345678.0123456789}}\n'.encode())
    s3.put_object(Bucket=BUCKET, Key=f"{HOUR}a.jsonl.gz", Body=body)

    run(lake)

    assert read(s3, "SELECT CAST(amount AS VARCHAR) FROM ROWS") == [
        ("1234567890123456789012345678.0123456789",)
    ]


def in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes hours as those of wide rows are written, a few rows at a time."""
    monkeypatch.setattr(parquet, "WIDE_BYTES", 0)
    monkeypatch.setattr(parquet, "PORTION_BYTES", 1000)


def test_wide_rows_are_written_in_portions_and_the_same(
    lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(1, 20)
    put_rows(s3, "a", rows[::2])
    put_rows(s3, "b", [*rows[1::2], *rows[:3]])
    run(lake)
    whole = read(s3, "SELECT * EXCLUDE (cdc_committed_at, cdc_published_at) FROM ROWS")

    in_portions(monkeypatch)
    run(lake, rebuild=True)

    assert read(s3, "SELECT * EXCLUDE (cdc_committed_at, cdc_published_at) FROM ROWS") == whole
    assert read(s3, "SELECT count(DISTINCT row_group_id) > 5 FROM parquet_metadata(FILE)") == [(True,)]
    assert [*lake.parts.iterdir()] == []


@pytest.mark.skipif("SOAK" not in os.environ, reason="it takes most of a minute: make soak")
def test_an_hour_that_is_larger_than_memory_is_compacted(
    lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 MB, which sorted at once would not be."""
    monkeypatch.setattr(compact, "MEMORY", "350MB")
    chance = random.Random(1)
    for number in range(10):
        rows = rows_of(1 + number * 1000, 1000)
        for row in rows:
            row["note"] = chance.randbytes(20_000).hex()
        put_rows(s3, f"object {number:02}", rows)

    assert run(lake).rows == 10_000

    assert read(s3, "SELECT count(*), min(length(note)) FROM ROWS") == [(10_000, 40_000)]


# Which hours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "older_than", "is_closed"),
    [
        ("2026-03-01T09:59:59", "0s", False),
        ("2026-03-01T10:00:00", "0s", True),
        ("2026-03-01T10:59:59", "1h", False),
        ("2026-03-01T11:00:00", "1h", True),
        ("2026-03-02T09:59:59", "1d", False),
        ("2026-03-02T10:00:00", "1d", True),
    ],
)
def test_an_hour_is_closed_when_it_is_over_for_as_long(
    lake: Lake, s3: Any, now: str, older_than: str, is_closed: bool
) -> None:
    put_rows(s3, "a", rows_of(1, 2))

    outcome = run(lake, datetime.fromisoformat(f"{now}+00:00"), older_than=age(older_than))

    assert (outcome.hours, outcome.open) == ((1, 0) if is_closed else (0, 1))


def test_all_takes_the_hour_that_still_fills_and_takes_it_again(lake: Lake, s3: Any) -> None:
    now = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    put_rows(s3, "a", rows_of(1, 2))
    assert run(lake, now, all=True).rows == 2
    put_rows(s3, "b", rows_of(3, 2))

    assert run(lake, now, all=True).rows == 4


def test_a_compacted_hour_is_left_alone_until_something_comes_to_it(lake: Lake, s3: Any) -> None:
    put_rows(s3, "a", rows_of(1, 2))
    run(lake)
    etag = s3.head_object(Bucket=BUCKET, Key=PARQUET)["ETag"]

    outcome = run(lake)

    assert (outcome.hours, outcome.current) == (0, 1)
    assert s3.head_object(Bucket=BUCKET, Key=PARQUET)["ETag"] == etag


@pytest.mark.parametrize("late", ["another object", "the same object with more rows"])
def test_a_late_record_makes_its_hour_be_compacted_again(lake: Lake, s3: Any, late: str) -> None:
    put_rows(s3, "a", rows_of(1, 2))
    run(lake)
    name, first = ("b", 3) if late == "another object" else ("a", 1)
    put_rows(s3, name, rows_of(first, 4 - first + 1))

    outcome = run(lake)

    assert (outcome.hours, outcome.rows) == (1, 4)
    assert read(s3, "SELECT id FROM ROWS") == [(1,), (2,), (3,), (4,)]


def test_rebuild_makes_an_hour_anew_and_the_same(lake: Lake, s3: Any) -> None:
    put_rows(s3, "a", rows_of(1, 2))
    run(lake)
    before = s3.get_object(Bucket=BUCKET, Key=PARQUET)["Body"].read()

    assert run(lake, rebuild=True).hours == 1

    assert s3.get_object(Bucket=BUCKET, Key=PARQUET)["Body"].read() == before, "a function of its inputs"


def test_folders_and_objects_of_others_are_passed_over(lake: Lake, s3: Any) -> None:
    put_rows(s3, "a", rows_of(1, 2))
    for key in (
        f"{HOUR}_SUCCESS",
        "changes/public/account/cdc_date=2026-03-01/b.jsonl.gz",
        "changes/public/account/cdc_date=2026-13-01/cdc_hour=09/b.jsonl.gz",
        "changes/public/account/cdc_date=2026-03-01/cdc_hour=25/b.jsonl.gz",
    ):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")

    assert run(lake).rows == 2


def test_one_hour_that_can_not_be_read_does_not_hold_up_the_others(lake: Lake, s3: Any) -> None:
    put_rows(s3, "a", rows_of(1, 2), hour_folder(10))
    s3.put_object(Bucket=BUCKET, Key=hour_folder(9) + "a.jsonl.gz", Body=b"no gzip")
    options = Namespace(table="account", older_than=age("1h"), all=False, rebuild=False)

    (outcome,) = compact.compact(lake, options, {}, LATER)

    assert outcome.hours == 1
    assert "cdc_hour=09/a.jsonl.gz: it is no gzip" in outcome.faults[0]


def test_what_has_not_changed_is_asked_of_s3_once(lake: Lake, s3: Any) -> None:
    for hour in range(3):
        put_rows(s3, "a", rows_of(hour * 10, 2), hour_folder(hour))
    options = Namespace(table="account", older_than=age("1h"), all=False, rebuild=False)
    digests: dict[str, str] = {}
    compact.compact(lake, options, digests, LATER)
    heads: list[Any] = []
    lake.s3.meta.events.register("before-call.s3.HeadObject", lambda **_: heads.append(1))

    compact.compact(lake, options, digests, LATER)
    assert len(heads) == 3
    (outcome,) = compact.compact(lake, options, digests, LATER)

    assert (len(heads), outcome.current) == (3, 3)


def test_an_object_that_is_rewritten_while_it_is_read_is_named_as_it_was_read(
    lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows(s3, "a", rows_of(1, 2))
    fetch, others = Lake.fetch, iter([True])

    def overtaken(lake: Lake, objects: Any, *more: Any) -> Any:
        if objects and objects[0].key.startswith(HOUR) and next(others, False):
            put_rows(s3, "a", rows_of(1, 1))  # cut shorter
        return fetch(lake, objects, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "fetch", overtaken)
        run(lake)

    ((inputs,),) = read(s3, f"SELECT value FROM parquet_kv_metadata(FILE) WHERE key = '{INPUTS}'::BLOB")
    assert json.loads(inputs)[0][1] == s3.head_object(Bucket=BUCKET, Key=f"{HOUR}a.jsonl.gz")["ETag"].strip(
        '"'
    )


def test_copies_of_what_is_compacted_are_not_kept(lake: Lake, s3: Any) -> None:
    put_rows(s3, "a", rows_of(1, 2))

    run(lake)

    assert [*lake.cache.rglob("*a.jsonl.gz")] == []


# What has expired -------------------------------------------------------------------------------------------


def test_rows_whose_objects_have_expired_stay(lake: Lake, s3: Any) -> None:
    put_rows(s3, "a", rows_of(1, 2))
    put_rows(s3, "b", rows_of(3, 2))
    run(lake)
    before = shown(lake)
    s3.delete_object(Bucket=BUCKET, Key=f"{HOUR}a.jsonl.gz")

    assert run(lake).hours == 0, "nothing has come"
    assert shown(lake) == before
    put_rows(s3, "c", rows_of(4, 2))
    assert run(lake).rows == 5
    s3.delete_object(Bucket=BUCKET, Key=f"{HOUR}b.jsonl.gz")
    s3.delete_object(Bucket=BUCKET, Key=f"{HOUR}c.jsonl.gz")
    assert [row[0] for row in shown(lake, columns="id")] == [1, 2, 3, 4, 5]
    assert run(lake, rebuild=True).hours == 0, "nothing is left to make it of"


def test_an_expired_hour_with_a_late_record_keeps_columns_that_the_schema_has_lost(
    lake: Lake, s3: Any
) -> None:
    put_rows(s3, "a", rows_of(1, 2, note="kept"))
    run(lake)
    s3.delete_object(Bucket=BUCKET, Key=f"{HOUR}a.jsonl.gz")
    put_schema(s3, replace(ACCOUNT, columns=ACCOUNT.columns[:2]))
    put_rows(s3, "b", rows_of(3, 1))

    run(lake)

    assert read(s3, "SELECT id, note FROM ROWS") == [(1, "kept"), (2, "kept"), (3, None)]


# At every moment --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_views_are_the_same_whatever_is_compacted_late_or_expired(
    lake: Lake, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    if seed % 3 == 0:
        in_portions(monkeypatch)
    words = [(chance.choice(WORDS), chance.randint(1, 4), chance.randint(1, 4)) for _ in range(40)]
    played = lake_model.play([(*word, chance.random() < 0.5, chance.random() < 0.5) for word in words])
    objects: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in played.rows:  # three objects an hour; a minute is an hour here, so that there are some
        at = datetime.fromisoformat(row["cdc_committed_at"] or row["cdc_published_at"])
        objects.setdefault((at.minute, chance.randint(0, 2)), []).append(row)
    (drops,) = control(tmp_path, played.drops)
    s3.put_object(Bucket=BUCKET, Key="control/cdc_date=2026-03-01/a.jsonl.gz", Body=drops.read_bytes())
    state = lake_model.current(played.rows, played.drops, ["id"], ["note"])
    expected = identities(lake_model.changes(played.rows, played.drops, ["id"]))

    places = [*objects]
    chance.shuffle(places)
    for place in places:
        put_rows(s3, f"object {place[1]}", objects[place], hour_folder(place[0]))
        if chance.random() < 0.3:
            run(lake, rebuild=chance.random() < 0.3)
            for key in keys(s3, "changes/"):
                if chance.random() < 0.2:
                    s3.delete_object(Bucket=BUCKET, Key=key)
    if chance.random() < 0.5 and played.drops:
        s3.delete_object(Bucket=BUCKET, Key="control/cdc_date=2026-03-01/a.jsonl.gz") if run(lake) else None

    assert shown(lake, "current", "id, name, note") == values_of(state)
    assert shown(lake, "changes", "cdc_shard_id, cdc_sequence_number") == expected


def hour_folder(minute: int) -> str:
    return f"changes/public/account/cdc_date=2026-03-01/cdc_hour={minute % 24:02}/"


def test_views_are_right_between_any_two_writes_of_a_compaction(
    lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hour in (8, 9, 10):
        put_rows(s3, "a", rows_of(hour * 10, 3), hour_folder(hour))
    before = shown(lake)
    seen = []

    def looking(lake: Lake, *arguments: Any, **more: Any) -> bool:
        seen.append(shown(lake) == before)
        is_written = put_in_place(lake, *arguments, **more)
        seen.append(shown(lake) == before)
        return is_written

    put_in_place = Lake.put_in_place
    monkeypatch.setattr(Lake, "put_in_place", looking)
    run(lake)

    assert seen == [True] * 10
    assert len(keys(s3, "parquet/")) == 3


def test_what_was_listed_before_a_compaction_is_read_right_after_it(lake: Lake, s3: Any) -> None:
    put_rows(s3, "a", rows_of(1, 2))
    run(lake)
    put_rows(s3, "b", rows_of(3, 2))
    listed = Listed.of(lake, ACCOUNT)
    run(lake)

    with open_table(lake, ACCOUNT, listed) as connection:
        assert connection.execute("SELECT id FROM history ORDER BY id").fetchall() == [(1,), (2,), (3,), (4,)]


def test_nothing_is_ever_deleted_and_nothing_that_landed_is_written(
    lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    events = lake.s3.meta.events
    events.register(
        "before-call.s3", lambda model, params, **_: calls.append(f"{model.name} {params['url_path']}")
    )
    put_rows(s3, "a", rows_of(1, 2))

    run(lake)
    put_rows(s3, "b", rows_of(3, 2))
    run(lake, rebuild=True)

    assert {call.split()[0] for call in calls} == {"ListObjectsV2", "GetObject", "HeadObject", "PutObject"}
    written = {call for call in calls if call.startswith("PutObject")}
    folders = {call.split()[1].removeprefix("/landing").split("/")[1] for call in written}
    assert folders == {"parquet", "schemas", "generations"}


@pytest.mark.parametrize("failing_write", range(5))
def test_an_interrupted_compaction_is_finished_by_the_next(
    lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch, failing_write: int
) -> None:
    for hour in (8, 9, 10):
        put_rows(s3, "a", rows_of(hour * 10, 3), hour_folder(hour))
    before = shown(lake)
    put_in_place, writes = Lake.put_in_place, iter(range(100))

    def dying(lake: Lake, *arguments: Any, **more: Any) -> bool:
        if next(writes) == failing_write:
            raise KeyboardInterrupt
        return put_in_place(lake, *arguments, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lake, "put_in_place", dying)
        run(lake)

    assert shown(lake) == before
    assert run(lake).hours == 3 - max(0, failing_write - 2)
    assert shown(lake) == before
    assert [*lake.parts.iterdir()] == [], "no file is left"


def test_two_compactions_at_once_lose_nothing(lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has looked, another compacts a late object, then the first writes: it has to look again."""
    put_rows(s3, "a", rows_of(1, 2))
    run(lake)
    put_rows(s3, "b", rows_of(3, 2))
    write_hour, others = compact.write_hour, iter([True])

    def overtaken(*arguments: Any) -> Any:
        made = write_hour(*arguments)
        if next(others, False):
            put_rows(s3, "c", rows_of(5, 2))
            with monkeypatch.context() as patch:
                patch.setattr(compact, "write_hour", write_hour)
                run(lake)
        return made

    monkeypatch.setattr(compact, "write_hour", overtaken)
    assert run(lake).hours == 0, "the other one has done it"

    assert read(s3, "SELECT id FROM ROWS") == [(number,) for number in range(1, 7)]
    assert run(lake).hours == 0


# Masks ------------------------------------------------------------------------------------------------------


def test_a_column_that_is_dropped_by_a_mask_later_is_not_shown_from_parquet(lake: Lake, s3: Any) -> None:
    """Neither as a column of former Parquet, nor as what compaction had rescued of it."""
    put_rows(s3, "a", rows_of(1, 1, note="raw words"))
    put_rows(s3, "b", [row | {"iban": "raw digits"} for row in rows_of(2, 1)])
    run(lake)
    masked = replace(ACCOUNT, columns=ACCOUNT.columns[:2], dropped=("note", "iban"))
    put_schema(s3, masked)

    with open_table(lake, masked) as connection:
        found = connection.execute("SELECT id, cdc_rescued FROM history ORDER BY id").fetchall()
    assert found == [(1, None), (2, None)]
    run(lake, rebuild=True)
    assert b"raw" not in s3.get_object(Bucket=BUCKET, Key=PARQUET)["Body"].read()
    assert read(s3, "SELECT id, cdc_rescued FROM ROWS") == [(1, None), (2, None)]


def test_printed_text_does_not_read_control_while_any_column_is_masked(
    lake: Lake, s3: Any, tmp_path: Path, command: Any
) -> None:
    put_rows(s3, "a", rows_of(1, 1))
    run(lake)
    put_schema(s3, replace(ACCOUNT, table="other", dropped=("iban",)))

    for engine in ("duckdb", "athena"):
        code, text, _ = command("sql", "account", "--engine", engine)
        assert code == 0
        assert "/control/" not in text
        assert "-- control/ is closed to readers" in text


# Printed SQL ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["history", "changes", "current"])
@pytest.mark.parametrize(
    "parquet_before", [(), ("--parquet-before", "2026-03-02")], ids=["all lines", "fewer lines"]
)
def test_printed_duckdb_text_reads_parquet_and_lines(
    lake: Lake, s3: Any, tmp_path: Path, command: Any, view: str, parquet_before: tuple[str, ...]
) -> None:
    put_rows(s3, "a", rows_of(1, 3))
    run(lake)
    put_rows(s3, "b", rows_of(3, 3), HOUR.replace("03-01", "03-02"))
    expected = shown(lake, view, "id, name")

    code, text, err = command(
        "sql", "account", "--view", view, "--from", str(tmp_path / "files"), *parquet_before
    )

    assert (code, err) == (0, "")
    with connected(tmp_path, None) as connection:
        copied(s3, tmp_path / "files")
        connection.execute(text)
        found = connection.execute(f"SELECT id, name FROM public_account_{view}").fetchall()
    assert sorted(found) == expected
    assert len(expected) == 5


def test_days_are_left_to_parquet_only_when_all_of_them_is_there(lake: Lake, s3: Any, command: Any) -> None:
    put_rows(s3, "a", rows_of(1, 3))
    run(lake)
    put_rows(s3, "b", rows_of(4, 1))

    code, _, err = command("sql", "account", "--parquet-before", "2026-03-02")

    assert code == 1
    assert (
        "1 hour of public.account before 2026-03-02 not in Parquet, the first is public/account/cdc_date"
        in err
    )


# Load generations -------------------------------------------------------------------------------------------


def test_reloads_are_known_when_control_has_expired(lake: Lake, s3: Any, tmp_path: Path) -> None:
    played = lake_model.Played()
    played.load(
        [{"id": 1, "name": "a", "note": None}, {"id": 2, "name": "b", "note": None}], has_control=True
    )
    played.load([{"id": 1, "name": "a", "note": None}], has_control=True)
    put_rows(s3, "a", played.rows)
    (drops,) = control(tmp_path, played.drops)
    s3.put_object(Bucket=BUCKET, Key="control/cdc_date=2026-03-01/a.jsonl.gz", Body=drops.read_bytes())
    run(lake)
    s3.delete_object(Bucket=BUCKET, Key="control/cdc_date=2026-03-01/a.jsonl.gz")
    run(lake)

    assert shown(lake, "current", "id") == [(1,)]
    (key,) = keys(s3, "generations/")
    kept = gzip.decompress(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()).decode().splitlines()
    assert len(kept) == 2
    assert json.loads(kept[0]) == {
        "cdc_envelope": {
            "metadata": {
                "operation": "drop-table",
                "schema-name": "public",
                "table-name": "account",
                "timestamp": played.drops[0],
            }
        }
    }


def test_who_may_not_read_control_reads_what_compaction_has_kept(
    lake: Lake, s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played = lake_model.Played()
    played.load([{"id": 1, "name": "a", "note": None}], has_control=True)
    put_rows(s3, "a", played.rows)
    (drops,) = control(tmp_path, played.drops)
    s3.put_object(Bucket=BUCKET, Key="control/cdc_date=2026-03-01/a.jsonl.gz", Body=drops.read_bytes())
    reader = Lake(lake.settings, shared_session(), tmp_path / "reader")
    deny(reader, "control/")
    with pytest.raises(LakeError, match="AccessDenied"):
        shown(reader, "current", "id")

    run(lake)

    assert shown(reader, "current", "id") == [(1,)]
    assert "control/ is closed to you" in capsys.readouterr().err


def test_who_may_not_read_control_reads_a_table_that_was_never_dropped(
    lake: Lake, s3: Any, tmp_path: Path
) -> None:
    put_rows(s3, "a", rows_of(1, 1))
    (drops,) = control(tmp_path, ["2026-03-01T08:00:00Z"], table="another")
    s3.put_object(Bucket=BUCKET, Key="control/cdc_date=2026-03-01/a.jsonl.gz", Body=drops.read_bytes())
    put_schema(s3, replace(ACCOUNT, source="control"))
    run(lake)
    reader = Lake(lake.settings, shared_session(), tmp_path / "reader")
    deny(reader, "control/")

    assert shown(reader, "current", "id") == [(1,)]
    assert [str(one) for one in read_schemas(reader, [("public", "account")])] == ["public.account"]


def deny(lake: Lake, prefix: str) -> None:
    """As a policy of the bucket does."""
    from botocore.exceptions import ClientError

    def refuse(params: Any, model: Any, **_: Any) -> None:
        if model.name == "GetObject" and f"/{prefix}" in params["url_path"]:
            error = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(error, "GetObject")  # type: ignore[arg-type]

    lake.s3.meta.events.register("before-call.s3", refuse)


# The command ------------------------------------------------------------------------------------------------


@pytest.fixture
def command(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    monkeypatch.setenv("S3_BUCKET", BUCKET)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--cache", str(tmp_path / "cache")])
        return code, *capsys.readouterr()

    yield call


def test_the_command_says_what_it_did(s3: Any, command: Any) -> None:
    put_rows(s3, "a", rows_of(1, 3))
    now = datetime.now(UTC)
    put_rows(s3, "b", rows_of(4, 1), f"changes/public/account/cdc_date={now:%Y-%m-%d}/cdc_hour={now:%H}/")

    code, out, err = command("compact")

    size = s3.head_object(Bucket=BUCKET, Key=PARQUET)["ContentLength"]
    assert (code, err) == (0, "")
    assert out == (
        "table           hours  rows  objects  Parquet  rescued\n"
        f"public.account  1      3     1        {size:,}    0\n"
        "1 hour compacted, 1 hour not closed yet: --all takes them too\n"
    )
    assert command("compact")[1] == (
        "nothing to compact, 1 hour compacted before, 1 hour not closed yet: --all takes them too\n"
    )
    (outcome,) = json.loads(command("compact", "account", "--rebuild", "--json")[1])
    assert (outcome["table"], outcome["rows"], outcome["size_bytes"]) == ("public.account", 3, size)


def test_the_command_names_what_it_had_to_rescue(s3: Any, command: Any) -> None:
    put_rows(s3, "a", [*rows_of(1, 1), rows_of(2, 1)[0] | {"id": "many", "colour": "red"}])

    code, out, _ = command("compact", "account")

    assert code == 0
    publish = "python lake.py schema public.account publish, and the views show them"
    assert f"1 value of colour in cdc_rescued, the schema has no such column: {publish}" in out
    look = "see python lake.py show public.account --view history --all"
    assert f"1 value of id in cdc_rescued, not of its type: {look}" in out
    assert read(s3, "SELECT id, cdc_rescued FROM ROWS WHERE cdc_rescued IS NOT NULL") == [
        (None, '{"id":"many","colour":"red"}')
    ]


def test_one_table_that_can_not_be_read_does_not_hold_up_the_others(s3: Any, command: Any) -> None:
    put_rows(s3, "a", rows_of(1, 1))
    s3.put_object(Bucket=BUCKET, Key=HOUR.replace("account", "broken") + "a.jsonl.gz", Body=b"secret words")

    code, out, err = command("compact")

    assert code == 1
    assert "public.account  1      1" in out
    assert "error: public.broken: cannot read s3://landing/changes/public/broken/" in err
    assert "secret" not in out + err


def test_a_full_disk_is_said_and_leaves_nothing(
    s3: Any, lake: Lake, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows(s3, "a", rows_of(1, 1))
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(parquet, "copy_statement", lambda query, *_: f"COPY ({query}) TO '/dev/full'")

    code, _, err = command("compact", "account")

    assert code == 1
    assert "DuckDB" in err
    assert keys(s3, "parquet/") == []


@pytest.mark.parametrize("text", ["1", "h", "-1h", "1.5h", ""])
def test_an_age_that_is_none_is_refused(command: Any, text: str) -> None:
    with pytest.raises(SystemExit):
        command("compact", "--older-than", text)


def test_rebuild_is_for_once(command: Any) -> None:
    with pytest.raises(SystemExit):
        command("compact", "--rebuild", "--watch")


# Objects ----------------------------------------------------------------------------------------------------


def test_a_large_file_goes_in_parts_and_is_there_at_once(
    lake: Lake, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "PART_BYTES", 5 << 20)
    path = tmp_path / "large"
    path.write_bytes(os.urandom(12 << 20))

    completed = []
    lake.s3.meta.events.register(
        "provide-client-params.s3.CompleteMultipartUpload", lambda params, **_: completed.append(params)
    )

    assert lake.put_in_place("parquet/large", path, None, {"rows": "7"})

    found = s3.get_object(Bucket=BUCKET, Key="parquet/large")
    assert found["Body"].read() == path.read_bytes()
    assert found["Metadata"] == {"rows": "7"}
    lake.put_in_place("parquet/large", path, "0123")
    # moto does not look at the conditions; S3 does (documented).
    conditions = [(one.get("IfNoneMatch"), one.get("IfMatch")) for one in completed]
    assert conditions == [("*", None), (None, '"0123"')]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_a_missing_permission_is_named(lake: Lake, s3: Any) -> None:
    put_rows(s3, "a", rows_of(1, 1))
    run(lake)
    s3.delete_object(Bucket=BUCKET, Key=f"{HOUR}a.jsonl.gz")
    deny(lake, "parquet/")
    lake.cache = lake.cache / "empty"

    with pytest.raises(LakeError, match="AccessDenied: allow s3:GetObject"):
        shown(lake)


def test_hours_are_listed_by_their_end() -> None:
    assert end_of("public/a/cdc_date=2026-03-01/cdc_hour=23") == LATER
    assert end_of("public/a/cdc_date=2026-03-01") is None
