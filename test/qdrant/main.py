"""Runs the tests of qdrant-client, most of which compare a server with its in-memory mode, against Kith.

    KITH_QDRANT_CLIENT=<checkout of qdrant-client 1.18> npm run test:qdrant -- [--grpc] [--cluster] [--own-client] [arguments of pytest]

Starts one process, or with --cluster three shards with two replicas, at free ports, which the tests ask: by REST, or with --grpc by gRPC. The tests are those of the
checkout; the client is the released one of requirements.txt, whose in-memory mode does what current servers do, or with --own-client that of the checkout. Makes a Python
environment of its own on its first run. Prints how many of the tests pass, and those that do not; docs/qdrant.md says why.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from served import ROOT, make_environment, start_server  # noqa: E402

# Without the tests of what clients do alone: conversions, embedding, telemetry of the client.
default = ["tests/congruence_tests", "tests/test_qdrant_client.py", "tests/test_async_qdrant_client.py"]

HERE = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".kith" / "qdrant"


def arrange(folder: str, checkout: str, own_client: bool) -> dict[str, str]:
    """A folder with the tests and without the client beside them, and what Python reads of both."""
    (Path(folder) / "tests").symlink_to(Path(checkout).resolve() / "tests")
    path = [str(HERE), folder, *([checkout] if own_client else [])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def main() -> int:
    checkout = os.environ.get("KITH_QDRANT_CLIENT")
    if not checkout:
        raise SystemExit("KITH_QDRANT_CLIENT must name a checkout of qdrant-client")
    python = make_environment(ENVIRONMENT, HERE / "requirements.txt")
    arguments = sys.argv[1:]
    cluster = "--cluster" in arguments
    protocol = "grpc" if "--grpc" in arguments else "rest"
    own_client = "--own-client" in arguments
    arguments = [each for each in arguments if each not in ("--cluster", "--grpc", "--own-client")]
    # Options alone choose no tests.
    if not any(each.startswith("tests") for each in arguments):
        arguments += default
    temporary = tempfile.TemporaryDirectory
    with temporary(prefix="kith-qdrant-") as folder, temporary(prefix="kith-qdrant-tests-") as tests:
        server, said = start_server(Path(folder), ("up", "--shards", "3", "--replicas", "2") if cluster else ("dev",))
        try:
            command = [python, "-m", "pytest", "-p", "one_protocol", "-p", "no:warnings", "-q", "--tb=line", "-rfE", "--continue-on-collection-errors"]
            command += ["--timeout", "120", "-c", os.devnull, "--rootdir", tests, *arguments]
            ports = {name: said[name].rpartition(":")[2] for name in ("qdrant", "qdrantGrpc")}
            asked = {"KITH_QDRANT_PROTOCOL": protocol, "KITH_QDRANT_PORTS": f"{ports['qdrant']},{ports['qdrantGrpc']}"}
            environment = {**arrange(tests, checkout, own_client), **asked}
            run = subprocess.Popen(command, cwd=tests, env=environment, stdout=subprocess.PIPE, text=True)
            last = ""
            for line in run.stdout:
                print(line, end="", flush=True)
                last = line
            run.wait()
        finally:
            server.terminate()
            server.wait(60)
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|errors?)", last)}
    total = sum(counts.values())
    passed = counts.get("passed", 0)
    if total > 0:
        print(f"{passed} of {total} pass ({100 * passed / total:.1f} %)")
    # 1: some tests fail, which docs/qdrant.md lists; else pytest itself could not run.
    return 0 if run.returncode in (0, 1) and total > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
