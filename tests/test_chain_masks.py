"""The chain while columns are masked: the key of the hashes, who may read what is raw, and for how long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from chain_support import (
    ACCOUNT_ID,
    REGION,
    Wire,
    World,
    apply,
    destroy_all,
    emulated,
    inventory,
    new_world,
    planned,
    seen,
)

from provision import plan_text
from provision.deployer import check_deployer
from provision.engine import Action, Step
from provision.finding import Finding, Level
from provision.plan_text import Plan
from provision.settings import Settings, SettingsError
from provision.surroundings import look_around
from provision.verbs import leftovers, make_plan, mask_notes

NEEDED = {
    "S3_BUCKET": "lending-rows",
    "PIPELINE_NAME": "lending",
    "PGHOST": "db.example.org",
    "PGDATABASE": "lending",
    "PGUSER": "dms",
    "PGPASSWORD": "s3cret-of-dms",
}
KEY, OTHER_KEY = "correct-horse-battery-staple", "another-horse-battery-staple"
MASKS = "public.loan.note=sha256,public.loan.iban=null"
ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT_ID}:secret:theirs-AbCdEf"

Wired = tuple[Any, dict[str, Any], Wire]


@pytest.fixture(scope="module")
def wired() -> Iterator[Wired]:
    with emulated() as (session, wire, _):
        yield session, {}, wire


@pytest.fixture
def world(wired: Wired) -> World:
    return new_world(*wired)


def masked(world: World, masked_columns: str = MASKS, **more: str) -> World:
    """With MASK_SECRET, unless more says where the key is."""
    return world.with_settings(masked_columns=masked_columns, **(more or {"mask_secret": KEY}))


def work(steps: list[Step]) -> list[str]:
    """["update bucket"]"""
    return [f"{step.action} {step.resource.name}" for step in steps if step.is_work]


def variables(world: World) -> dict[str, str]:
    """Of the version that the alias leads to."""
    found = world.client("lambda").get_function_configuration(FunctionName="lending-lambda", Qualifier="live")
    return dict(found["Environment"]["Variables"])


def statements(world: World, bucket: str) -> list[dict[str, Any]]:
    return list(json.loads(world.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])["Statement"])


def rules(world: World, bucket: str) -> list[dict[str, Any]]:
    return list(world.client("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])


def secret_statements(world: World) -> list[dict[str, Any]]:
    """What the function's role may do with secrets."""
    iam = world.client("iam")
    found = iam.get_role_policy(RoleName="lending-function", PolicyName="lending-function")["PolicyDocument"]
    return [one for one in found["Statement"] if "secretsmanager" in str(one["Action"])]


def key_of(world: World) -> str:
    return str(world.client("secretsmanager").get_secret_value(SecretId="lending-mask")["SecretString"])


def arn_of(world: World) -> str:
    return str(world.client("secretsmanager").describe_secret(SecretId="lending-mask")["ARN"])


# --------------------------------------------------------------------------------------------------------
# The key
# --------------------------------------------------------------------------------------------------------


def test_the_key_is_in_a_secret_that_the_function_alone_is_let_to(world: World) -> None:
    chain = masked(world)

    apply(chain)

    assert key_of(world) == KEY
    found = variables(world)
    version = found.pop("MASK_SECRET_VERSION")
    assert found == {
        "S3_BUCKET": "lending-rows",
        "S3_PREFIX": "",
        "ON_POISON": "quarantine",
        "BEFORE_IMAGE_FIELD": "before-image",
        "MASKED_COLUMNS": MASKS,
        "MASK_SECRET_ARN": arn_of(world),
        "LOG_LEVEL": "INFO",
    }
    described = world.client("secretsmanager").describe_secret(SecretId="lending-mask")
    assert described["VersionIdsToStages"][version] == ["AWSCURRENT"]
    assert secret_statements(world) == [
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": arn_of(world)}
    ]
    assert world.wire.faults == []
    assert work(apply(chain).steps) == []


def test_the_key_is_sent_to_secrets_manager_and_nowhere_else(world: World) -> None:
    apply(masked(world))

    holders = {call.name for call in world.wire.calls if KEY in repr(call.parameters)}
    assert holders == {"secretsmanager.CreateSecret"}


def test_masks_without_sha256_take_no_key(world: World) -> None:
    apply(masked(world, "public.loan.note=null,public.loan.iban=drop"))

    assert "lending-mask" not in inventory(world)["secrets"]
    assert secret_statements(world) == []
    assert {key for key in variables(world) if key.startswith("MASK")} == {"MASKED_COLUMNS"}


