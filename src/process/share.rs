//! How many places of a limited number one tenant may hold. Pure.

/// Whether a tenant that holds `held` places may take another one, of `all` places of which `taken`
/// are taken: only while it holds fewer than are free. So one tenant alone gets half of them, and
/// however many tenants press, one that holds nothing finds a place: with `n` busy tenants,
/// `all / (n + 1)` places stay free. This is the dynamic threshold of shared-memory switches
/// (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998).
pub fn may_take(held: usize, taken: usize, all: usize) -> bool {
    let free = all.saturating_sub(taken);
    free > 0 && (held == 0 || held < free)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places that each of `tenants` gets when all take as many as they can.
    fn filled(tenants: usize, all: usize) -> Vec<usize> {
        let mut held = vec![0; tenants];
        loop {
            let taken: usize = held.iter().sum();
            let Some(next) = held.iter().position(|held| may_take(*held, taken, all)) else {
                return held;
            };
            // Fair among them: the one that holds least.
            let least = held.iter().copied().min().unwrap_or_default();
            let at = held.iter().position(|held| *held == least).unwrap_or(next);
            if let Some(held) = held.get_mut(at) {
                *held += 1;
            }
        }
    }

    #[test]
    fn a_tenant_alone_takes_half_and_another_one_always_finds_a_place() {
        assert_eq!(filled(1, 32), [16]);
        assert_eq!(filled(1, 1), [1], "a single place is used");
        for tenants in 1..30 {
            let held: usize = filled(tenants, 32).iter().sum();
            assert!(held < 32, "{tenants} tenants left no place");
        }
    }
}
