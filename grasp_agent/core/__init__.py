"""The vocabulary that every other room shares: problems, plans, rows of a batch, noise that belongs to a row."""
