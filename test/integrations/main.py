"""Runs examples/qdrant: the Qdrant integrations of LangChain, LlamaIndex and Haystack, as they are published, against a server of its own.

    npm run test:integrations
    npm run test:integrations -- -k haystack        # what stands behind goes to pytest

Makes an environment of Python and a folder of npm packages of its own in .kith/integrations on its first run.
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
EXAMPLES = ROOT / "examples" / "qdrant"
ENVIRONMENT = ROOT / ".kith" / "integrations"
JAVASCRIPT = ENVIRONMENT / "javascript"


def ensure_javascript() -> None:
    """The example with its packages, beside the tree and not in it."""
    source = EXAMPLES / "javascript"
    texts = (source / "package-lock.json").read_text()
    stamp = JAVASCRIPT / "stamp"
    if not stamp.exists() or stamp.read_text() != texts:
        shutil.rmtree(JAVASCRIPT, ignore_errors=True)
        JAVASCRIPT.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, JAVASCRIPT)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--silent"], cwd=JAVASCRIPT, check=True)
        stamp.write_text(texts)
    for file in source.glob("*.mjs"):
        shutil.copy(file, JAVASCRIPT)


def main(arguments: list[str]) -> int:
    python = make_environment(ENVIRONMENT / "python", EXAMPLES / "requirements.txt", HERE / "requirements.txt")
    ensure_javascript()
    data = Path(tempfile.mkdtemp(prefix="kith-integrations-"))
    process, said = start_server(data)
    environment = {
        **os.environ,
        "KITH_QDRANT_URL": f"http://{said['qdrant']}",
        "KITH_TEST_GRPC_PORT": said["qdrantGrpc"].rpartition(":")[2],
        "KITH_TEST_JAVASCRIPT": str(JAVASCRIPT),
        # What these frameworks would tell their makers.
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "LANGSMITH_TRACING": "false",
    }
    try:
        tests = [python, "-m", "pytest", "-q", "--rootdir", HERE, HERE / "test_integrations.py", *arguments]
        return subprocess.run([str(each) for each in tests], env=environment).returncode
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
