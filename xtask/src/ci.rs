//! `cargo xtask ci`: everything a change has to pass, in one command.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::{lint, test};

/// Runs the linter and all tests; tests run although the linter complains, so that one run tells all.
///
/// # Errors
/// When something cannot even start.
pub(crate) fn main(root: &Path) -> Result<ExitCode> {
    let linted = lint::main(root)?;
    let tested = test::main(root, &test::Args::all())?;
    let good = linted == ExitCode::SUCCESS && tested == ExitCode::SUCCESS;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
