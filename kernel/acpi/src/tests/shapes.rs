//! Legal descriptions of memory that no machine of QEMU's has.

use hotmem::testing::range;
use hotmem::{BlockState, ZoneKind};
use hotmem_aml_fakes::compile;
use hotmem_hotplug::Policy;

use super::board::Wire;
use super::rig::{MIB, Rig, WINDOW, moved};

const ONLINE: BlockState = BlockState::Online(ZoneKind::Movable);

#[test]
fn memory_is_known_in_every_shape_that_is_legal() {
    let dsdt = compile("shapes").unwrap();
    let mut rig = Rig::with(Wire::new(moved(), 1), &dsdt, Some(2), Policy::default());
    let pieces = [0, 1, 2, 3, 4, 5, 6, 7].map(|n| range(WINDOW + n * MIB, MIB));
    pieces.iter().for_each(|&piece| rig.bench.plug(piece));
    let out = rig.run();
    let online = |rig: &Rig| pieces.map(|piece| rig.states(piece) == [ONLINE]);
    assert_eq!(online(&rig), [true, true, true, true, true, true, false, false], "{out}");
    assert!(out.contains("_STA: "), "the device that says \"yes\" is named: {out}");

    // A bus check of the root of all devices.
    rig.wire.0.borrow_mut().gpe_status = 1 << 2;
    let out = rig.run();
    assert_eq!(online(&rig), [true, true, true, true, true, true, true, false], "{out}");
}
