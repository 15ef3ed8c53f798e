//! The kernel that users copy (docs/template), started and used as its README says.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::machine::{Emulator, Process, QemuDir, tied_to_us};
use crate::tool;

/// How long it may take to boot, or to do what was typed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Switches between the kernel's console and QEMU's monitor.
const SWITCH: &str = "\x01c";

/// Has the `image` of the template in `folder` boot, gets memory, and loses it again.
///
/// # Errors
/// When it does not, or the README shows other commands or other lines.
pub(super) fn comes_and_goes(folder: &Path, image: &Path, qemu: &QemuDir) -> Result<()> {
    let readme = tool::read_text(&folder.join("README.md"))?;
    let config = tool::read_text(&folder.join(".cargo/config.toml"))?;
    let runner = runner(&config).context("the template's config.toml has no runner")?;
    let mut words = runner.split(' ');
    let program = qemu.program(words.next().unwrap_or_default())?;
    let mut command = tied_to_us(&program);
    command.args(qemu.arguments()).args(words).arg(image);
    let (mut emulator, (output, mut input)) = Emulator::start(&mut command)?;
    let (sender, lines) = channel();
    tool::forward(output, sender, |line| line.trim().to_owned());

    wait(&lines, &said(&readme, "ready")?)?;
    input.write_all(SWITCH.as_bytes())?;
    for (typed, expected) in [("device_add", "memory came"), ("device_del", "memory went")] {
        for line in readme.lines().filter_map(|line| line.strip_prefix("(qemu) ")) {
            // The backend of a DIMM is made before it is plugged.
            if line.starts_with(typed) || typed == "device_add" && line.starts_with("object_add") {
                writeln!(input, "{line}")?;
            }
        }
        wait(&lines, &said(&readme, expected)?)?;
    }
    writeln!(input, "quit")?;
    emulator.wait(Instant::now() + PATIENCE).map(drop)
}

/// The line of the README that begins with `start`.
fn said(readme: &str, start: &str) -> Result<String> {
    let line = readme.lines().find(|line| line.starts_with(start));
    line.map(str::to_owned).with_context(|| format!("the README shows no line `{start}...`"))
}

/// What `cargo run` starts.
fn runner(config: &str) -> Option<&str> {
    let value = config.lines().find_map(|line| line.strip_prefix("runner = \""))?;
    value.strip_suffix('"')
}

/// Waits for a line that ends in `wanted`: the monitor's prompt may be before it.
fn wait(lines: &Receiver<String>, wanted: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if line.ends_with(wanted) {
            return Ok(());
        }
        seen.push(line);
    }
    bail!("`{wanted}` did not come; the console ended with\n  {}", seen.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_and_the_lines_of_the_readme_are_found() {
        assert_eq!(runner("[build]\nrunner = \"qemu -kernel\"\n"), Some("qemu -kernel"));
        assert_eq!(said("a\nready: go\n", "ready").unwrap(), "ready: go");
        assert!(said("a\n", "ready").is_err());
    }
}
