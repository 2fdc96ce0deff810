"""What a process has one of, read at once: no public call may leave any of it changed."""

import decimal
import gc
import importlib
import locale
import logging
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import joblib
import numpy as np
import sklearn
import torch
from sklearn.utils import check_random_state
from threadpoolctl import threadpool_info

# Importing these sets things of the process; a call that imports one first is not to blame.
for name in ("matplotlib.pyplot", "onnx", "onnxruntime", "pandas", "pyarrow", "skl2onnx", "tqdm"):
    importlib.import_module(name)


def _of_torch() -> dict[str, Any]:
    """Read the settings of torch."""
    return {
        "random state": bytes(torch.random.get_rng_state().numpy()),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
        "anomaly": torch.is_anomaly_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        # A number too small to be normal: zero where they are flushed.
        "denormals": float(torch.tensor([1e-40]) * 1.0),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "mkldnn": torch.backends.mkldnn.enabled,
    }


def _of_numpy() -> dict[str, Any]:
    """Read the settings of NumPy."""
    kind, keys, *rest = check_random_state(None).get_state()
    return {
        "random state": (kind, keys.tobytes(), *rest),
        "errors": np.geterr(),
        "error call": np.geterrcall(),
        "print": repr(np.get_printoptions()),
    }


def _of_plots() -> dict[str, Any]:
    """Read the settings of Matplotlib and pandas."""
    import matplotlib as mpl
    import pandas as pd
    from matplotlib import pyplot as plt

    options = pd.describe_option(_print_desc=False).splitlines()
    return {
        "backend": mpl.get_backend(),
        "rcParams": {k: repr(v) for k, v in mpl.rcParams.items() if k != "backend"},
        "figures": plt.get_fignums(),
        "interactive": plt.isinteractive(),
        "pandas": [line for line in options if "currently:" in line],
    }


def _of_python() -> dict[str, Any]:
    """Read the settings of the interpreter."""
    root = logging.getLogger()
    return {
        "random state": random.getstate(),
        "warnings": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "locale": locale.setlocale(locale.LC_ALL),
        "path": list(sys.path),
        "finders": (list(sys.meta_path), list(sys.path_hooks)),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook),
        "trace": threading.gettrace() if hasattr(threading, "gettrace") else None,
        "streams": (sys.stdout, sys.stderr, sys.stdin),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "recursion": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "log": (root.level, list(root.handlers), list(root.filters), logging.root.manager.disable),
        "decimal": repr(decimal.getcontext()),
        "timeout": socket.getdefaulttimeout(),
        "temporary folder": tempfile.tempdir,
        "umask": _umask(),
    }


def _umask() -> int:
    """Read the umask, which can only be read by setting it."""
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def _of_joblib() -> dict[str, Any]:
    """Read the settings of what runs jobs and threads."""
    return {
        "scikit-learn": sklearn.get_config(),
        "joblib": (type(joblib.parallel.get_active_backend()[0]), joblib.effective_n_jobs(-1)),
        "pools": [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()],
    }


def read_state() -> dict[str, Any]:
    """Read all of it, under one name each."""
    parts = {
        "torch": _of_torch(),
        "numpy": _of_numpy(),
        "plots": _of_plots(),
        "python": _of_python(),
        "joblib": _of_joblib(),
    }
    return {
        f"{part}: {name}": value for part, found in parts.items() for name, value in found.items()
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Name what differs, with both values in short."""
    return [
        f"{name}: {_short(before[name])} became {_short(after[name])}"
        for name in before
        if before[name] != after[name]
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}..."


@contextmanager
def unchanged() -> Iterator[None]:
    """Assert that the block leaves the state as it was, however it ends."""
    before = read_state()
    try:
        yield
    finally:
        found = changes(before, read_state())
        assert not found, "\n".join(found)
