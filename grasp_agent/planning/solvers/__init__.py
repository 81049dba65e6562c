"""Trajectory optimisers, one file each."""
