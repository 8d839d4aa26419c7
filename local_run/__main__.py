"""python -m local_run: the whole chain on this machine, from PostgreSQL to objects in a bucket.

    $ python -m local_run                       # the lending tables and 20 s of their changes
    $ python -m local_run --no-workload         # change the tables yourself, until Ctrl-C

PostgreSQL and the function's zip are real; DMS, Kinesis, Lambda's poller and S3 are played on the loopback,
as setup_dms.py apply has set them up there. Nothing talks to AWS. Progress goes to stderr, the summary to
stdout. Exit codes: 0 every committed change is in S3, 1 not, or an error, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from local_run.kills import Killer
from local_run.machine import PAUSE_SECONDS, Interrupted, Interrupts, Machine, Plan
from local_run.part import ROOT
from local_run.proof import Verdict
from local_run.screen import Screen, Summary
from local_run.surroundings import (
    DEMO_TABLES,
    chosen_settings,
    claimed_folder,
    database_of_url,
    emulator_addresses,
)
from local_run.workload import read_rate
from provision.engine import ProvisionError

RATE = "200"
SECONDS = 20.0
DOTENV = Path(".env")


def main(arguments: list[str] | None = None) -> int:
    options = read_options(arguments)
    interrupts = Interrupts()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupts.add)
    try:
        plan = plan_of(options)
        with ExitStack() as folders:
            folders.enter_context(claimed_folder(plan.folder))
            if plan.output:
                folders.enter_context(claimed_folder(plan.output, "--output"))
            summary = run(plan, interrupts)
    except Interrupted:
        print("interrupted: everything is stopped", file=sys.stderr)
        return 130
    except (ProvisionError, OSError) as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(summary.as_dict(), indent=2) if options.format == "json" else summary.as_text())
    if summary.is_interrupted:
        return 130
    return 0 if summary.is_exact else 1


# ----------------------------------------------------------------------------------------------------------
# Options
# ----------------------------------------------------------------------------------------------------------


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local_run",
        description="Runs the whole chain on this machine: PostgreSQL, stand-ins for DMS, Kinesis, Lambda's"
        " poller and S3, and the function's own zip; changes the lending tables; proves that S3 has it all.",
    )
    add = parser.add_argument
    add("--rate", metavar="N", help=f"changes a second, or max (default: {RATE})")
    add("--seconds", type=positive, metavar="S", help=f"of changes (default: {SECONDS:.0f})")
    add("--forever", action="store_true", help="until Ctrl-C")
    add("--no-workload", action="store_true", help="make the changes yourself, until Ctrl-C or --seconds")
    add("--poll-seconds", type=positive, default=1.0, metavar="S", help="Lambda's second (default: 1)")
    add(
        "--tables",
        metavar="PATTERNS",
        help=f"to replicate (default: {DEMO_TABLES}; of your own, TABLES)".replace("%", "%%"),
    )
    add(
        "--masked-columns",
        metavar="MASKS",
        help="as MASKED_COLUMNS, public.client.email=sha256 (default: those of the settings)",
    )
    add("--database-url", metavar="URL", help="a PostgreSQL of yours, which is left as it is")
    add("--output", type=Path, metavar="DIR", help="keeps a copy of the bucket's objects there")
    add("--folder", type=Path, default=Path(".local-run"), metavar="DIR", help="of the run's files")
    add("--kill-every", type=positive, metavar="S", help="kills a part about every S seconds")
    add("--seed", type=int, default=0, metavar="N", help="other changes, other kills (default: 0)")
    add("--format", choices=("text", "json"), default="text", help="of the summary (default: text)")
    add("--debug", action="store_true", help="show where an error comes from")
    options = parser.parse_args(arguments)
    if options.rate is not None and (options.no_workload or options.database_url):
        parser.error("--rate is of the changes to the lending tables: without these changes there is none")
    options.rate = RATE if options.rate is None else options.rate
    try:
        read_rate(options.rate)
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --rate: {error}")
    if options.forever and options.seconds:
        parser.error("--forever and --seconds exclude each other")
    if options.output and options.output.resolve() == options.folder.resolve():
        parser.error("--output and --folder have to be two folders")
    return options


def positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write seconds, like 20 or 0.5")
    return number


def plan_of(options: argparse.Namespace) -> Plan:
    """What the options, the environment and .env ask for. Raises ProvisionError when it can't be run."""
    environment = dict(os.environ)
    is_ours = options.database_url is None
    has_workload = is_ours and not options.no_workload
    tables = options.tables or (DEMO_TABLES if is_ours else None)
    default = SECONDS if has_workload and not options.forever else None
    return Plan(
        settings=chosen_settings(DOTENV, environment, tables, options.masked_columns),
        environment=environment,
        emulators=emulator_addresses(DOTENV, environment),
        database=None if is_ours else database_of_url(options.database_url),
        folder=options.folder.absolute(),
        output=options.output.absolute() if options.output else None,
        rate=options.rate,
        seconds=options.seconds or default,
        poll_seconds=options.poll_seconds,
        kill_every=options.kill_every,
        has_workload=has_workload,
        seed=options.seed,
    )


