"""Keeps a product's data in sync with the apps its customers use, on Dagster."""
