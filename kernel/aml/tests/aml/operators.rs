//! Every operator against ACPICA: the same table, evaluated by `acpiexec` and by us.
#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use hotmem_aml::{Aml, Limits, NodeKind};
use hotmem_aml_fakes::{self as fakes, AcpiExec, FlatMemory, Tables};

/// Evaluates every method of the table in order, in both evaluators, and compares.
fn compare(defines: &[&str]) {
    let dsdt = fakes::compile_with("operators", defines).expect("the table compiles");
    let tables = Tables { dsdt, ssdts: Vec::new() };
    let mut host = FlatMemory::new(0);
    let mut aml = Aml::load(&mut host, &tables.all(), Limits::DEFAULT).expect("the table loads");
    let scope = aml.find("\\OPS").expect("the scope of the methods");
    let is_question = |&node: &_| aml.kind(node) == NodeKind::Method(0);
    let mut paths: Vec<String> =
        aml.children(scope).filter(is_question).map(|node| aml.path(node).to_string()).collect();
    paths.extend(["\\PACK", "\\FWRD", "\\FB0", "\\FD0", "\\FW1", "\\BUFF"].map(str::to_owned));
    assert!(paths.len() > 150, "only {} questions", paths.len());

    let theirs = AcpiExec::default().run(&tables, &paths).expect("acpiexec runs");
    let mut different = Vec::new();
    for (path, theirs) in paths.iter().zip(&theirs.results) {
        let (ours, error) = fakes::ask(&mut aml, &mut host, path, &[]);
        if ours != *theirs {
            let why = error.map(|error| error.to_string()).unwrap_or_default();
            different.push(format!("{path}: ours {ours:x?} {why}, theirs {theirs:x?}"));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn operators_on_64_bit_integers_agree_with_acpica() {
    compare(&[]);
}

#[test]
fn operators_on_32_bit_integers_agree_with_acpica() {
    compare(&["NARROW"]);
}
