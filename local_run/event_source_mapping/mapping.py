"""All shards of the mapped stream: parents before children, as long as the mapping is enabled."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_run.event_source_mapping.configuration import (
    ALIAS,
    EventSourceMapping,
    MappingError,
    check_alias,
    read_function,
    read_mapping,
    unpack_code,
)
from local_run.event_source_mapping.shards import Checkpoints, Desk, Setup, ShardReader, code_of
from local_run.event_source_mapping.status import Counters, FunctionTimes, note, now, tell_aws, write_json

LOOK_SECONDS = 1.0  # how often AWS is asked for the mapping, the function and the shards
STATUS_SECONDS = 0.2
STATES = {
    "Enabled": "polling",
    "Creating": "waiting",
    "Enabling": "waiting",
    "Disabling": "disabled",
    "Disabled": "disabled",
    "Deleting": "gone",
}
ABSENT = "ResourceNotFoundException"


class Poller:
    """Plays the mapping of one function, from when it is there until is_ending, or its parent has died."""

    def __init__(self, function: str, folder: Path, second: float, clients: Mapping[str, Any]) -> None:
        self.function = function
        self.folder = folder / "event_source_mapping"
        self.status_file = folder / "status" / "event_source_mapping.json"
        self.logs = folder / "logs"
        self.second = second
        self.clients = clients
        self.counters = Counters()
        self.times = FunctionTimes()
        self.is_ending = False  # set from a signal's handler, where an Event's lock may be held already
        self.changed = threading.Event()
        self.state = "waiting"
        self.setup: Setup | None = None
        self.desk: Desk | None = None  # there while shards are read
        self.readers: dict[str, ShardReader] = {}
        self.listed: set[str] = set()  # the shards of the last ListShards
        self.is_listing_new = False  # no shard has ended since

    # ------------------------------------------------------------------------------------------------------
    # The main thread's round
    # ------------------------------------------------------------------------------------------------------

    def run(self, runtime: Path, parent: int | None) -> None:
        """Raises MappingError when the mapping or the function can't be played, and what ended a shard."""
        self.logs.mkdir(parents=True, exist_ok=True)
        next_look = 0.0
        try:
            while not self.is_ending:
                if parent is not None and os.getppid() != parent:
                    self.end_at_once()
                if self.changed.is_set() or time.monotonic() >= next_look:
                    self.changed.clear()
                    next_look = time.monotonic() + LOOK_SECONDS
                    self.look(runtime)
                self.reap()
                self.show()
                self.changed.wait(STATUS_SECONDS)
        finally:
            self.stop_readers()
            for reader in list(self.readers.values()):
                while reader.is_alive():
                    self.show()
                    reader.join(STATUS_SECONDS)
            self.show()

    def end_at_once(self) -> None:
        """Ends in mid-invocation, and the function with it: the batch will be delivered again."""
        note("the process that started this has ended")
        os._exit(1)

    def look(self, runtime: Path) -> None:
        """Asks AWS for the mapping and the function, and starts or stops shards accordingly."""
        try:
            found = self.find_mapping()
            self.state = self.next_state(found)
            if self.state != "polling" or found is None:
                self.stop_readers()
            else:
                self.setup = self.read_setup(found, runtime)
                if self.desk is None:
                    self.desk = self.open_desk(self.setup)
                self.desk.setup = self.setup
                self.start_readers()
            if self.setup is not None:
                tell_aws(self.setup.mapping.uuid, self.counters.take_unreported())
            self.counters.note_trouble(self.function, None)
        except (ClientError, BotoCoreError, OSError) as error:
            code = code_of(error)
            if code != ABSENT or self.setup is not None:  # else: not there yet
                self.counters.note_trouble(self.function, f"cannot ask AWS for it: {code}")

    def next_state(self, found: EventSourceMapping | None) -> str:
        if found is None:
            return "gone" if self.setup is not None else "waiting"
        if self.setup is not None and found.uuid != self.setup.mapping.uuid and self.desk is not None:
            return "gone"  # the shards of the one before have to end first
        return STATES.get(found.state, self.state)

    def find_mapping(self) -> EventSourceMapping | None:
        asked = {"FunctionName": f"{self.function}:{ALIAS}"}
        found = self.clients["lambda"].list_event_source_mappings(**asked)["EventSourceMappings"]
        if len(found) > 1:
            raise MappingError(
                f"function {self.function}:{ALIAS} has {len(found)} event source mappings: delete all but one"
            )
        return read_mapping(found[0]) if found else None

    def read_setup(self, mapping: EventSourceMapping, runtime: Path) -> Setup:
        client = self.clients["lambda"]
        found = client.get_function_configuration(FunctionName=self.function, Qualifier=ALIAS)
        deployed = read_function(found, ALIAS)
        if self.setup is not None and self.setup.deployed == deployed:
            return Setup(mapping, deployed, self.setup.code, runtime)
        check_alias(client, self.function)
        code = unpack_code(client, self.function, deployed, self.folder / "code")
        note(f"function {self.function}: version {deployed.function.version}")
        return Setup(mapping, deployed, code, runtime)

    # ------------------------------------------------------------------------------------------------------
    # Shards
    # ------------------------------------------------------------------------------------------------------

    def open_desk(self, setup: Setup) -> Desk:
        uuid = setup.mapping.uuid
        note(f"event source mapping {uuid}: reading {setup.mapping.stream_arn}")
        return Desk(
            setup=setup,
            kinesis=self.clients["kinesis"],
            s3=self.clients["s3"],
            checkpoints=Checkpoints(self.folder / f"{uuid}.json"),
            counters=self.counters,
            second=self.second,
            logs=self.logs,
            stop=threading.Event(),
            changed=self.changed,
        )

    def start_readers(self) -> None:
        """A thread for each shard that is not finished and whose parents are."""
        assert self.desk is not None
        if self.desk.stop.is_set():
            return
        stream = self.desk.setup.mapping.stream_arn.rpartition("/")[2]
        pages = self.clients["kinesis"].get_paginator("list_shards").paginate(StreamName=stream)
        shards = [shard for page in pages for shard in page["Shards"]]
        self.listed = {shard["ShardId"] for shard in shards}
        self.is_listing_new = True
        for shard_id in readable_shards(shards, self.desk.checkpoints):
            if shard_id not in self.readers:
                self.readers[shard_id] = ShardReader(shard_id, self.desk)
                self.readers[shard_id].start()

    def stop_readers(self) -> None:
        if self.desk is not None:
            self.desk.stop.set()
            if not self.readers:
                self.desk = None

    def reap(self) -> None:
        """Drops the threads that have ended. Raises what ended one."""
        for shard_id, reader in list(self.readers.items()):
            if not reader.is_alive():
                del self.readers[shard_id]
                self.is_listing_new = False  # it may have children
                self.counters.forget_shard(shard_id)
                if reader.failure is not None:
                    raise reader.failure
        if self.desk is not None and self.desk.stop.is_set() and not self.readers:
            self.desk = None

    # ------------------------------------------------------------------------------------------------------
    # Status
    # ------------------------------------------------------------------------------------------------------

    def show(self) -> None:
        environments = [reader.environment for reader in list(self.readers.values())]
        alive = [each.process.pid for each in environments if each is not None and not each.has_ended]
        caught_up_at = self.caught_up_at()
        status = {
            "pid": os.getpid(),
            "cpu_seconds": round(time.process_time(), 3),
            "state": self.state,
            **self.counters.shown(now()),
            "function_pids": alive,
            "function_cpu_seconds": round(self.times.look(alive), 3),
            "caught_up_at": caught_up_at,
            "is_caught_up": caught_up_at is not None,
        }
        write_json(self.status_file, status)

    def caught_up_at(self) -> float | None:
        """When each shard's tip had been seen with nothing left to deliver; None while that is not so."""
        if self.desk is None or not self.readers or not self.is_listing_new:
            return None
        if any(self.desk.checkpoints.is_finished(each) for each in self.readers):
            return None
        unread = [each for each in self.listed if not self.desk.checkpoints.is_finished(each)]
        tips = [self.readers[each].caught_up_at if each in self.readers else None for each in unread]
        if None in tips:
            return None
        return min((tip for tip in tips if tip is not None), default=None)


def readable_shards(shards: Sequence[Mapping[str, Any]], checkpoints: Checkpoints) -> list[str]:
    """Documented: a child is read when its parents are; one that is no longer listed has no records left."""
    unfinished = {shard["ShardId"] for shard in shards if not checkpoints.is_finished(shard["ShardId"])}
    return [
        shard["ShardId"]
        for shard in shards
        if shard["ShardId"] in unfinished
        and not unfinished & {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")}
    ]
