"""What pages are made of. `basics`: elements; `forms`: fields; `states`: empty, failed; `dialogs`: questions;
`table`: every list's table; `filters`: what stands above it; `search`: the box at the top.
"""
