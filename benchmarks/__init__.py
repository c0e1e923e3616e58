"""Load: a stub model API, and scenarios that measure Sentinel beside its peers on the machine they run on."""
