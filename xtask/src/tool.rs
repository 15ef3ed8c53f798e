//! Running other programs: quietly, with the tail of their output on failure, or for a line of output.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::progress::Progress;

/// Lines of a failed tool's output that are worth showing.
const TAIL: usize = 25;

/// The cargo that runs this xtask, so that nested builds use the same toolchain; in the workspace.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// The bytes of a file.
///
/// # Errors
/// When it cannot be read; the error names it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The text of a file.
///
/// # Errors
/// When it cannot be read; the error names it.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The file `name` resolves to on the search path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The command line as a user would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// `word` in single quotes where a shell would take it apart.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The trimmed standard output of a command; `None` if it fails or is absent.
pub(crate) fn output_of<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Runs `command` with its output hidden behind `progress`.
///
/// # Errors
/// When it cannot start or fails: the error holds its command line, a plain reason where its output
/// shows a well-known one, and the tail of that output.
pub(crate) fn run(command: &mut Command, progress: &Progress) -> Result<()> {
    let line = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;

    // Both pipes are drained by threads of their own: one full pipe must not stop the tool.
    let (sender, lines) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        forward(pipe, sender.clone(), |line| line);
    }
    if let Some(pipe) = child.stderr.take() {
        forward(pipe, sender.clone(), |line| line);
    }
    drop(sender);

    let mut tail = VecDeque::new();
    for text in lines {
        progress.detail(&text);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(text);
    }

    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let tail = tail.make_contiguous().join("\n    ");
    let why = reason(&tail).map_or(String::new(), |why| format!(": {why}"));
    bail!("`{line}` failed ({status}){why}\n    {tail}")
}

/// Sends every line of `pipe`, as what `wrap` makes of it, to `lines`, until the end; in a thread of its own.
pub(crate) fn forward<T: Send + 'static>(
    pipe: impl Read + Send + 'static,
    lines: mpsc::Sender<T>,
    wrap: impl Fn(String) -> T + Send + 'static,
) {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        while let Some(line) = next_line(&mut pipe) {
            if lines.send(wrap(line)).is_err() {
                return;
            }
        }
    });
}

/// The next line, without its end. What is not UTF-8 in it is replaced.
pub(crate) fn next_line(from: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    let count = from.read_until(b'\n', &mut bytes).ok()?;
    let line = String::from_utf8_lossy(&bytes);
    (count > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A plain reason for a failure, where the tool's output shows a well-known one.
fn reason(output: &str) -> Option<&'static str> {
    let known = [
        ("No space left on device", "the disk is full"),
        ("don't have enough free space", "the disk is full"),
        ("Could not get lock", "another package manager is running"),
        ("Temporary failure resolving", "no network (names do not resolve)"),
        ("Could not resolve", "no network (names do not resolve)"),
        ("dns error", "no network (names do not resolve)"),
        ("Network is unreachable", "no network"),
        ("Unable to locate package", "this system does not offer that package"),
        ("Permission denied", "permission denied"),
    ];
    known.iter().find(|(needle, _)| output.contains(needle)).map(|&(_, why)| why)
}

/// Writes `bytes` to `path` so that a reader sees the old file or the whole new one.
///
/// # Errors
/// Any input/output error, naming the file.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    // Threads of one run may write the same file.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.{number}.tmp", std::process::id()));
    let partial = path.with_file_name(name);

    let written = std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        // Best effort: the error below is the one that counts.
        let _ = std::fs::remove_file(&partial);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// As [`write_atomically`], into a folder that is made if it is not there.
///
/// # Errors
/// Any input/output error, naming the file or the folder.
pub(crate) fn write_in_folder(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    write_atomically(path, bytes)
}

/// Waits until no other run uses what is in the folder `dir`, which is made if it is not there. It is this run's turn until
/// the file is dropped.
///
/// # Errors
/// Any input/output error, naming the folder.
pub(crate) fn turn(dir: &Path) -> Result<File> {
    let begun = std::fs::create_dir_all(dir).and_then(|()| turn_file(dir)).and_then(|file| {
        if file.try_lock().is_err() {
            eprintln!("waiting for another run, which uses {}", dir.display());
            file.lock()?;
        }
        Ok(file)
    });
    begun.with_context(|| format!("cannot lock a file in {}", dir.display()))
}

/// The file that a run locks: the same for all, so one that is there is opened and never replaced.
fn turn_file(dir: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).open(dir.join("turn"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_do_not_have_the_turn_at_once() {
        let dir = crate::scratch::Scratch::new().unwrap();
        let first = turn(dir.path()).unwrap();
        let second = turn_file(dir.path()).unwrap();
        assert!(second.try_lock().is_err());
        drop(first);
        second.try_lock().unwrap();
        assert!(turn(Path::new("/dev/null/turn")).is_err());
    }

    #[test]
    fn a_failing_tool_shows_its_command_line_and_its_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo 'write: No space left on device' >&2; exit 3"]);
        let error = run(&mut command, &Progress::start("failing on purpose")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the disk is full"), "{text}");
        assert!(text.contains("first") && text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn a_tool_that_writes_no_text_is_still_read_to_its_end() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "printf 'caf\\351\\r\\nno end of line: No space left on device'; exit 1"]);
        let error = run(&mut command, &Progress::start("bytes")).unwrap_err().to_string();
        assert!(error.contains("the disk is full"), "{error}");
        assert!(error.contains("caf\u{fffd}\n"), "{error}");
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error =
            run(&mut Command::new("no-such-tool"), &Progress::start("missing")).unwrap_err();
        assert!(error.to_string().contains("no-such-tool"));
    }

    #[test]
    fn a_long_output_neither_blocks_nor_fills_the_error() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 1"]);
        let text = run(&mut command, &Progress::start("long")).unwrap_err().to_string();
        assert!(text.contains("line 19999") && !text.contains("line 100\n"));
    }

    #[test]
    fn words_that_a_shell_would_split_are_quoted() {
        let mut command = Command::new("qemu");
        command.args(["-append", "placement=device icount", "-m", "1G,slots=2"]);
        assert_eq!(shown(&command), "qemu -append 'placement=device icount' -m 1G,slots=2");
    }

    #[test]
    fn a_file_is_replaced_whole_and_no_leftover_stays() {
        let dir = crate::scratch::Scratch::new().unwrap();
        let path = dir.path().join("r.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_atomically(Path::new("/no/such/dir/r.json"), b"x").is_err());
    }
}
