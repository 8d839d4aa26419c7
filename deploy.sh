#!/usr/bin/env bash
# Builds build/lambda.zip and ships it to the Lambda function; the usage below says what it does.
# Needs bash 3.2 and pip; to ship, also the AWS CLI (1 or 2), with credentials and a region.
set -euo pipefail

usage='usage: deploy.sh --function NAME [--arch ARCH] [--endpoint-url URL]
       deploy.sh --function NAME --rollback [--endpoint-url URL]
       deploy.sh --build-only [--arch ARCH] [--zip FILE]

Builds build/lambda.zip, publishes it as a new version of the function and moves its alias live there. Of the
published versions it keeps the last five, and those that an alias points to.

  --function NAME      the function, which must exist
  --arch ARCH          arm64 (default) or x86_64, for python3.13; local, for this Python on this machine
  --rollback           only move the alias live back, to the published version before the one it points to
  --build-only         only build
  --zip FILE           what to build, instead of build/lambda.zip
  --endpoint-url URL   where the AWS CLI sends its calls, instead of to AWS
  --help               print this

PYTHON is the Python whose pip gets the wheels (default: .venv/bin/python beside this script, or python3).
The AWS CLI reads credentials, region and profile as ever.'

runtime=python3.13
newest_glibc=34 # python3.13 runs on Amazon Linux 2023, which has glibc 2.34
handler=lambda_function.lambda_handler
kept_versions=5
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
zip=build/lambda.zip # as messages have it; its path is $zip_path
export AWS_PAGER=""

main() {
  read_options "$@"
  work=$({ mkdir -p "$root/build" && mktemp -d "$root/build/work.XXXXXX"; } 2>/dev/null) ||
    fail "cannot write to $root/build"
  trap 'rm -rf "$work"' EXIT
  if [ -n "$build_only" ]; then
    build
  elif [ -n "$rollback" ]; then
    find_aws
    move_back
  else
    find_aws
    check_function
    build
    publish
    move_alias "$version"
    delete_old_versions
  fi
}

read_options() {
  function="" arch="" rollback="" build_only="" endpoint_url="" zip_path=""
  while [ $# -gt 0 ]; do
    case $1 in
      --function | --arch | --zip | --endpoint-url)
        case ${2:-} in "" | -*) wrong_usage "$1 needs a value" ;; esac
        case $1 in
          --function) function=$2 ;;
          --arch) arch=$2 ;;
          --zip) zip=$2 zip_path=$2 ;;
          --endpoint-url) endpoint_url=$2 ;;
        esac
        shift
        ;;
      --rollback) rollback=yes ;;
      --build-only) build_only=yes ;;
      --help)
        echo "$usage"
        exit 0
        ;;
      *) wrong_usage "unknown option $1" ;;
    esac
    shift
  done
  case ${arch:-arm64} in
    arm64 | x86_64 | local) ;;
    *) wrong_usage "--arch is arm64, x86_64 or local, not $arch" ;;
  esac
  if [ -n "$rollback" ] && [ -n "$build_only$arch" ]; then wrong_usage "--rollback builds nothing"; fi
  if [ -n "$build_only" ] && [ -n "$function$endpoint_url" ]; then
    wrong_usage "--build-only ships nothing"
  fi
  if [ -n "$zip_path" ] && [ -z "$build_only" ]; then wrong_usage "--zip goes with --build-only"; fi
  if [ -z "$build_only$function" ]; then wrong_usage "--function NAME is missing"; fi
  if [ "$arch" = local ] && [ -z "$build_only$endpoint_url" ]; then
    wrong_usage "--arch local is not for AWS: add --build-only or --endpoint-url URL"
  fi
  arch=${arch:-arm64}
  zip_path=${zip_path:-$root/$zip}
}

wrong_usage() {
  echo "deploy.sh: $*; see deploy.sh --help" >&2
  exit 2
}

fail() {
  echo "error: $*" >&2
  exit 1
}

# ----------------------------------------------------------------------------------------------------------
# Building
# ----------------------------------------------------------------------------------------------------------

