"""No public call changes what the process has one of, whether it returns or raises."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cluster_teachers import save_bundle, write_files
from matplotlib.figure import Figure
from process_state import unchanged
from quick_students import fitted_teacher, make_data, quick
from teachers_zoo import Noisy

import skdistill
from skdistill import (
    AgreementDisplay,
    BadArtefactError,
    CallableTeacher,
    DistillationDisplay,
    DistilledClassifierCV,
    Hint,
    SkdistillVersionWarning,
    StudentClassifier,
    SweepDisplay,
    TeachersLeftBehind,
    TorchStudent,
    TorchTeacher,
    TrainingCurveDisplay,
    UnsupportedFormatError,
    augment,
    distillation_report,
    losses,
    metrics,
    onnx,
    smallest_student,
)
from skdistill.__main__ import main
from skdistill.distributed import LabellingError, TeacherBundle, label_parquet

X, Y = make_data(48)
TEACHER = fitted_teacher(X, Y)
PROBA = TEACHER.predict_proba(X)
FEW: dict[str, Any] = {"max_epochs": 2, "hidden_layer_sizes": (4,), "n_bins": 3}
LABELS = ["no", "yes"]


def student(**params: Any) -> Any:
    return quick([TEACHER], **{**FEW, **params})


class Net(torch.nn.Sequential):
    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__(torch.nn.Linear(n_features, n_classes))


def search() -> Any:
    return DistilledClassifierCV(student(), temperatures=[1.0, 2.0], alphas=[0.5], cv=2)


@pytest.fixture(scope="module", autouse=True)
def _two_threads():
    """A setting of one thread would be seen by nobody where there is one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory, _two_threads):
    """What the calls are made on, each made once; what leaks here would hide from them all."""
    everything = make_all(tmp_path_factory)
    assert torch.get_num_threads() == 2
    return everything


