"""What lake.py runs: schemas, views, verify, what failed."""
