"""Settings of the chain: what they take, what they refuse, and what they say then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lambda_function
from provision import masks
from provision.settings import LAMBDA_KEYS, Settings, SettingsError, read_settings

NEEDED = {
    "S3_BUCKET": "lending-rows",
    "PIPELINE_NAME": "lending",
    "PGHOST": "lending.abc.eu-west-1.rds.amazonaws.com",
    "PGDATABASE": "lending",
    "PGUSER": "dms",
    "PGPASSWORD": "s3cret-of-dms",
}
KEY = "correct-horse-battery-staple"
KEY_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:lending-mask-AbCdEf"
NEW = {key: value for key, value in NEEDED.items() if key != "PGHOST"} | {
    "CREATE_RDS": "true",
    "SUBNET_IDS": "subnet-0a,subnet-0b",
}


def faults_of(values: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        Settings.from_mapping(values)
    return raised.value.faults


def test_defaults_are_those_of_the_table_in_the_readme() -> None:
    settings = Settings.from_mapping(NEEDED)

    rows = (Path(__file__).parent.parent / "README.md").read_text().partition("## Settings")[2]
    defaults = {
        cells[1].strip("` "): cells[2].strip("` ")
        for line in rows.partition("\n## ")[0].splitlines()
        if line.startswith("| `") and (cells := line.split("|"))
    }
    words = {"none": "", "empty": "", "those of the RDS instance": ""}
    keys = [key for key in defaults if key not in NEEDED]
    assert {key: words.get(defaults[key], defaults[key]) for key in keys} == {
        key: as_text(getattr(settings, key.lower())) for key in keys
    }


def as_text(value: Any) -> str:
    return (
        ",".join(value) if isinstance(value, tuple) else str(value).lower() if value is False else str(value)
    )


def test_both_programs_know_the_same_keys_and_defaults() -> None:
    settings, function = Settings.from_mapping(NEEDED), lambda_function.Settings()

    assert Settings.keys() == [*LAMBDA_KEYS, *lambda_function.CHAIN_SETTINGS]
    assert list(lambda_function.Settings.keys().values()) == list(LAMBDA_KEYS)
    for key in LAMBDA_KEYS[1:]:
        assert getattr(settings, key.lower()) == getattr(function, key.lower())


BAD_MASKS = [
    *("public.client.name", "public.client.name=hide", "public.client.name=null=drop", "=null"),
    *("client.name=null", "a.public.client.name=null", "public..name=null", 'public."".name=null'),
    *("public.Client.name=null", "public.client.*=null", "public.%.name=null", "public.client.e-mail=null"),
    *("public.client.name=null,", "public.client.name=null,public.client.name=drop"),
    *('public.client."na"me"=null', 'public.client.na"m"e=null', f"public.client.{'x' * 64}=null"),
    "public.client.name=sha256",
]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("S3_BUCKET", ["abc", "my.bucket-1", "s3://bucket", "Bucket", "ab", "x" * 64, "a b c"]),
        ("S3_PREFIX", ["raw/", "a=1/b_c/", "raw", "/raw/", "raw//x/", "../", "é/", "x" * 400 + "/"]),
        ("ON_POISON", ["quarantine", "stop", "STOP", "ignore"]),
        ("BEFORE_IMAGE_FIELD", ["before-image", "BI", "data", "metadata", "control"]),
        ("LOG_LEVEL", ["INFO", "WARNING", "ERROR", "DEBUG", "info"]),
        ("MASKED_COLUMNS", ["public.client.name=drop", 's."T"."c.d"=null, s.t.u=drop', *BAD_MASKS]),
    ],
)
def test_both_programs_refuse_the_same_values(key: str, values: list[str]) -> None:
    for value in values:
        try:
            lambda_function.Settings.from_mapping({key: value})
        except lambda_function.SettingsError as error:
            assert faults_of(NEEDED | {key: value}) == (str(error).removeprefix("settings: "),)
        else:
            assert Settings.from_mapping(NEEDED | {key: value}).function_environment[key] == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "public.client.email=sha256", ' public . client . email = null ,a."B"."c ""d"""=drop '),
        *("öffentlich.küche.näme$1=null", '"a,b"."c=d"."e.f"=sha256,"a,b"."c=d".g=drop'),
    ],
)
def test_both_programs_read_the_same_masks(text: str) -> None:
    assert masks.read_masks(text) == lambda_function.read_masks(text)


