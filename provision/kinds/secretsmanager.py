"""Secrets of Secrets Manager."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provision.aws import DENIED, Account, Refusal
from provision.engine import UNKNOWN, Kind, Live, Spec
from provision.kinds.documents import tags_in, there

ABSENT = {"ResourceNotFoundException"}
RECOVERY_DAYS = 7  # the least that AWS takes; a secret deleted by mistake can be restored until then


@dataclass
class Secret(Kind):
    """A secret: Name, SecretString (document or text), IsCurrent (True), Description; AWS's key encrypts it.

    Attributes: name, arn, version (its id; UNKNOWN before a new value is written), is_readable, others
    ({"host": (old, new)}: what of a document differs besides the password).
    SecretString is never part of a diff, so it is in no plan and in no message; instead the chain declares
    IsCurrent: True, and a secret that holds something else is found with IsCurrent False. A caller who may
    not read the secret sees True: its value is then written once only. No hash of the value is stored
    anywhere: a password could be guessed from it.

    A secret of ours that is scheduled for deletion counts as absent, and create restores it.
    """

    account: Account
    label = "secret"
    immutable = frozenset({"Name"})
    write_only = frozenset({"SecretString"})
    why_not_replaced = "a secret keeps its name for days after its deletion"

    def find(self, spec: Spec) -> Live | None:
        name = spec["Name"]
        found = self.described(name)
        if found is None:
            return None
        attributes: dict[str, Any] = {"name": name, "arn": found["ARN"]}
        is_ours = self.is_ours(found)
        if "DeletedDate" in found:
            return (
                None
                if is_ours
                else Live({"Name": name}, attributes | {"version": "", "is_readable": False}, is_ours=False)
            )
        stored = self.stored(name)
        is_current = stored is None or value_of(stored, spec["SecretString"]) == spec["SecretString"]
        values = {"Name": name, "Description": found.get("Description"), "IsCurrent": is_current}
        attributes |= {
            "version": version_of(found) if is_current or not is_ours else UNKNOWN,
            "is_readable": stored is not None,
            "others": differing(value_of(stored or "", spec["SecretString"]), spec["SecretString"]),
        }
        return Live(values, attributes, is_ours)

    def create(self, spec: Spec) -> Live:
        name = spec["Name"]
        found = self.described(name)
        if found is not None and self.is_ours(found):
            self.call("restore_secret", name, SecretId=name)
            return self.update(Live({}, {}), spec, frozenset(spec))
        described = {"Description": spec["Description"]} if "Description" in spec else {}
        text = text_of(spec["SecretString"])
        self.call(
            "create_secret", name, Name=name, SecretString=text, Tags=self.account.tag_list, **described
        )
        return there(self, self.account, spec)

    def update(self, live: Live, spec: Spec, changed: frozenset[str]) -> Live:
        name = spec["Name"]
        if "Description" in changed:
            self.call("update_secret", name, SecretId=name, Description=spec["Description"])
        if changed & {"IsCurrent", "SecretString"}:
            self.call("put_secret_value", name, SecretId=name, SecretString=text_of(spec["SecretString"]))
        return there(self, self.account, spec)

    def delete(self, live: Live, spec: Spec) -> None:
        name = spec["Name"]
        found = self.described(name)
        if found is not None and "DeletedDate" not in found:
            self.account.find(
                "secretsmanager",
                "delete_secret",
                f"secret {name}",
                ABSENT,
                SecretId=name,
                RecoveryWindowInDays=RECOVERY_DAYS,
            )

    def described(self, name: str) -> Any:
        return self.account.find("secretsmanager", "describe_secret", f"secret {name}", ABSENT, SecretId=name)

    def stored(self, name: str) -> str | None:
        """The text that the secret holds; None where the caller may not look."""
        try:
            found = self.account.find(
                "secretsmanager", "get_secret_value", f"secret {name}", ABSENT, SecretId=name
            )
        except Refusal as error:
            if error.code in DENIED:
                return None
            raise
        return str((found or {}).get("SecretString", ""))

    def is_ours(self, found: Any) -> bool:
        return self.account.is_ours(tags_in(found.get("Tags", [])))

    def call(self, operation: str, name: str, **parameters: Any) -> Any:
        return self.account.call("secretsmanager", operation, f"secret {name}", **parameters)


def version_of(found: Any) -> str:
    """The id of the version that readers get; empty before there is one."""
    stages = found.get("VersionIdsToStages", {})
    return next((version for version, names in stages.items() if "AWSCURRENT" in names), "")


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def value_of(text: str, wanted: Any) -> Any:
    """The secret's text as the wanted value is given: a text as it is, a document ({} for another text)."""
    if isinstance(wanted, str):
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def differing(stored: Any, wanted: Any) -> dict[str, tuple[Any, Any]]:
    """What of the two is not the same, the password left out; nothing before both are known."""
    if not isinstance(stored, Mapping) or not isinstance(wanted, Mapping):
        return {}
    return {
        key: (stored[key], value)
        for key, value in wanted.items()
        if key != "password" and key in stored and stored[key] != value and value is not UNKNOWN
    }
