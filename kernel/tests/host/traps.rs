//! Exceptions: bad memory is taken out of use, anything else ends the kernel with a report.

use hotmem::{PhysAddr, VirtAddr};
use hotmem_arch::contract::Exit;
use hotmem_arch::host::Trap;
use hotmem_kernel::memory::layout::Stack;

use crate::alone::alone;
use crate::pc::Pc;

#[test]
fn bad_memory_is_taken_out_of_use_and_the_kernel_continues() {
    alone(|| {
        let (pc, _) = Pc::ready("");
        let at = PhysAddr::new(0x200_0000);
        pc.machine.raise(Trap::BadMemory(at));
        pc.machine.wait_for("WARN  pfn 0x2000 is bad and out of use\n");
        pc.verify();
    });
}

#[test]
fn bad_memory_that_the_kernel_does_not_use_is_only_reported() {
    alone(|| {
        let (pc, _) = Pc::ready("");
        pc.machine.raise(Trap::BadMemory(PhysAddr::new(1 << 40)));
        pc.machine.wait_for("ERROR pfn 0x10000000 is bad and stays in use: there is no memory");
        pc.verify();
    });
}

#[test]
fn an_nmi_is_logged_and_the_kernel_continues() {
    alone(|| {
        let (pc, _) = Pc::ready("");
        pc.machine.raise(Trap::Nmi);
        pc.machine.wait_for("WARN  NMI: CPU 0 was at 0x");
        pc.machine.raise(Trap::Nmi);
        pc.machine.raise(Trap::Nmi);
        pc.verify();
    });
}

#[test]
fn an_nmi_ends_the_kernel_if_the_command_line_says_so() {
    alone(|| {
        let (pc, _) = Pc::ready("nmi=panic");
        pc.machine.raise(Trap::Nmi);
        assert_eq!(pc.machine.wait_for_exit(), Exit::Panic);
        let text = pc.machine.written();
        assert!(text.contains("hotmem: panic: non-maskable interrupt\n"), "{text}");
    });
}

#[test]
fn a_fault_below_a_stack_is_reported_as_its_overflow_with_a_dump_of_memory() {
    alone(|| {
        let (pc, _) = Pc::ready("");
        let below = VirtAddr::new(Stack::kernel(0).range().start().get() - 8);
        pc.machine.raise(Trap::Fault(below));
        assert_eq!(pc.machine.wait_for_exit(), Exit::Panic);
        let text = pc.machine.written();
        let (_, report) = text.split_once("hotmem: panic: ").unwrap();
        assert!(report.starts_with("kernel stack overflow: page fault at 0x"), "{report}");
        assert!(report.contains("\nmemory, in pages of 4096 bytes:\n"), "{report}");
    });
}

#[test]
fn a_timer_has_its_handler_allocate_and_free_until_it_is_turned_off() {
    alone(|| {
        let (pc, _) = Pc::ready("");
        assert!(!pc.machine.ring_timer(), "the timer runs before it was started");
        pc.ask("cpus tick");
        assert!(pc.machine.ring_timer());
        let shown = pc.ask("cpus --json");
        assert!(shown.contains("\"ticks\":1}"), "{shown}");
        assert!(shown.contains("\"allocated\":120,\"freed\":120,"), "{shown}");
        pc.ask("cpus tick off");
        assert!(!pc.machine.ring_timer(), "the timer still runs");
        pc.verify();
    });
}
