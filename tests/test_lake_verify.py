"""verify: what is planted is found and named, what is on its way is waited for, and nothing else is said.

VERIFY_RUNS=100 makes that many random runs with writers active; VERIFY_SEED is the first one's.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pytest
from conftest import BUCKET, shared_session
from events import record
from histories import HistoryTable, history, run_history
from postgresql_types import ALL_TYPES, ALL_TYPES_SCHEMA, start_complete_postgres
from replication_support import Database, Stream, land, played, task_configuration

import lambda_function
from lake import main
from lake_tools.bucket import CONTROL, QUARANTINE, Lake
from lake_tools.settings import LakeSettings
from lake_tools.verify import verify
from lake_tools.verify_compare import SUSPECTS, TableCheck
from lake_tools.verify_landed import Landed
from lake_tools.verify_report import Report
from lake_tools.verify_source import Snapshot, open_source
from lake_tools.verify_values import UNSURE, form_of, hashed_form_of
from local_run.postgres import Server
from provision.database import Column

RUNS, FIRST_SEED = int(os.environ.get("VERIFY_RUNS", "3")), int(os.environ.get("VERIFY_SEED", "0"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_complete_postgres() as running:
        yield running


@pytest.fixture
def lake(s3: Any, database: Database, tmp_path: Path) -> Lake:
    return lake_of(database, tmp_path / "cache")


def lake_of(database: Database, cache: Path) -> Lake:
    settings = LakeSettings(
        s3_bucket=BUCKET,
        pghost=database.parameters["host"],
        pgport=database.parameters["port"],
        pgdatabase=database.name,
        pguser=database.parameters["user"],
        pgpassword="unused",
        pgsslmode="disable",
    )
    return Lake(settings, shared_session(), cache)


def replicate(database: Database, folder: Path, s3: Any, *changes: str) -> Stream:
    """The load, and the changes after it, landed."""
    stream = Stream()
    with played(task_configuration(database.parameters), folder, stream) as task:
        task.wait_until_running()
        for one in changes:
            database.sql(one)
        task.catch_up()
    land(stream, s3)
    return stream


def found(report: Report, table: str = "public.client") -> dict[str, Any]:
    """The verdict, and the counts that are not 0."""
    (one,) = [one for one in report.tables if one.table == table]
    counts = {kind: count for kind, count in one.faults.items() if count}
    return {"verdict": one.verdict} | counts | ({"why": one.why_unknown} if one.why_unknown else {})


CLIENT = """
CREATE TABLE client (id int PRIMARY KEY, name varchar(80), note text);
INSERT INTO client VALUES (1, 'Ada', 'x'), (2, 'Bob', NULL), (3, 'Lin', 'y'), (4, 'Eve', 'z')
"""

# Values and types -----------------------------------------------------------------------------------------

# Another value for each type; {0} is the column.
OTHERS = {
    "smallint": "1",
    "integer": "1",
    "numeric(12,2)": "46.51",
    "numeric(39,1)": "1.5",
    "money": "'-1234.51'",
    "numeric(20,4)": "1234567890123457.7891",
    "numeric": "0.611112",
    "real": "2.2000003",
    "double precision": "20.200000000000003",
    "boolean": "NOT {0}",
    "char(5)": "' C'",
    "varchar(80)": "'Ada'",
    "bigint": "1 + 123456789012345678",
    "varchar": "'ada'",
    "text": "'ab|'",
    "json": "'{\"foo\":  1}'",
    "jsonb": "'{\"foo\": 2}'",
    "bytea": "'\\x80057d942f'",
    "uuid": "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12'",
    "date": "'2018-01-03'",
    "time": "'08:30:00.000001'",
    "timetz": "'08:30+03'",
    "timestamp": "'2010-11-01 00:00:00.000001'",
    "timestamptz": "'2022-12-18 20:28:42.442557+01'",
    "interval": "'1 day 5 hours'",
    "integer[]": "'{1,2,3,NULL}'",
    "text[]": "ARRAY['a b']",
    "mood": "'sad'",
    "pair": "ROW(2, 'a')",
    "short_text": "'abd'",
    "inet": "'10.0.0.2'",
    "cidr": "'10.0.0.0/9'",
    "macaddr": "'08:00:2b:01:02:04'",
    "bit(2)": "B'11'",
    "bit varying(7)": "B'1101'",
    "bit varying": "B'11'",
    "tsvector": "'a c'",
    "point": "'(1,2.6)'",
    "polygon": "'((0,0),(1,2))'",
    "int4range": "'[1,6)'",
    **dict.fromkeys(("tsrange", "tstzrange", "daterange"), "'[2018-01-02,)'"),
    **dict.fromkeys(("int8range", "numrange"), "'[2,5)'"),
    "int4multirange": "'{[1,2)}'",
    "citext": "'Bob'",
    "hstore": "'a=>2'",
    "xml": "'<b/>'::bytea",
    "tsquery": "'c'",
    "line": "'{1,2,3}'",
    "lseg": "'((0,0),(1,1))'",
    "box": "'((0,0),(1,2))'",
    "circle": "'((1,2),4)'",
    "path": "'((0,0),(1,2))'",
    "oid": "16385",
    "pg_lsn": "'0/16B3749'",
}


def test_every_type_is_identical_and_one_changed_value_of_each_is_found(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    """In a row of its own each, in loads and in changes; and NULL where there was a value."""
    database.sql(ALL_TYPES_SCHEMA)
    columns = ", ".join(f"c{place} {kind}" for place, (kind, *_) in enumerate(ALL_TYPES))
    values = ", ".join(value for _, value, *_ in ALL_TYPES)
    nulls = ", ".join(["NULL"] * len(ALL_TYPES))
    database.sql(f"CREATE TABLE typed (id int PRIMARY KEY, {columns})")
    copied = ", ".join(f"c{place}" for place in range(len(ALL_TYPES)))
    copy = f"INSERT INTO typed SELECT n, {copied} FROM typed, generate_series(%d, %d) AS n WHERE id = 1"
    database.sql(f"INSERT INTO typed VALUES (1, {values}), (1000, {nulls}); {copy % (2, 200)}")
    replicate(database, tmp_path, s3, copy % (201, 400), f"INSERT INTO typed VALUES (1001, {nulls})")

    report = verify(lake, [], 0)
    assert report.text().splitlines()[1:2] == ["public.typed         402  402  identical"]

    for place, (kind, *_) in enumerate(ALL_TYPES):
        other = OTHERS[kind].replace("{0}", f"c{place}")
        database.sql(f"UPDATE typed SET c{place} = {other} WHERE id IN ({place + 1}, {place + 201})")
    report = verify(lake, [], 0)
    assert found(report, "public.typed") == {"verdict": "different", "different": 2 * len(ALL_TYPES)}
    assert dict(report.tables[0].columns) == {f"c{place}": 2 for place in range(len(ALL_TYPES))}

    for place in range(len(ALL_TYPES)):
        database.sql(f"UPDATE typed SET c{place} = NULL WHERE id = {place + 101}")
    report = verify(lake, [], 0)
    is_null_in_json = [value in ("'NaN'", "'-Infinity'") for _, value, *_ in ALL_TYPES]
    expected = {f"c{place}": 2 if is_null_in_json[place] else 3 for place in range(len(ALL_TYPES))}
    assert dict(report.tables[0].columns) == expected


# Of these nobody can tell from the value what DMS has written, to the letter.
NOT_TO_THE_LETTER = {
    *("real", "double precision", "money", "bytea", "numeric(39,1)"),
    *("time", "timetz", "timestamp", "timestamptz"),
}


def test_every_type_is_compared_by_its_hash_or_said_not_to_be(
    database: Database, tmp_path: Path, s3: Any
) -> None:
    """In a row of its own each, in loads and in changes."""
    masks = ",".join(f"public.typed.c{place}=sha256" for place in range(len(ALL_TYPES)))
    key = "correct horse battery staple"
    masked = lake_of(database, tmp_path / "cache")
    masked.settings = replace(masked.settings, masked_columns=masks, mask_secret=key)
    database.sql(ALL_TYPES_SCHEMA)
    columns = ", ".join(f"c{place} {kind}" for place, (kind, *_) in enumerate(ALL_TYPES))
    values = ", ".join(value for _, value, *_ in ALL_TYPES)
    copied = ", ".join(f"c{place}" for place in range(len(ALL_TYPES)))
    copy = f"INSERT INTO typed SELECT n, {copied} FROM typed, generate_series(%d, %d) AS n WHERE id = 1"
    database.sql(
        f"CREATE TABLE typed (id int PRIMARY KEY, {columns}); INSERT INTO typed VALUES (1, {values})"
    )
    database.sql(copy % (2, 100))
    stream = Stream()
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        database.sql(copy % (201, 300))
        task.catch_up()
    records = [record(payload, 10**55 + place) for place, (_, payload) in enumerate(stream.records)]
    given = lambda_function.Settings(
        s3_bucket=BUCKET, masked_columns=masks, mask_secret=key, log_level="ERROR"
    )
    lambda_function.land({"Records": records}, given, lambda _: s3, lambda: 600.0)

    report = verify(masked, [], 0)
    passed_over = [f"c{place}" for place, (kind, *_) in enumerate(ALL_TYPES) if kind in NOT_TO_THE_LETTER]
    assert found(report, "public.typed") == {"verdict": "identical"}
    named = f"not compared: {', '.join(passed_over)}, masked with sha256, and of a type of which"
    assert report.tables[0].notes == [f"{named} DMS's text can't be told"]

    short = {**OTHERS, "numeric(20,4)": "1234567890123.78"}
    for place, (kind, *_) in enumerate(ALL_TYPES):
        other = short[kind].replace("{0}", f"c{place}")
        database.sql(f"UPDATE typed SET c{place} = {other} WHERE id IN ({place + 1}, {place + 201})")
    compared = [f"c{place}" for place in range(len(ALL_TYPES)) if f"c{place}" not in passed_over]
    assert dict(verify(masked, [], 0).tables[0].columns) == dict.fromkeys(compared, 2)


TEXT, NUMERIC = Column("note", "text", "text"), Column("owed", "numeric", "numeric")
SAME = [
    ("lob_cut_in_characters", TEXT, "ö" * 40_000, "ö" * 32_768),
    ("varchar_cut_in_bytes", Column("v", "varchar", "varchar"), "ö" * 5000, "ö" * 4000),
    ("varchar_cut_before_a_character", Column("v", "varchar", "varchar"), "a" + "ö" * 5000, "a" + "ö" * 3999),
    ("bytea_cut", Column("b", "bytea", "bytea"), "\\x" + "ab" * 70_000, "AB" * 65_536),
    ("range_cut", Column("r", "numrange", "numrange", "r"), "[" + "1" * 300, "[" + "1" * 254),
    ("numeric_cut", NUMERIC, "0.6666667", "0.666666"),
    ("numeric_rounded", NUMERIC, "0.6666667", "0.666667"),
    ("numeric_exact", NUMERIC, "0.6666667", "0.6666667"),
    ("numeric_nan", NUMERIC, "NaN", None),
    ("bigint_of_19_digits", Column("i", "bigint", "int8"), "9223372036854775807", "9223372036854775800"),
    (
        "bigint_in_scientific_notation",
        Column("i", "bigint", "int8"),
        "1234567890123456789",
        "1.2345678901234568e+18",
    ),
    ("boolean_in_letters", Column("b", "boolean", "bool"), "t", "true"),
    ("char_with_blanks", Column("c", "char(5)", "bpchar"), "B    ", "B"),
    ("infinite_date", Column("d", "date", "date"), "infinity", "9999-12-31"),
    ("time_with_zeros", Column("t", "time", "time"), "08:30:00.5", "08:30:00.500000"),
]
NOT_SAME = [
    ("lob_cut_too_early", TEXT, "ö" * 40_000, "ö" * 32_767),
    ("lob_cut_and_changed", TEXT, "ö" * 40_000, "ö" * 32_767 + "o"),
    ("varchar_cut_too_early", Column("v", "varchar", "varchar"), "a" * 9000, "a" * 7996),
    ("varchar_with_length", Column("v", "varchar(9000)", "varchar", modifier=9004), "a" * 9000, "a" * 8000),
    ("bytea_cut_too_early", Column("b", "bytea", "bytea"), "\\x" + "ab" * 70_000, "AB" * 65_535),
    ("numeric_otherwise", NUMERIC, "0.6666667", "0.666665"),
    ("numeric_no_number", NUMERIC, "0.5", "half"),
    ("numeric_nan_is_not_zero", NUMERIC, "NaN", "0"),
    ("numeric_of_null", NUMERIC, None, "0"),
    ("bigint_of_18_digits", Column("i", "bigint", "int8"), "123456789012345678", "123456789012345679"),
    ("boolean", Column("b", "boolean", "bool"), "t", "false"),
    ("empty_is_not_null", TEXT, "", None),
    ("null_is_not_empty", TEXT, None, ""),
    ("before_christ", Column("d", "date", "date"), "0044-03-15 BC", "0044-03-15"),
    ("zone", Column("t", "timetz", "timetz"), "08:30:00+02", "08:30:00+03"),
    ("no_date", Column("d", "date", "date"), "2018-01-02", ""),
]


@pytest.mark.parametrize(
    ("column", "source", "landed"), [case[1:] for case in SAME], ids=[case[0] for case in SAME]
)
def test_texts_of_one_value_are_the_same(column: Column, source: str | None, landed: str | None) -> None:
    assert form_of(column, 64).is_same(source, landed)


@pytest.mark.parametrize(
    ("column", "source", "landed"), [case[1:] for case in NOT_SAME], ids=[case[0] for case in NOT_SAME]
)
def test_texts_of_two_values_are_not(column: Column, source: str | None, landed: str | None) -> None:
    assert not form_of(column, 64).is_same(source, landed)


HASHED = [
    ("number", Column("n", "numeric(12,2)", "numeric", modifier=786438), "46.50", "46.5"),
    ("whole_number", Column("n", "numeric(12,2)", "numeric", modifier=786438), "-1200.00", "-1200"),
    ("zero", Column("n", "numeric(12,2)", "numeric", modifier=786438), "0.00", "0"),
    ("nan", NUMERIC, "NaN", None),
    ("six_decimals", NUMERIC, "0.666666", "0.666666"),
    ("seven_decimals", NUMERIC, "0.6666667", UNSURE),
    ("fifteen_digits", NUMERIC, "123456789012345", "123456789012345"),
    ("sixteen_digits", NUMERIC, "1234567890123456", UNSURE),
    ("eighteen_digits", Column("i", "bigint", "int8"), "-123456789012345678", "-123456789012345678"),
    ("nineteen_digits", Column("i", "bigint", "int8"), "1234567890123456789", UNSURE),
    ("day", Column("d", "date", "date"), "2026-03-01", "2026-03-01"),
    ("day_before_christ", Column("d", "date", "date"), "0044-03-15 BC", UNSURE),
    ("varchar_of_7996_bytes", Column("v", "varchar", "varchar"), "ö" * 3998, "ö" * 3998),
    ("varchar_of_7998_bytes", Column("v", "varchar", "varchar"), "ö" * 3999, UNSURE),
    ("question_mark", TEXT, "?", "?"),
]


@pytest.mark.parametrize(
    ("column", "source", "hashed"), [case[1:] for case in HASHED], ids=[case[0] for case in HASHED]
)
def test_the_text_that_was_hashed_is_told_from_the_value(
    column: Column, source: str, hashed: str | None
) -> None:
    form = hashed_form_of(column, 64)
    assert form is not None and form.canonical is not None
    assert form.canonical(source) == hashed


# Planted faults -------------------------------------------------------------------------------------------


def rewrite(s3: Any, table: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Changes the rows of the table's only object."""
    (one,) = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"changes/public/{table}/")["Contents"]
    with s3.get_object(Bucket=BUCKET, Key=one["Key"])["Body"] as body:
        rows = [json.loads(line) for line in gzip.decompress(body.read()).splitlines()]
    lines = "".join(json.dumps(row) + "\n" for row in change(rows))
    s3.put_object(Bucket=BUCKET, Key=one["Key"], Body=gzip.compress(lines.encode()))


