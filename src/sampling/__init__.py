"""Noise schedules, guidance, the sampler loop, attention injection, AdaIN."""
