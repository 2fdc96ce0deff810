"""A training step on the CPU: NumPy's products on the memory of torch's parameters."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skdistill.training.adam import FlatAdam
from skdistill.training.array_adam import ArrayAdam
from skdistill.training.array_loss import ArrayLoss
from skdistill.training.network import ACTIVATIONS, PiecewiseLinear, StudentMLP
from skdistill.training.objective import DistillationCriterion, LossSums, Targets

__all__ = ["CpuStep"]

Array = np.ndarray


class _Layer(NamedTuple):
    """The numbers of a layer and of its gradient, each of shape (n_students, ..., n_out)."""

    weight: Array
    bias: Array
    into_weight: Array
    into_bias: Array


class _Hidden:
    """What a hidden layer writes for batches of one length, and its activation."""

    def __init__(self, activation: str, shape: tuple[int, int, int], dtype: np.dtype) -> None:
        self.sums, self.gradient = np.empty(shape, dtype), np.empty(shape, dtype)
        self._tensors = torch.from_numpy(self.gradient), torch.from_numpy(self.sums)
        self._function, self._backward, _ = ACTIVATIONS[activation]

    def activate(self) -> Array:
        """Return the outputs of the layer from its sums."""
        self._outputs = self._function(self._tensors[1])
        return self._outputs.numpy()

    def drop(self, outputs: Array, mask: Array) -> Array:
        """Return the outputs after dropout; the gradient still needs those before."""
        return outputs * mask

    def backward(self) -> Array:
        """Return the gradient of the sums from that of the outputs."""
        return self._backward(*self._tensors, self._outputs).numpy()


class _Relu(_Hidden):
    """The same for the rectifier, where NumPy is faster."""

    def __init__(self, activation: str, shape: tuple[int, int, int], dtype: np.dtype) -> None:
        super().__init__(activation, shape, dtype)
        # NumPy converts a Python number anew in every call.
        self._zero = np.zeros((), dtype)
        self._positive = np.empty(shape, bool)

    def activate(self) -> Array:
        """Overwrite the sums: the outputs tell all that the gradient needs."""
        return np.maximum(self.sums, self._zero, out=self.sums)

    def drop(self, outputs: Array, mask: Array) -> Array:
        """Overwrite the outputs."""
        return np.multiply(outputs, mask, out=outputs)

    def backward(self) -> Array:
        """Overwrite the gradient of the outputs."""
        positive = np.greater(self.sums, self._zero, out=self._positive)
        return np.multiply(self.gradient, positive, out=self.gradient)


class CpuStep:
    """Forward, gradient and update of the built-in network for the rows of a batch.

    It does what ``StudentMLP.backward_by_hand`` and ``FlatAdam.update`` do, up to rounding. Torch
    spends microseconds on every small operation and copies the weights of a stack before it
    multiplies them; NumPy does neither. A student of a stack gets the very operations that a
    student alone gets, so that both end at the same numbers in every dtype. The parameters stay
    torch's: only their memory is shared.

    Parameters
    ----------
    module : StudentMLP
        One student or a stack, on the CPU.
    criterion : DistillationCriterion
        Whose loss is "kl".
    optimizer : FlatAdam
        Its settings are used, such as the learning rate of the moment, and its moments go on.
    """

    def __init__(
        self,
        module: StudentMLP,
        criterion: DistillationCriterion,
        optimizer: FlatAdam,
    ) -> None:
        self.module, self._criterion, self._optimizer = module, criterion, optimizer
        self._layers = [
            _Layer(*(_stacked(tensor) for pair in pairs for tensor in pair))
            for pairs in zip(*module.prepare(), strict=True)
        ]
        theta, (mean, square, _) = module.theta, optimizer.moments()[0]
        assert theta.grad is not None
        self._adam = ArrayAdam(
            theta.detach().numpy(),
            theta.grad.numpy(),
            optimizer.param_groups[0],
            (optimizer.beta1, optimizer.beta2),
            optimizer.epsilon,
            (mean.numpy(), square.numpy()),
            optimizer.count,
        )
        self._loaded: Tensor | None = None
        self._targets: Targets | None = None

    def load(self, X: Tensor, targets: Targets) -> None:
        """Take the rows, of shape (n, n_features), of the steps to come, and what they carry.

        What is loaded already, rows or targets, costs nothing.
        """
        if X is not self._loaded:
            self._loaded, self._X = X, X.numpy()
            self._whole: Array | None = None
            # Other rows may be cut into batches of other lengths.
            self._hidden: dict[int, list[_Hidden]] = {}
        if targets is not self._targets:
            self._targets = targets
            self._loss = ArrayLoss(self._criterion, targets)

    def __call__(self, rows: Array | None) -> None:
        """Make one step on some rows, or on all."""
        if rows is None:
            if self._whole is None:
                self._whole = self._embed(self._X)
            self._backward(self._whole, self._loss.columns)
        else:
            h = self._embed(self._X.take(rows, axis=0))
            self._backward(h, self._loss.columns.take(rows, axis=0))
        self._adam.update()
        self._optimizer.count = self._adam.count

    def sums(self) -> LossSums:
        """Return the sums of the losses over one pass of these rows, and begin to sum anew."""
        soft, hard = self._loss.sums()
        if self.module.theta.ndim == 1:
            soft, hard = soft[0], hard[0]
        return LossSums(torch.as_tensor(soft), torch.as_tensor(hard))

    def _embed(self, X: Array) -> Array:
        """Return what the first layer sees of the rows."""
        embed = self.module.embed
        # The call of a module that does nothing takes longer than a layer.
        return embed(torch.from_numpy(X)).numpy() if isinstance(embed, PiecewiseLinear) else X

    def _backward(self, h: Array, columns: Array) -> None:
        """Run a batch forward and write the gradient of its mean."""
        hidden = self._hidden.get(len(h))
        if hidden is None:
            hidden = self._hidden[len(h)] = self._make_hidden(len(h))
        *layers, last = self._layers
        dropping = self.module.training and self.module.dropout > 0
        inputs, masks = [h], []
        for layer, made in zip(layers, hidden, strict=True):
            np.matmul(inputs[-1], layer.weight, out=made.sums)
            made.sums += layer.bias
            h = made.activate()
            if dropping:
                masks.append(self.module.dropout_mask(torch.from_numpy(h)).numpy())
                h = made.drop(h, masks[-1])
            inputs.append(h)
        logits = np.matmul(h, last.weight)
        logits += last.bias
        gradient = self._loss.into_gradient(logits, columns)
        for i in range(len(layers), -1, -1):
            layer = self._layers[i]
            np.matmul(inputs[i].swapaxes(-1, -2), gradient, out=layer.into_weight)
            np.add.reduce(gradient, axis=-2, keepdims=True, out=layer.into_bias)
            if i:
                made = hidden[i - 1]
                np.matmul(gradient, layer.weight.swapaxes(-1, -2), out=made.gradient)
                if dropping:
                    made.gradient *= masks[i - 1]
                gradient = made.backward()

    def _make_hidden(self, n: int) -> list[_Hidden]:
        """Make what the hidden layers write for batches of n rows."""
        activation, dtype = self.module.activation, self._X.dtype
        kind = _Relu if activation == "relu" else _Hidden
        shapes = [layer.weight.shape for layer in self._layers[:-1]]
        return [kind(activation, (s[0], n, s[2]), dtype) for s in shapes]


def _stacked(parameter: Tensor) -> Array:
    """Return a weight or bias as an array of shape (n_students, ..., n_out)."""
    array = parameter.numpy()
    return array if array.ndim == 3 else array.reshape(1, -1, array.shape[-1])
