"""The roof: the `sentinel` command, composition, supervision, embedded stores. Nobody imports it."""
