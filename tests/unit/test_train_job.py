"""What each of several training workers gets."""

import numpy as np
import pytest

from components.train.job import Job


@pytest.fixture
def job(tmp_path):
    np.save(tmp_path / "train_x.npy", np.arange(20, dtype=np.float32).reshape(10, 2))
    np.save(tmp_path / "train_y.npy", np.arange(10, dtype=np.float32))
    return Job("torch", {}, "regression", 0, (0, 0), str(tmp_path), 0, 1, False)


def test_one_worker_gets_every_row(job):
    x, y = job.load("train")
    assert len(x) == len(y) == 10


def test_workers_get_equal_shares_of_different_rows_so_that_none_waits_for_another(job):
    shares = [job.load("train", rank, 3) for rank in range(3)]
    assert [len(x) for x, _ in shares] == [len(y) for _, y in shares] == [3, 3, 3]
    rows = np.concatenate([y for _, y in shares])
    assert sorted(rows.tolist()) == list(range(9))
    for x, y in shares:
        assert (x[:, 0] == 2 * y).all()
