"""Training that goes on: over the shards of a stream, or batch after batch."""

from dataclasses import replace
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from skdistill.estimators.steps import (
    OF_TEACHERS,
    DistillationSteps,
    draw_seed,
    labels_known_to,
)
from skdistill.tables.rows import Rows, check_teacher_proba, read_rows
from skdistill.teachers.adapters import TeachersLeftBehind
from skdistill.teachers.naming import Named, is_self, name_teachers
from skdistill.teachers.pooling import weights_without_labels
from skdistill.teachers.progress import stage
from skdistill.teachers.sources import Labeller
from skdistill.teachers.targets import Ensemble, SoftTargets
from skdistill.training.control import UnseenLabels
from skdistill.training.data import ExtraRows, Prepared, TrainingSet, build_training_set
from skdistill.training.shards import Shards
from skdistill.training.stream import TrainingStream, open_stream

__all__ = ["IncrementalTraining"]


def _one_pass_suffices(estimator: Any) -> bool:
    """Tell whether a batch can teach the student in one pass, or raise saying why not."""
    if estimator.self_distillation != 0:
        raise AttributeError(
            "partial_fit is not available with "
            f"self_distillation={estimator.self_distillation!r}: it sees a batch once, and there "
            "is no epoch before. Pass self_distillation=0."
        )
    return True


