"""From rows and teachers to a trained student: what `fit`, batches and the searches share."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from sklearn import get_config
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import validate_data

from skdistill.estimators.settings import Settings
from skdistill.tables import Rows, TabularEncoder, check_teacher_proba, read_rows, warn_user
from skdistill.teachers.choice import choose_source
from skdistill.teachers.naming import (
    Entry,
    is_prefit,
    labels_known_to,
    name_teachers,
)
from skdistill.teachers.pooling import SoftTargets
from skdistill.teachers.progress import stage
from skdistill.teachers.sources import TargetSource
from skdistill.training.data import Prepared, TrainingSet, build_training_set

if TYPE_CHECKING:
    from skdistill.estimators.base import BaseDistilled
    from skdistill.training.control import Control
    from skdistill.training.trainer import StudentTrainer, Trained


class Seeds(NamedTuple):
    """One draw for each random part of a run, so that no option moves the draws of another."""

    held_out: int
    teachers: int
    transfer: int
    network: int
    control: int = 0

    @classmethod
    def draw(cls, random_state: Any, *, control: bool = True) -> Self:
        """Draw the seeds; a run that trains no control leaves its draw to the run after it."""
        rng = check_random_state(random_state)
        return cls(*rng.randint(np.iinfo(np.int32).max, size=5 if control else 4).tolist())


@dataclass
class Distillation:
    """One run: checked settings and rows, where soft targets come from, and the seeds.

    ``columns`` are the number and the names of the columns of X, ``targets`` the soft targets of
    the rows, once they are labelled, ``soft`` whether the student learns from them.
    """

    settings: Settings
    rows: Rows
    source: TargetSource
    seeds: Seeds
    columns: tuple[int, np.ndarray | None]
    targets: SoftTargets | None = None
    soft: bool = False

    @property
    def alpha(self) -> float:
        """The weight of the soft term; without labels there is no other."""
        return self.settings.student.alpha if self.rows.code is not None else 1.0

    @property
    def trainer(self) -> "StudentTrainer":
        """What trains the student of this run."""
        from skdistill.training.trainer import StudentTrainer

        return StudentTrainer(replace(self.settings.student, alpha=self.alpha))

    def prepare(self, *, soft: bool | None = None, like: Prepared | None = None) -> TrainingSet:
        """Label the rows and prepare all that does not depend on temperature or alpha.

        Without `soft` no teacher is asked but for hints; with `like` the columns are prepared as
        those of earlier rows were.
        """
        settings, rows, source, seeds = self.settings, self.rows, self.source, self.seeds
        self.soft = soft = self.alpha > 0 if soft is None else soft
        held = np.zeros(len(rows.weight), dtype=bool)
        if settings.early_stopping:
            rng = np.random.RandomState(seeds.held_out)
            held = rows.hold_out(settings.validation_fraction, rng)
        transfer, hidden = [], []
        if soft or source.hints:
            self.targets = source.label(rows, np.random.RandomState(seeds.teachers))
            if soft:
                rng = np.random.RandomState(seeds.transfer)
                transfer = source.transfer_rows(rows, held, rng)
            hidden = source.hidden(rows, transfer)
        return build_training_set(
            rows,
            self.targets,
            transfer,
            held,
            preprocessor=settings.preprocessor,
            n_bins=settings.bins_beside(source.named),
            like=like,
            hidden=hidden,
        )

    def train(self, training: TrainingSet) -> "Trained":
        """Train the student, and set its confidence by that of a plain one."""
        with stage("training the student"):
            trained = self.trainer.fit(training, self.seeds.network)
        control = self.train_control(training)
        shortfall = None if control is None else control.shortfall()
        if shortfall is not None:
            warn_user(
                f"The teachers are worse than a plain student. {shortfall} Lower alpha, or "
                "compare with alpha=0, early_stopping=True."
            )
        return trained if control is None else trained.calibrated(control)

    def train_control(self, training: TrainingSet) -> "Control | None":
        """Train a plain student on some of the rows, where teachers are to be measured by it."""
        wanted = self.settings.teachers.calibration is not None and not self.settings.self_taught
        if not self.soft or not wanted:
            return None
        return self.trainer.fit_control(training, self.seeds.control)

    def of_size(self, hidden_layer_sizes: Any) -> "Distillation":
        """Return the same run for a network of another size."""
        spec = replace(self.settings.student, hidden_layer_sizes=hidden_layer_sizes)
        return replace(self, settings=replace(self.settings, student=spec))

    def train_student(self, training: TrainingSet) -> Any:
        """Train a student on prepared rows; None where its training diverged."""
        try:
            trained = self.trainer.fit(training, self.seeds.network)
        except FloatingPointError:
            return None
        return self.frozen(trained, self.train_control(training))

    def frozen(self, trained: "Trained | None", control: "Control | None") -> Any:
        """Return the student of a trained network; None where its training diverged."""
        if trained is None:
            return None
        trained = trained if control is None else trained.calibrated(control)
        with suppress(FloatingPointError):
            return trained.freeze(*self.columns)
        return None


def read_distillation(
    estimator: "BaseDistilled",
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    X_unlabeled: Any = None,
    teacher_proba: Any = None,
) -> Distillation:
    """Check the parameters and what `fit` was given, and record the column names."""
    settings = estimator._settings()
    seeds = Seeds.draw(estimator.random_state)
    if y is None:
        settings.check_without_labels(teacher_proba)
    settings.check_self_taught(X_unlabeled=X_unlabeled, teacher_proba=teacher_proba)
    rows = read_rows(X, y, sample_weight, X_unlabeled, teacher_proba)
    validate_data(estimator, rows.X, skip_check_array=True)
    if isinstance(settings.preprocessor, str):
        # What the student cannot read is refused here and not after hours of fitting teachers.
        TabularEncoder().fit(rows.X, sample_weight=rows.weight)
    return open_distillation(estimator, settings, rows, seeds)


def open_distillation(
    estimator: "BaseDistilled", settings: Settings, rows: Rows, seeds: Seeds
) -> Distillation:
    """Name the teachers, settle the classes, choose where soft targets come from."""
    named = _named_teachers(settings, rows, estimator.get_params(deep=False))
    if rows.classes is None:
        rows.classes = _classes_of(named)
    settings.check_loss(rows.code is not None, rows.classes)
    if rows.teacher_proba is not None:
        rows.teacher_proba = check_teacher_proba(rows.teacher_proba, len(rows.weight), rows.classes)
    weighted = _weighted(estimator, named, rows)
    source = choose_source(settings.teachers, named, weighted, given=rows.teacher_proba is not None)
    settings.check_hints(source.hints)
    return Distillation(settings, rows, source, seeds, columns_of(estimator))


def columns_of(estimator: "BaseDistilled") -> tuple[int, np.ndarray | None]:
    """Return the number and the names of the columns that a student of this estimator reads."""
    return estimator.n_features_in_, getattr(estimator, "feature_names_in_", None)


def _named_teachers(settings: Settings, rows: Rows, reserved: Collection[str]) -> list[Entry]:
    """Name and check the teachers, or make the default one for these rows."""
    teachers = settings.teachers.teachers
    if settings.self_taught:
        return []
    if teachers is not None:
        fitted = is_prefit(settings.teachers.cv)
        return name_teachers(teachers, reserved=reserved, fitted=fitted)
    # Here, lest a process that only predicts load a package of trees.
    from sklearn.ensemble import ExtraTreesClassifier

    # One encoder for all folds: each must take what is missing, or rare, in another.
    encoder = TabularEncoder().fit(rows.X, sample_weight=rows.weight)
    trees = ExtraTreesClassifier()
    if get_config()["enable_metadata_routing"]:
        trees.set_fit_request(sample_weight=True)
    return name_teachers([make_pipeline(FrozenEstimator(encoder), trees)])


def _classes_of(named: list[Entry]) -> np.ndarray:
    """Return the sorted labels of the first teacher that knows its labels."""
    classes = labels_known_to(named)
    if classes is not None:
        return classes
    raise ValueError(
        "Without y the classes must come from the teachers, and none of them knows its labels. "
        "Pass y, or wrap modules as TorchTeacher(module, classes=[...])."
    )


def _weighted(estimator: "BaseDistilled", named: list[Entry], rows: Rows) -> list[bool]:
    """Tell which teachers get the sample weights: with metadata routing, those that ask."""
    routing = get_config()["enable_metadata_routing"]
    if not routing or estimator.teachers is None or (rows.weight == 1).all():
        return [True] * len(named)
    routed = process_routing(estimator, "fit", sample_weight=rows.weight)
    return ["sample_weight" in routed.get(n.name, {}).get("fit", {}) for n in named]
