//! Tables with faults of real firmware: what can be loaded is, as ACPICA does it.

use hotmem_aml::{Aml, Limits};
use hotmem_aml_fakes::{self as fakes, AcpiExec, FlatMemory, Tables};

#[test]
fn what_is_loaded_around_faults_agrees_with_acpica() {
    let dsdt = fakes::compile("faulty").expect("the table compiles");
    // The same devices again: every definition is there twice.
    let mut ssdt = dsdt.clone();
    ssdt[..4].copy_from_slice(b"SSDT");
    ssdt[9] = 0;
    ssdt[9] = ssdt.iter().fold(0, |sum: u8, &byte| sum.wrapping_sub(byte));
    for ssdts in [Vec::new(), vec![ssdt]] {
        let twice = !ssdts.is_empty();
        let tables = Tables { dsdt: dsdt.clone(), ssdts };
        let mut host = FlatMemory::new(0);
        let mut aml = Aml::load(&mut host, &tables.all(), Limits::DEFAULT).expect("it loads");
        let report = aml.load_report();
        assert_eq!(report.count(), if twice { 17 } else { 5 }, "{:?}", report.skipped());

        let found = ["\\FRST", "\\_SB.MEM0._STA", "\\_SB.MEM0.TEST", "\\LAST", "\\BUFF"];
        let paths = found.map(str::to_owned);
        let theirs = AcpiExec::default().run(&tables, &paths).expect("acpiexec runs");
        for (path, theirs) in paths.iter().zip(&theirs.results) {
            let (ours, error) = fakes::ask(&mut aml, &mut host, path, &[]);
            assert_eq!(ours, *theirs, "{path}: {error:?}");
        }
        for path in ["\\INNR", "\\COND", "\\OTHE", "\\NVSR", "\\NVS0", "\\PAST"] {
            assert_eq!(aml.find(path), None, "{path} was left out");
        }
        let uses = aml.find("\\USES").expect("the method");
        assert!(aml.evaluate(&mut host, uses, &[]).is_err());
    }
}
