"""What the operating system gives: files, caches, exits, devices, processes."""
