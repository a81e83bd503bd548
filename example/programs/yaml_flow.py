"""An interpreter of workflows that are written in YAML: the program is an argument."""

import asyncio
import operator
from typing import Any

import yaml

from mini_workflow import Context, RetryPolicy, current_task, workflow
from mini_workflow.testing import WorkflowEnvironment

PROGRAM = """
- call: price_of
  with: {item: $item}
  save: price
- if: [$price, ">", 100]
  then:
    - sleep: 3600
    - call: approve
      with: {item: $item, price: $price}
      save: approved_by
  else:
    - set: {approved_by: nobody}
- parallel:
    - call: charge
      with: {amount: $price}
      retry: 3
    - - call: pack
        with: {item: $item}
      - call: ship
        with: {item: $item}
        save: parcel
- return: {parcel: $parcel, approved by: $approved_by}
"""

CALLS: list[str] = []


def price_of(item: str) -> int:
    return {"book": 20, "sofa": 900}[item]


def approve(item: str, price: int) -> str:
    CALLS.append(f"approve {item} for {price}")
    return "ann"


def charge(amount: int) -> None:
    CALLS.append(f"charge {amount}")
    if current_task().attempt == 1:
        raise ConnectionError("the bank is busy")


def pack(item: str) -> None:
    CALLS.append(f"pack {item}")


def ship(item: str) -> str:
    CALLS.append(f"ship {item}")
    return f"parcel with a {item}"


FUNCTIONS = {function.__name__: function for function in (price_of, approve, charge, pack, ship)}
COMPARE = {">": operator.gt, "=": operator.eq}


class Interpreter:
    def __init__(self, ctx: Context, variables: dict[str, Any]) -> None:
        self._ctx = ctx
        self._variables = variables

    async def run(self, step: Any) -> Any:
        """Do a step, or a list of them; what a `return` gives, or None."""
        match step:
            case list():
                for one in step:
                    if (result := await self.run(one)) is not None:
                        return result
            case {"call": name, **options}:
                retry = RetryPolicy(max_attempts=options["retry"]) if "retry" in options else None
                arguments = self._value(options.get("with", {}))
                result = await self._ctx.task(retry=retry, name=name)(FUNCTIONS[name], **arguments)
                self._variables[options.get("save", "_")] = result
            case {"set": values}:
                self._variables.update(self._value(values))
            case {"sleep": seconds}:
                await self._ctx.sleep(self._value(seconds))
            case {"parallel": branches}:
                async with asyncio.TaskGroup() as group:
                    for branch in branches:
                        group.create_task(self.run(branch))
            case {"if": [left, compare, right], **branches}:
                holds = COMPARE[compare](self._value(left), self._value(right))
                return await self.run(branches.get("then" if holds else "else", []))
            case {"return": value}:
                return self._value(value)
            case _:
                raise ValueError(f"there is no such step: {step!r}")
        return None

    def _value(self, text: Any) -> Any:
        """The value of an expression: $name is a variable, any other text itself."""
        if isinstance(text, dict):
            return {key: self._value(value) for key, value in text.items()}
        if isinstance(text, str) and text.startswith("$"):
            return self._variables[text[1:]]
        return text


@workflow
async def interpret(ctx: Context, program: list[Any], variables: dict[str, Any]) -> Any:
    return await Interpreter(ctx, dict(variables)).run(program)


def main() -> None:
    program = yaml.safe_load(PROGRAM)
    with WorkflowEnvironment() as env:
        for item in ("book", "sofa"):
            CALLS.clear()
            before = env.now()
            print(env.start_execution(interpret, program, {"item": item}).result())
            print("hours:", (env.now() - before).seconds // 3600, "- calls:", sorted(CALLS))


if __name__ == "__main__":
    main()
