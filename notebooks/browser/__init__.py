"""Stand-ins, on the site for the browser, for libraries that are not built for it."""
