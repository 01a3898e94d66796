"""Files as such: whole or damaged, locked, replaced at once, and small enough for the memory."""
