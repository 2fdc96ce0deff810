"""Rows and soft targets in Parquet files: pairs that belong together, damage that is named."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from cluster_teachers import CLASSES, COLUMNS, save_bundle, write_files

from skdistill.distributed import LabelledParquet, label_parquet


@pytest.fixture
def labelled(tmp_path):
    paths = write_files(tmp_path / "rows", n_files=3, n_rows=40)
    bundle = save_bundle(tmp_path / "teachers")
    return paths, bundle, label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")


def test_a_shard_is_rows_soft_targets_and_labels(labelled):
    paths, bundle, shards = labelled
    assert len(shards) == 3
    for i, path in enumerate(paths):
        X, proba, y = shards.with_label("y")[i]
        rows = pd.read_parquet(path)
        pd.testing.assert_frame_equal(X, rows[COLUMNS])
        np.testing.assert_array_equal(y, rows["y"])
        np.testing.assert_allclose(proba, np.exp(bundle.labeller().log_proba(rows)), rtol=1e-6)
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-15)
    assert shards[-1][2] is None
    with pytest.raises(IndexError, match="There are 3 shards; 3 is none"):
        shards[3]


def test_metadata_say_where_targets_come_from(labelled):
    paths, bundle, shards = labelled
    metadata = json.loads(pq.read_metadata(shards.targets[0]).metadata[b"skdistill"])
    assert metadata["teachers"] == bundle.digest
    assert metadata["source_size"] == paths[0].stat().st_size
    assert metadata["columns"] == COLUMNS


def test_one_file_may_hold_rows_and_targets(labelled, tmp_path):
    paths, bundle, shards = labelled
    both = tmp_path / "both"
    both.mkdir()
    for path in paths:
        bundle.labeller()(pd.read_parquet(path)).to_parquet(both / path.name)
    own = LabelledParquet(both, bundle=bundle, label="y")
    for one, other in zip(own, shards.with_label("y"), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_student_may_see_other_columns_than_the_teachers(labelled, tmp_path):
    _, bundle, shards = labelled
    fewer = LabelledParquet(tmp_path / "rows", tmp_path / "soft", bundle=bundle, columns=["c", "y"])
    X, proba, _ = fewer[0]
    assert list(X.columns) == ["c", "y"]
    np.testing.assert_array_equal(proba, shards[0][1])


def test_labels_may_be_missing_in_some_rows(labelled, tmp_path):
    paths, bundle, _ = labelled
    for label in ("y", "code"):
        frame = pd.read_parquet(paths[0]).assign(code=1)
        frame["code"] = frame["code"].astype("Int64")
        frame.loc[frame.index[::2], ["y", "code"]] = None
        frame.to_parquet(paths[0])
        shards = label_parquet(tmp_path / "rows", bundle, tmp_path / "soft").with_label(label)
        np.testing.assert_array_equal(pd.isna(shards[0][2]), np.arange(40) % 2 == 0)


def test_missing_targets_are_counted(labelled, tmp_path):
    _, bundle, shards = labelled
    (tmp_path / "soft" / "rows-1.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 files have no soft targets yet.*rows-1"):
        LabelledParquet(tmp_path / "rows", tmp_path / "soft", bundle=bundle)
    with pytest.raises(ValueError, match="rows-1"):
        shards[1]


def test_targets_of_other_teachers_or_rows_are_refused(labelled, tmp_path):
    paths, _, shards = labelled
    other = save_bundle(tmp_path / "others", seed=1)
    with pytest.raises(ValueError, match=r"rows-0.*belong to another file or other teachers"):
        LabelledParquet(tmp_path / "rows", tmp_path / "soft", bundle=other)[0]
    paths[0].write_bytes(paths[1].read_bytes())
    with pytest.raises(ValueError, match=r"rows-0.*source_footer_sha256 differs"):
        shards[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has 0 bytes and is no Parquet file"),
        (b"PAR1 but not for long", "does not end as a Parquet file does"),
        (b"PAR1" + b"\0" * 20 + b"\xff\xff\0\0PAR1", "does not end as a Parquet file does"),
    ],
)
def test_damaged_rows_are_named(labelled, content, words):
    paths, _, shards = labelled
    paths[0].write_bytes(content)
    with pytest.raises(ValueError, match=f"rows-0.*{words}"):
        shards[0]


def test_a_missing_column_is_named(labelled):
    _, _, shards = labelled
    with pytest.raises(ValueError, match=r"rows-0.*lacks the column\(s\) \['truth'\].*label='...'"):
        shards.with_label("truth")[0]
    with pytest.raises(ValueError, match=r"rows-0.*'log_proba_no'.*go through label_parquet"):
        LabelledParquet(shards.sources, bundle=shards.bundle)[0]


def test_shards_and_bundles_say_what_they_are(labelled):
    _, bundle, shards = labelled
    text = repr(shards.with_label("y"))
    assert text == f"<LabelledParquet: 3 shards, the first {shards.sources[0]!r}, label='y'>"
    assert "joblib" not in repr(bundle)


def test_targets_beside_their_rows_would_overwrite_them(labelled, tmp_path):
    _, bundle, _ = labelled
    with pytest.raises(ValueError, match="would be overwritten"):
        label_parquet(tmp_path / "rows", bundle, tmp_path / "rows")
    with pytest.raises(ValueError, match="would be overwritten"):
        label_parquet(tmp_path / "rows", bundle, tmp_path)
    (tmp_path / "rows" / "soft").mkdir()
    for folder in (tmp_path / "rows" / "soft", tmp_path / "rows" / "not" / "yet"):
        with pytest.raises(ValueError, match="lies inside source"):
            label_parquet(tmp_path / "rows", bundle, folder)
    assert bundle.classes.tolist() == CLASSES


def test_shards_of_a_relabelling_that_was_left_half_done_are_refused(labelled, tmp_path):
    paths, bundle, shards = labelled
    other = label_parquet(paths[1], bundle, tmp_path / "other", teacher_weights=[1, 3])
    Path(shards.targets[1]).write_bytes(Path(other.targets[0]).read_bytes())
    mixed = LabelledParquet(tmp_path / "rows", tmp_path / "soft", bundle=bundle)
    assert len(mixed[0]) == 3
    with pytest.raises(ValueError, match=r"rows-1.*teacher_weights=\[0.25, 0.75\], those of the"):
        mixed[1]


def test_shards_do_not_depend_on_the_working_folder(tmp_path, monkeypatch):
    write_files(tmp_path / "rows", n_files=2)
    monkeypatch.chdir(tmp_path)
    shards = label_parquet("rows", save_bundle("teachers"), "soft")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(shards[1][0]) == 500
    frame = pd.read_parquet(tmp_path / "rows" / "rows-0.parquet")
    assert shards.bundle.labeller().log_proba(frame).shape == (500, 2)
