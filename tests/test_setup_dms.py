"""setup_dms.py as a person runs it: against the emulated AWS and a real PostgreSQL."""

from __future__ import annotations

import functools
import io
import json
import os
import pty
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest

import setup_dms
from local_run.aws import EmulatedAws, emulated_aws
from local_run.postgres import Server, start_postgres
from provision import demolition
from provision.aws import Account

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
SCHEMA = """
    CREATE SCHEMA awsdms;
    CREATE TABLE client (id int PRIMARY KEY, name varchar(80) NOT NULL);
    CREATE TABLE loan (id int PRIMARY KEY, client_id int NOT NULL, amount numeric(12,2) NOT NULL);
    INSERT INTO client SELECT id, 'client ' || id FROM generate_series(1, 2000) AS id;
    INSERT INTO loan SELECT id, id, 100 FROM generate_series(1, 2000) AS id;
    ANALYZE;
"""
UNREACHABLE = {"PGHOST": "db.invalid", "PGSSLMODE": "require"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgres(settings={"autovacuum": "off"}) as server:
        yield server


@pytest.fixture(scope="module")
def served() -> Iterator[EmulatedAws]:
    with emulated_aws() as aws:
        yield aws


@dataclass
class Shell:
    """A folder with .env, and what a command in it printed."""

    folder: Path
    aws: EmulatedAws
    server: Server
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def configure(self, **settings: str) -> None:
        subnets = boto3.client("ec2").describe_subnets()["Subnets"]
        values = {
            "S3_BUCKET": "lending-rows",
            "PIPELINE_NAME": "lending",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGDATABASE": "lending",
            "PGUSER": "postgres",
            "PGPASSWORD": "s3cret-of-dms",
            "PGSSLMODE": "disable",
            "SUBNET_IDS": ",".join(sorted(one["SubnetId"] for one in subnets)),
            **settings,
        }
        (self.folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in values.items()))

    def run(self, *arguments: str, answer: str | None = None) -> int:
        stdin = io.StringIO(answer or "")
        stdin.isatty = lambda: answer is not None  # type: ignore[method-assign]
        self.monkeypatch.setattr(sys, "stdin", stdin)
        try:
            code = setup_dms.main(arguments)
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        self.out, self.err = self.capsys.readouterr()
        assert "s3cret" not in self.out + self.err
        return code

    def apply(self, *arguments: str) -> int:
        return self.run("apply", "--yes", "--zip", str(self.folder / "code.zip"), *arguments)

    def sql(self, statements: str, database: str = "lending") -> list[Any]:
        return execute(self.server, statements, database)


