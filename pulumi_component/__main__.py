"""Serve the components to Pulumi programs in other languages.

Pulumi's language host runs this folder as a script, which puts the folder on the path in place of its
parent. The modules here would then hide other modules with the same short names.
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
