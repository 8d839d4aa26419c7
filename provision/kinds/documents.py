"""What the kinds of all services share: waiting for an object, tags, documents that AWS rewrites."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from provision.aws import Account
from provision.engine import Kind, Live, Spec


def there(kind: Kind, account: Account, spec: Spec) -> Live:
    """What find sees, once it sees the object: AWS may need some seconds to show what it has made."""
    seen: list[Live] = []

    def is_there() -> bool:
        live = kind.find(spec)
        seen.extend([] if live is None else [live])
        return live is not None

    account.wait(f"the {kind.label} to be seen", 60, is_there)
    return seen[0]


def tags_in(tags: list[dict[str, str]]) -> dict[str, str]:
    """{"pipeline": "lending"}, of [{"Key": "pipeline", "Value": "lending"}]"""
    return {tag["Key"]: tag["Value"] for tag in tags}


def as_declared(wanted: Any, found: Any) -> Any:
    """wanted, where found says the same: in another order, or with keys that AWS has added; else found."""
    return wanted if covers(found, wanted) else found


def covers(found: Any, wanted: Any) -> bool:
    """Whether all that wanted says is in found; a list has to have the same elements, in any order."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return all(key in found and covers(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(any(covers(one, value) for one in found) for value in wanted)
    return bool(wanted == found)


def policy_as_declared(wanted: Any, found: Any) -> Any:
    """wanted, where the policy that was found allows and denies the same; else found."""
    if not isinstance(wanted, Mapping) or not isinstance(found, Mapping):
        return found
    return wanted if canonical_policy(wanted) == canonical_policy(found) else found


def canonical_policy(document: Mapping[str, Any]) -> dict[str, Any]:
    """The policy with every choice of spelling taken away that IAM leaves: one text or a list of one, order,
    true or "true", an account's number or the ARN of its root.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
    """
    statements = document.get("Statement", [])
    if isinstance(statements, Mapping):
        statements = [statements]
    return {**document, "Statement": [canonical_statement(statement) for statement in statements]}


def canonical_statement(statement: Any) -> Any:
    """A part that is not known before apply is left as it is."""
    if not isinstance(statement, Mapping):
        return statement
    canonical = dict(statement)
    for key in ("Action", "NotAction", "Resource", "NotResource"):
        if key in canonical:
            canonical[key] = texts(canonical[key])
    for key in ("Principal", "NotPrincipal"):
        named = {"AWS": "*"} if canonical.get(key) == "*" else canonical.get(key)
        if isinstance(named, Mapping):
            canonical[key] = {
                sort: sorted(account_of(one) for one in texts(who)) for sort, who in named.items()
            }
    if isinstance(canonical.get("Condition"), Mapping):
        canonical["Condition"] = {
            operator: {key: texts(value) for key, value in tests.items()}
            for operator, tests in canonical["Condition"].items()
        }
    return canonical


def texts(value: Any) -> list[str]:
    many = value if isinstance(value, list | tuple) else [value]
    return sorted({str(one).lower() if isinstance(one, bool) else str(one) for one in many})


def account_of(principal: str) -> str:
    """123456789012, of arn:aws:iam::123456789012:root; any other principal as it is."""
    return re.sub(r"^arn:[a-z-]+:iam::(\d{12}):root$", r"\1", principal)