# ----------------------------------------------------------------------------------------------------------
# The run
# ----------------------------------------------------------------------------------------------------------


def run(plan: Plan, interrupts: Interrupts) -> Summary:
    """Starts all, waits for the end, drains, proves, stops all. Raises LocalRunError, Interrupted."""
    with Machine(plan, interrupts, lambda text: print(text, file=sys.stderr, flush=True)) as machine:
        machine.start()
        if plan.is_shared:
            invite(machine)
        with Screen(plan.seconds) as screen:
            machine.say = screen.say
            started = time.monotonic()
            killer = Killer(machine, plan.kill_every, plan.seed)
            is_cut_short = play(machine, killer, screen)
            seconds = time.monotonic() - started
            machine.end_workload()
            screen.phase = "drain"
            machine.drain(lambda: screen.show(machine.sample()))
            landed_seconds, cpu_seconds = time.monotonic() - started, machine.cpu_used()
        machine.stop_stand_ins()
        if machine.mirror is not None:
            machine.mirror.stop(is_final=True)
        return replace(
            summary_of(machine, machine.verdict(), is_cut_short),
            seconds=seconds,
            landed_seconds=landed_seconds,
            cpu_seconds=cpu_seconds,
            kills=dict(killer.kills),
        )


def play(machine: Machine, killer: Killer, screen: Screen) -> bool:
    """Returns when the time is over; True: when it was cut short by an interrupt."""
    plan, interrupts = machine.plan, machine.interrupts
    told: str | None = None
    deadline = float("inf") if plan.seconds is None else time.monotonic() + plan.seconds
    while not interrupts.count:
        machine.check()
        if machine.is_over(deadline):
            return False
        if plan.seconds is not None:
            machine.check_states()
        if (trouble := machine.trouble()) != told:  # a person may have stopped it, and may resume it
            told = trouble
            screen.say(trouble or "all goes on")
        killer.kill_when_due()
        screen.show(machine.sample())
        time.sleep(PAUSE_SECONDS)
    return plan.seconds is not None


def invite(machine: Machine) -> None:
    """How to take part while it runs."""
    plan = machine.plan
    setup_dms = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'setup_dms.py'))}"
    machine.say(
        f"# {'until Ctrl-C' if plan.seconds is None else f'for {plan.seconds:.0f} s'}; in another terminal:\n"
        f". {shlex.quote(str(plan.folder / 'environment'))}\n"
        f"psql\n"
        f"aws s3 ls --recursive s3://{plan.settings['S3_BUCKET']}/\n"
        f"{setup_dms} status\n"
        f"# a table made now is taken after: {setup_dms} apply"
    )


def summary_of(machine: Machine, verdict: Verdict, is_cut_short: bool) -> Summary:
    plan, workload = machine.plan, machine.parts.get("workload")
    remarks = []
    if machine.mirror is not None:
        remarks.append(f"objects: {plan.output}")
        remarks += [machine.mirror.remark] if machine.mirror.remark else []
    else:
        remarks.append("the bucket is gone with the run; --output DIR keeps its objects")
    remarks.append(f"logs: {plan.folder / 'logs'}")
    return Summary(
        sample=machine.sample(),
        committed=workload.seen.get("committed", {}) if workload else {},
        verdict=verdict.as_dict(),
        verdict_text=verdict.text(),
        remarks=remarks,
        is_interrupted=is_cut_short,
    )


if __name__ == "__main__":
    sys.exit(main())
