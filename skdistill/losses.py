r"""Distillation losses: pure functions of tensors that return one value a row.

Shapes are written ``(..., n, k)``: `n` rows, `k` classes, and any number of leading dimensions,
so that a stack of students trained together goes through the same functions as one student. A
target of shape (n, k) is shared by the whole stack. A temperature is a number, or a tensor that
broadcasts against the logits, such as (m, 1, 1) for `m` stacked students.

Hidden layers have shape (n, ...): their losses take one student, and no stack.

No function reduces over rows, :func:`distillation_loss` excepted. The sum over classes is a sum,
never a mean: ``torch.nn.functional.kl_div`` with its default ``reduction="mean"`` divides by
``n * k``, which makes the soft term `k` times too small.
"""

import torch
from torch.nn.functional import interpolate, one_hot

__all__ = [
    "attention_map",
    "attention_transfer",
    "co_occurrence",
    "cross_entropy",
    "decoupled_kl",
    "distillation_loss",
    "hidden_cosine",
    "hidden_mse",
    "kl_divergence",
    "log_softmax_at",
    "logit_mse",
    "relation",
    "temper",
]

Temperature = float | torch.Tensor


def log_softmax_at(logits: torch.Tensor, temperature: Temperature) -> torch.Tensor:
    r"""Return the log-probabilities of logits at a temperature.

    .. math:: \log p_j = z_j / T - \log \sum_l \exp(z_l / T)

    Parameters
    ----------
    logits : Tensor of shape (..., n, k)
        Unnormalised log-probabilities.
    temperature : float or Tensor
        Positive; 1 leaves the distribution as it is, larger values flatten it.

    Returns
    -------
    Tensor of shape (..., n, k)
        Log-probabilities.

    References
    ----------
    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import log_softmax_at
    >>> log_softmax_at(torch.tensor([[0.0, 2.0]]), 2.0).exp()
    tensor([[0.2689, 0.7311]])
    """
    return torch.log_softmax(logits / temperature, dim=-1)


def temper(proba: torch.Tensor, temperature: Temperature) -> torch.Tensor:
    r"""Return probabilities at a temperature, exactly and also where they are zero.

    .. math:: p_j^{1/T} \Big/ \sum_l p_l^{1/T}

    This is the softmax of the teacher's logits divided by `T`, without knowing the logits. Zeros
    stay zero at every temperature, so :math:`T \to \infty` is uniform over the classes that have
    any mass, and no clipping constant enters.

    Parameters
    ----------
    proba : Tensor of shape (..., n, k)
        Non-negative, every row with some mass.
    temperature : float or Tensor
        Positive.

    Returns
    -------
    Tensor of shape (..., n, k)
        Probabilities; every row sums to 1.

    References
    ----------
    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import temper
    >>> temper(torch.tensor([[0.8, 0.2, 0.0]]), 2.0)
    tensor([[0.6667, 0.3333, 0.0000]])
    """
    return torch.softmax(torch.log(proba) / temperature, dim=-1)


def kl_divergence(
    student_logits: torch.Tensor, target_proba: torch.Tensor, *, temperature: Temperature = 1.0
) -> torch.Tensor:
    r"""Return T² times the divergence of the student from the target, both at temperature T.

    .. math:: T^2 \sum_j q_j (\log q_j - \log p_j), \quad
              q = \mathrm{temper}(\mathrm{target}, T), \quad p = \mathrm{softmax}(z / T)

    with :math:`0 \log 0 = 0`. The gradient at the logits is :math:`T (p - q)`. It falls as
    :math:`1/T^2` without the leading factor, which therefore keeps the weight of this term
    against a hard term about the same at every temperature.

    Parameters
    ----------
    student_logits : Tensor of shape (..., n, k)
        The student's logits.
    target_proba : Tensor of shape (n, k) or (..., n, k)
        The teacher's probabilities at temperature 1; zeros are allowed.
    temperature : float or Tensor, default=1.0
        Positive.

    Returns
    -------
    Tensor of shape (..., n)
        One value a row, 0 or more up to rounding, in nats.

    References
    ----------
    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import kl_divergence
    >>> logits = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    >>> target = torch.tensor([[1.0, 0.0], [0.8808, 0.1192]])
    >>> kl_divergence(logits, target, temperature=1.0).abs().round(decimals=4)
    tensor([0.6931, 0.0000])
    """
    return _soft_term(student_logits, temper(target_proba, temperature), temperature)


