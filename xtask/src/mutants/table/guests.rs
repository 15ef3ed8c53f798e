//! What is made wrong in kernel/vm, and in what the architectures do for guests.

use crate::mutants::mutant::Mutant;

const VM: &str = "-p hotmem-vm --lib";
const ARCH: &str = "-p hotmem-arch --lib";
const KERNEL: &str = "-p hotmem-kernel --test host";
const AARCH64: &str = "--arch aarch64";
const X86_64: &str = "--arch x86_64";
const MODELS: &str = "--release -p hotmem-vm --test loom";

/// A CPU that stays in a guest whose tables stay uses what was not dropped.
const ON_TWO: &str =
    "vcpus::payload_on_two_virtual_cpus_computes_while_its_pages_are_pulled_and_its_tables_stay";
const OWN_ON_TWO: &str =
    "own::our_own_kernel_uses_memory_on_two_virtual_cpus_while_its_dimm_is_pulled";
const LINUX_ON_TWO: &str =
    "linux::linux_on_two_virtual_cpus_computes_on_each_while_its_dimm_is_pulled";
const ON_THREE: &str = "vcpus::payload_on_three_virtual_cpus_computes_while_its_dimm_is_pulled";
const EXTENTS: &str =
    "vcpus::payload_on_two_virtual_cpus_computes_while_its_extents_of_two_mebibytes_are_copied";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        what: "the pages of a guest are copied before a flush",
        file: "kernel/vm/src/switch.rs",
        from: "        P::Guests::drop_guest_translations(&self.root.space(), ranges);\n",
        to: "        let _ = ranges;\n",
        suite: VM,
        test: "an_extent_is_copied_after_its_leaf_was_cleared_and_flushed",
    },
    Mutant {
        what: "a flush names the tag of another guest",
        file: "kernel/vm/src/switch.rs",
        from: "GuestSpace::new(at, self.tag)",
        to: "GuestSpace::new(at, self.tag ^ 1)",
        suite: VM,
        test: "a_flush_names_the_tag_of_the_guest_and_its_root_and_no_tag_is_shared_or_the_hosts",
    },
    Mutant {
        what: "a CPU in a guest is not interrupted",
        file: "kernel/vm/src/residence.rs",
        from: "        kick(cpu);\n",
        to: "        let _ = kick;\n",
        suite: MODELS,
        test: "a_cpu_that_stays_in_a_guest_is_interrupted",
    },
    Mutant {
        what: "a flush does not wait until a CPU has left the guest",
        file: "kernel/vm/src/residence.rs",
        from: "visit.map_or(Ok(()), |visit| residence.wait(visit, &relax))?;",
        to: "let _ = (visit, residence, &relax);",
        suite: MODELS,
        test: "no_cpu_in_a_guest_uses_a_page_after_it_was_taken_away",
    },
    Mutant {
        what: "the pages of a guest are copied before their leaves are cleared",
        file: "kernel/vm/src/pages.rs",
        from: "        self.break_all(moves);
",
        to: "        for one in moves.iter().filter(|one| !one.is_refused()) {
            switch::copy::<M, P>(self.0.mm, one);
        }
        self.break_all(moves);
