"""What landed in S3: schema | sql | show | verify | failed | compact.

Settings come from the environment and .env, as for setup_dms.py; S3_BUCKET is enough for what does not ask
the source database. Results go to stdout, progress to stderr. Exit codes: 0 done, 1 error, 2 wrong usage,
130 interrupted; of verify: 0 identical, 1 different, 2 it could not tell, which an error is too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lake_tools import compact, failed, schemas, show, sql, verify
from lake_tools.bucket import open_lake
from lake_tools.settings import ERRORS, read_settings

INTERRUPTED = 130
COMMANDS = {
    "schema": (schemas, "the columns of a table, and their types; publish takes them from the database"),
    "sql": (sql, "tables and views as SQL, for DuckDB or Athena"),
    "show": (show, "rows, now"),
    "verify": (verify, "compares PostgreSQL with S3, row by row; both may be written to meanwhile"),
    "failed": (failed, "what did not become rows, and its way back"),
    "compact": (compact, "closed hours as typed, sorted Parquet"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    top = parser()
    options = top.parse_args(arguments)
    if options.command is None:
        top.print_help()
        return 0
    try:
        return run(options)
    except ERRORS as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if options.command == "verify" else 1
    except (KeyboardInterrupt, RuntimeError) as error:
        if not is_interrupt(error):
            raise
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads has seen enough; nothing is left for the interpreter to write at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def run(options: argparse.Namespace) -> int:
    lake = open_lake(read_settings(Path(".env")), options.cache)
    code = int(COMMANDS[options.command][0].run(options, lake))
    sys.stdout.flush()
    return code


def is_interrupt(error: BaseException) -> bool:
    """Observed: DuckDB makes a RuntimeError of a Ctrl-C while a query runs."""
    return isinstance(error, KeyboardInterrupt) or str(error) == "Query interrupted"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="lake.py", description=__doc__.partition("\n\n")[0])
    top.set_defaults(command=None, debug=False, cache=None)
    add_common(top)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        one = commands.add_parser(name, help=text, description=text)
        add_common(one)
        module.add_arguments(one)
    return top


def add_common(one: argparse.ArgumentParser) -> None:
    """Before the command and after it; SUPPRESS: what stands before is not set back after it."""
    absent = argparse.SUPPRESS
    one.add_argument("--debug", action="store_true", default=absent, help="show where an error comes from")
    one.add_argument(
        "--cache",
        type=Path,
        default=absent,
        metavar="DIR",
        help="where copies of objects are kept (default: ~/.cache/...)",
    )


if __name__ == "__main__":
    exit_code = main()
    if exit_code == INTERRUPTED:
        sys.stderr.flush()
        os._exit(exit_code)  # threads that wait for S3 just now are not waited for: nothing is half written
    sys.exit(exit_code)
