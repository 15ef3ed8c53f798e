//! The local APIC of a guest, in x2APIC mode (Intel SDM vol. 3A, 12.12): registers by RDMSR and WRMSR, no window in
//! memory, and a timer with a deadline of the time stamp counter (12.5.4.1).
//!
//! The board has no device that interrupts, so a vector is requested by the timer, by the CPU itself or by another one.

use super::refusal::Refusal;

/// The most CPUs of a board.
pub(crate) const MOST_CPUS: usize = 8;

/// The registers that belong to the APIC.
pub(crate) const FIRST: u32 = 0x800;
pub(crate) const LAST: u32 = 0x8ff;
/// The register with the deadline.
pub(crate) const DEADLINE: u32 = 0x6e0;
/// The register that selects how the APIC is accessed, and what it reads: enabled, x2APIC mode; of the boot CPU.
pub(crate) const BASE: u32 = 0x1b;
const BASE_VALUE: u64 = 0xfee0_0c00;
const BASE_BOOT: u64 = 1 << 8;

// The registers (SDM vol. 3A, table 12-6).
pub(crate) const ID: u32 = 0x802;
const VERSION: u32 = 0x803;
const TASK_PRIORITY: u32 = 0x808;
const PROCESSOR_PRIORITY: u32 = 0x80a;
const END_OF_INTERRUPT: u32 = 0x80b;
const LOGICAL_DESTINATION: u32 = 0x80d;
const SPURIOUS: u32 = 0x80f;
const IN_SERVICE: u32 = 0x810;
const TRIGGER_MODE: u32 = 0x818;
const REQUESTED: u32 = 0x820;
const ERROR_STATUS: u32 = 0x828;
pub(crate) const COMMAND: u32 = 0x830;
const LVT_TIMER: u32 = 0x832;
const LVT_ERROR: u32 = 0x837;
const INITIAL_COUNT: u32 = 0x838;
const CURRENT_COUNT: u32 = 0x839;
const DIVIDE: u32 = 0x83e;
const SELF: u32 = 0x83f;

/// Version 14h, and the number of the last local vector: error.
const VERSION_VALUE: u64 = 0x0005_0014;
/// CPUs of a cluster: in the logical destination, a CPU is a bit below the number of its cluster.
const CLUSTER: u32 = 16;
/// In the register of the spurious vector: the APIC is enabled; the bits that exist.
const ENABLED: u32 = 1 << 8;
const SPURIOUS_BITS: u32 = 0x3ff;
/// In a local vector: masked; the timer's mode, and the one with a deadline; the bits that exist.
const MASKED: u32 = 1 << 16;
const MODE: u32 = 3 << 17;
const MODE_DEADLINE: u32 = 2 << 17;
const LOCAL_BITS: u32 = MODE | MASKED | 0xe7ff;

/// The least vector of an interrupt: those below are of exceptions.
const LEAST: u8 = 16;

/// A set of vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vectors([u32; 8]);

impl Vectors {
    pub(crate) fn set(&mut self, vector: u8, is_in: bool) {
        if let Some(word) = self.0.get_mut(usize::from(vector >> 5)) {
            let bit = 1 << (vector & 31);
            *word = if is_in { *word | bit } else { *word & !bit };
        }
    }

    fn has(&self, vector: u8) -> bool {
        let word = self.0.get(usize::from(vector >> 5));
        word.is_some_and(|word| word >> (vector & 31) & 1 != 0)
    }

    /// The vector of the highest priority.
    fn highest(&self) -> Option<u8> {
        let mut words = self.0.iter().zip([0_u8, 1, 2, 3, 4, 5, 6, 7]).rev();
        let found = words.find(|(word, _)| **word != 0);
        found.map(|(word, index)| index << 5 | word.ilog2() as u8)
    }

    /// The 32 vectors of the register `index` of eight.
    fn register(&self, index: u32) -> u64 {
        self.0.get(index as usize).copied().unwrap_or(0).into()
    }
}

/// The APIC.
#[derive(Clone, Debug)]
pub(crate) struct LocalApic {
    /// The number of the CPU.
    number: u32,
    requested: Vectors,
    in_service: Vectors,
    /// The task priority: vectors of its class and below wait.
    task: u8,
    spurious: u32,
    /// Timer, thermal sensor, performance counters, both pins, error.
    local: [u32; 6],
    command: u64,
    divide: u32,
    /// When the timer requests its vector; 0 for never.
    deadline: u64,
}

impl LocalApic {
    /// That of CPU `number` after a reset: disabled by software.
    pub(crate) const fn new(number: u32) -> Self {
        Self {
            number,
            requested: Vectors([0; 8]),
            in_service: Vectors([0; 8]),
            task: 0,
            spurious: 0xff,
            local: [MASKED; 6],
            command: 0,
            divide: 0,
            deadline: 0,
        }
    }

    /// Reads a register of the APIC.
    ///
    /// # Errors
    ///
    /// [`Refusal::Protection`] for one that it lacks, or that is only written.
    pub(crate) fn read(&self, number: u32) -> Result<u64, Refusal> {
        let value = match number {
            DEADLINE if self.has_deadline() => self.deadline,
            ID => self.number.into(),
            DEADLINE | ERROR_STATUS | INITIAL_COUNT | CURRENT_COUNT => 0,
            TRIGGER_MODE..REQUESTED => 0,
            VERSION => VERSION_VALUE,
            TASK_PRIORITY => self.task.into(),
            PROCESSOR_PRIORITY => self.priority().into(),
            LOGICAL_DESTINATION => {
                u64::from(self.number / CLUSTER) << 16 | 1 << (self.number % CLUSTER)
            }
            SPURIOUS => self.spurious.into(),
            IN_SERVICE..TRIGGER_MODE => self.in_service.register(number - IN_SERVICE),
            REQUESTED..ERROR_STATUS => self.requested.register(number - REQUESTED),
            COMMAND => self.command,
            LVT_TIMER..=LVT_ERROR => self.local_vector(number - LVT_TIMER).into(),
            DIVIDE => self.divide.into(),
            _ => return Err(Refusal::Protection),
        };
        Ok(value)
    }

