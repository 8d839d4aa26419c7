"""Change records of AWS DMS, taken from Kinesis, become rows in S3.

In: the event of a Kinesis event source mapping; each record holds one DMS envelope in base64:

    {"data":{"id":8,"name":"Lin"},"metadata":{"timestamp":"2026-03-01T09:16:10.500120Z","record-type":"data",
     "operation":"insert","schema-name":"public","table-name":"client","commit-timestamp":"...", ...}}

Out: gzipped JSON Lines, one row per data record, one object per table, hour and shard of the batch:

    changes/public/client/cdc_date=2026-03-01/cdc_hour=09/shardId-000000000000-{first sequence}.jsonl.gz
    {"cdc_operation":"insert","cdc_committed_at":"2026-03-01T09:16:10.480010Z", ... ,"id":8,"name":"Lin"}

Control records and rows of DMS's own tables go to control/, what can't be read goes to quarantine/.

Promise: when the handler returns, every record of the batch is in S3, in stream order, its values byte for
byte as DMS wrote them; when it raises, nothing is acknowledged and Lambda delivers the batch again, over the
same keys. Values of MASKED_COLUMNS are hashed, null or left out, and what can't be masked is in no row.
Source: https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Target.Kinesis.html (envelope),
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html (event, retries, partial batch response).
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys
import time
from base64 import b64encode
from binascii import unhexlify
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from isal import isal_zlib

CHUNK_RECORDS = 128  # records read at a time: few enough to stay in the processor's cache
NAME_BYTES = 63  # longest identifier of PostgreSQL: NAMEDATALEN - 1
UPLOAD_THREADS = 16  # more gain nothing: boto3 is bound by its own CPU
UPLOAD_ATTEMPTS = 3
BACKOFF_SECONDS = 3  # the most that botocore's standard mode sleeps between three attempts: 1 + 2
CONFLICT_ROUNDS = 5  # how often a PUT may find that somebody else has just written its key
ANSWER_SECONDS = 1  # kept free for the answer to the runtime
SEQUENCE_DIGITS = 56  # sequence numbers are padded to this, so that their text sorts as they do
SECRET_CHARACTERS = 16  # least of a key of masks: a shorter one can be guessed
NUMBER_DIGITS = 131_072  # before the point of a numeric; none has more behind it
KPL_MAGIC, GZIP_MAGIC = b"\xf3\x89\x9a\xc2", b"\x1f\x8b"
UNSAFE = re.compile(rb"[^A-Za-z0-9_.-]|\A\.+|\.+\Z")
LOG_LEVELS = ("INFO", "WARNING", "ERROR")
MASK_ACTIONS = ("sha256", "null", "drop")
SECRET_ARN = re.compile(
    r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+-[A-Za-z0-9]{6}"
)
# Of the same .env, and setup_dms.py's to read.
CHAIN_SETTINGS = (
    *("PIPELINE_NAME", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSSLMODE", "CREATE_RDS"),
    *("TABLES", "SUBNET_IDS", "VPC_ENDPOINTS", "STREAM_SHARDS", "BATCH_WINDOW_SECONDS", "LOB_MAX_SIZE_KB"),
    *("HEARTBEAT_SCHEMA", "CAPTURE_DDLS", "DMS_INSTANCE_CLASS", "RDS_INSTANCE_CLASS", "ALARM_EMAIL"),
)
NEW = {"IfNoneMatch": "*"}
ADVICE = {
    "AccessDenied": ": allow s3:PutObject and s3:GetObject on this key, and the use of the bucket's KMS key",
    "NoSuchBucket": ": create it, or correct S3_BUCKET",
    "NoCredentialsError": ": configure AWS credentials, as for the AWS CLI",
    "PartialCredentialsError": ": configure AWS credentials, as for the AWS CLI",
    "ExpiredToken": ": renew the AWS credentials",
    "InvalidAccessKeyId": ": correct the AWS credentials",
    "EndpointConnectionError": ": check the network, the region and AWS_ENDPOINT_URL_S3",
    "PermanentRedirect": ": the bucket is in another region: set AWS_DEFAULT_REGION to it",
    "InvalidRange": ": an object that is not of this pipeline has this key: move it away",
}
SECRET_ADVICE = ADVICE | {
    "AccessDeniedException": ": allow secretsmanager:GetSecretValue on this ARN, and the use of its KMS key",
    "ResourceNotFoundException": ": correct MASK_SECRET_ARN, or make the secret",
    "EndpointConnectionError": ": check the network and AWS_ENDPOINT_URL_SECRETS_MANAGER",
}
SAMPLE_EVENT = "test-input/kinesis_test_input.json"
OUTPUT = Path("output")
EMBEDDED_BUCKET = "embedded"
CLI_SECONDS = 600.0  # as much time as the command line gives every request

DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
STREAM_POSITION = re.compile(r"([0-9A-Fa-f]{8})/([0-9A-Fa-f]{8})\.").match
TIMESTAMP = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?Z"
).fullmatch

# ----------------------------------------------------------------------------------------------------------
# Settings, errors, value types
# ----------------------------------------------------------------------------------------------------------


class PipelineError(Exception):
    """Why a batch did not land.

    PipelineError
      SettingsError   settings are missing or wrong: all of them are named
      EventError      the event is not a batch of Kinesis records: nothing was written
      SecretError     the key of the masks could not be read: nothing was written
      UploadError     an object could not be written in the time given: bucket and key are named
    """


class SettingsError(PipelineError):
    pass


class EventError(PipelineError):
    pass


class SecretError(PipelineError):
    pass


class UploadError(PipelineError):
    pass


class PoisonRecord(Exception):
    """One record can't become a row; says why in words of ours, never with the record's content."""


class Settings(msgspec.Struct, frozen=True):
    """The handler's settings; README's table explains them."""

    s3_bucket: str = ""
    s3_prefix: str = ""
    on_poison: str = "quarantine"
    before_image_field: str = "before-image"
    masked_columns: str = ""
    mask_secret: str = ""
    mask_secret_arn: str = ""
    log_level: str = "INFO"

    @classmethod
    def from_mapping(cls, values: Mapping[str, str], other_faults: Iterable[str] = ()) -> Settings:
        """S3_BUCKET, S3_PREFIX, ...; empty means the default. Raises SettingsError with all faults."""
        settings = cls(**{name: values[key] for name, key in cls.keys().items() if values.get(key)})
        if faults := [*other_faults, *settings._faults()]:
            raise SettingsError("settings: " + "; ".join(faults))
        return settings

    @classmethod
    def keys(cls) -> dict[str, str]:
        """The environment's key of each field."""
        return {name: name.upper() for name in cls.__struct_fields__}

    @property
    def is_masking(self) -> bool:
        return bool(self.masked_columns.strip())

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """All but the secret; a traceback or a log may show the settings."""
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name != "mask_secret"]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def _faults(self) -> Iterator[str]:
        if self.s3_bucket and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", self.s3_bucket):
            yield f"S3_BUCKET={self.s3_bucket!r} is no bucket name: write the name alone, without s3:// and /"
        if not re.fullmatch(r"(?=.{0,400}\Z)([A-Za-z0-9_=-][A-Za-z0-9_.=-]*/)*", self.s3_prefix):
            yield f"S3_PREFIX={self.s3_prefix!r} is no prefix: write folders with their slashes, raw/orders/"
        if self.on_poison not in ("quarantine", "stop"):
            yield f"ON_POISON={self.on_poison!r} is unknown: write quarantine or stop"
        if self.before_image_field in ("data", "metadata", "control"):
            yield f"BEFORE_IMAGE_FIELD={self.before_image_field!r} is taken: write the task's FieldName"
        yield from self.mask_faults()
        if self.log_level not in LOG_LEVELS:
            yield f"LOG_LEVEL={self.log_level!r} is unknown: write INFO, WARNING or ERROR"

    def mask_faults(self) -> Iterator[str]:
        """What is wrong with the masks and their key, which is never shown."""
        masks: Masks = {}
        try:
            masks = read_masks(self.masked_columns)
        except ValueError as error:
            yield f"MASKED_COLUMNS={self.masked_columns!r} is wrong: {error}"
        if 0 < len(self.mask_secret) < SECRET_CHARACTERS:
            yield f"MASK_SECRET is shorter than {SECRET_CHARACTERS} characters: it could be guessed"
        if self.mask_secret_arn and not SECRET_ARN.fullmatch(self.mask_secret_arn):
            yield (
                f"MASK_SECRET_ARN={self.mask_secret_arn!r} is no ARN of a secret: copy it whole, "
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mask-AbCdEf"
            )
        if self.mask_secret and self.mask_secret_arn:
            yield "MASK_SECRET and MASK_SECRET_ARN are both set: set one"
        if takes_key(masks) and not (self.mask_secret or self.mask_secret_arn):
            yield "MASKED_COLUMNS has sha256, which takes a key: set MASK_SECRET or MASK_SECRET_ARN"


