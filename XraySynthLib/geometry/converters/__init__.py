"""Views in the conventions of the neighbours, both ways, one module each.

Every module documents the neighbour's frames and where they were read, and holds a named tuple of
what the neighbour's own calls take, `<neighbour>_from_view` and `view_from_<neighbour>`. No
neighbour is imported: arrays in, arrays out.
"""
