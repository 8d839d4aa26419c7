"""When tables were dropped for a load: what the views need of control/, for when that expires or is closed.

    generations/public/client/drops.jsonl.gz
    {"cdc_envelope":{"metadata":{"operation":"drop-table","schema-name":"public","table-name":"client",
     "timestamp":"2026-03-01T09:16:10.500120Z"}}}

Lines like those of control/, of which only this is left: no name of a column, no text of DMS's own tables.
lake.py compact writes them.
"""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from lake_tools.bucket import CONTROL, GENERATIONS, Lake
from lake_tools.schemas import control_rows
from lake_tools.settings import LakeError
from lambda_function import escape, gzipped

NAME = "drops.jsonl.gz"
DROP_TABLE = "drop-table"


class Dropped(msgspec.Struct, rename="kebab"):
    """Metadata of a control record."""

    operation: str
    schema_name: str | None
    table_name: str | None
    timestamp: str


class Envelope(msgspec.Struct):
    metadata: Dropped


class Line(msgspec.Struct):
    cdc_envelope: Envelope


decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_lines = msgspec.json.Decoder(Line).decode_lines
encode_lines = msgspec.json.Encoder().encode_lines


def keep_drops(lake: Lake, names: Sequence[tuple[str, str]]) -> None:
    """Keeps what control/ says of these tables; of one that was never dropped, that. Raises LakeError."""
    found: dict[tuple[str | None, str | None], set[str]] = defaultdict(set)
    for dropped in dropped_tables(lake):
        found[dropped.schema_name, dropped.table_name].add(dropped.timestamp)
    for name in names:
        keep_drops_of(lake, name, found[name])


def dropped_tables(lake: Lake) -> Iterable[Dropped]:
    objects = lake.line_objects(CONTROL)
    for one, path in zip(objects, lake.fetch(objects), strict=True):
        for row in control_rows(lake, one, path):
            envelope = bytes(row.cdc_envelope)
            if DROP_TABLE.encode() in envelope and b'"control"' in envelope:
                try:
                    dropped = decode_envelope(envelope).metadata
                except msgspec.ValidationError:  # of a form that is not known: the views pass over it too
                    continue
                if dropped.operation == DROP_TABLE:
                    yield dropped


def keep_drops_of(lake: Lake, name: tuple[str, str], timestamps: set[str]) -> None:
    key = f"{GENERATIONS}{escape(name[0])}/{escape(name[1])}/{NAME}"

    def with_timestamps(body: bytes | None) -> bytes | None:
        kept = read_drops(lake, key, body) if body is not None else set()
        if body is not None and timestamps <= kept:
            return None
        lines = [Line(Envelope(Dropped(DROP_TABLE, *name, at))) for at in sorted(kept | timestamps)]
        return gzipped([encode_lines(lines)])

    lake.replace(key, with_timestamps)


def read_drops(lake: Lake, key: str, body: bytes) -> set[str]:
    try:
        return {line.cdc_envelope.metadata.timestamp for line in decode_lines(gzip.decompress(body))}
    except (OSError, EOFError, zlib.error, msgspec.DecodeError) as error:
        raise LakeError(
            f"{lake.uri(key)} holds no lines of dropped tables: bring an older version of the object back"
        ) from error
