"""The stand-in for the DMS task: what is committed in PostgreSQL becomes records of a Kinesis stream."""
