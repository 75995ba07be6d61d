//! The CRI v1 client, generated and checked in.
