"""The examples run as scripts and print what they promise; the service says no to what is wrong."""

import hashlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from students_zoo import make_student, make_table

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.slow


def run(script, *arguments):
    """Run a script in a process of its own and return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    result = subprocess.run(
        [sys.executable, "-W", "error", script, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_first_student():
    printed = run(EXAMPLES / "plot_1_first_student.py")
    assert printed.count("distilled student") == 2
    assert printed.count("log-loss gap from the plain student") == 2
    assert "loaded without torch: 899 equal predictions" in printed


def test_the_reference_experiment_is_reproduced():
    printed = run(EXAMPLES / "plot_2_reference_experiment.py")
    assert "a teacher has 46,658 parameters, the student 3,490" in printed
    assert "the ensemble is 160x its size" in printed
    accuracy = {
        name: float(value)
        for name, value in re.findall(
            r"^(.*?) +[\d,]+ parameters +accuracy ([\d.]+)%", printed, re.M
        )
    }
    assert accuracy["distilled student"] >= 97.4
    assert accuracy["distilled student"] >= accuracy["plain student"] + 0.3


def test_unlabelled_rows_carry_over_what_teachers_know_and_no_more():
    printed = run(EXAMPLES / "plot_4b_domains.py")
    line = r"^teachers of (\w+ \w+) .* of (\w+ \w+) instead of (\w+).*([+-][\d.]{6}) \+- ([\d.]+)$"
    changes = {
        (who, of, instead): (float(mean), float(half))
        for who, of, instead, mean, half in re.findall(line, printed, re.M)
    }
    assert len(changes) == 6
    for instead in ("none", "old"):
        mean, half = changes["both domains", "new domain", instead]
        assert mean + half < 0
        mean, half = changes["the old", "new domain", instead]
        assert abs(mean) < half


def test_the_student_is_shipped():
    printed = run(EXAMPLES / "plot_6_deploy.py")
    assert "safetensors and pickle, without torch: 143 equal answers from each" in printed
    assert "ONNX, without skdistill: 143 equal labels, probabilities within 1e-6" in printed
    assert "BadArtefactError: Not a saved student" in printed
    loss = dict(re.findall(r"(\w+): held-out log-loss ([\d.]+)", printed))
    assert float(loss["student"]) < float(loss["teacher"])
    kilobytes = dict(re.findall(r"^(.*?)  +[\d,]+ us a row +([\d,]+) kB$", printed, re.M))
    assert set(kilobytes) == {
        "teacher",
        *(f"student, {form}" for form in ("pickle", "safetensors", "ONNX")),
    }


# ---- the service


class Service:
    """The service in a process of its own, in which torch and skorch cannot be imported."""

    def __init__(self, folder, *arguments, **environment):
        for name in ("torch", "skorch"):
            (folder / f"{name}.py").write_text("raise ImportError('not wanted here')")
        paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
        self.log = folder / "service.log"
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", EXAMPLES / "serve.py", *arguments],
                stdout=file,
                stderr=file,
                env=environment,
            )

    def start(self):
        """Wait until it listens."""
        for _ in range(1200):
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", self.log.read_text()):
                self.port = int(found[1])
                return self
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text())

    def ask(self, body=None, path="/predict", **headers):
        """Return the status and the content of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json", **headers}
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        content = response.read().decode()
        connection.close()
        is_json = response.headers["Content-Type"].startswith("application/json")
        return response.status, json.loads(content) if is_json else content

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """One service for lists of numbers, one for rows by column name."""
    started = {}
    try:
        for table in ("numbers", "mixed"):
            folder = tmp_path_factory.mktemp(table)
            make_student(table, labels="str").save(folder / "student")
            started[table] = Service(folder, folder / "student", "--port", "0")
        yield {table: service.start() for table, service in started.items()}
    finally:
        for service in started.values():
            service.stop()


def rows_of(X):
    """Return a table as rows of JSON."""
    if not hasattr(X, "columns"):
        return X.tolist()
    X = X.astype(object)
    return X.where(X.notna(), None).to_dict(orient="records")


