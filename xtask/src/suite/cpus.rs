//! Several CPUs: they come up, use memory together, drop translations, and stop when one of them dies.

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, leave, leave_verified, plug, refused, unplug_taken};
use super::{Scenario, on_x86_64, scenarios};
use crate::arch::X2APIC;
use crate::machine::{Config, Cpu, Exit, Machine, Remove, Request};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    four_cpus_come_up_and_use_memory_at_the_same_time,
    as_many_cpus_as_there_is_room_for_come_up_and_more_are_counted,
    cpus_are_started_and_called_by_xapic if on_x86_64 =>
        |lab| used_by_four_of(lab, "max,x2apic=off"),
    // QEMU refuses to start if it cannot give the processor an x2APIC.
    cpus_are_started_and_called_by_x2apic if has_x2apic =>
        |lab| used_by_four_of(lab, "max,x2apic=on,enforce=on"),
    a_cpu_that_does_not_come_is_named_and_the_others_work,
    cpus_that_are_not_there_are_left_out_and_named_if_firmware_lists_them,
    all_cpus_allocate_and_free_while_memory_is_plugged_and_pulled =>
        |lab| churn_through_plugs(lab, None, lab.storm().cycles, "cpus churn"),
    all_cpus_allocate_and_free_in_turns_of_counted_instructions =>
        |lab| churn_through_plugs(lab, Some(SHIFT), lab.storm().cycles, "cpus churn"),
    // No interrupt reaches them: they serve a request where they wait, or the removal fails.
    cpus_with_interrupts_off_drop_translations_where_they_wait =>
        |lab| churn_through_plugs(lab, None, MASKED, "cpus churn masked"),
    a_timer_handler_allocates_and_frees_while_memory_is_plugged_and_pulled,
    a_panic_on_one_cpu_stops_the_others_and_is_reported_once,
    a_stack_of_another_cpu_that_overflows_is_reported_by_name,
    a_cpu_that_does_not_drop_its_translations_is_named_and_the_memory_stays if asks_cpus_to_flush,
];

/// Whether QEMU describes CPUs that are not there, as disabled.
fn has_disabled_cpus(lab: &Lab) -> bool {
    on_x86_64(lab)
}

/// Whether no instruction drops what another CPU cached.
fn asks_cpus_to_flush(lab: &Lab) -> bool {
    on_x86_64(lab)
}

/// Whether QEMU emulates the x2APIC, as it does from version 9 on.
fn has_x2apic(lab: &Lab) -> bool {
    on_x86_64(lab) && lab.qemu_version().is_some_and(|version| version >= X2APIC.version)
}

/// Cycles on one machine: many cycles run on several, each with its own timeout.
const CYCLES_EACH: u64 = 100;

/// Instructions of 128 ns: a CPU runs 781,250 of them before the next has its turn.
pub(super) const SHIFT: u8 = 7;

/// Cycles in which the CPUs have interrupts disabled.
const MASKED: u64 = 3;

/// Timers interrupt in one of so many cycles.
const TICKED: u64 = 3;

/// A machine with room for these DIMMs and so many CPUs.
fn machine(lab: &Lab, cpus: u32, sizes: &[&str]) -> Result<Config> {
    Ok(Config { cpus, ..lab.room(sizes)? })
}

/// The CPUs, of which each has to be up.
fn all_up(machine: &mut Machine, count: usize) -> Result<Vec<Cpu>> {
    let cpus = machine.cpus()?;
    let up = cpus.iter().filter(|cpu| cpu.state == "up").count();
    ensure!((up, cpus.len()) == (count, count), "{count} CPUs should be up: {cpus:?}");
    Ok(cpus)
}

/// Plugs a DIMM, has all CPUs use it, and takes it out again.
fn use_by_all(machine: &mut Machine, count: usize) -> Result<()> {
    let taken = plug(machine, "256M")?;
    machine.run("use")?;
    machine.done::<crate::machine::Use>()?;
    for cpu in all_up(machine, count)? {
        ensure!(cpu.allocated > 0 && cpu.freed == cpu.allocated, "{cpu:?}");
    }
    machine.run("verify")?;
    unplug_taken(machine, &taken)
}

