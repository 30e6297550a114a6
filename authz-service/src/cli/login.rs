//! `bulkhead login`, `token`, `logout`: the caller's own side. No service is asked, only the tenant's provider.

use std::io::Write;
use std::process::{Command, Stdio};

use jiff::Timestamp;

use super::CliError;
use super::command::{LoginArgs, LoginFile};
use crate::login::{self, Kept, KeptFile, LoginError, Pending, Provider, Wanted, access_token};
use crate::vault::system_random;

/// Logs in and keeps the tokens.
pub(super) async fn login(asked: LoginArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let file = KeptFile::new(asked.file.path);
    let client = login::client(&asked.client_id, asked.client_secret_file.as_deref())?;
    let wanted = Wanted { scope: asked.scope, resource: asked.resource };
    let provider = Provider::discover(&asked.issuer).await?;
    let tokens = if asked.client_credentials {
        provider.by_client_credentials(&client, &wanted).await?
    } else if asked.device {
        login::by_device(&provider, &client, &wanted, tell_device).await?
    } else {
        let show = |page: &str| tell_page(page, !asked.no_browser);
        login::by_browser(&provider, &client, &wanted, &mut system_random, show).await?
    };
    // The file is found again from elsewhere.
    let secret = asked.client_secret_file.map(std::path::absolute).transpose()?;
    let kept = Kept::new(&asked.issuer, &client, secret, wanted, tokens, Timestamp::now());
    let _alone = file.lock()?;
    file.write(&kept)?;
    let until = kept.expires_at.map(|end| format!(", its token good until {end}")).unwrap_or_default();
    let renewed = if kept.refresh_token().is_some() || client.is_confidential() { " and renewed then" } else { "" };
    Ok(writeln!(out, "logged in at {}{until}{renewed}; kept in {}", asked.issuer, file.path().display())?)
}

/// Prints an access token that is good for a while.
pub(super) async fn token(file: LoginFile, out: &mut dyn Write) -> Result<(), CliError> {
    let kept = access_token(&KeptFile::new(file.path), Timestamp::now()).await?;
    Ok(writeln!(out, "{}", kept.access_token())?)
}

/// Revokes and forgets the tokens. What cannot be revoked is forgotten all the same, and said.
pub(super) async fn logout(file: LoginFile, out: &mut dyn Write) -> Result<(), CliError> {
    let file = KeptFile::new(file.path);
    let _alone = file.lock()?;
    let kept = file.read()?;
    let revoked = revoke(&kept).await;
    file.remove()?;
    match revoked {
        Ok(()) => Ok(writeln!(out, "logged out at {}", kept.issuer)?),
        Err(why) => Err(CliError::Refused(format!(
            "the login is forgotten here, but its tokens stay good until they end: {why}"
        ))),
    }
}

async fn revoke(kept: &Kept) -> Result<(), LoginError> {
    let client = kept.client()?;
    Provider::discover(&kept.issuer).await?.revoke(&client, kept.refresh_token().unwrap_or(kept.access_token())).await
}

fn tell_page(page: &str, open: bool) {
    eprintln!("Log in with a browser on this host:\n\n  {page}\n");
    if open {
        // Where there is none, the address above is enough.
        let mut opener = Command::new("xdg-open");
        let _ = opener.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}

fn tell_device(pending: &Pending) {
    eprintln!("Open {} on any device and enter the code {}", pending.verification_uri, pending.user_code);
    if let Some(page) = &pending.verification_uri_complete {
        eprintln!("or open {page}");
    }
    eprintln!("Waiting …");
}
