"""From a call to a task, in the caller's thread."""
