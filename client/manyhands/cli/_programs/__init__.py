"""What `manyhands exec` is made of."""
