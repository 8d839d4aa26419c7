"""What a value of a PostgreSQL column becomes in a message of DMS.

    renderer(column, Rendering(), is_load=False)(b"2026-03-01 09:16:10.48")   b'"2026-03-01T09:16:10.480000Z"'

In: the text that the type's output function gives under a connection with SESSION; so do COPY and pgoutput.
A cast (::text) writes some types otherwise. Out: JSON. NULL never comes here.

Each rule says how it is known. D: documented by AWS. O: observed in messages that DMS wrote. I: inferred.
Source: https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Source.PostgreSQL.html (data types),
https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Target.Kinesis.html (limitations)
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable

from provision.database import LARGE_INTEGER_DIGITS, UNBOUNDED_DECIMALS, Column
from provision.dms_types import RANGE_CHARACTERS, Rendering, is_string

Render = Callable[[bytes], bytes]

# Options of libpq. extra_float_digits: any above 0 is exact since PostgreSQL 12, 3 before.
OUTPUT_STYLES = (
    "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c bytea_output=hex -c extra_float_digits=3"
    " -c lc_monetary=C"
)
SESSION = f"{OUTPUT_STYLES} -c client_encoding=UTF8"
NULL = b"null"
EXACT_DIGITS = 15  # so many cJSON prints of a double in any case
NOT_PLAIN = re.compile(rb'["\\\x00-\x1f\x80-\xff]').search
NOT_OF_A_NUMBER = re.compile(rb"[^0-9.-]")
REAL = struct.Struct("f")
json_string = json.JSONEncoder(ensure_ascii=False).encode

# --------------------------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------------------------


class ValueFault(Exception):
    """A value that DMS could not carry: which column, and why; never the value."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(f"column {column!r}: {reason}")
        self.column = column
        self.reason = reason


class LobTruncated(ValueFault):
    """A value is longer than LobMaxSize, and FailTasksOnLobTruncation is set: the task fails."""


# --------------------------------------------------------------------------------------------------------
# Entry points
# --------------------------------------------------------------------------------------------------------


def session(server_encoding: str) -> str:
    """Options of libpq for a database of this encoding: SESSION, or what takes its bytes as they are.

    A database in SQL_ASCII, asked for UTF-8, ends a COPY and the stream of changes at the first byte that is
    not UTF-8; so that one value would stop all tables.
    """
    return f"{OUTPUT_STYLES} -c client_encoding=SQL_ASCII" if server_encoding == "SQL_ASCII" else SESSION


def renderer(column: Column, rendering: Rendering, *, is_load: bool) -> Render:
    """Makes JSON of the column's values; raises ValueFault. Types that DMS does not know are text (I)."""
    if column.is_array or column.kind == "c":
        return lob_text(column, rendering)  # D: NCLOB; as PostgreSQL writes it, {1,2,3} and (a,b): I
    if column.kind == "r":
        return cut_text(column, characters=RANGE_CHARACTERS)  # D: STRING(255); PostgreSQL's text: I
    if column.kind != "b":
        return cut_text(column)  # enums: their label (I); multiranges, which DMS does not document: I
    if column.base == "bytea":
        return hexadecimal(column, rendering)
    if column.is_lob:
        # D. json and jsonb are strings that hold JSON (O); hstore "does not work" for others who tried (O).
        return lob_text(column, rendering)
    if column.base == "bool":
        return boolean(rendering, is_load)
    if column.base == "varchar" and column.length is None:
        return cut_text(column, octets=rendering.unbounded_varchar_bytes)  # D, O: STRING of 8000
    if column.base == "bpchar" and rendering.trim_space_in_char:
        return trimmed_text(column)
    if column.base == "numeric":
        return numeric(column)
    if column.base == "int8":
        return integer(LARGE_INTEGER_DIGITS if rendering.use_large_integer_value else EXACT_DIGITS)
    return BY_TYPE.get(column.base) or cut_text(column)


