"""Full Kinesis events of a lending database, the same in every run, as JSON text.

An event is filled up to Lambda's payload quota of 6 MB or the batch size limit of 10,000 records, whichever
comes first. Its envelopes have the shape that DMS gives them; ids, names, amounts, notes and times differ
from row to row and come from a vocabulary of thousands of words, so that compression is not flattered.
Source: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from typing import Any

EVENT_BYTES = 6 * 1024 * 1024
EVENT_RECORDS = 10_000
START = datetime(2026, 3, 1, 9, 16, 10, 480010, UTC)
SEED = 20260301
SYLLABLES = [
    first + second for first in "bdfghjklmnprstvz" for second in ("a", "e", "i", "o", "u", "ar", "en", "is")
]
KINDS = ("client", "loan", "payment", "ledger_entry")
ACCENTED = str.maketrans("aeou", "äéõü")

Row = dict[str, Any]


class World:
    """Makes rows and envelopes, one after the other, from one seed."""

    def __init__(self, tables: list[str] | None = None) -> None:
        self.random = random.Random(SEED)
        self.tables = tables  # None: each row goes to the table of its kind
        self.committed_at = START
        self.transaction_id = 5120
        self.lsn = 0x1_3A00_41B8

    def typical(self) -> bytes:
        """A change with transaction details; updates carry the before image of an unchanged key."""
        make_row = self.random.choice((self.client, self.loan, self.payment, self.ledger_entry))
        return compact(self.envelope(self.table(make_row.__name__), make_row()))

    def pretty(self) -> bytes:
        """The same as DMS writes it with MessageFormat=json: a tab a level, a tab behind each colon."""
        text = json.dumps(
            json.loads(self.typical()), ensure_ascii=False, indent="\t", separators=(",", ":\t")
        )
        return text.encode()

    def narrow(self) -> bytes:
        """A row of a full load: a key alone, no transaction."""
        metadata = {
            "timestamp": self.published_at(),
            "record-type": "data",
            "operation": "load",
            "partition-key-type": "schema-table",
            "schema-name": "public",
            "table-name": self.table(self.random.choice(KINDS)),
        }
        return compact({"data": {"id": self.key()}, "metadata": metadata})

    def wide(self) -> bytes:
        """A loan application of 57 columns: texts, amounts, flags, times, a document as a JSON string."""
        row: Row = self.client() | self.loan()
        row |= {f"score_{number:02}": round(self.random.gauss(600, 80), 2) for number in range(16)}
        row |= {f"flag_{number:02}": self.random.choice("tf") for number in range(10)}
        row |= {f"checked_{number:02}_at": self.moment() for number in range(10)}
        row |= {f"remark_{number:02}": self.sentence(self.random.randint(4, 30)) for number in range(12)}
        row["document"] = json.dumps({self.word(): self.key() for _ in range(12)})
        return compact(self.envelope(self.table(self.random.choice(KINDS)), row))

    def table(self, kind: str) -> str:
        return self.random.choice(self.tables) if self.tables else kind

    def envelope(self, table: str, row: Row) -> Row:
        operation = self.random.choices(("insert", "update", "delete"), (45, 45, 10))[0]
        if operation == "delete":  # the key only, for REPLICA IDENTITY is DEFAULT
            row = {name: row[name] if name == "id" else None for name in row}
        before: Row = {"before-image": {}} if operation == "update" else {}
        return {"data": row, **before, "metadata": self.metadata(table, operation)}

    def metadata(self, table: str, operation: str) -> Row:
        self.transaction_id += self.random.choice((0, 0, 1, 1, 2, 5))
        self.lsn += self.random.randrange(56, 2400, 8)
        self.committed_at += timedelta(microseconds=self.random.randint(1, 900))
        position = f"{self.lsn >> 32:08X}/{self.lsn & 0xFFFFFFFF:08X}"
        return {
            "timestamp": self.published_at(),
            "record-type": "data",
            "operation": operation,
            "partition-key-type": "schema-table",
            "schema-name": "public",
            "table-name": table,
            "transaction-id": self.transaction_id,
            "transaction-record-id": self.random.randint(1, 40),
            "commit-timestamp": timestamp(self.committed_at),
            "stream-position": f"{position}.{self.random.randint(1, 9)}.{position}",
        }

    def client(self) -> Row:
        name = f"{self.word().title()} {self.word().title()}"
        if self.random.random() < 0.2:
            name = name.translate(ACCENTED)
        email = f"{self.word()}.{self.word()}@{self.word()}.example"
        return {
            "id": self.key(),
            "name": name,
            "email": email,
            "country": self.random.choice(("EE", "LV", "PL")),
        }

    def loan(self) -> Row:
        return {
            "id": self.key(),
            "client_id": self.key(),
            "principal": round(self.random.lognormvariate(8, 1), 2),
            "annual_rate": round(self.random.uniform(0.03, 0.4), 4),
            "status": self.random.choice(("active", "closed", "late", "offered")),
        }

    def payment(self) -> Row:
        amount = round(self.random.lognormvariate(5, 1), 2)
        return {"id": self.key(), "loan_id": self.key(), "amount": amount, "received_at": self.moment()}

    def ledger_entry(self) -> Row:
        amount = round(self.random.gauss(0, 900), 2)
        return {"id": self.key(), "account": self.key(), "amount": amount, "note": self.sentence(4)}

    def key(self) -> int:
        return self.random.randint(1, 9_000_000)

    def word(self) -> str:
        return self.random.choices(vocabulary(), cum_weights=weights())[0]

    def sentence(self, words: int) -> str:
        return " ".join(self.random.choices(vocabulary(), cum_weights=weights(), k=words))

    def moment(self) -> str:
        return timestamp(START - timedelta(microseconds=self.random.randint(0, 10**13)))

    def published_at(self) -> str:
        return timestamp(self.committed_at + timedelta(microseconds=self.random.randint(9_000, 40_000)))


def event_text(shape: str, tables: list[str] | None = None) -> str:
    """The JSON text of a full event of envelopes of a shape: typical, narrow, wide or pretty.

    Without tables, its rows belong to four; with them, the same rows are spread over those.
    """
    world = World(tables)
    make_envelope: Callable[[], bytes] = getattr(world, shape)
    sequence_number = 49661234567890123456789012345678901234567890123456000002
    records: list[str] = []
    room = EVENT_BYTES - len('{"Records":[]}')
    while len(records) < EVENT_RECORDS:
        record = json.dumps(kinesis_record(make_envelope(), sequence_number), separators=(",", ":"))
        room -= len(record) + 1
        if room < 0:
            break
        records.append(record)
        sequence_number += world.random.randint(1, 10**6)
    return '{"Records":[' + ",".join(records) + "]}"


def kinesis_record(payload: bytes, sequence_number: int) -> Row:
    """A record as Lambda hands it over; every record of an event comes from one shard."""
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "public.client",
            "sequenceNumber": str(sequence_number),
            "data": b64encode(payload).decode(),
            "approximateArrivalTimestamp": 1772356570.25,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000006:{sequence_number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/lending-lambda",
        "awsRegion": "eu-west-1",
        "eventSourceARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/lending",
    }


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@lru_cache
def vocabulary() -> list[str]:
    """5,000 words, the frequent ones first."""
    source = random.Random(SEED)
    return ["".join(source.choices(SYLLABLES, k=source.choice((1, 2, 2, 3, 3, 4)))) for _ in range(5_000)]


@lru_cache
def weights() -> list[float]:
    """Frequencies by rank, a little flatter than those of a natural language; cumulated."""
    return list(accumulate(1 / rank**0.8 for rank in range(1, len(vocabulary()) + 1)))
