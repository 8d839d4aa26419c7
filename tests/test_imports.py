"""Who may import what of ours: the layers of the house, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"lambda_function", "setup_dms", "lake", "provision", "lake_tools", "local_run"}
# Of what each imports of ours besides itself; local_run has the function only as the built zip.
MAY_IMPORT = {
    "lambda_function": set[str](),
    "provision": set[str](),
    "setup_dms": {"provision", "lake_tools"},
    "lake_tools": {"lambda_function", "provision"},
    "lake": {"lake_tools"},
    "local_run": {"provision", "setup_dms"},
}


def sources(part: str) -> list[Path]:
    """Its files; none while it does not exist."""
    return [path for path in [ROOT / f"{part}.py", *sorted((ROOT / part).rglob("*.py"))] if path.exists()]


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """("provision", 7): the packages that the file imports anywhere, functions included, and the lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = path.relative_to(ROOT).parts[0] if node.level else str(node.module)
            yield name.partition(".")[0], node.lineno


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_is_below_it(part: str) -> None:
    if not sources(part):
        pytest.skip(f"there is no {part}")
    allowed = MAY_IMPORT[part] | {part}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(part)
        for name, line in imported(path)
        if name in OURS - allowed
    ]
    assert wrong == []


def test_only_tests_and_benchmarks_are_not_among_the_parts() -> None:
    """Whatever else has sources at the top is a part, and has its line above."""
    folders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith(".") and any(path.glob("*.py"))
    }
    files = {path.stem for path in ROOT.glob("*.py")}
    assert (folders | files) - {"tests", "benchmarks"} <= set(MAY_IMPORT)
