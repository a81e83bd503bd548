"""A server of MCP with one tool: in memory, or over standard input and output."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("scales")


@server.tool()
def weigh(city: str) -> str:
    """Weigh a city."""
    return f"{city} is heavy"


if __name__ == "__main__":
    server.run("stdio")
