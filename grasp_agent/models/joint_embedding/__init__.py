"""Latents that are learnt by predicting them: a vector of many numbers, or a grid of cells."""
