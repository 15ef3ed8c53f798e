//! When memory is plugged that a host offers.

use core::fmt::{self, Write};

use hotmem::Machine;
use hotmem_hotplug::{Clock, Growth, GrowthRefused, Hotplug, HotplugSource};

/// Sets it, or shows it; a refusal is the value inside.
pub(super) fn run<S: HotplugSource, M: Machine, C: Clock>(
    growth: Option<Growth>,
    hotplug: &mut Hotplug<'_, S, M, C>,
    out: &mut dyn Write,
) -> Result<Result<(), GrowthRefused>, fmt::Error> {
    if let Some(growth) = growth {
        return Ok(hotplug.set_growth(growth));
    }
    match hotplug.growth() {
        Some(growth) => writeln!(out, "{growth}").map(Ok),
        None => Ok(Err(GrowthRefused::NoDevice)),
    }
}
