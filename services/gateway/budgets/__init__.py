"""Limits on the memory and the work of requests, over all calls: how many run, how many wait, which are refused."""
