"""Sections of the report of a run: each module turns files of the run into data for a template."""
