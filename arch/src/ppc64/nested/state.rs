//! The two structures, and what this kernel puts into them.
//!
//! They are those of Linux (`struct hv_guest_state` in `arch/powerpc/include/asm/hvcall.h`, and `struct pt_regs`), in
//! the byte order of the kernel that calls: little-endian. Fields that this kernel has no use for stay zero.

use core::fmt;

/// The version of [`HypervisorState`] that is used: the first, without the last two fields.
const VERSION: u64 = 1;

/// MSR (book III, 3.2.1): 64-bit mode, machine checks, little-endian; and the bits that a guest may have set.
const MSR_SF: u64 = 1 << 63;
const MSR_ME: u64 = 1 << 12;
const MSR_LE: u64 = 1;
/// MSR: external interrupts.
const MSR_EE: u64 = 1 << 15;
/// MSR: problem state.
const MSR_PR: u64 = 1 << 14;
/// MSR of a guest: all but HV, S and the states of transactions. From the top: SF, VEC, VSX, EE, PR, FP, ME, FE0,
/// TE, FE1, IR, DR, RI, LE.
const MSR_OF_GUESTS: u64 = MSR_SF | 1 << 25 | 1 << 23 | 0xff00 | 0x30 | 0x2 | MSR_LE;

/// LPCR (book III, 2.2): interrupts of the guest are little-endian.
const LPCR_ILE: u64 = 1 << 25;
/// HFSCR (book III, 6.2.11): guests have floating point, vectors, DSCR, TAR and prefixed instructions; not the
/// performance monitor, branch records, transactions, event-based branches and messages between threads.
const HFSCR_OF_GUESTS: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 13;

/// The registers that belong to the hypervisor of a guest, and others that it sets late.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "registers, by their names in the manual")]
pub struct HypervisorState {
    pub version: u64,
    pub lpid: u32,
    pub vcpu_token: u32,
    pub lpcr: u64,
    pub pcr: u64,
    pub amor: u64,
    pub dpdes: u64,
    pub hfscr: u64,
    pub tb_offset: u64,
    pub dawr0: u64,
    pub dawrx0: u64,
    pub ciabr: u64,
    /// The timebase at which the run ends.
    pub hdec_expiry: u64,
    pub purr: u64,
    pub spurr: u64,
    pub ic: u64,
    pub vtb: u64,
    pub hdar: u64,
    pub hdsisr: u64,
    pub heir: u64,
    pub asdr: u64,
    pub srr0: u64,
    pub srr1: u64,
    pub sprg: [u64; 4],
    pub pidr: u64,
    pub cfar: u64,
    pub ppr: u64,
    pub dawr1: u64,
    pub dawrx1: u64,
}

/// The registers that any code has.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "registers, by their names in the manual")]
pub struct Registers {
    pub gpr: [u64; 32],
    pub nip: u64,
    pub msr: u64,
    pub orig_gpr3: u64,
    pub ctr: u64,
    pub link: u64,
    pub xer: u64,
    pub ccr: u64,
    pub softe: u64,
    pub trap: u64,
    pub dar: u64,
    pub dsisr: u64,
    pub result: u64,
}

/// The registers of a guest's CPU while it does not run.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NestedState {
    /// First structure.
    pub hypervisor: HypervisorState,
    /// Second structure.
    pub registers: Registers,
}

impl NestedState {
    /// Prepares a zeroed state for a start at `entry`, little-endian and without translation of its own, with
    /// `arguments` in the registers of a function call.
    pub fn start(&mut self, entry: u64, arguments: [u64; 4]) {
        self.hypervisor.version = VERSION;
        self.hypervisor.lpcr = LPCR_ILE;
        self.registers.nip = entry;
        // The address of a function that is called (64-bit ELF V2 ABI, 2.2.1.1).
        self.registers.gpr[12] = entry;
        self.registers.gpr[3..7].copy_from_slice(&arguments);
        self.registers.msr = MSR_SF | MSR_ME | MSR_LE;
    }

    /// Prepares the next run, in partition `lpid`, until the timebase is `end`.
    ///
    /// What the guest must not decide is set again, since it comes back from each run. The token tells a hypervisor
    /// when a virtual CPU changes its CPU; one token for all makes it assume that more often than it happens.
    pub fn prepare(&mut self, lpid: u32, end: u64) {
        self.hypervisor.lpid = lpid;
        self.hypervisor.hdec_expiry = end;
        self.hypervisor.hfscr = HFSCR_OF_GUESTS;
        self.hypervisor.dpdes = 0;
        self.registers.msr = self.registers.msr & MSR_OF_GUESTS | MSR_ME;
    }

    /// What the guest finds when it continues after its wait for an interrupt: the call succeeded, and interrupts are
    /// enabled (LoPAR 14.11.1).
    pub const fn cede(&mut self) {
        self.registers.gpr[3] = 0;
        self.registers.msr |= MSR_EE;
    }

    /// Whether the guest runs in problem state.
    pub(super) const fn is_problem_state(&self) -> bool {
        self.registers.msr & MSR_PR != 0
    }
}

impl fmt::Display for NestedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hypervisor: hv, registers: own } = self;
        let (nip, msr, lr, ctr) = (own.nip, own.msr, own.link, own.ctr);
        write!(f, "nip {nip:016x} msr {msr:016x} lr {lr:016x} ctr {ctr:016x}")?;
        write!(f, "\n  cr {:08x} xer {:x}", own.ccr, own.xer)?;
        write!(f, " srr0 {:x} srr1 {:x} pid {:x} lpid {}", hv.srr0, hv.srr1, hv.pidr, hv.lpid)?;
        write!(f, "\n  hdar {:x} hdsisr {:x} asdr {:x}", hv.hdar, hv.hdsisr, hv.asdr)?;
        for (index, value) in own.gpr.iter().enumerate() {
            let gap = if index % 4 == 0 { "\n " } else { "" };
            write!(f, "{gap} r{index:<2} {value:016x}")?;
        }
        Ok(())
    }
}
