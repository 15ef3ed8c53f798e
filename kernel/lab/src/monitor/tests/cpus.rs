//! What another CPU does meanwhile.

use super::Fixture;

#[test]
fn another_cpu_allocates_and_frees_while_blocks_go_on_and_offline() {
    let mut this = Fixture::new();
    assert_eq!(this.refused("cpus rest"), "no CPU is running cpus churn or hold");
    this.ok("cpus churn");
    for _ in 0..50 {
        this.ok("offline 64");
        this.ok("online 64");
    }
    this.ok("cpus rest");
    this.ok("verify");
    let bench = this.bench;
    let free = || bench.mm.zones().map(|zone| zone.counts.free).sum::<u64>();
    this.ok("snapshot save");
    let before = free();
    this.ok("cpus hold 80");
    while before - free() < 80 {
        std::thread::yield_now();
    }
    this.ok("cpus rest");
    this.ok("snapshot check");
    assert!(this.ok("pool").starts_with("0 extents"));
    assert!(this.ok("use").contains("2 CPUs used "));
    assert!(this.ok("cpus").contains("up"));
    assert_eq!(this.refused("bench"), "the machine does not count instructions");
    assert_eq!(this.refused("holds"), "the image does not record how long locks are held");
    assert_eq!(this.refused("cpus tick"), "CPU 1 has another job");
    assert_eq!(this.refused("cpus start 7"), "CPU 0x7: there is none");
    assert_eq!(this.refused("crash deaf 9"), "CPU 9 is not up");
}
