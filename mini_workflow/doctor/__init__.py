"""Diagnose executions for the command line and the page; each problem has a remedy."""