def without(place: int) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda rows: rows[:place] + rows[place + 1 :]


def with_copy(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*rows, rows[-1] | {"id": 99, "cdc_sequence_number": "9" * 56, "cdc_transaction_record_id": 7}]


def swapped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {1: rows[1]["name"], 2: rows[0]["name"]}
    return [row | {"name": names.get(row["id"], row["name"])} for row in rows]


def renamed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"name": "Adà"} if row["id"] == 1 else row for row in rows]


@pytest.mark.parametrize(
    ("plant", "faults", "columns"),
    [
        (without(0), {"missing": 1}, {}),
        (with_copy, {"extra": 1}, {}),
        (without(4), {"different": 1}, {"name": 1}),
        (without(5), {"extra": 1}, {}),
        (renamed, {"different": 1}, {"name": 1}),
        (swapped, {"different": 2}, {"name": 2}),
    ],
    ids=["missing", "extra", "stale", "not_deleted", "changed_value", "swapped_pair"],
)
def test_what_is_planted_in_s3_is_found_and_named(
    database: Database, lake: Lake, tmp_path: Path, s3: Any, plant: Any, faults: Any, columns: Any
) -> None:
    database.sql(CLIENT)
    update, delete = "UPDATE client SET name = 'Linn' WHERE id = 3", "DELETE FROM client WHERE id = 4"
    stream = replicate(database, tmp_path, s3, update, delete, "INSERT INTO client VALUES (5, 'Zoe', 'a')")
    assert stream.operations_of("public.client")[-7:] == [*["load"] * 4, "update", "delete", "insert"]
    assert found(verify(lake, [], 0)) == {"verdict": "identical"}

    rewrite(s3, "client", plant)

    report = verify(lake, ["client"], 0)
    assert found(report) == {"verdict": "different", **faults}
    assert dict(report.tables[0].columns) == columns
    assert report.exit_code == 1


