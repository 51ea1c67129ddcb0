"""Stand-ins of the ctk and qMRML widgets that a module panel of ours uses."""
