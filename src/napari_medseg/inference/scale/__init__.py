"""A run spread over processes and machines: who works, what one block of work is, and instances across blocks."""
