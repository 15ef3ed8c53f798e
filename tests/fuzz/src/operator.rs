//! What an operator types: lines of the monitor, and the command line of the kernel.

use hotmem_kernel::cmdline::Options;
use hotmem_lab::monitor;

/// The input as a line of both.
pub(crate) fn lines(data: &[u8]) {
    let mut ignored = 0;
    let options = Options::parse(data, |word| ignored += word.len());
    assert!(ignored <= data.len() && options.budget > 0, "{options:?}");
    for line in String::from_utf8_lossy(data).lines() {
        if let Err(error) = monitor::parse(line) {
            assert!(!error.to_string().is_empty());
        }
    }
}
