//! The one integration binary: every case here goes through a real Envoy, the real module and the real service.

fn main() {}
