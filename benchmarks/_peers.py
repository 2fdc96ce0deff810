"""Teachers and plain-torch students to compare with; nothing here uses skdistill."""

import copy
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import sklearn
import torch
from _data import Split
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

__all__ = [
    "KINDS",
    "PeerResult",
    "Taught",
    "classic_recipe",
    "default_cache",
    "dump_whole",
    "fair_plain",
    "plain_inputs",
    "taught",
]

HIDDEN = (64, 32)
EPOCHS = 50
BATCH = 64
WEIGHT_DECAY = 1e-4
MAX_HISTOGRAM_CATEGORIES = 255


@dataclass(frozen=True)
class PeerResult:
    """What a plain-torch student answered on the test rows, and what it cost."""

    proba: np.ndarray
    seconds: float
    cpu_seconds: float
    n_parameters: int


# --- inputs ----------------------------------------------------------------------------------


def _is_category(X: pd.DataFrame) -> list[str]:
    """Return the names of the columns that are not numbers."""
    return [name for name in X.columns if not pd.api.types.is_numeric_dtype(X[name].dtype)]


def plain_inputs() -> ColumnTransformer:
    """Return standardised numbers (missing: the median) and one-hot categories."""
    return ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(
                    SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
                ),
                make_column_selector(dtype_include="number"),
            ),
            (
                "categories",
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                make_column_selector(dtype_exclude="number"),
            ),
        ]
    )


def _plain_matrix(X_train: Any, *others: Any) -> list[np.ndarray]:
    """Return the float32 plain inputs of the training rows and of further rows."""
    inputs = plain_inputs().fit(pd.DataFrame(X_train))
    return [np.asarray(inputs.transform(pd.DataFrame(X)), np.float32) for X in (X_train, *others)]


def _ordinal_codes(categories: list[str]) -> ColumnTransformer:
    """Return a transformer that puts category codes first and leaves numbers as they are."""
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
    )
    return ColumnTransformer([("codes", encoder, categories)], remainder="passthrough")


# --- teachers --------------------------------------------------------------------------------


def _for_table(classifier: Any, X: Any) -> Any:
    """Return the classifier, behind ordinal codes where the rows are a mixed frame."""
    if not isinstance(X, pd.DataFrame):
        return classifier
    return make_pipeline(_ordinal_codes(_is_category(X)), classifier)


def _histogram_boosting(X: Any, seed: int) -> Any:
    """Return histogram boosting that knows which codes are categories."""
    categorical = None
    if isinstance(X, pd.DataFrame):
        few = [X[name].nunique() <= MAX_HISTOGRAM_CATEGORIES for name in _is_category(X)]
        categorical = [position for position, small in enumerate(few) if small]
    return HistGradientBoostingClassifier(
        min_samples_leaf=2, categorical_features=categorical, random_state=seed
    )


def tree_ensemble(X: Any, y: np.ndarray, seed: int) -> list[Any]:
    """Fit histogram boosting, a random forest and extremely randomised trees."""
    forest = {"n_estimators": 200, "min_samples_leaf": 2, "n_jobs": 1, "random_state": seed}
    members = [
        _histogram_boosting(X, seed),
        RandomForestClassifier(**forest),
        ExtraTreesClassifier(**forest),
    ]
    return [_for_table(member, X).fit(X, y) for member in members]


def boosters(X: Any, y: np.ndarray, seed: int) -> list[Any]:
    """Fit one stack of LightGBM, CatBoost and a random forest."""
    from catboost import CatBoostClassifier
    from lightgbm import LGBMClassifier

    stack = StackingClassifier(
        [
            ("lightgbm", LGBMClassifier(n_jobs=1, random_state=seed, verbose=-1)),
            (
                "catboost",
                CatBoostClassifier(
                    iterations=300,
                    thread_count=1,
                    random_seed=seed,
                    verbose=0,
                    allow_writing_files=False,
                ),
            ),
            (
                "forest",
                RandomForestClassifier(200, min_samples_leaf=2, n_jobs=1, random_state=seed),
            ),
        ],
        final_estimator=LogisticRegression(max_iter=1000),
        stack_method="predict_proba",
        n_jobs=1,
    )
    return [_for_table(stack, X).fit(X, y)]


