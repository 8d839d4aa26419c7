"""The chain on AWS: check | plan | apply | status | stop | resume | reload | destroy.

Settings come from the environment and .env; what AWS has is the state, so that running a verb again finishes
what was interrupted. Results go to stdout, progress and questions to stderr. Exit codes: 0 done, 1 error or
blocker, 2 wrong usage, 3 a plan has changes, 130 interrupted.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lake_tools.bucket import SCHEMAS, Lake
from lake_tools.schemas import publish
from lake_tools.settings import LakeError, LakeSettings
from provision import demolition, engine, plan_text, verbs
from provision.aws import Account, AwsError
from provision.check import check
from provision.deployer import policies
from provision.engine import Action, ProvisionError, Step
from provision.pipeline import Pipeline
from provision.preflight import is_blocked, render_text, to_dicts
from provision.settings import read_settings
from provision.status import read_status
from provision.status_problems import is_well
from provision.status_text import as_dict, as_text

ROOT = Path(__file__).parent
ZIP = Path("build/lambda.zip")
WATCH_SECONDS = 10
CHANGES = 3  # exit code of a plan that has some

# --------------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return int(options.verb(options))
    except ProvisionError as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="setup_dms.py", description=__doc__.partition("\n\n")[0])
    verbs_of = top.add_subparsers(required=True, metavar="VERB")

    def add(verb: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        one = verbs_of.add_parser(verb.__name__.removesuffix("_"), help=text, description=text)
        one.add_argument("--debug", action="store_true", help="show where an error comes from")
        one.set_defaults(verb=verb)
        return one

    one = add(check_, "looks at the source database and the AWS account; exit 1 if something is in the way")
    add_json(one)
    one = add(plan, "shows what apply would do, and what it will cost; exit 3 if there is something to do")
    add_json(one)
    one.add_argument("--show", metavar="NAME", help="print the documents that would be sent for one object")
    add_rate(one)
    one = add(
        apply, "makes the chain as declared, starts or resumes the task; run again, it does what is left"
    )
    add_yes(one)
    add_rate(one)
    one.add_argument("--zip", type=Path, help="the function's code (default: what ./deploy.sh builds)")
    one = add(status, "shows the running chain on one screen, what is wrong first")
    add_json(one)
    one.add_argument("--watch", action="store_true", help=f"again every {WATCH_SECONDS} s, until Ctrl-C")
    add_yes(add(stop, "stops the task: no rows arrive until it is resumed, and the database keeps its log"))
    add_yes(add(resume, "starts the task where it was stopped"))
    one = add(reload, "loads tables anew: every row of them comes again")
    one.add_argument("tables", nargs="*", metavar="TABLE", help="sales.order")
    one.add_argument("--all", action="store_true", help="start the task anew, with a new slot")
    add_yes(one)
    one = add(destroy, "deletes the chain but for the rows, and drops its replication slot")
    add_yes(one)
    one.add_argument("--no-drain", action="store_true", help="do not wait until the stream has landed")
    return top


def add_json(one: argparse.ArgumentParser) -> None:
    one.add_argument("--json", action="store_true", help="for machines")


def add_yes(one: argparse.ArgumentParser) -> None:
    one.add_argument("--yes", action="store_true", help="ask nothing")


def add_rate(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--changes-per-second",
        type=rate,
        default=10.0,
        metavar="N",
        help="what the estimate is made for (default: 10)",
    )


def rate(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e9:
        raise ValueError(text)
    return number


# --------------------------------------------------------------------------------------------------------
# Verbs
# --------------------------------------------------------------------------------------------------------


def check_(options: argparse.Namespace) -> int:
    found, grants = check(pipeline_of(options))
    if options.json:
        print_json({"findings": to_dicts(found), "grants": grants})
    else:
        print(render_text(found), end="")
        print("\nA user for DMS with no more rights than it needs, to be named by PGUSER:\n")
        print("\n".join(f"    {line}" for line in grants))
    return 1 if is_blocked(found) else 0


def plan(options: argparse.Namespace) -> int:
    pipeline = pipeline_of(options)
    if options.show == "deployer":  # who asks for it may not have it yet
        print_json(policies(pipeline.account, pipeline.settings))
        return 0
    made, _ = verbs.make_plan(pipeline, options.changes_per_second)
    if options.show:
        print_json(plan_text.document_of(made, options.show))
        return 0
    if options.json:
        print_json(plan_text.as_dict(made))
    else:
        print(plan_text.as_text(made, is_estimated=made.has_work), end="")
    engine.refuse(made.steps)
    return CHANGES if made.has_work else 0


def apply(options: argparse.Namespace) -> int:
    shown = Progress()
    pipeline = pipeline_of(options, shown)
    made, chain = verbs.make_plan(pipeline, options.changes_per_second)
    print(plan_text.as_text(made, is_estimated=False), end="", flush=True)
    engine.refuse(made.steps)
    if not made.has_work:
        print(f"schemas: {publish_schemas(pipeline)}")
        return 0
    confirm(options, "Apply this?")
    started = time.monotonic()
    with shown:
        observed = verbs.apply(pipeline, made, chain, shown.report)
    print(f"\nDone in {time.monotonic() - started:.0f} s.")
    outputs = verbs.outputs(pipeline, observed) | {"schemas": publish_schemas(pipeline)}
    for name, value in outputs.items():
        print(f"  {name:22} {value}")
    return 0


def publish_schemas(pipeline: Pipeline) -> str:
    """How many were published for lake.py; the chain does without them, so why not is no error."""
    settings = LakeSettings.of(pipeline.settings)
    lake = Lake(settings, pipeline.account.session)
    try:
        count = len(publish(lake))
    except (ProvisionError, LakeError) as error:
        return f"not published: {error}; when it can be: python lake.py schema publish"
    return f"{count} in {lake.uri(SCHEMAS)}"


def status(options: argparse.Namespace) -> int:
    pipeline = pipeline_of(options)
    chain = verbs.chain_now(pipeline)
    seen = None
    while True:
        seen = read_status(pipeline.account, pipeline.settings, chain, datetime.now(UTC), seen)
        if options.json:
            print_json(as_dict(seen))
        else:
            clear = "\x1b[H\x1b[2J" if options.watch and sys.stdout.isatty() else ""
            print(clear + as_text(seen), end="", flush=True)
        if not options.watch:
            return 0 if is_well(seen) else 1
        time.sleep(WATCH_SECONDS)


def stop(options: argparse.Namespace) -> int:
    pipeline = pipeline_of(options)
    pipeline.task()  # an error before anything is said, if there is none
    print(
        "Stopping the task: what is on the stream still lands, then no rows come until it is resumed.\n"
        "Nothing is lost, but the database keeps its log for the slot meanwhile, and its disk fills.",
        flush=True,
    )
    confirm(options, "Stop it?")
    with line(f"stopping task {pipeline.account.name('task')}"):
        verbs.stop(pipeline)
    print("Stopped. To go on: python setup_dms.py resume")
    return 0


def resume(options: argparse.Namespace) -> int:
    pipeline = pipeline_of(options)
    is_new = verbs.is_new(pipeline)
    print(FIRST_START if is_new else RESUMED, flush=True)
    confirm(options, "Start it?" if is_new else "Resume it?")
    with line(f"starting task {pipeline.account.name('task')}"):
        state = verbs.resume(pipeline)
    print(f"The task is {state}.")
    return 0


FIRST_START = "Starting the task for the first time: all tables are loaded, then come their changes."
RESUMED = (
    "Resuming the task where it was stopped: the changes since come in their order; no table is\n"
    "loaded anew. DMS may send the last changes before the stop again, as new rows."
)


def reload(options: argparse.Namespace) -> int:
    if bool(options.tables) == options.all:
        parser().error("reload takes the tables to load, or --all")
    pipeline = pipeline_of(options)
    tables = verbs.tables_to_reload(pipeline, options.tables)
    named = ", ".join(options.tables) or "all tables"
    print(
        f"Loading {named} anew: every row comes again as cdc_operation load, a new load generation from\n"
        "which the current state is counted; what is in S3 stays." + (ALL_ANEW if options.all else ""),
        flush=True,
    )
    confirm(options, "Load anew?")
    with line(f"asking DMS to load {named}"):
        if options.all:
            verbs.reload_all(pipeline)
        else:
            verbs.reload(pipeline, tables)
    print("DMS has begun. To see how far it is: python setup_dms.py status")
    return 0


ALL_ANEW = (
    "\nThe task starts anew with a new slot: changes that the former one had not read are in the load as far"
    "\nas they show in the rows of now; versions in between, and deletes, are not. A table's rows in S3 that"
    "\nare in no row of the new generation were deleted meanwhile."
)


def destroy(options: argparse.Namespace) -> int:
    shown = Progress()
    pipeline = pipeline_of(options, shown)
    planned = demolition.plan_destroy(pipeline)
    print(demolition.as_text(pipeline, planned, is_drained=not options.no_drain), end="", flush=True)
    if not planned.was_there:
        return 0
    if planned.deleted:
        confirm(options, "", pipeline.account.pipeline)
    with shown:
        slots = demolition.end(
            pipeline, planned, is_drained=not options.no_drain, report=shown.report, tell=shown.tell
        )
    if planned.deleted:
        print("\nDestroyed; the rows are kept.")
    for line in slots.lines():
        print(line)
    return 0 if slots.are_settled else 1


# --------------------------------------------------------------------------------------------------------
# Account, code, questions
# --------------------------------------------------------------------------------------------------------


def pipeline_of(options: argparse.Namespace, shown: Progress | None = None) -> Pipeline:
    import boto3
    from botocore.exceptions import BotoCoreError

    settings = read_settings(Path(".env"))
    try:
        session = boto3.Session()
    except BotoCoreError as error:  # a profile that there is not
        raise AwsError(f"cannot use the AWS configuration: {error}") from error
    tell = shown.tell if shown else lambda text: print(text, file=sys.stderr)
    account = Account(session, settings.pipeline_name, tell=tell)
    given = getattr(options, "zip", None)
    code = functools.cache((lambda: read_zip(given)) if given else build_zip)
    return Pipeline(settings, account, code)


def build_zip() -> bytes:
    """What deploy.sh --build-only makes. Raises ProvisionError with its last words."""
    made = subprocess.run(
        [str(ROOT / "deploy.sh"), "--build-only"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if made.returncode:
        words = made.stderr.strip().splitlines() or ["it said nothing"]
        raise ProvisionError(f"./deploy.sh --build-only failed: {words[-1]}")
    return read_zip(ROOT / ZIP)


def read_zip(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProvisionError(
            f"cannot read {path}: {error.strerror}; ./deploy.sh --build-only makes it"
        ) from error


def confirm(options: argparse.Namespace, question: str, word: str = "") -> None:
    """Returns when the answer is yes, or the word that is asked for. Raises ProvisionError when it is not."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise ProvisionError("nobody is there to ask: run it with --yes")
    asked = f"Type {word} to go on: " if word else f"{question} [y/N] "
    print(asked, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip()
    if answer != word if word else answer.lower() not in ("y", "yes"):
        raise ProvisionError("nothing was done")


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, default=str))


