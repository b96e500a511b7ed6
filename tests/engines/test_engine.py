"""Engines by name: what they can give, and what is refused before any work."""

from __future__ import annotations

import pytest

from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.errors import PrunevizError


def test_an_engine_is_a_kind_and_perhaps_an_address() -> None:
    assert LOCAL.is_local
    engine = Engine("ray://head:10001", gpus=0.25)
    assert (engine.kind, engine.address, engine.is_local) == ("ray", "head:10001", False)
    assert (engine.tries, engine.tasks_per_gpu) == (3, 4)
    assert (Engine("slurm", retries=0, gpus=2).tries, Engine("ray").tasks_per_gpu) == (0, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"on": "rai"}, "there is no engine 'rai'; did you mean 'ray'"),
        ({"on": "dask"}, r"dask is no engine; give .*dask://HOST:PORT"),
        ({"on": "slurm://node"}, "slurm://node is no engine"),
        ({"on": "ray://head"}, "ray://head has no host and port; give ray://HOST:PORT"),
        ({"on": "dask://head:"}, "has no host and port"),
        ({"gpus": 0.5}, "the engine local gives tasks no gpus"),
        ({"resources": {"tpu": "1"}}, "the engine local gives tasks no tpu"),
        ({"on": "slurm", "gpus": 0.5}, "0.5 GPUs cannot be given to a task; give a whole number$"),
        ({"on": "ray", "gpus": 1.5}, "1.5 GPUs cannot .* number, or a fraction of one"),
        ({"on": "dask://a:1", "gpus": 1}, "Dask hands out no GPUs"),
    ],
    ids=str,
)
def test_what_an_engine_cannot_give_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(PrunevizError, match=message):
        Engine(**given)  # type: ignore[arg-type]
