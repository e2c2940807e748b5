//! The phase Observe: the watch after Go-Live.
//!
//! Where figures come from is `source/`; what one look found is [`reading::Reading`].

pub mod reading;
pub mod source;
