//! Tables and labels of our own, sound and broken in every way.

mod contradictions;
mod labels;
mod operator;
mod plugged;
mod regions;
pub(super) mod writer;
