"""Makes the stubs of the public API (`csm.v1`, `csm.rvq.v1`) while the client is built.

The protos and the licence are two folders up in a checkout, and beside this file in a source distribution.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PUBLIC = ("csm/rvq/v1", "csm/v1")  # packages: every proto of theirs


class StubsHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        here = Path(self.root)
        source = here if (here / "protos").is_dir() else here.parents[1]
        if self.target_name == "sdist":
            build_data["force_include"] |= {str(source / "protos" / name): f"protos/{name}" for name in PUBLIC}
            build_data["force_include"][str(source / "LICENSE")] = "LICENSE"
            return
        self._stubs = tempfile.TemporaryDirectory()  # until the wheel is written
        build_data["force_include"][self._made(source / "protos")] = "csm"

    def _made(self, protos: Path) -> str:
        """The folder of the stubs. Raises RuntimeError when protoc fails."""
        import grpc_tools
        from grpc_tools import protoc

        to = self._stubs.name
        well_known = str(Path(grpc_tools.__file__).parent / "_proto")
        outputs = [f"--python_out={to}", f"--pyi_out={to}", f"--grpc_python_out={to}"]
        files = [str(file) for package in PUBLIC for file in sorted((protos / package).glob("*.proto"))]
        if protoc.main(["protoc", f"-I{protos}", f"-I{well_known}", *outputs, *files]):
            raise RuntimeError(f"protoc could not make the stubs of {protos}")
        for package in PUBLIC:
            (Path(to) / package / "py.typed").touch()
        return str(Path(to) / "csm")
