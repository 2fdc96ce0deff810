"""DistilledClassifierCV: a search over temperature and alpha that asks the teachers once a fold."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from joblib import delayed
from sklearn.base import ClassifierMixin, clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.validation import check_is_fitted

from skdistill.estimators.base import LeanEstimator, all_or_nothing
from skdistill.estimators.classifier import DistilledClassifier
from skdistill.estimators.pickling import LeftBehind, lean_parameters
from skdistill.estimators.search import (
    Fold,
    fit_arguments,
    run_fold,
    seeded,
    warn_about_prefit,
)
from skdistill.tables import read_rows
from skdistill.teachers.progress import (
    CALLBACKS,
    follow,
    hand_over,
    run_counted,
)

# Scores closer than this are one score: the first candidate wins.
_TIE = 1e-9


class DistilledClassifierCV(ClassifierMixin, LeanEstimator):
    """Search over temperature and alpha that asks the teachers once a fold.

    For each fold the teachers are asked (or cross-fitted) once, and the students of all candidates
    are trained side by side as one stacked network, on the same batches and from the same first
    weights as a fit of their own. With ``alpha=0`` the temperature and the teachers have no part,
    so that row is trained once and repeated. The scores are those of
    :class:`~sklearn.model_selection.GridSearchCV` over the same estimator, grid and splits with an
    integer ``random_state``. With ``loss="kl"`` on a CPU a student of a stack takes the very steps
    that it takes alone, in float32 too; elsewhere scores are equal to 1e-6 when the students train
    in float64, and within the noise of a float32 training otherwise.

    Parameters
    ----------
    estimator : DistilledClassifier
        What is tuned: a bare DistilledClassifier. Where a Pipeline is wanted, put this class into
        the Pipeline.
    temperatures : sequence of float, default=(1, 2, 4, 8, 16)
        Temperatures to try, each > 0.
    alphas : sequence of float, default=(0, 0.3, 0.5, 0.7, 0.9, 1)
        Weights of the soft term to try, each in [0, 1]. With 0 among them the plain student is a
        candidate, so that the choice is not knowingly worse than it.
    cv : int, splitter, iterable or None, default=None
        How the rows are split to score the candidates, as in GridSearchCV.
    scoring : str, callable or None, default=None
        A scorer on true labels; None: accuracy. Sample weights are passed to scorers that take
        them.
    refit : bool, default=True
        Whether to fit the best candidate on all rows, which prediction needs.
    n_jobs : int or None, default=None
        Folds that run at once.
    verbose : int, default=0
        With 1, one live line on standard error counts the folds and, where they run in this
        process, what happens inside. The estimator's own `verbose` is for the refit.
    random_state : int, RandomState instance or None, default=None
        Seed of the estimator where its own `random_state` is None: one draw, which the candidates
        of all folds and the refit share.

    Attributes
    ----------
    best_estimator_ : DistilledClassifier
        The best candidate, fitted on all rows.
    best_params_ : dict
        Its ``temperature`` and ``alpha``.
    best_score_ : float
        Its mean score over the folds.
    best_index_ : int
        Its row in ``cv_results_``.
    cv_results_ : dict of ndarray
        The keys of GridSearchCV: parameters, scores of the folds, mean, standard deviation, rank
        and times, which are those of the fold shared out evenly.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where X had string names.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : Searches over any parameter, one fit a candidate.

    Notes
    -----
    With teachers that are fitted already (``cv="prefit"`` in the estimator) the scores assume that
    the teachers did not see X: otherwise candidates that listen to them look better than they are.
    ``cv=5`` in the estimator has the teachers fitted inside each fold.

    A custom ``student_module``, a callable loss and ``callbacks`` cannot be stacked; such
    candidates are fitted one by one. With ``self_distillation`` each student has targets of its
    own, and with ``hints`` a projection: the teachers are still asked once a fold, and the students
    are trained one by one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skdistill import DistilledClassifier, DistilledClassifierCV
    >>> X, y = load_iris(return_X_y=True)
    >>> forest = RandomForestClassifier(20, random_state=0)
    >>> student = DistilledClassifier([forest], cv=3, max_epochs=100, random_state=0)
    >>> search = DistilledClassifierCV(student, temperatures=[1, 4], alphas=[0.5, 1], cv=3)
    >>> sorted(search.fit(X, y).best_params_)
    ['alpha', 'temperature']
    """

    def __init__(
        self,
        estimator: DistilledClassifier,
        *,
        temperatures: Sequence[float] = (1, 2, 4, 8, 16),
        alphas: Sequence[float] = (0, 0.3, 0.5, 0.7, 0.9, 1),
        cv: Any = None,
        scoring: Any = None,
        refit: bool = True,
        n_jobs: int | None = None,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.temperatures = temperatures
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, **params: Any
    ) -> Self:
        """Score every candidate by cross-validation and fit the best one on all rows.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Raw rows.
        y : array-like of shape (n_samples,)
            Labels: candidates are compared on them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, for the students, the teachers and the scorer.
        groups : array-like of shape (n_samples,), default=None
            Groups for a splitter that takes them, such as ``GroupKFold``.
        **params : dict
            Passed on to the estimator's `fit`: ``teacher_proba`` is cut by the folds,
            ``X_unlabeled`` never is. With metadata routing the estimator gets, of these and of
            the weights, what it requests.

        Returns
        -------
        self : DistilledClassifierCV
            The fitted search.

        Raises
        ------
        TypeError
            If the estimator is not a DistilledClassifier, or its `fit` does not take an argument.
        ValueError
            If a temperature or alpha is not allowed, y is None, or no candidate could be scored.
        """
        with all_or_nothing(self), follow(self, X, y):
            self._search(X, y, sample_weight, groups, params)
        return self

    def _search(
        self, X: Any, y: Any, sample_weight: Any, groups: Any, params: dict[str, Any]
    ) -> None:
        """Run the folds, compare the candidates, refit the best."""
        candidates = self._candidates()
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: "
                "candidates are compared on labels."
            )
        rows = read_rows(X, y, sample_weight)
        weight = None if sample_weight is None else rows.weight
        given = fit_arguments("DistilledClassifierCV.fit()", self, sample_weight=weight, **params)
        warn_about_prefit(self.estimator)
        estimator = seeded(self.estimator, self.random_state)
        scorer = self._scorer(estimator)
        splits = list(
            check_cv(self.cv, rows.labels, classifier=True).split(rows.X, rows.labels, groups)
        )
        with hand_over("setup", estimator):
            # Callbacks that the estimator must not have are refused here and not after the folds.
            pass
        runs = [
            delayed(run_fold)(
                estimator, rows, given, split, candidates, scorer, weigh=weight is not None
            )
            for split in splits
        ]
        folds = run_counted("fold", runs, self.n_jobs)
        self._compare(candidates, folds)
        if self.refit:
            best = estimator.set_params(**self.best_params_)
            with hand_over("refit", best):
                self.best_estimator_ = best.fit(rows.X, rows.labels, **given)
            self.classes_ = best.classes_
            self.n_features_in_ = best.n_features_in_
            if hasattr(best, "feature_names_in_"):
                self.feature_names_in_ = best.feature_names_in_

    def _compare(self, candidates: list[dict[str, float]], folds: Sequence[Fold]) -> None:
        """Write the table of results and name the best candidate."""
        self.cv_results_ = _results(candidates, folds)
        scores = self.cv_results_["mean_test_score"]
        if np.isnan(scores).all():
            raise ValueError(
                "No candidate could be scored: every mean test score is NaN. Either every training "
                "diverged (lower learning_rate_init) or the scorer returned NaN."
            )
        self.best_index_ = int(np.flatnonzero(scores >= np.nanmax(scores) - _TIE)[0])
        self.best_params_ = candidates[self.best_index_]
        self.best_score_ = float(scores[self.best_index_])

    def _scorer(self, estimator: DistilledClassifier) -> Any:
        """Return the one scorer that compares the candidates."""
        if self.scoring is not None and not isinstance(self.scoring, str | Callable):
            raise ValueError(
                "The 'scoring' parameter of DistilledClassifierCV must be None, the name of a "
                f"scorer or a callable; got {self.scoring!r}. Candidates are compared by one score."
            )
        return check_scoring(estimator, scoring=self.scoring)

    def _candidates(self) -> list[dict[str, float]]:
        """Check the grid and return the candidates in GridSearchCV's order."""
        if not isinstance(self.estimator, DistilledClassifier):
            raise TypeError(
                "The 'estimator' parameter of DistilledClassifierCV must be a DistilledClassifier; "
                f"got a {type(self.estimator).__name__}. Put DistilledClassifierCV into the "
                "Pipeline, not the Pipeline into it."
            )
        self.estimator._settings()
        for left in (self.cv, self.scoring):
            if isinstance(left, LeftBehind):
                raise ValueError(left.refusal())
        alphas = _check_grid("alphas", self.alphas, lambda a: 0 <= a <= 1, "in [0, 1]")
        temperatures = _check_grid(
            "temperatures", self.temperatures, lambda t: 0 < t < np.inf, "finite and > 0"
        )
        candidates = [{"alpha": a, "temperature": t} for a in alphas for t in temperatures]
        for candidate in candidates:
            self.estimator._settings(changed=candidate)
        return candidates

    def predict(self, X: Any) -> np.ndarray:
        """Predict class labels with the best candidate.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Raw rows.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        return self._best().predict(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities with the best candidate.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Raw rows.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        return self._best().predict_proba(X)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the logarithm of the class probabilities with the best candidate.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Raw rows.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
        """
        return self._best().predict_log_proba(X)

    def _best(self) -> DistilledClassifier:
        """Return the fitted winner."""
        check_is_fitted(self)
        if not hasattr(self, "best_estimator_"):
            raise AttributeError(
                "DistilledClassifierCV(refit=False) holds no fitted student: fit with refit=True, "
                "or fit the estimator with best_params_."
            )
        return self.best_estimator_

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether the search has run."""
        return hasattr(self, "cv_results_")

    def __sklearn_tags__(self) -> Tags:
        """Tell which inputs are taken: those of the estimator."""
        tags = super().__sklearn_tags__()
        if isinstance(self.estimator, DistilledClassifier):
            tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    def get_metadata_routing(self) -> MetadataRouter:
        """Get the metadata routing: what is passed to `fit` goes to the estimator's `fit`.

        Returns
        -------
        routing : MetadataRouter
            Routing information.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(estimator=self.estimator, method_mapping=mapping)

    def _pickled_state(self) -> dict[str, Any]:
        """Return what a pickle holds: a fitted search keeps the student, not the teachers."""
        state = dict(self.__dict__)
        if "cv_results_" not in state or self.estimator.keep_teachers:
            return state
        state.pop(CALLBACKS, None)
        for name in ("cv", "scoring"):
            state[name] = LeftBehind.unless_plain(name, state[name])
        estimator = clone(self.estimator)
        estimator.__dict__.pop(CALLBACKS, None)
        estimator.__dict__.update(lean_parameters(estimator.get_params(deep=False)))
        return {**state, "estimator": estimator}


