"""Registers fixtures and markers; the fixtures themselves live in `fix_*.py` beside this file."""

import importlib.util
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Whatever fails prints what reproduces it. Real parts answer when they answer, so no example has a deadline.
settings.register_profile("aiqueue", print_blob=True, derandomize=False, deadline=None)
settings.load_profile("aiqueue")

# A shell starts what it puts into the background deaf to Ctrl-C, and every program started here would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers and load every `fix_*.py`, by path: this folder is not on sys.path."""
    config.addinivalue_line("markers", "integration: needs Postgres")
    config.addinivalue_line("markers", "e2e: needs a Kubernetes cluster")
    for path in sorted(Path(__file__).parent.glob("fix_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Known by name, so that tests and other fixtures can import what it defines.
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        config.pluginmanager.register(module, path.stem)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Keep pytest-alembic from collecting its own tests from this file: its collector fails on pytest 9.

    Its fixtures stay, and its tests can be imported like any others.
    """
    plugins = session.config.pluginmanager
    if plugins.has_plugin("pytest-alembic"):
        plugins.unregister(name="pytest-alembic")
