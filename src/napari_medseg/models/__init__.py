"""Model files: what a model says of itself (`spec`), and how it is written, read and checked (`file`, `header`)."""
