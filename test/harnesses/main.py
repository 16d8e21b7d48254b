"""Has the Qdrant clients of two load harnesses upload and search small data, against a server of its own.

    KITH_VECTOR_DB_BENCHMARK=<checkout of qdrant/vector-db-benchmark> KITH_VECTORDBBENCH=<checkout of zilliztech/VectorDBBench> npm run test:harnesses

One of the two is enough. Their code runs from a copy, since it writes beside itself. Makes a Python environment of its own on its first run.
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
ENVIRONMENT = ROOT / ".kith" / "harnesses"
PYTHON = ENVIRONMENT / "bin" / "python"
CHECKOUTS = {"KITH_VECTOR_DB_BENCHMARK": "vector_db_benchmark.py", "KITH_VECTORDBBENCH": "vectordbbench.py"}


def ensure_environment() -> None:
    requirements = (HERE / "requirements.txt").read_text()
    stamp = ENVIRONMENT / "requirements.txt"
    if stamp.exists() and stamp.read_text() == requirements:
        return
    print(f"making {ENVIRONMENT.relative_to(ROOT)}", flush=True)
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    install = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", HERE / "requirements.txt"]
    subprocess.run(install, check=True)
    stamp.write_text(requirements)


def start_server(data: Path) -> tuple[subprocess.Popen[str], dict[str, str]]:
    program = ROOT / "dist" / "services" / "cli" / "main.js"
    if not program.exists():
        raise SystemExit("dist/ is missing: run `npm run build:ts` first")
    command = ["node", str(program), "dev", "--data", str(data), "--port", "0", "--http-port", "off", "--qdrant", "0"]
    process = subprocess.Popen([*command, "--output", "json"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{") and (said := json.loads(line)).get("event") == "ready":
            return process, said
    raise SystemExit("the server ended before it was ready")


def main() -> int:
    found = {script: Path(os.environ[name]) for name, script in CHECKOUTS.items() if os.environ.get(name)}
    if not found:
        raise SystemExit(f"one of {', '.join(CHECKOUTS)} must name a checkout")
    ensure_environment()
    failed = []
    with tempfile.TemporaryDirectory(prefix="kith-harnesses-") as folder:
        process, said = start_server(Path(folder) / "data")
        environment = {
            **os.environ,
            "KITH_QDRANT_URL": f"http://{said['qdrant']}",
            "KITH_QDRANT_GRPC_PORT": said["qdrantGrpc"].rpartition(":")[2],
        }
        try:
            for script, checkout in found.items():
                copy = Path(folder) / script.removesuffix(".py")
                shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
                print(f"== {checkout.name}", flush=True)
                command = [PYTHON, HERE / script]
                if subprocess.run(command, cwd=copy, env={**environment, "PYTHONPATH": str(copy)}).returncode != 0:
                    failed.append(script)
        finally:
            process.terminate()
            process.wait(timeout=60)
    print("failed: " + ", ".join(failed) if failed else "passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
