//! The function that the kernel installs for traps.

// UNSAFETY: turns a pointer back into the function that it was made from.
#![expect(unsafe_code)]

use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Holds the kernel's handler of traps with frames of type `F`.
#[derive(Debug)]
pub(crate) struct HandlerSlot<F> {
    /// Null until a handler is installed.
    pointer: AtomicPtr<()>,
    frame: PhantomData<fn(&mut F)>,
}

impl<F> HandlerSlot<F> {
    /// A slot without a handler.
    pub(crate) const fn empty() -> Self {
        Self { pointer: AtomicPtr::new(core::ptr::null_mut()), frame: PhantomData }
    }

    /// Installs `handler` for every trap from now on.
    pub(crate) fn set(&self, handler: fn(&mut F)) {
        // Release: partner of the Acquire in `call`.
        self.pointer.store(handler as *mut (), Ordering::Release);
    }

    /// Calls the handler; returns whether one is installed.
    #[inline]
    pub(crate) fn call(&self, frame: &mut F) -> bool {
        let handler = self.pointer.load(Ordering::Acquire);
        if handler.is_null() {
            return false;
        }
        // SAFETY: only `set` stores into `pointer`, and it stores a function of this type.
        let handler = unsafe { core::mem::transmute::<*mut (), fn(&mut F)>(handler) };
        handler(frame);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_calls_the_handler_that_was_set_last() {
        let slot = HandlerSlot::<u32>::empty();
        let mut frame = 1;
        assert!(!slot.call(&mut frame), "no handler is installed");
        slot.set(|frame| *frame += 1);
        slot.set(|frame| *frame += 10);
        assert!(slot.call(&mut frame));
        assert_eq!(frame, 11);
    }
}
