"""The parts of the chain on this machine: started, watched, killed if asked, drained, proved, stopped.

    PostgreSQL -> replication -> emulated AWS (stream) -> event_source_mapping and the function -> (bucket)

Each part is a process that talks to the others as it would on AWS; setup_dms.py makes what is between them.
Stopped is in this order: workload, replication, event_source_mapping, PostgreSQL (never before replication:
it waits for its reader), emulated AWS. Whatever is killed, this process included, nothing is left running.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from local_run.mirror import Mirror, emptied_mirror
from local_run.part import ROOT, Part, kill_group, number, python_part, tree_cpu_seconds
from local_run.postgres import SUPERUSER, Server, fill, start_postgres
from local_run.proof import TableVerdict, Verdict, prove
from local_run.replication.position import Progress, load, lsn_number
from local_run.replication.source import Source
from local_run.surroundings import (
    DEMO_TABLES,
    ELSEWHERE,
    Database,
    LocalRunError,
    empty_run,
    part_environment,
    write_environment,
)
from provision.database import drop_slot_sql
from provision.replication_task import table_patterns

LENDING = ROOT / "test-input" / "lending.sql"
ZIP_SOURCES = ("lambda_function.py", "requirements-lambda.txt", "deploy.sh")
PAUSE_SECONDS = 0.1
START_SECONDS = 60.0  # until a part does what it is for
KEYLESS = "it has no primary key"  # what verify says where DMS could not tell of it: counts judge it
DRAIN_SECONDS = 60.0  # without a step forward
STOP_SECONDS = 30.0  # an invocation may be in flight
HURRIED_SECONDS = 3.0
FAILED = ("failed", "stopped", "disabled", "gone")
OWN_DATABASE = "postgres"  # the folder of its files: a run that has none had another's

# ----------------------------------------------------------------------------------------------------------
# Value types
# ----------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """Somebody wants the run to end."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run. None as a database: one of our own, with the lending tables."""

    settings: Mapping[str, str] = field(repr=False)  # MASK_SECRET is among them
    environment: Mapping[str, str] = field(repr=False)  # of whoever runs this
    emulators: Mapping[str, str] = field(default_factory=dict)
    database: Database | None = None
    folder: Path
    output: Path | None = None
    rate: str = "200"
    seconds: float | None = 20.0  # None: until it is interrupted
    poll_seconds: float = 1.0
    kill_every: float | None = None
    has_workload: bool = True
    seed: int = 0

    @property
    def is_shared(self) -> bool:
        """Others are invited to write too, and nobody counts what they do."""
        return self.seconds is None or not self.has_workload


@dataclass(frozen=True)
class Sample:
    """What the parts have counted since they were started, at one moment."""

    at: float  # time.monotonic()
    committed: int  # changes
    changes: int  # of user tables, on the stream
    loaded: int
    records: int  # on the stream, of rows
    invocations: int
    errors: int
    rows: int
    objects: int
    given_up: int
    iterator_age_ms: float | None
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    recent_latency_ms: Mapping[str, float] = field(default_factory=dict)
    suspended: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Interrupts:
    """How often somebody asked for the end."""

    count: int = 0

    def add(self, *_: object) -> None:
        self.count += 1

    def check(self, enough: int = 1) -> None:
        if self.count >= enough:
            raise Interrupted


# ----------------------------------------------------------------------------------------------------------
# The machine
# ----------------------------------------------------------------------------------------------------------


