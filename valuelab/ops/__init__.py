"""Pure maths on arrays, one topic in each file."""
