//! A virtio-mem device: what it writes to its queue and has in its configuration, and the PCI function that it is.

use std::cell::RefCell;
use std::collections::BTreeMap;

use hotmem::testing::{Bench, Setup, Tiny, range};
use hotmem::{BlockState, PhysAddr, PhysRange};
use hotmem_hotplug::{Hotplug, Latch, Policy};
use hotmem_virtio_mem::pci::{
    ConfigSpace, Function, Message, PciTransport, Places, Registers, Signals, Width, find, line_of,
    number_buses, root_pin, silence,
};
use hotmem_virtio_mem::testing::{Fake, Lie, Ticks};
use hotmem_virtio_mem::{Kind, Rings, Transport as _, VirtioMemSource};

use crate::input::Input;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Where the device has its region.
const WINDOW: u64 = 16 * MIB;
const REGION: u64 = 4 * MIB;
/// Half of the manager's subsection.
const BLOCK: u64 = 128 * KIB;
/// Sizes that the host requests of one input.
const STEPS: usize = 8;

/// A value that is nearly right, or any.
fn value(input: &mut Input<'_>, near: u64) -> u64 {
    match input.byte() % 4 {
        0 => near,
        1 => near.wrapping_add(u64::from(input.byte())).wrapping_sub(2),
        2 => u64::from(input.byte()) * BLOCK,
        _ => input.word(),
    }
}

/// The next lie: of a ring whose index is `index` at the next request.
fn lie(input: &mut Input<'_>, index: u16) -> Lie {
    let kind = [Kind::Plug, Kind::Unplug, Kind::State, Kind::UnplugAll];
    let kind = kind[usize::from(input.byte() % 4)];
    match input.byte() % 15 {
        0 => Lie::NeverResets,
        1 => Lie::Legacy,
        2 => Lie::DeniesFeatures,
        3 => Lie::NeedsReset,
        4 => Lie::Room(value(input, 2) as u16),
        5 => Lie::NoNotify,
        6 if kind == Kind::State => Lie::Restless,
        6 => Lie::Unsettled,
        7 | 8 => Lie::Config(usize::from(input.byte() % 7), value(input, 0)),
        9 => Lie::Silent(kind),
        10 | 11 => Lie::Ring {
            kind,
            index: value(input, index.into()) as u16,
            id: value(input, 0) as u32,
            len: value(input, 10) as u32,
            is: value(input, 0) as u16,
            state: value(input, 0) as u16,
        },
        12 => Lie::AcksOnly(kind),
        13 => Lie::Mute(kind),
        _ => Lie::None,
    }
}

/// The host requests sizes one after the other, and the device lies as the input says. Every invariant of the memory manager
/// holds, and what is in use is there.
pub(crate) fn device(data: &[u8]) {
    static LATCH: Latch = Latch::new();
    let mut input = Input(data);
    let ram = vec![(0, 2 * MIB, 0)];
    let setup = Setup { ram, block: MIB, window: (WINDOW, REGION), kernelcore: None };
    let bench = Bench::<Tiny>::new(&setup);
    let fake = Fake::new(&bench, range(WINDOW, REGION), BLOCK);
    fake.0.borrow_mut().hollow = input.byte() == 1;
    fake.0.borrow_mut().lie = lie(&mut input, 1);
    // Each wait ends after few looks.
    let time = Ticks { per_second: 10, ..Ticks::default() };
    let mut source = VirtioMemSource::new(&bench.mm, time.clone(), &LATCH);
    if let Err(error) = source.start(fake.clone()) {
        assert!(!error.to_string().is_empty());
        assert_eq!(fake.0.borrow().status, 0, "{error}");
        bench.check();
        return;
    }
    let driver = Hotplug::new(source, &bench.mm, (), Policy::default());
    let Ok(mut driver) = driver else { return };
    let mut shown = String::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let index = fake.0.borrow().requests.len() as u16 + 1;
        fake.0.borrow_mut().lie = lie(&mut input, index);
        fake.request(u64::from(input.byte() % 33) * BLOCK);
        LATCH.raise(0, 1);
        for _ in 0..2 {
            while driver.run_one(&mut shown) {}
            time.now.set(time.now.get() + 20);
        }
        let online = bench.mm.blocks().filter(|block| !block.boot);
        let online = online.filter(|block| matches!(block.state, BlockState::Online(_)));
        let online: u64 = online.map(|block| block.pages * 4096).sum();
        assert!(online <= fake.plugged(), "{online} bytes are used of {}", fake.plugged());
    }
    bench.check();
    LATCH.take();
}

/// Bytes of a function's configuration space that the driver reads.
const SPACE: usize = 256;

