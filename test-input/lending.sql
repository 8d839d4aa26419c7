-- A small lending database to try the chain on: python -m local_run.postgres test-input/lending.sql
CREATE SCHEMA awsdms;  -- for the heartbeat of DMS: HEARTBEAT_SCHEMA

CREATE TABLE client (
    id integer PRIMARY KEY,
    name varchar(80) NOT NULL,
    email varchar(120) NOT NULL
);

CREATE TABLE loan (
    id integer PRIMARY KEY,
    client_id integer NOT NULL REFERENCES client,
    amount numeric(12, 2) NOT NULL,
    opened_on date NOT NULL
);

CREATE TABLE payment (
    id bigint PRIMARY KEY,
    loan_id integer NOT NULL REFERENCES loan,
    amount numeric(12, 2) NOT NULL,
    paid_at timestamptz NOT NULL
);

CREATE INDEX ON loan (client_id);
CREATE INDEX ON payment (loan_id);

INSERT INTO client SELECT id, 'Client ' || id, 'client' || id || '@example.org' FROM generate_series(1, 500) AS id;
INSERT INTO loan SELECT id, 1 + id % 500, 1000 + id, date '2026-01-01' + id % 60 FROM generate_series(1, 1000) AS id;
INSERT INTO payment
SELECT id, 1 + id % 1000, 25.50, timestamptz '2026-02-01 09:00:00Z' + id * interval '1 minute'
FROM generate_series(1, 5000) AS id;

ANALYZE;
