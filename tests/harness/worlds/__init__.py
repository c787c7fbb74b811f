"""The pure cores, each between peers that exist only in the test."""
