//! What is observed of the cluster.

use std::collections::BTreeSet;

use crate::{
    fly::{self, Machine, Volume, fly_postgres::POSTGRES_CLUSTER},
    phase::{
        app_lookup::{AppLookup, other_organization},
        lost::Lost,
    },
    pipeline::Owner,
    plan::Target,
    store::claim::Claim,
};

/// Name of the volumes, as the image expects it.
pub const VOLUME: &str = "pg_data";

/// The secret with the URL of Consul, which elects the cluster's leader. Fly.io creates it.
pub const CONSUL: &str = "FLY_CONSUL_URL";

/// The secrets with passwords, and the keys under which their values are stored.
pub const PASSWORDS: [(&str, &str); 3] = [
    ("SU_PASSWORD", "golive_postgres_su"),
    ("REPL_PASSWORD", "golive_postgres_repl"),
    ("OPERATOR_PASSWORD", "golive_postgres_operator"),
];

/// The keys of all passwords in the store.
pub fn password_keys() -> [&'static str; 3] {
    PASSWORDS.map(|(_, key)| key)
}

/// The state of the cluster.
#[derive(Debug)]
pub enum ClusterState {
    /// Its app does not exist, or is not ours.
    Outside {
        /// What Fly.io says about the name.
        lookup: AppLookup,
        /// Who holds it.
        claim: Option<Box<Claim>>,
        /// This Activation.
        owner: Owner,
    },
    /// The app, or the machines and volumes in it, that the application has used are not found.
    Lost {
        /// What is lost.
        lost: Lost,
        /// What there is of the cluster.
        left: Box<ClusterState>,
    },
    /// Its app is ours.
    Inside {
        /// Secrets that the app does not have.
        missing: BTreeSet<&'static str>,
        /// Whether the passwords are stored in Kubernetes.
        stored: bool,
        /// All volumes.
        volumes: Vec<Volume>,
        /// All machines.
        machines: Vec<Machine>,
    },
}

/// The volumes of the database among those of the app.
pub fn data_volumes(volumes: &[Volume]) -> impl Iterator<Item = &Volume> {
    volumes
        .iter()
        .filter(|volume| volume.name == VOLUME && !volume.state.is_over())
}

/// Why an app of this name cannot be our cluster.
pub fn unusable(found: &fly::App, target: &Target) -> Option<String> {
    if let Some(slug) = other_organization(found, target) {
        return Some(format!("belongs to the organization {slug}"));
    }
    let role = found.app_role.as_deref();
    role.is_some_and(|role| role != POSTGRES_CLUSTER)
        .then(|| "is no Postgres cluster".to_owned())
}
