"""Masked columns in lake.py: schemas say what is masked, verify compares masked, redrive lands masked.

Every value of a masked column holds RAW; nothing that is printed may.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from conftest import BUCKET, shared_session
from events import FIRST_SEQUENCE, SHARD, envelope, event, record, rows
from replication_support import Database, Stream, played, task_configuration

import lake
import lambda_function
from lake_tools.bucket import Lake
from lake_tools.dialects import DuckDB
from lake_tools.failed import look
from lake_tools.redrive import redrive_quarantine, run_handler
from lake_tools.schemas import publish, publish_derived, read_schema
from lake_tools.set_aside import read_quarantine
from lake_tools.settings import LakeError, LakeSettings
from lake_tools.verify import verify
from lake_tools.verify_report import Report
from lake_tools.views import Shape
from local_run.postgres import Server, start_postgres

RAW = "Geheimrat"
KEY = "correct horse battery staple"
MASKS = "public.client.id=sha256,public.client.email=sha256,public.client.iban=null,public.client.name=drop"
CLIENT = f"""
CREATE TABLE client (
  id bigint PRIMARY KEY, email varchar(80), iban varchar(34) NOT NULL, name text, note text
);
INSERT INTO client
SELECT 1000000 + n, '{RAW} ' || n, 'DE{RAW}' || n, '{RAW}', 'note ' || n FROM generate_series(1, 40) AS n
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgres() as running:
        yield running


@pytest.fixture
def masked(s3: Any, database: Database, tmp_path: Path) -> Lake:
    """A lake whose settings are those of the chain, masks and key included."""
    settings = LakeSettings(
        s3_bucket=BUCKET,
        masked_columns=MASKS,
        mask_secret=KEY,
        pipeline_name="lending",
        pghost="127.0.0.1",
        pgport=database.parameters["port"],
        pgdatabase=database.name,
        pguser="postgres",
        pgsslmode="disable",
    )
    return Lake(settings, shared_session(), tmp_path / "cache")


def changed(one: Lake, **settings: Any) -> Lake:
    """The lake of somebody with other settings."""
    return Lake(replace(one.settings, **settings), one.session, one.cache)


def hash_of(text: str) -> str:
    return hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


def replicate(database: Database, folder: Path, s3: Any, masks: str, *changes: str) -> None:
    """The load, and the changes after it, landed by a function with these masks."""
    stream = Stream()
    with played(task_configuration(database.parameters), folder, stream) as task:
        task.wait_until_running()
        for one in changes:
            database.sql(one)
        task.catch_up()
    deliver(s3, [payload for _, payload in stream.records], masks)


def deliver(s3: Any, payloads: list[bytes], masks: str, **settings: str) -> None:
    given = lambda_function.Settings(
        s3_bucket=BUCKET,
        masked_columns=masks,
        mask_secret=KEY if masks else "",
        log_level="ERROR",
        **settings,
    )
    records = [record(payload, FIRST_SEQUENCE + place) for place, payload in enumerate(payloads)]
    lambda_function.land({"Records": records}, given, lambda _: s3, lambda: 600.0)


def shown(report: Report) -> str:
    return report.text() + json.dumps(report.as_dict())


def verdict(report: Report) -> tuple[str, dict[str, int], dict[str, int]]:
    (one,) = report.tables
    return one.verdict, dict(one.faults), dict(one.columns)


# ----------------------------------------------------------------------------------------------------------
# Schemas
# ----------------------------------------------------------------------------------------------------------


def test_a_published_schema_has_the_masks(database: Database, masked: Lake) -> None:
    database.sql(CLIENT)
    publish(masked)

    client = read_schema(changed(masked, masked_columns="", mask_secret=""), "public", "client")

    assert [(one.name, one.mask, one.nullable) for one in client.columns] == [
        ("id", "sha256", False),
        ("email", "sha256", True),
        ("iban", "null", True),
        ("note", None, True),
    ]
    assert (client.primary_key, client.dropped) == (("id",), ("name",))
    assert client.masks == {"id": "sha256", "email": "sha256", "iban": "null", "name": "drop"}


