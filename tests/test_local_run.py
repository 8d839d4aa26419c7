"""python -m local_run: that it never talks to AWS, what it does when a part ends, the whole chain."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import boto3
import msgspec
import psutil
import psycopg2
import pytest

from local_run import machine as machine_module
from local_run import surroundings
from local_run.__main__ import invite, main, plan_of, play, read_options
from local_run.kills import Killer
from local_run.machine import Interrupted, Interrupts, Machine, Plan, Sample, environment_of, exports, traces
from local_run.mirror import Mirror, emptied_mirror, path_below
from local_run.part import Part
from local_run.postgres import fill, start_postgres
from local_run.replication import position
from local_run.replication.position import Progress
from local_run.screen import Screen, Summary
from local_run.surroundings import (
    Database,
    LocalRunError,
    chosen_settings,
    claimed_folder,
    database_of_url,
    empty_run,
    emulator_addresses,
    part_environment,
    reason_against,
    write_environment,
)
from provision.settings import SettingsError

ROOT = Path(__file__).parent.parent
NO_DOTENV = Path("/nonexistent/.env")
DATABASE = Database("127.0.0.1", 5432, "lending", "postgres", "s3cret")
AWS = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:5555",
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "SUBNET_IDS": "subnet-1a,subnet-2b",
}


def wait_until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.02)


# Options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rate", "0"], "no rate"),
        (["--rate", "fast"], "no rate"),
        (["--rate", "50", "--no-workload"], "--rate is of the changes"),
        (["--rate", "50", "--database-url", "postgresql://u@h/d"], "--rate is of the changes"),
        (["--seconds", "-1"], "--seconds"),
        (["--seconds", "abc"], "argument --seconds: 'abc' is no time: write seconds, like 20 or 0.5"),
        (["--seconds", "nan"], "'nan' is no time"),
        (["--poll-seconds", "0"], "--poll-seconds"),
        (["--forever", "--seconds", "5"], "exclude each other"),
        (["--format", "xml"], "--format"),
        (["--output", "x", "--folder", "./x"], "two folders"),
        (["--parts"], "unrecognized"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        *(["-m", f"local_run{name}"] for name in ("", ".aws", ".postgres", ".workload")),
        *(["-m", f"local_run.{name}"] for name in ("replication", "event_source_mapping")),
        *([name] for name in ("setup_dms.py", "lake.py")),
    ],
    ids=lambda command: command[-1],
)
def test_help_is_shown(command: list[str]) -> None:
    asked = [sys.executable, *command, "--help"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("usage: ")


def test_help_shows_the_tables_that_are_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(["--help"])
    assert "(default: public.%; of your own, TABLES)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "is_shared"),
    [
        ([], False),
        (["--seconds", "5"], False),
        (["--forever"], True),
        (["--no-workload"], True),
        (["--no-workload", "--seconds", "5"], True),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_only_a_run_that_others_are_invited_to_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], is_shared: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan_of(read_options(arguments)).is_shared is is_shared


def test_errors_are_one_line_and_exit_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("not a run's")
    kept = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    try:
        assert main(["--folder", "."]) == 1
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), kept, strict=True):
            signal.signal(number, handler)
    told = capsys.readouterr().err
    assert told == f"error: {tmp_path} holds other files: name a folder that is empty or not there\n"


# Settings ------------------------------------------------------------------------------------------------


def test_settings_have_defaults_that_need_no_env_file() -> None:
    assert chosen_settings(NO_DOTENV, {}, "public.%") == {
        "PIPELINE_NAME": "lending",
        "S3_BUCKET": "lending-local",
        "BATCH_WINDOW_SECONDS": "1",
        "TABLES": "public.%",
    }


def test_settings_of_the_environment_win_over_those_of_the_env_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "S3_BUCKET=\nS3_PREFIX=raw/\nON_POISON=stop\nPGHOST=db.example.org\nALARM_EMAIL=a@b.org\n"
    )
    found = chosen_settings(file, {"S3_PREFIX": "cooked/", "HEARTBEAT_SCHEMA": "", "PATH": "/bin"}, None)
    assert found == {
        "S3_PREFIX": "cooked/",
        "ON_POISON": "stop",
        "HEARTBEAT_SCHEMA": "",
        "S3_BUCKET": "lending-local",
        "PIPELINE_NAME": "lending",
        "BATCH_WINDOW_SECONDS": "1",
    }


MASKS = "public.client.email=sha256"
MASK_SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:theirs-AbCdEf"


def test_masks_of_the_option_go_before_those_of_the_settings() -> None:
    found = chosen_settings(NO_DOTENV, {"MASKED_COLUMNS": "public.client.name=drop"}, None, MASKS)
    assert found["MASKED_COLUMNS"] == MASKS


def test_masks_get_a_key_of_their_own_where_none_is_set(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"MASK_SECRET_ARN={MASK_SECRET_ARN}")  # in another AWS
    first, second = (chosen_settings(file, {}, None, MASKS) for _ in range(2))
    assert re.fullmatch("[0-9a-f]{32}", first["MASK_SECRET"])
    assert first["MASK_SECRET"] != second["MASK_SECRET"]
    assert first["MASK_SECRET_ARN"] == ""


def test_a_key_of_masks_that_is_set_is_taken_and_shown_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASK_SECRET", "correct-horse-battery-staple")
    plan = plan_of(read_options(["--masked-columns", MASKS]))
    assert plan.settings["MASK_SECRET"] == "correct-horse-battery-staple"
    assert "correct-horse" not in repr(plan)
    variables = part_environment({}, plan.settings, DATABASE, AWS, {})
    file = write_environment(tmp_path, variables)
    assert "export MASK_SECRET=correct-horse-battery-staple\n" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("MASKED_COLUMNS=public.client=sha256", "write schema.table.column"),
        ("STREAM_SHARDS=0", "STREAM_SHARDS='0' is unknown"),
        ("STREAM_SHARD=1", "did you mean STREAM_SHARDS"),
        ("S3_PREFIX=/raw", "S3_PREFIX='/raw' is no prefix"),
    ],
)
def test_settings_are_wrong_here_where_they_are_wrong_on_aws(
    tmp_path: Path, line: str, complaint: str
) -> None:
    (tmp_path / ".env").write_text(line)
    with pytest.raises(SettingsError, match=re.escape(complaint)):
        chosen_settings(tmp_path / ".env", {}, None)


# Never AWS -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "is AWS"),
        ("https://kinesis.cn-north-1.amazonaws.com.cn", "is AWS"),
        ("https://S3.EU-WEST-1.AMAZONAWS.COM.:443/", "is AWS"),
        ("https://s3.eu-west-1.api.aws", "is AWS"),
        ("http://93.184.216.34:4566", "is on the internet"),
        ("http://[2606:2800:220:1::]:4566", "is on the internet"),
        ("http://no-such-host.invalid", "can't be found"),
        ("127.0.0.1:4566", "is no address"),
        ("ftp://127.0.0.1", "is no address"),
        ("http://127.0.0.1:4566", None),
        ("http://localhost:4566", None),
        ("http://[::1]:4566", None),
        ("http://192.168.1.20:9000", None),
        ("http://10.1.2.3", None),
    ],
)
def test_only_emulators_of_this_machine_and_its_network_are_called(url: str, reason: str | None) -> None:
    found = reason_against(url)
    assert found is None if reason is None else reason in str(found)


def test_an_endpoint_of_aws_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AWS_ENDPOINT_URL_S3=https://s3.eu-west-1.amazonaws.com\n")
    with pytest.raises(LocalRunError, match=r"AWS_ENDPOINT_URL_S3=.* is AWS: .* or unset it"):
        emulator_addresses(tmp_path / ".env", {})


def test_emulators_of_the_environment_are_passed_on(tmp_path: Path) -> None:
    given = {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000",
        "AWS_ENDPOINT_URL_KINESIS": "",
        "AWS_ENDPOINT_URL_DMS": "http://127.0.0.1:1",
    }
    assert emulator_addresses(tmp_path / ".env", given) == {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"}


def test_parts_get_nothing_of_aws_but_the_emulated_one() -> None:
    mine = {
        "PATH": "/bin",
        "HTTP_PROXY": "http://proxy:3128",
        "NO_PROXY": "example.org",
        "AWS_PROFILE": "production",
        "AWS_SESSION_TOKEN": "token",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_ENDPOINT_URL_DMS": "https://dms.eu-west-1.amazonaws.com",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "PGHOST": "production.example.org",
        "PGSERVICE": "production",
        "CREATE_RDS": "true",
        "ALARM_EMAIL": "ops@example.org",
    }
    found = part_environment(mine, {"S3_BUCKET": "b"}, DATABASE, AWS, {"AWS_ENDPOINT_URL_S3": "http://[::1]"})
    assert found == {
        "PATH": "/bin",
        "HTTP_PROXY": "http://proxy:3128",
        "NO_PROXY": "example.org,127.0.0.1,localhost",
        "no_proxy": "example.org,127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
        "S3_BUCKET": "b",
        "CREATE_RDS": "false",
        "VPC_ENDPOINTS": "auto",
        **AWS,
        "AWS_ENDPOINT_URL_S3": "http://[::1]",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PGHOST": "127.0.0.1",
        "PGPORT": "5432",
        "PGDATABASE": "lending",
        "PGUSER": "postgres",
        "PGPASSWORD": "s3cret",
        "PGSSLMODE": "disable",
    }


def test_the_run_s_own_clients_ask_no_proxy_for_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    proxied = {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "example.org", "AWS_PROFILE": "production"}
    for key, value in proxied.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("no_proxy", raising=False)
    former = dict(os.environ)
    with environment_of(part_environment(proxied, {}, DATABASE, AWS, {})):
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "example.org,127.0.0.1,localhost"
        assert "AWS_PROFILE" not in os.environ
    assert dict(os.environ) == former


def test_a_shell_that_reads_the_environment_file_talks_to_the_run(tmp_path: Path) -> None:
    environment = part_environment({"PATH": "/bin", "LANG": "C"}, {"S3_PREFIX": "a'b/"}, DATABASE, AWS, {})
    file = write_environment(tmp_path, environment)
    told = subprocess.run(
        ["/bin/sh", "-c", f'. {file}; echo "$PGPORT $S3_PREFIX $AWS_ENDPOINT_URL ${{AWS_PROFILE-none}}"'],
        env={"AWS_PROFILE": "production"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "5432 a'b/ http://127.0.0.1:5555 none\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "LANG" not in file.read_text()


# Another database ----------------------------------------------------------------------------------------


def test_a_database_url_that_is_none_does_not_show_its_password() -> None:
    with pytest.raises(LocalRunError) as found:
        database_of_url("postgresql//user:s3cret@host/x")
    assert "s3cret" not in str(found.value)
    assert "write postgresql://user@host:5432/database" in str(found.value)


def test_a_database_that_can_not_be_reached_is_named_without_its_password() -> None:
    with pytest.raises(LocalRunError, match="cannot connect to the database of --database-url") as found:
        database_of_url("postgresql://user:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in str(found.value)


def test_a_database_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "CONNECT_SECONDS", 2)  # what a test can wait for
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(LocalRunError, match="cannot connect to the database of --database-url"),
    ):
        database_of_url(f"postgresql://user@127.0.0.1:{silent.getsockname()[1]}/x")


# The folder ----------------------------------------------------------------------------------------------


def test_a_run_replaces_what_a_former_run_has_left_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with claimed_folder(folder):
        empty_run(folder)
        (folder / "replication").mkdir()
        (folder / "replication" / "state.json").write_text("{}")
        (folder / "environment").write_text("export A=1")
        (folder / "notes.txt").write_text("mine")
    with claimed_folder(folder):
        empty_run(folder)
        assert sorted(path.name for path in folder.iterdir()) == [".local-run", "logs", "notes.txt", "status"]


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "replication").mkdir()
    with pytest.raises(LocalRunError, match="holds other files"), claimed_folder(tmp_path):
        pass
    assert (tmp_path / "replication").exists()


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        claimed_folder(tmp_path / "run"),
        pytest.raises(LocalRunError, match="another run uses"),
        claimed_folder(tmp_path / "run"),
    ):
        pass


def test_two_runs_do_not_share_an_output(tmp_path: Path) -> None:
    with (
        claimed_folder(tmp_path / "out", "--output"),
        pytest.raises(LocalRunError, match=r"another run uses .*name another --output"),
        claimed_folder(tmp_path / "out", "--output"),
    ):
        pass


# The mirror ----------------------------------------------------------------------------------------------


def test_mirror_fetches_what_is_new_or_changed(s3: Any, tmp_path: Path) -> None:
    mirror = Mirror(s3, "landing", emptied_mirror(tmp_path / "out"))
    s3.put_object(Bucket="landing", Key="changes/public/client/cdc_hour=09/a.jsonl.gz", Body=b"one")
    mirror.bring_up_to_date()
    file = tmp_path / "out/changes/public/client/cdc_hour=09/a.jsonl.gz"
    first = file.stat().st_ino
    mirror.bring_up_to_date()
    assert (file.read_bytes(), file.stat().st_ino) == (b"one", first)
    s3.put_object(Bucket="landing", Key="changes/public/client/cdc_hour=09/a.jsonl.gz", Body=b"two")
    mirror.bring_up_to_date()
    assert file.read_bytes() == b"two"
    assert mirror.remark is None


def test_mirror_goes_on_by_itself_and_is_complete_at_the_end(s3: Any, tmp_path: Path) -> None:
    mirror = Mirror(s3, "landing", emptied_mirror(tmp_path / "out"))
    mirror.start()
    s3.put_object(Bucket="landing", Key="a", Body=b"a")
    wait_until((tmp_path / "out/a").exists)
    s3.put_object(Bucket="landing", Key="b", Body=b"b")
    mirror.stop(is_final=True)
    assert (tmp_path / "out/b").read_bytes() == b"b"


def test_a_new_mirror_removes_the_files_of_the_former_one_and_no_others(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="landing", Key="changes/a/b", Body=b"a")
    Mirror(s3, "landing", emptied_mirror(tmp_path / "out")).bring_up_to_date()
    (tmp_path / "out/changes/notes.txt").write_text("mine")
    emptied_mirror(tmp_path / "out")
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
    assert found == [".local-run", "changes", "changes/notes.txt"]


@pytest.mark.parametrize(
    "key",
    [
        "../a",
        "a/../../b",
        "/etc/passwd",
        "a//b",
        "a/",
        ".",
        "a/./b",
        ".local-run",
        "a\nb",
        "x" * 300,
        "link/a",
    ],
)
def test_no_key_leaves_the_mirror(tmp_path: Path, key: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to(tmp_path / "elsewhere")
    assert path_below(tmp_path / "out", key) is None


def test_mirror_names_the_keys_that_it_leaves_out(s3: Any, tmp_path: Path) -> None:
    for key in ("a", "a/b", "../c"):
        s3.put_object(Bucket="landing", Key=key, Body=b"x")
    mirror = Mirror(s3, "landing", emptied_mirror(tmp_path / "out"))
    mirror.bring_up_to_date()
    assert str(mirror.remark).startswith("2 keys are no paths and have no file")
    assert not (tmp_path / "c").exists()


# Parts ---------------------------------------------------------------------------------------------------

WRITES_A_STATUS = """
    import json, os, signal, sys, time
    name, folder, counted = sys.argv[1], sys.argv[2], sys.argv[3]
    def end(*_):
        with open(f"{folder}/ended", "a") as log:
            log.write(name + "\\n")
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    with open(f"{folder}/status/{name}.new", "w") as file:
        json.dump({"pid": os.getpid(), "records": int(counted), "cpu_seconds": 0.5}, file)
    os.replace(f"{folder}/status/{name}.new", f"{folder}/status/{name}.json")
    while True:
        time.sleep(0.05)  # a signal just before a sleep is only seen after it
