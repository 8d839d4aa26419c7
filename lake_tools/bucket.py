"""What landed, as objects: listed, and fetched into a cache that only fetches what is new.

    lake = open_lake(read_settings(Path(".env")))
    lake.table("client")                                  ("public", "client")
    lake.fetch(lake.objects("changes/public/client/"))    [Path("~/.cache/postgresql-s3-pipeline/..."), ...]

Keys are given and taken without S3_PREFIX. A copy in the cache is one version of one object: its name starts
with the ETag, and it comes to its place whole. When an object is fetched, other versions of it go that nobody
has asked for within an hour: a process that reads one just now is not disturbed. Copies of objects that are
gone from S3 stay. The cache is this user's only, and may be removed at any time.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote

from lake_tools.progress import Progress
from lake_tools.settings import LakeError, LakeSettings, NoTableError
from lambda_function import ADVICE, escape, why_failed
from provision.replication_task import split_unquoted

CHANGES, CONTROL, QUARANTINE, SCHEMAS = "changes/", "control/", "quarantine/", "schemas/"
PARQUET, GENERATIONS = "parquet/", "generations/"  # what lake.py compact writes
LANDED = ".jsonl.gz"  # how the keys of lines end
ROUNDS = 5  # how often somebody else may just have written what is to be replaced
FETCH_THREADS = 16  # more gain nothing: boto3 is bound by its own CPU
ATTEMPTS = 5
PART_BYTES = 256 << 20  # documented: S3 takes 5 GB at a time, and 10,000 parts
CHUNK_BYTES = 1 << 20
BODY_ATTEMPTS = 3  # botocore tries a request again, but not the reading of its answer
KEPT_SECONDS = 3600  # how long a version that was superseded stays for those who read it
NAME_LENGTH = 200  # of a part of a path; file systems take 255 bytes
PERMISSIONS = {
    "list": "allow s3:ListBucket on the bucket",
    "read": "allow s3:GetObject on this key, and the use of the bucket's KMS key",
    "write": "allow s3:PutObject on this key, and the use of the bucket's KMS key",
}
SIGN_IN = ": sign in again: aws sso login"
MORE_ADVICE = {
    "NoSuchKey": ": it was listed, and is gone since: run the command again",
    "SignatureDoesNotMatch": ": correct the AWS credentials",
    "InvalidToken": ": renew the AWS credentials",
    "RequestTimeTooSkewed": ": set this machine's clock",
    "AuthorizationHeaderMalformed": ": set AWS_DEFAULT_REGION to the bucket's region",
    "ConnectTimeoutError": ADVICE["EndpointConnectionError"],
    "ReadTimeoutError": ADVICE["EndpointConnectionError"],
    "SSLError": ": check AWS_CA_BUNDLE and AWS_ENDPOINT_URL_S3",
    **dict.fromkeys(("SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError"), SIGN_IN),
}


class LakeObject(NamedTuple):
    key: str  # without S3_PREFIX
    etag: str  # without its quotes
    size: int
    last_modified: datetime


# --------------------------------------------------------------------------------------------------------
# Entry point, and the lake
# --------------------------------------------------------------------------------------------------------


def open_lake(settings: LakeSettings, cache: Path | None = None) -> Lake:
    """The lake of the settings, as boto3 finds AWS. Raises LakeError; asks nothing of AWS yet."""
    from boto3 import Session
    from botocore.exceptions import BotoCoreError

    try:
        return Lake(settings, Session(), cache)
    except (BotoCoreError, ValueError) as error:  # a profile that there is not; an endpoint that is no URL
        raise LakeError(f"cannot use the AWS configuration: {error}") from error


class Lake:
    """A bucket and prefix, and the cache of what was fetched from there."""

    def __init__(self, settings: LakeSettings, session: Any, cache: Path | None = None) -> None:
        from botocore.config import Config

        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        self.settings = settings
        self.session = session
        self.s3 = session.client("s3", config=Config(retries=retries, max_pool_connections=FETCH_THREADS))
        self.cache = cache or default_cache(settings, self.s3.meta.endpoint_url)
        self.progress = Progress()

    def uri(self, key: str = "") -> str:
        """s3://landing/raw/changes/..."""
        return f"s3://{self.settings.s3_bucket}/{self.settings.s3_prefix}{key}"

    def connect_parameters(self) -> dict[str, Any]:
        """libpq's, for the source; with CREATE_RDS, the host is that of the instance that apply has made.

        Raises LakeError when settings are missing, or ProvisionError.
        """
        settings = self.settings
        parameters = settings.connect_parameters
        if settings.create_rds:
            from provision.aws import Account
            from provision.kinds.rds import describe_instance

            name = f"{settings.pipeline_name}-database"
            instance = describe_instance(Account(self.session, settings.pipeline_name), name) or {}
            parameters["host"] = instance.get("Endpoint", {}).get("Address", "")
            if not parameters["host"]:  # libpq would take the socket of another server
                raise LakeError(f"database {name} is not there, or has no address yet: setup_dms.py apply")
        return parameters

    # Listing ----------------------------------------------------------------------------------------------

    def objects(self, folder: str) -> list[LakeObject]:
        """What is under "changes/public/client/", "control/", ...; in the order of the keys."""
        prefix = self.settings.s3_prefix
        return [
            LakeObject(
                one["Key"].removeprefix(prefix), one["ETag"].strip('"'), one["Size"], one["LastModified"]
            )
            for page in self.pages(folder)
            for one in page.get("Contents", ())
            if not one["Key"].endswith("/")  # what consoles make of an empty folder
        ]

    def line_objects(self, folder: str) -> list[LakeObject]:
        """Those of them that hold lines, as the function and lake.py write them."""
        return [one for one in self.objects(folder) if one.key.endswith(LANDED)]

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder."""
        return [
            one["Prefix"].removeprefix(self.settings.s3_prefix + folder).rstrip("/")
            for page in self.pages(folder, Delimiter="/")
            for one in page.get("CommonPrefixes", ())
        ]

    def pages(self, folder: str, **more: str) -> Iterator[Any]:
        address = {"Bucket": self.settings.s3_bucket, "Prefix": self.settings.s3_prefix + folder}
        with failing("list", self.uri(folder)):
            yield from self.s3.get_paginator("list_objects_v2").paginate(**address, **more)

    # Tables -----------------------------------------------------------------------------------------------

    def tables(self) -> list[tuple[str, str]]:
        """Schema and table of whatever something landed of, or was compacted of, sorted."""
        found = {
            (unquote(schema), unquote(table))
            for folder in (CHANGES, PARQUET)
            for schema in filter(is_escaped, self.folders(folder))
            for table in filter(is_escaped, self.folders(f"{folder}{schema}/"))
        }
        return sorted(found)

    def published(self) -> list[tuple[str, str]]:
        """Schema and table of each that has a schema in schemas/, sorted."""
        names = [
            one.key.removeprefix(SCHEMAS).removesuffix(".json").split("/") for one in self.objects(SCHEMAS)
        ]
        return sorted((unquote(name[0]), unquote(name[1])) for name in names if len(name) == 2)

    @cached_property
    def known_tables(self) -> list[tuple[str, str]]:
        """Those that something landed of, and those with a schema; asked once."""
        return sorted({*self.tables(), *self.published()})

    def table(self, name: str) -> tuple[str, str]:
        """Schema and table of public.client, or of client where one schema has it. Raises NoTableError."""
        return find_table(name, self.known_tables, f"nothing of it landed in {self.uri()}")

    # Objects ----------------------------------------------------------------------------------------------

    def address(self, key: str) -> dict[str, str]:
        return {"Bucket": self.settings.s3_bucket, "Key": self.settings.s3_prefix + key}

    def get(self, key: str) -> bytes | None:
        """The object; None if there is none."""
        found = self.get_version(key)
        return None if found is None else found[0]

    def get_version(self, key: str) -> tuple[bytes, str] | None:
        """The object and its ETag; None if there is none."""
        from botocore.exceptions import ClientError

        with failing("read", self.uri(key)):
            try:
                return self.read(key)
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise

    def head(self, key: str) -> tuple[LakeObject, Mapping[str, str]] | None:
        """The object, and its metadata; None if there is none."""
        from botocore.exceptions import ClientError

        with failing("read", self.uri(key)):
            try:
                found = self.s3.head_object(**self.address(key))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                return None
        etag, size = found["ETag"].strip('"'), found["ContentLength"]
        return LakeObject(key, etag, size, found["LastModified"]), found["Metadata"]

    def put(
        self, key: str, body: bytes, content_type: str = "application/json", *, only_if_new: bool = False
    ) -> bool:
        """Writes the object; with only_if_new, it is False where there is one already."""
        from botocore.exceptions import ClientError

        condition = {"IfNoneMatch": "*"} if only_if_new else {}
        with failing("write", self.uri(key)):
            try:
                self.s3.put_object(**self.address(key), Body=body, ContentType=content_type, **condition)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                    raise
                return False
        return True

    def put_in_place(
        self, key: str, body: bytes | Path, etag: str | None, metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Writes the object in the place of this version, None: of no object; False where there is another.

        A file above PART_BYTES goes in parts, and is there once all of it is.
        """
        from botocore.exceptions import ClientError

        conditions = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": f'"{etag}"'}
        named = {**self.address(key), "Metadata": dict(metadata or {})}
        with failing("write", self.uri(key)):
            try:
                if isinstance(body, bytes):
                    self.s3.put_object(**named, Body=body, **conditions)
                elif body.stat().st_size <= PART_BYTES:
                    with body.open("rb") as file:
                        self.s3.put_object(**named, Body=file, **conditions)
                else:
                    self.put_parts(key, body, named, conditions)
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                is_gone = (
                    status == 404 and etag is not None and error.response["Error"]["Code"] == "NoSuchKey"
                )
                if status not in (409, 412) and not is_gone:
                    raise
                return False
        return True

    def replace(self, key: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Writes what change makes of the object, None: of none; unless that is None. Raises LakeError."""
        for _ in range(ROUNDS):
            body, etag = self.get_version(key) or (None, None)
            changed = change(body)
            if changed is None or self.put_in_place(key, changed, etag):
                return
        raise self.contended(key)

    def contended(self, key: str) -> LakeError:
        return LakeError(
            f"cannot write {self.uri(key)}: others keep writing it too: run the same command again"
        )

    def put_parts(
        self, key: str, path: Path, named: Mapping[str, Any], conditions: Mapping[str, str]
    ) -> None:
        """Raises botocore's errors; then nothing is left of the parts."""
        address = self.address(key)
        upload = {"UploadId": self.s3.create_multipart_upload(**named)["UploadId"]}
        try:
            parts: list[dict[str, Any]] = []
            with path.open("rb") as file:
                while part := file.read(PART_BYTES):
                    number = {"PartNumber": len(parts) + 1}
                    answer = self.s3.upload_part(**address, **upload, **number, Body=part)
                    parts.append({**number, "ETag": answer["ETag"]})
            self.s3.complete_multipart_upload(
                **address, **upload, MultipartUpload={"Parts": parts}, **conditions
            )
        except BaseException:
            self.s3.abort_multipart_upload(**address, **upload)
            raise

    def read(self, key: str) -> tuple[bytes, str]:
        """Body and ETag. Raises botocore's errors."""
        body = BytesIO()
        etag = self.copy(key, body)
        return body.getvalue(), etag

    def copy(self, key: str, file: BinaryIO) -> str:
        """Writes the body into the file, and gives its ETag. Raises botocore's errors."""
        from botocore.exceptions import (
            ConnectionClosedError,
            IncompleteReadError,
            ReadTimeoutError,
            ResponseStreamingError,
        )

        broken = (ConnectionClosedError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
        for attempt in range(BODY_ATTEMPTS):
            file.seek(0)
            file.truncate()
            answer = self.s3.get_object(**self.address(key))
            try:
                with answer["Body"] as body:
                    while chunk := body.read(CHUNK_BYTES):
                        file.write(chunk)
                return str(answer["ETag"].strip('"'))
            except broken:
                if attempt == BODY_ATTEMPTS - 1:
                    raise
        raise AssertionError

    # The cache --------------------------------------------------------------------------------------------

    def fetch(self, objects: Sequence[LakeObject], progress: Progress | None = None) -> list[Path]:
        """Copies of the objects on this machine, in their order, gzip as they are.

        An object that was written anew since it was listed comes as it is now. Raises LakeError, also for one
        that is gone since.
        """
        copies = {self.copy_of(one.key, one.etag): one for one in objects}
        with cache_failing(self.cache):
            held = held_copies(copies)
            missing = {path: one for path, one in copies.items() if path not in held}
            written = dict(self.download_all(missing, progress or self.progress)) if missing else {}
            final = [written.get(path, path) for path in (self.copy_of(one.key, one.etag) for one in objects)]
            self.tidy(final)
        return final

    def forget(self, copies: Sequence[Path], asked_at: float) -> None:
        """Removes copies that nobody else has asked for since that time."""
        for path in copies:
            with suppress(FileNotFoundError):
                if path.stat().st_mtime <= asked_at:
                    path.unlink()

    def copy_of(self, key: str, etag: str) -> Path:
        """Where that version of the object is kept: .../cdc_hour=09/{etag}~{name}"""
        *folders, name = [part if is_plain(part) else digest(part) for part in key.split("/")]
        version = etag if re.fullmatch("[0-9A-Za-z-]{1,80}", etag) else digest(etag)
        return self.cache.joinpath("objects", *folders, f"{version}~{name}")

    def download_all(
        self, missing: Mapping[Path, LakeObject], progress: Progress
    ) -> Iterator[tuple[Path, Path]]:
        """(where it was expected, where it is) of each, once all are there."""
        plural = "s" if len(missing) > 1 else ""
        pool = ThreadPoolExecutor(FETCH_THREADS)
        with progress.of(f"fetching {len(missing)} object{plural}", len(missing)) as advance:
            try:
                downloads = {pool.submit(self.download, one, advance): path for path, one in missing.items()}
                wait(downloads, return_when=FIRST_EXCEPTION)
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            pool.shutdown(cancel_futures=True)
        failed = [one for one in downloads if not one.cancelled() and one.exception()]
        for download in failed or downloads:
            yield downloads[download], download.result()

    def download(self, wanted: LakeObject, advance: Callable[[int], None]) -> Path:
        part = self.parts / uuid.uuid4().hex
        with cache_failing(self.cache):
            make_folder(part.parent)
            try:
                with part.open("wb") as file, failing("read", self.uri(wanted.key)):
                    etag = self.copy(wanted.key, file)
                path = self.copy_of(wanted.key, etag)
                make_folder(path.parent)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        advance(1)
        return path

    @property
    def parts(self) -> Path:
        """Copies that are not whole yet."""
        return self.cache / "parts"

    def tidy(self, copies: Sequence[Path]) -> None:
        """Removes other versions of these copies, and what killed processes left, when an hour old."""
        current = {(path.parent, name_of(path)): path for path in copies}
        for folder in {self.parts, *(path.parent for path in copies)}:
            for path in folder.iterdir() if folder.exists() else ():
                superseded = current.get((folder, name_of(path)), path) != path or folder == self.parts
                with suppress(FileNotFoundError):  # another process tidies too
                    if superseded and path.stat().st_mtime < time.time() - KEPT_SECONDS:
                        path.unlink()


# --------------------------------------------------------------------------------------------------------
# Copies and names
# --------------------------------------------------------------------------------------------------------


def default_cache(settings: LakeSettings, endpoint: str) -> Path:
    """~/.cache/postgresql-s3-pipeline/landing-0f343b0931126a20: one bucket and prefix of one S3."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return (
        home
        / "postgresql-s3-pipeline"
        / f"{settings.s3_bucket}-{digest(endpoint + ' ' + settings.s3_prefix)}"
    )


def held_copies(copies: Mapping[Path, LakeObject]) -> set[Path]:
    """Those that are there and whole; they are marked as asked for."""
    held = set()
    for path, one in copies.items():
        with suppress(FileNotFoundError):
            if path.stat().st_size == one.size:
                os.utime(path)
                held.add(path)
    return held


def make_folder(folder: Path) -> None:
    """With those above it that are not there; this user's only, for rows are kept there."""
    if not folder.is_dir():
        for missing in [one for one in (folder, *folder.parents) if not one.exists()][::-1]:
            missing.mkdir(mode=0o700, exist_ok=True)


def version_of(copy: Path) -> str:
    """The ETag of the object that it is a copy of."""
    return copy.name.partition("~")[0]


def name_of(copy: Path) -> str:
    return copy.name.partition("~")[2]


def is_plain(part: str) -> bool:
    """Whether it can be a name in any file system."""
    return re.fullmatch(rf"(?!\.\.?\Z)[A-Za-z0-9_.=%-]{{1,{NAME_LENGTH}}}", part) is not None


def is_escaped(folder: str) -> bool:
    """Whether it is a name as the handler makes them."""
    return escape(unquote(folder)) == folder


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_table(name: str, known: Sequence[tuple[str, str]], why_not: str) -> tuple[str, str]:
    """The table that is meant; raises NoTableError with the nearest, or with all that it could be.

    name: client, public.client or sales."Order"; quotes are needed only for a dot in a name.
    """
    parts = tuple(unquoted(part) for part in split_unquoted(name, "."))
    found = [one for one in known if one == parts] or [
        one for one in known if name in (".".join(one), one[1]) or parts == one[1:]
    ]
    if len(found) == 1:
        return found[0]
    if found:
        several = " or ".join(map(dotted, found))
        raise NoTableError(f"{name} can be several tables: write {several}")
    names = {text.casefold(): dotted(one) for one in known for text in (one[1], ".".join(one))}
    near = get_close_matches(name.casefold(), names, 1)
    advice = f"did you mean {names[near[0]]}?" if near else "python lake.py schema lists the tables"
    raise NoTableError(f"there is no table {name}: {why_not}: {advice if known else 'no table did'}")


def unquoted(part: str) -> str:
    is_quoted = len(part) > 1 and part[0] == part[-1] == '"'
    return part[1:-1].replace('""', '"') if is_quoted else part


def dotted(table: tuple[str, str]) -> str:
    """public.client; sales."a.b" where a name has a dot or a quote."""
    return ".".join(
        '"' + part.replace('"', '""') + '"' if re.search('[."]', part) else part for part in table
    )


# --------------------------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------------------------


@contextmanager
def failing(verb: str, uri: str) -> Iterator[None]:
    """Makes LakeErrors of botocore's; verb is list, read or write. The library's own text stays out."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise LakeError(f"cannot {verb} {uri}: {why(verb, error)}") from error


def why(verb: str, error: Any) -> str:
    """Code and advice: NoSuchBucket (HTTP 404): create it, or correct S3_BUCKET"""
    code = (getattr(error, "response", None) or {}).get("Error", {}).get("Code", type(error).__name__)
    if code in ("AccessDenied", "403", "AllAccessDisabled"):
        return f"{code}: {PERMISSIONS[verb]}"
    return why_failed(error) + MORE_ADVICE.get(code, "")


def code_of(error: LakeError) -> str:
    """AWS's code of what an error comes from; empty where that is not AWS."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


@contextmanager
def cache_failing(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LakeError(
            f"cannot keep copies in {cache}: {error.strerror}: --cache DIR, or make room"
        ) from error
