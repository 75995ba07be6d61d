//! The Service proxy: Services and EndpointSlices as nftables rules.
