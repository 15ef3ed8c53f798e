//! The kernel starts, refuses to start, and ends.

use hotmem_arch::contract::Exit;
use hotmem_boot::image;

use crate::alone::alone;
use crate::firmware::{Firmware, RSDP, Rom, START_INFO};
use crate::pc::{MIB, Pc, RAM, range};

/// The reason that the kernel writes when it refuses to start on `pc`.
#[track_caller]
fn refusal(pc: &Pc) -> String {
    pc.power_on();
    assert_eq!(pc.machine.wait_for_exit(), Exit::Code(1), "{}", pc.machine.written());
    let text = pc.machine.written();
    let (_, why) = text.split_once("hotmem: cannot start: ").unwrap_or_else(|| panic!("{text}"));
    let why = why.trim_end().strip_suffix("\nhotmem: exit 1");
    why.unwrap_or_else(|| panic!("the last line is not the exit: {text}")).to_owned()
}

#[test]
fn a_pc_becomes_ready_with_all_invariants_kept_and_leaves_with_a_code() {
    alone(|| {
        let (pc, text) = Pc::ready("log=debug");
        assert!(text.contains("hotmem 0.1.0: 64512 KiB of RAM\n"), "{text}");
        assert!(text.contains("acpi: 2 memory devices\n"), "{text}");
        assert!(!text.contains("WARN") && !text.contains("ERROR"), "{text}");
        pc.verify();
        let blocks = pc.ask("blocks");
        assert_eq!(blocks.matches(" online ").count(), 4, "{blocks}");
        pc.machine.type_in("exit 7\n");
        assert_eq!(pc.machine.wait_for_exit(), Exit::Code(7));
    });
}

#[test]
fn cpus_that_do_not_start_are_named_and_left_out() {
    alone(|| {
        let cpus = &[(0, true), (7, true), (7, true), (9, false), (0, true)];
        let pc = Pc::new(&Firmware { cpus, ..Firmware::default() });
        let text = pc.start();
        assert!(text.contains("ERROR CPU 0x7 is left out: "), "{text}");
        assert!(text.contains("WARN  CPU 0x7 is listed twice\n"), "{text}");
        assert!(text.contains("WARN  CPU 0x0 is listed twice\n"), "{text}");
        assert!(text.contains("WARN  CPU 0x9 is disabled by firmware\n"), "{text}");
        assert!(text.contains("cpu: 1 up\n"), "{text}");
        let shown = pc.ask("cpus");
        let states = |state: &str| shown.matches(&format!(" {state} ")).count();
        // Firmware refused the start, so the number is free again.
        assert_eq!((states("up"), states("missing")), (1, 0), "{shown}");
        pc.verify();
    });
}

#[test]
fn unknown_options_are_reported_and_change_nothing() {
    alone(|| {
        let (pc, text) = Pc::ready("colour=blue policy=offline");
        assert!(text.contains("WARN  command line: unknown option \"colour=blue\""), "{text}");
        assert!(pc.ask("policy").contains("offline"));
    });
}

#[test]
fn a_cpu_that_lacks_something_is_refused_by_name() {
    alone(|| {
        let pc = Pc::new(&Firmware::default());
        pc.machine.lack("a memory management unit");
        assert_eq!(refusal(&pc), "this CPU does not have a memory management unit");
    });
}

#[test]
fn a_hand_off_without_its_magic_is_refused_by_its_value() {
    alone(|| {
        let firmware = Firmware::default();
        let mut rom = Rom::new(&firmware);
        rom.put(START_INFO, &[0]);
        let why =
            "the loader's hand-off is unusable: start info has magic 0x336ec500, not 0x336ec578";
        assert_eq!(refusal(&Pc::with(&firmware, &rom)), why);
    });
}

#[test]
fn a_block_size_that_is_not_a_power_of_two_is_refused() {
    alone(|| {
        let why = refusal(&Pc::new(&Firmware { command_line: "block=48M", ..Firmware::default() }));
        assert!(why.starts_with("command line: ") && why.contains("0x3000000"), "{why}");
    });
}

#[test]
fn ram_that_does_not_hold_the_image_is_refused() {
    alone(|| {
        let ram = range(32 * MIB, 32 * MIB);
        let why = refusal(&Pc::new(&Firmware { ram, ..Firmware::default() }));
        let image = image::phys();
        let wanted = format!("page tables: the kernel's own image at {image} is not in usable RAM");
        assert_eq!(why, wanted);
    });
}

#[test]
fn ram_that_holds_only_the_image_is_too_little() {
    alone(|| {
        let ram = range(MIB, MIB);
        let why = refusal(&Pc::new(&Firmware { ram, ..Firmware::default() }));
        assert!(why.starts_with("page tables: no frame left"), "{why}");
    });
}

#[test]
fn without_firmware_tables_the_kernel_runs_and_warns_that_no_event_comes() {
    alone(|| {
        let firmware = Firmware::default();
        let mut rom = Rom::new(&firmware);
        rom.put(RSDP, b"nothing!");
        let pc = Pc::with(&firmware, &rom);
        let text = pc.start();
        assert!(text.contains("ERROR firmware tables: "), "{text}");
        assert!(text.contains("WARN  no hotplug events: "), "{text}");
        pc.verify();
    });
}

/// The output of the kernel's start on a machine where this table has a bad checksum.
fn start_with_bad(table: &[u8; 4]) -> String {
    let firmware = Firmware::default();
    let mut rom = Rom::new(&firmware);
    rom.damage(table);
    let pc = Pc::with(&firmware, &rom);
    let text = pc.start();
    assert!(text.contains(" has a bad checksum"), "{text}");
    pc.verify();
    text
}

#[test]
fn without_a_root_pointer_to_its_tables_the_kernel_runs_and_no_event_comes() {
    alone(|| {
        let text = start_with_bad(b"XSDT");
        assert!(text.contains("WARN  no hotplug events: "), "{text}");
    });
}

#[test]
fn without_a_srat_all_memory_is_node_0_and_events_come() {
    alone(|| {
        let text = start_with_bad(b"SRAT");
        assert!(text.contains("all memory is on node 0"), "{text}");
        assert!(text.contains("acpi: 2 memory devices\n"), "{text}");
    });
}

#[test]
fn without_a_slit_all_other_nodes_are_equally_far_and_nothing_else_changes() {
    alone(|| {
        let text = start_with_bad(b"SLIT");
        assert!(text.contains("all other nodes are taken as equally far"), "{text}");
        assert!(!text.contains("on node 0"), "{text}");
        assert!(text.contains("acpi: 2 memory devices\n"), "{text}");
    });
}

#[test]
fn an_interrupt_controller_in_the_kernels_memory_is_refused_and_the_console_is_polled() {
    alone(|| {
        let io_apic = RAM.start().add(16 * MIB);
        let pc = Pc::new(&Firmware { io_apic, ..Firmware::default() });
        let text = pc.start();
        let why =
            format!("ERROR interrupt controllers: registers at {io_apic}: the range is RAM\n");
        assert!(text.contains(&why), "{text}");
        pc.machine.type_in("exit 0\n");
        assert_eq!(pc.machine.wait_for_exit(), Exit::Code(0));
    });
}

#[test]
fn the_power_button_turns_the_machine_off() {
    alone(|| {
        let (pc, _) = Pc::ready("");
        pc.machine.act(&pc.board, |board| board.press_power_button());
        assert_eq!(pc.machine.wait_for_exit(), Exit::Code(0));
        assert!(pc.machine.written().contains("INFO  the machine is turned off\n"));
    });
}
