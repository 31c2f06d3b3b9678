"""Code for notebooks only, mostly figures. A notebook finds it beside itself by `from figures import pictures`."""
