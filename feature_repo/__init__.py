"""Feature views: SQL over facts, point-in-time joins, and the Feast definitions of the contract."""
