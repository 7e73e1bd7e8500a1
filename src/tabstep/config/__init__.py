"""Typed view of the composed configuration: checked at once, before torch is imported."""
