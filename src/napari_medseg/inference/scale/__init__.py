"""A run spread over processes and machines: who works, and what one block of work is."""
