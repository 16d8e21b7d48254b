"""Checks the Python client: types, lint, its tests against one live server, the wheel in an empty environment, and the examples.

    npm run test:python
    npm run test:python -- -k watch        # what stands behind goes to pytest alone

Makes a Python environment of its own in .kith/python on its first run, from the package index that pip is set to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGE = ROOT / "libs" / "client-python"
ENVIRONMENT = ROOT / ".kith" / "python"
PYTHON = ENVIRONMENT / "bin" / "python"


def ensure_environment() -> None:
    requirements = (HERE / "requirements.txt").read_text()
    stamp = ENVIRONMENT / "requirements.txt"
    if stamp.exists() and stamp.read_text() == requirements:
        return
    print(f"making {ENVIRONMENT.relative_to(ROOT)}", flush=True)
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    install = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
        HERE / "requirements.txt",
    ]
    subprocess.run(install, check=True)
    stamp.write_text(requirements)


def start_server(data: Path) -> tuple[subprocess.Popen[str], str]:
    """One `kith dev` for everything that follows; its address."""
    program = ROOT / "dist" / "services" / "cli" / "main.js"
    if not program.exists():
        raise SystemExit("dist/ is missing: run `npm run build:ts` first")
    command = ["node", str(program), "dev", "--data", str(data), "--port", "0", "--http-port", "0", "--output", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("the server ended before it was ready")
    return process, json.loads(line)["target"]


def main(arguments: list[str]) -> int:
    ensure_environment()
    subprocess.run([PYTHON, PACKAGE / "generate.py"], check=True)
    data = Path(tempfile.mkdtemp(prefix="kith-python-"))
    process, target = start_server(data)
    environment = {**os.environ, "KITH_TARGET": target, "PYTHONPATH": str(PACKAGE / "src")}
    tests = [PYTHON, "-m", "pytest", "-q"]
    steps: list[tuple[str, list[str | Path]]] = [("tests", [*tests, *arguments])]
    if not arguments:
        examples = ["--rootdir", HERE, HERE / "test_examples.py", HERE / "test_wheel.py"]
        steps = [
            ("format", [PYTHON, "-m", "ruff", "format", "--check", "--quiet", "."]),
            ("lint", [PYTHON, "-m", "ruff", "check", "--quiet", "."]),
            (
                "lint of the examples",
                [PYTHON, "-m", "ruff", "check", "--quiet", "--config", "ruff.toml", ROOT / "examples" / "python", HERE],
            ),
            ("types", [PYTHON, "-m", "mypy"]),
            *steps,
            ("examples and wheel", [*tests, *examples]),
        ]
    failed = []
    try:
        for name, command in steps:
            print(f"== {name}", flush=True)
            if subprocess.run([str(each) for each in command], cwd=PACKAGE, env=environment).returncode != 0:
                failed.append(name)
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(data, ignore_errors=True)
    print("failed: " + ", ".join(failed) if failed else "passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
