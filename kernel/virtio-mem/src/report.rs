//! What the devices are, and what they request: for people and programs.

use core::fmt;

use hotmem::Machine;
use hotmem_hotplug::{JsonString, OrNull, Reason, json_list};

use super::device::Device;
use super::need::Need;
use super::pieces::Pieces;
use super::transport::Transport;

/// Writes a line for each device, and the reason why memory did not go; or one value of JSON.
pub(crate) fn write<M: Machine, T: Transport>(
    devices: &[Device<'_, M, T>],
    pieces: &Pieces,
    need: &Need,
    why: Option<&Reason>,
    json: bool,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    if json {
        out.write_str("{\"virtio_mem\":")?;
        json_list(out, devices.iter().enumerate(), |(number, device), out| {
            write_json(number, device, pieces.of(number).count(), out)
        })?;
        let growth = JsonString(need.growth());
        let short = need.is_short();
        return write!(
            out,
            ",\"growth\":{growth},\"short\":{short},\"why\":{}}}",
            OrNull(why.map(JsonString))
        );
    }
    for (number, device) in devices.iter().enumerate() {
        write_line(number, device, pieces.of(number).count(), out)?;
    }
    if !need.is_eager() {
        let short = if need.is_short() { "; memory is short" } else { "" };
        writeln!(out, "virtio-mem grows by {}{short}", need.growth())?;
    }
    match why {
        Some(why) => writeln!(out, "last reason: {why}"),
        None => Ok(()),
    }
}

fn write_line<M: Machine, T: Transport>(
    number: usize,
    device: &Device<'_, M, T>,
    pieces: usize,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let range = device.region.range;
    let kib = |bytes: u64| bytes >> 10;
    let [unit, usable] = [device.unit, device.sizes.usable].map(kib);
    let [requested, plugged] = [device.sizes.requested, device.plugged].map(kib);
    write!(
        out,
        "virtio-mem {number}: {range} on {}, in units of {unit} KiB: {requested} KiB requested, {plugged} KiB \
         plugged in {pieces} pieces, {usable} KiB usable",
        device.node()
    )?;
    match device.dead.or(device.ill) {
        Some(fault) if device.dead.is_some() => writeln!(out, "; given up: {fault}"),
        Some(fault) => writeln!(out, "; ignored: {fault}"),
        None => out.write_str("\n"),
    }
}

fn write_json<M: Machine, T: Transport>(
    number: usize,
    device: &Device<'_, M, T>,
    pieces: usize,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let (range, sizes) = (device.region.range, device.sizes);
    write!(
        out,
        "{{\"device\":{number},\"start\":{},\"bytes\":{},\"node\":{},\"block\":{},\"unit\":{},\"usable\":{},\
         \"requested\":{},\"plugged\":{},\"pieces\":{pieces},\"given_up\":{},\"fault\":{}}}",
        range.start().get(),
        range.len(),
        device.node().get(),
        device.region.block,
        device.unit,
        sizes.usable,
        sizes.requested,
        device.plugged,
        device.dead.is_some(),
        OrNull(device.dead.or(device.ill).map(JsonString)),
    )
}