    /// Writes a register of the APIC.
    ///
    /// # Errors
    ///
    /// [`Refusal`] for one that it lacks, for reserved bits, and for what is not emulated.
    pub(crate) fn write(&mut self, number: u32, value: u64) -> Result<(), Refusal> {
        let bits = |most: u32| match u32::try_from(value) {
            Ok(word) if word & !most == 0 => Ok(word),
            _ => Err(Refusal::Protection),
        };
        match number {
            DEADLINE if self.has_deadline() => self.deadline = value,
            DEADLINE => {}
            TASK_PRIORITY => self.task = bits(0xff)? as u8,
            END_OF_INTERRUPT => {
                bits(0)?;
                self.end();
            }
            SPURIOUS => self.set_spurious(bits(SPURIOUS_BITS)?),
            ERROR_STATUS => _ = bits(0)?,
            COMMAND => self.command = value & !(1 << 12),
            LVT_TIMER..=LVT_ERROR => {
                // Bit 12 says that a vector was not delivered yet, and is only read.
                self.set_local_vector(number - LVT_TIMER, bits(LOCAL_BITS | 1 << 12)?);
            }
            INITIAL_COUNT if value == 0 => {}
            INITIAL_COUNT => {
                return Err(Refusal::Stop("its APIC timer counts, without a deadline", value));
            }
            DIVIDE => self.divide = bits(0xb)?,
            SELF => self.request(bits(0xff)? as u8),
            _ => return Err(Refusal::Protection),
        }
        Ok(())
    }

    fn local_vector(&self, index: u32) -> u32 {
        self.local.get(index as usize).copied().unwrap_or(MASKED)
    }

    fn set_local_vector(&mut self, index: u32, value: u32) {
        let masked = if self.is_enabled() { 0 } else { MASKED };
        if let Some(slot) = self.local.get_mut(index as usize) {
            *slot = value & LOCAL_BITS | masked;
        }
        if !self.has_deadline() {
            self.deadline = 0;
        }
    }

    const fn is_enabled(&self) -> bool {
        self.spurious & ENABLED != 0
    }

    /// A disabled APIC has its local vectors masked.
    fn set_spurious(&mut self, value: u32) {
        self.spurious = value;
        if !self.is_enabled() {
            self.local = self.local.map(|vector| vector | MASKED);
        }
    }

    /// Whether the timer is in the mode with a deadline.
    fn has_deadline(&self) -> bool {
        self.local_vector(0) & MODE == MODE_DEADLINE
    }

    /// How the APIC is accessed, as a register reads it.
    pub(crate) const fn base(&self) -> u64 {
        if self.number == 0 { BASE_VALUE | BASE_BOOT } else { BASE_VALUE }
    }

    /// Requests vectors that CPUs sent.
    pub(crate) fn request_all(&mut self, vectors: &Vectors) {
        for vector in (LEAST..=u8::MAX).filter(|vector| vectors.has(*vector)) {
            self.request(vector);
        }
    }

    /// Requests a vector.
    fn request(&mut self, vector: u8) {
        if self.is_enabled() && vector >= LEAST {
            self.requested.set(vector, true);
        }
    }

    fn end(&mut self) {
        if let Some(vector) = self.in_service.highest() {
            self.in_service.set(vector, false);
        }
    }

    /// The processor priority (SDM vol. 3A, 12.8.3.1).
    fn priority(&self) -> u8 {
        let served = self.in_service.highest().unwrap_or(0) & 0xf0;
        if self.task & 0xf0 >= served { self.task } else { served }
    }

    /// Has the timer request its vector, if its deadline has come at `now`.
    pub(crate) fn look(&mut self, now: u64) {
        if self.deadline == 0 || now < self.deadline {
            return;
        }
        self.deadline = 0;
        let timer = self.local_vector(0);
        if timer & MASKED == 0 {
            self.request(timer as u8);
        }
    }

    /// When the timer requests its vector next.
    pub(crate) fn deadline(&self) -> Option<u64> {
        (self.deadline != 0 && self.local_vector(0) & MASKED == 0).then_some(self.deadline)
    }

    /// The vector that the CPU gets next, if its interrupt flag allows it.
    pub(crate) fn pending(&self) -> Option<u8> {
        let vector = self.requested.highest()?;
        (vector & 0xf0 > self.priority() & 0xf0).then_some(vector)
    }

    /// The CPU gets `vector`, a pending one.
    pub(crate) fn deliver(&mut self, vector: u8) {
        self.requested.set(vector, false);
        self.in_service.set(vector, true);
    }

    /// The CPU did not get the vector: it is requested again.
    pub(crate) fn take_back(&mut self, vector: u8) {
        self.in_service.set(vector, false);
        self.requested.set(vector, true);
    }

    /// The class of the task priority: CR8.
    pub(crate) const fn task_class(&self) -> u8 {
        self.task >> 4
    }

    /// Changes it, as the guest did by CR8.
    pub(crate) const fn set_task_class(&mut self, class: u8) {
        if class & 0xf != self.task >> 4 {
            self.task = class << 4;
        }
    }
}

#[cfg(test)]
mod tests;
