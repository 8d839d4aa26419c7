"""The messages that DMS puts on a Kinesis stream: one for each row, change, and event of a table.

    messages = TableMessages(table, settings, rendering, load_key="primary-key", change_key="schema-table")
    messages.load(values, published_at)         Message("public.client.7", b'{"data":{"id":7},...}')
    messages.change("update", new, old, ...)    the same; None where DMS ignores the change
    messages.create_table(published_at)         Message("TASK.public.client", b'{"control":...}')
    OwnMessages(...).status_row(...)            the same for the tables that DMS keeps for itself

Values are in the order of table.columns, as PostgreSQL's output functions write them. Everything that is the
same for all rows of a table is written once, in __init__: what is left are values between fixed bytes.

Each rule says how it is known. D: documented by AWS. O: observed in messages that DMS wrote. I: inferred.
Source: https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Target.Kinesis.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, NamedTuple

from local_run.replication.tables import SourceTable
from local_run.replication.values import NULL, Render, json_string, renderer
from provision.database import Column
from provision.dms_types import Rendering, dms_type, is_carried

KEY_CHARACTERS = 256  # D: of a partition key of Kinesis
EMPTY = (NULL, b'""')
QUOTE = 0x22


class Unchanged(Enum):
    TOAST = "unchanged"


UNCHANGED: Final = Unchanged.TOAST  # a large value that an update does not touch: the log does not carry it
Value = bytes | None | Unchanged
Operation = Literal["insert", "update", "delete"]

# --------------------------------------------------------------------------------------------------------
# Value types
# --------------------------------------------------------------------------------------------------------


class Message(NamedTuple):
    partition_key: str
    payload: bytes


@dataclass(frozen=True)
class Transaction:
    id: int
    committed_at: str  # 2026-03-01T09:16:10.480010Z


@dataclass(frozen=True)
class MessageSettings:
    """KinesisSettings of the target endpoint and BeforeImageSettings of the task; defaults are DMS's (D)."""

    task_id: str  # the task's resource id
    message_format: str = "json"  # or json-unformatted
    include_transaction_details: bool = False
    include_partition_value: bool = False
    partition_include_schema_table: bool = False
    include_table_alter_operations: bool = False  # the caller's to heed: alter() writes in any case
    include_control_details: bool = False
    include_null_and_empty: bool = False
    before_image_field: str | None = None  # None: EnableBeforeImage is false
    before_image_filter: str = "pk-only"  # or non-lob, all


class Field(NamedTuple):
    """A column that is sent."""

    position: int  # in table.columns
    column: Column
    member: bytes  # "name": with what stands before it
    render: Render  # of changes
    render_load: Render


# --------------------------------------------------------------------------------------------------------
# Format, partition keys. Both formats are printed as cJSON does (json: O; that it is cJSON: I)
# --------------------------------------------------------------------------------------------------------


class Layout(NamedTuple):
    is_pretty: bool

    @property
    def end(self) -> str:
        return "" if self.is_pretty else "\n"  # D: "with new line delimiter"

    def member(self, depth: int, name: str) -> str:
        """What stands before a value: its name, at so many levels below the top."""
        tabs = "\t" * depth
        return f"\n{tabs}{json_string(name)}:\t" if self.is_pretty else f"{json_string(name)}:"

    def close(self, depth: int) -> str:
        """The brace of an object whose own name stands at this depth."""
        return "\n" + "\t" * depth + "}" if self.is_pretty else "}"

    def write(self, value: Any, depth: int = 0) -> str:
        if isinstance(value, Mapping):
            members = [
                self.member(depth + 1, name) + self.write(one, depth + 1) for name, one in value.items()
            ]
            return "{" + ",".join(members) + self.close(depth)
        if isinstance(value, list):
            separator = ", " if self.is_pretty else ","
            return "[" + separator.join([self.write(one, depth + 1) for one in value]) + "]"
        return json.dumps(value, ensure_ascii=False)


# Of rendered values: the key on the stream, and the same as it stands between quotes in metadata.
KeyOf = Callable[[Sequence[bytes], Transaction | None], tuple[str, str]]


def constant_key(text: str) -> KeyOf:
    pair = (stream_key(text), json_string(text)[1:-1])
    return lambda parts, transaction: pair


