"""Ctrl-C at every function of the package that a call enters, and signals that end a process.

The law: the interrupt comes out as it is, nothing half fitted or half written stays, the process
has its settings back, and the next call does what an undisturbed one does, to the last bit.
"""

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skorch
import torch
from cluster_teachers import content_of, save_bundle, write_files
from interrupter import ROOT, Interrupter, Place, named
from process_state import changes, read_state
from quick_students import fitted_teacher, make_data, quick
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from teachers_zoo import Noisy

from skdistill import (
    DistilledClassifierCV,
    Hint,
    StudentClassifier,
    TorchTeacher,
    distillation_report,
    smallest_student,
)
from skdistill.distributed import label_parquet

X, Y = make_data(48)
TEACHER = fitted_teacher(X, Y)
FEW: dict[str, Any] = {"max_epochs": 2, "hidden_layer_sizes": (4,), "n_bins": 3}


@dataclass
class Scenario:
    """A call, and what is to be seen of it from outside.

    Attributes
    ----------
    call : callable
        The call.
    result : callable
        What it made, as something to compare; None where there is nothing.
    untouched : callable
        What no call may change, as something to compare.
    before : object
        What `result` is before the call, where that is something.
    """

    call: Callable[[], Any]
    result: Callable[[], Any]
    untouched: Callable[[], Any] = lambda: None
    before: Any = None


def weights_of(estimator: Any) -> Any:
    """Return what was learned, and None where nothing that looks fitted is left."""
    own = set(estimator.get_params(deep=False))
    left = sorted(set(vars(estimator)) - own)
    if not left:
        return None
    student = getattr(estimator, "best_estimator_", estimator).student_
    return left, student.predict_proba(X).tobytes()


def parts_of(module: torch.nn.Module) -> Any:
    """Return modes, hooks and numbers of a module."""
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()]
    modes = [m.training for m in module.modules()]
    return modes, hooks, [v.numpy().tobytes() for v in module.state_dict().values()]


def read_all(folder: Path) -> dict[str, bytes]:
    """Return what stands in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def a_fit(teachers: Any, *arguments: Any, **params: Any) -> Scenario:
    """Return a fit of a student."""
    keywords = {k: params.pop(k) for k in ("X_unlabeled", "sample_weight") if k in params}
    student = quick(teachers, **{**FEW, **params})
    data = arguments or (X, Y)
    return Scenario(lambda: student.fit(*data, **keywords), lambda: weights_of(student))


def everything_prefit(folder: Path) -> Scenario:
    """Asking, augmentation, hints, early stopping, extra rows and the live line."""
    module = Noisy()
    scenario = a_fit(
        [TEACHER, ("net", TorchTeacher(module, classes=["no", "yes"]))],
        hints=[Hint("net", layer="norm", weight=0.1)],
        augment="munge",
        n_synthetic=10,
        early_stopping=True,
        validation_fraction=0.25,
        teacher_weights="validation",
        X_unlabeled=X[:9],
        sample_weight=np.linspace(0, 2, len(X)),
        dropout=0.2,
        verbose=1,
    )
    scenario.untouched = lambda: parts_of(module)
    return scenario


def cross_fitted(folder: Path) -> Scenario:
    """Fits of teachers, calibration and the plain control student."""
    teachers = [GaussianNB(), MLPClassifier((3,), max_iter=2, random_state=0)]
    return a_fit(teachers, cv=2, batch_size=20, verbose=1)


def given_targets(folder: Path) -> Scenario:
    """Without labels; the teachers are asked about synthetic rows only."""
    student = quick([TEACHER], **{**FEW, "augment": "munge", "n_synthetic": 9})
    proba = TEACHER.predict_proba(X)
    return Scenario(lambda: student.fit(X, teacher_proba=proba), lambda: weights_of(student))


def out_of_bag(folder: Path) -> Scenario:
    return a_fit([RandomForestClassifier(30, random_state=0)], cv="oob")


def its_own_teacher(folder: Path) -> Scenario:
    return a_fit("self", self_distillation=0.5, batch_size=20)


class Idle(skorch.callbacks.Callback):
    """A callback, so that the hooks are called."""


class Net(torch.nn.Module):
    """A module that draws from torch's global generator."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(n_features, 4), torch.nn.Dropout(0.1), torch.nn.Linear(4, n_classes)
        )

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.layers(X)


