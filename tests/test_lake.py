"""lake.py: settings, the bucket and its cache, errors, the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

import lake
from lake_tools import bucket
from lake_tools.bucket import Lake, default_cache, dotted, find_table
from lake_tools.settings import LakeError, LakeSettings, NoTableError, read_settings
from provision.settings import Settings, SettingsError

ROOT = Path(__file__).parent.parent
SETTINGS = LakeSettings(s3_bucket="landing", s3_prefix="raw/")
CLIENT = "changes/public/client/cdc_date=2026-03-01/cdc_hour=09/"
DEADLINE_SECONDS = 60


@pytest.fixture
def opened(s3: Any, tmp_path: Path) -> Lake:
    """A lake on moto's S3, with an empty cache."""
    return Lake(SETTINGS, boto3.Session(), tmp_path / "cache")


def put(s3: Any, key: str, body: bytes = b"") -> None:
    s3.put_object(Bucket="landing", Key="raw/" + key, Body=body)


def count_gets(one: Lake) -> Counter[str]:
    """How often each key is asked for from now on."""
    counts = Counter[str]()
    one.s3.meta.events.register(
        "provide-client-params.s3.GetObject", lambda params, **_: counts.update([params["Key"]])
    )
    return counts


# ----------------------------------------------------------------------------------------------------------
# Settings
# ----------------------------------------------------------------------------------------------------------


def test_settings_need_the_bucket_alone() -> None:
    assert LakeSettings.from_mapping({"S3_BUCKET": "landing"}) == LakeSettings(s3_bucket="landing")


def test_settings_have_the_chains_names_and_defaults() -> None:
    theirs = {one.name: one.default for one in fields(Settings)}
    ours = {one.name: one.default for one in fields(LakeSettings)}
    optional_here = {"pipeline_name", "pgdatabase", "pguser", "pgpassword"}
    assert ours.keys() <= theirs.keys()
    assert {name for name, default in ours.items() if default != theirs[name]} == optional_here


def test_settings_report_all_faults_at_once(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("S3_BUKET=landing\nPGPORT=none\nTABLES=client\n")
    with pytest.raises(SettingsError) as raised:
        read_settings(tmp_path / ".env", {})
    assert str(raised.value).splitlines() == [
        "settings:",
        f"  S3_BUKET in {tmp_path}/.env is unknown: did you mean S3_BUCKET?",
        "  PGPORT='none' is not a number from 1 to 65,535",
        "  TABLES='client' is wrong: client names no schema: did you mean public.client?",
        "  S3_BUCKET is not set: the bucket that takes the rows",
    ]


def test_settings_take_no_notice_of_what_is_only_the_chains(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("S3_BUCKET=landing\nSTREAM_SHARDS=on-demand\nON_POISON=stop\n")
    assert read_settings(tmp_path / ".env", {}) == LakeSettings(s3_bucket="landing")


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({}, "PGDATABASE, PGUSER, PGHOST are"),
        ({"PGDATABASE": "shop", "PGUSER": "dms"}, "PGHOST is"),
        (
            {"CREATE_RDS": "true", "PGDATABASE": "shop", "PGUSER": "dms", "PGPASSWORD": "secret-enough"},
            "PIPELINE_NAME is",
        ),
    ],
    ids=["nothing", "host", "created-instance"],
)
def test_settings_of_the_database_are_asked_for_when_needed(values: dict[str, str], missing: str) -> None:
    settings = LakeSettings.from_mapping({"S3_BUCKET": "landing", **values})
    with pytest.raises(LakeError) as raised:
        settings.require_database()
    assert f"and {missing} not set" in str(raised.value)


def test_settings_do_not_show_the_password() -> None:
    settings = LakeSettings(s3_bucket="landing", pgpassword="opensesame", mask_secret="opensesame-too")
    assert "opensesame" not in repr(settings)


# ----------------------------------------------------------------------------------------------------------
# Listing, tables
# ----------------------------------------------------------------------------------------------------------


