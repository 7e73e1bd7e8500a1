"""A run as a group of workers that Ray Train starts, watches and starts again; no torch, and Ray only inside."""
