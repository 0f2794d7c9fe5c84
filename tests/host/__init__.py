"""The machine's side against the real machine: namespaces, filesystems, hostile trees."""
