"""Dagster assets that turn labelled business documents into a tested, exported, benchmarked LayoutLMv3."""