class IncrementalTraining(DistillationSteps):
    """The two ways to train on more rows than memory holds: a stream, and batch after batch."""

    def fit_stream(
        self, targets: Any, *, max_epochs: int | None = None, label: str | None = None
    ) -> Self:
        """Distil from shards that are read one after another: memory for a few of them.

        One pass before training looks at every shard: it counts rows, samples those from which
        scales, categories and bins are learned, and finds damage before hours are spent. Then
        every epoch reads the shards in seeded order; the rows of four shards are shuffled
        together. With ``calibration=None`` and one shard of at most 50,000 rows the student is the
        one that ``fit(X, y, teacher_proba=proba)`` gives without synthetic rows.

        Parameters
        ----------
        targets : LabelledParquet or sequence of shards
            What :func:`skdistill.distributed.label_parquet` returns, or a sequence (with ``len``
            and item access) of tuples ``(X, teacher_proba)`` or ``(X, teacher_proba, y)``, of
            shapes (n, n_features), (n, n_classes) and (n,). A label may be None or NaN: the row
            then carries the soft term only. The columns of ``teacher_proba`` follow the classes
            that the files name, or else the teachers' classes, or else the sorted labels.
        max_epochs : int, default=None
            Passes over the shards; None: the constructor's.
        label : str, default=None
            The column of the files that holds true labels. None: the student learns from the soft
            targets alone, and `alpha` is taken as 1.

        Returns
        -------
        self : DistilledClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter or a shard is not usable; the message names it.
        FloatingPointError
            If the training loss stops being finite.

        Notes
        -----
        Synthetic rows are made only if `augment` asks for them, "munge" or a callable, with
        prefit teachers: each epoch makes new ones shard by shard and asks the teachers about them.
        With ``early_stopping=True`` one shard, drawn by `random_state`, is held out; the epochs
        are compared on its labels.

        Teachers that average many opinions are often less sure than right. Where there are at
        least 500 labels, a tenth of their rows, 5,000 at most, is kept from training (with early
        stopping the shard that is held out serves), and the logits of the student are divided by
        the temperature, at most 1, of the lowest log-loss on them. ``calibration=None`` trains on
        every row and leaves the logits alone.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from skdistill import DistilledClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
        >>> shards = [(X[i::3], teacher.predict_proba(X[i::3]), y[i::3]) for i in range(3)]
        >>> student = DistilledClassifier([teacher], random_state=0).fit_stream(shards)
        >>> student.score(X, y) > 0.9
        True
        """
        if max_epochs is not None and (not isinstance(max_epochs, Integral) or max_epochs < 1):
            raise ValueError(f"max_epochs must be None or an integer >= 1; got {max_epochs!r}.")
        with self._attempt():
            rng = self._check_settings()
            self._refuse_hints("fit_stream")
            with stage("surveying the shards"):
                stream = self._open_stream(Shards(targets, label), rng)
            self._check_loss(stream.hard_weight > 0, len(stream.classes))
            alpha = self.alpha if stream.hard_weight else 1.0
            with stage("training the student"):
                changes: dict[str, Any] = {} if max_epochs is None else {"max_epochs": max_epochs}
                trained = self._trainer(alpha, **changes).fit(stream, draw_seed(rng))
            self._finish(trained, None, self._unseen_labels(stream))
        return self

    def _calibrates_streams(self) -> bool:
        """Tell whether labelled rows are kept from training to check the confidence on."""
        return self.calibration is not None and self.student_module is None

    def _unseen_labels(self, stream: TrainingStream) -> UnseenLabels | None:
        """Return the labels on which the confidence is checked, if it is to be."""
        held = stream.unseen or stream.held_out
        return UnseenLabels(held) if held is not None and self._calibrates_streams() else None

    def _open_stream(self, shards: Shards, rng: np.random.RandomState) -> TrainingStream:
        """Survey the shards and record the column names."""
        # As many as fit draws for its rows, so that one shard gives the student that fit gives.
        seeds = rng.randint(np.iinfo(np.int32).max, size=3)
        named = []
        if is_self(self.teachers):
            raise ValueError(
                "teachers='self' has no place in fit_stream: the soft targets stand in the shards. "
                "Pass teachers=None; self_distillation mixes into those targets."
            )
        if self.teachers is not None:
            named = name_teachers(self.teachers, reserved=self._get_param_names())
            weights_without_labels(self.teacher_weights, len(named))
        labeller = None
        if self.augment not in (None, "auto") and self.n_synthetic != 0:
            labeller = self._labeller(None, named)
        stream = open_stream(
            shards,
            classes=labels_known_to(named),
            hold_out=self.early_stopping,
            keep_back=self._calibrates_streams(),
            preprocessor=self.preprocessor,
            n_bins=self.n_bins if self._embeds(named) else None,
            labeller=labeller,
            seed=int(seeds[0]),
        )
        validate_data(self, shards.first, skip_check_array=True)
        return stream

    @available_if(_one_pass_suffices)
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        classes: Any = None,
        teacher_proba: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Train on one more batch of rows, in one pass and at a constant learning rate.

        The first call decides what stays: the classes, the preprocessing and bins, the shape and
        precision of the network and, where `fit` would fit teachers, these: they are cross-fitted
        on the first batch, and the mean of the fold teachers labels later ones. So make the first
        batch a large one. After `fit` or `fit_stream` training goes on from the student's weights.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Raw rows.
        y : array-like of shape (n_samples,), default=None
            Labels; a batch may lack some classes. None: the batch carries the soft term only.
        classes : array-like of shape (n_classes,), default=None
            All labels. Needed in the first call, unless prefit teachers know them.
        teacher_proba : array-like of shape (n_samples, n_classes), default=None
            Soft targets obtained elsewhere, in the order of the sorted classes. Needed after
            unpickling, where the teachers were left behind.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, >= 0.

        Returns
        -------
        self : DistilledClassifier
            The classifier.

        Raises
        ------
        ValueError
            If the classes are missing or others than before, X has other columns, no teacher can
            label the batch, or ``early_stopping=True``, which needs epochs to compare.
        FloatingPointError
            If the training loss stops being finite; the student stays as it was.

        Notes
        -----
        Synthetic rows are made for each batch only if `augment` asks for them, "munge" or a
        callable. A rule of `teacher_weights` compares the teachers on the first batch; later ones
        are labelled with the ``teacher_weights_`` found there. `calibration` sets the targets of
        teachers that the first batch fits; the student is calibrated by `fit` and `fit_stream`.
        With ``self_distillation > 0`` there is no partial_fit: a batch is seen once, in no second
        epoch.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from skdistill import DistilledClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
        >>> student = DistilledClassifier([teacher], random_state=0)
        >>> for _ in range(100):
        ...     for i in range(3):
        ...         student = student.partial_fit(X[i::3], y[i::3])
        >>> student.score(X, y) > 0.9
        True
        """
        if self.early_stopping:
            raise ValueError(
                "partial_fit does not support early_stopping=True: it sees a batch at a time and "
                "has no epochs to compare. Pass early_stopping=False."
            )
        if self.__sklearn_is_fitted__():
            return self._partial_fit_more(X, y, classes, teacher_proba, sample_weight)
        try:
            self._forget()
            rng = self._check_settings()
            self._refuse_hints("partial_fit")
            knowing = self._is_prefit() and not is_self(self.teachers)
            known = _first_classes(self.teachers if knowing else None, classes)
            if y is None:
                self._check_without_labels(teacher_proba)
            rows = read_rows(X, y, sample_weight, None, teacher_proba, classes=known)
            rows.classes = known
            validate_data(self, rows.X, skip_check_array=True)
            named = self._name_teachers(rows)
            training, soft_targets = self._batch(rows, named, rng, None)
            alpha = self._alpha(rows)
            trained = self._trainer(alpha).fit(training, draw_seed(rng), one_pass=True)
            self._finish(trained, soft_targets)
        except BaseException:
            self._forget()
            raise
        return self

    def _partial_fit_more(
        self, X: Any, y: Any, classes: Any, teacher_proba: Any, sample_weight: Any
    ) -> Self:
        """Go on from the student's weights."""
        rng = self._check_settings(teachers_needed=teacher_proba is None and self.alpha > 0)
        self._refuse_hints("partial_fit")
        _check_batch_classes(classes, self.classes_)
        rows = read_rows(X, y, sample_weight, None, teacher_proba, classes=self.classes_)
        rows.classes = self.classes_
        self._check_loss(rows.code is not None, len(rows.classes))
        validate_data(self, rows.X, skip_check_array=True, reset=False)
        if teacher_proba is not None:
            rows.teacher_proba = check_teacher_proba(teacher_proba, len(rows.weight), self.classes_)
        student = self.student_
        like = Prepared(student.preprocessor_, getattr(student, "encoding_", None))
        training, soft_targets = self._batch(rows, [], rng, like)
        trained = self._trainer(self._alpha(rows)).fit_further(
            training, draw_seed(rng), student=student, net=self.__dict__.get("net_")
        )
        before = dict(self.__dict__)
        try:
            self._finish(trained, soft_targets)
            if soft_targets is None:
                # A batch that asks no teacher forgets none.
                self.__dict__.update({k: v for k, v in before.items() if k in OF_TEACHERS})
            records = self.history_.items()
            self.history_ = {k: np.append(before["history_"].get(k, []), v) for k, v in records}
            self.n_iter_ += before["n_iter_"]
        except BaseException:
            # An interrupt leaves the student that was, and not half of the next.
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _batch(
        self,
        rows: Rows,
        named: list[Named],
        rng: np.random.RandomState,
        like: Prepared | None,
    ) -> tuple[TrainingSet, SoftTargets | None]:
        """Label and prepare a batch of `partial_fit`; the first one decides how."""
        seeds = rng.randint(np.iinfo(np.int32).max, size=3)
        held = np.zeros(len(rows.weight), dtype=bool)
        targets: SoftTargets | None = None
        extra: list[ExtraRows] = []
        if self._alpha(rows) > 0:
            labeller = self._labeller(rows, named)
            if like is None:
                targets = labeller.soft_targets(rows, np.random.RandomState(seeds[1]))
            else:
                ensemble = self._kept_ensemble(labeller)
                fitted = getattr(self, "teachers_", [])
                targets = _label_batch(rows, ensemble, fitted, self.teacher_weights_)
            if self.augment != "auto":
                extra = labeller.extra_rows(rows, targets, held, np.random.RandomState(seeds[2]))
        n_bins = self.n_bins if self._embeds(named) else None
        training = build_training_set(
            rows, targets, extra, held, preprocessor=self.preprocessor, n_bins=n_bins, like=like
        )
        return training, targets

    def _kept_ensemble(self, labeller: Labeller) -> Any:
        """Return the teachers that label later batches: the fold teachers, or the prefit ones."""
        kept = self.__dict__.get("_ensemble")
        if kept is not None or isinstance(self.teachers, TeachersLeftBehind | None):
            return kept
        if not self._is_prefit():
            return None
        named = name_teachers(self.teachers, reserved=self._get_param_names())
        return replace(labeller, named=named).prefit_ensemble(self.classes_)