def _check_grid(name: str, values: Any, allowed: Any, words: str) -> list[float]:
    """Return the grid as a list, or raise naming the value that is not allowed."""
    try:
        grid = list(values)
    except TypeError:
        grid = []
    if not grid:
        raise ValueError(
            f"The {name!r} parameter of DistilledClassifierCV must be a non-empty sequence; "
            f"got {values!r}."
        )
    for value in grid:
        if isinstance(value, bool | str) or not np.isscalar(value) or not allowed(value):
            raise ValueError(
                f"The {name!r} parameter of DistilledClassifierCV must hold numbers {words}; "
                f"got {value!r}."
            )
    return grid


def _results(candidates: list[dict[str, float]], folds: Sequence[Fold]) -> dict[str, Any]:
    """Return the table of GridSearchCV."""
    n = len(candidates)
    results: dict[str, Any] = {}
    for name in ("fit", "score"):
        seconds = [getattr(fold, f"{name}_seconds") for fold in folds]
        results[f"mean_{name}_time"] = np.full(n, np.mean(seconds))
        results[f"std_{name}_time"] = np.full(n, np.std(seconds))
    for name in ("alpha", "temperature"):
        values = [candidate[name] for candidate in candidates]
        results[f"param_{name}"] = np.ma.masked_array(values, mask=[False] * n)
    scores = np.array([fold.scores for fold in folds])
    mean = scores.mean(axis=0)
    # Ties share the best rank, and NaN comes last.
    rounded = np.round(np.where(np.isnan(mean), -np.inf, mean), 9)
    ranks = np.array([1 + int((rounded > value).sum()) for value in rounded], dtype=np.int32)
    return {
        **results,
        "params": candidates,
        **{f"split{i}_test_score": row for i, row in enumerate(scores)},
        "mean_test_score": mean,
        "std_test_score": scores.std(axis=0),
        "rank_test_score": ranks,
    }
