"""deploy.sh, run as it stands: pip gets the wheels, the AWS CLI talks to moto."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda.models import LambdaBackend, LambdaFunction, LambdaStorage

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
FUNCTION = "lending"
HANDLER = "lambda_function.lambda_handler"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
ELF_MACHINES = {"arm64": ("aarch64", 183), "x86_64": ("x86_64", 62)}  # names in files, numbers in ELF headers
TOOLS = (
    *("awk", "bash", "cat", "cp", "dirname", "grep", "mkdir", "mktemp"),
    *("rm", "sed", "seq", "sort", "tail", "tr", "uname", "wc"),
)

MOTO_UPDATE: Callable[..., dict[str, Any]] = LambdaFunction.update_function_code
MOTO_PUBLISH: Callable[..., Any] = LambdaStorage.publish_version

Completed = subprocess.CompletedProcess[str]
Deploy = Callable[..., Completed]


def run(tree: Path, *options: str, **variables: str) -> Completed:
    """deploy.sh of the tree, started in another directory, without the machine's AWS configuration."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_MAX_ATTEMPTS": "1",
        **variables,
    }
    command = [str(tree / "deploy.sh"), *options]
    return subprocess.run(command, cwd=tree.parent, env=environment, capture_output=True, text=True)


def copy_tree(folder: Path) -> Path:
    """What deploy.sh needs, in a folder whose name has a space."""
    tree = folder / "the tree"
    tree.mkdir()
    for name in ("deploy.sh", "lambda_function.py", "requirements-lambda.txt"):
        shutil.copy(ROOT / name, tree)
    return tree


def failure(completed: Completed) -> str:
    """What the one line on stderr says; fails when there are more."""
    assert completed.returncode == 1
    [line] = completed.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def sha256(path: Path) -> str:
    return base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_tree(tmp_path)


@pytest.fixture(scope="module")
def zips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The zip of each architecture."""
    built = {}
    for arch in ("arm64", "x86_64"):
        tree = copy_tree(tmp_path_factory.mktemp(arch))
        completed = run(tree, "--build-only", "--arch", arch)
        assert (completed.returncode, completed.stderr) == (0, "")
        built[arch] = tree / "build/lambda.zip"
    return built


def post(url: str, document: Any = None) -> None:
    urllib.request.urlopen(url, data=json.dumps(document).encode()).close()


@pytest.fixture
def functions(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of moto's Lambda, corrected where it differs from AWS, with the function FUNCTION on arm64."""
    monkeypatch.setattr(LambdaFunction, "update_function_code", update_code_as_aws_does)
    monkeypatch.setattr(LambdaStorage, "publish_version", publish_as_aws_does)
    post(f"{moto_url}/moto-api/reset")
    iam = boto3.client("iam", endpoint_url=moto_url)
    role = iam.create_role(RoleName="lending-lambda", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"][
        "Arn"
    ]
    client = boto3.client("lambda", endpoint_url=moto_url)
    for operation in ("CreateFunction", "UpdateFunctionCode", "UpdateFunctionConfiguration"):
        client.meta.events.register(f"after-call.lambda.{operation}", lambda **_: settled(client))
    code = {"ZipFile": zip_of("the first code")}
    client.create_function(
        FunctionName=FUNCTION,
        Runtime="python3.13",
        Handler=HANDLER,
        Role=role,
        Code=code,
        Architectures=["arm64"],
    )
    yield client
    client.close()
    iam.close()


def settled(client: Any) -> None:
    """A function takes the next change once its state was seen; deploy.sh waits for its own changes."""
    client.get_function_configuration(FunctionName=FUNCTION)


def update_code_as_aws_does(function: LambdaFunction, changes: dict[str, Any]) -> dict[str, Any]:
    """moto keeps the architecture whatever the call says."""
    function.architectures = changes.get("Architectures", function.architectures)
    return MOTO_UPDATE(function, changes)


