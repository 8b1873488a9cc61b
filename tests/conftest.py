"""Registers fixtures and markers; the fixtures themselves live in `fix_*.py` beside this file."""

import importlib
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Whatever fails prints what reproduces it. Real parts answer when they answer, and five shares leave one another little, so nothing here is timed.
settings.register_profile(
    "aiqueue", print_blob=True, derandomize=False, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("aiqueue")

# Several clusters share a machine with their tests: one core and some memory more for each program cost a fifth less than what they are used to.
os.environ.setdefault("GOMAXPROCS", "1")
os.environ.setdefault("GOGC", "300")

# A shell starts what it puts into the background deaf to Ctrl-C, and every program started here would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers and load every `fix_*.py`, by name: this folder is on sys.path only while they find one another."""
    config.addinivalue_line("markers", "integration: needs Postgres")
    config.addinivalue_line("markers", "e2e: needs a Kubernetes cluster")
    here = Path(__file__).parent
    sys.path.insert(0, str(here))
    try:
        for path in sorted(here.glob("fix_*.py")):
            config.pluginmanager.register(importlib.import_module(path.stem), path.stem)
    finally:
        sys.path.remove(str(here))


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Keep pytest-alembic from collecting its own tests from this file: its collector fails on pytest 9.

    Its fixtures stay, and its tests can be imported like any others.
    """
    plugins = session.config.pluginmanager
    if plugins.has_plugin("pytest-alembic"):
        plugins.unregister(name="pytest-alembic")
