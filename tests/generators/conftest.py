"""What the tests of the judge and of the evaluation share."""
import pytest

from generators.judging import classifier
from nn.parallel import Threads
from tests.generators.squares import SMALL, squares


@pytest.fixture(scope="module")
def threads():
    pool = Threads(2)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def judge(threads):
    """A classifier that reads squares and all that their captions say."""
    return classifier.train_classifier(squares(200), 60, 0, threads, SMALL)
