//! `bulkhead check`: a directory of resources, read as the service reads it, without a service.

use std::io::Write;
use std::path::Path;

use super::CliError;

pub(super) fn check(directory: &Path, out: &mut dyn Write) -> Result<(), CliError> {
    match crate::resource::load(directory) {
        Ok(_) => Ok(writeln!(out, "ok")?),
        Err(problems) => {
            for problem in &problems {
                writeln!(out, "{problem}")?;
            }
            Err(CliError::Refused(format!("{} problems in `{}`", problems.len(), directory.display())))
        }
    }
}
