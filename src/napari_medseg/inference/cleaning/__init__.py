"""Steps that make each label better without an image: parts, holes, borders. A model file can ask for them."""
