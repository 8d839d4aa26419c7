"""lake_tools.views, tables and show: the contract's rows, whatever DMS and Kinesis have sent.

LAKE_HISTORIES=5000 makes that many random histories.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import lake_model
import pytest
import sqlglot
from conftest import BUCKET, shared_session
from histories import HistoryTable, history, run_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgresql_types import ALL_TYPES, ALL_TYPES_SCHEMA, start_complete_postgres
from replication_support import Database, Stream, land, played, task_configuration

from lake import main
from lake_tools.bucket import Lake
from lake_tools.dialects import Athena, DuckDB
from lake_tools.parquet import in_order, rows_query, stored_shape
from lake_tools.parquet_columns import extended
from lake_tools.schemas import LakeColumn, TableSchema, publish, read_schema
from lake_tools.settings import LakeError, LakeSettings
from lake_tools.show import Rows, write_table
from lake_tools.sql import Available, athena_sources, first_date_of, stem_of, view_statements
from lake_tools.tables import Copies, as_of, connected, lines_of, make_views, open_table
from lake_tools.views import Shape, shown_columns
from local_run.postgres import Server

HISTORIES = int(os.environ.get("LAKE_HISTORIES", "40"))
ACCOUNT = TableSchema(
    "public",
    "account",
    (
        LakeColumn("id", "integer", "INT32", False, False),
        LakeColumn("name", "character varying(80)", "STRING", True, False, 80),
        LakeColumn("note", "text", "STRING", True, True),
    ),
    ("id",),
    "catalog",
    "2026-03-01T09:00:00Z",
)
DAY = date(2026, 3, 1)
WORDS = (
    ["insert"] * 3 + ["update"] * 4 + ["rekey"] * 3 + ["delete"] * 2 + ["resend", "replay", "hold", "load"]
)
STEPS = st.lists(
    st.tuples(st.sampled_from(WORDS), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans()),
    max_size=40,
)


def written(folder: Path, rows: list[dict[str, Any]], count: int = 3) -> list[Path]:
    """The rows as objects."""
    files = []
    for number in range(count):
        files.append(folder / f"{number}.jsonl.gz")
        lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows[number::count]]
        files[-1].write_bytes(gzip.compress("".join(lines).encode()))
    return files


def control(folder: Path, drops: list[str], table: str = "account") -> list[Path]:
    rows = [
        {
            "cdc_shard_id": "shardId-000000000000",
            "cdc_sequence_number": f"{number:056}",
            "cdc_envelope": {
                "control": {},
                "metadata": {
                    "timestamp": drop,
                    "record-type": "control",
                    "operation": "drop-table",
                    "schema-name": "public",
                    "table-name": table,
                },
            },
        }
        for number, drop in enumerate(drops)
    ]
    (folder / "control").mkdir(exist_ok=True)
    return written(folder / "control", rows, 1)


def identities(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((row["cdc_shard_id"], row["cdc_sequence_number"]) for row in rows)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with connected(tmp_path_factory.mktemp("cache"), None) as connection:
        yield connection


def emptied(database: Any) -> Any:
    for kind, name in [("MACRO TABLE", "as_of"), ("VIEW", "current"), ("VIEW", "changes")]:
        database.execute(f"DROP {kind} IF EXISTS {name}")
    database.execute("DROP TABLE IF EXISTS history; DROP TABLE IF EXISTS drops")
    return database


def values_of(state: dict[Any, dict[str, Any]], columns: str = "id, name, note") -> list[tuple[Any, ...]]:
    return sorted(tuple(row[name] for name in columns.split(", ")) for row in state.values())


def settled(state: dict[Any, dict[str, Any]], steps: Any) -> dict[Any, dict[str, Any]]:
    """The state; without LOBs where a load has seen changes that come after it.

    A row can then be deleted by one and its LOB not be sent by the next: nothing that is left knows it.
    """
    has_overlap = any(what == "hold" for what, *_ in steps)
    return {key: {**row, "note": None} for key, row in state.items()} if has_overlap else state


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=HISTORIES)
@given(steps=STEPS, moment=st.integers(0, 100), has_record_lsns=st.booleans(), has_lobs=st.booleans())
def test_views_show_what_a_replay_of_the_rows_gives(
    database: Any, tmp_path: Path, steps: Any, moment: int, has_record_lsns: bool, has_lobs: bool
) -> None:
    played = lake_model.play(steps, has_record_lsns=has_record_lsns)
    arguments = played.rows, played.drops, ["id"], ["note"]
    schema = ACCOUNT if has_lobs else replace(ACCOUNT, columns=ACCOUNT.columns[:2])
    columns = ", ".join(column.name for column in schema.columns)

    copies = Copies(written(tmp_path, played.rows), [], control(tmp_path, played.drops))
    make_views(emptied(database), schema, copies)

    def shown(query: str) -> list[Any]:
        return sorted(database.execute(query).fetchall(), key=repr)

    names = "cdc_shard_id, cdc_sequence_number"
    assert shown(f"SELECT {names} FROM history") == identities(lake_model.history(played.rows))
    expected = lake_model.changes(played.rows, played.drops, ["id"])
    assert shown(f"SELECT {names} FROM changes") == identities(expected)
    state = lake_model.current(*arguments)
    assert shown(f"SELECT {columns} FROM current") == values_of(state, columns)
    assert settled(state, steps) == settled(played.truth, steps)
    at = f"2026-03-01T09:{moment // 60:02}:{moment % 60:02}.480010Z"
    state = lake_model.current(*arguments, at)
    assert shown(f"SELECT {columns} FROM as_of(TIMESTAMPTZ '{at}')") == values_of(state, columns)


# Athena ---------------------------------------------------------------------------------------------------

# What Trino has and DuckDB has not, and the way that Trino writes a path.
TRINO = """
CREATE OR REPLACE MACRO json_extract_scalar(document, path) AS
    json_extract_string(document, replace(replace(replace(path, '$["', '/'), '"]["', '/'), '"]', ''));