class Standardise(nn.Module):
    """The scaler of a network as its first layer, so that the network takes raw numbers."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, X: np.ndarray) -> None:
        super().__init__()
        scale = np.nanstd(X, axis=0)
        scale[scale == 0] = 1.0
        self.register_buffer("mean", torch.as_tensor(np.nanmean(X, axis=0), dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Scale; a missing value becomes the mean."""
        return torch.nan_to_num((X - self.mean) / self.scale)


def _teacher_network(n_features: int, n_classes: int) -> nn.Sequential:
    """Return the 256-128-64 network of the reference experiment."""
    return nn.Sequential(
        nn.Linear(n_features, 256),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, n_classes),
    )


def _fit_teacher_network(X: np.ndarray, codes: np.ndarray, k: int, seed: int) -> nn.Sequential:
    """Train one network: Adam 1e-3, 30 epochs, batches of 64, cross-entropy."""
    torch.manual_seed(seed)
    body = _teacher_network(X.shape[1], k)
    rows = torch.as_tensor(X, dtype=torch.float32)
    labels = torch.as_tensor(codes)
    optimizer = torch.optim.Adam(body.parameters(), lr=1e-3)
    body.train()
    for _ in range(30):
        for batch in torch.randperm(len(rows)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(body(rows[batch]), labels[batch]).backward()
            optimizer.step()
    return body.eval()


class NetworkTeacher(ClassifierMixin, BaseEstimator):
    """One network of the reference experiment as a scikit-learn classifier."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> "NetworkTeacher":
        """Train on inputs that are scaled already."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.n_features_in_ = X.shape[1]
        self.network_ = _fit_teacher_network(X, codes, len(self.classes_), self.seed)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the softmax of the network's logits."""
        return _module_proba(self.network_, X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable label."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def mlp_ensemble(X: Any, y: np.ndarray, seed: int) -> list[Any]:
    """Fit twelve networks: modules on raw numbers, or pipelines where the rows are mixed."""
    seeds = range(12 * seed, 12 * seed + 12)
    if isinstance(X, pd.DataFrame):
        return [
            Pipeline([("x", plain_inputs()), ("net", NetworkTeacher(s))]).fit(X, y) for s in seeds
        ]
    labels, codes = np.unique(y, return_inverse=True)
    scaler = Standardise(X)
    scaled = scaler(torch.as_tensor(X, dtype=torch.float32)).numpy()
    return [
        nn.Sequential(scaler, *_fit_teacher_network(scaled, codes, len(labels), s)).eval()
        for s in seeds
    ]


KINDS: dict[str, Callable[[Any, np.ndarray, int], list[Any]]] = {
    "trees": tree_ensemble,
    "mlps": mlp_ensemble,
    "boosters": boosters,
}


def _module_logits(module: nn.Module, X: Any) -> np.ndarray:
    """Return a network's logits without gradients."""
    with torch.no_grad():
        return module(torch.as_tensor(np.asarray(X), dtype=torch.float32)).double().numpy()


def _module_proba(module: nn.Module, X: Any) -> np.ndarray:
    """Return the softmax of a network's logits in float64."""
    return torch.softmax(torch.as_tensor(_module_logits(module, X)), dim=1).numpy()


def teacher_probas(teachers: Sequence[Any], X: Any) -> np.ndarray:
    """Return (n_teachers, n, k) probabilities on raw rows."""
    return np.stack(
        [
            _module_proba(teacher, X)
            if isinstance(teacher, nn.Module)
            else teacher.predict_proba(X)
            for teacher in teachers
        ]
    )


def ensemble_proba(teachers: Sequence[Any], probas: np.ndarray) -> np.ndarray:
    """Return the mean of logits where all teachers are modules, else the mean of probabilities."""
    if not all(isinstance(teacher, nn.Module) for teacher in teachers):
        return probas.mean(axis=0)
    log_proba = np.log(np.maximum(probas, np.finfo(np.float64).tiny)).mean(axis=0)
    proba = np.exp(log_proba - log_proba.max(axis=1, keepdims=True))
    return proba / proba.sum(axis=1, keepdims=True)


# --- cache -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taught:
    """Fitted teachers of one split with their answers.

    Attributes
    ----------
    classes : ndarray of shape (k,)
        Labels in the order of the columns.
    probas_train, probas_test : ndarray of shape (n_teachers, n, k)
        Every teacher's probabilities.
    proba_train, proba_test : ndarray of shape (n, k)
        The ensemble's.
    fit_seconds : float
        Time to fit all teachers.
    path : str
        Where the fitted teachers lie.
    """

    classes: np.ndarray
    probas_train: np.ndarray
    probas_test: np.ndarray
    proba_train: np.ndarray
    proba_test: np.ndarray
    fit_seconds: float
    path: str

    def teachers(self) -> list[Any]:
        """Load the fitted teachers."""
        return joblib.load(self.path)


def default_cache() -> Path:
    """Return the folder for fitted teachers in the platform's temporary directory."""
    return Path(tempfile.gettempdir()) / "skdistill-benchmarks"


def _fingerprint(split: Split, kind: str) -> str:
    """Return what a cached ensemble depends on: rows, kind, seed and versions."""
    versions = (sklearn.__version__, torch.__version__)
    return joblib.hash(
        (split.X_train, split.y_train, split.X_test, kind, split.teacher_seed, versions)
    )


def taught(split: Split, kind: str, cache: str | Path | None = None) -> Taught:
    """Return the teachers of a split, fitted now or read from the cache.

    Parameters
    ----------
    split : Split
        From ``DataSource.split(name, seed)``.
    kind : {"trees", "mlps", "boosters"}
        Which ensemble.
    cache : path or None
        Folder of fitted ensembles; ``None`` is the default folder.

    Returns
    -------
    Taught
    """
    folder = Path(cache) if cache is not None else default_cache()
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{split.name}-{kind}-{split.teacher_seed}"
    answers = folder / f"{stem}.proba.joblib"
    fingerprint = _fingerprint(split, kind)
    if answers.exists():
        stored = joblib.load(answers)
        if stored["fingerprint"] == fingerprint:
            return Taught(**stored["taught"], path=str(folder / f"{stem}.teachers.joblib"))
    return _teach(split, kind, folder, stem, fingerprint)


def _teach(split: Split, kind: str, folder: Path, stem: str, fingerprint: str) -> Taught:
    """Fit an ensemble, ask it about all rows and keep both."""
    start = time.perf_counter()
    teachers = KINDS[kind](split.X_train, split.y_train, split.teacher_seed)
    seconds = time.perf_counter() - start
    train, test = (teacher_probas(teachers, X) for X in (split.X_train, split.X_test))
    fields: dict[str, Any] = {
        "classes": np.unique(split.y_train),
        "probas_train": train,
        "probas_test": test,
        "proba_train": ensemble_proba(teachers, train),
        "proba_test": ensemble_proba(teachers, test),
        "fit_seconds": seconds,
    }
    path = folder / f"{stem}.teachers.joblib"
    # The teachers first: answers on disk say that both are whole.
    dump_whole(teachers, path)
    dump_whole({"fingerprint": fingerprint, "taught": fields}, folder / f"{stem}.proba.joblib")
    return Taught(**fields, path=str(path))


def dump_whole(value: Any, path: Path) -> None:
    """Write a file that is whole or not there, also where two runs share the cache."""
    part = path.with_suffix(f".{os.getpid()}.part")
    joblib.dump(value, part, compress=1)
    part.replace(path)


# --- students --------------------------------------------------------------------------------


def _student_network(n_features: int, hidden: Sequence[int], n_classes: int) -> nn.Sequential:
    """Return a ReLU network without dropout."""
    sizes = (n_features, *hidden)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_classes))


