"""Runs examples/qdrant: the Qdrant integrations of LangChain, LlamaIndex and Haystack, as they are published, against a server of its own.

    npm run test:integrations
    npm run test:integrations -- -k haystack        # what stands behind goes to pytest

Makes an environment of Python and a folder of npm packages of its own in .kith/integrations on its first run.
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
EXAMPLES = ROOT / "examples" / "qdrant"
ENVIRONMENT = ROOT / ".kith" / "integrations"
PYTHON = ENVIRONMENT / "python" / "bin" / "python"
JAVASCRIPT = ENVIRONMENT / "javascript"


def is_new(stamp: Path, texts: str) -> bool:
    return not stamp.exists() or stamp.read_text() != texts


def ensure_python() -> None:
    files = [EXAMPLES / "requirements.txt", HERE / "requirements.txt"]
    texts = "".join(file.read_text() for file in files)
    stamp = ENVIRONMENT / "python" / "requirements.txt"
    if not is_new(stamp, texts):
        return
    print(f"making {ENVIRONMENT.relative_to(ROOT)}", flush=True)
    venv.create(ENVIRONMENT / "python", with_pip=True, clear=True)
    install = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *(argument for file in files for argument in ("-r", file))], check=True)
    stamp.write_text(texts)


def ensure_javascript() -> None:
    """The example with its packages, beside the tree and not in it."""
    source = EXAMPLES / "javascript"
    texts = (source / "package-lock.json").read_text()
    stamp = JAVASCRIPT / "stamp"
    if is_new(stamp, texts):
        shutil.rmtree(JAVASCRIPT, ignore_errors=True)
        JAVASCRIPT.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, JAVASCRIPT)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--silent"], cwd=JAVASCRIPT, check=True)
        stamp.write_text(texts)
    for file in source.glob("*.mjs"):
        shutil.copy(file, JAVASCRIPT)


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


def main(arguments: list[str]) -> int:
    ensure_python()
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
        tests = [PYTHON, "-m", "pytest", "-q", "--rootdir", HERE, HERE / "test_integrations.py", *arguments]
        return subprocess.run([str(each) for each in tests], env=environment).returncode
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
