//! The serial line; a test holds its other end.

// UNSAFETY: implements a trait with safety contracts, none of which this code needs.
#![expect(unsafe_code)]

use super::machine::{CONSOLE_LINE, own};
use crate::contract;
use hotmem_paging::addr::PhysRange;

/// The serial port.
#[derive(Debug)]
pub struct Port(());

impl contract::Port for Port {
    const ISA_IRQ: Option<u8> = Some(CONSOLE_LINE);

    fn registers() -> Option<PhysRange> {
        None
    }

    unsafe fn open() -> Self {
        Self(())
    }

    fn send(&mut self, byte: u8) {
        own().change(|board| board.written.push(byte));
    }

    fn has_input(&self) -> bool {
        !own().board().typed.is_empty()
    }

    fn receive(&mut self) -> Option<u8> {
        own().board().typed.pop_front()
    }

    fn interrupt_on_receive(&mut self) {
        own().change(|board| {
            board.interrupts_on_receive = true;
            if !board.typed.is_empty() {
                board.pulse(CONSOLE_LINE.into());
            }
        });
    }
}
