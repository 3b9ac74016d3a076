//! Messages: posted once, in one order, to every device of every member; found again after any absence.

mod history;
mod limits;
mod marks;
mod sending;
mod sync;
mod volatile;
