"""python lambda_function.py: what a person sees, with and without a bucket, and when something is wrong."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from events import Context, envelope, event

import lambda_function
from lambda_function import Settings, SettingsError

ROOT = Path(__file__).parent.parent
SAMPLE = "test-input/kinesis_test_input.json"


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it in folder, with no AWS configuration but what is given."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
    return subprocess.run(
        [sys.executable, str(ROOT / "lambda_function.py"), *arguments],
        cwd=folder,
        env={**kept, "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    assert (result.returncode, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    return line


def test_without_a_bucket_objects_are_left_as_files(tmp_path: Path) -> None:
    result = run(tmp_path)

    assert result.returncode == 0
    lines = result.stdout.splitlines()
    files = sorted(path for path in (tmp_path / "output").rglob("*") if path.is_file())
    assert lines[0].split() == ["object", "in", "output", "rows", "bytes"]
    for line, path in zip(lines[1:-1], files, strict=True):
        body = path.read_bytes()
        rows = gzip.decompress(body).count(b"\n")
        assert line.split() == [str(path.relative_to(tmp_path / "output")), str(rows), str(len(body))]
    assert lines[-1] == "12 rows, 4 control records, 0 quarantined records in 6 objects"
    assert json.loads(result.stderr)["message"] == "batch landed"


def test_without_a_bucket_no_configuration_of_aws_is_used(tmp_path: Path) -> None:
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}
    result = run(tmp_path, AWS_PROFILE="missing", **nowhere)

    assert (result.returncode, result.stdout.splitlines()[-1].split(" in ")[1]) == (0, "6 objects")


def test_several_events_add_up(tmp_path: Path) -> None:
    files = [str(ROOT / SAMPLE), str(ROOT / "test-input/poison.json"), str(ROOT / "test-input/minimal.json")]
    result = run(tmp_path, *files)

    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == (
        "15 rows, 4 control records, 15 quarantined records in 9 objects"
    )


def test_with_a_bucket_objects_are_written_to_it(tmp_path: Path, moto_url: str) -> None:
    client = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")
    client.create_bucket(Bucket="lending")
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
    settings = {"S3_BUCKET": "lending", "S3_PREFIX": "raw/", "AWS_ENDPOINT_URL_S3": moto_url, **keys}
    (tmp_path / ".env").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    result = run(tmp_path)

    assert (result.returncode, result.stdout.splitlines()[0].split()[:3]) == (
        0,
        ["object", "in", "s3://lending"],
    )
    found = [entry["Key"] for entry in client.list_objects_v2(Bucket="lending")["Contents"]]
    assert [line.split()[0] for line in result.stdout.splitlines()[1:-1]] == found
    assert all(key.startswith("raw/") for key in found)
    assert not (tmp_path / "output").exists()
    client.close()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("S3_PREFIX=file/\n")
    result = run(tmp_path, S3_PREFIX="environment/")

    assert result.returncode == 0
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["environment"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"S3 BUCKET = x\n", "line 1 of .env can't be read: write KEY=value"),
        (b'LOG_LEVEL=INFO\nS3_BUCKET="unclosed\n', "line 2 of .env can't be read: write KEY=value"),
        (b"S3_BUCKET=\xff\n", ".env can't be read: UnicodeDecodeError"),
    ],
    ids=["no-key", "unclosed", "not-utf8"],
)
def test_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / ".env").write_bytes(content)

    assert error_line(run(tmp_path)) == f"error: settings: {fault}"


def test_stop_leaves_later_events_alone(tmp_path: Path) -> None:
    files = [str(ROOT / "test-input/poison.json"), str(ROOT / "test-input/minimal.json")]
    result = run(tmp_path, *files, ON_POISON="stop")

    assert result.returncode == 1
    assert "1 rows, 0 control records, 0 quarantined records in 1 objects" in result.stdout


def test_stop_is_said_and_is_no_success(tmp_path: Path) -> None:
    result = run(tmp_path, str(ROOT / "test-input/poison.json"), ON_POISON="stop")

    assert result.returncode == 1
    assert result.stdout.splitlines()[-2:] == [
        "1 rows, 0 control records, 0 quarantined records in 1 objects",
        "stopped at record 49661234567890123456789012345678901234567890132457000005, which can't be read: "
        "ON_POISON=quarantine goes on",
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "expected a file with a Kinesis event, found No such file or directory"),
        ("", "expected a Kinesis event, found no JSON in it"),
        ("not json", "expected a Kinesis event, found no JSON in it"),
        ("[" * 100_000, "expected a Kinesis event, found no JSON in it"),
        ("{}", "expected the event of a Kinesis event source mapping, found no Records in it"),
        ("[]", "expected the event of a Kinesis event source mapping, found no Records in it"),
        (
            '{"Records":[]}',
            "expected the event of a Kinesis event source mapping, found Records without a record in it",
        ),
    ],
    ids=["missing", "empty", "text", "deep", "no-records", "list", "empty-records"],
)
def test_wrong_file_is_one_line_that_names_a_sample(tmp_path: Path, content: str | None, fault: str) -> None:
    path = tmp_path / "event.json"
    if content is not None:
        path.write_text(content)
    result = run(tmp_path, "event.json")

    assert error_line(result) == f"error: event.json: {fault}; a sample is {SAMPLE}"
    assert not (tmp_path / "output").exists()


def test_wrong_file_among_good_ones_lands_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, str(ROOT / SAMPLE), "missing.json")

    assert "missing.json" in error_line(result)
    assert not (tmp_path / "output").exists()


def test_event_of_another_service_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sqs.json").write_text('{"Records":[{"eventSource":"aws:sqs","body":"secret-in-body"}]}')
    result = run(tmp_path, "sqs.json")

    assert error_line(result).startswith(
        "error: Records[0] is no Kinesis record: expected eventSource aws:kinesis"
    )
    assert "secret-in-body" not in result.stderr


def test_faults_of_settings_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("S3_BUKET=x\nLOG_LEVEL\nTABLES=x\nDEPTH=x\nAWS_DEFAULT_REGION=eu-west-1\n")
    result = run(tmp_path, ON_POISON="explode", S3_PREFIX="/raw")

    assert error_line(result) == (
        "error: settings: S3_BUKET in .env is unknown: did you mean S3_BUCKET?; "
        "LOG_LEVEL in .env has no value: write LOG_LEVEL=... or remove it; "
        "DEPTH in .env is unknown: remove it; "
        "S3_PREFIX='/raw' is no prefix: write folders with their slashes, raw/orders/; "
        "ON_POISON='explode' is unknown: write quarantine or stop"
    )


BUCKET = {"S3_BUCKET": "lending", "AWS_DEFAULT_REGION": "us-east-1"}
KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "sekret-key"}


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (BUCKET, "NoCredentialsError: configure AWS credentials, as for the AWS CLI"),
        (
            BUCKET | KEYS | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"},
            "EndpointConnectionError: check the network, the region and AWS_ENDPOINT_URL_S3",
        ),
        (BUCKET | {"AWS_PROFILE": "missing"}, "The config profile (missing) could not be found"),
        (BUCKET | KEYS | {"AWS_ENDPOINT_URL_S3": "localhost:5555"}, "Invalid endpoint: localhost:5555"),
    ],
    ids=["no-credentials", "no-endpoint", "no-profile", "no-url"],
)
def test_aws_out_of_reach_is_one_line(tmp_path: Path, environment: dict[str, str], reason: str) -> None:
    line = error_line(run(tmp_path, **environment))

    assert line.startswith("error: cannot ")
    assert line.endswith(reason)
    assert "sekret" not in line


def test_missing_bucket_is_one_line(tmp_path: Path, moto_url: str) -> None:
    settings = BUCKET | KEYS | {"S3_BUCKET": "missing-bucket", "AWS_ENDPOINT_URL_S3": moto_url}
    line = error_line(run(tmp_path, **settings))

    assert line.startswith("error: cannot write s3://missing-bucket/control/cdc_date=2026-03-01/shardId-")
    assert line.endswith("NoSuchBucket (HTTP 404): create it, or correct S3_BUCKET")


def test_debug_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    result = run(tmp_path, "--debug", "missing.json")

    assert "Traceback" in result.stderr
    assert "read_event" in result.stderr


def test_usage_error_is_exit_2(tmp_path: Path) -> None:
    assert run(tmp_path, "--colour").returncode == 2


def test_disk_that_takes_no_more_is_one_line(tmp_path: Path) -> None:
    limit = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
    script = f"{limit}; runpy.run_path({str(ROOT / 'lambda_function.py')!r}, run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-B", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: cannot write output/changes/public/")
    assert result.stderr.splitlines()[-1].endswith(".jsonl.gz: File too large")


def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "event.json"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "lambda_function.py"), str(fifo)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with fifo.open("w"):  # opens once the command reads it, and keeps it waiting
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert (process.returncode, out, err) == (130, "", "")


def test_settings_example_and_readme_name_the_same_settings() -> None:
    keys = [*Settings.keys().values(), *lambda_function.CHAIN_SETTINGS]
    example = [
        line.split("=")[0]
        for line in (ROOT / ".env.example").read_text().splitlines()
        if line[:1] not in "# "
    ]
    table = [
        line.split("`")[1]
        for line in (ROOT / "README.md")
        .read_text()
        .partition("## Settings")[2]
        .partition("\n## ")[0]
        .splitlines()
        if line.startswith("| `")
    ]
    assert example == keys
    assert table == keys


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("S3_BUCKET", ["", "abc", "my.bucket-1", "x" * 63]),
        ("S3_PREFIX", ["", "raw/", "raw/lending/", "a=1/b_c/", "v1.2/"]),
        ("ON_POISON", ["", "quarantine", "stop"]),
        ("BEFORE_IMAGE_FIELD", ["", "before-image", "vorher", "BI"]),
        ("LOG_LEVEL", ["", "INFO", "WARNING", "ERROR"]),
    ],
)
def test_settings_take_good_values(key: str, good: list[str]) -> None:
    for value in good:
        assert Settings.from_mapping({key: value}) == Settings(**({key.lower(): value} if value else {}))


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("S3_BUCKET", ["s3://bucket", "bucket/", "Bucket", "ab", "x" * 64, "-bucket", "a b c"]),
        (
            "S3_PREFIX",
            ["raw", "/raw/", "raw//x/", "../", "./", "raw/*/", "a b/", "raw/\n", "é/", "x" * 400 + "/"],
        ),
        ("ON_POISON", ["ignore", "STOP"]),
        ("BEFORE_IMAGE_FIELD", ["data", "metadata", "control"]),
        ("LOG_LEVEL", ["DEBUG", "info"]),
    ],
)
def test_settings_refuse_bad_values_by_name(key: str, bad: list[str]) -> None:
    for value in bad:
        with pytest.raises(SettingsError, match=f"^settings: {key}="):
            Settings.from_mapping({key: value})


def test_function_without_a_bucket_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="S3_BUCKET is not set"):
        lambda_function.lambda_handler(event(envelope()), Context())


def test_import_loads_nothing_heavy_and_nothing_of_ours() -> None:
    script = "import sys, lambda_function; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    ours: set[Any] = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {"boto3", "botocore", "moto", "dotenv"}.isdisjoint(loaded)
    assert ours & set(loaded) == {"lambda_function"}
