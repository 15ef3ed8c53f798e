//! A virtual CPU.

// UNSAFETY: owns a control block, and runs guests.
#![expect(unsafe_code)]

use super::abilities::Abilities;
use super::ask;
use super::bare::Bare;
use super::emulate::Guest;
use super::enter::{Breakpoints, FloatingPoint, Registers, enter, take_machine_check};
use super::exit::{self, Cause, Exit};
use super::flush::{self, Entry};
use super::vmcb::{VMCB_BYTES, Vmcb};
use crate::contract::{
    self, Clock, Cpu, CpuSet, CpuStart, GuestCall, GuestExit, GuestSpace, KernelStart, Locked,
    StateMemory,
};
use crate::x86_64::X86_64;
use crate::x86_64::board::apic::LocalApic;
use crate::x86_64::board::{Board, linux, registers};
use ::x86_64::registers::model_specific::Msr;
use core::arch::x86_64::__cpuid;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem_paging::addr::GuestAddr;

/// The register that names the page where VMRUN keeps the host's state, VM_HSAVE_PA.
const HOST_STATE: u32 = 0xc001_0117;
/// Bytes of that page, and of the one for the host's registers that VMSAVE stores.
const HOST_BYTES: u64 = 4096;

/// Bytes of the map of ports, and of that of model-specific registers.
const PORT_MAP_BYTES: u64 = 12 << 10;
const REGISTER_MAP_BYTES: u64 = 8 << 10;

// The state memory: the control block, the maps, and two pages for the host's state, which a CPU uses during a run.
const PORT_MAP: u64 = VMCB_BYTES;
const REGISTER_MAP: u64 = PORT_MAP + PORT_MAP_BYTES;
const HOST: u64 = REGISTER_MAP + REGISTER_MAP_BYTES;
const HOST_REGISTERS: u64 = HOST + HOST_BYTES;

/// Requests to drop translations, of any guest.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// From now on each entry into a guest, on any CPU, drops the CPU's translations of it.
pub(crate) fn request_flush() {
    REQUESTS.fetch_add(1, Ordering::SeqCst);
}

/// A virtual CPU under SVM.
///
/// It begins in 32-bit code with flat segments and paging off; as soon as it enables paging it is in long mode (EFER.LME
/// and CR4.PAE are set). Its arguments are in registers in two halves, since 32-bit code reads the lower ones only:
///
/// | argument | lower half | upper half |
/// |---|---|---|
/// | 0 | EDI | EAX |
/// | 1 | ESI | EBX |
/// | 2 | EDX | EBP |
/// | 3 | ECX | ESP |
///
/// It calls the host by VMMCALL with the number in RAX and arguments in RDI, RSI, RDX, RCX, R8. The result is in RAX, and
/// no other register changes. For its user code VMMCALL is an invalid instruction.
///
/// That of a Linux kernel begins in 64-bit code, with its argument in RSI, and has a [`Board`]; so has that of this kernel
/// as a guest, which begins like the payload's. One that another CPU of
/// the guest starts begins in real mode.
#[derive(Debug)]
pub struct Vcpu {
    /// The number among the CPUs of the guest.
    number: usize,
    state: StateMemory,
    registers: Registers,
    floating_point: FloatingPoint,
    abilities: Abilities,
    last: Option<Entry>,
    /// The interrupt controller of a CPU on a board, and the addresses of its breakpoints.
    board: Option<(LocalApic, Breakpoints)>,
    /// CPUs that it called.
    called: CpuSet,
}

// SAFETY: the control block behind the pointer is this value's own, and belongs to no CPU between two runs.
unsafe impl Send for Vcpu {}

/// The lower and the upper half.
const fn halves(value: u64) -> (u64, u64) {
    (value & 0xffff_ffff, value >> 32)
}

impl contract::Vcpu for Vcpu {
    const STATE_BYTES: u64 = HOST_REGISTERS + HOST_BYTES;

    type Devices = Board;

    fn new(state: StateMemory, entry: GuestAddr, arguments: [u64; 4]) -> Self {
        let [(rdi, rax), (rsi, rbx), (rdx, rbp), (rcx, rsp)] = arguments.map(halves);
        let registers = Registers { rdi, rsi, rdx, rcx, rbx, rbp, ..Registers::default() };
        let at = state.at().get();
        let mut new = Self {
            number: 0,
            state,
            registers,
            floating_point: FloatingPoint::new(),
            abilities: Abilities::of(&ask::leaves()),
            last: None,
            board: None,
            called: CpuSet::of_bits(0),
        };
        new.map_mut(PORT_MAP, PORT_MAP_BYTES).fill(0xff);
        new.map_mut(REGISTER_MAP, REGISTER_MAP_BYTES).fill(0xff);
        let vmcb = new.vmcb_mut();
        vmcb.begin_at(entry.get(), at + PORT_MAP, at + REGISTER_MAP);
        (vmcb.save.rax, vmcb.save.rsp) = (rax, rsp);
        new
    }