CREATE OR REPLACE MACRO trino_json_extract(document, path) AS
    json_extract(document, replace(replace(replace(path, '$["', '/'), '"]["', '/'), '"]', ''));
CREATE OR REPLACE MACRO json_format(document) AS CAST(document AS VARCHAR);
CREATE OR REPLACE MACRO json_parse(text) AS CAST(text AS JSON);
"""
STORED = extended((), ACCOUNT)
COMPACTED = Available(has_generations=True, stored=STORED)


@pytest.mark.parametrize("there", [Available(), COMPACTED], ids=["lines", "lines and Parquet"])
@pytest.mark.parametrize("view", ["current", "history", "changes", "as-of"])
def test_athena_text_is_of_athenas_dialect(view: str, there: Available) -> None:
    statements, sources = athena_sources(ACCOUNT, "public_account", "s3://landing/raw/", DAY, there)
    at = "2026-03-01T09:30:00.000000Z" if view == "as-of" else None

    statements += view_statements(Shape(ACCOUNT, Athena()), sources, view, at)

    for statement in statements:
        (parsed,) = sqlglot.parse(statement, dialect="athena")
        assert isinstance(parsed, sqlglot.exp.Create)


def test_athena_tables_project_their_partitions() -> None:
    statements, _ = athena_sources(ACCOUNT, "public_account", "s3://a/", DAY, Available())

    assert (
        statements[0]
        == """\