class Machine:
    """All parts of one run. say takes a line of progress."""

    def __init__(self, plan: Plan, interrupts: Interrupts, say: Callable[[str], None]) -> None:
        self.plan, self.interrupts, self.say = plan, interrupts, say
        self.parts: dict[str, Part] = {}
        self.server: Server | None = None
        self.database = plan.database
        self.emulated_aws: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.mirror: Mirror | None = None
        self.cpu_before: dict[str, float] = {}
        self.loaded: dict[str, int] | None = None
        self.postgres_cpu_former = 0.0
        self.stack = ExitStack()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Start ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when changes go through all of the chain. Raises LocalRunError, Interrupted."""
        plan = self.plan
        self.expect_no_traces_elsewhere()
        self.remove_traces()  # of a run that was killed
        empty_run(plan.folder)
        if plan.output:
            emptied_mirror(plan.output)
        zip_file = self.build_zip()
        self.start_postgres()
        self.start_emulated_aws()
        assert self.database is not None
        self.environment = part_environment(
            plan.environment, plan.settings, self.database, self.emulated_aws, plan.emulators
        )
        write_environment(plan.folder, self.environment)
        self.apply(zip_file)
        self.start_stand_ins()
        if plan.output:
            self.mirror = Mirror(self.client("s3"), plan.settings["S3_BUCKET"], plan.output.absolute())
            self.mirror.start()
        self.cpu_before = self.cpu_seconds()
        if plan.has_workload:
            seconds = () if plan.seconds is None else ("--seconds", f"{plan.seconds:g}")
            self.launch("workload", "--rate", plan.rate, *seconds, "--seed", str(plan.seed))

    def start_stand_ins(self) -> None:
        """Returns when the tables are loaded, and the mapping polls."""
        pipeline = ("--pipeline", self.plan.settings["PIPELINE_NAME"])
        self.launch("replication", *pipeline)
        self.launch("event_source_mapping", *pipeline, "--poll-seconds", f"{self.plan.poll_seconds:g}")
        self.wait_for("the DMS stand-in to load the tables", lambda: self.state("replication") == "running")
        self.wait_for("the poller to start", lambda: self.state("event_source_mapping") == "polling")
        self.say(f"{int(self.parts['replication'].total('loaded')):,} rows loaded")

    def launch(self, name: str, *arguments: str) -> Part:
        folder = self.plan.folder
        part = python_part(name, folder, self.environment, *arguments, "--folder", str(folder))
        self.parts[name] = part
        part.start()
        return part

    def start_postgres(self) -> None:
        """Our own, with the lending tables in it; a database that was named is left as it is."""
        if self.plan.database is not None:
            self.say(f"database {self.plan.database.name} at {self.plan.database.host}")
            return
        self.interrupts.check()
        home = self.plan.folder / OWN_DATABASE
        self.server = self.stack.enter_context(start_postgres(home))
        home.mkdir(exist_ok=True)  # its files may be elsewhere
        name = fill(self.server, LENDING)
        self.database = Database("127.0.0.1", self.server.port, name, SUPERUSER, "local")
        schema = self.plan.settings.get("HEARTBEAT_SCHEMA")
        with closing(self.connect()) as connection, connection, connection.cursor() as cursor:
            if schema:
                cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
            cursor.execute("SHOW server_version")
            version = cursor.fetchone()[0].split()[0]
            self.loaded = {name: count_rows(cursor, name) for name in self.tables(cursor)}
        self.say(f"PostgreSQL {version} at 127.0.0.1:{self.server.port}, database {name}")

    def start_emulated_aws(self) -> None:
        """Sets the variables that it prints: its address, credentials, a region, subnets."""
        elsewhere = ",".join(ELSEWHERE[key] for key in sorted(self.plan.emulators))
        command = [sys.executable, "-m", "local_run.aws", "--port", "0"]
        command += ["--elsewhere", elsewhere] if elsewhere else []
        environment = {key: value for key, value in self.plan.environment.items() if key[:4] != "AWS_"}
        part = self.parts["aws"] = Part("aws", command, self.plan.folder, environment)
        part.start()
        self.wait_for("the emulated AWS to serve", lambda: "SUBNET_IDS" in exports(part.log))
        self.emulated_aws = exports(part.log)
        self.say(f"emulated AWS at {self.emulated_aws['AWS_ENDPOINT_URL']}")
        for key, url in self.plan.emulators.items():
            self.say(f"{ELSEWHERE[key]} at {url}, by {key}")

    def apply(self, zip_file: Path) -> None:
        started = time.monotonic()
        command = [sys.executable, str(ROOT / "setup_dms.py"), "apply", "--yes", "--zip", str(zip_file)]
        self.command("apply", "setup_dms.py apply", command, self.environment)
        self.say(f"setup_dms.py apply: done in {time.monotonic() - started:.0f} s")
        self.expect_started_task()
        self.expect_nothing_of_a_former_run()

    def expect_started_task(self) -> None:
        """setup_dms.py makes a task that has no tables, and leaves it there."""
        task = f"{self.plan.settings['PIPELINE_NAME']}-task"
        named = [{"Name": "replication-task-id", "Values": [task]}]
        found = self.client("dms").describe_replication_tasks(Filters=named)["ReplicationTasks"]
        if found[0]["Status"] == "ready":
            tables = self.plan.settings.get("TABLES") or DEMO_TABLES
            raise LocalRunError(
                f"setup_dms.py apply did not start {task}; is there any table that TABLES={tables!r} names?"
                f" All that it said is in {self.parts['aws'].log.with_name('apply.log')}"
            )

    def expect_nothing_of_a_former_run(self) -> None:
        """Other emulators may keep what they were given: it would be taken for this run's."""
        settings = self.plan.settings
        bucket, prefix = settings["S3_BUCKET"], settings.get("S3_PREFIX", "")
        found = self.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents", [])
        # apply has just written schemas/, which come after all that the function writes
        if found and not found[0]["Key"].startswith(f"{prefix}schemas/"):
            raise LocalRunError(
                f"s3://{bucket}/{prefix} holds objects already: empty it, or set another S3_PREFIX"
            )
        kinesis, stream = self.client("kinesis"), f"{settings['PIPELINE_NAME']}-stream"
        for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
            iterator = kinesis.get_shard_iterator(
                StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )
            if kinesis.get_records(ShardIterator=iterator["ShardIterator"], Limit=1)["Records"]:
                raise LocalRunError(
                    f"stream {stream} holds records already: delete it, or set another PIPELINE_NAME"
                )

    def build_zip(self) -> Path:
        """The function's code with the wheels of this Python; kept until what it is made of changes."""
        made_of = hashlib.sha256(repr((sys.version, sys.platform, os.uname().machine)).encode())
        for name in ZIP_SOURCES:
            made_of.update((ROOT / name).read_bytes())
        zip_name = f"build/lambda-local-{made_of.hexdigest()[:12]}.zip"
        is_here = (ROOT / zip_name).exists() or can_write(ROOT / "build")
        checkout = ROOT if is_here else self.plan.folder / "checkout"
        target = checkout / zip_name
        if target.exists():
            return target
        self.say("building the function's zip for this machine")
        if checkout != ROOT:
            target.parent.mkdir(parents=True, exist_ok=True)
            for name in ZIP_SOURCES:
                shutil.copy(ROOT / name, checkout)
        command = [str(checkout / "deploy.sh"), "--build-only", "--arch", "local", "--zip", str(target)]
        environment = {**self.plan.environment, "PYTHON": sys.executable}
        self.command("build", "./deploy.sh --build-only --arch local", command, environment)
        for other in target.parent.glob("lambda-local-*.zip"):
            if other != target:
                other.unlink(missing_ok=True)
        return target

    def command(self, name: str, title: str, command: list[str], environment: Mapping[str, str]) -> None:
        """Runs it to its end. Raises LocalRunError with its last words when it fails, Interrupted."""
        self.interrupts.check()
        part = Part(name, command, self.plan.folder, environment)
        part.start()
        assert part.process is not None
        try:
            while part.finish(PAUSE_SECONDS) is None:
                self.interrupts.check()
                self.check()
        finally:
            if part.is_running:
                kill_group(part.process)
            part.dismiss_watch()
        if part.exit_code:
            raise LocalRunError(f"{title} failed: {part.last_words()}; all of it is in {part.log}")

    def wait_for(self, what: str, is_so: Callable[[], bool]) -> None:
        """Returns when it is so; a load may take its time, as long as it goes on."""
        deadline, last = time.monotonic() + START_SECONDS, 0.0
        while not is_so():
            self.interrupts.check()
            self.check()
            self.check_states("failed")
            if (now := sum(part.total("loaded") for part in self.parts.values())) != last:
                deadline, last = time.monotonic() + START_SECONDS, now
            if time.monotonic() > deadline:
                raise LocalRunError(
                    f"waited {START_SECONDS:.0f} s for {what}; see the logs in {self.plan.folder / 'logs'}"
                )
            time.sleep(PAUSE_SECONDS / 2)

    def state(self, name: str) -> str:
        return str(self.parts[name].look().get("state", ""))

    # While it runs ----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises LocalRunError when a part has ended or failed unasked."""
        for name, part in self.parts.items():
            if part.has_ended_unasked and (name != "workload" or part.exit_code):
                raise LocalRunError(
                    f"{TITLES[name]} has ended with exit code {part.exit_code}: {part.last_words()};"
                    f" its log: {part.log}"
                )
        if (
            self.server is not None
            and self.server.process is not None
            and self.server.process.poll() is not None
        ):
            raise LocalRunError(f"PostgreSQL has ended by itself; its log: {self.server.log}")

    def is_over(self, deadline: float) -> bool:
        """Whether the workload has ended, or, without one, the time is over."""
        if "workload" in self.parts:
            return not self.parts["workload"].is_running
        return time.monotonic() > deadline

    def sample(self) -> Sample:
        for part in self.parts.values():
            part.look()
        replication, poller = self.seen("replication"), self.seen("event_source_mapping")
        return Sample(
            at=time.monotonic(),
            committed=int(self.total("workload", "changes")),
            changes=int(self.total("replication", "changes")),
            loaded=int(self.total("replication", "loaded")),
            records=int(self.total("replication", "records")),
            invocations=int(self.total("event_source_mapping", "invocations")),
            errors=int(self.total("event_source_mapping", "errors")),
            rows=int(self.total("event_source_mapping", "rows")),
            objects=int(self.total("event_source_mapping", "objects")),
            given_up=int(self.total("event_source_mapping", "given_up")),
            iterator_age_ms=poller.get("iterator_age_ms"),
            latency_ms=poller.get("latency_ms") or {},
            recent_latency_ms=poller.get("recent_latency_ms") or {},
            suspended=replication.get("suspended") or {},
        )

    def seen(self, name: str) -> Mapping[str, Any]:
        """Its last status; empty when there is no such part yet."""
        return self.parts[name].seen if name in self.parts else {}

    def total(self, name: str, key: str) -> float:
        return self.parts[name].total(key) if name in self.parts else 0

    def cpu_seconds(self) -> dict[str, float]:
        """What each part has used, the function and the database's processes too."""
        for part in self.parts.values():
            part.look()
        found = {name: part.cpu_seconds for name, part in self.parts.items()}
        if "event_source_mapping" in self.parts:
            found["function"] = self.total("event_source_mapping", "function_cpu_seconds")
        if self.server is not None and self.server.process is not None:
            found["PostgreSQL"] = self.postgres_cpu_former + tree_cpu_seconds(self.server.process.pid)
        return found

    def cpu_used(self) -> dict[str, float]:
        """CPU seconds since the workload began."""
        return {name: used - self.cpu_before.get(name, 0.0) for name, used in self.cpu_seconds().items()}

    # The end ----------------------------------------------------------------------------------------------

    def end_workload(self) -> None:
        """It ends after its transaction."""
        workload = self.parts.get("workload")
        if workload is not None and not (workload.stop(self.stop_seconds) and workload.exit_code == 0):
            raise LocalRunError(
                f"the workload has ended with exit code {workload.exit_code}: {workload.last_words()};"
                f" its log: {workload.log}"
            )

    def drain(self, show: Callable[[], None]) -> None:
        """Returns when all that was committed has landed.

        Raises LocalRunError when a part can't go on or nothing moves, Interrupted at the second interrupt.
        """
        target = self.log_end()
        self.wait_moving(lambda: self.has_sent(target), show)
        passed = time.time()
        self.wait_moving(lambda: self.has_caught_up(passed), show)

    def has_sent(self, target: int) -> bool:
        """The DMS stand-in has put on the stream all that stands in the log before the target."""
        position = self.parts["replication"].look().get("position")
        return position is not None and lsn_number(position) >= target

    def has_caught_up(self, since: float) -> bool:
        """The poller has seen the end of every shard, with nothing left to deliver, after that time."""
        return number(self.parts["event_source_mapping"].look().get("caught_up_at")) > since

    def wait_moving(self, is_so: Callable[[], bool], show: Callable[[], None]) -> None:
        moved, last = time.monotonic(), None
        window = number(float(self.plan.settings["BATCH_WINDOW_SECONDS"])) * self.plan.poll_seconds
        while not is_so():
            self.interrupts.check(2)
            self.check()
            show()
            self.check_states()
            now = (self.sample().records, self.sample().rows, self.sample().invocations)
            if now != last:
                moved, last = time.monotonic(), now
            if time.monotonic() > moved + DRAIN_SECONDS + window:
                raise LocalRunError(
                    f"nothing has landed for {DRAIN_SECONDS:.0f} s, and not all of it is in S3; see the logs"
                    f" in {self.plan.folder / 'logs'}"
                )
            time.sleep(PAUSE_SECONDS)

    def check_states(self, *states: str) -> None:
        """Raises LocalRunError when the task or the mapping is in one of them (none given: of FAILED)."""
        if failure := self.failure(*states):
            raise LocalRunError(failure)

    def trouble(self) -> str | None:
        """Why not all reaches S3, in a line each; None: all goes on."""
        suspended = self.seen("replication").get("suspended") or {}
        lines = [f"table {table} is suspended: {reason}" for table, reason in suspended.items()]
        return "\n".join(filter(None, [self.failure(), *lines])) or None

    def failure(self, *states: str) -> str | None:
        """What the task or the mapping does not do any more, and why."""
        for name in ("replication", "event_source_mapping"):
            if name in self.parts and (state := self.state(name)) in (states or FAILED):
                part = self.parts[name]
                reason = f": {part.seen['message']}" if part.seen.get("message") else ""
                return f"{TITLES[name]} is {state}, so not all reaches S3{reason}; its log: {part.log}"
        return None

    def log_end(self) -> int:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_lsn()::text")
            return lsn_number(cursor.fetchone()[0])

    def stop_stand_ins(self) -> None:
        """The two that DMS and Lambda are, in order: nothing changes any more."""
        self.stop_part("replication")
        self.stop_part("event_source_mapping")

    def verdict(self) -> Verdict:
        """Whether S3 has what was committed; the stand-ins rest."""
        settings = self.plan.settings
        committed = self.parts["workload"].look().get("committed", {}) if "workload" in self.parts else None
        assert self.database is not None
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            tables = self.tables(cursor)
        verdict = prove(
            self.client("s3"),
            settings["S3_BUCKET"],
            settings.get("S3_PREFIX", ""),
            self.database.connect_parameters,
            tables=tables,
            committed=committed and {name: committed[name] for name in tables if name in committed},
            loaded=self.loaded if committed is not None else None,
            sent=sent_rows(load(self.state_file)),
            is_shared=self.plan.is_shared,
            has_state=False,
        )
        sample = self.sample()
        not_told = self.compare_rows(verdict)
        return replace(verdict, given_up=sample.given_up, suspended=sample.suspended, not_told=not_told)

    def compare_rows(self, verdict: Verdict) -> dict[str, str]:
        """Enters what lake.py verify says of the rows; gives the tables it could not tell of, and why."""
        command = [sys.executable, str(ROOT / "lake.py"), "verify", "--json", "--deadline", "5"]
        command += ["--cache", str(self.plan.folder / "cache")]
        ended = subprocess.run(
            command, cwd=self.plan.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        try:
            reports = json.loads(ended.stdout)["tables"]
        except ValueError:
            words = ended.stderr.strip().splitlines() or ["it said nothing"]
            raise LocalRunError(f"lake.py verify failed: {words[-1]}") from None
        not_told = {}
        for report in reports:
            table = verdict.tables.setdefault(report["table"], TableVerdict({}, {}, 0, 0))
            table.missing_rows, table.extra_rows = report["missing"], report["extra"]
            table.different_rows = report["different"]
            reasons = [one for one in report["why_unknown"] if not one.startswith(KEYLESS)]
            if reasons:
                not_told[report["table"]] = "; ".join(reasons)
        return not_told

    def stop(self) -> None:
        """Ends what still runs, in order. Nothing is left, in whatever state it was."""
        with ExitStack() as steps:  # the last one first, whatever becomes of the others
            steps.callback(self.stop_part, "aws")
            steps.callback(self.stack.close)  # PostgreSQL
            steps.callback(self.remove_traces)
            steps.callback((self.plan.folder / "environment").unlink, missing_ok=True)
            if self.mirror is not None:
                steps.callback(self.mirror.stop, is_final=False)
            for name in ("event_source_mapping", "replication", "workload"):
                steps.callback(self.stop_part, name)

    def stop_part(self, name: str) -> None:
        if name in self.parts:
            self.parts[name].stop(self.stop_seconds)

    def stop_seconds(self) -> float:
        return HURRIED_SECONDS if self.interrupts.count > 1 else STOP_SECONDS

    def remove_traces(self) -> None:
        """Drops the slot and the publications that the DMS stand-in made in a database that is not ours."""
        import psycopg2  # type: ignore[import-untyped]

        progress, database = load(self.state_file), self.plan.database
        if database is None or progress.database != database.address:
            return
        deadline = time.monotonic() + HURRIED_SECONDS
        while True:
            try:
                Source(database.connect_parameters, progress.publications).remove(progress)
                return self.state_file.unlink()
            except psycopg2.Error as error:  # the server takes a moment to see that its reader is gone
                if time.monotonic() > deadline:
                    what, statement = traces(progress)
                    return self.say(
                        f"warning: left in database {database.address}: {what}:"
                        f" {str(error).splitlines()[0]}; drop it there: {statement}"
                    )
                time.sleep(PAUSE_SECONDS)

    def expect_no_traces_elsewhere(self) -> None:
        """Of a killed run on another database; one of our own is gone with what was in it."""
        progress, database = load(self.state_file), self.plan.database
        is_of_another = database is None or progress.database != database.address
        if progress.database and is_of_another and not (self.plan.folder / OWN_DATABASE).exists():
            what, statement = traces(progress)
            raise LocalRunError(
                f"a killed run has left {what} in database {progress.database}: name its --database-url once"
                f" more, and all is dropped; or drop it there ({statement}) and remove {self.state_file}"
            )

    @property
    def state_file(self) -> Path:
        """What the DMS stand-in knows of the database."""
        return self.plan.folder / "replication" / "state.json"

    # Access -----------------------------------------------------------------------------------------------

    def connect(self) -> Any:
        import psycopg2

        assert self.database is not None
        try:
            return psycopg2.connect(**self.database.connect_parameters)
        except psycopg2.Error as error:
            raise LocalRunError(f"cannot connect to the database: {error}".strip()) from error

    def client(self, service: str) -> Any:
        """Of boto3, with the environment of the parts."""
        import boto3

        with environment_of(self.environment):
            return boto3.Session().client(service)

    def tables(self, cursor: Any) -> list[str]:
        """["public.client"]: those of the task."""
        patterns = table_patterns(self.plan.settings.get("TABLES") or DEMO_TABLES)
        cursor.execute(
            "SELECT nspname, relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind = 'r' AND relpersistence = 'p' AND relname NOT LIKE 'awsdms\\_%' ORDER BY 1, 2"
        )
        names = [(schema, name) for schema, name in cursor.fetchall() if is_of_user(schema)]
        return [
            f"{schema}.{name}" for schema, name in names if any(p.matches(schema, name) for p in patterns)
        ]


TITLES = {
    "aws": "the emulated AWS",
    "replication": "the DMS stand-in",
    "event_source_mapping": "Lambda's stand-in",
    "workload": "the workload",
}

# ----------------------------------------------------------------------------------------------------------
# Small things
# ----------------------------------------------------------------------------------------------------------


def exports(log: Path) -> dict[str, str]:
    """The variables of the export lines in the log."""
    try:
        lines = [line for line in log.read_text().splitlines(keepends=True) if line.startswith("export ")]
    except OSError:
        return {}
    words = [word for line in lines if line.endswith("\n") for word in shlex.split(line)[1:]]
    return dict(word.split("=", 1) for word in words if "=" in word)


def can_write(folder: Path) -> bool:
    """Whether files can be made in the folder, which is made if missing."""
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def sent_rows(progress: Progress) -> dict[str, dict[str, int]]:
    """{"public.client": {"load": 500, "insert": 20}}: what the DMS stand-in has counted."""
    return {
        f"{table.schema}.{table.name}": {"load": table.loaded_rows, "insert": table.inserts}
        for table in progress.tables
    }


def traces(progress: Progress) -> tuple[str, str]:
    """What the DMS stand-in leaves in a database when it is killed, and the statement that drops it."""
    if progress.slot:
        return f"replication slot {progress.slot}, which keeps its log,", drop_slot_sql(progress.slot)
    names = ", ".join(Source({}, progress.publications).publications.values())
    return f"publications {names}", f"DROP PUBLICATION IF EXISTS {names};"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def is_of_user(schema: str) -> bool:
    return not schema.startswith("pg_") and schema != "information_schema"


def count_rows(cursor: Any, table: str) -> int:
    cursor.execute(f"SELECT count(*) FROM ONLY {'.'.join(quoted(part) for part in table.split('.', 1))}")
    return int(cursor.fetchone()[0])


@contextmanager
def environment_of(variables: Mapping[str, str]) -> Iterator[None]:
    """Within the block, this process has the parts' variables of AWS, and those of what no proxy is asked."""
    kept = exchange({key: value for key, value in variables.items() if is_of_clients(key)})
    try:
        yield
    finally:
        exchange(kept)


def exchange(variables: Mapping[str, str]) -> dict[str, str]:
    """Puts them in the place of those that clients of AWS read in this process, which are returned."""
    former = {key: os.environ.pop(key) for key in list(os.environ) if is_of_clients(key)}
    os.environ.update(variables)
    return former


def is_of_clients(key: str) -> bool:
    return key.startswith("AWS_") or key in ("NO_PROXY", "no_proxy")
