"""Tasks, protocols, results and tables: how well methods learn from zoos."""