"""


def make_part(folder: Path, name: str, script: str = WRITES_A_STATUS, counted: int = 3) -> Part:
    for below in ("status", "logs"):
        (folder / below).mkdir(exist_ok=True)
    command = [sys.executable, "-c", textwrap.dedent(script), name, str(folder), str(counted)]
    return Part(name, command, folder, dict(os.environ))


def started(part: Part) -> Part:
    part.start()
    wait_until(lambda: bool(part.look()))
    return part


def write_status(part: Part, **status: Any) -> None:
    assert part.process is not None
    file = part.folder / "status" / f"{part.name}.json"
    file.write_text(json.dumps({"pid": part.process.pid, **status}))


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    part = make_part(tmp_path, "replication")
    yield part
    part.kill()


def test_part_counts_on_over_its_restarts(part: Part) -> None:
    started(part)
    part.kill()
    assert not part.is_running
    part.start()
    assert part.total("records") == 3
    wait_until(lambda: bool(part.look()))
    assert part.total("records") == 6
    assert part.cpu_seconds >= 1.0


def test_part_counts_on_when_its_process_counts_anew(part: Part, tmp_path: Path) -> None:
    started(part)
    write_status(part, records=1)
    part.look()
    assert part.total("records") == 4


def test_status_of_another_process_is_not_read(part: Part, tmp_path: Path) -> None:
    part.start()
    (tmp_path / "status/replication.json").write_text('{"pid": 1, "records": 99}')
    assert part.total("records") == 0


def test_part_that_does_not_end_is_killed(tmp_path: Path) -> None:
    deaf = make_part(
        tmp_path,
        "deaf",
        """
        import signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(sys.argv[2] + "/deaf", "w").close()
        while True:
            time.sleep(60)
        """,
    )
    deaf.start()
    wait_until((tmp_path / "deaf").exists)
    assert deaf.stop(lambda: 0.2) is False
    assert not deaf.is_running


def test_part_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    starter = """
        import sys, time
        sys.path.insert(0, sys.argv[2])
        from pathlib import Path
        from test_local_run import make_part, started
        part = started(make_part(Path(sys.argv[1]), "replication"))
        print(part.process.pid, flush=True)
        time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(starter), str(tmp_path), str(Path(__file__).parent)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    started_process = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.communicate()
    assert psutil.wait_procs([started_process], timeout=20)[1] == []


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "it said nothing"),
        ("starting\nerror: settings:\n  no table\n  no user\n\n", "settings: no table no user"),
        ("Traceback\n  File\nValueError: x\n", "ValueError: x"),
        ("y" * 999, "y" * 600),
    ],
    ids=["nothing", "an error line", "a traceback", "a long line"],
)
def test_last_words_are_one_line(part: Part, log: str, words: str) -> None:
    part.log.write_text(log)
    assert part.last_words() == words


