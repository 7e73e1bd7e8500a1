"""One run from its settings: prepare, build, fit, export, evaluate."""