fn four_cpus_come_up_and_use_memory_at_the_same_time(lab: &Lab) -> Result<()> {
    lab.with(&machine(lab, 4, &["256M"])?, |machine| {
        all_up(machine, 4)?;
        use_by_all(machine, 4)
    })
}

fn as_many_cpus_as_there_is_room_for_come_up_and_more_are_counted(lab: &Lab) -> Result<()> {
    let config = lab.room(&["256M"])?;
    let (room, hardware) = (lab.about().cpus)(&config);
    // Only the kernel has no room for more of them, unless the hardware has none, either.
    let more = if hardware.is_some() { 0 } else { 2 };
    lab.with(&Config { cpus: room + more, ..config }, |machine| {
        use_by_all(machine, room as usize)?;
        let expected = format!("no room for {more} more CPUs, the first is ");
        let said = machine.lines_from(0).iter().any(|line| line.contains(&expected));
        ensure!(said == (more > 0), "`{expected}`: {said}");
        Ok(())
    })
}

/// Has four processors of a kind use memory, and flush each other's translations.
fn used_by_four_of(lab: &Lab, cpu: &str) -> Result<()> {
    lab.with(&Config { cpu: cpu.into(), ..machine(lab, 4, &["256M"])? }, |machine| {
        use_by_all(machine, 4)?;
        let flushed = all_up(machine, 4)?.iter().filter(|cpu| cpu.flushes > 0).count();
        ensure!(flushed >= 3, "only {flushed} CPUs were asked to flush");
        Ok(())
    })
}

fn a_cpu_that_does_not_come_is_named_and_the_others_work(lab: &Lab) -> Result<()> {
    lab.begun(&machine(lab, 2, &["256M"])?, |machine| {
        let why = refused(machine, "cpus start 0x77")?;
        ensure!(why.contains("CPU 0x77: "), "{why}");
        let why = refused(machine, "cpus start 0x77")?;
        ensure!(why.contains("CPU 0x77: "), "the second time: {why}");
        // It cannot come any more, so its number is free.
        all_up(machine, 2)?;
        let taken = plug(machine, "256M")?;
        machine.run("use")?;
        machine.done::<crate::machine::Use>()?;
        unplug_taken(machine, &taken)?;
        leave_verified(machine)
    })
}

fn cpus_that_are_not_there_are_left_out_and_named_if_firmware_lists_them(lab: &Lab) -> Result<()> {
    let config = Config { most_cpus: Some(4), ..machine(lab, 2, &["128M"])? };
    lab.with(&config, |machine| {
        all_up(machine, 2)?;
        let lines = machine.lines_from(0);
        for cpu in [2, 3] {
            let expected = format!("CPU {cpu:#x} is disabled by firmware");
            let said = lines.iter().any(|line| line.contains(&expected));
            ensure!(said == has_disabled_cpus(lab), "`{expected}`: {said}");
        }
        Ok(())
    })
}

/// Plugs and pulls a DIMM in each of so many cycles, while all other CPUs `churn`: allocate and free.
fn churn_through_plugs(lab: &Lab, icount: Option<u8>, cycles: u64, churn: &str) -> Result<()> {
    let config = Config { icount, ..machine(lab, 4, &["256M"])? };
    for first in (0..cycles).step_by(CYCLES_EACH as usize) {
        let cycles = first..cycles.min(first + CYCLES_EACH);
        lab.begun(&config, |machine| {
            let count = cycles.end - cycles.start;
            for cycle in cycles {
                machine.run(churn)?;
                let taken = plug(machine, "256M")?;
                unplug_taken(machine, &taken).with_context(|| format!("cycle {cycle}"))?;
                machine.run("cpus rest").with_context(|| format!("cycle {cycle}"))?;
                machine.run("verify").with_context(|| format!("cycle {cycle}"))?;
            }
            let cpus = all_up(machine, 4)?;
            for cpu in cpus.iter().skip(1) {
                ensure!(cpu.allocated > 0 && cpu.freed == cpu.allocated, "{cpu:?}");
                let flushed = !asks_cpus_to_flush(lab) || cpu.flushes >= count;
                ensure!(flushed, "{cpu:?} dropped too few translations");
            }
            leave_verified(machine)
        })?;
    }
    Ok(())
}