def transaction_key(parts: Sequence[bytes], transaction: Transaction | None) -> tuple[str, str]:
    text = str(transaction.id) if transaction else "0"  # a load is no transaction: I
    return text, text


def columns_key(positions: Sequence[int], prefix: str, instead: str) -> KeyOf:
    """The values of these of the sent columns, joined by dots (O for one column; I for several).

    instead: where the text is empty, which Kinesis does not take as a key (I).
    """
    json_prefix = json_string(prefix)[1:-1]

    def key_of(parts: Sequence[bytes], transaction: Transaction | None) -> tuple[str, str]:
        text = json_prefix + ".".join([unquoted(parts[position]) for position in positions])
        key = json.loads(f'"{text}"') if "\\" in text else text
        return stream_key(key or instead), text

    return key_of


def unquoted(part: bytes) -> str:
    return (part[1:-1] if part[0] == QUOTE else part).decode()


def stream_key(text: str) -> str:
    """The text, or, where it is longer than Kinesis takes, a digest of it (I)."""
    return text if len(text) <= KEY_CHARACTERS else hashlib.sha256(text.encode()).hexdigest()


# --------------------------------------------------------------------------------------------------------
# Messages of a table
# --------------------------------------------------------------------------------------------------------


class TableMessages:
    """Writes the messages of one table, as it is at present: altered, it needs another one.

    load_key, change_key: partition-key-type of loads and of changes: "primary-key", "schema-table",
    "transaction-id", "constant", or "attribute-name" with key_name, the column or the constant. A table
    without primary key falls back to schema-table (O). load and change raise ValueFault.
    """

    def __init__(
        self,
        table: SourceTable,
        settings: MessageSettings,
        rendering: Rendering,
        *,
        load_key: str,
        change_key: str,
        key_name: str = "",
    ) -> None:
        self.table, self.settings, self.rendering = table, settings, rendering
        self.layout = Layout(settings.message_format == "json")
        self.fields = self.make_fields()
        self.columns_sent = tuple(field.column.name for field in self.fields)
        self.positions = [field.position for field in self.fields]
        self.is_whole = self.positions == [*range(len(table.columns))]
        self.renders = [field.render for field in self.fields]
        self.load_renders = [field.render_load for field in self.fields]
        self.members = [field.member for field in self.fields]
        self.has_before_image = settings.before_image_field is not None
        self.before_fields = self.make_before_fields()
        self.make_frame()
        self.load_writer = self.make_metadata("load", load_key, key_name)
        self.change_writers = {
            operation: self.make_metadata(operation, change_key, key_name)
            for operation in ("insert", "update", "delete")
        }

    # Rows and changes ------------------------------------------------------------------------------------

    def load(self, values: Sequence[Value], published_at: str) -> Message:
        parts = self.render(self.load_renders, values)
        key_of, metadata = self.load_writer
        key, key_text = key_of(parts, None)
        return Message(key, self.row(parts) + metadata.write(published_at, key_text))

    def change(
        self,
        operation: Operation,
        new: Sequence[Value] | None,
        old: Sequence[Value] | None,
        *,
        transaction: Transaction | None,
        record_id: int,
        previous: tuple[int, int] | None,
        position: str,
        published_at: str,
    ) -> Message | None:
        """new is None for a delete; old is the key, or the whole row under REPLICA IDENTITY FULL, or None.

        None: DMS ignores it, an update or delete of a table without primary key (D). transaction is None and
        position empty only for DMS's own tables.
        """
        values = old if operation == "delete" else new
        if values is None or (operation != "insert" and not self.table.primary_key):
            return None
        parts = self.render(self.renders, values)
        key_of, metadata = self.change_writers[operation]
        key, key_text = key_of(parts, transaction)
        before = self.before_image(old) if operation == "update" and self.has_before_image else b""
        end = metadata.write(published_at, key_text, transaction, record_id, previous, position)
        return Message(key, self.row(parts) + before + end)

    def render(self, renders: Sequence[Render], values: Sequence[Value]) -> list[bytes]:
        """JSON of the values that are sent; an unchanged TOAST value, which DMS does not see, is null (I)."""
        if not self.is_whole:
            values = [values[position] for position in self.positions]
        return [
            to_json(value) if value.__class__ is bytes else NULL
            for to_json, value in zip(renders, values, strict=True)
        ]

    def row(self, parts: Sequence[bytes]) -> bytes:
        """The envelope up to its second key; NULL and empty are there with IncludeNullAndEmpty (D, O)."""
        if self.settings.include_null_and_empty:
            return self.frame % (*parts,)
        members = [
            member + part for member, part in zip(self.members, parts, strict=True) if part not in EMPTY
        ]
        return self.opening + b",".join(members) + self.closing

    def before_image(self, old: Sequence[Value] | None) -> bytes:
        """What the log carries of the old row (O): nothing but for a changed key or REPLICA IDENTITY FULL.

        Columns that are NULL are left out: under the default identity all but the key are (I).
        """
        if old is None:
            return self.no_before
        members = [
            field.member + field.render(value)
            for field in self.before_fields
            if isinstance(value := old[field.position], bytes)
        ]
        return self.before_opening + b",".join(members) + self.closing

    # Control records -------------------------------------------------------------------------------------

    def create_table(self, published_at: str) -> Message:
        return self.control("create-table", {"table-def": self.table_definition()}, published_at)

    def drop_table(self, published_at: str) -> Message:
        return self.control("drop-table", {}, published_at)

    def alter(self, operation: str, published_at: str) -> Message:
        """operation: add-column, drop-column, ... (D). What it holds is unknown: here it is the new table."""
        return self.control(operation, {"table-def": self.table_definition()}, published_at)

    def control(self, operation: str, details: Mapping[str, Any], published_at: str) -> Message:
        """O: without details it is sent too; its partition key names the table, the value inside the task."""
        task_id, table = self.settings.task_id, self.table
        metadata = {"timestamp": published_at, "record-type": "control", "operation": operation}
        metadata["partition-key-type"] = "task-id"
        if self.settings.include_partition_value:
            metadata["partition-key-value"] = task_id
        metadata |= {"schema-name": table.schema, "table-name": table.name}
        control = {"control": details} if self.settings.include_control_details else {}
        text = self.layout.write({**control, "metadata": metadata}) + self.layout.end
        return Message(stream_key(f"{task_id}.{table}"), text.encode())

    def table_definition(self) -> dict[str, Any]:
        """O: the length only of strings that have one, primary-key only where there is one."""
        columns = {}
        for field in self.fields:
            name, length = dms_type(field.column, self.rendering)
            columns[field.column.name] = {
                "type": name,
                **({} if length is None else {"length": length}),
                "nullable": field.column.name in self.table.nullable,
            }
        key = {"primary-key": list(self.table.primary_key)} if self.table.primary_key else {}
        return {"columns": columns, **key}

    # What is written once --------------------------------------------------------------------------------

    def make_fields(self) -> list[Field]:
        """The LOBs of a table without primary key are sent nowhere (O), but for those of DMS's own (O)."""
        table = self.table
        return [
            Field(
                position,
                column,
                self.layout.member(2, column.name).encode(),
                renderer(column, self.rendering, is_load=False),
                renderer(column, self.rendering, is_load=True),
            )
            for position, column in enumerate(table.columns)
            if is_carried(column) and (table.primary_key or table.is_of_dms or not column.is_lob)
        ]

    def make_before_fields(self) -> list[Field]:
        """D: pk-only, non-lob, all."""
        key, wanted = self.table.primary_key, self.settings.before_image_filter
        if wanted == "all":
            return self.fields
        return [
            field
            for field in self.fields
            if (field.column.name in key if wanted == "pk-only" else not field.column.is_lob)
        ]

    def make_frame(self) -> None:
        layout = self.layout
        self.opening = ("{" + layout.member(1, "data") + "{").encode()
        self.closing = (layout.close(1) + ",").encode()
        slots = b",".join([member.replace(b"%", b"%%") + b"%b" for member in self.members])
        self.frame = self.opening + slots + self.closing
        field = layout.member(1, self.settings.before_image_field or "")
        self.before_opening = (field + "{").encode()
        self.no_before = self.before_opening + self.closing

    def make_metadata(self, operation: str, key_type: str, key_name: str) -> tuple[KeyOf, Metadata]:
        kind, key_of = self.make_key(key_type, key_name)
        return key_of, Metadata(self.table, self.settings, self.layout, operation, kind)

    def make_key(self, key_type: str, key_name: str) -> tuple[str, KeyOf]:
        """The partition-key-type in fact, and the key."""
        table, names = self.table, list(self.columns_sent)
        whole_table = "schema-table", constant_key(str(table))  # O: public.client, .awsdms_status
        if key_type == "primary-key" and table.primary_key:
            # D: the prefix is PartitionIncludeSchemaTable's, and of this type only
            prefix = f"{table}." if self.settings.partition_include_schema_table else ""
            positions = [names.index(name) for name in table.primary_key if name in names]
            return key_type, columns_key(positions, prefix, str(table))
        if key_type == "attribute-name" and key_name in names:
            return key_type, columns_key([names.index(key_name)], "", str(table))
        if key_type == "constant" and key_name:
            return key_type, constant_key(key_name)
        return ("transaction-id", transaction_key) if key_type == "transaction-id" else whole_table


