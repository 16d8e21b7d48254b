"""Starts a Kith of its own in a new data folder, and ends it."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path


class Server:
    """`kith dev` (one process), or `kith up` (router, shard nodes and nats-server in processes of their own)."""

    def __init__(self, root: Path, cluster: bool) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="kith-oracle-"))
        arguments = ["up", "--shards", "2", "--replicas", "2"] if cluster else ["dev"]
        program = root / "dist" / "services" / "cli" / "main.js"
        if not program.exists():
            raise SystemExit("dist/ is missing: run `npm run build:ts` first")
        command = ["node", program, *arguments, "--data", self.data, "--port", "0", "--qdrant", "0", "--output", "json"]
        self.errors = (self.data / "stderr.log").open("w")
        self.process = subprocess.Popen(
            [str(each) for each in command], stdout=subprocess.PIPE, stderr=self.errors, text=True, env=os.environ
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event.get("event") == "ready":
                self.target: str = event["target"]
                self.qdrant: str = event["qdrant"]
                self.qdrant_grpc: str = event["qdrantGrpc"]
                return
        raise SystemExit(f"the server ended before it was ready; see {self.data / 'stderr.log'}")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()
        shutil.rmtree(self.data, ignore_errors=True)
