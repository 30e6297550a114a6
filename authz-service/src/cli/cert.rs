//! `bulkhead cert`: a tenant's CA, and the certificates that it issues. A workload's private key is made here or by the
//! workload itself, and never leaves the place where it is made.

use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use rcgen::{CertificateParams, KeyPair};
use zeroize::Zeroizing;

use super::CliError;
use super::command::{CaCommand, CertCommand, NewCertificate, Output};
use crate::admin::client::Client;
use crate::admin::messages::{NewAuthorityBody, NewCertificateBody, RevokeCertificateBody};
use crate::admin::{CertificateIssued, IssuedRow};

/// The longest request that is read, in bytes.
const MAX_REQUEST_BYTES: u64 = 16 * 1024;

pub(super) async fn run(client: &Client, asked: CertCommand, out: &mut dyn Write) -> Result<(), CliError> {
    match asked {
        CertCommand::Ca(CaCommand::Create { tenant, replace }) => {
            let made = client.create_authority(&NewAuthorityBody { tenant, replace }).await?;
            Ok(write!(out, "{}", made.certificate)?)
        }
        CertCommand::Issue(asked) => issue(client, asked, out).await,
        CertCommand::Revoke { tenant, serial } => {
            client
                .revoke_certificate(&RevokeCertificateBody { tenant: tenant.clone(), serial: serial.clone() })
                .await?;
            Ok(writeln!(out, "certificate {serial} of {tenant} is revoked")?)
        }
        CertCommand::List { tenant, output } => {
            let rows = client.list_certificates(tenant.as_deref()).await?;
            match output {
                Output::Json => Ok(writeln!(out, "{}", serde_json::to_string(&rows)?)?),
                Output::Table => Ok(writeln!(out, "{}", table(&rows))?),
            }
        }
    }
}

async fn issue(client: &Client, asked: NewCertificate, out: &mut dyn Write) -> Result<(), CliError> {
    let NewCertificate { tenant, path, ttl, csr, out: directory } = asked;
    let (request, key) = match csr {
        Some(file) => (read_request(&file)?, None),
        None => make_request().map(|(request, key)| (request, Some(key)))?,
    };
    let issued = client.issue_certificate(&NewCertificateBody { tenant, path, ttl: Some(ttl), request }).await?;
    let Some(directory) = directory else { return Ok(write!(out, "{}", issued.certificate)?) };
    keep(&directory, &issued, key.as_deref().map(String::as_str))
        .map_err(|error| CliError::Refused(format!("cannot write into `{}`: {error}", directory.display())))?;
    writeln!(out, "serial   {}", issued.serial)?;
    writeln!(out, "id       {}", issued.spiffe_id)?;
    writeln!(out, "expires  {}", issued.expires_at)?;
    Ok(writeln!(out, "files    {}", directory.display())?)
}

/// A new P-256 key, and the request that proves that we hold it.
fn make_request() -> Result<(String, Zeroizing<String>), CliError> {
    let refused = |_| CliError::Refused("the system makes no key".to_owned());
    let key = KeyPair::generate().map_err(refused)?;
    let request = CertificateParams::default().serialize_request(&key).and_then(|request| request.pem());
    Ok((request.map_err(refused)?, Zeroizing::new(key.serialize_pem())))
}

fn read_request(file: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MAX_REQUEST_BYTES).read_to_string(&mut text));
    read.map_err(|error| CliError::Refused(format!("cannot read `{}`: {error}", file.display())))?;
    Ok(text)
}

/// `tls.key` (0600), `tls.crt` and `ca.crt`, each whole or not at all; the key first, so that a certificate has its key.
fn keep(directory: &Path, issued: &CertificateIssued, key: Option<&str>) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let key = key.map(|key| ("tls.key", key));
    for (name, text) in key.into_iter().chain([("tls.crt", &*issued.certificate), ("ca.crt", &*issued.authority)]) {
        let (file, new) = (directory.join(name), directory.join(format!(".{name}.new")));
        // What a run that was stopped has left would keep its mode.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = std::fs::OpenOptions::new();
        let mut opened = options.write(true).create_new(true).mode(0o600).open(&new)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_all()?;
        std::fs::rename(new, file)?;
    }
    Ok(())
}

fn table(rows: &[IssuedRow]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["tenant", "serial", "state", "expires", "id"]);
    for row in rows {
        table.add_row([
            row.tenant.clone(),
            row.serial.clone(),
            row.state.as_str().to_owned(),
            row.expires_at.map(|at| at.to_string()).unwrap_or_default(),
            row.spiffe_id.clone().unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_are_private_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let issued = |certificate: &str| CertificateIssued {
            serial: "5a".into(),
            spiffe_id: "spiffe://acme.example/a".into(),
            expires_at: jiff::Timestamp::UNIX_EPOCH,
            certificate: certificate.into(),
            authority: "ca".into(),
        };
        std::fs::write(directory.path().join(".tls.key.new"), "left over").unwrap();
        for text in ["one", "two"] {
            keep(directory.path(), &issued(text), Some(text)).unwrap();
            for (name, want) in [("tls.key", text), ("tls.crt", text), ("ca.crt", "ca")] {
                let file = directory.path().join(name);
                assert_eq!(std::fs::read_to_string(&file).unwrap(), want);
                assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
        keep(directory.path(), &issued("three"), None).unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join("tls.key")).unwrap(), "two");
    }
}
