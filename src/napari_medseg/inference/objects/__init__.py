"""Objects one by one: connected parts of labels, parts that are cut where they are narrow, and what a detector finds.

Everything is streamed by blocks, and the ids do not depend on them.
"""
