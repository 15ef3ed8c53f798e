//! The kernel itself: how it dies, how it refuses to start, what protects it.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::lab::{Lab, plug};
use super::{Scenario, on_ppc64, on_x86_64, scenarios};
use crate::arch::{Arch, Firmware};
use crate::machine::{Config, Exit, Machine};
use crate::size::Size;

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_crash_is_reported_with_names_and_its_own_exit_code =>
        |lab| crashes(lab, "crash", &["hotmem: panic: ", " accessing 0x", "hotmem_kernel::", "+0x"]),
    a_stack_that_overflows_is_reported_by_name =>
        |lab| crashes(
            lab,
            "crash stack",
            &["hotmem: panic: kernel stack overflow: ", "hotmem_kernel::protection::"],
        ),
    an_nmi_is_reported_with_names_and_its_own_exit_code_if_asked if has_nmi,
    a_block_size_that_cannot_work_keeps_the_kernel_from_starting,
    a_cpu_without_a_radix_mmu_is_refused_with_what_to_pass if on_ppc64,
    an_image_that_is_loaded_elsewhere_is_refused_by_name if on_ppc64,
    a_cpu_without_a_local_apic_is_refused_by_name if on_x86_64,
    a_start_at_el3_is_refused_by_name if starts_at_reset,
    what_is_typed_before_the_kernel_runs_is_not_lost if is_first_to_listen,
    a_machine_without_an_interval_timer_has_a_clock if on_x86_64,
    a_machine_without_a_system_control_port_has_a_clock if on_x86_64,
    a_power_button_that_is_pressed_turns_the_machine_off,
    unknown_options_are_reported_and_change_nothing,
    text_is_mapped_twice_and_writable_nowhere,
];

/// Whether nothing reads the console before the kernel: SLOF and EDK II read what is typed as their own input.
fn is_first_to_listen(lab: &Lab) -> bool {
    !matches!(lab.firmware(), Firmware::Slof | Firmware::Uefi)
}

/// Lines of the console looked at after the kernel is gone.
const LAST: usize = 80;

/// Checks that the kernel's last lines hold each of `wanted`.
fn said(machine: &Machine, wanted: &[&str]) -> Result<()> {
    let lines = machine.tail(LAST).join("\n");
    for text in wanted {
        ensure!(lines.contains(text), "the kernel did not say `{text}`");
    }
    Ok(())
}

/// Has the kernel crash by a command, and checks what it says.
fn crashes(lab: &Lab, command: &str, wanted: &[&str]) -> Result<()> {
    lab.started(&lab.room(&["128M"])?, |machine| {
        machine.wait_ready()?;
        // The kernel may be gone before it has replied.
        let _ = machine.command(command);
        machine.wait_end(Exit::Panicked)?;
        said(machine, wanted)
    })
}

/// What an exception is called that can be caused from outside, where there is one.
fn nmi(lab: &Lab) -> Option<&'static str> {
    match lab.arch() {
        Arch::X86_64 => Some("non-maskable interrupt"),
        Arch::Aarch64 => None,
        Arch::Ppc64 => Some("system reset"),
    }
}

/// Is there one?
fn has_nmi(lab: &Lab) -> bool {
    nmi(lab).is_some()
}

fn an_nmi_is_reported_with_names_and_its_own_exit_code_if_asked(lab: &Lab) -> Result<()> {
    lab.started(&lab.room(&["128M"])?.word("nmi=panic"), |machine| {
        machine.wait_ready()?;
        // The guest may be gone before QEMU has replied: only its exit is checked.
        let _ = machine.qmp("inject-nmi", json!({}));
        machine.wait_end(Exit::Panicked)?;
        let panic = format!("hotmem: panic: {}", nmi(lab).unwrap_or_default());
        said(machine, &[&panic, "hotmem_kernel::", "+0x"])
    })
}

fn a_block_size_that_cannot_work_keeps_the_kernel_from_starting(lab: &Lab) -> Result<()> {
    // The allocator's largest extent, and so the largest block, has 2^19 pages.
    let large = format!("block={}", Size::new(lab.page() << 20).word());
    for (word, why) in [("block=3M", "power of two"), (&*large, "larger"), ("block=0", "0x0")] {
        let config = lab.room(&["128M"])?.word(word);
        cannot_start(lab, &config, &["hotmem: cannot start: ", why]).context(word.to_owned())?;
    }
    Ok(())
}

