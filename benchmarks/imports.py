"""`import purista` against `import pydantic`, each in fresh interpreters: at most 1.5 times.

Both load most of what they have when it is first used, so the first use is compared as well.
"""

import subprocess
import sys
import time

ROUNDS = 15
PAIRS = [
    ("import purista", "import pydantic", "at most 1.5"),
    ("from purista import Context, Cron, Service", "from pydantic import BaseModel", "no floor"),
]


def seconds(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main() -> None:
    statements = ["pass", *(statement for pair in PAIRS for statement in pair[:2])]
    best = dict.fromkeys(statements, 9.0)
    for _ in range(ROUNDS):
        for statement in statements:
            best[statement] = min(best[statement], seconds(statement))
    for ours, theirs, floor in PAIRS:
        mine, plain = best[ours] - best["pass"], best[theirs] - best["pass"]
        print(
            f"{ours}: {mine / plain:5.2f} times {theirs} ({floor}); "
            f"{mine * 1e3:.0f} against {plain * 1e3:.0f} ms, interpreter start taken off"
        )


if __name__ == "__main__":
    main()
