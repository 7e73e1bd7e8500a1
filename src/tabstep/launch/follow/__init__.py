"""Following jobs on the service until they end."""
