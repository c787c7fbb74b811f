"""From a payload to a value, in the thread that asks for it."""
