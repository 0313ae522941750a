"""Sources, line extraction, MLS, columns and shards, the training loader."""
