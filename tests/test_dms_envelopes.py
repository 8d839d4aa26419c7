"""The messages of the stand-in for DMS, byte for byte, and that the Lambda lands every one of them.

Shapes are those of public captures of streams that DMS wrote from PostgreSQL; no row is.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from events import Context, MemoryS3, event
from hypothesis import given
from hypothesis import strategies as st

import lambda_function
from local_run.replication.envelopes import (
    UNCHANGED,
    Message,
    MessageSettings,
    OwnMessages,
    TableMessages,
    Transaction,
)
from local_run.replication.tables import SourceTable
from local_run.replication.values import ValueFault
from provision.database import Column
from provision.dms_types import Rendering

TASK = "QX5DLEND7TASKW3J6ZP2MCHAIN"
AT = "2026-03-01T09:16:10.500120Z"
POSITION = "00000001/3A0041B8.3.00000001/3A0041B8"
TRANSACTION = Transaction(5120, "2026-03-01T09:16:10.480010Z")

PLAYER = SourceTable(
    16391,
    "public",
    "player",
    (
        Column("id", "bigint", "int8"),
        Column("name", "character varying(80)", "varchar", modifier=84),
        Column("score", "integer", "int4"),
        Column("settings", "jsonb", "jsonb"),
    ),
    frozenset(("name", "score", "settings")),
    ("id",),
)
KEYLESS = SourceTable(16392, "public", "event", PLAYER.columns, frozenset(("id", "name")), ())
LINE = SourceTable(
    16393,
    "shop",
    "order_line",
    (
        Column("note", "text", "text"),
        Column("line", "integer", "int4"),
        Column("order_id", "text", "varchar"),
    ),
    frozenset(("note",)),
    ("order_id", "line"),
)

MINIMAL = MessageSettings(TASK, message_format="json-unformatted")
FULL = MessageSettings(
    TASK,
    message_format="json-unformatted",
    include_transaction_details=True,
    include_partition_value=True,
    partition_include_schema_table=True,
    include_control_details=True,
    include_null_and_empty=True,
    before_image_field="before-image",
)
PRETTY = MessageSettings(**{**vars(FULL), "message_format": "json"})

# The end of every message of FULL about a change of the player 8.
TAIL = (
    '"partition-key-type":"primary-key","partition-key-value":"public.player.8","schema-name":"public",'
    '"table-name":"player","transaction-id":5120,"transaction-record-id":1,'
    '"commit-timestamp":"2026-03-01T09:16:10.480010Z",'
    '"stream-position":"00000001/3A0041B8.3.00000001/3A0041B8"}}\n'
)
HEAD = '"metadata":{"timestamp":"2026-03-01T09:16:10.500120Z","record-type":"data",'


def messages(
    table: SourceTable = PLAYER,
    settings: MessageSettings = FULL,
    rendering: Rendering | None = None,
    key: str = "primary-key",
    key_name: str = "",
) -> TableMessages:
    rendering = rendering or Rendering()
    return TableMessages(table, settings, rendering, load_key=key, change_key=key, key_name=key_name)


def change(
    writer: TableMessages, operation: Any, new: Any, old: Any = None, **changes: Any
) -> Message | None:
    given: dict[str, Any] = {
        "transaction": TRANSACTION,
        "record_id": 1,
        "previous": None,
        "position": POSITION,
        "published_at": AT,
    }
    return writer.change(operation, new, old, **{**given, **changes})


def made(message: Message | None) -> Message:
    assert message is not None
    return message


def read(message: Message | None) -> dict[str, Any]:
    envelope: dict[str, Any] = json.loads(made(message).payload)
    return envelope


LIN = [b"8", b"Lin", b"3", b'{"lang": "et"}']

# Rows and changes, as they are on the stream --------------------------------------------------------------


def test_a_loaded_row_says_nothing_of_transactions() -> None:
    message = messages().load(LIN, AT)
    assert message.partition_key == "public.player.8"
    assert message.payload.decode() == (
        '{"data":{"id":8,"name":"Lin","score":3,"settings":"{\\"lang\\": \\"et\\"}"},'
        + HEAD
        + '"operation":"load","partition-key-type":"primary-key","partition-key-value":"public.player.8",'
        '"schema-name":"public","table-name":"player"}}\n'
    )


def test_an_insert_holds_the_row() -> None:
    message = made(change(messages(), "insert", LIN))
    assert message.partition_key == "public.player.8"
    assert message.payload.decode() == (
        '{"data":{"id":8,"name":"Lin","score":3,"settings":"{\\"lang\\": \\"et\\"}"},'
        + HEAD
        + '"operation":"insert",'
        + TAIL
    )


def test_an_update_holds_the_whole_row_and_an_empty_before_image() -> None:
    message = made(change(messages(), "update", [b"8", b"Lin", None, UNCHANGED]))
    assert message.payload.decode() == (
        '{"data":{"id":8,"name":"Lin","score":null,"settings":null},"before-image":{},'
        + HEAD
        + '"operation":"update",'
        + TAIL
    )


def test_an_update_of_the_key_shows_the_old_key_in_the_before_image() -> None:
    message = made(change(messages(), "update", LIN, [b"7", None, None, None]))
    assert message.partition_key == "public.player.8"
    assert message.payload.decode() == (
        '{"data":{"id":8,"name":"Lin","score":3,"settings":"{\\"lang\\": \\"et\\"}"},"before-image":{"id":7},'
        + HEAD
        + '"operation":"update",'
        + TAIL
    )


def test_a_delete_holds_the_key_and_nulls() -> None:
    message = made(change(messages(), "delete", None, [b"8", None, None, None]))
    assert message.payload.decode() == (
        '{"data":{"id":8,"name":null,"score":null,"settings":null},' + HEAD + '"operation":"delete",' + TAIL
    )


def test_a_change_with_dms_defaults_has_the_transaction_only() -> None:
    message = made(
        change(messages(settings=MINIMAL, key="schema-table"), "delete", None, [b"8", None, None, None])
    )
    assert message.partition_key == "public.player"
    assert message.payload.decode() == (
        '{"data":{"id":8},' + HEAD + '"operation":"delete","partition-key-type":"schema-table",'
        '"schema-name":"public","table-name":"player","transaction-id":5120}}\n'
    )


def test_the_previous_record_is_named_but_in_the_first_record() -> None:
    message = made(change(messages(), "insert", LIN, record_id=3, previous=(5119, 2)))
    assert (
        '"transaction-id":5120,"transaction-record-id":3,"prev-transaction-id":5119,'
        '"prev-transaction-record-id":2,"commit-timestamp":"2026-03-01T09:16:10.480010Z","stream-position":'
    ) in message.payload.decode()


def test_json_is_indented_with_tabs() -> None:
    message = made(change(messages(settings=PRETTY), "update", [b"8", b"Lin", None, None]))
    assert message.payload.decode() == (
        '{\n\t"data":\t{\n\t\t"id":\t8,\n\t\t"name":\t"Lin",\n\t\t"score":\tnull,\n\t\t"settings":\tnull\n\t},\n'
        '\t"before-image":\t{\n\t},\n'
        '\t"metadata":\t{\n'
        '\t\t"timestamp":\t"2026-03-01T09:16:10.500120Z",\n'
        '\t\t"record-type":\t"data",\n'
        '\t\t"operation":\t"update",\n'
        '\t\t"partition-key-type":\t"primary-key",\n'
        '\t\t"partition-key-value":\t"public.player.8",\n'
        '\t\t"schema-name":\t"public",\n'
        '\t\t"table-name":\t"player",\n'
        '\t\t"transaction-id":\t5120,\n'
        '\t\t"transaction-record-id":\t1,\n'
        '\t\t"commit-timestamp":\t"2026-03-01T09:16:10.480010Z",\n'
        '\t\t"stream-position":\t"00000001/3A0041B8.3.00000001/3A0041B8"\n'
        "\t}\n"
        "}"
    )


def test_null_and_empty_are_left_out_without_include_null_and_empty() -> None:
    writer = messages(settings=MINIMAL)
    assert read(writer.load([b"8", b"", None, b"{}"], AT))["data"] == {"id": 8, "settings": "{}"}
    assert read(change(writer, "update", [b"8", None, b"0", UNCHANGED]))["data"] == {"id": 8, "score": 0}


def test_before_image_is_missing_without_the_setting_and_in_other_operations() -> None:
    old = [b"7", None, None, None]
    assert "before-image" not in read(change(messages(settings=MINIMAL), "update", LIN, old))
    assert "before-image" not in read(change(messages(), "insert", LIN))
    assert "before-image" not in read(change(messages(), "delete", None, old))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("pk-only", {"id": 8}),
        ("non-lob", {"id": 8, "name": "Li", "score": 2}),
        ("all", {"id": 8, "name": "Li", "score": 2, "settings": "{}"}),
    ],
)
def test_the_filter_chooses_columns_of_the_before_image_under_replica_identity_full(
    wanted: str, expected: dict[str, Any]
) -> None:
    settings = MessageSettings(**{**vars(FULL), "before_image_filter": wanted, "before_image_field": "BI"})
    envelope = read(change(messages(settings=settings), "update", LIN, [b"8", b"Li", b"2", b"{}"]))
    assert envelope["BI"] == expected


def test_a_delete_under_replica_identity_full_holds_the_old_row_inferred() -> None:
    assert read(change(messages(), "delete", None, LIN))["data"] == {
        "id": 8,
        "name": "Lin",
        "score": 3,
        "settings": '{"lang": "et"}',
    }


# Tables without primary key -------------------------------------------------------------------------------


def test_a_table_without_key_loses_its_lobs() -> None:
    writer = messages(KEYLESS)
    assert writer.columns_sent == ("id", "name", "score")
    assert read(writer.load(LIN, AT))["data"] == {"id": 8, "name": "Lin", "score": 3}
    control = read(writer.create_table(AT))["control"]
    assert control == {
        "table-def": {
            "columns": {
                "id": {"type": "INT64", "nullable": True},
                "name": {"type": "STRING", "length": 80, "nullable": True},
                "score": {"type": "INT32", "nullable": False},
            }
        }
    }


def test_a_table_without_key_loses_its_updates_and_deletes() -> None:
    writer = messages(KEYLESS)
    assert change(writer, "update", LIN, LIN) is None
    assert change(writer, "delete", None, LIN) is None
    message = made(change(writer, "insert", LIN))
    assert message.partition_key == "public.event"
    assert read(message)["metadata"]["partition-key-type"] == "schema-table"
    assert "partition-key-value" not in read(message)["metadata"]


def test_a_delete_of_which_the_log_carries_nothing_is_ignored() -> None:
    assert change(messages(), "delete", None, None) is None


def test_postgis_columns_do_not_arrive() -> None:
    columns = (PLAYER.columns[0], Column("place", "geometry", "geometry"))
    writer = messages(SourceTable(1, "public", "shop", columns, frozenset(), ("id",)))
    assert read(writer.load([b"1", b"0101"], AT))["data"] == {"id": 1}


def test_a_table_without_columns_has_rows() -> None:
    writer = messages(SourceTable(1, "public", "empty", (), frozenset(), ()))
    assert writer.load([], AT).payload.startswith(b'{"data":{},"metadata":{')


# Partition keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "key_name", "expected", "kind"),
    [
        ("primary-key", "", ("public.player.8", "public.player.8"), "primary-key"),
        ("schema-table", "", ("public.player", None), "schema-table"),
        ("attribute-name", "name", ("Lin", "Lin"), "attribute-name"),
        ("constant", "all of it", ("all of it", "all of it"), "constant"),
        ("transaction-id", "", ("5120", "5120"), "transaction-id"),
    ],
)
def test_the_partition_key_is_of_the_type_that_was_asked_for(
    key: str, key_name: str, expected: tuple[str, str | None], kind: str
) -> None:
    message = made(change(messages(key=key, key_name=key_name), "insert", LIN))
    metadata = read(message)["metadata"]
    assert (message.partition_key, metadata.get("partition-key-value")) == expected
    assert metadata["partition-key-type"] == kind


def test_loads_and_changes_may_have_keys_of_different_types() -> None:
    writer = TableMessages(PLAYER, FULL, Rendering(), load_key="primary-key", change_key="schema-table")
    assert writer.load(LIN, AT).partition_key == "public.player.8"
    assert made(change(writer, "insert", LIN)).partition_key == "public.player"


def test_a_key_is_the_bare_value_without_partition_include_schema_table() -> None:
    assert messages(settings=MINIMAL).load(LIN, AT).partition_key == "8"


def test_a_composite_key_is_joined_by_dots_in_its_order_inferred() -> None:
    message = messages(LINE).load([None, b"2", b'A"1\\'], AT)
    assert message.partition_key == 'shop.order_line.A"1\\.2'
    assert read(message)["metadata"]["partition-key-value"] == 'shop.order_line.A"1\\.2'


def test_a_key_too_long_for_kinesis_is_a_digest_inferred() -> None:
    message = messages(LINE).load([None, b"2", b"x" * 300], AT)
    assert len(message.partition_key) == 64
    assert read(message)["metadata"]["partition-key-value"] == "shop.order_line." + "x" * 300 + ".2"


def test_a_key_that_is_empty_becomes_the_table_inferred() -> None:
    table = SourceTable(1, "public", "code", (Column("c", "varchar", "varchar"),), frozenset(), ("c",))
    assert messages(table, settings=MINIMAL).load([b""], AT).partition_key == "public.code"


# Control records ------------------------------------------------------------------------------------------


def test_create_table_holds_the_definition() -> None:
    message = messages().create_table(AT)
    assert message.partition_key == "QX5DLEND7TASKW3J6ZP2MCHAIN.public.player"
    assert message.payload.decode() == (
        '{"control":{"table-def":{"columns":{"id":{"type":"INT64","nullable":false},'
        '"name":{"type":"STRING","length":80,"nullable":true},"score":{"type":"INT32","nullable":true},'
        '"settings":{"type":"STRING","nullable":true}},"primary-key":["id"]}},'
        '"metadata":{"timestamp":"2026-03-01T09:16:10.500120Z","record-type":"control",'
        '"operation":"create-table","partition-key-type":"task-id",'
        '"partition-key-value":"QX5DLEND7TASKW3J6ZP2MCHAIN","schema-name":"public","table-name":"player"}}\n'
    )


def test_drop_table_holds_nothing() -> None:
    assert messages().drop_table(AT).payload.decode() == (
        '{"control":{},"metadata":{"timestamp":"2026-03-01T09:16:10.500120Z","record-type":"control",'
        '"operation":"drop-table","partition-key-type":"task-id",'
        '"partition-key-value":"QX5DLEND7TASKW3J6ZP2MCHAIN","schema-name":"public","table-name":"player"}}\n'
    )


def test_a_control_record_without_details_has_metadata_only() -> None:
    assert messages(settings=MINIMAL).create_table(AT).payload.decode() == (
        '{"metadata":{"timestamp":"2026-03-01T09:16:10.500120Z","record-type":"control",'
        '"operation":"create-table","partition-key-type":"task-id","schema-name":"public",'
        '"table-name":"player"}}\n'
    )


def test_an_altered_table_shows_its_new_definition_inferred() -> None:
    envelope = read(messages(LINE).alter("add-column", AT))
    assert envelope["metadata"]["operation"] == "add-column"
    assert envelope["control"]["table-def"]["primary-key"] == ["order_id", "line"]


def test_a_pretty_control_record_is_as_cjson_prints_it() -> None:
    text = messages(LINE, PRETTY).create_table(AT).payload.decode()
    assert text.startswith(
        '{\n\t"control":\t{\n\t\t"table-def":\t{\n\t\t\t"columns":\t{\n\t\t\t\t"note":\t{\n'
    )
    assert '\t\t\t"primary-key":\t["order_id", "line"]\n\t\t}\n\t},\n\t"metadata":\t{\n' in text


# DMS's own tables -----------------------------------------------------------------------------------------


def test_own_tables_have_no_schema() -> None:
    own = OwnMessages(FULL, Rendering(), server_name="dms")
    created = [
        own.create_exceptions(AT),
        own.create_status(AT),
        own.create_suspended_tables(AT),
    ]
    assert [message.partition_key for message in created] == [
        "QX5DLEND7TASKW3J6ZP2MCHAIN..awsdms_apply_exceptions",
        "QX5DLEND7TASKW3J6ZP2MCHAIN..awsdms_status",
        "QX5DLEND7TASKW3J6ZP2MCHAIN..awsdms_suspended_tables",
    ]
    assert {read(message)["metadata"]["schema-name"] for message in created} == {""}


def test_the_table_of_exceptions_keeps_its_lobs_without_a_key() -> None:
    control = read(OwnMessages(FULL, Rendering()).create_exceptions(AT))["control"]
    assert control == {
        "table-def": {
            "columns": {
                "TASK_NAME": {"type": "STRING", "length": 128, "nullable": False},
                "TABLE_OWNER": {"type": "STRING", "length": 128, "nullable": False},
                "TABLE_NAME": {"type": "STRING", "length": 128, "nullable": False},
                "ERROR_TIME": {"type": "TIMESTAMP", "nullable": False},
                "STATEMENT": {"type": "STRING", "nullable": False},
                "ERROR": {"type": "STRING", "nullable": False},
            }
        }
    }


def test_a_status_row_before_the_changes_has_no_transaction() -> None:
    message = OwnMessages(FULL, Rendering(), server_name="dms").status_row("FULL LOAD", AT)
    assert message.partition_key == ".awsdms_status"
    assert message.payload.decode() == (
        '{"data":{"server_name":"dms","task_name":"QX5DLEND7TASKW3J6ZP2MCHAIN","task_status":"FULL LOAD",'
        '"status_time":"2026-03-01T09:16:10Z","pending_changes":0,"disk_swap_size":0,"task_memory":0,'
        '"source_current_position":"","source_current_timestamp":"2026-03-01T09:16:10Z",'
        '"source_tail_position":"","source_tail_timestamp":"2026-03-01T09:16:10Z",'
        '"source_timestamp_applied":"2026-03-01T09:16:10Z"},'
        '"before-image":{"server_name":"dms","task_name":"QX5DLEND7TASKW3J6ZP2MCHAIN"},'
        '"metadata":{"timestamp":"2026-03-01T09:16:10.500120Z","record-type":"data","operation":"update",'
        '"partition-key-type":"schema-table","schema-name":"","table-name":"awsdms_status"}}\n'
    )


def test_a_later_status_row_has_a_transaction_of_its_own_and_no_position() -> None:
    own = OwnMessages(FULL, Rendering())
    message = own.status_row("CHANGE PROCESSING", AT, pending_changes=4, position=POSITION, number=2)
    envelope = read(message)
    assert (envelope["data"]["pending_changes"], envelope["data"]["source_current_position"]) == (4, POSITION)
    assert message.payload.decode().endswith(
        '"table-name":"awsdms_status","transaction-id":2,"transaction-record-id":1,"prev-transaction-id":1,'
        '"prev-transaction-record-id":1,"commit-timestamp":"2026-03-01T09:16:10.500120Z"}}\n'
    )


def test_the_list_of_suspended_tables_is_cleared_with_the_task_alone() -> None:
    message = OwnMessages(FULL, Rendering(), server_name="dms").clear_suspended_tables(AT)
    assert message.payload.decode() == (
        '{"data":{"server_name":"dms","task_name":"QX5DLEND7TASKW3J6ZP2MCHAIN"},'
        '"metadata":{"timestamp":"2026-03-01T09:16:10.500120Z","record-type":"data","operation":"delete",'
        '"partition-key-type":"schema-table","schema-name":"","table-name":"awsdms_suspended_tables"}}\n'
    )


def test_a_suspended_table_is_named_with_the_reason() -> None:
    own = OwnMessages(FULL, Rendering())
    row = read(
        own.suspended_table_row("public", "player", "a reason of more than 32 characters", AT, number=5)
    )
    assert (row["data"]["table_owner"], row["data"]["table_name"]) == ("public", "player")
    assert row["data"]["suspend_reason"] == "a reason of more than 32 charact"
    assert row["data"]["suspend_timestamp"] == "2026-03-01T09:16:10Z"
    assert row["metadata"]["operation"] == "insert"


# Faults, and what the Lambda makes of it all ---------------------------------------------------------------


def test_a_value_that_can_not_be_carried_is_a_fault_of_its_column() -> None:
    writer = messages(rendering=Rendering(lob_max_size_kb=1, fail_on_lob_truncation=True))
    with pytest.raises(ValueFault, match="column 'settings'"):
        writer.load([b"8", b"Lin", b"3", b"x" * 2000], AT)
    with pytest.raises(ValueFault, match="column 'name'"):
        change(writer, "insert", [b"8", b"\xff", b"3", None])


ODD = 'ta"b\\le%s\t'
ODD_TABLE = SourceTable(
    1,
    'sch"ema',
    ODD,
    (Column(ODD, "bigint", "int8"), Column("%b ö", "text", "text")),
    frozenset(),
    (ODD,),
)


def every_shape(settings: MessageSettings) -> list[Message]:
    """A message of every sort, for tables of every sort."""
    own = OwnMessages(settings, Rendering())
    shapes: list[Message | None] = [
        own.create_exceptions(AT),
        own.create_status(AT),
        own.create_suspended_tables(AT),
        own.clear_suspended_tables(AT),
        own.status_row("NOT RUNNING", AT),
        own.status_row("CHANGE PROCESSING", AT, position=POSITION, number=1),
        own.suspended_table_row("public", "player", "why", AT, number=2),
    ]
    for table, row in (
        (PLAYER, LIN),
        (KEYLESS, LIN),
        (LINE, [b"", b"2", b"\\"]),
        (ODD_TABLE, [b"1", b"\x01"]),
    ):
        for key in ("primary-key", "schema-table", "transaction-id"):
            writer = messages(table, settings, key=key)
            shapes += [writer.drop_table(AT), writer.create_table(AT), writer.alter("drop-column", AT)]
            shapes += [writer.load(row, AT), change(writer, "insert", row, previous=(1, 1))]
            shapes += [change(writer, "update", row, old) for old in (None, row)]
            shapes += [change(writer, "update", [*row[:-1], UNCHANGED]), change(writer, "delete", None, row)]
    shapes.append(messages(SourceTable(1, "public", "empty", (), frozenset(), ()), settings).load([], AT))
    return [shape for shape in shapes if shape is not None]


@pytest.mark.parametrize("settings", [MINIMAL, FULL, PRETTY], ids=["minimal", "full", "pretty"])
def test_the_lambda_lands_every_shape(settings: MessageSettings) -> None:
    s3 = MemoryS3()
    shapes = every_shape(settings)

    batch, _ = lambda_function.land(
        event(*[shape.payload for shape in shapes]),
        lambda_function.Settings(s3_bucket="landing", log_level="ERROR"),
        lambda _: s3,
        lambda: Context().get_remaining_time_in_millis() / 1000,
    )

    own_and_control = [shape for shape in shapes if is_for_control(shape)]
    assert batch.rows_in("quarantine/") == 0
    assert batch.rows_in("control/") == len(own_and_control)
    assert batch.rows_in("changes/") == len(shapes) - len(own_and_control)


def is_for_control(shape: Message) -> bool:
    metadata = read(shape)["metadata"]
    return bool(metadata["record-type"] == "control" or metadata["table-name"].startswith("awsdms_"))


@pytest.mark.parametrize("settings", [FULL, PRETTY], ids=["unformatted", "pretty"])
@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), text=st.text())
def test_any_name_and_any_text_are_read_back(settings: MessageSettings, name: str, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode().replace("\0", "")
    table = SourceTable(1, name, name, (Column(name, "text", "varchar"),), frozenset(), (name,))

    message = messages(table, settings, Rendering(unbounded_varchar_bytes=10**6)).load([text.encode()], AT)

    envelope = read(message)
    assert envelope["data"] == {name: text}
    assert (envelope["metadata"]["schema-name"], envelope["metadata"]["table-name"]) == (name, name)
    assert envelope["metadata"]["partition-key-value"] == f"{name}.{name}.{text}"
    assert 0 < len(message.partition_key) <= 256