@pytest.mark.parametrize("table", ["numbers", "mixed"])
def test_the_service_answers_like_the_student(services, table):
    student, X = make_student(table, labels="str"), make_table(table, 200, seed=1, unseen=True)
    for n in (1, 200):
        status, answer = services[table].ask(json.dumps({"rows": rows_of(X[:n])}))
        assert status == 200
        assert answer["labels"] == student.predict(X[:n]).tolist()
        np.testing.assert_allclose(
            answer["probabilities"], student.predict_proba(X[:n]), rtol=0, atol=1e-12
        )


def test_columns_are_found_by_name(services):
    row = rows_of(make_table("mixed"))[0]
    answers = [services["mixed"].ask(json.dumps({"rows": [r]}))
               for r in (row, dict(reversed(row.items())))]  # fmt: skip
    assert answers[0][0] == 200
    assert answers[0] == answers[1]


def test_health_says_what_is_served(services, tmp_path):
    student = make_student("numbers", labels="str")
    student.save(tmp_path / "student")
    digest = hashlib.sha256((tmp_path / "student").read_bytes()).hexdigest()
    facts = {"status": "ok", "sha256": digest, "classes": student.classes_.tolist()}
    assert services["numbers"].ask(path="/health") == (200, facts)


REFUSED = [
    ("numbers", '{"rows": [[0, 0]]}', 422, "rows[0][2] is missing: a row is a list of 3 columns."),
    ("numbers", '{"rows": [[0, 0, 0, 0]]}', 422, "rows[0] does not fit: a row is a list of 3"),
    ("numbers", '{"rows": [[0, 0, 0], [0, null, 0]]}', 422, "rows[1][1] is null, a missing value"),
    ("numbers", '{"rows": [[0, NaN, 0]]}', 422, "rows[0][1] is NaN or infinity"),
    ("numbers", '{"rows": [[0, 1e999, 0]]}', 422, "rows[0][1] is NaN or infinity"),
    ("numbers", '{"rows": [[0, -Infinity, 0]]}', 422, "rows[0][1] is NaN or infinity"),
    ("numbers", '{"rows": [[0, 0, 1.7e308]]}', 422, "infinity or a value too large"),
    ("numbers", '{"rows": [[0, 0, "3"]]}', 422, "rows[0][2]: Input should be a valid number."),
    ("numbers", '{"rows": [[0, 0, true]]}', 422, "rows[0][2]: Input should be a valid number."),
    ("numbers", '{"rows": [[0, 0, [0]]]}', 422, "rows[0][2]: Input should be a valid number."),
    ("numbers", f'{{"rows": [[0, 0, {10**400}]]}}', 422, "rows[0][2]: Input should be a valid n"),
    ("numbers", '{"rows": [0]}', 422, "rows[0] does not fit: a row is a list of 3 columns."),
    ("numbers", '{"rows": []}', 422, "rows: List should have at least 1 item"),
    ("numbers", json.dumps({"rows": [[0] * 3] * 1001}), 422, "rows: List should have at most 1000"),
    ("numbers", '{"rows": 3}', 422, "rows: Input should be a valid list."),
    ("numbers", '{"row": [[0, 0, 0]]}', 422, "rows: Field required."),
    ("numbers", '{"rows": [[0, 0, 0]], "x": 1}', 422, "x: Extra inputs are not permitted."),
    ("numbers", "[[0, 0, 0]]", 422, "body: Input should be a valid dictionary"),
    ("numbers", '{"rows": [[0, 0', 422, "The body is no JSON: Expecting ',' delimiter at position"),
    ("numbers", "", 422, "body: Field required."),
    ("numbers", b'\xff\xfe{"', 422, "The body is no JSON"),
    ("numbers", "[" * 500_000, 400, "error parsing the body"),
    ("numbers", " " * 1_000_001, 413, "Content Too Large"),
    ("mixed", '{"rows": [[0, 0, 0, 0, 0, 0]]}', 422, "rows[0] does not fit: a row is an object by"),
    ("mixed", '{"rows": [{"age": 1}]}', 422, "rows[0]['colour'] is missing: a row is an object by"),
    ("mixed", {"age": "1"}, 422, "rows[0]['age']: Input should be a valid number."),
    ("mixed", {"colour": 1}, 422, "rows[0]['colour']: Input should be a valid string."),
    ("mixed", {"flag": "yes"}, 422, "rows[0]['flag']: Input should be a valid boolean."),
    ("mixed", {"é" * 200: 1}, 422, r"rows[0]['\xe9\xe9"),
    ("mixed", '{"rows": [{"\\ud800": 1}]}', 422, "rows[0]"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "body", "status", "words"), REFUSED)
