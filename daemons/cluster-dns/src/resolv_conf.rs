//! `/etc/resolv.conf`: where names of other zones are asked for.

use std::net::{IpAddr, SocketAddr};

/// Name servers of the file, in order; the host's own loopback means nothing here and would lead back to us.
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().map(str::split_whitespace);
    words
        .filter_map(|mut words| (words.next() == Some("nameserver")).then(|| words.next()).flatten())
        .filter_map(|address| address.split('%').next()?.parse::<IpAddr>().ok())
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_options_and_loopback_are_no_servers() {
        let text = "# x\nsearch a b\nnameserver 127.0.0.53\nnameserver 10.0.0.1\n nameserver fe80::1%eth0 \noptions ndots:5\nnameserver\n";
        let shown: Vec<_> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:53", "[fe80::1]:53"]);
    }
}