def test_without_masks_the_function_hears_nothing_of_them(world: World) -> None:
    apply(world.with_settings(mask_secret=KEY))

    assert inventory(world)["secrets"] == ["lending-login"]
    assert secret_statements(world) == []
    assert not any(key.startswith("MASK") for key in variables(world))


def test_a_secret_of_somebody_else_is_read_under_its_arn_and_not_made(world: World) -> None:
    apply(masked(world, mask_secret_arn=ARN))

    assert inventory(world)["secrets"] == ["lending-login"]
    assert secret_statements(world) == [
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": ARN}
    ]
    found = variables(world)
    assert found["MASK_SECRET_ARN"] == ARN
    assert "MASK_SECRET_VERSION" not in found


def test_another_key_comes_with_a_new_version_of_the_function(world: World) -> None:
    """An environment that runs has read the former key, and would go on with it."""
    apply(masked(world))
    former = variables(world)
    changed = masked(world, mask_secret=OTHER_KEY)

    done = apply(changed)

    assert work(done.steps) == ["update mask secret", "update function", "update alias"]
    assert key_of(world) == OTHER_KEY
    now = variables(world)
    assert now.pop("MASK_SECRET_VERSION") != former.pop("MASK_SECRET_VERSION")
    assert now == former
    assert work(planned(changed)) == []


def test_destroy_keeps_the_key_for_seven_days_and_apply_takes_it_back(world: World) -> None:
    apply(masked(world))
    arn = arn_of(world)

    destroy_all(world)  # the settings ask for no masks any more

    assert inventory(world)["secrets"] == [
        "lending-login (scheduled for deletion)",
        "lending-mask (scheduled for deletion)",
    ]
    apply(masked(world))
    assert (key_of(world), arn_of(world)) == (KEY, arn)


# --------------------------------------------------------------------------------------------------------
# What is raw
# --------------------------------------------------------------------------------------------------------

ROWS, FAILED = "lending-rows", f"lending-failed-{ACCOUNT_ID}"


def operators_only(*objects: str) -> dict[str, Any]:
    return {
        "Sid": "OnlyForOperators",
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:GetObjectVersion"],
        "Resource": list(objects),
        "Condition": {"StringNotEquals": {"aws:PrincipalTag/pipeline": "lending"}},
    }


