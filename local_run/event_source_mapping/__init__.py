"""Stand-in for Lambda's poller: hands the records of a stream to the function, as its mapping is configured.

    $ python -m local_run.event_source_mapping --pipeline lending --folder .local-run

    batches         what a batch is, what an answer means, what becomes of records that failed: no I/O
    configuration   the mapping and the function as AWS describes them; refuses by name what is not imitated
    shards          reads a shard, invokes the function, gives up
    mapping         all shards of a stream, parents before children; checkpoints
    status          what the run shows of it

Delivery is AWS's: at least once. A record is acknowledged when the invocation that it was in has succeeded,
or when it was given up; killed between an invocation and its checkpoint, the batch is delivered again.
"""
