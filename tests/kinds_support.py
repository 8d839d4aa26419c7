"""What the tests of the kinds share: the account, what was asked of it, and the engine over a chain.

The account is that of the emulated AWS (local_run.aws) within this process. With PLAIN_MOTO in the
environment it is moto's alone: the model can't be taken out of moto again, so that is a process of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ParamValidationError
from botocore.validate import ParamValidator
from moto import mock_aws
from moto.moto_api._internal import moto_api_backend

from local_run import aws as model
from provision.aws import Account
from provision.engine import Action, Live, Resource, Step, execute, observe, plan

REGION, ACCOUNT_ID = "eu-west-1", "123456789012"
PASSWORD = "correct horse battery staple"
READS = ("Get", "List", "Describe", "Head")
PLAIN_MOTO = "PLAIN_MOTO" in os.environ
needs_model = pytest.mark.skipif(PLAIN_MOTO, reason="our model of AWS has it, moto has not")

# --------------------------------------------------------------------------------------------------------
# The account: what was asked of it, and what it answers besides
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    service: str
    operation: str
    parameters: dict[str, Any]

    @property
    def is_write(self) -> bool:
        return not self.operation.startswith(READS)


class Interrupted(BaseException):
    """As KeyboardInterrupt: nothing on the way catches it."""


@dataclass
class Wire:
    """Sees each call go out, checks it against botocore's model of the service, may answer in AWS's place.

    refusals: {"s3.HeadBucket": [(code, message), ...]}, each used once; edits: {"HeadBucket": of the answer}
    """

    calls: list[Call] = field(default_factory=list)
    refusals: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    edits: dict[str, Callable[[Any], None]] = field(default_factory=dict)
    interrupt_after: int = 0  # this write is done, and is the last that is
    drops_tags: bool = False  # of the calls that create a bucket or a stream, as moto 5.2 does

    def sent(self, params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any]:
        check_parameters(params, model)
        self.calls.append(Call(model.service_model.service_name, model.name, dict(params)))
        is_dropping = self.drops_tags and model.name in ("CreateBucket", "CreateStream")
        return without_tags(params) if is_dropping else params

    def refuse(self, model: Any, **_: Any) -> Any:
        refusals = self.refusals.get(f"{model.service_model.service_name}.{model.name}")
        if not refusals:
            return None
        code, message = refusals.pop(0)
        error = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        return Answered(), error

    def answered(self, http_response: Any, parsed: Any, model: Any, **_: Any) -> None:
        if "Error" in parsed:
            return
        if edit := self.edits.get(model.name):
            edit(parsed)
        if self.interrupt_after and len(self.writes) == self.interrupt_after:
            raise Interrupted

    @property
    def writes(self) -> list[str]:
        return [call.operation for call in self.calls if call.is_write]

    def forget(self) -> None:
        self.__dict__.update(Wire(drops_tags=self.drops_tags).__dict__)


class Answered:
    status_code = 400


def without_tags(parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        key: without_tags(value) if isinstance(value, dict) else value
        for key, value in parameters.items()
        if key != "Tags"
    }


def check_parameters(params: Any, model: Any) -> None:
    """Raises ParamValidationError where a parameter is not of the service's model, its enums included."""
    report = ParamValidator().validate(params, model.input_shape)
    faults = [report.generate_report()] if report.has_errors() else []
    faults += list(enum_faults(params, model.input_shape, model.name))
    if faults:
        raise ParamValidationError(report="; ".join(faults))


def enum_faults(value: Any, shape: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, inner in value.items():
            yield from enum_faults(inner, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for inner in value:
            yield from enum_faults(inner, shape.member, path)
    elif shape.type_name == "map":
        for name, inner in value.items():
            yield from enum_faults(name, shape.key, path)
            yield from enum_faults(inner, shape.value, path)
    elif getattr(shape, "enum", []) and value not in shape.enum:
        yield f"{path}: {value!r} is none of {shape.enum}"


@pytest.fixture(scope="module")
def wire_and_clients() -> tuple[Wire, Any, dict[str, Any]]:
    """Made once: clients cost more time than most tests."""
    wire = Wire()
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    session.events.register("provide-client-params", wire.sent)
    session.events.register("before-call", wire.refuse)
    session.events.register("after-call", wire.answered)
    return wire, session, {}


@pytest.fixture
def wire(wire_and_clients: Any) -> Wire:
    wire: Wire = wire_and_clients[0]
    wire.drops_tags = False
    wire.forget()
    return wire


@pytest.fixture
def aws() -> Iterator[model.EmulatedAws]:
    if not PLAIN_MOTO:
        model.install_model()
    model.CURRENT[0] = model.EmulatedAws()
    yield model.CURRENT[0]
    model.CURRENT[0].reset()


@pytest.fixture
def account(aws: model.EmulatedAws, wire: Wire, wire_and_clients: Any) -> Iterator[Account]:
    _, session, clients = wire_and_clients
    with mock_aws():
        yield Account(session, "lending", poll_seconds=0, sleep=lambda seconds: None, clients=clients)


def forget_all(wire: Wire) -> None:
    """The account is empty, as at the beginning of a test; so is what was asked of it."""
    moto_api_backend.reset()
    wire.forget()


# --------------------------------------------------------------------------------------------------------
# Documents, and the engine over a chain
# --------------------------------------------------------------------------------------------------------


def trust(service: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def allow(action: str | list[str], resource: Any) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}],
    }


def apply(chain: list[Resource]) -> tuple[list[Step], dict[str, Live | None]]:
    observed = observe(chain)
    steps = plan(chain, observed)
    return steps, execute(chain, steps, observed, silent)


def silent(moment: str, step: Step, seconds: float) -> None:
    pass


def actions(chain: list[Resource]) -> list[Action]:
    return [step.action for step in plan(chain, observe(chain))]