def _soft_term(
    student_logits: torch.Tensor, tempered: torch.Tensor, temperature: Temperature
) -> torch.Tensor:
    """Return T² times the divergence from a target that is at the temperature already."""
    log_proba = log_softmax_at(student_logits, temperature)
    row = (torch.xlogy(tempered, tempered) - tempered * log_proba).sum(dim=-1)
    return row * _row_square(temperature)


def _row_square(temperature: Temperature) -> Temperature:
    """Return T² in the shape of values that lost their class dimension."""
    if isinstance(temperature, torch.Tensor) and temperature.ndim:
        return temperature.square().squeeze(-1)
    return temperature**2


def cross_entropy(student_logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    r"""Return the log-loss of every row against its label.

    .. math:: -\log \mathrm{softmax}(z)_y

    Parameters
    ----------
    student_logits : Tensor of shape (..., n, k)
        The student's logits.
    y : int64 Tensor of shape (n,) or (..., n)
        Class codes from 0 to k - 1.

    Returns
    -------
    Tensor of shape (..., n)
        One value a row, 0 or more up to rounding, in nats.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import cross_entropy
    >>> cross_entropy(torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
    tensor([0.6931, 0.1269])
    """
    log_proba = torch.log_softmax(student_logits, dim=-1)
    return -_at_label(log_proba, y)


def _at_label(values: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the column of each row's label."""
    column = y.expand(values.shape[:-1]).unsqueeze(-1)
    return values.gather(-1, column).squeeze(-1)


def logit_mse(
    student_logits: torch.Tensor, target_proba: torch.Tensor, *, floor: float = 1e-7
) -> torch.Tensor:
    r"""Return the mean squared difference of centred logits.

    .. math:: \frac{1}{k} \sum_j \bigl( (z_j - \bar z) - (v_j - \bar v) \bigr)^2, \quad
              v_j = \log \max(q_j, \mathrm{floor})

    Logits are known up to a constant a row, hence the centring: a student that differs from the
    teacher by a constant answers alike and has a loss of 0. :math:`T^2 \cdot KL` tends to half
    this value as `T` grows, so there is no temperature here.

    Parameters
    ----------
    student_logits : Tensor of shape (..., n, k)
        The student's logits.
    target_proba : Tensor of shape (n, k) or (..., n, k)
        The teacher's probabilities.
    floor : float, default=1e-7
        Probabilities below it count as `floor`, since a zero has no finite logit.

    Returns
    -------
    Tensor of shape (..., n)
        One value a row, 0 or more.

    References
    ----------
    Kim, Oh, Kim, Cho and Yun, "Comparing Kullback-Leibler Divergence and Mean Squared Error Loss
    in Knowledge Distillation", IJCAI 2021.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import logit_mse
    >>> target = torch.softmax(torch.tensor([[0.0, 1.0]]), dim=1)
    >>> logit_mse(torch.tensor([[5.0, 6.0]]), target).abs().round(decimals=4)
    tensor([0.])
    >>> logit_mse(torch.tensor([[0.0, 3.0]]), target)
    tensor([1.])
    """
    target_logits = torch.log(target_proba.clamp(min=floor))
    return (_centred(student_logits) - _centred(target_logits)).square().mean(dim=-1)


def _centred(logits: torch.Tensor) -> torch.Tensor:
    """Subtract each row's mean."""
    return logits - logits.mean(dim=-1, keepdim=True)


def decoupled_kl(
    student_logits: torch.Tensor,
    target_proba: torch.Tensor,
    y: torch.Tensor,
    *,
    temperature: Temperature = 1.0,
    beta: float = 2.0,
) -> torch.Tensor:
    r"""Return the decoupled divergence: the label's class against the rest, and within the rest.

    .. math:: T^2 \bigl( KL(b^q \,\|\, b^p) + \beta \, KL(\hat q \,\|\, \hat p) \bigr)

    where :math:`b = (p_y, 1 - p_y)` and :math:`\hat p` is the distribution over the classes other
    than `y`, both at temperature `T`. With :math:`\beta = 1 - q_y` a row this is
    :func:`kl_divergence`; a fixed `beta` keeps the second term alive where the teacher is sure.
    A target with no mass outside `y` has no second term. A row without a label has nothing to
    decouple and counts with its :func:`kl_divergence`.

    Parameters
    ----------
    student_logits : Tensor of shape (..., n, k)
        The student's logits; `k` is 3 or more.
    target_proba : Tensor of shape (n, k) or (..., n, k)
        The teacher's probabilities at temperature 1; zeros are allowed.
    y : int64 Tensor of shape (n,) or (..., n)
        Class codes from 0 to k - 1; -1 for a row without a label.
    temperature : float or Tensor, default=1.0
        Positive.
    beta : float, default=2.0
        Weight of the second term, the weight of the first being 1. The paper tunes it for every
        pair of networks; with `beta` above 1 - q_y the second term counts for more than in
        :func:`kl_divergence`.

    Returns
    -------
    Tensor of shape (..., n)
        One value a row, 0 or more up to rounding, in nats.

    Raises
    ------
    ValueError
        With fewer than three classes: one class is left beside the label's, so the second term
        is 0 and the first is :func:`kl_divergence`.

    References
    ----------
    Zhao, Cui, Song, Qiu and Liang, "Decoupled Knowledge Distillation", CVPR 2022.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import decoupled_kl
    >>> target = torch.tensor([[0.5, 0.25, 0.25]])
    >>> logits = torch.log(torch.tensor([[0.5, 0.4, 0.1]]))
    >>> decoupled_kl(logits, target, torch.tensor([0]), beta=1.0)
    tensor([0.2231])
    """
    n_classes = student_logits.shape[-1]
    if n_classes < 3:
        raise ValueError(
            f"loss='dkd' needs at least 3 classes, got {n_classes}: beside the label's class a "
            "single class is left, so the term over the other classes is always 0 and the rest "
            "equals loss='kl'. Use loss='kl'."
        )
    log_target = torch.log(target_proba) / temperature
    logits = student_logits / temperature
    code = y.clamp(min=0)
    label = one_hot(code, n_classes).bool()
    split = _label_split_kl(logits, log_target, label, code)
    rest = _rest_kl(logits, log_target, label)
    decoupled = (split + beta * rest) * _row_square(temperature)
    whole = kl_divergence(student_logits, target_proba, temperature=temperature)
    return torch.where(y >= 0, decoupled, whole)


def _label_split_kl(
    logits: torch.Tensor, log_target: torch.Tensor, label: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Return the divergence between (label's class, all others) of target and student."""
    log_proba = torch.log_softmax(logits, dim=-1)
    # A sum over the other classes keeps its digits where 1 - p loses them.
    ours = _at_label(log_proba, y)
    others = torch.logsumexp(log_proba.masked_fill(label, -torch.inf), dim=-1)
    target = torch.softmax(log_target, dim=-1)
    theirs = _at_label(target, y)
    remainder = target.masked_fill(label, 0.0).sum(dim=-1)
    entropy = torch.xlogy(theirs, theirs) + torch.xlogy(remainder, remainder)
    return entropy - theirs * ours - remainder * others


def _rest_kl(logits: torch.Tensor, log_target: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return the divergence within the classes other than the label's."""
    kept = log_target.masked_fill(label, -torch.inf)
    # A row of -inf alone has no softmax; a constant stands in and its value is dropped below.
    empty = torch.isneginf(kept).all(dim=-1, keepdim=True)
    target = torch.softmax(kept.masked_fill(empty, 0.0), dim=-1).masked_fill(empty, 0.0)
    log_proba = torch.log_softmax(logits.masked_fill(label, -torch.inf), dim=-1)
    log_proba = log_proba.masked_fill(label, 0.0)
    return (torch.xlogy(target, target) - target * log_proba).sum(dim=-1)


def distillation_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    y: torch.Tensor,
    *,
    temperature: float,
    alpha: float,
) -> torch.Tensor:
    r"""Return the distillation loss of a batch, for a training loop of one's own.

    .. math:: \frac{1}{n} \sum_i \bigl( \alpha T^2 KL(q_i \,\|\, p_i)
              + (1 - \alpha) \, (-\log \mathrm{softmax}(z_i)_{y_i}) \bigr)

    with teacher :math:`q` and student :math:`p` both at temperature `T`, the hard term at 1.

    Parameters
    ----------
    student_logits : Tensor of shape (n, k)
        The student's logits.
    teacher_logits : Tensor of shape (n, k)
        The teacher's logits; log-probabilities are logits too. No gradient goes there.
    y : int64 Tensor of shape (n,)
        Class codes from 0 to k - 1.
    temperature : float
        Positive.
    alpha : float
        Weight of the soft term, from 0 (labels only) to 1 (teacher only).

    Returns
    -------
    Tensor of shape ()
        The mean over rows, in nats.

    Raises
    ------
    ValueError
        With a `temperature` of 0 or less, or an `alpha` outside [0, 1].

    References
    ----------
    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import distillation_loss
    >>> student = torch.tensor([[1.0, -1.0], [0.0, 0.5]], requires_grad=True)
    >>> teacher = torch.tensor([[2.0, -2.0], [-1.0, 1.0]])
    >>> y = torch.tensor([0, 1])
    >>> loss = distillation_loss(student, teacher, y, temperature=3.0, alpha=0.7)
    >>> loss.backward()
    >>> float(loss.detach()) > 0
    True
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature!r}.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, got {alpha!r}.")
    # Tempered as logits: on the way over probabilities small ones would round to 0.
    tempered = torch.softmax(teacher_logits.detach() / temperature, dim=-1)
    soft = _soft_term(student_logits, tempered, temperature)
    return (alpha * soft + (1 - alpha) * cross_entropy(student_logits, y)).mean()


def hidden_mse(student_hidden: torch.Tensor, teacher_hidden: torch.Tensor) -> torch.Tensor:
    r"""Return the mean squared difference of two hidden layers, over their units.

    The layers' own scale enters: divide by the variance of the teacher's layer to be rid of it.

    Parameters
    ----------
    student_hidden, teacher_hidden : Tensor of shape (n, ...)
        Activations, of one shape.

    Returns
    -------
    Tensor of shape (n,)
        One value a row, 0 or more, in squared units of the layers.

    References
    ----------
    Romero, Ballas, Kahou, Chassang, Gatta and Bengio, "FitNets: Hints for Thin Deep Nets", 2015.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import hidden_mse
    >>> hidden_mse(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
    tensor([2.])
    """
    return (student_hidden - teacher_hidden).flatten(1).square().mean(1)


def hidden_cosine(student_hidden: torch.Tensor, teacher_hidden: torch.Tensor) -> torch.Tensor:
    r"""Return half the squared distance of the directions of two hidden layers.

    .. math:: \tfrac12 \left\lVert \frac{s}{\lVert s \rVert} - \frac{t}{\lVert t \rVert}
              \right\rVert^2 = 1 - \cos(s, t)

    A row of zeros has no direction; two such rows agree.

    Parameters
    ----------
    student_hidden, teacher_hidden : Tensor of shape (n, ...)
        Activations, of one shape.

    Returns
    -------
    Tensor of shape (n,)
        One value a row, in [0, 2].

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import hidden_cosine
    >>> hidden_cosine(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]]))
    tensor([1.])
    """
    difference = _direction(student_hidden.flatten(1)) - _direction(teacher_hidden.flatten(1))
    return difference.square().sum(1) / 2


def _direction(rows: torch.Tensor) -> torch.Tensor:
    """Divide rows by their length, whatever their scale; rows of zeros stay zero."""
    largest = rows.detach().abs().amax(1, keepdim=True)
    rows = rows / torch.where(largest > _SMALLEST, largest, 1.0)
    square = rows.square().sum(1, keepdim=True)
    # The square root of a chosen 1, and not of 0, where its gradient is infinite.
    return rows / torch.where(largest > _SMALLEST, square, 1.0).sqrt()


# Below, one over it would not be finite in float32.
_SMALLEST = 1e-30


def attention_map(hidden: torch.Tensor, *, channel_axis: int = 1) -> torch.Tensor:
    """Return where a hidden layer is active: the mean square over its channels at each place.

    Parameters
    ----------
    hidden : Tensor of shape (n, ...)
        Activations. Of a vector (n, n_units) each unit is a place of its own.
    channel_axis : int, default=1
        The axis of the channels, where there are three axes or more: 1 for convolutions, -1 for
        sequences.

    Returns
    -------
    Tensor of shape (n, places)
        0 or more.

    References
    ----------
    Zagoruyko and Komodakis, "Paying More Attention to Attention", 2017, equation 2 with p = 2.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import attention_map
    >>> attention_map(torch.tensor([[[1.0, 0.0], [3.0, 0.0]]]))
    tensor([[5., 0.]])
    """
    square = hidden.square()
    return square if hidden.ndim == 2 else square.mean(channel_axis)


def attention_transfer(student_map: torch.Tensor, teacher_map: torch.Tensor) -> torch.Tensor:
    r"""Return the squared distance of two attention maps, each of length 1.

    Maps of different places are averaged to the smaller number of places along each axis.

    Parameters
    ----------
    student_map, teacher_map : Tensor of shape (n, places)
        What :func:`attention_map` returns; up to three axes of places.

    Returns
    -------
    Tensor of shape (n,)
        One value a row, in [0, 2].

    Raises
    ------
    ValueError
        If one map has more axes than the other.

    References
    ----------
    Zagoruyko and Komodakis, "Paying More Attention to Attention", 2017, equation 3.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import attention_transfer
    >>> attention_transfer(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    tensor([0.])
    """
    if student_map.ndim != teacher_map.ndim:
        raise ValueError(
            f"The attention maps have {student_map.ndim - 1} and {teacher_map.ndim - 1} axes of "
            "places; they must have as many."
        )
    places = [min(pair) for pair in zip(student_map.shape[1:], teacher_map.shape[1:], strict=True)]
    maps = [_at_places(m, places).flatten(1) for m in (student_map, teacher_map)]
    return (_direction(maps[0]) - _direction(maps[1])).square().sum(1)


def _at_places(map_: torch.Tensor, places: list[int]) -> torch.Tensor:
    """Average a map to a number of places along each axis."""
    if list(map_.shape[1:]) == places:
        return map_
    return interpolate(map_[:, None], size=places, mode="area")[:, 0]


def relation(
    student_hidden: torch.Tensor,
    teacher_similarity: torch.Tensor,
    *,
    weight: torch.Tensor | None = None,
    comparable: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Return how differently student and teacher see which rows of a batch are alike.

    .. math:: \sum_j w_j (S_{ij} - R_{ij})^2, \qquad
              S_{i\cdot} = \frac{(H H^\top)_{i\cdot}}{\lVert (H H^\top)_{i\cdot} \rVert_w}

    where `R` is the teacher's matrix, its rows normalised in the same way. The widths of the two
    layers need not be equal.

    Parameters
    ----------
    student_hidden : Tensor of shape (n, ...)
        The student's activations `H`.
    teacher_similarity : Tensor of shape (n, n)
        The inner products of the teacher's activations, or :func:`co_occurrence` of leaves.
    weight : Tensor of shape (n,), default=None
        Weights of the rows, >= 0, that act as repeated rows; None: equal.
    comparable : bool Tensor of shape (n, n), default=None
        Pairs that count, such as rows answered by one and the same teacher; None: all.

    Returns
    -------
    Tensor of shape (n,)
        One value a row, in [0, 4].

    References
    ----------
    Tung and Mori, "Similarity-Preserving Knowledge Distillation", 2019: their loss times n, one
    value a row.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import relation
    >>> student, teacher = torch.eye(2), torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    >>> relation(student, teacher @ teacher.T)
    tensor([0., 0.])
    """
    rows = student_hidden.flatten(1)
    matrices = [rows @ rows.T, teacher_similarity]
    root = 1.0 if weight is None else weight.sqrt()
    if comparable is not None:
        root = root * comparable
    student, teacher = (_direction(matrix * root) for matrix in matrices)
    return (student - teacher).square().sum(1)


def co_occurrence(leaves: torch.Tensor) -> torch.Tensor:
    """Return the share of trees that sort two rows into the same leaf.

    Parameters
    ----------
    leaves : float Tensor of shape (n, n_trees)
        The number of the leaf of each row in each tree.

    Returns
    -------
    Tensor of shape (n, n)
        In [0, 1], 1 on the diagonal.

    References
    ----------
    Breiman, "Random Forests", 2001: the proximity of two rows.

    Examples
    --------
    >>> import torch
    >>> from skdistill.losses import co_occurrence
    >>> co_occurrence(torch.tensor([[1.0, 4.0], [1.0, 5.0]]))
    tensor([[1.0000, 0.5000],
            [0.5000, 1.0000]])
    """
    return 1 - torch.cdist(leaves, leaves, p=0.0) / leaves.shape[1]
