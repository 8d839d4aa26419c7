"""What the verbs of setup_dms.py do; how they talk to a person is decided there.

A Pipeline is settings and an account. Every verb looks around, declares the chain and observes it anew: there
is no state between two runs, so that running a verb again is how an interrupted one is finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provision import engine, estimate
from provision.alarms import metrics
from provision.aws import AwsError
from provision.chain import MASK_SECRET, has_tables, makes_mask_secret, mappings
from provision.check import database_findings
from provision.database import table_sizes
from provision.declaration import TASK_RUN, Declaration
from provision.engine import Action, Observed, ProvisionError, Report, Resource
from provision.finding import Level
from provision.kinds import dms
from provision.pipeline import Pipeline
from provision.plan_text import Plan, name_of
from provision.replication_task import is_selected, mapped_tables, nearest_tables, table_pattern
from provision.surroundings import Surroundings, connect_parameters, look_around

PASSES = 6  # a change of the task needs two: one that stops and changes it, one that starts it


# --------------------------------------------------------------------------------------------------------
# plan, apply
# --------------------------------------------------------------------------------------------------------


def make_plan(pipeline: Pipeline, changes_per_second: float) -> tuple[Plan, list[Resource]]:
    """What there is to do, what a person should know before it, what it will cost; and the chain."""
    around = look_around(pipeline.account, pipeline.settings)
    chain = pipeline.chain(around)
    observed = engine.observe(chain)
    steps = [step for step in engine.plan(chain, observed) if is_visible(step)]
    made = Plan(
        pipeline.account.pipeline,
        pipeline.account.region,
        pipeline.account.account_id,
        steps,
        observed,
        [*notes(pipeline, around, observed, steps), *leftovers(pipeline, around, observed)],
        cost(pipeline, around, changes_per_second),
    )
    return made, chain


def is_visible(step: engine.Step) -> bool:
    """That no table waits to be loaded is no object."""
    return step.is_work or not isinstance(step.resource.kind, dms.TableLoads)


def notes(
    pipeline: Pipeline, around: Surroundings, observed: Observed, steps: Sequence[engine.Step]
) -> Iterator[str]:
    """What a person should know before an apply."""
    settings = pipeline.settings
    yield from table_notes(pipeline, around)
    begins = {step.resource.name for step in steps if step.is_work} & {"task", TASK_RUN}
    if begins and around.catalog is not None and (count := blockers(pipeline)):
        yield (
            f"python setup_dms.py check finds {count} blocker{'s' * (count > 1)}: rows, columns or changes"
            " would be missing in S3"
        )
    bucket, topic = observed["bucket"], observed.get("alarm topic")
    if bucket is not None and not bucket.is_ours:
        yield (
            f"bucket {settings.s3_bucket} is not of this pipeline: rows land in it, its settings are its"
            " owner's"
        )
    yield from source_notes(around)
    yield from secret_notes(observed)
    yield from mask_notes(steps)
    yield from endpoint_notes(observed)
    if topic is not None and not topic.attributes["is_confirmed"]:
        yield f"{settings.alarm_email} has to confirm the mail of AWS, or no alarm reaches it"
    if settings.log_level == "ERROR":
        yield "LOG_LEVEL=ERROR: quarantined records are not in the log, and so their alarm never rings"


def table_notes(pipeline: Pipeline, around: Surroundings) -> Iterator[str]:
    settings, made = pipeline.settings, mappings(pipeline.settings, around)
    if around.catalog is None and around.unseen:
        yield f"the source database was not seen: {around.unseen}"
    if made.not_expanded and around.live_mappings is None:
        named = ", ".join(map(str, made.not_expanded))
        yield (
            f"so the tables of {named} are selected by pattern only: DMS's default spreads them over the"
            " shards; a plan that sees the database gives each a mapping of its own"
        )
    for pattern in made.matches_nothing if around.catalog is not None else ():
        near = nearest_tables(pattern, around.catalog or ())
        advice = f": did you mean {near[0]}?" if near else ""
        yield f"TABLES: {pattern} matches no table of the database{advice}"
    for schema, table in made.not_mapped:
        yield f'"{schema}"."{table}" has %, [ or ] in its name, and goes to one shard as a whole'
    if not has_tables(settings, around):
        yield (
            "no table to replicate was seen: all is made but the task's start; make role and tables (python "
            "setup_dms.py check prints the SQL), then run apply again from where the database can be seen, "
            "or python setup_dms.py resume"
        )
    if around.is_new_database and around.live_mappings is not None:
        yield (
            "the database is made anew, empty, and the task's position is one of the former: make role and "
            "tables after this apply, then python setup_dms.py reload --all"
        )


def blockers(pipeline: Pipeline) -> int:
    """What check would find in the way of a database that can be seen."""
    found = database_findings(pipeline)
    return sum(finding.level is Level.BLOCKER for finding in found)


def secret_notes(observed: Observed) -> Iterator[str]:
    """A server or user that is another one than DMS knows; a password shows as the secret's difference."""
    secret, task = observed["secret"], observed.get("task")
    others = secret.attributes.get("others", {}) if secret else {}
    for key, (old, new) in others.items():
        yield f"DMS will log in with another {key}: {old!r} -> {new!r}"
    if task is not None and {"host", "port"} & set(others):
        yield (
            "the task keeps its position, which is one in the log of the former server: go on only if it is "
            "the same server under another name; else destroy first"
        )


