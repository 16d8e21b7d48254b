"""Certificates of a connection: as they were given, or in files that may be replaced while the client lives."""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

import grpc

from kith._rpc import CHANNEL_OPTIONS
from kith.errors import KithError, error_of

Channel = TypeVar("Channel")
FilePath: TypeAlias = str | os.PathLike[str]

#: How often files are looked at, in seconds.
_LOOK_EVERY_S: Final = 1.0
#: Channels that are kept for what is open on them.
_KEPT: Final = 8


@dataclass(frozen=True)
class TlsOptions:
    """PEM, as it is or by the name of its file. Files that were replaced are taken for what begins afterwards.

    `ca`: the authorities to trust, instead of the system's; `cert` and `key`: the client's own, where the server asks for one.
    """

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None
    #: The name on the server's certificate where it is not the one in the address.
    server_name: str | None = None
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Authorities, certificate and key as they are now. INVALID_ARGUMENT where a file cannot be read, or something is given twice."""
        return (
            _contents("ca", self.ca, self.ca_file),
            _contents("cert", self.cert, self.cert_file),
            _contents("key", self.key, self.key_file),
        )

    @property
    def files(self) -> list[FilePath]:
        return [each for each in (self.ca_file, self.cert_file, self.key_file) if each is not None]


def _contents(name: str, given: bytes | None, file: FilePath | None) -> bytes | None:
    if file is None:
        return given
    field = f"tls.{name}_file"
    if given is not None:
        raise error_of("INVALID_ARGUMENT", f"{field} and tls.{name} are both given; leave one out", {"field": field})
    try:
        return Path(file).read_bytes()
    except OSError as error:
        message = f"{field} {os.fspath(file)} cannot be read: {error.strerror}"
        raise error_of("INVALID_ARGUMENT", message, {"field": field}) from error


def credentials_of(tls: bool | TlsOptions) -> grpc.ChannelCredentials | None:
    if tls is False:
        return None
    ca, cert, key = (TlsOptions() if tls is True else tls).read()
    return grpc.ssl_channel_credentials(ca, key, cert)


def channel_options(tls: bool | TlsOptions) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = list(CHANNEL_OPTIONS)
    if isinstance(tls, TlsOptions) and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


class Channels(Generic[Channel]):
    """The channel to the server. Where the files of its certificates are replaced, what begins afterwards has another one, and what is open goes on."""

    def __init__(self, tls: bool | TlsOptions, make: Callable[[], Channel]) -> None:
        self._options = tls if isinstance(tls, TlsOptions) and tls.files else None
        self._make = make
        self._lock = threading.Lock()
        self._state = self._state_of_files()
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        self._newest = make()
        self._all = [self._newest]

    @property
    def newest(self) -> Channel:
        if self._options is not None and time.monotonic() >= self._next_look:
            with self._lock:
                self._look(self._options)
        return self._newest

    @property
    def all(self) -> list[Channel]:
        with self._lock:
            return list(self._all)

    def _look(self, options: TlsOptions) -> None:
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        state = self._state_of_files()
        if state == self._state or not _belong_together(options):
            return
        try:
            self._newest = self._make()
        except KithError:
            return
        self._state = state
        self._all = [*self._all[1 - _KEPT :], self._newest]

    def _state_of_files(self) -> list[tuple[int, int, int] | None]:
        found: list[tuple[int, int, int] | None] = []
        for file in self._options.files if self._options is not None else []:
            try:
                status = os.stat(file)
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                found.append(None)
        return found


def _belong_together(options: TlsOptions) -> bool:
    """False for files that are replaced just now: what was read before goes on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if options.ca_file is not None:
            context.load_verify_locations(options.ca_file)
        if options.cert_file is not None and options.key_file is not None:
            context.load_cert_chain(options.cert_file, options.key_file)
    except (OSError, ssl.SSLError):
        return False
    return True
