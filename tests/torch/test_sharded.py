"""Modules that several processes share: norms are those of the whole, on each of them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sharded

SCRIPT = Path(sharded.__file__)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsdp", "tensor", "ddp"])
def test_two_processes_see_the_norms_of_one(kind, tmp_path):
    root = SCRIPT.parents[2]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(root), str(SCRIPT.parent)]),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    workers = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(tmp_path), kind],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for worker in workers:
            _, said = worker.communicate(timeout=240)
            assert worker.returncode == 0, said
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    expected = sharded.train(sharded.network(kind), kind)
    for rank in range(2):
        df = pd.read_csv(tmp_path / f"{rank}.csv")
        df["name"] = df.name.str.removeprefix("module.")
        assert df.name.tolist() == expected.name.tolist()
        columns = df.columns[df.columns.str.startswith(("log10", "plain"))]
        np.testing.assert_allclose(df[columns], expected[columns], rtol=1e-4, atol=1e-5)
        assert (df.status == "ok").all()
