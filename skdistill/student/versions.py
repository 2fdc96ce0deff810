"""Version stamps in pickles, and the warning when they do not match."""

from importlib.metadata import version
from typing import Any

from skdistill.tables import warn_user

__all__ = ["SkdistillVersionWarning", "check_stamp", "stamp"]

_STAMPED = ("skdistill", "scikit-learn", "numpy")


class SkdistillVersionWarning(UserWarning):
    """A pickle was made with other versions than the ones that read it.

    Pickles are promised for equal versions only. Use
    ``student_.save(path)`` for a file that later releases read.
    """


def stamp() -> dict[str, str]:
    """Return the versions a pickle depends on."""
    return {name: version(name) for name in _STAMPED}


def check_stamp(state: dict[str, Any], type_name: str) -> None:
    """Take the stamp out of an unpickled state and warn where it differs from today's versions."""
    stamped = state.pop("_versions", None)
    if stamped is None:
        return
    current = stamp()
    changed = [
        f"{name} {stamped[name]} (now {current[name]})"
        for name in _STAMPED
        if name in stamped and stamped[name] != current[name]
    ]
    if changed:
        warn_user(
            f"This {type_name} was pickled with {', '.join(changed)}. Its predictions are promised "
            "for equal versions only; fit it again, or keep the student in a file made by save().",
            SkdistillVersionWarning,
        )
