"""Whether the hash chain of a JSONL file holds, in a few lines that share nothing with the product."""
import hashlib
import json
import sys

prev = "0" * 64
for line in open(sys.argv[1], encoding="utf-8"):
    event = json.loads(line)
    claimed = event.pop("hash_self")
    assert event["hash_prev"] == prev
    assert hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest() == claimed
    prev = claimed