class Metadata:
    """Writes an envelope from its metadata to its end.

    O: transaction-id is there in any case, but not in loads; what else is known of the transaction comes with
    IncludeTransactionDetails, and the previous record is missing in the first one after the task's start.
    """

    def __init__(
        self, table: SourceTable, settings: MessageSettings, layout: Layout, operation: str, key_type: str
    ) -> None:
        def name(key: str) -> str:
            return layout.member(2, key)

        def texts(pairs: Mapping[str, str]) -> str:
            return ",".join([name(key) + json_string(value) for key, value in pairs.items()])

        self.has_details = settings.include_transaction_details
        self.has_key = settings.include_partition_value and key_type != "schema-table"  # D
        self.begin = layout.member(1, "metadata") + "{" + name("timestamp") + '"'
        kind = {"record-type": "data", "operation": operation, "partition-key-type": key_type}
        self.kind = '",' + texts(kind) + ("," + name("partition-key-value") + '"' if self.has_key else "")
        source = {"schema-name": table.schema, "table-name": table.name}
        self.source = ('",' if self.has_key else ",") + texts(source)
        self.transaction, self.record = "," + name("transaction-id"), "," + name("transaction-record-id")
        self.former_transaction = "," + name("prev-transaction-id")
        self.former_record = "," + name("prev-transaction-record-id")
        self.committed = "," + name("commit-timestamp") + '"'
        self.position = '",' + name("stream-position") + '"'
        self.end = layout.close(1) + layout.close(0) + layout.end

    def write(
        self,
        published_at: str,
        key: str,
        transaction: Transaction | None = None,
        record_id: int = 0,
        previous: tuple[int, int] | None = None,
        position: str = "",
    ) -> bytes:
        text = f"{self.begin}{published_at}{self.kind}{key if self.has_key else ''}{self.source}"
        if transaction is None:
            return f"{text}{self.end}".encode()
        if not self.has_details:
            return f"{text}{self.transaction}{transaction.id}{self.end}".encode()
        former = ""
        if previous is not None:
            former = f"{self.former_transaction}{previous[0]}{self.former_record}{previous[1]}"
        where = f"{self.position}{position}" if position else ""  # O: not of DMS's own tables
        return (
            f"{text}{self.transaction}{transaction.id}{self.record}{record_id}{former}"
            f'{self.committed}{transaction.committed_at}{where}"{self.end}'
        ).encode()


