"""The supernet: one training whose weights all members of a space share."""