# The machine ---------------------------------------------------------------------------------------------


def make_machine(folder: Path, **more: Any) -> Machine:
    settings = {"PIPELINE_NAME": "lending", "S3_BUCKET": "lending-local", "BATCH_WINDOW_SECONDS": "1"}
    plan = Plan(settings=settings, environment={}, folder=folder, **more)
    return Machine(plan, Interrupts(), lambda text: None)


def test_machine_stops_in_order(tmp_path: Path) -> None:
    def end_postgres() -> None:
        with (tmp_path / "ended").open("a") as log:
            log.write("PostgreSQL\n")

    with make_machine(tmp_path) as machine:
        for name in ("aws", "replication", "event_source_mapping", "workload"):
            machine.parts[name] = started(make_part(tmp_path, name))
        machine.stack.callback(end_postgres)
    assert (tmp_path / "ended").read_text().split() == [
        *("workload", "replication", "event_source_mapping", "PostgreSQL", "aws"),
    ]


def test_machine_stops_the_rest_when_one_can_not_be_stopped(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("PostgreSQL's folder is gone")

    machine = make_machine(tmp_path)
    machine.parts["aws"] = started(make_part(tmp_path, "aws"))
    machine.stack.callback(fail)
    with pytest.raises(OSError, match="folder is gone"):
        machine.stop()
    assert not machine.parts["aws"].is_running


def test_a_part_that_ends_unasked_is_named_with_its_last_words(tmp_path: Path) -> None:
    script = 'import sys; print("error: no such mapping", file=sys.stderr); sys.exit(1)'
    with make_machine(tmp_path) as machine:
        part = machine.parts["event_source_mapping"] = make_part(tmp_path, "event_source_mapping", script)
        part.start()
        wait_until(lambda: not part.is_running)
        with pytest.raises(
            LocalRunError, match="Lambda's stand-in has ended with exit code 1: no such mapping"
        ):
            machine.check()


def test_a_part_that_is_killed_runs_again(tmp_path: Path) -> None:
    with make_machine(tmp_path) as machine:
        part = machine.parts["replication"] = started(make_part(tmp_path, "replication"))
        assert part.process is not None
        former = part.process.pid
        assert Killer(machine, None, 0).kill("replication")
        assert part.is_running and part.process.pid != former


def test_a_process_that_is_not_the_poller_s_is_not_killed(tmp_path: Path) -> None:
    with make_machine(tmp_path) as machine:
        part = machine.parts["event_source_mapping"] = started(make_part(tmp_path, "event_source_mapping"))
        part.seen["function_pids"] = [os.getpid()]
        assert Killer(machine, None, 0).kill("function") is False


def test_kills_go_round_all_parts(tmp_path: Path) -> None:
    targets = Killer(make_machine(tmp_path), 1.0, seed=7).targets()
    rounds = [sorted(next(targets) for _ in range(3)) for _ in range(4)]
    assert rounds == [["event_source_mapping", "function", "replication"]] * 4


def test_a_failed_task_ends_the_run_with_its_message(tmp_path: Path) -> None:
    with make_machine(tmp_path) as machine:
        part = machine.parts["replication"] = started(make_part(tmp_path, "replication"))
        write_status(part, state="failed", message="the slot is gone")
        with pytest.raises(LocalRunError, match=r"the DMS stand-in is failed, .*: the slot is gone"):
            machine.check_states()


def test_waiting_ends_at_an_interrupt(tmp_path: Path) -> None:
    machine = make_machine(tmp_path)
    machine.interrupts.add()
    with pytest.raises(Interrupted):
        machine.wait_for("nothing", lambda: False)


def test_a_command_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    command = [sys.executable, "-c", "import sys; sys.exit('error: no zip')"]
    with pytest.raises(LocalRunError, match=r"setup_dms.py apply failed: no zip; .* in .*apply.log"):
        make_machine(tmp_path).command("apply", "setup_dms.py apply", command, dict(os.environ))


def test_drain_ends_when_nothing_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "DRAIN_SECONDS", -10.0)
    with pytest.raises(LocalRunError, match="nothing has landed"):
        make_machine(tmp_path).wait_moving(lambda: False, lambda: None)


