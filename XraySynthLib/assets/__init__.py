"""Files that ship with the library; the scripts that made them stand beside them."""
