"""The source bundle of a job: its files, requirements and what must not be in it."""
