"""The indexes over the model."""