def publish_as_aws_does(storage: LambdaStorage, name: str, description: str = "") -> LambdaFunction:
    """moto counts the versions that are left and publishes unchanged code again; AWS does neither.

    Source: https://docs.aws.amazon.com/lambda/latest/api/API_PublishVersion.html
    """
    latest, *versions = storage.list_versions_by_function(name)
    code = (latest.code_sha_256, latest.architectures)
    if versions and (versions[-1].code_sha_256, versions[-1].architectures) == code:
        return versions[-1]
    last_number = max((int(version.version) for version in versions), default=0)
    published: LambdaFunction = MOTO_PUBLISH(storage, name, description)
    published.set_version(last_number + 1)
    return published


def zip_of(text: str) -> bytes:
    """A zip that differs with the text."""
    return b"PK\x05\x06" + bytes(16) + len(text).to_bytes(2, "little") + text.encode()


def publish_versions(client: Any, count: int) -> None:
    for number in range(1, count + 1):
        client.update_function_code(FunctionName=FUNCTION, ZipFile=zip_of(f"code {number}"), Publish=True)


def published(client: Any) -> list[str]:
    versions = client.list_versions_by_function(FunctionName=FUNCTION)["Versions"]
    return [version["Version"] for version in versions if version["Version"] != "$LATEST"]


def live(client: Any) -> str:
    version: str = client.get_alias(FunctionName=FUNCTION, Name="live")["FunctionVersion"]
    return version


@pytest.fixture
def deploy(tree: Path, moto_url: str) -> Deploy:
    """Runs deploy.sh for FUNCTION: deploy("--rollback")."""

    def deployed(*options: str, **variables: str) -> Completed:
        return run(tree, "--function", FUNCTION, "--endpoint-url", moto_url, *options, **variables)

    return deployed


# ----------------------------------------------------------------------------------------------------------
# The zip
# ----------------------------------------------------------------------------------------------------------


def test_zip_holds_the_handler_and_the_pinned_packages(zips: dict[str, Path]) -> None:
    requirements = (ROOT / "requirements-lambda.txt").read_text()
    pinned = re.findall(r"^([a-z]+)==([0-9.]+)$", requirements, re.MULTILINE)
    assert [name for name, _ in pinned] == ["msgspec", "isal"]
    with zipfile.ZipFile(zips["arm64"]) as archive:
        names = archive.namelist()
        handler = archive.read("lambda_function.py")
    folders = {folder for name, version in pinned for folder in (name, f"{name}-{version}.dist-info")}
    assert {name.partition("/")[0] for name in names} == {"lambda_function.py", *folders}
    assert handler == (ROOT / "lambda_function.py").read_bytes()
    assert zips["arm64"].stat().st_size < 2_000_000


def test_zip_keeps_licences_and_leaves_out_notes_of_pip(zips: dict[str, Path]) -> None:
    with zipfile.ZipFile(zips["arm64"]) as archive:
        files = [Path(name) for name in archive.namelist()]
    licensed = {path.parts[0].partition("-")[0] for path in files if path.name == "LICENSE"}
    assert licensed == {"msgspec", "isal"}
    assert not {path.name for path in files} & {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    assert not {part for path in files for part in path.parts} & {"bin", "__pycache__"}


def test_zip_is_the_same_whenever_and_wherever_it_is_built(zips: dict[str, Path], tree: Path) -> None:
    os.utime(tree / "lambda_function.py", (0, 0))
    (tree / "lambda_function.py").chmod(0o600)
    completed = run(tree, "--build-only", TZ="Asia/Tokyo", LC_ALL="C")
    assert completed.returncode == 0
    assert (tree / "build/lambda.zip").read_bytes() == zips["arm64"].read_bytes()


def test_zip_is_readable_for_everybody_and_has_no_dates(zips: dict[str, Path]) -> None:
    with zipfile.ZipFile(zips["arm64"]) as archive:
        entries = archive.infolist()
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)


