"""python -m local_run.replication: plays the DMS task of a pipeline until it is told to end.

It waits for the task, reads what it is to do through boto3, and obeys: start, stop, resume, reload. What it
keeps is under --folder, so that a kill at any moment loses nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import traceback
import uuid
from pathlib import Path
from typing import Any

import psycopg2  # type: ignore[import-untyped]

from local_run.replication import position
from local_run.replication.configuration import Configuration, NotPlayedError, read_configuration
from local_run.replication.control import Control, Orders
from local_run.replication.position import Progress, lsn_text
from local_run.replication.source import Source
from local_run.replication.stream_writer import StreamError, StreamWriter
from local_run.replication.task import Ended, Reading, Task, TaskError, say
from provision.database import describe, refusal

LOOK_SECONDS = 0.2
AGAIN_SECONDS = 0.3  # DMS waits for five (RecoverableErrorInterval); here a person does


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local_run.replication", description="Plays the DMS task of a pipeline."
    )
    parser.add_argument("--pipeline", required=True, help="PIPELINE_NAME")
    parser.add_argument("--folder", type=Path, required=True, help="where its files are kept")
    parser.add_argument("--parent", type=int, help="ends when this is no longer the parent process")
    parser.add_argument(
        "--stream-positions",
        choices=("change-first", "commit-first"),
        default="change-first",
        help="which LSN of a stream position comes first: AWS does not say (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    for part in ("replication", "status"):
        (options.folder / part).mkdir(parents=True, exist_ok=True)
    Instance(options.pipeline, options.folder, options.parent, options.stream_positions, stop).serve()
    return 0


class Instance:
    """The replication instance: one task, run after run."""

    def __init__(
        self, pipeline: str, folder: Path, parent: int | None, reading: Reading, stop: threading.Event
    ) -> None:
        import boto3

        self.session = boto3.Session()
        self.task_name = f"{pipeline}-task"
        self.state_file = folder / "replication" / "state.json"
        self.status_file = folder / "status" / "replication.json"
        self.parent = parent
        self.reading: Reading = reading
        self.stop = stop
        self.progress = Progress()
        self.task: Task | None = None
        self.said = "ready"  # of the run, to AWS
        self.message: str | None = None

    def serve(self) -> None:
        arn = self.wait_for_task()
        if arn is None:
            return
        self.progress = position.load(self.state_file)
        with Control(
            os.environ["AWS_ENDPOINT_URL"], arn, self.status_file, self.report, self.status
        ) as control:
            while not self.is_ending():
                orders = control.orders
                if orders.status in ("starting", "running") and not self.is_over(orders):
                    self.play(control, arn)
                elif orders.status == "stopping" and self.said != "stopped":
                    self.said = "stopped"
                    control.exchange()
                else:
                    self.stop.wait(LOOK_SECONDS)

    def is_ending(self) -> bool:
        return self.stop.is_set() or self.parent not in (None, os.getppid())

    def is_over(self, orders: Orders) -> bool:
        """Whether this run has ended already, so that a next one has to be asked for."""
        return orders.run == self.progress.run and self.said in ("failed", "stopped")

    def wait_for_task(self) -> str | None:
        """The task's ARN, once there is one; None: this process is to end."""
        from botocore.exceptions import BotoCoreError, ClientError

        dms = self.session.client("dms")
        named = [{"Name": "replication-task-id", "Values": [self.task_name]}]
        while not self.is_ending():
            try:
                found = dms.describe_replication_tasks(Filters=named, WithoutSettings=True)
                return str(found["ReplicationTasks"][0]["ReplicationTaskArn"])
            except (BotoCoreError, ClientError):
                self.stop.wait(LOOK_SECONDS)
        return None

    # ------------------------------------------------------------------------------------------------------
    # A run
    # ------------------------------------------------------------------------------------------------------

    def play(self, control: Control, arn: str) -> None:
        """Plays the run that is asked for, until it is stopped or has failed."""
        self.said, self.message = "running", None
        while not self.is_ending():
            configuration = None
            try:
                configuration = read_configuration(self.session, self.task_name)
                self.begin_run(control.orders, arn, configuration)
                self.task = self.make_task(control, configuration)
                self.message = None
                self.task.run()
            except Ended:
                if not self.is_ending():
                    self.said = "stopped"
                return self.settle(control)
            except (TaskError, StreamError, NotPlayedError) as error:
                self.fail(str(error))
                return self.settle(control)
            except psycopg2.Error as error:
                where = describe(configuration.database) if configuration else "the database"
                if not passes(error):
                    self.fail(f"{where} refuses it: {refusal(error)}")
                    return self.settle(control)
                self.message = f"{where} is away ({refusal(error)}): trying again"
                say(self.message)
                self.stop.wait(AGAIN_SECONDS)
                self.progress = position.load(self.state_file)
            except Exception as error:  # whose text may hold a value
                last = traceback.extract_tb(error.__traceback__)[-1]
                self.fail(f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}")
                return self.settle(control)
        return None

    def fail(self, message: str) -> None:
        self.said, self.message = "failed", message
        say(f"the task has failed: {message}")

    def begin_run(self, orders: Orders, arn: str, configuration: Configuration) -> None:
        """A first start and a reload of all begin anew, with a new slot; a resume goes on."""
        if orders.run == self.progress.run and self.progress.task_arn == arn:
            return  # this process was killed, or the emulated AWS tells again what was begun
        if orders.start_type == "resume-processing" and self.progress.slot:
            self.progress.run = orders.run
        else:
            if self.progress.publications:
                self.source_of(configuration).remove(self.progress)
            self.progress = Progress(task_arn=arn, run=orders.run)
            self.progress.publications = f"local_run_{uuid.uuid4().hex[:12]}"
            self.progress.database = self.source_of(configuration).address
        position.save(self.state_file, self.progress)

    def settle(self, control: Control) -> None:
        control.exchange()
        if self.task:
            self.task.state = self.said if self.said != "running" else "stopped"

    def make_task(self, control: Control, configuration: Configuration) -> Task:
        writer = StreamWriter(self.kinesis(), configuration.stream_arn, self.pause)
        return Task(
            configuration=configuration,
            source=self.source_of(configuration),
            writer=writer,
            state_file=self.state_file,
            progress=self.progress,
            orders=lambda: control.orders,
            is_ending=self.is_ending,
            reading=self.reading,
        )

    def source_of(self, configuration: Configuration) -> Source:
        return Source(configuration.database, self.progress.publications)

    def kinesis(self) -> Any:
        from botocore.config import Config

        # Retries are the writer's, so that each is of what was not taken.
        return self.session.client(
            "kinesis", config=Config(parameter_validation=False, retries={"total_max_attempts": 1})
        )

    def pause(self, seconds: float) -> None:
        if self.stop.wait(seconds) or self.is_ending():
            raise Ended

    # ------------------------------------------------------------------------------------------------------
    # What is told
    # ------------------------------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """For AWS: the state of the run and of its tables."""
        tables = [
            {
                "SchemaName": table.schema,
                "TableName": table.name,
                "TableState": table.state,
                "Inserts": table.inserts,
                "Updates": table.updates,
                "Deletes": table.deletes,
                "Ddls": table.ddls,
                "FullLoadRows": table.loaded_rows,
            }
            for table in self.progress.tables
        ]
        return {
            "run": self.progress.run,
            "status": self.said,
            "message": self.message,
            "tables": tables,
            "reloaded": self.progress.reloaded,
        }

    def status(self) -> dict[str, Any]:
        """For who watches this process."""
        task = self.task
        return {
            "state": task.state if task and self.said == "running" else self.said.replace("ready", "waiting"),
            "message": self.message,
            "records": task.writer.records if task else 0,
            "changes": task.changes if task else 0,
            "loaded": task.loaded if task else 0,
            "position": lsn_text(self.progress.position) if self.progress.position else None,
            "suspended": {
                f"{table.schema}.{table.name}": table.suspended
                for table in self.progress.tables
                if table.suspended
            },
            "at": time.time(),
        }


def passes(error: psycopg2.Error) -> bool:
    """Whether the database is only away: no answer, shutting down, or a slot that a killed reader holds."""
    if not isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return False
    return error.pgcode is None or error.pgcode.startswith(("08", "57P0", "55006"))


if __name__ == "__main__":
    sys.exit(main())
