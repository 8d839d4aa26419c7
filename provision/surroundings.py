"""What the declaration takes from the world: network, source database, catalog, how far the function got.

Reads only. What can't be seen (a database in a private network, from a laptop) is said, not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from provision.aws import Account, AwsError
from provision.database import DatabaseError, catalog_tables
from provision.engine import Live
from provision.kinds import dms, ec2, kinesis, lambda_, rds
from provision.landed import starting_point
from provision.preflight import OLDEST_ENGINE
from provision.replication_task import Table
from provision.settings import Settings

RECORD_AGE_SECONDS = 144 * 3600  # of the mapping: a day less than the stream keeps records
NOWHERE = "nowhere"  # a VPC or group that is not there any more


@dataclass(frozen=True)
class Surroundings:
    vpc_id: str
    vpc_cidrs: tuple[str, ...]
    subnet_ids: tuple[str, ...]
    ways: ec2.Ways | None  # None: the subnets are gone
    source: Live | None  # the RDS instance that PGHOST names; None: it is made here, or is no RDS instance
    rds_version: tuple[str, str]  # ("16.8", "postgres16") of the instance that is made here
    is_new_database: bool  # it is made here, and not there yet
    catalog: tuple[Table, ...] | None  # None: the database can't be reached
    unseen: str  # why not
    live_mappings: Mapping[str, Any] | None  # table mappings of the task that is there
    has_run: bool  # that task
    starts_at: datetime | None  # where an event source mapping begins; None: at the stream's oldest record


def look_around(account: Account, settings: Settings, *, for_destroy: bool = False) -> Surroundings:
    """What there is around the chain. Raises AwsError when AWS won't say, or the network is not as needed.

    for_destroy: what is gone does not matter, and the database is not asked.
    """
    if account.partition == "aws-cn":
        raise AwsError(
            f"{account.region}: the regions of China name services otherwise, and are not supported"
        )
    source = None if settings.create_rds else source_instance(account, settings, for_destroy)
    subnet_ids = settings.subnet_ids or tuple(source.attributes["subnet_ids"] if source else ())
    if for_destroy:
        subnet_ids = live_subnets(account) or subnet_ids
    ways = ways_out(account, subnet_ids, for_destroy)
    vpc_id = ways.vpc_id if ways else live_vpc(account)
    instance = rds.describe_instance(account, account.name("database"))
    is_new_database = settings.create_rds and instance is None
    task = live_task(account)
    catalog, unseen = (None, "") if for_destroy else read_catalog(account, settings, is_new_database)
    return Surroundings(
        vpc_id,
        ec2.cidrs_of(account, vpc_id) if ways else (),
        subnet_ids,
        ways,
        source,
        rds_version(account, settings, instance),
        is_new_database,
        catalog,
        unseen,
        task.attributes["table_mappings"] if task else None,
        task is not None and task.attributes["status"] not in ("creating", "ready"),
        None if for_destroy else begin_at(account, settings),
    )


def rds_version(account: Account, settings: Settings, instance: Any) -> tuple[str, str]:
    """("16.8", "postgres16"): what the instance runs; a new one gets the newest that DMS is known to read.

    Where the instance is gone, its parameter group still tells the family that was chosen then.
    """
    if instance is not None:
        return str(instance["EngineVersion"]), rds.family_of(instance["EngineVersion"])
    family = rds.made_family(account)
    if not settings.create_rds:
        return "", family or "postgres"
    return rds.engine_version(account, family.removeprefix("postgres") or newest_readable(account, settings))


def newest_readable(account: Account, settings: Settings) -> str:
    """ "17": the newest major version that DMS reads, in the version that our instance would get."""
    kind = dms.ReplicationInstance(account)
    spec = {
        kind.identifier: account.name("replication"),
        "ReplicationInstanceClass": settings.dms_instance_class,
    }
    engine = dms.version_key(kind.newest_version(spec))
    return str(max(one for one, oldest in OLDEST_ENGINE.items() if dms.version_key(oldest) <= engine))


def source_instance(account: Account, settings: Settings, for_destroy: bool) -> Live | None:
    """The RDS instance of PGHOST; with SUBNET_IDS it may be a host of another sort."""
    if settings.subnet_ids and not rds.is_rds_host(settings.pghost):
        return None
    try:
        return rds.ExistingInstance(account).find({"Address": settings.pghost})
    except AwsError:
        if for_destroy:
            return None
        raise


def ways_out(account: Account, subnet_ids: tuple[str, ...], for_destroy: bool) -> ec2.Ways | None:
    if for_destroy and not subnet_ids:
        return None
    try:
        if not for_destroy:
            ec2.check_zones(account, subnet_ids)
        return ec2.missing_routes(account, subnet_ids)
    except AwsError:
        if for_destroy:
            return None
        raise


def live_subnets(account: Account) -> tuple[str, ...]:
    """Those of our DMS subnet group: where the chain was made, whatever the settings say now."""
    kind = dms.SubnetGroup(account)
    found = kind.one({kind.identifier: account.name("replication")})
    return tuple(subnet["SubnetIdentifier"] for subnet in found["Subnets"]) if found else ()


def live_vpc(account: Account) -> str:
    """Of our security group, which is deleted last of what has to do with the network."""
    live = ec2.SecurityGroup(account).find({"GroupName": account.name("replication"), "VpcId": NOWHERE})
    return str(live.attributes["vpc_id"]) if live and live.is_ours else NOWHERE


def live_task(account: Account) -> Live | None:
    kind = dms.Task(account)
    return kind.find({kind.identifier: account.name("task")})


def read_catalog(
    account: Account, settings: Settings, is_new_database: bool
) -> tuple[tuple[Table, ...] | None, str]:
    """All tables of the database, or why they can't be seen."""
    if is_new_database:
        return None, "the database is not there yet"
    try:
        return tuple(catalog_tables(connect_parameters(account, settings))), ""
    except DatabaseError as error:
        return None, str(error)


def connect_parameters(account: Account, settings: Settings) -> dict[str, Any]:
    """libpq's; with the host of the instance that is made here. Raises DatabaseError if it has none yet."""
    parameters = settings.connect_parameters
    if settings.create_rds:
        instance = rds.describe_instance(account, account.name("database")) or {}
        parameters["host"] = instance.get("Endpoint", {}).get("Address", "")
        if not parameters["host"]:  # libpq would take the socket of another server
            raise DatabaseError(f"database {account.name('database')} is not there, or has no address yet")
    return parameters


def begin_at(account: Account, settings: Settings) -> datetime | None:
    """Where a mapping that is not there has to begin: behind what has landed already."""
    stream = kinesis.Stream(account).find({"StreamName": account.name("stream")})
    if stream is None or stream.attributes["status"] == "CREATING":
        return None
    mapping = lambda_.EventSourceMapping(account).find(
        {
            "FunctionName": f"{account.name('lambda')}:{lambda_.ALIAS}",
            "EventSourceArn": stream.attributes["arn"],
        }
    )
    if mapping is not None:
        return None
    return starting_point(
        account,
        account.name("stream"),
        settings.s3_bucket,
        settings.s3_prefix,
        datetime.now(UTC),
        RECORD_AGE_SECONDS,
    )
