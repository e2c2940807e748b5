//! The names of the plans of Upstash Redis.

use crate::fly::RedisPlan;

/// The plan of this name. Case, spaces, hyphens and underscores do not matter.
pub fn find<'a>(plans: &'a [RedisPlan], wanted: &str) -> Option<&'a RedisPlan> {
    plans.iter().find(|plan| {
        let names = [
            plan.name.as_deref(),
            plan.display_name.as_deref(),
            Some(plan.id.as_str()),
        ];
        names
            .into_iter()
            .flatten()
            .any(|name| normalized(name) == normalized(wanted))
    })
}

/// The names of all plans, as `redis.upstash.plan` takes them.
pub fn names(plans: &[RedisPlan]) -> Vec<String> {
    plans
        .iter()
        .filter_map(|plan| plan.display_name.as_deref().or(plan.name.as_deref()))
        .map(normalized)
        .collect()
}

fn normalized(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '_'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_found_by_its_name_with_spaces_or_hyphens() {
        assert_eq!(normalized(" Pay as you go "), normalized("pay-as-you-go"));
    }
}
