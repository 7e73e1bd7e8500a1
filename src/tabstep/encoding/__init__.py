"""Rows to arrays: what is fitted on train, and its transform of numbers, categories and labels."""