/// Has a handler on each of `count` CPUs allocate and free, many times in a second, while the main loop plugs and pulls
/// a DIMM and the other CPUs allocate and free, too.
fn tick_through_plugs(lab: &Lab, count: u32) -> Result<()> {
    lab.begun(&machine(lab, count, &["128M"])?, |machine| {
        for cycle in 0..lab.storm().cycles.min(CYCLES_EACH).div_ceil(TICKED) {
            machine.run("cpus tick 2000")?;
            machine.run("cpus churn")?;
            let taken = plug(machine, "128M")?;
            unplug_taken(machine, &taken).with_context(|| format!("cycle {cycle}"))?;
            machine.run("cpus rest").with_context(|| format!("cycle {cycle}"))?;
            // Counts are checked when nothing else is going on.
            machine.run("cpus tick off").with_context(|| format!("cycle {cycle}"))?;
            machine.run("verify").with_context(|| format!("cycle {cycle}"))?;
        }
        for cpu in all_up(machine, count as usize)? {
            let did = cpu.allocated > 0 && cpu.freed == cpu.allocated;
            ensure!(cpu.ticks > 0 && did, "{cpu:?}");
        }
        leave_verified(machine)
    })
}

fn a_timer_handler_allocates_and_frees_while_memory_is_plugged_and_pulled(lab: &Lab) -> Result<()> {
    tick_through_plugs(lab, 4).context("four CPUs")?;
    tick_through_plugs(lab, 1).context("one CPU")
}

/// Checks that the kernel died once, and said all of `wanted`.
fn died_once(machine: &mut Machine, wanted: &[&str]) -> Result<()> {
    machine.wait_end(Exit::Panicked)?;
    let lines = machine.lines_from(0);
    let panics = lines.iter().filter(|line| line.contains("hotmem: panic: ")).count();
    ensure!(panics == 1, "{panics} panics were reported");
    for text in wanted {
        ensure!(lines.iter().any(|line| line.contains(text)), "the kernel did not say `{text}`");
    }
    Ok(())
}

fn a_panic_on_one_cpu_stops_the_others_and_is_reported_once(lab: &Lab) -> Result<()> {
    lab.begun(&machine(lab, 4, &["128M"])?, |machine| {
        // The kernel may be gone before it has replied.
        let _ = machine.command("crash 3");
        died_once(machine, &["hotmem_kernel::", "accessing 0x8"])
    })
}

fn a_stack_of_another_cpu_that_overflows_is_reported_by_name(lab: &Lab) -> Result<()> {
    lab.begun(&machine(lab, 2, &["128M"])?, |machine| {
        let _ = machine.command("crash stack 1");
        died_once(machine, &["hotmem: panic: CPU 1 kernel stack overflow: "])
    })
}

fn a_cpu_that_does_not_drop_its_translations_is_named_and_the_memory_stays(
    lab: &Lab,
) -> Result<()> {
    lab.begun(&machine(lab, 2, &["128M"])?, |machine| {
        let taken = plug(machine, "128M")?;
        machine.run("crash deaf 1")?;
        machine.unplug(&taken.dimm)?;
        let reported = machine.statuses(&taken.dimm, Request::Ejection)?;
        ensure!(reported.last().is_some_and(|&last| last != 0), "the firmware got {reported:x?}");
        let why = machine.later::<Remove>()?.error.context("the memory was removed")?;
        ensure!(why.contains("CPU 1 does not acknowledge the flush"), "{why}");
        machine.run("verify")?;
        leave(machine)
    })
}
