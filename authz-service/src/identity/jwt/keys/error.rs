//! What can be wrong with a key set: read by whoever wrote it, so it names the key.

/// Why a key set is refused.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// Over 64 KiB.
    #[error("the key set has {0} bytes, more than 65536")]
    TooLarge(usize),
    /// Not strict JSON.
    #[error("the key set is not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// No array `keys` of objects.
    #[error("the key set has no list of keys")]
    NoKeys,
    /// Over 64 keys.
    #[error("the key set has {0} keys, more than 64")]
    TooMany(usize),
    /// Nothing that could verify a token.
    #[error("the key set has no key that verifies signatures")]
    Empty,
    /// One of its keys, by `kid` or by place.
    #[error("key `{name}` {problem}")]
    Key {
        /// Its `kid`, or `#` and its place in the set.
        name: String,
        /// What is wrong.
        problem: KeyProblem,
    },
}

/// What is wrong with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// Anybody who can verify could sign.
    #[error("is symmetric")]
    Symmetric,
    /// Whoever published it gave it away.
    #[error("holds private members")]
    Private,
    /// Absent, or of another type or encoding.
    #[error("has no valid member `{0}`")]
    Member(&'static str),
    /// Not `[A-Za-z0-9._-]{1,64}`.
    #[error("has a kid that is not 1 to 64 characters of A-Z, a-z, 0-9 and ._-")]
    Kid,
    /// Among several keys, none could be meant by its name.
    #[error("has no kid, and the set has several keys")]
    NoKid,
    /// Two keys of one name.
    #[error("stands twice")]
    Duplicate,
    /// `key_ops` without `verify`.
    #[error("has key_ops that do not allow to verify")]
    KeyOps,
    /// `alg` of another kind of key or another curve.
    #[error("has an alg that does not fit it")]
    Algorithm,
    /// Under 2048 or over 8192 bits.
    #[error("has a modulus that is not 2048 to 8192 bits")]
    RsaSize,
    /// Even, 1, or over 32 bits.
    #[error("has an exponent that is not odd, at least 3 and at most 32 bits")]
    RsaExponent,
    /// The library refuses it.
    #[error("is not a valid RSA key")]
    Rsa,
    /// Made by a broken generator (CVE-2017-15361).
    #[error("was made by a broken generator (ROCA)")]
    Roca,
    /// Off its curve, or of small order.
    #[error("is not a valid point of its curve")]
    Point,
}
