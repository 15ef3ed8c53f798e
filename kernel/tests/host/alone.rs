//! Runs each test in a process of its own.

use std::any::type_name;
use std::env;
use std::process::Command;

/// Set in the process that runs one test.
const INSIDE: &str = "HOTMEM_TEST_ALONE";

/// Runs `test`, a closure in the function of a test, in a process that runs only this test.
#[track_caller]
pub(crate) fn alone<T: FnOnce()>(test: T) {
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    let name = type_name::<T>().trim_end_matches("::{{closure}}");
    let name = name.split_once("::").map_or(name, |(_program, name)| name);
    let mut program = Command::new(env::current_exe().unwrap());
    program.args([name, "--exact", "--nocapture"]).env(INSIDE, "1").env("RUST_BACKTRACE", "0");
    let output = program.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Indented, so that a tool that counts the results in this process's output does not count those of the other
    // process.
    let indented = text.replace('\n', "\n  ");
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{name} ended with {}:\n  {indented}", output.status);
}
