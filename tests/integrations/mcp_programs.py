"""Agents of pydantic-ai with the tools of an MCP server."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset

from mini_workflow import Context, workflow
from mini_workflow.integrations.pydantic_ai import MiniWorkflowDurability
from tests.integrations.mcp_server import server


@dataclass
class Customer:
    name: str


def made(name: str, client: Any) -> Agent[Customer, str]:
    toolset = MCPToolset[Customer](client, id="scales", init_timeout=60)
    durability = MiniWorkflowDurability()
    return Agent(
        "test", name=name, deps_type=Customer, toolsets=[toolset], capabilities=[durability]
    )


near = made("near", server)
far = made("far", StdioTransport(sys.executable, [str(Path(__file__).with_name("mcp_server.py"))]))


@workflow("agents.weighs_near")
async def weighs_near(ctx: Context) -> str:
    return (await near.run("Weigh.", deps=Customer("ann"))).output


@workflow("agents.weighs_far")
async def weighs_far(ctx: Context) -> str:
    return (await far.run("Weigh.", deps=Customer("ann"))).output
