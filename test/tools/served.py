"""What the Python suites beside `npm test` have in common: an environment of their own, and a server for their clients."""

from __future__ import annotations

import json
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make_environment(environment: Path, *requirements: Path) -> Path:
    """The Python of a virtual environment with these requirements; made where it is missing or has others."""
    python = environment / "bin" / "python"
    texts = "".join(file.read_text() for file in requirements)
    stamp = environment / "requirements.txt"
    if stamp.exists() and stamp.read_text() == texts:
        return python
    print(f"making {environment.relative_to(ROOT)}", flush=True)
    venv.create(environment, with_pip=True, clear=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *(part for file in requirements for part in ("-r", file))], check=True)
    stamp.write_text(texts)
    return python


def start_server(data: Path, shape: Sequence[str] = ("dev",)) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """A server at free ports, with Qdrant's doors, and what it says of itself when it is ready."""
    program = ROOT / "dist" / "services" / "cli" / "main.js"
    if not program.exists():
        raise SystemExit("dist/ is missing: run `npm run build:ts` first")
    command = ["node", str(program), "--output", "json", *shape, "--data", str(data), "--port", "0"]
    process = subprocess.Popen([*command, "--http-port", "off", "--qdrant", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{") and (said := json.loads(line)).get("event") == "ready":
            return process, said
    raise SystemExit(f"the server ended with {process.wait()} before it was ready")
