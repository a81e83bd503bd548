"""The Pulumi programs in the documents run, and what else docs/deploy.md says of the components."""

import json
import re
from pathlib import Path

import yaml

from pulumi_component import FunctionArgs, WorkflowEngineArgs
from tests.paths import ROOT
from tests.project.docs.test_snippets import DOCUMENTS, fences
from tests.pulumi.monitor import stack
from tests.pulumi.recording import Invented

DEPLOY = ROOT / "docs" / "deploy.md"
SCHEMA = json.loads(Path(__file__).with_name("schema.json").read_text())


def test_pulumi_programs_run(root: Path) -> None:
    (root / "requirements.txt").write_text("# nothing\n")
    count = 0
    for document in DOCUMENTS:
        for fence in fences(document.read_text(encoding="utf-8")):
            if fence.info == "python pulumi":
                count += 1
                (root / "__main__.py").write_text(fence.code)
                with stack(Invented()) as made:
                    made.up(root)
                    assert len(made.recording.registered) > 40
                    assert made.outputs
    assert count


def test_progress_is_told_once(root: Path) -> None:
    (root / "__main__.py").write_text(
        "from pulumi_component import Function\nFunction('F', {'handler': 'app.index.api'})\n"
    )
    told = []
    for _ in range(2):
        with stack(Invented()) as made:
            made.up(root)
            told.append([text for text in made.engine.messages if "app.index.api" in text])
    assert [len(messages) for messages in told] == [1, 0]
    assert re.fullmatch(r"app\.index\.api: packaged, \d\.\d MB in app-\w+", told[0][0])


def test_every_option_is_in_the_document() -> None:
    named = set(re.findall(r"`(\w+)`", DEPLOY.read_text()))
    options = FunctionArgs.__annotations__ | WorkflowEngineArgs.__annotations__
    assert set(options) <= named


def test_the_yaml_program_uses_what_there_is() -> None:
    (text,) = [fence.code for fence in fences(DEPLOY.read_text()) if fence.info == "yaml"]
    program = yaml.safe_load(text)
    for resource in program["resources"].values():
        known = SCHEMA["resources"][resource["type"]]
        assert resource["properties"].keys() <= known["inputProperties"].keys()
        assert set(known["requiredInputs"]) <= resource["properties"].keys()
    for reference in re.findall(r"\$\{(\w+)\.(\w+)\}", text):
        name, output = reference
        if name != "pulumi":
            kind = program["resources"][name]["type"]
            assert output in SCHEMA["resources"][kind]["properties"]
