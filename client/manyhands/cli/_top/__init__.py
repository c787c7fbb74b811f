"""What `manyhands top` shows, and how."""