def own_module(folder: Path) -> Scenario:
    return a_fit([TEACHER], student_module=Net, callbacks=[Idle()], loss="mse", early_stopping=True)


def skorch_teacher(folder: Path) -> Scenario:
    net = skorch.NeuralNetClassifier(
        Noisy, max_epochs=1, verbose=0, criterion=torch.nn.CrossEntropyLoss, train_split=None
    )
    return a_fit([net], cv=2)


def stream(folder: Path) -> Scenario:
    rows, labels = make_data(600)
    proba = TEACHER.predict_proba(rows)
    shards = [(rows[i::3], proba[i::3], labels[i::3]) for i in range(3)]
    student = quick([TEACHER], **{**FEW, "augment": "munge", "n_synthetic": 20, "verbose": 1})
    return Scenario(lambda: student.fit_stream(shards), lambda: weights_of(student))


def first_batch(folder: Path) -> Scenario:
    student = quick([TEACHER], **FEW)
    before = dict(vars(student))

    def call() -> Any:
        vars(student).clear()
        vars(student).update(before)
        return student.partial_fit(X, Y)

    return Scenario(call, lambda: weights_of(student))


def next_batch(folder: Path) -> Scenario:
    """The student stays as it was."""
    student = quick([TEACHER], **FEW).fit(X, Y)
    before, result = dict(vars(student)), weights_of(student)

    def call() -> Any:
        vars(student).clear()
        vars(student).update(before)
        return student.partial_fit(X, Y)

    return Scenario(call, lambda: weights_of(student), before=result)


def search(folder: Path) -> Scenario:
    found = DistilledClassifierCV(
        quick([GaussianNB()], **{**FEW, "cv": 2, "batch_size": 16}),
        temperatures=[1.0],
        alphas=[0.0, 0.5],
        cv=2,
        random_state=0,
        verbose=1,
    )
    return Scenario(lambda: found.fit(X, Y), lambda: weights_of(found))


def search_one_by_one(folder: Path) -> Scenario:
    student = quick([TEACHER], **FEW, student_module=Net)
    found = DistilledClassifierCV(student, temperatures=[1.0, 2.0], alphas=[0.5], cv=2)
    return Scenario(lambda: found.fit(X, Y), lambda: weights_of(found))


def smallest(folder: Path) -> Scenario:
    found: list[Any] = []

    def call() -> None:
        found.clear()
        student = quick([GaussianNB()], **{**FEW, "cv": 2, "max_epochs": 1})
        sizes = [(2,), ()]
        found.append(smallest_student(student, X, Y, tolerance=0.1, sizes=sizes, cv=2, verbose=1))

    return Scenario(call, lambda: [str(f) for f in found] or None)


def report(folder: Path) -> Scenario:
    student = quick([TEACHER], **FEW).fit(X, Y)
    found: list[Any] = []

    def call() -> None:
        found.clear()
        found.append(distillation_report(student, X, Y, random_state=0))

    def untouched() -> Any:
        return weights_of(student)

    return Scenario(call, lambda: len(found) or None, untouched)


def saved(folder: Path) -> Scenario:
    """The old file or the new one, and nothing beside it."""
    student = quick([TEACHER], **FEW).fit(X, Y).student_
    target = folder / "student"

    def call() -> None:
        for path in folder.iterdir():
            path.unlink()
        target.write_bytes(b"old")
        student.save(target)
        StudentClassifier.load(target)

    def result() -> Any:
        return None if read_all(folder) == {"student": b"old"} else read_all(folder)

    return Scenario(call, result)


