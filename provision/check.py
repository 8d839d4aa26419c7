"""What `setup_dms.py check` looks at: the deployer's account, then the source database."""

from __future__ import annotations

from collections.abc import Iterator

from provision.aws import AwsError
from provision.database import DatabaseError, catalog_tables, identifier
from provision.deployer import check_deployer
from provision.engine import ProvisionError
from provision.finding import Finding, Level
from provision.kinds import dms, rds
from provision.pipeline import Pipeline
from provision.preflight import check_database, grants_sql
from provision.replication_task import Table, TablePattern, selected_tables
from provision.surroundings import connect_parameters

# Our columns: lambda_function.py quarantines a table that has one of its own; a test keeps both the same.
RESERVED_COLUMNS = frozenset(
    f"cdc_{name}"
    for name in (
        *("operation", "committed_at", "published_at", "transaction_id", "transaction_record_id"),
        *("stream_position", "lsn", "shard_id", "sequence_number", "before", "date", "hour", "rescued"),
    )
)


def check(pipeline: Pipeline) -> tuple[list[Finding], list[str]]:
    """Findings, blockers first, and the SQL that makes a user for DMS."""
    found = [*check_deployer(pipeline.account, pipeline.settings), *database_findings(pipeline)]
    order = list(Level)
    return sorted(found, key=lambda finding: order.index(finding.level)), grants(pipeline)


def database_findings(pipeline: Pipeline) -> Iterator[Finding]:
    settings = pipeline.settings
    try:
        yield from check_database(
            connect_parameters(pipeline.account, settings),
            settings.table_patterns,
            engine_version(pipeline),
            lob_max_size_kb=settings.lob_max_size_kb,
            reserved_columns=RESERVED_COLUMNS,
            heartbeat_schema=settings.heartbeat_schema,
            requires_tls=settings.pgsslmode != "disable",
            capture_ddls=settings.capture_ddls,
            masks=settings.masks,
        )
    except AwsError as error:
        yield Finding("database", Level.WARNING, settings.pgdatabase, str(error))
    except DatabaseError as error:
        is_made_here = settings.create_rds
        yield Finding(
            "database",
            Level.WARNING if is_made_here else Level.BLOCKER,
            settings.pgdatabase,
            str(error),
            "nothing of it could be checked: the task may not start, tables and columns may be missing in S3",
            "run check from where the database can be reached: a machine in its VPC, or through a tunnel "
            "(PGHOSTADDR=127.0.0.1 leads PGHOST there)",
        )


def engine_version(pipeline: Pipeline) -> str | None:
    """Of DMS: that of our instance, else the one that it would get; None where AWS does not say."""
    kind = dms.ReplicationInstance(pipeline.account)
    spec = {
        kind.identifier: pipeline.account.name("replication"),
        "ReplicationInstanceClass": pipeline.settings.dms_instance_class,
    }
    try:
        live = kind.find(spec)
        return str(live.attributes["engine_version"]) if live else kind.newest_version(spec)
    except AwsError:
        return None  # check_deployer says why


def grants(pipeline: Pipeline) -> list[str]:
    """For the tables that the catalog has; where it can't be seen, for the patterns of TABLES."""
    settings, tables, more = pipeline.settings, list[Table](), list[str]()
    user = dms_user(pipeline)
    try:
        catalog = catalog_tables(connect_parameters(pipeline.account, settings))
        tables = selected_tables(settings.table_patterns, catalog)
    except ProvisionError:
        tables = [(one.schema, one.table, True) for one in settings.table_patterns if one.is_exact]
        more = [line for one in settings.table_patterns if not one.is_exact for line in of_pattern(one, user)]
    return [
        *grants_sql(
            user,
            sorted({schema for schema, _, _ in tables}),
            [(schema, table) for schema, table, _ in tables],
            database=settings.pgdatabase,
            heartbeat_schema=settings.heartbeat_schema,
            is_rds=settings.create_rds or rds.is_rds_host(settings.pghost),
        ),
        *more,
    ]


def dms_user(pipeline: Pipeline) -> str:
    """lending_dms"""
    return f"{pipeline.settings.pipeline_name.replace('-', '_')}_dms"


def of_pattern(pattern: TablePattern, user: str) -> list[str]:
    """Of a whole schema; a pattern of schemas is left to a person, who knows them."""
    schema, role = identifier(pattern.schema), identifier(user)
    lines = [
        f"GRANT USAGE ON SCHEMA {schema} TO {role};",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};",
    ]
    if "%" in pattern.schema:
        return [f"-- for each schema like {pattern.schema}:", *(f"-- {line}" for line in lines)]
    return lines
