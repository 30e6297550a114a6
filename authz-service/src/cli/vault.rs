//! `bulkhead vault`: a tenant's own provider key goes from standard input to the service, and is never shown again.

use std::io::{self, IsTerminal as _, Read, Write};

use zeroize::Zeroizing;

use super::CliError;
use crate::admin::client::Client;
use crate::admin::router::MAX_SECRET_BYTES;
use crate::vault::Secret;

pub(super) async fn put(client: &Client, tenant: &str, provider: &str, out: &mut dyn Write) -> Result<(), CliError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        writeln!(io::stderr(), "Paste the key, then Enter and Ctrl-D. It will be visible on this terminal.")?;
    }
    put_from(&mut stdin.lock(), client, tenant, provider, out).await
}

/// [`put`], from any reader.
pub(super) async fn put_from(
    input: &mut impl Read,
    client: &Client,
    tenant: &str,
    provider: &str,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let secret = read_key(input)?;
    client.put_provider_key(tenant, provider, &secret).await?;
    Ok(writeln!(out, "the key of {tenant} for {provider} is stored")?)
}

/// One key, without the line end that editors and `echo` put after it.
fn read_key(input: &mut impl Read) -> Result<Secret, CliError> {
    // Its full size at once: growing would leave copies behind.
    let most = MAX_SECRET_BYTES + 2;
    let mut key = Zeroizing::new(Vec::with_capacity(most + 1));
    let refused = |why: String| Err(CliError::Refused(why));
    if let Err(error) = input.take(most as u64 + 1).read_to_end(&mut key) {
        return refused(format!("cannot read the key from standard input: {error}"));
    }
    if key.last() == Some(&b'\n') {
        key.pop();
        if key.last() == Some(&b'\r') {
            key.pop();
        }
    }
    match key.len() {
        0 => refused("standard input is empty: pipe the key in, as in `bulkhead vault put … < key.txt`".into()),
        1..=MAX_SECRET_BYTES => Ok(Secret::new(std::mem::take(&mut *key))),
        _ => refused(format!("the key is larger than {MAX_SECRET_BYTES} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_not_part_of_the_key() {
        let key = |text: &str| read_key(&mut text.as_bytes()).unwrap().expose().to_vec();
        assert_eq!(key("sk-1\n"), b"sk-1");
        assert_eq!(key("sk-1\r\n"), b"sk-1");
        assert_eq!(key("sk-1"), b"sk-1");
        assert_eq!(key("sk-1\n\n"), b"sk-1\n");
        assert_eq!(key(&format!("{}\r\n", "x".repeat(MAX_SECRET_BYTES))).len(), MAX_SECRET_BYTES);
    }

    #[test]
    fn nothing_and_too_much_are_no_key() {
        for text in ["", "\n", "\r\n", &"x".repeat(MAX_SECRET_BYTES + 1), &"x".repeat(MAX_SECRET_BYTES * 3)] {
            assert!(matches!(read_key(&mut text.as_bytes()), Err(CliError::Refused(_))), "{}", text.len());
        }
    }
}
