"""The command line: one module a verb, each importing what it needs only when it runs."""
