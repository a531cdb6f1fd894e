"""The contract of extensions: what every node of a user's file must do, and `t2tbuild check` verifies."""