@pytest.mark.parametrize(
    "values",
    [
        {"MASK_SECRET": "fifteen letters"},
        {"MASK_SECRET": KEY, "MASK_SECRET_ARN": KEY_ARN},
        {"MASK_SECRET_ARN": "lending-mask"},
        {"MASK_SECRET_ARN": "arn:aws:s3:::lending"},
        {"MASK_SECRET_ARN": KEY_ARN.removesuffix("-AbCdEf")},
        {"MASKED_COLUMNS": "public.client.email=sha256"},
    ],
    ids=["short", "both", "name", "bucket", "part", "none"],
)
def test_both_programs_refuse_the_same_keys_of_masks(values: dict[str, str]) -> None:
    with pytest.raises(lambda_function.SettingsError) as raised:
        lambda_function.Settings.from_mapping(values)

    assert faults_of(NEEDED | values) == tuple(str(raised.value).removeprefix("settings: ").split("; "))


@pytest.mark.parametrize("key", [{"MASK_SECRET": KEY}, {"MASK_SECRET_ARN": KEY_ARN}], ids=["secret", "arn"])
def test_both_programs_take_the_same_keys_of_masks(key: dict[str, str]) -> None:
    values = key | {"MASKED_COLUMNS": "public.client.email=sha256"}
    read, function = Settings.from_mapping(NEEDED | values), lambda_function.Settings.from_mapping(values)

    assert (read.mask_secret, read.mask_secret_arn) == (function.mask_secret, function.mask_secret_arn)
    assert KEY not in repr(read) + repr(function) + str(read.function_environment)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("PGPORT", "6432", 6432),
        ("CREATE_RDS", "False", False),
        ("CAPTURE_DDLS", "TRUE", True),
        ("STREAM_SHARDS", "4", 4),
        ("STREAM_SHARDS", "on-demand", None),
        ("BATCH_WINDOW_SECONDS", "1", 1),
        ("BATCH_WINDOW_SECONDS", "300", 300),
        ("LOB_MAX_SIZE_KB", "700", 700),
        ("SUBNET_IDS", "subnet-0a, subnet-0b", ("subnet-0a", "subnet-0b")),
        ("HEARTBEAT_SCHEMA", "", ""),
        ("TABLES", 'sales."Order"', 'sales."Order"'),
        ("PIPELINE_NAME", "l", "l"),
        ("PIPELINE_NAME", "x" * 30, "x" * 30),
        ("PIPELINE_NAME", "sgr", "sgr"),
        ("PGSSLMODE", "disable", "disable"),
        ("VPC_ENDPOINTS", "none", "none"),
        ("ALARM_EMAIL", "ops@example.org", "ops@example.org"),
    ],
)
def test_a_good_value_is_read(key: str, text: str, value: Any) -> None:
    assert getattr(Settings.from_mapping(NEEDED | {key: text}), key.lower()) == value


@pytest.mark.parametrize(
    ("key", "text", "advice"),
    [
        ("PGPORT", "0", "is not a number from 1 to 65,535"),
        ("PGPORT", "five", "is not a number from 1 to 65,535"),
        ("PGHOST", "db.example.org:5432", "is no host: write its name alone, no port"),
        ("PGSSLMODE", "verify-full", "write require; disable only where the server has no TLS"),
        ("CREATE_RDS", "yes", "is unknown: write true or false"),
        ("TABLES", "Client", "names no schema: did you mean public.Client?"),
        ("TABLES", "public.*", "did you mean public.%?"),
        ("SUBNET_IDS", "vpc-1", "is no list of subnets"),
        ("SUBNET_IDS", "subnet-0a,subnet-0a", "each once"),
        ("VPC_ENDPOINTS", "yes", "write auto, create or none"),
        ("STREAM_SHARDS", "0", "write a number from 1 to 500, or on-demand"),
        ("BATCH_WINDOW_SECONDS", "0", "is not a number from 1 to 300"),
        ("BATCH_WINDOW_SECONDS", "301", "is not a number from 1 to 300"),
        ("PIPELINE_NAME", "sg", "but no sg-"),
        ("PIPELINE_NAME", "sg-lending", "but no sg-"),
        ("PIPELINE_NAME", "amzn-s3-demo", "but no sg-"),
        ("LOB_MAX_SIZE_KB", "1024", "is not a number from 1 to 700"),
        ("PIPELINE_NAME", "Lending", "from a letter on"),
        ("PIPELINE_NAME", "lending-", "is no name"),
        ("PIPELINE_NAME", "a--b", "single -"),
        ("PIPELINE_NAME", "x" * 31, "at most 30"),
        ("DMS_INSTANCE_CLASS", "t3.medium", "write dms.t3.medium"),
        ("RDS_INSTANCE_CLASS", "t4g.medium", "write db.t4g.medium"),
        ("ALARM_EMAIL", "ops", "is no address"),
    ],
)
def test_a_bad_value_is_refused_with_what_to_write(key: str, text: str, advice: str) -> None:
    (fault,) = faults_of(NEEDED | {key: text})

    assert fault.startswith(f"{key}={text!r} ")
    assert advice in fault


