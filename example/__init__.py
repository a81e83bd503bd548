"""A workflow that uploads an object, and a demo that kills its engine half-way."""