",
        suite: VM,
        test: "an_extent_is_copied_after_its_leaf_was_cleared_and_flushed",
    },
    Mutant {
        what: "the copy of a guest's page is mapped at its neighbour's frame",
        file: "kernel/vm/src/space.rs",
        from: "Self::mapping(one, one.to())",
        to: "Self::mapping(one, Pfn::new(one.to().get() ^ 1))",
        suite: VM,
        test: "every_page_and_table_of_a_guest_moves_and_a_batch_is_flushed_once",
    },
    Mutant {
        what: "the copy of a guest's page is mapped at its neighbour's address",
        file: "kernel/vm/src/space.rs",
        from: "let (virt, phys, len) = (range.start(), M::address(pfn), range.len());",
        to: "let (virt, phys, len) = (range.start().add(range.len()), M::address(pfn), range.len());",
        suite: KERNEL,
        test: "a_guest_computes_while_its_memory_is_pulled_and_its_result_is_that_of_an_undisturbed_run",
    },
    Mutant {
        what: "what the move of a guest's page leaves is not cleared",
        file: "kernel/vm/src/pages.rs",
        from: "            moves.iter().for_each(|one| switch::clear_unused(self.0.mm, one));\n",
        to: "",
        suite: VM,
        test: "a_frame_that_a_guest_moved_from_holds_nothing_of_it",
    },
    Mutant {
        what: "the pages of a guest that was killed are not cleared",
        file: "kernel/vm/src/switch.rs",
        from: "        unsafe { clear(mm, extent.pfn, extent.order) };\n",
        to: "",
        suite: VM,
        test: "a_killed_guest_leaves_nothing_in_its_frames",
    },
    Mutant {
        what: "the memory of a new guest is not cleared",
        file: "kernel/vm/src/switch.rs",
        from: "        unsafe { clear(mm, pfn, order) };
        Ok(Self { pfn, order })
",
        to: "        Ok(Self { pfn, order })
",
        suite: VM,
        test: "a_new_guest_finds_zeroes_behind_its_payload_whoever_had_the_memory_before",
    },
    Mutant {
        what: "an event that a fault interrupted is not injected again",
        file: "arch/src/x86_64/svm/vcpu.rs",
        from: "        self.vmcb_mut().control.event = exit::interrupted_event(exit.event);\n",
        to: "        self.vmcb_mut().control.event = 0;\n",
        suite: ARCH,
        test: "a_fault_repeats_its_instruction_and_the_event_that_it_interrupted",
    },
    Mutant {
        what: "an event that was delivered is injected again",
        file: "arch/src/x86_64/svm/vcpu.rs",
        from: "control.event = exit::interrupted_event(exit.event);",
        to: "control.event = exit.event;",
        suite: ARCH,
        test: "a_fault_repeats_its_instruction_and_the_event_that_it_interrupted",
    },
    Mutant {
        what: "an entry into a guest never drops translations",
        file: "arch/src/x86_64/svm/flush.rs",
        from: "        (false, false) => flush::ALL,\n",
        to: "        (false, false) => flush::NOTHING,\n",
        suite: ARCH,
        test: "an_entry_drops_translations_unless_it_is_like_the_last_one",
    },
    Mutant {
        what: "a request to drop translations of guests is not counted",
        file: "arch/src/x86_64/svm/vcpu.rs",
        from: "REQUESTS.fetch_add(1, Ordering::SeqCst);",
        to: "REQUESTS.fetch_add(0, Ordering::SeqCst);",
        suite: ARCH,
        test: "an_entry_after_a_request_of_any_cpu_drops_what_is_cached_of_the_space_that_it_names",
    },
    Mutant {
        what: "all guests have one ASID",
        file: "arch/src/x86_64/svm/vcpu.rs",
        from: "(now.asid, now.root, flush)",
        to: "(1, now.root, flush)",
        suite: ARCH,
        test: "an_entry_after_a_request_of_any_cpu_drops_what_is_cached_of_the_space_that_it_names",
    },
    Mutant {
        what: "a guest and its flushes have the VMID of another",
        file: "arch/src/aarch64/stage2.rs",
        from: "u64::from(space.tag()) << 48",
        to: "u64::from(space.tag() ^ 1) << 48",
        suite: ARCH,
        test: "the_base_register_names_the_root_and_the_guest",
    },
    Mutant {
        what: "a flush of a guest is for the CPU that asks alone, on x86_64",
        file: "kernel/vm/src/switch.rs",
        from: "        if P::Guests::GUEST_FLUSH_REACHES_ALL {\n",
        to: "        if !P::Guests::GUEST_FLUSH_REACHES_ALL {\n",
        suite: X86_64,
        test: ON_TWO,
    },
    Mutant {
        what: "translations of a guest are never dropped, on aarch64",
        file: "arch/src/aarch64/el2.rs",
        from: "tlbi vmalls12e1is",
        to: "nop",
        suite: AARCH64,
        test: ON_TWO,
    },
    Mutant {
        what: "translations of a guest on three CPUs are never dropped, on aarch64",
        file: "arch/src/aarch64/el2.rs",
        from: "tlbi vmalls12e1is",
        to: "nop",
        suite: AARCH64,
        test: ON_THREE,
    },
    Mutant {
        what: "translations of a guest in large extents are never dropped, on aarch64",
        file: "arch/src/aarch64/el2.rs",
        from: "tlbi vmalls12e1is",
        to: "nop",
        suite: AARCH64,
        test: EXTENTS,
    },
    Mutant {
        what: "a flush of a guest is for the CPU that asks alone, on aarch64",
        file: "arch/src/aarch64/el2.rs",
        from: "tlbi vmalls12e1is",
        to: "tlbi alle1",
        suite: AARCH64,
        test: ON_TWO,
    },
    Mutant {
        what: "a flush of a guest names translations of the kernel",
        file: "arch/src/aarch64/el2.rs",
        from: "tlbi vmalls12e1is",
        to: "tlbi vmalle1is",
        suite: AARCH64,
        test: ON_TWO,
    },
    Mutant {
        what: "a virtual CPU that another one calls may go to sleep",
        file: "kernel/vm/src/cpus.rs",
        from: "        slot.called.fetch_or(1 << at.number, Ordering::SeqCst);\n",
        to: "        let _ = slot;\n",
        suite: VM,
        test: "a_virtual_cpu_that_another_one_calls_is_interrupted_and_does_not_sleep",
    },
    Mutant {
        what: "a CPU halts though another one sent it an interrupt, on x86_64",
        file: "arch/src/x86_64/svm/emulate.rs",
        from: "            _ if self.board.has_mail(self.number) => None,\n",
        to: "",
        suite: ARCH,
        test: "a_cpu_calls_others_starts_them_and_gets_what_they_send",
    },
    Mutant {
        what: "a CPU is not called for the interrupt that another one sends, on aarch64",
        file: "arch/src/aarch64/board/mod.rs",
        from: "        self.call_others(cpu, receivers);\n",
        to: "        let _ = receivers;\n",
        suite: ARCH,
        test: "cpus_call_one_another_and_the_first_one_gets_the_interrupt_of_the_serial_port",
    },
    Mutant {
        what: "shared interrupts go to the first CPU whatever their routes are, on aarch64",
        file: "arch/src/aarch64/board/controller.rs",
        from: "filter(|id| self.target(*id) == Some(cpu));",
        to: "filter(|_| cpu == 0);",
        suite: ARCH,
        test: "a_line_interrupts_the_cpu_that_its_route_names",
    },
    Mutant {
        what: "an interrupt in a list register is lost when it gets another route, on aarch64",
        file: "arch/src/aarch64/board/controller.rs",
        from: "if strays == 0 { 0 } else { self.raise(strays) }",
        to: "strays & 0",
        suite: ARCH,
        test: "one_in_a_list_register_goes_to_the_new_cpu_when_the_old_one_is_entered",
    },
    Mutant {
        what: "a guest whose CPUs all wait for one another runs for ever",
        file: "kernel/vm/src/life.rs",
        from: "            Power::On => !vcpu.needs_others,\n",
        to: "            Power::On => true,\n",
        suite: VM,
        test: "cpus_that_all_wait_for_one_another_stop_their_guest",
    },
    Mutant {
        what: "a CPU that was called counts as one that waits for others",
        file: "kernel/vm/src/cpus.rs",
        from: "            vcpu.needs_others = !self.is_woken(at);\n",
        to: "            vcpu.needs_others = true;\n",
        suite: VM,
        test: "cpus_that_all_wait_for_one_another_stop_their_guest",
    },
    Mutant {
        what: "a CPU that a guest of this kernel starts stays off",
        file: "kernel/vm/src/cpus.rs",
        from: "        life.change(at.number, Power::Starting, Power::On);\n",
        to: "        life.change(at.number, Power::Starting, Power::Off);\n",
        suite: AARCH64,
        test: OWN_ON_TWO,
    },
    Mutant {
        what: "a CPU that a Linux guest starts stays off",
        file: "kernel/vm/src/cpus.rs",
        from: "        life.change(at.number, Power::Starting, Power::On);\n",
        to: "        life.change(at.number, Power::Starting, Power::Off);\n",
        suite: AARCH64,
        test: LINUX_ON_TWO,
    },
    Mutant {
        what: "a segment of an image may lie outside of the guest's memory",
        file: "kernel/vm/src/image.rs",
        from: "if !has_room || described.start_info",
        to: "if described.start_info",
        suite: VM,
        test: "an_image_that_lies_elsewhere_than_in_memory_that_it_may_use_is_refused",
    },
];
