"""lake.py schema: columns from the catalog of a real PostgreSQL, and from control records that landed."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import BUCKET, shared_session
from postgresql_types import ALL_TYPES, ALL_TYPES_SCHEMA, start_complete_postgres
from replication_support import Database, Stream, land, played, task_configuration

import lake
import setup_dms
from lake_tools.bucket import Lake
from lake_tools.schemas import (
    LakeColumn,
    TableSchema,
    derive,
    publish,
    publish_derived,
    read_schema,
    read_schemas,
    words_of,
)
from lake_tools.settings import LakeError, LakeSettings, NoSchemaError, NoTableError
from local_run.postgres import Server
from provision.aws import Account
from provision.settings import Settings

LENDING = """
CREATE DOMAIN amount AS numeric(12,2);
CREATE TABLE client (
  region varchar(2), id bigint, name varchar(80) NOT NULL, note text, "isActive" boolean,
  owed amount, twice numeric GENERATED ALWAYS AS (owed * 2) STORED, seen timestamptz, tags text[],
  PRIMARY KEY (id, region)
);
CREATE TABLE entry (id int, note text, code varchar);
CREATE SCHEMA sales; CREATE TABLE sales."Order" (id uuid PRIMARY KEY);
CREATE TABLE awsdms_heartbeat (id int PRIMARY KEY); CREATE VIEW v AS SELECT 1 AS one;
"""
CLIENT_COLUMNS = (
    LakeColumn("region", "character varying(2)", "STRING", False, False, 2),
    LakeColumn("id", "bigint", "INT64", False, False),
    LakeColumn("name", "character varying(80)", "STRING", False, False, 80),
    LakeColumn("note", "text", "STRING", True, True),
    LakeColumn("isActive", "boolean", "BOOL", True, False),
    LakeColumn("owed", "numeric(12,2)", "DECIMAL", True, False),
    LakeColumn("seen", "timestamp with time zone", "TIMESTAMP", True, False),
    LakeColumn("tags", "text[]", "STRING", True, True),
)
# Strings without a length that are no LOBs: a control record does not tell them from LOBs.
TAKEN_FOR_LOBS = {"numeric(39,1)", "bit varying", "pg_lsn", "int4multirange"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_complete_postgres() as running:
        yield running


@pytest.fixture
def opened(s3: Any, database: Database, tmp_path: Path) -> Lake:
    """A lake on moto's S3, whose settings name the database."""
    settings = LakeSettings(
        s3_bucket=BUCKET,
        pghost="127.0.0.1",
        pgport=database.parameters["port"],
        pgdatabase=database.name,
        pguser="postgres",
        pgsslmode="disable",
        tables="public.%,sales.%",
    )
    return Lake(settings, shared_session(), tmp_path / "cache")


def unreachable(one: Lake) -> Lake:
    one.settings = replace(one.settings, pgport=9)
    return one


def land_control(s3: Any, number: int, *envelopes: Any, day: str = "2026-03-01") -> None:
    """An object of control records; in each envelope, those of a table-def are written short."""
    lines = [
        json.dumps({"cdc_shard_id": "s", "cdc_sequence_number": f"{number + place:056}", "cdc_envelope": one})
        for place, one in enumerate(envelopes)
    ]
    body = gzip.compress("".join(f"{line}\n" for line in lines).encode())
    s3.put_object(Bucket=BUCKET, Key=f"control/cdc_date={day}/s-{number:056}.jsonl.gz", Body=body)


def control(*columns: str, at: str = "2026-03-01T09:00:00.000000Z", operation: str = "create-table") -> Any:
    """A control record of public.client whose columns are strings; without columns, no definition."""
    definition = {"columns": {name: {"type": "STRING", "length": 9, "nullable": True} for name in columns}}
    metadata = {
        "timestamp": at,
        "record-type": "control",
        "operation": operation,
        "schema-name": "public",
        "table-name": "client",
    }
    return {"control": {"table-def": definition} if columns else {}, "metadata": metadata}


