//! Tests of the table parsers and of the events, on tables built here.

mod firmware;
mod tables;
