"""The Dagster side: assets, checks, automation and settings. Stations do the work and know nothing of this."""