def make_all(tmp_path_factory):
    """Make what the calls are made on."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.warns(UserWarning, match="cv=5"):
        searched = search().fit(X, Y)
    with pytest.warns(UserWarning, match="cv=5"):
        found = smallest_student(student(), X, Y, tolerance=0.1, sizes=[(2,), ()], cv=2)
    fitted = student().fit(X, Y)
    fitted.student_.save(folder / "student")
    write_files(folder / "rows", n_files=1, n_rows=20)
    bundle = save_bundle(folder / "teachers")
    labelled = label_parquet(folder / "rows", bundle, folder / "soft")
    frame = pd.read_parquet(folder / "rows")
    return SimpleNamespace(
        folder=folder,
        fitted=fitted,
        student=fitted.student_,
        searched=searched,
        found=found,
        report=distillation_report(fitted, X, Y),
        own=student(student_module=Net).fit(X, Y).student_,
        torch=TorchTeacher(Noisy(), classes=LABELS),
        callable=CallableTeacher(TEACHER.predict_proba, LABELS),
        bundle=bundle,
        labeller=bundle.labeller(),
        labelled=labelled,
        frame=frame,
        sweep=SweepDisplay.from_estimator(searched),
        agreement=AgreementDisplay.from_estimator(fitted, X, Y),
        distillation=DistillationDisplay.from_report(distillation_report(fitted, X, Y)),
        curve=TrainingCurveDisplay.from_estimator(fitted),
        left=TeachersLeftBehind.from_teachers([TEACHER]),
    )


def axes() -> Any:
    """Return axes that pyplot does not know: a figure of its own is what a plot without axes is."""
    return Figure().subplots()


T = torch.tensor([[0.5, -0.5], [0.0, 1.0]])
P = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
C = torch.tensor([0, 1])
MAP = torch.ones((2, 3, 4))

# With random_state=None NumPy's global generator is drawn from, as everywhere in scikit-learn.
# One call that returns for every public thing; each is made a second time with nonsense.
CALLS: dict[str, Callable[[Any], Any]] = {
    "AgreementDisplay": lambda m: AgreementDisplay(edges=[0, 1], n_rows=[2], n_differ=[1]),
    "AgreementDisplay.frame": lambda m: m.agreement.frame,
    "AgreementDisplay.from_estimator": lambda m: AgreementDisplay.from_estimator(
        m.fitted, X, Y, ax=axes()
    ),
    "AgreementDisplay.from_predictions": lambda m: AgreementDisplay.from_predictions(
        PROBA, PROBA, Y, labels=LABELS, ax=axes()
    ),
    "AgreementDisplay.plot": lambda m: m.agreement.plot(axes()),
    "BadArtefactError": lambda m: BadArtefactError("no"),
    "CallableTeacher": lambda m: CallableTeacher(len, LABELS),
    "CallableTeacher.classes_": lambda m: m.callable.classes_,
    "CallableTeacher.fit": lambda m: m.callable.fit(X, Y),
    "CallableTeacher.predict": lambda m: m.callable.predict(X),
    "CallableTeacher.predict_proba": lambda m: m.callable.predict_proba(X),
    "DistillationDisplay": lambda m: DistillationDisplay(
        names=["a"], roles=["student"], quality=[1.0], latency=[1.0], n_bytes=[3]
    ),
    "DistillationDisplay.frame": lambda m: m.distillation.frame,
    "DistillationDisplay.from_estimator": lambda m: DistillationDisplay.from_estimator(
        m.fitted, X, Y, random_state=0, ax=axes()
    ),
    "DistillationDisplay.from_report": lambda m: DistillationDisplay.from_report(
        m.report, ax=axes()
    ),
    "DistillationDisplay.plot": lambda m: m.distillation.plot(axes()),
    "DistillationReport": lambda m: replace(m.report),
    "DistillationReport.compression_ratio": lambda m: m.report.compression_ratio,
    "DistillationReport.parameter_ratio": lambda m: m.report.parameter_ratio,
    "DistillationReport.row": lambda m: m.report.row("student"),
    "DistillationReport.speed_up": lambda m: m.report.speed_up,
    "DistillationReport.to_frame": lambda m: m.report.to_frame(),
    "DistilledClassifier": lambda m: student(),
    "DistilledClassifier.fit": lambda m: (
        student(
            augment="munge", n_synthetic=9, early_stopping=True, hints=[Hint("net", layer="norm")]
        )
        .set_params(teachers=[TEACHER, ("net", m.torch)])
        .fit(X, Y, X_unlabeled=X[:5], sample_weight=np.ones(48))
    ),
    "DistilledClassifier.fit_stream": lambda m: student().fit_stream([(X, PROBA, Y)] * 2),
    "DistilledClassifier.partial_fit": lambda m: student().partial_fit(X, Y).partial_fit(X, Y),
    "DistilledClassifier.predict": lambda m: m.fitted.predict(X),
    "DistilledClassifier.predict_log_proba": lambda m: m.fitted.predict_log_proba(X),
    "DistilledClassifier.predict_proba": lambda m: m.fitted.predict_proba(X),
    "DistilledClassifierCV": lambda m: search(),
    "DistilledClassifierCV.fit": lambda m: search().fit(X, Y),
    "DistilledClassifierCV.predict": lambda m: m.searched.predict(X),
    "DistilledClassifierCV.predict_log_proba": lambda m: m.searched.predict_log_proba(X),
    "DistilledClassifierCV.predict_proba": lambda m: m.searched.predict_proba(X),
    "Hint": lambda m: Hint(0, layer=0),
    "SkdistillVersionWarning": lambda m: SkdistillVersionWarning("old"),
    "SmallestStudent": lambda m: replace(m.found),
    "SmallestStudent.plot": lambda m: m.found.plot(axes()),
    "SmallestStudent.to_frame": lambda m: m.found.to_frame(),
    "SmallestStudent.within": lambda m: m.found.within(0.5),
    "StudentClassifier": lambda m: StudentClassifier(),
    "StudentClassifier.compile": lambda m: m.student.compile()(X[0]),
    "StudentClassifier.fit": lambda m: StudentClassifier().fit(X, Y),
    "StudentClassifier.load": lambda m: StudentClassifier.load(m.folder / "student"),
    "StudentClassifier.n_parameters_": lambda m: m.student.n_parameters_,
    "StudentClassifier.predict": lambda m: m.student.predict(X),
    "StudentClassifier.predict_log_proba": lambda m: m.student.predict_log_proba(X),
    "StudentClassifier.predict_proba": lambda m: m.student.predict_proba(X),
    "StudentClassifier.save": lambda m: m.student.save(m.folder / "again"),
    "StudentClassifier.to_onnx": lambda m: m.student.to_onnx(m.folder / "again.onnx"),
    "StudentClassifier.to_torch": lambda m: m.student.to_torch(),
    "SweepDisplay": lambda m: SweepDisplay(temperatures=[1], alphas=[0], scores=[[0.5]]),
    "SweepDisplay.best": lambda m: m.sweep.best,
    "SweepDisplay.frame": lambda m: m.sweep.frame,
    "SweepDisplay.from_cv_results": lambda m: SweepDisplay.from_cv_results(
        m.searched.cv_results_, ax=axes()
    ),
    "SweepDisplay.from_estimator": lambda m: SweepDisplay.from_estimator(m.searched, ax=axes()),
    "SweepDisplay.plot": lambda m: m.sweep.plot(axes()),
    "TeachersLeftBehind": lambda m: replace(m.left),
    "TeachersLeftBehind.from_teachers": lambda m: TeachersLeftBehind.from_teachers([TEACHER]),
    "TeachersLeftBehind.refusal": lambda m: m.left.refusal(),
    "TorchStudent": lambda m: TorchStudent(),
    "TorchStudent.fit": lambda m: TorchStudent().fit(X, Y),
    "TorchStudent.n_parameters_": lambda m: m.own.n_parameters_,
    "TorchStudent.predict": lambda m: m.own.predict(X),
    "TorchStudent.predict_log_proba": lambda m: m.own.predict_log_proba(X),
    "TorchStudent.predict_proba": lambda m: m.own.predict_proba(X),
    "TorchStudent.save": lambda m: m.own.save(m.folder / "own"),
    "TorchStudent.to_onnx": lambda m: m.own.to_onnx(m.folder / "own"),
    "TorchStudent.to_torch": lambda m: m.own.to_torch(),
    "TorchTeacher": lambda m: TorchTeacher(m.torch.module, classes=LABELS),
    "TorchTeacher.check_params": lambda m: m.torch.check_params(),
    "TorchTeacher.classes_": lambda m: m.torch.classes_,
    "TorchTeacher.fit": lambda m: m.torch.fit(X, Y),
    "TorchTeacher.logits": lambda m: m.torch.logits(X),
    "TorchTeacher.predict": lambda m: m.torch.predict(X),
    "TorchTeacher.predict_proba": lambda m: m.torch.predict_proba(X),
    "TrainingCurveDisplay": lambda m: TrainingCurveDisplay(history={"train_loss": [1.0]}),
    "TrainingCurveDisplay.best_epoch": lambda m: m.curve.best_epoch,
    "TrainingCurveDisplay.frame": lambda m: m.curve.frame,
    "TrainingCurveDisplay.from_estimator": lambda m: TrainingCurveDisplay.from_estimator(
        m.fitted, ax=axes()
    ),
    "TrainingCurveDisplay.plot": lambda m: m.curve.plot(axes()),
    "UnsupportedFormatError": lambda m: UnsupportedFormatError("new"),
    "distillation_report": lambda m: distillation_report(m.fitted, X, Y, random_state=0),
    "smallest_student": lambda m: smallest_student(
        student(), X, Y, tolerance=0.1, sizes=[(2,), ()], cv=2
    ),
    "main": lambda m: main(["inspect", str(m.folder / "student")]),
    "augment.munge": lambda m: augment.munge(X, 9, random_state=0),
    "distributed.LabelledParquet": lambda m: copy(m.labelled),
    "distributed.LabelledParquet.with_label": lambda m: m.labelled.with_label("y")[0],
    "distributed.LabellingError": lambda m: LabellingError("no", {}),
    "distributed.TeacherBundle": lambda m: replace(m.bundle),
    "distributed.TeacherBundle.labeller": lambda m: m.bundle.labeller(),
    "distributed.TeacherBundle.load": lambda m: TeacherBundle.load(m.folder / "teachers"),
    "distributed.TeacherBundle.save": lambda m: save_bundle(m.folder / "more"),
    "distributed.TeacherBundle.teachers": lambda m: m.bundle.teachers(),
    "distributed.TeacherLabeller": lambda m: m.bundle.labeller()(m.frame),
    "distributed.TeacherLabeller.log_proba": lambda m: m.labeller.log_proba(m.frame),
    "distributed.label_parquet": lambda m: label_parquet(
        m.folder / "rows", m.bundle, m.folder / "again_soft"
    ),
    "losses.attention_map": lambda m: losses.attention_map(MAP),
    "losses.attention_transfer": lambda m: losses.attention_transfer(T, T),
    "losses.co_occurrence": lambda m: losses.co_occurrence(torch.ones((2, 3))),
    "losses.cross_entropy": lambda m: losses.cross_entropy(T, C),
    "losses.decoupled_kl": lambda m: losses.decoupled_kl(
        torch.eye(3), torch.full((3, 3), 1 / 3), torch.arange(3)
    ),
    "losses.distillation_loss": lambda m: losses.distillation_loss(
        T, T, C, temperature=2.0, alpha=0.5
    ),
    "losses.hidden_cosine": lambda m: losses.hidden_cosine(T, T),
    "losses.hidden_mse": lambda m: losses.hidden_mse(T, T),
    "losses.kl_divergence": lambda m: losses.kl_divergence(T, P),
    "losses.log_softmax_at": lambda m: losses.log_softmax_at(T, 2.0),
    "losses.logit_mse": lambda m: losses.logit_mse(T, P),
    "losses.relation": lambda m: losses.relation(T, P),
    "losses.temper": lambda m: losses.temper(P, 2.0),
    "metrics.agreement_score": lambda m: metrics.agreement_score(PROBA, PROBA),
    "metrics.expected_calibration_error": lambda m: metrics.expected_calibration_error(Y, PROBA),
    "metrics.gap_recovered": lambda m: metrics.gap_recovered([0.2], [0.3], [0.1]),
    "metrics.log_loss_by_row": lambda m: metrics.log_loss_by_row(Y, PROBA),
    "metrics.multiclass_brier_score": lambda m: metrics.multiclass_brier_score(Y, PROBA),
    "metrics.paired_difference": lambda m: metrics.paired_difference([1.0, 2.0], [0.0, 2.0]),
    "metrics.predictive_kl": lambda m: metrics.predictive_kl(PROBA, PROBA),
    "onnx.to_onnx": lambda m: onnx.to_onnx(m.student),
}
# These are there to refuse.
REFUSED = {"TorchStudent.save", "TorchStudent.to_onnx", "StudentClassifier.fit", "TorchStudent.fit"}
# Methods that scikit-learn or Python makes, the same for every estimator and error.
INHERITED = {
    "add_note",
    "args",
    "get_metadata_routing",
    "get_params",
    "score",
    "set_callbacks",
    "set_fit_request",
    "set_params",
    "set_partial_fit_request",
    "set_score_request",
    "with_traceback",
}


def public_names() -> dict[str, Any]:
    """Return every public thing that can be called or read, by its name."""
    found: dict[str, Any] = {"main": main}
    queue = [
        (name, getattr(skdistill, name)) for name in [*skdistill.__all__, "distributed", "onnx"]
    ]
    for name, thing in queue:
        if hasattr(thing, "__path__"):
            # A room: what it exports for people stands in skdistill.
            continue
        if inspect.ismodule(thing):
            inner = ((f"{name}.{n}", getattr(thing, n)) for n in thing.__all__)
            # What a module lends from another has its own name already.
            queue += [(n, t) for n, t in inner if n.partition(".")[2] not in skdistill.__all__]
        elif inspect.isclass(thing):
            found[name] = thing
            fields = getattr(thing, "__dataclass_fields__", {})
            names = [n for n in dir(thing) if n[0] != "_" and n not in INHERITED | set(fields)]
            found |= {f"{name}.{n}": inspect.getattr_static(thing, n) for n in names}
        elif callable(thing):
            found[name] = thing
    return found


PUBLIC = public_names()


def test_every_public_name_is_called():
    assert sorted(PUBLIC) == sorted(CALLS)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")
def test_a_call_changes_nothing(name, made, capsys):
    with unchanged():
        if name in REFUSED:
            with pytest.raises((TypeError, AttributeError, NotImplementedError, ValueError)):
                CALLS[name](made)
        else:
            CALLS[name](made)


def bound(name: str, m: Any) -> Any:
    """Return a public function, bound to what it is called on."""
    thing = PUBLIC[name]
    owner = PUBLIC.get(name.rpartition(".")[0])
    if not inspect.isclass(owner) or isinstance(thing, property | cached_property):
        return thing
    if isinstance(thing, classmethod | staticmethod):
        return thing.__get__(None, owner)
    on = next(value for value in vars(m).values() if type(value) is owner)
    return getattr(copy(on), name.rpartition(".")[2])


@pytest.mark.parametrize("name", [n for n in CALLS if inspect.isroutine(PUBLIC[n])])
@pytest.mark.filterwarnings("ignore")
def test_a_call_with_nonsense_changes_nothing(name, made, capsys):
    function = bound(name, made)
    needed = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in (2, 4)
    ]
    nonsense = {parameter.name: object() for parameter in needed}
    if not nonsense:
        return
    # Some take anything.
    with unchanged(), suppress(Exception):
        function(**nonsense)
