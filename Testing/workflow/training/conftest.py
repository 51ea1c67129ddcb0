"""What tests of trainings share."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def threads_and_signals_as_before() -> Iterator[None]:
    """For commands that run in the tests' own process: they choose torch's threads and take SIGTERM."""
    import torch

    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)
