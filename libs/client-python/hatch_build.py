"""Generates the stubs before a wheel or an sdist is made; see generate.py."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


class StubsHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        import generate

        # An sdist carries the stubs instead of the protos.
        if generate.PROTOS.is_dir():
            generate.main()
