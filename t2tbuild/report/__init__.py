"""Tables and pictures of what the other rooms found."""
