//! Blocks of addresses; and which addresses may be connected to: public ones, and those that an operator listed
//! (security.md B20; RFC 6890).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A block of addresses, as `10.0.0.0/8` or `::1/128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

/// The first address of a block and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Of IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// Of IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

/// A text is no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no block of addresses, as `10.1.0.0/16` or `::1/128`")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').ok_or(NetworkError)?;
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let digits =
            prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix.len() == 1 || !prefix.starts_with('0'));
        let prefix = prefix.parse().ok().filter(|prefix| digits && *prefix <= width(address)).ok_or(NetworkError)?;
        let network = Self { address, prefix };
        // An IPv4 address in IPv6's clothes would hold nothing: addresses are compared without them.
        let plain = address.to_canonical() == address && network.cut(bits(address)) == bits(address);
        if plain { Ok(network) } else { Err(NetworkError) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Network {
    /// Whether an address is in it; one of the other family never is.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.address) && self.cut(bits(address)) == bits(self.address)
    }

    /// Its first address and its last.
    #[must_use]
    pub fn ends(&self) -> Ends {
        match self.address {
            IpAddr::V4(first) => {
                let behind = u32::MAX.checked_shr(self.prefix).unwrap_or(0);
                Ends::V4(first, Ipv4Addr::from_bits(first.to_bits() | behind))
            }
            IpAddr::V6(first) => {
                let behind = u128::MAX.checked_shr(self.prefix).unwrap_or(0);
                Ends::V6(first, Ipv6Addr::from_bits(first.to_bits() | behind))
            }
        }
    }

    /// Without the bits behind the prefix.
    fn cut(&self, bits: u128) -> u128 {
        let behind = width(self.address).saturating_sub(self.prefix);
        bits.checked_shr(behind).and_then(|kept| kept.checked_shl(behind)).unwrap_or(0)
    }
}

/// Whether an address may be connected to, over TLS or, where it is listed, without.
pub(super) fn may_connect(address: IpAddr, listed: &[Network], secure: bool) -> bool {
    let address = address.to_canonical();
    listed.iter().any(|network| network.holds(address)) || secure && is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// IANA's registry of special addresses, without its rare global exceptions.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 10 | 127 | 224..=255, ..] | [192, 168, ..] | [169, 254, ..] | [192, 0, 0 | 2, _] => true,
        [172, b, ..] => b & 0xf0 == 16,
        [100, b, ..] => b & 0xc0 == 64,
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => true,
        _ => false,
    };
    !special
}

/// Only what is handed out for global use (2000::/3), without tunnels and documentation; NAT64 by the address within.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] => false,
        [0x3fff, second, ..] => second > 0xfff,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_not_public_must_be_listed() {
        for private in [
            "127.0.0.1",
            "127.255.255.254",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "fec0::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "3fff::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "4000::1",
        ] {
            assert!(!may_connect(ip(private), &[], true), "{private}");
            let listed: Network =
                format!("{}/{}", ip(private).to_canonical(), width(ip(private).to_canonical())).parse().unwrap();
            assert!(
                may_connect(ip(private), &[listed], true) && may_connect(ip(private), &[listed], false),
                "{private}"
            );
        }
    }

    #[test]
    fn what_is_public_needs_tls() {
        for public in [
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "193.0.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(may_connect(ip(public), &[], true), "{public}");
            assert!(!may_connect(ip(public), &[], false), "{public}");
        }
    }

    #[test]
    fn blocks_hold_what_they_say() {
        let network = |text: &str| text.parse::<Network>().unwrap();
        assert!(network("10.1.0.0/16").holds(ip("10.1.255.255")) && !network("10.1.0.0/16").holds(ip("10.2.0.0")));
        assert!(network("0.0.0.0/0").holds(ip("255.1.2.3")) && !network("0.0.0.0/0").holds(ip("::1")));
        assert!(network("::/0").holds(ip("ffff::")) && !network("::/0").holds(ip("1.2.3.4")));
        for (block, first, last) in [
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.3"),
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.255"),
        ] {
            assert_eq!(network(block).ends(), Ends::V4(first.parse().unwrap(), last.parse().unwrap()), "{block}");
        }
        for (block, first, last) in [
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::/65", "2001:db8::", "2001:db8::7fff:ffff:ffff:ffff"),
            ("::1/128", "::1", "::1"),
        ] {
            assert_eq!(network(block).ends(), Ends::V6(first.parse().unwrap(), last.parse().unwrap()), "{block}");
        }
        for none in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "::1/129",
            "a/8",
            "10.0.0/8",
            "::1/127 ",
        ] {
            assert_eq!(none.parse::<Network>(), Err(NetworkError), "{none}");
        }
    }
}