@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
def test_wheels_run_on_python_3_13_of_amazon_linux_2023(arch: str, zips: dict[str, Path]) -> None:
    machine, elf_machine = ELF_MACHINES[arch]
    with zipfile.ZipFile(zips[arch]) as archive:
        libraries = {name: archive.read(name) for name in archive.namelist() if name.endswith(".so")}
    assert {name.partition("/")[0] for name in libraries} == {"msgspec", "isal"}
    for name, library in libraries.items():
        assert name.endswith(f".cpython-313-{machine}-linux-gnu.so")
        assert library.startswith(b"\x7fELF")
        assert int.from_bytes(library[18:20], "little") == elf_machine
        glibc = {int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", library)}
        assert 0 < max(glibc) <= 34


@pytest.mark.parametrize(
    ("arch", "machine", "oldest_glibc", "older_names"),
    [
        ("arm64", "aarch64", 17, ["manylinux2014"]),
        ("x86_64", "x86_64", 5, ["manylinux2014", "manylinux2010", "manylinux1"]),
    ],
    ids=["arm64", "x86_64"],
)
def test_pip_is_told_every_platform_of_amazon_linux_2023(
    arch: str, machine: str, oldest_glibc: int, older_names: list[str], tree: Path, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/arguments"\nexit 1\n')
    python.chmod(0o755)
    message = failure(run(tree, "--build-only", "--arch", arch, PYTHON=str(python)))
    assert message == f"no wheels of requirements-lambda.txt for {arch}: pip failed"
    arguments = (tmp_path / "arguments").read_text().splitlines()
    options = list(pairwise(arguments))
    names = [f"manylinux_2_{glibc}" for glibc in range(34, oldest_glibc - 1, -1)] + older_names
    assert [value for option, value in options if option == "--platform"] == [
        f"{name}_{machine}" for name in names
    ]
    assert {("--python-version", "3.13"), ("--implementation", "cp"), ("--abi", "cp313")} < set(options)


def test_build_says_what_it_built_and_leaves_the_zip_alone(tree: Path) -> None:
    completed = run(tree, "--build-only", "--arch", "local")
    size_kb = (tree / "build/lambda.zip").stat().st_size // 1000
    assert completed.stdout == f"built build/lambda.zip for local: {size_kb} KB\n"
    assert [path.name for path in (tree / "build").iterdir()] == ["lambda.zip"]


@pytest.mark.parametrize("is_absolute", [True, False], ids=["absolute path", "relative path"])
def test_build_into_another_file_leaves_the_zip_for_aws_alone(
    is_absolute: bool, tree: Path, tmp_path: Path
) -> None:
    (tree / "build").mkdir()
    (tree / "build/lambda.zip").write_bytes(b"for AWS")
    target = tmp_path / "the run.zip"
    name = str(target) if is_absolute else target.name
    completed = run(tree, "--build-only", "--arch", "local", "--zip", name)
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout == f"built {name} for local: {target.stat().st_size // 1000} KB\n"
    with zipfile.ZipFile(target) as archive:
        assert "lambda_function.py" in archive.namelist()
    assert (tree / "build/lambda.zip").read_bytes() == b"for AWS"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["the run.zip", "the tree"]


def test_build_into_a_folder_that_is_not_there_is_an_error(tree: Path, tmp_path: Path) -> None:
    message = failure(run(tree, "--build-only", "--arch", "local", "--zip", str(tmp_path / "absent/x.zip")))
    assert message.startswith(f"cannot build {tmp_path}/absent/x.zip: FileNotFoundError")


def test_build_takes_the_python_of_the_venv_beside_it(tree: Path, tools: Path) -> None:
    (tree / ".venv").symlink_to(sys.prefix)
    completed = run(tree, "--build-only", "--arch", "local", PATH=str(tools), PYTHON="")
    assert (completed.returncode, completed.stderr) == (0, "")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH without python3 and aws."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is missing"))
    return folder


# ----------------------------------------------------------------------------------------------------------
# Shipping
# ----------------------------------------------------------------------------------------------------------