def names(schema: TableSchema) -> list[str]:
    return [one.name for one in schema.columns]


# ----------------------------------------------------------------------------------------------------------
# From the catalog
# ----------------------------------------------------------------------------------------------------------


def test_publish_writes_what_the_catalog_says(database: Database, opened: Lake) -> None:
    database.sql(LENDING)
    published = publish(opened)
    assert list(map(str, published)) == ["public.client", "public.entry", "sales.Order"]
    client = published[0]
    assert client.columns == CLIENT_COLUMNS, "without the generated column, which the log does not carry"
    assert (client.primary_key, client.source) == (("id", "region"), "catalog")
    assert read_schema(opened, "public", "client") == client
    assert read_schema(opened, "sales", "Order").primary_key == ("id",)


def test_publish_leaves_out_the_lobs_of_a_table_without_primary_key(database: Database, opened: Lake) -> None:
    """DMS does not send them."""
    database.sql(LENDING)
    (entry,) = publish(opened, "entry")
    assert names(entry) == ["id", "code"]
    assert entry.columns[1].length == 8000


def test_publish_of_one_table_writes_no_other(database: Database, opened: Lake) -> None:
    database.sql(LENDING)
    publish(opened, "sales.Order")
    assert [one.key for one in opened.objects("")] == ["schemas/sales/Order.json"]


def test_publish_again_follows_the_catalog(database: Database, opened: Lake) -> None:
    database.sql(LENDING)
    publish(opened)
    database.sql("ALTER TABLE client DROP COLUMN seen, ADD COLUMN born date")
    publish(opened, "client")
    assert names(read_schema(opened, "public", "client"))[-2:] == ["tags", "born"]


def test_publish_of_a_table_that_is_not_there_names_the_nearest(database: Database, opened: Lake) -> None:
    database.sql(LENDING)
    with pytest.raises(NoTableError) as raised:
        publish(opened, "cleint")
    assert str(raised.value) == (
        "there is no table cleint: TABLES=public.%,sales.% selects none of that name in database "
        f"'{database.name}': did you mean public.client?"
    )


# ----------------------------------------------------------------------------------------------------------
# From control records
# ----------------------------------------------------------------------------------------------------------


def test_derived_schemas_are_the_catalogs_but_for_postgresqls_types(
    database: Database, opened: Lake, s3: Any, tmp_path: Path
) -> None:
    """Of every type, in a lake that the stand-in and the handler wrote; what differs is listed."""
    types = list(dict.fromkeys(declared for declared, *_ in ALL_TYPES))
    columns = ", ".join(f"c{number} {declared}" for number, declared in enumerate(types))
    database.sql(ALL_TYPES_SCHEMA + f"CREATE TABLE every (id int PRIMARY KEY, {columns})" + ";" + LENDING)
    stream = Stream()
    configuration = task_configuration(
        database.parameters, tables="public.%,sales.%", postgresql={"MapBooleanAsBoolean": True}
    )
    with played(configuration, tmp_path, stream) as playing:
        playing.wait_until_running()
    land(stream, s3)

    tables = [("public", "client"), ("public", "entry"), ("public", "every"), ("sales", "Order")]
    derived = derive(opened, tables)
    published = publish(opened)
    assert [(one.schema, one.table, one.primary_key) for one in derived] == [
        (one.schema, one.table, one.primary_key) for one in published
    ]
    for ours, theirs in zip(published, derived, strict=True):
        known = [replace(one, postgresql_type=None) for one in ours.columns]
        differing = {
            one.postgresql_type
            for one, less, seen in zip(ours.columns, known, theirs.columns, strict=True)
            if less != seen
        }
        assert differing == (TAKEN_FOR_LOBS if ours.table == "every" else set())


