"""Every command in the README runs, and prints what the README shows."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from provision.estimate import PRESETS, Estimate, duration, estimate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TOUR = README.partition("### Try it on a laptop")[2].partition("\n### ")[0]
LAKE_TOUR = README.partition("## Read and prove it")[2].partition("\n## ")[0]
RUN_ELSEWHERE = {
    "make local": "test_local_run runs the same, shorter",
    "make lint": "CI runs it before the tests",
    "make test": "it runs this test",
    "make soak": "it takes many minutes; a part of each of its tests runs here",
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
    return commands_in(README.replace(TOUR, "").replace(LAKE_TOUR, ""))


def commands_in(text: str) -> list[tuple[str, str]]:
    found = []
    for kind, block in re.findall(r"```(sh|console)\n(.*?)```", text, re.DOTALL):
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


# --------------------------------------------------------------------------------------------------------
# The tour: two servers, and the verbs one after the other
# --------------------------------------------------------------------------------------------------------

# What differs from run to run.
CHANGING = {
    r"subnet-[0-9a-f]+": "subnet-1",
    r"127\.0\.0\.1:\d+": "127.0.0.1:1",
    r"PGPORT=\d+": "PGPORT=1",
    r"\d+ s\b": "1 s",
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?": "2026-03-01 09:00:00",
    r"zip \S{12}\.\.\.": "zip abc...",
    r"(?m)^(public\.\w+ +)\d( +[\d,]+ +)\d+ +[\d,]+ +0$": r"\g<1>1\g<2>1 1 0",  # hours, objects, bytes
    r"\d+ hours compacted": "3 hours compacted",
}


def steady(text: str) -> list[str]:
    for pattern, same in CHANGING.items():
        text = re.sub(pattern, same, text)
    return text.splitlines()


def is_shown(shown: list[str], printed: list[str]) -> bool:
    """Whether what the README shows was printed; "..." stands for any lines."""
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(is_shown(shown[1:], printed[start:]) for start in range(len(printed) + 1))
    return bool(printed) and shown[0] == printed[0] and is_shown(shown[1:], printed[1:])


@contextlib.contextmanager
def serving(command: str, checkout: Path, environment: dict[str, str], exports: int) -> Iterator[str]:
    """The lines that a server prints until it has printed so many exports; it ends with the block."""
    process = subprocess.Popen(
        shlex.split(command), cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        while sum(line.startswith("export ") for line in lines) < exports:
            lines.append(process.stdout.readline())
            assert lines[-1], "".join(lines)
        yield "".join(lines)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()


def exported(text: str) -> dict[str, str]:
    """{"PGPORT": "5432"}, of export PGHOST=... PGPORT=5432"""
    words = [word for line in text.splitlines() if line.startswith("export ") for word in line.split()[1:]]
    return dict(word.split("=", 1) for word in words)


def test_the_tour_of_provisioning_prints_what_it_shows(checkout: Path) -> None:
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
    environment = {**kept, "HOME": str(checkout), "AWS_EC2_METADATA_DISABLED": "true"}
    aws, postgres, export, *verbs = commands_in(TOUR)
    with (
        serving(f"{aws[0]} --port 0", checkout, environment, exports=2) as said_by_aws,
        serving(postgres[0], checkout, environment, exports=1) as said_by_postgres,
    ):
        shown = aws[1].replace("http://127.0.0.1:5555", "http://127.0.0.1:1")
        assert steady(said_by_aws) == steady(shown)
        assert steady(said_by_postgres) == steady(postgres[1])
        environment |= exported(said_by_aws) | exported(said_by_postgres) | exported(export[0])
        codes = []
        for command, output in verbs:
            result = subprocess.run(
                shlex.split(command),
                cwd=checkout,
                env=environment,
                capture_output=True,
                text=True,
                timeout=240,
            )
            assert is_shown(steady(output), steady(result.stdout)), result.stdout + result.stderr
            codes.append((command.partition("setup_dms.py ")[2], result.returncode))
    assert codes == [
        ("check", 0),
        ("plan", 3),
        ("apply --yes", 0),
        ("plan", 0),
        ("status", 0),
        ("destroy --yes", 0),
    ]


def test_the_tour_of_what_landed_prints_what_it_shows(checkout: Path, tmp_path: Path) -> None:
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
    home = {**kept, "HOME": str(tmp_path)}
    (run, _), (read, _), *commands = commands_in(LAKE_TOUR)
    assert read == ". .local-run/environment"
    process = subprocess.Popen(shlex.split(run), cwd=checkout, env=home, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        while "a table made now" not in (line := process.stderr.readline()):
            assert line, "it has ended"
        given = exported((checkout / ".local-run/environment").read_text())
        for command, output in commands:
            words = shlex.split(command)
            if words[0] == "psql":  # which not every machine has
                run_sql(given, words[2::2])
                continue
            result = subprocess.run(
                words, cwd=checkout, env={**home, **given}, capture_output=True, text=True, timeout=120
            )
            assert is_shown(steady(output), steady(result.stdout)), result.stdout + result.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)


def run_sql(given: dict[str, str], statements: list[str]) -> None:
    with contextlib.closing(psycopg2.connect(dbname=given["PGDATABASE"], **libpq(given))) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


def libpq(given: dict[str, str]) -> dict[str, str]:
    keys = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password"}
    return {name: given[key] for key, name in keys.items()}


def test_the_sizes_of_the_readme_are_those_of_the_estimate() -> None:
    rows = [
        [cell.strip(" *") for cell in line.split("|")[1:-1]]
        for line in README.splitlines()
        if line.startswith("|")
    ]
    table = {row[0]: row[1:] for row in rows}
    made = [estimate(*PRESETS[size]) for size in ("small", "medium", "large")]

    assert table["USD a month"] == [f"{one.monthly_usd:,.0f}" for one in made]
    assert table["S3 PUTs"] == [f"{usd_of(one, 's3 puts'):,.0f}" for one in made]
    assert table["replication instance"] == [
        f"{one.chain.dms_class} {usd_of(one, one.chain.dms_class):,.0f}" for one in made
    ]
    assert table["stream, 7 days"] == [
        f"{sum(usd_of(one, part) for part in ('shard hour', 'put units', 'retention to 7 days')):,.0f}"
        for one in made
    ]
    assert table["full load"] == [
        f"{one.workload.rows_to_load / 1e6:.0f} million rows, {duration(one.load.seconds)}"
        for one in made
        if one.workload.rows_to_load
    ]


def usd_of(made: Estimate, part: str) -> float:
    return sum(line.usd or 0 for line in made.lines if line.part == part)