def test_deploy_of_changed_code_moves_the_alias(functions: Any, deploy: Deploy, tree: Path) -> None:
    first = deploy("--arch", "x86_64")
    assert first.stderr == ""
    assert first.stdout.splitlines()[1:] == ["uploaded to lending: version 1", "alias live: created -> 1"]
    first_sha256 = sha256(tree / "build/lambda.zip")

    with (tree / "lambda_function.py").open("a") as handler:
        handler.write("# changed\n")
    second = deploy()
    assert second.stderr == ""
    assert second.stdout.splitlines()[1:] == ["uploaded to lending: version 2", "alias live: 1 -> 2"]

    shipped = [
        functions.get_function_configuration(FunctionName=FUNCTION, Qualifier=q) for q in ("1", "live")
    ]
    assert [version["CodeSha256"] for version in shipped] == [first_sha256, sha256(tree / "build/lambda.zip")]
    assert [version["Architectures"] for version in shipped] == [["x86_64"], ["arm64"]]
    assert first_sha256 != sha256(tree / "build/lambda.zip")


def test_deploy_of_the_same_code_says_so(functions: Any, deploy: Deploy, zips: dict[str, Path]) -> None:
    publish_versions(functions, 1)
    code = zips["arm64"].read_bytes()
    functions.update_function_code(FunctionName=FUNCTION, ZipFile=code, Architectures=["arm64"], Publish=True)
    functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="1")
    uploaded = "uploaded to lending: the same as version 2, no new one"
    assert deploy().stdout.splitlines()[1:] == [uploaded, "alias live: 1 -> 2"]
    assert deploy().stdout.splitlines()[1:] == [uploaded, "alias live: stays at 2"]
    assert (published(functions), live(functions)) == (["1", "2"], "2")


def test_deploy_keeps_five_versions_and_those_of_other_aliases(functions: Any, deploy: Deploy) -> None:
    publish_versions(functions, 9)
    functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="9")
    shared = {"AdditionalVersionWeights": {"3": 0.1}}
    functions.create_alias(FunctionName=FUNCTION, Name="audit", FunctionVersion="1", RoutingConfig=shared)
    completed = deploy()
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout.splitlines()[1:] == [
        "uploaded to lending: version 10",
        "alias live: 9 -> 10",
        "deleted version 5",
        "deleted version 4",
        "kept version 3: alias audit points to it",
        "deleted version 2",
        "kept version 1: alias audit points to it",
    ]
    assert published(functions) == ["1", "3", "6", "7", "8", "9", "10"]
    assert functions.get_function(FunctionName=FUNCTION)["Configuration"]["Version"] == "$LATEST"


