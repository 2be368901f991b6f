"""loracast as other frameworks' forecasters: each is an extra of its own, and passes that framework's own checks."""