# --------------------------------------------------------------------------------------------------------
# DMS's own tables, with their columns as observed
# --------------------------------------------------------------------------------------------------------


def own_column(name: str, type_name: str) -> Column:
    if type_name.startswith("varchar"):
        return Column(name, type_name, "varchar", modifier=int(type_name[8:-1]) + 4)
    return Column(name, type_name, type_name)


def own_table(
    name: str, columns: Mapping[str, str], key: Sequence[str], required: Sequence[str]
) -> SourceTable:
    return SourceTable(
        0,
        "",
        name,
        tuple(own_column(*entry) for entry in columns.items()),
        frozenset(columns) - {*required},
        tuple(key),
    )


NAME, TASK = "varchar(128)", ("server_name", "task_name")
EXCEPTIONS = {"TASK_NAME": NAME, "TABLE_OWNER": NAME, "TABLE_NAME": NAME, "ERROR_TIME": "timestamp"}
EXCEPTIONS |= {"STATEMENT": "text", "ERROR": "text"}
APPLY_EXCEPTIONS = own_table("awsdms_apply_exceptions", EXCEPTIONS, (), (*EXCEPTIONS,))
STATUS = own_table(
    "awsdms_status",
    {
        "server_name": NAME,
        "task_name": NAME,
        "task_status": "varchar(32)",
        "status_time": "timestamp",
        "pending_changes": "int8",
        "disk_swap_size": "int8",
        "task_memory": "int8",
        "source_current_position": NAME,
        "source_current_timestamp": "timestamp",
        "source_tail_position": NAME,
        "source_tail_timestamp": "timestamp",
        "source_timestamp_applied": "timestamp",
    },
    TASK,
    TASK,
)
SUSPENDED_KEY = (*TASK, "table_owner", "table_name")
SUSPENDED = {**dict.fromkeys(SUSPENDED_KEY, NAME), "suspend_reason": "varchar(32)"}
SUSPENDED |= {"suspend_timestamp": "timestamp"}
SUSPENDED_TABLES = own_table("awsdms_suspended_tables", SUSPENDED, SUSPENDED_KEY, SUSPENDED_KEY)
SUSPENDED_OF_TASK = own_table("awsdms_suspended_tables", dict.fromkeys(TASK, NAME), TASK, TASK)


