"""The short form is a part of the suite; `pytest tests/reliability --long`, with every family, takes hours."""
import pytest

from tests.reliability.fuzz import FUZZED


@pytest.fixture(scope="session")
def long(request):
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def families(long):
    return FUZZED if long else ("vae",)


def pytest_generate_tests(metafunc):
    if "family" in metafunc.fixturenames:
        short = getattr(metafunc.module, "SHORT", ["vae"])
        metafunc.parametrize("family", FUZZED if metafunc.config.getoption("--long") else short, scope="module")