def _count(module: nn.Module) -> int:
    """Return the number of trained numbers."""
    return sum(parameter.numel() for parameter in module.parameters())


def classic_recipe(
    X_train: Any,
    y_train: np.ndarray,
    teacher_proba: np.ndarray,
    X_test: Any,
    *,
    hidden: Sequence[int] = HIDDEN,
    temperature: float = 3.0,
    alpha: float = 0.7,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> PeerResult:
    """Train the tutorial's student: DataLoader loop, plain inputs, T²·KL plus cross-entropy.

    Parameters
    ----------
    X_train, X_test : array or frame
        Raw rows.
    y_train : ndarray of shape (n,)
        Labels.
    teacher_proba : ndarray of shape (n, k)
        The ensemble's probabilities for `X_train`, columns in the order of the sorted labels.
    hidden, temperature, alpha, epochs, seed
        The recipe; Adam 1e-3 with weight decay 1e-4 and batches of 64.

    Returns
    -------
    PeerResult
    """
    start, cpu = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    train, test = _plain_matrix(X_train, X_test)
    codes = np.unique(y_train, return_inverse=True)[1]
    soft = np.log(np.maximum(teacher_proba, 1e-7)).astype(np.float32)
    dataset = TensorDataset(*map(torch.as_tensor, (train, codes, soft)))
    student = _student_network(train.shape[1], hidden, teacher_proba.shape[1])
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3, weight_decay=WEIGHT_DECAY)
    student.train()
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True)
    for _ in range(epochs):
        for rows, labels, teacher_logits in loader:
            optimizer.zero_grad()
            _tutorial_loss(student(rows), teacher_logits, labels, temperature, alpha).backward()
            optimizer.step()
    spent = time.perf_counter() - start, time.process_time() - cpu
    return PeerResult(_module_proba(student.eval(), test), *spent, _count(student))