build() {
  local folder=$work/zip
  find_python
  mkdir "$folder"
  cp "$root/lambda_function.py" "$folder/" 2>/dev/null || fail "cannot read $root/lambda_function.py"
  get_wheels "$folder"
  "$python" -I - "$folder" "$root/requirements-lambda.txt" "$zip_path" 2>"$work/zip.log" <<'PYTHON' ||
import os
import pathlib
import shutil
import sys
import zipfile

folder, requirements, target = map(pathlib.Path, sys.argv[1:])
NOTES_OF_PIP = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")

lines = [line.partition("#")[0].strip().lower().replace("-", "_") for line in requirements.open()]
pinned = sorted(line for line in lines if line)
found = sorted(path.stem.lower().replace("-", "==") for path in folder.glob("*.dist-info"))
if pinned != found:
    sys.exit(f"{requirements.name} has to pin what pip installs: {', '.join(found)}")

files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
unfinished = folder.with_suffix(".zip")
with zipfile.ZipFile(unfinished, "w") as archive:
    for name, path in sorted(files.items()):
        if name.startswith("bin/") or ".dist-info/" in name and path.name in NOTES_OF_PIP:
            continue
        entry = zipfile.ZipInfo(name)  # dated 1980-01-01: two builds are the same, byte for byte
        entry.create_system, entry.external_attr = 3, 0o100644 << 16
        archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
complete = target.with_name(target.name + ".new")
shutil.move(unfinished, complete)  # the target may be on another disk
os.replace(complete, target)
PYTHON
    fail "cannot build $zip: $(tail -n 1 "$work/zip.log")"
  echo "built $zip for $arch: $(($(wc -c <"$zip_path") / 1000)) KB"
}

find_python() {
  python=${PYTHON:-}
  if [ -z "$python" ]; then
    python=python3
    if [ -x "$root/.venv/bin/python" ]; then python=$root/.venv/bin/python; fi
  fi
  command -v "$python" >/dev/null || fail "no $python here: install Python, or set PYTHON to one"
}

get_wheels() { # get_wheels FOLDER
  local target=() log=$work/pip.log reason
  if [ "$arch" != local ]; then wheel_target; fi
  "$python" -m pip install --quiet --no-input --disable-pip-version-check --no-compile --target "$1" \
    --only-binary :all: ${target[@]+"${target[@]}"} -r "$root/requirements-lambda.txt" >"$log" 2>&1 && return
  if grep -q "No module named pip" "$log"; then
    fail "$python has no pip: set PYTHON to a Python that has it"
  fi
  reason=$(sed -n 's/^ERROR: //p' "$log" | tail -n 1)
  if grep -q Retrying "$log"; then reason="the package index can't be reached; $reason"; fi
  fail "no wheels of requirements-lambda.txt for $arch: ${reason:-pip failed}"
}

# pip compares platforms by name and does not know that a wheel for glibc 2.28 runs under 2.34: unless every
# name is given, it quietly settles for an old release that was built for one of those that are.
wheel_target() {
  local machine=x86_64 oldest_glibc=5 older_names="manylinux2014 manylinux2010 manylinux1" name
  if [ "$arch" = arm64 ]; then machine=aarch64 oldest_glibc=17 older_names=manylinux2014; fi
  target=(--implementation cp --python-version "${runtime#python}" --abi "cp${runtime//[!0-9]/}")
  for name in $(seq -f manylinux_2_%g "$newest_glibc" -1 "$oldest_glibc") $older_names; do
    target+=(--platform "${name}_$machine")
  done
}

# ----------------------------------------------------------------------------------------------------------
# Shipping
# ----------------------------------------------------------------------------------------------------------

find_aws() {
  local cli=aws
  if ! command -v aws >/dev/null; then cli=$root/.venv/bin/aws; fi
  command -v "$cli" >/dev/null || fail "no AWS CLI here: install it, version 1 or 2"
  aws=("$cli" lambda)
}

ask() { # ask PURPOSE COMMAND [OPTION ...]: the AWS CLI's answer is in $answer
  local purpose=$1
  shift
  answer=$("${aws[@]}" "$@" --function-name "$function" --output text \
    ${endpoint_url:+--endpoint-url "$endpoint_url"} 2>"$work/aws.log") ||
    fail "cannot $purpose: $(tr -s '[:space:]' ' ' <"$work/aws.log" | sed 's/^ //; s/ $//')"
}

