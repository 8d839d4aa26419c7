"""What DMS makes of a PostgreSQL column: the type that its table definitions name, and whether it is sent.

    dms_type(column, Rendering())      ("TIMESTAMP", None)

What becomes of the values is local_run's to imitate. Each rule says how it is known. D: documented by AWS.
O: observed in messages that DMS wrote. I: inferred.
Source: https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Source.PostgreSQL.html (data types)
"""

from __future__ import annotations

from dataclasses import dataclass

from provision.database import Column

STRING_PRECISION = 39  # D: numeric of this precision or a greater one is a STRING
RANGE_CHARACTERS = 255  # D: STRING(255)
# D: DMS migrates PostGIS to PostGIS only; the column is not in the message (I).
NOT_CARRIED = frozenset(("geometry", "geography", "raster", "box2d", "box3d"))


@dataclass(frozen=True)
class Rendering:
    """What the endpoints and the task say of values; defaults are DMS's."""

    lob_max_size_kb: int = 32
    fail_on_lob_truncation: bool = False
    no_hex_prefix: bool = False
    map_boolean_as_boolean: bool = False
    use_large_integer_value: bool = False
    trim_space_in_char: bool = True
    unbounded_varchar_bytes: int = 8000  # D: unboundedVarcharMaxSize of the extra connection attributes


def is_carried(column: Column) -> bool:
    return column.is_array or column.base not in NOT_CARRIED


def dms_type(column: Column, rendering: Rendering) -> tuple[str, int | None]:
    """The column's type in a table definition and, of strings, its length: ("STRING", 80).

    O: INT16, INT32, INT64, FLOAT, DOUBLE, BOOL, STRING, TIMESTAMP, DATE32; LOBs are strings without length.
    These are names of Arrow's types, so those for which there is no observation follow Arrow too (I).
    """
    if column.is_array or column.kind == "c" or (column.is_lob and column.kind == "b"):
        return ("BINARY", None) if column.base == "bytea" else ("STRING", None)
    if column.kind == "e":
        return "STRING", 64  # D
    if column.kind == "r":
        return "STRING", RANGE_CHARACTERS  # D
    if column.base in ("bpchar", "varchar") and column.length is not None:
        return "STRING", column.length  # O
    if column.base in ("bit", "varbit") and column.modifier > 0:
        return "STRING", column.modifier  # D
    if column.base == "varchar":
        return "STRING", rendering.unbounded_varchar_bytes  # O
    if column.base == "bool":
        return ("BOOL", None) if rendering.map_boolean_as_boolean else ("STRING", 5)  # O (the setting: I); D
    if column.base == "numeric" and is_string(column):
        return "STRING", None  # I
    return TYPE_NAMES.get(column.base, ("STRING", None))


def is_string(column: Column) -> bool:
    return (column.precision_and_scale or (0, 0))[0] >= STRING_PRECISION


TYPE_NAMES: dict[str, tuple[str, int | None]] = {
    "int2": ("INT16", None),
    "int4": ("INT32", None),
    "int8": ("INT64", None),
    "oid": ("INT64", None),  # I
    "float4": ("FLOAT", None),
    "float8": ("DOUBLE", None),
    "numeric": ("DECIMAL", None),  # I
    "money": ("DECIMAL", None),  # I; D: NUMERIC
    "date": ("DATE32", None),
    "time": ("TIME64", None),  # I; D: TIME
    "timetz": ("TIME64", None),  # I; D: TIME
    "timestamp": ("TIMESTAMP", None),
    "timestamptz": ("TIMESTAMP", None),
    "interval": ("STRING", 128),  # D; O: 15 to 25, by a rule that is not known
    "inet": ("STRING", 50),  # D
    "cidr": ("STRING", 50),  # D
    "macaddr": ("STRING", 18),  # D
    "uuid": ("STRING", 36),  # I; D: STRING
    **dict.fromkeys(("point", "line", "lseg", "box", "circle"), ("STRING", 255)),  # D
}