Masks = dict[tuple[str, str], dict[str, str]]


def read_masks(text: str) -> Masks:
    """{("public", "client"): {"email": "sha256"}} of public.client.email=sha256; {} of an empty text.

    Raises ValueError for the first entry that can't be read, which it names.
    """
    masks: Masks = {}
    for entry in split_unquoted(text, ",") if text.strip() else ():
        named, *actions = split_unquoted(entry, "=")
        if actions not in ([one] for one in MASK_ACTIONS):
            known = ", ".join(MASK_ACTIONS)
            raise ValueError(f"{entry}: write schema.table.column=action, the action one of {known}")
        names = split_unquoted(named, ".")
        if len(names) != 3:
            raise ValueError(
                f"{entry} has {len(names)} names before the =: write schema.table.column, in double quotes "
                "a name with a dot"
            )
        schema, table, column = (name_of(part, entry) for part in names)
        columns = masks.setdefault((schema, table), {})
        if column in columns:
            raise ValueError(f"{entry}: the column is there twice: leave one out")
        columns[column] = actions[0]
    return masks


def split_unquoted(text: str, separator: str) -> list[str]:
    parts, is_quoted = [""], False
    for character in text:
        is_quoted ^= character == '"'
        if character == separator and not is_quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def name_of(part: str, entry: str) -> str:
    """A name as PostgreSQL has it; quoted, it is any text. Raises ValueError."""
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


def takes_key(masks: Masks) -> bool:
    return any("sha256" in actions.values() for actions in masks.values())


class Masking:
    """What is masked, by table and column, and the key that hashes it: HMAC-SHA256."""

    def __init__(self, tables: Masks, secret: str = "") -> None:
        import hmac  # loads OpenSSL, which only masks need

        self.tables = tables
        self._keyed = hmac.new(secret.encode(), digestmod="sha256")

    def hash_text(self, text: str) -> str:
        """64 hexadecimal digits, the same for the same text and key."""
        hashed = self._keyed.copy()
        hashed.update(text.encode())
        return hashed.hexdigest()


class KinesisPart(msgspec.Struct, gc=False):
    partition_key: str = msgspec.field(name="partitionKey")
    sequence_number: str = msgspec.field(name="sequenceNumber")
    payload: bytes = msgspec.field(name="data")  # decoded from base64
    arrived_at: Annotated[float, msgspec.Meta(ge=0, lt=253402300800)] = msgspec.field(
        name="approximateArrivalTimestamp"  # seconds since 1970-01-01 UTC, before the year 10000
    )


class KinesisRecord(msgspec.Struct, gc=False):
    """A record of the event, its payload decoded; its fields stand as in the event, which decodes faster."""

    kinesis: KinesisPart
    event_source: Literal["aws:kinesis"] = msgspec.field(name="eventSource")
    event_id: str = msgspec.field(name="eventID")  # "shardId-000000000006:{sequence number}"
    stream_arn: str = msgspec.field(name="eventSourceARN")

    @property
    def shard_id(self) -> str:
        return self.event_id.partition(":")[0]


class UndecodedRecord(KinesisRecord, gc=False):
    """A record whose data is not base64; its payload is the text itself."""


class Metadata(msgspec.Struct, rename="kebab", gc=False):
    """What DMS says of a record; the last four come with IncludeTransactionDetails, and only for CDC."""

    timestamp: str
    record_type: Literal["data", "control"]
    operation: str
    schema_name: str | None = None
    table_name: str | None = None
    transaction_id: int | None = None
    transaction_record_id: int | None = None
    commit_timestamp: str | None = None
    stream_position: str | None = None


