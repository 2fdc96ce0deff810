"""Put examples/serve.py under load on this machine, and check every single answer.

    python benchmarks/serve_load.py
    python benchmarks/serve_load.py --seconds 30 --clients 16 --json load.json

Starts the service on a free port of the loopback interface, and clients in threads of this
process that keep their connections. Three rounds: `/health` alone, which is what HTTP itself
costs; one good row a request; and a mix in which a third of the requests is wrong (missing and
infinite numbers, text, wrong widths, broken JSON, huge bodies, ...). Every answer is compared with
the student in this process, every refusal with the status it should have. Prints requests per
second and the median and 99th percentile of the time of a request; ends with status 1 if an answer
was wrong, a connection broke or the service died.

Clients and service share the machine: clients elsewhere would see more requests per second. Needs
Linux, which tells what a process has loaded.
"""

import argparse
import http.client
import itertools
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from skdistill import DistilledClassifier, StudentClassifier

SERVICE = Path(__file__).parents[1] / "examples" / "serve.py"
N_FEATURES = 20
JSON = {"Content-Type": "application/json"}
PACKAGES = ("skdistill", "numpy", "scikit-learn", "fastapi", "starlette", "uvicorn")
# What /proc says is counted in these.
MEGABYTES = 1024 / 1e6


class Query(NamedTuple):
    """What a client asks, and the only right answer: a status and, if good, rows of the pool."""

    status: int
    body: Any = None
    rows: np.ndarray | None = None
    headers: dict[str, str] = JSON
    path: str = "/predict"


class Answer(NamedTuple):
    """One request: its kind, how long it took, and what came back; status 0 is nothing."""

    kind: str
    seconds: float
    query: Query
    status: int
    content: bytes


class Pool:
    """Rows to ask about, and what the student in this process says of them."""

    def __init__(self, student: StudentClassifier, X: np.ndarray) -> None:
        self.student = student
        self.X = X

    def good(self, rng: np.random.Generator, n: int) -> Query:
        """Ask about rows as they are."""
        rows = rng.integers(len(self.X), size=n)
        return Query(200, json.dumps({"rows": self.X[rows].tolist()}), rows)

    def spoilt(self, rng: np.random.Generator, cell: str) -> Query:
        """Ask about a row with one cell that is no number of JSON, or none at all."""
        cells = [repr(x) for x in self.X[rng.integers(len(self.X))].tolist()]
        cells[rng.integers(N_FEATURES)] = cell
        return Query(422, f'{{"rows": [[{", ".join(filter(None, cells))}]]}}')

    def check(self, answer: Answer) -> str:
        """Say what is wrong with an answer, or nothing."""
        query = answer.query
        if answer.status != query.status:
            return f"status {answer.status} and not {query.status}: {answer.content[:80]!r}"
        if query.rows is None:
            return "" if answer.content else "no explanation"
        found, X = json.loads(answer.content), self.X[query.rows]
        if found["labels"] != self.student.predict(X).tolist():
            return "wrong labels"
        proba = np.array(found["probabilities"])
        close = np.allclose(proba, self.student.predict_proba(X), rtol=0, atol=1e-12)
        return "" if close else "wrong probabilities"


# A list is sent in chunks, so that its length is not announced.
HUGE, CHUNKS = b" " * 20_000_000, [b" " * (1 << 16)] * 300
# How many different questions a client asks, over and over.
N_QUESTIONS = 200

# How often each kind of request comes in the mix, and how it is made.
MIX: dict[str, tuple[float, Callable[[Pool, np.random.Generator], Query]]] = {
    "one row": (50, lambda pool, rng: pool.good(rng, 1)),
    "2 to 200 rows": (16, lambda pool, rng: pool.good(rng, int(rng.integers(2, 200)))),
    "missing": (3, lambda pool, rng: pool.spoilt(rng, "null")),
    "NaN": (3, lambda pool, rng: pool.spoilt(rng, "NaN")),
    "infinity": (3, lambda pool, rng: pool.spoilt(rng, rng.choice(["1e999", "-Infinity"]))),
    "text": (3, lambda pool, rng: pool.spoilt(rng, '"3"')),
    "too narrow": (3, lambda pool, rng: pool.spoilt(rng, "")),
    "too wide": (3, lambda pool, rng: pool.spoilt(rng, "0, 0")),
    "no rows": (2, lambda pool, rng: Query(422, '{"rows": []}')),
    "too many rows": (1, lambda pool, rng: Query(422, json.dumps({"rows": [[0] * 20] * 1001}))),
    "cut JSON": (3, lambda pool, rng: Query(422, pool.good(rng, 1).body[:-9])),
    "deep JSON": (1, lambda pool, rng: Query(400, "[" * 300_000)),
    "no JSON type": (3, lambda pool, rng: pool.good(rng, 1)._replace(
        status=415, rows=None, headers={"Content-Type": "text/plain"})),
    "no such path": (2, lambda pool, rng: Query(404, "{}", path="/nothing")),
    "huge, announced": (1, lambda pool, rng: Query(413, HUGE)),
    "huge, in chunks": (1, lambda pool, rng: Query(413, CHUNKS)),
}  # fmt: skip


