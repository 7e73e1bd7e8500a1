"""The model directory: saved, loaded, and the predictions that it makes."""
