"""Python values to bytes and back."""