class Row(msgspec.Struct, gc=False):
    """Our columns of a row in changes/; the table's own columns follow them."""

    cdc_operation: str
    cdc_committed_at: str | None
    cdc_published_at: str
    cdc_transaction_id: int | None
    cdc_transaction_record_id: int | None
    cdc_stream_position: str | None
    cdc_lsn: int | None
    cdc_shard_id: str
    cdc_sequence_number: str
    cdc_before: msgspec.Raw


class ControlRow(msgspec.Struct, gc=False):
    """A row in control/: the envelope as DMS wrote it."""

    cdc_shard_id: str
    cdc_sequence_number: str
    cdc_envelope: msgspec.Raw


class QuarantineRow(msgspec.Struct, gc=False):
    """A row in quarantine/: why, where the record came from, and its bytes in base64."""

    cdc_reason: str
    cdc_stream_arn: str
    cdc_shard_id: str
    cdc_sequence_number: str
    cdc_partition_key: str
    cdc_arrived_at: str
    cdc_payload: str


RESERVED_COLUMNS = {*Row.__struct_fields__, "cdc_date", "cdc_hour", "cdc_rescued"}


class Group(msgspec.Struct, eq=False):
    """The rows of one future object, in stream order."""

    folder: str  # "changes/public/client/cdc_date=2026-03-01/cdc_hour=09/"
    shard_id: str
    first_sequence_number: str
    new_rows: list[Row | ControlRow | QuarantineRow] = []
    json_lines: list[bytes] = []  # of all rows before the new ones
    row_count: int = 0
    is_control: bool = False

    def __post_init__(self) -> None:
        self.is_control = self.folder.startswith("control/")

    def write_new_rows(self) -> None:
        if self.new_rows:
            self.json_lines.append(encode_lines(self.new_rows))
            self.row_count += len(self.new_rows)
            self.new_rows.clear()


class Batch(msgspec.Struct):
    """What an event holds, in groups."""

    groups: dict[tuple[str, str], Group] = {}  # by shard and folder
    routes: dict[tuple[str | None, ...], Group] = {}  # by shard, table, hour, ...
    stopped_at: str | None = None  # sequence number of the poison record that ON_POISON=stop waits for

    def rows_in(self, folder: str) -> int:
        return sum(group.row_count for group in self.groups.values() if group.folder.startswith(folder))

    def group(self, record: KinesisRecord, folder: str) -> Group:
        """The group of the record's shard for the folder; a new one begins with the record."""
        key = (record.shard_id, folder)
        if key not in self.groups:
            if not record.shard_id.isascii():
                raise EventError("expected the eventID of Kinesis records, found one that is not of ASCII")
            self.groups[key] = Group(folder, record.shard_id, record.kinesis.sequence_number)
        return self.groups[key]


class LandingObject(msgspec.Struct, frozen=True):
    """An object to be written."""

    key: str
    json_lines: list[bytes]
    rows: int


class LandedObject(msgspec.Struct, frozen=True):
    """An object that was written."""

    key: str
    rows: int
    size_bytes: int
    generation: int  # 0 when it was new


encode_lines = msgspec.json.Encoder().encode_lines
decode_times = msgspec.json.Decoder(list[datetime]).decode
decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode_members = msgspec.json.Encoder().encode
EnvelopeDecoder = Callable[[bytes], Any]

# ----------------------------------------------------------------------------------------------------------
# Entry point
# ----------------------------------------------------------------------------------------------------------


def lambda_handler(event: Any, context: Any) -> dict[str, list[dict[str, str]]]:
    """Lands the batch and answers with no failures, or with the one record that ON_POISON=stop waits for.

    Raises PipelineError, once every upload has ended, when the batch has to be delivered again.
    """
    settings = Settings.from_mapping(os.environ)
    if not settings.s3_bucket:
        raise SettingsError("settings: S3_BUCKET is not set: set it to the bucket that takes the rows")
    batch, _ = land(event, settings, s3_client, lambda: context.get_remaining_time_in_millis() / 1000)
    return {"batchItemFailures": [{"itemIdentifier": batch.stopped_at}] if batch.stopped_at else []}


def land(
    event: Any, settings: Settings, client_for: Callable[[int], Any], seconds_left: Callable[[], float]
) -> tuple[Batch, list[LandedObject]]:
    """Reads all, writes all, reports; client_for makes an S3 client of so many seconds an attempt."""
    started = time.monotonic()
    records = event_records(event)
    batch = read_batch(records, settings, masking_of(settings))
    attempt_seconds = upload_attempt_seconds(seconds_left())
    uploads = Uploads(client_for(attempt_seconds), settings.s3_bucket, attempt_seconds, seconds_left)
    landed = uploads.put_all(landing_objects(batch, settings.s3_prefix))
    log(
        settings,
        "INFO",
        "batch landed",
        shard_id=next(iter(batch.groups.values())).shard_id if batch.groups else None,
        records=batch.rows_in(""),
        rows=batch.rows_in("changes/"),
        control=batch.rows_in("control/"),
        quarantined=batch.rows_in("quarantine/"),
        stopped_at=batch.stopped_at,
        objects=len(landed),
        rewritten=sum(landed_object.generation > 0 for landed_object in landed),
        bytes=sum(landed_object.size_bytes for landed_object in landed),
        seconds=round(time.monotonic() - started, 3),
        lag_seconds=round(time.time() - records[0]["kinesis"]["approximateArrivalTimestamp"], 3),
    )
    return batch, landed


# ----------------------------------------------------------------------------------------------------------
# Steps: decode, mask, route, splice, compress
# ----------------------------------------------------------------------------------------------------------


def event_records(event: Any) -> list[Any]:
    """The event's records as Lambda gave them. Raises EventError when there is none."""
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or not records:
        found = "no Records" if records is None else "Records without a record"
        raise EventError(f"expected the event of a Kinesis event source mapping, found {found} in it")
    return records