def test_values_are_shown_only_when_asked_for(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3)
    database.sql("UPDATE client SET name = 'Adele' WHERE id = 1; DELETE FROM client WHERE id = 3")
    database.sql("INSERT INTO client VALUES (7654321, 'Zoe', 'a')")

    plain, full = verify(lake, [], 0), verify(lake, [], 0, shows_values=True)

    assert not re.search("Ad|Lin|7654321|Zoe", plain.text() + json.dumps(plain.as_dict()["tables"]))
    assert sorted(line.strip() for line in full.text().splitlines() if ": id=" in line) == [
        "different: id='1'; name 'Adele' in S3 'Ada'",
        "extra: id='3'",
        "missing: id='7654321'",
    ]
    (table,) = full.as_dict()["tables"]
    assert {"kind": "extra", "key": {"id": "3"}, "values": {}} in table["examples"]


def test_the_text_of_a_report(database: Database, lake: Lake, tmp_path: Path, s3: Any) -> None:
    database.sql(CLIENT + "; CREATE TABLE audit (id int PRIMARY KEY); INSERT INTO audit VALUES (1)")
    replicate(database, tmp_path, s3)
    database.sql("UPDATE client SET name = 'Adele', note = 'q' WHERE id < 3; DELETE FROM client WHERE id = 3")

    text = verify(lake, [], 0).text()

    assert re.sub(r"[0-9-]+ [0-9:]+ UTC", "NOW", text) == (
        "table          PostgreSQL  S3\n"
        "public.audit            1   1  identical\n"
        "public.client           3   4  different: 1 only in S3, 2 different (name 2, note 2)\n"
        "  nothing of it has landed since: python setup_dms.py status says whether the chain runs\n"
        "different: of 2 tables at NOW, 1 different, 1 identical"
    )


