"""Has the Qdrant clients of two load harnesses upload and search small data, against a server of its own.

    KITH_VECTOR_DB_BENCHMARK=<checkout of qdrant/vector-db-benchmark> KITH_VECTORDBBENCH=<checkout of zilliztech/VectorDBBench> npm run test:harnesses

One of the two is enough. Their code runs from a copy, since it writes beside itself. Makes a Python environment of its own on its first run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from served import ROOT, make_environment, start_server  # noqa: E402

HERE = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".kith" / "harnesses"
CHECKOUTS = {"KITH_VECTOR_DB_BENCHMARK": "vector_db_benchmark.py", "KITH_VECTORDBBENCH": "vectordbbench.py"}


def main() -> int:
    found = {script: Path(os.environ[name]) for name, script in CHECKOUTS.items() if os.environ.get(name)}
    if not found:
        raise SystemExit(f"one of {', '.join(CHECKOUTS)} must name a checkout")
    python = make_environment(ENVIRONMENT, HERE / "requirements.txt")
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
                command = [python, HERE / script]
                if subprocess.run(command, cwd=copy, env={**environment, "PYTHONPATH": str(copy)}).returncode != 0:
                    failed.append(script)
        finally:
            process.terminate()
            process.wait(timeout=60)
    print("failed: " + ", ".join(failed) if failed else "passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
