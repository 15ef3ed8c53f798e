//! What is made wrong in kernel/hotplug: replies, order, undo.

use crate::mutants::mutant::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        what: "a veto is reported as memory in use",
        file: "kernel/hotplug/src/eject.rs",
        from: "Self::Offline(OfflineError::Vetoed(..)) => Refusal::Dependency,",
        to: "Self::Offline(OfflineError::Vetoed(..)) => Refusal::InUse,",
        suite: "-p hotmem-hotplug --lib",
        test: "each_way_an_eject_can_end_has_a_status_of_its_own",
    },
    Mutant {
        what: "an eject that finds no room is reported as memory in use",
        file: "kernel/hotplug/src/eject.rs",
        from: "            | Self::NoRoom(_)\n",
        to: "",
        suite: "-p hotmem-hotplug --lib",
        test: "each_way_an_eject_can_end_has_a_status_of_its_own",
    },
    Mutant {
        what: "an eject that was cancelled is reported as memory in use",
        file: "kernel/hotplug/src/eject.rs",
        from: "            | Self::NoRoom(_)\n            | Self::Cancelled =>",
        to: "            | Self::NoRoom(_) =>",
        suite: "-p hotmem-hotplug --lib",
        test: "an_eject_that_is_cancelled_while_memory_is_cleared_leaves_all_online",
    },
    Mutant {
        what: "firmware is not informed that an eject is under way",
        file: "kernel/hotplug/src/eject.rs",
        from: "        self.reply(context, Outcome::Ejecting);\n",
        to: "",
        suite: "-p hotmem-hotplug --lib",
        test: "each_way_an_eject_can_end_has_a_status_of_its_own",
    },
    Mutant {
        what: "an eject goes on though there is no room for the pages in use",
        file: "kernel/hotplug/src/eject.rs",
        from: "=> return Err(order),",
        to: "=> ejecting.room = None,",
        suite: "-p hotmem-hotplug --lib",
        test: "ranges_with_room_only_in_each_other_are_refused_before_a_page_moves",
    },
    Mutant {
        what: "an eject that failed leaves the blocks before offline",
        file: "kernel/hotplug/src/eject.rs",
        from: "        self.restore(ejecting, out);\n        self.refuse(context, error, out);",
        to: "        self.refuse(context, error, out);",
        suite: "-p hotmem-hotplug --lib",
        test: "an_eject_that_is_cancelled_while_memory_is_cleared_leaves_all_online",
    },
    Mutant {
        what: "an eject that failed does not add back what it removed",
        file: "kernel/hotplug/src/eject.rs",
        from: "        self.add_back(ejecting, removes, out);\n        self.restore(",
        to: "        self.restore(",
        suite: "-p hotmem-hotplug --lib",
        test: "an_eject_whose_nth_operation_fails_changes_nothing",
    },
    Mutant {
        what: "the failure of an eject adds back memory of a device that is gone",
        file: "kernel/hotplug/src/eject.rs",
        from: "if !self.source.is_there(context.device) {\n            log::error!(\"{}: {error}\"",
        to: "if false {\n            log::error!(\"{}: {error}\"",
        suite: "-p hotmem-hotplug --lib",
        test: "a_device_that_goes_at_the_end_of_its_eject_is_not_added_back",
    },
    Mutant {
        what: "memory of a device that was refused is ejected though it is in use",
        file: "kernel/hotplug/src/eject.rs",
        from: "used.next().map_or(Ok(()), |id| Err(EjectError::Elsewhere(id)))?;",
        to: "let _ = used.next();",
        suite: "-p hotmem-hotplug --lib",
        test: "memory_of_the_start_that_is_a_device_too_is_left_alone_and_never_ejected",
    },
];
