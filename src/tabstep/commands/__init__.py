"""The commands of the console script: two small functions each, its arguments and what it does with them."""