    fn linux(state: StateMemory, start: &KernelStart) -> Self {
        let mut new = Self::new(state, start.entry, [0; 4]);
        let [boot_params, ..] = start.arguments;
        new.registers.rsi = boot_params;
        new.vmcb_mut().in_long_mode(linux::TABLES, linux::GDT, linux::GDT_BYTES);
        new.add_board();
        new
    }

    /// By the PVH boot ABI: in 32-bit code, with the address of the start info in EBX.
    fn own(state: StateMemory, start: &KernelStart) -> Self {
        let mut new = Self::new(state, start.entry, [0; 4]);
        let [start_info, ..] = start.arguments;
        new.registers.rbx = start_info;
        new.vmcb_mut().with_own_registers();
        new.add_board();
        new
    }

    fn started(state: StateMemory, number: usize, start: &CpuStart, has_board: bool) -> Self {
        let mut new = Self { number, ..Self::new(state, start.entry, [0; 4]) };
        // The kind of CPU, as after a reset.
        new.registers.rdx = __cpuid(1).eax.into();
        new.vmcb_mut().in_real_mode(start.entry.get());
        if has_board {
            new.vmcb_mut().with_own_registers();
            new.add_board();
        }
        new
    }

    unsafe fn run(&mut self, space: &GuestSpace, devices: &impl Locked<Board>) -> GuestExit {
        if u32::from(space.tag()) >= self.abilities.asids {
            return GuestExit::Stopped("this CPU has fewer ASIDs than guests", space.tag().into());
        }
        // The kernel uses none of these registers: they stay loaded until the run ends.
        self.floating_point.load();
        if let Some((_, breakpoints)) = &self.board {
            breakpoints.load();
        }
        let exit = loop {
            if self.board.is_some() {
                devices.with(|board| self.inject(board));
            }
            // SAFETY: by the contract of this function.
            unsafe { self.enter(space) };
            if let Some(exit) = self.serve(devices) {
                break exit;
            }
            if !self.called.is_empty() {
                break GuestExit::Emulated;
            }
        };
        self.floating_point.store();
        if let Some((_, breakpoints)) = &mut self.board {
            breakpoints.store();
        }
        exit
    }

    fn take_called(&mut self) -> CpuSet {
        core::mem::replace(&mut self.called, CpuSet::of_bits(0))
    }

    fn reply(&mut self, value: u64) {
        self.vmcb_mut().save.rax = value;
    }
}

impl Vcpu {
    fn block(&self) -> NonNull<Vmcb> {
        self.state.pointer().cast()
    }

    fn vmcb(&self) -> &Vmcb {
        // SAFETY: the state memory begins with the block, aligned to a page. Any bits are a block, the memory is this
        // value's own, and the CPU writes to it only in `enter`.
        unsafe { self.block().as_ref() }
    }

    fn vmcb_mut(&mut self) -> &mut Vmcb {
        // SAFETY: as for `vmcb`, and this value is borrowed mutably.
        unsafe { self.block().as_mut() }
    }

    /// Adds the devices of a board, and the registers that a kernel accesses without an exit.
    fn add_board(&mut self) {
        registers::open_switched(self.map_mut(REGISTER_MAP, REGISTER_MAP_BYTES));
        self.board = Some((LocalApic::new(self.number as u32), Breakpoints::default()));
    }

    /// One of the maps.
    fn map_mut(&mut self, at: u64, bytes: u64) -> &mut [u8] {
        let map = self.state.pointer().as_ptr().wrapping_add(at as usize);
        // SAFETY: the maps are in the state memory, behind the control block, and are zeroed at first; the memory is this
        // value's own, which is borrowed mutably, and the CPU reads them in `enter` only.
        unsafe { core::slice::from_raw_parts_mut(map, bytes as usize) }
    }

    /// Before an entry: injects an interrupt if the guest can take one.
    fn inject(&mut self, board: &mut Board) {
        if let Some(mut guest) = self.with_board(board) {
            guest.inject(X86_64::timestamp());
        }
    }

    /// The guest with its board, if it has one.
    fn with_board<'v>(&'v mut self, board: &'v mut Board) -> Option<Guest<'v>> {
        let mut block = self.block();
        let (apic, _) = self.board.as_mut()?;
        Some(Guest {
            number: self.number,
            apic,
            board,
            called: &mut self.called,
            // SAFETY: as in `vmcb_mut`; only other fields of this value are borrowed beside it.
            vmcb: unsafe { block.as_mut() },
            registers: &mut self.registers,
            knows_next: self.abilities.next_rip,
            counter_hertz: X86_64::timestamp_hertz,
        })
    }

    /// Names `space` to the CPU `cpu`, which enters next, and the translations that it drops then.
    fn enter_space(&mut self, cpu: usize, space: &GuestSpace) {
        let now = Entry {
            cpu,
            asid: space.tag().into(),
            root: space.root().get(),
            // Interrupts are off: a CPU that requests a flush after this load interrupts this one, which leaves the
            // guest before the request is served, and loads again.
            requests: REQUESTS.load(Ordering::SeqCst),
        };
        let flush = flush::between(self.last.replace(now), now, self.abilities);
        let control = &mut self.vmcb_mut().control;
        (control.asid, control.root, control.flush) = (now.asid, now.root, flush);
    }