@pytest.fixture
def shell(
    served: EmulatedAws,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shell]:
    served.reset(transitions=0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(setup_dms, "Account", functools.partial(Account, poll_seconds=0.01))
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as code:
        code.writestr("lambda_function.py", "def lambda_handler(event, context): return {}")
    execute(server, "CREATE DATABASE lending", "postgres")
    execute(server, SCHEMA, "lending")
    one = Shell(tmp_path, served, server, monkeypatch, capsys)
    one.configure()
    yield one
    for (slot,) in execute(server, "SELECT slot_name FROM pg_replication_slots", "postgres"):
        execute(server, f"SELECT pg_drop_replication_slot('{slot}')", "lending")
    execute(server, "DROP DATABASE lending WITH (FORCE)", "postgres")


def execute(server: Server, statements: str, database: str) -> list[Any]:
    connection = psycopg2.connect(server.dsn, dbname=database)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statements)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def golden(name: str, text: str) -> None:
    """The text is that of the file; GOLDEN=1 writes it, for a person to look at in the diff."""
    path = GOLDEN / name
    if os.environ.get("GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


# --------------------------------------------------------------------------------------------------------
# plan
# --------------------------------------------------------------------------------------------------------


def test_plan_of_an_empty_account(shell: Shell) -> None:
    shell.configure(ALARM_EMAIL="ops@example.org")

    assert shell.run("plan") == setup_dms.CHANGES
    golden("plan.txt", shell.out)


def test_plan_before_the_database_can_be_reached(shell: Shell) -> None:
    shell.configure(**UNREACHABLE)

    assert shell.run("plan") == setup_dms.CHANGES
    golden("plan_unseen.txt", shell.out.replace(str(shell.server.port), "5432"))


def test_plan_of_a_database_that_is_to_be_made_has_no_start_of_the_task(shell: Shell) -> None:
    shell.configure(CREATE_RDS="true", PGUSER="dms")

    assert shell.run("plan") == setup_dms.CHANGES
    golden("plan_new_database.txt", shell.out)


def test_plan_shows_what_drifted_and_what_stops_the_task(shell: Shell) -> None:
    shell.apply()
    boto3.client("kinesis").decrease_stream_retention_period(
        StreamName="lending-stream", RetentionPeriodHours=24
    )
    boto3.client("logs").put_retention_policy(logGroupName="/aws/lambda/lending-lambda", retentionInDays=1)
    shell.configure(BATCH_WINDOW_SECONDS="60", LOB_MAX_SIZE_KB="128", DMS_INSTANCE_CLASS="dms.t3.large")
    shell.sql("CREATE TABLE invoice (id int PRIMARY KEY); DROP TABLE loan")

    assert shell.run("plan") == setup_dms.CHANGES
    golden("plan_drift.txt", shell.out.partition("\nEstimate")[0])


def test_plan_of_a_rotated_password_shows_that_and_not_what(shell: Shell) -> None:
    shell.apply()
    shell.configure(PGPASSWORD="s3cret-of-tomorrow")

    assert shell.run("plan") == setup_dms.CHANGES
    assert "  ~   secret  lending-login\n          its value: user, password, host or port\n" in shell.out
    assert shell.apply() == 0
    value = boto3.client("secretsmanager").get_secret_value(SecretId="lending-login")["SecretString"]
    assert json.loads(value)["password"] == "s3cret-of-tomorrow"
    assert shell.run("plan") == 0


def test_plan_of_another_server_says_what_that_means(shell: Shell) -> None:
    shell.apply()
    shell.configure(PGHOST="localhost")

    assert shell.run("plan") == setup_dms.CHANGES
    assert "* DMS will log in with another host: '127.0.0.1' -> 'localhost'\n" in shell.out
    assert "* the task keeps its position, which is one in the log of the former server" in shell.out


def test_plan_names_what_check_would_find_in_the_way(shell: Shell) -> None:
    shell.sql("ALTER TABLE loan ADD COLUMN cdc_lsn text")

    assert shell.run("plan") == setup_dms.CHANGES
    assert (
        "* python setup_dms.py check finds 1 blocker: rows, columns or changes would be missing" in shell.out
    )


def test_plan_says_that_an_alarm_can_not_ring(shell: Shell) -> None:
    shell.configure(LOG_LEVEL="ERROR")

    shell.run("plan")
    assert "* LOG_LEVEL=ERROR: quarantined records are not in the log" in shell.out


def test_the_policies_of_the_deployer_are_shown_to_who_may_see_nothing_yet(shell: Shell) -> None:
    shell.configure(PGHOST="lending.abc.eu-west-1.rds.amazonaws.com", SUBNET_IDS="", PGSSLMODE="require")

    assert shell.run("plan", "--show", "deployer") == 0
    assert json.loads(shell.out) == json.loads((ROOT / "docs" / "deployer-policies.json").read_text())


def test_plan_says_that_a_bucket_is_somebody_elses(shell: Shell) -> None:
    location = {"LocationConstraint": "eu-west-1"}
    boto3.client("s3").create_bucket(Bucket="lending-rows", CreateBucketConfiguration=location)

    assert shell.run("plan") == setup_dms.CHANGES
    assert "  ?   bucket                     lending-rows  (not of this pipeline" in shell.out
    assert "* bucket lending-rows is not of this pipeline: rows land in it, its settings are its" in shell.out
    assert shell.apply() == 0
    assert "Status" not in boto3.client("s3").get_bucket_versioning(Bucket="lending-rows")


def test_plan_that_would_lose_the_position_is_refused(shell: Shell) -> None:
    shell.apply()
    live = boto3.client("dms").describe_endpoints()["Endpoints"][0]
    shell.configure(PIPELINE_NAME="lending")
    vpc = boto3.client("ec2").create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        boto3.client("ec2").create_subnet(VpcId=vpc, CidrBlock=f"10.9.{i}.0/24", AvailabilityZone=zone)
        for i, zone in enumerate(("eu-west-1a", "eu-west-1b"))
    ]
    shell.configure(SUBNET_IDS=",".join(one["Subnet"]["SubnetId"] for one in subnets))

    assert shell.run("apply", "--yes") == 1
    assert "(refused: what uses the security group stays in its VPC" in shell.out
    assert shell.err.startswith("error: replication group: what uses the security group stays in its VPC")
    assert boto3.client("dms").describe_endpoints()["Endpoints"][0] == live


