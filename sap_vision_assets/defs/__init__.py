"""The Dagster side: assets, checks, automation, settings. Stations do the work and know nothing of it."""
