//! Byte code: tables that are loaded, and all that is in them evaluated.

use hotmem_aml::resource::resources;
use hotmem_aml::{Aml, Arg, Host, HostError, Io, Limits, NodeId, NodeKind, Space, Value, Width};

use crate::input::Input;

/// Small enough that an endless loop ends soon.
pub(crate) const LIMITS: Limits = Limits { steps: 20_000, sleep_ms: 100, ..Limits::DEFAULT };
/// Bytes of a table's header (ACPI 6.5, 5.2.6).
pub(crate) const HEADER: usize = 36;

/// Registers that read as the rest of the input, and then as nothing.
#[derive(Debug)]
pub(crate) struct Registers<'d>(pub(crate) Input<'d>);

impl Io for Registers<'_> {
    fn read(&mut self, _: Space, _: u64, _: Width) -> Result<u64, HostError> {
        if self.0.is_empty() { Err(HostError::Unsupported) } else { Ok(self.0.word()) }
    }

    fn write(&mut self, _: Space, _: u64, _: Width, _: u64) -> Result<(), HostError> {
        Ok(())
    }

    fn stall(&mut self, _: u64) {}

    fn sleep(&mut self, _: u64) {}

    fn timer(&mut self) -> u64 {
        self.0.word()
    }
}

impl Host for Registers<'_> {
    fn io(&mut self) -> &mut dyn Io {
        self
    }

    fn notify(&mut self, _: NodeId, _: u64) {}
}

/// A table of this name with `body` behind its header, and a sum that is right.
pub(crate) fn table_of(signature: [u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = [signature.as_slice(), &[0; HEADER - 4], body].concat();
    let length = (bytes.len() as u32).to_le_bytes();
    bytes.splice(4..8, length);
    bytes.splice(8..9, [revision]);
    let sum = bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte));
    bytes.splice(9..10, [sum]);
    bytes
}

/// Revision, a DSDT, an SSDT, and what registers hold.
pub(crate) fn table(data: &[u8]) {
    let mut input = Input(data);
    let revision = input.byte();
    let tables = [(*b"DSDT", input.piece()), (*b"SSDT", input.piece())];
    let tables = tables.map(|(name, body)| table_of(name, revision, body));
    let host = &mut Registers(input);
    let Ok(mut aml) = Aml::load(host, &tables.each_ref().map(Vec::as_slice), LIMITS) else {
        return;
    };
    let loaded = aml.load_report().skipped().iter().map(ToString::to_string);
    assert!(loaded.fold(aml.loaded().to_string(), |all, one| all + &one).len() > 1);
    aml.init(host);
    let mut last = None;
    while let Some(node) = aml.next_node(last) {
        last = Some(node);
        evaluate(&mut aml, host, node);
    }
    let used = aml.usage();
    assert!(used.peak_bytes <= LIMITS.bytes && used.peak_cells <= LIMITS.cells, "{used:?}");
    assert!(used.peak_steps <= LIMITS.steps && used.peak_depth <= LIMITS.depth, "{used:?}");
    assert!(used.nodes <= LIMITS.nodes && used.peak_names <= LIMITS.names, "{used:?}");
}

fn evaluate(aml: &mut Aml, host: &mut Registers<'_>, node: NodeId) {
    let count = match aml.kind(node) {
        NodeKind::Method(count) => usize::from(count),
        _ => 0,
    };
    let args = [Arg::Integer(host.timer()), Arg::Buffer(&[1, 2]), Arg::String("x")];
    let args: Vec<_> = args.into_iter().cycle().take(count).collect();
    match aml.evaluate(host, node, &args) {
        Ok(value) => look(value, 8),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(!aml.path(node).to_string().is_empty());
}

/// Looks at each part of a value.
fn look(value: Value<'_>, depth: u32) {
    match value {
        Value::Buffer(bytes) => resource_list(bytes),
        Value::Package(list) if depth > 0 => {
            (0..list.len())
                .filter_map(|index| list.get(index))
                .for_each(|one| look(one, depth - 1));
        }
        _ => {}
    }
}

/// A list of resources, as `_CRS` returns it.
pub(crate) fn resource_list(bytes: &[u8]) {
    assert!(resources(bytes).map(|one| format!("{one:?}")).count() <= bytes.len() * 16 + 1);
}
