"""Reads an exported Parquet file with pyarrow and with DuckDB, and compares each cell with the log."""

import datetime
import json
import sys

import duckdb
import pyarrow
import pyarrow.parquet

place, log = sys.argv[1:]
with open(log) as lines:
    events = [json.loads(line) for line in lines]

table = pyarrow.parquet.read_table(place)
kind = table.schema.field("timestamp").type
assert kind == pyarrow.timestamp("ns", tz="UTC"), kind
# Python's own times have no nanoseconds.
numbers = table.column("timestamp").cast(pyarrow.int64())
rows = table.set_column(table.schema.get_field_index("timestamp"), "timestamp", numbers).to_pylist()
assert len(rows) == len(events)


def timestamp(nanoseconds):
    seconds, rest = divmod(nanoseconds, 10**9)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def unescape(text):
    return json.loads('"' + text + '"')


for row, event in zip(rows, events):
    escaped = set(row.pop("escaped") or [])
    found = json.loads(row.pop("more") or "{}")
    for key, value in row.items():
        if value is None:
            continue
        if key == "timestamp":
            value = timestamp(value)
        if key in escaped:
            value = [unescape(item) for item in value] if isinstance(value, list) else unescape(value)
        assert key not in found, key
        found[key] = value
    assert found == event, (found, event)

relation = f"read_parquet('{place}')"
hashes = duckdb.sql(f"SELECT seq, hash_self FROM {relation} ORDER BY seq").fetchall()
assert hashes == [(event["seq"], event["hash_self"]) for event in events]
described = duckdb.sql(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {relation})").fetchall()
types = dict(described)
assert types["argv"] == "VARCHAR[]" and types["ino"] == "UBIGINT" and types["path"] == "VARCHAR", types
assert types["timestamp"].startswith("TIMESTAMP"), types
