//! Random bytes: an argument everywhere, so that tests can break it. A source that fails or answers zeros makes nothing.

use zeroize::Zeroizing;

/// A source of random bytes: fills the whole buffer or fails.
pub type Random<'a> = dyn FnMut(&mut [u8]) -> Result<(), RandomError> + 'a;

/// No randomness: nothing secret can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the random source failed")]
pub struct RandomError;

/// The operating system's generator.
///
/// # Errors
/// [`RandomError`] when it cannot answer.
pub fn system_random(buffer: &mut [u8]) -> Result<(), RandomError> {
    getrandom::fill(buffer).map_err(|_| RandomError)
}

/// `N` fresh bytes.
///
/// # Errors
/// [`RandomError`] when the source fails or answers only zeros, as a broken one does.
pub(crate) fn draw<const N: usize>(random: &mut Random<'_>) -> Result<Zeroizing<[u8; N]>, RandomError> {
    let mut bytes = Zeroizing::new([0; N]);
    random(bytes.as_mut_slice())?;
    if bytes.iter().all(|byte| *byte == 0) { Err(RandomError) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_source_makes_nothing() {
        assert_eq!(draw::<32>(&mut |_| Err(RandomError)), Err(RandomError));
        assert_eq!(draw::<32>(&mut |_| Ok(())), Err(RandomError));
        let one = draw::<32>(&mut system_random).unwrap();
        assert_ne!(one, draw::<32>(&mut system_random).unwrap());
    }
}
