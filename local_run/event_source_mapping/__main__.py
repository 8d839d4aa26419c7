"""python -m local_run.event_source_mapping: plays Lambda's poller until SIGTERM.

Exits with 0 after SIGTERM, once the invocation in flight has ended; with 1 and one line on stderr when the
mapping or its function has something that is not imitated.

--poll-seconds is what a second of the mapping's own clock lasts: of its polls, its batching window and its
pauses between retries. A record's age and the function's timeout are of real seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from local_run.event_source_mapping.mapping import Poller
from local_run.event_source_mapping.shards import kinesis_client
from local_run.runtime import link_runtime
from provision.engine import ProvisionError

READ_SECONDS = 20


def main(arguments: list[str] | None = None) -> int:
    options = read_options(arguments)
    try:
        poller = Poller(
            f"{options.pipeline}-lambda", options.folder.absolute(), options.poll_seconds, clients()
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(poller, "is_ending", True))
        poller.run(fresh_runtime(poller.folder / "runtime"), options.parent)
    except (ProvisionError, ModuleNotFoundError) as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local_run.event_source_mapping", description="Plays Lambda's poller of a pipeline."
    )
    parser.add_argument("--pipeline", required=True, help="PIPELINE_NAME, which names the function")
    parser.add_argument("--folder", required=True, type=Path, help="the folder of the run")
    parser.add_argument(
        "--poll-seconds", type=float, default=1.0, help="between two polls of a shard; AWS: 1, the default"
    )
    parser.add_argument("--parent", type=int, default=None, help="ends when this process has")
    parser.add_argument("--debug", action="store_true", help="shows the traceback of an error")
    options = parser.parse_args(arguments)
    if options.poll_seconds <= 0:
        parser.error("--poll-seconds has to be above 0")
    return options


def fresh_runtime(folder: Path) -> Path:
    """The folder with links to this Python's packages, whatever was linked there before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return link_runtime(folder)


def clients() -> dict[str, Any]:
    """Of the ordinary endpoint variables; each request is tried once, since the poller itself tries on."""
    import boto3
    from botocore.config import Config

    once = Config(
        parameter_validation=False,
        read_timeout=READ_SECONDS,
        connect_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=50,
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "eu-west-1"
    session = boto3.session.Session(region_name=region)
    return {
        "lambda": session.client("lambda", config=once),
        "kinesis": kinesis_client(session, config=once),
        "s3": session.client("s3"),
    }


if __name__ == "__main__":
    sys.exit(main())