def test_deploy_waits_for_an_update_in_progress(
    functions: Any, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto is always ready; here its third look at the function finds the update finished."""
    looks = 0
    get_configuration = LambdaFunction.get_configuration
    update_function_code = LambdaBackend.update_function_code

    def configuration(function: LambdaFunction, on_create: bool = False) -> dict[str, Any]:
        nonlocal looks
        looks += 1
        found: dict[str, Any] = get_configuration(function, on_create)
        return found if looks > 2 else {**found, "LastUpdateStatus": "InProgress"}

    def update(backend: LambdaBackend, *arguments: Any, **named: Any) -> Any:
        if looks <= 2:
            raise LambdaClientError("ResourceConflictException", "An update is in progress")
        return update_function_code(backend, *arguments, **named)

    monkeypatch.setattr(LambdaFunction, "get_configuration", configuration)
    monkeypatch.setattr(LambdaBackend, "update_function_code", update)
    completed = deploy("--arch", "local")
    assert (completed.returncode, completed.stderr) == (0, "")
    [architecture] = functions.get_function(FunctionName=FUNCTION)["Configuration"]["Architectures"]
    assert architecture == {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    assert live(functions) == "1"


def test_alias_stays_when_the_upload_fails(
    functions: Any, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_versions(functions, 1)
    functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="1")

    def refuse(*_: Any, **__: Any) -> None:
        raise LambdaClientError("CodeStorageExceededException", "Code storage limit exceeded.\nDelete some.")

    monkeypatch.setattr(LambdaBackend, "update_function_code", refuse)
    assert failure(deploy()) == (
        "cannot upload build/lambda.zip to lending: An error occurred (CodeStorageExceededException) when "
        "calling the UpdateFunctionCode operation: Code storage limit exceeded. Delete some."
    )
    assert (published(functions), live(functions)) == (["1"], "1")


@pytest.mark.parametrize(
    ("version", "failed", "message"),
    [
        (
            "$LATEST",
            "LastUpdateStatus",
            "cannot finish the update of lending: Waiter FunctionUpdatedV2 failed",
        ),
        ("2", "State", "cannot activate version 2 of lending: Waiter PublishedVersionActive failed"),
    ],
    ids=["update", "version"],
)
def test_alias_stays_when_the_new_code_does_not_become_ready(
    version: str,
    failed: str,
    message: str,
    functions: Any,
    deploy: Deploy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish_versions(functions, 1)
    functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="1")
    get_configuration = LambdaFunction.get_configuration

    def configuration(function: LambdaFunction, on_create: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = get_configuration(function, on_create)
        return {**found, failed: "Failed"} if found["Version"] == version else found

    monkeypatch.setattr(LambdaFunction, "get_configuration", configuration)
    assert failure(deploy()).startswith(message)
    assert (published(functions), live(functions)) == (["1", "2"], "1")


# ----------------------------------------------------------------------------------------------------------
# Moving back
# ----------------------------------------------------------------------------------------------------------


def test_rollback_moves_the_alias_to_the_version_before(functions: Any, deploy: Deploy) -> None:
    publish_versions(functions, 13)
    functions.delete_function(FunctionName=FUNCTION, Qualifier="11")
    functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="12")
    before = functions.get_function_configuration(FunctionName=FUNCTION)["CodeSha256"]
    completed = deploy("--rollback")
    assert (completed.stdout, completed.stderr) == ("alias live: 12 -> 10\n", "")
    assert live(functions) == "10"
    assert functions.get_function_configuration(FunctionName=FUNCTION)["CodeSha256"] == before


def test_moved_alias_shares_its_calls_with_no_other_version(functions: Any, deploy: Deploy) -> None:
    publish_versions(functions, 3)
    shared = {"AdditionalVersionWeights": {"3": 0.1}}
    functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="2", RoutingConfig=shared)
    assert deploy("--rollback").stdout == "alias live: 2,3 -> 1\n"
    alias = functions.get_alias(FunctionName=FUNCTION, Name="live")
    assert not alias.get("RoutingConfig", {}).get("AdditionalVersionWeights")


@pytest.mark.parametrize(
    ("alias", "message"),
    [
        ("1", "function lending has no published version before 1"),
        ("$LATEST", "alias live of lending points to $LATEST, which has no version before it"),
        (None, "function lending has no alias live, so nothing to move back"),
    ],
    ids=["first version", "no version", "no alias"],
)
def test_rollback_without_a_version_before_fails(
    alias: str | None, message: str, functions: Any, deploy: Deploy
) -> None:
    publish_versions(functions, 2)
    if alias:
        functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=alias)
    assert failure(deploy("--rollback")) == message
    aliases = functions.list_aliases(FunctionName=FUNCTION)["Aliases"]
    assert [found["FunctionVersion"] for found in aliases] == ([alias] if alias else [])


# ----------------------------------------------------------------------------------------------------------
# What can be wrong
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [[], ["--rollback"]], ids=["deploy", "rollback"])
def test_absent_function_is_named(option: list[str], functions: Any, tree: Path, moto_url: str) -> None:
    message = failure(run(tree, "--function", "absent", "--endpoint-url", moto_url, *option))
    assert "function:absent" in message
    assert "ResourceNotFoundException" in message


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"Handler": "index.handler"}, "index.handler on python3.13"),
        ({"Runtime": "python3.11"}, "lambda_function.lambda_handler on python3.11"),
    ],
    ids=["handler", "runtime"],
)
def test_function_of_other_code_is_left_alone(
    change: dict[str, str], found: str, functions: Any, deploy: Deploy
) -> None:
    functions.update_function_configuration(FunctionName=FUNCTION, **change)
    assert failure(deploy()) == (
        f"function lending is another one: {found}, not lambda_function.lambda_handler on python3.13"
    )
    assert published(functions) == []


def test_missing_credentials_are_named(
    functions: Any, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    message = failure(deploy())
    assert message.startswith("cannot read function lending: Unable to locate credentials")


def test_missing_aws_cli_is_named_and_that_of_the_venv_is_used(
    functions: Any, deploy: Deploy, tree: Path, tools: Path
) -> None:
    assert failure(deploy("--rollback", PATH=str(tools))) == "no AWS CLI here: install it, version 1 or 2"
    (tree / ".venv").symlink_to(sys.prefix)
    assert failure(deploy("--rollback", PATH=str(tools))).startswith("function lending has no alias live")


def test_absent_handler_is_named(tree: Path) -> None:
    (tree / "lambda_function.py").unlink()
    assert failure(run(tree, "--build-only")) == f"cannot read {tree}/lambda_function.py"


def test_unreachable_package_index_is_named(tree: Path, tmp_path: Path) -> None:
    pip = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_CACHE_DIR": str(tmp_path / "cache"),
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "1",
    }
    message = failure(run(tree, "--build-only", **pip))
    assert message.startswith(
        "no wheels of requirements-lambda.txt for arm64: the package index can't be reached; No matching "
    )
    assert list((tree / "build").iterdir()) == []


def test_release_without_a_wheel_is_named(tree: Path) -> None:
    (tree / "requirements-lambda.txt").write_text("msgspec==0.0.1\n")
    assert failure(run(tree, "--build-only")) == (
        "no wheels of requirements-lambda.txt for arm64: No matching distribution found for msgspec==0.0.1"
    )


def test_requirement_without_a_version_is_refused(tree: Path) -> None:
    requirements = (tree / "requirements-lambda.txt").read_text()
    (tree / "requirements-lambda.txt").write_text(re.sub("msgspec==[0-9.]+", "msgspec", requirements))
    message = failure(run(tree, "--build-only"))
    assert re.fullmatch(
        r"cannot build build/lambda.zip: requirements-lambda.txt has to pin what pip installs: "
        r"isal==[0-9.]+, msgspec==[0-9.]+",
        message,
    )
    assert list((tree / "build").iterdir()) == []


def test_python_that_is_absent_or_has_no_pip_is_named(tree: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    assert failure(run(tree, "--build-only", PYTHON=str(python))) == (
        f"no {python} here: install Python, or set PYTHON to one"
    )
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # without site-packages
    python.chmod(0o755)
    assert failure(run(tree, "--build-only", PYTHON=str(python))) == (
        f"{python} has no pip: set PYTHON to a Python that has it"
    )


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ([], "--function NAME is missing"),
        (["--functions", "lending"], "unknown option --functions"),
        (["lending"], "unknown option lending"),
        (["--function"], "--function needs a value"),
        (["--function", "--rollback"], "--function needs a value"),
        (["--function", "lending", "--arch", "mips"], "--arch is arm64, x86_64 or local, not mips"),
        (["--function", "lending", "--rollback", "--arch", "arm64"], "--rollback builds nothing"),
        (["--build-only", "--rollback"], "--rollback builds nothing"),
        (["--build-only", "--function", "lending"], "--build-only ships nothing"),
        (["--function", "lending", "--zip", "x.zip"], "--zip goes with --build-only"),
        (["--build-only", "--zip"], "--zip needs a value"),
        (
            ["--function", "lending", "--arch", "local"],
            "--arch local is not for AWS: add --build-only or --endpoint-url URL",
        ),
    ],
)
def test_wrong_option_ends_with_2_and_one_line(options: list[str], fault: str, tree: Path) -> None:
    completed = run(tree, *options)
    assert (completed.returncode, completed.stdout) == (2, "")
    assert completed.stderr == f"deploy.sh: {fault}; see deploy.sh --help\n"


def test_help_names_every_option(tree: Path) -> None:
    completed = run(tree, "--help")
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout.startswith("usage: deploy.sh --function NAME ")
    script = (tree / "deploy.sh").read_text()
    cases = re.findall(r"^ +(--[a-z-]+(?: \| --[a-z-]+)*)\)", script, re.MULTILINE)
    options = {option for case in cases for option in case.split(" | ")}
    assert {"--function", "--rollback"} < options
    assert all(f"\n  {option} " in completed.stdout for option in options)