def read_batch(records: list[Any], settings: Settings, masking: Masking | None = None) -> Batch:
    """All records in their groups; with ON_POISON=stop, those before the first poison record.

    masking: that of the settings, by masking_of. Raises SettingsError without it, when they mask a column.
    """
    if settings.is_masking and masking is None:
        raise SettingsError(
            "settings: MASKED_COLUMNS is set, and no masking was given: pass masking_of(settings)"
        )
    batch = Batch()
    for start in range(0, len(records), CHUNK_RECORDS):
        chunk = decode_records(records[start : start + CHUNK_RECORDS], start)
        add_records(batch, chunk, settings, masking)
        if batch.stopped_at:
            break
    for group in batch.groups.values():
        group.write_new_rows()
    return batch


def decode_records(records: list[Any], first_index: int) -> list[KinesisRecord]:
    """The records with their base64 decoded. Raises EventError for what did not come from Kinesis."""
    try:
        decoded = msgspec.convert(records, list[KinesisRecord])
    except (msgspec.ValidationError, UnicodeEncodeError):
        decoded = [decode_record(record, first_index + i) for i, record in enumerate(records)]
    digits = "".join([record.kinesis.sequence_number for record in decoded])
    if not (digits.isascii() and digits.encode().isdigit()):
        raise EventError("expected sequence numbers of Kinesis records, found one that is not of digits")
    return decoded


def decode_record(record: Any, index: int) -> KinesisRecord:
    try:
        return msgspec.convert(record, KinesisRecord)
    except (msgspec.ValidationError, UnicodeEncodeError):
        pass
    try:
        text = record["kinesis"]["data"].encode("utf-8", "surrogatepass")
        kinesis = {**record["kinesis"], "data": b64encode(text).decode()}
        return msgspec.convert({**record, "kinesis": kinesis}, UndecodedRecord)
    except (msgspec.ValidationError, LookupError, TypeError, AttributeError):
        raise EventError(
            f"Records[{index}] is no Kinesis record: expected eventSource aws:kinesis, eventSourceARN, "
            "eventID and kinesis with partitionKey, sequenceNumber, approximateArrivalTimestamp and data"
        ) from None


@lru_cache(maxsize=1)
def envelope_decoder(before_image_field: str) -> EnvelopeDecoder:
    """A decoder of payloads to (metadata, data, before, control), all but the first as DMS wrote them."""
    envelope = msgspec.defstruct(
        "Envelope",
        [
            ("data", msgspec.Raw, msgspec.Raw(b"null")),
            ("before", msgspec.Raw, msgspec.field(name=before_image_field, default=msgspec.Raw(b"null"))),
            ("control", msgspec.Raw, msgspec.Raw(b"null")),
            ("metadata", Metadata),
        ],
        kw_only=True,
        forbid_unknown_fields=True,  # a row would not show them; a before image of another name is one
        gc=False,
    )
    return msgspec.json.Decoder(envelope).decode


def add_records(
    batch: Batch, records: list[KinesisRecord], settings: Settings, masking: Masking | None
) -> None:
    """Adds the records to their groups; with a poison one among them, they are halved until it is alone."""
    try:
        add_rows(batch, records, envelope_decoder(settings.before_image_field), masking)
    except PoisonRecord as poison:
        if len(records) > 1:
            middle = len(records) // 2
            add_records(batch, records[:middle], settings, masking)
            if not batch.stopped_at:
                add_records(batch, records[middle:], settings, masking)
        else:
            set_aside(batch, records[0], str(poison), settings)


def set_aside(batch: Batch, record: KinesisRecord, reason: str, settings: Settings) -> None:
    """Quarantines a poison record, or, with ON_POISON=stop, ends the batch before it.

    While masks are set, what can't be read may hold what they hide: it goes where few may read.
    """
    is_end = settings.on_poison == "stop"
    log(
        settings,
        "WARNING",
        "stopped at a poison record" if is_end else "record quarantined",
        shard_id=record.shard_id,
        sequence_number=record.kinesis.sequence_number,
        reason=reason,
    )
    if is_end:
        batch.stopped_at = record.kinesis.sequence_number
        return
    arrived_at = datetime.fromtimestamp(record.kinesis.arrived_at, UTC)
    quarantine = "quarantine/restricted/" if settings.is_masking else "quarantine/"
    group = batch.group(record, f"{quarantine}cdc_date={arrived_at.date()}/")
    group.new_rows.append(quarantine_row(record, reason, arrived_at))


def add_rows(
    batch: Batch, records: list[KinesisRecord], decode_envelope: EnvelopeDecoder, masking: Masking | None
) -> None:
    """Adds a row of each record to its group. Raises PoisonRecord when one can't be; then none was added.

    Each step reads the texts of many records as one, joined by a byte that they can't hold: Python's own time
    is paid once a step, not once a record. That is most of the handler's speed.
    """
    envelopes = read_envelopes(records, decode_envelope)
    metadatas = [envelope.metadata for envelope in envelopes]
    check_timestamps(metadatas)
    if masking:
        mask_rows(envelopes, masking)
    tails = row_tails(envelopes)
    groups = groups_of(batch, records, metadatas)
    lsns = first_lsns([metadata.stream_position for metadata in metadatas])
    for group, record, metadata, lsn, tail in zip(groups, records, metadatas, lsns, tails, strict=True):
        if group.is_control:
            group.new_rows.append(control_row(record))
            continue
        row = Row(
            metadata.operation,
            metadata.commit_timestamp,
            metadata.timestamp,
            metadata.transaction_id,
            metadata.transaction_record_id,
            metadata.stream_position,
            lsn,
            group.shard_id,
            record.kinesis.sequence_number.zfill(SEQUENCE_DIGITS),
            tail,
        )
        group.new_rows.append(row)
    for group in {*groups}:
        group.write_new_rows()


def read_envelopes(records: list[KinesisRecord], decode_envelope: EnvelopeDecoder) -> list[Any]:
    """The records' envelopes. Raises PoisonRecord."""
    if UndecodedRecord in map(type, records):
        raise PoisonRecord("the data is not base64")
    payloads = [record.kinesis.payload for record in records]
    try:
        envelopes = [decode_envelope(payload) for payload in payloads]
        text = b"\0".join(payloads)
        if not text.isascii():
            text.decode()  # the decoder does not check text that it leaves as it is
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise PoisonRecord(why_unreadable(payloads[0]) if len(payloads) == 1 else "") from None
    return envelopes


