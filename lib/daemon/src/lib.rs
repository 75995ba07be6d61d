//! What every daemon shares: flags, logging, health, metrics, TLS serving with reload, signals, drain.