CREATE EXTERNAL TABLE IF NOT EXISTS `public_account_lines` (`line` string)
PARTITIONED BY (`cdc_date` string, `cdc_hour` string)
ROW FORMAT DELIMITED FIELDS TERMINATED BY '\\001'
STORED AS TEXTFILE
LOCATION 's3://a/changes/public/account/'
TBLPROPERTIES (
    'projection.enabled' = 'true',
    'projection.cdc_date.type' = 'date',
    'projection.cdc_date.format' = 'yyyy-MM-dd',
    'projection.cdc_date.range' = '2026-03-01,NOW+1DAYS',
    'projection.cdc_date.interval' = '1',
    'projection.cdc_date.interval.unit' = 'DAYS',
    'projection.cdc_hour.type' = 'integer',
    'projection.cdc_hour.range' = '0,23',
    'projection.cdc_hour.digits' = '2',
    'storage.location.template' = 's3://a/changes/public/account/cdc_date=${cdc_date}/cdc_hour=${cdc_hour}/'
)"""
    )


@pytest.mark.parametrize("seed", range(8))
def test_athena_views_give_the_same_rows(database: Any, tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    words = [(source.choice(WORDS), source.randint(1, 4), source.randint(1, 4)) for _ in range(40)]
    played_rows = lake_model.play([(*word, source.random() < 0.5, source.random() < 0.5) for word in words])
    _, sources = athena_sources(ACCOUNT, "public_account", "s3://landing/", DAY, Available(stored=STORED))
    lines = [(json.dumps(row, separators=(",", ":")), "2026-03-01", "09") for row in played_rows.rows]
    drops = [(line,) for path in control(tmp_path, played_rows.drops) for line in read_lines(path)]

    database.execute(TRINO)
    database.execute(
        f"CREATE OR REPLACE TABLE {sources.lines} (line VARCHAR, cdc_date VARCHAR, cdc_hour VARCHAR)"
    )
    database.execute(f"CREATE OR REPLACE TABLE {sources.control} (line VARCHAR)")
    for table, rows in [
        (f"{sources.lines} VALUES (?, ?, ?)", lines[len(lines) // 3 :]),
        (f"{sources.control} VALUES (?)", drops),
    ]:
        if rows:
            database.executemany(f"INSERT INTO {table}", rows)
    (compacted,) = written(tmp_path, played_rows.rows[: len(lines) // 2], 1)  # some are in both
    hour = in_order(f"({rows_query(stored_shape(ACCOUNT, STORED).landed(lines_of([compacted])), None)})")
    database.execute(
        f"CREATE OR REPLACE TABLE {sources.parquet} AS "
        f"SELECT *, '2026-03-01' AS cdc_date, '09' AS cdc_hour FROM ({hour})"
    )
    for view in ("current", "changes"):
        for statement in view_statements(Shape(ACCOUNT, Athena()), sources, view, None):
            database.execute(statement.replace("json_extract(", "trino_json_extract("))

    arguments = played_rows.rows, played_rows.drops, ["id"]
    found = database.execute("SELECT id, name, note FROM public_account_current").fetchall()
    assert sorted(found) == values_of(lake_model.current(*arguments, ["note"]))
    found = database.execute(
        "SELECT cdc_shard_id, cdc_sequence_number FROM public_account_changes"
    ).fetchall()
    assert sorted(found) == identities(lake_model.changes(*arguments))


@pytest.mark.parametrize(
    ("table", "others", "stem"),
    [
        (("public", "client"), [("public", "Client"), ("public", "client_2")], "public_client"),
        (("public", "Client"), [("public", "client")], "public_client_[0-9a-f]{8}"),
        (("a_b", "c"), [("a", "b_c")], "a_b_c_[0-9a-f]{8}"),
        (("a", "b_c"), [("a_b", "c")], "a_b_c_[0-9a-f]{8}"),
        (("a", "b c"), [], "a_b_c_[0-9a-f]{8}"),
    ],
)
def test_views_of_two_tables_never_have_one_name(
    table: tuple[str, str], others: list[tuple[str, str]], stem: str
) -> None:
    assert re.fullmatch(stem, stem_of(table, [table, *others]))
    assert len({stem_of(one, [table, *others]) for one in [table, *others]}) == len(others) + 1


def test_projection_begins_before_what_can_still_be_redriven(lake: Lake, s3: Any) -> None:
    assert first_date_of(lake, ACCOUNT) == date(2020, 1, 1)
    for key in (
        "changes/public/account/cdc_date=2026-03-02/a",
        "quarantine/cdc_date=2026-03-01/a",
        "control/x/a",
    ):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    assert first_date_of(lake, ACCOUNT) == date(2025, 2, 28)


def test_what_does_not_fit_into_memory_is_in_the_cache_until_the_end(tmp_path: Path) -> None:
    with connected(tmp_path / "cache", "64MB") as connection:
        connection.execute("CREATE TABLE large AS SELECT md5(i::VARCHAR) AS text FROM range(4000000) AS r(i)")
        assert [*(tmp_path / "cache" / "spilled").rglob("*.tmp")] != []

    assert [*(tmp_path / "cache" / "spilled").iterdir()] == []


def read_lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


# Values ---------------------------------------------------------------------------------------------------


def shown_values(
    database: Any, folder: Path, columns: list[LakeColumn], row: str, key: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The history of one row, whose JSON is the text."""
    schema = TableSchema("public", "account", tuple(columns), key, "catalog", "2026-03-01T09:00:00Z")
    ours = lake_model.Played()
    ours.load([{}], has_control=False)
    (folder / "one.jsonl.gz").write_bytes(
        gzip.compress((json.dumps(ours.rows[0])[:-1] + "," + row[1:] + "\n").encode())
    )
    make_views(emptied(database), schema, Copies([folder / "one.jsonl.gz"], [], []))
    found = database.execute(
        "SELECT * REPLACE (CAST(cdc_published_at AS VARCHAR) AS cdc_published_at) FROM history"
    )
    return dict(zip([column[0] for column in found.description], found.fetchone(), strict=True))


