"""What the preflight asks and says: Wanted goes in, Findings come out.

Finding(check="primary-key", level="blocker", subject="public.log", found="no primary key; ...",
        meaning="DMS ignores its updates and deletes", fix='ALTER TABLE "public"."log" ADD ...;')
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from provision.masks import Masks
from provision.replication_task import TablePattern


class Level(StrEnum):
    """In the order of the report.

    A blocker: the task would not start, or rows, columns or changes would be missing or cut in S3. A warning:
    values arrive changed in form, it can go wrong later, or nobody could look.
    """

    BLOCKER = "blocker"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True)
class Finding:
    check: str
    level: Level
    subject: str  # server, role, table, table.column
    found: str
    meaning: str = ""  # for the rows in S3
    fix: str = ""  # SQL or a command; empty where there is nothing to do


@dataclass(frozen=True)
class Wanted:
    """What the chain will ask of the database."""

    patterns: tuple[TablePattern, ...]
    dms_engine_version: str | None = None
    lob_max_size_kb: int = 32
    reserved_columns: frozenset[str] = frozenset()
    dms_user: str = ""  # empty: DMS connects as whoever checks
    heartbeat_schema: str = ""  # empty: no heartbeat
    has_large_integers: bool = True  # UseLargeIntegerValue
    requires_tls: bool = True  # SslMode of the endpoint
    capture_ddls: bool = False  # CaptureDdls of the endpoint
    masks: Masks = field(default_factory=dict)


def size(number: float) -> str:
    """1536 as "1.5 KB"."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TB"
