"""The settings of lake.py: those of the chain that concern what landed, from the environment and .env.

Only S3_BUCKET is always needed. The database, and the pipeline's name, are asked of those who need them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lambda_function import Masks, PipelineError, read_masks
from provision.engine import ProvisionError
from provision.replication_task import TablePattern, table_patterns
from provision.settings import Settings, merged_values, read_values


class LakeError(Exception):
    """Why something can't be said of what landed: one line, with what to do.

    LakeError
      NoDatabaseError   settings of the source database are missing: all of them are named
      NoSchemaError     nobody has published the table's columns yet
      NoTableError      there is no such table: the nearest is named
    """


class NoDatabaseError(LakeError):
    pass


class NoSchemaError(LakeError):
    pass


class NoTableError(LakeError):
    pass


# What is told in one line, and no fault of the program; of these, the texts hold no row content.
ERRORS = (LakeError, ProvisionError, PipelineError)


@dataclass(frozen=True, kw_only=True)
class LakeSettings:
    """Each field is the setting of its name in capitals; README's table explains them."""

    s3_bucket: str
    s3_prefix: str = ""
    before_image_field: str = "before-image"
    masked_columns: str = ""
    mask_secret: str = field(default="", repr=False)
    mask_secret_arn: str = ""
    pipeline_name: str = ""
    pghost: str = ""
    pgport: int = 5432
    pgdatabase: str = ""
    pguser: str = ""
    pgpassword: str = field(default="", repr=False)
    pgsslmode: str = "require"
    create_rds: bool = False
    tables: str = "public.%"
    lob_max_size_kb: int = 64

    @property
    def table_patterns(self) -> list[TablePattern]:
        return table_patterns(self.tables)

    @property
    def masks(self) -> Masks:
        """{("public", "client"): {"email": "sha256"}}"""
        return read_masks(self.masked_columns)

    @property
    def connect_parameters(self) -> dict[str, Any]:
        """libpq's, as psycopg2 takes them; not for printing. Raises NoDatabaseError with all that is not set.

        With CREATE_RDS the host is AWS's to say: Lake.connect_parameters asks for it.
        """
        self.require_database()
        return {
            "host": self.pghost,
            "port": self.pgport,
            "dbname": self.pgdatabase,
            "user": self.pguser,
            "password": self.pgpassword,
            "sslmode": self.pgsslmode,
        }

    def require_database(self) -> None:
        """Raises NoDatabaseError unless all is set that a connection to the source needs.

        Of a password libpq has its own ways (~/.pgpass), and a server may want none.
        """
        needed = {"PGDATABASE": self.pgdatabase, "PGUSER": self.pguser}
        needed |= {"PIPELINE_NAME": self.pipeline_name} if self.create_rds else {"PGHOST": self.pghost}
        if missing := [key for key, value in needed.items() if not value]:
            raise NoDatabaseError(
                f"the source database is needed for this, and {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not set: set them as for setup_dms.py"
            )

    def failed_bucket(self, account_id: str) -> str:
        """The bucket that takes the batches that Lambda gives up. Raises LakeError without PIPELINE_NAME."""
        if not self.pipeline_name:
            raise LakeError("PIPELINE_NAME is not set: the bucket of the batches given up is named after it")
        return f"{self.pipeline_name}-failed-{account_id}"

    @classmethod
    def of(cls, settings: Settings) -> LakeSettings:
        """Those of the chain's settings."""
        return cls(**{one.name: getattr(settings, one.name) for one in fields(cls)})

    @classmethod
    def from_mapping(cls, values: Mapping[str, str], other_faults: Iterable[str] = ()) -> LakeSettings:
        """S3_BUCKET, S3_PREFIX, ...; empty means the default. Raises SettingsError with all faults."""
        names = [one.name for one in fields(cls)]
        wanted = {"S3_BUCKET": "the bucket that takes the rows"}
        return cls(**read_values(names, values, other_faults, lambda read: wanted))


def read_settings(dotenv_file: Path, environment: MutableMapping[str, str] = os.environ) -> LakeSettings:
    """Settings of the environment and, below it, of .env, whose AWS_* go to the environment, for boto3."""
    return LakeSettings.from_mapping(*merged_values(dotenv_file, environment))
