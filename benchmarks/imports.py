"""`import purista` against `import pydantic`, each in fresh interpreters; at most 1.5 times."""

import subprocess
import sys
import time

ROUNDS = 15


def seconds(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main() -> None:
    best = {"pass": 9.0, "import pydantic": 9.0, "import purista": 9.0}
    for _ in range(ROUNDS):
        for statement in best:
            best[statement] = min(best[statement], seconds(statement))
    start = best["pass"]
    pydantic, purista = best["import pydantic"] - start, best["import purista"] - start
    print(
        f"import purista {purista / pydantic:5.2f} times import pydantic (at most 1.5); "
        f"{purista * 1e3:.0f} against {pydantic * 1e3:.0f} ms, interpreter start taken off"
    )


if __name__ == "__main__":
    main()