@pytest.mark.parametrize("prefix", ["", "raw/lending/"], ids=["without a prefix", "with one"])
def test_what_may_hold_raw_values_is_for_operators_and_expires(world: World, prefix: str) -> None:
    apply(masked(world).with_settings(s3_prefix=prefix))

    assert statements(world, ROWS)[1:] == [
        operators_only(
            f"arn:aws:s3:::lending-rows/{prefix}quarantine/restricted/*",
            f"arn:aws:s3:::lending-rows/{prefix}control/*",
        )
    ]
    assert statements(world, FAILED)[1:] == [operators_only(f"arn:aws:s3:::{FAILED}/*")]
    after = {"Expiration": {"Days": 30}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
    assert rules(world, ROWS)[3:] == [
        {
            "ID": "restricted-quarantine",
            "Status": "Enabled",
            "Filter": {"Prefix": f"{prefix}quarantine/restricted/"},
            **after,
        },
        {"ID": "control", "Status": "Enabled", "Filter": {"Prefix": f"{prefix}control/"}, **after},
    ]
    assert rules(world, FAILED)[3:] == [
        {
            "ID": "given-up",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "Expiration": {"Days": 30},
        }
    ]


def test_the_function_has_the_tag_that_the_policy_asks_for(world: World) -> None:
    """It reads an object of its own again when AWS delivers a batch again."""
    apply(masked(world))

    assert world.client("iam").list_role_tags(RoleName="lending-function")["Tags"] == [
        {"Key": "pipeline", "Value": "lending"}
    ]


def test_masks_that_come_later_change_what_stands(world: World) -> None:
    apply(world)

    done = apply(masked(world))

    assert work(done.steps) == [
        *("update bucket", "update failed bucket"),
        *("create mask secret", "update function role", "update function", "update alias"),
    ]
    assert list(mask_notes(done.steps)) == [
        "MASKED_COLUMNS holds for what lands from this apply on; rows that have landed keep the values that"
        " they have (README: Erasing a person)"
    ]
    assert work(planned(masked(world))) == []


def test_masks_that_go_leave_nothing_but_their_key(world: World) -> None:
    apply(world)
    before = [(statements(world, one), rules(world, one)) for one in (ROWS, FAILED)]
    former = variables(world)
    apply(masked(world))

    done = apply(world)

    assert [(statements(world, one), rules(world, one)) for one in (ROWS, FAILED)] == before
    assert variables(world) == former
    assert secret_statements(world) == []
    (note,) = mask_notes(done.steps)
    assert note.startswith("MASKED_COLUMNS is not set any more: rows land as DMS sends them")
    observed = seen(world)[1]
    around = look_around(world.account, world.settings)
    assert list(leftovers(world.pipeline, around, observed)) == [
        "secret lending-mask is no longer asked for; it stays until destroy"
    ]


def test_another_key_is_said_to_break_joins(world: World) -> None:
    apply(masked(world))

    (note,) = mask_notes(planned(masked(world, mask_secret=OTHER_KEY)))

    assert note.startswith("with another key the same value gets another hash")


# --------------------------------------------------------------------------------------------------------
# The plan and the check
# --------------------------------------------------------------------------------------------------------


def plan_of(world: World) -> Plan:
    _, observed = seen(world)
    no_estimate: Any = None
    return Plan("lending", REGION, ACCOUNT_ID, planned(world), observed, (), no_estimate)


def test_no_plan_shows_the_key(world: World) -> None:
    made = plan_of(masked(world))

    assert plan_text.document_of(made, "mask secret") == {
        "Name": "lending-mask",
        "Description": "The key of the hashes in masked columns of pipeline lending",
        "SecretString": "********",
        "IsCurrent": True,
    }
    assert KEY not in repr(made.steps[0].resource) + json.dumps(
        [plan_text.step_as_dict(step, made.observed) for step in made.steps]
    )


def test_the_secret_of_the_key_is_in_the_estimate(world: World) -> None:
    made, _ = make_plan(masked(world).pipeline, 10)

    (line,) = [line for line in made.cost.lines if line.part == "secrets"]
    assert (line.quantity, line.usd) == (2, 0.80)


def test_masks_that_the_function_can_not_be_told_are_refused() -> None:
    """Its variables are limited to 4 KB in all, names and other settings included."""
    columns = [f"public.client.column_{number:04}=sha256" for number in range(100)]
    more = {"MASK_SECRET": KEY, "MASKED_COLUMNS": ",".join(columns)}
    with pytest.raises(SettingsError) as raised:
        Settings.from_mapping(NEEDED | more)
    (fault,) = raised.value.faults
    assert fault.endswith(
        "is longer than 3,000 bytes, and Lambda takes 4 KB of variables in all: name fewer columns, and take"
        " tables that nobody reads out of TABLES"
    )

    fewer = Settings.from_mapping(NEEDED | more | {"MASKED_COLUMNS": ",".join(columns[:80])})
    assert len(fewer.masks["public", "client"]) == 80


def test_a_plan_says_that_the_key_is_another_one(world: World) -> None:
    apply(masked(world))
    (step,) = [
        one for one in planned(masked(world, mask_secret=OTHER_KEY)) if one.resource.name == "mask secret"
    ]

    assert step.action is Action.UPDATE
    assert [plan_text.change_text(change, step.resource) for change in step.changes] == ["its value"]


def mask_secret_findings(world: World) -> list[Finding]:
    found = check_deployer(world.account, world.settings)
    return [finding for finding in found if finding.check == "mask-secret"]


@pytest.mark.parametrize(
    ("key", "level", "found"),
    [
        (None, Level.OK, "there"),
        ("alias/aws/secretsmanager", Level.OK, "there"),
        ("alias/ours", Level.WARNING, "encrypted with alias/ours"),
    ],
    ids=["no key named", "AWS's own key", "a key of theirs"],
)
def test_check_the_secret_of_the_masks(world: World, key: str | None, level: Level, found: str) -> None:
    secrets = world.client("secretsmanager")
    named = {} if key is None else {"KmsKeyId": key}
    arn = secrets.create_secret(Name="theirs", SecretString=KEY, **named)["ARN"]

    (finding,) = mask_secret_findings(masked(world, mask_secret_arn=arn))

    assert (finding.level, finding.subject, finding.found) == (level, f"secret {arn}", found)
    assert ("kms:Decrypt" in finding.meaning) is (level is Level.WARNING)


def test_check_a_secret_of_the_masks_that_is_not_there(world: World) -> None:
    (finding,) = mask_secret_findings(masked(world, mask_secret_arn=ARN))

    assert (finding.level, finding.found) == (Level.BLOCKER, "not there")


def test_check_a_bucket_of_others_is_said_to_be_open(world: World) -> None:
    world.client("s3").create_bucket(
        Bucket="lending-rows", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    found = check_deployer(world.account, masked(world).settings)

    (finding,) = [one for one in found if one.subject == "bucket lending-rows"]
    assert finding.level is Level.WARNING
    assert finding.meaning.endswith("its policy has to close quarantine/restricted/ and control/ to readers")
