"""Whether each operation of the document has answered with a success at least once: an answer that nobody has seen is held to nothing.
usage: verdict.py DOCUMENT ANSWERS, the second as `hooks.py` has written it; it prints what each operation answered, how often."""

import json
import sys
from pathlib import Path

document, answers = (json.loads(Path(path).read_text()) for path in sys.argv[1:])
METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}
operations = [f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods if method in METHODS]
silent = []
for operation in operations:
    counts = answers.get(operation, {})
    print(f"{operation}: " + ", ".join(f"{status} x {count}" for status, count in sorted(counts.items())))
    if not any(status.startswith("2") for status in counts):
        silent.append(operation)
print(f"{len(operations) - len(silent)} of {len(operations)} operations have answered with a success")
if silent:
    sys.exit("no success was seen of: " + ", ".join(silent))
