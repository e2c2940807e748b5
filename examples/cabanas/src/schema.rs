//! Which schema a version of the service needs.

/// Newest schema that this binary knows; equals the highest number in `migrations/`.
pub const NEWEST: i32 = 3;

/// The schema that `version` needs, so that one binary can stand for several releases.
///
/// 1.4 and older need 2; 1.5 and newer, and whatever is not a version number, the newest.
pub fn wanted(version: &str) -> i32 {
    let mut parts = version.trim_start_matches('v').split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (1u64, 5u64) => 2,
        _ => NEWEST,
    }
}

/// Says whether a database at `applied` serves a release that needs `wanted`.
///
/// A newer schema does, because migrations only add: this is what makes a rollback of the image
/// possible without touching the data.
pub fn current(applied: Option<i32>, wanted: i32) -> bool {
    applied.is_some_and(|version| version >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_before_1_5_need_schema_2_and_later_ones_the_newest() {
        for (version, schema) in [
            ("1.4.0", 2),
            ("v1.4.9-rc1", 2),
            ("0.1.0", 2),
            ("1.5.0", NEWEST),
            ("1.10.0", NEWEST),
            ("2.0.0", NEWEST),
            ("deployment-01JABC", NEWEST),
        ] {
            assert_eq!(wanted(version), schema, "{version}");
        }
    }

    #[test]
    fn a_newer_schema_serves_an_older_release_but_not_the_other_way_round() {
        assert!(current(Some(3), 2));
        assert!(current(Some(2), 2));
        assert!(!current(Some(2), 3));
        assert!(!current(None, 2));
    }
}
