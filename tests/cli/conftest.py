"""Models that several commands are tried on."""

import pytest
from tiny_models import tiny_folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder of a tiny model per kind of condition."""
    root = tmp_path_factory.mktemp("models")
    return {kind: str(tiny_folder(root / kind, kind)) for kind in ("class", "text", "none")}
