"""The table of faults that `make mutants` puts into the engine can be put in: it follows what the engine is now."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "mutants"


@pytest.fixture(scope="module")
def table() -> Iterator[ModuleType]:
    """`mutants/faults.py`: that folder is no package, and its program runs by itself."""
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("faults", FOLDER / "faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(FOLDER))
    del sys.modules["faults"]


def test_every_fault_can_be_put_in_and_leaves_a_module(table: ModuleType) -> None:
    for fault in table.FAULTS:
        text = (table.ROOT / fault.file).read_text()
        faulty = table.with_fault(fault, text)
        assert faulty != text, fault.name
        compile(faulty, fault.file, "exec")


def test_faults_are_of_one_line_told_apart_and_say_what_they_break(table: ModuleType) -> None:
    assert len(table.FAULTS) >= 40
    assert len({fault.name for fault in table.FAULTS}) == len(table.FAULTS)
    for fault in table.FAULTS:
        assert "\n" not in fault.fragment + fault.instead, fault.name
        assert fault.breaks.endswith("."), fault.name


def test_a_fragment_that_is_gone_or_there_twice_is_said(table: ModuleType) -> None:
    fault = table.Fault("x", "file.py", "a = 1", "a = 2", "Nothing.")
    assert table.with_fault(fault, "a = 1\n") == "a = 2\n"
    for text, count in (("b = 1\n", 0), ("a = 1\na = 1\n", 2)):
        with pytest.raises(table.FragmentNotFound, match=f"stands {count} times in file.py"):
            table.with_fault(fault, text)
