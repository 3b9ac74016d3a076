//! Whose request it is: the address of the connection, unless a trusted proxy says on whose behalf it asks. Never
//! believes a header of anybody else.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;

use crate::config::Network;

/// The client's address: the rightmost one in `Forwarded`, else `X-Forwarded-For`, that is no trusted proxy itself.
pub(crate) fn client(peer: SocketAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.ip().to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let hops = match all(headers, "forwarded") {
        hops if hops.is_empty() => all(headers, "x-forwarded-for"),
        hops => hops.into_iter().map(forwarded_for).collect(),
    };
    for hop in hops.iter().rev() {
        // What a trusted proxy wrote but is no address hides the rest: go no further left.
        let Some(address) = parse(hop) else { return client };
        client = address;
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// `for=` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> &str {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs
        .filter(|(name, _)| name.eq_ignore_ascii_case("for"))
        .map(|(_, value)| value.trim_matches('"'))
        .next()
        .unwrap_or("")
}

/// An address with or without port, IPv6 with or without brackets.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, headers: &[(&'static str, &str)], expected: &str) {
        let trusted = ["10.0.0.0/8", "::1"].map(|text| Network::parse(text).unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        assert_eq!(client(peer, &map, &trusted), expected.parse::<IpAddr>().unwrap(), "{headers:?}");
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        check("8.8.8.8", &[("x-forwarded-for", "1.1.1.1")], "8.8.8.8");
        check("10.0.0.1", &[("x-forwarded-for", "1.1.1.1")], "1.1.1.1");
        check("10.0.0.1", &[], "10.0.0.1");
    }

    #[test]
    fn the_rightmost_untrusted_address_counts() {
        check("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.0.0.2")], "1.1.1.1");
        check("10.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1")], "1.1.1.1");
        check("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, nonsense, 10.0.0.2")], "10.0.0.2");
        check("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, nonsense")], "10.0.0.1");
    }

    #[test]
    fn forwarded_is_read_with_ports_and_brackets() {
        check("::1", &[("forwarded", "for=\"[2001:db8::7]:4711\";proto=https, for=10.1.1.1:80")], "2001:db8::7");
        check("::1", &[("forwarded", "For=192.0.2.60;proto=http;by=203.0.113.43")], "192.0.2.60");
        check("::1", &[("forwarded", "for=192.0.2.60"), ("x-forwarded-for", "6.6.6.6")], "192.0.2.60");
        check("::1", &[("forwarded", "for=unknown")], "::1");
    }
}
