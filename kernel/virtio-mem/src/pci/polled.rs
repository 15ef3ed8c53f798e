//! All devices of a machine at once, for a kernel that polls.

use hotmem::{Machine, PhysRange};

use super::error::PciError;
use super::number::number_buses;
use super::place::Places;
use super::scan::find;
use super::space::{ConfigSpace, Function, Registers};
use super::transport::{PciTransport, Signals, silence};
use crate::source::VirtioMemSource;
use crate::transport::Board;

/// Finds the devices, numbers buses and places their registers in `windows` where firmware did not, and starts them without interrupts: `source`
/// looks at them whenever the kernel is awake. `map` maps registers, unless the range is not what device registers can be in.
///
/// Returns how many run. One that cannot is logged, and silenced.
pub fn start_polled<M: Machine, R: Registers, C: Board>(
    source: &mut VirtioMemSource<'_, M, PciTransport<R>, C>,
    space: &impl ConfigSpace,
    windows: &[PhysRange],
    mut map: impl FnMut(PhysRange) -> Option<R>,
) -> usize {
    number_buses(space, u8::MAX);
    let found = find(space);
    if found.more != 0 {
        log::error!("virtio-mem: {} more devices are not used", found.more);
    }
    let mut places = Places::new(windows);
    let mut transport = |function: Function| -> Result<_, PciError> {
        places.place(space, function)?;
        PciTransport::new(space, function, Signals::default(), &mut map)
    };
    let mut running = 0;
    for function in found.functions() {
        let started = transport(function).map(|transport| source.start(transport));
        match started {
            Ok(Ok(_)) => {
                running += 1;
                continue;
            }
            Ok(Err(error)) => log::error!("virtio-mem at {function}: {error}"),
            Err(error) => log::error!("virtio-mem at {function}: {error}"),
        }
        silence(space, function);
    }
    running
}