def check_timestamps(metadatas: list[Metadata]) -> None:
    """Raises PoisonRecord when a time is malformed."""
    timestamps = [metadata.timestamp for metadata in metadatas]
    timestamps += [at for metadata in metadatas if (at := metadata.commit_timestamp) is not None]
    if not are_timestamps(timestamps):
        raise PoisonRecord("a timestamp in metadata is malformed")


def are_timestamps(texts: list[str]) -> bool:
    """Whether each is such as 2026-03-01T09:16:10.500120Z, with no fraction or one of up to nine digits."""
    text = '","'.join(texts).encode()
    if text.translate(DIGITS_TO_ZERO) != timestamps_of_zeros(len(texts)):
        return all(map(is_timestamp, texts))
    try:
        decode_times(b'["' + text + b'"]')
    except msgspec.DecodeError:
        return False
    return True


@lru_cache
def timestamps_of_zeros(count: int) -> bytes:
    return b'","'.join([b"0000-00-00T00:00:00.000000Z"] * count)


def is_timestamp(text: str) -> bool:
    try:
        return bool(TIMESTAMP(text) and date.fromisoformat(text[:10]))
    except ValueError:
        return False


def mask_rows(envelopes: list[Any], masking: Masking) -> None:
    """Masks data and before image of each row of a masked table; no other row is touched, or pays.

    A control record goes to control/ as it is. Raises PoisonRecord when a row can't be taken apart: it is
    never passed on unmasked.
    """
    for envelope in envelopes:
        metadata = envelope.metadata
        actions = masking.tables.get((metadata.schema_name, metadata.table_name))
        if actions is None or metadata.record_type == "control":
            continue
        reason = "data is missing or not an object"
        try:
            envelope.data = mask_members(envelope.data, actions, masking)
            reason = "the before image is not an object"
            if bytes(envelope.before) not in (b"null", b"{}"):
                envelope.before = mask_members(envelope.before, actions, masking)
        except msgspec.DecodeError:
            raise PoisonRecord(reason) from None
        except RecursionError:
            raise PoisonRecord("the payload is JSON nested too deep") from None


def mask_members(json_object: msgspec.Raw, actions: dict[str, str], masking: Masking) -> msgspec.Raw:
    """The object with its masked members hidden, all others byte for byte, each name once."""
    members: dict[str, Any] = decode_members(json_object)
    for name, action in actions.items():
        if name not in members:
            continue
        if action == "drop":
            del members[name]
        elif action == "null":
            members[name] = None
        else:
            text = canonical_text(bytes(members[name]))
            members[name] = None if text is None else masking.hash_text(text)
    return msgspec.Raw(encode_members(members))


def canonical_text(json_value: bytes) -> str | None:
    """What is hashed of a value: Lin of "Lin", 42 of 42, "42" and 4.2e1, true of true.

    None of null, which stays null. Raises PoisonRecord of what has no such text, which DMS does not send.
    """
    if json_value.startswith(b'"'):
        return msgspec.json.decode(json_value, type=str)
    if json_value.startswith((b"{", b"[")):
        raise PoisonRecord("a masked column holds an object or an array, which can't be hashed")
    if json_value == b"null":
        return None
    return json_value.decode() if json_value in (b"true", b"false") else plain_number(json_value.decode())


def plain_number(number: str) -> str:
    """The number without exponent, without zeros at the end of its fraction, and without the sign of -0."""
    if "e" in number or "E" in number:
        number = without_exponent(number)
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return "0" if number == "-0" else number


def without_exponent(number: str) -> str:
    """120 of 1.2e2. Raises PoisonRecord when that has more digits than a number of PostgreSQL's."""
    try:
        value = Decimal(number)
    except InvalidOperation:
        raise PoisonRecord("a masked column holds a number that is too long") from None
    if value and abs(value.adjusted()) > NUMBER_DIGITS:
        raise PoisonRecord("a masked column holds a number that is too long")
    return format(value, "f") if value else "0"


def row_tails(envelopes: list[Any]) -> list[msgspec.Raw]:
    """What each row ends with: the before image and, spliced behind it, the table's columns, untouched.

    {"id":8,"name":"Lin"} with the before image {"id":7} gives {"id":7},"id":8,"name":"Lin" as the value of
    cdc_before, our last column. Raises PoisonRecord.
    """
    befores = [envelope.before for envelope in envelopes]
    data, before = b"\0".join([envelope.data for envelope in envelopes]), b"\0".join([b"", *befores])
    if b"\n" in data or b"\r" in data or b"\n" in before or b"\r" in before:
        data, before = without_line_breaks(data), without_line_breaks(before)
        befores = before.split(b"\0")[1:]
    if before.count(b"\0{") + before.count(b"\0null") != len(befores):
        raise PoisonRecord("the before image is not an object")
    columns = data[2:-1].split(b'}\0{"')
    if len(columns) != len(befores) or not data.startswith(b'{"'):  # one is empty, no object, or spaced
        return [row_tail(envelope) for envelope in envelopes]
    if b'"cdc_' in data or (b"\\" in data and b"\\u00" in data):  # a name of ours; escapes could spell one
        check_columns(envelopes)
    return [*map(msgspec.Raw, map(b',"'.join, zip(befores, columns, strict=True)))]


def row_tail(envelope: Any) -> msgspec.Raw:
    """As row_tails, for one record of any kind."""
    data, before = without_line_breaks(envelope.data), without_line_breaks(envelope.before)
    if envelope.metadata.record_type == "control":
        return msgspec.Raw(before)
    if not data.startswith(b"{"):
        raise PoisonRecord("data is missing or not an object")
    check_columns([envelope])
    columns = data[1:-1].strip()
    return msgspec.Raw(before + b"," + columns if columns else before)


def check_columns(envelopes: list[Any]) -> None:
    """Raises PoisonRecord when a user's table has a column with a name of ours."""
    for envelope in envelopes:
        if goes_to_control(envelope.metadata.record_type, envelope.metadata.table_name):
            continue
        try:
            columns = msgspec.json.decode(envelope.data, type=dict[str, msgspec.Raw]).keys()
        except RecursionError:  # the stack is deeper here than where the envelope was decoded
            raise PoisonRecord("the payload is JSON nested too deep") from None
        if taken := sorted(RESERVED_COLUMNS & columns):
            raise PoisonRecord(f"the table has a column with a reserved name: {', '.join(taken)}")