    /// Runs the guest until the next exit.
    ///
    /// # Safety
    ///
    /// That of [`run`](contract::Vcpu::run).
    unsafe fn enter(&mut self, space: &GuestSpace) {
        self.enter_space(X86_64::number(), space);
        let at = self.state.at().get();
        // SAFETY: by the contract of this function SVM is on, and with it the CPU has this register. It uses the page,
        // which has no other use, in runs only, and each names its own.
        unsafe { Msr::new(HOST_STATE).write(at + HOST) };
        // SAFETY: as in `vmcb_mut`; only the fields `registers` and `floating_point` are used beside it.
        let vmcb = unsafe { self.block().as_mut() };
        // SAFETY: the block was filled by `new`; SVM is on and interrupts are off by the contract of this function, and
        // so the space shows memory of the guest; the page for the host's registers is this value's own.
        unsafe { enter(at, &mut self.registers, at + HOST_REGISTERS, vmcb) };
    }

    /// The guest without a board, if it has none.
    fn without_board(&mut self) -> Option<Bare<'_>> {
        let mut block = self.block();
        self.board.is_none().then_some(Bare {
            number: self.number as u64,
            // SAFETY: as in `with_board`.
            vmcb: unsafe { block.as_mut() },
            registers: &mut self.registers,
            knows_next: self.abilities.next_rip,
        })
    }

    /// Does what the last exit asks for. Returns `None` if the guest continues.
    fn serve(&mut self, devices: &impl Locked<Board>) -> Option<GuestExit> {
        let exit = self.exit();
        self.vmcb_mut().control.event = exit::interrupted_event(exit.event);
        if let Some(served) = self.without_board().and_then(|mut guest| guest.serve(&exit)) {
            return served;
        }
        if self.board.is_some()
            && let Some(served) = devices.with(|board| {
                let guest = self.with_board(board);
                guest.and_then(|mut guest| guest.serve(&exit, X86_64::timestamp()))
            })
        {
            return served;
        }
        match exit::cause(&exit) {
            Cause::Host => Some(GuestExit::Interrupt),
            Cause::MachineCheck => {
                take_machine_check();
                None
            }
            Cause::Fault { at, access } => Some(GuestExit::Fault { at, access }),
            Cause::Call => {
                self.skip(exit::VMMCALL_BYTES);
                Some(GuestExit::Call(self.call()))
            }
            Cause::UserCall => {
                self.vmcb_mut().control.event = exit::INVALID_OPCODE;
                None
            }
            Cause::Halt => {
                self.skip(exit::HLT_BYTES);
                Some(GuestExit::Wait)
            }
            Cause::Stopped(reason, more) => Some(GuestExit::Stopped(reason, more)),
        }
    }

    fn exit(&self) -> Exit {
        let Vmcb { control, save } = self.vmcb();
        Exit {
            code: control.exit_code,
            info: control.exit_info,
            event: control.exit_event,
            cpl: save.cpl,
            rcx: self.registers.rcx,
        }
    }

    fn skip(&mut self, bytes: u64) {
        let knows = self.abilities.next_rip;
        self.vmcb_mut().skip(bytes, knows);
    }

    fn call(&self) -> GuestCall {
        let Registers { rdi, rsi, rdx, rcx, r8, .. } = self.registers;
        GuestCall { number: self.vmcb().save.rax, arguments: [rdi, rsi, rdx, rcx, r8] }
    }
}

impl fmt::Display for Vcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (r, save) = (&self.registers, &self.vmcb().save);
        writeln!(
            f,
            "rip {:016x} rflags {:08x} cs {:04x} ss {:04x}, privilege {}",
            save.rip, save.rflags, save.cs.selector, save.ss.selector, save.cpl
        )?;
        writeln!(
            f,
            "  rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}",
            save.rax, r.rbx, r.rcx, r.rdx
        )?;
        writeln!(
            f,
            "  rsi {:016x} rdi {:016x} rbp {:016x} rsp {:016x}",
            r.rsi, r.rdi, r.rbp, save.rsp
        )?;
        writeln!(f, "  r8  {:016x} r9  {:016x} r10 {:016x} r11 {:016x}", r.r8, r.r9, r.r10, r.r11)?;
        writeln!(
            f,
            "  r12 {:016x} r13 {:016x} r14 {:016x} r15 {:016x}",
            r.r12, r.r13, r.r14, r.r15
        )?;
        write!(
            f,
            "  cr0 {:08x} cr2 {:016x} cr3 {:016x} cr4 {:08x} efer {:08x}",
            save.cr0, save.cr2, save.cr3, save.cr4, save.efer
        )
    }
}

#[cfg(test)]
mod tests;
