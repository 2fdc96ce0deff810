"""LabelledParquet: Parquet files of rows and of their soft targets, paired file by file."""

import copy
from typing import Any, Self

import numpy as np

from skdistill.scale.bundle import TeacherBundle
from skdistill.scale.labeller import log_proba_columns
from skdistill.scale.parquet import FITTED_ON, check_has, fingerprint, metadata_of, pa, pq
from skdistill.scale.storage import absolute, find_files, is_whole, open_place

# What a file's metadata say of the call that made it; the same for all shards.
_SETTINGS = ("averaging", "teacher_weights")
_LOCAL = (("file", "local"), "file")


class LabelledParquet:
    """Rows in Parquet files with soft targets, one shard a file.

    What :func:`label_parquet` returns and ``DistilledClassifier.fit_stream`` takes. A shard is
    read when it is asked for, and nothing is kept.

    Parameters
    ----------
    source : str, path-like or list of them
        The files that hold the features: a file, folder, glob, list, or fsspec URLs of them.
    targets : str or path-like, default=None
        The folder of soft targets, one file for each file of `source` and of the same relative
        name, as `label_parquet` writes them. None: the files of `source` hold both, as an engine
        writes them that ran ``bundle.labeller()`` over its own tables.
    bundle : TeacherBundle
        The teachers; names the classes and the features. Targets of other teachers are refused.
    columns : list of str, default=None
        The columns that the student sees; None: those of the bundle.
    label : str, default=None
        The column of `source` that holds true labels, which may be missing in some rows.
    skipped : dict, default=None
        Files of `source` to leave out, and why.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels of the columns of soft targets.
    sources, targets : list of str
        The files, shard by shard.
    quarantined : dict of str to str
        Damaged files that were left out, and why.

    Raises
    ------
    FileNotFoundError
        If there is no file, or one has no soft targets.
    """

    def __init__(
        self,
        source: Any,
        targets: Any = None,
        *,
        bundle: TeacherBundle,
        columns: Any = None,
        label: str | None = None,
        skipped: dict[str, str] | None = None,
    ) -> None:
        self._set(pair_files(source, targets), bundle, columns, label, skipped)

    @classmethod
    def _of_pairs(
        cls,
        pairs: list[tuple[str, str]],
        bundle: TeacherBundle,
        columns: list[str],
        skipped: dict[str, str],
    ) -> Self:
        """Return shards of files that are known: more may have come into the folder meanwhile."""
        new = cls.__new__(cls)
        new._set(pairs, bundle, columns, None, skipped)
        return new

    def _set(
        self,
        pairs: list[tuple[str, str]],
        bundle: TeacherBundle,
        columns: Any,
        label: str | None,
        skipped: dict[str, str] | None,
    ) -> None:
        self.bundle = bundle
        self.classes = bundle.classes
        self.columns = list(bundle.feature_names if columns is None else columns)
        self.label = label
        self.quarantined = dict(skipped or {})
        pairs = [pair for pair in pairs if pair[0] not in self.quarantined]
        self.sources = [source for source, _ in pairs]
        self.targets = [target for _, target in pairs]
        self._settings: dict[str, Any] = {}
        if self.sources != self.targets:
            self._read_settings()

    def _read_settings(self) -> None:
        """Raise where soft targets are missing; learn how the first of them were made."""
        missing = []
        for source, target in zip(self.sources, self.targets, strict=True):
            fs, path = open_place(target)
            if not is_whole(fs, path):
                missing.append(source)
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(self.sources)} files have no soft targets yet, the first "
                f"is {missing[0]}. Run label_parquet again: it skips finished files."
            )
        if self.targets:
            metadata = metadata_of(*open_place(self.targets[0])) or {}
            self._settings = {key: metadata.get(key) for key in _SETTINGS}

    def with_label(self, label: str | None) -> Self:
        """Return the same shards with another column of true labels.

        Parameters
        ----------
        label : str or None
            The column's name.

        Returns
        -------
        shards : LabelledParquet
        """
        other = copy.copy(self)
        other.label = label
        return other

    def __repr__(self) -> str:
        """Say how many shards there are, and of what."""
        first = f", the first {self.sources[0]!r}" if self.sources else ""
        quarantined = f", {len(self.quarantined)} quarantined" if self.quarantined else ""
        label = "" if self.label is None else f", label={self.label!r}"
        return f"<LabelledParquet: {len(self)} shards{first}{quarantined}{label}>"

    def __len__(self) -> int:
        """Return the number of shards."""
        return len(self.sources)

    def __getitem__(self, shard: int) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """Read a shard.

        Parameters
        ----------
        shard : int
            Its number.

        Returns
        -------
        X : DataFrame of shape (n, n_features)
            The columns that the student sees.
        proba : ndarray of shape (n, n_classes), float64
            Soft targets; rows sum to 1.
        y : ndarray of shape (n,), or None
            True labels, None or NaN where a row has none; None without `label`.

        Raises
        ------
        ValueError
            If the shard is damaged, or its targets belong to other rows or teachers.
        """
        if not -len(self) <= shard < len(self):
            raise IndexError(f"There are {len(self)} shards; {shard} is none of them.")
        source, target = self.sources[shard], self.targets[shard]
        try:
            return self._read(source, target)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise ValueError(f"{source}: {error}") from error

    def _read(self, source: str, target: str) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """Read the rows of a file and their targets."""
        names = [*self.columns, *([] if self.label is None else [self.label])]
        targets = log_proba_columns(self.classes)
        fs, path = open_place(source)
        with fs.open(path, "rb") as file:
            size, footer = fingerprint(file)
            parquet = pq.ParquetFile(file)
            wanted = [*names, *targets] if source == target else names
            check_has(self.columns, parquet, FITTED_ON)
            check_has(names, parquet, "Name the column of true labels with label='...', or None")
            check_has(wanted, parquet, "Rows without soft targets go through label_parquet")
            table = parquet.read(columns=wanted)
        if source != target:
            other = self._read_targets(
                target, {"source_size": size, "source_footer_sha256": footer}
            )
        else:
            other = table
        log_proba = np.column_stack([other.column(name).to_numpy() for name in targets])
        if len(log_proba) != table.num_rows:
            raise ValueError(f"it has {table.num_rows} rows and {len(log_proba)} soft targets")
        proba = np.exp(log_proba.astype(np.float64))
        X = table.select(self.columns).to_pandas()
        y = None
        if self.label is not None:
            y = table.column(self.label).to_pandas().to_numpy()
        return X, proba / proba.sum(axis=1, keepdims=True), y

    def _read_targets(self, target: str, belongs_to: dict[str, Any]) -> Any:
        """Read soft targets that belong to these rows and teachers."""
        fs, path = open_place(target)
        metadata = metadata_of(fs, path) or {}
        for key, value in {"teachers": self.bundle.digest, **belongs_to}.items():
            if metadata.get(key) != value:
                raise ValueError(
                    f"the soft targets in {target} belong to another file or other teachers ({key} "
                    "differs). Run label_parquet again"
                )
        for key, value in self._settings.items():
            if metadata.get(key) != value:
                raise ValueError(
                    f"the soft targets in {target} were made with {key}={metadata.get(key)!r}, "
                    f"those of the first shard with {value!r}: a run of label_parquet was left "
                    "half done. Run it again"
                )
        with fs.open(path, "rb") as file:
            return pq.read_table(file)