def test_a_derived_schema_has_the_masks_of_the_settings(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3, MASKS)
    unmasked = changed(masked, masked_columns="", mask_secret="")

    assert read_schema(masked, "public", "client").masks == {
        "id": "sha256",
        "email": "sha256",
        "iban": "null",
        "name": "drop",
    }
    assert read_schema(unmasked, "public", "client").masks == {}
    publish_derived(masked, [("public", "client")])
    assert read_schema(unmasked, "public", "client").masks == read_schema(masked, "public", "client").masks


def test_what_masks_hide_of_a_key_makes_it_none(database: Database, masked: Lake) -> None:
    database.sql("CREATE TABLE part (a int, b int, PRIMARY KEY (a, b))")
    keys = [
        publish(changed(masked, masked_columns=f"public.part.b={action}"))[0].primary_key
        for action in ("sha256", "null", "drop")
    ]
    assert keys == [("a", "b"), (), ()]


def test_a_hash_is_read_as_text_whatever_the_type(database: Database, masked: Lake) -> None:
    database.sql(CLIENT)
    (client,) = publish(masked)
    shape = Shape(client, DuckDB())
    assert [(one.source, one.kind.kind) for one in shape.columns] == [
        ("id", "text"),
        ("email", "text"),
        ("iban", "text"),
        ("note", "text"),
    ]