Draw = Callable[[Pool, np.random.Generator], tuple[str, Query]]


def mixed(pool: Pool, rng: np.random.Generator) -> tuple[str, Query]:
    """Draw a request from the mix."""
    weights = np.array([weight for weight, _ in MIX.values()])
    kind = list(MIX)[rng.choice(len(MIX), p=weights / weights.sum())]
    return kind, MIX[kind][1](pool, rng)


def make_student() -> tuple[StudentClassifier, np.ndarray]:
    """Return a briefly trained 20-64-32-2 student and rows to ask it about."""
    X, y = make_classification(2000, N_FEATURES, random_state=0)
    classifier = DistilledClassifier(
        [LogisticRegression(max_iter=300).fit(X, y)],
        hidden_layer_sizes=(64, 32),
        numerical_embedding=None,
        augment=None,
        max_epochs=5,
        random_state=0,
    )
    return classifier.fit(X, y).student_, X


@contextmanager
def service(path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start the service on a free port; yield its process and the port."""
    log = path.with_suffix(".log")
    with log.open("wb") as file:
        command = [sys.executable, SERVICE, path, "--port", "0"]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield process, wait_for_port(process, log)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until the service says where it listens."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.1)
    raise SystemExit(f"The service did not start:\n{log.read_text()}")


def client(
    port: int, questions: list[tuple[str, Query]], deadline: float, answers: list[Answer]
) -> None:
    """Ask one question after the other over one connection until time is up."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for kind, query in itertools.cycle(questions):
        if time.monotonic() > deadline:
            break
        method = "GET" if query.body is None else "POST"
        start = time.perf_counter()
        try:
            connection.request(method, query.path, query.body, query.headers)
            response = connection.getresponse()
            status, content = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            status, content = 0, repr(error).encode()
            connection.close()
        answers.append(Answer(kind, time.perf_counter() - start, query, status, content))
    connection.close()


def play(
    port: int, pool: Pool, draw: Draw, seconds: float, n_clients: int
) -> tuple[list[Answer], float]:
    """Let all clients ask at once; return what came back and how long it took."""
    rngs = np.random.default_rng(0).spawn(n_clients)
    questions = [[draw(pool, rng) for _ in range(N_QUESTIONS)] for rng in rngs]
    answers: list[Answer] = []
    start = time.monotonic()
    threads = [
        threading.Thread(target=client, args=(port, asked, start + seconds, answers))
        for asked in questions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, time.monotonic() - start


def summary(answers: list[Answer], elapsed: float) -> dict[str, float]:
    """Return requests per second, and the median and 99th percentile in milliseconds."""
    p50, p99 = 1e3 * np.percentile([answer.seconds for answer in answers], [50, 99])
    return {"requests": len(answers), "per second": len(answers) / elapsed, "p50": p50, "p99": p99}


def show(name: str, facts: dict[str, float]) -> None:
    """Print a line of the table."""
    print(
        f"{name:22}{facts['requests']:>10,.0f}{facts['per second']:>12,.0f}"
        f"{facts['p50']:>10.2f}{facts['p99']:>10.2f}"
    )


def peak(process: subprocess.Popen[bytes]) -> float:
    """Return the most memory that the service has held, in megabytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * MEGABYTES


ROUNDS: dict[str, Draw] = {
    "/health": lambda pool, rng: ("/health", Query(200, path="/health", headers={})),
    "one row": lambda pool, rng: ("one row", pool.good(rng, 1)),
    "the mix": mixed,
}


def run(seconds: float, n_clients: int) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Play the rounds; return their figures and all that went wrong."""
    student, X = make_student()
    pool, figures, wrong = Pool(student, X), {}, []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.safetensors"
        student.save(path)
        with service(path) as (process, port):
            print(f"{'':22}{'requests':>10}{'per second':>12}{'p50, ms':>10}{'p99, ms':>10}")
            for name, draw in ROUNDS.items():
                before = peak(process)
                answers, elapsed = play(port, pool, draw, seconds, n_clients)
                figures[name] = summary(answers, elapsed)
                show(name, figures[name])
                wrong += [f"{a.kind}: {w}" for a in answers if (w := pool.check(a))]
            for kind in MIX:
                if of_kind := [answer for answer in answers if answer.kind == kind]:
                    show(f"  {kind}", summary(of_kind, elapsed))
            print(f"peak memory {before:.0f} MB before the mix, {peak(process):.0f} MB after")
            has_torch = "torch" in Path(f"/proc/{process.pid}/maps").read_text()
            print(f"torch in the service: {'yes' if has_torch else 'no'}")
            if process.poll() is not None or has_torch:
                wrong.append("the service ended, or loaded torch")
    return figures, wrong


def main() -> None:
    """Run the load test."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10, help="length of a round")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args()
    versions = {name: version(name) for name in PACKAGES}
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    print(f"{options.clients} clients, rounds of {options.seconds:g} seconds")
    figures, wrong = run(options.seconds, options.clients)
    print(f"wrong answers and broken connections: {len(wrong)}")
    for text in wrong[:10]:
        print(f"  {text}")
    if options.json:
        options.json.write_text(json.dumps({"versions": versions, "rounds": figures}, indent=1))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
