"""Text edits of reference tokens: global, local, heatmaps."""