def mask_notes(steps: Sequence[engine.Step]) -> Iterator[str]:
    """What a change of the masks does not reach: what has landed."""
    names = ("function", MASK_SECRET)
    updates = [step for step in steps if step.action is Action.UPDATE and step.resource.name in names]
    olds = {change.path: change.old for step in updates for change in step.changes}
    if "MASKED_COLUMNS" in (olds.get("Environment.others") or ()):  # the function has it, nobody asks for it
        yield (
            "MASKED_COLUMNS is not set any more: rows land as DMS sends them, and whoever may read the bucket"
            " may read quarantine/restricted/ and control/ too, which no longer expire"
        )
    if "Environment.Variables.MASKED_COLUMNS" in olds:
        yield (
            "MASKED_COLUMNS holds for what lands from this apply on; rows that have landed keep the values"
            " that they have (README: Erasing a person)"
        )
    if "IsCurrent" in olds or olds.get("Environment.Variables.MASK_SECRET_ARN"):
        yield (
            "with another key the same value gets another hash: masked columns of rows that land from now on"
            " do not join with those of rows that have landed; python setup_dms.py reload --all brings all"
            " rows again"
        )


def endpoint_notes(observed: Observed) -> Iterator[str]:
    made = [
        name.removeprefix("endpoint ") for name, live in observed.items() if is_endpoint(name) and not live
    ]
    if made:
        yield (
            "DMS has no public address, and its subnets no NAT: VPC endpoints are made for "
            f"{', '.join(made)}; all but s3 bill by the hour in each zone, and the names of their services "
            "lead all of the VPC to them (VPC_ENDPOINTS=none leaves them out)"
        )


def is_endpoint(name: str) -> bool:
    return name.startswith("endpoint ") and name != "endpoint group"


def source_notes(around: Surroundings) -> Iterator[str]:
    source = around.source
    if source is None:
        return
    replication = source.attributes["logical_replication"]
    if replication != "on":
        what = "waits for a reboot" if replication == "pending-reboot" else "is off"
        yield (
            f"rds.logical_replication of {source.attributes['name']} {what}: the task can't start "
            "(python setup_dms.py check says what to do); your database is never rebooted from here"
        )


def leftovers(pipeline: Pipeline, around: Surroundings, observed: Observed) -> Iterator[str]:
    """Objects of ours that earlier settings asked for and these do not."""
    now = dict(observed)
    for resource in pipeline.chain(around, everything=True):
        if resource.name in observed or isinstance(resource.kind, dms.TaskRun | dms.TableLoads):
            continue
        live = now[resource.name] = resource.kind.find(engine.resolve(resource.spec, now))
        if live is not None and live.is_ours:
            name = name_of(resource, now)
            yield f"{resource.kind.label} {name} is no longer asked for; it stays until destroy"


def cost(pipeline: Pipeline, around: Surroundings, changes_per_second: float) -> estimate.Estimate:
    """Of the tables that the catalog has; without one, of as many as are named, with rows unknown."""
    settings = pipeline.settings
    rows = None if around.catalog is None and not around.is_new_database else 0
    tables = mapped_tables(mappings(settings, around).document)
    if around.catalog:
        sizes = table_sizes(connect_parameters(pipeline.account, settings), settings.table_patterns)
        rows = sum(one.estimated_rows or 0 for one in sizes)
    ways, given = around.ways, Declaration(settings, around, pipeline.account, pipeline.code)
    services = ways.endpoints_to_declare(settings.vpc_endpoints) if ways else []
    workload = estimate.Workload(changes_per_second, max(1, len(tables)), rows_to_load=rows)
    chain = estimate.Chain(
        shards=settings.stream_shards,
        window_seconds=settings.batch_window_seconds,
        dms_class=settings.dms_instance_class,
        rds_class=settings.rds_instance_class if settings.create_rds else None,
        vpc_endpoints=sum(service != "s3" for service in services),
        availability_zones=len(ways.endpoint_subnet_ids) if ways else 2,
        alarms=len(metrics(given)),
        secrets=1 + makes_mask_secret(given),
        region=pipeline.account.region,
    )
    return estimate.estimate(workload, chain)


