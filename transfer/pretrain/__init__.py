"""Makes the small models that ship."""
