//! What is made wrong in watches of free memory, and in what virtio-mem devices plug by need.

use crate::mutants::mutant::Mutant;

const MODELS: &str = "--release -p hotmem --test loom";
const MM: &str = "-p hotmem --lib";
const LIB: &str = "-p hotmem-virtio-mem --lib";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        what: "watches are notified with the zone's lock held",
        file: "mm/src/alloc/node.rs",
        from: "            after.published = true;\n",
        to: "            after.watches.follow(after.node, after.free);\n",
        suite: MM,
        test: "a_watch_is_notified_once_below_the_low_mark_and_once_above_the_high_mark",
    },
    Mutant {
        what: "a watch of a node compares the free memory of all nodes",
        file: "mm/src/alloc/watches.rs",
        from: "if watch.node.is_some() { of_node } else { &self.free }",
        to: "if watch.node.is_none() { &self.free } else { let _ = of_node; &self.free }",
        suite: MM,
        test: "a_watch_of_a_node_sees_its_memory_only",
    },
    Mutant {
        what: "free memory at the high mark counts as enough again",
        file: "mm/src/alloc/gauge.rs",
        from: "count > self.high",
        to: "count >= self.high",
        suite: MM,
        test: "other_marks_take_effect_at_once",
    },
    Mutant {
        what: "a CPU does not look again after it has changed the state of a watch",
        file: "mm/src/alloc/gauge.rs",
        from: "            crossed();\n",
        to: "            crossed();\n            return;\n",
        suite: MODELS,
        test: "a_gauge_is_low_after_the_last_change_if_the_count_is",
    },
    Mutant {
        what: "memory that stays offline is plugged again and again",
        file: "kernel/virtio-mem/src/amounts.rs",
        from: "            Stage::Held => piece.offline && !is_online(self.mm, piece.range),\n",
        to: "",
        suite: LIB,
        test: "memory_that_stays_offline_is_not_plugged_again_and_again",
    },
    Mutant {
        what: "memory that has become short is given back all the same",
        file: "kernel/virtio-mem/src/need.rs",
        from: "saturating_add(returning) >= marks.low()",
        to: "saturating_add(returning | u64::MAX) >= marks.low()",
        suite: LIB,
        test: "memory_that_becomes_short_while_some_is_given_back_stays",
    },
    Mutant {
        what: "other sizes have what a device refuses tried again for ever",
        file: "kernel/virtio-mem/src/device.rs",
        from: "        self.failures < MOST_FAILURES\n",
        to: "        MOST_FAILURES != 0\n",
        suite: LIB,
        test: "a_device_that_refuses_and_requests_another_size_each_time_lets_the_kernel_sleep",
    },
];
