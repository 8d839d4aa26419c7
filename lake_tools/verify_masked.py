"""Tables with masked columns in verify: what lands is null, or a hash that only who has the key can make.

    table = masked_table(lake, table)                   the source's, as it is to be compared
    source = HashingSource(connection, where, folder, cache)

The key never goes to the server, whose log may keep statements: so the rows of a table with such hashes are
read here, in the order in which they lie there, and hashed here. What is kept of a row, in a file in the
order of the keys' hashes, is its two hashes and its ctid, by which the snapshot finds it again: no row moves
while the transaction is open, for VACUUM FULL and CLUSTER wait for it. No value is written to this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from hashlib import md5
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from lake_tools.bucket import Lake
from lake_tools.dialects import literal
from lake_tools.schemas import read_published
from lake_tools.settings import LakeError, LakeSettings
from lake_tools.tables import connected
from lake_tools.verify_source import (
    FETCH_HASHES,
    FETCH_ROWS,
    HASH_BITS,
    Source,
    SourceError,
    SourceTable,
    Sum,
)
from lake_tools.verify_values import NULLED, PASSED_OVER, UNSURE, Form, hashed_form_of
from lambda_function import Masking, read_secret
from provision.database import Column, identifier

MEMORY = "500MB"  # DuckDB's, to sort; what does not fit goes to its cache
NO_SECRET = "set MASK_SECRET or MASK_SECRET_ARN, as for setup_dms.py"
KEY_NO_SECRET = "its primary key is masked with sha256, and the key of the hashes is not known: " + NO_SECRET
KEY_TYPE = "its primary key is masked with sha256, and is of a type of which DMS's text can't be told: {}"
KEY_UNSURE = "a value of its masked primary key is one that DMS may have rounded or cut"
NOT_KNOWN = "not compared: {}, masked with sha256, for the key of the hashes is not known: " + NO_SECRET
OF_TYPE = "not compared: {}, masked with sha256, and of a type of which DMS's text can't be told"
ADVICE = "is there room where --cache is?"
DROPPED = "not compared: {}, which masks keep from S3"

# --------------------------------------------------------------------------------------------------------
# How a table is compared
# --------------------------------------------------------------------------------------------------------


def masked_table(lake: Lake, table: SourceTable) -> SourceTable:
    """The table with the masks that its published schema and the settings have. Raises LakeError."""
    schema, settings = table.schema, lake.settings
    name = (schema.schema, schema.table)
    published = read_published(lake, *name)
    masks = (published.masks if published else {}) | settings.masks.get(name, {})
    if not masks:
        return table
    masking = masking_for(settings, masks)
    forms = {
        one: masked_form(one, form, masks.get(one.name), settings.lob_max_size_kb if masking else None)
        for one, form in zip(table.columns, table.forms, strict=True)
        if masks.get(one.name) != "drop"
    }
    hash_text = masking.hash_text if masking and any(one.canonical for one in forms.values()) else None
    masked = replace(
        table,
        schema=schema.masked(masks),
        columns=tuple(forms),
        forms=tuple(forms.values()),
        hash_text=hash_text,
    )
    for key, form in masked.key_forms:
        if form is PASSED_OVER:
            raise LakeError(KEY_TYPE.format(key) if masking else KEY_NO_SECRET)
    return masked


def masked_form(column: Column, form: Form, mask: str | None, lob_max_size_kb: int | None) -> Form:
    """form: where there is no mask; lob_max_size_kb: None where the key of the hashes is not known."""
    if mask == "sha256":
        hashed_form = hashed_form_of(column, lob_max_size_kb) if lob_max_size_kb is not None else None
        return hashed_form or PASSED_OVER
    return NULLED if mask == "null" else form


def masking_for(settings: LakeSettings, masks: Mapping[str, str]) -> Masking | None:
    """What hashes the values of a table; None where nothing is hashed, or the settings have no key.

    Raises PipelineError when the key can't be read.
    """
    arn = settings.mask_secret_arn
    if "sha256" not in masks.values() or not (settings.mask_secret or arn):
        return None
    return Masking({}, settings.mask_secret or read_secret(arn))


def mask_notes(table: SourceTable, settings: LakeSettings) -> Iterator[str]:
    """Which columns are not compared, and why."""
    forms = zip(table.columns, table.forms, strict=True)
    if passed_over := [one.name for one, form in forms if form is PASSED_OVER]:
        has_key = bool(settings.mask_secret or settings.mask_secret_arn)
        yield (OF_TYPE if has_key else NOT_KNOWN).format(", ".join(passed_over))
    if table.schema.dropped:
        yield DROPPED.format(", ".join(table.schema.dropped))


# --------------------------------------------------------------------------------------------------------
# The source
# --------------------------------------------------------------------------------------------------------


class Hashed(NamedTuple):
    """A row as it is kept."""

    key_hash: str
    row_hash: int
    ctid: str  # "(0,7)"

    @property
    def line(self) -> str:
        return f"{self.key_hash}\t{self.row_hash}\t{self.ctid}\n"

    @classmethod
    def of(cls, line: str) -> Hashed:
        key_hash, row_hash, ctid = line.rstrip("\n").split("\t")
        return cls(key_hash, int(row_hash), ctid)

    def range(self, bits: int) -> int:
        return int(self.key_hash[:8], 16) >> (32 - bits)


class HashingSource(Source):
    """A source that hashes rows itself where masks do; memory does not grow with the table."""

    def __init__(self, connection: Any, where: str, folder: Path, cache: Path) -> None:
        super().__init__(connection, where)
        self.folder, self.cache = folder, cache
        self.files: dict[str, Path] = {}  # by table

    def sum(self, table: SourceTable) -> Sum:
        if table.hash_text is None:
            return super().sum(table)
        return total(self.kept(table))

    def sums(self, table: SourceTable, bits: int) -> dict[int, Sum]:
        if table.hash_text is None:
            return super().sums(table, bits)
        by_range = groupby(self.kept(table), lambda row: row.range(bits))
        return {number: total(rows) for number, rows in by_range}

    def hashes(
        self, table: SourceTable, bits: int, ranges: Collection[int]
    ) -> Generator[tuple[str, int], None, None]:
        if table.hash_text is None:
            yield from super().hashes(table, bits, ranges)
            return
        for row in self.kept(table):
            if row.range(bits) in ranges:
                yield row.key_hash, row.row_hash

    def rows(
        self, table: SourceTable, bits: int, ranges: Collection[int], keys: Collection[str] | None
    ) -> Generator[tuple[str, int, tuple[str | None, ...]], None, None]:
        """With hashes for the values of masked columns."""
        if table.hash_text is None:
            yield from super().rows(table, bits, ranges, keys)
            return
        wanted = None if keys is None else frozenset(keys)
        chosen = (
            row
            for row in self.kept(table)
            if (row.range(bits) in ranges if wanted is None else row.key_hash in wanted)
        )
        while portion := list(islice(chosen, FETCH_ROWS)):
            texts = self.texts_of(table, [row.ctid for row in portion])
            for row in portion:
                yield row.key_hash, row.row_hash, texts[row.ctid]

    def texts_of(self, table: SourceTable, ctids: Sequence[str]) -> dict[str, tuple[str | None, ...]]:
        """As the output functions write them, masked ones hashed; by ctid."""
        columns = [
            (form.source if form.canonical else form.shown).format(identifier(one.name))
            for one, form in zip(table.columns, table.forms, strict=True)
        ]
        listed = ",".join(f'"{ctid}"' for ctid in ctids)
        where = f"ctid = ANY ('{{{listed}}}'::tid[])"
        query = f"SELECT {', '.join(['ctid::text', *columns])} FROM ONLY {table.relation.sql} WHERE {where}"
        return {ctid: hashed_texts(table, texts) for ctid, *texts in self.read(query, of=table)}

    # The file --------------------------------------------------------------------------------------------

    def kept(self, table: SourceTable) -> Iterator[Hashed]:
        """The table's rows in the order of the keys' hashes; they are read from PostgreSQL once."""
        name = str(table)
        if name not in self.files:
            unsorted = self.folder / f"{len(self.files)}.unsorted"
            with unsorted.open("w") as lines:
                lines.writelines(row.line for row in self.read_all(table))
            self.files[name] = self.sort(unsorted)
            unsorted.unlink()
        with self.files[name].open() as lines:
            yield from map(Hashed.of, lines)

    def read_all(self, table: SourceTable) -> Iterator[Hashed]:
        """Raises SourceError, also for a key whose hash can't be told."""
        columns = [one.name for one in table.columns]
        places = [columns.index(name) for name in table.key]
        texts = [
            form.source.format(identifier(name)) for name, form in zip(columns, table.forms, strict=True)
        ]
        query = f"SELECT {', '.join(['ctid::text', *texts])} FROM ONLY {table.relation.sql}"
        with closing(self.scan(table, query, FETCH_HASHES)) as rows:
            for ctid, *values in rows:
                row = hashed_texts(table, values)
                if any(row[place] == UNSURE and table.forms[place].canonical for place in places):
                    raise SourceError(f"could not compare {table}: {KEY_UNSURE}")
                key_hash = md5_of(row[place] for place in places)
                yield Hashed(key_hash, int(md5_of(row)[: HASH_BITS // 4], 16), ctid)

    def sort(self, unsorted: Path) -> Path:
        """Raises LakeError."""
        import duckdb

        path = unsorted.with_suffix(".sorted")
        columns = "{'key_hash': 'VARCHAR', 'row_hash': 'VARCHAR', 'ctid': 'VARCHAR'}"
        options = f"columns = {columns}, header = false, delim = '\t', quote = '', escape = ''"
        query = f"FROM read_csv({literal(str(unsorted))}, {options}) ORDER BY key_hash"
        try:
            with connected(self.cache, MEMORY) as connection, path.open("w") as lines:
                result = connection.execute(query)
                while portion := result.fetchmany(FETCH_HASHES):
                    lines.writelines("\t".join(row) + "\n" for row in portion)
        except duckdb.Error as error:
            raise LakeError(f"could not sort hashes: DuckDB: {type(error).__name__}: {ADVICE}") from error
        return path


def hashed_texts(table: SourceTable, texts: Sequence[str | None]) -> tuple[str | None, ...]:
    """The texts, those of masked columns as hashes."""
    return tuple(hashed(form, text, table.hash_text) for form, text in zip(table.forms, texts, strict=True))


def hashed(form: Form, text: str | None, hash_text: Callable[[str], str] | None) -> str | None:
    if form.canonical is None or hash_text is None or text is None:
        return text
    canonical = form.canonical(text)
    return canonical if canonical in (None, UNSURE) else hash_text(canonical)


def md5_of(texts: Iterable[str | None]) -> str:
    """Of what verify_source.joined makes of the texts in SQL."""
    parts = ("|-" if text is None else text.replace("|", "||") + "|." for text in texts)
    return md5("".join(parts).encode(), usedforsecurity=False).hexdigest()


def total(rows: Iterable[Hashed]) -> Sum:
    count = hashes = 0
    for row in rows:
        count, hashes = count + 1, hashes + row.row_hash
    return Sum(count, hashes % (1 << HASH_BITS))