def column(name: str, declared: str | None, dms_type: str = "STRING") -> LakeColumn:
    return LakeColumn(name, declared, dms_type, True, False)


NAIVE, ZONED = "timestamp without time zone", "timestamp with time zone"
UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
MANY = "12345678901234567890123456789012345678.5"
VALUES = [
    ("bigint", "INT64", "999999999999999999", "999999999999999999", "BIGINT"),
    ("bigint", "INT64", "9.2233720368547758e+18", "9223372036854775800", "BIGINT"),
    ("bigint", "INT64", "1e+15", "1000000000000000", "BIGINT"),
    ("numeric(12,2)", "DECIMAL", "46.5", "46.50", "DECIMAL(12,2)"),
    ("numeric(20,4)", "DECIMAL", "1234567890123456.7891", "1234567890123456.7891", "DECIMAL(20,4)"),
    ("numeric(38,10)", "DECIMAL", "0.1000000001", "0.1000000001", "DECIMAL(38,10)"),
    ("numeric", "DECIMAL", "12345678901234567.125", "12345678901234567.125000000000000", "DECIMAL(38,15)"),
    (
        "numeric(39,1)",
        "STRING",
        '"123456789012345678901234567890.5"',
        "123456789012345678901234567890.5",
        "VARCHAR",
    ),
    ("numeric(2,-3)", "DECIMAL", "12000", "12000", "DECIMAL(5,0)"),
    ("money", "DECIMAL", "-1234.5", "-1234.5000", "DECIMAL(38,4)"),
    ("real", "FLOAT", "2.20000005", "2.2", "FLOAT"),
    ("double precision", "DOUBLE", "0.30000000000000004", "0.30000000000000004", "DOUBLE"),
    ("boolean", "STRING", '"t"', "true", "BOOLEAN"),
    ("boolean", "BOOL", "false", "false", "BOOLEAN"),
    ("bytea", "BINARY", '"80057D"', "\\x80\\x05}", "BLOB"),
    ("bytea", "BINARY", '"0x80057D"', "\\x80\\x05}", "BLOB"),
    ("date", "DATE32", '"0044-03-15 BC"', "0044-03-15 (BC)", "DATE"),
    (NAIVE, "TIMESTAMP", '"2010-11-01T00:02:00.100000Z"', "2010-11-01 00:02:00.1", "TIMESTAMP"),
    (NAIVE, "TIMESTAMP", '"4713-01-01T00:00:00Z BC"', "4713-01-01 (BC) 00:00:00", "TIMESTAMP"),
    (
        "timestamp(3) without time zone",
        "TIMESTAMP",
        '"2010-11-01T00:02:00Z"',
        "2010-11-01 00:02:00",
        "TIMESTAMP",
    ),
    (ZONED, "TIMESTAMP", '"10000-01-01T00:00:00.250000Z"', "10000-01-01 00:00:00.25+00", ZONED.upper()),
    ("uuid", "STRING", f'"{UUID}"', UUID, "UUID"),
    ("time with time zone", "TIME64", '"08:30:00+02"', "08:30:00+02", "TIME WITH TIME ZONE"),
    ("integer[]", "STRING", '"{1,2,NULL,3}"', "{1,2,NULL,3}", "VARCHAR"),
    ("mood", "STRING", '"happy"', "happy", "VARCHAR"),
    (None, "INT64", "5", "5", "BIGINT"),
    (None, "DECIMAL", "0.25", "0.250000000000000", "DECIMAL(38,15)"),
]


