"""DistilledClassifier: what users construct. Its `fit` is the table of contents of the package."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if

from skdistill.estimators.base import BaseDistilled, all_or_nothing, unchanged_if_failed
from skdistill.estimators.distil import columns_of, read_distillation
from skdistill.estimators.incremental import (
    read_first_batch,
    read_next_batch,
    train_next_batch,
    train_stream,
)
from skdistill.estimators.settings import Settings

if TYPE_CHECKING:
    from skdistill.estimators.distil import Distillation
    from skdistill.teachers.pooling import SoftTargets
    from skdistill.training.trainer import Trained


def _one_pass_suffices(estimator: "DistilledClassifier") -> bool:
    """Tell whether a batch can teach the student in one pass, or raise saying why not."""
    if estimator.self_distillation != 0:
        raise AttributeError(
            "partial_fit is not available with "
            f"self_distillation={estimator.self_distillation!r}: it sees a batch once, and there "
            "is no epoch before. Pass self_distillation=0."
        )
    return True


class DistilledClassifier(ClassifierMixin, BaseDistilled):
    """Distil heavy classifiers into a small, fast one.

    The teachers answer every row with probabilities (soft targets); a small neural network, the
    student, is trained on them and on the labels with the loss

        alpha · T² · KL(teacher_T ‖ student_T) + (1 - alpha) · CE(y, student)

    and frozen to NumPy arrays in ``student_``, which predicts without torch and without the
    teachers. A pickle of the fitted classifier holds the student and leaves the teachers and
    everything else that only shapes training behind; ``keep_teachers=True`` keeps them.

    Teachers get X exactly as it is passed to `fit` (a DataFrame stays a DataFrame), the student
    gets what `preprocessor` makes of it. So a scaler belongs into the teachers' own Pipelines,
    never in front of this class.

    Parameters
    ----------
    teachers : list of teachers or of (name, teacher), "self" or None, default=None
        Scikit-learn-style classifiers with ``predict_proba`` (Pipelines, skorch nets, XGBoost,
        LightGBM and CatBoost included), ``torch.nn.Module`` that returns logits,
        :class:`TorchTeacher`, :class:`CallableTeacher` for anything else that maps X to
        probabilities. None: one default teacher, extra-trees behind our own preprocessing, fitted
        inside `fit` on folds. "self": nobody but the student itself, see `self_distillation`.
    cv : "prefit", "oob", int, splitter, iterable or None, default="prefit"
        Where the soft targets come from.

        - "prefit": the teachers are fitted and used as they are. Cross-validated scores of the
          student are too good if they saw the rows that are scored.
        - int, splitter, iterable, or None for 5 folds: the teachers are cloned and cross-fitted
          inside `fit`; the soft target of a row comes from a teacher that never saw it.
        - "oob": teachers with ``oob_score`` are fitted once and their out-of-bag votes are the
          targets.

        Teachers that cannot be fitted (modules, TorchTeacher, CallableTeacher, FrozenEstimator)
        are used as they are in every mode.
    temperature : float, default=1.0
        T > 0. Teacher and student probabilities are softened as p^(1/T), normalised.
    alpha : float, default=0.9
        Weight of the soft term, in [0, 1]. With 0 no teacher is asked, unless there are `hints`,
        and the rows of X are all there is; without labels it is 1.
        Each term is the weighted mean over the rows that carry it, so alpha keeps its meaning
        whatever rows are added.
    averaging : {"auto", "logits", "proba"}, default="auto"
        The space in which teachers are averaged. "auto": logits if every teacher is a torch module
        that returns them, else probabilities. Logits of teachers that know only probabilities are
        ``log(clip(p, 1e-7, 1))``.
    teacher_weights : array-like of shape (n_teachers,), "validation" or "confidence", default=None
        Weights of the teachers in the average; None: equal.

        - numbers >= 0: as they are.
        - "validation": the weights whose average has the lowest log-loss on y; the best single
          teacher is a candidate. Under cross-fitting and out of bag the answers compared are to
          rows that the teachers did not see; fitted teachers are taken not to have seen X.
        - "confidence": on each row with a label a teacher counts less, the less it expects that
          label (Zhang et al., 2022); equal weights on rows without one.
    loss : {"kl", "mse", "dkd"} or callable, default="kl"
        The soft term, which `alpha` weighs against the cross-entropy in any case. "mse" is the
        squared difference of centred logits, where `temperature` has no part (Kim et al., 2021).
        "dkd" weighs the divergence within the classes other than the label's twice
        (:func:`skdistill.losses.decoupled_kl`, Zhao et al., 2022), for three classes or more. A
        callable ``loss(student_logits, target_proba, y, *, temperature)`` returns one value a row
        and includes its own T²; y is -1 where a row has no label.
    hints : list of Hint, default=None
        Hidden layers of teachers that hidden layers of the student are to match; each adds a term
        to the loss (:class:`Hint`, Romero et al., 2015). "mse", "cosine", and "attention" between
        units are refused for teachers that are cross-fitted, where each fold's clone has hidden
        units of its own, and all with ``cv="oob"``. The layers of all rows are kept in memory
        while `fit` runs, four bytes a number. What serves the comparison only is not shipped.
    self_distillation : float in [0, 1), default=0.0
        Weight, in the last epoch, of the student's own earlier answer in the soft target (PS-KD,
        Kim et al., 2021). In epoch t of ``max_epochs``, from the second on, the target of each
        row that has one is ``(1 - a) * target + a * p`` with
        ``a = self_distillation * t / max_epochs``, where p are the probabilities that the weights
        at the end of epoch t - 1 give the row, without dropout; temperature softens the mixture.
        ``max_epochs`` counts as planned, wherever training stops early. With one epoch there is
        none before: it has no part, and a warning says so. Neither has it with ``alpha=0``.

        With ``teachers="self"`` the target is the row's own label; with ``alpha=1`` and
        ``temperature=1`` that is the published method. It needs y and a weight above 0, or
        ``alpha=0`` for a plain student. `cv`, `averaging` and `calibration` then have no part,
        ``augment="auto"`` makes no rows, and what belongs to teachers is refused:
        `teacher_weights`, `hints`, other values of `augment`, ``X_unlabeled`` and
        ``teacher_proba`` in `fit`, and `fit_stream`. A pickle keeps the word and can be fitted
        again.
    calibration : {"auto", None}, default="auto"
        Whether confidence is set right by a temperature of its own, at most 1, which costs nothing
        at prediction. Averages of many opinions are often less sure than right, and a student
        inherits that. Cross-fitted and out-of-bag targets get the temperature of the lowest Brier
        score on y. With fitted teachers, whose answers to rows they saw prove nothing, a plain
        student is trained on four fifths of the rows (no more steps, stopped early) and
        calibrated on the rest, and the logits of the student are divided until it is no less
        confident than that on the synthetic rows. The same plain student is the measure by which
        `fit` warns of teachers that are worse than it; their student is left alone.
        "auto" does neither without labels, with `student_module`, or where all rows fit one batch
        (targets are calibrated there too). None: never. `fit_stream` calibrates the student on
        labelled rows that it keeps from training.
    hidden_layer_sizes : "auto" or sequence of int, default="auto"
        Widths of the student's hidden layers. "auto": (128, 64), narrowed until the student has at
        most 11 parameters for each row of X, with 20,000 allowed in any case and never more than
        50,000; (16, 8) at the least, which thousands of columns bring above that.
    activation : {"relu", "tanh", "gelu", "silu"}, default="relu"
        Activation of the hidden layers.
    dropout : "auto" or float in [0, 1), default="auto"
        Share of hidden units left out in a training step. "auto": 0.1, and 0 where all rows fit
        one batch, or where there are ten rows or more for each parameter of the network.
    numerical_embedding : {"auto", "piecewise_linear", None}, default="auto"
        How the network sees numbers: "piecewise_linear" as their values in quantile bins, which
        lets a small network follow the steps of trees (Gorishniy et al., 2022), None as they are.
        "auto": None if every teacher is a neural network or another smooth function of its inputs
        (linear and kernel models, discriminant analysis, Gaussian processes, naive Bayes, a
        student that sees them so), else "piecewise_linear".
    n_bins : int, default=16
        Bins of a column at most.
    student_module : callable, default=None
        A factory ``(n_features, n_classes) -> torch.nn.Module`` that returns logits, in place of
        the built-in network. Made of Linear, ReLU, Tanh, GELU, SiLU, Dropout, BatchNorm1d,
        LayerNorm and Sequential only, it is frozen to NumPy; any other needs torch to predict.
    preprocessor : "auto", transformer or None, default="auto"
        What the student sees of X. "auto": numbers standardised, categories, strings and booleans
        one-hot, missing values imputed with an indicator. None: X itself, which must be numbers.
    augment : {"auto", "munge", None} or callable, default="auto"
        Synthetic rows that the teachers label. "munge": mixtures of neighbours (Bucila et al.,
        2006). "auto": "munge" for prefit teachers, whose answers to rows they saw are
        overconfident, none otherwise. A callable ``(X, n_rows, *, sample_weight, random_state)``
        returns a table like X.
    n_synthetic : "auto" or int, default="auto"
        Number of synthetic rows. "auto": five times the rows of X, at most 100,000 unless X has
        more rows itself.
    max_epochs : "auto" or int, default="auto"
        Passes over all rows, synthetic ones included. "auto": seven gradient steps for each row of
        X, but at least 1,000 and at most 20,000.
    batch_size : int, default=128
        Rows of a gradient step. Batches of an epoch are of nearly equal size.
    learning_rate_init : float, default=0.002
        Adam's learning rate after a short warm-up; it then falls to zero as half a cosine.
    weight_decay : float, default=1e-4
        L2 penalty, added to the gradient.
    early_stopping : bool, default=False
        Whether to hold out rows, watch the log-loss on their labels, stop when it no longer falls
        and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out, in (0, 1).
    n_iter_no_change : int, default=10
        Epochs without improvement after which training stops.
    callbacks : list of skorch callbacks, default=None
        Hooks into the training loop. Those of ``sklearn.callback`` (scikit-learn 1.9 or later)
        are other ones, which ``set_callbacks(ProgressBar())`` sets and clones share.
    memory : str or joblib.Memory, default=None
        Remembers the cross-fitting of the teachers, and the answers of fitted ones, by the content
        of teachers and rows. What cannot be hashed is asked each time, and so is a plain function
        in `CallableTeacher`, whose content cannot be seen; bound methods and callable objects are
        remembered. A function inside another estimator counts by its name. None: nothing is
        remembered from one `fit` to the next.
    n_jobs : int or None, default=None
        Teacher-fold pairs that are fitted at once.
    device : str, default="cpu"
        Where torch trains the student.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Training precision. "auto": float64 where all rows fit one batch, else float32.
    random_state : int, RandomState or None, default=None
        Seeds folds, default teachers, synthetic rows, first weights, batches and dropout: the same
        seed gives the same student, whatever `n_jobs`, process and threads. Other releases of
        torch may leave out other units. The global generators of NumPy and torch are left alone.
    verbose : int, default=0
        With 1, one live line on standard error says what `fit` is doing: teachers that are asked
        or fitted, synthetic rows, epochs with their loss.
    keep_teachers : bool, default=False
        Whether a pickle of the fitted classifier keeps fitted teachers and the other parameters
        that only shape training, so that it can be fitted again after loading. Unfitted teachers,
        as with ``cv=5``, are parameters like any other and stay in any case.

    Attributes
    ----------
    student_ : StudentClassifier or TorchStudent
        The trained student. This is what predicts, and what is deployed.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where X had string names.
    history_ : dict of ndarray
        Mean losses by epoch: "train_loss", "train_soft_loss", "train_hard_loss", with hints
        "train_hint_loss", their weighed sum, and "valid_loss" with early stopping.
    n_iter_ : int
        Number of epochs run.
    teacher_weights_ : ndarray of shape (n_teachers,) or None
        The weights of the teachers on rows without a label; None if no teacher was asked.
    calibration_temperature_ : float
        By what calibration divided the logits of cross-fitted targets, or of the student; 1.0 where
        it left them alone. After `partial_fit` that of the targets alone.
    teachers_ : list
        The teachers that answered: a prefit teacher itself, a cross-fitted one as the list of its
        fold clones. Not in a lean pickle.
    net_ : StudentNet
        The trained skorch net. Never pickled.

    See Also
    --------
    DistilledClassifierCV : Searches temperature and alpha and asks the teachers once a fold.
    StudentClassifier : The frozen student.

    Notes
    -----
    With ``cv="prefit"`` clones share the teachers, which `fit` never changes, so that grid
    searches, Pipelines and cross-validation work with fitted teachers; otherwise teachers are
    cloned like any parameter. The values of a parameter grid are cloned by scikit-learn itself: a
    grid over fitted ``teachers`` needs ``FrozenEstimator(teacher)``.

    References
    ----------
    .. [1] Hinton, Vinyals & Dean (2015). Distilling the Knowledge in a Neural Network.
    .. [2] Bucila, Caruana & Niculescu-Mizil (2006). Model Compression.
    .. [3] Dao, Kamath, Syrgkanis & Mackey (2021). Knowledge Distillation as Semiparametric
       Inference.
    .. [4] Gorishniy, Rubachev & Babenko (2022). On Embeddings for Numerical Features in Tabular
       Deep Learning.
    .. [5] Guo, Pleiss, Sun & Weinberger (2017). On Calibration of Modern Neural Networks.
    .. [6] Kim, Ji, Yoon & Hwang (2021). Self-Knowledge Distillation with Progressive Refinement
       of Targets.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skdistill import DistilledClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> forest = RandomForestClassifier(min_samples_leaf=2, random_state=0).fit(X, y)
    >>> student = DistilledClassifier([forest], random_state=0).fit(X, y)
    >>> student.score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        teachers: Any = None,
        *,
        cv: Any = "prefit",
        temperature: float = 1.0,
        alpha: float = 0.9,
        averaging: str = "auto",
        teacher_weights: Any = None,
        loss: str | Callable[..., Any] = "kl",
        hints: Any = None,
        self_distillation: float = 0.0,
        calibration: str | None = "auto",
        hidden_layer_sizes: Any = "auto",
        activation: str = "relu",
        dropout: float | str = "auto",
        numerical_embedding: str | None = "auto",
        n_bins: int = 16,
        student_module: Callable[[int, int], Any] | None = None,
        preprocessor: Any = "auto",
        augment: Any = "auto",
        n_synthetic: int | str = "auto",
        max_epochs: int | str = "auto",
        batch_size: int = 128,
        learning_rate_init: float = 2e-3,
        weight_decay: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        callbacks: Any = None,
        memory: Any = None,
        n_jobs: int | None = None,
        device: str = "cpu",
        dtype: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        keep_teachers: bool = False,
    ) -> None:
        self.teachers = teachers
        self.cv = cv
        self.temperature = temperature
        self.alpha = alpha
        self.averaging = averaging
        self.teacher_weights = teacher_weights
        self.loss = loss
        self.hints = hints
        self.self_distillation = self_distillation
        self.calibration = calibration
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.numerical_embedding = numerical_embedding
        self.n_bins = n_bins
        self.student_module = student_module
        self.preprocessor = preprocessor
        self.augment = augment
        self.n_synthetic = n_synthetic
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.memory = memory
        self.n_jobs = n_jobs
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose
        self.keep_teachers = keep_teachers

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_unlabeled: Any = None,
        teacher_proba: Any = None,
    ) -> Self:
        """Distil the teachers into a student.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Raw rows: teachers get them as they are, a DataFrame as a DataFrame.
        y : array-like of shape (n_samples,), default=None
            Labels. With None the student learns from prefit teachers (or `teacher_proba`) alone,
            and `alpha` is taken as 1.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, >= 0; rows of weight 0 take no part. Cross-fitted teachers that take weights
            get them too.
        X_unlabeled : array-like or DataFrame of shape (n_extra, n_features), default=None
            Further rows, which only the teachers label: a transfer set, another domain.
        teacher_proba : array-like of shape (n_samples, n_classes), default=None
            Soft targets obtained elsewhere, in the order of ``classes_``; the teachers are then
            asked about extra rows only.

        Returns
        -------
        self : DistilledClassifier
            The fitted classifier.

        Raises
        ------
        NotFittedError
            If ``cv="prefit"`` and a teacher is not fitted.
        TypeError
            If a teacher is a regressor or has no ``predict_proba``, or X has columns that are
            neither numbers nor categories.
        ValueError
            If a parameter, the data or a teacher's answer is not usable; the message names it.
        FloatingPointError
            If the training loss stops being finite.

        Warns
        -----
        ConvergenceWarning
            If the student's loss ends far above that of equal probabilities, or all rows get one
            answer: training diverged.
        UserWarning
            If the teachers are worse than a plain student, agree with y no better than chance, or
            anything else makes the student doubtful; the message says what to do.
        """
        with self._attempt(X, y):
            run = read_distillation(self, X, y, sample_weight, X_unlabeled, teacher_proba)
            training = run.prepare()
            trained = run.train(training)
            self._record(trained, run.targets)
            self._record_teachers(run)
        return self

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
        with self._attempt():
            self._record(train_stream(self, targets, label, max_epochs))
            self._record_teachers()
        return self

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
        if not self.__sklearn_is_fitted__():
            with all_or_nothing(self):
                run = read_first_batch(self, X, y, classes, teacher_proba, sample_weight)
                training = run.prepare()
                trained = run.trainer.fit(training, run.seeds.network, one_pass=True)
                self._record(trained, run.targets)
                self._record_teachers(run)
            return self
        run = read_next_batch(self, X, y, classes, teacher_proba, sample_weight)
        trained = train_next_batch(self, run)
        with unchanged_if_failed(self) as before:
            self._record(trained, run.targets)
            self.history_ = {
                name: np.append(before["history_"].get(name, []), losses)
                for name, losses in trained.history.items()
            }
            self.n_iter_ += before["n_iter_"]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict class labels.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Raw rows.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        return self._fitted_student().predict(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Raw rows.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``; float32 for float32 rows, else float64.
        """
        return self._fitted_student().predict_proba(X)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the logarithm of the class probabilities.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Raw rows.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
        """
        return self._fitted_student().predict_log_proba(X)

    def _settings(
        self, *, teachers_needed: bool = True, changed: Mapping[str, Any] | None = None
    ) -> Settings:
        """Return the parameters, some of them changed, checked and sorted by who uses them."""
        if teachers_needed:
            self._unpack_teachers()
        params = {**self.get_params(deep=False), **(changed or {})}
        return Settings.read(type(self).__name__, params, teachers_needed=teachers_needed)

    def _record(self, trained: "Trained", targets: "SoftTargets | None" = None) -> None:
        """Freeze the trained network into `student_` and record what training left."""
        before = 1.0 if targets is None else targets.calibration_temperature
        student = trained.freeze(*columns_of(self))
        self.history_ = trained.history
        self.n_iter_ = trained.n_iter
        self.calibration_temperature_ = before * trained.calibration_temperature
        self.net_ = trained.net
        self.student_ = student
        self.classes_ = student.classes_

    def _record_teachers(self, run: "Distillation | None" = None) -> None:
        """Record the teachers that answered, and what labels batches that follow."""
        targets = None if run is None else run.targets
        self.teacher_weights_ = None if targets is None else targets.weights
        self.teachers_ = [] if targets is None else targets.fitted
        # A source that labelled nothing has learned nothing: it is chosen anew by the parameters.
        self._source = None if targets is None or run is None else run.source
