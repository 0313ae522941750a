"""Frechet distance, sketch fidelity, colour transfer, text response."""