# --------------------------------------------------------------------------------------------------------
# Numbers and booleans. All numbers pass through a double (D, by Terraform), as cJSON prints it (I)
# --------------------------------------------------------------------------------------------------------


def number(value: float) -> bytes:
    """With 15 digits, or 17 if 15 do not give the double back; JSON has no NaN and no infinity (I)."""
    if value - value != 0:
        return NULL
    if value == 0:
        return b"0"
    text = f"{value:.15g}"
    return text.encode() if float(text) == value else f"{value:.17g}".encode()


def as_it_is(text: bytes) -> bytes:
    return text


def double(text: bytes) -> bytes:
    return number(float(text))  # O: 5.0 is 5


def real(text: bytes) -> bytes:
    """O: nine digits of the single-precision number, 2.2 is 2.20000005."""
    (value,) = REAL.unpack(REAL.pack(float(text)))
    return number(float(f"{value:.9g}"))


def integer(digits: int) -> Render:
    """Exact up to so many digits. With 15, cJSON's, 10**15 is 1e+15 (D: scientific notation).

    With UseLargeIntegerValue: 18 (D, by Terraform); that one of 19 is a double again: I.
    """

    def render(text: bytes) -> bytes:
        is_short = len(text) <= digits or len(text.lstrip(b"-")) <= digits
        return text if is_short else number(float(text))

    return render


def numeric(column: Column) -> Render:
    if is_string(column):
        return cut_text(column)  # I
    return double if column.precision_and_scale else unbounded_numeric


def unbounded_numeric(text: bytes) -> bytes:
    """D: NUMERIC(28,6). That further decimals are cut, not rounded: I."""
    whole, point, decimals = text.partition(b".")
    return number(float(whole + point + decimals[:UNBOUNDED_DECIMALS]))


def money(text: bytes) -> bytes:
    """-$1,234.50; D: NUMERIC(38,4)."""
    return number(float(NOT_OF_A_NUMBER.sub(b"", text)))


def boolean(rendering: Rendering, is_load: bool) -> Render:
    if rendering.map_boolean_as_boolean:
        true, false = b"true", b"false"  # O; that the setting was on there: I
    elif is_load:
        true, false = b'"true"', b'"false"'  # D
    else:
        true, false = b'"t"', b'"f"'  # O
    return lambda text: true if text[:1] == b"t" else false


# --------------------------------------------------------------------------------------------------------
# Dates and times
# --------------------------------------------------------------------------------------------------------

# D: infinity is 9999-12-31 23:59:59 and -infinity 4713-01-01 00:00:00 BC; how that looks in JSON: I.
INFINITE_DATES = {b"infinity": b"9999-12-31", b"-infinity": b"4713-01-01 BC"}
INFINITE_TIMES = {b"infinity": b"9999-12-31 23:59:59", b"-infinity": b"4713-01-01 00:00:00 BC"}


def date(text: bytes) -> bytes:
    """O: "2018-01-02". Before Christ and after 9999 as PostgreSQL writes it (I)."""
    return b'"%b"' % INFINITE_DATES.get(text, text)


def moment(text: bytes) -> bytes:
    """A timestamp. O: with T and Z, whether it has a zone or not; no fraction, or one of six digits."""
    rest = text[19:]
    if rest == b"+00" or (rest == b"" and len(text) == 19):
        return b'"%bT%bZ"' % (text[:10], text[11:19])
    if rest[:1] == b"." and (fraction := rest[1:].removesuffix(b"+00")).isdigit():
        return b'"%bT%b.%bZ"' % (text[:10], text[11:19], fraction.ljust(6, b"0"))
    return far_moment(text)


