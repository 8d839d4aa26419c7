"""When a value of PostgreSQL and what landed of it are the same, type by type.

    form = form_of(column, lob_max_size_kb=64)
    form.source.format('"paid_at"')     SQL for PostgreSQL: a text that is the same for equal values
    form.landed.format('"paid_at"')     SQL for DuckDB: that text again, of what landed
    form.is_same("46.50", "46.5")       of the texts of both ends; None is NULL
    hashed_form_of(column, 64)          the same, where what landed is a hash of the value

The SQL is for hashes: equal texts are equal values. Other texts may still be the same value: is_same decides.
What DMS rounds or cuts is compared as DMS renders it (docs/types.md), so a digit that does not survive a
double, or text behind LobMaxSize, is not seen. D, O, I: documented by AWS, observed, inferred.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, InvalidOperation
from functools import partial

from provision.database import LARGE_INTEGER_DIGITS, UNBOUNDED_DECIMALS, Column
from provision.dms_types import RANGE_CHARACTERS, is_string

IsSame = Callable[[str | None, str | None], bool]
Canonical = Callable[[str], str | None]

# Options of libpq: how the types' output functions write. extra_float_digits: any above 0 is exact.
OUTPUT_STYLES = (
    "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c bytea_output=hex -c extra_float_digits=1"
)
EXACT_DIGITS = 15  # so many of an integer are written in any case
VARCHAR_BYTES = 8000  # D: unboundedVarcharMaxSize of the extra connection attributes
WORST_CHARACTER_BYTES = 4  # a cut in bytes is not within a character


@dataclass(frozen=True)
class Form:
    """source and landed are SQL with {0} for the column, landed for one that is text; NULL stays NULL."""

    source: str
    landed: str
    is_same: IsSame
    shown: str = "CASE WHEN {0} IS NOT NULL THEN concat({0}) END"  # SQL: as the type's output function has it
    canonical: Canonical | None = None  # of a text of source: what the handler has hashed of the value


def form_of(column: Column, lob_max_size_kb: int) -> Form:
    """Types that DMS does not know are text (I)."""
    if column.is_array or column.kind == "c":
        return as_text(column, lob_max_size_kb)
    if column.kind == "r":
        return Form(OUTPUT, "{0}", partial(is_same_text, characters=RANGE_CHARACTERS))
    if column.kind != "b":
        return Form(OUTPUT, "{0}", is_same_text)
    if column.base == "bytea":
        return Form("upper(encode({0}, 'hex'))", HEX, partial(is_same_bytes, limit_kb=lob_max_size_kb))
    if column.is_lob or column.base == "varchar":
        return as_text(column, lob_max_size_kb)
    if column.base == "numeric":
        return numeric(column)
    return BY_TYPE.get(column.base, Form(OUTPUT, "{0}", is_same_text))


def as_text(column: Column, lob_max_size_kb: int) -> Form:
    """Cut, if it is a LOB, at LobMaxSize (D); an NCLOB counts two bytes a character (D)."""
    is_same: IsSame = is_same_text
    if column.is_lob:
        limit = lob_max_size_kb * 1024 // column.lob_factor
        is_counted = column.lob_factor == 2  # in characters
        is_same = partial(is_same_text, characters=limit * is_counted, octets=limit * (not is_counted))
    elif column.length is None:
        is_same = partial(is_same_text, octets=VARCHAR_BYTES)
    is_plain = column.base in ("text", "varchar") and not column.is_array
    return Form("{0}::text" if is_plain else OUTPUT, "{0}", is_same)


def numeric(column: Column) -> Form:
    if is_string(column):
        return Form(OUTPUT, "{0}", is_same_decimal)
    if column.precision_and_scale:
        return Form(f"CASE WHEN {{0}} <> 'NaN' THEN {double_bits('{0}')} END", DOUBLE, is_same_double)
    cut = double_bits(f"trunc({{0}}, {UNBOUNDED_DECIMALS})")
    return Form(
        f"CASE WHEN {{0}} BETWEEN -1e300 AND 1e300 THEN {cut} WHEN {{0}} <> 'NaN' THEN {{0}}::text END",
        DOUBLE,
        is_same_unbounded,
    )


# --------------------------------------------------------------------------------------------------------
# Masked columns: what lands is null, or a hash of what DMS wrote, which has to be told from the value
# --------------------------------------------------------------------------------------------------------


def hashed_form_of(column: Column, lob_max_size_kb: int) -> Form | None:
    """Of a column with the mask sha256. None: DMS's text of its type can't be told to the letter."""
    canonical = canonical_of(column, lob_max_size_kb)
    if canonical is None:
        return None
    is_trimmed = not column.is_array and column.base in ("bool", "bpchar")  # by the cast, and true for t
    return Form("{0}::text" if is_trimmed else OUTPUT, "{0}", is_same_hash, canonical=canonical)


def canonical_of(column: Column, lob_max_size_kb: int) -> Canonical | None:
    """Types whose texts compare as they are: to the length at which DMS cuts them."""
    if not column.is_array and column.base in NOT_TO_THE_LETTER:
        return None
    if column.is_lob:
        limit = lob_max_size_kb * 1024 // column.lob_factor
        is_counted = column.lob_factor == 2
        return partial(uncut, characters=limit * is_counted, octets=limit * (not is_counted))
    if column.kind == "r":
        return partial(uncut, characters=RANGE_CHARACTERS)
    if column.kind != "b":
        return uncut
    if column.base == "numeric":
        decimals = None if column.precision_and_scale else UNBOUNDED_DECIMALS
        return None if is_string(column) else partial(plain_number, decimals=decimals)
    if column.base == "varchar" and column.length is None:
        return partial(uncut, octets=VARCHAR_BYTES)
    return CANONICAL.get(column.base, uncut)


def uncut(text: str, *, characters: int = 0, octets: int = 0) -> str:
    """UNSURE for one so long that DMS may have cut it; 0: none is."""
    is_long = characters and len(text) >= characters
    return UNSURE if is_long or (octets and len(text.encode()) > octets - WORST_CHARACTER_BYTES) else text


def plain_number(text: str, *, decimals: int | None = None, digits: int = EXACT_DIGITS) -> str | None:
    """46.5 of 46.50. UNSURE for one that DMS may have rounded; NaN and the infinities are null (I)."""
    if text in NO_NUMBERS:
        return None
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    is_long = len((whole.lstrip("-") + fraction).strip("0")) > digits
    if is_long or (decimals is not None and len(fraction) > decimals):
        return UNSURE
    return f"{whole}.{fraction}" if fraction else whole


def day(text: str) -> str:
    """UNSURE for infinity and for days before Christ."""
    return text if DAY.fullmatch(text) else UNSURE


def is_same_hash(source: str | None, landed: str | None) -> bool:
    return source == landed or (source == UNSURE and landed is not None)


def is_null(source: str | None, landed: str | None) -> bool:
    return landed is None


def is_passed_over(source: str | None, landed: str | None) -> bool:
    return True


UNSURE = "\0"  # in place of a hash: what DMS wrote can't be told; no text of PostgreSQL
NULLED = Form("NULL::text", "{0}", is_null, shown="NULL::text")  # of the mask null
PASSED_OVER = Form("NULL::text", "CAST(NULL AS VARCHAR)", is_passed_over, shown="NULL::text")
# Numbers that pass through a float, times with more or fewer digits, hexadecimal digits with or without 0x.
NOT_TO_THE_LETTER = frozenset(
    ("float4", "float8", "money", "bytea", "time", "timetz", "timestamp", "timestamptz")
)
NO_NUMBERS = ("NaN", "Infinity", "-Infinity")
DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
CANONICAL: dict[str, Canonical] = {
    "int8": partial(plain_number, digits=LARGE_INTEGER_DIGITS),
    "date": day,
}


# --------------------------------------------------------------------------------------------------------
# SQL: the bits of floating-point numbers, for the two engines print them differently
# --------------------------------------------------------------------------------------------------------


def double_bits(value: str) -> str:
    """For PostgreSQL. Adding zero makes -0 one with 0."""
    return f"(('x' || encode(float8send({value}::float8 + 0), 'hex'))::bit(64)::bigint)::text"


OUTPUT = "CASE WHEN {0} IS NOT NULL THEN concat({0}) END"
DOUBLE = "coalesce((TRY_CAST({0} AS DOUBLE) + 0)::BIT::BIGINT::VARCHAR, {0})"
SINGLE = "coalesce((TRY_CAST(TRY_CAST({0} AS DOUBLE) AS FLOAT) + 0::FLOAT)::BIT::INTEGER::VARCHAR, {0})"
HEX = "upper(replace({0}, '0x', ''))"
FINITE = "CASE WHEN {{0}} NOT IN ('NaN', 'Infinity', '-Infinity') THEN {bits} END"
SINGLE_BITS = "(('x' || encode(float4send({0} + 0::float4), 'hex'))::bit(32)::int)::text"
MOST = 10**LARGE_INTEGER_DIGITS - 1
INFINITE = "CASE {{0}} WHEN 'infinity' THEN '{last}' WHEN '-infinity' THEN '{first}' ELSE {text} END"
# 0044-03-15 (BC) 12:00:00, 0044-03-15T12:00:00.500000Z BC, 0044-03-15 12:00:00+00 BC: 0044-03-15 12:00:00 BC
INSTANT = (
    r"regexp_replace(regexp_replace(replace(translate({0}, 'TZ', ' '), '+00', ''),"
    r" '(\.[0-9]*[1-9])0*|\.0+', '\1'), '^([^ ]+) \(BC\) (.*)$', '\1 \2 BC')"
)


# --------------------------------------------------------------------------------------------------------
# Two texts, one value? None where there is no value
# --------------------------------------------------------------------------------------------------------


def is_same_text(source: str | None, landed: str | None, *, characters: int = 0, octets: int = 0) -> bool:
    """Also where it was cut after so many characters or bytes; 0: it is not cut."""
    if source == landed or source is None or landed is None:
        return source == landed
    if not source.startswith(landed):
        return False
    if octets:
        return octets - WORST_CHARACTER_BYTES < len(landed.encode()) <= octets
    return 0 < characters == len(landed)


def is_same_trimmed(source: str | None, landed: str | None) -> bool:
    """O: blanks at the end go."""
    return source == landed or (
        source is not None and landed is not None and source.rstrip(" ") == landed.rstrip(" ")
    )


def is_same_bytes(source: str | None, landed: str | None, *, limit_kb: int) -> bool:
    """\\x80057d against 0x80057D or 80057D."""
    if source is None or landed is None:
        return source == landed
    digits = source.removeprefix("\\x").upper()
    return is_same_text(digits, landed.removeprefix("0x").upper(), characters=2 * limit_kb * 1024)


def is_same_whole(source: str | None, landed: str | None) -> bool:
    """Of more digits than are written as they are, it is a double, or in scientific notation (D)."""
    if source is None or landed is None:
        return source == landed
    if source == landed:
        return True
    number = as_decimal(landed)
    if number is None or len(source.lstrip("-")) <= EXACT_DIGITS:
        return number is not None and number == int(source)
    is_rounded = len(source.lstrip("-")) > LARGE_INTEGER_DIGITS or "e" in landed.lower()
    return number == int(source) or (is_rounded and float(number) == float(source))


def is_same_decimal(source: str | None, landed: str | None) -> bool:
    return source == landed or (as_decimal(source) is not None and as_decimal(source) == as_decimal(landed))


def is_same_double(source: str | None, landed: str | None) -> bool:
    """Numbers pass through a double (D); NaN and the infinities are null (I)."""
    return finite(source) == finite(landed)


def is_same_single(source: str | None, landed: str | None) -> bool:
    """Nine digits of a real (O): equal are those of one single-precision number."""
    return single(finite(source)) == single(finite(landed))


def is_same_unbounded(source: str | None, landed: str | None) -> bool:
    """Six decimals (D); whether the rest is cut or rounded is not known."""
    number, found = as_decimal(source), finite(landed)
    if number is None or found is None:
        return number is None and found is None
    places = Decimal(1).scaleb(-UNBOUNDED_DECIMALS)
    if number.adjusted() > 20:  # beyond what quantize takes, there are no decimals that a double keeps
        return float(number) == found
    return found in {
        float(number),
        *(float(number.quantize(places, way)) for way in (ROUND_DOWN, ROUND_HALF_UP)),
    }


def is_same_boolean(source: str | None, landed: str | None) -> bool:
    """O: "t"; D: "true"; with MapBooleanAsBoolean true."""
    if source is None or landed is None:
        return source == landed
    return source[:1] == landed[:1].lower()


def is_same_day(source: str | None, landed: str | None) -> bool:
    return moment(source)[::2] == moment(landed)[::2]


def is_same_moment(source: str | None, landed: str | None) -> bool:
    return moment(source) == moment(landed)


def is_same_clock(source: str | None, landed: str | None) -> bool:
    """Times of day."""
    if source is None or landed is None:
        return source == landed
    return without_last_zeros(source) == without_last_zeros(landed)


def as_decimal(text: str | None) -> Decimal | None:
    """None where there is no number: NaN and the infinities are null on the wire (I)."""
    try:
        number = Decimal(text) if text is not None else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


def finite(text: str | None) -> float | str | None:
    """A text that is no number is itself: it equals no number."""
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else None


def single(number: float | str | None) -> float | str | None:
    if not isinstance(number, float):
        return number
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return number


def moment(text: str | None) -> tuple[str, str, bool]:
    """Day, time and whether before Christ, as PostgreSQL, DuckDB and DMS write them; of NULL nothing."""
    if text is None:
        return "", "", False
    text = INFINITIES.get(text, text)
    words = text.replace("(BC)", " ").replace("BC", " ").replace("T", " ").replace("Z", " ").split() or [text]
    day, time = (*words, "00:00:00")[:2]
    return day, without_last_zeros(time.removesuffix("+00")), "BC" in text


def without_last_zeros(time: str) -> str:
    """08:30:00.25+02 of 08:30:00.250000+02"""
    return FRACTION.sub(lambda found: found[1] and f".{found[1]}", time)


FRACTION = re.compile(r"\.([0-9]*?)0*(?![0-9])")
# D: infinity is 9999-12-31 23:59:59 and -infinity 4713-01-01 00:00:00 BC; of a date the day of it: I.
INFINITIES = {"infinity": "9999-12-31 23:59:59", "-infinity": "4713-01-01 00:00:00 BC"}
TIMESTAMP = INFINITE.format(
    first="4713-01-01 00:00:00 BC", last="9999-12-31 23:59:59", text="replace({0}::text, '+00', '')"
)
DATE = INFINITE.format(first="4713-01-01 BC", last="9999-12-31", text="{0}::text")
# By pg_type.typname; whatever is in no other place is text.
BY_TYPE: dict[str, Form] = {
    **dict.fromkeys(("int2", "int4", "oid"), Form("{0}::text", "{0}", is_same_whole)),
    "int8": Form(
        f"CASE WHEN {{0}} BETWEEN -{MOST} AND {MOST} THEN {{0}}::text ELSE {double_bits('{0}')} END",
        f"CASE WHEN length(ltrim({{0}}, '-')) <= {LARGE_INTEGER_DIGITS} THEN {{0}} ELSE {DOUBLE} END",
        is_same_whole,
    ),
    "float4": Form(FINITE.format(bits=SINGLE_BITS), SINGLE, is_same_single),
    "float8": Form(FINITE.format(bits=double_bits("{0}")), DOUBLE, is_same_double),
    "money": Form(double_bits("{0}::numeric"), DOUBLE, is_same_double, shown="{0}::numeric::text"),
    "bool": Form("left({0}::text, 1)", "left(lower({0}), 1)", is_same_boolean),
    "bpchar": Form("{0}::text", "rtrim({0}, ' ')", is_same_trimmed),
    "date": Form(DATE, "replace({0}, ' (BC)', ' BC')", is_same_day),
    "time": Form("{0}::text", "{0}", is_same_clock),
    "timetz": Form("{0}::text", "{0}", is_same_clock),
    "timestamp": Form(TIMESTAMP, INSTANT, is_same_moment),
    "timestamptz": Form(TIMESTAMP, INSTANT, is_same_moment),
}
