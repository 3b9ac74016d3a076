//! The rules of membership, each as a sentence: several nodes around one row (`together`), one node whose every input is
//! chosen (`alone`), and many nodes under random faults (`chaos`).

mod alone;
mod chaos;
mod together;
mod world;
