"""What of transformers' common tests does not pass here stands in public files, each method with its reason.

For `test_NAME.py`, `NAME-xfails.txt` lists the methods that fail, and one that passes has to leave it; `NAME-skips.txt`
lists those that skip themselves. Whatever else does not pass fails the session.
"""

from collections.abc import Generator
from pathlib import Path

import pytest
from sdist import OWN

FOLDER = Path(__file__).parent
#: With what transformers marks its common tests.
MARKS = ("accelerate_tests", "flash_attn_test", "generate", "is_pt_flax_cross_test", "is_pt_tf_cross_test")


def pytest_configure(config: pytest.Config) -> None:
    """Know transformers' marks."""
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: of transformers")


def _listed(tests: Path, kind: str) -> dict[str, str]:
    """The methods of a file of tests that "xfails" or "skips" lists, and why."""
    path = tests.with_name(f"{tests.stem.removeprefix('test_')}-{kind}.txt")
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let methods that are known to fail be required to; refuse names that no method has."""
    of_peer = (
        [] if OWN else [item for item in items if isinstance(item, pytest.Function) and item.path.parent == FOLDER]
    )
    for tests, case in {(item.path, item.cls) for item in of_peer}:
        failing, skipping = _listed(tests, "xfails"), _listed(tests, "skips")
        if both := failing.keys() & skipping.keys():
            raise pytest.UsageError(f"Listed as failing and as skipped: {', '.join(sorted(both))}.")
        if unknown := [name for name in failing | skipping if not hasattr(case, name)]:
            raise pytest.UsageError(f"{tests.name} has no {', '.join(unknown)}, which its exceptions list.")
    for item in of_peer:
        if reason := _listed(item.path, "xfails").get(item.name):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A method that skips itself has to be listed."""
    report = yield
    skips_itself = report.skipped and not hasattr(report, "wasxfail")
    if skips_itself and not OWN and item.path.parent == FOLDER and item.name not in _listed(item.path, "skips"):
        report.outcome = "failed"
        report.longrepr = f"{item.name} skips itself, and is not listed: {report.longrepr[2]}"
    return report
