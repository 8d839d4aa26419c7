"""Text for people: tables in columns, numbers of things, what a terminal can show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line for each row, its columns to the left, as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def plural(count: int, noun: str) -> str:
    """1 object, 2 objects, 2 batches"""
    ending = "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def printable(text: str) -> str:
    """The text where a terminal can show it, else as JSON has it, with escapes."""
    return text if text.isprintable() else json.dumps(text)
