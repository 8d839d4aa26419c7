"""The proof: every planted fault is found and named, and what came twice is no fault."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any
from zlib import crc32

import msgspec
import pytest
from conftest import BUCKET
from events import compact, envelope, event
from histories import history, run_history
from test_workload import AUDIT, HISTORY, HISTORY_TABLES, ask

from local_run.evidence import (
    OF_LANDING,
    OF_SOURCE,
    LandedRow,
    SourceTable,
    comparable,
    count_quarantined,
    read_drops,
    read_landing,
    read_source,
)
from local_run.postgres import Server, start_postgres
from local_run.proof import Verdict, judge, prove

DIGITS = "12345678901234567890123456789012345678."
CLIENT = SourceTable(
    {"id": "integer", "name": "character varying(80)", "note": "text"},
    ("id",),
    {(1,): (1, "Ada", "x"), (2,): (2, "Lin", None)},
)


def landed(
    operation: str, values: dict[str, Any], minute: int, *, before: dict[str, Any] | None = None, **more: Any
) -> LandedRow:
    """A row that was committed and published in that minute, under a sequence number of its own."""
    at = f"2026-03-01T09:{minute:02}:00.000000Z"
    is_load = operation == "load"
    fields = {
        "table": "public.client",
        "values": values,
        "operation": operation,
        "committed_at": None if is_load else at,
        "published_at": at,
        "transaction_id": None if is_load else 5000 + minute,
        "record_id": None if is_load else 1,
        "position": None if is_load else f"00000000/{minute:08X}.1.00000000/{minute:08X}",
        "lsn": None if is_load else minute,
        "shard_id": "shardId-000000000000",
        "sequence_number": f"{minute:056}",
        "before": before,
    }
    return LandedRow(**{**fields, **more})


# Ada was loaded; Lin was inserted, and changed twice; Bob came and went.
HISTORY_OF_CLIENT = [
    landed("load", {"id": 1, "name": "Ada", "note": "x"}, 1),
    landed("insert", {"id": 2, "name": "L.", "note": None}, 2),
    landed("insert", {"id": 3, "name": "Bob", "note": None}, 3),
    landed("update", {"id": 2, "name": "Li", "note": None}, 4, before={}),
    landed("delete", {"id": 3, "name": None, "note": None}, 5),
    landed("update", {"id": 2, "name": "Lin", "note": None}, 6, before={}),
]
COMMITTED = {"public.client": {"insert": 2, "update": 2, "delete": 1}}
LOADED = {"public.client": 1}


def judge_client(
    rows: Sequence[LandedRow], drops: Sequence[str] = (), table: SourceTable = CLIENT
) -> Verdict:
    return judge(rows, {"public.client": drops}, {"public.client": table})


def with_fields(row: LandedRow, **fields: Any) -> LandedRow:
    return msgspec.structs.replace(row, **fields)


# Verdicts ------------------------------------------------------------------------------------------------


def test_a_verdict_is_exact_when_counts_and_state_agree() -> None:
    verdict = judge(
        reversed(HISTORY_OF_CLIENT), {}, {"public.client": CLIENT}, committed=COMMITTED, loaded=LOADED
    )

    assert verdict.is_exact
    assert verdict.text() == (
        "exact: what was committed is in S3\n"
        "landed: 5 changes, 1 loaded rows\n"
        "more than once: 0 by Kinesis; sent again by DMS: none"
    )


@pytest.mark.parametrize(
    ("plant", "faults"),
    [
        (lambda rows: rows[1:], ["load lost: 1", "rows missing: 1"]),
        (lambda rows: rows[:5], ["update lost: 1", "rows different: 1"]),
        (lambda rows: rows[:4] + rows[5:], ["delete lost: 1", "rows extra: 1"]),
        (lambda rows: rows[:3] + rows[4:], ["update lost: 1"]),
        (
            lambda rows: [*rows, landed("insert", {"id": 4, "name": "Eve", "note": None}, 7)],
            ["insert too many: 1", "rows extra: 1"],
        ),
        (
            lambda rows: [*rows[:5], with_fields(rows[5], values={"id": 2, "name": "Lim", "note": None})],
            ["rows different: 1"],
        ),
        (
            lambda rows: [with_fields(rows[0], values={"id": 1, "name": "Ada", "note": "y"}), *rows[1:]],
            ["rows different: 1"],
        ),
        (
            lambda rows: [*rows[:5], with_fields(rows[5], committed_at=rows[2].committed_at)],
            ["rows different: 1"],
        ),
        (
            lambda rows: [*rows[:2], with_fields(rows[2], table="public.clients"), *rows[3:]],
            ["insert lost: 1", "public.clients: insert too many: 1"],
        ),
    ],
    ids=[
        *("lost_load", "stale", "lost_delete", "lost_between", "extra", "changed_value", "changed_load"),
        *("wrong_order", "wrong_table"),
    ],
)
def test_a_planted_fault_is_found_and_named(
    plant: Callable[[list[LandedRow]], list[LandedRow]], faults: list[str]
) -> None:
    rows = plant(HISTORY_OF_CLIENT)

    verdict = judge(rows, {}, {"public.client": CLIENT}, committed=COMMITTED, loaded=LOADED)

    assert verdict.faults == [
        fault if fault.startswith("public") else f"public.client: {fault}" for fault in faults
    ]
    assert not verdict.is_exact


def test_faults_are_shown_as_counts_without_keys_or_values() -> None:
    verdict = judge(
        HISTORY_OF_CLIENT[1:],
        {},
        {"public.client": CLIENT},
        committed={"public.client": {"insert": 2, "update": 5, "delete": 1}},
        loaded=LOADED,
        quarantined=3,
    )

    assert verdict.text() == (
        "not exact: public.client: load lost: 1\n"
        "not exact: public.client: update lost: 3\n"
        "not exact: public.client: rows missing: 1\n"
        "not exact: quarantined records: 3\n"
        "landed: 5 changes, 0 loaded rows\n"
        "more than once: 0 by Kinesis; sent again by DMS: none"
    )
    assert json.loads(json.dumps(verdict.as_dict())) == {
        "is_exact": False,
        "faults": [line.removeprefix("not exact: ") for line in verdict.text().splitlines()[:4]],
        "lost": 4,
        "quarantined": 3,
        "given_up": 0,
        "suspended": {},
        "kinesis_redeliveries": 0,
        "dms_resends": {},
        "tables": {
            "public.client": {
                "landed": {"insert": 2, "update": 2, "delete": 1},
                "dms_resends": {},
                "kinesis_redeliveries": 0,
                "generations": 1,
                "lost": {"load": 1, "update": 3},
                "extra": {},
                "missing_rows": 1,
                "extra_rows": 0,
                "different_rows": 0,
            }
        },
    }


def test_what_came_twice_is_counted_by_kind_and_is_no_fault() -> None:
    load, insert, _, update, *_ = HISTORY_OF_CLIENT
    again = [
        load,  # by Kinesis
        update,
        with_fields(load, sequence_number="7" * 56),  # by DMS
        with_fields(insert, sequence_number="8" * 56),
        with_fields(update, shard_id="shardId-000000000001"),
        with_fields(update, sequence_number="9" * 56),
    ]
    verdict = judge(
        [*HISTORY_OF_CLIENT, *again], {}, {"public.client": CLIENT}, committed=COMMITTED, loaded=LOADED
    )

    assert verdict.is_exact
    assert verdict.kinesis_redeliveries == 2
    assert verdict.dms_resends == {"load": 1, "insert": 1, "update": 2}
    assert verdict.text().splitlines()[-1] == (
        "more than once: 2 by Kinesis; sent again by DMS: 1 load, 1 insert, 2 update"
    )


def test_a_table_that_should_have_landed_and_did_not_is_named() -> None:
    verdict = judge([], {}, {"public.client": CLIENT, "public.empty": SourceTable(CLIENT.types, ("id",))})

    assert verdict.faults == ["public.client: rows missing: 2"]


def test_a_table_without_a_key_is_judged_by_its_loads_and_inserts() -> None:
    table = SourceTable({"id": "integer"}, ())
    rows = [landed(kind, {"id": 1}, minute) for minute, kind in enumerate(["load", "load", "insert"])]
    committed = {"public.client": {"insert": 1, "update": 4, "delete": 2}}

    sources = {"public.client": table}
    assert judge(rows, {}, sources, committed=committed, loaded={"public.client": 2}).is_exact
    assert judge(rows, {}, sources, committed=committed, loaded={"public.client": 3}).faults == [
        "public.client: load lost: 1"
    ]


def test_a_table_without_a_key_has_no_less_than_dms_says_to_have_sent() -> None:
    load, insert = landed("load", {"id": 1}, 1), landed("insert", {"id": 2}, 2)
    again = with_fields(insert, sequence_number="9" * 56)  # by DMS, which counts it
    sources = {"public.client": SourceTable({"id": "integer"}, ())}
    sent = {"public.client": {"load": 1, "insert": 2}}

    assert judge([load, insert, again], {}, sources, sent=sent).is_exact
    assert judge([load, insert], {}, sources, sent=sent).faults == ["public.client: insert lost: 1"]
    assert judge([], {}, sources, sent=sent).lost == 3


def test_a_table_with_a_key_is_judged_by_its_state_and_not_by_what_dms_says() -> None:
    sent = {"public.client": {"load": 9, "insert": 9}}

    assert judge(HISTORY_OF_CLIENT, {}, {"public.client": CLIENT}, sent=sent).is_exact


def test_records_given_up_and_suspended_tables_are_faults() -> None:
    verdict = Verdict({}, given_up=1200, suspended={"public.note": "a value does not fit its column's type"})

    assert not verdict.is_exact
    assert verdict.faults == [
        "public.note: suspended: a value does not fit its column's type",
        "records given up, now in the failed bucket: 1,200",
    ]
    assert json.loads(json.dumps(verdict.as_dict()))["given_up"] == 1200


# State ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [landed("insert", {"id": 2, "name": "Lin", "note": None}, 2)],
        [
            landed("insert", {"id": 9, "name": "L", "note": None}, 2),
            landed("update", {"id": 2, "name": "Lin", "note": None}, 3, before={"id": 9}),
        ],
        [
            landed("insert", {"id": 2, "name": "L", "note": None}, 2),
            landed("delete", {"id": 2, "name": None, "note": None}, 3),
            landed("insert", {"id": 2, "name": "Lin", "note": None}, 4),
        ],
        [
            landed("insert", {"id": 2, "name": "Lin", "note": "long"}, 2),
            landed("update", {"id": 2, "name": "Lin", "note": None}, 3, before={}),
        ],
        [
            landed("update", {"id": 2, "name": "Lin", "note": None}, 2, lsn=8, record_id=2),
            landed("insert", {"id": 2, "name": "L", "note": None}, 2, lsn=8, sequence_number="9" * 56),
        ],
        [
            landed("update", {"id": 2, "name": "Lin", "note": None}, 2, lsn=9, transaction_id=1),
            landed("insert", {"id": 2, "name": "L", "note": None}, 2, lsn=8, sequence_number="9" * 56),
        ],
    ],
    ids=["insert", "key_change", "came_back", "lob_set_to_null", "one_transaction", "same_microsecond"],
)
def test_the_state_is_that_of_the_contract(rows: list[LandedRow]) -> None:
    assert judge_client([HISTORY_OF_CLIENT[0], *rows]).is_exact
    assert judge_client([*reversed(rows), HISTORY_OF_CLIENT[0]]).is_exact


def test_a_lob_that_an_update_leaves_out_keeps_its_former_value() -> None:
    rows = [
        landed("insert", {"id": 7, "name": "Ada", "note": "x"}, 2),
        landed("update", {"id": 7, "name": "Ad", "note": None}, 3, before={}),
        landed("update", {"id": 1, "name": "Ada"}, 4, before={"id": 7}),
        HISTORY_OF_CLIENT[5],
    ]
    assert judge_client(rows).is_exact

    rows[0] = with_fields(rows[0], values={"id": 7, "name": "Ada", "note": "another"})
    assert judge_client(rows).faults == ["public.client: rows different: 1"]


def test_a_null_that_is_no_lob_is_a_null() -> None:
    rows = [
        landed("load", {"id": 1, "name": "Ada", "note": "x"}, 1),
        landed("update", {"id": 1, "name": None, "note": None}, 2, before={}),
    ]
    source = SourceTable(CLIENT.types, ("id",), {(1,): (1, "Ada", "x")})

    assert judge_client(rows, table=source).faults == ["public.client: rows different: 1"]


def test_a_composite_key_changes_in_one_part() -> None:
    source = SourceTable({"a": "integer", "b": "boolean"}, ("a", "b"), {(1, True): (1, True)})
    rows = [
        landed("insert", {"a": 1, "b": "f"}, 1),
        landed("update", {"a": 1, "b": "t"}, 2, before={"b": "f"}),
    ]

    assert judge_client(rows, table=source).is_exact


@pytest.mark.parametrize(
    "drops", [[], ["2026-03-01T09:10:00.000000Z"], ["2026-03-01T09:00:00Z", "2026-03-01T09:10:00Z"]]
)
def test_a_table_that_is_loaded_again_is_judged_by_its_last_load(drops: list[str]) -> None:
    stale = landed("insert", {"id": 8, "name": "gone, and its delete never captured", "note": None}, 4)
    reloaded = [
        landed("load", {"id": 1, "name": "Ada", "note": "x"}, 10),
        landed("load", {"id": 2, "name": "Lin", "note": None}, 11),
    ]

    verdict = judge(
        [*HISTORY_OF_CLIENT, stale, *reloaded],
        {"public.client": drops},
        {"public.client": CLIENT},
        committed={"public.client": {"insert": 3, "update": 99, "delete": 1}},
        loaded=LOADED,
    )

    assert verdict.is_exact
    assert verdict.tables["public.client"].generations == 2
    assert verdict.dms_resends == {}
    assert verdict.text().endswith("loaded again, so judged by state: public.client")


def test_a_load_that_was_begun_anew_is_judged_by_the_later_one() -> None:
    rows = [
        landed("load", {"id": 1, "name": "A.", "note": "x"}, 1),
        landed("load", {"id": 5, "name": "gone", "note": None}, 2),
        landed("load", {"id": 1, "name": "Ada", "note": "x"}, 10),
        landed("load", {"id": 2, "name": "Lin", "note": None}, 11),
    ]

    assert judge_client(rows, ["2026-03-01T09:10:00Z"]).is_exact
    assert judge_client(rows).faults == ["public.client: rows extra: 1"]


def test_a_transaction_number_that_was_given_out_anew_is_no_resend() -> None:
    rows = [*HISTORY_OF_CLIENT, with_fields(HISTORY_OF_CLIENT[5], lsn=99, position="x", sequence_number="1")]

    assert judge_client(rows).dms_resends == {}


def test_a_change_too_many_is_a_fault_in_a_reloaded_table_too() -> None:
    rows = [*HISTORY_OF_CLIENT, landed("load", {"id": 1, "name": "Ada", "note": "x"}, 10)]

    verdict = judge(rows, {}, {"public.client": CLIENT}, committed={"public.client": {"insert": 1}})

    assert verdict.faults == [
        "public.client: insert too many: 1",
        "public.client: update too many: 2",
        "public.client: delete too many: 1",
        "public.client: rows missing: 1",
    ]


def test_a_dropped_table_has_no_rows_until_it_is_loaded() -> None:
    verdict = judge_client(HISTORY_OF_CLIENT, ["2026-03-01T09:30:00Z"])

    assert verdict.faults == ["public.client: rows missing: 2"]


# Values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "printed", "written"),
    [
        ("integer", "7", 7),
        ("bigint", "1000000000000000", Decimal("1e+15")),
        ("numeric(12,2)", "12.50", Decimal("12.5")),
        ("numeric(12,2)", "100.00", 100),
        ("numeric(40,2)", DIGITS + "90", DIGITS + "90"),
        ("numeric", "NaN", None),
        ("double precision", "0.1", Decimal("0.1")),
        ("real", "1.1", Decimal("1.10000002")),
        ("boolean", "true", "t"),
        ("boolean", "false", "false"),
        ("boolean", "true", True),
        ("date", "2026-03-01", "2026-03-01"),
        ("timestamp with time zone", "2026-03-01 09:00:00.48001+00", "2026-03-01T09:00:00.480010Z"),
        ("timestamp with time zone", "2026-03-01 09:00:00+00", "2026-03-01T09:00:00Z"),
        ("timestamp(3) without time zone", "2026-03-01 09:00:00.5", "2026-03-01T09:00:00.500000Z"),
        ("bytea", "\\x00ff", "0x00FF"),
        ("bytea", "\\x00ff", "00FF"),
        ("json", '{"a": 1}', '{"a": 1}'),
        ("text", "t", "t"),
        ("text", None, None),
    ],
)  # fmt: skip
def test_a_value_compares_with_what_dms_writes_of_it(kind: str, printed: str | None, written: Any) -> None:
    assert comparable(kind, OF_SOURCE)(printed) == comparable(kind, OF_LANDING)(written)


@pytest.mark.parametrize(
    ("kind", "printed", "written"),
    [
        ("integer", "7", 8),
        ("integer", "7", "7"),
        ("bigint", "9007199254740993", Decimal("9007199254740992")),
        ("numeric(12,2)", "12.50", Decimal("12.51")),
        ("numeric(40,2)", DIGITS + "90", DIGITS + "91"),
        ("real", "1.1", Decimal("1.10000014")),
        ("boolean", "true", "f"),
        ("boolean", "true", "yes"),
        ("date", "2026-03-01", "2026-03-02"),
        ("timestamp with time zone", "2026-03-01 09:00:00.5+00", "2026-03-01T09:00:00.05Z"),
        ("bytea", "\\x00ff", "0x00FE"),
        ("text", "7", 7),
        ("text", "", None),
        ("text", "null", None),
    ],
)  # fmt: skip
def test_another_value_does_not_compare_bad(kind: str, printed: str | None, written: Any) -> None:
    assert comparable(kind, OF_SOURCE)(printed) != comparable(kind, OF_LANDING)(written)


# Reading -------------------------------------------------------------------------------------------------


def put(s3: Any, key: str, *rows: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=gzip.compress(b"".join(row + b"\n" for row in rows)))


def test_the_landing_zone_is_read_as_the_function_writes_it(s3: Any, handle: Callable[..., Any]) -> None:
    handle(
        event(
            envelope(
                b'{"id":123456789012345678901234567890,"rate":1.10}', schema_name="a b", table_name="c.d"
            ),
            envelope({"id": 2}, operation="update", before={"id": 7}),
            envelope(b"{}", record_type="control", operation="drop-table"),
            envelope(b"{}", record_type="control", operation="create-table"),
            b"no JSON",
        ),
        S3_PREFIX="raw/",
    )
    put(s3, "changes/public/other/cdc_date=2026-03-01/cdc_hour=09/x.jsonl.gz", b"not below the prefix")

    rows = {row.table: row for row in read_landing(s3, BUCKET, "raw/")}

    assert sorted(rows) == ["a b.c.d", "public.client"]
    assert rows["a b.c.d"].values == {"id": 123456789012345678901234567890, "rate": Decimal("1.10")}
    client = rows["public.client"]
    assert (client.operation, client.values, client.before) == ("update", {"id": 2}, {"id": 7})
    assert (client.transaction_id, client.record_id, client.lsn) == (5120, 1, 0x13A0041B8)
    assert client.committed_at == "2026-03-01T09:16:10.480010Z"
    assert read_drops(s3, BUCKET, "raw/") == {"public.client": ["2026-03-01T09:16:10.500120Z"]}
    assert count_quarantined(s3, BUCKET, "raw/") == 1


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgres(settings={"track_commit_timestamp": "on"}) as running:
        yield running


def test_the_source_is_read_with_its_types_and_keys(server: Server) -> None:
    ask(server.dsn, "CREATE SCHEMA \"Odd one\"; CREATE TABLE \"Odd one\".\"T'x\" (v real, b int, \"A\" int,"
        " twice int GENERATED ALWAYS AS (b * 2) STORED, PRIMARY KEY (\"A\", b));"
        " INSERT INTO \"Odd one\".\"T'x\" VALUES (1.1, 2, 1); CREATE TABLE \"Odd one\".heap (id int);"
        " CREATE TABLE \"Odd one\".awsdms_history (id int PRIMARY KEY)")  # fmt: skip

    found = read_source({"dsn": server.dsn})

    odd = {name: table for name, table in found.items() if name.startswith("Odd one")}
    assert odd == {
        "Odd one.T'x": SourceTable(
            {"v": "real", "b": "integer", "A": "integer"},
            ("A", "b"),
            {(1, 2): (1.10000002384185791015625, 2, 1)},
        ),
        "Odd one.heap": SourceTable({"id": "integer"}, ()),
    }
    assert [*read_source({"dsn": server.dsn}, ["Odd one.heap"])] == ["Odd one.heap"]
    ask(server.dsn, 'DROP SCHEMA "Odd one" CASCADE')


# Random histories, by way of the function ----------------------------------------------------------------


AUDITED = """
SELECT table_name, operation, old_row, new_row, txid,
    to_char(pg_xact_commit_timestamp(xmin) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    row_number() OVER (PARTITION BY txid ORDER BY number), number
FROM audit.change ORDER BY pg_xact_commit_timestamp(xmin), number"""


def captured(dsn: str, *, is_lsn_of_commit: bool) -> list[tuple[int, bytes]]:
    """What DMS would publish of the audited changes, each with its shard: in order within a shard only."""
    messages = []
    commits: dict[int, int] = {}
    for table, operation, old, new, txid, committed_at, record_id, number in ask(dsn, AUDITED):
        lsn = commits.setdefault(txid, 100_000 + len(commits)) if is_lsn_of_commit else number
        key = "id" if table == "public.account" else "number"
        if operation == "delete":
            data = {name: old[name] if name == key else None for name in old}
        else:
            data = {name: as_written(value) for name, value in new.items()}
            is_kept = {name: len(str(data[name])) > 2000 and old and old[name] == new[name] for name in new}
            data = {name: None if is_kept[name] else value for name, value in data.items()}
        before = None
        if operation == "update":
            before = {key: old[key]} if old[key] != new[key] else {}
        payload = envelope(
            compact(data),
            before=before,
            operation=operation,
            schema_name="public",
            table_name=table.removeprefix("public."),
            transaction_id=txid,
            transaction_record_id=record_id,
            commit_timestamp=committed_at,
            stream_position=f"00000000/{lsn:08X}.1.00000000/{lsn:08X}",
        )
        messages.append((crc32(f"{table} {data[key]}".encode()) % 3, payload))
    return messages


def as_written(value: Any) -> Any:
    """Of the triggers' JSON: documents are text again, and times end with Z."""
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, str) and value.endswith("+00:00") and value.startswith("2026-"):
        return value.removesuffix("+00:00").partition(".")[0] + (
            f".{value.removesuffix('+00:00').partition('.')[2]:0<6}Z" if "." in value else "Z"
        )
    return value


