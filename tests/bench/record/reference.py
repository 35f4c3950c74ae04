"""What anyone can write: the check of a chain, with nothing but Python's own library."""
import hashlib
import json
import sys

prev = "0" * 64
with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        event = json.loads(line)
        claimed = event.pop("hash_self")
        assert event["hash_prev"] == prev
        assert hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest() == claimed
        prev = claimed
print(prev)