def goes_to_control(record_type: str, table: str | None) -> bool:
    return record_type == "control" or (table is not None and table.startswith("awsdms_"))


def groups_of(batch: Batch, records: list[KinesisRecord], metadatas: list[Metadata]) -> list[Group]:
    """The group of each record, a new one where there is none. Raises PoisonRecord, and then makes none."""
    routes = [
        (
            record.event_id.partition(":")[0],
            metadata.record_type,
            metadata.schema_name,
            metadata.table_name,
            (metadata.commit_timestamp or metadata.timestamp)[:13],
        )
        for record, metadata in zip(records, metadatas, strict=True)
    ]
    groups = [*map(batch.routes.get, routes)]
    if None not in groups:
        return groups  # type: ignore[return-value]
    folders = {route: folder_of(*route[1:]) for route in dict.fromkeys(routes) if route not in batch.routes}
    for route, record in zip(routes, records, strict=True):
        if route not in batch.routes:
            batch.routes[route] = batch.group(record, folders[route])
    return [batch.routes[route] for route in routes]


def folder_of(record_type: str, schema: str | None, table: str | None, hour: str) -> str:
    """The folder of a record of the hour, "2026-03-01T09". Raises PoisonRecord when there can be none."""
    if goes_to_control(record_type, table):
        return f"control/cdc_date={hour[:10]}/"
    if not schema or not table:
        raise PoisonRecord("schema-name or table-name is missing or empty")
    if max(len(schema.encode()), len(table.encode())) > NAME_BYTES:
        raise PoisonRecord(f"schema-name or table-name is longer than {NAME_BYTES} bytes")
    return f"changes/{escape(schema)}/{escape(table)}/cdc_date={hour[:10]}/cdc_hour={hour[11:]}/"


def escape(name: str) -> str:
    """A name as one part of a key: percent-encoded but for A-Z a-z 0-9 _ - and inner dots; still unique."""
    return UNSAFE.sub(lambda match: b"".join(b"%%%02X" % byte for byte in match[0]), name.encode()).decode()


def first_lsns(stream_positions: list[str | None]) -> list[int | None]:
    """The first LSN of each: 5268062648 of "00000001/3A0041B8.3.00000001/3A0041B8"; of another form None."""
    count = len(stream_positions)
    try:
        text = "".join([position[:18] for position in stream_positions]).encode()  # type: ignore[index]
        if text[8::18] == b"/" * count and text[17::18] == b"." * count:
            return [*struct.unpack(f">{count}Q", unhexlify(text.translate(None, b"/.")))]
    except (TypeError, ValueError, struct.error):
        pass  # at least one has no position, or one of another form
    return [*map(first_lsn, stream_positions)]


def first_lsn(stream_position: str | None) -> int | None:
    match = STREAM_POSITION(stream_position or "")
    return int(match[1] + match[2], 16) if match else None


def control_row(record: KinesisRecord) -> ControlRow:
    return ControlRow(
        record.shard_id,
        record.kinesis.sequence_number.zfill(SEQUENCE_DIGITS),
        msgspec.Raw(without_line_breaks(record.kinesis.payload)),
    )


def quarantine_row(record: KinesisRecord, reason: str, arrived_at: datetime) -> QuarantineRow:
    return QuarantineRow(
        reason,
        without_half_surrogates(record.stream_arn),
        record.shard_id,
        record.kinesis.sequence_number.zfill(SEQUENCE_DIGITS),
        without_half_surrogates(record.kinesis.partition_key),
        arrived_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        b64encode(record.kinesis.payload).decode(),
    )


def without_half_surrogates(text: str) -> str:
    """The text as UTF-8 can hold it; JSON can spell what is none."""
    return text.encode("utf-8", "replace").decode()


def why_unreadable(payload: bytes) -> str:
    """The reason why a payload is no envelope; slow, and only for those that are not."""
    if payload.startswith(KPL_MAGIC):
        return "the payload is an aggregate of the Kinesis Producer Library, not one envelope"
    if payload.startswith(GZIP_MAGIC):
        return "the payload is gzipped, not JSON"
    reason = "the payload is not JSON"
    try:
        payload.decode()
        msgspec.json.decode(payload, type=msgspec.Raw)
        reason = "the payload is JSON, but not an object"
        envelope = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        reason = "the envelope has no metadata object"
        metadata = msgspec.json.decode(envelope["metadata"], type=dict[str, msgspec.Raw])
        reason = "the record-type in metadata is neither data nor control"
        msgspec.json.decode(metadata["record-type"], type=Literal["data", "control"])
        reason = "a key in metadata is missing or of the wrong type"
        msgspec.json.decode(envelope["metadata"], type=Metadata)
    except UnicodeDecodeError:
        return "the payload is not UTF-8"
    except RecursionError:
        return "the payload is JSON nested too deep"
    except (msgspec.DecodeError, KeyError):
        return reason
    return "the envelope has an unknown key: is BEFORE_IMAGE_FIELD the FieldName of the task?"


def without_line_breaks(json_text: bytes | msgspec.Raw) -> bytes:
    """The same JSON; in a valid text these bytes stand between values only, never in a string."""
    return bytes(json_text).translate(None, b"\t\n\r")


def landing_objects(batch: Batch, prefix: str) -> Iterator[LandingObject]:
    """The object that each group becomes."""
    for group in batch.groups.values():
        name = f"{escape(group.shard_id)}-{group.first_sequence_number.zfill(SEQUENCE_DIGITS)}.jsonl.gz"
        yield LandingObject(f"{prefix}{group.folder}{name}", group.json_lines, group.row_count)


def gzipped(json_lines: list[bytes]) -> bytes:
    """The lines in gzip, without a time: the same lines give the same bytes.

    Called in the thread of an upload: on x86, isal leaves a thread's vector registers in a state in which
    Python runs a fifth slower, so it must not be the thread that reads the next batch.
    """
    return isal_zlib.compress(b"".join(json_lines), 1, wbits=31)


# ----------------------------------------------------------------------------------------------------------
# Reading the secret, writing to S3, and the log
# ----------------------------------------------------------------------------------------------------------


