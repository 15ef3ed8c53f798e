//! A log is played by another process, which may panic, or never end.

use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use hotmem_storm::{Event, Failed, Stats, write};

/// How the line begins that a process writes about a log.
const PLAYED: &str = "storm: played ";
const FAILED: &str = "storm: failed at ";
/// Time that a process may take, and more for each event.
const PATIENCE: Duration = Duration::from_secs(60);
const PER_EVENT: Duration = Duration::from_millis(20);
/// Time between two looks at a process that runs.
const PAUSE: Duration = Duration::from_millis(2);

/// Writes what became of the log of this process, once.
pub(crate) fn report(outcome: Result<&Stats, (usize, &str)>) {
    match outcome {
        Ok(stats) => println!("{PLAYED}{stats}"),
        Err((index, why)) => println!("{FAILED}{index} {why}"),
    }
}

/// Plays a log in a process of its own.
pub(crate) fn play(log: &[Event], plant: bool) -> Result<Stats, Failed> {
    let failed = |why| Failed { index: log.len(), why };
    let folder = std::env::temp_dir().join(format!("hotmem-storm-{}", std::process::id()));
    let played = in_folder(&folder, log, plant);
    // It is in the folder for temporary files if it stays.
    let _ = std::fs::remove_dir_all(&folder);
    read(&played.map_err(failed)?)
        .map_err(|(index, why)| Failed { index: index.unwrap_or(log.len()), why })
}

/// Runs the process; returns what it wrote.
fn in_folder(folder: &std::path::Path, log: &[Event], plant: bool) -> Result<String> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (path, text) = (folder.join("log"), write("on its way", log));
    std::fs::write(&path, &text)
        .with_context(|| format!("cannot write {} bytes to {}", text.len(), path.display()))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--alone").arg("--replay").arg(&path).args(plant.then_some("--plant"));
    command.stdin(Stdio::null()).stderr(Stdio::null());
    output(command, PATIENCE + PER_EVENT * u32::try_from(log.len()).unwrap_or(u32::MAX))
}

/// Runs a process, and returns what it wrote.
fn output(mut command: Command, patience: Duration) -> Result<String> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start a process")?;
    let stdout = child.stdout.take();
    // A process whose pipe is full would wait for a reader.
    let reader = thread::spawn(|| stdout.map(io::read_to_string).transpose());
    wait(&mut child, patience)?;
    let text = reader.join().map_err(|_| anyhow!("what a process wrote was not read"))??;
    Ok(text.unwrap_or_default())
}

fn wait(child: &mut Child, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("it takes longer than {} seconds", patience.as_secs());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Reads what a process wrote; an error has the index of the event, if that is known.
fn read(text: &str) -> Result<Stats, (Option<usize>, anyhow::Error)> {
    // A panic comes before everything that follows from it.
    let failed = text.lines().find_map(|line| line.strip_prefix(FAILED)?.split_once(' '));
    if let Some((index, why)) = failed {
        return Err((index.parse().ok(), anyhow!("{why}")));
    }
    let played = text.lines().find_map(|line| line.strip_prefix(PLAYED));
    let played = played.context("the process wrote no result").map_err(|why| (None, why))?;
    played.parse().map_err(|why| (None, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_wrote_is_read() {
        let stats = read("storm: played 3 add done\n").unwrap();
        assert_eq!(stats.of("add", "done"), 3);
        let (index, why) = read("storm: failed at 7 a panic\nstorm: played \n").unwrap_err();
        assert_eq!((index, why.to_string().as_str()), (Some(7), "a panic"));
        assert_eq!(read("killed\n").unwrap_err().0, None);
    }

    #[test]
    fn a_process_may_write_more_than_a_pipe_holds() {
        let mut command = Command::new("seq");
        command.arg("100000");
        let text = output(command, Duration::from_secs(20)).unwrap();
        assert!(text.ends_with("\n100000\n"), "{} bytes", text.len());
    }
}