def test_the_service_refuses_in_words(services, table, body, status, words):
    if isinstance(body, dict):
        body = json.dumps({"rows": [{**rows_of(make_table("mixed"))[0], **body}]})
    answer = services[table].ask(body)
    assert answer[0] == status
    reason = answer[1]["detail"] if isinstance(answer[1], dict) else answer[1]
    assert words in reason
    assert len(reason) < 250
    assert services[table].ask(path="/health")[0] == 200


def test_the_service_asks_for_json(services):
    good = json.dumps({"rows": [[0, 0, 0]]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        status, answer = services["numbers"].ask(good, **{"Content-Type": kind})
        assert (status, answer["detail"]) == (415, "The content type must be application/json.")
    assert services["numbers"].ask(good, **{"Content-Type": "Application/JSON; a=b"})[0] == 200
    assert services["numbers"].ask()[0] == 405
    assert services["numbers"].ask(good, "/nothing")[0] == 404


@pytest.mark.parametrize("announced", [False, True])
def test_a_huge_body_is_refused_before_it_is_in_memory(services, announced):
    status = Path(f"/proc/{services['numbers'].process.pid}/status")

    def peak():
        return int(status.read_text().partition("VmHWM:")[2].split()[0])

    before = peak()
    chunks = (b" " * 1_000_000 for _ in range(100))
    length = {"Content-Length": "100000000"} if announced else {}
    assert services["numbers"].ask(chunks, **length)[0] == 413
    assert peak() < before + 20_000


@pytest.mark.parametrize(
    ("damage", "environment", "words"),
    [
        (False, {}, "name a file, or set STUDENT_FILE"),
        (False, {"STUDENT_FILE": "none"}, "none: [Errno 2] No such file"),
        (True, {"STUDENT_FILE": "student"}, "student: Not a saved student: its digest"),
        (False, {"STUDENT_FILE": "student", "STUDENT_SHA256": "0" * 64}, f"expected {'0' * 64}"),
    ],
)
def test_the_service_does_not_start_with_a_wrong_file(
    tmp_path, monkeypatch, damage, environment, words
):
    monkeypatch.chdir(tmp_path)
    make_student().save("student")
    content = bytearray(Path("student").read_bytes())
    content[-1] ^= damage
    Path("student").write_bytes(content)
    service = Service(tmp_path, **environment)
    assert service.process.wait(120) > 0
    assert words in service.log.read_text()
    assert "Traceback" not in service.log.read_text()


def test_the_environment_names_the_file(tmp_path):
    make_student().save(tmp_path / "student")
    digest = hashlib.sha256((tmp_path / "student").read_bytes()).hexdigest()
    environment = {"STUDENT_FILE": str(tmp_path / "student"), "STUDENT_SHA256": digest}
    service = Service(tmp_path, "--port", "0", **environment)
    try:
        assert service.start().ask(path="/health")[1]["sha256"] == digest
    finally:
        service.stop()


def test_the_service_stands_its_load():
    printed = run(ROOT / "benchmarks" / "serve_load.py", "--seconds", "3", "--clients", "6")
    assert "wrong answers and broken connections: 0" in printed
    assert "torch in the service: no" in printed
    rounds = dict(re.findall(r"^ *(.+?)  +([\d,]+)  +[\d,]+ +[\d.]+ +[\d.]+$", printed, re.M))
    assert set(rounds) >= {"/health", "the mix", "one row", "2 to 200 rows"}
    assert all(int(count.replace(",", "")) > 0 for count in rounds.values())


def test_a_report_says_whether_it_was_worth_it():
    printed = run(EXAMPLES / "plot_9_was_it_worth_it.py")
    assert "2,000 held-out rows, 2 classes" in printed
    assert re.search(
        r"accuracy +(better than|no difference shown from) the plain student, \+0\.0", printed
    )
    assert re.search(r"log-loss +better than the plain student, \+0\.0\d+ \[\+", printed)
