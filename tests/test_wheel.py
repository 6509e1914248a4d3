"""The wheel holds what the package reads beside its code, and works where there is no source tree."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BESIDE_CODE = [
    path
    for path in sorted((ROOT / "sgxl_t").rglob("*"))
    if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
]


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_file_beside_the_code_is_package_data():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["sgxl_t"]
    endings = {pattern.removeprefix("**/*") for pattern in patterns}
    assert {path.suffix for path in BESIDE_CODE} <= endings
    folders = {path for path in (ROOT / "sgxl_t").rglob("*") if path.is_dir() and any(path.glob("*.py"))}
    assert [path for path in sorted(folders) if not (path / "__init__.py").is_file()] == []


@pytest.mark.slow
def test_the_wheel_makes_a_picture_outside_of_the_source_tree(tmp_path):
    """Installed without its dependencies, which the new environment finds in the one that runs this test."""
    building = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    # A copy, since the build leaves folders of its own behind.
    shutil.copytree(ROOT / "sgxl_t", tmp_path / "source/sgxl_t")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tmp_path / "source")
    run(*building, "--wheel-dir", tmp_path / "dist", tmp_path / "source", cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {path.relative_to(ROOT).as_posix() for path in BESIDE_CODE} <= held
    assert {Path(name).name for name in held} >= {"LICENSE", "NOTICE"}
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    packages = next((tmp_path / "env").glob("[Ll]ib/**/site-packages"))
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, wheel)
    theirs = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(theirs))
    python = next((tmp_path / "env").glob("[Bb]in/python*")) if os.name != "nt" else None
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python or tmp_path / "env/Scripts/python.exe", "-m", "sgxl_t.cli"]
    place = run(command[0], "-c", "import sgxl_t; print(sgxl_t.__file__)", cwd=tmp_path, env=clean)
    assert Path(place.strip()).is_relative_to(packages)
    run(*command, "sample", "a red fox in snow", "--out", tmp_path / "x", cwd=tmp_path, env=clean)
    assert len(list((tmp_path / "x").glob("*.png"))) == 1
