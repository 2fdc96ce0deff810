"""Nets as skorch's guide makes them teach what they predict, and a module of one's own learns."""

import numpy as np
import pytest
import skorch
import torch
from quick_students import fitted_teacher, make_data, quick
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping, EpochScoring
from skorch.dataset import ValidSplit

from skdistill import TorchStudent

X, Y = make_data()
ROWS = X.astype(np.float32)
CODE = (Y == "yes").astype(np.int64)


class Network(torch.nn.Module):
    """A network whose last layer is chosen: what its criterion wants."""

    def __init__(self, n_hidden=4, n_outputs=2, end=None):
        super().__init__()
        self.hidden = torch.nn.Linear(3, n_hidden)
        self.last = torch.nn.Linear(n_hidden, n_outputs)
        self.end = end

    def forward(self, X):
        out = self.last(torch.relu(self.hidden(X)))
        return out.squeeze(-1) if out.shape[-1] == 1 else self.end(out) if self.end else out


def softmax(logits):
    return torch.softmax(logits, dim=-1)


NETS = {
    "cross entropy": lambda: skorch.NeuralNetClassifier(
        Network, criterion=torch.nn.CrossEntropyLoss, lr=1.0, max_epochs=15, verbose=0
    ),
    "log of probabilities": lambda: skorch.NeuralNetClassifier(
        Network, module__end=softmax, lr=1.0, max_epochs=15, verbose=0
    ),
    "binary": lambda: skorch.NeuralNetBinaryClassifier(
        Network, module__n_outputs=1, lr=1.0, max_epochs=15, verbose=0
    ),
    "nonlinearity": lambda: skorch.NeuralNetClassifier(
        Network,
        criterion=torch.nn.CrossEntropyLoss,
        predict_nonlinearity=softmax,
        lr=1.0,
        max_epochs=15,
        verbose=0,
    ),
    "callbacks": lambda: skorch.NeuralNetClassifier(
        Network,
        criterion=torch.nn.CrossEntropyLoss,
        callbacks=[
            EarlyStopping(patience=2),
            ("auc", EpochScoring("roc_auc", lower_is_better=False)),
        ],
        train_split=ValidSplit(3),
        lr=1.0,
        max_epochs=15,
        verbose=0,
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_fitted_skorch_net_teaches_its_probabilities(name):
    torch.manual_seed(0)
    net = NETS[name]()
    net.fit(ROWS, CODE.astype(np.float32) if name == "binary" else CODE)
    history = net.history[:, "train_loss"]
    proba = net.predict_proba(ROWS)
    taught = quick([net], alpha=1.0, max_epochs=5, calibration=None).fit(ROWS, CODE)
    given = quick([net], alpha=1.0, max_epochs=5, calibration=None).fit(
        ROWS, CODE, teacher_proba=proba
    )
    np.testing.assert_allclose(taught.predict_proba(ROWS), given.predict_proba(ROWS), atol=1e-6)
    assert net.history[:, "train_loss"] == history


def test_a_skorch_net_behind_a_scaler_teaches_its_probabilities():
    torch.manual_seed(0)
    pipeline = make_pipeline(StandardScaler(), NETS["cross entropy"]()).fit(ROWS, CODE)
    taught = quick([pipeline], alpha=1.0, max_epochs=5, calibration=None).fit(ROWS, CODE)
    given = quick([pipeline], alpha=1.0, max_epochs=5, calibration=None).fit(
        ROWS, CODE, teacher_proba=pipeline.predict_proba(ROWS)
    )
    np.testing.assert_allclose(taught.predict_proba(ROWS), given.predict_proba(ROWS), atol=1e-6)


def test_a_network_of_one_s_own_is_trained_as_the_student():
    fitted = quick(
        [fitted_teacher(X, Y)], student_module=own_network, numerical_embedding=None, max_epochs=5
    ).fit(X, Y)
    assert type(fitted.student_) is TorchStudent
    logits = fitted.student_.to_torch()(torch.as_tensor(fitted.student_.preprocessor_.transform(X)))
    np.testing.assert_allclose(fitted.predict_proba(X), softmax(logits).detach().numpy(), atol=1e-6)
    assert len(fitted.history_["train_loss"]) == fitted.n_iter_ == 5


def own_network(n_features, n_classes):
    return Network(6, n_classes)