def test_tables_are_those_that_something_landed_of(s3: Any, opened: Lake) -> None:
    put(s3, CLIENT + "a.jsonl.gz")
    put(s3, "changes/%D1%82/Order%2E/cdc_date=2026-03-01/cdc_hour=09/a.jsonl.gz")
    put(s3, "changes/public/of somebody else/a.jsonl.gz")
    put(s3, "changes/loose.txt")
    s3.put_object(Bucket="landing", Key="changes/public/outside_the_prefix/a.jsonl.gz")
    assert opened.tables() == [("public", "client"), ("т", "Order.")]


def test_objects_have_keys_without_the_prefix(s3: Any, opened: Lake) -> None:
    for key in (CLIENT, CLIENT + "b.jsonl.gz", CLIENT + "a.jsonl.gz"):
        put(s3, key, b"x")
    found = opened.objects("changes/public/client/")
    assert [one.key for one in found] == [CLIENT + "a.jsonl.gz", CLIENT + "b.jsonl.gz"]
    assert {(one.size, one.etag) for one in found} == {(1, "9dd4e461268c8034f5c8564e155c67a6")}


KNOWN = [("public", "Client"), ("public", "loan"), ("sales", "loan"), ("sales", "a.b")]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("public.Client", ("public", "Client")),
        ("Client", ("public", "Client")),
        ('public."Client"', ("public", "Client")),
        ("sales.loan", ("sales", "loan")),
        ('sales."a.b"', ("sales", "a.b")),
        ("sales.a.b", ("sales", "a.b")),
    ],
)
def test_table_is_found_by_its_name(name: str, table: tuple[str, str]) -> None:
    assert find_table(name, KNOWN, "") == table


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("cleint", "there is no table cleint: nothing landed: did you mean public.Client?"),
        ("public.lone", "there is no table public.lone: nothing landed: did you mean public.loan?"),
        ("loan", "loan can be several tables: write public.loan or sales.loan"),
        ("zebra", "there is no table zebra: nothing landed: python lake.py schema lists the tables"),
    ],
)
def test_table_that_is_not_there_names_the_nearest(name: str, advice: str) -> None:
    with pytest.raises(NoTableError) as raised:
        find_table(name, KNOWN, "nothing landed")
    assert str(raised.value) == advice


@pytest.mark.parametrize("table", [*KNOWN, ("a.b", 'c"d'), ("x", " y")], ids=str)
def test_dotted_name_is_found_again(table: tuple[str, str]) -> None:
    assert find_table(dotted(table), [*KNOWN, ("a.b", 'c"d'), ("x", " y")], "") == table


def test_table_with_a_schema_is_known_before_rows_land(s3: Any, opened: Lake) -> None:
    put(s3, "schemas/public/client.json", b"{}")
    assert opened.table("client") == ("public", "client")


# ----------------------------------------------------------------------------------------------------------
# put, get
# ----------------------------------------------------------------------------------------------------------


def test_put_writes_and_get_reads(opened: Lake) -> None:
    assert opened.get("schemas/a.json") is None
    assert opened.put("schemas/a.json", b"1")
    assert opened.put("schemas/a.json", b"2")
    assert not opened.put("schemas/a.json", b"3", only_if_new=True)
    assert opened.put("schemas/b.json", b"4", only_if_new=True)
    assert (opened.get("schemas/a.json"), opened.get("schemas/b.json")) == (b"2", b"4")


# ----------------------------------------------------------------------------------------------------------
# The cache
# ----------------------------------------------------------------------------------------------------------


