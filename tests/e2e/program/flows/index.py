"""The functions of the end-to-end tests."""

from flows import faults, workflows
from mini_workflow import AWSRuntime

# Three seconds stand for fifteen minutes.
runtime = AWSRuntime.from_env(queued=3, clients=faults.client)

orchestrate = runtime.orchestrate
execute = runtime.execute


def start(event, context):
    """Start an execution, as any function may that is linked to the engine."""
    workflow = getattr(workflows, event["workflow"])
    return runtime.start_execution(workflow, *event["arguments"], id=event["id"]).id
