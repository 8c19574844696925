"""The command line: one module for each command, with imports deferred until it runs."""