# --------------------------------------------------------------------------------------------------------
# Progress
# --------------------------------------------------------------------------------------------------------

VERBS = {
    Action.CREATE: ("creating", "created"),
    Action.UPDATE: ("changing", "changed"),
    Action.REPLACE: ("replacing", "replaced"),
    Action.DELETE: ("deleting", "deleted"),
}


class Progress:
    """Lines on stderr: on a terminal each with the time that passes, else when a thing begins and ends."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = Console(stderr=True)
        self.is_terminal = bool(self.console.is_terminal)
        self.told = ""
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self.bar = Progress(*columns, console=self.console, transient=True, disable=not self.is_terminal)
        self.shown: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def report(self, event: str, step: Step, seconds: float) -> None:
        """For engine.execute and engine.destroy."""
        name = next(iter(step.resource.spec.values()))
        subject = f"{step.resource.name} {name}" if isinstance(name, str) else step.resource.name
        doing, done = VERBS[step.action]
        if event == "begin":
            self.begin(f"{doing} {subject}")
        else:
            self.end(f"{done} {subject} ({seconds:.0f} s)")

    def begin(self, text: str) -> None:
        if self.is_terminal:
            self.bar.start()
            self.shown = self.bar.add_task(text, total=None)
        else:
            self.print(text)

    def end(self, text: str) -> None:
        if self.is_terminal:
            self.bar.remove_task(self.shown)
            self.bar.stop()
        self.print(text)

    def tell(self, text: str) -> None:
        """Says it once, however often it is told."""
        if text != self.told:
            self.told = text
            self.print(f"  {text}")

    def print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def line(text: str) -> Iterator[None]:
    """Shows that it goes on, and when it is done."""
    started = time.monotonic()
    with Progress() as shown:
        shown.begin(text)
        yield
        shown.end(f"{text}: done ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    sys.exit(main())
