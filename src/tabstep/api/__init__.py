"""tabstep from Python: train on a DataFrame or on files, and a classifier for scikit-learn."""
