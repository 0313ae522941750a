"""CLIP tokens as members of a sample: in half precision, or in 8 bits with a scale a token."""

from collections.abc import Mapping

import numpy as np

from src.data.images import array_bytes, array_from


def encode_tokens(tokens: np.ndarray, bits: int = 16) -> dict[str, bytes]:
    """Tokens [1 + n, D] as `npy`. bits: 16, or 8: each token divided by its `scale.npy` [1 + n, 1]; its largest is 127.

    No value is off by more than half a scale, 1/254 of the token's largest.
    """
    if bits == 16:
        return {"npy": array_bytes(tokens.astype(np.float16))}
    scale = np.abs(tokens).max(-1, keepdims=True).astype(np.float32) / 127
    whole = np.rint(tokens / np.maximum(scale, np.finfo(np.float32).tiny)).astype(np.int8)
    return {"npy": array_bytes(whole), "scale.npy": array_bytes(scale)}


def decode_tokens(sample: Mapping[str, bytes]) -> np.ndarray:
    """float32 [1 + n, D]."""
    tokens = array_from(sample["npy"]).astype(np.float32)
    return tokens * array_from(sample["scale.npy"]) if "scale.npy" in sample else tokens
