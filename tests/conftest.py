from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from events import Context
from moto import mock_aws

import lambda_function
from local_run.aws import emulated_aws

BUCKET = "landing"
# Begun first, in this order: what takes long and begins last leaves one core idle.
LONG_FILES = (
    "test_local_run",
    "test_chain",
    "test_local_chain",
    "test_readme",
    "test_deployer",
    "test_local_masks",
    "test_runtime",
    "test_setup_dms",
    "test_deploy",
    "test_lake_evolution",
    "test_lake_compact",
    "test_delivery",
)
SETTINGS = (*lambda_function.Settings.keys().values(), *lambda_function.CHAIN_SETTINGS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.stem
        return LONG_FILES.index(name) if name in LONG_FILES else len(LONG_FILES)

    items.sort(key=place)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting and no AWS configuration of the machine reaches a test."""
    for key in os.environ:
        if key in SETTINGS or key.startswith("AWS_"):
            monkeypatch.delenv(key)
    for key in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(key, os.devnull)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@cache
def shared_session() -> boto3.Session:
    """Made once: what the first client of a session reads costs more time than most tests."""
    return boto3.Session()


@cache
def shared_client() -> Any:
    return shared_session().client("s3")


@pytest.fixture
def s3() -> Iterator[Any]:
    """A client of moto's S3 with the empty bucket BUCKET; the handler's own client reaches the same."""
    with mock_aws():
        client = shared_client()
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        lambda_function.s3_client.cache_clear()
        yield client
        lambda_function.s3_client.cache_clear()


@pytest.fixture
def handle(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls the handler as Lambda does: handle(event, ON_POISON="stop")."""

    def call(event: Any, context: Any = None, **environment: str) -> Any:
        for key, value in {"S3_BUCKET": BUCKET, **environment}.items():
            monkeypatch.setenv(key, value)
        return lambda_function.lambda_handler(event, context or Context())

    return call


@pytest.fixture
def database(server: Any) -> Iterator[Any]:
    """An empty database on the module's server, which goes with the slots that were made there."""
    from replication_support import Database

    made = Database(server)
    yield made
    made.close()


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """The emulated AWS on the loopback, where nothing takes time; its state is the process's."""
    with emulated_aws(transitions=0) as aws:
        yield aws.url
