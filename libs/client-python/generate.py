"""Generates src/kith/v1 from proto/kith/v1: messages, their types, and the table of calls.

    python generate.py

The same protos and the same grpcio-tools give the same bytes. The folder is not kept in git; wheels and sdists have it.
"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTOS = HERE.parents[1] / "proto"
TARGET = HERE / "src" / "kith" / "v1"
PACKAGE = "kith/v1"


def main(out: Path = HERE / "src") -> None:
    """Fills the folder kith/v1 in `out`, in place of what it held."""
    from google.protobuf import descriptor_pb2
    from grpc_tools import protoc

    target = out / PACKAGE
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    files = sorted(path.relative_to(PROTOS).as_posix() for path in (PROTOS / PACKAGE).glob("*.proto"))
    descriptors = target / "descriptors.binpb"
    arguments = [
        "protoc",
        f"-I{PROTOS}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--descriptor_set_out={descriptors}",
        *files,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"the stubs cannot be generated from {PROTOS}")
    described = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
    descriptors.unlink()
    (target / "__init__.py").write_text('"""Generated from proto/kith/v1. The messages of the wire."""\n')
    (target / "calls.py").write_text(calls_of(described))


def calls_of(described: descriptor_pb2.FileDescriptorSet) -> str:  # noqa: F821
    """The source of the table of calls: one constant for each method of each service."""
    imports: set[str] = set()
    lines: list[str] = []

    def module_of(type_name: str) -> str:
        name = type_name.removeprefix(".kith.v1.")
        for file in described.file:
            if any(message.name == name for message in file.message_type):
                module = f"{file.name.removeprefix(PACKAGE + '/').removesuffix('.proto')}_pb2"
                imports.add(module)
                return f"{module}.{name}"
        raise RuntimeError(f"no file has the message {type_name}")

    for file in described.file:
        for service in file.service:
            for method in service.method:
                constant = f"{service.name}_{method.name}"
                constant = "".join(
                    f"_{c}" if c.isupper() and i and constant[i - 1] != "_" else c for i, c in enumerate(constant)
                )
                request, response = module_of(method.input_type), module_of(method.output_type)
                path = f"/{file.package}.{service.name}/{method.name}"
                streams = f"{method.client_streaming}, {method.server_streaming}"
                lines.append(
                    f'{constant.upper()}: Call[{request}, {response}] = Call("{path}", {request}, {response}, {streams})'
                )
    return "\n".join(
        [
            '"""Generated from proto/kith/v1. Every call of the API."""',
            "",
            "from __future__ import annotations",
            "",
            "from dataclasses import dataclass",
            "from typing import Generic, TypeVar",
            "",
            "from google.protobuf.message import Message",
            "",
            "from kith.v1 import (",
            *(f"    {module}," for module in sorted(imports)),
            ")",
            "",
            'Request = TypeVar("Request", bound=Message)',
            'Response = TypeVar("Response", bound=Message)',
            "",
            "",
            "@dataclass(frozen=True)",
            "class Call(Generic[Request, Response]):",
            '    """A method of a service: its path, and what goes and comes."""',
            "",
            "    path: str",
            "    request: type[Request]",
            "    response: type[Response]",
            "    client_streaming: bool = False",
            "    server_streaming: bool = False",
            "",
            "",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
