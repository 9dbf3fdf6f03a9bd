"""Probing arrays that come from elsewhere: files and objects in, the same results as of a model out.

``files`` opens files without running code, ``given`` takes arrays, frames and caches as they are, ``axes`` says which axis is what,
``values`` and ``angles`` say which row belongs to which value, ``cells`` streams the cells through memory, and ``probe`` puts them together.
"""
