//! Tables and labels of our own, sound and broken in every way.

mod labels;
mod operator;
mod plugged;
mod regions;
mod writer;