def test_read_takes_the_last_definition(opened: Lake, s3: Any) -> None:
    land_control(s3, 1, control("old", at="2026-03-01T23:00:00.000000Z"))
    land_control(
        s3,
        5,
        control("id", "later", at="2026-03-02T10:00:00.000000Z", operation="add-column"),
        control("id", at="2026-03-02T09:00:00.000000Z"),
        control(at="2026-03-02T11:00:00.000000Z", operation="drop-table"),
        {**control("x", at="2026-03-02T12:00:00.000000Z"), "control": {"table-def": "of another form"}},
        day="2026-03-02",
    )
    found = read_schema(opened, "public", "client")
    assert (names(found), found.source, found.published_at) == (
        ["id", "later"],
        "control",
        "2026-03-02T10:00:00.000000Z",
    )


def test_read_fetches_no_day_before_the_one_that_tells(opened: Lake, s3: Any) -> None:
    land_control(s3, 1, control("old"), day="2026-03-01")
    land_control(s3, 2, control("id", at="2026-03-02T09:00:00.000000Z"), day="2026-03-02")
    read_schema(opened, "public", "client")
    assert [path.parent.name for path in opened.cache.rglob("*.gz")] == ["cdc_date=2026-03-02"]


def test_derived_never_takes_the_place_of_the_catalogs(database: Database, opened: Lake, s3: Any) -> None:
    database.sql(LENDING)
    publish(opened, "client")
    land_control(s3, 1, control("id", at="2099-03-01T09:00:00.000000Z"), day="2099-03-01")
    stand = publish_derived(opened, [("public", "client")])
    assert [one.columns for one in stand] == [CLIENT_COLUMNS]
    assert read_schema(opened, "public", "client").columns == CLIENT_COLUMNS


def test_derived_is_followed_by_a_later_one_and_by_the_catalog(
    database: Database, opened: Lake, s3: Any
) -> None:
    land_control(s3, 1, control("id"))
    publish_derived(opened, [("public", "client")])
    land_control(s3, 2, control("id", "more", at="2026-03-02T09:00:00.000000Z"), day="2026-03-02")
    assert names(read_schema(opened, "public", "client")) == ["id", "more"]

    database.sql(LENDING)
    publish(opened)
    assert read_schema(opened, "public", "client").columns == CLIENT_COLUMNS


def test_derived_stays_when_the_control_records_are_gone(opened: Lake, s3: Any) -> None:
    land_control(s3, 1, control("id"))
    publish_derived(opened, [("public", "client")])
    s3.delete_object(Bucket=BUCKET, Key=f"control/cdc_date=2026-03-01/s-{1:056}.jsonl.gz")
    assert names(read_schema(opened, "public", "client")) == ["id"]


def test_read_without_any_schema_names_the_command(opened: Lake, s3: Any) -> None:
    land_control(s3, 1, control(operation="drop-table"))
    with pytest.raises(NoSchemaError) as raised:
        read_schema(opened, "public", "client")
    assert str(raised.value) == (
        "there is no schema of public.client yet: python lake.py schema public.client publish"
    )


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"schema": "public"}'], ids=str)
def test_read_of_what_is_no_schema_names_the_object(opened: Lake, s3: Any, body: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key="schemas/public/client.json", Body=body)
    with pytest.raises(LakeError, match=r"^s3://landing/schemas/public/client.json is no schema: "):
        read_schemas(opened, [("public", "client")])


