"""Compares Kith with the in-memory mode of qdrant-client, query by query.

    npm run test:oracle -- --queries 20000 --seed 1 --cluster
    npm run test:oracle -- --door qdrant-grpc        # by qdrant-client, as its users do; or qdrant-rest

Random collections with random points are written to both; random filters, query trees, groups, facets, orders and
matrices are asked of both, and by Qdrant's API random writes made on both; ids and scores must agree. Makes a Python environment of its own on its first run.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ENVIRONMENT = ROOT / ".kith" / "oracle"


def ensure_environment() -> None:
    """Runs again inside the environment where this interpreter is another one."""
    python = ENVIRONMENT / "bin" / "python"
    if Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return
    requirements = (HERE / "requirements.txt").read_text()
    stamp = ENVIRONMENT / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements:
        print(f"making {ENVIRONMENT.relative_to(ROOT)} and installing {requirements.strip()}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", HERE / "requirements.txt"],
            check=True,
        )
        stamp.write_text(requirements)
    os.execv(python, [str(python), str(HERE / "main.py"), *sys.argv[1:]])


if __name__ == "__main__":
    ensure_environment()
    from run import main

    sys.exit(main(ROOT))