/// Checks that the kernel refuses to start on a machine, with these words.
fn cannot_start(lab: &Lab, config: &Config, words: &[&str]) -> Result<()> {
    lab.started(config, |machine| {
        machine.wait_end(Exit::Left(1))?;
        said(machine, words)
    })
}

fn a_cpu_without_a_radix_mmu_is_refused_with_what_to_pass(lab: &Lab) -> Result<()> {
    let power8 = Config { cpu: "power8".into(), ..lab.room(&["128M"])? };
    cannot_start(lab, &power8, &["hotmem: cannot start: ", "radix MMU. Pass QEMU -cpu power9"])
}

fn an_image_that_is_loaded_elsewhere_is_refused_by_name(lab: &Lab) -> Result<()> {
    let elsewhere = Config { board: "pseries,kernel-addr=0x1000000", ..lab.room(&["128M"])? };
    cannot_start(
        lab,
        &elsewhere,
        &["hotmem: cannot start: the image was linked for the address 0x400000"],
    )
}

fn a_cpu_without_a_local_apic_is_refused_by_name(lab: &Lab) -> Result<()> {
    let bare = Config { cpu: "max,-apic".into(), ..lab.room(&["128M"])? };
    cannot_start(lab, &bare, &["hotmem: cannot start: this CPU does not have a local APIC"])
}

/// Whether the kernel gets an aarch64 CPU as it comes out of reset: EDK II begins at EL3 itself, and leaves it.
fn starts_at_reset(lab: &Lab) -> bool {
    lab.arch() == Arch::Aarch64 && lab.firmware() != Firmware::Uefi
}

fn a_start_at_el3_is_refused_by_name(lab: &Lab) -> Result<()> {
    let secure = Config { board: "virt,secure=on", ..lab.room(&["128M"])? };
    let why = "hotmem: cannot start: the CPU is at EL3, and the kernel needs EL2 or EL1";
    // What could turn the machine off would be at this level.
    lab.started(&secure, |machine| machine.wait_line(why).map(drop))
}

fn what_is_typed_before_the_kernel_runs_is_not_lost(lab: &Lab) -> Result<()> {
    lab.started(&lab.room(&["128M"])?, |machine| {
        machine.type_line("exit 7")?;
        machine.wait_end(Exit::Left(7))
    })
}

fn a_machine_without_an_interval_timer_has_a_clock(lab: &Lab) -> Result<()> {
    let bare = Config { board: "q35,pit=off", ..lab.room(&["128M"])? };
    lab.with(&bare, |machine| {
        said(machine, &["Hz, by the ACPI timer"])?;
        let guesses = machine.lines_from(0).into_iter().find(|line| line.contains("guesses"));
        ensure!(guesses.is_none(), "{guesses:?}");
        Ok(())
    })
}

fn a_machine_without_a_system_control_port_has_a_clock(lab: &Lab) -> Result<()> {
    let small = Config { board: "microvm", ..lab.room(&["128M"])? };
    lab.with(&small, |machine| {
        let guesses = machine.lines_from(0).into_iter().find(|line| line.contains("guesses"));
        ensure!(guesses.is_none(), "{guesses:?}");
        Ok(())
    })
}

fn a_power_button_that_is_pressed_turns_the_machine_off(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?, |machine| {
        plug(machine, "256M")?;
        machine.qmp("system_powerdown", json!({}))?;
        machine.wait_end(Exit::Left(0))?;
        said(machine, &["the machine is turned off"])
    })
}

fn unknown_options_are_reported_and_change_nothing(lab: &Lab) -> Result<()> {
    let config = lab.room(&["128M"])?.word("placement=sideways").word("quiet");
    lab.with(&config, |machine| {
        let lines = machine.lines_from(0);
        let reported = lines.iter().filter(|line| line.contains("unknown option"));
        ensure!(reported.count() == 2, "not both words were reported");
        Ok(())
    })
}

fn text_is_mapped_twice_and_writable_nowhere(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        let text = lab.text()?;
        let image = machine.run(&format!("walk {:#x}", text.virt))?.join("\n");
        ensure!(image.contains("read, execute"), "the text's own mapping: {image}");
        // Where the loader has put it: a firmware may move an image.
        let phys = image.rsplit_once(" is 0x").and_then(|(_, rest)| rest.lines().next());
        let phys = u64::from_str_radix(phys.context("no physical address")?, 16)?;
        let linear = machine.run(&format!("walk {:#x}", lab.linear(phys)))?.join("\n");
        ensure!(!linear.contains("write") && !linear.contains("execute"), "linear: {linear}");
        ensure!(linear.contains("read"), "linear: {linear}");
        Ok(())
    })
}