def _first_classes(teachers: Any, classes: Any) -> np.ndarray:
    """Return the sorted classes for the first batch: as given, or as prefit teachers know them."""
    if classes is None and teachers is not None:
        classes = labels_known_to(name_teachers(teachers))
    if classes is None:
        raise ValueError(
            "classes must be passed on the first call to partial_fit: a batch may lack some."
        )
    return np.unique(np.asarray(classes))


def _check_batch_classes(classes: Any, before: np.ndarray) -> None:
    """Raise where a later batch comes with other classes than the first."""
    if classes is not None and not np.array_equal(np.unique(np.asarray(classes)), before):
        raise ValueError(
            f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {before!r}"
        )


def _label_batch(
    rows: Rows, ensemble: Ensemble | None, fitted: list[Any], weights: np.ndarray | None
) -> SoftTargets:
    """Return the soft targets of a later batch, from teachers weighed as they are."""
    known = np.ones(len(rows.weight), dtype=bool)
    if rows.teacher_proba is not None:
        return SoftTargets(rows.teacher_proba, known, ensemble, fitted, weights)
    if ensemble is None:
        raise ValueError(
            "There is no teacher that could label this batch: none was kept when the student was "
            "trained. Pass teacher_proba, or prefit teachers, or alpha=0."
        )
    proba = ensemble.predict_proba(rows.X)
    return SoftTargets(proba, known, ensemble, fitted, weights, ensemble.temperature)
