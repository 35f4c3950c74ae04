"""Says how Python reads and prints JSON, and whether a chain of hashes holds.

A question is one byte (its kind), four bytes (its length, little endian) and its text; an answer is four bytes
and its text. Kinds: F, a file: does its chain hold; L, a line: print it canonically without hash_self;
O, an object described in hexadecimal: print it canonically.
"""
import hashlib
import io
import json
import struct
import sys


def canonical(value):
    return json.dumps(value, sort_keys=True).encode("ascii")


def without_itself(event):
    return canonical({name: event[name] for name in event if name != "hash_self"})


def answer_file(data):
    head = "0" * 64
    count = 0
    try:
        for text in io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"):
            event = json.loads(text)
            linked = event["hash_prev"] == head
            head = event["hash_self"]
            if not linked or hashlib.sha256(without_itself(event)).hexdigest() != head:
                return b"broken"
            count += 1
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return b"unreadable"
    return f"holds {count} {head}".encode()


def answer_line(data):
    try:
        event = json.loads(data.decode("utf-8"))
        return b"+" + without_itself(event) if isinstance(event, dict) else b"-"
    except (ValueError, RecursionError):
        return b"-"


def answer_object(data):
    def text(digits):
        return bytes.fromhex(digits).decode("utf-8", "surrogateescape")

    members = {}
    for line in data.decode("ascii").splitlines():
        kind, key, *values = line.split(" ")
        if kind == "list":
            members[text(key)] = [text(value) for value in values]
        elif kind == "bytes":
            members[text(key)] = text(values[0])
        elif kind == "flag":
            members[text(key)] = values[0] == "true"
        else:
            members[text(key)] = int(values[0])
    return canonical(members)


def main():
    kinds = {b"F": answer_file, b"L": answer_line, b"O": answer_object}
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while kind := source.read(1):
        (length,) = struct.unpack("<I", source.read(4))
        answer = kinds[kind](source.read(length))
        sink.write(struct.pack("<I", len(answer)) + answer)
        sink.flush()


main()