def test_all_faults_are_reported_at_once() -> None:
    assert faults_of({"PIPELINE_NAME": "Lending", "PGPORT": "x", "PGUSER": "dms"}) == (
        "PGPORT='x' is not a number from 1 to 65,535",
        "PIPELINE_NAME='Lending' is no name: write at most 30 of a-z, 0-9 and single -, from a letter on, but"
        " no sg-",
        "S3_BUCKET is not set: the bucket that takes the rows, a name that nobody in the world has yet",
        "PGDATABASE is not set: the database to read",
        "PGPASSWORD is not set: its password",
        "PGHOST is not set: the host of the RDS instance; or CREATE_RDS=true, to make one",
    )


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"PGUSER": "admin"}, "PGUSER='admin' is no name that RDS takes for its master user"),
        ({"PGDATABASE": "my-db"}, "PGDATABASE='my-db' is no name that RDS takes"),
        ({"SUBNET_IDS": ""}, "SUBNET_IDS is not set"),
        ({"PGPASSWORD": "short"}, "PGPASSWORD: RDS takes 8 to 128 printable characters"),
        ({"PGPASSWORD": "s3cret@of/dms"}, "PGPASSWORD: RDS takes 8 to 128 printable characters"),
    ],
    ids=["user", "database", "subnets", "short", "characters"],
)
def test_what_rds_refuses_is_refused_before_it_is_asked(changed: dict[str, str], fault: str) -> None:
    (found,) = faults_of(NEW | changed)

    assert found.startswith(fault)


def test_a_password_is_in_no_text() -> None:
    settings = Settings.from_mapping(NEEDED)

    assert "s3cret" not in repr(settings)
    assert "s3cret" not in "".join(faults_of(NEW | {"PGPASSWORD": "s3cret@of/dms"}))


def test_the_environment_wins_over_dotenv_whose_aws_keys_reach_boto3(tmp_path: Path) -> None:
    lines = [f"{key}={value}" for key, value in NEEDED.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "AWS_PROFILE=ops", "STREAM_SHARDS=2"]))
    environment = {"STREAM_SHARDS": "3"}

    settings = read_settings(tmp_path / ".env", environment)

    assert settings.stream_shards == 3
    assert settings.pgpassword == "s3cret-of-dms"
    assert environment == {"STREAM_SHARDS": "3", "AWS_PROFILE": "ops"}


def test_an_unknown_key_of_dotenv_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PIPELINE=x\nSTREAM_SHARD=1\nCOLOUR=red\nPGUSER\n")

    with pytest.raises(SettingsError) as raised:
        read_settings(tmp_path / ".env", dict(NEEDED))

    assert raised.value.faults == (
        f"PIPELINE in {tmp_path}/.env is unknown: did you mean PIPELINE_NAME?",
        f"STREAM_SHARD in {tmp_path}/.env is unknown: did you mean STREAM_SHARDS?",
        f"COLOUR in {tmp_path}/.env is unknown: remove it",
        f"PGUSER in {tmp_path}/.env has no value: write PGUSER=... or remove it",
    )


def test_an_unreadable_dotenv_says_which_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PGPORT=5432\nPG HOST = x\n")

    with pytest.raises(SettingsError, match=r"line 2 of .* can't be read: write KEY=value"):
        read_settings(tmp_path / ".env", {})
