"""Ways to project materials; `drr.projection` picks one by name."""
