"""The five verbs, and how a collection is read: described here, carried out by the ports."""