def pair_files(source: Any, targets: Any) -> list[tuple[str, str]]:
    """Return the source files with the files of their targets, which have the same names."""
    fs, paths, names = find_files(source, ".parquet")
    urls = [fs.unstrip_protocol(p) if fs.protocol not in _LOCAL else p for p in paths]
    if targets is None:
        return [(url, url) for url in urls]
    folder = absolute(targets)
    target_fs, place = open_place(folder)
    if type(target_fs) is type(fs):
        _check_apart(source, paths, place)
    return [(url, f"{folder}/{name}") for url, name in zip(urls, names, strict=True)]


def _check_apart(source: Any, paths: list[str], folder: str) -> None:
    """Raise where soft targets would overwrite rows, or be taken for rows by the next run."""
    inside = [p for p in paths if p.startswith(f"{folder}/")]
    if inside:
        raise ValueError(
            f"The folder of soft targets {folder} holds files of source ({inside[0]}), which would "
            "be overwritten. Choose another folder."
        )
    for one in source if isinstance(source, list | tuple) else [source]:
        fs, place = open_place(one)
        if folder.startswith(f"{place}/") and fs.isdir(place):
            raise ValueError(
                f"The folder of soft targets {folder} lies inside source {place}: the next run "
                "would take soft targets for rows. Choose a folder beside it."
            )