def test_drain_ends_at_the_second_interrupt(tmp_path: Path) -> None:
    machine = make_machine(tmp_path)
    machine.interrupts.add()
    shown: list[None] = []

    def show() -> None:
        shown.append(None)
        machine.interrupts.add()

    with pytest.raises(Interrupted):
        machine.wait_moving(lambda: False, show)
    assert len(shown) == 1


def test_exports_are_read_from_whole_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "aws.log"
    log.write_text("# at x\nexport A=1 B='two words'\nexport SUBNET_IDS=subnet-1")
    assert exports(log) == {"A": "1", "B": "two words"}


@pytest.mark.parametrize(
    ("told", "is_so"), [(None, False), ("0/16B3747", False), ("0/16B3748", True), ("1/0", True)]
)
def test_dms_has_sent_what_stands_before_its_position(tmp_path: Path, told: str | None, is_so: bool) -> None:
    with make_machine(tmp_path) as machine:
        part = machine.parts["replication"] = started(make_part(tmp_path, "replication"))
        write_status(part, position=told)
        assert machine.has_sent(23803720) is is_so


def test_a_suspended_table_is_told_while_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_machine(tmp_path, seconds=0.1, has_workload=False) as machine:
        part = machine.parts["replication"] = started(make_part(tmp_path, "replication"))
        write_status(part, state="running", suspended={"public.note": "it is not what DMS knows any more"})
        assert play(machine, Killer(machine, None, 0), Screen(0.1)) is False
    assert capsys.readouterr().err.splitlines()[0] == (
        "table public.note is suspended: it is not what DMS knows any more"
    )


