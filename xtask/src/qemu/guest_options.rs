//! The options of a tour's guest.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::guest_report::{GuestSpec, Program};
use crate::arch::Arch;
use crate::linux::Wanted;
use crate::size::Size;

/// The MiB that the program of a Linux guest works on.
const MIB: u64 = 64;

/// What runs as a guest, and on what.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GuestOptions {
    /// Run a guest on the first DIMM and pull that from under it: `payload`, `linux` or `self`, and `:SIZE`
    /// behind it
    #[arg(id = "guest", long, value_name = "GUEST", conflicts_with = "interactive")]
    pub(super) spec: Option<GuestSpec>,

    /// Virtual CPUs of the guest; each needs a CPU beside the first
    #[arg(long, value_name = "N", default_value_t = 1, requires = "guest",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) vcpus: u32,

    /// Memory of the guest in extents of this size, such as 2M [default: a page]
    #[arg(long, value_name = "SIZE", requires = "guest")]
    pub(super) extent: Option<Size>,

    /// How much of its memory a payload works on [default: all]
    #[arg(long, value_name = "SIZE", requires = "guest")]
    pub(super) bytes: Option<Size>,

    /// The kernel of `--guest linux` [default: Debian's, by apt]
    #[arg(long, value_name = "FILE", requires = "guest")]
    kernel: Option<PathBuf>,

    /// A file system for `--guest linux`; our program is added to it
    #[arg(long, value_name = "FILE", requires = "guest")]
    initrd: Option<PathBuf>,
}

impl GuestOptions {
    /// Refuses a guest without room to move to, options of another guest, and one that this architecture does not run.
    pub(super) fn check(&self, arch: Arch, dimms: usize) -> Result<()> {
        ensure!(
            self.spec.is_none() || dimms > 1,
            "--guest needs a second --dimm: the guest's memory moves there"
        );
        let program = self.program();
        ensure!(
            program == Program::Linux || (self.kernel.is_none() && self.initrd.is_none()),
            "--kernel and --initrd are for --guest linux"
        );
        ensure!(
            program == Program::Payload || self.bytes.is_none(),
            "--bytes is for --guest payload: a kernel uses what it likes"
        );
        let runs = program == Program::Payload || arch.about().linux.is_some();
        ensure!(runs, "--guest {}: {arch} runs no kernel as a guest", program.name());
        let (most, vcpus) = (arch.about().vcpus, self.vcpus);
        ensure!(vcpus <= most, "--vcpus {vcpus}: this guest of {arch} has at most {most}");
        Ok(())
    }

    /// Refuses several virtual CPUs on a machine with too few CPUs.
    pub(super) fn check_cpus(&self, cpus: u32) -> Result<()> {
        let vcpus = self.vcpus;
        ensure!(
            vcpus == 1 || vcpus < cpus,
            "--vcpus {vcpus}: the machine has {cpus} CPUs, and the first one runs none (--smp {})",
            vcpus.saturating_add(1)
        );
        Ok(())
    }

    /// The monitor's line that creates the guest `name` with so much memory.
    pub(super) fn create_line(&self, name: &str, bytes: u64) -> String {
        let vcpus = self.vcpus;
        let extent =
            self.extent.map_or_else(String::new, |size| format!(" --extent {}", size.bytes()));
        format!("vm create {name} {bytes}{extent} --vcpus {vcpus} {}", self.program().name())
    }

    /// The monitor's line that lets the payload `name` run for so many rounds, 0 for ever.
    pub(super) fn run_line(&self, name: &str, rounds: u64) -> String {
        let bytes =
            self.bytes.map_or_else(String::new, |size| format!(" --bytes {}", size.bytes()));
        format!("vm run {name} {rounds}{bytes}")
    }

    /// Whether a payload writes 1 % of an extent at most, again and again.
    pub(super) fn writes_little(&self) -> bool {
        let (extent, bytes) = (self.extent.map(Size::bytes), self.bytes.map(Size::bytes));
        extent.zip(bytes).is_some_and(|(extent, bytes)| bytes * 100 <= extent)
    }

    /// What the guest runs, or would.
    fn program(&self) -> Program {
        self.spec.map_or(Program::Payload, |guest| guest.program)
    }

    /// Whether the guest runs our own kernel.
    pub(super) fn is_own(&self) -> bool {
        self.program() == Program::Own
    }

