//! What clients ask for, and who does it.

pub mod lists;
pub mod offers;
pub mod orphans;
pub mod router;
