//! The `bulkhead` binary: the service and the commands of its operators. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    authz_service::cli::run(std::env::args_os())
}
