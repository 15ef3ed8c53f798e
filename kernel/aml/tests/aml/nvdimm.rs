//! The methods of QEMU's NVDIMMs, run for real: they hand a page of memory to the device, and read it back.
#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use hotmem_aml::{Aml, Arg, Limits, NodeId, Value};
use hotmem_aml_fakes::{self as fakes, Live, Scratch};

/// Bytes of the NVDIMM's file, the label storage area at its end included.
const FILE: usize = 16 << 20;
const AREA: usize = 128 << 10;
/// The identifier of the interface of NVDIMMs (NVDIMM DSM Interface 1.6), as byte code has it.
const INTERFACE: [u8; 16] = [
    0x30, 0xac, 0x09, 0x43, 0x11, 0x0d, 0xe4, 0x11, 0x91, 0x91, 0x08, 0x00, 0x20, 0x0c, 0x9a, 0x66,
];

/// A machine with an NVDIMM, and what its label storage area holds.
struct Rig {
    aml: Aml,
    live: Live,
    area: Vec<u8>,
    /// The file, for as long as the machine runs.
    _scratch: Scratch,
}

fn rig(limits: Limits) -> Rig {
    let scratch = Scratch::new().expect("a folder");
    let area: Vec<u8> = (0..AREA as u32).map(|n| (n ^ n >> 8) as u8).collect();
    let mut file = vec![0; FILE - AREA];
    file.extend(&area);
    let path = scratch.write("nvdimm", &file).expect("a file");
    let path = path.display();
    let memory = format!("memory-backend-file,id=n0,size={FILE},share=on,mem-path={path}");
    let nvdimm = format!("nvdimm,memdev=n0,label-size={AREA}");
    let args = ["-machine", "nvdimm=on", "-object", &memory, "-device", &nvdimm];
    let (tables, mut live) = fakes::live(2, &args).expect("QEMU runs");
    let aml = Aml::load(&mut live, &tables.all(), limits).expect("tables load");
    Rig { aml, live, area, _scratch: scratch }
}

impl Rig {
    fn find(&self, name: &str) -> NodeId {
        self.aml.find(&format!("\\_SB.NVDR.{name}")).expect("QEMU's method")
    }

    fn evaluate(&mut self, name: &str, args: &[Arg<'_>]) -> Value<'_> {
        let node = self.find(name);
        self.aml.evaluate(&mut self.live, node, args).expect("it runs")
    }

    /// The numbers of a package, and its last element if that is a buffer.
    fn list(&mut self, name: &str, args: &[Arg<'_>]) -> (Vec<u64>, Vec<u8>) {
        let list = match self.evaluate(name, args) {
            Value::Package(list) => Some(list),
            _ => None,
        };
        let list = list.expect("a package");
        let values: Vec<_> = (0..list.len()).filter_map(|index| list.get(index)).collect();
        let numbers = values.iter().filter_map(Value::integer).collect();
        let bytes = values.last().and_then(Value::buffer).unwrap_or_default();
        (numbers, bytes.to_vec())
    }

    /// Calls a function of the device's own interface.
    fn function(&mut self, number: u64, input: &[Arg<'_>]) -> Vec<u8> {
        let args =
            [Arg::Buffer(&INTERFACE), Arg::Integer(1), Arg::Integer(number), Arg::Package(input)];
        self.evaluate("NV00._DSM", &args).buffer().expect("a buffer").to_vec()
    }
}

#[test]
fn labels_are_read_by_their_methods_and_by_the_interface_of_the_device() {
    let mut rig = rig(Limits::SMALL_STACK);
    let (numbers, _) = rig.list("NV00._LSI", &[]);
    let [status, size, most] = numbers[..] else { panic!("{numbers:?}") };
    assert_eq!((status, size), (0, AREA as u64));
    assert!((256..4096).contains(&most), "{most}");

    for (offset, len) in [(0, 256), (AREA - 300, 300), (4096, most as usize)] {
        let wanted = rig.area[offset..offset + len].to_vec();
        let args = [Arg::Integer(offset as u64), Arg::Integer(len as u64)];
        let (status, bytes) = rig.list("NV00._LSR", &args);
        assert_eq!(status, [0]);
        assert!(bytes == wanted, "{offset:#x}: {:x?}", &bytes[..16]);

        let input = [(offset as u32).to_le_bytes(), (len as u32).to_le_bytes()].concat();
        let output = rig.function(5, &[Arg::Buffer(&input)]);
        assert_eq!(output[..4], [0; 4]);
        assert!(output[4..] == wanted, "{offset:#x}: {:x?}", &output[..16]);
    }
    // Past the end the device gives a status alone, which QEMU's method fails at.
    let read = rig.find("NV00._LSR");
    let past = [Arg::Integer(AREA as u64), Arg::Integer(8)];
    assert!(rig.aml.evaluate(&mut rig.live, read, &past).is_err());
    // Without arguments: the sizes.
    let sizes = [0u32, AREA as u32, most as u32].map(u32::to_le_bytes).concat();
    assert_eq!(rig.function(4, &[]), sizes);
}

#[test]
fn the_interface_table_is_read_by_its_method() {
    let mut rig = rig(Limits::DEFAULT);
    let fit = rig.evaluate("_FIT", &[]).buffer().expect("a buffer").to_vec();
    // A range of addresses (kind 0), a part of a device (1), a control region (4).
    let mut rest = fit.as_slice();
    let mut kinds = Vec::new();
    while let [kind, _, length, _, ..] = rest {
        kinds.push(*kind);
        rest = &rest[usize::from(*length)..];
    }
    assert_eq!((kinds, fit.len()), (vec![0, 1, 4], 56 + 48 + 80));
    assert_eq!(rig.aml.usage().peak_depth, 15);
}
