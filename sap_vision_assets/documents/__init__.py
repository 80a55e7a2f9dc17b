"""Labelled documents: read, validated, stored; synthetic ones made."""