def exported(folder: Path) -> Scenario:
    student = quick([TEACHER], **FEW).fit(X, Y).student_
    target = folder / "student.onnx"

    def call() -> None:
        for path in folder.iterdir():
            path.unlink()
        target.write_bytes(b"old")
        student.to_onnx(target)

    def result() -> Any:
        return None if read_all(folder) == {"student.onnx": b"old"} else read_all(folder)

    return Scenario(call, result)


def labelled(folder: Path) -> Scenario:
    """Whole files or none; a rerun finishes the rest."""
    sources = write_files(folder / "rows", n_files=2, n_rows=20)
    bundle = save_bundle(folder / "teachers")

    def call() -> None:
        for old in (folder / "soft").glob("*"):
            old.unlink()
        label_parquet(folder / "rows", bundle, folder / "soft", verbose=1)

    def result() -> Any:
        found = content_of(folder / "soft") if (folder / "soft").exists() else {}
        return found if len(found) == len(sources) else None

    return Scenario(call, result)


SCENARIOS = {
    function.__name__: function
    for function in (
        everything_prefit,
        cross_fitted,
        given_targets,
        out_of_bag,
        its_own_teacher,
        own_module,
        skorch_teacher,
        stream,
        first_batch,
        next_batch,
        search,
        search_one_by_one,
        smallest,
        report,
        saved,
        exported,
        labelled,
    )
}


def faults_at(scenario: Scenario, places: list[Place], *, every_line: bool = False) -> list[str]:
    """Interrupt a call at each place, and say what was not as the law wants it."""
    interrupter = Interrupter(every_line)
    faults = []
    scenario.call()
    expected, untouched, state = scenario.result(), scenario.untouched(), read_state()
    assert expected is not None
    for place in places:
        found = []
        error = interrupter.interrupt(scenario.call, place)
        if error is None or error is not interrupter.raised:
            found.append(f"{error!r} came out")
        if changed := changes(state, read_state()):
            found += changed
            state = read_state()
        if scenario.result() not in (None, scenario.before, expected):
            found.append("something is left")
        scenario.call()
        if scenario.result() != expected:
            found.append("the next call does something else")
        if scenario.untouched() != untouched:
            found.append("what is not to be touched was")
        faults += [f"{named(place)}: {fault}" for fault in found]
    return faults


def noted(scenario: Scenario, *, every_line: bool = False) -> Interrupter:
    """Return the places that a call comes by, those of a first call left out."""
    interrupter = Interrupter(every_line)
    scenario.call()
    interrupter.note(scenario.call)
    return interrupter


@pytest.fixture(autouse=True)
def _quiet():
    """Warnings of tiny trainings are not the subject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# Each tenth place of the slow tests, as all take half an hour; INTERRUPT_EVERY=1 takes all.
EVERY = int(os.environ.get("INTERRUPT_EVERY", "10"))


@pytest.mark.parametrize("name", ["everything_prefit", "cross_fitted", "next_batch"])
def test_at_some_functions(name, tmp_path):
    scenario = SCENARIOS[name](tmp_path)
    places = list(noted(scenario).found)
    assert faults_at(scenario, places[:: len(places) // 8]) == []


def test_at_every_line_of_what_writes_a_file(tmp_path):
    scenario = SCENARIOS["saved"](tmp_path)
    found = noted(scenario, every_line=True).found
    places = [place for place in found if Path(place[0]).parent.name == "files"]
    assert len(places) > 20
    assert faults_at(scenario, places, every_line=True) == []


@pytest.mark.slow
def test_every_room_is_entered(tmp_path):
    """A room that no scenario enters would be one that no test interrupts."""
    entered = set()
    for name, scenario in SCENARIOS.items():
        folder = tmp_path / name
        folder.mkdir()
        found = noted(scenario(folder)).found
        entered |= {Path(path).relative_to(ROOT).parts[0] for path, _ in found}
    assert {path.parent.name for path in Path(ROOT).glob("*/__init__.py")} <= entered


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_at_every_function(name, tmp_path):
    scenario = SCENARIOS[name](tmp_path)
    assert faults_at(scenario, list(noted(scenario).found)[::EVERY]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["everything_prefit", "own_module", "stream", "first_batch", "next_batch", "labelled"]
)
def test_at_every_line(name, tmp_path):
    scenario = SCENARIOS[name](tmp_path)
    places = list(noted(scenario, every_line=True).found)
    assert faults_at(scenario, places[::EVERY], every_line=True) == []


# Signals

# Says where it is, so that the signal comes at a moment that is known, and goes on for long.
SLOW_FIT = """
import signal, sys, time, warnings
# Whoever started the tests in the background has SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
from sklearn.naive_bayes import GaussianNB
from skdistill import DistilledClassifier
from skorch.callbacks import Callback

