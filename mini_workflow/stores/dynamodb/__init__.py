"""DynamoDB: the newest turns of executions in a table, an item for each, and the index beside them."""
