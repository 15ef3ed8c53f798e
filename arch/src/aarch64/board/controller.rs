//! The interrupt controller of a guest with several CPUs: a part for each, and where shared interrupts go (Arm IHI 0069H
//! 12.9).
//!
//! ```text
//!   a store to the distributor ---> the part of each CPU     enable, priority, kind: the same in all
//!   a line, GICD_ISPENDR       ---> likewise                 pending: for the CPU that GICD_IROUTER names
//!   GICD_IROUTER               ---> here                     of the others a part shows that it is not its own
//! ```

use super::gic::{Gic, MOST_CPUS, PRIVATES, SHARED};

/// GICD_IROUTER<32>: 8 bytes for each shared interrupt.
const ROUTES: u64 = 0x6100;
const ROUTE_BYTES: u64 = 8;
const ROUTES_BYTES: u64 = ROUTE_BYTES * SHARED as u64;
/// The affinity of a CPU; one interrupt for any CPU (IRM) is not implemented (GICD_TYPER.No1N).
const AFFINITY: u64 = 0xff_00ff_ffff;

/// The controller.
#[derive(Clone, Debug)]
pub struct Controller {
    parts: [Gic; MOST_CPUS],
    cpus: usize,
    /// The affinity of the CPU that each shared interrupt goes to, which is its number.
    routes: [u64; SHARED],
}

impl Controller {
    /// That of a guest with so many CPUs; all shared interrupts go to the first.
    pub fn new(cpus: usize) -> Self {
        let parts = core::array::from_fn(|_| Gic::default());
        let mut this = Self { parts, cpus, routes: [0; SHARED] };
        this.route();
        this
    }

    /// The part of CPU `cpu`; that of the first one for a number that no CPU has.
    pub fn part(&mut self, cpu: usize) -> &mut Gic {
        let [first, others @ ..] = &mut self.parts;
        match cpu.checked_sub(1).and_then(|index| others.get_mut(index)) {
            Some(part) => part,
            None => first,
        }
    }

    fn parts(&mut self) -> impl Iterator<Item = &mut Gic> {
        self.parts.iter_mut().take(self.cpus)
    }

    /// Sets the level of the line of a shared interrupt.
    pub fn set_line(&mut self, id: usize, active: bool) {
        self.parts().for_each(|part| part.set_line(id, active));
    }

    /// The CPU that a shared interrupt goes to, if there is such a CPU.
    pub fn target(&self, id: usize) -> Option<usize> {
        let route = *self.routes.get(id.checked_sub(PRIVATES)?)?;
        usize::try_from(route).ok().filter(|cpu| *cpu < self.cpus)
    }

    /// Whether a shared interrupt would be taken by CPU `cpu`, were it pending.
    pub fn is_enabled(&self, id: usize, cpu: usize) -> bool {
        let [first, ..] = &self.parts;
        self.target(id) == Some(cpu) && first.is_enabled(id)
    }

    /// Brings the list registers of CPU `cpu` up to date before it runs. What it had there, and no longer gets, goes to the
    /// CPU that gets it: a bit for that.
    pub fn enter(&mut self, cpu: usize) -> u64 {
        let part = self.part(cpu);
        part.enter();
        let strays = part.take_strays();
        if strays == 0 { 0 } else { self.raise(strays) }
    }

    /// Reads `bytes` bytes at `offset` of the distributor: what all parts say together.
    pub fn read(&self, offset: u64, bytes: u64) -> u64 {
        if let Some((route, shift)) = self.route_at(offset) {
            return route >> shift;
        }
        let parts = self.parts.iter().take(self.cpus);
        parts.fold(0, |word, part| word | part.read_distributor(offset, bytes))
    }

    /// Writes to the distributor. Returns the CPUs that have something pending by that: a bit for each.
    pub fn write(&mut self, offset: u64, bytes: u64, value: u64) -> u64 {
        let before = self.with_pending();
        match offset.checked_sub(ROUTES).filter(|offset| *offset < ROUTES_BYTES) {
            Some(offset) => self.set_route(offset, bytes, value),
            None => self.parts().for_each(|part| part.write_distributor(offset, bytes, value)),
        }
        self.route();
        self.with_pending() & !before
    }

    fn with_pending(&mut self) -> u64 {
        let parts = self.parts().enumerate();
        parts.fold(0, |bits, (cpu, part)| bits | u64::from(part.has_pending()) << cpu)
    }

    /// The route that is read at `offset`, and by how many bits its part there is shifted.
    fn route_at(&self, offset: u64) -> Option<(u64, u64)> {
        let offset = offset.checked_sub(ROUTES)?;
        let route = *self.routes.get((offset / ROUTE_BYTES) as usize)?;
        Some((route, offset % ROUTE_BYTES * 8))
    }

    fn set_route(&mut self, offset: u64, bytes: u64, value: u64) {
        let shift = offset % ROUTE_BYTES * 8;
        let written = u64::MAX >> (64 - 8 * bytes.clamp(1, 8)) << shift;
        if let Some(route) = self.routes.get_mut((offset / ROUTE_BYTES) as usize) {
            *route = (*route & !written | value << shift & written) & AFFINITY;
        }
    }