def test_plan_for_machines_says_the_same(shell: Shell) -> None:
    assert shell.run("plan", "--json") == setup_dms.CHANGES

    made = json.loads(shell.out)
    assert made["has_work"] is True
    assert made["steps"][0] == {
        "action": "create",
        "resource": "bucket",
        "kind": "bucket",
        "name": "lending-rows",
        "changes": [],
        "stops_task": False,
        "reason": "",
    }
    assert made["estimate"]["monthly_usd"] > 0


def test_show_prints_the_documents_that_would_be_sent(shell: Shell) -> None:
    assert shell.run("plan", "--show", "task") == 0

    document = json.loads(shell.out)
    assert {rule["rule-type"] for rule in document["TableMappings"]["rules"]} == {
        "selection",
        "object-mapping",
    }
    assert document["ReplicationTaskSettings"]["ControlTablesSettings"]["StatusTableEnabled"] is True
    assert document["SourceEndpointArn"] == "(known after apply)"


def test_show_hides_the_password(shell: Shell) -> None:
    assert shell.run("plan", "--show", "secret") == 0
    assert json.loads(shell.out)["SecretString"]["password"] == "********"


def test_show_of_an_unknown_name_gives_the_nearest(shell: Shell) -> None:
    assert shell.run("plan", "--show", "maping") == 1
    assert "no part of the chain is called 'maping': did you mean 'mapping'?" in shell.err


# --------------------------------------------------------------------------------------------------------
# apply
# --------------------------------------------------------------------------------------------------------


def test_apply_makes_the_chain_and_the_next_plan_is_empty(shell: Shell) -> None:
    assert shell.apply() == 0
    assert "task                   lending-task, running" in shell.out
    assert "created stream lending-stream" in shell.err

    assert shell.run("plan") == 0
    assert "Nothing to do: " in shell.out
    assert shell.apply() == 0


def test_apply_asks_and_takes_no_for_an_answer(shell: Shell) -> None:
    assert shell.run("apply", answer="n\n") == 1
    assert shell.err.endswith("Apply this? [y/N] error: nothing was done\n")
    assert boto3.client("kinesis").list_streams()["StreamNames"] == []


def test_apply_does_not_guess_when_nobody_can_answer(shell: Shell) -> None:
    assert shell.run("apply") == 1
    assert shell.err == "error: nobody is there to ask: run it with --yes\n"


def test_apply_with_no_zip_says_how_to_make_it(shell: Shell) -> None:
    assert shell.run("apply", "--yes", "--zip", "no.zip") == 1
    assert shell.err.endswith(
        "error: cannot read no.zip: No such file or directory; ./deploy.sh --build-only makes it\n"
    )


def test_apply_with_no_zip_makes_nothing_that_bills(shell: Shell) -> None:
    assert shell.run("apply", "--yes", "--zip", "no.zip") == 1
    assert boto3.client("kinesis").list_streams()["StreamNames"] == []


def test_a_new_table_stops_the_task_and_is_the_only_one_loaded(shell: Shell) -> None:
    shell.aws.tables = [("public", "client"), ("public", "loan")]
    shell.apply()
    shell.sql("CREATE TABLE invoice (id int PRIMARY KEY)")
    shell.aws.tables.append(("public", "invoice"))

    assert shell.run("plan") == setup_dms.CHANGES
    assert "task  lending-task  (stops the task, and resumes it where it was)" in shell.out
    assert "add mapping of public.invoice by primary-key" in shell.out
    assert shell.apply() == 0

    dms = boto3.client("dms")
    (task,) = dms.describe_replication_tasks()["ReplicationTasks"]
    found = dms.describe_table_statistics(ReplicationTaskArn=task["ReplicationTaskArn"])["TableStatistics"]
    assert task["Status"] == "running"
    assert {one["TableName"]: one["FullLoadReloaded"] for one in found} == {
        "client": False,
        "loan": False,
        "invoice": True,
    }
    assert shell.run("plan") == 0


def test_an_interrupted_apply_is_finished_by_the_next(shell: Shell) -> None:
    def interrupted(self: Any, event: str, step: Any, seconds: float) -> None:
        if event == "done" and step.resource.name == "function":
            raise KeyboardInterrupt

    with shell.monkeypatch.context() as patch:
        patch.setattr(setup_dms.Progress, "report", interrupted)
        assert shell.apply() == 130
    assert shell.err == "interrupted: run the same command again to go on\n"

    assert shell.apply() == 0
    assert shell.run("plan") == 0