def masking_of(settings: Settings) -> Masking | None:
    """What the settings mask, with its key; None when that is nothing. Raises SettingsError, SecretError."""
    if faults := [*settings.mask_faults()]:
        raise SettingsError("settings: " + "; ".join(faults))
    masks = read_masks(settings.masked_columns)
    if not masks:
        return None
    if takes_key(masks) and settings.mask_secret_arn:
        return Masking(masks, read_secret(settings.mask_secret_arn))
    return Masking(masks, settings.mask_secret)


@lru_cache(maxsize=1)
def read_secret(arn: str) -> str:
    """The text of a secret, kept between invocations. Raises SettingsError, SecretError."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    retries: Any = {"mode": "standard", "total_max_attempts": UPLOAD_ATTEMPTS}
    config = Config(connect_timeout=2, read_timeout=5, retries=retries)
    region = arn.split(":")[3]
    try:
        client = boto3.client("secretsmanager", region_name=region, config=config)
        secret = client.get_secret_value(SecretId=arn).get("SecretString", "")
    except (ClientError, BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise SecretError(f"cannot read the secret {arn}: {why_failed(error, SECRET_ADVICE)}") from error
    if len(secret) < SECRET_CHARACTERS:
        raise SettingsError(
            f"settings: the secret of MASK_SECRET_ARN={arn!r} is no text of {SECRET_CHARACTERS} characters "
            "or more: put one into it"
        )
    return str(secret)


class Uploads:
    """Writes objects to a bucket, in parallel, so that a late PUT can never cover a newer object.

    The first PUT of a key says If-None-Match: *. Where the key exists (a batch delivered again, a PUT whose
    answer was lost) it is rewritten, with If-Match of what stands there and with the next generation: a count
    of rewrites in gzip's time field. So no ETag ever comes back, and a PUT still on its way must fail.
    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """

    def __init__(
        self, client: Any, bucket: str, attempt_seconds: int, seconds_left: Callable[[], float]
    ) -> None:
        self.client = client
        self.bucket = bucket
        self.put_seconds = UPLOAD_ATTEMPTS * attempt_seconds + BACKOFF_SECONDS
        self.seconds_left = seconds_left

    def put_all(self, objects: Iterable[LandingObject]) -> list[LandedObject]:
        """The objects, all written. Raises UploadError when one was not, after the last upload has ended."""
        keys: dict[Future[LandedObject], str] = {}
        pool = ThreadPoolExecutor(UPLOAD_THREADS)
        try:
            for landing_object in objects:
                keys[pool.submit(self.put, landing_object)] = landing_object.key
            wait(keys, self.seconds_left() - ANSWER_SECONDS, FIRST_EXCEPTION)
        finally:
            begun = [upload for upload in keys if not upload.cancel()]
            for upload in wait(begun, max(0, self.seconds_left() - ANSWER_SECONDS)).not_done:
                end_process(self.failure(keys[upload], "it did not end in time: ending the process"))
            pool.shutdown()
        landed = [upload.result() for upload in begun]
        for upload in keys.keys() - set(begun):
            raise UploadError(self.failure(keys[upload], "there was no time left to begin"))
        return landed

    def put(self, landing_object: LandingObject) -> LandedObject:
        """What was written. Raises UploadError."""
        from botocore.exceptions import BotoCoreError, ClientError

        key, body = landing_object.key, gzipped(landing_object.json_lines)
        address = {"Bucket": self.bucket, "Key": key}
        generation, condition = 0, NEW
        try:
            for _ in range(CONFLICT_ROUNDS):
                self.check_time(key)
                body = body[:4] + generation.to_bytes(4, "little") + body[8:]
                try:
                    self.client.put_object(**address, Body=body, ContentType="application/gzip", **condition)
                    return LandedObject(key, landing_object.rows, len(body), generation)
                except ClientError as error:
                    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    if status == 412:  # there is an object, or another one than we saw
                        generation, condition = self.next_generation(address)
                    elif status == 404 and condition != NEW:  # it is gone
                        generation, condition = 0, NEW
                    elif status != 409:  # somebody else is writing it just now: the same again
                        raise
        except (ClientError, BotoCoreError) as error:
            raise UploadError(self.failure(key, why_failed(error))) from error
        raise UploadError(self.failure(key, "others keep writing it too"))

    def failure(self, key: str, reason: str) -> str:
        return f"cannot write s3://{self.bucket}/{key}: {reason}"

    def next_generation(self, address: dict[str, str]) -> tuple[int, dict[str, str]]:
        """What a rewrite of the object must carry, and the condition it must meet."""
        from botocore.exceptions import ClientError

        self.check_time(address["Key"])
        try:
            found = self.client.get_object(**address, Range="bytes=4-7")
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            return 0, NEW
        generation = int.from_bytes(found["Body"].read(), "little") + 1
        return generation % 2**32, {"IfMatch": found["ETag"]}

    def check_time(self, key: str) -> None:
        """Raises UploadError unless a request that fails as slowly as it can would still end in time."""
        left, needed = self.seconds_left(), self.put_seconds + ANSWER_SECONDS
        if left < needed:
            reason = f"{left:.1f} s are left and it may take {needed}: a longer timeout or more memory helps"
            raise UploadError(self.failure(key, reason))


def why_failed(error: Any, advice: Mapping[str, str] = ADVICE) -> str:
    """Code and advice; the library's own text stays out, for it may quote what was sent."""
    response = getattr(error, "response", None) or {}  # a timeout has one too: None
    code = str(response.get("Error", {}).get("Code", type(error).__name__))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return code + (f" (HTTP {status})" if status else "") + advice.get(code, "")


def upload_attempt_seconds(seconds_left: float) -> int:
    """How long an attempt may take, 2 to 12: all attempts of a PUT fit into half of the time that is left."""
    return max(2, min(12, int((seconds_left / 2 - BACKOFF_SECONDS) / UPLOAD_ATTEMPTS)))


