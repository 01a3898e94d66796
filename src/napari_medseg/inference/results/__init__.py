"""Where results go: boxes into stores, what is done already, and what runs out of memory."""
