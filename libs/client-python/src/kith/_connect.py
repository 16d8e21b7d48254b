"""What connecting needs without the channel: addresses, and why a server cannot be reached."""

from __future__ import annotations

import re
import socket
import ssl
from typing import Final

from kith._checks import shown
from kith._tls import TlsOptions
from kith.errors import KithError, error_of

DEFAULT_TARGET: Final = "127.0.0.1:7700"
_ADDRESS: Final = re.compile(
    r"([^\s:/\[\]]+|\[[0-9a-fA-F:.%]+\]):[0-9]{1,5}|(dns|ipv4|ipv6|unix|unix-abstract|xds):\S+"
)
_HOST_PORT: Final = re.compile(r"(?:\[(.*)\]|([^:]+)):([0-9]+)")


def check_target(target: str) -> str:
    """host:port, also of an IPv6 address in brackets, and what gRPC names by a scheme."""
    text = str(target)
    port = re.search(r":([0-9]+)$", text)
    is_known = isinstance(target, str) and _ADDRESS.fullmatch(target) is not None
    # What is named by a scheme gRPC itself reads.
    if is_known and (re.match(r"[a-z0-9-]+:[^0-9]", text) or port is None or 0 < int(port[1]) <= 65_535):
        return target
    why = (
        "is a URL"
        if text.startswith(("http://", "https://"))
        else "has a port that there is not"
        if is_known
        else "is not an address"
        if re.search(r":[0-9]*$", text)
        else "has no port"
    )
    raise error_of(
        "INVALID_ADDRESS", f"{shown(target)} {why}; give host:port, such as {DEFAULT_TARGET}", {"target": text}
    )


def diagnose(target: str, tls: bool | TlsOptions, timeout_s: float) -> KithError:
    """Why no call gets through: TLS_MISMATCH, CERTIFICATE_UNTRUSTED, else SERVER_UNREACHABLE, with `details["reason"]`. It may wait for `timeout_s` twice."""
    match = _HOST_PORT.fullmatch(target)
    if match is None:
        # Named by a scheme: gRPC alone knows where that is.
        return _unreachable(target, "no-answer", "it does not answer")
    host, port = match[1] or match[2], int(match[3])
    try:
        connection = socket.create_connection((host, port), timeout=max(0.01, timeout_s))
    except ConnectionRefusedError:
        return _unreachable(target, "refused", "nothing listens there")
    except socket.gaierror:
        return _unreachable(target, "unknown-host", f"the name {host} is unknown")
    except OSError as error:
        return _unreachable(target, "no-answer", str(error) or "no answer")
    with connection:
        return _of_handshake(connection, target, host, tls)


def _of_handshake(connection: socket.socket, target: str, host: str, tls: bool | TlsOptions) -> KithError:
    options = tls if isinstance(tls, TlsOptions) else TlsOptions()
    authorities, _, _ = options.read()
    context = ssl.create_default_context(cadata=None if authorities is None else authorities.decode("ascii", "replace"))
    context.set_alpn_protocols(["h2"])
    if tls is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        with context.wrap_socket(connection, server_hostname=options.server_name or host):
            pass
    except ssl.SSLCertVerificationError as error:
        return error_of(
            "CERTIFICATE_UNTRUSTED",
            f"the certificate of {target} is not trusted ({error.verify_message}): name its authority, or another server name",
            {"target": target, "reason": error.verify_message},
        )
    except (ssl.SSLError, OSError):
        if tls is False:
            return _unreachable(target, "no-answer", "it takes connections, and does not answer")
        return error_of("TLS_MISMATCH", f"{target} does not speak TLS: connect without it", {"target": target})
    if tls is False:
        return error_of(
            "TLS_MISMATCH",
            f"{target} speaks TLS: connect with TLS, and with its authority where that is not a public one",
            {"target": target},
        )
    return _unreachable(
        target, "no-answer", "it speaks TLS and does not answer; it may ask for a certificate of the client"
    )


def _unreachable(target: str, reason: str, why: str) -> KithError:
    return error_of(
        "SERVER_UNREACHABLE",
        f'no Kith server answers at {target}: {why}; start one with "kith dev", or give its address',
        {"target": target, "reason": reason},
    )
