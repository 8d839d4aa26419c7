"""Speed, memory and cost of the handler against its peers, in one run: python -m benchmarks.handler.

Writes RESULTS.md and results.svg beside this file. Ratios count: the machine's own speed says little.
"""

from __future__ import annotations

import argparse
import gzip
import hmac
import json
import sys
from collections import Counter
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from benchmarks import cpu, memory, peers, report, start
from benchmarks.cpu import Times, Work
from benchmarks.events import event_text
from benchmarks.s3_server import s3_server
from lambda_function import read_masks

FOLDER = Path(__file__).parent
TABLE_COUNTS = (1, 4, 20, 200)
PEERS = ("A", "B", "B1")
SHAPE_CANDIDATES = ("B", "B1", "handler", "before compression", "floor")
S3_RECORDS_OF_A = 300  # a PUT each
POISON = {"bad base64": "eyJkYXRhIjp7!", "bad JSON": "eyJkYXRhIjp7"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.handler", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a few rounds, to see that it runs; writes nothing"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    options = parser.parse_args(arguments)

    results = run(rounds=3 if options.quick else 50)
    text = report.markdown(results)
    print(text)
    if not options.quick:
        (FOLDER / "RESULTS.md").write_text(text)
        report.chart(results, FOLDER / "results.svg")
    return 1 if options.strict and not all(bar.is_met for bar in report.bars(results)) else 0


def run(rounds: int) -> report.Results:
    """All measurements; the long ones of a few dozen rounds, the others of fewer."""
    say("making events")
    typical = event_text("typical")
    shapes = {shape: event_text(shape) for shape in ("narrow", "wide", "pretty")}
    tables = {count: event_text("typical", table_names(count)) for count in TABLE_COUNTS}
    shapes["200 tables"] = tables[200]
    poisoned = {name: with_poison(typical, payload) for name, payload in POISON.items()}
    for name, text in {"typical": typical, **shapes}.items():
        say(f"comparing the rows of all, {name}")
        check_rows(text)
    check_masks(typical)
    for text in poisoned.values():
        check_poison(text)
    return report.Results(
        records={name: count_records(text) for name, text in {"typical": typical, **shapes}.items()},
        bytes_per_row={
            name: gzipped_bytes_per_row(name, typical) for name in ("B", "B1", "handler", "masked")
        },
        typical=measure("typical", {name: Work(name, typical) for name in peers.CANDIDATES}, rounds),
        shapes={
            shape: measure(shape, {name: Work(name, text) for name in SHAPE_CANDIDATES}, rounds // 5 + 2)
            for shape, text in shapes.items()
        },
        tables=measure(
            "tables", {str(count): Work("before puts", text) for count, text in tables.items()}, rounds // 2
        ),
        puts={count: len(put_objects("handler", text)) for count, text in tables.items()},
        poison=measure(
            "poison",
            {name: Work("handler", text) for name, text in {"clean": typical, **poisoned}.items()},
            rounds,
        ),
        s3=measure_s3(typical, rounds // 6 + 1),
        peaks=measure_memory(typical),
        import_ms=measure_start(),
    )


def measure(name: str, works: dict[str, Work], rounds: int) -> dict[str, Times]:
    say(f"CPU, {name}: {rounds} rounds of {', '.join(works)}")
    return cpu.measure(works, rounds)


def measure_s3(typical: str, rounds: int) -> dict[str, Times]:
    event = json.loads(typical)
    few = json.dumps({"Records": event["Records"][:S3_RECORDS_OF_A]})
    with s3_server() as endpoint:
        works = {
            name: Work(name, few if name == "A" else typical, endpoint) for name in ("A", "B", "handler")
        }
        return measure("S3 over HTTP", works, rounds)


def measure_memory(typical: str) -> dict[str, tuple[float, float]]:
    say("memory")
    return memory.peaks([*PEERS, "handler"], typical)


def measure_start() -> float:
    say("start")
    return start.import_ms()


def table_names(count: int) -> list[str]:
    return [f"ledger_{number:03}" for number in range(count)]


def count_records(text: str) -> int:
    return len(json.loads(text)["Records"])


def with_poison(text: str, payload: str) -> str:
    """The event with one record, in its middle, that can't be read."""
    event = json.loads(text)
    event["Records"][len(event["Records"]) // 2]["kinesis"]["data"] = payload
    return json.dumps(event, separators=(",", ":"))


def put_objects(candidate: str, text: str) -> dict[str, bytes]:
    sink = peers.Sink()
    with redirect_stderr(StringIO()):  # the handler's log
        peers.CANDIDATES[candidate](json.loads(text), sink, "")
    return sink.objects


def rows(objects: dict[str, bytes]) -> list[Any]:
    """The rows of the objects, gzipped or not, in stream order."""
    bodies = [gzip.decompress(body) if key.endswith(".gz") else body for key, body in objects.items()]
    found = [json.loads(line) for body in bodies for line in body.splitlines()]
    return sorted(found, key=lambda row: row["cdc_sequence_number"])


def check_rows(text: str) -> None:
    """Raises AssertionError unless all do the same work: equal rows, one for each record."""
    expected = rows(put_objects("handler", text))
    assert len(expected) == count_records(text)
    for name in PEERS:
        assert rows(put_objects(name, text)) == expected, f"{name} writes other rows than the handler"


def check_masks(text: str) -> None:
    """Raises AssertionError unless the masked rows are the handler's, but for what is masked."""
    plain, masked = put_objects("handler", text), put_objects("masked", text)
    assert plain == put_objects("masked elsewhere", text)
    for (schema, table), actions in read_masks(peers.MASKED_COLUMNS).items():
        folder = f"changes/{schema}/{table}/"
        found = [
            rows({key: body for key, body in objects.items() if folder in key}) for objects in (plain, masked)
        ]
        assert [mask(row, actions) for row in found[0]] == found[1], table


def mask(row: dict[str, Any], actions: dict[str, str]) -> dict[str, Any]:
    """As the handler masks it, but of parsed values: enough for those of the typical events."""
    for column, action in actions.items():
        if row[column] is not None:
            text = str(row[column]).removesuffix(".0").encode()
            digest = hmac.new(peers.MASK_SECRET.encode(), text, "sha256").hexdigest()
            row[column] = digest if action == "sha256" else None
    return row


def check_poison(text: str) -> None:
    """Raises AssertionError unless one bad record costs nothing but itself."""
    objects = put_objects("handler", text)
    folders: Counter[str] = Counter()
    for key, body in objects.items():
        folders[key.split("/")[0]] += len(gzip.decompress(body).splitlines())
    assert folders == {"changes": count_records(text) - 1, "quarantine": 1}, folders


def gzipped_bytes_per_row(candidate: str, text: str) -> float:
    return sum(map(len, put_objects(candidate, text).values())) / count_records(text)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
