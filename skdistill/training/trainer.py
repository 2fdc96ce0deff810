"""From prepared rows to a trained student: the only way on which students are trained."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skdistill.student import Layer, StudentClassifier, TorchStudent
from skdistill.tables import warn_user
from skdistill.teachers.progress import stage
from skdistill.training.control import Control, UnseenLabels, control_rows, read_control
from skdistill.training.data import TrainingSet
from skdistill.training.hint_terms import build_hint_terms
from skdistill.training.net import StudentNet, train, what_went_wrong
from skdistill.training.network import (
    StudentMLP,
    build_module,
    frozen_layers,
    trainable_module,
)
from skdistill.training.objective import Objective
from skdistill.training.spec import (
    StudentSpec,
    count_parameters,
    dropout_rate,
    network_widths,
    resolve,
)
from skdistill.training.stream import TrainingStream

# The control stops early; with fewer the learning rate would fall while it still learns.
_CONTROL_EPOCHS = 200
# A stack is cut so that its weights, gradients and moments stay below this: on a CPU in its cache,
# where a student takes a third of the time it takes beyond, elsewhere in memory.
_STACK_BYTES = {"cpu": 3 * 2**20, "other": 2**28}


@dataclass(frozen=True)
class Trained:
    """A trained network and what training left, on the way to a frozen student.

    Attributes
    ----------
    net : StudentNet
        skorch's net, which holds the student or a stack of students.
    data : TrainingSet
        The rows, or of a stream the sample of them: how rows are prepared.
    layers : list of Layer or None
        The student's layers in the precision of training; None if they cannot be frozen.
    history : dict of str to array of shape (n_iter,)
        Losses of the epochs.
    n_iter : int
        The number of epochs.
    calibration_temperature : float
        What the logits were divided by since training.
    """

    net: StudentNet
    data: TrainingSet
    layers: list[Layer] | None
    history: dict[str, np.ndarray]
    n_iter: int
    calibration_temperature: float = 1.0

    @classmethod
    def of_net(cls, net: StudentNet, data: TrainingSet, student: int | None = None) -> Self:
        """Describe the student of a net, or one student of its stack."""
        names = [name for name in net.history[0] if name.endswith("_loss")]
        history = {name: np.array(net.history[:, name]) for name in names}
        layers = frozen_layers(net.module_) if student is None else net.module_.layers(student)
        if student is not None:
            # Hints, whose loss is one number, are given to stacks of one student.
            history = {n: v if v.ndim == 1 else v[:, student] for n, v in history.items()}
        return cls(net, data, layers, history, len(net.history))

    def calibrated(self, control: Control | UnseenLabels) -> Self:
        """Divide the logits so that confidence is right by a control, or by unseen labels."""
        if self.layers is None:
            return self
        layers, divisor = control.calibrate(self.layers, self.data)
        module = self.net.module_
        if isinstance(module, StudentMLP) and module.theta.ndim == 1:
            # Training that goes on starts from the student, in this process as after unpickling.
            module.set_weights([layer.arrays for layer in layers[::2]])
        return replace(
            self,
            layers=layers,
            calibration_temperature=self.calibration_temperature * divisor,
        )

    def freeze(
        self, n_features_in: int, feature_names_in: np.ndarray | None = None
    ) -> StudentClassifier | TorchStudent:
        """Round to what is deployed: frozen layers, or the user's own module."""
        described: dict[str, Any] = {
            "classes": self.data.classes,
            "n_features_in": n_features_in,
            "feature_names_in": feature_names_in,
            "preprocessor": self.data.preprocessor,
        }
        if self.layers is None:
            return TorchStudent._freeze(module=copy.deepcopy(self.net.module_), **described)
        encoding = self.data.encoding
        return StudentClassifier._freeze(layers=self.layers, encoding=encoding, **described)