@pytest.mark.parametrize(("declared", "dms_type", "text", "shown", "engine_type"), VALUES)
def test_a_value_is_what_dms_wrote(
    database: Any,
    tmp_path: Path,
    declared: str | None,
    dms_type: str,
    text: str,
    shown: str,
    engine_type: str,
) -> None:
    row = shown_values(
        database, tmp_path, [column("x", declared, dms_type)], f'{{"note":"\\"x\\":7","x":{text}}}'
    )

    ((value, found_type),) = database.execute("SELECT CAST(x AS VARCHAR), typeof(x) FROM history").fetchall()
    assert (value, found_type) == (shown, engine_type)
    assert row["cdc_rescued"] == '{"note":"\\"x\\":7"}', "the schema does not know it"


@pytest.mark.parametrize(
    ("declared", "dms_type", "text"),
    [
        ("integer", "INT32", '"many"'),
        ("integer", "INT32", "1.5"),
        ("numeric(12,2)", "DECIMAL", "46.575"),
        ("numeric(4,2)", "DECIMAL", "123.5"),
        ("date", "DATE32", '"tomorrow"'),
        ("bytea", "BINARY", '"ZZ"'),
    ],
)
def test_a_value_that_is_not_of_its_type_is_kept_as_it_is(
    database: Any, tmp_path: Path, declared: str, dms_type: str, text: str
) -> None:
    row = shown_values(database, tmp_path, [column('x "y"', declared, dms_type)], f'{{"x \\"y\\"":{text}}}')

    assert row['x "y"'] is None
    assert row["cdc_rescued"] == f'{{"x \\"y\\"":{text}}}'


def test_a_number_is_not_taken_from_the_before_image_or_from_text(database: Any, tmp_path: Path) -> None:
    columns = [column("amount", "numeric(30,10)", "DECIMAL"), column("note", "text")]
    text = '{"note":"{\\"amount\\":1.5,\\"","amount":1234567890123456789.0123456789}'
    make = shown_values(database, tmp_path, columns, text)
    assert str(make["amount"]) == "1234567890123456789.0123456789"

    path = tmp_path / "one.jsonl.gz"
    line = gzip.decompress(path.read_bytes()).decode()
    before = '"cdc_before": {"note":"}\\"","amount":9.5}'.replace(": {", ":{")
    path.write_bytes(gzip.compress(line.replace('"cdc_before": null', before).encode()))
    schema = TableSchema("public", "a", tuple(columns), (), "catalog", "")
    make_views(emptied(database), schema, Copies([path], [], []))

    ((amount, image),) = database.execute(
        "SELECT CAST(amount AS VARCHAR), cdc_before FROM history"
    ).fetchall()
    assert amount == "1234567890123456789.0123456789"
    assert image == '{"note":"}\\"","amount":9.5}'


NAMES = ["id", "ID", "Id_2", "CDC_LSN", "cdc__age", "a \"b\" 'c'", "Õie", "select", "a/b~c"]


