"""Stepping environments, here and in worker processes."""
