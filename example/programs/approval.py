"""A purchase order that a person approves: by a link in a mail, within three days."""

import asyncio
from datetime import timedelta

from mini_workflow import Context, workflow
from mini_workflow.testing import WorkflowEnvironment

PATIENCE = timedelta(days=3)
REMIND_AFTER = timedelta(days=1)

MAILS: list[tuple[str, str]] = []
"""What has been sent, as subject and token. Stands in for a mail server."""


def send_mail(subject: str, token: str) -> None:
    MAILS.append((subject, token))


def place_order(number: str, approved_by: str) -> str:
    return f"{number} placed, approved by {approved_by}"


@workflow
async def purchase_order(ctx: Context, number: str, amount: int) -> str:
    stage = "asking"
    ctx.on_query("stage", lambda: stage)

    approval = ctx.promise("approval")
    await ctx.task(send_mail, f"{number}: approve {amount} EUR?", approval.token)
    stage = "waiting for approval"

    async def remind() -> None:
        await ctx.sleep(REMIND_AFTER)
        await ctx.task(send_mail, f"{number}: a reminder", approval.token)

    reminder = asyncio.create_task(remind())
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            answer = await approval
    except TimeoutError:
        stage = "expired"
        return f"{number} expired"
    finally:
        reminder.cancel()

    if not answer["approved"]:
        stage = "rejected"
        return f"{number} rejected by {answer['by']}"
    stage = "ordering"
    receipt = await ctx.task(place_order, number, answer["by"])
    stage = "ordered"
    return receipt


def main() -> None:
    with WorkflowEnvironment() as env:
        order = env.start_execution(purchase_order, "PO-7", 900)
        env.advance(timedelta(days=2))
        print("after two days:", order.query("stage"))
        for subject, _ in MAILS:
            print("mail:", subject)
        _, token = MAILS[0]  # a click on the link of the first mail: the web server calls
        env.complete_promise(token, {"approved": True, "by": "ann"})
        print(order.result(), "- stage:", order.query("stage"))

        forgotten = env.start_execution(purchase_order, "PO-8", 20)
        print(forgotten.result(), "on", env.now().date())


if __name__ == "__main__":
    main()