def test_columns_that_differ_by_case_get_names_of_their_own(database: Any, tmp_path: Path) -> None:
    row = shown_values(
        database,
        tmp_path,
        [column(name, "text") for name in NAMES],
        json.dumps({name: name for name in NAMES}),
    )

    own = {name: value for name, value in row.items() if value in NAMES}
    assert own == {
        "id": "id",
        "ID_2": "ID",
        "Id_2_2": "Id_2",
        "CDC_LSN_2": "CDC_LSN",
        "_cdc__age": "cdc__age",
        "a \"b\" 'c'": "a \"b\" 'c'",
        "Õie": "Õie",
        "select": "select",
        "a/b~c": "a/b~c",
    }


def test_athena_gets_names_that_it_takes() -> None:
    columns = tuple(column(name, "text") for name in NAMES)
    names = [shown.name for shown in shown_columns(replace(ACCOUNT, columns=columns), Athena())]

    assert names == ["id", "id_2", "id_2_2", "cdc_lsn_2", "_cdc__age", "a__b___c_", "_ie", "select", "a_b_c"]


# What the local chain writes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_complete_postgres() as running:
        yield running


@pytest.fixture
def source(server: Server) -> Iterator[Database]:
    made = Database(server)
    yield made
    made.close()


@pytest.fixture
def lake(s3: Any, source: Database, tmp_path: Path) -> Lake:
    settings = LakeSettings(
        s3_bucket=BUCKET,
        pghost=source.parameters["host"],
        pgport=source.parameters["port"],
        pgdatabase=source.name,
        pguser=source.parameters["user"],
        pgpassword="unused",
        pgsslmode="disable",
    )
    return Lake(settings, shared_session(), tmp_path / "cache")