def contents(paths: Sequence[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


def test_fetch_asks_only_for_what_is_new(s3: Any, opened: Lake) -> None:
    """Promise of the cache: an object is fetched once."""
    for number in range(40):
        put(s3, f"{CLIENT}{number:02}.jsonl.gz", b"%d" % number)
    gets = count_gets(opened)
    assert contents(opened.fetch(opened.objects("changes/"))) == [b"%d" % number for number in range(40)]
    assert sum(gets.values()) == 40

    put(s3, CLIENT + "40.jsonl.gz", b"40")
    assert contents(opened.fetch(opened.objects("changes/")))[-1] == b"40"
    assert sum(gets.values()) == 41 and gets["raw/" + CLIENT + "40.jsonl.gz"] == 1


def test_cache_is_its_users_only(s3: Any, opened: Lake) -> None:
    put(s3, CLIENT + "a.jsonl.gz", b"a row")
    opened.fetch(opened.objects("changes/"))
    folders = [opened.cache, *(path for path in opened.cache.rglob("*") if path.is_dir())]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_fetch_keeps_the_order_it_is_asked_in(s3: Any, opened: Lake) -> None:
    for name in "abc":
        put(s3, f"{CLIENT}{name}.jsonl.gz", name.encode())
    found = opened.objects("changes/")
    assert contents(opened.fetch([found[2], found[0], found[2]])) == [b"c", b"a", b"c"]


def test_fetch_takes_another_version_of_an_object(s3: Any, opened: Lake) -> None:
    put(s3, CLIENT + "a.jsonl.gz", b"old")
    (old,) = opened.fetch(opened.objects("changes/"))
    put(s3, CLIENT + "a.jsonl.gz", b"new")
    (new,) = opened.fetch(opened.objects("changes/"))
    assert new.read_bytes() == b"new"
    assert old.read_bytes() == b"old", "another process may read it just now"

    os.utime(old, (0, time.time() - bucket.KEPT_SECONDS - 1))
    assert opened.fetch(opened.objects("changes/")) == [new]
    assert not old.exists()


def test_fetch_gives_what_is_there_when_an_object_is_rewritten_after_its_listing(
    s3: Any, opened: Lake
) -> None:
    put(s3, CLIENT + "a.jsonl.gz", b"old")
    listed = opened.objects("changes/")
    put(s3, CLIENT + "a.jsonl.gz", b"newer")
    gets = count_gets(opened)
    assert contents(opened.fetch(listed)) == [b"newer"]
    assert contents(opened.fetch(opened.objects("changes/"))) == [b"newer"]
    assert sum(gets.values()) == 1, "it is known under its own ETag"


def test_fetch_names_an_object_that_is_gone(s3: Any, opened: Lake) -> None:
    put(s3, CLIENT + "a.jsonl.gz", b"old")
    listed = opened.objects("changes/")
    s3.delete_object(Bucket="landing", Key=f"raw/{CLIENT}a.jsonl.gz")
    with pytest.raises(LakeError, match="it was listed, and is gone since: run the command again"):
        opened.fetch(listed)


def test_fetch_replaces_a_copy_that_is_not_whole(s3: Any, opened: Lake) -> None:
    put(s3, CLIENT + "a.jsonl.gz", b"whole")
    (path,) = opened.fetch(opened.objects("changes/"))
    path.write_bytes(b"who")
    assert contents(opened.fetch(opened.objects("changes/"))) == [b"whole"]


@pytest.mark.parametrize(
    "key",
    ["changes/../../out.gz", "changes//a.gz", "changes/./a.gz", f"changes/{'x' * 300}.gz", "changes/~a"],
)
def test_fetch_leaves_the_cache_for_no_key(s3: Any, opened: Lake, key: str) -> None:
    put(s3, key, b"body")
    (path,) = opened.fetch(opened.objects("changes/"))
    assert path.read_bytes() == b"body"
    assert path.resolve().is_relative_to(opened.cache.resolve())


def test_fetch_says_where_the_cache_can_not_be_written(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    one = Lake(SETTINGS, boto3.Session(), tmp_path / "cache")
    put(s3, CLIENT + "a.jsonl.gz", b"x")
    with pytest.raises(LakeError, match=f"cannot keep copies in {tmp_path}/cache: .*--cache DIR"):
        one.fetch(one.objects("changes/"))


def test_cache_is_of_one_bucket_prefix_and_endpoint() -> None:
    folders = {
        default_cache(settings, endpoint)
        for settings in (SETTINGS, replace(SETTINGS, s3_bucket="other"), replace(SETTINGS, s3_prefix=""))
        for endpoint in ("https://s3.eu-west-1.amazonaws.com", "http://127.0.0.1:5555")
    }
    assert len(folders) == 6


FETCH = """
import os, sys
from pathlib import Path
import boto3
from lake_tools.bucket import Lake
from lake_tools.settings import LakeSettings
lake = Lake(LakeSettings(s3_bucket=sys.argv[1]), boto3.Session(), Path(sys.argv[2]))
{before}
paths = lake.fetch(lake.objects("changes/"))
print(sum(int(path.read_bytes()) for path in paths))
"""
DIE = """
from itertools import count
numbers = count(1)
def copy_half(lake, key, file, copy=Lake.copy):
    if next(numbers) < 20:
        return copy(lake, key, file)
    file.write(b"1")
    file.flush()
    os._exit(9)
Lake.copy = copy_half
"""


@pytest.fixture
def served(moto_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A bucket of an S3 on the loopback, with objects 100 to 159."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    name = f"bucket-{abs(hash(request.node.name))}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for number in range(100, 160):
        client.put_object(Bucket=name, Key=f"changes/public/t/{number}.jsonl.gz", Body=b"%d" % number)
    yield name


def fetching(name: str, cache: Path, before: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCH.format(before=before), name, str(cache)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_fetch_goes_on_where_a_killed_one_ended(served: str, tmp_path: Path) -> None:
    killed = fetching(served, tmp_path, DIE)
    killed.communicate(timeout=DEADLINE_SECONDS)
    assert killed.returncode == 9

    one = Lake(LakeSettings(s3_bucket=served), boto3.Session(), tmp_path)
    gets = count_gets(one)
    paths = one.fetch(one.objects("changes/"))
    assert sum(map(int, contents(paths))) == sum(range(100, 160))
    assert 0 < sum(gets.values()) <= 60 - 19 + bucket.FETCH_THREADS
    assert len(list(one.parts.iterdir())) > 0, "what the killed one left"
    for left in one.parts.iterdir():
        os.utime(left, (0, 0))
    one.fetch(one.objects("changes/"))
    assert list(one.parts.iterdir()) == []


def test_fetch_is_right_for_two_processes_at_once(served: str, tmp_path: Path) -> None:
    both = [fetching(served, tmp_path) for _ in range(2)]
    assert [one.communicate(timeout=DEADLINE_SECONDS)[0] for one in both] == [f"{sum(range(100, 160))}\n"] * 2
    one = Lake(LakeSettings(s3_bucket=served), boto3.Session(), tmp_path)
    gets = count_gets(one)
    one.fetch(one.objects("changes/"))
    assert sum(gets.values()) == 0


# ----------------------------------------------------------------------------------------------------------
# Errors of AWS
# ----------------------------------------------------------------------------------------------------------


class Answered:
    status_code = 400


def refuse(one: Lake, code: str, status: int) -> None:
    answer = {"Error": {"Code": code, "Message": "secret"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    one.s3.meta.events.register("before-call.s3", lambda **_: (Answered(), answer))


ATTEMPTS: dict[str, Callable[[Lake], Any]] = {
    "list": lambda one: one.objects("changes/"),
    "read": lambda one: one.get("schemas/a.json"),
    "write": lambda one: one.put("schemas/a.json", b""),
}


@pytest.mark.parametrize(
    ("verb", "code", "status", "text"),
    [
        ("list", "AccessDenied", 403, "list s3://landing/raw/changes/: AccessDenied: allow s3:ListBucket on"),
        (
            "read",
            "AccessDenied",
            403,
            "read s3://landing/raw/schemas/a.json: AccessDenied: allow s3:GetObject",
        ),
        (
            "write",
            "AccessDenied",
            403,
            "write s3://landing/raw/schemas/a.json: AccessDenied: allow s3:PutObj",
        ),
        ("list", "NoSuchBucket", 404, "NoSuchBucket (HTTP 404): create it, or correct S3_BUCKET"),
        ("read", "ExpiredToken", 400, "ExpiredToken (HTTP 400): renew the AWS credentials"),
        ("list", "InvalidAccessKeyId", 403, "InvalidAccessKeyId (HTTP 403): correct the AWS credentials"),
        ("list", "SignatureDoesNotMatch", 403, "correct the AWS credentials"),
        ("list", "PermanentRedirect", 301, "the bucket is in another region: set AWS_DEFAULT_REGION to it"),
        ("write", "RequestTimeTooSkewed", 403, "set this machine's clock"),
        ("read", "Strange", 418, "read s3://landing/raw/schemas/a.json: Strange (HTTP 418)"),
    ],
)
def test_error_of_s3_is_one_line_with_what_to_do(
    opened: Lake, verb: str, code: str, status: int, text: str
) -> None:
    refuse(opened, code, status)
    with pytest.raises(LakeError) as raised:
        ATTEMPTS[verb](opened)
    assert text in str(raised.value)
    assert str(raised.value).startswith(f"cannot {verb} s3://landing/raw/")
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_error_of_missing_credentials_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    one = Lake(SETTINGS, boto3.Session(), tmp_path)
    with pytest.raises(LakeError, match="NoCredentialsError: configure AWS credentials, as for the AWS CLI"):
        one.objects("changes/")


def test_error_of_an_endpoint_that_does_not_answer_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)
    one = Lake(SETTINGS, boto3.Session(), tmp_path)
    with pytest.raises(LakeError, match=r"EndpointConnectionError: check the network, .*AWS_ENDPOINT_URL_S3"):
        one.objects("changes/")


@pytest.mark.parametrize(
    ("key", "value"), [("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL", "localhost:5555")], ids=str
)
def test_error_of_the_aws_configuration_says_so(
    key: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(LakeError, match="cannot use the AWS configuration: "):
        bucket.open_lake(SETTINGS, tmp_path)


# ----------------------------------------------------------------------------------------------------------
# The command line
# ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """command("schema", "client") in an empty folder, on the bucket of moto."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S3_BUCKET", "landing")
    monkeypatch.setenv("S3_PREFIX", "raw/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda *arguments: lake.main(arguments)


def test_lake_without_arguments_shows_what_there_is(
    capsys: pytest.CaptureFixture[str], command: Callable[..., int]
) -> None:
    assert command() == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {name}  " in shown for name in lake.COMMANDS)


@pytest.mark.parametrize("name", lake.COMMANDS)
def test_every_command_tells_its_arguments(
    name: str, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(name, "--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: lake.py {name} " in shown
    assert "--debug" in shown and "--cache DIR" in shown


@pytest.mark.parametrize(
    "arguments", [("zap",), ("schema", "client", "publsh"), ("schema", "--yes")], ids=" ".join
)
def test_wrong_usage_is_exit_2(
    arguments: tuple[str, ...], command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    assert "usage: lake.py" in capsys.readouterr().err


def test_error_is_one_line_and_exit_1(
    s3: Any, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    put(s3, CLIENT + "a.jsonl.gz")
    assert command("schema", "cleint") == 1
    assert capsys.readouterr() == (
        "",
        "error: there is no table cleint: nothing of it landed in s3://landing/raw/: "
        "did you mean public.client?\n",
    )


def test_error_with_debug_is_a_traceback(command: Callable[..., int]) -> None:
    with pytest.raises(NoTableError):
        command("schema", "client", "--debug")


def test_verify_that_can_not_begin_could_not_tell(
    command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("S3_BUCKET", "no_bucket")
    assert command("verify") == 2
    assert "S3_BUCKET='no_bucket' is no bucket name" in capsys.readouterr().err


def test_interrupted_is_exit_130(
    command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lake, "read_settings", interrupted)
    assert command("schema") == 130
    assert capsys.readouterr().err == "interrupted: run the same command again to go on\n"


def test_interrupt_within_duckdb_is_exit_130(
    command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = iter([RuntimeError("Query interrupted"), RuntimeError("another")])

    def interrupted(_: Any) -> None:
        raise next(errors)

    monkeypatch.setattr(lake, "read_settings", interrupted)
    assert command("schema") == 130
    with pytest.raises(RuntimeError, match="another"):
        command("schema")


@pytest.mark.parametrize(
    "arguments", [("--cache", "here", "schema"), ("schema", "--cache", "here")], ids=" ".join
)
def test_cache_may_stand_before_the_command(arguments: tuple[str, ...]) -> None:
    options = lake.parser().parse_args(arguments)
    assert (options.cache, options.debug) == (Path("here"), False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "client", "--limit", "²"), "'²' is no number of rows"),
        (("failed", "show", "--limit", "0"), "'0' is no number from 1 on"),
        (("show", "client", "--at", "0001-01-01T00:00:00+05:00"), "is no time: write 2026-03-01T09:30:00Z"),
    ],
    ids=["rows", "number", "time"],
)
def test_wrong_usage_is_told_in_words(
    arguments: tuple[str, ...], said: str, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command(*arguments)
    assert said in capsys.readouterr().err


class Hanging(BaseHTTPRequestHandler):
    """An S3 with control records that it lists, and then never gives."""

    asked, ended = threading.Event(), threading.Event()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        prefix = parse_qs(address.query).get("prefix", [""])[0]
        if address.path.startswith("/landing/control/"):
            self.asked.set()
            self.ended.wait(DEADLINE_SECONDS)
        elif "list-type" in address.query:
            self.answer(200, f"<ListBucketResult>{LISTED.get(prefix, '')}</ListBucketResult>")
        else:
            self.answer(404, "<Error><Code>NoSuchKey</Code></Error>")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


LISTED = {
    "changes/": "<CommonPrefixes><Prefix>changes/public/</Prefix></CommonPrefixes>",
    "changes/public/": "<CommonPrefixes><Prefix>changes/public/client/</Prefix></CommonPrefixes>",
    "control/": "<Contents><Key>control/cdc_date=2026-03-01/a.jsonl.gz</Key><Size>1</Size><ETag>a</ETag>"
    "<LastModified>2026-03-01T09:00:00.000Z</LastModified></Contents>",
}


def test_interrupt_does_not_wait_for_s3(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hanging) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings = {"S3_BUCKET": "landing", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
        settings |= {"XDG_CACHE_HOME": str(tmp_path)}
        command = [sys.executable, str(ROOT / "lake.py"), "schema", "client"]
        running = subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | settings, stderr=subprocess.PIPE, text=True
        )
        try:
            assert Hanging.asked.wait(DEADLINE_SECONDS), "the control records were never asked for"
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=10)
        finally:
            running.kill()
            Hanging.ended.set()
            server.shutdown()
            thread.join()
    assert (running.returncode, errors) == (130, "interrupted: run the same command again to go on\n")


CLOSED = """
import sys
sys.path.insert(0, {root!r})
import lake
from lake_tools import schemas
def run(options, opened):
    for _ in range(100_000):
        print("a row")
    return 0
schemas.run = run
sys.exit(lake.main(["schema"]))
"""


def test_pipe_that_is_closed_ends_it_silently(tmp_path: Path) -> None:
    program = CLOSED.format(root=str(ROOT))
    pipe = f'{sys.executable} -c "$1" | head -n 1; echo ${{PIPESTATUS[0]}}'
    ran = subprocess.run(
        ["bash", "-c", pipe, "pipe", program],
        cwd=tmp_path,
        env=os.environ | {"S3_BUCKET": "landing"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == ("a row\n1\n", "")


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    program = textwrap.dedent(
        """
        import sys, lake
        lake.parser()
        print(sorted({"boto3", "duckdb", "moto", "rich"} & set(sys.modules)))
        """
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout == "[]\n"
