"""What is done with finished runs: compare them, read their predictions, average them."""
