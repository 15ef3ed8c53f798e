//! ACPICA's AML simulator, as a second opinion.
//!
//! Its registers are plain memory: what is written is read back. [`FlatMemory`] is the same for
//! our evaluator.
//!
//! [`FlatMemory`]: super::FlatMemory

use std::fs::File;
use std::process::Command;

use crate::{Outcome, Scratch, Tables, run};

/// A way to run `acpiexec` on tables: which fields of registers are preset to what.
#[derive(Debug, Clone, Default)]
pub struct AcpiExec {
    /// Values that fields read as, by path, such as `\_SB.MHPC.MRBH`.
    pub fields: Vec<(String, u64)>,
    /// The byte that all other registers are filled with.
    pub fill: u8,
}

/// The result of one evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evaluated {
    /// No value.
    Nothing,
    /// An integer.
    Integer(u64),
    /// A string.
    String(String),
    /// A buffer.
    Buffer(Vec<u8>),
    /// A package.
    Package(Vec<Evaluated>),
    /// A named object that is not data.
    Reference,
    /// It failed.
    Failed,
    /// The value is too long for `acpiexec` to show.
    TooLong,
}

/// What a session gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The results, one for each evaluation.
    pub results: Vec<Evaluated>,
    /// The notified objects and the values, sorted: ACPICA delivers in no particular order.
    pub notices: Vec<(String, u64)>,
}

impl AcpiExec {
    /// Evaluates paths, each with its arguments behind it, in one session.
    ///
    /// # Errors
    /// `acpiexec` is missing, cannot load the tables, or prints something that is not understood here.
    pub fn run(&self, tables: &Tables, paths: &[String]) -> Outcome<Session> {
        let scratch = Scratch::new()?;
        let presets: String =
            self.fields.iter().map(|(path, value)| format!("{path} {value:#x}\n")).collect();
        let presets = scratch.write("fields", presets.as_bytes())?;
        let mut command = Command::new("acpiexec");
        command.current_dir(scratch.path()).args(["-di", "-fv"]).arg(format!("{:#x}", self.fill));
        command.arg("-fi").arg(presets);
        for (n, table) in tables.all().iter().enumerate() {
            command.arg(scratch.write(&format!("table{n}.aml"), table)?);
        }
        // Its command line is short, so the questions go to its console.
        let script: String = paths.iter().map(|path| format!("evaluate {path}\n")).collect();
        let script = scratch.write("script", format!("{script}quit\n").as_bytes())?;
        let script = File::open(&script).map_err(|error| format!("cannot read: {error}"))?;
        let text = run(command.stdin(script), "acpica-tools")?;
        let results = results(&text)?;
        if results.len() == paths.len() {
            return Ok(Session { results, notices: notices(&text) });
        }
        Err(format!("{} evaluations, {} results:\n{text}", paths.len(), results.len()))
    }
}

/// Parses the results from the printed text.
fn results(text: &str) -> Outcome<Vec<Evaluated>> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("No object was returned from evaluation") {
            found.push(Evaluated::Nothing);
        } else if line.starts_with("Evaluation of ") && line.ends_with("AE_BUFFER_OVERFLOW") {
            found.push(Evaluated::TooLong);
        } else if line.starts_with("Evaluation of ") && line.contains("failed with status") {
            found.push(Evaluated::Failed);
        } else if line.starts_with("Evaluation of ") && line.contains("returned object") {
            found.push(value(&mut lines)?);
        }
    }
    Ok(found)
}

/// Reads one value; a package goes on over several lines.
fn value(lines: &mut std::str::Lines<'_>) -> Outcome<Evaluated> {
    let line = lines.next().unwrap_or_default().trim();
    let bad = || format!("acpiexec printed {line:?}");
    let (kind, rest) = line.split_once(']').ok_or_else(bad)?;
    let hex = |text: &str| u64::from_str_radix(text.trim(), 16).map_err(|_| bad());
    match kind {
        "[Integer" => hex(rest.trim_start_matches(" =")).map(Evaluated::Integer),
        "[String" => {
            let (_, text) = rest.split_once("= \"").ok_or_else(bad)?;
            Ok(Evaluated::String(text.trim_end_matches('"').to_owned()))
        }
        "[Buffer" => {
            let length = rest.trim_start().strip_prefix("Length ").ok_or_else(bad)?;
            let (length, first) = length.split_once('=').ok_or_else(bad)?;
            buffer(hex(length)? as usize, first, lines).map(Evaluated::Buffer)
        }
        "[Package" => {
            let count = rest.split_whitespace().nth(1).ok_or_else(bad)?;
            let count: usize = count.parse().map_err(|_| bad())?;
            (0..count).map(|_| value(lines)).collect::<Outcome<_>>().map(Evaluated::Package)
        }
        "[Object Reference" => Ok(Evaluated::Reference),
        _ => Err(bad()),
    }
}

/// Reads a dump: rows of `offset: bytes // characters`, the first one maybe on the same line.
fn buffer(length: usize, first: &str, lines: &mut std::str::Lines<'_>) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut row = if first.contains(':') { first } else { "" };
    while bytes.len() < length {
        if row.is_empty() {
            row = lines.next().ok_or("acpiexec's dump is cut off")?;
        }
        let (_, data) = row.split_once(": ").ok_or_else(|| format!("no dump: {row:?}"))?;
        let data = data.split("//").next().unwrap_or_default();
        bytes.extend(data.split_whitespace().filter_map(|byte| u8::from_str_radix(byte, 16).ok()));
        row = "";
    }
    Ok(bytes)
}

/// The notifications in what was printed, by the last segment of the name, sorted.
fn notices(text: &str) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = text
        .lines()
        .filter(|line| line.contains(" Notify on ["))
        .filter_map(|line| {
            let (name, rest) = line.split_once("Notify on [")?.1.split_once(']')?;
            let value = rest.split_once("Value 0x")?.1.split_whitespace().next()?;
            Some((name.to_owned(), u64::from_str_radix(value, 16).ok()?))
        })
        .collect();
    found.sort();
    found
}