def far_moment(text: bytes) -> bytes:
    """Infinite, before Christ or after 9999. All I: "0044-03-15T12:00:00Z BC"."""
    day, _, rest = INFINITE_TIMES.get(text, text).partition(b" ")
    time, _, era = rest.partition(b" ")
    seconds, point, fraction = time.removesuffix(b"+00").partition(b".")
    fraction = fraction.ljust(6, b"0") if point else b""
    return b'"%bT%b%b%bZ%b"' % (day, seconds, point, fraction, b" " + era if era else b"")


# --------------------------------------------------------------------------------------------------------
# Text and bytes
# --------------------------------------------------------------------------------------------------------


def quoted(text: bytes) -> bytes:
    """As cJSON: UTF-8 stays (O), only quote, backslash and control characters are escaped (I).

    Raises UnicodeDecodeError, which quotes the text: it must not get further than this module.
    """
    if NOT_PLAIN(text) is None:
        return b'"%b"' % text
    return json_string(text.decode()).encode()


def not_utf8(column: Column) -> ValueFault:
    return ValueFault(column.name, "its bytes are not UTF-8, which JSON is: correct the value at the source")


def cut_text(column: Column, *, characters: int = 0, octets: int = 0) -> Render:
    """Text, cut after so many characters, or after so many bytes but not within a character; 0: uncut."""
    most = characters or octets

    def render(text: bytes) -> bytes:
        try:
            if most and len(text) > most:
                text = cut(text, characters, octets)
            return quoted(text)
        except UnicodeDecodeError:
            raise not_utf8(column) from None  # from None: the error quotes the value

    return render


def cut(text: bytes, characters: int, octets: int) -> bytes:
    """The beginning of the text. Raises UnicodeDecodeError for one that is not UTF-8 anywhere."""
    decoded = text.decode()
    if characters:
        return decoded[:characters].encode()
    return text[:octets].decode("utf-8", "ignore").encode()


def trimmed_text(column: Column) -> Render:
    """O; D: TrimSpaceInChar."""
    render_text = cut_text(column)
    return lambda text: render_text(text.rstrip(b" "))


def lob_text(column: Column, rendering: Rendering) -> Render:
    """Text cut at LobMaxSize (D); an NCLOB counts two bytes a character (D), a CLOB its bytes (I)."""
    limit = rendering.lob_max_size_kb * 1024 // column.lob_factor
    characters, octets = (limit, 0) if column.lob_factor == 2 else (0, limit)

    def render(text: bytes) -> bytes:
        try:
            if len(text) > limit and (shorter := cut(text, characters, octets)) != text:
                check_truncation(column, rendering)
                text = shorter
            return quoted(text)
        except UnicodeDecodeError:
            raise not_utf8(column) from None

    return render


def hexadecimal(column: Column, rendering: Rendering) -> Render:
    """O: "0x80057D"; D: without 0x by NoHexPrefix, cut at LobMaxSize."""
    prefix = b"" if rendering.no_hex_prefix else b"0x"
    end = 2 + 2 * rendering.lob_max_size_kb * 1024

    def render(text: bytes) -> bytes:
        if len(text) > end:
            check_truncation(column, rendering)
        return b'"%b%b"' % (prefix, text[2:end].upper())

    return render


def check_truncation(column: Column, rendering: Rendering) -> None:
    """D: DMS cuts the value and goes on, or, with FailTasksOnLobTruncation, does not."""
    if rendering.fail_on_lob_truncation:
        limit = f"LobMaxSize, {rendering.lob_max_size_kb} KB"
        raise LobTruncated(
            column.name,
            f"a value is longer than {limit}, and FailTasksOnLobTruncation is set: raise LobMaxSize",
        )


# By pg_type.typname; whatever is in no other place is text.
BY_TYPE: dict[str, Render] = {
    "int2": as_it_is,
    "int4": as_it_is,
    "oid": as_it_is,  # D: the large object behind it is not migrated; that the number is: I
    "float4": real,
    "float8": double,
    "money": money,
    "date": date,
    "timestamp": moment,
    "timestamptz": moment,
}