@pytest.fixture
def shell(masked: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """lake.py with the settings of the environment; keywords are in their place."""
    settings = masked.settings
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    values = {"S3_BUCKET": BUCKET, "PGHOST": settings.pghost, "PGPORT": str(settings.pgport)}
    values |= {"PGDATABASE": settings.pgdatabase, "PGUSER": "postgres", "PGSSLMODE": "disable"}
    values |= {"MASKED_COLUMNS": MASKS, "MASK_SECRET": KEY}

    def call(*arguments: str, **changes: str) -> int:
        for key, value in (values | changes).items():
            monkeypatch.setenv(key, value)
        return lake.main(arguments)

    return call


def test_schema_shows_masks(database: Database, shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    database.sql(CLIENT)
    assert shell("schema", "client", "publish") == 0
    capsys.readouterr()
    assert shell("schema", "client", MASKED_COLUMNS="", MASK_SECRET="") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1:] == [
        "COLUMN  POSTGRESQL             DMS            NULL  MASK",
        "id      bigint                 INT64          no    sha256",
        "email   character varying(80)  STRING(80)     yes   sha256",
        "iban    character varying(34)  STRING(34)     yes   null",
        "note    text                   STRING, a LOB  yes",
        "masked, and not in the lake: name",
    ]


def test_a_column_that_a_mask_drops_is_no_change_that_dms_has_seen(
    database: Database, shell: Any, s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The control records of a later start tell of it still."""
    database.sql(CLIENT)
    shell("schema", "publish")
    replicate(database, tmp_path, s3, MASKS)
    capsys.readouterr()

    assert shell("schema", "client", MASKED_COLUMNS="", MASK_SECRET="") == 0
    assert capsys.readouterr().err == ""


def test_publish_without_the_masks_is_refused(
    database: Database, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    database.sql(CLIENT)
    shell("schema", "publish")
    capsys.readouterr()

    assert shell("schema", "publish", MASKED_COLUMNS="public.client.id=sha256") == 1

    assert capsys.readouterr().err == (
        "error: s3://landing/schemas/public/client.json says that email, iban, name of public.client are "
        "masked, and MASKED_COLUMNS does not: set it, and MASK_SECRET or MASK_SECRET_ARN, as for "
        "setup_dms.py; where masks were taken away, setup_dms.py apply writes the schemas anew\n"
    )


def test_a_schema_of_before_there_were_masks_is_read(masked: Lake) -> None:
    body = {
        "schema": "public",
        "table": "client",
        "columns": [
            {
                "name": "id",
                "postgresql_type": "bigint",
                "dms_type": "INT64",
                "nullable": False,
                "is_lob": False,
            }
        ],
        "primary_key": ["id"],
        "source": "catalog",
        "published_at": "2026-03-01T09:16:10Z",
    }
    masked.put("schemas/public/client.json", json.dumps(body).encode())
    assert read_schema(masked, "public", "client").masks == {}


# ----------------------------------------------------------------------------------------------------------
# Verify
# ----------------------------------------------------------------------------------------------------------

CHANGES = (
    f"UPDATE client SET email = '{RAW} | \u00f6' WHERE id = 1000001",
    "UPDATE client SET email = NULL WHERE id = 1000002",
    "UPDATE client SET id = 2000003 WHERE id = 1000003",
    "DELETE FROM client WHERE id = 1000004",
    f"INSERT INTO client VALUES (1000041, '{RAW}', '{RAW}', '{RAW}', NULL)",
    "UPDATE client SET note = 'other' WHERE id = 1000005",
)
DROPPED = "not compared: name, which masks keep from S3"


@pytest.mark.parametrize("key", ["PRIMARY KEY", ""], ids=["key", "no_key"])
def test_masked_tables_are_identical_and_the_server_never_sees_the_key(
    database: Database, masked: Lake, s3: Any, tmp_path: Path, server: Server, key: str
) -> None:
    database.sql(CLIENT.replace("PRIMARY KEY", key))
    replicate(database, tmp_path, s3, MASKS, *(CHANGES if key else ()))
    database.sql(f"ALTER DATABASE {database.name} SET log_statement = 'all'")

    report = verify(masked, [], 0)

    assert verdict(report) == ("identical", {}, {})
    assert (report.tables[0].source_rows, report.tables[0].landed_rows) == (40, 40)
    log = server.log.read_text()
    assert '"email"' in log and KEY not in log and hash_of("1000001") not in log


def test_only_what_masks_drop_is_not_compared(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3, MASKS)
    database.sql("UPDATE client SET name = 'other', iban = 'other'")

    report = verify(masked, [], 0)

    assert (report.verdict, report.tables[0].notes) == ("identical", [DROPPED])


@pytest.mark.parametrize(
    ("change", "faults", "columns"),
    [
        ("UPDATE client SET email = email || 'x' WHERE id = 1000007", {"different": 1}, {"email": 1}),
        ("UPDATE client SET email = NULL WHERE id = 1000007", {"different": 1}, {"email": 1}),
        (f"UPDATE client SET note = '{RAW}' WHERE id = 1000007", {"different": 1}, {"note": 1}),
        ("UPDATE client SET id = 7 WHERE id = 1000007", {"missing": 1, "extra": 1}, {}),
        ("DELETE FROM client WHERE id = 1000007", {"extra": 1}, {}),
    ],
    ids=["masked_value", "masked_null", "plain_value", "masked_key", "row"],
)
def test_a_difference_is_found_and_no_masked_value_shown(
    database: Database, masked: Lake, s3: Any, tmp_path: Path, change: str, faults: Any, columns: Any
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3, MASKS)
    database.sql(change.replace(RAW, "plain"))

    report = verify(masked, [], 0, shows_values=True)

    assert verdict(report) == ("different", faults, columns)
    assert len(report.tables[0].examples) == sum(faults.values())
    assert all(one.key == {"id": "(masked)"} for one in report.tables[0].examples)
    assert RAW not in shown(report) and "1000007" not in shown(report)
    assert hash_of("1000007") not in shown(report)


def test_values_of_other_columns_are_shown_beside_masked_ones(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3, MASKS)
    database.sql("UPDATE client SET note = 'later', email = NULL WHERE id = 1000007")

    lines = verify(masked, [], 0, shows_values=True).text().splitlines()

    assert "  different: id='(masked)'; email NULL in S3 '(masked)'; note 'later' in S3 'note 7'" in lines


def test_rows_that_landed_before_their_masks_differ_and_are_not_shown(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3, "")
    of_values = "public.client.email=sha256,public.client.iban=null"

    report = verify(changed(masked, masked_columns=of_values), [], 0, shows_values=True)

    assert verdict(report) == ("different", {"different": 40}, {"email": 40, "iban": 40})
    assert (
        "values of it landed before they were masked: python setup_dms.py reload loads the table anew, masked"
        in report.tables[0].notes
    )
    assert RAW not in shown(report)


def test_a_value_that_should_be_null_is_a_difference(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3, "public.client.iban=null")
    assert verdict(verify(changed(masked, masked_columns="public.client.iban=null"), [], 0))[0] == "identical"

    report = verify(changed(masked, masked_columns="public.client.note=null"), [], 0)

    assert verdict(report) == ("different", {"different": 40}, {"iban": 40, "note": 40})


def test_masks_are_those_of_the_published_schema(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    """Who has the key need not know MASKED_COLUMNS."""
    database.sql(CLIENT)
    publish(masked)
    replicate(database, tmp_path, s3, MASKS)

    report = verify(changed(masked, masked_columns=""), [], 0)

    assert (report.verdict, report.tables[0].notes) == ("identical", [DROPPED])


def test_without_the_key_masked_columns_are_not_compared_and_that_is_said(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    masks = MASKS.replace("public.client.id=sha256,", "")
    database.sql(CLIENT)
    publish(changed(masked, masked_columns=masks))
    replicate(database, tmp_path, s3, masks)
    database.sql("UPDATE client SET email = 'other'")

    report = verify(changed(masked, masked_columns="", mask_secret=""), [], 0)

    assert report.verdict == "identical"
    assert report.tables[0].notes == [
        "not compared: email, masked with sha256, for the key of the hashes is not known: "
        "set MASK_SECRET or MASK_SECRET_ARN, as for setup_dms.py",
        DROPPED,
    ]


def test_without_the_key_rows_of_a_masked_key_can_not_be_told(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    database.sql(CLIENT)
    publish(masked)
    replicate(database, tmp_path, s3, MASKS)

    report = verify(changed(masked, masked_columns="", mask_secret=""), [], 0)

    assert report.exit_code == 2
    assert report.tables[0].why_unknown == [
        "its primary key is masked with sha256, and the key of the hashes is not known: "
        "set MASK_SECRET or MASK_SECRET_ARN, as for setup_dms.py"
    ]


def test_a_masked_key_of_a_type_that_can_not_be_told_is_unknown(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE seen (at timestamptz PRIMARY KEY); INSERT INTO seen VALUES (now())")
    masks = "public.seen.at=sha256"
    replicate(database, tmp_path, s3, masks)

    report = verify(changed(masked, masked_columns=masks), [], 0)

    assert report.exit_code == 2
    assert report.tables[0].why_unknown == [
        "its primary key is masked with sha256, and is of a type of which DMS's text can't be told: at"
    ]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bigint", "9223372036854775807"),
        ("numeric(20,4)", "1234567890123456.7891"),
        ("numeric", "0.1234567"),
        ("date", "infinity"),
        ("varchar", "x" * 8000),
        ("text", "x" * 32_768),
    ],
    ids=["bigint", "numeric", "unbounded", "infinity", "varchar", "text"],
)
def test_masked_values_that_dms_may_round_or_cut_are_counted(
    database: Database, masked: Lake, s3: Any, tmp_path: Path, kind: str, value: str
) -> None:
    database.sql(f"CREATE TABLE odd (id int PRIMARY KEY, value {kind})")
    database.sql("INSERT INTO odd VALUES (1, %s), (2, NULL)", (value,))
    masks = "public.odd.value=sha256"
    replicate(database, tmp_path, s3, masks)
    one = changed(masked, masked_columns=masks)

    report = verify(one, [], 0)

    assert (report.verdict, report.tables[0].unsure) == ("identical", 1)
    assert "  1 masked value that DMS may round or cut: not compared" in report.text().splitlines()
    database.sql("UPDATE odd SET value = %s WHERE id = 2", (value,))
    assert verdict(verify(one, [], 0)) == ("different", {"different": 1}, {"value": 1})


def test_a_masked_key_that_dms_may_round_is_unknown(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE odd (id bigint PRIMARY KEY); INSERT INTO odd VALUES (9223372036854775807)")
    masks = "public.odd.id=sha256"
    replicate(database, tmp_path, s3, masks)

    report = verify(changed(masked, masked_columns=masks), [], 0)

    assert report.tables[0].why_unknown == [
        "could not compare public.odd: "
        "a value of its masked primary key is one that DMS may have rounded or cut"
    ]


def test_rows_of_many_ranges_come_in_the_order_of_their_hashes(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    """More than are fetched at a time, and more differences than are asked for one by one."""
    masks = "public.many.id=sha256"
    database.sql("CREATE TABLE many (id int PRIMARY KEY, note varchar(9))")
    database.sql("INSERT INTO many SELECT n, 'a' FROM generate_series(1, 12000) AS n")
    replicate(database, tmp_path, s3, masks)
    one = changed(masked, masked_columns=masks)
    assert verdict(verify(one, [], 0))[0] == "identical"

    database.sql("UPDATE many SET note = 'b' WHERE id % 2 = 0; DELETE FROM many WHERE id % 1000 = 1")

    assert verdict(verify(one, [], 0)) == ("different", {"different": 6000, "extra": 12}, {"note": 6000})


def test_the_key_is_read_from_secrets_manager(
    database: Database, masked: Lake, s3: Any, tmp_path: Path
) -> None:
    database.sql(CLIENT)
    replicate(database, tmp_path, s3, MASKS)
    client = boto3.client("secretsmanager")
    arn = client.create_secret(Name="lending-mask", SecretString=KEY)["ARN"]
    lambda_function.read_secret.cache_clear()
    one = changed(masked, mask_secret="", mask_secret_arn=arn)
    assert verdict(verify(one, [], 0))[0] == "identical"

    client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    lambda_function.read_secret.cache_clear()
    with pytest.raises(lambda_function.SecretError, match=r"^cannot read the secret arn:aws:secretsmanager:"):
        verify(one, [], 0)


# ----------------------------------------------------------------------------------------------------------
# Redrive
# ----------------------------------------------------------------------------------------------------------

COLUMNS = {"id": 7, "email": RAW, "iban": RAW, "name": RAW, "note": "x"}
BUG = {"before_image_field": "old-row"}  # what the task does not write
RESTRICTED = f"quarantine/restricted/cdc_date=2026-03-01/{SHARD}-{FIRST_SEQUENCE}.jsonl.gz"


def update(**columns: Any) -> bytes:
    return envelope(COLUMNS | columns, before={"id": 6}, operation="update")


def test_what_is_redriven_lands_masked(masked: Lake, s3: Any) -> None:
    deliver(s3, [update(), b"{"], MASKS, **BUG)
    (poison,) = read_quarantine(masked).objects
    assert poison.found.key == RESTRICTED

    outcome = redrive_quarantine(masked, [poison], is_dry=False)

    assert (outcome.landed, outcome.poison) == (
        {"changes/public/client/": 1},
        {"the payload is not JSON": 1},
    )
    (row,) = rows(s3, BUCKET, "changes/")
    assert {name: value for name, value in row.items() if not name.startswith("cdc_")} == {
        "id": hash_of("7"),
        "email": hash_of(RAW),
        "iban": None,
        "note": "x",
    }
    assert row["cdc_before"] == {"id": hash_of("6")}
    (mark,) = masked.objects("redriven/")
    assert mark.key == f"redriven/{RESTRICTED}/{poison.found.etag}.1-of-2.jsonl.gz"
    assert [len(one.waiting()) for one in read_quarantine(masked).objects] == [1]


def test_redrive_lands_what_was_set_aside_before_there_were_masks(masked: Lake, s3: Any) -> None:
    deliver(s3, [update()], "", **BUG)
    assert masked.objects("quarantine/restricted/") == []

    outcome = redrive_quarantine(masked, read_quarantine(masked).objects, is_dry=False)

    assert outcome.is_whole
    (row,) = rows(s3, BUCKET, "changes/")
    assert row["email"] == hash_of(RAW) and RAW not in json.dumps(row)


@pytest.mark.parametrize("is_dry", [True, False], ids=["dry", "wet"])
def test_redrive_is_refused_where_the_quarantine_tells_of_masks(masked: Lake, s3: Any, is_dry: bool) -> None:
    deliver(s3, [update()], MASKS, **BUG)
    unmasked = changed(masked, masked_columns="", mask_secret="")

    with pytest.raises(LakeError) as error:
        redrive_quarantine(unmasked, read_quarantine(unmasked).objects, is_dry)

    assert str(error.value) == (
        "s3://landing/quarantine/restricted/ has records, so columns are masked, and MASKED_COLUMNS is not "
        "set: set it, and MASK_SECRET or MASK_SECRET_ARN, as for setup_dms.py; where nothing is masked any "
        "more, move them to quarantine/"
    )
    assert masked.objects("changes/") == []


def test_redrive_is_refused_where_a_schema_has_a_mask_that_the_settings_lack(
    database: Database, masked: Lake, s3: Any
) -> None:
    database.sql(CLIENT)
    publish(masked)
    deliver(s3, [update()], "", **BUG)
    lacking = changed(masked, masked_columns=MASKS.replace(",public.client.name=drop", ""))

    with pytest.raises(
        LakeError, match=r"says that name of public\.client is masked, and MASKED_COLUMNS does not"
    ):
        redrive_quarantine(lacking, read_quarantine(lacking).objects, is_dry=False)

    assert masked.objects("changes/") == []


def test_redrive_is_refused_where_a_schema_can_not_be_read(masked: Lake, s3: Any) -> None:
    deliver(s3, [update()], "", **BUG)
    masked.put("schemas/public/client.json", b"{}")

    with pytest.raises(LakeError, match="is no schema"):
        redrive_quarantine(masked, read_quarantine(masked).objects, is_dry=False)

    assert masked.objects("changes/") == []


def test_redrive_without_the_key_writes_nothing(masked: Lake, s3: Any) -> None:
    deliver(s3, [update()], MASKS, **BUG)
    keyless = changed(masked, mask_secret="")

    with pytest.raises(lambda_function.SettingsError, match="set MASK_SECRET or MASK_SECRET_ARN"):
        redrive_quarantine(keyless, read_quarantine(keyless).objects, is_dry=False)

    assert masked.objects("changes/") == []


def test_failed_finds_both_quarantines_and_shows_no_value(
    shell: Any, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(s3, [update()], MASKS, **BUG)
    deliver(s3, [update(), update()], "", **BUG)

    assert shell("failed", "list", "--kind", "poison") == 0
    assert shell("failed", "show", "--kind", "poison") == 0

    shown = capsys.readouterr()
    assert "poison: 2 records in 2 objects of s3://landing/quarantine/" in shown.out
    assert [line.split()[1] for line in shown.out.splitlines() if line.startswith("  object")] == [
        f"quarantine/cdc_date=2026-03-01/{SHARD}-{FIRST_SEQUENCE}.jsonl.gz",
        f"quarantine/cdc_date=2026-03-01/{SHARD}-{FIRST_SEQUENCE}.jsonl.gz",
        RESTRICTED,
    ]
    assert RAW not in shown.out + shown.err


def test_what_stays_poison_of_a_batch_goes_to_the_restricted_quarantine(masked: Lake, s3: Any) -> None:
    """As the function would have set it aside."""
    landing, reasons = run_handler(event(b"{", update())["Records"], masked)

    assert sorted(one.key for one in landing) == [
        f"changes/public/client/cdc_date=2026-03-01/cdc_hour=09/{SHARD}-{FIRST_SEQUENCE + 1}.jsonl.gz",
        RESTRICTED,
    ]
    assert reasons == {"the payload is not JSON": 1}


def test_a_quarantine_that_is_closed_names_the_tag(masked: Lake, s3: Any) -> None:
    deliver(s3, [update()], MASKS, **BUG)

    def deny(params: Any, **_: Any) -> None:
        denied = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(denied, "GetObject")

    masked.s3.meta.events.register("provide-client-params.s3.GetObject", deny)

    with pytest.raises(LakeError) as error:
        look(masked, "poison")

    assert str(error.value) == (
        f"cannot read s3://landing/{RESTRICTED}: AccessDenied: allow s3:GetObject on this key, and the use "
        "of the bucket's KMS key; while columns are masked, the bucket's policy also asks for a tag of you: "
        "aws iam tag-role --role-name ROLE --tags Key=pipeline,Value=lending"
    )
