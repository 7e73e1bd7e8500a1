"""A package, so that one of the same name among the installed ones cannot take its place."""