check_function() {
  local found_runtime found_handler state update_status
  ask "read function $function" get-function-configuration \
    --query '[Runtime, Handler, State, LastUpdateStatus]'
  read -r found_runtime found_handler state update_status <<<"$answer"
  if [ "$found_handler" != $handler ] || { [ "$arch" != local ] && [ "$found_runtime" != $runtime ]; }; then
    fail "function $function is another one: $found_handler on $found_runtime, not $handler on $runtime"
  fi
  # AWS refuses new code meanwhile; an update that failed is no obstacle.
  if [ "$state" = Pending ]; then ask "wait for function $function" wait function-active-v2; fi
  if [ "$update_status" = InProgress ]; then ask "wait for function $function" wait function-updated-v2; fi
}

list_versions() { # the published versions in $versions, newest first, one a line
  ask "list the versions of $function" list-versions-by-function --query 'Versions[].Version'
  versions=$(tr -s '[:space:]' '\n' <<<"$answer" | sed '/^[0-9][0-9]*$/!d' | sort -rn)
}

list_aliases() { # a line an alias in $aliases: its name, its version, other versions it sends calls to
  # shellcheck disable=SC2016 # the backquotes are JMESPath's
  local others='join(`,`, keys(not_null(RoutingConfig.AdditionalVersionWeights, `{}`)))'
  ask "list the aliases of $function" list-aliases --query "Aliases[].[Name, FunctionVersion, $others]"
  aliases=$answer
  live=$(awk '$1 == "live" { print $2 }' <<<"$aliases")
  live_too=$(awk '$1 == "live" { print $3 }' <<<"$aliases")
}

publish() { # the version that has the zip's code is in $version
  local architecture=$arch
  if [ "$arch" = local ]; then
    architecture=x86_64
    case $(uname -m) in arm64 | aarch64) architecture=arm64 ;; esac
  fi
  list_versions
  ask "upload $zip to $function" update-function-code --zip-file "fileb://$zip_path" \
    --architectures "$architecture" --publish --query Version
  version=$answer
  ask "finish the update of $function" wait function-updated-v2
  ask "activate version $version of $function" wait published-version-active --qualifier "$version"
  if grep -qx "$version" <<<"$versions"; then
    echo "uploaded to $function: the same as version $version, no new one"
  else
    echo "uploaded to $function: version $version"
    versions="$version"$'\n'"$versions"
  fi
}

move_alias() { # move_alias VERSION
  list_aliases
  if [ -z "$live" ]; then
    ask "create alias live of $function" create-alias --name live --function-version "$1"
    echo "alias live: created -> $1"
  else
    ask "move alias live of $function" update-alias --name live --function-version "$1" \
      --routing-config 'AdditionalVersionWeights={}' # or calls would still be shared with another version
    if [ "$live$live_too" = "$1" ]; then
      echo "alias live: stays at $1"
    else
      echo "alias live: $live${live_too:+,$live_too} -> $1"
    fi
  fi
}

move_back() {
  local previous
  list_aliases
  case $live in
    "") fail "function $function has no alias live, so nothing to move back" ;;
    *[!0-9]*) fail "alias live of $function points to $live, which has no version before it" ;;
  esac
  list_versions
  previous=$(awk -v live="$live" '$1 < live + 0 { print; exit }' <<<"$versions")
  if [ -z "$previous" ]; then fail "function $function has no published version before $live"; fi
  move_alias "$previous"
}

delete_old_versions() {
  local olds old alias
  olds=$(tail -n +$((kept_versions + 1)) <<<"$versions")
  if [ -z "$olds" ]; then return; fi
  list_aliases
  for old in $olds; do
    alias=$(awk -v old=",$old," 'index("," $2 "," $3 ",", old) { print $1; exit }' <<<"$aliases")
    if [ -n "$alias" ]; then
      echo "kept version $old: alias $alias points to it"
    else
      ask "delete version $old of $function" delete-function --qualifier "$old"
      echo "deleted version $old"
    fi
  done
}

main "$@"
