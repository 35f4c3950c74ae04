#!/usr/bin/env python3
"""Checks a run's log and its index with nothing but Python's own library.

usage: check_log.py RUN_DIRECTORY

Prints the number of events and the head. Exit 0: every line is what json.dumps(..., sort_keys=True) prints,
hashes and numbers follow each other, the seal counts right and the index holds the same events. Exit 1: not
so, and stderr says where.
"""
import datetime
import hashlib
import json
import os
import sqlite3
import sys


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def lines(path):
    with open(path, "rb") as log:
        for number, raw in enumerate(log, 1):
            if not raw.endswith(b"\n"):
                fail(f"line {number}: torn")
            text = raw[:-1].decode("ascii")
            pairs = json.loads(text, object_pairs_hook=list, parse_float=lambda f: fail(f"line {number}: {f}"))
            event = dict(pairs)
            if len(event) != len(pairs):
                fail(f"line {number}: a key twice")
            if json.dumps(event, sort_keys=True) != text:
                fail(f"line {number}: not canonical")
            yield number, event


def check_chain(path):
    previous, events, lost = "0" * 64, [], 0
    for number, event in lines(path):
        own = event.pop("hash_self")
        if event["seq"] != number:
            fail(f"line {number}: seq {event['seq']}")
        if event["hash_prev"] != previous:
            fail(f"line {number}: hash_prev is not the line before")
        if hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest() != own:
            fail(f"line {number}: hash_self")
        if event["run_id"] != (events[0]["run_id"] if events else event["run_id"]):
            fail(f"line {number}: another run")
        if event["event_type"] == "gap":
            lost += event["lost"]
        previous = event["hash_self"] = own
        events.append(event)
    first, seal = events[0], events[-1]
    if (first["event_type"], seal["event_type"]) != ("run_start", "run_end"):
        fail(f"begins with {first['event_type']}, ends with {seal['event_type']}")
    if (seal["events"], seal["head"], seal["lost"]) != (len(events), seal["hash_prev"], lost):
        fail(f"the seal says {seal['events']} events, {seal['lost']} lost; found {len(events)}, {lost}")
    return events, previous


# Column of the index, key of the log.
COLUMNS = {
    "seq": "seq", "mono_ns": "mono_ns", "type": "event_type", "action": "action", "pid": "pid",
    "proc_id": "proc_id", "ppid": "ppid", "uid": "uid", "exe": "exe", "path": "path", "path2": "path2",
    "dst_ip": "dst_ip", "dst_port": "dst_port", "ret": "ret", "policy_rule": "policy_rule", "layer": "layer",
}


def nanoseconds(timestamp):
    seconds, fraction = timestamp.removesuffix("Z").split(".")
    whole = datetime.datetime.fromisoformat(seconds).replace(tzinfo=datetime.timezone.utc)
    return int(whole.timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def check_index(run, events):
    path = os.path.join(run, "index.sqlite")
    base = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    # Paths need not be UTF-8.
    base.text_factory = os.fsdecode
    names = [*COLUMNS, "wall_ns", "offset", "length"]
    rows = base.execute(f"SELECT {', '.join(names)} FROM events ORDER BY seq").fetchall()
    if len(rows) != len(events):
        fail(f"{len(rows)} rows in the index, {len(events)} lines in the log")
    with open(os.path.join(run, "events.jsonl"), "rb") as log:
        for values, event in zip(rows, events):
            row = dict(zip(names, values))
            for column, key in COLUMNS.items():
                cell = row[column]
                cell = os.fsdecode(cell) if isinstance(cell, bytes) else cell
                if cell != event.get(key):
                    fail(f"event {event['seq']}: the index has {column} {cell!r}, the log {event.get(key)!r}")
            if row["wall_ns"] != nanoseconds(event["timestamp"]):
                fail(f"event {event['seq']}: the index has wall_ns {row['wall_ns']}, the log {event['timestamp']}")
            log.seek(row["offset"])
            if json.loads(log.read(row["length"])) != event:
                fail(f"event {event['seq']}: the index points to another line")


def main(run):
    events, head = check_chain(os.path.join(run, "events.jsonl"))
    check_index(run, events)
    print(f"{len(events)} events, head {head}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(3)
    main(sys.argv[1])
