"""skorch as the loop around a student while it is trained."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from skdistill.teachers.progress import stage
from skdistill.training.batches import Epochs, to_tensors
from skdistill.training.data import HeldOut, TrainingSet
from skdistill.training.hint_terms import with_hidden
from skdistill.training.network import StudentMLP, logits_of, seeded_globally
from skdistill.training.objective import LossSums, Objective, Targets
from skdistill.training.spec import StudentSpec
from skdistill.training.step import Adam, CpuStep, take_moments
from skdistill.training.stream import TrainingStream
from skdistill.training.threads import one_thread


@contextlib.contextmanager
def no_denormals() -> Iterator[None]:
    """Take denormal numbers as zero: moments of idle units decay into them, and they are slow."""
    already = bool((torch.tensor([1e-40]) * 1.0 == 0).all())
    try:
        torch.set_flush_denormal(True)
        yield
    finally:
        torch.set_flush_denormal(already)


class StopTrainingError(Exception):
    """Raised by a callback to end the training loop."""


class BestEpoch(Callback):
    """Stop when the log-loss on held-out rows no longer falls, and restore the best weights.

    In a stack each student keeps its own best weights; training stops when none can improve.
    """

    def __init__(self, held_out: HeldOut, patience: int) -> None:
        self.held_out, self.patience = held_out, patience

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Put the held-out rows where the network is, and start without a best epoch."""
        parameter = next(net.module_.parameters())
        place: dict[str, Any] = {"dtype": parameter.dtype, "device": parameter.device}
        # torch.tensor copies: as_tensor warns of arrays that are read-only, as a frame's are.
        self.X_ = torch.tensor(self.held_out.X, **place)
        self.label_ = torch.as_tensor(self.held_out.label, device=parameter.device)
        self.weight_ = torch.as_tensor(self.held_out.weight, **place)
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
                self.state_[name] = value.clone() if better else self.state_[name]
            elif name == "theta":
                self.state_[name] = torch.where(better[:, None], value, self.state_[name])
        if bool((epoch - self.epoch_ >= self.patience).all()):
            raise StopTrainingError

    def _loss(self, net: NeuralNet) -> Tensor:
        """Return the weighted mean log-loss on the held-out rows."""
        log_proba = _answer(net.module_, self.X_).log_softmax(-1)
        label = self.label_.unsqueeze(-1).expand(*log_proba.shape[:-1], 1)
        rows = -log_proba.gather(-1, label).squeeze(-1)
        return (rows * self.weight_).sum(-1) / self.weight_.sum()

    def on_train_end(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Restore the best weights."""
        if self.best_ is not None:
            net.module_.load_state_dict(self.state_)


@torch.no_grad()
def _answer(module: nn.Module, X: Tensor) -> Tensor:
    """Return the logits that a module gives without dropout."""
    return logits_of(module.eval()(X))


# Below this many multiply-adds a step, a second thread costs more in waiting than it computes.
_WORTH_A_THREAD = 2e9
_WARM_UP = 0.05


class StudentNet(NeuralNet):
    """skorch's loop without its cost a row and a batch: tensors in, one history record an epoch.

    Interrupts pass through, nothing is printed and the global random state is not touched. The
    hooks of skorch's callbacks are called as usual; those of batches only when there are callbacks.
    """

    # skorch's hook for the callbacks of a kind of net: its own print and time every epoch.
    @property
    def _default_callbacks(self) -> list[Any]:
        return []

    def fit_loop(
        self,
        X: Any,
        y: Any = None,
        epochs: int | None = None,
        *,
        constant_rate: bool = False,
        **fit_params: Any,
    ) -> Any:
        """Run the epochs over their batches, which stand in the place of X."""
        batches: Epochs = X
        epochs = batches.n_epochs if epochs is None else epochs
        self._step, self._n_steps = 0, None if constant_rate else batches.n_steps()
        hooked = any(not isinstance(callback, BestEpoch) for _, callback in self.callbacks_)
        step = None
        if not hooked and isinstance(self.optimizer_, Adam):
            step = CpuStep(self.module_, self.criterion_, self.optimizer_)
        with stage("epoch", epochs) as shown, contextlib.suppress(StopTrainingError):
            for _ in range(epochs):
                self.notify("on_epoch_begin", dataset_train=batches, dataset_valid=None)
                if step is None:
                    self.run_single_epoch(batches, True, "train", self.train_step)
                else:
                    self.module_.train()
                    self._record(*step.epoch(batches, self._next_rate), "train")
                self.notify("on_epoch_end", dataset_train=batches, dataset_valid=None)
                if shown is not None and shown.done(self.history[-1]):
                    break
        return self

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run the batches of an epoch in torch, with skorch's hooks of batches."""
        self.module_.train(training)
        sums, n_rows = [], 0
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            sums.append(step["sums"])
            n_rows += len(batch[0])
            self.notify("on_batch_end", batch=batch, training=training, **step)
        self._record(sums, n_rows, prefix)

    def _record(self, sums: list[LossSums], n_rows: int, prefix: str) -> None:
        """Record the mean losses of an epoch; raise where a single student diverged."""
        means = LossSums(*(sum(term) / n_rows for term in zip(*sums, strict=True)))
        total = self.criterion_.total(means).tolist()
        terms = {"loss": total, "soft_loss": means.soft.tolist(), "hard_loss": means.hard.tolist()}
        if self.criterion_.hints:
            terms["hint_loss"] = means.hidden
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
        rate = self._next_rate()
        for group in self.optimizer_.param_groups:
            group["lr"] = rate
        step = self.train_step_single(batch)
        if self.callbacks_:
            parameters = list(self.get_all_learnable_params())
            self.notify("on_grad_computed", named_parameters=parameters, batch=batch, training=True)
        self.optimizer_.step()
        return step

    def _next_rate(self) -> float:
        """Return the learning rate of the next step."""
        progress, self._step = self._step, self._step + 1
        return self.lr * (1.0 if self._n_steps is None else _schedule(progress / self._n_steps))

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute losses, and gradients by autograd from those at the logits and the hints."""
        X, targets = batch
        self.optimizer_.zero_grad()
        objective = self.criterion_
        names = {term.student_layer for term in objective.hints}
        logits, hidden = with_hidden(self.module_, X, names)
        dtype = getattr(torch, str(targets.proba.dtype))
        stack = logits.detach().to("cpu", dtype).numpy().reshape(-1, *logits.shape[-2:])
        sums, gradient = objective.sums(stack, targets)
        roots, gradients = [logits], [torch.from_numpy(gradient).view(logits.shape).to(logits)]
        if names:
            layers = {name: _layer(hidden, name) for name in names}
            in_hints, at_layers = objective.at_hidden(layers, targets.hidden)
            sums = sums._replace(hidden=in_hints)
            roots += layers.values()
            gradients += (at_layers[name] for name in layers)
        torch.autograd.backward(roots, gradients)
        return {"sums": sums, "loss": objective.total(sums) / len(X)}


def _layer(hidden: dict[Any, Tensor], name: Any) -> Tensor:
    """Return a hidden layer that a hint names; of a stack, which then holds one student, its."""
    if name not in hidden:
        raise ValueError(
            f"The network of student_module gave no layer {name!r} in training, where a "
            "hint needs it. Return the same layers in both modes."
        )
    layer = hidden[name]
    # Layers of the built-in network go by number.
    return layer[0] if isinstance(name, int) and layer.ndim == 3 else layer


def _schedule(progress: float) -> float:
    """Return the factor on the learning rate: a short warm-up, then half a cosine to zero."""
    if progress < _WARM_UP:
        return (progress + 1e-3) / (_WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def train(
    module: nn.Module,
    objective: Objective,
    data: TrainingSet | TrainingStream,
    spec: StudentSpec,
    *,
    seed: int = 0,
    constant_rate: bool = False,
    after: StudentNet | None = None,
) -> StudentNet:
    """Train the module by a resolved specification and return the net that holds it.

    ``constant_rate`` is for training that goes on in later calls; ``after`` is the net of the call
    before, from whose optimiser's moments training goes on.
    """
    net = _build_net(module, objective, data, spec)
    if after is not None:
        take_moments(net.optimizer_, after.optimizer_)
    ours = isinstance(module, StudentMLP)
    work = 6.0 * net.batch_size * sum(p.numel() for p in module.parameters())
    seeded = contextlib.nullcontext() if ours else seeded_globally(seed)
    threads = one_thread() if work < _WORTH_A_THREAD else contextlib.nullcontext()
    with threads, no_denormals(), seeded:
        rows = to_tensors(data, module) if isinstance(data, TrainingSet) else data
        X, y = rows if isinstance(rows, tuple) else (rows, None)
        # Without a soft term there is no target that the student could have a part in.
        share = float(spec.self_distillation) if net.criterion_.alpha.any() else 0.0
        batches = Epochs(rows, module, net.batch_size, net.max_epochs, seed, share)
        # Not skorch's partial_fit, which takes an interrupt for the end of training.
        net.notify("on_train_begin", X=X, y=y)
        net.fit_loop(batches, constant_rate=constant_rate)
        net.notify("on_train_end", X=X, y=y)
    module.eval()
    return net


def _build_net(
    module: nn.Module, objective: Objective, data: TrainingSet | TrainingStream, spec: StudentSpec
) -> StudentNet:
    """Put module and objective where they are trained, and skorch's loop around them."""
    callbacks = list(spec.callbacks or ())
    if data.held_out is not None:
        callbacks.append(BestEpoch(data.held_out, spec.n_iter_no_change))
    place: dict[str, Any] = {"device": spec.device, "dtype": getattr(torch, spec.dtype)}
    ours = isinstance(module, StudentMLP) and torch.device(spec.device).type == "cpu"
    return StudentNet(
        module.to(**place),
        criterion=objective.to(**place),
        optimizer=Adam if ours else torch.optim.Adam,
        optimizer__weight_decay=spec.weight_decay,
        lr=spec.learning_rate_init,
        max_epochs=spec.max_epochs,
        batch_size=spec.batch_size,
        train_split=None,
        callbacks=callbacks,
        device=spec.device,
        verbose=0,
    ).initialize()


# Rows on which a trained student is judged.
_MOST_ROWS = 2_000


def what_went_wrong(net: StudentNet, training: TrainingSet) -> str | None:
    """Say so where the student is worse than equal probabilities, or answers all rows alike.

    None where all is well. It is judged on some of the rows, spread over all, as it answers now.
    """
    n = len(training.X)
    some = np.unique(np.linspace(0, n - 1, min(n, _MOST_ROWS)).astype(np.intp))
    columns = (training.proba, training.label, training.soft_weight, training.hard_weight)
    proba, label, soft, hard = (column[some] for column in columns)
    X, like = training.X[some], next(net.module_.parameters())
    # In a forked process torch crashes, or waits for ever, where it wants its threads.
    with one_thread():
        rows = torch.as_tensor(X, dtype=like.dtype, device=like.device)
        logits = _answer(net.module_, rows).cpu().double().numpy()
        wrong = net.criterion_.worse_than_uniform(logits, Targets(proba, label, soft, hard))
    if wrong is None:
        alpha = float(net.criterion_.alpha)
        to_learn = [proba[soft > 0]] * (alpha > 0) + [label[hard > 0]] * (alpha < 1)
        # The one answer of a network whose units are dead.
        if not _differ(softmax(logits, axis=1)) and _differ(X) and any(map(_differ, to_learn)):
            wrong = "The student gives every row the same answer"
    if wrong is None:
        return None
    return (
        f"{wrong}: training diverged. Lower learning_rate_init={net.lr}; a temperature near 0 and "
        "extreme values in X do this too."
    )


def _differ(rows: np.ndarray) -> bool:
    """Tell whether not all rows are the same."""
    return bool((rows != rows[:1]).any())
