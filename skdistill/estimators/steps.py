"""The steps that `fit`, `fit_stream` and `partial_fit` share, one method each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import validate_data

from skdistill.estimators.parameters import check_parameters
from skdistill.estimators.pickling import LeftBehind
from skdistill.tables.encoder import TabularEncoder
from skdistill.tables.folds import hold_out
from skdistill.tables.rows import Rows, check_teacher_proba, read_rows
from skdistill.teachers.adapters import TeachersLeftBehind
from skdistill.teachers.hidden import HiddenAnswers
from skdistill.teachers.hints import ActiveHint, Hint, active_hints, student_layer
from skdistill.teachers.naming import (
    Named,
    check_fitted,
    is_self,
    is_smooth,
    known_classes,
    name_teachers,
)
from skdistill.teachers.progress import follow
from skdistill.teachers.sources import Labeller
from skdistill.teachers.targets import SoftTargets
from skdistill.training import StudentSpec, TrainingSet, build_training_set
from skdistill.training.data import ExtraRows

if TYPE_CHECKING:
    from skdistill.student.classifier import StudentClassifier
    from skdistill.student.torch_student import TorchStudent
    from skdistill.training import Control, StudentTrainer, Trained, UnseenLabels

__all__ = ["OF_TEACHERS", "TRAINING_ONLY", "DistillationSteps", "draw_seed"]

# What a lean pickle leaves behind besides the teachers; each of these only shapes training.
TRAINING_ONLY = ("hints", "loss", "student_module", "callbacks", "augment", "cv", "memory")
# Those that training needs no more once there is a network and soft targets are given.
_FOR_A_START = ("cv", "memory", "student_module")
OF_TEACHERS = ("teacher_weights_", "teachers_", "_ensemble")
_FITTED = (
    "classes_",
    "n_features_in_",
    "feature_names_in_",
    "student_",
    "history_",
    "n_iter_",
    "calibration_temperature_",
    "net_",
    *OF_TEACHERS,
)
# The control stops early; with fewer the learning rate would fall while it still learns.
_CONTROL_EPOCHS = 200


class DistillationSteps(BaseEstimator):
    """What a distilled classifier does with its parameters on the way from rows to a student."""

    teachers: Any
    cv: Any
    temperature: float
    alpha: float
    averaging: str
    teacher_weights: Any
    loss: str | Callable[..., Any]
    hints: Sequence[Hint] | None
    self_distillation: float
    calibration: str | None
    hidden_layer_sizes: Any
    activation: str
    dropout: float | str
    numerical_embedding: str | None
    n_bins: int
    student_module: Callable[[int, int], Any] | None
    preprocessor: Any
    augment: Any
    n_synthetic: int | str
    max_epochs: int | str
    batch_size: int
    learning_rate_init: float
    weight_decay: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    callbacks: Any
    memory: Any
    n_jobs: int | None
    device: str
    dtype: str
    random_state: Any
    verbose: int

    classes_: np.ndarray
    n_features_in_: int
    history_: dict[str, np.ndarray]
    n_iter_: int
    student_: "StudentClassifier | TorchStudent"

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether there is a student; cheaper than scikit-learn's search of the attributes."""
        return "student_" in self.__dict__

    def _forget(self) -> None:
        """Delete every fitted attribute, so that a failed fit leaves nothing that looks fitted."""
        for name in _FITTED:
            self.__dict__.pop(name, None)

    @contextmanager
    def _attempt(self, X: Any = None, y: Any = None) -> Iterator[None]:
        """Show the progress of a fit; one that fails leaves nothing that looks fitted."""
        try:
            self._forget()
            with follow(self, X, y):
                yield
        except BaseException:
            self._forget()
            raise

    def _alpha(self, rows: Rows) -> float:
        """Return the weight of the soft term; without labels there is no other."""
        return self.alpha if rows.code is not None else 1.0

    def _read(
        self, X: Any, y: Any, sample_weight: Any, X_unlabeled: Any, teacher_proba: Any
    ) -> tuple[Rows, np.random.RandomState]:
        """Check the parameters and what `fit` was given, and record the column names."""
        rng = self._check_settings()
        if y is None:
            self._check_without_labels(teacher_proba)
        if is_self(self.teachers):
            self._check_self_taught(X_unlabeled=X_unlabeled, teacher_proba=teacher_proba)
        rows = read_rows(X, y, sample_weight, X_unlabeled, teacher_proba)
        validate_data(self, rows.X, skip_check_array=True)
        if isinstance(self.preprocessor, str):
            # What the student cannot read is refused here and not after hours of fitting teachers.
            TabularEncoder().fit(rows.X, sample_weight=rows.weight)
        return rows, rng

    def _check_settings(self, *, teachers_needed: bool = True) -> np.random.RandomState:
        """Check the parameters, and that none that is needed was left behind by pickling."""
        skip = () if teachers_needed else _FOR_A_START
        left = [getattr(self, name) for name in TRAINING_ONLY if name not in skip]
        left = [value for value in left if isinstance(value, LeftBehind)]
        if teachers_needed and isinstance(self.teachers, TeachersLeftBehind):
            also = ", ".join(value.parameter for value in left)
            words = f" Left behind too, and to be set again: {also}." if left else ""
            raise ValueError(self.teachers.refusal() + words)
        if left:
            raise ValueError(left[0].refusal())
        check_parameters(self, skip=skip)
        if is_self(self.teachers):
            self._check_self_taught(
                teacher_weights=self.teacher_weights,
                hints=self.hints if self._has_hints() else None,
            )
        return check_random_state(self.random_state)

    def _has_hints(self) -> bool:
        """Tell whether there is a hint with a weight."""
        return any(hint.weight > 0 for hint in self.hints or ())

    def _refuse_hints(self, method: str) -> None:
        """Raise where rows come piece by piece, and no layer of a teacher with them."""
        if self._has_hints():
            raise ValueError(
                f"{method} does not support hints: the layers of the teachers are not part of "
                "what it is given. Pass hints=None, or use fit."
            )

    def _check_self_taught(self, **of_teachers: Any) -> None:
        """Raise where a student without teachers has nobody to learn from, or is given theirs."""
        if self.alpha > 0 and self.self_distillation == 0:
            raise ValueError(
                "teachers='self' needs self_distillation > 0: with 0 nobody teaches the student. "
                "Pass self_distillation=0.5, or alpha=0 for a plain student."
            )
        for name, value in of_teachers.items():
            if value is not None:
                raise ValueError(
                    f"{name} has no place beside teachers='self', where a row's target is its own "
                    f"label and the student's earlier answer. Pass teachers=[...], or {name}=None."
                )

    def _check_without_labels(self, teacher_proba: Any) -> None:
        """Raise where nothing but labels could teach."""
        if is_self(self.teachers):
            reason = "teachers='self' takes the labels as its first targets"
        elif self.early_stopping:
            reason = "early_stopping=True compares the epochs on labels"
        elif not self._is_prefit():
            reason = f"cv={self.cv!r} fits the teachers inside fit"
        elif self.teachers is None and teacher_proba is None:
            reason = "only prefit teachers can label rows"
        else:
            return
        raise ValueError(
            f"{type(self).__name__} requires y to be passed, but the target y is None: {reason}. "
            "Pass y, or prefit teachers with early_stopping=False."
        )

    def _check_loss(self, labelled: bool, n_classes: int) -> None:
        """Raise where the decoupled loss has nothing to decouple, before any teacher is asked."""
        if self.loss != "dkd" or (labelled and n_classes > 2):
            return
        reason = (
            f"there are {n_classes} classes, so beside the label's a single one is left"
            if labelled
            else "there is no y"
        )
        raise ValueError(
            f"loss='dkd' splits the divergence by the label's class, and {reason}. Use loss='kl'."
        )

    def _is_prefit(self) -> bool:
        return isinstance(self.cv, str) and self.cv == "prefit"

    def _name_teachers(self, rows: Rows) -> list[Named]:
        """Name and check the teachers, make the default one, and settle the classes."""
        if self.teachers is None:
            # Here, lest a process that only predicts load a package of trees.
            from sklearn.ensemble import ExtraTreesClassifier

            # One encoder for all folds: each must take what is missing, or rare, in another.
            encoder = TabularEncoder().fit(rows.X, sample_weight=rows.weight)
            trees = ExtraTreesClassifier()
            if get_config()["enable_metadata_routing"]:
                trees.set_fit_request(sample_weight=True)
            named = name_teachers([make_pipeline(FrozenEstimator(encoder), trees)])
        elif is_self(self.teachers):
            named = []
        else:
            named = name_teachers(self.teachers, reserved=self._get_param_names())
        if self._is_prefit() and self.teachers is not None:
            for teacher in named:
                check_fitted(teacher)
        if rows.classes is None:
            rows.classes = _classes_of(named)
        self._check_loss(rows.code is not None, len(rows.classes))
        if rows.teacher_proba is not None:
            rows.teacher_proba = check_teacher_proba(
                rows.teacher_proba, len(rows.weight), rows.classes
            )
        return named

    def _make_training_set(
        self, rows: Rows, named: list[Named], rng: np.random.RandomState, alpha: float
    ) -> tuple[TrainingSet, SoftTargets | None]:
        """Label the rows and prepare everything that does not depend on temperature or alpha."""
        seeds = rng.randint(np.iinfo(np.int32).max, size=3)
        held = np.zeros(len(rows.weight), dtype=bool)
        if self.early_stopping:
            held = hold_out(rows, self.validation_fraction, np.random.RandomState(seeds[0]))
        targets: SoftTargets | None = None
        extra: list[ExtraRows] = []
        hidden: list[HiddenAnswers] = []
        hints = self._active_hints(named)
        if alpha > 0 or hints:
            labeller = replace(self._labeller(rows, named), hints=hints)
            targets = labeller.soft_targets(rows, np.random.RandomState(seeds[1]))
            if alpha > 0:
                extra = labeller.extra_rows(rows, targets, held, np.random.RandomState(seeds[2]))
            hidden = labeller.hidden(rows, targets, extra)
        training = build_training_set(
            rows,
            targets,
            extra,
            held,
            preprocessor=self.preprocessor,
            n_bins=self.n_bins if self._embeds(named) else None,
            hidden=hidden,
        )
        return training, targets

    def _active_hints(self, named: list[Named]) -> list[ActiveHint]:
        """Return the hints that have a weight, checked as far as that goes before training."""
        hints = active_hints(self.hints, [n.name for n in named])
        if self.student_module is None:
            sizes = self.hidden_layer_sizes
            layers = range(2 if isinstance(sizes, str) else len(sizes))
            for asked in hints:
                student_layer(asked, layers)
        return hints

    def _embeds(self, named: list[Named]) -> bool:
        """Tell whether the built-in network gets the piecewise-linear encoding."""
        if self.numerical_embedding is None or self.student_module is not None:
            return False
        if self.numerical_embedding != "auto" or not named:
            return True
        return not all(is_smooth(n.estimator) for n in named)

    def _labeller(self, rows: Rows | None, named: list[Named]) -> Labeller:
        """Return the teachers with what the parameters say about asking them."""
        return Labeller(
            named=named,
            prefit=self._is_prefit(),
            default=self.teachers is None,
            weighted=[] if rows is None else self._weighted(named, rows),
            cv=self.cv,
            averaging=self.averaging,
            teacher_weights=self.teacher_weights,
            calibration=self.calibration,
            augment=self.augment,
            n_synthetic=self.n_synthetic,
            n_jobs=self.n_jobs,
            memory=self.memory,
        )

    def _weighted(self, named: list[Named], rows: Rows) -> list[bool]:
        """Tell which teachers get the sample weights: with metadata routing, those that ask."""
        routing = get_config()["enable_metadata_routing"]
        if not routing or self.teachers is None or (rows.weight == 1).all():
            return [True] * len(named)
        routed = process_routing(self, "fit", sample_weight=rows.weight)
        return ["sample_weight" in routed.get(n.name, {}).get("fit", {}) for n in named]

    def _trainer(self, alpha: float, **changes: Any) -> "StudentTrainer":
        """Return what trains the student."""
        from skdistill.training import StudentTrainer

        spec = StudentSpec(**{f.name: getattr(self, f.name) for f in fields(StudentSpec)})
        return StudentTrainer(replace(spec, alpha=alpha, **changes))

    def _train_control(
        self, training: TrainingSet, targets: SoftTargets | None, seed: int
    ) -> "Control | None":
        """Train a plain student on some of the rows, where one is wanted."""
        if targets is None or self.calibration is None or is_self(self.teachers):
            return None
        return self._trainer(self.alpha).fit_control(training, seed)

    def _prepare_stack(
        self, X: Any, y: Any, params: dict[str, Any], *, soft: bool
    ) -> "tuple[TrainingSet, Control | None, int]":
        """Do what `fit` does beside training; return the rows, the control, the network's seed."""
        rows, rng = self._read(
            X, y, *(params.get(k) for k in ("sample_weight", "X_unlabeled", "teacher_proba"))
        )
        named = self._name_teachers(rows)
        training, targets = self._make_training_set(rows, named, rng, float(soft))
        seeds = rng.randint(np.iinfo(np.int32).max, size=2)
        control = self._train_control(training, targets if soft else None, int(seeds[1]))
        return training, control, int(seeds[0])

    def _train_stack(
        self,
        training: TrainingSet,
        control: "Control | None",
        candidates: list[dict[str, float]],
        seed: int,
    ) -> list[Any]:
        """Train a student for each temperature and alpha at once; None where one diverged."""
        pairs = [(c["temperature"], c["alpha"]) for c in candidates]
        students: list[Any] = []
        for trained in self._trainer(self.alpha).fit_stack(training, pairs, seed):
            students.append(None)
            if trained is not None:
                with suppress(FloatingPointError):
                    trained = trained if control is None else trained.calibrated(control)
                    students[-1] = self._freeze(trained)
        return students

    def _finish(
        self,
        trained: "Trained",
        soft_targets: SoftTargets | None,
        control: "Control | UnseenLabels | None" = None,
    ) -> None:
        """Freeze the trained network into `student_` and record what training left."""
        if control is not None:
            trained = trained.calibrated(control)
        student = self._freeze(trained)
        temperature = 1.0 if soft_targets is None else soft_targets.temperature
        self.history_ = trained.history
        self.n_iter_ = trained.n_iter
        self.teacher_weights_ = None if soft_targets is None else soft_targets.weights
        self.calibration_temperature_ = temperature * trained.temperature
        self.teachers_ = [] if soft_targets is None else soft_targets.fitted
        self._ensemble = None if soft_targets is None else soft_targets.ensemble
        self.net_ = trained.net
        self.student_ = student
        self.classes_ = trained.data.classes

    def _freeze(self, trained: "Trained") -> Any:
        """Return the student."""
        return trained.freeze(self.n_features_in_, getattr(self, "feature_names_in_", None))


def draw_seed(rng: np.random.RandomState) -> int:
    """Draw the seed of a network."""
    return int(rng.randint(np.iinfo(np.int32).max))


def labels_known_to(named: list[Named]) -> np.ndarray | None:
    """Return the sorted labels of the first teacher that knows its labels; None if none does."""
    known = (known_classes(teacher.estimator) for teacher in named)
    classes = next((labels for labels in known if labels is not None), None)
    return None if classes is None else np.unique(np.asarray(classes))


def _classes_of(named: list[Named]) -> np.ndarray:
    """Return the sorted labels of the first teacher that knows its labels."""
    classes = labels_known_to(named)
    if classes is not None:
        return classes
    raise ValueError(
        "Without y the classes must come from the teachers, and none of them knows its labels. "
        "Pass y, or wrap modules as TorchTeacher(module, classes=[...])."
    )
