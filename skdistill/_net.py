"""The student while it is trained: an MLP, and skorch as the loop around it."""

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from skdistill._adam import FlatAdam
from skdistill._criterion import DistillationCriterion, LossSums, Targets
from skdistill._embedding import PiecewiseLinearEncoding
from skdistill._forward import Layer
from skdistill._training_set import TrainingSet

if TYPE_CHECKING:
    from skdistill.student import StudentClassifier

__all__ = [
    "StudentMLP",
    "StudentNet",
    "TrainingSettings",
    "Validation",
    "build_custom_module",
    "frozen_layers",
    "torch_student",
    "train",
]

# Below this many multiply-adds a step, a second thread costs more in waiting than it computes.
_WORTH_A_THREAD = 2e9
_WARM_UP = 0.05
# hidden_layer_sizes="auto"
_WIDEST, _NARROWEST = 128, 16
_PARAMETERS_PER_ROW, _ENOUGH_PARAMETERS, _MOST_PARAMETERS = 11, 20_000, 50_000

# For each activation: the function, and its gradient from (gradient, input, output).
_aten = torch.ops.aten
_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], type[nn.Module]]] = {
    "relu": (torch.relu, lambda g, z, a: _aten.threshold_backward(g, a, 0), nn.ReLU),
    "tanh": (torch.tanh, lambda g, z, a: _aten.tanh_backward(g, a), nn.Tanh),
    "gelu": (nn.functional.gelu, lambda g, z, a: _aten.gelu_backward(g, z), nn.GELU),
    "silu": (nn.functional.silu, lambda g, z, a: _aten.silu_backward(g, z), nn.SiLU),
}


class PiecewiseLinear(nn.Module):
    """The piecewise-linear encoding with fixed bins."""

    column: Tensor
    slope: Tensor
    offset: Tensor
    lower: Tensor
    upper: Tensor

    def __init__(self, encoding: PiecewiseLinearEncoding) -> None:
        super().__init__()
        self.register_buffer("column", torch.as_tensor(encoding.column_, dtype=torch.long))
        self.register_buffer("slope", torch.as_tensor(encoding.slope_))
        self.register_buffer("offset", torch.as_tensor(encoding.offset_))
        self.register_buffer("lower", torch.as_tensor(encoding.lower_))
        self.register_buffer("upper", torch.as_tensor(encoding.upper_))

    def forward(self, X: Tensor) -> Tensor:
        """Encode each column as its values in the bins."""
        lines = torch.addcmul(self.offset, X.index_select(1, self.column), self.slope)
        return lines.clamp_(self.lower, self.upper)