    /// Tells each part which shared interrupts are its own, and leaves what is raised to those. What waits for a CPU that does
    /// not exist waits in the first part.
    fn route(&mut self) {
        let strays = self.parts().fold(0, |strays, part| strays | part.take_shared());
        for cpu in 0..self.cpus {
            let ids = (PRIVATES..PRIVATES + SHARED).filter(|id| self.target(*id) == Some(cpu));
            let own = ids.fold(0, |own, id| own | 1 << id);
            self.part(cpu).set_own(own);
        }
        self.raise(strays);
    }

    /// Raises shared interrupts where they go. Returns the CPUs: a bit for each.
    fn raise(&mut self, ids: u64) -> u64 {
        let lost = (PRIVATES..PRIVATES + SHARED).filter(|id| self.target(*id).is_none());
        let lost = lost.fold(0, |lost, id| lost | 1 << id);
        self.part(0).keep(ids & lost);
        let parts = self.parts().enumerate();
        parts.fold(0, |cpus, (cpu, part)| cpus | u64::from(part.raise(ids)) << cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: usize = 33;
    const ROUTE: u64 = ROUTES + ROUTE_BYTES;

    /// A controller of three CPUs with an interrupt that is enabled.
    fn controller() -> Controller {
        let mut controller = Controller::new(3);
        controller.write(0, 4, 0b10);
        controller.write(0x084, 4, u64::MAX);
        controller.write(0x104, 4, 1 << (ID - 32));
        controller
    }

    /// The CPUs for which something is pending.
    fn pending(controller: &mut Controller) -> [bool; 3] {
        [0, 1, 2].map(|cpu| controller.part(cpu).has_pending())
    }

    #[test]
    fn a_line_interrupts_the_cpu_that_its_route_names() {
        let mut controller = controller();
        controller.set_line(ID, true);
        assert_eq!(pending(&mut controller), [true, false, false], "at reset the first one");
        assert_eq!(controller.write(ROUTE, 8, 2), 0b100);
        assert_eq!(pending(&mut controller), [false, false, true]);
        assert_eq!(controller.read(ROUTE, 8), 2);
        assert!(controller.is_enabled(ID, 2) && !controller.is_enabled(ID, 0));
        // The state is the same whichever CPU asks.
        assert_eq!(controller.read(0x204, 4), 1 << (ID - 32));
        assert_eq!(controller.read(0x104, 4), 1 << (ID - 32));
        controller.set_line(ID, false);
        assert_eq!((pending(&mut controller), controller.read(0x204, 4)), ([false; 3], 0));
    }

    #[test]
    fn an_interrupt_that_software_raises_follows_its_route_and_comes_once() {
        let mut controller = controller();
        controller.write(0xc08, 4, 0b10 << 2);
        assert_eq!(controller.write(0x204, 4, 1 << (ID - 32)), 0b001);
        assert_eq!(controller.write(ROUTE, 4, 1), 0b010);
        assert_eq!(pending(&mut controller), [false, true, false]);
        controller.enter(1);
        controller.part(1).leave([0; 4]);
        assert_eq!((pending(&mut controller), controller.write(ROUTE, 4, 0)), ([false; 3], 0));
    }

    #[test]
    fn one_in_a_list_register_goes_to_the_new_cpu_when_the_old_one_is_entered() {
        let mut controller = controller();
        controller.write(0xc08, 4, 0b10 << 2);
        controller.write(0x204, 4, 1 << (ID - 32));
        assert_eq!(controller.enter(0), 0);
        assert!(controller.part(0).is_listed(ID));
        controller.write(ROUTE, 8, 2);
        assert_eq!(controller.enter(0), 0b100);
        assert!(!controller.part(0).is_listed(ID));
        assert_eq!(pending(&mut controller), [false, false, true]);
    }

    #[test]
    fn one_for_a_cpu_that_the_guest_lacks_waits_until_it_gets_another_route() {
        let mut controller = controller();
        controller.write(0x204, 4, 1 << (ID - 32));
        for none in [3, 1 << 8, 1 << 16, 1 << 32, u64::MAX] {
            assert_eq!(controller.write(ROUTE, 8, none), 0, "{none:#x}");
            assert_eq!(controller.read(0x204, 4), 1 << (ID - 32));
        }
        // It is raised again while it has no CPU.
        controller.write(0x284, 4, 1 << (ID - 32));
        assert_eq!(controller.read(0x204, 4), 0);
        assert_eq!(controller.write(0x204, 4, 1 << (ID - 32)), 0);
        assert_eq!(controller.read(0x204, 4), 1 << (ID - 32));
        assert_eq!(controller.write(ROUTE, 8, 1), 0b010);
        // The upper half is one of its own; IRM and what is reserved stay zero.
        controller.write(ROUTE + 4, 4, 0x1ff);
        assert_eq!(controller.read(ROUTE, 8), 0xff << 32 | 1);
        controller.write(ROUTE, 8, 1 << 31 | 0xff << 24 | 2);
        assert_eq!((controller.read(ROUTE, 8), controller.read(ROUTE + 4, 4)), (2, 0));
        assert_eq!(controller.read(ROUTES - 8, 8), 0, "private ones have no route");
    }
}
