"""The files that ship beside the code: manifests and examples.

In a checkout they are the repository's top folders; an installed wheel carries them inside this package.
"""

from __future__ import annotations

from pathlib import Path

from aiqueue.queue.errors import NotFound

_PACKAGE = Path(__file__).parent
#: <repository>/cli/aiqueue/cli
_REPOSITORY = _PACKAGE.parents[2]


def manifests_path() -> Path:
    """The folder `manifests`.

    Raises:
        NotFound: neither a checkout nor a complete installation.
    """
    return _find("manifests")


def examples_path() -> Path:
    """The folder `examples`.

    Raises:
        NotFound: neither a checkout nor a complete installation.
    """
    return _find("examples")


def _find(name: str) -> Path:
    places = (_PACKAGE / name, _REPOSITORY / name)
    # The repository's folders count only beside its pyproject.toml: site-packages could hold any `examples`.
    if places[0].is_dir():
        return places[0]
    if places[1].is_dir() and (_REPOSITORY / "pyproject.toml").is_file():
        return places[1]
    raise NotFound(f"the folder {name} is neither at {places[0]} nor at {places[1]}: install aiqueue again")