@dataclass(frozen=True)
class StudentTrainer:
    """Trains students that a specification describes."""

    spec: StudentSpec

    def fit(
        self, data: TrainingSet | TrainingStream, seed: int, *, one_pass: bool = False
    ) -> Trained:
        """Train a student; with `one_pass` at a constant learning rate, as more rows may follow."""
        if isinstance(data, TrainingStream):
            sample, n = data.sample, data.n_rows
        else:
            sample, n = data, len(data.X)
        spec = self._resolved(sample, n, data.n_fit, self.spec.alpha)
        if one_pass:
            spec = replace(spec, max_epochs=1)
        module = build_module(spec, sample, seed)
        hints = build_hint_terms(sample.hidden, module, sample.X.shape[1], seed)
        objective = Objective(spec.temperature, spec.alpha, spec.loss, hints, spec.device)
        net = train(module, objective, data, spec, seed=seed, constant_rate=one_pass)
        # One pass over one batch tells nothing: labels have noise, and classes arrive late.
        wrong = None if one_pass else what_went_wrong(net, sample)
        if wrong is not None:
            warn_user(wrong, ConvergenceWarning)
        return Trained.of_net(net, sample)

    def fit_stack(
        self, data: TrainingSet, candidates: Sequence[tuple[float, float]], seed: int
    ) -> list[Trained | None]:
        """Train a student for each (temperature, alpha), side by side; None where one diverged."""
        largest_alpha = max(alpha for _, alpha in candidates)
        spec = self._resolved(data, len(data.X), data.n_fit, largest_alpha)
        n_numbers = count_parameters(network_widths(spec, data, data.n_fit))
        bound = _STACK_BYTES["cpu" if str(spec.device).startswith("cpu") else "other"]
        size = max(1, bound // (4 * n_numbers * np.dtype(spec.dtype).itemsize))
        if spec.self_distillation or data.hidden:
            # Students of a stack share their targets, and here each has its own, or a projection.
            size = 1
        trained: list[Trained | None] = []
        for start in range(0, len(candidates), size):
            temperatures, alphas = zip(*candidates[start : start + size], strict=True)
            with stage("training the students"):
                module = build_module(spec, data, seed, n_students=len(alphas))
                hints = build_hint_terms(data.hidden, module, data.X.shape[1], seed)
                objective = Objective(temperatures, alphas, spec.loss, hints, spec.device)
                net = train(module, objective, data, spec, seed=seed)
            converged = np.isfinite(np.array(net.history[:, "train_loss"])).all(axis=0)
            trained += [
                Trained.of_net(net, data, i) if c else None for i, c in enumerate(converged)
            ]
        return trained

    def fit_further(
        self,
        data: TrainingSet,
        seed: int,
        *,
        student: StudentClassifier | TorchStudent,
        net: StudentNet | None = None,
    ) -> Trained:
        """Train on further rows, in one pass at a constant rate: a copy of the net or student."""
        spec = self._resolved(data, len(data.X), data.n_fit, self.spec.alpha)
        spec = replace(spec, max_epochs=1)
        if net is None:
            dropout = dropout_rate(self.spec, len(data.X), data.n_fit)
            module = trainable_module(student, dropout, seed)
        else:
            module = copy.deepcopy(net.module_)
            dtype = str(next(module.parameters()).dtype).removeprefix("torch.")
            spec = replace(spec, dtype=dtype)
        objective = Objective(spec.temperature, spec.alpha, spec.loss, device=spec.device)
        further = train(module, objective, data, spec, seed=seed, constant_rate=True, after=net)
        return Trained.of_net(further, data)

    def fit_control(self, data: TrainingSet, seed: int) -> Control | None:
        """Train a plain student on some of the rows, as a measure; None where there can be none."""
        labelled, one_batch = data.hard_weight.any(), len(data.X) <= self.spec.batch_size
        if self.spec.student_module is not None or not labelled or one_batch:
            return None
        rows = control_rows(data, np.random.RandomState(seed))
        spec = self._resolved(data, len(data.X), data.n_fit, 0.0)
        batches = [math.ceil(len(d.X) / spec.batch_size) for d in (data, rows)]
        # As many optimiser steps as the student makes, at most.
        epochs = min(_CONTROL_EPOCHS, math.ceil(int(spec.max_epochs) * batches[0] / batches[1]))
        spec = replace(spec, max_epochs=epochs, callbacks=None, self_distillation=0.0)
        module = build_module(spec, data, seed)
        try:
            with stage("training a plain student"):
                net = train(module, Objective(1.0, 0.0), rows, spec, seed=seed)
        except FloatingPointError:
            # In a search the students that diverged are said; without a control none is calibrated.
            return None
        return read_control(net.module_.layers(), rows, data)

    def _resolved(self, sample: TrainingSet, n: int, n_fit: int, alpha: float) -> StudentSpec:
        """Return the specification for these rows; raise or warn where it cannot do what it says.

        ``alpha`` is the largest weight of the soft term.
        """
        if alpha > 0 and not sample.soft_weight.any():
            raise ValueError(
                f"alpha={alpha} asks for soft targets, and no row with a positive weight has one: "
                "the test rows of cv hold none of them. Pass splits that hold out such rows, or "
                "alpha=0."
            )
        spec = resolve(self.spec, sample, n, n_fit)
        if spec.self_distillation > 0 and alpha > 0 and spec.max_epochs == 1:
            warn_user(
                f"self_distillation={spec.self_distillation} has no part: it mixes in the student "
                "of the epoch before, and there is one epoch. Raise max_epochs, or pass "
                "self_distillation=0."
            )
        return spec