@pytest.mark.parametrize("is_lsn_of_commit", [True, False], ids=["lsn_of_commit", "lsn_of_change"])
@pytest.mark.parametrize("seed", range(3))
def test_a_random_history_that_landed_is_proven(
    server: Server, s3: Any, handle: Callable[..., Any], seed: int, is_lsn_of_commit: bool
) -> None:
    database = f"history_{seed}_{is_lsn_of_commit}".lower()
    ask(server.dsn, f"CREATE DATABASE {database}")
    dsn = f"{server.dsn} dbname={database}"
    ask(dsn, HISTORY + AUDIT)
    ask(dsn, "ALTER TABLE audit.change ADD number bigserial, ADD txid bigint DEFAULT txid_current()")
    source = random.Random(seed)
    ledger = run_history({"dsn": dsn}, history(HISTORY_TABLES, source), 80)
    messages = captured(dsn, is_lsn_of_commit=is_lsn_of_commit)
    assert len(messages) == ledger.changes

    for shard in range(3):
        payloads = [payload for its_shard, payload in messages if its_shard == shard]
        cut, resent = sorted(source.sample(range(1, len(payloads)), 2)), source.randrange(len(payloads))
        payloads = [*payloads, *payloads[resent:]]  # DMS goes back a little
        for start, end in zip([0, *cut], [*cut, len(payloads)], strict=True):
            # later shards have earlier sequence numbers: these do not tell the order
            handle(
                event(
                    *payloads[start:end],
                    first=10**9 * (3 - shard) + start,
                    shard=f"shardId-00000000000{shard}",
                )
            )

    tables = ["public.account", "public.letter"]
    verdict = prove(s3, BUCKET, "", {"dsn": dsn}, tables=tables, committed=ledger.as_dict())
    assert verdict.faults == []
    assert sum(verdict.dms_resends.values()) > 0

    landing = [*read_landing(s3, BUCKET, "")]
    lost = source.choice(landing)
    is_left = [
        (row.transaction_id, row.record_id) != (lost.transaction_id, lost.record_id) for row in landing
    ]
    left = [row for row, is_kept in zip(landing, is_left, strict=True) if is_kept]
    verdict = judge(left, {}, read_source({"dsn": dsn}, tables), committed=ledger.as_dict())
    assert verdict.tables[lost.table].lost == {lost.operation: 1}
    ask(server.dsn, f"DROP DATABASE {database} WITH (FORCE)")
