#![allow(clippy::unwrap_used)]

mod answers;
mod shapes;
