"""Ranks, a Ray cluster and an S3 server at once, with nodes, ranks and answers that are lost."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

import pruneviz as pv
from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.errors import PrunevizError
from pruneviz.log.spooled_runs import in_spool, upload_runs, waiting_runs
from pruneviz.stores.spool import spool_root
from pruneviz.stores.urls import file_system
from tests.support.engine_runs import content, plans_of, record_on
from tests.support.own_loop import run_loop
from tests.support.s3_server import BUCKET, FAULTS, S3Server, environment, s3_server

pytestmark = pytest.mark.soak

MINUTES = 30
EPOCHS = 30
RANK_EPOCHS = 12
_CLOSE = 1e-9  # relative to the largest value of a column


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with s3_server(tmp_path) as running:
        for name, value in environment(running).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PRUNEVIZ_MIRROR", str(tmp_path / "mirror"))
        monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "spool"))
        file_system(f"s3://{BUCKET}").clear_instance_cache()  # of another address
        yield running


class Ranks(threading.Thread):
    """Two ranks that train, are killed at random instants, and go on, until they are done.

    Args:
        url: Where they record.
        folder: For their checkpoint.
        draw: Says when one of them is killed.
    """

    def __init__(self, url: str, folder: Path, draw: random.Random) -> None:
        super().__init__()
        self._draw, self.kills = draw, 0
        self._command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        self._command += ["--standalone", "-m", "tests.support.ranks_in_bucket"]
        self._command += [url, str(folder / "checkpoint.pt"), str(RANK_EPOCHS)]
        self.said: list[str] = []

    def run(self) -> None:
        """Start the ranks until they end well; at most three times one of them is killed."""
        for _ in range(9):
            started = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
            if self.kills < 3:
                time.sleep(self._draw.uniform(5.0, 40.0))
                with suppress(psutil.Error, IndexError):
                    self._draw.choice(psutil.Process(started.pid).children()).kill()
                    self.kills += 1
            _, said = started.communicate(timeout=600)
            if started.returncode == 0:
                return
            self.said.append(said)
        raise AssertionError(self.said[-1])


@pytest.mark.timeout(60 * MINUTES + 1500)
@pytest.mark.filterwarnings("ignore")
def test_ranks_a_cluster_and_a_bucket_together_lose_nothing(
    ray: Any, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans, draw = plans_of(3, epochs=EPOCHS), random.Random(0)
    record_on(LOCAL, plans, tmp_path / "local", at_once=2)
    (tmp_path / "alone").mkdir()
    run_loop(tmp_path / "alone", "after", epochs=RANK_EPOCHS)
    until, number = time.monotonic() + 60 * MINUTES, 0
    while time.monotonic() < until:
        base = f"s3://{BUCKET}/round{number}"
        folder = tmp_path / f"round{number}"
        folder.mkdir()
        server.faults(0.2, *FAULTS, seed=number)
        ranks = Ranks(f"{base}/ranks", folder, random.Random(number))
        ranks.start()
        try:
            _record_while_a_node_dies(in_spool(f"{base}/runs"), plans, draw, monkeypatch)
        finally:
            ranks.join()
            server.faults()
        assert all(error is None for _, error in upload_runs(waiting_runs(spool_root())))
        assert not waiting_runs(spool_root())
        for plan in plans:
            assert_equal(f"{base}/runs/{plan.run}", tmp_path / "local" / plan.run)
        assert_close(f"{base}/ranks", tmp_path / "alone" / "run")
        assert pv.faults(base).empty
        number += 1
    assert number


def _record_while_a_node_dies(
    out: Path, plans: list[Any], draw: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Record plans on two nodes of a cluster, of which one is killed at a random instant."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    after = draw.uniform(5.0, 40.0)
    killing = threading.Timer(after, lambda: cluster.remove_node(nodes[0], allow_graceful=False))
    killing.start()
    try:
        for _ in range(5):
            with suppress(PrunevizError):  # what a store that fails left to be repeated
                record_on(Engine("ray"), plans, out)
                return
        record_on(Engine("ray"), plans, out)
    finally:
        killing.join()
        cluster.shutdown()


def assert_equal(url: str, path: Path) -> None:
    """Check that a run in the store is one of a disk, to the bit but for times."""
    found, expected = content(url), content(path)
    assert found[1] == expected[1]
    for table, frame in expected[0].items():
        pd.testing.assert_frame_equal(found[0][table], frame, check_exact=True, obj=url)


def assert_close(url: str, path: Path) -> None:
    """Check that two ranks recorded what one process does, but for rounding."""
    found, expected = (pv.load(where, unfinished="error").filters for where in (url, path))
    for name in expected.columns.drop("run"):
        one, other = found[name], expected[name]
        if pd.api.types.is_float_dtype(other):
            largest = np.nanmax(np.abs(other), initial=0.0)
            np.testing.assert_allclose(one, other, rtol=0, atol=_CLOSE * largest, err_msg=name)
        else:
            assert (one == other).all(), name