/// Functions whose registers hold what the input says, and so do the bits of BARs that can be set.
#[derive(Debug, Default)]
struct Functions {
    spaces: RefCell<BTreeMap<(u8, u8, u8), [u8; SPACE]>>,
    /// The bits of BARs that can be set, one after the other.
    masks: [u32; 4],
}

impl ConfigSpace for Functions {
    fn read(&self, at: Function, offset: u8) -> u32 {
        assert!(offset.is_multiple_of(4));
        let spaces = self.spaces.borrow();
        let bytes = spaces.get(&(at.bus, at.device, at.function));
        let word = bytes.and_then(|bytes| bytes[usize::from(offset)..].first_chunk());
        word.map_or(u32::MAX, |word| u32::from_le_bytes(*word))
    }

    fn write(&self, at: Function, offset: u8, value: u32) {
        assert!(offset.is_multiple_of(4));
        let mut spaces = self.spaces.borrow_mut();
        let Some(bytes) = spaces.get_mut(&(at.bus, at.device, at.function)) else { return };
        let word = &mut bytes[usize::from(offset)..][..4];
        let is_bar = (0x10..0x28).contains(&offset);
        let mask = if is_bar { self.masks[usize::from(offset / 4 % 4)] } else { u32::MAX };
        for (n, byte) in word.iter_mut().enumerate() {
            let settable = (mask >> (8 * n)) as u8;
            *byte = *byte & !settable | (value >> (8 * n)) as u8 & settable;
        }
    }
}

/// Registers that hold what the input says, inside of what was mapped.
struct Window<'d> {
    input: &'d RefCell<Input<'d>>,
    bytes: u64,
}

impl Window<'_> {
    /// What the input says of the register at `offset`, which has to be inside.
    fn next(&self, offset: usize, width: Width) -> u32 {
        let (bytes, end) = (width.bytes(), offset as u64 + width.bytes());
        assert!(end <= self.bytes, "{offset:#x} of {:#x} bytes", self.bytes);
        assert!((offset as u64).is_multiple_of(bytes), "{bytes} bytes at {offset:#x}");
        self.input.borrow_mut().half()
    }
}

impl Registers for Window<'_> {
    fn read(&self, offset: usize, width: Width) -> u32 {
        self.next(offset, width)
    }
    fn write(&self, offset: usize, width: Width, _: u32) {
        self.next(offset, width);
    }
}

/// Configuration spaces of some functions, then what the registers of the devices hold.
pub(crate) fn function(data: &[u8]) {
    let mut input = Input(data);
    let mut functions = Functions::default();
    for _ in 0..=input.byte() % 4 {
        let place = (input.byte(), input.byte() % 32, input.byte() % 8);
        let mut space = [0; SPACE];
        let piece = input.piece();
        let len = piece.len().min(SPACE);
        space[..len].copy_from_slice(&piece[..len]);
        // Those that are looked at further.
        space[..4].copy_from_slice(&0x1058_1af4_u32.to_le_bytes());
        functions.spaces.get_mut().insert(place, space);
    }
    functions.masks.fill_with(|| input.half());
    let windows = [(input.word(), input.word()), (input.word(), input.word())];
    let windows = windows.map(|(start, len)| PhysRange::new(PhysAddr::new(start), len));
    let windows: Vec<PhysRange> = windows.into_iter().flatten().collect();
    let flags = input.byte();
    let message = (flags & 1 != 0).then_some(Message { address: 0xfee0_0000, data: 0x25 });
    let signals = Signals { message, line: flags & 2 != 0 };
    let input = RefCell::new(input);
    let mut places = Places::new(&windows);
    number_buses(&functions, if flags & 4 != 0 { u8::MAX } else { 8 });
    for function in find(&functions).functions() {
        let _ = (root_pin(&functions, function), line_of(&functions, function));
        let _ = places.place(&functions, function);
        let map = |range: PhysRange| {
            assert!(!range.is_empty() && range.start().checked_add(range.len()).is_some());
            Some(Window { input: &input, bytes: range.len() })
        };
        match PciTransport::new(&functions, function, signals, map) {
            Ok(transport) => use_registers(transport),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        silence(&functions, function);
    }
}

/// Uses all registers of a device, as the driver does.
fn use_registers(mut transport: PciTransport<Window<'_>>) {
    transport.set_status(1);
    let _ = (transport.status(), transport.offered(), transport.generation());
    transport.accept(1 << 32);
    let _: u32 = (0..14).map(|word| transport.config(4 * word)).fold(0, u32::wrapping_add);
    let _ = transport.queue_room(0);
    let [descriptors, available, used] = [0, 32, 64].map(PhysAddr::new);
    if transport.set_queue(0, 2, Rings { descriptors, available, used }) {
        transport.notify(0);
    }
    transport.acknowledge();
}