def test_a_report_can_be_kept(database: Database, lake: Lake, tmp_path: Path, s3: Any) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3)

    document = verify(lake, [], 0).as_dict()

    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[0-9:.]+Z", document.pop("verified_at"))
    assert re.fullmatch(r"\d+:\d+:[0-9,]*", document["tables"][0].pop("snapshot"))
    assert document.pop("seconds") >= 0
    assert document == {
        "verdict": "identical",
        "source": f"database '{database.name}' on 127.0.0.1:{database.parameters['port']} as 'postgres'",
        "lake": "s3://landing/",
        "notes": [],
        "tables": [
            {
                "table": "public.client",
                "verdict": "identical",
                "source_rows": 4,
                "s3_rows": 4,
                "missing": 0,
                "extra": 0,
                "different": 0,
                "different_columns": {},
                "left_out_values": 0,
                "unsure_values": 0,
                "why_unknown": [],
                "notes": [],
                "examples": [],
            }
        ],
    }


@pytest.mark.parametrize(
    "later", ["", "INSERT INTO client VALUES (5, 'Zoe', NULL)"], ids=["empty", "refilled"]
)
def test_a_truncate_is_named(database: Database, lake: Lake, tmp_path: Path, s3: Any, later: str) -> None:
    database.sql(CLIENT)
    replicate(
        database,
        tmp_path,
        s3,
        "UPDATE client SET name = 'Bo' WHERE id = 2",
        "TRUNCATE client",
        later or "SELECT",
    )

    report = verify(lake, [], 0)

    assert found(report) == {"verdict": "different", "extra": 4}
    assert report.tables[0].notes == [
        "all that is only in S3 is older than the rest, as after a TRUNCATE, which DMS does not capture"
    ]


