"""Puts the compiled kernels into the wheel, where `make wheel` has made any, and says for which machines it is then."""

import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Kernels(BuildHookInterface):
    """Looks into build/kernels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it packs; an editable install has its kernels beside their sources."""
        libraries = sorted(Path(self.root, "build", "kernels").glob("*.so"))
        if version == "editable" or not libraries:
            return
        for library in libraries:
            build_data["force_include"][str(library)] = f"jaxopt_lectures/kernels/cpu/built/{library.name}"
        # The libraries know nothing of Python.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["pure_python"] = False
