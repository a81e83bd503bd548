"""The package for programs in other languages: Pulumi starts this and asks it for components.

The language host runs this folder as a script, which puts it on the path in place of its parent.
Its modules would then be importable by their short names, instead of others that have the same.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]
    sys.path.insert(0, str(here.parent))

    from importlib.metadata import version

    from pulumi.provider.experimental import component_provider_host

    from pulumi_component import Function, WorkflowEngine

    component_provider_host(
        name="mini-workflow",
        components=[WorkflowEngine, Function],
        version=version("mini-workflow"),
    )
