"""Training that goes on: over the shards of a stream, or batch after batch."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import validate_data

from skdistill.estimators.distil import Distillation, Seeds, columns_of, open_distillation
from skdistill.estimators.settings import RULES, Settings
from skdistill.tables import check_teacher_proba, read_rows
from skdistill.teachers.choice import choose_source
from skdistill.teachers.naming import is_prefit, labels_known_to, name_teachers
from skdistill.teachers.pooling import weights_without_labels
from skdistill.teachers.progress import stage
from skdistill.teachers.sources import Continued, Given, TargetSource
from skdistill.training.control import UnseenLabels
from skdistill.training.data import Prepared
from skdistill.training.shards import Shards
from skdistill.training.stream import TrainingStream, open_stream

if TYPE_CHECKING:
    from skdistill.estimators.classifier import DistilledClassifier
    from skdistill.training.trainer import Trained


def train_stream(
    estimator: "DistilledClassifier", targets: Any, label: str | None, max_epochs: int | None
) -> "Trained":
    """Survey the shards, train on them, and set the confidence on labels kept from training."""
    from skdistill.training.trainer import StudentTrainer

    if max_epochs is not None and (max_epochs == "auto" or not RULES["max_epochs"][0](max_epochs)):
        raise ValueError(f"max_epochs must be None or an integer >= 1; got {max_epochs!r}.")
    settings = estimator._settings()
    settings.refuse_hints("fit_stream")
    seeds = Seeds.draw(estimator.random_state, control=False)
    with stage("surveying the shards"):
        stream = _open_stream(estimator, settings, Shards(targets, label), seeds)
    settings.check_loss(stream.hard_weight > 0, stream.sample.classes)
    spec = settings.student
    if max_epochs is not None:
        spec = replace(spec, max_epochs=max_epochs)
    if not stream.hard_weight:
        spec = replace(spec, alpha=1.0)
    with stage("training the student"):
        trained = StudentTrainer(spec).fit(stream, seeds.network)
    held = stream.unseen or stream.held_out
    if held is None or not _calibrates(settings):
        return trained
    return trained.calibrated(UnseenLabels(held))


def _calibrates(settings: Settings) -> bool:
    """Tell whether labelled rows are kept from training to check the confidence on."""
    return settings.teachers.calibration is not None and settings.student.student_module is None


def _open_stream(
    estimator: "DistilledClassifier", settings: Settings, shards: Shards, seeds: Seeds
) -> TrainingStream:
    """Survey the shards and record the column names."""
    if settings.self_taught:
        raise ValueError(
            "teachers='self' has no place in fit_stream: the soft targets stand in the shards. "
            "Pass teachers=None; self_distillation mixes into those targets."
        )
    named = []
    if settings.teachers.teachers is not None:
        named = name_teachers(settings.teachers.teachers, reserved=estimator.get_params(deep=False))
        weights_without_labels(settings.teachers.teacher_weights, len(named))
    stream = open_stream(
        shards,
        choose_source(settings.for_batches().teachers, named),
        hold_out=settings.early_stopping,
        keep_back=_calibrates(settings),
        preprocessor=settings.preprocessor,
        n_bins=settings.bins_beside(named),
        seed=seeds.held_out,
    )
    validate_data(estimator, shards.first, skip_check_array=True)
    return stream


def read_first_batch(
    estimator: "DistilledClassifier",
    X: Any,
    y: Any,
    classes: Any,
    teacher_proba: Any,
    sample_weight: Any,
) -> Distillation:
    """Read the batch that decides what stays: classes, columns, network, teachers."""
    settings = estimator._settings().for_batches()
    seeds = Seeds.draw(estimator.random_state, control=False)
    settings.refuse_hints("partial_fit")
    knowing = is_prefit(estimator.cv) and not settings.self_taught
    known = _first_classes(estimator.teachers if knowing else None, classes)
    if y is None:
        settings.check_without_labels(teacher_proba)
    rows = read_rows(X, y, sample_weight, None, teacher_proba, classes=known)
    rows.classes = known
    validate_data(estimator, rows.X, skip_check_array=True)
    return open_distillation(estimator, settings, rows, seeds)


def _first_classes(teachers: Any, classes: Any) -> np.ndarray:
    """Return the sorted classes for the first batch: as given, or as prefit teachers know them."""
    if classes is None and teachers is not None:
        classes = labels_known_to(name_teachers(teachers))
    if classes is None:
        raise ValueError(
            "classes must be passed on the first call to partial_fit: a batch may lack some."
        )
    return np.unique(np.asarray(classes))


def read_next_batch(
    estimator: "DistilledClassifier",
    X: Any,
    y: Any,
    classes: Any,
    teacher_proba: Any,
    sample_weight: Any,
) -> Distillation:
    """Read a batch whose labels, columns and teachers are those of the rows before."""
    before = estimator.classes_
    needed = teacher_proba is None and estimator.alpha > 0
    settings = estimator._settings(teachers_needed=needed).for_batches()
    seeds = Seeds.draw(estimator.random_state, control=False)
    settings.refuse_hints("partial_fit")
    if classes is not None and not np.array_equal(np.unique(np.asarray(classes)), before):
        raise ValueError(
            f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {before!r}"
        )
    rows = read_rows(X, y, sample_weight, None, teacher_proba, classes=before)
    rows.classes = before
    settings.check_loss(rows.code is not None, before)
    validate_data(estimator, rows.X, skip_check_array=True, reset=False)
    if teacher_proba is not None:
        rows.teacher_proba = check_teacher_proba(teacher_proba, len(rows.weight), before)
    source: TargetSource = Given(settings.teachers, [])
    if teacher_proba is None:
        source = Continued(settings.teachers, _kept_source(estimator, settings))
    return Distillation(settings, rows, source, seeds, columns_of(estimator))


def _kept_source(estimator: "DistilledClassifier", settings: Settings) -> TargetSource | None:
    """Return what labels later batches: what labelled the first rows, or the prefit teachers."""
    kept: TargetSource | None = estimator.__dict__.get("_source")
    teachers = settings.teachers.teachers
    if (
        kept is not None
        or not is_prefit(settings.teachers.cv)
        or not isinstance(teachers, list | tuple)
    ):
        return kept
    named = name_teachers(teachers, reserved=estimator.get_params(deep=False))
    source = choose_source(settings.teachers, named)
    source.classes = estimator.classes_
    return source


def train_next_batch(estimator: "DistilledClassifier", run: Distillation) -> "Trained":
    """Go on from the student's weights, on a copy: if training fails the student stays as it is."""
    student = estimator.student_
    like = Prepared(student.preprocessor_, getattr(student, "encoding_", None))
    training = run.prepare(like=like)
    net = estimator.__dict__.get("net_")
    return run.trainer.fit_further(training, run.seeds.network, student=student, net=net)
