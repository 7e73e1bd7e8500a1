"""A whole job on this machine: the real request and the real toolkit, without AWS."""
