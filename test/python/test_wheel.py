"""That the wheel is whole: it is built, installed where nothing else is, and used."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "libs" / "client-python"

PROGRAM = """
import sys
import kith
from importlib.metadata import version

assert "site-packages" in kith.__file__, kith.__file__
with kith.connect(sys.argv[1]) as client:
    points = client.collection("wheel")
    points.create(vectors={"dimension": 2})
    points.upsert({"id": 1, "vector": [1, 0], "payload": {"from": version("kith-db")}})
    print(points.query(vector=[1, 0]).points[0].payload)
    points.drop()
"""


def built(out: Path, what: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{what}", "--outdir", str(out), str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.glob("*.whl" if what == "wheel" else "*.tar.gz")
    return file


def test_the_wheel_works_where_nothing_else_is(tmp_path: Path) -> None:
    wheel = built(tmp_path / "dist", "wheel")
    assert wheel.name == "kith_db-0.2.0-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"kith/py.typed", "kith/v1/points_pb2.py", "kith/v1/points_pb2.pyi", "kith/v1/calls.py"} <= names
    assert not [name for name in names if "test" in name or name.startswith("src/")]

    environment = tmp_path / "empty"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel]
    subprocess.run(install, check=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-c", PROGRAM, os.environ["KITH_TARGET"]]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, cwd=tmp_path)
    assert done.stdout.strip() == "{'from': '0.2.0'}", done.stderr


def test_a_wheel_can_be_made_of_the_sdist_alone(tmp_path: Path) -> None:
    """As pip does where it finds no wheel: the protos are not there."""
    import tarfile

    sdist = built(tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        str(tmp_path / "wheel"),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    assert "kith/v1/points_pb2.py" in zipfile.ZipFile(wheel).namelist()
