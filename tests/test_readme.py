"""Every command in the README runs, and prints what the README shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RUN_ELSEWHERE = {
    "make lint": "CI runs it before the tests",
    "make test": "it runs this test",
    "make bench": "it takes minutes and is no test",
    "python3 -m venv .venv": "it makes what this test runs in",
    ".venv/bin/pip install -r requirements.txt": "the same",
    ".venv/bin/python -m pytest": "it runs this test",
    "make zip": "test_deploy builds the zip, and the same zip twice",
    "./deploy.sh --build-only": "test_deploy",
    "./deploy.sh --function lending-lambda": "test_deploy, against an emulated AWS",
    "./deploy.sh --function lending-lambda --rollback": "test_deploy, against an emulated AWS",
}


def commands() -> list[tuple[str, str]]:
    """(command, output shown or "") of the README's sh and console blocks, in their order."""
    found = []
    for kind, block in re.findall(r"```(sh|console)\n(.*?)```", README, re.DOTALL):
        if kind == "sh":
            found += [(line, "") for line in block.splitlines()]
        else:
            for part in block.removeprefix("$ ").split("\n$ "):
                command, _, output = part.partition("\n")
                found.append((command, output))
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would hand to a user, with the environment of this test as its .venv."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        (folder / ".venv" / part.name).symlink_to(part)
    for stamp in ("made", "tools"):
        (folder / ".venv" / stamp).unlink(missing_ok=True)
        (folder / ".venv" / stamp).touch()
    return folder


@pytest.mark.parametrize(
    ("command", "output"),
    [pytest.param(*found, id=found[0]) for found in commands() if found[0] not in RUN_ELSEWHERE],
)
def test_command_of_the_readme_prints_what_it_shows(checkout: Path, command: str, output: str) -> None:
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
    result = subprocess.run(
        command,
        shell=True,
        cwd=checkout,
        env={**kept, "HOME": str(checkout)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert result.returncode == 0, result.stderr
    if output:
        lines = [line for line in result.stdout.splitlines() if not line.startswith(".venv/bin/python ")]
        assert "\n".join(lines) + "\n" == output


def test_commands_that_run_elsewhere_are_in_the_readme() -> None:
    assert RUN_ELSEWHERE.keys() <= {command for command, _ in commands()}


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
            anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target
