"""Certificates in files, which are replaced while a client lives."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent import futures
from pathlib import Path

import grpc
import pytest

import kith
from kith import _tls
from kith.v1 import calls

ROOT = Path(__file__).resolve().parents[3]


class Server:
    """Says of every collection that there is none, to clients with a certificate of its authority."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        call = calls.COLLECTIONS_EXISTS

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
                if details.method != call.path:
                    return None
                return grpc.unary_unary_rpc_method_handler(
                    lambda request, context: call.response(),
                    request_deserializer=call.request.FromString,
                    response_serializer=call.response.SerializeToString,
                )

        self._server = grpc.server(futures.ThreadPoolExecutor(2), options=(("grpc.so_reuseport", 0),))
        self._server.add_generic_rpc_handlers((Handler(),))
        pair = ((folder / "server.key").read_bytes(), (folder / "server.crt").read_bytes())
        credentials = grpc.ssl_server_credentials([pair], (folder / "ca.crt").read_bytes(), True)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders, each with an authority and certificates of a server and of a client."""
    program = ROOT / "dist" / "services" / "cli" / "main.js"
    folders = (tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second"))
    for folder in folders:
        command = ["node", str(program), "certs", "server", "client", "--folder", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
    return folders


@pytest.fixture
def tls(authorities: tuple[Path, Path], tmp_path: Path) -> kith.TlsOptions:
    put(authorities[0], tmp_path, "ca.crt", "client.crt", "client.key")
    return kith.TlsOptions(
        ca_file=tmp_path / "ca.crt", cert_file=str(tmp_path / "client.crt"), key_file=tmp_path / "client.key"
    )


def put(source: Path, target: Path, *names: str) -> None:
    for name in names:
        shutil.copyfile(source / name, target / f"{name}.new")
        os.replace(target / f"{name}.new", target / name)


def test_new_files_are_taken_for_what_begins_afterwards(
    authorities: tuple[Path, Path], tls: kith.TlsOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tls, "_LOOK_EVERY_S", 0.0)
    first, second = authorities
    server = Server(first)
    target = f"127.0.0.1:{server.port}"
    with kith.connect(target, tls=tls) as client:
        assert not client.collection("a").exists()
        # The certificate is there, its key is not yet: the pair of before is shown.
        put(second, tmp_path, "client.crt")
        server.stop()
        server = Server(first, server.port)
        assert not client.collection("a").exists()
        put(second, tmp_path, "ca.crt", "client.key")
        server.stop()
        server = Server(second, server.port)
        assert not client.collection("a").exists()
        with pytest.raises(kith.KithError):
            kith.connect(target, tls=kith.TlsOptions(ca=(first / "ca.crt").read_bytes()), connect_timeout_ms=200)
    server.stop()


@pytest.mark.anyio
async def test_new_files_are_taken_by_the_asynchronous_client(
    authorities: tuple[Path, Path], tls: kith.TlsOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tls, "_LOOK_EVERY_S", 0.0)
    server = Server(authorities[0])
    async with await kith.connect_async(f"127.0.0.1:{server.port}", tls=tls) as client:
        put(authorities[1], tmp_path, "ca.crt", "client.crt", "client.key")
        server.stop()
        server = Server(authorities[1], server.port)
        assert not await client.collection("a").exists()
    server.stop()


def test_files_that_cannot_be_read_and_what_is_given_twice_are_refused(tmp_path: Path) -> None:
    for tls, told in (
        (kith.TlsOptions(ca_file=tmp_path / "none.crt"), "tls.ca_file .*none.crt cannot be read: No such file"),
        (kith.TlsOptions(key=b"a", key_file="b"), "tls.key_file and tls.key are both given"),
    ):
        with pytest.raises(kith.KithError, match=told) as raised:
            kith.connect("127.0.0.1:1", tls=tls)
        assert raised.value.code == "INVALID_ARGUMENT"
