"""Synthetic business documents: what they say (content, writers) and what they look like (layout, damage)."""