def test_a_database_without_tables_gets_all_but_the_start(shell: Shell) -> None:
    shell.sql("DROP TABLE client, loan")

    assert shell.apply() == 0
    assert "no table to replicate was seen: all is made but the task's start" in shell.out
    assert "task                   lending-task, not started" in shell.out

    shell.sql("CREATE TABLE loan (id int PRIMARY KEY)")
    assert shell.apply() == 0
    assert "lending-task, running" in shell.out


def test_what_earlier_settings_asked_for_is_named(shell: Shell) -> None:
    shell.configure(ALARM_EMAIL="ops@example.org")
    shell.apply()
    shell.configure()

    shell.run("plan")

    assert "* topic lending-alarms is no longer asked for; it stays until destroy" in shell.out
    assert "* event rule lending-task-state is no longer asked for; it stays until destroy" in shell.out


def test_apply_on_a_terminal_asks_and_shows_what_it_does(shell: Shell) -> None:
    command = [sys.executable, str(ROOT / "setup_dms.py"), "apply", "--zip", "code.zip"]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        command, cwd=shell.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, b"y\n")
    seen = b"".join(iter(functools.partial(read, ours), b"")).decode()

    assert process.wait(timeout=60) == 0
    assert "Apply this? [y/N]" in seen
    assert "0:00:0" in seen  # the time that passes
    assert "created task run lending-task" in seen