def test_who_takes_part_is_told_how_new_tables_are_taken(tmp_path: Path) -> None:
    machine, told = make_machine(tmp_path, seconds=None), []
    machine.say = told.append
    invite(machine)
    assert told[0].splitlines()[-1] == (
        f"# a table made now is taken after: {sys.executable} {ROOT / 'setup_dms.py'} apply"
    )


def test_the_zip_is_built_in_the_run_s_folder_when_the_checkout_can_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, folder = tmp_path / "checkout", tmp_path / "run"
    for name in (checkout, folder, folder / "logs"):
        name.mkdir()
    (checkout / "build").write_text("")  # no folder can be made there
    for name in ("lambda_function.py", "requirements-lambda.txt"):
        (checkout / name).write_text("")
    script = checkout / "deploy.sh"
    script.write_text('#!/bin/sh\ncd "$(dirname "$0")" && cp lambda_function.py "$5"\n')
    script.chmod(0o755)
    monkeypatch.setattr(machine_module, "ROOT", checkout)
    zip_file = make_machine(folder).build_zip()
    assert zip_file.is_file()
    assert zip_file.parent == folder / "checkout/build"
    (folder / "status").mkdir()
    empty_run(folder)
    assert make_machine(folder).build_zip() == zip_file


# Traces of a killed run ----------------------------------------------------------------------------------

