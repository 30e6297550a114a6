//! The device flow (RFC 8628): a code that a person types into a page on another device, while this one asks again.

use std::time::Duration;

use form_urlencoded::Serializer;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::LoginError;
use super::provider::{Client, Provider, Tokens, Wanted};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// What asking too often costs (§3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// No code is waited for longer.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// What a person needs.
#[derive(Debug, Deserialize)]
pub(crate) struct Pending {
    device_code: String,
    /// To be typed in.
    pub(crate) user_code: String,
    /// Where.
    pub(crate) verification_uri: String,
    /// The same with the code in it.
    pub(crate) verification_uri_complete: Option<String>,
    expires_in: u32,
    /// Seconds between two questions.
    #[serde(default = "five")]
    interval: u32,
}

const fn five() -> u32 {
    5
}

/// Logs somebody in; `show` is given what they need.
pub(crate) async fn by_device(
    provider: &Provider,
    client: &Client,
    wanted: &Wanted,
    show: impl FnOnce(&Pending),
) -> Result<Tokens, LoginError> {
    let mut form = Serializer::new(String::new());
    wanted.add_to(&mut form);
    let pending: Pending = provider.post(provider.device_endpoint()?, client, form).await?;
    show(&pending);
    let longest = Duration::from_secs(u64::from(pending.expires_in)).min(PATIENCE);
    let until = Instant::now() + longest;
    let mut between = Duration::from_secs(u64::from(pending.interval.clamp(1, 60)));
    loop {
        sleep(between).await;
        if Instant::now() >= until {
            return Err(LoginError::TooLate(longest.as_secs()));
        }
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", GRANT).append_pair("device_code", &pending.device_code);
        match provider.tokens(client, form).await {
            Err(LoginError::Refused { error, .. }) if error == "authorization_pending" => {}
            Err(LoginError::Refused { error, .. }) if error == "slow_down" => between = between.saturating_add(SLOWER),
            ended => return ended,
        }
    }
}
