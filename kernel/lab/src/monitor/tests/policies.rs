//! What an operator sets for added memory.

use super::Fixture;

#[test]
fn policy_and_self_hosting_are_read_back_as_they_were_set() {
    let mut this = Fixture::new();
    assert_eq!(this.ok("policy"), "online_movable\n");
    for policy in ["offline", "online", "online_kernel", "auto_movable 77"] {
        this.ok(&format!("policy {policy}"));
        assert_eq!(this.ok("policy"), format!("{policy}\n"));
    }
    this.ok("policy auto_movable");
    assert_eq!(this.ok("policy"), "auto_movable 301\n");
    assert_eq!(this.ok("vmemmap"), "enabled\n");
    this.ok("vmemmap disable");
    assert_eq!(this.ok("vmemmap"), "disabled\n");
    assert_eq!(this.refused("vmemmap off"), "\"off\" is not enable or disable");
    assert_eq!(this.refused("policy movable"), "\"movable\" is not a policy");
    assert_eq!(this.refused("policy auto_movable x"), "\"x\" is not a ratio in per cent");
    assert_eq!(this.refused("policy offline 3"), "unexpected argument \"3\"");
}

#[test]
fn growth_by_need_is_refused_with_wrong_marks_and_without_a_device() {
    let mut this = Fixture::new();
    let none = "no device of this machine offers memory";
    for line in ["virtio_mem", "virtio_mem eager", "virtio_mem need", "virtio_mem need 1M 2M"] {
        assert_eq!(this.refused(line), none, "{line}");
    }
    for (words, why) in [
        ("lazy", "\"lazy\" is not eager or need"),
        ("need 1M", "a high mark is missing"),
        ("need some 2M", "\"some\" is not a size in bytes"),
        ("need 1M more", "\"more\" is not a size in bytes"),
        ("need 0 2M", "\"0\" is not a low mark: memory is never below it"),
        ("need 3M 2M", "\"3M\" is not a low mark up to the high mark"),
        ("need 1M 2M 3M", "unexpected argument \"3M\""),
    ] {
        assert_eq!(this.refused(&format!("virtio_mem {words}")), why);
    }
}
