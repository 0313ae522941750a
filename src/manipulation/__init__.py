"""Text edits of reference tokens: global, local, heatmaps."""

from src.manipulation.algorithms import correlation_map, edit_global, edit_local, edit_tokens
from src.manipulation.edits import Edit, EditError, encode_edits, series

__all__ = ["Edit", "EditError", "correlation_map", "edit_global", "edit_local", "edit_tokens", "encode_edits", "series"]
