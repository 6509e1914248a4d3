"""Tensor files are as readable as all other new files, and hold what was given."""

import ast
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import sgxl_t
from sgxl_t.files.tensors import write_tensors


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_the_umask_decides_who_may_read(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
        (tmp_path / "b.txt").touch()
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in sorted(tmp_path.iterdir())]
    assert modes == [0o666 & ~mask] * 2


def test_views_shared_tensors_and_metadata_are_stored(tmp_path):
    x = torch.arange(6.0).view(2, 3).requires_grad_()
    write_tensors(tmp_path / "a", {"x": x.T, "y": x}, {"about": "z"})
    with safe_open(tmp_path / "a", framework="pt") as stored:
        assert torch.equal(stored.get_tensor("x"), x.T.detach())
        assert torch.equal(stored.get_tensor("y"), x.detach())
        assert stored.metadata() == {"about": "z"}


def test_nobody_else_in_the_package_writes_tensor_files():
    root = Path(sgxl_t.__file__).parent
    writers = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "save_file"
    }
    assert writers == {"files/tensors.py"}