class _DropoutMasks:
    """Dropout masks cut from a pool of random rows, redrawn now and then.

    Drawing a fresh mask for every step would cost as much as the step itself.
    """

    uses_of_a_pool = 256

    def __init__(self, keep: float, seed: int) -> None:
        self.keep = keep
        self._generator = torch.Generator().manual_seed(seed)
        self._pools: dict[tuple[int, int], tuple[Tensor, list[int]]] = {}

    def cut(self, n_rows: int, n_columns: int, like: Tensor) -> Tensor:
        """Return a mask of 0 and 1 / keep."""
        # Batches differ by a row in length; they share a pool.
        key = (-(-n_rows // 16), n_columns)
        pool, starts = self._pools.get(key, (like, []))
        if not starts:
            pool, starts = self._draw(8 * 16 * key[0], n_columns, like)
            self._pools[key] = pool, starts
        start = starts.pop()
        return pool[start : start + n_rows]

    def _draw(self, n_rows: int, n_columns: int, like: Tensor) -> tuple[Tensor, list[int]]:
        """Draw a pool and where it is cut."""
        pool = torch.empty(n_rows, n_columns, dtype=like.dtype)
        pool.bernoulli_(self.keep, generator=self._generator).div_(self.keep)
        last = n_rows - n_rows // 8
        starts = torch.randint(last + 1, (self.uses_of_a_pool,), generator=self._generator)
        return pool.to(like.device), starts.tolist()


def auto_hidden_sizes(
    n_features: int, n_classes: int, encoding: PiecewiseLinearEncoding | None, n_rows: int
) -> tuple[int, int]:
    """Return two hidden layers, the second half as wide, within the bound on parameters."""
    most = min(_MOST_PARAMETERS, max(_ENOUGH_PARAMETERS, _PARAMETERS_PER_ROW * n_rows))
    n_inputs = n_features if encoding is None else len(encoding.column_)

    def n_parameters(width: int) -> int:
        return (n_inputs + 1) * width + (width + 1) * (width // 2) + (width // 2 + 1) * n_classes

    for width in range(_WIDEST, _NARROWEST, -2):
        if n_parameters(width) <= most:
            return width, width // 2
    return _NARROWEST, _NARROWEST // 2


class StudentMLP(nn.Module):
    """One MLP, or ``n_students`` of one shape trained side by side on the same batches.

    A single student has weights of shape (n_in, n_out); a stack has (n_students, n_in, n_out) and
    every product is a batched one. All students of a stack start from the same weights and share
    their dropout masks, so that each is the student that a fit of its own would give.

    The gradient is written out by hand: for networks this small most of a step's time would be
    spent in recording and replaying the graph.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        hidden_layer_sizes: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        encoding: PiecewiseLinearEncoding | None = None,
        n_students: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.activation, self.dropout = activation, dropout
        self.embed = nn.Identity() if encoding is None else PiecewiseLinear(encoding)
        n_features = n_features if encoding is None else len(encoding.column_)
        sizes = [n_features, *hidden_layer_sizes, n_classes]
        self.shapes = list(itertools.pairwise(sizes))
        generator = torch.Generator().manual_seed(seed)
        # Drawn in float64 so that every dtype starts from the same weights.
        draws = [
            (2 * torch.rand((n_in + 1) * n_out, generator=generator, dtype=torch.float64) - 1)
            / math.sqrt(n_in)
            for n_in, n_out in self.shapes
        ]
        theta = torch.cat(draws)
        self.theta = nn.Parameter(theta if n_students is None else theta.repeat(n_students, 1))
        self._masks = _DropoutMasks(1 - dropout, seed + 1)
        self._views: Any = None

    def pairs(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the weight and bias of each layer as views of the flat numbers."""
        pairs, start = [], 0
        for n_in, n_out in self.shapes:
            middle, stop = start + n_in * n_out, start + (n_in + 1) * n_out
            weight, bias = flat[..., start:middle], flat[..., middle:stop]
            shape = flat.shape[:-1]
            # In a stack the bias keeps an axis for the rows.
            bias_shape = (n_out,) if flat.ndim == 1 else (*shape, 1, n_out)
            pairs.append((weight.view(*shape, n_in, n_out), bias.view(bias_shape)))
            start = stop
        return pairs

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits, of shape (n_rows, n_classes) or (n_students, n_rows, n_classes)."""
        activate = _ACTIVATIONS[self.activation][0]
        h = self.embed(X)
        last = len(self.shapes) - 1
        for i, (weight, bias) in enumerate(self.pairs(self.theta)):
            h = torch.matmul(h, weight) + bias
            if i < last:
                h = activate(h)
                if self.training and self.dropout:
                    h = h * self._dropout_mask(h)
        return h

    def prepare(self) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
        """Make the buffer of the gradient, and return views of the numbers and of the gradient."""
        self.theta.grad = torch.zeros_like(self.theta.data)
        self._views = self.pairs(self.theta.data), self.pairs(self.theta.grad)
        return self._views

    def _dropout_mask(self, h: Tensor) -> Tensor:
        """Return the mask of a layer, one for all students of a stack."""
        return self._masks.cut(h.shape[-2], h.shape[-1], like=h)

    @torch.no_grad()
    def backward_by_hand(self, X: Tensor, targets: Any, criterion: Any) -> LossSums:
        """Run a batch forward, write the gradient of its mean and return the sums of its losses."""
        if self._views is None:
            self._views = self.prepare()
        parameters, gradients = self._views
        activate, activation_backward, _ = _ACTIVATIONS[self.activation]
        dropping = self.training and self.dropout > 0
        inputs: list[Tensor] = [self.embed(X)]
        sums, outputs, masks = [], [], []
        for weight, bias in parameters[:-1]:
            z = _product(inputs[-1], weight, bias)
            a = activate(z)
            sums.append(z)
            outputs.append(a)
            if dropping:
                masks.append(self._dropout_mask(a))
            inputs.append(a * masks[-1] if dropping else a)
        terms, gradient = criterion.at_logits(_product(inputs[-1], *parameters[-1]), targets)
        for i in range(len(parameters) - 1, -1, -1):
            into_weight, into_bias = gradients[i]
            torch.matmul(inputs[i].mT, gradient, out=into_weight)
            torch.sum(gradient, -2, keepdim=into_bias.ndim == 3, out=into_bias)
            if i:
                gradient = torch.matmul(gradient, parameters[i][0].mT)
                if dropping:
                    gradient *= masks[i - 1]
                gradient = activation_backward(gradient, sums[i - 1], outputs[i - 1])
        return terms

    def layers(self, student: int | None = None) -> list[Layer]:
        """Return the frozen layers of the student, or of one student of the stack."""
        frozen: list[Layer] = []
        flat = self.theta if student is None else self.theta[student]
        for weight, bias in self.pairs(flat.detach().cpu()):
            arrays = weight.numpy().copy(), bias.numpy().copy()
            frozen += [Layer("linear", arrays), Layer(self.activation)]
        return frozen[:-1]


def _product(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return h @ weight + bias in the fewest passes for one student or a stack."""
    if weight.ndim == 2:
        return torch.addmm(bias, h, weight)
    return torch.matmul(h, weight).add_(bias)


class _Batches:
    """Shuffled batches of nearly equal size, cut from tensors."""

    def __init__(self, X: Tensor, targets: Any, batch_size: int, generator: torch.Generator):
        self.X, self.targets, self.generator = X, targets, generator
        self.n_batches = -(-len(X) // batch_size)

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        if self.n_batches == 1:
            yield self.X, self.targets
            return
        order = torch.randperm(len(self.X), generator=self.generator).to(self.X.device)
        for rows in order.tensor_split(self.n_batches):
            yield self.X.index_select(0, rows), self.targets.take(rows)


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
            log_proba = _logits_of(net.module_(v.X)).log_softmax(-1)
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

    def __init__(self, module: Any, *args: Any, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(module, *args, **kwargs)
        self.seed = seed

    @property
    def _default_callbacks(self) -> list[Any]:
        return []

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> Any:
        """Train without swallowing KeyboardInterrupt."""
        if not self.initialized_:
            self.initialize()
        self.notify("on_train_begin", X=X, y=y)
        with contextlib.suppress(_StopTrainingError):
            self.fit_loop(X, y)
        self.notify("on_train_end", X=X, y=y)
        return self

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **fit_params: Any) -> Any:
        """Run the epochs over batches cut from tensors."""
        generator = torch.Generator().manual_seed(self.seed)
        batches = _Batches(X, y, self.batch_size, generator)
        epochs = self.max_epochs if epochs is None else epochs
        self._step, self._n_steps = 0, epochs * len(batches)
        for _ in range(epochs):
            self.notify("on_epoch_begin", dataset_train=batches, dataset_valid=None)
            self.run_single_epoch(batches, training=True, prefix="train", step_fn=self.train_step)
            self.notify("on_epoch_end", dataset_train=batches, dataset_valid=None)
        return self

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run the batches of an epoch and record its mean losses once."""
        self._set_training(training)
        soft: Any = 0.0
        hard: Any = 0.0
        n_rows = 0
        for batch in iterator:
            if self.callbacks_:
                self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            soft, hard = soft + step["sums"].soft, hard + step["sums"].hard
            n_rows += len(batch[0])
            if self.callbacks_:
                self.notify("on_batch_end", batch=batch, training=training, **step)
        means = LossSums(soft / n_rows, hard / n_rows)
        total = self.criterion_.total(means).tolist()
        terms = {"loss": total, "soft_loss": means.soft.tolist(), "hard_loss": means.hard.tolist()}
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
        rate = self.lr * _schedule(self._step / self._n_steps)
        for group in self.optimizer_.param_groups:
            group["lr"] = rate
        self._step += 1
        if isinstance(self.module_, StudentMLP) and not self.callbacks_:
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

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute losses and gradients: by hand for our MLP, by autograd for any other module."""
        X, targets = batch
        if isinstance(self.module_, StudentMLP):
            return {"sums": self.module_.backward_by_hand(X, targets, self.criterion_)}
        self.optimizer_.zero_grad()
        sums = self.criterion_(_logits_of(self.module_(X)), targets)
        loss = self.criterion_.total(sums) / len(X)
        loss.backward()
        return {"sums": LossSums(sums.soft.detach(), sums.hard.detach()), "loss": loss.detach()}


def _logits_of(output: Any) -> Tensor:
    """Return the logits of a module that may return (logits, hidden)."""
    return output[0] if isinstance(output, tuple | list) else output


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


def train(
    module: nn.Module,
    criterion: DistillationCriterion,
    training: TrainingSet,
    settings: TrainingSettings,
    *,
    seed: int = 0,
) -> StudentNet:
    """Train the module on the rows and return the net that holds it."""
    place = {"dtype": getattr(torch, settings.dtype), "device": torch.device(settings.device)}
    X = torch.as_tensor(training.X, **place)
    targets = Targets(
        proba=torch.as_tensor(training.proba, **place),
        label=torch.as_tensor(training.label, device=settings.device),
        soft_weight=torch.as_tensor(training.soft_weight, **place),
        hard_weight=torch.as_tensor(training.hard_weight, **place),
    )
    callbacks = list(settings.callbacks)
    if training.held_out is not None:
        held = training.held_out
        validation = Validation(
            X=torch.as_tensor(held.X, **place),
            label=torch.as_tensor(held.label, device=settings.device),
            weight=torch.as_tensor(held.weight, **place),
        )
        callbacks.append(BestEpoch(validation, settings.n_iter_no_change))
    module = module.to(**place)
    if isinstance(module, StudentMLP):
        module.prepare()
    net = StudentNet(
        module,
        criterion=criterion,
        optimizer=FlatAdam if isinstance(module, StudentMLP) else torch.optim.Adam,
        optimizer__weight_decay=settings.weight_decay,
        lr=settings.learning_rate_init,
        max_epochs=settings.max_epochs,
        batch_size=min(settings.batch_size, len(X)),
        train_split=None,
        callbacks=callbacks,
        device=settings.device,
        verbose=0,
        seed=seed,
    )
    work = 6.0 * min(settings.batch_size, len(X)) * sum(p.numel() for p in module.parameters())
    with _one_thread(work < _WORTH_A_THREAD), _no_denormals():
        if isinstance(module, StudentMLP):
            net.fit(X, criterion.weigh(targets))
        else:
            with _seeded_globally(seed):
                net.fit(X, targets)
    module.eval()
    return net


class _ThreadLimit:
    """Count of the trainings that asked for one torch thread, and the setting to restore."""

    lock = threading.Lock()
    users = 0
    before = 1


@contextlib.contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    """Let torch use one thread, and restore the setting when the last user leaves."""
    if not wanted:
        yield
        return
    with _ThreadLimit.lock:
        if _ThreadLimit.users == 0:
            _ThreadLimit.before = torch.get_num_threads()
            torch.set_num_threads(1)
        _ThreadLimit.users += 1
    try:
        yield
    finally:
        with _ThreadLimit.lock:
            _ThreadLimit.users -= 1
            if _ThreadLimit.users == 0:
                torch.set_num_threads(_ThreadLimit.before)


@contextlib.contextmanager
def _no_denormals() -> Iterator[None]:
    """Take denormal numbers as zero: moments of idle units decay into them, and they are slow."""
    already = bool((torch.tensor([1e-40]) * 1.0 == 0).all())
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)


_global_seed_lock = threading.RLock()


@contextlib.contextmanager
def _seeded_globally(seed: int) -> Iterator[None]:
    """Seed torch's global generator and restore it; needed for modules that draw from it."""
    with _global_seed_lock, torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the generators of other devices too.
        torch.default_generator.manual_seed(seed)
        yield


def build_custom_module(
    factory: Callable[[int, int], nn.Module], n_features: int, n_classes: int, seed: int
) -> nn.Module:
    """Call the user's factory and check what it returns."""
    with _seeded_globally(seed):
        module = factory(n_features, n_classes)
    if not isinstance(module, nn.Module):
        raise TypeError(
            "student_module must be a callable (n_features, n_classes) -> torch.nn.Module; "
            f"it returned a {type(module).__name__}."
        )
    _check_output(module, n_features, n_classes)
    return module


def _check_output(module: nn.Module, n_features: int, n_classes: int) -> None:
    """Raise if the module does not map rows to one logit a class."""
    training = module.training
    parameter = next(module.parameters(), torch.empty(0))
    rows = torch.zeros(2, n_features, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        shape = tuple(_logits_of(module.eval()(rows)).shape)
    module.train(training)
    if shape != (2, n_classes):
        raise ValueError(
            f"student_module({n_features}, {n_classes}) must map rows of shape (n, {n_features}) "
            f"to logits of shape (n, {n_classes}); two rows gave shape {shape}."
        )


def frozen_layers(module: nn.Module) -> list[Layer] | None:
    """Return the module as frozen layers, or None if it holds a layer that cannot be frozen."""
    if type(module) is StudentMLP:
        return module.layers()
    if type(module) is nn.Sequential:
        layers: list[Layer] = []
        for child in module:
            frozen = frozen_layers(child)
            if frozen is None:
                return None
            layers += frozen
        return layers
    return _FREEZERS[type(module)](module) if type(module) in _FREEZERS else None


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)


def _freeze_linear(module: Any) -> list[Layer]:
    weight = _numpy(module.weight).T
    bias = np.zeros(weight.shape[1]) if module.bias is None else _numpy(module.bias)
    return [Layer("linear", (weight, bias))]


def _freeze_batch_norm(module: Any) -> list[Layer] | None:
    if module.running_mean is None:
        return None
    scale = 1 / np.sqrt(_numpy(module.running_var) + module.eps)
    shift = -_numpy(module.running_mean) * scale
    if module.affine:
        scale, shift = scale * _numpy(module.weight), shift * _numpy(module.weight)
        shift = shift + _numpy(module.bias)
    return [Layer("affine", (scale, shift))]


def _freeze_layer_norm(module: Any) -> list[Layer] | None:
    if len(module.normalized_shape) != 1:
        return None
    size = module.normalized_shape[0]
    scale = np.ones(size) if module.weight is None else _numpy(module.weight)
    shift = np.zeros(size) if module.bias is None else _numpy(module.bias)
    return [Layer("layer_norm", (scale, shift, np.array(module.eps)))]


_FREEZERS: dict[type, Callable[[Any], list[Layer] | None]] = {
    nn.Linear: _freeze_linear,
    nn.BatchNorm1d: _freeze_batch_norm,
    nn.LayerNorm: _freeze_layer_norm,
    nn.Dropout: lambda module: [],
    nn.Identity: lambda module: [],
    nn.ReLU: lambda module: [Layer("relu")],
    nn.Tanh: lambda module: [Layer("tanh")],
    nn.SiLU: lambda module: [Layer("silu")],
    nn.GELU: lambda module: [Layer("gelu")] if module.approximate == "none" else None,
}


class Affine(nn.Module):
    """x * scale + shift with fixed numbers: scaling or a frozen batch norm."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: np.ndarray, shift: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float64))

    def forward(self, X: Tensor) -> Tensor:
        """Scale and shift each column."""
        return X * self.scale + self.shift


class Standardise(Affine):
    """(x - mean) / scale with fixed numbers."""

    def forward(self, X: Tensor) -> Tensor:
        """Standardise each column."""
        return (X - self.shift) / self.scale


def torch_student(student: "StudentClassifier") -> nn.Sequential:
    """Rebuild a frozen student as a torch module in float64."""
    modules: list[nn.Module] = []
    if student._takes_raw and student.preprocessor_ is not None:
        p = student.preprocessor_
        modules.append(Standardise(p.scale_, p.mean_))
    if student.encoding_ is not None:
        modules.append(PiecewiseLinear(student.encoding_))
    return nn.Sequential(*modules, *map(_torch_layer, student.layers_))


def _torch_layer(layer: Layer) -> nn.Module:
    arrays = [torch.as_tensor(a, dtype=torch.float64) for a in layer.arrays]
    if layer.kind == "affine":
        return Affine(*layer.arrays)
    if layer.kind == "linear":
        module: nn.Module = nn.utils.skip_init(nn.Linear, *arrays[0].shape, dtype=torch.float64)
        state = {"weight": arrays[0].T, "bias": arrays[1]}
    elif layer.kind == "layer_norm":
        size = len(arrays[0])
        module = nn.LayerNorm(size, eps=float(arrays[2]), dtype=torch.float64)
        state = {"weight": arrays[0], "bias": arrays[1]}
    else:
        return _ACTIVATIONS[layer.kind][2]()
    module.load_state_dict(state)
    return module
