"""The sections of a run's page: each is a function from what the run left to pieces of HTML."""
