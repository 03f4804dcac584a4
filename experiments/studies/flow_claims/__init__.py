"""What papers claim of flow critics, tested at a size that two CPU cores can train: one script a claim."""