TRACES = Progress(
    database="db.example.org:5432/shop",
    slot="lending_task_00016384_1",
    publications="local_run_lending_task",
)


def leave_traces(folder: Path) -> Path:
    (folder / "replication").mkdir()
    position.save(folder / "replication/state.json", TRACES)
    return folder / "replication/state.json"


@pytest.mark.parametrize("database", [None, DATABASE], ids=["our own", "another one"])
def test_traces_of_a_killed_run_in_another_database_are_named_and_kept(
    tmp_path: Path, database: Database | None
) -> None:
    file = leave_traces(tmp_path)
    with (
        pytest.raises(LocalRunError) as found,
        make_machine(tmp_path, database=database, has_workload=False) as machine,
    ):
        machine.start()
    assert str(found.value) == (
        "a killed run has left replication slot lending_task_00016384_1, which keeps its log,"
        " in database db.example.org:5432/shop: name its --database-url once more, and all is dropped;"
        f" or drop it there (SELECT pg_drop_replication_slot('lending_task_00016384_1');) and remove {file}"
    )
    assert position.load(file) == TRACES


def test_traces_of_a_run_that_was_killed_before_it_had_a_slot_are_its_publications() -> None:
    assert traces(msgspec.structs.replace(TRACES, slot="")) == (
        "publications local_run_lending_task_all, local_run_lending_task_inserts",
        "DROP PUBLICATION IF EXISTS local_run_lending_task_all, local_run_lending_task_inserts;",
    )


def test_traces_in_a_database_of_our_own_are_gone_with_it(tmp_path: Path) -> None:
    leave_traces(tmp_path)
    (tmp_path / "postgres").mkdir()
    make_machine(tmp_path).expect_no_traces_elsewhere()


def test_traces_in_the_named_database_are_removed() -> None:
    with tempfile.TemporaryDirectory() as folder, start_postgres() as server:
        database = Database("127.0.0.1", server.port, "postgres", "postgres", "local")
        state = leave_traces(Path(folder))
        position.save(state, msgspec.structs.replace(TRACES, database=database.address))
        with closing(psycopg2.connect(server.dsn)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (TRACES.slot,))
            cursor.execute("CREATE PUBLICATION local_run_lending_task_all")
            cursor.execute("CREATE PUBLICATION mine")
            machine = make_machine(Path(folder), database=database)
            machine.expect_no_traces_elsewhere()
            machine.remove_traces()
            cursor.execute("SELECT count(*) FROM pg_replication_slots")
            assert cursor.fetchone() == (0,)
            cursor.execute("SELECT pubname FROM pg_publication")
            assert cursor.fetchall() == [("mine",)]
        assert not state.exists()


# The screen ----------------------------------------------------------------------------------------------


def make_sample(**more: Any) -> Sample:
    counts = {
        "at": 100.0,
        "committed": 2000,
        "changes": 1990,
        "loaded": 6500,
        "records": 8498,
        "invocations": 12,
        "errors": 0,
        "rows": 8480,
        "objects": 36,
        "given_up": 0,
        "iterator_age_ms": 512.4,
        "latency_ms": {"count": 1900, "p50": 611.5, "p99": 1204.0},
        "recent_latency_ms": {"count": 900, "p50": 598.0, "p99": 1100.0},
    }
    return Sample(**{**counts, **more})


def test_screen_shows_count_rate_and_lag_of_each_stage() -> None:
    screen = Screen(20.0)
    screen.show(make_sample(at=98.0, committed=1600, records=8098, rows=8080, invocations=10))
    last = make_sample()
    screen.show(last)
    assert screen.rows(last) == [
        ("PostgreSQL", "2,000 changes", "200", ""),
        ("DMS stand-in", "8,498 records", "200", "10 changes"),
        ("Lambda", "12 invocations", "1", "512 ms"),
        ("S3", "8,480 rows in 36 objects", "200", "p50 598 ms, p99 1,100 ms"),
    ]


