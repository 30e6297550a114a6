//! What the ledger holds: at every admission, over every turn of a reservation, across restarts.