@pytest.fixture
def run(lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs lake.py: run("show", "client") gives exit code, stdout, stderr."""
    monkeypatch.setenv("S3_BUCKET", BUCKET)

    def call(*arguments: str) -> tuple[int, str, str]:
        command, *others = arguments
        code = main([command, "--cache", str(lake.cache), *others])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


ACCOUNTS = """
CREATE TABLE account (id bigint PRIMARY KEY, note text, amount numeric(12,2), paid_on date);
CREATE TABLE entry (area int, "No" varchar(8), note text, PRIMARY KEY (area, "No"));
CREATE TABLE logged (at timestamptz, note varchar(20));
INSERT INTO account VALUES (1, 'x', 46.50, '2026-03-01'), (2, NULL, NULL, NULL);
INSERT INTO entry VALUES (1, 'a', 'n'), (1, 'b', 'm'); INSERT INTO logged VALUES (now(), 'a'), (now(), 'a')
"""
ACCOUNT_HISTORY = HistoryTable(
    "public.account", "id", {"note": "text", "amount": "numeric(12,2)", "paid_on": "date"}
)


def replicate(source: Database, folder: Path, s3: Any, seed: int | None = None) -> None:
    stream = Stream()
    source.sql(ACCOUNTS)
    with played(task_configuration(source.parameters), folder, stream) as task:
        task.wait_until_running()
        source.sql("UPDATE entry SET \"No\" = 'c' WHERE \"No\" = 'b'; DELETE FROM entry WHERE \"No\" = 'a'")
        source.sql("INSERT INTO logged VALUES (now(), 'b')")
        if seed is not None:
            run_history(source.parameters, history([ACCOUNT_HISTORY], random.Random(seed)), 60)
        task.catch_up()
    land(stream, s3)


def test_current_is_what_the_source_has(source: Database, lake: Lake, s3: Any, tmp_path: Path) -> None:
    replicate(source, tmp_path, s3, seed=5)
    publish(lake)

    with open_table(lake, read_schema(lake, "public", "account")) as connection:
        found = connection.execute("SELECT id, amount, paid_on FROM current ORDER BY id").fetchall()
        ((later,),) = as_of(connection, "2100-01-01").count("*").fetchall()
    assert found == source.sql("SELECT id, amount, paid_on FROM account ORDER BY id").fetchall()
    assert later == len(found)
    with open_table(lake, read_schema(lake, "public", "entry")) as connection:
        assert connection.execute('SELECT area, "No", note FROM current').fetchall() == [(1, "c", "m")]


@pytest.mark.parametrize("view", ["current", "history", "changes", "as-of"])
def test_printed_duckdb_text_runs(
    source: Database, lake: Lake, s3: Any, tmp_path: Path, run: Any, view: str
) -> None:
    replicate(source, tmp_path, s3, seed=6)
    publish(lake)
    folder = copied(s3, tmp_path / "objects")
    moment = ["--at", "2100-01-01"] if view == "as-of" else []

    code, text, _ = run("sql", "account", "--view", view, *moment, "--from", str(folder))

    assert code == 0
    with connected(tmp_path, None) as connection:
        connection.execute(text)
        name = view.replace("-", "_")
        found = connection.execute(f"SELECT * EXCLUDE cdc_published_at FROM public_account_{name}")
        columns = ", ".join(f'CAST("{column[0]}" AS VARCHAR)' for column in found.description)
        found = connection.execute(f"SELECT {columns} FROM public_account_{name}").fetchall()
    with open_table(lake, read_schema(lake, "public", "account")) as connection:
        relation = "current" if view == "as-of" else view
        assert sorted(found, key=repr) == sorted(
            connection.execute(f"SELECT {columns} FROM {relation}").fetchall(), key=repr
        )


def copied(s3: Any, folder: Path) -> Path:
    """The bucket's objects as files."""
    for found in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
        path = folder / found["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(s3.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read())
    return folder


def test_every_type_is_read_without_loss(source: Database, lake: Lake, s3: Any, tmp_path: Path) -> None:
    source.sql(ALL_TYPES_SCHEMA)
    columns = ", ".join(f"c{place} {declared}" for place, (declared, *_) in enumerate(ALL_TYPES))
    values = ", ".join(value for _, value, *_ in ALL_TYPES)
    source.sql(f"CREATE TABLE every (id int PRIMARY KEY, {columns})")
    stream = Stream()
    with played(task_configuration(source.parameters), tmp_path, stream) as task:
        task.wait_until_running()
        source.sql(f"INSERT INTO every VALUES (1, {values})")
        task.catch_up()
    land(stream, s3)
    publish(lake)

    schema = read_schema(lake, "public", "every")
    with open_table(lake, schema) as connection:
        ((rescued,),) = connection.execute("SELECT cdc_rescued FROM current").fetchall()
        nulls = [
            f"c{place}"
            for place, (_, _, _, _, _) in enumerate(ALL_TYPES)
            if connection.execute(f"SELECT c{place} IS NULL FROM current").fetchall() == [(True,)]
        ]
    assert rescued is None
    assert [ALL_TYPES[int(name[1:])][2] for name in nulls] == ["null"] * len(nulls)


# lake.py show ---------------------------------------------------------------------------------------------


def test_show_prints_a_table(source: Database, lake: Lake, s3: Any, tmp_path: Path, run: Any) -> None:
    replicate(source, tmp_path, s3)
    publish(lake)

    assert run("show", "account") == (
        0,
        """\
id  note  amount  paid_on
1   x     46.50   2026-03-01
2   NULL  NULL    NULL
""",
        "",
    )
    assert run("show", "account", "--limit", "1", "--format", "json") == (
        0,
        '{"id":1,"note":"x","amount":46.50,"paid_on":"2026-03-01"}\n',
        "1 of 2 rows: --limit 0 shows all\n",
    )
    assert run("show", "account", "--where", "id = 2 -- two", "--format", "csv") == (
        0,
        "id,note,amount,paid_on\n2,,,\n",
        "",
    )


def test_show_prints_changes(source: Database, lake: Lake, s3: Any, tmp_path: Path, run: Any) -> None:
    replicate(source, tmp_path, s3)
    publish(lake)

    code, text, _ = run("show", "entry", "--view", "history", "--format", "csv", "--where", "area = 1")

    found = [line.split(",") for line in text.splitlines()]
    assert code == 0
    assert found[0] == ["cdc_operation", "cdc_committed_at", "area", "No", "note"]
    assert [[line[0], *line[2:]] for line in found[1:]] == [
        ["load", "1", "a", "n"],
        ["load", "1", "b", "m"],
        ["update", "1", "c", "m"],
        ["delete", "1", "a", ""],
    ]
    code, text, _ = run("show", "entry", "--view", "history", "--format", "json", "--all", "--limit", "1")
    assert json.loads(text).keys() >= {"cdc_lsn", "cdc_before", "cdc_rescued", "area", "No", "note"}


def test_show_says_why_not(source: Database, lake: Lake, s3: Any, tmp_path: Path, run: Any) -> None:
    replicate(source, tmp_path, s3)
    publish(lake)

    assert run("show", "logged")[::2] == (
        1,
        "error: public.logged has no primary key, so it can't be said which row a change is of: "
        "there is its history only: --view history\n",
    )
    assert len(run("show", "logged", "--view", "history", "--format", "json")[1].splitlines()) == 3
    assert run("show", "account", "--view", "as-of")[::2] == (
        1,
        "error: --view as-of and --at TIME go together\n",
    )
    code, _, error = run("show", "account", "--where", "ammount > 1")
    assert (code, error.partition(":")[0]) == (1, "error")
    assert "DuckDB does not take this --where" in error and "ammount" in error


def test_an_error_of_show_quotes_no_row(
    source: Database, lake: Lake, s3: Any, tmp_path: Path, run: Any
) -> None:
    replicate(source, tmp_path, s3)
    publish(lake)

    code, _, error = run("show", "account", "--where", "CAST(note AS INTEGER) > 1")

    assert (code, error) == (
        1,
        "error: cannot show public.account with this --where: DuckDB: ConversionException: "
        "--debug shows its own text, which may quote rows\n",
    )


def test_an_object_that_is_no_gzip_is_named(
    source: Database, lake: Lake, s3: Any, tmp_path: Path, run: Any
) -> None:
    replicate(source, tmp_path, s3)
    publish(lake)
    key = "control/cdc_date=2026-03-01/damaged.jsonl.gz"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"no gzip")

    code, _, error = run("show", "account")

    assert (code, "account" in error) == (1, False)
    assert error.startswith(f"error: cannot read s3://{BUCKET}/{key}: it is no gzip of JSON Lines, or its")


def test_a_table_obeys_no_control_character(
    database: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = [column("x\x1b[2J", "text")]
    shown_values(database, tmp_path, columns, json.dumps({"x\x1b[2J": "a\nb\x1b]0;c\x07"}))
    database.execute("DROP TABLE IF EXISTS shown")
    rows = Rows(
        database,
        Shape(TableSchema("public", "account", tuple(columns), (), "catalog", ""), DuckDB()),
        "history",
        [],
        "1",
    )
    rows.gather(None)

    write_table(rows, 0)

    assert capsys.readouterr().out == '"x\\u001b[2J"\n"a b\\u001b]0;c\\u0007"\n'
    with pytest.raises(LakeError, match=r"^cannot show public\.account: DuckDB: BinderException: --debug"):
        rows.count("no_column")


def test_a_json_line_is_the_row_whatever_it_holds(database: Any, tmp_path: Path) -> None:
    columns = [
        column('x "y"', "text"),
        column("big", "numeric", "DECIMAL"),
        column("at", "timestamp without time zone"),
    ]
    text = '{"x \\"y\\"":"a\\"\\n\\u0001Õ","big":100,"at":"2026-03-01T09:00:00Z"}'
    shown_values(database, tmp_path, columns, text)
    schema = TableSchema("public", "account", tuple(columns), (), "catalog", "")
    database.execute("DROP TABLE IF EXISTS shown")
    rows = Rows(database, Shape(schema, DuckDB()), "history", [], "1")
    rows.gather(None)

    ((line,),) = rows.read(["'{' || " + " || ',' || ".join(rows.members) + " || '}'"], 0)

    assert json.loads(line) == {'x "y"': 'a"\n\x01Õ', "big": 100, "at": "2026-03-01 09:00:00"}
    assert '"big":100,' in line
