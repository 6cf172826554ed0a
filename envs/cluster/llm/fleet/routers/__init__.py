"""Routing rules, one file each: which replica of a function gets a request that arrives."""