class OwnMessages:
    """Messages of DMS's own tables.

    Their schema is "" and their partition key is ".awsdms_status" (O). number counts the rows since the start
    of the changes, as DMS does in place of transactions; 0, before that, leaves transactions out (O).
    """

    def __init__(
        self, settings: MessageSettings, rendering: Rendering, *, server_name: str = "localhost"
    ) -> None:
        def messages(table: SourceTable) -> TableMessages:
            return TableMessages(
                table, settings, rendering, load_key="schema-table", change_key="schema-table"
            )

        self.task = [server_name.encode(), settings.task_id.encode()]
        self.exceptions, self.status = messages(APPLY_EXCEPTIONS), messages(STATUS)
        self.suspended, self.suspended_of_task = messages(SUSPENDED_TABLES), messages(SUSPENDED_OF_TASK)

    def create_exceptions(self, published_at: str) -> Message:
        """awsdms_apply_exceptions: at each start, whatever ControlTablesSettings say (O)."""
        return self.exceptions.create_table(published_at)

    def create_status(self, published_at: str) -> Message:
        return self.status.create_table(published_at)

    def create_suspended_tables(self, published_at: str) -> Message:
        return self.suspended.create_table(published_at)

    def status_row(
        self,
        task_status: str,
        published_at: str,
        *,
        pending_changes: int = 0,
        position: str = "",
        number: int = 0,
    ) -> Message:
        """task_status: NOT RUNNING, FULL LOAD, CHANGE PROCESSING (D). One a start and one a minute (O)."""
        at, where = sql_time(published_at), position.encode()
        counts = [b"%d" % pending_changes, b"0", b"0"]
        values = [*self.task, task_status.encode(), at, *counts, where, at, where, at, at]
        old = [*self.task, *[None] * (len(values) - len(self.task))]
        return own_change(self.status, "update", values, old, published_at, number)

    def clear_suspended_tables(self, published_at: str, *, number: int = 0) -> Message:
        """O: at the start, a delete that names the task alone."""
        return own_change(self.suspended_of_task, "delete", None, self.task, published_at, number)

    def suspended_table_row(
        self, schema: str, table: str, reason: str, published_at: str, *, number: int = 0
    ) -> Message:
        """The reason is cut at the 32 characters that its column has. The row as a whole: I."""
        names = [schema.encode(), table.encode(), reason[:32].encode()]
        values = [*self.task, *names, sql_time(published_at)]
        return own_change(self.suspended, "insert", values, None, published_at, number)


def own_change(
    messages: TableMessages,
    operation: Operation,
    new: Sequence[Value] | None,
    old: Sequence[Value] | None,
    published_at: str,
    number: int,
) -> Message:
    message = messages.change(
        operation,
        new,
        old,
        transaction=Transaction(number, published_at) if number else None,
        record_id=1,
        previous=(number - 1, 1) if number > 1 else None,
        position="",
        published_at=published_at,
    )
    assert message is not None  # these tables have a primary key
    return message


def sql_time(published_at: str) -> bytes:
    """To the second (O): 2026-03-01 09:16:00."""
    return f"{published_at[:10]} {published_at[11:19]}".encode()
