//! What is made wrong in kernel/aml: bounds of evaluation, operators, fields.

use crate::mutants::mutant::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        what: "nesting is not bounded",
        file: "kernel/aml/src/exec/mod.rs",
        from: "        if self.depth >= self.m.limits.depth {",
        to: "        if self.depth == u16::MAX {",
        suite: "-p hotmem-aml --lib",
        test: "recursion_and_nesting_are_cut_off",
    },
    Mutant {
        what: "an access may end past its region",
        file: "kernel/aml/src/exec/access.rs",
        from: "if end.is_none_or(|end| end > region.len) {",
        to: "if end.is_none_or(|_| at > region.len) {",
        suite: "-p hotmem-aml --lib",
        test: "an_access_outside_its_region_never_reaches_the_host",
    },
    Mutant {
        what: "a package may end outside of its parent",
        file: "kernel/aml/src/code.rs",
        from: "if end < cur.at || end > cur.end {",
        to: "if end < cur.at {",
        suite: "-p hotmem-aml --lib",
        test: "a_package_that_ends_outside_its_parent_is_an_error",
    },
    Mutant {
        what: "mutexes stay held after an error",
        file: "kernel/aml/src/exec/mod.rs",
        from: "        self.unlock_all();\n        self.m.clean();\n        self.m.peak",
        to: "        self.m.peak",
        suite: "-p hotmem-aml --lib",
        test: "an_error_takes_the_names_of_its_method_with_it",
    },
    Mutant {
        what: "terms and rounds of loops cost no steps",
        file: "kernel/aml/src/exec/mod.rs",
        from: "        self.steps = steps.min(most);\n",
        to: "        let _ = steps.min(most);\n",
        suite: "-p hotmem-aml --lib",
        test: "each_term_and_each_round_of_a_loop_costs_a_step",
    },
    Mutant {
        what: "an index may be one past the end",
        file: "kernel/aml/src/exec/refs.rs",
        from: "filter(|&index| index < span.len)",
        to: "filter(|&index| index <= span.len)",
        suite: "-p hotmem-aml --lib",
        test: "an_index_past_the_end_leads_to_no_other_buffer",
    },
    Mutant {
        what: "a shift to the right is one to the left",
        file: "kernel/aml/src/exec/arith.rs",
        from: "shift.map_or(0, |shift| left >> shift)",
        to: "shift.map_or(0, |shift| left << shift)",
        suite: "-p hotmem-aml --lib",
        test: "a_shift_by_as_many_bits_as_there_are_leaves_none",
    },
    Mutant {
        what: "a shift by more bits than there are is one by some of them",
        file: "kernel/aml/src/exec/arith.rs",
        from: "        let shift = u32::try_from(right).ok().filter(|&shift| shift < bits);",
        to: "        let shift = Some(right as u32 % bits);",
        suite: "-p hotmem-aml --lib",
        test: "a_shift_by_as_many_bits_as_there_are_leaves_none",
    },
];
