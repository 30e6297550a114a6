//! `bulkhead check`: a directory of resources, read as the service reads it, without a service.

use std::io::Write;
use std::path::Path;

use super::CliError;
use crate::resource;

pub(super) fn check(directory: &Path, out: &mut dyn Write) -> Result<(), CliError> {
    match resource::load(directory) {
        Ok(loaded) => {
            let set = &loaded.registry;
            writeln!(
                out,
                "good: {} tenants, {} models and aliases, {} providers, {} API keys; version {}",
                set.tenants.len(),
                set.models.len(),
                set.providers.len(),
                set.keys.len(),
                set.version
            )?;
            Ok(())
        }
        Err(problems) => {
            for problem in &problems {
                writeln!(out, "{problem}")?;
            }
            let many = if problems.len() == 1 { "problem" } else { "problems" };
            Err(CliError::Refused(format!("{} {many} in `{}`", problems.len(), directory.display())))
        }
    }
}