@lru_cache(maxsize=4)  # a timeout of the function can lie on the border of two attempt_seconds
def s3_client(attempt_seconds: int) -> Any:
    """A client kept between invocations; boto3 costs a quarter of a second to load, so it is loaded here."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    connect_seconds = max(1, attempt_seconds // 4)
    config = Config(
        connect_timeout=connect_seconds,
        read_timeout=attempt_seconds - connect_seconds,
        retries={"mode": "standard", "total_max_attempts": UPLOAD_ATTEMPTS},
        max_pool_connections=UPLOAD_THREADS,
    )
    try:
        return boto3.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise UploadError(f"cannot make a client for S3: {error}") from error


def log(settings: Settings, level: str, message: str, **fields: Any) -> None:
    """One JSON line; counts, identifiers and reasons of ours only."""
    if LOG_LEVELS.index(level) >= LOG_LEVELS.index(settings.log_level):
        print(json.dumps({"level": level, "message": message, **fields}), file=sys.stderr, flush=True)


def end_process(reason: str) -> NoReturn:
    """Ends the process, and with it the uploads that it can't otherwise stop.

    An environment is frozen after an answer and goes on in the next invocation: an upload that outlived its
    invocation could still write then. Lambda reports Runtime.ExitError and delivers the batch again.
    """
    print(json.dumps({"level": "ERROR", "message": reason}), file=sys.stderr, flush=True)
    os._exit(1)


# ----------------------------------------------------------------------------------------------------------
# Command line: python lambda_function.py [EVENT.json ...]
# ----------------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(
        prog="lambda_function.py",
        description="Runs the handler on events from files. With S3_BUCKET, in the environment or in .env, "
        f"it writes to that bucket; without, to an S3 in this process that leaves its objects in {OUTPUT}/.",
    )
    parser.add_argument("event", nargs="*", type=Path, help=f"an event of Kinesis (default: {SAMPLE_EVENT})")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    options = parser.parse_args(arguments)
    try:
        settings = read_settings(Path(".env"))
        events = [read_event(path) for path in options.event or [Path(__file__).parent / SAMPLE_EVENT]]
        if settings.s3_bucket:
            place = f"s3://{settings.s3_bucket}"
            results = land_all(events, settings, s3_client)
        else:
            place = str(OUTPUT)
            results = land_embedded(events, settings)
    except PipelineError as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print_results(place, results)
    return 1 if any(batch.stopped_at for batch, _ in results) else 0


def read_settings(dotenv_file: Path) -> Settings:
    """Settings of the environment and, below it, of .env; sets AWS_* for boto3. Raises SettingsError."""
    from difflib import get_close_matches
    from io import StringIO

    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    known = [*Settings.keys().values(), *CHAIN_SETTINGS]
    try:
        text = dotenv_file.read_text(encoding="utf-8") if dotenv_file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings: {dotenv_file} can't be read: {type(error).__name__}") from error
    unreadable = [binding.original.line for binding in parse_stream(StringIO(text)) if binding.error]
    if unreadable:
        raise SettingsError(f"settings: line {unreadable[0]} of {dotenv_file} can't be read: write KEY=value")
    faults = []
    for key, value in dotenv_values(stream=StringIO(text)).items():
        if key not in known and not key.startswith("AWS_"):
            nearest = get_close_matches(key, known, 1)
            advice = f"did you mean {nearest[0]}?" if nearest else "remove it"
            faults.append(f"{key} in .env is unknown: {advice}")
        elif value is None:
            faults.append(f"{key} in .env has no value: write {key}=... or remove it")
        elif key not in CHAIN_SETTINGS:
            os.environ.setdefault(key, value)
    return Settings.from_mapping(os.environ, faults)


def read_event(path: Path) -> Any:
    """The event in a file. Raises EventError, which names the file and a sample."""
    try:
        event = json.loads(path.read_bytes())
        event_records(event)
    except OSError as error:
        fault = f"expected a file with a Kinesis event, found {error.strerror}"
    except (ValueError, RecursionError):
        fault = "expected a Kinesis event, found no JSON in it"
    except EventError as error:
        fault = str(error)
    else:
        return event
    raise EventError(f"{path}: {fault}; a sample is {SAMPLE_EVENT}") from None


def land_all(
    events: list[Any], settings: Settings, client_for: Callable[[int], Any]
) -> list[tuple[Batch, list[LandedObject]]]:
    """Lands one event after the other, up to one that stops at a poison record."""
    results = []
    for event in events:
        results.append(land(event, settings, client_for, lambda: CLI_SECONDS))
        if results[-1][0].stopped_at:
            break
    return results


def land_embedded(events: list[Any], settings: Settings) -> list[tuple[Batch, list[LandedObject]]]:
    """Lands the events in an S3 inside this process, and copies its objects to files under OUTPUT."""
    import boto3
    from botocore.config import Config
    from moto import mock_aws

    masking_of(settings)  # reads a secret now, from AWS: there is none in this process
    settings = msgspec.structs.replace(settings, s3_bucket=EMBEDDED_BUCKET)
    with mock_aws():
        os.environ.pop("AWS_PROFILE", None)  # of no use here, and an error where it is not configured
        config = Config(ignore_configured_endpoint_urls=True)
        client = boto3.client("s3", region_name="us-east-1", config=config)
        client.create_bucket(Bucket=EMBEDDED_BUCKET)
        results = land_all(events, settings, lambda _: client)
        for key in sorted({landed_object.key for _, landed in results for landed_object in landed}):
            write_file(OUTPUT / key, client.get_object(Bucket=EMBEDDED_BUCKET, Key=key)["Body"].read())
    return results


def write_file(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise PipelineError(f"cannot write {path}: {error.strerror}") from error


def print_results(place: str, results: list[tuple[Batch, list[LandedObject]]]) -> None:
    """A table of the objects, then totals."""
    landed = [landed_object for _, objects in results for landed_object in objects]
    width = max((len(landed_object.key) for landed_object in landed), default=0)
    print(f"{'object in ' + place:{width}}  rows  bytes")
    for landed_object in sorted(landed, key=lambda landed_object: landed_object.key):
        print(f"{landed_object.key:{width}}  {landed_object.rows:4}  {landed_object.size_bytes:5}")
    folders = ("changes/", "control/", "quarantine/")
    rows, control, quarantined = (sum(batch.rows_in(folder) for batch, _ in results) for folder in folders)
    print(
        f"{rows} rows, {control} control records, {quarantined} quarantined records in {len(landed)} objects"
    )
    for batch, _ in results:
        if batch.stopped_at:
            print(f"stopped at record {batch.stopped_at}, which can't be read: ON_POISON=quarantine goes on")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
