//! Addresses and blocks of them as numbers in their order: comparing costs Cedar little, where its own addresses are read
//! from text whenever a policy that names one is evaluated. An IPv4 address in IPv6's clothes is one of IPv4.

use std::net::{IpAddr, Ipv6Addr};

/// `source` of a client that has an IPv6 address.
const OTHER: i64 = -1;
/// `source` of a client that nobody can place.
pub(super) const UNKNOWN: i64 = -2;

/// A client's address as the context has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// An IPv4 address, or that it is none.
    pub(super) source: i64,
    /// An IPv6 address, in halves.
    pub(super) source6: Option<(i64, i64)>,
}

impl Source {
    pub(super) fn new(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self { source: UNKNOWN, source6: None },
            Some(IpAddr::V4(address)) => Self { source: address.to_bits().into(), source6: None },
            Some(IpAddr::V6(address)) => Self { source: OTHER, source6: Some(halves(address)) },
        }
    }
}

/// The halves of an address.
pub(super) fn halves(address: Ipv6Addr) -> (i64, i64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
    (ordered([a, b, c, d, e, f, g, h]), ordered([i, j, k, l, m, n, o, p]))
}

/// A number that is the greater the greater the half, which may be past the greatest signed number, is.
fn ordered(half: [u8; 8]) -> i64 {
    (u64::from_be_bytes(half) ^ 1 << 63).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_order_of_addresses() {
        let texts =
            ["::", "::1", "::7fff:ffff:ffff:ffff", "::8000:0:0:0", "7fff::", "8000::", "ffff::", "ffff::8000:0:0:0"];
        let numbers = texts.map(|text| halves(text.parse().unwrap()));
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        for (text, source) in [("10.0.0.1", 0x0a00_0001), ("::ffff:10.0.0.1", 0x0a00_0001), ("255.0.0.0", 0xff00_0000)]
        {
            assert_eq!(Source::new(text.parse().ok()), Source { source, source6: None }, "{text}");
        }
        assert_eq!(Source::new("::".parse().ok()), Source { source: OTHER, source6: Some((i64::MIN, i64::MIN)) });
        assert_eq!(Source::new(None), Source { source: UNKNOWN, source6: None });
    }
}