    /// What the Linux guest is made of, if there is one.
    pub(super) fn linux(&self) -> Option<Wanted> {
        self.spec.filter(|guest| guest.program == Program::Linux)?;
        let (kernel, initrd) = (self.kernel.clone(), self.initrd.clone());
        Some(Wanted { kernel, initrd, mib: MIB, rounds: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::parsed;
    use crate::qemu::Args;

    fn read(words: &[&str]) -> Args {
        parsed(words).unwrap()
    }

    fn refusal(words: &[&str]) -> String {
        parsed::<Args>(words).unwrap_err().to_string()
    }

    #[test]
    fn files_of_a_linux_guest_need_one() {
        let two = ["--arch", "aarch64", "--dimm", "1G", "--dimm", "1G"];
        let linux = [&two[..], &["--guest", "linux", "--kernel", "k"]].concat();
        let args = read(&linux);
        args.config().unwrap();
        assert_eq!(args.guest.linux().unwrap().kernel, Some(PathBuf::from("k")));
        let payload = [&two[..], &["--guest", "payload", "--initrd", "i"]].concat();
        let error = read(&payload).config().unwrap_err().to_string();
        assert_eq!(error, "--kernel and --initrd are for --guest linux");
        let other = ["--arch", "ppc64", "--dimm", "1G", "--dimm", "1G", "--guest", "linux"];
        let error = read(&other).config().unwrap_err().to_string();
        assert_eq!(error, "--guest linux: ppc64 runs no kernel as a guest");
        let own = ["--arch", "ppc64", "--dimm", "1G", "--dimm", "1G", "--guest", "self"];
        let error = read(&own).config().unwrap_err().to_string();
        assert_eq!(error, "--guest self: ppc64 runs no kernel as a guest");
    }

    #[test]
    fn virtual_cpus_need_as_many_cpus_beside_the_first() {
        let with = |arch: &str, words: &[&str]| {
            let two = ["--arch", arch, "--dimm", "1G", "--dimm", "1G"];
            read(&[&two[..], words].concat()).config().map_err(|error| error.to_string())
        };
        let payload = ["--guest", "payload", "--vcpus", "2"];
        let config = with("aarch64", &[&payload[..], &["--smp", "3"]].concat());
        assert_eq!(config.unwrap().cpus, 3);
        let few = with("aarch64", &payload).unwrap_err();
        assert_eq!(few, "--vcpus 2: the machine has 2 CPUs, and the first one runs none (--smp 3)");
        let ppc64 = with("ppc64", &[&payload[..], &["--smp", "4"]].concat()).unwrap_err();
        assert_eq!(ppc64, "--vcpus 2: this guest of ppc64 has at most 1");
        for kernel in ["linux", "self"] {
            with("x86_64", &["--guest", kernel, "--vcpus", "2", "--smp", "3"]).unwrap();
        }
        assert!(refusal(&["--vcpus", "0"]).contains("--vcpus"));
        assert!(refusal(&["--vcpus", "2"]).contains("--guest"));
    }

    #[test]
    fn the_same_line_creates_a_guest_each_time() {
        let two = ["--dimm", "1G", "--dimm", "1G", "--guest"];
        let line = |words: &[&str]| read(&[&two[..], words].concat()).guest.create_line("g", 4096);
        assert_eq!(line(&["payload"]), "vm create g 4096 --vcpus 1 payload");
        assert_eq!(
            line(&["self", "--extent", "2M", "--vcpus", "2"]),
            "vm create g 4096 --extent 2097152 --vcpus 2 self"
        );
    }

    #[test]
    fn a_payload_may_work_on_a_part_of_its_memory() {
        let two = ["--dimm", "1G", "--dimm", "1G", "--guest"];
        let read = |words: &[&str]| read(&[&two[..], words].concat());
        let part = read(&["payload", "--extent", "2M", "--bytes", "20K"]);
        part.config().unwrap();
        assert_eq!(part.guest.run_line("g", 3), "vm run g 3 --bytes 20480");
        assert!(part.guest.writes_little());
        assert!(!read(&["payload", "--extent", "2M", "--bytes", "24K"]).guest.writes_little());
        assert_eq!(read(&["payload"]).guest.run_line("g", 0), "vm run g 0");
        let kernel = read(&["linux", "--bytes", "20K"]).config().unwrap_err().to_string();
        assert_eq!(kernel, "--bytes is for --guest payload: a kernel uses what it likes");
        assert!(refusal(&["--extent", "2M"]).contains("--guest"));
        assert!(refusal(&["--bytes", "2M"]).contains("--guest"));
    }
}