def _tutorial_loss(
    logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor,
    temperature: float,
    alpha: float,
) -> torch.Tensor:
    """Return alpha·T²·KL(batchmean) + (1 - alpha)·CE."""
    distance = nn.functional.kl_div(
        torch.log_softmax(logits / temperature, dim=1),
        torch.softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean",
    )
    hard = nn.functional.cross_entropy(logits, labels)
    return alpha * temperature**2 * distance + (1 - alpha) * hard


def fair_plain(
    X_train: Any,
    y_train: np.ndarray,
    X_test: Any,
    *,
    hidden: Sequence[int] = HIDDEN,
    max_epochs: int = EPOCHS,
    patience: int = 10,
    seed: int = 0,
) -> PeerResult:
    """Train the same network on hard labels and keep the epoch with the best held-out log-loss.

    Parameters
    ----------
    X_train, X_test : array or frame
        Raw rows; 15 % of the training rows are the validation split.
    y_train : ndarray of shape (n,)
        Labels.
    hidden, max_epochs, patience, seed
        The network and its budget, the classic recipe's at most.

    Returns
    -------
    PeerResult
    """
    start, cpu = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    labels, codes = np.unique(y_train, return_inverse=True)
    fit, held = train_test_split(
        np.arange(len(codes)), test_size=0.15, stratify=codes, random_state=seed
    )
    train, test = _plain_matrix(X_train, X_test)
    student = _student_network(train.shape[1], hidden, len(labels))
    _early_stopped(student, train, codes, fit, held, max_epochs, patience)
    spent = time.perf_counter() - start, time.process_time() - cpu
    return PeerResult(_module_proba(student.eval(), test), *spent, _count(student))


def _early_stopped(
    student: nn.Module,
    X: np.ndarray,
    codes: np.ndarray,
    fit: np.ndarray,
    held: np.ndarray,
    max_epochs: int,
    patience: int,
) -> None:
    """Train on the fit rows and leave the weights that were best on the held rows."""
    rows, targets, order = torch.as_tensor(X), torch.as_tensor(codes), torch.as_tensor(fit)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3, weight_decay=WEIGHT_DECAY)
    best, best_loss, waited = copy.deepcopy(student.state_dict()), np.inf, 0
    while waited < patience and max_epochs > 0:
        student.train()
        for batch in order[torch.randperm(len(fit))].split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(student(rows[batch]), targets[batch]).backward()
            optimizer.step()
        student.eval()
        proba = _module_proba(student, X[held])
        loss = log_loss(codes[held], proba, labels=range(proba.shape[1]))
        max_epochs, waited = max_epochs - 1, waited + 1
        if loss < best_loss:
            best, best_loss, waited = copy.deepcopy(student.state_dict()), loss, 0
    student.load_state_dict(best)