def test_without_a_terminal_a_line_comes_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(20.0, started=time.monotonic() - 6)
    with screen:
        screen.next_line = 100.0
        for at in (99.0, 100.0, 101.0, 105.0):
            screen.show(make_sample(at=at, errors=2))
    told = capsys.readouterr()
    assert told.out == ""
    assert (
        told.err.splitlines()
        == [
            "6 of 20 s: 2,000 changes, 8,498 records, 12 invocations (2 failed), 8,480 rows (0/s)"
            " in 36 objects, p50 598 ms, p99 1,100 ms"
        ]
        * 2
    )


def test_summary_says_what_was_committed_what_landed_and_what_it_cost() -> None:
    summary = Summary(
        sample=make_sample(),
        seconds=20.0,
        landed_seconds=21.5,
        committed={"public.client": {"insert": 1500, "update": 20}, "public.loan": {"delete": 480}},
        verdict={"is_exact": False, "lost": 3, "kinesis_redeliveries": 2, "dms_resends": {"insert": 5}},
        verdict_text="not exact: public.note: 3 insert lost\nmore than once: 0",
        cpu_seconds={"workload": 0.1, "PostgreSQL": 0.2, "aws": 1.0},
        kills={"function": 2, "PostgreSQL": 1},
        remarks=["logs: /run/logs"],
    )
    assert summary.as_text() == textwrap.dedent("""\
        committed          insert      update      delete
        public.client       1,500          20           0
        public.loan             0           0         480

        PostgreSQL        2,000 changes in 20.0 s (100/s)
        DMS stand-in      8,498 records, of them 6,500 loaded rows
        Lambda            12 invocations
        S3                8,480 rows in 36 objects, all 1.5 s after the last change (93/s)
        commit to object  p50 612 ms, p99 1,204 ms

        CPU a change, in microseconds
        workload              50
        PostgreSQL           100
        emulated AWS         500
        in all               650

        killed 3 times (PostgreSQL 1, function 2) in 2,000 changes: lost 3; came twice: 2 by Kinesis, 5 by DMS
        not exact: public.note: 3 insert lost
        more than once: 0
        logs: /run/logs""")
    assert summary.as_dict()["cpu_microseconds_per_change"] == {
        "workload": 50.0,
        "PostgreSQL": 100.0,
        "aws": 500.0,
    }


# The whole chain -----------------------------------------------------------------------------------------


def run_chain(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As a user types it, with a timeout."""
    return subprocess.run(
        [sys.executable, "-m", "local_run", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def start_chain() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a run that is ended at the end of the test, if it is not yet."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "local_run", *arguments]
        running.append(
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def processes_of(folder: Path) -> list[str]:
    """What still runs and names that folder, or works in it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
        except (psutil.Error, OSError):
            continue
        if any(str(folder) in word for word in words) and process.pid != os.getpid():
            found.append(" ".join(words))
    return found


def test_the_whole_chain_lands_every_change_of_the_workload(tmp_path: Path) -> None:
    folder, objects = tmp_path / "run", tmp_path / "objects"
    options = ["--seconds", "5", "--rate", "100", "--poll-seconds", "0.2", "--format", "json"]
    ended = run_chain(*options, "--folder", str(folder), "--output", str(objects))
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert summary["is_exact"] is True
    assert summary["changes"] >= 400
    assert summary["rows"] == summary["changes"] + summary["loaded"]
    assert summary["latency_ms"]["count"] == summary["changes"]
    assert set(summary["cpu_microseconds_per_change"]) == {
        *("workload", "PostgreSQL", "replication", "aws", "event_source_mapping", "function"),
    }
    rows = [
        line
        for file in objects.glob("changes/**/*.gz")
        for line in gzip.decompress(file.read_bytes()).splitlines()
    ]
    assert len(rows) == summary["rows"]
    assert processes_of(folder) == []


def test_a_database_of_the_user_is_left_as_it_was(
    tmp_path: Path, start_chain: Callable[..., subprocess.Popen[str]]
) -> None:
    def ask(query: str) -> Any:
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0]

    folder = tmp_path / "run"
    with start_postgres() as server:
        name = fill(server, ROOT / "test-input/lending.sql")
        url = f"postgresql://postgres@127.0.0.1:{server.port}/{name}"
        options = ["--tables", "public.client", "--poll-seconds", "0.2", "--format", "json"]
        process = start_chain("--database-url", url, *options, "--folder", str(folder))
        wait_until(lambda: status_of(folder, "event_source_mapping").get("rows") == 500, 60)
        ask("UPDATE client SET name = 'Lin' WHERE id < 4 RETURNING id")
        process.send_signal(signal.SIGTERM)
        told, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints
        summary = json.loads(told)
        assert summary["rows"] == 503
        assert summary["verdict"]["is_exact"] is True
        assert ask("SELECT count(*) FROM pg_replication_slots") == 0
        assert ask("SELECT count(*) FROM pg_publication") == 0
    assert processes_of(folder) == []