def read(terminal: int) -> bytes:
    """What a terminal shows next; nothing once the program has ended."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


# --------------------------------------------------------------------------------------------------------
# check
# --------------------------------------------------------------------------------------------------------


def test_check_finds_nothing_in_the_way_of_a_good_database(shell: Shell) -> None:
    code = shell.run("check")

    assert (code, "BLOCKER" in shell.out) == (0, False), shell.out
    assert '    GRANT SELECT ON "public"."loan" TO "lending_dms";' in shell.out


def test_check_of_a_table_that_would_lose_changes_is_blocked(shell: Shell) -> None:
    shell.sql("CREATE TABLE log (cdc_lsn text)")

    assert shell.run("check", "--json") == 1
    found = {
        one["check"]: one
        for one in json.loads(shell.out)["findings"]
        if one["subject"].startswith("public.log")
    }
    assert found["primary-key"]["level"] == "warning"
    assert found["reserved-columns"]["level"] == "blocker"


def test_check_of_a_database_out_of_reach_says_from_where_to_run_it(shell: Shell) -> None:
    shell.configure(**UNREACHABLE)

    assert shell.run("check") == 1
    assert "could not connect to database 'lending' on db.invalid" in shell.out
    assert "PGHOSTADDR=127.0.0.1" in shell.out
    assert '    GRANT SELECT ON ALL TABLES IN SCHEMA "public" TO "lending_dms";' in shell.out


# --------------------------------------------------------------------------------------------------------
# stop, resume, reload, status
# --------------------------------------------------------------------------------------------------------


def task_status() -> str:
    (task,) = boto3.client("dms").describe_replication_tasks()["ReplicationTasks"]
    return str(task["Status"])


def test_stop_and_resume_say_what_they_do_to_the_rows(shell: Shell) -> None:
    shell.apply()

    assert shell.run("stop", answer="y\n") == 0
    assert shell.out.startswith("Stopping the task: what is on the stream still lands, then no rows come")
    assert task_status() == "stopped"

    assert shell.run("resume", "--yes") == 0
    assert "no table is\nloaded anew" in shell.out
    assert task_status() == "running"


def test_a_database_made_here_is_filled_before_the_task_starts(shell: Shell) -> None:
    shell.configure(CREATE_RDS="true", PGUSER="dms")
    assert shell.apply() == 0
    assert shell.run("plan") == 0
    assert "no table to replicate was seen" in shell.out
    assert task_status() == "ready"

    assert shell.run("resume", "--yes") == 0
    assert shell.out.startswith("Starting the task for the first time: all tables are loaded")
    assert task_status() == "running"
    assert shell.apply() == 0  # the alarms of silence
    assert shell.run("plan") == 0


def test_stop_that_is_not_wanted_stops_nothing(shell: Shell) -> None:
    shell.apply()

    assert shell.run("stop", answer="\n") == 1
    assert task_status() == "running"


def test_reload_loads_the_tables_that_are_named(shell: Shell) -> None:
    shell.aws.tables = [("public", "client"), ("public", "loan")]
    shell.apply()

    assert shell.run("reload", "public.loan", "--yes") == 0
    assert shell.out.startswith("Loading public.loan anew: every row comes again as cdc_operation load")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "reload takes the tables to load, or --all"),
        (["--all", "public.loan"], 2, "reload takes the tables to load, or --all"),
        (["loan"], 1, "reload: loan names no schema: did you mean public.loan?"),
        (["public.%"], 1, "reload: public.% is a pattern: name each table, or reload --all"),
        (["sales.order"], 1, "reload: the task does not replicate sales.order: add it to TABLES"),
    ],
    ids=["none", "both", "no-schema", "pattern", "not-selected"],
)
def test_reload_of_what_it_can_not_load_is_an_error(
    shell: Shell, arguments: list[str], code: int, text: str
) -> None:
    shell.apply()

    assert shell.run("reload", *arguments, "--yes") == code
    assert text in shell.err


def test_reload_of_a_stopped_task_says_what_to_do(shell: Shell) -> None:
    shell.aws.tables = [("public", "loan")]
    shell.apply()
    shell.run("stop", "--yes")

    assert shell.run("reload", "public.loan", "--yes") == 1
    assert "the task is stopped, and only a running one reloads tables" in shell.err


def test_reload_all_starts_a_failed_task_anew(shell: Shell) -> None:
    shell.apply()
    shell.aws.fail_task("lending-task", "replication slot is lost")

    assert shell.run("reload", "--all", "--yes") == 0
    assert "The task starts anew with a new slot" in shell.out
    assert task_status() == "running"


@pytest.mark.parametrize("verb", ["stop", "resume", "reload"])
def test_a_verb_on_a_task_that_is_not_there_says_so(shell: Shell, verb: str) -> None:
    arguments = ["public.loan"] if verb == "reload" else []

    assert shell.run(verb, *arguments, "--yes") == 1
    assert shell.err.startswith("error: there is no replication task 'lending-task' of this pipeline")


def test_status_of_a_running_chain(shell: Shell) -> None:
    shell.apply()

    shell.run("status")
    assert "lending-task" in shell.out or "running" in shell.out
    shell.run("status", "--json")
    assert json.loads(shell.out)


# --------------------------------------------------------------------------------------------------------
# destroy
# --------------------------------------------------------------------------------------------------------


def test_destroy_deletes_all_but_what_it_says(shell: Shell) -> None:
    shell.configure(ALARM_EMAIL="ops@example.org")
    shell.apply()

    assert shell.run("destroy", answer="lending\n") == 0
    golden("destroy.txt", shell.out)
    assert shell.run("destroy", "--yes") == 0
    assert "Nothing to delete." in shell.out


def test_destroy_wants_the_name_typed(shell: Shell) -> None:
    shell.apply()

    assert shell.run("destroy", answer="y\n") == 1
    assert shell.err.endswith("Type lending to go on: error: nothing was done\n")
    assert task_status() == "running"


def slot_of_task(suffix: str) -> str:
    (task,) = boto3.client("dms").describe_replication_tasks()["ReplicationTasks"]
    return task["ReplicationTaskArn"].rpartition(":")[2][:16].lower() + suffix


SUFFIX = "_00016402_7f514566_e4ce_419a_a49e_561b4a1d9c8c"


def test_destroy_drops_the_slot_of_its_task_and_names_another(shell: Shell) -> None:
    shell.apply()
    ours, other = slot_of_task(SUFFIX), "n3rgndrqsklllt57" + SUFFIX
    for name in (ours, other, "debezium"):
        shell.sql(f"SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')")

    assert shell.run("destroy", "--yes") == 0

    assert f"Dropped replication slot {ours}, which DMS had left.\n" in shell.out
    assert f"    SELECT pg_drop_replication_slot('{other}');\n" in shell.out
    assert "debezium" not in shell.out
    assert sorted(shell.sql("SELECT slot_name FROM pg_replication_slots")) == [("debezium",), (other,)]


def test_destroy_leaves_a_slot_that_stopped_meanwhile_to_its_task(shell: Shell) -> None:
    shell.apply()
    other = "n3rgndrqsklllt57" + SUFFIX
    shell.sql(f"SELECT pg_create_logical_replication_slot('{other}', 'test_decoding')")

    assert shell.run("destroy", "--yes") == 1  # ours was never seen: this one may be it
    assert shell.sql("SELECT slot_name FROM pg_replication_slots") == [(other,)]


def test_destroy_that_is_run_again_still_tells_of_the_slot(shell: Shell) -> None:
    shell.apply()
    slot = slot_of_task(SUFFIX)
    shell.sql(f"SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')")
    shell.configure(**UNREACHABLE)
    assert shell.run("destroy", "--yes") == 1

    shell.configure()
    assert shell.run("destroy", "--yes") == 1
    assert f"    SELECT pg_drop_replication_slot('{slot}');\n" in shell.out
    shell.sql(f"SELECT pg_drop_replication_slot('{slot}')")
    assert shell.run("destroy", "--yes") == 0


def test_destroy_that_can_not_ask_the_database_prints_the_sql_and_fails(shell: Shell) -> None:
    shell.configure(**UNREACHABLE)
    shell.apply()

    assert shell.run("destroy", "--yes") == 1
    assert shell.out.endswith(
        "The database could not be asked for a slot that DMS may have left; one that stays fills\n"
        "its disk. Run there, and drop what nobody reads:\n"
        "    SELECT slot_name, active, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS kept_bytes"
        " FROM pg_replication_slots WHERE database = 'lending';\n"
        "    SELECT pg_drop_replication_slot('<slot_name>');\n"
    )
    assert boto3.client("kinesis").list_streams()["StreamNames"] == []


def test_destroy_waits_for_the_stream_and_deletes_nothing_before(shell: Shell) -> None:
    shell.apply()
    shell.monkeypatch.setattr(demolition, "DRAIN_SECONDS", 0)
    boto3.client("kinesis").put_record(StreamName="lending-stream", Data=b"{}", PartitionKey="1")

    assert shell.run("destroy", "--yes") == 1
    assert "waiting for the last records of shardId-000000000000 (its last record, which arrived" in shell.err
    assert "have not landed in lending-rows: is the function well" in shell.err
    assert task_status() == "stopped"
    assert boto3.client("kinesis").list_streams()["StreamNames"] == ["lending-stream"]

    assert shell.run("destroy", "--yes", "--no-drain") == 0
    assert "--no-drain: records that have not landed yet are lost with the stream" in shell.out
    assert boto3.client("kinesis").list_streams()["StreamNames"] == []


# --------------------------------------------------------------------------------------------------------
# What a person may get wrong
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["check", "plan", "apply", "status", "stop", "resume", "destroy"])
def test_faults_of_settings_are_one_error_for_every_verb(shell: Shell, verb: str) -> None:
    shell.configure(STREAM_SHARDS="none", PIPELINE_NAME="")

    assert shell.run(verb) == 1
    assert shell.err == (
        "error: settings:\n"
        "  STREAM_SHARDS='none' is unknown: write a number from 1 to 500, or on-demand\n"
        "  PIPELINE_NAME is not set: what all of the chain is named after, lending\n"
    )


def without_credentials(shell: Shell) -> None:
    shell.monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    shell.monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


def without_region(shell: Shell) -> None:
    shell.monkeypatch.delenv("AWS_DEFAULT_REGION")


def with_unknown_profile(shell: Shell) -> None:
    shell.monkeypatch.setenv("AWS_PROFILE", "nobody")


def with_nobody_there(shell: Shell) -> None:
    shell.monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    shell.monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.mark.parametrize("verb", ["plan", "status", "destroy"])
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (without_credentials, "no AWS credentials: configure them as for the AWS CLI"),
        (without_region, "no AWS region: set AWS_DEFAULT_REGION"),
        (
            with_unknown_profile,
            "cannot use the AWS configuration: The config profile (nobody) could not be found",
        ),
        (with_nobody_there, "cannot call "),
    ],
    ids=["credentials", "region", "profile", "endpoint"],
)
def test_an_aws_that_can_not_be_used_is_one_line(
    shell: Shell, verb: str, spoil: Callable[[Shell], None], text: str
) -> None:
    spoil(shell)

    assert shell.run(verb) == 1
    assert shell.err.startswith(f"error: {text}")
    assert shell.err.count("\n") == 1


def test_a_traceback_comes_only_when_it_is_asked_for(shell: Shell) -> None:
    without_region(shell)

    with pytest.raises(Exception, match="no AWS region"):
        setup_dms.main(["plan", "--debug"])


def test_wrong_usage_exits_with_2(shell: Shell) -> None:
    assert shell.run("plan", "--changes-per-second", "-1") == 2
    assert shell.run("plam") == 2
    assert shell.run() == 2
