"""The objects of a bucket as files of a folder, kept up to date while a run goes on.

Only objects that are new or changed (by ETag) are fetched. A file appears whole, under its key; a key that is
no path below the folder is left out and named. Objects that vanish from the bucket stay as files.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_run.surroundings import MARKED, MARKER, LocalRunError, mark

PAUSE_SECONDS = 1.0
NAME_BYTES = 255
SAID = 3  # of the keys that were left out


@dataclass
class Mirror:
    """The copy of a bucket. s3: a client of boto3. The folder's marker lists the keys that have files."""

    s3: Any
    bucket: str
    folder: Path
    etags: dict[str, str] = field(default_factory=dict)  # of what is here
    left_out: list[str] = field(default_factory=list)
    fault: str | None = None
    ending: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> None:
        """Goes on in a thread, once a second, until stop."""
        self.thread = threading.Thread(target=self.keep_up, name="mirror")
        self.thread.start()

    def stop(self, *, is_final: bool) -> None:
        """is_final: all objects of now are here on return. Raises LocalRunError when they could not be."""
        self.ending.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        if is_final:
            self.bring_up_to_date()

    def keep_up(self) -> None:
        while not self.ending.wait(PAUSE_SECONDS):
            try:
                self.bring_up_to_date()
                self.fault = None
            except LocalRunError as error:
                self.fault = str(error)

    def bring_up_to_date(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
            for entry in (entry for page in pages for entry in page.get("Contents", ())):
                if self.ending.is_set() and self.thread is not None:
                    return
                if self.etags.get(entry["Key"]) != entry["ETag"]:
                    self.fetch(entry["Key"], entry["ETag"])
        except (BotoCoreError, ClientError, OSError) as error:
            raise LocalRunError(f"cannot copy bucket {self.bucket} to {self.folder}: {error}") from error

    def fetch(self, key: str, etag: str) -> None:
        self.etags[key] = etag
        target = path_below(self.folder, key)
        if target is None:
            self.left_out.append(key)
            return
        body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        with (self.folder / MARKER).open("a", encoding="utf-8") as marker:
            marker.write(f"{key}\n")
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name[:200]}.part")
        unfinished.write_bytes(body)
        os.replace(unfinished, target)

    @property
    def remark(self) -> str | None:
        """What a person has to know of it; None when all is there."""
        if self.fault:
            return self.fault
        if self.left_out:
            named = ", ".join(repr(key) for key in self.left_out[:SAID])
            return f"{len(self.left_out)} keys are no paths and have no file in {self.folder}: {named}"
        return None


def emptied_mirror(folder: Path) -> Path:
    """The folder, without the files of a former mirror. Raises LocalRunError when it holds others."""
    folder = folder.absolute()
    marker = mark(folder, MARKED["--output"])
    try:
        for key in marker.read_text(encoding="utf-8").splitlines():
            path = path_below(folder, key)
            if path is not None and path.is_file():
                path.unlink()
                remove_empty(path.parent, folder)
        marker.write_text("", encoding="utf-8")
    except OSError as error:
        raise LocalRunError(f"cannot empty {folder}: {error}; name another --output") from error
    return folder


def remove_empty(folder: Path, top: Path) -> None:
    while folder != top and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def path_below(folder: Path, key: str) -> Path | None:
    """Where the object of the key goes; None when that would not be a file of its own below the folder."""
    parts = key.split("/")
    if any(part in ("", ".", "..", MARKER) or not is_name(part) for part in parts):
        return None
    path = folder.joinpath(*parts)
    above = [parent for parent in path.parents if parent.is_relative_to(folder)]
    is_blocked = path.is_dir() or any(parent.exists() and not parent.is_dir() for parent in above)
    leaves = not path.parent.resolve().is_relative_to(folder.resolve())
    return None if is_blocked or leaves else path


def is_name(part: str) -> bool:
    return len(part.encode()) <= NAME_BYTES and not any(ord(character) < 32 for character in part)