def status_of(folder: Path, name: str) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "status" / f"{name}.json").read_bytes()))
    except (OSError, ValueError):
        return {}


def test_nothing_is_left_when_the_run_itself_is_killed(
    tmp_path: Path, start_chain: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = tmp_path / "run"
    process = start_chain("--forever", "--folder", str(folder))
    wait_until(lambda: status_of(folder, "workload").get("changes", 0) > 0, 60)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert len(below) > 5
    wait_until(lambda: processes_of(folder) == [])
    assert psutil.wait_procs(below, timeout=30)[1] == []


def test_nothing_is_lost_whatever_is_killed(tmp_path: Path) -> None:
    """Six kills; a hundred with SOAK=1."""
    kills = 100 if os.environ.get("SOAK") else 6
    options = ["--rate", "200", "--poll-seconds", "0.2", "--kill-every", "1.2"]
    ended = run_chain(*options, "--seconds", f"{1.6 * kills:.0f}", "--folder", str(tmp_path / "run"))
    print(ended.stdout)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    told = re.search(
        r"^killed ([0-9]+) times \((.*)\) in [0-9,]+ changes: lost 0;", ended.stdout, re.MULTILINE
    )
    assert told is not None
    assert int(told[1]) >= kills
    assert {one.split()[0] for one in told[2].split(", ")} == {
        *("function", "replication", "event_source_mapping", "PostgreSQL"),
    }
    assert "exact: what was committed is in S3" in ended.stdout.splitlines()
    assert processes_of(tmp_path / "run") == []


def test_an_interrupt_while_it_starts_exits_with_130(
    tmp_path: Path, start_chain: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start_chain("--folder", str(tmp_path / "run"))
    wait_until((tmp_path / "run/logs/apply.log").exists)
    process.send_signal(signal.SIGINT)
    told, complaints = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "")
    assert complaints.splitlines()[-1] == "interrupted: everything is stopped"
    assert processes_of(tmp_path / "run") == []


def test_an_interrupt_of_the_terminal_while_a_cluster_is_made_exits_with_130(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "local_run", "--folder", str(tmp_path / "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: "initdb" in names_below(process.pid))
        os.killpg(process.pid, signal.SIGINT)
        told, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, told) == (130, "")
    assert complaints.splitlines()[-1] == "interrupted: everything is stopped"
    assert processes_of(tmp_path / "run") == []


def names_below(pid: int) -> list[str]:
    names = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            names.append(process.name())
    return names


@pytest.mark.skipif("SOAK" not in os.environ, reason="make soak runs it")
def test_s3_and_kinesis_may_be_those_of_another_emulator(tmp_path: Path) -> None:
    elsewhere = Part(
        "elsewhere", [sys.executable, "-m", "local_run.aws", "--port", "0"], tmp_path, dict(os.environ)
    )
    (tmp_path / "logs").mkdir()
    elsewhere.start()
    try:
        wait_until(lambda: "AWS_ENDPOINT_URL" in exports(elsewhere.log), 60)
        url = exports(elsewhere.log)["AWS_ENDPOINT_URL"]
        options = ["--seconds", "3", "--rate", "100", "--poll-seconds", "0.2", "--format", "json"]
        ended = run_chain(
            *options,
            *("--folder", str(tmp_path / "run")),
            AWS_ENDPOINT_URL_S3=url,
            AWS_ENDPOINT_URL_KINESIS=url,
            HTTP_PROXY="http://127.0.0.1:9",  # which nobody may ask
        )
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["is_exact"] is True
        assert f"s3 at {url}, by AWS_ENDPOINT_URL_S3" in ended.stderr
        listed = boto3.client("s3", endpoint_url=url).list_objects_v2(Bucket="lending-local")
        assert listed["KeyCount"] > 0
    finally:
        elsewhere.kill()
    assert processes_of(tmp_path / "run") == []


def test_a_change_that_is_not_in_s3_is_named_and_exits_with_1(
    tmp_path: Path, start_chain: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = tmp_path / "run"
    process = start_chain("--forever", "--poll-seconds", "0.2", "--folder", str(folder))
    wait_until(lambda: status_of(folder, "event_source_mapping").get("objects", 0) > 10, 60)
    url = exports(folder / "logs/aws.log")["AWS_ENDPOINT_URL"]
    s3 = boto3.client("s3", endpoint_url=url)
    listed = s3.list_objects_v2(Bucket="lending-local", Prefix="changes/public/payment/")["Contents"]
    s3.delete_object(Bucket="lending-local", Key=max(entry["Key"] for entry in listed))
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"^not exact: public\.payment: insert lost: [0-9]+$", told, re.MULTILINE), told
    assert processes_of(folder) == []
