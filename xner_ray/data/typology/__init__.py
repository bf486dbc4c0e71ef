"""Facts on languages beyond their codes, each from a stated source: family, resources, syntax."""