def test_only_what_waits_in_quarantine_may_be_what_is_missing(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    database.sql(CLIENT)
    stream = replicate(database, tmp_path, s3)
    land_all = Landing(stream, s3)
    land_all.count = len(stream.records)
    stream.records += [("poison", b"{"), ("poison", b"[")]
    land_all.land()
    database.sql("DELETE FROM client WHERE id = 1")

    note = "in quarantine, 2 records, may be what is not there: python lake.py failed list"
    assert verify(lake, [], 0).notes == [note]

    (one,) = lake.objects(QUARANTINE)
    marked = f"redriven/{one.key}/{one.etag}"
    lake.put(f"{marked}.2-of-2.jsonl.gz", gzip.compress(b""))
    report = verify(lake, [], 0)
    assert (report.verdict, report.notes) == ("different", [])


def test_a_quarantine_that_can_not_be_read_keeps_nothing_from_being_told(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3)
    lake.put(f"{QUARANTINE}other.txt", b"no gzip")
    database.sql("DELETE FROM client WHERE id = 1")

    report = verify(lake, [], 0)

    assert found(report) == {"verdict": "different", "extra": 1}
    assert f"cannot read {QUARANTINE}other.txt as quarantined records" in report.notes[0]


def test_many_differences_are_counted(database: Database, lake: Lake, tmp_path: Path, s3: Any) -> None:
    """More than are asked for one by one."""
    rows = 2 * SUSPECTS
    database.sql("CREATE TABLE client (id int PRIMARY KEY, name text)")
    database.sql(f"INSERT INTO client SELECT id, 'a' FROM generate_series(1, {rows}) AS id")
    replicate(database, tmp_path, s3)
    database.sql(
        "UPDATE client SET name = 'b' WHERE id % 4 <> 0; UPDATE client SET id = -id WHERE id % 4 = 0"
    )

    assert found(verify(lake, [], 0)) == {
        "verdict": "different",
        "different": rows * 3 // 4,
        "missing": rows // 4,
        "extra": rows // 4,
    }


def test_large_tables_are_not_all_kept_in_memory(
    database: Database, lake: Lake, tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of one is let go before the next, and read again when it is needed."""
    monkeypatch.setattr("lake_tools.verify.OPEN_BYTES", 0)
    database.sql(
        CLIENT + "; CREATE TABLE audit (id int PRIMARY KEY, name text); INSERT INTO audit VALUES (1)"
    )
    landing = replicated_later(database, tmp_path, s3, "UPDATE audit SET name = 'b'", "DELETE FROM client")
    database.sql("INSERT INTO client VALUES (7, 'Bo', NULL)")
    opened: list[Landed] = []

    def open_one(landed: Landed, *, opens: Any = Landed.open) -> None:
        assert all(other is landed or other.connection is None for other in opened)
        opened.append(landed)
        opens(landed)

    monkeypatch.setattr(Landed, "open", open_one)
    report = verify(lake, [], 0.5, pause=Pause(landing.land))

    assert found(report, "public.audit") == {"verdict": "identical"}
    assert found(report) == {"verdict": "different", "missing": 1}


# What is on its way ---------------------------------------------------------------------------------------


class Landing:
    """Lands what is on a stream a part at a time, as a mapping that polls does."""

    def __init__(self, stream: Stream, s3: Any) -> None:
        self.stream, self.s3, self.count = stream, s3, 0

    def land(self, count: int | None = None) -> None:
        """So many records, None: all that are there, in a batch."""
        end = len(self.stream.records) if count is None else self.count + count
        payloads = [payload for _, payload in self.stream.records[self.count : end]]
        records = [record(payload, 10**55 + self.count + place) for place, payload in enumerate(payloads)]
        if records:
            settings = lambda_function.Settings(s3_bucket=BUCKET, log_level="ERROR")
            lambda_function.land({"Records": records}, settings, lambda _: self.s3, lambda: 600.0)
        self.count = end


class Pause:
    """In place of sleeping: does one thing each time, then nothing."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)
        self.count = 0

    def __call__(self, seconds: float) -> None:
        self.count += 1
        if self.steps:
            self.steps.pop(0)()
        else:
            threading.Event().wait(min(seconds, 0.05))


def replicated_later(database: Database, folder: Path, s3: Any, *changes: str) -> Landing:
    """The load has landed, changes are on the stream."""
    stream = Stream()
    landing = Landing(stream, s3)
    with played(task_configuration(database.parameters), folder, stream) as task:
        task.wait_until_running()
        task.catch_up()
        landing.land()
        for one in changes:
            database.sql(one)
        task.catch_up()
    return landing


UPDATES = [f"UPDATE client SET name = 'name {version}' WHERE id = 1" for version in range(21)]


def test_what_is_on_its_way_is_waited_for(database: Database, lake: Lake, tmp_path: Path, s3: Any) -> None:
    """Also when it comes in pieces."""
    database.sql(CLIENT)
    landing = replicated_later(database, tmp_path, s3, *UPDATES)
    pause = Pause(*[lambda: landing.land(7)] * 2, landing.land)

    report = verify(lake, [], 30, pause=pause)

    assert found(report) == {"verdict": "identical"}
    assert (pause.count, landing.count) == (3, len(landing.stream.records))


def test_a_database_that_rests_is_not_waited_for_longer(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3)
    database.sql("UPDATE client SET name = 'Adele' WHERE id = 1")

    report = verify(lake, [], 0.5, pause=Pause())

    assert found(report) == {"verdict": "different", "different": 1}
    assert 0.5 <= report.seconds < 10


def test_identical_tables_are_not_waited_for(database: Database, lake: Lake, tmp_path: Path, s3: Any) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3)
    assert found(verify(lake, [], 3600, pause=lambda seconds: pytest.fail("paused"))) == {
        "verdict": "identical"
    }


def test_s3_that_is_behind_at_the_deadline_tells_nothing(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    """Rows still come, and they are older than the snapshot."""
    database.sql(CLIENT)
    landing = replicated_later(database, tmp_path, s3, *UPDATES)

    def land_one() -> None:
        landing.land(1)
        threading.Event().wait(0.05)

    report = verify(lake, [], 1.0, pause=Pause(*[land_one] * 20))

    assert landing.count < len(landing.stream.records)
    assert found(report) == {
        "verdict": "unknown",
        "why": ["S3 is not yet where the database was: give it a longer --deadline"],
    }
    assert report.exit_code == 2
    assert verify(lake, [], 30, pause=Pause(landing.land)).exit_code == 0


def test_a_row_that_is_changed_again_and_again_can_not_be_judged(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3)
    database.sql("UPDATE client SET name = 'Adele' WHERE id = 1")
    again = Pause(lambda: database.sql("UPDATE client SET name = 'Ida' WHERE id = 1"))

    assert found(verify(lake, [], 0.1, pause=again)) == {
        "verdict": "unknown",
        "why": ["1 row changed again before it could be judged"],
    }


def test_a_load_that_comes_meanwhile_is_no_difference(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    """It has seen what the snapshot of verify has not; while it comes, nothing can be told."""
    database.sql(CLIENT)
    stream = Stream()
    landing = Landing(stream, s3)
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        task.catch_up()
        landing.land()
        database.sql("UPDATE client SET name = 'on its way' WHERE id = 1")

        def load() -> None:
            database.sql("DELETE FROM client WHERE id = 3; UPDATE client SET name = 'loaded' WHERE id = 2")
            task.reload("public", "client")
            landing.land()

        first = verify(lake, [], 1.0, pause=Pause(load))
        second = verify(lake, [], 1.0, pause=Pause())

    assert found(first)["verdict"] in ("identical", "unknown")
    assert found(second) == {"verdict": "identical"}


@pytest.mark.parametrize("key", ["PRIMARY KEY", ""], ids=["key", "no_key"])
def test_the_record_of_a_drop_is_waited_for(
    database: Database, lake: Lake, tmp_path: Path, s3: Any, key: str
) -> None:
    """Until it has landed, the rows of the load before are there too."""
    database.sql(f"CREATE TABLE client (id int {key}, name varchar(9)); INSERT INTO client VALUES (1, 'Ada')")
    stream = Stream()
    drops = {"FullLoadSettings.TargetTablePrepMode": "DROP_AND_CREATE"}
    with played(task_configuration(database.parameters, settings=drops), tmp_path, stream) as task:
        task.wait_until_running()
        task.catch_up()
        database.sql("TRUNCATE client")
        task.reload("public", "client")
    assert stream.operations_of("public.client").count("drop-table") == 2
    land(stream, s3)
    kept = [(one.key, lake.get(one.key)) for one in lake.objects(CONTROL)]
    for name, _ in kept:
        s3.delete_object(Bucket=BUCKET, Key=name)

    def land_control() -> None:
        for name, body in kept:
            s3.put_object(Bucket=BUCKET, Key=name, Body=body)

    assert found(verify(lake, [], 0)) != {"verdict": "identical"}
    pause = Pause(land_control)
    assert found(verify(lake, [], 30, pause=pause)) == {"verdict": "identical"}
    assert pause.count == 1


def test_a_change_that_the_snapshot_does_not_show_is_left_out_of_it(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    """It has landed before verify reads S3; one that was begun before it and committed after, too."""
    database.sql(CLIENT)
    stream = Stream()
    landing = Landing(stream, s3)
    early = psycopg2.connect(**database.parameters)
    early.cursor().execute("UPDATE client SET name = 'early' WHERE id = 1")
    with played(task_configuration(database.parameters), tmp_path, stream) as task:
        task.wait(lambda: task.task.source is not None, "the task")
        early.commit()
        task.wait_until_running()
        begun = early.cursor()
        begun.execute("UPDATE client SET note = 'begun' WHERE id = 2")
        with open_source(lake.connect_parameters()) as source:
            early.commit()
            database.sql("DELETE FROM client WHERE id = 4; INSERT INTO client VALUES (5, 'Zoe', NULL)")
            task.catch_up()
            landing.land()
            (table,) = source.tables(64)
            with Landed(lake, table) as landed:
                check = TableCheck(table, landed, tmp_path / "differences")
                assert check.is_identical(source)
                assert check.report.source_rows == check.report.landed_rows == 4
    early.close()
    assert found(verify(lake, [], 0)) == {"verdict": "identical"}


NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
XMAX = (7 << 32) + 100  # of the eighth round of ids


@pytest.mark.parametrize(
    ("operation", "xid", "minutes_ago", "is_shown"),
    [
        ("insert", 80, 1, True),
        ("insert", 95, 1, False),
        ("insert", 99, 1, True),
        ("insert", 100, -1, False),
        ("insert", 101, 1, False),
        ("insert", (1 << 32) - 5, 1, True),
        ("insert", 1 << 30, 1, False),
        ("insert", 1 << 30, 60 * 24 + 1, True),
        ("insert", None, 1, True),
        ("insert", None, -1, False),
        ("load", None, None, True),
    ],
    ids=[
        *(
            "before",
            "running",
            "committed_meanwhile",
            "later",
            "committed_before_it_shows",
            "of_the_round_before",
        ),
        *("ahead", "old", "without_id", "without_id_later", "load"),
    ],
)
def test_what_a_snapshot_shows(
    operation: str, xid: int | None, minutes_ago: int | None, is_shown: bool
) -> None:
    snapshot = Snapshot.of(f"{XMAX - 10}:{XMAX}:{XMAX - 5}", NOW)
    at = None if minutes_ago is None else (NOW - timedelta(minutes=minutes_ago)).isoformat()
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE row AS SELECT $1::VARCHAR AS cdc_operation, $2::BIGINT AS cdc_transaction_id,"
            " $3::TIMESTAMPTZ AS cdc_committed_at",
            [operation, xid, at],
        )
        assert connection.execute(f"SELECT {snapshot.shows} FROM row").fetchall() == [(is_shown,)]


TABLES = [
    HistoryTable("public.account", "id", {"name": "varchar(80)", "owed": "numeric(12,2)", "note": "text"}),
    HistoryTable("public.entry", "id", {"paid_on": "date", "seen": "timestamptz", "big": "bigint"}),
]
SCHEMA = """
CREATE TABLE account (id int PRIMARY KEY, name varchar(80), owed numeric(12,2), note text);
CREATE TABLE entry (id int PRIMARY KEY, paid_on date, seen timestamptz, big bigint);
ALTER TABLE account ALTER note SET STORAGE EXTERNAL;
"""


@contextmanager
def running(work: Callable[[], object]) -> Iterator[None]:
    """Does the work again and again until the end of the block."""
    ended, failed = threading.Event(), list[Exception]()

    def repeat() -> None:
        try:
            while not ended.is_set():
                work()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not failed, failed


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + RUNS))
def test_writers_make_no_false_alarm(
    database: Database, lake: Lake, tmp_path: Path, s3: Any, seed: int
) -> None:
    """Random histories, landed a little later and in random parts, a table loaded again meanwhile."""
    database.sql(SCHEMA)
    source = random.Random(seed)
    transactions = history(TABLES, source)
    run_history(database.parameters, transactions, 20)
    stream = Stream()
    landing = Landing(stream, s3)
    reading = source.choice(["change-first", "commit-first"])
    verdicts: list[str] = []

    def land_some() -> None:
        threading.Event().wait(0.02)
        landing.land(source.randint(0, len(stream.records) - landing.count))

    with played(task_configuration(database.parameters), tmp_path, stream, reading=reading) as task:
        task.wait_until_running()
        with running(land_some), running(lambda: run_history(database.parameters, transactions, 5)):
            for attempt in range(3):
                report = verify(lake, [], 20, pause=Pause())
                verdicts += [one.verdict for one in report.tables]
                assert report.verdict != "different", report.text()
                if attempt == 0 and seed % 2:
                    task.reload("public", "account")
        task.catch_up()
        landing.land()
        assert verify(lake, [], 0).exit_code == 0
    assert verdicts.count("identical") > len(verdicts) // 2, verdicts
    assert plant(database, source) == found(verify(lake, [], 0), "public.account")


def plant(database: Database, source: random.Random) -> dict[str, Any]:
    """One row each that is missing, extra and different, where there are rows."""
    keys = [key for (key,) in database.sql("SELECT id FROM account").fetchall()]
    gone, changed = [*source.sample(keys, min(2, len(keys))), None, None][:2]
    database.sql("INSERT INTO account VALUES (999, 'Zoe', 1, 'a')")
    database.sql("DELETE FROM account WHERE id = %s", (gone,))
    database.sql("UPDATE account SET owed = coalesce(owed, 0) + 0.01 WHERE id = %s", (changed,))
    counts = {"missing": 1, "extra": int(gone is not None), "different": int(changed is not None)}
    return {"verdict": "different"} | {kind: count for kind, count in counts.items() if count}


# Tables that are not like the others ----------------------------------------------------------------------


def test_a_table_without_primary_key_is_compared_by_counts_and_sums(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    """DMS sends its loads and inserts; of a row that is changed or gone, nothing."""
    database.sql(
        "CREATE TABLE client (id int, name varchar(80)); INSERT INTO client VALUES (1, 'a'), (1, 'a')"
    )
    replicate(database, tmp_path, s3, "INSERT INTO client VALUES (1, 'a'), (2, 'b')")
    assert verify(lake, [], 0).text().splitlines()[1] == "public.client           4   4  identical"

    database.sql("UPDATE client SET name = 'c' WHERE id = 2")
    report = verify(lake, [], 0)
    assert found(report) == {
        "verdict": "unknown",
        "why": [
            "it has no primary key, so DMS sends no UPDATE or DELETE of it,"
            " and S3 has as many rows, but others"
        ],
    }
    assert report.exit_code == 2

    database.sql("INSERT INTO client VALUES (3, 'c')")
    assert found(verify(lake, [], 0)) == {"verdict": "different", "missing": 1}

    database.sql("DELETE FROM client WHERE id < 3")
    report = verify(lake, [], 0)
    assert found(report) == {
        "verdict": "unknown",
        "why": ["it has no primary key, so DMS sends no DELETE of it, and S3 has more rows"],
    }
    assert report.exit_code == 2


@pytest.mark.parametrize(
    ("rows", "landed", "is_identical"),
    [
        ("(1, 'a'), (2, 'b')", [{"id": 2, "name": "b"}, {"id": 1, "name": "a"}], True),
        ("(1, 'a'), (1, 'a'), (2, 'b')", [{"name": "b", "id": 2}, *[{"id": 1, "name": "a"}] * 2], True),
        ("(1, 'a'), (1, 'a'), (2, 'b')", [{"id": 1, "name": "a"}, *[{"id": 2, "name": "b"}] * 2], False),
        ("(1, 'a'), (2, 'b')", [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}], False),
        ("(1, NULL)", [{"id": 1, "name": ""}], False),
    ],
    ids=["another_order", "copies", "other_copies", "swapped_values", "null"],
)
def test_rows_without_primary_key_are_the_same_in_whatever_order(
    database: Database, lake: Lake, tmp_path: Path, s3: Any, rows: str, landed: Any, is_identical: bool
) -> None:
    database.sql(f"CREATE TABLE client (id int, name varchar(80)); INSERT INTO client VALUES {rows}")
    replicate(database, tmp_path, s3)

    rewrite(s3, "client", lambda old: [row | new for row, new in zip(old, landed, strict=True)])

    assert verify(lake, [], 0).verdict == ("identical" if is_identical else "unknown")


def test_rows_of_which_no_column_is_sent_can_not_be_told(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    database.sql("CREATE TABLE client (note text); INSERT INTO client VALUES ('a'), ('b')")
    replicate(database, tmp_path, s3)

    report = verify(lake, [], 0)

    assert (found(report)["verdict"], report.exit_code) == ("unknown", 2)
    assert found(report)["why"][0].startswith("it has no primary key")
    database.sql("TRUNCATE client")
    assert found(verify(lake, [], 0))["verdict"] == "unknown"


def test_a_table_of_which_nothing_has_landed(database: Database, lake: Lake) -> None:
    """An empty one is identical."""
    database.sql(CLIENT + "; CREATE TABLE audit (id int PRIMARY KEY)")

    report = verify(lake, [], 0)

    assert found(report, "public.audit") == {"verdict": "identical"}
    assert found(report) == {"verdict": "different", "missing": 4}
    assert report.tables[1].notes == [
        "nothing of it has landed: python setup_dms.py status says whether the task loads it"
    ]


def test_a_table_that_dms_suspends(database: Database, lake: Lake, tmp_path: Path, s3: Any) -> None:
    database.sql("CREATE TABLE client (id text PRIMARY KEY); INSERT INTO client VALUES ('a')")
    replicate(database, tmp_path, s3)

    report = verify(lake, [], 0)

    assert found(report) == {"verdict": "different", "missing": 1}
    assert report.tables[0].notes[0] == "a large column, id, is in its primary key: DMS suspends such a table"


def test_a_selection_of_no_table_is_named(database: Database, lake: Lake) -> None:
    database.sql(CLIENT)
    lake.settings = replace(lake.settings, tables="sales.%")

    report = verify(lake, [], 0)

    assert report.text().splitlines()[1] == (
        "TABLES=sales.% selects no table of the database or of S3: correct it, or name tables"
    )
    assert report.exit_code == 2


def test_a_table_that_is_gone_from_the_database(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3, "ALTER TABLE client RENAME TO customer")

    report = verify(lake, ["client"], 0)

    assert report.text().splitlines()[1] == (
        "public.client           -   -  unknown: nothing of it is in the database: dropped, renamed, or of"
        " another database"
    )
    assert report.exit_code == 2


def test_a_name_with_a_dot_is_written_as_it_has_to_be_given(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    database.sql('CREATE TABLE "Order.Line" (id int PRIMARY KEY); INSERT INTO "Order.Line" VALUES (1)')
    replicate(database, tmp_path, s3, 'ALTER TABLE "Order.Line" RENAME TO line')

    (gone,) = verify(lake, ['public."Order.Line"'], 0).tables

    assert (gone.table, gone.verdict) == ('public."Order.Line"', "unknown")


def test_a_table_that_may_not_be_read_does_not_keep_the_others_from_it(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    database.sql(CLIENT + "; CREATE TABLE audit (id int PRIMARY KEY)")
    replicate(database, tmp_path, s3)
    role = f"reader_{database.name}"
    database.sql(f"CREATE ROLE {role} LOGIN; GRANT SELECT ON client TO {role}")
    reader = Lake(replace(lake.settings, pguser=role), shared_session(), lake.cache)

    report = verify(reader, [], 0)

    where = f"database '{database.name}' on 127.0.0.1:{database.parameters['port']} as '{role}'"
    why = f"could not read public.audit of {where}: permission denied: GRANT SELECT on it"
    assert found(report, "public.audit") == {"verdict": "unknown", "why": [why]}
    assert found(report) == {"verdict": "identical"}


def test_what_dms_does_not_carry_is_not_compared(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    """Generated columns. Names in capitals, with quotes and dots, that differ only by case, are as others."""
    database.sql(
        """
        CREATE TABLE "Order.Line" (
            "a ""key"" of" int, "Part" varchar(9), part text, "per%cent" int, "{0}" text,
            twice int GENERATED ALWAYS AS ("per%cent" * 2) STORED, PRIMARY KEY ("a ""key"" of", "Part")
        );
        INSERT INTO "Order.Line" VALUES (1, 'a|b', 'A', 50, 'x'), (2, 'a', '|-', NULL, NULL)
        """
    )
    insert = """INSERT INTO "Order.Line" VALUES (3, 'ä', 'B', 1, '')"""
    replicate(database, tmp_path, s3, insert, """UPDATE "Order.Line" SET "Part" = 'c' WHERE part = 'A'""")
    assert verify(lake, ["Order.Line"], 0).verdict == "identical"

    database.sql("""UPDATE "Order.Line" SET part = '|', "{0}" = '' WHERE part = '|-'""")
    assert dict(verify(lake, [], 0).tables[0].columns) == {"part": 1, "{0}": 1}


def test_a_database_in_another_encoding(server: Server, s3: Any, tmp_path: Path) -> None:
    database = Database(server, "ENCODING 'LATIN1' LOCALE 'C'")
    try:
        database.sql("CREATE TABLE client (id varchar(9) PRIMARY KEY, name varchar(80))")
        database.sql("INSERT INTO client VALUES ('é', 'Zoé'), ('ü', 'ÿ')")
        replicate(database, tmp_path, s3)
        lake = lake_of(database, tmp_path / "cache")

        assert found(verify(lake, [], 0)) == {"verdict": "identical"}
        database.sql("UPDATE client SET name = 'Zoè' WHERE id = 'é'")
        assert found(verify(lake, [], 0)) == {"verdict": "different", "different": 1}
    finally:
        database.close()


def test_partitions_are_tables_of_their_own(database: Database, lake: Lake, tmp_path: Path, s3: Any) -> None:
    database.sql(
        """
        CREATE TABLE entry (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE entry_1 PARTITION OF entry FOR VALUES FROM (0) TO (10);
        CREATE TABLE entry_2 PARTITION OF entry FOR VALUES FROM (10) TO (20);
        INSERT INTO entry VALUES (1), (11), (12)
        """
    )
    replicate(database, tmp_path, s3, "INSERT INTO entry VALUES (2)")

    assert [line.split() for line in verify(lake, [], 0).text().splitlines()[1:3]] == [
        ["public.entry_1", "2", "2", "identical"],
        ["public.entry_2", "2", "2", "identical"],
    ]


def test_a_large_value_that_an_update_came_without_may_have_become_null(
    database: Database, lake: Lake, tmp_path: Path, s3: Any
) -> None:
    """Null says NULL as well as nothing; a value that S3 should know is compared."""
    database.sql(CLIENT)
    changes = [
        "UPDATE client SET note = NULL WHERE id = 1",
        "UPDATE client SET id = 9, name = 'moved' WHERE id = 3",
        "UPDATE client SET note = NULL WHERE id = 9",
    ]
    replicate(database, tmp_path, s3, *changes)

    report = verify(lake, [], 0)
    assert found(report) == {"verdict": "identical"}
    assert report.tables[0].left_out == 2
    assert "2 values of large columns that updates may not carry: not compared" in report.text()

    database.sql("UPDATE client SET note = NULL WHERE id = 4; UPDATE client SET note = 'q' WHERE id = 9")
    assert found(verify(lake, [], 0)) == {"verdict": "different", "different": 2}


# The command ----------------------------------------------------------------------------------------------


@pytest.fixture
def environment(lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for key in ("S3_BUCKET", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSSLMODE"):
        monkeypatch.setenv(key, str(getattr(lake.settings, key.lower())))


@pytest.mark.usefixtures("environment")
def test_the_command_says_it_in_text_in_json_and_in_its_exit_code(
    database: Database, tmp_path: Path, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3)
    assert main(["verify", "--cache", "cache"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "public.client           4   4  identical"

    database.sql("DELETE FROM client WHERE id = 1")
    assert main(["verify", "client", "--deadline", "0", "--json", "--cache", "cache"]) == 1
    assert json.loads(capsys.readouterr().out)["tables"][0]["extra"] == 1


@pytest.mark.usefixtures("environment")
def test_the_command_fails_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database: Database
) -> None:
    database.sql(CLIENT)
    assert main(["verify", "clients"]) == 2
    assert capsys.readouterr().err == (
        "error: there is no table clients: neither in the database nor in S3: did you mean public.client?\n"
    )
    with pytest.raises(SystemExit) as exit_:
        main(["verify", "--deadline", "-1"])
    assert exit_.value.code == 2
    monkeypatch.setenv("S3_BUCKET", "nowhere")
    assert main(["verify"]) == 2
    assert "NoSuchBucket" in capsys.readouterr().err
