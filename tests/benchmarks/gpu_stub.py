"""A worker that measures nothing: python gpu_stub.py KIND VARIANT BEHAVIOUR...

Each BEHAVIOUR is VARIANT=WHAT: hang, crash, noise (answers no JSON), refuse (fails to prepare), or
tire (fails at its third turn). All others answer as a real worker does.
"""

import json
import sys
import time

kind, variant, *pairs = sys.argv[1:]
behaviour = dict(pair.split("=") for pair in pairs).get(variant, "work")
PEAKS = {
    "name": "stub", "processors": 132, "flops": {"bf16": 790.0, "tf32": 400.0, "float32": 50.0},
    "l2_bytes": 5.5,
}  # fmt: skip

turns = 0
for line in sys.stdin:
    question = json.loads(line)
    if "prepare" in question:
        print("what a library says", file=sys.stderr, flush=True)
        if behaviour == "hang":
            time.sleep(600)
        if behaviour == "crash":
            sys.exit(3)
        if behaviour == "noise":
            answer = None
        elif behaviour == "refuse":
            answer = {"error": "OutOfMemoryError: 80 GiB"}
        elif kind == "peaks":
            answer = PEAKS
        else:
            answer = {"launches": 17, "steps_per_run": 10, "preparation_s": 0.0}
    else:
        turns += 1
        tired = behaviour == "tire" and turns == 3
        answer = {"error": "tired"} if tired else {"nanoseconds": [1_000_000 + turns] * 40}
        time.sleep(0.001)
    print("nonsense" if answer is None else json.dumps(answer), flush=True)
