//! The CPU's own tables: segments, interrupt stacks, interrupt gates.

// UNSAFETY: loads the tables that the CPU relies on.
#![expect(unsafe_code)]

use super::X86_64;
use super::frame::{DOUBLE_FAULT, NMI, PAGE_FAULT, SPURIOUS, TrapFrame};
use super::trap;
use crate::contract::{self, Layout, Traps};
use ::x86_64::VirtAddr as CpuAddr;
use ::x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use ::x86_64::instructions::tables::{lidt, load_tss};
use ::x86_64::structures::DescriptorTablePointer;
use ::x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use ::x86_64::structures::idt::{Entry, HandlerFunc};
use ::x86_64::structures::tss::TaskStateSegment;
use hotmem_paging::addr::VirtAddr;

const GATES: usize = 256;

/// Traps that run on a stack of their own, because the interrupted stack may be the cause.
const OWN_STACK: [u8; 3] = [DOUBLE_FAULT, PAGE_FAULT, NMI];

/// The tops of the stacks for double fault, page fault, NMI.
type TrapStacks = [VirtAddr; X86_64::TRAP_STACKS.len()];

/// GDT, TSS and IDT of one CPU.
#[derive(Debug)]
pub struct CpuTables {
    gdt: GlobalDescriptorTable,
    tss: TaskStateSegment,
    idt: [Entry<HandlerFunc>; GATES],
}

impl Default for CpuTables {
    fn default() -> Self {
        Self {
            gdt: GlobalDescriptorTable::new(),
            tss: TaskStateSegment::new(),
            idt: [Entry::missing(); GATES],
        }
    }
}

/// Makes an interrupt gate in `idt` for each vector that has entry code, in the loaded code segment; some with the
/// stacks of their own that the TSS names, if it does.
fn fill(idt: &mut [Entry<HandlerFunc>; GATES], own_stacks: bool) {
    for (vector, entry) in trap::entries().chain([(SPURIOUS.into(), trap::spurious_entry())]) {
        let Some(gate) = idt.get_mut(vector) else { continue };
        // SAFETY: the address is the entry code of this vector, and that code returns as an interrupt gate requires.
        let options = unsafe { gate.set_handler_addr(CpuAddr::new_truncate(entry)) };
        let own = OWN_STACK.iter().position(|&own| usize::from(own) == vector);
        if let Some(index) = own.filter(|_| own_stacks) {
            // SAFETY: by the contract of `load` the stack is valid; no other vector uses it.
            unsafe { options.set_stack_index(index as u16) };
        }
    }
}

impl contract::CpuTables<TrapStacks> for CpuTables {
    unsafe fn load(&'static mut self, stacks: Option<TrapStacks>) {
        let tops = stacks.unwrap_or_default();
        let [first, second, third] = tops.map(|top| CpuAddr::new_truncate(top.get()));
        let none = CpuAddr::zero();
        self.tss.interrupt_stack_table = [first, second, third, none, none, none, none];
        let code = self.gdt.append(Descriptor::kernel_code_segment());
        let data = self.gdt.append(Descriptor::kernel_data_segment());
        let tss = self.gdt.append(Descriptor::tss_segment(&self.tss));

        self.gdt.load();
        // SAFETY: `code` is the 64-bit code segment of the table just loaded.
        unsafe { CS::set_reg(code) };
        // SAFETY: `data` is a writable data segment of the table just loaded; in 64-bit mode base and
        // limit are ignored.
        unsafe { SS::set_reg(data) };
        // SAFETY: as above.
        unsafe { DS::set_reg(data) };
        // SAFETY: as above.
        unsafe { ES::set_reg(data) };
        fill(&mut self.idt, stacks.is_some());
        // SAFETY: the descriptor refers to the TSS of these tables, which lives as long as the GDT.
        unsafe { load_tss(tss) };
        let pointer = DescriptorTablePointer {
            limit: (size_of_val(&self.idt) - 1) as u16,
            base: CpuAddr::from_ptr(&raw const self.idt),
        };
        // SAFETY: every present gate points to entry code of its vector, in the code segment loaded above, on a
        // stack that is valid by the contract of `load`; the table lives for ever.
        unsafe { lidt(&pointer) };
    }
}

impl Traps for X86_64 {
    type TrapFrame = TrapFrame;
    type TrapStacks = TrapStacks;
    type CpuTables = CpuTables;

    fn set_handler(handler: fn(&mut TrapFrame)) {
        trap::HANDLER.set(handler);
    }
}
