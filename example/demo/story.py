"""The demo: an engine process is killed half-way, and another one carries on."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from example.demo.s3 import S3Server
from example.demo.stage import PATIENCE, DemoFailed, Engine, Stage
from example.demo.upload import Upload


def tell(upload: Upload) -> None:
    """Run the demo and print its story. Raises DemoFailed."""
    began = time.monotonic()
    with TemporaryDirectory(prefix="mini-workflow-demo-") as folder, S3Server("uploads") as s3:
        stage = Stage(Path(folder), upload, s3.environment())
        file = stage.database.name
        say(f"1. S3 is served at {s3.address}; {upload.key} has {len(upload.content):,} bytes.")

        s3.reading_allowed.clear()
        with stage.engine(seen=0) as first:
            say(f"\n2. Process {first.pid} runs the workflow, with its history in {file}.")
            seen = show_until_fetch(first)
            if not s3.reading.wait(PATIENCE):
                raise DemoFailed("the task fetch did not get to S3")
            first.kill()
        say(f"\n3. kill -9 {first.pid}, while the task fetch was waiting for S3 to answer.")
        say(f"What is left is {file}, with {seen} events. From now on S3 answers.", indent=3)

        s3.reading_allowed.set()
        with stage.engine(seen) as second:
            say(f"\n4. Process {second.pid} opens {file} and carries on.")
            for line in second.lines():
                say(line, indent=3)
        content = stage.result()

        puts, gets = s3.requests["PUT"], s3.requests["GET"]
        if puts != 1:
            raise DemoFailed(f"S3 got {puts} PUT requests, not one")
        if content != upload.content.decode():
            raise DemoFailed("the content came back changed")
        say(f"\n5. The workflow has completed, {time.monotonic() - began:.1f} s after the start.")
        say(f"PUT requests that reached S3: {puts}. The finished task was not repeated.", indent=3)
        say(f"GET requests that reached S3: {gets}. The interrupted task was.", indent=3)
        say("The content came back equal.", indent=3)


def show_until_fetch(engine: Engine) -> int:
    """Show the events up to the start of the task fetch, and return how many they are."""
    for number, line in enumerate(engine.lines(), start=1):
        say(line, indent=3)
        if "TaskScheduled" in line and line.endswith("fetch"):
            return number
    raise DemoFailed(f"process {engine.pid} was done without the task fetch")


def say(text: str, indent: int = 0) -> None:
    print(textwrap.indent(text, " " * indent), flush=True)
