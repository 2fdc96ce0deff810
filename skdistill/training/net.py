"""skorch as the loop around a student while it is trained."""

import contextlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from skdistill.teachers.progress import stage
from skdistill.training.adam import FlatAdam
from skdistill.training.batches import Batches, StreamedBatches, to_tensors
from skdistill.training.data import TrainingSet
from skdistill.training.modules import logits_of, seeded_globally, with_hidden
from skdistill.training.network import StudentMLP
from skdistill.training.objective import DistillationCriterion, LossSums
from skdistill.training.self_distillation import ProgressiveBatches
from skdistill.training.step import CpuStep
from skdistill.training.stream import TrainingStream
from skdistill.training.threads import no_denormals, one_thread

__all__ = ["StudentNet", "TrainingSettings", "Validation", "train"]

# Below this many multiply-adds a step, a second thread costs more in waiting than it computes.
_WORTH_A_THREAD = 2e9
_WARM_UP = 0.05


@dataclass(frozen=True)
class Validation:
    """Held-out rows as tensors: prepared features, labels, weights."""

    X: Tensor
    label: Tensor
    weight: Tensor


class BestEpoch(Callback):
    """Stop when the log-loss on held-out rows no longer falls, and restore the best weights.

    In a stack each student keeps its own best weights; training stops when none can improve.
    """

    def __init__(self, validation: Validation, patience: int) -> None:
        self.validation, self.patience = validation, patience

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Start without a best epoch."""
        self.best_: Tensor | None = None

    def on_epoch_end(
        self, net: NeuralNet, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Record the validation loss and keep the weights where it is the lowest yet."""
        epoch = len(net.history)
        loss = self._loss(net)
        net.history.record("valid_loss", loss.tolist())
        state = net.module_.state_dict()
        if self.best_ is None:
            self.best_ = torch.full_like(loss, math.inf)
            self.epoch_ = torch.zeros_like(loss, dtype=torch.long)
            self.state_ = {name: value.clone() for name, value in state.items()}
        waiting = epoch - self.epoch_ <= self.patience
        better = (loss < self.best_) & waiting
        self.best_ = torch.where(better, loss, self.best_)
        self.epoch_ = torch.where(better, torch.full_like(self.epoch_, epoch), self.epoch_)
        for name, value in state.items():
            if loss.ndim == 0:
                keep = bool(better)
                self.state_[name] = value.clone() if keep else self.state_[name]
            elif name == "theta":
                self.state_[name] = torch.where(better[:, None], value, self.state_[name])
        if bool((epoch - self.epoch_ >= self.patience).all()):
            raise _StopTrainingError

    def _loss(self, net: NeuralNet) -> Tensor:
        """Return the weighted mean log-loss on the held-out rows."""
        v = self.validation
        net.module_.eval()
        with torch.no_grad():
            log_proba = logits_of(net.module_(v.X)).log_softmax(-1)
        label = v.label.unsqueeze(-1).expand(*log_proba.shape[:-1], 1)
        rows = -log_proba.gather(-1, label).squeeze(-1)
        return (rows * v.weight).sum(-1) / v.weight.sum()

    def on_train_end(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Restore the best weights."""
        if self.best_ is not None:
            net.module_.load_state_dict(self.state_)


class _StopTrainingError(Exception):
    """Raised by a callback to end the training loop."""


class StudentNet(NeuralNet):
    """skorch's loop without its cost a row and a batch: tensors in, one history record an epoch.

    Interrupts pass through, nothing is printed and the global random state is not touched. The
    hooks of skorch's callbacks are called as usual; those of batches only when there are callbacks.
    """

    def __init__(
        self,
        module: Any,
        *args: Any,
        seed: int = 0,
        schedule: Callable[[float], float] | None = None,
        self_distillation: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(module, *args, **kwargs)
        self.seed = seed
        self.schedule = schedule
        self.self_distillation = self_distillation

    @property
    def _default_callbacks(self) -> list[Any]:
        return []

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> Any:
        """Train without swallowing KeyboardInterrupt."""
        if not self.initialized_:
            self.initialize()
        self.notify("on_train_begin", X=X, y=y)
        self.fit_loop(X, y)
        self.notify("on_train_end", X=X, y=y)
        return self

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **fit_params: Any) -> Any:
        """Run the epochs over batches cut from tensors, or from a stream."""
        step = self._cpu_step()
        epochs = self.max_epochs if epochs is None else epochs
        batches = self._batches(X, y, epochs, weigh=step is None and self._by_hand)
        self._step, self._n_steps = 0, batches.n_steps(epochs)
        with stage("epoch", epochs) as shown, contextlib.suppress(_StopTrainingError):
            for _ in range(epochs):
                self.notify("on_epoch_begin", dataset_train=batches, dataset_valid=None)
                if step is None:
                    self.run_single_epoch(
                        batches, training=True, prefix="train", step_fn=self.train_step
                    )
                else:
                    self._run_cpu_epoch(batches, step)
                self.notify("on_epoch_end", dataset_train=batches, dataset_valid=None)
                if shown is not None and shown.done(self.history[-1]):
                    break
        return self

    def _batches(self, X: Any, targets: Any, epochs: int, weigh: bool) -> Any:
        """Return the batches of all epochs, with what the student itself adds to their targets."""
        if not self._learns_from_itself:
            return self._cut(X, targets, weigh)
        if epochs == 1:
            warnings.warn(
                f"self_distillation={self.self_distillation} has no part: it mixes in the student "
                "of the epoch before, and there is one epoch. Raise max_epochs, or pass "
                "self_distillation=0.",
                UserWarning,
                stacklevel=8,
            )
        return ProgressiveBatches(
            self._cut(X, targets, weigh=False),
            self.module_,
            self.self_distillation,
            epochs,
            self.criterion_.weigh if weigh else None,
        )

    def _cut(self, X: Any, targets: Any, weigh: bool) -> Any:
        """Return the batches of tensors, or of a stream; targets are weighed once if asked for."""
        generator = torch.Generator().manual_seed(self.seed)
        if not isinstance(X, TrainingStream):
            targets = self.criterion_.weigh(targets) if weigh else targets
            return Batches(X, targets, self.batch_size, generator)

        def read(training: TrainingSet) -> tuple[Tensor, Any]:
            rows, own = to_tensors(training, self.module_)
            return rows, self.criterion_.weigh(own) if weigh else own

        return StreamedBatches(X, read, self.batch_size, generator)

    @property
    def _learns_from_itself(self) -> bool:
        """Tell whether the student of the epoch before has a part in the soft targets."""
        alpha = torch.as_tensor(self.criterion_.alpha)
        return self.self_distillation > 0 and bool((alpha > 0).any())

    @property
    def _by_hand(self) -> bool:
        """Tell whether the gradient is ours and not autograd's."""
        return isinstance(self.module_, StudentMLP)

    @property
    def _hooked(self) -> bool:
        """Tell whether a callback may look at batches."""
        return any(not isinstance(callback, BestEpoch) for _, callback in self.callbacks_)

    def _cpu_step(self) -> CpuStep | None:
        """Return the step that needs neither torch's operations nor hooks, where it serves."""
        serves = self._by_hand and not self._hooked and self.module_.theta.device.type == "cpu"
        if not serves or self.criterion_.loss != "kl" or self.criterion_.hints:
            return None
        return CpuStep(self.module_, self.criterion_, self.optimizer_)

    def _run_cpu_epoch(self, batches: Any, step: CpuStep) -> None:
        """Run the batches of an epoch and record its mean losses once."""
        self._set_training(True)
        soft: Any = 0.0
        hard: Any = 0.0
        n_rows = 0
        for part in batches.parts():
            step.load(part.X, part.targets)
            # Overflow is found by its value.
            with torch.inference_mode(), np.errstate(all="ignore"):
                for rows in part.rows():
                    self._set_rate()
                    step(None if rows is None else rows.numpy())
            sums = step.sums()
            soft, hard = soft + sums.soft, hard + sums.hard
            n_rows += len(part.X)
        self._record(LossSums(soft, hard), n_rows, "train")

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run the batches of an epoch and record its mean losses once."""
        self._set_training(training)
        total: Any = (0.0, 0.0, 0.0)
        n_rows = 0
        for batch in iterator:
            if self.callbacks_:
                self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            total = [a + b for a, b in zip(total, step["sums"], strict=True)]
            n_rows += len(batch[0])
            if self.callbacks_:
                self.notify("on_batch_end", batch=batch, training=training, **step)
        self._record(LossSums(*total), n_rows, prefix)

    def _record(self, sums: LossSums, n_rows: int, prefix: str) -> None:
        """Record the mean losses of an epoch; raise where a single student diverged."""
        means = LossSums(sums.soft / n_rows, sums.hard / n_rows, sums.hidden / n_rows)
        total = self.criterion_.total(means).tolist()
        terms = {"loss": total, "soft_loss": means.soft.tolist(), "hard_loss": means.hard.tolist()}
        if self.criterion_.hints:
            terms["hint_loss"] = float(means.hidden)
        for name, value in terms.items():
            self.history.record(f"{prefix}_{name}", value)
        if isinstance(total, float) and not math.isfinite(total):
            raise FloatingPointError(
                f"The training loss became {total} in epoch {len(self.history)} with "
                f"learning_rate_init={self.lr}. Lower learning_rate_init, and check the columns "
                "of X for extreme values."
            )

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Make one step of the optimiser at the scheduled learning rate."""
        self._set_rate()
        if self._by_hand and not self._hooked:
            with self.criterion_.gradients_off():
                step = self.train_step_single(batch)
                self.optimizer_.update()
            return step
        step = self.train_step_single(batch)
        if self.callbacks_:
            parameters = list(self.get_all_learnable_params())
            self.notify("on_grad_computed", named_parameters=parameters, batch=batch, training=True)
            step.setdefault("loss", self.criterion_.total(step["sums"]) / len(batch[0]))
        self.optimizer_.step()
        return step

    def _set_rate(self) -> None:
        """Set the learning rate of the next step."""
        schedule = _schedule if self.schedule is None else self.schedule
        rate = self.lr * schedule(self._step / self._n_steps)
        for group in self.optimizer_.param_groups:
            group["lr"] = rate
        self._step += 1

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute losses and gradients: by hand for our MLP, by autograd for any other module."""
        X, targets = batch
        if self._by_hand:
            return {"sums": self.module_.backward_by_hand(X, targets, self.criterion_)}
        self.optimizer_.zero_grad()
        names = {term.student_layer for term in self.criterion_.hints}
        logits, hidden = with_hidden(self.module_, X, names)
        missing = [name for name in names if name not in hidden]
        if missing:
            raise ValueError(
                f"The network of student_module gave no layer {missing[0]!r} in training, where a "
                "hint needs it. Return the same layers in both modes."
            )
        sums = self.criterion_(logits, targets, hidden)
        loss = self.criterion_.total(sums) / len(X)
        loss.backward()
        done = LossSums(*(torch.as_tensor(value).detach() for value in sums))
        return {"sums": done, "loss": loss.detach()}


def _constant(progress: float) -> float:
    """Return the factor on the learning rate where the number of steps is not known."""
    return 1.0


def _schedule(progress: float) -> float:
    """Return the factor on the learning rate: a short warm-up, then half a cosine to zero."""
    if progress < _WARM_UP:
        return (progress + 1e-3) / (_WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


@dataclass(frozen=True)
class TrainingSettings:
    """The words of scikit-learn for the loop."""

    max_epochs: int
    batch_size: int
    learning_rate_init: float
    weight_decay: float
    n_iter_no_change: int
    callbacks: Sequence[Any]
    dtype: str
    device: str
    self_distillation: float = 0.0


def train(
    module: nn.Module,
    criterion: DistillationCriterion,
    training: TrainingSet | TrainingStream,
    settings: TrainingSettings,
    *,
    seed: int = 0,
    constant_rate: bool = False,
    after: StudentNet | None = None,
) -> StudentNet:
    """Train the module on the rows and return the net that holds it.

    ``constant_rate`` is for training that goes on in later calls; ``after`` is the net of the call
    before, whose optimiser's state is taken over.
    """
    place = {"dtype": getattr(torch, settings.dtype), "device": torch.device(settings.device)}
    callbacks = list(settings.callbacks)
    if training.held_out is not None:
        held = training.held_out
        validation = Validation(
            # torch.tensor copies: as_tensor warns of arrays that are read-only, as a frame's are.
            X=torch.tensor(held.X, **place),
            label=torch.as_tensor(held.label, device=settings.device),
            weight=torch.as_tensor(held.weight, **place),
        )
        callbacks.append(BestEpoch(validation, settings.n_iter_no_change))
    module, criterion = module.to(**place), criterion.to(**place)
    if isinstance(module, StudentMLP):
        module.prepare()
    net = StudentNet(
        module,
        criterion=criterion,
        optimizer=FlatAdam if isinstance(module, StudentMLP) else torch.optim.Adam,
        optimizer__weight_decay=settings.weight_decay,
        lr=settings.learning_rate_init,
        max_epochs=settings.max_epochs,
        batch_size=min(settings.batch_size, training.n_rows),
        train_split=None,
        callbacks=callbacks,
        device=settings.device,
        verbose=0,
        seed=seed,
        schedule=_constant if constant_rate else None,
        self_distillation=settings.self_distillation,
    )
    net.initialize()
    if after is not None:
        _take_moments(net.optimizer_, after.optimizer_, settings.weight_decay)
    work = 6.0 * net.batch_size * sum(p.numel() for p in module.parameters())
    with one_thread(work < _WORTH_A_THREAD), no_denormals():
        X: Any = training
        targets = None
        if isinstance(training, TrainingSet):
            X, targets = to_tensors(training, module)
        if isinstance(module, StudentMLP):
            net.partial_fit(X, targets)
        else:
            with seeded_globally(seed):
                net.partial_fit(X, targets)
    module.eval()
    return net


def _take_moments(optimizer: Any, other: Any, weight_decay: float) -> None:
    """Go on with another optimiser's running means of the gradient."""
    if isinstance(optimizer, FlatAdam):
        optimizer.take_moments(other)
        return
    state = other.state_dict()
    # Projections of hints, which come last, are not trained further.
    numbers = list(range(len(optimizer.param_groups[0]["params"])))
    state["state"] = {n: moments for n, moments in state["state"].items() if n in numbers}
    state["param_groups"][0]["params"] = numbers
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["weight_decay"] = weight_decay
