"""Which way of running lanes is fastest is tested in tests/tuning; here one will do."""

import pytest

from jaxopt_lectures.tuning.lanes import Way
from jaxopt_lectures.tuning.runs import Runs


@pytest.fixture(autouse=True, scope="module")
def one_way():
    """Four lanes in one program, nothing tried."""

    def choose(self, lanes, steps):
        self.way = Way("loop", 4)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runs, "choose", choose)
        yield
