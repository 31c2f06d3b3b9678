"""What the site for the browser has instead of libraries that are not built for it."""
