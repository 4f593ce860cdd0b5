"""For every test: the runtime before NumPy, one hypothesis profile, and an honest word about what was skipped."""
import nn  # noqa: F401, I001  (first: it prepares the process before NumPy is imported)

import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "inkling",
    max_examples=20,
    deadline=None,  # the first example may compile kernels
    derandomize=True,  # the same suite gives the same verdict
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("inkling")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background job, whose children would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)

NEEDS = {"INKLING_DATA": "real MNIST and Fashion-MNIST (set INKLING_DATA)", "torch": "PyTorch (extra: bench)"}


def pytest_addoption(parser) -> None:
    parser.addoption("--long", action="store_true", help="tests/reliability with every family: for hours")


def pytest_terminal_summary(terminalreporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    for word, need in NEEDS.items():
        names = sorted({report.nodeid for report in skipped if word in str(report.longrepr)})
        if names:
            terminalreporter.write_line(f"Not checked, for want of {need}:")
            for name in names:
                terminalreporter.write_line(f"  {name}")
