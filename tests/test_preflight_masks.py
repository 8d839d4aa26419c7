"""MASKED_COLUMNS against the catalog: to hide nothing, or too much, is a blocker; a broken join a warning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from local_run.postgres import Server, start_postgres
from provision.finding import Finding, Level
from provision.masks import read_masks
from provision.preflight import check_database
from provision.replication_task import table_patterns

BLOCKER, WARNING, OK = Level.BLOCKER, Level.WARNING, Level.OK
SHOP = """
CREATE TABLE client (id int PRIMARY KEY, email text, "e.mail" text);
CREATE TABLE loan (id int PRIMARY KEY, client_id int REFERENCES client (id), note text);
CREATE TABLE mail (email text, sent date);
CREATE TABLE secret (id int PRIMARY KEY, email text);
CREATE VIEW people AS SELECT email FROM client;
CREATE TABLE visit (id int, day date, email text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE visit_2025 PARTITION OF visit FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE visit_2026 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE SCHEMA sales;
CREATE TABLE sales."Order" (id int PRIMARY KEY, "Buyer" text);
"""
TABLES = "public.client,public.loan,public.mail,public.visit%,sales.%"


@pytest.fixture(scope="module")
def shop() -> Iterator[Server]:
    with start_postgres() as server:
        connection = psycopg2.connect(**parameters(server))
        connection.autocommit = True
        connection.cursor().execute(SHOP)
        connection.close()
        yield server


def parameters(server: Server) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": server.port, "user": "postgres", "dbname": "postgres"}


def check(server: Server, masks: str, tables: str = TABLES) -> list[Finding]:
    found = check_database(
        parameters(server), table_patterns(tables), "3.5.4", requires_tls=False, masks=read_masks(masks)
    )
    return [finding for finding in found if finding.check.startswith("masked-")]


@pytest.mark.parametrize(
    ("masks", "count"),
    [
        ("public.client.email=sha256", "1 column of 1 table"),
        ('public.client."e.mail"=drop,public.client.email=null', "2 columns of 1 table"),
        ('sales."Order"."Buyer"=sha256', "1 column of 1 table"),
        ("public.client.id=sha256,public.loan.client_id=sha256", "2 columns of 2 tables"),
        ("public.visit_2025.email=null,public.visit_2026.email=null", "2 columns of 2 tables"),
    ],
    ids=["text", "two actions", "quoted", "both sides of a foreign key", "all partitions"],
)
def test_masks_of_columns_that_there_are_are_counted(shop: Server, masks: str, count: str) -> None:
    assert check(shop, masks) == [Finding("masked-columns", OK, "MASKED_COLUMNS", count)]


def test_without_masks_nothing_is_said_of_them(shop: Server) -> None:
    assert check(shop, "") == []


@pytest.mark.parametrize(
    ("masks", "subject", "found", "fix"),
    [
        (
            "public.clients.email=sha256",
            "public.clients",
            "no such table; nearest: public.client",
            "MASKED_COLUMNS: public.client.email=sha256",
        ),
        (
            "sales.order.id=sha256",
            "sales.order",
            "no such table; nearest: sales.Order",
            'MASKED_COLUMNS: sales."Order".id=sha256',
        ),
        (
            "warehouse.stock.place=null",
            "warehouse.stock",
            "no such table",
            "SELECT schemaname, tablename FROM pg_tables;",
        ),
        (
            "public.secret.email=sha256",
            "public.secret",
            "TABLES does not select it",
            "TABLES: public.secret; or MASKED_COLUMNS without it",
        ),
        (
            "public.people.email=sha256",
            "public.people",
            "a view, no table",
            "MASKED_COLUMNS with the tables below it",
        ),
        (
            "public.visit.email=sha256",
            "public.visit",
            "partitioned: its rows come under the names of its partitions",
            "MASKED_COLUMNS with each partition of public.visit, and with each that is made later",
        ),
        (
            "public.client.emial=null",
            "public.client.emial",
            "no such column; nearest: email",
            "MASKED_COLUMNS: public.client.email=null",
        ),
        (
            'sales."Order".buyer=drop',
            "sales.Order.buyer",
            "no such column; nearest: Buyer",
            'MASKED_COLUMNS: sales."Order"."Buyer"=drop',
        ),
        (
            "public.client.iban=null",
            "public.client.iban",
            "no such column",
            "MASKED_COLUMNS without it",
        ),
        (
            "public.mail.email=sha256",
            "public.mail.email",
            "a LOB of a table without primary key, which DMS does not send",
            "MASKED_COLUMNS without it",
        ),
        (
            "public.client.id=null",
            "public.client.id",
            "a column of the primary key, masked with null",
            "MASKED_COLUMNS: public.client.id=sha256",
        ),
        (
            "public.client.id=drop",
            "public.client.id",
            "a column of the primary key, masked with drop",
            "MASKED_COLUMNS: public.client.id=sha256",
        ),
    ],
    ids=[
        *("table", "table in another case", "no table like it", "table not selected", "view", "partitioned"),
        *("column", "column in another case", "no column like it", "LOB without a key", "key null"),
        "key dropped",
    ],
)
def test_a_mask_that_hides_nothing_or_too_much_is_a_blocker(
    shop: Server, masks: str, subject: str, found: str, fix: str
) -> None:
    (finding,) = check(shop, masks)

    assert (finding.check, finding.level, finding.subject) == ("masked-columns", BLOCKER, subject)
    assert (finding.found, finding.fix) == (found, fix)
    assert finding.meaning


@pytest.mark.parametrize(
    ("masks", "subject", "other"),
    [
        ("public.client.id=sha256", "public.loan.client_id", "public.client.id"),
        ("public.loan.client_id=sha256", "public.client.id", "public.loan.client_id"),
    ],
    ids=["the key", "the column that refers to it"],
)
def test_a_foreign_key_of_which_one_side_is_hashed_is_a_warning(
    shop: Server, masks: str, subject: str, other: str
) -> None:
    (finding,) = check(shop, masks)

    assert (finding.check, finding.level, finding.subject) == ("masked-foreign-key", WARNING, subject)
    assert finding.found == f"not masked with sha256, and {other}, which a foreign key ties it to, is"
    assert finding.fix == f"MASKED_COLUMNS: {subject}=sha256"


def test_a_foreign_key_to_a_table_that_is_not_selected_is_joined_by_nobody(shop: Server) -> None:
    (finding,) = check(shop, "public.loan.client_id=sha256", "public.loan")

    assert finding.level is OK


def test_a_partition_that_is_not_masked_as_another_one_is_a_warning(shop: Server) -> None:
    (finding,) = check(shop, "public.visit_2025.email=sha256")

    assert (finding.check, finding.level) == ("masked-relatives", WARNING)
    assert (finding.subject, finding.found) == (
        "public.visit_2026.email",
        "not masked, and that of public.visit_2025 is",
    )
    assert finding.fix == "MASKED_COLUMNS: public.visit_2026.email=sha256"


def test_all_faults_of_masks_are_found_at_once(shop: Server) -> None:
    found = check(shop, "public.clients.a=null,public.client.b=null,public.loan.client_id=sha256")

    assert [(finding.level, finding.subject) for finding in found] == [
        (BLOCKER, "public.clients"),
        (BLOCKER, "public.client.b"),
        (WARNING, "public.client.id"),
    ]