def apply(pipeline: Pipeline, made: Plan, chain: Sequence[Resource], report: Report) -> Observed:
    """Does what the plan says, then plans again until nothing is left; returns what there is.

    A database that was made on the way is empty: its tables are for the next apply.
    """
    steps, observed = list(made.steps), made.observed
    actions = {step.resource.name: step.action for step in steps}
    if actions.get("function") is Action.CREATE:
        pipeline.code()  # an error before anything is made that bills
    for _ in range(PASSES):
        if not any(step.is_work or step.action is Action.REFUSE for step in steps):
            return observed
        engine.execute(chain, steps, observed, report)
        observed = engine.observe(chain)
        if actions.pop("secret", None) is Action.UPDATE:
            log_in_again(chain, observed, report)
        steps = engine.plan(chain, observed)
    left = "; ".join(
        f"{step.resource.name} ({change.path})" for step in steps if step.is_work for change in step.changes
    )
    raise AwsError(f"AWS does not keep what it is told of {left}: look at it in the console, and report it")


def log_in_again(chain: Sequence[Resource], observed: Observed, report: Report) -> None:
    """DMS tests the changed secret now, and not when it next connects."""
    (connection,) = [resource for resource in chain if resource.name == "source connection"]
    with engine.reported(report, engine.Step(Action.UPDATE, connection)):
        connection.kind.create(engine.resolve(connection.spec, observed))


def outputs(pipeline: Pipeline, observed: Observed) -> dict[str, str]:
    """Where to look at what runs now."""
    account, settings = pipeline.account, pipeline.settings
    console = f"https://{account.region}.console.aws.amazon.com/cloudwatch/home?region={account.region}"
    run = observed.get(TASK_RUN)
    return {
        "rows": f"s3://{settings.s3_bucket}/{settings.s3_prefix}changes/",
        "stream": account.name("stream"),
        "function": f"{account.name('lambda')} (code: ./deploy.sh --function {account.name('lambda')})",
        "task": f"{account.name('task')}, {run.attributes['status'] if run else 'not started'}",
        "dashboard": f"{console}#dashboards:name={account.pipeline}",
        "how it is": "python setup_dms.py status",
    }


def chain_now(pipeline: Pipeline) -> list[Resource]:
    """What the settings declare now."""
    return pipeline.chain(look_around(pipeline.account, pipeline.settings))


# --------------------------------------------------------------------------------------------------------
# stop, resume, reload
# --------------------------------------------------------------------------------------------------------


def stop(pipeline: Pipeline) -> None:
    """Returns when the task rests."""
    _, spec, live = pipeline.task()
    dms.TaskRun(pipeline.account).pause(live, spec)


def is_new(pipeline: Pipeline) -> bool:
    """Whether the task has never run."""
    return bool(pipeline.task()[2].attributes["status"] == "ready")


def resume(pipeline: Pipeline) -> str:
    """Starts the task where it stopped; the state that it has then."""
    _, spec, live = pipeline.task()
    run = dms.TaskRun(pipeline.account).running(spec | {"ReplicationTaskArn": live.attributes["arn"]})
    return str(run.attributes["status"])


def tables_to_reload(pipeline: Pipeline, names: Sequence[str]) -> list[tuple[str, str]]:
    """Schema and table of each. Raises ProvisionError for one that the task does not replicate."""
    live = pipeline.task()[2]
    document, tables = live.attributes["table_mappings"], []
    for name in names:
        try:
            pattern = table_pattern(name)
        except ValueError as fault:
            raise ProvisionError(f"reload: {fault}") from None
        if not pattern.is_exact:
            raise ProvisionError(f"reload: {name} is a pattern: name each table, or reload --all")
        if not is_selected(document, pattern.schema, pattern.table):
            raise ProvisionError(
                f"reload: the task does not replicate {name}: add it to TABLES, then setup_dms.py apply"
            )
        tables.append((pattern.schema, pattern.table))
    return tables


def reload(pipeline: Pipeline, tables: Sequence[tuple[str, str]]) -> None:
    """Asks DMS for a new load of each table. Raises AwsError unless the task runs."""
    kind, spec, live = pipeline.task()
    if live.attributes["status"] != "running":
        raise AwsError(
            f"the task is {live.attributes['status']}, and only a running one reloads tables: "
            "python setup_dms.py resume; or reload --all, which starts it anew"
        )
    for some in dms.chunks(tables, dms.TABLES_A_RELOAD):
        kind.reload(spec, live.attributes["arn"], some)


def reload_all(pipeline: Pipeline) -> None:
    """Starts the task anew: a new slot, and a full load of all tables."""
    kind, spec, live = pipeline.task()
    run = dms.TaskRun(pipeline.account)
    run.pause(live, spec)
    arn = live.attributes["arn"]
    kind.call(
        "start_replication_task",
        spec,
        ReplicationTaskArn=arn,
        StartReplicationTaskType="reload-target",
    )
    run.running(spec | {"ReplicationTaskArn": arn})
