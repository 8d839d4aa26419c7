"""Which columns are masked, and how: MASKED_COLUMNS.

    read_masks("public.client.email=sha256")    {("public", "client"): {"email": "sha256"}}

lambda_function.py imports nothing of ours and reads it by itself: a test keeps both the same.
"""

from __future__ import annotations

import re

from provision.replication_task import NAME_BYTES, split_unquoted

ACTIONS = ("sha256", "null", "drop")
SHORTEST_SECRET = 16  # characters: a shorter key can be guessed
# A part of Lambda's 4 KB for all variables together: names and values, ours take less than the rest.
# Source: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html (documented)
MOST_BYTES = 3000

Masks = dict[tuple[str, str], dict[str, str]]


def read_masks(text: str) -> Masks:
    """{("public", "client"): {"email": "sha256"}}; nothing is masked by an empty text.

    Raises ValueError for the first entry that can't be read, which it names.
    """
    masks: Masks = {}
    for entry in split_unquoted(text, ",") if text.strip() else []:
        schema, table, column, action = mask_of(entry)
        columns = masks.setdefault((schema, table), {})
        if column in columns:
            raise ValueError(f"{entry}: the column is there twice: leave one out")
        columns[column] = action
    return masks


def mask_of(entry: str) -> tuple[str, str, str, str]:
    """("public", "client", "email", "sha256")"""
    named, *actions = split_unquoted(entry, "=")
    if actions not in ([one] for one in ACTIONS):
        raise ValueError(f"{entry}: write schema.table.column=action, the action one of {', '.join(ACTIONS)}")
    names = split_unquoted(named, ".")
    if len(names) != 3:
        raise ValueError(
            f"{entry} has {len(names)} names before the =: write schema.table.column, in double quotes a name"
            " with a dot"
        )
    schema, table, column = (name_of(part, entry) for part in names)
    return schema, table, column, actions[0]


def name_of(part: str, entry: str) -> str:
    """A name as PostgreSQL has it. Raises ValueError."""
    is_quoted = len(part) > 1 and part[0] == part[-1] == '"' and '"' not in part[1:-1].replace('""', "")
    name = part[1:-1].replace('""', '"') if is_quoted else part
    if not name:
        raise ValueError(f"{entry} has an empty name: write schema.table.column=action")
    if len(name.encode()) > NAME_BYTES:
        raise ValueError(f"{entry}: {name} is longer than the {NAME_BYTES} bytes PostgreSQL keeps of a name")
    if not is_quoted and (not re.fullmatch(r"[\w$]+", name) or name != name.lower()):
        quoted = '"' + name.replace('"', '""') + '"'
        raise ValueError(f"{entry}: did you mean {quoted}? Such a name goes in double quotes")
    return name


def needs_secret(masks: Masks) -> bool:
    """Whether an action is sha256, which takes a key."""
    return any("sha256" in columns.values() for columns in masks.values())