class Slow(GaussianNB):
    def fit(self, X, y, sample_weight=None):
        if {stage!r} == "fitting":
            print("here", flush=True)
            time.sleep(8)
        return super().fit(X, y)

    def predict_proba(self, X):
        if {stage!r} == "asking":
            print("here", flush=True)
            time.sleep(8)
        return super().predict_proba(X)

class Say(Callback):
    def on_epoch_end(self, net, **kwargs):
        if {stage!r} == "training" and len(net.history) == 3:
            print("here", flush=True)

if __name__ == "__main__":
    X = np.random.default_rng(0).normal(size=(400, 3))
    model = DistilledClassifier(
        [Slow()], cv=2, n_jobs={n_jobs}, max_epochs=10**7, batch_size=32, callbacks=[Say()],
    )
    model.fit(X, X[:, 0] > 0)
"""


def group_is_gone(group: int) -> bool:
    """Wait a while for the last process of a group: a worker of joblib ends with its job."""
    for _ in range(400):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("stage", "n_jobs"), [("fitting", 1), ("asking", 1), ("training", 1), ("fitting", 2)]
)
def test_a_signal_ends_a_fit_and_its_workers(sent, stage, n_jobs, tmp_path):
    script = tmp_path / "fit.py"
    script.write_text(SLOW_FIT.format(stage=stage, n_jobs=n_jobs))
    with (
        (tmp_path / "errors").open("w") as file,
        # A session of its own: whoever is left in it is a stray.
        subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(sent)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        errors = (tmp_path / "errors").read_text()
        if sent == signal.SIGTERM:
            assert process.returncode == -signal.SIGTERM
        else:
            assert process.returncode in (-signal.SIGINT, 130)
            assert errors.rstrip().splitlines()[-1] == "KeyboardInterrupt"
        if sent == signal.SIGTERM and n_jobs == 2:
            # Python has no say in this end, so joblib's workers live on until they were idle for
            # five minutes; they are the only ones.
            os.killpg(process.pid, signal.SIGKILL)
        assert group_is_gone(process.pid)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_saving_leaves_a_whole_file(sent, tmp_path):
    """The old one or the new; SIGTERM may leave the unnamed one that was being written."""
    target = tmp_path / "student"
    quick([TEACHER], **FEW).fit(X, Y).student_.save(target)
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from skdistill import StudentClassifier
student = StudentClassifier.load(sys.argv[1])
print("here", flush=True)
while True:
    student.save(sys.argv[1])
"""
    before = target.read_bytes()
    for wait in (0.0, 0.003, 0.011, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(target)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        time.sleep(wait)
        process.send_signal(sent)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode in (-sent, 128 + sent)
        assert target.read_bytes() == before
        StudentClassifier.load(target)
    if sent == signal.SIGINT:
        assert read_all(tmp_path) == {"student": before}
