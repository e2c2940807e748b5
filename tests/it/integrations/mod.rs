//! Integrations: what is verified after Go-Live, from the first day to a wrong secret and back.

mod story;
