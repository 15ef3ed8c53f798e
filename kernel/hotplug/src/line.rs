//! Interrupt lines by which a source of hotplug events asks for attention.
//!
//! They are described here, and not by an architecture, so that a source needs no architecture: the
//! kernel converts a line for its interrupt controllers.

use core::fmt;

/// When a line asks for attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Once, when it changes.
    Edge,
    /// As long as it is active. A handler masks such a line, and the main loop unmasks it when the
    /// cause is gone.
    Level,
}

/// Which electrical level is the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// High.
    ActiveHigh,
    /// Low.
    ActiveLow,
}

/// An interrupt line: the input of an interrupt controller, and how to set it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The global system interrupt (ACPI 6.5, 5.2.13), or a hypervisor's interrupt source number.
    pub gsi: u32,
    /// When it asks for attention.
    pub trigger: Trigger,
    /// Which level is active.
    pub polarity: Polarity,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trigger = match self.trigger {
            Trigger::Edge => "edge",
            Trigger::Level => "level",
        };
        let polarity = match self.polarity {
            Polarity::ActiveHigh => "high",
            Polarity::ActiveLow => "low",
        };
        write!(f, "interrupt {} ({trigger}, active {polarity})", self.gsi)
    }
}
