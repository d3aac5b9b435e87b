"""Stop before pip fetches gigabytes: say whether installing torch would bring a CUDA build.

    python tools/check_torch.py torch==X.Y.Z [--index-url ADDRESS]

Set TORCH_CUDA=1 to take the CUDA build all the same.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys

from packaging.requirements import Requirement

REMEDY = """\
Installing torch here would bring a CUDA build of several gigabytes. The book needs only the CPU build.
  The "Get Started" page of pytorch.org shows the address of the CPU index (choose Pip and CPU). Then:
      make test TORCH_INDEX=<that address>
  To take the CUDA build all the same:
      TORCH_CUDA=1 make test"""


def cuda_requirements(requirements: list[str]) -> list[str]:
    """Return the names of the CUDA packages among a wheel's requirements, on this system."""
    parsed = [Requirement(text) for text in requirements]
    here = [r.name for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return [name for name in here if name.startswith(("nvidia", "cuda"))]


def main(arguments: list[str]) -> int:
    """Run the command."""
    wanted = Requirement(arguments[0])
    try:
        if wanted.specifier.contains(importlib.metadata.version("torch"), prereleases=True):
            return 0
    except importlib.metadata.PackageNotFoundError:
        pass
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet", "--report", "-"]
    result = subprocess.run([*command, *arguments[1:], arguments[0]], capture_output=True, text=True)
    if result.returncode:
        print(result.stderr, file=sys.stderr)
        print(
            f"pip finds no {arguments[0]}: is the network, or your package mirror, reachable?",
            file=sys.stderr,
        )
        return 1
    found = json.loads(result.stdout)["install"]
    requirements = [text for item in found for text in item["metadata"].get("requires_dist", [])]
    if cuda_requirements(requirements) and not os.environ.get("TORCH_CUDA"):
        print(REMEDY, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
