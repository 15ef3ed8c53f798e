//! Bringing the devices up: `_REG` and `_INI`.

use crate::aml::{Aml, NodeKind};
use crate::error::AmlError;
use crate::host::Host;
use crate::name::NodeId;
use crate::value::Arg;

/// What [`Aml::init`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InitReport {
    /// Devices there are, present or not.
    pub devices: u32,
    /// Methods that were run.
    pub methods: u32,
    /// How many of those failed.
    pub failed: u32,
    /// The first failure, and the method that failed.
    pub first_failure: Option<(NodeId, AmlError)>,
}

/// `_STA`: the device is there.
const PRESENT: u64 = 1 << 0;

/// `_STA`: the device works, though it may not be there: look at its children.
const FUNCTIONING: u64 = 1 << 3;

/// `_REG`: PCI configuration space, the one space whose handler a device may wait for here.
/// Memory and I/O ports are there from the first instruction on (ACPI 6.5, 6.5.4).
const PCI_CONFIG: u64 = 2;

/// `_REG`: the space can be used from now on.
const CONNECT: u64 = 1;

impl Aml {
    /// Prepares the devices for use: `_REG` for PCI configuration space, then `_INI` of every
    /// device whose `_STA` allows it, parents first (ACPI 6.5, 6.5.1 and 6.5.4).
    ///
    /// A method that fails does not stop the others: the report counts them. All of it is done in a hurry:
    /// see [`Self::set_hurry`].
    pub fn init(&mut self, host: &mut dyn Host) -> InitReport {
        let before = self.set_hurry(true);
        let report = run(self, host);
        self.set_hurry(before);
        report
    }
}

/// Runs the methods in the order that ACPI gives.
fn run(aml: &mut Aml, host: &mut dyn Host) -> InitReport {
    let mut report = InitReport { devices: aml.devices().count() as u32, ..InitReport::default() };
    let mut last = None;
    while let Some(device) = aml.next_device(last) {
        last = Some(device);
        let args = [Arg::Integer(PCI_CONFIG), Arg::Integer(CONNECT)];
        report.call(aml, host, device, "_REG", &args);
    }
    report.call(aml, host, NodeId::ROOT, "_INI", &[]);
    initialise(aml, host, &mut report);
    report
}

/// Walks the tree; below a device that is neither present nor functioning nothing is run.
fn initialise(aml: &mut Aml, host: &mut dyn Host, report: &mut InitReport) {
    let mut at = aml.machine.names.next_in_walk(NodeId::ROOT, true);
    while let Some(node) = at {
        let enter = enter(aml, host, node, report);
        at = aml.machine.names.next_in_walk(node, enter);
    }
}

/// Initialises one node; whether to go on below it.
fn enter(aml: &mut Aml, host: &mut dyn Host, node: NodeId, report: &mut InitReport) -> bool {
    match aml.kind(node) {
        NodeKind::Device => {
            let status = aml.status(host, node).unwrap_or_else(|error| {
                report.fail(node, error);
                0
            });
            if status & PRESENT != 0 {
                report.call(aml, host, node, "_INI", &[]);
            }
            status & (PRESENT | FUNCTIONING) != 0
        }
        // A scope below the root that is not a device may have an `_INI` too: no rule excludes it.
        NodeKind::Other if aml.parent(node) == Some(NodeId::ROOT) => {
            report.call(aml, host, node, "_INI", &[]);
            true
        }
        _ => true,
    }
}

impl InitReport {
    /// Calls the child `name` of a node, if it is a method.
    fn call(
        &mut self,
        aml: &mut Aml,
        host: &mut dyn Host,
        node: NodeId,
        name: &str,
        args: &[Arg<'_>],
    ) {
        let Some(method) = aml.child(node, name) else {
            return;
        };
        if !matches!(aml.kind(method), NodeKind::Method(_)) {
            return;
        }
        self.methods += 1;
        if let Err(error) = aml.evaluate(host, method, args) {
            self.fail(method, error);
        }
    }

    /// Counts a failure.
    fn fail(&mut self, node: NodeId, error: AmlError) {
        self.failed += 1;
        self.first_failure.get_or_insert((node, error));
    }
}
