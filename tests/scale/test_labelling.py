"""label_parquet: the same bytes wherever it runs, and after whatever happens on the way."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import fsspec
import joblib
import numpy as np
import pandas as pd
import pytest
from cluster_teachers import (
    content_of,
    deadly,
    fussy,
    make_frame,
    put_deadly_row,
    save_bundle,
    slow,
    teacher_of,
    write_files,
)
from fsspec.implementations.local import LocalFileSystem
from quick_students import make_data, quick
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from skdistill import BadArtefactError, DistilledClassifierCV
from skdistill.distributed import LabelledParquet, LabellingError, label_parquet
from skdistill.teachers import progress as _progress

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")


def times(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}


def test_bytes_do_not_depend_on_the_run(tmp_path):
    write_files(tmp_path / "rows")
    bundle = save_bundle(tmp_path / "teachers")
    label_parquet(tmp_path / "rows", bundle, tmp_path / "one")
    label_parquet(str(tmp_path / "rows" / "*.parquet"), bundle, tmp_path / "two")
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")
    assert len(content_of(tmp_path / "one")) == 6


def test_files_are_counted_on_one_line_if_asked_for(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(_progress, "_PAUSE", 0.0)
    write_files(tmp_path / "rows")
    bundle = save_bundle(tmp_path / "teachers")
    label_parquet(tmp_path / "rows", bundle, tmp_path / "one")
    assert capfd.readouterr() == ("", "")
    label_parquet(tmp_path / "rows", bundle, tmp_path / "two", verbose=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "label_parquet: file: 100%" in err
    assert err.count("\n") == 1
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")


def test_batches_bound_what_teachers_are_asked_at_once(tmp_path):
    write_files(tmp_path / "rows", n_files=1)
    bundle = save_bundle(tmp_path / "teachers")
    whole = label_parquet(tmp_path / "rows", bundle, tmp_path / "one")
    parts = label_parquet(tmp_path / "rows", bundle, tmp_path / "two", batch_rows=7)
    np.testing.assert_allclose(whole[0][1], parts[0][1], rtol=1e-6)


def test_finished_files_are_skipped_and_changed_ones_are_not(tmp_path):
    paths = write_files(tmp_path / "rows")
    bundle = save_bundle(tmp_path / "teachers")
    label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    before = times(tmp_path / "soft")
    label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    assert times(tmp_path / "soft") == before
    (tmp_path / "soft" / "rows-1.parquet").unlink()
    (tmp_path / "soft" / "rows-2.parquet").write_bytes(b"half a file")
    frame = pd.read_parquet(paths[3])
    frame.loc[0, "a"] += 1
    frame.to_parquet(paths[3])
    label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    after = times(tmp_path / "soft")
    assert {name for name in after if after[name] != before.get(name)} == {
        "rows-1.parquet",
        "rows-2.parquet",
        "rows-3.parquet",
    }


@pytest.mark.parametrize("change", [{"averaging": "logits"}, {"teacher_weights": [1, 2]}, None])
def test_other_teachers_or_means_label_everything_again(tmp_path, change):
    write_files(tmp_path / "rows", n_files=2)
    bundle = save_bundle(tmp_path / "teachers")
    label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    before = content_of(tmp_path / "soft")
    bundle = save_bundle(tmp_path / "teachers", seed=0 if change else 1)
    label_parquet(tmp_path / "rows", bundle, tmp_path / "soft", **(change or {}))
    after = content_of(tmp_path / "soft")
    assert all(after[name] != before[name] for name in before)


def test_what_a_killed_writer_left_is_cleared_even_beside_finished_files(tmp_path):
    write_files(tmp_path / "rows", n_files=2)
    bundle = save_bundle(tmp_path / "teachers")
    label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    clean = content_of(tmp_path / "soft")
    (tmp_path / "soft" / f"rows-0.parquet.{'a' * 16}.tmp").write_bytes(b"half")
    label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    assert content_of(tmp_path / "soft") == clean


def test_damaged_files_are_named_and_all_others_are_labelled(tmp_path):
    paths = write_files(tmp_path / "rows", n_files=5)
    bundle = save_bundle(tmp_path / "teachers", teacher_of(fussy))
    paths[1].write_bytes(paths[1].read_bytes()[:-10])
    content = bytearray(paths[2].read_bytes())
    content[4:600] = bytes(596)
    paths[2].write_bytes(content)
    put_deadly_row(paths[3], row=77)
    with pytest.raises(LabellingError, match="3 of 5 files could not be labelled") as caught:
        label_parquet(tmp_path / "rows", bundle, tmp_path / "soft", batch_rows=50)
    assert list(caught.value.failures) == [str(path) for path in paths[1:4]]
    assert "rows-1.parquet: ValueError: it does not end as a Parquet file" in str(caught.value)
    assert "teacher 2" in caught.value.failures[str(paths[3])]
    assert "nan in row 77" in caught.value.failures[str(paths[3])]
    assert sorted(content_of(tmp_path / "soft")) == ["rows-0.parquet", "rows-4.parquet"]


def test_quarantined_files_are_left_out_of_the_shards(tmp_path):
    paths = write_files(tmp_path / "rows", n_files=3)
    bundle = save_bundle(tmp_path / "teachers")
    paths[1].write_bytes(b"")
    with pytest.warns(UserWarning, match=r"Quarantined: 1 of 3 .*rows-1"):
        shards = label_parquet(
            tmp_path / "rows", bundle, tmp_path / "soft", on_bad_partition="quarantine"
        )
    assert len(shards) == 2
    assert list(shards.quarantined) == [str(paths[1])]
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(LabellingError, match="3 of 3 files could not be labelled: "):
        label_parquet(tmp_path / "rows", bundle, tmp_path / "soft", on_bad_partition="quarantine")


def test_columns_may_have_other_names_in_the_files(tmp_path):
    paths = write_files(tmp_path / "rows", n_files=1)
    bundle = save_bundle(tmp_path / "teachers")
    expected = label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")[0][1]
    pd.read_parquet(paths[0]).rename(columns=str.upper).to_parquet(paths[0])
    with pytest.raises(LabellingError, match=r"lacks the column\(s\) \['a', 'b', 'c'\]"):
        label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    shards = label_parquet(tmp_path / "rows", bundle, tmp_path / "soft", columns=["A", "B", "C"])
    np.testing.assert_array_equal(shards[0][1], expected)
    with pytest.raises(ValueError, match="columns must name 3 columns"):
        label_parquet(tmp_path / "rows", bundle, tmp_path / "soft", columns=["A"])


def test_a_store_without_rename_gets_markers(tmp_path):
    write_files(tmp_path / "rows", n_files=2)
    bundle = save_bundle(tmp_path / "teachers")
    local = label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    place = f"memory://{tmp_path.name}"
    remote = label_parquet(tmp_path / "rows", bundle, place)
    for one, other in zip(remote, local, strict=True):
        np.testing.assert_array_equal(one[1], other[1])
    fs = fsspec.filesystem("memory")
    target = remote.targets[0].removeprefix("memory:/")
    fs.rm_file(f"{target}.done")
    again = label_parquet(tmp_path / "rows", bundle, place)
    assert fs.exists(f"{target}.done")
    np.testing.assert_array_equal(again[0][1], local[0][1])


def test_bad_parameters_are_named(tmp_path):
    bundle = save_bundle(tmp_path / "teachers")
    with pytest.raises(TypeError, match=r"bundle must be a TeacherBundle, got list.*save"):
        label_parquet(tmp_path, [], tmp_path / "soft")
    with pytest.raises(ValueError, match=r"batch_rows must be an integer >= 1; got 0"):
        label_parquet(tmp_path, bundle, tmp_path / "soft", batch_rows=0)
    with pytest.raises(ValueError, match=r"on_bad_partition must be .*got 'ignore'"):
        label_parquet(tmp_path, bundle, tmp_path / "soft", on_bad_partition="ignore")
    with pytest.raises(TypeError, match=r"client must be a distributed.Client or None, got str"):
        label_parquet(tmp_path, bundle, tmp_path / "soft", client="scheduler:8786")
    with pytest.raises(FileNotFoundError, match="names no file"):
        label_parquet(tmp_path / "nothing", bundle, tmp_path / "soft")


def test_files_that_come_during_a_run_wait_for_the_next(tmp_path, monkeypatch):
    write_files(tmp_path / "rows", n_files=2)
    bundle = save_bundle(tmp_path / "teachers")
    open_file = LocalFileSystem._open

    def and_another_comes(fs, path, *args, **kwargs):
        make_frame(50).to_parquet(tmp_path / "rows" / "rows-2.parquet")
        return open_file(fs, path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "_open", and_another_comes)
        assert len(label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")) == 2
    assert len(label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")) == 3


@pytest.mark.parametrize(
    ("error", "n_failures"), [(ConnectionError, 1), (ConnectionError, 2), (PermissionError, 1)]
)
def test_a_store_that_does_not_answer_is_asked_twice(tmp_path, monkeypatch, error, n_failures):
    paths = write_files(tmp_path / "rows", n_files=3)
    bundle = save_bundle(tmp_path / "teachers")
    open_file, failed = LocalFileSystem._open, []

    def out_of_reach(fs, path, *args, **kwargs):
        if path == str(paths[1]) and len(failed) < n_failures:
            failed.append(path)
            raise error("no answer")
        return open_file(fs, path, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "_open", out_of_reach)
    if error is ConnectionError and n_failures == 1:
        assert len(label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")) == 3
    else:
        with pytest.raises(LabellingError, match=rf"1 of 3 .*rows-1.*{error.__name__}: no answer"):
            label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    assert len(failed) == n_failures


@pytest.fixture(scope="module")
def scheduler_settings():
    settings = {
        "distributed.scheduler.allowed-failures": 1,
        # A busy machine takes its time to start a worker again, and nothing waits for ever.
        "distributed.deploy.lost-worker-timeout": "120s",
        "distributed.scheduler.no-workers-timeout": "180s",
    }
    with dask.config.set(settings):
        yield


def new_cluster():
    return distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        preload=["skdistill.distributed", "sklearn.tree"],
    )


@pytest.fixture(scope="module")
def client(scheduler_settings):
    with new_cluster() as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def expected(tmp_path):
    write_files(tmp_path / "rows")
    bundle = save_bundle(tmp_path / "teachers", teacher_of(slow))
    label_parquet(tmp_path / "rows", bundle, tmp_path / "expected")
    return bundle, content_of(tmp_path / "expected")


@pytest.mark.distributed
def test_a_cluster_writes_the_same_bytes_as_this_process(client, tmp_path, expected):
    bundle, content = expected
    shards = label_parquet(tmp_path / "rows", bundle, tmp_path / "soft", client=client)
    assert content_of(tmp_path / "soft") == content
    assert len(shards) == 6


@pytest.mark.distributed
def test_a_worker_killed_on_the_way_changes_no_bit(client, tmp_path, expected):
    bundle, content = expected
    victim = next(iter(client.run(os.getpid).values()))

    def kill():
        while not list((tmp_path / "soft").glob("*.parquet")):
            time.sleep(0.02)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    label_parquet(tmp_path / "rows", bundle, tmp_path / "soft", client=client)
    killer.join()
    assert content_of(tmp_path / "soft") == content
    assert victim not in client.run(os.getpid).values()


@pytest.mark.distributed
def test_a_file_that_kills_its_worker_every_time_is_named(client, tmp_path):
    paths = write_files(tmp_path / "rows", n_files=4)
    put_deadly_row(paths[1])
    bundle = save_bundle(tmp_path / "teachers", teacher_of(deadly))
    with pytest.raises(LabellingError, match=r"1 of 4 files .*rows-1.*its worker died every time"):
        label_parquet(tmp_path / "rows", bundle, tmp_path / "soft", client=client)
    assert sorted(content_of(tmp_path / "soft")) == [f"rows-{i}.parquet" for i in (0, 2, 3)]


@pytest.mark.distributed
def test_damage_and_tampering_are_named_by_workers_too(client, tmp_path):
    paths = write_files(tmp_path / "rows", n_files=3)
    paths[2].write_bytes(paths[2].read_bytes()[:-3])
    bundle = save_bundle(tmp_path / "teachers")
    with pytest.raises(LabellingError, match=r"1 of 3 files .*rows-2.*does not end"):
        label_parquet(tmp_path / "rows", bundle, tmp_path / "soft", client=client)
    other = save_bundle(tmp_path / "others", seed=5)
    for file in (tmp_path / "others").glob("*.joblib"):
        file.write_bytes(b"tampered")
    with pytest.raises(LabellingError, match=BadArtefactError.__name__) as caught:
        label_parquet(tmp_path / "rows", other, tmp_path / "soft2", client=client)
    assert len(caught.value.failures) == 3
    assert not (tmp_path / "soft2").exists()


@pytest.mark.distributed
def test_two_drivers_on_one_folder_leave_whole_files(client, tmp_path, expected):
    bundle, content = expected
    errors = []

    def drive(own_client):
        try:
            label_parquet(tmp_path / "rows", bundle, tmp_path / "soft", client=own_client)
        except Exception as error:
            errors.append(error)

    with distributed.Client(client.scheduler.address, set_as_default=False) as second:
        drivers = [threading.Thread(target=drive, args=(c,)) for c in (client, second)]
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join()
    assert not errors
    assert content_of(tmp_path / "soft") == content


@pytest.mark.distributed
def test_a_rerun_after_the_cluster_went_down_finishes_the_rest(
    client, tmp_path, expected, scheduler_settings
):
    bundle, content = expected
    soft = tmp_path / "soft"
    with new_cluster() as cluster, distributed.Client(cluster, set_as_default=False) as doomed:
        victims = list(doomed.run(os.getpid).values())

        def tear_down():
            while len(list(soft.glob("*.parquet"))) < 2:
                time.sleep(0.02)
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            cluster.close(timeout=20)

        breaker = threading.Thread(target=tear_down)
        breaker.start()
        with pytest.raises(LabellingError, match=r"cluster went away .*skips finished files"):
            label_parquet(tmp_path / "rows", bundle, soft, client=doomed)
        breaker.join()
    finished = times(soft)
    assert 2 <= len([name for name in finished if name.endswith(".parquet")]) < 6
    label_parquet(tmp_path / "rows", bundle, soft, client=client)
    assert content_of(soft) == content
    whole = {name: t for name, t in finished.items() if name.endswith(".parquet")}
    assert whole.items() <= times(soft).items()


@pytest.mark.distributed
def test_a_cluster_without_workers_puts_no_file_into_quarantine(tmp_path):
    write_files(tmp_path / "rows", n_files=2)
    bundle = save_bundle(tmp_path / "teachers")
    settings = {"distributed.scheduler.no-workers-timeout": "1s"}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.raises(LabellingError, match=r"cluster went away when 0 of 2 .*skips finished"),
    ):
        label_parquet(
            tmp_path / "rows",
            bundle,
            tmp_path / "soft",
            client=client,
            on_bad_partition="quarantine",
        )


@pytest.mark.distributed
def test_grid_searches_on_a_cluster_score_as_here(client):
    X, y = make_data(120)
    grid = {"temperature": [1.0, 4.0], "alpha": [0.5, 1.0]}
    params = {"max_epochs": 5, "dtype": "float64"}
    search = GridSearchCV(quick([LogisticRegression()], cv=2, **params), grid, cv=2)
    here = clone(search).fit(X, y)
    with joblib.parallel_config(backend="dask"):
        there = clone(search).fit(X, y)
    name = "mean_test_score"
    np.testing.assert_array_equal(here.cv_results_[name], there.cv_results_[name])


@pytest.mark.distributed
def test_the_stacked_search_on_a_cluster_scores_as_here(client):
    X, y = make_data(120)
    student = quick([LogisticRegression()], cv=2, max_epochs=5, dtype="float64")
    search = DistilledClassifierCV(student, temperatures=(1, 4), alphas=(0, 1), cv=2, n_jobs=2)
    here = clone(search).set_params(n_jobs=None).fit(X, y)
    with joblib.parallel_config(backend="dask"):
        there = search.fit(X, y)
    name = "mean_test_score"
    np.testing.assert_allclose(here.cv_results_[name], there.cv_results_[name], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.distributed
def test_ray_writes_what_dask_writes(tmp_path):
    pytest.importorskip("ray")
    write_files(tmp_path / "rows", n_files=3)
    bundle = save_bundle(tmp_path / "teachers")
    expected = label_parquet(tmp_path / "rows", bundle, tmp_path / "soft").with_label("y")
    code = f"""
        import ray
        from skdistill.distributed import TeacherBundle

        ray.init(num_cpus=2, include_dashboard=False)
        labeller = TeacherBundle.load({str(tmp_path / "teachers")!r}).labeller()
        rows = ray.data.read_parquet({str(tmp_path / "rows")!r})
        rows.map_batches(labeller, batch_format="pandas", batch_size=None).write_parquet(
            {str(tmp_path / "labelled")!r}
        )
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    found = LabelledParquet(tmp_path / "labelled", bundle=bundle, label="y")

    def sorted_rows(shards):
        rows = np.concatenate([np.column_stack([X, proba]) for X, proba, _ in shards])
        return rows[np.lexsort(rows.T)]

    np.testing.assert_array_equal(sorted_rows(found), sorted_rows(expected))
