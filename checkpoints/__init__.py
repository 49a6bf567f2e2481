"""Small trained models and evolved NAMMs that ship with the package."""
