"""Encoder, dynamics and decoder of compact latents."""
