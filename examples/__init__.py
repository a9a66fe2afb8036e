"""Ordinary LightningModules and DataModules, which a configuration alone makes sparse."""