def test_one_bad_schema_does_not_hide_the_others(
    database: Database, opened: Lake, s3: Any, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    database.sql(LENDING)
    (first, *_) = publish(opened)
    s3.put_object(Bucket=BUCKET, Key="schemas/public/a_bad_one.json", Body=b"{}")

    assert shell(["schema"]) == 0

    shown = capsys.readouterr()
    assert str(first) in shown.out and "public.a_bad_one" in shown.out
    assert shown.err.startswith("s3://landing/schemas/public/a_bad_one.json is no schema: write it anew: ")


def test_control_object_that_can_not_be_read_is_named(opened: Lake, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="control/cdc_date=2026-03-01/s-1.jsonl.gz", Body=b"no gzip")
    with pytest.raises(
        LakeError, match=r"^cannot read s3://landing/control/cdc_date=2026-03-01/s-1.jsonl.gz"
    ):
        read_schema(opened, "public", "client")


# ----------------------------------------------------------------------------------------------------------
# lake.py schema
# ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(opened: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """lake.py, in a folder with .env."""
    settings = opened.settings
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    values = {"S3_BUCKET": BUCKET, "PGHOST": settings.pghost, "PGPORT": str(settings.pgport)}
    values |= {"PGDATABASE": settings.pgdatabase, "PGUSER": "postgres", "PGSSLMODE": "disable"}
    values |= {"TABLES": settings.tables}
    (tmp_path / ".env").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return lake.main


def without_times(text: str) -> str:
    return "".join(
        line.partition("  20")[0].partition(", 20")[0].rstrip() + "\n" for line in text.splitlines()
    )


def test_schema_publish_shows_what_was_published(
    database: Database, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    database.sql(LENDING)
    assert shell(["schema", "publish"]) == 0
    shown = capsys.readouterr()
    assert without_times(shown.out) == (
        "TABLE          COLUMNS  PRIMARY KEY  FROM     PUBLISHED\n"
        "public.client  8        id, region   catalog\n"
        "public.entry   2        none         catalog\n"
        "sales.Order    1        id           catalog\n"
    )
    assert shown.err == ""


def test_schema_of_a_table_shows_its_columns(
    database: Database, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    database.sql(LENDING)
    assert shell(["schema", "client", "publish"]) == 0
    capsys.readouterr()
    assert shell(["schema", "client"]) == 0
    assert without_times(capsys.readouterr().out) == (
        "public.client: primary key id, region; from the catalog\n"
        "COLUMN    POSTGRESQL                DMS            NULL\n"
        "region    character varying(2)      STRING(2)      no\n"
        "id        bigint                    INT64          no\n"
        "name      character varying(80)     STRING(80)     no\n"
        "note      text                      STRING, a LOB  yes\n"
        "isActive  boolean                   BOOL           yes\n"
        "owed      numeric(12,2)             DECIMAL        yes\n"
        "seen      timestamp with time zone  TIMESTAMP      yes\n"
        "tags      text[]                    STRING, a LOB  yes\n"
    )


def test_schema_as_json_is_what_is_published(
    database: Database, shell: Any, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    database.sql(LENDING)
    assert shell(["schema", "client", "publish", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    body = s3.get_object(Bucket=BUCKET, Key="schemas/public/client.json")["Body"].read()
    assert shown == json.loads(body)
    assert shown["columns"][1] == {
        "name": "id",
        "postgresql_type": "bigint",
        "dms_type": "INT64",
        "nullable": False,
        "is_lob": False,
        "length": None,
        "mask": None,
    }


def test_schema_lists_tables_without_one(shell: Any, s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    s3.put_object(Bucket=BUCKET, Key="changes/public/loan/cdc_date=2026-03-01/cdc_hour=09/a.jsonl.gz")
    assert shell(["schema"]) == 0
    assert capsys.readouterr().out == (
        "TABLE        COLUMNS  PRIMARY KEY  FROM  PUBLISHED\n"
        "public.loan  -        -            -     -\n"
        "no schema yet: python lake.py schema publish\n"
    )


def test_schema_of_an_empty_lake_says_so(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell(["schema"]) == 0
    assert capsys.readouterr().out == "no table in s3://landing/ yet\n"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"PGPORT": "9"}, "could not connect to database "),
        ({"PGHOST": ""}, "the source database is needed for this, and PGHOST is not set: "),
    ],
    ids=["unreachable", "unset"],
)
def test_schema_publish_without_the_database_takes_control_records(
    shell: Any,
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    why: str,
) -> None:
    for key, value in changes.items():
        monkeypatch.setenv(key, value)
    s3.put_object(Bucket=BUCKET, Key="changes/public/client/cdc_date=2026-03-01/cdc_hour=09/a.jsonl.gz")
    land_control(s3, 1, control("id"))
    assert shell(["schema", "client", "publish"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith(f"not read from the catalog: {why}")
    assert shown.err.endswith("what it said before stands; the rest is from control records\n")
    assert without_times(shown.out) == (
        "public.client: no primary key; from the control records\n"
        "COLUMN  POSTGRESQL  DMS        NULL\n"
        "id      -           STRING(9)  yes\n"
    )


def test_schema_publish_without_anything_to_go_by_is_an_error(
    shell: Any, s3: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGPORT", "9")
    assert shell(["schema", "publish"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: could not connect to database ")
    assert shown.err.endswith("; and in s3://landing/control/ there is no table definition either\n")


def test_schema_says_when_dms_has_seen_other_columns_since(
    database: Database, shell: Any, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    database.sql("CREATE TABLE client (id int PRIMARY KEY)")
    shell(["schema", "client", "publish"])
    land_control(s3, 1, control("id", "email", at="2099-01-01T09:00:00.000000Z"), day="2099-01-01")
    capsys.readouterr()
    assert shell(["schema", "client"]) == 0
    assert capsys.readouterr().err == (
        "since then DMS has seen the table change: email: python lake.py schema public.client publish\n"
    )


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ((None, None), (None, False)),
        (("publish", None), (None, True)),
        (("client", None), ("client", False)),
        (("client", "publish"), ("client", True)),
        (("publish", "publish"), ("publish", True)),
        (("public.publish", None), ("public.publish", False)),
    ],
    ids=str,
)
def test_words_of_the_command(words: tuple[Any, Any], meaning: tuple[Any, bool]) -> None:
    assert words_of(*words) == meaning


# ----------------------------------------------------------------------------------------------------------
# setup_dms.py apply
# ----------------------------------------------------------------------------------------------------------


def chain_of(one: Lake) -> Any:
    settings = one.settings
    chain = Settings(
        s3_bucket=BUCKET,
        pipeline_name="lending",
        pghost=settings.pghost,
        pgport=settings.pgport,
        pgdatabase=settings.pgdatabase,
        pguser=settings.pguser,
        pgpassword="s3cret",
        pgsslmode="disable",
        tables=settings.tables,
    )
    return SimpleNamespace(settings=chain, account=Account(one.session, "lending"))


def test_apply_publishes_the_schemas(database: Database, opened: Lake) -> None:
    database.sql(LENDING)
    assert setup_dms.publish_schemas(chain_of(opened)) == "3 in s3://landing/schemas/"
    assert read_schema(opened, "public", "client").columns == CLIENT_COLUMNS


def test_apply_publishes_masks_and_takes_them_away(database: Database, opened: Lake) -> None:
    database.sql(LENDING)
    chain = chain_of(opened)
    plain = chain.settings
    chain.settings = replace(
        plain,
        masked_columns="public.client.name=sha256,public.client.note=drop",
        mask_secret="correct horse b",
    )
    setup_dms.publish_schemas(chain)
    assert read_schema(opened, "public", "client").masks == {"name": "sha256", "note": "drop"}

    chain.settings = plain
    setup_dms.publish_schemas(chain)
    assert read_schema(opened, "public", "client").columns == CLIENT_COLUMNS


def test_apply_goes_on_when_the_schemas_can_not_be_published(opened: Lake, s3: Any) -> None:
    told = setup_dms.publish_schemas(chain_of(unreachable(opened)))
    assert told.startswith("not published: could not connect to database ")
    assert told.endswith("; when it can be: python lake.py schema publish")
    assert opened.objects("") == []
    assert "s3cret" not in told


def test_apply_goes_on_when_the_bucket_does_not_take_the_schemas(database: Database, opened: Lake) -> None:
    database.sql(LENDING)
    chain = chain_of(opened)
    chain.settings = replace(chain.settings, s3_bucket="of-nobody")
    told = setup_dms.publish_schemas(chain)
    assert told.startswith(
        "not published: cannot write s3://of-nobody/schemas/public/client.json: NoSuchBucket"
    )
    assert os.linesep not in told
